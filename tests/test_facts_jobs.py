"""What the real server does with GC jobs, notifications, progress, long jobs, management nodes, web-hooks and signals, in both dialects.

test_facts_images.py has more facts of long jobs and GC jobs.
"""

import json

from asking import each, one, outcome, submit
from facts import Refused, Shown, Uncovered, changed, check, error_of, take
from test_facts_images import IMAGE, idle_job, job_that_is, long_job, start
from test_facts_vm import CI, NOBODY, WEB, V, answers, as_ann, configured, facts

from zmock import ADMIN, named

NODE = named("management-node")
HOOK = named("hook-new")
EVENTS = {"name": "h", "url": "http://10.0.0.9:8000/h", "type": "CanonicalEvent", "opaque": "/vm/state/{x}"}
CREATE_HOOK = ("CreateWebhook", EVENTS | {"resourceUuid": HOOK})
ONLY_ADMIN = "operation is denied by default"
MIGRATION = {"vmInstanceUuid": named("vm-db-2")}
KNOWN = ("UpdateClusterOS", "MigrateVm", "AddImage", "CreateDataVolumeTemplateFromVolume", "CreateRootVolumeTemplateFromRootVolume", "DeleteVolumeSnapshot", "RevertVolumeFromSnapshot")


def for_admin(**params):
    return V("SYS.1006", params, ONLY_ADMIN, as_ann("vm.num", 1))


def members(type, *steps):
    """A story: a collection shows these fields, and no others."""
    collection, *names = type.split()

    async def story(mock):
        await take(mock, steps)
        inventories = await mock.query(collection)
        assert inventories and all(item.keys() <= {*names} for item in inventories)
        assert {*names} - {"opaque"} == set().union(*inventories) - {"opaque"}

    return Shown(story)


def leads_nowhere(collection):
    """A story: a query has no relations."""

    async def story(mock):
        status, _ = await mock.request("GET", f"/{collection}?q=zone.name=z")
        assert status in (400, 503)

    return Shown(story)


def empty(*steps):
    """A story: the last call answers nothing."""

    async def story(mock):
        assert await take(mock, steps) in ({}, None, "")

    return Shown(story)


# GC jobs


async def job_for_ann(mock):
    uuid = await idle_job(mock)
    return await as_ann("vm.num", 1, uuid=uuid)(mock)


async def host_is_back(mock):
    await mock.incident({"management-node-restart": {}})
    await mock.login()
    job = await one(mock, "gc-jobs", "status=Idle")
    host = json.loads(job["context"])["hostUuid"]
    await mock.call("ReconnectHost", uuid=host)
    assert (await one(mock, "gc-jobs", f"uuid={job['uuid']}"))["status"] == "Done"


# notifications


async def new_ones(mock, *steps):
    """The notifications that some calls write, which may fail."""
    before = {item["uuid"] for item in await mock.query("notifications")}
    for api, params in steps:
        await error_of(mock, api, params)
    return [item for item in await mock.query("notifications") if item["uuid"] not in before]


async def of_a_failure(mock):
    (item,) = await new_ones(mock, ("RebootVmInstance", {"uuid": CI}))
    assert (item["name"], item["sender"], item["type"], item["status"]) == ("api", "api", "Info", "Unread")
    assert (item["opaque"]["success"], item["opaque"]["error"]["code"]) == (False, "VM.1003")
    assert item["opaque"]["session"] == {"uuid": mock.session, "accountUuid": ADMIN, "userUuid": ADMIN}
    assert (item["resourceUuid"], item["resourceType"], type(item["time"])) == (CI, "VmInstanceVO", int)
    assert item["content"].count("%s") == len(json.loads(item["arguments"]))


async def of_no_creation(mock):
    assert await new_ones(mock, ("CreateCluster", {"name": "c", "hypervisorType": "x", "zoneUuid": named("zone-1")}), ("CreateEip", {"name": "e", "vipUuid": NOBODY})) == []


async def of_no_read(mock):
    assert await new_ones(mock, ("GetVersion", {}), ("GetCpuMemoryCapacity", {}), ("QueryZone", {"q": "name=z"})) == []


async def of_the_system(mock):
    before = len(await mock.query("notifications", "sender=system", "name=system"))
    await mock.incident({"host-down": "host-1"})
    assert len(await mock.query("notifications", "sender=system", "name=system")) > before


async def without_arguments(mock):
    await mock.incident({"license-expired": {}})
    assert (await one(mock, "notifications", "resourceType=LicenseVO"))["arguments"] == "[]"


async def stay(mock):
    before = await mock.query("notifications")
    await mock.advance(30 * 86400)
    await mock.login()
    assert {item["uuid"] for item in before} <= {item["uuid"] for item in await mock.query("notifications")}


async def subscription(mock):
    mock.cloud.add("NotificationSubscription", name="n", description="d", notificationName="api", filter="f")


async def first(mock):
    return (await mock.query("notifications"))[0]["uuid"]


async def some_go(mock):
    uuid, count = await first(mock), len(await mock.query("notifications"))
    assert await outcome(mock, "DELETE", f"/notifications?uuids={uuid}&uuids={NOBODY}") in [(200, {}), (200, None), (200, "")]
    assert len(await mock.query("notifications")) == count - 1


async def becomes_read(mock):
    uuid = await first(mock)
    old = await one(mock, "notifications", f"uuid={uuid}")
    await mock.advance(2)
    assert await mock.call("UpdateNotificationsStatus", uuids=[NOBODY, uuid], status="Read") in ({}, None, "")
    new = await one(mock, "notifications", f"uuid={uuid}")
    assert (old["status"], new["status"]) == ("Unread", "Read") and new["lastOpDate"] != old["lastOpDate"]


# progress


async def progress_of(mock, api_id, **params):
    return (await mock.call("GetTaskProgress", apiId=api_id, **params))["inventories"]


async def of_nothing(mock):
    for api_id in ("f" * 32, "0" * 32):
        assert await progress_of(mock, api_id) == await progress_of(mock, api_id, all="true") == []


async def slow(mock, name="AddImage", data=IMAGE):
    """A long job that has taken 4 of its 10 seconds: the id of its call."""
    mock.cloud.settings.long_delay = "10"
    job = await start(mock, name, data)
    await mock.advance(4)
    return job["apiId"]


async def newest_row(mock):
    root, last = await progress_of(mock, await slow(mock))
    assert (root["type"], "parentUuid" in root, last["type"], last["content"], last["parentUuid"]) == ("Task", False, "Progress", "40", root["taskUuid"])
    assert "subTasks" not in root and "subTasks" not in last and type(last["time"]) is int


async def all_rows(mock):
    (root,) = await progress_of(mock, await slow(mock, "UpdateClusterOS", {"uuid": named("cluster-1")}), all="true")
    assert len(root["subTasks"]) > 1 and {row["parentUuid"] for row in root["subTasks"]} == {root["taskUuid"]}
    assert [row["time"] for row in root["subTasks"]] == sorted(row["time"] for row in root["subTasks"])


async def names_of_tasks(mock):
    root, last = await progress_of(mock, await slow(mock))
    assert (root["taskName"], last["taskName"]) == ("class org.zstack.image.AddImageLongJob", root["content"])
    job = await submit(mock, "PUT", f"/vm-instances/{WEB}/actions", {"stopVmInstance": {}})
    await mock.advance(0)
    assert (await progress_of(mock, job))[0]["taskName"] == "org.zstack.header.vm.APIStopVmInstanceMsg"


async def row_of_the_end(mock):
    api_id = await slow(mock)
    await mock.advance(6)
    assert (await progress_of(mock, api_id))[-1]["content"] == "100"


async def none_of_simple_calls(mock):
    job = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
    await mock.advance(0)
    assert await progress_of(mock, job) == []


async def kept_for_300_seconds(mock):
    api_id = await slow(mock)
    await mock.advance(6 + 299)
    assert await progress_of(mock, api_id)
    await mock.advance(301)
    assert await progress_of(mock, api_id) == []


async def read_while_it_is_off(mock):
    api_id = await slow(mock)
    await take(mock, [configured("progress", "progress.on", "false")])
    assert await progress_of(mock, api_id)
    assert await progress_of(mock, await slow(mock, "MigrateVm", MIGRATION)) == []


# long jobs


async def as_ann_without_rights(mock):
    await as_ann("vm.num", 1)(mock)
    return long_job("MigrateVm", MIGRATION)


async def data_with_session(mock):
    job = await start(mock, "MigrateVm", MIGRATION)
    data = json.loads(job["jobData"])
    assert data["session"] == {"uuid": mock.session, "accountUuid": ADMIN, "userUuid": ADMIN} and data["headers"] == {}


async def known_names(mock):
    for name in KNOWN:
        assert "is not an API" not in (await error_of(mock, "SubmitLongJob", long_job(name, {}))).get("details", "")


async def row_of_a_new_one(mock):
    status, answer = await mock.request("POST", "/longjobs", {"params": long_job("MigrateVm", MIGRATION, name="n"), "userTags": ["t"]})
    api_id = answer["location"][-32:]
    await mock.advance(0)
    (job,) = await mock.query("longjobs", f"apiId={api_id}")
    assert (status, job["state"], job["name"], job["managementNodeUuid"]) == (202, "Running", "n", NODE) and "jobResult" not in job
    assert await mock.query("user-tags", f"resourceUuid={job['uuid']}", "tag=t")


async def job_that_is_not_over(mock):
    return {"uuid": (await start(mock, "MigrateVm", MIGRATION))["uuid"]}


def canceled_from(state):
    """A story: a long job in a state is asked to end, and is Canceling."""

    async def story(mock):
        params = await job_that_is(state)(mock)
        await mock.call("CancelLongJob", **params)
        assert mock.cloud.look("LongJob", params["uuid"])["state"] == "Canceling"

    return Shown(story)


async def of_the_caller(mock):
    await start(mock, "MigrateVm", MIGRATION)
    await as_ann("vm.num", 1)(mock)
    assert await mock.query("longjobs") == []


async def changed_result(mock):
    job = await start(mock, "MigrateVm", MIGRATION)
    mock.cloud.change("LongJob", job["uuid"], jobResult="mine")
    await mock.advance(1000)
    assert mock.cloud.look("LongJob", job["uuid"])["jobResult"] == "mine"


# the management node


async def beats(mock):
    (old,) = await mock.query("management-nodes")
    await mock.advance(6)
    (new,) = await mock.query("management-nodes")
    assert new["heartBeat"] != old["heartBeat"] and new["joinDate"] == old["joinDate"]


async def time_of_the_clock(mock):
    answer = (await mock.call("GetCurrentTime"))["currentTime"]
    now = mock.cloud.clock.now()
    assert answer == {"MillionSeconds": int(now * 1000), "Seconds": int(now)}


async def without_session(mock):
    mock.session = ""
    for method, path, body in (("PUT", "/management-nodes/actions", {"getVersion": {}}), ("PUT", "/management-nodes/actions", {"getCurrentTime": {}}), ("GET", "/management-nodes/ready", None)):
        assert (await mock.request(method, path, body))[0] == 200


async def plain_success(mock):
    for name in ("getVersion", "getCurrentTime"):
        _, answer = await mock.request("PUT", "/management-nodes/actions", {name: {}})
        assert answer.get("success") is {"manual": None, "server": True}[mock.cloud.dialect.name]


async def ready(mock):
    _, answer = await mock.request("GET", f"/management-nodes/ready?managementNodeId={NODE}")
    assert answer == ({"managementNodeId": NODE} if mock.cloud.dialect.name == "manual" else None)


# web-hooks


async def hooks_alike(mock):
    for _ in range(2):
        await mock.call("CreateWebhook", **EVENTS)
    assert len(await mock.query("web-hooks", "name=h")) == 2


async def tags_of_a_hook(mock):
    assert (await outcome(mock, "POST", "/web-hooks", {"params": EVENTS, "userTags": ["t"]}))[0] == 200
    assert await mock.query("user-tags", "tag=t") == []


async def update_of_nothing(mock):
    made = (await take(mock, [CREATE_HOOK]))["inventory"]
    assert (await mock.call("UpdateWebhook", uuid=HOOK))["inventory"] == made


FACTS = (
    *facts("QueryGCJob",
        ("is for admin", for_admin()),
        ("shows these fields", members("gc-jobs uuid name runnerClass context status managementNodeUuid type createDate lastOpDate")),
        ("leads nowhere", leads_nowhere("gc-jobs")),
    ),
    *facts("TriggerGCJob",
        ("is for admin", Refused(job_for_ann, "SYS.1006", ONLY_ADMIN)),
        ("refuses a job that is not there", V("SYS.1003", {"uuid": NOBODY}, f"invalid field[uuid], resource[uuid:{NOBODY}, type:GarbageCollectorVO] not found")),
        ("jobs of a node that left are taken up by the next", Shown(host_is_back)),
        ("a job of a dead node is not answered", Uncovered("zmock has one management node, which has all jobs")),
    ),
    *facts("DeleteGCJob", ("is for admin", Refused(job_for_ann, "SYS.1006", ONLY_ADMIN))),
    *facts("QueryNotification",
        ("is for admin", for_admin()),
        ("shows these fields", members("notifications uuid name content arguments sender status resourceUuid resourceType type time opaque createDate lastOpDate")),
        ("tells of a call that failed, with the error", Shown(of_a_failure)),
        ("tells of a call that succeeded", Uncovered("with one for each call, those of failures would be lost, and rows would grow without end")),
        ("tells of no creation that failed", Shown(of_no_creation)),
        ("tells of no synchronous call", Shown(of_no_read)),
        ("tells what happens by itself, as system", Shown(of_the_system)),
        ("has [] as arguments if there are none", Shown(without_arguments)),
        ("shows them until they are deleted", Shown(stay)),
    ),
    *facts("QueryNotificationSubscription",
        ("is for admin", for_admin()),
        ("shows these fields", members("notifications/subscriptions uuid name description notificationName filter createDate lastOpDate", subscription)),
        ("finds none, as nothing makes one", answers(("QueryNotificationSubscription", {}), inventories=[])),
    ),
    *facts("DeleteNotifications",
        ("is for admin", for_admin(uuids=[NOBODY])),
        ("needs uuids", V("SYS.1007", {}, "field[uuids] of message[org.zstack.core.notification.APIDeleteNotificationsMsg] is mandatory, can not be null")),
        ("ignores unknown ones, and answers nothing", Shown(some_go)),
    ),
    *facts("UpdateNotificationsStatus",
        ("is for admin", for_admin(uuids=[NOBODY], status="Read")),
        ("needs a uuid", V("SYS.1007", {"uuids": [], "status": "Read"}, "field[uuids] must be a nonempty list")),
        ("refuses another status", V("SYS.1007", {"uuids": [NOBODY], "status": "read"}, "valid value for field[status] of message[*] are [Unread, Read], but read found")),
        ("ignores unknown ones, and changes lastOpDate", Shown(becomes_read)),
    ),
    *facts("GetTaskProgress",
        ("refuses a wrong apiId", V("SYS.1007", {"apiId": "latest"}, "parameter apiId[latest] is not a valid uuid.")),
        ("refuses an apiId in capitals", V("SYS.1007", {"apiId": "A" * 32}, f"parameter apiId[{'A' * 32}] is not a valid uuid.")),
        ("is empty for an unknown apiId of any version", Shown(of_nothing)),
        ("shows the newest row with its ancestors, root first", Shown(newest_row)),
        ("all: shows sub tasks by time inside their parents", Shown(all_rows)),
        ("tasks are named as messages, as classes of long jobs, and as their parents", Shown(names_of_tasks)),
        ("a long job ends with 100", Shown(row_of_the_end)),
        ("simple calls have none", Shown(none_of_simple_calls)),
        ("rows go 300 seconds after the end", Shown(kept_for_300_seconds)),
        ("progress.on=false stops recording, not reading", Shown(read_while_it_is_off)),
    ),
    *facts("SubmitLongJob",
        ("refuses a target that is not there", V("SYS.1003", long_job("MigrateVm", MIGRATION, targetResourceUuid=NOBODY), f"invalid field[targetResourceUuid], resource[uuid:{NOBODY}, type:ResourceVO] not found")),
        ("refuses a target before the name", V("SYS.1003", long_job("Foo", {}, targetResourceUuid=NOBODY))),
        ("refuses a long target", V("SYS.1007", long_job("MigrateVm", MIGRATION, targetResourceUuid="a" * 33), "*exceeds max length of string. expected was <= 32*")),
        ("refuses a long name", V("SYS.1007", long_job("MigrateVm", MIGRATION, name="n" * 256), "*exceeds max length of string. expected was <= 255*")),
        ("refuses a long description", V("SYS.1007", long_job("MigrateVm", MIGRATION, description="n" * 2049), "*exceeds max length of string. expected was <= 2048*")),
        ("needs jobData", V("SYS.1007", {"jobName": "APIMigrateVmMsg"}, "field[jobData] of message[*] is mandatory, can not be null")),
        ("needs jobName", V("SYS.1007", {"jobData": "{}"}, "field[jobName] of message[*] is mandatory, can not be null")),
        ("the object of the call stands in jobData, not beside it", V("SYS.1007", long_job("MigrateVm", {}, targetResourceUuid=WEB), "field[vmInstanceUuid] of message[*] is mandatory, can not be null")),
        ("the call has the rights of the caller", Refused(as_ann_without_rights, "SYS.1006")),
        ("these calls are known", Shown(known_names)),
        ("jobData has the session and the headers of the call", Shown(data_with_session)),
        ("makes a row with the id of its call, and with tags", Shown(row_of_a_new_one)),
        ("leaves a result that is there", Shown(changed_result)),
    ),
    *facts("CancelLongJob",
        ("refuses a job that is not there", V("SYS.1003", {"uuid": NOBODY}, f"invalid field[uuid], resource[uuid:{NOBODY}, type:LongJobVO] not found")),
        ("takes a job that waits", canceled_from("Waiting")),
        ("takes a job that is canceled already but goes on", canceled_from("Canceling")),
        ("answers nothing", empty(changed("LongJob", named("longjob-1"), state="Running"), ("CancelLongJob", {"uuid": named("longjob-1")}))),
    ),
    *facts("DeleteLongJob",
        ("refuses a job that is not there", V("SYS.1003", {"uuid": NOBODY}, f"invalid field[uuid], resource[uuid:{NOBODY}, type:LongJobVO] not found")),
        ("refuses a job that has begun", Refused(job_that_is_not_over, "SYS.1007", "delete longjob only when it's succeeded, canceled, or failed", changes=True)),
        ("refuses a job that is being canceled", Refused(job_that_is("Canceling"), "SYS.1007", "delete longjob only when it's succeeded, canceled, or failed", changes=True)),
    ),
    *facts("QueryLongJob",
        ("shows an account its own", Shown(of_the_caller)),
        ("leads nowhere", leads_nowhere("longjobs")),
    ),
    *facts("QueryManagementNode",
        ("is for admin", for_admin()),
        ("shows one node with these fields", members("management-nodes uuid hostName joinDate heartBeat")),
        ("its heart beats each 5 seconds", Shown(beats)),
        ("leads nowhere", leads_nowhere("management-nodes")),
    ),
    *facts("GetVersion",
        ("is 2.5.1", answers(("GetVersion", {}), version="2.5.1")),
        ("says success on the server", Shown(plain_success)),
    ),
    *facts("GetCurrentTime", ("is that of the clock, in integers", Shown(time_of_the_clock))),
    *facts("IsReadyToGo",
        ("asks for no session, as version and time", Shown(without_session)),
        ("refuses an unknown node", V("SYS.1009", {"managementNodeId": NOBODY})),
        ("answers nothing; in the manual, the node", Shown(ready)),
        ("is SYS.1010 while the node starts", Uncovered("a node of zmock that is away resets connections, and starts in no time")),
    ),
    *facts("CreateWebhook",
        ("is for admin", for_admin(**EVENTS)),
        *((f"refuses the url {url}", V("SYS.1007", EVENTS | {"url": url}, f"Invalid url[{url}]"))
            for url in ("http://localhost/h", "http://hooks:8000/", "ssh://example.com", "example.com/h", "http://", "http://a.b.nowhere/x y")),
        *((f"takes the url {url}", answers(("CreateWebhook", EVENTS | {"url": url}), url=url))
            for url in ("https://example.com", "ftp://10.0.0.9/h?a=b", "HTTP://hooks.example.org:8000/a/b#c")),
        ("answers what it is told, and dates", answers(CREATE_HOOK, uuid=HOOK, **EVENTS)),
        ("takes any type", answers(("CreateWebhook", EVENTS | {"type": "mine"}), type="mine")),
        ("may be made twice", Shown(hooks_alike)),
        ("does not keep its tags", Shown(tags_of_a_hook)),
        ("posts canonical events", Uncovered("zmock fires no canonical events")),
    ),
    *facts("UpdateWebhook",
        ("is for admin", V("SYS.1006", {"uuid": HOOK}, ONLY_ADMIN, CREATE_HOOK, as_ann("vm.num", 1))),
        ("refuses one that is not there", V("SYS.1003", {"uuid": NOBODY}, f"invalid field[uuid], resource[uuid:{NOBODY}, type:WebhookVO] not found")),
        ("refuses a url", V("SYS.1007", {"uuid": HOOK, "url": "x"}, "Invalid url[x]", CREATE_HOOK)),
        ("changes what is given", answers(CREATE_HOOK, ("UpdateWebhook", {"uuid": HOOK, "name": "n"}), **EVENTS | {"name": "n"})),
        ("changes nothing if nothing is given", Shown(update_of_nothing)),
    ),
    *facts("DeleteWebhook",
        ("is for admin", V("SYS.1006", {"uuid": HOOK}, ONLY_ADMIN, CREATE_HOOK, as_ann("vm.num", 1))),
        ("succeeds if it is gone", empty(CREATE_HOOK, *[("DeleteWebhook", {"uuid": HOOK})] * 2)),
    ),
    *facts("QueryWebhook",
        ("is for admin", for_admin()),
        ("shows these fields", members("web-hooks uuid name description url type opaque createDate lastOpDate", ("CreateWebhook", EVENTS | {"description": "d"}))),
        ("leads nowhere", leads_nowhere("web-hooks")),
    ),
    *facts("DebugSignal",
        ("is for admin", for_admin(signals=["DumpTaskQueue"])),
        ("ignores unknown signals, and answers nothing", empty(("DebugSignal", {"signals": ["x"]}))),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
