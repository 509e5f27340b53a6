"""Worlds: clouds beside each other in one process, each with a state, a time and trouble of its own."""

import asyncio
import gc
import io
import json
import shutil

import aiohttp
import pytest
from asking import ROOT, each
from yarl import URL

from zmock import SHA512_OF_PASSWORD, Settings, SettingsError, Terminal, create_app, serve

LOGIN = {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}


async def ask(mock, method, path, body=None, port=None, **headers):
    """A request to any path of the mock: its status, and its body."""
    base = f"http://127.0.0.1:{port}" if port else mock.base
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    url = URL(base + path, encoded=path.isascii())
    async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith(("{", "[")) else text


async def zones(world):
    return {zone["name"] for zone in await world.query("zones")}


# which world a request belongs to


async def names(mock):
    _, answer = await ask(mock, "GET", "/zmock/worlds")
    return [world["name"] for world in answer["worlds"]]


@each(
    "path, headers, world",
    [
        ("/zstack/v1/zones", {}, None),
        ("/w/a/zstack/v1/zones", {}, "a"),
        ("/zstack/v1/zones", {"X_ZMock_World": "b"}, "b"),
        ("/zstack/v1/zones", {"X_ZMock_World": ""}, None),
        ("/w/a/zstack/v1/zones", {"X_ZMock_World": "b"}, "a"),
        ("/w/A.b_c-9/zstack/v1/zones", {}, "A.b_c-9"),
        ("/w/a/zmock/health", {}, "a"),
        ("/w/a/zmock//health/", {}, "a"),
        ("/zmock/health", {"X_ZMock_World": "b"}, "b"),
        ("/w/a/", {}, "a"),
        ("/w/a", {}, "a"),
        ("/w/a?q=1", {}, "a"),
        ("/w/a/nowhere", {}, "a"),
        ("/%77/a/zstack/v1/zones", {}, "a"),
        ("/w/%61/zstack/v1/zones", {}, "a"),
        ("/%77/%61/zmock/health", {}, "a"),
    ],
)
async def test_a_request_belongs_to_the_world_of_its_path_else_of_its_header_else_to_the_main_one(zmock, path, headers, world):
    zmock.drop_worlds()
    await ask(zmock, "GET", path, **headers)
    assert await names(zmock) == ([world] if world else [])


@each("path, name", [("/w//zstack/v1/zones", ""), ("/w/a%20b/zstack/v1/zones", "'a b'"), ("/w/a%2fb/zstack/v1/zones", "'a/b'"), ("/w/%2e%2e/zmock", "'..'"), ("/w/" + 65 * "x" + "/zmock", 65 * "x"), ("/w/é/zmock", r"'\u00e9'")])
async def test_a_world_has_a_plain_name(zmock, path, name):
    status, answer = await ask(zmock, "GET", path)
    assert status == 400 and "letters, digits" in json.dumps(answer) and name in json.dumps(answer)
    assert await names(zmock) == []


async def test_a_call_has_its_path_without_the_prefix(zmock):
    for path in ("/w/a/nowhere", "/w/a?q=1", "/w/a/zstack/v1/zones", "/w/ab", "/%77/%61/zstack/v1/w/a"):
        await ask(zmock, "GET", path)
    assert [call.path for call in (await zmock.world("a")).calls()] == ["/nowhere", "/zstack/v1/zones", "/zstack/v1/w/a"]


async def test_a_name_in_a_header_is_plain_too(zmock):
    status, answer = await ask(zmock, "GET", "/zstack/v1/zones", X_ZMock_World="a b")
    assert status == 400 and "'a b'" in answer["error"]["details"]
    assert zmock.calls()[-1].status == 400


# apart


async def test_worlds_share_nothing(zmock):
    await zmock.login()
    a, b = await zmock.world("a"), await zmock.world("b")
    for handle in (a, b):
        await handle.login()
    zone = await a.create("CreateZone", name="only-in-a")
    assert await zones(a) == await zones(b) | {"only-in-a"} == await zones(zmock) | {"only-in-a"}
    await a.advance(3600)
    assert a.clock.now() - b.clock.now() > 3500 and abs(b.clock.now() - zmock.clock.now()) < 60
    a.rule(api="CreateZone", then={"error": "SYS.1000"})
    assert (await b.create("CreateZone", name="z"))["uuid"] != zone["uuid"]
    with pytest.raises(RuntimeError, match="SYS.1000"):
        await a.create("CreateZone", name="z")
    await b.incident(host_down="host-1")
    states = [(await handle.query("hosts", "name=host-1"))[0]["status"] for handle in (a, b, zmock)]
    assert states == ["Connected", "Disconnected", "Connected"]
    assert {entry.world for entry in a.calls()} == {"a"} and {entry.world for entry in zmock.calls()} == {""}
    assert len(a.rules) == 1 and zmock.rules == b.rules == []
    assert [job["api"] for job in a.jobs()] == ["CreateZone", "CreateZone"] and zmock.jobs() == []
    _, answer = await ask(zmock, "PUT", "/w/a/zmock/snapshots/s", {})
    assert (await ask(zmock, "GET", "/w/a/zmock/snapshots"))[1] == {"snapshots": ["s"]}
    assert (await ask(zmock, "GET", "/w/b/zmock/snapshots"))[1] == (await ask(zmock, "GET", "/zmock/snapshots"))[1] == {"snapshots": []}


async def test_web_hooks_and_incidents_of_two_worlds_at_once_stay_apart(zmock):
    worlds = [await zmock.world(name) for name in ("a", "b")]
    for world, host in zip(worlds, ("host-1", "host-2"), strict=True):
        await world.incident(host_down=host)
        await world.login()
    hooked = [{"X-Web-Hook": f"{world.base}/zmock/hooks"} for world in worlds]
    zones = [{"params": {"name": f"zone of {world.name}"}} for world in worlds]
    await asyncio.gather(*(world.request("POST", "/zones", zone, hook) for world, zone, hook in zip(worlds, zones, hooked, strict=True)))
    await asyncio.gather(*(world.advance(1) for world in worlds))
    for world, host in zip(worlds, ("host-1", "host-2"), strict=True):
        hooks = (await ask(zmock, "GET", f"/w/{world.name}/zmock/hooks"))[1]["hooks"]
        assert [hook["body"]["inventory"]["name"] for hook in hooks] == [f"zone of {world.name}"]
        assert {item["name"] for item in await world.query("hosts", "status=Disconnected")} == {"host-4", host}  # one is so from the start
        incidents = (await ask(zmock, "GET", f"/w/{world.name}/zmock/incidents"))[1]["incidents"]
        assert len(incidents) == 1 and f"to {world.base}/zmock/hooks: taken" in world.report()
    assert (await ask(zmock, "GET", "/zmock/hooks"))[1] == {"hooks": []} and (await ask(zmock, "GET", "/zmock/incidents"))[1] == {"incidents": []}


async def test_a_session_is_one_of_its_world(zmock):
    a, b = await zmock.world("a"), await zmock.world("b")
    b.session = await a.login()
    status, answer = await b.request("GET", "/zones")
    assert status == 503 and answer["error"]["code"] == "ID.1001"


async def made(mock, name):
    """The uuids of a session and of a zone that are made in a world."""
    world = await mock.world(name)
    return await world.login(), (await world.create("CreateZone", name="z"))["uuid"]


async def test_a_world_has_uuids_of_its_own_and_repeats_them_when_it_is_made_again(zmock):
    main = await zmock.login(), (await zmock.create("CreateZone", name="z"))["uuid"]
    a, b = await made(zmock, "a"), await made(zmock, "b")
    assert len({*main, *a, *b}) == 6
    await (await zmock.world("a")).reset()
    assert await made(zmock, "a") == a
    await ask(zmock, "DELETE", "/zmock/worlds/b")
    assert await made(zmock, "b") == b
    async with serve() as other, serve(seed=2) as another:
        assert await made(other, "a") == a and await made(another, "a") != a


async def test_a_chance_falls_otherwise_in_another_world(zmock):
    async def fired(world):
        handle = await zmock.world(world)
        await handle.login()
        rule = handle.rule(api="QueryZone", probability=0.5, then={"error": "SYS.1000"})
        hits = []
        for _ in range(30):
            hits.append((await handle.request("GET", "/zones"))[0])
        assert rule.matches == 30
        return hits

    assert await fired("a") != await fired("b")
    await ask(zmock, "DELETE", "/zmock/worlds/a")
    first = await fired("a")
    await ask(zmock, "DELETE", "/zmock/worlds/a")
    assert await fired("a") == first


async def test_all_worlds_start_with_the_same_cloud(zmock):
    main = {zone["uuid"] for zone in await zmock.query("zones")}
    a = await zmock.world("a")
    assert {zone["uuid"] for zone in await a.query("zones")} == main
    await ask(zmock, "POST", "/zmock/reset", {"cloud": "empty"})
    assert await (await zmock.world("c")).query("hosts") == [] != await a.query("hosts")


async def test_a_reset_of_a_world_is_one_of_that_world_alone(zmock):
    a, b = await zmock.world("a"), await zmock.world("b")
    for handle in (zmock, a, b):
        await handle.create("CreateZone", name="new")
    await ask(zmock, "POST", "/w/a/zmock/reset")
    await a.login()
    assert "new" not in {zone["name"] for zone in await a.query("zones")}
    assert "new" in await zones(b) and "new" in await zones(zmock)


async def test_files_of_rules_hold_in_each_world(tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([{"api": "CreateZone", "times": 1, "then": {"error": "SYS.1000"}}]))
    async with serve(rules=[str(rules)]) as mock:
        for name in ("a", "b"):
            world = await mock.world(name)
            with pytest.raises(RuntimeError, match="SYS.1000"):
                await world.create("CreateZone", name="z")
            await world.create("CreateZone", name="z")


# job locations


@each(
    "settings, headers, expected",
    [
        ({}, {}, "{base}"),
        ({"dialect": "server"}, {}, "{base}"),
        ({"base_url": "https://cloud.example"}, {}, "https://cloud.example"),
        ({}, {"X_Forwarded_Host": "proxy", "X_Forwarded_Prefix": "/p"}, "http://proxy/p"),
    ],
)
@each("way", ["path", "header"])
async def test_job_locations_carry_the_prefix(settings, headers, expected, way):
    async with serve(**settings) as mock:
        session = await (await mock.world("a")).login()
        path, more = ("/w/a", {}) if way == "path" else ("", {"X_ZMock_World": "a"})
        headers = headers | more | {"Authorization": f"OAuth {session}"}
        status, answer = await ask(mock, "POST", f"{path}/zstack/v1/zones", {"params": {"name": "z"}}, **headers)
        assert status == 202 and answer["location"].startswith(expected.format(base=mock.base) + "/w/a/zstack/v1/api-jobs/")


async def test_the_location_of_a_world_behind_a_base_url_leads_back_to_it():
    async with serve(base_url="https://cloud.example/api/") as mock:
        world = await mock.world("a")
        await world.login()
        _, answer = await world.request("POST", "/zones", {"params": {"name": "z"}})
        await world.advance(1)
        assert answer["location"].startswith("https://cloud.example/api/w/a/zstack/v1/api-jobs/")
        path = answer["location"].removeprefix("https://cloud.example/api")  # as a proxy sends it on
        assert (await ask(mock, "GET", path))[1]["inventory"]["name"] == "z"
        assert world.url == f"{mock.base}/w/a/zstack/v1"  # for the test itself


async def test_a_poll_goes_where_the_location_leads(zmock):
    world = await zmock.world("a")
    await world.login()
    _, answer = await world.request("POST", "/zones", {"params": {"name": "z"}})
    await world.advance(1)
    job = answer["location"].removeprefix(zmock.base)
    status, answer = await ask(zmock, "GET", job)
    assert (status, answer["inventory"]["name"]) == (200, "z")
    assert (await ask(zmock, "GET", job.removeprefix("/w/a")))[0] == 404


async def test_a_call_as_curl_reaches_its_world(zmock):
    await ask(zmock, "PUT", "/w/a/zstack/v1/accounts/login", LOGIN)
    _, text = await ask(zmock, "GET", "/w/a/zmock/calls?as=curl")
    assert f"{zmock.base}/w/a/zstack/v1/accounts/login" in text
    _, text = await ask(zmock, "GET", "/w/a/zmock/calls?as=har")
    assert text["log"]["entries"][0]["request"]["url"] == f"{zmock.base}/w/a/zstack/v1/accounts/login"


# settings, and a port


async def test_a_world_with_settings(zmock):
    status, world = await ask(zmock, "POST", "/zmock/worlds", {"name": "s", "cloud": "empty", "dialect": "server", "delay": "1-2"})
    assert status == 200 and world["url"] == f"{zmock.base}/w/s/zstack/v1"
    assert (world["cloud"], world["dialect"], world["delay"], world["port"]) == ("empty", "server", "1-2", None)
    _, health = await ask(zmock, "GET", "/w/s/zmock/health")
    assert (health["cloud"], health["dialect"], health["data"]) == ("empty", "server", "")
    assert (await ask(zmock, "GET", "/zmock/health"))[1]["dialect"] == "manual"
    handle = await zmock.world("s")
    await handle.login()
    await handle.request("POST", "/zones", {"params": {"name": "z"}})
    await handle.advance(0.9)
    assert handle.jobs()[0]["state"] == "running"
    await handle.advance(1.2)
    assert handle.jobs()[0]["state"] == "succeeded"


@each("body, problem", [
    ({}, "a world is made of its name"),
    ([], "a world is made of its name"),
    ({"name": 1}, "'name' is a name of letters"),
    ({"name": "a/b"}, "'name' is a name of letters"),
    ({"name": "."}, "not . or .. alone"),
    ({"name": ".."}, "not . or .. alone"),
    ({"name": "x", "dialekt": "server"}, "did you mean dialect"),
    ({"name": "x", "dialect": "servr"}, "did you mean server"),
    ({"name": "x", "cloud": "demoo"}, "demoo"),
    ({"name": "x", "cloud": "/no/such.json"}, "/no/such.json"),
    ({"name": "x", "delay": "soon"}, "a delay is seconds"),
    ({"name": "x", "delay": True}, "a delay is seconds"),
    ({"name": "x", "port": -1}, "'port' is a port"),
    ({"name": "x", "port": 70000}, "'port' is a port"),
    ({"name": "x", "port": "8080"}, "'port' is a port"),
])  # fmt: skip
async def test_a_wrong_world_is_refused_and_nothing_changes(zmock, body, problem):
    status, answer = await ask(zmock, "POST", "/zmock/worlds", body)
    assert status == 400 and problem in answer["error"], answer
    assert await names(zmock) == []


async def test_a_world_that_exists_is_not_made_again(zmock):
    assert (await ask(zmock, "POST", "/zmock/worlds", {"name": "a"}))[0] == 200
    status, answer = await ask(zmock, "POST", "/zmock/worlds", {"name": "a"})
    assert status == 409 and "DELETE /zmock/worlds/a" in answer["hint"]


async def test_a_world_with_a_port_needs_no_prefix_there(zmock):
    _, world = await ask(zmock, "POST", "/zmock/worlds", {"name": "p", "port": 0})
    port = world["port"]
    assert world["url"] == f"http://127.0.0.1:{port}/zstack/v1" and port != zmock.port
    session = (await ask(zmock, "PUT", "/zstack/v1/accounts/login", LOGIN, port))[1]["inventory"]["uuid"]
    oauth = {"Authorization": f"OAuth {session}"}
    status, answer = await ask(zmock, "POST", "/zstack/v1/zones", {"params": {"name": "z"}}, port, **oauth)
    assert status == 202 and answer["location"].startswith(f"http://127.0.0.1:{port}/w/p/zstack/v1/api-jobs/")
    assert [call["path"] for call in (await ask(zmock, "GET", "/zmock/calls", None, port))[1]["calls"]] == ["/zstack/v1/accounts/login", "/zstack/v1/zones"]
    assert (await ask(zmock, "GET", "/zmock/calls"))[1]["calls"] == []
    await ask(zmock, "DELETE", "/zmock/worlds/p")
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(zmock, "GET", "/zmock/health", None, port)


async def test_all_worlds_show_through_the_port_of_one_and_it_may_drop_itself(zmock):
    await ask(zmock, "POST", "/zmock/worlds", {"name": "q"})
    port = (await ask(zmock, "POST", "/zmock/worlds", {"name": "p", "port": 0}))[1]["port"]
    _, answer = await ask(zmock, "GET", "/zmock/worlds", None, port)
    assert [(world["name"], world["port"]) for world in answer["worlds"]] == [("q", None), ("p", port)] and answer["most"] == 100
    await ask(zmock, "GET", "/w/q/zstack/v1/zones", None, port)
    await ask(zmock, "GET", "/zstack/v1/zones", None, port, X_ZMock_World="q")
    assert [len((await zmock.world(name)).calls()) for name in ("q", "p")] == [2, 0]
    assert await ask(zmock, "DELETE", "/zmock/worlds/p", None, port) == (200, {})
    assert await names(zmock) == ["q"]


async def test_a_port_in_use_makes_no_world(zmock):
    status, answer = await ask(zmock, "POST", "/zmock/worlds", {"name": "p", "port": zmock.port})
    assert status == 400 and str(zmock.port) in answer["error"]
    assert await names(zmock) == []


async def test_a_connection_to_the_port_of_a_dropped_world_reaches_no_other_world(zmock):
    port = (await ask(zmock, "POST", "/zmock/worlds", {"name": "p", "port": 0}))[1]["port"]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=1)) as http:
        waiting = asyncio.ensure_future(http.get("/zmock/wait?api=CreateZone&timeout=0.2"))  # a request under way is answered
        while not zmock.worlds.by_name["p"].requests:
            await asyncio.sleep(0)
        await ask(zmock, "DELETE", "/zmock/worlds/p")
        async with await waiting as answer:
            assert answer.status == 408
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get("/zmock/calls")
    reader, writer = await asyncio.open_connection("127.0.0.1", (await ask(zmock, "POST", "/zmock/worlds", {"name": "p", "port": 0}))[1]["port"])
    writer.write(b"GET /zmock/rules HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"200" in await reader.readline()
    await ask(zmock, "DELETE", "/zmock/worlds/p")
    async with asyncio.timeout(9):
        await reader.read()  # it ends
    writer.close()


async def test_a_connection_on_which_events_of_a_dropped_world_end_goes_on(zmock):
    async with aiohttp.ClientSession(zmock.base, connector=aiohttp.TCPConnector(limit=1)) as http:
        async with http.get("/w/a/zmock/events") as events:
            await events.content.readuntil(b"\n\n")
            peers = [connection.transport.get_extra_info("peername") for connection in zmock.runner.server.connections]
            await ask(zmock, "DELETE", "/zmock/worlds/a")
            await events.content.read()
        async with http.post("/zmock/clock", json={"advance": 1}) as answer:
            assert answer.status == 200
        assert peers == [connection.transport.get_extra_info("peername") for connection in zmock.runner.server.connections if connection.transport]


async def test_two_requests_at_once_make_one_world_with_a_port(zmock):
    body = {"name": "p", "port": 0}
    answers = await asyncio.gather(*(ask(zmock, "POST", "/zmock/worlds", body) for _ in range(3)), ask(zmock, "DELETE", "/zmock/worlds/p"), ask(zmock, "POST", "/zmock/worlds", {"name": "p"}))
    made = [world for status, world in answers if status == 200 and world]
    assert [(await ask(zmock, "GET", "/zmock/worlds"))[1]["worlds"][0]["port"]] == [world["port"] for world in made[-1:]]
    assert len(zmock._listeners()) == 1 + sum(world["port"] is not None for world in made[-1:])
    assert [*zmock.worlds.by_port] == [world["port"] for world in made[-1:] if world["port"]]


async def test_an_application_without_sockets_opens_no_port(aiohttp_client):
    client = await aiohttp_client(create_app())
    async with client.post("/zmock/worlds", json={"name": "p", "port": 0}) as answer:
        assert answer.status == 409 and "sockets" in (await answer.json())["error"]
    async with client.get("/w/a/zmock/health") as answer:
        assert answer.status == 200


# coming and going


async def test_the_world_used_least_recently_makes_room():
    async with serve(worlds=2) as mock:
        for name in ("a", "b", "a", "c"):
            await ask(mock, "GET", f"/w/{name}/zmock/health")
        assert await names(mock) == ["a", "c"]


@each("body", [{"cloud": "demoo"}, {"delay": "soon"}, {"port": 70000}, {"port": "own"}])
async def test_a_world_that_cannot_be_made_drops_no_other(body):
    async with serve(worlds=1) as mock:
        await mock.world("a")
        body = {key: mock.port if value == "own" else value for key, value in body.items()}
        assert (await ask(mock, "POST", "/zmock/worlds", {"name": "b"} | body))[0] == 400
        assert await names(mock) == ["a"]


@each(
    "method, path, headers, status",
    [
        ("GET", "/w/b/zmock/rules", {"Origin": "http://evil.example"}, 403),
        ("POST", "/w/b/zmock/reset", {"Host": "evil.example"}, 403),
        ("GET", "/zmock/health/x", {"Host": "evil.example", "X_ZMock_World": "b"}, 403),
        ("OPTIONS", "/w/b/zmock/rules", {"Origin": "http://evil.example"}, 403),
        ("GET", "/w/b/?token=wrong", {"Authorization": ""}, 401),
        ("GET", "/w/b/", {"Authorization": ""}, 401),
        ("GET", "/w/b/zmock/rules", {"Authorization": "Bearer wrong"}, 401),
    ],
)
async def test_a_refused_control_call_makes_no_world(method, path, headers, status):
    token = "right" if "Authorization" in headers else ""
    async with serve(worlds=1, control_token=token) as mock:
        await mock.world("a")
        assert (await ask(mock, method, path, **headers))[0] == status
        assert [*mock.worlds.by_name] == ["a"]


@each("path", ["/w/b/zmock/health", "/w/b/zmock/openapi.json", "/w/b/?token=right"])
async def test_what_anybody_may_ask_makes_a_world(path):
    async with serve(control_token="right") as mock:
        assert (await ask(mock, "GET", path))[0] in (200, 401)  # the client of this test has no cookies of 127.0.0.1
        assert [*mock.worlds.by_name] == ["b"]


async def test_a_world_at_work_stays_and_if_all_are_there_is_no_room():
    async with serve(worlds=2) as mock:
        a, _ = await mock.world("a"), await mock.world("b")
        await a.login()
        await a.request("POST", "/zones", {"params": {"name": "z"}}, {"X-ZMock-Hold": "60"})
        await mock.world("c")
        assert await names(mock) == ["a", "c"]
        waiting = asyncio.ensure_future(ask(mock, "GET", "/w/c/zmock/wait?api=CreateZone&timeout=600"))
        while not (await ask(mock, "GET", "/zmock/worlds"))[1] or not mock.worlds.by_name["c"].requests:
            await asyncio.sleep(0)
        status, answer = await ask(mock, "GET", "/w/d/zstack/v1/zones")
        assert status == 503 and "all 2 worlds are at work" in answer["error"]["details"]
        assert (await ask(mock, "GET", "/w/d/zmock/health"))[0] == 503
        await ask(mock, "POST", "/zmock/worlds", {"name": "d"})
        waiting.cancel()


async def test_without_room_for_worlds_there_are_none():
    async with serve(worlds=0) as mock:
        status, answer = await ask(mock, "GET", "/w/a/zstack/v1/zones")
        assert status == 404 and answer["error"]["details"] == "this mock has no other worlds"
        for method, path, body in (("GET", "/w/a/zmock/health", None), ("POST", "/zmock/worlds", {"name": "a"})):
            assert await ask(mock, method, path, body) == (404, {"error": "this mock has no other worlds", "hint": "start with --worlds N"})
    with pytest.raises(SettingsError, match="--worlds"):
        Settings(worlds=-1)


async def test_what_is_under_way_in_a_dropped_world_fails(zmock):
    world = await zmock.world("a")
    await world.login()
    world.rule(api="QueryZone", delay=30)
    waiting = asyncio.ensure_future(world.request("GET", "/zones"))
    while not world.clock.sleepers:
        await asyncio.sleep(0)
    async with aiohttp.ClientSession() as http, http.get(f"{world.base}/zmock/events") as events:
        await events.content.readline()
        assert (await ask(zmock, "DELETE", "/zmock/worlds/a"))[0] == 200
        await events.read()  # it ends
    status, answer = await waiting
    assert status == 503 and answer["error"]["code"] == "SYS.1012"
    status, answer = await ask(zmock, "DELETE", "/zmock/worlds/a")
    assert status == 404 and answer["error"] == "no world 'a'"


# the page, the index, other paths


async def test_a_world_has_a_page_and_control_calls(zmock):
    for path in ("/w/a/", "/w/a", "/w/a/zmock"):
        status, page = await ask(zmock, "GET", path, Accept="text/html")
        assert status == 200 and "<html" in page
    assert "GET /zmock/worlds" in (await ask(zmock, "GET", "/w/a/zmock"))[1]["calls"]
    status, answer = await ask(zmock, "GET", "/w/a/zmock/jbos")
    assert status == 404 and "did you mean jobs" in answer["error"]
    status, answer = await ask(zmock, "GET", "/w/a/nowhere")
    assert status == 404 and answer["error"]["details"].startswith("no api mapping to /nowhere")
    assert (await ask(zmock, "DELETE", "/w/a/zmock/health"))[0] == 405
    servers = [(await ask(zmock, "GET", f"{prefix}/zmock/openapi.json"))[1]["servers"] for prefix in ("", "/w/a")]
    assert servers == [[{"url": "/zstack/v1"}], [{"url": "/w/a/zstack/v1"}]]


@pytest.mark.zmock(control_token="secret")
async def test_a_token_opens_the_page_of_each_world(zmock):
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(f"{zmock.base}/w/a/zmock/rules") as answer:
            assert answer.status == 401
        async with http.get(f"{zmock.base}/w/a/?token=secret") as answer:
            assert answer.status == 200 and answer.url.path == "/w/a/"
        for world in ("", "/w/a", "/w/b"):
            async with http.get(f"{zmock.base}{world}/zmock/rules") as answer:
                assert answer.status == 200


async def test_a_proxy_may_send_the_whole_address(zmock):
    reader, writer = await asyncio.open_connection("127.0.0.1", zmock.port)
    writer.write(f"GET {zmock.base}/w/a/zstack/v1/zones HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()
    assert [call.api for call in (await zmock.world("a")).calls()] == ["QueryZone"]


async def test_a_page_of_another_origin_reads_a_world_as_it_reads_the_main_one(zmock):
    async with aiohttp.ClientSession(headers={"Origin": "http://localhost:5173"}) as http:
        async with http.get(zmock.base + "/zstack/v1/zones", headers={"X-ZMock-World": "a b"}) as wrong:
            assert wrong.status == 400 and wrong.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        for base in (zmock.base, zmock.base + "/w/a"):
            async with http.get(base + "/zstack/v1/zones") as api, http.get(base + "/zmock/rules") as control:
                assert api.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
                assert control.status == 403


# the handle


async def test_the_handle_of_a_world_is_one_like_that_of_the_mock(zmock):
    world = await zmock.world("a")
    assert world is await zmock.world("a")
    assert world.url == f"{zmock.url.removesuffix('/zstack/v1')}/w/a/zstack/v1"
    with pytest.raises(ValueError, match="letters, digits"):
        await zmock.world("a b")
    world.db.table("Zone").update({"name": "renamed"})
    assert {zone["name"] for zone in await world.query("zones")} == {"renamed"}
    assert "renamed" not in await zones(zmock)


def test_the_handle_of_a_world_in_a_thread(zmock_server):
    world = zmock_server.world("a")
    world.login()
    world.create("CreateZone", name="z")
    world.rule(api="CreateZone", probability=0.5, then={"error": "SYS.1000"})
    assert [entry.api for entry in world.calls("CreateZone")] == ["CreateZone"]
    assert world.advance(10) == [] and len(world.rules) == 1
    assert world.query("zones", "name=z") and not zmock_server.query("zones", "name=z")


def test_a_test_meets_no_world_of_another_test(zmock_server):
    assert zmock_server.world("a").calls() == []


async def test_the_terminal_forgets_a_world_that_is_dropped(zmock):
    terminal = Terminal(io.StringIO())
    zmock.worlds.followers.append(terminal.follow)
    for number in range(3):
        await ask(zmock, "GET", f"/w/w{number}/zstack/v1/zones")
    zmock.drop_worlds()
    await zmock.advance(1)
    gc.collect()
    assert [*terminal.rests] == []


async def test_the_terminal_names_the_world_of_a_call(capsys, tmp_path):
    stream = io.StringIO()
    with Terminal(stream) as terminal:
        async with serve() as mock:
            terminal.follow(mock.rest)
            mock.worlds.followers.append(terminal.follow)
            await ask(mock, "PUT", "/w/a/zstack/v1/accounts/login", LOGIN)
            await ask(mock, "PUT", "/zstack/v1/accounts/login", LOGIN)
    lines = [line for line in stream.getvalue().splitlines() if "LogInByAccount" in line]
    assert ["/w/a/" in line for line in lines] == [True, False]


# from any language

EXAMPLES = ROOT / "tests" / "examples"


async def printed(*command):
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


async def worker_in_python(mock, name, tests):
    """Tests in a world: how many have found it as they left it."""
    world, passed = await mock.world(name), 0
    for n in range(tests):
        await world.control.reset_to("empty")
        world.session = None
        await world.create("CreateZone", name=f"{name}-{n}")
        passed += [zone["name"] for zone in await world.query("zones")] == [f"{name}-{n}"]
    return str(passed)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("java")), reason="needs node and java")
async def test_200_tests_in_8_worlds_at_once_from_three_languages(zmock):
    workers = [worker_in_python(zmock, f"python-{n}", 25) for n in range(3)]
    workers += [printed("node", EXAMPLES / "worlds.mjs", zmock.url, f"node-{n}", 25) for n in range(3)]
    workers += [printed("java", EXAMPLES / "Worlds.java", zmock.url, f"java-{n}", 25) for n in range(2)]
    assert await asyncio.gather(*workers) == 8 * ["25"]
    assert sorted(await names(zmock)) == ["java-0", "java-1", "node-0", "node-1", "node-2", "python-0", "python-1", "python-2"]
