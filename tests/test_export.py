"""GET /zmock/cloud: the present cloud as a file that --cloud loads."""

import json

import pytest
from asking import ask_control, each, outcome

from zmock import OWN_TYPES, copy_of, interrupt, named, serve

HIDDEN = {*OWN_TYPES, "Session", "TaskProgress"}
VM = {"name": "vm", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


def objects_of(cloud):
    """All objects but those of zmock itself and sessions, by type and uuid."""
    documents = cloud.store.documents()
    return {type: {item["uuid"]: dict(item) for item in items.values()} for type, items in documents.items() if type not in HIDDEN}


def interrupted(mock):
    """A copy of a cloud as it is after a restart."""
    copy = copy_of(mock.cloud)
    interrupt(copy)
    return copy


async def copied(mock, tmp_path, **settings):
    """A mock of the exported cloud: its objects, at the moment of the export."""
    path = tmp_path / "cloud.json"
    content = await ask_control(mock, "GET", "cloud")
    path.write_text(json.dumps(content, ensure_ascii=False))
    async with serve(cloud=str(path), **settings) as other:
        later = other.cloud.clock.now() - mock.cloud.clock.now()
        assert abs(later) < 30  # dates move with "now"; here by whole seconds of a real start
        return objects_of(other.cloud), content


def without_dates(value):
    """The same without dates at any depth: they move with the present."""
    if isinstance(value, dict):
        return {name: without_dates(inner) for name, inner in value.items() if not name.endswith("Date") and name != "time"}
    return [without_dates(inner) for inner in value] if isinstance(value, list) else value


@each("settings", [{}, {"dialect": "server"}, {"cloud": "empty"}, {"cloud": "large:200"}])
async def test_a_cloud_that_is_exported_and_loaded_is_the_same(settings, tmp_path):
    async with serve(**settings) as mock:
        same, content = await copied(mock, tmp_path, dialect=mock.cloud.dialect.name)
        assert without_dates(same) == without_dates(objects_of(interrupted(mock)))
        assert content.keys() >= {"now", "accounts"} and not HIDDEN & content.keys()


async def test_what_clients_have_made_is_in_it(cloud, tmp_path):
    vm = await cloud.create("CreateVmInstance", **VM)
    gone = await cloud.create("CreateVmInstance", **VM | {"name": "gone"})
    await cloud.create("CreateVolumeSnapshot", volumeUuid=vm["rootVolumeUuid"], name="s")
    await cloud.delete("vm-instances", gone["uuid"])
    account = await cloud.create("CreateAccount", name="ann", password="a" * 128)
    await outcome(cloud, "PUT", "/accounts/resources/actions", {"shareResource": {"resourceUuids": [named("image-centos7")], "accountUuids": [account["uuid"]]}})
    await outcome(cloud, "PUT", "/global-configurations/vm/numa/actions", {"updateGlobalConfig": {"value": "true"}})
    await cloud.create("CreateUserTag", resourceType="VmInstanceVO", resourceUuid=vm["uuid"], tag="t")
    same, content = await copied(cloud, tmp_path)
    assert without_dates(same) == without_dates(objects_of(interrupted(cloud)))
    assert {item["name"] for item in content["vm-instances"]} > {"vm", "gone"}
    assert not {"Session", "Job", "Mock", "Rule"} & content.keys()


async def test_a_notification_of_a_call_about_no_uuid_is_exported_without_it(cloud, tmp_path):
    cloud.cloud.add("Zone", uuid="zone-a", name="z")  # as of a cloud file
    for about in ("x", "@zone-1", "a" * 32, "%40", named("nothing"), named("zone-1"), "zone-a"):
        assert (await outcome(cloud, "PUT", f"/l3-networks/{about}/actions", {"updateL3Network": {"name": "n"}}))[0] == 503
    _, content = await copied(cloud, tmp_path)
    failed = [item.get("resourceUuid") for item in content["notifications"] if item["name"] == "api"]
    assert failed == [None, None, None, None, named("nothing"), named("zone-1"), "zone-a"]


async def test_what_the_server_leaves_out_stays_out(cloud, tmp_path):
    vm = (await cloud.call("StopVmInstance", uuid=named("vm-web-1")))["inventory"]
    await cloud.call("ReimageVmInstance", vmInstanceUuid=vm["uuid"])  # a snapshot without a type, which takes no space
    await cloud.create("CreateVolumeSnapshot", volumeUuid=vm["rootVolumeUuid"], name="s")
    await cloud.create("CreateDataVolumeTemplateFromVolume", volumeUuid=named("volume-db-data-1"), name="t")  # has no platform
    await cloud.create("AddLocalPrimaryStorage", name="l", url="/l", zoneUuid=named("zone-1"))  # is as large as its disks
    storages = await cloud.query("primary-storage")
    same, _ = await copied(cloud, tmp_path)
    assert without_dates(same) == without_dates(objects_of(interrupted(cloud)))
    async with serve(cloud=str(tmp_path / "cloud.json")) as other:
        await other.login()
        assert without_dates(await other.query("primary-storage")) == without_dates(storages)
    await ask_control(cloud, "PUT", "snapshots/now")
    assert (await ask_control(cloud, "POST", "snapshots/now/restore"))["found"] == []
    assert without_dates(same) == without_dates(objects_of(interrupted(cloud)))


async def test_a_snapshot_of_a_file_that_says_no_type_is_one_of_the_hypervisor(cloud, tmp_path):
    assert {snapshot["type"] for snapshot in await cloud.query("volume-snapshots")} == {"Hypervisor"}
    exported = await ask_control(cloud, "GET", "cloud")
    for snapshot in exported["volume-snapshots"]:
        del snapshot["type"]
    (tmp_path / "cloud.json").write_text(json.dumps(exported))
    async with serve(cloud=str(tmp_path / "cloud.json")) as other:
        await other.login()
        assert {snapshot["type"] for snapshot in await other.query("volume-snapshots")} == {"Hypervisor"}


async def test_a_world_is_exported_too(zmock):
    world = await zmock.world("a")
    await world.create("CreateZone", name="only here")
    assert "only here" in {zone["name"] for zone in (await ask_control(world, "GET", "cloud"))["zones"]}
    assert "only here" not in {zone["name"] for zone in (await ask_control(zmock, "GET", "cloud"))["zones"]}


@pytest.mark.zmock(control_token="secret")
async def test_it_is_for_whoever_may_control(zmock):
    with pytest.raises(AssertionError, match="asks for its token"):
        await ask_control(zmock, "GET", "cloud")
