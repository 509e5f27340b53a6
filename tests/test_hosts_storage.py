"""Hosts, primary and backup storage of all kinds: tables and stories, over HTTP."""

import pytest
from asking import each, one, outcome

from zmock import named, serve

GIB, TIB = 1 << 30, 1 << 40
ZONE, CLUSTER, OTHER_CLUSTER, NFS, LOCAL, SFTP, NOBODY = (*map(named, ("zone-1", "cluster-1", "cluster-2", "ps-nfs", "ps-local", "bs-1")), "a" * 31 + "4")
VM = {"instanceOfferingUuid": named("offering-large"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
MON, MONS = "root:pass@word@10.10.0.91", ["root:pass@word@10.10.0.91", "admin:p@10.10.0.92:2222/?monPort=6790"]


def room(storage):
    return storage["availableCapacity"]


# storage of all kinds: the api that adds one, what it is given besides, its collection, its type, what its inventory has besides

PRIMARY = (
    ("AddNfsPrimaryStorage", {"url": "10.0.0.1:/x"}, "", "NFS", {"mountPath"}),
    ("AddSharedMountPointPrimaryStorage", {"url": "/smp"}, "", "SharedMountPoint", {"mountPath"}),
    ("AddCephPrimaryStorage", {"monUrls": MONS}, "/ceph", "Ceph", {"fsid", "mons", "pools"}),
    ("AddXSkyPrimaryStorage", {"monUrls": MONS}, "/ceph", "Ceph", {"fsid", "mons", "pools"}),
    ("AddFusionstorPrimaryStorage", {"monUrls": MONS}, "/fusionstor", "Fusionstor", {"fsid", "mons", "rootVolumePoolName", "dataVolumePoolName", "imageCachePoolName"}),
    ("AddSharedBlockGroupPrimaryStorage", {"diskUuids": ["d1", "d2"]}, "/sharedblockgroup", "SharedBlock", {"sharedBlocks", "sharedBlockGroupType"}),
    ("AddAliyunEbsPrimaryStorage", {"url": "u", "appName": "a", "aZone": "z", "oceanUrl": "o", "secretKey": "s", "riverClusterId": "r"}, "/aliyun-ebs", "AliyunEBS",
        {"appName", "aZone", "oceanUrl", "secretKey", "riverClusterId"}),
    ("AddZsesPrimaryStorage", {"url": "u"}, "", "ZSES", set()),
)  # fmt: skip
BACKUP = (
    ("AddSftpBackupStorage", {"url": "/bs", "hostname": "10.0.0.1", "username": "root", "password": "p"}, "/sftp", "SftpBackupStorage", {"hostname", "username", "sshPort"}),
    ("AddImageStoreBackupStorage", {"url": "/bs", "hostname": "10.0.0.1", "username": "root", "password": "p"}, "/image-store", "ImageStoreBackupStorage",
        {"hostname", "username", "sshPort"}),
    ("AddDisasterImageStoreBackupStorage", {"url": "/bs", "hostname": "10.0.0.1", "username": "root", "password": "p"}, "/image-store", "ImageStoreBackupStorage",
        {"hostname", "username", "sshPort"}),
    ("AddCephBackupStorage", {"monUrls": MONS}, "/ceph", "Ceph", {"fsid", "mons", "poolName", "poolAvailableCapacity", "poolUsedCapacity", "poolReplicatedSize"}),
    ("AddFusionstorBackupStorage", {"monUrls": MONS}, "/fusionstor", "Fusionstor", {"fsid", "mons", "poolName"}),
)  # fmt: skip
KINDS = [("primary-storage", *row) for row in PRIMARY] + [("backup-storage", *row) for row in BACKUP]


@each(("collection", "api", "given", "own", "type", "besides"), KINDS, ids=[row[1] for row in KINDS])
async def test_each_kind_is_seen_among_its_own_and_among_all_with_what_is_its_own(cloud, collection, api, given, own, type, besides):
    made = await cloud.create(api, name="new", **given | ({"zoneUuid": ZONE} if collection == "primary-storage" else {}))
    is_mounted = type in ("NFS", "SharedMountPoint")  # by the hosts of a cluster, of which there is none yet
    assert (made["type"], made["state"], made["status"]) == (type, "Enabled", "Disconnected" if is_mounted else "Connected")
    assert besides <= made.keys() and "password" not in made and room(made) == made["totalCapacity"] and is_mounted == (room(made) == 0)
    assert await cloud.query(collection, "name=new") == await cloud.query(collection + own, "name=new") == [made]
    assert await cloud.query(collection + own, "name=bs-1") == ([await one(cloud, collection, "name=bs-1")] if own == "/sftp" else [])
    await cloud.delete(collection, made["uuid"])
    assert await cloud.query(collection, "name=new") == []


async def test_storage_is_connecting_before_it_is_connected(cloud):
    async with serve(delay="10") as slow:
        await slow.login()
        status, _ = await slow.request("POST", "/primary-storage/ceph", {"params": {"name": "c", "zoneUuid": ZONE, "monUrls": [MON]}})
        await slow.advance(1)
        assert (status, (await one(slow, "primary-storage", "name=c"))["status"]) == (202, "Connecting")
        await slow.advance(20)
        assert (await one(slow, "primary-storage", "name=c"))["status"] == "Connected"


async def test_the_answer_names_the_class_of_what_a_kind_has_inside(cloud):
    await cloud.create("AddCephPrimaryStorage", name="c", zoneUuid=ZONE, monUrls=[MON])
    _, body = await cloud.request("GET", "/primary-storage?q=name=c", headers={"X-JSON-Schema": "true"})
    java = "org.zstack.storage.ceph.primary.CephPrimaryStorage"
    assert body["schema"] == {"inventories[0]": f"{java}Inventory", "inventories[0].mons[0]": f"{java}MonInventory",
                              **{f"inventories[0].pools[{n}]": f"{java}PoolInventory" for n in range(3)}}  # fmt: skip


# what is refused


REFUSED = (  # calls that come first, the call that is refused, and how
    ((), ("AddCephBackupStorage", {"monUrls": [MON, "u:p@h:65536"]}), "SYS.1007: invalid monUrl[u:p@h:65536], the ssh port is greater than 65535"),
    ((("AddCephPrimaryStorage", {"zoneUuid": ZONE, "monUrls": [MON]}),), ("AddCephPrimaryStorage", {"zoneUuid": ZONE, "monUrls": MONS}),
        "SYS.1007: cannot add ceph primary storage, there has been some ceph primary storage using mon[hostnames:[10.10.0.91]]"),
    ((), ("AddMonToCephPrimaryStorage", {"uuid": NFS, "monUrls": [MON]}), "SYS.1003"),
    ((("AddSharedBlockGroupPrimaryStorage", {"zoneUuid": ZONE, "diskUuids": ["d"]}),), ("AddSharedBlockGroupPrimaryStorage", {"zoneUuid": ZONE, "diskUuids": ["e", "d"]}),
        "SYS.1006: shared block[diskUuid:d] belongs to a shared block group already"),
    ((("AddAliyunNasFileSystem", {"fileSystemId": "f", "dataCenterUuid": named("data-centre"), "resourceUuid": named("nas")}),),
        ("AddAliyunNasPrimaryStorage", {"zoneUuid": ZONE, "url": "u", "nasUuid": named("nas"), "accessGroupUuid": "g"}),
        f"SYS.1006: nas file system[uuid:{named('nas')}] has no mount target"),
    ((("AddAliyunNasFileSystem", {"fileSystemId": "f", "dataCenterUuid": named("data-centre"), "resourceUuid": named("nas")}), ("AddAliyunNasMountTarget", {"nasFSUuid": named("nas"), "mountDomain": "m"})),
        ("DeleteNasFileSystem", {"uuid": named("nas")}), f"SYS.1006: nas file system[uuid:{named('nas')}] cannot be deleted for still having mount targets"),
    ((), ("GetBackupStorageCapacity", {"all": False}), "SYS.1007: zoneUuids, backupStorageUuids must have at least one be none-empty list, or all is set to true"),
)  # fmt: skip


@each(("first", "call", "told"), REFUSED, ids=[f"{row[1][0]}-{n}" for n, row in enumerate(REFUSED)])
async def test_what_is_not_possible_now_is_refused_and_changes_nothing(cloud, first, call, told):
    if not cloud.cloud.exists("DataCenter", named("data-centre")):
        cloud.cloud.add("DataCenter", uuid=named("data-centre"), regionId="cn-hangzhou")
    for api, given in first:
        await cloud.call(api, **{"name": "n"} | given)
    (api, given), before = call, await everything(cloud)
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **{"name": "n"} | given)
    assert str(error.value).startswith(told)
    assert await everything(cloud) == before


async def everything(cloud):
    collections = ("primary-storage", "backup-storage", "primary-storage/ceph/pools", "primary-storage/nas", "hosts", "clusters", "volumes", "images",
                   "primary-storage/local-storage/resource-refs", "primary-storage/imagecache", "sharedblock-group/sharedblocks")  # fmt: skip
    return [await cloud.query(collection) for collection in collections]


# Ceph, from its first monitor to its end


async def test_a_ceph_storage_has_monitors_and_pools_and_takes_them_along_when_it_goes(cloud):
    ceph = await cloud.create("AddCephPrimaryStorage", name="c", zoneUuid=ZONE, monUrls=MONS, dataVolumePoolName="mine")
    first, second = sorted(ceph["mons"], key=lambda mon: mon["hostname"])
    assert (first["sshUsername"], first["sshPassword"], first["monAddr"], first["sshPort"], first["monPort"], first["status"]) \
        == ("root", "pass@word", "10.10.0.91", 22, 6789, "Connected")  # fmt: skip
    assert (second["sshPort"], second["monPort"], second["primaryStorageUuid"]) == (2222, 6790, ceph["uuid"])
    assert {pool["type"]: pool["poolName"] for pool in ceph["pools"]} == {"Root": f"pri-v-r-{ceph['uuid']}", "Data": "mine", "ImageCache": f"pri-c-{ceph['uuid']}"}
    backup = await cloud.create("AddCephBackupStorage", name="b", monUrls=[MON])
    assert backup["fsid"] == ceph["fsid"], "both are on one cluster"

    grown = await cloud.create("AddMonToCephPrimaryStorage", uuid=ceph["uuid"], monUrls=["root:p@10.10.0.93"])
    assert len(grown["mons"]) == 3
    updated = await cloud.create("UpdateCephPrimaryStorageMon", monUuid=first["monUuid"], hostname="10.10.0.99", sshPort=23)
    assert {(mon["hostname"], mon["sshPort"]) for mon in updated["mons"]} == {("10.10.0.99", 23), ("10.10.0.92", 2222), ("10.10.0.93", 22)}
    left = await cloud.create("RemoveMonFromCephPrimaryStorage", uuid=ceph["uuid"], monHostnames=["10.10.0.92", "10.10.0.93"])
    assert [mon["hostname"] for mon in left["mons"]] == ["10.10.0.99"]
    assert len(await cloud.query("primary-storage/ceph", "mons.hostname=10.10.0.99")) == 1

    pool = await cloud.create("AddCephPrimaryStoragePool", primaryStorageUuid=ceph["uuid"], poolName="fast")
    assert (pool["type"], pool["availableCapacity"], pool["usedCapacity"]) == ("Data", room(ceph), 0)
    assert (await cloud.create("UpdateCephPrimaryStoragePool", uuid=pool["uuid"], aliasName="f"))["aliasName"] == "f"
    await cloud.delete("primary-storage/ceph/pools", pool["uuid"])
    root = await one(cloud, "primary-storage/ceph/pools", "type=Root", f"primaryStorageUuid={ceph['uuid']}")

    await cloud.call("AttachPrimaryStorageToCluster", primaryStorageUuid=ceph["uuid"], clusterUuid=CLUSTER)
    vm = await cloud.create("CreateVmInstance", name="v", primaryStorageUuidForRootVolume=ceph["uuid"], clusterUuid=CLUSTER, **VM)
    volume = await one(cloud, "volumes", f"uuid={vm['rootVolumeUuid']}")
    assert (volume["installPath"], volume["format"]) == (f"ceph://{root['poolName']}/{volume['uuid']}", "raw")
    pools = {pool["type"]: pool for pool in (await one(cloud, "primary-storage", "name=c"))["pools"]}
    assert pools["Root"]["usedCapacity"] == pools["ImageCache"]["usedCapacity"] == volume["size"]
    assert pools["Data"]["availableCapacity"] == room(ceph) - 2 * volume["size"]

    await cloud.call("DetachPrimaryStorageFromCluster", primaryStorageUuid=ceph["uuid"], clusterUuid=CLUSTER)
    await cloud.delete("primary-storage", ceph["uuid"])
    assert await cloud.query("primary-storage/ceph") == await cloud.query("primary-storage/ceph/pools") == await cloud.query("vm-instances", "name=v") == []
    assert list(cloud.cloud.store.rows("CephPrimaryStorageMon")) == []
    assert await cloud.query("primary-storage/imagecache", f"primaryStorageUuid={ceph['uuid']}") == []


async def test_a_shared_block_group_grows_with_its_disks(cloud):
    group = await cloud.create("AddSharedBlockGroupPrimaryStorage", name="g", zoneUuid=ZONE, diskUuids=["d1", "d2"])
    grown = await cloud.create("AddSharedBlockToSharedBlockGroup", uuid=group["uuid"], diskUuid="d3")
    assert [room(group), room(grown)] == [8 * TIB, 12 * TIB]
    assert {block["diskUuid"]: block["status"] for block in grown["sharedBlocks"]} == dict.fromkeys(("d1", "d2", "d3"), "Connected")
    assert {block["diskUuid"] for block in await cloud.query("sharedblock-group/sharedblocks", "sharedBlockGroup.name=g")} == {"d1", "d2", "d3"}


async def test_a_nas_is_a_file_system_with_a_mount_target(cloud):
    cloud.cloud.add("DataCenter", uuid=named("data-centre"), regionId="cn-hangzhou")
    nas = await cloud.create("AddAliyunNasFileSystem", name="n", fileSystemId="f", dataCenterUuid=named("data-centre"))
    target = await cloud.create("AddAliyunNasMountTarget", name="m", nasFSUuid=nas["uuid"], mountDomain="f.nas.example.com")
    assert (nas["protocol"], nas["fileSystemId"], target["nasFileSystemUuid"]) == ("NFS", "f", nas["uuid"])
    assert (await cloud.create("UpdateNasFileSystem", uuid=nas["uuid"], name="x"))["name"] == "x"
    assert (await cloud.create("UpdateNasMountTarget", uuid=target["uuid"], name="y"))["name"] == "y"
    storage = await cloud.create("AddAliyunNasPrimaryStorage", name="s", zoneUuid=ZONE, url="f.nas.example.com:/", nasUuid=nas["uuid"], accessGroupUuid="g")
    assert storage["type"] == "AliyunNAS"
    await cloud.delete("primary-storage/nas/mount", target["uuid"])
    await cloud.delete("primary-storage/nas", nas["uuid"])
    assert await cloud.query("primary-storage/nas") == await cloud.query("primary-storage/nas/mount") == []


# local storage


@pytest.fixture
async def local(cloud):
    """A stopped virtual machine whose root volume is on the disks of host-3."""
    await cloud.act("hosts", named("host-4"), "reconnectHost")
    vm = await cloud.create("CreateVmInstance", name="local", primaryStorageUuidForRootVolume=LOCAL, hostUuid=named("host-3"), **VM)
    return await cloud.act("vm-instances", vm["uuid"], "stopVmInstance")


async def disks(cloud):
    found = (await cloud.call("GetLocalStorageHostDiskCapacity", primaryStorageUuid=LOCAL))["inventories"]
    return {disk["hostUuid"]: disk["availableCapacity"] for disk in found}


async def test_a_vm_starts_only_where_its_local_root_volume_is(cloud, local):
    with pytest.raises(RuntimeError, match="VM.1001"):
        await cloud.act("vm-instances", local["uuid"], "startVmInstance", hostUuid=named("host-4"))
    started = await cloud.act("vm-instances", local["uuid"], "startVmInstance")
    assert started["hostUuid"] == named("host-3")
    with pytest.raises(RuntimeError, match="SYS.1006: unable to live migrate with local storage"):
        await cloud.act("vm-instances", local["uuid"], "migrateVm")


async def test_a_local_volume_moves_from_host_to_host_and_takes_its_space_along(cloud, local):
    volume, before = await one(cloud, "volumes", f"uuid={local['rootVolumeUuid']}"), await disks(cloud)
    ref = await one(cloud, "primary-storage/local-storage/resource-refs", f"volume.uuid={volume['uuid']}")
    assert (ref["hostUuid"], ref["size"], ref["resourceType"]) == (named("host-3"), volume["size"], "VolumeVO")
    assert before == {named("host-3"): 4 * TIB - 2 * volume["size"], named("host-4"): 4 * TIB}, "the volume, and the image that it is made of"
    moved = await cloud.create("LocalStorageMigrateVolume", volumeUuid=volume["uuid"], destHostUuid=named("host-4"))
    assert (moved["hostUuid"], moved["resourceUuid"]) == (named("host-4"), volume["uuid"])
    assert await disks(cloud) == {named("host-3"): 4 * TIB - volume["size"], named("host-4"): 4 * TIB - 2 * volume["size"]}
    assert (await one(cloud, "vm-instances", f"uuid={local['uuid']}"))["state"] == "Stopped"
    assert (await cloud.act("vm-instances", local["uuid"], "startVmInstance"))["hostUuid"] == named("host-4")


async def test_the_disks_of_the_hosts_are_the_capacity_of_a_local_storage(cloud, local):
    storage = await one(cloud, "primary-storage", "name=ps-local")
    assert room(storage) == sum((await disks(cloud)).values()) and storage["totalCapacity"] == 8 * TIB
    await cloud.delete("hosts", named("host-3"))
    storage = await one(cloud, "primary-storage", "name=ps-local")
    assert room(storage) == storage["totalCapacity"] == 4 * TIB
    assert await cloud.query("vm-instances", "name=local") == []
    assert await cloud.query("primary-storage/local-storage/resource-refs") == []


async def test_a_data_volume_on_local_storage_is_where_its_tag_says(cloud):
    body = {"params": {"name": "d", "diskOfferingUuid": named("disk-20g"), "primaryStorageUuid": LOCAL}, "systemTags": [f"localStorage::hostUuid::{named('host-4')}"]}
    _, job = await cloud.request("POST", "/volumes/data", body)
    await cloud.request("GET", "/api-jobs/" + job["location"][-32:])
    volume = await one(cloud, "volumes", "name=d")
    assert [(ref["hostUuid"], ref["size"]) for ref in await cloud.query("primary-storage/local-storage/resource-refs")] == [(named("host-4"), 20 * GIB)]
    await cloud.call("PrimaryStorageMigrateVolume", volumeUuid=volume["uuid"], dstPrimaryStorageUuid=NFS)
    assert await cloud.query("primary-storage/local-storage/resource-refs") == []
    assert set((await disks(cloud)).values()) == {4 * TIB}


# images: caches, copies, exports, space


async def test_an_image_stays_on_primary_storage_until_nobody_needs_it(cloud):
    before = room(await one(cloud, "primary-storage", "name=ps-nfs"))
    store = await cloud.create("AddImage", name="i", url="http://x/y", format="qcow2", backupStorageUuids=[SFTP])
    for name in ("a", "b"):
        await cloud.create("CreateVmInstance", name=name, **VM | {"imageUuid": store["uuid"]}, clusterUuid=CLUSTER)
    cache = await one(cloud, "primary-storage/imagecache", f"imageUuid={store['uuid']}")
    assert (cache["primaryStorageUuid"], cache["size"], cache["state"], cache["mediaType"]) == (NFS, store["size"], "ready", "RootVolumeTemplate")
    assert before - room(await one(cloud, "primary-storage", "name=ps-nfs")) == 3 * store["size"]
    await cloud.delete("images", store["uuid"])
    await cloud.call("ExpungeImage", imageUuid=store["uuid"])
    for n, name in enumerate(("a", "b")):
        await cloud.call("CleanUpImageCacheOnPrimaryStorage", uuid=NFS)
        assert len(await cloud.query("primary-storage/imagecache", f"imageUuid={store['uuid']}")) == 1, f"{2 - n} need it"
        vm = await one(cloud, "vm-instances", f"name={name}")
        await cloud.delete("vm-instances", vm["uuid"])
        await cloud.act("vm-instances", vm["uuid"], "expungeVmInstance")
    await cloud.call("CleanUpImageCacheOnPrimaryStorage", uuid=NFS)
    assert await cloud.query("primary-storage/imagecache", f"imageUuid={store['uuid']}") == []
    assert room(await one(cloud, "primary-storage", "name=ps-nfs")) == before


@pytest.fixture
async def stores(cloud):
    """Two image stores, and an image on the first."""
    made = [await cloud.create("AddImageStoreBackupStorage", name=f"s{n}", url="/s", hostname=f"10.0.0.{n}", username="u", password="p") for n in (1, 2)]
    for store in made:
        await cloud.call("AttachBackupStorageToZone", backupStorageUuid=store["uuid"], zoneUuid=ZONE)
    return *made, await cloud.create("AddImage", name="i", url="http://x/y", format="qcow2", backupStorageUuids=[made[0]["uuid"]])


async def test_an_image_store_exports_and_copies_images(cloud, stores):
    first, second, image = stores
    url = (await cloud.call("ExportImageFromBackupStorage", backupStorageUuid=first["uuid"], imageUuid=image["uuid"]))["imageUrl"]
    shown = await one(cloud, "images", f"uuid={image['uuid']}")
    assert url.startswith("http://10.0.0.1:") and (shown["exportUrl"], shown["exportMd5Sum"]) == (url, image["md5Sum"])
    await cloud.call("DeleteExportedImageFromBackupStorage", backupStorageUuid=first["uuid"], imageUuid=image["uuid"])
    assert not {"exportUrl", "exportMd5Sum"} & (await one(cloud, "images", f"uuid={image['uuid']}")).keys()
    copy = await cloud.create("SyncImageFromImageStoreBackupStorage", uuid=image["uuid"], srcBackupStorageUuid=first["uuid"],
                              dstBackupStorageUuid=second["uuid"], name="copy")  # fmt: skip
    assert (copy["name"], [ref["backupStorageUuid"] for ref in copy["backupStorageRefs"]]) == ("copy", [second["uuid"]])
    assert [info["id"] for info in (await cloud.call("GetImagesFromImageStoreBackupStorage", uuid=second["uuid"]))["infos"]] == [copy["uuid"]]
    back = await cloud.create("RecoveryImageFromImageStoreBackupStorage", uuid=copy["uuid"], srcBackupStorageUuid=second["uuid"],
                              dstBackupStorageUuid=first["uuid"], name="back")  # fmt: skip
    assert len({image["uuid"], copy["uuid"], back["uuid"]}) == 3 and back["size"] == image["size"]
    await cloud.call("DeleteImage", uuid=copy["uuid"])
    assert await cloud.call("GetImagesFromImageStoreBackupStorage", uuid=second["uuid"]) == {"infos": []}


async def test_images_take_space_on_backup_storage_until_they_are_expunged(cloud, stores):
    first, _, image = stores

    async def left():
        return (await cloud.call("GetBackupStorageCapacity", backupStorageUuids=[first["uuid"]]))["availableCapacity"]

    assert room(first) - await left() == image["size"] == room(first) - room(await one(cloud, "backup-storage/image-store", "name=s1"))
    assert await cloud.query("backup-storage", f"availableCapacity={room(first) - image['size']}", "name=s1")
    await cloud.delete("images", image["uuid"])
    assert await left() == room(first) - image["size"]
    await cloud.call("ExpungeImage", imageUuid=image["uuid"])
    assert await left() == room(first)


async def test_an_image_tells_whether_it_has_the_guest_agent(cloud):
    told = []
    for enable in (None, True, True, False):
        if enable is not None:
            await cloud.call("SetImageQga", uuid=named("image-centos7"), enable=enable)
        told.append((await cloud.call("GetImageQga", uuid=named("image-centos7")))["enable"])
    assert told == [False, True, True, False]


# capacities and candidates


async def test_capacities_are_the_sums_of_what_is_asked_for(cloud):
    nfs, local = await one(cloud, "primary-storage", "name=ps-nfs"), await one(cloud, "primary-storage", "name=ps-local")
    by = {"primaryStorageUuids": [NFS], "clusterUuids": [OTHER_CLUSTER], "zoneUuids": [ZONE], "all": True}
    told = {name: (await cloud.call("GetPrimaryStorageCapacity", **{name: value}))["availableCapacity"] for name, value in by.items()}
    assert told == {"primaryStorageUuids": room(nfs), **dict.fromkeys(("clusterUuids", "zoneUuids", "all"), room(nfs) + room(local))}
    assert (await cloud.call("GetPrimaryStorageCapacity", primaryStorageUuids=[NFS], zoneUuids=[ZONE]))["totalCapacity"] == nfs["totalCapacity"]
    sftp = await one(cloud, "backup-storage", "name=bs-1")
    assert [(await cloud.call("GetBackupStorageCapacity", **asked))["totalCapacity"] for asked in ({"zoneUuids": [ZONE]}, {"all": True})] == [sftp["totalCapacity"]] * 2


async def test_candidates_for_a_migration_are_those_that_could_take_it(cloud, stores):
    found = (await cloud.call("GetPrimaryStorageCandidatesForVolumeMigration", volumeUuid=named("volume-db-data-1")))["inventories"]
    assert [storage["name"] for storage in found] == ["ps-local"]
    found = (await cloud.call("GetBackupStorageCandidatesForImageMigration", srcBackupStorageUuid=stores[0]["uuid"]))["inventories"]
    assert [storage["name"] for storage in found] == ["s2"]


# hosts


async def test_a_cloud_is_filled_until_no_host_has_room(cloud):
    small = await cloud.create("CreateInstanceOffering", name="huge", cpuNum=1, memorySize=20 * GIB)
    given, made = VM | {"instanceOfferingUuid": small["uuid"], "clusterUuid": CLUSTER}, []
    before = await cloud.call("GetCpuMemoryCapacity", clusterUuids=[CLUSTER])
    with pytest.raises(RuntimeError, match=r"SYS.1006: .*no (host having cpu\[1\], memory\[21474836480 bytes\] found|enough memory\[21474836480\])"):
        for n in range(20):
            made.append(await cloud.create("CreateVmInstance", name=f"f{n}", **given))
    assert len(made) >= 4
    hosts = await cloud.query("hosts", f"clusterUuid={CLUSTER}")
    assert all(host["availableMemoryCapacity"] - 2 * GIB < 20 * GIB for host in hosts)
    after = await cloud.call("GetCpuMemoryCapacity", clusterUuids=[CLUSTER])
    assert before["availableCpu"] - after["availableCpu"] == len(made) and before["availableMemory"] - after["availableMemory"] == len(made) * 20 * GIB
    assert await cloud.query("vm-instances", f"name=f{len(made)}") == []
    _, job = await cloud.request("POST", "/vm-instances", {"params": {"name": "more", **given}})
    status, body = await cloud.request("GET", "/api-jobs/" + job["location"][-32:])
    assert (status, body["error"]["cause"]["code"]) == (503, "HOST_ALLOCATION.1000")
    await cloud.act("vm-instances", made[0]["uuid"], "stopVmInstance")
    assert (await cloud.create("CreateVmInstance", name="fits", **given))["state"] == "Running"


async def test_a_host_goes_into_maintenance_and_comes_out_again(cloud):
    host = named("host-1")
    running = {vm["name"] for vm in await cloud.query("vm-instances", f"hostUuid={host}")}
    await cloud.act("hosts", host, "changeHostState", stateEvent="maintain")
    assert running and await cloud.query("vm-instances", f"hostUuid={host}") == []
    assert {vm["hostUuid"] for vm in await cloud.query("vm-instances", f"name?={','.join(running)}")} <= {named("host-2"), named("host-3")}
    for other in ("host-2", "host-3"):
        await cloud.act("hosts", named(other), "changeHostState", stateEvent="maintain")
    assert {vm["state"] for vm in await cloud.query("vm-instances", f"name?={','.join(running)}")} == {"Stopped"}, "nowhere to go"
    await cloud.act("hosts", host, "changeHostState", stateEvent="enable")
    back = await one(cloud, "hosts", "name=host-1")
    assert (back["state"], back["status"]) == ("Enabled", "Connected")
    assert (await cloud.act("vm-instances", named("vm-web-1"), "startVmInstance"))["hostUuid"] == host


async def test_primary_storage_in_maintenance_stops_the_vms_on_it(cloud):
    running = {vm["name"] for vm in await cloud.query("vm-instances", "state=Running")}
    shown = await cloud.act("primary-storage", NFS, "changePrimaryStorageState", stateEvent="maintain")
    assert running and shown["state"] == "Maintenance"
    assert {vm["state"] for vm in await cloud.query("vm-instances", f"name?={','.join(running)}")} == {"Stopped"}
    with pytest.raises(RuntimeError, match="VM.1001"):
        await cloud.act("vm-instances", named("vm-web-1"), "startVmInstance")
    await cloud.act("primary-storage", NFS, "changePrimaryStorageState", stateEvent="enable")
    assert (await cloud.act("vm-instances", named("vm-web-1"), "startVmInstance"))["state"] == "Running"


@pytest.mark.parametrize(("collection", "name", "action", "code"), (
    ("primary-storage", "ps-nfs", "reconnectPrimaryStorage", "PS.1003"), ("backup-storage", "bs-1", "reconnectBackupStorage", "SYS.1006"),
    ("backup-storage/sftp", "bs-1", "reconnectSftpBackupStorage", "BS.SFTP.1000"), ("hosts", "host-1", "reconnectHost", "HOST.1002"),
))  # fmt: skip
async def test_what_an_incident_keeps_away_cannot_be_reconnected_before_it_is_over(cloud, collection, name, action, code):
    struck = await cloud.incident({"network-partition": "zone-1"})
    with pytest.raises(RuntimeError, match=code):
        await cloud.act(collection, named(name), action)
    await cloud.end_incident(struck["id"])
    assert (await cloud.act(collection, named(name), action))["status"] == "Connected"


async def test_an_update_by_the_api_of_another_kind_changes_what_the_object_has(cloud):
    uuid = (await cloud.create("AddCephBackupStorage", name="c", monUrls=MONS))["uuid"]
    await cloud.call("UpdateSftpBackupStorage", uuid=uuid, name="new", sshPort=2222)
    item = cloud.cloud.get("BackupStorage", uuid)
    assert item["name"] == "new" and "sshPort" not in item


# the end of a zone


async def items(cloud):
    """What each Query finds, by its path."""
    queries = [api for api in cloud.cloud.catalogue.apis.values() if api.kind == "Query" and api.backing != "none"]
    return {api.path: (await cloud.request("GET", api.path))[1]["inventories"] for api in queries}


async def test_a_zone_takes_everything_along_that_was_in_it(cloud):
    await cloud.create("AddCephPrimaryStorage", name="c", zoneUuid=ZONE, monUrls=MONS)
    await cloud.create("AddFusionstorPrimaryStorage", name="f", zoneUuid=ZONE, monUrls=MONS)
    await cloud.create("AddSharedBlockGroupPrimaryStorage", name="g", zoneUuid=ZONE, diskUuids=["d"])
    body = {"params": {"name": "l", "diskOfferingUuid": named("disk-20g"), "primaryStorageUuid": LOCAL}, "systemTags": [f"localStorage::hostUuid::{named('host-3')}"]}
    assert (await outcome(cloud, "POST", "/volumes/data", body))[0] == 200
    before = await items(cloud)
    await cloud.delete("zones", ZONE)
    after = await items(cloud)
    gone = {item["uuid"] for found in before.values() for item in found if "uuid" in item} - {item["uuid"] for found in after.values() for item in found if "uuid" in item}
    assert {named(name) for name in ("zone-1", "cluster-1", "host-1", "ps-nfs", "l2-public", "l3-public", "range-public", "vm-web-1", "vip-1", "eip-1")} <= gone
    assert len(after) > 60 and {path for path, found in after.items() if found} <= {path for path, found in before.items() if found}
    past = {"/notifications", "/longjobs", "/gc-jobs"}  # what they tell of may be over
    refer = {(path, name) for path, found in after.items() if path not in past for item in found for name, value in item.items() if isinstance(value, str) and value in gone}
    assert refer == set(), "nothing that is left leads to what is gone"
    assert [storage["attachedZoneUuids"] for storage in await cloud.query("backup-storage")] == [[]]
    tagged = {tag["resourceType"] for tag in [*await cloud.query("system-tags"), *await cloud.query("user-tags")]}
    assert tagged <= {"DiskOfferingVO"}
    assert {type: len(table.items) for type, table in cloud.cloud.store.tables.items() if type.endswith("Mon") and table.items} == {}
