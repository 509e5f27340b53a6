"""What must hold whatever is called, in whatever order: nothing leads to what is gone, and what is left is what there is less what is used.

Stories of what once did not add up, and a driver that calls anything; both end with a look at all that there is.
"""

import itertools
import json
import os
import re
from collections import Counter
from random import Random
from urllib.parse import urlencode

import pytest
from asking import ask_control, without_exceptions
from test_every_api import CATALOGUE, GIVEN, SIMULATED, Drive

from zmock import (
    available_capacity,
    available_cpus,
    available_memory,
    catalogue,
    contains,
    named,
    serve,
    total_capacity,
)

LEFT = {"Session.userUuid", "Volume.diskOfferingUuid", "Volume.rootImageUuid", "LocalStorageResourceRef.resourceUuid", "VmInstance.imageUuid", "ImageCache.imageUuid", "LongJob.targetResourceUuid"}  # what they were made of
OVER = ("Created", "Stopped", "Destroyed")
UNSETTLED = {state for state, changes in catalogue().resources["VmInstance"].interrupted.items() if "state" in changes}


def doubtful_keys(cloud):
    """Keys and lists of keys that lead to what is gone."""
    for row in (row for row in CATALOGUE.resources.values() if not row.of):
        ends = {name: type for name, type in row.leads.items() if f"{row.name}.{name}" not in LEFT and name != "uuid"}
        for item, (name, type) in itertools.product([*cloud.store.rows(row.stored)], ends.items()):
            types = [CATALOGUE.resources[type].stored, *(["IAM2VirtualID"] if row.name == "Session" else [])]  # who a session is of
            if item.get(name) and isinstance(item[name], str) and not any(cloud.look(one, item[name]) for one in types):
                yield f"{row.name}.{name} leads to no {type}"
    for type, name in (("PrimaryStorage", "attachedClusterUuids"), ("L2Network", "attachedClusterUuids"), ("BackupStorage", "attachedZoneUuids"),
                       ("Vip", "peerL3NetworkUuids"), ("SecurityGroup", "attachedL3NetworkUuids"), ("SchedulerJob", "triggersUuid")):  # fmt: skip
        yield from (f"{type}.{name} leads to nothing" for item in cloud.store.rows(type) for uuid in item.get(name, ()) if not cloud.exists("Resource", uuid))
    for type in ("SystemTag", "UserTag"):
        yield from (f"a {type} of nothing" for tag in cloud.store.rows(type) if not cloud.exists("Resource", tag["resourceUuid"]))


def doubtful_capacity(cloud):
    for host in cloud.store.rows("Host"):
        if "cpuNum" in host and (available_cpus(cloud, host) < 0 or available_memory(cloud, host) < 0):
            yield f"{host['name']} has more virtual machines than it has room for"
        memory = sum(vm["memorySize"] for vm in cloud.find("VmInstance", "hostUuid", host["uuid"]) if vm["state"] not in (*OVER, "Destroying"))
        if "totalMemoryCapacity" in host and available_memory(cloud, host) != host["totalMemoryCapacity"] - memory:
            yield f"{host['name']} has other memory than what its virtual machines leave"
    adding = any(host["status"] == "Connecting" for host in cloud.store.rows("Host"))  # nobody knows its disk yet
    for ps in (ps for ps in cloud.store.rows("PrimaryStorage") if ps["type"] not in {"SimulatorPrimaryStorage", adding and "LocalStorage"}):
        kept = [item for type in ("Volume", "VolumeSnapshot", "ImageCache") for item in cloud.find(type, "primaryStorageUuid", ps["uuid"])]
        kept = [item for item in kept if "treeUuid" not in item or "type" in item]  # a snapshot of a reimage takes nothing
        left = max(0, total_capacity(cloud, ps) - sum(item["size"] for item in kept if "installPath" in item or "treeUuid" in item or "imageUuid" in item))
        available = left if ps["uuid"] in cloud.outages.full_storages else available_capacity(cloud, ps)
        if not 0 <= available <= total_capacity(cloud, ps) or (ps["type"] != "LocalStorage" and available != left):
            yield f"{left} of {ps['name']} is left, not {available}"


def doubtful_addresses(cloud):
    used = [item for type in ("VmNic", "Vip") for item in cloud.store.rows(type) if item.get("ip") and "SNAT" not in item.get("useFor", "")]  # a router and its virtual IP share one
    yield from (f"{ip} is used twice" for (_, ip), n in Counter((item.get("l3NetworkUuid", item["uuid"]), item["ip"]) for item in used).items() if n > 1)
    for item in (item for item in used if item.get("ipRangeUuid")):
        found = cloud.look("IpRange", item["ipRangeUuid"])
        if not contains(f"{found['startIp']}-{found['endIp']}", item["ip"]):
            yield f"{item['ip']} is in no range"
    for type in ("Eip", "PortForwardingRule"):
        for item in cloud.store.rows(type):
            if "guestIp" in item and "vmNicUuid" not in item:
                yield f"a {type} leads to an address of no nic"
            if type == "Eip" and item.get("guestIp") != cloud.look("VmNic", item.get("vmNicUuid")).get("ip"):
                yield f"a {type} leads to {item.get('guestIp')}"
            if type.removesuffix("Rule") not in cloud.look("Vip", item["vipUuid"]).get("useFor", "").split(","):
                yield f"a {type} is not what its virtual IP is for"
    for ref in cloud.store.rows("VmNicSecurityGroupRef"):
        l3 = cloud.look("VmNic", ref["vmNicUuid"]).get("l3NetworkUuid")  # a nic may outlive its network
        if l3 and l3 not in cloud.look("SecurityGroup", ref["securityGroupUuid"])["attachedL3NetworkUuids"]:
            yield "a nic is in a security group that is not on its network"
    for listener in cloud.store.rows("LoadBalancerListener"):
        nics = [ref["vmNicUuid"] for ref in listener["vmNicRefs"]]
        if len({*nics}) < len(nics) or not all(cloud.exists("VmNic", uuid) for uuid in nics):
            yield "a listener has a nic twice, or one that is gone"
        if {ref["listenerUuid"] for ref in listener["vmNicRefs"]} - {listener["uuid"]}:
            yield "a listener has a nic of another one"
    for nic in cloud.store.rows("VmNic"):
        range = cloud.look("IpRange", nic.get("ipRangeUuid"))
        if range and (range["l3NetworkUuid"], range["netmask"], range["gateway"]) != (nic.get("l3NetworkUuid"), nic["netmask"], nic["gateway"]):
            yield "a nic has an address of another network"
        if not nic.get("ip") and {"netmask", "gateway", "ipRangeUuid"} & {name for name, value in nic.items() if value}:
            yield "a nic has no address, and parts of one"
    for mac, n in Counter(nic["mac"] for nic in cloud.store.rows("VmNic") if nic.get("mac")).items():
        if n > 1:
            yield f"{mac} is used twice"


def serving(cloud, nics):
    """What the nics are used for, by types. Listeners and security groups take nics of any machine."""
    return [type for type in ("Eip", "PortForwardingRule") for nic in nics if cloud.find(type, "vmNicUuid", nic["uuid"])]


def reaches_storage(cloud, vm):
    disks = [disk for disk in cloud.find("Volume", "vmInstanceUuid", vm["uuid"]) if "primaryStorageUuid" in disk]
    return all(vm.get("clusterUuid") in cloud.look("PrimaryStorage", disk["primaryStorageUuid"])["attachedClusterUuids"] for disk in disks)


def doubtful_vms(cloud, lost):
    for vm in cloud.store.rows("VmInstance"):
        state, root, nics = vm["state"], cloud.look("Volume", vm.get("rootVolumeUuid")), cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])
        disks = [disk.get("deviceId") for type in ("Volume", "ShareableVolumeVmInstanceRef") for disk in cloud.find(type, "vmInstanceUuid", vm["uuid"])]
        host = cloud.look("Host", vm.get("hostUuid"))
        checks = {
            "is on a host": not (state in OVER and vm.get("hostUuid")) or state == "Created", "is on no host": state in {*OVER, "Paused", *UNSETTLED} or vm.get("hostUuid"),  # a removed host leaves paused machines as they are
            "has no root volume": ("rootVolumeUuid" not in vm and state in {*OVER, *UNSETTLED}) or root.get("vmInstanceUuid") == vm["uuid"],
            "has a Deleted root volume": state in UNSETTLED or not root or root["status"] != "Deleted" or state == "Destroyed",
            "has two disks with one number": len({*disks}) == len(disks) and None not in disks,
            "has two nics with one number": len({nic["deviceId"] for nic in nics}) == len(nics),
            "has a nic without address": state not in ("Running", "Paused") or all(nic.get("ip") for nic in nics),
            "is elsewhere than its host": not host or state in {"Created", *UNSETTLED} or (host["clusterUuid"], host["zoneUuid"]) == (vm["clusterUuid"], vm["zoneUuid"]),
            "has an address, an EIP, a rule or a data disk": state != "Destroyed" or not (any(nic.get("ip") for nic in nics) or serving(cloud, nics) or len(disks) > 1),
            "runs on storage out of reach": state != "Running" or vm["uuid"] in lost or reaches_storage(cloud, vm),
            "has an ISO twice, or more than 3": len(isos := [tag["tag"].split("::")[1:] for tag in cloud.find("SystemTag", "resourceUuid", vm["uuid"]) if tag["tag"].startswith("iso::")])
                == len({iso for iso, _ in isos}) == len({number for _, number in isos}) < 4,
            "is on a host in maintenance": host.get("state") != "Maintenance" or state == "Created",
            "is known on a host out of reach": host.get("status") != "Disconnected" or state in {"Created", "Unknown", *UNSETTLED},
            "has another network by default": vm["type"] != "UserVm" or state in {"Created", *UNSETTLED} or vm["uuid"] in lost or state == "Destroyed" or vm.get("defaultL3NetworkUuid") in (None, *(nic.get("l3NetworkUuid", vm["defaultL3NetworkUuid"]) for nic in nics)),
        }  # fmt: skip
        yield from (f"a {state} vm {said}" for said, well in checks.items() if not well)


def doubtful_volumes(cloud):
    for volume in cloud.store.rows("Volume"):
        local = cloud.look("PrimaryStorage", volume.get("primaryStorageUuid")).get("type") == "LocalStorage" and "installPath" in volume
        trees, snapshots = (cloud.find(type, "volumeUuid", volume["uuid"]) for type in ("VolumeSnapshotTree", "VolumeSnapshot"))
        made = [snapshot for snapshot in snapshots if "primaryStorageUuid" in snapshot]
        checks = {
            "is Ready nowhere": volume["status"] != "Ready" or "installPath" in volume,
            "has a vm and no number": "deviceId" in volume or "vmInstanceUuid" not in volume or cloud.jobs.runs,
            "is of nobody": volume["type"] != "Root" or "vmInstanceUuid" in volume,
            "is on no disk of a host, or on one too much": local == bool(cloud.look("LocalStorageResourceRef", volume["uuid"])) or volume["status"] == "Deleted",
            "has snapshots elsewhere": all(snapshot["primaryStorageUuid"] == volume["primaryStorageUuid"] for snapshot in made),
            "has two current trees": sum(tree["current"] for tree in trees) < 2,
            "has a tree of nothing, or a snapshot of no tree": {tree["uuid"] for tree in trees} == {snapshot["treeUuid"] for snapshot in snapshots},
        }  # fmt: skip
        for tree in trees:
            of = {snapshot["uuid"]: snapshot for snapshot in snapshots if snapshot["treeUuid"] == tree["uuid"]}
            ends, roots = sum(one["latest"] for one in of.values()), sum("parentUuid" not in one for one in of.values())
            checks["has a tree with two ends or roots, or a current one without an end"] = ends in ((1,) if tree["current"] else (0, 1)) and roots == 1
            checks["has a snapshot below one of another tree"] = all(one.get("parentUuid", uuid) in of for uuid, one in of.items())
            checks["has a tree that shows something else"] = {*re.findall(r"'inventory': {'uuid': '(\w+)'", str(cloud.inventory("VolumeSnapshotTree", tree)))} == of.keys()
        yield from (f"a {volume['status']} {volume['type']} volume {said}" for said, well in checks.items() if not well)
    for image in cloud.store.rows("Image"):
        stores = [ref["backupStorageUuid"] for ref in image["backupStorageRefs"]]
        if len({*stores}) < len(stores) or not all(cloud.look("BackupStorage", uuid) for uuid in stores):
            yield "an image is twice on a backup storage, or on none"


UNDER_WAY = {"Connecting", "PreMaintenance", "Creating", "Deleting", "Migrating", "Downloading", *UNSETTLED}


def doubtful(cloud, lost=frozenset()):
    """What does not add up, in words. Machines that have `lost` a network, or never got it, may have it by default."""
    found = {*doubtful_keys(cloud), *doubtful_capacity(cloud), *doubtful_addresses(cloud), *doubtful_vms(cloud, lost), *doubtful_volumes(cloud)}
    for type in ("Host", "PrimaryStorage", "BackupStorage", "VmInstance", "Volume", "VolumeSnapshot", "Image") if not cloud.jobs.runs else ():
        here = [item for item in cloud.store.rows(type) if type != "Volume" or item["size"] or item["status"] != "Creating"]  # one of a snapshot that failed stays
        found |= {f"a {type} is {state} for ever" for item in here for state in {type != "PrimaryStorage" and item.get("state"), item.get("status")} & UNDER_WAY}
    return found


# stories


@pytest.fixture
async def cloud(zmock):
    await zmock.login()
    yield zmock
    assert doubtful(zmock.cloud) == set()




async def send(cloud, api, params):
    """Sends a call and does not wait for what comes of it."""
    path = api.path.format(**{name: params.get(name) for name in re.findall(r"\{(\w+)\}", api.path)})
    sent = {name: value for name, value in params.items() if f"{{{name}}}" not in api.path}
    return await cloud.request(api.method, f"{path}?{urlencode(sent, doseq=True)}" if api.method == "DELETE" else path, None if api.method == "DELETE" else {api.key: sent})


async def under_way(cloud, api, **params):
    assert (await send(cloud, SIMULATED[api], params))[0] == 202
    await cloud.clock.settle()


ZONE, CLUSTER_2, NFS, LOCAL, STORE = (named(name) for name in ("zone-1", "cluster-2", "ps-nfs", "ps-local", "bs-1"))
CENTOS, SMALL, PRIVATE, PUBLIC, DATA = (named(name) for name in ("image-centos7", "offering-small", "l3-private", "l3-public", "volume-db-data-1"))
VM = {"name": "n", "imageUuid": CENTOS, "instanceOfferingUuid": SMALL, "l3NetworkUuids": [PRIVATE]}
slow = pytest.mark.zmock(delay="10")


@slow
async def test_what_a_restart_interrupts_is_there_or_not_and_nothing_in_between(cloud):
    await cloud.call("PrimaryStorageMigrateVolume", volumeUuid=named("volume-spare"), dstPrimaryStorageUuid=NFS)
    for api, params in (
        ("AddNfsPrimaryStorage", {"name": "n", "url": "10.10.0.100:/n", "zoneUuid": ZONE}),
        ("AddSftpBackupStorage", {"name": "n", "url": "/n", "hostname": "h", "username": "u", "password": "p"}),
        ("CreateVmInstance", VM), ("CreateVolumeSnapshot", {"name": "n", "volumeUuid": named("volume-spare")}),
        ("DeleteVolumeSnapshot", {"uuid": named("snapshot-2")}),
        ("CreateDataVolumeFromVolumeSnapshot", {"name": "n", "volumeSnapshotUuid": named("snapshot-1"), "primaryStorageUuid": NFS}),
        ("ChangeHostState", {"uuid": named("host-1"), "stateEvent": "maintain"}),
    ):  # fmt: skip
        await under_way(cloud, api, **params)
    await cloud.advance(1)
    await cloud.incident({"management-node-restart": {}})
    assert [vm["state"] for vm in await cloud.query("vm-instances", "name=n")] == ["Created"], "it has no volume yet"


@slow
async def test_what_zmock_kept_itself_is_never_called_odd(cloud):
    await cloud.create("AddSimulatorBackupStorage", name="n", url="/n")
    for api, params in (
        ("CreateVolumeSnapshot", {"name": "n", "volumeUuid": DATA}), ("CreateVmInstance", VM), ("CloneVmInstance", {"vmInstanceUuid": named("vm-ci-1"), "names": ["n"]}),
        ("AddKVMHost", {"name": "n", "managementIp": "10.10.0.99", "clusterUuid": CLUSTER_2, "username": "u", "password": "p"}),
        ("AddNfsPrimaryStorage", {"name": "n", "url": "10.10.0.100:/n", "zoneUuid": ZONE}), ("ReimageVmInstance", {"vmInstanceUuid": named("vm-ci-1")}),
    ):  # fmt: skip
        await under_way(cloud, api, **params)
    for step in range(5):
        await ask_control(cloud, "PUT", f"snapshots/{step}")
        await cloud.advance(3)
    for step in range(5):
        assert (await ask_control(cloud, "POST", f"snapshots/{step}/restore"))["found"] == [], step


@slow
async def test_of_two_snapshots_at_once_one_may_fail(cloud):
    for volume in (named("volume-db-data-2"),) * 2:
        await under_way(cloud, "CreateVolumeSnapshot", name="n", volumeUuid=volume)
    cloud.cloud.jobs.fail(next(iter(cloud.cloud.jobs.running.values())), None)
    await cloud.advance(30)
    assert len(await cloud.query("volume-snapshots", f"volumeUuid={named('volume-db-data-2')}")) == 1


@slow
async def test_an_image_on_its_way_has_no_size_and_no_copy_twice(cloud):
    await under_way(cloud, "AddImage", name="n", url="http://mirror.example.com/n", format="qcow2", backupStorageUuids=[STORE, STORE])
    (image,) = await cloud.query("images", "name=n")
    assert image["size"] == 0 and await cloud.call("GetCandidatePrimaryStoragesForCreatingVm", imageUuid=image["uuid"], l3NetworkUuids=[PRIVATE])
    await cloud.advance(20)


async def test_snapshots_go_along_with_their_volume(cloud):
    await cloud.call("StopVmInstance", uuid=named("vm-db-1"))
    new = (await cloud.create("AddNfsPrimaryStorage", name="n", url="10.10.0.100:/n", zoneUuid=ZONE))["uuid"]
    await cloud.call("AttachPrimaryStorageToCluster", primaryStorageUuid=new, clusterUuid=named("cluster-1"))
    await cloud.call("PrimaryStorageMigrateVolume", volumeUuid=DATA, dstPrimaryStorageUuid=new)


async def test_a_destroyed_vm_has_no_address_outside_and_is_recovered_without(cloud):
    vm = (await cloud.query("vm-instances", "name=web-1"))[0]
    await cloud.call("DestroyVmInstance", uuid=vm["uuid"])
    assert "guestIp" not in (await cloud.query("eips", f"uuid={named('eip-1')}"))[0]
    await cloud.call("RecoverVmInstance", uuid=vm["uuid"])
    await cloud.create("StartVmInstance", uuid=vm["uuid"])
    assert not {"guestIp", "vmNicUuid"} & (await cloud.query("eips", f"uuid={named('eip-1')}"))[0].keys()


async def test_the_network_of_a_nic_that_is_left_is_the_default_one(cloud):
    vm = await cloud.create("AttachL3NetworkToVm", vmInstanceUuid=named("vm-web-2"), l3NetworkUuid=PUBLIC)
    for nic, left in zip(sorted(vm["vmNics"], key=lambda nic: nic["deviceId"]), (PUBLIC, None)):
        assert (await cloud.call("DetachL3NetworkFromVm", vmNicUuid=nic["uuid"]))["inventory"].get("defaultL3NetworkUuid") == left
    assert (await cloud.create("AttachL3NetworkToVm", vmInstanceUuid=vm["uuid"], l3NetworkUuid=PRIVATE))["defaultL3NetworkUuid"] == PRIVATE


async def test_a_network_that_goes_while_a_machine_is_made_fails_the_creation():
    async with serve(delay="10") as mock:
        await mock.login()
        delete = await mock.request("DELETE", f"/l3-networks/{PRIVATE}")
        await mock.advance(6)
        params = {"name": "v", "imageUuid": CENTOS, "instanceOfferingUuid": named("offering-small"), "l3NetworkUuids": [PRIVATE]}
        create = await mock.request("POST", "/vm-instances", {"params": params})
        await mock.advance(20)
        statuses = [await mock.request("GET", "/api-jobs/" + answer["location"][-32:]) for _, answer in (delete, create)]
        assert [status for status, _ in statuses] == [200, 503]
        assert f"Unable to find L3Network[uuid:{PRIVATE}], it may have been deleted" in str(statuses[1][1])
        assert await mock.query("vm-instances", "name=v") == []


async def test_what_a_network_and_a_cluster_take_along(cloud):
    await cloud.create("CreateVirtualRouterOffering", name="o", cpuNum=1, memorySize=1 << 30, zoneUuid=ZONE, imageUuid=CENTOS, managementNetworkUuid=PUBLIC)
    router = await cloud.create("CreateVpcVRouter", name="r", virtualRouterOfferingUuid=(await cloud.query("instance-offerings", "name=o"))[0]["uuid"])
    await cloud.call("DeleteCluster", uuid=router["clusterUuid"])
    await cloud.call("DeleteL3Network", uuid=PRIVATE)
    assert doubtful(cloud.cloud) == set() and (await cloud.query("vm-instances", "name=r"))[0]["hostUuid"] in (named("host-3"), named("host-4")), "it has moved"
    await cloud.call("DeleteL3Network", uuid=PUBLIC)
    assert not await cloud.query("instance-offerings", "name=o") and not await cloud.query("vm-instances", "name=r")


async def test_a_nic_without_a_network_is_not_cloned(cloud):
    (nic,) = await cloud.query("vm-instances/nics", "vmInstance.name=ci-1")
    cloud.cloud.change("VmNic", nic["uuid"], l3NetworkUuid=None, ip=None, netmask=None, gateway=None, ipRangeUuid=None)
    (clone,) = (await cloud.call("CloneVmInstance", vmInstanceUuid=named("vm-ci-1"), names=["n"], strategy="JustCreate"))["result"]["inventories"]
    assert "error" not in clone and clone["inventory"]["vmNics"] == []


async def test_local_storage_is_the_disks_of_its_hosts(cloud):
    await cloud.create("AddSimulatorHost", name="s", managementIp="10.10.0.99", clusterUuid=CLUSTER_2)
    volume = await cloud.create("CreateDataVolume", name="n", diskOfferingUuid=named("disk-20g"), primaryStorageUuid=LOCAL,
                                systemTags=[f"localStorage::hostUuid::{named('host-3')}"])  # fmt: skip
    await cloud.create("CreateVolumeSnapshot", name="n", volumeUuid=volume["uuid"])
    await cloud.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=LOCAL, clusterUuid=CLUSTER_2)
    assert doubtful(cloud.cloud) == set()
    await cloud.call("DeleteDataVolume", uuid=volume["uuid"])
    await cloud.call("ExpungeDataVolume", uuid=volume["uuid"])


async def test_nics_leave_a_security_group_with_their_network(cloud):
    group, nic = (await cloud.create("CreateSecurityGroup", name="g"))["uuid"], (await cloud.query("vm-instances/nics", "vmInstance.name=web-2"))[0]["uuid"]
    await cloud.call("AttachSecurityGroupToL3Network", securityGroupUuid=group, l3NetworkUuid=PRIVATE)
    await cloud.call("AddVmNicToSecurityGroup", securityGroupUuid=group, vmNicUuids=[nic])
    await cloud.call("DetachSecurityGroupFromL3Network", securityGroupUuid=group, l3NetworkUuid=PRIVATE)


async def test_a_disk_whose_offering_is_gone_is_not_made(cloud):
    vm = await cloud.create("CreateVmInstance", **VM, dataDiskOfferingUuids=[named("disk-20g")], strategy="JustCreate")
    await cloud.call("DeleteDiskOffering", uuid=named("disk-20g"))
    assert [volume["type"] for volume in (await cloud.create("StartVmInstance", uuid=vm["uuid"]))["allVolumes"]] == ["Root"]


# anything

OFTEN = """CreateVmInstance CreateVmInstance StartVmInstance StartVmInstance StopVmInstance RebootVmInstance PauseVmInstance ResumeVmInstance MigrateVm DestroyVmInstance
    RecoverVmInstance RecoverVmInstance ExpungeVmInstance CloneVmInstance UpdateVmInstance ChangeInstanceOffering ReimageVmInstance AttachIsoToVmInstance
    AttachL3NetworkToVm DetachL3NetworkFromVm SetVmStaticIp DeleteVmStaticIp CreateVip DeleteVip CreateEip AttachEip DetachEip DeleteEip CreatePortForwardingRule
    AttachPortForwardingRule DetachPortForwardingRule CreateLoadBalancer CreateLoadBalancerListener AddVmNicToLoadBalancer AddVmNicToLoadBalancer
    RemoveVmNicFromLoadBalancer CreateSecurityGroup AttachSecurityGroupToL3Network DetachSecurityGroupFromL3Network AddVmNicToSecurityGroup AddVmNicToSecurityGroup
    DeleteVmNicFromSecurityGroup CreateDataVolume AttachDataVolumeToVm DetachDataVolumeFromVm DeleteDataVolume RecoverDataVolume ExpungeDataVolume ResizeDataVolume
    CreateVolumeSnapshot CreateVolumeSnapshot CreateVolumeSnapshot RevertVolumeFromSnapshot DeleteVolumeSnapshot CreateDataVolumeFromVolumeSnapshot
    PrimaryStorageMigrateVolume PrimaryStorageMigrateVm LocalStorageMigrateVolume AddKVMHost ChangeHostState ReconnectHost AddImage DeleteImage RecoverImage ExpungeImage""".split()
SELDOM = {f"Delete{type}" for type in ("Zone", "Cluster", "Host", "PrimaryStorage", "BackupStorage", "L2Network", "L3Network", "IpRange")}
OTHERS = re.compile("ZQL|Batch|Account|User|Policy|License|Quota|LogIn|LogOut|Session|Global|Nas|Vcenter|Share")
ANY = sorted(name for name, api in SIMULATED.items() if api.kind not in ("Query", "Get") and not OTHERS.search(name) and name not in SELDOM)
TROUBLE = ({"host-down": "host-1"}, {"network-partition": "cluster-2"}, {"primary-storage-full": "ps-nfs"}, {"management-node-restart": {}})
POLICIES = [(category, "deletionPolicy", value) for category in ("vm", "volume", "image") for value in ("Direct", "Delay", "Never")]
SETTINGS = [*POLICIES, *((*name, value) for value in ("true", "false") for name in
    (("vm", "dataVolume.deleteOnVmDestroy"), ("vm", "numa"), ("localStoragePrimaryStorage", "liveMigrationWithStorage.allow")))]  # fmt: skip
SIZES = {"size": (1 << 30, 300 << 30), "diskSize": (1 << 30, 300 << 30), "memorySize": (1 << 30, 100 << 30), "cpuNum": (1, 4),
         "vipPortStart": range(1, 99), "loadBalancerPort": range(1, 99)}  # fmt: skip


def of_state(*states):
    return lambda item: item["state"] in states


FITTING = {  # of what a call is likely to succeed about
    "StartVmInstance": of_state("Stopped", "Created"), "RecoverVmInstance": of_state("Destroyed"), "ExpungeVmInstance": of_state("Destroyed"),
    "ResumeVmInstance": of_state("Paused"), "ReimageVmInstance": of_state("Stopped"), "PrimaryStorageMigrateVm": of_state("Stopped"),
    **{api: of_state("Running") for api in ("StopVmInstance", "RebootVmInstance", "PauseVmInstance", "MigrateVm")},
    "AttachDataVolumeToVm": lambda item: "rootVolumeUuid" in item or (item.get("type") == "Data" and "vmInstanceUuid" not in item and item["status"] != "Deleted"),
    "DetachDataVolumeFromVm": lambda item: item["type"] == "Data" and "vmInstanceUuid" in item,
    "DeleteDataVolume": lambda item: item["type"] == "Data", "CreateVolumeSnapshot": lambda item: item["status"] == "Ready",
    **{api: lambda item: item["type"] == "Data" and item["status"] == "Deleted" for api in ("RecoverDataVolume", "ExpungeDataVolume")},
    **{api: lambda item: item.get("status", "Deleted") == "Deleted" for api in ("RecoverImage", "ExpungeImage")},
    **{f"Attach{type}": lambda item: "vipUuid" not in item or "vmNicUuid" not in item for type in ("Eip", "PortForwardingRule")},
    **{f"Detach{type}": lambda item: "vmNicUuid" in item for type in ("Eip", "PortForwardingRule")},
    **{f"Create{type}": lambda item: "mac" in item or "useFor" not in item for type in ("Eip", "PortForwardingRule", "LoadBalancer")},
}  # fmt: skip


class Anything(Drive):
    """Makes calls of any API about anything that is there."""

    def __init__(self, mock, random):
        super().__init__(mock)
        self.random, self.lost, self.done = random, set(), []

    def some(self, items):
        return self.random.choice(there) if (there := [*items]) else None

    async def params(self, api):
        said = {name: value for name, value in GIVEN.get(api.name, {}).items() if "@" not in str(value)} | self.related(api)
        for param in api.params.values():
            by_hand = api.name == "UpdateVmInstance" and param.name in ("state", "defaultL3NetworkUuid")  # are written as they are
            if param.name not in (*said, "resourceUuid") and not by_hand and (param.required or self.random.random() < 0.25):
                said[param.name] = await self.value(param, FITTING.get(api.name))
        if api.name.startswith("Delete") and self.random.random() < 0.2:
            said["deleteMode"] = self.random.choice(("Permissive", "Enforcing"))
        fails = "name" in said and self.random.random() < 0.05
        return {name: value for name, value in said.items() if value is not None} | ({"name": "#zmock fail"} if fails else {})

    def related(self, api):
        """Parameters that are about the same thing: a nic and its network, a listener and its nic."""
        rows, names, nic = self.store.rows, api.params.keys(), self.some(nic for nic in self.store.rows("VmNic") if "l3NetworkUuid" in nic)
        if not nic or self.random.random() < 0.2:
            return {}
        if api.name in ("SetVmStaticIp", "DeleteVmStaticIp", "AttachL3NetworkToVm"):
            ip = f"{nic.get('gateway', '192.168.100.1').rpartition('.')[0]}.{self.random.randint(2, 40)}"
            of_nic = {"vmInstanceUuid": nic["vmInstanceUuid"], "l3NetworkUuid": nic["l3NetworkUuid"], "ip": ip, "staticIp": ip}
            return {name: of_nic[name] for name in names & ({*of_nic} - ({"l3NetworkUuid"} if api.name[0] == "A" else set()))}
        if api.name == "RemoveVmNicFromLoadBalancer" and (ref := self.some(ref for listener in rows("LoadBalancerListener") for ref in listener["vmNicRefs"])):
            return {"listenerUuid": ref["listenerUuid"], "vmNicUuids": [ref["vmNicUuid"]]}
        if api.name == "DeleteVmNicFromSecurityGroup" and (ref := self.some(rows("VmNicSecurityGroupRef"))):
            return {"securityGroupUuid": ref["securityGroupUuid"], "vmNicUuids": [ref["vmNicUuid"]]}
        group = self.some(group for group in rows("SecurityGroup") if nic["l3NetworkUuid"] in group["attachedL3NetworkUuids"])
        if group and api.name in ("AddVmNicToSecurityGroup", "DetachSecurityGroupFromL3Network"):
            return {name: {"vmNicUuids": [nic["uuid"]], "l3NetworkUuid": nic["l3NetworkUuid"]}.get(name, group["uuid"]) for name in names}
        ref = self.some(rows("LocalStorageResourceRef"))
        if api.name == "LocalStorageMigrateVolume" and ref:
            return {"volumeUuid": ref["resourceUuid"]}
        local = api.name == "CreateDataVolume" and self.some(rows("LocalStorageHostRef") if "LocalStorageHostRef" in self.store.tables else ())
        return {"primaryStorageUuid": local["primaryStorageUuid"]} if local else {}

    async def value(self, param, fits=None):
        if param.refers:
            uuids = [self.any(param.refers, fits) for _ in range(self.random.randint(1, 2))]
            return [*dict.fromkeys(uuid for uuid in uuids if uuid)] if param.type == "list" else uuids[0]
        if param.name in SIZES or param.values or param.type == "bool":
            return self.random.choice(SIZES.get(param.name) or param.values or (True, False))
        return f"10.10.0.{self.random.randint(60, 99)}" if param.name == "managementIp" else await super().value(param)

    def any(self, type, fits=None):
        row = CATALOGUE.resources[type if type != "Resource" else "VmInstance"]
        there = [item for item in self.store.in_order(row.stored) if row.has(item)]
        if fits and self.random.random() < 0.8 and type in ("VmInstance", "Volume", "Image", "Eip", "PortForwardingRule", "Vip"):
            there = [item for item in there if fits(item)] or there
        return there and self.random.choice(there)["uuid"] or None

    async def do(self, name):
        api = SIMULATED[name]
        params = await self.params(api)
        if all(params.get(variable) for variable in re.findall(r"\{(\w+)\}", api.path)):
            self.done.append((name, params))
            with without_exceptions(name, params):
                await send(self.mock, api, params)

    async def trouble(self):
        self.mock.rule(api=(api := self.random.choice(OFTEN)), times=1, then={"error": "SYS.1006", "stage": [*stages][-1]} if (stages := SIMULATED[api].stages) else {"error": "SYS.1006"})
        for id in [*self.mock.cloud.outages.incidents]:
            await self.mock.end_incident(id)
        (kind, about), = self.random.choice(TROUBLE).items()
        if about == {} or any(item["name"] == about for type in ("Host", "Cluster", "PrimaryStorage") for item in self.store.rows(type)):
            await self.mock.incident({kind: about})

    async def step(self):
        """Make a call, pass some time or none, and look at what there is."""
        random = self.random
        await self.do(random.choice(OFTEN if random.random() < 0.7 else ANY if random.random() < 0.97 else sorted(SELDOM)))
        if random.random() < 0.15:
            await self.mock.advance(random.choice((1, 5, 20, 60)))
        if random.random() < 0.005:
            await self.mock.advance(90000)  # what was deleted a day ago is expunged
            await self.mock.login()
        if random.random() < 0.03:
            await self.trouble()
        if random.random() < 0.02:
            category, name, value = random.choice(SETTINGS)
            await self.mock.call("UpdateGlobalConfig", category=category, name=name, value=value)
        await self.mock.clock.settle()
        for vm in self.store.rows("VmInstance"):  # one whose first start a restart interrupts has no nics; one that cannot be stopped when its storage goes runs later
            nics = [*self.store.find("VmNic", "vmInstanceUuid", vm["uuid"])]
            if vm["state"] == "Destroyed" or (vm["state"] in ("Starting", "Stopped") and not nics and "l3NetworkUuids" in vm) or not all("l3NetworkUuid" in nic for nic in nics):
                self.lost.add(vm["uuid"])
            away = self.mock.cloud.look("Host", vm.get("hostUuid")).get("status") != "Connected"
            if (away or vm["state"] in {"Unknown", *UNSETTLED}) and not reaches_storage(self.mock.cloud, vm):
                self.lost.add(vm["uuid"])
        assert doubtful(self.mock.cloud, self.lost) == set(), self.done[-3:]


async def test_a_machine_that_never_ran_is_exported_without_its_network(cloud, tmp_path):
    network = (await cloud.create("CreateL3Network", name="n", l2NetworkUuid=named("l2-public")))["uuid"]
    await cloud.call("CreateVmInstance", **VM | {"name": "new", "l3NetworkUuids": [network], "strategy": "JustCreate"})
    await cloud.delete("l3-networks", network)
    exported = tmp_path / "exported.json"
    exported.write_text(json.dumps(await ask_control(cloud, "GET", "cloud")))
    async with serve(cloud=str(exported)) as copy:
        assert [vm["state"] for vm in await copy.query("vm-instances", "name=new")] == ["Created"]
        with pytest.raises(RuntimeError, match="Unable to find L3Network"):
            await copy.act("vm-instances", (await copy.query("vm-instances", "name=new"))[0]["uuid"], "startVmInstance")


async def test_a_cloud_file_has_the_collections_whose_path_ends_with_a_slash(tmp_path):
    exported = tmp_path / "exported.json"
    exported.write_text(json.dumps({row.path: [] for row in CATALOGUE.collections.values()}))
    async with serve(cloud=str(exported)) as copy:
        assert await copy.query("zones") == []


@slow
async def test_a_storage_that_goes_while_a_machine_moves_there_fails_the_move(cloud):
    await cloud.call("StopVmInstance", uuid=named("vm-db-1"))
    new = (await cloud.create("AddNfsPrimaryStorage", name="n", url="10.10.0.100:/n", zoneUuid=ZONE))["uuid"]
    await cloud.call("AttachPrimaryStorageToCluster", primaryStorageUuid=new, clusterUuid=named("cluster-1"))
    with without_exceptions():
        await under_way(cloud, "PrimaryStorageMigrateVm", vmInstanceUuid=named("vm-db-1"), dstPrimaryStorageUuid=new)
        cloud.cloud.remove("PrimaryStorage", new)
        await cloud.advance(30)
    (job,) = (job for job in cloud.jobs() if job["api"] == "PrimaryStorageMigrateVm")
    assert job["state"] == "failed" and f"[uuid:{new}" in json.dumps(job)


CLOUDS = 2, int(os.environ.get("ROUNDS", "40"))  # how many are lived through: in each run, and in a slow one


@pytest.mark.parametrize(("seed", "dialect"), [pytest.param(seed, ("server", "manual")[seed % 2], marks=[pytest.mark.slow] if seed > CLOUDS[0] else []) for seed in range(1, CLOUDS[1] + 1)])
async def test_whatever_is_called_all_adds_up(seed, dialect, tmp_path, caplog):
    async with serve(seed=seed, dialect=dialect, delay="0-20", memory=False, data=str(tmp_path), durable="off") as mock:
        await mock.login()
        drive = Anything(mock, Random(seed))
        for _ in range(300):
            await drive.step()
        for collection in sorted({api.path.removeprefix("/") for api in SIMULATED.values() if api.kind == "Query" and "{" not in api.path}):
            await mock.query(collection)
        exported = tmp_path / "exported.json"
        exported.write_text(json.dumps(await ask_control(mock, "GET", "cloud")))
    async with serve(cloud=str(exported), dialect=dialect) as copy:
        assert doubtful(copy.cloud, drive.lost) == set()
        exported.unlink()
    async with serve(memory=False, data=str(tmp_path)) as again:
        assert (doubtful(again.cloud, drive.lost), again.cloud.store.reports) == (set(), [])
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
