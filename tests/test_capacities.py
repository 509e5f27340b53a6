"""Capacities are derived: after any calls they are the sum of what is there, and never negative."""

import random

import pytest
from asking import each_nth, outcome

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


@pytest.mark.parametrize("seed", each_nth(3, range(6)))
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


# primary storage

NFS, LOCAL, DISK = (named(name) for name in ("ps-nfs", "ps-local", "disk-20g"))


def used_on(mock, storage):
    """The bytes that volumes, snapshots and cached images take of a storage."""
    volumes = [volume for volume in mock.cloud.find("Volume", "primaryStorageUuid", storage) if "installPath" in volume]
    snapshots = [snapshot for snapshot in mock.cloud.find("VolumeSnapshot", "primaryStorageUuid", storage) if "type" in snapshot]
    return sum(item["size"] for item in (*volumes, *snapshots, *mock.cloud.find("ImageCache", "primaryStorageUuid", storage)))


async def check_storages(mock):
    """Assert that the capacity of each storage, and of all, is what lies there leaves."""
    storages, fields = await mock.query("primary-storage"), ("totalCapacity", "availableCapacity", "totalPhysicalCapacity", "availablePhysicalCapacity")
    for storage in storages:
        assert 0 <= storage["availableCapacity"] <= storage["totalCapacity"] and all(storage[name] >= 0 for name in fields)
        if storage["type"] == "LocalStorage":
            body = await mock.call("GetLocalStorageHostDiskCapacity", primaryStorageUuid=storage["uuid"])
            for name in fields:
                assert storage[name] == sum(disk[name] for disk in body["inventories"])
            refs = await mock.query("primary-storage/local-storage/resource-refs", f"primaryStorageUuid={storage['uuid']}")
            here = {ref["resourceUuid"] for ref in refs if ref["resourceType"] == "VolumeVO"}
            assert here == {volume["uuid"] for volume in mock.cloud.find("Volume", "primaryStorageUuid", storage["uuid"]) if "installPath" in volume}
            if not {ref["hostUuid"] for ref in refs} <= {disk["hostUuid"] for disk in body["inventories"]}:
                continue  # what lies on the disks of a detached cluster takes nothing of the others
        if storage["totalCapacity"]:
            assert storage["availableCapacity"] == storage["totalCapacity"] - used_on(mock, storage["uuid"])
    body = await mock.call("GetPrimaryStorageCapacity", all=True)
    assert {name: body[name] for name in fields} == {name: sum(storage[name] for storage in storages) for name in fields}


async def any_call_on_storage(mock, dice, n):
    """Make one call on volumes, snapshots or storage, which may fail."""

    def any_of(type, /, **values):
        return dice.choice([item["uuid"] for item in mock.cloud.store.rows(type) if values.items() <= item.items()] or ["none"])

    vm, volume, storage, host = map(any_of, ("VmInstance", "Volume", "PrimaryStorage", "Host"))
    new, cluster = {"name": f"d{n}", "diskOfferingUuid": DISK, "primaryStorageUuid": storage}, dice.choice(CLUSTERS)
    machine = {"name": f"v{n}", "instanceOfferingUuid": OFFERINGS[0], "clusterUuid": cluster, "primaryStorageUuidForRootVolume": storage} | VM
    added = [("nfs", {"url": f"10.0.0.{n}:/x"}), ("smp", {"url": f"/smp{n}"}), ("local-storage", {"url": f"/disk{n}"}), ("ceph", {"monUrls": [f"u:p@10.9.0.{n}"]})]
    kind, values = dice.choice(added)
    event = dice.choice(["enable", "enable", "disable", "maintain"])
    calls = [
        *[("POST", "/volumes/data", {"params": new, "systemTags": dice.choice([[], [f"localStorage::hostUuid::{host}"]])})] * 4,
        *[("POST", "/vm-instances", {"params": machine})] * 4,
        ("POST", f"/volumes/{volume}/vm-instances/{vm}", None),
        ("DELETE", f"/volumes/{volume}/vm-instances", None),
        *[("POST", f"/volumes/{volume}/volume-snapshots", {"params": {"name": f"s{n}"}})] * 3,
        ("DELETE", f"/volume-snapshots/{any_of('VolumeSnapshot')}", None),
        ("DELETE", f"/volumes/{volume}", None),
        *[("PUT", f"/volumes/{any_of('Volume', status='Deleted')}/actions", {f"{action}DataVolume": {}}) for action in ("recover", "expunge")],
        ("PUT", f"/volumes/data/resize/{any_of('Volume', type='Data')}/actions", {"resizeDataVolume": {"size": 30 * GIB}}),
        *[("PUT", f"/primary-storage/local-storage/volumes/{any_of('LocalStorageResourceRef')}/actions", {"localStorageMigrateVolume": {"destHostUuid": host}})] * 2,
        ("PUT", f"/vm-instances/{vm}/actions", {f"{dice.choice(ACTIONS)}VmInstance": {}}),
        ("DELETE", f"/vm-instances/{vm}", None),
        ("POST", f"/primary-storage/{kind}", {"params": {"name": f"p{n}", "zoneUuid": ZONE} | values}),
        *[("POST", f"/clusters/{cluster}/primary-storage/{storage}", {})] * 3,
        *[("DELETE", f"/clusters/{cluster}/primary-storage/{storage}", None)] * 2,
        ("PUT", f"/primary-storage/{storage}/actions", {"changePrimaryStorageState": {"stateEvent": event}}),
        *[("PUT", f"/primary-storage/{storage}/actions", {action: {}}) for action in ("reconnectPrimaryStorage", "cleanUpImageCacheOnPrimaryStorage")],
        ("DELETE", f"/primary-storage/{storage}", None),
        ("PUT", f"/hosts/{host}/actions", {"reconnectHost": {}}),
    ]
    if mock.cloud.store.count("Host") > 2:
        calls.append(("DELETE", f"/hosts/{host}", None))
    await outcome(mock, *dice.choice(calls))


@pytest.mark.parametrize("seed", each_nth(3, range(6)))
@pytest.mark.parametrize("delay", ("0", "3"), ids=("at-once", "overlapping"))
async def test_capacities_of_storage_are_the_sum_of_what_is_there_after_any_calls(seed, delay):
    dice = random.Random(f"storage {seed}")
    async with serve(seed=seed, delay=delay) as mock:
        await mock.login()
        for n in range(80):
            await any_call_on_storage(mock, dice, n)
            if delay != "0":
                await mock.advance(dice.uniform(0, 4))
            if n % 5 == 4:
                await check_storages(mock)
        await mock.advance(60)
        await check_storages(mock)
