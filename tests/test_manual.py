"""Every request that the manual shows in chapters 3 and 4, sent to the demo cloud: its status, and each field of its table."""

import json
import re
from functools import reduce
from typing import NamedTuple

import pytest
from asking import ask_control

from zmock import SHA512_OF_PASSWORD, named

NOW, JOB, REFUSED = (200,), (202, 200), (400,)
NO_TAGS = {"systemTags": [], "userTags": []}
DATES = "createDate:date lastOpDate:date"
NODE = "uuid hostName joinDate:date heartBeat:date"
SYSTEM_TAG = f"inherent:bool uuid resourceUuid resourceType tag type {DATES}"
USER_TAG = f"uuid resourceUuid resourceType tag type {DATES}"
PROGRESS = "taskId taskName type content time:int totalSteps:int currentStep:int"
NOTIFICATION = f"uuid name content arguments sender status resourceUuid resourceType type time:int {DATES}"
GC_JOB = f"uuid name runnerClass context status managementNodeUuid type {DATES}"
LICENSE = ("licenseType licenseRequest expiredDate issuedDate user "
           "hostNum:int cpuNum:int availableHostNum:int availableCpuNum:int expired:bool")  # fmt: skip
ADD_ON = "uuid name licenseType expiredDate issuedDate modules:list expired:bool"
LONG_JOB = f"uuid name description apiId jobName jobData targetResourceUuid managementNodeUuid state {DATES}"
ZONE = f"uuid name description state type {DATES}"
VM = f"uuid name zoneUuid clusterUuid imageUuid hostUuid instanceOfferingUuid rootVolumeUuid state vmNics:list allVolumes:list {DATES}"
VM_PARAMS = {
    "l3NetworkUuids": ["@l3-private"], "defaultL3NetworkUuid": "@l3-private", "dataDiskOfferingUuids": [], "name": "TestVm",
    "description": "Test", "systemTags": [], "instanceOfferingUuid": "@offering-small", "type": "UserVm", "imageUuid": "@image-centos7",
}  # fmt: skip
MIGRATE = {"volumeUuid": "@volume-db-data-2", "dstPrimaryStorageUuid": "@ps-nfs-2"}
LONG = {"name": "migrate-volume", "description": "migrate volume to another primary storage",
        "jobName": "APIPrimaryStorageMigrateVolumeMsg", "targetResourceUuid": "@volume-db-data-2"}  # fmt: skip
LOGIN = {"password": SHA512_OF_PASSWORD, "accountName": "admin"}


class Row(NamedTuple):
    """A request and what it answers: `fields` are those of the manual's table for the object at `within`, `names` whom a query finds."""

    section: str
    api: str
    method: str
    path: str
    body: dict | None = None
    statuses: tuple = NOW
    within: str = ""
    fields: str = ""
    names: str | None = None


# "@x" is the uuid of x in the demo cloud, or what the fixture `real` knows. Fields of a table that are null by nature are left out: error,
# opaque; the jobResult of a job that goes on; parentId at a root and subTasks without all=true; and success, which no example shows.
ROWS = [
    Row("4.1.1", "QueryManagementNode", "GET", "/management-nodes?q=uuid=@management-node", within="inventories.0", fields=NODE),
    Row("4.1.1", "QueryManagementNode", "GET", "/management-nodes/@management-node", within="inventories.0", fields=NODE),
    Row("4.1.2", "GetVersion", "PUT", "/management-nodes/actions", {"getVersion": {}, **NO_TAGS}, NOW, fields="version"),
    Row("4.1.3", "GetCurrentTime", "PUT", "/management-nodes/actions", {"getCurrentTime": {}, **NO_TAGS}, NOW, "currentTime",
        "MillionSeconds:int Seconds:int"),
    Row("4.1.4", "IsReadyToGo", "GET", "/management-nodes/ready?", fields="managementNodeId"),
    Row("4.2.1", "CreateSystemTag", "POST", "/system-tags",
        {"params": {"resourceType": "HostVO", "resourceUuid": "@host-2", "tag": "reservedMemory::1G"}, **NO_TAGS},
        JOB, "inventory", SYSTEM_TAG),
    Row("4.2.2", "QuerySystemTag", "GET", "/system-tags?q=inherent=false&q=resourceType=HostVO", within="inventories.0", fields=SYSTEM_TAG),
    Row("4.2.2", "QuerySystemTag", "GET", "/system-tags/@system-tag", within="inventories.0", fields=SYSTEM_TAG),
    Row("4.2.3", "UpdateSystemTag", "PUT", "/system-tags/@system-tag/actions", {"updateSystemTag": {"tag": "for-large-DB"}, **NO_TAGS},
        JOB, "inventory", SYSTEM_TAG),
    Row("4.2.4", "CreateUserTag", "POST", "/user-tags",
        {"params": {"resourceType": "DiskOfferingVO", "resourceUuid": "@disk-20g", "tag": "for-large-DB"}, **NO_TAGS},
        JOB, "inventory", USER_TAG),
    Row("4.2.5", "QueryUserTag", "GET", "/user-tags?q=resourceType=DiskOfferingVO&q=tag=for-large-DB", within="inventories.0",
        fields=USER_TAG),
    Row("4.2.5", "QueryUserTag", "GET", "/user-tags/@user-tag", within="inventories.0", fields=USER_TAG),
    Row("4.2.6", "DeleteTag", "DELETE", "/tags/@user-tag", statuses=JOB),
    Row("4.2.6", "DeleteTag", "DELETE", "/tags/@user-tag", {"deleteMode": "Permissive", **NO_TAGS}, JOB),
    Row("4.3.1", "GetTaskProgress", "GET", "/task-progresses/@api-1?all=false", within="inventories.-1", fields=f"{PROGRESS} parentId"),
    Row("4.3.1", "GetTaskProgress", "GET", "/task-progresses/@api-1?all=true", within="inventories.0", fields=f"{PROGRESS} subTasks:list"),
    Row("4.4.1", "DeleteNotifications", "DELETE", "/notifications", statuses=REFUSED),
    Row("4.4.1", "DeleteNotifications", "DELETE", "/notifications", {"uuids": ["@notification"], **NO_TAGS}, JOB),
    Row("4.4.2", "QueryNotification", "GET", "/notifications", within="inventories.0", fields=NOTIFICATION),
    Row("4.4.2", "QueryNotification", "GET", "/notifications/@notification", within="inventories.0", fields=NOTIFICATION),
    Row("4.4.3", "UpdateNotificationsStatus", "PUT", "/notifications/actions",
        {"updateNotificationsStatus": {"uuids": ["@notification"], "status": "Read"}, **NO_TAGS}, JOB),
    Row("4.5.1", "GetCpuMemoryCapacity", "GET",
        "/hosts/capacities/cpu-memory?zoneUuids=@zone-1&clusterUuids=@cluster-1&clusterUuids=@cluster-2"
        "&hostUuids=@host-1&hostUuids=@host-2&all=true",
        fields="totalCpu:int availableCpu:int totalMemory:int availableMemory:int"),
    Row("4.6.1", "TriggerGCJob", "PUT", "/gc-jobs/@gc-job/actions", {"triggerGCJob": {}, **NO_TAGS}, JOB),
    Row("4.6.2", "DeleteGCJob", "DELETE", "/gc-jobs/@gc-job", statuses=JOB),
    Row("4.6.3", "QueryGCJob", "GET", "/gc-jobs?q=name~=gc%25&q=state=Idle", within="inventories.0", fields=GC_JOB),
    Row("4.6.3", "QueryGCJob", "GET", "/gc-jobs?q=name=gc&q=state=Enabled", names=""),
    Row("4.6.3", "QueryGCJob", "GET", "/gc-jobs/@gc-job", within="inventories.0", fields=GC_JOB),
    Row("4.7.1", "GetLicenseInfo", "GET", "/licenses?", within="inventory", fields=LICENSE),
    Row("4.7.2", "GetLicenseCapabilities", "GET", "/licenses/capabilities"),
    Row("4.7.3", "GetLicenseAddOns", "GET", "/licenses/addons", within="addons.0", fields=ADD_ON),
    Row("4.7.4", "DeleteLicense", "DELETE", "/licenses/mn/@management-node/actions", statuses=JOB),
    Row("4.7.5", "ReloadLicense", "PUT", "/licenses/actions", {"reloadLicense": {"managementNodeUuids": ["@management-node"]}, **NO_TAGS},
        JOB, "inventory", LICENSE),
    Row("4.7.6", "UpdateLicense", "PUT", "/licenses/mn/@management-node/actions",
        {"updateLicense": {"license": "this is license string"}, **NO_TAGS}, JOB, "inventory", LICENSE),
    Row("4.8.1", "SubmitLongJob", "POST", "/longjobs", {"params": {**LONG, "jobData": json.dumps(MIGRATE)}, **NO_TAGS},
        JOB, "inventory", LONG_JOB),
    Row("4.8.1", "SubmitLongJob", "POST", "/longjobs", {"params": {**LONG, "jobData": MIGRATE}}, JOB, "inventory", LONG_JOB),
    Row("4.8.2", "DeleteLongJob", "DELETE", "/longjobs/@ended-job?", statuses=JOB),
    Row("4.8.3", "QueryLongJob", "GET", "/longjobs", within="inventories.0", fields="uuid"),
    Row("4.8.3", "QueryLongJob", "GET", "/longjobs/@ended-job", within="inventories.0", fields=f"{LONG_JOB} jobResult"),
    Row("4.8.4", "CancelLongJob", "PUT", "/longjobs/@longjob-1/actions", {"cancelLongJob": {}, **NO_TAGS}, JOB),

    Row("3.2", "QueryVmInstance", "GET", "/vm-instances?condition=state=Running", names="cache-1 db-1 db-2 web-1 web-2 web-3"),
    Row("3.2", "StartVmInstance", "PUT", "/vm-instances/@vm-ci-1/actions", {"startVmInstance": {"hostUuid": "@host-1"}},
        JOB, "inventory", VM),
    Row("3.5", "QueryZone", "GET", "/zones/@zone-1", within="inventory", fields=ZONE),
    Row("3.6", "CreateVmInstance", "POST", "/vm-instances", {"params": VM_PARAMS}, JOB, "inventory", f"{VM} description"),
    Row("3.6", "QueryVmInstance", "GET", "/vm-instances?condition=name!=web-1&condition=cluster.name=cluster-1&condition=state=Running",
        names="db-1 db-2 web-2"),
    Row("3.6", "QueryVmInstance", "GET", "/vm-instances/@vm-web-1", within="inventory", fields=VM),
    Row("3.6", "DestroyVmInstance", "DELETE", "/vm-instances/@vm-web-1", statuses=JOB),
    Row("3.6", "StartVmInstance", "PUT", "/vm-instances/@vm-ci-1/actions", {"startVmInstance": {}}, JOB, "inventory", VM),
    Row("3.6", "StopVmInstance", "PUT", "/vm-instances/@vm-web-1/actions", {"stopVmInstance": {}}, JOB, "inventory", "uuid name state"),
    Row("3.7", "LogInByAccount", "PUT", "/accounts/login", {"loginByAccount": LOGIN}, NOW, "inventory",
        "uuid accountUuid userUuid expiredDate:date createDate:date"),
    Row("3.7", "CreateZone", "POST", "/zones", {"params": {"name": "Zone1", "description": "Test"}}, JOB, "inventory", ZONE),
    Row("3.7", "LogOut", "DELETE", "/accounts/sessions/@session"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=name=web-1", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=name=ci-1&q=state=Running", names=""),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=vmNics.ip=@ip", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=host.managementIp=10.10.0.11", names="db-1 web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&limit=2&start=1&sort=+name", names="db-1 db-2"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&limit=2&sort=-name", names="web-3 web-2"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&start=0&limit=1&replyWithCount=true",
        fields="inventories:list total:int"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&count=true", fields="total:int"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=hypervisorType=KVM&groupBy=hypervisorType&replyWithCount=true",
        fields="inventories:list total:int"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=hypervisorType=KVM&fields=uuid&fields=name", within="inventories.0",
        fields="uuid name"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=name=db-1&fields=name,uuid", within="inventories.0", fields="uuid name"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=uuid=@vm-web-1", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=cpuNum>2", names="db-1 db-2"),
    Row("3.9", "QueryPrimaryStorage", "GET", "/primary-storage?q=totalCapacity>2000", names="ps-local ps-nfs ps-nfs-2"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid%20not%20null", names="db-data-1 db-data-2"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid!=null", names="db-data-1 db-data-2"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid%20is%20null", names="spare"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid=null", names="spare"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid=@vm-db-1", names="db-data-1"),
    Row("3.9", "QueryVolume", "GET", "/volumes?q=type=Data&q=vmInstanceUuid!=@vm-db-1", names="db-data-2"),
    Row("3.9", "QueryInstanceOffering", "GET", "/instance-offerings?q=cpuNum>=2", names="offering-large offering-medium"),
    Row("3.9", "QueryInstanceOffering", "GET", "/instance-offerings?q=cpuNum<=2", names="offering-medium offering-small"),
    Row("3.9", "QueryInstanceOffering", "GET", "/instance-offerings?q=cpuNum<2", names="offering-small"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=uuid?=@vm-web-1,@vm-db-1", names="db-1 web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&q=name!?=web-1,web-2", names="cache-1 db-1 db-2 web-3"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=name~=web%25", names="web-1 web-2 web-3"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=name~=w%25b_2", names="web-2"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=state=Running&q=name!~=%25-1", names="db-2 web-2 web-3"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=vmNics.eip.ip=@eip", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=vmNics.vmInstance.name=web-1", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=zone.cluster.l2Network.l3Network.name=l3-private&q=name=web-1", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=__systemTag__=hostname::web-1", names="web-1"),
    Row("3.9", "QueryVmInstance", "GET", "/vm-instances?q=__userTag__=web", names="web-1 web-2 web-3"),
]  # fmt: skip

TYPES = {"str": str, "int": int, "bool": bool, "list": list, "date": str}
US_DATE = r"[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M"


@pytest.fixture
async def real(zmock):
    """Real uuids for a row's "@x": those of what the demo cloud names itself, a session, and a long job that is over."""
    session = await zmock.login()
    storage = {"name": "ps-nfs-2", "url": "10.10.0.100:/export/second", "zoneUuid": named("zone-1")}
    await zmock.create("AddNfsPrimaryStorage", **storage, resourceUuid=named("ps-nfs-2"))
    for cluster in ("cluster-1", "cluster-2"):
        await zmock.call("AttachPrimaryStorageToCluster", primaryStorageUuid=named("ps-nfs-2"), clusterUuid=named(cluster))
    image = {"name": "image-2", "url": "http://mirror.example.com/2.qcow2", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}
    add = {"name": "add", "description": "an image", "jobName": "APIAddImageMsg", "jobData": json.dumps(image)}
    job = await zmock.create("SubmitLongJob", **add, targetResourceUuid=named("bs-1"))
    await zmock.advance(0)
    (vm,), (eip,) = await zmock.query("vm-instances", "name=web-1"), await zmock.query("eips")
    return {
        "session": session,
        "ended-job": job["uuid"],
        "system-tag": (await zmock.query("system-tags", "resourceType=HostVO"))[0]["uuid"],
        "user-tag": (await zmock.query("user-tags"))[0]["uuid"],
        "gc-job": (await zmock.query("gc-jobs", "status=Idle"))[0]["uuid"],
        "notification": (await zmock.query("notifications"))[0]["uuid"],
        "ip": vm["vmNics"][0]["ip"],
        "eip": eip["vipIp"],
    }


def filled(told, real):
    """A path or body with real uuids for its "@x"."""
    return json.loads(re.sub(r"@([\w-]+)", lambda found: real.get(found[1]) or named(found[1]), json.dumps(told)))


def at(body, within):
    """What stands at "inventories.0" in a body."""
    return reduce(lambda value, step: value[int(step)] if isinstance(value, list) else value[step], filter(None, within.split(".")), body)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.method} {row.path}")
async def test_a_request_of_the_manual_gets_its_status_and_each_field_of_its_table(zmock, real, row):
    status, body = await zmock.request(row.method, filled(row.path, real), filled(row.body, real), {"Content-Type": "application/json"})
    seen = [status]
    if status == 202:
        assert re.fullmatch(re.escape(zmock.url) + "/api-jobs/[0-9a-f]{32}", body["location"])
        await zmock.advance(0)
        status, body = await zmock.request("GET", body["location"].removeprefix(zmock.url))
        seen.append(status)
    assert tuple(seen) == row.statuses, body
    if status == 400:
        assert body["error"].keys() == {"code", "description", "details"}
    elif row.names is not None:
        found = [item["name"] for item in body["inventories"]]
        assert (found if "sort" in row.path else sorted(found)) == row.names.split()
    elif not row.fields:
        assert body == {}
    shown = at(body, row.within) if row.fields else {}
    for name, _, kind in (word.partition(":") for word in row.fields.split()):
        assert type(shown.get(name)) is TYPES[kind or "str"], f"{name} is {shown.get(name)!r}"
        assert kind != "date" or re.fullmatch(US_DATE, shown[name]), f"{name} is {shown[name]!r}"
    if "fields=" in row.path:
        assert " ".join(sorted(shown)) == "name uuid"


async def test_the_table_has_a_row_for_every_api_of_the_manual(zmock):
    chapters = {"4.1": 4, "4.2": 6, "4.3": 1, "4.4": 3, "4.5": 1, "4.6": 3, "4.7": 6, "4.8": 4}
    assert {row.section for row in ROWS} >= {f"{chapter}.{n}" for chapter, last in chapters.items() for n in range(1, last + 1)}
    assert len({row.api for row in ROWS if row.section.startswith("4.")}) == sum(chapters.values()) == 28
    await zmock.login()
    manual = {api["name"] for api in (await ask_control(zmock, "GET", "apis"))["apis"] if api["backing"] == "manual"}
    assert manual - {row.api for row in ROWS} <= {"QueryVmNic"}  # of which the manual shows the command line only


async def test_the_job_uuid_of_the_manual_names_the_job(zmock):
    await zmock.login()
    job = "d825b1a26f4e474b8c59306081920ff2"
    accepted = await zmock.request("POST", "/zones", {"params": {"name": "Zone1"}}, {"X-Job-UUID": job})
    assert accepted == (202, {"location": f"{zmock.url}/api-jobs/{job}"})
    await zmock.advance(0)
    status, body = await zmock.request("GET", f"/api-jobs/{job}")
    assert (status, body["inventory"]["name"]) == (200, "Zone1")
