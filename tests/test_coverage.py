"""What a client has met: /zmock/coverage, --zmock-coverage, /zmock/metrics."""

import re

import aiohttp
import pytest
from asking import ask_control, each, outcome
from test_fixtures import run_elsewhere

from zmock import serve

ASYNC = ["202>200", "202>503", "400", "poll-404", "slow", "dropped"]
QUERY = ["200", "empty-page", "second-page", "400", "503", "slow", "dropped"]
SYNC = ["200", "400", "503", "slow", "dropped"]
ZONE = {"params": {"name": "z"}}

NOTHING = {"apis": {}, "met": 0, "possible": 0}


async def lose(mock):
    """A job whose poll finds nothing."""
    _, answer = await mock.request("POST", "/zones", ZONE)
    await mock.advance(1)
    job = answer["location"][-32:]
    await ask_control(mock, "POST", f"jobs/{job}", {"do": "expire"})
    assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 404


async def broken(mock):
    mock.rule(api="QueryZone", times=1, then={"drop": "reset"})
    with pytest.raises(OSError):
        await mock.request("GET", "/zones")


MET = [
    ("QueryZone", lambda mock: mock.request("GET", "/zones"), {"200": 1}, QUERY),
    ("QueryZone", lambda mock: mock.request("GET", "/zones?q=name=nobody"), {"200": 1, "empty-page": 1}, QUERY),
    ("QueryZone", lambda mock: mock.request("GET", "/zones?start=1&limit=1"), {"200": 1, "empty-page": 1}, QUERY),
    ("QueryHost", lambda mock: mock.request("GET", "/hosts?start=1&limit=1"), {"200": 1, "second-page": 1}, QUERY),
    ("QueryZone", lambda mock: mock.request("GET", "/zones?count=true"), {"200": 1}, QUERY),
    ("QueryZone", lambda mock: mock.request("GET", "/zones?q=nonsense"), {"400": 1}, QUERY),
    ("QueryZone", lambda mock: mock.request("GET", "/zones", headers={"Authorization": "OAuth x"}), {"503": 1}, QUERY),
    ("QueryZone", broken, {"dropped": 1}, QUERY),
    ("GetVersion", lambda mock: mock.request("PUT", "/management-nodes/actions", {"getVersion": {}}), {"200": 1}, SYNC),
    ("CreateZone", lambda mock: outcome(mock, "POST", "/zones", ZONE), {"202>200": 1}, ASYNC),
    ("CreateZone", lambda mock: outcome(mock, "POST", "/zones", {"params": {}}), {"400": 1}, ASYNC),
    ("DeleteLongJob", lambda mock: outcome(mock, "DELETE", "/longjobs/" + 32 * "0"), {"202>503": 1}, ASYNC),
    ("CreateZone", lose, {"202>200": 1, "poll-404": 1}, ASYNC),
]


@each("api, act, met, possible", MET)
async def test_each_outcome_that_a_client_meets_is_counted(cloud, api, act, met, possible):
    await act(cloud)
    assert cloud.coverage()["apis"][api] == {"met": met, "missing": [word for word in possible if word not in met]}


async def test_the_same_answer_again_counts_again(cloud):
    for _ in range(3):
        await cloud.request("GET", "/zones?q=name=nobody")
    assert cloud.coverage()["apis"]["QueryZone"]["met"] == {"200": 3, "empty-page": 3}


async def test_a_slow_answer_counts_and_one_that_waits_on_the_frozen_clock_alone_does_not(cloud, monkeypatch):
    seconds = iter((0.0, 1.5))
    monkeypatch.setattr(cloud.clock, "monotonic", lambda: next(seconds))
    await cloud.request("GET", "/zones")
    assert cloud.coverage()["apis"]["QueryZone"]["met"] == {"200": 1, "slow": 1}


async def test_the_sums_are_of_the_apis_that_were_called_and_a_reset_begins_anew(cloud):
    await cloud.request("GET", "/zones")
    await outcome(cloud, "POST", "/zones", ZONE)
    report = await ask_control(cloud, "GET", "coverage")
    assert report == cloud.coverage()
    assert (report["met"], report["possible"]) == (3, len(SYNC) + len(QUERY) + len(ASYNC))  # with the login
    await ask_control(cloud, "DELETE", "calls")
    assert cloud.coverage() == report
    await cloud.reset()
    assert cloud.coverage() == NOTHING


async def test_a_poll_without_a_job_counts_for_no_api(cloud):
    await cloud.request("GET", "/zones")
    before = cloud.coverage()
    assert (await cloud.request("GET", "/api-jobs/"))[0] >= 400
    assert cloud.coverage() == before


async def test_coverage_goes_beyond_the_journal():
    async with serve(journal=2) as mock:
        await mock.login()
        for _ in range(5):
            await mock.request("GET", "/zones")
        assert mock.coverage()["apis"]["QueryZone"]["met"] == {"200": 5}


async def expire(mock, job):
    await ask_control(mock, "POST", f"jobs/{job}", {"do": "expire"})


async def pass_two_days(mock, _):
    await mock.advance(2 * 86400 + 1)
    assert len(mock.jobs()) == 1  # no sweep has met it yet


async def pass_four_days(mock, _):
    await mock.advance(4 * 86400)
    assert mock.jobs() == []


async def job_outside_the_journal(mock):
    await mock.advance(10)
    _, answer = await mock.request("POST", "/zones", ZONE)
    await mock.advance(1)
    for _ in range(3):
        await mock.request("GET", "/zones")
    return answer["location"][-32:]


@each("pass_away", [expire, pass_two_days, pass_four_days])
async def test_a_poll_of_an_expired_job_counts_beyond_the_journal(pass_away):
    async with serve(journal=2) as mock:
        await mock.login()
        job = await job_outside_the_journal(mock)
        await pass_away(mock, job)
        assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 404
        assert mock.coverage()["apis"]["CreateZone"]["met"] == {"202>200": 1, "poll-404": 1}


async def test_the_oldest_of_many_expired_jobs_count_no_more(monkeypatch):
    monkeypatch.setattr("zmock.MOST_GONE", 2)
    async with serve(journal=2) as mock:
        await mock.login()
        jobs = [await job_outside_the_journal(mock) for _ in range(3)]
        for job in jobs:
            await expire(mock, job)
        for job in jobs:
            assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 404
        assert mock.coverage()["apis"]["CreateZone"]["met"] == {"202>200": 3, "poll-404": 2}


# in a run of pytest

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_creating(zmock_server, n):
    zmock_server.create("CreateZone", name="z")

async def test_querying(zmock):
    await zmock.query("zones")
    await (await zmock.world("a")).query("zones", "name=nobody")
"""
TABLE = r"""=+ zmock: outcomes of ZStack's APIs =+
CreateZone      met 202>200 3; missing 202>503, 400, poll-404, slow, dropped
LogInByAccount  met 200 5; missing 400, 503, slow, dropped
QueryZone       met 200 2, empty-page 1; missing second-page, 400, 503, slow, dropped
4 of 18 outcomes met, 22 %
"""


def test_a_run_in_parallel_prints_the_table_and_fails_under_a_percentage(tmp_path):
    told = run_elsewhere(tmp_path, TESTS, "--zmock-coverage-fail-under=22.5", "-n", "2", mode="auto")
    assert re.search(TABLE + "that is less than 22.5 %\n", told) and "4 passed" in told, told


WITHOUT_A_MOCK = """
def test_one():
    pass

def test_another():
    pass
"""


@pytest.mark.slow
def test_workers_whose_tests_use_no_mock_have_met_all_of_nothing(tmp_path):
    told = run_elsewhere(tmp_path, WITHOUT_A_MOCK, "--zmock-coverage-fail-under=100", "-n", "2", mode="auto")
    assert "\n0 of 0 outcomes met, 100 %\n" in told and "2 passed" in told and "less than" not in told, told


@pytest.mark.slow
def test_a_run_alone_prints_the_table_if_it_shall(tmp_path):
    told = run_elsewhere(tmp_path, TESTS, "--zmock-coverage", mode="auto")
    assert re.search(TABLE, told) and "4 passed" in told, told
    assert "less than" not in run_elsewhere(tmp_path, TESTS, "--zmock-coverage-fail-under=22", mode="auto")
    assert "outcomes of" not in run_elsewhere(tmp_path, TESTS, mode="auto")


# metrics


async def test_metrics_are_text_for_prometheus(cloud):
    cloud.rule(id="mine", api="CreateZone", then={"error": "SYS.1000"})
    await outcome(cloud, "POST", "/zones", ZONE)
    await cloud.request("GET", "/nowhere")
    async with aiohttp.ClientSession() as http, http.get(f"{cloud.base}/zmock/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = (await answer.text()).splitlines()
    assert {
        "# TYPE zmock_calls_total counter", 'zmock_calls_total{api="CreateZone",status="202"} 1', 'zmock_calls_total{api="none",status="404"} 1',
        "# TYPE zmock_jobs gauge", 'zmock_jobs{state="failed"} 1', 'zmock_jobs{state="running"} 0',
        "# TYPE zmock_faults_total counter", 'zmock_faults_total{rule="mine"} 1',
        "# TYPE zmock_objects gauge", 'zmock_objects{type="Zone"} 1',
    } <= set(lines)  # fmt: skip
    assert all(re.fullmatch(r'# TYPE \w+ (counter|gauge)|\w+\{\w+="[^"\\]*"(,\w+="[^"\\]*")*\} \d+', line) for line in lines)
