"""/zstack/v1 from the outside: a stranger's mistakes, what helps him, and the habits of clients that are no mistake."""

import asyncio
import contextlib
import gzip
import json
import logging
import re
import tracemalloc
import zlib
from typing import NamedTuple

import aiohttp
import pytest
from asking import ask_control, each, exchange, finished, send

from zmock import SHA512_OF_PASSWORD, named, serve, unpack

ZONE, VM, HOST, NOBODY = named("zone-1"), named("vm-web-1"), named("host-1"), named("nobody")
USED_JOB, UNUSED_JOB = "d825b1a26f4e474b8c59306081920ff2", "0123456789ab4def8123456789abcdef"
KVM = {"name": "h", "username": "root", "password": "x", "managementIp": "10.10.0.99", "clusterUuid": named("cluster-1")}
IMAGE = {"name": "i", "url": "http://x/i.qcow2", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}
NEW_VM = {"name": "v", "imageUuid": named("image-centos7"), "instanceOfferingUuid": named("offering-small"),
          "l3NetworkUuids": [named("l3-private")]}  # fmt: skip
TOO_BIG = 10**400  # a JSON number that no double can hold


@pytest.fixture
def zmock_settings():
    return {"body_limit": 1 << 17}


class Mistake(NamedTuple):
    """A wrong request, its status by the manual's table 3.4, and a word of the details or the hint that helps."""

    line: str
    body: object = None
    headers: dict | None = None
    status: int = 400
    tells: str = ""


def params(**given):
    return {"params": given}


def action(**given):
    return f"PUT /zstack/v1/vm-instances/{VM}/actions", given


ZONES, HOSTS, IMAGES, VMS = "POST /zstack/v1/zones", "POST /zstack/v1/hosts/kvm", "POST /zstack/v1/images", "POST /zstack/v1/vm-instances"
CAPACITY = "GET /zstack/v1/hosts/capacities/cpu-memory"

MISTAKES = {
    "half a JSON": Mistake(ZONES, b'{"params": {"name": ', tells="Malformed"),
    "more than a JSON": Mistake(ZONES, b'{"params": {"name": "z"}} x', tells="Malformed"),
    "a JSON array": Mistake(ZONES, [], tells="BEGIN_ARRAY"),
    "a JSON text": Mistake(ZONES, "zone", tells="the body is a JSON object"),
    "a JSON null": Mistake(ZONES, b"null", tells="mandatory"),
    "a form": Mistake(ZONES, b"name=zone-2", {"Content-Type": "application/x-www-form-urlencoded"}, tells="the body is a JSON object"),
    "deep arrays": Mistake(ZONES, b"[" * 100_000, tells="200 levels deep"),
    "deep objects": Mistake(ZONES, b'{"a":' * 20_000, tells="200 levels deep"),
    "a deep list": Mistake(ZONES, b'{"params": {"name": %b}}' % (b"[" * 700 + b"]" * 700), tells="200 levels deep"),
    "not a number": Mistake(ZONES, b'{"params": {"name": NaN}}', tells="NaN"),
    "no end of a number": Mistake(ZONES, b'{"params": {"name": -Infinity}}', tells="Infinity"),
    "half a surrogate pair": Mistake(ZONES, b'{"params": {"name": "\\ud800"}}', tells="a text of the body holds half of a surrogate pair"),
    "no UTF-8": Mistake(ZONES, b'{"params": {"name": "\xff"}}', tells="UTF-8"),
    "a body over the limit": Mistake(ZONES, b" " * ((1 << 17) + 1), tells="--body-limit"),
    "no gzip": Mistake(ZONES, b"0123456789", {"Content-Encoding": "gzip"}, tells="gzip"),
    "params is a list": Mistake(ZONES, {"params": []}, tells="params is a JSON object"),
    "params is a text": Mistake(ZONES, {"params": "name"}, tells="params is a JSON object"),
    "no params": Mistake(ZONES, {}, tells="field[name]"),
    "systemTags is a text": Mistake(ZONES, {**params(name="z"), "systemTags": "a"}, tells="systemTags is a list"),
    "userTags is an object": Mistake(ZONES, {**params(name="z"), "userTags": {"a": 1}}, tells="userTags is a list"),
    "a tag is a number": Mistake(ZONES, {**params(name="z"), "userTags": [1]}, tells="userTags is a list"),
    "a required text is missing": Mistake(ZONES, params(description="z"),
        tells="field[name] of message[org.zstack.header.zone.APICreateZoneMsg] is mandatory"),
    "a required text is null": Mistake(ZONES, params(name=None), tells="mandatory"),
    "a text is an object": Mistake(ZONES, params(name={}), tells="name is a text"),
    "a text is a list": Mistake(ZONES, params(name=["z"]), tells="name is a text"),
    "a text is too long": Mistake(ZONES, params(name="z" * 256), tells="255"),
    "a text is a number without end": Mistake(ZONES, params(name=TOO_BIG), tells="name"),
    "a resourceUuid with dashes": Mistake(ZONES, params(name="z", resourceUuid="d825b1a2-6f4e-474b-8c59-306081920ff2"),
        tells="'-' stripped"),
    "a resourceUuid that is a number": Mistake(ZONES, params(name="z", resourceUuid=5), tells="not a valid uuid"),
    "a number is a word": Mistake(HOSTS, params(**KVM, sshPort="ssh"), tells="[sshPort] field is excepted an int or long, but was [ssh]"),
    "a number is true": Mistake(HOSTS, params(**KVM, sshPort=True), tells="sshPort"),
    "a number is a list": Mistake(HOSTS, params(**KVM, sshPort=[22]), tells="sshPort"),
    "a whole number has a fraction": Mistake(HOSTS, params(**KVM, sshPort=22.5), tells="22.5"),
    "a number is out of range": Mistake(HOSTS, params(**KVM, sshPort=70000), tells="[1, 65535]"),
    "a number is far too large": Mistake(HOSTS, params(**KVM, sshPort=TOO_BIG), tells="sshPort"),
    "a bool is a word": Mistake(IMAGES, params(**IMAGE, system="maybe"), tells="[true, false]"),
    "a bool is a number": Mistake(IMAGES, params(**IMAGE, system=1), tells="[true, false]"),
    "a list is a text": Mistake(VMS, params(**NEW_VM | {"l3NetworkUuids": "x"}), tells="l3NetworkUuids is a list"),
    "a list is empty": Mistake(VMS, params(**NEW_VM | {"l3NetworkUuids": []}), tells="nonempty"),
    "a list holds null": Mistake(VMS, params(**NEW_VM | {"l3NetworkUuids": [None]}), tells="NULL"),
    "a list holds an object": Mistake(VMS, params(**NEW_VM | {"l3NetworkUuids": [{}]}), tells="l3NetworkUuids"),
    "no such value": Mistake("POST /zstack/v1/clusters", params(name="c", zoneUuid=ZONE, hypervisorType="kvm"), tells="KVM"),
    "an address that is none": Mistake(HOSTS, params(**KVM | {"managementIp": ""}), tells="managementIp"),
    "a reference that leads nowhere": Mistake("POST /zstack/v1/clusters", params(name="c", zoneUuid=NOBODY, hypervisorType="KVM"),
        status=503, tells="zoneUuid"),

    "an unknown action": Mistake(*action(startVm={}), tells="startVmInstance"),
    "two unknown actions": Mistake(*action(startVm={}, stopVm={}), tells="action"),
    "no action": Mistake(*action(), tells="startVmInstance"),
    "no body for an action": Mistake(action()[0], tells="startVmInstance"),
    "an action is a text": Mistake(*action(startVmInstance="now"), tells="startVmInstance is a JSON object"),
    "an action on nobody": Mistake(f"PUT /zstack/v1/vm-instances/{NOBODY}/actions", {"startVmInstance": {}}, status=503, tells=NOBODY),

    "an unknown path": Mistake("GET /zstack/v1/zone", status=404, tells="zones"),
    "an unknown path below a known one": Mistake(f"GET /zstack/v1/zones/{ZONE}/nics", status=404, tells="/zones/{uuid}"),
    "a slash at the end": Mistake("GET /zstack/v1/zones/", status=404, tells="without the slash at the end"),
    "a path in capitals": Mistake("GET /zstack/v1/Zones", status=404, tells="zones"),
    "outside the API": Mistake("GET /api/zones", status=404, tells="/zstack/v1"),
    "the root": Mistake("POST /", status=404, tells="/zstack/v1"),
    "a version that is none": Mistake("GET /zstack/v2/zones", status=404, tells="/zstack/v1"),
    "a percent sign alone": Mistake("GET /zstack/v1/zones/100%", tells="%25"),
    "percent and no hex": Mistake("GET /zstack/v1/zones/%zz", tells="%25"),
    "a path that is no UTF-8": Mistake("GET /zstack/v1/zones/%ff", tells="UTF-8"),
    "what is not simulated": Mistake("GET /zstack/v1/hybrid/eip", status=501, tells="/zmock/apis"),

    "PATCH": Mistake("PATCH /zstack/v1/zones", params(name="z"), status=405, tells="GET, POST"),
    "HEAD of an action": Mistake(action()[0].replace("PUT", "HEAD"), status=405),
    "PUT to a collection": Mistake("PUT /zstack/v1/zones", params(name="z"), status=405, tells="GET, POST"),
    "DELETE of a collection": Mistake("DELETE /zstack/v1/zones", status=405, tells="GET, POST"),
    "POST to an object": Mistake(f"POST /zstack/v1/zones/{ZONE}", params(name="z"), status=405, tells="DELETE, GET"),
    "GET of a creation": Mistake("GET /zstack/v1/hosts/kvm/" + HOST, status=404, tells="/hosts"),
    "GET of what is only deleted": Mistake(f"GET /zstack/v1/tags/{NOBODY}", status=405, tells="DELETE"),
    "GET of an action": Mistake(action()[0].replace("PUT", "GET"), status=405, tells="PUT"),
    "GET of the login": Mistake("GET /zstack/v1/accounts/login?accountName=admin", status=405, tells="LogInByAccount"),
    "POST to a job": Mistake(f"POST /zstack/v1/api-jobs/{USED_JOB}", status=405, tells="only GET"),
    "an unknown job": Mistake(f"GET /zstack/v1/api-jobs/{UNUSED_JOB}", status=404, tells="expired"),
    "a job that is no uuid": Mistake("GET /zstack/v1/api-jobs/latest", status=404, tells="expired"),
    "no job": Mistake("GET /zstack/v1/api-jobs/", status=404, tells="api"),

    "no Authorization": Mistake("GET /zstack/v1/zones", headers={"Authorization": None}, tells="OAuth UUID"),
    "another kind of Authorization": Mistake("GET /zstack/v1/zones", headers={"Authorization": "Bearer x"}, tells="OAuth UUID"),
    "Authorization in small letters": Mistake("GET /zstack/v1/zones", headers={"Authorization": "oauth x"}, tells="must be 'OAuth'"),
    "no session": Mistake("GET /zstack/v1/zones", headers={"Authorization": "OAuth"}, status=503, tells="log in"),
    "a session that is none": Mistake("GET /zstack/v1/zones", headers={"Authorization": f"OAuth {NOBODY}"}, status=503,
        tells="Session expired"),
    "a session that is none, asynchronous": Mistake(ZONES, params(name="z"), {"Authorization": f"OAuth {NOBODY}"}, 503, "Session expired"),
    "a wrong password": Mistake("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "password"}},
        status=503, tells="SHA-512"),
    "no password": Mistake("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin"}}, tells="field[password]"),
    "login in other words": Mistake("PUT /zstack/v1/accounts/login", {"login": {"accountName": "admin"}}, tells="logInByAccount"),

    "a job uuid with dashes": Mistake(ZONES, params(name="z"), {"X-Job-UUID": "d825b1a2-6f4e-474b-8c59-306081920ff2"},
        tells="without dashes"),
    "a job uuid in capitals": Mistake(ZONES, params(name="z"), {"X-Job-UUID": UNUSED_JOB.upper()}, tells="lower case"),
    "a job uuid too short": Mistake(ZONES, params(name="z"), {"X-Job-UUID": UNUSED_JOB[:-1]}, tells="X-Job-UUID"),
    "a job uuid of version 1": Mistake(ZONES, params(name="z"), {"X-Job-UUID": "0123456789ab1def8123456789abcdef"}, tells="v4"),
    "a job uuid that is not hex": Mistake(ZONES, params(name="z"), {"X-Job-UUID": "g123456789ab4def8123456789abcdef"}, tells="X-Job-UUID"),
    "an empty job uuid": Mistake(ZONES, params(name="z"), {"X-Job-UUID": ""}, tells="X-Job-UUID"),
    "a used job uuid": Mistake(ZONES, params(name="z"), {"X-Job-UUID": USED_JOB}, tells="used before"),
    "a job uuid of bytes": Mistake(ZONES, params(name="z"), {"X-Job-UUID": "\xff" * 32}, tells="X-Job-UUID"),

    "limit is a word": Mistake("GET /zstack/v1/zones?limit=abc", tells="'limit' must be an integer"),
    "limit has a fraction": Mistake("GET /zstack/v1/zones?limit=1.5", tells="'limit' must be an integer"),
    "limit is too large": Mistake("GET /zstack/v1/zones?limit=99999999999", tells="'limit' must be an integer"),
    "start is below zero": Mistake("GET /zstack/v1/zones?start=-1", tells="start"),
    "a condition without an operator": Mistake("GET /zstack/v1/zones?q=name", tells="Valid query operators are"),
    "a condition without a name": Mistake("GET /zstack/v1/zones?q==zone-1", tells="key-value pair"),
    "an empty condition": Mistake("GET /zstack/v1/zones?q=", tells="Valid query operators are"),
    "a condition of spaces": Mistake("GET /zstack/v1/zones?q=%20%20", tells="Valid query operators are"),
    "spaces around the operator": Mistake("GET /zstack/v1/zones?q=name%20=%20zone-1", tells="write name=zone-1"),
    "an unknown field": Mistake("GET /zstack/v1/zones?q=nmae=zone-1", tells="did you mean name?"),
    "an unknown relation": Mistake("GET /zstack/v1/vm-instances?q=vmNic.ip=10.0.0.1", tells="did you mean vmNics?"),
    "an unknown field of a relation": Mistake("GET /zstack/v1/vm-instances?q=vmNics.ipp=10.0.0.1", tells="did you mean ip?"),
    "a relation without a field": Mistake("GET /zstack/v1/vm-instances?q=vmNics=10.0.0.1", tells="vmNics"),
    "a bool condition that is none": Mistake("GET /zstack/v1/system-tags?q=inherent=maybe", tells="neither true nor false"),
    "sort by an unknown field": Mistake("GET /zstack/v1/zones?sort=-nmae", tells="did you mean name?"),
    "group by an unknown field": Mistake("GET /zstack/v1/zones?groupBy=stat", tells="did you mean state?"),
    "an unknown field to answer": Mistake("GET /zstack/v1/zones?fields=uuid,nmae", tells="did you mean name?"),
    "no field to answer": Mistake("GET /zstack/v1/zones?fields=", tells="field"),

    "a scalar twice": Mistake(f"GET /zstack/v1/task-progresses/{USED_JOB}?all=true&all=false", tells="only one value is allowed"),
    "a query bool that is none": Mistake(f"GET /zstack/v1/task-progresses/{USED_JOB}?all=maybe", tells="[true, false]"),
    "an api id that is none": Mistake("GET /zstack/v1/task-progresses/latest", tells="apiId[latest]"),
    "too little to go by": Mistake(CAPACITY, tells="zoneUuids"),
    "a list of uuids of nobody": Mistake(f"{CAPACITY}?zoneUuids={NOBODY}", status=503, tells=NOBODY),
    "an index that only looks like a digit": Mistake(f"{CAPACITY}?zoneUuids.%C2%B2={NOBODY}", status=503, tells=NOBODY),
    "an index without end": Mistake(f"{CAPACITY}?zoneUuids.{'9' * 5000}={NOBODY}", status=503, tells=NOBODY),
    "an unknown deleteMode": Mistake(f"DELETE /zstack/v1/zones/{ZONE}?deleteMode=permissive", tells="Permissive or Enforcing"),
    "deleteMode twice": Mistake(f"DELETE /zstack/v1/zones/{ZONE}?deleteMode=Permissive&deleteMode=Enforcing",
        tells="only one value is allowed"),
    "DELETE of what looks like no uuid": Mistake("DELETE /zstack/v1/zones/zone-1", status=503, tells="invalid value[zone-1]"),
    "DELETE without the uuids": Mistake("DELETE /zstack/v1/notifications", tells="field[uuids]"),
    "DELETE of no long job": Mistake(f"DELETE /zstack/v1/longjobs/{NOBODY}", status=503, tells=NOBODY),
}  # fmt: skip


@pytest.mark.usefixtures("unsimulated")
@each("mistake", MISTAKES.values(), ids=MISTAKES)
async def test_a_mistake_gets_its_status_and_an_answer_that_helps_and_the_server_goes_on(zmock, caplog, mistake):
    await zmock.login()
    await zmock.request("POST", "/zones", params(name="first"), {"X-Job-UUID": USED_JOB})
    await zmock.advance(0)
    status, headers, content = await exchange(zmock, *mistake[:3])
    if mistake.line.startswith("HEAD"):
        assert (status, content, headers["allow"]) == (405, b"", "PUT")
    else:
        status, body = await finished(zmock, status, content)
        error = body["error"]
        assert status == mistake.status, error
        assert re.fullmatch(r"[A-Z_]+\.\d{4}", error["code"])
        assert error["description"]
        assert error["details"]
        assert mistake.tells in error["details"] + "\n" + headers.get("x-zmock-hint", "")
    assert ("allow" in headers) == (status == 405)
    assert await zmock.request("GET", "/zones?count=true") == (200, {"total": 2})
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("data", [
    b"garbage\r\n\r\n",
    b"GET zones HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /zstack/v1/zones\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /zstack/v1/zones HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
    b"POST /zstack/v1/zones HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n{}",
    b"POST /zstack/v1/zones HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /zstack/v1/zones HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /zstack/v1/zones HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * ((1 << 16) + 1) + b"\r\n\r\n",
], ids=lambda data: repr(data[:40]))  # fmt: skip
async def test_what_is_no_http_gets_a_400_and_the_server_goes_on(zmock, caplog, data):
    await zmock.login()
    assert (await send(zmock, data)).split()[1] == b"400"
    assert (await zmock.request("GET", "/zones"))[0] == 200
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(zmock, caplog):
    await zmock.login()
    _, writer = await asyncio.open_connection("127.0.0.1", int(zmock.base.rpartition(":")[2]))
    writer.write(f"{ZONES} HTTP/1.1\r\nHost: x\r\nAuthorization: OAuth {zmock.session}\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    writer.transport.abort()
    assert await zmock.request("GET", "/zones?count=true") == (200, {"total": 1})
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("header", ["X-Web-Hook", "Authorization", "X-JSON-Schema", "Host"])
@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_header_of_odd_bytes_does_not_keep_the_cloud_from_being_kept(tmp_path, caplog, dialect, header):
    async with serve(memory=False, data=str(tmp_path / "cloud"), dialect=dialect) as mock:
        await mock.login()
        status, _, content = await exchange(mock, ZONES, params(name="odd"), {header: "OAuth \xff"})
        assert (await finished(mock, status, content))[0] in (200, 400, 503)
        assert (await mock.create("CreateZone", name="even"))["name"] == "even"
        for path in ("/zmock/calls", "/zmock/jobs", "/zstack/v1/notifications"):
            assert (await exchange(mock, f"GET {path}"))[0] == 200
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_job_uuid_of_odd_bytes_is_answered_in_the_server_dialect_too(caplog):
    async with serve(dialect="server") as mock:
        await mock.login()
        status, _, _ = await exchange(mock, ZONES, params(name="odd"), {"X-Job-UUID": "\xff" * 32})
        assert status in (202, 400)
        assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


# X-ZMock-Hint: what was sent, and the right thing that it names

HINTS = [
    ("GET /zstack/v1/zons", None, "did you mean zones?"),
    ("GET /zstack/v1/vm-instance/x", None, "did you mean vm-instances?"),
    ("GET /zstack/v1/zons", None, "no collection zons, did you mean zones?; nearest: /zones by GET (QueryZone)"),
    ("PUT /zstack/v1/vm-instances/x/action", None, "nearest: /vm-instances/{uuid}/actions by PUT (UpdateVmInstance"),
    ("DELETE /zstack/v1/hosts/kvm/x", None, "nearest: /hosts/{uuid} by DELETE (DeleteHost)"),
    ("POST /zstack/v1/volumes", None, "POST is for /volumes/data (CreateDataVolume)"),
    ("PUT /zstack/v1/zones/x", None, "PUT is for /zones/{uuid}/actions"),
    ("GET /zstack/v1/users", None, "no collection users; there is /accounts/users"),
    ("GET /zstack/v1/foo", None, "no collection foo"),
    (f"PUT /zstack/v1/accounts/users/{ZONE}/actions", None, "nearest: /accounts/users/actions by PUT (UpdateUser)"),
    (f"GET /zstack/v1/ip-ranges/{ZONE}/free", None, "/l3-networks/ip-ranges"),
    ("DELETE /zstack/v1/zones", None, "DELETE is for /zones/{uuid} (DeleteZone)"),
    (*action(changeZoneState={}), "changeZoneState is for PUT /zones/{uuid}/actions (ChangeZoneState)"),
    (ZONES, {"params": {"name": "z"}, "name": "y"}, 'nothing reads name beside "params"'),
    (*action(startVmInstance={}, stopVmInstance={}), 'nothing reads st'),
    ("POST /zstack/v1/zones?name=z", params(name="z"), "a POST does not read the query string: name"),
    (f"GET /zstack/v1/zones/{ZONE}?q=name=x", None, "with a uuid in the path nothing reads q"),
    ("GET /zones", None, "/zstack/v1"),
    ("POST /", None, "GET /zmock/apis lists the APIs"),
    ("GET /zstack/v1", None, "as /zones"),
    ("GET /zstack/v1/api-job/x", None, "did you mean api-jobs?"),
    ("GET /zstack/v1/apijobs/x", None, "nearest: /api-jobs/{uuid} by GET (PollJob)"),
    (*action(stratVmInstance={}), "did you mean startVmInstance?"),
    (ZONES, {"name": "z"}, 'parameters go inside "params"'),
    (ZONES, {"param": {"name": "z"}}, "params"),
    (ZONES, {"params": {"nmae": "z"}}, "did you mean name?"),
    (ZONES, params(name="z", discription="d"), "did you mean description?"),
    (*action(startVmInstance={"hostUid": HOST}), "did you mean hostUuid?"),
    ("POST /zstack/v1/clusters", params(name="c", zoneUuid=ZONE, hypervisorType="kvm"), "did you mean KVM?"),
    (f"PUT /zstack/v1/zones/{ZONE}/actions", {"changeZoneState": {"stateEvent": "enabled"}}, "did you mean enable?"),
    ("POST /zstack/v1/longjobs", params(jobName="AddImage", jobData="{}"), "APIAddImageMsg"),
    ("GET /zstack/v1/zones?limt=1", None, "did you mean limit?"),
    ("GET /zstack/v1/zones?sortBy=name", None, "did you mean sort?"),
    ("GET /zstack/v1/zones?conditions=name=x", None, "did you mean condition?"),
    ("GET /zstack/v1/vm-instances?q=host.managmentIp=x", None, "did you mean managementIp?"),
    (f"{CAPACITY}?zoneUuid={ZONE}&all=true", None, "did you mean zoneUuids?"),
    (f"DELETE /zstack/v1/zones/{NOBODY}?deletMode=Enforcing", None, "did you mean deleteMode?"),
    (f"GET /zstack/v1/vm-instances/{ZONE}/hostnames", None, f"{ZONE} is of type Zone, uuid of type VmInstance"),
]  # fmt: skip


@each("line, body, hint", HINTS, ids=lambda value: value if isinstance(value, str) else "")
async def test_the_hint_names_the_nearest_right_thing(zmock, caplog, line, body, hint):
    await zmock.login()
    with caplog.at_level(logging.INFO, "zmock"):
        _, headers, _ = await exchange(zmock, line, body)
    assert hint in headers.get("x-zmock-hint", "no hint")
    assert any(hint in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("api", "given", "hint"),
    (
        ("StartVmInstance", {"uuid": HOST}, f"{HOST} is of type KVMHost, uuid of type VmInstance"),
        ("CreateVmInstance", NEW_VM | {"l3NetworkUuids": [named("l2-private")]}, f"{named('l2-private')} is of type L2VlanNetwork, l3NetworkUuids of type L3Network"),
        ("StartVmInstance", {"uuid": NOBODY}, f"no VmInstance has the uuid {NOBODY}; GET /vm-instances: {VM} web-1"),
    ),
)
async def test_the_hint_of_a_job_that_failed_says_what_was_taken_for_something_else(zmock, api, given, hint):
    with contextlib.suppress(RuntimeError):
        await zmock.call(api, **given)
    _, headers, _ = await exchange(zmock, f"GET /zstack/v1/api-jobs/{zmock.jobs()[-1]['uuid']}")
    assert headers.get("x-zmock-hint") == hint


async def test_a_right_request_gets_no_hint(zmock):
    await zmock.login()
    _, headers, _ = await exchange(zmock, ZONES, {**params(name="z"), "systemTags": [], "userTags": []})
    assert "x-zmock-hint" not in headers


# what real clients send

HABITS = [
    ("double slashes", f"GET /zstack/v1/zones//{ZONE}", None, {}, 200),
    ("double slashes everywhere", f"GET /zstack/v1//zones//{ZONE}", None, {}, 200),
    ("the prefix of the manual's examples", "GET /v1/zones", None, {}, 200),
    ("an attach call with a null action", f"POST /zstack/v1/volumes/{named('volume-spare')}/vm-instances/{VM}", {"null": {}}, {}, 200),
    ("an attach call with an action without a name", f"POST /zstack/v1/volumes/{named('volume-spare')}/vm-instances/{VM}",
        {"": {}}, {}, 200),
    ("an attach call without a body", f"POST /zstack/v1/volumes/{named('volume-spare')}/vm-instances/{VM}", None, {}, 200),
    ("an empty deleteMode", f"DELETE /zstack/v1/zones/{ZONE}?deleteMode=", None, {}, 200),
    ("deleteMode", f"DELETE /zstack/v1/zones/{ZONE}?deleteMode=Enforcing", None, {}, 200),
    ("an empty object for the only action of a path", "PUT /zstack/v1/licenses/actions", {}, {}, 200),
    ("the same on a long job", f"PUT /zstack/v1/longjobs/{named('longjob-1')}/actions", {}, {}, 200),
    ("no body for the only action of a path", "PUT /zstack/v1/licenses/actions", None, {}, 200),
    ("only gzip", "GET /zstack/v1/zones", None, {"Accept-Encoding": "gzip"}, 200),
    ("any encoding", "GET /zstack/v1/zones", None, {"Accept-Encoding": "*"}, 200),
    ("a Content-Type on a GET", "GET /zstack/v1/zones", None, {"Content-Type": "application/json; charset=utf-8"}, 200),
    ("an unknown charset of no body", "GET /zstack/v1/zones", None, {"Content-Type": "application/json; charset=klingon"}, 200),
    ("a session header besides", "GET /zstack/v1/zones", None, {"X-Session-Id": "x"}, 200),
    ("the session without a space", "GET /zstack/v1/zones", None, {"Authorization": "OAuth{session}"}, 200),
    ("spaces around the session", "GET /zstack/v1/zones", None, {"Authorization": "  OAuth   {session}  "}, 200),
    ("polling without a session", "GET /zstack/v1/api-jobs/" + USED_JOB, None, {"Authorization": None}, 200),
    ("polling with an odd session", "GET /zstack/v1/api-jobs/" + USED_JOB, None, {"Authorization": "Bearer x"}, 200),
    ("a job uuid for a synchronous call", "GET /zstack/v1/licenses", None, {"X-Job-UUID": USED_JOB}, 200),
    ("any Content-Type", ZONES, params(name="z"), {"Content-Type": "text/plain"}, 200),
    ("fields of newer versions", VMS, params(**NEW_VM, cpuNum=0, memorySize=0, virtio=True), {}, 200),
    ("a number where a text is due", ZONES, params(name=123), {}, 200),
    ("a text where a number is due", HOSTS, params(**KVM, sshPort="22"), {}, 200),
    ("a whole number with a point", HOSTS, params(**KVM, sshPort=22.0), {}, 200),
    ("null for what may be missing", ZONES, params(name="z", description=None), {}, 200),
    ("an indexed list", f"{CAPACITY}?zoneUuids.0={ZONE}", None, {}, 200),
    ("a key of a query twice", "GET /zstack/v1/zones?limit=1&limit=abc", None, {}, 200),
    ("a query string with nothing in it", "GET /zstack/v1/zones?&&", None, {}, 200),
    ("DELETE of what is not there", f"DELETE /zstack/v1/zones/{NOBODY}", None, {}, 200),
    ("GET of what is not there", f"GET /zstack/v1/zones/{NOBODY}", None, {}, 200),
]  # fmt: skip


@each("line, body, headers, status", [row[1:] for row in HABITS], ids=[row[0] for row in HABITS])
async def test_a_habit_of_a_real_client_is_no_mistake(zmock, line, body, headers, status):
    await zmock.login()
    await zmock.request("POST", "/zones", params(name="first"), {"X-Job-UUID": USED_JOB})
    await zmock.advance(0)
    sent = {name: value and value.replace("{session}", zmock.session) for name, value in headers.items()}
    came, answered, content = await exchange(zmock, line, body, sent)
    assert answered.get("content-encoding", "identity") == "identity"
    last, told = await finished(zmock, came, content)
    assert last == status, told
    assert "error" not in told


async def test_fields_of_newer_versions_are_named_in_the_hint(zmock):
    await zmock.login()
    _, headers, _ = await exchange(zmock, VMS, params(**NEW_VM, cpuNum=0, virtio=True))
    assert all(f"CreateVmInstance does not read {name}" in headers["x-zmock-hint"] for name in ("cpuNum", "virtio"))


@pytest.mark.parametrize("body, tag", [
    ({**params(name="z"), "userTags": ["outside"]}, "outside"),
    (params(name="z", userTags=["inside"]), "inside"),
    ({**params(name="z", userTags=["inside"]), "userTags": ["outside"]}, "outside"),
])  # fmt: skip
async def test_tags_stand_inside_or_outside_the_parameters_and_outside_wins(zmock, body, tag):
    await zmock.login()
    zone = (await zmock.finish("POST", "/zones", body))["inventory"]["uuid"]
    assert [found["tag"] for found in await zmock.query("user-tags", f"resourceUuid={zone}")] == [tag]


@pytest.mark.parametrize("written", ["a+b", "a%20b"])
async def test_a_space_in_a_query_is_a_plus_or_percent_20(zmock, written):
    await zmock.login()
    for name in ("a b", "a+b"):
        await zmock.create("CreateZone", name=name)
    _, _, content = await exchange(zmock, f"GET /zstack/v1/zones?q=name={written}&fields=name")
    assert json.loads(content)["inventories"] == [{"name": "a b"}]
    _, _, content = await exchange(zmock, "GET /zstack/v1/zones?q=name=a%2Bb&fields=name")
    assert json.loads(content)["inventories"] == [{"name": "a+b"}]


# bodies in other charsets, and packed

TEXT = json.dumps({"params": {"name": "区域"}}, ensure_ascii=False)
JSON_IN = "application/json; charset="
READABLE = [
    *((charset, TEXT.encode(charset), {"Content-Type": JSON_IN + charset})
        for charset in ("utf-8", "UTF8", "gbk", "GB2312", "gb18030", "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-8-sig", "utf-7", "hz")),
    ("utf-16, big-endian, no mark", TEXT.encode("utf-16-be"), {"Content-Type": JSON_IN + "utf-16"}),
    ("utf-16, little-endian, no mark", TEXT.encode("utf-16-le"), {"Content-Type": JSON_IN + "utf-16"}),
    ("utf-16, big-endian, with its mark", b"\xfe\xff" + TEXT.encode("utf-16-be"), {"Content-Type": JSON_IN + "utf-16"}),
    ("utf-16le with a mark", TEXT.encode("utf-16-le"), {"Content-Type": JSON_IN + "utf-16le"}),
    ("utf-8 with a mark", b"\xef\xbb\xbf" + TEXT.encode(), {"Content-Type": JSON_IN + "utf-8"}),
    ("a mark and no charset", b"\xef\xbb\xbf" + TEXT.encode(), {}),
    ("utf-16 by its mark alone", TEXT.encode("utf-16"), {"Content-Type": "application/json"}),
    ("a quoted charset", TEXT.encode("gbk"), {"Content-Type": 'application/json;charset="GBK"'}),
    ("an empty charset", TEXT.encode(), {"Content-Type": JSON_IN}),
    ("escapes in latin-1", json.dumps(json.loads(TEXT)).encode("latin-1"), {"Content-Type": JSON_IN + "iso-8859-1"}),
    ("gzip", gzip.compress(TEXT.encode()), {"Content-Encoding": "gzip"}),
    ("x-gzip in capitals", gzip.compress(TEXT.encode()), {"Content-Encoding": "X-GZIP"}),
    ("deflate, as zlib", zlib.compress(TEXT.encode()), {"Content-Encoding": "deflate"}),
    ("deflate, raw", zlib.compress(TEXT.encode(), wbits=-15), {"Content-Encoding": "deflate"}),
    ("identity", TEXT.encode(), {"Content-Encoding": "identity"}),
    ("gzip of two members", gzip.compress(TEXT[:9].encode()) + gzip.compress(TEXT[9:].encode()), {"Content-Encoding": "gzip"}),
    ("gzip of gbk", gzip.compress(TEXT.encode("gbk")), {"Content-Encoding": "gzip", "Content-Type": JSON_IN + "gbk"}),
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_body_is_read_in_its_charset_and_unpacked(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        for name, body, headers in READABLE:
            status, _, content = await exchange(mock, ZONES, body, headers)
            status, told = await finished(mock, status, content)
            assert (status, told["inventory"]["name"]) == (200, "区域"), name


PACKED, ZEROS = gzip.compress(TEXT.encode()), b" " * (1 << 22)
UNREADABLE = [
    ("an unknown charset", TEXT.encode(), {"Content-Type": JSON_IN + "klingon"}, "no charset 'klingon' is known"),
    ("an almost known charset", TEXT.encode(), {"Content-Type": JSON_IN + "utf8mb4"}, "did you mean utf-8?"),
    ("a charset of odd bytes", TEXT.encode(), {"Content-Type": JSON_IN + "\xff\xfe"}, "is known"),
    *((f"the codec {name}, which is no charset", TEXT.encode(), {"Content-Type": JSON_IN + name}, f"no charset '{name}' is known")
        for name in ("hex", "zlib", "idna", "punycode", "unicode_escape", "undefined")),
    ("gbk that says utf-8", TEXT.encode("gbk"), {"Content-Type": JSON_IN + "utf-8"}, "the body is not UTF-8"),
    ("gbk that says nothing", TEXT.encode("gbk"), {}, "the body is not UTF-8, and its Content-Type names no charset"),
    ("utf-8 that says ascii", TEXT.encode(), {"Content-Type": JSON_IN + "us-ascii"}, "the body is not ASCII"),
    ("half a character", TEXT.encode("utf-16")[:-1], {"Content-Type": JSON_IN + "utf-16"}, "the body is not UTF-16"),
    *((f"Content-Encoding {name}", PACKED, {"Content-Encoding": name}, f"Content-Encoding '{name}' is not understood, gzip and deflate are")
        for name in ("br", "zstd", "compress", "aes128gcm", "gzip, gzip", "*")),
    ("gzip cut short", PACKED[:-9], {"Content-Encoding": "gzip"}, "the gzip body is cut short"),
    ("gzip without its last byte", PACKED[:-1], {"Content-Encoding": "gzip"}, "the gzip body is cut short"),
    ("deflate cut short", zlib.compress(TEXT.encode())[:-3], {"Content-Encoding": "deflate"}, "the deflate body is cut short"),
    ("raw deflate cut short", zlib.compress(TEXT.encode(), wbits=-15)[:-3], {"Content-Encoding": "deflate"}, "the deflate body is cut short"),
    ("no gzip", TEXT.encode(), {"Content-Encoding": "gzip"}, "the body is not gzip"),
    ("no deflate", TEXT.encode(), {"Content-Encoding": "deflate"}, "the body is not deflate"),
    ("gzip and more", PACKED + b"more", {"Content-Encoding": "gzip"}, "the body is not gzip"),
    ("gzip with a wrong sum", PACKED[:-8] + bytes(8), {"Content-Encoding": "gzip"}, "the body is not gzip"),
    ("a bomb", gzip.compress(ZEROS), {"Content-Encoding": "gzip"}, "the body has more than 131072 bytes"),
    ("a raw bomb", zlib.compress(ZEROS, wbits=-15), {"Content-Encoding": "deflate"}, "the body has more than 131072 bytes"),
]  # fmt: skip


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_body_that_cannot_be_read_is_an_error_that_a_browser_may_read_and_the_journal_keeps(dialect, caplog):
    async with serve(dialect=dialect, body_limit=1 << 17) as mock:
        await mock.login()
        for name, body, headers, tells in UNREADABLE:
            status, answered, content = await exchange(mock, ZONES, body, headers | {"Origin": PAGE})
            wanted = 400 if dialect == "manual" or "bomb" in name else 500
            assert (status, tells in content.decode()) == (wanted, True), (name, content)
            assert answered["access-control-allow-origin"] == PAGE
            assert answered["x-zmock-hint"]
            assert [(call.path, call.status, call.outcome) for call in mock.calls()][-1] == ("/zstack/v1/zones", status, "error")
        assert not [zone for zone in await mock.query("zones") if zone["name"] != "zone-1"]
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(("encoding", "bits"), (("gzip", 31), ("deflate", 15), ("deflate", -15)))
def test_a_packed_body_is_whole_or_an_error_wherever_it_is_cut(encoding, bits):
    whole = zlib.compress(TEXT.encode() * 20, wbits=bits)
    assert unpack(whole, encoding, 1 << 17) == TEXT.encode() * 20
    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut short"):
            unpack(whole[:end], encoding, 1 << 17)


@pytest.mark.parametrize(("encoding", "bits"), (("gzip", 31), ("deflate", 15), ("deflate", -15)))
def test_a_bomb_takes_no_more_room_than_a_body_may(encoding, bits):
    bomb, limit = zlib.compress(bytes(20_000_000), wbits=bits), 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(aiohttp.web.HTTPRequestEntityTooLarge):
            unpack(bomb, encoding, limit)
        assert tracemalloc.get_traced_memory()[1] < 3 * limit
    finally:
        tracemalloc.stop()


# HEAD


@pytest.mark.parametrize("dialect", ["manual", "server"])
async def test_a_head_gets_the_head_that_a_get_gets(dialect, caplog):
    paths = ("/zones", f"/zones/{ZONE}", f"/zones//{ZONE}", "/zones?q=nmae=x", "/zons", "/hybrid/eip", "/management-nodes/ready", "/vm-instances?count=true",
             f"/api-jobs/{UNUSED_JOB}", f"/vm-instances/{VM}/actions", "/hosts/capacities/cpu-memory?all=true", "/licenses")  # fmt: skip
    async with serve(dialect=dialect) as mock:
        await mock.login()
        for path in paths:
            for _ in range(2):  # the second GET may be answered from what is kept
                status, headers, content = await exchange(mock, f"GET /zstack/v1{path}")
            came, answered, nothing = await exchange(mock, f"HEAD /zstack/v1{path}")
            told = ("content-length", "x-zmock-hint", "access-control-allow-origin", "content-type")
            assert (came, nothing) == (status, b""), path
            if status < 405 or dialect == "manual" and status != 405:  # the error of a method names it
                assert [answered.get(name, "0") for name in told] == [headers.get(name, "0") for name in told], path
            assert mock.calls()[-1].method == "HEAD"
        assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("then", [{"error": "HOST.1010"}, {"status": 502, "body": "x"}, *({"drop": drop} for drop in ("reset", "empty", "truncate", "garbage", "dribble"))])
async def test_a_rule_for_a_get_is_for_its_head_too(then, caplog):
    async with serve(clock="warp") as mock:
        await mock.login()
        rule = mock.rule(api="QueryZone", when={"method": "GET"}, then=then)
        with contextlib.suppress(ConnectionError, ValueError, IndexError):  # of what breaks off
            assert (await exchange(mock, "HEAD /zstack/v1/zones?fields=uuid"))[0] == then.get("status", 503 if "error" in then else 200)
        assert rule.hits == 1
    assert not [record.message for record in caplog.records if record.levelno >= logging.ERROR]


DEPENDENCIES = f"GET /zstack/v1/images-l3networks/dependencies?zoneUuid={ZONE}"
ZONE_CLASS, NIC_CLASS = "org.zstack.header.zone.ZoneInventory", "org.zstack.header.vm.VmNicInventory"


@pytest.mark.parametrize("line, body, path, java", [
    ("GET /zstack/v1/zones", None, "inventories[0]", ZONE_CLASS),
    ("GET /zstack/v1/zones/" + ZONE, None, "inventories[0]", ZONE_CLASS),
    ("GET /zstack/v1/vm-instances/" + VM, None, "inventories[0].vmNics[0]", NIC_CLASS),
    (f"{DEPENDENCIES}&l3NetworkUuids={named('l3-private')}", None, "inventories[0]", "org.zstack.header.image.ImageInventory"),
    (f"{DEPENDENCIES}&imageUuid={named('image-centos7')}", None, "inventories[0]", "org.zstack.header.network.l3.L3NetworkInventory"),
    ("GET /zstack/v1/longjobs", None, "inventories[0].state", "org.zstack.header.longjob.LongJobState"),
    ("GET /zstack/v1/licenses", None, "inventory", "org.zstack.license.LicenseInventory"),
    ("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}, "inventory",
     "org.zstack.header.identity.SessionInventory"),
    (ZONES, params(name="z"), "inventory", ZONE_CLASS),
    (HOSTS, params(**KVM), "inventory", "org.zstack.kvm.KVMHostInventory"),
    (*action(stopVmInstance={}), "inventory.vmNics[0]", NIC_CLASS),
    (f"DELETE /zstack/v1/zones/{NOBODY}", None, None, None),
    ("PUT /zstack/v1/management-nodes/actions", {"getVersion": {}}, None, None),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
async def test_the_schema_comes_when_it_is_asked_for(zmock, line, body, path, java):
    await zmock.login()
    status, _, content = await exchange(zmock, line, body)
    assert "schema" not in (await finished(zmock, status, content))[1]
    await zmock.reset()
    await zmock.login()
    schema = {"X-JSON-Schema": "true"}
    status, _, content = await exchange(zmock, line, body, schema)
    if status == 202:
        assert json.loads(content).keys() == {"location"}
        await zmock.advance(0)
        job = json.loads(content)["location"].rpartition("/")[2]
        status, _, content = await exchange(zmock, f"GET /zstack/v1/api-jobs/{job}", headers=schema)
    assert status == 200
    assert json.loads(content)["schema"].get(path) == java
    assert bool(json.loads(content)["schema"]) == bool(path)


async def test_a_poll_without_the_header_has_no_schema_whatever_the_call_had(zmock):
    await zmock.login()
    status, _, content = await exchange(zmock, ZONES, params(name="z"), {"X-JSON-Schema": "true"})
    assert (await finished(zmock, status, content))[1].keys() == {"inventory"}


async def test_answers_are_compact_utf8_without_html_escapes(zmock):
    await zmock.login()
    await zmock.create("CreateZone", name="<区域> & 'zone'=1")
    _, headers, content = await exchange(zmock, "GET /zstack/v1/zones?sort=-createDate&limit=1&fields=name")
    assert content.decode() == """{"inventories":[{"name":"<区域> & 'zone'=1"}]}"""
    assert (headers["content-type"], headers["content-length"]) == ("application/json", str(len(content)))


# browsers

PAGE = "http://localhost:3000"  # the origin of a page


async def test_a_browser_may_call_from_any_origin(zmock):
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT", "Authorization": None,
             "Access-Control-Request-Headers": "authorization,content-type,x-job-uuid"}  # fmt: skip
    status, headers, _ = await exchange(zmock, f"OPTIONS /zstack/v1/vm-instances/{VM}/actions", None, asked)
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert {"GET", "POST", "PUT", "DELETE"} <= set(headers["access-control-allow-methods"].split(", "))
    assert set(headers["access-control-allow-headers"].replace(" ", "").split(",")) >= {"authorization", "content-type", "x-job-uuid"}


@pytest.mark.parametrize("line, status", [
    ("GET /zstack/v1/zones", 200), ("GET /zstack/v1/zons", 404), ("PATCH /zstack/v1/zones", 405), (ZONES, 400),
])  # fmt: skip
async def test_a_browser_may_read_every_answer_with_its_headers(zmock, line, status):
    await zmock.login()
    came, headers, _ = await exchange(zmock, line, None, {"Origin": PAGE})
    assert (came, headers["access-control-allow-origin"]) == (status, PAGE)
    assert {"X-ZMock-Hint", "X-ZMock-Rule", "Allow", "Vary"} <= set(headers["access-control-expose-headers"].split(", "))


# asked again: an answer to a query is kept as bytes, and stands until what it was read from changes


ASKED = f"/vm-instances/{VM}"
POOL, CERTIFICATE, VIP = (named(f"what stands: {name}") for name in ("pool", "certificate", "vip"))
CHANGES = {  # what is asked twice, and what is done in between; the answers differ
    "the object": (ASKED, lambda mock: mock.act("vm-instances", VM, "updateVmInstance", name="renamed")),
    "what is shown inside it": (ASKED, lambda mock: mock.call("AttachDataVolumeToVm", volumeUuid=named("volume-spare"), vmInstanceUuid=VM)),
    "what is shown inside one of its subtypes": (f"/l2-networks/{POOL}", lambda mock: mock.create("CreateVniRange", name="r", l2NetworkUuid=POOL, startVni=1, endVni=9)),
    "what is shown inside it, and kept inside another": (
        f"/certificates/{CERTIFICATE}", lambda mock: mock.create("CreateLoadBalancerListener", name="l", loadBalancerUuid=POOL, protocol="https",
                                                                 loadBalancerPort=443, certificateUuid=CERTIFICATE),
    ),
    "one more of them": ("/zones?sort=name", lambda mock: mock.create("CreateZone", name="another")),
    "one less of them": ("/zones?count=true", lambda mock: mock.delete("zones", ZONE)),
    "what a relation leads to": ("/vm-instances?q=host.name=host-1", lambda mock: mock.act("hosts", HOST, "updateHost", name="h")),
    "what an alias goes through": (
        "/images?q=backupStorage.name=bs-1", lambda mock: mock.act("backup-storage", named("bs-1"), "updateBackupStorage", name="b")
    ),
    "a tag": (
        "/zones?q=__userTag__=new", lambda mock: mock.create("CreateUserTag", resourceType="ZoneVO", resourceUuid=ZONE, tag="new")
    ),
    "the time, where it is shown": ("/management-nodes", lambda mock: mock.advance(60)),
    "the whole cloud": (ASKED, lambda mock: mock.control.reset_to("empty")),
}  # fmt: skip
MADE = {  # what is there before that, by the collection that is asked for
    "/l2-networks": (("CreateL2VxlanNetworkPool", {"resourceUuid": POOL, "zoneUuid": ZONE}),),
    "/certificates": (
        ("CreateCertificate", {"resourceUuid": CERTIFICATE, "certificate": "c"}),
        ("CreateVip", {"l3NetworkUuid": named("l3-public"), "resourceUuid": VIP}),
        ("CreateLoadBalancer", {"vipUuid": VIP, "resourceUuid": POOL}),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_an_answer_is_given_anew_when_what_it_was_read_from_has_changed(zmock, what):
    path, change = CHANGES[what]
    await zmock.login()
    for api, given in MADE.get(path.rpartition("/")[0], ()):
        await zmock.create(api, name="made", **given)
    before = await zmock.request("GET", path)
    assert before == await zmock.request("GET", path)
    await change(zmock)
    await zmock.login()
    assert before != await zmock.request("GET", path)


async def over_one_connection(mock, path, times):
    """The answers to the same GET, asked several times: (status, headers but for what is of each, body)."""
    each = ("Date", "Set-Cookie")
    async with aiohttp.ClientSession(headers={"Authorization": f"OAuth {mock.session}"}) as http:
        for _ in range(times):
            async with http.get(mock.url + path) as answer:
                yield answer.status, {name: value for name, value in answer.headers.items() if name not in each}, await answer.read()


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_an_answer_that_stands_is_no_other_than_the_first(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        first, *others = [answer async for answer in over_one_connection(mock, ASKED, 3)]
        assert others == [first] * 2 and b"web-1" in first[2]
        assert len(mock.calls("QueryVmInstance")) == mock.cloud.used["QueryVmInstance"] == 3


async def test_an_answer_that_stands_goes_through_the_same_doors(zmock):
    await zmock.login()
    assert [status async for status, _, _ in over_one_connection(zmock, ASKED, 2)] == [200, 200]
    asked = f"GET /zstack/v1{ASKED}"
    assert "inventory" in json.loads((await exchange(zmock, asked, headers={"X-JSON-Schema": "true"}))[2])["schema"]
    assert (await exchange(zmock, asked, headers={"Authorization": "OAuth nobody"}))[0] == 503
    assert (zmock.calls()[-1].api, zmock.calls()[-1].status) == ("QueryVmInstance", 503)
    assert (await exchange(zmock, asked, headers={"Authorization": None}))[0] == 400
    assert (await exchange(zmock, asked, b"no json"))[0] == 400
    assert (await exchange(zmock, asked.replace("GET", "DELETE")))[0] == 202
    zmock.rule(api="QueryVmInstance", then={"error": "SYS.1000"})
    assert (await exchange(zmock, asked))[0] == 503


async def test_many_different_answers_do_not_pile_up(zmock, monkeypatch):
    monkeypatch.setattr("zmock.MOST_CACHED", 50)
    await zmock.login()
    for n in range(200):
        await zmock.request("GET", f"/zones?limit={n + 1}")
    assert [*zmock.rest.cached] == [f"/zstack/v1/zones?limit={n + 1}" for n in range(150, 200)]


async def test_an_answer_that_is_kept_again_takes_its_room_once_and_a_reset_frees_it(zmock):
    await zmock.login()
    for name in "abc":
        await zmock.create("CreateZone", name=name)
        await zmock.request("GET", "/zones?fields=uuid&limit=1")
    assert [*zmock.rest.cached] == ["/zstack/v1/zones?fields=uuid&limit=1"]
    await zmock.reset()
    assert not zmock.rest.cached


# --strict, and the date of an answer


@each("method, path, body, headers, problem", [
    ("POST", "/zones", {"params": {"name": "z", "descripton": "d"}}, {}, "CreateZone does not read descripton, did you mean description?"),
    ("POST", "/zones", {"params": {"name": "z"}, "name": "z"}, {}, "name"),
    ("POST", "/zones?name=z", {"params": {"name": "z"}}, {}, "a POST does not read the query string: name"),
    ("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UID": "1"}, "no api reads the header X-Job-UID, did you mean X-Job-UUID?"),
    ("GET", "/zones?limt=1", None, {}, "limt"),
])  # fmt: skip
async def test_strict_refuses_what_nothing_reads(method, path, body, headers, problem):
    for strict, expected in ((False, (200, 202)), (True, (400,))):
        async with serve(strict=strict, dialect="server") as mock:
            await mock.login()
            status, answer = await mock.request(method, path, body, headers)
            assert status in expected and (not strict or problem in json.dumps(answer)), answer
            assert mock.jobs() == [] or not strict


async def test_strict_lets_pass_what_is_read():
    async with serve(strict=True) as mock:
        await mock.create("CreateZone", name="z", userTags=["a"])
        assert await mock.query("zones", "name=z")


async def test_the_date_of_an_answer_follows_the_clock(cloud):
    await ask_control(cloud, "POST", "clock", {"set": "2030-07-10T08:00:00Z"})
    async with aiohttp.ClientSession(headers={"Authorization": f"OAuth {cloud.session}"}) as http:
        for path in ("/zones", "/zones", "/nowhere", "/hosts"):  # the second one is cached
            async with http.get(cloud.url + path) as answer:
                assert answer.headers["Date"] == "Wed, 10 Jul 2030 08:00:00 GMT"
