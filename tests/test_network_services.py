"""Virtual IPs and what uses them, security groups, services of networks: tables and stories, over HTTP."""

import re

import pytest
from asking import failure

from zmock import named

PRIVATE, PUBLIC, VIP, EIP = (named(name) for name in ("l3-private", "l3-public", "vip-1", "eip-1"))
SECURITY, FLAT = named("provider-SecurityGroup"), named("provider-Flat")


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


async def test_nothing_serves_a_nic_whose_network_was_deleted(cloud, known):
    """A machine whose host does not answer has such a nic after its network is gone, and runs again later."""
    vm, nic = named("vm-web-2"), known["web-2"]
    rule = await cloud.create("CreatePortForwardingRule", name="r", vipUuid=known["vip"], vipPortStart=80, protocolType="TCP")
    cloud.cloud.store.update("VmInstance", vm, state="Unknown")
    await cloud.delete("l3-networks", PRIVATE)
    cloud.cloud.store.update("VmInstance", vm, state="Running")
    missing = "doesn't have network service[type:{}] enabled or no provider provides this network service"
    to_rule = await failure(cloud, "AttachPortForwardingRule", ruleUuid=rule["uuid"], vmNicUuid=nic)
    to_eip = await failure(cloud, "AttachEip", eipUuid=known["eip"], vmNicUuid=nic)
    to_listener = await failure(cloud, "AddVmNicToLoadBalancer", listenerUuid=known["listener"], vmNicUuids=[nic])
    assert to_rule == "SYS.1006: L3Network[uuid:null] " + missing.format("PortForwarding")
    assert to_eip == "SYS.1006: L3Network[uuid:null] " + missing.format("Eip")
    assert to_listener == "SYS.1006: L3 networks[uuids:[null]] of the vm nics has no network service[LoadBalancer] enabled"
    for api, said in (("GetEipAttachableVmNics", "eipUuid"), ("GetPortForwardingAttachableVmNics", "ruleUuid"), ("GetCandidateVmNicsForLoadBalancer", "listenerUuid")):
        user = {"eipUuid": known["eip"], "ruleUuid": rule["uuid"], "listenerUuid": known["listener"]}[said]
        assert nic not in {row["uuid"] for row in (await cloud.call(api, **{said: user}))["inventories"]}
