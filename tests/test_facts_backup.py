"""Facts of the server on backup storage of each kind: a case for each, in both dialects."""

from asking import each, failure, one, outcome, submit
from facts import Refused, Shown, Uncovered, after, chain, changed, check, error_of, take
from test_facts_images import breaks, twice
from test_facts_vm import (
    ABSENT,
    BS,
    CENTOS,
    ISO,
    WEB,
    ZONE,
    answers,
    facts,
    gone,
    leaves,
    look_at,
)

from zmock import named

GIB, TIB = 1 << 30, 1 << 40
NEW, SECOND, OTHER, ZONE2, NOBODY, PS = (named(f"new-{number}") for number in range(6))
SFTP = {"name": "s", "hostname": "10.0.0.7", "username": "root", "password": "p", "url": "/bs", "resourceUuid": NEW}
CEPH = {"name": "c", "monUrls": ["root:p@10.0.0.7", "root:q@10.0.0.8:2222/?monPort=6790"], "resourceUuid": NEW}
SIMULATOR = {"name": "x", "url": "/x", "totalCapacity": 9, "availableCapacity": 8, "resourceUuid": NEW}
MAKE_SFTP, MAKE_CEPH = ("AddSftpBackupStorage", SFTP), ("AddCephBackupStorage", CEPH)
FORM = "sshUsername:sshPassword@hostname:[sshPort]/?[monPort=]"
KINDS = ("Ceph", "Fusionstor")  # both have monitors
MONS = {kind: f"{kind}BackupStorageMon" for kind in KINDS}
ATTACH = ("AttachBackupStorageToZone", {"backupStorageUuid": NEW, "zoneUuid": ZONE})
DETACH = ("DetachBackupStorageFromZone", {"backupStorageUuid": BS, "zoneUuid": ZONE})
NEW_ZONE = ("CreateZone", {"name": "z", "resourceUuid": ZONE2})
IMAGE = {"name": "i", "url": "http://mirror.example.com/i.qcow2", "format": "qcow2", "backupStorageUuids": [BS]}
OF_BS, OF_NEW = {"of": ("BackupStorage", BS)}, {"of": ("BackupStorage", NEW)}
DISABLE = ("ChangeBackupStorageState", {"uuid": BS, "stateEvent": "disable"})


# clouds, and looks at them


def add(kind, **more):
    return (f"Add{kind}BackupStorage", CEPH | more)


def mons(mock, kind, uuid=NEW):
    return {mon["hostname"]: mon for mon in mock.cloud.find(MONS[kind], "backupStorageUuid", uuid)}


def mon(kind, hostname):
    """A state in which the call changes a monitor."""

    async def state(mock):
        await take(mock, [add(kind)])
        return {"monUuid": mons(mock, kind)["10.0.0.7"]["uuid"], "hostname": hostname}

    return state


def failing_at(stage, api, code, *steps, params, details="no answer", **fields):
    """A story: an error of the agent has the codes of the call around it. `fields` are those of the storage after it."""

    async def story(mock):
        await take(mock, steps)
        mock.rule(api=api, then={"error": "SYS.1006", "details": details, "stage": stage})
        errors = chain(await error_of(mock, api, params))
        assert " <- ".join(error["code"] for error in errors) == code and {error["details"] for error in errors} == {details}
        if fields:
            look_at(mock, ("BackupStorage", params["uuid"]), fields)
        else:
            assert not mock.cloud.look("BackupStorage", NEW) and not mock.cloud.find("SystemTag", "resourceUuid", NEW)

    return Shown(story)


async def connecting_with_its_tags(mock):
    mock.rule(api="AddSftpBackupStorage", delay=30)
    await submit(mock, "POST", "/backup-storage/sftp", {"params": SFTP, "userTags": ["u"]})
    await mock.advance(1)
    assert (await one(mock, "backup-storage", f"uuid={NEW}"))["status"] == "Connecting"
    assert [tag["tag"] for tag in await mock.query("user-tags", f"resourceUuid={NEW}")] == ["u"]
    await mock.advance(30)
    assert (await one(mock, "backup-storage", f"uuid={NEW}"))["status"] == "Connected"


def passes(api, uuid, path, key, status):
    """A story: the status while a storage is reconnected."""

    async def story(mock):
        mock.rule(api=api, delay=30)
        await submit(mock, "PUT", path, {key: {}})
        await mock.advance(1)
        assert mock.cloud.look("BackupStorage", uuid)["status"] == status
        await mock.advance(30)
        assert mock.cloud.look("BackupStorage", uuid)["status"] == "Connected"

    return Shown(story)


async def url_before_hostname(mock):
    """The order of the refusals: in the manual's dialect an illegal parameter comes first."""
    why = await failure(mock, "AddSftpBackupStorage", **SFTP | {"hostname": "10.10.0.100", "url": "relative"})
    assert why.startswith("SYS.1007: invalid url" if mock.cloud.dialect["bad-parameter"] else "SYS.1006: duplicate backup storage")


async def password_is_secret(mock):
    assert "password" not in await mock.create(*MAKE_SFTP[:1], **SFTP)
    assert "password" not in await one(mock, "backup-storage/sftp", f"uuid={NEW}")


def pool_of(kind, name=None):
    """A story: the pool of a storage, and the tag of a pool that was there."""

    async def story(mock):
        await take(mock, [add(kind, **({"poolName": name} if name else {}))])
        look_at(mock, ("BackupStorage", NEW), {"poolName": name or f"bak-t-{NEW}", "url": "not used"})
        tags = [(tag["tag"], tag["inherent"]) for tag in mock.cloud.find("SystemTag", "resourceUuid", NEW)]
        assert tags == ([(f"{kind.lower()}::predefinedPool", False)] if name else [])

    return Shown(story)


def has_mons(kind):
    async def story(mock):
        made = await mock.create(*add(kind)[:1], **CEPH)
        assert {(mon["hostname"], mon["sshPort"], mon["monPort"], mon["status"]) for mon in made["mons"]} \
            == {("10.0.0.7", 22, 6789, "Connected"), ("10.0.0.8", 2222, 6790, "Connected")}  # fmt: skip
        assert made["fsid"] and made["type"] == kind and made["availableCapacity"] == made["totalCapacity"] > 0

    return Shown(story)


def same_cluster(kind):
    """A state: the first monitor of a storage, which stands for its cluster, is to be that of another one."""

    async def state(mock):
        await take(mock, [add(kind), (f"RemoveMonFrom{kind}BackupStorage", {"uuid": NEW, "monHostnames": ["10.0.0.7"]})])
        return {"name": "d", "monUrls": ["root:p@10.0.0.7"], "resourceUuid": SECOND}

    return state


def adds_mon(kind):
    async def story(mock):
        await take(mock, [add(kind), (f"AddMonTo{kind}BackupStorage", {"uuid": NEW, "monUrls": ["root:p@10.0.0.9:23"]})])
        new = mons(mock, kind)["10.0.0.9"]
        assert (new["sshPort"], new["monPort"], new["monAddr"], new["status"]) == (23, 6789, "10.0.0.9", "Connected")

    return Shown(story)


def no_mon_stays(kind):
    async def story(mock):
        await take(mock, [add(kind)])
        mock.rule(api=f"AddMonTo{kind}BackupStorage", then={"error": "SYS.1006", "details": "unable to connect mons", "stage": "connect"})
        assert "unable to connect mons" in await failure(mock, f"AddMonTo{kind}BackupStorage", uuid=NEW, monUrls=["root:p@10.0.0.9"])
        assert {*mons(mock, kind)} == {"10.0.0.7", "10.0.0.8"}

    return Shown(story)


def updates_mon(kind):
    async def story(mock):
        params = await mon(kind, "10.0.0.8")(mock)  # another one has that name
        answer = await mock.create(f"Update{kind}BackupStorageMon", **params, sshPort=23, monPort=24, sshUsername="u", sshPassword="v")
        (changed,) = (item for item in mock.cloud.find(MONS[kind], "backupStorageUuid", NEW) if item["sshPort"] == 23)
        assert [changed[name] for name in ("hostname", "monPort", "sshUsername", "sshPassword", "monAddr", "status")] == ["10.0.0.8", 24, "u", "v", "10.0.0.7", "Connected"]
        assert (answer["uuid"], answer["type"], len(answer["mons"])) == (NEW, kind, 2)

    return Shown(story)


def removes_mons(kind):
    """Monitors of another storage stay, also those of a name that is not there, and the last one may go."""

    async def story(mock):
        await take(mock, [add(kind), add(kind, resourceUuid=SECOND, monUrls=["root:p@10.0.0.9"])])
        answer = await mock.create(f"RemoveMonFrom{kind}BackupStorage", uuid=NEW, monHostnames=["10.0.0.7", "10.0.0.8", "10.0.0.9", "nobody"])
        assert answer["mons"] == [] and {*mons(mock, kind, SECOND)} == {"10.0.0.9"}

    return Shown(story)


async def typed(mock):
    """Each call answers the inventory of the kind."""
    await take(mock, [MAKE_SFTP, NEW_ZONE])
    for api, params in (ATTACH, ("DetachBackupStorageFromZone", ATTACH[1]), ("ChangeBackupStorageState", {"uuid": NEW, "stateEvent": "enable"}),
                        ("UpdateBackupStorage", {"uuid": NEW, "name": "t"}), ("ReconnectBackupStorage", {"uuid": NEW}), ("ReconnectSftpBackupStorage", {"uuid": NEW})):  # fmt: skip
        assert (await mock.create(api, **params)).items() >= {"hostname": "10.0.0.7", "username": "root", "sshPort": 22}.items(), api


async def images_stay(mock):
    running = {vm["uuid"] for vm in await mock.query("vm-instances", "state=Running")}
    await take(mock, [DETACH])
    assert mock.cloud.look("Image", CENTOS)["status"] == "Ready" and mock.cloud.look("Image", CENTOS)["backupStorageRefs"]
    assert {vm["uuid"] for vm in await mock.query("vm-instances", "state=Running")} == running


def no_download(reason, **changes):
    """A story: an image is not downloaded to a storage that has changed meanwhile."""

    async def story(mock):
        mock.rule(api="AddImage", delay=30)
        job = await submit(mock, "POST", "/images", {"params": IMAGE})
        mock.cloud.change("BackupStorage", BS, **changes)
        await mock.advance(31)
        _, answer = await mock.request("GET", f"/api-jobs/{job}")
        (cause,) = answer["error"]["causes"]
        message = "org.zstack.header.storage.backup.DownloadImageMsg"
        assert (cause["code"], cause["details"]) == ("SYS.1006", f"backup storage cannot proceed message[{message}] because its {reason}")

    return Shown(story)


def bits_to_delete(mock):
    return [job["name"] for job in mock.cloud.store.rows("GarbageCollector") if job["name"].startswith("gc-delete-bits")]


async def bits_stay_on_disabled(mock):
    await take(mock, [DISABLE, ("DeleteImage", {"uuid": ISO}), ("ExpungeImage", {"imageUuid": ISO})])
    assert not mock.cloud.look("Image", ISO)
    assert bits_to_delete(mock) == [f"gc-delete-bits-{ISO}-on-backup-storage-{BS}"]


async def takes_images(mock):
    both = await twice(mock)
    bs = next(ref["backupStorageUuid"] for ref in mock.cloud.look("Image", both)["backupStorageRefs"] if ref["backupStorageUuid"] != BS)
    await mock.call("UpdateGlobalConfig", category="image", name="deletionPolicy", value="Never")
    await take(mock, [("DeleteBackupStorage", {"uuid": BS})])
    assert not mock.cloud.look("Image", CENTOS) and mock.cloud.look("VmInstance", WEB)["state"] == "Running"
    assert [ref["backupStorageUuid"] for ref in mock.cloud.look("Image", both)["backupStorageRefs"]] == [bs]
    assert not bits_to_delete(mock)


def takes_mons(kind):
    async def story(mock):
        await take(mock, [add(kind), ("DeleteBackupStorage", {"uuid": NEW})])
        assert not [*mock.cloud.store.rows(MONS[kind])]

    return Shown(story)


async def quiet_deletion(mock):
    status, answer = await outcome(mock, "DELETE", f"/backup-storage/{NOBODY}")
    assert (status, answer or {}) == (200, {})


def capacity(*steps, is_=0, **params):
    """A story: the number of storages of 1 TiB that are summed up, of which each has 1 GiB in use."""

    async def story(mock):
        mock.cloud.remove("BackupStorage", BS)
        mock.cloud.change("Zone", ZONE, name="z1")
        await take(mock, [NEW_ZONE])
        for uuid in (NEW, SECOND):
            await take(mock, [("AddSftpBackupStorage", SFTP | {"resourceUuid": uuid, "hostname": f"h-{uuid[:4]}"})])
            mock.cloud.change("BackupStorage", uuid, totalCapacity=TIB, availableCapacity=TIB - GIB)
        await take(mock, steps)
        assert await mock.call("GetBackupStorageCapacity", **params) == {"totalCapacity": is_ * TIB, "availableCapacity": is_ * (TIB - GIB)} \
            | ({"success": True} if mock.cloud.dialect.name == "server" else {})  # fmt: skip

    return Shown(story)


def zones(uuid, *zones):
    return changed("BackupStorage", uuid, attachedZoneUuids=[*zones])


async def types(mock):
    answer = await mock.call("GetBackupStorageTypes")
    known = ["Fusionstor", "Ceph", "SftpBackupStorage"]
    assert [type for type in answer["types"] if type in known] == known and "ImageStoreBackupStorage" in answer["types"]


async def kinds_of_queries(mock):
    await take(mock, [("AddCephBackupStorage", CEPH), ("AddFusionstorBackupStorage", CEPH | {"resourceUuid": SECOND})])
    found = {path: {item["uuid"] for item in await mock.query(f"backup-storage{path}")} for path in ("", "/sftp", "/ceph", "/fusionstor")}
    assert found == {"": {BS, NEW, SECOND}, "/sftp": {BS}, "/ceph": {NEW}, "/fusionstor": {SECOND}}


async def cut_off(mock):
    mock.cloud.change("BackupStorage", BS, status="Disconnected", cutOff=True)


async def loses_zone(mock):
    await mock.call("DeleteZone", uuid=ZONE)
    look_at(mock, ("BackupStorage", BS), {"attachedZoneUuids": [], "status": "Connected"})
    assert mock.cloud.look("Image", CENTOS)["status"] == "Ready"


async def image_store(mock):
    await mock.call("AddImageStoreBackupStorage", **SFTP)
    image = await mock.create("AddImage", **IMAGE | {"backupStorageUuids": [NEW]})
    assert (await mock.call("ExportImageFromBackupStorage", backupStorageUuid=NEW, imageUuid=image["uuid"]))["imageUrl"].startswith("http://10.0.0.7")


def of_each_kind(facts_of):
    return [fact for kind in KINDS for fact in facts_of(kind)]


def facts_of_adding(kind):
    api, low = f"Add{kind}BackupStorage", kind.lower()
    return facts(api,
        ("refuses an empty name of the pool", Refused(CEPH | {"poolName": ""}, "SYS.1007", "poolName can be null but cannot be an empty string")),
        ("importing images needs the name of the pool", Refused(CEPH | {"importImages": True}, "SYS.1007", "poolName is required when importImages is true")),
        ("imports with the name of a pool", leaves(add(kind, importImages=True, poolName="p"), **OF_NEW, status="Connected")),
        ("refuses a host twice", Refused(CEPH | {"monUrls": ["root:p@10.0.0.7", "u:q@10.0.0.7:23"]}, "SYS.1007", "Cannot add same host[10.0.0.7] in mons")),
        *[(f"refuses the url {url}", Refused(CEPH | {"monUrls": [url]}, "SYS.1007", f"invalid monUrl[{url}], {reason}. A valid monUrl is in format of {FORM}")) for url, reason in (
            ("10.0.0.7", "the sshUsername:sshPassword part is invalid"), ("root@10.0.0.7", "the sshUsername:sshPassword part is invalid"),
            ("root:p@", "hostname cannot be null"), ("root:p@a b", "hostname cannot be null"),
            ("root:p@10.0.0.7:0", "the ssh port is greater than 65535 or smaller than 1"), ("root:p@10.0.0.7:65536", "the ssh port is greater than 65535 or smaller than 1"))],
        ("refuses a monitor of another one", Refused(after(add(kind), **CEPH | {"resourceUuid": SECOND, "monUrls": ["root:p@10.0.0.9", "root:p@10.0.0.8"]}), "SYS.1007", f"cannot add {low} backup storage, there has been some {low} backup storage using mon[hostnames:[10.0.0.8]]")),
        ("refuses the cluster of another one", Refused(same_cluster(kind), "SYS.1002 <- SYS.1006", f"there is another {kind.upper()} backup storage[name:c, uuid:{NEW}] with the same FSID[*], you cannot add the same {kind.upper()} setup as two different backup storage")),
        ("no monitor connects: the storage goes", failing_at("connect", api, "SYS.1002 <- SYS.1006", params=CEPH | {"poolName": "p"}, details=f"unable to connect to the {low} backup storage[uuid:{NEW}]. Failed to connect all ceph mons. Errors are []")),
        ("fails without a monitor", Refused(CEPH | {"monUrls": []}, "SYS.1002 <- SYS.1006", f"unable to connect to the {low} backup storage[uuid:{NEW}]. Failed to connect all {low} mons. Errors are []")),
        ("the pool has a name of its own", pool_of(kind)),
        ("the pool has the name that is given, and a tag", pool_of(kind, "mine")),
        ("has monitors with the ports 22 and 6789, and others if given", has_mons(kind)),
    )  # fmt: skip


def facts_of_monitors(kind):
    add_mon, update = f"AddMonTo{kind}BackupStorage", f"Update{kind}BackupStorageMon"
    return [
        *facts(add_mon,
            ("refuses a host twice", Refused(after(add(kind), uuid=NEW, monUrls=["root:p@h", "root:q@h"]), "SYS.1007", "Cannot add same host[h] in mons")),
            ("refuses a wrong url", Refused(after(add(kind), uuid=NEW, monUrls=["h"]), "SYS.1007", f"invalid monUrl[h], the sshUsername:sshPassword part is invalid. A valid monUrl is in format of {FORM}")),
            ("refuses a monitor of its own", Refused(after(add(kind), uuid=NEW, monUrls=["root:p@10.0.0.7"]), "SYS.1007", "Adding the same Mon node is not allowed")),
            ("refuses a monitor of any such storage", Refused(after(add(kind), add(kind, resourceUuid=SECOND, monUrls=["root:p@10.0.0.9"]), uuid=SECOND, monUrls=["root:p@10.0.0.7"]), "SYS.1007", "Adding the same Mon node is not allowed")),
            ("adds it", adds_mon(kind)),
            ("no new monitor stays if one does not connect", no_mon_stays(kind)),
        ),
        *facts(update,
            ("refuses what is no hostname", Refused(mon(kind, "a_b"), "SYS.1007", "hostname[a_b] is neither an IPv4 address nor a valid hostname")),
            ("changes name, ports and login, neither address nor status; a name may be there twice", updates_mon(kind)),
        ),
        *facts(f"RemoveMonFrom{kind}BackupStorage", ("looks at its own monitors only, ignores unknown ones, and removes the last one too", removes_mons(kind))),
    ]  # fmt: skip


FACTS = (
    *facts("AddSftpBackupStorage",
        ("refuses what is no hostname", Refused(SFTP | {"hostname": "a_b"}, "SYS.1007", "hostname[a_b] is neither an IPv4 address nor a valid hostname")),
        ("refuses the hostname of another one", Refused(SFTP | {"hostname": "10.10.0.100"}, "SYS.1006", "duplicate backup storage. There has been a sftp backup storage[hostname:10.10.0.100] existing")),
        *[(f"refuses the folder {url}", Refused(SFTP | {"url": url}, "SYS.1007", " the url contains an invalid folder[/dev or /proc or /sys]")) for url in ("/proc/1", "/dev", "/system")],
        ("refuses a relative url", Refused(SFTP | {"url": "a/b"}, "SYS.1007", "invalid url[a/b], the url must be an absolute path starting with '/'")),
        ("checks in this order", Shown(url_before_hostname)),
        ("listens on 22 where no port is given", leaves(MAKE_SFTP, **OF_NEW, sshPort=22)),
        ("imports the images of its metadata", Uncovered("a new storage has no metadata")),
        ("is Connecting with its tags, then Connected", Shown(connecting_with_its_tags)),
        ("an agent that cannot be reached: SYS.1002 with the cause, and the storage goes", failing_at("connect", "AddSftpBackupStorage", "SYS.1002 <- SYS.1006", params=SFTP | {"systemTags": []}, details="unable to connect to SimpleHttpBackupStorage[url:/bs], because no answer")),
        ("answers host, user and port", answers(MAKE_SFTP, hostname="10.0.0.7", username="root", sshPort=22, type="SftpBackupStorage", url="/bs")),
        ("never shows the password", Shown(password_is_secret)),
        ("answers state, status, capacities and no zone", answers(MAKE_SFTP, state="Enabled", status="Connected", totalCapacity=50 * TIB, availableCapacity=50 * TIB, attachedZoneUuids=[])),
    ),
    *of_each_kind(facts_of_adding),
    *facts("AddCephBackupStorage",
        ("monitors of different clusters", Uncovered("all monitors of a call are of one cluster")),
        ("a monitor may be that of a primary storage", leaves(("AddCephPrimaryStorage", CEPH | {"zoneUuid": ZONE, "resourceUuid": PS}), MAKE_CEPH, **OF_NEW, status="Connected")),
        ("a monitor may be that of another kind", leaves(add("Fusionstor", resourceUuid=SECOND), MAKE_CEPH, **OF_NEW, status="Connected")),
    ),
    *of_each_kind(facts_of_monitors),
    *facts("AddSimulatorBackupStorage",
        ("has the capacities that are given", answers(("AddSimulatorBackupStorage", SIMULATOR), totalCapacity=9, availableCapacity=8, status="Connected", state="Enabled", type="SimulatorBackupStorage")),
    ),
    *facts("AttachBackupStorageToZone",
        ("refuses a zone that has it", Refused({"backupStorageUuid": BS, "zoneUuid": ZONE}, "SYS.1006", f"backup storage[uuid:{BS}] has been attached to zone[uuid:{ZONE}]")),
        ("state and status do not matter", leaves(MAKE_SFTP, changed("BackupStorage", NEW, state="Disabled", status="Disconnected"), ATTACH, **OF_NEW, attachedZoneUuids=[ZONE])),
        ("takes several zones", answers(NEW_ZONE, MAKE_SFTP, ATTACH, ("AttachBackupStorageToZone", {"backupStorageUuid": NEW, "zoneUuid": ZONE2}), attachedZoneUuids=[ZONE, ZONE2])),
        ("a disabled zone does not matter", leaves(changed("Zone", ZONE, state="Disabled"), MAKE_SFTP, ATTACH, **OF_NEW, attachedZoneUuids=[ZONE])),
        ("answers the typed inventory, as the others do", Shown(typed)),
    ),
    *facts("DetachBackupStorageFromZone",
        ("refuses a zone that has it not", Refused(after(NEW_ZONE, backupStorageUuid=BS, zoneUuid=ZONE2), "SYS.1006", f"backup storage[uuid:{BS}] has not been attached to zone[uuid:{ZONE2}]")),
        ("takes away the reference", answers(DETACH, attachedZoneUuids=[])),
        ("images and machines stay", Shown(images_stay)),
    ),
    *facts("ChangeBackupStorageState",
        ("disables", answers(DISABLE, state="Disabled", status="Connected")),
        ("disables what is Disabled", answers(DISABLE, DISABLE, state="Disabled")),
        ("enables what is Enabled", answers(("ChangeBackupStorageState", {"uuid": BS, "stateEvent": "enable"}), state="Enabled")),
        ("a disabled one downloads nothing", no_download("state is Disabled", state="Disabled")),
        ("a disconnected one downloads nothing", no_download("status is Disconnected", status="Disconnected")),
        ("the state counts before the status", no_download("state is Disabled", state="Disabled", status="Disconnected")),
        ("a disabled one deletes no bits", Shown(bits_stay_on_disabled)),
    ),
    *facts("UpdateBackupStorage",
        ("changes name and description", answers(("UpdateBackupStorage", {"uuid": BS, "name": "n", "description": ""}), name="n", description="")),
        ("changes nothing else", leaves(("UpdateBackupStorage", {"uuid": BS, "hostname": "h", "url": "/u"}), **OF_BS, hostname="10.10.0.100", url="/zstack_bs")),
    ),
    *facts("UpdateSftpBackupStorage",
        ("changes login, host and port too", leaves(("UpdateSftpBackupStorage", {"uuid": BS, "username": "u", "password": "q", "hostname": "h", "sshPort": 23, "name": "n"}), **OF_BS, username="u", hostname="h", sshPort=23, name="n")),
        ("refuses what is no hostname", Refused({"uuid": BS, "hostname": "a_b"}, "SYS.1007", "hostname[a_b] is neither an IPv4 address nor a valid hostname")),
        ("takes the hostname of another one", leaves(MAKE_SFTP, ("UpdateSftpBackupStorage", {"uuid": NEW, "hostname": "10.10.0.100"}), **OF_NEW, hostname="10.10.0.100")),
        ("does not reconnect", leaves(changed("BackupStorage", BS, status="Disconnected"), ("UpdateSftpBackupStorage", {"uuid": BS, "hostname": "h"}), **OF_BS, status="Disconnected")),
        ("the password is not shown", answers(("UpdateSftpBackupStorage", {"uuid": BS, "password": "q"}), password=ABSENT)),
    ),
    *facts("ReconnectBackupStorage",
        ("is Connecting on the way", passes("ReconnectBackupStorage", BS, f"/backup-storage/{BS}/actions", "reconnectBackupStorage", "Connecting")),
        ("is Disconnected after a failure, whose error is bare", failing_at("reconnect", "ReconnectBackupStorage", "SYS.1006", params={"uuid": BS}, status="Disconnected")),
        ("connects what is Disconnected", answers(changed("BackupStorage", BS, status="Disconnected"), ("ReconnectBackupStorage", {"uuid": BS}), status="Connected")),
        ("refuses Ceph without a monitor", Refused(after(MAKE_CEPH, ("RemoveMonFromCephBackupStorage", {"uuid": NEW, "monHostnames": ["10.0.0.7", "10.0.0.8"]}), uuid=NEW), "SYS.1006", f"unable to connect to the ceph backup storage[uuid:{NEW}]. Failed to connect all ceph mons. Errors are []", True)),
        ("fails while the storage is cut off", Refused(after(cut_off, uuid=BS), "SYS.1006", "unable to connect to SimpleHttpBackupStorage[url:*], because *")),
    ),
    *facts("ReconnectSftpBackupStorage",
        ("keeps its status on the way", passes("ReconnectSftpBackupStorage", BS, f"/backup-storage/sftp/{BS}/actions", "reconnectSftpBackupStorage", "Connected")),
        ("keeps its status after a failure, BS.SFTP.1000 with the cause", failing_at("reconnect", "ReconnectSftpBackupStorage", "BS.SFTP.1000 <- SYS.1006", params={"uuid": BS}, status="Connected")),
        ("connects what is Disconnected", answers(changed("BackupStorage", BS, status="Disconnected"), ("ReconnectSftpBackupStorage", {"uuid": BS}), status="Connected")),
        ("fails while the storage is cut off", Refused(after(cut_off, uuid=BS), "BS.SFTP.1000 <- SYS.1006", "unable to connect to SimpleHttpBackupStorage[url:*], because *")),
    ),
    *facts("DeleteBackupStorage",
        ("zones and images do not matter", gone(("DeleteBackupStorage", {"uuid": BS}), of=("BackupStorage", BS))),
        ("images that are elsewhere lose the reference, others go at once; bits and machines stay", Shown(takes_images)),
        *[(f"monitors of {kind} go", takes_mons(kind)) for kind in KINDS],
        ("a failure is SYS.1004 with its cause", Refused(breaks("DeleteBackupStorage", "Permissive"), "SYS.1004 <- HOST.1005")),
        ("an unknown uuid is a success without a body", Shown(quiet_deletion)),
    ),
    *facts("ExportImageFromBackupStorage",
        ("needs an image", Refused({"backupStorageUuid": BS}, "SYS.1007", "*imageUuid*")),
        ("Sftp has no handler", Refused({"backupStorageUuid": BS, "imageUuid": CENTOS}, "SYS.1008")),
        ("Ceph has no handler", Refused(after(MAKE_CEPH, backupStorageUuid=NEW, imageUuid=CENTOS), "SYS.1008")),
        ("ImageStore answers a url", Shown(image_store)),
    ),
    *facts("DeleteExportedImageFromBackupStorage",
        ("Sftp has no handler", Refused({"backupStorageUuid": BS, "imageUuid": CENTOS}, "SYS.1008")),
        ("Ceph has no handler", Refused(after(MAKE_CEPH, backupStorageUuid=NEW, imageUuid=CENTOS), "SYS.1008")),
    ),
    *facts("GetBackupStorageCapacity",
        ("all means all", capacity(is_=2, all=True)),
        ("all means all, whatever the zones", capacity(zones(NEW, ZONE2), is_=2, all=True, zoneUuids=[ZONE2])),
        ("storage that is named counts, whatever else", capacity(zones(NEW, ZONE2), is_=1, all=True, backupStorageUuids=[NEW])),
        ("without any storage all are zeros", capacity(is_=0, zoneUuids=[ZONE])),
        ("refuses a call without any of them", Refused({}, "SYS.1007", "zoneUuids, backupStorageUuids must have at least one be none-empty list, or all is set to true")),
        ("refuses empty lists", Refused({"zoneUuids": [], "backupStorageUuids": [], "all": False}, "SYS.1007", "zoneUuids, backupStorageUuids must have at least one*")),
        ("sums up the storage of a zone", capacity(zones(NEW, ZONE2), is_=1, zoneUuids=[ZONE2])),
        ("storage in two of the zones counts twice", capacity(zones(NEW, ZONE, ZONE2), zones(SECOND, ZONE), is_=3, zoneUuids=[ZONE, ZONE2])),
        ("states do not matter", capacity(changed("BackupStorage", NEW, state="Disabled", status="Disconnected"), is_=2, all=True)),
    ),
    *facts("GetBackupStorageTypes", ("answers them in the order of their numbers", Shown(types))),
    *facts("QueryBackupStorage",
        ("shows all kinds, and each among its own", Shown(kinds_of_queries)),
    ),
    *facts("QuerySftpBackupStorage",
        ("overwrites a condition on the type", Uncovered("a condition for another type finds nothing")),
    ),
    *facts("Cascades",
        ("a removed zone is lost, and images stay", Shown(loses_zone)),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
