"""Long stories of a data centre over HTTP: storage, networks and hosts are added, taken away and put back."""

from types import SimpleNamespace

import pytest
from asking import one
from test_stories import DELAY, Client

from zmock import named, serve

GIB, TIB = 1 << 30, 1 << 40
ZONE, C1, C2, L2, PRIVATE = map(named, ("zone-1", "cluster-1", "cluster-2", "l2-private", "l3-private"))
HOST_1, HOST_3, WEB, WEB_3, CI = map(named, ("host-1", "host-3", "vm-web-1", "vm-web-3", "vm-ci-1"))
SMALL, CENTOS = named("offering-small"), named("image-centos7")


@pytest.fixture(params=["manual", "server"])
async def empty(request):
    """A client of an empty cloud."""
    async with serve(dialect=request.param, delay=DELAY, cloud="empty") as mock:
        await mock.login()
        yield Client(mock)


async def nics(client, vm):
    return (await client.look("vm-instances", vm))["vmNics"]


# VXLAN


def cidr(pool, cluster, network="10.10.0.0/24"):
    return {"l2NetworkUuid": pool, "clusterUuid": cluster, "systemTags": [f"l2NetworkUuid::{pool}::clusterUuid::{cluster}::cidr::{{{network}}}"]}


async def ends(client):
    """The addresses at which tunnels end."""
    _, answer = await client.mock.request("GET", "/l2-networks/vteps")
    return sorted(end["vtepIp"] for end in answer["inventories"])


async def machine(client, l3, host):
    return await client.call("CreateVmInstance", name="v", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[l3], hostUuid=host)


async def test_a_vxlan_pool_with_two_clusters(client):
    pool = (await client.call("CreateL2VxlanNetworkPool", name="pool", zoneUuid=ZONE))["uuid"]
    first = await client.call("CreateVniRange", name="r", l2NetworkUuid=pool, startVni=100, endVni=199)
    await client.fails("SYS.1007: this vni range[start:150, end:250] has overlapped*", "CreateVniRange", name="s", l2NetworkUuid=pool, startVni=150, endVni=250)
    early = await client.call("CreateL2VxlanNetwork", name="early", poolUuid=pool, vni=100)
    assert early["attachedClusterUuids"] == []

    # it is attached to two clusters, each with the network of its tunnels
    await client.fails("SYS.1007: need to input one system tag*", "AttachL2NetworkToCluster", l2NetworkUuid=pool, clusterUuid=C1)
    await client.fails("L2.1000 <- SYS.1006: failed to check cidr[172.16.0.0/16]*", "AttachL2NetworkToCluster", **cidr(pool, C1, "172.16.0.0/16"))
    assert await client.tags(pool) == []
    await client.call("AttachL2NetworkToCluster", **cidr(pool, C1))
    shown = await client.call("AttachL2NetworkToCluster", **cidr(pool, C2, "10.0.0.0/8"))
    assert shown["attachedCidrs"] == {C1: "10.10.0.0/24", C2: "10.0.0.0/8"} and shown["attachedVtepRefs"] == []
    assert (await client.look("l2-networks/vxlan", early["uuid"]))["attachedClusterUuids"] == [C1, C2]

    # machines on both sides of the tunnel
    l3 = (await client.call("CreateL3Network", name="l3", l2NetworkUuid=early["uuid"]))["uuid"]
    await client.call("AddIpRange", name="r", l3NetworkUuid=l3, startIp="10.99.0.2", endIp="10.99.0.99", netmask="255.255.255.0", gateway="10.99.0.1")
    here = await machine(client, l3, HOST_1)
    assert await ends(client) == ["10.10.0.11"]
    there = await machine(client, l3, HOST_3)
    assert await ends(client) == ["10.10.0.11", "10.10.0.13"]
    assert await client.tags(early["uuid"]) == ["kvm::bridge::br_vx_100"]

    # another pool with these numbers cannot be in the cluster
    rival = (await client.call("CreateL2VxlanNetworkPool", name="rival", zoneUuid=ZONE))["uuid"]
    await client.call("CreateVniRange", name="r", l2NetworkUuid=rival, startVni=190, endVni=300)
    await client.fails(f"SYS.1007: overlap vni range with vxlan network pool [{pool}]", "AttachL2NetworkToCluster", **cidr(rival, C1))

    # a cluster is taken away and put back
    await client.call("DetachL2NetworkFromCluster", l2NetworkUuid=pool, clusterUuid=C1)
    assert await nics(client, here["uuid"]) == [] and len(await nics(client, there["uuid"])) == 1
    assert await ends(client) == ["10.10.0.13"] and (await client.look("vm-instances", here["uuid"]))["state"] == "Running"
    assert (await client.look("l2-networks/vxlan-pool", pool))["attachedCidrs"] == {C2: "10.0.0.0/8"}
    await client.call("AttachL2NetworkToCluster", **cidr(pool, C1))
    await client.call("AttachL3NetworkToVm", vmInstanceUuid=here["uuid"], l3NetworkUuid=l3, staticIp=here["vmNics"][0]["ip"])
    await client.call("MigrateVm", vmInstanceUuid=here["uuid"], hostUuid=named("host-2"))
    assert await ends(client) == ["10.10.0.12", "10.10.0.13"]

    # with the range goes all that has its numbers
    await client.call("DeleteVniRange", uuid=first["uuid"])
    assert await client.look("l2-networks/vxlan", early["uuid"]) is None and await client.look("l3-networks", l3) is None
    assert await nics(client, here["uuid"]) == await nics(client, there["uuid"]) == []
    await client.fails("L2.1001: *no vni is available*", "CreateL2VxlanNetwork", name="late", poolUuid=pool)
    await client.call("DeleteL2Network", uuid=pool)
    assert await ends(client) == []


# an L2 network goes from under running machines, and comes back


async def test_an_l2_network_taken_away_and_put_back(client):
    (nic,) = await nics(client, WEB)
    there = await machine(client, PRIVATE, HOST_3)
    await client.fails(f"SYS.1006: l2Network[uuid:{L2}] has attached to cluster[uuid:{C1}], can't attach again", "AttachL2NetworkToCluster", l2NetworkUuid=L2, clusterUuid=C1)
    shown = await client.call("DetachL2NetworkFromCluster", l2NetworkUuid=L2, clusterUuid=C1)
    assert shown["attachedClusterUuids"] == [C2]
    for vm in (WEB, CI):
        assert await nics(client, vm) == [] and "defaultL3NetworkUuid" not in await client.look("vm-instances", vm)
    assert (await client.look("vm-instances", WEB))["state"] == "Running" and len(await nics(client, there["uuid"])) == 1
    assert (await client.call("CheckIpAvailability", l3NetworkUuid=PRIVATE, ip=nic["ip"]))["available"]
    await client.fails("SYS.1006 <- HOST_ALLOCATION.1000: *", "CreateVmInstance", name="n", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE], hostUuid=HOST_1)

    # meanwhile another network has its interface and its vlan there
    rival = (await client.call("CreateL2VlanNetwork", name="rival", zoneUuid=ZONE, physicalInterface="eth1", vlan=100))["uuid"]
    await client.call("AttachL2NetworkToCluster", l2NetworkUuid=rival, clusterUuid=C1)
    assert await client.tags(rival) == ["kvm::bridge::br_eth1_100"]
    await client.fails(f"SYS.1007: There has been a L2VlanNetwork[uuid:{rival}, name:rival] attached*", "AttachL2NetworkToCluster", l2NetworkUuid=L2, clusterUuid=C1)
    await client.call("DeleteL2Network", uuid=rival)

    await client.call("AttachL2NetworkToCluster", l2NetworkUuid=L2, clusterUuid=C1)
    back = await client.call("AttachL3NetworkToVm", vmInstanceUuid=WEB, l3NetworkUuid=PRIVATE, staticIp=nic["ip"])
    assert [new["ip"] for new in back["vmNics"]] == [nic["ip"]] and back["defaultL3NetworkUuid"] == PRIVATE
    await client.call("CreateVmInstance", name="n", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE], hostUuid=HOST_1)


# backup storage


async def test_two_kinds_of_backup_storage_in_an_empty_cloud(empty):
    zone = (await empty.call("CreateZone", name="z"))["uuid"]
    sftp = {"name": "s", "hostname": "10.0.0.7", "username": "root", "password": "p", "url": "/bs"}
    begun = await empty.begin("AddSftpBackupStorage", **sftp)
    await empty.mock.advance(1)
    _, answer = await empty.mock.request("GET", "/backup-storage")
    assert [storage["status"] for storage in answer["inventories"]] == ["Connecting"]
    _, answer = await empty.end(*begun)
    first = answer["inventory"]["uuid"]
    assert answer["inventory"]["status"] == "Connected" and "password" not in answer["inventory"]
    await empty.fails("SYS.1006: duplicate backup storage. There has been a sftp*", "AddSftpBackupStorage", **sftp)
    second = (await empty.call("AddCephBackupStorage", name="c", monUrls=["root:p@10.0.0.8", "root:p@10.0.0.9"], poolName="images"))["uuid"]
    assert await empty.tags(second) == ["ceph::predefinedPool"]
    await empty.fails("SYS.1007: cannot add ceph backup storage, there has been some ceph*[10.0.0.9]]", "AddCephBackupStorage", name="d", monUrls=["root:p@10.0.0.9"])
    for uuid in (first, second):
        await empty.call("AttachBackupStorageToZone", zoneUuid=zone, backupStorageUuid=uuid)
    total = await empty.call("GetBackupStorageCapacity", zoneUuids=[zone])
    assert total["totalCapacity"] == 150 * TIB

    # an image on each, and one on both
    image = {"name": "i", "url": "http://mirror.example.com/i.qcow2", "format": "qcow2"}
    on_first, on_second, on_both = [(await empty.call("AddImage", **image, backupStorageUuids=uuids))["uuid"] for uuids in ([first], [second], [first, second])]
    room = await empty.call("GetBackupStorageCapacity", all=True)
    assert total["availableCapacity"] - room["availableCapacity"] == 4 * 10 * GIB
    assert (await empty.look("images", on_second))["backupStorageRefs"][0]["installPath"].startswith("ceph://images/")

    # a disabled one takes no image, a removed one takes its images along
    await empty.call("ChangeBackupStorageState", uuid=first, stateEvent="disable")
    await empty.fails("*", "AddImage", **image, backupStorageUuids=[first])
    await empty.call("DeleteBackupStorage", uuid=first)
    assert await empty.look("images", on_first) is None
    assert [ref["backupStorageUuid"] for ref in (await empty.look("images", on_both))["backupStorageRefs"]] == [second]
    shown = await empty.call("RemoveMonFromCephBackupStorage", uuid=second, monHostnames=["10.0.0.8"])
    assert [mon["hostname"] for mon in shown["mons"]] == ["10.0.0.9"]
    await empty.call("DetachBackupStorageFromZone", zoneUuid=zone, backupStorageUuid=second)
    assert await empty.call("GetBackupStorageCapacity", zoneUuids=[zone]) == dict.fromkeys(room, 0) | ({"success": True} if "success" in room else {})
    await empty.call("DeleteZone", uuid=zone)
    assert (await empty.look("images", on_second))["status"] == "Ready"


# hosts that go from under running machines, and come back

LOGIN = {"username": "root", "password": "secret"}


@pytest.fixture(params=["manual", "server"])
async def mock(request):
    """An empty cloud, whose jobs end at once."""
    async with serve(cloud="empty", dialect=request.param) as mock:
        await mock.login()
        yield mock


async def data_centre(mock, hosts=2, clusters=1):
    """Build a zone with clusters, hosts, shared and backup storage, an image, a network and an offering: their uuids."""
    made = SimpleNamespace()
    made.zone = (await mock.create("CreateZone", name="zone"))["uuid"]
    made.clusters = [(await mock.create("CreateCluster", name=f"c{n}", zoneUuid=made.zone, hypervisorType="KVM"))["uuid"] for n in range(clusters)]
    made.ps = (await mock.create("AddNfsPrimaryStorage", name="nfs", zoneUuid=made.zone, url="10.0.0.100:/export"))["uuid"]
    made.bs = (await mock.create("AddSftpBackupStorage", name="bs", url="/bs", hostname="10.0.0.101", **LOGIN))["uuid"]
    await mock.call("AttachBackupStorageToZone", zoneUuid=made.zone, backupStorageUuid=made.bs)
    made.l2 = (await mock.create("CreateL2NoVlanNetwork", name="l2", zoneUuid=made.zone, physicalInterface="eth0"))["uuid"]
    made.hosts = []
    for cluster in made.clusters:
        for _ in range(hosts):
            number = len(made.hosts)
            host = await mock.create("AddKVMHost", name=f"h{number}", clusterUuid=cluster, managementIp=f"10.0.0.{number + 1}", **LOGIN)
            made.hosts.append(host["uuid"])
        await mock.call("AttachPrimaryStorageToCluster", clusterUuid=cluster, primaryStorageUuid=made.ps)
        await mock.call("AttachL2NetworkToCluster", clusterUuid=cluster, l2NetworkUuid=made.l2)
    made.l3 = (await mock.create("CreateL3Network", name="l3", l2NetworkUuid=made.l2))["uuid"]
    await mock.call("AddIpRange", name="r", l3NetworkUuid=made.l3, startIp="10.1.0.2", endIp="10.1.0.99", netmask="255.255.255.0", gateway="10.1.0.1")
    made.image = (await mock.create("AddImage", name="image", url="http://x/i.qcow2", format="qcow2", backupStorageUuids=[made.bs]))["uuid"]
    made.offering = (await mock.create("CreateInstanceOffering", name="o", cpuNum=1, memorySize=GIB))["uuid"]
    return made


async def machines(mock, made, count, **more):
    """Create running virtual machines: their uuids."""
    values = {"instanceOfferingUuid": made.offering, "imageUuid": made.image, "l3NetworkUuids": [made.l3]} | more
    return [(await mock.create("CreateVmInstance", name=f"vm{n}", **values))["uuid"] for n in range(count)]


async def states(mock, uuids):
    """The states of virtual machines, in the order of their uuids."""
    return [(await one(mock, "vm-instances", f"uuid={uuid}"))["state"] for uuid in uuids]


async def places(mock, uuids):
    return [(await one(mock, "vm-instances", f"uuid={uuid}")).get("hostUuid") for uuid in uuids]


async def free_memory(mock):
    """The memory that the hosts have left, by their names."""
    return {host["name"]: host["availableMemoryCapacity"] // GIB for host in await mock.query("hosts")}


async def test_a_host_goes_into_maintenance_and_its_machines_move_or_stop(mock):
    made = await data_centre(mock)
    first, second = made.hosts
    vms = await machines(mock, made, 4, hostUuid=first)
    answer = await mock.act("hosts", first, "changeHostState", stateEvent="maintain")
    assert answer["state"] == "Maintenance" and "username" not in answer
    assert (await states(mock, vms), await places(mock, vms)) == (["Running"] * 4, [second] * 4)
    assert await free_memory(mock) == {"h0": 64, "h1": 60}

    await mock.act("hosts", second, "changeHostState", stateEvent="maintain")
    assert (await states(mock, vms), await places(mock, vms)) == (["Stopped"] * 4, [None] * 4), "nobody can take them"
    with pytest.raises(RuntimeError, match="no Enabled hosts"):
        await mock.act("vm-instances", vms[0], "startVmInstance")
    with pytest.raises(RuntimeError, match="HOST.1002"):
        await mock.act("hosts", first, "reconnectHost")

    for host, event in ((first, "enable"), (second, "disable")):
        await mock.act("hosts", host, "changeHostState", stateEvent=event)
    assert {host["name"]: (host["state"], host["status"]) for host in await mock.query("hosts")} == {"h0": ("Enabled", "Connected"), "h1": ("Disabled", "Connected")}
    assert await states(mock, vms) == ["Stopped"] * 4, "nobody starts them"
    for vm in vms:
        assert (await mock.act("vm-instances", vm, "startVmInstance"))["hostUuid"] == first


async def test_a_host_is_disabled_under_running_machines_and_takes_no_more(mock):
    made = await data_centre(mock)
    first, second = made.hosts
    (vm,) = await machines(mock, made, 1, hostUuid=first)
    await mock.act("hosts", first, "changeHostState", stateEvent="disable")
    assert (await states(mock, [vm]), await places(mock, [vm])) == (["Running"], [first])
    assert await places(mock, await machines(mock, made, 3)) == [second] * 3
    await mock.act("vm-instances", vm, "stopVmInstance")
    assert (await mock.act("vm-instances", vm, "startVmInstance"))["hostUuid"] == second
    await mock.act("zones", made.zone, "changeZoneState", stateEvent="enable")
    assert (await one(mock, "hosts", "name=h0"))["state"] == "Enabled", "the event of the zone reaches it"
    assert (await mock.act("vm-instances", vm, "migrateVm"))["hostUuid"] == first


async def test_a_host_is_deleted_under_running_machines_and_added_again(mock):
    made = await data_centre(mock)
    first, second = made.hosts
    vms = await machines(mock, made, 3, hostUuid=first)
    await mock.act("vm-instances", vms[2], "pauseVmInstance")
    await mock.delete("hosts", first)
    assert (await states(mock, vms), await places(mock, vms)) == (["Stopped", "Stopped", "Paused"], [None] * 3)
    assert "lastHostUuid" not in await one(mock, "vm-instances", f"uuid={vms[0]}")
    assert len(await mock.query("volumes", "type=Root", "status=Ready")) == 3, "their volumes are on shared storage"
    assert (await mock.act("vm-instances", vms[0], "startVmInstance"))["hostUuid"] == second
    again = await mock.create("AddKVMHost", name="h0", clusterUuid=made.clusters[0], managementIp="10.0.0.1", **LOGIN)
    assert again["uuid"] != first and again["status"] == "Connected"
    assert (await mock.act("vm-instances", vms[1], "startVmInstance", hostUuid=again["uuid"]))["hostUuid"] == again["uuid"]
    assert await free_memory(mock) == {"h0": 63, "h1": 63}


async def test_a_host_is_lost_under_running_machines_and_comes_back(mock):
    made = await data_centre(mock)
    first, second = made.hosts
    vms = await machines(mock, made, 2, hostUuid=first)
    incident = await mock.incident({"host-down": "h0"})
    assert (await states(mock, vms), await places(mock, vms)) == (["Unknown"] * 2, [first] * 2)
    assert (await free_memory(mock))["h0"] == 62, "they may still run there"
    for action, why in (("stopVmInstance", "HOST.1011|VM.1002"), ("startVmInstance", "VM.1001")):
        with pytest.raises(RuntimeError, match=why):
            await mock.act("vm-instances", vms[0], action)
    with pytest.raises(RuntimeError, match="HOST.1002: unable to connect to KVM"):
        await mock.act("hosts", first, "reconnectHost")
    with pytest.raises(RuntimeError, match="SYS.1006: can not maintain host"):
        await mock.act("hosts", first, "changeHostState", stateEvent="maintain")
    assert await places(mock, await machines(mock, made, 2)) == [second] * 2

    await mock.end_incident(incident["id"])
    assert (await states(mock, vms), await places(mock, vms)) == (["Running"] * 2, [first] * 2)
    assert (await mock.act("vm-instances", vms[0], "migrateVm"))["hostUuid"] == second


async def test_a_lost_host_is_given_up(mock):
    made = await data_centre(mock)
    first, second = made.hosts
    vms = await machines(mock, made, 2, hostUuid=first)
    incident = await mock.incident({"host-down": "h0"})
    await mock.delete("hosts", first)
    assert await states(mock, vms) == ["Stopped"] * 2
    assert {job["name"] for job in await mock.query("gc-jobs")} == {f"gc-stop-vm-{vm}-vm{n}-on-host-{first}" for n, vm in enumerate(vms)}
    await mock.end_incident(incident["id"])
    assert [host["name"] for host in await mock.query("hosts")] == ["h1"]
    assert (await mock.act("vm-instances", vms[0], "startVmInstance"))["hostUuid"] == second


async def test_a_cluster_and_then_the_zone_go_with_all_that_runs_there(mock):
    made = await data_centre(mock, hosts=1, clusters=2)
    vms = [*await machines(mock, made, 2, clusterUuid=made.clusters[0]), *await machines(mock, made, 1, clusterUuid=made.clusters[1])]
    await mock.delete("clusters", made.clusters[0])
    assert await states(mock, vms) == ["Stopped", "Stopped", "Running"]
    assert (await one(mock, "primary-storage", "name=nfs"))["attachedClusterUuids"] == [made.clusters[1]]
    assert (await mock.act("vm-instances", vms[0], "startVmInstance"))["clusterUuid"] == made.clusters[1]
    await mock.delete("zones", made.zone)
    for collection in ("clusters", "hosts", "primary-storage", "l2-networks", "l3-networks", "vm-instances", "vm-instances/nics", "volumes"):
        assert await mock.query(collection) == [], collection
    assert (await one(mock, "backup-storage", "name=bs"))["attachedZoneUuids"] == []
    assert [image["name"] for image in await mock.query("images")] == ["image"]


# a network


async def ground(client):
    """A zone with a cluster, two hosts and storage: what machines are made of, and an L2 network."""
    zone = (await client.call("CreateZone", name="z"))["uuid"]
    cluster = (await client.call("CreateCluster", name="c", zoneUuid=zone, hypervisorType="KVM"))["uuid"]
    ps = (await client.call("AddNfsPrimaryStorage", name="p", url="10.0.0.9:/nfs", zoneUuid=zone))["uuid"]
    await client.call("AttachPrimaryStorageToCluster", primaryStorageUuid=ps, clusterUuid=cluster)
    bs = (await client.call("AddSftpBackupStorage", name="b", url="/b", hostname="10.0.0.9", username="root", password="p"))["uuid"]
    await client.call("AttachBackupStorageToZone", backupStorageUuid=bs, zoneUuid=zone)
    image = (await client.call("AddImage", name="i", url="http://x/i.qcow2", format="qcow2", backupStorageUuids=[bs]))["uuid"]
    offering = (await client.call("CreateInstanceOffering", name="o", cpuNum=1, memorySize=GIB))["uuid"]
    l2 = (await client.call("CreateL2NoVlanNetwork", name="l2", zoneUuid=zone, physicalInterface="eth0"))["uuid"]
    await client.call("AttachL2NetworkToCluster", l2NetworkUuid=l2, clusterUuid=cluster)
    for number in (1, 2):
        await client.call("AddKVMHost", name=f"h{number}", managementIp=f"10.0.0.{number}", username="root", password="p", clusterUuid=cluster)
    return l2, {"imageUuid": image, "instanceOfferingUuid": offering}


async def flat(client):
    _, answer = await client.mock.request("GET", "/network-services/providers?q=type=Flat")
    return answer["inventories"][0]["uuid"]


async def add_range(client, l3, first, last, net="10.1.0"):
    bounds = {"startIp": f"{net}.{first}", "endIp": f"{net}.{last}", "gateway": f"{net}.1", "netmask": "255.255.255.0"}
    return (await client.call("AddIpRange", name=f"{net}.{first}", l3NetworkUuid=l3, **bounds))["uuid"]


async def free(client, l3):
    """The number of free addresses; the list of them has as many."""
    _, answer = await client.mock.request("GET", f"/ip-capacity?l3NetworkUuids={l3}")
    _, listed = await client.mock.request("GET", f"/l3-networks/{l3}/ip/free?limit=999")
    assert len(listed["inventories"]) == answer["availableCapacity"]
    return answer["availableCapacity"]


async def addresses(client, vm):
    shown = await client.look("vm-instances", vm)
    return shown["state"], sorted(nic["ip"] for nic in shown["vmNics"])


async def machines_of_states(client, of, l3):
    """A machine that runs, one that is paused and one that is stopped."""
    vms = [(await client.call("CreateVmInstance", name=f"v{n}", l3NetworkUuids=[l3], **of))["uuid"] for n in range(3)]
    await client.call("PauseVmInstance", uuid=vms[1])
    await client.call("StopVmInstance", uuid=vms[2])
    return vms


async def served_network(client, l2):
    """A network with two ranges, DNS, routes and services, made with some mistakes on the way."""
    await client.fails("SYS.1007: zstack.local is not a valid domain name", "CreateL3Network", name="l3", l2NetworkUuid=l2, dnsDomain="zstack.local")
    l3 = (await client.call("CreateL3Network", name="l3", l2NetworkUuid=l2, dnsDomain="zstack.org"))["uuid"]
    await client.fails(f"SYS.1007: no ip range in l3[{l3}]", "SetL3NetworkRouterInterfaceIp", l3NetworkUuid=l3, routerInterfaceIp="10.1.0.2")
    await add_range(client, l3, 10, 12)
    bad = {"name": "r", "l3NetworkUuid": l3, "startIp": "10.1.0.12", "endIp": "10.1.0.20", "gateway": "10.1.0.1", "netmask": "255.255.255.0"}
    await client.fails("SYS.1007: overlap with ip range*", "AddIpRange", **bad)
    await client.fails("SYS.1007: multiple CIDR on the same L3 network is not allowed*", "AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3, networkCidr="10.2.0.0/24")
    await client.fails("SYS.1000: [10.1.0.20, 10.1.0.13] is not an invalid ip range*", "AddIpRange", **bad | {"startIp": "10.1.0.20", "endIp": "10.1.0.13"})
    for ip in ("8.8.8.8", "1.1.1.1"):
        shown = await client.call("AddDnsToL3Network", l3NetworkUuid=l3, dns=ip)
    assert shown["dns"] == ["8.8.8.8", "1.1.1.1"]
    route = {"l3NetworkUuid": l3, "prefix": "10.8.0.0/16", "nexthop": "10.1.0.1"}
    await client.fails(f"SYS.1006: L3Network [uuid: {l3}] does not have host route service", "AddHostRouteToL3Network", **route)
    await client.call("AttachNetworkServiceToL3Network", l3NetworkUuid=l3, networkServices={await flat(client): ["DHCP", "DNS", "HostRoute", "Eip"]})
    await client.call("AddHostRouteToL3Network", **route)
    await client.call("SetL3NetworkRouterInterfaceIp", l3NetworkUuid=l3, routerInterfaceIp="10.1.0.2")
    await client.call("SetL3NetworkMtu", l3NetworkUuid=l3, mtu=1400)
    return l3


async def test_a_network_is_built_taken_from_under_machines_and_built_again(empty):
    client = empty
    l2, of = await ground(client)
    l3 = await served_network(client, l2)
    small = (await client.look("l3-networks", l3))["ipRanges"][0]["uuid"]

    # three addresses are enough for two machines and the DHCP server; the third machine waits for another range
    await client.fails(f"SYS.1006: Cannot find DhcpIp for l3 network[uuid:{l3}]", "GetL3NetworkDhcpIpAddress", l3NetworkUuid=l3)
    for name in ("a", "b"):
        await client.call("CreateVmInstance", name=name, l3NetworkUuids=[l3], **of)
    assert await free(client, l3) == 0
    await client.fails("*L3.1000: *no ip is available in this l3Network*", "CreateVmInstance", name="c", l3NetworkUuids=[l3], **of)
    await add_range(client, l3, 30, 39)
    vms = await machines_of_states(client, of, l3)
    dhcp = (await client.call("GetL3NetworkDhcpIpAddress", l3NetworkUuid=l3))["ip"]
    (tag,) = await client.tags(l3, "flatNetwork%25")
    assert tag.startswith(f"flatNetwork::DhcpServer::{dhcp}::ipUuid::")
    assert await free(client, l3) == 13 - 6

    # an EIP from another network
    outside = (await client.call("CreateL3Network", name="outside", l2NetworkUuid=l2, category="Public"))["uuid"]
    await client.fails("SYS.1007: overlap with ip range*", "AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=outside, networkCidr="10.1.0.0/24")
    await client.call("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=outside, networkCidr="10.5.0.0/29")
    vip = await client.call("CreateVip", name="vip", l3NetworkUuid=outside)
    nic = (await client.look("vm-instances", vms[0]))["vmNics"][0]["uuid"]
    eip = (await client.call("CreateEip", name="eip", vipUuid=vip["uuid"], vmNicUuid=nic))["uuid"]
    assert await free(client, outside) == 4

    # a range goes: whoever has an address of it loses the nic, and the DHCP server its address
    big = next(shown["uuid"] for shown in (await client.look("l3-networks", l3))["ipRanges"] if shown["uuid"] != small)
    await client.call("DeleteIpRange", uuid=big)
    for vm, state in zip(vms, ("Running", "Paused", "Stopped")):
        assert await addresses(client, vm) == (state, []) and "defaultL3NetworkUuid" not in await client.look("vm-instances", vm)
    assert {"vmNicUuid", "guestIp"} & (await client.look("eips", eip)).keys() == set()
    await client.fails("SYS.1006: *It doesn't have any nic*", "StartVmInstance", uuid=vms[2])
    assert await free(client, l3) == 0

    # a new range: the machines come back to the network, with the address that one of them asks for
    await add_range(client, l3, 40, 49)
    for vm, more in ((vms[0], {"staticIp": "10.1.0.44"}), (vms[2], {})):
        await client.call("AttachL3NetworkToVm", vmInstanceUuid=vm, l3NetworkUuid=l3, **more)
    await client.call("StartVmInstance", uuid=vms[2])
    assert await addresses(client, vms[0]) == ("Running", ["10.1.0.44"]) and (await client.look("vm-instances", vms[2]))["defaultL3NetworkUuid"] == l3
    nic = (await client.look("vm-instances", vms[0]))["vmNics"][0]["uuid"]
    assert (await client.call("AttachEip", eipUuid=eip, vmNicUuid=nic))["guestIp"] == "10.1.0.44"
    assert await free(client, l3) == 10 - 2

    # the network goes, with all that was set on it; the one outside stays
    await client.call("DeleteL3Network", uuid=l3)
    assert await addresses(client, vms[0]) == ("Running", []) and await client.tags(vms[0]) == []
    assert await client.look("l3-networks/ip-ranges", small) is None and await client.tags(l3) == []
    assert "guestIp" not in await client.look("eips", eip) and await free(client, outside) == 4
    await client.fails("SYS.1003: *", "AttachL3NetworkToVm", vmInstanceUuid=vms[0], l3NetworkUuid=l3)

    # it is built again under running machines
    l3 = await served_network(client, l2)
    for vm in (vms[0], vms[2]):
        await client.call("AttachL3NetworkToVm", vmInstanceUuid=vm, l3NetworkUuid=l3)
    nic = (await client.look("vm-instances", vms[0]))["vmNics"][0]
    assert (await client.call("AttachEip", eipUuid=eip, vmNicUuid=nic["uuid"]))["guestIp"] == nic["ip"]
    await client.call("RebootVmInstance", uuid=vms[0])
    assert await addresses(client, vms[0]) == ("Running", [nic["ip"]])

    # services in use may go; the network outside takes VIP and EIP along
    await client.call("DetachNetworkServiceFromL3Network", l3NetworkUuid=l3, **{f"networkServices.{await flat(client)}": "Eip"})
    assert (await client.look("eips", eip))["guestIp"] == nic["ip"]
    await client.call("DeleteL3Network", uuid=outside)
    assert await client.look("vips", vip["uuid"]) is None and await client.look("eips", eip) is None

    # at last the L2 network
    await client.call("DeleteL2Network", uuid=l2)
    assert await client.look("l3-networks", l3) is None and await addresses(client, vms[0]) == ("Running", [])
    await client.fails("SYS.1006: *It doesn't have any nic*", "StartVmInstance", uuid=await stopped(client, vms[2]))


async def stopped(client, vm):
    await client.call("StopVmInstance", uuid=vm)
    return vm


# primary storage


KINDS = {
    "LocalStorage": ("AddLocalPrimaryStorage", {"url": "/disk"}),
    "NFS": ("AddNfsPrimaryStorage", {"url": "10.0.0.8:/second"}),
    "SharedMountPoint": ("AddSharedMountPointPrimaryStorage", {"url": "/smp"}),
    "Ceph": ("AddCephPrimaryStorage", {"monUrls": ["root:p@10.0.0.7"]}),
}


async def ground_for_storage(client):
    """A cluster with hosts, a network and an image: its zone and itself, and what machines are made of."""
    l2, of = await ground(client)
    l3 = (await client.call("CreateL3Network", name="l3", l2NetworkUuid=l2))["uuid"]
    await add_range(client, l3, 2, 99)
    shown = await client.look("l2-networks", l2)
    return shown["zoneUuid"], shown["attachedClusterUuids"][0], of | {"l3NetworkUuids": [l3]}


async def storage_of_kind(client, kind, zone, cluster, **more):
    api, values = KINDS[kind]
    uuid = (await client.call(api, name=kind, zoneUuid=zone, **values | more))["uuid"]
    return await client.call("AttachPrimaryStorageToCluster", primaryStorageUuid=uuid, clusterUuid=cluster)


async def on_storage(client, of, storage):
    """A running machine whose root volume is on a storage, and that volume."""
    vm = await client.call("CreateVmInstance", name="v", primaryStorageUuidForRootVolume=storage, **of)
    return vm["uuid"], await client.look("volumes", vm["rootVolumeUuid"])


async def state(client, vm):
    return (await client.look("vm-instances", vm))["state"]


async def test_a_data_centre_with_each_kind_of_primary_storage(empty):
    zone, cluster, of = await ground_for_storage(empty)
    _, listed = await empty.mock.request("GET", "/primary-storage")
    assert [storage["status"] for storage in listed["inventories"]] == ["Connected"], "hosts came after it was attached"
    for kind, total in {"LocalStorage": 8, "NFS": 20, "SharedMountPoint": 20, "Ceph": 100}.items():
        storage = await storage_of_kind(empty, kind, zone, cluster)
        assert (storage["type"], storage["status"], storage["totalCapacity"]) == (kind, "Connected", total * TIB)
        vm, volume = await on_storage(empty, of, storage["uuid"])
        assert await state(empty, vm) == "Running" and volume["primaryStorageUuid"] == storage["uuid"]
        shown = await empty.look("primary-storage", storage["uuid"])
        assert storage["totalCapacity"] - shown["availableCapacity"] == 2 * volume["size"], "the volume, and the image in the cache"
        snapshot = await empty.call("CreateVolumeSnapshot", volumeUuid=volume["uuid"], name="s")
        assert snapshot["primaryStorageUuid"] == storage["uuid"]
        data = (await empty.call("CreateDiskOffering", name="d", diskSize=GIB))["uuid"]
        place = {"systemTags": [f"localStorage::hostUuid::{(await empty.look('vm-instances', vm))['hostUuid']}"]} if kind == "LocalStorage" else {}
        disk = (await empty.call("CreateDataVolume", name="d", diskOfferingUuid=data, primaryStorageUuid=storage["uuid"], **place))["uuid"]
        await empty.call("AttachDataVolumeToVm", volumeUuid=disk, vmInstanceUuid=vm)
        await empty.call("DestroyVmInstance", uuid=vm)
        await empty.call("ExpungeVmInstance", uuid=vm)
        await empty.call("DeleteDataVolume", uuid=disk)
        await empty.call("ExpungeDataVolume", uuid=disk)
        shown = await empty.look("primary-storage", storage["uuid"])
        assert storage["totalCapacity"] - shown["availableCapacity"] == volume["size"], "the image in the cache"
        await empty.fails("SYS.1006: primary storage[*] cannot be deleted for still being attached*", "DeletePrimaryStorage", uuid=storage["uuid"])
        await empty.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=storage["uuid"], clusterUuid=cluster)
        await empty.call("DeletePrimaryStorage", uuid=storage["uuid"])
        assert await empty.look("primary-storage", storage["uuid"]) is None


async def test_primary_storage_is_taken_from_under_machines_and_put_back(empty):
    zone, cluster, of = await ground_for_storage(empty)
    storage = (await storage_of_kind(empty, "NFS", zone, cluster))["uuid"]
    vm, _ = await on_storage(empty, of, storage)
    _, listed = await empty.mock.request("GET", "/primary-storage?q=name=p")
    other, _ = await on_storage(empty, of, listed["inventories"][0]["uuid"])

    # maintenance answers at once, and stops what is there
    shown = await empty.call("ChangePrimaryStorageState", uuid=storage, stateEvent="maintain")
    assert shown["state"] == "Maintenance" and await state(empty, vm) in ("Running", "Stopping")
    await empty.mock.advance(60)
    assert [await state(empty, uuid) for uuid in (vm, other)] == ["Stopped", "Running"]
    await empty.fails("VM.1001 <- SYS.1006: *is in a state of maintenance*", "StartVmInstance", uuid=vm)
    await empty.call("ChangePrimaryStorageState", uuid=storage, stateEvent="enable")
    await empty.call("StartVmInstance", uuid=vm)

    # detached
    shown = await empty.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=storage, clusterUuid=cluster)
    assert shown["attachedClusterUuids"] == [] and shown["totalCapacity"] == shown["availableCapacity"] == 0
    assert [await state(empty, uuid) for uuid in (vm, other)] == ["Stopped", "Running"]
    await empty.fails("VM.1001 <- HOST_ALLOCATION.1000: *", "StartVmInstance", uuid=vm)
    await empty.fails("PS.1003: the NFS primary storage[*] has not attached to any clusters*", "ReconnectPrimaryStorage", uuid=storage)
    assert (await empty.look("primary-storage", storage))["status"] == "Disconnected"
    shown = await empty.call("AttachPrimaryStorageToCluster", primaryStorageUuid=storage, clusterUuid=cluster)
    assert (shown["status"], shown["totalCapacity"]) == ("Connected", 20 * TIB)
    await empty.call("StartVmInstance", uuid=vm)

    # disconnected: no host of the cluster answers
    outage = await empty.mock.incident({"network-partition": "c"})
    assert await state(empty, vm) == "Unknown" and (await empty.look("primary-storage", storage))["status"] == "Disconnected"
    await empty.fails("PS.1003: *no hosts in the attached clusters are connected", "ReconnectPrimaryStorage", uuid=storage)
    await empty.fails("*", "StopVmInstance", uuid=vm)
    await empty.mock.end_incident(outage["id"])
    assert await state(empty, vm) == "Running" and (await empty.look("primary-storage", storage))["status"] == "Connected"
    assert (await empty.call("ReconnectPrimaryStorage", uuid=storage))["status"] == "Connected"

    # removed for good, with its machine
    await empty.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=storage, clusterUuid=cluster)
    await empty.call("DeletePrimaryStorage", uuid=storage)
    assert await empty.look("vm-instances", vm) is None and await state(empty, other) == "Running"


async def test_a_second_ceph(empty):
    zone, cluster, of = await ground_for_storage(empty)
    first = await storage_of_kind(empty, "Ceph", zone, cluster, monUrls=["root:p@10.0.0.7", "root:p@10.0.0.6"], rootVolumePoolName="root")
    await empty.fails("SYS.1007: cannot add ceph primary storage, there has been some*[10.0.0.7]]", "AddCephPrimaryStorage", name="b", zoneUuid=zone, monUrls=["root:p@10.0.0.7"])
    second = await empty.call("AddCephPrimaryStorage", name="b", zoneUuid=zone, monUrls=["root:p@10.0.0.5"], rootVolumePoolName="root")
    assert first["fsid"] != second["fsid"] and first["url"] == second["url"] == "not used"
    await empty.fails("SYS.1007: url[not used] has been occupied*", "AttachPrimaryStorageToCluster", primaryStorageUuid=second["uuid"], clusterUuid=cluster)
    vm, volume = await on_storage(empty, of, first["uuid"])
    assert volume["installPath"] == f"ceph://root/{volume['uuid']}"

    # a monitor is of one storage; it is removed by its name, whatever storage it is of
    await empty.fails("SYS.1007: Adding the same Mon node is not allowed", "AddMonToCephPrimaryStorage", uuid=second["uuid"], monUrls=["root:p@10.0.0.6"])
    shown = await empty.call("AddMonToCephPrimaryStorage", uuid=second["uuid"], monUrls=["root:p@10.0.0.4"])
    assert {mon["hostname"] for mon in shown["mons"]} == {"10.0.0.4", "10.0.0.5"}
    await empty.call("RemoveMonFromCephPrimaryStorage", uuid=second["uuid"], monHostnames=["10.0.0.6", "10.0.0.4"])
    assert [mon["hostname"] for mon in (await empty.look("primary-storage", first["uuid"]))["mons"]] == ["10.0.0.7"]

    # the second one gets a cluster of its own, then it goes, and takes the pool of that name along
    await empty.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=first["uuid"], clusterUuid=cluster)
    assert await state(empty, vm) == "Stopped"
    await empty.call("AttachPrimaryStorageToCluster", primaryStorageUuid=second["uuid"], clusterUuid=cluster)
    other, _ = await on_storage(empty, of, second["uuid"])
    await empty.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=second["uuid"], clusterUuid=cluster)
    await empty.call("DeletePrimaryStorage", uuid=second["uuid"])
    assert await empty.look("vm-instances", other) is None
    assert {pool["type"] for pool in (await empty.look("primary-storage", first["uuid"]))["pools"]} == {"Data", "ImageCache"}
    await empty.call("AttachPrimaryStorageToCluster", primaryStorageUuid=first["uuid"], clusterUuid=cluster)
    assert (await empty.call("StartVmInstance", uuid=vm))["state"] == "Running"


async def test_a_router_runs_where_its_network_is(mock):
    made = await data_centre(mock, clusters=2)
    await mock.create("CreateVirtualRouterOffering", name="o", cpuNum=1, memorySize=GIB, zoneUuid=made.zone, imageUuid=made.image, managementNetworkUuid=made.l3)
    provider = (await one(mock, "network-services/providers", "type=vrouter"))["uuid"]
    for number in range(6):
        l2 = (await mock.create("CreateL2VlanNetwork", name="n", zoneUuid=made.zone, physicalInterface="eth1", vlan=number + 1))["uuid"]
        await mock.call("AttachL2NetworkToCluster", clusterUuid=made.clusters[1], l2NetworkUuid=l2)
        l3 = (await mock.create("CreateL3Network", name="n", l2NetworkUuid=l2))["uuid"]
        await mock.call("AddIpRange", name="r", l3NetworkUuid=l3, startIp="10.2.0.2", endIp="10.2.0.9", netmask="255.255.255.0", gateway="10.2.0.1")
        await mock.call("AttachNetworkServiceToL3Network", l3NetworkUuid=l3, networkServices={provider: ["DHCP", "SNAT"]})
        await machines(mock, made, 1, l3NetworkUuids=[l3])
    routers = await mock.query("vm-instances/appliances")
    assert [(router["state"], router["clusterUuid"], len(router["vmNics"])) for router in routers] == [("Running", made.clusters[1], 2)] * 6
