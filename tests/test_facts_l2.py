"""Facts of the server on L2 networks, VXLAN pools and their networks: a case for each, in both dialects."""

from asking import each, one, outcome
from facts import Fact, Refused, Shown, Uncovered, after, chain, changed, check, error_of, take
from test_facts_images import breaks
from test_facts_vm import (
    ABSENT,
    C1,
    C2,
    HOST1,
    HOST2,
    HOST3,
    PRIVATE,
    VM,
    WEB,
    ZONE,
    answers,
    facts,
    gone,
    leaves,
    look_at,
)

import zmock
from zmock import ADMIN, named

L2_PUBLIC, L2_PRIVATE = named("l2-public"), named("l2-private")
PAUSED, DEAD, MOVING = named("vm-paused"), named("vm-dead"), named("vm-moving")
NEW, SECOND, POOL, NET, NET2, RANGE, RANGE2, L3, ANN, NOBODY, ZONE2, C3, NEW_VM = (named(f"new-{number}") for number in range(13))
NO_VLAN = {"name": "n", "zoneUuid": ZONE, "physicalInterface": "eth7", "resourceUuid": NEW}
VLAN = NO_VLAN | {"vlan": 7, "physicalInterface": "ethernet77"}
MAKE_NO_VLAN, MAKE_VLAN = ("CreateL2NoVlanNetwork", NO_VLAN), ("CreateL2VlanNetwork", VLAN)
MAKE_POOL = ("CreateL2VxlanNetworkPool", {"name": "p", "zoneUuid": ZONE, "resourceUuid": POOL})
TO_C1 = {"l2NetworkUuid": NEW, "clusterUuid": C1}
ATTACH = ("AttachL2NetworkToCluster", TO_C1)
FROM_C1 = {"l2NetworkUuid": L2_PRIVATE, "clusterUuid": C1}
DETACH = ("DetachL2NetworkFromCluster", FROM_C1)
DELETE = ("DeleteL2Network", {"uuid": L2_PRIVATE})
POOL_C1 = {"l2NetworkUuid": POOL, "clusterUuid": C1}
DETACH_POOL = ("DetachL2NetworkFromCluster", POOL_C1)
CIDR = "10.10.0.0/24"
EXAMPLE = "like : l2NetworkUuid::XXX::clusterUuid::XXX::cidr::{X.X.X.X/Y}"


# clouds, and looks at them


def vnis(start=100, end=109, uuid=RANGE, pool=POOL):
    return ("CreateVniRange", {"name": "r", "l2NetworkUuid": pool, "startVni": start, "endVni": end, "resourceUuid": uuid})


def net(uuid=NET, pool=POOL, **more):
    return ("CreateL2VxlanNetwork", {"name": "v", "poolUuid": pool, "resourceUuid": uuid} | more)


def tag(cluster=C1, cidr=CIDR, pool=POOL):
    return f"l2NetworkUuid::{pool}::clusterUuid::{cluster}::cidr::{{{cidr}}}"


def tied(cluster=C1, pool=POOL, cidr=CIDR):
    """A step that attaches a pool."""

    async def step(mock):
        body = {"params": {}, "systemTags": [tag(cluster, cidr, pool)]}
        status, answer = await outcome(mock, "POST", f"/l2-networks/{pool}/clusters/{cluster}", body)
        assert status == 200, answer
        return answer

    return step


BASIS = (MAKE_POOL, vnis(), net(vni=105))  # a pool with a network
WITH_L3 = (
    *BASIS,
    tied(),
    tied(C2),
    ("CreateL3Network", {"name": "l3", "l2NetworkUuid": NET, "resourceUuid": L3}),
    ("AddIpRange", {"name": "r", "l3NetworkUuid": L3, "startIp": "10.50.0.2", "endIp": "10.50.0.99", "netmask": "255.255.255.0", "gateway": "10.50.0.1"}),
)
VXLAN_VM = ("CreateVmInstance", VM | {"l3NetworkUuids": [L3], "hostUuid": HOST1, "resourceUuid": NEW_VM})
ON_VXLAN = (*WITH_L3, VXLAN_VM)


def items(type, *steps, are, fields):
    """A story: after some steps, the objects of a type have these values of fields."""

    async def story(mock):
        await take(mock, steps)
        found = sorted(tuple(item.get(name) for name in fields) for item in mock.cloud.store.rows(type))
        assert found == sorted(are), found

    return Shown(story)


def bridges(*steps, uuid=NEW, are=()):
    """A story: after some steps, the tags of an L2 network, inherent ones all."""

    async def story(mock):
        await take(mock, steps)
        found = [(item["tag"], item["inherent"]) for item in mock.cloud.find("SystemTag", "resourceUuid", uuid)]
        assert found == [(f"kvm::bridge::{name}", True) for name in are]

    return Shown(story)


def nics_of(mock, *uuids):
    return [len(mock.cloud.find("VmNic", "vmInstanceUuid", uuid)) for uuid in uuids]


async def ties_providers(mock):
    await take(mock, [MAKE_NO_VLAN, MAKE_POOL])
    for provider in await mock.query("network-services/providers"):
        is_flat = provider["type"] == "Flat"
        assert NEW in provider["attachedL2NetworkUuids"] and (POOL in provider["attachedL2NetworkUuids"]) == is_flat
        assert await mock.query("network-services/providers", f"attachedL2NetworkUuids={NEW}", f"type={provider['type']}")
    await mock.delete("l2-networks", NEW)
    assert all(NEW not in provider["attachedL2NetworkUuids"] for provider in await mock.query("network-services/providers"))


async def other_zone(mock):
    await mock.call("CreateZone", name="z", resourceUuid=ZONE2)
    await mock.call("CreateCluster", name="c", zoneUuid=ZONE2, hypervisorType="KVM", resourceUuid=C3)


async def no_hosts(mock):
    for host in (HOST1, HOST2):
        mock.cloud.change("Host", host, state="Maintenance")


def failing_on_hosts(*steps, params):
    """A story: an agent's error has the code of the call around it, and nothing stays."""

    async def story(mock):
        await take(mock, steps)
        mock.rule(api="AttachL2NetworkToCluster", then={"error": "SYS.1006", "details": "no bridge", "stage": "prepare"})
        errors = chain(await error_of(mock, "AttachL2NetworkToCluster", params))
        assert [(error["code"], error["details"]) for error in errors] == [("L2.1000", "no bridge"), ("SYS.1006", "no bridge")]
        look_at(mock, ("L2Network", params["l2NetworkUuid"]), {"attachedClusterUuids": []})
        assert not mock.cloud.find("SystemTag", "resourceUuid", params["l2NetworkUuid"])

    return Shown(story)


async def machines_in_many_states(mock):
    """Give the cluster machines in other states, which have nics on the private network."""
    for uuid, state in ((PAUSED, "Paused"), (DEAD, "Destroyed"), (MOVING, "Migrating")):
        await mock.call("CreateVmInstance", **VM | {"resourceUuid": uuid, "clusterUuid": C1})
        mock.cloud.change("VmInstance", uuid, state=state)
    await mock.call("CreateVmInstance", **VM | {"resourceUuid": NEW, "strategy": "JustCreate"})
    mock.cloud.add("VmNic", vmInstanceUuid=NEW, l3NetworkUuid=PRIVATE, deviceId=0, uuid=SECOND, mac="fa:00:00:00:00:01")
    await mock.call("CreateVmInstance", **VM | {"resourceUuid": NET, "hostUuid": HOST3})


async def detaches_nics(mock):
    await machines_in_many_states(mock)
    (nic,) = mock.cloud.find("VmNic", "vmInstanceUuid", WEB)
    await take(mock, [DETACH])
    assert nics_of(mock, WEB, named("vm-ci-1"), PAUSED, DEAD) == [0, 0, 0, 0]
    assert [mock.cloud.look("VmInstance", uuid)["state"] for uuid in (WEB, PAUSED, DEAD)] == ["Running", "Paused", "Destroyed"]
    assert (await mock.call("CheckIpAvailability", l3NetworkUuid=PRIVATE, ip=nic["ip"]))["available"]


async def keeps_other_nics(mock):
    await machines_in_many_states(mock)
    await take(mock, [DETACH])
    assert nics_of(mock, MOVING, NEW, NET) == [1, 1, 1]


async def router(mock):
    mock.cloud.change("VmInstance", WEB, type="ApplianceVm", state="Running")


async def router_moves(mock):
    await take(mock, [router, DETACH])
    look_at(mock, ("VmInstance", WEB), {"state": "Running", "clusterUuid": C2, "hostUuid": HOST3})
    assert nics_of(mock, WEB) == [1]


async def router_goes(mock):
    mock.cloud.change("Host", HOST3, status="Disconnected")
    await take(mock, [router, DETACH])
    assert not mock.cloud.look("VmInstance", WEB)


async def as_ann(mock, *owned):
    """Log in as a new account that sees the pool."""
    await mock.call("CreateAccount", name="ann", password=zmock.SHA512_OF_PASSWORD, resourceUuid=ANN)
    await mock.call("ShareResource", resourceUuids=[POOL], toPublic=True)
    mock.admin = mock.session
    await mock.login("ann")


async def over_quota(mock):
    await take(mock, [MAKE_POOL, vnis()])
    await as_ann(mock)
    for number in range(8):
        await mock.call("CreateL2VxlanNetwork", name=f"n{number}", poolUuid=POOL)
    return {"name": "n", "poolUuid": POOL}


def owner_of(mock, uuid):
    return mock.cloud.accounts.owner("L2Network", mock.cloud.look("L2Network", uuid))


async def belongs_to_admin(mock):
    await take(mock, [MAKE_POOL])
    assert owner_of(mock, POOL) == ADMIN


async def belongs_to_caller(mock):
    await take(mock, [MAKE_POOL, vnis()])
    await as_ann(mock)
    await take(mock, [net()])
    assert [owner_of(mock, uuid) for uuid in (POOL, NET)] == [ADMIN, ANN]


async def goes_with_account(mock):
    await belongs_to_caller(mock)
    mock.session = mock.admin
    await mock.call("DeleteAccount", uuid=ANN)
    assert not mock.cloud.look("L2Network", NET)
    assert mock.cloud.look("L2Network", POOL) and mock.cloud.look("L2Network", L2_PUBLIC)


async def random_numbers(mock):
    await take(mock, [MAKE_POOL, vnis(1, 100_000), ("CreateVniRange", {"name": "s", "l2NetworkUuid": POOL, "startVni": 200_000, "endVni": 300_000})])
    made = [(await mock.create("CreateL2VxlanNetwork", name="n", poolUuid=POOL))["vni"] for _ in range(8)]
    assert len({*made}) == 8 and made != sorted(made) and min(made) < 200_000 <= max(made)


async def all_numbers_of_a_range(mock):
    await take(mock, [MAKE_POOL, vnis(5, 8)])
    assert sorted([(await mock.create("CreateL2VxlanNetwork", name="n", poolUuid=POOL))["vni"] for _ in range(4)]) == [5, 6, 7, 8]
    return {"name": "n", "poolUuid": POOL}


async def attached_with_tags(mock, tags, *steps):
    await take(mock, steps)
    return POOL_C1 | {"systemTags": tags}


def pool_refused(code, details, *tags, steps=(MAKE_POOL,)):
    """A pool that is not attached with some tags."""

    async def state(mock):
        return await attached_with_tags(mock, [*tags], *steps)

    return Refused(state, code, details)


async def out_of_cidr(mock):
    await take(mock, [MAKE_POOL])
    mock.cloud.change("Host", HOST2, managementIp="172.20.0.1")
    return POOL_C1 | {"systemTags": [tag()]}


async def answers_typed(mock):
    await take(mock, [MAKE_VLAN])
    assert (await mock.create(*ATTACH[:1], **TO_C1)).items() >= {"vlan": 7, "attachedClusterUuids": [C1]}.items()


async def answers_cidrs(mock):
    await take(mock, BASIS)
    answer = await tied()(mock)
    assert answer["inventory"]["attachedCidrs"] == {C1: CIDR}
    answer = await tied(C2, cidr="10.0.0.0/8")(mock)
    assert answer["inventory"]["attachedCidrs"] == {C1: CIDR, C2: "10.0.0.0/8"}


async def keeps_tags(mock):
    await take(mock, [*BASIS, tied()])
    assert [(item["tag"], item["inherent"]) for item in mock.cloud.find("SystemTag", "resourceUuid", POOL)] == [(tag(), False)]


async def one_end_a_host(mock):
    await take(mock, [*ON_VXLAN, ("CreateVmInstance", VM | {"l3NetworkUuids": [L3], "hostUuid": HOST1})])
    (end,) = await mock.query("l2-networks/vteps")
    assert (end["hostUuid"], end["vtepIp"], end["port"], end["type"], end["poolUuid"]) == (HOST1, "10.10.0.11", 4789, "KVM_HOST_VXLAN", POOL)
    await mock.call("MigrateVm", vmInstanceUuid=NEW_VM, hostUuid=HOST2)
    assert sorted(end["vtepIp"] for end in await mock.query("l2-networks/vteps")) == ["10.10.0.11", "10.10.0.12"]
    shown = await one(mock, "l2-networks/vxlan-pool", f"uuid={POOL}")
    assert len(shown["attachedVtepRefs"]) == 2 and len(await mock.query("l2-networks/vxlan-pool", "vtep.vtepIp=10.10.0.12")) == 1


async def pool_lets_go(mock):
    await take(mock, [*ON_VXLAN, DETACH_POOL])
    look_at(mock, ("L2Network", POOL), {"attachedClusterUuids": [C2], "attachedCidrs": {C2: CIDR}})
    look_at(mock, ("L2Network", NET), {"attachedClusterUuids": [C2]})
    assert nics_of(mock, NEW_VM) == [0] and not [*mock.cloud.store.rows("Vtep")]
    assert [item["tag"] for item in mock.cloud.find("SystemTag", "resourceUuid", POOL)] == [tag(C2)]


async def deletes_everything(mock):
    await take(mock, [*ON_VXLAN, ("DeleteL2Network", {"uuid": POOL})])
    left = [name for name in ("Vtep", "VniRange") if [*mock.cloud.store.rows(name)]]
    gone_with_it = [name for name, uuid in (("L2Network", POOL), ("L2Network", NET), ("L3Network", L3), ("VniRange", RANGE)) if mock.cloud.look(name, uuid)]
    assert left == gone_with_it == [] and nics_of(mock, NEW_VM) == [0]
    assert mock.cloud.look("VmInstance", NEW_VM)["state"] == "Running"


async def range_takes_networks(mock):
    await take(mock, [*ON_VXLAN, vnis(200, 209, RANGE2), net(NET2, vni=200), ("DeleteVniRange", {"uuid": RANGE})])
    assert not any(mock.cloud.look(name, uuid) for name, uuid in (("VniRange", RANGE), ("L2Network", NET), ("L3Network", L3)))
    assert mock.cloud.look("L2Network", NET2) and mock.cloud.look("L2Network", POOL) and nics_of(mock, NEW_VM) == [0]


async def shared(mock):
    await mock.call("ShareResource", resourceUuids=[L2_PRIVATE], toPublic=True)
    await take(mock, [DELETE])
    assert not mock.cloud.find("SharedResource", "resourceUuid", L2_PRIVATE)


async def takes_all_below(mock):
    vip = await mock.create("CreateVip", name="v", l3NetworkUuid=PRIVATE)
    await take(mock, [DELETE])
    assert not any(mock.cloud.look(type, uuid) for type, uuid in (("L2Network", L2_PRIVATE), ("L3Network", PRIVATE), ("Vip", vip["uuid"])))
    assert not mock.cloud.find("IpRange", "l3NetworkUuid", PRIVATE) and nics_of(mock, WEB) == [0]
    look_at(mock, ("VmInstance", WEB), {"state": "Running", "defaultL3NetworkUuid": ABSENT})


async def quiet_deletion(mock):
    status, answer = await outcome(mock, "DELETE", f"/l2-networks/{NOBODY}")
    assert (status, answer or {}) == (200, {})


async def types(mock):
    answer = await mock.call("GetL2NetworkTypes")
    assert sorted(answer["types"]) == ["L2NoVlanNetwork", "L2VlanNetwork", "VxlanNetwork", "VxlanNetworkPool"]


async def queried(mock):
    await take(mock, [MAKE_NO_VLAN, *BASIS])
    found = {path: {item["name"] for item in await mock.query(f"l2-networks{path}")} for path in ("", "/vlan", "/vxlan", "/vxlan-pool", "/vxlan-pool/vni-range")}
    assert found == {"": {"l2-public", "l2-private", "n", "p", "v"}, "/vlan": {"l2-private"}, "/vxlan": {"v"}, "/vxlan-pool": {"p"}, "/vxlan-pool/vni-range": {"r"}}


async def one_after_the_other(mock):
    """Two networks with one vlan, attached to a cluster at the same time."""
    await take(mock, [MAKE_VLAN, ("CreateL2VlanNetwork", VLAN | {"resourceUuid": SECOND})])
    mock.rule(api="AttachL2NetworkToCluster", delay=30)
    jobs = [(await mock.request("POST", f"/l2-networks/{uuid}/clusters/{C1}"))[1]["location"][-32:] for uuid in (NEW, SECOND)]
    await mock.advance(60)
    assert [(await mock.request("GET", f"/api-jobs/{job}"))[0] for job in jobs] == [200, 503]


FACTS = (
    *facts("CreateL2NoVlanNetwork",
        ("the row has the type of the message", leaves(MAKE_NO_VLAN, of=("L2Network", NEW), type="L2NoVlanNetwork", physicalInterface="eth7", zoneUuid=ZONE)),
        ("refuses an unknown type", Refused(NO_VLAN | {"type": "Foo"}, "SYS.1007", "unsupported l2Network type[Foo]")),
        ("takes an interface twice in a zone", leaves(MAKE_NO_VLAN, ("CreateL2NoVlanNetwork", NO_VLAN | {"resourceUuid": SECOND}), of=("L2Network", SECOND), physicalInterface="eth7")),
        ("ties the providers to the new network", Shown(ties_providers)),
        ("is attached nowhere", answers(MAKE_NO_VLAN, attachedClusterUuids=[])),
        ("a disabled zone does not matter", leaves(changed("Zone", ZONE, state="Disabled"), MAKE_NO_VLAN, of=("L2Network", NEW), zoneUuid=ZONE)),
    ),
    *facts("CreateL2VlanNetwork",
        ("the row has the type of the message", leaves(MAKE_VLAN, of=("L2Network", NEW), type="L2VlanNetwork", vlan=7)),
        ("refuses an unknown type", Refused(VLAN | {"type": "Foo"}, "SYS.1007", "unsupported l2Network type[Foo]")),
        ("takes a number twice in a zone", leaves(MAKE_VLAN, ("CreateL2VlanNetwork", VLAN | {"resourceUuid": SECOND}), of=("L2Network", SECOND), vlan=7)),
        ("is attached nowhere", answers(MAKE_VLAN, attachedClusterUuids=[])),
    ),
    *facts("AttachL2NetworkToCluster",
        ("refuses a network that is attached", Refused({"l2NetworkUuid": L2_PRIVATE, "clusterUuid": C1}, "SYS.1006", f"l2Network[uuid:{L2_PRIVATE}] has attached to cluster[uuid:{C1}], can't attach again")),
        ("a cluster of another zone is no reason", leaves(other_zone, MAKE_NO_VLAN, ("AttachL2NetworkToCluster", {"l2NetworkUuid": NEW, "clusterUuid": C3}), of=("L2Network", NEW), attachedClusterUuids=[C3])),
        ("refuses an interface that another network of the cluster has", Refused(after(("CreateL2NoVlanNetwork", NO_VLAN | {"physicalInterface": "eth0"}), **TO_C1), "SYS.1000", f"unhandled exception happened when calling *, There has been a l2Network[uuid:{L2_PUBLIC}, name:l2-public] attached to cluster[uuid:{C1}] that has physical interface[eth0]. Failed to attach l2Network[uuid:{NEW}]")),
        ("refuses a vlan that another network of the interface has", Refused(after(("CreateL2VlanNetwork", VLAN | {"vlan": 100, "physicalInterface": "eth1"}), **TO_C1), "SYS.1007", f"There has been a L2VlanNetwork[uuid:{L2_PRIVATE}, name:l2-private] attached to cluster[uuid:{C1}] that has physical interface[eth1], vlan[100]. Failed to attach L2VlanNetwork[uuid:{NEW}]")),
        ("another vlan of the interface is no clash", leaves(("CreateL2VlanNetwork", VLAN | {"physicalInterface": "eth1"}), ATTACH, of=("L2Network", NEW), attachedClusterUuids=[C1])),
        ("the vlan of another interface is no clash", leaves(("CreateL2VlanNetwork", VLAN | {"vlan": 100}), ATTACH, of=("L2Network", NEW), attachedClusterUuids=[C1])),
        ("the vlan of another cluster is no clash", leaves(DETACH, ("CreateL2VlanNetwork", VLAN | {"vlan": 100, "physicalInterface": "eth1"}), ATTACH, of=("L2Network", NEW), attachedClusterUuids=[C1])),
        ("networks with and without vlan on an interface do not clash", leaves(("CreateL2NoVlanNetwork", NO_VLAN | {"physicalInterface": "eth1"}), ATTACH, of=("L2Network", NEW), attachedClusterUuids=[C1])),
        ("one after the other in a cluster", Shown(one_after_the_other)),
        ("a host that has not the interface: L2.1000 with the cause", failing_on_hosts(MAKE_NO_VLAN, params=TO_C1)),
        ("the text of a host that has not the interface", Uncovered("each host has each interface")),
        ("makes a bridge", bridges(MAKE_NO_VLAN, ATTACH, are=["br_eth7"])),
        ("makes a bridge for a vlan, of seven letters of the interface", bridges(MAKE_VLAN, ATTACH, are=["br_etherne_7"])),
        ("makes one bridge", bridges(MAKE_VLAN, ATTACH, ("AttachL2NetworkToCluster", TO_C1 | {"clusterUuid": C2}), are=["br_etherne_7"])),
        ("makes no bridge in a cluster without hosts", bridges(other_zone, MAKE_NO_VLAN, ("AttachL2NetworkToCluster", {"l2NetworkUuid": NEW, "clusterUuid": C3}))),
        ("makes no bridge on hosts in maintenance", bridges(no_hosts, MAKE_NO_VLAN, ATTACH)),
        ("makes no bridge on hosts out of reach", bridges(changed("Host", HOST1, status="Disconnected"), changed("Host", HOST2, status="Connecting"), MAKE_NO_VLAN, ATTACH)),
        ("answers the typed inventory with the cluster", Shown(answers_typed)),
        ("states do not matter", leaves(changed("Cluster", C1, state="Disabled"), MAKE_NO_VLAN, ATTACH, of=("L2Network", NEW), attachedClusterUuids=[C1])),
    ),
    *facts("DetachL2NetworkFromCluster",
        ("refuses a network that is not attached", Refused(after(MAKE_NO_VLAN, **TO_C1), "SYS.1006", f"l2Network[uuid:{NEW}] has not attached to cluster[uuid:{C1}]")),
        ("detaches the nics of running, stopped, paused and destroyed machines, and frees their addresses", Shown(detaches_nics)),
        ("a machine in another state, never started, or in another cluster keeps its nic", Shown(keeps_other_nics)),
        ("a router moves to another cluster", Shown(router_moves)),
        ("a router that cannot move is deleted", Shown(router_goes)),
        ("the network, its range and its addresses stay", leaves(DETACH, of=("L3Network", PRIVATE), state="Enabled")),
        ("answers the typed inventory", answers(DETACH, attachedClusterUuids=[C2], vlan=100)),
        ("can be attached again", leaves(DETACH, ("AttachL2NetworkToCluster", FROM_C1), of=("L2Network", L2_PRIVATE), attachedClusterUuids=[C2, C1])),
    ),
    *facts("UpdateL2Network",
        ("changes name and description", leaves(("UpdateL2Network", {"uuid": L2_PRIVATE, "name": "x", "description": ""}), of=("L2Network", L2_PRIVATE), name="x", description="")),
        ("changes neither interface nor vlan", leaves(("UpdateL2Network", {"uuid": L2_PRIVATE, "vlan": 3, "physicalInterface": "e"}), of=("L2Network", L2_PRIVATE), vlan=100, physicalInterface="eth1")),
        ("answers the unchanged object where nothing is given", answers(("UpdateL2Network", {"uuid": L2_PRIVATE}), name="l2-private")),
    ),
    *facts("DeleteL2Network",
        ("attached clusters and running machines do not matter", gone(DELETE, of=("L2Network", L2_PRIVATE))),
        ("takes along the networks, VIPs and ranges, and detaches nics", Shown(takes_all_below)),
        ("ends its sharing", Shown(shared)),
        ("takes along the networks of a pool, its ranges and tunnels", Shown(deletes_everything)),
        ("a pool whose network cannot be deleted stays", Uncovered("the deletion of a network inside never fails")),
        ("a failure is SYS.1004 with its cause", Refused(breaks("DeleteL2Network", "Permissive"), "SYS.1004 <- HOST.1005")),
        ("an unknown uuid is a success without a body", Shown(quiet_deletion)),
        ("its tags go", bridges(MAKE_NO_VLAN, ATTACH, ("DeleteL2Network", {"uuid": NEW}))),
        ("clusters stay", leaves(DELETE, of=("Cluster", C1), state="Enabled")),
    ),
    *facts("GetL2NetworkTypes", ("answers the four types", Shown(types))),
    *facts("QueryL2Network", ("shows networks of all types, and each kind among its own", Shown(queried))),
    *facts("CreateL2VxlanNetworkPool",
        ("an absent interface is an empty text", answers(MAKE_POOL, physicalInterface="", type="VxlanNetworkPool")),
        ("keeps the interface that is given", answers((MAKE_POOL[0], MAKE_POOL[1] | {"physicalInterface": "eth3"}), physicalInterface="eth3")),
        ("has nothing attached", answers(MAKE_POOL, attachedVniRanges=[], attachedVtepRefs=[], attachedVxlanNetworkRefs=[], attachedCidrs={}, attachedClusterUuids=[])),
        ("belongs to the calling account", Shown(belongs_to_admin)),
    ),
    *facts("CreateVniRange",
        ("refuses a start behind the end, which it names twice", Refused(after(MAKE_POOL, **vnis(9, 3)[1]), "SYS.1007", "start number [9] of vni range is bigger than end number [9]")),
        *[(f"refuses an overlap within the pool: {start}-{end}", Refused(after(MAKE_POOL, vnis(), **vnis(start, end, SECOND)[1]), "SYS.1007", f"this vni range[start:{start}, end:{end}] has overlapped with vni range [{RANGE}], which start vni is [100], end vni is [109]"))
          for start, end in ((100, 109), (1, 100), (109, 200), (104, 105), (1, 500))],
        ("takes a neighbour", leaves(MAKE_POOL, vnis(), vnis(110, 119, SECOND), of=("VniRange", SECOND), startVni=110)),
        ("does not look at other pools", leaves(MAKE_POOL, vnis(), ("CreateL2VxlanNetworkPool", {"name": "q", "zoneUuid": ZONE, "resourceUuid": NEW}), vnis(100, 109, SECOND, NEW), of=("VniRange", SECOND), l2NetworkUuid=NEW)),
        ("refuses an unknown pool", Refused(vnis(pool=NOBODY)[1], "SYS.1003", f"unable to find L2Network[uuid:{NOBODY}], it may have been deleted")),
        ("has no handler for a network of another type", Refused(vnis(pool=L2_PRIVATE)[1], "SYS.1008")),
        ("answers the range", answers(MAKE_POOL, vnis(), startVni=100, endVni=109, l2NetworkUuid=POOL, name="r")),
    ),
    *facts("DeleteVniRange",
        ("takes along the networks with a number in it, and all on them", Shown(range_takes_networks)),
        ("failures on the way are only logged", Uncovered("the deletion of a network inside never fails")),
        ("the pool stays", leaves(MAKE_POOL, vnis(), ("DeleteVniRange", {"uuid": RANGE}), of=("L2Network", POOL), attachedVniRanges=ABSENT)),
    ),
    *facts("AttachL2NetworkToCluster",  # of a pool
        ("refuses a call without system tags", pool_refused("SYS.1007", f"need to input one system tag {EXAMPLE}")),
        ("refuses a tag of another form", pool_refused("SYS.1007", f"wrong system tag format, shoud be {EXAMPLE}", f"l2NetworkUuid::{POOL}::clusterUuid::{C1}")),
        ("refuses any other tag beside", pool_refused("SYS.1007", f"wrong system tag format, shoud be {EXAMPLE}", tag(), "a::b")),
        ("refuses what is no CIDR", pool_refused("SYS.1007", "wrong cidr format in system tag", tag(cidr="10.10.0.0"))),
        ("refuses what is no network", pool_refused("SYS.1007", "wrong cidr format in system tag", tag(cidr="10.10.0/24"))),
        ("takes an address with the bits of its host", leaves(MAKE_POOL, tied(cidr="10.10.0.9/24"), of=("L2Network", POOL), attachedCidrs={C1: "10.10.0.9/24"})),
        ("refuses numbers of another pool of the cluster", pool_refused("SYS.1007", f"overlap vni range with vxlan network pool [{NEW}]", tag(), steps=(*BASIS, (MAKE_POOL[0], MAKE_POOL[1] | {"resourceUuid": NEW}), vnis(100, 101, SECOND, NEW), tied(pool=NEW)))),
        ("refuses a pool without ranges where another one has any", pool_refused("SYS.1007", f"overlap vni range with vxlan network pool [{NEW}]", tag(), steps=(MAKE_POOL, (MAKE_POOL[0], MAKE_POOL[1] | {"resourceUuid": NEW}), vnis(1, 2, SECOND, NEW), tied(pool=NEW)))),
        ("lets pass a pool of which one range overlaps and another does not", leaves(*BASIS, vnis(500, 501, RANGE2), (MAKE_POOL[0], MAKE_POOL[1] | {"resourceUuid": NEW}), vnis(100, 101, SECOND, NEW), tied(pool=NEW), tied(), of=("L2Network", POOL), attachedClusterUuids=[C1])),
        ("pools without any range do not clash", leaves(MAKE_POOL, (MAKE_POOL[0], MAKE_POOL[1] | {"resourceUuid": NEW}), tied(pool=NEW), tied(), of=("L2Network", POOL), attachedClusterUuids=[C1])),
        ("the common check comes last", pool_refused("SYS.1006", f"l2Network[uuid:{POOL}] has attached to cluster[uuid:{C1}], can't attach again", tag(), steps=(MAKE_POOL, tied()))),
        ("a pool with ranges overlaps with itself", pool_refused("SYS.1007", f"overlap vni range with vxlan network pool [{POOL}]", tag(), steps=(*BASIS, tied()))),
        ("fails on a host without an address in the CIDR, and removes the tags", Refused(out_of_cidr, "L2.1000 <- SYS.1006", f"failed to check cidr[{CIDR}] for l2VxlanNetworkPool[uuid:{POOL}, name:p] on kvm host[uuid:{HOST2}], *")),
        ("an error of the host is L2.1000 with its cause", failing_on_hosts(*BASIS, params=POOL_C1 | {"systemTags": [tag()]})),
        ("hosts in maintenance are not asked", leaves(MAKE_POOL, no_hosts, tied(cidr="172.16.0.0/16"), of=("L2Network", POOL), attachedClusterUuids=[C1])),
        ("the tags of the call are not inherent", Shown(keeps_tags)),
        ("attaches the networks of the pool too", leaves(*BASIS, tied(), tied(C2), of=("L2Network", NET), attachedClusterUuids=[C1, C2])),
        ("makes no tunnel", items("Vtep", *BASIS, tied(), are=[], fields=["uuid"])),
        ("a host ends tunnels when a machine is first started or moved there", Shown(one_end_a_host)),
        ("an end whose address has changed is replaced when the host is connected", items("Vtep", *ON_VXLAN, ("UpdateHost", {"uuid": HOST1, "managementIp": "10.10.0.77"}), ("ReconnectHost", {"uuid": HOST1}), are=[(HOST1, "10.10.0.77")], fields=["hostUuid", "vtepIp"])),
        ("answers the typed inventory with the CIDRs of clusters", Shown(answers_cidrs)),
    ),
    *facts("DetachL2NetworkFromCluster",  # of a pool
        ("detaches the nics on its networks, then networks and pool, and removes the tag of the cluster", Shown(pool_lets_go)),
        ("tunnels of other clusters stay", items("Vtep", *ON_VXLAN, ("CreateVmInstance", VM | {"l3NetworkUuids": [L3], "hostUuid": HOST3}), DETACH_POOL, are=[(HOST3,)], fields=["hostUuid"])),
        ("answers the typed inventory", answers(*BASIS, tied(), DETACH_POOL, attachedCidrs={}, attachedClusterUuids=[])),
    ),
    *facts("CreateL2VxlanNetwork",
        ("is in the zone of the pool where none is given", leaves(*BASIS, of=("L2Network", NET), zoneUuid=ZONE)),
        ("takes the zone of the pool", leaves(MAKE_POOL, vnis(), net(zoneUuid=ZONE), of=("L2Network", NET), zoneUuid=ZONE)),
        ("refuses another zone", Refused(after(other_zone, MAKE_POOL, vnis(), **net(zoneUuid=ZONE2)[1]), "SYS.1007", f"the zone uuid provided not equals to zone uuid of pool [{POOL}], please correct it or do not fill it")),
        ("refuses the ninth network of a normal account", Refused(over_quota, "ID.1003", "*vxlan.num*")),
        ("refuses a number outside the ranges", Refused(after(MAKE_POOL, vnis(), **net(vni=110)[1]), "L2.1001", f"cannot allocate vni[110] in l2Network[uuid:{POOL}], out of vni range")),
        ("refuses any number of a pool without ranges", Refused(after(MAKE_POOL, **net(vni=110)[1]), "L2.1001", "*out of vni range")),
        ("refuses a number that is taken", Refused(after(*BASIS, **net(NET2, vni=105)[1]), "L2.1001", f"cannot allocate vni[105] in l2Network[uuid:{POOL}], duplicate with l2Network[uuid:{NET}]")),
        ("the number of another pool is free", leaves(*BASIS, (MAKE_POOL[0], MAKE_POOL[1] | {"resourceUuid": NEW}), vnis(100, 109, SECOND, NEW), net(NET2, NEW, vni=105), of=("L2Network", NET2), vni=105)),
        ("refuses a pool without a free number", Refused(all_numbers_of_a_range, "L2.1001", f"Vni allocator strategy[RandomVniAllocatorStrategy] returns nothing, because no vni is available in this VxlanNetwork[name:p, uuid:{POOL}]")),
        ("refuses a pool without a range", Refused(after(MAKE_POOL, **net()[1]), "L2.1001", "*no vni is available in this*")),
        ("chooses a random number of a random range", Shown(random_numbers)),
        ("never chooses the number of a range of one", Refused(after(MAKE_POOL, vnis(7, 7), **net()[1]), "L2.1001", "*no vni is available in this*")),
        ("takes the number of a range of one if it is named", leaves(MAKE_POOL, vnis(7, 7), net(vni=7), of=("L2Network", NET), vni=7)),
        ("an absent interface is an empty text", answers(*BASIS, physicalInterface="", type="VxlanNetwork", poolUuid=POOL)),
        ("is attached to the clusters of the pool", answers(MAKE_POOL, vnis(), tied(), tied(C2), net(), attachedClusterUuids=[C1, C2])),
        ("belongs to the calling account", Shown(belongs_to_caller)),
    ),
    Fact("AttachL2NetworkToCluster", "is refused for a VXLAN network itself", Refused(after(*BASIS, l2NetworkUuid=NET, clusterUuid=C1), "SYS.1000", "VxlanNetwork can not attach to cluster which VxlanNetworkPool should be used")),
    Fact("AttachL2NetworkToCluster", "a VXLAN network whose pool is attached is attached", Refused(after(*BASIS, tied(), l2NetworkUuid=NET, clusterUuid=C1), "SYS.1006", "*can't attach again")),
    Fact("DetachL2NetworkFromCluster", "is refused for a VXLAN network itself", Refused(after(*BASIS, tied(), l2NetworkUuid=NET, clusterUuid=C1), "SYS.1000", "VxlanNetwork can not detach from cluster which VxlanNetworkPool should be used")),
    Fact("DetachL2NetworkFromCluster", "a VXLAN network that is not attached is not attached", Refused(after(*BASIS, l2NetworkUuid=NET, clusterUuid=C1), "SYS.1006", "*has not attached*")),
    *facts("QueryVtep",
        ("the bridge of a VXLAN network that is used is an inherent tag", bridges(*ON_VXLAN, uuid=NET, are=["br_vx_105"])),
        ("no bridge before a machine is there", bridges(*WITH_L3, uuid=NET)),
    ),
    *facts("Cascades",
        ("a VXLAN network goes with its account", Shown(goes_with_account)),
        ("a pool, or a network without VXLAN, outlives its account", Uncovered("only admin makes them")),
        ("L2 networks go with their zone", gone(("DeleteZone", {"uuid": ZONE}), of=("L2Network", L2_PRIVATE))),
        ("a deleted cluster is attached to nothing", leaves(("DeleteCluster", {"uuid": C1}), of=("L2Network", L2_PRIVATE), attachedClusterUuids=[C2])),
        ("tunnels go with their host", items("Vtep", *ON_VXLAN, ("DeleteHost", {"uuid": HOST1}), are=[], fields=["uuid"])),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
