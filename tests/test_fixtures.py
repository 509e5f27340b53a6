"""The handle, and the fixture that gives it."""

import asyncio
import contextlib
import gc
import importlib.util
import inspect
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
import warnings
from pathlib import Path

import aiohttp
import pytest

from zmock import Settings, SettingsError, create_app, exchange, main, named, serve

ROOT = Path(__file__).parent.parent


async def test_the_handle_speaks_the_cloud(zmock):
    assert zmock.url == zmock.base + "/zstack/v1"
    session = await zmock.login()
    assert len(session) == 32
    zone = await zmock.create("CreateZone", name="z")
    assert [item["uuid"] for item in await zmock.query("zones", "name=z", "state=Enabled")] == [zone["uuid"]]
    assert (await zmock.act("zones", zone["uuid"], "changeZoneState", stateEvent="disable"))["state"] == "Disabled"
    assert await zmock.delete("zones", zone["uuid"]) is None
    assert await zmock.query("zones", "name=z") == []


async def test_the_handle_logs_in_by_itself(zmock):
    assert zmock.session is None
    assert (await zmock.create("CreateZone", name="z"))["name"] == "z"
    assert zmock.session


async def test_a_request_comes_back_as_status_and_json(zmock):
    assert await zmock.request("PUT", "/management-nodes/actions", {"getVersion": {}}) == (200, {"version": "2.5.1"})
    status, body = await zmock.request("GET", "/zones")
    assert (status, body["error"]["details"]) == (400, "missing header 'Authorization'")
    await zmock.login()
    assert (await zmock.request("GET", "/zones", headers={"Authorization": "OAuth wrong"}))[1]["error"]["code"] == "ID.1001"


@pytest.mark.parametrize(
    ("api", "params", "told"),
    (
        ("CreateZone", {}, "SYS.1007: field[name] of message"),
        ("DeleteLongJob", {"uuid": named("nothing")}, "SYS.1003: invalid field[uuid]"),
    ),
)
async def test_an_error_is_raised_with_what_the_mock_said(zmock, api, params, told):
    with pytest.raises(RuntimeError) as error:
        await zmock.call(api, **params)
    assert str(error.value).startswith(told)


async def test_any_api_can_be_called_by_its_name(zmock):
    assert (await zmock.call("GetVersion")) == {"version": "2.5.1"}
    assert (await zmock.call("GetCpuMemoryCapacity", hostUuids=[named("host-1"), named("host-2")]))["managedCpuNum"] == 32
    attached = await zmock.call("AttachDataVolumeToVm", volumeUuid=named("volume-spare"), vmInstanceUuid=named("vm-web-1"))
    assert attached["inventory"]["vmInstanceUuid"] == named("vm-web-1")
    assert await zmock.call("DeleteZone", uuid=named("zone-1")) == {}


@pytest.mark.parametrize("value", ("a?b=c", "a#b", "%41", "a b", "许可证"))
async def test_a_parameter_in_the_path_arrives_as_it_is(zmock, value):
    with pytest.raises(RuntimeError, match="invalid value"):
        await zmock.call("DeleteZone", uuid=value)
    assert [call.params for call in zmock.calls("DeleteZone")] == [{"uuid": value}]


async def test_rules_calls_and_jobs_are_at_hand(zmock):
    rule = zmock.rule(api="CreateZone", times=1, then={"error": "SYS.1006"})
    with pytest.raises(RuntimeError, match=r"SYS\.1006"):
        await zmock.create("CreateZone", name="z")
    await zmock.create("CreateZone", name="z")
    assert (zmock.rules, rule.hits) == ([rule], 1)
    assert [call.status for call in zmock.calls("CreateZone")] == [202, 202]
    assert [job["state"] for job in zmock.jobs() if job["api"] == "CreateZone"] == ["failed", "succeeded"]
    assert len(zmock.calls()) == 5


async def test_a_wrong_rule_is_an_error_of_the_test(zmock):
    with pytest.raises(ValueError, match="did you mean CreateZone?"):
        zmock.rule(api="CreateZon")


async def test_time_stands_still_until_it_is_moved(zmock):
    before = zmock.clock.now()
    await asyncio.sleep(0)
    assert zmock.clock.now() == before
    await zmock.advance(90)
    assert zmock.clock.now() == before + 90


async def test_reset_gives_the_cloud_of_the_start(zmock):
    session = await zmock.login()
    await zmock.delete("vm-instances", named("vm-web-1"))
    await zmock.reset()
    assert (zmock.session, zmock.calls(), zmock.jobs()) == (None, [], [])
    assert await zmock.login() == session
    assert (await zmock.query("vm-instances", "name=web-1"))[0]["state"] == "Running"


@pytest.mark.parametrize("name", ("vm-web-1", "zone-1", "host-1", "image-centos7", "l3-private", "volume-spare", "offering-small"))
async def test_things_of_the_demo_cloud_have_uuids_that_can_be_named(zmock, name):
    collection = {"vm": "vm-instances", "zone": "zones", "host": "hosts", "image": "images", "l3": "l3-networks", "volume": "volumes",
                  "offering": "instance-offerings"}[name.partition("-")[0]]  # fmt: skip
    (found,) = await zmock.query(collection, f"uuid={named(name)}")
    assert found["name"] in (name, name.partition("-")[2])


class TestSettings:
    @pytest.fixture
    def zmock_settings(self):
        return {"cloud": "empty", "delay": "10", "dialect": "server"}

    async def test_a_fixture_sets_what_the_command_line_sets(self, zmock):
        await zmock.login()
        assert await zmock.query("zones") == []
        _, body = await zmock.request("POST", "/zones", {"params": {"name": "z"}})
        job = body["location"][-32:]
        assert await zmock.request("GET", f"/api-jobs/{job}") == (202, None)
        await zmock.advance(10)
        assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == 200

    async def test_the_handle_waits_for_slow_calls_by_moving_time(self, zmock):
        before = zmock.clock.now()
        assert (await zmock.create("CreateZone", name="z"))["name"] == "z"
        assert zmock.clock.now() == before + 10


async def test_ten_mocks_live_side_by_side():
    mocks = [serve(seed=n) for n in range(10)]
    for mock in mocks:
        await mock.__aenter__()
    await asyncio.gather(*(mock.create("CreateZone", name=f"z{n}") for n, mock in enumerate(mocks)))
    names = [[zone["name"] for zone in await mock.query("zones", "name!=zone-1")] for mock in mocks]
    for mock in mocks:
        await mock.__aexit__()
    assert names == [[f"z{n}"] for n in range(10)]
    assert len({mock.base for mock in mocks}) == 10


async def test_the_bare_application_goes_into_another_client(aiohttp_client):
    client = await aiohttp_client(create_app())
    answer = await client.put("/zstack/v1/management-nodes/actions", json={"getVersion": {}})
    assert await answer.json() == {"version": "2.5.1"}


def answers(base):
    """Whether the mock answers a request."""
    try:
        return urllib.request.urlopen(f"{base}/zmock/health", timeout=5).status == 200
    except OSError:
        return False


async def test_a_mock_goes_down_and_comes_back_on_its_port_as_it_was(zmock):
    await zmock.create("CreateZone", name="z")
    zmock.down()
    zmock.down()
    for client in (zmock.login(), zmock.query("zones")):
        with pytest.raises(aiohttp.ClientConnectionError):
            await client
    base = zmock.base
    zmock.up()
    zmock.up()
    assert [zone["name"] for zone in await zmock.query("zones", "name=z")] == ["z"]
    assert zmock.base == base


@pytest.mark.zmock(rules=[{"api": "QueryZone", "delay": 60}])
async def test_connections_break_when_it_goes_down(zmock):
    await zmock.login()
    waiting = asyncio.ensure_future(zmock.request("GET", "/zones"))
    while not zmock.rules[0].hits:
        await asyncio.sleep(0)
    zmock.down()
    with pytest.raises(aiohttp.ClientConnectionError):
        await waiting


async def test_worlds_with_a_port_go_on_when_it_goes_down(zmock):
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{zmock.base}/zmock/worlds", json={"name": "p", "port": 0}) as answer:
            base = f"http://127.0.0.1:{(await answer.json())['port']}"
        waiting = asyncio.ensure_future(http.get(f"{base}/zmock/wait?api=GetVersion"))
        while not zmock.worlds.by_name["p"].requests:
            await asyncio.sleep(0)
        zmock.down()
        assert not await asyncio.to_thread(answers, zmock.base)
        async with http.put(f"{base}/zstack/v1/management-nodes/actions", json={"getVersion": {}}) as answer:
            assert answer.status == 200
        async with await waiting as answer:  # its connection did not break
            assert answer.status == 200
    zmock.up()
    assert await asyncio.to_thread(answers, zmock.base)


async def test_a_test_uses_unix_sockets_beside_the_mock(zmock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), "s")
    for path in ("s", b"s", str(tmp_path / "s")[-100:]):
        if os.path.exists(path):
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()
    server.close()


# one request


@pytest.mark.parametrize("at", ("accept", "after"))
@pytest.mark.parametrize("method", ("GET", "POST", "PUT", "DELETE"))
async def test_a_request_whose_connection_breaks_is_not_sent_again(zmock, method, at):
    zone, path = named("zone-1"), "/zones" if method == "POST" else f"/zones/{named('zone-1')}" + "/actions" * (method == "PUT")
    body = {"POST": {"params": {"name": "z"}}, "PUT": {"updateZone": {"name": "y"}}}.get(method)
    await zmock.login()
    rule = zmock.rule(api="*Zone", then={"drop": "reset", "at": at})
    with pytest.raises(OSError, match=f"^{method} .*/zones.*: ."):
        await zmock.request(method, path, body)
    await zmock.advance(60)
    assert (rule.hits, [call.method for call in zmock.calls()[1:]]) == (1, [method])
    zmock.rest.faults.clear()
    names = [item["name"] for item in await zmock.query("zones", f"uuid={zone}")]
    assert names == (["zone-1"] if at == "accept" or method in ("GET", "POST") else ["y"] if method == "PUT" else [])


@pytest.mark.parametrize("drop", ("reset", "empty", "truncate", "garbage"))
async def test_an_answer_that_breaks_is_an_os_error_and_one_call(zmock, drop):
    await zmock.login()
    rule = zmock.rule(api="QueryZone", then={"drop": drop})
    with pytest.raises(OSError, match="/zstack/v1/zones: ."):
        await zmock.request("GET", "/zones")
    assert (rule.hits, len(zmock.calls("QueryZone"))) == (1, 1)


@pytest.mark.zmock(rules=[{"api": "QueryZone", "then": {"drop": "dribble"}}], clock="warp")
async def test_an_answer_that_dribbles_comes_whole(zmock):
    await zmock.login()
    assert (await zmock.request("GET", "/zones?fields=name"))[1] == {"inventories": [{"name": "zone-1"}]}


@pytest.mark.parametrize("given", ({"authorization": "OAuth wrong"}, {"AUTHORIZATION": "OAuth wrong"}))
async def test_a_header_that_is_given_stands_in_place_of_the_handles_own(zmock, given):
    await zmock.login()
    assert (await zmock.request("GET", "/zones", headers=given))[1]["error"]["code"] == "ID.1001"


async def test_a_mock_whose_start_failed_is_not_started_again():
    mock = serve(host="192.0.2.1")
    for error in (SettingsError, RuntimeError):
        with pytest.raises(error):
            await mock.__aenter__()


async def test_the_handle_uses_no_library_that_a_test_has_patched(zmock, monkeypatch):
    async def patched(*given, **told):
        raise aiohttp.ClientConnectionError("intercepted, as by aioresponses")

    monkeypatch.setattr(aiohttp.ClientSession, "_request", patched)
    monkeypatch.setattr("http.client.HTTPConnection.request", patched)
    assert (await zmock.create("CreateZone", name="z"))["name"] == "z"


@pytest.mark.parametrize("seconds", (float("inf"), float("nan"), -5, 1e10, "5", None, True))
async def test_time_goes_on_by_a_number_of_seconds_and_by_nothing_else(zmock, seconds):
    with pytest.raises(ValueError, match="a number of seconds from 0 to 1e9"):
        await zmock.advance(seconds)


def test_a_folder_that_is_named_is_used(tmp_path):
    with serve(data=tmp_path / "cloud") as mock:
        mock.create("CreateZone", name="kept")
    with serve(data=tmp_path / "cloud") as mock:
        assert mock.query("zones", "name=kept")


@pytest.mark.zmock(dialect="server")
@pytest.mark.parametrize(("params", "why"), [({"price": "x"}, "[price] field is excepted a double, but was [x]."), ({"timeUnit": []}, "java.lang.IllegalStateException: Expected a string")])
async def test_a_refusal_in_plain_text_is_an_error_too(zmock, params, why):
    with pytest.raises(RuntimeError, match="^" + re.escape(why)):
        await zmock.call("CreateResourcePrice", **{"resourceName": "cpu", "timeUnit": "h", "price": 1} | params)


ANSWERS = {
    b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nno": (302, "no"),
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, ""),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n": (200, "abc"),
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=gbk\r\n\r\n" + "区域".encode("gbk"): (200, "区域"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab": OSError,
    b"nonsense\r\n\r\n": OSError,
    b"": OSError,
}


@pytest.mark.parametrize("octets", ANSWERS)
async def test_an_exchange_is_one_request_and_what_came_of_it(octets):
    seen = []

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(octets)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/zones?q=name=区 域&q=a%25"
        with pytest.raises(OSError) if ANSWERS[octets] is OSError else contextlib.nullcontext():
            assert await exchange("GET", url, {"A": "b"}, b"", []) == ANSWERS[octets]
    (request,) = seen
    assert request.startswith(b"GET /zones?q=name=%E5%8C%BA%20%E5%9F%9F&q=a%25 HTTP/1.1\r\nHost: 127.0.0.1:")


# processes


@contextlib.contextmanager
def forked():
    """A child process that holds all that was open when it was forked."""
    process = multiprocessing.get_context("fork")
    end = process.Event()
    child = process.Process(target=end.wait, args=(60,))
    child.start()
    yield child
    end.set()
    child.join(10)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_keep_the_mock_up_and_its_port_taken(zmock_server):
    port = int(zmock_server.base.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.settimeout(5)
        zmock_server.login()  # the connection is accepted by now
        for _ in range(2):  # the second time, the child holds a socket that was bound to this very port
            with forked() as child:
                zmock_server.down()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=5)
                with contextlib.suppress(ConnectionResetError):
                    assert idle.recv(1) == b""
                zmock_server.up()
                assert child.is_alive() and zmock_server.query("zones", "name=zone-1")
                zmock_server.down()
                zmock_server.up()
                assert answers(zmock_server.base)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_in_a_forked_child_the_handle_says_so_at_once(zmock_server):
    process = multiprocessing.get_context("fork")
    told, tell = process.Pipe(duplex=False)

    def use():
        try:
            zmock_server.login()
        except RuntimeError as error:
            tell.send(str(error))

    child = process.Process(target=use)
    child.start()
    assert told.poll(10) and "in the process that this one was forked from" in told.recv()
    child.join(10)


# warnings


def leftovers(act):
    """The ResourceWarnings of what act() leaves open."""
    gc.collect()  # what others left is not counted
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(SettingsError, ValueError, ZeroDivisionError, RuntimeError):
            act()
        gc.unfreeze()  # a server freezes what its start has made
        gc.collect()
    return [str(warning.message) for warning in caught if warning.category is ResourceWarning]


def use_and_leave(**settings):
    with serve(**settings) as mock:
        mock.create("CreateZone", name="z")
        exchanged = mock.thread.run(exchange("PUT", f"{mock.base}/zmock/snapshots/s", {"Content-Type": "application/json"}, b"{}", mock.handle.idle))
        assert exchanged[0] == 200
        1 / 0  # noqa: B018


def start_without_a_loop(**settings):
    serve(**settings).__aenter__().send(None)


def serve_twice(**settings):
    with serve(**settings):
        serve(**settings)


LEFT = {
    "used": use_and_leave,
    "never entered": serve,
    "the application alone": lambda **settings: create_app(Settings(port=0, **settings)),
    "no loop, as under trio": start_without_a_loop,
    "a host that is not here": lambda **settings: serve(host="192.0.2.1", **settings).__enter__(),
    "a rule that is none": lambda **settings: serve(rules=[{"api": "CreateZon"}], **settings),
    "rules that are not there": lambda **settings: serve(rules="nowhere.json", **settings),
    "a cloud that is not there": lambda **settings: serve(cloud="nowhere.json", **settings),
    "a folder in use": serve_twice,
    "the command line": lambda **settings: main(["--port", "0", "--host", "192.0.2.1", "--data", settings["data"]]),
}


@pytest.mark.parametrize("how", LEFT)
def test_no_file_and_no_socket_is_left_open(tmp_path, how):
    folder = tmp_path / "cloud"
    assert leftovers(lambda: LEFT[how](memory=False, data=str(folder))) == []
    with serve(memory=False, data=str(folder)) as mock:  # nor is the folder still taken
        assert mock.query("zones", "name=zone-1")


def test_without_a_loop_one_line_says_what_to_write():
    with pytest.raises(RuntimeError, match="zmock runs on asyncio, and no asyncio loop runs here.*with serve\\(\\) as mock"):
        start_without_a_loop()


async def test_up_and_down_as_fast_as_one_likes(zmock):
    for pause in (0, 1, 0, 2, 1):
        zmock.down()
        for _ in range(pause):
            await asyncio.sleep(0)
        zmock.up()
        for _ in range(pause):
            await asyncio.sleep(0)
    assert await zmock.login()


@pytest.mark.zmock(cloud="empty", rules=[{"api": "CreateZone", "times": 1, "then": {"error": "SYS.1006"}}])
class TestMarkers:
    async def test_a_class_marks_its_tests(self, zmock):
        assert (await zmock.query("zones"), len(zmock.rules)) == ([], 1)
        with pytest.raises(RuntimeError, match=r"SYS\.1006"):
            await zmock.create("CreateZone", name="z")

    @pytest.mark.zmock(cloud="demo", rules=[])
    def test_the_nearest_marker_wins(self, zmock_server):
        assert (len(zmock_server.query("zones")), zmock_server.rules) == (1, [])

    async def test_a_reset_brings_back_the_rules_of_the_marker_and_its_cloud(self, zmock):
        zmock.rule(api="QueryZone", then={"error": "SYS.1006"})
        await zmock.control.reset_to("demo")
        await zmock.reset()
        assert ([rule.definition["api"] for rule in zmock.rules], await zmock.query("zones")) == (["CreateZone"], [])
        with pytest.raises(RuntimeError):
            await zmock.create("CreateZone", name="z")


def test_the_handle_without_await_speaks_the_cloud(zmock_server):
    session = zmock_server.login()
    assert (zmock_server.session, zmock_server.url) == (session, zmock_server.base + "/zstack/v1")
    zone = zmock_server.create("CreateZone", name="z")
    assert zmock_server.act("zones", zone["uuid"], "changeZoneState", stateEvent="disable")["state"] == "Disabled"
    assert zmock_server.delete("zones", zone["uuid"]) is None
    assert zmock_server.query("zones", "name=z") == []
    assert zmock_server.call("GetVersion") == {"version": "2.5.1"}
    assert zmock_server.request("PUT", "/management-nodes/actions", {"getVersion": {}})[0] == 200
    assert zmock_server.finish("POST", "/zones", {"params": {"name": "y"}})["inventory"]["name"] == "y"
    incident = zmock_server.incident(host_down="host-1")
    assert zmock_server.query("vm-instances", "name=web-1")[0]["state"] == "Unknown"
    zmock_server.end_incident(incident["id"])
    rule = zmock_server.rule(api="CreateZone", then={"error": "SYS.1006"})
    with pytest.raises(RuntimeError, match=r"SYS\.1006"):
        zmock_server.create("CreateZone", name="z")
    assert (zmock_server.rules, rule.hits, len(zmock_server.calls("CreateZone"))) == ([rule], 1, 3)
    assert [job["state"] for job in zmock_server.jobs() if job["api"] == "CreateZone"] == ["succeeded", "succeeded", "failed"]
    now = zmock_server.clock.now()
    zmock_server.advance(3600)
    assert zmock_server.clock.now() == now + 3600
    zmock_server.reset()
    assert (zmock_server.session, zmock_server.calls(), zmock_server.rules) == (None, [], [])


async def test_the_handle_without_await_has_all_methods(zmock, zmock_server):
    methods = {name for name in dir(zmock) if not name.startswith("_") and inspect.ismethod(getattr(zmock, name))}
    assert methods - {name for name in dir(zmock_server) if not name.startswith("_")} == {"hang_up", "listens_at"}


@pytest.mark.zmock(strict=True)
def test_strict_of_the_marker_is_about_rules_and_strict_of_serve_about_calls(zmock_server):
    zmock_server.login()
    with serve(strict=True) as mock:
        mock.login()
        statuses = [handle.request("GET", "/zones?limt=1")[0] for handle in (zmock_server, mock)]
    assert statuses == [200, 400]


@pytest.mark.zmock(strict=False)
def test_each_test_finds_the_server_of_its_worker_at_the_same_place_as_new(zmock_server, zmock_thread):
    base = zmock_server.base
    for n in range(3):
        mock = zmock_thread.take({})
        assert (mock.base, mock.calls(), mock.rules, mock.session) == (base, [], [], None)
        assert answers(mock.base)
        mock.create("CreateZone", name=f"z{n}")
        assert len(mock.query("zones")) == 2
        mock.rule(api="Query*", skip=10, then={"error": "SYS.1006"})
        mock.down()


def test_other_settings_have_another_server(zmock_server, zmock_thread):
    other = zmock_thread.take({"dialect": "server"})
    assert other.base != zmock_server.base
    other.login()
    assert other.request("GET", "/zones")[1]["schema"]


def test_serve_without_asyncio_gives_the_same_handle():
    with serve(cloud="empty") as mock, serve() as other:
        assert (mock.query("zones"), len(other.query("zones"))) == ([], 1)
        threads = [thread.name for thread in threading.enumerate()]
    assert not answers(mock.base)
    assert [thread.name for thread in threading.enumerate()].count("zmock") == threads.count("zmock") - 2
    with pytest.raises(RuntimeError, match="this mock has ended"):
        mock.query("zones")


async def test_what_is_raised_inside_leaves_and_the_mock_is_gone():
    for how in ("with", "async with"):
        with pytest.raises(ZeroDivisionError):
            if how == "with":
                with serve() as mock:
                    raise ZeroDivisionError
            async with serve() as mock:
                raise ZeroDivisionError
        assert not answers(mock.base)


def misused():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    return taken, (
        (lambda: serve(colud="empty"), SettingsError, "there is no setting colud, did you mean cloud?"),
        (lambda: serve(dialect="servr"), SettingsError, "did you mean server?"),
        (lambda: serve(cloud=5), SettingsError, "--cloud is demo, empty, large:N or a JSON file, not '5'"),
        (lambda: serve(port="x"), SettingsError, "port is an int, not 'x'"),
        (lambda: serve(open=1), SettingsError, "open is a bool, not 1"),
        (lambda: serve(cloud=True), SettingsError, "cloud is a str, not True"),
        (lambda: serve(rules=3), SettingsError, "rules is a list of rules, or of files with rules, not 3"),
        (lambda: serve(rules=[3]), SettingsError, "rules is a list of rules, or of files with rules, not [3]"),
        (lambda: serve(rules=[{"api": "CreateZon"}]), ValueError, "did you mean CreateZone?"),
        (lambda: serve(rules="nowhere.json"), SettingsError, "nowhere.json"),
        (lambda: serve(rules=[{"api": "CreateZone", "thn": {}}]), ValueError, "did you mean then?"),
        (lambda: serve().url, RuntimeError, "async with serve() as mock"),
        (lambda: serve(port=port).__enter__(), SettingsError, f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port"),
        (lambda: serve(port=70000).__enter__(), SettingsError, "port"),
        (lambda: serve(host="256.1.1.1").__enter__(), SettingsError, "cannot listen on 256.1.1.1:0"),
    )


@pytest.mark.parametrize("n", range(15))
def test_a_mistake_is_one_line_that_says_what_to_write(n):
    taken, table = misused()
    act, kind, told = table[n]
    before = threading.active_count()
    with taken, pytest.raises(kind) as error:
        act()
    assert told in str(error.value) and "\n" not in str(error.value)
    assert threading.active_count() == before


async def test_a_mock_runs_once_and_a_name_that_is_no_api_is_an_error(zmock):
    with pytest.raises(RuntimeError, match="a mock runs once"):
        await zmock.__aenter__()
    with pytest.raises(ValueError, match="did you mean CreateZone?"):
        zmock.calls("CreatZone")
    with pytest.raises(ValueError, match="did you mean CreateZone?"):
        await zmock.create("CreatZone", name="z")
    assert zmock.calls("PollJob") == []


IN_ANOTHER_PROJECT = '''
import gc
import weakref

import pytest

NO = {"error": "SYS.1006", "details": "no"}
MOCKS = weakref.WeakSet()


@pytest.fixture
def zmock_settings():
    return {"cloud": "empty"}


@pytest.mark.asyncio
async def test_first(zmock):
    MOCKS.add(zmock)
    await zmock.create("CreateZone", name="z")
    assert len(await zmock.query("zones")) == 1


@pytest.mark.asyncio
async def test_second(zmock):
    assert await zmock.query("zones") == []
    gc.collect()
    assert not MOCKS  # the mock of an earlier test is let go


def test_third(zmock_server):
    assert zmock_server.query("zones") == []
'''
THAT_FAIL = '''

@pytest.mark.zmock(colud="empty")
def test_unknown_setting(zmock_server): ...


@pytest.mark.asyncio
@pytest.mark.zmock("empty")
async def test_no_keyword(zmock): ...


@pytest.mark.zmock(dialect="servr")
def test_wrong_value(zmock_server): ...


@pytest.mark.zmock(rules=[{"api": "CreateZon"}])
def test_wrong_rule(zmock_server): ...


@pytest.mark.zmock(rules=[{"api": "CreateZone", "then": NO}])
def test_unused_rule(zmock_server): ...


@pytest.mark.zmock(rules=[{"api": "CreateZone", "then": NO}], strict=False)
def test_rule_that_may_be_unused(zmock_server): ...


@pytest.mark.asyncio
@pytest.mark.zmock(delay=5)
async def test_reported(zmock):
    zmock.rule(api="LogOut", id="never", then=NO)
    zmock.rule(api="LogInByAccount", id="slow", times=1, delay=0)
    await zmock.login()
    await zmock.request("GET", "/zons")
    await zmock.request("POST", "/zones", {"params": {"name": "z"}})
    raise AssertionError("as wished")
'''


# loops

IN_OTHER_LOOPS = '''
import asyncio
import json
import unittest
import urllib.request

import pytest
import pytest_asyncio


async def ask(url):
    """A client of asyncio."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    writer.write(b"GET /zmock/health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")


def block(url):
    """A client that blocks."""
    urllib.request.urlopen(url.replace("/zstack/v1", "/zmock/health"), timeout=30).close()


def test_sync(zmock):
    block(zmock.url)


@pytest.mark.asyncio
async def test_plain(zmock):
    await ask(zmock.url)
    await zmock.create("CreateZone", name="z")


@pytest.mark.asyncio(loop_scope="class")
class TestClass:
    async def test_class(self, zmock):
        await ask(zmock.url)
        await zmock.login()


@pytest.mark.asyncio(loop_scope="module")
async def test_module(zmock):
    await ask(zmock.url)
    await zmock.login()


@pytest.mark.asyncio(loop_scope="package")
async def test_package(zmock):
    await ask(zmock.url)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("n", range(2))
async def test_session(zmock, n):
    await ask(zmock.url)
    await zmock.create("CreateZone", name="z")
    assert len(await zmock.query("zones")) == 2


@pytest_asyncio.fixture(loop_scope="module")
async def module(zmock):
    await zmock.login()
    return zmock


@pytest.mark.asyncio(loop_scope="module")
async def test_fixture_of_the_same_loop(module):
    await ask(module.url)


@pytest_asyncio.fixture(loop_scope="function")
async def elsewhere(zmock):
    await zmock.login()


@pytest.mark.asyncio(loop_scope="module")
async def test_fixture_of_another_loop(elsewhere): ...


@pytest_asyncio.fixture(loop_scope="function")
async def client_elsewhere(zmock):
    await ask(zmock.url)


@pytest.mark.asyncio(loop_scope="module")
async def test_client_in_another_loop(client_elsewhere): ...


@pytest.mark.asyncio
async def test_blocking(zmock):
    block(zmock.url)


@pytest.mark.asyncio
async def test_in_a_thread(zmock):
    await asyncio.to_thread(block, zmock.url)
    await asyncio.to_thread(asyncio.run, ask(zmock.url))


@pytest.mark.asyncio
async def test_server(zmock_server):
    block(zmock_server.url)
    await ask(zmock_server.url)
    assert zmock_server.login()


class TestUnit(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def take(self, request):
        self.mock = request.getfixturevalue("zmock" if "isolated" in request.node.name else "zmock_server")

    async def test_isolated(self):
        await ask(self.mock.url)

    async def test_in_unittest_with_server(self):
        await ask(self.mock.url)


@pytest.fixture
def anyio_backend(request):
    return request.param


@pytest.fixture
def anyio_backend_name(anyio_backend):
    return anyio_backend


@pytest.mark.skipif("config.option.asyncio_mode == 'auto'", reason="anyio asks for the strict mode")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_anyio(zmock):
    await ask(zmock.url)
    await zmock.login()


async def test_unmarked(zmock):
    await ask(zmock.url)
'''
FINE, ONE_LOOP = "", "use zmock_server, or the same loop_scope for the test and its fixtures"
IN_LOOPS = {
    "test_sync": "zmock: this test is not async, so that the event loop of zmock does not run in it; use zmock_server",
    "test_plain": FINE,
    "TestClass::test_class": FINE,
    "test_module": FINE,
    "test_package": FINE,
    "test_session[0]": FINE,
    "test_session[1]": FINE,
    "test_fixture_of_the_same_loop": FINE,
    "test_fixture_of_another_loop": f"this mock runs in another event loop, which stands still meanwhile; {ONE_LOOP}",
    "test_client_in_another_loop": f"zmock: the event loop of zmock stands still while this client waits in another one; {ONE_LOOP}",
    "test_blocking": "zmock: a blocking client stops the event loop that zmock runs in; call it in asyncio.to_thread, or use zmock_server",
    "test_in_a_thread": FINE,
    "test_server": FINE,
    "TestUnit::test_isolated": "zmock: unittest runs this test outside the event loop of zmock; use zmock_server, or serve() in the test",
    "TestUnit::test_in_unittest_with_server": FINE,
    "test_anyio[asyncio]": FINE,
    "test_anyio[trio]": "zmock: zmock runs on asyncio, this test on trio; use zmock_server",
    "test_unmarked": "zmock: nothing runs this async test; mark it with @pytest.mark.asyncio, or set asyncio_mode = auto",
}


def outcomes(told):
    """What pytest -rA said of each test: "" for one that passed, else why not."""
    lines = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) test_mine\.py::(\S+)(?: - (?:Failed|RuntimeError): (.*))?$", told, re.M)
    return {name: reason for _, name, reason in lines}


@pytest.mark.parametrize(("mode", "scope"), (("strict", "function"), pytest.param("auto", "session", marks=pytest.mark.slow)))
def test_a_fixture_works_in_any_loop_or_fails_at_once_with_its_cure(tmp_path, mode, scope):
    flags = ("-W", "error", "-rA", "--asyncio-mode", mode, "-o", f"asyncio_default_test_loop_scope={scope}")
    with_anyio = importlib.util.find_spec("anyio")
    told = run_elsewhere(tmp_path, IN_OTHER_LOOPS if with_anyio else re.sub("(?s)@pytest.fixture\ndef anyio_backend.*?(?=async def test_unmarked)", "", IN_OTHER_LOOPS), *flags)
    expected = {name: reason for name, reason in IN_LOOPS.items() if (with_anyio and mode == "strict") or "anyio" not in name}
    expected |= {"test_unmarked": FINE} if mode == "auto" else {}
    assert outcomes(told) == expected, told
    assert "arning" not in told, told


def run_elsewhere(folder, text, *flags, mode="strict"):
    """What pytest prints about a test file in a project of its own."""
    (folder / "conftest.py").write_text("" if "pytest_plugins" in text else 'pytest_plugins = ["zmock"]')
    (folder / "test_mine.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\npythonpath = {ROOT}\n")
    without = [part for plugin in ("cacheprovider", "schemathesis", "hypothesispytest") for part in ("-p", f"no:{plugin}")]
    command = [sys.executable, "-m", "pytest", "-q", *without, "--strict-markers", *flags, str(folder)]
    environment = os.environ | {"COLUMNS": "400", "PYTHONDONTWRITEBYTECODE": "", "SSL_CERT_FILE": os.devnull}  # each of its workers would compile zmock anew
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return run.stdout + run.stderr


@pytest.mark.parametrize(("mode", "flags"), (("strict", ()), pytest.param("auto", ("-n", "2"), marks=pytest.mark.slow)), ids=("strict, alone", "auto, in parallel"))
def test_the_fixtures_work_in_another_project(tmp_path, mode, flags):
    told = run_elsewhere(tmp_path, IN_ANOTHER_PROJECT, *flags, mode=mode)
    assert "3 passed" in told, told
    assert "arning" not in told


@pytest.mark.parametrize("flags", ((), pytest.param(("-n", "1"), marks=pytest.mark.slow)), ids=("alone", "in parallel"))
def test_a_report_tells_what_happened_and_a_mistake_is_named(tmp_path, flags):
    told = run_elsewhere(tmp_path, IN_ANOTHER_PROJECT + THAT_FAIL, *flags)
    assert "2 failed, 4 passed, 4 errors" in told, told
    for line in (
        "zmock: there is no setting colud, did you mean cloud?",
        "zmock: the marker zmock takes keywords, zmock(cloud=\"empty\"), not 'empty'",
        "did you mean server?",
        "did you mean CreateZone?",
        "no call has met these rules of zmock:\n  rule-1, matched 0 times: ",
        "#1 PUT /zstack/v1/accounts/login  LogInByAccount  200  slow; hit=1",
        "#2 GET /zstack/v1/zons  no API  404  (",
        "  CreateZone  202  job ",
        "never fired 0 of 0 times: ",
        "slow fired 1 of 1 times: ",
        "not over: CreateZone, job ",
    ):
        assert line in told, told
    assert "Traceback" not in told and "During handling" not in told


def test_the_test_of_the_readme_is_green(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    tests = [block for block in blocks if "async def test_" in block]
    assert len(tests) == 1
    assert "1 passed" in run_elsewhere(tmp_path, tests[0], "-W", "error")
