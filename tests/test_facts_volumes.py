"""What the real server does with volumes, local storage and snapshots, fact by fact, in both dialects.

The facts follow the calls: data volumes, local storage, snapshots, then what happens to volumes by itself. Each is a refusal
with its codes, or an effect. The helpers below prepare a cloud (`after`) and look at what steps have left (`leaves`, `answers`).
"""

import pytest
from asking import each, outcome
from facts import Fact, Refused, Shown, Uncovered, after, changed, check, take

import zmock
from zmock import SHA512_OF_PASSWORD, configure, named


def fixed(digit):
    """Return a uuid of one digit."""
    return f"{digit * 12}4{digit * 3}8{digit * 15}"


GIB, NEW, VM, FIRST, SECOND, NOBODY = (1 << 30, *map(fixed, "abcd0"))
WEB, DB, DB2, CI, OFFICE, OLD, CACHE = (named(f"vm-{name}") for name in ("web-1", "db-1", "db-2", "ci-1", "office-1", "old-1", "cache-1"))
HOST1, HOST3, HOST4, C1, C2, ZONE = map(named, ("host-1", "host-3", "host-4", "cluster-1", "cluster-2", "zone-1"))
NFS, LOCAL, BS, DISK, CENTOS, SMALL, PRIVATE = map(named, ("ps-nfs", "ps-local", "bs-1", "disk-20g", "image-centos7", "offering-small", "l3-private"))
SPARE, DATA, DATA2, SNAP1, SNAP2 = map(named, ("volume-spare", "volume-db-data-1", "volume-db-data-2", "snapshot-1", "snapshot-2"))
ABSENT = object()
HEADER = "org.zstack.header."
NEW_VOLUME = {"name": "new", "resourceUuid": NEW, "diskOfferingUuid": DISK}
VOLUME = ("Volume", NEW)


# clouds, and looks at them


def made(api="CreateDataVolume", tags=(), **params):
    """A step that makes an object, with system tags."""

    async def step(mock):
        row, params_left = mock.cloud.catalogue.apis[api], {"name": "new", "resourceUuid": NEW, **params}
        path = row.path.format(**params_left)
        status, answer = await outcome(mock, "POST", path, {row.key: params_left, "systemTags": list(tags)})
        assert status == 200, answer

    return step


def on_host(host, uuid=NEW, **more):
    """A step that makes a data volume on the local disk of a host."""
    return made(tags=[f"localStorage::hostUuid::{host}"], diskOfferingUuid=DISK, primaryStorageUuid=LOCAL, resourceUuid=uuid, **more)


async def with_a_local_vm(mock):
    """A step that makes a stopped virtual machine NEW-VM on the local disk of host-3."""
    await mock.call("CreateVmInstance", name="local", resourceUuid=VM, instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=[PRIVATE],
                    hostUuid=HOST3, primaryStorageUuidForRootVolume=LOCAL)  # fmt: skip
    await mock.call("StopVmInstance", uuid=VM)


def of_local_vm(mock):
    return mock.cloud.get("VmInstance", VM)["rootVolumeUuid"]


def configured(category, name, value):
    async def step(mock):
        configure(mock.cloud, category, name, str(value))

    return step


def snapped(name, volume=DATA):
    """A step that takes a snapshot."""
    return ("CreateVolumeSnapshot", {"volumeUuid": volume, "name": name})


def by_name(mock, name, type="VolumeSnapshot"):
    return mock.cloud.find(type, "name", name)[0]


def look_at(item, fields):
    for name, value in fields.items():
        assert (name not in item) if value is ABSENT else (value(item.get(name)) if callable(value) else item.get(name) == value), (name, item.get(name))


def leaves(*steps, of=VOLUME, **fields):
    """A story: after some steps, the object (type, uuid) has these fields."""

    async def story(mock):
        await take(mock, steps)
        item = mock.cloud.look(*of)
        assert item, of
        look_at(mock.cloud.inventory(of[0], item), fields)

    return Shown(story)


def answers(*steps, **members):
    """A story: the last call answers these members, or an inventory with these fields."""

    async def story(mock):
        body = await take(mock, steps) or {}  # the server answers null for nothing
        look_at(body.get("inventory", body), members)

    return Shown(story)


def lists(*steps, uuids, key="uuid"):
    """A story: the last call answers the objects with these uuids."""

    async def story(mock):
        body = await take(mock, steps)
        assert {item[key] for item in body["inventories"]} == set(uuids)

    return Shown(story)


def gone(*steps, of=VOLUME):
    async def story(mock):
        await take(mock, steps)
        assert not mock.cloud.look(*of)

    return Shown(story)


def count(type, key, value, number):
    async def step(mock):
        assert len(mock.cloud.find(type, key, value)) == number

    return step


async def meanwhile(mock, api, **params):
    """Send a call, and return before it ends."""
    mock.rule(api=api, delay=10)
    row = mock.cloud.catalogue.apis[api]
    path = row.path.format(**params)
    sent = {name: value for name, value in params.items() if f"{{{name}}}" not in row.path}
    body = None if row.method == "DELETE" else {row.key: sent}
    status, _ = await mock.request(row.method, path, body)
    assert status == 202


async def free(mock, ps=NFS):
    return (await mock.query("primary-storage", f"uuid={ps}"))[0]["availableCapacity"]


async def login(mock, **quotas):
    """A step that goes on as a new account with quotas."""
    account = await mock.create("CreateAccount", name="dev", password=SHA512_OF_PASSWORD)
    for name, value in quotas.items():
        await mock.call("UpdateQuota", identityUuid=account["uuid"], name=name.replace("_", "."), value=value)
    await mock.call("ShareResource", resourceUuids=[DISK, CENTOS], toPublic=True)
    status, body = await mock.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "dev", "password": SHA512_OF_PASSWORD}})
    assert status == 200, body
    mock.session = body["inventory"]["uuid"]


def as_account(**quotas):
    async def step(mock):
        await login(mock, **quotas)

    return step


EXPUNGE = ("ExpungeDataVolume", {"uuid": SPARE})
DELETE_SPARE, DELETE = ("DeleteDataVolume", {"uuid": SPARE}), ("DeleteDataVolume", {"uuid": NEW})
ATTACH_SPARE, DETACH_SPARE = ("AttachDataVolumeToVm", {"volumeUuid": SPARE, "vmInstanceUuid": CI}), ("DetachDataVolumeFromVm", {"uuid": SPARE})
INSTANTIATED = (ATTACH_SPARE, DETACH_SPARE)
DIRECT = configured("volume", "deletionPolicy", "Direct")
STOP_DB = ("StopVmInstance", {"uuid": DB})


def root_of(vm):
    return lambda mock: mock.cloud.get("VmInstance", vm)["rootVolumeUuid"]


def state_text(message, state, allowed="Running, Stopped, Paused"):
    return f"current vm instance state[{state}] doesn't allow to proceed message[{HEADER}{message}], allowed states are [{allowed}]"


# data volumes


async def data_volume_on_storage(mock):
    before = await free(mock)
    volume = await mock.create("CreateDataVolume", **NEW_VOLUME, primaryStorageUuid=NFS)
    path = f"dataVolumes/acct-{zmock.ADMIN}/vol-{NEW}/{NEW}.qcow2"
    look_at(volume, {"status": "Ready", "primaryStorageUuid": NFS, "format": "qcow2", "installPath": lambda text: text.endswith(path)})
    assert before - await free(mock) == volume["size"]


async def tags_of_a_creation(mock):
    await made(tags=["ephemeral::shareable", "volumeMaxIncrementalSnapshotNum::9"], diskOfferingUuid=DISK)(mock)
    assert [tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", NEW)] == ["volumeMaxIncrementalSnapshotNum::9"]
    assert mock.cloud.get(*VOLUME)["isShareable"]


CREATE = (
    Fact("CreateDataVolume", "refuses above the quota of data volumes", Refused(after(as_account(volume_data_num=0), **NEW_VOLUME), "ID.1003")),
    Fact("CreateDataVolume", "refuses above the quota of capacity", Refused(after(as_account(volume_capacity=GIB), **NEW_VOLUME), "ID.1003")),
    Fact("CreateDataVolume", "takes a disk offering that is Disabled", leaves(
        ("ChangeDiskOfferingState", {"uuid": DISK, "stateEvent": "disable"}), ("CreateDataVolume", NEW_VOLUME), status="NotInstantiated")),
    Fact("CreateDataVolume", "without primary storage is not instantiated", answers(
        ("CreateDataVolume", NEW_VOLUME), status="NotInstantiated", state="Enabled", size=20 * GIB, actualSize=0, type="Data", diskOfferingUuid=DISK,
        isShareable=False, format=ABSENT, installPath=ABSENT, primaryStorageUuid=ABSENT, deviceId=ABSENT, vmInstanceUuid=ABSENT)),
    Fact("CreateDataVolume", "on primary storage is Ready and takes space", Shown(data_volume_on_storage)),
    Fact("CreateDataVolume", "makes the tags of the request, but ephemeral ones", Shown(tags_of_a_creation)),
    Fact("CreateDataVolume", "refuses primary storage that is Disabled", Refused(
        after(("ChangePrimaryStorageState", {"uuid": NFS, "stateEvent": "disable"}), **NEW_VOLUME, primaryStorageUuid=NFS), "SYS.1006",
        f"required primary storage[uuid:{NFS}] cannot satisfy conditions[state:Enabled, status:Connected, size:{20 * GIB}]")),
    Fact("CreateDataVolume", "refuses primary storage without room, and removes the row", Refused(
        after(changed("DiskOffering", DISK, diskSize=1 << 50), **NEW_VOLUME, primaryStorageUuid=NFS), "SYS.1006", "required primary storage*")),
    Fact("CreateDataVolume", "refuses local storage without the tag of a host", Refused(
        after(**NEW_VOLUME, primaryStorageUuid=LOCAL), "SYS.1007",
        "To create data volume on the local primary storage, you must specify the host that the data volume is going to be created using the system tag "
        "[localStorage::hostUuid::{hostUuid}]")),
    Fact("CreateDataVolume", "refuses a host that is not of the local storage", Refused(
        after(**NEW_VOLUME, primaryStorageUuid=LOCAL, systemTags=[f"localStorage::hostUuid::{HOST1}"]), "SYS.1007",
        f"the host[uuid:{HOST1}] doesn't belong to the local primary storage[uuid:{LOCAL}]")),
    Fact("CreateDataVolume", "puts a volume on the disk of the host of the tag", leaves(on_host(HOST3), of=("LocalStorageResourceRef", NEW), hostUuid=HOST3)),
)

# from templates

TEMPLATE = fixed("e")


async def template(mock):
    volume = await mock.create("CreateDataVolume", name="t", diskOfferingUuid=DISK, primaryStorageUuid=NFS)
    await mock.create("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=volume["uuid"], resourceUuid=TEMPLATE)


FROM_TEMPLATE = {"imageUuid": TEMPLATE, "name": "new", "resourceUuid": NEW, "primaryStorageUuid": NFS}


def changed_template(**changes):
    async def step(mock):
        await template(mock)
        mock.cloud.change("Image", TEMPLATE, **changes)

    return step


async def template_deleted_everywhere(mock):
    await template(mock)
    (ref,) = mock.cloud.get("Image", TEMPLATE)["backupStorageRefs"]
    mock.cloud.change("Image", TEMPLATE, backupStorageRefs=[ref | {"status": "Deleted"}])


async def from_template_before_and_after(mock):
    await template(mock)
    image = mock.cloud.get("Image", TEMPLATE)
    await meanwhile(mock, "CreateDataVolumeFromVolumeTemplate", **FROM_TEMPLATE)
    shown = {"size": image["size"], "actualSize": image["actualSize"], "rootImageUuid": TEMPLATE, "primaryStorageUuid": NFS, "diskOfferingUuid": ABSENT}
    look_at(mock.cloud.get(*VOLUME), {"status": "Creating", "format": "qcow2", "installPath": ABSENT, **shown})
    await mock.advance(10)
    look_at(mock.cloud.get(*VOLUME), {"status": "Ready", "format": "qcow2", "installPath": bool, **shown})


async def template_without_quota(mock):
    await template(mock)
    await mock.call("ShareResource", resourceUuids=[TEMPLATE], toPublic=True)
    await login(mock, volume_data_num=0, volume_capacity=0)
    assert (await mock.create("CreateDataVolumeFromVolumeTemplate", **FROM_TEMPLATE))["status"] == "Ready"


CREATE_FROM_TEMPLATE = (
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses another kind of image", Refused(
        {**FROM_TEMPLATE, "imageUuid": CENTOS}, "SYS.1007", f"image[uuid:{CENTOS}] is not DataVolumeTemplate, it's RootVolumeTemplate")),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses a template that is not Enabled", Refused(
        after(changed_template(state="Disabled"), **FROM_TEMPLATE), "SYS.1006", f"image[uuid:{TEMPLATE}] is not Enabled, it's Disabled")),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses a template that is not Ready", Refused(
        after(changed_template(status="Deleted"), **FROM_TEMPLATE), "SYS.1006", f"image[uuid:{TEMPLATE}] is not Ready, it's Deleted")),
    Fact("CreateDataVolumeFromVolumeTemplate", "asks for no quota", Shown(template_without_quota)),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses a template that is deleted everywhere", Refused(
        after(template_deleted_everywhere, **FROM_TEMPLATE), "SYS.1006", f"the image[uuid:{TEMPLATE}, name:t] has been deleted on all backup storage")),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses a template on no backup storage that works in the zone", Refused(
        after(template, ("ChangeBackupStorageState", {"uuid": BS, "stateEvent": "disable"}), **FROM_TEMPLATE), "SYS.1006",
        f"cannot find a backup storage on which the image[uuid:{TEMPLATE}] is that satisfies all conditions of: 1. has state Enabled *")),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses primary storage that is Disabled", Refused(
        after(template, ("ChangePrimaryStorageState", {"uuid": NFS, "stateEvent": "disable"}), **FROM_TEMPLATE), "SYS.1006", "required primary storage*")),
    Fact("CreateDataVolumeFromVolumeTemplate", "refuses local storage without hostUuid", Refused(
        after(template, **FROM_TEMPLATE | {"primaryStorageUuid": LOCAL}), "SYS.1006",
        f"unable to create the data volume[uuid: {NEW}] on a local primary storage[uuid:{LOCAL}], because the hostUuid is not specified.")),
    Fact("CreateDataVolumeFromVolumeTemplate", "goes to the local disk of hostUuid", leaves(
        template, ("CreateDataVolumeFromVolumeTemplate", FROM_TEMPLATE | {"primaryStorageUuid": LOCAL, "hostUuid": HOST3}),
        of=("LocalStorageResourceRef", NEW), hostUuid=HOST3)),
    Fact("CreateDataVolumeFromVolumeTemplate", "is Creating with the values of the template, then Ready", Shown(from_template_before_and_after)),
    Fact("CreateDataVolumeFromVolumeTemplate", "leaves a GC job if the download does not answer", Uncovered("storage always answers")),
)

# from snapshots

FROM_SNAPSHOT = {"volumeSnapshotUuid": SNAP2, "name": "new", "resourceUuid": NEW}


async def from_snapshot_before_and_after(mock):
    size, snapshot, before = mock.cloud.get("Volume", DATA)["size"], mock.cloud.get("VolumeSnapshot", SNAP2), await free(mock)
    await meanwhile(mock, "CreateDataVolumeFromVolumeSnapshot", **FROM_SNAPSHOT)
    look_at(mock.cloud.get(*VOLUME), {"status": "Creating", "size": 0, "installPath": ABSENT})
    await mock.advance(10)
    look_at(mock.cloud.get(*VOLUME), {"status": "Ready", "size": size, "actualSize": snapshot["size"], "primaryStorageUuid": NFS, "format": "qcow2",
                                      "rootImageUuid": ABSENT, "diskOfferingUuid": ABSENT, "installPath": bool})  # fmt: skip
    assert before - await free(mock) == size


async def failed_from_snapshot(mock):
    mock.cloud.change("VolumeSnapshot", SNAP2, status="Deleting")
    with pytest.raises(RuntimeError, match="VOLUME_SNAPSHOT.1000"):
        await mock.call("CreateDataVolumeFromVolumeSnapshot", **FROM_SNAPSHOT)
    look_at(mock.cloud.get(*VOLUME), {"status": "Creating", "size": 0, "primaryStorageUuid": ABSENT, "name": "new"})


async def snapshot_without_quota(mock):
    await login(mock)
    await take(mock, [("CreateDataVolume", {"name": "v", "diskOfferingUuid": DISK, "resourceUuid": FIRST}), changed("Volume", FIRST, status="Ready", installPath="/v/v")])
    mock.cloud.change("Volume", FIRST, primaryStorageUuid=NFS)
    snapshot = await mock.create("CreateVolumeSnapshot", volumeUuid=FIRST, name="s")
    mock.cloud.change("VolumeSnapshot", snapshot["uuid"], state="Disabled")
    for quota in mock.cloud.find("Quota", "identityUuid", mock.cloud.get("Volume", FIRST)["owner"]):
        mock.cloud.change("Quota", quota["uuid"], value=0)
    assert (await mock.create("CreateDataVolumeFromVolumeSnapshot", **FROM_SNAPSHOT | {"volumeSnapshotUuid": snapshot["uuid"]}))["status"] == "Ready"


async def from_snapshot_on_a_disk(mock):
    await take(mock, [on_host(HOST3, uuid=FIRST), ("CreateVolumeSnapshot", {"volumeUuid": FIRST, "name": "s", "resourceUuid": SECOND})])
    await mock.call("CreateDataVolumeFromVolumeSnapshot", **FROM_SNAPSHOT | {"volumeSnapshotUuid": SECOND})
    assert mock.cloud.get("LocalStorageResourceRef", NEW)["hostUuid"] == HOST3


CREATE_FROM_SNAPSHOT = (
    Fact("CreateDataVolumeFromVolumeSnapshot", "does not use primaryStorageUuid", answers(
        ("CreateDataVolumeFromVolumeSnapshot", FROM_SNAPSHOT | {"primaryStorageUuid": LOCAL}), primaryStorageUuid=NFS)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "refuses a snapshot that is not Ready", Refused(
        after(changed("VolumeSnapshot", SNAP2, status="Deleting"), **FROM_SNAPSHOT), "VOLUME_SNAPSHOT.1000",
        f"snapshot[uuid:{SNAP2}, name:before-upgrade-2]'s status[Deleting] is not allowed for message[*", changes=True)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "fails as the storage does", Refused(
        after(("ChangePrimaryStorageState", {"uuid": NFS, "stateEvent": "disable"}), **FROM_SNAPSHOT), "SYS.1006", "required primary storage*", changes=True)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "fails if the primary storage of the snapshot was removed", Refused(
        after(changed("VolumeSnapshot", FROM_SNAPSHOT["volumeSnapshotUuid"], primaryStorageUuid=None), **FROM_SNAPSHOT), "SYS.1000", "resourceUuid cannot be null", changes=True)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "leaves its volume Creating when it fails", Shown(failed_from_snapshot)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "looks neither at the state of the snapshot nor at quotas", Shown(snapshot_without_quota)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "is Creating without size, then Ready, and takes space", Shown(from_snapshot_before_and_after)),
    Fact("CreateDataVolumeFromVolumeSnapshot", "goes to the local disk of the snapshot", Shown(from_snapshot_on_a_disk)),
)

# attached and detached

SPARE_TO = {"volumeUuid": SPARE, "vmInstanceUuid": WEB}


async def attaching(mock):
    await meanwhile(mock, "AttachDataVolumeToVm", **SPARE_TO)
    look_at(mock.cloud.get("Volume", SPARE), {"vmInstanceUuid": WEB})
    await mock.advance(10)
    look_at(mock.cloud.get("Volume", SPARE), {"vmInstanceUuid": WEB, "deviceId": 1})


async def an_attachment_that_fails(mock):
    mock.rule(api="AttachDataVolumeToVm", then={"error": "HOST.1010", "stage": "attach"})
    with pytest.raises(RuntimeError, match="VM.1005"):
        await mock.call("AttachDataVolumeToVm", **SPARE_TO)
    look_at(mock.cloud.get("Volume", SPARE), {"vmInstanceUuid": ABSENT, "deviceId": ABSENT})


async def lowest_number(mock):
    for uuid in (FIRST, SECOND):
        await made(diskOfferingUuid=DISK, resourceUuid=uuid)(mock)
        await mock.call("AttachDataVolumeToVm", volumeUuid=uuid, vmInstanceUuid=CI)
    await mock.call("DetachDataVolumeFromVm", uuid=FIRST)
    assert (await mock.create("AttachDataVolumeToVm", volumeUuid=SPARE, vmInstanceUuid=CI))["deviceId"] == 1


async def a_shareable_volume(mock):
    await made(tags=["ephemeral::shareable"], diskOfferingUuid=DISK)(mock)
    for vm in (WEB, DB):
        look_at(await mock.create("AttachDataVolumeToVm", volumeUuid=NEW, vmInstanceUuid=vm), {"vmInstanceUuid": ABSENT, "status": "Ready"})


async def without_a_host(mock):
    mock.cloud.change("VmInstance", CI, lastHostUuid=None)


FAR = {"attachedClusterUuids": [C1]}
ATTACH = (
    Fact("AttachDataVolumeToVm", "refuses a volume whose storage is in no cluster of the machine", Refused(
        after(*INSTANTIATED, changed("PrimaryStorage", NFS, attachedClusterUuids=[C2]), **SPARE_TO), "SYS.1006", "Can't attach volume to VM, no qualified cluster")),
    Fact("AttachDataVolumeToVm", "refuses to attach online to a platform Other", Refused(
        after(changed("Image", CENTOS, platform="Other"), **SPARE_TO), "SYS.1006",
        f"the vm[uuid:{WEB}] doesn't support to online attach volume[{SPARE}] on the basis of that the image platform type of the vm is other ")),
    Fact("AttachDataVolumeToVm", "attaches to a platform Other that is Stopped", leaves(changed("Image", CENTOS, platform="Other"), ATTACH_SPARE, of=("Volume", SPARE), vmInstanceUuid=CI)),
    Fact("AttachDataVolumeToVm", "refuses a root volume", Refused(
        after(volumeUuid=root_of(CI), vmInstanceUuid=WEB), "SYS.1006", "the volume[uuid:*, name:ROOT-for-ci-1] is Root Volume, can't attach it")),
    Fact("AttachDataVolumeToVm", "refuses a volume that is Disabled", Refused(
        after(("ChangeVolumeState", {"uuid": SPARE, "stateEvent": "disable"}), **SPARE_TO), "SYS.1006", f"data volume[uuid:{SPARE}] is Disabled, can't attach")),
    Fact("AttachDataVolumeToVm", "refuses a volume that is Deleted", Refused(
        after(DELETE_SPARE, **SPARE_TO), "SYS.1006", f"the volume[uuid:{SPARE}] is in status of deleted, cannot do the operation")),
    Fact("AttachDataVolumeToVm", "refuses a volume that is attached", Refused(
        {"volumeUuid": DATA, "vmInstanceUuid": WEB}, "SYS.1006", f"data volume[uuid:{DATA}] has been attached to some vm, can't attach again")),
    Fact("AttachDataVolumeToVm", "refuses a volume in another status", Refused(
        after(changed("Volume", SPARE, status="Migrating"), **SPARE_TO), "SYS.1006",
        "data volume can only be attached when status is [Ready, NotInstantiated], current is Migrating")),
    Fact("AttachDataVolumeToVm", "refuses a format of another hypervisor", Refused(
        after(*INSTANTIATED, changed("VmInstance", WEB, hypervisorType="ESX"), **SPARE_TO), "SYS.1006",
        f"data volume[uuid:{SPARE}] has format[qcow2] that can only be attached to hypervisor[KVM], but vm[uuid:{WEB}] has hypervisor type[ESX]. Can't attach")),
    Fact("AttachDataVolumeToVm", "fails for a machine without hypervisor", Refused(
        after(*INSTANTIATED, changed("VmInstance", WEB, hypervisorType=None), **SPARE_TO), "SYS.1000")),
    Fact("AttachDataVolumeToVm", "refuses more volumes than kvm/dataVolume.maxNum", Refused(
        after(configured("kvm", "dataVolume.maxNum", 1), volumeUuid=SPARE, vmInstanceUuid=DB), "SYS.1006",
        f"hypervisor[KVM] only allows max 1 data volumes to be attached to a single vm; there have been 1 data volumes attached to vm[uuid:{DB}]")),
    Fact("AttachDataVolumeToVm", "refuses a machine in another state", Refused(
        {"volumeUuid": SPARE, "vmInstanceUuid": OLD}, "VM.1005 <- VM.1010", state_text("vm.AttachDataVolumeToVmMsg", "Destroyed"))),
    Fact("AttachDataVolumeToVm", "attaches to a machine that is Paused", answers(("AttachDataVolumeToVm", {"volumeUuid": SPARE, "vmInstanceUuid": OFFICE}), vmInstanceUuid=OFFICE)),
    Fact("AttachDataVolumeToVm", "refuses a volume on storage in maintenance", Refused(
        after(*INSTANTIATED, changed("PrimaryStorage", NFS, state="Maintenance"), **SPARE_TO), "SYS.1006",
        f"cannot attach volume[uuid:{SPARE}] whose primary storage is Maintenance")),
    Fact("AttachDataVolumeToVm", "refuses a volume on the local disk of another host", Refused(
        after(with_a_local_vm, on_host(HOST4), volumeUuid=NEW, vmInstanceUuid=VM), "SYS.1006",
        f"cannot attach the data volume[uuid:{NEW}] to the vm[uuid:{VM}]. Both vm's root volume and the data volume are on local primary storage, but they are on "
        f"different hosts. The root volume[uuid:*] is on the host[uuid:{HOST3}] but the data volume[uuid: {NEW}] is on the host[uuid: {HOST4}]")),
    Fact("AttachDataVolumeToVm", "refuses a new volume for a machine that never was on a host", Refused(
        after(without_a_host, volumeUuid=SPARE, vmInstanceUuid=CI), "VM.1005 <- SYS.1006",
        f" Can not find the vm's host, please start the vm[{CI}], then mount the disk")),
    Fact("AttachDataVolumeToVm", "refuses a new volume without room", Refused(
        after(changed("Volume", SPARE, size=1 << 50), **SPARE_TO), "VM.1005 <- SYS.1006", "cannot find primary storage satisfying conditions*")),
    Fact("AttachDataVolumeToVm", "sets the machine before the work", Shown(attaching)),
    Fact("AttachDataVolumeToVm", "fails with VM.1005, and the volume is free again", Shown(an_attachment_that_fails)),
    Fact("AttachDataVolumeToVm", "takes the lowest free number", Shown(lowest_number)),
    Fact("AttachDataVolumeToVm", "instantiates a new volume", answers(
        ("AttachDataVolumeToVm", SPARE_TO), status="Ready", primaryStorageUuid=NFS, format="qcow2", installPath=bool, vmInstanceUuid=WEB, deviceId=1)),
    Fact("AttachDataVolumeToVm", "forgets the machine of a shareable volume", Shown(a_shareable_volume)),
    Fact("AttachDataVolumeToVm", "keeps a volume Ready if a later step fails", Uncovered("a stage that fails takes all stages back")),
)


async def a_machine_that_is_gone(mock):
    await take(mock, [changed("VmInstance", DB, state="Destroyed"), ("DetachDataVolumeFromVm", {"uuid": DATA})])
    look_at(mock.cloud.get("Volume", DATA), {"vmInstanceUuid": ABSENT, "deviceId": ABSENT})


DETACH = (
    Fact("DetachDataVolumeFromVm", "refuses a volume that is not attached", Refused(
        {"uuid": SPARE}, "SYS.1006", f"data volume[uuid:{SPARE}] is not attached to any vm, can't detach")),
    Fact("DetachDataVolumeFromVm", "refuses a shareable volume without vmUuid", Refused(
        after(made(tags=["ephemeral::shareable"], diskOfferingUuid=DISK), uuid=NEW), "SYS.1006", f"to detach shareable data volume[uuid:{NEW}], vm uuid is needed.")),
    Fact("DetachDataVolumeFromVm", "refuses a root volume", Refused(
        after(uuid=root_of(CI)), "SYS.1006", "the volume[uuid:*, name:ROOT-for-ci-1] is Root Volume, can't detach it")),
    Fact("DetachDataVolumeFromVm", "does not compare vmUuid with the volume", leaves(
        ("DetachDataVolumeFromVm", {"uuid": DATA, "vmUuid": WEB}), of=("Volume", DATA), vmInstanceUuid=ABSENT)),
    Fact("DetachDataVolumeFromVm", "refuses a machine in another state", Refused(
        after(changed("VmInstance", DB, state="Unknown"), uuid=DATA), "VM.1006 <- VM.1010", state_text("vm.DetachDataVolumeFromVmMsg", "Unknown"))),
    Fact("DetachDataVolumeFromVm", "looks at the state of vmUuid first", Refused(
        after(changed("VmInstance", WEB, state="Unknown"), uuid=DATA, vmUuid=WEB), "VM.1006 <- VM.1010", state_text("vm.DetachDataVolumeFromVmMsg", "Unknown"))),
    Fact("DetachDataVolumeFromVm", "succeeds for a machine that is Destroyed", Shown(a_machine_that_is_gone)),
    Fact("DetachDataVolumeFromVm", "forgets machine and number, and answers the volume after", answers(
        ("DetachDataVolumeFromVm", {"uuid": DATA}), uuid=DATA, status="Ready", vmInstanceUuid=ABSENT, deviceId=ABSENT)),
)

# deleted, recovered, expunged


async def deleted_data(mock):
    await take(mock, [changed("VmInstance", DB, state="Unknown"), ("DeleteDataVolume", {"uuid": DATA})])
    look_at(mock.cloud.get("Volume", DATA), {"status": "Deleted", "vmInstanceUuid": ABSENT, "deviceId": 1, "installPath": bool, "size": bool})
    await count("VolumeSnapshot", "volumeUuid", DATA, 2)(mock)


async def deleted_directly(mock):
    before = await free(mock)
    size = sum(item["size"] for item in (mock.cloud.get("Volume", DATA), *mock.cloud.find("VolumeSnapshot", "volumeUuid", DATA)))
    await take(mock, [DIRECT, ("DeleteDataVolume", {"uuid": DATA})])
    assert not mock.cloud.look("Volume", DATA) and not mock.cloud.find("VolumeSnapshot", "treeUuid", TREE) and not mock.cloud.look("VolumeSnapshotTree", TREE)
    assert await free(mock) - before == size


async def expunged(mock):
    await mock.call("CreateSystemTag", resourceType="VolumeVO", resourceUuid=DATA, tag="volumeMaxIncrementalSnapshotNum::9")
    before, size = await free(mock), sum(item["size"] for item in (mock.cloud.get("Volume", DATA), *mock.cloud.find("VolumeSnapshot", "volumeUuid", DATA)))
    await take(mock, [("DeleteDataVolume", {"uuid": DATA}), ("ExpungeDataVolume", {"uuid": DATA})])
    for type, key, value in (("Volume", "uuid", DATA), ("VolumeSnapshot", "treeUuid", TREE), ("VolumeSnapshotTree", "uuid", TREE), ("SystemTag", "resourceUuid", DATA)):
        assert not mock.cloud.find(type, key, value)
    assert await free(mock) - before == size


async def expunged_in_time(mock):
    await take(mock, [DELETE_SPARE])
    await mock.advance(86400 + 3600)
    assert not mock.cloud.look("Volume", SPARE)


async def expunged_root(mock):
    root = root_of(OLD)(mock)
    await mock.call("ExpungeDataVolume", uuid=root)
    assert not mock.cloud.look("Volume", root)
    look_at(mock.cloud.get("VmInstance", OLD), {"state": "Destroyed", "rootVolumeUuid": ABSENT})


async def recovered_root(mock):
    assert (await mock.create("RecoverDataVolume", uuid=root_of(OLD)(mock)))["status"] == "Ready"


async def without_host_4(mock):
    """Nobody knows on which host a deleted volume is."""
    await take(mock, [on_host(HOST4), DELETE])
    mock.cloud.remove("LocalStorageResourceRef", NEW)


async def quota_of_recovery(mock):
    await login(mock, volume_data_num=1)
    first = await mock.create("CreateDataVolume", name="a", diskOfferingUuid=DISK)
    await mock.delete("volumes", first["uuid"])
    await mock.create("CreateDataVolume", name="b", diskOfferingUuid=DISK)
    return {"uuid": first["uuid"]}


TREE = "8d103ed3cc664e979773308cdc6b13ab"
DELETED = (
    Fact("DeleteDataVolume", "succeeds for a volume that is not there", leaves(("DeleteDataVolume", {"uuid": NOBODY}), of=("Volume", SPARE), status="NotInstantiated")),
    Fact("DeleteDataVolume", "refuses a root volume", Refused(after(uuid=root_of(CI)), "SYS.1007", "volume[uuid:*] is Root volume, can't be deleted")),
    Fact("DeleteDataVolume", "refuses a volume that is Deleted", Refused(after(DELETE_SPARE, uuid=SPARE), "SYS.1006", f"volume[uuid:{SPARE}] is already in status of deleted")),
    Fact("DeleteDataVolume", "detaches a volume, even if the machine refuses it, and keeps number, place and snapshots", Shown(deleted_data)),
    Fact("DeleteDataVolume", "keeps a volume that was never instantiated, too", leaves(DELETE_SPARE, of=("Volume", SPARE), status="Deleted")),
    Fact("DeleteDataVolume", "keeps a volume under the policy Never", leaves(configured("volume", "deletionPolicy", "Never"), DELETE_SPARE, of=("Volume", SPARE), status="Deleted")),
    Fact("DeleteDataVolume", "removes volume, snapshots and space under the policy Direct", Shown(deleted_directly)),
    Fact("DeleteDataVolume", "is undone by time: the volume is expunged after expungePeriod", Shown(expunged_in_time)),
    Fact("DeleteDataVolume", "answers nothing", answers(DELETE_SPARE, inventory=ABSENT)),
    Fact("RecoverDataVolume", "refuses a volume that is not Deleted", Refused(
        {"uuid": SPARE}, "SYS.1006", f"the volume[uuid:{SPARE}] is not in status of deleted. This is operation is to recover a deleted data volume")),
    Fact("RecoverDataVolume", "refuses above the quota of data volumes", Refused(quota_of_recovery, "ID.1003")),
    Fact("RecoverDataVolume", "refuses a volume on the local disk of a host that is gone", Refused(
        after(without_host_4, uuid=NEW), "SYS.1006",
        f"the data volume[name:new, uuid:{NEW}] is on the local storage[uuid:{LOCAL}]; however,the host on which the data volume is has been deleted. "
        "Unable to recover this volume")),
    Fact("RecoverDataVolume", "takes a root volume", Shown(recovered_root)),
    Fact("RecoverDataVolume", "makes a volume with a place Ready, and does not attach it again", answers(
        ("DeleteDataVolume", {"uuid": DATA}), ("RecoverDataVolume", {"uuid": DATA}), status="Ready", vmInstanceUuid=ABSENT)),
    Fact("RecoverDataVolume", "makes a volume without a place NotInstantiated", answers(DELETE_SPARE, ("RecoverDataVolume", {"uuid": SPARE}), status="NotInstantiated")),
    Fact("ExpungeDataVolume", "succeeds for a volume that is not there", leaves(("ExpungeDataVolume", {"uuid": NOBODY}), of=("Volume", SPARE), status="NotInstantiated")),
    Fact("ExpungeDataVolume", "refuses a volume that is not Deleted", Refused(
        {"uuid": SPARE}, "SYS.1006", f"the volume[uuid:{SPARE}, name:spare] is not deleted yet, can't expunge it")),
    Fact("ExpungeDataVolume", "takes a root volume", Shown(expunged_root)),
    Fact("ExpungeDataVolume", "removes volume, snapshots, tags and space", Shown(expunged)),
    Fact("ExpungeDataVolume", "answers nothing", answers(DELETE_SPARE, EXPUNGE, inventory=ABSENT)),
)

# changed and shown


async def sizes(mock):
    await take(mock, [*INSTANTIATED, snapped("s", SPARE), ("SyncVolumeSize", {"uuid": SPARE})])
    before = mock.cloud.get("Volume", SPARE)
    assert before["actualSize"] == zmock.EMPTY_DISK + by_name(mock, "s")["size"]
    assert (await mock.create("SyncVolumeSize", uuid=SPARE))["actualSize"] == before["actualSize"]


def attachable(*steps, volume=SPARE, names):
    async def story(mock):
        await take(mock, steps)
        body = await mock.call("GetDataVolumeAttachableVm", volumeUuid=volume)
        assert {vm["name"] for vm in body["inventories"]} == set(names)

    return Shown(story)


async def attachable_to_accounts(mock):
    await login(mock)
    volume = await mock.create("CreateDataVolume", name="v", diskOfferingUuid=DISK)
    assert (await mock.call("GetDataVolumeAttachableVm", volumeUuid=volume["uuid"]))["inventories"] == []


RUNNING = ("web-1", "web-2", "web-3", "db-1", "db-2", "cache-1")
CHANGED = (
    Fact("ChangeVolumeState", "refuses a root volume", Refused(
        after(uuid=root_of(CI), stateEvent="disable"), "SYS.1006", "it's not allowed to change state of root volume, uuid:*")),
    Fact("ChangeVolumeState", "refuses a volume that is Deleted", Refused(
        after(DELETE_SPARE, uuid=SPARE, stateEvent="disable"), "SYS.1006", f"the volume[uuid:{SPARE}] is in status of deleted, cannot do the operation")),
    Fact("ChangeVolumeState", "disables an attached volume, and answers it after", answers(
        ("ChangeVolumeState", {"uuid": DATA, "stateEvent": "disable"}), state="Disabled", status="Ready", vmInstanceUuid=DB)),
    Fact("UpdateVolume", "changes name and description of a Deleted volume, and answers it after", answers(
        DELETE_SPARE, ("UpdateVolume", {"uuid": SPARE, "name": "n", "description": "d"}), name="n", description="d", status="Deleted")),
    Fact("UpdateVolume", "changes a root volume", Shown(lambda mock: mock.call("UpdateVolume", uuid=root_of(CI)(mock), name="n"))),
    Fact("SyncVolumeSize", "changes nothing of a volume that is not Ready", answers(("SyncVolumeSize", {"uuid": SPARE}), actualSize=0, size=100 * GIB)),
    Fact("SyncVolumeSize", "adds the sizes of the snapshots to the actual size", Shown(sizes)),
    Fact("GetVolumeCapabilities", "answers none for a volume that is not Ready", answers(("GetVolumeCapabilities", {"uuid": SPARE}), capabilities={})),
    Fact("GetVolumeCapabilities", "answers what the primary storage can do", answers(
        ("GetVolumeCapabilities", {"uuid": DATA}), capabilities={"MigrationInCurrentPrimaryStorage": False, "MigrationToOtherPrimaryStorage": True})),
    Fact("GetVolumeFormat", "answers the formats with their hypervisors", answers(("GetVolumeFormat", {}), formats=lambda formats: {
        "format": "qcow2", "masterHypervisorType": "KVM", "supportingHypervisorTypes": ["KVM"]} in formats)),
    Fact("GetDataVolumeAttachableVm", "refuses a root volume", Refused(after(volumeUuid=root_of(CI)), "SYS.1007", "volume[uuid:*] is Root volume, can not be attach to vm")),
    Fact("GetDataVolumeAttachableVm", "refuses a volume that is Disabled", Refused(
        after(changed("Volume", SPARE, state="Disabled"), volumeUuid=SPARE), "SYS.1007",
        f"volume[uuid:{SPARE}] is in state[Disabled], data volume can only be attached when state is Enabled")),
    Fact("GetDataVolumeAttachableVm", "refuses a volume in another status", Refused(
        after(DELETE_SPARE, volumeUuid=SPARE), "SYS.1007",
        f"volume[uuid:{SPARE}] is in status[Deleted], data volume can only be attached when status is Ready or NOTINSTANTIATED")),
    Fact("GetDataVolumeAttachableVm", "answers none for an attached volume", attachable(volume=DATA, names=())),
    Fact("GetDataVolumeAttachableVm", "answers the machines that are Running or Stopped", attachable(names=(*RUNNING, "ci-1", "ci-2"))),
    Fact("GetDataVolumeAttachableVm", "answers for a Ready volume those in clusters of its storage", attachable(
        *INSTANTIATED, changed("PrimaryStorage", NFS, attachedClusterUuids=[C2]), names=("web-3", "cache-1"))),
    Fact("GetDataVolumeAttachableVm", "answers for a Ready volume those with a hypervisor of its format", attachable(
        *INSTANTIATED, changed("VmInstance", CI, hypervisorType="ESX"), names=(*RUNNING, "ci-2"))),
    Fact("GetDataVolumeAttachableVm", "answers for a new volume those in clusters of enabled storage with room", attachable(
        changed("PrimaryStorage", NFS, state="Disabled"), names=("web-3", "cache-1"))),
    Fact("GetDataVolumeAttachableVm", "answers platform Other only if it is Stopped", attachable(
        changed("VmInstance", WEB, platform="Other"), changed("VmInstance", CI, platform="Other"), names=(*RUNNING[1:], "ci-1", "ci-2"))),
    Fact("GetDataVolumeAttachableVm", "answers for a local volume those whose root volume is on its host", attachable(with_a_local_vm, on_host(HOST3), volume=NEW, names=("local",))),
    Fact("GetDataVolumeAttachableVm", "answers those that the caller may see", Shown(attachable_to_accounts)),
    Fact("QueryVolume", "finds volumes by their fields", Shown(lambda mock: mock.query("volumes", "status=NotInstantiated", "vmInstanceUuid is null"))),
)

# local storage

TO_HOST_4 = {"volumeUuid": NEW, "destHostUuid": HOST4}
ADD = {"name": "n", "zoneUuid": ZONE}


async def migrated(mock):
    await take(mock, [on_host(HOST3), snapped("s", NEW)])
    used = {disk["hostUuid"]: disk["availableCapacity"] for disk in (await mock.call("GetLocalStorageHostDiskCapacity", primaryStorageUuid=LOCAL))["inventories"]}
    path, snapshot = mock.cloud.get(*VOLUME)["installPath"], by_name(mock, "s")
    await meanwhile(mock, "LocalStorageMigrateVolume", **TO_HOST_4)
    assert mock.cloud.get(*VOLUME)["status"] == "Migrating"
    await mock.advance(10)
    look_at(mock.cloud.get(*VOLUME), {"status": "Ready", "installPath": path})
    for uuid in (NEW, snapshot["uuid"]):
        assert mock.cloud.get("LocalStorageResourceRef", uuid)["hostUuid"] == HOST4
    for disk in (await mock.call("GetLocalStorageHostDiskCapacity", primaryStorageUuid=LOCAL))["inventories"]:
        moved = (20 * GIB + snapshot["size"]) * (1 if disk["hostUuid"] == HOST3 else -1)
        assert disk["availableCapacity"] - used[disk["hostUuid"]] == moved


async def migrated_root(mock):
    await with_a_local_vm(mock)
    before = mock.cloud.get("VmInstance", VM)
    await meanwhile(mock, "LocalStorageMigrateVolume", volumeUuid=of_local_vm(mock), destHostUuid=HOST4)
    assert mock.cloud.get("VmInstance", VM)["state"] == "VolumeMigrating"
    await mock.advance(10)
    after_it = mock.cloud.get("VmInstance", VM)
    assert (after_it["state"], after_it["lastHostUuid"], after_it["clusterUuid"]) == ("Stopped", before["lastHostUuid"], C2)


async def second_local_cluster(mock):
    """host-1's cluster gets the local storage, but not the network of the machine."""
    await with_a_local_vm(mock)
    mock.cloud.change("PrimaryStorage", LOCAL, attachedClusterUuids=[C1, C2])


async def without_network(mock):
    await second_local_cluster(mock)
    l2 = mock.cloud.get("L3Network", PRIVATE)["l2NetworkUuid"]
    mock.cloud.change("L2Network", l2, attachedClusterUuids=[C2])


async def migrated_to_another_cluster(mock):
    await second_local_cluster(mock)
    await mock.call("LocalStorageMigrateVolume", volumeUuid=of_local_vm(mock), destHostUuid=HOST1)
    assert mock.cloud.get("VmInstance", VM)["clusterUuid"] == C1


async def a_migration_that_fails(mock):
    await with_a_local_vm(mock)
    mock.rule(api="LocalStorageMigrateVolume", then={"error": "HOST.1010", "stage": "copy"})
    with pytest.raises(RuntimeError, match="HOST.1010"):
        await mock.call("LocalStorageMigrateVolume", volumeUuid=of_local_vm(mock), destHostUuid=HOST4)
    assert (mock.cloud.get("VmInstance", VM)["state"], mock.cloud.get("Volume", of_local_vm(mock))["status"]) == ("Stopped", "Ready")


def with_data_volume(mock):
    return take(mock, [with_a_local_vm, on_host(HOST3), ("AttachDataVolumeToVm", {"volumeUuid": NEW, "vmInstanceUuid": VM})])


def targets(*steps, volume=NEW, hosts):
    async def story(mock):
        await take(mock, steps)
        body = await mock.call("LocalStorageGetVolumeMigratableHosts", volumeUuid=volume(mock) if callable(volume) else volume)
        assert {host["uuid"] for host in body["inventories"]} == set(hosts)

    return Shown(story)


CONNECTED = changed("Host", HOST4, status="Connected")
ROOT_TO_HOST_4 = {"volumeUuid": of_local_vm, "destHostUuid": HOST4}


async def refs_of_local_storage(mock):
    await take(mock, [with_a_local_vm, on_host(HOST3), snapped("s", NEW)])
    refs = await mock.query("primary-storage/local-storage/resource-refs", f"hostUuid={HOST3}")
    kinds = {(ref["resourceType"], ref["resourceUuid"]) for ref in refs}
    assert {("VolumeVO", NEW), ("VolumeVO", of_local_vm(mock)), ("VolumeSnapshotVO", by_name(mock, "s")["uuid"])} == kinds
    await take(mock, [("DestroyVmInstance", {"uuid": VM}), ("ExpungeVmInstance", {"uuid": VM}), DELETE, ("ExpungeDataVolume", {"uuid": NEW})])
    assert await mock.query("primary-storage/local-storage/resource-refs", f"hostUuid={HOST3}") == []


LOCAL_STORAGE = (
    Fact("AddLocalPrimaryStorage", "refuses a url that is no absolute path", Refused({**ADD, "url": "ps"}, "SYS.1007", "the url[ps] is not an absolute path starting with '/'")),
    Fact("AddLocalPrimaryStorage", "refuses a url in /dev, /proc or /sys", Refused({**ADD, "url": "/sys/ps"}, "SYS.1007", " the url contains an invalid folder[/dev or /proc or /sys]")),
    Fact("LocalStorageMigrateVolume", "refuses a volume that is not on local storage", Refused(
        {"volumeUuid": DATA, "destHostUuid": HOST3}, "SYS.1007", f"the volume[uuid:{DATA}] is not on any local primary storage")),
    Fact("LocalStorageMigrateVolume", "refuses the host where the volume is", Refused(
        after(on_host(HOST3), volumeUuid=NEW, destHostUuid=HOST3), "SYS.1007", f"the volume[uuid:{NEW}] is already on the host[uuid:{HOST3}]")),
    Fact("LocalStorageMigrateVolume", "refuses primary storage that is not there", Refused(
        after(on_host(HOST3), changed("Volume", NEW, primaryStorageUuid=NOBODY), **TO_HOST_4), "SYS.1007", f"the primary storage[uuid:{NOBODY}] is not found")),
    Fact("LocalStorageMigrateVolume", "refuses primary storage that is Disabled or in Maintenance", Refused(
        after(on_host(HOST3), changed("PrimaryStorage", LOCAL, state="Disabled"), **TO_HOST_4), "SYS.1007",
        f"the primary storage[uuid:{LOCAL}] is disabled or maintenance cold migrate is not allowed")),
    Fact("LocalStorageMigrateVolume", "refuses a host that is not of the storage", Refused(
        after(on_host(HOST3), volumeUuid=NEW, destHostUuid=HOST1), "SYS.1007",
        f"the dest host[uuid:{HOST1}] doesn't belong to the local primary storage[uuid:{LOCAL}] where the volume[uuid:{NEW}] locates")),
    Fact("LocalStorageMigrateVolume", "refuses a disk that is full", Refused(
        after(on_host(HOST3), lambda mock: mock.incident(**{"primary-storage-full": LOCAL}), **TO_HOST_4), "SYS.1007",
        f"the dest host[uuid:{HOST4}] doesn't have enough physical capacity due to the threshold of primary storage[uuid:{LOCAL}] is 0.900000 "
        "but available physical capacity is 0")),
    Fact("LocalStorageMigrateVolume", "refuses a volume that is not Ready", Refused(
        after(on_host(HOST3), DELETE, **TO_HOST_4), "SYS.1007", f"the volume[uuid:{NEW}] is not in status of Ready, cannot migrate it")),
    Fact("LocalStorageMigrateVolume", "refuses a data volume that is attached", Refused(
        after(with_data_volume, **TO_HOST_4), "SYS.1007", f"the data volume[uuid:{NEW}, name: new] is still attached on the VM[uuid:{VM}]. Please detach it before migration")),
    Fact("LocalStorageMigrateVolume", "refuses the root volume of a machine that is not Stopped", Refused(
        after(with_a_local_vm, ("StartVmInstance", {"uuid": VM}), **ROOT_TO_HOST_4), "SYS.1006",
        f"the volume[uuid:*] is the root volume of the vm[uuid:{VM}]. Currently the vm is in state of Running, please stop it before migration")),
    Fact("LocalStorageMigrateVolume", "refuses the root volume of a machine with data volumes", Refused(
        after(with_data_volume, **ROOT_TO_HOST_4), "SYS.1006",
        f"the volume[uuid:*] is the root volume of the vm[uuid:{VM}]. Currently the vm still has 1 data volumes attached, please detach them before migration")),
    Fact("LocalStorageMigrateVolume", "fails for a machine without cluster", Refused(
        after(with_a_local_vm, changed("VmInstance", VM, clusterUuid=None), **ROOT_TO_HOST_4), "SYS.1000",
        f"The clusterUuid of vm[uuid:{VM}] cannot be null when migrate the root volume[uuid:*, name: ROOT-for-local]")),
    Fact("LocalStorageMigrateVolume", "refuses a cluster without the networks of the machine", Refused(
        after(without_network, volumeUuid=of_local_vm, destHostUuid=HOST1), "SYS.1006",
        f"The two clusters[uuid:{C2},uuid:{C1}] cannot access each other in l2 network  when migrate the vm[uuid:{VM}] to another cluster")),
    Fact("LocalStorageMigrateVolume", "moves a volume with its snapshots, and their space", Shown(migrated)),
    Fact("LocalStorageMigrateVolume", "puts the machine of a root volume into VolumeMigrating, then Stopped", Shown(migrated_root)),
    Fact("LocalStorageMigrateVolume", "moves the machine of a root volume to the cluster", Shown(migrated_to_another_cluster)),
    Fact("LocalStorageMigrateVolume", "leaves status and state as before when it fails", Shown(a_migration_that_fails)),
    Fact("LocalStorageMigrateVolume", "answers the reference", answers(
        on_host(HOST3), ("LocalStorageMigrateVolume", TO_HOST_4), resourceUuid=NEW, primaryStorageUuid=LOCAL, hostUuid=HOST4, size=20 * GIB, resourceType="VolumeVO",
        createDate=bool, lastOpDate=bool)),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers none for a volume that is elsewhere", targets(volume=DATA, hosts=())),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers Connected hosts of the storage, without the current one", targets(on_host(HOST3), CONNECTED, hosts=(HOST4,))),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers no host that is away", targets(on_host(HOST3), hosts=())),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers hosts with room", targets(on_host(HOST3), CONNECTED, changed("Volume", NEW, size=1 << 50), hosts=())),
    Fact("LocalStorageGetVolumeMigratableHosts", "answers for a root volume hosts with its networks", targets(without_network, CONNECTED, volume=of_local_vm, hosts=(HOST4,))),
    Fact("LocalStorageGetVolumeMigratableHosts", "fails for a machine without cluster", Refused(
        after(with_a_local_vm, changed("VmInstance", VM, clusterUuid=None), volumeUuid=of_local_vm), "SYS.1000",
        "*The clusterUuid of vm cannot be null when migrate the vm*")),
    Fact("GetLocalStorageHostDiskCapacity", "refuses a Connected host that is not of the storage", Refused(
        {"primaryStorageUuid": LOCAL, "hostUuid": HOST1}, "SYS.1003", f"local primary storage[uuid:{LOCAL}] doesn't have the host[uuid:{HOST1}]")),
    Fact("GetLocalStorageHostDiskCapacity", "answers zeros for another host that is away", answers(
        changed("Host", HOST1, status="Disconnected"), ("GetLocalStorageHostDiskCapacity", {"primaryStorageUuid": LOCAL, "hostUuid": HOST1}),
        inventories=[{"hostUuid": HOST1, **dict.fromkeys(zmock.STORAGE_CAPACITIES, 0)}])),
    Fact("GetLocalStorageHostDiskCapacity", "answers all hosts of the storage without hostUuid", lists(
        ("GetLocalStorageHostDiskCapacity", {"primaryStorageUuid": LOCAL}), uuids=(HOST3, HOST4), key="hostUuid")),
    Fact("QueryLocalStorageResourceRef", "finds volumes and snapshots, not cached images, until they are removed", Shown(refs_of_local_storage)),
)

# snapshots


async def quota_of_snapshots(mock):
    await login(mock, snapshot_volume_num=0)
    await mock.create("CreateDataVolume", **NEW_VOLUME, primaryStorageUuid=NFS)
    return {"volumeUuid": NEW, "name": "s"}


def in_state(state, ps_type="NFS"):
    async def step(mock):
        mock.cloud.change("VmInstance", DB, state=state)
        mock.cloud.change("PrimaryStorage", NFS, type=ps_type)

    return step


async def taking(mock):
    before, latest, space = mock.cloud.get("Volume", DATA), mock.cloud.get("VolumeSnapshot", SNAP2), await free(mock)
    await meanwhile(mock, "CreateVolumeSnapshot", volumeUuid=DATA, name="s")
    look_at(by_name(mock, "s"), {"status": "Creating", "state": "Enabled", "format": "qcow2", "volumeType": "Data", "volumeUuid": DATA, "treeUuid": TREE,
                                 "latest": True, "parentUuid": SNAP2, "primaryStorageInstallPath": ABSENT})  # fmt: skip
    assert latest["latest"] and not mock.cloud.get("VolumeSnapshot", SNAP2)["latest"]
    await mock.advance(10)
    snapshot, volume = by_name(mock, "s"), mock.cloud.get("Volume", DATA)
    look_at(snapshot, {"status": "Ready", "type": "Hypervisor", "primaryStorageUuid": NFS, "primaryStorageInstallPath": before["installPath"], "size": bool})
    assert volume["installPath"] == f"{before['installPath'].rpartition('/')[0]}/snapshots/{snapshot['uuid']}.qcow2"
    assert space - await free(mock) == snapshot["size"]


async def paths_of_a_chain(mock):
    await take(mock, [snapped("a"), snapped("b")])
    a, b, volume = by_name(mock, "a"), by_name(mock, "b"), mock.cloud.get("Volume", DATA)
    assert b["primaryStorageInstallPath"].endswith(f"vol-{DATA}/snapshots/{a['uuid']}.qcow2")
    assert volume["installPath"].endswith(f"vol-{DATA}/snapshots/{b['uuid']}.qcow2")


async def first_of_a_tree(mock):
    await take(mock, [*INSTANTIATED, snapped("a", SPARE), snapped("b", SPARE)])
    a, b = by_name(mock, "a"), by_name(mock, "b")
    look_at(a, {"parentUuid": ABSENT, "latest": False})
    look_at(b, {"parentUuid": a["uuid"], "latest": True, "treeUuid": a["treeUuid"]})
    assert mock.cloud.get("VolumeSnapshotTree", a["treeUuid"])["current"]


async def a_long_chain(mock):
    await take(mock, [*INSTANTIATED, configured("volumeSnapshot", "incrementalSnapshot.maxNum", 2), *(snapped(name, SPARE) for name in "abc")])
    a, b, c = (by_name(mock, name) for name in "abc")
    assert a["treeUuid"] == b["treeUuid"] != c["treeUuid"] and "parentUuid" not in c
    assert [mock.cloud.get("VolumeSnapshotTree", item["treeUuid"])["current"] for item in (a, c)] == [False, True]


async def a_chain_by_tag(mock):
    await take(mock, [*INSTANTIATED, ("CreateSystemTag", {"resourceType": "VolumeVO", "resourceUuid": SPARE, "tag": "volumeMaxIncrementalSnapshotNum::2"})])
    await take(mock, [snapped(name, SPARE) for name in "abc"])
    assert by_name(mock, "b")["treeUuid"] != by_name(mock, "c")["treeUuid"]


async def on_ceph(mock):
    await take(mock, INSTANTIATED)
    path = f"ceph://pool/{SPARE}"
    mock.cloud.change("Volume", SPARE, installPath=path)
    await take(mock, [snapped("a", SPARE), snapped("b", SPARE)])
    a, b = by_name(mock, "a"), by_name(mock, "b")
    look_at(a, {"type": "Storage", "primaryStorageInstallPath": f"{path}@{a['uuid']}"})
    assert mock.cloud.get("Volume", SPARE)["installPath"] == path
    trees = [mock.cloud.get("VolumeSnapshotTree", item["treeUuid"])["current"] for item in (a, b)]
    assert a["treeUuid"] != b["treeUuid"] and "parentUuid" not in b and trees == [False, True]


async def a_snapshot_that_fails(mock):
    await take(mock, INSTANTIATED)
    mock.rule(api="CreateVolumeSnapshot", then={"error": "HOST.1010", "stage": "snapshot"})
    for volume in (DATA, SPARE):
        with pytest.raises(RuntimeError, match="HOST.1010"):
            await mock.call("CreateVolumeSnapshot", volumeUuid=volume, name="s")
    assert not mock.cloud.find("VolumeSnapshot", "name", "s") and mock.cloud.get("VolumeSnapshot", SNAP2)["latest"]
    assert not mock.cloud.find("VolumeSnapshotTree", "volumeUuid", SPARE)


SNAP_DATA = {"volumeUuid": DATA, "name": "s"}
SNAPSHOTS = (
    Fact("CreateVolumeSnapshot", "refuses a volume that is not Ready", Refused(
        {"volumeUuid": SPARE, "name": "s"}, "SYS.1006", f"volume[uuid:{SPARE}] is not in status Ready, current is NotInstantiated, can't create snapshot")),
    Fact("CreateVolumeSnapshot", "refuses above the quota", Refused(quota_of_snapshots, "ID.1003")),
    Fact("CreateVolumeSnapshot", "does not look at the state of the volume", leaves(
        changed("Volume", DATA, state="Disabled"), ("CreateVolumeSnapshot", SNAP_DATA | {"resourceUuid": NEW}), of=("VolumeSnapshot", NEW), status="Ready")),
    Fact("CreateVolumeSnapshot", "refuses primary storage without snapshots", Uncovered("all primary storage of zmock has them")),
    Fact("CreateVolumeSnapshot", "refuses a machine in another state on NFS", Refused(
        after(in_state("Unknown"), **SNAP_DATA), "SYS.1006", f"vm[uuid:{DB}] is not Running, Paused or Stopped, current state is Unknown")),
    Fact("CreateVolumeSnapshot", "refuses a machine in another state on a shared mount point", Refused(
        after(in_state("Unknown", "SharedMountPoint"), **SNAP_DATA), "SYS.1006", f"vm[uuid:{DB}] is not Running, Paused or Stopped, current state is Unknown")),
    Fact("CreateVolumeSnapshot", "refuses a machine in another state on local storage", Refused(
        after(in_state("Unknown", "LocalStorage"), **SNAP_DATA), "SYS.1006", f"vm[uuid:{DB}] is not Running or Stopped, current state[Unknown]")),
    Fact("CreateVolumeSnapshot", "takes one of a machine that is Paused", leaves(
        in_state("Paused"), ("CreateVolumeSnapshot", SNAP_DATA | {"resourceUuid": NEW}), of=("VolumeSnapshot", NEW), status="Ready")),
    Fact("CreateVolumeSnapshot", "refuses a host that cannot take one of a running machine", Uncovered("the hosts of zmock can; they have no tags of capabilities")),
    Fact("CreateVolumeSnapshot", "refuses chains of one", Refused(
        after(configured("volumeSnapshot", "incrementalSnapshot.maxNum", 1), **SNAP_DATA), "SYS.1006", f"Unsupported maximum snapshot number (1) for volume [uuid:{DATA}]")),
    Fact("CreateVolumeSnapshot", "is Creating in the tree, then Ready with the volume's path, and the volume goes on in a new file", Shown(taking)),
    Fact("CreateVolumeSnapshot", "puts the files of a chain beside the volume", Shown(paths_of_a_chain)),
    Fact("CreateVolumeSnapshot", "begins a tree that is current, then goes on below the latest", Shown(first_of_a_tree)),
    Fact("CreateVolumeSnapshot", "begins a new tree after incrementalSnapshot.maxNum", Shown(a_long_chain)),
    Fact("CreateVolumeSnapshot", "begins a new tree after the number of a tag of the volume", Shown(a_chain_by_tag)),
    Fact("CreateVolumeSnapshot", "makes each snapshot of Ceph a tree of its own, and leaves the volume's path", Shown(on_ceph)),
    Fact("CreateVolumeSnapshot", "leaves nothing when it fails, and the parent is the latest again", Shown(a_snapshot_that_fails)),
    Fact("CreateVolumeSnapshot", "answers the snapshot", answers(("CreateVolumeSnapshot", SNAP_DATA), name="s", volumeUuid=DATA, status="Ready", latest=True)),
    Fact("UpdateVolumeSnapshot", "changes name and description, whatever the status, and answers it after", answers(
        changed("VolumeSnapshot", SNAP1, status="Deleting"), ("UpdateVolumeSnapshot", {"uuid": SNAP1, "name": "n", "description": "d"}), name="n", description="d")),
)


async def a_branch(mock):
    await take(mock, [snapped("a"), snapped("b")])
    before, sizes, volume = await free(mock), [by_name(mock, name)["size"] for name in "ab"], mock.cloud.get("Volume", DATA)
    await meanwhile(mock, "DeleteVolumeSnapshot", uuid=by_name(mock, "a")["uuid"])
    assert [by_name(mock, name)["status"] for name in "ab"] == ["Deleting", "Deleting"]
    await mock.advance(10)
    assert not mock.cloud.find("VolumeSnapshot", "name", "a") and not mock.cloud.find("VolumeSnapshot", "name", "b")
    assert mock.cloud.get("VolumeSnapshot", SNAP2)["latest"] and mock.cloud.get("VolumeSnapshotTree", TREE)
    assert await free(mock) - before == sum(sizes)
    look_at(mock.cloud.get("Volume", DATA), {"installPath": volume["installPath"], "size": volume["size"]})


async def a_merge_that_fails(mock):
    mock.rule(api="DeleteVolumeSnapshot", then={"error": "HOST.1010", "stage": "merge"})
    with pytest.raises(RuntimeError, match="SYS.1004"):
        await mock.call("DeleteVolumeSnapshot", uuid=SNAP1)
    assert [mock.cloud.get("VolumeSnapshot", uuid)["status"] for uuid in (SNAP1, SNAP2)] == ["Ready", "Ready"]


async def outside_the_current_tree(mock):
    await take(mock, [changed("VmInstance", DB, state="Unknown"), changed("VolumeSnapshotTree", TREE, current=False), ("DeleteVolumeSnapshot", {"uuid": SNAP1})])
    assert not mock.cloud.look("VolumeSnapshot", SNAP1)


DELETED_SNAPSHOTS = (
    Fact("DeleteVolumeSnapshot", "succeeds for a snapshot that is not there", leaves(
        ("DeleteVolumeSnapshot", {"uuid": NOBODY}), of=("VolumeSnapshot", SNAP1), status="Ready")),
    Fact("DeleteVolumeSnapshot", "refuses a snapshot that is Deleted", Refused(
        after(changed("VolumeSnapshot", SNAP2, status="Deleted"), uuid=SNAP2), "SYS.1004 <- VOLUME_SNAPSHOT.1000",
        f"snapshot[uuid:{SNAP2}, name:before-upgrade-2]'s status[Deleted] is not allowed for message[*], allowed status[Ready, Deleting, Creating]")),
    Fact("DeleteVolumeSnapshot", "ignores with Enforcing that the snapshot is Deleted, and leaves it", leaves(
        changed("VolumeSnapshot", SNAP2, status="Deleted"), ("DeleteVolumeSnapshot", {"uuid": SNAP2, "deleteMode": "Enforcing"}),
        of=("VolumeSnapshot", SNAP2), status="Deleted")),
    Fact("DeleteVolumeSnapshot", "takes a snapshot that is Deleting or Creating", gone(
        changed("VolumeSnapshot", SNAP2, status="Creating"), ("DeleteVolumeSnapshot", {"uuid": SNAP2}), of=("VolumeSnapshot", SNAP2))),
    Fact("DeleteVolumeSnapshot", "refuses a merge while the machine is neither Running nor Stopped", Refused(
        after(changed("VmInstance", DB, state="Paused"), uuid=SNAP2), "SYS.1004 <- SYS.1006",
        f"cannot do volume snapshot merge when vm[uuid:{DATA}] is in state of Paused. The operation is only allowed when vm is Running or Stopped")),
    Fact("DeleteVolumeSnapshot", "ignores with Enforcing that a merge fails, and leaves it", leaves(
        changed("VmInstance", DB, state="Unknown"), ("DeleteVolumeSnapshot", {"uuid": SNAP1, "deleteMode": "Enforcing"}),
        of=("VolumeSnapshot", SNAP1), status="Ready")),
    Fact("DeleteVolumeSnapshot", "merges nothing outside the current tree", Shown(outside_the_current_tree)),
    Fact("DeleteVolumeSnapshot", "removes a snapshot with all below it and their space, and the parent is the latest", Shown(a_branch)),
    Fact("DeleteVolumeSnapshot", "removes the tree with its first snapshot", gone(("DeleteVolumeSnapshot", {"uuid": SNAP1}), of=("VolumeSnapshotTree", TREE))),
    Fact("DeleteVolumeSnapshot", "leaves them Ready when the merge fails", Shown(a_merge_that_fails)),
    Fact("DeleteVolumeSnapshot", "keeps a snapshot that still has primary storage at the end", Uncovered("bits are always deleted")),
    Fact("DeleteVolumeSnapshot", "answers nothing", answers(("DeleteVolumeSnapshot", {"uuid": SNAP1}), inventory=ABSENT)),
)


async def orphaned(mock):
    """SNAP1 and SNAP2 have lost their volume."""
    for type, uuid in (("VolumeSnapshot", SNAP1), ("VolumeSnapshot", SNAP2), ("VolumeSnapshotTree", TREE)):
        mock.cloud.change(type, uuid, volumeUuid=None)


async def reverted(mock):
    await take(mock, [STOP_DB, snapped("s")])
    before = mock.cloud.get("Volume", DATA)
    assert not await mock.call("RevertVolumeFromSnapshot", uuid=SNAP1)
    assert mock.cloud.get("Volume", DATA)["installPath"] != before["installPath"]
    assert [snapshot["uuid"] for snapshot in mock.cloud.find("VolumeSnapshot", "treeUuid", TREE) if snapshot["latest"]] == [SNAP1]
    assert len(mock.cloud.find("VolumeSnapshot", "treeUuid", TREE)) == 3
    await take(mock, [snapped("next")])
    assert by_name(mock, "next")["parentUuid"] == SNAP1


async def reverted_to_another_tree(mock):
    await take(mock, [*INSTANTIATED, configured("volumeSnapshot", "incrementalSnapshot.maxNum", 2), *(snapped(name, SPARE) for name in "abc")])
    await mock.call("RevertVolumeFromSnapshot", uuid=by_name(mock, "a")["uuid"])
    trees = {tree["uuid"] for tree in mock.cloud.find("VolumeSnapshotTree", "volumeUuid", SPARE) if tree["current"]}
    assert trees == {by_name(mock, "a")["treeUuid"]}


async def reverted_size(mock):
    await take(mock, [*INSTANTIATED, snapped("s", SPARE), ("ResizeDataVolume", {"uuid": SPARE, "size": 130 * GIB})])
    before = await free(mock)
    await mock.call("RevertVolumeFromSnapshot", uuid=by_name(mock, "s")["uuid"])
    assert (mock.cloud.get("Volume", SPARE)["size"], await free(mock) - before) == (100 * GIB, 30 * GIB)


async def a_tree_in_full(mock):
    (tree,) = await mock.query("volume-snapshots/trees", f"volumeUuid={DATA}")
    leaf = tree["tree"]
    assert (leaf["inventory"]["uuid"], leaf["children"][0]["inventory"]["uuid"], leaf["children"][0]["parentUuid"]) == (SNAP1, SNAP2, SNAP1)


async def reverted_after_deletion(mock):
    await take(mock, [("DeleteDataVolume", {"uuid": DATA}), ("RevertVolumeFromSnapshot", {"uuid": SNAP1})])
    assert len(await mock.query("volume-snapshots", f"volumeUuid={DATA}")) == 2
    assert mock.cloud.get("VolumeSnapshot", SNAP1)["latest"]


REVERTED = (
    Fact("RevertVolumeFromSnapshot", "refuses a snapshot that is not Enabled", Refused(
        after(STOP_DB, changed("VolumeSnapshot", SNAP1, state="Disabled"), uuid=SNAP1), "SYS.1006",
        f"volume snapshot[uuid:{SNAP1}] is in state Disabled, cannot revert volume to it")),
    Fact("RevertVolumeFromSnapshot", "refuses a snapshot without a volume", Refused(
        after(orphaned, uuid=SNAP1), "SYS.1006", f"original volume for snapshot[uuid:{SNAP1}] has been deleted, cannot revert volume to it")),
    Fact("RevertVolumeFromSnapshot", "refuses a snapshot that is not Ready", Refused(
        after(STOP_DB, changed("VolumeSnapshot", SNAP1, status="Deleting"), uuid=SNAP1), "VOLUME_SNAPSHOT.1000",
        f"snapshot[uuid:{SNAP1}, name:before-upgrade-1]'s status[Deleting] is not allowed for message[{HEADER}storage.snapshot.APIRevertVolumeFromSnapshotMsg], *")),
    Fact("RevertVolumeFromSnapshot", "refuses a machine that is not Stopped", Refused(
        {"uuid": SNAP1}, "SYS.1006",
        f"unable to reset volume[uuid:{DATA}] to snapshot[uuid:{SNAP1}], the vm[uuid:{DB}] volume attached to is not in Stopped state, current state is Running")),
    Fact("RevertVolumeFromSnapshot", "gives the volume a new file, the snapshot is the latest, and the others stay", Shown(reverted)),
    Fact("RevertVolumeFromSnapshot", "makes its tree the only current one", Shown(reverted_to_another_tree)),
    Fact("RevertVolumeFromSnapshot", "gives the volume its size back, with the space", Shown(reverted_size)),
    Fact("QueryVolumeSnapshot", "finds snapshots by their fields", Shown(lambda mock: mock.query("volume-snapshots", f"treeUuid={TREE}", "latest=true"))),
    Fact("QueryVolumeSnapshotTree", "answers the whole tree", Shown(a_tree_in_full)),
    Fact("RevertVolumeFromSnapshot", "takes a snapshot of a Deleted volume, whose snapshots are listed", Shown(reverted_after_deletion)),
)

# what happens by itself


async def without_primary_storage(mock):
    mock.cloud.change("PrimaryStorage", NFS, attachedClusterUuids=[])
    await mock.call("DeletePrimaryStorage", uuid=NFS)


async def without_account(mock):
    await login(mock)
    account = (await mock.query("accounts", "name=dev"))[0]["uuid"]
    await mock.call("CreateDataVolume", **NEW_VOLUME)
    await mock.login()
    await mock.delete("accounts", account)


async def a_machine_removed(mock):
    root = root_of(OLD)(mock)
    await mock.call("ExpungeVmInstance", uuid=OLD)
    assert not mock.cloud.look("Volume", root)


CASCADES = (
    Fact("DeletePrimaryStorage", "removes the rows of its data volumes", gone(without_primary_storage, of=("Volume", DATA))),
    Fact("DeletePrimaryStorage", "leaves the snapshots without a volume", leaves(without_primary_storage, of=("VolumeSnapshot", SNAP1), volumeUuid=ABSENT, status="Ready")),
    Fact("DeleteAccount", "deletes its data volumes by their policy", leaves(without_account, status="Deleted")),
    Fact("DeleteAccount", "removes its data volumes under the policy Direct", gone(DIRECT, without_account)),
    Fact("DeleteDiskOffering", "changes nothing of its volumes", leaves(
        changed("Volume", SPARE, diskOfferingUuid=DISK), ("DeleteDiskOffering", {"uuid": DISK}), of=("Volume", SPARE), diskOfferingUuid=DISK)),
    Fact("ExpungeVmInstance", "removes the volumes that are still its", Shown(a_machine_removed)),
    Fact("DeleteImage", "leaves the rootImageUuid of volumes", Shown(lambda mock: take(mock, [("DeleteImage", {"uuid": CENTOS})]))),
)

FACTS = (*CREATE, *CREATE_FROM_TEMPLATE, *CREATE_FROM_SNAPSHOT, *ATTACH, *DETACH, *DELETED, *CHANGED, *LOCAL_STORAGE, *SNAPSHOTS, *DELETED_SNAPSHOTS, *REVERTED, *CASCADES)


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts_of_volumes(each_dialect, fact):
    await check(fact, each_dialect)
