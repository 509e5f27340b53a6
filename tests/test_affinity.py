"""Affinity groups, which virtual machines share so as to stay apart, and consoles: tables and stories, over HTTP."""

import pytest
from asking import each

from zmock import named, serve

NOBODY = "a" * 31 + "4"
WEB = [named(f"vm-web-{n}") for n in (1, 2, 3)]  # on host-1, host-2, host-3; host-4 is Disconnected
HOST = {named(f"host-{n}"): f"host-{n}" for n in (1, 2, 3, 4)}


async def group(cloud, policy="antiHard", *vms):
    made = await cloud.create("CreateAffinityGroup", name="g", policy=policy)
    for vm in vms:
        await cloud.call("AddVmToAffinityGroup", affinityGroupUuid=made["uuid"], uuid=vm)
    return made["uuid"]


async def vm(cloud, group=None, **more):
    """A new virtual machine, in a group if it is told one, and the host where it is."""
    tags = {"systemTags": [f"affinityGroupUuid::{group}"]} if group else {}
    params = {"name": "v", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
    made = (await cloud.finish("POST", "/vm-instances", {"params": params | more} | tags))["inventory"]
    return made["uuid"], HOST[made["hostUuid"]]


async def members(cloud, group):
    return {usage["resourceUuid"] for usage in (await cloud.query("affinity-groups", f"uuid={group}"))[0]["usages"]}


async def test_a_hard_group_takes_a_host_for_each_and_refuses_one_more(cloud):
    uuid = await group(cloud)
    made = [await vm(cloud, uuid) for _ in range(3)]
    assert {host for _, host in made} == {"host-1", "host-2", "host-3"}
    with pytest.raises(RuntimeError, match="SYS.1006: no host found that vm.* has for itself in affinity group"):
        await vm(cloud, uuid)
    assert await members(cloud, uuid) == {one for one, _ in made}
    assert (await vm(cloud))[1] in HOST.values()


async def test_a_soft_group_takes_a_host_for_each_as_long_as_there_is_one(cloud):
    uuid = await group(cloud, "antiSoft")
    made = [await vm(cloud, uuid) for _ in range(5)]
    assert [len({host for _, host in made[:n]}) for n in (1, 2, 3, 5)] == [1, 2, 3, 3]


async def test_the_place_of_one_that_is_stopped_may_be_taken_and_it_does_not_start_again(cloud):
    uuid = await group(cloud)
    (first, host), _, _ = [await vm(cloud, uuid) for _ in range(3)]
    await cloud.act("vm-instances", first, "stopVmInstance")
    assert (await vm(cloud, uuid))[1] == host
    with pytest.raises(RuntimeError, match="VM.1001"):
        await cloud.act("vm-instances", first, "startVmInstance")
    assert (await cloud.query("vm-instances", f"uuid={first}"))[0]["state"] == "Stopped"


async def test_one_does_not_move_to_the_host_of_another_of_a_hard_group(cloud):
    uuid = await group(cloud, "antiHard", *WEB[:2])
    with pytest.raises(RuntimeError, match="HOST_ALLOCATION.1000: no host found that vm.* has for itself"):
        await cloud.act("vm-instances", WEB[0], "migrateVm", hostUuid=named("host-2"))
    await cloud.call("RemoveVmFromAffinityGroup", affinityGroupUuid=uuid, uuid=WEB[1])
    assert HOST[(await cloud.act("vm-instances", WEB[0], "migrateVm", hostUuid=named("host-2")))["hostUuid"]] == "host-2"


async def test_maintenance_stops_one_that_has_no_other_host_for_itself(cloud):
    await group(cloud, "antiHard", *WEB)
    await cloud.act("hosts", named("host-1"), "changeHostState", stateEvent="maintain")
    states = {one["name"]: one["state"] for one in await cloud.query("vm-instances", "name?=web-1,ci-1,db-1")}
    assert (states["web-1"], states["db-1"]) == ("Stopped", "Running")


async def test_a_group_that_is_disabled_or_gone_keeps_nobody_apart(cloud):
    uuid = await group(cloud, "antiHard", *WEB[:2])
    assert (await cloud.act("affinity-groups", uuid, "changeAffinityGroupState", stateEvent="disable"))["state"] == "Disabled"
    await cloud.act("vm-instances", WEB[0], "migrateVm", hostUuid=named("host-2"))
    await cloud.act("affinity-groups", uuid, "changeAffinityGroupState", stateEvent="enable")
    await cloud.delete("affinity-groups", uuid)
    await cloud.act("vm-instances", WEB[0], "migrateVm", hostUuid=named("host-1"))
    assert await cloud.query("system-tags", "tag~=affinityGroupUuid::%", f"resourceUuid={WEB[0]}") == []


async def test_a_member_is_one_by_its_tag_and_by_the_groups_usages_until_it_is_expunged(cloud):
    uuid = await group(cloud, "antiHard", WEB[0])
    other, _ = await vm(cloud, uuid)
    tagged = await cloud.query("system-tags", f"tag=affinityGroupUuid::{uuid}")
    assert {tag["resourceUuid"] for tag in tagged} == await members(cloud, uuid) == {WEB[0], other}
    assert [one["uuid"] for one in await cloud.query("affinity-groups", f"usages.resourceUuid={other}")] == [uuid]
    await cloud.delete("vm-instances", other)
    assert await members(cloud, uuid) == {WEB[0], other}
    await cloud.act("vm-instances", other, "expungeVmInstance")
    assert await members(cloud, uuid) == {WEB[0]}


REFUSED = (  # the api, what it is given, and how it is refused; @hard has web-1
    ("CreateAffinityGroup", {"name": "g", "policy": "affine"}, "valid value"),
    ("AddVmToAffinityGroup", {"affinityGroupUuid": NOBODY, "uuid": WEB[1]}, "SYS.1003"),
    ("AddVmToAffinityGroup", {"affinityGroupUuid": "@hard", "uuid": NOBODY}, "SYS.1003"),
    ("AddVmToAffinityGroup", {"affinityGroupUuid": "@hard", "uuid": WEB[0]}, f"vm[uuid:{WEB[0]}] has been in an affinity group"),
    ("AddVmToAffinityGroup", {"affinityGroupUuid": "@soft", "uuid": WEB[0]}, f"vm[uuid:{WEB[0]}] has been in an affinity group"),
    ("AddVmToAffinityGroup", {"affinityGroupUuid": "@hard", "uuid": "@beside"}, "has another vm of affinity group[uuid:@hard]"),
    ("RemoveVmFromAffinityGroup", {"affinityGroupUuid": "@soft", "uuid": WEB[0]}, f"vm[uuid:{WEB[0]}] is not in affinity group[uuid:@soft]"),
    ("RequestConsoleAccess", {"vmInstanceUuid": named("vm-ci-1")}, "is Running, but the current state is Stopped"),
    ("RequestConsoleAccess", {"vmInstanceUuid": named("vm-office-1")}, "is Running, but the current state is Paused"),
    ("GetVmConsoleAddress", {"uuid": named("vm-ci-1")}, "current vm instance state[Stopped] doesn't allow to proceed"),
    ("UpdateConsoleProxyAgent", {"uuid": named("management-node")}, "consoleProxyOverriddenIp"),
    ("ReconnectConsoleProxyAgent", {"agentUuids": []}, "nonempty"),
)  # fmt: skip


@each(("api", "given", "told"), REFUSED, ids=[f"{api} {[*given.values()][-1]}" for api, given, _ in REFUSED])
async def test_a_call_is_refused(cloud, api, given, told):
    known = {"@hard": await group(cloud, "antiHard", WEB[0]), "@soft": await group(cloud, "antiSoft")}
    known["@beside"], _ = await vm(cloud, hostUuid=named("host-1"))
    before = {uuid: await members(cloud, uuid) for uuid in (known["@hard"], known["@soft"])}
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **{name: known.get(value, value) if isinstance(value, str) else value for name, value in given.items()})
    for name, uuid in known.items():
        told = told.replace(name, uuid)
    assert told in str(error.value)
    assert {uuid: await members(cloud, uuid) for uuid in before} == before


async def test_a_virtual_machine_is_not_made_in_a_group_that_is_not_there(cloud):
    with pytest.raises(RuntimeError, match="SYS.1003.*AffinityGroup"):
        await vm(cloud, NOBODY)
    assert await cloud.query("vm-instances", "name=v") == []


# consoles


async def test_a_console_is_reached_through_the_agent_by_a_token_of_the_session_and_the_machine(cloud):
    first, again, other = [(await cloud.call("RequestConsoleAccess", vmInstanceUuid=uuid))["inventory"] for uuid in (WEB[0], WEB[0], WEB[1])]
    assert (first, first["scheme"], first["port"]) == (again, "http", 4900) and first["token"] != other["token"]
    await cloud.act("vm-instances", WEB[0], "migrateVm")
    assert (await cloud.call("RequestConsoleAccess", vmInstanceUuid=WEB[0]))["inventory"] == first
    await cloud.login()
    assert (await cloud.call("RequestConsoleAccess", vmInstanceUuid=WEB[0]))["inventory"]["token"] != first["token"]


async def test_the_console_of_each_virtual_machine_on_a_host_has_a_port_of_its_own(cloud):
    running = await cloud.query("vm-instances", f"hostUuid={named('host-1')}", "state=Running")
    told = [await cloud.call("GetVmConsoleAddress", uuid=one["uuid"]) for one in running]
    assert {one["hostIp"] for one in told} == {"10.10.0.11"} and {one["protocol"] for one in told} == {"vnc"}
    assert len({one["port"] for one in told}) == len(running) and all(5900 <= one["port"] < 6000 for one in told)


async def test_a_browser_is_sent_to_the_address_that_the_agent_was_given(cloud):
    (agent,) = await cloud.query("consoles/agents")
    assert (agent["type"], agent["state"], agent["status"], agent["consoleProxyOverriddenIp"]) == ("ManagementServerConsoleProxy", "Enabled", "Connected", "0.0.0.0")
    for address, hostname in (("10.1.1.1", "10.1.1.1"), ("0.0.0.0", agent["managementIp"])):
        await cloud.act("consoles/agents", agent["uuid"], "updateConsoleProxyAgent", consoleProxyOverriddenIp=address)
        assert (await cloud.call("RequestConsoleAccess", vmInstanceUuid=WEB[0]))["inventory"]["hostname"] == hostname


async def test_agents_are_reconnected_and_one_that_is_not_there_is_told_of():
    async with serve(delay="2") as cloud:
        await cloud.login()
        (agent,) = await cloud.query("consoles/agents")
        status, body = await cloud.request("PUT", "/consoles/agents", {"reconnectConsoleProxyAgent": {}})
        await cloud.advance(1)
        assert (status, [one["status"] for one in await cloud.query("consoles/agents")]) == (202, ["Connecting"])
        await cloud.advance(2)
        assert [one["status"] for one in await cloud.query("consoles/agents")] == ["Connected"]
        told = (await cloud.call("ReconnectConsoleProxyAgent", agentUuids=[agent["uuid"], NOBODY]))["inventory"]
        assert (told[agent["uuid"]], told[NOBODY]["details"]) == (True, f"invalid management node UUID[{NOBODY}]")


async def test_a_cloud_that_was_kept_without_an_agent_gets_one(tmp_path):
    kept = {"memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**kept) as cloud:
        await cloud.login()
        cloud.cloud.store.remove("ConsoleProxyAgent", named("management-node"))
        await cloud.delete("volumes", named("volume-spare"))
    async with serve(**kept) as cloud:
        assert [one["uuid"] for one in await cloud.query("consoles/agents")] == [named("management-node")]
