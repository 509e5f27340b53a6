"""Scheduler jobs, run by their triggers on the Clock: tables and stories, over HTTP."""

import json
import re
from datetime import datetime

import aiohttp
import pytest
from asking import each

from zmock import (
    MISFIRE,
    MOST_RUNS,
    SHA512_OF_PASSWORD,
    TooFar,
    named,
    read_cron,
    second_of,
    serve,
    stamp_of,
)

WEB, CI, DATA, SPARE = (named(name) for name in ("vm-web-1", "vm-ci-1", "volume-db-data-1", "volume-spare"))


@pytest.fixture
async def cloud():
    async with serve(open=True) as mock:  # a session would not last for what is looked at here
        await mock.login()
        yield mock


async def set_up(cloud, type="stopVm", target=WEB, parameters=None, **trigger):
    """A job that is tied to a new trigger: both inventories."""
    simple = {} if "cron" in trigger else {"schedulerType": "simple", "startTime": 0}
    made = await cloud.create("CreateSchedulerTrigger", name="t", **{"schedulerType": "cron"} | simple | trigger)
    job = await cloud.create("CreateSchedulerJob", name="j", type=type, targetResourceUuid=target, **{"parameters": parameters} if parameters else {})
    await cloud.call("AddSchedulerJobToSchedulerTrigger", schedulerJobUuid=job["uuid"], schedulerTriggerUuid=made["uuid"])
    return job, made


async def control(cloud, path, told):
    async with aiohttp.ClientSession() as http, http.post(f"{cloud.base}/zmock/{path}", json=told) as answer:
        return answer.status, await answer.json()


async def state(cloud, vm=WEB):
    return (await cloud.query("vm-instances", f"uuid={vm}"))[0]["state"]


async def snapshots(cloud, volume=DATA):
    return len(await cloud.query("volume-snapshots", f"volumeUuid={volume}"))


async def ran(cloud):
    """The api-jobs that calls of scheduler jobs were, as far as no client has asked for the same."""
    return [(job["api"], job["state"]) for job in cloud.cloud.store.rows("Job") if not job["key"]]


async def test_a_job_runs_at_each_moment_of_its_trigger_until_its_last(cloud):
    now = cloud.clock.now()
    _, trigger = await set_up(cloud, "volumeSnapshot", DATA, startTime=int(now) + 3600, schedulerInterval=600, repeatCount=3)
    assert cloud.clock.date_of_stamp(cloud.cloud.look("SchedulerTrigger", trigger["uuid"])["stopTime"]) == int(now) + 3600 + 1800
    counts = []
    for seconds in (3590, 11, 599, 600, 600, 86400):
        await cloud.advance(seconds)
        counts.append(await snapshots(cloud))
    assert counts == [2, 3, 4, 5, 5, 5] or counts == [2, 3, 3, 4, 5, 5]
    assert await ran(cloud) == [("CreateVolumeSnapshot", "succeeded")] * 3


async def test_a_move_of_the_clock_runs_all_that_falls_due_in_order(cloud):
    await set_up(cloud, "stopVm", WEB, schedulerInterval=100)
    await set_up(cloud, "startVm", WEB, startTime=int(cloud.clock.now()) + 50, schedulerInterval=100)
    await cloud.advance(420)
    assert [api for api, _ in await ran(cloud)] == ["StopVmInstance", "StartVmInstance"] * 4 + ["StopVmInstance"]
    assert await state(cloud) == "Stopped"


async def test_the_beginning_of_a_trigger_is_not_lost_on_a_job_that_is_added_soon_after_it(cloud):
    for late, runs in ((MISFIRE - 5, 1), (MISFIRE + 5, 0)):
        trigger = await cloud.create("CreateSchedulerTrigger", name="t", schedulerType="simple", startTime=0, repeatCount=1)
        job = await cloud.create("CreateSchedulerJob", name="j", type="stopVm", targetResourceUuid=WEB)
        await cloud.advance(late)
        before = len(await ran(cloud))
        await cloud.call("AddSchedulerJobToSchedulerTrigger", schedulerJobUuid=job["uuid"], schedulerTriggerUuid=trigger["uuid"])
        await cloud.advance(0)
        assert len(await ran(cloud)) == before + runs


CRON = (  # an expression, a moment, and the first moment from there on; none for what is no expression
    ("0 0/3 17-23 * * ?", "2018-07-10 16:00:00", "2018-07-10 17:00:00"),
    ("0 0/3 17-23 * * ?", "2018-07-10 17:00:01", "2018-07-10 17:03:00"),
    ("0 0/3 17-23 * * ?", "2018-07-10 23:57:01", "2018-07-11 17:00:00"),
    ("0 0 3 ? * SUN", "2018-07-10 00:00:00", "2018-07-15 03:00:00"),
    ("0 0 3 ? * 1", "2018-07-15 03:00:01", "2018-07-22 03:00:00"),
    ("15,45 30 12 1 JAN,jul ?", "2018-07-01 12:30:16", "2018-07-01 12:30:45"),
    ("0 0 0 29 2 ?", "2018-03-01 00:00:00", "2020-02-29 00:00:00"),
    ("0 0 0 31 12 ?", "2018-12-31 00:00:00", "2018-12-31 00:00:00"),
    ("*/20 * * ? * MON-FRI", "2018-07-13 23:59:50", "2018-07-16 00:00:00"),
    ("0 0 0 30 2 ?", "2018-01-01 00:00:00", None),
    *((text, "", None) for text in ("", "0 0 3 * * *", "0 0 3 * *", "60 0 0 * * ?", "0 0 24 * * ?", "0 0 0 0 * ?", "0 0 0 ? * 8", "0 0 0 ? * FUN", "a b c d e ?",
                                    "0 0/0 0 * * ?", "0 5-1 0 * * ?", "0 , 0 * * ?", "? 0 0 * * ?", "0 0 0 L * ?", "0 0 0 ? * 6#3", "0 0 0 ² * ?",
                                    "0 0/00 * * * ?", "0 0/٠ * * * ?", "0 0/٣ * * * ?", "٠ 0 3 * * ?", "0 0 3 ? * ſUN", f"0 0/{'9' * 5000} * * * ?", f"{'9' * 5000} 0 0 * * ?")),
)  # fmt: skip


@each(("text", "since", "then"), CRON, ids=[f"{text[:20]} from {since}" for text, since, _ in CRON])
async def test_a_cron_trigger_has_the_moments_that_its_expression_names(cloud, text, since, then):
    if since:
        found = read_cron(text).next(second_of(since))
        assert (found and stamp_of(found)) == then
        return
    status, body = await cloud.request("POST", "/scheduler/triggers", {"params": {"name": "t", "schedulerType": "cron", "cron": text}})
    assert (status, body["error"]["code"]) == (400, "SYS.1007") and "cron" in body["error"]["details"]


@pytest.mark.parametrize("offset", (0, 8))
async def test_a_cron_trigger_goes_by_the_time_of_the_cloud(offset):
    async with serve(open=True, utc_offset=offset) as cloud:
        await cloud.login()
        await set_up(cloud, "volumeSnapshot", DATA, cron="0 30 3 * * ?")
        await cloud.advance(86400 * 2)
        dates = [item["createDate"] for item in await cloud.query("volume-snapshots", f"volumeUuid={DATA}", "name=j")]
        assert len(dates) == 2 and all("3:30:00 AM" in date for date in dates)


async def test_a_trigger_that_is_changed_keeps_its_beginning(cloud):
    begin = second_of("2018-07-10 09:31:06")
    made = await cloud.create("CreateSchedulerTrigger", name="t", schedulerType="simple", startTime=begin, schedulerInterval=60, repeatCount=2)
    await cloud.call("UpdateSchedulerTrigger", uuid=made["uuid"], repeatCount=3)
    stored = cloud.cloud.look("SchedulerTrigger", made["uuid"])
    dates = [cloud.clock.date_of_stamp(stored[name]) for name in ("startTime", "stopTime")]
    assert dates == [begin, begin + 180]


REFUSED = (  # the api, what it is given, and how it is refused
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "schedulerInterval": 5}, "startTime must be set when use simple scheduler"),
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "startTime": 0}, "interval must be set when use simple scheduler when repeat forever"),
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "startTime": 0, "repeatCount": 2}, "interval must be set when use simple scheduler when repeat more than once"),
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "startTime": -1, "repeatCount": 1}, "startTime must be positive integer or 0"),
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "startTime": 2147454848, "repeatCount": 1}, "startTime out of range"),
    ("CreateSchedulerTrigger", {"schedulerType": "simple", "startTime": 0, "repeatCount": 2**31 - 1, "schedulerInterval": 9}, "stopTime out of mysql timestamp range"),
    ("CreateSchedulerTrigger", {"schedulerType": "cron"}, "cron must be set when use cron scheduler"),
    ("CreateSchedulerTrigger", {"schedulerType": "cron", "cron": "0 0 3 * *"}, "cron task must follow format like this : \"0 0/3 17-23 * * ?\""),
    ("CreateSchedulerTrigger", {"schedulerType": "cron", "cron": "0 0 3 * * ?", "startTime": 5}, "cron scheduler only need to specify cron task"),
    ("CreateSchedulerTrigger", {"schedulerType": "often"}, "valid value"),
    ("UpdateSchedulerTrigger", {"uuid": "@cron", "startTime": 5}, "cron scheduler only need to specify cron task"),
    ("UpdateSchedulerTrigger", {"uuid": "@simple", "cron": "0 0 3 * * ?"}, "simple scheduler takes no cron"),
    ("CreateSchedulerJob", {"type": "stopVm", "targetResourceUuid": DATA}, f"resource[uuid:{DATA}] is not what a job of type[stopVm] is for"),
    ("CreateSchedulerJob", {"type": "volumeSnapshot", "targetResourceUuid": WEB}, f"resource[uuid:{WEB}] is not what a job of type[volumeSnapshot] is for"),
    ("CreateSchedulerJob", {"type": "volumeSnapshot", "targetResourceUuid": DATA, "parameters": {"snapshotName": "x" * 256}}, "exceeds max length"),
    ("CreateSchedulerJob", {"type": "stopVm", "targetResourceUuid": "a" * 31 + "4"}, "SYS.1003"),
    ("AddSchedulerJobToSchedulerTrigger", {"schedulerJobUuid": "@job", "schedulerTriggerUuid": "@cron"}, "Can not add job[uuid:@job] twice to the same trigger[uuid:@cron]"),
    ("AddSchedulerJobToSchedulerTrigger", {"schedulerJobUuid": "@job", "schedulerTriggerUuid": "@over"}, "trigger[uuid:@over] has stopped at"),
    ("RemoveSchedulerJobFromSchedulerTrigger", {"schedulerJobUuid": "@job", "schedulerTriggerUuid": "@simple"}, "job[uuid:@job] has not been added to trigger[uuid:@simple]"),
)  # fmt: skip


@each(("api", "given", "told"), REFUSED, ids=[f"{api} {json.dumps(given)[:60]}" for api, given, _ in REFUSED])
async def test_a_call_is_refused(cloud, api, given, told):
    job, cron = await set_up(cloud, cron="0 0 3 * * ?")
    simple = await cloud.create("CreateSchedulerTrigger", name="s", schedulerType="simple", startTime=0, schedulerInterval=60)
    over = await cloud.create("CreateSchedulerTrigger", name="o", schedulerType="simple", startTime=5, schedulerInterval=60, repeatCount=2)
    known = {"job": job["uuid"], "cron": cron["uuid"], "simple": simple["uuid"], "over": over["uuid"]}
    given = {name: known[value[1:]] if isinstance(value, str) and value.startswith("@") else value for name, value in given.items()}
    for name, uuid in known.items():
        told = told.replace("@" + name, uuid)
    before = cloud.cloud.store.count("SchedulerTrigger"), cloud.cloud.store.count("SchedulerJob")
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **{"name": "n"} | given if api.startswith("Create") else given)
    assert told in str(error.value)
    assert (cloud.cloud.store.count("SchedulerTrigger"), cloud.cloud.store.count("SchedulerJob")) == before


async def test_a_job_and_its_trigger_know_each_other_until_they_are_parted(cloud):
    job, trigger = await set_up(cloud, cron="0 0 3 * * ?")
    assert (await cloud.query("scheduler/jobs", f"uuid={job['uuid']}"))[0]["triggersUuid"] == [trigger["uuid"]]
    assert (await cloud.query("scheduler/triggers", f"uuid={trigger['uuid']}"))[0]["jobsUuid"] == [job["uuid"]]
    assert job["uuid"] not in [one["uuid"] for one in (await cloud.call("GetNoTriggerSchedulerJobs"))["inventories"]]
    await cloud.call("RemoveSchedulerJobFromSchedulerTrigger", schedulerJobUuid=job["uuid"], schedulerTriggerUuid=trigger["uuid"])
    assert (await cloud.finish("GET", f"/scheduler/jobs/{job['uuid']}"))["inventories"][0]["triggersUuid"] == []
    assert (await cloud.finish("GET", f"/scheduler/triggers/{trigger['uuid']}"))["inventories"][0]["jobsUuid"] == []
    assert job["uuid"] in [one["uuid"] for one in (await cloud.call("GetNoTriggerSchedulerJobs"))["inventories"]]
    await cloud.advance(86400)
    assert await ran(cloud) == []


@pytest.mark.parametrize("collection", ("scheduler/jobs", "scheduler/triggers"))
async def test_nothing_runs_any_more_when_the_job_or_the_trigger_is_deleted(cloud, collection):
    job, trigger = await set_up(cloud, schedulerInterval=60, startTime=int(cloud.clock.now()) + 60)
    await cloud.delete(collection, (job if "jobs" in collection else trigger)["uuid"])
    left = await cloud.query("scheduler/jobs", f"uuid={job['uuid']}") + await cloud.query("scheduler/triggers", f"uuid={trigger['uuid']}")
    assert [one.get("triggersUuid", one.get("jobsUuid")) for one in left] == [[]]
    await cloud.advance(600)
    assert await ran(cloud) == []


async def test_only_an_enabled_job_runs(cloud):
    job, _ = await set_up(cloud, "rebootVm", schedulerInterval=60)
    await cloud.advance(0)
    for event, runs in (("disable", 1), ("enable", 11)):
        assert (await cloud.call("ChangeSchedulerState", uuid=job["uuid"], stateEvent=event))["inventory"]["state"] == f"{event.capitalize()}d"
        await cloud.advance(600)
        assert len(await ran(cloud)) == runs


async def test_a_job_for_something_destroyed_rests_until_it_is_recovered_and_goes_when_it_is_expunged(cloud):
    job, _ = await set_up(cloud, "startVm", CI, schedulerInterval=3600, startTime=int(cloud.clock.now()) + 3600)
    await cloud.delete("vm-instances", CI)
    await cloud.advance(7200)
    assert ([one["uuid"] for one in await cloud.query("scheduler/jobs", "state=Disabled", "name=j")], await ran(cloud)) == ([job["uuid"]], [])
    assert await cloud.query("scheduler/jobs", "state=Enabled", "name=j") == []
    await cloud.act("vm-instances", CI, "recoverVmInstance")
    await cloud.advance(3600)
    assert (await ran(cloud), await state(cloud, CI)) == ([("StartVmInstance", "succeeded")], "Running")
    await cloud.delete("vm-instances", CI)
    await cloud.advance(86400 * 2)
    assert await cloud.query("scheduler/jobs", "name=j") == []


async def test_what_refuses_a_call_is_told_by_a_notification(cloud):
    await set_up(cloud, "startVm", WEB, startTime=0, repeatCount=1)
    await cloud.advance(1)
    assert await ran(cloud) == [("StartVmInstance", "failed")]
    told = (await cloud.query("notifications", "content=API[%s] failed: %s"))[0]
    assert json.loads(told["arguments"])[0] == "StartVmInstance" and "allowed states" in told["arguments"] and told["type"] == "Info"


async def test_a_snapshot_has_the_name_that_the_job_says_or_its_own(cloud):
    await set_up(cloud, "volumeSnapshot", DATA, startTime=0, repeatCount=1)
    await set_up(cloud, "volumeSnapshot", DATA, {"snapshotName": "said", "volumeSnapshotDescription": "why", "other": 1}, startTime=0, repeatCount=1)
    await cloud.advance(1)
    made = await cloud.query("volume-snapshots", f"volumeUuid={DATA}", "name?=j,said")
    assert {(one["name"], one.get("description")) for one in made} == {("j", None), ("said", "why")}


def moment(date):
    """Return a date of an answer as one that can be compared: "Jan 6, 2017 3:51:16 AM"."""
    return datetime.strptime(date, "%b %d, %Y %I:%M:%S %p")


async def test_an_updated_trigger_goes_by_its_new_times(cloud):
    _, trigger = await set_up(cloud, "rebootVm", schedulerInterval=3600, startTime=int(cloud.clock.now()) + 3600, repeatCount=5)
    changed = await cloud.act("scheduler/triggers", trigger["uuid"], "updateSchedulerTrigger", schedulerInterval=60, repeatCount=0, startTime=0, name="often")
    starts_earlier = moment(changed["startTime"]) < moment(trigger["startTime"])
    assert (changed["name"], changed["schedulerInterval"], starts_earlier, "stopTime" in changed) == ("often", 60, True, False)
    await cloud.advance(600)
    assert len(await ran(cloud)) in (10, 11)


async def test_an_updated_cron_trigger_has_the_moments_of_its_new_expression(cloud):
    _, trigger = await set_up(cloud, "volumeSnapshot", DATA, cron="0 0 0 1 1 ?")
    await cloud.act("scheduler/triggers", trigger["uuid"], "updateSchedulerTrigger", cron="30 * * * * ?")
    await cloud.advance(300)
    assert await ran(cloud) == [("CreateVolumeSnapshot", "succeeded")] * 5


async def test_a_trigger_that_has_stopped_is_not_available(cloud):
    _, trigger = await set_up(cloud, schedulerInterval=60, repeatCount=2)
    for gone, there in ((0, True), (121, False)):
        await cloud.advance(gone)
        assert (trigger["uuid"] in [one["uuid"] for one in (await cloud.call("GetAvailableTriggers"))["inventories"]]) == there


async def test_a_restart_goes_on_with_what_is_not_due_yet_and_skips_what_was_due_meanwhile(tmp_path):
    kept = {"open": True, "memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**kept) as cloud:
        await cloud.login()
        await set_up(cloud, "volumeSnapshot", DATA, schedulerInterval=3600, startTime=int(cloud.clock.now()) + 3600)
        await control(cloud, "clock", {"advance": 3601})
        assert await snapshots(cloud) == 3
    file = tmp_path / "cloud" / "Mock.json"
    file.write_text(re.sub(r'(?<="at": )[\d.]+', lambda at: str(float(at[0]) + 7200), file.read_text()))  # so long it is down
    async with serve(**kept) as cloud:
        await cloud.login()
        counts = [await snapshots(cloud)]
        for seconds in (3500, 200):
            await cloud.advance(seconds)
            counts.append(await snapshots(cloud))
        assert counts == [3, 3, 4]


async def test_nothing_runs_while_the_management_node_is_down(cloud):
    await set_up(cloud, "volumeSnapshot", DATA, schedulerInterval=60, startTime=int(cloud.clock.now()) + 60)
    await cloud.incident({"management-node-down": 3570})
    await cloud.advance(3570)
    assert await snapshots(cloud) == 2
    await cloud.advance(60)
    assert await snapshots(cloud) == 3


async def test_a_reset_forgets_the_schedules_of_before(cloud):
    await set_up(cloud, "volumeSnapshot", DATA, schedulerInterval=60)
    await cloud.reset()
    await cloud.advance(600)
    assert (await ran(cloud), await snapshots(cloud)) == ([], 2)


SPOILED = ({"type": "x"}, {"parameters": 5}, {"schedulerInterval": -5}, {"schedulerInterval": "x"}, {"startTime": "x"}, {"startTime": None}, {"cron": 5}, {"cron": "x"},
           {"triggersUuid": None}, {"name": None}, {"targetResourceUuid": None}, {"state": None}, {"schedulerJobUuid": "gone"}, {"schedulerTriggerUuid": "gone"})  # fmt: skip


@pytest.mark.parametrize("change", SPOILED, ids=str)
async def test_what_somebody_spoiled_in_the_folder_does_no_harm(tmp_path, change, caplog):
    kept = {"open": True, "memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**kept) as cloud:
        await cloud.login()
        await set_up(cloud, "rebootVm", startTime=int(cloud.clock.now()) + 3600, schedulerInterval=60)
    for file in (tmp_path / "cloud").glob("Scheduler*.json"):
        text = json.loads(file.read_text())
        for item in text["_default"].values():
            item |= {name: value for name, value in change.items() if name in item or name in ("cron", "parameters")}
        file.write_text(json.dumps(text))
    async with serve(**kept) as cloud:
        await cloud.login()
        await cloud.advance(7200)
        assert len(await ran(cloud)) <= 121
        assert all(type in ("Error", "Info") for type in {one["type"] for one in await cloud.query("notifications", "resourceType=SchedulerJobVO")})
        await cloud.query("scheduler/jobs"), await cloud.query("scheduler/triggers")
    assert "Traceback" not in caplog.text


async def test_a_clock_that_is_set_back_runs_jobs_at_the_moments_that_it_shows(cloud):  # at 3 h of a cloud that is 8 h east
    await set_up(cloud, "volumeSnapshot", DATA, cron="0 0 3 * * ?")
    await control(cloud, "clock", {"set": "2027-01-01T18:00:00Z"})
    before = await snapshots(cloud)
    await control(cloud, "clock", {"set": "2027-01-01T15:30:00Z"})
    await cloud.advance(3 * 3600)
    assert await snapshots(cloud) == before
    await cloud.advance(3600)
    assert await snapshots(cloud) == before + 1


@pytest.mark.parametrize(
    ("moves", "runs"),
    (
        ((("pass", 3),), 1),
        ((("step", 3), ("pass", 1)), 1),  # over the moment
        ((("step", 7200), ("pass", 1)), 1),  # late, and once
        ((("step", 3 * 86400), ("pass", 1)), 1),
        ((("pass", 3), ("step", -4), ("pass", 10)), 1),  # a correction: not twice
        ((("step", -30), ("pass", 20)), 0),
        ((("step", -30), ("pass", 35)), 1),
        ((("pass", 3), ("step", -3600), ("pass", 3605)), 2),  # it is 17:00 again
        ((("step", -3600), ("pass", 3605)), 1),
        ((("pass", 3), ("step", -5), ("pass", 86410)), 2),
    ),
)
async def test_a_schedule_follows_the_date_when_the_system_clock_is_set(world, moves, runs):
    world.wall += 17 * 3600 - 2
    async with serve(clock="real", delay="0", open=True) as mock:
        await mock.login()
        await set_up(mock, "rebootVm", cron="0 0 17 * * ?")

        async def look():
            mock.clock.tick()
            await mock.clock.settle()

        for way, seconds in moves:
            if way == "step":
                world.wall += seconds
                await look()
            else:
                for part in (0.5, seconds - 1, 0.5):
                    world.pass_on(part)
                    await look()
        assert await ran(mock) == [("RebootVmInstance", "succeeded")] * runs


async def test_a_disabled_job_stands_in_the_way_of_no_move(cloud):
    job, _ = await set_up(cloud, "rebootVm", schedulerInterval=1)
    await cloud.call("ChangeSchedulerState", uuid=job["uuid"], stateEvent="disable")
    await cloud.advance(86400 * 100)
    assert len(await ran(cloud)) <= 1


async def test_the_clock_refuses_a_move_on_which_jobs_would_run_without_end(cloud):
    await set_up(cloud, "stopVm", schedulerInterval=1)
    before = cloud.clock.now()
    with pytest.raises(TooFar, match=f"more than {MOST_RUNS} times, those of trigger t"):
        await cloud.advance(86400 * 100)
    status, body = await control(cloud, "clock", {"set": "2038-01-01T00:00:00Z"})
    assert (status, "go on in smaller steps" in body["hint"]) == (409, True)
    assert cloud.clock.now() == before
    await cloud.advance(60)
    assert 60 <= len(await ran(cloud)) <= 61


async def test_a_job_of_an_account_acts_for_it_and_is_seen_by_nobody_else():
    async with serve() as cloud:
        sessions = {"admin": await cloud.login()}
        for name in ("ann", "bob"):
            cloud.session = sessions["admin"]
            await cloud.create("CreateAccount", name=name, password=SHA512_OF_PASSWORD)
            sessions[name] = await cloud.login(name)
        cloud.session = sessions["admin"]
        await cloud.call("ShareResource", resourceUuids=[named(name) for name in ("offering-small", "image-centos7", "l3-private")], toPublic=True)
        cloud.session = sessions["ann"]
        vm = await cloud.create("CreateVmInstance", name="v", instanceOfferingUuid=named("offering-small"), imageUuid=named("image-centos7"), l3NetworkUuids=[named("l3-private")])
        job, trigger = await set_up(cloud, "volumeSnapshot", vm["rootVolumeUuid"], startTime=0, repeatCount=1)
        with pytest.raises(RuntimeError, match="the account.* has no access to the|is not the owner of the"):
            await cloud.create("CreateSchedulerJob", name="x", type="stopVm", targetResourceUuid=WEB)
        await cloud.advance(1)
        assert [one["name"] for one in await cloud.query("volume-snapshots")] == ["j"]
        assert [one["uuid"] for one in (await cloud.call("GetAvailableTriggers"))["inventories"]] == [trigger["uuid"]]
        cloud.session = sessions["bob"]
        assert await cloud.query("volume-snapshots") + await cloud.query("scheduler/jobs") + await cloud.query("scheduler/triggers") == []
        assert (await cloud.call("GetAvailableTriggers"), await cloud.call("GetNoTriggerSchedulerJobs")) == ({"inventories": []}, {"inventories": []})
        with pytest.raises(RuntimeError, match="is not the owner of the"):
            await cloud.call("DeleteSchedulerJob", uuid=job["uuid"])
