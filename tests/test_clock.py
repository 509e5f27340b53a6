"""Clock: frozen or real, the only source of time; what is due fires in order, and at its moment."""

import asyncio
import time

import aiohttp
import pytest

from zmock import PATIENCE, Clock, iso, moment_of, named, serve, us_date

HOUR, DAY = 3600, 86400
VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


class Log:
    """A clock, and what happened on it: (seconds since the beginning, name)."""

    def __init__(self, mode="frozen"):
        self.clock, self.happened = Clock(mode), []
        self.began = self.clock.now()

    def note(self, name):
        self.happened.append((round(self.clock.now() - self.began), name))

    def at(self, seconds, name, then=lambda: None):
        return self.clock.at(self.began + seconds, lambda: (self.note(name), then()), name)

    async def sleeper(self, name, *naps):
        for seconds in naps:
            await self.clock.sleep(seconds)
            self.note(name)


@pytest.fixture(params=("frozen", "real"))
async def log(request):
    """The same tests on a clock that stands and on one that runs."""
    log = Log(request.param)
    log.clock.start()
    yield log
    log.clock.stop()


async def test_a_frozen_clock_stands_still_and_a_real_one_runs():
    frozen, real = Clock("frozen"), Clock("real")
    shown = frozen.now()
    before = time.time()
    assert before <= real.now() <= time.time()
    assert frozen.now() == shown <= before


async def test_advance_moves_time(log):
    await log.clock.advance(3600)
    await log.clock.advance(0)
    assert log.clock.now() - log.began == pytest.approx(3600, abs=2)


async def test_what_is_due_fires_in_order_and_at_its_moment(log):
    log.at(30, "last")
    log.at(10, "first")
    together = [f"together {n}" for n in range(9)]
    for name in together:
        log.at(20, name)
    log.at(41, "later")
    assert await log.clock.advance(40) == ["first", *together, "last"]
    assert log.happened == [(10, "first"), *((20, name) for name in together), (30, "last")]
    assert await log.clock.advance(5) == ["later"]


async def test_what_is_set_while_firing_fires_at_its_own_moment(log):
    log.at(10, "parent", lambda: (log.at(15, "child", lambda: log.at(25, "grandchild")), log.at(5, "late"), log.at(41, "not yet")))
    log.at(20, "other")
    assert await log.clock.advance(40) == ["parent", "late", "child", "other", "grandchild"]
    assert log.happened == [(10, "parent"), (10, "late"), (15, "child"), (20, "other"), (25, "grandchild")]


async def test_what_is_due_already_fires_by_itself_but_not_before_the_caller_is_done(log):
    fired = asyncio.Event()
    log.clock.at(log.began - 5, fired.set)
    assert not fired.is_set()
    await asyncio.wait_for(fired.wait(), 5)


async def test_a_real_clock_fires_by_itself():
    log, fired = Log("real"), asyncio.Event()
    log.at(0.01, "soon", fired.set)
    log.clock.start()
    await asyncio.wait_for(fired.wait(), 5)
    assert log.clock.now() >= log.began + 0.01


async def test_what_is_cancelled_does_not_fire(log):
    log.at(10, "kept")
    log.at(10, "cancelled").cancel()
    assert await log.clock.advance(20) == ["kept"]
    assert log.happened == [(10, "kept")]


async def test_only_what_has_a_name_is_told(log):
    log.clock.at(log.began + 1, lambda: log.note("nameless"))
    assert await log.clock.advance(2) == []
    assert log.happened == [(1, "nameless")]


async def test_sleepers_wake_at_their_moments(log):
    log.clock.spawn(log.sleeper("slow", 30, 30))
    log.clock.spawn(log.sleeper("quick", 20, 20, 20))
    await log.clock.advance(50)
    assert log.happened == [(20, "quick"), (30, "slow"), (40, "quick")]
    await log.clock.advance(10)
    assert sorted(log.happened[3:]) == [(60, "quick"), (60, "slow")]


async def test_sleeping_no_time_returns_at_once(log):
    await log.clock.sleep(0)
    await log.clock.sleep(-1)
    assert not log.clock.timers


async def test_advance_waits_for_the_work_that_a_moment_starts(log):
    async def work():
        for _ in range(20):
            await asyncio.sleep(0)
        await log.clock.sleep(5)
        log.note("work")

    log.at(10, "start", lambda: log.clock.spawn(work()))
    log.at(16, "after")
    await log.clock.advance(20)
    assert log.happened == [(10, "start"), (15, "work"), (16, "after")]


async def test_two_moves_at_once_are_one_after_the_other():
    log = Log()
    log.at(50, "first")
    log.at(150, "second")
    fired = await asyncio.gather(log.clock.advance(100), log.clock.advance(100))
    assert (fired, log.clock.now() - log.began) == ([["first"], ["second"]], pytest.approx(200))


async def test_who_hangs_is_waited_for_once():
    clock = Clock("frozen")

    async def hang():
        await asyncio.Event().wait()

    for n in range(1, 40):
        clock.at(clock.now() + n, lambda: clock.spawn(hang()))
    waited = []
    clock.settle = recorded(clock.settle, waited)
    await clock.advance(50)
    clock.stop()
    assert sum(patience == PATIENCE for patience in waited[:-1]) <= 2 and len(waited) == 40


def recorded(settle, waited):
    """settle(), and a list of how patient it was."""

    async def settling(patience=PATIENCE):
        waited.append(patience)
        return await settle(patience)

    return settling


async def test_what_is_cancelled_does_not_stay():
    clock = Clock("warp")
    for _ in range(20_000):
        clock.at(clock.now() + DAY, list, awaited=True).cancel()
    assert len(clock.timers) <= 2000 and len(clock.awaited) <= 2000


@pytest.mark.parametrize("mode", ("frozen", "real"))
@pytest.mark.parametrize("end", (lambda clock: clock.restart(), lambda clock: clock.set_back(1000)))
async def test_a_move_ends_when_the_clock_is_set_elsewhere(mode, end):
    log = Log(mode)
    log.clock.start()
    later = []
    log.at(50, "elsewhere", lambda: end(log.clock))
    log.at(90, "due", lambda: later.append("due"))
    assert await log.clock.advance(100) == ["elsewhere"]
    assert (log.clock.now() == pytest.approx(log.began if log.clock.now() > 1e6 else 1000, abs=5), later) == (True, [])
    log.clock.stop()


async def test_a_sleeper_that_is_cancelled_holds_nobody_up(log):
    sleeper = log.clock.spawn(log.sleeper("never", 10))
    await log.clock.settle()
    sleeper.cancel()
    await asyncio.wait_for(log.clock.advance(20), 5)
    await asyncio.wait([sleeper])
    assert log.happened == [] and sleeper.cancelled()


async def test_work_that_fails_holds_nobody_up(log):
    async def work():
        raise ValueError("broken")

    task = log.clock.spawn(work())
    await asyncio.wait_for(log.clock.advance(20), 5)
    assert isinstance(task.exception(), ValueError)


async def test_a_jump_back_fires_nothing_and_what_was_due_stays_due(log):
    log.at(10, "due")
    log.clock.jump(log.began - 100)
    assert log.clock.now() == pytest.approx(log.began - 100, abs=1)
    await log.clock.advance(100)
    assert log.happened == []
    assert await log.clock.advance(11) == ["due"]


@pytest.mark.parametrize(("mode", "other"), (("frozen", "real"), ("real", "frozen")))
async def test_changing_the_mode_keeps_the_time(mode, other):
    clock = Clock(mode)
    await clock.advance(1000)
    shown = clock.now()
    clock.set_mode(other)
    assert clock.now() == pytest.approx(shown, abs=1)
    clock.set_mode(mode)
    assert clock.now() == pytest.approx(shown, abs=1)


async def test_what_a_frozen_clock_held_back_fires_when_it_runs_again():
    log, fired = Log(), asyncio.Event()
    log.clock.start()
    log.at(0.01, "soon", fired.set)
    log.clock.set_mode("real")
    await asyncio.wait_for(fired.wait(), 5)


async def test_a_restart_goes_back_to_the_time_of_the_world_with_nothing_due(log):
    log.at(10, "due")
    task = log.clock.spawn(log.sleeper("never", 10))
    await log.clock.advance(5)
    log.clock.restart()
    assert log.clock.now() == pytest.approx(time.time(), abs=1)
    assert await log.clock.advance(100) == [] == log.happened
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


# dates


@pytest.mark.parametrize(
    ("stamp", "shown"),
    (
        ("2017-01-06 03:51:16", "Jan 6, 2017 3:51:16 AM"),
        ("2017-11-14 22:20:57", "Nov 14, 2017 10:20:57 PM"),
        ("2018-07-10 00:00:00", "Jul 10, 2018 12:00:00 AM"),
        ("2018-07-10 00:59:59", "Jul 10, 2018 12:59:59 AM"),
        ("2018-02-28 12:00:00", "Feb 28, 2018 12:00:00 PM"),
        ("2018-12-31 13:05:09", "Dec 31, 2018 1:05:09 PM"),
    ),
)
def test_a_client_gets_dates_in_words(stamp, shown):
    assert us_date(stamp) == shown


@pytest.mark.parametrize(
    ("hours", "moment", "stamp"),
    (
        (8, 0, "1970-01-01 08:00:00"),
        (8, 1531152000, "2018-07-10 00:00:00"),
        (8, 1531151999.999, "2018-07-09 23:59:59"),
        (0, 1531152000, "2018-07-09 16:00:00"),
        (-3.5, 1531152000, "2018-07-09 12:30:00"),
        (8, 951753599, "2000-02-28 23:59:59"),
        (8, 951753600, "2000-02-29 00:00:00"),
    ),
)
def test_a_stamp_is_in_the_zone_of_the_cloud_and_leads_back_to_its_moment(hours, moment, stamp):
    clock = Clock("frozen", hours)
    assert clock.stamp(moment) == stamp
    assert clock.moment(stamp) == moment // 1


def test_a_stamp_is_of_now_unless_a_moment_is_given():
    clock = Clock("frozen", 8)
    assert clock.stamp() == clock.stamp(clock.now())


@pytest.mark.parametrize(("moment", "text"), ((0, "1970-01-01T00:00:00.000Z"), (1531152000.25, "2018-07-09T16:00:00.250Z")))
def test_a_moment_in_iso_leads_back_to_itself(moment, text):
    assert iso(moment) == text
    assert moment_of(text) == moment


@pytest.mark.parametrize("text", ("2018-07-10T00:00:00Z", "2018-07-10T00:00:00", "2018-07-10T00:00:00.000Z"))
def test_a_moment_may_be_written_shorter(text):
    assert moment_of(text) == 1531180800


@pytest.mark.parametrize(
    "text", ("2018-07-10", "2018-07-10 00:00:00", "2018-13-10T00:00:00Z", "2018-07-10T00:00:00Zulu", "soon", "", None, 1531180800)
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError):
        moment_of(text)


# a clock that is set back


async def test_what_is_due_in_ten_seconds_still_is_when_the_clock_is_set_back(log):
    log.at(10, "due")
    log.clock.spawn(log.sleeper("sleeper", 20))
    await log.clock.settle()
    assert log.clock.set_back(log.began - 5000) == pytest.approx(-5000, abs=1)
    assert log.clock.now() == pytest.approx(log.began - 5000, abs=1)
    assert await log.clock.advance(9) == []
    assert await log.clock.advance(2) == ["due"]
    await log.clock.advance(10)
    assert log.happened == [(-4990, "due"), (-4980, "sleeper")]


# a clock that warps


async def test_a_warping_clock_goes_to_what_is_waited_for_and_passes_nothing_over():
    log, over = Log("warp"), asyncio.Event()
    log.at(3600, "sweep")
    log.clock.at(log.began + 7200, lambda: (log.note("job"), over.set()), awaited=True)
    log.at(10800, "later")
    log.clock.start()
    before = time.monotonic()
    await asyncio.wait_for(over.wait(), 5)
    assert time.monotonic() - before < 1
    assert log.happened == [(3600, "sweep"), (7200, "job")]
    await asyncio.sleep(0.05)
    assert log.clock.now() - log.began == pytest.approx(7200, abs=2)  # nothing that anybody waits for: time just passes
    log.clock.stop()


async def test_a_warping_clock_leaves_what_is_cancelled_alone_and_takes_what_comes_later():
    log, over = Log("warp"), asyncio.Event()
    log.clock.at(log.began + 10**6, over.set, awaited=True).cancel()
    log.clock.start()
    log.at(3600, "a sweep that nobody waits for")
    await asyncio.sleep(0.05)
    assert log.clock.now() - log.began < 5
    log.clock.at(log.clock.now() + 100, over.set, awaited=True)
    await asyncio.wait_for(over.wait(), 5)
    log.clock.set_mode("real")
    log.clock.at(log.clock.now() + 10**6, over.clear, awaited=True)
    await asyncio.sleep(0.05)
    assert over.is_set() and log.clock.now() - log.began < 200
    log.clock.stop()


async def test_a_warping_clock_waits_for_the_work_that_a_moment_starts():
    log, over = Log("warp"), asyncio.Event()

    async def work():
        await asyncio.sleep(0.05)
        log.note("work")

    log.clock.at(log.began + 100, lambda: log.clock.spawn(work()), awaited=True)
    log.clock.at(log.began + 200, lambda: (log.note("next"), over.set()), awaited=True)
    log.clock.start()
    await asyncio.wait_for(over.wait(), 5)
    assert [name for _, name in log.happened] == ["work", "next"]
    log.clock.stop()


@pytest.mark.parametrize("rule", (None, {"api": "QueryZone", "delay": 600}, {"api": "PollJob", "delay": 60}, {"api": "CreateVmInstance", "delay": 9 * 3600}), ids=str)
async def test_a_suite_with_ten_minute_jobs_runs_in_no_time(rule):
    async with serve(clock="warp", delay="600") as mock, aiohttp.ClientSession() as http:
        await mock.login()
        if rule:
            mock.rule(**rule)
        before, sent = time.monotonic(), {"Authorization": f"OAuth {mock.session}"}
        async with http.post(f"{mock.url}/vm-instances", json={"params": VM | {"name": "v"}}, headers=sent) as answer:
            location, status = (await answer.json())["location"], 202
        while status == 202:
            async with http.get(location) as answer:
                status = answer.status
        assert status == 200
        if not rule or rule["delay"] < 7200:  # a session lasts two hours
            async with http.get(f"{mock.url}/zones", headers=sent) as answer:
                assert answer.status == 200
        assert time.monotonic() - before < 2
        assert 599 <= mock.clock.now() - time.time() < 10 * HOUR


# time, and all that hangs on it


@pytest.fixture(scope="module")
def stopwatch():
    """The four stories take less than a second together, whatever the time they tell of."""
    spent = []
    yield spent
    assert len(spent) < 4 or sum(spent) < 1, spent


@pytest.fixture
async def mock(stopwatch):
    async with serve() as mock:
        await mock.login()
        before = time.monotonic()
        yield mock
        stopwatch.append(time.monotonic() - before)


async def test_a_three_hour_job(mock):
    mock.rule(api="CreateZone", delay=3 * HOUR)
    location = (await mock.request("POST", "/zones", {"params": {"name": "z"}}))[1]["location"]
    polls = []
    for _ in range(36):
        polls.append((await mock.request("GET", location[-42:]))[0])
        await mock.advance(300)
    assert (polls, (await mock.request("GET", location[-42:]))[0]) == ([202] * 36, 200)


async def test_an_expired_job_record(mock):
    job = (await mock.request("POST", "/zones", {"params": {"name": "z"}}))[1]["location"][-42:]
    await mock.advance(0)
    assert (await mock.request("GET", job))[0] == 200
    await mock.advance(2 * DAY - 1)
    assert (await mock.request("GET", job))[0] == 200
    await mock.advance(2 * DAY)
    assert await mock.request("GET", job) == (404, {"error": {"code": "SYS.1003", "description": "A resource can not be found", "details": "the job has been expired"}})
    await mock.advance(HOUR)
    assert mock.jobs() == []


async def test_a_session_that_expires_in_mid_poll(mock):
    mock.rule(api="CreateZone", delay=3 * HOUR)
    job = (await mock.request("POST", "/zones", {"params": {"name": "z"}}))[1]["location"][-42:]
    await mock.advance(2 * HOUR + 1)
    assert (await mock.request("GET", "/zones"))[1]["error"]["code"] == "ID.1001"
    assert (await mock.request("GET", job))[0] == 202  # a poll needs no session
    await mock.advance(HOUR)
    status, body = await mock.request("GET", job)  # and the job had one when it was submitted
    assert (status, body["inventory"]["name"]) == (200, "z")


async def test_what_is_destroyed_is_expunged_after_a_day(mock):
    await mock.delete("vm-instances", named("vm-web-1"))
    volume = (await mock.query("volumes", f"vmInstanceUuid={named('vm-web-1')}", "type=Root"))[0]["uuid"]
    await mock.advance(DAY - 1)
    await mock.login()
    assert (await mock.query("vm-instances", f"uuid={named('vm-web-1')}"))[0]["state"] == "Destroyed"
    assert f"ExpungeVmInstance {named('vm-web-1')}" in await mock.advance(2)
    assert await mock.query("vm-instances", f"uuid={named('vm-web-1')}") == await mock.query("volumes", f"uuid={volume}") == []


@pytest.mark.parametrize("clock", ("frozen", "real"))
async def test_jobs_under_way_go_on_when_the_clock_is_set_back(clock):
    async with serve(delay="40", clock=clock) as mock, aiohttp.ClientSession() as http:
        await mock.login()
        vm, zone = [(await mock.request("POST", path, body))[1]["location"][-42:]
                    for path, body in (("/vm-instances", {"params": VM | {"name": "v"}}), ("/zones", {"params": {"name": "z"}}))]  # fmt: skip
        await mock.advance(15)
        async with http.post(f"{mock.base}/zmock/clock", json={"set": "2001-01-01T00:00:00Z"}) as answer:
            assert (await answer.json())["now"].startswith("2001-01-01T00:00:00")
        assert {job["due"][:16] for job in mock.jobs()} == {"2001-01-01T00:00"}
        assert (await mock.query("vm-instances", "name=v"))[0]["state"] == "Starting"
        await mock.advance(24)
        assert [(await mock.request("GET", job))[0] for job in (vm, zone)] == [202, 202]
        await mock.advance(2)
        assert [(await mock.request("GET", job))[0] for job in (vm, zone)] == [200, 200]
        assert (await mock.query("zones", "name=z"))[0]["createDate"].startswith("Jan 1, 2001 8:00:")
        await mock.advance(DAY)
        assert (await mock.request("GET", vm))[0] == 200
