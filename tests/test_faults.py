"""Rules: which calls fail or take longer, how often, and what a client sees of it."""

import asyncio
import json

import aiohttp
import pytest

from zmock import named, serve

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
        ({"times": 0}, [""] * 4),
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
            assert await control(mock, "GET", "rules/full") == (200, rule | {"matches": 0, "hits": 0})
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


@pytest.mark.parametrize(
    ("rule", "told"),
    (
        ({"api": "CreateVm"}, "did you mean CreateV"),
        ({"api": "CreateZones"}, "did you mean CreateZone?"),
        ({"api": "Xyz*"}, "'api' names no API: 'Xyz*'"),
        ({}, "'api' names no API"),
        ({"api": 7}, "'api' names no API"),
        ({"api": "*", "tiems": 1}, "'tiems' is no key of a rule, did you mean times?"),
        ({"api": "*", "skip": -1}, "'skip' is a number from 0, not -1"),
        ({"api": "*", "times": "2"}, "'times' is a number from 0"),
        ({"api": "*", "times": 1.5}, "'times' is a number from 0"),
        ({"api": "*", "delay": True}, "'delay' is a number from 0"),
        ({"api": "*", "id": 5}, "'id' is a text"),
        ({"api": "*", "then": {"error": "HOST_ALLOCATON.1000"}}, "did you mean HOST_ALLOCATION.1000?"),
        ({"api": "*", "then": {"error": "SYS.1006", "at": "later"}}, "'at' is accept or job"),
        ({"api": "*", "then": {"errors": "SYS.1006"}}, "nothing else is simulated yet"),
        ({"api": "*", "then": "fail"}, "'then' is"),
        ([], "a rule is a JSON object"),
        ("CreateZone", "a rule is a JSON object"),
    ),
)
async def test_a_rule_that_could_never_match_is_refused(zmock, rule, told):
    status, body = await control(zmock, "POST", "rules", rule)
    assert status == 400
    assert told in body["error"] + body["hint"]
    assert zmock.rules == []


@pytest.mark.parametrize(
    "part",
    (
        {"when": {"params.name": "db-*"}}, {"every": 2}, {"probability": 0.5}, {"ttl": 60}, {"delay": {"uniform": [1, 3]}},
        {"then": {"error": "SYS.1006", "at": "after"}}, {"then": {"status": 502, "body": "x"}}, {"then": {"drop": "reset"}},
        {"then": {"job": "hold"}}, {"then": {"webhook": "never"}},
    ),
    ids=str,
)  # fmt: skip
async def test_what_a_rule_cannot_do_yet_is_refused_and_not_passed_over(zmock, part):
    status, body = await control(zmock, "POST", "rules", {"api": "CreateZone"} | part)
    assert status == 400
    assert "not simulated yet" in body["error"] or "nothing else is simulated yet" in body["error"] or "is a number" in body["error"]


@pytest.mark.parametrize("text", ("{", "{}", '[{"api": "CreateZones"}]', "[1]"))
async def test_a_rules_file_that_cannot_be_used_is_an_error_of_the_start(tmp_path, text):
    file = tmp_path / "rules.json"
    file.write_text(text)
    with pytest.raises(Exception, match="cannot use the rules in") as error:
        serve(rules=(str(file),))
    assert str(file) in str(error.value)
