"""Virtual IPs and what uses them, security groups, services of networks: tables and stories, over HTTP."""

import re

import pytest

from zmock import named

PRIVATE, PUBLIC, VIP, EIP = (named(name) for name in ("l3-private", "l3-public", "vip-1", "eip-1"))
SECURITY, FLAT, NOBODY = named("provider-SecurityGroup"), named("provider-Flat"), "a" * 31 + "4"


@pytest.fixture
async def known(cloud):
    """What the tables below call by a name that begins with @: uuids of things that stand ready."""
    nics = {vm: (await cloud.query("vm-instances/nics", f"vmInstance.name={vm}"))[0]["uuid"] for vm in ("web-1", "web-2", "old-1")}
    made = {"vip": await cloud.create("CreateVip", name="v", l3NetworkUuid=PUBLIC), "used": await cloud.create("CreateVip", name="u", l3NetworkUuid=PUBLIC),
            "balanced": await cloud.create("CreateVip", name="b", l3NetworkUuid=PUBLIC), "idle": await cloud.create("CreateVip", name="i", l3NetworkUuid=PUBLIC),
            "certificate": await cloud.create("CreateCertificate", name="c", certificate="pem"), "group": await cloud.create("CreateSecurityGroup", name="g")}  # fmt: skip
    await cloud.act("vips", made["idle"]["uuid"], "changeVipState", stateEvent="disable")
    made["eip"] = await cloud.create("CreateEip", name="e", vipUuid=made["used"]["uuid"])
    made["balancer"] = await cloud.create("CreateLoadBalancer", name="l", vipUuid=made["balanced"]["uuid"])
    made["listener"] = await cloud.create("CreateLoadBalancerListener", name="w", loadBalancerUuid=made["balancer"]["uuid"], loadBalancerPort=80)
    made["secure"] = await cloud.create("CreateLoadBalancerListener", name="s", loadBalancerUuid=made["balancer"]["uuid"], loadBalancerPort=443,
                                        protocol="https", certificateUuid=made["certificate"]["uuid"])  # fmt: skip
    return {name: item["uuid"] for name, item in made.items()} | nics


def meant(value, known):
    """A value with each @name replaced by its uuid."""
    if isinstance(value, list):
        return [meant(one, known) for one in value]
    return re.sub(r"@([\w-]+)", lambda name: known[name[1]], value) if isinstance(value, str) else value


TCP = {"type": "Ingress", "protocol": "TCP", "startPort": 80, "endPort": 81}
REFUSED = (  # calls that come first, the call that is refused, and how
    ((), ("CreateVip", {"l3NetworkUuid": PUBLIC, "requiredIp": "x"}), "SYS.1007: requiredIp[x] is not in valid IPv4 mediaType"),
    ((), ("CreateVip", {"l3NetworkUuid": PUBLIC, "requiredIp": "10.20.0.2"}), f"SYS.1007: there is already a vip[10.20.0.2] on l3Network[uuid:{PUBLIC}]"),
    ((), ("CreateVip", {"l3NetworkUuid": PUBLIC, "requiredIp": "10.30.0.2"}), f"L3.1000: cannot find ip range that has ip[10.30.0.2] in l3Network[uuid:{PUBLIC}]"),
    ((), ("CreateEip", {"vipUuid": "@used"}), "SYS.1006: vip[uuid:@used] has been occupied other network service entity[Eip]"),
    ((), ("CreateEip", {"vipUuid": "@idle"}), "SYS.1006: vip[uuid:@idle] is not in state[Enabled], current state is Disabled"),
    ((), ("CreateEip", {"vipUuid": "@vip", "vmNicUuid": "@old-1"}), "SYS.1006: vm[uuid:%s] is Destroyed, it has to be Running or Stopped" % named("vm-old-1")),
    ((), ("AttachEip", {"eipUuid": EIP, "vmNicUuid": "@web-2"}), f"SYS.1006: eip[uuid:{EIP}] has attached to another vm nic[uuid:@web-1], can't attach again"),
    ((), ("DetachEip", {"uuid": "@eip"}), "SYS.1006: eip[uuid:@eip] has not attached to any vm nic"),
    ((), ("GetEipAttachableVmNics", {}), "SYS.1003"),
    ((), ("CreatePortForwardingRule", {"vipUuid": "@vip", "vipPortStart": 9, "vipPortEnd": 8, "protocolType": "TCP"}),
        "SYS.1007: vip port start[9] is greater than vip port end[8]"),
    ((), ("CreatePortForwardingRule", {"vipUuid": "@vip", "vipPortStart": 9, "protocolType": "TCP", "allowedCidr": "x"}), "SYS.1007: invalid CIDR[x]"),
    ((("CreatePortForwardingRule", {"vipUuid": "@vip", "vipPortStart": 8, "vipPortEnd": 9, "protocolType": "TCP", "resourceUuid": named("pf")}),),
        ("CreatePortForwardingRule", {"vipUuid": "@vip", "vipPortStart": 9, "protocolType": "TCP"}),
        f"SYS.1006: vip port range[vipStartPort:9, vipEndPort:9] overlaps with rule[uuid:{named('pf')}, vipStartPort:8, vipEndPort:9]"),
    ((), ("CreatePortForwardingRule", {"vipUuid": "@used", "vipPortStart": 9, "protocolType": "TCP"}),
        "SYS.1006: vip[uuid:@used] has been occupied other network service entity[Eip]"),
    ((), ("CreateLoadBalancer", {"vipUuid": "@used"}), "SYS.1006: vip[uuid:@used] has been occupied other network service entity[Eip]"),
    ((), ("CreateLoadBalancerListener", {"loadBalancerUuid": "@balancer", "loadBalancerPort": 80}),
        "SYS.1007: conflict loadBalancerPort[80], a listener of load balancer[uuid:@balancer] has used that port"),
    ((), ("CreateLoadBalancerListener", {"loadBalancerUuid": "@balancer", "loadBalancerPort": 81, "protocol": "https"}),
        "SYS.1007: https type of load balancer listener requires a certificate"),
    ((("AddVmNicToLoadBalancer", {"listenerUuid": "@listener", "vmNicUuids": ["@web-1"]}),),
        ("AddVmNicToLoadBalancer", {"listenerUuid": "@listener", "vmNicUuids": ["@web-2", "@web-1"]}),
        "SYS.1006: vm nic[uuid:@web-1] has been added to load balancer listener[uuid:@listener] already"),
    ((), ("RemoveVmNicFromLoadBalancer", {"listenerUuid": "@listener", "vmNicUuids": ["@web-1"]}),
        "SYS.1006: vm nic[uuid:@web-1] is not on load balancer listener[uuid:@listener]"),
    ((), ("AddCertificateToLoadBalancerListener", {"listenerUuid": "@listener", "certificateUuid": "@certificate"}),
        "SYS.1006: loadbalancer listener with type tcp does not need certificate"),
    ((), ("DeleteCertificate", {"uuid": "@certificate"}), "SYS.1006: certificate[uuid:@certificate] is in use by a load balancer listener"),
)  # fmt: skip


@pytest.mark.parametrize(("first", "call", "told"), REFUSED, ids=[f"{row[1][0]}-{n}" for n, row in enumerate(REFUSED)])
async def test_what_is_not_possible_now_is_refused_and_changes_nothing(cloud, known, first, call, told):
    for api, given in first:
        await cloud.call(api, **{"name": "n"} | {name: meant(value, known) for name, value in given.items()})
    (api, given), before = call, await everything(cloud)
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **{"name": "n"} | {name: meant(value, known) for name, value in given.items()})
    assert str(error.value).startswith(meant(told, known))
    assert await everything(cloud) == before


async def everything(cloud):
    collections = ("vips", "eips", "port-forwarding", "load-balancers", "certificates", "security-groups", "security-groups/vm-instances/nics", "l3-networks")
    return [await cloud.query(collection) for collection in collections]


async def test_an_eip_leads_from_a_vip_to_a_nic_and_frees_both(cloud, known):
    eip = await cloud.create("CreateEip", name="e", vipUuid=known["vip"], vmNicUuid=known["web-2"])
    (vip,), (nic,) = await cloud.query("vips", f"uuid={known['vip']}"), await cloud.query("vm-instances/nics", f"uuid={known['web-2']}")
    assert (eip["vipIp"], eip["guestIp"], vip["useFor"], vip["peerL3NetworkUuids"]) == (vip["ip"], nic["ip"], "Eip", [PRIVATE])
    detached = await cloud.create("DetachEip", uuid=eip["uuid"])
    assert not {"vmNicUuid", "guestIp"} & detached.keys()
    assert (await cloud.create("AttachEip", eipUuid=eip["uuid"], vmNicUuid=known["web-2"]))["guestIp"] == nic["ip"]
    await cloud.delete("eips", eip["uuid"])
    assert "useFor" not in (await cloud.query("vips", f"uuid={known['vip']}"))[0]


async def test_a_vip_takes_an_address_and_gives_it_back(cloud):
    async def free():
        return (await cloud.call("GetIpAddressCapacity", l3NetworkUuids=[PUBLIC]))["availableCapacity"]

    before = await free()
    vip = await cloud.create("CreateVip", name="v", l3NetworkUuid=PUBLIC, requiredIp="10.20.0.77")
    assert (vip["ip"], vip["gateway"], vip["netmask"], before - await free()) == ("10.20.0.77", "10.20.0.1", "255.255.255.0", 1)
    assert await cloud.call("CheckIpAvailability", l3NetworkUuid=PUBLIC, ip="10.20.0.77") == {"available": False}
    found = (await cloud.call("GetFreeIpOfL3Network", l3NetworkUuid=PUBLIC, start="10.20.0.77", limit=2))["inventories"]
    assert [row["ip"] for row in found] == ["10.20.0.78", "10.20.0.79"]
    await cloud.delete("vips", vip["uuid"])
    assert (await cloud.call("CheckIpAvailability", l3NetworkUuid=PUBLIC, ip="10.20.0.77"), await free()) == ({"available": True}, before)


async def test_port_forwarding_rules_share_a_vip_until_the_last_one_goes(cloud, known):
    one, two = [await cloud.create("CreatePortForwardingRule", name="p", vipUuid=known["vip"], vipPortStart=port, protocolType="TCP") for port in (80, 90)]
    assert (one["vipPortEnd"], one["privatePortStart"], one["privatePortEnd"], one["allowedCidr"]) == (80, 80, 80, "0.0.0.0/0")
    assert (await cloud.call("GetVipUsedPorts", uuid=known["vip"], protocol="TCP"))["inventories"][0]["usedPorts"] == ["80-80", "90-90"]
    assert (await cloud.create("AttachPortForwardingRule", ruleUuid=one["uuid"], vmNicUuid=known["web-2"]))["guestIp"]
    for rule, use in ((one, "PortForwarding"), (two, None)):
        await cloud.delete("port-forwarding", rule["uuid"])
        assert (await cloud.query("vips", f"uuid={known['vip']}"))[0].get("useFor") == use


async def test_a_listener_shows_its_nics_and_certificates_and_the_certificate_its_listeners(cloud, known):
    listener = await cloud.create("AddVmNicToLoadBalancer", listenerUuid=known["listener"], vmNicUuids=[known["web-1"], known["web-2"]])
    assert [(ref["vmNicUuid"], ref["status"]) for ref in listener["vmNicRefs"]] == [(known["web-1"], "Active"), (known["web-2"], "Active")]
    assert re.fullmatch(r"\w{3} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M", listener["vmNicRefs"][0]["createDate"])
    assert [row["name"] for row in await cloud.query("load-balancers/listeners", "vmNic.vmInstance.name=web-2")] == ["w"]
    (certificate,) = await cloud.query("certificates")
    assert [ref["listenerUuid"] for ref in certificate["listeners"]] == [known["secure"]]
    left = await cloud.create("RemoveVmNicFromLoadBalancer", listenerUuid=known["listener"], vmNicUuids=[known["web-1"]])
    assert [(row["name"], len(row["vmNicRefs"])) for row in sorted(left["listeners"], key=lambda row: row["name"])] == [("s", 0), ("w", 1)]
    await cloud.create("RemoveCertificateFromLoadBalancerListener", listenerUuid=known["secure"], certificateUuid=known["certificate"])
    await cloud.delete("certificates", known["certificate"])
    assert (await cloud.create("DeleteLoadBalancerListener", uuid=known["secure"]))["uuid"] == known["balancer"]


@pytest.mark.parametrize(
    ("api", "collections"),
    (
        ("GetEipAttachableVmNics", {"eipUuid": "@eip"}),
        ("GetCandidateVmNicsForLoadBalancer", {"listenerUuid": "@listener"}),
        ("GetPortForwardingAttachableVmNics", {"ruleUuid": "@rule"}),
    ),
)
async def test_candidates_are_nics_of_living_vms_whose_network_has_the_service(cloud, known, api, collections):
    rule = await cloud.create("CreatePortForwardingRule", name="p", vipUuid=known["vip"], vipPortStart=1, protocolType="TCP")
    given = {name: meant(value, known | {"rule": rule["uuid"]}) for name, value in collections.items()}
    found = [nic["uuid"] for nic in (await cloud.call(api, **given))["inventories"]]
    assert known["web-2"] in found and known["old-1"] not in found and found == sorted(found)
    assert (known["web-1"] in found) == (api != "GetEipAttachableVmNics")  # it has an EIP already


# what goes, and what is left then: rows of collections with conditions that find nothing, and others that still find something
GONE = (
    ("vips", "@balanced", ("load-balancers uuid=@balancer", "load-balancers/listeners uuid=@listener"), ("certificates uuid=@certificate",)),
    ("vips", VIP, (f"eips uuid={EIP}",), ("vm-instances/nics uuid=@web-1",)),
    ("load-balancers", "@balancer", ("load-balancers/listeners uuid=@listener", "vips useFor=LoadBalancer"), ("vips uuid=@balanced",)),
    ("l3-networks", PUBLIC, ("vips", "eips", "load-balancers", "load-balancers/listeners"), ("certificates", "security-groups")),
    ("security-groups", "@group", ("security-groups/rules", "security-groups/vm-instances/nics"), ("vm-instances/nics uuid=@web-1",)),
    ("l3-networks", PRIVATE, (f"vm-instances/nics l3NetworkUuid={PRIVATE}", "eips vmNicUuid not null", "security-groups/vm-instances/nics", "security-groups l3Network.name=l3-private",
                              "load-balancers/listeners vmNic.uuid not null"), (f"eips uuid={EIP}", "security-groups uuid=@group")),
)  # fmt: skip


@pytest.mark.parametrize(("collection", "uuid", "gone", "left"), GONE, ids=[f"{row[0]}-{n}" for n, row in enumerate(GONE)])
async def test_what_goes_takes_with_it_what_depends_on_it_and_its_tags(cloud, known, collection, uuid, gone, left):
    await cloud.create("AttachSecurityGroupToL3Network", securityGroupUuid=known["group"], l3NetworkUuid=PRIVATE)
    await cloud.call("AddSecurityGroupRule", securityGroupUuid=known["group"], rules=[TCP])
    await cloud.call("AddVmNicToSecurityGroup", securityGroupUuid=known["group"], vmNicUuids=[known["web-1"]])
    await cloud.call("AddVmNicToLoadBalancer", listenerUuid=known["listener"], vmNicUuids=[known["web-1"]])
    types = {"vips": "VipVO", "load-balancers": "LoadBalancerVO", "security-groups": "SecurityGroupVO", "l3-networks": "L3NetworkVO"}
    await cloud.call("CreateUserTag", resourceType=types[collection], resourceUuid=meant(uuid, known), tag="t")
    await cloud.delete(collection, meant(uuid, known))
    for there, rows in ((False, gone), (True, left)):
        for row in rows:
            name, _, condition = meant(row, known).partition(" ")
            assert bool(await cloud.query(name, *filter(None, [condition]))) == there, row
    assert await cloud.query("user-tags", "tag=t") == []


async def test_services_are_attached_to_a_network_and_detached(cloud):
    l3 = await cloud.create("AttachNetworkServiceToL3Network", l3NetworkUuid=PUBLIC, networkServices={FLAT: ["DHCP", "Eip"], SECURITY: ["SecurityGroup"]})
    assert sorted(ref["networkServiceType"] for ref in l3["networkServices"]) == ["DHCP", "Eip", "SecurityGroup"]
    assert len(await cloud.query("l3-networks/network-services/refs", f"l3NetworkUuid={PUBLIC}")) == 3
    body = await cloud.finish("DELETE", f"/l3-networks/{PUBLIC}/network-services?networkServices.{FLAT}=DHCP")
    assert sorted(ref["networkServiceType"] for ref in body["inventory"]["networkServices"]) == ["Eip", "SecurityGroup"]


@pytest.mark.parametrize(
    ("collection", "name", "action"),
    (("vips", "vip", "Vip"), ("eips", "eip", "Eip"), ("security-groups", "group", "SecurityGroup"), ("load-balancers", "balancer", "LoadBalancer")),
)
async def test_what_has_a_name_and_a_state_can_change_them(cloud, known, collection, name, action):
    assert (await cloud.act(collection, known[name], f"update{action}", name="new"))["name"] == "new"
    if name != "balancer":
        assert (await cloud.act(collection, known[name], f"change{action}State", stateEvent="disable"))["state"] == "Disabled"


async def test_a_web_hook_is_created_updated_and_deleted(cloud):
    hook = await cloud.create("CreateWebhook", name="h", url="http://127.0.0.1/", type="custom")
    changed = await cloud.create("UpdateWebhook", uuid=hook["uuid"], url="http://127.0.0.2/")
    assert (changed["url"], changed["type"]) == ("http://127.0.0.2/", "custom")
    await cloud.delete("web-hooks", hook["uuid"])
    assert await cloud.query("web-hooks") == []
