"""What the real server does with calls on virtual machines, fact by fact, in both dialects.

The facts follow the calls: creation, start, stop and so on to the candidates, then what happens to machines by itself. Each is a
refusal with its codes, or an effect. The helpers below prepare a cloud (`after`, `made`) and look at what a call has left (`leaves`).
"""


import pytest
from asking import each, outcome
from facts import Fact, Refused, Shown, Uncovered, after, chain, changed, check, error_of, take

from zmock import named

WEB, WEB2, CI, OLD, BATCH, DB = (named(f"vm-{name}") for name in ("web-1", "web-2", "ci-1", "old-1", "batch-1", "db-1"))
HOST1, HOST2, HOST3, HOST4 = (named(f"host-{number}") for number in (1, 2, 3, 4))
C1, C2, ZONE, PRIVATE, PUBLIC = map(named, ("cluster-1", "cluster-2", "zone-1", "l3-private", "l3-public"))
NFS, LOCAL, BS, ISO, CENTOS = map(named, ("ps-nfs", "ps-local", "bs-1", "image-debian9", "image-centos7"))
SMALL, MEDIUM, DISK, BIG_DISK = map(named, ("offering-small", "offering-medium", "disk-20g", "disk-100g"))
GIB, NEW, NOBODY, DATA = 1 << 30, named("vm-new"), named("nobody"), named("volume-new")
EXCESS = "quota exceeding. Current account is [uuid: *]. The resource target owner account[uuid: *] exceeds a quota"
VM = {"name": "new", "resourceUuid": NEW, "instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE]}
ISO_VM = VM | {"imageUuid": ISO, "rootDiskOfferingUuid": DISK}
ABSENT = object()
CLASS = "org.zstack.header.vm."


# clouds, and looks at them


def tagged(uuid, *tags, type="VmInstanceVO"):
    async def step(mock):
        for tag in tags:
            mock.cloud.add("SystemTag", resourceUuid=uuid, resourceType=type, tag=tag)

    return step


def made(*tags, **more):
    """A step that makes the virtual machine NEW, with system tags."""

    async def step(mock):
        status, answer = await outcome(mock, "POST", "/vm-instances", {"params": VM | more, "systemTags": list(tags)})
        assert status == 200, answer

    return step


def configured(category, name, value):
    return ("UpdateGlobalConfig", {"category": category, "name": name, "value": value})


def leaves(*steps, of=None, **fields):
    """A story: after some steps, an object has these fields. It is NEW, or (type, uuid), or (type, key, value)."""

    async def story(mock):
        await take(mock, steps)
        look_at(mock, of or ("VmInstance", NEW), fields)

    return Shown(story)


def look_at(mock, of, fields):
    item = mock.cloud.look(*of) if len(of) == 2 else mock.cloud.find(*of)[0]
    assert item, of
    row = mock.cloud.catalogue.resources[of[0]]
    for name, value in fields.items():
        shown = mock.cloud.queries.value(row, item, name)
        assert (shown is None) if value is ABSENT else (shown == value), (name, shown)


def answers(*steps, **members):
    """A story: the last call answers these members, or an inventory with these fields."""

    async def story(mock):
        body = await take(mock, steps)
        body = body.get("inventory", body) if isinstance(body, dict) else body
        for name, value in members.items():
            assert (name not in body) if value is ABSENT else (body[name] == value), (name, body.get(name))

    return Shown(story)


def gone(*steps, of=("VmInstance", NEW)):
    """A story: after some steps, an object is no more."""

    async def story(mock):
        await take(mock, steps)
        assert not (mock.cloud.look(*of) if len(of) == 2 else mock.cloud.find(*of))

    return Shown(story)


def failing(step, why):
    """A step that fails."""

    async def fail(mock):
        with pytest.raises(RuntimeError, match=why):
            await take(mock, [step])

    return fail


def faulty(api, code, outer, uuid=WEB, *steps):
    """A story: an error of the host has the code of the call around it, and the state is the old one."""

    async def story(mock):
        await take(mock, steps)
        before = mock.cloud.look("VmInstance", uuid)["state"]
        mock.rule(api=api, then={"error": code, "stage": [*mock.cloud.catalogue.apis[api].stages][-1]})
        _, params = act(api, uuid)
        errors = chain(await error_of(mock, api, params))
        assert [error["code"] for error in errors] == [outer, code] and mock.cloud.look("VmInstance", uuid)["state"] == before

    return Shown(story)


STATES = ("Created Starting Running Stopping Stopped Rebooting Destroying Destroyed Migrating Expunging Pausing Paused Resuming VolumeMigrating Error "
          "Unknown").split()  # fmt: skip


def refused_in_other_states(api, outer, states, name="uuid"):
    """A story: all other states refuse the call, with VM.1010 as the cause."""

    async def story(mock):
        for state in STATES:
            if state not in states.split():
                mock.cloud.change("VmInstance", WEB, state=state)
                errors = chain(await error_of(mock, api, {"vmInstanceUuid" if api == "MigrateVm" else name: WEB}))
                assert [error["code"] for error in errors] == [outer, "VM.1010"], state
                assert errors[1]["details"].endswith(f"allowed states are [{', '.join(states.split())}]")

    return story


def hosts(*steps, are=()):
    """A story: the last call answers these hosts, by their names, in this order."""

    async def story(mock):
        body = await take(mock, steps)
        inventories = body.get("hosts", body.get("inventories"))
        assert [host["name"] for host in inventories] == list(are)

    return Shown(story)


def tags(*steps, uuid=NEW, are=()):
    async def story(mock):
        await take(mock, steps)
        assert sorted(tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", uuid)) == sorted(are)

    return Shown(story)


def act(api, uuid=WEB, **params):
    """A call on a virtual machine."""
    names = {"MigrateVm": "vmInstanceUuid", "ChangeInstanceOffering": "vmInstanceUuid", "ReimageVmInstance": "vmInstanceUuid"}
    return (api, {names.get(api, "uuid"): uuid} | params)


STOP, START, PAUSE, DESTROY, RECOVER = (act(f"{verb}VmInstance") for verb in ("Stop", "Start", "Pause", "Destroy", "Recover"))
LOST = (PAUSE, ("DeleteHost", {"uuid": HOST1}))  # leaves WEB paused, on no host
CREATE, JUST_CREATE = ("CreateVmInstance", VM), ("CreateVmInstance", VM | {"strategy": "JustCreate"})
NUMA = configured("vm", "numa", "true")
NO_PAGES = configured("hostAllocator", "usePagination", "false")
OUTER = "unable to allocate hosts; due to pagination is enabled, there might be several allocation failures happened before; the error list is [{%s}]"


def not_in_state(api, state, allowed, message=None):
    """The text of VM.1010."""
    return f"current vm instance state[{state}] doesn't allow to proceed message[{CLASS}{message or f'API{api}Msg'}], allowed states are [{allowed}]"


def as_ann(quota, value, *steps, owns=None, **params):
    """The state in which the account ann, whose quota is small, makes the call. It may own an object."""

    async def state(mock):
        ann = (await mock.call("CreateAccount", name="ann", password="p"))["inventory"]
        await mock.call("UpdateQuota", identityUuid=ann["uuid"], name=quota, value=value)
        for resource in (PRIVATE, CENTOS, SMALL, DISK):
            await mock.call("ShareResource", resourceUuids=[resource], toPublic=True)
        await take(mock, steps)
        if owns:
            for item in [mock.cloud.look("VmInstance", owns), *mock.cloud.find("Volume", "vmInstanceUuid", owns)]:
                mock.cloud.store.update("VmInstance" if item["uuid"] == owns else "Volume", item["uuid"], owner=ann["uuid"])
        body = {"logInByAccount": {"accountName": "ann", "password": "p"}}
        mock.session = (await mock.request("PUT", "/accounts/login", body))[1]["inventory"]["uuid"]
        return params

    return state


async def all_hosts(mock, **changes):
    for host in [*mock.cloud.store.rows("Host")]:
        mock.cloud.change("Host", host["uuid"], **changes)


def every_host(**changes):
    return lambda mock: all_hosts(mock, **changes)


def every_storage(**changes):
    async def step(mock):
        for ps in [*mock.cloud.store.rows("PrimaryStorage")]:
            mock.cloud.change("PrimaryStorage", ps["uuid"], **changes)

    return step


FULL = named("l3-full")


async def full_network(mock):
    """Make the network FULL, whose only address is taken, and put the stopped machine CI there."""
    mock.cloud.add("L3Network", name="l3-full", uuid=FULL, zoneUuid=ZONE, l2NetworkUuid=mock.cloud.look("L3Network", PRIVATE)["l2NetworkUuid"])
    place = {"netmask": "255.255.255.0", "gateway": "10.99.0.1", "networkCidr": "10.99.0.0/24"}
    mock.cloud.add("IpRange", name="r", l3NetworkUuid=FULL, startIp="10.99.0.2", endIp="10.99.0.2", **place)
    mock.cloud.add("Vip", name="v", l3NetworkUuid=FULL, ip="10.99.0.2")
    mock.cloud.change("VmNic", nic_of(mock, CI)["uuid"], l3NetworkUuid=FULL, ip=None)


async def second_storage(mock):
    """Another backup storage, out of reach, has the image too; the first one is out of reach."""
    other = mock.cloud.add("BackupStorage", name="bs-2", url="/b", type="SftpBackupStorage", status="Disconnected", totalCapacity=1, availableCapacity=1)
    refs = mock.cloud.get("Image", CENTOS)["backupStorageRefs"]
    mock.cloud.change("Image", CENTOS, backupStorageRefs=[*refs, refs[0] | {"backupStorageUuid": other["uuid"]}])
    mock.cloud.change("BackupStorage", BS, status="Disconnected")


async def deleted_image(mock):
    refs = [ref | {"status": "Deleted"} for ref in mock.cloud.get("Image", CENTOS)["backupStorageRefs"]]
    mock.cloud.change("Image", CENTOS, status="Deleted", backupStorageRefs=refs)


async def empty_cache(mock):
    for cache in mock.cloud.find("ImageCache", "imageUuid", CENTOS):
        mock.cloud.remove("ImageCache", cache["uuid"])


async def full_cache(mock):
    for ps in (NFS, LOCAL):
        mock.cloud.add("ImageCache", id=99, primaryStorageUuid=ps, imageUuid=CENTOS, installUrl="/c", mediaType="RootVolumeTemplate", size=1)


def nic_of(mock, uuid=WEB):
    return mock.cloud.find("VmNic", "vmInstanceUuid", uuid)[0]


async def with_services(mock, uuid=WEB):
    """The machine's nic is in a listener and in a security group, and has an EIP and a port forwarding rule."""
    nic, cloud = nic_of(mock, uuid), mock.cloud
    vip = cloud.add("Vip", name="v", l3NetworkUuid=PUBLIC, ip="10.20.0.99", netmask="255.255.255.0", gateway="10.20.0.1", useFor="Eip")
    where = {"vipUuid": vip["uuid"], "vipIp": vip["ip"], "vmNicUuid": nic["uuid"], "guestIp": nic["ip"]}
    cloud.add("Eip", name="e", uuid="e" * 32, **where)
    ports = dict.fromkeys(("vipPortStart", "vipPortEnd", "privatePortStart", "privatePortEnd"), 22)
    cloud.add("PortForwardingRule", name="p", uuid="f" * 32, protocolType="TCP", **where, **ports)
    balancer = cloud.add("LoadBalancer", name="b", vipUuid=vip["uuid"])
    listener = {"loadBalancerUuid": balancer["uuid"], "loadBalancerPort": 80, "instancePort": 80, "protocol": "tcp"}
    cloud.add("LoadBalancerListener", name="l", uuid="c" * 32, **listener)
    cloud.add("LoadBalancerListenerVmNicRef", listenerUuid="c" * 32, vmNicUuid=nic["uuid"])
    group = cloud.add("SecurityGroup", name="g", attachedL3NetworkUuids=[PRIVATE])
    cloud.add("VmNicSecurityGroupRef", uuid="d" * 32, vmNicUuid=nic["uuid"], securityGroupUuid=group["uuid"], vmInstanceUuid=uuid)


EIP, RULE, LISTENER = ("Eip", "e" * 32), ("PortForwardingRule", "f" * 32), ("LoadBalancerListener", "c" * 32)


def balanced(*steps, is_=()):
    """A story: after some steps, the listener has nics with these statuses."""

    async def story(mock):
        await take(mock, [with_services, *steps])
        assert [ref["status"] for ref in mock.cloud.look(*LISTENER)["vmNicRefs"]] == list(is_)

    return Shown(story)


def served(*steps, of=EIP, nic=True):
    """A story: after some steps, an EIP or a rule leads to the nic of the machine, or nowhere."""

    async def story(mock):
        await take(mock, [with_services, *steps])
        item = mock.cloud.look(*of)
        assert (item.get("vmNicUuid"), item.get("guestIp")) == ((nic_of(mock)["uuid"], "192.168.100.2") if nic else (None, None))

    return Shown(story)


def capacity(*steps, cpus=0, memory=0, host=HOST1):
    """A story: the steps take processors and memory from a host, or give them back."""

    async def story(mock):
        async def free():
            (item,) = await mock.query("hosts", f"uuid={host}")
            return item["availableCpuCapacity"], item["availableMemoryCapacity"]

        before = await free()
        await take(mock, steps)
        now = await free()
        assert (before[0] - now[0], before[1] - now[1]) == (cpus, memory)

    return Shown(story)


# stories


async def first_free_zone(mock):
    """An L3 network in another zone; its L2 network is attached to the clusters of the first."""
    zone = mock.cloud.add("Zone", name="z2", uuid="2" * 32)
    l2 = mock.cloud.add("L2Network", name="l2", uuid="3" * 32, zoneUuid=zone["uuid"], attachedClusterUuids=[C1, C2])
    mock.cloud.add("L3Network", name="l3", uuid="4" * 32, zoneUuid=zone["uuid"], l2NetworkUuid=l2["uuid"])
    place = {"netmask": "255.255.255.0", "gateway": "10.99.0.1", "networkCidr": "10.99.0.0/24"}
    mock.cloud.add("IpRange", name="r", l3NetworkUuid="4" * 32, startIp="10.99.0.2", endIp="10.99.0.9", **place)


async def uuid_is_free_again(mock):
    with pytest.raises(RuntimeError):
        await take(mock, [every_host(status="Disconnected"), CREATE])
    assert not mock.cloud.look("VmInstance", NEW) and not mock.cloud.find("Volume", "vmInstanceUuid", NEW)
    assert (await take(mock, [every_host(status="Connected"), CREATE]))["inventory"]["uuid"] == NEW


async def failing_leaves_nothing(mock):
    await full_network(mock)
    before = [len(list(mock.cloud.store.rows(type))) for type in ("VmInstance", "VmNic", "Volume", "SystemTag")]
    status, answer = await outcome(mock, "POST", "/vm-instances", {"params": VM | {"l3NetworkUuids": [FULL]}, "systemTags": ["hostname::a"]})
    assert status == 503
    assert [len(list(mock.cloud.store.rows(type))) for type in ("VmInstance", "VmNic", "Volume", "SystemTag")] == before


async def states_on_the_way(mock):
    """The transitional states can be seen while the job runs."""
    for api, while_it_runs in (("StopVmInstance", "Stopping"), ("StartVmInstance", "Starting"), ("RebootVmInstance", "Rebooting"),
                               ("PauseVmInstance", "Pausing"), ("ResumeVmInstance", "Resuming"), ("MigrateVm", "Migrating")):  # fmt: skip
        mock.rule(api=api, delay=5, times=1)
        row = mock.cloud.catalogue.apis[api]
        status, answer = await mock.request("PUT", f"/vm-instances/{WEB}/actions", {row.key: {}})
        await mock.advance(1)
        assert mock.cloud.look("VmInstance", WEB)["state"] == while_it_runs
        await mock.advance(9)


async def failed_start(mock):
    before = dict(mock.cloud.look("VmInstance", CI))
    with pytest.raises(RuntimeError):
        await take(mock, [every_host(status="Disconnected"), act("StartVmInstance", CI)])
    after = mock.cloud.look("VmInstance", CI)
    assert [after.get(name) for name in ("state", "hostUuid", "lastHostUuid")] == [before.get(name) for name in ("state", "hostUuid", "lastHostUuid")]


async def never_started_is_removed(mock):
    await take(mock, [JUST_CREATE, every_host(status="Disconnected")])
    status, answer = await outcome(mock, "PUT", f"/vm-instances/{NEW}/actions", {"startVmInstance": {}})
    error = answer["error"]
    assert (error["code"], error["cause"]["code"], error["cause"]["cause"]["code"]) == ("VM.1001", "SYS.1006", "HOST_ALLOCATION.1000")
    assert not mock.cloud.look("VmInstance", NEW)


async def keeps_nothing_to_write(mock):
    before = mock.cloud.look("VmInstance", WEB)["lastOpDate"]
    await mock.advance(100)
    await take(mock, [act("UpdateVmInstance")])
    assert mock.cloud.look("VmInstance", WEB)["lastOpDate"] == before


async def postponed_by_a_change(mock):
    await take(mock, [DESTROY])
    await mock.advance(80_000)
    await mock.login()
    await take(mock, [act("UpdateVmInstance", name="kept")])
    await mock.advance(10_000)
    assert mock.cloud.look("VmInstance", WEB)
    await mock.advance(90_000)
    assert not mock.cloud.look("VmInstance", WEB)


async def never_policy(mock):
    await take(mock, [configured("vm", "deletionPolicy", "Never"), DESTROY])
    await mock.advance(200_000)
    await mock.login()
    assert mock.cloud.look("VmInstance", WEB)["state"] == "Destroyed"
    await take(mock, [act("ExpungeVmInstance")])
    assert not mock.cloud.look("VmInstance", WEB)


async def destroyed_root_volume(mock):
    root = mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]
    await take(mock, [DESTROY])
    look_at(mock, ("Volume", root), {"status": "Deleted", "vmInstanceUuid": WEB})


async def recovered_root_volume(mock):
    root = mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]
    await take(mock, [DESTROY, RECOVER])
    look_at(mock, ("Volume", root), {"status": "Ready"})


async def expunged_with_its_root_volume(mock):
    root = mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]
    await take(mock, [tagged(WEB, "hostname::w"), ("CreateVolumeSnapshot", {"volumeUuid": root, "name": "s"}), DESTROY, act("ExpungeVmInstance")])
    assert not mock.cloud.look("Volume", root) and not mock.cloud.find("VolumeSnapshot", "volumeUuid", root)
    assert not mock.cloud.find("VmNic", "vmInstanceUuid", WEB) and not mock.cloud.find("SystemTag", "resourceUuid", WEB)


async def direct_policy(mock):
    await take(mock, [configured("vm", "deletionPolicy", "Direct"), DESTROY])
    assert not mock.cloud.look("VmInstance", WEB) and not mock.cloud.find("VmNic", "vmInstanceUuid", WEB)
    assert not mock.cloud.find("Volume", "vmInstanceUuid", WEB)


async def destroyed_nics(mock):
    mac = nic_of(mock)["mac"]
    await take(mock, [DESTROY])
    nic = nic_of(mock)
    assert (nic["mac"], nic["deviceId"], nic["l3NetworkUuid"]) == (mac, 0, PRIVATE)
    assert not {"ip", "netmask", "gateway"} & nic.keys()


async def data_volumes_of(mock, uuid=DB):
    return [volume for volume in mock.cloud.store.rows("Volume") if volume["name"].startswith("db-data-1")]


async def data_volumes_leave(mock):
    await take(mock, [act("DestroyVmInstance", DB)])
    (volume,) = await data_volumes_of(mock)
    assert "vmInstanceUuid" not in volume and "deviceId" not in volume and volume["status"] == "Ready"


async def data_volumes_are_deleted(mock):
    await take(mock, [configured("vm", "dataVolume.deleteOnVmDestroy", "true"), act("DestroyVmInstance", DB)])
    (volume,) = await data_volumes_of(mock)
    assert volume["status"] == "Deleted"


async def data_volumes_stay_away(mock):
    await take(mock, [act("DestroyVmInstance", DB), act("RecoverVmInstance", DB)])
    (volume,) = await data_volumes_of(mock)
    assert "vmInstanceUuid" not in volume


async def addresses_come_back_with_the_start(mock):
    await take(mock, [DESTROY, RECOVER])
    assert "ip" not in nic_of(mock)
    await take(mock, [START])
    assert nic_of(mock)["ip"] and nic_of(mock)["netmask"] == "255.255.255.0" and nic_of(mock)["gateway"] == "192.168.100.1"


async def address_of_the_tag(mock):
    await take(mock, [DESTROY, RECOVER, tagged(WEB, f"staticIp::{PRIVATE}::192.168.100.77"), START])
    assert nic_of(mock)["ip"] == "192.168.100.77"


async def gc_of_a_destroyed_one(mock):
    await take(mock, [act("DestroyVmInstance", BATCH)])
    assert [job["name"] for job in mock.cloud.store.rows("GarbageCollector") if BATCH in job["name"]] == [f"gc-vm-{BATCH}-on-host-{HOST4}"]
    assert mock.cloud.look("VmInstance", BATCH)["state"] == "Destroyed"


async def volumes_of_a_new_one(mock):
    await take(mock, [("CreateVmInstance", VM | {"dataDiskOfferingUuids": [DISK, DISK]})])
    root, first, second = sorted(mock.cloud.find("Volume", "vmInstanceUuid", NEW), key=lambda volume: volume["deviceId"])
    assert (root["name"], root["description"], root["rootImageUuid"]) == ("ROOT-for-new", f"Root volume for VM[uuid:{NEW}]", CENTOS)
    image = mock.cloud.look("Image", CENTOS)
    assert (root["size"], root["actualSize"], root["status"], root["deviceId"]) == (image["size"], image["actualSize"], "Ready", 0)
    assert "diskOfferingUuid" not in root and root["format"] == "qcow2"
    for volume, number in ((first, 1), (second, 2)):
        assert (volume["name"], volume["description"], volume["diskOfferingUuid"]) == ("DATA-for-new", f"DataVolume-{NEW}", DISK)
        assert (volume["deviceId"], volume["actualSize"], volume["status"]) == (number, 0, "Ready") and "rootImageUuid" not in volume


async def volume_of_an_iso(mock):
    await take(mock, [("CreateVmInstance", ISO_VM)])
    (root,) = mock.cloud.find("Volume", "vmInstanceUuid", NEW)
    assert (root["size"], root["rootImageUuid"], root["format"]) == (20 * GIB, ISO, "qcow2") and "diskOfferingUuid" not in root
    (tag,) = mock.cloud.find("SystemTag", "resourceUuid", NEW)
    assert (tag["tag"], tag["inherent"], mock.cloud.look("VmInstance", NEW)["imageUuid"]) == (f"iso::{ISO}::0", True, ISO)


async def data_volumes_where_the_tag_says(mock):
    await take(mock, [made(f"primaryStorageUuidForDataVolume::{LOCAL}", dataDiskOfferingUuids=[DISK], clusterUuid=C2)])
    assert [v["primaryStorageUuid"] for v in mock.cloud.find("Volume", "vmInstanceUuid", NEW) if v["type"] == "Data"] == [LOCAL]


async def nics_in_order(mock):
    await take(mock, [("CreateVmInstance", VM | {"l3NetworkUuids": [PUBLIC, PRIVATE], "defaultL3NetworkUuid": PRIVATE})])
    nics = sorted(mock.cloud.find("VmNic", "vmInstanceUuid", NEW), key=lambda nic: nic["deviceId"])
    assert [(nic["deviceId"], nic["l3NetworkUuid"]) for nic in nics] == [(0, PUBLIC), (1, PRIVATE)]
    assert all(nic["ip"] and nic["netmask"] and nic["gateway"] and nic["mac"].startswith("fa:") for nic in nics)


async def one_cached_image(mock):
    await take(mock, [CREATE])
    assert len([cache for cache in mock.cloud.find("ImageCache", "imageUuid", CENTOS) if cache["primaryStorageUuid"] == NFS]) == 1


async def iso_becomes_the_first(mock):
    await take(mock, [tagged(WEB, f"iso::{'7' * 32}::0", f"iso::{ISO}::1")])
    body = {"updateVmInstance": {}, "systemTags": [f"iso::{ISO}::0"]}
    status, _ = await outcome(mock, "PUT", f"/vm-instances/{WEB}/actions", body)
    assert status == 200
    isos = [tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", WEB) if tag["tag"].startswith("iso::")]
    assert sorted(isos) == sorted([f"iso::{ISO}::0", f"iso::{'7' * 32}::1"])


async def first_volumes_on_local_storage(mock):
    """The new machine is on the local storage of host-3, which no other machine may follow."""
    mock.cloud.change("Host", HOST4, status="Connected")
    await take(mock, [("CreateVmInstance", VM | {"hostUuid": HOST3, "primaryStorageUuidForRootVolume": LOCAL})])


async def local_volume_moves(mock):
    await take(mock, [first_volumes_on_local_storage, configured("localStoragePrimaryStorage", "liveMigrationWithStorage.allow", "true")])
    vm = (await mock.call("MigrateVm", vmInstanceUuid=NEW, hostUuid=HOST4))["inventory"]
    assert vm["hostUuid"] == HOST4 == mock.cloud.look("LocalStorageResourceRef", vm["rootVolumeUuid"])["hostUuid"]


async def deleted_local_host(mock):
    await take(mock, [first_volumes_on_local_storage, ("DeleteHost", {"uuid": HOST3})])
    assert not mock.cloud.look("VmInstance", NEW)


async def without_local_host(mock):
    """Nobody knows on which host the root volume is."""
    mock.cloud.remove("LocalStorageResourceRef", mock.cloud.get("VmInstance", NEW)["rootVolumeUuid"])


async def local_data_volume(mock):
    await take(mock, [first_volumes_on_local_storage])
    given = {"name": "d", "diskOfferingUuid": DISK, "primaryStorageUuid": LOCAL, "resourceUuid": DATA}
    status, _ = await outcome(mock, "POST", "/volumes/data", {"params": given, "systemTags": [f"localStorage::hostUuid::{HOST3}"]})
    assert status == 200


async def deleted_local_volume(mock):
    await take(mock, [local_data_volume, ("DeleteHost", {"uuid": HOST3})])
    assert not mock.cloud.look("Volume", DATA)


async def candidates_once(mock):
    """Data disks count once for each offering: half of two of them fits."""
    free = 10 * GIB + 100 * GIB + GIB
    for ps in (NFS, LOCAL):
        row = mock.cloud.catalogue.resources["PrimaryStorage"]
        item = mock.cloud.look("PrimaryStorage", ps)
        mock.cloud.change("PrimaryStorage", ps, attachedClusterUuids=[C1] if ps == NFS else [])
        used = mock.cloud.look("PrimaryStorage", ps)["totalCapacity"] - mock.cloud.queries.value(row, item, "availableCapacity")
        mock.cloud.change("PrimaryStorage", ps, availableCapacity=used + free)
    given = {"instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE]}
    body = await mock.call("GetCandidateZonesClustersHostsForCreatingVm", **given, dataDiskOfferingUuids=[BIG_DISK, BIG_DISK])
    assert [host["name"] for host in body["hosts"]] == ["host-1", "host-2"] or {host["name"] for host in body["hosts"]} == {"host-1", "host-2"}


async def storages_for_a_new_one(mock):
    given = {"imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "dataDiskOfferingUuids": [DISK], "clusterUuid": C1, "zoneUuid": NOBODY}
    body = await mock.call("GetCandidatePrimaryStoragesForCreatingVm", **given)
    assert {ps["name"] for ps in body["rootVolumePrimaryStorages"]} == {"ps-nfs", "ps-local"}
    assert {ps["name"] for ps in body["dataVolumePrimaryStorages"][DISK]} == {"ps-nfs", "ps-local"}
    await take(mock, [every_storage(state="Disabled")])
    body = await mock.call("GetCandidatePrimaryStoragesForCreatingVm", **given)
    assert body["dataVolumePrimaryStorages"] == {} and body["rootVolumePrimaryStorages"] == []


RANGE = "d7c9243a5df05276879b40ab2cb37b97"  # of the network l3-private
DETACH_L2 = ("DetachL2NetworkFromCluster", {"l2NetworkUuid": named("l2-private"), "clusterUuid": C1})


async def reimaged(mock):
    await take(mock, [STOP])
    root = dict(mock.cloud.look("Volume", mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]))
    await take(mock, [act("ReimageVmInstance")])
    (snapshot,) = mock.cloud.find("VolumeSnapshot", "volumeUuid", root["uuid"])
    assert (snapshot["name"], snapshot["description"]) == ("reimage-vm-point", f"save snapshot for reimage vm [uuid:{WEB}]")
    assert (snapshot["size"], snapshot["primaryStorageInstallPath"], snapshot["status"]) == (root["size"], root["installPath"], "Ready")
    assert "type" not in snapshot and not snapshot["latest"]
    now = mock.cloud.look("Volume", root["uuid"])
    assert now["installPath"] != root["installPath"] and (now["size"], now["actualSize"]) == (root["size"], root["actualSize"])


async def snapshot_after_a_reimage(mock):
    await take(mock, [STOP, act("ReimageVmInstance")])
    root = mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]
    await take(mock, [("CreateVolumeSnapshot", {"volumeUuid": root, "name": "next"})])
    assert sorted(tree["current"] for tree in mock.cloud.find("VolumeSnapshotTree", "volumeUuid", root)) == [False, True]


async def space_after_a_reimage(mock):
    await take(mock, [STOP])
    before = await mock.query("primary-storage", f"uuid={NFS}")
    await take(mock, [act("ReimageVmInstance")])
    after = await mock.query("primary-storage", f"uuid={NFS}")
    assert after[0]["availableCapacity"] == before[0]["availableCapacity"]


async def networks_of_an_image(mock):
    await take(mock, [changed("L3Network", PUBLIC, state="Disabled")])
    body = await mock.call("GetInterdependentL3NetworksImages", zoneUuid=ZONE, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE])
    assert {item["name"] for item in body["inventories"]} == {"l3-public", "l3-private"}


async def images_of_networks(mock):
    await take(mock, [changed("Image", CENTOS, state="Disabled")])
    body = await mock.call("GetInterdependentL3NetworksImages", zoneUuid=ZONE, l3NetworkUuids=[PRIVATE, PUBLIC])
    assert {"image-centos7", "image-debian9"} <= {item["name"] for item in body["inventories"]}


async def only_storage_that_fits(mock):
    await take(mock, [changed("PrimaryStorage", NFS, type="Ceph"), changed("PrimaryStorage", LOCAL, attachedClusterUuids=[])])
    for params in ({"imageUuid": CENTOS}, {"l3NetworkUuids": [PRIVATE]}):
        assert (await mock.call("GetInterdependentL3NetworksImages", zoneUuid=ZONE, **params))["inventories"] == []
    await take(mock, [changed("BackupStorage", BS, type="Ceph")])
    for params in ({"imageUuid": CENTOS}, {"l3NetworkUuids": [PRIVATE]}):
        assert (await mock.call("GetInterdependentL3NetworksImages", zoneUuid=ZONE, **params))["inventories"]


async def gone_for_good(mock):
    await take(mock, [with_services, configured("vm", "deletionPolicy", "Direct"), DESTROY])
    assert "vmNicUuid" not in mock.cloud.look(*EIP) and mock.cloud.look(*LISTENER)["vmNicRefs"] == []
    assert not mock.cloud.look("VmNicSecurityGroupRef", "d" * 32)


async def lose_host_1(mock):
    await mock.incident({"host-down": "host-1"})


async def unknown_on_a_lost_host(mock):
    await lose_host_1(mock)
    assert mock.cloud.look("VmInstance", WEB)["state"] == "Unknown"
    assert [item for item in mock.cloud.store.rows("Notification") if item.get("resourceUuid") == WEB]


async def known_again(mock):
    incident = await mock.incident({"host-down": "host-1"})
    await mock.end_incident(incident["id"])
    assert mock.cloud.look("VmInstance", WEB)["state"] == "Running" and mock.cloud.look("VmInstance", WEB)["hostUuid"] == HOST1


async def one_after_the_other(mock):
    mock.rule(api="StopVmInstance", delay=5)
    _, first = await mock.request("PUT", f"/vm-instances/{WEB}/actions", {"stopVmInstance": {}})
    _, second = await mock.request("PUT", f"/vm-instances/{WEB}/actions", {"rebootVmInstance": {}})
    await mock.advance(20)
    status, answer = await mock.request("GET", "/api-jobs/" + second["location"][-32:])
    assert (status, answer["error"]["code"]) == (503, "VM.1003"), "it finds the machine as the first call has left it"


async def quota_usage(mock):
    await take(mock, [as_ann("vm.num", 1), CREATE, act("StopVmInstance", NEW), ("CreateVmInstance", VM | {"resourceUuid": DATA})])
    with pytest.raises(RuntimeError, match=r"ID\.1003"):
        await take(mock, [act("StartVmInstance", NEW)])


async def owner_of_the_parts(mock):
    await take(mock, [as_ann("vm.num", 9), CREATE])
    owner = mock.cloud.look("VmInstance", NEW)["owner"]
    assert {mock.cloud.find(type, "vmInstanceUuid", NEW)[0]["owner"] for type in ("Volume", "VmNic")} == {owner}


async def all_but_what_is_reserved(mock):
    (host,) = await mock.query("hosts", f"uuid={HOST1}")
    used = host["totalMemoryCapacity"] - host["availableMemoryCapacity"]
    mock.cloud.change("Host", HOST1, totalMemoryCapacity=used + GIB)


async def snapshots_of_a_destroyed_one(mock):
    root = mock.cloud.look("VmInstance", WEB)["rootVolumeUuid"]
    await take(mock, [("CreateVolumeSnapshot", {"volumeUuid": root, "name": "s"}), DESTROY])
    assert [snapshot["name"] for snapshot in mock.cloud.find("VolumeSnapshot", "volumeUuid", root)] == ["s"]


async def date_of_the_destruction(mock):
    await mock.advance(100)
    await take(mock, [DESTROY])
    assert mock.cloud.look("VmInstance", WEB)["lastOpDate"] == mock.cloud.stamp()


async def no_zone(mock):
    for zone in [*mock.cloud.store.rows("Zone")]:
        mock.cloud.remove("Zone", zone["uuid"])


async def destroyed_ones_are_rows(mock):
    (vm,) = await mock.query("vm-instances", f"uuid={OLD}")
    assert vm["state"] == "Destroyed" and "ip" not in vm["vmNics"][0] and "mac" in vm["vmNics"][0]


async def root_volume_of_a_destroyed_one(mock):
    await take(mock, [act("DestroyVmInstance", DB)])
    (vm,) = await mock.query("vm-instances", f"uuid={DB}")
    assert [volume["type"] for volume in vm["allVolumes"]] == ["Root"]


async def other_versions(mock, hosts=(HOST2, HOST3)):
    for host in hosts:
        for tag in mock.cloud.find("SystemTag", "resourceUuid", host):
            if tag["tag"].startswith("os::version::"):
                mock.cloud.change("SystemTag", tag["uuid"], tag="os::version::7.2")


async def other_version_of_host_2(mock):
    await other_versions(mock, [HOST2])


async def starting_clusters(mock):
    body = await mock.call("GetVmStartingCandidateClustersHosts", uuid=CI)
    assert sorted(cluster["name"] for cluster in body["clusters"]) == ["cluster-1", "cluster-2"]


async def destroyed_twice(mock):
    before = dict(mock.cloud.look("VmInstance", OLD))
    await take(mock, [act("DestroyVmInstance", OLD)])
    assert mock.cloud.look("VmInstance", OLD) == before


async def starts_again_above_its_quota(mock):
    await take(mock, [as_ann("vm.totalNum", 0, owns=CI)])
    assert (await mock.call("StartVmInstance", uuid=CI))["inventory"]["state"] == "Running"


CANDIDATES = {"instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE]}


def facts(api, *rows):
    """Return facts of one API: (text, case) rows."""
    return [Fact(api, text, case) for text, case in rows]


def V(code, params, details="*", *steps):
    """A refusal by parameters, after some steps."""
    return Refused(after(*steps, **params), code, details)


def create(code, details="*", *steps, **more):
    return Refused(after(*steps, **VM | more), code, details)


def no_host(text, *steps, **more):
    """A creation for which no host is left: the text of the filter."""
    return create("SYS.1006 <- HOST_ALLOCATION.1000", OUTER % text, *steps, **more)


def wrong_state(api, outer, uuid, was, allowed, *steps, message=None, **params):
    """A call that the state of a machine does not allow."""
    _, given = act(api, uuid, **params)
    return Refused(after(*steps, **given), f"{outer} <- VM.1010", not_in_state(api, was, allowed, message))


FACTS = (
    *facts("CreateVmInstance",
        ("clears zone and cluster where a host is given", leaves(("CreateVmInstance", VM | {"hostUuid": HOST3, "clusterUuid": C1, "zoneUuid": ZONE}), hostUuid=HOST3, clusterUuid=C2)),
        ("clears the zone where a cluster is given", leaves(first_free_zone, ("CreateVmInstance", VM | {"clusterUuid": C2, "zoneUuid": "2" * 32}), clusterUuid=C2, zoneUuid=ZONE)),
        ("is a UserVm where no type is given", leaves(CREATE, type="UserVm")),
        ("takes the only network as the default one", leaves(CREATE, defaultL3NetworkUuid=PRIVATE)),
        ("starts at once where no strategy is given", leaves(CREATE, state="Running")),
        ("is in the zone that is given", leaves(("CreateVmInstance", VM | {"zoneUuid": ZONE, "strategy": "JustCreate"}), zoneUuid=ZONE)),
        ("is in the zone of the first network otherwise", leaves(first_free_zone, ("CreateVmInstance", VM | {"l3NetworkUuids": ["4" * 32, PRIVATE], "defaultL3NetworkUuid": PRIVATE, "strategy": "JustCreate"}), zoneUuid="2" * 32)),
        ("has the size and the strategy of the offering", leaves(CREATE, cpuNum=1, memorySize=GIB, cpuSpeed=0, allocatorStrategy="LeastVmPreferredHostAllocatorStrategy")),
        ("has the platform of the image", leaves(("CreateVmInstance", VM | {"imageUuid": named("image-windows2016")}), platform="Windows")),
        ("ignores the root disk offering with a template", leaves(("CreateVmInstance", VM | {"rootDiskOfferingUuid": DISK}), of=("Volume", "name", "ROOT-for-new"), size=10 * GIB)),
        ("places data volumes where the tag says", Shown(data_volumes_where_the_tag_says)),

        ("refuses two hostnames", Refused(after(**VM, systemTags=["hostname::a", "hostname::b"]), "SYS.1007", "only one hostname system tag is allowed, but 2 got")),
        ("refuses a hostname that is no domain name", Refused(after(**VM, systemTags=["hostname::a_b"]), "SYS.1007", "hostname[a_b] specified in system tag[hostname::a_b] is not a valid domain name")),
        ("refuses a hostname that another machine has on the given default network", Refused(after(tagged(WEB, "hostname::a"), **VM, defaultL3NetworkUuid=PRIVATE, systemTags=["hostname::a"]), "SYS.1007", f"conflict hostname in system tag[hostname::a]; there has been a VM[uuid:{WEB}] having hostname[a] on L3 network[uuid:{PRIVATE}]")),
        ("does not see a conflict of hostnames without a default network", leaves(tagged(WEB, "hostname::a"), made("hostname::a"), state="Running")),
        ("refuses a static address on an unknown network", Refused(after(**VM, systemTags=[f"staticIp::{NOBODY}::10.0.0.1"]), "SYS.1007", f"L3 network[uuid:{NOBODY}] not found. Please correct your system tag[staticIp::{NOBODY}::10.0.0.1] of static IP")),
        ("refuses a static address that is none", Refused(after(**VM, systemTags=[f"staticIp::{PRIVATE}::x"]), "SYS.1007", f"x is not a valid IPv4 address. Please correct your system tag[staticIp::{PRIVATE}::x] of static IP")),
        ("refuses a static address that is taken", Refused(after(**VM, systemTags=[f"staticIp::{PRIVATE}::192.168.100.2"]), "SYS.1006", f"IP[192.168.100.2] is not available on the L3 network[uuid:{PRIVATE}]")),
        ("refuses a static address outside of the ranges, also of another network", Refused(after(**VM, systemTags=[f"staticIp::{PUBLIC}::9.9.9.9"]), "SYS.1006", f"IP[9.9.9.9] is not available on the L3 network[uuid:{PUBLIC}]")),
        ("refuses two userdata", Refused(after(**VM, systemTags=["userdata::a", "userdata::b"]), "SYS.1007", "Shouldn't be more than one userdata systemTag for one vm.")),
        ("refuses a disabled offering", create("SYS.1006", f"instance offering[uuid:{SMALL}] is Disabled, can't create vm from it", changed("InstanceOffering", SMALL, state="Disabled"))),
        ("refuses an offering of another type", create("SYS.1006", f"instance offering[uuid:{SMALL}, type:VirtualRouter] is not UserVm type, can't create vm from it", changed("InstanceOffering", SMALL, type="VirtualRouter"))),
        ("refuses a MAC twice", Refused(after(**VM | {"l3NetworkUuids": [PRIVATE, PUBLIC], "defaultL3NetworkUuid": PRIVATE}, systemTags=[f"customMac::{PRIVATE}::FA:00:00:00:00:01", f"customMac::{PUBLIC}::fa:00:00:00:00:01"]), "SYS.1006", "Not allowed same mac [fa:00:00:00:00:01]")),
        ("refuses a disabled image", create("SYS.1006", f"image[uuid:{CENTOS}] is Disabled, can't create vm from it", changed("Image", CENTOS, state="Disabled"))),
        ("does not look at the status of the image", leaves(changed("Image", CENTOS, status="Downloading"), CREATE, state="Running")),
        ("refuses an image of data", create("SYS.1007", f"image[uuid:{CENTOS}] is of mediaType: DataVolumeTemplate, only RootVolumeTemplate and ISO can be used to create vm", changed("Image", CENTOS, mediaType="DataVolumeTemplate"))),
        ("refuses an ISO without a root disk offering", create("SYS.1007", "rootDiskOfferingUuid cannot be null when image mediaType is ISO", imageUuid=ISO)),
        ("refuses a system image", create("SYS.1007", f"image[uuid:{CENTOS}] is system image, can't be used to create user vm", changed("Image", CENTOS, system=True))),
        ("refuses a disabled disk offering of data", create("SYS.1006", f"disk offerings[uuids:[{DISK}]] are Disabled, can not create vm from it", changed("DiskOffering", DISK, state="Disabled"), dataDiskOfferingUuids=[DISK])),
        ("refuses a disabled disk offering of the root, also with a template", create("SYS.1006", f"disk offerings[uuids:[{DISK}]] are Disabled, can not create vm from it", changed("DiskOffering", DISK, state="Disabled"), rootDiskOfferingUuid=DISK)),
        ("refuses a network twice", create("SYS.1006", f"Can't add same uuid in the l3Network,uuid: {PRIVATE}", l3NetworkUuids=[PRIVATE, PRIVATE], defaultL3NetworkUuid=PRIVATE)),
        ("refuses a disabled network", create("SYS.1006", f"l3Network[uuid:{PRIVATE}] is Disabled, can not create vm on it", changed("L3Network", PRIVATE, state="Disabled"))),
        ("refuses a system network", create("SYS.1006", f"l3Network[uuid:{PRIVATE}] is system network, can not create user vm on it", changed("L3Network", PRIVATE, system=True))),
        ("refuses a disabled zone", create("SYS.1006", f"zone[uuid:{ZONE}] is specified but it's Disabled, can not create vm from it", changed("Zone", ZONE, state="Disabled"), zoneUuid=ZONE)),
        ("refuses a disabled cluster", create("SYS.1006", f"cluster[uuid:{C1}] is specified but it's Disabled, can not create vm from it", changed("Cluster", C1, state="Disabled"), clusterUuid=C1)),
        ("refuses a disabled host", create("SYS.1006", f"host[uuid:{HOST1}] is specified but it's Disabled, can not create vm from it", changed("Host", HOST1, state="Disabled"), hostUuid=HOST1)),
        ("refuses a host that is not connected", create("SYS.1006", f"host[uuid:{HOST4}] is specified but it's connection status is Disconnected, can not create vm from it", hostUuid=HOST4)),
        ("takes a host in maintenance, and fails in the job", create("SYS.1006 <- HOST_ALLOCATION.1000", "*no Enabled hosts found in the [1] candidate hosts*", changed("Host", HOST1, state="Maintenance"), hostUuid=HOST1)),
        ("does not look at a disabled zone or cluster beside a host", leaves(changed("Zone", ZONE, state="Disabled"), ("CreateVmInstance", VM | {"hostUuid": HOST1, "zoneUuid": ZONE}), hostUuid=HOST1)),
        ("does not check the form of a MAC, nor whether a nic has it", leaves(made(f"customMac::{PRIVATE}::fa:08:d6:af:57:00"), state="Running")),
        ("refuses several networks without a default one", create("SYS.1007", "there are more than one L3 network specified in l3NetworkUuids, but defaultL3NetworkUuid is null", l3NetworkUuids=[PRIVATE, PUBLIC])),
        ("refuses a default network that is not among them", create("SYS.1007", f"defaultL3NetworkUuid[uuid:{PUBLIC}] is not in l3NetworkUuids[{PRIVATE}]", defaultL3NetworkUuid=PUBLIC)),
        *[(f"checks the quota {quota}", Refused(as_ann(quota, 0, **VM, dataDiskOfferingUuids=[DISK]), "ID.1003", f"quota exceeding. The account[uuid: *] exceeds a quota[name: {quota}, value: 0]. Please contact the administrator."))
          for quota in ("vm.totalNum", "vm.num", "vm.cpuNum", "vm.memorySize", "volume.data.num", "volume.capacity")],
        ("has no quotas if it is only created", answers(as_ann("vm.num", 0), JUST_CREATE, state="Created")),
        ("does not refuse the type ApplianceVm", leaves(("CreateVmInstance", VM | {"type": "ApplianceVm"}), type="ApplianceVm")),

        ("fails if a network is gone meanwhile, and stays", leaves(JUST_CREATE, ("DeleteL3Network", {"uuid": PRIVATE}), failing(act("StartVmInstance", NEW), "SYS.1006: Unable to find L3Network"), state="Created")),
        ("fails if no copy of an image with several is within reach", create("SYS.1006 <- SYS.1006", f"cannot find the image[uuid:{CENTOS}] in any connected backup storage attached to the zone[uuid:{ZONE}]. check below:*", second_storage)),
        ("takes the only copy of an image whatever its status", leaves(changed("BackupStorage", BS, attachedZoneUuids=[ZONE]), CREATE, state="Running")),
        ("fails without a host", no_host("no host having cpu[1], memory[1073741824 bytes] found", every_host(totalMemoryCapacity=0))),
        ("fails with an image that is deleted", create("SYS.1006 <- SYS.1006", f"the image[uuid:{CENTOS}, name:image-centos7] is deleted on all backup storage", deleted_image, empty_cache)),
        ("takes a deleted image that all primary storage has in its cache", leaves(deleted_image, full_cache, CREATE, state="Running")),
        ("fails without primary storage", create("SYS.1006 <- SYS.1006", f"required primary storage[uuid:{LOCAL}] cannot satisfy conditions[state:Enabled, status:Connected, size:*]", primaryStorageUuidForRootVolume=LOCAL, clusterUuid=C1)),
        ("fails without an address", create("SYS.1006 <- L3.1000", f"IP allocator strategy[RandomIpAllocatorStrategy] failed, because no ip is available in this l3Network[name:l3-full, uuid:{FULL}]", full_network, l3NetworkUuids=[FULL])),
        ("fails without a MAC after five tries", Uncovered("the MACs of 32 random bits do not run out")),

        ("copies the tags of the offering and of the image", tags(tagged(SMALL, "primaryStorage::allocator::uuid::" + NFS, type="InstanceOfferingVO"), tagged(CENTOS, "qemuga", type="ImageVO"), CREATE, are=["primaryStorage::allocator::uuid::" + NFS, "qemuga"])),
        ("takes processors and memory from its host", capacity(("CreateVmInstance", VM | {"hostUuid": HOST1}), cpus=1, memory=GIB)),
        ("is Running on its host, which is its last one too", leaves(("CreateVmInstance", VM | {"hostUuid": HOST1}), state="Running", hostUuid=HOST1, lastHostUuid=HOST1, clusterUuid=C1, zoneUuid=ZONE, hypervisorType="KVM")),
        ("makes the root volume and the data volumes", Shown(volumes_of_a_new_one)),
        ("caches an image once", Shown(one_cached_image)),
        ("makes an empty root volume for an ISO, and tags the ISO", Shown(volume_of_an_iso)),
        ("makes nics in the order of the networks", Shown(nics_in_order)),
        ("takes the address of a static tag", leaves(made(f"staticIp::{PRIVATE}::192.168.100.99"), of=("VmNic", "vmInstanceUuid", NEW), ip="192.168.100.99")),
        ("takes the MAC of a tag in lower case", leaves(made(f"customMac::{PRIVATE}::FA:00:00:00:00:09"), of=("VmNic", "vmInstanceUuid", NEW), mac="fa:00:00:00:00:09")),
        ("deletes the tag of a MAC", tags(made(f"customMac::{PRIVATE}::fa:00:00:00:00:09"), are=[])),
        ("leaves nothing if it fails, and the uuid is free", Shown(uuid_is_free_again)),
        ("leaves no nic, volume or tag if it fails", Shown(failing_leaves_nothing)),
        ("that is only created stays Created, without parts", leaves(JUST_CREATE, state="Created", hostUuid=ABSENT, hypervisorType=ABSENT, rootVolumeUuid=ABSENT, zoneUuid=ZONE)),
        ("that is only created keeps host and takes no capacity", capacity(("CreateVmInstance", VM | {"hostUuid": HOST1, "strategy": "JustCreate"}))),
        ("that is only created keeps the given host", leaves(("CreateVmInstance", VM | {"hostUuid": HOST1, "strategy": "JustCreate"}), hostUuid=HOST1)),
        ("that is only created answers no nics and no volumes", answers(JUST_CREATE, vmNics=[], allVolumes=[], state="Created")),
        ("answers the machine after the start", answers(CREATE, state="Running", uuid=NEW)),
    ),
    *facts("StartVmInstance",
        ("takes the host rather than the cluster", leaves(act("StartVmInstance", CI, hostUuid=HOST3, clusterUuid=C1), of=("VmInstance", CI), hostUuid=HOST3, clusterUuid=C2)),
        ("goes to another cluster that is given", leaves(act("StartVmInstance", CI, clusterUuid=C2), of=("VmInstance", CI), clusterUuid=C2)),
        ("goes to any host that fits, not only of its cluster", leaves(changed("Host", HOST1, state="Disabled"), changed("Host", HOST2, state="Disabled"), act("StartVmInstance", CI, clusterUuid=C1), of=("VmInstance", CI), hostUuid=HOST3)),
        ("checks the quotas of what runs", Refused(as_ann("vm.num", 0, uuid=CI, owns=CI), "ID.1003", f"{EXCESS}[name: vm.num, value: 0], Current used:*, Request:1. Please contact the administrator.")),
        ("checks vm.totalNum for one without a last host", Refused(as_ann("vm.totalNum", 0, JUST_CREATE, uuid=NEW, owns=NEW), "ID.1003", f"{EXCESS}[name: vm.totalNum, value: 0], Current used:*, Request:1. Please contact the administrator.")),
        ("does not check vm.totalNum for one with a last host", Shown(starts_again_above_its_quota)),
        ("refuses a machine that runs", wrong_state("StartVmInstance", "VM.1001", WEB, "Running", "Created, Stopped")),
        ("refuses more than 3 ISOs", Refused(after(tagged(CI, *(f"iso::{str(n) * 32}::{n}" for n in range(4))), uuid=CI), "SYS.1006", f"VM[uuid:{CI}] can only attach up to 3 ISOs，Please detach the extra iso")),
        ("refuses an ISO twice", Refused(after(tagged(CI, f"iso::{ISO}::0", f"iso::{ISO}::1"), uuid=CI), "SYS.1006", f"VM[uuid:{CI}] attached duplicate ios[uuid:{ISO}]，Please detach the extra iso")),
        ("refuses a device twice", Refused(after(tagged(CI, f"iso::{'1' * 32}::0", f"iso::{ISO}::0"), uuid=CI), "SYS.1006", f"VM[uuid:{CI}] attached ios[*] deviceId repeat，please detach the iso[*], and then re-attach iso[*]")),
        ("refuses storage in maintenance", Refused(after(changed("PrimaryStorage", NFS, state="Maintenance"), uuid=CI), "VM.1001 <- SYS.1006", f"VmInstanceStartExtensionPoint[org.zstack.storage.primary.PrimaryStorageManagerImpl] refuses to start vm[uuid:{CI}] because org.zstack.header.errorcode.OperationFailureException: *volume stored location primary storage is in a state of maintenance*")),
        ("refuses a machine without a nic", Refused(after(lambda mock: take(mock, [("DetachL3NetworkFromVm", {"vmNicUuid": nic_of(mock, CI)["uuid"]})]), uuid=CI), "SYS.1006", f"unable to start the vm[uuid:{CI}]. It doesn't have any nic, please attach a nic and try again")),
        ("fails without a host", Refused(after(every_host(state="Disabled"), uuid=CI), "VM.1001 <- HOST_ALLOCATION.1000", OUTER % "no Enabled hosts found in the [4] candidate hosts")),
        ("fails if an ISO is on no backup storage of the zone", Refused(after(tagged(CI, f"iso::{ISO}::0"), changed("BackupStorage", BS, attachedZoneUuids=[]), uuid=CI), "VM.1001 <- SYS.1006", f"no backup storage attached to the zone[uuid:{ZONE}] contains the ISO[uuid:{ISO}]")),
        ("fails without an address", Refused(after(full_network, uuid=CI), "VM.1001 <- L3.1000", "IP allocator strategy*")),
        ("has no nics on networks that are gone", gone(("AttachL3NetworkToVm", {"vmInstanceUuid": CI, "l3NetworkUuid": PUBLIC}), ("DeleteL3Network", {"uuid": PUBLIC}), act("StartVmInstance", CI), of=("VmNic", "l3NetworkUuid", PUBLIC))),
        ("fails as the host does", faulty("StartVmInstance", "HOST.1005", "VM.1001", CI)),
        ("runs on the new host, and keeps its last one", leaves(act("StartVmInstance", CI, hostUuid=HOST2), of=("VmInstance", CI), state="Running", hostUuid=HOST2, lastHostUuid=HOST1, clusterUuid=C1, zoneUuid=ZONE)),
        ("gives addresses to nics without one", Shown(addresses_come_back_with_the_start)),
        ("gives the address of a static tag", Shown(address_of_the_tag)),
        ("takes from its host", capacity(act("StartVmInstance", CI, hostUuid=HOST2), cpus=2, memory=4 * GIB, host=HOST2)),
        ("applies its EIPs again", served(STOP, START)),
        ("applies its port forwarding again", served(STOP, START, of=RULE)),
        ("makes its nics Active in listeners", balanced(STOP, START, is_=["Active"])),
        ("caches ISOs on the primary storage", Uncovered("no ISO takes space in a cache, see the documentation of what is not simulated")),
        ("deletes the tags of a boot order for once", tags(tagged(CI, "bootOrder::CdRom", "cdromBootOnce::true"), act("StartVmInstance", CI), uuid=CI, are=[])),
        ("that is the first one makes nics and volumes", leaves(JUST_CREATE, act("StartVmInstance", NEW), state="Running")),
        ("that is the first one and fails removes the machine", Shown(never_started_is_removed)),
        ("that fails leaves the state and the hosts", Shown(failed_start)),
        ("answers the machine after", answers(act("StartVmInstance", CI), state="Running", uuid=CI)),
    ),
    *facts("StopVmInstance",
        ("refuses a destroyed machine", wrong_state("StopVmInstance", "VM.1002", OLD, "Destroyed", "Running, Stopped, Unknown, Paused")),
        ("succeeds for a stopped one and changes nothing", leaves(act("StopVmInstance", CI, type="cold"), of=("VmInstance", CI), state="Stopped", lastHostUuid=HOST1)),
        ("moves the host to the last one", leaves(STOP, of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT, lastHostUuid=HOST1, clusterUuid=C1, zoneUuid=ZONE)),
        ("gives back what it took", capacity(STOP, cpus=-1, memory=-GIB)),
        ("fails if its host is away, and stays Unknown", Refused(after(uuid=BATCH), "VM.1002 <- HOST.1011 <- HOST.1010", f"host[uuid:{HOST4}, name:host-4] is in status[Disconnected], cannot perform required operation")),
        ("fails if its host was removed while it was paused", V("VM.1002 <- SYS.1000", {"uuid": WEB}, "resourceUuid cannot be null", *LOST)),
        ("fails as the host does", faulty("StopVmInstance", "HOST.1006", "VM.1002")),
        ("leaves EIPs", served(STOP)),
        ("leaves port forwarding", served(STOP, of=RULE)),
        ("makes its nics Inactive in listeners", balanced(STOP, is_=["Inactive"])),
        ("keeps the addresses", leaves(STOP, of=("VmNic", "vmInstanceUuid", WEB), ip="192.168.100.2")),
        ("keeps the data volumes", leaves(act("StopVmInstance", DB), of=("Volume", "name", "db-data-1"), vmInstanceUuid=DB)),
        ("stops a paused one", leaves(PAUSE, STOP, of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT)),
        ("answers the machine after", answers(STOP, state="Stopped")),
    ),
    *facts("RebootVmInstance",
        ("refuses a stopped machine", wrong_state("RebootVmInstance", "VM.1003", CI, "Stopped", "Running")),
        ("refuses broken ISOs as a start", Refused(after(tagged(WEB, f"iso::{ISO}::0", f"iso::{ISO}::1"), uuid=WEB), "SYS.1006", "*attached duplicate ios*")),
        ("fails if an ISO is on no backup storage of the zone", Refused(after(tagged(WEB, f"iso::{ISO}::0"), changed("BackupStorage", BS, attachedZoneUuids=[]), uuid=WEB), "VM.1003 <- SYS.1006", "no backup storage attached*")),
        ("needs a host that is not in maintenance", V("VM.1003 <- SYS.1006", {"uuid": WEB}, f"host[uuid:{HOST1}, name:host-1] is in state[PreMaintenance], cannot perform required operation", changed("Host", HOST1, state="PreMaintenance"))),
        ("keeps its host", leaves(act("RebootVmInstance"), of=("VmInstance", WEB), state="Running", hostUuid=HOST1)),
        ("keeps its capacity", capacity(act("RebootVmInstance"))),
        ("keeps its addresses", leaves(act("RebootVmInstance"), of=("VmNic", "vmInstanceUuid", WEB), ip="192.168.100.2")),
        ("keeps its data volumes", leaves(act("RebootVmInstance", DB), of=("Volume", "name", "db-data-1"), vmInstanceUuid=DB)),
        ("leaves its nics Active in listeners", balanced(act("RebootVmInstance"), is_=["Active"])),
        ("leaves EIPs", served(act("RebootVmInstance"))),
        ("deletes the tags of a boot order for once", tags(tagged(WEB, "bootOrder::CdRom", "cdromBootOnce::true"), act("RebootVmInstance"), uuid=WEB, are=["hostname::web-1"])),
        ("answers the machine after", answers(act("RebootVmInstance"), state="Running")),
    ),
    *facts("PauseVmInstance",
        ("refuses a stopped machine", wrong_state("PauseVmInstance", "VM.1012", CI, "Stopped", "Running")),
        ("refuses a paused one", wrong_state("PauseVmInstance", "VM.1012", WEB, "Paused", "Running", PAUSE)),
        ("fails as the host does", faulty("PauseVmInstance", "HOST.1006", "VM.1012")),
        ("keeps host and capacity", capacity(PAUSE)),
        ("keeps its nics Active in listeners", balanced(PAUSE, is_=["Active"])),
        ("answers the machine after", answers(PAUSE, state="Paused", hostUuid=HOST1)),
    ),
    *facts("ResumeVmInstance",
        ("refuses a running machine", wrong_state("ResumeVmInstance", "VM.1013", WEB, "Running", "Paused")),
        ("fails as the host does", faulty("ResumeVmInstance", "HOST.1006", "VM.1013", WEB, PAUSE)),
        ("fails if its host was removed", V("VM.1013 <- SYS.1000", {"uuid": WEB}, "resourceUuid cannot be null", *LOST)),
        ("lets it run", leaves(PAUSE, act("ResumeVmInstance"), of=("VmInstance", WEB), state="Running", hostUuid=HOST1)),
        ("answers the machine after", answers(PAUSE, act("ResumeVmInstance"), state="Running")),
    ),
    *facts("MigrateVm",
        ("refuses its own host", V("SYS.1007", {"vmInstanceUuid": WEB, "hostUuid": HOST1}, f"the vm[uuid:{WEB}] is already on host[uuid:{HOST1}]")),
        ("finds no host for a paused one on its own host", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB, "hostUuid": HOST1}, "*", PAUSE)),
        ("refuses a stopped machine", wrong_state("MigrateVm", "VM.1008", CI, "Stopped", "Running, Paused")),
        ("refuses local storage", V("SYS.1006", {"vmInstanceUuid": NEW}, f"unable to live migrate with local storage. The vm[uuid:{NEW}] has volumes on local storage,to protect your data, please stop the vm and do the volume migration", first_volumes_on_local_storage)),
        ("refuses local storage with data volumes", V("SYS.1006", {"vmInstanceUuid": NEW}, f"unable to live migrate vm[uuid:{NEW}] with data volumes on local storage. Need detach all data volumes first.", local_data_volume, ("AttachDataVolumeToVm", {"volumeUuid": DATA, "vmInstanceUuid": NEW}), configured("localStoragePrimaryStorage", "liveMigrationWithStorage.allow", "true"))),
        ("refuses local storage of another platform", V("SYS.1006", {"vmInstanceUuid": NEW}, f"unable to live migrate vm[uuid:{NEW}] with local storage. Only linux guest is supported. Current platform is [Windows]", first_volumes_on_local_storage, changed("VmInstance", NEW, platform="Windows"), configured("localStoragePrimaryStorage", "liveMigrationWithStorage.allow", "true"))),
        ("fails without a host, and no code wraps that", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB}, OUTER % f"after rule out avoided host[{HOST1}], there is no host left in candidates", changed("Host", HOST2, state="Disabled"), changed("Host", HOST3, state="Disabled"))),
        ("runs on the new host, and remembers the old one", leaves(act("MigrateVm", WEB, hostUuid=HOST3), of=("VmInstance", WEB), state="Running", hostUuid=HOST3, lastHostUuid=HOST1, clusterUuid=C2)),
        ("lets a paused one run", leaves(PAUSE, act("MigrateVm", WEB), of=("VmInstance", WEB), state="Running")),
        ("takes its local volumes along", Shown(local_volume_moves)),
        ("gives back on the old host", capacity(act("MigrateVm", WEB, hostUuid=HOST2), cpus=-1, memory=-GIB)),
        ("takes from the new host", capacity(act("MigrateVm", WEB, hostUuid=HOST2), cpus=1, memory=GIB, host=HOST2)),
        ("leaves its nics Active in listeners", balanced(act("MigrateVm", WEB), is_=["Active"])),
        ("keeps its addresses", leaves(act("MigrateVm", WEB), of=("VmNic", "vmInstanceUuid", WEB), ip="192.168.100.2")),
        ("keeps its data volumes", leaves(act("MigrateVm", DB), of=("Volume", "name", "db-data-1"), vmInstanceUuid=DB)),
        ("leaves EIPs", served(act("MigrateVm", WEB))),
        ("goes only to a host of the same version", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB}, OUTER % "no candidate host has version[CentOS;Core;7.4.1708]", other_versions)),
        ("finds no host of the version of a host that was removed", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB}, OUTER % "no candidate host has version[null;null;null]", *LOST)),
        ("does nothing more with migrateFromDestination", leaves(act("MigrateVm", WEB, hostUuid=HOST2, migrateFromDestination=True), of=("VmInstance", WEB), hostUuid=HOST2)),
        ("answers the machine after", answers(act("MigrateVm", WEB, hostUuid=HOST2), state="Running", hostUuid=HOST2)),
    ),
    *facts("GetVmMigrationCandidateHosts",
        ("refuses a stopped machine", Refused({"vmInstanceUuid": CI}, "VM.1008 <- VM.1010", not_in_state("GetVmMigrationCandidateHosts", "Stopped", "Running, Paused"))),
        ("answers other hosts, that with the fewest machines first", hosts(("GetVmMigrationCandidateHosts", {"vmInstanceUuid": WEB}), are=["host-2", "host-3"])),
        ("answers nobody where there is none", hosts(changed("Host", HOST2, state="Disabled"), changed("Host", HOST3, state="Disabled"), ("GetVmMigrationCandidateHosts", {"vmInstanceUuid": WEB}), are=[])),
        ("does not look for local storage", hosts(first_volumes_on_local_storage, ("GetVmMigrationCandidateHosts", {"vmInstanceUuid": NEW}), are=["host-4"])),
        ("takes a machine without nics", hosts(lambda mock: take(mock, [("DetachL3NetworkFromVm", {"vmNicUuid": nic_of(mock)["uuid"]})]), ("GetVmMigrationCandidateHosts", {"vmInstanceUuid": WEB}), are=["host-2", "host-3"])),
        ("looks at the version", hosts(other_version_of_host_2, ("GetVmMigrationCandidateHosts", {"vmInstanceUuid": WEB}), are=["host-3"])),
    ),
    *facts("GetVmStartingCandidateClustersHosts",
        ("refuses a running machine by the name of an inner message", Refused({"uuid": WEB}, "SYS.1006 <- VM.1010", not_in_state("", "Running", "Stopped", "GetVmStartingCandidateClustersHostsMsg"))),
        ("answers hosts", hosts(("GetVmStartingCandidateClustersHosts", {"uuid": CI}), are=["host-2", "host-1", "host-3"])),
        ("answers their clusters once", Shown(starting_clusters)),
        ("answers nobody where there is none", answers(every_host(state="Disabled"), ("GetVmStartingCandidateClustersHosts", {"uuid": CI}), hosts=[], clusters=[])),
        ("fails for a machine without nics", Refused(after(lambda mock: take(mock, [("DetachL3NetworkFromVm", {"vmNicUuid": nic_of(mock, CI)["uuid"]})]), uuid=CI), "SYS.1000", "l3Network uuids can not be empty AttachedL2NetworkAllocatorFlow")),
    ),
    *facts("DestroyVmInstance",
        ("succeeds for an unknown one", gone(act("DestroyVmInstance", NOBODY), of=("VmInstance", DATA))),
        ("looks at no state", leaves(changed("VmInstance", WEB, state="Migrating"), DESTROY, of=("VmInstance", WEB), state="Destroyed")),
        ("succeeds for a destroyed one, and nothing happens", Shown(destroyed_twice)),
        ("takes its nics out of security groups", gone(with_services, DESTROY, of=("VmNicSecurityGroupRef", "d" * 32))),
        ("makes a GC job if its host is away, and goes on", Shown(gc_of_a_destroyed_one)),
        ("gives back what it took", capacity(DESTROY, cpus=-1, memory=-GIB)),
        ("takes EIPs from its nics", served(DESTROY, nic=False)),
        ("takes port forwarding from its nics", served(DESTROY, of=RULE, nic=False)),
        ("takes its nics out of listeners", balanced(DESTROY, is_=[])),
        ("does so for a stopped one", served(STOP, DESTROY, nic=False)),
        ("detaches data volumes", Shown(data_volumes_leave)),
        ("takes the addresses from its nics, which stay", Shown(destroyed_nics)),
        ("deletes the root volume, which stays its own", Shown(destroyed_root_volume)),
        ("deletes data volumes if that is configured", Shown(data_volumes_are_deleted)),
        ("leaves it Destroyed, without a host", leaves(DESTROY, of=("VmInstance", WEB), state="Destroyed", hostUuid=ABSENT, lastHostUuid=HOST1, clusterUuid=C1, zoneUuid=ZONE)),
        ("leaves its snapshots", Shown(snapshots_of_a_destroyed_one)),
        ("begins its period of grace", Shown(date_of_the_destruction)),
        ("leaves its tags", tags(tagged(WEB, "hostname::w"), DESTROY, uuid=WEB, are=["hostname::w", "hostname::web-1"])),
        ("removes all at once with the policy Direct", Shown(direct_policy)),
        ("waits for ever with the policy Never, until it is expunged", Shown(never_policy)),
        ("removes one that never ran at once", gone(JUST_CREATE, act("DestroyVmInstance", NEW))),
        ("asks the host for its state if the host fails", Uncovered("no agent answers, see the faults")),
    ),
    *facts("RecoverVmInstance",
        ("checks quotas", Refused(as_ann("vm.totalNum", 0, uuid=OLD, owns=OLD), "ID.1003", f"{EXCESS}[name: vm.totalNum, value: 0], Current used:*, Request:1. Please contact the administrator.")),
        ("refuses a running machine", wrong_state("RecoverVmInstance", "SYS.1006", WEB, "Running", "Destroyed")),
        ("refuses one whose local host is gone", V("SYS.1006", {"uuid": NEW}, f"unable to recover the vm[uuid:{NEW}, name:new]. The vm's root volume is on the local storage[uuid:{LOCAL}]; however, the host on which the root volume is has been deleted", first_volumes_on_local_storage, act("DestroyVmInstance", NEW), without_local_host)),
        ("fails if its root volume was expunged", V("SYS.1000", {"uuid": OLD}, "resourceUuid cannot be null", changed("VmInstance", OLD, rootVolumeUuid=None))),
        ("removes the tags of addresses that others have", tags(tagged(OLD, f"staticIp::{PRIVATE}::192.168.100.2", f"staticIp::{PRIVATE}::192.168.100.200"), act("RecoverVmInstance", OLD), uuid=OLD, are=[f"staticIp::{PRIVATE}::192.168.100.200"])),
        ("makes the root volume Ready", Shown(recovered_root_volume)),
        ("leaves it Stopped", leaves(DESTROY, RECOVER, of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT, lastHostUuid=HOST1)),
        ("does not bring data volumes back", Shown(data_volumes_stay_away)),
        ("does not bring EIPs back", served(DESTROY, RECOVER, nic=False)),
        ("does not bring listeners back", balanced(DESTROY, RECOVER, is_=[])),
        ("does not bring security groups back", gone(with_services, DESTROY, RECOVER, of=("VmNicSecurityGroupRef", "d" * 32))),
        ("answers the machine after", answers(DESTROY, RECOVER, state="Stopped")),
    ),
    *facts("ExpungeVmInstance",
        ("refuses a running machine", wrong_state("ExpungeVmInstance", "SYS.1006", WEB, "Running", "Destroyed")),
        ("refuses an unknown one", Refused({"uuid": NOBODY}, "SYS.1003")),
        ("refuses one with data volumes", V("SYS.1000", {"uuid": OLD}, f"why the deleted vm[uuid:{OLD}] has data volumes??? *", changed("Volume", named("volume-spare"), vmInstanceUuid=OLD))),
        ("refuses NFS storage without clusters", V("SYS.1006", {"uuid": OLD}, f"the NFS primary storage[uuid:{NFS}] is not attached to any clusters, and cannot expunge the root volume*", changed("PrimaryStorage", NFS, attachedClusterUuids=[]))),
        ("refuses SMP storage without clusters, with its uuids swapped", V("SYS.1006", {"uuid": OLD}, f"the SMP primary storage[uuid:{NFS}] is not attached to any clusters, and cannot expunge the root volume[uuid:{OLD}] of the VM[uuid:*]", changed("PrimaryStorage", NFS, type="SharedMountPoint", attachedClusterUuids=[]))),
        ("removes nics, root volume, snapshots and tags", Shown(expunged_with_its_root_volume)),
        ("removes the machine", gone(DESTROY, act("ExpungeVmInstance"), of=("VmInstance", WEB))),
    ),
    *facts("UpdateVmInstance",
        ("refuses a new size while it runs", V("SYS.1007", {"uuid": WEB, "cpuNum": 4}, "the VM cannot do online cpu/memory update because it is not of NUMA architecture. Please stop the VM then do the cpu/memory update again")),
        ("refuses a new size of one that neither runs nor is stopped", V("SYS.1006", {"uuid": WEB, "memorySize": 4 * GIB}, f"The state of vm[uuid:{WEB}] is Paused. Only these state[Running,Stopped] is allowed to update cpu or memory.", NUMA, PAUSE)),
        ("refuses less cpu while it runs", V("SYS.1007", {"uuid": DB, "cpuNum": 1}, f"can't decrease cpu of vm[uuid:{DB}] when it is running", NUMA)),
        ("refuses less memory while it runs", V("SYS.1007", {"uuid": DB, "memorySize": GIB}, f"can't decrease memory size of vm[uuid:{DB}] when it is running", NUMA)),
        ("refuses the tag of an ISO that is not attached", Refused(after(uuid=WEB, name="renamed", systemTags=[f"iso::{ISO}::0"]), "SYS.1006", f"ISO[uuid:{ISO}] is not attached to VM[uuid:{WEB}]")),
        ("refuses what its host has no room for", V("SYS.1006 <- HOST_ALLOCATION.1000", {"uuid": WEB, "cpuNum": 1000}, f"host[uuid:{HOST1}] capacity is not enough to offer cpu[999], memory[0 bytes]", NUMA)),
        ("changes name, description and platform", leaves(act("UpdateVmInstance", name="n", description="d", platform="Windows"), of=("VmInstance", WEB), name="n", description="d", platform="Windows")),
        ("writes the state as it is, and moves nothing else", leaves(act("UpdateVmInstance", state="Stopped"), of=("VmInstance", WEB), state="Stopped", hostUuid=HOST1)),
        ("takes any network as the default one", leaves(act("UpdateVmInstance", defaultL3NetworkUuid=PUBLIC), of=("VmInstance", WEB), defaultL3NetworkUuid=PUBLIC)),
        ("keeps the instance offering with another size", leaves(act("UpdateVmInstance", CI, cpuNum=7), of=("VmInstance", CI), instanceOfferingUuid=MEDIUM, cpuNum=7)),
        ("takes a smaller size of a stopped one", leaves(act("UpdateVmInstance", CI, cpuNum=1, memorySize=GIB + 1), of=("VmInstance", CI), cpuNum=1, memorySize=GIB + 1)),
        ("rounds more memory down below half of 128 MiB", leaves(NUMA, act("UpdateVmInstance", memorySize=GIB + (128 << 20) + (63 << 20)), of=("VmInstance", WEB), memorySize=GIB + (128 << 20))),
        ("rounds more memory up from half of 128 MiB", leaves(NUMA, act("UpdateVmInstance", memorySize=GIB + (64 << 20)), of=("VmInstance", WEB), memorySize=GIB + (128 << 20))),
        ("makes 128 MiB of what would be none", leaves(NUMA, act("UpdateVmInstance", memorySize=GIB + 1), of=("VmInstance", WEB), memorySize=GIB + (128 << 20))),
        ("takes the difference from the host", capacity(NUMA, act("UpdateVmInstance", cpuNum=3, memorySize=2 * GIB), cpus=2, memory=GIB)),
        ("makes an ISO the first", Shown(iso_becomes_the_first)),
        ("writes nothing where nothing is given", Shown(keeps_nothing_to_write)),
        ("answers the machine after", answers(act("UpdateVmInstance", name="n"), name="n")),
    ),
    *facts("ChangeInstanceOffering",
        ("refuses a running machine", V("SYS.1007", {"vmInstanceUuid": WEB, "instanceOfferingUuid": MEDIUM}, "the VM cannot do online cpu/memory update because it is not of NUMA architecture. Please stop the VM then do the cpu/memory update again")),
        ("refuses one that neither runs nor is stopped", V("SYS.1006", {"vmInstanceUuid": OLD, "instanceOfferingUuid": MEDIUM}, f"The state of vm[uuid:{OLD}] is Destroyed. Only these state[Running,Stopped] is allowed to update cpu or memory.", NUMA)),
        ("refuses less while it runs", V("SYS.1007", {"vmInstanceUuid": DB, "instanceOfferingUuid": SMALL}, f"can't decrease capacity when vm[uuid:{DB}] is running", NUMA)),
        ("does not look at state and type of the offering", leaves(changed("InstanceOffering", SMALL, state="Disabled", type="VirtualRouter"), act("ChangeInstanceOffering", CI, instanceOfferingUuid=SMALL), of=("VmInstance", CI), cpuNum=1)),
        ("refuses a state that changed meanwhile", Uncovered("the calls on a machine are done one after the other, and no other call changes the state in between")),
        ("refuses what its host has no room for", V("SYS.1006 <- HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB, "instanceOfferingUuid": MEDIUM}, "*capacity is not enough to offer cpu[1], memory[3221225472 bytes]", NUMA, changed("Host", HOST1, totalMemoryCapacity=10 * GIB))),
        ("changes size, strategy and offering", leaves(changed("InstanceOffering", SMALL, allocatorStrategy="DefaultHostAllocatorStrategy", cpuSpeed=9), act("ChangeInstanceOffering", CI, instanceOfferingUuid=SMALL), of=("VmInstance", CI), cpuNum=1, memorySize=GIB, allocatorStrategy="DefaultHostAllocatorStrategy", instanceOfferingUuid=SMALL, cpuSpeed=0)),
        ("rounds memory while it runs", leaves(NUMA, changed("InstanceOffering", MEDIUM, memorySize=GIB + 1), act("ChangeInstanceOffering", instanceOfferingUuid=MEDIUM), of=("VmInstance", WEB), memorySize=GIB + (128 << 20), cpuNum=2)),
        ("writes no tag, and copies none", tags(tagged(SMALL, "vrouter", type="InstanceOfferingVO"), act("ChangeInstanceOffering", CI, instanceOfferingUuid=SMALL), uuid=CI, are=[])),
        ("answers the machine after", answers(act("ChangeInstanceOffering", CI, instanceOfferingUuid=SMALL), cpuNum=1)),
    ),
    *facts("GetCandidateZonesClustersHostsForCreatingVm",
        ("refuses an ISO without a root disk offering", V("SYS.1007", CANDIDATES | {"imageUuid": ISO}, f"the image[name:image-debian9, uuid:{ISO}] is an ISO, rootDiskOfferingUuid must be set")),
        ("refuses an image on several backup storages without a zone", V("SYS.1007", CANDIDATES, f"zoneUuid must be set because the image[name:image-centos7, uuid:{CENTOS}] is on multiple backup storage", second_storage)),
        ("refuses an image on none without a zone", V("SYS.1007", CANDIDATES, "zoneUuid must be set because the image*", changed("Image", CENTOS, backupStorageRefs=[]))),
        ("passes on other errors", V("SYS.1006", CANDIDATES, "*is deleted on all backup storage", deleted_image, empty_cache)),
        ("does not refuse what is disabled", hosts(changed("InstanceOffering", SMALL, state="Disabled"), changed("Image", CENTOS, state="Disabled"), changed("L3Network", PRIVATE, state="Disabled"), ("GetCandidateZonesClustersHostsForCreatingVm", CANDIDATES), are=["host-2", "host-1", "host-3"])),
        ("looks at zone and cluster", hosts(("GetCandidateZonesClustersHostsForCreatingVm", CANDIDATES | {"clusterUuid": C2, "zoneUuid": ZONE}), are=["host-3"])),
        ("counts data disks once for each offering", Shown(candidates_once)),
        ("ignores the default network", hosts(("GetCandidateZonesClustersHostsForCreatingVm", CANDIDATES | {"defaultL3NetworkUuid": NOBODY}), are=["host-2", "host-1", "host-3"])),
        ("answers nobody, nowhere, with success", answers(every_host(state="Disabled"), ("GetCandidateZonesClustersHostsForCreatingVm", CANDIDATES), hosts=[], clusters=[], zones=[])),
    ),
    *facts("GetCandidatePrimaryStoragesForCreatingVm",
        ("refuses an ISO without a root disk offering", V("SYS.1007", {"imageUuid": ISO, "l3NetworkUuids": [PRIVATE]}, "rootVolumeOffering is needed when image media type is ISO")),
        ("answers storages, by disk offering for data, and reads neither zone nor cluster", Shown(storages_for_a_new_one)),
    ),
    *facts("GetHostAllocatorStrategies",
        ("answers the exposed types", answers(("GetHostAllocatorStrategies", {}), strategies=["DefaultHostAllocatorStrategy", "LeastVmPreferredHostAllocatorStrategy"])),
    ),
    *facts("GetCpuMemoryCapacity",
        ("refuses no list and not all", V("SYS.1007", {}, "zoneUuids, clusterUuids, hostUuids must at least have one be none-empty list, or all is set to true")),
        ("refuses an unknown host", V("SYS.1003", {"hostUuids": [NOBODY]})),
        ("adds up the hosts that are enabled and connected", answers(("GetCpuMemoryCapacity", {"all": True}), totalCpu=480, managedCpuNum=48, totalMemory=3 * 64 * GIB)),
        ("takes hosts before clusters and zones", answers(("GetCpuMemoryCapacity", {"hostUuids": [HOST1], "clusterUuids": [C2], "zoneUuids": [ZONE]}), totalCpu=160)),
        ("takes clusters before zones", answers(("GetCpuMemoryCapacity", {"clusterUuids": [C1], "zoneUuids": [ZONE]}), totalCpu=320)),
        ("does without the memory that hosts reserve", answers(("GetCpuMemoryCapacity", {"hostUuids": [HOST3]}), availableMemory=64 * GIB - GIB - 4 * GIB - 4 * GIB - GIB)),
        ("answers no negative memory", answers(changed("Host", HOST3, totalMemoryCapacity=0), ("GetCpuMemoryCapacity", {"hostUuids": [HOST3]}), availableMemory=0)),
        ("answers zeros without a zone", answers(no_zone, ("GetCpuMemoryCapacity", {"all": True}), totalCpu=0, availableCpu=0, totalMemory=0, availableMemory=0, managedCpuNum=0)),
        ("does not filter by hypervisor with all", answers(("GetCpuMemoryCapacity", {"all": True, "hypervisorType": "ESX"}), totalCpu=480)),
    ),
    *facts("QueryVmInstance",
        ("answers destroyed machines, with nics that have no address", Shown(destroyed_ones_are_rows)),
        ("answers the root volume of a destroyed machine only", Shown(root_volume_of_a_destroyed_one)),
    ),
    *facts("ReimageVmInstance",
        ("fails for a running machine with an inner error as text", V("SYS.1000", {"vmInstanceUuid": WEB}, '{"causes":[],"code":"VM.1014",*unable to reset volume[uuid:*] to origin image[uuid:*], the vm[uuid:*] volume attached to is not in Stopped state, current state is Running"}')),
        ("fails without a cached image", V("VM.1016", {"vmInstanceUuid": WEB}, "unable to reset volume[uuid:*] to origin image[uuid:*], cannot find image cache.", STOP, empty_cache)),
        ("fails for an ISO", V("VM.1015", {"vmInstanceUuid": NEW}, "unable to reset volume[uuid:*] to origin image[uuid:*], for image type is ISO", ("CreateVmInstance", ISO_VM), act("StopVmInstance", NEW))),
        ("fails on storage without snapshots", Uncovered("all simulated storage takes snapshots")),
        ("leaves a snapshot of the root volume, and a new path", Shown(reimaged)),
        ("lets the next snapshot begin a new tree", Shown(snapshot_after_a_reimage)),
        ("leaves sizes and space as they were", Shown(space_after_a_reimage)),
        ("answers the machine after", answers(STOP, act("ReimageVmInstance"), state="Stopped", uuid=WEB)),
    ),
    *facts("GetInterdependentL3NetworksImages",
        ("refuses neither networks nor image", V("SYS.1007", {"zoneUuid": ZONE}, "either l3NetworkUuids or imageUuid must be set")),
        ("refuses an image out of reach of the zone", V("SYS.1007", {"zoneUuid": ZONE, "imageUuid": CENTOS}, f"the image[uuid:{CENTOS}] is not on any backup storage that has been attached to the zone[uuid:{ZONE}]", changed("BackupStorage", BS, attachedZoneUuids=[]))),
        ("answers networks for an image, in any state, without a look at the networks", Shown(networks_of_an_image)),
        ("answers images for networks, in any state", Shown(images_of_networks)),
        ("compares the types of backup and primary storage", Shown(only_storage_that_fits)),
    ),
    *facts("Cascades",
        ("zone: machines are gone", gone(("DeleteZone", {"uuid": ZONE}), of=("VmInstance", WEB))),
        ("host: running machines are stopped", leaves(("DeleteHost", {"uuid": HOST1}), of=("VmInstance", WEB), state="Stopped", hostUuid=ABSENT)),
        ("host: unknown machines are stopped", leaves(("DeleteHost", {"uuid": HOST4}), of=("VmInstance", BATCH), state="Stopped")),
        ("host disconnected: one that never ran stays Created", leaves(("CreateVmInstance", VM | {"strategy": "JustCreate", "hostUuid": HOST1}), lambda mock: mock.incident({"host-down": "host-1"}), state="Created", hostUuid=HOST1)),
        ("host: paused machines are left as they are", leaves(PAUSE, ("DeleteHost", {"uuid": HOST1}), of=("VmInstance", WEB), state="Paused")),
        ("cluster: machines are stopped", leaves(("DeleteCluster", {"uuid": C1}), of=("VmInstance", WEB), state="Stopped", clusterUuid=ABSENT)),
        ("host with local storage: machines with a root volume there are removed", Shown(deleted_local_host)),
        ("host with local storage: data volumes there are removed", Shown(deleted_local_volume)),
        ("primary storage: machines with a root volume there are gone", gone(changed("PrimaryStorage", NFS, attachedClusterUuids=[]), ("DeletePrimaryStorage", {"uuid": NFS}), of=("VmInstance", WEB))),
        ("primary storage detached: machines of the cluster with a volume there are stopped", leaves(("DetachPrimaryStorageFromCluster", {"primaryStorageUuid": NFS, "clusterUuid": C1}), of=("VmInstance", WEB), state="Stopped")),
        ("primary storage detached: machines of other clusters run on", leaves(("DetachPrimaryStorageFromCluster", {"primaryStorageUuid": NFS, "clusterUuid": C2}), of=("VmInstance", WEB), state="Running")),
        ("L2 network detached: nics of machines of the cluster are detached", gone(DETACH_L2, of=("VmNic", "vmInstanceUuid", WEB))),
        ("L2 network detached: nics of other machines stay", leaves(DETACH_L2, of=("VmNic", "vmInstanceUuid", named("vm-web-3")), l3NetworkUuid=PRIVATE)),
        ("L3 network: nics are detached, also of destroyed machines", gone(("DeleteL3Network", {"uuid": PRIVATE}), of=("VmNic", "vmInstanceUuid", OLD))),
        ("L3 network: tags of static addresses on it are removed", tags(tagged(CI, f"staticIp::{PRIVATE}::192.168.100.200"), ("DeleteL3Network", {"uuid": PRIVATE}), uuid=CI, are=[])),
        ("IP range: nics with an address of it are detached", gone(("DeleteIpRange", {"uuid": RANGE}), of=("VmNic", "vmInstanceUuid", WEB))),
        ("instance offering: machines forget it", leaves(("DeleteInstanceOffering", {"uuid": SMALL}), of=("VmInstance", WEB), instanceOfferingUuid=ABSENT, cpuNum=1)),
        ("instance offering: machines keep it if that is configured", leaves(configured("vm", "instanceOffering.setNullWhenDeleting", "false"), ("DeleteInstanceOffering", {"uuid": SMALL}), of=("VmInstance", WEB), instanceOfferingUuid=SMALL)),
        ("account: machines are destroyed by their policy", Uncovered("machines of a deleted account are removed with all that it owned")),
        ("a machine that is gone: nics, groups and listeners forget it, EIPs lead nowhere", Shown(gone_for_good)),
    ),
    *facts("Host",
        ("disconnected: machines become Unknown, with a notification", Shown(unknown_on_a_lost_host)),
        ("disconnected: stopped machines stay", leaves(lose_host_1, of=("VmInstance", CI), state="Stopped")),
        ("connected again: unknown machines run", Shown(known_again)),
        ("a machine that is stopped or moved behind the server's back is found", Uncovered("nothing changes a machine behind zmock's back; a test writes its state")),
    ),
    *facts("CreateVmInstance",
        ("no host: the text without pagination", create("SYS.1006 <- HOST_ALLOCATION.1000", "no Enabled hosts found in the [4] candidate hosts", NO_PAGES, every_host(state="Disabled"))),
        ("no host: of networks", create("SYS.1006 <- HOST_ALLOCATION.1000", f"no host found in clusters that has attached to L2Networks which have L3Networks[{PRIVATE}]", changed("L2Network", named("l2-private"), attachedClusterUuids=[]))),
        ("no host: that error has no description", Uncovered("each code has its description")),
        ("no host: none connected", no_host("no Connected hosts found in the [4] candidate hosts", every_host(status="Disconnected"))),
        ("no host: none enabled", no_host("no Enabled hosts found in the [4] candidate hosts", every_host(state="Maintenance"))),
        ("no host: none with the hypervisor", no_host("no Enabled hosts found in the [4] candidate hosts having the hypervisor type [KVM]", every_host(hypervisorType="ESX"))),
        ("no host: none both connected and enabled", no_host("no host having state=Enabled status=Connected hypervisorType=KVM found", every_host(status="Disconnected"), changed("Host", HOST1, status="Connected", state="Disabled"))),
        ("no host: none with the capacity", no_host("no host having cpu[1], memory[1073741824 bytes] found", every_host(totalCpuCapacity=0))),
        ("no host: none designated", create("SYS.1006 <- HOST_ALLOCATION.1000", OUTER % f"No host with uuid={HOST1} found", changed("L2Network", named("l2-private"), attachedClusterUuids=[C2]), hostUuid=HOST1)),
        ("no host: no storage with room", no_host("cannot find available primary storage[state: Enabled, status: Connected, available capacity 10737418240 bytes]. Check the state/status of primary storage and make sure they have been attached to clusters", every_storage(state="Disabled"))),
        ("no host: none in the zone of the image", no_host(f"no host found in zones[uuids:[]] that attaches to backup storage where image[{CENTOS}] is on", changed("BackupStorage", BS, attachedZoneUuids=[]))),
        ("no host: no connected backup storage, at once", create("SYS.1006 <- HOST_ALLOCATION.1000", f"all backup storage that image[uuid:{CENTOS}] is on can not satisfy conditions[status = Connected]", changed("BackupStorage", BS, status="Disconnected"))),
        ("no host: the types of backup and primary storage do not fit", Uncovered("each simulated backup storage goes with each primary storage")),
        ("reserved memory is refused when the host is taken", create("SYS.1006 <- SYS.1006", "[Host Allocation]: no enough memory[1073741824] on the host[uuid:*] on host[uuid:*]. try next one", all_but_what_is_reserved, hostUuid=HOST1)),
        ("no storage: reserved space", create("SYS.1006 <- SYS.1006", "after subtracting reserved capacity[*], there is no primary storage having required size[10737418240 bytes]", configured("primaryStorage", "reservedCapacity", "20T"), primaryStorageUuidForRootVolume=NFS)),
        ("no storage: the wanted one", create("SYS.1006 <- SYS.1006", f"required primary storage[uuid:{LOCAL}] cannot satisfy conditions*", primaryStorageUuidForRootVolume=LOCAL, hostUuid=HOST1)),
    ),
    *facts("StartVmInstance",
        ("no host: no storage for a start", Refused(after(every_storage(status="Disconnected"), uuid=CI), "VM.1001 <- HOST_ALLOCATION.1000", OUTER % "cannot find available primary storage[state: Enabled or Disabled, status: Connected]. Check the state/status of primary storage and make sure they have been attached to clusters")),
        ("no host: none attached to the storage of the volumes", Refused(after(every_storage(attachedClusterUuids=[]), uuid=CI), "VM.1001 <- HOST_ALLOCATION.1000", OUTER % f"no host found in clusters which have attached to all primary storage[{NFS}] where vm[uuid:{CI}]'s volumes locate")),
    ),
    *facts("States",
        *[(f"of {api}", Shown(refused_in_other_states(api, outer, states))) for api, outer, states in (
            ("StartVmInstance", "VM.1001", "Created Stopped"), ("StopVmInstance", "VM.1002", "Running Stopped Unknown Paused"), ("RebootVmInstance", "VM.1003", "Running"),
            ("PauseVmInstance", "VM.1012", "Running"), ("ResumeVmInstance", "VM.1013", "Paused"), ("MigrateVm", "VM.1008", "Running Paused"),
            ("RecoverVmInstance", "SYS.1006", "Destroyed"), ("ExpungeVmInstance", "SYS.1006", "Destroyed"))],
        ("of GetVmMigrationCandidateHosts", Shown(refused_in_other_states("GetVmMigrationCandidateHosts", "VM.1008", "Running Paused", "vmInstanceUuid"))),
        ("of GetVmStartingCandidateClustersHosts", Shown(refused_in_other_states("GetVmStartingCandidateClustersHosts", "SYS.1006", "Stopped"))),
    ),
    *facts("Patterns",
        ("transitional states can be seen", Shown(states_on_the_way)),
        ("a failed start leaves state and hosts", Shown(failed_start)),
        ("work on one machine is done one call after the other", Shown(one_after_the_other)),
        ("the zone alone plays no part", leaves(first_free_zone, ("CreateVmInstance", VM | {"zoneUuid": "2" * 32}), state="Running", zoneUuid=ZONE)),
        ("a dry run answers nobody", answers(every_host(state="Disabled"), ("GetVmStartingCandidateClustersHosts", {"uuid": CI}), hosts=[])),
        ("policies: a change postpones the end", Shown(postponed_by_a_change)),
        ("quotas: none for admin", leaves(configured("quota", "vm.num", "1"), CREATE, state="Running")),
        ("quotas: running ones count without stopped ones", Shown(quota_usage)),
        ("quotas: while a host is looked for", Uncovered("the quota of a job under way is not checked again")),
        ("owner: parts have the owner of the machine", Shown(owner_of_the_parts)),
    ),
)


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
