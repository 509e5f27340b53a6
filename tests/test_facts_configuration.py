"""What the real server does with global configurations, fact by fact, in both dialects: their checks, and what they switch."""

import json

from asking import ask_control, each
from facts import Refused, Shown, after, chain, changed, check, error_of, take
from test_facts_vm import BS, HOST1, WEB, V, act, answers, as_ann, configured, facts, leaves

from zmock import catalogue, named
from zmock import configured as value_of

IMAGE = named("image-new")
RATIO = ("host", "cpu.overProvisioning.ratio")
LONGEST_JOB = ("longJob", "longJob.api.timeout")
CONTROL = ("identity", "account.api.control")
HOOK = ("notification", "webhook.url")
NO_NUMBER = "GlobalConfig[category:%s, name:%s] is of type java.lang.%s, the value[%s] cannot be converted to that type, null"
NO_BOOL = "GlobalConfig[category:%s, name:%s]'s value[%s] is not a valid boolean string[true, false]."
WORDS = "Global config[category: %s, name: %s] "
NO_SIZE = "%s is not a size string; a size string consists of a number ending with suffix B/K/M/G/T or without suffix; for example, 512M, 1G"
NO_PASSWORD = "the vrouter password's first character must be a letter or number, besides no characters other than letters, numbers and these special characters: -_#"
UNLIKE = "*after filtering, HostAllocatorFilterExtensionPoint[class org.zstack.kvm.KVMHostAllocatorFilterExtensionPoint] returns zero candidate host*"
NO_ROOM = "after subtracting reserved capacity[100T], no backup storage has required capacity[%d bytes]"
TEMPLATE = {"name": "t", "volumeUuid": named("volume-db-data-1")}
OFFERINGS = {"InstanceOffering": ("instanceOfferingUuid", "VmInstance"), "DiskOffering": ("diskOfferingUuid", "Volume")}


def no(category, name, value, details, *steps, code="SYS.1007"):
    """A refused value."""
    params = {"category": category, "name": name} | ({} if value is None else {"value": value})
    return Refused(after(*steps, **params), code, details % (category, name) if details.startswith(WORDS) else details)


def takes(category, name, *values):
    """A story: these values are taken as they are given."""

    async def story(mock):
        for value in values:
            answer = (await take(mock, [configured(category, name, value)]))["inventory"]
            assert answer.get("value") == value
            assert answer == (await mock.query("global-configurations", f"category={category}", f"name={name}"))[0]

    return Shown(story)


# queries and changes


async def fields_of_one(mock):
    (one,) = await mock.query("global-configurations", "category=host", "name=load.all")
    assert one.keys() == {"category", "name", "description", "defaultValue", "value"}


async def no_relations(mock):
    status, _ = await mock.request("GET", "/global-configurations?q=account.name=admin")
    assert status in (400, 503)


async def all_of_them(mock):
    assert len(await mock.query("global-configurations")) == len(catalogue().configurations) == 157


async def in_force_at_once(mock):
    await take(mock, [configured(*RATIO, "7")])
    assert value_of(mock.cloud, *RATIO) == 7


async def without_pause(mock):
    """Neither heart beats nor GC jobs stop, or never end."""
    await mock.create("AddImage", name="i", url="http://a/b", format="qcow2", backupStorageUuids=[BS], resourceUuid=IMAGE)
    await take(mock, [configured("managementServer", "node.heartbeatInterval", "0"), configured("image", "deletion.gcInterval", "0")])
    await take(mock, [("DeleteImage", {"uuid": IMAGE}), changed("BackupStorage", BS, status="Disconnected"), ("ExpungeImage", {"imageUuid": IMAGE})])
    await mock.advance(5)
    assert (await mock.query("management-nodes"))[0]["heartBeat"]
    assert await mock.query("gc-jobs", f"name~=gc-delete-bits-{IMAGE}%", "status=Idle")


# what they switch


async def listeners_keep_their_tags(mock):
    vip = await mock.create("CreateVip", name="v", l3NetworkUuid=named("l3-public"))
    balancer = await mock.create("CreateLoadBalancer", name="b", vipUuid=vip["uuid"])
    listener = await mock.create("CreateLoadBalancerListener", name="l", loadBalancerUuid=balancer["uuid"], loadBalancerPort=80)
    await take(mock, [configured("loadBalancer", "maxConnection", "99")])
    assert await mock.query("system-tags", f"resourceUuid={listener['uuid']}", "tag=maxConnection::5000")
    await mock.create("CreateLoadBalancerListener", name="m", loadBalancerUuid=balancer["uuid"], loadBalancerPort=81)
    assert await mock.query("system-tags", "tag=maxConnection::99")


async def quotas_of_new_accounts(mock):
    for number in ("7", "8"):
        await take(mock, [configured("quota", "vm.num", number), ("CreateAccount", {"name": f"a{number}", "password": "p"})])
    quotas = await mock.query("accounts/quotas", "name=vm.num", "value<10")
    assert sorted(quota["value"] for quota in quotas) == [7, 8]


async def sessions_at_login(mock):
    old = mock.session
    await take(mock, [configured("identity", "session.timeout", "60")])
    await mock.login()
    await mock.advance(61)
    assert (await mock.request("GET", "/zones"))[0] == 503
    mock.session = old
    assert (await mock.request("GET", "/zones"))[0] == 200


async def sessions_at_renewal(mock):
    await take(mock, [configured("identity", "session.timeout", "60"), ("RenewSession", {"sessionUuid": mock.session})])
    await mock.advance(61)
    assert (await mock.request("GET", "/zones"))[0] == 503


async def progress_on(mock):
    data = json.dumps({"vmInstanceUuid": named("vm-db-2")})
    for value, rows in (("false", 0), ("true", 2)):
        await take(mock, [configured("progress", "progress.on", value)])
        job = await mock.create("SubmitLongJob", jobName="APIMigrateVmMsg", jobData=data)
        assert len((await mock.call("GetTaskProgress", apiId=job["apiId"]))["inventories"]) == rows


async def listed_apis(mock):
    """No API of 2.5.1 is under account control (Action.java): the list neither opens nor closes any."""
    await take(mock, [configured(*CONTROL, "org.zstack.header.zone.APICreateZoneMsg,"), as_ann("vm.num", 1)])
    assert [(await mock.request("GET", path))[0] for path in ("/zones", "/hosts", "/backup-storage", "/backup-storage/sftp")] == [200, 200, 200, 503]
    assert (await error_of(mock, "CreateZone", {"name": "z"}))["details"] == "operation is denied by default"


async def posted(mock):
    """What the web-hook of notifications is told: (url, body)."""
    told = []

    async def post(url, body, headers):
        told.append((url, json.loads(body)))
        return True

    mock.cloud.jobs.post = post
    await mock.incident({"host-down": "host-1"})
    await mock.advance(0)
    return told


async def hook_of_notifications(mock):
    await take(mock, [configured(*HOOK, "http://127.0.0.1:9/h")])
    told = await posted(mock)
    assert {url for url, _ in told} == {"http://127.0.0.1:9/h"}
    assert [item for _, body in told for item in body if item["resourceUuid"] == HOST1] == await mock.query("notifications", f"resourceUuid={HOST1}", "content~=%Disconnected")


async def no_hook(mock):
    assert await posted(mock) == []


async def stays_lost(mock):
    await take(mock, [configured("host", "connection.autoReconnectOnError", "false")])
    incident = await mock.incident({"host-down": "host-1"})
    await ask_control(mock, "DELETE", f"incidents/{incident['id']}")
    assert mock.cloud.look("Host", HOST1)["status"] == "Disconnected"
    await mock.call("ReconnectHost", uuid=HOST1)
    assert mock.cloud.look("Host", HOST1)["status"] == "Connected"


async def no_room(mock, **more):
    """Return the error of a template, as backup storage reserves all it has."""
    await take(mock, [configured("backupStorage", "reservedCapacity", "100T")])
    return chain(await error_of(mock, "CreateDataVolumeTemplateFromVolume", TEMPLATE | more))


async def reserved_space(mock):
    errors = await no_room(mock)
    assert [error["code"] for error in errors] == ["SYS.1006", "SYS.1006"]
    assert errors[-1]["details"] == NO_ROOM % mock.cloud.look("Volume", TEMPLATE["volumeUuid"])["actualSize"]


async def reserved_space_of_the_named(mock):
    (error,) = await no_room(mock, backupStorageUuids=[BS])
    assert error["details"].startswith(f"failed to allocate all backup storage[uuid:[{BS}]], a list of error: ")
    assert NO_ROOM % mock.cloud.look("Volume", TEMPLATE["volumeUuid"])["actualSize"] in error["details"]


def other_tags(begin):
    """A step after which all hosts but that of WEB have another tag of a kind."""

    async def step(mock):
        for tag in list(mock.cloud.store.rows("SystemTag")):
            if tag["tag"].startswith(begin) and tag["resourceUuid"] != HOST1:
                mock.cloud.change("SystemTag", tag["uuid"], tag=f"{begin}other")

    return step


def forgotten(type, uuid, category, name, value, left):
    """A story: what objects tell of their offering once it is deleted."""

    async def story(mock):
        key, of = OFFERINGS[type]
        users = mock.cloud.find(of, key, uuid)
        assert users
        await take(mock, [configured(category, name, value), (f"Delete{type}", {"uuid": uuid})])
        assert {mock.cloud.look(of, user["uuid"]).get(key) for user in users} == {left}

    return Shown(story)


FACTS = (
    *facts("QueryGlobalConfig",
        ("shows category, name, description, defaultValue and value", Shown(fields_of_one)),
        ("finds all of them", Shown(all_of_them)),
        ("is open to normal accounts", answers(as_ann("vm.num", 1), ("QueryGlobalConfig", {"q": "name=numa"}), inventories=[{
            "category": "vm", "name": "numa", "description": catalogue().configurations["vm/numa"].description, "defaultValue": "false", "value": "false"}])),
        ("leads nowhere", Shown(no_relations)),
    ),
    *facts("UpdateGlobalConfig",
        ("is for admin", no("vm", "numa", "true", "operation is denied by default", as_ann("vm.num", 1), code="SYS.1006")),
        ("refuses an unknown category", no("hosts", "load.all", "true", "Unable to find GlobalConfig[category: hosts, name: load.all]")),
        ("refuses an unknown name", no("host", "load.al", "true", "Unable to find GlobalConfig[category: host, name: load.al]")),
        ("the value it has is not checked", answers(changed("GlobalConfig", "/".join(RATIO), value="many"), configured(*RATIO, "many"), value="many")),
        ("type: no int", no(*RATIO, "many", NO_NUMBER % (*RATIO, "Integer", "many"))),
        ("type: a fraction is no int", no(*RATIO, "2.5", NO_NUMBER % (*RATIO, "Integer", "2.5"))),
        ("type: too much for an int", no(*RATIO, "99999999999", NO_NUMBER % (*RATIO, "Integer", "99999999999"))),
        ("type: no long", no("quota", "vm.num", "9" * 30, NO_NUMBER % ("quota", "vm.num", "Long", "9" * 30))),
        ("type: a number may not be left out", no(*RATIO, None, NO_NUMBER % (*RATIO, "Integer", "null"))),
        ("type: it comes before the bounds", no(*LONGEST_JOB, "x", NO_NUMBER % (*LONGEST_JOB, "Long", "x"))),
        ("boolean: no other word", no("vm", "numa", "yes", NO_BOOL % ("vm", "numa", "yes"))),
        ("boolean: not blank", no("vm", "numa", "", NO_BOOL % ("vm", "numa", ""))),
        ("boolean: not left out", no("vm", "numa", None, NO_BOOL % ("vm", "numa", "null"))),
        ("boolean: in any case", takes("vm", "numa", "TRUE", "False")),
        ("regex: none of the XML files is in force", takes("primaryStorage", "imageCache.garbageCollector.interval", "60")),
        ("null: a text may not be left out", no("kvm", "vm.cacheMode", None, WORDS + "cannot be null")),
        ("null: nor the APIs for all", no(*CONTROL, None, WORDS + "cannot be null")),
        ("blank: a text", no("virtualRouter", "ssh.username", " ", WORDS + "cannot be empty string")),
        ("blank: a text of a few", no("kvm", "vm.cacheMode", "", WORDS + "cannot be empty string")),
        ("blank: the APIs for all may be", takes(*CONTROL, "")),
        ("upper bound", no(*RATIO, "1001", WORDS + "should not greater than 1000, but got 1001")),
        ("upper bound: it is included", takes(*RATIO, "1000")),
        ("lower bound", no(*RATIO, "0", WORDS + "should not less than 1, but got 0")),
        ("lower bound: it is included", takes(*RATIO, "1")),
        ("lower bound: 0", no("quota", "vm.num", "-1", WORDS + "should not less than 0, but got -1")),
        ("lower bound: 0 is included", takes("quota", "vm.num", "0")),
        ("lower bound: intervals may be 0", Shown(without_pause)),
        ("lower bound: none for some", takes("gc", "orphanJobScanInterval", "-5")),
        ("range", no("kvm", "dataVolume.maxNum", "1025", WORDS + "must in range of [0, 1024]")),
        ("range: its ends are in it", takes("kvm", "dataVolume.maxNum", "0", "1024")),
        ("no number", no("kvm", "reservedCpu", "x", "x is not a number or out of range of a Long type")),
        ("no number: a bound nevertheless", no("kvm", "reservedCpu", "-2", WORDS + "should not less than -1, but got -2")),
        ("one of some", no("vm", "deletionPolicy", "Delayed", "Delayed is not a valid value. Valid values are [Direct, Delay, Never]")),
        ("one of some: in this case only", no("vm", "cleanTraffic", "TRUE", "TRUE is not a valid value. Valid values are [true, false]")),
        ("modules: a long job takes 3 hours at least", no(*LONGEST_JOB, "10799", "long job timeout must be larger than 10800s")),
        ("modules: a long job may take 3 hours", takes(*LONGEST_JOB, "10800")),
        ("modules: the APIs for all exist", no(*CONTROL, "org.zstack.header.zone.APIQueryZoneMsg, a.b.C", "no API found for a.b.C")),
        ("modules: no URL of notifications", no(*HOOK, "somewhere", "somewhere is not a valid URL")),
        ("modules: no URL of notifications on localhost", no(*HOOK, "http://localhost:8000/h", "http://localhost:8000/h is not a valid URL")),
        ("modules: URLs of notifications, or none", takes(*HOOK, "http://127.0.0.1:8000/h", "https://example.com", "ftp://a.example.org/x?y=1#z", "null")),
        ("modules: a URL of notifications may not be left out", no(*HOOK, None, "null", configured(*HOOK, "http://127.0.0.1/"), code="SYS.1000")),
        ("modules: a URL of notifications is not blank", no(*HOOK, "", WORDS + "cannot be empty string")),
        ("modules: no size of backup storage", no("backupStorage", "reservedCapacity", "1 GB", NO_SIZE % "1 GB")),
        ("modules: no size of primary storage", no("primaryStorage", "reservedCapacity", "a lot", NO_SIZE % "a lot")),
        ("modules: sizes", takes("primaryStorage", "reservedCapacity", "5", "512M", "2g", "3B")),
        ("modules: no size of memory", no("kvm", "reservedMemory", "1GB", WORDS +
            "only allows a size string. A size string is a number with suffix 'T/t/G/g/M/m/K/k/B/b' or without suffix, but got 1GB")),
        ("modules: more than 1 TiB of memory", no("kvm", "reservedMemory", "2T", "Value Global config[category: kvm, name: reservedMemory]  cannot be greater than the 1TB but got 2T")),
        ("modules: a relative mount path", no("nfsPrimaryStorage", "mount.base", "mnt", WORDS + "must be an absolute path starting with '/'")),
        ("modules: a password of routers", no("virtualRouter", "vrouter.password", "-a", NO_PASSWORD)),
        ("modules: passwords of routers", takes("virtualRouter", "vrouter.password", "a-_#9")),
        ("stores the value as it is given, and answers it", takes("host", "load.all", "FALSE", "true")),
        ("keeps the default", answers(configured(*RATIO, "20"), value="20", defaultValue="10")),
        ("is in force at once", Shown(in_force_at_once)),
        ("listeners read theirs when they are created", Shown(listeners_keep_their_tags)),
        ("accounts read their quotas when they are created", Shown(quotas_of_new_accounts)),
        ("sessions read their length at login", Shown(sessions_at_login)),
        ("sessions read their length at renewal", Shown(sessions_at_renewal)),
        ("progress reads whether it is on at every report", Shown(progress_on)),
        ("the list of APIs for all changes nothing", Shown(listed_apis)),
        ("notifications are posted to their URL, as a list", Shown(hook_of_notifications)),
        ("notifications are posted nowhere without one", Shown(no_hook)),
        ("a host that is not to be connected again stays Disconnected", Shown(stays_lost)),
        ("backup storage keeps what it reserves", Shown(reserved_space)),
        ("backup storage that is named keeps what it reserves", Shown(reserved_space_of_the_named)),
        ("machines forget a deleted offering", forgotten("InstanceOffering", named("offering-small"), "vm", "instanceOffering.setNullWhenDeleting", "true", None)),
        ("machines remember a deleted offering", forgotten("InstanceOffering", named("offering-small"), "vm", "instanceOffering.setNullWhenDeleting", "false", named("offering-small"))),
        ("volumes remember a deleted offering in any case", forgotten("DiskOffering", named("disk-100g"), "volume", "diskOffering.setNullWhenDeleting", "true", named("disk-100g"))),
    ),
    *facts("MigrateVm",
        ("takes hosts of the same CPU if that is checked", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB}, UNLIKE,
            configured("kvm", "checkHostCpuModelName", "true"), other_tags("cpuModelName::"))),
        ("takes hosts of another CPU if it is not", leaves(other_tags("cpuModelName::"), act("MigrateVm"), of=("VmInstance", WEB), lastHostUuid=HOST1)),
        ("takes hosts of the same qemu in any case", V("HOST_ALLOCATION.1000", {"vmInstanceUuid": WEB}, UNLIKE, other_tags("qemu-img::version::"))),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
