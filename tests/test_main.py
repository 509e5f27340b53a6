"""The command line: what starts, what it says, what it keeps, and how it refuses to start."""

import ast
import contextlib
import errno
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from asking import IMPORTABLE, PROGRAM, ask_control, each, read_settings
from tinydb import TinyDB
from tinydb.table import Document

import zmock
from zmock import (
    FORMAT,
    SHA512_OF_PASSWORD,
    ControlError,
    Mock,
    SettingsError,
    catalogue,
    create_app,
    iso,
    main,
    named,
    serve,
    welcome,
)  # fmt: skip

ZMOCK = Path(__file__).parent.parent / "zmock.py"


class Process:
    """A zmock in a process of its own, as a shell starts it."""

    def __init__(self, *flags, script=None, cwd=None, **variables):
        program = PROGRAM if script is None else (sys.executable, script)
        command = [*program, "--port", "0", *map(str, flags)]
        self.process = subprocess.Popen(command, cwd=cwd, env=os.environ | IMPORTABLE | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.first = self.process.stdout.readline()
        self.url = self.first.strip().partition("=")[2]
        self.session = None

    def ask(self, method, path, body=None):
        """Status and JSON of a request; path is below the API, or a whole address."""
        headers = {"Authorization": f"OAuth {self.session}", "Content-Type": "application/json"}
        url = path if path.startswith("http") else self.url + path
        with urllib.request.urlopen(
            urllib.request.Request(url, body and json.dumps(body).encode(), headers, method=method), timeout=10
        ) as answer:
            return answer.status, json.loads(answer.read())

    def login(self):
        told = self.ask("PUT", "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}})
        self.session = told[1]["inventory"]["uuid"]

    def submit(self, name):
        """The address of the job that makes a zone."""
        return self.ask("POST", "/zones", {"params": {"name": name}})[1]["location"]

    def names(self, collection):
        return {item["name"] for item in self.ask("GET", f"/{collection}")[1]["inventories"]}

    def end(self, number):
        """Sends a signal: the exit code, the seconds until then, and what was left on stdout and stderr."""
        before = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, time.monotonic() - before, out, err


@contextlib.contextmanager
def running(*flags, **more):
    process = Process(*flags, **more)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


def poll(process, address):
    """What a job came to."""
    for _ in range(1000):
        status, body = process.ask("GET", address)
        if status != 202:
            return status, body
    raise TimeoutError(address)


# starting and ending


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("main") / "data" / "cloud"


@pytest.fixture(scope="module")
def killed(folder):
    """A mock that was killed right after it had said that its jobs are done: what it said."""
    with running("--data", folder, "--delay", "0.01") as process:
        process.login()
        jobs = [process.submit(f"zone-{n}") for n in "abc"]
        told = {address.rpartition("/")[2]: poll(process, address) for address in jobs}
        process.end(signal.SIGKILL)
        yield told, process


@pytest.fixture(scope="module")
def again(folder, killed):
    """The same folder, started again, with calls that take a minute."""
    with running("--data", folder, "--delay", "60", ZMOCK_CLOUD="empty") as process:
        process.session = killed[1].session
        yield process


def test_the_first_line_is_the_address_and_requests_are_answered_then(again):
    assert re.fullmatch(r"export ZSTACK_URL=http://127\.0\.0\.1:[1-9]\d*/zstack/v1\n", again.first)
    assert again.ask("PUT", "/management-nodes/actions", {"getVersion": {}}) == (200, {"version": "2.5.1"})


def test_what_a_client_was_told_survives_a_kill(again, killed):
    told, _ = killed
    assert {status for status, _ in told.values()} == {200}
    assert {job: again.ask("GET", f"/api-jobs/{job}") for job in told} == told
    assert again.names("zones") == {"zone-1", "zone-a", "zone-b", "zone-c"}


def test_the_cloud_is_kept_and_not_filled_again(again):
    assert len(again.names("vm-instances")) == 12


def test_new_uuids_are_new_after_a_restart(again, folder):
    known = {uuid for path in folder.glob("[!.]*") for uuid in re.findall("[0-9a-f]{32}", path.read_text())}
    assert again.session in known
    again.login()
    assert not {again.session, *(again.submit("new").rpartition("/")[2] for _ in range(20))} & known


def test_a_folder_in_use_is_refused(again, folder, capsys):
    assert main(["--port", "0", "--data", str(folder)]) == 2
    assert f"{folder} is in use by another zmock (process {again.process.pid})" in capsys.readouterr().err


def test_sigterm_ends_it_at_once_and_keeps_what_was_under_way(again, folder):
    job = again.submit("under-way").rpartition("/")[2]
    port = int(re.search(r":(\d+)/", again.url)[1])
    with socket.create_connection(("127.0.0.1", port)) as idle:
        idle.sendall(b"GET /zstack/v1/zones HTTP/1.1\r\n")
        code, seconds, out, err = again.end(signal.SIGTERM)
    assert (code, out) == (0, "") and seconds < 5, "it waits for no connection"
    assert "Traceback" not in err and "admin / password" in err and "12 VmInstance" in err
    with TinyDB(folder / "Job.json") as jobs:
        assert [record["state"] for record in jobs if record["uuid"] == job] == ["running"]
    with TinyDB(folder / "Zone.json") as zones:
        assert {zone["name"] for zone in zones} == {"zone-1", "zone-a", "zone-b", "zone-c"}
    assert not [*folder.glob("*.tmp")]


@pytest.mark.parametrize(("there", "missing"), (((), "catalogue.json"), (("catalogue.json",), "demo.json")))
def test_the_file_without_its_data_says_in_a_line_what_it_needs(tmp_path, there, missing):
    shutil.copy(ZMOCK, tmp_path)
    (tmp_path / "data").mkdir()
    for name in there:
        shutil.copy(ZMOCK.parent / "data" / name, tmp_path / "data")
    ended = subprocess.run([sys.executable, "zmock.py", "--port", "0"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert f"{missing} is missing" in ended.stderr


def test_the_file_and_its_catalogue_are_a_mock_anywhere(tmp_path):
    shutil.copy(ZMOCK, tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("catalogue.json", "demo.json"):
        shutil.copy(ZMOCK.parent / "data" / name, tmp_path / "data")
    with running("--delay", "0.01", script=tmp_path / "zmock.py", cwd=tmp_path) as process:
        process.login()
        status, body = poll(process, process.submit("z"))
        assert (status, body["inventory"]["name"]) == (200, "z")
        assert len(process.names("vm-instances")) == 12
        backings = {api["backing"] for api in process.ask("GET", process.url.replace("/zstack/v1", "/zmock/apis"))[1]["apis"]}
        assert backings == {"manual", "server", "generic"}
        control = process.url.replace("/zstack/v1", "/zmock/snapshots/first")
        assert [process.ask(*call, {})[0] for call in (("PUT", control), ("POST", f"{control}/restore"))] == [200, 200]
        code, seconds, _, err = process.end(signal.SIGINT)
    assert code == 0 and seconds < 2 and "Traceback" not in err
    with TinyDB(tmp_path / "data" / "cloud" / "Zone.json") as zones:
        assert {zone["name"] for zone in zones} == {"zone-1", "z"}


def test_a_mistake_is_a_line_on_stderr_and_exit_2():
    ended = subprocess.run([sys.executable, str(ZMOCK), "--prot", "80"], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "zmock: unknown argument --prot, did you mean --port? (see --help)\n")


# refusing to start


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def file(flag, text):
    """Flags with a file that holds the text."""
    return lambda tmp_path: [flag, write(tmp_path / "file.json", text)]


def kept(name, text):
    """Flags with a data folder in which a file holds the text."""
    return lambda tmp_path: ["--data", str(Path(write(tmp_path / "kept" / name, text)).parent)]


NEWER = '{"_default": {"1": {"uuid": "mock", "format": 99, "seed": 1, "starts": 0}}}'
DEEP = '{"a":' * 700 + "1" + "}" * 700
REF = {"l3NetworkUuid": "a", "networkServiceProviderUuid": "b", "networkServiceType": "DHCP"}
REFUSED = {
    "a wrong value": (["--dialect", "servr"], "did you mean server?"),
    "a folder below a file": (lambda tmp_path: ["--data", write(tmp_path / "file", "") + "/cloud"], "cannot use the data folder"),
    "a broken file in the folder": (kept("Zone.json", "{"), "Zone.json"),
    "a file of objects without uuid": (kept("Zone.json", '{"_default": {"1": {"name": "z"}}}'), "object 1 has no uuid"),
    "a file with a number that is none": (kept("Zone.json", '{"_default": {"%s": {"uuid": "a"}}}' % ("9" * 5000)), "is no number of an object"),
    "a folder of a newer zmock": (kept("Mock.json", NEWER), "written by a newer zmock"),
    "an address of another machine": (["--memory", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
    "an address that is none": (["--memory", "--host", ".."], "choose another --host"),
    "an address that is too long": (["--memory", "--host", "a" * 300], "choose another --host"),
    "a token of two lines": (["--control-token", "a\nb"], r"not 'a\nb'"),
    "a word of two lines": (["a\nb\x1b[31m"], r"unknown argument a\nb\x1b[31m"),
    "rules of many levels": (file("--rules", '[{"api": "*", "then": {"status": 200, "body": %s}}]' % DEEP), "nested more than 200 levels deep"),
    "a cloud of many levels": (file("--cloud", '{"zones": [{"name": "z", "description": %s}]}' % DEEP), "nested more than 200 levels deep"),
    "rules that are not there": (["--rules", "nowhere.json"], "cannot use the rules in nowhere.json"),
    "rules that are no JSON": (file("--rules", "{"), "cannot use the rules in"),
    "rules that are no list": (file("--rules", '{"api": "*"}'), "it is a JSON list of rules, not"),
    "a rule for an unknown API": (file("--rules", '[{"api": "CreateZon"}]'), "did you mean CreateZone?"),
    "a rule with a key twice": (file("--rules", '[{"api": "*", "delay": 1, "delay": 2}]'), "the key 'delay' is there twice in {\"api\": \"*\", \"delay\": 2}"),
    "a rule with an unknown key": (file("--rules", '[{"api": "*", "delai": 3}]'), "did you mean delay?"),
    "a cloud that is none": (["--cloud", "demmo"], "did you mean demo?"),
    "a cloud of no number": (["--cloud", "large:many"], "large:N"),
    "a cloud that is not there": (["--cloud", "nowhere.json"], "cannot read the cloud in nowhere.json"),
    "a cloud that is a folder": (lambda tmp_path: ["--cloud", str(tmp_path)], "cannot read the cloud in"),
    "a cloud that is no JSON": (file("--cloud", "{"), "cannot read the cloud in"),
    "a cloud with a key twice": (file("--cloud", '{"zones": [], "zones": []}'), "the key 'zones' is there twice"),
    "a cloud that is no object": (file("--cloud", "[]"), "a cloud is"),
    "a cloud of an unknown collection": (file("--cloud", '{"zonez": []}'), "did you mean zones?"),
    "a cloud with an unknown field": (file("--cloud", '{"zones": [{"nam": "z"}]}'), "did you mean name?"),
    "a cloud with a collection that is no list": (file("--cloud", '{"zones": {}}'), "zones"),
    "a cloud with an object that is none": (file("--cloud", '{"zones": [5]}'), "5"),
    "a cloud with a uuid that is no text": (file("--cloud", '{"zones": [{"uuid": 5, "name": "z"}]}'), "uuid"),
    "a cloud with a uuid twice": (file("--cloud", '{"zones": [{"uuid": "a", "name": "z"}, {"uuid": "a", "name": "y"}]}'), "twice"),
    "a cloud with a host without a cluster": (file("--cloud", '{"zones": [{"name": "z"}], "hosts": [{"name": "h"}]}'), "Host h needs a clusterUuid: there is no Cluster in the file"),
    "a cloud with a choice": (file("--cloud", '{"zones": [{"name": "a"}, {"name": "b"}], "clusters": [{"name": "c"}]}'), "Cluster c needs a zoneUuid: say which of 2"),
    "a cloud with a service of no network": (file("--cloud", json.dumps({"l3-networks/network-services/refs": [REF]})), "NetworkServiceL3NetworkRef has the l3NetworkUuid a, and there is no such L3Network"),
    "a cloud with a service without a provider": (file("--cloud", json.dumps({"NetworkServiceL3NetworkRef": [{"l3NetworkUuid": "a"}]})), "needs l3NetworkUuid and networkServiceProviderUuid"),
    "a cloud with a reference of any type": (file("--cloud", '{"images": [{"name": "i", "backupStorageRefs": [5]}]}'), "backupStorageRefs of Image i is a"),
    "a cloud with a type of any type": (file("--cloud", '{"images": [{"name": "i"}], "primary-storage": [{"name": "p", "type": []}]}'), "type of PrimaryStorage p is a str, not []"),
    "a cloud with a date before dates": (file("--cloud", '{"zones": [{"name": "z", "createDate": "Jan 6, 0017 3:51:16 AM"}]}'), "is a date after 1970"),
    "a cloud with a text for a number": (file("--cloud", '{"instance-offerings": [{"name": "o", "cpuNum": "many"}]}'), "cpuNum"),
}


@each("mistake", REFUSED)
def test_what_cannot_start_says_what_to_do_in_one_line(tmp_path, monkeypatch, capsys, mistake):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zmock.welcome", lambda mock, terminal: pytest.fail("it started"))
    flags, told = REFUSED[mistake]
    assert main(["--port", "0", *(flags(tmp_path) if callable(flags) else flags)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"zmock: [^\n]+\n", err) and told in err


@each(("place", "told"), (("/dev/full", "zmock: cannot write to stdout: No space left on device\n"), ("a reader that has gone", ""), (None, "")))
def test_the_address_that_nobody_reads_is_no_reason_to_end(monkeypatch, capsys, place, told):
    """Only where it gets lost, a program may wait for it for ever."""

    def welcome_and_end(*arguments):
        welcome(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("zmock.welcome", welcome_and_end)
    reader, writer = os.pipe()
    os.close(reader)
    with open(place if place == "/dev/full" else writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout if place else None)
        code = main(["--memory", "--port", "0"])
    err = capsys.readouterr().err
    assert (code, err) == (2, told) if told else (code == 0 and err.endswith("0 calls, 0 failed; cloud not kept (--memory)\n"))


def started(monkeypatch, capsys, *flags):
    """What a start of the file itself came to, before it was anything: the exit code and stderr."""
    monkeypatch.setattr(sys, "argv", [str(ZMOCK), "--memory", "--port", "0", *flags])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ZMOCK), run_name="__main__")
    out, err = capsys.readouterr()
    assert out == ""
    return end.value.code, err


def test_an_old_python_can_read_it():
    ast.parse(ZMOCK.read_text(encoding="utf-8"), feature_version=(3, 8))  # and what 3.8 can, the later ones can


@pytest.mark.parametrize("version", ((3, 8), (3, 9), (3, 10)))
def test_an_old_python_is_told_in_one_line_which_one_is_needed(monkeypatch, capsys, version):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    code, err = started(monkeypatch, capsys)
    line = f"zmock: {version[0]}.{version[1]} is too old a Python; use 3.11 or newer: python3.12 zmock.py\n"
    assert (code, err) == (2, line)


def test_what_stands_before_the_check_of_the_version_needs_nothing_new():
    head = ZMOCK.read_text(encoding="utf-8").partition("\nimport argparse\n")[0]
    assert "sys.version_info < (3, 11)" in head
    assert re.findall(r"^(?:from|import) (\S+)", head, re.M) == ["__future__", "os", "sys", "signal"]


@pytest.mark.parametrize("missing", ("aiohttp", "tinydb"))
def test_what_is_not_installed_is_named_in_one_line_that_installs_it(monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    code, err = started(monkeypatch, capsys)
    assert code == 2 and re.fullmatch(r"zmock: [^\n]+\n", err)
    assert missing in err and f"install them: {sys.executable} -m pip install 'aiohttp>=3.9' 'tinydb>=4.8'" in err


def test_an_aiohttp_that_is_too_old_is_named_too(monkeypatch, capsys):
    monkeypatch.delattr("aiohttp.web.AppKey")
    code, err = started(monkeypatch, capsys)
    assert code == 2 and "is too old); install them: " in err


@pytest.mark.parametrize(("argv", "kind"), (("/venv/bin/zmock", SystemExit), ("-m", SystemExit), ("/venv/bin/pytest", ImportError), ("", ImportError)))
def test_an_import_fails_with_the_same_line_and_the_installed_command_ends(monkeypatch, argv, kind):
    monkeypatch.setitem(sys.modules, "tinydb", None)
    monkeypatch.setattr(sys, "argv", [argv])
    with pytest.raises(kind) as error:
        exec(compile(ZMOCK.read_text(encoding="utf-8"), ZMOCK, "exec"), {"__name__": "zmock", "__file__": str(ZMOCK)})
    assert kind is SystemExit or "tinydb" in str(error.value) and "\n" not in str(error.value)


def test_an_interrupt_while_the_cloud_is_made_ends_it_without_a_traceback(monkeypatch, capsys):
    for number in (signal.SIGINT, signal.SIGTERM):
        monkeypatch.setattr("zmock.Mock", lambda settings, number=number: signal.raise_signal(number))
        assert main(["--memory", "--port", "0"]) == 0
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_while_modules_are_imported_is_no_traceback(tmp_path):
    (tmp_path / "difflib.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run([sys.executable, str(ZMOCK), "--version"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


# where it listens


def reaches(family, host, port):
    """Return True if something listens there; skip where the machine has no such address."""
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                pytest.skip(f"this machine has no {host}")
            return False
        return True


@pytest.mark.parametrize(
    ("host", "base", "ipv4", "ipv6"),
    (
        ("127.0.0.1", "http://127.0.0.1:", True, False),
        ("0.0.0.0", "http://127.0.0.1:", True, False),
        ("localhost", "http://localhost:", True, True),
        ("::1", "http://[::1]:", False, True),
        ("::", "http://[::1]:", True, True),
    ),
)
def test_a_host_is_all_its_addresses_on_one_port_also_after_it_was_down(host, base, ipv4, ipv6):
    with serve(host=host) as mock:
        port = int(mock.base.rpartition(":")[2])
        for _ in range(2):
            assert mock.url == f"{base}{port}/zstack/v1"
            assert (reaches(socket.AF_INET, "127.0.0.1", port), reaches(socket.AF_INET6, "::1", port)) == (ipv4, ipv6)
            for url in (mock.base, *([f"http://127.0.0.1:{port}"] if ipv4 else ())):
                assert urllib.request.urlopen(f"{url}/zmock/health", timeout=5).status == 200
            assert mock.login()
            mock.down()
            assert not reaches(socket.AF_INET, "127.0.0.1", port) and not reaches(socket.AF_INET6, "::1", port)
            mock.up()


def test_a_free_port_is_one_that_is_free_at_all_addresses(monkeypatch):
    drawn = []

    def listen_at(address, port):
        drawn.append(address)
        if len(drawn) == 2:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return real(address, port)

    real = zmock.listen_at
    monkeypatch.setattr("zmock.listen_at", listen_at)
    listening = zmock.listen("localhost", 0)
    assert drawn == ["127.0.0.1", "::1"] * 2
    assert len({one.getsockname()[1] for one in listening}) == 1
    for one in listening:
        one.close()


def test_localhost_is_refused_where_its_port_is_taken_at_either_address():
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(SettingsError, match=f"^cannot listen on localhost:{port}: Address already in use; choose another --port"):
                zmock.listen("localhost", port)


def test_an_address_that_the_machine_lacks_is_left_out_and_none_at_all_refused(monkeypatch):
    real = zmock.listen_at

    def without_ipv6(address, port):
        if ":" in address:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(address, port)

    monkeypatch.setattr("zmock.listen_at", without_ipv6)
    (only,) = zmock.listen("localhost", 0)
    only.close()
    with pytest.raises(SettingsError, match=r"^cannot listen on \[::1\]:0: Address family not supported by protocol; choose another --host$"):
        zmock.listen("::1", 0)


def test_a_port_in_use_is_refused(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--memory", "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"zmock: [^\n]+\n", err)
    assert f"cannot listen on 127.0.0.1:{port}: " in err and "choose another --port" in err


# clouds


@pytest.mark.parametrize(("cloud", "zones", "vms"), (("demo", 1, 12), ("empty", 0, 0), ("large:20", 1, 20), ("large:0", 1, 0)))
async def test_a_cloud_starts_with_what_was_asked_for(cloud, zones, vms):
    async with serve(cloud=cloud) as mock:
        assert len(await mock.query("zones")) == zones
        found = await mock.query("vm-instances", "state!=Destroyed") if cloud != "demo" else await mock.query("vm-instances")
        assert len(found) == vms
        nodes = [node["uuid"] for node in await mock.query("management-nodes")]
        assert nodes == [named("management-node")]
        if vms:
            assert await mock.query("vm-instances", "vmNics.l3Network.name=l3-private", "host.name~=host-%", "rootVolume.type=Root")


async def test_a_cloud_from_a_file_has_what_inventories_of_subtypes_show_inside_them(tmp_path):
    made = (
        ("CreateL2VxlanNetworkPool", "l2-networks", {"zoneUuid": named("zone-1")}),
        ("AddCephPrimaryStorage", "primary-storage", {"zoneUuid": named("zone-1"), "monUrls": ["root:password@10.10.0.91"]}),
    )
    async with serve() as mock:
        for api, collection, given in made:
            uuid = (await mock.create(api, name="n", **given))["uuid"]
            if collection == "l2-networks":
                await mock.create("CreateVniRange", name="r", l2NetworkUuid=uuid, startVni=1, endVni=9)
        shown = {collection: await mock.query(collection, "name=n") for _, collection, _ in made}
        ranges, zones = await mock.query("l2-networks/vxlan-pool/vni-range"), await mock.query("zones")
    (tmp_path / "cloud.json").write_text(json.dumps(shown | {"VniRange": ranges, "zones": zones}))
    async with serve(cloud=str(tmp_path / "cloud.json")) as mock:
        assert {collection: await mock.query(collection) for collection in shown} == shown


async def test_a_cloud_comes_from_a_file_of_inventories(tmp_path):
    async with serve() as mock:
        shown = {name: await mock.query(name) for name in ("zones", "clusters", "hosts", "primary-storage", "backup-storage", "images", "vm-instances")}
        shown |= {name: await mock.query(name) for name in ("instance-offerings", "disk-offerings", "l2-networks", "l3-networks")}
    path = write(
        tmp_path / "cloud.json", json.dumps(shown | {"UserTag": [{"resourceUuid": named("zone-1"), "resourceType": "ZoneVO", "tag": "t"}]})
    )
    async with serve(cloud=path) as mock:
        for name, items in shown.items():
            found = {item["uuid"]: item for item in await mock.query(name)}
            assert {uuid: item["name"] for uuid, item in found.items()} == {item["uuid"]: item["name"] for item in items}
        (zone,) = await mock.query("zones", "__userTag__=t", "cluster.host.name=host-1")
        assert zone["name"] == "zone-1"


async def test_a_file_keeps_the_dates_and_what_is_embedded_in_an_inventory(tmp_path):
    vm = {"name": "vm", "createDate": "Jan 6, 2017 3:51:16 AM", "vmNics": [{"uuid": named("nic"), "ip": "10.0.0.1", "deviceId": 0}]}
    path = write(tmp_path / "cloud.json", json.dumps({"vm-instances": [vm], **{kind: [{"name": "n"}] for kind in ("zones", "l2-networks", "l3-networks")}}))
    async with serve(cloud=path) as mock:
        (found,) = await mock.query("vm-instances")
        assert found["createDate"] == vm["createDate"]
        assert [nic["ip"] for nic in found["vmNics"]] == ["10.0.0.1"]


SMALL = {"zones": [{"name": "z"}], "clusters": [{"name": "c"}], "hosts": [{"name": "h"}]}  # as docs/clouds.md has it


def test_the_docs_show_a_small_cloud_that_loads():
    assert json.dumps(SMALL) in (Path(__file__).parent.parent / "docs/clouds.md").read_text(encoding="utf-8")


async def test_a_small_cloud_from_a_file_has_what_created_objects_have(tmp_path):
    async with serve(cloud=write(tmp_path / "cloud.json", json.dumps(SMALL))) as mock:
        (host,), (cluster,) = await mock.query("hosts"), await mock.query("clusters")
        assert host["clusterUuid"] == cluster["uuid"] and host["zoneUuid"] == cluster["zoneUuid"] == (await mock.query("zones"))[0]["uuid"]
        assert (host["status"], host["hypervisorType"], host["cpuNum"], host["totalCpuCapacity"]) == ("Connected", "KVM", 16, 160)
        assert (await mock.call("GetCpuMemoryCapacity", all=True))["availableCpu"] == 160
        await mock.incident({"network-partition": "z"})
        assert (await mock.query("hosts"))[0]["status"] == "Disconnected"
        await mock.end_incident(next(iter(mock.cloud.outages.incidents)))
        assert (await mock.act("hosts", host["uuid"], "reconnectHost"))["status"] == "Connected"
        await mock.delete("hosts", host["uuid"])
        assert await mock.query("hosts") == []


async def test_a_cloud_from_a_file_may_hold_what_lies_inside_others(tmp_path):
    async with serve() as mock:
        kinds = ("zones", "clusters", "l2-networks", "l3-networks", "images", "backup-storage")
        shown = {kind: await mock.query(kind) for kind in kinds}
        refs = {"l3-networks/network-services/refs": await mock.query("l3-networks/network-services/refs")}
    assert refs["l3-networks/network-services/refs"] and shown["images"][0]["backupStorageRefs"]
    without = [{name: value for name, value in l3.items() if name != "networkServices"} for l3 in shown["l3-networks"]]
    for told in (shown, shown | refs, refs | shown | {"l3-networks": without}):
        async with serve(cloud=write(tmp_path / "cloud.json", json.dumps(told))) as mock:
            assert await mock.query("images") == shown["images"]
            for l3 in await mock.query("l3-networks"):
                assert l3["networkServices"] == next(other["networkServices"] for other in shown["l3-networks"] if other["uuid"] == l3["uuid"])


async def test_a_kept_cloud_is_not_filled_with_another(tmp_path):
    for cloud in ("empty", "demo"):
        async with serve(cloud=cloud, memory=False, data=str(tmp_path / "cloud")) as mock:
            assert await mock.query("vm-instances") == []


# objects that somebody edited


@contextlib.contextmanager
def edited(folder, name):
    """The objects of a file, to be changed; another process than zmock writes them back."""
    with TinyDB(folder / f"{name}.json") as db:
        items = {document.doc_id: dict(document) for document in db}
        yield items
        db.drop_tables()
        for number, item in items.items():
            db.insert(Document(item, number))


@pytest.fixture
async def stopped(tmp_path):
    """The folder of a mock that has stopped."""
    async with serve(memory=False, data=str(tmp_path / "cloud")):
        pass
    return tmp_path / "cloud"


def again_on(folder, **settings):
    return serve(memory=False, data=str(folder), **settings)


async def test_a_file_edited_while_it_was_stopped_is_the_state(stopped):
    with edited(stopped, "Zone") as zones:
        zones[1]["name"] = "renamed"
        zones[5] = {**zones[1], "uuid": named("zone-2"), "name": "new"}
    for _ in range(2):
        async with again_on(stopped) as mock:
            assert sorted(zone["name"] for zone in await mock.query("zones")) == ["new", "renamed"]
            assert mock.control.health()["found"] == []


async def test_states_that_cannot_be_load_and_are_told(stopped):
    with edited(stopped, "VmInstance") as vms:
        vms[1] |= {"state": "runing"}
    async with again_on(stopped) as mock:
        (line,) = mock.control.health()["found"]
        assert line == f"VmInstance {vms[1]['uuid']}: state cannot be runing, did you mean Running?"


async def test_unknown_missing_and_wrong_fields_load_and_are_told(stopped, caplog):
    uuid = named("vm-web-1")
    with edited(stopped, "VmInstance") as vms:
        (vm,) = (vm for vm in vms.values() if vm["uuid"] == uuid)
        vm |= {"memory": 5, "cpuNum": "many", "lastOpDate": "yesterday", "description": None}
        del vm["createDate"], vm["state"]
    async with again_on(stopped) as mock:
        (line,) = mock.control.health()["found"]
        for told in (f"VmInstance {uuid}: ", "createDate is missing", "state is missing", "memory is unknown", 'cpuNum is an int, not "many"', "lastOpDate is no date"):
            assert told in line and told in caplog.text
        (vm,) = await mock.query("vm-instances", "name=web-1")
        assert (vm["state"], vm["cpuNum"], vm["memorySize"]) == ("Created", 1, 1 << 30) and re.fullmatch("[A-Z][a-z]{2} .* [AP]M", vm["createDate"])
        await mock.delete("vm-instances", uuid)


BROKEN = [row.name for row in catalogue().resources.values() if row.needs and not row.of and row.name not in ("ManagementNode", "TaskProgress")]
# some types at once, and in `make slow` one after the other: each of them takes all APIs
BROKEN_AT_ONCE = [BROKEN[n::2] for n in range(2)] + [pytest.param([type], marks=pytest.mark.slow) for type in BROKEN]


@pytest.mark.parametrize("types", BROKEN_AT_ONCE, ids=lambda types: "-".join(types))
async def test_objects_of_which_only_the_uuid_is_left_give_no_internal_error(stopped, types):
    lost = []
    for type in types:
        with edited(stopped, type) if (stopped / f"{type}.json").exists() else contextlib.nullcontext({}) as items:
            for number, item in items.items():
                items[number] = {"uuid": item["uuid"]}
        lost += [type] * len(items)
    async with again_on(stopped, open=True) as mock:
        assert sorted(line.partition(" ")[0] for line in mock.control.health()["found"]) == sorted(lost)
        await mock.advance(3 * 86400)
        mock.session = "open"
        answers = []
        for api in mock.cloud.catalogue.apis.values():
            if api.backing == "none" or api.type not in mock.cloud.catalogue.resources:
                continue
            uuid = next((item["uuid"] for item in mock.cloud.store.rows(mock.cloud.catalogue.resources[api.type].stored)), named("nothing"))
            body = {api.key: {"stateEvent": "enable", "name": "x"}} if api.method in ("POST", "PUT") else None
            status, answer = await mock.request(api.method, re.sub(r"\{\w+\}", uuid, api.path), body)
            if status == 202:
                await mock.clock.settle()
                _, answer = await mock.request("GET", "/api-jobs/" + answer["location"][-32:])
            answers.append((api.name, answer))
        assert len(answers) > 80
        lost = [(name, answer) for name, answer in answers if "SYS.1000" in json.dumps(answer)]
        assert [name for name, _ in lost if name not in ("UpdateVirtualRouterOffering", "ReimageVmInstance")] == [], lost  # these refuse so what the machine or the offering is


async def test_an_object_of_many_levels_is_refused_in_words(stopped):
    path = stopped / "Zone.json"
    path.write_text(path.read_text().replace('"name":"zone-1"', f'"name":{DEEP}'))
    with pytest.raises(SettingsError, match="holds what zmock cannot use .*; mend it"):
        async with again_on(stopped):
            pass


async def test_objects_that_share_a_uuid_are_told(stopped):
    with edited(stopped, "Zone") as zones:
        zones[7] = zones[1] | {"name": "the last one"}
    async with again_on(stopped) as mock:
        assert mock.control.health()["found"] == ["Zone.json holds 1 object with the uuid of another; the last one counts"]
        assert [zone["name"] for zone in await mock.query("zones")] == ["the last one"]


def test_a_start_on_a_full_disk_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.fsync", lambda number: os.open("/nowhere/at/all", 0))
    assert main(["--port", "0", "--data", str(tmp_path / "cloud")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"zmock: [^\n]+ choose another folder with --data, or --memory\n", err.splitlines(keepends=True)[-1])
    assert "Traceback" not in err


async def test_an_api_job_that_is_none_is_forgotten_and_told(stopped):
    (stopped / "Job.json").write_text(json.dumps({"_default": {"1": {"uuid": "a" * 32, "api": "CreateZone"}}}))
    async with again_on(stopped) as mock:
        (line,) = mock.control.health()["found"]
        assert line.startswith(f"Job {'a' * 32} is no api-job") and (await mock.request("GET", f"/api-jobs/{'a' * 32}"))[0] == 404


@pytest.mark.parametrize("wrong", ({"at": 1e308}, {"at": float("inf")}, {"at": -5e17}, {"offset": 1e18}, {"mode": "zzz"}, {"mode": []}, {"at": None}))
async def test_a_clock_that_is_none_is_refused_in_words(stopped, wrong):
    with edited(stopped, "Mock") as items:
        for item in items.values():
            item["clock"] = {"mode": "frozen", "at": 1.5e9, "offset": 0} | wrong
    with pytest.raises(SettingsError, match="Mock.json in which 'clock' is no clock such as .*mend it"):
        again_on(stopped)


@pytest.mark.parametrize(("name", "value"), (("starts", "x"), ("starts", None), ("format", "x"), ("format", None), ("clock", 5)))
async def test_facts_of_the_mock_that_are_none_are_refused_in_words(stopped, name, value):
    with edited(stopped, "Mock") as items:
        for item in items.values():
            item[name] = value
    with pytest.raises(SettingsError, match=f"Mock.json in which '{name}' is no "):
        again_on(stopped)


@pytest.mark.parametrize("value", ([], ["x"], {"a": 1}, 5, True))
async def test_a_date_of_any_type_loads_and_is_told(stopped, value):
    with edited(stopped, "Zone") as zones:
        zones[1]["createDate"] = value
    async with again_on(stopped) as mock:
        (line,) = mock.control.health()["found"]
        assert f"createDate is a date, not {json.dumps(value)}" in line and len(await mock.query("zones")) == 1


@pytest.mark.parametrize("name", ("created", "seen", "due", "finished"))
@pytest.mark.parametrize("moment", (-1e18, 1e300, float("nan"), True, "x"))
async def test_an_api_job_of_an_impossible_moment_is_forgotten_and_told(stopped, name, moment):
    job = {"uuid": "a" * 32, "api": "CreateZone", "state": "failed", "created": 1e9, "seen": 1e9, "due": 1e9, "hook": "", "schema": False}
    (stopped / "Job.json").write_text(json.dumps({"_default": {"1": job | {name: moment}}}))
    async with again_on(stopped) as mock:
        (line,) = mock.control.health()["found"]
        assert f"is no api-job ({name}); it is forgotten" in line and (await ask_control(mock, "GET", "jobs"))["jobs"] == []


# what a restart keeps


async def test_rules_sessions_and_a_moved_clock_are_kept(tmp_path):
    async with again_on(tmp_path / "cloud", clock="real") as mock:
        session = await mock.login()
        await ask_control(mock, "POST", "rules", {"api": "CreateZone", "then": {"error": "SYS.1006"}})
        await ask_control(mock, "POST", "clock", {"advance": 3600})
        before = mock.clock.now()
    async with again_on(tmp_path / "cloud", clock="real", dialect="server") as mock:
        assert before <= mock.clock.now() < before + 60
        mock.session = session
        with pytest.raises(RuntimeError, match="SYS.1006"):
            await mock.create("CreateZone", name="z")
        assert [rule.id for rule in mock.rules] == ["rule-1"]
        assert (await ask_control(mock, "POST", "rules", {"api": "*", "skip": 9}))["id"] == "rule-2"
        kept = mock.cloud.store.get("Mock", "mock")
        assert (kept["dialect"], kept["seed"], kept["format"]) == ("server", 1, FORMAT)


async def test_free_space_of_a_folder_of_format_2_is_what_it_was(tmp_path):
    """In that format the stored number was what is free now."""
    async with again_on(tmp_path / "cloud", cloud="demo") as mock:
        before = {ps["uuid"]: ps["availableCapacity"] for ps in await mock.query("primary-storage")}
        for uuid, available in before.items():
            mock.cloud.store.update("PrimaryStorage", uuid, availableCapacity=available)
        mock.cloud.store.update("Mock", "mock", format=2)
    for _ in range(2):
        async with again_on(tmp_path / "cloud", cloud="demo") as mock:
            assert {ps["uuid"]: ps["availableCapacity"] for ps in await mock.query("primary-storage")} == before
            assert mock.cloud.store.get("Mock", "mock")["format"] == FORMAT


async def test_a_clock_that_was_stopped_stands_where_it_stood(tmp_path):
    async with again_on(tmp_path / "cloud", clock="real") as mock:
        for told in ({"freeze": True}, {"set": "2030-01-01T00:00:00Z"}):
            await ask_control(mock, "POST", "clock", told)
    async with again_on(tmp_path / "cloud", clock="real") as mock:
        assert (mock.clock.mode, iso(mock.clock.now())) == ("frozen", "2030-01-01T00:00:00.000Z")


@pytest.mark.parametrize("memory", (True, False))
async def test_a_reset_is_as_the_start_was(tmp_path, memory):
    def all_there_is(mock):
        state = {type: {item["uuid"]: item for item in table.items.values()} for type, table in mock.cloud.store.tables.items() if table.items}
        return json.loads(re.sub(r"\d{4}-\d\d-\d\d [\d:]{8}", "a date", json.dumps(state)))

    def all_due(mock):
        return sorted(timer.name for timer in (*mock.clock.timers, *mock.clock.dated) if timer.fire)

    async with serve(memory=memory, data=str(tmp_path / "cloud")) as mock:
        at_the_start, due = all_there_is(mock), all_due(mock)
        first = await mock.login(), (await mock.create("CreateZone", name="z"))["uuid"]
        for _ in range(3):
            await mock.create("CreateZone", name="z")
            await mock.delete("zones", named("zone-1"))
            await mock.advance(3 * 86400)
            await mock.reset()
            assert all_there_is(mock) == at_the_start and all_due(mock) == due
            assert (await mock.login(), (await mock.create("CreateZone", name="z"))["uuid"]) == first


async def test_a_reset_after_a_while_makes_the_cloud_anew_for_its_dates(monkeypatch):
    async with serve() as mock:
        made = (await mock.query("zones"))[0]["createDate"]
        await mock.reset()
        assert (await mock.query("zones"))[0]["createDate"] == made
        world = mock.clock.system_time()
        monkeypatch.setattr(mock.clock, "system_time", lambda: world + 7200)
        await mock.reset()
        assert (await mock.query("zones"))[0]["createDate"] != made


# side by side


async def test_two_mocks_in_one_process_do_not_meet():
    async with serve(seed=1) as one, serve(seed=2, dialect="server") as other:
        sessions = [await mock.login() for mock in (one, other)]
        await one.create("CreateZone", name="z")
        one.rule(api="CreateZone", then={"error": "SYS.1006"})
        await one.advance(3600)
        assert await other.query("zones", "name=z") == []
        assert (await other.create("CreateZone", name="y"))["name"] == "y"
        assert other.clock.now() < one.clock.now() - 3000
        assert (other.rules, [call.api for call in other.calls("CreateZone")], len(other.jobs())) == ([], ["CreateZone"], 1)
        for mock, session in zip((one, other), reversed(sessions), strict=True):
            status, body = await mock.request("GET", "/zones", headers={"Authorization": f"OAuth {session}"})
            assert (status, body["error"]["code"]) == (503, "ID.1001")


async def test_the_same_seed_gives_the_same_uuids_and_another_one_others():
    async def uuids(seed):
        async with serve(seed=seed) as mock:
            return [await mock.login(), *[(await mock.create("CreateZone", name="z"))["uuid"] for _ in range(3)]]

    first = await uuids(7)
    assert await uuids(7) == first and len({*first}) == 4
    assert not {*await uuids(8)} & {*first}


async def test_a_folder_without_its_mock_file_is_still_the_state(tmp_path):
    async with serve(memory=False, data=str(tmp_path)) as mock:
        await mock.create("CreateZone", name="mine")
    (tmp_path / "Mock.json").unlink()
    async with serve(memory=False, data=str(tmp_path)) as mock:
        assert [zone["name"] for zone in await mock.query("zones", "name=mine")] == ["mine"]


async def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    text = '{"_default": {"1": {"uuid": "abc", "name": "x"}}}'
    (tmp_path / "contacts.json").write_text(text)
    with pytest.raises(SettingsError, match="contacts.json is not a file of a cloud"):
        serve(memory=False, data=str(tmp_path))
    assert (tmp_path / "contacts.json").read_text() == text


# a folder that keeps a cloud, and settings that fill an empty one


@pytest.fixture
async def of_seed_5(tmp_path):
    """A folder that keeps an empty cloud of seed 5."""
    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="empty", seed=5):
        return str(tmp_path / "cloud")


@pytest.mark.parametrize(
    ("flags", "told"),
    (
        (["--cloud", "demo"], "keeps a cloud made with --cloud empty, not --cloud demo"),
        (["--cloud", "large:7"], "keeps a cloud made with --cloud empty, not --cloud large:7"),
        (["--seed", "1"], "keeps a cloud made with --seed 5, not --seed 1"),
        (["--seed", "6", "--cloud", "empty"], "keeps a cloud made with --seed 5, not --seed 6"),
    ),
)
async def test_a_flag_that_differs_from_what_a_kept_cloud_was_made_with_is_refused_in_one_line(of_seed_5, flags, told):
    before = {path.name: path.read_bytes() for path in Path(of_seed_5).glob("*.json")}
    for _ in range(2):  # and the folder is free again
        with pytest.raises(SettingsError) as refused:
            create_app(read_settings(["--data", of_seed_5, *flags], {}))
        line = str(refused.value)
        assert line == f"{of_seed_5} {told}; leave it out, choose another --data, or remove the folder"
    assert {path.name: path.read_bytes() for path in Path(of_seed_5).glob("*.json")} == before


def test_the_command_line_refuses_such_a_flag_with_2(of_seed_5, capsys):
    assert main(["--port", "0", "--data", of_seed_5, "--cloud", "demo"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "variables", "warned"),
    (
        ([], {}, []),
        (["--cloud", "empty", "--seed", "5"], {}, []),
        ([], {"ZMOCK_CLOUD": "empty", "ZMOCK_SEED": "5"}, []),
        ([], {"ZMOCK_CLOUD": "demo"}, ["ZMOCK_CLOUD=demo"]),
        ([], {"ZMOCK_SEED": "1"}, ["ZMOCK_SEED=1"]),
        ([], {"ZMOCK_CLOUD": "large:7", "ZMOCK_SEED": "9"}, ["ZMOCK_CLOUD=large:7", "ZMOCK_SEED=9"]),
        (["--cloud", "empty"], {"ZMOCK_CLOUD": "demo"}, []),
    ),
)
async def test_a_variable_that_differs_is_a_warning_and_health_says_what_is_served(of_seed_5, flags, variables, warned, caplog):
    settings = read_settings(["--port", "0", "--data", of_seed_5, *flags], variables)
    async with Mock(settings) as mock:
        health = mock.control.health()
        assert (health["cloud"], health["seed"], mock.cloud.store.count("VmInstance")) == ("empty", 5, 0)
        told = [record.getMessage() for record in caplog.records if "is for an empty folder" in record.getMessage()]
        assert [line.partition("; ")[2].split()[0] for line in told] == warned
        assert all(line.startswith(f"{of_seed_5} keeps a cloud made with --") for line in told)
        await mock.reset()
        health = mock.control.health()
        assert (health["cloud"], health["seed"], mock.cloud.store.count("VmInstance")) == ("empty", 5, 0)


async def test_a_folder_is_what_it_was_made_with_also_after_a_reset_to_another_cloud(of_seed_5):
    async with serve(memory=False, data=of_seed_5) as mock:
        await mock.control.reset_to("demo")
    with pytest.raises(SettingsError, match="made with --cloud empty, not --cloud large:3"):
        serve(memory=False, data=of_seed_5, cloud="large:3")
    async with serve(memory=False, data=of_seed_5, cloud="empty", seed=5) as mock:  # the same command line starts it again
        assert mock.control.health()["cloud"] == "demo" and mock.cloud.store.count("VmInstance")


async def test_a_restored_snapshot_is_of_the_cloud_that_it_was_made_with(tmp_path):
    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="empty") as mock:
        await ask_control(mock, "PUT", "snapshots/bare")
        await mock.control.reset_to("demo")
        health = await ask_control(mock, "POST", "snapshots/bare/restore")
        assert (health["cloud"], mock.cloud.store.count("VmInstance")) == ("empty", 0)


async def test_a_cloud_file_named_from_another_folder_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text('{"zones": [{"name": "z"}]}')
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="mine.json"):
        pass
    for cloud in ("mine.json", "./mine.json", str(tmp_path / "mine.json")):
        async with serve(memory=False, data=str(tmp_path / "cloud"), cloud=cloud) as mock:
            assert mock.control.health()["cloud"] == "mine.json"
    with pytest.raises(SettingsError, match="not --cloud other.json"):
        serve(memory=False, data=str(tmp_path / "cloud"), cloud="other.json")
    monkeypatch.chdir(tmp_path / "sub")
    async with serve(memory=False, data=str(tmp_path / "cloud"), cloud="../mine.json"):
        pass


async def test_a_reset_whose_cloud_file_is_gone_is_refused_with_nothing_changed(tmp_path):
    (tmp_path / "mine.json").write_text('{"zones": [{"name": "z"}]}')
    settings = {"memory": False, "data": str(tmp_path / "cloud")}
    async with serve(**settings, cloud=str(tmp_path / "mine.json")):
        pass
    (tmp_path / "mine.json").unlink()
    async with serve(**settings) as mock:
        with pytest.raises(ControlError, match="cannot read the cloud"):
            await mock.control.reset_to(mock.control.settings.cloud)
        assert [zone["name"] for zone in await mock.query("zones")] == ["z"]


async def test_a_folder_of_an_older_zmock_does_not_say_its_cloud(of_seed_5, caplog):
    file = Path(of_seed_5) / "Mock.json"
    file.write_text(re.sub(r'"cloud":"\w+",', "", file.read_text()))
    async with Mock(read_settings(["--port", "0", "--data", of_seed_5, "--cloud", "demo"], {})) as mock:
        health = mock.control.health()
        assert (health["cloud"], health["seed"]) == ("unknown", 5)
        assert "does not say with which --cloud it was made; --cloud demo is for an empty folder" in caplog.text


@pytest.mark.parametrize(("name", "value"), (("cloud", 5), ("seed", "x")))
async def test_a_kept_cloud_that_says_nonsense_about_itself_is_refused(of_seed_5, name, value):
    file = Path(of_seed_5) / "Mock.json"
    kept = json.loads(file.read_text())
    kept["_default"]["1"][name] = value
    file.write_text(json.dumps(kept))
    with pytest.raises(SettingsError, match=f"a Mock.json in which '{name}' is no"):
        serve(memory=False, data=of_seed_5)


async def test_a_folder_whose_first_commit_fails_is_free_again(tmp_path, monkeypatch):
    folder = str(tmp_path / "cloud")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: os.open("/nowhere/at/all", 0))
        with pytest.raises(SettingsError, match="make room there"):
            async with serve(memory=False, data=folder):
                pass
    async with serve(memory=False, data=folder) as mock:
        assert mock.cloud.store.state == "kept"
