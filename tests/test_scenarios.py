"""Scenarios: rules, incidents and objects come and go over time, as a file says, and the clock plays them."""

import asyncio
import json

import aiohttp
import pytest
from asking import each, one, submit

from zmock import SettingsError, main, named, serve

pytestmark = pytest.mark.zmock(strict=False)  # rules come and go without a call that they are for
OUTAGE = [
    {"at": 10, "id": "outage", "incident": {"host-down": "host-1"}},
    {"at": 40, "end": "outage"},
]
SLOW = {"api": "QueryZone", "then": {"status": 503}}


async def control(mock, method, path, body=None):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        return answer.status, await answer.json()


async def ok(mock, method, path, body=None):
    status, answer = await control(mock, method, path, body)
    assert status == 200, answer
    return answer


async def steps(mock, n=0):
    """What came of the steps of a scenario."""
    scenario = (await ok(mock, "GET", "scenarios"))["scenarios"][n]
    return [step["refused"] if "refused" in step else step["played"] for step in scenario["steps"]]


async def state(mock, host="host-1"):
    await mock.login()
    return (await one(mock, "hosts", f"name={host}"))["status"]


@pytest.fixture
def story(tmp_path):
    """A scenario file, written by a test; each version is a file of another age."""
    path = tmp_path / "story.json"

    class Story:
        file = str(path)

        def write(self, scenario):
            old, new = path, tmp_path / "new.json"
            new.write_text(scenario if isinstance(scenario, str) else json.dumps(scenario))
            new.rename(old)  # another inode, so that the stamp differs

    return Story()


# playing


async def test_steps_are_played_at_their_seconds_and_the_file_is_one_scenario(story):
    story.write(OUTAGE)
    async with serve(scenario=story.file) as mock:
        (scenario,) = (await ok(mock, "GET", "scenarios"))["scenarios"]
        assert (scenario["id"], scenario["steps"]) == ("story.json", [step | {"played": False} for step in OUTAGE])
        await mock.advance(9)
        assert await state(mock) == "Connected"
        assert await mock.advance(1) == ["story.json: incident host-down: host-1"]
        assert (await state(mock), await steps(mock)) == ("Disconnected", [True, False])
        assert [incident["host-down"] for incident in (await ok(mock, "GET", "incidents"))["incidents"]] == ["host-1"]
        await mock.advance(30)
        await mock.advance(30)  # a host takes a while to connect again
        assert (await state(mock), await steps(mock)) == ("Connected", [True, True])
        (scenario,) = (await ok(mock, "GET", "scenarios"))["scenarios"]
        assert scenario["next"] is None and scenario["steps"][0]["began"] == "incident-1"


async def test_a_scenario_plays_in_order_whatever_the_order_of_the_file(zmock):
    await ok(zmock, "POST", "scenarios", [OUTAGE[1], {"at": 20, "rule": SLOW}, OUTAGE[0]])
    fired = await zmock.advance(50)
    assert [name.partition(": ")[2].split()[0] for name in fired if name.startswith("scenario-")] == ["incident", "rule", "end"]


async def test_a_rule_comes_and_goes(zmock):
    await zmock.login()
    await ok(zmock, "POST", "scenarios", [{"at": 5, "id": "slow", "rule": SLOW}, {"at": 15, "end": "slow"}])
    statuses = [(await zmock.request("GET", "/zones"))[0]]
    for _ in range(2):
        await zmock.advance(10)
        statuses.append((await zmock.request("GET", "/zones"))[0])
    assert statuses == [200, 503, 200] and zmock.rules == []


async def test_a_rule_is_ended_by_the_id_of_its_own_too(zmock):
    await ok(zmock, "POST", "scenarios", [{"at": 5, "rule": SLOW | {"id": "slow"}}, {"at": 15, "end": "slow"}])
    await zmock.advance(5)
    assert [rule.id for rule in zmock.rules] == ["slow"]
    await zmock.advance(10)
    assert zmock.rules == []


async def test_an_end_spares_a_rule_that_somebody_set_in_place_of_the_one_of_the_scenario(zmock):
    await ok(zmock, "POST", "scenarios", [{"at": 5, "id": "slow", "rule": SLOW}, {"at": 15, "end": "slow"}])
    await zmock.advance(5)
    await ok(zmock, "DELETE", "rules")
    rule = await ok(zmock, "POST", "rules", SLOW)
    assert rule["id"] == "rule-1"  # as was that of the scenario
    await zmock.advance(10)
    await zmock.login()
    assert [rule.id for rule in zmock.rules] == ["rule-1"] and await steps(zmock) == [True, True]
    assert (await zmock.request("GET", "/zones"))[0] == 503


async def test_steps_at_once_are_played_before_the_answer(zmock):
    answer = await ok(zmock, "POST", "scenarios", [{"at": 0, "rule": SLOW}, {"at": 0.5, "rule": SLOW}])
    assert [step["played"] for step in answer["steps"]] == [True, False] and answer["id"] == "scenario-1"
    assert len(zmock.rules) == 1


async def test_objects_come_and_belong_to_those_that_are_there(zmock):
    await zmock.login()
    before = len(await zmock.query("vm-instances"))
    cloud = {
        "hosts": [{"name": "host-9", "clusterUuid": "@cluster-1", "zoneUuid": "@zone-1", "managementIp": "10.9.9.9"}],
        "vm-instances": [{"name": "web-9", "state": "Running", "hostUuid": "@host-9", "zoneUuid": "@zone-1", "clusterUuid": "@cluster-1"}],
    }
    await ok(zmock, "POST", "scenarios", [{"at": 5, "cloud": cloud}, {"at": 9, "incident": {"host-down": "host-9"}}])
    await zmock.advance(5)
    vm = await one(zmock, "vm-instances", "name=web-9")
    assert (await one(zmock, "hosts", "name=host-9"))["uuid"] == vm["hostUuid"] and len(await zmock.query("vm-instances")) == before + 1
    await zmock.advance(4)
    assert (await one(zmock, "vm-instances", "name=web-9"))["state"] == "Unknown"


async def test_nothing_else_changes_when_objects_come(zmock):
    def items():
        return {(name, uuid): item for name, table in zmock.cloud.store.tables.items() for uuid, item in table.items.items()}

    await zmock.login()
    await zmock.create("CreateVmInstance", name="v", instanceOfferingUuid=named("offering-small"),
                       imageUuid=named("image-centos7"), l3NetworkUuids=[named("l3-private")])  # fmt: skip
    before = items()
    await ok(zmock, "POST", "scenarios", [{"at": 0, "cloud": {"zones": [{"name": "zone-9"}]}}])
    after = items()
    assert [type for type, _ in after.keys() - before] == ["Zone"]
    assert [name for name in before if before[name] != after[name]] == []


async def test_an_object_that_is_there_is_changed_and_keeps_the_rest(zmock):
    await zmock.login()
    before = await one(zmock, "primary-storage", "name=ps-nfs")
    cloud = {"primary-storage": [{"uuid": before["uuid"], "state": "Disabled"}]}
    await ok(zmock, "POST", "scenarios", [{"at": 0, "cloud": cloud}])
    assert await one(zmock, "primary-storage", "name=ps-nfs") == before | {"state": "Disabled"}


async def test_storage_that_is_changed_has_as_much_space_as_before(zmock):
    await zmock.login()
    storage = {"name": "ps-9", "zoneUuid": "@zone-1", "type": "NFS", "totalCapacity": 1 << 40, "availableCapacity": 1 << 39}
    volume = {"name": "v", "type": "Data", "primaryStorageUuid": "@ps-9", "size": 1 << 30, "installPath": "/v"}
    await zmock.scenario([{"at": 0, "cloud": {"primary-storage": [storage], "volumes": [volume]}}])
    before = await one(zmock, "primary-storage", "name=ps-9")
    assert before["availableCapacity"] == 1 << 39
    await zmock.scenario([{"at": 0, "cloud": {"primary-storage": [{"uuid": before["uuid"], "state": "Disabled"}]}}])
    assert await one(zmock, "primary-storage", "name=ps-9") == before | {"state": "Disabled"}


async def test_dates_of_new_objects_count_from_the_now_of_their_step(zmock):
    await zmock.login()
    before = await one(zmock, "zones")
    zones = [{"name": "old", "createDate": "2018-07-10 08:00:00"}]
    await ok(zmock, "POST", "scenarios", [{"at": 0, "cloud": {"now": "2018-07-10 09:00:00", "zones": zones}}])
    created = zmock.cloud.clock.date_of_stamp(next(item for item in zmock.cloud.store.rows("Zone") if item["name"] == "old")["createDate"])
    assert zmock.clock.now() - created == pytest.approx(3600, abs=1)
    assert await one(zmock, "zones", "name=zone-1") == before


async def test_a_warping_clock_plays_a_scenario_to_its_end(zmock):
    await ok(zmock, "POST", "scenarios", [{"at": 5, "id": "slow", "rule": SLOW}, {"at": 15, "end": "slow"}, {"at": 20, "cloud": {"zones": [{"name": "last"}]}}])
    await ok(zmock, "POST", "clock", {"warp": True})
    assert (await ok(zmock, "GET", "wait?path=/zones&q=name=last&timeout=5"))["total"] == 1
    assert await steps(zmock) == [True, True, True]


async def test_steps_are_pending_on_the_clock_which_goes_from_one_to_the_next(zmock):
    await ok(zmock, "POST", "scenarios", OUTAGE)
    shown = await ok(zmock, "GET", "clock")
    assert [(row["in"], row["what"]) for row in shown["pending"][:2]] == [(10, "scenario-1: incident host-down: host-1"), (40, "scenario-1: end outage")]
    (scenario,) = (await ok(zmock, "GET", "scenarios"))["scenarios"]
    assert scenario["next"] == shown["pending"][0]["at"]
    assert (await ok(zmock, "POST", "clock", {"advance": "next"}))["fired"] == ["scenario-1: incident host-down: host-1"]


async def test_waits_of_a_scenario_keep_their_length_when_the_clock_is_set_back(zmock):
    await ok(zmock, "POST", "scenarios", OUTAGE)
    await ok(zmock, "POST", "clock", {"set": "2018-07-10T00:00:00Z"})
    await zmock.advance(9)
    assert await steps(zmock) == [False, False]
    await zmock.advance(1)
    assert await steps(zmock) == [True, False]


async def test_several_scenarios_are_played_side_by_side(story):
    story.write(OUTAGE)
    async with serve(scenario=story.file) as mock:
        await mock.scenario([{"at": 20, "rule": SLOW}])
        await mock.advance(20)
        scenarios = (await ok(mock, "GET", "scenarios"))["scenarios"]
        assert [(scenario["id"], [step["played"] for step in scenario["steps"]]) for scenario in scenarios] == [
            ("story.json", [True, False]), ("scenario-2", [True])]  # fmt: skip


def test_the_handle_in_a_thread_plays_scenarios(zmock_server):
    answer = zmock_server.scenario([{"at": 5, "rule": SLOW}])
    zmock_server.advance(5)
    assert answer["steps"][0]["played"] is False and [rule.definition["api"] for rule in zmock_server.rules] == ["QueryZone"]


# the end of a scenario


async def test_a_removed_scenario_ends_what_it_began_but_its_objects_stay(zmock):
    await zmock.login()
    await ok(zmock, "POST", "rules", {"api": "QueryHost", "delay": 0})
    await ok(zmock, "POST", "incidents", {"host-down": "host-2"})
    await ok(zmock, "POST", "scenarios", [{"at": 0, "cloud": {"zones": [{"name": "zone-9"}]}}, {"at": 0, "rule": SLOW}, *OUTAGE])
    await zmock.advance(10)
    assert await ok(zmock, "DELETE", "scenarios") == {"scenarios": []} == await ok(zmock, "GET", "scenarios")
    assert [rule.definition["api"] for rule in zmock.rules] == ["QueryHost"]
    assert [incident["host-down"] for incident in (await ok(zmock, "GET", "incidents"))["incidents"]] == ["host-2"]
    assert len(await zmock.query("zones", "name=zone-9")) == 1
    await zmock.advance(100)
    assert await ok(zmock, "GET", "scenarios") == {"scenarios": []}


async def test_a_reset_plays_the_file_anew_and_forgets_the_others(story):
    story.write([{"at": 0, "rule": SLOW}, *OUTAGE])
    async with serve(scenario=story.file) as mock:
        await mock.scenario(OUTAGE)
        await mock.advance(15)
        await ok(mock, "POST", "reset")
        assert len((await ok(mock, "GET", "scenarios"))["scenarios"]) == 1
        assert await steps(mock) == [True, False, False] and len(mock.rules) == 1
        await mock.advance(10)
        assert await steps(mock) == [True, True, False]


async def test_a_restart_on_a_kept_folder_plays_the_file_from_its_beginning(story, tmp_path):
    story.write([{"at": 0, "rule": SLOW}, {"at": 5, "cloud": {"zones": [{"name": "zone-9"}]}}, *OUTAGE])
    settings = {"scenario": story.file, "memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**settings) as mock:
        await mock.scenario(OUTAGE)
        await mock.advance(15)
        assert await steps(mock) == [True, True, True, False]
    async with serve(**settings) as mock:
        assert (len((await ok(mock, "GET", "scenarios"))["scenarios"]), await steps(mock)) == (1, [True, False, False, False])
        assert (await ok(mock, "GET", "incidents"))["incidents"] == [] and len(mock.rules) == 1
        await mock.advance(5)
        assert await steps(mock) == [True, True, False, False]
        await mock.advance(0)
        assert (await ok(mock, "GET", "wait?path=/zones&q=name=zone-9"))["total"] == 1


async def test_a_restored_snapshot_plays_the_file_from_its_beginning(story):
    story.write(OUTAGE)
    async with serve(scenario=story.file) as mock:
        await mock.advance(5)
        await ok(mock, "PUT", "snapshots/s")
        await mock.advance(5)
        assert await steps(mock) == [True, False]
        await ok(mock, "POST", "snapshots/s/restore")
        assert await steps(mock) == [False, False] and await state(mock) == "Connected"
        await mock.advance(10)
        assert await steps(mock) == [True, False]


# a file that changes


async def test_a_changed_file_is_loaded_again_and_its_past_is_not_played_again(story):
    first = {"at": 5, "id": "slow", "rule": SLOW}
    story.write([first, *OUTAGE])
    async with serve(scenario=story.file) as mock:
        await mock.advance(7)
        story.write([{"at": 1, "cloud": {"zones": [{"name": "too-late"}]}}, first, {"at": 9, "end": "slow"}, {"at": 30, "cloud": {"zones": [{"name": "z"}]}}])
        assert await steps(mock) == [False, True, False, False] and len(mock.rules) == 1
        await mock.advance(2)
        assert await steps(mock) == [False, True, True, False] and mock.rules == []
        await mock.advance(50)
        assert await steps(mock) == [False, True, True, True] and (await ok(mock, "GET", "incidents"))["incidents"] == []
        await mock.login()
        assert {zone["name"] for zone in await mock.query("zones")} == {"zone-1", "z"}


async def test_a_move_of_the_clock_plays_a_file_that_has_just_changed(story):
    story.write([])
    async with serve(scenario=story.file) as mock:
        story.write(OUTAGE)
        assert await mock.advance(10) == ["story.json: incident host-down: host-1"]


async def test_a_running_clock_sees_the_change_by_itself(story, monkeypatch):
    monkeypatch.setattr("zmock.LOOK_INTERVAL", 0.01)
    story.write([])
    async with serve(scenario=story.file, clock="real") as mock:
        story.write([{"at": 0.2, "cloud": {"zones": [{"name": "z"}]}}])
        assert (await ok(mock, "GET", "wait?path=/zones&q=name=z&timeout=10"))["total"] == 1


async def test_a_file_that_cannot_be_used_changes_nothing_and_says_why(story, caplog):
    story.write(OUTAGE)
    async with serve(scenario=story.file) as mock:
        before = await ok(mock, "GET", "scenarios")
        for wrong, why in (("[", "Expecting value"), ([{"at": 1, "incident": {"host-down": "hots-1"}}], "step 1 of 1: no Host 'hots-1', did you mean host-1?")):
            story.write(wrong)
            shown = await ok(mock, "GET", "scenarios")
            assert shown.pop("problem").startswith(f"cannot use the scenario in {story.file}: ") and why in caplog.messages[-1]
            assert shown == before
        story.write(OUTAGE)
        assert await ok(mock, "GET", "scenarios") == before
        assert await mock.advance(10) == ["story.json: incident host-down: host-1"]


# refusals

WRONG = {
    "no list": ({}, "a scenario is a JSON list of steps, not {}"),
    "no object": ([5], "step 1 of 1: a step is a JSON object with at, id, rule, incident, end, cloud, not 5"),
    "no moment": ([{"end": "x"}], "step 1 of 1: 'at' is a number from 0, not null"),
    "a moment in words": ([*OUTAGE, {"at": "10", "rule": SLOW}], "step 3 of 3: 'at' is a number from 0, not '10'"),
    "a moment before the beginning": ([{"at": -1, "rule": SLOW}], "step 1 of 1: 'at' is a number from 0, not -1"),
    "a truth for a moment": ([{"at": True, "rule": SLOW}], "step 1 of 1: 'at' is a number from 0, not true"),
    "nothing to do": ([{"at": 1}], "step 1 of 1: a step has one of rule, incident, end, cloud"),
    "two things to do": ([{"at": 1, "rule": SLOW, "end": "x"}], "step 1 of 1: a step has one of rule, incident, end, cloud"),
    "an unknown key": ([{"at": 1, "incidnet": {}}], "step 1 of 1: a step takes at, id, rule, incident, end, cloud, not 'incidnet', did you mean incident?"),
    "a wrong id": ([{"at": 1, "id": "a b", "rule": SLOW}], "step 1 of 1: 'id' is a text of letters"),
    "an id that is there": ([OUTAGE[0], OUTAGE[0]], "step 2 of 2: there is a step 'outage' already"),
    "a wrong rule": ([{"at": 1, "rule": {"api": "CreateZonne"}}], "step 1 of 1: 'api' names no API: 'CreateZonne', did you mean CreateZone?"),
    "a wrong incident": ([{"at": 1, "incident": {"host-up": "host-1"}}], "step 1 of 1: an incident is {NAME: ...}"),
    "an unknown target": ([{"at": 1, "incident": {"host-down": "hots-1"}}], "step 1 of 1: no Host 'hots-1', did you mean host-1?"),
    "a wrong collection": ([{"at": 1, "cloud": {"zone": []}}], "step 1 of 1: cloud: 'zone' is no collection, did you mean zones?"),
    "a wrong field": ([{"at": 1, "cloud": {"zones": [{"nam": "z"}]}}], "step 1 of 1: cloud: Zone has no field nam, did you mean name?"),
    "a dangling reference": ([{"at": 1, "cloud": {"clusters": [{"name": "c", "zoneUuid": "@zone-2"}]}}], "there is no Zone named zone-2, did you mean @zone-1?"),
    "an unknown end": ([OUTAGE[0], {"at": 9, "end": "outtage"}], "step 2 of 2: 'end' is the id of a step before it, not 'outtage'"),
    "an end of a misspelled id": ([OUTAGE[0], {"at": 19, "end": "outtage"}], "step 2 of 2: 'end' is the id of a step before it, not 'outtage', did you mean outage?"),
    "an end before the beginning": ([OUTAGE[0], {"at": 9, "end": "outage"}], "step 2 of 2: 'end' is the id of a step before it, not 'outage'"),
    "an end in no words": ([{"at": 9, "end": ["outage"]}], "step 1 of 1: 'end' is "),
    "an end of objects": ([{"at": 1, "id": "new", "cloud": {}}, {"at": 9, "end": "new"}], "step 2 of 2: 'end' is the id of a step before it, not 'new'"),
}


@each("name", WRONG)
async def test_a_wrong_scenario_is_refused_whole_by_its_step(zmock, name):
    scenario, why = WRONG[name]
    status, answer = await control(zmock, "POST", "scenarios", scenario)
    assert status == 400 and why in answer["error"]
    assert await ok(zmock, "GET", "scenarios") == {"scenarios": []}
    assert zmock.rules == [] and (await ok(zmock, "GET", "incidents"))["incidents"] == []


async def test_an_empty_scenario_is_refused(zmock):
    assert await control(zmock, "POST", "scenarios", []) == (400, {"error": "a scenario has steps, and this list is empty", "hint": ""})
    assert await ok(zmock, "GET", "scenarios") == {"scenarios": []}


@each("name", ["no list", "an unknown target", "an unknown end"])
def test_a_mock_does_not_start_with_a_wrong_scenario(capsys, story, name):
    scenario, why = WRONG[name]
    story.write(scenario)
    code = main(["--memory", "--port", "0", "--scenario", story.file])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.startswith(f"zmock: cannot use the scenario in {story.file}: {why}") and err.count("\n") == 1


def test_a_mock_does_not_start_without_its_scenario(tmp_path):
    with pytest.raises(SettingsError, match="cannot use the scenario in .*nowhere.json: .*No such file"):
        serve(scenario=str(tmp_path / "nowhere.json"))


async def test_a_step_that_the_cloud_refuses_is_told_and_stops_nothing(zmock, caplog):
    await zmock.login()
    await ok(zmock, "POST", "scenarios", [{"at": 5, "incident": {"host-down": "host-2"}}, {"at": 5, "rule": SLOW | {"id": "slow"}}, {"at": 6, "end": "slow"}, OUTAGE[0]])
    zmock.rule(id="slow", api="QueryHost", delay=0)
    await zmock.delete("hosts", named("host-2"))
    await zmock.advance(10)
    refusals = ["no Host 'host-2', did you mean host-4?", "there is a rule 'slow' already", "'end' is the id of a step before it, not 'slow'"]
    assert await steps(zmock) == [*refusals, True]
    assert [message for message in caplog.messages if "is refused" in message][0] == f"scenario-1: incident host-down: host-2 is refused: {refusals[0]}"
    assert await state(zmock) == "Disconnected"


async def test_an_end_of_what_is_over_does_nothing(zmock):
    await ok(zmock, "POST", "scenarios", OUTAGE)
    await zmock.advance(10)
    await zmock.end_incident("incident-1")
    await zmock.advance(30)
    assert await steps(zmock) == [True, True]


async def test_a_scenario_is_rehearsed_without_a_trace(zmock, caplog):
    job = await submit(await logged_in(zmock), "PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"startVmInstance": {}})
    await ok(zmock, "POST", "scenarios", [{"at": 50, "incident": {"management-node-restart": {}}}, *OUTAGE])
    assert not [message for message in caplog.messages if "began" in message]
    assert await state(zmock) == "Connected"
    await asyncio.sleep(0)
    assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] in (200, 202)
    assert (await zmock.incident(host_down="host-1"))["id"] == "incident-1"


async def logged_in(mock):
    await mock.login()
    return mock
