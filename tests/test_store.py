"""Store: items by type and uuid in memory, in groups to the disk."""

import asyncio
import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import threading
from pathlib import Path

import aiohttp
import pytest
import tinydb
from asking import each_nth, one
from hypothesis import given
from hypothesis import strategies as st
from tinydb import Query, TinyDB, operations, where
from tinydb.table import Document

from zmock import ApiError, SettingsError, Store, named, serve

INDEXES = {"Zone": {"name", "hostUuid", "attachedClusterUuids", "refs.uuid"}, "Host": set(), "Cluster": set()}


def new_store(folder=None):
    store = Store(INDEXES, folder)
    store.open()
    return store


def zone(uuid, **more):
    return {"uuid": uuid, "name": f"zone-{uuid}"} | more


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cloud"


@pytest.fixture
def kept(folder):
    """A store in a folder."""
    store = new_store(folder)
    yield store
    store.close()


@pytest.fixture(params=("memory", "folder"))
def store(request, folder):
    """The same tests on memory and on a folder."""
    store = new_store(folder if request.param == "folder" else None)
    yield store
    store.close()


def uuids(found):
    return sorted(item["uuid"] for item in found)


def documents(folder, name="Zone"):
    """What stock TinyDB reads."""
    with TinyDB(folder / f"{name}.json") as db:
        return db.all()


def survivors(folder, name="Zone"):
    """What a new process would find if this one were killed now: {uuid: item}."""
    copy = folder.with_name("after-a-kill")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    store = new_store(copy)
    found = {item["uuid"]: item for item in store.rows(name)}
    store.folder.lock.close()
    return found


# copies


@pytest.fixture
def nested():
    return zone("a", dns=["8.8.8.8"], refs=[{"uuid": "b", "tags": ["x"]}], opaque={"deep": {"er": 1}})


def spoil(item):
    item["name"] = "spoilt"
    item["dns"].append("spoilt")
    item["refs"][0]["tags"].append("spoilt")
    item["opaque"]["deep"]["er"] = "spoilt"


@pytest.mark.parametrize(
    "store_it",
    (
        lambda store, item: store.put("Zone", item),
        lambda store, item: (store.put("Zone", zone("a")), store.update("Zone", "a", **item)),
    ),
    ids=("put", "update"),
)
async def test_what_goes_in_is_a_copy(store, nested, store_it):
    before = json.dumps(nested)
    store_it(store, nested)
    spoil(nested)
    assert store.get("Zone", "a") == json.loads(before)


async def test_what_comes_out_is_a_copy(store, nested):
    store.put("Zone", nested)
    spoil(store.get("Zone", "a"))
    assert store.get("Zone", "a") == nested


# looking up


@pytest.mark.parametrize("stored", ("0a1b", "0A1B"))
@pytest.mark.parametrize("asked", ("0a1b", "0A1B"))
def test_a_uuid_is_found_whatever_its_case(store, stored, asked):
    store.put("Zone", zone(stored))
    assert store.get("Zone", asked)["uuid"] == stored
    assert uuids(store.find("Zone", "uuid", asked)) == [stored]


@pytest.mark.parametrize("asked", ("0a1b", "0A1B"))
def test_a_uuid_is_changed_and_removed_whatever_its_case(store, asked):
    store.put("Zone", zone("0a1b"))
    store.update("Zone", asked, name="changed")
    assert [*store.rows("Zone")] == [{"uuid": "0a1b", "name": "changed"}]
    store.remove("Zone", asked)
    assert (store.count("Zone"), [*store.find("Zone", "name", "changed")]) == (0, [])


@pytest.mark.parametrize("asked", ("b", "", None, 5, ["a"], {"a": 1}))
def test_what_is_not_there_is_none(store, asked):
    store.put("Zone", zone("a"))
    assert store.get("Zone", asked) is None is store.get("Cluster", asked)
    assert store.find("Zone", "uuid", asked) == []


@pytest.mark.parametrize(
    ("field", "value", "found"),
    (
        ("name", "web", ["a", "b"]),
        ("name", "WEB", ["a", "b"]),
        ("name", "web  ", ["a", "b"]),
        ("name", " web", []),
        ("name", "nothing", []),
        ("hostUuid", "H1", ["a"]),
        ("attachedClusterUuids", "c1", ["a", "c"]),
        ("attachedClusterUuids", "c2", ["a"]),
        ("refs.uuid", "r1", ["b"]),
        ("description", "web", ["c"]),
        ("uuid", "c", ["c"]),
    ),
)
def test_items_are_found_by_the_value_of_a_field_indexed_or_not(store, field, value, found):
    for item in (
        zone("a", name="web", hostUuid="h1", attachedClusterUuids=["c1", "c2"], refs=[]),
        zone("b", name="Web", hostUuid=None, refs=[{"uuid": "r1", "path": "p"}]),
        zone("c", name="db", description="WEB", attachedClusterUuids=["C1"]),
    ):
        store.put("Zone", item)
    assert uuids(store.find("Zone", field, value)) == found


def test_an_index_follows_every_change(store):
    store.put("Zone", zone("a", attachedClusterUuids=["c1", "c2"]))
    store.update("Zone", "a", attachedClusterUuids=["c2", "c3"], name="new")
    assert [uuids(store.find("Zone", "attachedClusterUuids", c)) for c in ("c1", "c2", "c3")] == [[], ["a"], ["a"]]
    assert (uuids(store.find("Zone", "name", "zone-a")), uuids(store.find("Zone", "name", "new"))) == ([], ["a"])
    store.update("Zone", "a", attachedClusterUuids=None)
    assert uuids(store.find("Zone", "attachedClusterUuids", "c2")) == []
    store.remove("Zone", "a")
    assert store.find("Zone", "name", "new") == []


def test_items_are_counted_and_listed_by_type(store):
    for uuid in "ab":
        store.put("Zone", zone(uuid))
    store.put("Cluster", {"uuid": "a"})
    store.remove("Zone", "a")
    assert (store.count("Zone"), store.count("Cluster"), store.count("Host")) == (1, 1, 0)
    assert [*store.rows("Zone")] == [zone("b")]


def test_an_index_that_is_asked_for_late_has_all(store):
    for uuid in "abc":
        store.put("Zone", zone(uuid, hostUuid="h1"))
    store.remove("Zone", "b")
    assert uuids(store.find("Zone", "hostUuid", "h1")) == ["a", "c"]
    store.update("Zone", "a", hostUuid="h2")
    assert [uuids(store.find("Zone", "hostUuid", h)) for h in ("h1", "h2")] == [["c"], ["a"]]


def test_a_state_is_put_back_whatever_happened_since(two_zones):
    state, before = two_zones.documents(), everything(two_zones)
    for _ in range(2):
        change_everything(two_zones)
        two_zones.put_back(state)
        assert everything(two_zones) == before
        assert uuids(two_zones.find("Zone", "name", "zone-b")) == ["b"]


def test_clearing_forgets_everything(store):
    store.put("Zone", zone("a"))
    store.put_back({})
    assert (store.count("Zone"), store.get("Zone", "a"), store.find("Zone", "name", "zone-a")) == (0, None, [])


# all or nothing


def change_everything(store):
    store.update("Zone", "a", name="changed", hostUuid="h")
    store.remove("Zone", "b")
    store.put("Zone", zone("c"))
    store.update("Zone", "c", name="changed")
    store.put("Cluster", {"uuid": "x"})


def everything(store):
    return {name: {item["uuid"]: item for item in store.rows(name)} for name in ("Zone", "Cluster")}


@pytest.fixture
def two_zones(store):
    store.put("Zone", zone("a", dns=["1"]))
    store.put("Zone", zone("b"))
    return store


async def test_what_fails_half_way_is_taken_back(two_zones):
    before = everything(two_zones)
    with pytest.raises(ValueError), two_zones.all_or_nothing():
        change_everything(two_zones)
        raise ValueError
    assert everything(two_zones) == before
    assert [uuids(two_zones.find("Zone", "name", n)) for n in ("zone-a", "zone-b", "zone-c", "changed")] == [["a"], ["b"], [], []]
    assert two_zones.find("Zone", "hostUuid", "h") == []


async def test_what_succeeds_stays(two_zones):
    with two_zones.all_or_nothing():
        change_everything(two_zones)
    assert uuids(two_zones.rows("Zone")) == ["a", "c"]
    assert uuids(two_zones.find("Zone", "name", "changed")) == ["a", "c"]


def test_an_outer_part_that_fails_takes_the_inner_one_with_it(two_zones):
    before = everything(two_zones)
    with pytest.raises(ValueError), two_zones.all_or_nothing():
        with two_zones.all_or_nothing():
            change_everything(two_zones)
        raise ValueError
    assert everything(two_zones) == before


def test_an_inner_part_fails_alone(two_zones):
    with two_zones.all_or_nothing():
        two_zones.put("Zone", zone("outer"))
        with pytest.raises(ValueError), two_zones.all_or_nothing():
            change_everything(two_zones)
            raise ValueError
        two_zones.update("Zone", "a", name="outer too")
    assert uuids(two_zones.rows("Zone")) == ["a", "b", "outer"]
    assert two_zones.get("Zone", "a") == zone("a", dns=["1"], name="outer too")


# keeping


async def test_a_commit_survives_a_kill_as_soon_as_it_returns(kept, folder):
    kept.put("Zone", zone("a", name="区域", dns=["1"], opaque={"x": None}))
    kept.put("Host", {"uuid": "h", "cpuNum": 4, "system": False, "share": 0.5})
    await kept.commit()
    assert survivors(folder) == {"a": zone("a", name="区域", dns=["1"], opaque={"x": None})}
    assert survivors(folder, "Host") == {"h": {"uuid": "h", "cpuNum": 4, "system": False, "share": 0.5}}
    kept.update("Zone", "a", name="new")
    kept.put("Zone", zone("b"))
    kept.remove("Host", "h")
    assert survivors(folder)["a"]["name"] == "区域"
    await kept.commit()
    assert {uuid: item["name"] for uuid, item in survivors(folder).items()} == {"a": "new", "b": "zone-b"}
    assert survivors(folder, "Host") == {}


async def test_a_type_is_a_file_of_tinydb_and_only_what_changed_is_written(kept, folder, writes):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    await kept.commit()
    await kept.fold()
    kept.put("Zone", zone("b", name="区域"))
    await kept.commit()
    await kept.fold()
    await kept.fold()
    assert sorted(writes) == ["Host.json", "Zone.json", "Zone.json"]
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == ["Host.json", "Zone.json"]
    assert documents(folder) == [zone("a"), zone("b", name="区域")]
    assert (folder / "Zone.json").read_text().splitlines()[1:3] == [
        '"1":{"uuid":"a","name":"zone-a"},', r'"2":{"uuid":"b","name":"\u533a\u57df"}']  # fmt: skip


@pytest.fixture
def writes(monkeypatch):
    """The names of the TinyDB files that take their place from now on, in order, spares left out."""
    names, replace = [], os.replace

    def noted(source, target):
        names.extend([target.name] * (target.parent.name != ".spare"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    return names


@pytest.fixture
def syncs(monkeypatch):
    """How often something had to reach the disk from now on: the length of what this gives."""
    times, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (times.append(number), fsync(number)))
    return times


async def test_commits_that_come_together_share_one_write(kept, folder, syncs):
    kept.put("Zone", zone("first"))
    await kept.commit()
    syncs.clear()

    async def make(n):
        kept.put("Zone", zone(f"{n}"))
        await kept.commit()

    await asyncio.gather(*map(make, range(1000)))
    assert len(syncs) == 1
    assert len(survivors(folder)) == 1001


async def test_commits_that_come_during_a_write_share_the_next_one(kept, folder, monkeypatch):
    kept.put("Zone", zone("first"))
    await kept.commit()
    begun, go_on, fsync, writes = threading.Event(), threading.Event(), os.fsync, []

    def slow(number):
        writes.append(number)
        begun.set()
        assert go_on.wait(5)
        fsync(number)

    monkeypatch.setattr(os, "fsync", slow)
    kept.put("Zone", zone("a"))
    commits = [asyncio.ensure_future(kept.commit())]
    await asyncio.to_thread(begun.wait, 5)
    for n in range(10):
        kept.put("Zone", zone(f"{n}"))
        commits.append(asyncio.ensure_future(kept.commit()))
    await asyncio.sleep(0)
    assert not any(commit.done() for commit in commits)
    go_on.set()
    await asyncio.gather(*commits)
    assert len(writes) == 2 and len(survivors(folder)) == 12


async def test_a_commit_that_is_given_up_takes_nothing_from_the_others(kept, folder):
    kept.put("Zone", zone("a"))
    given_up, other = asyncio.ensure_future(kept.commit()), asyncio.ensure_future(kept.commit())
    await asyncio.sleep(0)
    given_up.cancel()
    await other
    assert given_up.cancelled() and survivors(folder) == {"a": zone("a")}


async def test_commits_go_on_while_the_files_are_completed(kept, folder, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr("zmock.SLICE", 1)
    monkeypatch.setattr(kept.folder, "pause", lambda: (begun.set(), go_on.wait(5)))
    for n in range(2):
        kept.put("Zone", zone(f"{n}"))
    await kept.commit()
    folding = asyncio.ensure_future(kept.fold())
    await asyncio.to_thread(begun.wait, 5)
    for n in range(3):
        kept.update("Zone", "0", name=f"round-{n}")
        await kept.commit()
        assert survivors(folder)["0"]["name"] == f"round-{n}"
    assert not folding.done()
    go_on.set()
    await folding
    assert [item["name"] for item in documents(folder)] == ["zone-0", "zone-1"] and survivors(folder)["0"]["name"] == "round-2"
    await kept.fold()
    assert documents(folder)[0]["name"] == "round-2" and not [*folder.glob("*.ledger")]


async def test_what_was_kept_is_there_again_with_the_same_numbers(kept, folder):
    for uuid in "abc":
        kept.put("Zone", zone(uuid, attachedClusterUuids=["c1"], opaque={"x": [1, 2.5, None, True]}))
    kept.remove("Zone", "b")
    await kept.commit()
    await kept.fold()
    numbers = {doc["uuid"]: doc.doc_id for doc in documents(folder)}
    kept.close()
    again = new_store(folder)
    assert everything(again) == everything(kept)
    assert uuids(again.find("Zone", "attachedClusterUuids", "C1")) == ["a", "c"]
    again.put("Zone", zone("d"))
    again.close()
    after = {doc["uuid"]: doc.doc_id for doc in documents(folder)}
    assert numbers == {uuid: after[uuid] for uuid in "ac"} and after["d"] not in numbers.values()


async def test_closing_writes_what_is_left_completes_the_files_and_lets_the_folder_go(kept, folder):
    kept.put("Zone", zone("a"))
    kept.close()
    assert documents(folder) == [zone("a")] and not [*folder.glob("*.ledger")]
    again = new_store(folder)
    assert again.get("Zone", "a") == zone("a")
    again.close()


@pytest.mark.parametrize("fold", (False, True))
async def test_a_whole_state_takes_the_place_of_what_was_kept(kept, folder, fold):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    await kept.commit()
    if fold:
        await kept.fold()
    kept.put("Zone", zone("lost"))
    kept.put_back({"Zone": {7: zone("b"), 9: zone("c")}})
    kept.put("Zone", zone("d"))
    kept.remove("Zone", "b")
    await kept.commit()
    assert survivors(folder) == {"c": zone("c"), "d": zone("d")} and survivors(folder, "Host") == {}
    await kept.fold()
    assert [doc.doc_id for doc in documents(folder)] == [9, 10]
    assert not fold or documents(folder, "Host") == []


async def test_clearing_empties_the_files(kept, folder):
    kept.put("Zone", zone("a"))
    await kept.commit()
    await kept.fold()
    kept.put_back({})
    await kept.commit()
    assert survivors(folder) == {}
    await kept.fold()
    assert documents(folder) == []


async def test_the_files_are_complete_when_it_is_quiet_and_not_before(kept, folder):
    kept.put("Zone", zone("a"))
    await kept.commit()
    await kept.tend()
    assert [*folder.glob("*.ledger")] and not (folder / "Zone.json").exists()
    await kept.tend()
    assert not [*folder.glob("*.ledger")] and documents(folder) == [zone("a")]


async def test_a_long_ledger_does_not_wait_for_quiet(kept, folder, monkeypatch):
    monkeypatch.setattr("zmock.LONGEST_LEDGER", 10)
    kept.put("Zone", zone("a"))
    await kept.commit()
    await kept.tend()
    assert documents(folder) == [zone("a")]


async def test_without_durability_nobody_waits_and_a_clean_stop_keeps_all(folder, syncs):
    store = Store(INDEXES, folder, durable=False)
    store.open()
    store.put("Zone", zone("a"))
    await store.commit()
    assert not [*folder.glob("*.ledger")]
    while store.writing or store.waiting:
        await asyncio.sleep(0.01)
    assert len(syncs) == 1 and survivors(folder) == {"a": zone("a")}  # the folder's, when the ledger began
    store.close()
    assert documents(folder) == [zone("a")]


async def test_half_a_surrogate_pair_is_kept_too(kept, folder):
    kept.put("Zone", zone("a", name="\ud83d"))
    await kept.commit()
    await kept.fold()
    assert documents(folder) == [zone("a", name="\ud83d")] and survivors(folder) == {"a": zone("a", name="\ud83d")}


# a disk that fails


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing reaches the disk until what this gives is called."""

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    return monkeypatch.undo


async def test_what_a_commit_that_failed_has_written_is_gone_at_once(kept, folder, monkeypatch):
    kept.put("Zone", zone("a"))
    await kept.commit()
    (ledger,) = folder.glob("*.ledger")
    before = ledger.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
        kept.put("Zone", zone("b"))
        with pytest.raises(ApiError):
            await kept.commit()
    assert ledger.read_bytes() == before


async def test_who_waits_for_a_commit_that_fails_has_his_changes_undone_before_the_next_one(kept, folder, monkeypatch):
    kept.put("Zone", zone("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: (patch.undo(), os.open("/nowhere/at/all", 0)))
        kept.put("Zone", zone("b"))
        refused = asyncio.ensure_future(kept.commit(lambda error: kept.remove("Zone", "b")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        kept.put("Zone", zone("c"))
        await kept.commit()
    with pytest.raises(ApiError):
        await refused
    assert [*survivors(folder)] == ["a", "c"]


async def test_a_state_put_back_meanwhile_is_not_undone(kept, full_disk):
    kept.put("Zone", zone("a"))
    refused = asyncio.ensure_future(kept.commit(lambda error: kept.remove("Zone", "b")))
    await asyncio.sleep(0)
    kept.put_back({"Zone": {1: zone("b")}})
    with pytest.raises(ApiError):
        await refused
    assert uuids(kept.rows("Zone")) == ["b"]


async def test_a_full_disk_is_an_error_of_the_call_and_the_next_commit_catches_up(kept, folder, full_disk):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    refused = await asyncio.gather(*(kept.commit() for _ in range(3)), return_exceptions=True)
    assert {(type(error), error.code, error.status) for error in refused} == {(ApiError, "SYS.1016", 503)}
    assert all("No space left on device" in error.details and str(folder) in error.details for error in refused)
    assert kept.state.startswith("failing: ") and "No space left" in kept.state
    assert kept.get("Zone", "a") == zone("a") and survivors(folder) == {}
    full_disk()
    await kept.commit()
    assert survivors(folder) == {"a": zone("a")} and survivors(folder, "Host") == {"h": {"uuid": "h"}}
    assert kept.state == "kept"


async def test_what_was_on_the_disk_before_it_was_full_is_still_whole(kept, folder, monkeypatch, full_disk):
    full_disk()
    kept.put("Zone", zone("a"))
    await kept.commit()
    await kept.fold()
    monkeypatch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
    kept.put("Zone", zone("b"))
    with pytest.raises(ApiError):
        await kept.commit()
    await kept.fold()
    assert documents(folder) == [zone("a")] and [*survivors(folder)] == ["a"] and not [*folder.rglob("*.tmp")]


async def test_files_that_cannot_be_completed_now_are_completed_later(kept, folder, monkeypatch):
    kept.put("Zone", zone("a"))
    await kept.commit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: os.open("/nowhere/at/all", 0))
        await kept.fold()
        assert kept.state.startswith("failing: ")
        kept.put("Zone", zone("b"))
        await kept.commit()
    assert survivors(folder) == {"a": zone("a"), "b": zone("b")}
    await kept.fold()
    assert documents(folder) == [zone("a"), zone("b")] and kept.state == "kept"


async def test_what_failed_to_be_kept_is_tried_again_without_being_asked(kept, folder, full_disk):
    kept.put("Zone", zone("a"))
    await kept.try_commit()
    await kept.tend()
    assert survivors(folder) == {}
    full_disk()
    await kept.tend()
    assert survivors(folder) == {"a": zone("a")}


async def test_a_folder_that_was_removed_is_written_anew_though_nothing_changes(kept, folder):
    kept.put("Zone", zone("a"))
    await kept.commit()
    shutil.rmtree(folder)
    for _ in range(6):
        await kept.tend()
    assert documents(folder) == [zone("a")] and kept.state == "kept"


@pytest.mark.parametrize("fold", (False, True))
@pytest.mark.parametrize("removed", ("", ".spare", ".lock", "Zone.json", "*.json", "*.ledger", "*"))
async def test_whatever_is_removed_meanwhile_is_written_anew_with_the_next_commit(kept, folder, removed, fold):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    await kept.commit()
    await kept.fold()
    kept.put("Zone", zone("b", name="old"))
    await kept.commit()
    if fold:
        await kept.fold()
    for path in [*folder.glob(removed)] if removed else [folder]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept.put("Zone", zone("b", name="new"))
    await kept.commit()
    for _ in range(2):
        assert survivors(folder) == {"a": zone("a"), "b": zone("b", name="new")} and survivors(folder, "Host") == {"h": {"uuid": "h"}}
        with pytest.raises(SettingsError, match="in use"):
            new_store(folder)
        await kept.fold()
    assert documents(folder) == [zone("a"), zone("b", name="new")] and not [*folder.glob("*.ledger")]
    kept.put("Zone", zone("c"))
    await kept.commit()
    assert [*survivors(folder)] == ["a", "b", "c"] and len([*folder.glob("*.ledger")]) == 1 and kept.state == "kept"


@pytest.mark.parametrize("removed", (".lock", "Zone.json", "*.json", "*.ledger"))
async def test_whatever_is_removed_is_written_anew_though_nothing_changes(kept, folder, removed):
    for name in "ab":
        kept.put("Zone", zone(name))
        await kept.commit()
        await kept.tend()
        if name == "a":
            await kept.fold()
    for path in folder.glob(removed):
        path.unlink()
    for _ in range(3):
        await kept.tend()
    assert documents(folder) == [zone("a"), zone("b")] and kept.state == "kept" and not [*folder.glob("*.ledger")]


async def test_a_folder_that_another_one_has_taken_meanwhile_is_not_written(kept, folder):
    kept.put("Zone", zone("a"))
    await kept.commit()
    shutil.rmtree(folder)
    other = new_store(folder)
    other.put("Zone", zone("b"))
    await other.commit()
    kept.put("Zone", zone("c"))
    with pytest.raises(ApiError, match="in use by another zmock"):
        await kept.commit()
    assert survivors(folder) == {"b": zone("b")}
    other.close()


async def test_an_undo_that_goes_wrong_keeps_no_other_from_being_done(kept, full_disk, caplog):
    undone = []

    def wrong(error):
        raise TypeError("not so")

    kept.put("Zone", zone("a"))
    undos = undone.append, wrong, undone.append
    refused = await asyncio.gather(*(kept.commit(undo) for undo in undos), return_exceptions=True)
    assert [error.code for error in refused] == ["SYS.1016"] * 3 and len(undone) == 2
    assert "TypeError: not so" in caplog.text


async def test_rest_waits_for_a_write_that_nobody_waits_for(folder, monkeypatch):
    store = Store(INDEXES, folder, durable=False)
    store.open()
    store.put("Zone", zone("a"))
    asked = iter(range(3))  # asking again and again would never let the write begin
    commit = store.commit
    monkeypatch.setattr(store, "commit", lambda: next(asked) and None or commit())
    await store.rest()
    assert survivors(folder) == {"a": zone("a")} and store.state == "kept"
    store.close()


async def test_a_value_that_json_cannot_write_is_refused_and_takes_nothing_with_it(kept, folder):
    for removed in (False, True):  # then a whole state is written
        if removed:
            shutil.rmtree(folder)
        kept.put("Zone", zone("a", name=f"{removed}"))
        commits = [kept.commit()]
        kept.put("Zone", zone("b", opaque={"x": {1, 2}}))
        commits.append(kept.commit(lambda error: kept.remove("Zone", "b")))
        refused = await asyncio.gather(*commits, return_exceptions=True)
        assert ["TypeError: Object of type set is not JSON serializable" in error.details for error in refused] == [True, True]
        await kept.tend()
        assert kept.state == "kept" and survivors(folder) == {"a": zone("a", name=f"{removed}")}


async def test_a_write_that_is_broken_off_loses_no_change(kept, folder, monkeypatch):
    begun = asyncio.Event()

    async def never(*arguments):
        begun.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "to_thread", never)
        kept.put("Zone", zone("a"))
        commit = asyncio.ensure_future(kept.commit())
        await begun.wait()
        kept.writing.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    kept.put("Zone", zone("b"))
    await kept.commit()
    assert [*survivors(folder)] == ["a", "b"]


async def test_a_failure_is_logged_once_though_its_text_changes_and_again_after_it_was_over(kept, folder, monkeypatch, caplog):
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("zmock.sync_folder", lambda path: os.open("/nowhere/at/all", 0))
            for n in range(3):
                kept.put("Zone", zone(f"{n}"))
                await kept.try_commit()
                await kept.tend()
        await kept.tend()
        await kept.fold()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] * 2
    assert caplog.records[-1].getMessage() == f"the cloud is kept in {folder} again" and kept.state == "kept"


async def test_files_that_cannot_be_completed_are_logged_once_though_commits_succeed(kept, folder, caplog):
    (folder / ".spare").rmdir()
    (folder / ".spare").write_text("")
    for n in range(3):
        kept.put("Zone", zone(f"{n}"))
        await kept.commit()
        assert kept.state == "kept"
        await kept.fold()
        assert kept.state.startswith("failing: ")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (folder / ".spare").unlink()
    for _ in range(3):
        await kept.tend()
    assert kept.state == "kept" and len(documents(folder)) == 3


async def test_a_store_that_is_closed_while_its_folder_fails_lets_it_go(folder, full_disk):
    store = new_store(folder)
    store.put("Zone", zone("a"))
    store.close()
    full_disk()
    new_store(folder).close()

# every call of the filesystem

NAMES = "listdir stat fstat open close fsync replace unlink mkdir".split()
FAILING = (*((number, False) for number in (errno.EIO, errno.EACCES, errno.EMFILE, errno.EINVAL)), (MemoryError, False),
           *((number, True) for number in (errno.ENOSPC, errno.EROFS)), (RecursionError, True))  # fmt: skip


class Filesystem:
    """The calls that a Store makes of the filesystem. While it is armed, one of them fails, or all from there on."""

    def __init__(self, monkeypatch, folder):
        self.folder, self.left, self.error, self.lasting, self.met = str(folder), None, None, False, []
        monkeypatch.setattr(os, "fsync", lambda number: None)  # whether it reaches the disk is not asked here
        for place, name in (*((os, name) for name in NAMES), (io, "open"), (shutil, "copyfile"), (fcntl, "flock")):
            monkeypatch.setattr(place, name, self.mortal(name, getattr(place, name)))
        monkeypatch.setattr("zmock.open", self.opened, raising=False)
        filesystem = self

        class File(io.FileIO):
            def write(self, data):
                if filesystem.fails("write"):
                    super().write(memoryview(data)[: len(data) // 2])
                    raise filesystem.failure()
                return super().write(data)

            def truncate(self, size=None):
                return filesystem.mortal("truncate", super().truncate)(size)

        self.file = File

    def opened(self, path, mode="r", buffering=-1, **more):
        file = self.mortal("open", self.file)(path, mode.replace("b", ""))
        return io.BufferedReader(file) if mode == "rb" else io.BufferedWriter(file) if buffering else file

    def mortal(self, name, call):
        def act(*arguments, **more):
            elsewhere = isinstance(arguments[0], (str, Path)) and not str(arguments[0]).startswith(self.folder)
            if elsewhere or not self.fails(name):
                return call(*arguments, **more)
            if name == "close":  # it is closed nevertheless, as on Linux
                call(*arguments)
            raise self.failure()

        return act

    def fails(self, name):
        if self.left is None:
            return False
        self.left -= 1
        fails = self.left < 0 if self.lasting else self.left == -1
        self.met += [name] * fails
        return fails

    def failure(self):
        return OSError(self.error, os.strerror(self.error)) if isinstance(self.error, int) else self.error("no room for it")

    def arm(self, left, error, lasting):
        self.left, self.error, self.lasting, self.met = left, error, lasting, []

    def disarm(self):
        self.left = None
        return self.met


async def is_made(store, uuid):
    """Whether a zone is kept; what is refused is not there any more."""
    store.put("Zone", zone(uuid))
    try:
        await store.commit(lambda error: store.remove("Zone", uuid))
    except ApiError as error:
        assert (error.code, error.status) == ("SYS.1016", 503)
        return False
    return True


async def make_some(store, folder):
    """Commits to a new ledger and to an old one, folds, finds the folder removed; the zones that were acknowledged."""
    made = {"a"}
    for uuid in "bcd":
        made |= {uuid} if await is_made(store, uuid) else set()
        assert {item["uuid"] for item in store.rows("Zone")} == made
        if uuid == "c":
            await store.fold()
            os.rename(folder, folder.with_name("moved-away"))
    await store.tend()
    return made


@pytest.mark.parametrize("failing", each_nth(3, FAILING), ids=lambda failing: errno.errorcode.get(failing[0]) or failing[0].__name__)
async def test_whichever_call_of_the_filesystem_fails_what_was_acknowledged_is_the_state(tmp_path, monkeypatch, caplog, failing):
    error, lasting = failing
    filesystem, tried = Filesystem(monkeypatch, tmp_path), []
    for place in range(200):
        folder = tmp_path / f"{place}" / "cloud"
        store = new_store(folder)
        assert await is_made(store, "a")
        caplog.clear()
        filesystem.arm(place, error, lasting)
        made = await make_some(store, folder)
        met = filesystem.disarm()
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) <= 1
        for _ in range(3):
            await store.tend()
        assert store.state == "kept" and {*survivors(folder)} == made, (place, met)
        assert await is_made(store, "z")
        store.close()
        assert {item["uuid"] for item in documents(folder)} == made | {"z"} and not [*folder.rglob("*.tmp")], (place, met)
        tried += met
        if not met:
            break
    assert {*tried} >= {*NAMES, "write", "copyfile", "flock"} and place < 199


# the database, as TinyDB's own methods see it


WEB = named("vm-web-1")


@contextlib.asynccontextmanager
async def mock_in(folder, cloud="demo"):
    async with serve(data=str(folder), cloud=cloud) as mock:
        await mock.login()
        yield mock


async def written(mock):
    """The folder, once the mock has written on its own what changed, and completed the files."""
    for _ in range(2):
        await mock.cloud.store.tend()
    return Path(mock.settings.data)


def stored(folder, name, uuid):
    """An item as stock TinyDB reads it from the file."""
    with TinyDB(folder / f"{name}.json") as db:
        return db.get(where("uuid") == uuid)


async def test_the_store_of_a_cloud_is_a_tinydb(folder):
    async with mock_in(folder) as mock:
        assert mock.db is mock.cloud.db is mock.cloud.store and isinstance(mock.db, TinyDB)
        assert isinstance(mock.db.table("Zone"), tinydb.table.Table) and isinstance(mock.db.storage, tinydb.Storage)
        assert {"Zone", "VmInstance"} <= mock.db.tables() and "Zone" in repr(mock.db) and len(mock.db) > 100


async def test_an_update_is_an_answer_of_the_api_at_once_and_in_the_file_soon(folder):
    async with mock_in(folder) as mock:
        before = await one(mock, "vm-instances", "name=web-1")
        assert len(mock.db.table("VmInstance").update({"state": "Unknown"}, where("name") == "web-1")) == 1
        assert await one(mock, "vm-instances", "name=web-1") == before | {"state": "Unknown"}
        assert WEB in [vm["uuid"] for vm in await mock.query("vm-instances", "state=Unknown")]
        assert stored(await written(mock), "VmInstance", WEB)["state"] == "Unknown"
    async with mock_in(folder) as again:
        assert again.db.table("VmInstance").get(where("uuid") == WEB)["state"] == "Unknown"


async def test_updates_take_functions_and_numbers_and_none_takes_a_field_away(folder):
    async with mock_in(folder) as mock:
        vms = mock.db.table("VmInstance")
        [number] = vms.update(operations.increment("cpuNum"), where("uuid") == WEB)
        cpus = vms.get(doc_id=number)["cpuNum"]
        assert vms.update(operations.delete("platform"), doc_ids=[number]) == [number]
        assert vms.update_multiple([(operations.set("description", "new"), where("uuid") == WEB), ({"imageUuid": None}, where("uuid") == WEB)])
        document = vms.get(doc_id=number)
        assert (document["description"], document["cpuNum"]) == ("new", cpus) and not {"platform", "imageUuid"} & document.keys()
        assert stored(await written(mock), "VmInstance", WEB) == document


async def test_an_inserted_object_is_found_by_the_api_and_by_indexes(folder):
    async with mock_in(folder) as mock:
        zones = mock.db.table("Zone")
        new = {"uuid": "a" * 32, "name": "new", "state": "Enabled", "type": "zstack", "tags": ["x"]}
        number = zones.insert(new)
        new["tags"].append("spoilt")
        assert zones.insert_multiple([new | {"uuid": "b" * 32}, Document(new | {"uuid": "c" * 32}, doc_id=77)]) == [number + 1, 77]
        assert zones.insert(new | {"uuid": "d" * 32}) == 78
        assert [zone["uuid"][0] for zone in await mock.query("zones", "name=new")] == [*"abcd"]
        assert mock.cloud.store.peek("Zone", "A" * 32)["tags"] == ["x"]
        folder = await written(mock)
        with TinyDB(folder / "Zone.json") as db:
            assert [document.doc_id for document in db.search(where("name") == "new")] == [number, number + 1, 77, 78]


async def test_an_upsert_changes_what_is_there_and_inserts_what_is_not(folder):
    async with mock_in(folder) as mock:
        zones = mock.db.table("Zone")
        [number] = zones.upsert({"name": "renamed"}, where("name") == "zone-1")
        assert zones.upsert(Document({"description": "by number"}, doc_id=number)) == [number]
        [other] = zones.upsert({"uuid": "e" * 32, "name": "other"}, where("name") == "other")
        assert zones.get(doc_id=number)["description"] == "by number" and other != number
        assert sorted(zone["name"] for zone in await mock.query("zones")) == ["other", "renamed"]
        assert stored(await written(mock), "Zone", "e" * 32).doc_id == other


async def test_a_removed_object_is_gone_everywhere(folder):
    async with mock_in(folder) as mock:
        vms = mock.db.table("VmInstance")
        [number] = vms.remove(where("uuid") == WEB)
        assert vms.remove(doc_ids=[number]) == [] and not vms.contains(doc_id=number)
        assert await mock.query("vm-instances", "name=web-1") == []
        assert stored(await written(mock), "VmInstance", WEB) is None


async def test_what_is_handed_out_is_a_copy(folder):
    async with mock_in(folder) as mock:
        vms = mock.db.table("VmInstance")
        before = mock.cloud.store.get("VmInstance", WEB)
        copies = [vms.get(where("uuid") == WEB), *vms.search(where("uuid") == WEB), vms.get(doc_ids=[vms.get(where("uuid") == WEB).doc_id])[0],
                  next(document for document in vms if document["uuid"] == WEB)]  # fmt: skip
        for document in copies:
            assert isinstance(document, Document) and document == before
            document["name"] = "spoilt"
            document.setdefault("list", []).append("spoilt")
        assert vms.search(where("uuid") == WEB) == [before] == [mock.cloud.store.get("VmInstance", WEB)]


async def test_objects_are_searched_counted_and_listed(folder):
    async with mock_in(folder) as mock:
        vms, store = mock.db.table("VmInstance"), mock.cloud.store
        assert len(vms) == len(vms.all()) == len([*vms]) == store.count("VmInstance")
        running = (Query().state == "Running") & (Query().cpuNum >= 1)
        assert vms.count(running) == len(vms.search(running)) == len(await mock.query("vm-instances", "state=Running"))
        assert vms.contains(where("name") == "web-1") and not vms.contains(where("name") == "web-0")
        numbers = [document.doc_id for document in vms]
        assert [*map(str, numbers)] == [*map(str, dict.fromkeys(numbers))] and vms.get(doc_id=numbers[0]) == vms.all()[0]


@pytest.mark.parametrize("empty", (lambda db: db.table("VmInstance").truncate(), lambda db: db.drop_table("VmInstance"), lambda db: db.drop_tables()))
async def test_a_table_is_emptied(folder, empty):
    async with mock_in(folder) as mock:
        vms = mock.db.table("VmInstance")
        empty(mock.db)
        assert len(vms) == 0 == mock.cloud.store.count("VmInstance")
        folder = await written(mock)
        assert documents(folder, "VmInstance") == []
        number = vms.insert({"uuid": "f" * 32, "name": "n"})
        assert vms.get(doc_id=number)["name"] == "n"


async def test_a_table_outlives_a_reset(folder):
    async with mock_in(folder) as mock:
        vms = mock.db.table("VmInstance")
        before = vms.all()
        vms.truncate()
        await mock.reset()
        assert vms is mock.db.table("VmInstance") and vms.all() == before


async def test_configurations_are_numbered_objects_of_which_the_changed_ones_are_kept(folder):
    async with mock_in(folder) as mock:
        configurations = mock.db.table("GlobalConfig")
        state = mock.cloud.store.documents()
        assert len({document.doc_id for document in configurations}) == len(configurations) > 100
        assert mock.cloud.store.documents() == state
        [number] = configurations.update({"value": "5"}, where("uuid") == "vm/dataVolume.deleteOnVmDestroy")
        folder = await written(mock)
        with TinyDB(folder / "GlobalConfig.json") as db:
            assert [(document.doc_id, document["value"]) for document in db if document["name"] == "dataVolume.deleteOnVmDestroy"] == [(number, "5")]


async def test_watchers_and_waiting_calls_see_a_change(folder):
    async with mock_in(folder) as mock, aiohttp.ClientSession() as http:
        conditions = "path=/vm-instances&q=name=web-1&q=state=Unknown"
        waiting = asyncio.ensure_future(http.get(f"{mock.base}/zmock/wait?{conditions}"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        mock.db.table("VmInstance").update({"state": "Unknown"}, where("name") == "web-1")
        assert (await asyncio.wait_for(waiting, 5)).status == 200


WRONG = {
    "has no uuid": (lambda zones: zones.insert({"name": "n"}), "needs a uuid"),
    "has a number for a uuid": (lambda zones: zones.insert({"uuid": 5}), "needs a uuid"),
    "has a uuid that is taken": (lambda zones: zones.insert(dict(zones.all()[0])), "is there already"),
    "has a uuid that is taken, in capitals": (lambda zones: zones.insert({"uuid": zones.all()[0]["uuid"].upper()}), "is there already"),
    "comes twice": (lambda zones: zones.insert_multiple([{"uuid": "a"}, {"uuid": "a"}]), "is there already"),
    "gets another uuid": (lambda zones: zones.update({"uuid": "a"}), "cannot be changed to a"),
    "loses its uuid": (lambda zones: zones.update(operations.delete("uuid")), "needs a uuid"),
    "has a number below 0": (lambda zones: zones.insert(Document({"uuid": "a"}, doc_id=-1)), "no number"),
    "has a number of another": (lambda zones: zones.insert(Document({"uuid": "a"}, doc_id=zones.all()[0].doc_id)), "already exists"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_an_object_that_cannot_be_stored_is_refused_with_nothing_changed(folder, wrong):
    async with mock_in(folder) as mock:
        zones, (do, reason) = mock.db.table("Zone"), WRONG[wrong]
        before = zones.all()
        with pytest.raises(ValueError, match=reason) as error:
            do(zones)
        assert "\n" not in str(error.value) and zones.all() == before
        await mock.create("CreateZone", name="afterwards")
        assert documents(await written(mock))[: len(before)] == before


async def test_a_value_that_json_cannot_hold_is_refused_as_by_stock_tinydb(folder):
    async with mock_in(folder) as mock:
        with pytest.raises(TypeError, match="not JSON serializable"):
            mock.db.table("Zone").update({"name": {1, 2}})
        assert (await written(mock)) and mock.cloud.store.state == "kept"


def test_a_table_that_is_none_is_refused_with_the_nearest_one(folder):
    store = new_store(folder)
    with pytest.raises(ValueError, match="there is no table Zoen, did you mean Zone?"):
        store.table("Zoen")
    with pytest.raises(AttributeError, match="no default table"):
        store.insert({"uuid": "a"})
    store.close()


@pytest.mark.parametrize("data", (False, True))
def test_a_mock_in_a_thread_has_the_database_too(tmp_path, data):
    with serve(**({"data": str(tmp_path / "cloud")} if data else {})) as mock:
        mock.login()
        vms = mock.db.table("VmInstance")
        thread = []
        vms.update(lambda document: thread.append(threading.current_thread().name) or document.update(state="Unknown"), where("name") == "web-1")
        assert thread == ["zmock"] and mock.query("vm-instances", "name=web-1")[0]["state"] == "Unknown"
        assert vms.count(where("name") == "web-1") == 1 and isinstance(mock.db, TinyDB)
    with pytest.raises(RuntimeError, match="has ended"):
        vms.all()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("x", "y", None)), st.integers(0, 9) | st.none()), max_size=30))
def test_a_total_is_the_sum_over_the_items_whatever_is_put_and_removed(steps):
    store = Store({"Zone": ("place",)})
    table = store.table("Zone")

    def size_of_item(item):
        return item.get("size", 0)

    table.total("place", "x", size_of_item)
    for uuid, place, size in steps:
        if size is None:
            store.remove("Zone", uuid)
        else:
            store.put("Zone", {"uuid": uuid, "size": size} | ({"place": place} if place else {}))
        for value in ("x", "y"):
            assert table.total("place", value, size_of_item) == sum(item["size"] for item in table.items.values() if item.get("place") == value)


async def test_half_of_a_surrogate_pair_that_somebody_stores_is_answered_escaped(zmock):
    zmock.db.table("Zone").update({"name": "a\ud83d"}, where("uuid") == named("zone-1"))
    assert [zone["name"] for zone in await zmock.query("zones", f"uuid={named('zone-1')}")] == ["a\ud83d"]
