"""What the real server does with calls on zones, clusters and hosts, fact by fact, in both dialects.

The patterns that all areas share come first, then zones, clusters, hosts with their capacity, and the cascades that these three begin.
"""

import json

from asking import each, one, outcome
from facts import Fact, Refused, Shown, Uncovered, after, chain, changed, check, error_of, take
from test_facts_images import breaks
from test_facts_vm import (
    ABSENT,
    BATCH,
    BS,
    C1,
    C2,
    CENTOS,
    GIB,
    HOST1,
    HOST2,
    HOST3,
    HOST4,
    LOCAL,
    NEW,
    NFS,
    NOBODY,
    PAUSE,
    PRIVATE,
    VM,
    WEB,
    ZONE,
    V,
    answers,
    capacity,
    configured,
    every_host,
    first_volumes_on_local_storage,
    gone,
    leaves,
    look_at,
    tagged,
)

from zmock import available_memory, named

HOST = {"name": "new", "resourceUuid": NEW, "username": "root", "password": "secret", "managementIp": "10.10.0.99", "clusterUuid": C1}
ADD, ROUTER = ("AddKVMHost", HOST), named("router")
CHANGE_ZONE, CHANGE_CLUSTER = "ChangeZoneState", "ChangeClusterState"
SIMULATED = ("CreateCluster", {"name": "s", "zoneUuid": ZONE, "hypervisorType": "Simulator", "resourceUuid": named("sims")})


def state(api, uuid, event):
    """A call that changes a state."""
    return (api, {"uuid": uuid, "stateEvent": event})


def maintain(host=HOST1):
    return state("ChangeHostState", host, "maintain")


def enable(host=HOST1):
    return state("ChangeHostState", host, "enable")


async def appliance(mock, host=HOST1, **more):
    """A step that adds a router, which runs on a host; its root volume is on shared storage."""
    values = {"type": "ApplianceVm", "applianceVmType": "VirtualRouter", "status": "Connected", "cpuNum": 1, "memorySize": GIB, "imageUuid": CENTOS}
    values |= {"clusterUuid": mock.cloud.look("Host", host)["clusterUuid"], "zoneUuid": ZONE, "hypervisorType": "KVM", "hostUuid": host, "state": "Running"}
    mock.cloud.add("VmInstance", uuid=ROUTER, name="router", rootVolumeUuid=named("router-root"), **values | more)
    mock.cloud.add("Volume", uuid=named("router-root"), name="ROOT-for-router", type="Root", vmInstanceUuid=ROUTER, primaryStorageUuid=NFS, size=GIB, deviceId=0, status="Ready")
    mock.cloud.add("VmNic", vmInstanceUuid=ROUTER, l3NetworkUuid=PRIVATE, deviceId=0, mac="fa:00:00:00:00:99", ip="192.168.100.250")


def router(**more):
    return lambda mock: appliance(mock, **more)


def all_are(type, key, uuid, **fields):
    """A step: all objects of a type with this key have these fields."""

    async def look(mock):
        items = mock.cloud.find(type, key, uuid)
        assert items
        for item in items:
            look_at(mock, (type, item["uuid"]), fields)

    return look


def seen(*steps, last):
    """A story: after some steps, a coroutine function of the mock asserts something."""

    async def story(mock):
        await take(mock, steps)
        await last(mock)

    return Shown(story)


def meanwhile(api, params, of, then=(), **fields):
    """A story: while the job of a call runs, an object has these fields; when it has ended, those of `then`."""

    async def story(mock):
        mock.rule(api=api, delay=8)
        row, given = mock.cloud.catalogue.apis[api], {**params}
        body = {row.key: given} if row.key else None
        await mock.request(row.method, row.path.replace("{uuid}", given.pop("uuid", "")), body)
        await mock.advance(1)
        look_at(mock, of, fields)
        await mock.advance(9)
        look_at(mock, of, dict(then))

    return Shown(story)


# zones and clusters


async def disabled_storage(mock):
    before = await mock.call("GetPrimaryStorageCapacity", all=True)
    for uuid, changes in ((NFS, {"state": "Disabled"}), (LOCAL, {"status": "Disconnected"})):
        mock.cloud.change("PrimaryStorage", uuid, **changes)
    assert await mock.call("GetPrimaryStorageCapacity", all=True) == before


async def dated(mock):
    mock.before = mock.cloud.look("Zone", ZONE)["lastOpDate"]
    await mock.advance(100)


def keeps_its_date(*steps, kept=True):
    async def story(mock):
        await take(mock, [dated, *steps])
        assert (mock.cloud.look("Zone", ZONE)["lastOpDate"] == mock.before) == kept

    return Shown(story)


async def one_zone(mock):
    await mock.create("CreateZone", name="z2")
    assert [zone["name"] for zone in (await mock.call("GetZone", uuid=ZONE))["inventories"]] == ["zone-1"]


async def zones_of_one_name(mock):
    for _ in range(2):
        await mock.create("CreateZone", name="zone-1")
    assert len(await mock.query("zones", "name=zone-1")) == 3


async def with_tags(mock):
    body = {"params": {"name": "z", "resourceUuid": NEW}, "userTags": ["mine"]}
    assert (await outcome(mock, "POST", "/zones", body))[0] == 200
    assert [tag["tag"] for tag in mock.cloud.find("UserTag", "resourceUuid", NEW)] == ["mine"]


async def nothing_of_the_zone(mock):
    left = ("Zone", "Cluster", "Host", "PrimaryStorage", "L2Network", "L3Network", "IpRange", "Vip", "Eip", "VmInstance", "VmNic")
    assert {type: [item["name"] for item in mock.cloud.store.rows(type)] for type in left} == dict.fromkeys(left, [])


async def kept_by_the_zone(mock):
    kept = ("BackupStorage", "Image", "DiskOffering", "Account")
    before = {type: len(list(mock.cloud.store.rows(type))) for type in kept}
    await take(mock, [("DeleteZone", {"uuid": ZONE})])
    assert {type: len(list(mock.cloud.store.rows(type))) for type in kept} == before
    assert [row["name"] for row in mock.cloud.store.rows("InstanceOffering")] and not mock.cloud.look("BackupStorage", BS)["attachedZoneUuids"]


async def gc_of_the_zone(mock):
    """The virtual machines are rows that go: nobody tries to stop them on hosts that are away."""
    before = len(list(mock.cloud.store.rows("GarbageCollector")))
    await take(mock, [("DeleteZone", {"uuid": ZONE})])
    assert len(list(mock.cloud.store.rows("GarbageCollector"))) == before


async def used_uuid(mock):
    await take(mock, [("CreateZone", {"name": "z", "resourceUuid": NEW}), ("DeleteZone", {"uuid": NEW})])
    status, answer = await outcome(mock, "POST", "/zones", {"params": {"name": "z", "resourceUuid": NEW}})
    assert (status, answer["error"]["code"]) == (503, "SYS.1000")


async def kept_by_the_cluster(mock):
    before = {type: len(list(mock.cloud.store.rows(type))) for type in ("PrimaryStorage", "L2Network", "L3Network", "Volume", "VmInstance")}
    await take(mock, [("DeleteCluster", {"uuid": C1})])
    assert {type: len(list(mock.cloud.store.rows(type))) for type in before} == before
    for type in ("PrimaryStorage", "L2Network"):
        assert not any(C1 in item["attachedClusterUuids"] for item in mock.cloud.store.rows(type))


def children_under(parent, api, params, type, uuid=NEW):
    """A story: a Disabled parent takes a new child, which is Enabled."""
    return leaves(changed(*parent, state="Disabled"), (api, {"name": "new", "resourceUuid": NEW} | params), of=(type, uuid), state="Enabled")


async def no_tags_of_the_removed(mock):
    for type in ("SystemTag", "UserTag"):
        assert all(mock.cloud.exists("Resource", tag["resourceUuid"]) for tag in mock.cloud.store.rows(type))


def nothing_answered(api, params):
    async def story(mock):
        row = mock.cloud.catalogue.apis[api]
        assert (await outcome(mock, row.method, row.path.replace("{uuid}", params["uuid"])))[1] in ({}, None, "")

    return Shown(story)


def unknown_uuid(api):
    return seen(last=nothing_answered(api, {"uuid": NOBODY}).story)


# the operating systems of a cluster


READY = changed("Host", HOST4, status="Connected")
UPDATE = ("UpdateClusterOS", {"uuid": C2})


async def end_of_update(mock):
    await mock.advance(600)
    await mock.login()


def updated(*steps, results=None, state="Succeeded", failed=""):
    """A story: the long job of an update ends in a state, with these results by host."""

    async def story(mock):
        await take(mock, [READY, *steps])
        job = (await mock.call("UpdateClusterOS", uuid=C2))["inventory"]
        await end_of_update(mock)
        job = await one(mock, "longjobs", f"uuid={job['uuid']}")
        assert job["state"] == state
        assert json.loads(job["jobResult"]) == results if results else failed in job["jobResult"]

    return Shown(story)


async def job_of_an_update(mock):
    body = {"updateClusterOS": {"excludePackages": ["a", "b"], "resourceUuid": NEW}, "systemTags": [], "userTags": ["mine"]}
    status, answer = await outcome(mock, "PUT", f"/clusters/{C1}/actions", body)
    job = answer["inventory"]
    assert (status, job["uuid"], job["name"], job["jobName"]) == (200, NEW, "APIUpdateClusterOSMsg", "APIUpdateClusterOSMsg")
    assert job["jobData"] == f"{{'uuid':'{C1}', 'excludePackages':'a,b'}}" and job["state"] == "Running"
    assert [tag["tag"] for tag in mock.cloud.find("UserTag", "resourceUuid", NEW)] == ["mine"]
    await end_of_update(mock)


async def no_packages(mock):
    job = await mock.create("UpdateClusterOS", uuid=C1)
    assert job["jobData"] == f"{{'uuid':'{C1}', 'excludePackages':''}}"
    await end_of_update(mock)


async def hosts_of_an_update(mock):
    """The hosts are out of use while the job runs; one in maintenance stays there, and virtual machines stay."""
    mock.cloud.settings.long_delay = "100"
    await take(mock, [READY, changed("Host", HOST3, state="Disabled"), changed("Host", HOST4, state="Maintenance"), UPDATE])
    await mock.advance(60)
    assert [mock.cloud.look("Host", uuid)["state"] for uuid in (HOST3, HOST4)] == ["PreMaintenance", "Maintenance"]
    assert mock.cloud.find("VmInstance", "hostUuid", HOST3)
    await mock.advance(60)
    assert [mock.cloud.look("Host", uuid)["state"] for uuid in (HOST3, HOST4)] == ["Disabled", "Maintenance"]
    assert mock.cloud.look("Host", HOST3)["status"] == "Connected"


async def no_cancellation(mock):
    mock.cloud.settings.long_delay = "100"
    job = await mock.create("UpdateClusterOS", uuid=C1)
    await mock.call("CancelLongJob", uuid=job["uuid"])
    await mock.advance(200)
    await mock.login()
    assert (await one(mock, "longjobs", f"uuid={job['uuid']}"))["state"] == "Succeeded"


async def away_in_between(mock):
    mock.cloud.settings.long_delay = "100"
    await take(mock, [READY])
    job = await mock.create("UpdateClusterOS", uuid=C2)
    await mock.advance(60)
    mock.cloud.change("Host", HOST4, status="Disconnected")
    await mock.advance(60)
    await mock.login()
    assert mock.cloud.look("Host", HOST4)["state"] == "Enabled"
    job = await one(mock, "longjobs", f"uuid={job['uuid']}")
    assert (job["state"], json.loads(job["jobResult"])) == (
        "Succeeded", {HOST3: "success", HOST4: "host is not in the connected status, cannot update os"})  # fmt: skip


async def two_updates(mock):
    """The second one finds the hosts in PreMaintenance. They are as before when the first one ends."""
    mock.cloud.settings.long_delay = "100"
    await take(mock, [READY])
    first, second = [(await mock.create("UpdateClusterOS", uuid=C2))["uuid"] for _ in range(2)]
    await mock.advance(110)
    await mock.login()
    busy = "host is in the premaintenance state, cannot update os"
    for job, result in ((first, "success"), (second, busy)):
        assert json.loads((await one(mock, "longjobs", f"uuid={job}"))["jobResult"]) == {HOST3: result, HOST4: result}
    assert [mock.cloud.look("Host", uuid)["state"] for uuid in (HOST3, HOST4)] == ["Enabled"] * 2


async def on_the_nfs_server(mock):
    """host-3 is the NFS server of the storage with all root volumes."""
    mock.cloud.change("PrimaryStorage", NFS, url="10.10.0.13:/export")


# hosts


async def never_raised(mock):
    rows = mock.cloud.catalogue.apis.values()
    codes = {code for row in rows for refusal in row.refusals for code in refusal.codes} | {code for row in rows for code in row.fails.split(" <- ")}
    assert len(codes) > 20 and not codes & {"HOST.1000", "HOST.1004", "BS.1000", "VM.1000"}


async def partition(mock):
    await mock.incident({"network-partition": "zone-1"})


async def tags_of_a_new_host(mock):
    await take(mock, [ADD])
    tags = {tag["tag"]: tag["inherent"] for tag in mock.cloud.find("SystemTag", "resourceUuid", NEW)}
    assert {tag for tag in tags if tags[tag]} == {"os::distribution::CentOS", "os::release::Core", "os::version::7.4.1708"}
    assert {tag.split("::")[0] for tag in tags if not tags[tag]} == {"qemu-img", "libvirt", "hvm", "cpuModelName", "capability:virtio-scsi", "capability"}


async def own_tags(mock):
    body = {"params": HOST, "systemTags": ["reservedMemory::4G"], "userTags": ["mine"]}
    assert (await outcome(mock, "POST", "/hosts/kvm", body))[0] == 200
    assert mock.cloud.find("SystemTag", "tag", "reservedMemory::4G") and mock.cloud.find("UserTag", "resourceUuid", NEW)


async def no_trace(mock):
    mock.rule(api="AddKVMHost", times=1, then={"error": "SYS.1006", "stage": "connect"})
    body = {"params": HOST, "userTags": ["mine"]}
    status, answer = await outcome(mock, "POST", "/hosts/kvm", body)
    assert (status, answer["error"]["code"], "cause" in answer["error"]) == (503, "SYS.1006", False)
    assert not mock.cloud.look("Host", NEW) and not mock.cloud.find("UserTag", "resourceUuid", NEW)
    assert (await mock.create("AddKVMHost", **HOST))["uuid"] == NEW, "the uuid is free again"


async def no_more_disk(mock):
    before = await mock.call("GetPrimaryStorageCapacity", primaryStorageUuids=[LOCAL])
    mock.rule(api="AddKVMHost", then={"error": "SYS.1006", "stage": "prepare"})
    assert await error_of(mock, "AddKVMHost", HOST | {"clusterUuid": C2})
    assert await mock.call("GetPrimaryStorageCapacity", primaryStorageUuids=[LOCAL]) == before


def retagged(host, begin, text):
    """A step that gives a host another tag in the place of the one that begins so."""

    async def step(mock):
        for tag in mock.cloud.find("SystemTag", "resourceUuid", host):
            if tag["tag"].startswith(begin):
                mock.cloud.change("SystemTag", tag["uuid"], tag=text)

    return step


def unlike(begin, text, words, *steps):
    return Refused(after(retagged(HOST1, begin, text), *steps, **HOST), "SYS.1006", f"host [uuid:{NEW}] cannot be added to cluster [uuid:{C1}] because {words} does not match")


async def one_after_the_other(mock):
    """Two hosts of one address: the second is refused, whichever is first."""
    mock.rule(api="AddKVMHost", delay=5)
    jobs = [(await mock.request("POST", "/hosts/kvm", {"params": HOST | {"resourceUuid": named(f"h{n}")}}))[1]["location"][-32:] for n in (1, 2)]
    await mock.advance(20)
    assert [(await mock.request("GET", f"/api-jobs/{job}"))[0] for job in jobs] == [200, 503]


async def maintenance_moves(mock):
    running = [vm["uuid"] for vm in mock.cloud.find("VmInstance", "hostUuid", HOST1)]
    await take(mock, [router(), maintain()])
    for uuid in [*running, ROUTER]:
        vm = mock.cloud.look("VmInstance", uuid)
        assert vm["state"] == "Running" and vm["hostUuid"] in (HOST2, HOST3) and vm["lastHostUuid"] == HOST1


async def maintenance_with_local_storage(mock):
    await take(mock, [first_volumes_on_local_storage, maintain(HOST3)])
    look_at(mock, ("VmInstance", NEW), {"state": "Stopped", "hostUuid": ABSENT, "lastHostUuid": HOST3})
    assert mock.cloud.look("Host", HOST3)["state"] == "Maintenance"


STUCK = changed("VmInstance", WEB, state="Rebooting")


async def failed_maintenance(mock):
    others = [vm["uuid"] for vm in mock.cloud.find("VmInstance", "hostUuid", HOST1) if vm["uuid"] != WEB]
    await take(mock, [changed("Host", HOST1, state="Disabled"), STUCK])
    assert others and await error_of(mock, "ChangeHostState", maintain()[1])
    assert mock.cloud.look("Host", HOST1)["state"] == "Disabled"
    assert {mock.cloud.look("VmInstance", uuid)["hostUuid"] for uuid in others} <= {HOST2, HOST3}
    look_at(mock, ("VmInstance", WEB), {"state": "Rebooting", "hostUuid": HOST1})


def out_of_maintenance(event, then, *steps, status="Connected"):
    """A story: the host answers at once, is Connecting then, and at last has this status; machines stay Stopped."""

    async def story(mock):
        for host in (HOST2, HOST3):
            mock.cloud.change("Host", host, state="Disabled")
        await take(mock, [maintain(), *steps])
        look_at(mock, ("VmInstance", WEB), {"state": "Stopped"})
        mock.rule(api="ChangeHostState", delay=5)
        _, job = await mock.request("PUT", f"/hosts/{HOST1}/actions", {"changeHostState": {"stateEvent": event}})
        await mock.advance(6)
        assert (await mock.request("GET", "/api-jobs/" + job["location"][-32:]))[0] == 200
        look_at(mock, ("Host", HOST1), {"state": then, "status": "Connecting"})
        await mock.advance(10)
        look_at(mock, ("Host", HOST1), {"state": then, "status": status})
        look_at(mock, ("VmInstance", WEB), {"state": "Stopped"})

    return Shown(story)


async def lose_host_1(mock):
    await mock.incident({"host-down": "host-1"})


async def no_reconnection(mock):
    """Enabling a Disabled host does not connect it anew."""
    await take(mock, [changed("Host", HOST1, state="Disabled", status="Disconnected"), enable()])
    await mock.advance(100)
    look_at(mock, ("Host", HOST1), {"state": "Enabled", "status": "Disconnected"})


NO_SSH = "unable to connect to KVM[ip:10.10.0.11, username:root, sshPort:22] to check the management node connectivity,please check if username/password is wrong; *"


async def failed_reconnection(mock):
    """The details are the same in all three errors."""
    await lose_host_1(mock)
    errors = chain(await error_of(mock, "ReconnectHost", {"uuid": HOST1}))
    assert len(errors) == 3 and len({error["details"] for error in errors}) == 1
    look_at(mock, ("Host", HOST1), {"status": "Disconnected"})


async def lost_by_reconnection(mock):
    mock.rule(api="ReconnectHost", then={"error": "SYS.1006", "stage": "reconnect"})
    errors = chain(await error_of(mock, "ReconnectHost", {"uuid": HOST1}))
    assert [error["code"] for error in errors] == ["HOST.1002", "HOST.1002", "SYS.1006"]
    look_at(mock, ("Host", HOST1), {"status": "Disconnected"})
    look_at(mock, ("VmInstance", WEB), {"state": "Unknown"})


async def known_again(mock):
    assert mock.cloud.look("VmInstance", BATCH)["state"] == "Unknown"
    await take(mock, [("ReconnectHost", {"uuid": HOST4})])
    look_at(mock, ("VmInstance", BATCH), {"state": "Running", "hostUuid": HOST4})


async def deleted_local_host(mock):
    await take(mock, [first_volumes_on_local_storage, ("DeleteHost", {"uuid": HOST3})])
    assert not mock.cloud.look("VmInstance", NEW) and not mock.cloud.find("Volume", "vmInstanceUuid", NEW)
    assert not mock.cloud.find("LocalStorageResourceRef", "hostUuid", HOST3) and not mock.cloud.find("ImageCache", "hostUuid", HOST3)


async def deleted_host(mock):
    await take(mock, [("DeleteHost", {"uuid": HOST1})])
    assert await mock.query("hosts", f"uuid={HOST1}") == [] and not mock.cloud.find("SystemTag", "resourceUuid", HOST1)


async def last_of_a_cluster(mock):
    """The storage is that of the other cluster too; what its virtual machines use counts."""
    (before,) = await mock.query("primary-storage", f"uuid={NFS}")
    await take(mock, [("DeleteHost", {"uuid": HOST3}), ("DeleteHost", {"uuid": HOST4})])
    names = ("totalCapacity", "availableCapacity", "totalPhysicalCapacity", "availablePhysicalCapacity")
    look_at(mock, ("PrimaryStorage", NFS), dict.fromkeys(names, 0) | {"status": "Connected"})
    await take(mock, [("ReconnectHost", {"uuid": HOST1})])
    look_at(mock, ("PrimaryStorage", NFS), {name: before[name] for name in names})


async def last_host(mock):
    """The virtual machine was on host-1 last: it does not say so any more."""
    await take(mock, [("MigrateVm", {"vmInstanceUuid": WEB, "hostUuid": HOST2}), ("DeleteHost", {"uuid": HOST1})])
    look_at(mock, ("VmInstance", WEB), {"lastHostUuid": ABSENT, "hostUuid": HOST2, "state": "Running"})


async def gc_of_the_deletion(mock):
    await take(mock, [lose_host_1, ("DeleteHost", {"uuid": HOST1})])
    job = await one(mock, "gc-jobs", f"name=gc-stop-vm-{WEB}-web-1-on-host-{HOST1}")
    assert job["runnerClass"].endswith("StopVmGC")


async def shells(mock):
    await take(mock, [lose_host_1])
    results = (await mock.call("KvmRunShell", hostUuids=[HOST1, HOST2, HOST4], script="uptime"))["inventory"]
    assert results[HOST2] == results[HOST4] == {"returnCode": 0, "stdout": "", "stderr": ""}
    error = results[HOST1].pop("errorCode")
    assert results[HOST1] == {"returnCode": 0} and error["code"] == "SYS.1006"
    assert error["details"].startswith("unable to connect to KVM[ip:10.10.0.11, username:root, sshPort:22 ] to do DNS check, please check if username/password is wrong; ")


# capacity


def memory(*steps, reserved=None, of=(HOST1, HOST2, HOST3), **params):
    """A story: the memory of these hosts is available, but for what is reserved, in bytes."""

    async def story(mock):
        await take(mock, steps)
        body = await mock.call("GetCpuMemoryCapacity", **params)
        hosts = [mock.cloud.look("Host", uuid) for uuid in of]
        free = sum(available_memory(mock.cloud, host) for host in hosts)
        assert body["availableMemory"] == (max(0, free - reserved) if hosts else 0)
        assert (body["totalMemory"], body["totalCpu"]) == (64 * GIB * len(hosts), 160 * len(hosts))

    return Shown(story)


def levels(value, *names):
    return [configured("hostAllocator", f"reservedCapacity.{name}Level", value) for name in names]


async def sums_of_the_rest(mock):
    """Recalculated: 16 processors ten times, less those of the machines there; a stopped one takes nothing."""
    (host,) = await mock.query("hosts", f"uuid={HOST1}")
    vms = [vm for vm in mock.cloud.find("VmInstance", "hostUuid", HOST1) if vm["state"] not in ("Destroyed", "Created", "Destroying", "Stopped")]
    assert host["availableCpuCapacity"] == 160 - sum(vm["cpuNum"] for vm in vms)
    assert host["availableMemoryCapacity"] == 64 * GIB - sum(vm["memorySize"] for vm in vms)


async def another_ratio(mock):
    before = (await mock.query("hosts", f"uuid={HOST1}"))[0]
    await take(mock, [configured("host", "cpu.overProvisioning.ratio", "5")])
    now = (await mock.query("hosts", f"uuid={HOST1}"))[0]
    assert (now["totalCpuCapacity"], before["availableCpuCapacity"] - now["availableCpuCapacity"]) == (80, 80)


async def no_zone(mock):
    await take(mock, [("DeleteZone", {"uuid": ZONE})])
    body = await mock.call("GetCpuMemoryCapacity", all=True)
    assert {body[name] for name in ("totalCpu", "availableCpu", "totalMemory", "availableMemory", "managedCpuNum")} == {0}


FACTS = (
    # patterns
    Fact("AddKVMHost", "a refused argument is SYS.1007 without cause", Refused(HOST | {"managementIp": "10.10.0.11"}, "SYS.1007")),
    Fact("ChangeHostState", "a refused operation is SYS.1006 without cause", V("SYS.1006", {"uuid": HOST4, "stateEvent": "maintain"})),
    Fact("ReconnectHost", "a wrapper has the details of its cause", Shown(failed_reconnection)),
    Fact("ChangeHostState", "a state machine without a transition is SYS.1000, never SYS.1005", V("SYS.1000", {"uuid": HOST1, "stateEvent": "maintain"}, "*", maintain())),
    *(Fact(api, "a reference to nothing is SYS.1003, before all else", Refused({"uuid": NOBODY} | more, "SYS.1003", f"invalid field[uuid], resource[uuid:{NOBODY}, type:*"))
        for api, more in (("UpdateZone", {}), ("ChangeClusterState", {"stateEvent": "enable"}), ("UpdateHost", {"managementIp": "10.10.0.11"}), ("ReconnectHost", {}))),
    Fact("AddKVMHost", "HOST.1000, HOST.1004, BS.1000 and VM.1000 are never raised", Shown(never_raised)),
    Fact("UpdateHost", "an object that is gone after the validation is SYS.1000", Uncovered("zmock validates a call when its work begins")),
    Fact("UpdateKVMHost", "a message of another service file meets no interceptor", leaves(("UpdateKVMHost", {"uuid": HOST1, "managementIp": "10.10.0.12"}), of=("Host", HOST1), managementIp="10.10.0.12")),
    *(Fact(api, "enabling what is Enabled succeeds", leaves(state(api, uuid, "enable"), of=(type, uuid), state="Enabled"))
        for api, type, uuid in ((CHANGE_ZONE, "Zone", ZONE), (CHANGE_CLUSTER, "Cluster", C1), ("ChangeHostState", "Host", HOST1))),
    Fact("CreateCluster", "takes a Disabled zone", children_under(("Zone", ZONE), "CreateCluster", {"zoneUuid": ZONE, "hypervisorType": "KVM"}, "Cluster")),
    Fact("AddKVMHost", "takes a Disabled cluster", children_under(("Cluster", C1), "AddKVMHost", HOST, "Host")),
    Fact("CreateL2NoVlanNetwork", "takes a Disabled zone", leaves(changed("Zone", ZONE, state="Disabled"),
        ("CreateL2NoVlanNetwork", {"name": "l2", "zoneUuid": ZONE, "physicalInterface": "eth9", "resourceUuid": NEW}), of=("L2Network", NEW), name="l2")),
    Fact("AddNfsPrimaryStorage", "takes a Disabled zone", children_under(("Zone", ZONE), "AddNfsPrimaryStorage", {"zoneUuid": ZONE, "url": "10.0.0.9:/nfs"}, "PrimaryStorage")),
    Fact("CreateL3Network", "takes a Disabled zone", children_under(("Zone", ZONE), "CreateL3Network", {"l2NetworkUuid": named("l2-private")}, "L3Network")),
    Fact("AttachPrimaryStorageToCluster", "takes what is Disabled", leaves(changed("Cluster", C1, state="Disabled"), changed("PrimaryStorage", LOCAL, state="Disabled"),
        ("AttachPrimaryStorageToCluster", {"primaryStorageUuid": LOCAL, "clusterUuid": C1}), of=("PrimaryStorage", LOCAL), attachedClusterUuids=[C2, C1])),
    Fact("GetPrimaryStorageCapacity", "counts storage in any state", Shown(disabled_storage)),
    Fact("CreateVmInstance", "states count when a host is chosen", V("SYS.1006 <- HOST_ALLOCATION.1000", VM, "*", every_host(state="Disabled"))),
    *(Fact(api, "an error of the cascade is SYS.1004 with its cause", Refused(breaks(api, "Permissive"), "SYS.1004 <- HOST.1005")) for api in ("DeleteZone", "DeleteCluster", "DeleteHost")),
    *(Fact(api, "succeeds at once for an unknown uuid, with an empty body", unknown_uuid(api)) for api in ("DeleteZone", "DeleteCluster", "DeleteHost")),
    Fact("DeleteHost", "answers no field", nothing_answered("DeleteHost", {"uuid": HOST1})),
    Fact("DeleteZone", "keeps a shadow: the uuid is not free again", Shown(used_uuid)),
    Fact("DeleteHost", "takes it out of queries at once, with its tags", Shown(deleted_host)),
    Fact("UpdateZone", "answers the unchanged object when nothing is given", answers(("UpdateZone", {"uuid": ZONE}), name="zone-1", description="the data centre in Shanghai")),
    Fact("UpdateZone", "writes an empty text", leaves(("UpdateZone", {"uuid": ZONE, "description": ""}), of=("Zone", ZONE), description="", name="zone-1")),
    Fact("UpdateZone", "sets lastOpDate when it writes", keeps_its_date(("UpdateZone", {"uuid": ZONE, "name": "z"}), kept=False)),
    Fact("UpdateZone", "keeps lastOpDate when it changes no column", keeps_its_date(("UpdateZone", {"uuid": ZONE, "name": "zone-1"}))),
    Fact("AddKVMHost", "the tags of the call go with a host that cannot be connected", Shown(no_trace)),
    Fact("AddKVMHost", "Connecting can be seen", meanwhile("AddKVMHost", HOST, ("Host", NEW), {"status": "Connected"}, status="Connecting", state="Enabled")),
    Fact("ReconnectHost", "Connecting can be seen", meanwhile("ReconnectHost", {"uuid": HOST4}, ("Host", HOST4), {"status": "Connected"}, status="Connecting")),

    # zones
    Fact("CreateZone", "the type is zstack, the state Enabled", answers(("CreateZone", {"name": "z", "description": "d"}), type="zstack", state="Enabled", name="z", description="d")),
    Fact("CreateZone", "names need not be unique", Shown(zones_of_one_name)),
    Fact("CreateZone", "keeps the user tags of the call", Shown(with_tags)),
    Fact("GetZone", "answers a list of one", Shown(one_zone)),
    Fact("GetZone", "fails in the handler for an unknown uuid", Refused({"uuid": NOBODY}, "SYS.1000")),
    Fact("UpdateZone", "writes name and description", leaves(("UpdateZone", {"uuid": ZONE, "name": "n", "description": "d"}), of=("Zone", ZONE), name="n", description="d")),
    Fact("ChangeZoneState", "gives the event to the clusters and their hosts", seen(state(CHANGE_ZONE, ZONE, "disable"),
        all_are("Cluster", "zoneUuid", ZONE, state="Disabled"), last=all_are("Host", "zoneUuid", ZONE, state="Disabled"))),
    Fact("ChangeZoneState", "enables clusters that were disabled by hand, even of an Enabled zone", leaves(state(CHANGE_CLUSTER, C1, "disable"), state(CHANGE_ZONE, ZONE, "enable"), of=("Cluster", C1), state="Enabled")),
    Fact("ChangeZoneState", "touches no storage and no virtual machine", seen(state(CHANGE_ZONE, ZONE, "disable"), all_are("PrimaryStorage", "zoneUuid", ZONE, state="Enabled"),
        last=all_are("VmInstance", "hostUuid", HOST1, state="Running"))),
    Fact("ChangeZoneState", "answers the zone after the change", answers(state(CHANGE_ZONE, ZONE, "disable"), state="Disabled", name="zone-1")),
    Fact("DeleteZone", "refuses nothing: all of it goes, attached storage too, virtual machines at once", seen(router(), ("DeleteZone", {"uuid": ZONE}), last=nothing_of_the_zone)),
    Fact("DeleteZone", "asks no policy for its virtual machines", seen(configured("vm", "deletionPolicy", "Never"), ("DeleteZone", {"uuid": ZONE}), last=nothing_of_the_zone)),
    Fact("DeleteZone", "removes Paused and Destroyed virtual machines too", seen(PAUSE, ("DeleteZone", {"uuid": ZONE}), last=nothing_of_the_zone)),
    Fact("DeleteZone", "stops no virtual machine first", Shown(gc_of_the_zone)),
    Fact("DeleteZone", "keeps backup storage, which loses the zone, images, offerings and accounts", Shown(kept_by_the_zone)),

    # clusters
    Fact("CreateCluster", "the type is zstack, the state Enabled", answers(("CreateCluster", {"name": "c", "zoneUuid": ZONE, "hypervisorType": "KVM"}), type="zstack", state="Enabled", hypervisorType="KVM", zoneUuid=ZONE)),
    Fact("CreateCluster", "takes the hypervisor type that is given", answers(SIMULATED, hypervisorType="Simulator")),
    Fact("UpdateCluster", "writes name and description", leaves(("UpdateCluster", {"uuid": C1, "name": "n", "description": "d"}), of=("Cluster", C1), name="n", description="d")),
    Fact("ChangeClusterState", "gives the event to its hosts", leaves(state(CHANGE_CLUSTER, C1, "disable"), of=("Host", HOST1), state="Disabled")),
    Fact("ChangeClusterState", "leaves hosts of other clusters alone", leaves(state(CHANGE_CLUSTER, C1, "disable"), of=("Host", HOST3), state="Enabled")),
    *(Fact("ChangeClusterState", f"leaves a host in {name} out", leaves(changed("Host", HOST1, state=name), state(CHANGE_CLUSTER, C1, event), of=("Host", HOST1), state=name))
        for name, event in (("Maintenance", "enable"), ("PreMaintenance", "disable"))),
    Fact("ChangeClusterState", "touches no virtual machine", leaves(state(CHANGE_CLUSTER, C1, "disable"), of=("VmInstance", WEB), state="Running", hostUuid=HOST1)),
    Fact("ChangeClusterState", "answers the cluster after the change", answers(state(CHANGE_CLUSTER, C1, "disable"), state="Disabled")),
    Fact("DeleteCluster", "removes its hosts, virtual machines or not", gone(("DeleteCluster", {"uuid": C1}), of=("Host", HOST1))),
    Fact("DeleteCluster", "stops virtual machines that run", leaves(("DeleteCluster", {"uuid": C1}), of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT, clusterUuid=ABSENT)),
    Fact("DeleteCluster", "stops Unknown virtual machines", leaves(("DeleteCluster", {"uuid": C2}), of=("VmInstance", BATCH), state="Stopped")),
    Fact("DeleteCluster", "leaves Paused ones as they are", leaves(PAUSE, ("DeleteCluster", {"uuid": C1}), of=("VmInstance", WEB), state="Paused")),
    Fact("DeleteCluster", "keeps L2 networks, storage and volumes, which lose it", Shown(kept_by_the_cluster)),
    Fact("DeleteCluster", "moves an appliance to another cluster", leaves(router(), ("DeleteCluster", {"uuid": C1}), of=("VmInstance", ROUTER), state="Running", hostUuid=HOST3, clusterUuid=C2)),
    Fact("UpdateClusterOS", "refuses other hypervisors", V("SYS.1007", {"uuid": named("sims")}, "only kvm hosts' operating system can be updated, for now", SIMULATED)),
    Fact("UpdateClusterOS", "refuses a host in PreMaintenance, before one that is not Connected", V("SYS.1007", {"uuid": C2},
        f"there are hosts in cluster[uuid:{C2}] in the PreMaintenance state, cannot update cluster os right now", changed("Host", HOST3, state="PreMaintenance"))),
    *(Fact("UpdateClusterOS", f"refuses a host that is {status}", V("SYS.1007", {"uuid": C2}, f"not all hosts in cluster[uuid:{C2}] are in the Connected status, cannot update cluster os right now",
        changed("Host", HOST4, status=status))) for status in ("Disconnected", "Connecting")),
    Fact("UpdateClusterOS", "answers a long job with the uuid and the tags of the call", Shown(job_of_an_update)),
    Fact("UpdateClusterOS", "the data of the job have no packages", Shown(no_packages)),
    Fact("UpdateClusterOS", "the job fails if a host serves the root volume of a virtual machine over NFS", updated(on_the_nfs_server, state="Failed",
        failed="nfs server running on hosts [10.10.0.13], stop releated vm instances before update host os.")),
    Fact("UpdateClusterOS", "hosts are in PreMaintenance, then as before; one in Maintenance stays so; nothing moves", Shown(hosts_of_an_update)),
    Fact("UpdateClusterOS", "the result says how each host has fared", updated(results={HOST3: "success", HOST4: "success"})),
    Fact("UpdateClusterOS", "the job succeeds even if a host fails", Shown(away_in_between)),
    Fact("UpdateClusterOS", "leaves alone the hosts that another job updates", Shown(two_updates)),
    Fact("UpdateClusterOS", "two hosts at a time, 100 × done / hosts", Uncovered("all hosts of a cluster are updated at the same time")),
    Fact("UpdateClusterOS", "cannot be cancelled", Shown(no_cancellation)),

    # hosts
    Fact("AddKVMHost", "refuses what is neither address nor hostname", Refused(HOST | {"managementIp": "not a host"}, "SYS.1007", "managementIp[not a host] is neither an IPv4 address nor a valid hostname")),
    Fact("AddKVMHost", "takes a hostname", answers(("AddKVMHost", HOST | {"managementIp": "kvm-9.example.com"}), managementIp="kvm-9.example.com")),
    Fact("AddKVMHost", "refuses the address of a KVM host", Refused(HOST | {"managementIp": "10.10.0.13"}, "SYS.1007", "there has been a kvm host having management ip[10.10.0.13]")),
    Fact("AddKVMHost", "refuses the address of another host, in the job", V("SYS.1007", HOST, "there has been a host having managementIp[10.10.0.99]",
        ("AddSimulatorHost", {"name": "s", "managementIp": "10.10.0.99", "clusterUuid": C1}))),
    Fact("AddKVMHost", "takes one of two hosts that come at a time with one address", Shown(one_after_the_other)),
    Fact("AddKVMHost", "fails where ssh, virtualisation or the agent fails", Uncovered("a new host always answers, and has virtualisation and an operating system; rules make it fail")),
    Fact("AddKVMHost", "refuses another version of qemu", unlike("qemu-img", "qemu-img::version::2.6.0", "qemu/libvirt version")),
    Fact("AddKVMHost", "refuses another version of libvirt", unlike("libvirt", "libvirt::version::1.2.9", "qemu/libvirt version")),
    Fact("AddKVMHost", "takes another CPU", leaves(retagged(HOST1, "cpuModelName", "cpuModelName::Haswell"), ADD, of=("Host", NEW), status="Connected")),
    Fact("AddKVMHost", "refuses another CPU if that is configured", unlike("cpuModelName", "cpuModelName::Haswell", "cpu model name", configured("kvm", "checkHostCpuModelName", "true"))),
    Fact("AddKVMHost", "refuses a host with less memory than kvm/reservedMemory", Uncovered("all new hosts have 64 GiB")),
    Fact("AddKVMHost", "refuses a host that reaches none of the primary storage", V("SYS.1006", HOST, "host can not access any primary storage, please check network", partition)),
    Fact("AddKVMHost", "refuses another operating system", V("SYS.1006", HOST, f"cluster[uuid:{C1}] already has host with os version[Ubuntu;Core;7], but new added host[name:new ip:10.10.0.99] has host os version[CentOS;Core;7]",
        retagged(HOST1, "os::distribution", "os::distribution::Ubuntu"), retagged(HOST2, "os::distribution", "os::distribution::Ubuntu"))),
    Fact("AddKVMHost", "refuses another major version only", leaves(retagged(HOST1, "os::version", "os::version::7.2"), ADD, of=("Host", NEW), status="Connected")),
    Fact("AddKVMHost", "does not look at the system of a host that is Connecting", leaves(
        retagged(HOST1, "os::version", "os::version::6.9"), changed("Host", HOST1, status="Connecting"), ADD, of=("Host", NEW), status="Connected")),
    Fact("AddKVMHost", "has the zone, the cluster and the hypervisor type of the cluster", answers(ADD, clusterUuid=C1, zoneUuid=ZONE, hypervisorType="KVM")),
    Fact("AddKVMHost", "takes a cluster of another type, and its hypervisor type", answers(SIMULATED, ("AddKVMHost", HOST | {"clusterUuid": named("sims")}), hypervisorType="Simulator")),
    Fact("AddKVMHost", "the state is Enabled, the port 22", answers(ADD, state="Enabled", status="Connected", sshPort=22, username="root", password=ABSENT)),
    Fact("AddKVMHost", "tags it, those of the system inherent", Shown(tags_of_a_new_host)),
    Fact("AddKVMHost", "keeps the tags of the call", Shown(own_tags)),
    Fact("AddKVMHost", "totalCpu is cpuNum times the ratio", answers(configured("host", "cpu.overProvisioning.ratio", "4"), ADD, totalCpuCapacity=64, availableCpuCapacity=64, cpuNum=16, cpuSockets=2)),
    Fact("AddKVMHost", "reserved memory is not subtracted", answers(ADD, totalMemoryCapacity=64 * GIB, availableMemoryCapacity=64 * GIB)),
    Fact("AddKVMHost", "local storage grows by its disk", answers(("AddKVMHost", HOST | {"clusterUuid": C2}), ("GetPrimaryStorageCapacity", {"primaryStorageUuids": [LOCAL]}),
        totalCapacity=3 * 4 << 40)),
    Fact("AddKVMHost", "file storage that was Disconnected becomes Connected", leaves(changed("PrimaryStorage", NFS, status="Disconnected"), ADD, of=("PrimaryStorage", NFS), status="Connected")),
    Fact("AddKVMHost", "an error comes bare, and leaves no trace", Shown(no_trace)),
    Fact("AddKVMHost", "local storage is as before after an error", Shown(no_more_disk)),
    Fact("UpdateHost", "refuses the address of any host, its own too", Refused({"uuid": HOST1, "managementIp": "10.10.0.11"}, "SYS.1007", "there has been a host having managementIp[10.10.0.11]")),
    Fact("UpdateHost", "refuses a host that is Connecting, after the address", V("SYS.1006", {"uuid": HOST1, "name": "n"}, f"can not update host[uuid:{HOST1}]which is connecting or creating, please wait.", changed("Host", HOST1, status="Connecting"))),
    Fact("UpdateHost", "looks at the address first", V("SYS.1007", {"uuid": HOST1, "managementIp": "10.10.0.12"}, "*", changed("Host", HOST1, status="Connecting"))),
    Fact("UpdateHost", "takes an address of any form", leaves(("UpdateHost", {"uuid": HOST1, "managementIp": "not a host"}), of=("Host", HOST1), managementIp="not a host")),
    Fact("UpdateHost", "writes name and description, and does not reconnect", leaves(("UpdateHost", {"uuid": HOST4, "name": "n", "description": "d"}), of=("Host", HOST4), name="n", description="d", status="Disconnected")),
    Fact("UpdateHost", "answers the inventory of KVM", answers(("UpdateHost", {"uuid": HOST1, "name": "n"}), name="n", username="root", sshPort=22)),
    Fact("UpdateKVMHost", "refuses no address", leaves(("UpdateKVMHost", {"uuid": HOST1, "managementIp": "10.10.0.11"}), of=("Host", HOST1), managementIp="10.10.0.11")),
    Fact("UpdateKVMHost", "refuses no host that is Connecting", leaves(changed("Host", HOST1, status="Connecting"), ("UpdateKVMHost", {"uuid": HOST1, "name": "n"}), of=("Host", HOST1), name="n", status="Connecting")),
    Fact("UpdateKVMHost", "refuses a port out of range with all other parameters", Refused({"uuid": HOST1, "sshPort": 0}, "SYS.1007")),
    Fact("UpdateKVMHost", "writes username, password and port, and does not reconnect", answers(("UpdateKVMHost", {"uuid": HOST4, "username": "u", "password": "p", "sshPort": 23, "description": "d"}),
        username="u", sshPort=23, description="d", password=ABSENT, status="Disconnected")),
    Fact("ChangeHostState", "refuses to maintain a host that is not Connected", V("SYS.1006", {"uuid": HOST4, "stateEvent": "maintain"}, f"can not maintain host[uuid:{HOST4}]which is not Connected")),
    *(Fact("ChangeHostState", f"{event} takes a host that is not Connected", leaves(state("ChangeHostState", HOST4, event), of=("Host", HOST4), state=name, status="Disconnected"))
        for event, name in (("enable", "Enabled"), ("disable", "Disabled"))),
    *(Fact("ChangeHostState", f"cannot maintain in {name}", V("SYS.1000", {"uuid": HOST1, "stateEvent": "maintain"}, f"cannot find next state for current state[{name}] on transaction event[preMaintain]", changed("Host", HOST1, state=name)))
        for name in ("PreMaintenance", "Maintenance")),
    *(Fact("ChangeHostState", f"{event} in {name}", leaves(changed("Host", HOST1, state=name), state("ChangeHostState", HOST1, event), of=("Host", HOST1), state=then))
        for name in ("Enabled", "Disabled", "PreMaintenance", "Maintenance") for event, then in (("enable", "Enabled"), ("disable", "Disabled"))),
    Fact("ChangeHostState", "maintain in Disabled", leaves(changed("Host", HOST1, state="Disabled"), maintain(), of=("Host", HOST1), state="Maintenance")),
    Fact("ChangeHostState", "PreMaintenance can be seen", meanwhile("ChangeHostState", {"uuid": HOST1, "stateEvent": "maintain"}, ("Host", HOST1), {"state": "Maintenance"}, state="PreMaintenance")),
    Fact("ChangeHostState", "maintain moves virtual machines, appliances too", Shown(maintenance_moves)),
    Fact("ChangeHostState", "maintain stops those that nobody can take", leaves(changed("Host", HOST2, state="Disabled"), changed("Host", HOST3, state="Disabled"), maintain(), of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT)),
    Fact("ChangeHostState", "maintain stops those on local storage", Shown(maintenance_with_local_storage)),
    Fact("ChangeHostState", "maintain leaves Unknown ones alone", leaves(changed("VmInstance", WEB, state="Unknown"), maintain(), of=("VmInstance", WEB), state="Unknown", hostUuid=HOST1)),
    Fact("ChangeHostState", "maintain fails if one cannot be stopped", Refused(after(STUCK, **maintain()[1]), "HOST.1001 <- SYS.1006", f"failed to stop vm[uuids:[{WEB}]] on host[uuid:{HOST1}, name:host-1, ip:10.10.0.11]", changes=True)),
    Fact("ChangeHostState", "a failed maintenance puts the state back, not the virtual machines", Shown(failed_maintenance)),
    Fact("ChangeHostState", "maintain ignores that if it is configured", leaves(configured("host", "maintenanceMode.ignoreError", "true"), STUCK, maintain(), of=("Host", HOST1), state="Maintenance")),
    Fact("ChangeHostState", "enable after Maintenance reconnects in the background, and starts nothing", out_of_maintenance("enable", "Enabled")),
    Fact("ChangeHostState", "disable after Maintenance does too", out_of_maintenance("disable", "Disabled")),
    Fact("ChangeHostState", "that may fail, after the answer", out_of_maintenance("enable", "Enabled", lose_host_1, status="Disconnected")),
    Fact("ChangeHostState", "other changes do not reconnect", Shown(no_reconnection)),
    Fact("ChangeHostState", "enable and disable move nothing", leaves(state("ChangeHostState", HOST1, "disable"), of=("VmInstance", WEB), state="Running", hostUuid=HOST1)),
    Fact("ChangeHostState", "answers without username and sshPort", answers(state("ChangeHostState", HOST1, "disable"), state="Disabled", managementIp="10.10.0.11", username=ABSENT, sshPort=ABSENT)),
    *(Fact("ReconnectHost", f"refuses {name}", V("HOST.1002 <- SYS.1006", {"uuid": HOST1}, f"host[uuid:{HOST1}, name:host-1] is in state[{name}], cannot perform required operation", changed("Host", HOST1, state=name)))
        for name in ("PreMaintenance", "Maintenance")),
    Fact("ReconnectHost", "takes a Disabled host", leaves(changed("Host", HOST4, state="Disabled"), ("ReconnectHost", {"uuid": HOST4}), of=("Host", HOST4), status="Connected", state="Disabled")),
    Fact("ReconnectHost", "fails with two wrappers", V("HOST.1002 <- HOST.1002 <- SYS.1006", {"uuid": HOST1}, NO_SSH, lose_host_1)),
    Fact("ReconnectHost", "a failure leaves it Disconnected, its virtual machines Unknown", Shown(lost_by_reconnection)),
    Fact("ReconnectHost", "synchronises virtual machines", Shown(known_again)),
    Fact("ReconnectHost", "answers the inventory of KVM", answers(("ReconnectHost", {"uuid": HOST4}), status="Connected", username="root", sshPort=22)),
    Fact("DeleteHost", "stops virtual machines that run", leaves(("DeleteHost", {"uuid": HOST1}), of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT)),
    Fact("DeleteHost", "stops Unknown ones", leaves(("DeleteHost", {"uuid": HOST4}), of=("VmInstance", BATCH), state="Stopped", hostUuid=ABSENT)),
    Fact("DeleteHost", "leaves Paused ones as they are, nowhere", leaves(PAUSE, ("DeleteHost", {"uuid": HOST1}), of=("VmInstance", WEB), state="Paused", hostUuid=ABSENT)),
    Fact("DeleteHost", "leaves those on their way as they are", Uncovered("they are stopped: else their job would end with one that runs nowhere")),
    Fact("DeleteHost", "looks at neither state nor status", gone(changed("Host", HOST1, state="Maintenance", status="Connecting"), ("DeleteHost", {"uuid": HOST1}), of=("Host", HOST1))),
    Fact("DeleteHost", "takes what is on its local disk", Shown(deleted_local_host)),
    Fact("DeleteHost", "the last one of a cluster takes the capacity of its file storage along, until one connects", Shown(last_of_a_cluster)),
    Fact("DeleteHost", "one of several takes none along", leaves(("DeleteHost", {"uuid": HOST3}), of=("PrimaryStorage", NFS), totalCapacity=20 << 40)),
    Fact("DeleteHost", "clears lastHostUuid", Shown(last_host)),
    Fact("DeleteHost", "moves an appliance that runs", leaves(router(), ("DeleteHost", {"uuid": HOST1}), of=("VmInstance", ROUTER), state="Running", hostUuid=HOST2)),
    Fact("DeleteHost", "removes an appliance that cannot move", gone(router(), changed("Host", HOST2, state="Disabled"), changed("Host", HOST3, state="Disabled"), ("DeleteHost", {"uuid": HOST1}), of=("VmInstance", ROUTER))),
    Fact("DeleteHost", "removes an appliance that does not run", gone(router(state="Unknown"), ("DeleteHost", {"uuid": HOST1}), of=("VmInstance", ROUTER))),
    Fact("DeleteHost", "a stop on a host that is away becomes a GC job", Shown(gc_of_the_deletion)),
    Fact("DestroyVmInstance", "destroys an appliance at once", gone(router(), ("DestroyVmInstance", {"uuid": ROUTER}), of=("VmInstance", ROUTER))),
    Fact("RecoverVmInstance", "finds no appliance", V("SYS.1003", {"uuid": ROUTER}, "*", router(), ("DestroyVmInstance", {"uuid": ROUTER}))),
    Fact("QueryHost", "shows neither processors nor memory of one that was never connected", meanwhile("AddKVMHost", HOST, ("Host", NEW), {"availableCpuCapacity": 160, "cpuNum": 16},
        **dict.fromkeys(("totalCpuCapacity", "availableCpuCapacity", "cpuSockets", "totalMemoryCapacity", "availableMemoryCapacity", "cpuNum"), ABSENT))),
    Fact("GetHypervisorTypes", "answers KVM", answers(("GetHypervisorTypes", {}), hypervisorTypes=["KVM"])),
    Fact("KvmRunShell", "answers by host; one that fails fails alone, one in any state runs", Shown(shells)),

    # capacity
    Fact("GetCpuMemoryCapacity", "takes all zones for all", memory(reserved=4 * GIB, all=True)),
    Fact("GetCpuMemoryCapacity", "clears the hypervisor type for all", memory(reserved=4 * GIB, all=True, hypervisorType="ESX")),
    Fact("GetCpuMemoryCapacity", "answers zeros without a zone", Shown(no_zone)),
    *(Fact("GetCpuMemoryCapacity", f"refuses no list, all={value}", Refused({"all": value} if value else {}, "SYS.1007", "zoneUuids, clusterUuids, hostUuids must at least have one be none-empty list, or all is set to true"))
        for value in ("false", None)),
    Fact("GetCpuMemoryCapacity", "hosts win over clusters, clusters over zones, and over all", memory(reserved=2 * GIB, of=(HOST1,), hostUuids=[HOST1], clusterUuids=[C2], zoneUuids=[ZONE], all=True)),
    Fact("GetCpuMemoryCapacity", "clusters win over zones", memory(reserved=GIB, of=(HOST3,), clusterUuids=[C2], zoneUuids=[ZONE])),
    Fact("GetCpuMemoryCapacity", "leaves out hosts of another type", memory(reserved=0, of=(), clusterUuids=[C1], hypervisorType="ESX")),
    Fact("GetCpuMemoryCapacity", "leaves out hosts that are not Enabled and Connected", memory(changed("Host", HOST1, state="Disabled"), reserved=4 * GIB, of=(HOST2, HOST3), zoneUuids=[ZONE])),
    Fact("GetCpuMemoryCapacity", "memory is not below 0", memory(configured("kvm", "reservedMemory", "500G"), reserved=1 << 50, of=(HOST3,), clusterUuids=[C2])),
    Fact("GetCpuMemoryCapacity", "the tag of the host comes first", memory(tagged(C1, "host::reservedMemory::8G", type="ClusterVO"), reserved=2 * GIB, of=(HOST1,), hostUuids=[HOST1])),
    Fact("GetCpuMemoryCapacity", "then that of its cluster", memory(tagged(C1, "host::reservedMemory::8G", type="ClusterVO"), tagged(ZONE, "host::reservedMemory::9G", type="ZoneVO"), reserved=8 * GIB, of=(HOST2,), hostUuids=[HOST2])),
    Fact("GetCpuMemoryCapacity", "then that of its zone", memory(tagged(ZONE, "host::reservedMemory::9G", type="ZoneVO"), reserved=9 * GIB, of=(HOST2,), hostUuids=[HOST2])),
    Fact("GetCpuMemoryCapacity", "then the global configuration", memory(configured("kvm", "reservedMemory", "3G"), reserved=3 * GIB, of=(HOST2,), hostUuids=[HOST2])),
    Fact("GetCpuMemoryCapacity", "a level counts if it is configured", memory(*levels("false", "host"), reserved=GIB, of=(HOST1,), hostUuids=[HOST1])),
    Fact("GetCpuMemoryCapacity", "by hosts, only the first one reserves", memory(reserved=2 * GIB, of=(HOST1, HOST2), hostUuids=[HOST1, HOST2])),
    Fact("GetCpuMemoryCapacity", "by clusters, all hosts do", memory(reserved=3 * GIB, of=(HOST1, HOST2), clusterUuids=[C1])),
    Fact("GetCpuMemoryCapacity", "a Disabled host with a tag does too, one without does not", memory(changed("Host", HOST1, state="Disabled"), changed("Host", HOST2, state="Disabled"), reserved=3 * GIB, of=(HOST3,), zoneUuids=[ZONE])),
    Fact("GetHostAllocatorStrategies", "answers the exposed ones", answers(("GetHostAllocatorStrategies", {}), strategies=["DefaultHostAllocatorStrategy", "LeastVmPreferredHostAllocatorStrategy"])),
    Fact("QueryHost", "capacity is what there is, less what its virtual machines take", Shown(sums_of_the_rest)),
    Fact("QueryHost", "a Stopped virtual machine takes nothing", capacity(("StopVmInstance", {"uuid": WEB}), cpus=-1, memory=-GIB)),
    *(Fact("QueryHost", f"one that is {name} takes nothing", capacity(changed("VmInstance", WEB, state=name), cpus=-1, memory=-GIB)) for name in ("Destroying", "Destroyed", "Created")),
    *(Fact("QueryHost", f"one that is {name} takes its part", capacity(changed("VmInstance", WEB, state=name))) for name in ("Unknown", "Paused", "Stopping", "Starting")),
    Fact("QueryHost", "a change of the ratio counts", Shown(another_ratio)),

    # what goes with what
    Fact("DeleteZone", "cascade: tags of removed objects go", seen(("DeleteZone", {"uuid": ZONE}), last=no_tags_of_the_removed)),
    Fact("DeleteHost", "cascade: keeps virtual machines on shared storage with their volumes", seen(("DeleteHost", {"uuid": HOST1}), last=all_are("Volume", "vmInstanceUuid", WEB, status="Ready"))),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
