"""Files: a folder of TinyDB files and a ledger, through kills, broken bytes and hands that edit; snapshots."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tinydb import TinyDB

from zmock import (
    Broken,
    Folder,
    SettingsError,
    Snapshots,
    commits,
    read_documents,
    sealed,
    write_documents,
)

ROOT = Path(__file__).parent.parent
KNOWN = {"Zone", "Host", "Mock"}


def opened(path):
    folder = Folder(path, KNOWN)
    folder.open()
    return folder


def load(folder):
    """What a folder holds, {type: {number: item}}, and what is told about it."""
    return folder.read(), folder.reports


def fold(folder):
    """Bring the files up to date with what the folder keeps."""
    documents = Folder(folder.path, KNOWN).read()
    folder.fold({type: documents.get(type, {}) for type in folder.stale_types}, folder.end_ledger())


def close(folder):
    """Complete the files, and let the folder go."""
    if folder.stale_types:
        fold(folder)
    folder.close()


def loaded(path):
    """What a folder holds, {type: {number: item}}, and what is told about it; the folder is left as a kill would leave it."""
    folder = opened(path)
    try:
        return load(folder)
    finally:
        folder.lock.close()


def compact(item):
    return json.dumps(item, separators=(",", ":"))


def commit(folder, **changes):
    """Keeps {type: {number: item or None}}."""
    folder.append(changes)


def killed(folder):
    """The process is gone: nothing is folded, the folder is free."""
    if folder.ledger:
        folder.ledger.file.close()
    folder.lock.close()


A, B, C = ({"uuid": uuid, "name": f"zone-{uuid}"} for uuid in "abc")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cloud"


@pytest.fixture
def folder(path):
    folder = opened(path)
    load(folder)
    yield folder
    killed(folder)


@pytest.fixture
def three(path):
    """A folder in which a process that was killed left A in a file, B and C in the ledger."""
    folder = opened(path)
    load(folder)
    commit(folder, Zone={1: A}, Host={1: A})
    fold(folder)
    commit(folder, Zone={2: B}, Host={1: None})
    commit(folder, Zone={3: C})
    killed(folder)
    return path


# files


@pytest.mark.parametrize(
    "items", ({}, {1: A}, {3: A, 5: B}, {1: {"uuid": "ä", "name": 'a "quoted"\n},\n', "deep": {"1": {"uuid": "x"}}}, 2: {"uuid": "b", "x": {}}})
)
def test_stock_tinydb_reads_what_is_written(tmp_path, items):
    path = tmp_path / "Zone.json"
    write_documents(path, items)
    with TinyDB(path) as db:
        assert {document.doc_id: dict(document) for document in db} == items == read_documents(path)
    assert len(path.read_text().splitlines()) == len(items) + 2


@pytest.mark.parametrize("indent", (None, 0, 1, 4))
async def test_a_file_in_another_layout_is_the_state_and_gets_its_own_again(path, three, indent):
    file = path / "Zone.json"
    file.write_text(json.dumps({"_default": {"7": A | {"name": "edited"}, "2": B}}, indent=indent))
    folder = opened(path)
    assert load(folder) == ({"Zone": {7: A | {"name": "edited"}, 2: B, 3: C}, "Host": {}}, [])
    fold(folder)
    killed(folder)
    assert file.read_text() == '{"_default":{\n' + ",\n".join(f'"{n}":{compact(i)}' for n, i in ((7, A | {"name": "edited"}), (2, B), (3, C))) + "\n}}\n"


def test_a_file_that_was_edited_is_folded_though_nothing_has_changed(path, three):
    opened(path).close()
    file = path / "Zone.json"
    file.write_text(file.read_text().replace("zone-a", "edited"))
    folder = opened(path)
    found, told = load(folder)
    assert (found["Zone"][1]["name"], told, folder.edited_types) == ("edited", [], {"Zone"})
    close(folder)
    assert (path / ".spare" / "Zone.json").read_text() == file.read_text() and "edited" in file.read_text()


# broken files

BROKEN = (
    (b"", 1, 1),
    (b"{", 1, 2),
    (b"[]", 1, 1),
    (b"5", 1, 1),
    (b'{"_default":{\n"1":{"uuid":"a","na\xff', 2, 20),
    (b'{"_default": []}', 1, 1),
    (b'{"_default": {"1": {"uuid": "a"},\n "one": {"uuid": "a"}}}', 2, 2),
    (b'{"_default": {"1": 5}}', 1, 15),
    (b'{"_default": {"1": {"name": "without uuid"}}}', 1, 15),
    (b'{"_default": {"1": {"uuid": 5}}}', 1, 15),
    (b'{"_default":{\n"1":{"uuid":"a"},\n"2":{"uuid":"b"\n}}', 4, 3),
    (b"[" * 100_000, 1, 1),
)


@pytest.mark.parametrize(("text", "line", "column"), BROKEN)
def test_a_broken_file_without_a_spare_is_refused_with_the_place(path, text, line, column):
    path.mkdir()
    (path / "Zone.json").write_bytes(text)
    with pytest.raises(SettingsError) as error:
        loaded(path)
    assert f"cannot read {path / 'Zone.json'}, line {line}, column {column}: " in str(error.value) and "\n" not in str(error.value)
    assert (path / "Zone.json").read_bytes() == text


@pytest.mark.parametrize("text", [text for text, _, _ in BROKEN])
def test_a_broken_file_is_set_aside_and_the_last_good_one_and_the_ledger_are_the_state(path, three, text):
    (path / "Zone.json").write_bytes(text)
    for told_this_time in (1, 0):
        found, told = loaded(path)
        assert (found["Zone"], len(told)) == ({1: A, 2: B, 3: C}, told_this_time)
        if told:
            (aside,) = path.glob("*.corrupt-*")
            assert re.fullmatch(r"Zone\.json\.corrupt-\d{8}T\d{6}", aside.name) and aside.read_bytes() == text
            assert "Zone.json, line" in told[0] and aside.name in told[0]
    with TinyDB(path / "Zone.json") as db:
        assert db.all() == [A]


def test_a_file_whose_spare_is_broken_too_is_refused(path, three):
    for file in path.rglob("Zone.json"):
        file.write_text("{")
    with pytest.raises(SettingsError, match="Zone.json, line 1, column 2: Expecting property name"):
        loaded(path)


def test_a_file_is_torn_anywhere_and_nothing_is_lost(path, three):
    whole = (path / "Zone.json").read_bytes()
    for end in range(len(whole) - 2):
        (path / "Zone.json").write_bytes(whole[:end])
        assert loaded(path)[0]["Zone"] == {1: A, 2: B, 3: C}


def test_a_file_that_is_missing_beside_its_spare_is_a_fault_of_the_world(path, three):
    (path / "Zone.json").unlink()
    for told_this_time in (1, 0):
        found, told = loaded(path)
        assert (found["Zone"], len(told)) == ({1: A, 2: B, 3: C}, told_this_time)
        assert all("Zone.json: it is missing; the last good one is in its place" in line for line in told)


@pytest.mark.parametrize("indent", ("", "  "))
def test_a_number_that_is_there_twice_is_refused_with_its_place(path, indent):
    path.mkdir()
    text = f'{{"_default":{{\n{indent}"1":{compact(A)},\n{indent}"2":{compact(B)},\n{indent}"1":{compact(C)}\n}}}}\n'
    (path / "Zone.json").write_text(text)
    with pytest.raises(SettingsError) as error:
        loaded(path)
    assert str(error.value) == (f"cannot read {path / 'Zone.json'}, line 4, column {len(indent) + 1}: the key 1 is there twice; "
                                "mend or remove it, or start with another --data")  # fmt: skip
    assert (path / "Zone.json").read_text() == text


def test_a_file_with_a_number_twice_beside_its_spare_is_set_aside_with_all_objects(path, three):
    text = f'{{"_default":{{"1":{compact(A)},"1":{compact(C)}}}}}'
    (path / "Zone.json").write_text(text)
    found, told = loaded(path)
    (aside,) = path.glob("*.corrupt-*")
    assert found["Zone"] == {1: A, 2: B, 3: C} and aside.read_text() == text
    assert len(told) == 1 and "Zone.json, line 1, column" in told[0] and "the key 1 is there twice" in told[0]


@pytest.mark.parametrize("number", ("01", "-1", "1.0", " 1"))
def test_a_number_that_tinydb_would_not_write_is_refused(path, number):
    path.mkdir()
    (path / "Zone.json").write_text(json.dumps({"_default": {number: A}}))
    with pytest.raises(SettingsError, match="is no number of an object"):
        loaded(path)


def test_a_number_of_thousands_of_digits_is_told(path):
    path.mkdir()
    (path / "Zone.json").write_text('{"_default":{"1":{"uuid":"a","size":' + "9" * 5000 + "}}}")
    with pytest.raises(SettingsError, match="cannot read .*Zone.json, line 1, column 1: Exceeds the limit"):
        loaded(path)


def test_files_of_somebody_else_are_left_alone(path):
    path.mkdir()
    for name in ("thesis.tmp", "package.json"):
        (path / name).write_text("{}")
    (path / "x.tmp").mkdir()
    with pytest.raises(SettingsError, match="package.json is not a file of a cloud"):
        loaded(path)
    assert {"thesis.tmp", "package.json", "x.tmp"} <= {file.name for file in path.iterdir()}


def test_a_file_of_somebody_else_is_named_wherever_it_lies(path):
    (path / ".spare").mkdir(parents=True)
    paths = [path / "Gad.json", path / ".spare" / "Gad.json"]
    for file in paths:
        file.write_text("{}")
    for files in (paths, paths[1:]):
        with pytest.raises(SettingsError) as error:
            loaded(path)
        told = f"{files[0]} is not a file of a cloud; choose another folder with --data, move {' and '.join(map(str, files))} away, or"
        assert told in str(error.value)
        files[0].unlink()
    loaded(path)


# the ledger


def test_a_ledger_is_torn_anywhere_and_whole_commits_are_the_state(path, three):
    (ledger,) = path.glob("*.ledger")
    text = ledger.read_bytes()
    first = text.index(b"]\n", text.index(b"[commit")) + 2
    for end in range(len(text)):
        ledger.write_bytes(text[:end])
        found, told = loaded(path)
        whole = {1: A} if end < first else {1: A, 2: B}
        assert (found["Zone"], found["Host"], told) == (whole, {1: A} if end < first else {}, []), end


def test_any_bit_of_the_last_commit_may_be_wrong(path, three):
    (ledger,) = path.glob("*.ledger")
    text = ledger.read_bytes()
    first = text.index(b"]\n", text.index(b"[commit")) + 2
    for at in range(first, len(text)):
        ledger.write_bytes(text[:at] + bytes([text[at] ^ 4]) + text[at + 1 :])
        found, told = loaded(path)
        assert (found["Zone"], told) == ({1: A, 2: B}, []), at


def test_a_commit_damaged_before_others_is_told_and_kept_aside(path, three):
    (ledger,) = path.glob("*.ledger")
    text = ledger.read_bytes()
    ledger.write_bytes(text.replace(b"zone-b", b"zone-X"))
    found, told = loaded(path)
    assert found["Zone"] == {1: A, 3: C} and found["Host"] == {1: A}
    assert len(told) == 1 and "1 of 2 commits" in told[0] and [*path.glob("*.ledger.corrupt-*")]


def test_more_than_one_damaged_commit_at_the_end_is_told(path, three):
    (ledger,) = path.glob("*.ledger")
    text = ledger.read_bytes().replace(b"zone-b", b"zone-X").replace(b"zone-c", b"zone-X")
    for end, lost in ((len(text), "1 of 1"), (len(text) - 5, "1 of 1")):
        ledger.write_bytes(text[:end])
        found, told = loaded(path)
        assert found["Zone"] == {1: A} and len(told) == 1 and f"{lost} commits" in told[0]


@pytest.mark.parametrize("after", ("", "\n", "[commit 00000001]\n", "[Zone]\n", '"9":{}', "\x00" * 4096))
def test_whatever_stands_behind_the_last_commit_is_passed_over(after):
    text = sealed(b'[Zone]\n"1":{}\n')
    assert commits(text + after.encode()) == [b'[Zone]\n"1":{}\n']


def test_a_commit_of_nothing_takes_nothing_from_the_next_one():
    one = b'[Zone]\n"1":{}\n'
    assert commits(sealed(one) + sealed(b"") + sealed(one)) == [one, b"", one]


def test_commits_go_to_a_new_ledger_after_a_torn_one(path, three):
    (ledger,) = path.glob("*.ledger")
    ledger.write_bytes(ledger.read_bytes()[:-5])
    folder = opened(path)
    load(folder)
    commit(folder, Zone={3: C | {"name": "again"}})
    killed(folder)
    assert loaded(path)[0]["Zone"] == {1: A, 2: B, 3: C | {"name": "again"}}
    assert len([*path.glob("*.ledger")]) == 2


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def left(monkeypatch):
    """As many as file operations are left to do; the one after them is where the process is killed."""
    left = [None] * 1000

    def mortal(place, name):
        do = getattr(place, name)

        def act(*arguments, **more):
            if not left:
                raise Killed
            left.pop()
            return do(*arguments, **more)

        monkeypatch.setattr(place, name, act)

    for place, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "mkdir"), (shutil, "copyfile"), (shutil, "rmtree")):
        mortal(place, name)
    return left


def test_a_kill_at_any_step_of_folding_loses_nothing(path, three, left):
    """Each file operation in turn is the last one that the process does."""
    for steps in range(30):
        left[:] = [None] * 1000
        shutil.rmtree(path.with_name("copy"), ignore_errors=True)
        shutil.copytree(path, path.with_name("copy"))
        folder = opened(path.with_name("copy"))
        load(folder)
        left[:] = [None] * steps
        try:
            fold(folder)
            break
        except Killed:
            left[:] = [None] * 1000
            killed(folder)
        for name in KNOWN - {"Mock"}:
            with TinyDB(folder.path / f"{name}.json") as db:
                db.all()
        assert loaded(folder.path) == ({"Zone": {1: A, 2: B, 3: C}, "Host": {}}, [])
    assert 8 < steps < 29
    killed(folder)


def test_what_a_killed_writer_left_half_done_is_removed(path, three):
    for left in (path / "Zone.tmp", path / ".spare" / "Zone.tmp"):
        left.write_text('{"_default": {"1": {"uu')
    assert loaded(path)[0]["Zone"] == {1: A, 2: B, 3: C}
    assert not [*path.rglob("*.tmp")]


def test_a_folder_that_an_older_zmock_wrote_is_read(path):
    path.mkdir()
    (path / "Zone.json").write_text('{"_default":{"1":{"uuid":"a","name":"zone-a"},"4":{"uuid":"b","name":"zone-b"}}}')
    (path / "Mock.json").write_text('{"_default":{"1":{"uuid":"mock","format":1,"seed":1,"starts":0}}}')
    assert loaded(path)[0]["Zone"] == {1: A, 4: B}


def test_a_folder_of_a_newer_zmock_is_refused_and_left_alone(path, three):
    (path / "Mock.json").write_text('{"_default":{"1":{"uuid":"mock","format":99}}}')
    (path / "Zone.json").write_text("what newer ones may write")
    with pytest.raises(SettingsError, match="newer zmock .format 99."):
        loaded(path)
    assert (path / "Zone.json").read_text() == "what newer ones may write" and not [*path.glob("*.corrupt*")]


# the folder


def test_a_file_in_the_place_of_the_folder_is_refused(path):
    path.write_text("")
    with pytest.raises(SettingsError, match="cannot use the data folder .*cloud: .*--data"):
        opened(path)


def test_a_folder_in_the_place_of_a_file_is_refused(path, three):
    (path / "Host.json").unlink()
    (path / "Host.json").mkdir()
    with pytest.raises(SettingsError, match="cannot read .*Host.json: Is a directory; mend it"):
        loaded(path)


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(path):
    holder = f"import zmock; s = zmock.Store({{}}, {str(path)!r}); s.open(); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holder], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        for _ in range(2):
            with pytest.raises(SettingsError, match=f"in use by another zmock .process {process.pid}.; stop it, or choose another with --data"):
                opened(path)
        process.communicate("\n", timeout=10)
    loaded(path)


# what filesystems of networks and containers do not support


def refusing(code):
    def refuse(*arguments, **more):
        raise OSError(code, os.strerror(code))

    return refuse


UNSUPPORTED = {
    "fsync of folders": lambda code: (os, "fsync", lambda number: refusing(code)() if stat.S_ISDIR(os.fstat(number).st_mode) else None),
    "fsync": lambda code: (os, "fsync", refusing(code)),
    "locks": lambda code: (fcntl, "flock", refusing(code)),
    "modes": lambda code: (os, "chmod", refusing(code)),
}


@pytest.mark.parametrize(
    ("what", "code"),
    [
        *((what, code) for what in ("fsync of folders", "fsync") for code in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)),
        *(("locks", code) for code in (errno.ENOLCK, errno.ENOTSUP)),
        *((what, code) for what in ("modes",) for code in (errno.EPERM, errno.EACCES, errno.ENOTSUP)),
    ],
)
def test_what_a_filesystem_does_not_support_is_a_warning_once(path, monkeypatch, caplog, what, code):
    monkeypatch.setattr(*UNSUPPORTED[what](code))
    for number, item in ((1, A), (2, B)):
        folder = opened(path)
        load(folder)
        commit(folder, Zone={number: item})
        fold(folder)
        commit(folder, Host={number: item})
        close(folder)
    assert loaded(path) == ({"Zone": {1: A, 2: B}, "Host": {1: A, 2: B}}, [])
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [f"does not support {what.partition(' ')[0]}" in line and str(path) in line for line in told] == [True] * (what != "modes")


@pytest.mark.parametrize("code", (errno.EIO, errno.EPERM, errno.EBADF))
def test_a_lock_that_fails_is_not_a_folder_in_use(path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with pytest.raises(SettingsError, match=f"cannot use the data folder .*: {os.strerror(code)}"):
        opened(path)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(path, three, monkeypatch):
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    with monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, refusing(errno.EACCES))
        with pytest.raises(SettingsError, match=f"cannot (read|use the data folder) {path}: Permission denied"):
            loaded(path)
    assert before.items() - {".lock": b""}.items() <= {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}.items()
    assert loaded(path)[0]["Zone"] == {1: A, 2: B, 3: C}


def test_a_folder_that_cannot_be_listed_is_not_folded(path, monkeypatch):
    folder = opened(path)
    load(folder)
    commit(folder, Zone={1: A})
    fold(folder)
    folder.write({"Host": {1: B}})
    with monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, refusing(errno.EMFILE))
        with pytest.raises(OSError):
            folder.fold({"Zone": {}, "Host": {1: B}}, folder.end_ledger())
    close(folder)
    assert loaded(path)[0] == {"Zone": {}, "Host": {1: B}}


def test_a_commit_that_could_not_be_taken_off_the_ledger_is_not_folded(path, folder, monkeypatch):
    commit(folder, Zone={1: A})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refusing(errno.EIO))
        patch.setattr(folder.ledger, "file", file := Untruncated(folder.ledger.file))
        for failing in (lambda: commit(folder, Zone={2: B}), lambda: fold(folder)):
            with pytest.raises(OSError):
                failing()
        assert file.refused == 2
    folder.fold({"Zone": {1: A}}, folder.end_ledger())
    assert loaded_copy(folder) == {1: A}


class Untruncated:
    """A file that cannot be made shorter once something is written."""

    def __init__(self, file):
        self.file, self.refused, self.written = file, 0, False

    def write(self, octets):
        self.written = True
        return self.file.write(octets)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def truncate(self, size):
        if not self.written:
            return self.file.truncate(size)
        self.refused += 1
        raise OSError(errno.EIO, "Input/output error")


def loaded_copy(folder):
    """The zones that a process would find that starts now."""
    copy = folder.path.with_name("copy")
    shutil.copytree(folder.path, copy)
    return loaded(copy)[0]["Zone"]


def test_a_fold_that_comes_late_leaves_newer_files(folder):
    commit(folder, Zone={1: A})
    early = folder.end_ledger()
    commit(folder, Zone={1: B})
    folder.fold({"Zone": {1: B}}, folder.end_ledger())
    folder.fold({"Zone": {1: A}}, early)
    assert loaded_copy(folder) == {1: B}


# letters


CITY = {"uuid": "c", "name": "区域 ä 😀", "\u540d": ["\ud83d"]}


def test_files_are_ascii_and_stock_tinydb_reads_them_in_any_locale(path, folder):
    commit(folder, Zone={1: CITY})
    fold(folder)
    Snapshots(path.with_name("snapshots")).take("one", {"Zone": {1: CITY}})
    read = "import sys; from tinydb import TinyDB; print([ascii(dict(item)) for path in sys.argv[1:] for item in TinyDB(path).all()])"
    files = [path / "Zone.json", path / ".spare" / "Zone.json", path.with_name("snapshots") / "one" / "Zone.json"]
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", read, *files], capture_output=True, text=True, env=os.environ | plain)
    assert done.stdout == f"{[ascii(CITY)] * 3}\n", done.stderr
    assert all(file.read_bytes().isascii() for file in files)


def test_what_an_older_zmock_wrote_in_utf_8_becomes_ascii(path, three):
    cities = {1: CITY | {"\u540d": "名"}, 2: B, 3: C, 4: CITY | {"uuid": "d", "\u540d": "名"}}
    file, (ledger,) = path / "Zone.json", path.glob("*.ledger")
    line = json.dumps(cities[1], ensure_ascii=False, separators=(",", ":"))
    for copy in (file, path / ".spare" / "Zone.json"):
        copy.write_text(f'{{"_default":{{\n"1":{line}\n}}}}\n', encoding="utf-8")
        os.utime(copy, (1, 1))
    ledger.write_bytes(ledger.read_bytes() + sealed(f'[Zone]\n"4":{line.replace(chr(34) + "c" + chr(34), chr(34) + "d" + chr(34))}\n'.encode()))
    folder = opened(path)
    assert load(folder) == ({"Zone": cities, "Host": {}}, [])
    close(folder)
    assert file.read_bytes().isascii() and loaded(path) == ({"Zone": cities, "Host": {}}, [])


def test_a_file_alone_that_an_older_zmock_wrote_in_utf_8_becomes_ascii(path, three):
    folder = opened(path)
    load(folder)
    close(folder)
    for copy in (path / "Zone.json", path / ".spare" / "Zone.json"):
        copy.write_text('{"_default":{\n"1":{"uuid":"c","name":"区域"}\n}}\n', encoding="utf-8")
        os.utime(copy, (1, 1))
    folder = opened(path)
    load(folder)
    close(folder)
    assert (path / "Zone.json").read_bytes().isascii()
    with TinyDB(path / "Zone.json") as db:
        assert db.all() == [{"uuid": "c", "name": "区域"}]


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("indent", (None, 1))
def test_an_edited_file_may_begin_with_a_bom(path, three, indent):
    text = BOM + json.dumps({"_default": {"1": A | {"name": "edited 区"}}}, indent=indent, ensure_ascii=False).encode()
    (path / "Zone.json").write_bytes(text)
    folder = opened(path)
    assert load(folder) == ({"Zone": {1: A | {"name": "edited 区"}, 2: B, 3: C}, "Host": {}}, [])
    close(folder)
    with TinyDB(path / "Zone.json") as db:
        assert db.all() == [A | {"name": "edited 区"}, B, C]


def test_a_file_that_gets_a_bom_while_zmock_runs_is_folded(path, folder):
    commit(folder, Zone={1: A})
    fold(folder)
    (path / "Zone.json").write_bytes(BOM + (path / "Zone.json").read_bytes())
    commit(folder, Zone={2: B})
    fold(folder)
    with TinyDB(path / "Zone.json") as db:
        assert db.all() == [A, B]


def test_a_broken_file_with_a_bom_is_refused_with_the_place(path):
    path.mkdir()
    (path / "Zone.json").write_bytes(BOM + b'{"_default":{\n"1":{"uuid":"a"},\n"2":{"uuid":"b"\n}}')
    with pytest.raises(SettingsError, match="line 4, column 3"):
        loaded(path)


# snapshots


@pytest.fixture(params=("memory", "folder"))
def snapshots(request, tmp_path):
    return Snapshots(tmp_path / "snapshots" if request.param == "folder" else None)


def test_a_snapshot_is_a_copy_of_all_by_name(snapshots):
    assert snapshots.names() == []
    snapshots.take("two", {"Zone": {1: A, 7: B}, "Host": {}})
    snapshots.take("one", {"Zone": {1: A}})
    assert snapshots.names() == ["one", "two"]
    assert snapshots.documents("two") == {"Zone": {1: A, 7: B}, "Host": {}}
    snapshots.take("two", {"Zone": {1: C}})
    assert snapshots.documents("two") == {"Zone": {1: C}}
    snapshots.drop("one")
    assert snapshots.names() == ["two"]


def test_a_snapshot_is_a_folder_of_tinydb_files(tmp_path):
    snapshots = Snapshots(tmp_path / "snapshots")
    snapshots.take("one", {"Zone": {1: A, 2: B}})
    with TinyDB(tmp_path / "snapshots" / "one" / "Zone.json") as db:
        assert db.all() == [A, B]
    (tmp_path / "snapshots" / "one" / "Zone.json").write_text("{")
    with pytest.raises(Broken, match="Zone.json, line 1, column 2"):
        snapshots.documents("one")


def test_a_kill_at_any_step_of_taking_or_dropping_loses_no_snapshot_and_blocks_no_name(tmp_path, left):
    for do, ends in ((lambda kept: kept.take("one", {"Zone": {1: B}}), ({1: A}, {1: B})), (lambda kept: kept.drop("one"), ({1: A}, None))):
        for steps in range(30):
            left[:] = [None] * 1000
            folder = tmp_path / f"snapshots-{ends[1] is None}-{steps}"
            snapshots = Snapshots(folder)
            snapshots.take("one", {"Zone": {1: A}})
            left[:] = [None] * steps
            with contextlib.suppress(Killed):
                do(snapshots)
            done = bool(left)
            left[:] = [None] * 1000
            again = Snapshots(folder)
            again.tidy()
            assert (again.documents("one")["Zone"] if again.names() else None) in (ends[1:] if done else ends)
            assert [path.name for path in folder.iterdir()] == again.names()
            again.take("one", {"Zone": {1: C}})
            assert again.documents("one") == {"Zone": {1: C}}


def test_a_snapshot_for_which_there_is_no_room_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
    with pytest.raises(OSError):
        Snapshots(tmp_path / "snapshots").take("one", {"Zone": {1: A}})
    assert [*(tmp_path / "snapshots").iterdir()] == []


@pytest.mark.parametrize("lasting", (False, True))
def test_a_failure_at_any_step_of_taking_or_dropping_leaves_the_snapshot_that_there_was(tmp_path, monkeypatch, lasting, caplog):
    steps = Steps(monkeypatch)
    for do, end in ((lambda kept: kept.take("one", {"Zone": {1: B}}), {1: B}), (lambda kept: kept.drop("one"), None)):
        for place in range(40):
            snapshots = Snapshots(tmp_path / f"snapshots-{end is None}-{place}")
            snapshots.take("one", {"Zone": {1: A}})
            steps.fail_at(place, lasting)
            try:
                do(snapshots)
                possible = [end]
            except OSError:
                possible = [{1: A}, end] if lasting else [{1: A}]  # if nothing can be undone, it is one of both
            met = steps.fail_at(None)
            expected = content(snapshots)
            assert expected in possible, place
            for _ in range(2):
                assert content(snapshots) == expected, place
                snapshots.take("two", {})
                snapshots.drop("two")
            assert [path.name for path in snapshots.folder.iterdir()] == snapshots.names() == ["one"] * (expected is not None)
            if not met:
                break
        assert 3 < place < 39


def content(snapshots):
    """The zones in the snapshot "one", None where there is none."""
    return snapshots.documents("one")["Zone"] if snapshots.names() else None


class Steps:
    """The file operations of a snapshot, of which one fails, or all from there on."""

    def __init__(self, monkeypatch):
        self.left, self.lasting, self.met = None, False, 0
        for place, name in ((os, "replace"), (os, "fsync"), (os, "open"), (os, "listdir"), (os, "mkdir"), (shutil, "rmtree")):
            monkeypatch.setattr(place, name, self.mortal(getattr(place, name)))

    def mortal(self, do):
        def act(*arguments, **more):
            if self.left is not None:
                self.left -= 1
                if self.left == -1 or (self.lasting and self.left < 0):
                    self.met += 1
                    raise OSError(errno.EIO, "Input/output error")
            return do(*arguments, **more)

        return act

    def fail_at(self, left, lasting=False):
        met, self.left, self.lasting, self.met = self.met, left, lasting, 0
        return met
