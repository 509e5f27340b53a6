"""What the real server does with router offerings, virtual routers and appliances, fact by fact, in both dialects.

The facts follow the calls. Between them are those on how a router comes into being and goes. PRIVATE gets its services from
the provider VirtualRouter, so that the first machine which starts there makes its router once there is an offering.
"""

import pytest
from asking import each
from facts import Refused, Shown, Uncovered, chain, changed, check, error_of, take
from test_facts_l3 import FLAT, L2_PRIVATE, PUBLIC_RANGE, ROUTER, detach, serve
from test_facts_nics import L2_PUBLIC, attach
from test_facts_vm import (
    ABSENT,
    CENTOS,
    CI,
    GIB,
    HOST1,
    ISO,
    LOST,
    NEW,
    PRIVATE,
    PUBLIC,
    SMALL,
    VM,
    WEB,
    ZONE,
    V,
    act,
    answers,
    as_ann,
    configured,
    facts,
    gone,
    leaves,
    made,
    nic_of,
    not_in_state,
    tagged,
)  # fmt: skip

import zmock
from zmock import named

OFFERING, OTHER, L3, L2, SECOND_ZONE, VROUTER = map(named, ("offering-new", "offering-2", "l3-new", "l2-new", "zone-2", "provider-vrouter"))
PARAMS = {"name": "o", "zoneUuid": ZONE, "managementNetworkUuid": PUBLIC, "imageUuid": CENTOS, "cpuNum": 1, "memorySize": GIB, "resourceUuid": OFFERING}
OFFER = ("CreateVirtualRouterOffering", PARAMS)
MEDIA = f"image[uuid:{ISO}]'s mediaType is ISO, the mediaType of a virtual router image must be RootVolumeTemplate"
ISO_FORMAT = f"image[uuid:{CENTOS}] is of format iso, cannot be used for virtual router"
NOT_RUNNING = "We don't have HA feature now(it's coming soon), please restart it from UI and then try starting this vm again"


def offer(uuid=OTHER, **more):
    """A step that makes another offering."""
    return ("CreateVirtualRouterOffering", PARAMS | {"resourceUuid": uuid, "name": "other"} | more)


def update(uuid=OFFERING, **params):
    return ("UpdateVirtualRouterOffering", {"uuid": uuid} | params)


def network(*services, provider=ROUTER, cidr="10.9.0.0/24", category="Private", **more):
    """Steps that make the network L3, with services of a provider."""
    return (
        ("CreateL3Network", {"name": "guest", "l2NetworkUuid": L2_PRIVATE, "resourceUuid": L3, "category": category} | more),
        ("AddIpRangeByNetworkCidr", {"name": "r", "l3NetworkUuid": L3, "networkCidr": cidr}),
        *([serve(*services, provider=provider, l3=L3)] if services else []),
    )


ON_L3 = made(l3NetworkUuids=[L3])
ROUTED = (OFFER, made())  # the router of PRIVATE comes with the machine NEW


def default(*steps, are):
    """A story: the names of the default offerings."""

    async def story(mock):
        await take(mock, steps)
        assert sorted(item["name"] for item in await mock.query("instance-offerings/virtual-routers", "isDefault=true")) == list(are)

    return Shown(story)


def as_an_account(message, api, **params):
    """A refusal of the flag of a default offering to normal accounts."""
    return Refused(as_ann("vm.num", 20, OFFER, ("ShareResource", {"resourceUuids": [PUBLIC, OFFERING], "toPublic": True}), **params), "ID.1002", message)


async def second_zone(mock):
    """Another zone, of which the network L3 is."""
    mock.cloud.add("Zone", name="z2", uuid=SECOND_ZONE)
    mock.cloud.add("L2Network", name="l2", uuid=L2, zoneUuid=SECOND_ZONE, type="L2NoVlanNetwork")
    mock.cloud.add("L3Network", name="l3", uuid=L3, zoneUuid=SECOND_ZONE, l2NetworkUuid=L2)
    await mock.call("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=L3, networkCidr="10.9.0.0/24")


def routers_in(mock):
    return sorted(mock.cloud.find("VmInstance", "type", "ApplianceVm"), key=lambda vm: vm["createDate"])


def nics_in(mock, router):
    nics = sorted(mock.cloud.find("VmNic", "vmInstanceUuid", router["uuid"]), key=lambda nic: nic["deviceId"])
    return [(nic["l3NetworkUuid"], nic["metaData"]) for nic in nics]


def routes(*steps, number=1, nics=None, ip=None, **fields):
    """A story: how many routers there are after some steps, with the nics and fields of the first, and the last of its addresses."""

    async def story(mock):
        await take(mock, steps)
        routers = routers_in(mock)
        assert len(routers) == number
        if routers:
            assert nics is None or nics_in(mock, routers[0]) == nics
            shown = mock.cloud.inventory("VirtualRouterVm", routers[0])
            assert {name: shown.get(name, ABSENT) for name in fields} == fields
            addresses = [nic["ip"] for nic in shown["vmNics"]]
            assert ip is None or addresses[-1] == ip or (callable(ip) and ip(addresses[-1]))

    return Shown(story)


def no_start(code, details, *steps, l3=L3):
    """A creation of a machine on L3 that fails."""
    return V(code, VM | {"l3NetworkUuids": [l3]}, details, *steps)


def on_router(api, code, details, *steps, name="vmInstanceUuid", changes=False, **params):
    """A call on the router of PRIVATE that is refused."""

    async def state(mock):
        await take(mock, [*ROUTED, *steps])
        (router,) = routers_in(mock)
        return {name: router["uuid"]} | params

    return Refused(state, code, details, changes)


def after_all(*steps, of=()):
    """Make a fact's case of a function of a mock and the router of PRIVATE."""

    def shown(function):
        async def story(mock):
            await take(mock, [*(of or ROUTED), *steps])
            (router,) = routers_in(mock)
            await function(mock, router)

        return Shown(story)

    return shown


def on_it(api, name="uuid", **params):
    """A step that makes a call on the only router."""

    async def step(mock):
        (router,) = routers_in(mock)
        return await mock.call(api, **{name: router["uuid"]} | params)

    return step


STOP_IT, DESTROY_IT = on_it("StopVmInstance"), on_it("DestroyVmInstance")


# offerings


async def offering_as_answered(mock):
    made = (await take(mock, [("CreateVirtualRouterOffering", PARAMS | {"type": "UserVm", "sortKey": 5})]))["inventory"]
    values = {"type": "VirtualRouter", "managementNetworkUuid": PUBLIC, "publicNetworkUuid": PUBLIC, "zoneUuid": ZONE, "imageUuid": CENTOS, "sortKey": 0}
    assert values.items() <= made.items() and made["state"] == "Enabled"
    assert await mock.query("instance-offerings", f"uuid={OFFERING}") == await mock.query("instance-offerings/virtual-routers") == [made]


async def as_before(mock):
    before = (await take(mock, [OFFER]))["inventory"]["allocatorStrategy"]
    await take(mock, [update(name="n", allocatorStrategy="DesignatedHostAllocatorStrategy")])
    item = mock.cloud.look("InstanceOffering", OFFERING)
    assert (item["name"], item["allocatorStrategy"]) == ("n", before)


def offering_is(*conditions):
    async def story(mock):
        await take(mock, [OFFER])
        assert len(await mock.query("instance-offerings/virtual-routers", *conditions)) == 1

    return Shown(story)


# routers


@after_all()
async def vip_of_a_router(mock, router):
    (shown,) = await mock.query("vm-instances/appliances/virtual-routers")
    (vip,) = await mock.query("vips", "useFor=SNAT")
    values = {"name": f"vip-for-{router['name']}", "description": "Vip backend created for virtual router", "l3NetworkUuid": PUBLIC,
              "ip": shown["vmNics"][0]["ip"], "serviceProvider": "VirtualRouter", "peerL3NetworkUuids": [PRIVATE], "state": "Enabled"}  # fmt: skip
    assert values.items() <= vip.items() and shown["virtualRouterVips"] == [vip["uuid"]]


async def serve_vip(mock, vip):
    """Let the provider of PRIVATE serve a virtual IP. Return why it cannot."""
    with pytest.raises(zmock.ApiError) as error:
        mock.cloud.notice("serving", "L3Network", mock.cloud.look("L3Network", PRIVATE), vip)
    assert error.value.code == "SYS.1006"
    return error.value.details


async def vip_of_a_stopped_router(mock):
    await take(mock, [*ROUTED, STOP_IT])
    (vip,), (router,) = mock.cloud.find("Vip", "useFor", "SNAT"), routers_in(mock)
    assert await serve_vip(mock, vip) == f"virtual router[uuid:{router['uuid']}, state:Stopped] is not running"


async def vip_out_of_reach(mock):
    vip = (await take(mock, [*network(), offer(publicNetworkUuid=L3), ("CreateVip", {"name": "v", "l3NetworkUuid": PUBLIC})]))["inventory"]
    assert await serve_vip(mock, vip) == (
        f"found a virtual router offering[uuid:{OTHER}] for L3Network[uuid:{PRIVATE}] in zone[uuid:{ZONE}]; however, the network's public "
        f"network[uuid:{L3}] is not the same to VIP[uuid:{vip['uuid']}]'s; you may need to use system tag guestL3Network::l3NetworkUuid to "
        "specify a particular virtual router offering for the L3Network")  # fmt: skip


async def every_other_host_is_away(mock):
    for host in [*mock.cloud.store.rows("Host")]:
        if host["uuid"] != routers_in(mock)[0]["hostUuid"]:
            mock.cloud.change("Host", host["uuid"], status="Disconnected")


async def destroyed_router(mock):
    await take(mock, [configured("vm", "deletionPolicy", "Never"), *ROUTED])
    (router,) = routers_in(mock)
    await take(mock, [DESTROY_IT])
    assert not routers_in(mock) and not mock.cloud.find("VmNic", "vmInstanceUuid", router["uuid"])
    assert not mock.cloud.find("Vip", "useFor", "SNAT") and mock.cloud.look("VmInstance", NEW)["state"] == "Running"


async def owner_of_a_router(mock):
    await take(mock, [OFFER, as_ann("vm.num", 1)])
    ann, mock.session = mock.cloud.find("Account", "name", "ann")[0]["uuid"], ""
    await mock.login()
    await mock.call("ChangeResourceOwner", accountUuid=ann, resourceUuid=PRIVATE)
    body = {"logInByAccount": {"accountName": "ann", "password": "p"}}
    mock.session = (await mock.request("PUT", "/accounts/login", body))[1]["inventory"]["uuid"]
    await take(mock, [made()])
    (router,) = routers_in(mock)
    assert router["owner"] == mock.cloud.find("Vip", "useFor", "SNAT")[0]["owner"] == ann
    assert router["owner"] == mock.cloud.find("Volume", "vmInstanceUuid", router["uuid"])[0]["owner"]
    usage = {item["name"]: item["used"] for item in (await mock.call("GetAccountQuotaUsage", uuid=ann))["usages"]}
    assert (usage["vm.num"], usage["vip.num"]) == (1, 1)


async def router_of_another(mock):
    await take(mock, [OFFER, as_ann("vm.num", 1), made()])
    assert [vm["uuid"] for vm in await mock.query("vm-instances")] == [NEW] and routers_in(mock)[0].get("owner", zmock.ADMIN) == zmock.ADMIN


async def kinds_of_references(mock):
    await take(mock, ROUTED)
    (router,) = routers_in(mock)
    for uuid, kind in ((router["uuid"], "VirtualRouterVmVO"), (OFFERING, "VirtualRouterOfferingVO"), (NEW, "VmInstanceVO"), (SMALL, "InstanceOfferingVO")):
        (ref,) = await mock.query("accounts/resources/refs", f"resourceUuid={uuid}")
        assert ref["resourceType"] == kind


@after_all(of=(OFFER, tagged(OFFERING, "vrouter", type="InstanceOfferingVO"), made()))
async def tags_of_the_offering(mock, router):
    assert "vrouter" in [tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", router["uuid"])]


@after_all()
async def router_as_shown(mock, router):
    (shown,) = await mock.query("vm-instances/appliances")
    offering, image = mock.cloud.look("InstanceOffering", OFFERING), mock.cloud.look("Image", CENTOS)
    values = {"type": "ApplianceVm", "applianceVmType": "VirtualRouter", "state": "Running", "status": "Connected", "cpuNum": offering["cpuNum"], "memorySize": GIB,
              "instanceOfferingUuid": OFFERING, "imageUuid": CENTOS, "platform": image["platform"], "zoneUuid": ZONE, "managementNetworkUuid": PUBLIC,
              "defaultRouteL3NetworkUuid": PUBLIC, "name": f"vrouter.l3.l3-private.{PRIVATE[:6]}"}  # fmt: skip
    assert values.items() <= shown.items() and "description" not in shown and shown["agentPort"]
    assert (await mock.query("vm-instances/appliances/virtual-routers"))[0]["publicNetworkUuid"] == PUBLIC


async def a_failure_leaves_no_router(mock):
    await take(mock, [offer(OFFERING, cpuNum=1000)])
    errors = chain(await error_of(mock, "CreateVmInstance", VM))
    assert errors and not routers_in(mock) and not mock.cloud.look("VmInstance", NEW) and not mock.cloud.find("Vip", "useFor", "SNAT")


def router_knows(*conditions):
    @after_all()
    async def story(mock, router):
        assert [item["uuid"] for item in await mock.query("vm-instances/appliances/virtual-routers", *conditions)] == [router["uuid"]]

    return story


async def reconnected(mock):
    await take(mock, ROUTED)
    (router,) = routers_in(mock)
    answer = (await mock.call("ReconnectVirtualRouter", vmInstanceUuid=router["uuid"]))["inventory"]
    assert (answer["uuid"], answer["status"]) == (router["uuid"], "Connected")


async def reconnection_fails(mock):
    await take(mock, ROUTED)
    (router,) = routers_in(mock)
    mock.rule(api="ReconnectVirtualRouter", then={"error": "SYS.1006", "stage": "reconnect"})
    assert (await error_of(mock, "ReconnectVirtualRouter", {"vmInstanceUuid": router["uuid"]}))["code"] == "SYS.1006"
    assert mock.cloud.look("VmInstance", router["uuid"])["status"] == "Disconnected"


def attachable(*steps, are):
    """A story: the names of the networks that the router of PRIVATE may get."""

    async def story(mock):
        await take(mock, [*ROUTED, *steps])
        (router,) = routers_in(mock)
        found = (await mock.call("GetAttachablePublicL3ForVRouter", vmInstanceUuid=router["uuid"]))["inventories"]
        assert [l3["name"] for l3 in found] == list(are)

    return Shown(story)


def attached(*steps, category="Private", metadata="4"):
    """A story: what a nic of a router on L3 is for."""

    async def story(mock):
        await take(mock, [*ROUTED, *network(category=category)])
        (router,) = routers_in(mock)
        await take(mock, [attach(router["uuid"], L3)])
        assert nics_in(mock, router)[-1] == (L3, metadata)
        await take(mock, steps)
        return router

    return story


async def second_router_of_a_network(mock):
    await take(mock, [OFFER, *network("SNAT", type="L3VpcNetwork")])
    for name in ("a", "b"):
        router = (await mock.call("CreateVpcVRouter", name=name, virtualRouterOfferingUuid=OFFERING))["inventory"]["uuid"]
        await take(mock, [attach(router, L3)])
    ips = [nic["ip"] for nic in mock.cloud.find("VmNic", "l3NetworkUuid", L3)]
    assert ips[0] == "10.9.0.1" and len({*ips}) == 2


EIP_1 = named("eip-1")


async def attach_eip(mock):
    return await mock.call("AttachEip", eipUuid=EIP_1, vmNicUuid=nic_of(mock)["uuid"])


async def lost_machine(mock):
    await take(mock, [("DetachEip", {"uuid": EIP_1}), detach("Eip"), serve("Eip", l3=PRIVATE), *LOST])
    return {"eipUuid": EIP_1, "vmNicUuid": nic_of(mock)["uuid"]}


async def additional_network_is_deleted(mock):
    router = await attached(("DeleteL3Network", {"uuid": L3}), category="Public", metadata="8")(mock)
    assert nics_in(mock, mock.cloud.look("VmInstance", router["uuid"])) == [(PUBLIC, "3"), (PRIVATE, "4")]


async def machines_stay(mock):
    await take(mock, [*ROUTED, ("DeleteL3Network", {"uuid": PUBLIC})])
    assert not routers_in(mock) and mock.cloud.look("VmInstance", NEW) and not mock.cloud.look("InstanceOffering", OFFERING)


async def capacity_of_the_public_network(mock):
    async def available():
        return (await mock.call("GetIpAddressCapacity", l3NetworkUuids=[PUBLIC]))["availableCapacity"]

    before = await available()
    await take(mock, ROUTED)
    assert await available() == before - 1


NO_OFFERING = f"unable to find a virtual router offering for l3Network[uuid:{L3}] in zone[uuid:{ZONE}], please at least create a default virtual router offering in that zone"
OVERLAP = "cannot create virtual Router vm while virtual router network overlaps with private network in ip "

FACTS = (
    *facts("CreateVirtualRouterOffering",
        ("refuses an unknown strategy", V("SYS.1007", PARAMS | {"allocatorStrategy": "x"}, "unsupported host allocation strategy[x]")),
        ("refuses less than 16 MiB", V("SYS.1007", PARAMS | {"memorySize": 16777215}, "memory size[16777215 bytes] is less than 16M*")),
        ("refuses the flag of the default one to accounts", as_an_account("cannot create a virtual router offering with the default field set; only admin can do the operation", "CreateVirtualRouterOffering", **PARAMS | {"isDefault": False, "resourceUuid": OTHER})),
        ("refuses a management network of another zone", V("SYS.1007", PARAMS | {"managementNetworkUuid": L3, "publicNetworkUuid": PUBLIC}, f"management network[uuid:{L3}] is not in the same zone[uuid:{ZONE}] this offering is going to create", second_zone)),
        ("refuses a management network without a range", V("SYS.1006", PARAMS, f"the management network[uuid:{PUBLIC}] doesn't have any IP range", ("DeleteIpRange", {"uuid": PUBLIC_RANGE}))),
        ("refuses a gateway out of reach", Uncovered("no packet flows: every gateway is reached")),
        ("refuses a public network of another zone, and names the management network", V("SYS.1007", PARAMS | {"publicNetworkUuid": L3}, f"public network[uuid:{PUBLIC}] is not in the same zone[uuid:{ZONE}] this offering is going to create", second_zone)),
        ("refuses an image of another type", V("SYS.1007", PARAMS | {"imageUuid": ISO}, MEDIA)),
        ("refuses an image in the format of ISOs", V("SYS.1007", PARAMS, ISO_FORMAT, changed("Image", CENTOS, format="iso"))),
        ("refuses a management network with SNAT", V("SYS.1007", PARAMS | {"managementNetworkUuid": PRIVATE, "publicNetworkUuid": PUBLIC}, f"the L3 network[uuid: {PRIVATE}] has the SNAT service enabled, it cannot be used as a management network")),
        ("refuses a public network with SNAT", V("SYS.1007", PARAMS | {"publicNetworkUuid": PRIVATE}, f"the L3 network[uuid: {PRIVATE}] has the SNAT service enabled, it cannot be used as a public network")),
        ("is of the type VirtualRouter, without sortKey", Shown(offering_as_answered)),
        ("takes the management network for the public one", answers(OFFER, publicNetworkUuid=PUBLIC)),
        ("makes the first of a zone the default", answers(offer(isDefault=False), isDefault=True)),
        ("makes no other the default", default(OFFER, offer(), are=["o"])),
        ("moves the flag", default(OFFER, offer(isDefault=True), are=["other"])),
        ("makes the first of another zone its default", default(OFFER, second_zone, offer(zoneUuid=SECOND_ZONE, managementNetworkUuid=L3), are=["o", "other"])),
        ("has no default when that is deleted", default(OFFER, offer(), ("DeleteInstanceOffering", {"uuid": OFFERING}), are=[])),
    ),
    *facts("UpdateVirtualRouterOffering",
        ("refuses the flag of the default one to accounts", as_an_account("cannot change the default field of a virtual router offering; only admin can do the operation", "UpdateVirtualRouterOffering", uuid=OFFERING, isDefault=True)),
        ("refuses an image of another type", V("SYS.1007", update(imageUuid=ISO)[1], MEDIA, OFFER)),
        ("refuses an image in the format of ISOs", V("SYS.1007", update(imageUuid=CENTOS)[1], ISO_FORMAT, OFFER, changed("Image", CENTOS, format="iso"))),
        ("fails for an offering of machines", V("SYS.1000", update(SMALL, name="n")[1])),
        ("changes name, description and image", answers(OFFER, update(name="n", description="d", imageUuid=CENTOS), name="n", description="d", imageUuid=CENTOS)),
        ("ignores the strategy", Shown(as_before)),
        ("leaves the flag of other zones", default(OFFER, second_zone, offer(zoneUuid=SECOND_ZONE, managementNetworkUuid=L3), update(isDefault=True), are=["o", "other"])),
        ("moves the flag", default(OFFER, offer(), update(OTHER, isDefault=True), are=["other"])),
        ("drops the flag", default(OFFER, offer(), update(isDefault=False), are=[])),
        ("answers the offering", answers(OFFER, update(name="n"), uuid=OFFERING, type="VirtualRouter", zoneUuid=ZONE)),
    ),
    *facts("QueryVirtualRouterOffering",
        ("replaces a condition on the type", Uncovered("a condition on another type finds nothing, though one on the type of routers finds all")),
        ("knows networks, zone and image", offering_is("managementL3Network.name=l3-public", "publicL3Network.name=l3-public", "zone.name=zone-1", f"image.uuid={CENTOS}")),
    ),
    *facts("routers",
        ("come with the first machine that starts", routes(*ROUTED, number=1)),
        ("come with the first start of a stopped one", routes(OFFER, act("StartVmInstance", CI), number=1)),
        ("come with a nic of a running machine", routes(OFFER, *network("DHCP"), attach(WEB, L3), number=1)),
        ("do not come with a nic of a stopped machine", routes(OFFER, *network("DHCP"), attach(CI, L3), number=0)),
        ("do not come for services of the Flat provider", routes(OFFER, *network("DHCP", provider=FLAT), ON_L3, number=0)),
        ("have to run for a virtual IP that they have", Shown(vip_of_a_stopped_router)),
        ("have to reach the virtual IP", Shown(vip_out_of_reach)),
        ("serve the machines that come later", routes(*ROUTED, act("StartVmInstance", CI), number=1)),
        ("are of the default offering", routes(offer(), offer(OFFERING, name="x", isDefault=True), made(), instanceOfferingUuid=OFFERING)),
        ("are of any offering without a default one", routes(OFFER, update(isDefault=False), made(), instanceOfferingUuid=OFFERING)),
        ("are of the offering that is tagged for the network", routes(OFFER, offer(), tagged(OTHER, f"guestL3Network::{PRIVATE}", type="InstanceOfferingVO"), made(), instanceOfferingUuid=OTHER)),
        ("are not of a Disabled one that is tagged", routes(OFFER, offer(), tagged(OTHER, f"guestL3Network::{PRIVATE}", type="InstanceOfferingVO"), ("ChangeInstanceOfferingState", {"uuid": OTHER, "stateEvent": "disable"}), made(), instanceOfferingUuid=OFFERING)),

        ("have what the offering says", router_as_shown),
        ("are of the type vrouter for that provider", routes(OFFER, *network("DHCP", provider=VROUTER), ON_L3, applianceVmType="vrouter")),
        ("belong to the owner of the network, in no quota of machines", Shown(owner_of_a_router)),
        ("do not belong to the owner of the machine", Shown(router_of_another)),
        ("have a reference of their own kind, as offerings have", Shown(kinds_of_references)),
        ("have the tags of the offering", tags_of_the_offering),
        ("have a management and a guest nic", routes(*ROUTED, nics=[(PUBLIC, "3"), (PRIVATE, "4")])),
        ("have a management, a public and a guest nic", routes(*network(), offer(publicNetworkUuid=L3), made(), nics=[(PUBLIC, "2"), (L3, "1"), (PRIVATE, "4")])),
        ("serve their management network with its nic", routes(*network(), offer(publicNetworkUuid=L3), serve("DHCP", provider=ROUTER, l3=PUBLIC), made(l3NetworkUuids=[PUBLIC]), nics=[(PUBLIC, "6"), (L3, "1")])),
        ("serve it once", routes(*network(), offer(publicNetworkUuid=L3), serve("DHCP", provider=ROUTER, l3=PUBLIC), *(made(l3NetworkUuids=[PUBLIC], resourceUuid=named(f"vm-{n}")) for n in range(2)), number=1)),
        ("have the gateway of a network with SNAT", routes(OFFER, *network("SNAT"), ON_L3, ip="10.9.0.1")),
        ("have the address that is set for them", routes(OFFER, *network("DHCP"), tagged(L3, "routerInterfaceIp::10.9.0.200", type="L3NetworkVO"), ON_L3, ip="10.9.0.200")),
        ("have any address of a network without SNAT", routes(OFFER, *network("DHCP"), ON_L3, ip=lambda ip: ip.startswith("10.9.0.") and ip != "10.9.0.1")),
        ("leave the gateway to another one", Shown(second_router_of_a_network)),
        ("have the address that is set rather than the gateway", routes(OFFER, *network("SNAT"), tagged(L3, "routerInterfaceIp::10.9.0.200", type="L3NetworkVO"), ON_L3, ip="10.9.0.200")),
        ("have a virtual IP", vip_of_a_router),
        ("name the provider of SNAT in it", leaves(OFFER, *network("SNAT", provider=VROUTER), ON_L3, of=("Vip", "useFor", "SNAT"), serviceProvider="vrouter", peerL3NetworkUuids=[L3])),
        ("name no provider in it without SNAT", leaves(OFFER, *network("DHCP"), ON_L3, of=("Vip", "useFor", "SNAT"), serviceProvider=ABSENT, peerL3NetworkUuids=[L3])),
        ("are Starting and Connecting on their way", Uncovered("a router is made in one step of the start of a machine")),
        ("take one address for it", Shown(capacity_of_the_public_network)),
        ("leave nothing when they cannot be made", Shown(a_failure_leaves_no_router)),
        ("go at once when they are destroyed, with their virtual IP", Shown(destroyed_router)),
        ("stop as machines do", routes(*ROUTED, STOP_IT, state="Stopped", status="Disconnected")),
        ("start as machines do", routes(*ROUTED, STOP_IT, on_it("StartVmInstance"), state="Running", status="Connected")),
        ("go with a host if they cannot move", routes(OFFER, made(), every_other_host_is_away, lambda mock: mock.call("DeleteHost", uuid=routers_in(mock)[0]["hostUuid"]), number=0)),
        ("move when their host goes", routes(*ROUTED, lambda mock: mock.call("DeleteHost", uuid=routers_in(mock)[0]["hostUuid"]), state="Running")),
        ("stay when they do not run, and a host goes", routes(OFFER, made(hostUuid=HOST1), STOP_IT, lambda mock: mock.call("DeleteHost", uuid=routers_in(mock)[0]["lastHostUuid"]), state="Stopped")),
        ("move when a cluster is deleted", routes(OFFER, made(hostUuid=HOST1), lambda mock: mock.call("DeleteCluster", uuid=routers_in(mock)[0]["clusterUuid"]), state="Running")),
        ("stay when they do not run, and a cluster goes", routes(*ROUTED, STOP_IT, lambda mock: mock.call("DeleteCluster", uuid=routers_in(mock)[0]["clusterUuid"]), state="Stopped")),
        ("go with the zone", routes(*ROUTED, ("DeleteZone", {"uuid": ZONE}), number=0)),
        ("go with the network of their guests", routes(*ROUTED, ("DeleteL3Network", {"uuid": PRIVATE}), number=0)),
        ("go with their public network, as the offering does", Shown(machines_stay)),
        ("lose the nic of an additional network that goes", Shown(additional_network_is_deleted)),
    ),
    *facts("CreateVmInstance",
        ("needs a router that runs", no_start("SYS.1006 <- SYS.1006", f"virtual router[uuid:*] for l3 network[uuid:{PRIVATE}] is not in Running state, current state is Stopped. {NOT_RUNNING}", OFFER, act("StartVmInstance", CI), STOP_IT, l3=PRIVATE)),
        ("needs a public network for SNAT", no_start("SYS.1006 <- VR.1001", f"L3Network[uuid:{PRIVATE}, name:l3-private] requires SNAT service, but default virtual router offering[uuid:{OFFERING}, name:o] doesn't have a public network", OFFER, changed("InstanceOffering", OFFERING, publicNetworkUuid=None), l3=PRIVATE)),
        ("needs an offering", no_start("SYS.1006 <- VR.1002", NO_OFFERING, *network("DHCP"))),
        ("needs an Enabled offering", no_start("SYS.1006 <- VR.1002", NO_OFFERING, OFFER, ("ChangeInstanceOfferingState", {"uuid": OFFERING, "stateEvent": "disable"}), *network("DHCP"))),
        ("needs an offering of the zone", no_start("SYS.1006 <- VR.1002", NO_OFFERING, OFFER, changed("InstanceOffering", OFFERING, zoneUuid=SECOND_ZONE), *network("DHCP"))),
        ("needs a public network that overlaps no range of the guests", no_start("SYS.1006 <- SYS.1007", OVERLAP, OFFER, *network("DHCP", cidr="10.20.0.0/24"))),
        ("cannot be served on the public network of the router", no_start("SYS.1006 <- SYS.1007", OVERLAP, OFFER, serve("DHCP", provider=ROUTER, l3=PUBLIC), l3=PUBLIC)),
    ),
    *facts("router offerings",
        ("go with the management network", gone(OFFER, ("DeleteL3Network", {"uuid": PUBLIC}), of=("InstanceOffering", OFFERING))),
        ("go with the image", gone(OFFER, ("DeleteImage", {"uuid": CENTOS}), of=("InstanceOffering", OFFERING))),
    ),
    *facts("StartVmInstance",
        ("needs a router that runs", V("VM.1001 <- SYS.1006", {"uuid": CI}, f"virtual router[uuid:*] for l3 network[uuid:{PRIVATE}] is not in Running state, current state is Stopped. {NOT_RUNNING}", *ROUTED, STOP_IT)),
        ("is served by a router that runs again", leaves(*ROUTED, STOP_IT, on_it("StartVmInstance"), act("StartVmInstance", CI), of=("VmInstance", CI), state="Running")),
    ),
    *facts("AttachL3NetworkToVm",
        ("refuses a router a network without a range", on_router("AttachL3NetworkToVm", "SYS.1006", f"no ip ranges attached with l3 network[uuid:{L3}]", network()[0], l3NetworkUuid=L3)),
        ("refuses a router a network that overlaps", on_router("AttachL3NetworkToVm", "SYS.1006", f"unable to attach a L3 network. The cidr of l3[{L3}] to attach overlapped with l3[{PRIVATE}] already attached to vm", *network(cidr="192.168.0.0/16", l2NetworkUuid=L2_PUBLIC), l3NetworkUuid=L3)),
        ("adds a guest nic on a private network", Shown(attached())),
        ("adds a public nic on another one", Shown(attached(category="Public", metadata="8"))),
    ),
    *facts("AttachEip",
        ("needs the host of a machine with the Flat provider", Refused(lost_machine, "SYS.1006", f"unable to apply the EIP operation for the the vm[uuid:{WEB}, state:Paused], because cannot find the VM's hostUUid")),
        ("needs none with a router", leaves(("DetachEip", {"uuid": EIP_1}), *LOST, attach_eip, of=("Eip", EIP_1), guestIp="192.168.100.2")),
    ),
    *facts("ReconnectVirtualRouter",
        ("refuses one that does not run", on_router("ReconnectVirtualRouter", "SYS.1006 <- VM.1010", not_in_state("ReconnectVirtualRouter", "Stopped", "Running").replace("header.vm", "network.service.virtualrouter"), STOP_IT)),
        ("refuses a machine that is no router", V("SYS.1003", {"vmInstanceUuid": WEB}, "*")),
        ("connects, and answers the router", Shown(reconnected)),
        ("leaves one Disconnected if it fails", Shown(reconnection_fails)),
    ),
    *facts("GetAttachablePublicL3ForVRouter",
        ("answers networks that are not private", attachable(*network(category="Public"), are=["guest"])),
        ("answers system networks", attachable(*network(category="System", system=True), are=["guest"])),
        ("leaves out private ones", attachable(*network(), are=[])),
        ("answers Disabled ones", attachable(*network(category="Public"), ("ChangeL3NetworkState", {"uuid": L3, "stateEvent": "disable"}), are=["guest"])),
        ("leaves out that of its public nic", attachable(are=[])),
        ("leaves out those that overlap", attachable(*network(category="Public", cidr="192.168.0.0/16", l2NetworkUuid=L2_PUBLIC), are=[])),
        ("fails for one without a range", on_router("GetAttachablePublicL3ForVRouter", "SYS.1000", "*", network(category="Public")[0])),
    ),
    *facts("CloneVmInstance",
        ("refuses a router", on_router("CloneVmInstance", "SYS.1006", "vm[uuid:*] is an appliance, it can't be cloned", names=["c"])),
    ),
    *facts("QueryApplianceVm",
        ("finds routers", router_knows("applianceVmType=VirtualRouter", "status=Connected", "managementNetworkUuid not null", "defaultRouteL3NetworkUuid not null")),
    ),
    *facts("QueryVirtualRouterVm",
        ("knows the offering", router_knows(f"virtualRouterOffering.uuid={OFFERING}")),
        ("knows the virtual IP", router_knows("vip.useFor=SNAT")),
        ("knows what it knows of machines", router_knows("vmNics.l3NetworkUuid=" + PRIVATE, "rootVolume.type=Root", "image.uuid=" + CENTOS)),
        ("knows EIPs, port forwarding and load balancers", Uncovered("EIPs, rules and load balancers do not name their router")),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
