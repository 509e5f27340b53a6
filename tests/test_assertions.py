"""What a test asserts of its client's calls, the report of a failed test, and the sink for web-hooks."""

import re

import aiohttp
import pytest
from asking import ask_control, each, outcome
from test_control import control
from test_fixtures import run_elsewhere

ZONE = {"params": {"name": "z"}}


async def two_zones(mock):
    await mock.create("CreateZone", name="a", description="d")
    await mock.create("CreateZone", name="b")


@each("arguments, params", [
    (["CreateZone"], {}),
    (["CreateZone", 2], {}),
    (["CreateZone"], {"name": "a"}),
    (["CreateZone", 1], {"name": "a", "description": "d"}),
    (["CreateZone"], {"times": 1, "name": "b"}),
    (["CreateZone", 0], {"name": "c"}),
    (["DeleteZone", 0], {}),
])  # fmt: skip
async def test_what_was_called_is_asserted(cloud, arguments, params):
    await two_zones(cloud)
    cloud.assert_called(*arguments, **params)


NEAREST = "; the nearest calls:\n  #S CreateZone {'name': 'a', 'description': 'd'}  202\n  #S CreateZone {'name': 'b'}  202"


@each("arguments, params, message", [
    (["CreateZone"], {"name": "c"}, "CreateZone with {'name': 'c'} was called never" + NEAREST),
    (["CreateZone", 1], {}, "CreateZone was called 2 times, not 1 time" + NEAREST),
    (["QueryHost"], {}, "QueryHost was called never; the nearest calls:\n  #S LogInByAccount {'accountName': 'admin', 'password': '***'}  200\n"),
])  # fmt: skip
async def test_an_assertion_that_fails_shows_the_nearest_calls(cloud, arguments, params, message):
    await two_zones(cloud)
    with pytest.raises(AssertionError) as error:
        cloud.assert_called(*arguments, **params)
    assert re.sub(r"#\d+", "#S", str(error.value)).startswith(message)


async def test_no_call_at_all(zmock):
    with pytest.raises(AssertionError, match="QueryHost was called never; there were no calls"):
        zmock.assert_called("QueryHost")
    with pytest.raises(ValueError, match="did you mean QueryHost"):
        zmock.assert_called("QueryHosst")


async def test_the_order_of_calls_is_asserted(cloud):
    await two_zones(cloud)
    await cloud.query("zones")
    cloud.assert_order("LogInByAccount", "CreateZone", "CreateZone", "QueryZone")
    cloud.assert_order("CreateZone", "QueryZone")
    cloud.assert_order()
    with pytest.raises(AssertionError) as error:
        cloud.assert_order("CreateZone", "QueryZone", "CreateZone")
    first, *others = str(error.value).splitlines()
    assert first == "CreateZone was not called after CreateZone, QueryZone; the calls:"
    assert [line.split()[1] for line in others] == ["LogInByAccount", "CreateZone", "CreateZone", "QueryZone"]  # no polls


# the report

TESTS = """
def test_wrong_order(zmock_server):
    zmock_server.create("CreateZone", name="z")
    zmock_server.assert_order("QueryZone")

def test_refused(zmock_server):
    zmock_server.delete("zones", 32 * "0")
    zmock_server.create("CreateZone")

async def test_waiting(zmock):
    zmock.cloud.settings.delay = "10"
    await zmock.login()
    _, answer = await zmock.request("POST", "/zones", {"params": {"name": "z"}})
    for _ in range(3):
        await zmock.request("GET", "/api-jobs/" + answer["location"][-32:])
    assert False
"""


def test_a_report_folds_polls_hides_frames_and_says_what_a_job_waits_for(tmp_path):
    told = run_elsewhere(tmp_path, TESTS, mode="auto")
    assert "3 failed" in told, told
    assert "QueryZone was not called; the calls:" in told
    assert not re.search(r"(?m)^\S*(zmock|_base)\.py:\d+", told), told  # the frames of the test alone
    assert "202  job " in told and "succeeded  1 poll\n" in told and "running  3 polls\n" in told
    assert "; the clock is frozen: advance(10)\n" in told
    assert "PollJob  20" not in told


async def test_a_report_shows_what_became_of_web_hooks(cloud):
    sink = f"{cloud.base}/zmock/hooks"
    for url in (sink, cloud.base + "/zmock/nowhere"):
        await cloud.request("POST", "/zones", ZONE, {"X-Web-Hook": url})
        await cloud.advance(1)
    assert f"to {sink}: taken" in cloud.report()
    assert "/zmock/nowhere: not taken" in cloud.report()


# the sink


async def test_a_client_without_a_receiver_lets_zmock_take_its_web_hooks(cloud):
    headers = {"X-Web-Hook": f"{cloud.base}/zmock/hooks"}
    for body in (ZONE, {"params": {"name": "z", "resourceUuid": "wrong"}}):
        await cloud.request("POST", "/zones", body, headers)
    cloud.rule(api="DeleteZone", then={"error": "SYS.1000"})
    await cloud.request("DELETE", "/zones/" + 32 * "0", headers=headers)
    await cloud.advance(1)
    made, failed = (await ask_control(cloud, "GET", "hooks"))["hooks"]
    assert made["success"] is True and made["body"]["inventory"]["name"] == "z" and len(made["job"]) == 32
    assert failed["success"] is False and failed["body"]["error"]["code"] == "SYS.1000"
    assert await ask_control(cloud, "DELETE", "hooks") == await ask_control(cloud, "GET", "hooks") == {"hooks": []}


async def test_a_reset_empties_the_sink_and_each_world_has_its_own(cloud):
    await ask_control(cloud, "POST", "hooks", {"a": 1})
    assert (await control(cloud, "GET", "../w/a/zmock/hooks"))[1] == {"hooks": []}
    await ask_control(cloud, "POST", "reset")
    assert await ask_control(cloud, "GET", "hooks") == {"hooks": []}


async def test_the_sink_holds_a_bounded_amount(cloud, monkeypatch):
    monkeypatch.setattr("zmock.MOST_OF_HOOKS", 4 << 14)
    for number in range(20):
        await ask_control(cloud, "POST", "hooks", {"number": number, "list": [{}] * 3_000})
    numbers = [hook["body"]["number"] for hook in (await ask_control(cloud, "GET", "hooks"))["hooks"]]
    assert 1 < len(numbers) < 10 and numbers[-1] == 19
    assert sum(len(hook["body"]) for hook in cloud.control.hooks) <= 4 << 14
    await ask_control(cloud, "POST", "hooks", {"small": 1})
    assert (await ask_control(cloud, "GET", "hooks"))["hooks"][-1]["body"] == {"small": 1}


@each("body", ["NaN", '{"a": [Infinity]}', "-Infinity", "1e400"])
async def test_the_sink_refuses_numbers_that_json_has_not(cloud, body):
    async with aiohttp.ClientSession() as http, http.post(f"{cloud.base}/zmock/hooks", data=body) as answer:
        assert answer.status == 400 and "no JSON" in await answer.text()
    assert await ask_control(cloud, "GET", "hooks") == {"hooks": []}


@pytest.mark.zmock(control_token="secret")
async def test_the_sink_takes_what_the_mock_sends_but_shows_it_to_whoever_has_the_token(zmock):
    await zmock.login()
    await outcome(zmock, "GET", "/zones")
    await zmock.request("POST", "/zones", ZONE, {"X-Web-Hook": f"{zmock.base}/zmock/hooks"})
    await zmock.advance(1)
    assert len(zmock.control.hooks) == 1
    async with aiohttp.ClientSession() as http, http.get(f"{zmock.base}/zmock/hooks") as answer:
        assert answer.status == 401
