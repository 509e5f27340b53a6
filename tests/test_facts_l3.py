"""What the real server does with L3 networks, IP ranges, network services and addresses, fact by fact, in both dialects.

The facts follow the calls. The last ones are about what goes with a network or a range, and about the addresses that the server chooses.
"""

from asking import each, outcome
from facts import Refused, Shown, Uncovered, chain, changed, check, error_of, take
from test_facts_nics import FULL, L2_PUBLIC, attach, nothing, tag_of
from test_facts_vm import (
    ABSENT,
    CI,
    EIP,
    LISTENER,
    NOBODY,
    OLD,
    PRIVATE,
    PUBLIC,
    RULE,
    STOP,
    WEB,
    ZONE,
    V,
    act,
    answers,
    as_ann,
    configured,
    facts,
    full_network,
    gone,
    leaves,
    made,
    nic_of,
    tagged,
    tags,
    with_services,
)  # fmt: skip

import zmock
from zmock import named

L3, IP_RANGE, OTHER_RANGE, THIRD_RANGE, APPLIANCE, L2_PRIVATE = map(named, ("l3-new", "range-new", "range-2", "range-3", "router-new", "l2-private"))
VIP, NEW_EIP = named("vip-new"), named("eip-new")
PUBLIC_RANGE, PRIVATE_RANGE, BATCH, OFFICE = map(named, ("range-public", "range-private", "vm-batch-1", "vm-office-1"))
FLAT, ROUTER, GROUPS = (named(f"provider-{type}") for type in ("Flat", "VirtualRouter", "SecurityGroup"))
COMBINATIONS = "not valid combination of system and category,only {false=[Public, Private], true=[System]} are valid"
NEW = {"name": "new", "l2NetworkUuid": L2_PUBLIC, "resourceUuid": L3}
CREATE = ("CreateL3Network", NEW)
RANGE = {"l3NetworkUuid": L3, "name": "r", "startIp": "10.9.0.10", "endIp": "10.9.0.19", "netmask": "255.255.255.0", "gateway": "10.9.0.1", "resourceUuid": IP_RANGE}
CIDR = {"l3NetworkUuid": L3, "name": "r", "networkCidr": "10.9.0.0/24", "resourceUuid": IP_RANGE}
SHARED = ("ShareResource", {"resourceUuids": [L2_PUBLIC], "toPublic": True})
DELETE, DELETE_RANGE = ("DeleteL3Network", {"uuid": PRIVATE}), ("DeleteIpRange", {"uuid": PRIVATE_RANGE})
ANSWERED_ID = {"of": ("L3Network", L3)}


def create(**more):
    """A step that makes the network L3."""
    return ("CreateL3Network", NEW | more)


def ip_range(**more):
    """A step that makes the range IP_RANGE on the network L3."""
    return ("AddIpRange", RANGE | more)


def by_cidr(cidr, **more):
    return ("AddIpRangeByNetworkCidr", CIDR | {"networkCidr": cidr} | more)


def on_new(api, **params):
    """A call on the network L3."""
    return (api, {"l3NetworkUuid": L3} | params)


def dns(ip, api="AddDnsToL3Network"):
    return on_new(api, dns=ip)


def route(prefix, api="AddHostRouteToL3Network", **more):
    return on_new(api, prefix=prefix, **more)


def serve(*services, provider=FLAT, l3=L3):
    """A step that attaches services of a provider to a network."""
    return ("AttachNetworkServiceToL3Network", {"l3NetworkUuid": l3, "networkServices": {provider: list(services)}})


def services(of, *steps):
    """A refusal of services, as the map of the call."""
    return {"l3NetworkUuid": L3, "networkServices": of}


def wrong_range(code, details, *steps, **more):
    return V(code, RANGE | more, details, CREATE, *steps)


def reserved(code, cidr, details):
    """A CIDR of which no range is allowed."""
    return V(code, CIDR | {"networkCidr": cidr}, details, CREATE)


def router_ip(ip):
    return on_new("SetL3NetworkRouterInterfaceIp", routerInterfaceIp=ip)


def free(*steps, are, **params):
    """A story: these addresses are free, in this order."""

    async def story(mock):
        await take(mock, steps)
        api = "GetFreeIpOfIpRange" if "l3NetworkUuid" not in params else "GetFreeIpOfL3Network"
        found = (await mock.call(api, **params))["inventories"]
        assert [free["ip"] for free in found] == list(are)

    return Shown(story)


def available(ip, *steps, is_):
    """A story: whether an address of L3 is available after some steps."""
    return answers(CREATE, ip_range(), *steps, on_new("CheckIpAvailability", ip=ip), available=is_)


def capacity(*steps, total, used=0, **params):
    """A story: the number of addresses, and of the free ones."""
    return answers(*steps, ("GetIpAddressCapacity", params), totalCapacity=total, availableCapacity=total - used)


def names(collection, field="name"):
    """What a collection has, by the values of a field."""

    async def look(mock):
        return sorted(item[field] for item in await mock.query(collection))

    return look


def kept(uuid, *steps):
    """A story: the nic of a machine on PRIVATE is there after some steps."""

    async def story(mock):
        nic = nic_of(mock, uuid)
        await take(mock, steps)
        assert mock.cloud.look("VmNic", nic["uuid"])

    return Shown(story)


def detached(uuid, *steps):
    """A story: the machine is there without a nic on PRIVATE after some steps."""

    async def story(mock):
        await take(mock, steps)
        nics = mock.cloud.find("VmNic", "vmInstanceUuid", uuid)
        assert mock.cloud.look("VmInstance", uuid) and not [nic for nic in nics if nic.get("l3NetworkUuid") == PRIVATE]

    return Shown(story)


async def appliance(mock):
    """A router that is the gateway of PRIVATE and has an address of PUBLIC."""
    place = mock.cloud.look("VmInstance", WEB)
    values = {name: place[name] for name in ("hostUuid", "clusterUuid", "zoneUuid", "cpuNum", "memorySize", "hypervisorType")}
    mock.cloud.add("VmInstance", uuid=APPLIANCE, name="router", type="ApplianceVm", applianceVmType="VirtualRouter", state="Running", status="Connected", **values)
    for number, (l3, ip, of_range) in enumerate(((PRIVATE, "192.168.100.1", None), (PUBLIC, "10.20.0.9", PUBLIC_RANGE))):
        mock.cloud.add("VmNic", vmInstanceUuid=APPLIANCE, l3NetworkUuid=l3, deviceId=number, ip=ip, ipRangeUuid=of_range, mac=f"fa:00:00:00:00:0{number}", metaData="4")


async def vip(mock, ip="10.20.0.50"):
    """A virtual IP of PUBLIC with an EIP for WEB."""
    nic = nic_of(mock)
    made = (await mock.call("CreateVip", name="v", l3NetworkUuid=PUBLIC, requiredIp=ip, resourceUuid=VIP))["inventory"]
    mock.cloud.add("Eip", uuid=NEW_EIP, name="e", vipUuid=made["uuid"], vipIp=ip, vmNicUuid=nic["uuid"], guestIp=nic["ip"])


def failing(api, **params):
    """A state in which the backend of a call fails."""

    async def state(mock):
        mock.rule(api=api, then={"error": "SYS.1006", "details": "the host does not answer"})
        return params

    return state


# networks


async def owner_of_a_network(mock):
    await take(mock, [as_ann("l3.num", 1, SHARED), CREATE])
    assert mock.cloud.look("L3Network", L3)["owner"] != zmock.ADMIN


async def lists_of_a_new_network(mock):
    l3 = (await take(mock, [CREATE]))["inventory"]
    assert (l3["ipRanges"], l3["networkServices"], l3["hostRoute"]) == ([], [], [])


async def machines_do_not_mind(mock):
    before = dict(mock.cloud.look("VmInstance", WEB))
    await take(mock, [("ChangeL3NetworkState", {"uuid": PRIVATE, "stateEvent": "disable"})])
    assert dict(mock.cloud.look("VmInstance", WEB)) == before


async def what_goes_with_a_network(mock):
    await take(mock, [CREATE, ip_range(), serve("DNS", "HostRoute"), dns("8.8.8.8"), route("10.8.0.0/16", nexthop="10.9.0.1"), ("DeleteL3Network", {"uuid": L3})])
    assert not mock.cloud.look("L3Network", L3) and not mock.cloud.look("IpRange", IP_RANGE)
    assert await mock.query("l3-networks/network-services/refs", f"l3NetworkUuid={L3}") == []


async def nic_without_a_network(mock):
    nic = nic_of(mock, BATCH)
    await take(mock, [DELETE])
    shown = (await mock.query("vm-instances/nics", f"uuid={nic['uuid']}"))[0]
    assert "l3NetworkUuid" not in shown and shown["ip"] == nic["ip"]


async def nic_without_a_range(mock):
    nic = nic_of(mock, BATCH)
    await take(mock, [DELETE_RANGE])
    left = mock.cloud.look("VmNic", nic["uuid"])
    assert (left["ip"], left["l3NetworkUuid"]) == (nic["ip"], PRIVATE) and "ipRangeUuid" not in left


async def tags_go_too(mock):
    await take(mock, [CREATE, on_new("SetL3NetworkMtu", mtu=1400), ("DeleteL3Network", {"uuid": L3})])
    assert mock.cloud.find("SystemTag", "resourceUuid", L3) == []


async def network_of_a_deleted_account(mock):
    await take(mock, [as_ann("l3.num", 1, SHARED), CREATE])
    ann, mock.session = mock.cloud.look("L3Network", L3)["owner"], ""
    await mock.login()
    await mock.call("DeleteAccount", uuid=ann)
    assert not mock.cloud.look("L3Network", L3) and mock.cloud.look("L2Network", L2_PUBLIC)


# ranges


async def same_range_elsewhere(mock):
    await take(mock, [create(l2NetworkUuid=L2_PRIVATE), ip_range(startIp="10.20.0.10", endIp="10.20.0.19", gateway="10.20.0.1")])
    assert mock.cloud.look("IpRange", IP_RANGE)


async def second_range(mock):
    await take(mock, [CREATE, ip_range(), ip_range(startIp="10.9.0.30", endIp="10.9.0.39", gateway="10.9.0.2", resourceUuid=OTHER_RANGE)])
    assert len((await mock.query("l3-networks", f"uuid={L3}"))[0]["ipRanges"]) == 2


async def bounds_of_a_narrow_cidr(mock):
    made = (await take(mock, [CREATE, by_cidr("10.9.0.0/30")]))["inventory"]
    assert (made["gateway"], made["startIp"], made["endIp"], made["netmask"]) == ("10.9.0.1", "10.9.0.2", "10.9.0.2", "255.255.255.252")


async def range_of_a_disabled_network(mock):
    await take(mock, [create(type="L3VpcNetwork"), ("ChangeL3NetworkState", {"uuid": L3, "stateEvent": "disable"}), ip_range()])
    assert mock.cloud.look("IpRange", IP_RANGE)


TWO_RANGES = (CREATE, ip_range(), ip_range(startIp="10.9.0.30", endIp="10.9.0.39", gateway="10.9.0.2", resourceUuid=OTHER_RANGE))
SMALL_RANGES = (
    CREATE, *(ip_range(startIp=f"10.9.0.{first}", endIp=f"10.9.0.{first + 3}", resourceUuid=uuid)
              for first, uuid in ((11, IP_RANGE), (22, OTHER_RANGE), (33, THIRD_RANGE))),
)  # fmt: skip


# DNS and routes


async def removed_dns(mock):
    status, answer = await outcome(mock, "DELETE", f"/l3-networks/{L3}/dns/9.9.9.9")
    assert status == 200 and not answer


async def nothing_to_remove(mock):
    await take(mock, [CREATE, dns("8.8.8.8")])
    await removed_dns(mock)
    assert mock.cloud.look("L3Network", L3)["dns"] == ["8.8.8.8"]


async def prefix_as_sent(mock):
    (found,) = (await take(mock, [CREATE, serve("HostRoute"), route("10.8.0.9/16", nexthop="10.9.0.1")]))["inventory"]["hostRoute"]
    assert (found["prefix"], found["nexthop"]) == ("10.8.0.9/16", "10.9.0.1")


async def route_is_gone_nevertheless(mock):
    await take(mock, [CREATE, serve("HostRoute", "DHCP"), route("10.8.0.0/16", nexthop="10.9.0.1")])
    await mock.call("DetachNetworkServiceFromL3Network", l3NetworkUuid=L3, **{f"networkServices.{FLAT}": "HostRoute"})
    errors = chain(await error_of(mock, *route("10.8.0.0/16", "RemoveHostRouteFromL3Network")))
    assert [(error["code"], error["details"]) for error in errors] == [("SYS.1006", f"L3Network [uuid: {L3}] provide type null")]
    assert mock.cloud.look("L3Network", L3)["hostRoute"] == []


async def route_without_services(mock):
    await take(mock, [CREATE, serve("HostRoute"), route("10.8.0.0/16", nexthop="10.9.0.1")])
    await mock.call("DetachNetworkServiceFromL3Network", l3NetworkUuid=L3, **{f"networkServices.{FLAT}": "HostRoute"})
    assert (await take(mock, [route("10.8.0.0/16", "RemoveHostRouteFromL3Network")]))["inventory"]["hostRoute"] == []


# MTU and router


async def tag_of_the_mtu(mock):
    await take(mock, [CREATE, on_new("SetL3NetworkMtu", mtu=1400), on_new("SetL3NetworkMtu", mtu=1300)])
    tag = tag_of(mock, "l3NetworkUuid::", L3)
    assert (tag["tag"], tag["inherent"]) == (f"l3NetworkUuid::{L3}::mtu::1300", False)


async def success_only(mock):
    assert not {"inventory", "mtu"} & {*(await take(mock, [CREATE, on_new("SetL3NetworkMtu", mtu=1400)]) or {})}


async def two_tags_of_the_router(mock):
    await take(mock, [CREATE, ip_range(), router_ip("10.9.0.2"), router_ip("10.9.0.3")])
    found = mock.cloud.find("SystemTag", "resourceUuid", L3)
    assert sorted((tag["tag"], tag["inherent"]) for tag in found) == [("routerInterfaceIp::10.9.0.2", False), ("routerInterfaceIp::10.9.0.3", False)]
    assert (await take(mock, [on_new("GetL3NetworkRouterInterfaceIp")]))["routerInterfaceIp"] in ("10.9.0.2", "10.9.0.3")


# DHCP


DHCP_IP = ("GetL3NetworkDhcpIpAddress", {"l3NetworkUuid": PUBLIC})
FIRST_VM = made(l3NetworkUuids=[PUBLIC])
STOP_NEW, START_NEW = (act(f"{verb}VmInstance", named("vm-new")) for verb in ("Stop", "Start"))


async def address_of_the_dhcp_server(mock):
    await take(mock, [serve("DHCP", l3=PUBLIC), FIRST_VM])
    ip = (await take(mock, [DHCP_IP]))["ip"]
    tag = tag_of(mock, "flatNetwork::DhcpServer::", PUBLIC)
    assert tag["inherent"] and tag["tag"].startswith(f"flatNetwork::DhcpServer::{ip}::ipUuid::") and ip.startswith("10.20.0.")
    assert not (await mock.call("CheckIpAvailability", l3NetworkUuid=PUBLIC, ip=ip))["available"]


async def same_address_same_uuid(mock):
    mock.cloud.settings.addresses = "first"
    await take(mock, [serve("DHCP", l3=PUBLIC), FIRST_VM])
    before = tag_of(mock, "flatNetwork::DhcpServer::", PUBLIC)["tag"]
    await take(mock, [lambda mock: mock.reset(), lambda mock: mock.login()])
    mock.cloud.settings.addresses = "first"
    await take(mock, [serve("DHCP", l3=PUBLIC), FIRST_VM])
    assert tag_of(mock, "flatNetwork::DhcpServer::", PUBLIC)["tag"] == before and before[-20] == "3"


async def random_dhcp_addresses(mock):
    addresses = set()
    for number in range(3):
        l3 = (await mock.call("CreateL3Network", name="n", l2NetworkUuid=L2_PUBLIC))["inventory"]["uuid"]
        await mock.call("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3, networkCidr=f"10.{number}.0.0/16")
        await take(mock, [serve("DHCP", l3=l3), made(l3NetworkUuids=[l3], resourceUuid=named(f"vm-{number}"))])
        addresses.add((await mock.call("GetL3NetworkDhcpIpAddress", l3NetworkUuid=l3))["ip"].partition(".")[2].partition(".")[2])
    assert len(addresses) == 3


async def dhcp_address_goes_with_its_range(mock):
    await take(mock, [serve("DHCP", l3=PUBLIC), FIRST_VM, ("DeleteIpRange", {"uuid": PUBLIC_RANGE})])
    assert mock.cloud.find("SystemTag", "resourceUuid", PUBLIC) == []


# services


async def no_second_router(mock):
    await take(mock, [CREATE, serve("DHCP")])
    details = f"there has been a network service[DHCP] attached to L3 network[uuid:{L3}]"
    (error,) = chain(await error_of(mock, *serve("DHCP", provider=ROUTER)))
    assert (error["code"], error["details"]) == ("SYS.1006", details)


async def one_type_twice_in_a_call(mock):
    of = {FLAT: ["DHCP"], ROUTER: ["DHCP"]}
    l3 = (await take(mock, [CREATE, ("AttachNetworkServiceToL3Network", services(of))]))["inventory"]
    assert [ref["networkServiceType"] for ref in l3["networkServices"]] == ["DHCP", "DHCP"]


async def provider_of_another_network(mock):
    mock.cloud.change("NetworkServiceProvider", FLAT, attachedL2NetworkUuids=[])
    l3 = (await take(mock, [CREATE, serve("DHCP", "Eip")]))["inventory"]
    assert sorted(ref["networkServiceType"] for ref in l3["networkServices"]) == ["DHCP", "Eip"]


async def machines_keep_what_they_have(mock):
    before = dict(mock.cloud.look("VmInstance", WEB))
    await take(mock, [serve("HostRoute", l3=PRIVATE)])
    assert dict(mock.cloud.look("VmInstance", WEB)) == before


async def works_from_the_next_start(mock):
    await take(mock, [attach(CI, PUBLIC), serve("DHCP", l3=PUBLIC)])
    assert [error["code"] for error in chain(await error_of(mock, *DHCP_IP))] == ["SYS.1006"]
    await take(mock, [("StartVmInstance", {"uuid": CI})])
    assert (await take(mock, [DHCP_IP]))["ip"].startswith("10.20.0.")


def detach(services, l3=PRIVATE, provider=ROUTER):
    return ("DetachNetworkServiceFromL3Network", {"l3NetworkUuid": l3, f"networkServices.{provider}": services})


async def services_in_use(mock):
    body = await take(mock, [with_services, detach("Eip")])
    assert "Eip" not in [ref["networkServiceType"] for ref in body["inventory"]["networkServices"]]
    assert mock.cloud.look(*EIP)["vmNicUuid"] and mock.cloud.look(*LISTENER) and mock.cloud.look(*RULE)


async def providers_by_service(mock):
    types = (await take(mock, [("GetNetworkServiceTypes", {})]))["types"]
    assert FLAT in types["DHCP"] and ROUTER in types["DHCP"] and types["SecurityGroup"] == [GROUPS] and types["HostRoute"] == [FLAT]


async def providers_at_the_start(mock):
    found = {provider["name"]: provider["networkServiceTypes"] for provider in await mock.query("network-services/providers")}
    assert sorted(found["Flat Network Service Provider"]) == ["DHCP", "DNS", "Eip", "HostRoute", "Userdata"]
    assert sorted(found["VirtualRouter"]) == ["DHCP", "DNS", "Eip", "LoadBalancer", "PortForwarding", "SNAT"]
    assert found["SecurityGroup"] == ["SecurityGroup"] and {"Centralized_DNS", "VipQos", "IPsec"} < {*found["vrouter"]}


# addresses


async def address_is_free_at_once(mock):
    await take(mock, [CREATE, ip_range(startIp="10.9.0.10", endIp="10.9.0.10"), on_new("CreateVip", name="v", resourceUuid=VIP)])
    await take(mock, [("DeleteVip", {"uuid": VIP})])
    assert (await take(mock, [on_new("CreateVip", name="v")]))["inventory"]["ip"] == "10.9.0.10"


async def address_with_its_place(mock):
    vip = (await take(mock, [CREATE, ip_range(), on_new("CreateVip", name="v")]))["inventory"]
    assert (vip["gateway"], vip["netmask"]) == ("10.9.0.1", "255.255.255.0")


async def addresses_of_all_ranges(mock):
    await take(mock, TWO_RANGES)
    found = [(await mock.call("CreateVip", name="v", l3NetworkUuid=L3))["inventory"]["ip"] for _ in range(20)]
    assert len({*found}) == 20 and found != sorted(found)


async def no_zone_at_all(mock):
    for zone in [*mock.cloud.store.rows("Zone")]:
        mock.cloud.remove("Zone", zone["uuid"])
    body = await mock.call("GetIpAddressCapacity", all="true")
    assert (body["totalCapacity"], body["availableCapacity"]) == (0, 0)


MISSING = {"l3NetworkUuid": NOBODY, "name": "r"}

FACTS = (
    *facts("CreateL3Network",
        ("refuses a pool of VXLAN networks", V("SYS.1007", NEW, "vxlan network pool doesn't support create l3 network", changed("L2Network", L2_PUBLIC, type="VxlanNetworkPool"))),
        ("refuses an unknown type", V("SYS.1007", NEW | {"type": "x"}, "unsupported l3network type[x]")),
        ("refuses a name of no domain", V("SYS.1007", NEW | {"dnsDomain": "a b"}, "a b is not a valid domain name")),
        ("refuses an unknown top-level domain", V("SYS.1007", NEW | {"dnsDomain": "zstack.local"}, "zstack.local is not a valid domain name")),
        ("takes a known one", leaves(create(dnsDomain="zstack.org"), **ANSWERED_ID, dnsDomain="zstack.org")),
        ("refuses a system network of another category", V("SYS.1007", NEW | {"system": True}, COMBINATIONS)),
        ("refuses the category System without system", V("SYS.1007", NEW | {"category": "System"}, COMBINATIONS)),
        ("takes a system network", leaves(create(system=True, category="System"), **ANSWERED_ID, system=True)),
        ("takes a category in its own capitals only", V("SYS.1007", NEW | {"category": "public"})),
        ("refuses more than the quota", Refused(as_ann("l3.num", 0, SHARED, **NEW), "ID.1003")),
        ("asks admin for no quota", leaves(configured("quota", "l3.num", "1"), CREATE, **ANSWERED_ID, name="new")),
        ("is enabled, in the zone of its L2 network", leaves(CREATE, **ANSWERED_ID, state="Enabled", zoneUuid=ZONE)),
        ("is private, and no system network", leaves(CREATE, **ANSWERED_ID, category="Private", system=False, type="L3BasicNetwork")),
        ("belongs to the caller", Shown(owner_of_a_network)),
        ("asks for no cluster", leaves(changed("L2Network", L2_PUBLIC, attachedClusterUuids=[]), CREATE, **ANSWERED_ID, name="new")),
        ("takes a name that is used", leaves(create(name="l3-public"), **ANSWERED_ID, name="l3-public")),
        ("has no service", answers(CREATE, networkServices=[])),
        ("answers empty lists", Shown(lists_of_a_new_network)),
        ("answers no DNS while there is none", answers(CREATE, dns=ABSENT)),
    ),
    *facts("UpdateL3Network",
        ("refuses another system without a category", V("SYS.1007", {"uuid": PUBLIC, "system": True}, "you must update system and category both")),
        ("refuses a category that the present system does not have", V("SYS.1007", {"uuid": PUBLIC, "category": "System"}, COMBINATIONS)),
        ("refuses both if they do not fit", V("SYS.1007", {"uuid": PUBLIC, "category": "Public", "system": True}, COMBINATIONS)),
        ("takes a category of the present system", leaves(("UpdateL3Network", {"uuid": PUBLIC, "category": "Private"}), of=("L3Network", PUBLIC), category="Private", system=False)),
        ("takes both", leaves(("UpdateL3Network", {"uuid": PUBLIC, "category": "System", "system": True}), of=("L3Network", PUBLIC), category="System", system=True)),
        ("takes the present system alone", leaves(("UpdateL3Network", {"uuid": PUBLIC, "system": False}), of=("L3Network", PUBLIC), category="Public", system=False)),
        ("changes name and description", leaves(("UpdateL3Network", {"uuid": PUBLIC, "name": "n", "description": "d"}), of=("L3Network", PUBLIC), name="n", description="d")),
        ("changes neither state nor domain", leaves(("UpdateL3Network", {"uuid": PRIVATE, "state": "Disabled", "dnsDomain": "a.org"}), of=("L3Network", PRIVATE), state="Enabled", dnsDomain="demo.local")),
    ),
    *facts("ChangeL3NetworkState",
        ("enables", leaves(changed("L3Network", PUBLIC, state="Disabled"), ("ChangeL3NetworkState", {"uuid": PUBLIC, "stateEvent": "enable"}), of=("L3Network", PUBLIC), state="Enabled")),
        ("enables what is enabled", leaves(("ChangeL3NetworkState", {"uuid": PUBLIC, "stateEvent": "enable"}), of=("L3Network", PUBLIC), state="Enabled")),
        ("disables", leaves(("ChangeL3NetworkState", {"uuid": PUBLIC, "stateEvent": "disable"}), of=("L3Network", PUBLIC), state="Disabled")),
        ("leaves machines alone", Shown(machines_do_not_mind)),
    ),
    *facts("DeleteL3Network",
        ("refuses nothing", gone(DELETE, of=("L3Network", PRIVATE))),
        ("succeeds for an unknown one", nothing(("DeleteL3Network", {"uuid": NOBODY}))),
        ("detaches the nics of running machines", detached(WEB, DELETE)),
        ("of stopped ones", detached(CI, DELETE)),
        ("of paused ones", detached(OFFICE, DELETE)),
        ("removes those of destroyed ones", detached(OLD, DELETE)),
        ("asks no machine in another state", Shown(nic_without_a_network)),
        ("warns of a nic that cannot be detached, and goes on", Uncovered("no host is asked to detach a nic, so none fails to")),
        ("removes appliances on it", gone(appliance, ("DeleteL3Network", {"uuid": PUBLIC}), of=("VmInstance", APPLIANCE))),
        ("removes VIPs on it", gone(("DeleteL3Network", {"uuid": PUBLIC}), of=("Vip", named("vip-1")))),
        ("and their EIPs", gone(("DeleteL3Network", {"uuid": PUBLIC}), of=("Eip", named("eip-1")))),
        ("and their port forwarding", gone(with_services, ("DeleteL3Network", {"uuid": PUBLIC}), of=RULE)),
        ("and their load balancers", gone(with_services, ("DeleteL3Network", {"uuid": PUBLIC}), of=LISTENER)),
        ("fails with a VIP that cannot be deleted", Uncovered("a VIP can always be deleted: no backend is asked")),
        ("removes ranges, DNS, routes and services", Shown(what_goes_with_a_network)),
        ("removes the address of the DHCP server with its tag", gone(serve("DHCP", l3=PUBLIC), FIRST_VM, ("DeleteL3Network", {"uuid": PUBLIC}), of=("SystemTag", "resourceUuid", PUBLIC))),
        ("takes the default network from machines", leaves(DELETE, of=("VmInstance", WEB), defaultL3NetworkUuid=ABSENT)),
        ("gives them that of another nic", leaves(attach(), DELETE, of=("VmInstance", CI), defaultL3NetworkUuid=PUBLIC)),
        ("removes the tag of a static address", tags(tagged(CI, f"staticIp::{PRIVATE}::192.168.100.8"), DELETE, uuid=CI, are=[])),
        ("takes the nic from EIPs", leaves(DELETE, of=("Eip", named("eip-1")), vmNicUuid=ABSENT, guestIp=ABSENT)),
        ("asks for no platform", detached(WEB, changed("VmInstance", WEB, platform="Windows"), DELETE)),
        ("answers nothing", nothing(DELETE)),
    ),
    *facts("AddIpRange",
        ("has the network of its gateway", answers(CREATE, ip_range(), networkCidr="10.9.0.1/24")),
        ("fails for a netmask that is no address", wrong_range("SYS.1000", "Could not parse [x]", netmask="x")),
        ("fails for a gateway that is no address", wrong_range("SYS.1000", "Could not parse [x]", gateway="x")),
        ("asks for no type and no state of the network", Shown(range_of_a_disabled_network)),
        ("refuses addresses of class D", wrong_range("SYS.1007", "the IP range[239.9.0.10 ~ 239.9.0.19] contains D class addresses which are for multicast", startIp="239.9.0.10", endIp="239.9.0.19")),
        ("refuses addresses of class E", wrong_range("SYS.1007", "the IP range[240.9.0.10 ~ 240.9.0.19] contains E class addresses which are reserved", startIp="240.9.0.10", endIp="240.9.0.19")),
        ("refuses a range that begins in class D first", wrong_range("SYS.1007", "*D class*", startIp="239.9.0.10", endIp="240.9.0.19")),
        ("refuses link-local addresses", wrong_range("SYS.1007", "the IP range[169.254.0.10 ~ 169.254.1.0] contains link local addresses which are reserved", startIp="169.254.0.10", endIp="169.254.1.0")),
        ("takes the rest of their network", leaves(CREATE, ip_range(startIp="169.254.0.10", endIp="169.254.0.19", gateway="169.254.0.1"), of=("IpRange", IP_RANGE), startIp="169.254.0.10")),
        ("refuses that before the gateway", wrong_range("SYS.1007", "*link local*", startIp="169.254.9.10", endIp="169.254.9.19", gateway="10.9.0.1")),
        ("refuses a gateway outside", wrong_range("SYS.1007", "the gateway[10.8.0.1] is not in the subnet 10.9.0.10/255.255.255.0", gateway="10.8.0.1")),
        ("refuses the network address as the gateway", wrong_range("SYS.1007", "the gateway[10.9.0.0] is not in the subnet*", gateway="10.9.0.0")),
        ("refuses an end outside", wrong_range("SYS.1007", "the endip[10.9.1.19] is not in the subnet 10.9.0.10/255.255.255.0", endIp="10.9.1.19")),
        ("refuses the broadcast address as the end", wrong_range("SYS.1007", "the endip[10.9.0.255] is not in the subnet*", endIp="10.9.0.255")),
        ("fails for a start or an end that is no address", wrong_range("SYS.1000", "x is not a valid ipv4 address", startIp="x")),
        ("refuses what is no netmask", wrong_range("SYS.1007", "netmask[255.0.255.0] is not a netmask, and the IP range netmask cannot be 0.0.0.0", netmask="255.0.255.0")),
        ("refuses the netmask of everything", wrong_range("SYS.1007", "netmask[0.0.0.0] is not a netmask*", netmask="0.0.0.0")),
        ("refuses the network address", wrong_range("SYS.1007", "ip allocation can not contain network address or broadcast address", startIp="10.9.0.0")),
        ("fails for a start behind the end", wrong_range("SYS.1000", "[10.9.0.20, 10.9.0.19] is not an invalid ip range, end ip must be greater than start ip", startIp="10.9.0.20")),
        ("refuses the gateway as part of the range", wrong_range("SYS.1007", "gateway[10.9.0.15] can not be part of range[10.9.0.10, 10.9.0.19]", gateway="10.9.0.15")),
        ("refuses an overlap on the same network", wrong_range("SYS.1007", f"overlap with ip range[uuid:{IP_RANGE}, start ip:10.9.0.10, end ip: 10.9.0.19]", ip_range(), resourceUuid=OTHER_RANGE, startIp="10.9.0.19", endIp="10.9.0.29")),
        ("refuses an overlap on another network of the same L2", wrong_range("SYS.1007", f"overlap with ip range[uuid:{PUBLIC_RANGE}, start ip:10.20.0.2, end ip: 10.20.0.254]", startIp="10.20.0.9", endIp="10.20.0.19", gateway="10.20.0.1")),
        ("refuses another CIDR on the same network", wrong_range("SYS.1007", f"multiple CIDR on the same L3 network is not allowed. There has been a IP range[uuid:{IP_RANGE}, CIDR:10.9.0.0/24], the new IP range[CIDR:10.8.0.0/24] is not in the CIDR with the existing one", ip_range(), resourceUuid=OTHER_RANGE, startIp="10.8.0.9", endIp="10.8.0.19", gateway="10.8.0.1")),
        ("takes an overlap on another L2", Shown(same_range_elsewhere)),
        ("takes a second range of the same CIDR", Shown(second_range)),
        ("lists no address until it is used", gone(CREATE, ip_range(), of=("VmNic", "l3NetworkUuid", L3))),
        ("runs extensions, which adding by a CIDR does not", Uncovered("the open source has no such extension")),
        ("answers the range", answers(CREATE, ip_range(), uuid=IP_RANGE, startIp="10.9.0.10", endIp="10.9.0.19", l3NetworkUuid=L3)),
    ),
    *facts("AddIpRangeByNetworkCidr",
        ("refuses what is no CIDR", reserved("SYS.1007", "10.9.0.0", "10.9.0.0 is not a valid network cidr")),
        ("refuses a netmask", reserved("SYS.1007", "10.9.0.0/255.255.255.0", "*is not a valid network cidr")),
        ("refuses a prefix that is none", reserved("SYS.1007", "10.9.0.0/33", "10.9.0.0/33 is not a valid network cidr")),
        ("refuses a network of two addresses", reserved("SYS.1007", "10.9.0.0/31", "10.9.0.0/31 is not an allowed network cidr, because it doesn't have usable ip range")),
        ("refuses a network of one address", reserved("SYS.1007", "10.9.0.0/32", "10.9.0.0/32 is not an allowed network cidr*")),
        ("refuses what a range may not be", reserved("SYS.1007", "224.9.0.0/24", "the IP range[224.9.0.2 ~ 224.9.0.254] contains D class addresses which are for multicast")),
        ("refuses class E", reserved("SYS.1007", "241.9.0.0/24", "*E class*")),
        ("refuses link-local addresses", reserved("SYS.1007", "169.254.0.0/16", "*link local*")),
        ("refuses an overlap", reserved("SYS.1007", "10.20.0.0/16", f"overlap with ip range[uuid:{PUBLIC_RANGE}*")),
        ("refuses another CIDR", V("SYS.1007", CIDR | {"networkCidr": "10.8.0.0/24", "resourceUuid": OTHER_RANGE}, "multiple CIDR*", CREATE, ip_range())),
        ("takes the first address as the gateway, and the others", answers(CREATE, by_cidr("10.9.0.0/24"), gateway="10.9.0.1", startIp="10.9.0.2", endIp="10.9.0.254", netmask="255.255.255.0")),
        ("keeps the CIDR as it was sent", answers(CREATE, by_cidr("10.9.0.7/24"), networkCidr="10.9.0.7/24", gateway="10.9.0.1")),
        ("makes a range of one address of a network of four", Shown(bounds_of_a_narrow_cidr)),
    ),
    *facts("UpdateIpRange",
        ("changes name and description", leaves(("UpdateIpRange", {"uuid": PUBLIC_RANGE, "name": "n", "description": "d"}), of=("IpRange", PUBLIC_RANGE), name="n", description="d")),
        ("changes nothing else", leaves(("UpdateIpRange", {"uuid": PUBLIC_RANGE, "startIp": "10.20.0.100"}), of=("IpRange", PUBLIC_RANGE), startIp="10.20.0.2")),
    ),
    *facts("DeleteIpRange",
        ("succeeds for an unknown one", nothing(("DeleteIpRange", {"uuid": NOBODY}))),
        ("detaches the nics of running machines entirely", detached(WEB, DELETE_RANGE)),
        ("of stopped ones", detached(CI, DELETE_RANGE)),
        ("of paused ones", detached(OFFICE, DELETE_RANGE)),
        ("keeps nics without an address", kept(OLD, DELETE_RANGE)),
        ("leaves those of other machines without the range", Shown(nic_without_a_range)),
        ("leaves nics of other ranges", kept(WEB, ("DeleteIpRange", {"uuid": PUBLIC_RANGE}))),
        ("removes VIPs in it", gone(vip, ("DeleteIpRange", {"uuid": PUBLIC_RANGE}), of=("Vip", VIP))),
        ("with what hangs on them", gone(vip, ("DeleteIpRange", {"uuid": PUBLIC_RANGE}), of=("Eip", NEW_EIP))),
        ("removes appliances with an address in it", gone(appliance, ("DeleteIpRange", {"uuid": PUBLIC_RANGE}), of=("VmInstance", APPLIANCE))),
        ("removes those that are its gateway", gone(appliance, DELETE_RANGE, of=("VmInstance", APPLIANCE))),
        ("removes the range", gone(DELETE_RANGE, of=("IpRange", PRIVATE_RANGE))),
        ("keeps the network", leaves(DELETE_RANGE, of=("L3Network", PRIVATE), name="l3-private")),
        ("gives the address of the DHCP server back", Shown(dhcp_address_goes_with_its_range)),
        ("answers nothing", nothing(DELETE_RANGE)),
    ),
    *facts("AddDnsToL3Network",
        ("refuses what is no address", V("SYS.1007", dns("x")[1], "DNS[x] is not a IPv4 address", CREATE)),
        ("refuses one that is there", V("SYS.1006", dns("8.8.8.8")[1], f"there has been a DNS[8.8.8.8] on L3 network[uuid:{L3}]", CREATE, dns("8.8.8.8"))),
        ("needs no DNS service", answers(CREATE, dns("8.8.8.8"), dns=["8.8.8.8"])),
        ("undoes it if the backend fails, with the bare error", Refused(failing("AddDnsToL3Network", l3NetworkUuid=PRIVATE, dns="8.8.8.8"), "SYS.1006", "the host does not answer")),
        ("answers DNS servers in the order of adding", answers(CREATE, dns("8.8.8.8"), dns("1.1.1.1"), dns=["8.8.8.8", "1.1.1.1"])),
    ),
    *facts("RemoveDnsFromL3Network",
        ("answers nothing for one that is not there", Shown(nothing_to_remove)),
        ("answers the network otherwise", answers(CREATE, dns("8.8.8.8"), dns("1.1.1.1"), dns("8.8.8.8", "RemoveDnsFromL3Network"), uuid=L3, dns=["1.1.1.1"])),
    ),
    *facts("AddHostRouteToL3Network",
        ("refuses what is no CIDR, and names the network", V("SYS.1007", route("x", nexthop="10.9.0.1")[1], f"prefix [{L3}] is not a IPv4 network cidr", CREATE)),
        ("refuses what is no address", V("SYS.1007", route("10.8.0.0/16", nexthop="x")[1], "nexthop[x] is not a IPv4 address", CREATE)),
        ("refuses a prefix that is there", V("SYS.1006", route("10.8.0.0/16", nexthop="10.9.0.2")[1], f"there has been a hostroute for prefix[10.8.0.0/16] on L3 network[uuid:{L3}]", CREATE, serve("HostRoute"), route("10.8.0.0/16", nexthop="10.9.0.1"))),
        ("refuses a network without that service", V("SYS.1006", route("10.8.0.0/16", nexthop="10.9.0.1")[1], f"L3Network [uuid: {L3}] does not have host route service", CREATE, serve("DHCP"))),
        ("is served by the Flat provider", answers(CREATE, serve("HostRoute"), route("10.8.0.0/16", nexthop="10.9.0.1"), uuid=L3)),
        ("takes a prefix with bits of a host", Shown(prefix_as_sent)),
    ),
    *facts("RemoveHostRouteFromL3Network",
        ("refuses what is no CIDR", V("SYS.1007", route("x")[1], f"prefix [{L3}] is not a IPv4 network cidr", CREATE)),
        ("refuses a prefix that is not there", V("SYS.1006", route("10.8.0.0/16")[1], f"there is no hostroute for prefix[10.8.0.0/16] on L3 network[uuid:{L3}]", CREATE)),
        ("removes the route", answers(CREATE, serve("HostRoute"), route("10.8.0.0/16", nexthop="10.9.0.1"), route("10.8.0.0/16", "RemoveHostRouteFromL3Network"), hostRoute=[])),
        ("fails where other services are, and the route is gone", Shown(route_is_gone_nevertheless)),
        ("succeeds without any service", Shown(route_without_services)),
    ),
    *facts("SetL3NetworkMtu",
        ("replaces its tag", Shown(tag_of_the_mtu)),
        ("answers no inventory", Shown(success_only)),
    ),
    *facts("GetL3NetworkMtu",
        ("answers the tag", answers(CREATE, on_new("SetL3NetworkMtu", mtu=1400), on_new("GetL3NetworkMtu"), mtu=1400)),
        ("answers the default of the type of the L2 network", answers(CREATE, on_new("GetL3NetworkMtu"), mtu=1500)),
        ("answers it even if it was changed", answers(configured("networkService", "defaultDhcpMtu.l2NoVlanNetwork", "9000"), CREATE, on_new("GetL3NetworkMtu"), mtu=1500)),
    ),
    *facts("SetL3NetworkRouterInterfaceIp",
        ("refuses what is no address", V("SYS.1007", router_ip("x")[1], "invalid IP[x]", CREATE, ip_range())),
        ("refuses a network without a range", V("SYS.1007", router_ip("10.9.0.2")[1], f"no ip range in l3[{L3}]", CREATE)),
        ("refuses an address outside", V("SYS.1007", router_ip("10.8.0.2")[1], f"ip[10.8.0.2] is not in the cidr of ip range[uuid:{IP_RANGE}, cidr:10.9.0.1/24] which l3 network[{L3}] attached", CREATE, ip_range())),
        ("refuses an address of a range", V("SYS.1007", router_ip("10.9.0.10")[1], f"ip[10.9.0.10] in ip range[uuid:{IP_RANGE}, startIp:10.9.0.10, endIp:10.9.0.19] which l3 network[{L3}] attached, this is not allowed", CREATE, ip_range())),
        ("takes the gateway", tags(CREATE, ip_range(), router_ip("10.9.0.1"), uuid=L3, are=["routerInterfaceIp::10.9.0.1"])),
        ("keeps the tag of the address before", Shown(two_tags_of_the_router)),
        ("fails for the same address again", V("SYS.1000", router_ip("10.9.0.2")[1], "duplicate system tag[uuid: *]", CREATE, ip_range(), router_ip("10.9.0.2"))),
        ("tells addresses apart that begin alike", tags(CREATE, ip_range(), router_ip("10.9.0.22"), router_ip("10.9.0.2"), uuid=L3, are=["routerInterfaceIp::10.9.0.22", "routerInterfaceIp::10.9.0.2"])),
    ),
    *facts("GetL3NetworkRouterInterfaceIp",
        ("answers the tag", answers(CREATE, ip_range(), router_ip("10.9.0.2"), on_new("GetL3NetworkRouterInterfaceIp"), routerInterfaceIp="10.9.0.2")),
        ("answers the gateway of the first range otherwise", answers(*TWO_RANGES, on_new("GetL3NetworkRouterInterfaceIp"), routerInterfaceIp="10.9.0.1")),
        ("answers none without a range", answers(CREATE, on_new("GetL3NetworkRouterInterfaceIp"), routerInterfaceIp=ABSENT)),
    ),
    *facts("GetL3NetworkDhcpIpAddress",
        ("refuses a network on which no machine was made", V("SYS.1006", {"l3NetworkUuid": PUBLIC}, f"Cannot find DhcpIp for l3 network[uuid:{PUBLIC}]", serve("DHCP", l3=PUBLIC))),
        ("refuses one with another DHCP server", V("SYS.1006", {"l3NetworkUuid": PUBLIC}, f"Cannot find DhcpIp for l3 network[uuid:{PUBLIC}]", FIRST_VM, serve("DHCP", l3=PUBLIC, provider=ROUTER), STOP_NEW, START_NEW)),
        ("answers the address that the first machine has brought", Shown(address_of_the_dhcp_server)),
        ("has a random address", Shown(random_dhcp_addresses)),
        ("has an address that nobody else gets", capacity(serve("DHCP", l3=PUBLIC), FIRST_VM, total=253, used=3, l3NetworkUuids=[PUBLIC])),
    ),
    *facts("CheckIpAvailability",
        ("refuses what is no address", V("SYS.1007", {"l3NetworkUuid": PUBLIC, "ip": "x"}, "invalid IP[x]")),
        ("denies an address outside", available("10.9.0.9", is_=False)),
        ("denies a gateway", available("10.9.0.1", is_=False)),
        ("denies the gateway of another range", available("10.9.0.15", ip_range(startIp="10.9.0.30", endIp="10.9.0.39", gateway="10.9.0.15", resourceUuid=OTHER_RANGE), is_=False)),
        ("denies a used one", available("10.9.0.12", on_new("CreateVip", name="v", requiredIp="10.9.0.12"), is_=False)),
        ("affirms any other", available("10.9.0.12", is_=True)),
    ),
    *facts("GetFreeIpOfL3Network",
        ("has no limit below 0", free(CREATE, ip_range(), l3NetworkUuid=L3, limit=-1, are=[f"10.9.0.{n}" for n in range(10, 20)])),
        ("answers an address for the limit 0", free(CREATE, ip_range(), l3NetworkUuid=L3, limit=0, are=["10.9.0.10"])),
        ("refuses neither range nor network", Uncovered("each of its paths names one of them")),
        ("begins at the start", free(CREATE, ip_range(), l3NetworkUuid=L3, start="10.9.0.18", are=["10.9.0.18", "10.9.0.19"])),
        ("or at the range", free(CREATE, ip_range(), l3NetworkUuid=L3, start="10.0.0.1", limit=1, are=["10.9.0.10"])),
        ("fails for a start that is no address", V("SYS.1000", {"l3NetworkUuid": PUBLIC, "start": "x"}, "x is not a valid ipv4 address")),
        ("leaves out used ones", free(CREATE, ip_range(), on_new("CreateVip", name="v", requiredIp="10.9.0.10"), l3NetworkUuid=L3, limit=2, are=["10.9.0.11", "10.9.0.12"])),
        ("answers range, netmask and gateway", answers(CREATE, ip_range(), on_new("GetFreeIpOfL3Network", limit=1), inventories=[{"ipRangeUuid": IP_RANGE, "ip": "10.9.0.10", "netmask": "255.255.255.0", "gateway": "10.9.0.1"}])),
        ("goes through the ranges in order", free(*TWO_RANGES, l3NetworkUuid=L3, limit=12, are=[*(f"10.9.0.{n}" for n in range(10, 20)), "10.9.0.30", "10.9.0.31"])),
        ("takes what was found from the limit at each range anew", free(*SMALL_RANGES, l3NetworkUuid=L3, limit=10, are=[*(f"10.9.0.{n}" for n in (11, 12, 13, 14, 22, 23, 24, 25)), "10.9.0.33"])),
    ),
    *facts("GetFreeIpOfIpRange",
        ("answers those of the range", free(*TWO_RANGES, ipRangeUuid=OTHER_RANGE, limit=2, are=["10.9.0.30", "10.9.0.31"])),
        ("knows its network", free(CREATE, ip_range(), on_new("CreateVip", name="v", requiredIp="10.9.0.10"), ipRangeUuid=IP_RANGE, limit=1, are=["10.9.0.11"])),
    ),
    *facts("GetIpAddressCapacity",
        ("takes all zones where none is named", capacity(total=506, used=len(range(11)), all="true")),
        ("answers zeros without a zone", Shown(no_zone_at_all)),
        ("refuses nothing at all", V("SYS.1007", {}, "ipRangeUuids, L3NetworkUuids, zoneUuids must have at least one be none-empty list, or all is set to true")),
        ("counts all addresses of ranges", capacity(*TWO_RANGES, total=20, l3NetworkUuids=[L3])),
        ("counts virtual IPs", capacity(CREATE, ip_range(), on_new("CreateVip", name="v"), total=10, used=1, l3NetworkUuids=[L3])),
        ("counts nics of stopped machines", capacity(STOP, total=253, used=10, ipRangeUuids=[PRIVATE_RANGE])),
        ("prefers ranges to networks", capacity(*TWO_RANGES, total=10, ipRangeUuids=[IP_RANGE], l3NetworkUuids=[L3], all="true")),
        ("prefers networks to zones", capacity(*TWO_RANGES, total=20, l3NetworkUuids=[L3], zoneUuids=[ZONE])),
    ),
    *facts("GetL3NetworkTypes",
        ("answers the types", answers(("GetL3NetworkTypes", {}), types=["L3BasicNetwork", "L3VpcNetwork"])),
    ),
    *facts("GetNetworkServiceTypes",
        ("answers the providers of each service", Shown(providers_by_service)),
    ),
    *facts("AttachNetworkServiceToL3Network",
        ("refuses an empty map", V("SYS.1007", services({}), "networkServices cannot be empty", CREATE)),
        ("refuses an empty list", V("SYS.1007", services({FLAT: []}), f"network service for provider[uuid:{FLAT}] must be specified", CREATE)),
        ("refuses an unknown provider", V("SYS.1007", services({NOBODY: ["DHCP"]}), f"cannot find network service provider[uuid:{NOBODY}] or it provides no services", CREATE)),
        ("refuses what it does not provide", V("SYS.1007", services({FLAT: ["DHCP", "SNAT"]}), f"network service provider[uuid:{FLAT}] doesn't provide services[SNAT]", CREATE)),
        ("refuses a service that is there, from any provider", Shown(no_second_router)),
        ("refuses EIPs of a router without SNAT", V("SYS.1007", services({ROUTER: ["Eip"]}), f"failed tot attach virtual router network services to l3Network[uuid:{L3}]. When eip is selected, snat must be selected too", CREATE)),
        ("refuses port forwarding of a router without SNAT", V("SYS.1007", services({ROUTER: ["PortForwarding"]}), f"failed tot attach virtual router network services to l3Network[uuid:{L3}]. When port forwarding is selected, snat must be selected too", CREATE)),
        ("takes them with SNAT", answers(CREATE, serve("Eip", "PortForwarding", "SNAT", provider=ROUTER), uuid=L3)),
        ("takes them after SNAT", answers(CREATE, serve("SNAT", provider=ROUTER), serve("Eip", provider=ROUTER), uuid=L3)),
        ("takes EIPs of the Flat provider without SNAT", answers(CREATE, serve("Eip"), uuid=L3)),
        ("asks for no tie of provider and L2 network", Shown(provider_of_another_network)),
        ("takes a service twice in a call", Shown(one_type_twice_in_a_call)),
        ("changes no machine", Shown(machines_keep_what_they_have)),
        ("works from the next start of a machine on", Shown(works_from_the_next_start)),
        ("answers the network", answers(CREATE, serve("DHCP"), networkServices=[{"l3NetworkUuid": L3, "networkServiceProviderUuid": FLAT, "networkServiceType": "DHCP"}])),
    ),
    *facts("DetachNetworkServiceFromL3Network",
        ("takes a map in the query string", answers(CREATE, serve("DHCP", "Eip"), detach("DHCP", L3, FLAT), networkServices=[{"l3NetworkUuid": L3, "networkServiceProviderUuid": FLAT, "networkServiceType": "Eip"}])),
        ("ignores what is not attached", answers(CREATE, serve("DHCP"), detach("Eip", L3, FLAT), uuid=L3)),
        ("ignores an unknown provider", answers(CREATE, detach("DHCP", L3, NOBODY), uuid=L3)),
        ("looks at no user of a service", Shown(services_in_use)),
        ("answers the network", answers(CREATE, serve("DHCP"), detach("DHCP", L3, FLAT), networkServices=[])),
    ),
    *facts("QueryNetworkServiceProvider",
        ("answers those that every cloud has", Shown(providers_at_the_start)),
    ),
    *facts("CreateVip",
        ("takes an address of any range, at random", Shown(addresses_of_all_ranges)),
        ("refuses a full network", V("L3.1000", {"name": "v", "l3NetworkUuid": FULL}, f"IP allocator strategy[RandomIpAllocatorStrategy] failed, because no ip is available in this l3Network[name:l3-full, uuid:{FULL}]", full_network)),
        ("refuses an address in no range", V("L3.1000", {"name": "v", "l3NetworkUuid": PUBLIC, "requiredIp": "10.1.1.1"}, f"cannot find ip range that has ip[10.1.1.1] in l3Network[uuid:{PUBLIC}]")),
        ("takes gateway and netmask of the range", Shown(address_with_its_place)),
        ("takes an address that was given back at once", Shown(address_is_free_at_once)),
    ),
    *facts("SetVmStaticIp",
        ("refuses an address that is taken", V("L3.1000", {"vmInstanceUuid": CI, "l3NetworkUuid": PRIVATE, "ip": "192.168.100.2"}, "IP allocator strategy[RandomIpAllocatorStrategy] failed, because IP[192.168.100.2] is not available")),
    ),
    *facts("UsedIp",
        ("has a uuid that follows from range and address", Shown(same_address_same_uuid)),
    ),
    *facts("cascades",
        ("the tags of a network go with it", Shown(tags_go_too)),
        ("the network goes with its L2 network", gone(("DeleteL2Network", {"uuid": L2_PRIVATE}), of=("L3Network", PRIVATE))),
        ("the nics go with the L2 network", detached(WEB, ("DeleteL2Network", {"uuid": L2_PRIVATE}))),
        ("the range goes with the zone", gone(("DeleteZone", {"uuid": ZONE}), of=("IpRange", PRIVATE_RANGE))),
        ("the network goes with its account, the L2 network does not", Shown(network_of_a_deleted_account)),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
