"""Incidents: something breaks, and every inventory, job, capacity and notification says so, until it is over."""

import asyncio
from random import Random

import aiohttp
import pytest
from asking import each, submit

from zmock import INCIDENTS, available_capacity, available_cpus, available_memory, named, serve

VM = {"name": "v", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
DOWN = {"host-1", "host-2", "host-3"}  # host-4 is Disconnected to begin with


async def control(mock, method, path, body=None):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        return answer.status, await answer.json()


async def strike(mock, kind, about):
    status, told = await control(mock, "POST", "incidents", {kind: about})
    assert status == 200, told
    return told


async def end(mock, incident):
    assert await control(mock, "DELETE", f"incidents/{incident['id']}") == (200, {})


async def polled(mock, job):
    status, body = await mock.request("GET", f"/api-jobs/{job}")
    error = (body or {}).get("error", {})
    return (status, error.get("code"), error.get("cause", {}).get("code"))


async def names(mock, collection, *conditions):
    return {item["name"] for item in await mock.query(collection, *conditions)}


async def warnings(mock):
    """What the notifications say, with their arguments in place."""
    return [item["content"].replace("%s", "{}") for item in await mock.query("notifications", "type=Warning")]


@pytest.fixture
async def mock():
    async with serve(delay="10") as mock:
        await mock.login()
        yield mock


# hosts


async def test_a_host_that_goes_takes_its_virtual_machines_jobs_and_capacity_with_it(mock):
    (host,) = await mock.query("hosts", "name=host-1")
    vms = await mock.query("vm-instances", f"hostUuid={host['uuid']}", "state=Running")
    before = await mock.call("GetCpuMemoryCapacity", all="true")
    stop, migrate = await submit(mock, "PUT", f"/vm-instances/{vms[0]['uuid']}/actions", {"stopVmInstance": {}}), \
        await submit(mock, "PUT", f"/vm-instances/{vms[1]['uuid']}/actions", {"migrateVm": {}})  # fmt: skip
    other = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
    incident = await strike(mock, "host-down", "host-1")
    assert (await mock.query("hosts", "name=host-1"))[0]["status"] == "Disconnected"
    assert await names(mock, "vm-instances", f"hostUuid={host['uuid']}", "state!=Unknown") == set()
    now = await mock.call("GetCpuMemoryCapacity", all="true")
    assert (before["managedCpuNum"] - now["managedCpuNum"], before["totalMemory"] - now["totalMemory"]) == (host["cpuNum"], host["totalMemoryCapacity"])
    await mock.advance(0)
    assert [await polled(mock, job) for job in (stop, migrate)] == [(503, "VM.1002", "HOST.1010"), (503, "HOST.1010", None)]
    await mock.advance(10)
    assert (await polled(mock, other))[0] == 200
    assert "the host[uuid:{}] becomes Disconnected" in await warnings(mock)
    with pytest.raises(RuntimeError, match=r"HOST\.1002"):
        await mock.act("hosts", host["uuid"], "reconnectHost")
    await end(mock, incident)
    assert (await mock.query("hosts", "name=host-1"))[0]["status"] == "Connected"
    assert await names(mock, "vm-instances", f"hostUuid={host['uuid']}", "state=Running") == {vm["name"] for vm in vms}
    assert await mock.call("GetCpuMemoryCapacity", all="true") == before


async def test_a_creation_on_a_host_that_goes_fails_and_leaves_nothing(mock):
    job = await submit(mock, "POST", "/vm-instances", {"params": VM | {"hostUuid": named("host-2")}})
    await mock.advance(6)
    assert (await mock.query("vm-instances", "name=v"))[0]["hostUuid"] == named("host-2")
    incident = await strike(mock, "host-down", "host-2")
    await mock.advance(1)
    assert (await polled(mock, job), await mock.query("vm-instances", "name=v")) == ((503, "SYS.1006", "HOST.1010"), [])
    await end(mock, incident)
    await mock.advance(60)
    assert await mock.query("vm-instances", "name=v") == []


async def test_a_held_job_on_a_host_that_goes_fails_too(mock):
    mock.rule(api="StopVmInstance", then={"job": "hold"})
    (vm, *_) = await mock.query("vm-instances", f"hostUuid={named('host-1')}", "state=Running")
    job = await submit(mock, "PUT", f"/vm-instances/{vm['uuid']}/actions", {"stopVmInstance": {}})
    await strike(mock, "host-down", named("host-1"))
    await mock.advance(0)
    assert await polled(mock, job) == (503, "VM.1002", "HOST.1010")


async def test_a_host_is_back_when_the_last_of_its_incidents_is_over(mock):
    one, two, three = await strike(mock, "host-down", "host-1"), await strike(mock, "host-down", "host-1"), await strike(mock, "network-partition", "cluster-1")
    for incident in (one, three):
        await end(mock, incident)
        assert await names(mock, "hosts", "status=Connected") == DOWN - {"host-1"} if incident is three else True
    await end(mock, two)
    assert await names(mock, "hosts", "status=Connected") == DOWN


# partitions


@pytest.mark.parametrize(
    ("about", "connected", "storage", "backup"),
    (
        ("host-1", {"host-2", "host-3"}, {"ps-nfs", "ps-local"}, {"bs-1"}),
        (["host-1", "host-2"], {"host-3"}, None, {"bs-1"}),
        ("cluster-1", {"host-3"}, None, {"bs-1"}),
        ("zone-1", set(), set(), set()),
        (["cluster-1", "cluster-2"], set(), set(), {"bs-1"}),
    ),
    ids=("a host", "two hosts", "a cluster", "the zone", "all clusters"),
)
async def test_what_lies_beyond_a_partition_is_gone_until_it_ends(mock, about, connected, storage, backup):
    kinds = ("hosts", "primary-storage", "backup-storage")
    before = [await names(mock, kind, "status=Connected") for kind in kinds]
    states = {vm["name"]: vm["state"] for vm in await mock.query("vm-instances")}
    incident = await strike(mock, "network-partition", about)
    after = [await names(mock, kind, "status=Connected") for kind in kinds]
    assert (after[0], after[2]) == (connected, backup)
    assert storage is None or after[1] == storage
    for vm in await mock.query("vm-instances", "hostUuid not null"):
        host = (await mock.query("hosts", f"uuid={vm['hostUuid']}"))[0]
        assert (vm["state"] == "Unknown") == (host["status"] == "Disconnected")
    assert [row["network-partition"] for row in (await control(mock, "GET", "incidents"))[1]["incidents"]] == [about]
    await end(mock, incident)
    assert [await names(mock, kind, "status=Connected") for kind in kinds] == before
    assert {vm["name"]: vm["state"] for vm in await mock.query("vm-instances")} == states


async def test_nothing_can_be_placed_where_nobody_gets_to(mock):
    await strike(mock, "network-partition", "zone-1")
    job = await submit(mock, "POST", "/vm-instances", {"params": VM})
    await mock.advance(10)
    assert await polled(mock, job) == (503, "SYS.1006", "HOST_ALLOCATION.1000")
    assert any("primary storage" in text for text in await warnings(mock)) and any("backup storage" in text for text in await warnings(mock))


# storage


async def test_on_full_storage_there_is_no_room_whatever_is_taken_away(mock):
    for name in ("ps-nfs", "ps-local"):
        await strike(mock, "primary-storage-full", name)
    shown = await mock.query("primary-storage")
    assert {ps["availableCapacity"] for ps in shown} == {0} == {ps.get("availablePhysicalCapacity", 0) for ps in shown}
    assert await names(mock, "primary-storage", "availableCapacity=0") == {"ps-nfs", "ps-local"}
    job = await submit(mock, "POST", "/vm-instances", {"params": VM})
    await mock.delete("volumes", named("volume-spare"))
    await mock.advance(10)
    assert await polled(mock, job) == (503, "SYS.1006", "HOST_ALLOCATION.1000")
    assert await mock.query("vm-instances", "name=v") == []
    with pytest.raises(RuntimeError, match="SYS.1006: required primary storage"):
        await mock.create("CreateDataVolume", name="d", diskOfferingUuid=named("disk-100g"), primaryStorageUuid=named("ps-nfs"))
    assert "the primary storage[uuid:{}] has no space left" in await warnings(mock)


async def test_when_there_is_room_again_it_is_as_if_nothing_had_been(mock):
    before = await mock.query("primary-storage")
    incidents = [await strike(mock, "primary-storage-full", "ps-nfs") for _ in range(2)]
    for incident in incidents:
        assert (await mock.query("primary-storage", "name=ps-nfs"))[0]["availableCapacity"] == 0
        await end(mock, incident)
    assert await mock.query("primary-storage") == before
    assert (await mock.create("CreateVmInstance", **VM))["state"] == "Running"


async def test_a_volume_under_way_to_full_storage_does_not_arrive(mock):
    volume = (await mock.query("volumes", "type=Data", "status=Ready", f"primaryStorageUuid={named('ps-nfs')}", "vmInstanceUuid is null"))[:1]
    uuid = volume[0]["uuid"] if volume else (await mock.create("CreateDataVolume", name="d", diskOfferingUuid=named("disk-100g"), primaryStorageUuid=named("ps-nfs")))["uuid"]
    job = await submit(mock, "PUT", f"/primary-storage/volumes/{uuid}/actions", {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": named("ps-local")}})
    await mock.advance(1)
    await strike(mock, "primary-storage-full", "ps-local")
    await mock.advance(10)
    assert (await polled(mock, job))[:2] == (503, "SYS.1006")
    (volume,) = await mock.query("volumes", f"uuid={uuid}")
    assert (volume["status"], volume["primaryStorageUuid"]) == ("Ready", named("ps-nfs"))


# the management node


async def test_a_restart_loses_the_jobs_fails_the_long_jobs_and_stops_what_was_on_its_way(mock):
    mock.rule(api="RebootVmInstance", then={"job": "hold"})
    start = await submit(mock, "PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"startVmInstance": {}})
    line = await submit(mock, "PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"stopVmInstance": {}})
    held = await submit(mock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"rebootVmInstance": {}})
    image = await submit(mock, "POST", "/images", {"params": {"name": "i", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}})
    done = (await mock.request("POST", "/zones", {"params": {"name": "z"}}))[1]["location"][-32:]
    await control(mock, "POST", f"jobs/{done}", {"do": "finish"})
    joined = (await mock.query("management-nodes"))[0]["joinDate"]
    await mock.advance(2)
    told = await strike(mock, "management-node-restart", {})
    assert (await control(mock, "GET", "incidents"))[1] == {"incidents": []} and told["id"]
    await mock.advance(3000)
    assert {(await polled(mock, job))[0] for job in (start, line, held, image)} == {202} != (await polled(mock, done))[0]
    assert {job["state"] for job in mock.jobs() if job["uuid"] != done} == {"lost"}
    states = {vm["name"]: vm["state"] for vm in await mock.query("vm-instances")}
    assert (states["ci-1"], states["web-1"]) == ("Stopped", "Stopped")
    assert (await mock.query("images", "name=i"))[0]["status"] == "Error"
    long_jobs = await mock.query("longjobs")
    assert {job["jobResult"] for job in long_jobs if job["state"] == "Failed"} == {"Failed because management node restarted."}
    assert {job["state"] for job in long_jobs} <= {"Succeeded", "Failed", "Canceled"}
    assert (await mock.query("management-nodes"))[0]["joinDate"] != joined
    assert (await mock.act("vm-instances", named("vm-ci-1"), "startVmInstance"))["state"] == "Running"  # and no line is blocked


@each("stopped_at", (0, 3, 6, 8))
@each("strategy", ("InstantStart", "JustCreate"))
async def test_a_machine_whose_first_start_is_interrupted_starts_later_with_each_part_once(mock, strategy, stopped_at):
    await submit(mock, "POST", "/vm-instances", {"params": VM | {"strategy": strategy}})
    (vm,) = await mock.query("vm-instances", "name=v")
    if strategy == "JustCreate":
        await mock.advance(10)
        await submit(mock, "PUT", f"/vm-instances/{vm['uuid']}/actions", {"startVmInstance": {}})
    await mock.advance(stopped_at)
    await strike(mock, "management-node-restart", {})
    started = await mock.act("vm-instances", vm["uuid"], "startVmInstance")
    assert (started["state"], len(started["vmNics"]), len(started["allVolumes"])) == ("Running", 1, 1)
    await mock.act("vm-instances", vm["uuid"], "stopVmInstance")
    await mock.delete("vm-instances/nics", started["vmNics"][0]["uuid"])
    await mock.call("AttachL3NetworkToVm", vmInstanceUuid=vm["uuid"], l3NetworkUuid=named("l3-public"))
    (nic,) = (await mock.act("vm-instances", vm["uuid"], "startVmInstance"))["vmNics"]
    assert nic["l3NetworkUuid"] == named("l3-public")


async def test_what_was_destroyed_before_a_restart_is_expunged_in_its_time(mock):
    await mock.delete("vm-instances", named("vm-web-1"))
    await strike(mock, "management-node-restart", {})
    await mock.advance(86400)
    await mock.login()
    assert await mock.query("vm-instances", f"uuid={named('vm-web-1')}") == []


async def test_nobody_answers_while_the_management_node_is_down_but_control(mock):
    start = await submit(mock, "PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"startVmInstance": {}})
    told = await strike(mock, "management-node-down", 30)
    assert told.keys() == {"id", "management-node-down", "ends"}
    for call in (("GET", "/zones"), ("GET", f"/api-jobs/{start}"), ("GET", "/management-nodes/ready"), ("POST", "/zones", {"params": {"name": "z"}})):
        with pytest.raises(aiohttp.ClientConnectionError):
            await mock.request(*call)
    assert [call["outcome"] for call in (await control(mock, "GET", "calls?status=0"))[1]["calls"]] == ["reset"] * len(mock.calls()[2:])
    await mock.advance(29)
    with pytest.raises(aiohttp.ClientConnectionError):
        await mock.request("GET", "/zones")
    assert "management-node-down ends" in await mock.advance(1)
    assert (await mock.request("GET", "/management-nodes/ready"))[0] == 200
    assert (await polled(mock, start))[0] == 202 and await mock.query("zones", "name=z") == []
    assert (await mock.query("vm-instances", "name=ci-1"))[0]["state"] == "Stopped"
    assert (await control(mock, "GET", "incidents"))[1] == {"incidents": []}


async def test_a_management_node_may_stay_down_until_it_is_told(mock):
    incident = await strike(mock, "management-node-down", {})
    await mock.advance(1e6)
    with pytest.raises(aiohttp.ClientConnectionError):
        await mock.request("GET", "/zones")
    await end(mock, incident)
    await mock.login()
    assert await names(mock, "zones") == {"zone-1"}


async def test_a_call_that_waits_for_its_answer_when_the_node_goes_gets_none(mock):
    mock.rule(api="CreateZone", delay=20, then={"at": "accept"})
    asked = asyncio.create_task(mock.request("POST", "/zones", {"params": {"name": "z"}}))
    while not mock.clock.sleepers:
        await asyncio.sleep(0)
    await strike(mock, "management-node-restart", {})
    await mock.advance(20)
    with pytest.raises(aiohttp.ClientConnectionError):
        await asked


async def test_a_web_hook_of_before_the_restart_is_never_told(mock):
    async def never(reader, writer):
        raise AssertionError("told")

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    hook = {"X-Web-Hook": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"}
    mock.rule(api="CreateZone", then={"webhook": "late"})
    await mock.request("POST", "/zones", {"params": {"name": "z"}}, hook)
    await mock.advance(11)
    await strike(mock, "management-node-restart", {})
    await mock.advance(100)
    server.close()


# the licence


async def test_without_a_licence_things_can_be_looked_at_but_not_changed(mock):
    before = await mock.call("GetLicenseInfo")
    incident = await strike(mock, "license-expired", {})
    shown = (await mock.call("GetLicenseInfo"))["inventory"]
    assert shown["expired"] is True and shown["expiredDate"] < before["inventory"]["expiredDate"]
    assert all(addon["expired"] for addon in (await mock.call("GetLicenseAddOns"))["addons"])
    job = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
    await mock.advance(10)
    assert (await polled(mock, job))[:2] == (503, "LICENSE.1000")
    assert await names(mock, "zones") == {"zone-1"}
    assert "the license has expired" in await warnings(mock)
    await end(mock, incident)
    assert await mock.call("GetLicenseInfo") == before
    assert (await mock.create("CreateZone", name="z"))["name"] == "z"


async def test_what_was_accepted_with_a_licence_goes_on_without(mock):
    job = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
    await strike(mock, "license-expired", {})
    await mock.advance(10)
    assert (await polled(mock, job))[0] == 200


async def test_a_new_licence_helps(mock):
    await strike(mock, "license-expired", {})
    node = (await mock.query("management-nodes"))[0]["uuid"]
    await mock.call("UpdateLicense", managementNodeUuid=node, license="new")
    assert (await mock.call("GetLicenseInfo"))["inventory"]["expired"] is False
    assert (await mock.create("CreateZone", name="z"))["name"] == "z"


@pytest.mark.parametrize("again", ("UpdateLicense", "DeleteLicense"))
@pytest.mark.parametrize("first", ("UpdateLicense", "DeleteLicense"))
async def test_a_new_licence_helps_also_if_it_ends_with_the_former_one(zmock, first, again):
    node = (await zmock.query("management-nodes"))[0]["uuid"]
    params = {"managementNodeUuid": node, "license": "new"}
    await zmock.call(first, **params)
    before = (await zmock.call("GetLicenseInfo"))["inventory"]
    await strike(zmock, "license-expired", {})
    assert (await zmock.call("GetLicenseInfo"))["inventory"]["expired"] is True
    await zmock.call(again, **params)
    after = (await zmock.call("GetLicenseInfo"))["inventory"]
    assert after["expired"] is False and (after == before) == (first == again)
    assert (await zmock.create("CreateZone", name="z"))["name"] == "z"
    await strike(zmock, "license-expired", {})
    assert (await zmock.call("GetLicenseInfo"))["inventory"]["expired"] is True


# their end


async def test_incidents_end_with_the_process(tmp_path):
    kinds = ("hosts", "primary-storage", "backup-storage")
    async with serve(memory=False, data=str(tmp_path)) as mock:
        await mock.login()
        before = [await names(mock, kind, "status=Connected") for kind in kinds]
        room = {ps["name"]: ps["availableCapacity"] for ps in await mock.query("primary-storage")}
        await mock.incident({"network-partition": "zone-1"})
        await mock.incident({"primary-storage-full": "ps-nfs"})
        await mock.incident({"license-expired": {}})
        await mock.incident({"management-node-down": 1000})
    async with serve(memory=False, data=str(tmp_path)) as mock:
        await mock.login()
        assert [await names(mock, kind, "status=Connected") for kind in kinds] == before
        assert {ps["name"]: ps["availableCapacity"] for ps in await mock.query("primary-storage")} == room
        assert (await mock.call("GetLicenseInfo"))["inventory"]["expired"] is False
        assert await names(mock, "vm-instances", "state=Unknown") == {"batch-1"}


# anything in any order


async def stir(mock, random, n):
    """One of the things that clients, testers and fate do."""
    vm = random.choice([vm["uuid"] for vm in mock.cloud.store.rows("VmInstance")])
    host, job = f"host-{random.randint(1, 4)}", random.choice([*mock.cloud.jobs.running, "none"])
    path, act = f"/vm-instances/{vm}/actions", random.choice("startVm stopVm rebootVm pauseVm resumeVm recoverVm expungeVm".split())
    happens = random.choice((
        lambda: mock.request("POST", "/vm-instances", {"params": VM | {"name": f"v{n}", "dataDiskOfferingUuids": [named("disk-100g")] * (n % 2)}}),
        lambda: mock.request("PUT", path, {act + "Instance": {}}),
        lambda: mock.request("PUT", path, {"migrateVm": {}}),
        lambda: mock.request("DELETE", f"/vm-instances/{vm}"),
        lambda: mock.request("PUT", f"/hosts/{named(host)}/actions", {"reconnectHost": {}}),
        lambda: mock.request("POST", "/longjobs", {"params": {"jobName": "APIMigrateVmMsg", "jobData": '{"vmInstanceUuid": "%s"}' % vm}}),
        lambda: mock.incident({"host-down": host}),
        lambda: mock.incident({"network-partition": random.choice(["cluster-1", "cluster-2", "zone-1", ["host-1", "host-3"]])}),
        lambda: mock.incident({"primary-storage-full": random.choice(["ps-nfs", "ps-local"])}),
        lambda: mock.incident(random.choice([{"license-expired": {}}, {"management-node-restart": {}}, {"management-node-down": 20}])),
        lambda: mock.end_incident(random.choice([*mock.cloud.outages.incidents, "none"])),
        lambda: control(mock, "POST", f"jobs/{job}", {"do": random.choice(["finish", "fail", "expire"])}),
        *[lambda: mock.advance(random.uniform(0, 8))] * 4,
    ))  # fmt: skip
    try:
        await happens()
    except aiohttp.ClientConnectionError:
        assert mock.cloud.outages.nodes_away


@pytest.mark.parametrize("seed", range(20))
async def test_when_all_is_over_capacities_states_and_lines_are_as_they_should_be(mock, seed):
    random, store = Random(seed), mock.cloud.store

    def sizes():
        on_it = {ps["uuid"]: [item for type in ("Volume", "ImageCache") for item in store.find(type, "primaryStorageUuid", ps["uuid"])] for ps in store.rows("PrimaryStorage")}
        return {ps["name"]: available_capacity(mock.cloud, ps) + sum(item["size"] for item in on_it[ps["uuid"]]) for ps in store.rows("PrimaryStorage")}

    before = sizes()
    for then in ({"job": "hold"}, {"job": "lose"}, {"job": "expire"}, {"error": "HOST.1010", "at": "after"}, {"error": "HOST.1010"}):
        mock.rule(api="*Vm*", probability=0.1, then=then)
    for n in range(60):
        await stir(mock, random, n)
    mock.rest.faults.clear()
    for id in [*mock.cloud.outages.incidents]:
        await mock.end_incident(id)
    while mock.cloud.jobs.running:
        for job in [job["uuid"] for job in mock.jobs() if job["state"] == "held" and mock.cloud.jobs.running[job["uuid"]].run]:
            assert (await control(mock, "POST", f"jobs/{job}", {"do": "finish"}))[0] == 200
        await mock.advance(300)
    assert (sizes(), mock.cloud.jobs.queues, mock.cloud.outages.hosts, mock.cloud.outages.full_storages, mock.cloud.outages.licenses) == (before, {}, {}, {}, {})
    for host in store.rows("Host"):
        vms = store.find("VmInstance", "hostUuid", host["uuid"])
        assert available_cpus(mock.cloud, host) >= 0 and available_memory(mock.cloud, host) >= 0
        assert host["status"] == "Connected" or host["name"] == "host-4"
        assert {vm["state"] for vm in vms} <= ({"Running", "Paused"} if host["status"] == "Connected" else {"Unknown"})
    assert {ps["status"] for ps in store.rows("PrimaryStorage")} == {"Connected"}
    assert {vm["state"] for vm in store.rows("VmInstance") if "hostUuid" not in vm} <= {"Created", "Stopped", "Destroyed"}
    addresses = [nic["ip"] for nic in store.rows("VmNic") if nic.get("ip")]
    assert len(addresses) == len(set(addresses))


async def test_a_creation_that_fails_because_it_was_destroyed_gives_back_once_what_it_took(mock):
    capacity = [(host["name"], host["availableCpuCapacity"]) for host in await mock.query("hosts")]
    job = await submit(mock, "POST", "/vm-instances", {"params": VM})
    await mock.advance(1)
    (vm,) = await mock.query("vm-instances", "name=v")
    destroy = await submit(mock, "DELETE", f"/vm-instances/{vm['uuid']}")
    await mock.advance(20)
    assert [(await polled(mock, uuid))[0] for uuid in (job, destroy)] == [503, 200]
    assert [(host["name"], host["availableCpuCapacity"]) for host in await mock.query("hosts")] == capacity


# what is no incident


@each(
    ("body", "status", "told"),
    (
        ({"host-dwn": "host-1"}, 400, "did you mean host-down?"),
        ({"host-down": "hots-1"}, 404, "did you mean host-1?"),
        ({"host-down": 5}, 404, "no Host 5"),
        ({"host-down": {}}, 404, "no Host"),
        ({"network-partition": "zone-9"}, 404, "did you mean zone-1?"),
        ({"network-partition": []}, 404, "no Zone or Cluster or Host"),
        ({"network-partition": ["host-1", "host-9"]}, 404, "no Zone or Cluster or Host 'host-9'"),
        ({"primary-storage-full": "bs-1"}, 404, "no PrimaryStorage 'bs-1'"),
        ({"management-node-down": "30"}, 400, "is a number from 0"),
        ({"management-node-down": -1}, 400, "is a number from 0"),
        ({"management-node-restart": 5}, 400, "is about nothing"),
        ({"license-expired": "host-1"}, 400, "is about nothing"),
        ({"host-down": "host-1", "license-expired": {}}, 400, "an incident is"),
        ({}, 400, "an incident is"),
        ([], 400, "an incident is"),
        ("host-down", 400, "an incident is"),
    ),
    ids=str,
)  # fmt: skip
async def test_what_is_no_incident_is_refused_and_changes_nothing(mock, body, status, told):
    before = [await mock.query(kind) for kind in ("hosts", "vm-instances", "notifications", "zones")]
    got, answer = await control(mock, "POST", "incidents", body)
    assert got == status and told in answer["error"]
    assert [await mock.query(kind) for kind in ("hosts", "vm-instances", "notifications", "zones")] == before
    assert (await control(mock, "GET", "incidents"))[1] == {"incidents": []}


async def test_a_handle_and_a_reset_know_incidents(mock):
    told = await mock.incident(host_down="host-1")
    await mock.incident({"management-node-down": {}})
    assert told == {"id": "incident-1", "host-down": "host-1", "uuid": named("host-1")}
    await mock.reset()
    await mock.login()
    assert await names(mock, "hosts", "status=Connected") == DOWN
    assert (await mock.incident(license_expired={}))["id"] == "incident-1"
    await mock.end_incident("incident-1")


async def test_a_handle_begins_one_incident_at_a_time(mock):
    for begin in (
        lambda: mock.incident({"license-expired": {}}, host_down="host-1"),
        lambda: mock.incident(license_expired={}, host_down="host-1"),
        mock.incident,
    ):
        with pytest.raises(ValueError, match="an incident is"):
            await begin()
    assert (await control(mock, "GET", "incidents"))[1] == {"incidents": []}


def test_every_incident_is_one_of_the_six():
    assert set(INCIDENTS) == {"host-down", "network-partition", "primary-storage-full", "management-node-restart", "management-node-down", "license-expired"}
