"""GET /zmock/wait and /zmock/events: what happens is told when it happens, to whoever wants to know, within bounds."""

import asyncio
import json
import time

import aiohttp
import pytest

from zmock import MOST_REMEMBERED, Entry, named, serve

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
    assert not mock.control.watch.waiters


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
        ("path=/zone", 404, "did you mean zones?"),
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
        text = (await asyncio.wait_for(self.answer.content.readuntil(b"\n\n"), 5)).decode()
        lines = dict(line.split(": ", 1) for line in text.splitlines() if line)
        assert [*lines] == ["event", "id", "data"]
        self.seq, body = int(lines["id"]), json.loads(lines["data"])
        if lines["event"] not in ("hello", "call", "fault"):  # a call has a seq of its own
            assert body.pop("seq") == self.seq
        return lines["event"], body

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
        events = await stream.until("change")
        assert sorted(kind for kind, _ in events) == ["call", "change", "fault", "job", "rule", "state"]
        told = dict(events)
        assert (told["fault"]["rule"], told["call"]["rule"], told["call"]["status"]) == ("slow; hit=1", "slow; hit=1", 202)
        assert (told["job"]["uuid"], told["job"]["state"]) == (job, "running")
        assert told["rule"] == {"id": "slow", "api": "StopVmInstance", "delay": 5, "matches": 1, "hits": 1, "last": told["call"]["seq"]}
        web = {"type": "VmInstance", "uuid": named("vm-web-1"), "name": "web-1", "field": "state"}
        assert told["state"] == web | {"from": "Running", "to": "Stopping"}
        assert told["change"] == {"types": {"VmInstance": 1}}
        await mock.advance(15)
        events = await stream.until("change")
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
        events = await stream.until("clock")
        await mock.advance(10)
        events += await stream.until("clock")  # in a later batch: all of the call is told by now
        assert {kind for kind, _ in events} == {"call", "clock", "job"}
        assert [told["state"] for kind, told in events if kind == "job"][-1] == "failed"


async def test_what_is_made_and_what_goes_is_told(mock):
    async with Stream(mock) as stream:
        zone = await mock.create("CreateZone", name="z")
        await mock.delete("zones", zone["uuid"])
        states, zones = [], 0
        while len(states) < 2 or not zones:
            kind, told = await stream.next()
            states += [(told["name"], told["from"], told["to"])] if kind == "state" else []
            zones += told["types"].get("Zone", 0) if kind == "change" else 0
        assert states == [("z", None, "Enabled"), ("z", "Enabled", None)]


async def test_the_steps_of_control_are_told(mock):
    async with Stream(mock) as stream:

        async def after(path, body, kind, method="POST"):
            status, answer = await control(mock, path, method, body)
            assert status == 200
            return answer, (await stream.until(kind))[-1][1]

        rule, told = await after("rules", {"id": "r", "api": "QueryZone", "skip": 5}, "rule")
        assert told == rule
        assert await after("rules/r", None, "rule", "DELETE") == ({}, rule | {"removed": True})
        incident, told = await after("incidents", {"host-down": "host-1"}, "incident")
        assert told == incident
        assert await after(f"incidents/{incident['id']}", None, "incident", "DELETE") == ({}, incident | {"ended": True})
        for order in ({"advance": 5}, {"set": "2018-07-10T00:00:00Z"}, {"freeze": False}):
            clock, told = await after("clock", order, "clock")
            assert told["mode"] == clock["mode"] and told["now"][:16] == clock["now"][:16]
        assert (await after("snapshots/a", None, "snapshot", "PUT"))[1] == {"name": "a", "taken": True}
        assert (await after("snapshots/a/restore", None, "snapshot"))[1] == {"name": "a", "restored": True}
        assert (await after("snapshots/a", None, "snapshot", "DELETE"))[1] == {"name": "a", "removed": True}
        assert (await after("reset", {"cloud": "empty"}, "reset"))[1] == {"cloud": "empty"}


@pytest.mark.parametrize(("query", "kinds"), (("", ["call", "reset", "call"]), ("?calls=summary", ["reset", "calls"])))
async def test_a_reset_parts_the_calls_and_a_summary_forgets_those_before_it(mock, query, kinds):
    async with Stream(mock, query) as stream:
        await mock.request("GET", "/zones")
        await mock.reset()
        await mock.request("GET", "/images")
        events = [await stream.next()]
        while len([kind for kind, _ in events if kind in kinds]) < len(kinds):
            events.append(await stream.next())
        assert [kind for kind, _ in events if kind in kinds] == kinds
        calls = events[-1][1] if query else {"count": 1, "last": [events[-1][1]]}
        assert (calls["count"], [call["api"] for call in calls["last"]]) == (1, ["QueryImage"])


async def test_a_summary_has_the_number_of_calls_and_the_last_thirty(mock):
    mock.rule(api="QueryImage", then={"status": 502})
    async with Stream(mock, "?calls=summary") as stream:
        for entry in 40 * ["zones"] + ["images"]:
            await mock.request("GET", f"/{entry}")
        events = []
        while sum(told["count"] for kind, told in events if kind == "calls") < 41:
            events.append(await stream.next())
        assert {kind for kind, _ in events} <= {"calls", "rule"}
        assert all(len(told["last"]) <= 30 and told["count"] >= len(told["last"]) for kind, told in events if kind == "calls")
        (last,) = (await control(mock, "calls?path=*/images"))[1]["calls"]
        assert [told for kind, told in events if kind == "calls"][-1]["last"][-1] == last


async def test_a_call_comes_again_in_a_summary_when_its_job_has_ended_and_is_not_counted_again(mock):
    async with Stream(mock, "?calls=summary") as stream:
        await mock.request("POST", "/zones", {"params": {"name": "z"}})
        first = (await stream.until("calls"))[-1][1]
        await mock.advance(10)
        again = (await stream.until("calls"))[-1][1]
        assert (first["count"], first["last"][0]["outcome"]) == (1, "running")
        assert again == {"count": 0, "last": [first["last"][0] | {"outcome": "succeeded"}]}


async def test_a_call_whose_job_has_ended_before_anybody_looks_is_told_once(mock):
    before = len(asyncio.all_tasks())
    async with Stream(mock) as stream:
        since = stream.seq
    while len(asyncio.all_tasks()) > before:
        await asyncio.sleep(0.01)
    await mock.request("POST", "/zones", {"params": {"name": "z"}})
    await mock.advance(10)
    async with Stream(mock, f"?since={since}") as stream:
        events = await stream.until("change")
        assert sorted(kind for kind, _ in events) == ["call", "change", "clock", "job", "state"]
        assert {(told.get("outcome"), told.get("state")) for kind, told in events if kind in ("call", "job")} == {("succeeded", None), (None, "succeeded")}


@pytest.mark.parametrize("by", ("query", "header"))
async def test_a_reader_goes_on_after_the_event_that_it_has_read_last(mock, by):
    async with Stream(mock) as stream:
        start = stream.hello["seq"]
        for _ in range(2):
            await mock.request("GET", "/zones")
            await stream.next()
    await mock.request("GET", "/images")  # while nobody reads
    since = (f"?since={start + 1}", None) if by == "query" else ("?since=0", {"Last-Event-ID": str(start + 1)})
    async with Stream(mock, *since) as stream:
        calls = [await stream.next() for _ in range(2)]
        assert [(kind, told["api"]) for kind, told in calls] == [("call", "QueryZone"), ("call", "QueryImage")]
        assert stream.seq == start + 3
    async with Stream(mock, f"?since={start}&calls=summary") as stream:
        assert (await stream.next())[1]["count"] == 3


async def test_what_happens_before_the_first_reader_is_not_recorded_and_counts_as_forgotten(mock):
    await mock.request("GET", "/zones")
    assert mock.rest.watchers == [] and mock.cloud.store.watch is mock.cloud.jobs.watch is None
    async with Stream(mock, "?since=1") as stream:
        seq = stream.hello["seq"]
        assert seq >= 2 and await stream.next() == ("dropped", {"events": seq - 1})
        assert stream.seq == seq
        await mock.request("GET", "/images")
        assert (await stream.next())[1]["api"] == "QueryImage" and stream.seq == seq + 1


async def test_what_happens_while_nobody_reads_is_remembered_within_bounds(mock):
    async with Stream(mock) as stream:
        seq = stream.hello["seq"]
    for n in range(MOST_REMEMBERED + 20):
        mock.rest.record(Entry(next(mock.rest.seq), 0, 0, "GET", f"/{n}", ""), 404)
    watch = mock.control.watch
    assert len(watch.events) + len(watch.notes) <= 2 * MOST_REMEMBERED and not any("json" in vars(event) for event in watch.events)
    async with Stream(mock, f"?since={seq}") as stream:
        assert await stream.next() == ("dropped", {"events": 20})
        assert [(await stream.next())[1]["path"] for _ in range(MOST_REMEMBERED)] == [f"/{n + 20}" for n in range(MOST_REMEMBERED)]


async def test_a_reader_of_an_earlier_mock_reads_from_the_start(mock):
    async with Stream(mock) as stream:
        start = stream.hello["seq"]
        await mock.request("GET", "/zones")
        await stream.next()
        async with Stream(mock, "?since=12345") as other:
            assert await other.next() == ("dropped", {"events": start})
            assert (await other.next())[1]["api"] == "QueryZone"
            assert other.hello["started"] == stream.hello["started"]


@pytest.mark.parametrize(
    ("query", "told"),
    (
        ("since=x", "'since' is a number from 0, not 'x'"),
        ("calls=some", "'calls' is all or summary, not 'some'"),
        ("sinse=4", "did you mean since?"),
    ),
)
async def test_events_that_cannot_be_chosen_are_refused(mock, query, told):
    status, answer = await control(mock, f"events?{query}")
    assert status == 400 and told in answer["error"]


async def test_a_reader_that_never_reads_costs_a_bounded_amount_and_is_told_what_it_missed(mock):
    async with Stream(mock) as stream:
        start, watch = stream.seq, mock.control.watch
        for n in range(8000):
            watch.note("snapshot", n, {"ballast": "x" * 2000})
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert len(watch.events) + len(watch.notes) <= 2 * MOST_REMEMBERED
        events = []
        while stream.seq < start + 8000:
            events.append(await stream.next())
        dropped = sum(told["events"] for kind, told in events if kind == "dropped")
        assert dropped and dropped + sum(kind == "snapshot" for kind, _ in events) == 8000


@pytest.mark.parametrize("busy", (False, True), ids=("quiet", "busy"))
async def test_a_comment_comes_every_15_seconds_of_the_world_whatever_else_does(mock, monkeypatch, busy):
    loop, ahead = asyncio.get_running_loop(), 0
    steady = loop.time
    async with Stream(mock) as stream:
        monkeypatch.setattr(loop, "time", lambda: steady() + ahead)
        for ahead in range(5, 50, 5):  # noqa: B007 (the clock of the loop shows it)
            if busy:
                mock.control.watch.note("snapshot", "a", {})
                assert await stream.next() == ("snapshot", {})
            if ahead % 15 == 0:
                assert await asyncio.wait_for(stream.answer.content.readuntil(b"\n\n"), 5) == b": still here\n\n"


async def test_readers_that_have_gone_cost_nothing(mock):
    before = len(asyncio.all_tasks())
    for _ in range(5):
        async with Stream(mock):
            pass
    while len(asyncio.all_tasks()) > before:
        await asyncio.sleep(0.01)


async def test_the_mock_ends_though_somebody_listens_and_waits():
    async with serve() as mock:
        stream = await Stream(mock).__aenter__()
        wait = await waiting(mock, "wait?path=/zones&q=name=never&timeout=600")
        before = time.monotonic()
    assert time.monotonic() - before < 3
    await asyncio.wait([wait], timeout=5)
    assert wait.done() and wait.exception()
    await stream.__aexit__()
