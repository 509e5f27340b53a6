"""Volumes, their snapshots as trees, images, networks and what allocates from them: stories and tables, over HTTP."""

import json
from pathlib import Path

import pytest
from asking import failure, one
from pages import blocks_of

from zmock import SHA512_OF_PASSWORD, Catalogue, named, serve

GIB = 1 << 30
DISK, SPARE, DATA, PS, BS = (named(name) for name in ("disk-20g", "volume-spare", "volume-db-data-1", "ps-nfs", "bs-1"))
WEB, DB, CI, PRIVATE, PUBLIC = (named(name) for name in ("vm-web-1", "vm-db-1", "vm-ci-1", "l3-private", "l3-public"))
CENTOS, FLAT, C1 = named("image-centos7"), named("provider-Flat"), named("cluster-1")


async def free(cloud, uuid=PS):
    return (await one(cloud, "primary-storage", f"uuid={uuid}"))["availableCapacity"]


# from nothing to a virtual machine that can be reached


@pytest.mark.zmock(cloud="empty", addresses="first")
async def test_a_data_centre_is_built_from_nothing_to_a_running_vm_with_an_eip_and_a_data_volume(cloud):
    zone = await cloud.create("CreateZone", name="z")
    cluster = await cloud.create("CreateCluster", name="c", zoneUuid=zone["uuid"], hypervisorType="KVM")
    assert (zone["state"], cluster["state"], cluster["zoneUuid"]) == ("Enabled", "Enabled", zone["uuid"])
    ps = await cloud.create("AddNfsPrimaryStorage", name="p", url="10.0.0.9:/nfs", zoneUuid=zone["uuid"])
    attached = await cloud.create("AttachPrimaryStorageToCluster", primaryStorageUuid=ps["uuid"], clusterUuid=cluster["uuid"])
    assert (ps["status"], attached["attachedClusterUuids"]) == ("Disconnected", [cluster["uuid"]]), "no host mounts it yet"
    host = await cloud.create("AddKVMHost", name="h", managementIp="10.0.0.10", username="root", password="p", clusterUuid=cluster["uuid"])
    assert (host["status"], host["zoneUuid"], host["availableCpuCapacity"]) == ("Connected", zone["uuid"], host["totalCpuCapacity"])
    bs = await cloud.create("AddSftpBackupStorage", name="b", url="/b", hostname="10.0.0.9", username="root", password="p")
    await cloud.create("AttachBackupStorageToZone", backupStorageUuid=bs["uuid"], zoneUuid=zone["uuid"])
    image = await cloud.create("AddImage", name="i", url="http://x/i.qcow2", format="qcow2", backupStorageUuids=[bs["uuid"]])
    assert (image["status"], [ref["status"] for ref in image["backupStorageRefs"]]) == ("Ready", ["Ready"])
    offering = await cloud.create("CreateInstanceOffering", name="o", cpuNum=2, memorySize=4 * GIB)
    disk = await cloud.create("CreateDiskOffering", name="d", diskSize=20 * GIB)
    inside, outside = [await network(cloud, zone, cluster, *row) for row in (("private", "10.1.0.0/24"), ("public", "10.2.0.0/24"))]
    provider = await one(cloud, "network-services/providers", "type=VirtualRouter")
    served = await cloud.create("AttachNetworkServiceToL3Network", l3NetworkUuid=inside["uuid"], networkServices={provider["uuid"]: ["DHCP", "SNAT", "Eip"]})
    assert [service["networkServiceType"] for service in served["networkServices"]] == ["DHCP", "SNAT", "Eip"]
    assert served["networkServices"][0].keys() == {"l3NetworkUuid", "networkServiceProviderUuid", "networkServiceType"}

    of_router = {"zoneUuid": zone["uuid"], "managementNetworkUuid": outside["uuid"], "imageUuid": image["uuid"], "cpuNum": 1, "memorySize": GIB}
    await cloud.create("CreateVirtualRouterOffering", name="r", **of_router)
    vm = await cloud.create("CreateVmInstance", name="v", instanceOfferingUuid=offering["uuid"], imageUuid=image["uuid"], l3NetworkUuids=[inside["uuid"]])
    (nic,), (root,) = vm["vmNics"], vm["allVolumes"]
    assert (vm["state"], vm["hostUuid"], nic["ip"], nic["gateway"]) == ("Running", host["uuid"], "10.1.0.2", "10.1.0.1")
    assert (root["type"], root["size"], root["primaryStorageUuid"], root["rootImageUuid"]) == ("Root", image["size"], ps["uuid"], image["uuid"])
    volume = await cloud.create("CreateDataVolume", name="data", diskOfferingUuid=disk["uuid"])
    assert (volume["status"], volume["size"], volume["actualSize"]) == ("NotInstantiated", 20 * GIB, 0)
    volume = await cloud.create("AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=vm["uuid"])
    assert (volume["status"], volume["vmInstanceUuid"], volume["deviceId"], volume["format"]) == ("Ready", vm["uuid"], 1, "qcow2")
    vip = await cloud.create("CreateVip", name="vip", l3NetworkUuid=outside["uuid"])
    eip = await cloud.create("CreateEip", name="eip", vipUuid=vip["uuid"], vmNicUuid=nic["uuid"])
    assert (vip["ip"], eip["vipIp"], eip["guestIp"]) == ("10.2.0.3", "10.2.0.3", "10.1.0.2")

    assert (await one(cloud, "vm-instances", "vmNics.eip.vipIp=10.2.0.3", "allVolumes.name=data"))["uuid"] == vm["uuid"]
    left, left_of_host = await one(cloud, "primary-storage"), await one(cloud, "hosts")
    assert left["totalCapacity"] - left["availableCapacity"] == root["size"] + volume["size"] + 2 * image["size"]  # that of the router, and cached
    assert left_of_host["totalMemoryCapacity"] - left_of_host["availableMemoryCapacity"] == 5 * GIB
    assert (await cloud.call("GetIpAddressCapacity", l3NetworkUuids=[inside["uuid"], outside["uuid"]]))["availableCapacity"] == 2 * 253 - 3


async def network(cloud, zone, cluster, name, cidr):
    l2 = await cloud.create("CreateL2NoVlanNetwork", name=name, zoneUuid=zone["uuid"], physicalInterface=name)
    l2 = await cloud.create("AttachL2NetworkToCluster", l2NetworkUuid=l2["uuid"], clusterUuid=cluster["uuid"])
    assert l2["attachedClusterUuids"] == [cluster["uuid"]]
    l3 = await cloud.create("CreateL3Network", name=name, l2NetworkUuid=l2["uuid"], category=name.title())
    made = await cloud.create("AddIpRangeByNetworkCidr", name=name, l3NetworkUuid=l3["uuid"], networkCidr=cidr)
    assert (l3["zoneUuid"], made["networkCidr"], made["netmask"]) == (zone["uuid"], cidr, "255.255.255.0")
    return l3


# snapshots


@pytest.fixture
async def spare(cloud):
    """A volume that is on primary storage and on no virtual machine."""
    await cloud.create("AttachDataVolumeToVm", volumeUuid=SPARE, vmInstanceUuid=CI)
    return await cloud.create("DetachDataVolumeFromVm", uuid=SPARE)


async def snap(cloud, name, volume=SPARE):
    return await cloud.create("CreateVolumeSnapshot", name=name, volumeUuid=volume)


def shape(leaf):
    """A tree of snapshots by their names: {"root": {"child": {}}}."""
    return {leaf["inventory"]["name"]: {name: below for child in leaf["children"] for name, below in shape(child).items()}}


async def tree(cloud, *conditions):
    return shape((await one(cloud, "volume-snapshots/trees", f"volumeUuid={SPARE}", *conditions))["tree"])


async def test_a_snapshot_tree_branches_where_it_was_reverted_and_loses_a_branch_with_all_below(cloud, spare):
    before = await free(cloud)
    base, first, second = [await snap(cloud, name) for name in ("base", "first", "second")]
    assert (first["parentUuid"], second["parentUuid"]) == (base["uuid"], first["uuid"])
    assert await tree(cloud) == {"base": {"first": {"second": {}}}}
    await cloud.call("RevertVolumeFromSnapshot", uuid=base["uuid"])
    assert [row["name"] for row in await cloud.query("volume-snapshots", f"volumeUuid={SPARE}", "latest=true")] == ["base"]
    other, above = [await snap(cloud, name) for name in ("other", "above")]
    assert other["parentUuid"] == base["uuid"]
    assert await tree(cloud, "current=true") == {"base": {"first": {"second": {}}, "other": {"above": {}}}}
    assert before - await free(cloud) == 5 * spare["actualSize"]

    leaf = (await one(cloud, "volume-snapshots/trees", f"volumeUuid={SPARE}"))["tree"]["children"][1]
    assert (leaf["parentUuid"], leaf["inventory"]["uuid"], leaf["inventory"]["status"]) == (base["uuid"], other["uuid"], "Ready")
    await cloud.delete("volume-snapshots", first["uuid"])
    assert await tree(cloud) == {"base": {"other": {"above": {}}}}
    assert (await one(cloud, "volume-snapshots", f"volumeUuid={SPARE}", "latest=true"))["uuid"] == above["uuid"]
    await cloud.delete("volume-snapshots", above["uuid"])
    assert (await snap(cloud, "again"))["parentUuid"] == other["uuid"]
    await cloud.delete("volume-snapshots", base["uuid"])
    assert (await cloud.query("volume-snapshots/trees", f"volumeUuid={SPARE}"), before - await free(cloud)) == ([], 0)


async def test_a_chain_that_is_long_enough_ends_and_another_tree_is_current(cloud, spare):
    await cloud.call("CreateSystemTag", resourceType="VolumeVO", resourceUuid=SPARE, tag="volumeMaxIncrementalSnapshotNum::2")
    base, _, third, _ = [await snap(cloud, name) for name in ("1", "2", "3", "4")]
    assert (await tree(cloud, "current=false"), await tree(cloud, "current=true")) == ({"1": {"2": {}}}, {"3": {"4": {}}})
    assert "parentUuid" not in third
    await cloud.call("RevertVolumeFromSnapshot", uuid=base["uuid"])
    await snap(cloud, "5")
    assert (await tree(cloud, "current=false"), await tree(cloud, "current=true")) == ({"3": {"4": {}}}, {"1": {"2": {}, "5": {}}})


async def test_a_snapshot_is_creating_before_it_is_ready_and_deleting_before_it_is_gone(spare, zmock):
    for verb in ("Create", "Delete"):
        zmock.rule(api=f"{verb}VolumeSnapshot", delay=10)
    status, body = await zmock.request("POST", f"/volumes/{SPARE}/volume-snapshots", {"params": {"name": "s"}}, {"Authorization": f"OAuth {zmock.session}"})
    assert status == 202 and body["location"]
    made = await one(zmock, "volume-snapshots", "name=s")
    assert (made["status"], made["latest"], made["volumeType"]) == ("Creating", True, "Data")
    await zmock.advance(10)
    await zmock.request("DELETE", f"/volume-snapshots/{made['uuid']}", None, {"Authorization": f"OAuth {zmock.session}"})
    assert (await one(zmock, "volume-snapshots", "name=s"))["status"] == "Deleting"
    await zmock.advance(10)
    assert await zmock.query("volume-snapshots", "name=s") == []


async def test_several_volumes_are_snapshot_at_once_or_none_is(cloud):
    before = len(await cloud.query("volume-snapshots"))
    assert "current is NotInstantiated, can't create snapshot" in await failure(cloud, "CreateVolumesSnapshot", volumeUuids=[DATA, SPARE])
    assert len(await cloud.query("volume-snapshots")) == before
    cloud.rule(api="CreateVolumesSnapshot", delay=10, times=1)
    asked = {"params": {"volumeUuids": [DATA, named("volume-db-data-2")]}}
    await cloud.request("POST", "/volumes/volume-snapshots", asked, {"Authorization": f"OAuth {cloud.session}"})
    assert len(await cloud.query("volume-snapshots", "status=Creating")) == 2
    await cloud.advance(10)
    assert len(await cloud.query("volume-snapshots", "status=Ready")) == before + 2
    made = (await cloud.call("CreateVolumesSnapshot", **asked["params"]))["inventories"]
    assert [(row["volumeUuid"], row["status"], row["latest"]) for row in made] == [(DATA, "Ready", True), (named("volume-db-data-2"), "Ready", True)]
    assert {row["parentUuid"] for row in made} == {row["uuid"] for row in await cloud.query("volume-snapshots", "name~=snapshot-of%", "latest=false")}


async def test_a_template_of_a_snapshot_becomes_a_new_vm(cloud):
    root = await one(cloud, "volumes", "name=ROOT-for-web-1")
    snapshot = await snap(cloud, "s", root["uuid"])
    body = await cloud.call("CreateRootVolumeTemplateFromVolumeSnapshot", name="t", snapshotUuid=snapshot["uuid"], backupStorageUuids=[BS])
    image = body["inventory"]
    assert (image["status"], image["mediaType"], image["size"], image["format"]) == ("Ready", "RootVolumeTemplate", root["size"], "qcow2")
    vm = await cloud.create("CreateVmInstance", name="v", instanceOfferingUuid=named("offering-small"), imageUuid=image["uuid"], l3NetworkUuids=[PRIVATE])
    assert (vm["state"], vm["allVolumes"][0]["rootImageUuid"]) == ("Running", image["uuid"])
    copy = await cloud.create("CreateDataVolumeFromVolumeSnapshot", name="c", volumeSnapshotUuid=snapshot["uuid"])
    assert copy["actualSize"] == snapshot["size"] == root["actualSize"] == root["size"]


async def test_what_an_account_makes_of_its_volume_is_its_own_and_counts_in_its_quota(cloud):
    account = await cloud.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
    await cloud.call("ShareResource", resourceUuids=[DISK], toPublic=True)
    admin, ann = cloud.session, await cloud.login("ann")
    volumes = [(await cloud.create("CreateDataVolume", name="v", diskOfferingUuid=DISK, primaryStorageUuid=PS))["uuid"] for _ in range(2)]
    cloud.session = admin
    await cloud.call("UpdateQuota", identityUuid=account["uuid"], name="snapshot.volume.num", value=3)
    cloud.session = ann
    made = (await cloud.call("CreateVolumesSnapshot", volumeUuids=volumes))["inventories"]
    assert {row["uuid"] for row in await cloud.query("volume-snapshots")} == {row["uuid"] for row in made}
    told = await failure(cloud, "CreateVolumesSnapshot", volumeUuids=volumes)
    assert told.startswith("ID.1003") and "snapshot.volume.num" in told
    assert "snapshot-of-v" in (await snap(cloud, "snapshot-of-v", volumes[0]))["name"]


# volumes


async def test_a_volume_is_made_of_a_snapshot_and_of_a_template_and_takes_space(cloud):
    before = await free(cloud)
    copy = await cloud.create("CreateDataVolumeFromVolumeSnapshot", name="c", volumeSnapshotUuid=named("snapshot-1"))
    assert (copy["status"], copy["type"], copy["size"], copy["primaryStorageUuid"], before - await free(cloud)) == ("Ready", "Data", 100 * GIB, PS, 100 * GIB)
    template = await cloud.create("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=copy["uuid"])
    made = await cloud.create("CreateDataVolumeFromVolumeTemplate", name="m", imageUuid=template["uuid"], primaryStorageUuid=PS)
    assert (made["status"], made["size"], made["rootImageUuid"]) == ("Ready", template["size"], template["uuid"])
    assert "is not DataVolumeTemplate, it's RootVolumeTemplate" in await failure(
        cloud, "CreateDataVolumeFromVolumeTemplate", name="m", imageUuid=CENTOS, primaryStorageUuid=PS)  # fmt: skip
    for volume in (copy, made):
        await cloud.delete("volumes", volume["uuid"])
        await cloud.act("volumes", volume["uuid"], "expungeDataVolume")
    assert await free(cloud) == before


async def test_a_shareable_volume_is_attached_to_several_vms_at_once(cloud):
    volume = await cloud.create("CreateDataVolume", name="s", diskOfferingUuid=DISK, systemTags=["ephemeral::shareable"])
    assert (volume["isShareable"], await cloud.query("system-tags", f"resourceUuid={volume['uuid']}")) == (True, [])
    for vm in (WEB, DB):
        attached = await cloud.create("AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=vm)
        assert (attached["status"], "vmInstanceUuid" in attached) == ("Ready", False)
    refs = await cloud.query("volumes/vm-instances/refs", f"volumeUuid={volume['uuid']}")
    assert {(ref["vmInstanceUuid"], ref["deviceId"]) for ref in refs} == {(WEB, 1), (DB, 2)}  # db-1 has a data volume already
    assert "can't attach again" in await failure(cloud, "AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=WEB)
    candidates = (await cloud.call("GetDataVolumeAttachableVm", volumeUuid=volume["uuid"]))["inventories"]
    assert candidates and not {WEB, DB} & {vm["uuid"] for vm in candidates}
    await cloud.call("DetachDataVolumeFromVm", uuid=volume["uuid"], vmUuid=WEB)
    assert [ref["vmInstanceUuid"] for ref in await cloud.query("volumes/vm-instances/refs", "vmInstance.name~=%")] == [DB]
    await cloud.call("AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=WEB)
    await cloud.delete("vm-instances", DB)
    assert [ref["vmInstanceUuid"] for ref in await cloud.query("volumes/vm-instances/refs")] == [WEB]
    await cloud.delete("volumes", volume["uuid"])
    assert await cloud.query("volumes/vm-instances/refs") == []


async def test_a_volume_tells_its_limit_and_what_its_storage_can_do(cloud, spare):
    assert await cloud.call("GetVolumeQos", uuid=SPARE) == {"volumeBandwidth": -1}
    await cloud.call("SetVolumeQos", uuid=SPARE, volumeBandwidth=1 << 20)
    assert await cloud.call("GetVolumeQos", uuid=SPARE) == {"volumeBandwidth": 1 << 20}
    await cloud.call("DeleteVolumeQos", uuid=SPARE)
    assert await cloud.call("GetVolumeQos", uuid=SPARE) == {"volumeBandwidth": -1}
    here, there = "MigrationInCurrentPrimaryStorage", "MigrationToOtherPrimaryStorage"
    assert (await cloud.call("GetVolumeCapabilities", uuid=SPARE))["capabilities"] == {here: False, there: True}
    await cloud.call("PrimaryStorageMigrateVolume", volumeUuid=SPARE, dstPrimaryStorageUuid=named("ps-local"))
    assert (await cloud.call("GetVolumeCapabilities", uuid=SPARE))["capabilities"] == {here: True, there: False}
    assert (await cloud.call("LocalStorageGetVolumeMigratableHosts", volumeUuid=SPARE))["inventories"] == []  # host-4 is away
    other = await cloud.create("AddKVMHost", name="h", managementIp="10.10.0.15", username="r", password="p", clusterUuid=named("cluster-2"))
    assert [host["uuid"] for host in (await cloud.call("LocalStorageGetVolumeMigratableHosts", volumeUuid=SPARE))["inventories"]] == [other["uuid"]]
    formats = (await cloud.call("GetVolumeFormat"))["formats"]
    assert [(row["format"], row["supportingHypervisorTypes"]) for row in formats] == [("qcow2", ["KVM"]), ("raw", ["KVM"])]


async def test_a_volume_grows_while_there_is_room(cloud, spare):
    before = await free(cloud)
    grown = await cloud.call("ResizeDataVolume", uuid=SPARE, size=spare["size"] + GIB)
    assert (grown["inventory"]["size"], before - await free(cloud)) == (spare["size"] + GIB, GIB)
    assert "must be larger than its size now" in await failure(cloud, "ResizeDataVolume", uuid=SPARE, size=GIB)
    assert "SYS.1006" in await failure(cloud, "ResizeDataVolume", uuid=SPARE, size=1 << 50)
    assert "is a Data volume" in await failure(cloud, "ResizeRootVolume", uuid=SPARE, size=1 << 40)
    await cloud.call("DeleteDataVolume", uuid=SPARE)
    assert "is Deleted, it cannot be resized" in await failure(cloud, "ResizeDataVolume", uuid=SPARE, size=1 << 40)


async def test_a_vm_takes_24_data_volumes(cloud):
    for _ in range(24):
        volume = await cloud.create("CreateDataVolume", name="n", diskOfferingUuid=DISK)
        last = await cloud.create("AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=WEB)
    assert last["deviceId"] == 24
    assert "only allows max 24 data volumes" in await failure(cloud, "AttachDataVolumeToVm", volumeUuid=SPARE, vmInstanceUuid=WEB)


# images


async def test_an_image_is_added_used_deleted_recovered_and_expunged_while_its_machine_runs_on(cloud):
    async def state():
        return [(image["status"], [ref["status"] for ref in image["backupStorageRefs"]]) for image in await cloud.query("images", "name=i")]

    image = await cloud.create("AddImage", name="i", url="http://x/i", format="qcow2", backupStorageUuids=[BS])
    vm = await cloud.create("CreateVmInstance", name="v", instanceOfferingUuid=named("offering-small"), imageUuid=image["uuid"], l3NetworkUuids=[PRIVATE])
    template = await cloud.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=vm["rootVolumeUuid"])
    assert (template["size"], template["url"]) == (image["size"], f"volume://{vm['rootVolumeUuid']}")
    await cloud.delete("images", image["uuid"])
    assert await state() == [("Deleted", ["Deleted"])]
    await cloud.call("RecoverImage", imageUuid=image["uuid"])
    assert await state() == [("Ready", ["Ready"])]
    await cloud.delete("images", image["uuid"])
    await cloud.call("ExpungeImage", imageUuid=image["uuid"])
    assert await state() == []
    await cloud.act("vm-instances", vm["uuid"], "rebootVmInstance")
    after = await one(cloud, "vm-instances", f"uuid={vm['uuid']}")
    assert (after["state"], after["imageUuid"], after["allVolumes"][0]["rootImageUuid"]) == ("Running", image["uuid"], image["uuid"])


@pytest.mark.zmock(delay="10")
async def test_an_image_is_creating_while_it_is_copied_and_its_progress_tells_the_stage(cloud):
    headers = {"Authorization": f"OAuth {cloud.session}"}
    _, body = await cloud.request("POST", f"/images/data-volume-templates/from/volumes/{DATA}", {"params": {"name": "t"}}, headers)
    image = await one(cloud, "images", "name=t")
    assert (image["status"], image["url"], [ref["status"] for ref in image["backupStorageRefs"]]) == ("Creating", f"volume://{DATA}", ["Creating"])
    await cloud.advance(6)
    _, progress = await cloud.request("GET", f"/task-progresses/{body['location'].rpartition('/')[2]}", None, headers)
    assert progress["inventories"][-1]["content"] == "Copy the volume to the backup storage"
    await cloud.advance(4)
    assert (await one(cloud, "images", "name=t"))["status"] == "Ready"


# networks


async def test_a_vip_has_one_limit_and_each_of_its_ports_has_one(cloud):
    vip, mib = named("vip-1"), 1 << 20

    async def limits():
        return {row.get("port"): (row.get("inboundBandwidth"), row.get("outboundBandwidth")) for row in (await cloud.call("GetVipQos", uuid=vip))["inventories"]}

    assert await limits() == {}
    made = (await cloud.call("SetVipQos", uuid=vip, inboundBandwidth=2 * mib))["inventory"]
    assert (made["vipUuid"], made["inboundBandwidth"], "port" in made) == (vip, 2 * mib, False)
    await cloud.call("SetVipQos", uuid=vip, port=80, outboundBandwidth=3 * mib)
    await cloud.call("SetVipQos", uuid=vip, outboundBandwidth=4 * mib)
    assert await limits() == {None: (2 * mib, 4 * mib), 80: (None, 3 * mib)}
    await cloud.call("DeleteVipQos", uuid=vip)
    assert await limits() == {80: (None, 3 * mib)}
    await cloud.call("SetVipQos", uuid=vip, port=443, inboundBandwidth=mib)
    await cloud.call("DeleteVipQos", uuid=vip, port=443)
    assert await limits() == {80: (None, 3 * mib)}
    await cloud.delete("vips", vip)
    assert not cloud.cloud.store.count("VipQos")


# the rows that docs/adding-apis.md shows


async def test_a_resource_is_there_by_its_rows_alone(tmp_path, monkeypatch):
    file = Path(__file__).parent.parent / "data" / "catalogue.json"
    without = {table: {n: row for n, row in rows.items() if "Webhook" not in row.get("name", "")} for table, rows in json.loads(file.read_text("utf-8")).items()}
    blocks = [json.loads(block) for block in blocks_of(file.parent.parent / "docs/adding-apis.md", "json")]
    shown = [row for block in blocks for rows in block.values() for row in rows if "Webhook" in row["name"]]
    assert len(shown) == 5
    for rows, there in (([], False), (shown, True)):
        for row in rows:
            without["apis" if "call" in row else "inventories"][row["name"]] = row
        (tmp_path / "catalogue.json").write_text(json.dumps(without))
        catalogue = Catalogue(tmp_path / "catalogue.json")
        assert ("Webhook" in catalogue.resources, "CreateWebhook" in catalogue.apis) == (there, there)
    monkeypatch.setattr("zmock.Catalogue", lambda _file: catalogue)
    async with serve() as mock:
        hook = await mock.create("CreateWebhook", name="h", url="http://127.0.0.1/", type="custom")
        assert (await one(mock, "web-hooks", "name=h"))["uuid"] == hook["uuid"]
        assert (await mock.call("UpdateWebhook", uuid=hook["uuid"], name="g"))["inventory"]["name"] == "g"
        await mock.delete("web-hooks", hook["uuid"])
        assert await mock.query("web-hooks") == []
