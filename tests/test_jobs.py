"""Api-jobs: 202, poll, expiry, the web-hook with a receiver that is really there, and what a restart leaves of them."""

import asyncio
import errno
import json
import os
import threading
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web

from zmock import GRACE, HOOKS, SHA512_OF_PASSWORD, catalogue, named, serve

MANUAL, SERVER = "manual", "server"
BOTH = pytest.mark.parametrize("dialect", (MANUAL, SERVER))
HOUR, DAY = 3600, 86400
JOB = "d0345d3ddcae485f8170572b15a2b581"
HOST = {"name": "h", "managementIp": "10.10.0.50", "username": "root", "password": "p", "clusterUuid": named("cluster-1")}
VM = {
    "name": "n",
    "instanceOfferingUuid": named("offering-small"),
    "imageUuid": named("image-centos7"),
    "l3NetworkUuids": [named("l3-private")],
}
IMAGE = {"name": "i", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}
ZONE, NO_SUCH_ZONE = {"name": "z"}, {"name": "c", "hypervisorType": "KVM", "zoneUuid": named("nowhere")}
NOT_FOUND = {"code": "SYS.1003", "description": "A resource can not be found",
             "details": f"invalid field[zoneUuid], resource[uuid:{named('nowhere')}, type:ZoneVO] not found"}  # fmt: skip


@pytest.fixture
def dialect():
    return MANUAL


@pytest.fixture
def zmock_settings(dialect):
    return {"delay": "10", "dialect": dialect}


@pytest.fixture
async def mock(zmock):
    """The mock of the test, logged in; a job takes ten seconds."""
    await zmock.login()
    return zmock


async def submit(mock, method, path, body=None, **headers):
    """A call that becomes a job: the job's uuid."""
    status, answer = await mock.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    assert status == 202, answer
    return answer["location"].rpartition("/")[2]


async def create(mock, path="/zones", given=ZONE, **headers):
    return await submit(mock, "POST", path, {"params": given}, **headers)


def at(collection, name):
    return f"/{collection}/{named(name)}"


async def act(mock, vm, action):
    return await submit(mock, "PUT", at("vm-instances", vm) + "/actions", {action: {}})


async def poll(mock, job):
    """Status and body of a job: JSON, plain text, or None where it is empty."""
    async with aiohttp.ClientSession() as http, http.get(f"{mock.url}/api-jobs/{job}") as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text or None


async def status_of(mock, *jobs):
    return [(await poll(mock, job))[0] for job in jobs]


async def control(mock, method, path, body=None):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        return answer.status, await answer.json()


# polling


@BOTH
async def test_a_job_is_accepted_polled_and_over_when_its_time_has_come(mock, dialect):
    status, accepted = await mock.request("POST", "/zones", {"params": ZONE})
    assert status == 202 and accepted == {"location": f"{mock.url}/api-jobs/{accepted['location'][-32:]}"}
    job = accepted["location"][-32:]
    for _ in range(2):
        assert await poll(mock, job) == (202, accepted if dialect == MANUAL else None)
        assert await mock.query("zones", "name=z") == []
        await mock.advance(4.9)
    await mock.advance(0.2)
    (zone,) = await mock.query("zones", "name=z")
    assert [await poll(mock, job) for _ in range(3)] == [(200, {"inventory": zone})] * 3


@BOTH
async def test_a_job_that_fails_tells_why(mock):
    job = await create(mock, "/clusters", NO_SUCH_ZONE)
    assert await status_of(mock, job) == [202]
    await mock.advance(10)
    assert [await poll(mock, job) for _ in range(2)] == [(503, {"error": NOT_FOUND})] * 2


@pytest.mark.parametrize(("dialect", "empty"), ((MANUAL, {}), (SERVER, None)))
async def test_a_job_without_a_result_is_empty(mock, empty):
    job = await submit(mock, "DELETE", at("zones", "zone-1"))
    await mock.advance(10)
    assert await poll(mock, job) == (200, empty)


@BOTH
@pytest.mark.parametrize("job", (JOB, "x", "%E5%8C%BA"))
async def test_a_job_that_nobody_submitted_is_expired(mock, dialect, job):
    status, told = await poll(mock, job)
    assert (status, told if dialect == SERVER else told["error"]["details"]) == (404, "the job has been expired")


@BOTH
@pytest.mark.parametrize("session", ("", "Basic x", "OAuth", "OAuth wrong"))
async def test_anybody_may_poll(mock, session):
    job = await create(mock)
    await mock.advance(10)
    assert (await mock.request("GET", f"/api-jobs/{job}", headers={"Authorization": session}))[0] == 200


@pytest.mark.parametrize(("header", "keys"), (({}, {"inventory"}), ({"X-JSON-Schema": "x"}, {"inventory", "schema"})))
async def test_a_poll_brings_the_schema_when_it_asks_for_it(mock, header, keys):
    job = await create(mock)
    await mock.advance(10)
    _, body = await mock.request("GET", f"/api-jobs/{job}", headers=header)
    assert body.keys() == keys
    assert body.get("schema") in (None, {"inventory": "org.zstack.header.zone.ZoneInventory"})


@BOTH
async def test_a_job_has_the_uuid_that_its_caller_gave(mock):
    assert await create(mock, X_Job_UUID=JOB) == JOB
    session = {"Authorization": f"OAuth {mock.session}", "X-Job-UUID": JOB}
    async with (
        aiohttp.ClientSession() as http,
        http.post(mock.url + "/zones", json={"params": {"name": "again"}}, headers=session) as answer,
    ):
        assert answer.status == (400 if mock.settings.dialect == MANUAL else 500)
    await mock.advance(10)
    assert (await poll(mock, JOB))[1]["inventory"]["name"] == "z"
    assert await mock.query("zones", "name=again") == []


async def test_a_session_that_is_wrong_is_an_error_of_the_job(mock):
    job = await create(mock, Authorization="OAuth wrong")
    await mock.advance(10)
    status, body = await poll(mock, job)
    assert (status, body["error"]["code"]) == (503, "ID.1001")


# meanwhile


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "field", "meanwhile", "after"),
    (
        *(
            ("PUT", at("vm-instances", vm) + "/actions", {action: {}}, at("vm-instances", vm), "state", meanwhile, after)
            for vm, action, meanwhile, after in (
                ("vm-ci-1", "startVmInstance", "Starting", "Running"),
                ("vm-web-1", "stopVmInstance", "Stopping", "Stopped"),
                ("vm-web-1", "rebootVmInstance", "Rebooting", "Running"),
                ("vm-web-1", "pauseVmInstance", "Pausing", "Paused"),
                ("vm-office-1", "resumeVmInstance", "Resuming", "Running"),
                ("vm-web-1", "migrateVm", "Migrating", "Running"),
            )
        ),
        ("DELETE", at("vm-instances", "vm-web-1"), None, at("vm-instances", "vm-web-1"), "state", "Destroying", "Destroyed"),
        ("POST", "/vm-instances", {"params": VM}, "/vm-instances?q=name=n", "state", "Starting", "Running"),
        ("POST", "/hosts/kvm", {"params": HOST}, "/hosts?q=name=h", "status", "Connecting", "Connected"),
        ("PUT", at("hosts", "host-1") + "/actions", {"reconnectHost": {}}, at("hosts", "host-1"), "status", "Connecting", "Connected"),
        ("POST", "/images", {"params": IMAGE}, "/images?q=name=i", "status", "Downloading", "Ready"),
    ),
)
async def test_the_state_on_the_way_can_be_seen(mock, method, path, body, query, field, meanwhile, after):
    job = await submit(mock, method, path, body)
    for seconds, seen, status in ((9, meanwhile, 202), (1, after, 200)):
        await mock.advance(seconds)
        (item,) = (await mock.request("GET", query))[1]["inventories"]
        assert (item[field], await status_of(mock, job)) == (seen, [status])


async def test_calls_on_the_same_object_wait_for_each_other(mock):
    jobs = [await act(mock, "vm-web-1", action) for action in ("stopVmInstance", "startVmInstance", "rebootVmInstance")]
    for states, statuses in (
        ("Stopping", [202, 202, 202]),
        ("Starting", [200, 202, 202]),
        ("Rebooting", [200, 200, 202]),
        ("Running", [200, 200, 200]),
    ):
        (vm,) = await mock.query("vm-instances", "name=web-1")
        assert (vm["state"], await status_of(mock, *jobs)) == (states, statuses)
        await mock.advance(10)


async def test_one_that_fails_does_not_hold_up_the_next(mock):
    jobs = [await act(mock, "vm-web-1", action) for action in ("startVmInstance", "stopVmInstance")]
    await mock.advance(20)
    assert await status_of(mock, *jobs) == [503, 200]


async def test_calls_on_different_objects_go_side_by_side(mock):
    jobs = [await act(mock, vm, "stopVmInstance") for vm in ("vm-web-1", "vm-web-2")] + [await create(mock) for _ in range(3)]
    await mock.advance(10)
    assert await status_of(mock, *jobs) == [200] * 5


@pytest.mark.parametrize(("delay", "low", "high", "different"), (("0.5-2", 0.5, 2, True), ("3", 3, 3, False), ("0", 0, 0, False)))
async def test_a_job_takes_as_long_as_the_delay_says(delay, low, high, different):
    async def durations():
        async with serve(delay=delay) as mock:
            await mock.login()
            for _ in range(10):
                await create(mock)
            return [record["due"] - record["created"] for record in mock.cloud.store.rows("Job")]

    seconds = await durations()
    assert all(low - 0.001 <= each <= high + 0.001 for each in seconds)
    assert (len({round(each, 6) for each in seconds}) > 1) is different
    assert await durations() == pytest.approx(seconds, abs=1e-3)


# expiry


@pytest.mark.parametrize(
    ("dialect", "looks", "status"),
    (
        (MANUAL, (2 * DAY - 1,), 200),
        (MANUAL, (2 * DAY,), 404),
        (MANUAL, (DAY, 2 * DAY - 1, 2 * DAY - 1), 200),
        (MANUAL, (DAY, 2 * DAY), 404),
        (SERVER, (3 * HOUR - 11,), 200),
        (SERVER, (3 * HOUR - 10,), 404),
        (SERVER, (HOUR, HOUR, HOUR - 10), 404),
    ),
)
async def test_a_job_expires_two_days_after_it_was_looked_at_or_three_hours_after_it_began(mock, looks, status):
    job = await create(mock)
    await mock.advance(10)
    assert await status_of(mock, job) == [200]
    for seconds in looks:
        await mock.advance(seconds)
        seen = await status_of(mock, job)
    assert seen == [status]


@BOTH
async def test_a_job_that_runs_does_not_expire(dialect):
    async with serve(dialect=dialect, delay=str(5 * DAY)) as mock:
        await mock.login()
        job = await create(mock)
        await mock.advance(4 * DAY)
        assert await status_of(mock, job) == [202]


@BOTH
async def test_an_expired_job_is_forgotten_and_its_uuid_is_free(mock):
    await create(mock, X_Job_UUID=JOB)
    await mock.advance(3 * DAY)
    assert mock.jobs() == []
    await mock.login()
    assert await create(mock, given={"name": "another"}, X_Job_UUID=JOB) == JOB
    await mock.advance(10)
    assert (await poll(mock, JOB))[1]["inventory"]["name"] == "another"


# the web-hook


@pytest.fixture
async def receiver(mock, aiohttp_server):
    """Who listens at a web-hook: `got` is what came, `answers` the statuses to answer with (then 200)."""
    receiver = SimpleNamespace(got=[], answers=[], polled=[])

    async def receive(request):
        receiver.polled.append((await poll(mock, request.headers["X-Job-UUID"]))[0])
        receiver.got.append((request.method, dict(request.headers), await request.json(), mock.clock.now()))
        return web.Response(status=receiver.answers.pop(0) if receiver.answers else 200, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receive)
    server = await aiohttp_server(app)
    receiver.url = str(server.make_url("/rest-webhook"))
    return receiver


@BOTH
async def test_the_flow_of_the_manual(zmock, dialect):
    key = "loginByAccount" if dialect == MANUAL else "logInByAccount"
    status, body = await zmock.request("PUT", "/accounts/login", {key: {"password": SHA512_OF_PASSWORD, "accountName": "admin"}})
    assert status == 200 and body["inventory"].keys() == {"uuid", "accountUuid", "userUuid", "expiredDate", "createDate"}
    session = {"Authorization": f"OAuth {body['inventory']['uuid']}"}
    status, body = await zmock.request("POST", "/zones", {"params": {"name": "Zone1", "description": "Test"}}, session)
    job = body["location"].removeprefix(zmock.url)
    assert (status, job[:10]) == (202, "/api-jobs/")
    assert (await zmock.request("GET", job, headers=session))[0] == 202
    await zmock.advance(10)
    status, body = await zmock.request("GET", job, headers=session)
    zone = body["inventory"]
    assert (status, zone["name"], zone["description"], zone["state"], zone["type"]) == (200, "Zone1", "Test", "Enabled", "zstack")
    assert zone.keys() == {"uuid", "name", "description", "state", "type", "createDate", "lastOpDate"}
    status, body = await zmock.request("GET", f"/zones/{zone['uuid']}", headers=session)
    assert (status, body["inventories"], body.get("inventory", zone)) == (200, [zone], zone)
    assert (await zmock.request("DELETE", f"/accounts/sessions/{session['Authorization'][6:]}", headers=session))[0] == 200
    status, body = await zmock.request("GET", "/zones", headers=session)
    assert (status, body["error"]["code"]) == (503, "ID.1001")


@BOTH
async def test_a_web_hook_gets_the_result(mock, receiver):
    await create(mock, X_Job_UUID=JOB, X_Web_Hook=receiver.url)
    await mock.advance(9)
    assert receiver.got == []
    await mock.advance(1)
    ((method, headers, body, _),) = receiver.got
    assert (method, headers["X-Job-UUID"], headers["X-Job-Success"]) == ("POST", JOB, "true")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert (200, body) == await poll(mock, JOB)
    assert receiver.polled == [200]
    await mock.advance(HOUR)
    assert len(receiver.got) == 1


@BOTH
@pytest.mark.parametrize(
    ("call", "headers", "success", "body"),
    (
        (("DELETE", at("zones", "zone-1")), {}, "true", {}),
        (("DELETE", at("zones", "zone-1")), {"X_JSON_Schema": "true"}, "true", {"schema": {}}),
        (("POST", "/clusters", {"params": NO_SUCH_ZONE}), {}, "false", {"error": NOT_FOUND}),
    ),
)
async def test_a_web_hook_is_told_of_an_empty_result_and_of_an_error(mock, receiver, call, headers, success, body):
    await submit(mock, *call, X_Web_Hook=receiver.url, **headers)
    await mock.advance(10)
    assert [(told["X-Job-Success"], got) for _, told, got, _ in receiver.got] == [(success, body)]


async def test_a_web_hook_gets_the_schema_when_the_call_asked_for_it(mock, receiver):
    job = await create(mock, X_Web_Hook=receiver.url, X_JSON_Schema="true")
    await mock.advance(10)
    ((_, _, body, _),) = receiver.got
    assert body["schema"] == {"inventory": "org.zstack.header.zone.ZoneInventory"}
    assert (await poll(mock, job))[1] == {"inventory": body["inventory"]}


async def test_a_web_hook_and_a_poll_name_the_same_classes_of_what_is_inside(mock, receiver):
    statements = [{"effect": "Allow", "actions": ["**"]}, {"effect": "Deny", "actions": ["x"]}]
    policy = {"params": {"name": "p", "statements": statements}}
    job = await submit(mock, "POST", "/accounts/policies", policy, X_Web_Hook=receiver.url, X_JSON_Schema="true")
    await mock.advance(10)
    ((_, _, told, _),) = receiver.got
    status, polled = await mock.request("GET", f"/api-jobs/{job}", headers={"X-JSON-Schema": "true"})
    assert (status, polled) == (200, told)
    identity = "org.zstack.header.identity."
    assert polled["schema"] == {"inventory": identity + "PolicyInventory"} | {
        f"inventory.statements[{n}]{effect}": identity + java
        for n in range(2)
        for effect, java in (("", "PolicyStatement"), (".effect", "StatementEffect"))
    }


@pytest.mark.parametrize("kept", (False, True))
async def test_a_web_hook_comes_after_the_202_however_slowly_that_leaves(tmp_path, aiohttp_server, kept):
    order = []

    async def receive(request):
        order.append("hook")
        return web.Response()

    async def leave_slowly(request, response):
        if response.status == 202:
            for _ in range(200):
                await asyncio.sleep(0)
            order.append("202")

    app = web.Application()
    app.router.add_post("/", receive)
    url = str((await aiohttp_server(app)).make_url("/"))
    mock = serve(memory=not kept, data=str(tmp_path))
    mock.app.on_response_prepare.append(leave_slowly)
    async with mock:
        await mock.login()
        for _ in range(3):
            await create(mock, X_Web_Hook=url)
            await mock.advance(0)
    assert order == ["202", "hook"] * 3


@pytest.mark.parametrize(("answers", "tries"), (([500] * 100, 15), ([500, 404, 302], 4), ([500] * 14 + [204], 15), ([204], 1), ([299], 1)))
async def test_a_web_hook_is_tried_again_each_two_seconds_until_it_takes_it(mock, receiver, answers, tries):
    receiver.answers += answers
    began = mock.clock.now()
    await create(mock, X_Web_Hook=receiver.url)
    await mock.advance(10 + 60)
    assert [round(moment - began) for _, _, _, moment in receiver.got] == [10 + 2 * n for n in range(tries)]
    assert len({json.dumps(body) for _, _, body, _ in receiver.got}) == 1
    await mock.advance(DAY)
    assert len(receiver.got) == tries


@pytest.mark.parametrize(
    "url", ("http://127.0.0.1:1/", "http://[", "nonsense", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://a b/")
)
async def test_a_web_hook_that_leads_nowhere_does_no_harm_and_the_log_tells_why(mock, url, caplog):
    caplog.set_level("INFO", "zmock")
    job = await create(mock, X_Web_Hook=url)
    await mock.advance(60)
    assert await status_of(mock, job) == [200]
    told = [message for message in caplog.messages if "web-hook" in message]
    assert told and not [message for message in told if message.count(url) > 1 or message.endswith(": ")]


async def test_an_empty_web_hook_is_none_and_a_call_without_a_job_has_none(mock, receiver):
    await create(mock, X_Web_Hook="")
    assert (await mock.request("GET", "/zones", headers={"X-Web-Hook": receiver.url}))[0] == 200
    await mock.advance(60)
    assert receiver.got == []


async def test_a_client_has_a_moment_to_read_its_202_before_the_web_hook_and_nothing_else_waits(aiohttp_server, monkeypatch):
    loop, happened, later = asyncio.get_running_loop(), {}, []

    async def receive(request):
        happened["hook"] = loop.time()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    url = str((await aiohttp_server(app)).make_url("/"))
    async with serve(clock="real", delay="0") as mock:
        await mock.login()
        answer_sent, soon = mock.cloud.jobs.answer_sent, mock.clock.after_real_time

        def leave(uuid):
            happened.setdefault("202", loop.time())
            answer_sent(uuid)

        monkeypatch.setattr(mock.cloud.jobs, "answer_sent", leave)
        monkeypatch.setattr(mock.clock, "after_real_time", lambda seconds, fire: later.append((seconds, fire)))
        job = await create(mock, X_Web_Hook=url)
        while (await poll(mock, job))[0] == 202:
            await asyncio.sleep(0)
        ((seconds, fire),) = later
        assert seconds == GRACE == 0.025 and "hook" not in happened
        status, another = await mock.request("POST", "/zones", {"params": {"name": "meanwhile"}})
        while (await poll(mock, another["location"][-32:]))[0] == 202:
            await asyncio.sleep(0)
        assert "hook" not in happened
        soon(seconds, fire)
        while "hook" not in happened:
            await asyncio.sleep(0.001)
    assert happened["hook"] - happened["202"] >= GRACE


@pytest.mark.parametrize(("clock", "waits"), (("frozen", False), ("real", True), ("warp", True)))
async def test_only_a_clock_that_runs_leaves_that_moment(clock, waits):
    async with serve(clock=clock) as mock:
        fired = []
        mock.clock.after_real_time(GRACE, lambda: fired.append("at once"))
        assert fired == ([] if waits else ["at once"])


async def test_a_job_submitted_anew_within_that_moment_waits_for_its_own_202():
    async with serve(clock="real", delay="0") as mock:
        jobs, later = mock.cloud.jobs, []
        mock.clock.after_real_time = lambda seconds, fire: later.append(fire)
        jobs.unanswered[JOB] = first = asyncio.Event()
        jobs.answer_sent(JOB)
        jobs.unanswered[JOB] = second = asyncio.Event()
        later[0]()
        assert first.is_set() and not second.is_set() and jobs.unanswered == {JOB: second}


# by hand


@pytest.mark.parametrize(
    ("what", "state", "status", "told"),
    (("finish", "succeeded", 200, ["true"]), ("fail", "failed", 503, ["false"]), ("expire", "expired", 404, [])),
)
async def test_a_job_ended_by_hand_is_polled_and_told_like_any_other(mock, receiver, what, state, status, told):
    job = await create(mock, X_Web_Hook=receiver.url)
    answered, shown = await control(mock, "POST", f"jobs/{job}", {"do": what})
    assert (answered, shown["state"], await status_of(mock, job)) == (200, state, [status])
    await mock.advance(60)
    assert [headers["X-Job-Success"] for _, headers, _, _ in receiver.got] == told
    assert await status_of(mock, job) == [status]


@pytest.mark.parametrize(("what", "state"), (("finish", "Stopped"), ("fail", "Running")))
async def test_a_vm_is_where_its_job_ended_by_hand_leaves_it(mock, what, state):
    job = await act(mock, "vm-web-1", "stopVmInstance")
    await mock.advance(5)
    await control(mock, "POST", f"jobs/{job}", {"do": what})
    (vm,) = await mock.query("vm-instances", "name=web-1")
    assert vm["state"] == state
    await mock.act("vm-instances", vm["uuid"], "startVmInstance" if what == "finish" else "stopVmInstance")


@pytest.mark.parametrize(
    ("told", "code", "details"),
    (
        ({}, "SYS.1006", "failed by POST /zmock/jobs"),
        ({"error": "HOST.1010"}, "HOST.1010", catalogue().errors["HOST.1010"]),
        ({"details": "by hand"}, "SYS.1006", "by hand"),
        ({"error": "PS.1000", "details": "no room"}, "PS.1000", "no room"),
    ),
)
@pytest.mark.parametrize("state", ("running", "in stages", "held", "in line", "to fail", "held and to fail", "held by hand"))
async def test_a_job_fails_by_hand_with_the_error_that_is_said(mock, receiver, state, told, code, details):
    if state == "in line":
        await act(mock, "vm-web-1", "rebootVmInstance")
    if state in ("in stages", "in line"):
        job = await submit(mock, "PUT", at("vm-instances", "vm-web-1") + "/actions", {"stopVmInstance": {}}, X_Web_Hook=receiver.url)
    else:
        magic = " ".join(word for text, word in (("to fail", "#zmock fail=BS.1000"), ("held and", "#zmock hold")) if text in state)
        job = await create(mock, given={"name": "z", "description": "#zmock hold" if state == "held" else magic}, X_Web_Hook=receiver.url)
    if state == "held by hand":
        assert (await control(mock, "POST", f"jobs/{job}", {"do": "hold"}))[1]["state"] == "held"
    if "to fail" in state and not told:
        code, details = "BS.1000", "asked for by #zmock fail=BS.1000"
    assert (await control(mock, "POST", f"jobs/{job}", {"do": "fail"} | told))[1]["state"] == "failed"
    await mock.advance(60)
    status, body = await poll(mock, job)
    assert (status, body["error"]) == (503, {"code": code, "description": catalogue().errors[code], "details": details})
    assert [(headers["X-Job-Success"], hook) for _, headers, hook, _ in receiver.got] == [("false", body)]
    assert await mock.query("zones", "name=z") == [] and (await mock.query("vm-instances", "name=web-1"))[0]["state"] == "Running"


@pytest.mark.parametrize(
    ("told", "says"),
    (
        ({"do": "fail", "error": "HOST.101"}, "did you mean HOST.1010?"),
        ({"do": "fail", "error": 7}, "'error' is a code of ZStack, not 7"),
        ({"do": "fail", "error": None}, "'error' is a code of ZStack, not null"),
        ({"do": "fail", "error": ["SYS.1006"]}, "'error' is a code of ZStack"),
        ({"do": "fail", "details": 7}, "'details' is a text, not 7"),
        ({"do": "fail", "errors": "HOST.1010"}, "'errors' is no key here, did you mean error?"),
        ({"do": "finish", "error": "HOST.1010"}, "'error' goes with 'fail' only"),
        ({"do": "expire", "details": "x", "error": "HOST.1010"}, "'error' goes with 'fail' only"),
        ({"do": "fial"}, "did you mean fail?"),
        ({"do": ["fail"]}, "'do' is finish, fail, hold, release or expire"),
        ({"error": "HOST.1010"}, "'do' is finish, fail, hold, release or expire"),
        ([], "'do' is finish, fail, hold, release or expire"),
    ),
)
async def test_what_a_job_cannot_be_told_is_refused_and_changes_nothing(mock, told, says):
    job = await create(mock)
    status, answer = await control(mock, "POST", f"jobs/{job}", told)
    assert status == 400 and says in answer["error"]
    await mock.advance(10)
    assert await status_of(mock, job) == [200]


@pytest.mark.parametrize("call", (("POST", "/zones", {"params": ZONE}), ("POST", "/vm-instances", {"params": VM}), ("POST", "/clusters", {"params": NO_SUCH_ZONE})))
@pytest.mark.parametrize("after", (0, 4))
async def test_a_job_that_is_held_by_hand_goes_on_by_hand_alone(mock, call, after):
    job = await submit(mock, *call)
    await mock.advance(after)
    for _ in range(2):
        shown = (await control(mock, "POST", f"jobs/{job}", {"do": "hold"}))[1]
        assert (shown["state"], shown["due"]) == ("held", None)
    await mock.advance(DAY)
    assert await status_of(mock, job) == [202]
    failed = call[1] == "/clusters"
    assert (await control(mock, "POST", f"jobs/{job}", {"do": "finish"}))[1]["state"] == ("failed" if failed else "succeeded")
    assert await status_of(mock, job) == [503 if failed else 200]
    assert (await control(mock, "POST", f"jobs/{job}", {"do": "hold"}))[0] == 409


@pytest.mark.parametrize("call", (("POST", "/zones", {"params": ZONE}), ("POST", "/vm-instances", {"params": VM})))
@pytest.mark.parametrize("after", (0, 4))
async def test_a_held_job_that_is_released_takes_as_long_as_it_would_have(mock, call, after):
    job = await submit(mock, *call)
    await mock.advance(after)
    for _ in range(2):
        await control(mock, "POST", f"jobs/{job}", {"do": "hold"})
        await mock.advance(1000)
    shown = (await control(mock, "POST", f"jobs/{job}", {"do": "release"}))[1]
    assert (shown["state"], shown["progress"]) == ("running", after / 10)
    assert (await control(mock, "POST", f"jobs/{job}", {"do": "release"}))[1]["error"] == f"job {job} is not held"
    await mock.advance(9.9 - after)
    assert await status_of(mock, job) == [202]
    await mock.advance(0.1)
    assert await status_of(mock, job) == [200]


async def test_a_job_that_a_rule_holds_is_released_at_its_begin(mock):
    mock.rule(api="CreateZone", times=1, then={"job": "hold"})
    job = await create(mock)
    await mock.advance(1000)
    await control(mock, "POST", f"jobs/{job}", {"do": "release"})
    await mock.advance(9.9)
    assert await status_of(mock, job) == [202]
    await mock.advance(0.1)
    assert await status_of(mock, job) == [200]


async def test_a_job_in_line_that_is_held_by_hand_begins_and_waits(mock):
    first, second = [await act(mock, "vm-web-1", action) for action in ("rebootVmInstance", "stopVmInstance")]
    await control(mock, "POST", f"jobs/{second}", {"do": "hold"})
    await mock.advance(60)
    assert await status_of(mock, first, second) == [200, 202]
    assert (await mock.query("vm-instances", "name=web-1"))[0]["state"] == "Stopping"
    await control(mock, "POST", f"jobs/{second}", {"do": "finish"})
    assert await status_of(mock, second) == [200]


# while a result is being written


@pytest.fixture
async def slow(tmp_path, monkeypatch):
    """A mock on a disk that takes its time while `gate` is closed; `told` is what web-hooks were told."""
    async with serve(memory=False, data=str(tmp_path / "cloud"), delay="10") as mock:
        await mock.login()
        gate, told, write, jobs = threading.Event(), [], mock.cloud.store.folder.keep, mock.cloud.jobs

        def write_slowly(text, types):
            gate.wait(10)
            write(text, types)

        async def post(url, body, headers):
            told.append((headers["X-Job-Success"], json.loads(body)))
            return True

        gate.set()
        monkeypatch.setattr(mock.cloud.store.folder, "keep", write_slowly)
        monkeypatch.setattr(jobs, "post", post)
        yield SimpleNamespace(mock=mock, gate=gate, told=told, jobs=jobs)
        gate.set()


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def while_it_is_written(slow, job, *steps):
    """Has steps (path, body) of /zmock taken after a job has ended, and before that is on the disk; all answers."""
    slow.gate.clear()
    moving = asyncio.create_task(slow.mock.advance(10))
    await until(lambda: slow.jobs.running[job].ended)
    assert await status_of(slow.mock, job) == [202] and not slow.told
    asked, tasks = [], []
    read = slow.mock.control.read_json

    async def body_of(request):
        body = await read(request)
        asyncio.get_running_loop().call_soon(asked.append, request.path)  # as far as it goes without the disk
        return body

    slow.mock.control.read_json = body_of
    for path, body in steps:
        tasks.append(asyncio.create_task(control(slow.mock, "POST", path.format(job), body)))
        await until(lambda: len(asked) == len(tasks))
    slow.gate.set()
    await asyncio.gather(moving, *tasks)
    await slow.mock.advance(60)
    return [task.result() for task in tasks]


FAIL, FINISH, EXPIRE, HOLD = [("jobs/{}", {"do": what}) for what in ("fail", "finish", "expire", "hold")]
FAIL_SO = "jobs/{}", {"do": "fail", "error": "PS.1000", "details": "no room"}
CREATED = {
    "a job": ("POST", "/zones", {"params": ZONE}, 200),
    "one in stages": ("POST", "/vm-instances", {"params": VM}, 200),
    "one that fails": ("POST", "/clusters", {"params": NO_SUCH_ZONE}, 503),
    "one that a rule fails": ("POST", "/zones", {"params": {"name": "z", "description": "#zmock fail"}}, 503),
}


OF_ALL_KINDS = (
    ((FAIL_SO,), 503, "PS.1000"), ((FAIL, FAIL), 503, "SYS.1006"), ((FINISH,), None, None), ((EXPIRE,), 404, None),
    ((("incidents", {"management-node-restart": {}}),), 202, None),
)  # fmt: skip
OF_ONE_KIND = (
    ((), None, None), ((FAIL, FAIL_SO), 503, "PS.1000"), ((FINISH, FINISH), None, None), ((FAIL_SO, FINISH), 503, "PS.1000"), ((HOLD,), None, None),
    ((FAIL_SO, HOLD), 503, "PS.1000"), ((FAIL, EXPIRE), 404, None), ((EXPIRE, EXPIRE), 404, None), ((("incidents", {"host-down": "host-1"}),), None, None),
    ((FAIL, ("incidents", {"management-node-restart": {}})), 202, None), ((("reset", {}),), 404, None),
)  # fmt: skip


@pytest.mark.parametrize(
    ("call", "steps", "status", "code"), [*((call, *row) for call in CREATED for row in OF_ALL_KINDS), *(("a job", *row) for row in OF_ONE_KIND)]
)
async def test_a_job_has_one_result_and_one_web_hook_however_it_is_steered_while_that_is_written(slow, call, steps, status, code):
    *call, own = CREATED[call]
    job = await submit(slow.mock, *call, X_Web_Hook="http://h/")
    answers = await while_it_is_written(slow, job, *steps)
    got, body = await poll(slow.mock, job)
    assert got == (status or own) and all(answered in (200, 404, 409) for answered, _ in answers)
    assert slow.told == ([] if got in (404, 202) else [("true" if got == 200 else "false", body)])
    if code:
        assert body["error"]["code"] == code
        await slow.mock.login()
        assert await slow.mock.query("zones", "name=z") == await slow.mock.query("vm-instances", "name=n") == []
    assert not slow.jobs.running
    record = slow.mock.cloud.store.peek("Job", job)
    assert (record and record["state"]) == {200: "succeeded", 503: "failed", 202: "lost", 404: None}[got]


@pytest.mark.parametrize("what", ("fail", "finish", "expire"))
async def test_a_job_in_line_that_ends_by_hand_ends_once(slow, what):
    await act(slow.mock, "vm-web-1", "rebootVmInstance")
    job = await submit(slow.mock, "PUT", at("vm-instances", "vm-web-1") + "/actions", {"stopVmInstance": {}}, X_Web_Hook="http://h/")
    slow.gate.clear()
    failing = asyncio.create_task(control(slow.mock, "POST", f"jobs/{job}", {"do": "fail"}))
    await until(lambda: slow.jobs.running[job].ended)
    again = asyncio.create_task(control(slow.mock, "POST", f"jobs/{job}", {"do": what}))
    await asyncio.sleep(0.02)
    slow.gate.set()
    answers = await asyncio.gather(failing, again)
    await slow.mock.advance(60)
    assert [status for status, _ in answers] == [200, 200]
    assert await status_of(slow.mock, job) == [404 if what == "expire" else 503]
    assert [success for success, _ in slow.told] == ([] if what == "expire" else ["false"])
    assert (await slow.mock.query("vm-instances", "name=web-1"))[0]["state"] == "Running"


async def test_what_fails_by_hand_while_it_is_written_is_not_there_after_a_restart_either(tmp_path, slow):
    job = await submit(slow.mock, "POST", "/zones", {"params": ZONE}, X_Web_Hook="http://h/")
    await while_it_is_written(slow, job, FAIL_SO)
    told = await poll(slow.mock, job)
    await slow.mock.__aexit__()
    async with serve(memory=False, data=str(tmp_path / "cloud")) as mock:
        await mock.login()
        assert await poll(mock, job) == told and told[1]["error"]["code"] == "PS.1000"
        assert await mock.query("zones", "name=z") == []


async def test_a_job_that_ends_as_the_mock_is_shut_down_has_that_result_when_it_is_back(tmp_path, slow):
    job = await submit(slow.mock, "POST", "/zones", {"params": ZONE}, X_Web_Hook="http://h/")
    slow.gate.clear()
    moving = asyncio.create_task(slow.mock.advance(10))
    await until(lambda: slow.jobs.running[job].ended)
    closing = asyncio.create_task(slow.mock.__aexit__())
    await asyncio.sleep(0.02)
    slow.gate.set()
    await asyncio.wait([moving, closing])
    assert not slow.told
    async with serve(memory=False, data=str(tmp_path / "cloud")) as mock:
        await mock.login()
        status, body = await poll(mock, job)
        assert (status, [body["inventory"]]) == (200, await mock.query("zones", "name=z"))


async def test_an_expired_job_that_is_under_way_does_not_end_the_one_that_has_its_uuid_now(mock, receiver):
    await create(mock, X_Job_UUID=JOB)
    await mock.advance(5)
    assert (await control(mock, "POST", f"jobs/{JOB}", {"do": "expire"}))[0] == 200
    await create(mock, given={"name": "another"}, X_Job_UUID=JOB, X_Web_Hook=receiver.url)
    await mock.advance(5)
    assert await status_of(mock, JOB) == [202]
    await mock.advance(10)
    status, body = await poll(mock, JOB)
    assert (status, body["inventory"]["name"]) == (200, "another")
    assert [hook for _, _, hook, _ in receiver.got] == [body]
    assert len(await mock.query("zones", "name?=z,another")) == 2


# the journal


def last_call(mock, api):
    return mock.calls(api)[-1]


@pytest.mark.parametrize(
    ("rule", "steps", "end"),
    (
        (None, (), ("succeeded", "")),
        ({"then": {"error": "HOST.1010"}}, (), ("failed", "HOST.1010")),
        ({"then": {"error": "HOST.1010", "at": "after"}}, (), ("failed", "HOST.1010")),
        ({"then": {"job": "expire"}}, (), ("succeeded", "")),
        ({"then": {"job": "lose"}}, (), ("running", "")),
        ({"then": {"job": "hold"}}, (), ("running", "")),
        ({"then": {"job": "hold"}}, ({"do": "finish"},), ("succeeded", "")),
        ({"then": {"job": "hold"}}, ({"do": "expire"},), ("failed", "")),
        (None, ({"do": "fail"},), ("failed", "SYS.1006")),
        (None, ({"do": "fail", "error": "PS.1000"},), ("failed", "PS.1000")),
        (None, ({"do": "expire"},), ("succeeded", "")),
        (None, ({"host-down": "host-1"}, {"host-down": "host-2"}, {"host-down": "host-3"}), ("failed", "VM.1002")),
        (None, ({"management-node-restart": {}},), ("running", "")),
    ),
)
async def test_the_outcome_of_a_202_becomes_that_of_its_job_whatever_ended_it(mock, rule, steps, end):
    if rule:
        mock.rule(api="StopVmInstance", **rule)
    job = await act(mock, "vm-web-1", "stopVmInstance")
    entry = last_call(mock, "StopVmInstance")
    assert (entry.status, entry.outcome, entry.code) == (202, "running", "")
    for step in steps:
        assert (await control(mock, "POST", f"jobs/{job}" if "do" in step else "incidents", step))[0] == 200
    await mock.advance(60)
    assert (entry.outcome, entry.code) == end
    (shown,) = (await control(mock, "GET", "calls?api=StopVmInstance"))[1]["calls"]
    assert (shown["status"], shown["outcome"], shown["code"]) == (202, *end)
    if end[1] and (await poll(mock, job))[0] == 503:
        polled = last_call(mock, "PollJob")
        assert (polled.status, polled.outcome, polled.code) == (503, "error", end[1])


async def test_a_job_in_line_or_refused_has_an_outcome_in_the_journal_too(mock):
    await act(mock, "vm-web-1", "rebootVmInstance")
    behind, gone = [await act(mock, "vm-web-1", "stopVmInstance") for _ in range(2)]
    entries = mock.calls("StopVmInstance")
    await control(mock, "POST", f"jobs/{behind}", {"do": "fail", "error": "HOST.1010"})
    await control(mock, "POST", f"jobs/{gone}", {"do": "expire"})
    await create(mock, "/clusters", NO_SUCH_ZONE)
    await mock.request("GET", "/zonez")
    await mock.advance(60)
    assert [(entry.outcome, entry.code) for entry in entries] == [("failed", "HOST.1010"), ("failed", "")]
    assert [(entry.outcome, entry.code) for entry in mock.calls()[-2:]] == [("failed", "SYS.1003"), ("error", "SYS.1003")]


async def test_the_answer_that_a_rule_gives_has_no_code_and_no_outcome_of_its_job(mock):
    mock.rule(api="CreateZone", then={"status": 502, "at": "after"})
    assert (await mock.request("POST", "/zones", {"params": ZONE}))[0] == 502
    await mock.advance(60)
    assert len(await mock.query("zones", "name=z")) == 1
    entry = last_call(mock, "CreateZone")
    assert (entry.status, entry.outcome, entry.code) == (502, "error", "")


async def test_a_job_that_ends_before_its_202_leaves_has_its_outcome_there_at_once():
    async with serve(delay="0") as mock:
        await mock.login()

        async def post(url, body, headers):
            return True

        mock.cloud.jobs.post = post
        mock.rule(api="CreateZone", then={"webhook": "first"})
        await create(mock, X_Web_Hook="http://h/")
        assert last_call(mock, "CreateZone").outcome == "succeeded"


# a restart


@BOTH
async def test_jobs_and_their_results_survive_a_restart_and_those_under_way_are_lost(tmp_path, dialect):
    settings = {"memory": False, "data": str(tmp_path / "cloud"), "delay": "10", "dialect": dialect}
    async with serve(**settings) as mock:
        await mock.login()
        over = [
            await create(mock),
            await create(mock, "/clusters", NO_SUCH_ZONE),
            await submit(mock, "DELETE", at("vm-instances", "vm-web-1")),
        ]
        await mock.advance(10)
        results = [await poll(mock, job) for job in over]
        under_way = await act(mock, "vm-web-2", "stopVmInstance")
        behind = await act(mock, "vm-web-2", "startVmInstance")
    assert [status for status, _ in results] == [200, 503, 200]
    for _ in range(2):
        async with serve(**settings) as mock:
            assert [await poll(mock, job) for job in over] == results
            states = {job["uuid"]: job["state"] for job in (await control(mock, "GET", "jobs"))[1]["jobs"]}
            assert [states[job] for job in [*over, under_way, behind]] == ["succeeded", "failed", "succeeded", "lost", "lost"]
            assert await status_of(mock, under_way, behind) == [202, 202]
    async with serve(**settings) as mock:
        await mock.advance(30 * DAY)
        assert await status_of(mock, under_way, behind, *over) == [202, 202, 404, 404, 404]


# a disk that fails


@pytest.fixture
async def kept(tmp_path):
    async with serve(memory=False, data=str(tmp_path / "cloud"), delay="10") as mock:
        await mock.login()
        yield mock


@pytest.fixture
def disk(monkeypatch):
    def full(*names):
        raise OSError(errno.ENOSPC, "No space left on device")

    return SimpleNamespace(fill=lambda: monkeypatch.setattr(os, "fsync", full), clean=monkeypatch.undo)


async def test_a_call_that_cannot_be_kept_is_refused_and_does_nothing(kept, disk):
    disk.fill()
    status, body = await kept.request("POST", "/zones", {"params": ZONE}, {"X-Job-UUID": JOB})
    assert (status, body["error"]["code"]) == (503, "SYS.1016")
    disk.clean()
    await kept.advance(10)
    assert await status_of(kept, JOB) == [404]
    assert await kept.query("zones", "name=z") == []
    assert (await kept.create("CreateZone", **ZONE))["name"] == "z"


async def test_a_job_whose_effect_cannot_be_kept_fails_and_the_next_one_does_not(kept, disk):
    job = await create(kept)
    disk.fill()
    await kept.advance(10)
    status, body = await poll(kept, job)
    assert (status, body["error"]["code"]) == (503, "SYS.1016")
    assert await kept.query("zones", "name=z") == []
    assert (last_call(kept, "CreateZone").outcome, last_call(kept, "CreateZone").code) == ("failed", "SYS.1016")
    disk.clean()
    assert (await kept.create("CreateZone", name="later"))["name"] == "later"
    assert (await poll(kept, job)) == (status, body)


async def test_jobs_that_cannot_be_kept_together_are_each_taken_back(kept, disk):
    before = {host["name"]: host for host in await kept.query("hosts")}
    await kept.act("vm-instances", named("vm-ci-1"), "startVmInstance")
    await kept.act("vm-instances", named("vm-ci-1"), "stopVmInstance")
    jobs = [await submit(kept, "PUT", f"/vm-instances/{named(f'vm-ci-{n}')}/actions", {"startVmInstance": {}}) for n in (1, 2)]
    disk.fill()
    await kept.advance(10)
    assert [(await poll(kept, job))[1]["error"]["code"] for job in jobs] == ["SYS.1016"] * 2
    assert [vm["state"] for vm in await kept.query("vm-instances", "name~=ci-%")] == ["Stopped"] * 2
    after = {host["name"]: host for host in await kept.query("hosts")}
    assert [(h["availableCpuCapacity"], h["availableMemoryCapacity"]) for h in after.values()] == [
        (h["availableCpuCapacity"], h["availableMemoryCapacity"]) for h in before.values()]  # fmt: skip
    disk.clean()
    await kept.act("vm-instances", named("vm-ci-1"), "startVmInstance")


async def test_a_synchronous_write_that_cannot_be_kept_is_refused_and_does_nothing(kept, disk):
    before = kept.cloud.store.count("Session")
    disk.fill()
    with pytest.raises(RuntimeError, match="SYS.1016: the cloud cannot be kept in .*No space left"):
        await kept.login()
    assert kept.cloud.store.count("Session") == before
    disk.clean()
    await kept.login()


@pytest.mark.parametrize(("method", "path", "body"), (
    ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"startVmInstance": {}}),
    ("POST", "/vm-instances", {"params": {"name": "x", "instanceOfferingUuid": "0" * 32, "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}}),
))  # fmt: skip
async def test_a_job_that_fails_at_once_is_refused_with_all_others_when_it_cannot_be_kept(tmp_path, disk, method, path, body, caplog):
    async with serve(memory=False, data=str(tmp_path / "cloud"), delay="0") as mock:
        await mock.login()
        store = mock.cloud.store
        before = store.count("Session"), store.count("Job")
        disk.fill()
        login = mock.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}})
        answers = await asyncio.gather(login, *(mock.request(method, path, body) for _ in range(3)))
        assert [(status, answer["error"]["code"]) for status, answer in answers] == [(503, "SYS.1016")] * 4
        assert (store.count("Session"), store.count("Job")) == before and "Traceback" not in caplog.text
        disk.clean()


async def test_who_waits_in_line_begins_when_the_first_ends_whoever_was_expired_by_hand():
    async with serve(delay="5") as mock:
        await mock.login()
        path, body = f"/zones/{named('zone-1')}/actions", {"updateZone": {"description": "d"}}
        first, second, third = [(await mock.request("PUT", path, body))[1]["location"][-32:] for _ in range(3)]
        for job in (first, second):
            await control(mock, "POST", f"jobs/{job}", {"do": "expire"})
        assert [record["uuid"] for record in mock.jobs()] == [third]
        await mock.advance(5)
        assert (await mock.request("GET", f"/api-jobs/{third}"))[0] == 202, "it began when the first one ended"
        await mock.advance(5)
        assert (await mock.request("GET", f"/api-jobs/{third}"))[0] == 200


async def test_a_job_ends_whatever_goes_wrong_with_what_it_leaves(mock, monkeypatch, caplog):
    def stumble(cloud, call, error):
        raise KeyError("uuid")

    monkeypatch.setitem(HOOKS, ("failed", "StartVmInstance"), [stumble])
    mock.rule(api="StartVmInstance", then={"error": "SYS.1000", "stage": "host"})
    path = f"/vm-instances/{named('vm-ci-1')}/actions"
    status, body = await mock.request("PUT", path, {"startVmInstance": {}})
    assert status == 202
    await mock.advance(20)
    status, body = await mock.request("GET", f"/api-jobs/{body['location'][-32:]}")
    assert (status, body["error"]["cause"]["code"]) == (503, "SYS.1000")
    assert "StartVmInstance has failed and not left what it should" in caplog.text
