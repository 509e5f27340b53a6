"""What a client has changed: /zmock/diff, diff() and leaks() of the handle, and leaks="fail"."""

from asking import ask_control, each, outcome
from test_control import control
from test_fixtures import run_elsewhere

from zmock import named, serve

VM = {"name": "vm", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
NOTHING = {"added": {}, "removed": {}, "changed": {}}


@each("settings", [{}, {"dialect": "server"}, {"cloud": "empty"}, {"cloud": "large:100"}])
async def test_nothing_has_changed_at_the_start_nor_by_reading(settings):
    async with serve(**settings) as mock:
        assert mock.diff() == NOTHING
        await mock.login()
        await mock.query("zones")
        assert mock.diff() == NOTHING
        await mock.reset()
        assert await ask_control(mock, "GET", "diff") == NOTHING


async def test_a_diff_names_what_was_added_removed_and_changed_and_the_call_that_did_it(cloud):
    zone = await cloud.create("CreateZone", name="z")
    made = cloud.calls("CreateZone")[0].seq
    await outcome(cloud, "PUT", f"/zones/{named('zone-1')}/actions", {"updateZone": {"name": "renamed", "description": ""}})
    changed = cloud.calls("UpdateZone")[0].seq
    await outcome(cloud, "DELETE", f"/disk-offerings/{named('disk-20g')}")
    removed = cloud.calls("DeleteDiskOffering")[0].seq
    assert cloud.diff() == {
        "added": {"Zone": {zone["uuid"]: {"name": "z", "by": made}}},
        "removed": {"DiskOffering": {named("disk-20g"): {"name": "disk-20g", "by": removed}}},
        "changed": {"Zone": {named("zone-1"): {"name": ["zone-1", "renamed"], "description": ["the data centre in Shanghai", ""], "by": changed}}},
    }
    assert await ask_control(cloud, "GET", "diff?from=start") == cloud.diff()


async def test_what_is_undone_is_no_difference(cloud):
    zone = await cloud.create("CreateZone", name="z")
    await cloud.delete("zones", zone["uuid"])
    await outcome(cloud, "PUT", f"/zones/{named('zone-1')}/actions", {"updateZone": {"name": "other"}})
    await cloud.advance(5)
    await outcome(cloud, "PUT", f"/zones/{named('zone-1')}/actions", {"updateZone": {"name": "zone-1"}})
    assert cloud.diff() == NOTHING


async def test_a_call_that_fails_has_changed_nothing(cloud):
    cloud.rule(api="CreateZone", then={"error": "SYS.1000"})
    await outcome(cloud, "POST", "/zones", {"params": {"name": "z"}})
    status, _ = await outcome(cloud, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"startVmInstance": {}})
    assert status == 503
    assert cloud.diff() == NOTHING


async def test_effects_on_other_objects_are_of_the_call_and_those_of_time_or_incidents_of_none(cloud):
    await outcome(cloud, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}})
    stopped = cloud.calls("StopVmInstance")[0].seq
    await cloud.incident(host_down="host-2")
    changed = cloud.diff()["changed"]
    assert changed["VmInstance"][named("vm-web-1")]["state"] == ["Running", "Stopped"]
    assert changed["VmInstance"][named("vm-web-1")]["by"] == stopped
    assert changed["Host"][named("host-2")]["status"] == ["Connected", "Disconnected"]
    assert "by" not in changed["Host"][named("host-2")]


async def test_a_diff_from_a_snapshot(cloud, tmp_path):
    await cloud.create("CreateZone", name="before")
    await ask_control(cloud, "PUT", "snapshots/s")
    assert await ask_control(cloud, "GET", "diff?from=s") == NOTHING
    zone = await cloud.create("CreateZone", name="after")
    assert [*(await ask_control(cloud, "GET", "diff?from=s"))["added"]["Zone"]] == [zone["uuid"]]
    assert await control(cloud, "GET", "diff?from=t") == (404, {"error": "no snapshot 't'", "hint": ""})
    assert (await control(cloud, "GET", "diff?form=s"))[0] == 400


async def test_a_kept_cloud_is_compared_with_a_snapshot_only(tmp_path):
    for started in (1, 2):
        async with serve(data=str(tmp_path / "cloud")) as mock:
            status, answer = await control(mock, "GET", "diff")
            assert status == (200 if started == 1 else 409), answer
    assert "snapshot" in answer["hint"]


# leaks


async def test_what_was_made_and_not_deleted_leaks(cloud):
    kept, dropped = await cloud.create("CreateZone", name="kept"), await cloud.create("CreateZone", name="dropped")
    await cloud.delete("zones", dropped["uuid"])
    assert cloud.leaks() == [f"Zone kept, made by call #{cloud.calls('CreateZone')[0].seq}"]
    await cloud.delete("zones", kept["uuid"])
    assert cloud.leaks() == []


async def test_a_destroyed_machine_and_its_parts_leak_no_more(cloud):
    vm = await cloud.create("CreateVmInstance", **VM)
    assert {line.split()[0] for line in cloud.leaks()} >= {"VmInstance", "Volume", "VmNic"}
    await cloud.delete("vm-instances", vm["uuid"])
    assert cloud.leaks() == []


TESTS = """
import pytest

@pytest.mark.zmock(leaks="fail")
async def test_leaking(zmock):
    await zmock.create("CreateZone", name="z")

@pytest.mark.zmock(leaks="fail")
def test_clean(zmock_server):
    zmock_server.delete("zones", zmock_server.create("CreateZone", name="z")["uuid"])

@pytest.mark.zmock(leaks="fail")
def test_leaking_in_a_world(zmock_server):
    zmock_server.world("a").create("CreateZone", name="y")

def test_allowed(zmock_server):
    zmock_server.create("CreateZone", name="z")

@pytest.mark.zmock(leaks="no")
def test_wrong(zmock_server):
    pass
"""


def test_a_test_that_leaks_fails_if_it_shall(tmp_path):
    told = run_elsewhere(tmp_path, TESTS, mode="auto")
    assert "2 passed" in told and "2 failed" in told and "1 error" in told
    assert "the test has made and not deleted:\n" in told and "  Zone z, made by call #2\n" in told
    assert "  Zone y, made by call #2 in world a\n" in told and "- zmock, world a -" in told
    assert 'leaks is "fail" or "allow", not \'no\'' in told
