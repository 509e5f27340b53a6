"""Long stories of network services, as a client lives them over HTTP, in both dialects. See tests/test_stories.py."""

from test_facts_services import CI_NIC, NICS, WEB2_NIC, WEB_NIC
from test_stories import PRIVATE, PUBLIC

from zmock import named

WEB, WEB2, CI = named("vm-web-1"), named("vm-web-2"), named("vm-ci-1")


# three services on one virtual IP


async def uses(client, vip):
    """What a virtual IP carries: its uses, its provider and its peers."""
    shown = await client.look("vips", vip)
    return shown.get("useFor"), shown.get("serviceProvider"), shown.get("peerL3NetworkUuids")


async def used_ports(client, vip):
    (usage,) = (await client.call("GetVipUsedPorts", uuid=vip, protocol="TCP"))["inventories"]
    return usage["usedPorts"]


async def test_three_services_share_a_virtual_ip_until_the_last_one_goes(client):
    vip = (await client.call("CreateVip", name="v", l3NetworkUuid=PUBLIC))["uuid"]
    assert await uses(client, vip) == (None, None, None)

    # port forwarding, for a machine that runs
    web = {"name": "ssh", "vipUuid": vip, "vipPortStart": 2222, "privatePortStart": 22, "protocolType": "TCP", "vmNicUuid": WEB2_NIC}
    ssh = await client.call("CreatePortForwardingRule", **web)
    assert (ssh["vipPortEnd"], ssh["privatePortEnd"], ssh["guestIp"]) == (2222, 2222, "192.168.100.3")
    assert await uses(client, vip) == ("PortForwarding", "VirtualRouter", [PRIVATE])
    await client.fails(f"SYS.1007: vip port range[vipStartPort:2222, vipEndPort:2222] overlaps with rule[uuid:{ssh['uuid']}, vipStartPort:2222, vipEndPort:2222]",
        "CreatePortForwardingRule", **web)  # fmt: skip

    # load balancers beside it
    first, second = [(await client.call("CreateLoadBalancer", name=name, vipUuid=vip))["uuid"] for name in ("first", "second")]
    assert await uses(client, vip) == ("PortForwarding,LoadBalancer", "VirtualRouter", [PRIVATE])
    await client.call("CreateLoadBalancerListener", name="http", loadBalancerUuid=first, loadBalancerPort=80)
    https = await client.call("CreateLoadBalancerListener", name="https", loadBalancerUuid=second, loadBalancerPort=443, protocol="https")
    await client.fails(f"SYS.1007: conflict loadBalancerPort[80], a vip[uuid:{vip}] has used that port", "CreateLoadBalancerListener", name="n", loadBalancerUuid=second, loadBalancerPort=80)
    await client.fails(f"SYS.1006: Current port range[2222, 2222] is conflicted with used port range [2222, 2222] with vip[uuid: {vip}] protocol: tcp ",
        "CreateLoadBalancerListener", name="n", loadBalancerUuid=first, loadBalancerPort=2222)  # fmt: skip
    assert await used_ports(client, vip) == ["80", "443", "2222"]

    # no EIP: it would be alone
    await client.fails(f"SYS.1006: vip[uuid:{vip}] has been occupied other network service entity[PortForwarding,LoadBalancer]", "CreateEip", name="e", vipUuid=vip)
    other = (await client.call("CreateVip", name="o", l3NetworkUuid=PUBLIC))["uuid"]
    eip = await client.call("CreateEip", name="e", vipUuid=other, vmNicUuid=WEB_NIC)
    assert await uses(client, other) == ("Eip", "VirtualRouter", [PRIVATE])
    for api, more in (("CreateLoadBalancer", {}), ("CreatePortForwardingRule", {"vipPortStart": 1, "protocolType": "UDP"})):
        await client.fails(f"SYS.1007: the vip[uuid:{other}] has been occupied other network service entity[Eip]", api, name="n", vipUuid=other, **more)

    # the rule goes and comes: its use moves to the end
    await client.call("DetachPortForwardingRule", uuid=ssh["uuid"])
    assert await uses(client, vip) == ("PortForwarding,LoadBalancer", "VirtualRouter", [PRIVATE])
    await client.call("DeletePortForwardingRule", uuid=ssh["uuid"])
    assert await uses(client, vip) == ("LoadBalancer", "VirtualRouter", [PRIVATE]) and await used_ports(client, vip) == ["80", "443"]
    rule = await client.call("CreatePortForwardingRule", **web | {"vmNicUuid": CI_NIC})
    assert "vmNicUuid" not in rule and await uses(client, vip) == ("LoadBalancer,PortForwarding", "VirtualRouter", [PRIVATE])

    # one by one
    await client.call("DeleteLoadBalancer", uuid=first)
    assert (await uses(client, vip))[0] == "LoadBalancer,PortForwarding" and await client.look("load-balancers/listeners", https["uuid"])
    await client.call("DeleteLoadBalancer", uuid=second)
    assert await uses(client, vip) == ("PortForwarding", "VirtualRouter", [PRIVATE]) and await client.look("load-balancers/listeners", https["uuid"]) is None
    await client.call("DeletePortForwardingRule", uuid=rule["uuid"])
    assert await uses(client, vip) == (None, None, None)
    eip2 = await client.call("CreateEip", name="e", vipUuid=vip)
    assert await uses(client, vip) == ("Eip", None, None) and "vmNicUuid" not in eip2
    await client.call("DeleteVip", uuid=other)
    assert await client.look("eips", eip["uuid"]) is None and await client.look("eips", eip2["uuid"])


# a listener through the life of its machines


async def test_a_listener_through_the_life_of_its_machines(client):
    vip = (await client.call("CreateVip", name="v", l3NetworkUuid=PUBLIC))["uuid"]
    balancer = (await client.call("CreateLoadBalancer", name="b", vipUuid=vip))["uuid"]
    listener = (await client.call("CreateLoadBalancerListener", name="l", loadBalancerUuid=balancer, loadBalancerPort=80))["uuid"]

    async def statuses():
        return {ref["vmNicUuid"]: ref["status"] for ref in (await client.look("load-balancers/listeners", listener))["vmNicRefs"]}

    # nics are Pending, then Active, also that of a stopped machine
    began = await client.begin("AddVmNicToLoadBalancer", listenerUuid=listener, vmNicUuids=[WEB_NIC, WEB2_NIC, CI_NIC])
    await client.mock.advance(1)
    assert await statuses() == dict.fromkeys((WEB_NIC, WEB2_NIC, CI_NIC), "Pending")
    status, answer = await client.end(*began)
    assert (status, answer["inventory"]["uuid"]) == (200, listener) and await statuses() == dict.fromkeys((WEB_NIC, WEB2_NIC, CI_NIC), "Active")
    candidates = [nic["uuid"] for nic in (await client.call("GetCandidateVmNicsForLoadBalancer", listenerUuid=listener))["inventories"]]
    assert NICS["web-3"] in candidates and not {WEB_NIC, WEB2_NIC, CI_NIC} & {*candidates}

    # a stop, a start and a reboot
    await client.call("StopVmInstance", uuid=WEB2)
    assert (await statuses())[WEB2_NIC] == "Inactive" and (await statuses())[WEB_NIC] == "Active"
    await client.call("StartVmInstance", uuid=WEB2)
    assert (await statuses())[WEB2_NIC] == "Active"
    began = await client.begin("RebootVmInstance", uuid=WEB2)
    await client.mock.advance(1)
    assert (await statuses())[WEB2_NIC] == "Inactive"
    await client.end(*began)
    assert (await statuses())[WEB2_NIC] == "Active"

    # a destroyed machine leaves, and does not come back
    await client.call("DestroyVmInstance", uuid=WEB2)
    assert WEB2_NIC not in await statuses()
    await client.call("RecoverVmInstance", uuid=WEB2)
    await client.call("StartVmInstance", uuid=WEB2)
    assert await statuses() == {WEB_NIC: "Active", CI_NIC: "Active"}
    assert len((await client.call("AddVmNicToLoadBalancer", listenerUuid=listener, vmNicUuids=[WEB2_NIC]))["vmNicRefs"]) == 3

    # a nic leaves with its detachment
    await client.call("DetachL3NetworkFromVm", vmNicUuid=WEB_NIC)
    assert {*await statuses()} == {WEB2_NIC, CI_NIC}

    # nics are removed: those that are there, else there is no answer
    left = await client.call("RemoveVmNicFromLoadBalancer", listenerUuid=listener, vmNicUuids=[WEB2_NIC, NICS["db-1"]])
    assert left["uuid"] == balancer and [ref["vmNicUuid"] for ref in left["listeners"][0]["vmNicRefs"]] == [CI_NIC]
    before = client.mock.clock.now()
    code = "SYS.1001" if client.mock.cloud.dialect.name == "server" else "SYS.1006"
    await client.fails(f"{code}: *", "RemoveVmNicFromLoadBalancer", listenerUuid=listener, vmNicUuids=[WEB2_NIC])
    assert (client.mock.clock.now() - before >= 300) == (code == "SYS.1001")
    assert await uses(client, vip) == ("LoadBalancer", "VirtualRouter", [PRIVATE]) and {*await statuses()} == {CI_NIC}

    # the last machine is destroyed, and the listener with its balancer
    await client.call("DestroyVmInstance", uuid=CI)
    assert await statuses() == {}
    await client.call("DeleteLoadBalancer", uuid=balancer)
    assert await client.look("load-balancers/listeners", listener) is None and await uses(client, vip) == (None, None, None)
