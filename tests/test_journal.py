"""The journal in full: what a call sent and got, and calls as curl commands, an HTTP archive and a test."""

import asyncio
import base64
import gc
import json
import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from asking import ask_control, each, exchange

import zmock as module
from zmock import named, serve

pytestmark = pytest.mark.zmock(strict=False)

VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


async def shown(mock, path):
    """What GET /zmock/calls answers below it: status, kind, text."""
    async with aiohttp.ClientSession() as http, http.get(f"{mock.base}/zmock/calls{path}") as answer:
        return answer.status, answer.content_type, await answer.text()


async def last_call(mock):
    return await ask_control(mock, "GET", f"calls/{mock.calls()[-1].seq}")


# a call in full


async def test_a_call_opens_with_what_it_sent_and_got(cloud):
    _, answer = await cloud.request("POST", "/zones", {"params": {"name": "东"}}, {"X-Job-UUID": "0" * 12 + "4" + "0" * 3 + "8" + "0" * 15, "X-Web-Hook": "http://127.0.0.1:1/"})
    call = await last_call(cloud)
    assert call.keys() == {*(await ask_control(cloud, "GET", "calls"))["calls"][-1], "request", "answer"}
    assert call["request"]["headers"].items() >= {"Authorization": f"OAuth {cloud.session}", "X-Web-Hook": "http://127.0.0.1:1/"}.items()
    assert json.loads(call["request"]["body"]) == {"params": {"name": "东"}}
    assert json.loads(call["answer"]["body"]) == answer and call["answer"]["headers"]["Content-Type"] == "application/json"
    assert call["answer"]["size"] == len(call["answer"]["body"]) and "truncated" not in call["answer"]


async def test_an_answer_that_is_sent_again_is_shown_as_the_first(cloud):
    for _ in range(3):
        await cloud.query("zones")
    first, *others = [await ask_control(cloud, "GET", f"calls/{seq}") for seq in (2, 3, 4)]
    assert all(other["answer"]["body"] == first["answer"]["body"] for other in others) and '"zone-1"' in first["answer"]["body"]
    assert all(other["answer"]["headers"].items() >= {"Content-Type": "application/json", "Content-Length": str(first["answer"]["size"])}.items() for other in others)


@each(
    ("method", "path", "body"),
    (
        ("PUT", "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "sesame"}}),
        ("POST", "/hosts/kvm", {"params": {"name": "h", "managementIp": "10.10.0.50", "username": "root", "password": 'ses"ame', "clusterUuid": named("cluster-1")}}),
        ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"setVmConsolePassword": {"consolePassword": "sesame"}}),
        ("POST", "/zones", {"params": {"name": "z"}, "systemTags": ["consolePassword::sesame", "a::b"]}),
        ("POST", "/vm-instances", {"params": {"name": "v"}, "systemTags": ["userdata::#cloud-config\npassword: sesame"]}),
        ("GET", "/zones?token=sesame", None),
        ("POST", "/longjobs", {"params": {"jobName": "APIAddImageMsg", "jobData": json.dumps({"password": 'x"sesame'})}}),
        ("GET", "/zones?password=sesame&limit=1", None),
        ("GET", "/zones?q=password%3Dsesame", None),
        ("GET", "/cloudformation/stack/preview?templateContent=%7B%22password%22%3A+%22sesame%22%7D", None),
        ("GET", "/cloudformation/stack/preview?templateContent=%7B%22password%22%20%3a%22sesame%22%7D", None),
        ("POST", "/zones", {"params": {"accessKeySecret": "sesame", "secretKey": "sesame", "rootPassword": 7_000_000}}),
        ("POST", "/zones", {"params": {"inner": [{"password": "sesame"}], "passwords": ["sesame"], "password": {"a": "sesame"}}}),
        ("POST", "/ipsec", {"params": {"name": "x", "authKey": "sesame", "peerAddress": "1.2.3.4", "vipUuid": "0" * 32}}),
    ),
)  # fmt: skip
async def test_no_password_is_shown(cloud, method, path, body):
    await cloud.request(method, path, body)
    call = json.dumps(await last_call(cloud))
    exports = [(await shown(cloud, f"?as={form}"))[2] for form in ("curl", "har", "pytest")]
    for text in (call, str(cloud.calls()), cloud.report(), *exports):
        assert "sesame" not in text and "ses\\" not in text and "7000000" not in text
    assert "***" in call


@each(
    "body",
    (
        b"accountName=admin&password=sesame", b'{"logInByAccount": {"password": "sesame"', b"{'logInByAccount': {'password': 'sesame'}}",
        b'{"pass\\u0077ord": "sesame"}', b'{"password": ["sesame"', b'{"params": {"password": "sesame"}, "x"}',
    ),
)  # fmt: skip
async def test_no_password_of_a_wrong_body_is_shown(cloud, body):
    await exchange(cloud, "PUT /zstack/v1/accounts/login", body)
    texts = [json.dumps(await last_call(cloud)), cloud.report(), *[(await shown(cloud, f"?as={form}"))[2] for form in ("curl", "har", "pytest")]]
    assert not any("sesame" in text for text in texts), texts


async def test_headers_with_secrets_are_masked(cloud):
    secrets = {"Cookie": "a=sesame", "Proxy-Authorization": "Basic sesame", "X-Api-Key": "sesame", "X-Web-Hook": "http://user:sesame@127.0.0.1:1/hook"}
    await cloud.request("POST", "/zones", {"params": {"name": "z"}}, secrets)
    texts = [json.dumps(await last_call(cloud)), *[(await shown(cloud, f"?as={form}"))[2] for form in ("har", "pytest")]]
    assert not any("sesame" in text for text in texts) and "http://***@127.0.0.1:1/hook" in texts[0]


async def test_what_only_looks_like_a_password_is_shown(cloud):
    await cloud.request("POST", "/zones", {"params": {"name": "the secret garden", "enableResetPassword": True}})
    assert (await last_call(cloud))["request"]["body"] == '{"params": {"name": "the secret garden", "enableResetPassword": true}}'
    await cloud.request("POST", "/zones", {"params": {"name": "z"}, "systemTags": ["sshkey::ssh-rsa AAAA"]})
    assert "sshkey::ssh-rsa AAAA" in (await last_call(cloud))["request"]["body"], "it is public"


@each("path, body, part", (("/zones", {"params": {"name": "z", "description": "x" * 30_000}}, "request"), ("/vm-instances", None, "answer")))
async def test_a_long_body_is_cut_and_says_so(cloud, path, body, part):
    await cloud.request("POST" if body else "GET", path, body)
    message = (await last_call(cloud))[part]
    assert (len(message["body"].encode()), message["truncated"]) == (module.LONGEST_BODY, True)
    assert message["size"] > module.LONGEST_BODY


async def test_headers_are_bounded_too(cloud):
    await exchange(cloud, "GET /zstack/v1/zones", headers={f"X-{n}": "x" * 5000 for n in range(5)})
    request = (await last_call(cloud))["request"]
    assert (request["headers"], request["truncated"]) == ({}, True)


async def test_bodies_of_old_calls_go_first(cloud, monkeypatch):
    monkeypatch.setattr("zmock.MOST_BODIES", 2)
    for name in "abc":
        await cloud.request("GET", f"/zones?q=name={name}")
    bodies = [(await ask_control(cloud, "GET", f"calls/{seq}"))["answer"] for seq in (2, 3, 4)]
    assert [(answer["body"], answer.get("truncated")) for answer in bodies] == [("", True), ('{"inventories":[]}', None), ('{"inventories":[]}', None)]


def living_requests():
    gc.collect()
    return sum(isinstance(thing, web.Request) for thing in gc.get_objects())


async def test_the_journal_keeps_no_request_of_aiohttp_alive(cloud):
    before = living_requests()
    for n in range(50):
        await cloud.request("POST", "/zones", {"params": {"name": f"z{n}"}})
        await cloud.request("GET", f"/zones?q=name=z{n}")
    await cloud.advance(0)  # the jobs have ended
    assert living_requests() - before < 10


@each(
    ("drop", "sent"),
    (("truncate", lambda whole: whole[: len(whole) // 2]), ("garbage", lambda whole: whole[: len(whole) // 2]), ("reset", lambda whole: ""), ("empty", lambda whole: "")),
)  # fmt: skip
async def test_a_broken_answer_is_shown_as_far_as_it_was_sent(cloud, drop, sent):
    await cloud.query("zones")
    whole = (await last_call(cloud))["answer"]["body"]
    cloud.rule(api="QueryZone", then={"drop": drop})
    with pytest.raises(OSError):
        await cloud.query("zones")
    assert (await last_call(cloud))["answer"]["body"] == sent(whole)


async def test_a_body_that_is_no_text_is_kept_as_it_came(cloud):
    await exchange(cloud, "POST /zstack/v1/zones", b'{"params": {"name": "\xff"}}')
    assert (await last_call(cloud))["request"]["body"] == '{"params": {"name": "\ufffd"}}'
    (entry,) = json.loads((await shown(cloud, f"/{cloud.calls()[-1].seq}?as=har"))[2])["log"]["entries"]
    assert base64.b64decode(entry["request"]["postData"]["text"]) == b'{"params": {"name": "\xff"}}'


@each(
    ("path", "status", "error", "hint"),
    (
        ("/99", 404, "no call '99' in the journal", "it has {} to {}"), ("/x", 404, "no call 'x' in the journal", "it has {} to {}"),
        ("/{}?as=pytset", 400, "'as' is har, curl or pytest, not 'pytset', did you mean pytest?", ""), ("?as=", 400, "'as' is har, curl or pytest, not ''", ""),
        ("/1?at=har", 400, "a call is shown as=har, curl or pytest, not 'at'", ""), ("?as=har&status=x", 400, "'status' is a number", ""),
    ),
)  # fmt: skip
async def test_a_wrong_call_or_form_is_told(cloud, path, status, error, hint):
    await cloud.query("zones")
    await cloud.query("hosts")
    first, last = cloud.calls()[0].seq, cloud.calls()[-1].seq
    found, _, text = await shown(cloud, path.format(first))
    answer = json.loads(text)
    assert found == status and answer["error"].startswith(error) and answer["hint"] == hint.format(first, last)


async def test_an_empty_journal_says_so(zmock):
    assert json.loads((await shown(zmock, "/1"))[2])["hint"] == "it is empty"


# curl


async def test_a_curl_command_makes_the_call_again(cloud):
    name = "it's a \"$HOME\" `id` [1-2] {a,b} ; #"
    await cloud.request("POST", "/zones", {"params": {"name": name, "description": "@x\ny"}})
    await cloud.request("GET", "/zones?q=name~=[a-z]%25")
    status, kind, text = await shown(cloud, "?as=curl&api=*Zone")
    assert (status, kind) == (200, "text/plain")
    assert "User-Agent" not in text and "Content-Length" not in text
    shell = await asyncio.create_subprocess_exec("sh", "-c", text.replace("curl ", "curl -s ", 2), stdout=asyncio.subprocess.PIPE)
    out, _ = await shell.communicate()
    assert b'"location"' in out and b'"inventories"' in out
    await cloud.advance(0)
    assert [zone["description"] for zone in await cloud.query("zones") if zone["name"] == name] == ["@x\ny"] * 2


async def test_a_curl_command_has_the_session_and_the_headers_that_zmock_reads(cloud):
    headers = {"X-JSON-Schema": "true", "Cookie": "a=b", "Accept": "x/y"}
    await cloud.request("HEAD", "/zones", None, headers)
    words = shlex.split((await shown(cloud, f"/{cloud.calls()[-1].seq}?as=curl"))[2])
    assert words == ["curl", "-g", f"{cloud.url}/zones", "-I", "-H", f"Authorization: OAuth {cloud.session}", "-H", "X-JSON-Schema: true"]


# HAR 1.2: the members of each object, ? for those that it need not have

MESSAGE = {"httpVersion": str, "cookies": list, "headers": list, "headersSize": int, "bodySize": int}
HAR = {
    "log": {"version": str, "creator": dict, "entries": list},
    "creator": {"name": str, "version": str},
    "entries": {"startedDateTime": str, "time": (int, float), "request": dict, "response": dict, "cache": dict, "timings": dict},
    "request": MESSAGE | {"method": str, "url": str, "queryString": list, "postData?": dict},
    "response": MESSAGE | {"status": int, "statusText": str, "content": dict, "redirectURL": str},
    "headers": {"name": str, "value": str},
    "queryString": {"name": str, "value": str},
    "postData": {"mimeType": str, "text": str, "encoding?": str},
    "content": {"size": int, "mimeType": str, "text?": str, "encoding?": str},
    "cache": {},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
}


def check_har(name, value):
    """Fail unless a value is the object of HAR 1.2 of that name, with nothing more or less."""
    if isinstance(value, list):
        for inner in value:
            check_har(name, inner)
    elif isinstance(value, dict):
        members = HAR[name]
        assert value.keys() <= {member.rstrip("?") for member in members}, name
        for member, kind in members.items():
            if not member.endswith("?") or member[:-1] in value:
                inner = value[member.rstrip("?")]
                assert isinstance(inner, kind), (name, member, inner)
                check_har(member.rstrip("?"), inner)


async def test_an_archive_is_har_1_2_without_sessions(cloud):
    await record_session(cloud)
    status, kind, text = await shown(cloud, "?as=har")
    assert (status, kind) == (200, "application/json")
    assert not any(session["uuid"] in text for session in cloud.db.table("Session").all())
    log = json.loads(text)["log"]
    check_har("log", log)
    assert len(log["entries"]) == len(cloud.calls()) and log["version"] == "1.2"
    for entry, call in zip(log["entries"], cloud.calls()):
        assert datetime.fromisoformat(entry["startedDateTime"]).timestamp() == pytest.approx(call.moment, abs=0.001)
        assert entry["time"] == sum(entry["timings"].values()) == call.ms and entry["response"]["status"] == call.status
        assert entry["request"]["url"].startswith(f"{cloud.base}/zstack/v1/")
    create = next(entry for entry in log["entries"] if entry["request"]["method"] == "POST")
    assert {"name": "Authorization", "value": "OAuth ***"} in create["request"]["headers"]
    assert json.loads(create["request"]["postData"]["text"])["params"]["name"] == "web-9"


async def test_an_archive_can_be_filtered(cloud):
    await cloud.query("zones", "name=a b", "type=x")
    (entry,) = json.loads((await shown(cloud, "?as=har&api=Query*"))[2])["log"]["entries"]
    assert entry["request"]["queryString"] == [{"name": "q", "value": "name=a b"}, {"name": "q", "value": "type=x"}]


# a test


async def record_session(mock):
    """What a client does in the demo cloud: create, stop, start, and meet refusals and rules."""
    await mock.query("vm-instances", "name=web-1")
    await mock.request("GET", "/zones?limit=1&sort=+name")
    vm = await mock.create("CreateVmInstance", name="web-9", **VM, systemTags=["hostname::web9"])
    await mock.act("vm-instances", vm["uuid"], "stopVmInstance")
    await mock.act("vm-instances", vm["uuid"], "startVmInstance")
    await mock.request("GET", f"/vm-instances/{vm['uuid']}")
    await mock.create("CreateVolumeSnapshot", volumeUuid=vm["rootVolumeUuid"], name="s")
    for path, body in ((f"/vm-instances/{vm['uuid']}/actions", {"startVmInstance": {}}), ("/zonez", {}), (f"/vm-instances/{vm['uuid']}/actions", {"startVm": {}})):
        status, answer = await mock.request("PUT", path, body)
        if status == 202:
            await mock.advance(0)
            await mock.request("GET", "/api-jobs/" + answer["location"][-32:])
    await mock.request("POST", "/zones", {"params": {}})
    await mock.request("GET", "/api-jobs/" + "0" * 32)
    await mock.request("GET", "/hosts", None, {"Authorization": ""})
    await mock.request("GET", "/hosts", None, {"Authorization": "OAuth " + "1" * 32})
    await mock.create("CreateZone", name="before the rule")
    rule = mock.rule(api="CreateZone", when={"params.name": "b*"}, skip=1, then={"error": "HOST_ALLOCATION.1000", "details": "no \"room\""})
    await mock.create("CreateZone", name="bad but skipped")
    with pytest.raises(RuntimeError):
        await mock.create("CreateZone", name="bad")
    mock.rest.faults.remove(rule)
    await mock.delete("vm-instances", vm["uuid"])


async def use_accounts(mock):
    """Log in anew, as somebody else, with a wrong password, and out."""
    admin = mock.session
    await mock.create("CreateAccount", name="alice", password="geheim")
    await mock.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "alice", "password": "wrong"}})
    _, answer = await mock.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "alice", "password": "geheim"}})
    alice = mock.session = answer["inventory"]["uuid"]
    await mock.query("images")
    await mock.request("GET", "/zones")
    mock.session = admin
    await mock.query("zones")
    await mock.request("DELETE", f"/accounts/sessions/{alice}")
    await mock.request("DELETE", f"/accounts/sessions/{admin}")
    await mock.request("GET", "/zones")


async def meet_rules(mock):
    """Meet rules that break answers, polls and jobs, and slow calls down."""
    for rule in (
        {"api": "QueryHost", "then": {"drop": "reset"}}, {"api": "QueryHost", "skip": 1, "then": {"drop": "truncate"}}, {"api": "QueryHost", "then": {"status": 502, "body": "<html>"}},
        {"api": "CreateZone", "then": {"job": "hold"}}, {"api": "CreateZone", "then": {"status": 429, "body": {"a": True, "b": None}}}, {"api": "CreateZone", "then": {"error": "SYS.1006"}, "times": 1, "delay": 3},
        {"api": "PollJob", "skip": 1, "then": {"status": 502}}, {"api": "QueryCluster", "delay": 5}, {"api": "CreateZone", "then": {"job": "expire"}},
    ):  # fmt: skip
        added = mock.rule(**{"times": 1} | rule)
        for _ in range(rule.get("skip", 0) + 1):
            if rule["api"] == "PollJob":
                await mock.request("GET", "/api-jobs/" + mock.jobs()[-1]["uuid"])
            elif rule["api"] == "CreateZone":
                await mock.request("POST", "/zones", {"params": {"name": "z"}})
                await mock.advance(10)
            else:
                task = asyncio.create_task(mock.request("GET", "/" + {"QueryHost": "hosts", "QueryCluster": "clusters"}[rule["api"]]))
                await asyncio.sleep(0.01)
                await mock.advance(10)
                await asyncio.gather(task, return_exceptions=True)
        assert added.hits == 1


async def make_odd_calls(mock):
    """Names, bodies and queries that no client should send: each form answers, and the test is Python that passes."""
    for body in (b"[]", b"null", b"7", b'"x"', b"{", b'{"params": []}', b'{"params": "x"}', b'{"params": {"name": 7, "class": 1, "x=1) or y(": 2}}', b"\xff"):
        await exchange(mock, "POST /zstack/v1/zones", body)
        await exchange(mock, f"PUT /zstack/v1/vm-instances/{named('vm-web-1')}/actions", body)
        await exchange(mock, "PUT /zstack/v1/accounts/login", body)
    for target in ("/zstack/v1/zones?q=", "/zstack/v1/zones?q=name=%22%27%0a", "/zstack/v1/vm-instances", "/zstack/v1/%22%5C", "/elsewhere", "//zstack/v1/zones", "/zstack/v1/zones/\\"):
        await exchange(mock, f"GET {target}")
    await exchange(mock, "GET /zstack/v1/zones", headers={"Authorization": "Bearer \xe9"})
    for form in ("curl", "har"):
        assert (await shown(mock, f"?as={form}"))[0] == 200


async def meet_the_server(mock):
    """Meet what the manual's dialect does not have."""
    await mock.create("CreateZone", name="z")
    await mock.request("GET", "/zonez")
    await mock.request("PUT", "/zones/x/actions", {"params": {}})


RECORDED = {
    record_session: {}, use_accounts: {}, meet_rules: {}, make_odd_calls: {}, meet_the_server: {"dialect": "server", "cloud": "empty", "seed": 7}
}  # fmt: skip


async def run_pytest(texts, folder):
    """Run tests in a process of its own, as somebody does who has saved them."""
    for name, text in texts.items():
        (folder / f"test_{name}.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "zmock", "-W", "ignore"]
    environment = os.environ | {"PYTHONPATH": str(Path(module.__file__).parent)}
    return await asyncio.to_thread(subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


async def test_exported_tests_make_the_calls_again_and_fail_where_they_end_in_another_way(tmp_path):
    texts = {}
    for record, settings in RECORDED.items():
        async with serve(**settings) as mock:
            await mock.login()
            await record(mock)
            status, kind, text = await shown(mock, "?as=pytest")
            assert (status, kind) == (200, "text/plain")
            assert mock.session not in text and all(job["uuid"] not in text for job in mock.jobs())
            assert record is make_odd_calls or all(len(line) <= 120 for line in text.splitlines())
        texts[record.__name__] = text
    marker = '@pytest.mark.zmock(clock="warp", cloud="empty", dialect="server", seed=7)'
    assert marker in texts["meet_the_server"]
    texts["another_end"] = texts["meet_the_server"].replace('["CreateZone", 202, ""]', '["CreateZone", 202, "SYS.1000"]')
    run = await run_pytest(texts, tmp_path)
    assert run.returncode == 1 and "1 failed, 5 passed" in run.stdout, run.stdout
    assert "SYS.1000" in run.stdout


async def test_an_exported_test_reads_as_if_a_person_had_written_it(cloud):
    await record_session(cloud)
    text = (await shown(cloud, "?as=pytest"))[2]
    for lines in (
        'session = await zmock.login()\n    await zmock.finish("GET", "/vm-instances?q=name%3Dweb-1")\n',
        'vm_instance = (await zmock.finish("POST", "/vm-instances", {\n        "params": {\n            "name": "web-9",\n',
        'await zmock.finish("PUT", "/vm-instances/" + vm_instance["uuid"] + "/actions", {\n        "stopVmInstance": {}\n    })\n',
        'await zmock.finish("GET", "/vm-instances/" + vm_instance["uuid"])\n',
        'with pytest.raises(RuntimeError, match="VM.1001"):\n        await zmock.finish("PUT", "/vm-instances/" + vm_instance["uuid"] + "/actions", {\n',
        'zmock.rule(api="CreateZone", when={\n        "params.name": "b*"\n    }, then={\n        "error": "HOST_ALLOCATION.1000",\n        "details": "no \\"room\\""\n    }, times=1)\n',
        'assert (await zmock.request("POST", "/zones", {"params": {}}))[0] == 400\n',
        '        ["CreateZone", 202, "HOST_ALLOCATION.1000"],\n        ["DestroyVmInstance", 202, ""],\n    ]\n',
    ):  # fmt: skip
        assert lines in text, text


ODD_ANSWERS = [
    *({"status": 200, "body": body} for body in ("text", [], 5, {}, {"inventory": []}, {"inventory": {}}, {"inventory": {"uuid": {}}})),
    *({"merge": {"inventory": inventory}} for inventory in (None, 5, {"uuid": None}, {"uuid": {}}, {"uuid": 5})),
]


@each("then", ODD_ANSWERS)
async def test_whatever_a_rule_answers_to_a_login_its_journal_can_be_read(each_dialect, then):
    each_dialect.rule(api="LogInByAccount", then=then)
    login = {"accountName": "admin", "password": module.SHA512_OF_PASSWORD}
    assert (await each_dialect.request("PUT", "/accounts/login", {"logInByAccount": login}))[0] == 200
    for query in ("", "?as=har", "?as=curl", "?as=pytest"):
        assert (await shown(each_dialect, query))[0] == 200
    assert (await ask_control(each_dialect, "GET", "lint")) == {"findings": []}
