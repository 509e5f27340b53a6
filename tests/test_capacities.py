"""Capacities are derived: after any calls they are the sum of what is there, and never negative."""

import random

import pytest
from asking import outcome

from zmock import named, serve

GIB = 1 << 30
ZONE, CLUSTERS, HOSTS = named("zone-1"), [named(f"cluster-{n}") for n in (1, 2)], [f"host-{n}" for n in (1, 2, 3, 4)]
OFFERINGS = [named(f"offering-{size}") for size in ("small", "medium", "large")]
VM = {"imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
TAKE_NOTHING = {"Created", "Destroyed", "Destroying", "Stopped"}  # HostAllocatorManagerImpl.java
ACTIONS = "stop start reboot pause resume recover expunge".split()


async def check_hosts(mock):
    """Assert that processors and memory of each host, and of all, are what their virtual machines leave."""
    vms = await mock.query("vm-instances")
    hosts = [host for host in await mock.query("hosts") if "cpuNum" in host]  # a new one shows its hardware once it is connected
    for host in hosts:
        here = [vm for vm in vms if vm.get("hostUuid") == host["uuid"] and vm["state"] not in TAKE_NOTHING]
        assert host["availableCpuCapacity"] == host["totalCpuCapacity"] - sum(vm["cpuNum"] for vm in here) >= 0
        assert host["availableMemoryCapacity"] == host["totalMemoryCapacity"] - sum(vm["memorySize"] for vm in here) >= 0
    usable = [host for host in hosts if (host["state"], host["status"]) == ("Enabled", "Connected")]
    body = await mock.call("GetCpuMemoryCapacity", all=True)
    for name in ("totalCpu", "availableCpu", "totalMemory"):
        assert body[name] == sum(host[f"{name}Capacity"] for host in usable)
    assert 0 <= body["availableMemory"] <= sum(host["availableMemoryCapacity"] for host in usable)


CHECKS = [check_hosts]


async def any_call(mock, dice, n):
    """Make one call of any kind, which may fail."""
    vm = dice.choice([item["uuid"] for item in mock.cloud.store.rows("VmInstance")] or ["none"])
    hosts = [item["uuid"] for item in mock.cloud.store.rows("Host")] or ["none"]
    action, host, event = dice.choice(ACTIONS), dice.choice(hosts), dice.choice(["enable", "disable", "maintain", "enable"])
    new = {"name": f"v{n}", "instanceOfferingUuid": dice.choice(OFFERINGS)} | VM
    added = {"name": f"h{n}", "clusterUuid": dice.choice(CLUSTERS), "managementIp": f"10.9.{n // 250}.{n % 250 + 1}", "username": "root", "password": "p"}
    calls = [
        *[("POST", "/vm-instances", {"params": new})] * 4,
        *[("PUT", f"/vm-instances/{vm}/actions", {f"{action}VmInstance": {}})] * 6,
        *[("PUT", f"/vm-instances/{vm}/actions", {"migrateVm": {}})] * 2,
        ("PUT", f"/vm-instances/{vm}/actions", {"changeInstanceOffering": {"instanceOfferingUuid": dice.choice(OFFERINGS)}}),
        ("PUT", f"/vm-instances/{vm}/actions", {"cloneVmInstance": {"names": [f"clone{n}"], "strategy": "InstantStart"}}),
        *[("DELETE", f"/vm-instances/{vm}", None)] * 2,
        *[("PUT", f"/hosts/{host}/actions", {"changeHostState": {"stateEvent": event}})] * 2,
        ("PUT", f"/hosts/{host}/actions", {"reconnectHost": {}}),
        ("POST", "/hosts/kvm", {"params": added}),
    ]
    if len(hosts) > 3:
        calls.append(("DELETE", f"/hosts/{host}", None))
    kind = dice.random()
    if kind < 0.06:
        await mock.incident({"host-down": host})
    elif kind < 0.14 and mock.cloud.outages.incidents:
        await mock.end_incident(dice.choice([*mock.cloud.outages.incidents]))
    else:
        await outcome(mock, *dice.choice(calls))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("delay", ("0", "3"), ids=("at-once", "overlapping"))
async def test_capacities_are_the_sum_of_what_is_there_after_any_calls(seed, delay):
    dice = random.Random(seed)
    async with serve(seed=seed, delay=delay) as mock:
        await mock.login()
        for n in range(60):
            await any_call(mock, dice, n)
            if delay != "0":
                await mock.advance(dice.uniform(0, 4))
            for check in CHECKS if n % 4 == 3 else ():
                await check(mock)
        await mock.advance(60)
        for check in CHECKS:
            await check(mock)
