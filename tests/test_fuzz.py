"""Whatever comes in from outside, zmock refuses or does it: no traceback, no words of Python, nothing torn.

Requests that are right are made as test_every_api makes them, then mutated; so are files that zmock itself has written.
FUZZ=20000 sends that many requests with each seed, and writes that many files, instead of a few.
"""

import asyncio
import base64
import contextlib
import copy
import json
import logging
import os
import re
import shutil
from collections import Counter
from random import Random
from urllib.parse import quote, urlencode

import pytest
from asking import ask_control
from test_every_api import BY_NAME, CATALOGUE, SIMULATED
from test_invariants import OFTEN, Anything, doubtful

from zmock import (
    CATALOGUE_FILE,
    Catalogue,
    Contract,
    Settings,
    SettingsError,
    fill,
    named,
    new_cloud,
    refuse_idle_rows,
    serve,
)

CALLS, FILES = (int(os.environ.get("FUZZ", 0)) or few for few in (100, 3))  # requests of each seed, and files of each kind
DEEP = "[" * 100_000  # of JSON, more than any parser goes through
HUGE = object()  # a number of thousands of digits, which json.dumps does not write
DIGITS = ("٣", "¹", "３", "Ⅷ", "१२")  # digits and numbers that are not ASCII, of which int() reads some and isdigit() takes others
NUMBERS = (0, -1, 1, 1.5, 1 << 31, 1 << 63, -(1 << 70), 1 << 130, 1e308, float("nan"), float("inf"), 1e-320, *DIGITS, "1_0", "+1", "0x1", "1e999", " 7 ")
TEXTS = ("", " ", "\0", "\ud800", "\U0001f600", "a\nb\r\nc", "x" * 5000, "%", "%s", "%(a)d", "'", '"', "\\", "{", "{uuid}", "{0}", "*", "[", "[!", "::", ",", ";", "; ", "and", "null", "true", "#zmock fail=",
         "#zmock delay=٣", "@zone-1", "ſ", "ﬁ", "İ", "ı", "ß", "../../x", "-", "~", "?", "0", "a" * 32, "0.0.0.0", "255.255.255.255", "10.0.0.0/0", "10.0.0.0/٨", "::1", "10.0.0.٣", "1.1.1.1/1/1", "999.1.1.1",
         "0 0/00 * * * ?", "0 0/٣ * * * ?", "0 0 0 ³ * ?", "0 0 25 * * ?", "* * * * * ?", "0 0 0 1 1 ? 2050", "[]", "{}", "[" * 3000, "2017-01-06 03:51:16", "Jan 6, 2017 3:51:16 AM", "2017-13-41T99:99:99Z")  # fmt: skip
OTHERS = (None, True, False, [], {}, [None], [[]], [{}], [1], ["a", "a"], {"": ""}, {"a": {"b": ["c"]}}, {"uuid": None}, HUGE)
COOKED = [value for values in ("abc", json.dumps({"cpuNum": True}), json.dumps({"expiredDate": "٢٠١٧-01-05 19:44:21"}), '{"hostNum": 1e400}', '{"user": "\\ud800"}', "[" * 3000) for value in [base64.b64encode(values.encode()).decode()]]
JOBS = (DEEP[:20_000], '"\\ud800"', '{"uuid": {}}', '{"vmInstanceUuid": 5, "systemTags": 5}', '{"vmInstanceUuid": ["a"]}', '{"name": NaN}')
PATTERNS = [pattern for row in CATALOGUE.resources.values() for pattern in row.tags]


def weird(random):
    """Something that nobody expects where it stands."""
    kind = random.random()
    if kind < 0.25:
        return random.choice(NUMBERS)
    if kind < 0.6:
        return random.choice(TEXTS)
    if kind < 0.65:
        return random.choice((*COOKED, *JOBS))
    if kind < 0.75:
        return tag(random)
    if kind < 0.8:
        return named(random.choice(("zone-1", "host-1", "vm-web-1", "l3-private", "volume-spare", "ps-nfs"))).upper()
    return copy.deepcopy(random.choice(OTHERS)) if kind < 0.98 else [[[]]] * random.choice((1, 300))


def tag(random):
    """A system tag of a form that there is, with something odd in it."""
    odd = ["two", "", "0", "-1", *DIGITS, "9" * 40, "::", "\0", named("l3-private"), "10.0.0.1", "cpuNum", "1.5"]
    return re.sub(r"\{\w*\}", lambda _: random.choice(odd), random.choice(PATTERNS))


def mutated(random, value, depth=0):
    """A copy of a JSON value in which one thing is not as it was."""
    inside = [*value.items()] if isinstance(value, dict) else [*enumerate(value)] if isinstance(value, list) else []
    if not inside or random.random() < 0.2 * (depth > 0):
        return spoilt(random, value)
    value = copy.copy(value)
    key, inner = random.choice(inside)
    how = random.random()
    if how < 0.75:
        value[key] = mutated(random, inner, depth + 1)
    elif how < 0.85 and isinstance(value, dict):
        value[str(weird(random))] = value.pop(key)
    elif how < 0.95:
        del value[key]
    elif isinstance(value, list):
        value += value
    return value


def spoilt(random, value):
    """A text with something put in or cut off, else something else."""
    if not isinstance(value, str) or random.random() < 0.5:
        return weird(random)
    place = random.randint(0, len(value))
    return value[:place] + random.choice([str(weird(random)), ""]) + value[place + random.randint(0, 2) :]


def as_json(value):
    """JSON text, also of what is none."""
    text = json.dumps(value, default=lambda _: "huge", ensure_ascii=True)
    return text.replace('"huge"', "9" * 5000)


class Client:
    """A socket that sends what a test says, and reads one answer."""

    def __init__(self, mock):
        self.mock, self.reader, self.writer = mock, None, None

    async def send(self, method, path, body=b"", headers=(), patience=20):
        """Status, headers and body of the answer; None where the connection ends instead, or nothing comes."""
        fields = {"Host": self.mock.base[7:], "Content-Type": "application/json", "Content-Length": str(len(body))} | dict(headers)
        head = f"{method} {path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape") + b"".join(
            f"{name}: {value}\r\n".encode("utf-8", "surrogateescape") for name, value in fields.items() if value is not None)  # fmt: skip
        if not self.writer:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", int(self.mock.base.rpartition(":")[2]), limit=1 << 24)
        try:
            self.writer.write(head + b"\r\n" + body)
            async with asyncio.timeout(patience):
                return await self.read(method)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            self.close()
            assert patience < 1 or not isinstance(error, TimeoutError), (method, path[:300], body[:300])
            return None

    async def read(self, method):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(fields.get("content-length", 0)) if method != "HEAD" else 0
        body = await self.reader.readexactly(length)
        if "close" in fields.get("connection", "") or "content-length" not in fields:
            self.close()
        return int(first.split(" ")[1]), fields, body

    def close(self):
        if self.writer:
            self.writer.close()
        self.reader = self.writer = None


class Log(logging.Handler):
    """What was logged with a traceback."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def emit(self, record):
        if record.exc_info and record.levelno >= logging.WARNING:
            self.seen.append(self.format(record))


@pytest.fixture
def log():
    """The tracebacks in the log; there must be none."""
    seen = Log()
    logging.getLogger().addHandler(seen)
    yield seen
    logging.getLogger().removeHandler(seen)
    assert seen.seen == []


HEADERS = ("Authorization", "X-Job-UUID", "X-Web-Hook", "X-JSON-Schema", "Content-Type", "Cookie", "Origin", "Accept", "Host", "Access-Control-Request-Headers", "X-ZMock-Fault")
IN_HEADERS = ("", "OAuth", "OAuth \udcff", "text/plain; charset=nonsense", "application/json; charset=utf-16", "application/json; charset=\udcff", "multipart/form-data; boundary=a", "http://[", "http://127.0.0.1:9/",
              "http://127.0.0.1:99999/", "http://a b/", "http://\udcff/", "ftp://x", "http://", "http:///", "https://١٢٧.0.0.1:9/", "a=\"b; JSESSIONID=;;=", "x" * 3000, "a" * 32, "[::1", "null", "*", "a\tb", "'", "%")  # fmt: skip
ESCAPES = ("%", "%zz", "%ff", "%00", "%C3%28", "%ED%A0%80", "//", "/", "/../", "%2F", "%0d%0a", "?", ";", "*", "{uuid}", "%F0%9F%98%80", "+", "x" * 3000)
FIELDS = ("uuid", "name", "state", "createDate", "vmNics.ip", "cluster.zone.name", "__systemTag__", "__userTag__", "hostUuid", "type", "cpuNum", "allVolumes.size", "nope", "", ".", "..", "٣", "zone." * 30 + "name")
SIGNS = ("=", "!=", ">", "<", ">=", "<=", "?=", "!?=", "~=", "!~=", " is null", " not null", "==", "like", ":", "")


class Fuzzer(Anything):
    """Makes requests that are nearly right."""

    def __init__(self, mock, random):
        super().__init__(mock, random)
        self.client, self.statuses = Client(mock), Counter()

    async def request(self):
        """One request to an API, somehow wrong: method, path, body and headers."""
        api = SIMULATED[self.random.choice(ALL)]
        params = {name: value for name, value in (await self.legal(api)).items() if value is not None}
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 3))):
            params = mutated(self.random, params) if params else params
        params = params if isinstance(params, dict) else {"params": params}
        path = api.path
        for name in re.findall(r"\{(\w+)\}", path):
            path = path.replace("{%s}" % name, quote(str(params.pop(name, "a" * 32)).encode("utf-8", "replace"), safe=""))
        body, sent = {}, {}
        if api.kind == "Query":
            path += "?" + "&".join(self.condition() for _ in range(self.random.randint(0, 3)))
        elif api.method in ("GET", "DELETE") and self.random.random() < 0.9:
            path += "?" + urlencode([(as_text(name), as_text(value)) for name, value in params.items()], doseq=True)
        else:
            sent = params
        if api.method in ("POST", "PUT") or sent:
            body = {api.key: sent} | ({"systemTags": [tag(self.random) for _ in range(self.random.randint(1, 3))]} if self.random.random() < 0.3 else {})
        return api.method, "/zstack/v1" + path, body, {"Authorization": f"OAuth {self.mock.session}"}

    async def legal(self, api):
        with contextlib.suppress(AssertionError):
            return await self.params(api)
        return {}

    async def value(self, param, fits=None):
        if param.refers or param.name in BY_NAME or param.name.endswith(("Ip", "Cidr")):
            return await super().value(param, fits)
        if param.type in ("int", "long") and self.random.random() < 0.5:
            return self.random.choice((param.low or 0, param.high or (1 << (31 if param.type == "int" else 63)) - 1, 0, 1, -1, -(1 << 31), (1 << 31) - 1, -(1 << 63)))
        return weird(self.random) if self.random.random() < 0.3 else await super().value(param)

    def condition(self):
        """A part of the query string of a query."""
        key = self.random.choice(("q", "q", "q", "condition", "sort", "fields", "limit", "start", "count", "replyWithCount", "groupBy", "nope", ""))
        field, value = self.random.choice(FIELDS), str(as_text(weird(self.random)))
        said = field + self.random.choice(SIGNS) + value if key in ("q", "condition") else self.random.choice((field, value, "-" + field, f"{field},{value}"))
        return f"{quote(key)}={quote(said.encode('utf-8', 'replace'), safe='')}" if self.random.random() < 0.9 else f"{key}={self.random.choice(ESCAPES)}"

    def bent(self, method, path, body, headers):
        """The request with something wrong in HTTP or JSON."""
        text, way = as_json(body).encode() if body else b"", self.random.random()
        if way < 0.6:
            return method, path, text, headers
        if way < 0.68:
            place = self.random.randint(7, len(path))
            path = path[:place] + self.random.choice(ESCAPES) + path[place:]
        elif way < 0.74:
            method = self.random.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "LOCK", "get", "NONSENSE"))
        elif way < 0.86:
            headers = headers | {self.random.choice(HEADERS): self.random.choice(IN_HEADERS)}
        elif way < 0.93:
            text = as_json(mutated(self.random, body) if body else weird(self.random)).encode()
        else:
            text = self.random.choice((b"\xef\xbb\xbf" + text, text[:-1], text + b"}", b"\xff\xfe", DEEP.encode(), b"null", b"[]", b"5", b'"a"', text.decode().encode("utf-16"), b'{"a": NaN}', b'{"a": 1e999}',
                                       b"{" + b'"a":{' * 3000 + b"}" * 3001, b'{"params": ' + b"9" * 5000 + b"}", b'{"\\ud800": 1}', b"\0" * 10))  # fmt: skip
        return method, path, text, headers

    async def call(self):
        """Sends one, and looks at what comes back."""
        asked = self.bent(*await self.request())
        answer = await self.client.send(*asked)
        self.judge(asked, answer)
        if answer and answer[0] == 202 and self.random.random() < 0.7:
            await self.mock.advance(self.random.choice((0, 0, 1, 30)))

    def judge(self, asked, answer):
        if not answer:
            return
        status, headers, body = answer
        self.statuses[status] += 1
        shown = repr(asked)[:2000], status, body[:500]
        assert status < 500 or status in (501, 503) or self.mock.settings.dialect == "server", shown
        if headers.get("content-type", "").startswith("application/json") and asked[0] != "HEAD" and body:
            json.loads(body)
        elif self.mock.settings.dialect == "manual" and asked[0] not in ("HEAD", "OPTIONS") and body:
            assert status == 400 and headers["content-type"].startswith("text/") and is_broken_http(body), shown


def is_broken_http(body):
    """What aiohttp says of what is no HTTP."""
    return b"Bad" in body or b"Invalid" in body or b"bytes" in body or b"Data" in body


def as_text(value):
    """What a query string says for a value: of a list, each."""
    if isinstance(value, list):
        return [str(as_text(one)) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else as_json(value)


ALL = sorted(SIMULATED)
RULES = (
    {"api": "CreateZone", "when": {"params.name": "db-*"}, "skip": 2, "times": 1, "delay": 3, "then": {"error": "HOST_ALLOCATION.1000", "details": "no host"}},
    {"id": "a", "api": "*", "probability": 0.5, "ttl": 10, "delay": {"lognormal": {"p50": 0.2, "p99": 3}}}, {"api": "Query*", "every": 2, "then": {"status": 502, "body": {"a": [1]}}},
    {"api": "StartVmInstance", "then": {"error": "SYS.1006", "stage": "nic", "rollback": False}}, {"api": "*Zone", "then": {"drop": "truncate"}}, {"api": "PollJob", "then": {"status": 503}},
    {"api": "Create*", "then": {"job": "hold"}}, {"api": "Create*", "delay": 1, "then": {"webhook": "late"}}, {"api": "QueryVmInstance", "when": {"query.q": "[a-z]*", "header.X-A": "*", "path": "/vm*", "method": "GET"}},
)  # fmt: skip
CONTROLS = (
    *(("GET", path, None) for path in ("health", "apis", "dialect", "rules", "rules/a", "clock", "jobs", "incidents", "snapshots", "snapshots/a", "", "nonsense", "calls?api=Create*&status=202&since=3&path=/zones",
                                       "queryable/vm-instances?at=vmNics.l3Network", "explain?path=/vm-instances&q=state=Running&q=vmNics.ip>1&sort=name", "wait?timeout=0&api=CreateZone&count=0",
                                       "wait?timeout=0&path=/zones&q=name=a&count=1")),
    *(("DELETE", path, None) for path in ("rules", "rules/a", "calls", "incidents/incident-1", "snapshots/a", "snapshots/b")), *(("POST", "rules", rule) for rule in RULES),
    *(("POST", "clock", told) for told in ({"advance": 5}, {"set": "2027-07-10T00:00:00.5Z"}, {"set": "2017-07-10T00:00:00Z"}, {"freeze": True}, {"warp": False})),
    *(("POST", "jobs/JOB", {"do": what}) for what in ("finish", "fail", "expire")), ("PUT", "snapshots/a", {}), ("POST", "snapshots/a/restore", {}), ("POST", "reset", {"cloud": "demo"}), ("POST", "reset", {}),
    *(("POST", "incidents", told) for told in ({"host-down": "host-1"}, {"network-partition": ["zone-1", "host-2"]}, {"network-partition": "cluster-2"}, {"primary-storage-full": "ps-nfs"},
                                               {"management-node-restart": {}}, {"management-node-down": 5}, {"license-expired": {}})),
)  # fmt: skip


class ControlFuzzer(Fuzzer):
    """Makes control calls that are nearly right."""

    async def control(self):
        method, path, told = self.random.choice(CONTROLS)
        jobs = [job["uuid"] for job in self.store.rows("Job")]
        path = path.replace("JOB", self.random.choice(jobs) if jobs else "a")
        told = mutated(self.random, told) if told and self.random.random() < 0.7 else told
        if self.random.random() < 0.3:
            place = self.random.randint(0, len(path))
            odd = self.random.choice((*ESCAPES, quote(str(as_text(weird(self.random))).encode("utf-8", "replace"))))
            path = path[:place] + odd + path[place + self.random.randint(0, 3) :]
        path = path.replace("timeout=", "timeout=0&timeout=") if "timeout=0" not in path and path.startswith("wait") else path
        asked = self.bent(method, "/zmock/" + path, told, {}) if "events" not in path else ("GET", "/zmock/health", b"", {})
        self.judge_control(asked, await self.client.send(*asked))

    def judge_control(self, asked, answer):
        """JSON with an error and a hint, whatever is wrong; what is no HTTP is not for zmock to answer."""
        if not answer:
            return
        status, headers, body = answer
        self.statuses[status] += 1
        shown = repr(asked)[:2000], status, body[:500]
        if asked[0] == "HEAD" or is_broken_http(body):
            return
        assert headers.get("content-type", "").startswith("application/json"), shown
        told = json.loads(body, parse_constant=lambda text: pytest.fail(f"{text} is no JSON: {shown}"))
        assert status != 500 and (status < 400 or told.keys() == {"error", "hint"}), shown


@pytest.mark.parametrize(("seed", "dialect"), [(1, "manual"), (2, "server"), (3, "manual")])
async def test_no_request_to_an_api_brings_about_an_error_of_zmock_itself(seed, dialect, log):
    random = Random(seed)
    async with serve(seed=seed, dialect=dialect, delay="0-2") as mock:
        fuzzer = Fuzzer(mock, random)
        for n in range(CALLS):
            if n % 100 == 0:
                await mock.advance(3600)
                assert doubtful(mock.cloud) == set(), mock.calls()[-100:]
                await mock.reset()
                await mock.login()
            await fuzzer.call()
            assert log.seen == [], mock.calls()[-1:]
        assert len(await mock.query("zones")) >= 0


@pytest.mark.parametrize("seed", (1, 2))
async def test_no_control_call_brings_about_an_error_of_zmock_itself(seed, log):
    random = Random(seed)
    async with serve(seed=seed, delay="0-2") as mock:
        fuzzer = ControlFuzzer(mock, random)
        for n in range(CALLS):
            if n % 100 == 0:
                await mock.reset()
                await mock.login()
            await fuzzer.control()
            if random.random() < 0.3:
                await fuzzer.client.send(*fuzzer.bent(*await fuzzer.request()), patience=0.05)
            assert log.seen == [], mock.calls()[-1:]


# files


async def go_through(mock, random, log):
    """Looks at all that there is, and does something with it."""
    drive = Anything(mock, random)
    mock.session = "a" * 32
    for path in sorted(CATALOGUE.collections):
        if SIMULATED.get(f"Query{CATALOGUE.collections[path].name}"):
            assert (await mock.request("GET", f"/{path}"))[0] == 200, path
    for name in (*READING, *random.sample(OFTEN, 4)):
        await drive.do(name)
        await mock.advance(5)
        assert log.seen == [], (name, mock.calls()[-1].params)
    for kind, type in (("network-partition", "Zone"), ("host-down", "Host"), ("primary-storage-full", "PrimaryStorage"), ("license-expired", "")):
        named_ones = [item["uuid"] for item in mock.cloud.store.rows(type)] if type else []
        if named_ones or not type:
            await mock.incident({kind: random.choice(named_ones) if type else {}})
    for id in [*mock.cloud.outages.incidents]:
        await mock.end_incident(id)
    await mock.advance(100_000)
    assert log.seen == []


READING = [name for name in ("GetCpuMemoryCapacity", "GetIpAddressCapacity", "GetPrimaryStorageCapacity", "ReconnectHost", "DeleteHost", "GetVmConsoleAddress", "GetLicenseInfo", "GetVipUsedPorts", "GetNetworkServiceTypes")
           if name in SIMULATED]  # fmt: skip


@pytest.fixture(scope="module")
def demo():
    """The demo cloud, as a file may hold it."""
    return asyncio.run(inventories())


async def inventories():
    async with serve() as mock:
        await mock.login()
        stored = mock.cloud.catalogue.resources.values()
        kinds = [row for row in stored if row.path and f"Query{row.name}" in SIMULATED and "uuid" in row.fields and not row.of and row.name not in ("ManagementNode", "GlobalConfig", "AccountResourceRef", "Notification")]
        found = {row.path: await mock.query(row.path) for row in kinds}
    async with serve(cloud="empty") as empty:
        return {path: mine for path, items in found.items() if (mine := [item for item in items if not empty.cloud.exists("Resource", item.get("uuid"))])}


def spoil_one(random, items):
    """Mutates an object of a list, or takes it away."""
    if isinstance(items, list) and items:
        place = random.randrange(len(items))
        items[place : place + 1] = [mutated(random, items[place])] * (random.random() < 0.8)


@pytest.mark.parametrize("seed", range(1, 1 + FILES))
async def test_a_cloud_file_is_refused_in_a_line_or_serves(seed, demo, tmp_path, log):
    random, told = Random(seed), copy.deepcopy(demo)
    if random.random() < 0.1:
        told = mutated(random, told)
    for _ in range(random.choice((0, 1, 1, 2, 3)) if isinstance(told, dict) else 0):
        spoil_one(random, random.choice([*told.values()]))
    (tmp_path / "cloud.json").write_text(as_json(told))
    try:
        async with serve(cloud=str(tmp_path / "cloud.json"), seed=seed, open=True) as mock:
            await go_through(mock, random, log)
    except SettingsError as error:
        assert "\n" not in str(error)


async def kept_folder(folder):
    """A cloud as a mock has left it, with more in it than the demo cloud has."""
    async with serve(memory=False, data=str(folder), durable="off", delay="5") as mock:
        await mock.login()
        drive = Anything(mock, Random(1))
        for name in ("CreateSecurityGroup", "AddSecurityGroupRule", "CreateLoadBalancer", "CreateLoadBalancerListener", "CreatePortForwardingRule", "AddCephPrimaryStorage", "CreateVolumeSnapshot", "CreateZone"):
            await drive.do(name)
            await mock.advance(7)
        mock.rule(api="CreateZone", times=1, then={"error": "SYS.1006"})
        await ask_control(mock, "POST", "rules", {"api": "StartVmInstance", "ttl": 50, "when": {"params.uuid": "*"}, "then": {"error": "SYS.1006", "stage": "nic"}})
        await ask_control(mock, "PUT", "snapshots/one")
        for name in ("CreateZone", "AddKVMHost", "SubmitLongJob", "CreateVmInstance"):
            await drive.do(name)


def edit(random, folder):
    """Changes a file of a folder: an object, or the text."""
    path = random.choice(sorted(folder.rglob("*.json")))
    text = path.read_bytes()
    if random.random() < 0.85:
        documents = json.loads(text)
        items = documents.get("_default")
        if isinstance(items, dict) and items:
            number = random.choice([*items])
            changed = mutated(random, items[number])
            items[number] = changed | {"uuid": items[number]["uuid"]} if isinstance(changed, dict) and random.random() < 0.9 else changed
        path.write_text(as_json(documents if random.random() < 0.95 else mutated(random, documents)))
    else:
        place = random.randint(0, len(text))
        path.write_bytes(text[:place] + random.choice((b"", b"\0", b"\xff", b"9" * 5000, b'"', b"}", b"[" * 100_000)) + text[place + random.randint(0, 2) :])


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    asyncio.run(kept_folder(folder / "cloud"))
    return folder


@pytest.mark.parametrize("seed", range(1, 1 + FILES))
async def test_a_folder_that_somebody_edited_is_refused_in_a_line_or_serves(seed, kept, tmp_path, log):
    random = Random(seed)
    shutil.copytree(kept, tmp_path / "kept")
    for _ in range(random.choice((1, 1, 2, 5))):
        with contextlib.suppress(ValueError):  # it is broken already
            edit(random, tmp_path / "kept")
    try:
        async with serve(memory=False, data=str(tmp_path / "kept" / "cloud"), durable="off", open=True) as mock:
            await go_through(mock, random, log)
    except SettingsError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("seed", (1, 2))
async def test_a_rules_file_is_refused_in_a_line_or_in_force(seed, tmp_path, log):
    random, path = Random(seed), tmp_path / "rules.json"
    path.write_text("[]")
    async with serve(rules=(str(path),)) as mock:
        for _ in range(CALLS):
            told = as_json(mutated(random, random.sample(RULES, 3)))
            path.write_text(told if random.random() < 0.9 else told[: random.randint(0, len(told))] + random.choice(("", "\0", DEEP, "NaN")))
            mock.rest.faults.replace_from(str(path))
            assert "\n" not in mock.rest.faults.problems.pop(str(path), "")


def misprint(random, row):
    """A copy of a row of the catalogue with one word wrong, or with something else in it."""
    key = random.choice([*row])
    if not isinstance(row[key], str) or not row[key] or random.random() < 0.5:
        return mutated(random, row)
    words = row[key].split(" ")
    place = random.randrange(len(words))
    words[place] = random.choice((f"x{words[place]}", f"{words[place]}x", "nonsense", ""))
    return row | {key: " ".join(words)}


@pytest.mark.parametrize("seed", range(1, 1 + FILES))
def test_a_catalogue_that_somebody_edited_is_refused_in_a_line_or_serves(seed, tmp_path):
    random, tables = Random(seed), json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
    table = tables[random.choice(("apis", "apis", "inventories", "configurations", "structs"))]
    number = random.choice([*table])
    table[number] = misprint(random, table[number])
    (tmp_path / "catalogue.json").write_text(as_json(tables))
    try:
        catalogue = Catalogue(tmp_path / "catalogue.json")
        refuse_idle_rows(catalogue)
        cloud = new_cloud(Settings(memory=True), catalogue)
        fill(cloud, "empty")
        assert Contract(cloud).document("")["paths"]
    except SettingsError as error:
        assert "\n" not in str(error) and str(tmp_path / "catalogue.json") in str(error)
