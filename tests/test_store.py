"""Store: items by type and uuid, in memory alone and kept in a folder of TinyDB files."""

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tinydb import TinyDB

from zmock import ApiError, AtomicJson, SettingsError, Store

INDEXES = {"Zone": {"name", "hostUuid", "attachedClusterUuids", "refs.uuid"}}
ROOT = Path(__file__).parent.parent


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


def test_clearing_forgets_everything(store):
    store.put("Zone", zone("a"))
    store.clear()
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


async def test_a_commit_is_on_the_disk_when_it_returns(kept, folder):
    kept.put("Zone", zone("a", name="区域", dns=["1"], opaque={"x": None}))
    kept.put("Host", {"uuid": "h", "cpuNum": 4, "system": False, "share": 0.5})
    await kept.commit()
    assert documents(folder) == [zone("a", name="区域", dns=["1"], opaque={"x": None})]
    assert documents(folder, "Host") == [{"uuid": "h", "cpuNum": 4, "system": False, "share": 0.5}]
    kept.update("Zone", "a", name="new")
    kept.put("Zone", zone("b"))
    kept.remove("Host", "h")
    assert [item["name"] for item in documents(folder)] == ["区域"]
    await kept.commit()
    assert [item["name"] for item in documents(folder)] == ["new", "zone-b"]
    assert documents(folder, "Host") == []
    assert "区域" not in (folder / "Zone.json").read_text() and not [*folder.glob("*.tmp")]


async def test_a_type_is_a_file_and_only_what_changed_is_written(kept, folder, writes):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    await kept.commit()
    kept.put("Zone", zone("b"))
    await kept.commit()
    await kept.commit()
    assert sorted(writes) == ["Host.json", "Zone.json", "Zone.json"]
    assert sorted(path.name for path in folder.glob("*.json")) == ["Host.json", "Zone.json"]


@pytest.fixture
def writes(monkeypatch):
    """The names of the files that are written from now on, in order."""
    names, write = [], AtomicJson.write
    monkeypatch.setattr(AtomicJson, "write", lambda self, text: (names.append(self.path.name), write(self, text)))
    return names


async def test_commits_that_come_together_share_one_write(kept, folder, writes):
    async def make(n):
        kept.put("Zone", zone(f"{n}"))
        await kept.commit()
        assert f"zone-{n}" in (folder / "Zone.json").read_text()

    await asyncio.gather(*map(make, range(1000)))
    assert writes == ["Zone.json"]
    assert len(documents(folder)) == 1000


async def test_commits_that_come_during_a_write_share_the_next_one(kept, folder, monkeypatch):
    begun, go_on, replace, writes = threading.Event(), threading.Event(), os.replace, []

    def slow(source, target):
        writes.append(target)
        begun.set()
        assert go_on.wait(5)
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
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
    assert len(writes) == 2 and len(documents(folder)) == 11


async def test_a_commit_that_is_given_up_takes_nothing_from_the_others(kept, folder):
    kept.put("Zone", zone("a"))
    given_up, other = asyncio.ensure_future(kept.commit()), asyncio.ensure_future(kept.commit())
    await asyncio.sleep(0)
    given_up.cancel()
    await other
    assert given_up.cancelled() and documents(folder) == [zone("a")]


async def test_what_was_kept_is_there_again(kept, folder):
    for uuid in "abc":
        kept.put("Zone", zone(uuid, attachedClusterUuids=["c1"], opaque={"x": [1, 2.5, None, True]}))
    kept.remove("Zone", "b")
    await kept.commit()
    numbers = {doc["uuid"]: doc.doc_id for doc in documents(folder)}
    kept.close()
    again = new_store(folder)
    assert everything(again) == everything(kept)
    assert uuids(again.find("Zone", "attachedClusterUuids", "C1")) == ["a", "c"]
    again.put("Zone", zone("d"))
    await again.commit()
    again.close()
    after = {doc["uuid"]: doc.doc_id for doc in documents(folder)}
    assert numbers == {uuid: after[uuid] for uuid in "ac"} and after["d"] not in numbers.values()


async def test_closing_writes_what_is_left_and_lets_the_folder_go(kept, folder):
    kept.put("Zone", zone("a"))
    kept.close()
    again = new_store(folder)
    assert again.get("Zone", "a") == zone("a")
    again.close()


async def test_clearing_empties_the_files(kept, folder):
    kept.put("Zone", zone("a"))
    await kept.commit()
    kept.clear()
    await kept.commit()
    assert documents(folder) == []


def test_what_a_killed_writer_left_half_done_is_passed_over(folder):
    folder.mkdir()
    (folder / "Zone.tmp").write_text('{"_default": {"1": {"uu')
    store = new_store(folder)
    assert store.count("Zone") == 0
    store.put("Zone", zone("a"))
    store.close()
    assert documents(folder) == [zone("a")] and not [*folder.glob("*.tmp")]


@pytest.mark.parametrize(
    "text",
    (
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff\xfe",
        b'{"_default": []}',
        b'{"_default": {"one": {"uuid": "a"}}}',
        b'{"_default": {"1": 5}}',
        b'{"_default": {"1": {"name": "without uuid"}}}',
        b'{"_default": {"1": {"uuid": 5}}}',
    ),
)
def test_a_broken_file_is_refused_with_its_name(folder, text):
    folder.mkdir()
    (folder / "Zone.json").write_bytes(text)
    with pytest.raises(SettingsError) as error:
        new_store(folder)
    assert f"cannot read {folder / 'Zone.json'}: " in str(error.value) and "\n" not in str(error.value)
    assert (folder / "Zone.json").read_bytes() == text


def test_a_file_in_the_place_of_the_folder_is_refused(folder):
    folder.write_text("")
    with pytest.raises(SettingsError, match="cannot use the data folder .*cloud: .*--data"):
        new_store(folder)


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(folder):
    holder = f"import zmock; s = zmock.Store({{}}, {str(folder)!r}); s.open(); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        for _ in range(2):
            with pytest.raises(
                SettingsError, match=f"in use by another zmock .process {process.pid}.; stop it, or choose another with --data"
            ):
                new_store(folder)
        process.communicate("\n", timeout=10)
    new_store(folder).close()


# a disk that fails


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing can be written until full_disk() is called."""

    def full(*names):
        raise OSError(errno.ENOSPC, "No space left on device")

    replace = os.replace
    monkeypatch.setattr(os, "replace", full)
    return lambda: monkeypatch.setattr(os, "replace", replace)


async def test_a_full_disk_is_an_error_of_the_call_and_the_next_commit_catches_up(kept, folder, full_disk):
    kept.put("Zone", zone("a"))
    kept.put("Host", {"uuid": "h"})
    refused = await asyncio.gather(*(kept.commit() for _ in range(3)), return_exceptions=True)
    assert {(type(error), error.code, error.status) for error in refused} == {(ApiError, "SYS.1016", 503)}
    assert all("No space left on device" in error.details and str(folder) in error.details for error in refused)
    assert kept.get("Zone", "a") == zone("a")
    full_disk()
    await kept.commit()
    assert documents(folder) == [zone("a")] and documents(folder, "Host") == [{"uuid": "h"}]
    assert not [*folder.glob("*.tmp")]


async def test_what_was_on_the_disk_before_it_was_full_is_still_whole(kept, folder, monkeypatch):
    kept.put("Zone", zone("a"))
    await kept.commit()

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    kept.put("Zone", zone("b"))
    with pytest.raises(ApiError):
        await kept.commit()
    assert documents(folder) == [zone("a")]
