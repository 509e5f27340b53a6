"""Long stories, as a client lives them over HTTP: each step is a call, its job is polled, and inventories and errors are looked at.

A poll takes a second of the virtual clock and a job some seconds, so that the states on the way are there to be seen.
"""

import fnmatch
import re
from urllib.parse import urlencode

import pytest
from facts import chain

from zmock import named, serve

GIB, DELAY = 1 << 30, 3
CENTOS, PRIVATE, PUBLIC, NFS, LOCAL = map(named, ("image-centos7", "l3-private", "l3-public", "ps-nfs", "ps-local"))
CLUSTER_2, HOST_1, HOST_2, HOST_3 = map(named, ("cluster-2", "host-1", "host-2", "host-3"))
SMALL, DISK, WEB_3 = map(named, ("offering-small", "disk-20g", "vm-web-3"))


class Client:
    """A client of the REST API. What it calls is gone through with to the end of the job."""

    def __init__(self, mock):
        self.mock, self.apis = mock, mock.cloud.catalogue.apis

    async def begin(self, api, **params):
        """Send a call: (status, answer)."""
        row, tags = self.apis[api], {name: params.pop(name) for name in ("systemTags",) if name in params}
        path = re.sub(r"\{(\w+)\}", lambda name: params.pop(name[1]), row.path)
        if row.method in ("GET", "DELETE"):
            return await self.mock.request(row.method, f"{path}?{urlencode(params, doseq=True)}")
        return await self.mock.request(row.method, path, {row.key: params} | tags)

    async def end(self, status, answer):
        while status == 202:
            location = answer["location"]
            status, answer = await self.mock.request("GET", f"/api-jobs/{location[-32:]}")
            if status == 202:
                answer = {"location": location}
                await self.mock.advance(1)
        return status, answer

    async def call(self, api, **params):
        """Return the inventory that a call answers, or else the answer."""
        status, answer = await self.end(*await self.begin(api, **params))
        assert status == 200, answer
        return (answer or {}).get("inventory", answer)

    async def fails(self, error, api, **params):
        """Assert that a call fails with the codes of an error, and with details that are like its own."""
        status, answer = await self.end(*await self.begin(api, **params))
        assert status in (400, 503), answer
        errors = chain(answer["error"])
        found = f"{' <- '.join(each['code'] for each in errors)}: {errors[-1]['details']}"
        assert fnmatch.fnmatchcase(found, error.replace("[", "[[]")), found

    async def look(self, collection, uuid):
        """Return an object, or None."""
        _, answer = await self.mock.request("GET", f"/{collection}?q=uuid={uuid}")
        return next(iter(answer["inventories"]), None)

    async def tags(self, uuid, like="%"):
        _, answer = await self.mock.request("GET", f"/system-tags?q=resourceUuid={uuid}&q=tag~={like}")
        return [tag["tag"] for tag in answer["inventories"]]


@pytest.fixture(params=["manual", "server"])
async def client(request):
    async with serve(dialect=request.param, delay=DELAY) as mock:
        await mock.login()
        yield Client(mock)


# a machine that is reached from outside


async def services(client, vm):
    """Give the nic of a machine an EIP, a rule, a listener and a security group: a look at what they say of the nic."""
    nic = vm["vmNics"][0]["uuid"]
    vips = [(await client.call("CreateVip", name=name, l3NetworkUuid=PUBLIC))["uuid"] for name in ("eip", "rule", "balancer")]
    eip = await client.call("CreateEip", name="e", vipUuid=vips[0], vmNicUuid=nic)
    rule = await client.call("CreatePortForwardingRule", name="r", vipUuid=vips[1], vipPortStart=22, protocolType="TCP", vmNicUuid=nic)
    balancer = await client.call("CreateLoadBalancer", name="b", vipUuid=vips[2])
    listener = await client.call("CreateLoadBalancerListener", name="l", loadBalancerUuid=balancer["uuid"], loadBalancerPort=80, protocol="tcp")
    await client.call("AddVmNicToLoadBalancer", listenerUuid=listener["uuid"], vmNicUuids=[nic])
    group = await client.call("CreateSecurityGroup", name="g")
    await client.call("AttachSecurityGroupToL3Network", securityGroupUuid=group["uuid"], l3NetworkUuid=PRIVATE)
    await client.call("AddVmNicToSecurityGroup", securityGroupUuid=group["uuid"], vmNicUuids=[nic])

    async def look():
        """Where the EIP and the rule lead to, the status in the listener, and whether the nic is in the group."""
        leads = []
        for collection, made in (("eips", eip), ("port-forwarding", rule)):
            shown = await client.look(collection, made["uuid"])
            assert ("vmNicUuid" in shown) == ("guestIp" in shown) and shown.get("vmNicUuid") in (nic, None)
            leads.append(shown.get("guestIp"))
        refs = (await client.look("load-balancers/listeners", listener["uuid"]))["vmNicRefs"]
        _, members = await client.mock.request("GET", f"/security-groups/vm-instances/nics?q=securityGroupUuid={group['uuid']}")
        assert {ref["vmNicUuid"] for ref in [*refs, *members["inventories"]]} <= {nic}
        return (*leads, *[ref["status"] for ref in refs], *["member" for _ in members["inventories"]])

    return look, eip["uuid"], vips


async def is_free(client, ip):
    return (await client.call("CheckIpAvailability", l3NetworkUuid=PRIVATE, ip=ip))["available"]


async def test_a_machine_with_an_eip_a_rule_and_a_listener_from_its_creation_to_its_end(client):
    storage = await client.look("primary-storage", NFS)
    vm = await client.call("CreateVmInstance", name="shop", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE], primaryStorageUuidForRootVolume=NFS)
    (nic,), uuid, host = vm["vmNics"], vm["uuid"], vm["hostUuid"]
    look, eip, vips = await services(client, vm)
    disk = await client.call("CreateDataVolume", name="d", diskOfferingUuid=DISK)
    assert (await client.call("AttachDataVolumeToVm", volumeUuid=disk["uuid"], vmInstanceUuid=uuid))["deviceId"] == 1
    ip = nic["ip"]
    assert await look() == (ip, ip, "Active", "member") and (await client.look("vips", vips[0]))["useFor"] == "Eip"

    # it stops, and keeps what it has
    began = await client.begin("StopVmInstance", uuid=uuid)
    await client.mock.advance(1)
    assert (await client.look("vm-instances", uuid))["state"] == "Stopping"
    assert await look() == (ip, ip, "Active", "member")
    status, answer = await client.end(*began)
    stopped = answer["inventory"]
    assert (status, stopped["state"], stopped["lastHostUuid"], "hostUuid" in stopped) == (200, "Stopped", host, False)
    assert (stopped["clusterUuid"], stopped["zoneUuid"]) == (vm["clusterUuid"], vm["zoneUuid"])
    assert stopped["vmNics"][0]["ip"] == ip and {volume["deviceId"] for volume in stopped["allVolumes"]} == {0, 1}
    assert await look() == (ip, ip, "Inactive", "member")
    assert (await client.call("StopVmInstance", uuid=uuid))["state"] == "Stopped"
    await client.fails(f"SYS.1006: Console is only available when the VM[uuid:{uuid}] is Running, but the current state is Stopped", "RequestConsoleAccess", vmInstanceUuid=uuid)
    await client.fails("VM.1003 <- VM.1010: *message[org.zstack.header.vm.APIRebootVmInstanceMsg], allowed states are [Running]", "RebootVmInstance", uuid=uuid)

    # it gets another address: the EIP follows, the rule does not
    for wanted, error in (
        ("1.2.3", "SYS.1007: 1.2.3 is not a valid IPv4 address"), ("10.9.9.9", f"L3.1000: cannot find ip range that has ip[10.9.9.9] in l3Network[uuid:{PRIVATE}]"),
        ("192.168.100.2", "L3.1000: IP allocator strategy[RandomIpAllocatorStrategy] failed, because IP[192.168.100.2] is not available"),
    ):  # fmt: skip
        await client.fails(error, "SetVmStaticIp", vmInstanceUuid=uuid, l3NetworkUuid=PRIVATE, ip=wanted)
    static = "192.168.100.77"
    assert await is_free(client, static)
    await client.call("SetVmStaticIp", vmInstanceUuid=uuid, l3NetworkUuid=PRIVATE, ip=static)
    assert (await client.look("vm-instances/nics", nic["uuid"]))["ip"] == static and await is_free(client, ip) and not await is_free(client, static)
    assert await look() == (static, ip, "Inactive", "member")
    assert await client.tags(uuid, "staticIp::%") == [f"staticIp::{PRIVATE}::{static}"]

    # it starts with it
    began = await client.begin("StartVmInstance", uuid=uuid)
    await client.mock.advance(1)
    assert (await client.look("vm-instances", uuid))["state"] == "Starting"
    status, answer = await client.end(*began)
    started = answer["inventory"]
    assert (started["state"], started["lastHostUuid"], started["vmNics"][0]["ip"]) == ("Running", host, static)
    assert await look() == (static, ip, "Active", "member")
    await client.fails("SYS.1006 <- VM.1010: *message[org.zstack.header.vm.APISetVmStaticIpMsg], allowed states are [Stopped]",
        "SetVmStaticIp", vmInstanceUuid=uuid, l3NetworkUuid=PRIVATE, ip=ip)  # fmt: skip
    await client.fails("SYS.1006 <- VM.1010: *message[org.zstack.header.vm.APIExpungeVmInstanceMsg], allowed states are [Destroyed]", "ExpungeVmInstance", uuid=uuid)

    # it is destroyed: everything leaves its nic, which has no address any more
    await client.call("DestroyVmInstance", uuid=uuid)
    destroyed = await client.look("vm-instances", uuid)
    assert (destroyed["state"], destroyed["lastHostUuid"], "hostUuid" in destroyed) == ("Destroyed", started["hostUuid"], False)
    assert not {"ip", "netmask", "gateway", "usedIpUuid"} & destroyed["vmNics"][0].keys() and destroyed["vmNics"][0]["mac"] == nic["mac"]
    assert [(volume["type"], volume["status"]) for volume in destroyed["allVolumes"]] == [("Root", "Deleted")]
    assert not {"vmInstanceUuid", "deviceId"} & (await client.look("volumes", disk["uuid"])).keys()
    assert await look() == (None, None) and await is_free(client, static)
    assert await client.tags(uuid, "staticIp::%") == [f"staticIp::{PRIVATE}::{static}"]
    assert await client.call("DestroyVmInstance", uuid=uuid) in ({}, None)
    await client.fails("VM.1001 <- VM.1010: *", "StartVmInstance", uuid=uuid)

    # another machine takes the address meanwhile; the recovered one does not ask for it again
    other = await client.call("CreateVmInstance", name="other", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE], systemTags=[f"staticIp::{PRIVATE}::{static}"])
    assert other["vmNics"][0]["ip"] == static
    recovered = await client.call("RecoverVmInstance", uuid=uuid)
    assert (recovered["state"], recovered["lastHostUuid"], "hostUuid" in recovered) == ("Stopped", started["hostUuid"], False)
    assert [volume["status"] for volume in recovered["allVolumes"]] == ["Ready"] and await client.tags(uuid, "staticIp::%") == []
    await client.fails("SYS.1006 <- VM.1010: *message[org.zstack.header.vm.APIRecoverVmInstanceMsg], allowed states are [Destroyed]", "RecoverVmInstance", uuid=uuid)
    assert await look() == (None, None)
    again = await client.call("StartVmInstance", uuid=uuid)
    assert again["vmNics"][0]["ip"] not in (static, None) and again["vmNics"][0]["uuid"] == nic["uuid"]
    assert (await client.call("AttachEip", eipUuid=eip, vmNicUuid=nic["uuid"]))["guestIp"] == again["vmNics"][0]["ip"]

    # it is destroyed for good
    for api in ("DestroyVmInstance", "ExpungeVmInstance"):
        await client.call(api, uuid=uuid)
    for collection, gone in (("vm-instances", uuid), ("vm-instances/nics", nic["uuid"]), ("volumes", vm["rootVolumeUuid"])):
        assert await client.look(collection, gone) is None
    assert await look() == (None, None) and (await client.look("eips", eip))["vipUuid"] == vips[0] and await client.tags(uuid) == []
    await client.fails("SYS.1003: *", "ExpungeVmInstance", uuid=uuid)
    assert await client.call("DestroyVmInstance", uuid=uuid) in ({}, None), "it is gone already"
    for api, gone in (("DestroyVmInstance", other), ("ExpungeVmInstance", other), ("DeleteDataVolume", disk), ("ExpungeDataVolume", disk)):
        await client.call(api, uuid=gone["uuid"])
    assert (await client.look("primary-storage", NFS))["availableCapacity"] == storage["availableCapacity"]


# a volume


def leaves(leaf):
    """The tree as it is shown: {name: {name: {}}}."""
    return {leaf["inventory"]["name"]: {name: below for child in leaf["children"] for name, below in leaves(child).items()}}


async def test_a_volume_from_its_creation_to_its_end(client):
    late = await client.call("AddKVMHost", name="host-5", managementIp="10.10.0.15", username="root", password="p", clusterUuid=CLUSTER_2)
    free = (await client.look("primary-storage", LOCAL))["availableCapacity"]
    await client.fails("SYS.1007: To create data volume on the local primary storage, you must specify *[localStorage::hostUuid::{hostUuid}]",
        "CreateDataVolume", name="v", diskOfferingUuid=DISK, primaryStorageUuid=LOCAL)  # fmt: skip
    volume = await client.call("CreateDataVolume", name="v", diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, systemTags=[f"localStorage::hostUuid::{HOST_3}"])
    uuid, path = volume["uuid"], volume["installPath"]
    assert (volume["status"], volume["size"], volume["primaryStorageUuid"], "deviceId" in volume) == ("Ready", 20 * GIB, LOCAL, False)
    assert (await client.look("primary-storage", LOCAL))["availableCapacity"] == free - 20 * GIB
    assert path.startswith("/zstack_ps/dataVolumes/acct-") and path.endswith(f"/vol-{uuid}/{uuid}.qcow2")

    # it is attached
    attached = await client.call("AttachDataVolumeToVm", volumeUuid=uuid, vmInstanceUuid=WEB_3)
    assert (attached["vmInstanceUuid"], attached["deviceId"]) == (WEB_3, 1)
    await client.fails(f"SYS.1006: data volume[uuid:{uuid}] has been attached to some vm, can't attach again", "AttachDataVolumeToVm", volumeUuid=uuid, vmInstanceUuid=WEB_3)

    # its snapshots grow to a tree
    first = await client.call("CreateVolumeSnapshot", volumeUuid=uuid, name="first")
    assert (first["status"], first["latest"], first["primaryStorageInstallPath"]) == ("Ready", True, path)
    assert "parentUuid" not in first and (await client.look("volumes", uuid))["installPath"] == f"{path.rpartition('/')[0]}/snapshots/{first['uuid']}.qcow2"
    second = await client.call("CreateVolumeSnapshot", volumeUuid=uuid, name="second")
    assert (second["parentUuid"], second["treeUuid"], second["latest"]) == (first["uuid"], first["treeUuid"], True)
    assert not (await client.look("volume-snapshots", first["uuid"]))["latest"]
    await client.fails(f"SYS.1006: unable to reset volume[uuid:{uuid}] to snapshot[uuid:{first['uuid']}], the vm[uuid:{WEB_3}] volume attached to is not in Stopped state, current state is Running",
        "RevertVolumeFromSnapshot", uuid=first["uuid"])  # fmt: skip
    await client.call("StopVmInstance", uuid=WEB_3)
    before = (await client.look("volumes", uuid))["installPath"]
    assert await client.call("RevertVolumeFromSnapshot", uuid=first["uuid"]) in ({}, None)
    assert (await client.look("volumes", uuid))["installPath"] not in (before, path)
    assert [(await client.look("volume-snapshots", one["uuid"]))["latest"] for one in (first, second)] == [True, False]
    third = await client.call("CreateVolumeSnapshot", volumeUuid=uuid, name="third")
    assert third["parentUuid"] == first["uuid"]
    (tree,) = (await client.mock.request("GET", f"/volume-snapshots/trees?q=volumeUuid={uuid}"))[1]["inventories"]
    assert (tree["current"], leaves(tree["tree"])) == (True, {"first": {"second": {}, "third": {}}})
    sizes = sum(snapshot["size"] for snapshot in (first, second, third))
    assert (await client.look("primary-storage", LOCAL))["availableCapacity"] == free - 20 * GIB - sizes

    # it moves to the disk of another host, with its snapshots
    move = {"volumeUuid": uuid, "destHostUuid": late["uuid"]}
    await client.fails(f"SYS.1007: the data volume[uuid:{uuid}, name: v] is still attached on the VM[uuid:{WEB_3}]. Please detach it before migration", "LocalStorageMigrateVolume", **move)
    detached = await client.call("DetachDataVolumeFromVm", uuid=uuid)
    assert detached["status"] == "Ready" and not {"vmInstanceUuid", "deviceId"} & detached.keys()
    await client.fails(f"SYS.1006: data volume[uuid:{uuid}] is not attached to any vm, can't detach", "DetachDataVolumeFromVm", uuid=uuid)
    await client.fails(f"SYS.1007: the volume[uuid:{uuid}] is already on the host[uuid:{HOST_3}]", "LocalStorageMigrateVolume", volumeUuid=uuid, destHostUuid=HOST_3)
    await client.fails(f"SYS.1007: the dest host[uuid:{HOST_1}] doesn't belong to the local primary storage[uuid:{LOCAL}] where the volume[uuid:{uuid}] locates",
        "LocalStorageMigrateVolume", volumeUuid=uuid, destHostUuid=HOST_1)  # fmt: skip
    hosts = await client.call("LocalStorageGetVolumeMigratableHosts", volumeUuid=uuid)
    assert [host["uuid"] for host in hosts["inventories"]] == [late["uuid"]]
    shown = await client.look("volumes", uuid)
    began = await client.begin("LocalStorageMigrateVolume", **move)
    await client.mock.advance(1)
    assert (await client.look("volumes", uuid))["status"] == "Migrating"
    status, answer = await client.end(*began)
    assert (status, answer["inventory"]["hostUuid"], answer["inventory"]["resourceUuid"]) == (200, late["uuid"], uuid)
    for one in (uuid, first["uuid"], second["uuid"], third["uuid"]):
        _, refs = await client.mock.request("GET", f"/primary-storage/local-storage/resource-refs?q=resourceUuid={one}")
        assert [ref["hostUuid"] for ref in refs["inventories"]] == [late["uuid"]]
    moved = await client.look("volumes", uuid)
    assert {**moved, "lastOpDate": 0} == {**shown, "lastOpDate": 0}

    # it is deleted, and comes back
    await client.fails(f"SYS.1006: the volume[uuid:{uuid}] is not in status of deleted. This is operation is to recover a deleted data volume", "RecoverDataVolume", uuid=uuid)
    await client.fails(f"SYS.1006: the volume[uuid:{uuid}, name:v] is not deleted yet, can't expunge it", "ExpungeDataVolume", uuid=uuid)
    await client.call("DeleteDataVolume", uuid=uuid)
    deleted = await client.look("volumes", uuid)
    assert (deleted["status"], deleted["installPath"]) == ("Deleted", moved["installPath"])
    await client.fails(f"SYS.1006: volume[uuid:{uuid}] is already in status of deleted", "DeleteDataVolume", uuid=uuid)
    await client.fails(f"SYS.1006: the volume[uuid:{uuid}] is in status of deleted, cannot do the operation", "AttachDataVolumeToVm", volumeUuid=uuid, vmInstanceUuid=WEB_3)
    await client.fails(f"SYS.1006: volume[uuid:{uuid}] is not in status Ready, current is Deleted, can't create snapshot", "CreateVolumeSnapshot", volumeUuid=uuid, name="no")
    assert (await client.look("volume-snapshots", second["uuid"]))["status"] == "Ready"
    assert (await client.look("primary-storage", LOCAL))["availableCapacity"] == free - 20 * GIB - sizes
    recovered = await client.call("RecoverDataVolume", uuid=uuid)
    assert (recovered["status"], recovered["installPath"], "vmInstanceUuid" in recovered) == ("Ready", moved["installPath"], False)

    # a snapshot goes with those after it; what is expunged leaves nothing
    await client.call("DeleteVolumeSnapshot", uuid=third["uuid"])
    assert (await client.look("volume-snapshots", first["uuid"]))["latest"] and await client.look("volume-snapshots", third["uuid"]) is None
    await client.call("DeleteVolumeSnapshot", uuid=first["uuid"])
    assert await client.look("volume-snapshots", second["uuid"]) is None and await client.look("volume-snapshots/trees", tree["uuid"]) is None
    assert await client.call("DeleteVolumeSnapshot", uuid=first["uuid"]) in ({}, None), "it is gone already"
    assert (await client.look("primary-storage", LOCAL))["availableCapacity"] == free - 20 * GIB
    await client.call("DeleteDataVolume", uuid=uuid)
    await client.call("ExpungeDataVolume", uuid=uuid)
    assert await client.look("volumes", uuid) is None
    assert (await client.look("primary-storage", LOCAL))["availableCapacity"] == free
    assert await client.call("ExpungeDataVolume", uuid=uuid) in ({}, None), "it is gone already"


# hosts that run full


async def machines(client):
    """The hosts of the machines by name, and what is on the primary storage and free in the network."""
    _, answer = await client.mock.request("GET", "/vm-instances")
    _, volumes = await client.mock.request("GET", "/volumes?count=true")
    addresses = await client.call("GetIpAddressCapacity", l3NetworkUuids=[PRIVATE])
    return {vm["name"]: vm.get("hostUuid") for vm in answer["inventories"]}, volumes["total"], addresses["availableCapacity"]


async def test_a_host_runs_full_and_another_takes_over(client):
    await client.call("ChangeHostState", uuid=HOST_3, stateEvent="disable")
    big, huge = [(await client.call("CreateInstanceOffering", name="n", cpuNum=1, memorySize=size * GIB))["uuid"] for size in (26, 40)]
    new = {"imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "instanceOfferingUuid": big}
    free = (await client.look("hosts", HOST_1))["availableMemoryCapacity"]
    one, two = [await client.call("CreateVmInstance", name=name, hostUuid=HOST_1, **new) for name in ("one", "two")]
    assert {one["hostUuid"], two["hostUuid"]} == {HOST_1}
    assert (await client.look("hosts", HOST_1))["availableMemoryCapacity"] == free - 52 * GIB

    # it is full: nothing is left of a machine that does not fit; another host takes it
    before = await machines(client)
    no_room = f"SYS.1006 <- HOST_ALLOCATION.1000: unable to allocate hosts; due to pagination is enabled, *no host having cpu[1], memory[{26 * GIB} bytes] found*"
    await client.fails(no_room, "CreateVmInstance", name="three", hostUuid=HOST_1, **new)
    assert await machines(client) == before
    three = await client.call("CreateVmInstance", name="three", **new)
    assert three["hostUuid"] == HOST_2

    # a machine moves away, and there is room again
    hosts = await client.call("GetVmMigrationCandidateHosts", vmInstanceUuid=one["uuid"])
    assert [host["uuid"] for host in hosts["inventories"]] == [HOST_2]
    await client.fails(f"SYS.1007: the vm[uuid:{one['uuid']}] is already on host[uuid:{HOST_1}]", "MigrateVm", vmInstanceUuid=one["uuid"], hostUuid=HOST_1)
    began = await client.begin("MigrateVm", vmInstanceUuid=one["uuid"])
    await client.mock.advance(1)
    assert (await client.look("vm-instances", one["uuid"]))["state"] == "Migrating"
    status, answer = await client.end(*began)
    moved = answer["inventory"]
    assert (status, moved["state"], moved["hostUuid"], moved["lastHostUuid"]) == (200, "Running", HOST_2, HOST_1)
    four = await client.call("CreateVmInstance", name="four", **new)
    assert four["hostUuid"] == HOST_1

    # all hosts are full: nothing is made, moves or grows
    before = await machines(client)
    await client.fails(no_room, "CreateVmInstance", name="five", **new)
    await client.fails("HOST_ALLOCATION.1000: *", "MigrateVm", vmInstanceUuid=two["uuid"])
    assert (await client.call("GetVmMigrationCandidateHosts", vmInstanceUuid=two["uuid"]))["inventories"] == []
    grow = {"vmInstanceUuid": two["uuid"], "instanceOfferingUuid": huge}
    await client.fails("SYS.1007: the VM cannot do online cpu/memory update because it is not of NUMA architecture. *", "ChangeInstanceOffering", **grow)
    await client.call("UpdateGlobalConfig", category="vm", name="numa", value="true")
    await client.fails(f"SYS.1006 <- HOST_ALLOCATION.1000: host[uuid:{HOST_1}] capacity is not enough to offer cpu[0], memory[{14 * GIB} bytes]", "ChangeInstanceOffering", **grow)
    assert await machines(client) == before and (await client.look("vm-instances", two["uuid"]))["memorySize"] == 26 * GIB

    # a stopped machine grows, and does not fit any more; it starts where there is room
    await client.call("StopVmInstance", uuid=two["uuid"])
    grown = await client.call("ChangeInstanceOffering", **grow)
    assert (grown["state"], grown["memorySize"], grown["instanceOfferingUuid"]) == ("Stopped", 40 * GIB, huge)
    await client.fails(f"VM.1001 <- HOST_ALLOCATION.1000: *no host having cpu[1], memory[{40 * GIB} bytes] found*", "StartVmInstance", uuid=two["uuid"])
    still = await client.look("vm-instances", two["uuid"])
    assert (still["state"], still["lastHostUuid"], "hostUuid" in still) == ("Stopped", HOST_1, False)
    assert await client.call("GetVmStartingCandidateClustersHosts", uuid=two["uuid"]) == {"hosts": [], "clusters": []}
    await client.call("ChangeHostState", uuid=HOST_3, stateEvent="enable")
    started = await client.call("StartVmInstance", uuid=two["uuid"])
    assert (started["state"], started["hostUuid"], started["clusterUuid"], started["lastHostUuid"]) == ("Running", HOST_3, CLUSTER_2, HOST_1)

    # a host goes into maintenance: what fits elsewhere moves, the rest is stopped
    began = await client.begin("ChangeHostState", uuid=HOST_1, stateEvent="maintain")
    await client.mock.advance(1)
    assert (await client.look("hosts", HOST_1))["state"] == "PreMaintenance"
    status, answer = await client.end(*began)
    assert (status, answer["inventory"]["state"]) == (200, "Maintenance")
    assert (await client.look("vm-instances", four["uuid"]))["state"] == "Stopped"
    for name in ("vm-web-1", "vm-db-1"):
        vm = await client.look("vm-instances", named(name))
        assert vm["state"] == "Running" and vm["hostUuid"] in (HOST_2, HOST_3)
    await client.fails("SYS.1006 <- HOST_ALLOCATION.1000: *no Enabled hosts found in the [1] candidate hosts*", "CreateVmInstance", name="six", hostUuid=HOST_1, **new)
    await client.call("ChangeHostState", uuid=HOST_1, stateEvent="enable")
    await client.mock.advance(60)
    back = await client.look("hosts", HOST_1)
    assert (back["state"], back["status"], back["availableMemoryCapacity"]) == ("Enabled", "Connected", back["totalMemoryCapacity"])
    assert (await client.call("StartVmInstance", uuid=four["uuid"]))["hostUuid"] == HOST_1
