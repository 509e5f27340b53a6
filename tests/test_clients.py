"""What real clients send, as it leaves them, and what comes back in both dialects.

The clients: the official Java SDK 2.5.1, zstack-sdk-go of 2025, zstack-cli-go, terraform-provider-zstack 1.1.1, and a
demo application on the Java SDK 2.2.0.
"""

import json
import re
from typing import NamedTuple

import pytest
from asking import each, exchange

from zmock import SHA512_OF_PASSWORD, named, serve

ZONE, CLUSTER, VM, VOLUME, BS = named("zone-1"), named("cluster-1"), named("vm-web-1"), named("volume-spare"), named("bs-1")
L3, NODE, LONG, NOBODY = named("l3-private"), named("management-node"), named("longjob-1"), named("nobody")
POLICY, L2, ISO, GROUP, VIP, EIP = (named(f"made-{name}") for name in ("policy", "l2", "iso", "group", "vip", "eip"))
JOB = "0123456789ab4def8123456789abcdef"
UTF8 = "application/json; charset=utf-8"
JAVA = {"X-Job-UUID": JOB, "X-JSON-Schema": "true", "Content-Type": UTF8, "Accept-Encoding": "gzip"}
JAVA_GET = {"X-JSON-Schema": "true", "Accept-Encoding": "gzip"}
GO = {"Accept-Encoding": "*", "Content-Type": UTF8, "X-Session-Id": "x"}
NO_SESSION = {"Authorization": None}
NEW_VM = {"name": "v", "imageUuid": named("image-centos7"), "instanceOfferingUuid": named("offering-small"), "l3NetworkUuids": [L3]}
LOGIN = {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}
READY = ("GET /management-nodes/ready", None)
VM_FIELDS = " ".join(f"inventories.{name}" for name in ("vmNics.ip", "vmNics.netmask", "vmNics.gateway", "vmNics.l3NetworkUuid", "allVolumes.uuid"))


class Sent(NamedTuple):
    """A request of a client; the statuses that it gets and the members of its last answer, "-" for no body; the paths that lead to a value."""

    client: str
    what: str
    line: str
    body: object
    headers: dict
    manual: str
    server: str = ""  # as manual
    has: str = ""


def params(**given):
    return {"params": given}


def sent(client, what, line, body, *more, **has):
    headers = {"Java SDK": JAVA if body is not None or line.startswith("DELETE") else JAVA_GET, "demo application": JAVA}.get(client, GO)
    if more and isinstance(more[0], dict):
        headers, more = headers | more[0], more[1:]
    return Sent(client, what, line, body, headers, *more, **has)


DONE, DONE_SCHEMA, FOUND = "202 200 inventory", "202 200 inventory schema", "200 inventories"
TABLE = [
    # all of them
    sent("all", "log in", "PUT /accounts/login", LOGIN, NO_SESSION, "200 inventory",
        has="inventory.uuid inventory.accountUuid inventory.userUuid inventory.expiredDate inventory.createDate"),
    sent("all", "create", "POST /zones", params(name="z"), DONE, has="inventory.uuid inventory.createDate"),
    sent("all", "delete", f"DELETE /zones/{NOBODY}?deleteMode=Permissive", None, "202 200", "202 200 -"),
    sent("all", "delete what is there", f"DELETE /zones/{ZONE}?deleteMode=Enforcing", None, "202 200", "202 200 -"),
    sent("all", "a refused operation", f"PUT /vm-instances/{VM}/actions", {"startVmInstance": {}}, "202 503 error",
        has="error.code error.description error.details"),

    # the Java SDK
    sent("Java SDK", "create with tags inside", "POST /zones", params(name="z", systemTags=[], userTags=["t"]), DONE_SCHEMA),
    sent("Java SDK", "a typed query", "GET /vm-instances?q=name%3Dweb-1", None, "200 inventories schema", has=VM_FIELDS),
    sent("Java SDK", "get one", f"GET /zones/{ZONE}", None, "200 inventories inventory schema", "200 inventories schema"),
    sent("Java SDK", "delete", f"DELETE /zones/{NOBODY}?deleteMode=Permissive", None, "202 200 schema"),
    *(sent("Java SDK", f"{api} with the body {json.dumps(body)}", line, body, DONE_SCHEMA)
        for body in ({"": {}}, {"null": {}}, {"": {"systemTags": []}}, {"null": {"userTags": ["t"]}})
        for api, line in (("AttachL2NetworkToCluster", f"POST /l2-networks/{L2}/clusters/{CLUSTER}"),
                          ("AttachIsoToVmInstance", f"POST /vm-instances/{VM}/iso/{ISO}"),
                          ("AttachDataVolumeToVm", f"POST /volumes/{VOLUME}/vm-instances/{VM}"),
                          ("AttachBackupStorageToZone", f"POST /zones/{ZONE}/backup-storage/{BS}"))),
    sent("Java SDK", "AttachPolicyToUser", f"POST /accounts/users/{named('user-operator')}/policies", {"": {"policyUuid": POLICY}}, "202 200 schema"),
    sent("Java SDK", "CreateLdapBinding", "POST /ldap/bindings", {"": {"ldapUid": "u", "accountUuid": NOBODY}}, "202 503 error"),
    sent("Java SDK", "DebugSignal", "POST /debug", {"": {"signals": ["DumpTaskQueue"]}}, "202 200 schema"),
    sent("Java SDK", "a map and a list in a DELETE", f"DELETE /l3-networks/{L3}/network-services?networkServices.@service", None, DONE_SCHEMA),
    sent("Java SDK", "a list in a GET", f"GET /hosts/capacities/cpu-memory?zoneUuids={ZONE}&all=false", None,
        "200 availableCpu availableMemory managedCpuNum schema totalCpu totalMemory",
        "200 availableCpu availableMemory managedCpuNum schema success totalCpu totalMemory"),
    sent("Java SDK", "a condition with %20, %2B and raw signs", "GET /zones?q=description~=the%20data%2B?:,/", None, "200 inventories schema"),
    *(sent("Java SDK", f"sorted by {sort}", f"GET /zones?sort={sort}&fields=uuid,name", None, "200 inventories schema") for sort in ("%2Bname", "-name", "name")),
    sent("Java SDK", "count", "GET /zones?count=true", None, "200 schema total", has="total"),
    sent("Java SDK", "version", "PUT /management-nodes/actions", {"getVersion": {}}, NO_SESSION, "200 schema version", "200 schema success version"),
    sent("Java SDK", "ready", *READY, NO_SESSION, "200 managementNodeId schema", "200 schema"),
    sent("Java SDK", "log out", f"DELETE /accounts/sessions/{NOBODY}", None, NO_SESSION, "200 schema"),

    # the Go SDK, and the CLI and Terraform on it
    sent("Go SDK", "get one", f"GET /zones/{ZONE}", None, "200 inventories inventory", "200 inventories schema", has="inventories.uuid"),
    sent("Go SDK", "get one with a double slash", f"GET /zones//{ZONE}", None, "200 inventories inventory", "200 inventories schema"),
    sent("Go SDK", "delete with a double slash", "DELETE /tags//@tag?deleteMode=", None, "202 200", "202 200 -"),
    sent("Go SDK", "candidates with a double slash", f"GET /security-groups/{GROUP}//vm-instances/candidate-nics", None, FOUND),
    sent("Go SDK", "a page", "GET /zones?limit=50&replyWithCount=true&start=0", None, "200 inventories total", "200 inventories schema total"),
    sent("Go SDK", "a space as a plus", "GET /zones?q=description~%3Dthe+data%25", None, FOUND, "200 inventories schema", has="inventories.uuid"),
    sent("Go SDK", "null to AttachDataVolumeToVm", f"POST /volumes/{VOLUME}/vm-instances/{VM}", b"null", DONE),
    sent("Go SDK", "null to AttachBackupStorageToZone", f"POST /zones/{ZONE}/backup-storage/{BS}", b"null", DONE),
    sent("Go SDK", "AttachEip by PUT", f"PUT /eips/{EIP}/vm-instances/nics/@nic", {}, "405 error", DONE),
    sent("Go SDK", "reloadLicense without its struct", "PUT /licenses/actions", {}, DONE, "200 inventory"),
    sent("Go SDK", "cancelLongJob without its struct", f"PUT /longjobs/{LONG}/actions", {}, "202 200", "202 200 -"),
    sent("Go SDK", "fields of newer versions", "POST /vm-instances", params(**NEW_VM, virtio=True, architecture="x86_64", cpuNum=0, memorySize=0), DONE),
    sent("Go SDK", "a high-availability tag", "POST /vm-instances", params(**NEW_VM) | {"systemTags": ["ha::NeverStop"]}, DONE),
    sent("Go SDK", "a rename that sets the CPUs to 0", f"PUT /vm-instances/{VM}/actions", {"updateVmInstance": {"name": "n", "cpuNum": 0}},
        "400 error", "202 503 error"),
    sent("Go SDK", "log out", f"DELETE /accounts/sessions/{NOBODY}?deleteMode=", None, "200", "200 -"),
    sent("CLI", "log in", "PUT /accounts/login", LOGIN, NO_SESSION, "200 inventory", has="inventory.uuid"),
    sent("CLI", "list", "GET /vm-instances?limit=50&replyWithCount=true&start=0", None, "200 inventories total", "200 inventories schema total"),
    sent("Terraform", "an image", "GET /images?q=name%3Dimage-centos7", None, FOUND, "200 inventories schema",
        has="inventories.state inventories.status inventories.mediaType"),
    sent("Terraform", "a virtual machine", f"GET /vm-instances/{VM}", None, "200 inventories inventory", "200 inventories schema", has=VM_FIELDS),
    sent("Terraform", "free addresses", f"GET /l3-networks/{L3}/ip/free", None, FOUND, has="inventories.ip"),
    sent("Terraform", "ZQL", "GET /zql?zql=query+Image+where+__systemTag__%3D%27applianceType%3A%3Avrouter%27", None, "200 result"),
    sent("demo application", "networks", "GET /l3-networks", None, JAVA_GET, "200 inventories schema", has="inventories.networkServices inventories.dns"),
    sent("demo application", "the flat provider", "GET /network-services/providers?q=type%3DFlat", None, "200 inventories schema", has="inventories.uuid"),

    # any
    sent("any", "null to an action among several", f"PUT /zones/{ZONE}/actions", b"null", "400 error", "500 -"),
    sent("any", "null to a creation that needs parameters", "POST /zones", b"null", "400 error", "202 503 error"),
    sent("any", "null to the only action of a path", "PUT /licenses/actions", b" null\n", DONE, "200 inventory"),
    sent("any", "[] to the only API of a path", f"POST /volumes/{VOLUME}/vm-instances/{VM}", b"[]", DONE),
    sent("any", "[] to one API of several", "POST /zones", b"[]", "400 error", "500 text"),
    sent("any", "a list that is not empty", f"POST /volumes/{VOLUME}/vm-instances/{VM}", b"[1]", "400 error", "500 text"),
    sent("any", "null in a query", "GET /zones", b"null", FOUND, "200 inventories schema"),
    sent("any", "an API whose variable is part of a segment", f"GET /hybrid/aliyun/access-point{NOBODY}/remote", None, "503 error"),
    sent("any", "an API whose path ends in a slash", "GET /iam2/projects/groups/attributes/", None, FOUND, "200 inventories schema"),
    sent("any", "double slashes everywhere", f"PUT //vm-instances///{VM}//actions", {"stopVmInstance": {}}, DONE),
    sent("any", "ready", *READY, NO_SESSION, "200 managementNodeId", "200 -"),
    sent("any", "ready with a wrong session", *READY, {"Authorization": "OAuth x"}, "200 managementNodeId", "200 -"),
]  # fmt: skip


MADE = {  # how what the requests are about is made
    POLICY: ("CreatePolicy", {"name": "p", "statements": [{"effect": "Allow", "actions": ["a"]}]}),
    L2: ("CreateL2VlanNetwork", {"name": "l2", "vlan": 7, "physicalInterface": "eth0", "zoneUuid": ZONE}),
    ISO: ("AddImage", {"name": "iso", "url": "http://a/b.iso", "format": "iso", "mediaType": "ISO", "backupStorageUuids": [BS]}),
    GROUP: ("CreateSecurityGroup", {"name": "g"}),
    VIP: ("CreateVip", {"name": "v", "l3NetworkUuid": named("l3-public")}),
    EIP: ("CreateEip", {"name": "e", "vipUuid": VIP}),
}


async def prepare(mock, sent):
    """Make what a request is about; return its line with the uuids that the mock chose."""
    await mock.login()
    wanted = sent.line + json.dumps(str(sent.body)) + VIP * (EIP in sent.line)
    for uuid, (api, given) in MADE.items():
        if uuid in wanted:
            await mock.create(api, **given, resourceUuid=uuid)
    if "/backup-storage/" in sent.line:
        await mock.call("DetachBackupStorageFromZone", zoneUuid=ZONE, backupStorageUuid=BS)
    (nic, *_), (l3,) = await mock.query("vm-instances/nics", f"vmInstanceUuid={VM}"), await mock.query("l3-networks", f"uuid={L3}")
    tag = await mock.create("CreateUserTag", resourceType="ZoneVO", resourceUuid=ZONE, tag="t")
    service = "{networkServiceProviderUuid}={networkServiceType}".format(**l3["networkServices"][0])
    return sent.line.replace("@nic", nic["uuid"]).replace("@tag", tag["uuid"]).replace("@service", service)


async def outcome(mock, line, body, headers):
    """Send a request, and poll as the client would. Return its statuses with the members of the last answer, and that answer."""
    method, path = line.split(" ", 1)
    status, answered, content = await exchange(mock, f"{method} /zstack/v1{path}", body, headers)
    assert "content-encoding" not in answered
    statuses = [str(status)]
    if status == 202:
        location = json.loads(content)["location"]
        assert location.startswith("http://127.0.0.1/zstack/v1/api-jobs/" if mock.settings.dialect == "manual" else f"{mock.url}/api-jobs/")
        await mock.advance(0)
        polling = {name: value for name, value in headers.items() if name in ("X-JSON-Schema", "Accept-Encoding")}
        status, _, content = await exchange(mock, f"GET /zstack/v1/api-jobs/{location[-32:]}", None, polling)
        statuses.append(str(status))
    told = json.loads(content) if content[:1] == b"{" else {}
    members = sorted(told) if told or content == b"{}" else ["text" if content else "-"]
    return " ".join(statuses + members), told


def values(told, path):
    """Return what a path of members leads to: the first of a list, itself where the list is the end."""
    for name in path.split("."):
        told = (told[0] if isinstance(told, list) else told)[name]
    return told


def check_form(told, name=""):
    """Assert what every client counts on: no nulls, no fractions of integers, dates as Java and Go read them."""
    assert told is not None, name
    for key, value in told.items() if isinstance(told, dict) else ():
        check_form(value, key)
    for value in told if isinstance(told, list) else ():
        check_form(value, name)
    if name.endswith("Date"):
        assert re.fullmatch(r"[A-Z][a-z]{2} [1-9]\d?, \d{4} [1-9]\d?:\d\d:\d\d [AP]M", told)


@pytest.fixture
async def mock(dialect):
    async with serve(dialect=dialect) as mock:
        yield mock


@pytest.mark.parametrize("dialect", ["manual", "server"])
@each("sent", TABLE, ids=[f"{row.client}: {row.what}" for row in TABLE])
async def test_a_client_gets_what_it_can_read(mock, sent, dialect):
    line = await prepare(mock, sent)
    got, told = await outcome(mock, line, sent.body, sent.headers)
    assert got == (sent.server if dialect == "server" and sent.server else sent.manual), told
    if "/licenses/" not in line:  # whose dates have a form of their own
        check_form(told)
    for path in sent.has.split():
        assert values(told, path) is not None


AT_ONCE = """
    LogInByAccount LogInByUser LogInByLdap LoginIAM2VirtualID GetVersion GetCurrentTime CheckApiPermission LogOut DeleteLicense ReloadLicense
    UpdateLicense GetImagesFromImageStoreBackupStorage CalculateAccountSpending CheckStackTemplateParameters GetAttachableVpcL3Network
    GetConnectionBetweenL3NetworkAndAliyunVSwitch
""".split()
OPEN = """
    LogInByAccount LogInByUser LogInByLdap LoginIAM2VirtualID LogOut ValidateSession GetVersion GetCurrentTime IsReadyToGo IsOpensourceVersion
    GetLicenseInfo GetLicenseAddOns
""".split()


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_the_java_sdk_gets_a_job_or_an_answer_as_it_expects(dialect):
    async with serve(dialect=dialect) as mock:
        apis = mock.cloud.catalogue.apis
        licences = {"DeleteLicense", "ReloadLicense", "UpdateLicense"} if dialect == "manual" else set()  # dialect row license-writes
        assert [name for name in AT_ONCE if not mock.cloud.at_once(apis[name]) and name not in licences] == []
        assert [name for name in ("SyncDataCenterFromRemote", "SyncIdentityFromRemote") if mock.cloud.at_once(apis[name])] == []
        assert {api.name for api in apis.values() if api.open} == set(OPEN)


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_client_that_is_refused_a_verb_is_told_which_one_and_that_the_server_takes_any(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        status, headers, _ = await exchange(mock, f"PUT /zstack/v1/eips/{NOBODY}/vm-instances/nics/{NOBODY}", {})
        if dialect == "manual":
            assert (status, headers["allow"]) == (405, "POST")
            assert "takes POST: AttachEip; zmock --dialect server runs it for any verb" in headers["x-zmock-hint"]
        else:
            assert status == 202


@pytest.mark.parametrize("body", [{"": {}}, {"null": {}}, {"": {"systemTags": []}}, b"null", b"[]", None, {}])
async def test_what_an_attach_call_holds_is_no_mistake_that_needs_a_hint(cloud, body):
    _, headers, _ = await exchange(cloud, f"POST /zstack/v1/volumes/{VOLUME}/vm-instances/{VM}", body)
    assert "x-zmock-hint" not in headers


@pytest.mark.parametrize("wrapper", ["", "null"])
async def test_tags_inside_the_wrapper_of_an_attach_call_are_read(cloud, wrapper):
    status, told = await cloud.request("POST", f"/volumes/{VOLUME}/vm-instances/{VM}", {wrapper: {"userTags": "mine"}})
    assert (status, told["error"]["details"]) == (400, "java.lang.String cannot be cast to java.util.List")
