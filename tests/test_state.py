"""What a mock keeps is its own: a reset brings back the start and a restore the snapshot, whatever was called in between.

More of it than usual: STATE_EXAMPLES=1000 python -m pytest tests/test_state.py
"""

import asyncio
import contextlib
import copy
import json
import os
import pickle
import tempfile
from collections import Counter
from random import Random

import pytest
from asking import ask_control, each, one, without_exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_every_api import CATALOGUE, SIMULATED, Drive
from test_invariants import OFTEN, TROUBLE, Anything, send

from zmock import (
    IN_TESTS,
    WORLDS,
    FrozenDict,
    FrozenList,
    Settings,
    Store,
    Timers,
    TooFar,
    catalogue,
    create_app,
    frozen,
    lines_of,
    named,
    serve,
    standing_in,
)

EXAMPLES = int(os.environ.get("STATE_EXAMPLES", 0))
WEB, DB, DATA, SPARE = (named(name) for name in ("vm-web-1", "vm-db-1", "volume-db-data-1", "volume-spare"))


def examples(count):
    return settings(max_examples=EXAMPLES or count, deadline=None, suppress_health_check=[*HealthCheck], print_blob=True)


# what there is, and what a mock is driven with


def tables(mock):
    """The text of all that is in the store: nothing that is changed later can reach it."""
    return {type: lines_of(type, items).decode() for type, items in mock.cloud.store.documents().items() if items}


def state(mock):
    """All that a mock knows, without what it was given and without the time of the world."""
    cloud, rest, now = mock.cloud, mock.rest, mock.clock.now()
    due = Counter((timer.name, round((timer.due - now) / 600)) for timer in mock.clock.timers if timer.fire)
    return {
        **tables(mock),
        "clock": (mock.clock.mode, round((now - mock.clock.system_time()) / 600), due),
        "next uuid": cloud.random.getstate(),
        "of the cloud": [str(getattr(cloud, name)) for name in (
            "used", "draws", "creation_moment", "acting")],
        "outages": {name: str(value) for name, value in vars(cloud.outages).items()},
        "under way": [sorted(run.call.api.name for run in cloud.jobs.runs), sorted(run.call.long for run in cloud.jobs.runs), sorted(cloud.part(Timers))],
        "jobs": [sorted(getattr(cloud.jobs, name)) for name in ("running", "progress", "queues", "last_looks", "gone", "unanswered", "hooks_first")],
        "rules": [rule.as_json() for rule in mock.rules],
        "journal": mock.calls(),
        "answers that stand": sorted(rest.cached),
        "settings": vars(mock.cloud.settings).copy(),
        "catalogue": json.dumps([*standing_in(CATALOGUE)["GlobalConfig"].values(), *(row.new for row in CATALOGUE.resources.values())]),
    }  # fmt: skip


def differences(before, after):
    """What is not the same, key by key."""
    return {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


# Nothing is left to call after the first two. The third takes what no API makes. In the dialect server, wrong queries of the
# last two are answered after 300 seconds of the clock, which stands here.
LEFT_OUT = {"DeleteZone", "LogOut", "DeleteNotifications", "ZQLQuery", "BatchQuery"}
HEEDED = [row for row in catalogue().configurations.values() if row.spec.type == "bool" or row.spec.values]


class Driver(Anything):
    """Takes steps, each a word and a number that decides all that is left to chance."""

    async def take(self, steps):
        for word, chance in steps:
            self.random = Random(chance)
            with without_exceptions(word, chance):
                await getattr(self, f"do_{word}", self.call)(word)
                await self.mock.clock.settle()

    async def params(self, api):
        """Half of the calls are made to succeed on the demo cloud as it is at the start."""
        if self.random.random() < 0.5:
            with contextlib.suppress(LookupError, RuntimeError):
                return await Drive.params(self, api) | ({"uuid": DB} if api.name == "DestroyVmInstance" else {})  # it has a data volume
        return await super().params(api)

    async def call(self, name):
        api = SIMULATED[name]
        if api.kind == "Query":
            _, body = await self.mock.request("GET", api.path)
            return await self.log_in_again(body)
        params = await self.params(api)
        if all(params.get(name) for name in [word.partition("}")[0] for word in api.path.split("{")[1:]]):
            _, body = await send(self.mock, api, params)
            await self.log_in_again(body)
        return None

    async def log_in_again(self, body):
        if "ID.1001" in str(body):
            await self.mock.login()

    async def do_advance(self, _):
        with contextlib.suppress(TooFar):
            await ask_control(self.mock, "POST", "clock", {"advance": self.random.choice((1, 30, 7200))})

    async def do_trouble(self, _):
        self.mock.rule(api=self.random.choice(OFTEN), times=1, then={"error": "SYS.1006"})
        (kind, about), = self.random.choice(TROUBLE).items()
        if about == {} or any(item["name"] == about for type in ("Host", "Cluster", "PrimaryStorage") for item in self.store.rows(type)):
            await self.mock.incident({kind: about})

    async def do_configure(self, _):
        row = self.random.choice(HEEDED)
        category, _, name = row.name.partition("/")
        value = self.random.choice([word for word in (row.spec.values or ("true", "false")) if word != row.default])
        await send(self.mock, SIMULATED["UpdateGlobalConfig"], {"category": category, "name": name, "value": value})


words = st.one_of(
    *3 * [st.sampled_from(OFTEN)], *3 * [st.sampled_from(sorted({*SIMULATED} - LEFT_OUT))], st.sampled_from(("configure", "advance", "trouble", "configure"))
)
chances = st.integers(0, 1 << 32)
steps = st.builds(
    lambda first, then: first + then,
    st.lists(st.tuples(st.just("configure"), chances), max_size=8),
    st.lists(st.tuples(words, chances), min_size=3, max_size=25),
)
mocks = st.fixed_dictionaries({"seed": st.integers(0, 3), "dialect": st.sampled_from(("manual", "server")), "delay": st.sampled_from(("0", "0-20"))})


def written(mock):
    """The entries of the journal as text, without what a job's end adds to them."""
    return {entry.seq: json.dumps({name: value for name, value in entry.as_json().items() if name not in ("outcome", "code")}) for entry in mock.calls()}


async def check_answers_that_stand(mock):
    """An answer that stands is what the same query answers anew."""
    await mock.login()
    rest = mock.rest
    standing = {path: answer.body for path, answer in rest.cached.items() if answer.versions == rest.versions_of(answer.versions)}
    rest.cached.clear()
    rest.faults.clear()
    for path, body in standing.items():
        assert (await mock.request("GET", path.removeprefix("/zstack/v1")))[1] == json.loads(body)


# any calls


@examples(10)
@given(told=mocks, taken=steps, others=steps)
def test_any_calls_then_a_reset_are_as_if_nothing_had_been_called(told, taken, others):
    async def run():
        async with serve(**told) as mock:
            start = state(mock)
            for calls in (taken, others):  # the second ones are made on what the first reset brought back
                await mock.login()
                driver, journal = Driver(mock, None), {}
                for step in calls:
                    await driver.take([step])
                    journal = written(mock) | journal
                assert differences(journal, written(mock)) == {}, "what was written in the journal stays as it is"
                await check_answers_that_stand(mock)
                await mock.reset()
                assert differences(start, state(mock)) == {}

    asyncio.run(run())


async def check_snapshot(mock, before, *between):
    """A snapshot, and the mock that is put back to it, are the same whatever was called before each restore."""
    await mock.login()
    driver, found, known = Driver(mock, None), [], []
    await driver.take(before)
    await ask_control(mock, "PUT", "snapshots/s")
    for calls in between:
        known.append(json.dumps(mock.control.read_snapshot("s"), sort_keys=True))
        await driver.take(calls)
        await ask_control(mock, "POST", "snapshots/s/restore")
        found.append(state(mock))
    for n in range(1, len(found)):
        assert known[n] == known[0] and differences(found[0], found[n]) == {}


@examples(5)
@given(told=mocks, before=steps, taken=steps, others=steps)
def test_a_snapshot_is_the_same_however_often_it_is_restored(told, before, taken, others):
    async def run():
        async with serve(**told) as mock:
            await check_snapshot(mock, before, taken, others, [])

    asyncio.run(run())


@examples(1)
@given(told=mocks, before=steps, taken=steps)
def test_a_snapshot_on_the_disk_is_the_same_however_often_it_is_restored(told, before, taken):
    async def run(folder):
        async with serve(**told, memory=False, durable="off", data=f"{folder}/cloud") as mock:
            await check_snapshot(mock, before, taken, [])

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


# stories


unused_rules = pytest.mark.zmock(strict=False)


async def configure(mock, name, value):
    category, _, name = name.partition("/")
    await mock.call("UpdateGlobalConfig", category=category, name=name, value=value)


async def test_data_volumes_that_go_with_their_virtual_machine_are_back_after_a_reset(zmock):
    before = tables(zmock)
    await configure(zmock, "vm/dataVolume.deleteOnVmDestroy", "true")
    await zmock.call("DestroyVmInstance", uuid=DB)
    assert (await one(zmock, "volumes", "name=db-data-1"))["status"] == "Deleted"
    await zmock.reset()
    assert (await one(zmock, "volumes", "name=db-data-1"))["status"] == "Ready"
    await zmock.reset()
    assert differences(before, tables(zmock)) == {}


async def test_what_waits_to_be_expunged_waits_as_long_after_a_reset_as_at_the_start(zmock):
    def left():
        (due,) = (timer.due - zmock.clock.now() for timer in zmock.clock.timers if timer.fire and timer.name == f"expunge of VmInstance {named('vm-old-1')}")
        return round(due / 60)

    waited = left()
    await zmock.reset()
    assert left() == waited == 23 * 60, "it was destroyed an hour ago"


async def test_a_snapshot_knows_what_time_it_was(zmock):
    await zmock.advance(3600)
    then = zmock.clock.now()
    await ask_control(zmock, "PUT", "snapshots/s")
    await zmock.advance(7200)
    for _ in range(2):
        await ask_control(zmock, "POST", "snapshots/s/restore")
        assert zmock.clock.now() == then


async def test_two_mocks_of_the_same_settings_are_reset_to_clouds_of_their_own():
    asked = Settings(**IN_TESTS)
    one, other = create_app(asked), create_app(asked)
    await one[WORLDS].main.control.reset_to("empty")
    await other[WORLDS].main.control.reset_to(other[WORLDS].main.control.settings.cloud)
    assert (one[WORLDS].main.rest.cloud.store.count("Zone"), other[WORLDS].main.rest.cloud.store.count("Zone"), asked.cloud) == (0, 1, "demo")


@unused_rules
async def test_a_rule_stays_as_it_was_set_whatever_becomes_of_what_said_it(zmock):
    then = {"error": "SYS.1006"}
    rule = zmock.rule(api="CreateZone", when={"params.name": "a"}, then=then)
    then["error"] = "SYS.1003"
    assert rule.as_json()["then"] == {"error": "SYS.1006"}


async def test_an_answer_that_stands_tells_the_journal_what_was_asked_each_time(zmock):
    await zmock.login()
    for _ in range(2):
        await zmock.request("GET", "/zones?q=name=zone-1")
    first, second = zmock.calls("QueryZone")
    with pytest.raises(TypeError):
        first.params["q"] = "name=other"
    assert first.params == second.params == {"q": "name=zone-1"}


# what is kept


ITEM = {"uuid": "u", "list": [1, {"a": [2]}], "map": {"a": {"b": 1}}, "text": "t", "none": None}
CHANGES = {
    "a field is set": lambda item: item.__setitem__("text", 1), "a field is taken away": lambda item: item.__delitem__("text"),
    "another dict is laid over it": lambda item: item.__ior__({"text": 1}), "it is updated": lambda item: item.update(text=1),
    "a default is set": lambda item: item.setdefault("new", 1), "a field is popped": lambda item: item.pop("text"),
    "any field is popped": lambda item: item.popitem(), "it is cleared": lambda item: item.clear(),
    "a map inside is changed": lambda item: item["map"]["a"].update(b=2), "a map in a list is changed": lambda item: item["list"][1].clear(),
    "a list is appended to": lambda item: item["list"].append(1), "a list is extended": lambda item: item["list"].extend([1]),
    "a list is added to": lambda item: item["list"].__iadd__([1]), "a list is multiplied": lambda item: item["list"].__imul__(2),
    "an element is set": lambda item: item["list"].__setitem__(0, 2), "a slice is set": lambda item: item["list"].__setitem__(slice(1), [2]),
    "an element is deleted": lambda item: item["list"].__delitem__(0), "an element is inserted": lambda item: item["list"].insert(0, 2),
    "an element is popped": lambda item: item["list"].pop(), "an element is removed": lambda item: item["list"].remove(1),
    "a list is reversed": lambda item: item["list"].reverse(), "a list is sorted": lambda item: item["list"].sort(key=str),
    "a list is cleared": lambda item: item["list"].clear(), "a list deep inside is changed": lambda item: item["list"][1]["a"].append(3),
}  # fmt: skip


@each("what", CHANGES)
def test_nobody_changes_a_stored_item_in_place(what):
    store, given = Store({"Zone": set()}), copy.deepcopy(ITEM)
    store.put("Zone", given)
    with pytest.raises(TypeError, match="read-only"):
        CHANGES[what](store.peek("Zone", "u"))
    CHANGES[what](given)
    CHANGES[what](store.get("Zone", "u"))
    assert store.peek("Zone", "u") == ITEM


def test_every_way_to_change_a_dict_or_a_list_is_refused():
    plain = (object, "copy", "get", "items", "keys", "values", "fromkeys", "count", "index")
    for kind, base in ((FrozenDict, dict), (FrozenList, list)):
        ways = {name for name in vars(base) if callable(getattr(base, name)) and (name[0] != "_" or name in ("__setitem__", "__delitem__", "__ior__", "__iadd__", "__imul__"))}
        assert ways - set(plain) == {name for name in vars(kind) if getattr(vars(kind)[name], "__name__", "") == "refuse_change"}


@pytest.mark.parametrize("copied", (copy.copy, copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item)), lambda item: item | {}, dict, lambda item: json.loads(json.dumps(item))))
def test_a_copy_of_a_stored_item_is_a_plain_dict(copied):
    assert copied(frozen(ITEM)) == ITEM and type(copied(frozen(ITEM))) is dict


def changeable(value, where="it"):
    """Where in a value there is something that could be changed."""
    if type(value) in (FrozenDict, FrozenList, tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, inner in pairs for found in changeable(inner, f"{where}.{key}")]
    return [] if isinstance(value, (str, int, float, type(None))) else [where]


@pytest.mark.zmock(delay="10", strict=False)
async def test_all_that_is_kept_is_frozen(zmock):
    await zmock.create("CreateVmInstance", name="n", imageUuid=named("image-centos7"), instanceOfferingUuid=named("offering-small"),
                       l3NetworkUuids=[named("l3-private")], systemTags=["hostname::n"])  # fmt: skip
    await zmock.request("PUT", f"/vm-instances/{WEB}/actions", {"stopVmInstance": {"type": "grace"}})
    await zmock.request("POST", "/l3-networks/" + named("l3-public") + "/network-services", {"params": {"networkServices": {named("provider-Flat"): ["DHCP"]}}})
    zmock.rule(api="CreateZone", when={"params.name": "a"}, then={"error": "SYS.1006"})
    await ask_control(zmock, "PUT", "snapshots/s")
    store, rest = zmock.cloud.store, zmock.rest
    held = {
        "the tables": store.documents(), "the start": rest.start.documents, "a snapshot": zmock.control.snapshots.held["s"],
        "what every cloud begins with": standing_in(CATALOGUE),
    }  # fmt: skip
    items = {f"{what}: {type}": item for what, documents in held.items() for type, found in documents.items() for item in found.values()}
    logs = {f"undo of {run.call.api.name}": tuple(change[2:] for change in run.log) for run in zmock.cloud.jobs.runs}
    others = {f"call {entry.seq}": entry.params for entry in zmock.calls()} | {rule.id: rule.definition for rule in zmock.rules}
    assert len(items) > 20 and any(logs.values()) and any(others.values())
    assert [where for what, value in (items | logs | others).items() for where in changeable(value, what)] == []
