"""Rules: which calls fail or take longer, how often, and what a client sees of it."""

import asyncio
import json
import re
from random import Random

import aiohttp
import pytest
from asking import each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from zmock import (
    DISTRIBUTIONS,
    HINT_ON_THEN,
    NO_FAULT,
    OWNERS,
    RULE_KEYS,
    THEN,
    WORLDS,
    MatchedCall,
    create_app,
    merged,
    named,
    raw_answer,
    serve,
)

pytestmark = pytest.mark.zmock(strict=False)  # also rules that must not fire

FULL = {"error": "HOST_ALLOCATION.1000", "details": "no host has 64 GB"}


async def control(mock, method, path, body=None):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        return answer.status, await answer.json()


async def new_zone(mock):
    """The code of the error that creating a zone ends in, or "" when it went well."""
    try:
        await mock.create("CreateZone", name="z")
    except RuntimeError as error:
        return str(error).partition(":")[0]
    return ""


@pytest.mark.parametrize(
    ("rule", "outcomes"),
    (
        ({}, ["SYS.1006"] * 4),
        ({"times": 1}, ["SYS.1006", "", "", ""]),
        ({"skip": 2}, ["", "", "SYS.1006", "SYS.1006"]),
        ({"skip": 1, "times": 2}, ["", "SYS.1006", "SYS.1006", ""]),
        ({"api": "Create*"}, ["SYS.1006"] * 4),
        ({"api": "*Zone"}, ["SYS.1006"] * 4),
        ({"api": "*"}, ["SYS.1006"] * 4),
        ({"api": "Delete*"}, [""] * 4),
    ),
)
async def test_a_rule_says_which_calls_fail_and_how_often(zmock, rule, outcomes):
    await zmock.login()
    zmock.rule(**{"api": "CreateZone", "then": {"error": "SYS.1006"}} | rule)
    assert [await new_zone(zmock) for _ in outcomes] == outcomes


async def test_a_rule_comes_by_http_by_the_handle_or_from_a_file(tmp_path):
    rule = {"id": "full", "api": "CreateZone", "then": FULL}
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([rule]))
    async with serve(rules=(str(file),)) as from_file, serve() as by_http, serve() as by_handle:
        assert (await control(by_http, "POST", "rules", rule))[0] == 200
        by_handle.rule(**rule)
        for mock in (from_file, by_http, by_handle):
            assert await control(mock, "GET", "rules/full") == (200, rule | {"matches": 0, "hits": 0, "last": None})
            assert await new_zone(mock) == "HOST_ALLOCATION.1000"


async def test_a_job_that_fails_by_a_rule_has_done_nothing(zmock):
    await zmock.login()
    zmock.rule(api="DestroyVmInstance", then=FULL)
    status, body = await zmock.request("DELETE", f"/vm-instances/{named('vm-web-1')}")
    assert status == 202
    await zmock.advance(0)
    status, body = await zmock.request("GET", "/api-jobs/" + body["location"].rpartition("/")[2])
    told = {"code": "HOST_ALLOCATION.1000", "description": "No available host found", "details": "no host has 64 GB"}
    assert (status, body["error"]) == (503, told)
    assert (await zmock.query("vm-instances", f"uuid={named('vm-web-1')}"))[0]["state"] == "Running"


async def test_a_call_that_is_refused_at_accept_never_becomes_a_job(zmock):
    await zmock.login()
    before = len(zmock.jobs())
    zmock.rule(api="CreateZone", then=FULL | {"at": "accept"})
    status, body = await zmock.request("POST", "/zones", {"params": {"name": "z"}})
    assert (status, body["error"]["code"], len(zmock.jobs())) == (503, "HOST_ALLOCATION.1000", before)
    assert await zmock.query("zones", "name=z") == []


@pytest.mark.parametrize(
    ("api", "method", "path", "body"),
    (
        ("GetVersion", "PUT", "/management-nodes/actions", {"getVersion": {}}),
        ("GetLicenseInfo", "GET", "/licenses", None),
        ("LogInByAccount", "PUT", "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "x"}}),
        ("QueryZone", "GET", "/zones", None),
        ("QueryVmInstance", "GET", f"/vm-instances/{named('vm-web-1')}", None),
    ),
)
async def test_what_answers_at_once_fails_at_once(zmock, api, method, path, body):
    await zmock.login()
    zmock.rule(api=api, then={"error": "SYS.1001", "details": "too late"})
    status, answer = await zmock.request(method, path, body)
    assert (status, (answer.get("error") or {}).get("details")) == (503, "too late")


async def test_details_are_the_codes_description_unless_a_rule_says_them(zmock):
    await zmock.login()
    zmock.rule(api="GetVersion", then={"error": "SYS.1010"})
    _, body = await zmock.request("PUT", "/management-nodes/actions", {"getVersion": {}})
    assert body["error"] == {"code": "SYS.1010"} | dict.fromkeys(("description", "details"), "Management server is not ready to serve")


async def test_the_first_rule_that_fires_decides(zmock):
    zmock.rule(id="once", api="CreateZone", times=1, then={"error": "SYS.1001"})
    zmock.rule(id="always", api="Create*", then={"error": "SYS.1006"})
    zmock.rule(id="never", api="*Zone", then={"error": "SYS.1000"})
    assert [await new_zone(zmock) for _ in range(3)] == ["SYS.1001", "SYS.1006", "SYS.1006"]
    assert [(rule.id, rule.hits) for rule in zmock.rules] == [("once", 1), ("always", 2), ("never", 0)]


async def test_matches_and_hits_are_counted(zmock):
    zmock.rule(id="third", api="CreateZone", skip=2, times=1, then={"error": "SYS.1006"})
    for _ in range(5):
        await new_zone(zmock)
    _, rule = await control(zmock, "GET", "rules/third")
    assert (rule["matches"], rule["hits"]) == (5, 1)


async def test_an_answer_that_a_rule_touched_says_so(zmock):
    await zmock.login()
    zmock.rule(id="slow", api="CreateZone", delay=1)
    async with aiohttp.ClientSession(headers={"Authorization": f"OAuth {zmock.session}"}) as http:
        for hit in (1, 2):
            async with http.post(f"{zmock.url}/zones", json={"params": {"name": "z"}}) as answer:
                assert answer.headers["X-ZMock-Rule"] == f"slow; hit={hit}"
        async with http.post(f"{zmock.url}/disk-offerings", json={"params": {"name": "d", "diskSize": 1}}) as answer:
            assert "X-ZMock-Rule" not in answer.headers
    assert [entry.rule for entry in zmock.calls("CreateZone")] == ["slow; hit=1", "slow; hit=2"]


async def test_a_delay_lengthens_the_job(zmock):
    await zmock.login()
    zmock.rule(api="CreateZone", delay=30)
    _, body = await zmock.request("POST", "/zones", {"params": {"name": "z"}})
    job = "/api-jobs/" + body["location"].rpartition("/")[2]
    await zmock.advance(29)
    assert (await zmock.request("GET", job))[0] == 202
    await zmock.advance(1)
    assert (await zmock.request("GET", job))[0] == 200


@pytest.mark.parametrize(
    ("api", "method", "path", "body", "then"),
    (
        ("GetLicenseInfo", "GET", "/licenses", None, None),
        ("QueryZone", "GET", "/zones", None, None),
        ("CreateZone", "POST", "/zones", {"params": {"name": "z"}}, FULL | {"at": "accept"}),
    ),
)
async def test_a_delay_lengthens_the_answer_of_what_has_no_job(zmock, api, method, path, body, then):
    await zmock.login()
    rule = zmock.rule(api=api, delay=30, **{"then": then} if then else {})
    asked = asyncio.create_task(zmock.request(method, path, body))
    while not rule.hits and not asked.done():
        await asyncio.sleep(0)
    await zmock.advance(29)
    assert not asked.done()
    await zmock.advance(1)
    assert (await asked)[0] == (503 if then else 200)


async def test_rules_are_taken_away_one_by_one_or_all_at_once(zmock):
    for id in "abc":
        zmock.rule(id=id, api="CreateZone", then=FULL)
    assert await control(zmock, "DELETE", "rules/b") == (200, {})
    assert [rule["id"] for rule in (await control(zmock, "GET", "rules"))[1]["rules"]] == ["a", "c"]
    assert await control(zmock, "DELETE", "rules") == (200, {"rules": []})
    assert await new_zone(zmock) == ""


async def test_reset_forgets_the_rules_but_those_of_the_files(tmp_path):
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"id": "kept", "api": "CreateZone", "then": FULL}]))
    async with serve(rules=(str(file),)) as mock:
        mock.rule(id="gone", api="CreateZone", delay=1)
        await new_zone(mock)
        await mock.reset()
        assert [(rule.id, rule.hits) for rule in mock.rules] == [("kept", 0)]


@pytest.mark.parametrize("id", ("a", "rule-1"))
async def test_there_is_no_second_rule_of_the_same_name(zmock, id):
    zmock.rule(api="*")
    zmock.rule(id="a", api="*")
    status, body = await control(zmock, "POST", "rules", {"id": id, "api": "*"})
    assert (status, body["error"]) == (400, f"there is a rule {id!r} already")


async def test_a_rule_gets_a_name_that_is_free(zmock):
    zmock.rule(id="rule-1", api="*")
    assert zmock.rule(api="*").id != "rule-1"


# rules that could never match

REFUSED = [
    ({"api": "CreateVm"}, "did you mean CreateV"),
    ({"api": "CreateZones"}, "did you mean CreateZone?"),
    ({"api": "Xyz*"}, "'api' names no API: 'Xyz*'"),
    ({"api": "Poll*"}, "'api' names no API"),
    ({"api": "pollJob"}, "did you mean PollJob?"),
    ({"api": "QueryHybridEipFromLocal"}, "is not simulated: it answers 501"),
    ({}, "'api' is missing"),
    ({"api": 7}, "'api' is a text, not 7"),
    ({"api": ["CreateZone"]}, "'api' is a text, not [\"CreateZone\"]"),
    ({"api": "[" * 5000}, "'api' is a text of at most 500 characters"),
    ({"api": "*Zone", "when": {"params.name": "*a" * 500}}, "'params.name' is a text of at most 500 characters"),
    ({"api": "*", "tiems": 1}, "'tiems' is no key of a rule, did you mean times?"),
    ({"api": "*", "skip": -1}, "'skip' is a whole number from 0, not -1"),
    ({"api": "*", "times": "2"}, "'times' is a whole number from 1"),
    ({"api": "*", "times": 1.5}, "'times' is a whole number from 1"),
    ({"api": "*", "times": 0}, "'times' is a whole number from 1"),
    ({"api": "*", "probability": 0}, "'probability' is a number above 0"),
    ({"api": "*", "ttl": 0}, "'ttl' is a number above 0"),
    ({"api": "*", "when": {"path": "*a" * 500}}, "'path' is a text of at most 500 characters"),
    ({"api": "*", "id": ""}, "'id' is a text of letters"),
    ({"api": "*", "id": "a;b\n"}, "'id' is a text of letters"),
    ({"api": "*", "id": "a/b"}, "'id' is a text of letters"),
    ({"api": "*", "then": {"status": 500, "body": [float("nan")]}}, "NaN is no number that JSON or Java has"),
    ({"api": "*", "when": {"params.name": float("inf")}}, "Infinity is no number that JSON or Java has"),
    ({"api": "*", "when": {"header.\ud800": "x"}}, "surrogate"),
    ({"api": "*", "every": 0}, "'every' is a whole number from 1"),
    ({"api": "*", "probability": 1.1}, "'probability' is a number above 0 and up to 1, not 1.1"),
    ({"api": "*", "probability": [1]}, "'probability' is a number"),
    ({"api": "*", "ttl": -1}, "'ttl' is a number above 0"),
    ({"api": "*", "delay": True}, "'delay' is a number from 0"),
    ({"api": "*", "delay": 1e10}, "'delay' is at most 1000000000"),
    ({"api": "*", "delay": "3"}, "'delay' is a number from 0"),
    ({"api": "*", "delay": {}}, "uniform, normal, lognormal"),
    ({"api": "*", "delay": {"unifrom": [1, 2]}}, "uniform, normal, lognormal"),
    ({"api": "*", "delay": {"uniform": [3, 1]}}, "the smaller one first"),
    ({"api": "*", "delay": {"uniform": 3}}, "a list of two numbers"),
    ({"api": "*", "delay": {"normal": [1]}}, "a list of two numbers"),
    ({"api": "*", "delay": {"normal": [1, "2"]}}, "is a number from 0"),
    ({"api": "*", "delay": {"lognormal": {"p50": 1}}}, '{"p50": seconds, "p99": seconds}'),
    ({"api": "*", "delay": {"lognormal": {"p50": 0, "p99": 1}}}, "above 0"),
    ({"api": "*", "delay": {"lognormal": {"p50": 2, "p99": 1}}}, "the smaller one first"),
    ({"api": "*", "delay": {"uniform": [1, 2], "normal": [1, 2]}}, "with one of"),
    ({"api": "*", "id": 5}, "'id' is a text"),
    ({"api": "*", "id": "magic"}, "the id 'magic' is that of directives"),
    ({"api": "*", "when": []}, "'when' is a JSON object"),
    ({"api": "*", "when": {"param.name": "x"}}, "did you mean params.NAME?"),
    ({"api": "*", "when": {"name": "x"}}, "'when' has no 'name'"),
    ({"api": "*", "when": {"path.x": "x"}}, "'when' has no 'path.x'"),
    ({"api": "*", "when": {"header": "x"}}, "header.NAME"),
    ({"api": "*", "when": {"params.": "x"}}, "params.NAME"),
    ({"api": "*", "when": {"method": "PATCH"}}, "'method' is DELETE or GET or POST or PUT"),
    ({"api": "CreateZone", "when": {"method": "GET"}}, "'method' is POST, not 'GET'"),
    ({"api": "CreateZone", "when": {"params.nmae": "x"}}, "has 'params.nmae', did you mean name?"),
    ({"api": "CreateZone", "when": {"params.name": {}}}, "'params.name' is a text, number"),
    ({"api": "CreateZone", "when": {"resource.name": "x"}}, "there is no resource at all"),
    ({"api": "CreateZone", "when": {"query.name": "x"}}, "there is no query at all"),
    ({"api": "StopVmInstance", "when": {"resource.sate": "x"}}, "did you mean state?"),
    ({"api": "QueryZone", "when": {"query.limt": "1"}}, "did you mean limit?"),
    ({"api": "PollJob", "when": {"resource.name": "x"}}, "has 'resource.name'"),
    ({"api": "*", "then": {"error": "HOST_ALLOCATON.1000"}}, "did you mean HOST_ALLOCATION.1000?"),
    ({"api": "*", "then": {"error": {}}}, "'error' is a code of ZStack"),
    ({"api": "*", "then": {"error": "SYS.1006", "at": "later"}}, "'at' is accept, job or after"),
    ({"api": "*", "then": {"errors": "SYS.1006"}}, "'errors' is no key of 'then', did you mean error?"),
    ({"api": "*", "then": {"error": "SYS.1006", "details": 5}}, "'details' is a text"),
    ({"api": "*", "then": {"error": "SYS.1006", "details": "\ud800"}}, "'details' is a text"),
    ({"api": "*", "then": {"error": "SYS.1006", "body": "x"}}, "'body' goes with 'status' only"),
    ({"api": "*", "then": {"details": "x"}}, "'details' goes with 'error' only"),
    ({"api": "*", "then": {"error": "SYS.1006", "status": 500}}, "not error and status"),
    ({"api": "*", "then": {"status": 99}}, "'status' is a whole number from 200 to 599"),
    ({"api": "*", "then": {"status": "502"}}, "'status' is a whole number"),
    ({"api": "*", "then": {"status": 502, "at": "job"}}, "'at' is accept or after"),
    ({"api": "*", "then": {"drop": "rest"}}, "did you mean reset?"),
    ({"api": "*", "then": {"drop": "reset", "at": "job"}}, "'at' is accept or after"),
    ({"api": "*", "then": {"job": "held"}}, "did you mean hold?"),
    ({"api": "*", "then": {"job": "hold", "at": "job"}}, "'at' is for error, status, merge and drop"),
    ({"api": "*", "then": {"webhook": "often"}}, "never, late, twice or first"),
    ({"api": "QueryZone", "then": {"job": "hold"}}, "without a job"),
    ({"api": "Get*", "then": {"error": "SYS.1006", "at": "job"}}, "without a job"),
    ({"api": "PollJob", "then": {"webhook": "late"}}, "without a job"),
    ({"api": "CreateVmInstance", "then": {"error": "SYS.1006", "stage": "strat"}}, "did you mean start?; there are host, volume, nic, start"),
    ({"api": "CreateZone", "then": {"error": "SYS.1006", "stage": "start"}}, "CreateZone has no stage 'start'"),
    ({"api": "CreateVmInstance", "then": {"error": "SYS.1006", "stage": "start", "at": "after"}}, "leave 'at' away"),
    ({"api": "CreateVmInstance", "then": {"error": "SYS.1006", "rollback": False}}, "'rollback' goes with 'stage' only"),
    ({"api": "CreateVmInstance", "then": {"error": "SYS.1006", "stage": "start", "rollback": 0}}, "'rollback' is true or false"),
    ({"api": "*", "then": {"status": 500, "body": ["\ud800"]}}, "surrogate"),
    ({"api": "*", "when": {"params.name": "\ud800"}}, "surrogate"),
    ({"api": "*", "then": "fail"}, "'then' is"),
    ({"api": "*", "on": 2}, "'on' is a list of whole numbers from 1, not 2"),
    ({"api": "*", "on": []}, "'on' is a list of whole numbers from 1"),
    ({"api": "*", "on": [0]}, "'on' is a whole number from 1, not 0"),
    ({"api": "*", "delay": 1e12}, "'delay' is at most 1000000000, not 1000000000000.0"),
    ({"api": "*", "delay": {"recorded": [1e10]}}, "'delay.recorded' is at most 1000000000"),
    ({"api": "CreateZone", "then": {"job": "hold", "for": 1e12}}, "'for' is at most 1000000000"),
    ({"path": "/q?x=1", "then": {"status": 202}}, "'path' is one without a query"),
    ({"api": "*", "then": {"merge": {"total": "\ud800"}}}, "a rule holds half of a surrogate pair"),
    ({"api": "*", "limit": 10}, "'limit' is {\"calls\": 10, \"per\": seconds}, not 10"),
    ({"api": "*", "limit": {"calls": 10}}, "'limit' is {\"calls\": 10, \"per\": seconds}"),
    ({"api": "*", "limit": {"calls": 10, "per": 1, "burst": 2}}, "'limit' is {\"calls\": 10"),
    ({"api": "*", "limit": {"calls": 0, "per": 1}}, "'limit.calls' is a whole number from 1"),
    ({"api": "*", "limit": {"calls": 10**6, "per": 1}}, "'limit.calls' is a whole number from 1 to 10000"),
    ({"api": "*", "limit": {"calls": 1, "per": 0}}, "'limit.per' is a number above 0"),
    ({"api": "*", "retries": "other"}, "'retries' is the word same, not 'other'"),
    ({"api": "*", "retires": "same"}, "did you mean retries?"),
    ({"api": "*", "delay": {"recorded": []}}, "'delay.recorded' is a list of seconds"),
    ({"api": "*", "delay": {"recorded": [0.1, -1]}}, "'delay.recorded' is a number from 0, not -1"),
    ({"api": "*", "delay": {"recrded": [1]}}, "did you mean recorded?"),
    ({"api": "CreateZone", "then": {"job": "hold", "for": "5"}}, "'for' is a number from 0"),
    ({"api": "CreateZone", "then": {"job": "lose", "for": 5}}, "'for' is the time of a hold, not of lose"),
    ({"api": "CreateZone", "then": {"for": 5}}, "'for' goes with 'job' only"),
    ({"api": "*", "then": {"headers": {"A": "b"}}}, "'headers' goes with 'status' only"),
    ({"api": "*", "then": {"status": 200, "headers": []}}, "'headers' is a JSON object such as"),
    ({"api": "*", "then": {"status": 200, "headers": {"Retry-After": 5}}}, "'Retry-After' is a text without line breaks, not 5"),
    ({"api": "*", "then": {"status": 200, "headers": {"A": "b\r\nC: d"}}}, "'A' is a text without line breaks"),
    ({"api": "*", "then": {"status": 200, "headers": {"A": "钱"}}}, "'A' is a text without line breaks"),
    ({"api": "*", "then": {"status": 200, "headers": {"A b": "c"}}}, "names of letters, digits and -, not 'A b'"),
    *(({"api": "*", "then": {"status": 200, "headers": {name: "5"}}}, f"'headers' cannot hold {name}: zmock sets it")
      for name in ("Content-Length", "transfer-encoding", "Connection", "Upgrade")),
    ({"api": "*", "then": {"merge": []}}, "'merge' is a JSON object such as"),
    ({"api": "*", "then": {"merge": {"a": 1}, "status": 200}}, "make it two rules"),
    ({"api": "*", "then": {"merge": {"a": 1}, "at": "after"}}, "'at' is accept or job"),
    ({"api": "*", "then": {"drop": {"after": -1}}}, "'drop.after' is a whole number from 0"),
    ({"api": "*", "then": {"drop": {"rate": 0}}}, "'drop.rate' is a number above 0"),
    ({"api": "*", "then": {"drop": {"after": 1, "rate": 2}}}, "'drop' is a word"),
    ({"api": "*", "then": {"drop": {"rat": 2}}}, "did you mean rate?"),
    ({"api": "*", "then": {"drop": "after"}}, "'drop' is reset"),
    ({"api": "*", "then": {"drop": "slowclose"}}, "did you mean slow-close?"),
    ({"path": "/x"}, "needs 'then.status'"),
    ({"api": "QueryZone", "path": "/zstack/v1/zones", "then": {"error": "SYS.1006"}}, "needs 'then.status'"),
    ({"api": "QueryZone", "method": "GET", "then": {"drop": "reset"}}, 'write "when": {"path": ...}'),
    ({"path": "/x", "then": {"status": 200, "at": "after"}}, "answers instead of the call: no 'at'"),
    ({"api": "QueryHybridEipFromLocal", "then": {"status": 200, "at": "after"}}, "a stub answers instead of the call: no 'at'"),
    ({"api": "QueryHybridEipFromLocal", "when": {"resource.name": "x"}, "then": {"status": 200}}, "a stub answers before zmock reads resource.name"),
    ({"api": "*", "when": {"header.X": "\ud800"}}, "surrogate pair, which no text in UTF-8 haskeys of a rule: id, api"),
    ({"path": "zones", "then": {"status": 200}}, "'path' is a glob over the whole path of the server"),
    ({"path": 7, "then": {"status": 200}}, "'path' is a text, not 7"),
    ({"path": "/" + "*a" * 500, "then": {"status": 200}}, "'path' is a text of at most 500 characters"),
    *(({"path": path, "then": {"status": 200}}, f"control calls, which no rule touches: {path}")
      for path in ("/zmock", "/zmock/rules", "//zmock/*", "/zmock*")),
    ({"path": "/x", "method": "get", "then": {"status": 200}}, "did you mean GET?"),
    ({"path": "/x", "method": "HEAD", "then": {"status": 200}}, "'method' is GET, POST, PUT, PATCH, DELETE or OPTIONS"),
    ({"method": "GET", "then": {"status": 200}}, "'api' is missing"),
    ({"path": "/x", "when": {"params.name": "x"}, "then": {"status": 200}}, "answers before zmock reads params.name"),
    ({"id": "header", "api": "*"}, "the id 'header' is that of directives"),
    ([], "a rule is a JSON object"),
    ("CreateZone", "a rule is a JSON object"),
]  # fmt: skip


@pytest.mark.usefixtures("unsimulated")
@each(("rule", "told"), REFUSED, ids=[json.dumps(row[0]) for row in REFUSED])
async def test_a_rule_that_could_never_match_is_refused(zmock, rule, told):
    status, body = await control(zmock, "POST", "rules", rule)
    assert (status, zmock.rules) == (400, [])
    assert told in body["error"] + body["hint"]


# which calls: what each of some calls meets, under a rule with `when`

CALLS = {
    "web-1": ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}}),
    "db-1": ("PUT", f"/vm-instances/{named('vm-db-1')}/actions", {"stopVmInstance": {}}),
    "create db": ("POST", "/zones", {"params": {"name": "db-9", "description": "d"}}),
    "create web": ("POST", "/zones", {"params": {"name": "web-9"}}),
    "one": ("GET", f"/vm-instances/{named('vm-web-1')}", None),
    "all": ("GET", "/vm-instances?q=name=web-1&q=state=Running&limit=5", None),
    "zones": ("GET", "/zones", None),
    "capacity": ("GET", f"/hosts/capacities/cpu-memory?hostUuids={named('host-1')}", None),
    "delete": ("DELETE", f"/zones/{named('zone-1')}?deleteMode=Permissive", None),
}
WHEN = [
    ({"method": "POST"}, {"create db", "create web"}),
    ({"method": "P*"}, {"create db", "create web", "web-1", "db-1"}),
    ({"path": "/zones"}, {"create db", "create web", "zones"}),
    ({"path": "/zstack/v1/zones"}, {"create db", "create web", "zones"}),
    ({"path": "/vm-instances/*"}, {"web-1", "db-1", "one"}),
    ({"header.user-agent": "*"}, set(CALLS)),
    ({"header.X-Job-UUID": "*"}, set()),
    ({"query.q": "name=web*"}, {"all"}),
    ({"query.limit": 5}, {"all"}),
    ({"query.deleteMode": "Permissive"}, {"delete"}),
    ({"params.name": "db-*"}, {"create db"}),
    ({"params.name": "db-*", "params.description": "d"}, {"create db"}),
    ({"params.name": "db-*", "params.description": "e"}, set()),
    ({"params.hostUuids": named("host-1")}, {"capacity"}),
    ({"params.uuid": named("vm-web-1")}, {"web-1", "one"}),
    ({"resource.name": "db-*"}, {"db-1"}),
    ({"resource.name": "web-[12]"}, {"web-1", "one"}),
    ({"resource.state": "Running", "resource.cpuNum": 1}, {"web-1", "one"}),
    ({"resource.name": "zone-1"}, {"delete"}),
]


@each(("when", "meets"), WHEN, ids=[json.dumps(row[0]) for row in WHEN])
async def test_a_rule_says_which_calls_it_is_for(when, meets):
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="*", when=when, then={"status": 418})
        assert {name for name, call in CALLS.items() if (await mock.request(*call))[0] == 418} == meets


@pytest.mark.parametrize(
    ("rule", "fires"),
    (
        ({"every": 3}, [3, 6, 9]),
        ({"every": 3, "skip": 1}, [4, 7, 10]),
        ({"every": 2, "times": 2}, [2, 4]),
        ({"skip": 2, "times": 1}, [3]),
        ({"probability": 1, "times": 2}, [1, 2]),
    ),
    ids=str,
)
async def test_a_rule_says_how_often_it_fires(zmock, rule, fires):
    await zmock.login()
    zmock.rule(api="PollJob", then={"status": 500}, **rule)
    assert [n for n in range(1, 11) if (await zmock.request("GET", "/api-jobs/x"))[0] == 500] == fires


async def test_a_rule_is_over_when_its_time_is(zmock):
    await zmock.login()
    rule = zmock.rule(api="QueryZone", ttl=60, then={"status": 500})
    await zmock.advance(59)
    assert (await zmock.request("GET", "/zones"))[0] == 500
    assert await zmock.advance(1) == ["rule-1 ends"]
    assert (await zmock.request("GET", "/zones"))[0] == 200
    assert (await control(zmock, "GET", "rules"))[1]["rules"] == [
        {"id": "rule-1", "api": "QueryZone", "ttl": 60, "then": {"status": 500}, "matches": 1, "hits": 1, "last": 2, "over": True}]  # fmt: skip
    assert rule.over


async def test_a_rule_with_a_ttl_that_is_taken_away_is_due_no_more(zmock):
    for path in ("rules/rule-1", "rules"):
        await control(zmock, "POST", "rules", {"api": "QueryZone", "ttl": 60})
        await control(zmock, "DELETE", path)
    assert await zmock.advance(60) == []


@pytest.mark.parametrize("passed", (30, 90))
async def test_a_ttl_goes_on_after_a_restart_and_in_a_snapshot(tmp_path, passed):
    settings = {"memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**settings) as mock:
        await control(mock, "POST", "rules", {"api": "QueryZone", "ttl": 60})
        await control(mock, "POST", "clock", {"advance": passed})
        await control(mock, "PUT", "snapshots/now", {})
        await control(mock, "POST", "snapshots/now/restore", {})
        assert mock.rules[0].over == (passed > 60)
    async with serve(**settings) as mock:
        assert mock.rules[0].over == (passed > 60)
        await mock.advance(60)
        assert mock.rules[0].over


@pytest.mark.parametrize(
    ("api", "glob"),
    (("CreateZone", "/zones"), ("CreateZone", "/v1/z*"), ("CreateZone", "/zstack/v1/zones"), ("DeleteZone", "/zones/?*"), ("*", "*/actions"),
     ("DeleteZone", "*[ab]*"), ("CreateZone", "*%6fnes"), ("PollJob", "/api-jobs/0*"), ("QueryZone", "/zones/*")),
)  # fmt: skip
async def test_a_path_that_a_call_can_have_is_taken(zmock, api, glob):
    assert (await control(zmock, "POST", "rules", {"api": api, "when": {"path": glob}}))[0] == 200


async def test_a_rule_for_a_path_that_no_call_has_is_taken_and_never_fires(zmock):
    await zmock.login()
    rule = zmock.rule(api="CreateZone", when={"path": "/hosts*"}, then={"status": 502})
    assert await new_zone(zmock) == ""
    assert zmock.never_fired() == [rule]


async def test_a_rule_knows_a_bounded_number_of_calls(zmock, monkeypatch):
    monkeypatch.setattr("zmock.MOST_SEEN", 10)
    rule = zmock.rule(api="PollJob", probability=0.5)
    for n in range(30):
        await zmock.request("GET", f"/api-jobs/{n}?a={n}")
    assert len(rule.seen) <= 10


async def test_a_rule_is_for_questions_too_that_were_answered_before(zmock, tmp_path):
    """Answers to queries are kept as they went out; no rule is passed over for that."""
    await zmock.login()
    told = [(await zmock.request("GET", "/zones"))[0] for _ in range(3)]
    zmock.rule(api="QueryZone", times=1, then={"status": 500})
    told += [(await zmock.request("GET", "/zones"))[0] for _ in range(3)]
    zmock.rest.faults.clear()
    await zmock.incident({"management-node-down": {}})
    with pytest.raises(aiohttp.ClientConnectionError):
        await zmock.request("GET", "/zones")
    assert told == [200, 200, 200, 500, 200, 200]


@each(
    ("api", "then", "manual", "server"),
    (
        ("PollJob", {"status": 202}, "location", b""),
        ("PollJob", {"status": 202, "body": None}, "location", b""),
        ("PollJob", {"status": 202, "body": ""}, b"", b""),
        ("PollJob", {"status": 202, "body": {"a": 1}}, b'{"a":1}', b'{"a":1}'),
        ("PollJob", {"status": 200}, b"{}", b""),
        ("PollJob", {"status": 204}, b"", b""),
        ("PollJob", {"status": 503}, b"", b""),
        ("CreateZone", {"status": 202}, "location", "location"),
        ("CreateZone", {"status": 202, "at": "after"}, "location", "location"),
        ("CreateZone", {"status": 502}, b"", b""),
        ("QueryZone", {"status": 200}, b"{}", b""),
        ("QueryZone", {"status": 202}, b"{}", b""),
    ),
)
@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_rule_that_says_only_a_status_has_the_body_of_the_dialect(dialect, api, then, manual, server):
    async with serve(dialect=dialect) as mock, aiohttp.ClientSession() as http:
        session, job = await mock.login(), "d0345d3ddcae485f8170572b15a2b581"
        if api == "PollJob":
            await mock.request("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": job})
        mock.rule(api=api, then=then)
        method, path = {"PollJob": ("GET", f"/api-jobs/{job}"), "CreateZone": ("POST", "/zones"), "QueryZone": ("GET", "/zones")}[api]
        body = {"params": {"name": "z"}} if method == "POST" else None
        async with http.request(method, mock.url + path, json=body, headers={"Authorization": f"OAuth {session}", "X-Job-UUID": job}) as answer:
            location = json.dumps({"location": f"{mock.url}/api-jobs/{job}"}, separators=(",", ":")).encode()
            expected = manual if dialect == "manual" else server
            assert (answer.status, await answer.read()) == (then["status"], location if expected == "location" else expected)
            assert answer.headers["X-ZMock-Rule"] == "rule-1; hit=1"


async def test_polls_are_only_for_rules_that_name_them(zmock):
    await zmock.login()
    zmock.rule(api="*", then={"status": 500})
    zmock.rule(api="P*", then={"status": 501})
    assert (await zmock.request("GET", "/api-jobs/x"))[0] == 404
    async with serve(delay="10") as other:
        await other.login()
        other.rule(api="PollJob", when={"resource.api": "CreateZone", "resource.state": "running"}, skip=1, times=1, then={"status": 502})
        jobs = [(await other.request("POST", f"/{kind}", {"params": params}))[1]["location"][-32:]
                for kind, params in (("zones", {"name": "z"}), ("disk-offerings", {"name": "d", "diskSize": 1}))]  # fmt: skip
        assert [(await other.request("GET", f"/api-jobs/{job}"))[0] for job in jobs * 3] == [202, 202, 502, 202, 202, 202]


# delays


@pytest.mark.parametrize(
    ("delay", "low", "median", "high"),
    (
        (3, 3, 3, 3),
        ({"uniform": [1, 3]}, 1, 2, 3),
        ({"normal": [1, 0.2]}, 0, 1, 2),
        ({"normal": [0, 1]}, 0, 0, 5),
        ({"lognormal": {"p50": 0.2, "p99": 3}}, 0, 0.2, 60),
        ({"recorded": [0.1, 3, 0.12]}, 0.1, 0.12, 3),
    ),
    ids=str,
)
async def test_a_delay_is_drawn_from_its_distribution(zmock, delay, low, median, high):
    rule = zmock.rule(api="QueryZone", delay=delay)
    told = [rule.decide(occasion(path=f"/{n}"), 1).delay for n in range(2000)]
    assert low <= min(told) <= max(told) <= high
    assert sorted(told)[1000] == pytest.approx(median, abs=0.1)
    if "lognormal" in json.dumps(delay):
        assert sorted(told)[1980] == pytest.approx(3, rel=0.3)


def occasion(path):
    return MatchedCall(QUERY_ZONE, "GET", path, "", {}, CIMultiDict(), {})


QUERY_ZONE = create_app()[WORLDS].main.rest.cloud.catalogue.apis["QueryZone"]


async def test_a_drawn_delay_holds_an_answer_up_on_the_clock(zmock):
    await zmock.login()
    zmock.rule(api="QueryZone", delay={"uniform": [10, 20]})
    asked = asyncio.create_task(zmock.request("GET", "/zones"))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    await zmock.advance(10)
    assert not asked.done()
    await zmock.advance(10)
    assert (await asked)[0] == 200


# reproducible


async def storm(mock, calls, order):
    """All calls at once, in that order: what each met, in words."""
    async def meet(n):
        status, _ = await mock.request(*calls[n])
        return n, status

    met = await asyncio.gather(*(meet(n) for n in order))
    return dict(met)


@pytest.mark.parametrize("interleavings", (4, pytest.param(50, marks=pytest.mark.slow)))
async def test_200_calls_meet_the_same_faults_in_any_interleaving(interleavings):
    calls = [("GET", f"/zones?q=name=z{n}&limit={n % 7}", None) for n in range(100)]
    calls += [("POST", "/zones", {"params": {"name": f"z{n}", "description": "d"}}) for n in range(90)]
    calls += [("PUT", "/management-nodes/actions", {"getVersion": {}})] * 5 + [("GET", "/api-jobs/x", None)] * 5
    order, random, faults = list(range(200)), Random(7), set()
    async with serve(cloud="empty") as mock:
        for _ in range(interleavings):
            await mock.reset()
            await mock.login()
            mock.rule(api="Query*", probability=0.3, then={"status": 502})
            mock.rule(api="*", probability=0.2, then={"status": 503})
            mock.rule(api="PollJob", probability=0.5, then={"status": 504})
            random.shuffle(order)
            met = await storm(mock, calls, order)
            distinct = [met[n] for n in range(190)]
            faults.add((*distinct, *sorted(met[n] for n in range(190, 195)), *sorted(met[n] for n in range(195, 200))))
            assert {202, 200, 502, 503} <= set(distinct)
    assert len(faults) == 1


@each("rule", ({"delay": delay} for delay in ({"uniform": [1, 3]}, {"normal": [1, 0.2]}, {"lognormal": {"p50": 0.2, "p99": 3}}, {"recorded": [1, 2, 3, 4]})))
def test_200_calls_meet_the_same_delays_in_any_order(rule):
    orders, random, delays = [[*range(200)] for _ in range(3)], Random(7), set()
    for order in orders:
        random.shuffle(order)
        faults = create_app()[WORLDS].main.rest.faults
        added = faults.add({"api": "QueryZone"} | rule)
        drawn = {n: added.decide(occasion(path=f"/{n}"), 1).delay for n in order}
        delays.add(tuple(drawn[n] for n in range(200)))
    assert len(delays) == 1 and len({*delays.pop()}) > 3


async def test_stubs_meet_the_same_chance_in_any_interleaving(zmock):
    calls = [("POST", f"/zstack/v1/x/{n % 20}", {"n": n // 20}) for n in range(60)]
    order, random, faults = [*range(60)], Random(7), set()
    for _ in range(5):
        await zmock.reset()
        zmock.rule(path="/zstack/v1/x/*", probability=0.5, then={"status": 299})
        random.shuffle(order)
        met = dict(zip(order, await asyncio.gather(*(answered(zmock, *calls[n]) for n in order))))
        faults.add(tuple(met[n][0] for n in range(60)))
    assert len(faults) == 1 and {*faults.pop()} == {299, 404}


@pytest.mark.parametrize("other", ({"seed": 2}, {"rule": "b"}))
async def test_another_seed_or_rule_meets_others(other):
    async def faults(seed=1, rule="a"):
        async with serve(seed=seed) as mock:
            await mock.login()
            mock.rule(id=rule, api="QueryZone", probability=0.5, then={"status": 502})
            return [(await mock.request("GET", f"/zones?limit={n}"))[0] for n in range(30)]

    first, again, another = await faults(), await faults(), await faults(**other)
    assert first == again != another


async def test_the_same_rules_again_meet_the_same_faults(zmock):
    await zmock.login()
    met = []
    for _ in range(2):
        zmock.rule(api="QueryZone", probability=0.5, then={"status": 502})
        met.append([(await zmock.request("GET", f"/zones?limit={n}"))[0] for n in range(20)])
        await control(zmock, "DELETE", "rules")
    assert met[0] == met[1] and {200, 502} == set(met[0])


async def test_the_same_call_again_is_another_chance(zmock):
    await zmock.login()
    zmock.rule(api="QueryZone", probability=0.5, then={"status": 502})
    assert {(await zmock.request("GET", "/zones"))[0] for _ in range(30)} == {200, 502}


async def test_the_polls_of_two_jobs_meet_the_same_faults_whoever_is_first(zmock):
    async def statuses(first, second):
        await zmock.reset()
        await zmock.login()
        zmock.rule(api="PollJob", probability=0.5, then={"status": 502})
        jobs = {name: (await zmock.request("POST", "/zones", {"params": {"name": name}}))[1]["location"][-32:] for name in (first, second)}
        await zmock.advance(1)
        return {name: [(await zmock.request("GET", f"/api-jobs/{jobs[name]}"))[0] for _ in range(12)] for name in jobs}

    assert await statuses("a", "b") == await statuses("b", "a")


# magic


async def test_magic_in_a_name_does_it_to_what_is_made(zmock):
    await zmock.login()
    for name, code in (("z #zmock fail", "SYS.1006"), ("#zmock fail=HOST.1010 z", "HOST.1010"), ("z", ""), ("zmock fail", "")):
        try:
            await zmock.create("CreateZone", name=name)
            told = ""
        except RuntimeError as error:
            told = str(error).partition(":")[0]
        assert (name, told) == (name, code)
    assert {zone["name"] for zone in await zmock.query("zones", "name~=%z%", "name!=zone-1")} == {"z", "zmock fail"}
    assert [call.rule for call in zmock.calls("CreateZone")] == ["magic; hit=1", "magic; hit=2", "", ""]


async def test_magic_may_be_in_a_description_and_may_take_long(zmock):
    await zmock.login()
    before = zmock.clock.now()
    await zmock.create("CreateZone", name="z", description="slow: #zmock delay=30")
    assert zmock.clock.now() - before == 30


async def test_magic_holds_a_job_until_it_is_let_go(zmock):
    await zmock.login()
    _, body = await zmock.request("POST", "/zones", {"params": {"name": "#zmock hold"}})
    job = body["location"][-32:]
    await zmock.advance(1e6)
    assert [(row["uuid"], row["state"], row["due"]) for row in zmock.jobs()] == [(job, "held", None)]
    assert (await control(zmock, "POST", f"jobs/{job}", {"do": "finish"}))[1]["state"] == "succeeded"
    await zmock.login()
    assert len(await zmock.query("zones", "name~=#zmock%")) == 1


async def test_magic_goes_with_the_object_and_an_update_is_the_way_in_and_out(zmock):
    vm = named("vm-web-1")
    await zmock.call("UpdateVmInstance", uuid=vm, description="#zmock fail=HOST.1010")
    with pytest.raises(RuntimeError, match=r"HOST\.1010"):
        await zmock.act("vm-instances", vm, "stopVmInstance")
    assert (await zmock.query("vm-instances", f"uuid={vm}"))[0]["state"] == "Running"  # reading is spared
    await zmock.call("UpdateVmInstance", uuid=vm, description="fine")
    assert (await zmock.act("vm-instances", vm, "stopVmInstance"))["state"] == "Stopped"


@pytest.mark.parametrize(
    ("name", "told"),
    (
        ("#zmock fial", "did you mean fail?"), ("#zmock fail=HOST.101", "did you mean HOST.1010?"), ("#zmock delay", "delay=SECONDS"),
        ("#zmock delay=soon", "delay=SECONDS"), ("#zmock hold=on", "hold=SECONDS"), ("#zmock hold=-1", "is a number from 0"),
    ),
)  # fmt: skip
async def test_magic_that_is_none_does_nothing_and_says_so(zmock, name, told):
    await zmock.create("CreateZone", name=name)
    assert told in "; ".join(zmock.calls("CreateZone")[0].hints)


async def test_magic_can_be_turned_off_and_rules_come_first(zmock):
    async with serve(no_magic=True) as mock:
        assert (await mock.create("CreateZone", name="#zmock fail"))["name"] == "#zmock fail"
    zmock.rule(api="CreateZone", times=1, then={"error": "SYS.1001"})
    with pytest.raises(RuntimeError, match=r"SYS\.1001"):
        await zmock.create("CreateZone", name="#zmock fail=HOST.1010")


# stages of a virtual machine

VM = {"name": "v", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")],
      "dataDiskOfferingUuids": [named("disk-100g")]}  # fmt: skip


async def residue(mock):
    """What there is of the virtual machine v: its state, whether on a host, its volumes, its addresses."""
    found = await mock.query("vm-instances", "name=v")
    if not found:
        return None
    vm = found[0]
    return vm["state"], "hostUuid" in vm, len(vm["allVolumes"]), [("ip" in nic) for nic in vm["vmNics"]]


@pytest.mark.parametrize(
    ("stage", "left"),
    (
        ("host", ("Starting", False, 0, [])),
        ("volume", ("Starting", True, 0, [])),
        ("nic", ("Starting", True, 2, [])),
        ("start", ("Starting", True, 2, [True])),
    ),
)
async def test_a_creation_that_fails_at_a_stage_leaves_what_the_stages_before_it_did(zmock, stage, left):
    await zmock.login()
    before = await everything(zmock)
    for rollback in (True, False):
        rule = zmock.rule(api="CreateVmInstance", times=1, then={"error": "HOST.1010", "stage": stage, "rollback": rollback})
        with pytest.raises(RuntimeError, match=r"SYS\.1006"):
            await zmock.create("CreateVmInstance", **VM)
        assert rule.hits == 1
        assert await residue(zmock) == (None if rollback else left)
        assert rollback is (await everything(zmock) == before)
    uuid = (await zmock.query("vm-instances", "name=v"))[0]["uuid"]  # and it can be cleaned up
    await zmock.delete("vm-instances", uuid)
    await zmock.act("vm-instances", uuid, "expungeVmInstance")
    assert await residue(zmock) is None


async def everything(mock):
    """All that a failed creation could have taken: capacities, addresses, volumes, nics."""
    found = {}
    for kind, fields in (("hosts", "availableCpuCapacity availableMemoryCapacity"), ("primary-storage", "availableCapacity"),
                         ("volumes", "uuid"), ("vm-instances/nics", "uuid ip"), ("vm-instances", "uuid state")):  # fmt: skip
        found[kind] = [[item.get(field) for field in fields.split()] for item in await mock.query(kind)]
    return found


async def test_the_error_of_a_stage_is_the_cause_of_the_calls_own_and_comes_when_the_job_is_due():
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="CreateVmInstance", then={"error": "HOST.1010", "details": "gone", "stage": "nic"})
        _, body = await mock.request("POST", "/vm-instances", {"params": VM})
        job = "/api-jobs/" + body["location"][-32:]
        await mock.advance(4)
        assert await residue(mock) == ("Starting", True, 2, [])
        await mock.advance(2)
        assert await residue(mock) is None and (await mock.request("GET", job))[0] == 202
        await mock.advance(4)
        status, body = await mock.request("GET", job)
        assert (status, body["error"]["code"], body["error"]["cause"]["code"], body["error"]["cause"]["details"]) == (503, "SYS.1006", "HOST.1010", "gone")


@pytest.mark.parametrize(("api", "stage", "state"), (("StartVmInstance", "host", "Starting"), ("StartVmInstance", "nic", "Starting"), ("StartVmInstance", "start", "Starting")))
async def test_a_start_can_fail_at_its_stages_too(zmock, api, stage, state):
    for rollback in (True, False):
        zmock.rule(api=api, times=1, then={"error": "HOST.1010", "stage": stage, "rollback": rollback})
        with pytest.raises(RuntimeError, match=r"VM\.1001"):
            await zmock.act("vm-instances", named("vm-ci-1"), "startVmInstance")
        vm = (await zmock.query("vm-instances", "name=ci-1"))[0]
        assert (vm["state"], "hostUuid" in vm) == (("Stopped", False) if rollback else (state, stage != "host"))


# held, lost and expired jobs


async def held(mock, *calls):
    return [(await mock.request(*call))[1]["location"][-32:] for call in calls]


@pytest.mark.parametrize(("what", "status", "state"), (("finish", 200, "Stopped"), ("fail", 503, "Running"), ("expire", 404, "Running")))
async def test_a_held_job_ends_by_hand_alone_and_then_the_next_in_line_goes_on(what, status, state):
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="StopVmInstance", times=1, then={"job": "hold"})
        stop, update = await held(mock, CALLS["web-1"], ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"updateVmInstance": {"name": "w"}}))
        await mock.advance(1e6)
        await mock.login()
        assert [job["state"] for job in mock.jobs()] == ["held", "running"]
        assert (await mock.query("vm-instances", f"uuid={named('vm-web-1')}"))[0]["state"] == "Stopping"
        mock.rest.faults.clear()  # a rule that is gone lets nothing go
        await mock.advance(10)
        assert [job["state"] for job in mock.jobs()] == ["held", "running"]
        await control(mock, "POST", f"jobs/{stop}", {"do": what})
        assert (await mock.request("GET", f"/api-jobs/{stop}"))[0] == status
        await mock.advance(10)
        assert (await mock.request("GET", f"/api-jobs/{update}"))[0] == 200
        vm = (await mock.query("vm-instances", f"uuid={named('vm-web-1')}"))[0]
        assert (vm["name"], vm["state"]) == ("w", state)
        await mock.advance(1000)
        assert mock.cloud.jobs.progress == {}, "nobody is told any more how far it came"


@pytest.mark.parametrize("what", ("finish", "fail"))
async def test_magic_that_holds_and_fails_holds_until_it_is_let_go(zmock, what):
    await zmock.login()
    await zmock.request("POST", "/zones", {"params": {"name": "#zmock fail #zmock hold"}})
    await zmock.advance(7200)
    job = zmock.jobs()[0]["uuid"]
    assert (zmock.jobs()[0]["state"], (await zmock.request("GET", f"/api-jobs/{job}"))[0]) == ("held", 202)
    assert (await control(zmock, "POST", f"jobs/{job}", {"do": what}))[1]["state"] == "failed"


WHOLE = "x" * 3000
HOST = {"name": "h", "managementIp": "10.10.0.50", "username": "root", "clusterUuid": named("cluster-1")}


@pytest.mark.parametrize(
    ("api", "when", "call"),
    (
        ("CreateZone", {"params.systemTags": "a::*"}, ("POST", "/zones", {"params": {"name": "z"}, "systemTags": ["a::b"]})),
        ("CreateZone", {"params.userTags": "mine"}, ("POST", "/zones", {"params": {"name": "z"}, "userTags": ["yours", "mine"]})),
        ("SubmitLongJob", {"params.jobData": "*y"}, ("POST", "/longjobs", {"params": {"jobName": "APIAddImageMsg", "jobData": WHOLE + "y"}})),
        ("AddKVMHost", {"params.password": "secret"}, ("POST", "/hosts/kvm", {"params": HOST | {"password": "secret"}})),
    ),
    ids=str,
)
async def test_rules_are_held_against_all_that_was_given(zmock, api, when, call):
    await zmock.login()
    rule = zmock.rule(api=api, when=when, then={"status": 502})
    assert (await zmock.request(*call))[0] == 502
    assert rule.hits == 1 and "secret" not in str(zmock.calls())


async def test_calls_that_differ_in_their_tags_or_far_into_a_text_are_not_the_same(zmock):
    await zmock.login()
    rule = zmock.rule(api="*", probability=0.5)
    for job in ("1", "2"):
        await zmock.request("POST", "/longjobs", {"params": {"jobName": "APIAddImageMsg", "jobData": WHOLE + job}})
    for tags in ({}, {"userTags": ["mine"]}):
        await zmock.request("POST", "/zones", {"params": {"name": "z"}} | tags)
    assert [*rule.seen.values()] == [1, 1, 1, 1]


async def test_a_reset_lets_go_of_held_jobs_for_good(zmock):
    await zmock.login()
    zmock.rule(api="CreateVmInstance", then={"job": "hold"})
    await held(zmock, ("POST", "/vm-instances", {"params": VM}))
    await zmock.reset()
    await zmock.advance(1e6)
    assert (zmock.jobs(), await residue(zmock)) == ([], None)


async def test_a_job_that_is_to_expire_is_gone_when_it_is_finished_by_hand(zmock):
    await zmock.login()
    zmock.rule(api="CreateZone", delay=10, then={"job": "expire"})
    (job,) = await held(zmock, CALLS["create db"])
    status, told = await control(zmock, "POST", f"jobs/{job}", {"do": "finish"})
    assert (status, told["uuid"], told["state"], zmock.jobs()) == (200, job, "expired", [])
    assert len(await zmock.query("zones", "name=db-9")) == 1


async def test_a_lost_job_cannot_be_ended_but_forgotten(zmock):
    await zmock.login()
    zmock.rule(api="CreateZone", then={"job": "lose"})
    (job,) = await held(zmock, CALLS["create db"])
    assert [(row["uuid"], row["state"]) for row in zmock.jobs()] == [(job, "lost")]
    assert [(await control(zmock, "POST", f"jobs/{job}", {"do": what}))[0] for what in ("finish", "fail", "expire")] == [409, 409, 200]
    assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == 404


@pytest.mark.parametrize("then", ({"job": "hold"}, {"job": "lose"}))
async def test_the_handle_does_not_wait_for_what_will_not_come(zmock, then):
    zmock.rule(api="StopVmInstance", then=then)
    with pytest.raises(RuntimeError, match="will not end by itself"):
        await zmock.act("vm-instances", named("vm-web-1"), "stopVmInstance")
    if then["job"] == "hold":
        with pytest.raises(RuntimeError, match="will not end by itself"):
            await zmock.act("vm-instances", named("vm-web-1"), "rebootVmInstance")


# files


def write(file, *rules):
    file.write_text(json.dumps(rules))


async def test_a_rules_file_is_read_again_when_it_changes(tmp_path):
    file, ONE, TWO = tmp_path / "rules.json", {"id": "one", "api": "QueryZone", "then": {"status": 501}}, {"api": "QueryHost", "then": {"status": 502}}
    write(file, ONE, TWO)
    async with serve(rules=(str(file),)) as mock:
        await mock.login()
        mock.rule(id="mine", api="QueryZone", then={"status": 503})
        assert [(await mock.request("GET", path))[0] for path in ("/zones", "/hosts")] == [501, 502]
        write(file, TWO, {"id": "three", "api": "QueryImage", "then": {"status": 504}})
        assert [(await mock.request("GET", path))[0] for path in ("/zones", "/hosts", "/images")] == [503, 502, 504]
        assert [(rule.id, rule.hits) for rule in mock.rules] == [("rule-1", 2), ("three", 1), ("mine", 1)]


async def test_equal_rules_of_a_file_count_each_for_itself_and_go_on_when_it_is_read_again(tmp_path):
    file, twice = tmp_path / "rules.json", {"api": "QueryZone", "times": 1, "when": None, "then": {"status": 502}}
    write(file, twice, twice)
    async with serve(rules=(str(file),)) as mock:
        await mock.login()
        for n in range(3):
            assert (await mock.request("GET", "/zones"))[0] == (502 if n < 2 else 200)
            write(file, *[{"api": "QueryHost", "delay": n}] * (n % 2), twice, twice)
        assert [rule.hits for rule in mock.rules if rule.definition["api"] == "QueryZone"] == [1, 1]
        assert len({rule.id for rule in mock.rules}) == len(mock.rules)


@pytest.mark.parametrize("text", ("{", "{}", '[{"api": "QueryZones"}]', '[{"id": "mine", "api": "*"}]', None))
async def test_a_rules_file_that_cannot_be_used_any_more_changes_nothing_and_says_so(tmp_path, text, caplog):
    file = tmp_path / "rules.json"
    write(file, {"id": "one", "api": "QueryZone", "then": {"status": 501}})
    async with serve(rules=(str(file),)) as mock:
        await mock.login()
        mock.rule(id="mine", api="QueryHost", delay=0)
        file.write_text(text) if text else file.unlink()
        assert (await mock.request("GET", "/zones"))[0] == 501
        told = (await control(mock, "GET", "rules"))[1]
        assert [rule["id"] for rule in told["rules"]] == ["one", "mine"] and str(file) in told["problems"]
        assert "cannot use the rules in" in caplog.text
        write(file)
        assert (await mock.request("GET", "/zones"))[0] == 200
        assert (await control(mock, "GET", "rules"))[1].keys() == {"rules"}


@pytest.mark.parametrize("text", ("{", "{}", '[{"api": "CreateZones"}]', "[1]"))
async def test_a_rules_file_that_cannot_be_used_is_an_error_of_the_start(tmp_path, text):
    file = tmp_path / "rules.json"
    file.write_text(text)
    with pytest.raises(Exception, match="cannot use the rules in") as error:
        serve(rules=(str(file),))
    assert str(file) in str(error.value)


def test_the_apis_of_a_pattern_are_searched_once(monkeypatch):
    faults = create_app()[WORLDS].main.rest.faults
    faults.add({"api": "Create*"})
    monkeypatch.setattr("zmock.fnmatchcase", None)
    for api in ("Create*", "CreateZone"):
        assert "CreateZone" in faults.add({"api": api}).moments


@pytest.mark.parametrize(("dialect", "status"), (("manual", 400), ("server", 200)))
async def test_a_rule_on_another_method_is_right_where_the_server_runs_an_api_for_any(dialect, status):
    async with serve(dialect=dialect) as mock:
        answered, _ = await control(mock, "POST", "rules", {"api": "CreateZone", "when": {"method": "PUT"}, "then": {"error": "SYS.1006"}})
        refused, _ = await control(mock, "POST", "rules", {"api": "CreateZone", "when": {"method": "PATCH"}})
        assert (answered, refused) == (status, 400)



def test_a_rule_of_a_test_that_json_cannot_hold_is_refused(zmock_server):
    with pytest.raises(ValueError, match="the rule cannot be said in JSON"):
        zmock_server.rule(api="*", then={"status": 500, "body": [float("nan")]})


def test_the_hint_on_then_has_each_key_behind_its_owner():
    parts = dict(re.findall(r"with (\w+): ([\w, ]+)", HINT_ON_THEN))
    assert {(key, owner) for owner, keys in parts.items() for key in keys.split(", ")} == {*OWNERS.items()}


# anything at all

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=6),
    st.sampled_from(["*", "CreateZone", "QueryZone", "PollJob", "Create*", "hold", "reset", "SYS.1006", "start", "accept", "job", "after", "late"]),
)  # fmt: skip
WORDS = [*DISTRIBUTIONS, "p50", "p99", *THEN, *OWNERS, "at", "method", "path", "header.x", "query.q", "params.name", "resource.name", "x"]
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3), max_leaves=6)
TOLD = st.one_of(
    VALUES,
    st.fixed_dictionaries({"api": st.sampled_from(["*", "CreateZone", "CreateVmInstance", "PollJob"])},
                          optional={key: VALUES for key in [*RULE_KEYS, "x"] if key != "api"}),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(TOLD)
def test_whatever_is_told_is_a_rule_that_works_or_is_refused_in_a_sentence(told):
    faults = FUZZED[WORLDS].main.rest.faults
    faults.clear()
    try:
        rule = faults.add(told)
    except ValueError as error:
        assert len(str(error)) > 10 and faults.rules == []
        return
    assert json.loads(json.dumps(rule.as_json())) | {"id": rule.id, "matches": 0, "hits": 0, "last": None} == rule.as_json()
    for api in ("CreateZone", "QueryZone", "PollJob"):
        fault = faults.decide(MatchedCall(faults.apis[api], "GET", "/zstack/v1/zones", "q=a&b", {"name": "x"}, CIMultiDict({"X-Web-Hook": "x"}), {"name": "y"}))
        assert fault is NO_FAULT or (fault.at in ("accept", "job", "after") and fault.delay >= 0)
        assert fault.answer is None or isinstance(raw_answer(*fault.answer).body, bytes)


FUZZED = create_app()


async def test_a_rule_that_only_delays_is_not_blamed_for_the_error_of_a_call(zmock):
    await zmock.login()
    zmock.rule(api="AddIpRange", delay=2)
    private = (await zmock.query("l3-networks", f"uuid={named('l3-private')}"))[0]
    of_another = {name: private["ipRanges"][0][name] for name in ("startIp", "endIp", "netmask", "gateway")}
    with pytest.raises(RuntimeError, match="overlap|conflict|intersect"):
        await zmock.call("AddIpRange", l3NetworkUuid=private["uuid"], name="again", **of_another)
    added, *polls = [call for call in zmock.calls() if call.api in ("AddIpRange", "PollJob")]
    assert added.rule.startswith("rule-1") and polls[-1].status == 503
    assert {poll.rule for poll in polls} == {""}


async def test_a_map_in_a_query_string_that_is_a_text_too_is_a_bad_request(zmock):
    await zmock.login()
    path = f"/l3-networks/{named('l3-private')}/network-services?networkServices=x&networkServices.k=v"
    status, body = await zmock.request("DELETE", path)
    assert (status, "duplicate map query parameter[networkServices.k]" in body["error"]["details"]) == (400, True)


# trouble from the request itself


async def answered(mock, method, path, body=None, **headers):
    """A call with headers in which - is _: the status, the headers and the body of the answer."""
    sent = {"Authorization": f"OAuth {mock.session}", "Origin": "http://page"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.request(method, mock.base + path, json=body, headers=sent) as answer:
        return answer.status, answer.headers, await answer.text()


ZONE = ("POST", "/zstack/v1/zones", {"params": {"name": "z"}})
ZONES = ("GET", "/zstack/v1/zones")


async def ended(mock, text):
    """The end of a job whose 202 has this body: the status of the last poll and its body."""
    return await mock.request("GET", "/api-jobs/" + json.loads(text)["location"][-32:])


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_header_makes_a_call_fail_at_once_or_its_job(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        status, headers, text = await answered(mock, *ZONES, X_ZMock_Fault="SYS.1006")
        assert (status, json.loads(text)["error"]["code"]) == (503, "SYS.1006")
        assert (headers["X-ZMock-Rule"], headers["Access-Control-Allow-Origin"]) == ("header; hit=1", "http://page")
        status, _, text = await answered(mock, *ZONE, X_ZMock_Fault="HOST.1010")
        await mock.advance(0)
        assert (status, (await ended(mock, text))[1]["error"]["code"]) == (202, "HOST.1010")
        assert await mock.query("zones", "name=z") == []
        assert [call.rule for call in mock.calls() if call.api in ("QueryZone", "CreateZone")] == ["header; hit=1", "header; hit=2", ""]
        assert mock.calls("PollJob")[-1].rule == "header; hit=2"


@each(
    ("headers", "seconds", "status"),
    (
        ({"X_ZMock_Delay": "10"}, 10, 200),
        ({"X_ZMock_Hold": "10"}, 10, 200),
        ({"X_ZMock_Hold": "4", "X_ZMock_Delay": "6.5"}, 10.5, 200),
        ({"X_ZMock_Hold": "10", "X_ZMock_Fault": "SYS.1006"}, 10, 503),
        ({"x_zmock_hold": "0", "x_zmock_delay": "0"}, 0, 200),
    ),
)
@pytest.mark.parametrize("call", (ZONE, ZONES), ids=("job", "answer"))
async def test_a_header_makes_a_job_or_an_answer_wait(zmock, call, headers, seconds, status):
    await zmock.login()
    sent = asyncio.create_task(answered(zmock, *call, **headers))
    while not (zmock.clock.sleepers or sent.done()):
        await asyncio.sleep(0)
    if seconds:
        await zmock.advance(seconds - 1)
        is_over = sent.done() if call is ZONES else (await ended(zmock, (await sent)[2]))[0] != 202
        assert not is_over
    await zmock.advance(1)
    got, _, text = await sent
    assert (got if call is ZONES else (await ended(zmock, text))[0]) == status


async def test_a_header_on_a_poll_is_for_that_poll(zmock):
    await zmock.login()
    (job,) = await held(zmock, CALLS["create db"])
    await zmock.advance(1)
    polls = [(await answered(zmock, "GET", f"/zstack/v1/api-jobs/{job}", **headers))[0] for headers in ({"X_ZMock_Fault": "SYS.1006"}, {})]
    assert polls == [503, 200]


@each(
    ("headers", "told"),
    (
        ({"X_ZMock_Fault": "HOST.101"}, "'X-ZMock-Fault' is a code of ZStack, not 'HOST.101', did you mean HOST.1010?"),
        ({"X_ZMock_Fault": ""}, "'X-ZMock-Fault' is a code of ZStack"),
        ({"X_ZMock_Delay": "soon"}, "'X-ZMock-Delay' is a number from 0 to 999999999, not 'soon'"),
        ({"X_ZMock_Delay": "-1"}, "'X-ZMock-Delay' is a number from 0 to 999999999, not '-1'"),
        ({"X_ZMock_Hold": ""}, "'X-ZMock-Hold' is a number from 0"),
        ({"X_ZMock_Hold": "nan"}, "'X-ZMock-Hold' is a number from 0 to 999999999, not 'nan'"),
        ({"X_ZMock_Fault": "SYS.1006", "X_ZMock_Hold": "1s"}, "'X-ZMock-Hold' is a number from 0 to 999999999, not '1s'"),
    ),
)
@pytest.mark.parametrize("call", (ZONE, ZONES), ids=("job", "answer"))
async def test_a_header_that_asks_for_nothing_is_a_bad_request_and_changes_nothing(zmock, call, headers, told):
    await zmock.login()
    status, came, text = await answered(zmock, *call, **headers)
    assert (status, told in came["X-ZMock-Hint"], told in json.loads(text)["error"]["details"]) == (400, True, True)
    assert await zmock.query("zones", "name=z") == []


async def test_headers_win_over_rules_and_magic_and_no_magic_turns_them_off(zmock):
    await zmock.login()
    rule = zmock.rule(api="*Zone", then={"status": 502})
    assert (await answered(zmock, *ZONES, X_ZMock_Fault="SYS.1006"))[0] == 503
    assert (await answered(zmock, *ZONE, X_ZMock_Delay="1"))[0] == 202
    assert (await answered(zmock, "POST", "/zstack/v1/zones", {"params": {"name": "#zmock fail"}}, X_ZMock_Delay="1"))[0] == 202
    assert (rule.matches, rule.hits) == (0, 0)
    await zmock.advance(1)
    assert len(await zmock.query("disk-offerings")) and zmock.jobs()[-1]["state"] == "succeeded"
    async with serve(no_magic=True) as mock:
        await mock.login()
        for _ in range(2):
            status, headers, _ = await answered(mock, *ZONES, X_ZMock_Fault="none")
            assert (status, headers["X-ZMock-Hint"]) == (200, "--no-magic: nothing reads X-ZMock-Fault, X-ZMock-Delay, X-ZMock-Hold")
        mock.rule(api="QueryZone", then={"status": 502})
        assert (await answered(mock, *ZONES, X_ZMock_Fault="SYS.1006"))[0] == 502


async def test_an_answer_that_was_ready_is_not_sent_to_a_call_that_asks_for_trouble(zmock):
    await zmock.login()
    told = [(await answered(zmock, *ZONES, **headers))[0] for headers in ({}, {}, {"X_ZMock_Fault": "SYS.1006"}, {})]
    assert told == [200, 200, 503, 200]


async def test_a_misspelt_header_is_hinted(zmock):
    await zmock.login()
    for call in (ZONE, ZONES, ZONES):  # the second answer of a query may be ready
        status, headers, _ = await answered(zmock, *call, X_ZMock_Falut="SYS.1006")
        assert status < 300 and "no api reads the header X-ZMock-Falut, did you mean X-ZMock-Fault?" in headers["X-ZMock-Hint"]
        assert "X-ZMock-Rule" not in headers


async def test_a_browser_may_send_the_headers(zmock):
    asked = {"Origin": "http://localhost:5173", "Access_Control_Request_Method": "POST"}
    _, headers, _ = await answered(zmock, "OPTIONS", "/zstack/v1/zones", **asked)
    assert {"X-ZMock-Fault", "X-ZMock-Delay", "X-ZMock-Hold"} <= {*headers["Access-Control-Allow-Headers"].split(", ")}


# a hold that ends by itself


async def test_a_hold_ends_after_its_time_and_the_job_goes_on_at_its_own_pace():
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="StopVmInstance", then={"job": "hold", "for": 60})
        (job,) = await held(mock, CALLS["web-1"])
        await mock.advance(59)
        assert mock.jobs()[0]["state"] == "held"
        assert await mock.advance(1) == [f"StopVmInstance {job} is released"]
        assert mock.jobs()[0]["state"] == "running"
        await mock.advance(9)
        assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 202
        await mock.advance(1)
        assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 200


@pytest.mark.parametrize("what", ("finish", "fail", "expire", "release", "hold"))
async def test_a_hold_that_was_ended_or_renewed_by_hand_is_released_no_more(what):
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="StopVmInstance", then={"job": "hold", "for": 60})
        (job,) = await held(mock, CALLS["web-1"])
        if what == "hold":
            await control(mock, "POST", f"jobs/{job}", {"do": "release"})
        await control(mock, "POST", f"jobs/{job}", {"do": what})
        assert not [timer.name for timer in mock.clock.awaited_timers() if timer.name.endswith("released")]
        await mock.advance(1000)
        states = {"finish": "succeeded", "fail": "failed", "expire": None, "release": "succeeded", "hold": "held"}
        assert [row["state"] for row in mock.jobs()] == [state for state in [states[what]] if state]


async def test_a_call_of_the_handle_waits_for_the_end_of_a_hold(zmock):
    zmock.rule(api="StopVmInstance", then={"job": "hold", "for": 60})
    before = zmock.clock.now()
    assert (await zmock.act("vm-instances", named("vm-web-1"), "stopVmInstance"))["state"] == "Stopped"
    assert zmock.clock.now() - before == 60


# magic that a GUI can release

RENAMED = {"name": "w"}


@each(
    ("where", "update", "state"),
    (
        ("name", RENAMED, "running"),
        ("description", {"description": "fine"}, "running"),
        ("description", RENAMED, "held"),
        ("name", {"name": "still #zmock hold"}, "held"),
        ("name", {"name": "v #zmock delay=1"}, "running"),
    ),
)
async def test_an_update_that_takes_the_directive_away_releases_the_job(where, update, state):
    async with serve(delay="10") as mock:
        vm = named("vm-web-1")
        await mock.call("UpdateVmInstance", uuid=vm, **{where: "x #zmock hold"})
        (stop,) = await held(mock, CALLS["web-1"])
        other = (await held(mock, ("POST", "/zones", {"params": {"name": "#zmock hold"}})))[0]
        await mock.advance(100)
        path = f"/vm-instances/{vm}/actions"
        (renaming,) = await held(mock, ("PUT", path, {"updateVmInstance": update}))
        states = {row["uuid"]: row["state"] for row in mock.jobs()}
        assert (states[stop], states[other]) == (state, "held")
        await mock.advance(20)
        assert (await mock.request("GET", f"/api-jobs/{renaming}"))[0] == (202 if state == "held" else 200)


async def test_a_machine_that_is_held_while_it_is_made_goes_on_when_it_is_renamed(zmock):
    await zmock.login()
    (job,) = await held(zmock, ("POST", "/vm-instances", {"params": VM | {"name": "v #zmock hold"}}))
    vm = (await zmock.query("vm-instances", "name~=v #%"))[0]
    assert vm["state"] == "Starting"
    await zmock.call("UpdateVmInstance", uuid=vm["uuid"], name="v")
    await zmock.advance(1)
    assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == 200
    assert (await residue(zmock))[0] == "Running"


async def test_magic_holds_for_a_time(zmock):
    before = zmock.clock.now()
    await zmock.create("CreateZone", name="#zmock hold=30")
    assert zmock.clock.now() - before == 30


# patched answers


@each(
    ("body", "patch", "patched"),
    (  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}), ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]), ({"a": "b"}, ["c"], ["c"]), ({"a": "foo"}, None, None), ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}), ([1, 2], {"a": "b", "c": None}, {"a": "b"}), ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ),
)  # fmt: skip
def test_a_patch_is_that_of_rfc_7396(body, patch, patched):
    before = json.dumps(body)
    assert (merged(body, patch), json.dumps(body)) == (patched, before)


async def test_a_patch_changes_the_answer_but_not_the_cloud(zmock):
    await zmock.login()
    zmock.rule(api="QueryVmInstance", when={"query.limit": 1}, then={"merge": {"total": 7, "inventories": []}})
    zmock.rule(api="QueryVmInstance", then={"merge": {"inventory": {"state": "Moved", "name": None, "new": {"a": [1]}}}})
    zmock.rule(api="GetVersion", then={"merge": {"version": "9"}})
    zmock.rule(api="CreateZone", times=1, then={"merge": {"location": "http://elsewhere"}, "at": "accept"})
    path = f"/vm-instances/{named('vm-web-1')}"
    vm = (await zmock.request("GET", path))[1]["inventory"]
    assert (vm["state"], vm["new"], "name" in vm, vm["uuid"]) == ("Moved", {"a": [1]}, False, named("vm-web-1"))
    assert await zmock.request("GET", "/vm-instances?limit=1") == (200, {"inventories": [], "total": 7})
    assert (await zmock.request("PUT", "/management-nodes/actions", {"getVersion": {}}))[1]["version"] == "9"
    assert (await zmock.request("POST", "/zones", {"params": {"name": "z"}})) == (202, {"location": "http://elsewhere"})
    await control(zmock, "DELETE", "rules")
    assert (await zmock.request("GET", path))[1]["inventory"]["state"] == "Running"


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_patch_of_a_body_that_is_no_json_makes_one(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        mock.rule(api="PollJob", then={"merge": {"error": {"hint": "gone"}}})
        status, _, text = await answered(mock, "GET", "/zstack/v1/api-jobs/x")
        assert (status, json.loads(text)["error"]["hint"]) == (404, "gone")


@pytest.mark.parametrize("memory", (True, False))
async def test_a_patch_changes_the_result_of_a_job_in_every_poll(tmp_path, memory):
    async with serve(memory=memory, data=str(tmp_path / "cloud")) as mock:
        await mock.login()
        rule = {"api": "[CD]*Zone", "then": {"merge": {"inventory": {"name": None, "type": "odd"}, "error": {"details": "why"}}}}
        assert (await control(mock, "POST", "rules", rule))[0] == 200
        make = (await held(mock, ("POST", "/zones", {"params": {"name": "z"}})))[0]
        fail = (await held(mock, ("DELETE", "/zones/" + "0" * 32)))[0]
        await mock.advance(0)
        for _ in range(2):
            status, body = await mock.request("GET", f"/api-jobs/{make}")
            assert (status, body["inventory"]["type"], "name" in body["inventory"]) == (200, "odd", False)
        status, body = await mock.request("GET", f"/api-jobs/{fail}")
        assert body["error"]["details"] == "why"
        assert {call.rule for call in mock.calls("PollJob")} == {"rule-1; hit=1", "rule-1; hit=2"}
        assert (await mock.query("zones", "name=z"))[0]["type"] == "zstack"


# stubs


@pytest.mark.usefixtures("unsimulated")
@each(
    ("rule", "call", "status"),
    (
        ({"path": "/zstack/v1/zones"}, ("GET", "/zstack/v1/zones?limit=1"), 299),
        ({"path": "/zstack/v1/*"}, ("POST", "/zstack/v1/zones/x/y", {"a": 1}), 299),
        ({"path": "/zstack/v1/zones", "method": "GET"}, ("DELETE", "/zstack/v1/zones"), 405),
        ({"api": "Query*", "path": "*"}, ("GET", "/zstack/v1/zones"), 299),
        ({"path": "/zstack/v1/nothing"}, ("GET", "/zstack/v1/nothing"), 299),
        ({"path": "/zstack/v1/ecs/vpc"}, ("POST", "/zstack/v1/ecs/vpc"), 299),
        ({"path": "/"}, ("GET", "/"), 299),
        ({"path": "/app/*.js"}, ("GET", "/app/a/b.js?v=1"), 299),
        ({"path": "/app/*.js"}, ("GET", "/app/b.css"), 404),
        ({"path": "/a b"}, ("GET", "/a%20b"), 299),
        ({"path": "/图*"}, ("GET", "/%E5%9B%BE/1"), 299),
        ({"path": "/x", "method": "PATCH"}, ("PATCH", "/x"), 299),
        ({"path": "/x", "method": "GET"}, ("HEAD", "/x"), 299),
        ({"path": "/x", "method": "OPTIONS"}, ("OPTIONS", "/x"), 299),
        ({"path": "*", "when": {"header.x-a": "1*"}}, ("GET", "/x"), 404),
        ({"path": "*", "when": {"query.q": "a*"}}, ("GET", "/x?q=ab"), 299),
        ({"path": "*", "when": {"method": "P*"}}, ("PUT", "/x"), 299),
        ({"api": "QueryZone", "path": "*/zones"}, ("GET", "/zstack/v1/zones"), 299),
        ({"api": "QueryZone", "path": "*"}, ("POST", "/zstack/v1/zones", {"params": {"name": "z"}}), 400),
        ({"api": "StopVmInstance", "method": "PUT"}, ("PUT", f"/zstack/v1/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}}), 299),
        ({"api": "StopVmInstance", "method": "PUT"}, ("PUT", f"/zstack/v1/vm-instances/{named('vm-web-1')}/actions", {"startVmInstance": {}}), 400),
        ({"api": "PollJob", "path": "*"}, ("GET", "/zstack/v1/api-jobs/x"), 299),
        ({"api": "QueryHybridEipFromLocal"}, ("GET", "/zstack/v1/hybrid/eip"), 299),
        ({"api": "QueryHybridEipFromLocal"}, ("GET", "/zstack/v1/zones"), 400),
    ),
)
async def test_a_stub_answers_without_a_session(zmock, rule, call, status):
    zmock.rule(**rule, then={"status": 299, "headers": {"X-A": "b"}, "body": {"stub": 1}})
    headers = {} if call[1] == "/" else {"Origin": "http://page"}  # the page at / is for its own origin
    async with aiohttp.ClientSession() as http, http.request(call[0], zmock.base + call[1], json=(*call, None)[2], headers=headers) as answer:
        assert answer.status == status
        if status == 299:
            assert (answer.headers["X-A"], answer.headers["X-ZMock-Rule"]) == ("b", "rule-1; hit=1")
            assert call[0] == "HEAD" or await answer.json() == {"stub": 1}
            assert answer.headers.get("Access-Control-Allow-Origin") == headers.get("Origin")
    entry = zmock.calls()[-1]
    assert (entry.status, entry.path, entry.rule) == (status, call[1].partition("?")[0], "rule-1; hit=1" if status == 299 else "")


async def test_calls_that_no_stub_is_for_go_on_as_always(zmock):
    zmock.rule(path="/x", then={"status": 299})
    zmock.rule(api="StopVmInstance", path="*", skip=1, then={"status": 299})
    assert (await zmock.create("CreateZone", name="z", userTags=["a"]))["name"] == "z"
    assert (await zmock.act("vm-instances", named("vm-web-1"), "stopVmInstance"))["state"] == "Stopped"
    assert (await zmock.request("GET", "/zonse"))[0] == 404 and "nearest: /zones" in zmock.calls()[-1].hints[0]


async def test_a_stub_that_answers_202_is_no_job(zmock):
    zmock.rule(path="/x", then={"status": 202})
    await answered(zmock, "GET", "/x")
    assert (zmock.calls()[0].outcome, zmock.jobs()) == ("ok", [])


async def test_a_stub_of_an_api_names_it_in_the_journal(zmock):
    zmock.rule(path="/zstack/v1/*", then={"status": 299})
    for path in ("/zones", "/api-jobs/x", "/nothing"):
        await zmock.request("GET", path)
    assert [call.api for call in zmock.calls()] == ["QueryZone", "PollJob", ""]


async def test_a_browser_may_call_a_stub_of_another_origin(zmock):
    zmock.rule(path="/upload", method="PUT", then={"status": 201})
    asked = {"Origin": "http://localhost:5173", "Access_Control_Request_Method": "PUT", "Access_Control_Request_Headers": "x-b"}
    status, headers, _ = await answered(zmock, "OPTIONS", "/upload", **asked)
    assert (status, headers["Access-Control-Allow-Headers"]) == (200, "x-b")
    assert zmock.rules[0].matches == 0


@each(
    ("rule", "statuses"),
    (
        ({"skip": 1, "times": 1}, [404, 299, 404, 404]),
        ({"every": 2}, [404, 299, 404, 299]),
        ({"on": [1, 4]}, [299, 404, 404, 299]),
        ({"limit": {"calls": 3, "per": 1}}, [404, 404, 404, 299]),
        ({"probability": 1}, [299] * 4),
        ({"delay": {"uniform": [0, 0]}}, [299] * 4),
    ),
)
async def test_a_stub_counts_as_other_rules_do(zmock, rule, statuses):
    zmock.rule(path="/x", then={"status": 299}, **rule)
    assert [(await answered(zmock, "GET", "/x"))[0] for _ in statuses] == statuses


async def test_a_delay_of_a_stub_is_one_of_the_clock(zmock):
    zmock.rule(path="/x", delay=30, then={"status": 299})
    sent = asyncio.create_task(answered(zmock, "GET", "/x"))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    await zmock.advance(30)
    assert (await sent)[0] == 299


async def test_stubs_come_before_other_rules_and_the_control_calls_before_stubs(zmock):
    zmock.rule(api="QueryZone", then={"status": 502})
    zmock.rule(path="*", times=1, then={"status": 299})
    assert [(await answered(zmock, *ZONES))[0] for _ in range(2)] == [299, 502]
    assert (await control(zmock, "GET", "rules"))[0] == 200


# which matches


@each(
    ("rule", "seconds", "fires"),
    (
        ({"on": [2, 5]}, [0] * 6, [2, 5]),
        ({"on": [5, 2, 2]}, [0] * 6, [2, 5]),
        ({"limit": {"calls": 2, "per": 1}}, [0, 0, 0, 0, 1, 1, 1], [3, 4, 7]),
        ({"limit": {"calls": 2, "per": 1}}, [0, 0.4, 0.8, 1, 1.2, 1.4, 1.8], [3, 5, 7]),
        ({"limit": {"calls": 1, "per": 0.1}}, [n / 10 for n in range(30)], []),
        ({"limit": {"calls": 1, "per": 10}, "times": 1}, [0, 0, 0], [2]),
        ({"limit": {"calls": 1, "per": 10}, "skip": 2}, [0, 0, 0], [3]),
    ),
)
async def test_a_rule_fires_on_some_matches_and_above_a_rate(zmock, rule, seconds, fires):
    await zmock.login()
    zmock.rule(api="QueryZone", then={"status": 429}, **rule)
    start, fired = zmock.clock.steady(), []
    for n, second in enumerate(seconds, 1):
        await zmock.advance(max(0, start + second - zmock.clock.steady()))
        if (await zmock.request("GET", "/zones"))[0] == 429:
            fired.append(n)
    assert fired == fires


async def test_a_rate_is_that_of_a_session_else_of_an_address(zmock, monkeypatch):
    monkeypatch.setattr("zmock.MOST_CLIENTS", 10)
    rule = zmock.rule(path="/zstack/v1/zones", limit={"calls": 1, "per": 1}, then={"status": 429})
    told = []
    for session in ("a", "b", "a", None, None, "b"):
        headers = {"Authorization": f"OAuth {session}"} if session else {}
        async with aiohttp.ClientSession() as http, http.get(f"{zmock.url}/zones", headers=headers) as answer:
            told.append(answer.status == 429)
    assert told == [False, False, True, False, True, True]
    for n in range(30):
        await answered(zmock, "GET", "/zstack/v1/zones", Authorization=f"OAuth {n}")
    assert len(rule.windows) <= 10


async def test_the_latest_call_that_a_rule_hit_is_named(zmock):
    rule = zmock.rule(api="QueryZone", on=[1, 3], then={"status": 502})
    await zmock.login()
    for _ in range(4):
        await zmock.request("GET", "/zones")
    assert (await control(zmock, "GET", "rules/rule-1"))[1]["last"] == zmock.calls("QueryZone")[2].seq == rule.last


# repeated calls


async def repeat(mock, *times, path="/zones", session=None, keep=False):
    """Send an equal GET at some real times, on a new connection each: the statuses."""
    statuses = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=not keep)) as http:
        for second in times:
            mock.clock.monotonic = lambda second=second: second
            async with http.get(mock.url + path, headers={"Authorization": f"OAuth {session or mock.session}"}) as answer:
                statuses.append(answer.status)
    return statuses


@each(
    ("rule", "times", "statuses", "counts"),
    (
        ({"times": 1}, [100, 100.1, 100.5, 101], [502, 502, 200, 200], (3, 1)),
        ({"skip": 1, "times": 1}, [100, 100.1, 101, 101.15, 101.5], [200, 200, 502, 502, 200], (3, 1)),
        ({"on": [2]}, [100, 100.1, 100.25, 100.6], [200, 200, 200, 502], (2, 1)),
        ({"probability": 0.5}, [100 + n / 10 for n in range(5)], None, (1, None)),
    ),
)
async def test_a_call_that_a_client_repeats_at_once_counts_once(zmock, rule, times, statuses, counts):
    await zmock.login()
    counted = zmock.rule(api="QueryZone", retries="same", then={"status": 502}, **rule)
    told = await repeat(zmock, *times)
    assert told == statuses if statuses else len({*told}) == 1
    assert counted.matches == counts[0] and counts[1] in (None, counted.hits)


async def test_other_calls_and_calls_of_the_same_connection_are_no_repetition(zmock):
    await zmock.login()
    rule = zmock.rule(api="*", retries="same", then={"status": 502})
    await repeat(zmock, 100, 100, 100, keep=True)
    assert rule.matches == 3
    await repeat(zmock, 100.1, path="/zones?limit=1")
    await repeat(zmock, 100.1, path="/hosts")
    assert rule.matches == 5
    await repeat(zmock, 100.2, session="a" * 32)
    assert rule.matches == 6, "another session is another client"
    for name in ("a", "b", "a"):
        await answered(zmock, "POST", "/zstack/v1/zones", {"params": {"name": name}})
    assert rule.matches == 8


async def test_a_repetition_comes_within_200_ms_of_the_break_however_long_that_took(zmock):
    await zmock.login()
    rule = zmock.rule(api="QueryZone", retries="same", times=1, delay=3, then={"status": 502})
    zmock.clock.monotonic = lambda: 100
    first = asyncio.create_task(repeat(zmock, 100))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    zmock.clock.monotonic = lambda: 103
    await zmock.advance(3)
    assert await first == [502]
    again = asyncio.create_task(repeat(zmock, 103.1))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    await zmock.advance(3)
    assert (await again, rule.matches) == ([502], 1)


async def test_a_rule_remembers_a_bounded_number_of_calls_to_be_repeated(zmock, monkeypatch):
    monkeypatch.setattr("zmock.MOST_CLIENTS", 10)
    rule = zmock.rule(api="PollJob", retries="same")
    for n in range(30):
        await zmock.request("GET", f"/api-jobs/{n}")
    assert len(rule.decisions) <= 10


# a rule that is tried


@pytest.mark.zmock(delay="10")
async def test_a_rule_is_tried_on_the_calls_of_the_journal(zmock):
    await zmock.login()
    for call in [*CALLS.values(), ("GET", "/nothing")]:
        await zmock.request(*call)
    before = await control(zmock, "GET", "rules")
    seqs = {name: zmock.calls()[1 + n].seq for n, name in enumerate([*CALLS, "nothing"])}
    rows = [row for row in WHEN if "resource.state" not in row[0]]  # objects are as they are now
    rows += [({"resource.state": "Stopping"}, {"web-1", "db-1", "one"})]
    for when, meets in rows:
        _, told = await control(zmock, "POST", "rules?try=true", {"api": "*", "when": when, "then": {"status": 418}})
        login = {zmock.calls()[0].seq} if when == {"header.user-agent": "*"} or when.get("method") == "P*" else set()
        assert (when, {*told["calls"]} - login) == (when, {seqs[name] for name in meets})
        assert (told["matches"], told["of"]) == (len(told["calls"]), len(zmock.calls()))
    _, told = await control(zmock, "POST", "rules?try=true", {"path": "*/nothing", "then": {"status": 418}})
    assert told == {"matches": 1, "of": len(zmock.calls()), "calls": [seqs["nothing"]]}
    assert await control(zmock, "GET", "rules") == before == (200, {"rules": []})
    assert zmock.rule(api="*").id == "rule-1"


@each(
    ("query", "rule", "told"),
    (
        ("try=true", {"api": "CreateZones"}, "did you mean CreateZone?"),
        ("try=yes", {"api": "*"}, "'try' is true, not 'yes'"),
        ("tyr=true", {"api": "*"}, "did you mean try?"),
    ),
)
async def test_a_rule_that_cannot_be_tried_is_refused_as_it_would_be_added(zmock, query, rule, told):
    status, body = await control(zmock, "POST", f"rules?{query}", rule)
    assert (status, told in body["error"], zmock.rules) == (400, True, [])


@each("body", (-5, 5_000_000_000, 1.5, [], {"deep": [-1]}))
async def test_the_body_of_a_rule_is_any_json(zmock, body):
    await zmock.login()
    zmock.rule(api="QueryZone", then={"status": 200, "body": body})
    _, answer = await zmock.request("GET", "/zones")
    assert (json.loads(answer) if isinstance(answer, str) else answer) == body
