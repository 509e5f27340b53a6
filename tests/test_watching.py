"""GET /zmock/wait and /zmock/events: what happens is told when it happens, to whoever wants to know, within bounds."""

import asyncio
import json
import time

import aiohttp
import pytest

from zmock import MOST_REMEMBERED, named, serve

VM = {"name": "v", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}


async def control(mock, path, method="GET", body=None):
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        return answer.status, await answer.json()


@pytest.fixture
async def mock():
    async with serve(delay="10") as mock:
        await mock.login()
        yield mock


async def waiting(mock, path):
    """A wait that has begun."""
    task = asyncio.create_task(control(mock, path))
    while not mock.control.watch.waiters:
        await asyncio.sleep(0.001)
    return task


# waiting


async def test_calls_are_waited_for(mock):
    wait = await waiting(mock, "wait?api=CreateZone&count=2")
    for n in range(2):
        assert not wait.done()
        await mock.request("POST", "/zones", {"params": {"name": f"z{n}"}})
        await asyncio.sleep(0.01)
    status, told = await asyncio.wait_for(wait, 5)
    assert (status, [call["params"]["name"] for call in told["calls"]]) == (200, ["z0", "z1"])
    assert (await control(mock, "wait?api=Create*&count=2&timeout=0"))[0] == 200  # what was before counts
    since = told["calls"][-1]["seq"]
    assert (await control(mock, f"wait?api=CreateZone&since={since}&timeout=0.01"))[0] == 408
    assert not mock.control.watch.waiters and mock.rest.watchers == [] and mock.cloud.store.watch is mock.cloud.jobs.watch is None


@pytest.mark.parametrize(
    ("query", "moved"),
    (
        ("path=/vm-instances&q=name=v&q=state=Running", 10),
        ("path=vm-instances&q=name=v&q=state=Running", 10),
        ("path=/zstack/v1/vm-instances&q=name=v", 0),
        ("path=/vm-instances&q=name=ci-1&count=0", 10),
        ("path=/vm-instances&count=12", 10),
        ("path=/volumes&q=vmInstance.name=v", 3),
    ),
)
async def test_items_are_waited_for(mock, query, moved):
    await mock.request("DELETE", f"/vm-instances/{named('vm-ci-2')}")
    await mock.request("PUT", f"/vm-instances/{named('vm-ci-1')}/actions", {"updateVmInstance": {"name": "other"}})
    wait = asyncio.create_task(control(mock, f"wait?{query}"))
    await asyncio.sleep(0.02)
    before = mock.clock.now()
    await mock.request("POST", "/vm-instances", {"params": VM})
    while not wait.done() and mock.clock.now() < before + 30:
        await mock.advance(1)
        await asyncio.wait({wait}, timeout=0.03)  # a busy machine answers late
    status, told = await asyncio.wait_for(wait, 5)
    assert status == 200 and mock.clock.now() - before <= moved + 1
    assert told["total"] == len(told["inventories"])


async def test_time_is_up_in_the_time_of_the_world(mock):
    before = time.monotonic()
    status, told = await control(mock, "wait?path=/zones&q=name=never&timeout=0.2")
    assert status == 408 and "0.2 seconds" in told["error"]
    assert 0.15 < time.monotonic() - before < 2


@pytest.mark.parametrize(
    ("query", "status", "told"),
    (
        ("", 400, "?api=CreateVmInstance&count=2"),
        ("api=CreateZon", 400, "did you mean CreateZone?"),
        ("api=CreateZone&cuont=2", 400, "did you mean count?"),
        ("api=CreateZone&count=x", 400, "'count' is a number"),
        ("api=CreateZone&count=5000", 400, "'count' is a number from 0 to 1000"),
        ("api=CreateZone&timeout=601", 400, "'timeout' is a number from 0 to 600"),
        ("path=/zone", 404, "did you mean /zones?"),
        ("path=/zones&q=nmae=x", 400, "not having field[nmae]"),
        ("path=/zones&q=nonsense", 400, "doesn't contain any query operator"),
        ("path=/zones&limit=5", 400, "path, q, count and timeout"),
        ("path=/hosts/capacities/cpu-memory", 404, "no collection"),
    ),
)
async def test_what_cannot_be_waited_for_is_told_at_once(mock, query, status, told):
    got, answer = await asyncio.wait_for(control(mock, f"wait?{query}"), 2)
    assert got == status and told in answer["error"] + answer["hint"]


async def test_polls_can_be_waited_for(mock):
    wait = await waiting(mock, "wait?api=PollJob&status=404")
    await mock.request("GET", "/api-jobs/x")
    assert (await asyncio.wait_for(wait, 5))[1]["calls"][0]["path"] == "/zstack/v1/api-jobs/x"


# events


class Stream:
    """A reader of /zmock/events."""

    def __init__(self, mock, query="", headers=None):
        self.mock, self.query, self.headers = mock, query, headers

    async def __aenter__(self):
        self.http = aiohttp.ClientSession()
        self.answer = await self.http.get(f"{self.mock.base}/zmock/events{self.query}", headers=self.headers)
        assert (self.answer.status, self.answer.headers["Content-Type"]) == (200, "text/event-stream")
        kind, self.hello = await self.next()
        assert kind == "hello"
        return self

    async def __aexit__(self, *failure):
        self.answer.close()
        await self.http.close()

    async def next(self):
        lines = (await asyncio.wait_for(self.answer.content.readuntil(b"\n\n"), 5)).decode().splitlines()
        (_, kind), (_, seq), (_, text) = (line.split(": ", 1) for line in lines)
        assert [line.split(": ")[0] for line in lines] == ["event", "id", "data"]
        self.seq, body = int(seq), json.loads(text)
        if kind not in ("hello", "call", "fault"):  # these have a seq of their own
            assert body.pop("seq") == self.seq
        return kind, body

    async def until(self, last):
        """The events up to one of a kind."""
        found = []
        while not found or found[-1][0] != last:
            found.append(await self.next())
        return found


async def test_events_tell_calls_jobs_states_and_faults_as_they_happen(mock):
    mock.rule(id="slow", api="StopVmInstance", delay=5)
    async with Stream(mock) as stream:
        _, body = await mock.request("PUT", f"/vm-instances/{named('vm-web-1')}/actions", {"stopVmInstance": {}})
        job = body["location"][-32:]
        events = [await stream.next() for _ in range(4)]
        assert sorted(kind for kind, _ in events) == ["call", "fault", "job", "state"]
        told = dict(events)
        assert (told["fault"]["rule"], told["call"]["rule"], told["call"]["status"]) == ("slow; hit=1", "slow; hit=1", 202)
        assert (told["job"]["uuid"], told["job"]["state"]) == (job, "running")
        web = {"type": "VmInstance", "uuid": named("vm-web-1"), "name": "web-1", "field": "state"}
        assert told["state"] == web | {"from": "Running", "to": "Stopping"}
        await mock.advance(15)
        events = [await stream.next() for _ in range(2)]
        assert ("state", web | {"from": "Stopping", "to": "Stopped"}) in events
        assert [told["state"] for kind, told in events if kind == "job"] == ["succeeded"]


@pytest.mark.parametrize(("rule", "end"), ((None, ("succeeded", "")), ({"error": "HOST.1010"}, ("failed", "HOST.1010"))))
async def test_a_call_is_told_again_with_the_same_seq_when_its_job_has_ended(mock, rule, end):
    mock.rule(api="CreateZone", **({"then": rule} if rule else {"skip": 9}))
    async with Stream(mock) as stream:
        await mock.request("POST", "/zones", {"params": {"name": "z"}})
        first = (await stream.until("call"))[-1][1]
        await mock.advance(10)
        again = (await stream.until("call"))[-1][1]
        assert (first["outcome"], first["code"]) == ("running", "")
        assert again == first | {"outcome": end[0], "code": end[1]}
    (waited,) = (await control(mock, "wait?api=CreateZone"))[1]["calls"]
    assert waited == again


async def test_what_is_taken_back_at_once_is_no_event(mock):
    async with Stream(mock) as stream:
        mock.cloud.outages.full_storages[named("ps-nfs")] += 1
        params = {"name": "d", "diskOfferingUuid": named("disk-100g"), "primaryStorageUuid": named("ps-nfs")}
        await mock.request("POST", "/volumes/data", {"params": params})  # the volume is there before its place is found wanting
        await mock.advance(10)
        await mock.request("GET", "/zones")
        events = [await stream.next() for _ in range(4)]
        assert sorted(kind for kind, _ in events) == ["call", "call", "job", "job"]


async def test_what_is_made_and_what_goes_is_told(mock):
    async with Stream(mock) as stream:
        zone = await mock.create("CreateZone", name="z")
        await mock.delete("zones", zone["uuid"])
        states = []
        while len(states) < 2:
            kind, told = await stream.next()
            states += [(told["name"], told["from"], told["to"])] if kind == "state" else []
        assert states == [("z", None, "Enabled"), ("z", "Enabled", None)]


async def test_a_reader_that_never_reads_costs_a_bounded_amount_and_is_told_what_it_missed(mock):
    async with Stream(mock) as stream:
        reader = next(iter(mock.control.watch.readers))
        for n in range(4000):
            reader.hear(event_text("call", {"n": n, "ballast": "x" * 1000}))
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert len(reader.unread) <= MOST_UNREAD
        for n in range(2 * MOST_UNREAD):  # more than all buffers hold while nobody awaits
            reader.hear(event_text("call", {"n": 4000 + n}))
        events = []
        while not events or events[-1][1].get("n") != 3999 + 2 * MOST_UNREAD:
            events.append(await stream.next())
        dropped = sum(told["events"] for kind, told in events if kind == "dropped")
        assert dropped and dropped + sum(kind == "call" for kind, _ in events) == 4000 + 2 * MOST_UNREAD


@pytest.mark.parametrize("busy", (False, True), ids=("quiet", "busy"))
async def test_a_comment_comes_every_15_seconds_of_the_world_whatever_else_does(mock, monkeypatch, busy):
    loop, ahead = asyncio.get_running_loop(), 0
    steady = loop.time
    async with Stream(mock) as stream:
        monkeypatch.setattr(loop, "time", lambda: steady() + ahead)
        for ahead in range(5, 50, 5):  # noqa: B007 (the clock of the loop shows it)
            if busy:
                mock.control.watch.emit("clock", {})
                assert await stream.next() == ("clock", {})
            if ahead % 15 == 0:
                assert await asyncio.wait_for(stream.answer.content.readuntil(b"\n\n"), 5) == b": still here\n\n"


async def test_readers_that_have_gone_are_forgotten(mock):
    for _ in range(5):
        async with Stream(mock):
            pass
    for _ in range(5):
        await mock.request("GET", "/zones")
        await asyncio.sleep(0.01)
    assert not mock.control.watch.readers and mock.rest.watchers == []


async def test_the_mock_ends_though_somebody_listens_and_waits():
    async with serve() as mock:
        stream = await Stream(mock).__aenter__()
        wait = await waiting(mock, "wait?path=/zones&q=name=never&timeout=600")
        before = time.monotonic()
    assert time.monotonic() - before < 3
    await asyncio.wait([wait], timeout=5)
    assert wait.done() and wait.exception()
    await stream.__aexit__()
