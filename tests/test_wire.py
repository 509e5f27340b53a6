"""Every rule against a client that is nothing but a socket: what really arrives, byte by byte, and how it ends."""

import asyncio
import json
import re

import aiohttp
import pytest
from asking import each

from zmock import DROPS, named, serve

pytestmark = pytest.mark.zmock(strict=False)  # also rules that must not fire

FULL = {"error": "HOST_ALLOCATION.1000", "details": "no host has 64 GB"}
TOLD = b'{"error":{"code":"HOST_ALLOCATION.1000","description":"No available host found","details":"no host has 64 GB"}}'
FIN, RST, OPEN = "FIN", "RST", "open"


def request(mock, line, body=None, **headers):
    """The bytes of a request that asks for the end of the connection."""
    told = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": mock.base[7:], "Connection": "close", "Content-Length": len(told), "Authorization": f"OAuth {mock.session}"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    method, path = line.split(" ")
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} /zstack/v1{path} HTTP/1.1\r\n{head}\r\n".encode() + told


async def read_to_end(reader, patience=0.2):
    """All that arrives, and how it ends: with a FIN, a RST, or not at all as long as the test is patient."""
    got = b""
    try:
        while True:
            more = await asyncio.wait_for(reader.read(1 << 16), patience)
            if not more:
                return got, FIN
            got += more
    except ConnectionResetError:
        return got, RST
    except TimeoutError:
        return got, OPEN


async def wire(mock, line, body=None, **headers):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, line, body, **headers))
    try:
        return await read_to_end(reader)
    finally:
        writer.close()


def parts(got):
    """Status, headers in lower case and body of an answer."""
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split(" ")[1]), {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}, body


async def control(mock, path, body):
    async with aiohttp.ClientSession() as http, http.post(f"{mock.base}/zmock/{path}", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def polled(mock, job):
    return parts((await wire(mock, f"GET /api-jobs/{job}"))[0])


@pytest.fixture
async def mock(zmock):
    await zmock.login()
    return zmock


QUERY, CREATE = ("GET /zones",), ("POST /zones", {"params": {"name": "z"}})
VERSION = ("PUT /management-nodes/actions", {"getVersion": {}})
EACH_DROP = [*({"drop": word} for word in DROPS), {"drop": {"after": 5}}, {"drop": {"rate": 20}}]
CALLS = {"QueryZone": QUERY, "CreateZone": CREATE, "GetVersion": VERSION, "PollJob": ("GET /api-jobs/x",)}


def whole(got):
    """Whether a body has the length that its head promises."""
    return len(parts(got)[2]) == int(parts(got)[1]["content-length"])


# what is answered in place of a call, as long as nothing is done: (api, then, what arrives, how it ends)

ANSWERS = [
    *((api, FULL | at, lambda got: parts(got)[0] == 503 and parts(got)[2] == TOLD and whole(got), FIN)
      for api, at in (("QueryZone", {}), ("GetVersion", {}), ("PollJob", {}), ("CreateZone", {"at": "accept"}), ("QueryZone", {"at": "after"}))),
    *((api, {"status": 502, "body": "<html>bad gateway"}, lambda got: (parts(got)[0], parts(got)[1]["content-type"], parts(got)[2]) == (502, "text/html; charset=utf-8", b"<html>bad gateway"), FIN)
      for api in CALLS),
    ("CreateZone", {"status": 429, "body": "slow down"}, lambda got: parts(got)[0] == 429 and parts(got)[1]["content-type"].startswith("text/plain"), FIN),
    ("QueryZone", {"status": 500, "body": {"a": [1]}}, lambda got: parts(got)[2] == b'{"a":[1]}' and parts(got)[1]["content-type"] == "application/json", FIN),
    ("QueryZone", {"status": 503}, lambda got: (parts(got)[0], parts(got)[2]) == (503, b""), FIN),
    ("QueryZone", {"status": 204, "body": "x"}, lambda got: (parts(got)[0], parts(got)[2]) == (204, b""), FIN),
    *((api, {"drop": "reset"}, lambda got: got == b"", RST) for api in CALLS),
    *((api, {"drop": "empty"}, lambda got: got == b"", FIN) for api in CALLS),
    *((api, {"drop": "hang"}, lambda got: got == b"", OPEN) for api in CALLS),
    *((api, {"drop": "truncate"}, lambda got: 0 < len(parts(got)[2]) < int(parts(got)[1]["content-length"]), FIN) for api in CALLS),
    *((api, {"drop": "garbage"}, lambda got: parts(got)[1]["transfer-encoding"] == "chunked" and not got.endswith(b"0\r\n\r\n")
       and not re.fullmatch(rb"[0-9a-fA-F]+\r\n.*", parts(got)[2].split(b"\r\n", 2)[2], re.S), FIN) for api in CALLS),
    *(("QueryZone", {"drop": {"after": size}}, lambda got, size=size: len(parts(got)[2]) == size < int(parts(got)[1]["content-length"]), FIN)
      for size in (0, 1, 17)),
    ("QueryZone", {"drop": {"after": 1_000_000}}, whole, FIN),
    ("QueryZone", {"status": 429, "headers": {"Retry-After": "5", "content-type": "text/csv", "Access-Control-Allow-Origin": "http://a"}, "body": "a,b"},
     lambda got: (parts(got)[0], *map(parts(got)[1].get, ("retry-after", "content-type", "access-control-allow-origin")), parts(got)[2])
     == (429, "5", "text/csv", "http://a", b"a,b") and got.lower().count(b"content-type") == 1, FIN),
]  # fmt: skip


@each(("api", "then", "arrives", "ends"), ANSWERS, ids=[f"{row[0]} {json.dumps(row[1])}" for row in ANSWERS])
async def test_what_arrives_instead_of_an_answer(mock, api, then, arrives, ends):
    rule = mock.rule(id="it", api=api, times=1, then=then)
    got, ended = await wire(mock, *CALLS[api])
    assert (arrives(got), ended) == (True, ends), got
    assert rule.hits == 1 and mock.calls(api)[-1].rule == "it; hit=1"
    assert not got or parts(got)[1]["x-zmock-rule"] == "it; hit=1"
    assert (mock.jobs(), await mock.query("zones", "name=z")) == ([], [])
    status, headers, _ = parts((await wire(mock, *CALLS[api]))[0])  # the next one is as always
    assert (status, "x-zmock-rule" in headers) == ({"CreateZone": 202, "PollJob": 404}.get(api, 200), False)


@pytest.mark.parametrize("then", EACH_DROP, ids=str)
@pytest.mark.parametrize("first", (FULL, {"status": 502}), ids=("error", "status"))
async def test_after_the_work_is_done_it_is_done_whatever_arrives(mock, then, first):
    for n, told in enumerate((then, first), 1):
        mock.rule(api="CreateZone", times=1, then=told | {"at": "after"})
        asked = asyncio.create_task(wire(mock, "POST /zones", {"params": {"name": f"z{n}"}}))
        while not asked.done():
            await asyncio.sleep(0.01)
            await mock.advance(0.1)
    await mock.advance(1)
    assert sorted(zone["name"] for zone in await mock.query("zones", "name~=z_")) == ["z1", "z2"]


@pytest.mark.parametrize("then", [then for then in EACH_DROP if then["drop"] not in ("reset", "empty", "hang")], ids=str)
async def test_a_broken_answer_to_head_has_no_body(mock, then):
    mock.rule(api="QueryZone", then=then)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, "HEAD /zones"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and (await read_to_end(reader, 0.05))[0] == b""
    writer.close()


async def test_a_dribbled_answer_comes_a_byte_each_100_ms_and_is_whole(mock):
    mock.rule(api="GetVersion", then={"drop": "dribble", "at": "after"})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, *VERSION))
    head = await reader.readuntil(b"\r\n\r\n")
    length, body = int(parts(head)[1]["content-length"]), await reader.readexactly(1)
    while len(body) < length:
        more, _ = await read_to_end(reader, 0.02)
        assert more == b""
        await mock.advance(0.1)
        body += await asyncio.wait_for(reader.readexactly(1), 5)
    assert json.loads(body) == {"version": "2.5.1"}
    assert (await read_to_end(reader))[1] == FIN
    writer.close()


async def test_an_answer_comes_as_many_bytes_a_second_as_a_rule_says(mock):
    mock.rule(api="GetVersion", then={"drop": {"rate": 50}, "at": "after"})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, *VERSION))
    await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(5)
    while not body.endswith(b"}"):
        assert (await read_to_end(reader, 0.02))[0] == b""
        await mock.advance(0.1)
        more, _ = await read_to_end(reader, 0.02)
        assert 0 < len(more) <= 5
        body += more
    assert json.loads(body) == {"version": "2.5.1"}
    assert mock.calls("GetVersion")[0].outcome == "rate"
    writer.close()


async def test_a_slow_close_has_the_whole_body_and_ends_seconds_later(mock):
    mock.rule(api="GetVersion", then={"drop": "slow-close", "at": "after"})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, *VERSION))
    got, ended = await read_to_end(reader)
    assert b'{"version":"2.5.1"}' in got and ended == OPEN
    await mock.advance(5)
    assert await read_to_end(reader) == (b"0\r\n\r\n", FIN)
    writer.close()


async def test_what_only_reads_is_dribbled_as_it_is(mock):
    mock.rule(api="QueryZone", then={"drop": "dribble"})
    asked = asyncio.create_task(wire(mock, *QUERY))
    while not asked.done():
        await asyncio.sleep(0.001)
        await mock.advance(100)
    got, _ = asked.result()
    assert whole(got) and json.loads(parts(got)[2])["inventories"][0]["name"] == "zone-1"


# what becomes of a job: (then, how long the job takes, what polls say before and after, whether there is a zone)

JOBS = [
    (FULL, [202, 503], False),
    (FULL | {"at": "after"}, [202, 503], True),
    ({"job": "hold"}, [202, 202], False),
    ({"job": "lose"}, [202, 202], False),
    ({"job": "expire"}, [202, 404], True),
    (None, [202, 200], True),
]


@pytest.mark.parametrize("dialect", ("manual", "server"))
@pytest.mark.parametrize(("then", "statuses", "made"), JOBS, ids=[json.dumps(row[0]) for row in JOBS])
async def test_what_becomes_of_a_job(dialect, then, statuses, made):
    async with serve(delay="10", dialect=dialect) as mock:
        await mock.login()
        mock.rule(id="it", api="CreateZone", delay=5, **({"then": then} if then else {}))
        status, headers, body = parts((await wire(mock, *CREATE))[0])
        assert (status, headers["x-zmock-rule"]) == (202, "it; hit=1")
        job = json.loads(body)["location"][-32:]
        await mock.advance(14.9)
        before = (await polled(mock, job))[0]
        await mock.advance(0.2)
        after, _, body = await polled(mock, job)
        assert [before, after] == statuses
        assert after != 503 or body == TOLD
        assert bool(await mock.query("zones", "name=z")) == made


# web-hooks, with a receiver that is a socket too


class Receiver:
    """What came in, and when on the mock's clock."""

    def __init__(self, mock):
        self.mock, self.came = mock, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *failure):
        self.server.close()

    async def take(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))
        self.came.append((round(self.mock.clock.now() - self.began, 1), json.loads(body)["inventory"]["name"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


@pytest.mark.parametrize(
    ("rule", "when"),
    (
        ({}, [10]),
        ({"then": {"webhook": "never"}}, []),
        ({"then": {"webhook": "late"}}, [15]),
        ({"then": {"webhook": "late"}, "delay": 60}, [70]),
        ({"then": {"webhook": "late"}, "delay": 0}, [10]),
        ({"then": {"webhook": "twice"}}, [10, 10]),
        ({"then": {"webhook": "twice"}, "delay": 3}, [13, 13]),
    ),
    ids=str,
)
async def test_a_web_hook_comes_when_a_rule_says(rule, when):
    async with serve(delay="10") as mock, Receiver(mock) as receiver:
        await mock.login()
        mock.rule(api="CreateZone", **rule)
        receiver.began = mock.clock.now()
        await wire(mock, *CREATE, X_Web_Hook=receiver.url)
        await mock.advance(600)
        assert receiver.came == [(moment, "z") for moment in when]


async def test_a_web_hook_that_comes_first_comes_before_its_202(mock):
    async with Receiver(mock) as receiver:
        receiver.began = mock.clock.now()
        mock.rule(api="CreateZone", delay=10, then={"webhook": "first"})
        asked = asyncio.create_task(wire(mock, *CREATE, X_Web_Hook=receiver.url))
        while not mock.jobs():
            await asyncio.sleep(0.001)
        await asyncio.wait([asked], timeout=0.05)
        assert not asked.done()
        await mock.advance(10)
        status, _, body = parts((await asked)[0])
        assert (status, receiver.came) == (202, [(10, "z")])
        assert (await polled(mock, json.loads(body)["location"][-32:]))[0] == 200


async def test_a_web_hook_rule_is_for_calls_that_have_one(mock):
    rule = mock.rule(api="CreateZone", then={"webhook": "never"})
    await wire(mock, *CREATE)
    assert rule.matches == 0


async def test_a_client_that_does_not_wait_for_the_first_web_hook_takes_nothing_with_it(mock):
    async with Receiver(mock) as receiver:
        receiver.began = mock.clock.now()
        mock.rule(api="CreateZone", delay=10, then={"webhook": "first"})
        reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
        writer.write(request(mock, *CREATE, X_Web_Hook=receiver.url))
        while not mock.jobs():
            await asyncio.sleep(0.001)
        writer.close()
        await mock.advance(10)
        assert receiver.came == [(10, "z")]


@pytest.mark.parametrize("then", ({"status": 502}, {"drop": "reset"}), ids=str)
async def test_a_web_hook_is_told_though_something_else_was_answered(mock, then):
    async with Receiver(mock) as receiver:
        receiver.began = mock.clock.now()
        mock.rule(api="CreateZone", then=then | {"at": "after"})
        await wire(mock, *CREATE, X_Web_Hook=receiver.url)
        await mock.advance(10)
        assert ([name for _, name in receiver.came], mock.clock.awake, mock.cloud.jobs.unanswered) == (["z"], set(), {})


@pytest.mark.parametrize("end", ("finish", "expire"))
@pytest.mark.parametrize("then", ({"webhook": "never"}, {"job": "hold"}, {"error": "SYS.1006"}), ids=str)
async def test_a_job_leaves_no_trace_of_its_web_hook(then, end):
    async with serve(delay="10") as mock:
        await mock.login()
        mock.rule(api="CreateZone", then=then)
        await wire(mock, *CREATE, X_Web_Hook="http://127.0.0.1:9/")
        await control(mock, f"jobs/{mock.jobs()[0]['uuid']}", {"do": end})
        await mock.advance(600)
        assert (mock.cloud.jobs.unanswered, mock.cloud.jobs.hooks_first, mock.cloud.jobs.queues) == ({}, {}, {})


DEATHS = {
    "incidents": {"management-node-down": {}},
    "reset": {},
}


@pytest.mark.parametrize("death", DEATHS)
async def test_who_waits_for_the_first_web_hook_gets_no_job_of_a_node_that_is_gone(death):
    async with serve(delay="10") as mock, Receiver(mock) as receiver:
        await mock.login()
        mock.rule(api="CreateZone", then={"webhook": "first"})
        asked = asyncio.create_task(wire(mock, *CREATE, X_Web_Hook=receiver.url))
        while not mock.jobs():
            await asyncio.sleep(0.001)
        await control(mock, death, DEATHS[death])
        got, ended = await asked
        assert (got, ended) == (b"", RST) if death == "incidents" else parts(got)[0] == 503 and b"was reset" in got


# clients that go, and hung ones that stay


@pytest.mark.parametrize("then", ({"drop": "hang"}, {"drop": "dribble"}, None), ids=str)
async def test_a_client_that_hangs_up_in_the_middle_leaves_nothing_behind(mock, then):
    mock.rule(api="QueryZone", delay=0 if then else 10, **({"then": then} if then else {}))
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
        writer.write(request(mock, *QUERY))
        await read_to_end(reader, 0.01)
        writer.transport.abort()
    await mock.advance(1000)
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not mock.clock.sleepers
    assert len(asyncio.all_tasks()) < 10
    mock.rules[0].over = True
    assert (await mock.query("zones"))[0]["name"] == "zone-1"


@pytest.mark.parametrize("then", [*EACH_DROP, None], ids=str)
async def test_a_client_that_hangs_up_is_no_error(mock, then, caplog):
    async with Receiver(mock) as receiver:
        receiver.began = mock.clock.now()
        mock.rule(api="*", delay=10, **({"then": then | {"at": "after"}} if then else {}))
        for call, headers in ((QUERY, {}), (CREATE, {"X_Web_Hook": receiver.url}), (("GET /api-jobs/x",), {})):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
            writer.write(request(mock, *call, **headers))
            while not (mock.clock.sleepers or mock.jobs()):
                await asyncio.sleep(0.001)
            writer.transport.abort()
            await asyncio.sleep(0.01)
            await mock.advance(100)
        assert receiver.came == [(110, "z")]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(("then", "arrives"), (({"drop": "garbage"}, b"no chunk"), ({"drop": "truncate"}, b'{"vers'), ({"status": 418}, b"418")), ids=str)
async def test_clients_of_http_1_0_get_it_too(mock, then, arrives):
    mock.rule(api="GetVersion", then=then | {"at": "after"})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, *VERSION).replace(b"HTTP/1.1", b"HTTP/1.0"))
    got, ended = await read_to_end(reader)
    writer.close()
    assert arrives in got and b"chunked" not in got and ended == FIN


async def test_a_path_with_a_line_break_is_answered_like_any_other(mock):
    status, headers, body = parts((await wire(mock, "GET /zones%0Ax"))[0])
    assert (status, headers["vary"], b"no api mapping" in body) == (404, "Origin", True)
    assert mock.calls()[-1].path == "/zstack/v1/zones%0Ax"
    async with aiohttp.ClientSession() as http, http.get(f"{mock.base}/zmock/rules%0Ax") as answer:
        assert (answer.status, "no control call" in (await answer.json())["error"]) == (404, True)


async def test_the_poll_that_tells_of_a_fault_names_its_rule(mock):
    mock.rule(id="it", api="CreateZone", times=1, then=FULL)
    jobs = [json.loads(parts((await wire(mock, *CREATE))[0])[2])["location"][-32:] for _ in range(2)]
    await mock.advance(1)
    assert [(await polled(mock, job))[1].get("x-zmock-rule") for job in jobs] == ["it; hit=1", None]


@pytest.mark.parametrize("then", ({"job": "lose"}, {"job": "expire"}, {"error": "SYS.1006", "at": "after"}), ids=str)
async def test_polls_of_a_job_that_a_rule_took_name_it(mock, then):
    mock.rule(id="it", api="CreateZone", times=1, then=then)
    job = json.loads(parts((await wire(mock, *CREATE))[0])[2])["location"][-32:]
    await mock.advance(1)
    assert (await polled(mock, job))[1].get("x-zmock-rule") == "it; hit=1"
    assert mock.calls("PollJob")[-1].job == job


async def test_a_job_that_failed_by_itself_names_no_rule(mock):
    mock.rule(api="StartVmInstance", then={"error": "SYS.1006", "at": "after"})
    await wire(mock, f"PUT /vm-instances/{named('vm-web-1')}/actions", {"startVmInstance": {}})
    await mock.advance(1)
    status, headers, body = await polled(mock, mock.jobs()[0]["uuid"])
    assert (status, "x-zmock-rule" in headers, b"VM.1010" in body or b"VM.1001" in body) == (503, False, True)


async def test_hung_calls_end_with_the_mock():
    async with serve() as mock:
        await mock.login()
        mock.rule(api="*", then={"drop": "hang"})
        hung = [asyncio.create_task(wire_until_end(mock)) for _ in range(50)]
        while mock.rules[0].hits < 50:
            await asyncio.sleep(0.001)
    assert {got for got, _ in await asyncio.wait_for(asyncio.gather(*hung), 5)} == {b""}


async def wire_until_end(mock):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    writer.write(request(mock, *QUERY))
    return await read_to_end(reader, 10)


async def test_a_web_hook_gets_the_patched_result(mock):
    async with Receiver(mock) as receiver:
        receiver.began = mock.clock.now()
        mock.rule(api="CreateZone", then={"merge": {"inventory": {"name": "patched"}}})
        await wire(mock, *CREATE, X_Web_Hook=receiver.url)
        await mock.advance(1)
        assert [name for _, name in receiver.came] == ["patched"]


async def test_an_action_on_an_object_can_be_reset_and_undone_by_nobody(mock):
    mock.rule(api="StopVmInstance", times=1, then={"drop": "reset", "at": "after"})
    path = f"PUT /vm-instances/{named('vm-web-1')}/actions"
    assert await wire(mock, path, {"stopVmInstance": {}}) == (b"", RST)
    await mock.advance(0)
    assert (await mock.query("vm-instances", "name=web-1"))[0]["state"] == "Stopped"
