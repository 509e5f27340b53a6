"""Facts of the server on images, offerings, long jobs, GC jobs and deleteMode: a case for each, in both dialects."""

import json

import pytest
from asking import each, failure, one, submit
from facts import Fact, Refused, Shown, Uncovered, chain, check, error_of

from zmock import ADMIN, SHA512_OF_PASSWORD, ApiError, named, serve

BS, ZONE, CENTOS, DEBIAN, NOBODY = (named(name) for name in ("bs-1", "zone-1", "image-centos7", "image-debian9", "nobody"))
WEB, DATA, SPARE, SNAPSHOT, NFS = (named(name) for name in ("vm-web-1", "volume-db-data-1", "volume-spare", "snapshot-1", "ps-nfs"))
HOST, SMALL, DISK, PRIVATE = (named(name) for name in ("host-1", "offering-small", "disk-20g", "l3-private"))
GIB, DAY = 1 << 30, 86400
IMAGE = {"name": "i", "url": "http://mirror.example.com/a/i.qcow2", "format": "qcow2", "backupStorageUuids": [BS]}
CONDITIONS = "available capacity > %s bytes, status = Connected, state = Enabled"
TO_DATA = {"name": "t", "volumeUuid": DATA}
OFFERING = {"name": "o", "cpuNum": 1, "memorySize": GIB}


# states


def changed(type, uuid, params, **changes):
    """A state in which fields of an object have other values."""

    async def state(mock):
        mock.cloud.change(type, uuid, **changes)
        return params

    return state


def away(params, **changes):
    return changed("BackupStorage", BS, params, **(changes or {"status": "Disconnected"}))


async def root_of(mock, vm="web-1"):
    return (await one(mock, "volumes", f"name=ROOT-for-{vm}"))["uuid"]


async def image_of(mock, uuid):
    (image,) = await mock.query("images", f"uuid={uuid}") or [None]
    return image


async def second(mock, **more):
    """Another backup storage, attached to the zone."""
    bs = await mock.create("AddSftpBackupStorage", name="b2", url="/b2", hostname="h", username="r", password="p", **more)
    await mock.call("AttachBackupStorageToZone", backupStorageUuid=bs["uuid"], zoneUuid=ZONE)
    return bs["uuid"]


async def twice(mock):
    """An image on two backup storages."""
    return (await mock.create("AddImage", **IMAGE | {"backupStorageUuids": [BS, await second(mock)]}))["uuid"]


async def account(mock, **quotas):
    """Log in as a new account with quotas."""
    made = await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
    for quota, value in quotas.items():
        await mock.call("UpdateQuota", identityUuid=made["uuid"], name=quota.replace("_", "."), value=value)
    await mock.call("ShareResource", resourceUuids=[DISK, SMALL, CENTOS, PRIVATE], toPublic=True)
    mock.admin = mock.session
    await mock.login("ann")
    return made["uuid"]


async def volume_of_account(mock):
    return (await mock.create("CreateDataVolume", name="v", diskOfferingUuid=DISK, primaryStorageUuid=NFS))["uuid"]


def statuses(image):
    return image["status"], [ref["status"] for ref in image["backupStorageRefs"]]


async def causes_of(mock, api, params):
    error = await error_of(mock, api, params)
    return error["code"], error["details"], [(cause["code"], cause["details"]) for cause in error.get("causes", ())]


async def room(mock, uuid=BS):
    return (await one(mock, "backup-storage", f"uuid={uuid}"))["availableCapacity"]


async def meanwhile(mock, api, path, params):
    """Submit a call that takes a while: the image that it makes, before it is complete."""
    mock.rule(api=api, delay=30, times=1)
    await submit(mock, "POST", path, {"params": params})
    return await one(mock, "images", f"name={params['name']}")


# AddImage


async def takes_corrections(mock):
    iso = await mock.create("AddImage", **IMAGE | {"mediaType": "ISO", "url": "/a/b.iso"})
    assert (iso["format"], iso["mediaType"], iso["url"], iso["platform"]) == ("iso", "ISO", "file:///a/b.iso", "Linux")
    plain = await mock.create("AddImage", **IMAGE)
    assert (plain["mediaType"], plain["platform"]) == ("RootVolumeTemplate", "Linux")
    given = await mock.create("AddImage", **IMAGE | {"format": "iso", "mediaType": "DataVolumeTemplate", "platform": "Windows"})
    assert (given["mediaType"], given["format"], given["platform"]) == ("ISO", "iso", "Windows")


async def drops_unusable_storage(mock):
    other = await second(mock)
    await mock.call("ChangeBackupStorageState", uuid=other, stateEvent="disable")
    image = await mock.create("AddImage", **IMAGE | {"backupStorageUuids": [other, BS]})
    assert [ref["backupStorageUuid"] for ref in image["backupStorageRefs"]] == [BS]


async def needs_no_zone(mock):
    bs = await mock.create("AddSftpBackupStorage", name="b", url="/b", hostname="h", username="r", password="p")
    assert (await mock.create("AddImage", **IMAGE | {"backupStorageUuids": [bs["uuid"]]}))["status"] == "Ready"


def over(quota, value, params):
    """A state in which a new account calls, whose quota is small."""

    async def state(mock):
        await account(mock, **{quota: value})
        return params

    return state


async def fails_on_all(mock):
    mock.cloud.change("BackupStorage", BS, availableCapacity=50 * GIB)  # 40 GiB are taken
    code, details, causes = await causes_of(mock, "AddImage", IMAGE)
    assert (code, details) == ("SYS.1002", f"Failed to download image[name:i] on all backup storage[{BS}].")
    place = f"the backup storage[uuid:{BS}, name:bs-1] has not enough capacity to download the image[i]"
    assert causes == [("SYS.1006", f"{place}.Required size:{10 * GIB}, available size:{10 * GIB}")]
    assert await mock.query("images", "name=i") == []


async def error_of_job(mock, job):
    return (await mock.request("GET", f"/api-jobs/{job}"))[1]["error"]


async def fails_if_disconnected(mock):
    mock.rule(api="AddImage", delay=30)
    job = await submit(mock, "POST", "/images", {"params": IMAGE})
    mock.cloud.change("BackupStorage", BS, status="Disconnected")
    await mock.advance(30)
    error = await error_of_job(mock, job)
    assert (error["code"], error["causes"][0]["code"]) == ("SYS.1002", "SYS.1006")
    assert error["causes"][0]["details"].endswith("because its status is Disconnected") and await mock.query("images", "name=i") == []


async def fails_if_deleted_meanwhile(mock):
    mock.rule(api="AddImage", delay=30)
    job = await submit(mock, "POST", "/images", {"params": IMAGE})
    image = await one(mock, "images", "name=i")
    await mock.delete("images", image["uuid"])
    await mock.advance(30)
    error = await error_of_job(mock, job)
    assert (error["code"], error["details"]) == ("SYS.1006", f"image [uuid:{image['uuid']}] has been deleted")


async def begins_downloading(mock):
    image = await meanwhile(mock, "AddImage", "/images", IMAGE)
    assert (image["status"], image["state"], image["size"]) == ("Downloading", "Enabled", 0)
    assert [(ref["status"], ref["installPath"]) for ref in image["backupStorageRefs"]] == [("Downloading", "")]
    assert not {"md5Sum", "actualSize"} & image.keys()


async def ends_ready(mock):
    image = await mock.create("AddImage", **IMAGE | {"url": "http://joe:secret@mirror.example.com/a/i.qcow2"})
    assert statuses(image) == ("Ready", ["Ready"])
    assert image["size"] == image["actualSize"] == 10 * GIB and len(image["md5Sum"]) == 32
    assert image["url"] == "http://joe@mirror.example.com/a/i.qcow2"


async def ends_at_a_path(mock):
    uuids = {}
    for media, path in (("RootVolumeTemplate", "rootVolumeTemplates/acct-%s/%s/i.template"), ("DataVolumeTemplate", "dataVolumeTemplates/acct-%s/%s/i.volume"),
                        ("ISO", "dataVolumeTemplates/acct-%s/%s/i.iso")):  # fmt: skip
        image = await mock.create("AddImage", **IMAGE | {"mediaType": media})
        uuids[media] = image["uuid"]
        assert image["backupStorageRefs"][0]["installPath"] == "/zstack_bs/" + path % (ADMIN, image["uuid"])
    assert len(uuids) == 3


async def leaves_out_what_fails(mock):
    full = await second(mock)
    mock.cloud.change("BackupStorage", full, availableCapacity=GIB)
    image = await mock.create("AddImage", **IMAGE | {"backupStorageUuids": [full, BS]})
    assert [ref["backupStorageUuid"] for ref in image["backupStorageRefs"]] == [BS]


async def waits_for_an_upload(mock):
    image = await mock.create("AddImage", **IMAGE | {"url": "upload://i.qcow2"})
    assert statuses(image) == ("Downloading", ["Downloading"])
    await mock.advance(29)
    assert await image_of(mock, image["uuid"])
    await mock.advance(2)
    assert await image_of(mock, image["uuid"]) is None


async def takes_space(mock):
    before = await room(mock)
    image = await mock.create("AddImage", **IMAGE)
    assert before - await room(mock) == image["size"]


# templates


async def takes_platform_of_vm(mock):
    mock.cloud.change("VmInstance", WEB, platform="Windows")
    mock.cloud.change("Image", CENTOS, guestOsType="CentOS 7")
    root = await root_of(mock)
    image = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=root)
    assert (image["platform"], image["guestOsType"]) == ("Windows", "CentOS 7")
    given = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=root, platform="Other", guestOsType="x")
    assert (given["platform"], given["guestOsType"]) == ("Other", "x")
    without = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=DATA)
    assert without["platform"] == "Linux"


def root_template(**more):
    async def params(mock):
        return {"name": "t", "rootVolumeUuid": await root_of(mock)} | more

    return params


async def full_for_root(mock):
    mock.cloud.change("BackupStorage", BS, availableCapacity=50 * GIB)
    return {"name": "t", "rootVolumeUuid": await root_of(mock)}


async def root_of_starting(mock):
    mock.cloud.change("VmInstance", WEB, state="Starting")
    return {"name": "t", "rootVolumeUuid": await root_of(mock)}


async def root_on_disabled(mock):
    mock.cloud.change("BackupStorage", BS, state="Disabled")
    return {"name": "t", "rootVolumeUuid": await root_of(mock), "backupStorageUuids": [BS]}


async def error_of_starting_says_why(mock):
    error = chain(await error_of(mock, "CreateRootVolumeTemplateFromRootVolume", await root_of_starting(mock)))
    root = await root_of(mock)
    assert error[0]["details"] == f"failed to create image from root volume[uuid:{root}] on all backup storage, see cause for one of errors"


async def template_begins_downloading(mock):
    root = await root_of(mock)
    image = await meanwhile(mock, "CreateRootVolumeTemplateFromRootVolume", f"/images/root-volume-templates/from/volumes/{root}", {"name": "t"})
    volume = await one(mock, "volumes", f"uuid={root}")
    assert statuses(image) == ("Downloading", ["Creating"])
    assert (image["url"], image["format"], image["mediaType"]) == (f"volume://{root}", volume["format"], "RootVolumeTemplate")
    assert (image["size"], image["actualSize"]) == (volume["size"], volume["actualSize"])
    assert image["backupStorageRefs"][0]["installPath"] == ""


async def template_ends_ready(mock):
    root = await root_of(mock)
    image = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=root)
    assert statuses(image) == ("Ready", ["Ready"]) and "md5Sum" not in image
    assert image["backupStorageRefs"][0]["installPath"].endswith(f"/rootVolumeTemplates/acct-{ADMIN}/{image['uuid']}/{image['uuid']}.template")
    assert (await one(mock, "vm-instances", f"uuid={WEB}"))["state"] == "Running"


async def template_copies_qemuga(mock):
    root = await root_of(mock)
    plain = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=root)
    mock.cloud.add("SystemTag", resourceUuid=WEB, resourceType="VmInstanceVO", tag="qemuga")
    tagged = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=root)
    found = await mock.query("system-tags", "tag=qemuga", "resourceType=ImageVO")
    assert [tag["resourceUuid"] for tag in found] == [tagged["uuid"]] != [plain["uuid"]]


async def template_belongs_to_the_owner(mock):
    await account(mock)
    mine = await volume_of_account(mock)
    mock.session = mock.admin
    image = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=mine)
    other = await mock.create("CreateDataVolumeTemplateFromVolume", name="d", volumeUuid=mine)
    await mock.login("ann")
    assert [row["uuid"] for row in await mock.query("images", "name?=t,d")] == [image["uuid"]] != [other["uuid"]]


async def template_leaves_out_storage(mock):
    full = await second(mock)
    mock.cloud.change("BackupStorage", full, availableCapacity=GIB)
    image = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=await root_of(mock), backupStorageUuids=[full, BS])
    assert [ref["backupStorageUuid"] for ref in image["backupStorageRefs"]] == [BS]


async def template_takes_one_storage(mock):
    await second(mock)
    image = await mock.create("CreateRootVolumeTemplateFromRootVolume", name="t", rootVolumeUuid=await root_of(mock))
    assert len(image["backupStorageRefs"]) == 1


async def number_is_refused(mock):
    await account(mock, image_num=0)
    volume = await volume_of_account(mock)
    for api, params in (("CreateRootVolumeTemplateFromRootVolume", {"rootVolumeUuid": volume}), ("CreateDataVolumeTemplateFromVolume", {"volumeUuid": volume})):
        error = await error_of(mock, api, params | {"name": "t"})
        assert error["code"] == "ID.1003" and "image.num" in error["details"]


async def snapshot_has_no_quota(mock):
    await account(mock, image_num=0)
    snapshot = await mock.create("CreateVolumeSnapshot", name="s", volumeUuid=await volume_of_account(mock))
    body = await mock.call("CreateRootVolumeTemplateFromVolumeSnapshot", name="t", snapshotUuid=snapshot["uuid"], backupStorageUuids=[BS])
    assert body["inventory"]["status"] == "Ready"


async def snapshot_fails_on_all(mock):
    params = {"name": "t", "snapshotUuid": SNAPSHOT, "backupStorageUuids": [BS]}
    mock.cloud.change("BackupStorage", BS, state="Disabled")
    code, details, causes = await causes_of(mock, "CreateRootVolumeTemplateFromVolumeSnapshot", params)
    assert (code, details) == ("SYS.1006", f"failed to create template from the volume snapshot[uuid:{SNAPSHOT}] on backup storage[uuids:[{BS}]]")
    assert [code for code, _ in causes] == ["SYS.1006"] and causes[0][1].endswith(f"or it doesn't attach to zone[uuid:{ZONE}]")
    assert await mock.query("images", "name=t") == []


async def snapshot_is_not_ready(mock):
    params = {"name": "t", "snapshotUuid": SNAPSHOT, "backupStorageUuids": [BS]}
    mock.cloud.change("VolumeSnapshot", SNAPSHOT, status="Creating")
    code, _, causes = await causes_of(mock, "CreateRootVolumeTemplateFromVolumeSnapshot", params)
    assert code == "SYS.1006" and causes[0][0] == "VOLUME_SNAPSHOT.1000" and "'s status[Creating] is not allowed for message[" in causes[0][1]


async def snapshot_becomes_image(mock):
    snapshot = await one(mock, "volume-snapshots", f"uuid={SNAPSHOT}")
    params = {"name": "t", "backupStorageUuids": [BS], "system": True}
    image = await meanwhile(mock, "CreateRootVolumeTemplateFromVolumeSnapshot", f"/images/root-volume-templates/from/volume-snapshots/{SNAPSHOT}", params)
    assert (image["status"], image["url"], image["format"], image["system"]) == ("Creating", f"volumeSnapshot://{SNAPSHOT}", snapshot["format"], True)
    await mock.advance(30)
    image = await image_of(mock, image["uuid"])
    assert statuses(image) == ("Ready", ["Ready"]) and (image["actualSize"], image["platform"]) == (snapshot["size"], "Linux")


async def snapshot_takes_platform(mock):
    snapshot = await mock.create("CreateVolumeSnapshot", name="s", volumeUuid=await root_of(mock))
    mock.cloud.change("VmInstance", WEB, platform="Windows")
    mock.cloud.change("Image", CENTOS, guestOsType="CentOS 7")
    body = await mock.call("CreateRootVolumeTemplateFromVolumeSnapshot", name="t", snapshotUuid=snapshot["uuid"], backupStorageUuids=[BS])
    assert (body["inventory"]["platform"], body["inventory"]["guestOsType"]) == ("Windows", "CentOS 7")
    assert body.keys() == {"inventory"}


async def snapshot_tells_failures(mock):
    full = await second(mock)
    mock.cloud.change("BackupStorage", full, state="Disabled")
    body = await mock.call("CreateRootVolumeTemplateFromVolumeSnapshot", name="t", snapshotUuid=SNAPSHOT, backupStorageUuids=[full, BS])
    assert [ref["backupStorageUuid"] for ref in body["inventory"]["backupStorageRefs"]] == [BS]
    assert [(part["backupStorageUuid"], part["error"]["code"]) for part in body["failures"]] == [(full, "SYS.1006")]


async def data_template(mock):
    image = await meanwhile(mock, "CreateDataVolumeTemplateFromVolume", f"/images/data-volume-templates/from/volumes/{DATA}", {"name": "t"})
    volume = await one(mock, "volumes", f"uuid={DATA}")
    assert (image["status"], image["url"], image["mediaType"], image["system"]) == ("Creating", f"volume://{DATA}", "DataVolumeTemplate", False)
    await mock.advance(30)
    image = await image_of(mock, image["uuid"])
    assert statuses(image) == ("Ready", ["Ready"]) and not {"platform", "guestOsType", "md5Sum"} & image.keys()
    assert (image["size"], image["actualSize"]) == (volume["size"], volume["actualSize"])


async def data_template_of_root(mock):
    mock.cloud.change("VmInstance", WEB, state="Starting")
    image = await mock.create("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=await root_of(mock))
    assert image["status"] == "Ready"


async def data_disconnected(mock):
    mock.cloud.change("BackupStorage", BS, status="Disconnected")
    return TO_DATA


# what is done with images


async def updates_anything(mock):
    mock.cloud.change("Image", CENTOS, status="Deleted")
    values = {"name": "n", "description": "d", "guestOsType": "g", "mediaType": "ISO", "format": "raw", "system": True, "platform": "Other"}
    image = await mock.create("UpdateImage", uuid=CENTOS, **values)
    assert {name: image[name] for name in values} == values
    assert (await one(mock, "vm-instances", f"uuid={WEB}"))["platform"] == "Linux"


async def changes_state_of_any(mock):
    mock.cloud.change("Image", CENTOS, status="Deleted")
    for event, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
        assert (await mock.create("ChangeImageState", uuid=CENTOS, stateEvent=event))["state"] == state


async def deletes_later(mock):
    vm = await one(mock, "vm-instances", f"uuid={WEB}")
    before = await room(mock)
    assert await mock.call("DeleteImage", uuid=CENTOS) in ({}, None, "")
    assert statuses(await image_of(mock, CENTOS)) == ("Deleted", ["Deleted"])
    assert (await one(mock, "vm-instances", f"uuid={WEB}"), await room(mock)) == (vm, before)
    assert await mock.query("primary-storage/imagecache", f"imageUuid={CENTOS}")


async def deletes_what_is_gone(mock):
    assert await error_of(mock, "DeleteImage", {"uuid": NOBODY}) == {}


async def elsewhere(mock):
    return {"uuid": CENTOS, "backupStorageUuids": [await second(mock)]}


async def deletes_one_of_two(mock):
    image = await twice(mock)
    await mock.call("DeleteImage", uuid=image, backupStorageUuids=[BS])
    assert statuses(await image_of(mock, image)) == ("Ready", ["Deleted", "Ready"])
    await mock.call("DeleteImage", uuid=image)
    assert statuses(await image_of(mock, image)) == ("Deleted", ["Deleted", "Deleted"])


async def deletes_at_once_on_its_way(mock):
    image = await meanwhile(mock, "AddImage", "/images", IMAGE)
    await mock.call("DeleteImage", uuid=image["uuid"])
    assert await image_of(mock, image["uuid"]) is None


async def deletes_without_refs(mock):
    mock.cloud.change("Image", DEBIAN, backupStorageRefs=[])
    await mock.call("DeleteImage", uuid=DEBIAN)
    assert await image_of(mock, DEBIAN) is None


async def policy(mock, value):
    await mock.call("UpdateGlobalConfig", category="image", name="deletionPolicy", value=value)


async def deletes_directly(mock):
    await policy(mock, "Direct")
    image, before = await twice(mock), await room(mock)
    await mock.call("DeleteImage", uuid=image, backupStorageUuids=[BS])
    assert statuses(await image_of(mock, image)) == ("Ready", ["Ready"])
    assert await room(mock) - before == 10 * GIB
    await mock.call("DeleteImage", uuid=image)
    assert await image_of(mock, image) is None


async def keeps_what_it_cannot_delete(mock):
    await policy(mock, "Direct")
    mock.cloud.change("BackupStorage", BS, status="Disconnected")
    await mock.call("DeleteImage", uuid=CENTOS)
    assert statuses(await image_of(mock, CENTOS)) == ("Ready", ["Ready"])


async def deletes_never(mock):
    await policy(mock, "Never")
    await mock.call("DeleteImage", uuid=CENTOS)
    await mock.advance(9 * DAY)
    await mock.login()
    assert statuses(await image_of(mock, CENTOS)) == ("Deleted", ["Deleted"])


async def deletes_again(mock):
    for _ in range(2):
        await mock.call("DeleteImage", uuid=CENTOS)
        assert statuses(await image_of(mock, CENTOS)) == ("Deleted", ["Deleted"])
    await policy(mock, "Direct")
    await mock.call("DeleteImage", uuid=CENTOS)
    assert await image_of(mock, CENTOS) is None


async def enforces(mock):
    other = await second(mock)
    assert await error_of(mock, "DeleteImage", {"uuid": CENTOS, "backupStorageUuids": [other], "deleteMode": "Enforcing"}) == {}
    assert statuses(await image_of(mock, CENTOS)) == ("Ready", ["Ready"])


async def expunges_copies_after_a_day(mock):
    image = await twice(mock)
    await mock.call("DeleteImage", uuid=image, backupStorageUuids=[BS])
    await mock.advance(DAY + 60)
    await mock.login()
    assert statuses(await image_of(mock, image)) == ("Ready", ["Ready"])
    await mock.call("DeleteImage", uuid=image)
    await mock.advance(DAY + 60)
    await mock.login()
    assert await image_of(mock, image) is None


async def deleted(mock, **more):
    await mock.call("DeleteImage", uuid=CENTOS)
    return {"imageUuid": CENTOS} | more


async def not_there(mock):
    return await deleted(mock, backupStorageUuids=[await second(mock)])


async def recovers(mock):
    image = await mock.create("RecoverImage", **await deleted(mock))
    assert statuses(image) == ("Ready", ["Ready"])


async def recovers_one_of_two(mock):
    image = await twice(mock)
    await mock.call("DeleteImage", uuid=image)
    recovered = await mock.create("RecoverImage", imageUuid=image, backupStorageUuids=[BS])
    assert statuses(recovered) == ("Ready", ["Ready", "Deleted"])


def over_quota(**quotas):
    async def state(mock):
        await account(mock)
        volume = await volume_of_account(mock)
        image = await mock.create("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=volume)
        await mock.delete("images", image["uuid"])
        user, mock.session = mock.session, mock.admin
        owner = mock.cloud.find("Account", "name", "ann")[0]["uuid"]
        for quota, value in quotas.items():
            await mock.call("UpdateQuota", identityUuid=owner, name=quota.replace("_", "."), value=value)
        mock.session = user
        return {"imageUuid": image["uuid"]}

    return state


async def expunges(mock):
    before = await room(mock)
    tag = await mock.create("CreateUserTag", resourceType="ImageVO", resourceUuid=CENTOS, tag="mine")
    assert await mock.call("ExpungeImage", **await deleted(mock)) in ({}, None, "")
    assert await image_of(mock, CENTOS) is None and await room(mock) - before == 10 * GIB
    assert await mock.query("user-tags", f"uuid={tag['uuid']}") == []
    assert (await one(mock, "vm-instances", f"uuid={WEB}"))["imageUuid"] == CENTOS


async def expunges_one_of_two(mock):
    image = await twice(mock)
    await mock.call("DeleteImage", uuid=image)
    await mock.call("ExpungeImage", imageUuid=image, backupStorageUuids=[BS])
    assert statuses(await image_of(mock, image)) == ("Deleted", ["Deleted"])


async def expunges_with_a_gc_job(mock):
    await mock.call("DeleteImage", uuid=CENTOS)
    mock.cloud.change("BackupStorage", BS, status="Disconnected")
    before = await room(mock)
    await mock.call("ExpungeImage", imageUuid=CENTOS)
    job = await one(mock, "gc-jobs", f"name=gc-delete-bits-{CENTOS}-on-backup-storage-{BS}")
    assert (job["type"], job["status"], job["runnerClass"].rpartition(".")[2]) == ("TimeBased", "Idle", "BackupStorageDeleteBitGC")
    assert await image_of(mock, CENTOS) is None and await room(mock) - before == 10 * GIB
    for status, ends in (("Disconnected", "Idle"), ("Connected", "Done")):
        mock.cloud.change("BackupStorage", BS, status=status)
        await mock.advance(3600 + 1)
        await mock.login()
        assert (await one(mock, "gc-jobs", f"uuid={job['uuid']}"))["status"] == ends


async def gc_job_ends_with_its_storage(mock):
    await mock.call("DeleteImage", uuid=CENTOS)
    mock.cloud.change("BackupStorage", BS, status="Disconnected")
    await mock.call("ExpungeImage", imageUuid=CENTOS)
    await mock.call("DeleteBackupStorage", uuid=BS)
    assert (await one(mock, "gc-jobs", f"name=gc-delete-bits-{CENTOS}-on-backup-storage-{BS}"))["status"] == "Done"


async def keeps_on_expunging_nobody(mock):
    error = await error_of(mock, "ExpungeImage", {"imageUuid": NOBODY})
    assert error["code"] == "SYS.1003"


async def syncs_size(mock):
    image = await mock.create("SyncImageSize", uuid=CENTOS)
    assert image["size"] == image["actualSize"] == 10 * GIB


async def storage_for_volume(mock):
    path = f"/images/volumes/{DATA}/candidate-backup-storage"
    for changes, uuids in (({}, [BS]), ({"availableCapacity": 0}, [BS]), ({"state": "Disabled"}, []), ({"state": "Enabled", "status": "Disconnected"}, []),
                           ({"status": "Connected", "attachedZoneUuids": []}, [])):  # fmt: skip
        mock.cloud.change("BackupStorage", BS, **changes)
        assert [bs["uuid"] for bs in (await mock.request("GET", path))[1]["inventories"]] == uuids, changes


async def storage_fits(mock):
    ceph = await mock.create("AddCephBackupStorage", name="c", monUrls=["root:p@10.0.0.9"])
    await mock.call("AttachBackupStorageToZone", backupStorageUuid=ceph["uuid"], zoneUuid=ZONE)
    api = "GetBackupStorageForCreatingImageFromVolume"
    assert [bs["uuid"] for bs in (await mock.call(api, volumeUuid=DATA))["inventories"]] == [BS]
    ps = await mock.create("AddCephPrimaryStorage", name="c", monUrls=["root:p@10.0.0.9"], zoneUuid=ZONE)
    mock.cloud.change("Volume", DATA, primaryStorageUuid=ps["uuid"])
    assert [bs["uuid"] for bs in (await mock.call(api, volumeUuid=DATA))["inventories"]] == [ceph["uuid"]]


async def storage_for_snapshot(mock):
    path = f"/images/volume-snapshots/{SNAPSHOT}/candidate-backup-storage"
    assert [bs["uuid"] for bs in (await mock.request("GET", path))[1]["inventories"]] == [BS]
    status, answer = await mock.request("GET", f"{path}?volumeUuid={SPARE}")
    assert (status, answer["error"]["details"]) == (503, "cannot find primary storage")


async def queries(mock):
    assert [image["uuid"] for image in await mock.query("images", "backupStorage.name=bs-1", "mediaType=ISO")] == [DEBIAN]


# cascades


async def storage_goes(mock):
    image = await twice(mock)
    way = await meanwhile(mock, "AddImage", "/images", IMAGE | {"name": "w", "backupStorageUuids": [BS]})
    await mock.call("DeleteBackupStorage", uuid=BS)
    assert statuses(await image_of(mock, image)) == ("Ready", ["Ready"])
    assert await image_of(mock, CENTOS) is None and await image_of(mock, way["uuid"]) is None


async def storage_goes_from_under_a_download(mock):
    other = await second(mock)
    way = await meanwhile(mock, "AddImage", "/images", IMAGE | {"backupStorageUuids": [BS, other]})
    await mock.call("DeleteBackupStorage", uuid=other)
    assert await image_of(mock, way["uuid"]) is None


async def account_goes(mock):
    owner = await account(mock)
    image = await mock.create("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=await volume_of_account(mock))
    mock.session = mock.admin
    await mock.call("DeleteAccount", uuid=owner)
    assert statuses(await image_of(mock, image["uuid"])) == ("Deleted", ["Deleted"])


# offerings


async def creates_offering(mock):
    made = await mock.create("CreateInstanceOffering", **OFFERING, sortKey=7)
    shown = {name: made[name] for name in ("state", "type", "allocatorStrategy", "cpuSpeed", "sortKey")}
    assert shown == {"state": "Enabled", "type": "UserVm", "allocatorStrategy": "LeastVmPreferredHostAllocatorStrategy", "cpuSpeed": 0, "sortKey": 0}


async def takes_hidden_strategies(mock):
    for strategy in ("DesignatedHostAllocatorStrategy", "MigrateVmAllocatorStrategy", "LastHostPreferredAllocatorStrategy"):
        assert (await mock.create("CreateInstanceOffering", **OFFERING, allocatorStrategy=strategy))["allocatorStrategy"] == strategy


async def updates_offering(mock):
    vm = await one(mock, "vm-instances", f"uuid={WEB}")
    made = await mock.create("UpdateInstanceOffering", uuid=vm["instanceOfferingUuid"], name="n", description="d", allocatorStrategy="any text")
    assert (made["name"], made["description"], made["allocatorStrategy"]) == ("n", "d", "any text")
    assert await one(mock, "vm-instances", f"uuid={WEB}") == vm


def switches(api, uuid):
    async def story(mock):
        for event, state in (("disable", "Disabled"), ("disable", "Disabled"), ("enable", "Enabled")):
            assert (await mock.create(api, uuid=uuid, stateEvent=event))["state"] == state

    return story


async def deletes_offering(mock):
    vm = await one(mock, "vm-instances", f"uuid={WEB}")
    offering = vm.pop("instanceOfferingUuid")
    tag = await mock.create("CreateUserTag", resourceType="InstanceOfferingVO", resourceUuid=offering, tag="mine")
    assert await mock.call("DeleteInstanceOffering", uuid=offering) in ({}, None, "")
    after = await one(mock, "vm-instances", f"uuid={WEB}")
    assert "instanceOfferingUuid" not in after and (after["cpuNum"], after["memorySize"]) == (vm["cpuNum"], vm["memorySize"])
    assert await mock.query("user-tags", f"uuid={tag['uuid']}") == await mock.query("instance-offerings", f"uuid={offering}") == []
    error = await error_of(mock, "CreateInstanceOffering", OFFERING | {"resourceUuid": offering})
    assert error["code"] == "SYS.1000"  # the row is a shadow


async def keeps_offering_if_configured(mock):
    await mock.call("UpdateGlobalConfig", category="vm", name="instanceOffering.setNullWhenDeleting", value="false")
    offering = (await one(mock, "vm-instances", f"uuid={WEB}"))["instanceOfferingUuid"]
    await mock.call("DeleteInstanceOffering", uuid=offering)
    assert (await one(mock, "vm-instances", f"uuid={WEB}"))["instanceOfferingUuid"] == offering


def gone(api):
    async def story(mock):
        assert await error_of(mock, api, {"uuid": NOBODY}) == {}

    return story


async def creates_disk(mock):
    made = await mock.create("CreateDiskOffering", name="d", diskSize=GIB, sortKey=7)
    shown = {name: made[name] for name in ("state", "type", "allocatorStrategy", "sortKey", "diskSize")}
    assert shown == {"state": "Enabled", "type": "DefaultDiskOfferingType", "allocatorStrategy": "DefaultPrimaryStorageAllocationStrategy", "sortKey": 7,
                     "diskSize": GIB}  # fmt: skip


async def updates_disk(mock):
    made = await mock.create("UpdateDiskOffering", uuid=DISK, name="n", description="d")
    assert (made["name"], made["description"]) == ("n", "d")


async def deletes_disk(mock):
    volume = await mock.create("CreateDataVolume", name="v", diskOfferingUuid=DISK)
    assert await mock.call("DeleteDiskOffering", uuid=DISK) in ({}, None, "")
    assert (await one(mock, "volumes", f"uuid={volume['uuid']}"))["diskOfferingUuid"] == DISK


async def queries_offerings(mock):
    assert len(await mock.query("instance-offerings", "vmInstance.name=web-1")) == 1
    assert await mock.query("disk-offerings", "diskSize>0")


# long jobs


def long_job(api, data, **more):
    return {"jobName": f"API{api}Msg", "jobData": data if isinstance(data, str) else json.dumps(data)} | more


async def start(mock, api, data, **more):
    return await mock.create("SubmitLongJob", **long_job(api, data, **more))


async def end_of(mock, job):
    await mock.advance(1000)
    await mock.login()
    return await one(mock, "longjobs", f"uuid={job['uuid']}")


async def long_job_is_named(mock):
    job = await start(mock, "AddImage", IMAGE)
    assert (job["name"], job["state"]) == ("APIAddImageMsg", "Running")
    assert json.loads(job["jobData"]).items() >= IMAGE.items()
    job = await start(mock, "RevertVolumeFromSnapshot", {"uuid": SNAPSHOT}, name="n")
    assert job["name"] == "n"


async def long_job_has_defaults(mock):
    job = await start(mock, "CreateDataVolumeTemplateFromVolume", TO_DATA | {"unknown": 1})
    assert "unknown" not in json.loads(job["jobData"])


async def long_job_of_what_is_gone(mock):
    job = await start(mock, "DeleteVolumeSnapshot", {"uuid": NOBODY})
    assert (job["state"], job["jobResult"]) == ("Succeeded", "Succeeded")


async def long_job_ends(mock):
    job = await start(mock, "AddImage", IMAGE)
    ended = await end_of(mock, job)
    assert (ended["state"], ended["jobResult"]) == ("Succeeded", "Succeeded")
    assert statuses(await one(mock, "images", "name=i")) == ("Ready", ["Ready"])


async def long_job_fails(mock):
    job = await start(mock, "RevertVolumeFromSnapshot", {"uuid": SNAPSHOT})
    ended = await end_of(mock, job)
    assert ended["state"] == "Failed" and ended["jobResult"].startswith("Failed : {")
    assert json.loads(ended["jobResult"].removeprefix("Failed : "))["code"] == "SYS.1006"


async def long_job_belongs_to_the_caller(mock):
    await account(mock)
    volume = await volume_of_account(mock)
    job = await start(mock, "CreateDataVolumeTemplateFromVolume", {"name": "t", "volumeUuid": volume})
    assert [row["uuid"] for row in await mock.query("longjobs")] == [job["uuid"]]


async def long_job_over_quota(mock):
    await account(mock, image_num=0)
    volume = await volume_of_account(mock)
    error = await error_of(mock, "SubmitLongJob", long_job("CreateDataVolumeTemplateFromVolume", {"name": "t", "volumeUuid": volume}))
    assert error["code"] == "ID.1003" and await mock.query("longjobs") == []


async def long_job_without_permission(mock):
    await account(mock)
    call = long_job("CreateDataVolumeTemplateFromVolume", TO_DATA)
    assert "has no access to the resources" in await failure(mock, "SubmitLongJob", **call)
    assert await mock.query("longjobs") == []


async def migrates_nowhere(mock):
    job = await start(mock, "MigrateVm", {"vmInstanceUuid": named("vm-ci-1")})
    ended = await end_of(mock, job)
    assert (ended["state"], json.loads(ended["jobResult"].removeprefix("Failed : "))["code"]) == ("Failed", "VM.1008")


async def job_in(mock, state):
    job = await start(mock, "AddImage", IMAGE)
    mock.cloud.change("LongJob", job["uuid"], state=state)
    return {"uuid": job["uuid"]}


def job_that_is(state):
    async def params(mock):
        return await job_in(mock, state)

    return params


async def cancels(mock):
    job = await start(mock, "AddImage", IMAGE)
    assert await mock.act("longjobs", job["uuid"], "cancelLongJob") in ({}, None, "")
    assert (await one(mock, "longjobs", f"uuid={job['uuid']}"))["state"] == "Canceling"
    assert (await end_of(mock, job))["state"] == "Succeeded"
    assert statuses(await one(mock, "images", "name=i")) == ("Ready", ["Ready"])


async def deletes_job(mock):
    for state in ("Succeeded", "Canceled", "Failed"):
        params = await job_in(mock, state)
        assert await mock.call("DeleteLongJob", **params) in ({}, None, "")
        assert await mock.query("longjobs", f"uuid={params['uuid']}") == []


async def restart_fails_jobs(mock):
    job = await start(mock, "AddImage", IMAGE)
    await mock.incident({"management-node-restart": {}})
    await mock.login()
    ended = await one(mock, "longjobs", f"uuid={job['uuid']}")
    assert (ended["state"], ended["jobResult"]) == ("Failed", "Failed because management node restarted.")


async def queries_jobs(mock):
    await start(mock, "AddImage", IMAGE)
    assert len(await mock.query("longjobs", "jobName=APIAddImageMsg", "state=Running")) == 2


# GC jobs


async def gc_of_a_destroyed_vm(mock):
    await mock.incident({"host-down": "host-1"})
    vm = (await mock.query("vm-instances", f"hostUuid={HOST}"))[0]
    await mock.call("DestroyVmInstance", uuid=vm["uuid"])
    job = await one(mock, "gc-jobs", f"name=gc-vm-{vm['uuid']}-on-host-{HOST}")
    assert (job["type"], job["status"], job["runnerClass"].rpartition(".")[2]) == ("EventBased", "Idle", "DeleteVmGC")
    await mock.call("TriggerGCJob", uuid=job["uuid"])
    assert (await one(mock, "gc-jobs", f"uuid={job['uuid']}"))["status"] == "Idle"


async def gc_of_a_stopped_vm(mock):
    await mock.incident({"host-down": "host-1"})
    await mock.call("DeleteHost", uuid=HOST)
    job = await one(mock, "gc-jobs", f"name=gc-stop-vm-{WEB}-web-1-on-host-{HOST}")
    assert (job["type"], job["status"], job["runnerClass"].rpartition(".")[2]) == ("EventBased", "Done", "StopVmGC")
    assert (await one(mock, "vm-instances", f"uuid={WEB}"))["state"] == "Stopped"


async def idle_job(mock):
    return (await mock.query("gc-jobs", "status=Idle"))[0]["uuid"]


async def done_job(mock):
    return {"uuid": (await mock.query("gc-jobs", "status=Done"))[0]["uuid"]}


async def triggers(mock):
    assert await mock.call("TriggerGCJob", uuid=await idle_job(mock)) in ({}, None, "")


async def host_connects(mock):
    job = await idle_job(mock)
    host = json.loads((await one(mock, "gc-jobs", f"uuid={job}"))["context"])["hostUuid"]
    mock.cloud.change("Host", host, status="Disconnected")
    await mock.call("TriggerGCJob", uuid=job)
    assert (await one(mock, "gc-jobs", f"uuid={job}"))["status"] == "Idle"
    await mock.call("ReconnectHost", uuid=host)
    assert (await one(mock, "gc-jobs", f"uuid={job}"))["status"] == "Done"


async def deletes_gc_jobs(mock):
    for uuid in (await idle_job(mock), (await done_job(mock))["uuid"]):
        assert await mock.call("DeleteGCJob", uuid=uuid) in ({}, None, "")
        assert await mock.query("gc-jobs", f"uuid={uuid}") == []


# deleteMode


DELETED = {  # the object of each deletion that goes through a cascade
    "DeleteZone": ZONE,
    "DeleteCluster": named("cluster-1"),
    "DeleteHost": HOST,
    "DeletePrimaryStorage": "new",
    "DeleteBackupStorage": BS,
    "DeleteImage": CENTOS,
    "DeleteInstanceOffering": SMALL,
    "DeleteDiskOffering": DISK,
    "DeleteL2Network": named("l2-private"),
    "DeleteL3Network": PRIVATE,
    "DeleteIpRange": named("range-private"),
    "DestroyVmInstance": WEB,
    "DeleteDataVolume": SPARE,
    "DeleteVolumeSnapshot": SNAPSHOT,
    "DeleteVip": named("vip-1"),
}


def breaks(api, mode):
    """A state in which the first step of a deletion fails."""

    async def params(mock):
        uuid = DELETED[api]
        if uuid == "new":
            uuid = (await mock.create("AddNfsPrimaryStorage", name="p", url="10.0.0.9:/nfs", zoneUuid=ZONE))["uuid"]

        def fail(*arguments, **more):
            for name in ("change", "remove"):
                vars(mock.cloud).pop(name, None)
            raise ApiError("HOST.1005", "the host does not answer")

        mock.cloud.change = mock.cloud.remove = fail
        return {"uuid": uuid, "deleteMode": mode}

    return params


def ignores(api):
    async def story(mock):
        assert await error_of(mock, api, await breaks(api, "Enforcing")(mock)) == {}
        assert not {"change", "remove"} & vars(mock.cloud).keys(), "the step has failed"

    return story


async def no_step(mock):
    return {"uuid": CENTOS, "backupStorageUuids": [await second(mock)], "deleteMode": "Permissive"}


async def enforced_refusal(mock):
    return {"uuid": await root_of(mock), "deleteMode": "Enforcing"}


FACTS = (
    Fact("AddImage", "corrects mediaType, format, platform and url", Shown(takes_corrections)),
    Fact("AddImage", "drops backup storage that is not Connected and Enabled", Shown(drops_unusable_storage)),
    Fact("AddImage", "takes backup storage of no zone", Shown(needs_no_zone)),
    Fact("AddImage", "refuses a system ISO by media type", Refused(IMAGE | {"system": True, "mediaType": "ISO"}, "SYS.1007", "ISO cannot be used as system image")),
    Fact("AddImage", "refuses a system ISO by format", Refused(IMAGE | {"system": True, "format": "iso"}, "SYS.1007", "ISO cannot be used as system image")),
    Fact("AddImage", "refuses an unknown format", Refused(IMAGE | {"format": "zip"}, "SYS.1007", "unknown format[zip]")),
    Fact("AddImage", "refuses an unknown type", Refused(IMAGE | {"type": "x"}, "SYS.1007", "unsupported image type[x]")),
    Fact("AddImage", "refuses if no backup storage is usable", Refused(away(IMAGE), "SYS.1006", f"no backup storage specified in uuids[{BS}] is available for adding this image; "
        "they are not in status Connected or not in state Enabled, or the uuid is invalid backup storage uuid")),
    Fact("AddImage", "refuses another url", Refused(IMAGE | {"url": "x:/y"}, "SYS.1007", "url must starts with 'file:///', 'http://', 'https://'*")),
    Fact("AddImage", "refuses more images than the quota", Refused(over("image_num", 0, IMAGE), "ID.1003", "*image.num*")),
    Fact("AddImage", "refuses larger images than the quota", Refused(over("image_size", GIB, IMAGE), "ID.1003", "quota exceeding. The account[uuid: *] exceeds a quota[name: image.size, value: *]. Please*")),
    Fact("AddImage", "fails with the causes of each backup storage; nothing stays", Shown(fails_on_all)),
    Fact("AddImage", "fails on backup storage that is Disconnected meanwhile", Shown(fails_if_disconnected)),
    Fact("AddImage", "fails if its url cannot be read", Uncovered("zmock downloads nothing")),
    Fact("AddImage", "fails if the image is deleted meanwhile", Shown(fails_if_deleted_meanwhile)),
    Fact("AddImage", "begins Downloading, without size and path", Shown(begins_downloading)),
    Fact("AddImage", "ends Ready, with size, actualSize, md5Sum, and no password in the url", Shown(ends_ready)),
    Fact("AddImage", "puts the file where the media type says", Shown(ends_at_a_path)),
    Fact("AddImage", "leaves out backup storage that fails", Shown(leaves_out_what_fails)),
    Fact("AddImage", "waits for an upload, and gives up after 30 s", Shown(waits_for_an_upload)),
    Fact("AddImage", "takes the size of the image from the backup storage", Shown(takes_space)),

    Fact("CreateRootVolumeTemplateFromRootVolume", "takes platform and guestOsType of machine and image; any volume", Shown(takes_platform_of_vm)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "refuses more images than the quota", Shown(number_is_refused)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "fails if the size cannot be read", Uncovered("no agent is simulated")),
    Fact("CreateRootVolumeTemplateFromRootVolume", "needs backup storage with room", Refused(full_for_root, "SYS.1006",
        f"no backup storage that satisfies conditions[{CONDITIONS % (10 * GIB)}, attached zone uuid={ZONE}] found")),
    Fact("CreateRootVolumeTemplateFromRootVolume", "needs the given backup storage", Refused(root_on_disabled, "SYS.1006",
        f"unable to allocate backup storage specified by uuids[{BS}], list errors are: [{{*can not satisfy one or more conditions*")),
    Fact("CreateRootVolumeTemplateFromRootVolume", "refuses a machine on its way", Refused(root_of_starting, "SYS.1006 <- SYS.1006 <- VM.1010",
        "current vm instance state[Starting] doesn't allow to proceed message[org.zstack.header.vm.CreateTemplateFromVmRootVolumeMsg], "
        "allowed states are [Running, Stopped, Paused]")),
    Fact("CreateRootVolumeTemplateFromRootVolume", "wraps the reason", Shown(error_of_starting_says_why)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "begins Downloading, with refs Creating", Shown(template_begins_downloading)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "ends Ready, without md5Sum; the machine stays", Shown(template_ends_ready)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "copies the tag qemuga", Shown(template_copies_qemuga)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "belongs to the owner of the volume", Shown(template_belongs_to_the_owner)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "leaves out backup storage that fails", Shown(template_leaves_out_storage)),
    Fact("CreateRootVolumeTemplateFromRootVolume", "takes one backup storage if none is given", Shown(template_takes_one_storage)),

    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "takes platform and guestOsType of machine and image", Shown(snapshot_takes_platform)),
    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "fails with the causes of each backup storage; nothing stays", Shown(snapshot_fails_on_all)),
    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "fails for a snapshot that is not Ready", Shown(snapshot_is_not_ready)),
    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "answers which backup storage failed, and why", Shown(snapshot_tells_failures)),
    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "has no quota", Shown(snapshot_has_no_quota)),
    Fact("CreateRootVolumeTemplateFromVolumeSnapshot", "is Creating, then Ready, also of the system", Shown(snapshot_becomes_image)),

    Fact("CreateDataVolumeTemplateFromVolume", "refuses a volume that is not Ready", Refused({"name": "t", "volumeUuid": SPARE}, "SYS.1006",
        f"volume[uuid:{SPARE}] is not Ready, it's NotInstantiated")),
    Fact("CreateDataVolumeTemplateFromVolume", "refuses a Disabled volume", Refused(changed("Volume", DATA, TO_DATA, state="Disabled"), "SYS.1006",
        f"volume[uuid:{DATA}] is not Enabled, it's Disabled")),
    Fact("CreateDataVolumeTemplateFromVolume", "refuses more images than the quota", Shown(number_is_refused)),
    Fact("CreateDataVolumeTemplateFromVolume", "takes a root volume, whatever its machine does", Shown(data_template_of_root)),
    Fact("CreateDataVolumeTemplateFromVolume", "needs some backup storage", Refused(data_disconnected, "SYS.1006 <- SYS.1006", "no backup storage that satisfies conditions*")),
    Fact("CreateDataVolumeTemplateFromVolume", "needs the given backup storage", Refused(away(TO_DATA | {"backupStorageUuids": [BS]}), "SYS.1006",
        f"failed to allocate all backup storage[uuid:[{BS}]], a list of error: [{{*")),
    Fact("CreateDataVolumeTemplateFromVolume", "fails on the host", Uncovered("no agent is simulated")),
    Fact("CreateDataVolumeTemplateFromVolume", "is Creating, then Ready, without platform", Shown(data_template)),

    Fact("UpdateImage", "has no guard; what is made of the image stays", Shown(updates_anything)),
    Fact("ChangeImageState", "has no guard", Shown(changes_state_of_any)),

    Fact("DeleteImage", "succeeds if the image is gone", Shown(deletes_what_is_gone)),
    Fact("DeleteImage", "refuses backup storage without the image", Refused(elsewhere, "SYS.1004 <- SYS.1000", "you must call then() to add flow*")),
    Fact("DeleteImage", "removes an image on its way at once", Shown(deletes_at_once_on_its_way)),
    Fact("DeleteImage", "removes an image without copies at once", Shown(deletes_without_refs)),
    Fact("DeleteImage", "with Delay, the copies and the image are Deleted; cache, machines and space stay", Shown(deletes_later)),
    Fact("DeleteImage", "with Direct, copies go at once, with their space", Shown(deletes_directly)),
    Fact("DeleteImage", "with Direct, a copy on backup storage that is away stays", Shown(keeps_what_it_cannot_delete)),
    Fact("DeleteImage", "with Never, nothing is expunged", Shown(deletes_never)),
    Fact("DeleteImage", "leaves an image with another copy Ready", Shown(deletes_one_of_two)),
    Fact("DeleteImage", "succeeds again", Shown(deletes_again)),
    Fact("DeleteImage", "is over after a day, for each copy", Shown(expunges_copies_after_a_day)),

    Fact("RecoverImage", "refuses if no copy is Deleted", Refused({"imageUuid": CENTOS}, "SYS.1006", f"the image[uuid:{CENTOS}, name:image-centos7] is not deleted on any backup storage")),
    Fact("RecoverImage", "refuses backup storage without a copy", Refused(not_there, "SYS.1007", f"the image[uuid:{CENTOS}, name:image-centos7] is not on the backup storage[uuid:*")),
    Fact("RecoverImage", "refuses a copy that is not Deleted", Refused({"imageUuid": CENTOS, "backupStorageUuids": [BS]}, "SYS.1007",
        f"the image[uuid:{CENTOS}, name:image-centos7]'s status[Ready] is not Deleted on the backup storage[uuid:{BS}]")),
    Fact("RecoverImage", "refuses more images than the quota", Refused(over_quota(image_num=0), "ID.1003", "*image.num*")),
    Fact("RecoverImage", "refuses larger images than the quota", Refused(over_quota(image_size=1), "ID.1003", "*image.size*")),
    Fact("RecoverImage", "makes copies and image Ready", Shown(recovers)),
    Fact("RecoverImage", "makes the named copies Ready", Shown(recovers_one_of_two)),

    Fact("ExpungeImage", "refuses an unknown image", Shown(keeps_on_expunging_nobody)),
    Fact("ExpungeImage", "refuses if no copy is Deleted", Refused({"imageUuid": CENTOS}, "SYS.1006", f"the image[uuid:{CENTOS}, name:image-centos7] is not deleted on any backup storage")),
    Fact("ExpungeImage", "refuses backup storage without a copy", Refused(not_there, "SYS.1007", f"the image[uuid:{CENTOS}, name:image-centos7] is not on the backup storage[uuid:*")),
    Fact("ExpungeImage", "refuses a copy that is not Deleted", Refused({"imageUuid": CENTOS, "backupStorageUuids": [BS]}, "SYS.1007",
        f"the image[uuid:{CENTOS}, name:image-centos7] is not deleted on the backup storage[uuid:{BS}]")),
    Fact("ExpungeImage", "removes copies, space, tags and the image; machines keep imageUuid", Shown(expunges)),
    Fact("ExpungeImage", "removes the named copies", Shown(expunges_one_of_two)),
    Fact("ExpungeImage", "leaves a GC job for backup storage that is away; the space comes back", Shown(expunges_with_a_gc_job)),

    Fact("SyncImageSize", "refuses an image without copies", Refused(changed("Image", CENTOS, {"uuid": CENTOS}, backupStorageRefs=[]), "SYS.1006",
        f"the image[uuid:{CENTOS}, name:image-centos7] is not on any backup storage")),
    Fact("SyncImageSize", "refuses if no backup storage is Connected", Refused(away({"uuid": CENTOS}), "SYS.1006",
        f"No connected backup storage found for image[uuid:{CENTOS}, name:image-centos7]")),
    Fact("SyncImageSize", "answers size and actualSize", Shown(syncs_size)),

    Fact("GetBackupStorageForCreatingImageFromVolume", "refuses a volume without primary storage", Refused({"volumeUuid": SPARE}, "SYS.1000", "cannot find primary storage")),
    Fact("GetBackupStorageForCreatingImageFromVolume", "answers usable storage of the zone, whatever its room", Shown(storage_for_volume)),
    Fact("GetBackupStorageForCreatingImageFromVolume", "answers storage of a type that fits", Shown(storage_fits)),
    Fact("GetBackupStorageForCreatingImageFromVolumeSnapshot", "answers the same; volumeUuid wins", Shown(storage_for_snapshot)),
    Fact("QueryImage", "is generic", Shown(queries)),

    Fact("DeleteBackupStorage", "removes its refs, images without others, and images on their way", Shown(storage_goes)),
    Fact("DeleteBackupStorage", "removes images that are still downloaded anywhere", Shown(storage_goes_from_under_a_download)),
    Fact("DeleteAccount", "deletes its images by their policy", Shown(account_goes)),

    Fact("CreateInstanceOffering", "refuses an unknown strategy", Refused(OFFERING | {"allocatorStrategy": "x"}, "SYS.1007", "unsupported host allocation strategy[x]")),
    Fact("CreateInstanceOffering", "takes strategies that are not exposed", Shown(takes_hidden_strategies)),
    Fact("CreateInstanceOffering", "refuses an unknown type", Refused(OFFERING | {"type": "x"}, "SYS.1007", "unsupported instance offering type[x]")),
    Fact("CreateInstanceOffering", "refuses no cpu", Refused(OFFERING | {"cpuNum": 0}, "SYS.1007")),
    Fact("CreateInstanceOffering", "refuses little memory", Refused(OFFERING | {"memorySize": (16 << 20) - 1}, "SYS.1007",
        "memory size[16777215 bytes] is less than 16M, no modern operating system is likely able to boot with such small memory size")),
    Fact("CreateInstanceOffering", "sets defaults, and drops sortKey", Shown(creates_offering)),
    Fact("UpdateInstanceOffering", "takes any strategy; machines do not change", Shown(updates_offering)),
    Fact("ChangeInstanceOfferingState", "has no guard", Shown(switches("ChangeInstanceOfferingState", SMALL))),
    Fact("DeleteInstanceOffering", "succeeds if it is gone", Shown(gone("DeleteInstanceOffering"))),
    Fact("DeleteInstanceOffering", "leaves machines their size, and a shadow", Shown(deletes_offering)),
    Fact("DeleteInstanceOffering", "leaves machines its uuid if so configured", Shown(keeps_offering_if_configured)),

    Fact("CreateDiskOffering", "refuses an unknown strategy", Refused({"name": "d", "diskSize": GIB, "allocationStrategy": "x"}, "SYS.1007",
        "unsupported primary storage allocation strategy[x]")),
    Fact("CreateDiskOffering", "fails with the only type that it takes", Refused({"name": "d", "diskSize": GIB, "type": "zstack"}, "SYS.1000",
        "unable to find DiskOfferingFactory with type[zstack]")),
    Fact("CreateDiskOffering", "sets defaults, and keeps sortKey", Shown(creates_disk)),
    Fact("UpdateDiskOffering", "has no guard", Shown(updates_disk)),
    Fact("ChangeDiskOfferingState", "has no guard", Shown(switches("ChangeDiskOfferingState", DISK))),
    Fact("DeleteDiskOffering", "succeeds if it is gone", Shown(gone("DeleteDiskOffering"))),
    Fact("DeleteDiskOffering", "leaves volumes its uuid", Shown(deletes_disk)),
    Fact("QueryInstanceOffering", "is generic", Shown(queries_offerings)),
    Fact("QueryDiskOffering", "is generic", Shown(queries_offerings)),

    Fact("SubmitLongJob", "refuses a name that is no API", Refused(long_job("Foo", {}), "SYS.1007", "APIFooMsg is not an API")),
    Fact("SubmitLongJob", "refuses what the call refuses: a parameter", Refused(long_job("AddImage", IMAGE | {"format": "zip"}), "SYS.1007", "unknown format[zip]")),
    Fact("SubmitLongJob", "refuses what the call refuses: an object that is gone", Refused(long_job("MigrateVm", {"vmInstanceUuid": NOBODY}), "SYS.1003")),
    Fact("SubmitLongJob", "refuses what the call refuses: a state", Refused(long_job("CreateDataVolumeTemplateFromVolume", {"name": "t", "volumeUuid": SPARE}), "SYS.1006",
        f"volume[uuid:{SPARE}] is not Ready, it's NotInstantiated")),
    Fact("SubmitLongJob", "refuses what the call refuses: a quota", Shown(long_job_over_quota)),
    Fact("SubmitLongJob", "refuses what the call refuses: a permission", Shown(long_job_without_permission)),
    Fact("SubmitLongJob", "fails if jobData is no JSON", Refused(long_job("AddImage", "{"), "SYS.1000")),
    Fact("SubmitLongJob", "is named as its message", Shown(long_job_is_named)),
    Fact("SubmitLongJob", "stores the parameters as they were read", Shown(long_job_has_defaults)),
    Fact("SubmitLongJob", "has succeeded if what it deletes is gone", Shown(long_job_of_what_is_gone)),
    Fact("SubmitLongJob", "ends Succeeded, with that word as result", Shown(long_job_ends)),
    Fact("SubmitLongJob", "ends Failed, with the error as result", Shown(long_job_fails)),
    Fact("SubmitLongJob", "belongs to the caller", Shown(long_job_belongs_to_the_caller)),
    Fact("SubmitLongJob", "finds out itself what fails in the work", Shown(migrates_nowhere)),
    Fact("CancelLongJob", "refuses a job that is Succeeded", Refused(job_that_is("Succeeded"), "SYS.1007", "cannot cancel longjob that is succeeded")),
    Fact("CancelLongJob", "refuses a job that is Canceled", Refused(job_that_is("Canceled"), "SYS.1007", "cannot cancel longjob that is already canceled")),
    Fact("CancelLongJob", "refuses a job that is Failed", Refused(job_that_is("Failed"), "SYS.1007", "cannot cancel longjob that is failed")),
    Fact("CancelLongJob", "stops nothing: the job is Canceling, and goes on to its end", Shown(cancels)),
    Fact("DeleteLongJob", "refuses a job that runs", Refused(job_that_is("Running"), "SYS.1007", "delete longjob only when it's succeeded, canceled, or failed")),
    Fact("DeleteLongJob", "removes a job that is over", Shown(deletes_job)),
    Fact("QueryLongJob", "is generic", Shown(queries_jobs)),
    Fact("QueryLongJob", "shows jobs that a restart failed", Shown(restart_fails_jobs)),
    Fact("QueryLongJob", "shows Waiting jobs that a restart started", Uncovered("a long job of zmock never waits")),

    Fact("QueryGCJob", "shows the job of a machine destroyed on a host that is away", Shown(gc_of_a_destroyed_vm)),
    Fact("QueryGCJob", "shows the job of a machine stopped by the deletion of a host that is away", Shown(gc_of_a_stopped_vm)),
    Fact("QueryGCJob", "shows jobs of volumes and snapshots whose bits stay", Uncovered("zmock always deletes the bits")),
    Fact("QueryGCJob", "shows the job as Done once the host is Connected", Shown(host_connects)),
    Fact("QueryGCJob", "shows the job of an image as Done once its backup storage is removed", Shown(gc_job_ends_with_its_storage)),
    Fact("TriggerGCJob", "refuses a job that is Done", Refused(done_job, "SYS.1006", "cannot trigger a finished GC job[uuid:*, name:*]")),
    Fact("TriggerGCJob", "answers nothing", Shown(triggers)),
    Fact("DeleteGCJob", "succeeds if it is gone", Shown(gone("DeleteGCJob"))),
    Fact("DeleteGCJob", "removes a job in any status", Shown(deletes_gc_jobs)),

    *(Fact(api, "deleteMode=Permissive: the first error ends it", Refused(
        breaks(api, "Permissive"), "SYS.1004 <- HOST.1005", changes=api == "DeletePrimaryStorage")) for api in DELETED),
    *(Fact(api, "deleteMode=Enforcing ignores errors of the steps", Shown(ignores(api))) for api in DELETED),
    Fact("DeleteImage", "deleteMode=Permissive: an empty chain is an error", Refused(no_step, "SYS.1004 <- SYS.1000")),
    Fact("DeleteImage", "deleteMode=Enforcing: an empty chain is none", Shown(enforces)),
    Fact("DeleteDataVolume", "deleteMode=Enforcing keeps what is refused before", Refused(enforced_refusal, "SYS.1007", "*is Root volume, can't be deleted")),
)  # fmt: skip


@pytest.fixture(params=["manual", "server"])
async def cloud(request):
    async with serve(dialect=request.param, long_delay="100") as mock:
        await mock.login()
        yield mock


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_the_facts_of_the_server_hold_in_both_dialects(cloud, fact):
    await check(fact, cloud)
