"""What the real server does with nics, ISOs, names, keys and consoles of virtual machines, fact by fact, in both dialects.

The facts follow the calls. The last ones are about the addresses, MACs and uuids that the server chooses.
"""

import re

import pytest
from asking import each, outcome
from facts import Refused, Shown, Uncovered, changed, check, take
from test_facts_vm import (
    ABSENT,
    BS,
    C1,
    CENTOS,
    CI,
    DB,
    HOST1,
    HOST4,
    ISO,
    LOCAL,
    NFS,
    NOBODY,
    OLD,
    PAUSE,
    PRIVATE,
    PUBLIC,
    RULE,
    STOP,
    WEB,
    V,
    act,
    answers,
    as_ann,
    balanced,
    facts,
    full_network,
    gone,
    leaves,
    made,
    nic_of,
    not_in_state,
    tagged,
    tags,
    with_services,
)  # fmt: skip

from zmock import named

FULL, SPARE, AGENT, L2_PUBLIC = map(named, ("l3-full", "volume-spare", "management-node", "l2-public"))
ISOS = [ISO, "1" * 32, "2" * 32, "3" * 32]
RUNNING_OR_STOPPED = "The vm[uuid: %s] is not Running or Stopped; the current state is %s"
MEANWHILE = Uncovered("a call is checked and done at once: no other call changes the state in between")


def attach(vm=CI, l3=PUBLIC, **more):
    return ("AttachL3NetworkToVm", {"vmInstanceUuid": vm, "l3NetworkUuid": l3, **more})


def static(vm=CI, ip="192.168.100.99", l3=PRIVATE):
    return ("SetVmStaticIp", {"vmInstanceUuid": vm, "l3NetworkUuid": l3, "ip": ip})


def detach(vm=WEB, l3=PRIVATE):
    """A step that detaches the nic of a machine on a network."""

    async def step(mock):
        return await mock.call("DetachL3NetworkFromVm", vmNicUuid=nic_on(mock, vm, l3)["uuid"])

    return step


def nic_on(mock, vm, l3):
    (nic,) = [nic for nic in mock.cloud.find("VmNic", "vmInstanceUuid", vm) if nic["l3NetworkUuid"] == l3]
    return nic


def of_nic(code, details, *steps, vm=WEB):
    """A detachment of a nic that is refused."""

    async def state(mock):
        await take(mock, steps)
        return {"vmNicUuid": nic_of(mock, vm)["uuid"]}

    return Refused(state, code, details)


def iso(number=0, vm=WEB):
    return ("AttachIsoToVmInstance", {"vmInstanceUuid": vm, "isoUuid": ISOS[number]})


def detach_iso(*numbers):
    return ("DetachIsoFromVmInstance", {"vmInstanceUuid": WEB, **({"isoUuid": ISOS[numbers[0]]} if numbers else {})})


async def more_isos(mock):
    """Three more images like the ISO."""
    for uuid in ISOS[1:]:
        mock.cloud.add("Image", **mock.cloud.get("Image", ISO) | {"uuid": uuid, "name": f"iso-{uuid[0]}"})


def holding(*numbers):
    """A step that attaches ISOs under their numbers behind the server's back."""
    return tagged(WEB, *(f"iso::{ISOS[number]}::{number}" for number in numbers))


def after_steps(*steps):
    """Make a fact's case of a function that asserts what some steps have left."""

    def shown(function):
        async def run(mock):
            await take(mock, steps)
            await function(mock)

        return Shown(run)

    return shown


def answered(*steps, are):
    """A story: the last call answers objects with these names."""

    async def run(mock):
        assert sorted(item["name"] for item in (await take(mock, steps))["inventories"]) == sorted(are)

    return Shown(run)


def nothing(*steps):
    """A story: the last call answers nothing."""

    async def run(mock):
        assert not await take(mock, steps)

    return Shown(run)


def boot_order(*tags_of_call, **params):
    """A step that sets the boot order, with tags in the call."""

    async def step(mock):
        status, answer = await outcome(mock, "PUT", f"/vm-instances/{WEB}/actions", {"setVmBootOrder": params, "systemTags": list(tags_of_call)})
        assert status == 200, answer

    return step


async def as_a_stranger(mock):
    """Go on as the account ann, which owns nothing."""
    await as_ann("vm.num", 20)(mock)


def wrong_state(api, params, was, allowed, *steps):
    return V("SYS.1006 <- VM.1010", params, not_in_state(api, was, allowed), *steps)


def tag_of(mock, begin, uuid=CI):
    (tag,) = [tag for tag in mock.cloud.find("SystemTag", "resourceUuid", uuid) if tag["tag"].startswith(begin)]
    return tag


# nics


@after_steps(attach(DB))
async def the_lowest_number(mock):
    await take(mock, [detach(DB), attach(DB, PRIVATE)])
    assert (nic_on(mock, DB, PUBLIC)["deviceId"], nic_on(mock, DB, PRIVATE)["deviceId"]) == (1, 0)


@after_steps(attach())
async def any_free_address(mock):
    nic = nic_on(mock, CI, PUBLIC)
    assert re.fullmatch(r"10\.20\.0\.\d+", nic["ip"]) and (nic["netmask"], nic["gateway"]) == ("255.255.255.0", "10.20.0.1")


@after_steps(tagged(CI, f"staticIp::{PUBLIC}::10.20.0.88"))
async def tag_changes_in_place(mock):
    before = tag_of(mock, "staticIp::")["uuid"]
    await take(mock, [attach(staticIp="10.20.0.99")])
    tag = tag_of(mock, "staticIp::")
    assert (tag["uuid"], tag["tag"]) == (before, f"staticIp::{PUBLIC}::10.20.0.99")


async def nic_of_ann(mock):
    await as_ann("vm.num", 20, owns=CI)(mock)
    ann, mock.session = mock.cloud.look("VmInstance", CI)["owner"], ""
    await mock.login()
    await take(mock, [attach()])
    assert nic_on(mock, CI, PUBLIC)["owner"] == ann


async def answer_of_a_detachment(mock):
    body = await detach(CI)(mock)
    assert (body["inventory"]["uuid"], body["inventory"]["vmNics"]) == (CI, [])


@after_steps(detach())
async def address_is_free_again(mock):
    assert (await mock.call("CheckIpAvailability", l3NetworkUuid=PRIVATE, ip="192.168.100.2"))["available"]


@after_steps(with_services, detach())
async def services_lose_the_nic(mock):
    for type, uuid in (("Eip", "e" * 32), RULE):
        assert not {"vmNicUuid", "guestIp"} & mock.cloud.look(type, uuid).keys()


@after_steps(changed("VmInstance", CI, clusterUuid=None))
async def clusters_of_the_root_volume(mock):
    attachable = ("GetVmAttachableL3Network", {"vmInstanceUuid": CI})
    assert [l3["name"] for l3 in (await take(mock, [attachable]))["inventories"]] == ["l3-public"]
    mock.cloud.change("PrimaryStorage", NFS, attachedClusterUuids=[])
    assert (await take(mock, [attachable]))["inventories"] == []


@after_steps(static())
async def static_address(mock):
    nic = nic_of(mock, CI)
    assert (nic["ip"], nic["netmask"], nic["gateway"]) == ("192.168.100.99", "255.255.255.0", "192.168.100.1")
    assert (await mock.call("CheckIpAvailability", l3NetworkUuid=PRIVATE, ip="192.168.100.8"))["available"]
    assert (tag_of(mock, "staticIp::")["tag"], tag_of(mock, "staticIp::")["inherent"]) == (f"staticIp::{PRIVATE}::192.168.100.99", False)


@after_steps(static())
async def static_tag_in_place(mock):
    before = tag_of(mock, "staticIp::")["uuid"]
    await take(mock, [static(ip="192.168.100.98")])
    assert tag_of(mock, "staticIp::")["uuid"] == before


@after_steps(static(ip="192.168.100.8"))
async def the_same_address(mock):
    assert nic_of(mock, CI)["lastOpDate"] == nic_of(mock, CI)["createDate"] and nic_of(mock, CI)["ip"] == "192.168.100.8"
    assert tag_of(mock, "staticIp::")


@after_steps(STOP, with_services, static(WEB))
async def eip_follows(mock):
    assert mock.cloud.look("Eip", "e" * 32)["guestIp"] == "192.168.100.99"


# ISOs, boot order and hostname


@after_steps(more_isos, holding(0, 2), iso(1))
async def lowest_number_of_isos(mock):
    tag = tag_of(mock, f"iso::{ISOS[1]}", WEB)
    assert (tag["tag"], tag["inherent"]) == (f"iso::{ISOS[1]}::1", True)


async def ann_with_the_iso(mock):
    await take(mock, [("ShareResource", {"resourceUuids": [ISO], "toPublic": True}), as_ann("vm.num", 20)])


async def cached_iso(mock):
    mock.cloud.add("ImageCache", id=99, primaryStorageUuid=NFS, imageUuid=ISO, installUrl="/c", mediaType="ISO", size=1)


@after_steps(act("SetVmHostname", CI, hostname="a"))
async def hostname_in_place(mock):
    before = tag_of(mock, "hostname::")["uuid"]
    await take(mock, [act("SetVmHostname", CI, hostname="b")])
    tag = tag_of(mock, "hostname::")
    assert (tag["uuid"], tag["tag"], tag["inherent"]) == (before, "hostname::b", False)


@after_steps(boot_order("cdromBootOnce::true", bootOrder=["CdRom", "HardDisk"]))
async def inherent_boot_order(mock):
    assert tag_of(mock, "bootOrder::", WEB)["inherent"] and tag_of(mock, "cdromBootOnce::", WEB)["inherent"]


@after_steps(act("SetVmConsolePassword", CI, consolePassword="one"))
async def password_anew(mock):
    before = tag_of(mock, "consolePassword::")["uuid"]
    await take(mock, [act("SetVmConsolePassword", CI, consolePassword="two")])
    tag = tag_of(mock, "consolePassword::")
    assert (tag["tag"], tag["inherent"], tag["uuid"] == before) == ("consolePassword::two", False, False)


# consoles and names


async def console(mock):
    body = await take(mock, [("RequestConsoleAccess", {"vmInstanceUuid": WEB})])
    agent = mock.cloud.look("ConsoleProxyAgent", AGENT)
    expected = {"scheme": "http", "hostname": agent["managementIp"], "port": 4900, "token": f"{mock.session}_{WEB}"}
    assert body == {"inventory": expected}


async def agents(mock):
    (agent,) = await mock.query("consoles/agents")
    (node,) = mock.cloud.store.rows("ManagementNode")
    assert agent["uuid"] == node["uuid"] and agent["description"] == f"Console proxy agent running on the management node[uuid:{node['uuid']}]"
    assert (agent["managementIp"], agent["consoleProxyOverriddenIp"]) == (node["hostName"], "0.0.0.0")
    assert (agent["type"], agent["state"], agent["status"]) == ("ManagementServerConsoleProxy", "Enabled", "Connected")


async def unknown_agent(mock):
    body = await take(mock, [("ReconnectConsoleProxyAgent", {"agentUuids": [NOBODY, AGENT]})])
    error = body["inventory"][NOBODY]
    assert (error["code"], error["details"], body["inventory"][AGENT]) == ("SYS.1007", f"invalid management node UUID[{NOBODY}]", True)


async def failing_agent(mock):
    before = dict(mock.cloud.look("ConsoleProxyAgent", AGENT))
    mock.rule(api="UpdateConsoleProxyAgent", then={"error": "SYS.1006", "details": "failed to configure consoleProxyOverriddenIp"})
    with pytest.raises(RuntimeError, match="SYS.1006: failed to configure"):
        await mock.call("UpdateConsoleProxyAgent", uuid=AGENT, consoleProxyOverriddenIp="10.0.0.9")
    assert mock.cloud.look("ConsoleProxyAgent", AGENT) == before


@after_steps(as_a_stranger)
async def names_of_all_accounts(mock):
    body = await take(mock, [("GetResourceNames", {"uuids": [WEB, NOBODY, HOST1]})])
    assert body["inventories"] == [
        {"uuid": WEB, "resourceName": "web-1", "resourceType": "VmInstanceVO"},
        {"uuid": HOST1, "resourceName": "host-1", "resourceType": "HostVO"},
    ]


@after_steps(act("DestroyVmInstance"))
async def nics_of_destroyed_ones(mock):
    (nic,) = await mock.query("vm-instances/nics", f"vmInstanceUuid={WEB}")
    assert "ip" not in nic and nic["mac"]


# what the server chooses


async def new_address(mock):
    vip = (await mock.call("CreateVip", name="v", l3NetworkUuid=PUBLIC))["inventory"]
    return vip["ip"]


async def random_addresses(mock):
    first = [await new_address(mock) for _ in range(9)]
    assert first != sorted(first) and len({*first}) == 9
    await mock.reset()
    assert [await new_address(mock) for _ in range(9)] == first


async def first_addresses(mock):
    mock.cloud.settings.addresses = "first"
    assert [await new_address(mock) for _ in range(3)] == ["10.20.0.3", "10.20.0.4", "10.20.0.5"]


async def strategy_of_a_call(mock):
    vip = {"name": "v", "l3NetworkUuid": PUBLIC, "allocatorStrategy": "FirstAvailableIpAllocatorStrategy"}
    assert [(await mock.call("CreateVip", **vip))["inventory"]["ip"] for _ in range(2)] == ["10.20.0.3", "10.20.0.4"]


async def every_address_is_used(mock):
    (ip_range,) = mock.cloud.find("IpRange", "l3NetworkUuid", PUBLIC)
    mock.cloud.change("IpRange", ip_range["uuid"], startIp="10.20.0.2", endIp="10.20.0.6")
    assert sorted([await new_address(mock) for _ in range(4)]) == ["10.20.0.3", "10.20.0.4", "10.20.0.5", "10.20.0.6"]


@after_steps(attach())
async def mac_of_a_nic(mock):
    nics = mock.cloud.find("VmNic", "vmInstanceUuid", CI)
    assert all(re.fullmatch(rf"fa(:[0-9a-f]{{2}}){{4}}:{nic['deviceId']:02x}", nic["mac"]) for nic in nics)


@after_steps(act("SetVmSshKey", CI, SshKey="k"))
async def uuids_of_tags(mock):
    first = tag_of(mock, "sshkey::")["uuid"]
    await take(mock, [act("DeleteVmSshKey", CI), act("SetVmSshKey", CI, SshKey="k")])
    assert tag_of(mock, "sshkey::")["uuid"] == first and first[12] == "3"


L3_OF_WEB = {"vmInstanceUuid": WEB, "l3NetworkUuid": PRIVATE}
NETWORKS = ("GetVmAttachableL3Network", {"vmInstanceUuid": CI})
VOLUMES = ("GetVmAttachableDataVolume", {"vmInstanceUuid": WEB})
ISOS_FOR_WEB = ("GetCandidateIsoForAttachingVm", {"vmInstanceUuid": WEB})
VMS_FOR_ISO = ("GetCandidateVmForAttachingIso", {"isoUuid": ISO})
NFS_VMS = ["web-1", "web-2", "web-3", "db-1", "db-2", "cache-1", "ci-1", "ci-2"]
CONSOLE = {"vmInstanceUuid": WEB}
FREE_DATA = changed("Volume", named("volume-db-data-1"), vmInstanceUuid=None, deviceId=None)


def ready_spare(**more):
    """A step that gives a data volume a place on a storage."""
    return changed("Volume", SPARE, status="Ready", primaryStorageUuid=NFS, format="qcow2", **more)


async def local_spare(mock):
    """A data volume on the local disk of another host than that of the machine."""
    mock.cloud.change("PrimaryStorage", LOCAL, attachedClusterUuids=[C1])
    mock.cloud.change("Volume", SPARE, status="Ready", primaryStorageUuid=LOCAL, format="qcow2")
    mock.cloud.add("LocalStorageResourceRef", uuid=SPARE, resourceUuid=SPARE, resourceType="VolumeVO", primaryStorageUuid=LOCAL, hostUuid=HOST4, size=1)


FACTS = (
    *facts("AttachL3NetworkToVm",
        ("refuses a machine that neither runs nor is stopped", V("SYS.1006", attach(WEB)[1], "unable to attach a L3 network. " + RUNNING_OR_STOPPED % (WEB, "Paused"), PAUSE)),
        ("refuses that first", V("SYS.1006", attach(OLD, PRIVATE, staticIp="x")[1], "*the current state is Destroyed")),
        ("refuses a network that it has", V("SYS.1006", L3_OF_WEB, f"unable to attach a L3 network. The L3 network[uuid:{PRIVATE}] is already attached to the vm[uuid: {WEB}]")),
        ("refuses a disabled network", V("SYS.1006", attach()[1], f"unable to attach a L3 network. The L3 network[uuid:{PUBLIC}] is disabled", changed("L3Network", PUBLIC, state="Disabled"))),
        ("refuses a system network", V("SYS.1006", attach()[1], f"unable to attach a L3 network. The L3 network[uuid:{PUBLIC}] is a system network and vm is a user vm", changed("L3Network", PUBLIC, system=True))),
        ("refuses an address in no range", V("SYS.1007", attach(staticIp="10.21.0.9")[1], f"the static IP[10.21.0.9] is not in any IP range of the L3 network[uuid:{PUBLIC}]")),
        ("refuses an address that is taken", V("SYS.1006", attach(staticIp="10.20.0.2")[1], f"the static IP[10.20.0.2] has been occupied on the L3 network[uuid:{PUBLIC}]")),
        ("refuses a state that changed meanwhile", MEANWHILE),
        ("refuses the network of an EIP of its nics", V("SYS.1006", attach(WEB)[1], f"unable to attach the L3 network[uuid:{PUBLIC}, name:l3-public] to the vm[uuid:{WEB}, name:web-1], because the L3 network is providing EIP to one of the vm's nic")),
        ("refuses a network without a free address, and leaves nothing", V("L3.1000", attach(l3=FULL)[1], f"IP allocator strategy[RandomIpAllocatorStrategy] failed, because no ip is available in this l3Network[name:l3-full, uuid:{FULL}]", full_network, detach(CI, FULL))),
        ("does not ask whether the cluster has the network", answers(changed("L2Network", L2_PUBLIC, attachedClusterUuids=[]), attach(), name="ci-1")),
        ("takes the lowest free number", the_lowest_number),
        ("takes any free address", any_free_address),
        ("takes the address that is asked for", leaves(detach(CI), attach(staticIp="10.20.0.99"), of=("VmNic", "vmInstanceUuid", CI), ip="10.20.0.99", netmask="255.255.255.0", gateway="10.20.0.1")),
        ("keeps the address in a tag", tags(attach(staticIp="10.20.0.99"), uuid=CI, are=[f"staticIp::{PUBLIC}::10.20.0.99"])),
        ("changes such a tag in place", tag_changes_in_place),
        ("makes it the default network where there is none", leaves(changed("VmInstance", CI, defaultL3NetworkUuid=None), attach(), of=("VmInstance", CI), defaultL3NetworkUuid=PUBLIC)),
        ("asks for no quota", answers(as_ann("vm.num", 0, ("ShareResource", {"resourceUuids": [PUBLIC], "toPublic": True}), owns=CI), attach(), uuid=CI)),
        ("keeps the default network", leaves(attach(), of=("VmInstance", CI), defaultL3NetworkUuid=PRIVATE)),
        ("gives the nic to the owner of the machine", Shown(nic_of_ann)),
        ("answers the machine after", answers(attach(), uuid=CI)),
    ),
    *facts("DetachL3NetworkFromVm",
        ("refuses a machine that neither runs nor is stopped, with a null", of_nic("SYS.1006", "unable to detach a L3 network. " + RUNNING_OR_STOPPED % ("null", "Paused"), PAUSE)),
        ("refuses an unknown nic", V("SYS.1003", {"vmNicUuid": NOBODY})),
        ("refuses a state that changed meanwhile", MEANWHILE),
        ("refuses a running Windows", of_nic("SYS.1006", "*platform[Windows]", changed("VmInstance", WEB, platform="Windows"))),
        ("refuses a running Other", of_nic("SYS.1006", "*platform[Other]", changed("VmInstance", WEB, platform="Other"))),
        ("takes the nic of a stopped Windows", gone(changed("VmInstance", CI, platform="Windows"), detach(CI), of=("VmNic", "vmInstanceUuid", CI))),
        ("takes the last nic", gone(detach(), of=("VmNic", "vmInstanceUuid", WEB))),
        ("takes it from EIP and port forwarding", services_lose_the_nic),
        ("takes it from listeners", balanced(detach(), is_=[])),
        ("takes it from security groups", gone(with_services, detach(), of=("VmNicSecurityGroupRef", "d" * 32))),
        ("gives the address back", address_is_free_again),
        ("removes the tag of the static address", tags(static(), detach(CI), uuid=CI, are=[])),
        ("chooses the network of another nic as the default one", leaves(attach(), detach(CI), of=("VmInstance", CI), defaultL3NetworkUuid=PUBLIC)),
        ("chooses one where there was none", leaves(attach(), changed("VmInstance", CI, defaultL3NetworkUuid=None), detach(CI), of=("VmInstance", CI), defaultL3NetworkUuid=PUBLIC)),
        ("chooses none without another nic", leaves(detach(CI), of=("VmInstance", CI), defaultL3NetworkUuid=ABSENT)),
        ("keeps the default network otherwise", leaves(attach(), detach(CI, PUBLIC), of=("VmInstance", CI), defaultL3NetworkUuid=PRIVATE)),
        ("answers the machine after", Shown(answer_of_a_detachment)),
    ),
    *facts("GetVmAttachableL3Network",
        ("looks at no state", answered(("GetVmAttachableL3Network", {"vmInstanceUuid": OLD}), are=["l3-public"])),
        ("leaves out disabled ones", answered(changed("L3Network", PUBLIC, state="Disabled"), NETWORKS, are=[])),
        ("leaves out those of the category System", answered(changed("L3Network", PUBLIC, category="System"), NETWORKS, are=[])),
        ("leaves out those that the account cannot see", answered(as_ann("vm.num", 20, owns=CI), NETWORKS, are=[])),
        ("leaves out those that the cluster does not have", answered(changed("L2Network", L2_PUBLIC, attachedClusterUuids=[named("cluster-2")]), NETWORKS, are=[])),
        ("leaves out those that it has", answered(detach(CI), NETWORKS, are=["l3-private", "l3-public"])),
        ("takes the clusters of the root volume without a cluster", clusters_of_the_root_volume),
    ),
    *facts("GetVmAttachableDataVolume",
        ("refuses a machine that neither runs nor is stopped", V("SYS.1006", {"vmInstanceUuid": WEB}, f"vm[uuid:{WEB}] can only attach volume when state is Running or Stopped, current state is Paused", PAUSE)),
        ("answers none for a running Other", answered(changed("VmInstance", WEB, platform="Other"), VOLUMES, are=[])),
        ("answers some for a stopped Other", answered(changed("VmInstance", WEB, platform="Other"), STOP, VOLUMES, are=["spare"])),
        ("leaves out disabled ones", answered(changed("Volume", SPARE, state="Disabled"), VOLUMES, are=[])),
        ("answers free ones that are Ready", answered(FREE_DATA, VOLUMES, are=["db-data-1", "spare"])),
        ("leaves out attached ones", answered(VOLUMES, are=["spare"])),
        ("leaves out formats of other hypervisors", answered(FREE_DATA, changed("Volume", named("volume-db-data-1"), format="vmdk"), VOLUMES, are=["spare"])),
        ("leaves out storage that the cluster does not have", answered(ready_spare(), changed("PrimaryStorage", NFS, attachedClusterUuids=[]), VOLUMES, are=[])),
        ("leaves out local disks of other hosts", answered(local_spare, VOLUMES, are=[])),
        ("answers all that have no place yet", answered(changed("PrimaryStorage", NFS, attachedClusterUuids=[]), VOLUMES, are=["spare"])),
        ("answers those of the account only", answered(as_ann("vm.num", 20, owns=WEB), VOLUMES, are=[])),
    ),
    *facts("AttachIsoToVmInstance",
        ("refuses an ISO that is attached", V("SYS.1006", iso()[1], f"VM[uuid:{WEB}] already has an ISO[uuid:{ISO}] attached", iso())),
        ("refuses that first", V("SYS.1006", iso()[1], "*already has an ISO*", iso(), act("DestroyVmInstance"))),
        ("refuses a destroyed machine", wrong_state("AttachIsoToVmInstance", iso(vm=OLD)[1], "Destroyed", "Running, Stopped, Paused")),
        ("refuses an ISO that does not go with the storage", V("SYS.1006", iso()[1], f"the ISO[uuid:{ISO}] is on backup storage that is not compatible of the primary storage[uuid:{NFS}] where the VM[name:web-1, uuid:{WEB}] is on", changed("BackupStorage", BS, type="Ceph"))),
        ("takes it if the storage has it in its cache", tags(changed("BackupStorage", BS, type="Ceph"), cached_iso, iso(), uuid=WEB, are=["hostname::web-1", f"iso::{ISO}::0"])),
        ("refuses a fourth ISO", V("SYS.1006", iso(3)[1], f"VM[uuid:{WEB}] can only attach up to 3 ISOs", more_isos, holding(0, 1, 2))),
        ("takes any image in any state", tags(changed("Image", CENTOS, state="Disabled", status="Downloading"), ("AttachIsoToVmInstance", {"vmInstanceUuid": CI, "isoUuid": CENTOS}), uuid=CI, are=[f"iso::{CENTOS}::0"])),
        ("takes the lowest free number, in an inherent tag", lowest_number_of_isos),
        ("works while the machine is paused", tags(PAUSE, iso(), uuid=WEB, are=["hostname::web-1", f"iso::{ISO}::0"])),
        ("answers the machine", answers(iso(), uuid=WEB)),
    ),
    *facts("DetachIsoFromVmInstance",
        ("takes the only ISO where none is named", tags(iso(), detach_iso(), uuid=WEB, are=["hostname::web-1"])),
        ("refuses to choose among several", V("SYS.1006", detach_iso()[1], f"VM[uuid:{WEB}] has multiple ISOs attached, specify the isoUuid when detaching", holding(0, 1))),
        ("refuses a destroyed machine", wrong_state("DetachIsoFromVmInstance", detach_iso()[1] | {"vmInstanceUuid": OLD}, "Destroyed", "Running, Stopped, Paused")),
        ("succeeds without an ISO", tags(detach_iso(), uuid=WEB, are=["hostname::web-1"])),
        ("succeeds for an ISO that is not attached", tags(iso(), detach_iso(1), uuid=WEB, are=["hostname::web-1", f"iso::{ISO}::0"])),
        ("does not need the image", tags(holding(1), detach_iso(1), uuid=WEB, are=["hostname::web-1"])),
        ("keeps the numbers of the others", tags(holding(0, 1), detach_iso(0), uuid=WEB, are=["hostname::web-1", f"iso::{ISOS[1]}::1"])),
        ("answers the machine", answers(detach_iso(), uuid=WEB)),
    ),
    *facts("GetCandidateIsoForAttachingVm",
        ("answers none unless it runs or is stopped", answered(PAUSE, ISOS_FOR_WEB, are=[])),
        ("answers ISOs", answered(more_isos, ISOS_FOR_WEB, are=["image-debian9", "iso-1", "iso-2", "iso-3"])),
        ("leaves out what is not Ready", answered(changed("Image", ISO, status="Downloading"), ISOS_FOR_WEB, are=[])),
        ("leaves out system images", answered(changed("Image", ISO, system=True), ISOS_FOR_WEB, are=[])),
        ("takes disabled ones", answered(changed("Image", ISO, state="Disabled"), ISOS_FOR_WEB, are=["image-debian9"])),
        ("leaves out storage that the zone does not have", answered(changed("BackupStorage", BS, attachedZoneUuids=[]), ISOS_FOR_WEB, are=[])),
        ("leaves out storage that does not fit", answered(changed("BackupStorage", BS, type="Ceph"), ISOS_FOR_WEB, are=[])),
        ("leaves out those that it has", answered(iso(), ISOS_FOR_WEB, are=[])),
        ("answers those of other accounts", answered(as_ann("vm.num", 20, owns=WEB), ISOS_FOR_WEB, are=["image-debian9"])),
        ("fails for a machine without a root volume", V("SYS.1000", CONSOLE, "*", changed("VmInstance", WEB, rootVolumeUuid=None))),
    ),
    *facts("GetCandidateVmForAttachingIso",
        ("answers machines that run or are stopped", answered(VMS_FOR_ISO, are=NFS_VMS)),
        ("answers none for an ISO without backup storage", answered(changed("Image", ISO, backupStorageRefs=[]), VMS_FOR_ISO, are=[])),
        ("answers none for backup storage that does not fit", answered(changed("BackupStorage", BS, type="Ceph"), VMS_FOR_ISO, are=[])),
        ("answers those of all accounts", answered(ann_with_the_iso, VMS_FOR_ISO, are=NFS_VMS)),
        ("takes any image", answered(("GetCandidateVmForAttachingIso", {"isoUuid": CENTOS}), are=NFS_VMS)),
    ),
    *facts("SetVmBootOrder",
        ("refuses another device", V("SYS.1007", {"uuid": WEB, "bootOrder": ["CdRom", "Network"]}, "invalid boot device[Network] in boot order[CdRom, Network]")),
        ("sets the order in a tag", tags(act("SetVmBootOrder", bootOrder=["CdRom", "HardDisk"]), uuid=WEB, are=["hostname::web-1", "bootOrder::CdRom,HardDisk"])),
        ("forgets the order where none is given", tags(act("SetVmBootOrder", bootOrder=["CdRom"]), act("SetVmBootOrder"), uuid=WEB, are=["hostname::web-1"])),
        ("makes it one for a single start", tags(boot_order("cdromBootOnce::true", bootOrder=["CdRom"]), uuid=WEB, are=["hostname::web-1", "bootOrder::CdRom", "cdromBootOnce::true"])),
        ("or for all", tags(boot_order("cdromBootOnce::true", bootOrder=["CdRom"]), boot_order("cdromBootOnce::false", bootOrder=["CdRom"]), uuid=WEB, are=["hostname::web-1", "bootOrder::CdRom"])),
        ("makes inherent tags", inherent_boot_order),
        ("looks at no state", tags(act("SetVmBootOrder", OLD, bootOrder=["CdRom"]), uuid=OLD, are=["bootOrder::CdRom"])),
        ("fails for an empty order", V("SYS.1000", {"uuid": WEB, "bootOrder": []})),
        ("answers the machine", answers(act("SetVmBootOrder"), uuid=WEB)),
    ),
    *facts("GetVmBootOrder",
        ("answers the order of the tag", answers(act("SetVmBootOrder", bootOrder=["CdRom", "HardDisk"]), act("GetVmBootOrder"), orders=["CdRom", "HardDisk"])),
        ("answers the disk otherwise", answers(act("GetVmBootOrder"), orders=["HardDisk"])),
        ("answers the disk and the ISO where there is one", answers(iso(), act("GetVmBootOrder"), orders=["HardDisk", "CdRom"])),
    ),
    *facts("SetVmHostname",
        ("fails late for a wrong name, with the error as text", V("SYS.1000", {"uuid": CI, "hostname": "-a"}, '{"causes":[],"code":"SYS.1007"*hostname[-a] specified in system tag[hostname::-a] is not a valid domain name*')),
        ("fails late for a name in use", V("SYS.1000", {"uuid": CI, "hostname": "web-1"}, '{"causes":[],"code":"SYS.1007"*conflict hostname in system tag*')),
        ("checks nothing where there is a name", tags(act("SetVmHostname", hostname="-a"), uuid=WEB, are=["hostname::-a"])),
        ("changes the tag in place", hostname_in_place),
        ("answers nothing", nothing(act("SetVmHostname", CI, hostname="a"))),
    ),
    *facts("GetVmHostname",
        ("answers the name", answers(act("GetVmHostname"), hostname="web-1")),
        ("answers nothing without one", nothing(act("GetVmHostname", CI))),
    ),
    *facts("DeleteVmHostname",
        ("removes the tag", tags(act("DeleteVmHostname"), uuid=WEB, are=[])),
        ("succeeds without one", nothing(act("DeleteVmHostname", CI))),
        ("refuses an unknown machine", V("SYS.1003", {"uuid": NOBODY})),
    ),
    *facts("SetVmStaticIp",
        ("refuses what is no address", V("SYS.1007", static(ip="x")[1], "x is not a valid IPv4 address")),
        ("refuses a network without a nic", V("SYS.1007", static(ip="10.20.0.99", l3=PUBLIC)[1], f"the VM[uuid:{CI}] has no nic on the L3 network[uuid:{PUBLIC}]")),
        ("refuses a running machine", wrong_state("SetVmStaticIp", static(WEB)[1], "Running", "Stopped")),
        ("refuses an address in no range", V("L3.1000", static(ip="10.20.0.99")[1], f"cannot find ip range that has ip[10.20.0.99] in l3Network[uuid:{PRIVATE}]")),
        ("refuses an address that is taken", V("L3.1000", static(ip="192.168.100.2")[1], "IP allocator strategy[RandomIpAllocatorStrategy] failed, because IP[192.168.100.2] is not available")),
        ("changes the nic at once, and gives the old address back", static_address),
        ("takes the EIP along", eip_follows),
        ("changes its tag in place", static_tag_in_place),
        ("sets only the tag for the same address", the_same_address),
        ("answers nothing", nothing(static())),
    ),
    *facts("DeleteVmStaticIp",
        ("refuses a network without a nic", V("SYS.1007", {"vmInstanceUuid": CI, "l3NetworkUuid": PUBLIC}, f"the VM[uuid:{CI}] has no nic on the L3 network[uuid:{PUBLIC}]")),
        ("looks at no state, and succeeds without a tag", nothing(("DeleteVmStaticIp", {"vmInstanceUuid": OLD, "l3NetworkUuid": PRIVATE}))),
        ("removes the tag of that network", tags(static(), tagged(CI, f"staticIp::{PUBLIC}::10.20.0.99"), ("DeleteVmStaticIp", {"vmInstanceUuid": CI, "l3NetworkUuid": PRIVATE}), uuid=CI, are=[f"staticIp::{PUBLIC}::10.20.0.99"])),
        ("leaves the address", leaves(static(), ("DeleteVmStaticIp", {"vmInstanceUuid": CI, "l3NetworkUuid": PRIVATE}), of=("VmNic", "vmInstanceUuid", CI), ip="192.168.100.99")),
    ),
    *facts("SetVmConsolePassword",
        ("refuses one that begins with password", V("SYS.1007", {"uuid": WEB, "consolePassword": "password1"}, "The console password cannot start with 'password' which may trigger a VNC security issue")),
        ("sets a tag anew", password_anew),
        ("answers the machine", answers(act("SetVmConsolePassword", consolePassword="one"), uuid=WEB)),
    ),
    *facts("GetVmConsolePassword",
        ("answers the password", answers(act("SetVmConsolePassword", consolePassword="one"), act("GetVmConsolePassword"), password="one")),
        ("answers nothing without one", nothing(act("GetVmConsolePassword"))),
    ),
    *facts("DeleteVmConsolePassword",
        ("removes the tag", tags(act("SetVmConsolePassword", CI, consolePassword="one"), act("DeleteVmConsolePassword", CI), uuid=CI, are=[])),
        ("succeeds without one", nothing(act("DeleteVmConsolePassword", CI))),
    ),
    *facts("SetVmSshKey",
        ("sets a tag, of any text", tags(act("SetVmSshKey", CI, SshKey="no key"), uuid=CI, are=["sshkey::no key"])),
        ("replaces it", tags(act("SetVmSshKey", CI, SshKey="a"), act("SetVmSshKey", CI, SshKey="b"), uuid=CI, are=["sshkey::b"])),
        ("answers the machine", answers(act("SetVmSshKey", CI, SshKey="a"), uuid=CI)),
    ),
    *facts("GetVmSshKey",
        ("answers the key", answers(act("SetVmSshKey", CI, SshKey="a"), act("GetVmSshKey", CI), sshKey="a")),
        ("answers nothing without one", nothing(act("GetVmSshKey", CI))),
    ),
    *facts("DeleteVmSshKey",
        ("removes the tag", tags(act("SetVmSshKey", CI, SshKey="a"), act("DeleteVmSshKey", CI), uuid=CI, are=[])),
        ("fails late for an unknown machine", V("SYS.1000", {"uuid": NOBODY}, f"Cannot find VmInstance[uuid:{NOBODY}], it may have been deleted")),
        ("answers nothing", nothing(act("DeleteVmSshKey", CI))),
    ),
    *facts("GetVmConsoleAddress",
        ("refuses a stopped machine", wrong_state("GetVmConsoleAddress", {"uuid": CI}, "Stopped", "Running")),
        ("passes on what the host says", Uncovered("no agent answers, see the faults")),
        ("answers address, port and protocol", answers(act("GetVmConsoleAddress"), hostIp="10.10.0.11", port=5900, protocol="vnc")),
    ),
    *facts("GetVmCapabilities",
        ("knows the storage of the root volume", answers(act("GetVmCapabilities"), capabilities={"LiveMigration": True, "VolumeMigration": False, "Reimage": True})),
        ("knows local storage", answers(changed("PrimaryStorage", NFS, type="LocalStorage"), act("GetVmCapabilities"), capabilities={"LiveMigration": False, "VolumeMigration": True, "Reimage": True})),
        ("knows no migration without a root volume", answers(changed("VmInstance", WEB, rootVolumeUuid=None), act("GetVmCapabilities"), capabilities={"LiveMigration": False, "VolumeMigration": False, "Reimage": True})),
        ("knows no reimaging of an ISO", answers(changed("VmInstance", WEB, imageUuid=ISO), act("GetVmCapabilities"), capabilities={"LiveMigration": True, "VolumeMigration": False, "Reimage": False})),
        ("knows no reimaging without the image", answers(changed("VmInstance", WEB, imageUuid=NOBODY), act("GetVmCapabilities"), capabilities={"LiveMigration": True, "VolumeMigration": False, "Reimage": False})),
    ),
    *facts("QueryVmNic",
        ("answers nics of destroyed machines, without an address", nics_of_destroyed_ones),
    ),
    *facts("RequestConsoleAccess",
        ("refuses a stopped machine", V("SYS.1006", {"vmInstanceUuid": CI}, f"Console is only available when the VM[uuid:{CI}] is Running, but the current state is Stopped")),
        ("refuses while the agent is away", V("SYS.1006", CONSOLE, "the console agent is not connected; it's mostly like the management node just starts, please wait for the console agent connected.", changed("ConsoleProxyAgent", AGENT, status="Disconnected"))),
        ("refuses a machine without a host", V("SYS.1006", CONSOLE, f"cannot find host IP of the vm[uuid:{WEB}], is the vm running???", changed("VmInstance", WEB, hostUuid=None))),
        ("ends with the machine or the session", Uncovered("no API shows the proxies of consoles, and nobody listens there")),
        ("answers address, port and a token of session and machine", Shown(console)),
        ("answers the address that the agent is given", answers(("UpdateConsoleProxyAgent", {"uuid": AGENT, "consoleProxyOverriddenIp": "10.0.0.9"}), ("RequestConsoleAccess", CONSOLE), hostname="10.0.0.9")),
    ),
    *facts("QueryConsoleProxyAgent",
        ("answers an agent for the management node", Shown(agents)),
    ),
    *facts("ReconnectConsoleProxyAgent",
        ("takes all without a list", answers(("ReconnectConsoleProxyAgent", {}), **{AGENT: True})),
        ("answers an error for an unknown one, and succeeds", Shown(unknown_agent)),
        ("fails without a code of its own if an agent fails", Uncovered("no agent answers, see the faults")),
        ("connects an agent", leaves(changed("ConsoleProxyAgent", AGENT, status="Disconnected"), ("ReconnectConsoleProxyAgent", {"agentUuids": [AGENT]}), of=("ConsoleProxyAgent", AGENT), status="Connected")),
    ),
    *facts("UpdateConsoleProxyAgent",
        ("takes a blank address as any", leaves(("UpdateConsoleProxyAgent", {"uuid": AGENT, "consoleProxyOverriddenIp": ""}), of=("ConsoleProxyAgent", AGENT), consoleProxyOverriddenIp="0.0.0.0")),
        ("undoes all if the agent fails", Shown(failing_agent)),
        ("answers the agent", answers(("UpdateConsoleProxyAgent", {"uuid": AGENT, "consoleProxyOverriddenIp": "10.0.0.9"}), uuid=AGENT, consoleProxyOverriddenIp="10.0.0.9")),
    ),
    *facts("GetResourceNames",
        ("answers the objects that exist, whoever owns them", names_of_all_accounts),
    ),
    *facts("CreateVip",
        ("takes a random address, the same from the same seed", Shown(random_addresses)),
        ("takes the first free address where a call asks for it", Shown(strategy_of_a_call)),
        ("takes the first free address where the setting asks for it", Shown(first_addresses)),
        ("finds the last free address", Shown(every_address_is_used)),
    ),
    *facts("VmNic",
        ("has a MAC of random bytes and its number", mac_of_a_nic),
        ("has the address of a tag of the creation", leaves(made(f"staticIp::{PRIVATE}::192.168.100.99"), of=("VmNic", "ip", "192.168.100.99"), l3NetworkUuid=PRIVATE)),
    ),
    *facts("SystemTag",
        ("has a uuid that follows from object and text, if the server makes it", uuids_of_tags),
    ),
)


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
