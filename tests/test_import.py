"""zmock import: the cloud of a server, here another zmock in the dialect of the server, as a file."""

import json
import os
import random
import re
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from asking import IMPORTABLE, each
from test_commands import zmock_cli  # noqa: F401 (a fixture)
from test_export import without_dates
from tinydb import where

import zmock as zmock_module
from zmock import ADMIN, counted, named, serve

PASSWORD = ("--password", "password")


@pytest.fixture
def imported(zmock_cli, tmp_path):  # noqa: F811
    """Import the cloud of a mock to a file: its path, its content, and what was printed on stderr."""

    def run(mock, *flags):
        code, printed, told = zmock_cli("import", mock.base, *PASSWORD, *flags)
        assert code == 0, told
        path = tmp_path / "imported.json"
        path.write_text(printed)
        return str(path), json.loads(printed), told

    return run


@pytest.fixture
def remote():
    with serve(dialect="server") as mock:
        mock.login()
        yield mock


def questions(mock):
    """Queries of all kinds of objects, with a condition for each of their fields."""
    for api in mock.mock.cloud.catalogue.apis.values():
        row = mock.mock.cloud.catalogue.resources.get(api.type)
        if api.kind != "Query" or api.backing == "none" or "{" in api.path or row.name in ASIDE:
            continue
        yield api.path
        _, answer = mock.request("GET", f"{api.path}?limit=3")
        for item in answer["inventories"]:
            for name, value in item.items():
                if isinstance(value, (str, int)) and not name.endswith("Date"):
                    yield f"{api.path}?q={name}={quote(str(value))}"


def in_any_order(value):
    """The same with its lists sorted: some come in the order in which objects were made."""
    if isinstance(value, dict):
        return {name: in_any_order(inner) for name, inner in value.items() if name != "id"}
    return sorted(map(in_any_order, value), key=str) if isinstance(value, list) else value


ASIDE = zmock_module.NOT_IMPORTED | {"LongJob", "GarbageCollector", "AccountResourceRef"}  # or of nobody but the server


def test_a_cloud_that_is_imported_answers_as_the_server_does(remote, imported, monkeypatch):
    monkeypatch.setattr(zmock_module, "IMPORT_PAGE", 4)
    remote.create("CreateVmInstance", name="mine", instanceOfferingUuid=named("offering-small"), imageUuid=named("image-centos7"), l3NetworkUuids=[named("l3-private")])
    remote.create("CreateAccount", name="ann", password="a" * 128)
    remote.call("UpdateGlobalConfig", category="vm", name="numa", value="true")
    remote.mock.db.table("PrimaryStorage").update({"totalCapacity": 7 << 40}, where("type") == "NFS")
    remote.mock.db.table("BackupStorage").update({"availableCapacity": 5 << 40})
    path, _, told = imported(remote)
    assert "/vm-instances: 13 objects\n" in told
    with serve(cloud=path, dialect="server") as copy:
        copy.login()
        asked, differing = 0, []
        for query in questions(remote):
            answers = [in_any_order(without_dates(mock.request("GET", query)[1])) for mock in (remote, copy)]
            asked += 1
            if answers[0] != answers[1]:
                differing.append((query, *answers))
        assert asked > 500 and [query for query, _, _ in differing] == [], differing[0]
        copy.create("CreateVmInstance", name="more", instanceOfferingUuid=named("offering-small"), imageUuid=named("image-centos7"), l3NetworkUuids=[named("l3-private")])


SECONDS, MEGABYTES = 30, 200
OPERATORS = ("=", "!=", ">", "<", ">=", "<=", "?=", "!?=", "~=", "!~=")


class Asker:
    """Makes queries of a cloud at random: conditions on it and its relations, sort, pages, counts, fields."""

    def __init__(self, mock):
        self.random, self.catalogue, self.samples = random.Random(1), mock.mock.cloud.catalogue, {}
        for api in self.catalogue.apis.values():
            row = self.catalogue.resources.get(api.type)
            if api.kind == "Query" and api.backing != "none" and "{" not in api.path and row.name not in ASIDE:
                total = mock.request("GET", f"{api.path}?count=true")[1]["total"]
                start = self.random.randrange(max(1, total - 20))
                inventories = mock.request("GET", f"{api.path}?limit=20&start={start}")[1]["inventories"]
                if inventories:
                    self.samples[row.name] = api.path, total, inventories
        self.types = [*self.samples] + ["VmInstance", "VmNic", "Volume", "Host", "SystemTag"] * 5

    def condition(self, type, prefix="", depth=2):
        """A condition that some object meets, on a field of a type or behind its relations."""
        row = self.catalogue.resources[type]
        relations = [row.relations[name] for name in row.listed if row.relations[name].target in self.samples]
        if depth and relations and self.random.random() < 0.4:
            relation = self.random.choice(relations)
            return self.condition(relation.target, f"{prefix}{relation.name}.", depth - 1)
        item = self.random.choice(self.samples[type][2])
        name, value = self.random.choice([pair for pair in item.items() if is_plain(*pair)])
        operator = self.random.choice(OPERATORS)
        if self.random.random() < 0.1:
            return quote(f"{prefix}{name} {self.random.choice(('is', 'not'))} null")
        if "~" in operator and not isinstance(value, bool):
            value = f"%{str(value)[:9]}%"
        elif "?" in operator:
            other = self.random.choice(self.samples[type][2]).get(name, value)
            value = f"{value},{other}"
        return quote(f"{prefix}{name}{operator}{value}")

    def query(self):
        type = self.random.choice(self.types)
        path, total, inventories = self.samples[type]
        words = [f"q={self.condition(type)}" for _ in range(self.random.choice((0, 0, 1, 1, 1, 2)))]
        names = [name for name, value in inventories[0].items() if is_plain(name, value)]
        if self.random.random() < 0.2:
            words.append("count=true")
        else:
            sort = "uuid" if "uuid" in names and self.random.random() < 0.8 else self.random.choice(names)
            words += [f"sort={self.random.choice(('%2B', '-'))}{sort}", f"limit={self.random.choice((7, 40))}"]
            words += [f"start={self.random.randrange(total)}"] * (self.random.random() < 0.3)
            words += ["replyWithCount=true"] * (self.random.random() < 0.3)
            if sort != "uuid":  # then equal ones may stand in any order
                words.append(f"fields={sort}")
            elif self.random.random() < 0.3:
                words.append(f"fields=uuid,{self.random.choice(names)}")
        return f"{path}?{'&'.join(words)}"


def in_order(answer):
    """An answer without dates, its inventories in order, but not the lists in them."""
    status, body = answer
    return status, body | {"inventories": [in_any_order(without_dates(inventory)) for inventory in body.get("inventories", [])]}


def is_plain(name, value):
    return isinstance(value, (str, int)) and not name.endswith("Date") and name != "id"


# The peak of its own memory: what wait4() tells counts that of the test which has started it, too.
TELLING_ITS_PEAK = """
import sys, zmock
status = zmock.main(sys.argv[1:])
print(open("/proc/self/status").read(), file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.slow
def test_ten_thousand_machines_are_imported_quickly_and_answer_500_queries_the_same(tmp_path):
    path, log = tmp_path / "cloud.json", tmp_path / "log"
    with serve(cloud="large:10000", dialect="server") as remote:
        remote.login()
        began = time.monotonic()
        with path.open("w") as out, log.open("w") as err:
            words = [sys.executable, "-c", TELLING_ITS_PEAK, "import", remote.base, *PASSWORD]
            status = subprocess.run(words, env=os.environ | IMPORTABLE, stdout=out, stderr=err).returncode
        took, told = time.monotonic() - began, log.read_text()
        megabytes = int(re.search(r"VmHWM:\s+(\d+) kB", told)[1]) / 1024
        print(f"import: {took:.1f} s, {megabytes:.0f} MB; {path.stat().st_size / 1e6:.0f} MB of JSON")
        assert status == 0 and "/vm-instances: 10000 objects\n" in told and took < SECONDS and megabytes < MEGABYTES
        asker = Asker(remote)
        with serve(cloud=str(path), dialect="server") as copy:
            copy.login()
            results = []
            for query in [asker.query() for _ in range(500)]:
                answers = [mock.request("GET", query) for mock in (remote, copy)]
                assert in_order(answers[0]) == in_order(answers[1]), query
                results.append(answers[0])
    full = [answer for _, answer in results if answer.get("inventories") or answer.get("total")]
    print(f"queries: {len(results)}, of them {len(full)} with a result")
    assert len(full) > 300


FAULTS = [
    {"api": "QueryVmInstance", "times": 2, "then": {"drop": "reset"}},
    {"api": "QueryHost", "times": 1, "then": {"status": 502, "body": "<html>bad gateway</html>"}},
    {"api": "QueryVolume", "times": 1, "then": {"drop": "garbage"}},
    {"api": "LogInByAccount", "times": 1, "then": {"status": 500}},
]


@pytest.fixture
def quick(monkeypatch):
    """Tries that do not wait. aiohttp may not notice that garbage ends an answer, and waits for more."""

    async def at_once(seconds):
        pass

    monkeypatch.setattr(zmock_module, "real_time", at_once)
    monkeypatch.setattr(zmock_module, "LONGEST_ANSWER", 2)


def test_what_breaks_on_the_way_is_tried_again(remote, imported, quick):
    _, content, told = imported(remote)
    for rule in FAULTS:
        remote.rule(**rule)
    _, again, told = imported(remote)
    assert without_dates(again) | {"now": 0} == without_dates(content) | {"now": 0}
    assert all(rule.hits for rule in remote.rules) and "left out" not in told


def test_what_the_server_refuses_or_does_not_have_is_left_out(remote, imported):
    remote.rule(api="QueryEip", then={"error": "SYS.1006", "details": "not for you"})
    missing = remote.rule(api="QueryLdapServer", then={"status": 404, "body": "no api mapping to /v1/ldap/servers"})
    _, content, told = imported(remote)
    assert re.search("/eips is left out: .*SYS.1006 not for you", told) and "Eip" not in content and "Vip" in content
    assert re.search("/ldap/servers is left out: .*status 404", told) and missing.hits == 1


@each("arguments, environment, line", [
    (["import"], {}, "URL"),
    (["import", "nowhere", *PASSWORD], {}, "import takes the address of a server such as http://10.0.0.10:8080"),
    (["import", "BASE", "--password", "wrong"], {}, "ID.1000"),
    (["import", "BASE"], {"ZSTACK_PASSWORD": "wrong"}, "ID.1000"),
    (["import", "BASE"], {}, "give the password with --password or ZSTACK_PASSWORD"),
    (["import", "BASE", "--anonymize", *PASSWORD], {}, "did you mean --anonymise?"),
    (["import", "http://127.0.0.1:1", *PASSWORD], {}, "gives no answer of ZStack: "),
    (["import", "BASE/zmock", *PASSWORD], {}, "gives no answer of ZStack: "),
])  # fmt: skip
def test_a_mistake_is_one_line(remote, zmock_cli, quick, arguments, environment, line):  # noqa: F811
    code, printed, told = zmock_cli(*(word.replace("BASE", remote.base) for word in arguments), **environment)
    assert code == 2 and printed == "" and line in told and told.count("\n") == 1, told


@each("api, body", [
    ("LogInByAccount", {}), ("LogInByAccount", {"inventory": []}), ("QueryZone", {"inventories": 7}), ("QueryZone", {"inventories": ["z"]}),
    ("QueryAccountResourceRef", {"inventories": [{"uuid": "x"}]}),
])  # fmt: skip
def test_what_no_server_answers_is_one_line(remote, zmock_cli, api, body):  # noqa: F811
    remote.rule(api=api, then={"status": 200, "body": body})
    code, printed, told = zmock_cli("import", remote.base, *PASSWORD)
    assert code == 2 and printed == "" and "answers what no ZStack does" in told and "Traceback" not in told


@each("url", ["{base}", "{base}/", "{base}/zstack/v1", "{base}/zstack"])
def test_the_address_may_have_the_path_of_the_api(remote, zmock_cli, url):  # noqa: F811
    code, printed, _ = zmock_cli("import", url.format(base=remote.base), ZSTACK_PASSWORD="password")
    assert code == 0 and json.loads(printed)["Zone"]


def test_the_session_ends_with_the_import(remote, imported):
    imported(remote)
    assert [call.api for call in remote.calls() if call.request.headers.get("User-Agent", "").startswith("Python")][-1] == "LogOut"


def test_secrets_stay_behind(remote, imported):
    vm = named("vm-web-1")
    remote.create("CreateSystemTag", resourceType="VmInstanceVO", resourceUuid=vm, tag="userdata::c2VjcmV0")
    remote.create("CreateSystemTag", resourceType="VmInstanceVO", resourceUuid=vm, tag="consolePassword::hidden1")
    path, content, _ = imported(remote)
    text = json.dumps(content)
    assert "c2VjcmV0" not in text and "hidden1" not in text and '"password"' not in text.lower()


def test_monitors_of_a_storage_come_without_their_passwords(remote, imported):
    ceph = remote.create("AddCephPrimaryStorage", name="ceph", zoneUuid=named("zone-1"), monUrls=["root:secret1@10.10.0.91"])
    path, content, _ = imported(remote)
    assert "secret1" not in json.dumps(content)
    with serve(cloud=path) as mock:
        mock.login()
        (there,) = mock.query("primary-storage", f"uuid={ceph['uuid']}")
        assert [(mon["hostname"], mon["sshUsername"], mon["monPort"]) for mon in there["mons"]] == [("10.10.0.91", "root", 6789)]


def test_what_refers_to_nothing_is_left_out_or_loses_the_reference(remote, imported, zmock_cli):  # noqa: F811
    db = remote.mock.db
    db.table("IpRange").update({"l3NetworkUuid": "1" * 32})
    db.table("VmInstance").update({"lastHostUuid": "2" * 32})
    path, content, told = imported(remote)
    assert told.count("its l3NetworkUuid leads nowhere") == 2 and "IpRange" not in content
    assert len(content["VmInstance"]) == 12 and "2" * 32 not in json.dumps(content)
    assert told.endswith("\nleft out: 12 dangling references in lastHostUuid of VmInstance\n")
    assert zmock_cli("check", path)[0] == 0


GONE = "3" * 32
LISTS = [  # in the demo cloud: a type, a list of uuids or the uuid in a list of maps, and how often that is there
    ("BackupStorage", "attachedZoneUuids", "", 1), ("Image", "backupStorageRefs", "backupStorageUuid", 5),
    ("L2Network", "attachedClusterUuids", "", 2), ("L3Network", "networkServices", "networkServiceProviderUuid", 2),
    ("PrimaryStorage", "attachedClusterUuids", "", 2),
    ("SchedulerJob", "triggersUuid", "", 1), ("SchedulerTrigger", "jobsUuid", "", 1),
]  # fmt: skip


def test_elements_of_lists_that_refer_to_nothing_are_left_out_and_counted(remote, imported, zmock_cli):  # noqa: F811
    _, before, told = imported(remote)
    assert "left out" not in told
    for type, name, key, _ in LISTS:
        for item in remote.mock.db.table(type).all():
            part = {**(item[name] or [{}])[0], key: GONE} if key else GONE
            remote.mock.db.table(type).update({name: [part, *item.get(name, [])]}, where("uuid") == item["uuid"])
    remote.mock.db.table("AffinityGroupUsage").update({"resourceUuid": GONE})
    path, content, told = imported(remote)
    lines = [f"left out: {counted(n, 'dangling reference')} in {name} of {type}\n" for type, name, _, n in LISTS]
    assert [line for line in (*lines, "in usages of AffinityGroup") if line not in told] == []
    assert GONE not in json.dumps(content) and content["AffinityGroup"][0]["usages"] == []
    assert all(content[type] == before[type] for type, _, _, _ in LISTS)
    assert zmock_cli("check", path)[0] == 0


@each("api, body", [("QueryZone", {"uuid": "1" * 32, "name": "z"}), ("QueryAccountResourceRef", {"accountUuid": ADMIN, "resourceUuid": "1" * 32})])
def test_a_server_that_gives_the_first_page_again_and_again_is_refused_in_a_line(remote, zmock_cli, monkeypatch, api, body):  # noqa: F811
    monkeypatch.setattr(zmock_module, "IMPORT_PAGE", 1)
    rule = remote.rule(api=api, times=5, then={"status": 200, "body": {"inventories": [body]}})
    code, printed, told = zmock_cli("import", remote.base, *PASSWORD)
    assert code == 2 and printed == "" and re.fullmatch("zmock: .* ignores `start`: .* has the same objects again at start=1", told.splitlines()[-1])
    assert rule.hits == 2


def test_an_anonymous_cloud_has_other_words_and_the_same_shape(remote, imported, zmock_cli):  # noqa: F811
    _, content, _ = imported(remote)
    path, other, _ = imported(remote, "--anonymise")
    text = json.dumps(other)
    for word in ("web-1", "vm-web-1", '"cluster-1"', "image-centos7", "data centre in Shanghai", "10.10.0.", "192.168.", "10.20.0."):
        assert word not in text, word
    assert {type: len(items) for type, items in other.items()} | {"now": 0} == {type: len(items) for type, items in content.items()} | {"now": 0}
    assert other["Account"][0]["uuid"] == ADMIN and other["Account"][0]["name"] == "admin"
    before, after = ({item["uuid"]: item for item in each_content["VmNic"]} for each_content in (content, other))
    assert all(after[uuid]["ip"].split(".")[2:] == nic["ip"].split(".")[2:] and after[uuid]["netmask"] == nic["netmask"] for uuid, nic in before.items() if "ip" in nic)
    assert zmock_cli("check", path)[0] == 0
    assert imported(remote, "--anonymise")[1] | {"now": 0} == other | {"now": 0}
