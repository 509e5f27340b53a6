"""What the real server does with virtual IPs, EIPs and port forwarding, fact by fact, in both dialects.

The facts follow the calls. The last ones are about what a virtual IP carries, and about machines, nics and networks that change.
"""

import json
from unittest.mock import patch

from asking import ROOT, each, outcome
from facts import Refused, Shown, Uncovered, chain, changed, check, error_of, take
from test_facts_l3 import CREATE, FLAT, FULL, L3, ROUTER, detach, failing, ip_range, serve
from test_facts_nics import L2_PUBLIC, nothing
from test_facts_vm import (
    ABSENT,
    CI,
    DESTROY,
    LISTENER,
    PRIVATE,
    PUBLIC,
    RECOVER,
    RULE,
    START,
    STATES,
    STOP,
    WEB2,
    V,
    act,
    answers,
    as_ann,
    balanced,
    configured,
    facts,
    full_network,
    gone,
    leaves,
    nic_of,
    served,
    with_services,
)  # fmt: skip

from zmock import ApiError, named

DEMO = json.loads((ROOT / "data" / "demo.json").read_text())
NICS = {nic["vmInstanceUuid"][1:]: nic["uuid"] for nic in DEMO["vm-instances/nics"]}
WEB_NIC, WEB2_NIC, CI_NIC, OFFICE_NIC, OLD_NIC = (NICS[name] for name in ("web-1", "web-2", "ci-1", "office-1", "old-1"))
VIP, VIP2, EIP, PF, PF2, LB, LB2, PORT, ROUTER_VM, ROUTER_VM2 = map(named, "vip-new vip-2 eip-new rule-new rule-2 lb-new lb-2 listener-new router-1 router-2".split())
NEW_VIP = {"name": "v", "l3NetworkUuid": PUBLIC, "resourceUuid": VIP}
MAKE_VIP, MAKE_VIP2 = ("CreateVip", NEW_VIP), ("CreateVip", NEW_VIP | {"resourceUuid": VIP2})
OF_VIP, OF_EIP, OF_PF = ("Vip", VIP), ("Eip", EIP), ("PortForwardingRule", PF)
NO_EIP = f"L3Network[uuid:{PRIVATE}] doesn't have network service[type:Eip] enabled or no provider provides this network service"
NO_FORWARDING = NO_EIP.replace("Eip", "PortForwarding")
SHORT = "quota exceeding. The account[uuid: *] exceeds a quota[name: %s, value: 0]. Please contact the administrator."
LONG = "quota exceeding. Current account is [uuid: *]. The resource target owner account[uuid: *] exceeds a quota[name: %s, value: 0], Current used:0, Request:1.*"


# steps


def eip(nic=None, vip=VIP, **more):
    """A step that makes an EIP."""
    return ("CreateEip", NEW_EIP | {"vipUuid": vip} | ({"vmNicUuid": nic} if nic else {}) | more)


def attach(nic=WEB2_NIC):
    return ("AttachEip", {"eipUuid": EIP, "vmNicUuid": nic})


def rule(port=80, nic=None, **more):
    """A step that makes a port forwarding rule."""
    return ("CreatePortForwardingRule", NEW_PF | {"vipPortStart": port} | ({"vmNicUuid": nic} if nic else {}) | more)


def forward(nic=WEB2_NIC, uuid=PF):
    return ("AttachPortForwardingRule", {"ruleUuid": uuid, "vmNicUuid": nic})


def balancer(uuid=LB, vip=VIP):
    return ("CreateLoadBalancer", {"name": "b", "vipUuid": vip, "resourceUuid": uuid})


def listener(port=80, uuid=PORT, lb=LB, **more):
    return ("CreateLoadBalancerListener", {"name": "l", "loadBalancerUuid": lb, "loadBalancerPort": port, "resourceUuid": uuid} | more)


def balance(*nics, uuid=PORT):
    return ("AddVmNicToLoadBalancer", {"listenerUuid": uuid, "vmNicUuids": list(nics or [WEB2_NIC])})


def without(service, l3=PRIVATE):
    """A step that takes a service from a network."""
    return detach(service, l3)


def router(uuid=ROUTER_VM, guests=(PRIVATE,), public=PUBLIC):
    """A step that adds a running virtual router with a nic on each of some networks."""

    async def step(mock):
        mock.cloud.add("VmInstance", uuid=uuid, name="router", type="ApplianceVm", applianceVmType="VirtualRouter", state="Running", status="Connected",
                       publicNetworkUuid=public, managementNetworkUuid=public, defaultRouteL3NetworkUuid=public, cpuNum=1, memorySize=1 << 30)  # fmt: skip
        for number, (l3, use) in enumerate([(public, "3"), *((l3, "4") for l3 in guests)]):
            mock.cloud.add("VmNic", vmInstanceUuid=uuid, l3NetworkUuid=l3, deviceId=number, mac=f"fa:00:00:{uuid[:2]}:00:0{number}", metaData=use)

    return step


async def offering(mock):
    """Let the zone have an offering for routers."""
    mock.cloud.add("InstanceOffering", name="o", type="VirtualRouter", zoneUuid=named("zone-1"), cpuNum=1, memorySize=1 << 30)


async def on_l3(mock):
    """Put the running machine WEB2 on the network L3, which is PRIVATE's neighbour."""
    await take(mock, [CREATE, ip_range(), ("AttachL3NetworkToVm", {"vmInstanceUuid": WEB2, "l3NetworkUuid": L3})])


def l3_nic(mock):
    (nic,) = (nic for nic in mock.cloud.find("VmNic", "l3NetworkUuid", L3) if not nic.get("metaData"))
    return nic["uuid"]


FLAT_L3 = (on_l3, serve("DHCP", "Eip"))
ROUTED_L3 = (on_l3, serve("DHCP", "SNAT", "Eip", "PortForwarding", "LoadBalancer", provider=ROUTER))
NEW_EIP = {"name": "e", "vipUuid": VIP, "resourceUuid": EIP}
NEW_PF = {"name": "p", "vipUuid": VIP, "vipPortStart": 80, "protocolType": "TCP", "resourceUuid": PF}
DETACH, DELETE_EIP, DELETE_PF = ("DetachEip", {"uuid": EIP}), ("DeleteEip", {"uuid": EIP}), ("DeletePortForwardingRule", {"uuid": PF})
UNFORWARD, DELETE_LB = ("DetachPortForwardingRule", {"uuid": PF}), ("DeleteLoadBalancer", {"uuid": LB})
DELETE_VIP, DISABLE_EIP = ("DeleteVip", {"uuid": VIP}), ("ChangeEipState", {"uuid": EIP, "stateEvent": "disable"})
DETACH_NIC = ("DetachL3NetworkFromVm", {"vmNicUuid": WEB2_NIC})
USES = {"useFor": ABSENT, "serviceProvider": ABSENT, "peerL3NetworkUuids": ABSENT}
ROUTED = {"serviceProvider": "VirtualRouter", "peerL3NetworkUuids": [PRIVATE]}
SECOND = {"uuid": PF2, "of": ("PortForwardingRule", PF2)}


def vip(*steps, **fields):
    """A story: the virtual IP VIP has these fields after some steps."""
    return leaves(MAKE_VIP, *steps, of=OF_VIP, **USES | fields)


def vip_is(*steps, **fields):
    """A step: it asserts that the virtual IP VIP has these fields after some steps."""

    async def story(mock):
        await vip(*steps, **fields).story(mock)

    return story


def poor(quota, *steps, **params):
    """The state in which an account that owns VIP, and has a quota of 0, makes the call."""

    async def state(mock):
        await as_ann(quota, 0)(mock)
        await take(mock, [("CreateVip", NEW_VIP | {"l3NetworkUuid": PRIVATE}), *steps])
        return params

    return state


def broken(api, *steps, **params):
    """The state in which the backend of a call fails."""

    async def state(mock):
        await take(mock, steps)
        return await failing(api, **params)(mock)

    return state


def refused(api, code, details, *steps, **more):
    """A refusal of a call on VIP."""
    return V(code, more, details, MAKE_VIP, *steps)


def no_eip(code, details, *steps, **more):
    return V(code, NEW_EIP | more, details, MAKE_VIP, *steps)


def no_attach(code, details, *steps, nic=WEB2_NIC):
    return V(code, {"eipUuid": EIP, "vmNicUuid": nic}, details, MAKE_VIP, eip(), *steps)


def no_rule(code, details, *steps, **more):
    return V(code, NEW_PF | more, details, MAKE_VIP, *steps)


def no_forward(code, details, *steps, nic=WEB2_NIC):
    return V(code, {"ruleUuid": PF, "vmNicUuid": nic}, details, MAKE_VIP, rule(), *steps)


def nics(*steps, are=(), without=(), **params):
    """A story: a Get answers these nics, and others not."""

    async def story(mock):
        await take(mock, [MAKE_VIP, *steps])
        api = "GetEipAttachableVmNics" if "eipUuid" in params else "GetPortForwardingAttachableVmNics" if "ruleUuid" in params else "GetCandidateVmNicsForLoadBalancer"
        found = [nic["uuid"] for nic in (await mock.call(api, **params))["inventories"]]
        expected = [nic(mock) if callable(nic) else nic for nic in are]
        assert {*expected} <= {*found} and not {*without} & {*found}, found
        assert are or without or not found, found

    return Shown(story)


def ports(*steps, protocol="TCP", are):
    """A story: the ports that are used of a virtual IP."""
    inventory = {"uuid": VIP, "protocol": protocol, "usedPorts": are}
    return answers(MAKE_VIP, *steps, ("GetVipUsedPorts", {"uuid": VIP, "protocol": protocol}), inventories=[inventory])


# stories


async def tags_of_a_new_vip(mock):
    status, _ = await outcome(mock, "POST", "/vips", {"params": NEW_VIP, "systemTags": ["ephemeral::deleteVipOnFailure"], "userTags": ["mine"]})
    assert status == 200 and [tag["tag"] for tag in mock.cloud.find("UserTag", "resourceUuid", VIP)] == ["mine"]
    assert mock.cloud.find("SystemTag", "resourceUuid", VIP) == []


async def owner_of_a_vip(mock):
    params = await as_ann("vip.num", 1, **NEW_VIP | {"l3NetworkUuid": PRIVATE})(mock)
    await mock.call("CreateVip", **params)
    assert mock.cloud.look(*OF_VIP)["owner"] == mock.cloud.find("Account", "name", "ann")[0]["uuid"]


async def address_is_counted(mock):
    async def free():
        return (await mock.call("GetIpAddressCapacity", l3NetworkUuids=[PUBLIC]))["availableCapacity"]

    before = await free()
    await take(mock, [MAKE_VIP])
    taken = await free()
    await take(mock, [DELETE_VIP])
    assert (before - taken, await free()) == (1, before)


async def all_goes_with_a_vip(mock):
    await take(mock, [MAKE_VIP, rule(80), balancer(), listener(81), balance(), ("CreateUserTag", {"resourceType": "VipVO", "resourceUuid": VIP, "tag": "t"}), DELETE_VIP])
    for of in (OF_VIP, OF_PF, ("LoadBalancer", LB), ("LoadBalancerListener", PORT)):
        assert not mock.cloud.look(*of)
    assert not mock.cloud.find("UserTag", "resourceUuid", VIP)


async def stays_as_it_is(mock, collection="vips", api="UpdateVip", uuid=VIP):
    before = await mock.query(collection, f"uuid={uuid}")
    await mock.advance(100)
    assert (await mock.call(api, uuid=uuid))["inventory"] == before[0]


def unchanged(collection, api, uuid, *steps):
    """A story: an update with nothing to change writes nothing."""

    async def story(mock):
        await take(mock, [MAKE_VIP, *steps])
        await stays_as_it_is(mock, collection, api, uuid)

    return Shown(story)


def found(collection, *conditions, steps=(), is_=1):
    """A story: each of the conditions finds as many objects."""

    async def story(mock):
        await take(mock, [MAKE_VIP, *steps])
        for condition in conditions:
            assert len(await mock.query(collection, condition)) == is_, condition

    return Shown(story)


async def two_eips_of_a_nic(mock):
    await take(mock, [MAKE_VIP, MAKE_VIP2, eip(WEB_NIC), eip(WEB_NIC, VIP2, resourceUuid=PF)])
    assert len(mock.cloud.find("Eip", "vmNicUuid", WEB_NIC)) == 3


async def undated_rule(mock):
    made = (await take(mock, [MAKE_VIP, rule()]))["inventory"]
    assert not {"createDate", "lastOpDate", "vmNicUuid", "guestIp"} & made.keys()
    assert {"createDate", "lastOpDate"} < (await mock.query("port-forwarding", f"uuid={PF}"))[0].keys()
    assert {"createDate", "lastOpDate"} < (await take(mock, [rule(90, WEB2_NIC, resourceUuid=PF2)]))["inventory"].keys()


ATTACHABLE = "Running Paused Pausing Resuming Stopped VolumeMigrating".split()


async def attached_in_some_states(mock):
    await take(mock, [MAKE_VIP, eip()])
    for state in ATTACHABLE:
        await take(mock, [changed("VmInstance", WEB2, state=state), attach()])
        assert mock.cloud.look(*OF_EIP)["guestIp"] == "192.168.100.3"
        await take(mock, [DETACH])


async def candidates_in_some_states(mock):
    await take(mock, [MAKE_VIP, eip()])
    for state in STATES:
        await take(mock, [changed("VmInstance", WEB2, state=state)])
        found = (await mock.call("GetEipAttachableVmNics", eipUuid=EIP))["inventories"]
        assert (WEB2_NIC in [nic["uuid"] for nic in found]) == (state in ATTACHABLE), state


async def peers_go_with_their_network(mock):
    await take(mock, [MAKE_VIP, eip(WEB2_NIC), ("DeleteL3Network", {"uuid": PRIVATE})])
    (shown,) = await mock.query("vips", f"uuid={VIP}")
    assert (shown["useFor"], "peerL3NetworkUuids" in shown) == ("Eip", False)


async def uses_in_order(mock):
    for steps, uses in (((MAKE_VIP, balancer()), "LoadBalancer"), ((rule(),), "LoadBalancer,PortForwarding"), ((rule(81, resourceUuid=PF2),), "LoadBalancer,PortForwarding"),
                        ((DELETE_LB,), "PortForwarding"), ((balancer(),), "PortForwarding,LoadBalancer"), ((DELETE_PF,), "PortForwarding,LoadBalancer")):  # fmt: skip
        await take(mock, steps)
        assert mock.cloud.look(*OF_VIP)["useFor"] == uses


async def start_with_a_wrong_provider(mock):
    await take(mock, [MAKE_VIP, eip(CI_NIC), changed("Vip", VIP, serviceProvider="Flat")])
    errors = chain(await error_of(mock, "StartVmInstance", {"uuid": CI}))
    assert [error["code"] for error in errors] == ["VM.1001", "SYS.1006"] and mock.cloud.look("VmInstance", CI)["state"] == "Stopped"


def failing_removal(api, uuid, *steps):
    """A story: what fails while an object is removed has SYS.1004 around it."""

    async def story(mock):
        await take(mock, steps)

        def remove(type, uuid):
            raise ApiError("SYS.1006", "the host does not answer")

        with patch.object(mock.cloud, "remove", remove):
            assert [error["code"] for error in chain(await error_of(mock, api, {"uuid": uuid}))] == ["SYS.1004", "SYS.1006"]

    return story


async def first_start(mock):
    """A machine that never ran has no nic, so that nothing leads to it."""
    await take(mock, [("CreateVmInstance", VM_TO_COME), MAKE_VIP])
    assert nic_of(mock, NEW_VM) and not mock.cloud.find("Eip", "vmNicUuid", nic_of(mock, NEW_VM)["uuid"])


NEW_VM = named("vm-new")
VM_TO_COME = {"name": "new", "resourceUuid": NEW_VM, "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [PRIVATE]}
TAKEN = f"vip[uuid:{VIP}] has been occupied other network service entity[%s]"
SAME_L3 = f"guest l3Network of vm nic[uuid:{WEB2_NIC}] and vip l3Network of %s are the same network"
SAME_IP = NEW_VIP | {"l3NetworkUuid": PRIVATE, "requiredIp": "192.168.100.99"}
PUBLIC_NIC = (("CreateVip", NEW_VIP | {"l3NetworkUuid": PRIVATE}),)
OVERLAP = "overlap public and private subnets. The subnet of EIP[192.168.100.*] is an overlap with the subnet[192.168.100.1, 255.255.255.0] of the VM nic[uuid: %s]."
ON_PUBLIC = ("AttachL3NetworkToVm", {"vmInstanceUuid": WEB2, "l3NetworkUuid": PUBLIC})
IS_PUBLIC = f"the vm[uuid:{WEB2}] that the EIP is about to attach is already on the public network[uuid:{PUBLIC}] from which the vip[uuid:{VIP}, name:v, ip:10.20.0.*] comes"
OTHER_VIP = f"the VM[name:web-2 uuid:{WEB2}] already has port forwarding rules that have different VIPs than the one[uuid:{VIP}]"
FOREIGN = f"the request to add peer l3[uuid:{L3}] with vip[uuid:{VIP}] has attched vr[uuid:{ROUTER_VM2}] and is not vr[uuid:{ROUTER_VM}] which exists peer l3 attached"
FAR = f"L2Network where vip's L3Network based hasn't attached the cluster where vmNic[uuid:{WEB2_NIC}] located"
SEVERAL = (router(), *ROUTED_L3, router(ROUTER_VM2, (L3,)))  # PRIVATE and L3 have a router each
FLAT_PRIVATE = (without("Eip"), serve("Eip", l3=PRIVATE))

FACTS = (
    *facts("CreateVip",
        ("refuses more than the quota, before anything else", Refused(as_ann("vip.num", 0, ("CreateVip", SAME_IP | {"resourceUuid": VIP2}), **SAME_IP), "ID.1003", SHORT % "vip.num")),
        ("counts the virtual IPs that the account owns", Shown(owner_of_a_vip)),
        ("refuses an unknown strategy", V("SYS.1007", NEW_VIP | {"allocatorStrategy": "x", "requiredIp": "y"}, "unsupported ip allocation strategy[x]")),
        ("knows the first available address", leaves(("CreateVip", NEW_VIP | {"allocatorStrategy": "FirstAvailableIpAllocatorStrategy"}), of=OF_VIP, ip="10.20.0.3")),
        ("refuses what is no address", V("SYS.1007", NEW_VIP | {"requiredIp": "x"}, "requiredIp[x] is not in valid IPv4 mediaType")),
        ("refuses the address of another one", V("SYS.1006", NEW_VIP | {"requiredIp": "10.20.0.2"}, f"there is already a vip[10.20.0.2] on l3Network[uuid:{PUBLIC}]")),
        ("refuses an address in no range", V("L3.1000", NEW_VIP | {"requiredIp": "10.1.1.1"}, f"cannot find ip range that has ip[10.1.1.1] in l3Network[uuid:{PUBLIC}]")),
        ("refuses the address of a nic", V("L3.1000", NEW_VIP | {"l3NetworkUuid": PRIVATE, "requiredIp": "192.168.100.2"}, "IP allocator strategy[RandomIpAllocatorStrategy] failed, because IP[192.168.100.2] is not available")),
        ("names the strategy of the call", V("L3.1000", NEW_VIP | {"l3NetworkUuid": PRIVATE, "requiredIp": "192.168.100.2", "allocatorStrategy": "FirstAvailableIpAllocatorStrategy"}, "IP allocator strategy[FirstAvailableIpAllocatorStrategy] failed, because IP[192.168.100.2] is not available")),
        ("refuses a full network", V("L3.1000", NEW_VIP | {"l3NetworkUuid": FULL}, f"IP allocator strategy[RandomIpAllocatorStrategy] failed, because no ip is available in this l3Network[name:l3-full, uuid:{FULL}]", full_network)),
        ("refuses a network without a range", V("L3.1000", NEW_VIP | {"l3NetworkUuid": L3}, f"*no ip is available in this l3Network[name:new, uuid:{L3}]", CREATE)),
        ("looks at no state, category or service of the network", leaves(changed("L3Network", PUBLIC, state="Disabled", category="System", system=True), MAKE_VIP, of=OF_VIP, state="Enabled")),
        ("takes an address from its network", Shown(address_is_counted)),
        ("keeps tags, but not deleteVipOnFailure", Shown(tags_of_a_new_vip)),
        ("gives the address back if it fails", Refused(failing("CreateVip", **NEW_VIP), "SYS.1006")),
        ("is Enabled, with gateway, netmask and range", vip(state="Enabled", gateway="10.20.0.1", netmask="255.255.255.0", ipRangeUuid=named("range-public"))),
        ("answers no use, provider or peer", answers(MAKE_VIP, **USES)),
    ),
    *facts("DeleteVip",
        ("succeeds for one that is gone", nothing(MAKE_VIP, DELETE_VIP, DELETE_VIP)),
        ("refuses that of a router, without another error around it", refused("DeleteVip", "SYS.1006", f"Vip [uuid {VIP}, ip 10.20.0.*] of router public interface can not be deleted", changed("Vip", VIP, useFor="SNAT,PortForwarding"), uuid=VIP)),
        ("refuses it in any mode", refused("DeleteVip", "SYS.1006", "*can not be deleted", changed("Vip", VIP, useFor="SNAT"), uuid=VIP, deleteMode="Enforcing")),
        ("has SYS.1004 around other errors", Shown(failing_removal("DeleteVip", VIP, MAKE_VIP))),
        ("deletes its EIP", gone(MAKE_VIP, eip(WEB2_NIC), DELETE_VIP, of=OF_EIP)),
        ("deletes rules, load balancers with their listeners, and tags", Shown(all_goes_with_a_vip)),
        ("answers nothing", nothing(MAKE_VIP, DELETE_VIP)),
    ),
    *facts("UpdateVip",
        ("answers the virtual IP", answers(MAKE_VIP, ("UpdateVip", {"uuid": VIP, "name": "new"}), name="new", uuid=VIP)),
        ("takes the name of another one", vip(("UpdateVip", {"uuid": VIP, "name": "vip-1"}), name="vip-1")),
        ("writes nothing if nothing changes", unchanged("vips", "UpdateVip", VIP)),
    ),
    *facts("ChangeVipState",
        ("changes nothing else", leaves(MAKE_VIP, eip(WEB2_NIC), ("ChangeVipState", {"uuid": VIP, "stateEvent": "disable"}), of=OF_EIP, state="Enabled", vmNicUuid=WEB2_NIC)),
        ("leaves its uses", vip(eip(WEB2_NIC), ("ChangeVipState", {"uuid": VIP, "stateEvent": "disable"}), useFor="Eip", state="Disabled", **ROUTED)),
        ("enables an enabled one", answers(MAKE_VIP, ("ChangeVipState", {"uuid": VIP, "stateEvent": "enable"}), state="Enabled")),
        ("disables a disabled one", answers(MAKE_VIP, *[("ChangeVipState", {"uuid": VIP, "stateEvent": "disable"})] * 2, state="Disabled")),
    ),
    *facts("QueryVip",
        ("finds it by its networks and its EIP", found("vips", f"l3Network.uuid={PUBLIC}", f"peerL3Network.l3NetworkUuid={PRIVATE}", "eip.vmNicUuid not null", steps=[eip(WEB2_NIC)], is_=2)),
        ("finds it by its rules and load balancers", found("vips", f"portForwarding.uuid={PF}", f"loadBalancer.uuid={LB}", steps=[rule(), balancer()])),
        ("finds that of a router", found("vips", "useFor~=%SNAT%", steps=[changed("Vip", VIP, useFor="SNAT")])),
    ),
    *facts("GetVipUsedPorts",
        ("answers one entry, without ports", ports(are=[])),
        ("expands ranges", ports(rule(80, vipPortEnd=82), are=["80", "81", "82"])),
        ("sorts by the start of ranges", ports(rule(90), rule(80, vipPortEnd=81, resourceUuid=PF2), are=["80", "81", "90"])),
        ("counts rules of the protocol only", ports(rule(80), rule(90, protocolType="UDP", resourceUuid=PF2), protocol="UDP", are=["90"])),
        ("counts all listeners for TCP, https too", ports(rule(90), balancer(), listener(80), listener(443, PF2, protocol="https"), are=["80", "90", "443"])),
        ("counts no listener for UDP", ports(balancer(), listener(80), protocol="UDP", are=[])),
        ("counts a port twice that both use", ports(rule(80), balancer(), listener(80, protocol="http"), are=["80", "80"])),
    ),
    *facts("CreateEip",
        ("refuses a nic on a network without EIPs", no_eip("SYS.1006", NO_EIP, without("Eip"), vmNicUuid=WEB2_NIC)),
        ("refuses a machine that the network of the virtual IP does not reach, if the provider is Flat", no_eip("SYS.1007", FAR, *FLAT_PRIVATE, changed("L2Network", L2_PUBLIC, attachedClusterUuids=[]), vmNicUuid=WEB2_NIC)),
        ("refuses a machine without a cluster then", no_eip("SYS.1007", FAR, *FLAT_PRIVATE, changed("VmInstance", WEB2, clusterUuid=None), vmNicUuid=WEB2_NIC)),
        ("does not mind if the provider is a router", leaves(MAKE_VIP, changed("L2Network", L2_PUBLIC, attachedClusterUuids=[]), eip(WEB2_NIC), of=OF_EIP, vmNicUuid=WEB2_NIC)),
        ("refuses more than the quota", Refused(poor("eip.num", changed("Vip", VIP, useFor="Eip"), **NEW_EIP), "ID.1003", LONG % "eip.num")),
        ("refuses a virtual IP with an EIP", no_eip("SYS.1006", TAKEN % "Eip", eip(resourceUuid=PF))),
        ("refuses one with any use", no_eip("SYS.1006", TAKEN % "PortForwarding,LoadBalancer", rule(), balancer())),
        ("refuses one that is not Enabled", no_eip("SYS.1006", f"vip[uuid:{VIP}] is not in state[Enabled], current state is Disabled", changed("Vip", VIP, state="Disabled"))),
        ("refuses an address in the subnet of the nic", V("SYS.1006", NEW_EIP | {"vmNicUuid": WEB2_NIC}, OVERLAP % WEB2_NIC, *PUBLIC_NIC)),
        ("fails for a nic without a subnet", no_eip("SYS.1000", "*", vmNicUuid=OLD_NIC)),
        ("refuses a nic on the network of the virtual IP", V("SYS.1007", NEW_EIP | {"vmNicUuid": WEB2_NIC}, SAME_L3 % f"vip[uuid: {VIP}]", *PUBLIC_NIC, changed("Vip", VIP, ip="10.1.1.1"))),
        ("refuses a machine on that network", no_eip("SYS.1007", IS_PUBLIC, ON_PUBLIC, vmNicUuid=WEB2_NIC)),
        ("takes a nic with an EIP", Shown(two_eips_of_a_nic)),
        ("takes a machine in any state", leaves(MAKE_VIP, changed("VmInstance", WEB2, state="Unknown"), eip(WEB2_NIC), of=OF_EIP, vmNicUuid=WEB2_NIC)),
        ("leads to the address of the nic", leaves(MAKE_VIP, eip(WEB2_NIC), of=OF_EIP, vmNicUuid=WEB2_NIC, guestIp="192.168.100.3", state="Enabled")),
        ("tells the virtual IP its use", vip(eip(), useFor="Eip")),
        ("tells it provider and peer if the machine runs", vip(eip(WEB2_NIC), useFor="Eip", **ROUTED)),
        ("tells it the provider Flat", vip(*FLAT_PRIVATE, eip(WEB2_NIC), useFor="Eip", serviceProvider="Flat", peerL3NetworkUuids=[PRIVATE])),
        ("tells it the use only if it is stopped", vip(eip(CI_NIC), useFor="Eip")),
        ("tells it the use only if it is paused", vip(eip(OFFICE_NIC), useFor="Eip")),
        ("leaves nothing if the backend fails", Refused(broken("CreateEip", MAKE_VIP, **NEW_EIP), "SYS.1006")),
        ("stays without a nic if the virtual IP fails", Uncovered("without a nic, nothing is asked that could fail")),
        ("has the address of the virtual IP", leaves(("CreateVip", NEW_VIP | {"requiredIp": "10.20.0.9"}), eip(), of=OF_EIP, vipIp="10.20.0.9")),
        ("answers no nic without one", answers(MAKE_VIP, eip(), vmNicUuid=ABSENT, guestIp=ABSENT)),
    ),
    *facts("AttachEip",
        ("refuses a nic on a network without EIPs", no_attach("SYS.1006", NO_EIP, without("Eip"))),
        ("refuses a machine out of reach, if the provider is Flat", no_attach("SYS.1007", FAR, *FLAT_PRIVATE, changed("L2Network", L2_PUBLIC, attachedClusterUuids=[]))),
        ("refuses an attached one", no_attach("SYS.1006", f"eip[uuid:{EIP}] has attached to another vm nic[uuid:{WEB2_NIC}], can't attach again", attach(), nic=WEB_NIC)),
        ("refuses one that is not Enabled", no_attach("SYS.1006", f"eip[uuid: {EIP}] can only be attached when state is Enabled, current state is Disabled", DISABLE_EIP)),
        ("refuses an address in the subnet of the nic", V("SYS.1006", {"eipUuid": EIP, "vmNicUuid": WEB2_NIC}, OVERLAP % WEB2_NIC, *PUBLIC_NIC, eip())),
        ("refuses a nic on the network of the virtual IP", V("SYS.1007", {"eipUuid": EIP, "vmNicUuid": WEB2_NIC}, SAME_L3 % f"EIP[uuid:{EIP}]", *PUBLIC_NIC, eip(), changed("Vip", VIP, ip="10.1.1.1"), changed("Eip", EIP, vipIp="10.1.1.1"))),
        ("refuses a machine on that network", no_attach("SYS.1007", IS_PUBLIC, ON_PUBLIC)),
        ("refuses a machine in another state", no_attach("SYS.1006", "vm state[Unknown] is not allowed to operate eip, maybe you should wait the vm process complete", changed("VmInstance", WEB2, state="Unknown"))),
        ("takes a machine in six states", Shown(attached_in_some_states)),
        ("takes a virtual IP that is not Enabled", leaves(MAKE_VIP, eip(), changed("Vip", VIP, state="Disabled"), attach(), of=OF_EIP, vmNicUuid=WEB2_NIC)),
        ("tells the virtual IP provider and peer", vip(eip(), attach(), useFor="Eip", **ROUTED)),
        ("does so for a paused machine", vip(eip(), attach(OFFICE_NIC), useFor="Eip", **ROUTED)),
        ("does not for a stopped one", vip(eip(), attach(CI_NIC), useFor="Eip")),
        ("does not for one whose volumes migrate", vip(eip(), changed("VmInstance", WEB2, state="VolumeMigrating"), attach(), useFor="Eip")),
        ("refuses peers on two routers", no_attach("SYS.1006", FOREIGN, *SEVERAL, attach(), DETACH, nic=l3_nic)),
        ("refuses a second provider", no_attach("SYS.1006", f"service provider of the vip[uuid:{VIP}, name:v, ip: 10.20.0.*] has been set to VirtualRouter", *FLAT_L3, attach(), DETACH, nic=l3_nic)),
        ("stays detached if the backend fails", Refused(failing("AttachEip", eipUuid=named("eip-1"), vmNicUuid=WEB2_NIC), "SYS.1006")),
        ("answers the EIP", answers(MAKE_VIP, eip(), attach(), uuid=EIP, vmNicUuid=WEB2_NIC)),
    ),
    *facts("DetachEip",
        ("refuses one that leads nowhere", V("SYS.1006", {"uuid": EIP}, f"eip[uuid:{EIP}] has not attached to any vm nic", MAKE_VIP, eip())),
        ("refuses one whose network lost the service", V("SYS.1006", {"uuid": EIP}, NO_EIP, MAKE_VIP, eip(WEB2_NIC), without("Eip"))),
        ("looks at no state", leaves(MAKE_VIP, eip(WEB2_NIC), DISABLE_EIP, changed("VmInstance", WEB2, state="Unknown"), DETACH, of=OF_EIP, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("leaves the virtual IP as it is", vip(eip(WEB2_NIC), DETACH, useFor="Eip", **ROUTED)),
        ("answers the EIP", answers(MAKE_VIP, eip(WEB2_NIC), DETACH, uuid=EIP, vmNicUuid=ABSENT)),
    ),
    *facts("DeleteEip",
        ("succeeds for one that is gone", nothing(MAKE_VIP, eip(), DELETE_EIP, DELETE_EIP)),
        ("deletes an attached one in any state", gone(MAKE_VIP, eip(WEB2_NIC), DISABLE_EIP, DELETE_EIP, of=OF_EIP)),
        ("refuses an attached one whose network lost the service", V("SYS.1006", {"uuid": EIP}, NO_EIP, MAKE_VIP, eip(WEB2_NIC), without("Eip"))),
        ("deletes a detached one then", gone(MAKE_VIP, eip(), without("Eip"), DELETE_EIP, of=OF_EIP)),
        ("frees the virtual IP, which stays", vip(eip(WEB2_NIC), DELETE_EIP)),
        ("has no error around that of the backend", Refused(failing("DeleteEip", uuid=named("eip-1")), "SYS.1006")),
        ("answers nothing", nothing(MAKE_VIP, eip(WEB2_NIC), DELETE_EIP)),
    ),
    *facts("UpdateEip",
        ("answers the EIP", answers(MAKE_VIP, eip(), ("UpdateEip", {"uuid": EIP, "name": "new"}), name="new")),
        ("writes nothing if nothing changes", unchanged("eips", "UpdateEip", EIP, eip())),
    ),
    *facts("ChangeEipState",
        ("leaves it attached", answers(MAKE_VIP, eip(WEB2_NIC), DISABLE_EIP, state="Disabled", vmNicUuid=WEB2_NIC, guestIp="192.168.100.3")),
        ("leaves the virtual IP", vip(eip(WEB2_NIC), DISABLE_EIP, useFor="Eip", state="Enabled", **ROUTED)),
        ("disables a disabled one", answers(MAKE_VIP, eip(), DISABLE_EIP, DISABLE_EIP, state="Disabled")),
    ),
    *facts("GetEipAttachableVmNics",
        ("refuses an EIP that is not Enabled", V("SYS.1006", {"eipUuid": EIP}, f"eip[uuid:{EIP}] is not in state of Enabled, cannot get attachable vm nic", MAKE_VIP, eip(), DISABLE_EIP)),
        ("answers none for an attached one", nics(eip(WEB2_NIC), eipUuid=EIP)),
        ("answers nics with an address, in some states", nics(eip(), eipUuid=EIP, are=[WEB2_NIC, CI_NIC, OFFICE_NIC], without=[OLD_NIC, NICS["batch-1"]])),
        ("answers those of machines in six states", Shown(candidates_in_some_states)),
        ("answers none of another zone", nics(eip(), changed("L3Network", PRIVATE, zoneUuid=named("zone-2")), eipUuid=EIP)),
        ("answers none on a system network", nics(eip(), changed("L3Network", PRIVATE, system=True), eipUuid=EIP)),
        ("answers none on the network of the virtual IP", nics(("AttachNetworkServiceToL3Network", {"l3NetworkUuid": PUBLIC, "networkServices": {FLAT: ["Eip"]}}), ON_PUBLIC, eip(), without("Eip"), eipUuid=EIP)),
        ("answers none on a network without the service", nics(eip(), without("Eip"), eipUuid=EIP)),
        ("answers those of the provider of the virtual IP", nics(*FLAT_L3, eip(WEB2_NIC), DETACH, eipUuid=EIP, are=[WEB2_NIC, WEB_NIC], without=[L3])),
        ("answers none of another provider", nics(eip(), changed("Vip", VIP, serviceProvider="Flat"), eipUuid=EIP)),
        ("answers those of the router of its peers", nics(*SEVERAL, eip(WEB2_NIC), DETACH, eipUuid=EIP, are=[WEB2_NIC])),
        ("answers none of other routers than that", nics(*SEVERAL, eip(), changed("Vip", VIP, peerL3NetworkUuids=[L3]), eipUuid=EIP, are=[l3_nic], without=[WEB2_NIC])),
        ("answers those behind a router on the network of the virtual IP", nics(router(), eip(), eipUuid=EIP, are=[WEB2_NIC])),
        ("answers none behind a router elsewhere", nics(CREATE, router(public=L3), eip(), eipUuid=EIP)),
        ("answers none without any router, where there could be one", nics(offering, eip(), eipUuid=EIP)),
        ("answers those that the Flat provider serves nevertheless", nics(offering, *FLAT_L3, eip(), eipUuid=EIP, are=[l3_nic], without=[WEB2_NIC])),
        ("answers nics with an EIP, or a rule", nics(MAKE_VIP2, eip(), rule(81, WEB2_NIC, vipUuid=VIP2), eipUuid=EIP, are=[WEB_NIC, WEB2_NIC])),
        ("answers a nic on the public network", nics(eip(), ON_PUBLIC, eipUuid=EIP, are=[WEB2_NIC])),
    ),
    *facts("QueryEip",
        ("finds it by its virtual IP and its nic", found("eips", f"vip.uuid={VIP}", f"vmNic.uuid={WEB2_NIC}", steps=[eip(WEB2_NIC)])),
        ("is found from a nic", found("vm-instances/nics", f"eip.uuid={EIP}", steps=[eip(WEB2_NIC)])),
        ("is found from a virtual IP", found("vips", f"eip.uuid={EIP}", steps=[eip(WEB2_NIC)])),
    ),
    *facts("CreatePortForwardingRule",
        ("takes the start of the virtual IP for all that is missing", leaves(MAKE_VIP, rule(80), of=OF_PF, vipPortStart=80, vipPortEnd=80, privatePortStart=80, privatePortEnd=80)),
        ("takes the end of the virtual IP for that of the nic", leaves(MAKE_VIP, rule(80, vipPortEnd=90), of=OF_PF, privatePortStart=80, privatePortEnd=90)),
        ("swaps start and end", leaves(MAKE_VIP, rule(90, vipPortEnd=80, privatePortStart=20, privatePortEnd=10), of=OF_PF, vipPortStart=80, vipPortEnd=90, privatePortStart=10, privatePortEnd=20)),
        ("refuses more than the quota", Refused(poor("portForwarding.num", changed("Vip", VIP, useFor="Eip"), **NEW_PF), "ID.1003", SHORT % "portForwarding.num")),
        ("refuses ranges of two sizes", no_rule("SYS.1007", "for range port forwarding, the port range size must match; vip range[80, 82]'s size doesn't match range[10, 11]'s size", vipPortEnd=82, privatePortStart=10, privatePortEnd=11)),
        ("takes a single port for a range", leaves(MAKE_VIP, rule(80, vipPortEnd=80, privatePortStart=10, privatePortEnd=20), of=OF_PF, privatePortEnd=20)),
        ("refuses what is no CIDR", no_rule("SYS.1007", "invalid CIDR[x]", allowedCidr="x")),
        ("refuses a virtual IP with an EIP", no_rule("SYS.1007", "the " + TAKEN % "Eip", eip())),
        ("refuses a range that overlaps", no_rule("SYS.1007", f"vip port range[vipStartPort:80, vipEndPort:80] overlaps with rule[uuid:{PF2}, vipStartPort:70, vipEndPort:80]", rule(70, vipPortEnd=80, resourceUuid=PF2))),
        ("takes it for the other protocol", leaves(MAKE_VIP, rule(80), rule(80, protocolType="UDP", resourceUuid=PF2), of=("PortForwardingRule", PF2), vipPortStart=80)),
        ("refuses a nic on the network of the virtual IP", V("SYS.1007", NEW_PF | {"vmNicUuid": WEB2_NIC}, SAME_L3 % f"vip[uuid: {VIP}]", *PUBLIC_NIC)),
        ("refuses a network on another router than the peers", no_rule("SYS.1006", FOREIGN, *SEVERAL, rule(90, WEB2_NIC, resourceUuid=PF2), vmNicUuid=l3_nic)),
        ("refuses a machine with rules of another virtual IP", no_rule("SYS.1006", OTHER_VIP, MAKE_VIP2, rule(90, WEB2_NIC, vipUuid=VIP2, resourceUuid=PF2), vmNicUuid=WEB2_NIC)),
        ("looks at all nics of the machine", no_rule("SYS.1006", OTHER_VIP, *ROUTED_L3, MAKE_VIP2, rule(90, WEB2_NIC, vipUuid=VIP2, resourceUuid=PF2), vmNicUuid=l3_nic)),
        ("refuses the port of a listener", no_rule("SYS.1006", f"Current port range[70, 90] is conflicted with used port range [80, 80] with vip[uuid: {VIP}] protocol: TCP ", balancer(), listener(80), vipPortStart=70, vipPortEnd=90)),
        ("takes it for UDP", leaves(MAKE_VIP, balancer(), listener(80), rule(80, protocolType="UDP"), of=OF_PF, vipPortStart=80)),
        ("looks at no state of the virtual IP", leaves(MAKE_VIP, changed("Vip", VIP, state="Disabled"), rule(80, WEB2_NIC), of=OF_PF, vmNicUuid=WEB2_NIC)),
        ("looks at no service while the machine does not run", leaves(MAKE_VIP, without("PortForwarding"), rule(80, CI_NIC), of=OF_PF, vmNicUuid=ABSENT)),
        ("looks at no private ports", leaves(MAKE_VIP, rule(80, WEB2_NIC, privatePortStart=22), rule(81, WEB2_NIC, privatePortStart=22, resourceUuid=PF2), of=("PortForwardingRule", PF2), vmNicUuid=WEB2_NIC)),
        ("tells the virtual IP its use", vip(rule(), useFor="PortForwarding")),
        ("leads to a nic whose machine runs", leaves(MAKE_VIP, rule(80, WEB2_NIC), of=OF_PF, vmNicUuid=WEB2_NIC, guestIp="192.168.100.3")),
        ("tells the virtual IP provider and peer then", vip(rule(80, WEB2_NIC), useFor="PortForwarding", **ROUTED)),
        ("forgets the nic of any other machine", leaves(MAKE_VIP, rule(80, CI_NIC), of=OF_PF, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("tells the virtual IP its use only then", vip(rule(80, CI_NIC), useFor="PortForwarding")),
        ("is not attached at the start", leaves(MAKE_VIP, rule(80, CI_NIC), act("StartVmInstance", CI), of=OF_PF, vmNicUuid=ABSENT)),
        ("refuses a running machine on a network without the service", no_rule("SYS.1006", NO_FORWARDING, without("PortForwarding"), vmNicUuid=WEB2_NIC)),
        ("refuses other ports in a range, if a router serves it", no_rule("SYS.1006", "virtual router doesn't support port forwarding range redirection, the vipPortStart must be equals to privatePortStart and vipPortEnd must be equals to privatePortEnd;but this rule rule has a mismatching range: vip port[80, 82], private port[90, 92]", vipPortEnd=82, privatePortStart=90, privatePortEnd=92, vmNicUuid=WEB2_NIC)),
        ("does not refuse them without a running machine", leaves(MAKE_VIP, rule(80, vipPortEnd=82, privatePortStart=90, privatePortEnd=92), of=OF_PF, privatePortStart=90)),
        ("has SYS.1002 around the error of a backend", Uncovered("no backend is simulated; the error of a rule is the bare one")),
        ("is open, and Enabled", leaves(MAKE_VIP, rule(), of=OF_PF, allowedCidr=ABSENT, state="Enabled")),
        ("answers no dates unless the machine runs", Shown(undated_rule)),
    ),
    *facts("AttachPortForwardingRule",
        ("refuses an attached one", no_forward("SYS.1006", f"port forwarding rule[uuid:{PF}] has been attached to vm nic[uuid:{WEB2_NIC}], can't attach again", forward(), nic=WEB_NIC)),
        ("refuses one that is not Enabled", no_forward("SYS.1006", f"port forwarding rule[uuid:{PF}] is not in state of Enabled,  current state is Disabled. A rule can only be attached when its state is Enabled", changed("PortForwardingRule", PF, state="Disabled"))),
        ("refuses a nic on the network of the virtual IP", V("SYS.1007", {"ruleUuid": PF, "vmNicUuid": WEB2_NIC}, SAME_L3 % f"port forwarding rule[uuid:{PF}]", *PUBLIC_NIC, rule())),
        ("refuses a machine with rules of another virtual IP", no_forward("SYS.1006", OTHER_VIP, MAKE_VIP2, rule(90, WEB2_NIC, vipUuid=VIP2, resourceUuid=PF2))),
        ("refuses a network on another router than the peers", no_forward("SYS.1006", FOREIGN, *SEVERAL, rule(90, WEB2_NIC, resourceUuid=PF2), nic=l3_nic)),
        ("looks at no private ports", leaves(MAKE_VIP, rule(80, privatePortStart=22), rule(81, WEB2_NIC, privatePortStart=22, resourceUuid=PF2), forward(), of=OF_PF, vmNicUuid=WEB2_NIC)),
        ("leads to the nic of a machine in any state", leaves(MAKE_VIP, rule(), forward(CI_NIC), of=OF_PF, vmNicUuid=CI_NIC, guestIp="192.168.100.8")),
        ("tells the virtual IP provider and peer then too", vip(rule(), forward(CI_NIC), useFor="PortForwarding", **ROUTED)),
        ("stays detached if the backend fails, with the bare error", Refused(broken("AttachPortForwardingRule", MAKE_VIP, rule(), ruleUuid=PF, vmNicUuid=WEB2_NIC), "SYS.1006")),
        ("fails without the service", no_forward("SYS.1006", NO_FORWARDING, without("PortForwarding"))),
        ("stays attached then", Uncovered("a call that fails is undone as a whole")),
        ("answers the rule", answers(MAKE_VIP, rule(), forward(), uuid=PF, vmNicUuid=WEB2_NIC)),
    ),
    *facts("DetachPortForwardingRule",
        ("refuses one that leads nowhere", V("SYS.1006", {"uuid": PF}, f"port forwarding rule rule[uuid:{PF}] has not been attached to any vm nic, can't detach", MAKE_VIP, rule())),
        ("leads nowhere then", leaves(MAKE_VIP, rule(80, WEB2_NIC), UNFORWARD, of=OF_PF, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("leaves the virtual IP as it is", vip(rule(80, WEB2_NIC), UNFORWARD, useFor="PortForwarding", **ROUTED)),
        ("answers the rule", answers(MAKE_VIP, rule(80, WEB2_NIC), UNFORWARD, uuid=PF, vmNicUuid=ABSENT)),
    ),
    *facts("DeletePortForwardingRule",
        ("succeeds for one that is gone", nothing(MAKE_VIP, rule(), DELETE_PF, DELETE_PF)),
        ("deletes an attached one in any state", gone(MAKE_VIP, rule(80, WEB2_NIC), changed("PortForwardingRule", PF, state="Disabled"), DELETE_PF, of=OF_PF)),
        ("frees the virtual IP of its last rule", vip(rule(80, WEB2_NIC), DELETE_PF)),
        ("leaves it as it is before the last one", vip(rule(80, WEB2_NIC), rule(81, resourceUuid=PF2), DELETE_PF, useFor="PortForwarding", **ROUTED)),
        ("ignores that the virtual IP cannot be freed", Uncovered("a virtual IP can always be freed")),
        ("answers nothing", nothing(MAKE_VIP, rule(), DELETE_PF)),
    ),
    *facts("UpdatePortForwardingRule",
        ("changes the name, not the ports", answers(MAKE_VIP, rule(), ("UpdatePortForwardingRule", {"uuid": PF, "name": "new", "vipPortStart": 90}), name="new", vipPortStart=80)),
        ("writes nothing if nothing changes", unchanged("port-forwarding", "UpdatePortForwardingRule", PF, rule())),
    ),
    *facts("ChangePortForwardingRuleState",
        ("leaves it attached", answers(MAKE_VIP, rule(80, WEB2_NIC), ("ChangePortForwardingRuleState", {"uuid": PF, "stateEvent": "disable"}), state="Disabled", vmNicUuid=WEB2_NIC)),
        ("enables an enabled one", answers(MAKE_VIP, rule(), ("ChangePortForwardingRuleState", {"uuid": PF, "stateEvent": "enable"}), state="Enabled")),
    ),
    *facts("GetPortForwardingAttachableVmNics",
        ("refuses a rule that is not Enabled", V("SYS.1006", {"ruleUuid": PF}, f"Port forwarding rule[uuid:{PF}] is not in state of Enabled, current state is Disabled", MAKE_VIP, rule(), changed("PortForwardingRule", PF, state="Disabled"))),
        ("answers none for an attached one", nics(rule(80, WEB2_NIC), ruleUuid=PF)),
        ("answers none without any router, where there could be one", nics(offering, rule(), ruleUuid=PF)),
        ("answers none if no router is on the network of the virtual IP", nics(CREATE, router(public=L3), rule(), ruleUuid=PF)),
        ("answers nics of running and stopped machines behind one that is", nics(router(), rule(), ruleUuid=PF, are=[WEB2_NIC, CI_NIC], without=[OFFICE_NIC, OLD_NIC])),
        ("answers none of another zone", nics(rule(), changed("L3Network", PRIVATE, zoneUuid=named("zone-2")), ruleUuid=PF)),
        ("answers none on a system network", nics(rule(), changed("L3Network", PRIVATE, system=True), ruleUuid=PF)),
        ("answers none on a network without the service", nics(rule(), without("PortForwarding"), ruleUuid=PF)),
        ("answers those of the router of its peers only", nics(*SEVERAL, rule(), changed("Vip", VIP, peerL3NetworkUuids=[L3]), ruleUuid=PF, are=[l3_nic], without=[WEB2_NIC])),
        ("leaves out nics with a rule for the same private port", nics(rule(80), rule(81, WEB2_NIC, privatePortStart=80, resourceUuid=PF2), ruleUuid=PF, are=[WEB_NIC], without=[WEB2_NIC])),
        ("does not for the other protocol", nics(rule(80), rule(81, WEB2_NIC, privatePortStart=80, protocolType="UDP", resourceUuid=PF2), ruleUuid=PF, are=[WEB_NIC, WEB2_NIC])),
        ("leaves out machines with a rule of another virtual IP", nics(MAKE_VIP2, rule(80), rule(81, WEB2_NIC, vipUuid=VIP2, resourceUuid=PF2), ruleUuid=PF, are=[WEB_NIC], without=[WEB2_NIC])),
    ),
    *facts("QueryPortForwardingRule",
        ("finds it by its virtual IP and its nic", found("port-forwarding", f"vip.uuid={VIP}", f"vmNic.uuid={WEB2_NIC}", steps=[rule(80, WEB2_NIC)])),
        ("is found from a nic", found("vm-instances/nics", f"portForwarding.uuid={PF}", steps=[rule(80, WEB2_NIC)])),
        ("is found from a virtual IP", found("vips", f"portForwarding.uuid={PF}", steps=[rule()])),
    ),
    *facts("Vip",
        ("names its uses in order of addition", Shown(uses_in_order)),
        ("has a use, provider and peer while a service stays", vip(rule(80, WEB2_NIC), balancer(), DELETE_PF, useFor="LoadBalancer", **ROUTED)),
        ("loses them with the last service", vip(rule(80, WEB2_NIC), balancer(), DELETE_PF, DELETE_LB)),
        ("keeps the use of a router", vip(changed("Vip", VIP, useFor="SNAT", **ROUTED), rule(), DELETE_PF, useFor="SNAT", **ROUTED)),
        ("takes a rule beside IPsec", vip(("CreateIPsecConnection", {"name": "c", "vipUuid": VIP, "peerAddress": "9.9.9.9", "authKey": "k"}), rule(), useFor="IPsec,PortForwarding")),
        ("counts a rule that leads nowhere as one", vip(rule(), rule(81, resourceUuid=PF2), DELETE_PF, useFor="PortForwarding")),
        ("has each peer once", vip(rule(80, WEB2_NIC), rule(81, WEB_NIC, resourceUuid=PF2), useFor="PortForwarding", **ROUTED)),
        ("has peers on one router", vip(*ROUTED_L3, router(guests=(PRIVATE, L3)), changed("Vip", VIP, serviceProvider="VirtualRouter", peerL3NetworkUuids=[L3]), rule(80, WEB2_NIC), useFor="PortForwarding", serviceProvider="VirtualRouter", peerL3NetworkUuids=[L3, PRIVATE])),
        ("takes it after the EIP was deleted", vip(*FLAT_L3, eip(WEB2_NIC), DELETE_EIP, eip(), changed("Vip", VIP, name="w"), useFor="Eip")),
        ("loses a peer with its network", Shown(peers_go_with_their_network)),
    ),
    *facts("StartVmInstance",
        ("tells the virtual IP of an EIP provider and peer", vip(eip(CI_NIC), act("StartVmInstance", CI), useFor="Eip", **ROUTED)),
        ("leads the EIP there", leaves(MAKE_VIP, eip(CI_NIC), act("StartVmInstance", CI), of=OF_EIP, vmNicUuid=CI_NIC, guestIp="192.168.100.8")),
        ("ignores EIPs of a network that lost the service", vip(eip(CI_NIC), without("Eip"), act("StartVmInstance", CI), useFor="Eip")),
        ("fails if an EIP cannot be served", Shown(start_with_a_wrong_provider)),
        ("serves nothing at the first start", Shown(first_start)),
        ("leaves what a recovered machine has lost", served(DESTROY, RECOVER, START, nic=False)),
        ("leaves the listeners that it has lost", balanced(DESTROY, RECOVER, START, is_=[])),
    ),
    *facts("RebootVmInstance",
        ("leaves EIP and virtual IP", vip(eip(WEB2_NIC), act("RebootVmInstance", WEB2), useFor="Eip", **ROUTED)),
    ),
    *facts("MigrateVm",
        ("leaves EIP and virtual IP", vip(eip(WEB2_NIC), act("MigrateVm", WEB2), useFor="Eip", **ROUTED)),
    ),
    *facts("StopVmInstance",
        ("leaves the virtual IP", vip(eip(WEB2_NIC), act("StopVmInstance", WEB2), useFor="Eip", **ROUTED)),
        ("leaves EIPs", served(STOP)),
        ("leaves port forwarding", served(STOP, of=RULE)),
    ),
    *facts("DestroyVmInstance",
        ("leaves the virtual IP", vip(eip(WEB2_NIC), act("DestroyVmInstance", WEB2), useFor="Eip", **ROUTED)),
        ("leaves an EIP that leads nowhere", leaves(MAKE_VIP, eip(WEB2_NIC), act("DestroyVmInstance", WEB2), of=OF_EIP, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("does so at once with the policy Direct", leaves(configured("vm", "deletionPolicy", "Direct"), MAKE_VIP, rule(80, WEB2_NIC), act("DestroyVmInstance", WEB2), of=OF_PF, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("does so with the policy Never", leaves(configured("vm", "deletionPolicy", "Never"), MAKE_VIP, rule(80, WEB2_NIC), act("DestroyVmInstance", WEB2), of=OF_PF, vmNicUuid=ABSENT, guestIp=ABSENT)),
    ),
    *facts("DetachL3NetworkFromVm",
        ("leaves the virtual IP", vip(eip(WEB2_NIC), DETACH_NIC, useFor="Eip", **ROUTED)),
        ("leaves an EIP that leads nowhere", leaves(MAKE_VIP, eip(WEB2_NIC), DETACH_NIC, of=OF_EIP, vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("leaves a rule that leads nowhere", leaves(MAKE_VIP, rule(80, WEB2_NIC), DETACH_NIC, of=OF_PF, vmNicUuid=ABSENT, guestIp=ABSENT)),
    ),
    *facts("SetVmStaticIp",
        ("leads EIPs to the new address", leaves(MAKE_VIP, eip(CI_NIC), ("SetVmStaticIp", {"vmInstanceUuid": CI, "l3NetworkUuid": PRIVATE, "ip": "192.168.100.99"}), of=OF_EIP, guestIp="192.168.100.99")),
        ("leads rules to the old one", leaves(MAKE_VIP, rule(), forward(CI_NIC), ("SetVmStaticIp", {"vmInstanceUuid": CI, "l3NetworkUuid": PRIVATE, "ip": "192.168.100.99"}), of=OF_PF, guestIp="192.168.100.8")),
    ),
    *facts("cascades",
        ("virtual IPs go with their network", gone(MAKE_VIP, ("DeleteL3Network", {"uuid": PUBLIC}), of=OF_VIP)),
        ("virtual IPs go with their range", gone(MAKE_VIP, eip(WEB2_NIC), ("DeleteIpRange", {"uuid": named("range-public")}), of=OF_EIP)),
        ("listeners go with a virtual IP", gone(with_services, ("DeleteL3Network", {"uuid": PUBLIC}), of=LISTENER)),
        ("rules lead nowhere without the network of their nic", leaves(MAKE_VIP, rule(80, WEB2_NIC), ("DeleteL3Network", {"uuid": PRIVATE}), of=OF_PF, vmNicUuid=ABSENT)),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
