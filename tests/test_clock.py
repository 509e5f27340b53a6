"""Clock: frozen or real, the only source of time; what is due fires in order, and at its moment."""

import asyncio
import json
import time

import aiohttp
import pytest
from asking import ask_control, submit

import zmock
from zmock import PATIENCE, Clock, date_of_iso, iso, named, serve, us_date

HOUR, DAY = 3600, 86400
VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


class Log:
    """A clock, and what happened on it: (seconds since the beginning, name)."""

    def __init__(self, mode="frozen", dated=False):
        self.clock, self.happened, self.dated = Clock(mode), [], dated
        self.began, self.second = self.clock.now(), self.clock.steady()

    def note(self, name):
        self.happened.append((round(self.clock.now() - self.began), name))

    def at(self, seconds, name, then=lambda: None):
        def fire():
            self.note(name)
            then()

        if self.dated:
            return self.clock.at(self.began + seconds, fire, name)
        return self.clock.at_second(self.second + seconds, fire, name)

    async def sleeper(self, name, *naps):
        for seconds in naps:
            await self.clock.sleep(seconds)
            self.note(name)


@pytest.fixture(params=("frozen", "real", "frozen, dates", "real, dates"))
async def log(request):
    """The same tests on a clock that stands and on one that runs, of waits and of dates."""
    mode, _, dates = request.param.partition(", ")
    log = Log(mode, bool(dates))
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
    await asyncio.sleep(0)  # they sleep before the first advance, also where time runs
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
        clock.after(DAY, list, awaited=True).cancel()
        clock.at(clock.now() + DAY, list).cancel()
    assert max(len(clock.timers), len(clock.dated)) <= 2000


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
    assert clock.date_of_stamp(stamp) == moment // 1


def test_a_stamp_is_of_now_unless_a_moment_is_given():
    clock = Clock("frozen", 8)
    assert clock.stamp() == clock.stamp(clock.now())


@pytest.mark.parametrize(("moment", "text"), ((0, "1970-01-01T00:00:00.000Z"), (1531152000.25, "2018-07-09T16:00:00.250Z")))
def test_a_moment_in_iso_leads_back_to_itself(moment, text):
    assert iso(moment) == text
    assert date_of_iso(text) == moment


@pytest.mark.parametrize("text", ("2018-07-10T00:00:00Z", "2018-07-10T00:00:00", "2018-07-10T00:00:00.000Z"))
def test_a_moment_may_be_written_shorter(text):
    assert date_of_iso(text) == 1531180800


@pytest.mark.parametrize(
    "text", ("2018-07-10", "2018-07-10 00:00:00", "2018-13-10T00:00:00Z", "2018-07-10T00:00:00Zulu", "soon", "", None, 1531180800)
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(ValueError):
        date_of_iso(text)


# a clock that is set back


@pytest.mark.parametrize("mode", ("frozen", "real"))
async def test_what_is_due_in_ten_seconds_still_is_when_the_clock_is_set_back(mode):
    log, told = Log(mode), []
    log.clock.start()
    log.clock.on_clock_set.append(told.append)
    log.at(10, "due")
    log.clock.at(log.began + 15, lambda: log.note("a date"))
    log.clock.spawn(log.sleeper("sleeper", 20))
    await log.clock.settle()
    log.clock.set_back(log.began - 5000)
    assert told == [pytest.approx(-5000, abs=1)]
    assert log.clock.now() == pytest.approx(log.began - 5000, abs=1)
    assert await log.clock.advance(9) == []
    assert await log.clock.advance(2) == ["due"]
    await log.clock.advance(10)
    assert log.happened == [(-4990, "due"), (-4980, "sleeper")]
    await log.clock.advance(5000)
    assert log.happened[2:] == [(15, "a date")] and len(told) == 1
    log.clock.stop()


# what raises


async def test_what_raises_when_it_is_due_is_logged_and_all_else_fires(log, caplog):
    log.at(10, "broken", lambda: 1 / 0)
    log.at(10, "at the same moment")
    log.at(20, "later")
    assert await log.clock.advance(30) == ["broken", "at the same moment", "later"]
    assert "what was due failed: broken" in caplog.text and "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("dated", (False, True))
async def test_a_clock_that_runs_goes_on_after_what_raises(dated, caplog):
    log, fired = Log("real", dated), asyncio.Event()
    log.clock.start()
    log.at(0.01, "broken", lambda: 1 / 0)
    log.at(0.02, "whole", fired.set)
    await asyncio.wait_for(fired.wait(), 5)
    assert "what was due failed: broken" in caplog.text
    log.clock.stop()


async def test_who_cannot_bear_a_step_of_the_system_clock_keeps_nothing_from_firing(world):
    clock, fired = Clock("real"), []
    clock.started = True
    clock.on_clock_set.append(lambda seconds: 1 / 0)
    clock.after(3, lambda: fired.append("due"))
    world.wall += HOUR
    with pytest.raises(ZeroDivisionError):
        clock.tick()  # the loop logs it
    assert clock.wakeup and not clock.wakeup.cancelled()
    world.pass_on(3)
    clock.tick()
    assert fired == ["due"]


async def test_a_sweep_that_fails_is_not_the_last_one(monkeypatch):
    async with serve() as mock:
        await mock.login()
        swept = []
        monkeypatch.setattr(mock.cloud.accounts, "sweep", lambda: swept.append(1 / len(swept)))
        monkeypatch.setattr(mock.cloud.jobs, "sweep", lambda: swept.append("jobs"))
        await mock.advance(86400)  # there was nothing to sweep at the start
        assert not swept
        swept.append("mended")
        await mock.advance(mock.cloud.jobs.scan_interval)
        assert swept == ["mended", 1, "jobs"]


async def test_a_mock_without_sessions_and_jobs_is_swept_daily(monkeypatch):
    async with serve() as mock:
        await mock.login()
        await mock.create("CreateZone", name="z")
        swept = []
        sweep = mock.cloud.jobs.sweep
        monkeypatch.setattr(mock.cloud.jobs, "sweep", lambda: swept.append(sweep()))
        await mock.advance(100 * 86400)
        assert 100 <= len(swept) <= 200


# a system clock that somebody sets


STEPS = pytest.mark.parametrize("step", (-10 * DAY, -HOUR, -2, -0.25, 0, 0.25, 2, HOUR, 10 * DAY))


@STEPS
async def test_a_wait_keeps_its_length_and_dates_follow_when_the_system_clock_is_set(world, step):
    clock, fired, began = Clock("real", 8), [], world.up

    def note(name):
        fired.append((world.up - began, name))

    async def sleep():
        await clock.sleep(4)
        note("sleeper")

    clock.after(300, lambda: note("a sweep"))
    clock.after(3, lambda: note("before the step"))
    sleeper = clock.spawn(sleep())
    await clock.settle()
    world.pass_on(1)
    world.wall += step
    clock.after(3.5, lambda: note("after the step"))
    assert clock.now() == world.wall and clock.stamp() == clock.stamp(world.wall)
    for _ in range(40):
        world.pass_on(0.25)
        clock.tick()
        await clock.settle()
        assert clock.now() == world.wall
    assert fired == [(3, "before the step"), (4, "sleeper"), (4.5, "after the step")] and sleeper.done()


@STEPS
async def test_what_is_due_on_a_date_follows_the_date(world, step):
    clock, fired = Clock("real"), []
    date = clock.now() + 3
    clock.at(date, lambda: fired.append(world.wall))
    world.pass_on(1)
    world.wall += step
    for _ in range(20):
        world.pass_on(0.25)
        clock.tick()
    seen = max(date, 1_531_152_001.25 + step)
    assert fired == ([seen] if seen <= world.wall else [])


@STEPS
@pytest.mark.parametrize("mode", ("real", "frozen", "warp"))
async def test_a_clock_that_is_moved_goes_on_from_there_whatever_the_system_clock_shows(world, mode, step):
    clock, fired = Clock(mode), []
    clock.after(100, lambda: fired.append("due"))
    world.wall += step
    before = clock.now()
    assert before == (world.wall - step if mode == "frozen" else world.wall)
    await clock.advance(99)
    assert (clock.now(), fired) == (before + 99, [])
    clock.set_back(before - 5000)
    world.wall += step
    assert clock.now() == before - 5000 + (0 if mode == "frozen" else step)
    clock.set_mode("frozen")
    frozen = clock.now()
    world.wall += step
    clock.set_mode("real")
    assert clock.now() == frozen and clock.seconds_until(clock.timers[0]) == 1
    world.pass_on(1)
    clock.tick()
    assert fired == ["due"] and clock.now() == frozen + 1
    clock.restart()
    assert clock.now() == world.wall == clock.steady()


@STEPS
@pytest.mark.parametrize("mode", ("real", "frozen"))
async def test_a_kept_clock_is_taken_up_on_a_system_clock_that_was_set(world, mode, step):
    clock = Clock(mode)
    await clock.advance(1000)
    kept, before = clock.saved(), clock.now()
    world.wall += 50 + step
    later = Clock("real")
    later.resume(kept)
    assert later.now() == (before if mode == "frozen" else before + 50 + step)
    fired = []
    later.after(3, lambda: fired.append("due"))
    assert await later.advance(2.75) == [] == fired
    await later.advance(0.25)
    assert fired == ["due"]


@STEPS
async def test_who_has_to_know_is_told_by_how_much_the_system_clock_was_set_and_once(world, step):
    clock, told = Clock("real"), []
    clock.on_clock_set.append(told.append)
    for _ in range(3):
        clock.tick()
    world.wall += step
    for _ in range(3):
        world.pass_on(0.25)
        clock.tick()
    assert told == ([] if abs(step) < 0.5 else [step])


# what takes its time: each begins it, answers whether it is over, and takes three seconds


async def a_job(mock):
    job = await begin(mock, "POST", "/zones", {"params": {"name": "z"}})
    return lambda: mock.cloud.jobs.as_json(mock.cloud.store.peek("Job", job))["state"] == "succeeded"


async def a_job_in_stages(mock):
    job = await begin(mock, "POST", "/vm-instances", {"params": VM | {"name": "v"}})
    return lambda: mock.cloud.jobs.as_json(mock.cloud.store.peek("Job", job))["state"] == "succeeded"


async def a_job_that_fails(mock):
    job = await begin(mock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"startVmInstance": {}})
    return lambda: mock.cloud.jobs.as_json(mock.cloud.store.peek("Job", job))["state"] == "failed"


async def a_job_that_a_rule_fails(mock):
    mock.rule(api="CreateZone", then={"error": "SYS.1006"})
    job = await begin(mock, "POST", "/zones", {"params": {"name": "z"}})
    return lambda: mock.cloud.jobs.as_json(mock.cloud.store.peek("Job", job))["state"] == "failed"


async def a_long_job(mock):
    mock.settings.delay, mock.settings.long_delay = "0", "3"
    data = {"jobName": "APIMigrateVmMsg", "jobData": json.dumps({"vmInstanceUuid": named("vm-web-1")})}
    made = await begin(mock, "POST", "/longjobs", {"params": data})
    await mock.clock.settle()
    return lambda: [job["state"] for job in mock.cloud.store.find("LongJob", "apiId", made)] == ["Succeeded"]


async def an_answer_that_a_rule_delays(mock):
    mock.rule(api="QueryZone", delay=3)
    query = asyncio.ensure_future(mock.request("GET", "/zones"))
    while not mock.clock.sleepers:
        await asyncio.sleep(0.001)
    return query.done


async def a_rule(mock):
    rule = mock.rule(api="QueryZone", ttl=3, then={"status": 502})
    return lambda: rule.over


async def an_incident(mock):
    id = (await mock.incident({"management-node-down": 3}))["id"]
    return lambda: id not in mock.cloud.outages.incidents


async def a_deleted_vm(mock):
    mock.settings.delay = "0"
    await mock.act("global-configurations/vm", "expungePeriod", "updateGlobalConfig", value="3")
    await mock.delete("vm-instances", named("vm-web-1"))
    return lambda: not mock.cloud.look("VmInstance", named("vm-web-1"))


async def a_web_hook_that_is_tried_again(mock):
    mock.settings.delay, posts = "1", []

    async def refuse(url, body, headers):
        posts.append(url)
        return False

    mock.cloud.jobs.post = refuse
    await begin(mock, "POST", "/zones", {"params": {"name": "z"}}, {"X-Web-Hook": "http://h/"})
    return lambda: len(posts) == 2


async def begin(mock, method, path, body, headers=None):
    status, answer = await mock.request(method, path, body, headers)
    assert status == 202, answer
    return answer["location"][-32:]


@pytest.mark.parametrize("step", (-HOUR, 0, HOUR))
@pytest.mark.parametrize(
    "wait",
    (a_job, a_job_in_stages, a_job_that_fails, a_job_that_a_rule_fails, a_long_job, an_answer_that_a_rule_delays, a_rule, an_incident, a_deleted_vm,
     a_web_hook_that_is_tried_again),
    ids=lambda wait: wait.__name__,
)  # fmt: skip
async def test_whatever_takes_three_seconds_takes_them_when_the_system_clock_is_set_meanwhile(world, wait, step, monkeypatch):
    monkeypatch.setattr(zmock, "GRACE", 0)
    async with serve(clock="real", delay="3") as mock:
        await mock.login()
        over, began = await wait(mock), world.up
        world.pass_on(1)
        world.wall += step
        for _ in range(50):
            mock.clock.tick()
            for _ in range(2):
                await mock.clock.settle()
                await asyncio.sleep(0.001)
            if over():
                break
            world.pass_on(0.25)
        assert world.up - began == 3


@pytest.mark.parametrize("step", (-HOUR, HOUR))
async def test_dates_that_are_shown_of_waits_are_as_dates_are_now(world, step):
    async with serve(clock="real", delay="30") as mock, aiohttp.ClientSession() as http:

        async def control(method, path, body=None):
            async with http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
                return await answer.json()

        await mock.login()
        for action in ("stopVmInstance", "startVmInstance"):  # one that is under way, one in line
            await begin(mock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {action: {}})
        rule = (await control("POST", "rules", {"api": "QueryZone", "ttl": 30, "then": {"status": 502}}))["id"]
        uptime = (await control("GET", "health"))["uptime"]
        dues = [date_of_iso(job["due"]) - mock.clock.now() for job in mock.jobs()]
        world.pass_on(1)
        world.wall += step
        mock.clock.tick()
        assert (await control("GET", "health"))["uptime"] == uptime + 1
        assert [date_of_iso(job["due"]) - mock.clock.now() for job in mock.jobs()] == [due - 1 for due in dues]
        assert mock.cloud.store.peek("Rule", rule)["ends"] - mock.clock.now() == 29
        await control("POST", "incidents", {"management-node-down": 30})
        world.wall += step
        (incident,) = (await control("GET", "incidents"))["incidents"]
        assert date_of_iso(incident["ends"]) - mock.clock.now() == 30


@pytest.mark.parametrize("step", (-HOUR, HOUR))
async def test_progress_goes_on_when_the_system_clock_is_set(world, step):
    async with serve(clock="real", delay="0", long_delay="40") as mock:
        data = {"jobName": "APIMigrateVmMsg", "jobData": json.dumps({"vmInstanceUuid": named("vm-web-1")})}
        made = (await mock.create("SubmitLongJob", **data))["apiId"]
        world.pass_on(10)
        world.wall += step
        rows = (await mock.call("GetTaskProgress", apiId=made))["inventories"]
        assert rows[-1]["content"] == "25" and rows[0]["time"] / 1000 == world.wall - 10


async def test_a_job_that_is_held_and_is_to_fail_draws_no_warping_clock_on():
    async with serve(clock="warp", delay="30") as mock:
        await mock.login()
        before = mock.clock.now()
        job = await begin(mock, "POST", "/zones", {"params": {"name": "z", "description": "#zmock fail #zmock hold"}})
        await begin(mock, "POST", "/zones", {"params": {"name": "another"}})
        while len([job for job in mock.jobs() if job["state"] == "succeeded"]) < 1:
            await asyncio.sleep(0.001)
        assert [shown["state"] for shown in mock.jobs() if shown["uuid"] == job] == ["held"]
        assert 0 <= mock.clock.now() - before < HOUR


# a clock that warps


async def test_a_warping_clock_goes_to_what_is_waited_for_and_passes_nothing_over():
    log, over = Log("warp"), asyncio.Event()
    log.at(3600, "sweep")
    log.clock.after(7200, lambda: (log.note("job"), over.set()), awaited=True)
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
    log.clock.after(10**6, over.set, awaited=True).cancel()
    log.clock.start()
    log.at(3600, "a sweep that nobody waits for")
    await asyncio.sleep(0.05)
    assert log.clock.now() - log.began < 5
    log.clock.after(100, over.set, awaited=True)
    await asyncio.wait_for(over.wait(), 5)
    log.clock.set_mode("real")
    log.clock.after(10**6, over.clear, awaited=True)
    await asyncio.sleep(0.05)
    assert over.is_set() and log.clock.now() - log.began < 200
    log.clock.stop()


async def test_a_warping_clock_waits_for_the_work_that_a_moment_starts():
    log, over = Log("warp"), asyncio.Event()

    async def work():
        await asyncio.sleep(0.05)
        log.note("work")

    log.clock.after(100, lambda: log.clock.spawn(work()), awaited=True)
    log.clock.after(200, lambda: (log.note("next"), over.set()), awaited=True)
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
    assert f"expunge of VmInstance {named('vm-web-1')}" in await mock.advance(2)
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


# what is pending


def due(clock):
    """What a clock shows as pending."""
    return [(row["in"], row["what"]) for row in clock["pending"]]


async def test_the_clock_lists_what_is_pending_in_words_and_in_order():
    async with serve(delay="20") as mock:
        shown = await ask_control(mock, "GET", "clock")
        assert shown["more"] == 0 and not any("session" in row["what"] for row in shown["pending"])
        usual = [what for _, what in due(shown)]  # of the demo cloud: its long job, its schedules, its deleted objects
        assert "AddImage add-image" in usual and "expunge of VmInstance old-1" in usual
        await mock.login()
        await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
        await submit(mock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"rebootVmInstance": {}})
        await ask_control(mock, "POST", "rules", {"api": "QueryZone", "ttl": 600, "then": {"status": 500}})
        await ask_control(mock, "POST", "incidents", {"management-node-down": 5})
        shown = await ask_control(mock, "GET", "clock")
        new = [row for row in due(shown) if row[1] not in usual]
        assert new[0] == (5, "management-node-down ends") and new[-2:] == [(600, "rule-1 ends"), (pytest.approx(7200, abs=1), "session of admin ends")]
        assert [row["at"] for row in shown["pending"]] == sorted(row["at"] for row in shown["pending"])
        assert date_of_iso(shown["pending"][0]["at"]) == pytest.approx(date_of_iso(shown["now"]) + shown["pending"][0]["in"], abs=0.002)


async def test_a_job_is_pending_under_the_name_of_what_it_makes_or_acts_on():
    async with serve(delay="20", cloud="demo") as mock:
        usual = due(await ask_control(mock, "GET", "clock"))
        await mock.login()
        await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
        await submit(mock, "DELETE", f"/images/{named('image-centos7')}")
        mock.rule(api="QueryZone", delay=30)
        query = asyncio.create_task(mock.request("GET", "/zones"))
        while not [timer for timer in mock.clock.awaited_timers() if timer.name.startswith("answer")]:
            await asyncio.sleep(0)
        rows = [row for row in due(await ask_control(mock, "POST", "clock", {"advance": 19})) if row[1] not in dict(map(reversed, usual))]
        assert rows[:3] == [(1, "CreateZone z"), (1, "DeleteImage image-centos7"), (11, "answer of QueryZone")]
        await mock.advance(11)
        await query


async def test_what_is_pending_for_an_image_has_its_name():
    image = {"name": "i", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}
    async with serve(clock="frozen") as mock:
        await mock.login()
        usual = {what for _, what in due(await ask_control(mock, "GET", "clock"))}
        await mock.create("AddImage", **image, url="upload://i.qcow2")
        await mock.delete("images", (await mock.create("AddImage", **image | {"name": "j"}, url="http://a/b"))["uuid"])
        new = {what for _, what in due(await ask_control(mock, "GET", "clock"))} - usual
        assert new == {"upload of Image i ends", "expunge of Image j"}


async def test_at_most_a_hundred_pending_moments_are_listed():
    async with serve(cloud="empty") as mock:
        for n in range(103):
            mock.rule(api="QueryZone", ttl=500 - n, then={"status": 500})
        shown = await ask_control(mock, "GET", "clock")
        assert (len(shown["pending"]), shown["more"], shown["pending"][0]["what"]) == (100, 3, "rule-103 ends")


async def test_the_clock_goes_from_one_pending_moment_to_the_next():
    async with serve(cloud="empty", delay="3") as mock:
        await mock.login()
        mock.rule(api="QueryZone", ttl=60, then={"status": 500})
        job = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
        steps = [await ask_control(mock, "POST", "clock", {"advance": "next"}) for _ in range(3)]
        assert [step["fired"] for step in steps] == [[f"CreateZone {job}"], ["rule-1 ends"], []]
        assert [(row["what"]) for row in steps[1]["pending"]] == ["session of admin ends"]
        assert (await mock.request("GET", "/zones"))[0] == 503 and steps[2]["pending"] == []


async def test_a_clock_with_nothing_pending_stays_where_it_is():
    async with serve(cloud="empty") as mock, aiohttp.ClientSession() as http:
        before = mock.clock.now()
        for body, status, error in (({"advance": "next"}, 409, "nothing is pending"), ({"advance": "nxt"}, 400, 'or "next"')):
            async with http.post(f"{mock.base}/zmock/clock", json=body) as answer:
                assert answer.status == status and error in (await answer.json())["error"]
        assert mock.clock.now() == before
