"""Where the manual and the server disagree: every row of the table asked over HTTP in both dialects."""

import json
from types import SimpleNamespace

import aiohttp
import pytest
from asking import ask_control, each
from test_facts_zql import ask as ask_in_time
from yarl import URL

from zmock import DIFFERENCES, SHA512_OF_PASSWORD, named, serve

ZONE, VM, NODE, VOLUME = named("zone-1"), named("vm-web-1"), named("management-node"), named("volume-spare")
LOGIN = {"accountName": "admin", "password": SHA512_OF_PASSWORD}
V4, NOT_V4, USED = "0123456789ab4def8123456789abcdef", "Z" * 32, "d825b1a26f4e474b8c59306081920ff2"
ALL_VMS, HOUR = 12, 3600
BASE = "http://BASE"  # where the mock listens
PROXIED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "front.example", "X-Forwarded-Prefix": "/cloud"}
TAG = {"resourceType": "HostVO", "resourceUuid": named("host-2"), "tag": "for-large-DB"}
LONG = {"jobName": "APIMigrateVmMsg", "jobData": {"vmInstanceUuid": VM, "hostUuid": named("host-2")}}
CPU = {"totalCpu", "availableCpu", "totalMemory", "availableMemory", "managedCpuNum"}


async def send(mock, method, path, body=None, headers=None):
    """An answer as it came; the path is whole where it starts with the mock's base, else below /zstack/v1."""
    url = URL(path if path.startswith("http") else mock.url + path, encoded=True)
    sent = {"Authorization": f"OAuth {mock.session}"} | (headers or {})
    data = body if body is None or isinstance(body, str) else json.dumps(body)
    async with aiohttp.request(method, url, data=data, headers=sent) as answer:
        text = await answer.text()
        return SimpleNamespace(status=answer.status, text=text, headers=answer.headers, json=json.loads(text) if text[:1] == "{" else None)


async def end(mock, answer):
    """The last answer of an asynchronous call."""
    if answer.status != 202:
        return answer
    await mock.advance(0)
    return await send(mock, "GET", answer.json["location"])


def status(method, path, body=None, headers=None):
    async def ask(mock):
        return (await send(mock, method, path, body, headers)).status

    return ask


def outcome(method, path, body=None, headers=None):
    """The statuses of a call from the first to the last, and the code of its error."""

    async def ask(mock):
        first = await send(mock, method, path, body, headers)
        last = await end(mock, first)
        code = last.json["error"]["code"] if last.status >= 400 and last.json else ""
        return " ".join(dict.fromkeys([str(first.status), str(last.status)])) + f" {code}".rstrip()

    return ask


def total(path):
    """How many a query finds."""

    async def ask(mock):
        answer = await send(mock, "GET", f"{path}&replyWithCount=true")
        return answer.json["total"]

    return ask


def members(method, path, body=None, of="", headers=None):
    """Which members the answer has, or the first inventory in it."""

    async def ask(mock):
        told = (await end(mock, await send(mock, method, path, body, headers))).json or {}
        return set(told[of][0] if of else told)

    return ask


def said(method, path, body=None):
    """The status and the text."""

    async def ask(mock):
        answer = await send(mock, method, path, body)
        return answer.status, answer.text

    return ask


async def poll_while_running(mock):
    mock.rule(api="CreateZone", delay=10)
    location = (await send(mock, "POST", "/zones", {"params": {"name": "z"}})).json["location"]
    answer = await send(mock, "GET", location)
    return answer.status, answer.text.replace(location, "LOCATION")


async def text_of_an_empty_result(mock):
    return (await end(mock, await send(mock, "DELETE", f"/zones/{named('nobody')}"))).text


def deletion_of_an_inherent_tag(mode):
    """The last status of a DeleteTag, and the code of its error."""

    async def ask(mock):
        _, answer = await mock.request("GET", "/system-tags?q=inherent=true")
        return await outcome("DELETE", f"/tags/{answer['inventories'][0]['uuid']}?deleteMode={mode}")(mock)

    return ask


def used_job_uuid(uuid):
    async def ask(mock):
        headers = {"X-Job-UUID": uuid}
        await end(mock, await send(mock, "POST", "/zones", {"params": {"name": "first"}}, headers))
        return (await send(mock, "POST", "/zones", {"params": {"name": "second"}}, headers)).status

    return ask


def polls(*hours):
    """The statuses of polls after each of these hours."""

    async def ask(mock):
        location = (await send(mock, "POST", "/zones", {"params": {"name": "z"}})).json["location"]
        found = []
        for span in hours:
            await mock.advance(span * HOUR)
            found.append((await send(mock, "GET", location)).status)
        return found

    return ask


async def location(mock, headers=None):
    answer = await send(mock, "POST", "/zones", {"params": {"name": "z"}}, {"Host": "proxy.example:81", "X-Job-UUID": V4} | (headers or {}))
    return answer.json["location"].replace(mock.base, BASE)


async def proxied_location(mock):
    return await location(mock, PROXIED)


def without_prefix(mock):
    return status("GET", f"{mock.base}/v1/zones")(mock)


def left_of_a_notification(path, body=None):
    """How many there are of a notification after a DELETE, "@" in the call being its uuid."""

    async def ask(mock):
        uuid = (await send(mock, "GET", "/notifications")).json["inventories"][0]["uuid"]
        await end(mock, await send(mock, "DELETE", path.replace("@", uuid), json.dumps(body or {}).replace("@", uuid)))
        return (await send(mock, "GET", f"/notifications?q=uuid={uuid}&count=true")).json["total"]

    return ask


async def headers_of_an_answer(mock):
    headers = (await send(mock, "GET", "/zones")).headers
    return headers.get("Content-Type"), "JSESSIONID=" in headers.get("Set-Cookie", "")


async def failing_zql(mock):
    status, answer = await ask_in_time(mock, "/zql", zql="query zonez")
    return status, answer["error"]["code"]


async def cookie(mock):
    """Whether a client that has its cookie gets another one."""
    return "Set-Cookie" in (await send(mock, "GET", "/zones", headers={"Cookie": "JSESSIONID=" + "A" * 32})).headers


TASK = {"taskUuid", "taskName", "type", "content", "time"}
NO_ACTION = {"foo": {}}
UNKNOWN = f"/zones/{ZONE}"

# How to ask, what the manual's dialect gives, what the server's does; under the name of its row.
ROWS = [
    ("login-key", status("PUT", "/accounts/login", {"loginByAccount": LOGIN}), 200, 503),
    ("login-key", status("PUT", "/accounts/login", {"logInByAccount": LOGIN}), 200, 200),
    ("condition-alias", total("/vm-instances?condition=name=web-1"), 1, ALL_VMS),
    ("repeated-fields", members("GET", "/zones?fields=uuid&fields=name", of="inventories"), {"uuid", "name"}, {"uuid"}),
    ("repeated-fields", members("GET", "/zones?fields=uuid,name&fields=state", of="inventories"), {"uuid", "name", "state"},
        {"uuid", "name"}),
    ("group-by", total("/vm-instances?q=state=Running&groupBy=state"), 1, 6),
    ("group-by", outcome("GET", "/vm-instances?groupBy=foo"), "400 SYS.1007", "200"),
    ("null-test", total("/volumes?q=type=Data&q=vmInstanceUuid=null"), 1, 0),
    ("null-test", total("/volumes?q=type=Data&q=vmInstanceUuid!=null"), 2, 2),
    ("null-test", total("/volumes?q=type=Data&q=vmInstanceUuid%20is%20null"), 1, 1),
    ("null-test", total("/volumes?q=type=Data&q=vmInstanceUuid%20not%20null"), 2, 2),
    ("spaced-condition", outcome("GET", "/zones?q=name%20=%20zone-1"), "400 SYS.1007", "200"),
    ("spaced-condition", outcome("GET", "/zones?q=name%20=zone-1&fields=name"), "400 SYS.1007", "200"),
    ("date-formats", outcome("GET", "/zones?q=createDate%3Ebanana"), "400 SYS.1007", "200"),
    ("date-formats", total("/zones?q=createDate%3EJan%201,%202999%2012:00:00%20AM"), 0, 1),
    ("date-formats", total("/zones?q=createDate%3C2999-01-01T00:00:00Z"), 1, 0),
    ("stray-percent", total("/vm-instances?q=name~=web%"), 3, ALL_VMS),
    ("poll-body", poll_while_running, (202, '{"location":"LOCATION"}'), (202, "")),
    ("empty-result", text_of_an_empty_result, "{}", ""),
    ("bad-parameter", outcome("POST", "/zones", {"params": {}}), "400 SYS.1007", "202 503 SYS.1007"),
    ("bad-parameter", outcome("GET", "/hosts/capacities/cpu-memory"), "400 SYS.1007", "503 SYS.1007"),
    ("bad-parameter", outcome("DELETE", f"/zones/{ZONE}?deleteMode=foo"), "400 SYS.1007", "202 503 SYS.1000"),
    ("bad-parameter", outcome("GET", f"/task-progresses/{V4}?all=yes"), "400 SYS.1007", "200"),
    ("bad-parameter", outcome("POST", "/hosts/kvm", {"params": {"sshPort": "abc"}}), "400 SYS.1007", "400"),
    ("bad-parameter", outcome("GET", "/zones?limit=abc"), "400 SYS.1007", "400"),
    ("unknown-field", outcome("GET", "/zones?q=foo=1"), "400 SYS.1007", "503 SYS.1000"),
    ("unknown-field", outcome("GET", "/zones?q=foo.bar=1"), "400 SYS.1007", "503 SYS.1000"),
    ("unknown-field", outcome("GET", "/zones?sort=foo"), "400 SYS.1007", "503 SYS.1000"),
    ("unknown-field", outcome("GET", "/zones?fields=foo"), "400 SYS.1007", "503 SYS.1000"),
    ("malformed-body", outcome("POST", "/zones", "[]"), "400 SYS.1007", "500"),
    ("malformed-body", outcome("POST", "/zones", "{"), "400 SYS.1007", "500"),
    ("malformed-body", outcome("POST", "/zones", {"params": "x"}), "400 SYS.1007", "500"),
    ("malformed-body", outcome("POST", "/zones", {"params": {"name": {}}}), "400 SYS.1007", "500"),
    ("malformed-body", outcome("POST", "/zones", {"params": {"name": "z"}, "systemTags": "x"}), "400 SYS.1007", "500"),
    ("wrong-method", status("POST", UNKNOWN), 405, 500),
    ("wrong-method", status("DELETE", "/zones"), 405, 500),
    ("wrong-method", status("GET", f"/vm-instances/{VM}/actions"), 405, 500),
    ("wrong-method", status("PUT", "/zones", NO_ACTION), 405, 400),
    ("wrong-method", status("PUT", f"/vm-instances/{VM}/actions", ""), 400, 500),
    ("wrong-method", status("PUT", f"/vm-instances/{VM}/actions", NO_ACTION), 400, 400),
    ("wrong-method", status("PATCH", "/zones"), 405, 405),
    ("wrong-method", status("POST", "/management-nodes/ready"), 405, 200),
    ("wrong-method", status("GET", f"/accounts/login?accountName=admin&password={SHA512_OF_PASSWORD}"), 405, 200),
    ("wrong-method", outcome("GET", f"/tags/{named('nobody')}"), "405 SYS.1014", "202 200"),
    ("wrong-method", status("POST", f"/primary-storage/{named('ps-local')}"), 405, 202),
    ("wrong-method", outcome("PUT", f"/longjobs/{named('longjob-1')}/actions", NO_ACTION), "400 SYS.1007", "202 200"),
    ("wrong-method", outcome("PUT", f"/longjobs/{named('longjob-1')}/actions", {}), "202 200", "202 200"),
    ("error-body", said("GET", "/foo"),
        (404, '{"error":{"code":"SYS.1003","description":"A resource can not be found","details":"no api mapping to /v1/foo"}}'),
        (404, "no api mapping to /v1/foo")),
    ("error-body", said("PATCH", "/zones"),
        (405, '{"error":{"code":"SYS.1014","description":"The operation is not implemented or not supported yet",'
              '"details":"The method[PATCH] is not allowed for the path[/zstack/v1/zones]"}}'),
        (405, "The method[PATCH] is not allowed for the path[/zstack/v1/zones]")),
    ("error-body", said("GET", "/zones?q==x"),
        (400, '{"error":{"code":"SYS.1007","description":"One or more API argument is invalid",'
              '"details":"Invalid query parameter. The \'=x\' in parameter[q] is not a key-value pair split by ="}}'),
        (400, "Invalid query parameter. The '=x' in parameter[q] is not a key-value pair split by =")),
    ("job-uuid", status("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": V4}), 202, 202),
    ("job-uuid", status("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": NOT_V4}), 400, 202),
    ("job-uuid", status("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": V4[:-1]}), 400, 400),
    ("job-uuid", used_job_uuid(USED), 400, 500),
    ("job-expiry", polls(2, 2), [200, 200], [200, 404]),
    ("job-expiry", polls(47, 47, 49), [200, 200, 404], [404, 404, 404]),
    ("job-location", location, f"http://proxy.example:81/zstack/v1/api-jobs/{V4}", f"{BASE}/zstack/v1/api-jobs/{V4}"),
    ("job-location", proxied_location, *[f"https://front.example/cloud/zstack/v1/api-jobs/{V4}"] * 2),
    ("path-prefix", without_prefix, 200, 404),
    ("get-one", members("GET", f"/zones/{ZONE}"), {"inventory", "inventories"}, {"inventories", "schema"}),
    ("get-one", members("GET", f"/zones/{named('nobody')}"), {"inventories"}, {"inventories", "schema"}),
    ("query-schema", members("GET", "/zones"), {"inventories"}, {"inventories", "schema"}),
    ("query-schema", members("GET", "/zones?count=true"), {"total"}, {"total", "schema"}),
    ("query-schema", members("GET", "/zones", headers={"X-JSON-Schema": "true"}), {"inventories", "schema"}, {"inventories", "schema"}),
    ("query-schema", members("GET", "/licenses"), {"inventory"}, {"inventory"}),
    ("delete-parameters", left_of_a_notification("/notifications", {"uuids": ["@"]}), 0, 1),
    ("delete-parameters", left_of_a_notification("/notifications", {"params": {"uuids": ["@"]}}), 0, 1),
    ("delete-parameters", left_of_a_notification("/notifications?uuids=@"), 0, 0),
    ("delete-parameters", status("DELETE", f"/zones/{ZONE}", {"systemTags": "x"}), 400, 202),
    ("license-writes", outcome("PUT", "/licenses/actions", {"reloadLicense": {}}), "202 200", "200"),
    ("license-writes", outcome("PUT", f"/licenses/mn/{NODE}/actions", {"updateLicense": {"license": "text"}}), "202 200", "200"),
    ("license-writes", outcome("DELETE", f"/licenses/mn/{NODE}/actions"), "202 200", "200"),
    ("license-capabilities", members("GET", "/licenses/capabilities"), set(), {"capabilities"}),
    ("is-ready", said("GET", "/management-nodes/ready"), (200, f'{{"managementNodeId":"{NODE}"}}'), (200, "")),
    ("is-ready", status("GET", "/management-nodes/ready", headers={"Authorization": ""}), 200, 200),
    ("success-field", members("PUT", "/management-nodes/actions", {"getVersion": {}}), {"version"}, {"version", "success"}),
    ("success-field", members("PUT", "/management-nodes/actions", {"getCurrentTime": {}}), {"currentTime"}, {"currentTime", "success"}),
    ("success-field", members("GET", "/hosts/capacities/cpu-memory?all=true"), CPU, CPU | {"success"}),
    ("free-system-tags", outcome("POST", "/system-tags", {"params": TAG}), "202 200", "202 503 SYS.1007"),
    ("free-system-tags", outcome("POST", "/system-tags", {"params": TAG | {"tag": "reservedMemory::1G"}}), "202 200", "202 200"),
    ("free-system-tags", outcome("POST", "/system-tags", {"params": TAG | {"tag": "hostname::x"}}), "202 200", "202 503 SYS.1007"),
    ("free-system-tags", outcome("POST", "/zones", {"params": {"name": "z"}, "systemTags": ["mine"]}), "202 200", "202 503 SYS.1007"),
    ("task-progress-fields", members("GET", f"/task-progresses/{named('api-1')}", of="inventories"),
        TASK | {"taskId", "totalSteps", "currentStep"}, TASK),
    ("job-data-object", outcome("POST", "/longjobs", {"params": LONG}), "202 200", "500"),
    ("job-data-object", outcome("POST", "/longjobs", {"params": LONG | {"jobData": json.dumps(LONG["jobData"])}}), "202 200", "202 200"),
    ("gc-state", outcome("GET", "/gc-jobs?q=state=Idle"), "200", "503 SYS.1000"),
    ("gc-state", outcome("GET", "/gc-jobs?q=status=Idle"), "200", "200"),
    ("eip-ip", outcome("GET", "/eips?q=ip=10.20.0.2"), "200", "503 SYS.1000"),
    ("eip-ip", outcome("GET", "/vm-instances?q=vmNics.eip.ip=10.20.0.2"), "200", "503 SYS.1000"),
    ("eip-ip", outcome("GET", "/eips?q=vipIp=10.20.0.2"), "200", "200"),
    ("enforced-deletion", deletion_of_an_inherent_tag("Enforcing"), "202 200", "202 503 SYS.1006"),
    ("enforced-deletion", deletion_of_an_inherent_tag("Permissive"), *["202 503 SYS.1006"] * 2),
    ("unanswered-call", failing_zql, (503, "SYS.1000"), (503, "SYS.1001")),
    ("response-headers", headers_of_an_answer, ("application/json", False), (None, True)),
    ("response-headers", cookie, False, False),
]  # fmt: skip


@pytest.fixture
async def mock(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        yield mock


@pytest.mark.parametrize("dialect", ["manual", "server"])
@each("number", range(len(ROWS)), ids=[f"{n} {row[0]}" for n, row in enumerate(ROWS)])
async def test_a_row_of_the_table_does_what_it_says_in_both_dialects(mock, number, dialect):
    _, ask, manual, server = ROWS[number]
    assert await ask(mock) == (manual if dialect == "manual" else server)


def test_no_row_is_missing_and_each_tells_the_dialects_apart():
    assert list(dict.fromkeys(name for name, *_ in ROWS)) == [row.name for row in DIFFERENCES]
    assert {name for name, _, manual, server in ROWS if manual != server} == {row.name for row in DIFFERENCES}


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_the_table_is_shown_with_the_column_in_force(dialect):
    async with serve(dialect=dialect) as mock:
        shown = (await send(mock, "GET", f"{mock.base}/zmock/dialect")).json
    assert shown["dialect"] == dialect
    assert [row["name"] for row in shown["differences"]] == [row.name for row in DIFFERENCES]
    for row in shown["differences"]:
        assert row["manual"] != row["server"]
        assert row["source"]
        assert row["inForce"] == dialect


# what no row tells apart: the server's habits that hold in both

SAME = [
    ("polling needs no session", status("GET", f"/api-jobs/{V4}", headers={"Authorization": ""}), 404),
    ("login answers at once", status("PUT", "/accounts/login", {"logInByAccount": LOGIN}), 200),
    ("log-out answers at once", status("DELETE", f"/accounts/sessions/{V4}"), 200),
    ("no Authorization is a 400", status("GET", "/zones", headers={"Authorization": ""}), 400),
    ("a wrong session is an error of the operation", outcome("GET", "/zones", headers={"Authorization": "OAuth x"}), "503 ID.1001"),
    ("of an asynchronous one through its job", outcome("POST", "/zones", {"params": {"name": "z"}}, {"Authorization": "OAuth x"}),
        "202 503 ID.1001"),
    ("what is not there is an error of the operation", outcome("PUT", f"/zones/{V4}/actions", {"updateZone": {}}), "202 503 SYS.1003"),
    ("deleting what is not there succeeds", outcome("DELETE", f"/zones/{V4}"), "202 200"),
    ("getting what is not there succeeds", outcome("GET", f"/zones/{V4}"), "200"),
    ("a job takes GET only", status("DELETE", f"/api-jobs/{V4}"), 405),
    ("an unknown path", status("GET", "/zon"), 404),
    ("a double slash is one", outcome("GET", f"/zones//{ZONE}"), "200"),
    ("a HEAD is a GET", status("HEAD", "/zones?fields=name"), 200),
    ("a HEAD of an unknown path", status("HEAD", "/zon"), 404),
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["manual", "server"])
@each("ask, same", [row[1:] for row in SAME], ids=[row[0] for row in SAME])
async def test_what_the_manual_leaves_open_is_as_the_server_does(mock, ask, same, dialect):
    assert await ask(mock) == same


async def test_errors_of_the_server_name_its_java_classes_and_have_no_content_type():
    async with serve(dialect="server") as mock:
        await mock.login()
        answer = await send(mock, "PUT", "/accounts/login", {"loginByAccount": LOGIN})
        message = "org.zstack.header.identity.APILogInByAccountMsg"
        assert answer.json["error"]["details"].endswith(f"of message[{message}] is mandatory, can not be null")
        assert "Content-Type" not in answer.headers


PROXIES = [  # an answer that is not ZStack's, and its type
    ({"body": {"a": 1}}, "application/json"), ({"body": []}, "application/json"), ({"body": "busy"}, "text/plain; charset=utf-8"),
    ({"body": "<html>"}, "text/html; charset=utf-8"), ({"body": {}, "headers": {"content-type": "text/csv"}}, "text/csv"),
]  # fmt: skip


@each("then, type", PROXIES)
async def test_an_answer_of_a_proxy_has_its_type_in_both_dialects_and_in_the_journal(each_dialect, then, type):
    for where, path in (({"path": "/zstack/*/zones"}, "/zones"), ({"api": "QueryHost"}, "/hosts")):
        each_dialect.rule(**where, then={"status": 502} | then)
        answer = await send(each_dialect, "GET", path)
        assert (answer.status, answer.headers["Content-Type"]) == (502, type)
        har = await ask_control(each_dialect, "GET", "calls?as=har")
        assert har["log"]["entries"][-1]["response"]["content"]["mimeType"] == type


async def test_the_server_tells_which_verb_a_path_has_no_api_for():
    async with serve(dialect="server") as mock:
        await mock.login()
        actions = f"/zones/{ZONE}/actions"
        for method, word, path in (("POST", "creational", f"/zones/{ZONE}"), ("GET", "query", actions), ("DELETE", "delete", "/zones")):
            assert await said(method, path)(mock) == (500, f"No {word} API found for the path[/zstack/v1{path}]")
        assert await said("PUT", actions, NO_ACTION)(mock) == (400, f"the body doesn't contain action mapping to the URL[/v1{actions}]")
        assert await said("PUT", actions)(mock) == (500, "")


# job locations: what --base-url says, else what a proxy in front says, else the row job-location


@pytest.mark.parametrize("dialect", ["manual", "server"])
@pytest.mark.parametrize("base_url, headers, begins", [
    ("https://cloud.example/a/", PROXIED, "https://cloud.example/a"),
    ("", PROXIED, "https://front.example/cloud"),
    ("", {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "front.example:8443, inner"}, "https://front.example:8443"),
    ("", {"X-Forwarded-Proto": "https", "Host": "kept.example"}, "https://kept.example"),
    ("", {"X-Forwarded-Host": "[2001:db8::1]:81"}, "http://[2001:db8::1]:81"),
    ("", {"X-Forwarded-Prefix": "/a/b/", "Host": "kept.example"}, "http://kept.example/a/b"),
    ("", {"X-Forwarded-Prefix": "/", "Host": "x y"}, None),
    ("", {"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b", "X-Forwarded-Prefix": "//evil.example", "Host": "x/y"}, None),
])  # fmt: skip
async def test_a_job_is_polled_where_the_client_can_reach_it(dialect, base_url, headers, begins):
    async with serve(dialect=dialect, base_url=base_url) as mock:
        await mock.login()
        told = await location(mock, headers)
        assert told == f"{begins or BASE}/zstack/v1/api-jobs/{V4}"


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_poll_repeats_the_location_of_its_own_proxy(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        mock.rule(api="CreateZone", then={"job": "hold"})
        await location(mock, PROXIED)
        polled = await send(mock, "GET", f"/api-jobs/{V4}", headers=PROXIED)
        assert (polled.status, polled.text) == (202, json.dumps({"location": f"https://front.example/cloud/zstack/v1/api-jobs/{V4}"}, separators=(",", ":")) if dialect == "manual" else "")
