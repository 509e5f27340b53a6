"""/zmock: look inside, move time, steer jobs, reset; for nobody but whoever started it."""

import asyncio
import base64
import errno
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.test_utils import make_mocked_request
from asking import each, exchange
from yarl import URL

import zmock as zmock_module
from zmock import DIFFERENCES, SHA512_OF_PASSWORD, ApiError, named, serve

pytestmark = pytest.mark.zmock(strict=False)  # also rules that must not fire

VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
HOST = {"name": "h", "managementIp": "10.10.0.50", "username": "root", "password": "p", "clusterUuid": named("cluster-1")}
IMAGE = {"name": "i", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}


async def control(mock, method, path, body=None, **more):
    """A control call: its status and its JSON."""
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body, **more) as answer:
        return answer.status, json.loads(await answer.text())


async def ok(mock, method, path, body=None):
    status, answer = await control(mock, method, path, body)
    assert status == 200, answer
    return answer


async def answer_to(mock, request):
    """The answer to a request, wherever it comes from."""
    request._match_info = await mock.app.router.resolve(request)
    request.match_info.add_app(mock.app)
    answer = await request.match_info.handler(request)
    await mock.app.on_response_prepare.send(request, answer)
    return answer


async def submit(mock, method, path, body=None):
    await mock.login()
    status, answer = await mock.request(method, path, body)
    assert status == 202
    return answer["location"][-32:]


# the page and the index


async def page(mock, path, accept="text/html,application/xhtml+xml,*/*;q=0.8", **headers):
    async with aiohttp.ClientSession() as http, http.get(mock.base + path, headers={"Accept": accept} | headers) as answer:
        return answer.status, answer.headers, await answer.text()


@each("path", ("/", "/zmock", "/zmock/", "/zmock//", "/?world=a"))
@pytest.mark.zmock(dialect="server", strict=False)
async def test_a_browser_gets_the_page_and_others_the_index(zmock, path):
    status, headers, text = await page(zmock, path)
    assert (status, headers["Content-Type"], text) == (200, "text/html; charset=utf-8", zmock_module.PAGE_FILE.read_text(encoding="utf-8"))
    for accept in ("*/*", "application/json", ""):
        status, headers, text = await page(zmock, path, accept)
        assert (status, headers["Content-Type"], headers["Vary"]) == (200, "application/json; charset=utf-8", "Accept")
        index = json.loads(text)
        assert index.keys() == {"zmock", "calls"} and index["zmock"] == zmock_module.__version__
        assert index["calls"]["GET /zmock/dialect"] == "Return the table of dialects with its sources and the dialect in force."
        assert all(text.endswith(".") for text in index["calls"].values())
    assert zmock.calls() == []


async def test_the_page_runs_its_own_script_and_calls_its_own_server_only(zmock):
    _, headers, text = await page(zmock, "/")
    policy = dict(clause.split(" ", 1) for clause in headers["Content-Security-Policy"].split("; "))
    for name in ("script", "style"):
        (element,) = re.findall(rf"<{name}\b[^>]*>(.*?)</{name}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()
        assert policy.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'", "img-src": "data:", "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


async def test_a_browser_that_has_the_page_gets_304_until_it_changes(zmock, tmp_path, monkeypatch):
    file = tmp_path / "page.html"
    file.write_text("<style>a</style><script>1</script>", encoding="utf-8")
    monkeypatch.setattr("zmock.PAGE_FILE", file)
    _, headers, _ = await page(zmock, "/")
    for tag in (headers["ETag"], f'W/{headers["ETag"]}', f'"other", {headers["ETag"]}'):
        status, again, text = await page(zmock, "/", **{"If-None-Match": tag})
        assert (status, again["ETag"], text) == (304, headers["ETag"], "")
    file.write_text("<style>a</style><script>12</script>", encoding="utf-8")
    status, again, text = await page(zmock, "/", **{"If-None-Match": headers["ETag"]})
    assert (status, text) == (200, "<style>a</style><script>12</script>") and again["ETag"] != headers["ETag"]


async def test_without_its_file_the_page_is_the_index_that_says_so(zmock, tmp_path, monkeypatch):
    monkeypatch.setattr("zmock.PAGE_FILE", tmp_path / "page.html")
    status, headers, text = await page(zmock, "/")
    assert status == 200 and str(tmp_path / "page.html") in json.loads(text)["hint"]
    assert "hint" not in json.loads((await page(zmock, "/", "*/*"))[2])


async def test_the_page_is_for_those_who_may_control(zmock):
    assert (await page(zmock, "/", Origin="http://elsewhere:1"))[0] == 403
    async with serve(control_token="secret") as other:
        assert (await page(other, "/"))[0] == 401
        assert (await page(other, "/", Authorization="Bearer secret"))[0] == 200


@each(("method", "path", "status"), (("POST", "/", 404), ("POST", "/zmock", 404), ("DELETE", "/zmock/", 404), ("GET", "/zmocks", 404)))
async def test_the_page_has_no_other_method_and_path(zmock, method, path, status):
    async with aiohttp.ClientSession() as http, http.request(method, zmock.base + path, headers={"Accept": "text/html"}) as answer:
        assert answer.status == status


# objects


async def test_the_collections_say_what_they_hold_and_how_to_create_it(zmock):
    collections = (await ok(zmock, "GET", "objects"))["collections"]
    rows = {row["collection"]: row for row in collections}
    assert rows["vm-instances"] == {"collection": "vm-instances", "type": "VmInstance", "count": 12, "create": "CreateVmInstance"}
    assert rows["accounts/resources/refs"]["count"] > 50 and "create" not in rows["volumes"]
    names = [*zmock.cloud.catalogue.collections]
    assert [row["collection"] for row in collections] == [name for name in names if name in rows]
    for row in collections:
        answer = await ok(zmock, "GET", f"objects/{row['collection']}?count=true")
        assert answer == {"total": row["count"]}, row


@each("query", (
    "", "q=state=Running&sort=-name&limit=3", "start=2&limit=2&fields=name,uuid", "count=true", "replyWithCount=true&limit=1", "q=vmNics.ip~=192%25&fields=name",
))  # fmt: skip
async def test_objects_are_queried_as_the_api_is_but_without_session_rules_and_journal(zmock, query):
    await zmock.login()
    headers = {"Authorization": f"OAuth {zmock.session}"}
    url = URL(f"{zmock.url}/vm-instances?{query}", encoded=True)
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as answer:
        expected = await answer.json()
    calls = len(zmock.calls())
    zmock.rule(api="QueryVmInstance", then={"error": "SYS.1000"})
    assert await ok(zmock, "GET", f"objects/vm-instances?{query}") == expected
    assert len(zmock.calls()) == calls


@each(("path", "status", "told"), (
    ("objects/vm-instance", 404, "did you mean vm-instances?"),
    ("objects/zones?limt=3", 400, "did you mean limit?"),
    ("objects/zones?page=3", 400, "write start and limit"),
    ("objects/zones?q=nam=x", 400, "not having field[nam]"),
    ("objects/zones?limit=x", 400, "'limit' must be an integer"),
    ("objects/zones/" + "0" * 32, 404, "no collection zones/" + "0" * 32),
    ("objects/zones?sort=x", 400, "x"),
    ("apis/CreateZon", 404, "did you mean CreateZone?"),
))
async def test_objects_and_apis_that_cannot_be_found_are_told(zmock, path, status, told):
    got, answer = await control(zmock, "GET", path)
    assert got == status and told in answer["error"] + answer["hint"]


async def test_an_api_is_shown_with_what_a_form_needs(zmock):
    await zmock.login()
    await zmock.create("CreateZone", name="z")
    api = await ok(zmock, "GET", "apis/CreateZone")
    params = api.pop("params")
    assert api == {"name": "CreateZone", "method": "POST", "path": "/zones", "backing": "manual", "calls": 1, "wrapper": "params"}
    assert {"name": "name", "type": "str", "required": True} in params
    create = await ok(zmock, "GET", "apis/CreateVmInstance")
    params = {param["name"]: param for param in create["params"]}
    assert params["l3NetworkUuids"] == {"name": "l3NetworkUuids", "type": "list", "required": True, "refers": "l3-networks"}
    assert params["type"]["values"] == ["UserVm", "ApplianceVm"]
    assert (await ok(zmock, "GET", "apis/StartVmInstance"))["wrapper"] == "startVmInstance"
    assert (await ok(zmock, "GET", "apis/DeleteZone"))["wrapper"] is None
    stop = await ok(zmock, "GET", "apis/StopVmInstance")
    assert {"name": "type", "type": "str", "required": False, "values": ["grace", "cold"], "default": "grace"} in stop["params"]


async def test_what_a_query_may_name_has_values_and_the_collections_of_references(zmock):
    queryable = await ok(zmock, "GET", "queryable/vm-instances")
    assert "Running" in queryable["values"]["state"] and queryable["values"].keys() <= queryable["fields"].keys()
    assert (queryable["refers"]["hostUuid"], queryable["refers"]["imageUuid"]) == ("hosts", "images")
    assert "Connected" in (await ok(zmock, "GET", "queryable/primary-storage/ceph"))["values"]["status"]


# what is there


async def test_health_says_what_runs(zmock):
    health = await ok(zmock, "GET", "health")
    assert health.keys() >= {"version", "dialect", "cloud", "objects", "commit", "seed", "uptime"}
    assert (health["dialect"], health["cloud"], health["seed"], health["commit"]) == ("manual", "demo", 1, "memory")
    assert (health["objects"]["VmInstance"], health["objects"]["Host"], "Mock" in health["objects"]) == (12, 4, False)
    for moment in ({"advance": 1000}, {"set": "2018-07-10T00:00:00Z"}):
        await ok(zmock, "POST", "clock", moment)
        assert 0 <= (await ok(zmock, "GET", "health"))["uptime"] < 900


async def test_every_api_says_how_it_is_backed_and_how_often_it_was_called(zmock):
    await zmock.login()
    await zmock.query("zones")
    apis = {api["name"]: api for api in (await ok(zmock, "GET", "apis"))["apis"]}
    assert len(apis) == 893
    assert apis["QueryZone"] == {"name": "QueryZone", "method": "GET", "path": "/zones", "backing": "manual", "calls": 1}
    assert {api["backing"] for api in apis.values()} <= {"manual", "server", "generic", "none"}
    assert {name for name, api in apis.items() if api["calls"]} == {"QueryZone", "LogInByAccount"}


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_the_dialect_shows_its_table(dialect):
    async with serve(dialect=dialect) as mock:
        told = await ok(mock, "GET", "dialect")
    assert told["dialect"] == dialect
    assert [row["name"] for row in told["differences"]] == [row.name for row in DIFFERENCES]
    assert all(row["manual"] and row["server"] and row["source"] and row["inForce"] == dialect for row in told["differences"])


@pytest.mark.parametrize(
    ("path", "field", "relation"),
    (
        ("vm-instances", ("cpuNum", "int"), ("vmNics", "vm-instances/nics")),
        ("vm-instances?at=vmNics", ("ip", "str"), ("eip", "eips")),
        ("vm-instances?at=vmNics.eip", ("vipIp", "str"), ("vip", "vips")),
        ("vm-instances/nics", ("ip", "str"), ("vmInstance", "vm-instances")),
        ("zones", ("createDate", "date"), ("cluster", "clusters")),
    ),
)
async def test_what_can_be_queried_is_told(zmock, path, field, relation):
    told = await ok(zmock, "GET", f"queryable/{path}")
    assert field in told["fields"].items() and relation in told["relations"].items()


@pytest.mark.parametrize(
    ("path", "kind", "fields"),
    (("hosts", "hypervisorType=KVM", {"username", "sshPort"}), ("l2-networks", "type=L2VlanNetwork", {"vlan"}), ("zones", "", set())),
)
async def test_what_a_type_makes_legal_is_told(zmock, path, kind, fields):
    kinds = (await ok(zmock, "GET", f"queryable/{path}"))["kinds"]
    assert set(kinds.get(kind, {})) == fields


async def test_explain_says_what_each_condition_keeps_and_drops_and_which_index_was_used(zmock):
    asked = "path=/vm-instances&q=state=Running&q=vmNics.ip~=192.168.100.%25&q=name=web-1"
    told = await ok(zmock, "GET", f"explain?{asked}")
    assert told["total"] == 1 and [told["conditions"][0][key] for key in ("q", "index")] == ["state=Running", None]
    kept = [12, *(row["kept"] for row in told["conditions"])]
    assert [row["dropped"] for row in told["conditions"]] == [before - after for before, after in zip(kept, kept[1:])]
    assert kept[1:] == [6, 6, 1] and [row["index"] for row in told["conditions"][1:]] == ["VmNic.vmInstanceUuid", "VmInstance.name"]
    assert named("vm-office-1") in told["conditions"][0]["examples"] and told["conditions"][1]["examples"] == []


async def test_what_is_told_of_resources_when_asked_for_is_explained_and_waited_for_too(zmock):
    await zmock.login()
    asked = f"path=/accounts/resources/refs&q=resourceUuid={named('vm-web-1')}"
    assert (await ok(zmock, "GET", f"explain?{asked}"))["total"] == 1
    assert len((await ok(zmock, "GET", f"wait?{asked}&timeout=1"))["inventories"]) == 1


async def test_explain_leaves_the_mistakes_of_a_query_to_the_words_of_the_query(zmock):
    status, told = await control(zmock, "GET", "explain?path=vm-instances&q=stat=Running")
    assert status == 400 and "not having field[stat]" in told["error"] and "did you mean state?" in told["hint"]


# reset


async def test_reset_goes_back_to_the_start(zmock):
    async def state():
        await zmock.login()
        zones = [(zone["name"], zone["uuid"]) for zone in await zmock.query("zones")]
        return zmock.session, zones, (await ok(zmock, "GET", "health"))["objects"]

    before = await state()
    await zmock.create("CreateZone", name="z")
    zmock.rule(api="CreateZone", delay=1)
    await ok(zmock, "POST", "incidents", {"host-down": "host-1"})
    await zmock.advance(86400)
    health = await ok(zmock, "POST", "reset", {})
    assert (health["objects"] | {"Session": 1}, health["uptime"]) == (before[2], 0)
    for name, empty in (("rules", []), ("jobs", []), ("calls", []), ("incidents", [])):
        assert (await ok(zmock, "GET", name))[name] == empty
    assert (await ok(zmock, "GET", "clock"))["offset"] < 60
    zmock.session = None
    assert await state() == before


@pytest.mark.parametrize("cloud", ("empty", "demo", "large:3"))
async def test_reset_can_change_the_cloud(zmock, cloud):
    assert (await ok(zmock, "POST", "reset", {"cloud": cloud}))["cloud"] == cloud
    await zmock.login()
    assert len(await zmock.query("vm-instances")) == {"empty": 0, "demo": 12, "large:3": 3}[cloud]
    assert (await ok(zmock, "POST", "reset", {}))["cloud"] == cloud


@pytest.mark.parametrize(
    ("body", "told"), (({"cloud": "demmo"}, "did you mean demo?"), ({"clod": "demo"}, "clod"), ({"cloud": 5}, "cloud"), ([], "reset"))
)
async def test_a_reset_to_what_is_not_there_changes_nothing(zmock, body, told):
    status, answer = await control(zmock, "POST", "reset", body)
    assert status == 400 and told in answer["error"]
    health = await ok(zmock, "GET", "health")
    assert (health["cloud"], health["objects"]["VmInstance"]) == ("demo", 12)


async def test_a_job_of_before_the_reset_does_nothing_after_it():
    async with serve(delay="10") as mock:
        await submit(mock, "POST", "/zones", {"params": {"name": "late"}})
        await ok(mock, "POST", "reset", {})
        await mock.advance(60)
        await mock.login()
        assert await mock.query("zones", "name=late") == []


# the clock


async def test_the_clock_moves_and_says_what_came_due():
    async with serve(delay="10") as mock:
        job = await submit(mock, "POST", "/zones", {"params": {"name": "z"}})
        assert (await ok(mock, "POST", "clock", {"advance": 9}))["fired"] == []
        clock = await ok(mock, "POST", "clock", {"advance": 1})
        assert (clock["fired"], clock["mode"], clock["offset"]) == ([f"CreateZone {job}"], "frozen", pytest.approx(10, abs=5))
        assert (await mock.request("GET", f"/api-jobs/{job}"))[0] == 200


@pytest.mark.parametrize(
    ("body", "now"),
    (({"set": "2038-01-19T03:14:07Z"}, "2038-01-19T03:14:07.000Z"), ({"set": "2018-07-10T00:00:00Z"}, "2018-07-10T00:00:00.000Z")),
)
@pytest.mark.zmock(cloud="empty")  # the schedules of the demo would fire each night until then
async def test_the_clock_can_be_set(zmock, body, now):
    assert (await ok(zmock, "POST", "clock", body))["now"] == now
    assert (await ok(zmock, "GET", "clock"))["now"] == now


async def test_the_clock_set_to_what_it_shows_stays_there(zmock):
    now = (await ok(zmock, "GET", "clock"))["now"]
    assert (await ok(zmock, "POST", "clock", {"set": now}))["now"] == now


@pytest.mark.parametrize("then", (("POST", "reset", {}), ("POST", "clock", {"set": "2018-07-10T00:00:00Z"}), ("POST", "clock", {"set": "2021-07-10T00:00:00Z"})))
async def test_a_move_under_way_ends_when_time_is_set_elsewhere(then):
    async with serve(delay="10") as mock:
        held = asyncio.Event()
        mock.clock.at(mock.clock.now() + 1, lambda: mock.clock.spawn(held.wait()))
        moving = asyncio.create_task(ok(mock, "POST", "clock", {"advance": 50_000_000}))
        while not mock.clock.awake:
            await asyncio.sleep(0.001)
        setting = asyncio.create_task(ok(mock, *then))
        while mock.clock.current_move and not setting.done():
            await asyncio.sleep(0.001)
        held.set()
        await asyncio.gather(moving, setting)
        shown = (await ok(mock, "GET", "clock"))
        assert abs(shown["offset"]) < 1000 if then[1] == "reset" else shown["now"][:10] == then[2]["set"][:10]


async def test_the_clock_can_be_stopped_and_started(zmock):
    assert (await ok(zmock, "POST", "clock", {"freeze": False}))["mode"] == "real"
    assert (await ok(zmock, "POST", "clock", {"freeze": True}))["mode"] == "frozen"
    one, two = [await ok(zmock, "GET", "clock") for _ in range(2)]
    assert one["now"] == two["now"]


@each(
    "body",
    (
        {}, {"advance": -1}, {"advance": "1"}, {"advance": True}, {"advance": 1e11}, {"set": "tomorrow"}, {"freeze": 1}, {"warp": 2},
        {"set": "1969-12-31T23:59:59Z"}, {"set": "2100-01-01T00:00:00Z"},
        {"wrap": True}, {"freeze": False, "set": "tomorrow"}, {"freeze": False, "advance": -1}, [], 5,
        {"set": "2018-07-10T00:00:00Z", "advance": 5}, {"freeze": True, "warp": True}, {"freeze": None}, {"advance": float("nan")},
    ),
)
async def test_the_clock_takes_nothing_else(zmock, body):
    before = await ok(zmock, "GET", "clock")
    status, answer = await control(zmock, "POST", "clock", body)
    assert status == 400 and answer["error"]
    after = await ok(zmock, "GET", "clock")
    assert (after["now"], after["mode"]) == (before["now"], before["mode"])


async def test_the_clock_can_be_made_to_warp(zmock):
    zmock.rule(api="CreateZone", delay=3600)
    job = await submit(zmock, "POST", "/zones", {"params": {"name": "z"}})
    assert (await ok(zmock, "POST", "clock", {"warp": True}))["mode"] == "warp"
    told = await ok(zmock, "GET", "wait?api=CreateZone&timeout=5")
    assert told["calls"][0]["job"] == job
    assert (await ok(zmock, "GET", "wait?path=/zones&q=name=z&timeout=5"))["total"] == 1
    assert (await ok(zmock, "POST", "clock", {"warp": False}))["mode"] == "real"


# jobs


class TestJobs:
    @pytest.fixture
    def zmock_settings(self):
        return {"delay": "10"}

    async def test_jobs_are_listed_with_what_they_are_about(self, zmock):
        running = await submit(zmock, "DELETE", f"/vm-instances/{named('vm-web-1')}")
        (job,) = (await ok(zmock, "GET", "jobs"))["jobs"]
        assert job.keys() == {"uuid", "api", "state", "created", "due", "resourceUuid", "resourceName", "error", "polls", "progress", "rule"}
        assert (job["uuid"], job["api"], job["state"]) == (running, "DestroyVmInstance", "running")
        assert (job["resourceUuid"], job["resourceName"], job["error"], job["rule"]) == (named("vm-web-1"), "web-1", None, None)
        await zmock.advance(4)
        await zmock.request("GET", f"/api-jobs/{running}")
        assert [(job["progress"], job["polls"]) for job in zmock.jobs()] == [(0.4, 1)]
        await zmock.advance(6)
        assert [(job["state"], job["progress"]) for job in (await ok(zmock, "GET", "jobs"))["jobs"]] == [("succeeded", 1)]
        assert (await ok(zmock, "GET", "jobs"))["jobs"] == zmock.jobs()

    async def test_jobs_are_filtered_and_counted(self, zmock):
        zmock.rule(api="CreateZone", when={"params.name": "lost"}, then={"job": "lose"})
        zmock.rule(api="CreateZone", when={"params.name": "full"}, then={"error": "HOST_ALLOCATION.1000", "details": "no room"})
        zmock.rule(api="CreateZone", when={"params.name": "held"}, then={"job": "hold"})
        for name in ("done", "full", "lost", "held"):
            await submit(zmock, "POST", "/zones", {"params": {"name": name}})
        await zmock.advance(10)
        await submit(zmock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}})

        async def names(query):
            return [job["resourceName"] for job in (await ok(zmock, "GET", f"jobs?{query}"))["jobs"]]

        assert await names("") == ["done", "full", "lost", "held", "web-1"]
        assert await names("state=failed") == ["full"] and await names("state=held,running") == ["held", "web-1"]
        assert await names("limit=2") == ["held", "web-1"] and await names("api=Create*&limit=1") == ["held"] and await names("limit=0") == []
        counts = (await ok(zmock, "GET", "jobs?state=lost"))["counts"]
        assert counts == {"running": 1, "held": 1, "succeeded": 1, "failed": 1, "lost": 1}
        done, full, lost, held, stopping = zmock.jobs()
        assert full["error"] == {"code": "HOST_ALLOCATION.1000", "details": "no room"} and full["progress"] is None
        assert [job["rule"] for job in (done, full, lost, held)] == [None, "rule-2; hit=1", "rule-1; hit=1", "rule-3; hit=1"]
        assert (held["progress"], held["due"], lost["progress"]) == (None, None, None)

    @each(
        ("query", "told"),
        (
            ("state=runing", "'state' is running, held, succeeded, failed, lost or canceled, not 'runing', did you mean running?"),
            ("stat=held", "jobs are filtered by state, api, limit, not 'stat', did you mean state?"), ("limit=x", "'limit' is a number from 0"), ("api=" + "a" * 501, "'api' is a text"),
            ("api=CreateZon", "'api' names no API: 'CreateZon', did you mean CreateZone?"),
        ),
    )  # fmt: skip
    async def test_a_wrong_filter_of_jobs_is_told(self, zmock, query, told):
        status, answer = await control(zmock, "GET", f"jobs?{query}")
        assert status == 400 and told in answer["error"]

    async def test_the_last_job_is_found_in_any_state(self, zmock):
        status, answer = await control(zmock, "GET", "jobs/last")
        assert (status, answer["error"]) == (404, "no job last")
        await submit(zmock, "POST", "/zones", {"params": {"name": "a"}})
        uuid = await submit(zmock, "PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}})
        await zmock.advance(1)
        job = await ok(zmock, "GET", "jobs/last")
        assert (job["uuid"], job["state"]) == (uuid, "running")
        assert (await ok(zmock, "POST", "jobs/last", {"do": "fail", "error": "HOST.1010"}))["error"]["code"] == "HOST.1010"
        assert (await ok(zmock, "GET", f"jobs/{uuid}"))["state"] == (await ok(zmock, "GET", "jobs/last"))["state"] == "failed"
        assert (await ok(zmock, "POST", "jobs/last", {"do": "expire"}))["state"] == "expired"
        status, answer = await control(zmock, "GET", "jobs/last")
        assert (status, answer["error"]) == (404, f"no job {uuid}")
        assert (await control(zmock, "GET", "jobs/lst"))[1]["error"] == "no job lst"

    async def test_ten_thousand_jobs_are_listed_at_once(self, zmock):
        await submit(zmock, "POST", "/zones", {"params": {"name": "z"}})
        await zmock.advance(10)
        (record,) = zmock.cloud.store.rows("Job")
        for n in range(10_000):
            zmock.cloud.store.put("Job", {**record, "uuid": f"{n:032x}"})
        began = asyncio.get_running_loop().time()
        answer = await ok(zmock, "GET", "jobs?limit=2&state=succeeded")
        assert asyncio.get_running_loop().time() - began < 2
        assert (answer["counts"]["succeeded"], [job["uuid"] for job in answer["jobs"]]) == (10_001, [f"{n:032x}" for n in (9998, 9999)])

    @pytest.mark.parametrize(
        ("what", "state", "status", "zones"),
        (("finish", "succeeded", 200, 1), ("fail", "failed", 503, 0), ("expire", "expired", 404, None)),
    )
    async def test_a_job_can_be_ended_by_hand(self, zmock, what, state, status, zones):
        job = await submit(zmock, "POST", "/zones", {"params": {"name": "z"}})
        assert (await ok(zmock, "POST", f"jobs/{job}", {"do": what}))["state"] == state
        assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == status
        await zmock.advance(60)
        assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == status
        assert zones is None or len(await zmock.query("zones", "name=z")) == zones

    @pytest.mark.parametrize(
        ("method", "path", "body", "collection", "condition", "key", "value"),
        (
            ("POST", "/vm-instances", {"params": VM | {"name": "n"}}, "vm-instances", "name=n", "", None),
            ("POST", "/images", {"params": IMAGE}, "images", "name=i", "", None),
            ("POST", "/hosts/kvm", {"params": HOST}, "hosts", "name=h", "", None),
            ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}}, "vm-instances", "name=web-1", "state", "Running"),
            ("PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"startVmInstance": {}}, "vm-instances", "name=ci-1", "state", "Stopped"),
            ("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"migrateVm": {}}, "vm-instances", "name=web-1", "state", "Running"),
            ("DELETE", f"/vm-instances/{named('vm-web-1')}", None, "vm-instances", "name=web-1", "state", "Running"),
            ("PUT", f"/hosts/{named('host-1')}/actions", {"reconnectHost": {}}, "hosts", "name=host-1", "status", "Connected"),
            ("PUT", f"/primary-storage/volumes/{named('volume-spare')}/actions",
                {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": named("ps-local")}},
                "volumes", "name=spare", "status", "NotInstantiated"),
        ),
    )  # fmt: skip
    async def test_a_job_failed_by_hand_leaves_nothing_half_done(self, zmock, method, path, body, collection, condition, key, value):
        job = await submit(zmock, method, path, body)
        await zmock.advance(6)
        await ok(zmock, "POST", f"jobs/{job}", {"do": "fail"})
        assert [item.get(key) for item in await zmock.query(collection, condition)] == ([value] if value else [])

    async def test_the_next_in_line_goes_on_when_a_job_is_expired_by_hand(self, zmock):
        path = f"/vm-instances/{named('vm-web-1')}/actions"
        first, second = [await submit(zmock, "PUT", path, {action: {}}) for action in ("rebootVmInstance", "stopVmInstance")]
        await ok(zmock, "POST", f"jobs/{first}", {"do": "expire"})
        await zmock.advance(60)
        assert (await zmock.request("GET", f"/api-jobs/{second}"))[0] == 200

    @pytest.mark.parametrize("what", ("finish", "fail", "expire"))
    async def test_a_job_that_waits_in_line_can_be_ended_by_hand(self, zmock, what):
        path = f"/vm-instances/{named('vm-web-1')}/actions"
        jobs = [await submit(zmock, "PUT", path, {action: {}}) for action in ("rebootVmInstance", "stopVmInstance")]
        status, _ = await control(zmock, "POST", f"jobs/{jobs[1]}", {"do": what})
        assert status in (200, 409)
        await zmock.advance(60)
        statuses = [(await zmock.request("GET", f"/api-jobs/{job}"))[0] for job in jobs]
        assert statuses == [200, {"finish": 200, "fail": 503, "expire": 404}[what] if status == 200 else 200]

    @pytest.mark.parametrize(
        ("body", "status"), (({"do": "explode"}, 400), ({}, 400), ([], 400), ({"do": "finish"}, 409), ({"do": "fail"}, 409))
    )
    async def test_a_job_takes_nothing_else_and_nothing_once_it_is_over(self, zmock, body, status):
        job = await submit(zmock, "POST", "/zones", {"params": {"name": "z"}})
        await zmock.advance(10 if status == 409 else 0)
        assert (await control(zmock, "POST", f"jobs/{job}", body))[0] == status

    async def test_a_job_that_is_not_there_is_told(self, zmock):
        assert (await control(zmock, "POST", f"jobs/{named('nothing')}", {"do": "fail"}))[0] == 404


# the journal


async def test_the_journal_holds_every_call_and_no_password(zmock):
    await zmock.login()
    await zmock.create("CreateZone", name="z")
    await zmock.request("GET", "/zonez")
    login, created, polled, lost = (await ok(zmock, "GET", "calls"))["calls"]
    keys = {"seq", "time", "api", "method", "path", "query", "params", "status", "code", "job", "outcome", "rule", "world", "fuzz", "ms", "hint"}
    assert all(call.keys() == keys for call in (login, created, polled, lost))
    assert (login["api"], login["params"]["password"], login["status"]) == ("LogInByAccount", "***", 200)
    assert (created["method"], created["path"], created["params"], created["status"]) == ("POST", "/zstack/v1/zones", {"name": "z"}, 202)
    assert polled["path"].endswith(created["job"])
    assert (lost["status"], "did you mean zones?" in lost["hint"], lost["outcome"]) == (404, True, "error")
    assert [call["seq"] for call in (login, created, polled, lost)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("filter", "seqs"),
    (
        ("", [1, 2, 3, 4, 5]), ("?api=QueryZone", [2]), ("?api=Query*", [2, 3]), ("?path=*/hosts", [3]), ("?status=404", [4]),
        ("?since=2", [3, 4, 5]), ("?api=Query*&since=2", [3]), ("?api=CreateEcsVpcRemote", []),
        ("?status=4xx", [4]), ("?status=2xx", [1, 2, 3, 5]), ("?outcome=error", [4]), ("?outcome=succeeded", [5]), ("?outcome=ok&api=Query*", [2, 3]), ("?outcome=failed", []),
    ),
)  # fmt: skip
async def test_the_journal_can_be_filtered(zmock, filter, seqs):
    await zmock.login()
    for path in ("/zones", "/hosts", "/zonez"):
        await zmock.request("GET", path)
    await zmock.request("POST", "/zones", {"params": {"name": "z"}})
    assert [call["seq"] for call in (await ok(zmock, "GET", f"calls{filter}"))["calls"]] == seqs


@each(
    ("call", "why"),
    (
        ("GET health?x=1", "GET /zmock/health takes no query, not 'x'"), ("GET schema.json?x=1", "takes no query"), ("GET rules?id=a", "takes no query"),
        ("DELETE rules?id=a", "DELETE /zmock/rules takes no query, not 'id'"), ("POST clock?advance=5", "takes no query"), ("GET jobs/last?api=CreateZone", "takes no query"),
        ("GET queryable/vm-instances?att=vmNics", "a relation is shown with at=vmNics.eip, not 'att', did you mean at?"),
        ("GET calls?api=QueryZon", "'api' names no API: 'QueryZon', did you mean QueryZone?"), ("GET jobs?api=APIAddImagMsg", "'api' names no API"),
    ),
)  # fmt: skip
async def test_a_query_that_a_control_call_does_not_read_is_refused(zmock, call, why):
    zmock.rule(api="CreateZone", delay=1, id="a")
    method, path = call.split()
    status, answer = await control(zmock, method, path, {"advance": 5} if method == "POST" else None)
    assert status == 400 and why in answer["error"]
    assert await ok(zmock, "DELETE", "rules/a") == {}


async def test_jobs_are_filtered_by_the_name_of_a_long_job(zmock):
    assert (await ok(zmock, "GET", "jobs?api=APIAddImageMsg"))["jobs"] == []


@each(
    ("filter", "told"),
    (
        ("?apis=x", "did you mean api?"), ("?since=x", "'since' is a number from 0, not 'x'"), ("?status=x", "'status' is a number such as 404, or 4xx, not 'x'"),
        ("?status=44x", "not '44x'"), ("?status=0xx", "not '0xx'"), ("?outcome=eror", "not 'eror', did you mean error?"), ("?path=" + "a" * 501, "'path' is a text of at most 500 characters"),
    ),
)  # fmt: skip
async def test_a_wrong_filter_is_told(zmock, filter, told):
    status, answer = await control(zmock, "GET", f"calls{filter}")
    assert status == 400 and told in answer["error"]


@pytest.mark.parametrize(("journal", "kept", "dropped"), ((3, 3, 2), (5, 5, 0), (100, 5, 0), (0, 0, 5)))
async def test_the_journal_is_bounded_and_says_what_it_dropped(journal, kept, dropped):
    async with serve(journal=journal) as mock:
        await mock.login()
        for _ in range(4):
            await mock.request("GET", "/zones")
        told = await ok(mock, "GET", "calls")
        assert (len(told["calls"]), told["dropped"]) == (kept, dropped)


async def test_the_journal_can_be_emptied(zmock):
    await zmock.login()
    assert await ok(zmock, "DELETE", "calls") == {"calls": [], "dropped": 0}
    await zmock.request("GET", "/zones")
    assert [call["api"] for call in (await ok(zmock, "GET", "calls"))["calls"]] == ["QueryZone"]


async def test_control_is_never_journalled_delayed_or_faulted(zmock):
    zmock.rule(api="*", delay=1000, then={"error": "SYS.1000"})
    for path in ("health", "apis", "dialect", "rules", "clock", "jobs", "calls", "incidents", "queryable/zones"):
        await asyncio.wait_for(ok(zmock, "GET", path), 5)
    assert zmock.calls() == []


async def test_control_answers_fast_while_everything_hangs_and_a_thousand_jobs_are_held():
    async with serve(clock="real") as mock:
        await mock.login()
        mock.rule(id="hold", api="CreateZone", then={"job": "hold"})
        for n in range(0, 1000, 50):
            await asyncio.gather(*(mock.request("POST", "/zones", {"params": {"name": f"z{k}"}}) for k in range(n, n + 50)))
        await ok(mock, "DELETE", "rules/hold")
        for api in ("*", "PollJob"):
            await ok(mock, "POST", "rules", {"api": api, "then": {"drop": "hang"}})
        hung = [asyncio.create_task(mock.request("GET", path)) for path in ("/zones", "/hosts", "/api-jobs/x") for _ in range(30)]
        while sum(rule.hits for rule in mock.rules) < 90:
            await asyncio.sleep(0.001)
        jobs = (await ok(mock, "GET", "jobs"))["jobs"]
        for path in ("health", "apis", "rules", "clock", "jobs", "calls", "incidents", "queryable/zones", "wait?api=CreateZone&count=900") * 3:
            await asyncio.wait_for(ok(mock, "GET", path), 5)
        assert (len(jobs), {job["state"] for job in jobs}) == (1000, {"held"})
        assert (await ok(mock, "POST", f"jobs/{jobs[0]['uuid']}", {"do": "finish"}))["state"] == "succeeded"
        assert not any(task.done() for task in hung)
        await ok(mock, "POST", "reset", {})
        mock.session = None
        await mock.login()
        assert (await ok(mock, "GET", "jobs"))["jobs"] == []
        for task in hung:
            task.cancel()


@pytest.mark.slow
async def test_thirty_thousand_calls_later_the_journal_is_as_large_as_at_ten_thousand(zmock):
    """The first ten thousand come down one connection, the others go in where that leads to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(zmock.base.rpartition(":")[2]))
    sizes = [await journal_size(zmock)]
    for _ in range(10):
        writer.write(b"OPTIONS /zstack/v1/zones?n=1 HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        for _ in range(1000):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    sizes.append(await journal_size(zmock))
    request = make_mocked_request("OPTIONS", "/zstack/v1/zones?n=1")
    for _ in range(20_000):
        await zmock.rest.answer(request)
    sizes.append(await journal_size(zmock))
    assert sizes == [(0, 2, 0), (1000, sizes[1][1], 9_000), (1000, sizes[1][1], 29_000)]


async def journal_size(mock):
    """Calls, characters (but for the numbers and times of the calls) and how many were dropped."""
    told = await ok(mock, "GET", "calls")
    return len(told["calls"]), len(json.dumps([call | {"seq": 0, "ms": 0} for call in told["calls"]])), told["dropped"]


@pytest.mark.parametrize("wrong", ("/zones/" + "x" * 60_000, "/zones?" + "&".join(f"n{n}=1" for n in range(4000)), "/zones?q=" + "x" * 60_000))
async def test_what_the_journal_keeps_of_one_call_is_bounded_too(zmock, wrong):
    await zmock.login()
    await zmock.request("GET", wrong)
    assert len(json.dumps((await ok(zmock, "GET", "calls"))["calls"][-1])) < 50_000


# incidents


async def test_incidents_are_listed_until_they_end(zmock):
    one, two = [await ok(zmock, "POST", "incidents", {"host-down": f"host-{n}"}) for n in (1, 2)]
    await ok(zmock, "DELETE", f"incidents/{one['id']}")
    three = await ok(zmock, "POST", "incidents", {"host-down": "host-3"})
    assert {row["id"]: row["host-down"] for row in (await ok(zmock, "GET", "incidents"))["incidents"]} == {
        two["id"]: "host-2", three["id"]: "host-3"}  # fmt: skip
    await zmock.login()
    for incident in (two, three):
        await ok(zmock, "DELETE", f"incidents/{incident['id']}")
    assert {host["name"] for host in await zmock.query("hosts", "status=Connected")} == {"host-1", "host-2", "host-3"}


@pytest.mark.parametrize(("body", "status"), (({"host-down": "host-11"}, 404), ({"host-up": "host-1"}, 400), ({}, 400), ([], 400)))
async def test_an_incident_that_cannot_be_is_refused(zmock, body, status):
    assert (await control(zmock, "POST", "incidents", body))[0] == status
    assert (await ok(zmock, "GET", "incidents")) == {"incidents": []}


# snapshots


@pytest.fixture(params=("memory", "folder"))
async def mock(request, tmp_path):
    """A mock in memory, and one in a folder."""
    async with serve(memory=request.param == "memory", data=str(tmp_path / "data" / "cloud"), delay="10") as mock:
        await mock.login()
        yield mock


async def names(mock):
    return [zone["name"] for zone in await mock.query("zones")]


async def test_a_snapshot_brings_back_what_there_was(mock):
    await mock.create("CreateZone", name="mine")
    await ok(mock, "POST", "rules", {"api": "CreateZone", "id": "busy", "then": {"error": "SYS.1006"}})
    taken = await ok(mock, "PUT", "snapshots/one", {})
    assert taken["objects"]["Zone"] == 2 and await ok(mock, "GET", "snapshots/one") == taken
    assert await ok(mock, "GET", "snapshots") == {"snapshots": ["one"]}
    await mock.delete("zones", named("zone-1"))
    await ok(mock, "DELETE", "rules")
    for _ in range(2):
        restored = await ok(mock, "POST", "snapshots/one/restore", {})
        assert restored["objects"]["VmInstance"] == 12 and sorted(await names(mock)) == ["mine", "zone-1"]
        assert [rule["id"] for rule in (await ok(mock, "GET", "rules"))["rules"]] == ["busy"]
        await ok(mock, "DELETE", "rules")
        await mock.create("CreateZone", name="after")
    assert await ok(mock, "DELETE", "snapshots/one") == {}
    assert await ok(mock, "GET", "snapshots") == {"snapshots": []}


async def test_what_was_under_way_in_a_snapshot_is_not_any_more(mock):
    _, body = await mock.request("POST", "/zones", {"params": {"name": "under-way"}})
    await mock.act("vm-instances", named("vm-ci-1"), "startVmInstance")
    await mock.request("PUT", f"/vm-instances/{named('vm-ci-2')}/actions", {"startVmInstance": {}})
    _, late = await mock.request("POST", "/zones", {"params": {"name": "late"}})
    await ok(mock, "PUT", "snapshots/one", {})
    await mock.advance(100)
    await ok(mock, "POST", "snapshots/one/restore", {})
    await mock.advance(100)
    assert (await mock.request("GET", "/api-jobs/" + late["location"][-32:]))[0] == 202
    states = {vm["name"]: vm["state"] for vm in await mock.query("vm-instances")}
    assert (states["ci-1"], states["ci-2"], sorted(await names(mock))) == ("Running", "Stopped", ["under-way", "zone-1"])


async def test_a_snapshot_holds_the_clock(mock):
    await ok(mock, "POST", "clock", {"set": "2030-01-01T00:00:00Z"})
    await ok(mock, "PUT", "snapshots/one", {})
    await ok(mock, "POST", "reset", {})
    assert (await ok(mock, "GET", "clock"))["now"] < "2030"
    await ok(mock, "POST", "snapshots/one/restore", {})
    assert (await ok(mock, "GET", "clock"))["now"].startswith("2030-01-01T00:00")


async def test_the_last_job_is_found_after_a_restart(tmp_path):
    for name in ("a", "b", None):
        async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="empty") as mock:
            await mock.login()
            if name:
                await submit(mock, "POST", "/zones", {"params": {"name": name}})
                await mock.advance(1)
            assert (await ok(mock, "GET", "jobs/last"))["resourceName"] == (name or "b")


async def test_a_snapshot_is_a_folder_that_can_be_mended_and_handed_on(tmp_path):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        await ok(mock, "PUT", "snapshots/one", {})
        file = tmp_path / "data" / "snapshots" / "one" / "Zone.json"
        text = file.read_text()
        for wrong, told in (("{", "Zone.json, line 1, column 2"), (None, "no management node")):
            if wrong:
                file.write_text(wrong)
            else:
                file.with_name("ManagementNode.json").unlink()
            status, answer = await control(mock, "POST", "snapshots/one/restore", {})
            assert (status, told in answer["error"]) == (409, True)
            file.write_text(text)
        await ok(mock, "PUT", "snapshots/one", {})
        file.write_text(text.replace('"zone-1"', '"renamed"').replace('"state"', '"stat"'))
        health = await ok(mock, "POST", "snapshots/one/restore", {})
        assert await names(mock) == ["renamed"]
        assert health["found"] == [f"Zone {named('zone-1')}: state is missing; stat is unknown, did you mean state?"]


async def test_a_snapshot_that_cannot_be_kept_is_no_snapshot(tmp_path, monkeypatch):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        await ok(mock, "PUT", "snapshots/one", {})
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", lambda number: os.open("/nowhere", 0))
            for name in ("one", "two"):
                assert (await control(mock, "PUT", f"snapshots/{name}", {}))[0] == 503
        assert await ok(mock, "GET", "snapshots") == {"snapshots": ["one"]}
        await ok(mock, "POST", "snapshots/one/restore", {})


def spoil(folder, type, change):
    """Changes the first object of a type in the files of a snapshot."""
    file = folder / f"{type}.json"
    tables = json.loads(file.read_text()) if file.exists() else {"_default": {"1": {"uuid": "x"}}}
    next(iter(tables["_default"].values())).update(change)
    file.write_text(json.dumps(tables))


@pytest.mark.parametrize(("type", "change", "told"), (
    ("Mock", {"starts": "x"}, "'starts' is no whole number"), ("Mock", {"clock": 5}, "'clock' is no clock"), ("Mock", {"format": "x"}, "'format' is no whole"),
    ("Mock", {"format": None}, "'format' is no whole"), ("Mock", {"format": 99}, "newer zmock"), ("Foo", {}, "objects of Foo, a type without a row; add the --catalogue with a row Foo"),
    ("Mock", {"format": "LONG"}, "Mock.json, line 1, column 1: Exceeds the limit"),
    ("VmInstance", {"state": "Destroyed", "lastOpDate": "0000-02-31 00:00:00"}, "holds what zmock cannot use"),
))  # fmt: skip
async def test_a_snapshot_that_cannot_be_used_replaces_nothing(tmp_path, type, change, told):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud"), delay="10") as mock:
        await mock.login()
        await ok(mock, "PUT", "snapshots/one", {})
        folder = tmp_path / "data" / "snapshots" / "one"
        spoil(folder, type, change)
        file = folder / f"{type}.json"
        file.write_text(file.read_text().replace('"LONG"', "9" * 5000))
        await mock.create("CreateZone", name="mine")
        _, under_way = await mock.request("POST", "/zones", {"params": {"name": "under-way"}})
        status, answer = await control(mock, "POST", "snapshots/one/restore", {})
        assert (status, told in answer["error"]) == (409, True), answer
        await mock.advance(10)
        assert (await mock.request("GET", "/api-jobs/" + under_way["location"][-32:]))[0] == 200
        assert sorted(zone["name"] for zone in await mock.query("zones")) == ["mine", "under-way", "zone-1"]


@pytest.mark.parametrize("value", ([], {"a": 1}))
async def test_a_snapshot_with_a_list_for_a_date_is_restored_and_told_once(tmp_path, value, caplog):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        await ok(mock, "PUT", "snapshots/one", {})
        spoil(tmp_path / "data" / "snapshots" / "one", "ManagementNode", {"joinDate": value})
        (line,) = (await ok(mock, "POST", "snapshots/one/restore", {}))["found"]
        assert "joinDate is a date, not" in line and caplog.text.count("joinDate") == 1


async def test_a_snapshot_is_not_read_while_one_of_its_name_is_taken(tmp_path, monkeypatch):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        await ok(mock, "PUT", "snapshots/one", {})
        read, alone = mock.control.snapshots.documents, []
        monkeypatch.setattr(mock.control.snapshots, "documents", lambda name: (alone.append(mock.control.copying.locked()), read(name))[1])
        calls = ((method, path) for _ in range(6) for method, path in (("PUT", "snapshots/one"), ("POST", "snapshots/one/restore"), ("GET", "snapshots/one")))
        answers = await asyncio.gather(*(control(mock, method, path, {} if method != "GET" else None) for method, path in calls))
        assert {status for status, _ in answers} == {200} and alone == [True] * 12


@pytest.mark.parametrize("error", (OSError(errno.EIO, "Input/output error"), MemoryError(), RuntimeError("can't start new thread")))
@pytest.mark.parametrize(("method", "path"), (("GET", ""), ("PUT", "/one"), ("DELETE", "/one")))
async def test_snapshots_on_a_disk_that_fails_are_an_error_in_json_with_nothing_changed(tmp_path, monkeypatch, error, method, path):
    def wrong(*arguments, **more):
        raise error

    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="empty") as mock:
        await ok(mock, "PUT", "snapshots/one", {})
        before = mock.control.snapshots.documents("one")
        with monkeypatch.context() as patch:
            for name in ("zmock.matching_names", "zmock.to_line"):
                patch.setattr(name, wrong)
            status, answer = await control(mock, method, f"snapshots{path}", {} if method == "PUT" else None)
        assert (status, answer["error"].startswith("cannot read or write the snapshots: ")) == (503, True), answer
        assert mock.control.snapshots.documents("one") == before


async def test_leftovers_of_snapshots_that_cannot_be_tidied_up_are_no_reason_not_to_start(tmp_path, monkeypatch, caplog):
    (tmp_path / "snapshots" / ".one.tmp").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", lambda path: os.open("/nowhere/at/all", 0))
    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="empty"):
        assert "cannot tidy up the snapshots" in caplog.text


# a disk that fails


@pytest.fixture
async def full(tmp_path, monkeypatch):
    """A mock with three rules, whose disk is full from now on."""
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        for id in "abc":
            await ok(mock, "POST", "rules", {"api": "CreateZone", "id": id, "then": {"error": "SYS.1006"}})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
            mock.clean = patch.undo
            yield mock


@pytest.mark.parametrize(("method", "path", "body", "after"), (
    ("POST", "rules", {"api": "CreateZone", "id": "d"}, "abcd"), ("DELETE", "rules/b", None, "ac"), ("DELETE", "rules", None, ""),
))  # fmt: skip
async def test_rules_that_cannot_be_kept_are_as_they_were(full, method, path, body, after):
    def in_force():
        return "".join(rule.id for rule in full.control.faults.rules), "".join(sorted(kept["id"] for kept in full.cloud.store.rows("Rule")))

    for _ in range(2):
        status, answer = await control(full, method, path, body)
        assert (status, "rules are as they were" in answer["hint"], in_force()) == (503, True, ("abc", "abc"))
    full.clean()
    await ok(full, method, path, body)
    assert in_force() == (after, after)


async def test_a_rule_that_could_not_be_removed_ends_with_its_ttl_as_before(tmp_path, monkeypatch):
    async with serve(memory=False, data=str(tmp_path / "data" / "cloud")) as mock:
        await ok(mock, "POST", "rules", {"api": "CreateZone", "id": "a", "ttl": 60, "then": {"error": "SYS.1006"}})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
            assert (await control(mock, "DELETE", "rules/a"))[0] == 503
        await mock.advance(61)
        assert (await ok(mock, "GET", "rules/a"))["over"]


@pytest.mark.parametrize(("path", "body"), (("clock", {"advance": 100}), ("incidents", {"host-down": "host-1"}), ("reset", {})))
async def test_what_else_cannot_be_kept_is_done_and_says_so(full, path, body):
    status, answer = await control(full, "POST", path, body)
    assert (status, "done, but not yet kept" in answer["hint"]) == (503, True)
    full.clean()
    await full.cloud.store.tend()
    assert (await ok(full, "GET", "health"))["commit"] == "kept"


# what is not there


@each(
    ("method", "path", "status", "told"),
    (
        ("GET", "healt", 404, "did you mean health?"),
        ("GET", "nonsense", 404, "/zmock/health"),
        ("PUT", "clock", 405, "takes GET, POST"),
        ("GET", "reset", 405, "takes POST"),
        ("DELETE", "rules/rule-9", 404, "no rule 'rule-9'"),
        ("GET", "rules/rule-9", 404, "no rule 'rule-9'"),
        ("DELETE", "incidents/x", 404, "no incident 'x'"),
        ("GET", "queryable/vm-instance", 404, "did you mean vm-instances?"),
        ("GET", "queryable/vm-instances?at=vmNic", 404, "did you mean vmNics?"),
        ("GET", "explain", 400, "?path=/vm-instances"),
        ("GET", "explain?path=/zone", 404, "did you mean zones?"),
        ("GET", "snapshots/one", 404, "no snapshot 'one'"),
        ("DELETE", "snapshots/one", 404, "no snapshot 'one'"),
        ("POST", "snapshots/one/restore", 404, "no snapshot 'one'"),
        ("GET", "snapshots/one/restore", 405, "takes POST"),
        ("POST", "snapshots/one", 405, "takes GET, PUT, DELETE"),
        ("PUT", "snapshots/.one", 400, "no name for a snapshot"),
        ("PUT", "snapshots/..%2Fone", 400, "no name for a snapshot"),
        ("PUT", "snapshots/one/two", 400, "no name for a snapshot"),
    ),
)
async def test_what_is_not_there_is_told_with_what_is(zmock, method, path, status, told):
    got, answer = await control(zmock, method, path, {} if method in ("PUT", "POST") else None)
    assert got == status
    assert told in answer["error"] + " " + answer["hint"]


@pytest.mark.parametrize(("body", "headers"), (
    ('{"freeze": true}'.encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"}),
    (b"\xef\xbb\xbf" + b'{"freeze": true}', {}),
    (gzip.compress(b'{"freeze": true}', mtime=0), {"Content-Encoding": "gzip"}),
))  # fmt: skip
async def test_a_body_may_be_encoded_as_one_of_the_api(zmock, body, headers):
    sent = {"Content-Type": "application/json"} | headers
    async with aiohttp.ClientSession(headers=sent) as http, http.post(f"{zmock.base}/zmock/clock", data=body) as answer:
        assert (await answer.json())["mode"] == "frozen"


@pytest.mark.parametrize(("body", "headers", "told"), (
    (b"{}", {"Content-Type": "application/json; charset=klingon"}, "no charset 'klingon' is known"),
    (b"\xff{}", {}, "the body is not UTF-8"),
    (b"{}", {"Content-Encoding": "br"}, "Content-Encoding 'br' is not understood"),
    (gzip.compress(b"{}", mtime=0)[:-5], {"Content-Encoding": "gzip"}, "cut short"),
    (gzip.compress(b" " * (1 << 21), mtime=0), {"Content-Encoding": "gzip"}, "more than 1048576 bytes"),
))  # fmt: skip
async def test_a_body_that_cannot_be_read_is_told(zmock, body, headers, told):
    sent = {"Content-Type": "application/json"} | headers
    async with aiohttp.ClientSession(headers=sent) as http, http.post(f"{zmock.base}/zmock/clock", data=body) as answer:
        assert (answer.status, told in (await answer.json())["error"]) == (400, True)


@each("path", ("rules", "clock", "reset", "incidents"))
@each(("body", "told"), (
    (b"{", "no JSON"),
    (b'{"freeze": true, "freeze": false}', "the key 'freeze' is there twice"),
    (b'{"api": "*", "then": {"status": 200, "body": %b}}' % (b"[" * 500 + b"]" * 500), "200 levels deep"),
    (b'{"a":' * 300 + b"1" + b"}" * 300, "200 levels deep"),
))
async def test_a_body_that_is_no_json_is_told(zmock, path, body, told):
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http, http.post(f"{zmock.base}/zmock/{path}", data=body) as answer:
        assert (answer.status, told in (await answer.json())["error"]) == (400, True)


# who may


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    (
        ("GET", {}, 200),
        ("POST", {"Content-Type": "application/json"}, 200),
        ("POST", {"Content-Type": "application/json; charset=utf-8"}, 200),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {}, 415),
        ("GET", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "http://evil.example", "Content-Type": "application/json"}, 403),
        ("GET", {"Origin": "null"}, 403),
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "evil.example:8080"}, 403),
        ("GET", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", {"Host": "localhost:1"}, 200),
        ("OPTIONS", {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}, 403),
    ),
)
async def test_only_this_machine_may_control(zmock, method, headers, status):
    data = b'{"freeze": true}' if method == "POST" else None
    client = aiohttp.ClientSession(skip_auto_headers=["Content-Type"])
    async with client as http, http.request(method, f"{zmock.base}/zmock/clock", headers=headers, data=data) as answer:
        assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (status, False)


@pytest.mark.parametrize(("peer", "token", "status"), (("192.168.1.7", "", 403), ("192.168.1.7", "secret", 200), ("127.0.0.1", "", 200), ("::1", "", 200)))
@pytest.mark.parametrize("method", ("GET", "POST"))
async def test_another_machine_may_only_with_a_token(peer, token, status, method):
    transport = SimpleNamespace(get_extra_info=lambda name, default=None: (peer, 50000) if name == "peername" else default, is_closing=lambda: False)
    async with serve(control_token=token) as mock:
        headers = {"Host": "127.0.0.1", "Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        asked = make_mocked_request(method, "/zmock/rules", headers=headers, transport=transport, payload=EMPTY_PAYLOAD)
        assert (await answer_to(mock, asked)).status == (400 if (method, status) == ("POST", 200) else status)


@each("length", [{}, {"Content-Length": "0"}])
async def test_a_control_call_without_a_body_needs_no_content_type(zmock, length):
    client = aiohttp.ClientSession(skip_auto_headers=["Content-Type"])
    async with client as http, http.post(f"{zmock.base}/zmock/reset", headers=length) as answer:
        assert answer.status == 200
    status, _, body = await exchange(zmock, "PUT /zmock/snapshots/a", headers={"Content-Length": None})
    assert status == 200, body


async def test_a_page_of_the_mock_itself_may_control(zmock):
    assert (await control(zmock, "GET", "health", headers={"Origin": zmock.base}))[0] == 200


@pytest.mark.parametrize(
    ("header", "status"), ((None, 401), ("Bearer wrong", 401), ("secret", 401), ("OAuth secret", 401), ("Bearer secret", 200), ("bearer secret", 200))
)
async def test_a_token_is_asked_for_where_there_is_one(header, status):
    async with serve(control_token="secret") as mock:
        assert (await control(mock, "GET", "clock", headers={"Authorization": header} if header else {}))[0] == status


async def test_the_token_does_not_let_a_foreign_page_in():
    async with serve(control_token="secret") as mock:
        headers = {"Authorization": "Bearer secret", "Origin": "http://evil.example"}
        assert (await control(mock, "GET", "clock", headers=headers))[0] == 403


STRANGE = {"Host": "zmock:8080", "Origin": "http://evil.example", "Authorization": "Bearer wrong"}


@pytest.mark.parametrize("token", ("", "secret"))
@pytest.mark.parametrize(("path", "strangers"), (
    ("/zmock/health", [{}, STRANGE, *({name: value} for name, value in STRANGE.items())]), ("/zmock/openapi.json", [STRANGE]),
))  # fmt: skip
async def test_whether_zmock_is_there_is_told_to_everybody(path, strangers, token):
    transport = SimpleNamespace(get_extra_info=lambda name, default=None: ("192.168.1.7", 1) if name == "peername" else default, is_closing=lambda: False)
    async with serve(control_token=token) as mock:
        for method, headers in itertools.product(("GET", "HEAD"), strangers):
            answer = await answer_to(mock, make_mocked_request(method, path, headers={"Host": "x"} | headers, transport=transport))
            assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (200, headers.get("Origin"))
        for method in ("POST", "DELETE"):
            answer = await answer_to(mock, make_mocked_request(method, path, headers={"Host": "x"}, transport=transport, payload=EMPTY_PAYLOAD))
            assert answer.status == (401 if token else 403)
        for near in (f"{path}/", f"{path}/x", "/zmock/healthy", "/zmock//health"):
            answer = await answer_to(mock, make_mocked_request("GET", near, headers={"Host": "x"}, transport=transport))
            assert answer.status == (401 if token else 403)


async def test_health_tells_no_secret(tmp_path, caplog):
    folder, cloud = tmp_path / "data" / "cloud", tmp_path / "my.json"
    cloud.write_text('{"zones": [{"name": "z"}]}')
    settings = {"data": str(folder), "memory": False, "cloud": str(cloud), "control_token": "s3cret-token"}
    async with serve(**settings) as mock:
        session = await mock.login()
    kept = json.loads((folder / "Session.json").read_text())
    for item in kept["_default"].values():
        item["odd"] = True
    (folder / "Session.json").write_text(json.dumps(kept))
    (folder / "Zone.json").write_text("[")
    async with serve(**settings) as mock, aiohttp.ClientSession() as http, http.get(f"{mock.base}/zmock/health") as answer:
        mock.cloud.store.failures.failed("commit", OSError(28, "No space left on device", str(folder / "Zone.json")))
        told = await answer.text()
        assert f"Session {session}: odd is unknown" in caplog.text
        assert "a session: odd is unknown" in told
        async with http.get(f"{mock.base}/zmock/health") as again:
            told += await again.text()
    assert "No space left on device: 'cloud/Zone.json'" in told
    assert json.loads(told.partition("}{")[0] + "}")["cloud"] == "my.json"
    for secret in (session, "s3cret-token", SHA512_OF_PASSWORD, str(tmp_path)):
        assert secret not in told


READ = ("", "health", "apis", "apis/CreateZone", "objects", "objects/zones", "dialect", "rules", "clock", "jobs", "calls", "queryable/zones", "explain?path=/zones", "openapi.json", "incidents", "snapshots",
        "wait?path=/zones", "nonsense", "rules/none", "reset")  # fmt: skip


@each("path", READ)
async def test_a_head_answers_as_a_get(zmock, path):
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{zmock.base}/zmock/{path}") as got:
            length = len(await got.read())
        async with http.head(f"{zmock.base}/zmock/{path}") as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (got.status, got.content_type, b"")
            assert abs(int(answer.headers["Content-Length"]) - length) < 9  # the uptime grows


async def test_a_head_of_events_ends(zmock):
    async with aiohttp.ClientSession() as http, http.head(f"{zmock.base}/zmock/events") as answer:
        assert (answer.status, answer.content_type, await answer.read()) == (200, "text/event-stream", b"")


async def test_a_refused_reset_leaves_everything_as_it_was(zmock):
    await zmock.create("CreateZone", name="mine")
    assert (await control(zmock, "POST", "reset", {"cloud": "nosuch"}))[0] == 400
    assert [zone["name"] for zone in await zmock.query("zones", "name=mine")] == ["mine"]


@pytest.mark.parametrize("told", ({"hosts": [{"name": "h"}]}, {"l3-networks/network-services/refs": [{"l3NetworkUuid": "a", "networkServiceProviderUuid": "b"}]}, {"zones": 5}))
async def test_a_reset_to_a_cloud_file_that_cannot_be_is_refused_and_changes_nothing(zmock, tmp_path, told):
    (tmp_path / "cloud.json").write_text(json.dumps(told))
    before = await zmock.query("zones")
    status, body = await control(zmock, "POST", "reset", {"cloud": str(tmp_path / "cloud.json")})
    assert status == 400 and "cloud.json" in body["error"] and "not yet kept" not in body["hint"]
    assert await zmock.query("zones") == before


@pytest.mark.parametrize(("error", "status", "told"), ((ApiError("SYS.1003", "gone", hint="look"), 409, "look"), (ApiError("SYS.1016", "full"), 503, "not yet kept"),
                                                       (KeyError("x"), 500, "report"), (RecursionError(), 500, "report")))  # fmt: skip
async def test_whatever_goes_wrong_in_a_control_call_is_told_in_json(zmock, monkeypatch, error, status, told):
    def fail(type):
        raise error

    monkeypatch.setattr(zmock.cloud.store, "rows", fail)
    found, body = await control(zmock, "GET", "jobs")
    assert found == status and body.keys() == {"error", "hint"} and told in body["hint"]


@pytest.mark.parametrize("path", ("rules/%ff", "queryable/%00", "calls?api=%ff", "calls?since=9999999999999999999", "explain?path=%ff", "wait?api=%ff", "snapshots/%ED%A0%80", "jobs/%c3%28", "%ff", "calls?path=" + "[" * 5000))
async def test_odd_paths_and_queries_of_control_calls_are_answered_in_json(zmock, path):
    async with aiohttp.ClientSession() as http, http.get(URL(f"{zmock.base}/zmock/{path}", encoded=True)) as answer:
        body = json.loads(await answer.text())
        assert answer.status in (200, 400, 404, 405) and (answer.status == 200 or body.keys() == {"error", "hint"})


async def test_a_reset_answers_who_waits(zmock):
    await zmock.login()
    zmock.rule(api="QueryZone", delay=100)
    waiting = asyncio.ensure_future(zmock.request("GET", "/zones"))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    await ok(zmock, "POST", "reset", {})
    assert (await asyncio.wait_for(waiting, 5))[1]["error"]["code"] == "SYS.1012"


async def test_a_call_of_before_the_reset_does_nothing_after_it(zmock):
    await zmock.login()
    zmock.rule(api="CreateZone", delay=100, then={"at": "accept"})
    waiting = asyncio.ensure_future(zmock.request("POST", "/zones", {"params": {"name": "late"}}))
    while not zmock.clock.sleepers:
        await asyncio.sleep(0)
    await ok(zmock, "POST", "reset", {})
    assert (await asyncio.wait_for(waiting, 5))[0] == 503
    zmock.session = None
    assert (zmock.jobs(), await zmock.query("zones", "name=late")) == ([], [])
