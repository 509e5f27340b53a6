"""What the real server does with primary storage: of every kind, local, NFS, shared mount points and Ceph.

The facts follow the calls, fact by fact, in both dialects. Volumes on local storage are in test_facts_volumes.py.
"""

from dataclasses import replace

from asking import each
from facts import Fact, Refused, Shown, Uncovered, after, changed, check, error_of, take
from test_facts_volumes import (
    ABSENT,
    answers,
    configured,
    fixed,
    gone,
    leaves,
    look_at,
    made,
    meanwhile,
    snapped,
)

import zmock
from zmock import GIB, SHA512_OF_PASSWORD, TIB, named

NEW, OTHER, VM, NOBODY = map(fixed, "abc0")
WEB, WEB3, DB, CI, OFFICE, BATCH, OLD = (named(f"vm-{name}") for name in ("web-1", "web-3", "db-1", "ci-1", "office-1", "batch-1", "old-1"))
HOST1, HOST2, HOST3, HOST4, C1, C2, ZONE = map(named, ("host-1", "host-2", "host-3", "host-4", "cluster-1", "cluster-2", "zone-1"))
NFS, LOCAL, BS, DISK, CENTOS, ISO, SMALL, PRIVATE = map(
    named, ("ps-nfs", "ps-local", "bs-1", "disk-20g", "image-centos7", "image-debian9", "offering-small", "l3-private"))  # fmt: skip
DATA, SNAP1, SNAP2 = map(named, ("volume-db-data-1", "snapshot-1", "snapshot-2"))
PS = ("PrimaryStorage", NEW)
MON, MON2 = "root:password@10.10.0.91", "admin:p@10.10.0.92:2222/?monPort=6790"
FORM = "A valid monUrl is in format of sshUsername:sshPassword@hostname:[sshPort]/?[monPort=]"

# storage of each kind, as it is added, and the type that it has

KINDS = {
    "NFS": ("AddNfsPrimaryStorage", {"url": "10.0.0.1:/x"}),
    "SharedMountPoint": ("AddSharedMountPointPrimaryStorage", {"url": "/smp"}),
    "LocalStorage": ("AddLocalPrimaryStorage", {"url": "/disk"}),
    "Ceph": ("AddCephPrimaryStorage", {"monUrls": [MON]}),
}


def added(kind, uuid=NEW, **params):
    """A step that adds storage of a kind."""
    api, usual = KINDS[kind]
    return (api, {"name": "ps", "zoneUuid": ZONE, "resourceUuid": uuid, **usual, **params})


def attach(cluster=C1, uuid=NEW):
    return ("AttachPrimaryStorageToCluster", {"primaryStorageUuid": uuid, "clusterUuid": cluster})


def detach(cluster=C1, uuid=NEW):
    return ("DetachPrimaryStorageFromCluster", {"primaryStorageUuid": uuid, "clusterUuid": cluster})


def state_event(event, uuid=NEW):
    return ("ChangePrimaryStorageState", {"uuid": uuid, "stateEvent": event})


def act(api, uuid=NEW, **params):
    return (api, {"uuid": uuid, **params})


def parameters(step):
    """Return the parameters of a step that is a call."""
    return step[1]


def failing(api, stage=None, code="HOST.1010"):
    """A step that lets the next call of an API fail, or a stage of it: as hosts and Ceph would."""

    async def step(mock):
        mock.rule(api=api, then={"error": code, "details": "no answer"} | ({"stage": stage} if stage else {}))

    return step


def refused(*steps, code, details="*", changes=False):
    """The last step, a call, fails."""
    *first, call = steps
    return Refused(after(*first, **call[1]), code, details, changes)


def tagged(step, *tags):
    """A step that is a call with system tags."""

    async def call(mock):
        error = await error_of(mock, step[0], {**step[1], "systemTags": list(tags)})
        assert not error, error

    return call


def of(type, uuid, *steps, **fields):
    """A story: after some steps, the object has these fields."""
    return leaves(*steps, of=(type, uuid), **fields)


def after_all(*steps):
    """A story of steps, each of which may assert something."""
    return Shown(lambda mock: take(mock, steps))


def host_away(*uuids):
    """A step after which hosts do not answer."""

    async def step(mock):
        for uuid in uuids:
            zmock.disconnect_host(mock.cloud, uuid)

    return step


async def machine(mock, storage=NEW, **more):
    """A step that makes a machine on a primary storage."""
    given = {"name": "vm", "resourceUuid": VM, "instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "clusterUuid": C1}
    await mock.call("CreateVmInstance", **given | more, primaryStorageUuidForRootVolume=storage)


def states(**wanted):
    """A step that asserts the states of machines, by their names in the demo cloud."""

    async def step(mock):
        for name, state in wanted.items():
            assert mock.cloud.get("VmInstance", named(f"vm-{name.replace('_', '-')}"))["state"] == state, name

    return step


def tags(*wanted, inherent, uuid=NEW):
    """A step that asserts that an object has these system tags, inherent ones or not."""

    async def step(mock):
        found = {tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", uuid) if tag["inherent"] == inherent}
        assert set(wanted) <= found, found

    return step


async def inventory(mock, uuid=NEW):
    return (await mock.query("primary-storage", f"uuid={uuid}"))[0]


def capacity(total, available=None, uuid=NEW):
    """A step that asserts the capacities of a storage: TIB in all, bytes that are free."""

    async def step(mock):
        shown = await inventory(mock, uuid)
        assert (shown["totalCapacity"], shown["totalPhysicalCapacity"]) == (total * TIB, total * TIB)
        assert shown["availableCapacity"] == (total * TIB if available is None else available)

    return step


NO_CAPACITY = dict.fromkeys(zmock.STORAGE_CAPACITIES, 0)

# added


def connecting(kind):
    async def story(mock):
        api, params = added(kind)
        await meanwhile(mock, api, **params)
        look_at(await inventory(mock), {"state": "Enabled", "status": "Connecting", "systemUsedCapacity": ABSENT, "attachedClusterUuids": [], **NO_CAPACITY})

    return Shown(story)


async def tags_before_the_connection(mock):
    mock.rule(api="AddNfsPrimaryStorage", delay=10)
    status, _ = await mock.request("POST", "/primary-storage/nfs", {"params": parameters(added("NFS")), "systemTags": ["nfs::mount::options::ro"], "userTags": ["mine"]})
    assert status == 202
    await tags("nfs::mount::options::ro", inherent=False)(mock)
    assert mock.cloud.find("UserTag", "resourceUuid", NEW)


async def nothing_of_a_failed_storage(mock):
    await tagged_failure(mock)
    assert not mock.cloud.find("SystemTag", "resourceUuid", NEW) and not mock.cloud.find("CephPrimaryStorageMon", "hostname", "10.10.0.91")


async def tagged_failure(mock):
    await failing("AddCephPrimaryStorage", "connect")(mock)
    assert (await error_of(mock, "AddCephPrimaryStorage", {**parameters(added("Ceph")), "systemTags": ["ceph::nocephx"]}))["code"] == "HOST.1010"


ZONE_DISABLED = ("ChangeZoneState", {"uuid": ZONE, "stateEvent": "disable"})
ADDED = (
    *(Fact(KINDS[kind][0], "is Connecting without capacity first", connecting(kind)) for kind in KINDS),
    Fact("AddNfsPrimaryStorage", "stores the tags of the call before it connects", Shown(tags_before_the_connection)),
    Fact("AddNfsPrimaryStorage", "succeeds without a host to connect to, and is Disconnected", answers(added("NFS"), status="Disconnected")),
    Fact("AddSharedMountPointPrimaryStorage", "succeeds without a host to connect to, and is Disconnected", answers(added("SharedMountPoint"), status="Disconnected")),
    *(Fact(KINDS[kind][0], "comes back with any other error bare, and leaves no row", refused(failing(KINDS[kind][0], "connect"), added(kind), code="HOST.1010"))
      for kind in KINDS),
    Fact("AddCephPrimaryStorage", "leaves no tag and no monitor when it fails", Shown(nothing_of_a_failed_storage)),
    *(Fact(KINDS[kind][0], "answers no capacity, no systemUsedCapacity, no cluster", answers(
        added(kind), state="Enabled", systemUsedCapacity=ABSENT, attachedClusterUuids=[], type=kind, **NO_CAPACITY)) for kind in ("NFS", "SharedMountPoint", "LocalStorage")),
    Fact("AddLocalPrimaryStorage", "is Enabled, with its url as mountPath", answers(added("LocalStorage"), state="Enabled", status="Connected", mountPath="/disk", zoneUuid=ZONE)),
    Fact("AddNfsPrimaryStorage", "is Enabled, below the usual folder", answers(
        added("NFS"), state="Enabled", status="Disconnected", mountPath=f"/opt/zstack/nfsprimarystorage/prim-{NEW}", zoneUuid=ZONE)),
    Fact("AddSharedMountPointPrimaryStorage", "is Enabled, with its url as mountPath", answers(
        added("SharedMountPoint"), state="Enabled", status="Disconnected", mountPath="/smp", zoneUuid=ZONE)),
    Fact("AddCephPrimaryStorage", "is Enabled, with the mountPath Ceph", answers(added("Ceph"), state="Enabled", status="Connected", mountPath="Ceph", zoneUuid=ZONE)),
    Fact("AddCephPrimaryStorage", "answers after connecting, with monitors and pools", answers(
        added("Ceph"), status="Connected", type="Ceph", attachedClusterUuids=[], mons=lambda mons: len(mons) == 1, pools=lambda pools: len(pools) == 3)),
    Fact("AddCephPrimaryStorage", "works its capacity out after connecting", after_all(added("Ceph"), capacity(100))),
    Fact("AddNfsPrimaryStorage", "looks at neither the state of the zone nor at names", answers(ZONE_DISABLED, added("NFS", name="ps-nfs"), name="ps-nfs", state="Enabled")),
)

# attached


async def simulators(mock):
    await mock.call("CreateCluster", name="sim", zoneUuid=ZONE, hypervisorType="Simulator", resourceUuid=OTHER)


async def other_zone(mock):
    zone = await mock.create("CreateZone", name="z")
    await mock.call("CreateCluster", name="c", zoneUuid=zone["uuid"], hypervisorType="KVM", resourceUuid=OTHER)


def is_attached(*clusters):
    async def step(mock):
        assert mock.cloud.get(*PS)["attachedClusterUuids"] == list(clusters)

    return step


CLUSTER_DISABLED = ("ChangeClusterState", {"uuid": C1, "stateEvent": "disable"})
ATTACHED = (
    Fact("AttachPrimaryStorageToCluster", "refuses a storage that is attached", refused(
        attach(C1, NFS), code="SYS.1006", details=f"primary storage[uuid:{NFS}] has been attached to cluster[uuid:{C1}]")),
    Fact("AttachPrimaryStorageToCluster", "refuses a cluster of another zone", refused(
        added("NFS"), other_zone, attach(OTHER), code="SYS.1007", details=f"primary storage[uuid:{NEW}] and cluster[uuid:{OTHER}] are not in the same zone")),
    Fact("AttachPrimaryStorageToCluster", "refuses a url that another storage of the cluster has, of any type", refused(
        added("SharedMountPoint", url="/zstack_ps"), attach(C2), code="SYS.1007", details="url[/zstack_ps] has been occupied, it cannot be duplicate in same cluster")),
    Fact("AttachPrimaryStorageToCluster", "takes the same url in another cluster", answers(
        added("SharedMountPoint", url="/zstack_ps"), attach(C1), attachedClusterUuids=[C1])),
    Fact("AttachPrimaryStorageToCluster", "fails with PS.1001 if the hosts fail", refused(
        added("NFS"), failing("AttachPrimaryStorageToCluster", "mount"), attach(), code="PS.1001 <- HOST.1010", details="no answer")),
    Fact("AttachPrimaryStorageToCluster", "fails for hosts without a backend of NFS", refused(
        added("NFS"), simulators, attach(OTHER), code="SYS.1000", details="Cannot find hypervisor backend for nfs primary storage supporting hypervisor type[Simulator]")),
    Fact("AttachPrimaryStorageToCluster", "fails for hosts without a backend of local storage", refused(
        added("LocalStorage"), simulators, attach(OTHER), code="SYS.1000", details="cannot find LocalStorageHypervisorFactory with hypervisorType[Simulator]")),
    Fact("AttachPrimaryStorageToCluster", "fails for hosts without a backend of shared mount points", refused(
        added("SharedMountPoint"), simulators, attach(OTHER), code="SYS.1000", details="cannot find HypervisorFactory[type = Simulator]")),
    Fact("AttachPrimaryStorageToCluster", "does not look at states", answers(
        added("NFS"), state_event("disable"), CLUSTER_DISABLED, host_away(HOST1, HOST2), attach(), attachedClusterUuids=[C1], state="Disabled")),
    Fact("AttachPrimaryStorageToCluster", "takes several local storages, and other ones beside them", answers(
        added("LocalStorage"), attach(C2), added("Ceph", OTHER), attach(C2, OTHER), attachedClusterUuids=[C2])),
    Fact("AttachPrimaryStorageToCluster", "attaches after the work of the hosts", after_all(
        added("NFS"), lambda mock: meanwhile(mock, "AttachPrimaryStorageToCluster", primaryStorageUuid=NEW, clusterUuid=C1), is_attached(),
        lambda mock: mock.advance(10), is_attached(C1))),
    *(Fact("AttachPrimaryStorageToCluster", f"works the capacity of {kind} out", after_all(added(kind), attach(), capacity(total)))
      for kind, total in (("LocalStorage", 8), ("NFS", 20), ("SharedMountPoint", 20))),
    Fact("AttachPrimaryStorageToCluster", "answers what the kind has besides, and the new cluster", answers(
        added("Ceph"), attach(), attachedClusterUuids=[C1], fsid=bool, mons=lambda mons: len(mons) == 1, pools=lambda pools: len(pools) == 3)),
    Fact("AttachPrimaryStorageToCluster", "answers a local storage that has grown already", answers(
        added("LocalStorage"), attach(), attachedClusterUuids=[C1], totalCapacity=8 * TIB, availableCapacity=8 * TIB, systemUsedCapacity=0)),
)

# detached


async def with_a_data_volume_there(mock):
    """web-1, whose root volume is on NFS, has a data volume on a new storage."""
    await take(mock, [added("Ceph"), attach(), made(diskOfferingUuid=DISK, primaryStorageUuid=NEW, resourceUuid=OTHER)])
    await mock.call("AttachDataVolumeToVm", volumeUuid=OTHER, vmInstanceUuid=WEB)


async def router(mock):
    """web-1 becomes a router."""
    mock.cloud.change("VmInstance", WEB, type="ApplianceVm", status="Connected")


async def a_router_that_can_move(mock):
    await take(mock, [router, detach(C1, NFS)])
    look_at(mock.cloud.get("VmInstance", WEB), {"state": "Running", "clusterUuid": C2, "hostUuid": HOST3})


async def a_router_that_cannot_move(mock):
    await take(mock, [router, host_away(HOST3), detach(C1, NFS)])
    assert not mock.cloud.look("VmInstance", WEB)


async def a_detached_storage_keeps_what_it_has(mock):
    collections = ("volumes", "volume-snapshots", "images", "primary-storage/imagecache")
    before = [{item.get("uuid", item.get("id")) for item in await mock.query(name)} for name in collections]
    await take(mock, [detach(C1, NFS), detach(C2, NFS)])
    assert [{item.get("uuid", item.get("id")) for item in await mock.query(name)} for name in collections] == before


async def detached_at_last(mock):
    """The reference goes before the machines are stopped and the hosts are asked."""
    await meanwhile(mock, "DetachPrimaryStorageFromCluster", primaryStorageUuid=NFS, clusterUuid=C1)
    assert mock.cloud.get("PrimaryStorage", NFS)["attachedClusterUuids"] == [C2]


DETACHED = (
    Fact("DetachPrimaryStorageFromCluster", "refuses a storage that is not attached", refused(
        added("NFS"), detach(), code="SYS.1007", details=f"primary storage[uuid:{NEW}] has not been attached to cluster[uuid:{C1}] yet")),
    Fact("DetachPrimaryStorageFromCluster", "removes the reference first", Shown(detached_at_last)),
    Fact("DetachPrimaryStorageFromCluster", "stops the machines of the cluster that run", after_all(
        detach(C1, NFS), states(web_1="Stopped", web_2="Stopped", db_1="Stopped", web_3="Running", cache_1="Running"))),
    Fact("DetachPrimaryStorageFromCluster", "stops machines that are Paused", after_all(detach(C2, NFS), states(office_1="Stopped", web_3="Stopped", web_1="Running"))),
    Fact("DetachPrimaryStorageFromCluster", "stops machines that are Unknown", after_all(
        changed("VmInstance", WEB, state="Unknown"), detach(C1, NFS), states(web_1="Stopped"))),
    Fact("DetachPrimaryStorageFromCluster", "leaves machines that are Pausing, which cannot be stopped", after_all(
        changed("VmInstance", WEB, state="Pausing"), detach(C1, NFS), states(web_1="Pausing"))),
    Fact("DetachPrimaryStorageFromCluster", "goes on if a machine cannot be stopped", of(
        "PrimaryStorage", NFS, detach(C2, NFS), states(batch_1="Unknown"), attachedClusterUuids=[C1])),
    Fact("DetachPrimaryStorageFromCluster", "leaves machines in other states", after_all(
        changed("VmInstance", WEB, state="Starting"), detach(C1, NFS), states(web_1="Starting", ci_1="Stopped", old_1="Destroyed"))),
    Fact("DetachPrimaryStorageFromCluster", "stops machines with a data volume there", after_all(
        with_a_data_volume_there, detach(), states(web_1="Stopped", web_2="Running"))),
    Fact("DetachPrimaryStorageFromCluster", "moves a router to another cluster", Shown(a_router_that_can_move)),
    Fact("DetachPrimaryStorageFromCluster", "removes a router that cannot be moved", Shown(a_router_that_cannot_move)),
    Fact("DetachPrimaryStorageFromCluster", "keeps volumes, snapshots and images", Shown(a_detached_storage_keeps_what_it_has)),
    Fact("StartVmInstance", "fails while the storage of a volume is detached", refused(
        detach(C1, NFS), detach(C2, NFS), act("StartVmInstance", WEB), code="VM.1001 <- HOST_ALLOCATION.1000", details="*no host found in clusters which have attached to all*")),
    Fact("DetachPrimaryStorageFromCluster", "fails with PS.1002, and the reference is back", refused(
        failing("DetachPrimaryStorageFromCluster", "unmount"), detach(C2, NFS), code="PS.1002 <- HOST.1010", details="no answer", changes=True)),
    Fact("DetachPrimaryStorageFromCluster", "puts the reference back when it fails", after_all(
        added("NFS"), attach(), failing("DetachPrimaryStorageFromCluster", "unmount"), lambda mock: error_of(mock, *detach()), is_attached(C1))),
    Fact("DetachPrimaryStorageFromCluster", "answers the storage after it", answers(detach(C1, NFS), attachedClusterUuids=[C2], uuid=NFS)),
    Fact("DetachPrimaryStorageFromCluster", "answers Ceph without monitors and pools", answers(
        added("Ceph"), attach(), detach(), uuid=NEW, mons=ABSENT, pools=ABSENT)),
)

# the state


async def maintained(mock):
    """The answer comes while the machines are still stopping."""
    settings = mock.cloud.settings
    mock.cloud.settings = replace(settings, delay="10")
    try:
        await mock.request("PUT", f"/primary-storage/{NFS}/actions", {"changePrimaryStorageState": {"stateEvent": "maintain"}})
        await mock.advance(10)
        assert mock.cloud.get("PrimaryStorage", NFS)["state"] == "Maintenance"
        await states(web_1="Stopping", office_1="Stopping")(mock)
        await mock.advance(20)
        await states(web_1="Stopped", office_1="Stopped")(mock)
    finally:
        mock.cloud.settings = settings


async def settled(mock):
    """A step that lets calls end that nobody waits for."""
    await mock.advance(1)


MAINTAIN, DISABLE = state_event("maintain", NFS), state_event("disable", NFS)
BARRED = "Operation is not permitted when primary storage status is '{}', please check primary storage status"
NEW_VOLUME = {"name": "new", "diskOfferingUuid": DISK, "primaryStorageUuid": NFS}
TEMPLATE = fixed("e")


async def template(mock):
    await mock.call("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=DATA, resourceUuid=TEMPLATE)


async def a_machine_in_a_storage_in_maintenance(mock):
    """db-1 is stopped, and its storage is in maintenance."""
    await take(mock, [("StopVmInstance", {"uuid": DB}), changed("PrimaryStorage", NFS, state="Maintenance")])


STATE = (
    *(Fact("ChangePrimaryStorageState", f"takes {event} in the state {state}", of(
        "PrimaryStorage", NEW, added("NFS"), changed(*PS, state=state), state_event(event), state=result))
      for event, result in (("enable", "Enabled"), ("disable", "Disabled"), ("maintain", "Maintenance"), ("deleting", "Deleting"))
      for state in ("Enabled", "Disabled", "Maintenance", "Deleting")),
    Fact("ChangePrimaryStorageState", "answers maintain while the machines are stopping", Shown(maintained)),
    Fact("ChangePrimaryStorageState", "stops all machines with a volume there", after_all(
        MAINTAIN, settled, states(web_1="Stopped", db_1="Stopped", office_1="Stopped", cache_1="Stopped"))),
    Fact("ChangePrimaryStorageState", "stops machines with a data volume there", after_all(
        with_a_data_volume_there, state_event("maintain"), settled, states(web_1="Stopped", web_2="Running"))),
    Fact("ChangePrimaryStorageState", "stops routers too", after_all(router, MAINTAIN, settled, states(web_1="Stopped"))),
    Fact("ChangePrimaryStorageState", "leaves machines that cannot be stopped", after_all(
        MAINTAIN, settled, states(batch_1="Unknown", old_1="Destroyed", ci_1="Stopped"))),
    Fact("ChangePrimaryStorageState", "answers the new state", answers(MAINTAIN, state="Maintenance", status="Connected", uuid=NFS)),
    Fact("ChangePrimaryStorageState", "answers Ceph without monitors and pools", answers(
        added("Ceph"), state_event("disable"), state="Disabled", mons=ABSENT, pools=ABSENT)),
    Fact("CreateDataVolume", "refuses storage that is Disabled", refused(
        DISABLE, ("CreateDataVolume", NEW_VOLUME), code="SYS.1006", details=f"required primary storage[uuid:{NFS}] cannot satisfy conditions*")),
    Fact("CreateDataVolumeTemplateFromVolume", "refuses storage that is Disabled", refused(
        DISABLE, ("CreateDataVolumeTemplateFromVolume", {"volumeUuid": DATA, "name": "t"}), code="SYS.1006", details=BARRED.format("Disabled"))),
    Fact("CreateRootVolumeTemplateFromRootVolume", "refuses storage that is Disabled", Refused(
        after(DISABLE, rootVolumeUuid=lambda mock: mock.cloud.get("VmInstance", CI)["rootVolumeUuid"], name="t"), "SYS.1006 <- SYS.1006", BARRED.format("Disabled"))),
    Fact("CreateDataVolume", "refuses storage in Maintenance", refused(
        changed("PrimaryStorage", NFS, state="Maintenance"), ("CreateDataVolume", NEW_VOLUME), code="SYS.1006", details="required primary storage*")),
    Fact("CreateDataVolumeTemplateFromVolume", "refuses storage in Maintenance", refused(
        changed("PrimaryStorage", NFS, state="Maintenance"), ("CreateDataVolumeTemplateFromVolume", {"volumeUuid": DATA, "name": "t"}),
        code="SYS.1006", details=BARRED.format("Maintenance"))),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses storage that is Disabled", refused(
        template, DISABLE, ("CreateDataVolumeFromVolumeTemplate", {"imageUuid": TEMPLATE, "name": "n", "primaryStorageUuid": NFS}), code="SYS.1006")),
    Fact("CreateVolumeSnapshot", "refuses storage that is Disabled", refused(
        DISABLE, snapped("s"), code="SYS.1006", details=BARRED.format("Disabled"))),
    Fact("CreateVolumeSnapshot", "refuses storage in Maintenance", refused(
        a_machine_in_a_storage_in_maintenance, snapped("s"), code="SYS.1006", details=BARRED.format("Maintenance"))),
    Fact("RevertVolumeFromSnapshot", "refuses storage in Maintenance", refused(
        a_machine_in_a_storage_in_maintenance, act("RevertVolumeFromSnapshot", SNAP1), code="SYS.1006", details=BARRED.format("Maintenance"))),
    Fact("RevertVolumeFromSnapshot", "takes storage that is Disabled", of(
        "VolumeSnapshot", SNAP1, ("StopVmInstance", {"uuid": DB}), DISABLE, act("RevertVolumeFromSnapshot", SNAP1), latest=True)),
    Fact("DeleteVolumeSnapshot", "refuses to merge on storage in Maintenance", refused(
        a_machine_in_a_storage_in_maintenance, act("DeleteVolumeSnapshot", SNAP2), code="SYS.1004 <- SYS.1006", details=BARRED.format("Maintenance"))),
    Fact("DeleteVolumeSnapshot", "merges on storage that is Disabled", gone(DISABLE, act("DeleteVolumeSnapshot", SNAP2), of=("VolumeSnapshot", SNAP2))),
    Fact("StartVmInstance", "refuses a volume on storage in Maintenance", refused(
        a_machine_in_a_storage_in_maintenance, act("StartVmInstance", DB), code="VM.1001 <- SYS.1006",
        details=f"*the VM[uuid:{DB}] volume stored location primary storage is in a state of maintenance*")),
    Fact("AttachDataVolumeToVm", "refuses a volume on storage in Maintenance", refused(
        ("DetachDataVolumeFromVm", {"uuid": DATA}), changed("PrimaryStorage", NFS, state="Maintenance"), ("AttachDataVolumeToVm", {"volumeUuid": DATA, "vmInstanceUuid": CI}),
        code="SYS.1006", details=f"cannot attach volume[uuid:{DATA}] whose primary storage is Maintenance")),
    Fact("AttachIsoToVmInstance", "refuses storage that is Disabled, without the ISO in its cache", refused(
        DISABLE, ("AttachIsoToVmInstance", {"vmInstanceUuid": WEB, "isoUuid": ISO}), code="SYS.1006",
        details=f"cannot attach ISO to a primary storage[uuid:{NFS}] which is disabled")),
    Fact("AttachIsoToVmInstance", "takes a Disabled storage that has it in its cache", answers(
        DISABLE, ("AttachIsoToVmInstance", {"vmInstanceUuid": WEB, "isoUuid": CENTOS}), uuid=WEB)),
)

# reconnected, updated, measured


async def reconnecting(mock):
    await meanwhile(mock, "ReconnectPrimaryStorage", uuid=NFS)
    assert mock.cloud.get("PrimaryStorage", NFS)["status"] == "Connecting"
    await mock.advance(10)
    assert mock.cloud.get("PrimaryStorage", NFS)["status"] == "Connected"


def lost(kind):
    noun = {"NFS": "NFS", "SharedMountPoint": "SMP"}[kind]
    return f"the {noun} primary storage[uuid:{NEW}, name:ps] has not attached to any clusters, or no hosts in the attached clusters are connected"


RECONNECT, GATEWAY = act("ReconnectPrimaryStorage"), "primaryStorage::gateway::cidr::"


def with_tags(step, *system_tags):
    return (step[0], {**step[1], "systemTags": list(system_tags)})


def new_url(url="10.0.0.2:/y", uuid=NEW):
    return act("UpdatePrimaryStorage", uuid, url=url)


async def unchanged(mock):
    before = mock.cloud.get("PrimaryStorage", NFS)
    await mock.advance(60)
    shown = await mock.create("UpdatePrimaryStorage", uuid=NFS)
    assert mock.cloud.get("PrimaryStorage", NFS) == before and shown["name"] == "ps-nfs"


async def stopped_on_nfs(mock):
    for vm in [*mock.cloud.store.rows("VmInstance")]:
        if vm["state"] == "Running":
            mock.cloud.change("VmInstance", vm["uuid"], state="Stopped")


async def reconnected_by_a_user(mock):
    await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
    await mock.login("ann")
    assert (await error_of(mock, *act("ReconnectPrimaryStorage", NFS)))["code"] == "SYS.1006"
    assert mock.cloud.get("PrimaryStorage", NFS)["status"] == "Connected"


SMP_URL = f"{GATEWAY}10.0.0.0/24"
CHANGED = (
    Fact("ReconnectPrimaryStorage", "is Connecting, then Connected", Shown(reconnecting)),
    Fact("ReconnectPrimaryStorage", "leaves the status when an account may not call it", Shown(reconnected_by_a_user)),
    Fact("ReconnectPrimaryStorage", "is Disconnected when it fails", of(
        "PrimaryStorage", NFS, failing("ReconnectPrimaryStorage", "reconnect"), lambda mock: error_of(mock, *act("ReconnectPrimaryStorage", NFS)), status="Disconnected")),
    Fact("ReconnectPrimaryStorage", "fails with the error bare", refused(
        failing("ReconnectPrimaryStorage", "reconnect"), act("ReconnectPrimaryStorage", NFS), code="HOST.1010", changes=True)),
    Fact("ReconnectPrimaryStorage", "refuses a storage that is not there", refused(act("ReconnectPrimaryStorage", NOBODY), code="SYS.1003")),
    Fact("ReconnectPrimaryStorage", "always connects local storage", answers(added("LocalStorage"), RECONNECT, status="Connected")),
    *(Fact("ReconnectPrimaryStorage", f"refuses {kind} without cluster", refused(added(kind), RECONNECT, code="PS.1003", details=lost(kind), changes=True))
      for kind in ("NFS", "SharedMountPoint")),
    *(Fact("ReconnectPrimaryStorage", f"refuses {kind} without Connected host", refused(
        added(kind), attach(), host_away(HOST1, HOST2), RECONNECT, code="PS.1003", details=lost(kind), changes=True)) for kind in ("NFS", "SharedMountPoint")),
    Fact("ReconnectPrimaryStorage", "mounts again what was lost", answers(
        added("NFS"), attach(), changed(*PS, status="Disconnected"), RECONNECT, status="Connected", totalCapacity=20 * TIB)),
    Fact("ReconnectPrimaryStorage", "refuses Ceph without a monitor", refused(
        added("Ceph"), ("RemoveMonFromCephPrimaryStorage", {"uuid": NEW, "monHostnames": ["10.10.0.91"]}), RECONNECT, code="SYS.1006",
        details=f"unable to connect to the ceph primary storage[uuid:{NEW}]. Failed to connect all ceph mons.", changes=True)),
    Fact("ReconnectPrimaryStorage", "answers Ceph with monitors and pools", answers(added("Ceph"), RECONNECT, status="Connected", mons=bool, pools=bool)),
    Fact("UpdatePrimaryStorage", "changes name and description", answers(act("UpdatePrimaryStorage", NFS, name="n", description=""), name="n", description="")),
    Fact("UpdatePrimaryStorage", "changes nothing, lastOpDate neither, if nothing is given", Shown(unchanged)),
    *(Fact("UpdatePrimaryStorage", f"ignores the url of {kind}", answers(added(kind), new_url("/other"), url=lambda url: url != "/other"))
      for kind in ("LocalStorage", "SharedMountPoint", "Ceph")),
    Fact("UpdatePrimaryStorage", "refuses the url of another NFS storage of the zone", refused(
        added("NFS"), new_url("10.10.0.100:/export/primary"), code="SYS.1007",
        details=f"there has been a nfs primary storage having url as 10.10.0.100:/export/primary in zone[uuid:{ZONE}]")),
    Fact("UpdatePrimaryStorage", "refuses a folder of the system", refused(
        added("NFS"), new_url("10.0.0.2:/proc/x"), code="SYS.1007", details=" the url contains an invalid folder[/dev or /proc or /sys]")),
    Fact("UpdatePrimaryStorage", "refuses several networks", refused(
        added("NFS"), with_tags(new_url(), f"{GATEWAY}10.0.0.0/24", f"{GATEWAY}10.0.0.0/8"), code="SYS.1007", details="found multiple CIDR")),
    Fact("UpdatePrimaryStorage", "refuses an address outside the network of the tag", refused(
        added("NFS"), with_tags(new_url(), f"{GATEWAY}10.9.0.0/24"), code="SYS.1007", details="IP address[10.0.0.2] is not in CIDR[10.9.0.0/24]")),
    Fact("UpdatePrimaryStorage", "refuses a new url while machines run there", refused(
        added("NFS"), attach(), machine, new_url(), code="SYS.1006",
        details=f"there are 1 running VMs on the NFS primary storage, please stop them and try again:\nVM[name:vm, uuid:{VM}]\n")),
    Fact("UpdatePrimaryStorage", "takes the same url while machines run there", answers(
        new_url("10.10.0.100:/export/primary", NFS), url="10.10.0.100:/export/primary")),
    Fact("UpdatePrimaryStorage", "takes a new url while machines are stopped", answers(
        added("NFS"), attach(), machine, ("StopVmInstance", {"uuid": VM}), new_url(), url="10.0.0.2:/y", status="Connected")),
    Fact("UpdatePrimaryStorage", "refuses a new url without a Connected host", refused(
        added("NFS"), attach(), host_away(HOST1, HOST2), changed(*PS, status="Disconnected"), new_url(), code="SYS.1006",
        details=f"No connected Host found in PrimaryStorage: [{NEW}]")),
    Fact("UpdatePrimaryStorage", "fails with the error of the hosts bare", refused(
        added("NFS"), attach(), failing("UpdatePrimaryStorage"), new_url(), code="HOST.1010", details="no answer")),
    Fact("UpdatePrimaryStorage", "writes a new url without a cluster", answers(added("NFS"), new_url(), url="10.0.0.2:/y", status="Disconnected")),
    Fact("UpdatePrimaryStorage", "answers Ceph without monitors and pools", answers(
        added("Ceph"), act("UpdatePrimaryStorage", name="n"), name="n", mons=ABSENT, pools=ABSENT)),
    Fact("SyncPrimaryStorageCapacity", "takes volumes and snapshots from the total", answers(
        added("NFS"), attach(), made(diskOfferingUuid=DISK, primaryStorageUuid=NEW, resourceUuid=OTHER),
        ("SyncPrimaryStorageCapacity", {"primaryStorageUuid": NEW}), availableCapacity=20 * TIB - 20 * GIB, totalCapacity=20 * TIB)),
    Fact("SyncPrimaryStorageCapacity", "does not take the image cache from the total", Uncovered("capacities are worked out whenever they are shown, the same way each time")),
    Fact("SyncPrimaryStorageCapacity", "shows no available physical capacity below 0", answers(
        changed("PrimaryStorage", NFS, availablePhysicalCapacity=0), ("SyncPrimaryStorageCapacity", {"primaryStorageUuid": NFS}), availablePhysicalCapacity=0)),
    Fact("SyncPrimaryStorageCapacity", "refuses shared mount points", refused(
        added("SharedMountPoint"), ("SyncPrimaryStorageCapacity", {"primaryStorageUuid": NEW}), code="SYS.1006", details="not supported operation")),
    Fact("SyncPrimaryStorageCapacity", "shows no physical capacity of NFS without a host", answers(
        added("NFS"), ("SyncPrimaryStorageCapacity", {"primaryStorageUuid": NEW}), totalPhysicalCapacity=0, availablePhysicalCapacity=0)),
    Fact("SyncPrimaryStorageCapacity", "shows the physical capacity of Ceph", answers(
        added("Ceph"), ("SyncPrimaryStorageCapacity", {"primaryStorageUuid": NEW}), totalPhysicalCapacity=100 * TIB, availablePhysicalCapacity=100 * TIB)),
)

# deleted


async def with_machines(mock):
    """A storage with a stopped machine, a running one, a destroyed one, and a data volume with a snapshot, which no cluster has any more."""
    await take(mock, [added("NFS"), attach(), machine])
    for uuid, name in ((OTHER, "running"), (NOBODY, "destroyed")):
        await machine(mock, resourceUuid=uuid, name=name)
    await take(mock, [("StopVmInstance", {"uuid": VM}), ("DestroyVmInstance", {"uuid": NOBODY})])
    await take(mock, [made(diskOfferingUuid=DISK, primaryStorageUuid=NEW, resourceUuid=TEMPLATE), snapped("s", TEMPLATE)])
    mock.cloud.change(*PS, attachedClusterUuids=[])


async def deleted_with_all_on_it(mock):
    await with_machines(mock)
    root = mock.cloud.get("VmInstance", OTHER)["rootVolumeUuid"]
    await mock.call("DeletePrimaryStorage", uuid=NEW)
    for type, uuid in (("PrimaryStorage", NEW), ("VmInstance", VM), ("VmInstance", OTHER), ("VmInstance", NOBODY), ("Volume", root), ("Volume", TEMPLATE)):
        assert not mock.cloud.look(type, uuid)
    for vm in (VM, OTHER, NOBODY):
        assert not mock.cloud.find("VmNic", "vmInstanceUuid", vm)
    assert not mock.cloud.find("ImageCache", "primaryStorageUuid", NEW) and mock.cloud.look("Image", CENTOS)
    (snapshot,) = mock.cloud.find("VolumeSnapshot", "name", "s")
    assert "volumeUuid" not in snapshot and "primaryStorageUuid" not in snapshot


async def deleting(mock):
    await take(mock, [added("NFS")])
    await meanwhile(mock, "DeletePrimaryStorage", uuid=NEW)
    assert mock.cloud.get(*PS)["state"] == "Deleting"


async def data_volume_elsewhere(mock):
    """A machine elsewhere loses its data volume with the storage, and goes on."""
    await take(mock, [with_a_data_volume_there, changed(*PS, attachedClusterUuids=[]), act("DeletePrimaryStorage")])
    assert not mock.cloud.look("Volume", OTHER) and mock.cloud.get("VmInstance", WEB)["state"] == "Running"


def images_of_cache(*steps, left):
    """A story: after some steps, the cache of NFS has so many images."""

    async def story(mock):
        await take(mock, steps)
        await mock.call("CleanUpImageCacheOnPrimaryStorage", uuid=NFS)
        assert len(await mock.query("primary-storage/imagecache", f"primaryStorageUuid={NFS}")) == left

    return Shown(story)


async def windows_unused(mock):
    """A step after which no volume is of the Windows image."""
    windows = named("image-windows2016")
    for volume in [*mock.cloud.store.rows("Volume")]:
        if volume.get("rootImageUuid") == windows:
            mock.cloud.change("Volume", volume["uuid"], rootImageUuid=CENTOS)


WINDOWS_GONE = (windows_unused, ("DeleteImage", {"uuid": named("image-windows2016")}), ("ExpungeImage", {"imageUuid": named("image-windows2016")}))


async def local_cache(mock):
    await take(mock, [lambda mock: machine(mock, LOCAL, clusterUuid=C2, hostUuid=HOST3)])
    (cache,) = await mock.query("primary-storage/imagecache", f"primaryStorageUuid={LOCAL}")
    assert cache["installUrl"].endswith(f"/imagecache/template/{CENTOS}/{CENTOS}.qcow2;hostUuid://{HOST3}")
    look_at(cache, {"imageUuid": CENTOS, "mediaType": "RootVolumeTemplate", "size": mock.cloud.get("Image", CENTOS)["size"], "md5sum": bool, "state": "ready"})


async def cache_counts(mock):
    await take(mock, [added("NFS"), attach(), machine])
    size = mock.cloud.get("Image", CENTOS)["size"]
    assert (await inventory(mock))["availableCapacity"] == 20 * TIB - 2 * size
    assert len(await mock.query("primary-storage/imagecache", f"primaryStorageUuid={NEW}")) == 1


def sums(*steps, total, **params):
    """A story: after some steps, GetPrimaryStorageCapacity answers so many TIB in all."""

    async def story(mock):
        await take(mock, steps)
        body = await mock.call("GetPrimaryStorageCapacity", **params)
        assert (body["totalCapacity"], body["totalPhysicalCapacity"]) == (total * TIB, total * TIB)

    return Shown(story)


async def no_zones(mock):
    await mock.call("DeleteZone", uuid=ZONE)


REMOVED = (
    Fact("DeletePrimaryStorage", "refuses a storage that is attached", refused(
        act("DeletePrimaryStorage", NFS), code="SYS.1006",
        details=f"primary storage[uuid:{NFS}] cannot be deleted for still being attached to cluster[uuid:{C1}, {C2}].")),
    Fact("DeletePrimaryStorage", "is Deleting first", Shown(deleting)),
    Fact("DeletePrimaryStorage", "removes machines with their root volumes and nics at once, data volumes, and the cache", Shown(deleted_with_all_on_it)),
    Fact("DeletePrimaryStorage", "takes its tags along", after_all(added("Ceph"), act("DeletePrimaryStorage"), lambda mock: untagged(mock))),
    Fact("DeletePrimaryStorage", "leaves no machine Destroyed", after_all(with_machines, act("DeletePrimaryStorage"), lambda mock: none_destroyed(mock))),
    Fact("DeletePrimaryStorage", "keeps images", of("Image", CENTOS, with_machines, act("DeletePrimaryStorage"), status="Ready")),
    Fact("DeleteZone", "removes storage that is attached, too", gone(("DeleteZone", {"uuid": ZONE}), of=("PrimaryStorage", NFS))),
    Fact("DeleteCluster", "removes the reference of storage, which stays", of(
        "PrimaryStorage", NFS, ("DeleteCluster", {"uuid": C1}), attachedClusterUuids=[C2], status="Connected")),
    Fact("DeleteCluster", "takes the disks of its hosts from local storage", after_all(("DeleteCluster", {"uuid": C2}), capacity(0, uuid=LOCAL))),
    Fact("DeletePrimaryStorage", "takes data volumes from machines elsewhere", Shown(data_volume_elsewhere)),
    Fact("DeletePrimaryStorage", "removes monitors and pools of Ceph", after_all(added("Ceph"), act("DeletePrimaryStorage"), lambda mock: nothing_of_ceph(mock))),
    Fact("DeletePrimaryStorage", "fails with SYS.1004", refused(
        added("NFS"), failing("DeletePrimaryStorage", "delete"), act("DeletePrimaryStorage"), code="SYS.1004 <- HOST.1010", details="no answer", changes=True)),
    Fact("DeletePrimaryStorage", "stays Deleting when it fails", of(
        "PrimaryStorage", NEW, added("NFS"), failing("DeletePrimaryStorage", "delete"), lambda mock: error_of(mock, *act("DeletePrimaryStorage")), state="Deleting")),
    Fact("DeletePrimaryStorage", "comes back with enable", answers(
        added("NFS"), failing("DeletePrimaryStorage", "delete"), lambda mock: error_of(mock, *act("DeletePrimaryStorage")), state_event("enable"), state="Enabled")),
    Fact("DeletePrimaryStorage", "leaves a GC job for bits that cannot be deleted", Uncovered("bits are always deleted")),
    Fact("DeletePrimaryStorage", "succeeds for a storage that is not there", answers(act("DeletePrimaryStorage", NOBODY), inventory=ABSENT)),
    Fact("DeletePrimaryStorage", "answers nothing", answers(added("NFS"), act("DeletePrimaryStorage"), inventory=ABSENT)),
    Fact("CleanUpImageCacheOnPrimaryStorage", "answers nothing", answers(act("CleanUpImageCacheOnPrimaryStorage", NFS), inventory=ABSENT)),
    *(Fact("CleanUpImageCacheOnPrimaryStorage", f"takes {kind}", answers(added(kind), act("CleanUpImageCacheOnPrimaryStorage"), inventory=ABSENT)) for kind in KINDS),
    Fact("CleanUpImageCacheOnPrimaryStorage", "refuses other types", refused(
        ("AddSimulatorPrimaryStorage", {"name": "s", "url": "s", "zoneUuid": ZONE, "resourceUuid": NEW}), act("CleanUpImageCacheOnPrimaryStorage"),
        code="SYS.1006", details="operation not supported")),
    Fact("CleanUpImageCacheOnPrimaryStorage", "removes images that are expunged and unused", images_of_cache(*WINDOWS_GONE, left=2)),
    Fact("CleanUpImageCacheOnPrimaryStorage", "keeps images that are not expunged", images_of_cache(windows_unused, ("DeleteImage", {"uuid": named("image-windows2016")}), left=3)),
    Fact("CleanUpImageCacheOnPrimaryStorage", "keeps images of root volumes", images_of_cache(*WINDOWS_GONE[1:], left=3)),
    Fact("CleanUpImageCacheOnPrimaryStorage", "removes nothing while a root volume has no image", images_of_cache(
        *WINDOWS_GONE, lambda mock: changed("Volume", mock.cloud.get("VmInstance", CI)["rootVolumeUuid"], rootImageUuid=None)(mock), left=3)),
    Fact("QueryPrimaryStorage", "has no GET by uuid", Shown(lambda mock: no_get(mock, f"/primary-storage/{NFS}"))),
    Fact("QueryImageCache", "has no GET by uuid", Shown(lambda mock: no_get(mock, "/primary-storage/imagecache/1"))),
    Fact("QueryImageCache", "finds an image for each host of local storage", Shown(local_cache)),
    Fact("QueryImageCache", "finds an image once for a storage, whose size counts", Shown(cache_counts)),
    Fact("GetPrimaryStorageCapacity", "refuses a call that names nothing", refused(
        ("GetPrimaryStorageCapacity", {}), code="SYS.1007", details="zoneUuids, clusterUuids, primaryStorageUuids must have at least one be none-empty list, or all is set to true")),
    Fact("GetPrimaryStorageCapacity", "answers for all zones", sums(total=28, all=True)),
    Fact("GetPrimaryStorageCapacity", "answers zeros without a zone", sums(no_zones, total=0, all=True)),
    Fact("GetPrimaryStorageCapacity", "answers for zones rather than for all", sums(
        ("CreateZone", {"name": "z", "resourceUuid": OTHER}), total=0, all=True, zoneUuids=[OTHER])),
    Fact("GetPrimaryStorageCapacity", "answers for zones", sums(total=28, zoneUuids=[ZONE])),
    Fact("GetPrimaryStorageCapacity", "answers for a storage rather than for a cluster or a zone", sums(total=20, primaryStorageUuids=[NFS], clusterUuids=[C2], zoneUuids=[ZONE])),
    Fact("GetPrimaryStorageCapacity", "answers for a cluster rather than for a zone", sums(total=20, clusterUuids=[C1], zoneUuids=[ZONE])),
    Fact("GetPrimaryStorageCapacity", "counts a storage for each of its clusters", sums(total=48, clusterUuids=[C1, C2])),
    Fact("GetPrimaryStorageCapacity", "looks at neither state nor status", sums(changed("PrimaryStorage", NFS, state="Maintenance", status="Disconnected"), total=28, all=True)),
    Fact("GetPrimaryStorageTypes", "answers the types in their order", answers(("GetPrimaryStorageTypes", {}), types=lambda types: [
        type for type in types if type in ("Fusionstor", *KINDS)] == ["Fusionstor", "SharedMountPoint", "Ceph", "NFS", "LocalStorage"])),
    Fact("GetPrimaryStorageTypes", "does not answer the simulator", answers(("GetPrimaryStorageTypes", {}), types=lambda types: "SimulatorPrimaryStorage" not in types)),
    Fact("GetPrimaryStorageAllocatorStrategies", "answers the strategies", answers(
        ("GetPrimaryStorageAllocatorStrategies", {}), strategies=["DefaultPrimaryStorageAllocationStrategy", "LocalPrimaryStorageStrategy"])),
)


async def no_get(mock, path):
    _, body = await mock.request("GET", path)
    assert "inventories" not in (body or {})


async def untagged(mock):
    assert not mock.cloud.find("SystemTag", "resourceUuid", NEW)


async def none_destroyed(mock):
    for vm in (VM, OTHER, NOBODY):
        assert not mock.cloud.look("VmInstance", vm)
    await states(old_1="Destroyed")(mock)


async def nothing_of_ceph(mock):
    assert not [*mock.cloud.store.rows("CephPrimaryStorageMon")] and not [*mock.cloud.store.rows("CephPrimaryStoragePool")]


# rules of capacity


async def every_use_counts(mock):
    """Volumes, also deleted ones, snapshots and the cache take space, and give it back."""
    await take(mock, [added("NFS"), attach(), capacity(20), made(diskOfferingUuid=DISK, primaryStorageUuid=NEW, resourceUuid=OTHER)])
    await take(mock, [capacity(20, 20 * TIB - 20 * GIB), ("DeleteDataVolume", {"uuid": OTHER}), capacity(20, 20 * TIB - 20 * GIB)])
    await take(mock, [("RecoverDataVolume", {"uuid": OTHER}), snapped("s", OTHER)])
    await capacity(20, 20 * TIB - 20 * GIB - mock.cloud.find("VolumeSnapshot", "name", "s")[0]["size"])(mock)
    await take(mock, [("DeleteDataVolume", {"uuid": OTHER}), ("ExpungeDataVolume", {"uuid": OTHER}), capacity(20)])


async def taken_at_once(mock):
    await take(mock, [added("NFS"), attach()])
    mock.rule(api="CreateVmInstance", delay=40)
    given = {"name": "vm", "instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "primaryStorageUuidForRootVolume": NEW, "clusterUuid": C1}
    await mock.request("POST", "/vm-instances", {"params": given})
    await mock.advance(15)
    size = mock.cloud.get("Image", CENTOS)["size"]
    assert (await inventory(mock))["availableCapacity"] == 20 * TIB - 2 * size


async def system_used(mock):
    await take(mock, [added("NFS"), attach(), changed(*PS, systemUsedCapacity=GIB)])
    assert (await inventory(mock))["availableCapacity"] == 20 * TIB - GIB


async def empty_storage(mock):
    await take(mock, [added("NFS"), attach(), changed(*PS, availableCapacity=TIB, availablePhysicalCapacity=TIB)])
    assert (await inventory(mock))["availableCapacity"] == TIB


CAPACITY = (
    Fact("capacity", "is what volumes, snapshots, cached images and the system leave", Shown(every_use_counts)),
    Fact("capacity", "is without what the system uses", Shown(system_used)),
    Fact("capacity", "is all of an empty storage", Shown(empty_storage)),
    Fact("capacity", "shows what the system uses from the first report on", after_all(
        added("NFS"), of("PrimaryStorage", NEW, systemUsedCapacity=ABSENT).story, attach(), of("PrimaryStorage", NEW, systemUsedCapacity=0).story)),
    Fact("capacity", "follows the physical one when a storage is resized", Uncovered("the size of a storage stays")),
    Fact("capacity", "is taken before a volume is made", Shown(taken_at_once)),
    Fact("CreateDataVolume", "refuses a storage that is physically full", refused(
        changed("PrimaryStorage", NFS, availablePhysicalCapacity=0), ("CreateDataVolume", NEW_VOLUME), code="SYS.1006",
        details=f"cannot find any qualified primary storage, errors are [primary storage[uuid:{NFS}]'s physical capacity usage has exceeded the threshold[1.0]]")),
    Fact("CreateDataVolume", "keeps reservedCapacity free", refused(
        configured("primaryStorage", "reservedCapacity", "100T"), ("CreateDataVolume", NEW_VOLUME), code="SYS.1006", details="after subtracting reserved capacity*")),
    Fact("capacity", "is never more than the total when it is given back", after_all(
        added("NFS"), attach(), machine, ("DestroyVmInstance", {"uuid": VM}), ("ExpungeVmInstance", {"uuid": VM}), lambda mock: no_more_than_total(mock))),
)


async def no_more_than_total(mock):
    shown = await inventory(mock)
    assert shown["availableCapacity"] <= shown["totalCapacity"]


# local storage


def disks(*hosts, uuid=NEW):
    """A step that asserts which hosts have a disk of a local storage."""

    async def step(mock):
        body = await mock.call("GetLocalStorageHostDiskCapacity", primaryStorageUuid=uuid)
        assert {disk["hostUuid"] for disk in body["inventories"]} == set(hosts)
        for disk in body["inventories"]:
            assert disk["totalCapacity"] == disk["totalPhysicalCapacity"] == disk["availablePhysicalCapacity"] == 4 * TIB

    return step


async def new_host(mock):
    await mock.call("AddKVMHost", name="h", managementIp="10.10.0.77", username="u", password="p", clusterUuid=C1, resourceUuid=OTHER)


async def machines_on_local_storage(mock):
    """Machines on the disk of host-3, a running one and a destroyed one, and data volumes, of which one is deleted."""
    for uuid in (VM, OTHER):
        await mock.call("CreateVmInstance", name="local", resourceUuid=uuid, instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE],
                        hostUuid=HOST3, primaryStorageUuidForRootVolume=LOCAL)  # fmt: skip
    await mock.call("DestroyVmInstance", uuid=OTHER)
    for uuid in (NEW, TEMPLATE):
        await made(tags=[f"localStorage::hostUuid::{HOST3}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=uuid)(mock)
    await take(mock, [snapped("s", NEW), ("DeleteDataVolume", {"uuid": TEMPLATE})])


async def a_host_takes_its_disk_along(mock):
    await machines_on_local_storage(mock)
    roots = [mock.cloud.get("VmInstance", uuid)["rootVolumeUuid"] for uuid in (VM, OTHER)]
    await mock.call("DeleteHost", uuid=HOST3)
    for type, uuid in (("VmInstance", VM), ("VmInstance", OTHER), ("Volume", NEW), ("Volume", TEMPLATE), *(("Volume", root) for root in roots)):
        assert not mock.cloud.look(type, uuid), (type, uuid)
    for type, key, value in (("VolumeSnapshot", "name", "s"), ("VolumeSnapshotTree", "volumeUuid", NEW), ("ImageCache", "hostUuid", HOST3),
                             ("VmNic", "vmInstanceUuid", VM), ("LocalStorageResourceRef", "hostUuid", HOST3)):  # fmt: skip
        assert not mock.cloud.find(type, key, value), type
    await capacity(4, uuid=LOCAL)(mock)


async def attached_data_volume_of_host(mock):
    """A machine on NFS loses its data volume on the disk of a removed host."""
    await made(tags=[f"localStorage::hostUuid::{HOST3}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=NEW)(mock)
    await take(mock, [("AttachDataVolumeToVm", {"volumeUuid": NEW, "vmInstanceUuid": WEB3}), ("DeleteHost", {"uuid": HOST3})])
    assert not mock.cloud.look("Volume", NEW) and mock.cloud.get("VmInstance", WEB3)["state"] == "Stopped"


async def full_target(mock):
    """The disk of host-4 has no room for a data volume on host-3."""
    await made(tags=[f"localStorage::hostUuid::{HOST3}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=NEW)(mock)
    mock.cloud.add("ImageCache", id=99, primaryStorageUuid=LOCAL, hostUuid=HOST4, imageUuid=CENTOS, installUrl="/x", mediaType="ISO", size=4 * TIB)


async def image_goes_along(mock):
    await mock.call("CreateVmInstance", name="local", resourceUuid=VM, instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE],
                    hostUuid=HOST3, primaryStorageUuidForRootVolume=LOCAL)  # fmt: skip
    await mock.call("StopVmInstance", uuid=VM)
    await mock.call("LocalStorageMigrateVolume", volumeUuid=mock.cloud.get("VmInstance", VM)["rootVolumeUuid"], destHostUuid=HOST4)
    assert {cache["hostUuid"] for cache in mock.cloud.find("ImageCache", "primaryStorageUuid", LOCAL)} == {HOST3, HOST4}


async def exact_room(mock):
    """A host whose disk takes the volume with its snapshots just so."""
    await made(tags=[f"localStorage::hostUuid::{HOST3}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=NEW)(mock)
    await take(mock, [snapped("s", NEW), changed("Host", HOST4, status="Connected")])
    size = 20 * GIB + mock.cloud.find("VolumeSnapshot", "name", "s")[0]["size"]
    for taken, hosts in ((4 * TIB - size, [HOST4]), (4 * TIB - size + 1, [])):
        cache = mock.cloud.add("ImageCache", id=99, primaryStorageUuid=LOCAL, hostUuid=HOST4, imageUuid=CENTOS, installUrl="/x", mediaType="ISO", size=taken)
        body = await mock.call("LocalStorageGetVolumeMigratableHosts", volumeUuid=NEW)
        assert [host["uuid"] for host in body["inventories"]] == hosts
        mock.cloud.remove("ImageCache", cache["uuid"])


async def paths_on_local_storage(mock):
    await machines_on_local_storage(mock)
    root = mock.cloud.get("VmInstance", VM)["rootVolumeUuid"]
    account = zmock.ADMIN
    assert mock.cloud.get("Volume", root)["installPath"] == f"/zstack_ps/rootVolumes/acct-{account}/vol-{root}/{root}.qcow2"
    (snapshot,) = mock.cloud.find("VolumeSnapshot", "name", "s")
    folder = f"/zstack_ps/dataVolumes/acct-{account}/vol-{NEW}"
    assert snapshot["primaryStorageInstallPath"] == f"{folder}/{NEW}.qcow2"
    assert mock.cloud.get("Volume", NEW)["installPath"] == f"{folder}/snapshots/{snapshot['uuid']}.qcow2"
    (cache,) = mock.cloud.find("ImageCache", "primaryStorageUuid", LOCAL)
    assert cache["installUrl"].startswith(f"/zstack_ps/imagecache/template/{CENTOS}/{CENTOS}.qcow2")


async def without_reference(mock):
    """A deleted data volume on local storage, of which nobody knows the host."""
    await made(tags=[f"localStorage::hostUuid::{HOST3}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=NEW)(mock)
    await mock.call("DeleteDataVolume", uuid=NEW)
    mock.cloud.remove("LocalStorageResourceRef", NEW)


LOCAL_FACTS = (
    Fact("AddLocalPrimaryStorage", "refuses a url that is no absolute path", refused(
        added("LocalStorage", url="disk"), code="SYS.1007", details="the url[disk] is not an absolute path starting with '/'")),
    *(Fact("AddLocalPrimaryStorage", f"refuses the url {url}", refused(
        added("LocalStorage", url=url), code="SYS.1007", details=" the url contains an invalid folder[/dev or /proc or /sys]"))
      for url in ("/dev/x", "/proc", "/sys/x", "/devices")),
    Fact("AddLocalPrimaryStorage", "is Connected at once, with its url as mountPath", answers(added("LocalStorage"), status="Connected", mountPath="/disk")),
    Fact("AddLocalPrimaryStorage", "takes a url that another one has", answers(added("LocalStorage", url="/zstack_ps"), url="/zstack_ps")),
    Fact("AddLocalPrimaryStorage", "answers no capacity", answers(added("LocalStorage"), **NO_CAPACITY)),
    Fact("AttachPrimaryStorageToCluster", "gives local storage the disks of the hosts", after_all(added("LocalStorage"), attach(), disks(HOST1, HOST2), capacity(8))),
    Fact("AttachPrimaryStorageToCluster", "takes the disks of hosts in every state", after_all(
        ("ChangeHostState", {"uuid": HOST1, "stateEvent": "disable"}), added("LocalStorage"), attach(), disks(HOST1, HOST2))),
    Fact("AttachPrimaryStorageToCluster", "leaves hosts out that do not answer", after_all(host_away(HOST1), added("LocalStorage"), attach(), disks(HOST2), capacity(4))),
    Fact("AttachPrimaryStorageToCluster", "leaves the status of local storage", answers(
        added("LocalStorage"), changed(*PS, status="Disconnected"), attach(), status="Disconnected")),
    Fact("DetachPrimaryStorageFromCluster", "takes the disks of the hosts from local storage", after_all(
        added("LocalStorage"), attach(), attach(C2), capacity(12), detach(), disks(HOST3), capacity(4))),
    Fact("ReconnectHost", "adds the disk of a host that local storage has not seen", after_all(
        host_away(HOST1), added("LocalStorage"), attach(), act("ReconnectHost", HOST1), disks(HOST1, HOST2), capacity(8))),
    Fact("ReconnectHost", "leaves the disk of a host that local storage has seen", after_all(
        host_away(HOST3), act("ReconnectHost", HOST3), disks(HOST3, HOST4, uuid=LOCAL), capacity(8, uuid=LOCAL))),
    Fact("AddKVMHost", "adds the disk of the host to local storage", after_all(added("LocalStorage"), attach(), new_host, disks(HOST1, HOST2, OTHER), capacity(12))),
    Fact("DeleteHost", "takes all along that is on its local disk", Shown(a_host_takes_its_disk_along)),
    Fact("DeleteHost", "takes data volumes on its local disk from machines", Shown(attached_data_volume_of_host)),
    Fact("GetLocalStorageHostDiskCapacity", "refuses a Connected host that has no disk", refused(
        ("GetLocalStorageHostDiskCapacity", {"primaryStorageUuid": LOCAL, "hostUuid": HOST1}), code="SYS.1003",
        details=f"local primary storage[uuid:{LOCAL}] doesn't have the host[uuid:{HOST1}]")),
    Fact("GetLocalStorageHostDiskCapacity", "answers zeros for a host that is away and has no disk", answers(
        host_away(HOST1), added("LocalStorage"), attach(), ("GetLocalStorageHostDiskCapacity", {"primaryStorageUuid": NEW, "hostUuid": HOST1}),
        inventories=[{"hostUuid": HOST1, **NO_CAPACITY}])),
    Fact("GetLocalStorageHostDiskCapacity", "answers a row for each host", after_all(disks(HOST3, HOST4, uuid=LOCAL))),
    Fact("GetLocalStorageHostDiskCapacity", "answers none without hosts", after_all(added("LocalStorage"), disks())),
    Fact("GetLocalStorageHostDiskCapacity", "is unknown to other types", refused(
        ("GetLocalStorageHostDiskCapacity", {"primaryStorageUuid": NFS}), code="SYS.1008", details="No service deals with message: *")),
    Fact("LocalStorageMigrateVolume", "fails without room on the disk of the host", refused(
        full_target, ("LocalStorageMigrateVolume", {"volumeUuid": NEW, "destHostUuid": HOST4}), code="SYS.1006",
        details=f"host[uuid: {HOST4}] of local primary storage[uuid: {LOCAL}] doesn't have enough capacity[current: 0 bytes, needed: {20 * GIB}]")),
    Fact("LocalStorageMigrateVolume", "copies the image of a root volume to the other host", Shown(image_goes_along)),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers hosts with room for the volume and its snapshots", Shown(exact_room)),
    Fact("RecoverDataVolume", "refuses a volume of which no host is known", refused(
        without_reference, act("RecoverDataVolume"), code="SYS.1006",
        details=f"the data volume[name:new, uuid:{NEW}] is on the local storage[uuid:{LOCAL}]; however,the host on which the data volume is has been deleted. *")),
    Fact("QueryVolume", "finds volumes, snapshots and images of local storage below its url", Shown(paths_on_local_storage)),
)

# NFS


def nfs(url="10.0.0.1:/x", *system_tags):
    api, params = added("NFS", url=url)
    return (api, params | ({"systemTags": list(system_tags)} if system_tags else {}))


FOLDER = " the url contains an invalid folder[/dev or /proc or /sys]"
NFS_FACTS = (
    Fact("AddNfsPrimaryStorage", "refuses the url of another NFS storage of the zone", refused(
        nfs("10.10.0.100:/export/primary"), code="SYS.1007", details=f"there has been a nfs primary storage having url as 10.10.0.100:/export/primary in zone[uuid:{ZONE}]")),
    Fact("AddNfsPrimaryStorage", "takes the url in another zone", answers(
        ("CreateZone", {"name": "z", "resourceUuid": OTHER}), added("NFS", url="10.10.0.100:/export/primary", zoneUuid=OTHER), zoneUuid=OTHER)),
    *(Fact("AddNfsPrimaryStorage", f"refuses the folder {folder}", refused(nfs(f"10.0.0.1:{folder}"), code="SYS.1007", details=FOLDER))
      for folder in ("/dev/x", "/proc", "/systems")),
    Fact("AddNfsPrimaryStorage", "refuses several networks", refused(
        nfs("10.0.0.1:/x", f"{GATEWAY}10.0.0.0/24", f"{GATEWAY}10.0.0.0/8"), code="SYS.1007", details="found multiple CIDR")),
    Fact("AddNfsPrimaryStorage", "refuses a network that is none", refused(nfs("10.0.0.1:/x", f"{GATEWAY}10.0.0.0"), code="SYS.1007", details="invalid CIDR: 10.0.0.0")),
    Fact("AddNfsPrimaryStorage", "refuses an address outside the network of the tag", refused(
        nfs("10.0.0.1:/x", f"{GATEWAY}10.9.0.0/24"), code="SYS.1007", details="IP address[10.0.0.1] is not in CIDR[10.9.0.0/24]")),
    Fact("AddNfsPrimaryStorage", "takes an address in the network of the tag", after_all(
        tagged(added("NFS"), f"{GATEWAY}10.0.0.0/24"), tags(f"{GATEWAY}10.0.0.0/24", inherent=False))),
    Fact("AddNfsPrimaryStorage", "is mounted below nfsPrimaryStorage/mount.base", answers(
        configured("nfsPrimaryStorage", "mount.base", "/mnt"), added("NFS"), mountPath=f"/mnt/prim-{NEW}")),
    Fact("AddNfsPrimaryStorage", "is tagged for snapshots of KVM", after_all(added("NFS"), tags("capability::snapshot::hypervisor::KVM", inherent=False))),
    Fact("AddNfsPrimaryStorage", "answers Disconnected, without capacity", answers(
        added("NFS"), status="Disconnected", mountPath=f"/opt/zstack/nfsprimarystorage/prim-{NEW}", **NO_CAPACITY)),
    Fact("AttachPrimaryStorageToCluster", "connects NFS that a host has mounted", answers(added("NFS"), attach(), status="Connected", totalCapacity=20 * TIB)),
    Fact("AttachPrimaryStorageToCluster", "leaves NFS Disconnected without a host", answers(
        added("NFS"), host_away(HOST1, HOST2), attach(), status="Disconnected", attachedClusterUuids=[C1], **NO_CAPACITY)),
    Fact("AttachPrimaryStorageToCluster", "does not mount NFS on hosts in maintenance", answers(
        added("NFS"), changed("Host", HOST1, state="Maintenance"), changed("Host", HOST2, state="PreMaintenance"), attach(), status="Disconnected")),
    Fact("AttachPrimaryStorageToCluster", "fails for NFS that hosts with another qemu-img have", refused(
        added("NFS"), failing("AttachPrimaryStorageToCluster", "mount", "SYS.1006"), attach(), code="PS.1001 <- SYS.1006")),
    Fact("ReconnectHost", "connects NFS that is mounted for the first time", of(
        "PrimaryStorage", NEW, added("NFS"), host_away(HOST1, HOST2), attach(), act("ReconnectHost", HOST1), capacity(20), status="Connected")),
    Fact("DetachPrimaryStorageFromCluster", "leaves no capacity of NFS without a cluster", answers(added("NFS"), attach(), detach(), attachedClusterUuids=[], **NO_CAPACITY)),
    Fact("DetachPrimaryStorageFromCluster", "leaves the capacity of NFS with another cluster", answers(
        added("NFS"), attach(), attach(C2), detach(), attachedClusterUuids=[C2], totalCapacity=20 * TIB)),
    Fact("DetachPrimaryStorageFromCluster", "leaves the status of NFS", answers(added("NFS"), attach(), detach(), status="Connected")),
    Fact("DetachPrimaryStorageFromCluster", "disconnects NFS at the next ping", Uncovered("storage is not pinged")),
    Fact("AttachPrimaryStorageToCluster", "gives NFS its capacity back", after_all(added("NFS"), attach(), detach(), attach(), capacity(20))),
    Fact("AddKVMHost", "notes storage that a host cannot mount", Uncovered("a host mounts all storage")),
)

# shared mount points

SMP_FACTS = (
    *(Fact("AddSharedMountPointPrimaryStorage", f"refuses the url {url}", refused(added("SharedMountPoint", url=url), code="SYS.1007", details=FOLDER))
      for url in ("/dev/x", "/proc", "/sys/x")),
    Fact("AddSharedMountPointPrimaryStorage", "takes a relative url", answers(added("SharedMountPoint", url="smp"), url="smp", mountPath="smp")),
    Fact("AddSharedMountPointPrimaryStorage", "takes a url that another one has", answers(added("SharedMountPoint", OTHER), added("SharedMountPoint"), url="/smp")),
    Fact("AddSharedMountPointPrimaryStorage", "is Disconnected, with its url as mountPath", answers(added("SharedMountPoint"), status="Disconnected", mountPath="/smp", **NO_CAPACITY)),
    Fact("AttachPrimaryStorageToCluster", "fails if a host cannot reach the mount point", refused(
        added("SharedMountPoint"), failing("AttachPrimaryStorageToCluster", "mount", "SYS.1006"), attach(), code="PS.1001 <- SYS.1006")),
    Fact("AttachPrimaryStorageToCluster", "leaves a shared mount point as it was if hosts see different storage", of(
        "PrimaryStorage", NEW, added("SharedMountPoint"), failing("AttachPrimaryStorageToCluster", "mount", "SYS.1006"), lambda mock: error_of(mock, *attach()),
        status="Disconnected", attachedClusterUuids=[])),
    Fact("AttachPrimaryStorageToCluster", "connects a shared mount point with hosts", answers(added("SharedMountPoint"), attach(), status="Connected", systemUsedCapacity=0)),
    Fact("AttachPrimaryStorageToCluster", "leaves a shared mount point Disconnected without a host", answers(
        added("SharedMountPoint"), host_away(HOST1, HOST2), attach(), status="Disconnected", **NO_CAPACITY)),
    Fact("ReconnectHost", "connects a shared mount point that nobody reached", of(
        "PrimaryStorage", NEW, added("SharedMountPoint"), host_away(HOST1, HOST2), attach(), act("ReconnectHost", HOST1), status="Connected")),
    Fact("DetachPrimaryStorageFromCluster", "leaves no capacity of a shared mount point without a cluster", answers(
        added("SharedMountPoint"), attach(), detach(), systemUsedCapacity=0, **NO_CAPACITY)),
)

# Ceph


def ceph(*mons, **params):
    return added("Ceph", monUrls=list(mons or [MON]), **params)


def mons(*urls, uuid=NEW):
    return ("AddMonToCephPrimaryStorage", {"uuid": uuid, "monUrls": list(urls)})


def remove_mons(*names, uuid=NEW):
    return ("RemoveMonFromCephPrimaryStorage", {"uuid": uuid, "monHostnames": list(names)})


def pool(name="fast", **params):
    return ("AddCephPrimaryStoragePool", {"primaryStorageUuid": NEW, "poolName": name, **params})


def mon_of(mock, hostname="10.10.0.91"):
    return mock.cloud.find("CephPrimaryStorageMon", "hostname", hostname)[0]["uuid"]


def pool_of(mock, type="Data", storage=NEW):
    return next(item["uuid"] for item in mock.cloud.find("CephPrimaryStoragePool", "primaryStorageUuid", storage) if item["type"] == type)


def hostnames(*wanted, uuid=NEW):
    async def step(mock):
        assert {mon["hostname"] for mon in mock.cloud.find("CephPrimaryStorageMon", "primaryStorageUuid", uuid)} == set(wanted)

    return step


def update_mon(**params):
    """A step that changes the first monitor."""

    async def step(mock):
        await mock.call("UpdateCephPrimaryStorageMon", monUuid=mon_of(mock), **params)

    return step


async def the_mons(mock):
    await take(mock, [ceph(MON, MON2)])
    first, second = sorted((await inventory(mock))["mons"], key=lambda mon: mon["hostname"])
    look_at(first, {"hostname": "10.10.0.91", "monAddr": "10.10.0.91", "sshUsername": "root", "sshPassword": "password", "sshPort": 22, "monPort": 6789, "status": "Connected"})
    look_at(second, {"hostname": "10.10.0.92", "sshUsername": "admin", "sshPort": 2222, "monPort": 6790, "status": "Connected", "primaryStorageUuid": NEW})


async def the_pools(mock):
    await take(mock, [ceph(dataVolumePoolName="mine")])
    names = {item["type"]: item["poolName"] for item in (await inventory(mock))["pools"]}
    assert names == {"Root": f"pri-v-r-{NEW}", "Data": "mine", "ImageCache": f"pri-c-{NEW}"}


async def the_secret(mock):
    await take(mock, [ceph()])
    (tag,) = [tag for tag in mock.cloud.find("SystemTag", "resourceUuid", NEW) if tag["tag"].startswith("ceph::kvm::secret::")]
    assert tag["inherent"] and tag["tag"].count("-") == 4


async def one_ceph_twice(mock):
    """The monitor that stands for the cluster of Ceph has gone from the first storage."""
    await take(mock, [added("Ceph", OTHER, monUrls=[MON, MON2]), remove_mons("10.10.0.91", uuid=OTHER)])


async def mon_shown(mock):
    await take(mock, [ceph(), update_mon(hostname="ceph-1", sshUsername="u", sshPassword="q", sshPort=23, monPort=7)])
    (mon,) = (await inventory(mock))["mons"]
    look_at(mon, {"hostname": "ceph-1", "monAddr": "10.10.0.91", "sshUsername": "u", "sshPassword": "q", "sshPort": 23, "monPort": 7, "status": "Connected"})


async def pools_with_sizes(mock):
    await take(mock, [ceph(), attach(), machine])
    size = mock.cloud.get("Image", CENTOS)["size"]
    for item in (await inventory(mock))["pools"]:
        used = 0 if item["type"] == "Data" else size
        look_at(item, {"usedCapacity": used, "availableCapacity": 100 * TIB - 2 * size, "replicatedSize": 3})


async def pool_changed(mock):
    await take(mock, [ceph(), pool(resourceUuid=OTHER)])
    answer = await mock.create("UpdateCephPrimaryStoragePool", uuid=OTHER, aliasName="a", description="d")
    look_at(answer, {"aliasName": "a", "description": "d", "poolName": "fast"})


async def default_pool_gone(mock):
    await take(mock, [ceph(), attach(), machine])
    root = mock.cloud.get("VmInstance", VM)["rootVolumeUuid"]
    await mock.call("DeleteCephPrimaryStoragePool", uuid=pool_of(mock, "Root"))
    assert {item["type"] for item in (await inventory(mock))["pools"]} == {"Data", "ImageCache"} and mock.cloud.get("Volume", root)["status"] == "Ready"


async def pools_by_name(mock):
    """The other storage loses the pool of the same name."""
    await take(mock, [ceph(rootVolumePoolName="both"), added("Ceph", OTHER, monUrls=[MON2], rootVolumePoolName="both"), act("DeletePrimaryStorage")])
    assert {item["type"] for item in mock.cloud.find("CephPrimaryStoragePool", "primaryStorageUuid", OTHER)} == {"Data", "ImageCache"}


SECOND = added("Ceph", OTHER, monUrls=[MON2])
CEPH_FACTS = (
    Fact("AddCephPrimaryStorage", "has the url 'not used', whatever is given", answers(ceph(url="ceph://x"), url="not used", mountPath="Ceph")),
    Fact("AttachPrimaryStorageToCluster", "refuses a second Ceph", refused(
        ceph(), attach(), SECOND, attach(uuid=OTHER), code="SYS.1007", details="url[not used] has been occupied, it cannot be duplicate in same cluster")),
    *(Fact("AddCephPrimaryStorage", f"refuses an empty {name}", refused(ceph(**{name: ""}), code="SYS.1007", details=f"{name} can be null but cannot be an empty string"))
      for name in ("dataVolumePoolName", "rootVolumePoolName", "imageCachePoolName")),
    Fact("AddCephPrimaryStorage", "refuses the names of pools in their order", refused(
        ceph(rootVolumePoolName="", dataVolumePoolName=""), code="SYS.1007", details="dataVolumePoolName can be null but cannot be an empty string")),
    Fact("AddCephPrimaryStorage", "refuses a host twice", refused(ceph(MON, "u:p@10.10.0.91:23"), code="SYS.1007", details="Cannot add same host[10.10.0.91] in mons")),
    *(Fact("AddCephPrimaryStorage", f"refuses the monitor {url}", refused(ceph(url), code="SYS.1007", details=f"invalid monUrl[{url}], {reason}. {FORM}"))
      for url, reason in (("10.0.0.1", "the sshUsername:sshPassword part is invalid"), ("root@10.0.0.1", "the sshUsername:sshPassword part is invalid"),
                          ("u:p@", "hostname cannot be null"), ("u:p@:22", "hostname cannot be null"),
                          ("u:p@h:65536", "the ssh port is greater than 65535 or smaller than 1"), ("u:p@h:0", "the ssh port is greater than 65535 or smaller than 1"))),
    *(Fact("AddCephPrimaryStorage", f"refuses any other form of a monitor: {url}", refused(
        ceph(url), code="SYS.1007", details=f"invalid monUrl[{url}]. A valid url is in format of sshUsername:sshPassword@hostname:[sshPort]/?[monPort=]"))
      for url in ("u:p@h/path", "u:p@h/?monPort=0", "u:p@h/?monPort=65536")),
    Fact("AddCephPrimaryStorage", "refuses an unknown parameter of a monitor with SYS.1000", Uncovered("it is refused as any other wrong url")),
    Fact("AddCephPrimaryStorage", "refuses a monitor of another storage", refused(
        added("Ceph", OTHER), ceph(MON2, MON), code="SYS.1007", details="cannot add ceph primary storage, there has been some ceph primary storage using mon[hostnames:[10.10.0.91]]")),
    Fact("AddCephPrimaryStorage", "fails if no monitor connects", refused(failing("AddCephPrimaryStorage", "connect", "SYS.1006"), ceph(), code="SYS.1006")),
    Fact("AddCephPrimaryStorage", "fails if monitors are of different clusters", refused(failing("AddCephPrimaryStorage", "connect", "SYS.1006"), ceph(MON, MON2), code="SYS.1006")),
    Fact("AddCephPrimaryStorage", "leaves out a monitor that does not connect while another one does", Uncovered("all monitors are there")),
    Fact("AddCephPrimaryStorage", "fails without a monitor", refused(
        added("Ceph", monUrls=[]), code="SYS.1006", details=f"unable to connect to the ceph primary storage[uuid:{NEW}]. Failed to connect all ceph mons.")),
    Fact("AddCephPrimaryStorage", "fails for a cluster of Ceph that is another storage", refused(
        one_ceph_twice, ceph(), code="SYS.1006", details=f"there is another CEPH primary storage[name:ps, uuid:{OTHER}] with the same FSID[*], you cannot add the same CEPH setup "
        "as two different primary storage")),
    Fact("AddCephPrimaryStorage", "makes three pools with the names that are given", Shown(the_pools)),
    Fact("AddCephPrimaryStorage", "has inherent tags with the names of the pools", after_all(
        ceph(dataVolumePoolName="mine"), tags(f"ceph::default::rootVolumePoolName::pri-v-r-{NEW}", "ceph::default::dataVolumePoolName::mine",
                                              f"ceph::default::imageCachePoolName::pri-c-{NEW}", inherent=True))),
    Fact("AddCephPrimaryStorage", "has an inherent tag with a secret", Shown(the_secret)),
    Fact("AddCephPrimaryStorage", "has tags for the pools that were given", after_all(
        ceph(rootVolumePoolName="a", dataVolumePoolName="b", imageCachePoolName="c"),
        tags("ceph::predefinedRootVolumePool", "ceph::predefinedDataVolumePool", "ceph::predefinedImageCachePool", inherent=False))),
    Fact("AddCephPrimaryStorage", "has no tag for a pool that was not given", Shown(lambda mock: no_predefined_pool(mock))),
    Fact("AddCephPrimaryStorage", "has monitors with ports 22 and 6789", Shown(the_mons)),
    Fact("AddCephPrimaryStorage", "gives its pools the capacity of the cluster", Shown(pools_with_sizes)),
    Fact("AddCephPrimaryStorage", "answers fsid, status and the capacity of the cluster", answers(
        ceph(), fsid=lambda fsid: fsid.count("-") == 4, status="Connected", totalCapacity=100 * TIB, availableCapacity=100 * TIB, totalPhysicalCapacity=100 * TIB)),
    Fact("AddMonToCephPrimaryStorage", "refuses a host twice", refused(ceph(), mons("u:p@h", "u:q@h"), code="SYS.1007", details="Cannot add same host[h] in mons")),
    Fact("AddMonToCephPrimaryStorage", "refuses a wrong form", refused(ceph(), mons("h"), code="SYS.1007", details="invalid monUrl[h], the sshUsername:sshPassword part is invalid. *")),
    Fact("AddMonToCephPrimaryStorage", "refuses a monitor of any Ceph storage", refused(ceph(), SECOND, mons(MON2), code="SYS.1007", details="Adding the same Mon node is not allowed")),
    Fact("AddMonToCephPrimaryStorage", "fails if they do not connect, and leaves none", refused(
        ceph(), failing("AddMonToCephPrimaryStorage", "connect", "SYS.1006"), mons(MON2), code="SYS.1006")),
    Fact("AddMonToCephPrimaryStorage", "removes all new monitors if one is of another cluster of Ceph", after_all(
        ceph(), failing("AddMonToCephPrimaryStorage", "connect", "SYS.1006"), lambda mock: error_of(mock, *mons(MON2, "u:p@10.10.0.93")), hostnames("10.10.0.91"))),
    Fact("AddMonToCephPrimaryStorage", "answers the storage with all monitors", answers(ceph(), mons(MON2), uuid=NEW, mons=lambda mons: len(mons) == 2, pools=bool)),
    Fact("UpdateCephPrimaryStorageMon", "refuses a hostname that is none", Refused(
        after(ceph(), monUuid=mon_of, hostname="-x-"), "SYS.1007", "hostname[-x-] is neither an IPv4 address nor a valid hostname")),
    Fact("UpdateCephPrimaryStorageMon", "takes the hostname of another monitor", after_all(ceph(MON, MON2), update_mon(hostname="10.10.0.92"), hostnames("10.10.0.92"))),
    Fact("UpdateCephPrimaryStorageMon", "changes hostname, ports and login, not monAddr and status", Shown(mon_shown)),
    Fact("UpdateCephPrimaryStorageMon", "refuses ports out of range", Refused(after(ceph(), monUuid=mon_of, sshPort=0), "SYS.1007")),
    Fact("UpdateCephPrimaryStorageMon", "answers the storage", Shown(lambda mock: answer_of_update(mock))),
    Fact("RemoveMonFromCephPrimaryStorage", "removes the last monitor", answers(ceph(), remove_mons("10.10.0.91"), uuid=NEW, mons=[])),
    Fact("RemoveMonFromCephPrimaryStorage", "ignores unknown hostnames", answers(ceph(), remove_mons("nobody"), mons=lambda mons: len(mons) == 1)),
    Fact("RemoveMonFromCephPrimaryStorage", "removes monitors of other storage too", after_all(ceph(), SECOND, remove_mons("10.10.0.92"), hostnames("10.10.0.91"), hostnames(uuid=OTHER))),
    Fact("RemoveMonFromCephPrimaryStorage", "answers the storage with monitors and pools", answers(ceph(MON, MON2), remove_mons("10.10.0.92"), mons=bool, pools=bool, fsid=bool)),
    Fact("AddCephPrimaryStoragePool", "refuses characters that cannot be printed", refused(
        ceph(), pool("fäst"), code="SYS.1007", details="operation failure, because the poolName[poolName:fäst] can not include unprintable ascii characters.")),
    Fact("AddCephPrimaryStoragePool", "refuses to create a Data pool that is there", Refused(
        after(ceph(), pool(resourceUuid=OTHER), primaryStorageUuid=NEW, poolName="fast", isCreate=True), "SYS.1007",
        f"creation failure, duplicate poolName[fast]. There has been a pool[uuid:{OTHER}] with the same name existing.")),
    Fact("AddCephPrimaryStoragePool", "refuses to use a Data pool that is there", refused(
        ceph(), pool(), pool(), code="SYS.1007", details="Ceph pool[uuid:fast] with this name is already added into ZStack and used elsewhere, cannot reuse the ceph pool.")),
    Fact("AddCephPrimaryStoragePool", "takes the name of a pool of another kind", answers(ceph(rootVolumePoolName="fast"), pool(), type="Data", poolName="fast")),
    Fact("AddCephPrimaryStoragePool", "makes a pool of type Data", answers(
        ceph(), pool(aliasName="a", description="d"), type="Data", aliasName="a", description="d", primaryStorageUuid=NEW, poolName="fast")),
    Fact("AddCephPrimaryStoragePool", "fails bare if Ceph does, and leaves no pool", refused(
        ceph(), failing("AddCephPrimaryStoragePool", "create", "SYS.1006"), pool(), code="SYS.1006")),
    Fact("AddCephPrimaryStoragePool", "answers no capacities before the next report", Uncovered("capacities are worked out whenever they are shown")),
    Fact("UpdateCephPrimaryStoragePool", "changes aliasName and description, and answers the pool", Shown(pool_changed)),
    Fact("UpdateCephPrimaryStoragePool", "answers lastOpDate as before", Uncovered("the answer is the pool as it is now")),
    Fact("DeleteCephPrimaryStoragePool", "removes a pool", gone(
        ceph(), pool(resourceUuid=OTHER), act("DeleteCephPrimaryStoragePool", OTHER), of=("CephPrimaryStoragePool", OTHER))),
    Fact("DeleteCephPrimaryStoragePool", "removes the row of a default pool, and leaves its volumes", Shown(default_pool_gone)),
    Fact("QueryCephPrimaryStorage", "shows monitors with their logins", Shown(the_mons)),
    Fact("QueryCephPrimaryStoragePool", "finds pools by their fields", Shown(lambda mock: pools_found(mock))),
    Fact("AttachPrimaryStorageToCluster", "fails with PS.1001 if hosts take no secret of Ceph", refused(
        ceph(), failing("AttachPrimaryStorageToCluster", "mount"), attach(), code="PS.1001 <- HOST.1010")),
    Fact("AttachPrimaryStorageToCluster", "leaves the status of Ceph", answers(ceph(), changed(*PS, status="Disconnected"), attach(), status="Disconnected")),
    Fact("DeletePrimaryStorage", "removes pools by their names, whatever storage they are of", Shown(pools_by_name)),
)


async def no_predefined_pool(mock):
    await take(mock, [ceph()])
    assert not [tag for tag in mock.cloud.find("SystemTag", "resourceUuid", NEW) if "predefined" in tag["tag"]]


async def answer_of_update(mock):
    await take(mock, [ceph()])
    look_at(await mock.create("UpdateCephPrimaryStorageMon", monUuid=mon_of(mock), sshPort=23), {"uuid": NEW, "mons": bool, "pools": bool})


async def pools_found(mock):
    await take(mock, [ceph(), SECOND])
    assert len(await mock.query("primary-storage/ceph/pools", "type=Root")) == 2
    assert [item["uuid"] for item in await mock.query("primary-storage/ceph", "mons.hostname=10.10.0.92")] == [OTHER]


FACTS = (*ADDED, *ATTACHED, *DETACHED, *STATE, *CHANGED, *REMOVED, *CAPACITY, *LOCAL_FACTS, *NFS_FACTS, *SMP_FACTS, *CEPH_FACTS)


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts_of_storage(each_dialect, fact):
    await check(fact, each_dialect)
