#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["aiohttp>=3.9", "tinydb>=4.8"]
# ///
"""zmock: a mock server for the ZStack 2.5.1 REST API.

One Python file simulates the API and a small data centre. It says how a mock cloud works.
data/catalogue.json says what ZStack 2.5.1 is: APIs, resources, configurations, error codes.

Read it from top to bottom. A section uses only what stands above it.

    Settings         the settings, from flags, variables and keywords
    Dialect          the differences between the manual and the real server
    Errors           ApiError and its kinds
    Clock            the only source of time; cron expressions
    Values           what a parameter or a configuration may be: parse, check, explain
    Catalogue        the rows of data/catalogue.json, parsed: APIs, resources, and their clauses
    Files            the folder: TinyDB files, the ledger of commits, snapshots
    Store            the TinyDB tables in memory, with indexes, transactions and commits
    Query            conditions, sorting and paging: parse, plan, evaluate
    Rules            fault rules: match, count, decide
    Jobs             api-jobs: run in stages, poll, web-hook, expiry
    Rows at work     the clauses of rows: conditions, effects, and the generic verbs
    Cloud            objects and calls, without HTTP; global configurations; deletion
    Accounts         sessions, permissions, sharing, quotas, logins
    Behaviours       a function for each API that needs code, by area: hosts, storage, networks,
                     network services, virtual machines, volumes and images, tags, long jobs,
                     schedules, licences, monitoring
    Clouds           the demo cloud, large clouds, cloud files, and a restart on a kept folder
    Incidents        failures with their consequences: a host is down, storage is full; scenarios
                     play them over time
    API              /zstack/v1: requests, hints, answers, and how answers break
    Contract         the APIs as OpenAPI 3.1
    Control          /zmock: look inside, move time, add rules and incidents, reset
    App              create_app(), its start and its end, and the sockets
    Fixtures         the handle of a mock in a test, and the pytest plugin
    Terminal         what people read on stderr: a line for each call, and what went wrong
    Main             the server, the other commands, and the command line

How a call goes, from a request to the end of its job:

    Rest.answer          the one way out; it records the call in the journal and sends the answer
    Rest.dispatch        finds the API of the path, reads the body and the parameters
      Cloud.check        checks the parameters against the row of the API
      Faults.decide      returns the fault of the first rule that matches
    Rest.run_now         for a GET: Cloud.perform, and 200 or 503
    Rest.submit          for a change: Jobs.submit, and 202 with the location to poll
      Run                waits on the Clock, stage by stage
      Cloud.perform      refuses missing objects, permissions, the refusals of the row, quotas,
                         then calls the function of the API (start_vm_instance) or its verb
                         (create, update, delete, act)
      Store.commit       writes the changes to the ledger
      Jobs.publish       lets polls see the result, and calls the web-hook

Terms, as ZStack uses them:

    API              one documented call, CreateZone
    call             one request to an API
    api-job          an asynchronous call: 202, then polls until 200 or 503
    stage            a step of an api-job, which progress shows and a rule can fail
    long job         a resource that goes on after the api-job that began it
    session          the result of a login
    resource         a kind of object, as Zone, and its row in the catalogue
    item             an object as it is stored; an inventory is what a client sees of it
    primary storage  holds volumes; backup storage holds images
    rule             makes calls slow, failing or broken; an incident breaks a part of the cloud
    snapshot         a named copy of the whole state
    journal          the calls that were made

PYTEST_DONT_REWRITE: a plugin without assert statements needs no rewriting.
"""

from __future__ import annotations

import os
import sys


def is_program() -> bool:
    """Return True if this file is run, and False if something else imports it."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    return __name__ == "__main__" or program in ("zmock", "-m")


def refuse_to_start(reason: str) -> NoReturn:
    """End the program with one line and exit code 2, or fail the import with that line."""
    if is_program():
        sys.stderr.write("zmock: " + reason + "\n")
        sys.exit(2)
    raise ImportError(reason) from None


if sys.version_info < (3, 11):  # noqa: UP036 (a copied file has no installer that checks this)
    version = "%d.%d" % sys.version_info[:2]
    refuse_to_start(version + " is too old a Python; use 3.11 or newer: python3.12 zmock.py")

import signal

if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main(): else a traceback of the imports

import argparse
import asyncio
import base64
import bisect
import calendar
import codecs
import contextlib
import copy
import difflib
import errno
import functools
import gc
import hashlib
import heapq
import hmac
import http.client
import importlib.util
import io
import ipaddress
import itertools
import json
import logging
import math
import operator
import random
import re
import select
import shlex
import shutil
import socket
import ssl
import struct
import sysconfig
import textwrap
import threading
import time
import unicodedata
import urllib.parse
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Container,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from types import GeneratorType
from typing import Any, Concatenate, NoReturn, ParamSpec, TextIO, TypeVar, get_type_hints
from uuid import NAMESPACE_OID, uuid5
from uuid import UUID as UUIDv5


def ways_to_install() -> str:
    """Return the commands that install aiohttp and tinydb, or run zmock with them.

    A Python that is managed by the system (PEP 668) refuses `pip install` outside a venv.
    """
    python = sys.executable or "python3"
    pip_install = f"install them: {python} -m pip install 'aiohttp>=3.9' 'tinydb>=4.8'"
    if sys.prefix != sys.base_prefix:
        return pip_install
    has_makefile = Path(__file__).with_name("Makefile").exists()
    run = "make run, or: uv run zmock.py" if has_makefile else "uv run zmock.py"
    if Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        venv = f"{python} -m venv .venv && .venv/bin/pip install aiohttp tinydb"
        return f"start it with: {run}, or: {venv} && .venv/bin/python zmock.py"
    return f"{pip_install}, or start it with: {run}"


try:
    import aiohttp
    import tinydb
    import tinydb.table
    from aiohttp import web
    from aiohttp.helpers import rfc822_formatted_time
    from aiohttp.http import SERVER_SOFTWARE
    from tinydb.storages import MemoryStorage, Storage

    if not hasattr(web, "AppKey"):
        raise ImportError(f"aiohttp {aiohttp.__version__} is too old")
except ImportError as error:
    reason = " ".join(str(error).split())
    refuse_to_start(f"aiohttp and tinydb are needed ({reason}); {ways_to_install()}")

__version__ = "0.1.0"
log = logging.getLogger("zmock")
hint_log = logging.getLogger("zmock.hints")  # the terminal shows these below their calls
progress_log = logging.getLogger("zmock.progress")  # see with_progress

Uuid = str  # 32 hex digits
Stamp = str  # a date as it is stored: "2018-07-10 09:31:06"
Seconds = float  # a length of time, or a date as seconds since 1970
Item = dict[str, Any]  # a stored object, or a JSON object
Inventory = dict[str, Any]  # an object as a client sees it
Stages = Generator[str | None, None, Any]  # the work of a job: it yields the names of its stages


def nearest(word: object, words: Iterable[str], count: int = 1) -> list[str]:
    """Return up to `count` of the right words for a wrong one, those that begin with it first.

    nearest("zoms", ["zones"]) -> ["zones"]
    nearest("CreateVm", ["CreateVip", "CreateVmInstance"]) -> ["CreateVmInstance"]
    """
    spellings = {right.casefold(): right for right in words}
    wrong = str(word)[:200].casefold()
    longer = []
    if len(wrong) > 2:
        longer = sorted((right for right in spellings if right.startswith(wrong)), key=len)
    similar = difflib.get_close_matches(wrong, spellings, count, 0.61)
    matches = dict.fromkeys([*longer, *similar])
    return [spellings[match] for match in matches][:count]


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """Return the end of an error: ", did you mean zones?", or nothing if no word is near."""
    return "".join(f", did you mean {near}?" for near in nearest(word, words))


def a_noun(noun: str) -> str:
    """Return a noun with its article: "an int", "a uuid", "an L2Network"."""
    takes_an = re.match("[AEIOaeio]|[Ll][0-9]|[LS][A-Z]", noun)
    return f"an {noun}" if takes_an else f"a {noun}"


def spaced(name: str) -> str:
    """Return a name as words: "CreateVmInstance" -> "Create Vm Instance"."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name)


def counted(number: float, noun: str) -> str:
    """Return a number with its noun: "1 second", "1.5 seconds", "0 objects"."""
    text = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{text} {noun}" if number == 1 else f"{text} {noun}s"


def digest(text: str) -> str:
    """Return 32 hex digits that follow from a text."""
    return hashlib.md5(text.encode(errors="replace"), usedforsecurity=False).hexdigest()


def uuid_from(digits: str, version: int) -> Uuid:
    """Return 32 hex digits as a uuid of a version, without dashes."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:12]}{version}{digits[13:16]}{variant}{digits[17:]}"


MOST_LEVELS = 200  # of lists and objects in JSON; Python has a frame for each to copy a value


def load_json(text: str, **hooks: Any) -> Any:
    """Return the value of a JSON text from outside. The hooks are those of json.loads().

    Raise ValueError for any other text, and for a value of more than MOST_LEVELS levels.
    """
    too_deep = f"it is nested more than {MOST_LEVELS} levels deep"
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(too_deep) from None
    may_be_deep = text.count("[") + text.count("{") > MOST_LEVELS
    if may_be_deep and is_deeper(value, MOST_LEVELS):
        raise ValueError(too_deep)
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Return True if a JSON value has more levels of lists and objects."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[Any] = []
        for outer in layer:
            if isinstance(outer, dict):
                inner.extend(outer.values())
            elif isinstance(outer, list):
                inner.extend(outer)
        layer = inner
    return bool(layer)


# ---- Settings ------------------------------------------------------------------------------------


class SettingsError(Exception):
    """A setting, file or folder that cannot be used. The message is one line with a cure."""


def setting(default: Any, help: str, group: str = "", values: str = "", short: str = "") -> Any:
    """Return a field of a dataclass that is a flag, with its text in --help.

    group   its heading there
    values  the value of the flag: words to choose from, a placeholder, or both:
            "manual|server", "SECONDS", "demo|empty|FILE"
    short   its short name: "-f"
    """
    words = {"help": help, "group": group, "values": values, "short": short}
    return field(default=default, metadata=words)


@dataclass
class Settings:
    """The settings of a mock. A new line here is a flag, a ZMOCK_* variable and a line of --help.

    Raise SettingsError for a value that cannot be used.
    """

    cloud: str = setting(
        "demo",
        "content of an empty folder; large:N has N virtual machines",
        "the cloud",
        "demo|empty|FILE",
    )
    dialect: str = setting(
        "manual",
        "do as the developer manual says, or as the real server does",
        "the cloud",
        "manual|server",
    )
    catalogue: tuple = setting(
        (), "rows that replace or add to data/catalogue.json; repeatable", "the cloud", "FILE"
    )
    seed: int = setting(1, "the same seed gives the same uuids and random faults", "the cloud")
    addresses: str = setting(
        "random", "how a new nic or VIP gets its address", "the cloud", "random|first"
    )
    open: bool = setting(False, "accept any session, also without a login", "the cloud")
    utc_offset: float = setting(
        8.0, "hours by which the dates in answers are ahead of UTC", "the cloud", "HOURS"
    )
    clock: str = setting(
        "real",
        "time passes, stands until POST /zmock/clock, or skips all waits",
        "time and trouble",
        "real|frozen|warp",
    )
    delay: str = setting(
        "0.3", "how long asynchronous calls take; 0.5-2 is a range", "time and trouble", "SECONDS"
    )
    long_delay: str = setting(
        "", "how long long jobs take; by default ten times --delay", "time and trouble", "SECONDS"
    )
    rules: tuple = setting(
        (), "fault rules, read again when the file changes; repeatable", "time and trouble", "FILE"
    )
    scenario: str = setting(
        "",
        "steps of trouble over time, read again when the file changes",
        "time and trouble",
        "FILE",
    )
    no_magic: bool = setting(
        False, "ignore #zmock fail, delay and hold in names and descriptions", "time and trouble"
    )
    host: str = setting(
        "127.0.0.1", "address to listen on; localhost is IPv4 and IPv6", "the network"
    )
    port: int = setting(8080, "port to listen on; 0 takes a free one", "the network")
    cert: str = setting("", "certificate in PEM, to speak https", "the network", "FILE")
    key: str = setting("", "its key, unless --cert holds it", "the network", "FILE")
    base_url: str = setting(
        "", "address in job locations; by default from the request", "the network", "URL"
    )
    allow_origin: tuple = setting(
        (), "origin of pages that may call /zmock; repeatable", "the network", "ORIGIN"
    )
    control_token: str = setting(
        "", "token that /zmock asks for; other machines need one", "the network", "TOKEN"
    )
    body_limit: int = setting(1 << 20, "largest request body", "the network", "BYTES")
    data: str = setting("data/cloud", "folder that keeps the cloud", "the folder", "DIR")
    memory: bool = setting(False, "keep the cloud in memory, without a folder", "the folder")
    durable: str = setting(
        "on", "off: answers do not wait for the disk, a kill loses some", "the folder", "on|off"
    )
    journal: int = setting(1000, "calls that the journal holds", "the output", "CALLS")
    quiet: bool = setting(False, "print only the banner and errors", "the output")

    def __post_init__(self) -> None:
        self.sources: dict[str, str] = {}  # where a value is from: {"seed": "--seed"}
        for item in fields(self):
            if getattr(self, item.name) != item.default:
                self.sources[item.name] = flag_of(item.name)
        check_settings(self)

    @property
    def scheme(self) -> str:
        return "https" if self.cert else "http"


def check_settings(settings: Settings) -> None:
    """Raise SettingsError for a value that cannot be used."""
    check_not_empty("host", settings.host)
    check_between("port", settings.port, 0, 65535)
    check_not_empty("data", settings.data)
    for item in fields(settings):
        check_choice(item.name, getattr(settings, item.name), choices_of(item.metadata["values"]))
    seconds_range(settings.delay)
    if settings.long_delay:
        seconds_range(settings.long_delay)
    check_base_url(settings.base_url)
    for text in settings.allow_origin:
        check_origin(text)
    check_token(settings.control_token)
    check_between("utc-offset", settings.utc_offset, -14, 14)
    check_between("body-limit", settings.body_limit, 1, 1 << 30)
    check_between("journal", settings.journal, 0, 1_000_000)


def check_not_empty(name: str, text: str) -> None:
    if not text.strip():
        raise SettingsError(f"--{name} is empty; leave it away for its default")


def check_between(name: str, number: float, low: int, high: int) -> None:
    if not low <= number <= high:
        raise SettingsError(f"--{name} is a number from {low} to {high}, not {number}")


def choices_of(values: str) -> list[str]:
    """Return the words that a flag chooses from: "on|off" -> ["on", "off"], "FILE" -> []."""
    return values.split("|") if values.islower() else []


def check_choice(name: str, text: str, choices: list[str]) -> None:
    if choices and text not in choices:
        hint = did_you_mean(text, choices)
        raise SettingsError(f"--{name} is {' or '.join(choices)}, not {text!r}{hint}")


def check_base_url(text: str) -> None:
    """Refuse an address that no job location can begin with."""
    if text and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", text):
        example = "https://cloud.example:8443"
        raise SettingsError(f"--base-url is an address such as {example}, not {text!r}")
    shorter = re.fullmatch(r"(.*?)/zstack(/v1)?/?", text)
    if shorter:
        raise SettingsError(f"--base-url is the address before /zstack/v1: {shorter[1]}")


ORIGIN = re.compile(
    r"(?!null$)(?:([a-z][a-z0-9+.-]*)://)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?(/.*)?", re.S
)
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_origin(text: str) -> None:
    """Refuse an origin that no browser sends. Name the one that it would send."""
    problem = f"--allow-origin is an origin such as http://localhost:5173, not {text!r}"
    match = ORIGIN.fullmatch(text.lower())
    if not match:
        raise SettingsError(problem)
    scheme, host, port = match[1] or "http", match[2], match[3] or ""
    origin = f"{scheme}://{host}{port}".removesuffix(DEFAULT_PORTS.get(scheme, "/"))
    if text != origin:
        raise SettingsError(f"{problem}, did you mean {origin}?")


def check_token(text: str) -> None:
    """Refuse a token that a header cannot hold, or not as it is."""
    if text != text.strip() or not text.isprintable():
        reason = "a text without line breaks and outer spaces"
        raise SettingsError(f"--control-token is {reason}, not {text!r}")


def seconds_range(text: str) -> tuple[Seconds, Seconds]:
    """Return the bounds of a delay: "0.5-2" -> (0.5, 2.0), "0.3" -> (0.3, 0.3).

    Raise SettingsError for any other text.
    """
    first, dash, second = str(text).partition("-")
    try:
        low = float(first)
        high = float(second) if dash else low
    except ValueError:
        low = high = math.inf
    if not 0 <= low <= high < math.inf:
        raise SettingsError(f"a delay is seconds (0.3) or a range (0.5-2), not {text!r}")
    return low, high


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    return "ZMOCK_" + name.upper()


def read_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that ZMOCK_* variables set. Raise SettingsError for an unknown one."""
    items = {variable_of(item.name): item for item in fields(Settings)}
    values = {}
    for variable in sorted(environment):
        if not variable.startswith("ZMOCK_"):
            continue
        if variable not in items:
            near = nearest(variable.removeprefix("ZMOCK_"), [item.name for item in items.values()])
            better = "".join(f", did you mean {variable_of(name)}?" for name in near)
            raise SettingsError(f"no setting reads {variable}{better}")
        item = items[variable]
        values[item.name] = read_variable(variable, environment[variable], item)
    return values


def read_variable(variable: str, text: str, item: Field[Any]) -> Any:
    """Return the value of a variable. Raise SettingsError for a text of another kind."""
    kind: type = type(item.default)
    if kind is tuple:
        separator = os.pathsep if item.metadata["values"] == "FILE" else ","
        return tuple(filter(None, text.split(separator)))
    if kind is bool:
        return read_switch(variable, text)
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{variable} is a number, not {text!r}") from None


def read_switch(variable: str, text: str) -> bool:
    if text.lower() in ("1", "true", "yes"):
        return True
    if text.lower() in ("", "0", "false", "no"):
        return False
    raise SettingsError(f"{variable} is true or false, not {text!r}")


# ---- Dialect -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A point where the manual and the server disagree: in words for people, and as values."""

    name: str
    manual_says: str
    server_does: str
    source: str
    manual: Any = True
    server: Any = False


DIFFERENCES = (
    Difference(
        "login-key",
        "`logInByAccount` and the manual's `loginByAccount`",
        "`logInByAccount` only",
        "manual 3.7; RestServer.java",
    ),
    Difference(
        "condition-alias",
        "`condition=` is `q=`",
        "`condition=` is ignored",
        "manual 3.2, 3.6; RestServer.java handleQueryApi",
    ),
    Difference(
        "repeated-fields",
        "`fields=a&fields=b` and `fields=a,b`",
        "first occurrence only, commas",
        "manual 3.9; RestServer.java handleQueryApi",
    ),
    Difference(
        "group-by",
        "`groupBy`: one row per distinct value, as MySQL",
        "accepted, ignored",
        "manual 3.9; QueryFacadeImpl.java",
    ),
    Difference(
        "null-test",
        "`name=null`, `name!=null` test for null",
        'compare with the text "null"',
        "manual 3.9; ZQL",
    ),
    Difference(
        "spaced-condition",
        "spaces around the operator: 400",
        "the left side is trimmed, the right is not",
        "manual 3.9; RestServer.java",
    ),
    Difference(
        "date-formats",
        "dates in conditions as answers show them, or ISO 8601; other text: 400, SYS.1007",
        "as MySQL reads them: other text is the zero date",
        "zmock; MySQL",
    ),
    Difference(
        "stray-percent",
        "a `%` without two hex digits is a percent sign",
        "drops the parameter",
        "manual 3.9 (`name~=IntelCore%`); Tomcat",
    ),
    Difference(
        "poll-body",
        '202 repeats `{"location": ...}`',
        "202, empty body",
        "manual 3.7; RestServer.java handleJobQuery",
    ),
    Difference(
        "empty-result",
        "`{}`",
        "a zero-length body",
        "manual 4.2.6; RestServer.java writeResponse",
        manual=b"{}",
        server=b"",
    ),
    Difference(
        "bad-parameter",
        "a missing or illegal parameter: at once 400, SYS.1007",
        "503, or 202 and then 503, SYS.1007",
        "manual 3.4; ApiMessageProcessorImpl.java",
    ),
    Difference(
        "unknown-field",
        "an unknown field in a condition, `sort` or `fields`: 400, SYS.1007",
        "503, SYS.1000",
        "manual 3.4; ZQLMetadata.java",
    ),
    Difference(
        "malformed-body",
        "a body that is no JSON object, or has wrong JSON types: 400",
        "500",
        "manual 3.4; RestServer.java",
        manual=400,
        server=500,
    ),
    Difference(
        "wrong-method",
        "405 with `Allow`",
        "a path with one API runs it for any verb; else 500, 405 for other verbs",
        "manual 3.4; RestServer.java handleNonUniqueApi",
    ),
    Difference(
        "error-body",
        'JSON `{"error": ...}` for every status',
        "plain text for 400, 404, 405, 500",
        "manual 3.4; RestServer.java",
    ),
    Difference(
        "job-uuid",
        "X-Job-UUID: v4, 32 hex, else 400; a used one: 400",
        "length 32, else 400; a used one: 500",
        "manual 3.3; RestServer.java",
    ),
    Difference(
        "job-expiry",
        "2 days after the job was last looked at",
        "3 h after submission",
        "manual 3.5; rest.xml completedApi.expiredPeriod",
        manual="seen",
        server="created",
    ),
    Difference(
        "job-location",
        "built from the request's `Host`",
        "where zmock listens",
        "manual 3.5; RESTFacadeImpl.java",
    ),
    Difference(
        "path-prefix",
        "`/zstack/v1` and `/v1`",
        "`/zstack/v1`",
        "manual 3.5, 3.6; RestServerController.java",
        manual=("/zstack/v1", "/v1"),
        server=("/zstack/v1",),
    ),
    Difference(
        "get-one",
        "`inventory` and `inventories`",
        "`inventories`",
        "manual 3.5, 3.7; RestServer.java",
    ),
    Difference(
        "query-schema",
        "`schema` only with X-JSON-Schema",
        "always",
        "manual 4; RestServer.java writeResponse",
    ),
    Difference(
        "delete-parameters",
        "DELETE parameters in the body or the query string",
        "query string",
        "manual 4.4.1; RestServer.java handleApi",
    ),
    Difference(
        "license-writes",
        "licence changes are asynchronous (202)",
        "synchronous (200)",
        "manual 3.5; SDK needPoll",
    ),
    Difference(
        "license-capabilities",
        "`{}`",
        '`{"capabilities": {...}}`',
        "manual 4.7.2; SDK GetLicenseCapabilitiesResult",
    ),
    Difference(
        "is-ready",
        "returns `managementNodeId`",
        "returns nothing",
        "manual 4.1.4; APIIsReadyToGoReply.java",
    ),
    Difference(
        "success-field",
        "no `success` where the example has none",
        '`"success": true` in replies of all fields',
        "manual 4.1.2, 4.1.3, 4.5.1; ApiResponse.java",
    ),
    Difference(
        "free-system-tags",
        "any text",
        "must match a registered pattern of that type",
        "manual 4.2.3; TagManagerImpl.java",
    ),
    Difference(
        "task-progress-fields",
        "`taskUuid` and `taskId`, `parentId`, `totalSteps`, `currentStep` too",
        "`taskUuid`, `parentUuid`",
        "manual 4.3.1; TaskProgressInventory.java",
    ),
    Difference(
        "job-data-object",
        "`jobData` may be an object",
        "must be a string",
        "manual 4.8.1; Gson",
    ),
    Difference(
        "gc-state",
        "`state` is an alias of `status` in conditions",
        "unknown field",
        "manual 4.6.3; GarbageCollectorInventory.java",
    ),
    Difference(
        "eip-ip",
        "`ip` is an alias of `vipIp` in conditions",
        "unknown field",
        "manual 3.9; EipInventory.java",
    ),
    Difference(
        "enforced-deletion",
        "DeleteTag with `deleteMode=Enforcing` removes an inherent tag too",
        "`Enforcing` ignores only what fails during the deletion",
        "manual 4.2.6; TagApiInterceptor.java",
        manual=("DeleteTag",),
        server=(),
    ),
    Difference(
        "unanswered-query",
        "a ZQL statement or batch query that fails: at once 503, with the reason",
        "no answer; 503, SYS.1001 after 300 s",
        "zmock; QueryFacadeImpl.java, DispatchQueueImpl.java",
        manual=0,
        server=300,
    ),
    Difference(
        "response-headers",
        "`Content-Type: application/json`",
        "none; a `JSESSIONID` cookie",
        "manual 4 (curl); RestServerController.java",
    ),
)


class Dialect:
    """The values of the dialect in force: Dialect("manual")["empty-result"] -> b"{}"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        for row in DIFFERENCES:
            self.values[row.name] = row.manual if name == "manual" else row.server

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def described(self) -> list[Item]:
        """Return the table as `GET /zmock/dialect` shows it."""
        return [
            {
                "name": row.name,
                "manual": row.manual_says,
                "server": row.server_does,
                "source": row.source,
                "inForce": self.name,
            }
            for row in DIFFERENCES
        ]


# ---- Errors --------------------------------------------------------------------------------------


class ApiError(Exception):
    """The failure of an API: by default 503, with {"error": {code, description, details[, cause]}}.

    It has `causes` if each of several attempts failed (manual 3.4; ErrorCodeList.java).
    """

    def __init__(
        self,
        code: str,
        details: str,
        cause: ApiError | None = None,
        status: int = 503,
        hint: str = "",
        causes: Sequence[ApiError] = (),
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.cause = cause
        self.causes = causes
        self.status = status
        self.hint = hint


class ThrownError(ApiError):
    """An error that no code wraps: the server throws it before its flows (AsyncBackupAspect)."""


class NeverAnswered(ApiError):
    """The failure of a call that the server leaves without an answer until it times out."""

    def __init__(self, message: str, limit: Seconds, hint: str) -> None:
        super().__init__("SYS.1001", f"{message} timeout after {limit} seconds", hint=hint)
        self.seconds = limit


class BadParameter(ApiError):
    """A missing or illegal parameter. The dialect says with which status (bad-parameter).

    `absent` has the names of all missing parameters. The details name the first of them.
    """

    def __init__(
        self,
        details: str,
        hint: str = "",
        code: str = "SYS.1007",
        absent: Sequence[str] = (),
    ) -> None:
        super().__init__(code, details, hint=hint)
        self.absent = absent


FRONT_CODES = {404: "SYS.1003", 405: "SYS.1014", 500: "SYS.1000", 501: "SYS.1014"}  # by status


class FrontError(ApiError):
    """A request with a wrong path, verb, header or body. It never becomes a call.

    The server answers it in plain text (error-body).
    """

    def __init__(
        self, status: int, details: str, hint: str = "", allow: Collection[str] = ()
    ) -> None:
        code = FRONT_CODES.get(status, "SYS.1007")
        super().__init__(code, details, status=status, hint=hint)
        self.allow = allow


def refused(details: str, cause: ApiError | None = None) -> ApiError:
    """Return the error of an operation that is not possible now."""
    return ApiError("SYS.1006", details, cause)


def chained(codes: Sequence[str], texts: Sequence[str]) -> ApiError:
    """Return an error with its causes, the outer one first. Without a text, it has the next one's.

    chained(["VM.1001", "VM.1010"], ["no"]) -> VM.1001: no, caused by VM.1010: no
    """
    error, rest = None, [*texts]
    for code in reversed(codes):
        error = ApiError(code, rest.pop() if len(rest) > 1 else rest[0], error)
    return error


def missing(name: str, uuid: Any, type: str, hint: str = "") -> ApiError:
    """Return the error of a parameter that names no object (RestServer: 503, never 404)."""
    details = f"invalid field[{name}], resource[uuid:{uuid}, type:{type}VO] not found"
    return ThrownError("SYS.1003", details, hint=hint)


# ---- Clock ---------------------------------------------------------------------------------------

DAY = 86400  # seconds
MODES = ("real", "frozen", "warp")
PATIENCE = 1  # seconds of real time that one move waits for work that may never end, as web-hooks
BREATH = 0.005  # seconds of real time between leaps, for clients; and for moves without patience
FEW_TIMERS = 1000  # up to here, cancelled timers are not cleared away
LOOK_INTERVAL = 1  # seconds of real time between two looks at the system's clock
SMALLEST_STEP = 0.5  # seconds; the system corrects its clock by less
ROUNDING = 1e-6  # seconds; a float holds a date to a quarter of that
LATEST = 2e11  # a date in the year 8307; stamps end with the year 9999


@dataclass(slots=True, eq=False)
class Timer:
    """A function that is called when it is due. cancel() prevents that.

    `due` is a date if the timer is `dated`, else a second of Clock.steady().
    """

    due: Seconds
    order: int  # of timers that are due at once
    fire: Callable[[], Any] | None  # None after the call
    name: str = ""
    awaited: bool = False  # a client may wait for it: a warping clock goes there
    dated: bool = False

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.order) < (other.due, other.order)

    def cancel(self) -> None:
        self.fire = None

    def fire_now(self) -> None:
        fire, self.fire = self.fire, None
        if fire:
            fire()


class TooFar(ValueError):
    """A move on which too much would fall due. The message says what."""


class Clock:
    """The only source of time.

    It has two time lines. now() is a date, in seconds since 1970, and follows the system's clock
    when somebody sets that. steady() is a second of a line that nobody sets: waits are measured on
    it. Let a job of 30 seconds and a schedule for 10:05 begin at 10:00, and somebody set the
    system's clock to 10:04. The job still takes 30 seconds, and the schedule is due in a minute.
    advance() moves both lines, set_back() dates only. `date_offset` is the date less the steady
    second: date_of(second) adds it, and due_date(timer) if the timer is a wait. A stamp is a date
    as items hold it.

    In the mode `real` time runs. In `frozen` it stands until advance(), go_to() or set_back(). In
    `warp` it runs, and leaps to the next timer that a client may wait for when nothing else is
    left to do.
    """

    def __init__(self, mode: str = "real", utc_offset: float = 0.0) -> None:
        self.mode = mode
        self.utc_offset: Seconds = utc_offset * 3600  # of stamps
        self.show(time.time(), 0.0)
        self.on_clock_set: list[Callable[[Seconds], None]] = []  # called when dates have jumped
        self.known_offset: Seconds = 0.0  # the date_offset that they know of
        self.move_checks: list[Callable[[Seconds], None]] = []  # raise TooFar for a date
        self.file_readers: list[Callable[[], None]] = []  # before a move, and while time runs
        self.moving = asyncio.Lock()  # held by a move of advance(), go_to() or leap()
        self.advancing: object | None = None  # a move that is under way; halt() ends it
        self.order = itertools.count()
        self.timers: list[Timer] = []  # a heap of those that wait
        self.dated: list[Timer] = []  # a heap of those that are due on a date
        self.may_leap = asyncio.Event()  # set when there may be awaited timers
        self.leaper: asyncio.Task[None] | None = None  # runs leap()
        self.most_timers = FEW_TIMERS  # tidy() works when there are more
        self.started = False
        self.wakeup: asyncio.TimerHandle | None = None  # the next call of tick()
        self.sleepers: set[Callable[[], None]] = set()  # wake the sleep() calls under way
        self.tasks: set[asyncio.Task[Any]] = set()  # the work beside the requests, of spawn()
        self.awake: set[asyncio.Task[Any]] = set()  # tasks that do not sleep: moves wait for them
        self.all_asleep = asyncio.Event()

    # reading

    @property
    def is_stopped(self) -> bool:
        return self.mode == "frozen" or self.advancing is not None

    def now(self) -> Seconds:
        """Return the date: seconds since 1970."""
        return self.stopped_at if self.is_stopped else time.time() + self.system_offset

    def steady(self, date: Seconds | None = None) -> Seconds:
        """Return the steady second of a date, or of now."""
        if date is not None:
            return date - self.date_offset
        if self.is_stopped:
            return self.stopped_at - self.stopped_offset
        return time.monotonic() + self.monotonic_offset

    @property
    def date_offset(self) -> Seconds:
        """The seconds by which dates are ahead of steady(). They change when a clock is set."""
        return self.stopped_offset if self.is_stopped else self.now() - self.steady()

    def date_of(self, second: Seconds) -> Seconds:
        """Return the date of a steady second, as the clock is set now."""
        return second + self.date_offset

    def due_date(self, timer: Timer) -> Seconds:
        """Return the date on which a timer is due, as the clock is set now."""
        return timer.due if timer.dated else self.date_of(timer.due)

    def seconds_until(self, timer: Timer) -> Seconds:
        """Return the seconds until a timer is due."""
        if timer.dated or self.is_stopped:
            return self.due_date(timer) - self.now()
        return timer.due - self.steady()

    def stamp(self, date: Seconds | None = None) -> Stamp:
        """Return a date, or now, as items hold it, in the zone of the cloud."""
        date = self.now() if date is None else date
        return stamp_of(math.floor(date + self.utc_offset))

    def date_of_stamp(self, stamp: Stamp) -> Seconds:
        return second_of(stamp) - self.utc_offset

    def is_stamp(self, text: str) -> bool:
        try:
            return self.stamp(self.date_of_stamp(text)) == text
        except ValueError:
            return False

    def system_time(self) -> Seconds:
        """Return the date of the system's clock."""
        return time.time()

    def monotonic(self) -> Seconds:
        """Return a second of real time, for measuring. It never jumps."""
        return time.monotonic()

    # timers

    def at(self, date: Seconds, fire: Callable[[], Any], name: str = "") -> Timer:
        """Call fire() on a date, or in the next turn of the event loop if that is past.

        The timer keeps its date when a clock is set. after() is for waits.
        """
        return self.add(self.dated, Timer(date, next(self.order), fire, name, dated=True))

    def after(
        self, seconds: Seconds, fire: Callable[[], Any], name: str = "", awaited: bool = False
    ) -> Timer:
        """Call fire() when some seconds have passed, but not before this call returns.

        `awaited`: a client may wait for it, as for the end of a job.
        """
        return self.at_second(self.steady() + seconds, fire, name, awaited)

    def at_second(
        self, second: Seconds, fire: Callable[[], Any], name: str = "", awaited: bool = False
    ) -> Timer:
        """Call fire() at a second of steady(), as after() does."""
        if awaited:
            self.may_leap.set()
        return self.add(self.timers, Timer(second, next(self.order), fire, name, awaited))

    def never(self, fire: Callable[[], Any], name: str = "") -> Timer:
        """Return a timer that only fire_now() fires."""
        return Timer(math.inf, next(self.order), fire, name)

    def add(self, heap: list[Timer], timer: Timer) -> Timer:
        heapq.heappush(heap, timer)
        if heap[0] is timer:
            self.plan_tick()
        if len(self.timers) + len(self.dated) >= self.most_timers:
            self.tidy()
        return timer

    def tidy(self) -> None:
        """Drop cancelled timers, and do so again when there are twice as many timers."""
        for heap in (self.timers, self.dated):
            heap[:] = [timer for timer in heap if timer.fire]
            heapq.heapify(heap)
        self.most_timers = max(FEW_TIMERS, 2 * (len(self.timers) + len(self.dated)))

    def next_timer(self) -> Timer | None:
        """Return the timer that is due before all others."""
        heads = self.timers[:1] + self.dated[:1]
        return min(heads, key=self.due_order, default=None)

    def awaited_timers(self) -> list[Timer]:
        return [timer for timer in self.timers if timer.awaited and timer.fire]

    def due_order(self, timer: Timer) -> tuple[Seconds, int]:
        return self.due_date(timer), timer.order

    # firing

    def start(self) -> None:
        """Fire timers by itself from now on. The event loop has to run."""
        self.started = True
        self.set_mode(self.mode)

    def plan_tick(self) -> None:
        """Let the event loop call tick() when the next timer is due."""
        if self.wakeup:
            self.wakeup.cancel()
            self.wakeup = None
        if not self.started:
            return
        timer = self.next_timer()
        if timer is None:
            return
        seconds = self.seconds_until(timer)
        if seconds <= 0 or self.mode != "frozen":
            delay = min(max(0, seconds), LOOK_INTERVAL)
            self.wakeup = asyncio.get_running_loop().call_later(delay, self.tick)

    def tick(self) -> None:
        try:
            self.fire_due()
            self.detect_clock_set()
            self.reread_files()
        finally:
            self.plan_tick()

    def reread_files(self) -> None:
        for reread in self.file_readers:
            reread()

    def fire_due(self) -> list[str]:
        """Fire the timers that are due, in order. Return their names.

        A timer that raises is logged and stops nothing.
        """
        names = []
        while (timer := self.next_timer()) and self.seconds_until(timer) <= 0:
            heapq.heappop(self.dated if timer.dated else self.timers)
            if not timer.fire:
                continue
            if timer.name:
                names.append(timer.name)
            try:
                timer.fire_now()
            except Exception:  # no call waits for a timer, so there is nobody else to tell
                log.exception("what was due failed: %s", timer.name or "a timer without a name")
        return names

    def detect_clock_set(self) -> None:
        """Announce it if somebody has set the system's clock."""
        seconds = self.date_offset - self.known_offset
        if abs(seconds) > SMALLEST_STEP:
            self.announce_clock_set(seconds)

    def announce_clock_set(self, seconds: Seconds) -> None:
        self.known_offset = self.date_offset
        for listener in self.on_clock_set:
            listener(seconds)

    # work beside the requests

    async def sleep(self, seconds: Seconds, name: str = "") -> None:
        """Return when some seconds have passed on this clock."""
        if seconds <= 0:
            return
        is_over = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()

        def wake() -> None:
            if is_over.done():
                return
            is_over.set_result(None)
            if task in self.tasks:
                self.mark_awake(task)

        timer = self.after(seconds, wake, name, awaited=True)
        self.sleepers.add(wake)
        self.mark_asleep(task)
        try:
            await is_over
        finally:
            timer.cancel()
            self.sleepers.discard(wake)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the requests. Moves wait until it ends or sleeps on this clock."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        self.mark_awake(task)
        task.add_done_callback(self.mark_asleep)
        task.add_done_callback(self.tasks.discard)
        return task

    def mark_awake(self, task: asyncio.Task[Any]) -> None:
        self.awake.add(task)
        self.all_asleep.clear()

    def mark_asleep(self, task: asyncio.Task[Any]) -> None:
        self.awake.discard(task)
        if not self.awake:
            self.all_asleep.set()

    async def settle(self, patience: Seconds = PATIENCE) -> Seconds:
        """Fire what is due now, and wait until the work beside the requests has ended or sleeps.

        Return the patience for the next time. Work that uses it up is not waited for again until it
        has slept on this clock.
        """
        self.fire_due()
        until = time.monotonic() + patience
        while self.awake:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await self.all_asleep.wait()
            except TimeoutError:
                patience = BREATH
                for task in [*self.awake]:
                    self.mark_asleep(task)
            await one_turn()
            self.fire_due()
        return patience

    def after_real_time(self, seconds: Seconds, fire: Callable[[], Any]) -> None:
        """Call fire() when some seconds of real time have passed. A frozen clock calls it now."""
        if self.mode == "frozen":
            fire()
        else:
            asyncio.get_running_loop().call_later(seconds, fire)

    # moving

    async def advance(self, seconds: Seconds) -> list[str]:
        """Move on by some seconds. Return the names of the timers that fired.

        Raise TooFar, before anything fires, if that would be too much.
        """
        self.check_move(self.now() + seconds)
        async with self.moving:
            return await self.move_to(self.now() + seconds)

    async def go_to(self, date: Seconds) -> list[str]:
        """Move on to a date, as advance() does. Stay if it is past."""
        self.check_move(date)
        async with self.moving:
            return await self.move_to(date)

    def check_move(self, date: Seconds) -> None:
        self.reread_files()
        for check in self.move_checks:
            check(date)

    async def move_to(self, target: Seconds) -> list[str]:
        """Stop at each moment when a timer is due, then at the target.

        Meanwhile time does not run, so that each timer fires exactly on its date.
        """
        names: list[str] = []
        self.jump(self.now())
        self.advancing = move = object()
        try:
            patience = await self.settle()
            while self.advancing is move and (timer := self.next_timer()):
                date = self.due_date(timer)
                if date > target + ROUNDING:
                    break
                self.jump(max(date, self.now()))
                names += self.fire_due()
                patience = await self.settle(patience)
                await one_turn()  # for clients that have more to ask
            if self.advancing is move:
                self.jump(max(target, self.now()))
        finally:
            if self.advancing is move:
                self.halt()
            self.plan_tick()
        return names

    def halt(self) -> None:
        """End a move where it is."""
        if self.advancing:
            self.advancing = None
            self.jump(self.stopped_at)

    def jump(self, date: Seconds) -> None:
        """Show a date, and move steady() by as much. Nothing fires."""
        self.show(date, self.date_offset)

    def show(self, date: Seconds, date_offset: Seconds) -> None:
        """Show a date that is `date_offset` ahead of steady()."""
        # for a clock that is stopped
        self.stopped_at = date
        self.stopped_offset = date_offset
        # for one that runs
        self.system_offset = date - time.time()
        self.monotonic_offset = date - date_offset - time.monotonic()

    def set_back(self, date: Seconds) -> None:
        """Show an earlier date. Waits keep their length: steady() does not change."""
        self.halt()
        seconds = date - self.now()
        self.show(date, self.date_offset + seconds)
        self.announce_clock_set(seconds)
        self.plan_tick()

    def set_mode(self, mode: str) -> None:
        """Change the mode. The date stays."""
        self.jump(self.now())
        self.mode = mode
        if self.leaper:
            self.leaper.cancel()
            self.leaper = None
        if mode == "warp" and self.started:
            self.leaper = asyncio.ensure_future(self.leap())
        self.plan_tick()

    async def leap(self) -> None:
        """Move to the next awaited timer, again and again."""
        while await self.may_leap.wait():
            await real_time(BREATH)
            async with self.moving:
                awaited = self.awaited_timers()
                if awaited:
                    await self.move_to(self.due_date(min(awaited)))
                else:
                    self.may_leap.clear()

    # saving and ending

    def saved(self) -> Item:
        """Return the state that resume() takes."""
        offset = round(self.now() - self.system_time(), 3)
        return {"mode": self.mode, "offset": offset, "at": self.now()}

    def resume(self, saved: Item) -> None:
        """Go on from a saved state: on its date if it was frozen, else as far ahead as it was."""
        if self.mode == "real":
            self.set_mode(saved["mode"])
        is_frozen = saved["mode"] == "frozen"
        self.jump(saved["at"] if is_frozen else self.system_time() + saved["offset"])
        self.plan_tick()

    def stop(self) -> None:
        """Cancel the work beside the requests."""
        for task in self.tasks:
            task.cancel()
        if self.leaper:
            self.leaper.cancel()

    def restart(self) -> None:
        """Go back to the system's time, with nothing due."""
        self.stop()
        self.halt()
        for wake in [*self.sleepers]:
            wake()
        self.timers.clear()
        self.dated.clear()
        self.show(self.system_time(), 0.0)
        self.known_offset = 0.0
        self.set_mode(self.mode)


async def one_turn() -> None:
    """Let the event loop take one turn: it sees all that has arrived."""
    await asyncio.sleep(0)


async def real_time(seconds: Seconds) -> None:
    """Wait in real time, which no mode of a Clock changes."""
    await asyncio.sleep(seconds)


FIRST_PROGRESS: Seconds = 0.5  # until the first message: short work logs none
PROGRESS_STEP: Seconds = 0.2  # between two messages


def with_progress(items: Iterable[Any], total: int, work: str) -> Iterator[Any]:
    """Yield items, and log from time to time how many have been taken.

    with_progress(names, 80, "reading the cloud: %s files") -> "reading the cloud: 12 of 80 files"
    """
    due = time.monotonic() + FIRST_PROGRESS
    for count, item in enumerate(items):
        if time.monotonic() >= due:
            progress_log.info(work, f"{count} of {total}")
            due = time.monotonic() + PROGRESS_STEP
        yield item


# checks


def is_span(seconds: Any) -> bool:
    """Return True for a number of seconds that a Clock can be moved by."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return is_number and 0 <= seconds <= 1e9


def can_be_date(value: Any, earliest: Seconds = 0) -> bool:
    return type(value) in (int, float) and earliest <= value <= LATEST


def is_saved_clock(value: Any) -> bool:
    """Return True for a state that Clock.resume() can take."""
    if not isinstance(value, dict) or value.get("mode") not in MODES:
        return False
    if not can_be_date(value.get("at")) or not can_be_date(value.get("offset"), -LATEST):
        return False
    return can_be_date(time.time() + value["offset"])


# dates as texts


@functools.lru_cache(4096)
def stamp_of(second: float) -> Stamp:
    """Return the stamp of a second since 1970, both in the same zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))


@functools.lru_cache(4096)
def second_of(stamp: Stamp) -> int:
    """Return the second since 1970 of a stamp. Raise ValueError for any other text."""
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))


def world_stamp() -> str:
    """Return the system's time in UTC for the name of a file: "20180710T093106"."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())


def iso(date: Seconds) -> str:
    """Return a date in ISO 8601: 1531152000.25 -> "2018-07-09T16:00:00.250Z"."""
    return f"{iso_second(int(date // 1))}.{int(date % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=64)  # most dates are of the same few seconds
def iso_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def date_of_iso(text: Any) -> Seconds:
    """Return the date of a date and time in ISO 8601, by default in UTC.

    Raise ValueError for anything else.
    """
    if not isinstance(text, str) or "T" not in text:
        raise ValueError(f"{text!r} is no date and time such as 2018-07-10T00:00:00Z")
    moment = parse_iso(text)
    if not moment.tzinfo:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def parse_iso(text: str) -> datetime:
    """Return a date in ISO 8601, which may have a space for its T.

    A space before the offset is a plus that was not encoded in a URL. Raise ValueError for any
    other text.
    """
    if not re.fullmatch(r"[\d.,:TWZ +-]+", text, re.ASCII):
        raise ValueError(f"{text!r} is no date")
    return datetime.fromisoformat(re.sub(r"(:[\d.]+) (\d\d:?\d\d)$", r"\1+\2", text))


def stamp_from(text: str, utc_offset: Seconds = 0) -> Stamp:
    """Return the stamp of a date that somebody wrote. Raise ValueError for any other text.

    "Jul 10, 2018 9:31:06 AM", "Jul 10, 2018", "2018-07-10 09:31:06" and "2018-07-10" are in the
    zone of the cloud, `utc_offset` ahead of UTC. "2018-07-10T01:31:06Z" names its own zone.
    """
    text = text.strip()
    with contextlib.suppress(ValueError):
        us_text = text if ":" in text else f"{text} 12:00:00 AM"
        return stamp_of(calendar.timegm(time.strptime(us_text, "%b %d, %Y %I:%M:%S %p")))
    try:
        moment = parse_iso(text)
        if moment.tzinfo:
            moment = moment.astimezone(timezone(timedelta(seconds=utc_offset)))
    except (ValueError, OverflowError):
        examples = "2018-07-10 09:31:06, Jul 10, 2018 9:31:06 AM or 2018-07-10T09:31:06+08:00"
        raise ValueError(f"{text!r} is no date such as {examples}") from None
    return moment.isoformat(" ", "seconds")[:19]


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@functools.lru_cache(4096)
def us_date(stamp: Stamp) -> str:
    """Return a stamp as clients get it (Gson's default under en_US).

    "2017-01-06 03:51:16" -> "Jan 6, 2017 3:51:16 AM"
    """
    year, month, day = stamp[:10].split("-")
    hour = int(stamp[11:13])
    half = "AM" if hour < 12 else "PM"
    return f"{MONTHS[int(month) - 1]} {int(day)}, {year} {hour % 12 or 12}{stamp[13:]} {half}"


# cron expressions: seconds minutes hours days months weekdays
# 0 0/3 17-23 * * ? is each third minute from 17 to 23 h

CRON_FIELDS = (  # the lowest and the highest number, and the names of the numbers
    (0, 59, ()),
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, tuple(month.upper() for month in MONTHS)),
    (1, 7, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)
DAYS_AHEAD = 366 * 8  # a 29th of February falls in these days


@dataclass(frozen=True)
class Cron:
    """A cron expression: the seconds of a day, the days, months and weekdays that it names."""

    seconds: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def next(self, second: int) -> int | None:
        """Return the first named second from another one on, both since 1970, or None."""
        today, passed = divmod(second, DAY)
        for day in range(today, today + DAYS_AHEAD):
            if not self.names_day(day):
                continue
            index = bisect.bisect_left(self.seconds, passed if day == today else 0)
            if index < len(self.seconds):
                return day * DAY + self.seconds[index]
        return None

    def names_day(self, day: int) -> bool:
        stamp = stamp_of(day * DAY)
        month, date, weekday = int(stamp[5:7]), int(stamp[8:10]), (day + 4) % 7 + 1
        return month in self.months and date in self.days and weekday in self.weekdays


@functools.lru_cache(64)
def read_cron(text: str) -> Cron | None:
    """Return the cron expression of a text, or None. Quartz's L, W and # are not known."""
    words = text.upper().split(" ")
    if not text.isascii() or len(words) != 6:
        return None
    if "?" not in words[3::2] or "?" in (*words[:3], words[4]):
        return None
    sets = [cron_numbers(word, *bounds) for word, bounds in zip(words, CRON_FIELDS)]
    if not all(sets):
        return None
    seconds, minutes, hours, days, months, weekdays = sets
    times = itertools.product(sorted(hours), sorted(minutes), sorted(seconds))
    seconds_of_day = tuple(3600 * hour + 60 * minute + second for hour, minute, second in times)
    return Cron(seconds_of_day, days, months, weekdays)


def cron_numbers(text: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    """Return the numbers of a field, none if a part is wrong: "MON-WED,7" -> {2, 3, 4, 7}."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:[*?]|(\w{1,9})(?:-(\w{1,9}))?)(?:/([0-9]{1,9}))?", part)
        if not match:
            return frozenset()
        first, last, step = match.groups()
        begin, end = low, high
        if first:
            begin = end = cron_number(first, names)
        if last:
            end = cron_number(last, names)
        elif step:
            end = high
        width = int(step or 1)
        if not low <= begin <= end <= high or not width:
            return frozenset()
        numbers.update(range(begin, end + 1, width))
    return frozenset(numbers)


def cron_number(word: str, names: tuple[str, ...]) -> int:
    """Return a number of a field, or -1 for a word that is none."""
    if word in names:
        return names.index(word) + 1
    return int(word) if word.isdecimal() else -1


# ---- Values --------------------------------------------------------------------------------------

# One line of text says what a value may be, in data/catalogue.json and in this file:
#
#     sshPort:int 1..65535 =22     an int in a range, 22 when it is left out
#     name! <=255                  a required text of at most 255 characters
#     uuid! @Zone                  the uuid of a Zone, which must exist
#
# It is a name, a type, and constraints:
#
#     name:type      the type is str when none is named; TYPES has them all
#     !              required
#     <=255  >=1     the length of a text
#     1..9           the range of a number; 1..9bytes of a size
#     >0  <1000      the bounds of a number, exclusive; of global configurations only
#     {a|b}          the legal texts
#     /regex/        matches the whole text
#     nonempty       a list needs an element
#     nonblank       neither a text nor an element of a list is ""
#     optional       a global configuration may be ""
#     verbatim       the spaces around a text stay
#     @Zone          the uuid of a Zone
#     @Zone?         if there is no such Zone, the call succeeds and does nothing; the text must
#                    look like a uuid, which @Zone?any does not ask
#     used, changed  the call uses or changes that Zone: quotas and permissions count it so. Else
#                    the method of the API tells
#     =22            the default: the rest of the line

UUID = r"[0-9a-f]{8}[0-9a-f]{4}[1-5][0-9a-f]{3}[89ab][0-9a-f]{3}[0-9a-f]{12}"
FLAGS = ("nonempty", "nonblank", "optional", "verbatim", "used", "changed")
LIMITS = {"<=": "longest", ">=": "shortest", "<": "below", ">": "above"}


@dataclass
class ValueSpec:
    """The type and the constraints of a parameter, a global configuration or a key of a rule."""

    name: str
    type: str = "str"
    required: bool = False
    shortest: int = 0
    longest: int = 0
    values: tuple[str, ...] = ()
    regex: str = ""
    nonempty: bool = False
    nonblank: bool = False
    optional: bool = False
    verbatim: bool = False
    used: bool = False
    changed: bool = False
    low: int | None = None
    high: int | None = None
    unit: str = ""
    above: int | None = None
    below: int | None = None
    refers: str = ""
    may_be_gone: bool = False
    any_form: bool = False
    default: str | None = None

    @classmethod
    def parse(cls, text: str) -> ValueSpec:
        """Return the value that a line of text describes. Raise ValueError for a wrong word."""
        line, has_default, default = text.partition(" =")
        head, *words = line.split(" ")
        name, _, type = head.rstrip("!").partition(":")
        if not name.isidentifier() or (type and type not in TYPES):
            raise ValueError(f"{head!r} is no name with a type{did_you_mean(type, TYPES)}")
        value = cls(name, type or "str", head.endswith("!"))
        for word in words:
            vars(value).update(parse_constraint(word))
        if has_default:
            value.default = default
        return value

    def read(self, json_value: Any) -> Any:
        """Return a JSON value of a request as this type.

        Raise TypeError, in the words of Gson, for the wrong kind of JSON, and FrontError for a
        number or a truth value that cannot be read.
        """
        return TYPES[self.type].read(self, json_value)

    def problem(self, value: Any) -> str:
        """Return the constraint that a value breaks first, in the server's order, or ""."""
        if value is None and self.required and self.low:
            value = 0  # a Java primitive that is missing is 0, which is below this range
        if value is None:
            return "required" if self.required else ""
        if isinstance(value, str):
            return self.problem_of_text(value)
        if isinstance(value, dict):
            return "nonempty" if self.nonempty and not value else ""
        if isinstance(value, list):
            return self.problem_of_list(value)
        return self.problem_of_number(value)

    def problem_of_text(self, text: str) -> str:
        if self.longest and len(text) > self.longest:
            return "longest"
        if len(text) < self.shortest:
            return "shortest"
        if self.values and text not in self.values:
            return "values"
        if self.regex and not re.fullmatch(self.regex, text):
            return "regex"
        if self.nonempty and not text:
            return "nonempty"
        return "blank" if self.nonblank and not text else ""

    def problem_of_list(self, elements: list[Any]) -> str:
        if self.nonempty and not elements:
            return "nonempty"
        if None in elements:
            return "null"
        return "blanks" if self.nonblank and "" in elements else ""

    def problem_of_number(self, number: float) -> str:
        if self.above is not None and number <= self.above:
            return "above"
        if self.below is not None and number >= self.below:
            return "below"
        if self.low is not None and not self.low <= number <= self.high:
            return "bytes" if self.unit else "range"
        return ""

    def explain(self, problem: str, value: Any, sentences: dict[str, str], **words: Any) -> str:
        """Return the sentence for a problem, with the attributes, the value and `words` put in."""
        length = len(value) if isinstance(value, str) else 0
        choices = ", ".join(self.values)
        words |= {"value": value, "length": length, "choices": choices}
        return sentences[problem].format(**vars(self), **words)


@functools.cache
def parse_constraint(word: str) -> Item:
    """Return the attributes of a ValueSpec that a word sets: "1..9" -> {"low": 1, "high": 9}."""
    if word in FLAGS:
        return {word: True}
    if match := re.fullmatch(r"(<=|>=|<|>)(-?\d+)", word):
        return {LIMITS[match[1]]: int(match[2])}
    if match := re.fullmatch(r"(-?\d+)\.\.(\d+)(bytes)?", word):
        return {"low": int(match[1]), "high": int(match[2]), "unit": match[3] or ""}
    if match := re.fullmatch(r"@(\w+)(\?)?(any)?", word):
        return {"refers": match[1], "may_be_gone": bool(match[2]), "any_form": bool(match[3])}
    if match := re.fullmatch(r"\{(\S+)\}", word):
        return {"values": tuple(match[1].split("|"))}
    if match := re.fullmatch(r"/(\S+)/", word):
        return {"regex": match[1]}
    raise ValueError(f"{word!r} is no constraint{did_you_mean(word, FLAGS)}")


# The sentences of the server for an illegal parameter (APIMessage.java).
PARAMETER_PROBLEMS = {
    "longest": "{where} exceeds max length of string. "
    "expected was <= {longest}, actual was {length}",
    "shortest": "{where} less than the min length of string. "
    "expected was >= {shortest}, actual was {length}",
    "required": "{where} is mandatory, can not be null",
    "values": "valid value for {where} are [{choices}], but {value} found",
    "regex": "valid regex value for {where} are {regex}, but {value} found",
    "nonempty": "field[{name}] must be a nonempty list",
    "null": "field[{name}] cannot contain a NULL element",
    "blank": "field[{name}] cannot be an empty string",
    "blanks": "field[{name}] cannot contain any empty string",
    "range": "field[{name}] must be in range of [{low}, {high}]",
    "bytes": "field[{name}] must be in range of [{low} byte, {high} bytes]",
}


# reading JSON values


def text_of(value: Any) -> str:
    """Return a JSON value as text: true -> "true"."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def gson_word(value: Any) -> str:
    """Return the word of Gson's errors for a JSON value."""
    words = {dict: "BEGIN_OBJECT", list: "BEGIN_ARRAY", str: "STRING", bool: "BOOLEAN"}
    return "NULL" if value is None else words.get(type(value), "NUMBER")


def gson_error(expected: str, value: Any, name: str) -> TypeError:
    exception = "java.lang.IllegalStateException"
    return TypeError(f"{exception}: Expected {expected} but was {gson_word(value)} at field {name}")


def read_text(spec: ValueSpec, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise gson_error("a string", value, spec.name)
    if isinstance(value, bool):
        return text_of(value)
    if isinstance(value, (int, float)):
        if abs(value) > sys.float_info.max:
            reason = "java.lang.NumberFormatException: a number without end"
            raise TypeError(f"{reason} at field {spec.name}")
        return str(float(value))  # the server reads bodies as untyped maps: 123 becomes "123.0"
    return value if spec.verbatim else value.strip()


def read_whole(spec: ValueSpec, value: Any) -> int:
    bits = 31 if spec.type == "int" else 63
    try:
        if isinstance(value, (bool, dict, list)):
            raise ValueError
        is_exact = isinstance(value, int) or re.fullmatch(r"[-+]?\d{1,30}", str(value).strip())
        number = int(value) if is_exact else float(value)
        if number != int(number) or not -(1 << bits) <= number < 1 << bits:
            raise ValueError
    except (ValueError, OverflowError):
        # The words of TypeVerifier.java.
        verdict = f"is excepted an int or long, but was [{text_of(value)}]."
        raise FrontError(400, f"[{spec.name}] field {verdict}") from None
    return int(number)


def read_fraction(spec: ValueSpec, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        verdict = f"is excepted a double, but was [{text_of(value)}]."
        raise FrontError(400, f"[{spec.name}] field {verdict}") from None


def read_bool(spec: ValueSpec, value: Any) -> bool:
    word = text_of(value).strip().lower()
    if word not in ("true", "false"):
        verdict = f"[{text_of(value)}] is not a valid boolean string[true, false]."
        raise FrontError(400, f"Invalid value for boolean field [{spec.name}], {verdict}")
    return word == "true"


def read_list(spec: ValueSpec, value: Any) -> list[str | None]:
    if not isinstance(value, list):
        raise gson_error("BEGIN_ARRAY", value, spec.name)
    return [None if element is None else read_text(spec, element) for element in value]


def read_map(spec: ValueSpec, value: Any) -> Item:
    if not isinstance(value, dict):
        raise gson_error("BEGIN_OBJECT", value, spec.name)
    return value


def read_maps(spec: ValueSpec, value: Any) -> list[Item]:
    if not isinstance(value, list):
        raise gson_error("BEGIN_ARRAY", value, spec.name)
    return [read_map(spec, element) for element in value]


# reading texts, of global configurations and system tags

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_of(text: str) -> int | None:
    """Return the bytes of a size, or None: "1G" -> 1073741824."""
    match = re.fullmatch(r"([0-9]{1,15})\s*([BKMGT]?)B?", text.strip(), re.I | re.A)
    return int(match[1]) * UNITS[match[2].upper()] if match else None


def whole_of(text: str, bits: int = 63) -> int | None:
    """Return the integer in a text, or None if it is none or does not fit into the bits."""
    number = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else 1 << bits
    return number if -(1 << bits) <= number < 1 << bits else None


def bool_of(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def int_of(text: str) -> int | None:
    return whole_of(text, 31)


@dataclass(frozen=True)
class Type:
    """A type of values: how JSON and texts are read, and its names for people."""

    noun: str
    read: Callable[[ValueSpec, Any], Any]
    parse: Callable[[str], Any] = str
    words: str = "a text"


TYPES = {
    "str": Type("text", read_text),
    "int": Type("number", read_whole, int_of, "an integer"),
    "long": Type("number", read_whole, whole_of, "an integer"),
    "double": Type("number", read_fraction),
    "bool": Type("true or false", read_bool, bool_of, "true or false"),
    "date": Type("date", read_text),
    "list": Type("list of texts", read_list, lambda text: text.split(",")),
    "map": Type("JSON object", read_map),
    "maps": Type("list of JSON objects", read_maps),
    "any": Type("JSON value", lambda spec, value: value),
    "size": Type(
        "size",
        read_text,
        size_of,
        "a size string, a number with suffix T, G, M, K, B or without suffix",
    ),
}


# ---- Catalogue -----------------------------------------------------------------------------------

# data/catalogue.json is a TinyDB file with a table for each class of rows below. It is read once in
# a process, and its clauses are parsed then. A wrong one is an error that names row and clause.
# A file of --catalogue has some of these tables. A table may also be a list of rows. Its rows are
# added, or replace the rows of the same name (see IDENTIFIERS).
#
# The clauses of rows are written in these words:
#
#     A name is a parameter of the call or, if it has none of that name, a field of the object that
#     the call is about; its.name is the field in any case. A dot goes on to the object that a uuid
#     leads to: vmNicUuid.ip. `caller` is the account that calls, `other` the object that `some` or
#     a function has met, `now` a date, configured.vm.numa a global configuration. a|b is the first
#     of two that is there. All else is a value: Enabled, 22, 10G, 'https', '/a/{its.uuid}', true,
#     false, none.
#
#     conditions   vmNicUuid        is there
#                  no vmNicUuid     is not there
#                  state is A|B     is one of them
#                  state is not A|B is there, and none of them
#                  dns is IPv4      has a form of text (FORMS)
#                  a in b           b is a list, a range '{x}-{y}' or the hosts of '10.0.0.0/8'
#                  a not in b       is there, and not in it
#                  a > b   a < b    compares numbers or addresses
#                  several a        a list with more than one element
#                  repeated a       an element that the list a has twice
#                  some User name accountUuid=caller     such an object exists
#                  no Eip vipUuid vmNicUuid.ip=ip        no such object exists
#                                   (a list of values: with one of them)
#                  is_away          calls the function of that name (see `named_in_rows`)
#                  A and B          both
#     effects      state = Stopped     sets a field of the object: vipUuid.useFor = Eip of another
#                  port ?= otherPort   sets a field that is not there yet
#                  dns + dns           adds an element to a list, dns - dns removes one
#                  add Ref a=b c       adds an object, if all its values are there
#                  drop Ref a=b c      removes the objects with these values
#                  remove              removes the object with all that dies with it
#                  tag a::{b}          puts a system tag in the place of those that begin with a::
#                  tag once a::{b}     the same, if there are none
#                  untag a::           removes the system tags that begin with a::
#                  when A: E           an effect where a condition holds
#                  stage copy: Copy    lets time pass under that sentence
#                  nothing             answers the inventory only
#                  take_vni            calls the function of that name (see `named_in_rows`)
#
# Effects stand in place of what the verb of the API does. Create, Add, Update and Change...State do
# both. A clause that names a list parameter is for each of its elements. One that names map.key
# and map.value is for each entry, of which map.values has all with that key. A refusal with
# SYS.1007 that names parameters only is an illegal parameter. What a creation is about is the
# object that is to be.


@dataclass
class JavaClass:
    """A class or an enum of the server, for typed clients: they parse answers into its objects.

    constants   the values of an enum; empty for a class
    members     the members that hold objects or enums: {"vmNics": Member(<VmNicInventory>, True)}
    kinds       the subclasses, by the value of the field `discriminator`
    """

    name: str
    discriminator: str = ""
    constants: tuple[str, ...] = ()
    members: dict[str, Member] = field(default_factory=dict, repr=False, compare=False)
    kinds: dict[str, JavaClass] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def simple(self) -> str:
        """Return the name without its package and its outer class."""
        return re.split("[.$]", self.name)[-1]

    def of(self, item: Item) -> JavaClass:
        """Return the most specific class of an item: KVMHostInventory for a host of KVM."""
        kind = self.kinds.get(item.get(self.discriminator))
        return kind.of(item) if kind else self

    def family(self) -> list[JavaClass]:
        """Return the class and its subclasses, at any depth."""
        classes = [self]
        for kind in self.kinds.values():
            classes += kind.family()
        return classes


@dataclass(frozen=True)
class Member:
    """The Java class of a member of an object; with `many`, of the items of a list.

    Items that have the members of the class `other` are of that class.
    """

    java: JavaClass
    many: bool = False
    other: JavaClass | None = None

    def java_of(self, value: Any) -> JavaClass:
        if self.other and isinstance(value, dict) and self.other.members.keys() <= value.keys():
            return self.other
        return self.java


# rows of APIs

@dataclass(eq=False)
class Api:
    """One API of ZStack, a record of the table `apis`.

    name      "CreateZone"
    call      "POST /zones": the method and the path
    answers   "inventory:Zone": the members of the answer, with the resource that an inventory shows
    package   the Java package of its message, which error texts name
    backing   how it is simulated: "manual", "server", "generic" (parameters and fields alone) or
              "none" (501)
    caller    "admin": normal accounts may not call it, unless identity/account.api.control lists it
    actionless  its message has no @Action: in a batch query it finds nothing for normal accounts
    takes     its parameters, see the section Values
    open      needs no session
    now       answers at once although it is no GET
    later     is a job although it is a GET
    whole     answers all members of the server's reply, `success` too
    bare      takes no body
    line      the parameter with the object for which its calls wait for each other, instead of the
              object that they act on
    unnamed   its parameters are inside "", as well as inside params
    by_uuid   False for a query that has no GET by uuid
    does      the effects that it has besides its verb
    refuses   (condition, error code, details), in the order in which they are checked. The code
              may have causes: "VM.1001 <- VM.1010". They have the same details if these are not
              written likewise. A fourth word, job, is for what the work itself refuses: a long
              job begins nevertheless, and fails
    fails     the code that wraps an error which comes up on the way, or two: "VM.1 <- VM.1"
    long      "always" a long job, "possible" as one, or "cancellable" as one
    asks      "vm.num = 1 when no hostUuid": the quotas that it uses up, besides one of what it
              creates if that is not named here
    only      the conditions for the inventories that a Get answers
    public    these are of all accounts
    tells     {"mtu:int =1500": "l3NetworkUuid::{l3NetworkUuid}::mtu::"}: the members that a Get
              reads from the system tag of its object which begins so, each with type and default
    sums      the resource whose items a Get adds up, `by` the fields {parameter: field} that choose
              them: the first parameter that is given counts, and without a field it means all
    always    the value that a Get answers
    whether   the condition, or the conditions by name, whose truth a Get answers
    plain     answers the inventory without what the subtypes of the resource add
    holds     the classes of members that are no inventories: "result:CloneVmInstanceResults" is an
              object, "usages:[QuotaUsage]" a list, "inventories:[L3Network|Image]" a list of either
    """

    name: str
    call: str
    answers: str = ""
    package: str = ""
    backing: str = "none"
    caller: str = ""
    actionless: bool = False
    takes: tuple[str, ...] = ()
    open: bool = False
    now: bool = False
    later: bool = False
    whole: bool = False
    bare: bool = False
    line: str = ""
    unnamed: bool = False
    by_uuid: bool = True
    does: tuple[str, ...] = ()
    refuses: tuple[tuple[str, ...], ...] = ()
    fails: str = ""
    long: str = ""
    asks: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    public: bool = False
    tells: dict[str, str] = field(default_factory=dict)
    sums: str = ""
    by: dict[str, str] = field(default_factory=dict)
    always: Any = None
    whether: str | dict[str, str] = ""
    plain: bool = False
    holds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.behaviour = BEHAVIOURS.get(self.name.lower())
        self.members: dict[str, Member] = {}  # those of an answer that hold objects
        self.refusals: list[Refusal] = []
        self.clauses: list[Clause] = []
        self.conditions: dict[str, RowCondition] = {}
        self.facts: list[Fact] = []
        self.charges: list[Charge] = []

    def compile(self, catalogue: Catalogue) -> None:
        """Parse the clauses of a simulated API. Raise ValueError for a wrong one."""
        check_word(self.backing, ("manual", "server", "generic", "none"), "backing")
        check_word(self.caller, ("", "admin"), "caller")
        check_word(self.long, ("", "always", "possible", "cancellable"), "kind of long job")
        if self.kind == "Query" and not re.fullmatch(r"inventories:\w+", self.answers):
            raise ValueError(f"{self.answers!r}: a query answers inventories of a resource")
        self.members = catalogue.members_answered(self)
        self.check_references(catalogue)
        if self.backing == "none":
            return  # nothing reads the rest of its row
        if self.kind == "Query":
            self.check_query(catalogue)
        if self.creates and not self.behaviour:
            check_word(self.type, catalogue.resources, "resource")
            check_uuid(catalogue.resources[self.type])
        subject = self.subject.refers if self.subject else ""
        parser = RowParser(catalogue, (self.type, subject), self.params)
        self.refusals = [parser.refusal(clause) for clause in self.refuses]
        self.clauses = parser.clauses(self.does)
        truths = {self.answers: self.whether} if isinstance(self.whether, str) else self.whether
        texts = {text: text for text in self.only} or truths
        self.conditions = {name: parser.condition(text) for name, text in texts.items() if text}
        self.facts = [Fact(ValueSpec.parse(text), begin) for text, begin in self.tells.items()]
        for sentence in self.tells.values():
            parser.check_sentence(sentence)
        self.charges = [parser.charge(text) for text in self.asks]

    def check_references(self, catalogue: Catalogue) -> None:
        """Raise ValueError for a parameter, resource, error code or field that does not exist."""
        check_unique("takes", [ValueSpec.parse(text).name for text in self.takes])
        for param in self.params.values():
            self.check_param(catalogue, param)
        for type in re.findall(r"\w+:(\w+)", self.answers):
            check_word(type, catalogue.classes, "resource")
        for name in re.findall(r"{(\w+)}", self.path):
            check_word(name, self.params, "parameter")
        for code in filter(None, self.fails.split(" <- ")):
            check_word(code, catalogue.errors, "error code")
        if self.line:
            check_word(self.line, self.params, "parameter")
        if self.sums:
            check_word(self.sums, catalogue.resources, "resource")
            fields = catalogue.item_fields(self.sums)
            for name in (*self.answers.split(), *filter(None, self.by.values())):
                check_word(name, fields, f"field of {self.sums}")
            for name in self.by:
                check_word(name, self.params, "parameter")

    def check_query(self, catalogue: Catalogue) -> None:
        """Raise ValueError for a query if its resource has another path, and no query there."""
        check_word(self.type, catalogue.resources, "resource")
        row = catalogue.resources[self.type]
        call = f"GET /{row.path}"
        if not any(api.call == call and api.type == self.type for api in catalogue.apis.values()):
            raise ValueError(f"it queries {self.path}, but the path of {row.name} is {row.path!r}")
        if self.by_uuid:
            check_uuid(row)

    def check_param(self, catalogue: Catalogue, param: ValueSpec) -> None:
        """Raise ValueError for a constraint, a reference or a default that cannot be."""
        if param.above is not None or param.below is not None:
            raise ValueError(f"{param.name}: the range of a parameter is written 1..9")
        if param.regex:
            re.compile(param.regex)
        if param.refers and param.refers != "Resource":
            check_word(param.refers, catalogue.resources, "resource")
        if param.default is None:
            return
        try:
            problem = param.problem(param.read(param.default))
        except (TypeError, FrontError):
            problem = "type"
        if problem:
            raise ValueError(f"{param.name}: its default {param.default!r} is not legal")

    @functools.cached_property
    def params(self) -> dict[str, ValueSpec]:
        return {param.name: param for param in map(ValueSpec.parse, self.takes)}

    @functools.cached_property
    def kind(self) -> str:
        """Return the first word of the name: Query, Create, Change, Delete, ..."""
        return re.match(r"[A-Z][a-z]*", self.name)[0]

    @functools.cached_property
    def type(self) -> str:
        """Return the resource that is answered, or the one that the path names, or ""."""
        if answered := re.search(r":(\w+)", self.answers):
            return answered[1]
        return self.target.refers if self.target else ""

    @functools.cached_property
    def method(self) -> str:
        return self.call.split(" ")[0]

    @functools.cached_property
    def path(self) -> str:
        return self.call.split(" ")[1]

    @functools.cached_property
    def paths(self) -> tuple[str, ...]:
        if self.kind == "Query" and self.by_uuid:
            return (self.path, self.path + "/{uuid}")
        return (self.path,)

    @functools.cached_property
    def shapes(self) -> list[str]:
        """Return the paths without the names of their variables: "/zones/{}"."""
        return [re.sub(r"{\w+}", "{}", path) for path in self.paths]

    @functools.cached_property
    def key(self) -> str:
        """Return the member of a body with the parameters: params, or an action."""
        return "params" if self.method == "POST" else self.name[0].lower() + self.name[1:]

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """Return the members of a body that may hold the parameters.

        The server names no member for the parameters of some POSTs (RestRequest.java
        parameterName), and "null" for two of those without any. The Java SDK then sends {"": ...}
        or {"null": ...}.
        """
        if self.bare:
            return ("", "null")
        return ("", "params") if self.unnamed else (self.key,)

    @functools.cached_property
    def at_once(self) -> bool:
        """Return True if a call is answered at once, False if it is a job."""
        return not self.later if self.method == "GET" else self.now

    @functools.cached_property
    def stages(self) -> dict[str, str]:
        """Return the stages of a job with the sentence that its progress shows."""
        return self.behaviour.stages if self.behaviour else self.stages_of_row

    @functools.cached_property
    def stages_of_row(self) -> dict[str, str]:
        effects = [clause.effect for clause in self.clauses]
        return {effect.name: effect.sentence for effect in effects if isinstance(effect, Stage)}

    @property
    def message(self) -> str:
        """Return the Java class that the server's error texts name."""
        return f"{self.package or 'org.zstack.header'}.API{self.name}Msg"

    @functools.cached_property
    def named(self) -> list[ValueSpec]:
        """Return the parameters that name an object: those in the path, and uuid."""
        params = [param for param in self.params.values() if param.refers]
        return [param for param in params if param.name == "uuid" or self.has_in_path(param)]

    def has_in_path(self, param: ValueSpec) -> bool:
        return f"{{{param.name}}}" in self.path

    @functools.cached_property
    def target(self) -> ValueSpec | None:
        """Return the parameter that names the object acted on."""
        return next(iter(self.named), None)

    @functools.cached_property
    def subject(self) -> ValueSpec | None:
        """Return the parameter that names the object whose fields the clauses of the row name.

        It refers to what is answered, else it is the target, else it is the first reference.
        """
        for param in self.named:
            if param.refers == self.type:
                return param
        if self.creates:
            return None
        references = (param for param in self.params.values() if param.refers)
        return self.target or next(references, None)

    @functools.cached_property
    def creates(self) -> bool:
        """Return True for an API that makes one object."""
        makes_one = self.kind in ("Create", "Add") and "inventories:" not in self.answers
        return makes_one and bool(self.type) and self.type not in {p.refers for p in self.named}


# rows of resources


@dataclass(frozen=True)
class Relation:
    """The way of a query from one resource to another.

    It leads to the items of `target` whose key `theirs` is among the values of `own`. An alias
    leads through other relations instead (`via`). A hidden relation may be queried, but is not
    listed. One with a weight, "1 Zone", is for `restrict by` of ZQL alone.
    """

    name: str
    own: str = ""
    target: str = ""
    theirs: str = ""
    via: tuple[str, ...] = ()
    hidden: bool = False

    @classmethod
    def parse(cls, text: str) -> Relation:
        """Return the relation of a text: "zone: zoneUuid=Zone.uuid", hidden "-ref: uuid=...".

        An alias is "backupStorage: backupStorageRefs.backupStorage".
        """
        name, _, way = text.partition(": ")
        hidden = name.startswith("-")
        own, joins, place = way.partition("=")
        if not joins:
            return cls(name.lstrip("-"), via=tuple(way.split(".")), hidden=hidden)
        target, _, theirs = place.partition(".")
        return cls(name.lstrip("-"), own, target, theirs, hidden=hidden)


@dataclass(frozen=True)
class Place:
    """The list of the owner's items in which the items of an inside resource lie.

    An image with `backupStorageRefs: [{"backupStorageUuid": "b", "status": "Ready"}]` holds an
    ImageBackupStorageRef with these two and its own `imageUuid`; a primary storage with
    `attachedClusterUuids: ["c"]` a PrimaryStorageClusterRef with `clusterUuid` "c".
    """

    key: str
    owner: str
    list_name: str
    value: str

    @property
    def index(self) -> str:
        """Return the owner's key for what its list refers to."""
        return f"{self.list_name}.{self.value}"

    def rows(self, item: Item) -> list[Item]:
        """Return the elements of the list of an owner, each as an item."""
        rows = []
        for number, element in enumerate(item.get(self.list_name, ())):
            fields = element if isinstance(element, dict) else {self.value: element}
            rows.append({"uuid": f"{item['uuid']}/{number:06d}", self.key: item["uuid"]} | fields)
        return rows


@dataclass(frozen=True)
class Resource:
    """One kind of resource, a record of the table `inventories`.

    path           the collection, "vm-instances/nics"
    java           the class of its inventory
    of             the resource that it is a subtype of; its items are stored there, and it lists
                   what it adds only
    only           which items of that resource are its own: {"type": "A|B"}
    discriminator  the field that tells the subtypes apart
    kinds          subtypes without a collection: {"KVM": [Java class, field, ...]} by the value of
                   the discriminator
    owner          the owner of a new item: "caller", or that of what a key leads to
                   ("vmInstanceUuid")
    account        the field that says whose an item is
    line           the key to the item in whose line the calls on an item stand: "vmInstanceUuid"
    unreferenced   no AccountResourceRef tells of its items
    soft_deleted   a shadow stays of a deleted item: its uuid is never free again
    field_words    "cpuNum:int": a field and its type, str when none is given
    joined         fields that the server keeps in another table: conditions may name them, `fields`
                   may not
    hidden         fields that items have and no inventory shows; a cloud file may hold them too
    indexed        fields to find items by, besides names, states and what relations go through
    relation_words see Relation.parse
    embeds         the relations that an inventory shows as a list
    inside         where its items lie in a list of another resource, see Place:
                   "imageUuid=Image.backupStorageRefs.backupStorageUuid"
    new            the values that an item starts with when its creation does not give them
    needs          fields that behaviours rely on, "hypervisorType=KVM" with what stands for a
                   missing one
    inherits       effects that give an item of a file what it lacks:
                   "zoneUuid ?= clusterUuid.zoneUuid"
    dies_with      "zoneUuid", "ipRangeUuid:IpRange": an item ends with the item that this key leads
                   to (A|B: one of two), with the resource where no relation names it
    outlives       "vmNicUuid,guestIp": the key is lost with its end, and so are the fields after it
    remembers      keys that keep the uuid of an item that was deleted, on the server too
    switches       "Cluster.zoneUuid": the items that change their state with it
    ends           the effects of its removal, as Api.does
    interrupted    what a restart of the management node makes of a state or status that does not
                   last: {"Connecting": {"status": "Connected"}}; {} removes the item
    tags           the patterns of its system tags; {} is any text, {uuid} the uuid of another item
    values         the values that a field can have: {"state": ["Enabled", "Disabled"]}
    holds          "dns:[VpcRouterDns]", "state:LongJobState": the Java classes of its other members
    """

    name: str
    java: str
    path: str = ""
    of: str = ""
    only: dict[str, str] = field(default_factory=dict)
    discriminator: str = ""
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owner: str = ""
    account: str = ""
    line: str = ""
    unreferenced: bool = False
    soft_deleted: bool = False
    field_words: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    indexed: tuple[str, ...] = ()
    relation_words: tuple[str, ...] = ()
    embeds: tuple[str, ...] = ()
    inside: str = ""
    new: Item = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    inherits: tuple[str, ...] = ()
    dies_with: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    remembers: tuple[str, ...] = ()
    switches: str = ""
    ends: tuple[str, ...] = ()
    interrupted: dict[str, Item] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    @functools.cached_property
    def fields(self) -> dict[str, str]:
        return types_of(self.field_words)

    @functools.cached_property
    def all_fields(self) -> dict[str, str]:
        """Return the fields of the resource and of its subtypes, which an inventory shows."""
        fields = dict(self.fields)
        for _, *words in self.kinds.values():
            fields |= types_of(words)
        return fields

    @functools.cached_property
    def worded(self) -> list[str]:
        """Return the fields that inventories show in other words: dates, references with dates."""
        return [name for name, type in self.all_fields.items() if type in ("date", "maps")]

    @functools.cached_property
    def relations(self) -> dict[str, Relation]:
        return {relation.name: relation for relation in map(Relation.parse, self.relation_words)}

    @functools.cached_property
    def leads(self) -> dict[str, str]:
        """Return the resources that keys lead to: {"zoneUuid": "Zone"}."""
        leads = {}
        for relation in self.relations.values():
            if relation.theirs == "uuid":
                leads[relation.own] = relation.target
        for word in (*self.dies_with, *self.outlives):
            key, _, type = word.split(",")[0].partition(":")
            if type and "|" not in type:
                leads[key] = type
        return leads

    @property
    def listed(self) -> list[str]:
        """Return the names of the relations that a query is offered."""
        return [name for name, relation in self.relations.items() if not relation.hidden]

    @functools.cached_property
    def place(self) -> Place:
        return Place(*re.split("[=.]", self.inside))

    @property
    def stored(self) -> str:
        """Return the resource whose items its own are among."""
        return self.of or self.name

    @property
    def table(self) -> str:
        """Return the name of the table that its items are read from."""
        return self.place.owner if self.inside else self.stored

    def has(self, item: Item) -> bool:
        """Return True if an item that is stored where its own are is one of them."""
        return all(item.get(name) in value.split("|") for name, value in self.only.items())

    @functools.cached_property
    def indexes(self) -> set[str]:
        """Return the fields by which items are found without a scan."""
        keys = {relation.own for relation in self.relations.values() if relation.own}
        usual = self.all_fields.keys() & {"name", "state", "status"}
        return (usual | {*self.indexed} | keys) - {"uuid"}

    def allows_tag(self, tag: str) -> bool:
        """Return True if a system tag matches one of the patterns, segment by segment."""
        return any(parts_of(pattern, tag) is not None for pattern in self.tags)

    def compile(self, catalogue: Catalogue) -> None:
        """Parse the clauses and the references. Raise ValueError for a wrong one."""
        for name in self.embeds:
            check_word(name, self.relations, "relation")
        if self.switches:
            type, _, key = self.switches.partition(".")
            check_word(type, catalogue.resources, "resource")
            check_word(key, catalogue.item_fields(type), f"field of {type}")
        parser = RowParser(catalogue, [self.name])
        catalogue.endings[self.name] = parser.clauses(self.ends)
        catalogue.inherited[self.name] = parser.clauses(self.inherits)

    def check_fields(self, catalogue: Catalogue) -> None:
        """Raise ValueError for a type, a resource or a field that does not exist."""
        if self.name in NAMES_OF_ZMOCK:
            raise ValueError(f"zmock uses the name {self.name} itself; choose another")
        if self.name == "Session" and self.path:
            raise ValueError("path: sessions have none, for the uuid of a session is a secret")
        if not self.field_words:
            raise ValueError("fields is empty")
        names = catalogue.item_fields(self.name)
        for name, type in names.items():
            check_word(type, TYPES, f"type of {name},")
        words = [*self.new, *self.values, *self.only, *self.remembers, *self.joined]
        words += [*self.needs, *self.indexed, self.discriminator, self.account]
        for word in (*self.dies_with, *self.outlives):
            words += word.split(",")
            for type in re.findall(r"\w+", word.partition(",")[0].partition(":")[2]):
                check_word(type, catalogue.resources, "resource")
        if self.inside:
            words.append(self.place.key)
            check_word(self.place.owner, catalogue.resources, "resource")
            lists = catalogue.item_fields(self.place.owner)
            check_word(self.place.list_name, lists, f"field of {self.place.owner}")
        for relation in self.relations.values():
            words.append(relation.own)
            self.check_relation(catalogue, relation)
        for word in filter(None, words):
            check_word(re.split("[=.:]", word)[0], names, "field")
        if self.owner not in ("", "caller"):
            check_word(self.owner, self.leads, "key that leads to an owner:")

    def check_relation(self, catalogue: Catalogue, relation: Relation) -> None:
        if relation.via:
            check_word(relation.via[0], self.relations, "relation")
            return
        check_word(relation.target, catalogue.resources, "resource")
        names = catalogue.item_fields(relation.target)
        check_word(relation.theirs.partition(".")[0], names, f"field of {relation.target}")


def check_uuid(row: Resource) -> None:
    """Raise ValueError for a resource whose inventories no client could name in a call."""
    if "uuid" not in row.all_fields:
        raise ValueError(f"the fields of {row.name} lack uuid")


def check_unique(key: str, names: Sequence[str]) -> None:
    """Raise ValueError if a key of a row has a name twice."""
    if len({*names}) < len(names):
        raise ValueError(f"{key} names {repeated(names)} twice")


def repeated(names: Iterable[str]) -> str:
    """Return the name that is there most often."""
    return Counter(names).most_common(1)[0][0]


def types_of(words: Sequence[str]) -> dict[str, str]:
    """Return the types of fields: ("name", "cpuNum:int") -> {"name": "str", "cpuNum": "int"}."""
    types = {}
    for word in words:
        name, _, type = word.partition(":")
        types[name] = type or "str"
    return types


def parts_of(pattern: str, tag: str) -> dict[str, str] | None:
    """Return the {parts} of a pattern in a system tag, or None if the tag does not match.

    parts_of("staticIp::{l3}::{ip}", "staticIp::a::10.0.0.2") -> {"l3": "a", "ip": "10.0.0.2"}
    """
    wanted, segments, parts = pattern.split("::"), tag.split("::"), {}
    if len(wanted) != len(segments):
        return None
    for want, segment in zip(wanted, segments):
        if want[:1] == "{":
            parts[want[1:-1]] = segment
        elif want != segment:
            return None
    return parts


# other rows


@dataclass(frozen=True)
class Configuration:
    """A global configuration, "host/load.all": its category and its name.

    `value` is its type and constraints, see the section Values.
    """

    name: str
    value: str = "str"
    default: str | None = None
    description: str = ""

    def compile(self, catalogue: Catalogue) -> None:
        if self.default and self.fault(self.default):
            raise ValueError(f"its default {self.fault(self.default)}")

    @functools.cached_property
    def spec(self) -> ValueSpec:
        return ValueSpec.parse(f"value:{self.value}")

    @functools.cached_property
    def usual(self) -> Any:
        """Return the default as its type."""
        return TYPES[self.spec.type].parse(self.default)

    def read(self, text: str) -> Any:
        """Return a value as its type, the default for an illegal one."""
        if text == self.default or self.fault(text):
            return self.usual
        return TYPES[self.spec.type].parse(text)

    def fault(self, text: Any) -> str:
        """Return the reason why a value is illegal, or ""."""
        if not text:
            return "" if self.spec.optional else "cannot be null or empty"
        if not isinstance(text, str):
            return f"is a text, not {text}"
        type = TYPES[self.spec.type]
        value = type.parse(text)
        if value is None:
            return f"only allows {type.words}, but got {text}"
        problem = self.spec.problem(value)
        if not problem:
            return ""
        sentence = self.spec.explain(problem, value, CONFIGURATION_PROBLEMS)
        return sentence + (did_you_mean(text, self.spec.values) if problem == "values" else "")

    @property
    def item(self) -> Item:
        """Return it as it is stored until somebody changes it."""
        category, _, name = self.name.partition("/")
        item = {"uuid": self.name, "category": category, "name": name}
        item["description"] = self.description
        if self.default is not None:
            item |= {"defaultValue": self.default, "value": self.default}
        return item


CONFIGURATION_PROBLEMS = {
    "above": "should be greater than {above}, but got {value}",
    "below": "should be less than {below}, but got {value}",
    "range": "should be in range of [{low}, {high}], but got {value}",
    "values": "only allows [{choices}], but got {value}",
}


@dataclass(eq=False)
class Quota:
    """A quota of an account: the number of items of a type, or the sum of a field of theirs.

    With `when`, only the items for which this condition holds count. The default of a quota is the
    global configuration of that name in the category quota. The error of an API in `brief` does not
    tell what is used and what is wanted.
    """

    name: str
    type: str
    field: str = ""
    when: str = ""
    brief: tuple[str, ...] = ()

    def compile(self, catalogue: Catalogue) -> None:
        check_word(self.type, catalogue.resources, "resource")
        check_word(f"quota/{self.name}", catalogue.configurations, "global configuration")
        if self.field:
            check_word(self.field, catalogue.item_fields(self.type), f"field of {self.type}")
        for api in self.brief:
            check_word(api, catalogue.apis, "API")
        parser = RowParser(catalogue, [self.type])
        self.condition = parser.condition(self.when) if self.when else None


@dataclass(eq=False)
class TagRule:
    """A rule that refuses a system tag.

    `tag` names the parts of the tag, and `when` is a condition on them.
    """

    type: str
    tag: str
    when: str
    details: str

    def compile(self, catalogue: Catalogue) -> None:
        check_word(self.type, [f"{name}VO" for name in catalogue.resources], "type")
        parser = RowParser(catalogue, names=parts_of(self.tag, self.tag))
        self.condition = parser.condition(self.when)


@dataclass(frozen=True)
class Provider:
    """A provider of network services that every cloud has."""

    type: str
    services: tuple[str, ...]
    name: str = ""
    description: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric of the virtual machines or of the hosts.

    load    cpu, memory, read, write, in or out
    shows   what is used of it or free, or that in percent
    labels  for each a field of the object, "cpu" for the number of a processor, or its value
    """

    namespace: str
    name: str
    type: str
    load: str
    shows: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Struct:
    """A class of objects that no query reaches: they are only parts of answers."""

    name: str
    java: str
    field_words: tuple[str, ...]
    holds: tuple[str, ...] = ()

    @functools.cached_property
    def fields(self) -> dict[str, str]:
        return types_of(self.field_words)

    def compile(self, catalogue: Catalogue) -> None:
        check_unique("fields", [word.partition(":")[0] for word in self.field_words])
        for name, type in self.fields.items():
            check_word(type, TYPES, f"type of {name},")


@dataclass(frozen=True)
class Enum:
    """An enum of the server."""

    name: str
    java: str
    constants: tuple[str, ...]


@dataclass(frozen=True)
class ErrorCode:
    """An error code of the server with its description."""

    code: str
    description: str


# functions that rows name

BEHAVIOURS: dict[str, Any] = {}  # the functions of APIs, by the name of the API in lower case
EFFECTS: dict[str, Any] = {}  # the functions that clauses name, by their own name


def named_in_rows(function: Callable) -> Callable:
    """Let rows name a function of (cloud, item, call) as an effect, or as a test if it is one."""
    EFFECTS[function.__name__] = function
    return function


# clauses


@dataclass(frozen=True)
class RowTest:
    """One test of a condition, of words.

    `some` and `none` are about items with pairs of values, `call` is a function that a row names.
    """

    kind: str
    subject: str
    words: tuple = ()


@dataclass(frozen=True)
class RowCondition:
    """A condition of a row: all tests have to hold, for one element of each list in `lists`."""

    text: str
    tests: tuple[RowTest, ...]
    lists: tuple[ListName, ...]


@dataclass(frozen=True)
class ListName:
    """A parameter by whose elements a clause is repeated; with `maps` also the entries of a map."""

    name: str
    maps: bool


@dataclass(frozen=True)
class Refusal:
    """A condition under which a call is refused; `of_parameters` if it names nothing else.

    A `late` one is an error of the work: a long job can be submitted nevertheless, and
    deleteMode=Enforcing ignores it.
    """

    condition: RowCondition
    codes: list[str]  # the outer one first
    texts: list[str]
    of_parameters: bool
    late: bool


@dataclass(frozen=True)
class Charge:
    """A quota that a call uses up: by the first of these words that is there."""

    quota: str
    words: tuple[str, ...]
    condition: RowCondition | None


@dataclass(frozen=True)
class Fact:
    """A member of an answer that is read from a system tag, and how the tag begins."""

    value: ValueSpec
    begin: str


@dataclass(frozen=True)
class Assign:
    """`way.field sign word`: the signs are =, ?=, + and -."""

    way: str
    field: str
    sign: str
    word: str


@dataclass(frozen=True)
class Add:
    type: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Drop:
    type: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tag:
    text: str
    once: bool  # only if the object has no tag that begins alike


@dataclass(frozen=True)
class Untag:
    begin: str


@dataclass(frozen=True)
class When:
    condition: RowCondition
    clause: Clause


@dataclass(frozen=True)
class Stage:
    name: str
    sentence: str


@dataclass(frozen=True)
class Remove:
    pass


@dataclass(frozen=True)
class Perform:
    """A call of a function that a row names."""

    function: Callable


RowEffect = Assign | Add | Drop | Tag | Untag | When | Stage | Remove | Perform


@dataclass(frozen=True)
class Clause:
    """An effect, repeated for each element of the lists that it names."""

    effect: RowEffect
    lists: tuple[ListName, ...] = ()


LITERALS = {"true": True, "false": False, "none": None}


def literal(word: str) -> Any:
    """Return the value of a word that is no name: "22" -> 22, "10G" -> its bytes."""
    if word in LITERALS:
        return LITERALS[word]
    if word[:1].isdigit() and (size := size_of(word)) is not None:
        return size
    return word.strip("'")


def is_name(word: str) -> bool:
    return word[:1].islower() and word not in LITERALS


def names_in(word: str) -> list[str]:
    """Return the names in a word with alternatives: "a.b|'c'" -> ["a.b"]."""
    return list(filter(is_name, word.split("|")))


def pairs_of(text: str) -> tuple[tuple[str, str], ...]:
    """Return the fields with the words for their values: "a=b c" -> (("a", "b"), ("c", "c"))."""
    pairs = []
    for word in text.split():
        field_name, _, value = word.partition("=")
        pairs.append((field_name, value or field_name))
    return tuple(pairs)


EFFECT_WORDS = ("add", "drop", "remove", "tag", "untag", "when", "stage", "nothing")


class RowParser:
    """Parses the clauses of one row. Raises ValueError for a word that means nothing there.

    types    the resources of the object that the clauses are about
    params   the parameters of the call
    names    other names that may be used: the parts of a system tag
    """

    def __init__(
        self,
        catalogue: Catalogue,
        types: Iterable[str] = (),
        params: dict[str, ValueSpec] | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self.catalogue, self.params = catalogue, params or {}
        self.types = [type for type in types if type in catalogue.resources]
        self.fields = {*names}
        for type in self.types:
            self.fields |= catalogue.names_in_items(type)

    def condition(self, text: str) -> RowCondition:
        tests = tuple(self.test(part, text) for part in text.split(" and "))
        words = []
        for test in tests:
            if test.kind in ("some", "none"):
                words += [word for _, word in test.words]
            elif test.kind in ("in", "not in"):
                words.append(test.subject)
            elif test.kind != "several":
                words += [test.subject, *test.words]
        return RowCondition(text, tests, self.lists(words))

    def test(self, text: str, clause: str) -> RowTest:
        if text in EFFECTS:
            return RowTest("call", text)
        if match := re.fullmatch(r"(some|no) ([A-Z]\w*)((?: \S+)*)", text):
            check_word(match[2], self.catalogue.resources, "resource")
            pairs = pairs_of(match[3])
            self.check_pairs(match[2], pairs, clause)
            return RowTest("some" if match[1] == "some" else "none", match[2], pairs)
        if match := re.fullmatch(r"(\S+) (is not|is|not in|in|<|>) (\S+)", text):
            self.check_names(match.group(1, 3), clause)
            return RowTest(match[2], match[1], tuple(match[3].split("|")))
        kind, _, name = text.partition(" ")
        if kind not in ("no", "several", "repeated"):
            kind, name = "there", text
        self.check_names([name], clause)
        return RowTest(kind, name)

    def refusal(self, clause: tuple[str, ...]) -> Refusal:
        text, code, details, *words = [*clause, "", "", ""][: max(3, len(clause))]
        if not details or words not in ([], ["job"]):
            raise ValueError(f"{clause!r}: a refusal is a condition, an error code and a text")
        codes = code.split(" <- ")
        for each_code in codes:
            check_word(each_code, self.catalogue.errors, "error code")
        condition = self.condition(text)
        self.check_sentence(details)
        of_parameters = self.is_of_parameters(condition)
        return Refusal(condition, codes, details.split(" <- "), of_parameters, bool(words))

    def is_of_parameters(self, condition: RowCondition) -> bool:
        """Return True if a condition names parameters only."""
        for test in condition.tests:
            if test.kind in ("some", "none", "call"):
                return False
            if not self.params.keys() >= set(filter(is_name, (test.subject, *test.words))):
                return False
        return True

    def charge(self, text: str) -> Charge:
        quota, _, rest = text.partition(" = ")
        words, _, condition = rest.partition(" when ")
        check_word(quota, self.catalogue.quotas, "quota")
        self.check_names([words], text)
        condition_of_row = self.condition(condition) if condition else None
        return Charge(quota, tuple(words.split("|")), condition_of_row)

    def clauses(self, texts: Iterable[str]) -> list[Clause]:
        return [self.clause(text) for text in texts if text != "nothing"]

    def clause(self, text: str) -> Clause:
        """Return the effect of a text."""
        word, _, rest = text.partition(" ")
        if match := re.fullmatch(r"(\S+) ([?]?=|[+-]) ('.*'|\S+)", text):
            self.check_names(match.group(1, 3), text)
            way, _, field_name = match[1].removeprefix("its.").rpartition(".")
            effect = Assign(way, field_name, match[2], match[3])
            return Clause(effect, self.lists([match[3]]))
        if word in ("add", "drop"):
            type, _, pairs_text = rest.partition(" ")
            check_word(type, self.catalogue.resources, "resource")
            pairs = pairs_of(pairs_text)
            self.check_pairs(type, pairs, text)
            lists = self.lists([value for _, value in pairs])
            return Clause(Add(type, pairs) if word == "add" else Drop(type, pairs), lists)
        if word == "when":
            condition, colon, inner = rest.partition(": ")
            if not colon:
                raise ValueError(f"{text!r}: it is written when CONDITION: EFFECT")
            return Clause(When(self.condition(condition), self.clause(inner)))
        if word == "stage":
            name, _, sentence = rest.partition(": ")
            if not sentence:
                raise ValueError(f"{text!r}: it is written stage NAME: SENTENCE")
            return Clause(Stage(name, sentence))
        if word in ("tag", "untag"):
            self.check_sentence(text)
        if word == "tag":
            return Clause(Tag(rest.removeprefix("once "), rest.startswith("once ")))
        if word == "untag":
            return Clause(Untag(rest))
        if text == "remove":
            return Clause(Remove())
        if text not in EFFECTS:
            better = did_you_mean(word, [*EFFECTS, *EFFECT_WORDS])
            raise ValueError(f"there is no effect {text!r}{better}")
        return Clause(Perform(EFFECTS[text]))

    def check_pairs(self, type: str, pairs: Iterable[tuple[str, str]], clause: str) -> None:
        for path, word in pairs:
            name, *steps = path.split(".")
            if name not in self.catalogue.names_in_items(type):
                better = did_you_mean(name, self.catalogue.names_in_items(type))
                raise ValueError(f"{clause!r}: {type} has no field {name}{better}")
            if steps:
                RowParser(self.catalogue, [type]).check_path(path, clause)
            self.check_names([word], clause)

    def check_sentence(self, sentence: str) -> None:
        """Raise ValueError for a {name} in a sentence that means nothing."""
        self.check_names(re.findall(r"\{([\w.]+)\}", sentence), sentence)

    def check_names(self, words: Iterable[str], clause: str) -> None:
        for word in words:
            for name in names_in(word):
                self.check_path(name, clause)

    def check_path(self, path: str, clause: str) -> None:
        """Raise ValueError for a path with a name or a step that is neither parameter nor field."""
        name, *steps = path.split(".")
        if name == "configured":
            setting = f"{steps[0]}/{'.'.join(steps[1:])}"
            check_word(setting, self.catalogue.configurations, "setting")
            return
        types = self.types
        if name == "caller":
            types = ["Account"]
        elif name in self.params:
            if self.params[name].type in ("map", "maps"):
                return
            types = [self.params[name].refers]
        elif name == "other":
            return  # the resource of the condition, which may have any field
        elif name != "now":
            name = steps.pop(0) if name == "its" else name
            if name not in self.fields:
                better = did_you_mean(name, {*self.fields, *self.params})
                raise ValueError(f"{clause!r}: there is no parameter or field {name}{better}")
            types = self.targets(types, name)
        for step in steps:
            if not any(step in self.catalogue.names_in_items(type) for type in types):
                names = set().union(*map(self.catalogue.names_in_items, types))
                better = did_you_mean(step, names)
                raise ValueError(f"{clause!r}: nothing in {path} has a field {step}{better}")
            types = self.targets(types, step)

    def targets(self, types: Iterable[str], key: str) -> list[str]:
        """Return the resources to which a key of objects of some types leads."""
        rows = [self.catalogue.resources[type] for type in types]
        return [row.leads[key] for row in rows if key in row.leads]

    def lists(self, words: Iterable[str]) -> tuple[ListName, ...]:
        """Return the parameters among the words: one that holds a list repeats the clause."""
        lists = []
        for word in words:
            name, dot, _ = word.partition(".")
            if name in self.params:
                lists.append(ListName(name, bool(dot)))
        return tuple(lists)


def check_word(word: str, words: Collection[str], noun: str) -> None:
    """Raise ValueError for a word that is none of the words."""
    if word not in words:
        raise ValueError(f"there is no {noun} {word!r}{did_you_mean(word, words)}")


# the catalogue

OWN_TYPES = {"Job", "Mock", "Gone", "Rule"}  # api-jobs, the mock, uuids once used, fault rules
NOT_QUERIED = ("Session", "TaskProgress")  # their classes have no @Inventory
NAMES_OF_ZMOCK = {*OWN_TYPES, "Resource"}  # a reference to a Resource is one to anything
TABLES = {
    "apis": Api,
    "inventories": Resource,
    "structs": Struct,
    "enums": Enum,
    "configurations": Configuration,
    "errors": ErrorCode,
    "quotas": Quota,
    "tags": TagRule,
    "providers": Provider,
    "metrics": Metric,
}
ATTRIBUTES = {"fields": "field_words", "relations": "relation_words"}  # of keys that mean more here
GET_IT = "get it from where zmock.py came from"


class Catalogue:
    """The facts of ZStack 2.5.1: APIs, resources, configurations, error codes, quotas.

    Raise SettingsError for a file that is no catalogue, and for a wrong record, which it names.

    subtypes     of a resource, by the value of its discriminator: {"BackupStorage": {"Ceph": ...}}
    embedded     the resources whose inventories another one shows: {"VmInstance": {"vmNics": ...}}
    dependents   (type, key, lost fields) of what depends on an item of a type: without lost fields
                 it is removed with the item
    endings      the effects of the removal of an item, by type
    inherited    the effects that give an item of a file what it lacks, by type
    naming_tags  the patterns of system tags that name the uuid of another item
    """

    def __init__(self, file: Path, more: Iterable[str | Path] = ()) -> None:
        self.rows = rows = Rows.read(file, more)
        tables = rows.tables
        self.structs: dict[str, Struct] = tables["structs"]
        self.configurations: dict[str, Configuration] = tables["configurations"]
        self.errors = {code: row.description for code, row in tables["errors"].items()}
        self.quotas: dict[str, Quota] = tables["quotas"]
        self.tag_rules: list[TagRule] = [*tables["tags"].values()]
        self.providers: list[Provider] = [*tables["providers"].values()]
        self.metrics: dict[str, Metric] = tables["metrics"]
        self.fields_of_items: dict[str, dict[str, str]] = {}  # see item_fields
        self.names_of_items: dict[str, frozenset[str]] = {}  # see names_in_items
        self.resources = with_subtypes(rows)
        for row in self.resources.values():
            with rows.about("inventories", row.name):
                row.check_fields(self)
        self.resources = with_indexes(self.resources)
        self.collections: dict[str, Resource] = {}  # by path
        self.apis: dict[str, Api] = tables["apis"]
        self.owned = {row.name: row for row in self.resources.values() if row.owner}
        self.referenced: list[str] = []  # the types of which AccountResourceRefs tell
        self.embedded: dict[str, dict[str, Resource]] = {}
        self.subtypes: dict[str, dict[str, Resource]] = defaultdict(dict)
        self.dependents: dict[str, list[tuple]] = defaultdict(list)
        self.endings: dict[str, list[Clause]] = {}
        self.inherited: dict[str, list[Clause]] = {}
        self.naming_tags: list[str] = []
        self.roots = PathNode()
        self.compile()

    def compile(self) -> None:
        """Parse the clauses of all rows. Raise SettingsError for a wrong one, which it names."""
        rows = self.rows
        for row in self.resources.values():
            with rows.about("inventories", row.name):
                row.compile(self)
                self.relate(row)
        self.classes = java_classes(self.resources, self.structs, rows)
        for table in ("tags", "quotas", "structs", "configurations"):
            for key, row in rows.tables[table].items():
                with rows.about(table, key):
                    row.compile(self)
        for api in self.apis.values():
            with rows.about("apis", api.name):
                api.compile(self)
                for path in api.paths:
                    self.roots.add(path, api)
        for added in rows.origins:
            table, _, key = added.partition(", ")
            if table == "apis":
                with rows.about(table, key):
                    self.check_added_api(self.apis[key])

    def check_added_api(self, api: Api) -> None:
        """Raise ValueError for an API of --catalogue that cannot stand beside the others."""
        if any(path.startswith("/api-jobs/") for path in api.paths):
            raise ValueError("polls of api-jobs have the paths below /api-jobs already")
        for other, _ in itertools.chain(*(self.route(path) for path in api.paths)):
            is_alike = other.method == api.method and other.shapes[0] == api.shapes[0]
            if other is not api and is_alike and (api.method != "PUT" or api.key == other.key):
                raise ValueError(f"{other.name} is {api.call} already")

    def relate(self, row: Resource) -> None:
        """Note the collection of a resource, and its relations to others."""
        if row.path and self.collections.setdefault(row.path, row) is not row:
            raise ValueError(f"path: {row.path!r} is that of {self.collections[row.path].name}")
        if (row.owner or row.account) and not row.unreferenced:
            self.referenced.append(row.name)
        self.naming_tags += [pattern for pattern in row.tags if "{uuid}" in pattern]
        embedded = {name: self.resources[row.relations[name].target] for name in row.embeds}
        self.embedded[row.name] = embedded
        if row.of:
            value = row.only.get(self.resources[row.of].discriminator)
            if value:
                self.subtypes[row.of].setdefault(value, row)
        for word in row.dies_with:
            key, _, types = word.partition(":")
            self.note_dependent(row, key, types, [])
        for word in row.outlives:
            lost = [name.split(":")[0] for name in word.split(",")]
            self.note_dependent(row, lost[0], word.split(",")[0].partition(":")[2], lost)

    def note_dependent(self, row: Resource, key: str, types: str, lost: list[str]) -> None:
        for type in (types or row.leads.get(key, "")).split("|"):
            if type in self.resources:
                self.dependents[self.resources[type].stored].append((row.name, key, lost))

    def subtype_row(self, row: Resource, item: Item) -> Resource:
        """Return the row that shows an item: the one of its subtype, if it has one."""
        return self.subtypes[row.name].get(text_of(item.get(row.discriminator)), row)

    def embedded_in(self, row: Resource) -> list[Resource]:
        """Return the resources whose inventories stand inside those of another, at any depth."""
        children = {}
        for kind in (row, *self.subtypes[row.name].values()):
            for child in self.embedded[kind.name].values():
                if child is not row:
                    children[child.name] = child
        resources = []
        for child in children.values():
            resources += [child, *self.embedded_in(child)]
        return resources

    def members_answered(self, api: Api) -> dict[str, Member]:
        """Return the members of an API's answer that hold objects.

        "inventory:Zone" is one zone, "inventories:Zone" a list of zones.
        """
        members = members_of(api.holds, self.classes)
        for word in api.answers.split():
            member, _, type = word.partition(":")
            if java := self.classes.get(type):
                members[member] = Member(java, not member.lower().endswith("inventory"))
        if api.kind == "Query" and "inventories" in members:
            members["inventory"] = Member(members["inventories"].java)  # dialect row get-one
        return members

    def item_fields(self, type: str) -> dict[str, str]:
        """Return the types of all fields of an item, also of those that no inventory shows."""
        if type not in self.fields_of_items:
            row = self.resources[type]
            stored = self.resources[row.stored]
            fields = {"uuid": "str", "createDate": "date", "lastOpDate": "date"}
            if stored.owner:
                fields["owner"] = "str"
            self.fields_of_items[type] = fields | types_of(stored.hidden) | row.all_fields
        return self.fields_of_items[type]

    def names_in_items(self, type: str) -> frozenset[str]:
        """Return the names that clauses may use for the fields of an item."""
        row = self.resources.get(type)
        if row is None:
            return frozenset()
        if type not in self.names_of_items:
            stored = self.resources[row.stored]
            names = {*self.item_fields(type), *stored.all_fields, *row.new, *row.leads}
            self.names_of_items[type] = frozenset(names | row.indexes)
        return self.names_of_items[type]

    def values_of(self, row: Resource, name: str) -> Sequence[str]:
        """Return the values that a field of a resource can have, if they are known."""
        return row.values.get(name) or self.resources[row.stored].values.get(name, ())

    def route(self, path: str) -> list[tuple[Api, dict[str, str]]]:
        """Return the APIs of a path with the values of its variables: [(api, {"uuid": ...})].

        A literal part of a path goes before a variable.
        """
        apis, values = self.roots.find(path.lstrip("/").split("/"))
        return [(api, dict(zip(names, values))) for api, names in apis]

    def resource(self, name: str) -> Resource | None:
        return self.resources.get(name)

    @functools.cached_property
    def entities(self) -> dict[str, Resource]:
        """Return the resources by the names that ZQL has for them: {"vminstance": ...}."""
        rows = [row for row in self.resources.values() if row.name not in NOT_QUERIED]
        return {row.name.lower(): row for row in rows}

    def resource_of_vo(self, name: str) -> Resource | None:
        """Return the resource that ZStack calls ZoneVO, or None."""
        return self.resources.get(name.removesuffix("VO")) if name.endswith("VO") else None

    def error_body(self, error: ApiError) -> Item:
        """Return an error as answers show it: code, description, details[, cause] (manual 3.4)."""
        description = self.errors.get(error.code, error.code)
        body = {"code": error.code, "description": description, "details": error.details}
        if error.cause:
            body["cause"] = self.error_body(error.cause)
        if error.causes:
            body["causes"] = [self.error_body(cause) for cause in error.causes]
        return body


class PathNode:
    """A node of the tree of paths: its APIs, and the nodes of the parts that may follow.

    A part is a literal, any text ({uuid}), or a text that begins and ends as "{uuid}.json" does.
    """

    def __init__(self) -> None:
        self.apis: list[tuple[Api, list[str]]] = []
        self.literals: dict[str, PathNode] = {}
        self.partly: dict[tuple[str, str], PathNode] = {}
        self.variable: PathNode | None = None

    def add(self, path: str, api: Api) -> None:
        node = self
        for part in path.lstrip("/").split("/"):
            if "{" not in part:
                node = node.literals.setdefault(part, PathNode())
                continue
            begin, end = re.fullmatch(r"([^{]*){\w+}(.*)", part).groups()
            if begin or end:
                node = node.partly.setdefault((begin, end), PathNode())
            else:
                node.variable = node.variable or PathNode()
                node = node.variable
        node.apis.append((api, re.findall(r"{(\w+)}", path)))

    def find(self, parts: list[str]) -> tuple[list, list[str]]:
        """Return the APIs of the parts of a path with the values of its variables in order."""
        if not parts:
            return self.apis, []
        part, *rest = parts
        if part in self.literals:
            apis, values = self.literals[part].find(rest)
            if apis:
                return apis, values
        for (begin, end), node in self.partly.items():
            if len(part) > len(begin + end) and part.startswith(begin) and part.endswith(end):
                apis, values = node.find(rest)
                if apis:
                    return apis, [part[len(begin) : len(part) - len(end)], *values]
        if self.variable is None or not part:
            return [], []
        apis, values = self.variable.find(rest)
        return apis, [part, *values]


# reading


@dataclass
class Rows:
    """The rows of the files of a catalogue. A later file adds or replaces rows.

    file     the first file, which has all tables
    tables   the rows by table and name: {"apis": {"CreateZone": <Api>}}
    origins  the files of the rows of later files: {"apis, CreateZone": FILE}
    """

    file: Path
    tables: dict[str, dict[str, Any]]
    origins: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, more: Iterable[str | Path] = ()) -> Rows:
        """Return the rows of files. Raise SettingsError for a wrong file or row."""
        rows = cls(file, read_tables(file, is_whole=True))
        for path in map(Path, more):
            for table, added in read_tables(path, is_whole=False).items():
                rows.tables[table] |= added
                rows.origins |= {f"{table}, {key}": path for key in added}
        return rows

    def about(self, table: str, key: str) -> AboutRow:
        """Return a context manager that names the row in the error of a wrong one."""
        return AboutRow(self, table, key)


class AboutRow:
    """A context manager that turns an exception into a SettingsError that names file and row.

    It is a class for speed: a start enters some thousand of them.
    """

    __slots__ = ("rows", "table", "key")

    def __init__(self, rows: Rows, table: str, key: str) -> None:
        self.rows, self.table, self.key = rows, table, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, WRONG):
            return
        row, reason = f"{self.table}, {self.key}", reason_of(error)
        origins = self.rows.origins
        if origins and row not in origins:
            names = dict.fromkeys(map(str, origins.values()))
            reason += f" (with the rows of {', '.join(names)})"
        file = origins.get(row, self.rows.file)
        raise SettingsError(f"{file}, {one_line(row)}: {reason}") from None


WRONG = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, re.error,
)  # exceptions that a wrong row brings about


def reason_of(error: Exception) -> str:
    """Return the text of an exception as one line."""
    return one_line(str(error) if isinstance(error, (ValueError, re.error)) else repr(error))


def one_line(text: str) -> str:
    """Return a text on one line, with escapes for what no terminal should get: ESC, surrogates."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


def read_json(file: Path | str) -> Any:
    """Return the JSON of a file that somebody wrote.

    Raise OSError, or ValueError also for a key that an object has twice.
    """
    text = Path(file).read_text(encoding="utf-8-sig")
    return load_json(text, object_pairs_hook=unique_keys)


def unique_keys(pairs: list[tuple[str, Any]]) -> Item:
    """Return a JSON object. Raise ValueError if a key is there twice."""
    item = dict(pairs)
    if len(item) < len(pairs):
        key = repeated(key for key, _ in pairs)
        raise ValueError(f"the key {key!r} is there twice in {short_json(item)}")
    return item


def read_tables(file: Path, is_whole: bool) -> dict[str, dict[str, Any]]:
    """Return the rows of a catalogue file by table and name. A whole catalogue has all tables.

    Raise SettingsError for a wrong file or row.
    """
    cure = 'it is a JSON object of tables: {"apis": [{"name": ...}]}'
    missing = "--catalogue names a JSON file with rows"
    if is_whole:
        cure = GET_IT
        missing = f"it holds the APIs, and belongs in data/ beside zmock.py; {GET_IT}"
    try:
        tables = read_json(file)
        if not isinstance(tables, dict):
            raise ValueError("no JSON object of tables")
        tables.pop("$schema", None)
        for name in TABLES if is_whole else ():
            if name not in tables:
                raise ValueError(f"the table {name} is missing")
        for name in tables:
            check_word(name, TABLES, "table")
            if not isinstance(tables[name], (dict, list)):
                raise ValueError(f"{name} is no table: neither a list of rows, nor rows by number")
    except FileNotFoundError:
        raise SettingsError(f"{file} is missing: {missing}") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} is not a catalogue ({reason_of(error)}); {cure}") from None
    rows = {}
    for name, records in tables.items():
        rows[name] = read_rows(file, name, records.values() if is_object(records) else records)
    return rows


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def is_lists_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_texts, value))


def is_object_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and is_texts([*value.values()])


def is_object_of_lists(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_texts, value.values()))


def is_object_of_objects(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_object, value.values()))


def is_text_or_object(value: Any) -> bool:
    return isinstance(value, str) or is_object_of_texts(value)


SHAPES = {  # by the type of a column: a test of its JSON values, and the words for that
    str: (is_text, "a text"),
    str | None: (is_text_or_null, "a text"),
    bool: (is_bool, "true or false"),
    tuple[str, ...]: (is_texts, "a list of texts"),
    tuple[tuple[str, ...], ...]: (is_lists_of_texts, "a list of lists of texts"),
    dict[str, str]: (is_object_of_texts, "an object of texts"),
    dict[str, tuple[str, ...]]: (is_object_of_lists, "an object of lists of texts"),
    str | dict[str, str]: (is_text_or_object, "a text, or an object of texts"),
    Item: (is_object, "an object"),
    dict[str, Item]: (is_object_of_objects, "an object of objects"),
}
CAPITALIZED = r"[A-Z][A-Za-z0-9_]{0,99}"  # names of resources are names of files
TEXT_FORMS = {  # of the texts of a key, by table and key: a pattern, and the words for that
    ("apis", "name"): (CAPITALIZED, "words with capitals, such as CreateZone"),
    ("apis", "call"): (
        r"(GET|POST|PUT|DELETE) (/[\w.-]*(\{\w+\}[\w.-]*)?)+",
        "a method and a path, such as GET /zones",
    ),
    ("apis", "answers"): (r"(\w+(:\w+)?( \w+(:\w+)?)*)?", "members such as inventory:Zone"),
    ("inventories", "name"): (CAPITALIZED, "words with capitals, such as VmInstance"),
    ("inventories", "path"): (r"([\w.-]+(/[\w.-]+)*)?", "a path such as vm-instances/nics"),
    ("inventories", "fields"): (r"\w+(:\w+)?", "a name, or a name with a type as cpuNum:int"),
    ("inventories", "relations"): (
        r"-?(\d )?\w+: ([\w.]+=\w+\.[\w.]+|\w+(\.\w+)*)",
        "a relation such as zone: zoneUuid=Zone.uuid",
    ),
    ("inventories", "inside"): (
        r"(\w+=\w+\.\w+\.\w+)?",
        "a place such as imageUuid=Image.backupStorageRefs.backupStorageUuid",
    ),
    ("configurations", "name"): (r"[^/\s]+/[^/\s]+", "a category and a name, such as vm/numa"),
    ("errors", "code"): (r"[A-Z0-9_.]+\.\d{4}", "a code such as SYS.1006"),
    ("metrics", "type"): ("VmInstance|Host", "VmInstance or Host"),
    ("metrics", "load"): (
        "cpu|memory|read|write|in|out",
        "cpu, memory, read, write, in or out",
    ),
    ("metrics", "shows"): ("(used|free)%?", "used, free, used% or free%"),
}
IDENTIFIERS = {  # the keys that tell a row from others of its table, if it is not the name
    "tags": ("type", "tag", "when"),
    "errors": ("code",),
    "providers": ("type",),
    "metrics": ("namespace", "name"),
}


@dataclass(frozen=True)
class Column:
    """A key of the rows of a table.

    attribute  the attribute of a row that has its value
    fits       the test of its values, and the words for that, if there is one
    form       the pattern of its texts, and the words for that, if they have one
    """

    key: str
    attribute: str
    fits: Callable[[Any], bool] | None
    words: str
    form: tuple[str, str] | None
    is_needed: bool

    def read(self, value: Any) -> Any:
        """Return a value for a row. Raise ValueError for one of another type or form."""
        if self.fits is None:
            return value
        if not self.fits(value):
            raise ValueError(f"{self.key} is {self.words}, not {short_json(value)}")
        if self.form:
            pattern, words = self.form
            for text in value if isinstance(value, list) else [value]:
                if not re.fullmatch(pattern, text):
                    raise ValueError(f"{self.key}: {text!r} is not {words}")
        return tupled(value)


def columns_of(table: str) -> dict[str, Column]:
    """Return the columns of a table by their keys in JSON: "fields" for field_words."""
    types = get_type_hints(TABLES[table])
    keys = {attribute: key for key, attribute in ATTRIBUTES.items()}
    columns = {}
    for item in fields(TABLES[table]):
        key = keys.get(item.name, item.name)
        fits, words = SHAPES.get(types[item.name], (None, ""))
        is_needed = item.default is item.default_factory is MISSING
        form = TEXT_FORMS.get((table, key))
        columns[key] = Column(key, item.name, fits, words, form, is_needed)
    return columns


def read_rows(file: Path, table: str, records: Iterable[Any]) -> dict[str, Any]:
    """Return the rows of a table by their keys. Raise SettingsError for a wrong one."""
    columns, rows = columns_of(table), {}
    for number, record in enumerate(records, 1):
        key = record_key(table, record)
        try:
            row = read_row(TABLES[table], columns, record)
            if key in rows:
                raise ValueError("a row of this name stands above; one of them is too many")
        except WRONG as error:
            name = one_line(key)[:80] or f"row {number}"
            raise SettingsError(f"{file}, {table}, {name}: {reason_of(error)}") from None
        rows[key] = row
    return rows


def read_row(row_class: type, columns: dict[str, Column], record: Any) -> Any:
    """Return a row from a record. Raise ValueError for a wrong key or value."""
    if not isinstance(record, dict):
        raise ValueError(f"a row is a JSON object, not {short_json(record)}")
    values = {}
    for key, value in record.items():
        check_word(key, columns, "key")
        values[columns[key].attribute] = columns[key].read(value)
    for key, column in columns.items():
        if column.is_needed and not record.get(key):
            raise ValueError(f"{key} is {'empty' if key in record else 'missing'}")
    return row_class(**values)


def short_json(value: Any) -> str:
    """Return a JSON value for a message, cut if it is long."""
    text = one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else text[:80] + "…"


def record_key(table: str, record: Any) -> str:
    """Return the text that tells a record from others of its table: its name, or its code.

    It is "" for a record that is not an object with that text.
    """
    values = []
    for name in IDENTIFIERS.get(table, ("name",)):
        values.append(record.get(name) if isinstance(record, dict) else None)
    return " ".join(value for value in values if isinstance(value, str))


def tupled(value: Any) -> Any:
    """Return lists as tuples, at any depth: rows are never changed."""
    if isinstance(value, dict):
        return {key: tupled(inner) for key, inner in value.items()}
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def with_subtypes(rows: Rows) -> dict[str, Resource]:
    """Return {name: row} in which a subtype has the fields and relations of its parent too."""
    complete: dict[str, Resource] = {}
    for row in rows.tables["inventories"].values():
        with rows.about("inventories", row.name):
            if row.of in rows.tables["inventories"] and row.of not in complete:
                raise ValueError(f"the row {row.of} stands below; a subtype stands after it")
            check_unique("fields", [word.partition(":")[0] for word in row.field_words])
            check_unique("relations", [text.partition(":")[0] for text in row.relation_words])
            if row.of:
                row = with_parent(complete, row)
            complete[row.name] = row
    return complete


def with_parent(complete: dict[str, Resource], row: Resource) -> Resource:
    """Return a subtype with what its parent has, and add its kind to the parent and its parent."""
    check_word(row.of, complete, "resource")
    parent = complete[row.of]
    if parent.discriminator and parent.discriminator not in row.only:
        example = f'{{"{parent.discriminator}": "Ceph"}}'
        raise ValueError(f"only says which {parent.name} it is: {example}")
    if parent.discriminator:
        values = row.only[parent.discriminator].split("|")
        kinds = dict.fromkeys(values, (row.java, *row.field_words))
        complete[parent.name] = replace(parent, kinds=parent.kinds | kinds)
    root = complete[parent.of] if parent.of else None
    if root and root.discriminator:  # a subtype of a subtype
        value = parent.only[root.discriminator]
        kinds = {value: (*root.kinds[value], *row.field_words)}
        complete[root.name] = replace(root, kinds=root.kinds | kinds)
    return replace(
        row,
        of=parent.stored,
        field_words=parent.field_words + row.field_words,
        joined=parent.joined + row.joined,
        relation_words=parent.relation_words + row.relation_words,
        holds=parent.holds + row.holds,
    )


def with_indexes(rows: dict[str, Resource]) -> dict[str, Resource]:
    """Return the rows with indexes on their owner and on the fields that relations lead to."""
    ends = defaultdict(set)
    for row in rows.values():
        for relation in row.relations.values():
            if relation.target in rows:
                ends[rows[relation.target].stored].add(relation.theirs)
        if row.inside:
            ends[row.place.owner].add(row.place.index)
    indexed = {}
    for name, row in rows.items():
        if row.owner:
            dies_with = (*row.dies_with, "owner:Account")
            row = replace(row, dies_with=dies_with, indexed=(*row.indexed, "owner"))
        others = sorted(ends[row.stored] - row.indexes)
        indexed[name] = replace(row, indexed=(*row.indexed, *others))
    return indexed


# Java classes


def java_classes(
    resources: dict[str, Resource], structs: dict[str, Struct], rows: Rows
) -> dict[str, JavaClass]:
    """Return the Java classes by their names in rows: Zone, PolicyStatement, LongJobState."""
    classes = {}
    for enum in rows.tables["enums"].values():
        classes[enum.name] = JavaClass(enum.java, constants=enum.constants)
    for part in structs.values():
        classes[part.name] = JavaClass(part.java)
    for row in resources.values():
        classes[row.name] = JavaClass(row.java, row.discriminator)
    by_java = {java.name: java for java in classes.values()}
    for part in structs.values():
        if part.name not in resources:
            with rows.about("structs", part.name):
                classes[part.name].members |= members_of(part.holds, classes)
    for row in resources.values():
        java = classes[row.name]
        for member in row.embeds:
            java.members[member] = Member(classes[row.relations[member].target], many=True)
        with rows.about("inventories", row.name):
            java.members |= members_of(row.holds, classes)
        for kind, (name, *_) in row.kinds.items():
            java.kinds[kind] = by_java.get(name) or JavaClass(name, members=java.members)
    return classes


def members_of(holds: Iterable[str], classes: dict[str, JavaClass]) -> dict[str, Member]:
    """Return the members of a row with their classes. Raise ValueError for an unknown class.

    "dns:[VpcRouterDns]" -> {"dns": Member(<VpcRouterDnsInventory>, many=True)}
    """
    members = {}
    for word in holds:
        member, _, type = word.partition(":")
        names = type.strip("[]").split("|")
        for name in names:
            if name not in classes:
                better = did_you_mean(name, classes)
                raise ValueError(f"it holds {word}, which is no class{better}")
        java, *others = [classes[name] for name in names]
        members[member] = Member(java, type.startswith("["), *others)
    return members


def schema_of(body: Item, members: dict[str, Member]) -> dict[str, str]:
    """Return the Java class of each object in an answer: {"inventory": "org....ZoneInventory"}.

    An object comes before the objects in it: the SDK replaces them in this order (ApiResult.java).
    Enums are listed too. Maps at the top of an answer are not listed, nor is what they hold
    (JsonSchemaBuilder.java).
    """
    schema: dict[str, str] = {}
    note_members(schema, "", body, members)
    return schema


def note_members(
    schema: dict[str, str], prefix: str, item: Item, members: dict[str, Member]
) -> None:
    """Add the classes of an object's members to a schema, at any depth."""
    for name, member in members.items():
        value, path = item.get(name), prefix + name
        if not member.many:
            note_value(schema, path, value, member.java_of(value))
        elif isinstance(value, list):
            for index, element in enumerate(value):
                note_value(schema, f"{path}[{index}]", element, member.java_of(element))


def note_value(schema: dict[str, str], path: str, value: Any, java: JavaClass) -> None:
    """Add the class of an object or of an enum's constant to a schema; ignore any other value."""
    if isinstance(value, dict):
        java = java.of(value)
        schema[path] = java.name
        note_members(schema, f"{path}.", value, java.members)
    elif value in java.constants:
        schema[path] = java.name


# spelling of uuids

Speller = Callable[[Uuid], Uuid]


def spell_in_tag(tag: str, patterns: Iterable[str], spell: Speller) -> str:
    """Return a system tag with its uuids replaced by spell(uuid).

    They stand where the first pattern that the tag fits has {uuid}.
    """
    for pattern in patterns:
        if parts_of(pattern, tag) is None:
            continue
        segments = []
        for part, segment in zip(pattern.split("::"), tag.split("::")):
            segments.append(spell(segment) if part == "{uuid}" else segment)
        return "::".join(segments)
    return tag


@functools.lru_cache(4096)
def names_uuids(name: str) -> bool:
    """Return True for a field or parameter that holds a uuid, or a list of uuids."""
    return name in ("managementNodeId", "owner") or bool(re.search("[uU]uids?$", name))


def spell_in(name: str, value: Any, spell: Speller) -> Any:
    """Return the value of a field or parameter with spell(uuid) in the place of each uuid in it.

    The keys of a map may be uuids too: {"networkServices": {PROVIDER: ["DHCP"]}}.
    """
    if isinstance(value, dict):
        return {spell(key): spell_in(key, inner, spell) for key, inner in value.items()}
    if isinstance(value, list):
        return [spell_in(name, element, spell) for element in value]
    return spell(value) if isinstance(value, str) and names_uuids(name) else value


# ---- Files ---------------------------------------------------------------------------------------

Documents = dict[str, dict[Any, Item]]  # a whole state: {type: {number: item}}
Changes = dict[str, dict[int, Item | None]]  # the changes of a commit; None for a removed item
Pause = Callable[[], Any]

FORMAT = 3  # of the files; a newer one is refused, an older one brought up to date
LONGEST_LEDGER = 16 << 20  # bytes; a longer ledger is folded though commits go on
SLICE = 100  # objects that a fold writes between two pauses
PAUSE: Seconds = 0.001  # after each slice, so that requests are answered meanwhile
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
ESCAPED = json.JSONEncoder(separators=(",", ":"))


def to_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; in ASCII if it holds half of a surrogate pair."""
    try:
        return COMPACT.encode(value).encode()
    except UnicodeEncodeError:
        return ESCAPED.encode(value).encode()


def to_line(number: int, item: Item | None) -> bytes:
    """Return an object as a line of a TinyDB file, in ASCII: b'"1":{"uuid":"a"}'."""
    return b'"%d":%b' % (number, ESCAPED.encode(item).encode())


# stored items are frozen

SCALARS = (str, int, float, bool, type(None))


def refuse_change(self: Any, *arguments: Any, **named: Any) -> None:
    """Raise TypeError: the start of the cloud, snapshots and undos hold this item too."""
    raise TypeError("a stored item is read-only; store.update() puts a changed one in its place")


class FrozenDict(dict):
    """A stored item, or a map inside one. Nothing changes it. Its copies are plain dicts."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = refuse_change
    clear = pop = popitem = setdefault = update = refuse_change

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FrozenList(list):
    """A list inside a stored item. Nothing changes it. Its copies are plain lists."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refuse_change
    append = clear = extend = insert = pop = remove = reverse = sort = refuse_change

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


IMMUTABLE_TYPES = {*SCALARS, FrozenDict, FrozenList}


def frozen(value: Any) -> Any:
    """Return a value that nothing changes: frozen copies of dicts and lists, at any depth.

    All state that outlives a call is frozen, so that several holders may share it.
    """
    if type(value) in IMMUTABLE_TYPES:
        return value
    if isinstance(value, dict):
        copy = FrozenDict(value)
        if not IMMUTABLE_TYPES.issuperset(map(type, value.values())):  # most items have no others
            for key, inner in value.items():
                dict.__setitem__(copy, key, frozen(inner))
        return copy
    if isinstance(value, (list, tuple)):
        return FrozenList(map(frozen, value))
    return value


def frozen_object(pairs: list[tuple[str, Any]]) -> FrozenDict:
    """Return an object that json.loads() reads, frozen. Raise KeyError if a key is there twice."""
    item = FrozenDict(pairs)
    if len(item) < len(pairs):
        raise KeyError(repeated(key for key, _ in pairs))
    for key, value in pairs:
        if type(value) is list:
            dict.__setitem__(item, key, frozen(value))
    return item


# the filesystem

UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}


@contextlib.contextmanager
def if_supported(operation: str, folder: Path) -> Iterator[None]:
    """Go on where a filesystem, as of networks or containers, lacks an operation. Warn once."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warn_unsupported(operation, folder, error.strerror)


@functools.cache
def warn_unsupported(operation: str, folder: Path, reason: str) -> None:
    log.warning("the filesystem of %s does not support %s (%s)", folder, operation, reason)


def sync(descriptor: int, folder: Path) -> None:
    """Return when an open file or folder is on the disk."""
    with if_supported("fsync: a power cut may take the latest changes", folder):
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk. Windows cares for that itself."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_DIRECTORY)
        try:
            sync(descriptor, path)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """Yield the path of a file beside `path`, which replaces it if the block succeeds."""
    beside = path.with_suffix(".tmp")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the next write or start removes it
            beside.unlink(missing_ok=True)
        raise


def copy_over(source: Path, target: Path) -> None:
    """Replace a file by a copy of another."""
    with in_place_of(target) as beside:
        shutil.copyfile(source, beside)


def is_still_at(file: Any, path: Path) -> bool:
    """Return False if somebody has removed, moved or replaced an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def matching_names(folder: Path, pattern: str) -> list[str]:
    """Return the matching names in a folder. Raise OSError if it is unreadable: glob() does not."""
    return [name for name in os.listdir(folder) if re.fullmatch(pattern, name)]


# a TinyDB file: {"_default": {"1": {"uuid": ...}, ...}}, an object a line


class Broken(Exception):
    """A file that TinyDB cannot read, or that holds an object without a number or uuid.

    The message names line and column: `before` is the text of the file up to there.
    """

    def __init__(self, path: Path, before: str, reason: str) -> None:
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        super().__init__(f"{path}, line {line}, column {column}: {reason}")


def write_documents(path: Path, items: dict[int, Item], pause: Pause | None = None) -> None:
    """Replace a TinyDB file at once: a reader finds the old state or the new one.

    Call `pause` after each slice of objects.
    """
    with in_place_of(path) as beside, open(beside, "wb", 1 << 20) as file:
        separator = b'{"_default":{\n'
        for count, (number, item) in enumerate(items.items(), 1):
            file.write(separator + to_line(number, item))
            separator = b",\n"
            if pause and count % SLICE == 0:
                pause()
        file.write(b"\n}}\n" if items else separator + b"}}\n")
        file.flush()
        sync(file.fileno(), path.parent)


def read_documents(path: Path) -> dict[int, Item]:
    """Return the objects of a TinyDB file, frozen, by number. Raise Broken, or OSError."""
    return parse_documents(path, path.read_bytes())


def parse_documents(path: Path, octets: bytes) -> dict[int, Item]:
    text, tables = parse(path, octets)
    items = tables.get("_default", {}) if isinstance(tables, dict) else None
    if not isinstance(items, dict):
        raise Broken(path, "", 'a TinyDB file is {"_default": {"1": {...}}}')
    for number, item in items.items():
        reason = problem_of(number, item)
        if reason:
            raise Broken(path, text[: text.find(json.dumps(number))], reason)
    return {int(number): item for number, item in items.items()}


def parse(path: Path, octets: bytes) -> tuple[str, Any]:
    """Return the text of a JSON file, and its value. Raise Broken."""
    text = ""
    try:
        text = octets.decode("utf-8-sig")
        return text, json.loads(text, object_pairs_hook=frozen_object)
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8-sig", errors="ignore")
        reason = "this is no UTF-8"
    except json.JSONDecodeError as error:
        before, reason = text[: error.pos], error.msg
    except KeyError as error:
        [key] = error.args
        before, reason = text[: text.rfind(json.dumps(key))], f"the key {key} is there twice"
    except RecursionError:
        before, reason = "", "nested too deeply"
    except ValueError as error:  # a number of thousands of digits
        before, reason = "", str(error)
    raise Broken(path, before, reason)


def problem_of(number: str, item: Any) -> str:
    """Return the reason why an object is none, or ""."""
    if not re.fullmatch("0|[1-9][0-9]{0,17}", number):
        return f"{number[:40]!r} is no number of an object"
    if not (isinstance(item, dict) and type(item.get("uuid")) is str):
        return f"object {number} has no uuid"
    return ""


# The ledger: commits, one after the other
#
#     [Zone]                      a type
#     "1":{"uuid":"a", ...}       its objects that changed, as in the TinyDB file
#     "7":null                    an object that was removed
#     [commit 5f3a0c11]           the seal, with the checksum of everything since the seal before
#
# A commit that begins with a line [clear] is a whole state: nothing before it counts.
SEAL = b"[commit %08x]"


def sealed(text: bytes) -> bytes:
    return text + SEAL % zlib.crc32(text) + b"\n"


def lines_of(type: str, items: Mapping[int, Item | None]) -> bytes:
    """Return the lines of a commit for one type, from its items by number."""
    lines = [to_line(number, item) + b"\n" for number, item in items.items()]
    return b"[%b]\n" % type.encode() + b"".join(lines)


def text_of_commit(changes: Mapping[str, Mapping[int, Item | None]]) -> bytes:
    return b"".join(lines_of(type, items) for type, items in changes.items())


def commits(text: bytes) -> list[bytes | None]:
    """Return the commits in the text of a ledger, without their seals, None for a damaged one.

    Text after the last seal is ignored, as is a damaged commit at the end: a power cut leaves them.
    """
    bodies: list[bytes | None] = []
    start = 0
    for seal in re.finditer(rb"\n(\[commit .*)(?=\n)", text):
        body = text[start : seal.start() + 1]
        start = seal.end() + 1
        bodies.append(body if seal[1] == SEAL % zlib.crc32(body) else None)
    if bodies and bodies[-1] is None and start == len(text):
        bodies.pop()
    return bodies


def apply_commit(commit: bytes, documents: Documents) -> None:
    """Change a state as a commit says."""
    for line in commit.splitlines():
        if line == b"[clear]":
            for items in documents.values():
                items.clear()
        elif line.startswith(b"["):
            items = documents.setdefault(line[1:-1].decode(), {})
        else:
            [(number, item)] = json.loads(b"{%b}" % line).items()
            if item is None:
                items.pop(int(number), None)
            else:
                items[int(number)] = item


class Ledger:
    """An open file to which commits are appended. Each is on the disk when append() returns.

    A commit for which append() raises is cut off, at once or before the next one. It stays only if
    the disk refuses both and the process is killed then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0  # of the last commit, in bytes
        self.file = open(path, "xb", buffering=0)  # noqa: SIM115 (Folder closes it)

    def append(self, text: bytes, durable: bool) -> None:
        try:
            self.cut()
            rest = memoryview(text)
            while rest:
                rest = rest[self.file.write(rest) :]
            if durable:
                sync(self.file.fileno(), self.path.parent)
            if self.end == 0:
                sync_folder(self.path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                self.cut()
            raise
        self.end += len(text)

    def cut(self) -> None:
        """Remove what a failed append() has left."""
        self.file.truncate(self.end)
        self.file.seek(self.end)


class Folder(Storage):
    """A cloud on the disk: a TinyDB file per type, a spare copy of each file, and the ledger.

    append() keeps the changes of a commit, write() a whole state. Both return when the commit is in
    the ledger, on the disk. fold() brings the files up to date and removes the ledger, while more
    commits go to the next one. At any moment files and ledgers together are the state, and stock
    TinyDB can open every file. append(), write() and fold() may run in threads.
    """

    def __init__(self, path: Path | str, types: set[str], durable: bool = True) -> None:
        self.path = Path(path)
        self.spares = self.path / ".spare"
        self.types = types  # of a cloud
        self.durable = durable
        self.lock: Any = None  # the locked file
        self.ledger: Ledger | None = None  # None until the next commit
        self.last_ledger = 0  # the number of the last ledger
        self.last_folded = 0  # the number of the last ledger that is in the files
        self.stale_types: dict[str, int] = {}  # whose files lag, and the ledger to fold
        self.edited_types: set[str] = set()  # whose file was not as its spare, or not ASCII
        self.reports: list[str] = []  # on what read() mended
        self.appending, self.folding = threading.Lock(), threading.Lock()
        self.without_pauses = threading.Event()

    def open(self) -> None:
        """Make the folder and lock it for this process. Raise SettingsError if that cannot be."""
        try:
            self.begin()
        except BlockingIOError as error:
            raise SettingsError(
                f"{error.strerror}; stop it, or choose another with --data"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"cannot use the data folder {self.path}: {error.strerror}; "
                "choose another with --data, or --memory"
            ) from None

    def begin(self) -> None:
        self.spares.mkdir(parents=True, exist_ok=True)
        if not (self.lock and is_still_at(self.lock, self.path / ".lock")):
            before, self.lock = self.lock, locked(self.path)
            if before:
                before.close()
        self.close_ledger()

    def close_ledger(self) -> None:
        if self.ledger:
            ledger, self.ledger = self.ledger, None
            ledger.file.close()

    def is_lost(self) -> bool:
        """Return True if somebody has removed or replaced the folder, its lock or its ledger."""
        if not is_still_at(self.lock, self.path / ".lock"):
            return True
        return self.ledger is not None and not is_still_at(self.ledger.file, self.ledger.path)

    # reading

    def read(self) -> Documents:
        """Return the state that is kept. A spare takes the place of a missing or broken file.

        Raise SettingsError for a folder that cannot be read, or that is not of this zmock.
        """
        documents: Documents = {}
        try:
            names = sorted({*self.file_names(), *matching_names(self.spares, r".+\.json")})
            self.refuse_foreign(names)
            for type in self.types:
                for folder in (self.path, self.spares):
                    (folder / f"{type}.tmp").unlink(missing_ok=True)
            progress = f"reading {self.path}: %s files"
            for name in with_progress(names, len(names), progress):
                documents[Path(name).stem] = self.read_file(name)
            self.stale_types = dict.fromkeys(self.edited_types, 0)
            self.replay(documents)
        except OSError as error:
            raise SettingsError(
                f"cannot read {error.filename or self.path}: {error.strerror}; "
                "mend it, or start with another --data"
            ) from None
        return documents

    def file_names(self) -> list[str]:
        return matching_names(self.path, r".+\.json")

    def refuse_foreign(self, names: list[str]) -> None:
        """Refuse files of others and of a newer zmock before anything is done to them."""
        for name in names:
            if Path(name).stem not in self.types:
                paths = [folder / name for folder in (self.path, self.spares)]
                foreign = [str(path) for path in paths if os.path.lexists(path)]
                raise SettingsError(
                    f"{foreign[0]} is not a file of a cloud; choose another folder with --data, "
                    f"move {' and '.join(foreign)} away, "
                    "or add the --catalogue whose objects it holds"
                )
        with contextlib.suppress(Broken, FileNotFoundError):
            for item in read_documents(self.path / "Mock.json").values():
                number = item.get("format")
                if type(number) is int and number > FORMAT:
                    raise SettingsError(
                        f"{self.path} was written by a newer zmock (format {number}); "
                        "use that one, or another --data"
                    )

    def read_file(self, name: str) -> dict[int, Item]:
        path, spare = self.path / name, self.spares / name
        try:
            octets = path.read_bytes()
            items = parse_documents(path, octets)
        except FileNotFoundError:
            return self.use_spare(path, f"{path}: it is missing")
        except Broken as error:
            return self.use_spare(path, str(error))
        if not (octets.isascii() and spare.exists() and spare.read_bytes() == octets):
            self.edited_types.add(path.stem)
        return items

    def use_spare(self, path: Path, reason: str) -> dict[int, Item]:
        """Put the spare in the place of a file, and keep that as *.corrupt-DATE."""
        spare = self.spares / path.name
        try:
            items = read_documents(spare)
        except (Broken, OSError):
            raise SettingsError(
                f"cannot read {reason}; mend or remove it, or start with another --data"
            ) from None
        aside = f"it is now {self.set_aside(path)}, and " if path.exists() else ""
        copy_over(spare, path)
        self.reports.append(f"cannot read {reason}; {aside}the last good one is in its place")
        return items

    def set_aside(self, path: Path) -> Path:
        aside = path.with_name(f"{path.name}.corrupt-{world_stamp()}")
        copy_over(path, aside)
        return aside

    def replay(self, documents: Documents) -> None:
        """Apply the commits in the ledgers to the state of the files."""
        for path in self.ledgers():
            bodies = commits(path.read_bytes())
            for body in bodies:
                if body:
                    apply_commit(body, documents)
            if None in bodies:
                self.reports.append(
                    f"{path} is damaged: {bodies.count(None)} of {len(bodies)} commits are lost; "
                    f"it is kept as {self.set_aside(path)}"
                )
            self.last_ledger = int(path.stem)
            self.stale_types = dict.fromkeys(documents, self.last_ledger)

    def ledgers(self) -> list[Path]:
        """Return the ledgers on the disk, oldest first."""
        names = matching_names(self.path, r"[0-9]{8}\.ledger")
        return [self.path / name for name in sorted(names)]

    # writing

    def append(self, changes: Changes) -> None:
        """Keep the changes of a commit. Raise OSError if that cannot be."""
        text = text_of_commit(changes)
        with self.appending:
            self.keep(text, changes)

    def write(self, data: Documents) -> None:
        """Keep a whole state, also if the folder was removed. Raise OSError if that cannot be."""
        text = b"[clear]\n" + text_of_commit(data)
        with self.appending:
            if self.is_lost():
                self.begin()
            on_disk = {Path(name).stem for name in self.file_names()}
            self.keep(text, data.keys() | on_disk & self.types)

    def keep(self, text: bytes, types: Iterable[str]) -> None:
        if self.ledger is None:
            self.last_ledger += 1
            self.ledger = Ledger(self.path / f"{self.last_ledger:08d}.ledger")
        self.ledger.append(sealed(text), self.durable)
        self.stale_types |= dict.fromkeys(types, self.last_ledger)

    @property
    def is_behind(self) -> bool:
        """True if fold() has something to do."""
        return bool(self.stale_types) or self.last_folded < self.last_ledger

    @property
    def is_long(self) -> bool:
        return self.ledger is not None and self.ledger.end > LONGEST_LEDGER

    def end_ledger(self) -> int:
        """Close the ledger: the next commit begins another. Return the number of the last one."""
        with self.appending:
            if self.ledger:
                self.ledger.cut()
            self.close_ledger()
            return self.last_ledger

    def fold(self, documents: Documents, last: int) -> None:
        """Write the files of the types that are behind. Remove the ledgers up to number `last`.

        `documents` is the state of these types after the last commit in those ledgers.
        """
        with self.folding:
            if last < self.last_folded:  # a later fold has written newer files already
                return
            self.spares.mkdir(exist_ok=True)
            for type, items in documents.items():
                path = self.path / f"{type}.json"
                write_documents(path, items, self.pause)
                copy_over(path, self.spares / path.name)
            sync_folder(self.path)
            for path in self.ledgers():
                if int(path.stem) <= last:
                    path.unlink(missing_ok=True)
            self.last_folded = last
            with self.appending:
                self.stale_types = {type: n for type, n in self.stale_types.items() if n > last}

    def pause(self) -> None:
        self.without_pauses.wait(PAUSE)

    def close(self) -> None:
        """Close the folder as it is, for another process to use."""
        self.close_ledger()
        if self.lock:
            self.lock.close()

    def __del__(self) -> None:
        self.close()  # of a mock that never ran


def locked(folder: Path) -> Any:
    """Return the open lock file of a folder, which is locked until it is closed."""
    file = open(folder / ".lock", "ab+", buffering=0)  # noqa: SIM115 (stays open)
    try:
        lock_file(file, folder)
        file.truncate(0)
        file.write(b"%d" % os.getpid())
    except BaseException:
        file.close()
        raise
    return file


def lock_file(file: Any, folder: Path) -> None:
    """Lock an open file. Raise BlockingIOError with the process that uses the folder."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        return
    try:
        with if_supported("locks: nothing keeps a second zmock from writing there too", folder):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip() or "unknown"
        reason = f"{folder} is in use by another zmock (process {holder})"
        raise BlockingIOError(errno.EWOULDBLOCK, reason) from None


class Snapshots:
    """Named copies of a whole state: folders of TinyDB files, or in memory without a folder.

    After a failure or a kill at any moment, a name means the earlier snapshot or the new one. A
    folder .NAME.tmp is waste. A folder .NAME.old is the snapshot NAME until NAME is there.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.held: dict[str, Documents] = {}  # the snapshots in memory

    def names(self) -> list[str]:
        if not self.folder:
            return sorted(self.held)
        names = {*self.entries(r"[^.].*"), *self.leftovers(".old")}
        return sorted(name for name in names if self.place(name).is_dir())

    def entries(self, pattern: str) -> list[str]:
        return matching_names(self.folder, pattern) if self.folder.exists() else []

    def leftovers(self, suffix: str) -> list[str]:
        """Return the names of which a kill or a failure has left .NAME.tmp or .NAME.old."""
        return [name[1 : -len(suffix)] for name in self.entries(rf"\..+\{suffix}")]

    def place(self, name: str) -> Path:
        """Return the folder of a snapshot."""
        target, old = self.folder / name, self.folder / f".{name}.old"
        return old if old.exists() and not target.exists() else target

    def take(self, name: str, documents: Documents) -> None:
        """Keep a snapshot. If that fails, the earlier snapshot of this name stays."""
        if not self.folder:
            self.held[name] = documents
            return
        self.tidy()
        beside, target = self.folder / f".{name}.tmp", self.folder / name
        beside.mkdir(parents=True)
        try:
            for type, items in documents.items():
                write_documents(beside / f"{type}.json", items)
            sync_folder(beside)
            if target.exists():
                os.replace(target, self.folder / f".{name}.old")
            os.replace(beside, target)
        finally:
            self.tidy_if_possible()

    def tidy(self) -> None:
        """Remove what a kill or a failure has left. Raise OSError if that cannot be."""
        if not (self.folder and self.folder.exists()):
            return
        for name in self.leftovers(".old"):
            old, target = self.folder / f".{name}.old", self.folder / name
            if target.exists():
                shutil.rmtree(old)
            else:
                os.replace(old, target)
        for name in self.leftovers(".tmp"):
            shutil.rmtree(self.folder / f".{name}.tmp")
        sync_folder(self.folder)

    def tidy_if_possible(self) -> None:
        """Tidy up where leftovers do no harm: the next snapshot or drop tries it again."""
        try:
            self.tidy()
        except OSError as error:
            log.warning("cannot tidy up the snapshots: %s", error)

    def documents(self, name: str) -> Documents:
        """Return the state that was copied. Raise Broken or OSError if its files cannot be read."""
        if not self.folder:
            return self.held[name]
        names = sorted(matching_names(self.place(name), r".+\.json"))
        return {Path(file).stem: read_documents(self.place(name) / file) for file in names}

    def drop(self, name: str) -> None:
        if not self.folder:
            self.held.pop(name, None)
        elif self.place(name).exists():
            self.tidy()
            os.replace(self.folder / name, self.folder / f".{name}.tmp")
            self.tidy_if_possible()


# ---- Store ---------------------------------------------------------------------------------------

# values as items hold and compare them


def clone(item: Item) -> Item:
    """Return a copy that shares nothing that could be changed."""
    return {key: value if type(value) in SCALARS else copied(value) for key, value in item.items()}


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return clone(value)
    if isinstance(value, (list, tuple)):
        return [copied(element) for element in value]
    return value


def without_nulls(item: Item) -> Item:
    return {key: value for key, value in item.items() if value is not None}


def letters(value: Any) -> str:
    """Return a value as MySQL's utf8_general_ci compares its letters: capitals without accents."""
    text = value if type(value) is str else text_of(value)
    if text.isascii():
        return text.upper()
    decomposed = unicodedata.normalize("NFD", text.replace("ß", "s").upper())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", bare)


def folded(value: Any) -> str:
    """Return a value as that collation compares and sorts it whole: without trailing spaces."""
    return letters(value).rstrip(" ")


def each(item: Item, key: str) -> Iterable[Any]:
    """Return the values of an item at a key: its value, the elements of a list, or none.

    each({"refs": [{"status": "Ready"}, ...]}, "refs.status") -> ["Ready", ...]
    each({"refs": ["a", "b"]}, "refs.uuid") -> ["a", "b"]
    """
    if "." in key:
        return fields_inside(item, key)
    value = item.get(key)
    if isinstance(value, list):
        return value
    return () if value is None else (value,)


def fields_inside(item: Item, key: str) -> Iterator[Any]:
    name, _, inner = key.partition(".")
    for reference in item.get(name, ()):
        value = reference.get(inner) if isinstance(reference, dict) else reference
        if value is not None:
            yield value


def undone(name: str, before: Item, after: Item, now: Item) -> Any:
    """Return the value of a field now, with one change of several taken back.

    Numbers count back. Any other value is restored only if nobody has changed it since.
    """
    was, became, is_now = before.get(name), after.get(name), now.get(name)
    if was == became:
        return is_now
    if all(type(value) in (int, float) for value in (was, became, is_now)):
        return is_now + was - became
    return was if is_now == became else is_now


# what is in memory


Amount = Callable[[Item], int]  # what an item adds to a total


class Table(tinydb.table.Table):
    """The items of one type in memory: by uuid, by number (TinyDB's doc_id), and by indexed fields.

    Items are frozen, and uuids compare without case. An index or a total is made when it is first
    used, and follows every change. The methods of TinyDB hand out copies, and change items through
    Database.change(), so that everybody sees their changes. Standing items are there from the
    start, and kept once they are changed.
    """

    def __init__(self, store: Database, name: str) -> None:
        super().__init__(store.storage, name, cache_size=0)  # a cached answer would not see changes
        self.store = store
        self.indexed = store.indexes.get(name, ())
        self.standing: dict[str, Item] = store.standing.get(name, {})
        self.load({})

    def load(self, documents: dict[int, Item]) -> None:
        """Hold these items, {number: item}, only. Of two with the same uuid, the last counts."""
        self.numbers = {folded(item["uuid"]): number for number, item in documents.items()}
        items = {uuid: frozen(documents[number]) for uuid, number in self.numbers.items()}
        self.items: dict[str, Item] = self.standing | items  # by folded uuid
        self.last = max(documents, default=0)  # the highest number so far
        self.version = object()  # another one after each change
        self.indexes: dict[str, dict[str, dict[str, None]]] = {}  # uuids by field and value
        self.totals: dict[tuple[str, Amount], dict[str, int]] = {}  # by field and amount; by value
        self.order: list[str] | None = None  # uuids in MySQL's order, once they are needed

    def documents(self) -> dict[int, Item]:
        """Return the items by number, as load() takes them: those to keep."""
        documents = {number: self.items[uuid] for uuid, number in self.numbers.items()}
        for uuid, item in self.standing.items():
            if self.items.get(uuid) is item:
                documents.pop(self.numbers.get(uuid), None)
        return documents

    def number_of(self, uuid: str) -> int:
        """Return the number of an item. A new item gets the next one."""
        if uuid not in self.numbers:
            self.numbers[uuid] = self._get_next_id()
        return self.numbers[uuid]

    def put(self, uuid: Uuid, item: Item | None) -> tuple[Item | None, int | None]:
        """Store a frozen item; None removes it. Return the item before, and its number."""
        uuid = folded(uuid)
        before = self.items.get(uuid)
        self.version = object()
        for name, index in self.indexes.items():
            if before is None or item is None or before.get(name) != item.get(name) or "." in name:
                self.reindex(index, name, uuid, before, item)
        if (before is None) != (item is None) and self.order is not None:
            self.reorder(uuid, item is None)
        for (name, amount), totals in self.totals.items():
            self.add_to(totals, name, amount, before, -1)
            self.add_to(totals, name, amount, item, 1)
        if item is None:
            self.items.pop(uuid, None)
            return before, self.numbers.pop(uuid, None)
        self.items[uuid] = item
        return before, self.number_of(uuid)

    @staticmethod
    def reindex(index: dict, name: str, uuid: str, before: Item | None, after: Item | None) -> None:
        for value in each(before, name) if before else ():
            uuids = index[folded(value)]
            uuids.pop(uuid, None)
            if not uuids:
                del index[folded(value)]
        for value in each(after, name) if after else ():
            index[folded(value)][uuid] = None

    def index(self, name: str) -> dict[str, dict[str, None]]:
        """Return the uuids of items by the folded value of a field."""
        if name not in self.indexes:
            self.indexes[name] = defaultdict(dict)
            for uuid, item in self.items.items():
                self.reindex(self.indexes[name], name, uuid, None, item)
        return self.indexes[name]

    @staticmethod
    def add_to(
        totals: dict[str, int], name: str, amount: Amount, item: Item | None, sign: int
    ) -> None:
        for value in each(item, name) if item else ():
            totals[folded(value)] += sign * amount(item)

    def total(self, name: str, value: Any, amount: Amount) -> int:
        """Return the sum of amount(item) over the items whose field has a value."""
        if (name, amount) not in self.totals:
            totals = self.totals[name, amount] = defaultdict(int)
            for item in self.items.values():
                self.add_to(totals, name, amount, item, 1)
        return self.totals[name, amount].get(folded(value), 0)

    def reorder(self, uuid: str, removed: bool) -> None:
        position = bisect.bisect_left(self.order, uuid)
        if removed:
            del self.order[position]
        else:
            self.order.insert(position, uuid)

    def in_order(self, start: int | None = None, stop: int | None = None) -> Iterator[Item]:
        if self.order is None:
            self.order = sorted(self.items)
        page = self.order if stop is None else self.order[start:stop]
        return map(self.items.__getitem__, page)

    # all other methods of TinyDB's Table use these three

    def _get_next_id(self) -> int:
        self.last += 1
        return self.last

    def _read_table(self) -> dict[str, Mapping[Any, Any]]:
        documents = self.store.call_in_loop(self.copies)
        return {str(number): document for number, document in documents.items()}

    def _update_table(self, updater: Callable[[dict[int, Any]], None]) -> None:
        self.store.call_in_loop(self.apply, updater)

    def copies(self) -> dict[int, Item]:
        """Return copies of all items by number. Standing items get a number here."""
        return {self.number_of(uuid): clone(item) for uuid, item in self.items.items()}

    def apply(self, updater: Callable[[dict[int, Any]], None]) -> None:
        """Let TinyDB change copies of the items. Store those that it changed, all or none."""
        before, after = self.copies(), self.copies()
        updater(after)
        with self.store.all_or_nothing():
            for number, item in before.items():
                if number not in after:
                    self.store.remove(self.name, item["uuid"])
            for number, document in after.items():
                item = before.get(number)
                if document != item:
                    self.check(number, document, item)
                    self.numbers[folded(document["uuid"])] = number
                    self.last = max(self.last, number)
                    self.store.put(self.name, without_nulls(document))

    def check(self, number: int, document: Item, before: Item | None) -> None:
        """Raise ValueError or TypeError for a document that cannot be stored."""
        uuid = document.get("uuid")
        if not 0 <= number < 10**18:
            raise ValueError(f"{number} is no number of an object")
        if type(uuid) is not str or not uuid:
            raise ValueError(f"an object of {self.name} needs a uuid, a text: {document}")
        if before and uuid != before["uuid"]:
            change = f"{before['uuid']} cannot be changed to {uuid}"
            raise ValueError(f"the uuid of {self.name} {change}")
        if not before and folded(uuid) in self.items:
            raise ValueError(f"{self.name} {uuid} is there already")
        to_line(number, document)  # raises for a value that JSON cannot hold

    def __len__(self) -> int:
        return len(self.items)


class Tables(dict[str, Table]):
    """The tables by type. TinyDB calls it, as db.tables(), for their names."""

    def __call__(self) -> set[str]:
        return set(self)


@dataclass
class Image:
    """A whole state, {type: {number: item}}, as Database.put_back() takes it."""

    documents: Documents


class Database(tinydb.TinyDB):
    """The items of a cloud in memory: a TinyDB with a Table per type, and with quicker methods.

    cloud.db.table("Zone").search(where("name") == "zone-1") is find("Zone", "name", "zone-1").
    Items that come in are copied and frozen. get() returns a copy, all other methods frozen items.
    Changes made in all_or_nothing() can be taken back.
    """

    tables: Tables

    def __init__(
        self,
        indexes: dict[str, Any],
        standing: dict[str, dict[str, Item]],
        folder: Path | str | None,
        durable: bool,
    ) -> None:
        if folder:
            super().__init__(folder, indexes.keys() | OWN_TYPES, durable, storage=Folder)
        else:
            super().__init__(storage=MemoryStorage)
        self.indexes = indexes  # the fields to index, by type
        self.standing = standing  # items that are there without being kept, by type and folded uuid
        self.tables = Tables()
        self.pending: Changes | None = None  # for the next commit; None if nothing is kept
        self.log: list[tuple] | None = None  # the changes in all_or_nothing()
        self.writes = 0  # how often anything was changed
        self.watch: Callable[[str, Uuid, Item | None], None] | None = None  # hears of each change
        # TinyDB's methods may run in another thread than the loop.
        self.call_in_loop: Callable[..., Any] = operator.call

    def table(self, name: str, **options: Any) -> Table:
        if name not in self.tables:
            if name not in self.indexes and name not in OWN_TYPES:
                raise ValueError(f"there is no table {name}{did_you_mean(name, self.indexes)}")
            self.tables[name] = Table(self, name)
        return self.tables[name]

    def drop_table(self, name: str) -> None:
        self.table(name).truncate()

    def drop_tables(self) -> None:
        for name in self.tables:
            self.drop_table(name)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a cloud has no {name}, and no default table; try db.table('Zone').{name}"
        )

    def __len__(self) -> int:
        return sum(map(len, self.tables.values()))

    # reading

    def get(self, type: str, uuid: Uuid) -> Item | None:
        """Return a copy of an item, or None."""
        item = self.peek(type, uuid)
        return clone(item) if item is not None else None

    def peek(self, type: str, uuid: Any) -> Item | None:
        """Return the item itself, or None."""
        return self.table(type).items.get(folded(uuid)) if isinstance(uuid, str) else None

    def spelling(self, uuid: Uuid, types: Iterable[str]) -> Uuid:
        """Return a uuid as the item of one of these types spells it; as it is if no item has it."""
        key = folded(uuid)
        for type in types:
            if type in self.tables or type in self.standing:
                item = self.table(type).items.get(key)
                if item:
                    return item["uuid"]
        return uuid

    def rows(self, type: str) -> Collection[Item]:
        return self.table(type).items.values()

    def count(self, type: str) -> int:
        return len(self.table(type).items)

    def in_order(
        self, type: str, start: int | None = None, stop: int | None = None
    ) -> Iterator[Item]:
        """Return the items by uuid, as MySQL answers without `order by`, or a page of them."""
        return self.table(type).in_order(start, stop)

    def find(self, type: str, field: str, value: Any) -> list[Item]:
        """Return the items whose field has the value, or holds it in a list."""
        table = self.table(type)
        if field == "uuid":
            item = self.peek(type, value)
            return [item] if item else []
        if field in table.indexed or field in table.indexes:
            return [table.items[uuid] for uuid in table.index(field).get(folded(value), ())]
        wanted = folded(value)
        return [item for item in table.items.values() if wanted in map(folded, each(item, field))]

    def how_many(self, type: str, field: str, value: Any) -> int:
        """Return how many items find() would return, for an indexed field."""
        if field == "uuid":
            return 1
        return len(self.table(type).index(field).get(folded(value), ()))

    # writing

    def put(self, type: str, item: Item) -> None:
        self.change(type, item["uuid"], item)

    def update(self, type: str, uuid: Uuid, /, **changes: Any) -> None:
        """Change fields of an item. None removes a field."""
        changed = without_nulls(self.peek(type, uuid) | frozen(changes))
        self.change(type, uuid, FrozenDict(changed))

    def remove(self, type: str, uuid: Uuid) -> None:
        self.change(type, uuid, None)

    def change(self, type: str, uuid: Uuid, item: Item | None) -> None:
        """Store an item in the place of the earlier one, or remove that if `item` is None."""
        item = frozen(item)
        before, number = self.table(type).put(uuid, item)
        self.writes += 1
        if number is not None and self.pending is not None:
            self.pending.setdefault(type, {})[number] = item
        if self.watch:
            self.watch(type, uuid, before)
        if self.log is not None:
            self.log.append((type, uuid, before, item))

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[list[tuple]]:
        """Yield the log of the changes in the block. Take them back if an exception leaves it."""
        outer, self.log = self.log, []
        log = self.log
        try:
            yield log
        except BaseException:
            self.log = None
            self.take_back(log)
            raise
        finally:
            self.log = outer
        if outer is not None:
            outer += log

    def take_back(self, log: list[tuple]) -> None:
        """Undo changes, the last one first. Fields that others have set since stay."""
        for type, uuid, before, after in reversed(log):
            now = self.peek(type, uuid)
            if before and after and now:
                names = before.keys() | after.keys()
                restored = {name: undone(name, before, after, now) for name in names}
                self.change(type, uuid, without_nulls(now | restored))
            elif not (before and after):
                self.change(type, uuid, before)

    # whole states

    def image(self) -> Image:
        """Return the state now."""
        documents = {name: table.documents() for name, table in self.tables.items()}
        return Image({name: items for name, items in documents.items() if items})

    def put_back(self, image: Image) -> None:
        """Hold the state of an image in the place of everything before."""
        for name in self.tables.keys() | image.documents.keys():
            self.table(name).load(image.documents.get(name, {}))
        self.writes += 1

    def clear(self) -> None:
        self.put_back(Image({}))


# what a commit says

Undo = Callable[[ApiError], Any]
TICK: Seconds = 0.5  # of real time; the files are up to date two ticks after the last commit


class Commit:
    """A write of the pending changes, shared by all calls that wait for it.

    It holds what these calls want undone if the write fails.
    """

    def __init__(self, store: Store) -> None:
        self.undos: list[Undo] = []
        self.task = asyncio.ensure_future(store.write_next(self))
        self.task.add_done_callback(self.retrieve)

    @staticmethod
    def retrieve(task: asyncio.Task) -> None:
        """Retrieve the error, which asyncio would log if nobody waits for this commit."""
        if not task.cancelled():
            task.exception()

    async def wait(self, undo: Undo | None = None) -> None:
        if undo:
            self.undos.append(undo)
        await asyncio.shield(self.task)

    async def over(self) -> None:
        """Return when the write has succeeded or failed."""
        await asyncio.wait([self.task])

    def undo(self, refusal: ApiError) -> None:
        """Call the undos, the last one first. If one of them fails, log it and go on."""
        for undo in reversed(self.undos):
            try:
                undo(refusal)
            except Exception as error:
                log.error("what could not be kept could not be taken back", exc_info=error)


class Failures:
    """The failures of a folder until all is well again, for calls, /zmock/health and the log."""

    def __init__(self, path: Path | str | None) -> None:
        self.path = path
        self.reason = ""  # of the last failure, until a commit succeeds
        self.failing: set[str] = set()  # the kinds of work that failed last: commit, fold
        self.logged: set[tuple] = set()  # the kinds of failure in the log

    @contextlib.contextmanager
    def guard(self, work: str) -> Iterator[None]:
        """Turn whatever goes wrong in the block into SYS.1016."""
        try:
            yield
        except Exception as error:
            raise ApiError("SYS.1016", self.failed(work, error)) from error
        self.succeeded(work)

    def failed(self, work: str, error: Exception) -> str:
        """Note a failure, log it if it is the first of its kind, and return a sentence on it."""
        expected = isinstance(error, (OSError, Broken))
        self.reason = str(error) if expected else f"{type(error).__name__}: {error}"
        sentence = f"in {self.path}: {self.reason}"
        kind = type(error), getattr(error, "errno", None)
        if kind not in self.logged:
            log.error("cannot keep the cloud %s", sentence, exc_info=None if expected else error)
        self.logged.add(kind)
        self.failing.add(work)
        return f"the cloud cannot be kept {sentence}"

    def succeeded(self, work: str) -> None:
        self.failing.discard(work)
        if work == "commit" or not self.failing:
            self.reason = ""
        if self.logged and not self.failing:
            log.warning("the cloud is kept in %s again", self.path)
            self.logged.clear()


class Store(Database):
    """A Database that is kept in a Folder; in memory only without one.

    commit() returns when all changes made before it are on the disk. Calls that commit together
    share one write, and their changes are undone if it fails. Reading never touches the disk. Every
    TICK the store writes the changes that nobody waits for, tries a failed write again, and folds
    the ledger into the files if no commits come.
    """

    def __init__(
        self,
        indexes: dict[str, Any],
        folder: Path | str | None = None,
        durable: bool = True,
        standing: dict[str, dict[str, Item]] | None = None,
    ) -> None:
        super().__init__(indexes, standing or {}, folder, durable)
        self.folder: Any = self.storage if folder else None
        self.durable = durable
        self.pending: Changes | None = {} if folder else None
        self.whole = False  # True if the next commit is to keep the whole state
        self.writing: Commit | None = None  # under way
        self.waiting: Commit | None = None  # to come
        self.writes_done = self.writes_seen = 0  # of commits, now and at the last tick
        self.tending: asyncio.Future | None = None
        self.failures = Failures(folder)
        self.reports: list[str] = []  # reports on what was not as it should be at the start

    def open(self) -> None:
        """Lock the folder for this process, and load the state that it keeps."""
        if not self.folder:
            return
        self.folder.open()
        with no_collection():
            documents = self.folder.read()
            super().put_back(Image(documents))
        for line in self.folder.reports:
            self.report(line)
        for name, items in documents.items():
            twice = len(items) - len(self.table(name).numbers)
            if twice:
                objects = f"{counted(twice, 'object')} with the uuid of another"
                self.report(f"{name}.json holds {objects}; the last one counts")

    def report(self, line: str) -> None:
        """Tell people what is not as it should be, in the log and in /zmock/health."""
        log.error("%s", line)
        self.reports.append(line)

    @property
    def state(self) -> str:
        """Where the changes are, for people: memory, kept, writing, or why they cannot be kept."""
        if not self.folder:
            return "memory"
        if self.failures.reason:
            return f"failing: {self.failures.reason}"
        return "writing" if self.whole or self.pending or self.writing else "kept"

    def put_back(self, image: Image) -> None:
        """Hold the state of an image only. The next commit keeps the whole state."""
        super().put_back(image)
        self.whole = self.folder is not None
        for commit in (self.writing, self.waiting):
            if commit:
                commit.undos.clear()  # the changes are gone

    # commits

    async def commit(self, undo: Undo | None = None) -> None:
        """Return when every change made before this call is on the disk.

        If it cannot be written, call undo(error) before anything else happens, and raise ApiError.
        """
        if self.whole or self.pending or self.writing or self.waiting:
            commit = self.next_commit()
            if self.durable:
                await commit.wait(undo)

    async def try_commit(self) -> None:
        """Commit changes that nobody waits for. If that fails, the next commit writes them."""
        with contextlib.suppress(ApiError):
            await self.commit()

    def next_commit(self) -> Commit:
        if self.waiting is None:
            self.waiting = Commit(self)
        return self.waiting

    async def write_next(self, commit: Commit) -> None:
        """Write the pending changes when the commit before is over."""
        if self.writing:
            await self.writing.over()
        self.writing, self.waiting = commit, None
        try:
            with self.pending_write() as write:
                if write:
                    await asyncio.to_thread(write)
        except ApiError as error:
            commit.undo(error)
            raise
        finally:
            self.writing = None

    def write_now(self) -> None:
        with self.pending_write() as write:
            if write:
                write()

    @contextlib.contextmanager
    def pending_write(self) -> Iterator[Callable[[], None] | None]:
        """Yield the function that writes the pending changes, None if there are none.

        That is the whole state if somebody has removed the folder, or if the last write failed.
        """
        with self.failures.guard("commit"):
            whole = self.whole or self.folder.is_lost()
            changes, self.pending, self.whole = self.pending, {}, False
            try:
                if whole:
                    yield functools.partial(self.folder.write, self.image().documents)
                else:
                    yield functools.partial(self.folder.append, changes) if changes else None
            except BaseException:
                self.whole = True
                raise
            self.writes_done += whole or bool(changes)

    # the files

    def start(self) -> None:
        """Tend the folder from now on, in the running loop."""
        if self.folder:
            self.tending = asyncio.ensure_future(self.tend_on())

    async def tend_on(self) -> None:
        while True:
            await real_time(TICK)
            await self.tend()

    async def tend(self) -> None:
        """Write the pending changes. Fold the ledger if no commit came since the last time."""
        try:
            await self.next_commit().wait()
        except ApiError:
            return
        quiet = self.writes_done == self.writes_seen
        self.writes_seen = self.writes_done
        if self.folder.is_long or (quiet and self.folder.is_behind):
            await self.fold()

    async def fold(self) -> None:
        """Bring the TinyDB files up to date."""
        while self.writing:
            await self.writing.over()
        with contextlib.suppress(ApiError):
            self.write_now()  # rarely anything; the files must not hold what no ledger holds
            with self.failures.guard("fold"):
                documents, last = self.to_fold()
                await asyncio.to_thread(self.folder.fold, documents, last)

    def to_fold(self) -> tuple[Documents, int]:
        """End the ledger. Return the items of the types that it changed, and its number."""
        last = self.folder.end_ledger()
        return {type: self.table(type).documents() for type in self.folder.stale_types}, last

    # the end

    async def rest(self) -> None:
        """Return when nothing is being written."""
        await self.try_commit()
        while commit := self.waiting or self.writing:
            await commit.over()

    @contextlib.contextmanager
    def released_on_failure(self) -> Iterator[None]:
        """Close the folder if an exception leaves the block: nobody else will."""
        try:
            yield
        except BaseException:
            if self.folder:
                self.folder.close()
            raise

    def close(self) -> None:
        """Write the pending changes, bring the files up to date, and close the folder."""
        if not self.folder:
            return
        if self.tending:
            self.tending.cancel()
        self.folder.without_pauses.set()
        with contextlib.suppress(ApiError):
            self.write_now()
            with self.failures.guard("fold"):
                if self.folder.is_behind:
                    self.folder.fold(*self.to_fold())
        self.folder.close()
        self.folder = self.pending = None  # changes after this stay in memory only


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Switch the garbage collector off, which would take longer than reading many objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# global configurations


@functools.lru_cache(maxsize=8)
def standing_in(catalogue: Catalogue) -> dict[str, dict[str, Item]]:
    """Return the items that every cloud has until they are changed: the global configurations."""
    rows = catalogue.configurations.values()
    return {"GlobalConfig": {folded(row.name): frozen(row.item) for row in rows}}


def configured(cloud: Cloud, category: str, name: str) -> Any:
    """Return the value of a global configuration as its type.

    configured(cloud, "identity", "session.timeout") -> 7200
    """
    key = f"{category}/{name}"
    text = cloud.store.peek("GlobalConfig", key).get("value")
    return cloud.catalogue.configurations[key].read(text)


# ---- Query ---------------------------------------------------------------------------------------

Fields = dict[str, str]  # the type of each field: {"cpuNum": "int"}
Arguments = list[tuple[str, str]]  # the pairs of a query string
Predicate = Callable[[Any], bool]
MANY = ("list", "maps", "map")  # types of fields that hold several values


# operators


def like(pattern: str) -> Callable[[str], Any]:
    """Compile a pattern of SQL's LIKE into a test of letters(text).

    % is any run of characters, _ any character, and a backslash takes the next one as it is.
    The text after each % is searched for in an atomic group: the first place where it stands
    is final. Nothing is tried twice, so no pattern is slow.
    """
    if plain := re.fullmatch(r"%([^%_\\]+)%", pattern):
        return functools.partial(has_part, letters(plain[1]))
    runs = [""]
    for part in re.findall(r"\\.|.", letters(pattern), re.S):
        if part == "%":
            runs.append("")
        else:
            runs[-1] += "." if part == "_" else re.escape(part[-1])
    regex = runs[0]
    for run in runs[1:-1]:
        regex += f"(?>.*?{run})"
    if len(runs) > 1:
        regex += f".*{runs[-1]}"
    return re.compile(regex, re.S).fullmatch


def has_part(part: str, text: str) -> bool:
    return part in text


def is_unlike(matches: Predicate, text: str) -> bool:
    return not matches(text)


def is_none_of(values: frozenset, value: Any) -> bool:
    return value not in values


@dataclass(frozen=True)
class Operator:
    """A comparison in conditions.

    reads   the operand after the sign: "value", "list", "pattern" or "nothing"
    says    the description in docs/queries.md
    holds   the test holds(operand, value) of a value that is not null
    in_zql  the sign in ZQL, if it is another
    """

    sign: str
    reads: str
    says: str
    holds: Callable[[Any, Any], bool]
    in_zql: str = ""


LIKE_HELP = "like: `%` is any run, `_` one character, `\\` escapes"

# The operator of a condition is the first one that it *contains* (RestServer.java): the order
# matters. A null satisfies "is null" only.
OPERATORS = {
    row.sign: row
    for row in (
        Operator("!=", "value", "not equal", operator.ne),
        Operator(">=", "value", "greater or equal", operator.le),
        Operator("<=", "value", "less or equal", operator.ge),
        Operator("!?=", "list", "none of a list, `a,b`", is_none_of, "not in"),
        Operator("!~=", "pattern", "not like", is_unlike, "not like"),
        Operator("~=", "pattern", LIKE_HELP, operator.call, "like"),
        Operator("?=", "list", "one of a list, `a,b`", operator.contains, "in"),
        Operator("=", "value", "equal", operator.eq),
        Operator(">", "value", "greater", operator.lt),
        Operator("<", "value", "less", operator.gt),
        Operator("is null", "nothing", "has no value", operator.is_),
        Operator("not null", "nothing", "has a value", operator.is_not, "is not null"),
    )
}

NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
MYSQL_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.\d*)?)?\s*")
ZERO_DATE = "0000-00-00 00:00:00"


def mysql_number(text: str) -> float:
    """Return a number as MySQL reads it from text: "12abc" -> 12, "abc" -> 0."""
    match = NUMBER.match(text)
    if not match:
        return 0
    digits, fraction, exponent = match[0], match[2], match[3]
    is_whole = not (fraction or exponent or "." in digits or len(digits) > 300)
    return int(digits) if is_whole else float(digits)


def instant(text: str) -> Stamp:
    """Return a date as MySQL reads it. Other text is the zero date, which is before all others."""
    match = MYSQL_DATE.fullmatch(text)
    return f"{match[1]} {match[2] or '00:00:00'}" if match else ZERO_DATE


def true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def as_number(value: Any) -> float:
    return value if type(value) in (int, float) else mysql_number(text_of(value))


# How values of a type are compared: the function that reads the operand of a condition, and the
# one that converts a stored value. Other types are compared as text.
COMPARED: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "int": (mysql_number, as_number),
    "long": (mysql_number, as_number),
    "double": (mysql_number, as_number),
    "date": (instant, str),
    "bool": (true_or_false, bool),
}
AS_TEXT = (folded, folded)


# conditions


@dataclass
class Condition:
    """One condition: "vmNics.ip=10.0.0.1" has the path ("vmNics", "ip").

    One of ZQL, "vmNics.ip in ('10.0.0.1')", has more:

    operands   its values, in which a comma separates nothing
    query      the sub-query that has the values
    resource   the resource that it is about, if it stands behind `restrict by`
    """

    text: str
    path: tuple[str, ...]
    sign: str
    value: str
    operands: list[str] | None = None
    query: ZqlStatement | None = None
    resource: Resource | None = None

    @property
    def field(self) -> str:
        return self.path[-1]

    @property
    def negative(self) -> bool:
        return self.sign.startswith("!")

    @property
    def positive(self) -> Condition:
        """The condition without its negation: "name!=a" -> "name=a"."""
        return replace(self, sign=self.sign.lstrip("!"))

    def values(self, kind: str) -> list[str]:
        """Return the values to compare with. Commas at the end of a list do not count.

        The comma inside a date as answers show it, "Jul 10, 2018", separates nothing.
        """
        if self.operands is not None:
            return self.operands
        if OPERATORS[self.sign].reads != "list":
            return [self.value]
        comma = r",(?! \d{4}(?: |,|$))" if kind == "date" else ","
        return re.split(comma, self.value.rstrip(","))

    def compile(self, kind: str, parse_date: Callable[[str], Stamp]) -> tuple[Callable, Predicate]:
        """Return (convert, holds): a value of the type satisfies it if holds(convert(value)).

        Raise ValueError for an operand that is no value of the type.
        """
        row = OPERATORS[self.sign]
        if kind == "bool":  # true and false have no letters
            row = OPERATORS[self.sign.replace("~", "")]
        parse: Callable[[str], Any]
        convert: Callable[[Any], Any]
        parse, convert = COMPARED.get(kind, AS_TEXT)
        if kind == "date":
            parse = parse_date
        operand: Any = None
        if row.reads == "pattern":
            operand = like(self.value)
            convert = letters
        elif row.reads == "list":
            operand = frozenset(map(parse, self.values(kind)))
        elif row.reads == "value":
            operand = parse(self.value)
        return convert, functools.partial(row.holds, operand)


@dataclass
class Compound:
    """Conditions joined by `and`, or by `or`."""

    word: str
    parts: list[Condition | Compound]

    @property
    def text(self) -> str:
        """The conditions in the brackets that the server puts around them."""
        return f"({f' {self.word} '.join(part.text for part in self.parts)})"


def read_condition(text: str, dialect: Dialect) -> Condition:
    """Parse a condition. Raise a 400 if it has no operator or no name (RestServer.java)."""
    invalid = f"Invalid query parameter. The '{text}' in"
    sign = next((sign for sign in OPERATORS if sign in text), None)
    if not sign:
        signs = ", ".join(OPERATORS)
        details = "the parameter[q] doesn't contain any query operator. Valid query operators are"
        raise FrontError(400, f"{invalid} {details} [[{signs}]]", meant(text))
    name, _, value = text.partition(sign)
    if not name.strip():
        raise FrontError(400, f"{invalid} parameter[q] is not a key-value pair split by =")
    spaced = not sign.endswith("null") and (name != name.strip() or value != value.lstrip())
    if spaced and dialect["spaced-condition"]:
        hint = meant(text) or f"write {name.strip()}{sign}{value.strip()}"
        raise FrontError(400, f"{invalid} parameter[q] has spaces around '{sign}'", hint)
    if dialect["null-test"] and sign in ("=", "!=") and value == "null":
        sign = "is null" if sign == "=" else "not null"
    return Condition(text, tuple(name.strip().split(".")), sign, value)


# queries


@dataclass
class Query:
    """A query of a collection. With a uuid, nothing else counts (RestServer.java)."""

    uuid: str = ""
    conditions: list[Any] = field(default_factory=list)
    limit: int = 1000
    start: int = 0
    count: bool = False
    with_count: bool = False
    sort: str = ""
    descending: bool = False
    fields: list[str] | None = None
    group_by: str = ""
    resource: Resource | None = None  # in ZQL, see Catalogue.entities

    def kind(self, discriminator: str) -> str | None:
        """Return the subtype that a condition names, or None (QueryFacadeImpl.java)."""
        for condition in self.conditions:
            if condition.path == (discriminator,) and condition.sign == "=":
                return condition.value
        return None


MOST_ROWS = 1 << 31


@dataclass
class ZqlStatement(Query):
    """A query in ZQL. Its entity may be a subtype; no condition names one."""

    limit: int = MOST_ROWS

    def kind(self, discriminator: str) -> None:
        return None


QUERY_KEYS = {
    "q", "condition", "limit", "start", "count", "groupBy", "replyWithCount", "sort", "fields",
}


@functools.lru_cache(16)
def keys_read(dialect: Dialect) -> set[str]:
    """Return the keys that a query reads. The server ignores two of the manual's."""
    rows = {"condition": "condition-alias", "groupBy": "group-by"}
    return {key for key in QUERY_KEYS if key not in rows or dialect[rows[key]]}


def read_query(pairs: Iterable[tuple[str, str]], dialect: Dialect) -> tuple[Query, set[str]]:
    """Parse a query string (RestServer.java handleQueryApi).

    Return the query, and the keys that no query reads. Of a repeated key the first value counts.
    """
    values = defaultdict(list)
    for name, value in pairs:
        is_condition = name == "" or (name == "condition" and dialect["condition-alias"])
        values["q" if is_condition else name].append(value)
    first = defaultdict(str, {name: texts[0].strip() for name, texts in values.items()})
    query = Query(
        conditions=[read_condition(text, dialect) for text in values["q"]],
        limit=integer(first, "limit", 1000),
        start=integer(first, "start", 0),
        count=first["count"].lower() == "true",
        with_count=first["replyWithCount"].lower() == "true",
        sort=first["sort"].lstrip("+-").strip(),
        descending=first["sort"].startswith("-"),
    )
    if dialect["group-by"]:
        query.group_by = first["groupBy"]
    lists = values["fields"]
    if not dialect["repeated-fields"]:
        lists = lists[:1]
    if lists:
        query.fields = [name.strip() for name in ",".join(lists).split(",")]
    lowest = min(query.limit, query.start)
    if lowest < 0:
        raise bad_field(dialect, f"limit and start are numbers from 0, not {lowest}")
    return query, values.keys() - keys_read(dialect)


def integer(values: dict[str, str], name: str, default: int) -> int:
    if name not in values:
        return default
    text = values[name]
    if not re.fullmatch(r"[-+]?\d{1,10}", text) or abs(int(text)) >= 1 << 31:
        raise FrontError(400, f"Invalid query parameter. '{name}' must be an integer")
    return int(text)


def bad_field(dialect: Dialect, details: str, hint: str = "") -> ApiError:
    """Return the error of a query that names an unknown field (dialect row unknown-field)."""
    if dialect["unknown-field"]:
        return FrontError(400, details, hint)
    return ApiError("SYS.1000", details, hint=hint)


# hints on keys and conditions

OTHER_KEYS = {  # by the right key: keys of other APIs, in lower case and without punctuation
    "limit": "pagesize perpage size max maxresults top take pagelimit rows",
    "start": "offset skip from startindex marker",
    "start and limit": "page pageno pagenum pagenumber pageindex currentpage",
    "sort": "order orderby ordering sortkey sortfield",
    "sort=-name for descending order": "sortdirection sortorder direction sortdir desc asc",
    "q": "filter filters where query search",
    "fields": "select columns attributes include",
    "replyWithCount=true": "total withtotal withcount includetotal",
}


def other_key(name: str, fields: Fields, dialect: Dialect) -> str:
    """Return a hint for a key that no query reads: the key to write instead."""
    if name in QUERY_KEYS - keys_read(dialect):
        return f"the server does not read {name}" + (": write q" if name == "condition" else "")
    if name in fields:
        return f"a query does not read {name}: write q={name}=..."
    plain = re.sub(r"\W|_", "", name).lower()
    for key, others in OTHER_KEYS.items():
        if plain in others.split():
            return f"a query does not read {name}: write {key}"
    return f"a query does not read {name}{did_you_mean(name, keys_read(dialect))}"


# Operators of other languages, and ZStack's own, with the form of the condition behind the name.
# One that contains another comes before it.
SLIPS = {
    "is not null": " not null",
    "not null": " not null",
    "is null": " is null",
    "isnull": " is null",
    "not like": "!~={}",
    "not in": "!?={}",
    "like": "~={}",
    "in": "?={}",
    "contains": "~=%{}%",
    "eq": "={}",
    "ne": "!={}",
    "gt": ">{}",
    "ge": ">={}",
    "gte": ">={}",
    "lt": "<{}",
    "le": "<={}",
    "lte": "<={}",
    "===": "={}",
    "!==": "!={}",
    "==": "={}",
    "=~": "~={}",
    "=>": ">={}",
    "=<": "<={}",
    "<>": "!={}",
    **{sign: f"{sign}{{}}" for sign in [*OPERATORS][:-2]},  # not the null tests
    ":": "={}",
    "~": "~={}",
}


def meant(text: str) -> str:
    """Return a hint on a condition in another language: "name like web" -> "write name~=web".

    Return "" for other text, and for a condition that is right.
    """
    for slip, form in SLIPS.items():
        between = rf"\s+{slip}\b\s*" if slip[0].isalpha() else rf"\s*{re.escape(slip)}\s*"
        match = re.fullmatch(rf"\s*([\w.]+){between}(.*?)\s*", text, re.I | re.S)
        if match:
            value = bare_list(match[2]) if "?=" in form else bare(match[2])
            better = match[1] + form.format(value)
            return "" if better == text else f"write {better}"
    return ""


def bare(value: str) -> str:
    """Return a value without the quotes around it."""
    if re.fullmatch(r"(['\"]).*\1", value, re.S):
        return value[1:-1]
    return value


def bare_list(text: str) -> str:
    """Return a list without brackets, spaces and quotes: "('a', 'b')" -> "a,b"."""
    if re.fullmatch(r"[(\[].*[)\]]", text, re.S):
        text = text[1:-1]
    return ",".join(bare(word.strip()) for word in text.split(","))


TWO_CONDITIONS = re.compile(
    r"(.+?)(?: +and +| *&& *| *; *)([\w.]+ *(?:[=<>!~?].*| is null| not null))", re.I | re.S
)


def another_reading(condition: Condition, kind: str) -> str:
    """Return what the writer of a condition without matches may have meant, or ""."""
    if condition.operands is not None:  # ZQL has other words
        return ""
    name, value = ".".join(condition.path), condition.value
    sign = condition.sign
    like_sign = sign.replace("~", "").replace("=", "~=")
    if two := TWO_CONDITIONS.fullmatch(condition.text):
        return f"write q={two[1]}&q={two[2]}"
    if kind == "date":
        if sign != "=" or ":" in value:
            return ""
        return f"{value} alone is midnight, write q={name}>={value} and q={name}< the day after"
    if better := meant(condition.text):
        return better
    if "*" in value and "%" not in value and sign in ("=", "!=", "~=", "!~="):
        return f"write {name}{like_sign}{value.replace('*', '%')}"
    if "%" in value and sign in ("=", "!="):
        return f"write {name}{like_sign}{value}"
    if OPERATORS[sign].reads == "pattern" and not re.search("[%_]", value):
        return f"without % the whole text counts, write {name}{sign}%{value}%"
    return ""


# evaluation

DEEPEST = 20  # relations in one condition
EXAMPLES = 10  # uuids of dropped items that explain() names
TAGS = {
    "__systemTag__": Relation("__systemTag__", "uuid", "SystemTag", "resourceUuid"),
    "__userTag__": Relation("__userTag__", "uuid", "UserTag", "resourceUuid"),
}
ALIASES = {  # other names of fields, each allowed by a dialect row
    ("GarbageCollector", "state"): ("gc-state", "status"),
    ("Eip", "ip"): ("eip-ip", "vipIp"),
}
uuid_of = operator.itemgetter("uuid")


class Term:
    """A condition, compiled for the items of a resource.

    passes   the test of an item
    size     the number of items that pass, at most; infinite if no index tells
    fetch    reads the items that pass, if an index tells
    index    the name of that index, "Zone.name"
    """

    def __init__(self, rows: QueryEngine, resource: Resource, passes: Predicate) -> None:
        self.rows = rows
        self.resource = resource
        self.passes = passes
        self.size = math.inf
        self.index = ""

    def use_index(self, key: str, values: Iterable[str]) -> None:
        """Have fetch() read the items whose key has one of the values."""
        self.fetch = functools.partial(self.rows.by_keys, self.resource, key, values)
        self.size = sum(self.rows.how_many(self.resource, key, value) for value in values)

    def cost(self) -> float:
        """Return about how many items are read to find those that pass."""
        return self.size

    def plan(self, most: float) -> None:
        """Choose how to test items, of which at most so many will be tested."""


class Join(Term):
    """A condition behind a relation: own key IN (SELECT their key ...) (QueryFacadeImpl.java).

    plan() takes the one of two ways that reads fewer items:

    * Find all targets that satisfy the condition, and collect their keys. An item passes if its
      own key is among them.
    * For each item, find its targets by their key, and test them.

    With `negated`, an item passes if it has no such target (TagZQLExtension.java).
    """

    def __init__(
        self,
        rows: QueryEngine,
        resource: Resource,
        relation: Relation,
        condition: Term,
        negated: bool,
    ) -> None:
        super().__init__(rows, resource, self.has_match)
        self.relation = relation
        self.condition = condition
        self.target = condition.resource
        self.negated = negated
        self.is_collected = False
        self.matches: dict[str, bool] = {}  # True for a key that leads to a match

    def cost(self) -> float:
        return min(self.condition.cost(), self.rows.count_of(self.target))

    def plan(self, most: float) -> None:
        theirs = self.relation.theirs
        targets = most * self.targets_per_item()
        if self.rows.indexed(self.target, theirs) and targets < self.cost():
            self.index = f"{self.target.name}.{theirs}"
            self.condition.plan(targets)
        else:
            self.collect_matches()

    def targets_per_item(self) -> float:
        """Return about how many targets an item has."""
        if self.relation.theirs == "uuid":
            return 1
        items = max(1, self.rows.count_of(self.resource))
        return max(1, self.rows.count_of(self.target) / items)

    def collect_matches(self) -> None:
        targets, first = self.rows.narrow([self.condition], self.target)
        for target in targets:
            for key in each(target, self.relation.theirs):
                self.matches[folded(key)] = True
        self.is_collected = True
        if first:
            self.index = first.index
        if self.rows.indexed(self.resource, self.relation.own) and not self.negated:
            self.use_index(self.relation.own, self.matches)

    def has_match(self, item: Item) -> bool:
        return any(map(self.leads_to_match, each(item, self.relation.own))) != self.negated

    def leads_to_match(self, value: str) -> bool:
        key = folded(value)
        if key not in self.matches and not self.is_collected:
            targets = self.rows.find(self.target, self.relation.theirs, key)
            self.matches[key] = any(map(self.condition.passes, targets))
        return self.matches.get(key, False)


class QueryEngine:
    """The query engine: evaluates queries over a Store, or over the part that an account sees.

    select() takes these steps:

    1. check_names() refuses unknown names in `sort`, `groupBy` and `fields`.
    2. term() compiles each condition. It refuses unknown names and impossible values.
    3. narrow() lets each Join choose its way. It then reads the items from the index of the
       term with the smallest size, or the whole table if no size is small, and filters them by
       the other terms.
    4. The items are grouped, counted, sorted, and cut to the page.
    """

    def __init__(
        self, catalogue: Catalogue, dialect: Dialect, tables: Store | View,
        computed: dict[tuple[str, str], Callable[[Item], Any]], ahead: Seconds = 0,
    ) -> None:
        self.catalogue = catalogue
        self.dialect = dialect
        self.tables = tables
        self.computed = computed  # functions of an item, for fields that are not stored
        self.ahead = ahead  # seconds by which the dates of items are ahead of UTC

    def select(self, query: Query, resource: Resource) -> tuple[list[Item], int | None]:
        """Return a page of the items that satisfy a query, and their number if it is wanted."""
        if query.uuid:
            return self.of_uuid(query.uuid, resource), None
        resource = self.native(resource, query)
        self.check_names(query, resource)
        terms = [self.term(condition, resource) for condition in query.conditions]
        items, _ = self.narrow(terms, resource, in_order=not query.sort)
        if query.group_by:
            items = first_of_groups(items, self.order(resource, query.group_by))
        total = None
        end = query.start + query.limit
        if not (terms or query.group_by or resource.only or resource.inside):
            total = self.count_of(resource)
            if not query.sort:  # a page of a whole table is a part of a list
                items = self.tables.in_order(resource.stored, query.start, end)
                return [] if query.count else [*items], total
        elif query.count or query.with_count:
            items = [*items]
            total = len(items)
        if query.count:
            return [], total
        if query.sort:
            pick = heapq.nlargest if query.descending else heapq.nsmallest
            items = pick(end, items, key=self.order(resource, query.sort))
        return [*itertools.islice(items, query.start, end)], total

    def of_uuid(self, uuid: Uuid, resource: Resource) -> list[Item]:
        self.refuse_quotes(uuid, f"uuid={uuid}")
        return [*filter(resource.has, self.tables.find(resource.stored, "uuid", uuid))]

    def native(self, resource: Resource, query: Query) -> Resource:
        """Return the resource with the fields of the subtype that a condition names, if any."""
        kind = query.kind(resource.discriminator)
        if kind not in resource.kinds:
            return resource
        _, *words = resource.kinds[kind]
        return replace(resource, field_words=(*resource.field_words, *words))

    def check_names(self, query: Query, resource: Resource) -> None:
        """Raise the server's error for an unknown name in `sort`, `groupBy` or `fields`."""
        order = f"invalid order by clause, inventory[{resource.name}Inventory] doesn't have field"
        single = {name for name, kind in resource.fields.items() if kind not in MANY}
        if query.sort and not query.count:
            self.require(query.sort, single, order, resource)
        if query.group_by:
            self.require(query.group_by, single, order, resource)
        for name in query.fields or ():  # QueryVisitor never fills in the class: clients see this
            details = "inventory[${selfInventoryClass}] has no field"
            self.require(name, single.difference(resource.joined), details, resource)

    def narrow(
        self, terms: list[Term], resource: Resource, in_order: bool = False
    ) -> tuple[Iterable[Item], Term | None]:
        """Return the items that satisfy all terms, and the term whose index led to them, if any.

        `in_order` is by uuid, as MySQL answers without `order by`.
        """
        total = self.count_of(resource)
        most = min([total, *(term.size for term in terms)])
        for term in sorted(terms, key=lambda term: term.cost()):
            term.plan(most)
            most = min(most, term.size)
        first = min(terms, key=lambda term: term.size, default=None)
        if first is None or first.size > total // 4:  # the whole table is read faster
            first = None
            items = self.all_of(resource)
        else:
            items = first.fetch()
            if in_order:
                items = sorted(items, key=uuid_of)
        for term in terms:
            if term is not first:
                items = filter(term.passes, items)
        if resource.only:
            items = filter(resource.has, items)
        return items, first

    # compiling conditions

    def term(self, condition: Condition | Compound, resource: Resource) -> Term:
        """Compile a condition. Raise the server's error for an unknown field or relation."""
        if isinstance(condition, Compound):
            return self.several(condition, resource)
        if condition.resource:
            return self.restricted(condition, resource)
        name, *rest = condition.path
        if len(rest) > DEEPEST:
            details = f"a condition goes through {DEEPEST} relations at most, not {len(rest)}"
            raise bad_field(self.dialect, details)
        if rest:
            relation = self.relation(name, rest, resource)
            if relation.via:
                return self.term(replace(condition, path=(*relation.via, *rest)), resource)
            return self.join(resource, relation, replace(condition, path=tuple(rest)))
        if name in TAGS:
            for value in condition.values("str"):
                self.refuse_quotes(value, condition.text, "%s")
            on_tag = replace(condition.positive, path=("tag",))
            return self.join(resource, TAGS[name], on_tag, condition.negative)
        self.refuse_quotes(condition.value, condition.text)
        return self.own(condition, resource)

    def refuse_quotes(self, value: str, text: str, besides: str = "'") -> None:
        """Raise the error of the server's parser for a value that it cannot put between quotes.

        It also puts the conditions on tags into a format (ZQL, TagZQLExtension.java).
        """
        for unfit in ("'", besides):
            if unfit in value:
                hint = meant(text) if unfit == "'" else ""
                hint = hint or f"a value cannot hold {unfit!r}, and nothing escapes it"
                details = f"the server cannot parse the condition {text}"
                raise ApiError("SYS.1000", details, hint=hint)

    def relation(self, name: str, rest: list[str], resource: Resource) -> Relation:
        if name in resource.relations:
            return resource.relations[name]
        java = f"class {resource.java}"
        details = (
            f"invalid nested query condition[{'.'.join(rest)}] on {java},"
            f"the expanded target[{java}] have no expanded query[{name}]"
        )
        names = ", ".join(resource.listed) or "no relations"
        hint = f"{resource.name} has {names}{did_you_mean(name, resource.listed)}"
        raise bad_field(self.dialect, details, hint)

    def join(
        self, resource: Resource, relation: Relation, condition: Condition, negated: bool = False
    ) -> Join:
        """Compile a condition on the target of a relation."""
        inner = self.term(condition, self.catalogue.resource(relation.target))
        return Join(self, resource, relation, inner, negated)

    def own(self, condition: Condition, resource: Resource) -> Term:
        """Compile a condition on a field of the resource itself."""
        name = self.alias(resource, condition.field)
        legal = {field for field, kind in resource.fields.items() if kind != "maps"}
        details = f"inventory class[class {resource.java}] not having field"
        self.require(name, legal, details, resource, condition.text)
        if condition.query:
            condition = self.with_values(condition, condition.query)
        kind = resource.fields[name]
        term = Term(self, resource, self.item_test(condition, resource, name, kind))
        is_key = condition.sign in ("=", "?=") and kind in ("str", "list")
        if is_key and self.indexed(resource, name):
            term.use_index(name, dict.fromkeys(map(folded, condition.values(kind))))
            term.index = f"{resource.name}.{name}"
        return term

    def alias(self, resource: Resource, name: str) -> str:
        """Return the field that a name stands for, which some dialects allow."""
        row, field = ALIASES.get((resource.name, name), ("", ""))
        return field if row and self.dialect[row] else name

    def item_test(
        self, condition: Condition, resource: Resource, name: str, kind: str
    ) -> Predicate:
        """Return the test of an item by its values of a field."""
        try:
            convert, holds = condition.compile(kind, self.parse_date)
        except ValueError as error:
            details = f"the condition {condition.text} cannot be read: {error}"
            raise bad_field(self.dialect, details, right_value(condition, name, kind)) from None
        is_null = condition.sign == "is null" or condition.operands == [] and condition.negative
        read = self.reader(resource, name)
        values = each if read is dict.get else read

        def value_passes(item: Item) -> bool:
            value = read(item, name)
            return is_null if value is None else holds(convert(value))

        def any_passes(item: Item) -> bool:  # as in a join: where there is no row, there is no null
            return any(holds(convert(value)) for value in values(item, name))

        return any_passes if kind == "list" else value_passes

    def several(self, compound: Compound, resource: Resource) -> Term:
        """Compile conditions of which an item has to satisfy all, or any."""
        terms = [self.term(part, resource) for part in compound.parts]
        for term in terms:
            term.plan(math.inf)
        combine = all if compound.word == "and" else any
        return Term(self, resource, lambda item: combine(term.passes(item) for term in terms))

    def with_values(self, condition: Condition, query: ZqlStatement) -> Condition:
        """Return a condition with the values of its sub-query.

        No item passes where MySQL has to compare with null.
        """
        items, _ = self.select(query, query.resource)
        values = [self.value(query.resource, item, query.fields[0]) for item in items]
        texts = [text_of(value) for value in values if value is not None]
        if OPERATORS[condition.sign].reads == "list":
            is_null = condition.negative and len(texts) < len(values)
        else:
            is_null = not texts
            if len(values) > 1:
                raise ApiError("SYS.1000", "Subquery returns more than 1 row", hint="write in")
        if is_null:
            return replace(condition, sign="?=", operands=[], query=None)
        return replace(condition, value="".join(texts[:1]), operands=texts, query=None)

    def restricted(self, condition: Condition, resource: Resource) -> Term:
        """Compile a condition on another resource. The server ignores it if no way leads there."""
        way = self.way(resource, condition.resource)
        if way is None:
            return Term(self, resource, lambda item: True)
        return self.term(replace(condition, path=(*way, condition.field), resource=None), resource)

    def way(self, start: Resource, end: Resource) -> list[str] | None:
        """Return the relations with the smallest weight to a resource, if any (DBGraph.java)."""
        ways: list[tuple[int, str, list[str]]] = [(0, start.name, [])]
        passed = set()
        while ways:
            weight, name, way = heapq.heappop(ways)
            if name == end.name:
                return way
            if name in passed:
                continue
            passed.add(name)
            for step in self.catalogue.resource(name).relations.values():
                if step.name[0].isdigit():
                    more = int(step.name[0])
                    heapq.heappush(ways, (weight + more, step.target, [*way, step.name]))
        return None

    def parse_date(self, text: str) -> Stamp:
        """Return the stamp that a date in a condition means (dialect row date-formats)."""
        if self.dialect["date-formats"]:
            return stamp_from(text, self.ahead)
        return instant(text)

    # items

    def indexed(self, resource: Resource, name: str) -> bool:
        """Return True if find() needs no scan for this field."""
        if resource.inside:
            return name in (resource.place.key, resource.place.value)
        if (resource.name, name) in self.computed:
            return False
        return name == "uuid" or name in resource.indexes

    def find(self, resource: Resource, key: str, value: str) -> Iterable[Item]:
        """Return the items whose indexed key has the value."""
        if not resource.inside:
            return self.tables.find(resource.stored, key, value)
        place = resource.place
        wanted = folded(value)
        owners = self.tables.find(place.owner, "uuid" if key == place.key else place.index, wanted)
        items = itertools.chain.from_iterable(map(place.rows, owners))
        return [item for item in items if folded(item[key]) == wanted]

    def by_keys(self, resource: Resource, key: str, values: Iterable[str]) -> Iterable[Item]:
        """Return the items whose indexed key has one of the values, each once."""
        items = {}
        for value in values:
            for item in self.find(resource, key, value):
                items[item["uuid"]] = item
        return items.values()

    def how_many(self, resource: Resource, key: str, value: str) -> int:
        """Return the number of items that find() brings, or a little more."""
        if resource.inside:
            return len([*self.find(resource, key, value)])
        return self.tables.how_many(resource.stored, key, value)

    def all_of(self, resource: Resource) -> Iterable[Item]:
        """Return all items of a resource's table by uuid."""
        items = self.tables.in_order(resource.table)
        if resource.inside:
            return itertools.chain.from_iterable(map(resource.place.rows, items))
        return items

    def count_of(self, resource: Resource) -> int:
        """Return how many items there are to look through."""
        return self.tables.count(resource.table)

    # values

    def value(self, resource: Resource, item: Item, name: str) -> Any:
        compute = self.computed.get((resource.stored, name))
        return compute(item) if compute else item.get(name)

    def reader(self, resource: Resource, name: str) -> Callable[[Item, str], Any]:
        """Return the fastest function that reads this field of an item."""
        if (resource.stored, name) in self.computed:
            return functools.partial(self.value, resource)
        return dict.get

    def order(self, resource: Resource, name: str) -> Callable[[Item], tuple]:
        """Return the key to sort items by: the value of a field, null first, then the uuid."""
        _, convert = COMPARED.get(resource.fields[name], AS_TEXT)
        read = self.reader(resource, name)

        def key(item: Item) -> tuple[bool, Any, Uuid]:
            value = read(item, name)
            if value is None:
                return False, None, item["uuid"]
            return True, convert(value), item["uuid"]

        return key

    # unknown names

    def require(
        self, name: str, legal: set[str], details: str, resource: Resource, condition: str = ""
    ) -> None:
        """Raise the error of a query that names a field which is not legal in this place."""
        if name in legal:
            return
        hint = "" if re.fullmatch(r"\w+", name) else meant(condition)
        hint = hint or self.field_hint(resource, legal, name, bool(condition))
        raise bad_field(self.dialect, f"{details}[{name}]", hint)

    def field_hint(
        self, resource: Resource, legal: set[str], name: str, in_condition: bool
    ) -> str:
        """Return where a field may stand that is not legal here, or the nearest legal name."""
        for kind, (_, *words) in resource.kinds.items():
            if name in types_of(words):
                subtype = self.catalogue.subtypes[resource.name].get(kind, resource).name
                add = f"add q={resource.discriminator}={kind}"
                return f"only {kind} has {name}: {add}, or in ZQL query {subtype}"
        if name in resource.fields:
            sort = "" if resource.fields[name] in MANY else " and sort"
            return f"{name} may stand in q{sort}"
        if "," in name:
            return "there is one field to sort by"
        hint = f"{resource.name} has no field {name}"
        if name in resource.relations:
            hint += ", it is a relation"
            return f"{hint}: write {name}.uuid=..." if in_condition else hint
        names = {field: field for field in sorted(legal)}
        if in_condition:
            names |= {relation: f"{relation}.uuid" for relation in resource.listed}
            names |= {tag: tag for tag in TAGS}
        for near in nearest(name, names):
            hint += f", did you mean {names[near]}?"
        return hint

    # doubtful conditions

    def doubts(self, query: Query, resource: Resource, has_matches: bool = False) -> list[str]:
        """Return hints on the legal conditions of a query whose writer may have meant another.

        If the whole query has matches, so has each of its conditions, and none is evaluated.
        """
        resource = self.native(resource, query)
        hints = (self.doubt(condition, resource, has_matches) for condition in query.conditions)
        return [*filter(None, hints)]

    def doubt(self, condition: Condition, resource: Resource, has_matches: bool = False) -> str:
        """Return a hint on a legal condition that reads strangely, or ""."""
        if condition.resource:
            reached = self.way(resource, condition.resource) is not None
            names = f"{resource.name} to {condition.resource.name}"
            return "" if reached else f"the server ignores it: no key leads from {names}"
        operand = OPERATORS[condition.sign].reads
        if operand == "nothing":
            return ""
        _, _, kind = self.field_of(condition, resource)
        if condition.negative or not has_matches:
            better = another_reading(condition, kind)
            if better and self.meets_none(condition, resource):
                verb = "excludes" if condition.negative else "finds"
                return f"{condition.text} {verb} nothing: {better}"
        if operand == "pattern":
            return ""
        for text in condition.values(kind):
            hint = self.odd_value(condition, text, resource)
            if not hint and operand == "list" and text.startswith(" ") and not condition.operands:
                hint = self.odd_space(condition, text, resource)
            if hint:
                return hint
        return ""

    def odd_space(self, condition: Condition, text: str, resource: Resource) -> str:
        """Return a hint on the space before a value of a list if the value matches nothing."""
        if not self.meets_none(replace(condition, value=text), resource):
            return ""
        better = f"{'.'.join(condition.path)}{condition.sign}{bare_list(condition.value)}"
        return f"the space before {text.strip()} counts: write {better}"

    def odd_value(self, condition: Condition, text: str, resource: Resource) -> str:
        """Return why a value that a condition compares a field with cannot be meant, or ""."""
        row, name, kind = self.field_of(condition, resource)
        compares = f"{condition.text} compares with"
        if kind in ("int", "long", "double") and not NUMBER.fullmatch(text.strip()):
            hint = f"{compares} {mysql_number(text)}: {text!r} is no number"
            better = meant(condition.text) if condition.operands is None else ""
            return f"{hint}, {better}" if better else hint
        if kind == "date" and not self.dialect["date-formats"] and instant(text) == ZERO_DATE:
            return f"{compares} the zero date, before all others: write 2018-07-10 09:31:06"
        values = self.catalogue.values_of(row, name)
        is_compared = condition.sign in ("=", "!=", "?=", "!?=")
        if not values or not is_compared or folded(text) in map(folded, values):
            return ""
        better = did_you_mean(text, values) or f": it is {', '.join(values)}"
        return f"no {row.name} can have the {name} {text}{better}"

    def meets_none(self, condition: Condition, resource: Resource) -> bool:
        """Return True if a condition by itself finds nothing, or excludes nothing."""
        items, _ = self.narrow([self.term(condition.positive, resource)], resource)
        return not any(True for _ in items)

    def field_of(self, condition: Condition, resource: Resource) -> tuple[Resource, str, str]:
        """Return the resource, the name and the type of the field that a legal condition names."""
        *_, row = [resource, *self.along(condition.path[:-1], resource)]
        name = self.alias(row, condition.field)
        return row, name, row.all_fields.get(name, "str")

    # facts about queries

    def along(self, path: Iterable[str], resource: Resource) -> Iterator[Resource]:
        """Yield the resources that a path of relations leads through, one after the other."""
        for name in path:
            relation = resource.relations.get(name) or TAGS.get(name)
            if relation and relation.via:
                steps = [*self.along(relation.via, resource)]
            elif relation:
                steps = [self.catalogue.resource(relation.target)]
            else:  # the field at the end
                return
            yield from steps
            resource = steps[-1]

    def beyond(self, resource: Resource, name: str) -> Resource:
        """Return the resource that a relation leads to."""
        *_, target = self.along([name], resource)
        return target

    def reads(self, query: Query, resource: Resource) -> set[str] | None:
        """Return the types that an answer is read from, None if fields of one are computed."""
        resources = [resource, *self.catalogue.embedded_in(resource)]
        for condition in query.conditions:
            resources += self.along(condition.path, resource)
        types = {row.name for row in resources} | {row.table for row in resources}
        if any(type in types for type, _ in self.computed):
            return None
        return types

    def queryable(self, resource: Resource) -> dict[str, Any]:
        """Return what a condition may name: fields with types and values, relations, tags.

        `refers` has the collections of the objects whose uuids fields hold.
        """
        targets = {key: self.catalogue.resources[type] for key, type in resource.leads.items()}
        kinds = {}
        for kind, (_, *words) in resource.kinds.items():
            kinds[f"{resource.discriminator}={kind}"] = types_of(words)
        return {
            "fields": {name: kind for name, kind in resource.fields.items() if kind != "maps"},
            "values": self.catalogue.resources[resource.stored].values | resource.values,
            "refers": {key: target.path for key, target in targets.items() if target.path},
            "relations": {name: self.beyond(resource, name).path for name in resource.listed},
            "tags": [*TAGS],
            "kinds": kinds,
        }

    def explain(self, query: Query, resource: Resource) -> dict[str, Any]:
        """Return what each condition keeps and drops of the items that those before it keep.

        {"total": 1, "conditions": [{"q": "name=a", "kept": 1, "dropped": 2, "index": "Zone.name",
        "examples": [UUID, UUID]}]}
        """
        resource = self.native(resource, query)
        self.check_names(query, resource)
        items, _ = self.narrow([], resource)
        whole = Compound("and", query.conditions)
        conditions, items = self.explain_parts(whole, resource, [*items])
        return {"total": len(items), "conditions": conditions}

    def explain_parts(
        self, compound: Compound, resource: Resource, items: list[Item]
    ) -> tuple[list[Item], list[Item]]:
        """Return what each part keeps and drops, and the items that all keep.

        Parts joined by `or` are tried on the same items. `of` has the parts of a part.
        """
        terms = [self.term(part, resource) for part in compound.parts]
        _, first = self.narrow(terms, resource)
        conditions = []
        for condition, term in zip(compound.parts, terms):
            dropped = [*itertools.filterfalse(term.passes, items)]
            passing = [*filter(term.passes, items)]
            row = {"q": condition.text, "kept": len(passing), "dropped": len(dropped)}
            row["index"] = None
            if term is first or isinstance(term, Join):
                row["index"] = term.index or None
            row["examples"] = [*map(uuid_of, dropped[:EXAMPLES])]
            if isinstance(condition, Compound):
                row["of"], _ = self.explain_parts(condition, resource, items)
            elif hint := self.doubt(condition, resource):
                row["hint"] = hint
            conditions.append(row)
            if compound.word == "and":
                items = passing
        return conditions, items


def right_value(condition: Condition, name: str, kind: str) -> str:
    """Return the hint on a value that is no date, or neither true nor false."""
    if kind == "bool":
        return f"write {name}=true or {name}=false"
    begin = f"{name}{condition.sign}" if condition.operands is None else ""
    return f"write {begin}2018-07-10 09:31:06 or {begin}2018-07-10T09:31:06+08:00"


def first_of_groups(items: Iterable[Item], order: Callable[[Item], tuple]) -> list[Item]:
    """Return the first item by uuid of each group: of the items that differ in their uuid only."""
    groups: dict[tuple, Item] = {}
    for item in sorted(items, key=uuid_of):
        groups.setdefault(order(item)[:2], item)
    return [*groups.values()]


# ZQL

DEEPEST_BRACKETS = 50  # brackets in brackets, and changes between `and` and `or`
ZQL_SIGNS = {row.in_zql or row.sign: row.sign for row in OPERATORS.values()}
ZQL_LITERALS = ("STRING", "INT", "FLOAT", "BOOLEAN")
# The longest word counts: "12" is a number, "12ab" a name. Other characters are dropped (ZQL.g4).
ZQL_TOKEN = re.compile(
    r"""(?P<STRING>'[^']*')|(?P<FLOAT>-?\d+\.\d+|-\d+)|(?P<INT>\d{1,19}(?!\w))
    |(?P<BOOLEAN>(?:true|false)(?!\w))
    |is[ ]not[ ]null|is[ ]null|not[ ]in|not[ ]like|(?:filter|order|restrict)[ ]by|return[ ]with
    |(?:query|count|where|and|or|asc|desc|limit|offset|in|like)(?!\w)|[!<>]=|[=<>(),.]
    |(?P<BLOCK>\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})|(?P<QUOTED>"[^"]*")|(?P<ID>\w+)|\Z""",
    re.A | re.X,
)


class ZqlParser:
    """Parses a statement of ZQL: a method for each rule of ZQL.g4.

    Texts in double quotes are refused at once; on the server, its database refuses them.

    kinds      the kinds of the tokens: a keyword or a sign is its own kind
    expected   the kinds that the next token could have been
    """

    def __init__(self, text: str, catalogue: Catalogue) -> None:
        self.text, self.entities = text, catalogue.entities
        self.tokens = [*ZQL_TOKEN.finditer(text)]
        self.kinds = [token.lastgroup or token[0] or "<EOF>" for token in self.tokens]
        self.position, self.depth = 0, 0
        self.expected: list[str] = []

    # tokens

    def sees(self, *kinds: str) -> bool:
        self.expected += kinds
        return self.kinds[self.position] in kinds

    def skip(self, *kinds: str) -> str:
        """Go past the next token and return its text if it is of one of the kinds, else ""."""
        if not self.sees(*kinds):
            return ""
        self.position += 1
        self.expected = []
        return self.tokens[self.position - 1][0]

    def take(self, *kinds: str) -> str:
        """Go past the next token and return its text. Refuse one of another kind."""
        text = self.skip(*kinds)
        if not text:
            raise self.unexpected()
        return text

    def separated(self, read: Callable[[], Any]) -> list[Any]:
        """Return what stands between commas."""
        elements = [read()]
        while self.skip(","):
            elements.append(read())
        return elements

    # rules

    def statement(self) -> ZqlStatement:
        is_count = self.take("query", "count") == "count"
        statement = self.selection()
        statement.count = is_count
        if self.skip("restrict by"):
            self.take("(")
            statement.conditions += self.separated(self.restriction)
            self.take(")")
        if not is_count and self.skip("return with"):
            self.take("(")
            statement.with_count = ["total"] in self.separated(self.returned)
            self.take(")")
        if self.skip("order by"):
            statement.sort = self.take("ID")
            statement.descending = self.take("asc", "desc") == "desc"
        if self.skip("limit"):
            statement.limit = min(int(self.take("INT")), MOST_ROWS)
        if self.skip("offset"):
            statement.start = min(int(self.take("INT")), MOST_ROWS)
        if not is_count and self.skip("filter by"):
            self.separated(lambda: self.take("ID") + self.take("BLOCK"))
        if not self.sees("<EOF>"):
            raise self.unexpected()
        return statement

    def selection(self) -> ZqlStatement:
        """Return an entity with the fields and the conditions behind it."""
        name, *path = self.path()
        selection = ZqlStatement(resource=self.entity(name), fields=path[:1] or None)
        while len(path) == 1 and self.skip(","):
            selection.fields.append(self.take("ID"))
        if self.skip("where"):
            condition = self.condition()
            selection.conditions = [condition]
            if isinstance(condition, Compound) and condition.word == "and":
                selection.conditions = condition.parts
        return selection

    def path(self) -> list[str]:
        names = [self.take("ID")]
        while self.skip("."):
            names.append(self.take("ID"))
        return names

    def entity(self, name: str) -> Resource:
        if name.lower() not in self.entities:
            hint = did_you_mean(name, self.entities)[2:]
            raise ApiError("SYS.1000", f"cannot find inventory with name[{name}]", hint=hint)
        return self.entities[name.lower()]

    def condition(self) -> Condition | Compound:
        """Return conditions in the brackets of the server: a and b or c is a and (b or c)."""
        self.depth += 1
        if self.depth > DEEPEST_BRACKETS:
            raise self.unreadable("so many brackets in brackets")
        parts = [self.operand()]
        word = first = self.skip("and", "or")
        while word and word == first:
            parts.append(self.operand())
            word = self.skip("and", "or")
        if word:
            parts[-1] = Compound(word, [parts[-1], self.condition()])
        self.depth -= 1
        return Compound(first, parts) if first else parts[0]

    def operand(self) -> Condition | Compound:
        if self.skip("("):
            condition = self.condition()
            self.take(")")
            return condition
        return self.comparison()

    def comparison(self) -> Condition:
        begin, path = self.tokens[self.position].start(), self.path()
        sign = ZQL_SIGNS[self.take(*ZQL_SIGNS)]
        query, values, is_list = None, [], self.skip("(")
        if is_list and self.skip("query"):
            query = self.selection()
        elif is_list:
            values = self.separated(self.literal)
        elif self.sees(*ZQL_LITERALS):
            values = [self.literal()]
        if is_list:
            self.take(")")
        text = self.text[begin : self.tokens[self.position - 1].end()]
        is_one = len(query.fields or ()) == 1 if query else len(values) == 1
        fits = {"nothing": not (values or query), "list": is_list and (is_one or values)}
        if not fits.get(OPERATORS[sign].reads, is_one):
            raise self.unexpected() if self.sees("ID", "QUOTED") else self.unreadable(text)
        return Condition(text, tuple(path), sign, "".join(values[:1]), values, query)

    def literal(self) -> str:
        return self.take(*ZQL_LITERALS).strip("'")

    def restriction(self) -> Condition:
        condition = self.comparison()
        name, *path = condition.path
        if name in TAGS:
            return condition
        if len(path) != 1 or condition.query:
            details = f"the restrict by clause[{condition.text}] without entity name"
            raise ApiError("SYS.1000", f"{details} is not handled by any extension")
        return replace(condition, resource=self.entity(name))

    def returned(self) -> list[str]:
        path = self.path()
        self.skip("BLOCK")
        return path

    # errors

    def unreadable(self, text: str) -> ApiError:
        """Return the error of what the database of the server cannot read."""
        hint = "conditions are name = 'a', name in ('a', 'b') or name is null"
        return ApiError("SYS.1000", f"the database cannot read {text}", hint=hint)

    def unexpected(self) -> ApiError:
        """Return the error of the server's parser at the next token (ZQL.java)."""
        kind, token = self.kinds[self.position], self.tokens[self.position]
        before, behind = self.text[: token.start()], self.text[token.start() :]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
        kinds = sorted({*self.expected})
        expecting = ", ".join(word if word.isupper() else f"'{word}'" for word in kinds)
        problem = f"mismatched input '{token[0] or kind}' expecting {{{expecting}}}"
        hint = did_you_mean(token[0], kinds)[2:]
        if kind in ("ID", "QUOTED") and "STRING" in kinds:
            text = token[0].strip('"')
            hint = f"write '{text}', with single quotes"
        details = f"error {problem} at line {line}:{column}, {before[-10:]}{behind[:10]}"
        return ApiError("SYS.1000", details, hint=hint)


# ---- Rules ---------------------------------------------------------------------------------------

# No API of ZStack, but rules can name it.
POLL_JOB = Api("PollJob", "GET /api-jobs/{uuid}", takes=("uuid!",), open=True, backing="manual")
OPEN_TO_ALL = {"systemTags", "userTags", "deleteMode", "resourceUuid"}  # parameters of any API
DROPS = {  # with bytes a second, or seconds
    "reset": 0, "empty": 0, "truncate": 0, "garbage": 0, "hang": 0, "dribble": 10, "slow-close": 5,
}  # fmt: skip
LATE = 5  # seconds by which a web-hook is late if its rule has no delay
Z99 = 2.3263478740408408  # 99 of 100 draws of the standard normal distribution are below it
LONGEST_GLOB = 500  # characters; matching takes time that grows with their square
MOST_GLOBS = 1000  # whose APIs are remembered, for large files of rules
MOST_SEEN = 100_000  # different calls that a rule counts; then it forgets the oldest
MOST_CLIENTS = 1000  # whose latest calls a rule remembers
REPEAT_SECONDS = 0.2  # of real time, within which browsers repeat a call that was reset


@dataclass(frozen=True)
class Fault:
    """The trouble that a rule makes for one call, decided when the call comes."""

    name: str = ""  # of the rule, with its hit: "rule-1; hit=3"
    at: str = ""  # accept: instead of the call; job: in its job; after: when its work is done
    delay: Seconds = 0
    error: ApiError | None = None
    stage: str = ""  # the stage that fails with the error
    rollback: bool = True
    answer: tuple[int, Any, Item] | None = None  # a status, a body and headers
    merge: Item | None = None  # a patch on the body of the answer, or of the job's result
    drop: str = ""  # one of BREAKS
    amount: float = 0  # of bytes, of bytes a second, or of seconds
    job: str = ""  # hold, lose or expire
    hold_for: Seconds = math.inf
    webhook: str = ""  # never, late, twice or first
    lateness: Seconds = 0
    hint: str = ""
    definition: Item | None = field(default=None, repr=False)  # of the rule

    @property
    def job_error(self) -> ApiError | None:
        """The error that the job ends with, without doing its work."""
        return self.error if self.at == "job" and not self.stage else None


NO_FAULT = Fault()


@dataclass
class MatchedCall:
    """A call as rules see it."""

    api: Api | None  # None for a path that no API has
    method: str
    path: str
    query: str
    params: Item
    headers: Any
    resource: Item  # the object that the call acts on
    made_by: str = ""  # of a poll: the key of the call that made the job
    entry: Any = None  # in the journal
    transport: Any = None
    second: Seconds = 0  # of Clock.steady(), when it came

    @functools.cached_property
    def client(self) -> tuple:
        """The address and the port of the client."""
        return self.transport.get_extra_info("peername")[:2] if self.transport else ("", 0)

    @functools.cached_property
    def request(self) -> str:
        """A text that equal requests share."""
        return call_key(self.method, self.path, self.query, self.params)

    @property
    def key(self) -> str:
        """A text that equal calls share. Polls share it if equal calls made their jobs."""
        return f"poll {self.made_by}" if self.made_by else self.request

    @property
    def name(self) -> str:
        """The name of its API, or ""."""
        return self.api.name if self.api else ""

    @property
    def caller(self) -> str:
        """The session of the client, else its address."""
        return self.headers.get("Authorization") or self.client[0]

    def repeats(self, earlier: MatchedCall) -> bool:
        """Return True for the repetition of an equal call whose connection broke just now."""
        broke = earlier.entry.began + earlier.entry.ms / 1000
        return self.client != earlier.client and self.entry.began - broke <= REPEAT_SECONDS

    def texts_at(self, place: str, name: str) -> list[str]:
        """Return the texts that a condition's glob can match.

        texts_at("path", "") -> ["/zstack/v1/zones", "/zones"]
        texts_at("params", "name") -> ["db-1"]
        """
        if place == "method":
            return [self.method]
        if place == "path":
            return [self.path, re.sub("^(/zstack)?/v1", "", self.path)]
        if place == "header":
            return self.headers.getall(name, []) if self.headers else []
        if place == "query":
            return urllib.parse.parse_qs(self.query, keep_blank_values=True).get(name, [])
        value = (self.params if place == "params" else self.resource).get(name)
        if value is None:
            return []
        elements = value if isinstance(value, list) else [value]
        return [text_of(element) for element in elements]


def call_key(method: str, path: str, query: str, params: Item) -> str:
    """Return a text that equal calls share. Neither session nor job uuid is part of it."""
    parts = repr((method, path, query, sorted(params.items())))
    return hashlib.md5(parts.encode(errors="replace"), usedforsecurity=False).hexdigest()


# rules

# Keys of `then` that are fields of a Fault.
FAULT_KEYS = ("stage", "rollback", "merge", "job", "webhook")


@dataclass(eq=False)
class Rule:
    """A fault rule. decide() matches a call, counts it, and makes a fault if the rule fires.

    The count decides first: limit, on, skip, every and times. Chance decides then: probability.
    A stub is matched before zmock reads the call.
    """

    id: str
    definition: Item  # as it was set
    then: Item  # of the definition; an error has its details
    moments: dict[str, str]  # when it strikes, by API; "" is none
    stub: bool = False
    source: str = ""  # the file that holds the rule
    matches: int = 0
    hits: int = 0
    last: int | None = None  # the seq of the latest hit
    over: bool = False  # its ttl has passed
    timer: Timer | None = None  # of its ttl
    seen: Counter[str] = field(default_factory=Counter)  # matches by call, where chance decides
    windows: dict[str, deque[Seconds]] = field(default_factory=dict)  # calls within `limit`
    decisions: dict[str, tuple[MatchedCall, Fault | None]] = field(default_factory=dict)

    def decide(self, occasion: MatchedCall, seed: int) -> Fault | None:
        """Return the fault of a call, or None if the rule does not match or does not fire."""
        if not self.is_for(occasion):
            return None
        if "retries" not in self.definition:
            return self.count(occasion, seed)
        key = f"{occasion.caller} {occasion.request}"
        earlier, fault = self.decisions.pop(key, (None, None))
        if not earlier or not occasion.repeats(earlier):
            fault = self.count(occasion, seed)
        self.decisions[key] = occasion, fault
        drop_oldest(self.decisions, MOST_CLIENTS)
        return fault

    def count(self, occasion: MatchedCall, seed: int) -> Fault | None:
        """Count a match. Return its fault, or None if the rule does not fire."""
        self.matches += 1
        chance = self.random_for(occasion, seed)
        if not self.fires(occasion, chance):
            return None
        self.hits += 1
        if occasion.entry:
            self.last = occasion.entry.seq
        return self.fault(occasion, chance)

    def is_for(self, occasion: MatchedCall) -> bool:
        """Return True if a call satisfies `api`, `method`, `path` and all conditions of `when`."""
        if self.over or occasion.name not in self.moments:
            return False
        if self.stub and not self.is_at(occasion.method, occasion.path):
            return False
        if "webhook" in self.then and "X-Web-Hook" not in occasion.headers:
            return False
        for key, glob in self.definition.get("when", {}).items():
            place, _, name = key.partition(".")
            if not any(fnmatchcase(text, text_of(glob)) for text in occasion.texts_at(place, name)):
                return False
        return True

    def is_at(self, method: str, path: str) -> bool:
        """Return True if a stub is for a method and a path. Only OPTIONS itself names OPTIONS."""
        wanted, glob = self.definition.get("method"), self.definition.get("path", "*")
        if method != wanted and (wanted or method == "OPTIONS"):
            return False
        return any(fnmatchcase(text, glob) for text in (path, urllib.parse.unquote(path)))

    def random_for(self, occasion: MatchedCall, seed: int) -> random.Random | None:
        """Return the random numbers of a call, or None if the rule needs none.

        They depend on the seed, the rule, the call and how often that call came, and on nothing
        else: other calls may come in any order.
        """
        drawn = isinstance(self.definition.get("delay"), dict)
        if "probability" not in self.definition and not drawn:
            return None
        self.seen[occasion.key] += 1
        drop_oldest(self.seen, MOST_SEEN)
        return random.Random(f"{seed}/{self.id}/{occasion.key}/{self.seen[occasion.key]}")

    def fires(self, occasion: MatchedCall, chance: random.Random | None) -> bool:
        """Return True if the counts and probability let the latest match through."""
        if "limit" in self.definition and not self.exceeds_limit(occasion):
            return False
        match = self.matches - self.definition.get("skip", 0)
        if match <= 0 or match % self.definition.get("every", 1):
            return False
        if match not in self.definition.get("on", [match]):
            return False
        if self.hits >= self.definition.get("times", math.inf):
            return False
        probability = self.definition.get("probability")
        return probability is None or chance.random() < probability

    def exceeds_limit(self, occasion: MatchedCall) -> bool:
        """Return True for a call above the rate of its session, else of its address."""
        limit = self.definition["limit"]
        window = self.windows.setdefault(occasion.caller, deque(maxlen=limit["calls"]))
        drop_oldest(self.windows, MOST_CLIENTS)
        is_full = len(window) == limit["calls"]
        if is_full and occasion.second - window[0] < limit["per"] - ROUNDING:
            return True
        window.append(occasion.second)  # and forget the first one, if it is full
        return False

    def fault(self, occasion: MatchedCall, chance: random.Random | None) -> Fault:
        """Return the fault of the latest hit."""
        then, delay = self.then, draw_delay(self.definition.get("delay"), chance)
        fields = {key: then[key] for key in FAULT_KEYS if key in then}
        if "error" in then:
            fields["error"] = ApiError(then["error"], then["details"])
        if "status" in then:
            fields["answer"] = then["status"], then.get("body"), then.get("headers", {})
        if "for" in then:
            fields["hold_for"] = then["for"]
        if "drop" in then:
            drop = then["drop"]
            words = drop if isinstance(drop, dict) else {drop: DROPS[drop]}
            ((fields["drop"], fields["amount"]),) = words.items()
        if then.get("webhook") == "late":  # the delay is that of the web-hook
            fields["lateness"] = LATE if delay is None else delay
        else:
            fields["delay"] = delay or 0
        name, at = f"{self.id}; hit={self.hits}", self.moments[occasion.name]
        return Fault(name=name, at=at, definition=self.definition, **fields)

    def end(self) -> None:
        self.over = True

    def as_json(self) -> Item:
        """Return the rule as GET /zmock/rules shows it."""
        counts = {"matches": self.matches, "hits": self.hits, "last": self.last}
        if self.over:
            counts["over"] = True
        return {"id": self.id} | self.definition | counts


def drop_oldest(memory: dict, most: int) -> None:
    """Remove the oldest member of a dict that has more than so many."""
    if len(memory) > most:
        del memory[next(iter(memory))]


def draw_delay(delay: Any, chance: random.Random | None) -> Seconds | None:
    """Return the seconds of a rule's delay, drawn if it is a distribution."""
    if not isinstance(delay, dict):
        return delay
    if "uniform" in delay:
        return chance.uniform(*delay["uniform"])
    if "normal" in delay:
        return max(0.0, chance.gauss(*delay["normal"]))
    if "recorded" in delay:
        return chance.choice(delay["recorded"])
    median, p99 = delay["lognormal"]["p50"], delay["lognormal"]["p99"]
    return chance.lognormvariate(math.log(median), math.log(p99 / median) / Z99)


# checks of values


class RuleError(ValueError):
    """A rule that cannot be used. The hint lists the keys that are right in its wrong place."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


@contextlib.contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Turn a ValueError of the block into a RuleError with a hint."""
    try:
        yield
    except RuleError:
        raise
    except ValueError as error:
        raise RuleError(str(error), hint) from None


@contextlib.contextmanager
def numbered(noun: str, number: int, total: int) -> Iterator[None]:
    """Turn an error of the block into a ValueError that names its place: "rule 2 of 5: ..."."""
    try:
        yield
    except (ValueError, SettingsError) as error:
        hint = getattr(error, "hint", "")
        problem = f"{noun} {number} of {total}: {error}"
        raise ValueError(f"{problem}; {hint}" if hint else problem) from None


NUMERIC = (int, float)
TINY = math.ulp(0.0)  # the smallest number above 0


@dataclass(frozen=True)
class Allowed:
    """The values that a key may have: types, and their bounds, their pattern or their words."""

    types: type | tuple[type, ...]
    meaning: str  # for people: "a whole number from 0"
    low: float = 0
    high: float = 1e9
    pattern: str = "(?s:.*)"
    words: tuple[str, ...] = ()

    def check(self, key: str, value: Any) -> None:
        """Raise ValueError for any other value."""
        if self.allows(value):
            return
        is_large = isinstance(value, NUMERIC) and value > self.high == Allowed.high
        refuse(key, "at most 1000000000" if is_large else self.meaning, value, self.words)

    def allows(self, value: Any) -> bool:
        if not isinstance(value, self.types):
            return False
        if isinstance(value, bool):
            return self.types not in (int, NUMERIC)
        if isinstance(value, str):
            return value in self.words if self.words else bool(re.fullmatch(self.pattern, value))
        return not isinstance(value, NUMERIC) or self.low <= value <= self.high


@dataclass(frozen=True)
class AllowedList:
    """The lists that a key may have."""

    each: Allowed
    meaning: str
    least: int = 1
    most: int = 1000
    rising: bool = False  # no element is smaller than the one before

    def check(self, key: str, value: Any) -> None:
        """Raise ValueError for any other value."""
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            refuse(key, self.meaning, value)
        for element in value:
            self.each.check(key, element)
        if self.rising:
            check_rising(key, value)


def check_rising(key: str, numbers: list[float]) -> None:
    if sorted(numbers) != numbers:
        refuse(key, "two numbers, the smaller one first", numbers)


@dataclass(frozen=True)
class AllowedObject:
    """The JSON objects with exactly these keys."""

    keys: dict[str, Allowed]
    meaning: str
    rising: bool = False  # no value is smaller than the one before

    def check(self, key: str, value: Any) -> None:
        """Raise ValueError for any other value."""
        if not isinstance(value, dict) or value.keys() != self.keys.keys():
            refuse(key, self.meaning, value)
        for name, allowed in self.keys.items():
            allowed.check(f"{key}.{name}", value[name])
        if self.rising:
            check_rising(key, [value[name] for name in self.keys])


@dataclass(frozen=True)
class Either:
    """A plain value, or a JSON object with one of some keys."""

    plain: Allowed
    forms: dict[str, Allowed | AllowedList | AllowedObject]
    meaning: str

    def check(self, key: str, value: Any) -> None:
        """Raise ValueError for any other value."""
        if not isinstance(value, dict):
            self.plain.check(key, value)
            return
        names = " and ".join(value)
        if names not in self.forms:
            refuse(key, self.meaning, names or value, self.forms)
        self.forms[names].check(f"{key}.{names}", value[names])


Shape = Allowed | AllowedList | AllowedObject | Either


def refuse(key: str, meaning: str, value: Any, words: Sequence[str] | dict[str, Any] = ()) -> None:
    shown = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    raise ValueError(f"{key!r} is {meaning}, not {shown}{did_you_mean(value, words)}")


def among(*words: str) -> Allowed:
    return Allowed(str, f"{', '.join(words[:-1])} or {words[-1]}", words=words)


SECONDS = Allowed(NUMERIC, "a number from 0")
ABOVE_0 = Allowed(NUMERIC, "a number above 0", TINY)
ANY_JSON = Allowed(object, "any JSON")
ANY_TEXT = Allowed(str, "a text", pattern="[^\ud800-\udfff]*")
AN_ID = Allowed(
    str,
    "a text of letters, digits, - _ and ., 64 at most, not beginning with .",
    pattern="[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}",
)
FROM_0 = Allowed(int, "a whole number from 0")
FROM_1 = Allowed(int, "a whole number from 1", low=1)
CALLS_IN_WINDOW = Allowed(int, "a whole number from 1 to 10000", low=1, high=10_000)


def check_glob(key: str, glob: str) -> None:
    if len(glob) > LONGEST_GLOB:
        refuse(key, f"a text of at most {LONGEST_GLOB} characters", glob[:40] + "…")


def check_code(key: str, code: Any, codes: dict[str, str]) -> None:
    if not isinstance(code, str) or code not in codes:
        refuse(key, "a code of ZStack", code, codes)


def read_seconds(key: str, text: str) -> Seconds:
    """Return the seconds that a text holds. Raise ValueError for another text."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        refuse(key, "a number from 0 to 999999999", text)
    return float(text)


def check_json(rule: Item) -> None:
    """Raise ValueError for a rule that JSON in UTF-8 cannot hold: no file could keep it."""
    try:
        text = json.dumps(rule, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the rule cannot be said in JSON: {error}") from None
    if not ANY_TEXT.allows(text):
        raise ValueError("a rule holds half of a surrogate pair, which no text in UTF-8 has")


DISTRIBUTIONS: dict[str, Allowed | AllowedList | AllowedObject] = {
    "uniform": AllowedList(SECONDS, "a list of two numbers", 2, 2, rising=True),
    "normal": AllowedList(SECONDS, "a list of two numbers", 2, 2),
    "lognormal": AllowedObject(
        {"p50": ABOVE_0, "p99": ABOVE_0}, '{"p50": seconds, "p99": seconds}', rising=True
    ),
    "recorded": AllowedList(SECONDS, "a list of seconds, 1000 at most"),
}


# checks of `then`

HEADER_TEXT = Allowed(str, "a text without line breaks", pattern=r"[\t -~\xa0-\xff]*")
HEADER_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FRAMING = {  # headers that zmock must set itself
    "connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
THEN_KEYS: dict[str, Shape] = {  # the values of each key
    "error": Allowed(str, "a code of ZStack"),
    "details": ANY_TEXT,
    "stage": ANY_TEXT,
    "rollback": Allowed(bool, "true or false"),
    "status": Allowed(int, "a whole number from 200 to 599", low=200, high=599),
    "headers": Allowed(dict, 'a JSON object such as {"Retry-After": "5"}'),
    "body": ANY_JSON,
    "merge": Allowed(dict, 'a JSON object such as {"inventory": {"state": "Stopped"}}'),
    "drop": Either(
        among(*DROPS),
        {"after": FROM_0, "rate": ABOVE_0},
        'a word, {"after": bytes} or {"rate": bytes a second}',
    ),
    "job": among("hold", "lose", "expire"),
    "for": SECONDS,
    "webhook": among("never", "late", "twice", "first"),
}
# Keys that only go with another one.
OWNERS = {
    "details": "error",
    "stage": "error",
    "rollback": "stage",
    "headers": "status",
    "body": "status",
    "for": "job",
}
THEN = {  # the moments at which each effect can strike
    "error": ("accept", "job", "after"),
    "status": ("accept", "after"),
    "merge": ("accept", "job"),
    "drop": ("accept", "after"),
    "job": ("job",),
    "webhook": ("job",),
}
ONLY_LATE = ("accept", "job")  # the moments of a rule without effect, which delays


@functools.cache
def hint_on_then() -> str:
    """Return the keys of `then`: "keys of then: one of error, ...; with error: details, stage"."""
    parts = [f"keys of then: one of {', '.join(THEN)}"]
    for owner in dict.fromkeys(OWNERS.values()):
        keys = [key for key in OWNERS if OWNERS[key] == owner]
        parts.append(f"with {owner}: {', '.join(keys)}")
    return "; ".join([*parts, f"at: {', '.join(THEN['error'])}"])


def check_then(then: Item, codes: dict[str, str]) -> None:
    """Raise ValueError for wrong keys or values of `then`, or for keys that exclude each other."""
    keys = [*THEN, *OWNERS, "at"]
    for key in then:
        if key not in keys:
            raise ValueError(f"{key!r} is no key of 'then'{did_you_mean(key, keys)}")
    effects = [key for key in THEN if key in then]
    if len(effects) > 1:
        choice = f"one of {', '.join(THEN)}, not {' and '.join(effects)}"
        raise ValueError(f"'then' is {choice}: make it two rules")
    for key in then:
        if key in OWNERS and OWNERS[key] not in then:
            raise ValueError(f"{key!r} goes with {OWNERS[key]!r} only")
    for key, shape in THEN_KEYS.items():
        if key in then:
            shape.check(key, then[key])
    if "for" in then and then["job"] != "hold":
        raise ValueError(f"'for' is the time of a hold, not of {then['job']}")
    if "error" in then:
        check_code("error", then["error"], codes)
    for name, value in then.get("headers", {}).items():
        check_header(name, value)
    if "at" in then:
        check_at(then["at"], effects[0] if effects else "")
    if "stage" in then and then.get("at", "job") != "job":
        raise ValueError("a stage is one of the job: leave 'at' away")


def check_header(name: str, value: Any) -> None:
    """Raise ValueError for a header that a rule cannot set."""
    HEADER_TEXT.check(name, value)
    if not re.fullmatch(HEADER_NAME, name):
        refuse("headers", "a JSON object with names of letters, digits and -", name)
    if name.lower() in FRAMING:
        raise ValueError(f"'headers' cannot hold {name}: zmock sets it, and 'drop' breaks answers")


def check_at(at: Any, effect: str) -> None:
    moments = THEN.get(effect, ONLY_LATE)
    if moments == ("job",):
        raise ValueError(f"'at' is for error, status, merge and drop, not for {effect}")
    among(*moments).check("at", at)


def check_path(path: str) -> None:
    """Raise ValueError for the path of a stub that no request can have."""
    check_glob("path", path)
    if not path.startswith(("/", "*")):
        refuse("path", "a glob over the whole path of the server, as /zstack/v1/zones*", path)
    if re.search(r"\?.*=", path):
        raise ValueError("'path' is one without a query; 'when' has query.NAME")
    if re.match(r"/+zmock(?![\w-])", path):
        raise ValueError(f"'path' names control calls, which no rule touches: {path}")


def check_stub(then: Item) -> None:
    """Raise ValueError for what a rule with `path` or `method` cannot do."""
    if "status" not in then:
        when = 'write "when": {"path": ...}'
        raise ValueError(f"a rule with 'path' or 'method' needs 'then.status'; for faults {when}")
    if then.get("at", "accept") != "accept":
        raise ValueError("a rule with 'path' or 'method' answers instead of the call: no 'at'")


def moments_of(then: Item) -> tuple[str, ...]:
    """Return the moments at which a `then` can strike."""
    if "at" in then:
        return (then["at"],)
    if "stage" in then:
        return ("job",)
    for effect, moments in THEN.items():
        if effect in then:
            return moments
    return ONLY_LATE


# checks of `when`

CONDITIONS = ("method", "path", "header.NAME", "query.NAME", "params.NAME", "resource.NAME")
HINT_ON_WHEN = f"keys of when: {', '.join(CONDITIONS)}"
MOST_LISTED = 30  # names in a hint
GLOB = Allowed((str, bool, int, float), "a text, number, true or false", -math.inf, math.inf)


def check_when(cloud: Cloud, when: Item, apis: list[Api], stub: bool) -> None:
    """Raise ValueError for a condition on something that no call of these APIs has.

    A stub answers before zmock reads the parameters.
    """
    for key, glob in when.items():
        place, _, name = key.partition(".")
        if (f"{place}.NAME" if name else key) not in CONDITIONS:
            raise ValueError(f"'when' has no {key!r}{did_you_mean(place, CONDITIONS)}")
        GLOB.check(key, glob)
        check_glob(key, text_of(glob))
        if stub and place in ("params", "resource"):
            raise ValueError(f"a rule with 'path' answers before zmock reads {key}")
        if stub:
            continue
        if place == "method":
            check_method(cloud, glob, apis)
        elif place not in ("path", "header"):
            check_name(cloud, key, apis)


def check_method(cloud: Cloud, glob: Any, apis: list[Api]) -> None:
    methods = {api.method for api in apis}
    if not cloud.dialect["wrong-method"]:
        methods = {"GET", "POST", "PUT", "DELETE"}
    if not any(fnmatchcase(method, str(glob)) for method in methods):
        refuse("method", " or ".join(sorted(methods)), glob, sorted(methods))


def check_name(cloud: Cloud, key: str, apis: list[Api]) -> None:
    place, _, name = key.partition(".")
    if not any(name in names_at(cloud, place, api) for api in apis):
        names = set().union(*(names_at(cloud, place, api) for api in apis))
        better = did_you_mean(name, names) if names else f": there is no {place} at all"
        keys = [f"{place}.{known_name}" for known_name in sorted(names)]
        more = ", ..." if len(keys) > MOST_LISTED else ""
        hint = f"keys of when here: {', '.join(keys[:MOST_LISTED])}{more}" if keys else HINT_ON_WHEN
        raise RuleError(f"no call that 'api' names has {key!r}{better}", hint)


def names_at(cloud: Cloud, place: str, api: Api) -> set[str]:
    """Return the names that a call of an API can have in its query, its params or its resource."""
    if place == "resource":
        return fields_acted_on(cloud, api)
    params = {*api.params, *OPEN_TO_ALL}
    if place == "params":
        return params | {"uuid"} if api.kind == "Query" else params
    if api.kind == "Query":
        return QUERY_KEYS
    return params if api.method in ("GET", "DELETE") else set()


def fields_acted_on(cloud: Cloud, api: Api) -> set[str]:
    """Return the fields of the object that a call acts on; of a poll, those in GET /zmock/jobs."""
    if api is POLL_JOB:
        return {"uuid", "api", "state", "resourceUuid", "resourceName"}
    type = api.type if api.kind == "Query" and api.by_uuid else ""
    row = cloud.catalogue.resource(api.target.refers if api.target else type)
    return {"uuid", *row.all_fields} if row else set()


# the rules in force

RULE_KEYS: dict[str, Shape] = {  # the values of each key
    "id": AN_ID,
    "api": ANY_TEXT,
    "method": among("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
    "path": ANY_TEXT,
    "when": Allowed(dict, 'a JSON object such as {"params.name": "db-*"}'),
    "skip": FROM_0,
    "times": FROM_1,
    "every": FROM_1,
    "on": AllowedList(FROM_1, "a list of whole numbers from 1"),
    "limit": AllowedObject(
        {"calls": CALLS_IN_WINDOW, "per": ABOVE_0},
        '{"calls": 10, "per": seconds}',
    ),
    "probability": Allowed(NUMERIC, "a number above 0 and up to 1", TINY, 1),
    "ttl": ABOVE_0,
    "retries": Allowed(str, "the word same", words=("same",)),
    "delay": Either(
        SECONDS,
        DISTRIBUTIONS,
        f"seconds, or {{NAME: ...}} with one of {', '.join(DISTRIBUTIONS)}",
    ),
    "then": Allowed(dict, f"a JSON object with one of {', '.join(THEN)}"),
}


def check_rule(definition: Any) -> None:
    """Raise ValueError for a wrong key of a rule, or a wrong value of a key."""
    if not isinstance(definition, dict):
        raise ValueError(f"a rule is a JSON object, not {short_json(definition)}")
    for key in definition:
        if key in RULE_KEYS:
            continue
        if key in THEN_KEYS or key == "at":
            raise ValueError(f"{key!r} is no key of a rule; it stands inside 'then'")
        raise ValueError(f"{key!r} is no key of a rule{did_you_mean(key, RULE_KEYS)}")
    definition = without_nulls(definition)
    if "api" not in definition and "path" not in definition:
        choice = "the name of an API, or a pattern as Create*"
        raise ValueError(f"'api' is missing: {choice}; or the 'path' of a stub")
    for key, value in definition.items():
        RULE_KEYS[key].check(key, value)
    check_path(definition.get("path", "*"))


HINT_ON_RULE = f"keys of a rule: {', '.join(RULE_KEYS)}"
HINT_ON_APIS = "GET /zmock/apis lists the APIs; * stands for any text"


def apis_named(apis: dict[str, Api], glob: str) -> list[Api]:
    if glob in apis:
        return [apis[glob]]
    return [api for name, api in apis.items() if fnmatchcase(name, glob)]


class Faults:
    """The rules in force. The first that fires decides; if none does, magic in a name may."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        self.apis = cloud.catalogue.apis | {POLL_JOB.name: POLL_JOB}
        self.files = cloud.settings.rules
        self.problems: dict[str, str] = {}  # by file: why its rules are not in force
        apis_of = functools.partial(apis_named, cloud.catalogue.apis)
        self.apis_of = functools.lru_cache(MOST_GLOBS)(apis_of)
        self.clear()

    @property
    def armed(self) -> bool:
        """True if there are rules, or files that may come to hold some."""
        return bool(self.by_id or self.files)

    @property
    def rules(self) -> list[Rule]:
        return list(self.by_id.values())

    def clear(self) -> None:
        self.by_id: dict[str, Rule] = {}
        self.ids = itertools.count(1)
        self.spelled: Counter[str] = Counter()  # faults by "magic" and by "header"
        self.stamps: dict[str, Any] = {}  # of the files, as they were read last

    @property
    def stubs(self) -> list[Rule]:
        return [rule for rule in self.by_id.values() if rule.stub]

    def decide(self, occasion: MatchedCall, stubs: bool = False) -> Fault:
        """Return the fault of a call: of the first rule that fires, else of magic, else none.

        Only `stubs` decide on a request that is not read yet, and no other rules.
        """
        for rule in self.by_id.values():
            if rule.stub == stubs:
                fault = rule.decide(occasion, self.cloud.settings.seed)
                if fault:
                    return fault
        return NO_FAULT if stubs else self.by_magic(occasion)

    # setting rules

    def add(self, definition: Any, source: str = "", ends: float | None = None) -> Rule:
        """Put a rule in force, behind the others; raise ValueError for one that can never fire.

        `ends` is the date on which its ttl ends, for a rule that was set before.
        """
        rule = self.compile(definition, source)
        if not self.by_id:  # the same rules again have the same ids, and the same random numbers
            self.ids = itertools.count(1)
        while not rule.id or rule.id in self.by_id:
            rule.id = f"rule-{next(self.ids)}"
        self.by_id[rule.id] = rule
        if "ttl" in rule.definition:
            self.start_ttl(rule, ends)
        return rule

    def compile(self, definition: Any, source: str = "") -> Rule:
        """Return a rule that is not in force; raise ValueError for one that can never fire."""
        with hinted(HINT_ON_RULE):
            check_rule(definition)
        definition = frozen(without_nulls(definition))
        id, then = definition.get("id", ""), definition.get("then", {})
        if id in ("magic", "header"):
            raise ValueError(f"the id {id!r} is that of directives in names and in headers")
        if id in self.by_id:
            raise ValueError(f"there is a rule {id!r} already")
        stub = "path" in definition or "method" in definition
        with hinted(hint_on_then()):
            check_then(then, self.cloud.catalogue.errors)
            if stub:
                check_stub(then)
        apis = []
        with hinted(HINT_ON_APIS):
            if "api" in definition:
                apis = self.named(definition["api"], "status" in then)
        stub = stub or apis[0].backing == "none"
        with hinted(HINT_ON_WHEN):
            check_when(self.cloud, definition.get("when", {}), apis, stub)
        with hinted(hint_on_then()):
            check_json(definition)
            moments = self.moments_by_api(definition.get("api", ""), then, apis, stub)
        description = self.cloud.catalogue.errors.get(then.get("error"), "")
        return Rule(id, definition, {"details": description} | then, moments, stub, source)

    def start_ttl(self, rule: Rule, ends: float | None) -> None:
        """End a rule after its ttl, or on a date."""
        now = self.cloud.clock.now()
        if ends is None:
            ends = now + rule.definition["ttl"]
        if ends <= now:
            rule.end()
        else:
            rule.timer = self.cloud.clock.after(ends - now, rule.end, f"{rule.id} ends")

    def remove(self, rule: Rule) -> None:
        """Remove a rule, unless that has happened."""
        self.replace(other for other in self.rules if other is not rule)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force, and no others."""
        before, self.by_id = self.by_id, {rule.id: rule for rule in rules}
        for id, rule in before.items():
            if rule.timer and self.by_id.get(id) is not rule:
                rule.timer.cancel()

    # checking rules

    def named(self, glob: str, can_be_stub: bool = False) -> list[Api]:
        """Return the APIs whose names match; PollJob only matches its own name.

        They are simulated, unless a stub may answer for those that are not.
        """
        check_glob("api", glob)
        apis = [POLL_JOB] if glob == POLL_JOB.name else self.apis_of(glob)
        if simulated := [api for api in apis if api.backing != "none"]:
            return simulated
        if apis and can_be_stub:
            return apis
        if apis:
            stub = "a rule with 'then.status' answers for it"
            raise ValueError(f"{glob} is not simulated: it answers 501; {stub}")
        names = [name for name, api in self.apis.items() if api.backing != "none"]
        hint = did_you_mean(glob, names) or did_you_mean(glob, self.apis)
        raise ValueError(f"'api' names no API: {glob!r}{hint}")

    def moments_by_api(
        self, glob: str, then: Item, apis: list[Api], stub: bool
    ) -> dict[str, str]:
        """Return when `then` strikes, by API, for those that have the job or the stage it needs."""
        if stub:
            return dict.fromkeys([api.name for api in apis] or ["", *self.apis], "accept")
        possible, moments = moments_of(then), {}
        for api in apis:
            if "job" in possible and not self.cloud.at_once(api):
                moments[api.name] = "job"
            elif possible != ("job",):
                moments[api.name] = possible[0]
        if not moments:
            reason = f"{json.dumps(then, ensure_ascii=False)} can never befall it"
            raise ValueError(f"{glob} answers at once, without a job: {reason}")
        if "stage" not in then:
            return moments
        stages = {name: self.cloud.stages(self.apis[name]) for name in moments}
        staged = {name: "job" for name in moments if then["stage"] in stages[name]}
        if not staged:
            names = [*dict.fromkeys(itertools.chain(*stages.values()))]
            hint = did_you_mean(then["stage"], names)
            if names:
                hint += f"; there are {', '.join(names)}"
            raise ValueError(f"{glob} has no stage {then['stage']!r}{hint}")
        return staged

    # magic

    def by_magic(self, occasion: MatchedCall) -> Fault:
        """Return the fault that `#zmock ...` in an object's name or description asks for.

        It strikes the asynchronous calls that make the object or act on it. An update that names
        or describes the object is spared: that is how magic comes and goes.
        """
        api, params, resource = occasion.api, occasion.params, occasion.resource
        if self.cloud.settings.no_magic or self.cloud.at_once(api):
            return NO_FAULT
        if api.kind == "Update" and not params.keys().isdisjoint(DESCRIBING):
            return NO_FAULT
        spells = spells_of(params, resource)
        try:
            return self.requested("magic", "job", spells) if spells else NO_FAULT
        except ValueError as error:
            choice = "there are #zmock fail, fail=CODE, delay=SECONDS, hold, hold=SECONDS"
            return Fault(hint=f"{error}; {choice}")

    def requested(self, source: str, at: str, words: dict[str, str | None]) -> Fault:
        """Return the fault of words such as {"fail": "HOST.1010", "hold": None}.

        Raise ValueError for a wrong word or value.
        """
        fields: Item = {}
        for word, value in words.items():
            name = SPELLS[word] if source == "header" else f"#zmock {word}"
            if word == "fail":
                code = "SYS.1006" if value is None else value
                check_code(name, code, self.cloud.catalogue.errors)
                details = f"asked for by {name}" + (f"={value}" if value else "")
                fields["error"] = ApiError(code, details)
            elif word == "delay":
                fields["delay"] = read_seconds(name, value or "")
            elif word == "hold":
                fields["job"] = "hold"
                fields["hold_for"] = math.inf if value is None else read_seconds(name, value)
            else:
                raise ValueError(f"{name!r} is no magic{did_you_mean(word, SPELLS)}")
        self.spelled[source] += 1
        return Fault(name=f"{source}; hit={self.spelled[source]}", at=at, **fields)

    # files

    def must_read(self) -> None:
        """Read the rule files; raise SettingsError if one cannot be used."""
        self.read_changed_files()
        if self.problems:
            path, problem = next(iter(self.problems.items()))
            raise SettingsError(f"cannot use the rules in {path}: {problem}")
        self.log_files(self.files)

    def reread(self) -> None:
        """Read the rule files that have changed. A file that cannot be used changes nothing."""
        self.log_files(self.read_changed_files())

    def log_files(self, paths: Iterable[str]) -> None:
        """Log which rules of files are in force, and why others are not."""
        for path in paths:
            if path in self.problems:
                log.warning("cannot use the rules in %s: %s", path, self.problems[path])
            count = sum(rule.source == path for rule in self.rules)
            log.info("%s in force from %s", counted(count, "rule"), path)

    def read_changed_files(self) -> list[str]:
        """Put the rules of changed files in force. Return the paths of these files."""
        changed = []
        for path in self.files:
            stamp = file_stamp(path)
            if self.stamps.get(path, "") != stamp:
                changed.append(path)
                self.stamps[path] = stamp
                self.problems.pop(path, None)
                self.replace_from(path)
        return changed

    def replace_from(self, path: str) -> None:
        """Put the rules of a file in force instead of those that it held before."""
        before = self.rules
        try:
            definitions = read_json(path)
            if not isinstance(definitions, list):
                raise ValueError(f"it is a JSON list of rules, not {short_json(definitions)}")
            rules = self.renewed(path, definitions)
        except (OSError, ValueError) as error:
            self.replace(before)
            self.problems[path] = str(error)
            return
        places = {path: place for place, path in enumerate(self.files)}
        rules = [*(rule for rule in before if rule.source != path), *rules]
        self.by_id = {rule.id: rule for rule in before}
        self.replace(sorted(rules, key=lambda rule: places.get(rule.source, len(places))))

    def renewed(self, path: str, definitions: list[Any]) -> list[Rule]:
        """Return the rules of a file that has changed. Unchanged rules go on counting."""
        former = defaultdict(list)  # a file may hold the same rule twice
        for rule in self.rules:
            if rule.source == path:
                former[canonical(rule.definition)].append(rule)
        unchanged = []
        for definition in definitions:
            same = former[canonical(definition)]
            unchanged.append(same.pop(0) if same else None)
        again = {*unchanged}
        still = [rule for rule in self.rules if rule.source != path or rule in again]
        self.by_id = {rule.id: rule for rule in still}
        rules = []
        for number, (rule, definition) in enumerate(zip(unchanged, definitions), 1):
            with numbered("rule", number, len(definitions)):
                rules.append(rule or self.add(definition, path))
        return rules


def canonical(definition: Any) -> str:
    """Return a text that equal definitions share."""
    if isinstance(definition, dict):
        definition = without_nulls(definition)
    return json.dumps(definition, sort_keys=True)


def file_stamp(path: str) -> tuple[int, int, int] | None:
    """Return a value that differs when a file has changed; None if there is no file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


MAGIC = re.compile(r"#zmock\s+(\w+)(?:=([\w.+-]*))?")
DESCRIBING = ("name", "description")  # fields that may hold directives
SPELLS = {  # the words of directives, with the headers that say the same
    "fail": "X-ZMock-Fault",
    "delay": "X-ZMock-Delay",
    "hold": "X-ZMock-Hold",
}


def spells_of(*items: Item) -> dict[str, str | None]:
    """Return the words of directives in names and descriptions, as {"fail": "HOST.1010"}."""
    texts = [item.get(name) for item in items for name in DESCRIBING]
    spells = MAGIC.findall(" ".join(text for text in texts if isinstance(text, str)))
    return {word: value or None for word, value in spells}


# ---- Jobs ----------------------------------------------------------------------------------------

PROGRESS_KEPT = 300  # seconds (ProgressGlobalConfig.java)
HOOK_TRIES, HOOK_GAP = 15, 2  # RestServer.java callWebHook; the gap is in seconds
GRACE = 0.025  # real seconds between a 202 and its web-hook: the client reads the 202 first
KEPT_SEEN = 2 * DAY  # seconds that a job is kept after the last look at it
LOOKS_APART = 60  # seconds; more frequent looks at a job are not written to its record
MOST_GONE = 1000  # jobs that rules made expire, whose rules are remembered
OVER = {"succeeded", "failed"}
FAILED_BY_HAND = ApiError("SYS.1006", "failed by POST /zmock/jobs")


@dataclass
class Call:
    """One use of an API."""

    api: Api
    params: Item
    session: Uuid = ""
    job: Uuid = ""  # names its progress too
    system_tags: list[str] = field(default_factory=list)
    user_tags: list[str] = field(default_factory=list)
    account: Uuid = ""
    user: Uuid = ""  # of the account, or the account itself; empty where no session is needed
    seconds: Seconds = 0
    long: bool = False  # it is the work of a long job
    fault: Fault = NO_FAULT
    begun: bool = False  # nothing has refused it
    refused: ApiError | None = None  # the error of an incident that refuses it
    failures: list[Item] = field(default_factory=list)  # of parts of it, for its answer
    key: str = ""  # its call_key()
    arguments: Item = field(default_factory=dict)  # as the client sent them, with tags
    on_end: Any = None  # called with the state and the error code that its job ends with

    def __getitem__(self, name: str) -> Any:
        return self.params.get(name)

    @property
    def target(self) -> Uuid | None:
        """The uuid of the object in the path, or None."""
        return self.params.get(self.api.target.name) if self.api.target else None


# runs


class Run:
    """An operation under way: it works step by step, and ends with done(body, error).

    An operation with stages begins at once. It yields the name of a stage after the work of that
    stage, and waits for the stage's equal share of its seconds. An operation without stages waits
    for all its seconds, then does all its work.

        begin -> step -> plan_next -> step -> ... -> finish

    An error undoes the step that it ended, and the steps before if a rule says rollback. The run
    then ends when it is due, and not before.

    `began` and `due` are seconds of Clock.steady(). The argument `began` is a date.
    """

    def __init__(
        self, jobs: Jobs, call: Call, seconds: Seconds, done: Any, began: float | None = None
    ):
        self.jobs, self.cloud, self.clock = jobs, jobs.cloud, jobs.clock
        self.call, self.done = call, done
        self.awaited = began is None  # a warping clock goes on to its timers
        self.began = self.clock.steady(began)
        self.due = self.began + seconds
        self.stages: dict[str, str] = self.cloud.stages(call.api, call.long)
        self.stage_starts: list[Seconds] = []  # in seconds of Clock.steady()
        self.log: list[Any] = []  # the changes made, for undo()
        self.steps: Any = None  # the generator of its work
        self.current_stage: str | None = None  # the name of the last one
        self.timer: Timer | None = None
        self.next_due = self.planned = self.began  # when the timer fires, and when it was set
        self.over = False  # no work is left
        self.ended = False
        if call.fault.job_error:  # there is no work, which is why no incident strikes it
            self.fail_when_due(call.fault.job_error)
        else:
            jobs.runs.add(self)
            self.begin()

    def begin(self) -> None:
        shows = self.stages or self.call.long
        if shows and configured(self.cloud, "progress", "progress.on"):
            self.jobs.progress[self.call.job] = self
        if self.stages:
            self.attempt()
        else:
            self.timer = self.later(self.due, self.attempt)

    def percent(self, now: Seconds) -> int:
        """Return how far it is at a second of Clock.steady(), for GetTaskProgress."""
        if self.ended:
            return 100
        if self.due <= self.began:
            return 0
        return max(0, min(99, int(100 * (now - self.began) / (self.due - self.began))))

    def later(self, due: Seconds, fire: Any) -> Timer:
        """Return a timer of this run; it never fires while the job is held."""
        name = f"{self.call.api.name} {self.call.job}"
        self.next_due, self.planned = due, self.clock.steady()
        if self.call.fault.job == "hold":
            return self.clock.never(fire, name)
        return self.clock.at_second(due, fire, name, self.awaited)

    def attempt(self) -> None:
        """Take a step, and plan the next one. An error undoes the step and ends the run."""
        if self.over:
            return
        try:
            with self.cloud.store.all_or_nothing() as changes:
                last, body = self.step()
        except ApiError as error:
            self.fail_in_time(error)
        except Exception as error:  # MessageSafeAspect.aj: any exception of a service is SYS.1000
            log.exception("%s failed", self.call.api.name)
            self.fail_in_time(ApiError("SYS.1000", str(error)))
        else:
            self.log += changes
            if last:
                self.finish(body, None)
            else:
                self.plan_next()

    def step(self) -> tuple[bool, Any]:
        """Work as far as the next yield; return True and the body after the last step."""
        if self.steps is None:
            self.steps = steps_of(self.cloud.perform(self.call))
        elif self.fails_next():
            raise self.call.fault.error
        try:
            self.current_stage = next(self.steps)
        except StopIteration as end:
            return True, end.value
        return False, None

    def plan_next(self) -> None:
        """Take the next step when the stage has had its share of the time.

        None is no stage: it ends the preparations. The first step has done the work of
        the first stage already, so a first stage that is to fail fails here.
        """
        fails_first = not self.stage_starts and self.fails_next()
        if self.current_stage is None or fails_first:
            self.attempt()
            return
        self.stage_starts.append(self.clock.steady())
        share = (self.due - self.began) / max(1, len(self.stages))
        self.timer = self.later(self.began + share * len(self.stage_starts), self.attempt)

    def fails_next(self) -> bool:
        """Return True if a rule fails the next stage. Work yields all its stages, in order."""
        stage = self.call.fault.stage
        upcoming = [*self.stages][len(self.stage_starts) :]
        return bool(stage) and upcoming[:1] == [stage]

    def fail_in_time(self, error: ApiError) -> None:
        """End with an error, but not before the run is due."""
        if self.call.fault.rollback:
            self.undo()
            self.cloud.notice("failed", self.call.api.name, self.call, error)
        error = wrapped(error, self.call)
        if self.clock.steady() < self.due:
            self.fail_when_due(error)
        else:
            self.finish(None, error)

    def fail_when_due(self, error: ApiError) -> None:
        self.over = True
        self.timer = self.later(self.due, functools.partial(self.finish, None, error))

    def finish(self, body: Any, error: ApiError | None) -> None:
        self.over = self.ended = True
        self.jobs.runs.discard(self)
        if self.jobs.progress.get(self.call.job) is self:
            self.clock.after(PROGRESS_KEPT, functools.partial(self.jobs.forget, self))
        self.done(body, error)

    # from outside

    def plan_anew(self, pause: Seconds) -> None:
        """Stop where it is if the fault of its call holds it now, or go on after a pause."""
        self.began += pause
        self.due += pause
        fire = self.timer.fire
        self.timer.cancel()
        self.timer = self.later(self.next_due + pause, fire)

    def hurry(self) -> None:
        """Take all remaining steps, and end."""
        while not self.over:
            self.timer.cancel()
            self.attempt()
        self.timer.fire_now()  # an error that waits until it is due

    def fail(self, error: ApiError) -> None:
        """Undo the work, and end with an error now."""
        self.abandon()
        self.undo()
        self.finish(None, error)

    def abandon(self) -> None:
        """Stop for good. Nothing is undone, and done() is not called."""
        if self.timer:
            self.timer.cancel()
        self.over = True
        self.jobs.runs.discard(self)

    def undo(self) -> None:
        self.cloud.take_back(self.log)
        self.log = []


def steps_of(work: Any) -> Any:
    """Yield the stages of an operation, and return its body."""
    if isinstance(work, GeneratorType):
        work = yield from work
    return work


def wrapped(error: ApiError, call: Call) -> ApiError:
    """Return the error of a call with its cause: VM.1001 caused by HOST_ALLOCATION.1000.

    A call that was refused before its work began has no other error than that.
    """
    if not call.api.fails or not call.begun or isinstance(error, ThrownError):
        return error
    for code in reversed(call.api.fails.split(" <- ")):
        error = ApiError(code, error.details, error, hint=error.hint)
    return error


# jobs


@dataclass(eq=False)
class Job:
    """An api-job that no client has seen end."""

    call: Call
    submitted: Seconds  # second of Clock.steady()
    line: str  # the key of its queue
    run: Run | None = None  # None while it waits in line
    ended: bool = False  # its result is being written
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # set when its 202 has left

    @property
    def due(self) -> Seconds:
        """The second of Clock.steady() on which it is to end."""
        return self.run.due if self.run else self.submitted + self.call.seconds

    @property
    def held(self) -> bool:
        return self.call.fault.job == "hold" and not self.ended

    @property
    def stuck(self) -> bool:
        """True if no time ends it."""
        return self.held and self.call.fault.hold_for == math.inf


class Jobs:
    """The api-jobs. Each has a record in the Store, and is a Job until clients can see its end.

        submit -> enter_line -> start -> finish -> publish -> poll -> expire

    A job waits in line for the jobs before it on the same object. finish() puts its result into
    the record. publish() waits until that is on the disk, lets polls see it, and calls the
    web-hook.
    """

    def __init__(self, cloud: Cloud):
        self.cloud, self.clock, self.store = cloud, cloud.clock, cloud.store
        self.http: aiohttp.ClientSession | None = None
        self.watch: Any = None  # called with the uuid of each job that changes
        self.unanswered: dict[Uuid, asyncio.Event] = {}  # web-hooks wait until the 202 has left
        self.hooks_first: dict[Uuid, asyncio.Event] = {}  # 202s wait until the web-hook is called
        self.clear()

    def clear(self) -> None:
        self.running: dict[Uuid, Job] = {}
        self.queues: dict[str, list[Job]] = defaultdict(list)  # by object; the first one runs
        self.runs: set[Run] = set()  # of jobs and of long jobs
        self.progress: dict[Uuid, Run] = {}  # for GetTaskProgress
        self.last = ""  # the uuid of the job submitted last
        self.last_looks: dict[Uuid, float] = {}  # dates of polls; records have them a minute late
        self.polls: Counter[Uuid] = Counter()  # since the start
        self.expired_by: dict[Uuid, str] = {}  # the rules that made jobs expire, for later polls
        self.hook_tasks: set[asyncio.Task[None]] = set()  # calls of web-hooks
        for event in [*self.unanswered.values(), *self.hooks_first.values()]:
            event.set()
        self.unanswered, self.hooks_first = {}, {}

    @property
    def ended(self) -> set[Uuid]:
        """The jobs whose results are being written."""
        return {uuid for uuid, job in self.running.items() if job.ended}

    def note(self, uuid: Uuid) -> None:
        if self.watch:
            self.watch(uuid)

    # from submission to the end

    def submit(self, call: Call, hook: str = "", schema: bool = False) -> None:
        """Accept a call as a job. A rule may lose it: then it is polled for ever."""
        if hook and not hook.startswith(("http://", "https://")):
            log.warning("job %s: a web-hook goes to http or https, not to %s", call.job, hook)
            hook = ""
        now = self.clock.now()
        record = {
            "uuid": call.job,
            "api": call.api.name,
            "state": "running",
            "created": now,
            "seen": now,
            "due": now + call.seconds,
            "target": call.target,
            "name": call["name"] or self.cloud.resource_of(call.api, call.params).get("name"),
            "hook": hook,
            "schema": schema,
            "key": call.key,
            "merge": call.fault.merge,
        }
        self.last = call.job
        self.release_renamed(call)
        if call.fault.job == "lose":
            self.store.put("Job", record | {"state": "lost", "rule": call.fault.name})
        else:
            self.store.put("Job", record)
            self.enter_line(call, hook)
        self.note(call.job)

    def enter_line(self, call: Call, hook: str) -> None:
        """Start a job behind those on the same object, as the server's queues do."""
        job = self.running[call.job] = Job(call, self.clock.steady(), self.line_of(call))
        if hook and call.fault.webhook == "first":
            self.hooks_first[call.job] = asyncio.Event()
        elif hook and call.fault.webhook != "never":
            self.unanswered[call.job] = job.answered
        line = self.queues[job.line]
        line.append(job)
        if len(line) == 1:
            self.start(job)

    def line_of(self, call: Call) -> str:
        """Return the key of a call's line: the object that it acts on, or that it is to make."""
        if call.api.line:
            return folded(call[call.api.line])
        target = call.target or call["resourceUuid"] or call.job
        type = call.api.target.refers if call.api.target else ""
        if type in self.cloud.catalogue.resources:
            row = self.cloud.catalogue.resource(type)
            target = self.cloud.look(row.stored, call.target).get(row.line) or target
        return folded(target)

    def leave_line(self, job: Job) -> None:
        """Take a job out of its line, and start the next one if it was the first."""
        line = self.queues.get(job.line, [])
        if job not in line:
            return
        first = line[0]
        line.remove(job)
        if not line:
            del self.queues[job.line]
        elif first is job and not line[0].ended:  # one that was failed by hand leaves by itself
            self.start(line[0])

    def start(self, job: Job) -> None:
        done = functools.partial(self.finish, job)
        job.run = Run(self, job.call, job.call.seconds, done)
        fault = job.call.fault
        if fault.hold_for < math.inf:
            end_hold = functools.partial(self.end_hold, job, fault)
            name = f"{job.call.api.name} {job.call.job} is released"
            self.clock.after(fault.hold_for, end_hold, name, awaited=True)

    def finish(self, job: Job, body: Any, error: ApiError | None) -> None:
        """Decide how a job ends; publish() lets it be seen."""
        if job.call.fault.at == "after":
            error = error or job.call.fault.error
        if self.running.get(job.call.job) is not job:  # expired by hand
            self.leave_line(job)
            self.tell_end(job, "failed" if error else "succeeded", error.code if error else "")
            return
        job.ended = True
        if error:
            self.cloud.notify_failure(job.call, error)
        self.set_result(job, body, error)
        self.clock.spawn(self.publish(job))

    def set_result(self, job: Job, body: Any, error: ApiError | None) -> None:
        """Put a result into the record of a job, instead of the one that may be there."""
        fault = job.call.fault
        by_merge = fault.name if fault.merge else None
        result = {"state": "succeeded", "body": body, "rule": by_merge}
        if error:
            is_by_rule = fault.error is not None and fault.error in (error, error.cause)
            result = {
                "rule": fault.name if is_by_rule else by_merge,
                "state": "failed",
                "body": None,
                "error": self.cloud.catalogue.error_body(error),
                "hint": error.hint or None,
            }
        now, due = self.clock.now(), self.clock.date_of(job.due)
        self.store.update("Job", job.call.job, finished=now, due=due, **result)

    def overturn(self, job: Job, error: ApiError) -> None:
        """Undo a job whose result nobody has seen, and let an error be its result."""
        if job.run:
            job.run.undo()
        self.set_result(job, None, error)

    async def publish(self, job: Job) -> None:
        """Let the result of a job be seen, and call its web-hook, once it is on the disk."""
        uuid, fault = job.call.job, job.call.fault
        self.leave_line(job)
        await self.write_result(job)
        if self.running.get(uuid) is not job:  # expired by hand, or lost
            return
        del self.running[uuid]
        self.note(uuid)
        record = self.store.get("Job", uuid)
        self.tell_end(job, record["state"], code_of(record))
        if record["hook"] and fault.webhook != "never":
            task = self.clock.spawn(self.call_hook(job, record))
            self.hook_tasks.add(task)
            task.add_done_callback(self.hook_tasks.discard)
        if fault.job == "expire":
            self.expire(uuid)
            self.expired_by[uuid] = fault.name
            if len(self.expired_by) > MOST_GONE:
                del self.expired_by[next(iter(self.expired_by))]

    async def write_result(self, job: Job) -> None:
        """Return when the result of a job is on the disk.

        A result that overturn() has replaced meanwhile is written too. A job whose result cannot
        be written fails.
        """

        def refuse_result(error: ApiError) -> None:
            if self.running.get(job.call.job) is job:
                self.overturn(job, error)

        written = None
        with contextlib.suppress(ApiError):
            while (record := self.store.peek("Job", job.call.job)) is not written:
                written = record
                await self.store.commit(refuse_result)

    def tell_end(self, job: Job, state: str, code: str) -> None:
        if job.call.on_end:
            job.call.on_end(state, code)

    def withdraw(self, call: Call) -> None:
        """Take back a job whose submission could not be written."""
        job = self.running.pop(call.job, None)
        self.unanswered.pop(call.job, None)
        self.release_answer(call.job)
        self.store.remove("Job", call.job)
        if job:
            self.cancel_job(job)

    def cancel_job(self, job: Job) -> None:
        """Undo a job, and let the next one in its line start."""
        if job.run:
            job.run.abandon()
            job.run.undo()
            self.forget(job.run)
        self.leave_line(job)

    def forget(self, run: Run) -> None:
        """Show the progress of a run no longer."""
        if self.progress.get(run.call.job) is run:
            del self.progress[run.call.job]

    # polls and expiry

    def poll(self, uuid: Uuid) -> Item | None:
        """Return the record of a job, or None if there is none any more."""
        record = self.store.peek("Job", uuid)
        if record is None or self.expired(record):
            return None
        uuid, now = record["uuid"], self.clock.now()
        self.last_looks[uuid] = now
        self.polls[uuid] += 1
        if abs(now - record["seen"]) >= LOOKS_APART:  # the clock may have been set back
            self.store.update("Job", uuid, seen=now)
            self.clock.spawn(self.store.try_commit())
        if uuid in self.running:  # also while its result is being written
            return record | {"state": "running", "rule": None, "hint": None}
        return record

    def expired(self, record: Item) -> bool:
        if record["state"] not in OVER or record["uuid"] in self.running:
            return False
        finished = record.get("finished", 0)
        if self.cloud.dialect["job-expiry"] == "seen":
            looked = max(record["seen"], self.last_looks.get(record["uuid"], 0), finished)
            return self.clock.now() >= looked + KEPT_SEEN
        period = configured(self.cloud, "rest", "completedApi.expiredPeriod")
        # A job that took longer than the period is kept until the next scan.
        ends = max(record["created"] + period, finished + self.scan_interval)
        return self.clock.now() >= ends

    @property
    def scan_interval(self) -> Seconds:
        return max(1, configured(self.cloud, "rest", "expiredApi.scanInterval"))

    def sweep(self) -> None:
        for record in [*self.store.rows("Job")]:
            if self.expired(record):
                self.expire(record["uuid"])

    def expire(self, uuid: Uuid) -> None:
        self.store.remove("Job", uuid)
        self.last_looks.pop(uuid, None)
        del self.polls[uuid]
        self.note(uuid)

    # web-hooks

    async def call_hook(self, job: Job, record: Item) -> None:
        """Deliver a result after its 202, unless a rule says first, late or twice."""
        fault = job.call.fault
        if fault.webhook != "first":
            await job.answered.wait()
        await self.clock.sleep(fault.lateness, f"web-hook of {job.call.api.name}")
        await self.deliver(record)
        if fault.webhook == "twice":
            await self.deliver(record)

    async def deliver(self, record: Item) -> None:
        """POST a result to its web-hook, up to 15 times, until the answer is a 2xx.

        A 202 that waits for its web-hook leaves after the first time.
        """
        uuid = record["uuid"]
        api = self.cloud.catalogue.apis[record["api"]] if record["schema"] else None
        body = to_json(result_of(record, api) or {})
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "X-Job-UUID": uuid,
            "X-Job-Success": "true" if record["state"] == "succeeded" else "false",
        }
        for attempt in range(HOOK_TRIES):
            if attempt:
                await self.clock.sleep(HOOK_GAP, f"web-hook of {record['api']}")
            taken = await self.post(record["hook"], body, headers)
            self.release_answer(uuid)
            if taken:
                return
        log.warning("web-hook %s never took the result of job %s", record["hook"], uuid)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> bool:
        """Return True if a web-hook answers with a 2xx."""
        if self.http is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=10)
            self.http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        options: dict[str, Any] = {"ssl": False, "allow_redirects": False}
        try:
            async with self.http.post(url, data=body, headers=headers, **options) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, ValueError, OSError, TimeoutError) as error:
            is_broken = isinstance(error, aiohttp.InvalidURL)
            reason = "this is no address" if is_broken else str(error) or type(error).__name__
            log.info("web-hook %s: %s", url, reason)
            return False

    def answer_sent(self, uuid: Uuid) -> None:
        """Let the web-hook of a job follow its 202, which has left; after GRACE if time runs."""
        if event := self.unanswered.pop(uuid, None):
            self.clock.after_real_time(GRACE, event.set)

    def release_answer(self, uuid: Uuid) -> None:
        """Let a 202 leave that waits for its web-hook."""
        if event := self.hooks_first.pop(uuid, None):
            event.set()

    async def close(self) -> None:
        if self.http:
            await self.http.close()

    # by hand and by incidents

    def control(self, uuid: Uuid, action: str, error: ApiError | None = None) -> None:
        """Finish, fail, hold, release or expire a job."""
        job = self.running.get(uuid)
        if action == "expire":
            self.expire_by_hand(uuid)
        elif action == "hold":
            self.hold(job)
        elif action == "release":
            self.release(job)
        elif action == "fail":
            self.fail(job, error)
        elif not job.ended:
            job.run.hurry()

    def hold(self, job: Job) -> None:
        """Stop a job where it is, or as soon as it starts, until release() or control()."""
        if not job.held:
            job.call.fault = replace(job.call.fault, job="hold", hold_for=math.inf)
            if job.run:
                job.run.plan_anew(0)
            self.note(job.call.job)

    def release(self, job: Job) -> None:
        """Let a held job go on where it was. What it waits for takes as long as before."""
        job.call.fault = replace(job.call.fault, job="")
        if job.run:
            job.run.plan_anew(self.clock.steady() - job.run.planned)
        self.note(job.call.job)

    def end_hold(self, job: Job, fault: Fault) -> None:
        """Release a job unless it has ended, or was released, meanwhile."""
        if self.running.get(job.call.job) is job and job.call.fault is fault:
            self.release(job)

    def release_renamed(self, call: Call) -> None:
        """Release the jobs that `#zmock hold` holds if an update takes it out of their object."""
        if call.api.kind != "Update" or call.arguments.keys().isdisjoint(DESCRIBING):
            return
        if "hold" in spells_of(self.cloud.resource_of(call.api, call.params) | call.arguments):
            return
        for job in [*self.running.values()]:
            changed = {change[1] for change in job.run.log} if job.run else set()
            is_by_magic = job.held and job.call.fault.name.startswith("magic;")
            if is_by_magic and call.target in (job.call.target, *changed):
                self.release(job)

    def fail(self, job: Job, error: ApiError | None) -> None:
        """Fail a job with an error, or with that of the rule that would fail it."""
        if job.ended:
            failed_before = self.store.peek("Job", job.call.job)["state"] == "failed"
            self.overturn(job, error or FAILED_BY_HAND)
            if not failed_before:
                self.cloud.notify_failure(job.call, error or FAILED_BY_HAND)
        elif job.run:
            job.run.fail(error or job.call.fault.job_error or FAILED_BY_HAND)
        else:
            self.finish(job, None, error or job.call.fault.job_error or FAILED_BY_HAND)

    def expire_by_hand(self, uuid: Uuid) -> None:
        """Forget a job. Its work goes on, unless it is held or has not begun."""
        record, job = self.store.peek("Job", uuid), self.running.pop(uuid, None)
        self.expire(uuid)
        self.release_answer(uuid)
        if not job:
            return
        if job.ended:
            self.tell_end(job, record["state"], code_of(record))
        elif job.held or not job.run:
            self.cancel_job(job)
            self.tell_end(job, "failed", "")

    def lose(self) -> None:
        """Stop all that is under way where it is, as when the management node dies.

        Polls answer 202 for ever (MysqlAsyncRestStore.java), also for a job whose result is being
        written: nobody has seen that.
        """
        unseen = dict.fromkeys(("finished", "body", "error", "hint", "rule"))
        for run in [*self.runs]:
            run.abandon()
        for uuid, job in self.running.items():
            if job.run:
                job.run.abandon()
            due = self.clock.date_of(job.due)
            self.store.update("Job", uuid, state="lost", due=due, **unseen)
            self.note(uuid)
        for task in self.hook_tasks:
            task.cancel()
        self.clear()

    # for clients

    def waits(self, uuid: Uuid) -> bool:
        """Return True while a job waits for another one on the same object."""
        job = self.running.get(uuid)
        return bool(job) and not job.run and not job.ended

    def due(self, record: Item) -> float:
        """Return the date on which a job is due, as dates are now."""
        job = self.running.get(record["uuid"])
        return self.clock.date_of(job.due) if job else record["due"]

    def state_of(self, record: Item) -> str:
        """Return the state of a job: running or held until its result is on the disk."""
        if job := self.running.get(record["uuid"]):
            return "held" if job.held else "running"
        return record["state"]

    def find(self, uuid: Uuid) -> Item | None:
        """Return a job as GET /zmock/jobs shows it, None if there is none."""
        record = self.store.peek("Job", uuid)
        return self.as_json(record) if record else None

    def as_json(self, record: Item) -> Item:
        """Return the record of a job as GET /zmock/jobs shows it.

        `progress` goes from 0 to 1. It is None if the job is held, lost, or has failed.
        """
        uuid, state = record["uuid"], self.state_of(record)
        job, error = self.running.get(uuid), None
        progress: float | None = {"running": 0, "succeeded": 1}.get(state)
        if state == "running" and job and job.run:
            progress = job.run.percent(self.clock.steady()) / 100
        if state == "failed":
            error = {"code": code_of(record), "details": failure_of(record)}
        inventory = (record.get("body") or {}).get("inventory")
        made = inventory.get("uuid") if isinstance(inventory, dict) else None
        return {
            "uuid": uuid,
            "api": record["api"],
            "state": state,
            "created": iso(record["created"]),
            "due": None if state == "held" else iso(self.due(record)),
            "resourceUuid": record.get("target") or made,
            "resourceName": record.get("name"),
            "error": error,
            "polls": self.polls[uuid],
            "progress": progress,
            "rule": (job.call.fault.name if job else record.get("rule")) or None,
        }


def code_of(record: Item) -> str:
    """Return the code of the error that a job ended with, or ""."""
    return (record.get("error") or {}).get("code", "")


def failure_of(record: Item) -> str:
    """Return why a job failed, from the innermost cause: "no host has room"."""
    error = record.get("error") or {}
    while error.get("cause"):
        error = error["cause"]
    return text_of(error.get("details") or error.get("description") or "")


def result_of(record: Item, api: Api | None = None) -> Any:
    """Return the body of a job's result, with the schema of its content if its API is given."""
    body = record.get("body")
    if record["state"] == "failed":
        body, api = {"error": record["error"]}, None
    if record.get("merge"):
        body = merged(body, record["merge"])
    if not api:
        return body
    return (body or {}) | {"schema": schema_of(body or {}, api.members)}


def merged(body: Any, patch: Any) -> Any:
    """Return a body after a JSON merge patch (RFC 7396), whose nulls remove members."""
    if not isinstance(patch, dict):
        return patch
    result = dict(body) if isinstance(body, dict) else {}
    for name, inner in patch.items():
        if inner is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), inner)
    return result


# ---- Rows at work --------------------------------------------------------------------------------

HOOKS: dict[tuple[str, str], list[Any]] = {}  # functions by what happens, and to what


def on(event: str, *subjects: str) -> Callable:
    """Register a function to be called when something happens.

    Expunging an object and detaching a nic remove it.

    on("removed", "Host")          (cloud, item)         an item of that type was removed
    on("tagged", "hostname")       (cloud, uuid, rest)   a new item has a system tag hostname::rest
    on("configured", "host/x")     (cloud)               that global configuration was changed
    on("failed", "StartVm...")     (cloud, call, error)  a call of that API was undone
    on("connected", "Host")        (cloud, item)         a host was connected
    on("started", "VmInstance")    (cloud, item)         it runs, or runs again
    on("stopped", "VmInstance")    (cloud, item)         it was taken off its host
    on("moved", "VmInstance")      (cloud, item)         it runs on another host
    on("destroying", "VmInstance") (cloud, item)         its destruction begins
    on("destroyed", "VmInstance")  (cloud, item)         its nics and volumes are still there
    on("readdressed", "VmNic")     (cloud, item)         its address became another one
    on("expunged", "Image")        (cloud, image, refs)  the period of deleted copies is over
    on("called", "")               (cloud, call)         may refuse a call before its row does
    on("tagging", "")              (cloud, tag, vo, uuid, l3)    may refuse a system tag
    on("computed", "Host.x")       (cloud, item)         works out a field when it is looked at
    """

    def register(function: Callable) -> Callable:
        for subject in subjects:
            HOOKS.setdefault((event, subject), []).append(function)
        return function

    return register


def behaviour(function: Any = None, **stages: str) -> Any:
    """Let a function named as an API do its calls: create_zone(cloud, call) does CreateZone.

    It returns the body of the answer. A generator goes through `stages`: each `yield "name"` lets
    the time of that stage pass, with its sentence as progress. `yield None` ends what is done
    before the first stage begins.
    """

    def register(function: Any) -> Any:
        function.stages = stages
        BEHAVIOURS[function.__name__.replace("_", "")] = function
        return function

    return register(function) if function else register


def checks_parameters(check: Callable) -> Callable:
    """Let check(cloud, params) complete the parameters of an API with a behaviour.

    It raises BadParameter for wrong ones.
    """

    def register(function: Any) -> Any:
        function.check = check
        return function

    return register


# forms of texts


def address_of(text: str | None) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address in a text, or None."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def network_of(text: str) -> ipaddress.IPv4Network | None:
    """Return the IPv4 network in a text, or None."""
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None


def contains(whole: Any, part: Any) -> bool:
    """Return True if a list has an element, or a network or a range has an address.

    The first and the last address of a network are not for hosts.

    contains("10.0.0.0/8", "10.1.0.1") and contains("10.0.0.2-10.0.0.9", "10.0.0.5") -> True
    """
    if not isinstance(whole, str):
        return part in (whole or ())
    address = address_of(part)
    if address and (network := network_of(whole)):
        return network[0] < address < network[-1]
    begin, _, end = whole.partition("-")
    first, last = address_of(begin), address_of(end)
    return bool(first and address and last) and first <= address <= last


def is_hostname(text: str) -> bool:
    label = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
    has_letter = not re.fullmatch(r"[\d.]+", text)
    return has_letter and bool(re.fullmatch(rf"{label}(\.{label})*\.?", text))


def is_cidr(text: str) -> bool:
    is_text = isinstance(text, str) and re.fullmatch(r"[\d.]+/\d+", text, re.A)
    return bool(is_text) and network_of(text) is not None


def is_narrow(text: str) -> bool:
    network = network_of(text)
    return network is not None and network.prefixlen > 30


def is_netmask(text: str) -> bool:
    return text in {str(network_of(f"0.0.0.0/{bits}").netmask) for bits in range(1, 33)}


def is_between(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def is_statement(value: Item) -> bool:
    """Return True for a statement of a policy."""
    if value.get("effect") not in ("Allow", "Deny"):
        return False
    return isinstance(value.get("actions"), list) and bool(value["actions"])


MON_URL = re.compile(  # sshUsername:sshPassword@hostname:[sshPort]/?[monPort=]
    r"(?P<sshUsername>[^:@]+):(?P<sshPassword>.+)@(?P<hostname>[\w.-]+)"
    r"(:(?P<sshPort>\d{1,5}))?/?(\?monPort=(?P<monPort>\d{1,5}))?",
    re.A,
)


def mon_of(url: str) -> Item | None:
    """Return the parts of the url of a monitor of Ceph, or None."""
    match = MON_URL.fullmatch(url)
    if not match:
        return None
    mon: Item = {}
    for name, text in match.groupdict().items():
        if text and name.endswith("Port"):
            mon[name] = int(text)
            if not 0 < mon[name] < 1 << 16:
                return None
        elif text:
            mon[name] = text
    return mon


def has_ssh_port(url: str) -> bool:
    """Return True unless the url of a monitor has something else in the place of its ssh port."""
    match = re.fullmatch(r".*@[^@:]*(:(?P<port>\d{1,5}))?([/?].*)?", url, re.A)
    return match is not None and 0 < int(match["port"] or 22) < 1 << 16


DOMAIN = re.compile(  # as in DomainValidator.java, but any two letters are a country
    r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+(aero|arpa|asia|biz|cat|com|coop|edu|gov|info|int|jobs|mil|"
    r"mobi|museum|name|net|org|pro|tel|travel|[a-z]{2})",
    re.I,
)
FORMS: dict[str, Callable] = {
    "ApiId": re.compile("[0-9a-f]{32}").fullmatch,
    "Blank": re.compile("").fullmatch,
    "Cidr": is_cidr,
    "Cron": read_cron,
    "Domain": DOMAIN.fullmatch,
    "HealthTarget": re.compile(r"(tcp|http|udp):(default|\d{1,5})", re.A).fullmatch,
    "Hostname": is_hostname,
    "IPv4": address_of,
    "IcmpCode": functools.partial(is_between, low=-1, high=3),
    "IcmpType": functools.partial(is_between, low=-1, high=255),
    "ImageUrl": re.compile(r"((http|https|ftp|sftp|upload|zstore)://|file:///|/).*", re.S).match,
    "Label": re.compile(r"\w+ *=~? *[\w|.:-]*").fullmatch,
    "Long": re.compile(r"-?\d{1,18}", re.A).fullmatch,
    "Mac": re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.I).fullmatch,
    "MonHost": re.compile(r".*@[\w.-]+([:/?].*)?", re.A).fullmatch,
    "MonLogin": re.compile(".+:.+@[^@]*").fullmatch,
    "MonPort": has_ssh_port,
    "MonUrl": mon_of,
    "Narrow": is_narrow,
    "Netmask": is_netmask,
    "NfsSystemPath": re.compile("[^:]*:/(dev|proc|sys)[^:]*").fullmatch,
    "Number": re.compile(r"\d{1,9}", re.A).fullmatch,
    "Path": re.compile("/.*", re.S).match,
    "Port": functools.partial(is_between, low=0, high=65535),
    "RiskyPassword": re.compile("password").match,
    "Selector": re.compile(r'[\w:]+(\{( *\w+ *=~? *"[\w|.:-]*" *(,|(?=\})))* *\})?').fullmatch,
    "Span": re.compile("[1-9][0-9]{0,8}[smhd]?").fullmatch,
    "Statement": is_statement,
    "SystemPath": re.compile("/(dev|proc|sys).*", re.S).match,
    "Unprintable": re.compile("[^ -~]").search,
}


# the words of rows


def is_there(value: Any) -> bool:
    return value not in (None, "", [], {})


def is_less(low: Any, high: Any) -> bool:
    """Compare two numbers, addresses or other texts. Nothing is less than what is unlike it."""
    low = address_of(low) or low if isinstance(low, str) else low
    high = address_of(high) or high if isinstance(high, str) else high
    return None not in (low, high) and isinstance(low, str) == isinstance(high, str) and low < high


class Scope:
    """The meaning of a row's words for one call or one item.

    A name is configured, now or caller, else a parameter of the call, else a field of the item;
    its.NAME is always a field. `item` is a copy of the object that the row is about. `bound` has
    the elements of lists for which a clause is repeated, by the name of the parameter.
    """

    def __init__(
        self, cloud: Cloud, call: Call | None = None, type: str = "", item: Item | None = None
    ) -> None:
        self.cloud, self.call, self.type = cloud, call, type
        self.item = dict(item or {})
        self.params = call.api.params if call else {}
        self.bound: Item = {}
        self.other: Item = {}  # the object that a condition `some` has met
        self.changes: Item = {}  # fields that were set and are not yet stored

    # values

    def value(self, word: str) -> Any:
        """Return the value of a word, the first that is there of a|b."""
        for part in word.split("|"):
            value = self.value_of_part(part)
            if is_there(value) or part == word:
                return value
        return None

    def value_of_part(self, word: str) -> Any:
        if is_name(word):
            return self.follow(word)[0]
        value = literal(word)
        return self.text(value) if isinstance(value, str) and "{" in value else value

    def follow(self, path: str) -> tuple[Any, str]:
        """Return the value that a name leads to, and the type of the resource that it refers to."""
        name, *steps = path.split(".")
        if name == "configured":
            return configured(self.cloud, steps[0], ".".join(steps[1:])), ""
        if name == "now":
            return self.cloud.clock.stamp(), ""
        if name == "other":
            return self.other.get(steps[0]), ""
        if name == "caller":
            value, type = self.call.account, "Account"
        elif name in self.params:
            value, type = self.bound.get(name, self.call[name]), self.params[name].refers
        else:
            if name == "its":
                name = steps.pop(0)
            value, type = self.field(self.type, self.item, name), self.target_of(self.type, name)
        for step in steps:
            if isinstance(value, dict):
                value, type = value.get(step), ""
            else:
                item = self.look(type, value)
                value, type = self.field(type, item, step), self.target_of(type, step)
        return value, type

    def field(self, type: str, item: Item, name: str) -> Any:
        row = self.cloud.catalogue.resources.get(type)
        return self.cloud.queries.value(row, item, name) if row and item else item.get(name)

    def target_of(self, type: str, key: str) -> str:
        row = self.cloud.catalogue.resources.get(type)
        return row.leads.get(key, "") if row else ""

    def look(self, type: str, uuid: Uuid) -> Item:
        """Return the item of a resource type, or {}."""
        if not type or not uuid:
            return {}
        return self.cloud.look(self.cloud.catalogue.resources[type].stored, uuid)

    def text(self, sentence: str, comma: str = ", ") -> str:
        """Return a sentence with the values of its {names}."""

        def worded(match: re.Match) -> str:
            value = self.follow(match[1])[0]
            if isinstance(value, list):
                return comma.join(map(str, value))
            if isinstance(value, dict):
                return json.dumps(value, ensure_ascii=False)
            return text_of(value)

        return re.sub(r"\{([\w.]+)\}", worded, sentence)

    def repeated(self, lists: Iterable[ListName]) -> list[Scope]:
        """Return this scope, or one for each element of the first list that a clause names."""
        for named in lists:
            value = self.call[named.name]
            if named.name in self.bound or not isinstance(value, (list, dict)):
                continue
            if isinstance(value, list):
                return [self.with_bound(named.name, element) for element in value]
            if named.maps:
                return [self.with_bound(named.name, entry) for entry in entries_of(value)]
        return [self]

    def with_bound(self, name: str, value: Any) -> Scope:
        """Return a scope in which a parameter means one value. It shares item and changes."""
        scope = copy.copy(self)
        scope.bound = self.bound | {name: value}
        return scope

    # conditions

    def where(self, condition: RowCondition) -> Scope | None:
        """Return the scope in which a condition holds: this one, or that of a list element."""
        for scope in self.repeated(condition.lists):
            if all(map(scope.holds, condition.tests)):
                return scope
        return None

    def holds(self, test: RowTest) -> bool:
        """Return True if a test of a condition holds, and note what `some` or a function meets."""
        if test.kind in ("some", "none"):
            self.other = next(self.items(test.subject, test.words), {})
            return bool(self.other) == (test.kind == "some")
        if test.kind == "call":
            met = EFFECTS[test.subject](self.cloud, self.item, self.call)
            self.other = met if isinstance(met, dict) else {}
            return bool(met)
        value = self.value(test.subject)
        if test.kind in ("there", "no"):
            return is_there(value) == (test.kind == "there")
        if test.kind == "several":
            return len(value or ()) > 1
        if test.kind == "repeated":
            return (self.call[test.subject] or ()).count(value) > 1
        if test.kind in ("in", "not in"):
            is_inside = contains(self.value(test.words[0]), value)
            return is_there(value) and is_inside == (test.kind == "in")
        if test.kind in ("<", ">"):
            other = self.value(test.words[0])
            return is_less(value, other) if test.kind == "<" else is_less(other, value)
        is_form = test.words[0] in FORMS
        present = is_there(value) or (is_form and value in ("", {}))  # "" has none of the forms
        if not present:
            return False
        return any(self.equals(value, word) for word in test.words) == (test.kind == "is")

    def equals(self, value: Any, word: str) -> bool:
        return bool(FORMS[word](value)) if word in FORMS else value == self.value(word)

    def items(self, type: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Item]:
        """Yield the items of a type that have certain values, or lead to them."""
        row = self.cloud.catalogue.resource(type)
        values = {path: self.value(word) for path, word in pairs}
        if not all(map(is_there, values.values())):
            return
        key = next(path for path in values if "." not in path)
        wanted = values.pop(key)
        for value in wanted if isinstance(wanted, list) else [wanted]:
            for item in self.cloud.queries.find(row, key, value):
                scope = Scope(self.cloud, None, type, item)
                if all(folded(values[path]) in scope.folded_at(path) for path in values):
                    yield item

    def folded_at(self, path: str) -> list[Any]:
        """Return the value to which a path leads from the item, or the elements of that list."""
        way, _, name = path.rpartition(".")
        uuid, type = self.follow(f"its.{way}") if way else (None, "")
        item = self.look(type, uuid) if way else self.item
        return [folded(value) for value in each(item, name)]

    # effects

    def perform(self, clauses: Iterable[Clause]) -> None:
        """Apply effects in order, and store the fields that they set."""
        for clause in clauses:
            for scope in self.repeated(clause.lists):
                scope.apply(clause.effect)
        self.store_changes()

    def apply(self, effect: RowEffect) -> None:
        """Apply an effect; perform() stores the fields that it sets."""
        cloud = self.cloud
        if isinstance(effect, Assign):
            self.assign(effect)
        elif isinstance(effect, When):
            if self.where(effect.condition):
                for scope in self.repeated(effect.clause.lists):
                    scope.apply(effect.clause.effect)
        elif isinstance(effect, Add):
            values = {name: self.value(word) for name, word in effect.pairs}
            if all(map(is_there, values.values())):
                cloud.add(effect.type, **values)
        elif isinstance(effect, Drop):
            for item in list(self.items(effect.type, effect.pairs)):
                cloud.drop(effect.type, item)
        elif isinstance(effect, Tag):
            self.tag(effect)
        elif isinstance(effect, Untag):
            remove_tags(cloud, self.item["uuid"], self.text(effect.begin))
        elif isinstance(effect, Remove):
            cloud.remove(self.stored, self.item["uuid"])
        elif isinstance(effect, Perform):
            self.store_changes()
            self.reread()
            effect.function(cloud, self.item, self.call)
            self.reread()

    def tag(self, effect: Tag) -> None:
        """Put a system tag on the item, in place of one that begins alike."""
        text = effect.text
        begin = self.text(text.rpartition("::")[0] + "::" if "::" in text else text)
        if not effect.once or not tags_of(self.cloud, self.item["uuid"], begin):
            put_tag(self.cloud, self.stored, self.item["uuid"], begin, self.text(text, ","))

    def assign(self, effect: Assign) -> None:
        """Set a field, of the item or of what a uuid leads to, or add to or take from its list."""
        uuid, type = self.follow(effect.way) if effect.way else (None, "")
        item = self.look(type, uuid) if effect.way else self.item
        current, value = item.get(effect.field), self.value(effect.word)
        if effect.sign == "?=" and is_there(current):
            return
        if effect.sign in ("+", "-"):
            if value is None:
                return
            elements = [element for element in current or () if element != value]
            value = [*elements, value] if effect.sign == "+" else elements
        if not effect.way:
            self.set(**{effect.field: value})
        elif item:
            cloud_type = self.cloud.catalogue.resources[type].stored
            self.cloud.change(cloud_type, uuid, **{effect.field: value})

    def set(self, **changes: Any) -> None:
        """Set fields of the item; keep() stores them."""
        self.changes |= changes
        self.item |= changes

    def store_changes(self) -> None:
        """Store the fields that were set. In a Create, Add or Update null changes nothing."""
        if not self.changes:
            return
        changes = dict(self.changes)
        self.changes.clear()
        if self.call and self.call.api.kind in ("Create", "Add", "Update"):
            changes = without_nulls(changes)
        if self.cloud.store.peek(self.stored, self.item["uuid"]):
            self.cloud.change(self.stored, self.item["uuid"], **changes)

    def reread(self) -> None:
        """Read the item again: others may have changed it."""
        item = self.cloud.store.get(self.stored, self.item["uuid"])
        if item is not None:
            self.item.clear()
            self.item.update(item)

    @property
    def stored(self) -> str:
        return self.cloud.catalogue.resources[self.type].stored


def entries_of(value: Item) -> Iterator[Item]:
    """Yield the entries of a map: {"a": ["b"]} -> {"key": "a", "value": "b", "values": ["b"]}."""
    for key, elements in value.items():
        for element in (elements or [None]) if isinstance(elements, list) else [elements]:
            yield {"key": key, "value": element, "values": elements}


# system tags


def tags_of(cloud: Cloud, uuid: Uuid, begin: str) -> list[Item]:
    """Return the system tags of an object that begin with a text."""
    tags = cloud.find("SystemTag", "resourceUuid", uuid)
    return [tag for tag in tags if tag["tag"].startswith(begin)]


def rest_of_tag(cloud: Cloud, uuid: Uuid | None, begin: str) -> str | None:
    """Return the rest of the system tag that begins with a text, or None.

    rest_of_tag(cloud, vm, "hostname::") -> "web-1"
    """
    tags = tags_of(cloud, uuid, begin) if uuid else []
    return tags[0]["tag"].removeprefix(begin) if tags else None


def remove_tags(cloud: Cloud, uuid: Uuid, begin: str) -> None:
    for tag in tags_of(cloud, uuid, begin):
        cloud.remove("SystemTag", tag["uuid"])


def put_tag(cloud: Cloud, type: str, uuid: Uuid, begin: str, text: str) -> None:
    """Give an object a system tag in the place of those that begin alike."""
    cloud.notice("tagging", "", text, f"{type}VO", uuid)
    remove_tags(cloud, uuid, begin)
    add_tag_of_server(cloud, type, uuid, text)


def add_tag_of_server(
    cloud: Cloud, type: str, uuid: Uuid, text: str, inherent: bool = False
) -> None:
    """Add a system tag. Its uuid follows from the object and the text (SystemTag.java)."""
    vo = f"{type}VO"
    tag = {"uuid": uuid_from(digest(f"{uuid}-{vo}-{text}"), version=3), "tag": text}
    cloud.add("SystemTag", resourceUuid=uuid, resourceType=vo, inherent=inherent, **tag)


# the verbs


def scope_of(cloud: Cloud, call: Call) -> Scope:
    """Return the scope of a call, with a copy of the object that it is about."""
    subject = call.api.subject
    if not subject:
        return Scope(cloud, call, call.api.type, call.params)  # the object that is to be
    uuid = call[subject.name]
    if isinstance(uuid, list):
        uuid = next(iter(uuid), None)
    item = cloud.store.get(cloud.catalogue.resources[subject.refers].stored, uuid)
    return Scope(cloud, call, subject.refers, item)


def refuse_by_row(cloud: Cloud, call: Call, with_late: bool = True) -> None:
    """Raise the first refusal of the API whose condition holds."""
    if not call.api.refusals:
        return
    scope = scope_of(cloud, call)
    for refusal in call.api.refusals:
        match = scope.where(refusal.condition) if with_late or not refusal.late else None
        if match:
            raise chained(refusal.codes, [*map(match.text, refusal.texts)])


def refuse_arguments(cloud: Cloud, api: Api, params: Item) -> None:
    """Raise BadParameter if the first refusal that names parameters only is SYS.1007.

    This is before the call begins. Others wait for their turn.
    """
    scope = Scope(cloud, Call(api, params))
    for refusal in api.refusals:
        is_illegal = refusal.of_parameters and refusal.codes == ["SYS.1007"]
        if not is_illegal and not cloud.dialect["bad-parameter"]:
            return  # the server goes through its refusals in order
        if refusal.of_parameters and (match := scope.where(refusal.condition)):
            if is_illegal:
                raise BadParameter(match.text(refusal.texts[0]))
            return


def new_item(cloud: Cloud, call: Call) -> Item:
    """Add the object that a call creates, with its tags: the parameters that are fields of it."""
    row = cloud.catalogue.resource(call.api.type)
    values = {name: value for name, value in call.params.items() if name in row.all_fields}
    item = cloud.add(row.stored, uuid=call["resourceUuid"], **values | row.only)
    cloud.tag_new(call, row.stored, item["uuid"])
    return item


def create(cloud: Cloud, call: Call) -> Any:
    """Add an object from the parameters, and do what the row says."""
    scope = Scope(cloud, call, call.api.type, new_item(cloud, call))

    def answer() -> Item:
        body = cloud.inventory_of(scope.type, scope.item["uuid"])
        return body | {"failures": call.failures} if call.failures else body

    return carry_out(scope, answer)


def update(cloud: Cloud, call: Call) -> Any:
    """Change the fields that are given, and do what the row says."""
    scope = scope_of(cloud, call)
    names = cloud.catalogue.resource(scope.type).all_fields.keys() - {"uuid"}
    changes = {name: value for name, value in call.params.items() if name in names}
    if changes:  # else lastOpDate stays
        cloud.change(scope.stored, scope.item.get("uuid", call.target), **changes)
    return carry_out(scope, lambda: answer_of(scope, call.api))


STATES = {
    "enable": "Enabled",
    "disable": "Disabled",
    "maintain": "Maintenance",
    "deleting": "Deleting",
}


def change_state(cloud: Cloud, call: Call) -> Any:
    """Do what the row says, then change the state."""
    scope = scope_of(cloud, call)

    def answer() -> Item:
        set_state(cloud, scope.stored, call.target, STATES[call["stateEvent"]])
        return cloud.inventory_of(call.api.type, call.target, call.api.plain)

    return carry_out(scope, answer)


def set_state(cloud: Cloud, type: str, uuid: Uuid, state: str) -> None:
    """Change a state, and that of the objects that change with it, unless they are in maintenance.

    The source is ClusterExtensionToZone.java.
    """
    cloud.change(type, uuid, state=state)
    child_type, _, key = cloud.catalogue.resource(type).switches.partition(".")
    children = cloud.find(child_type, key, uuid) if child_type else []
    for child in children:
        if child["state"] not in ("PreMaintenance", "Maintenance"):
            set_state(cloud, child_type, child["uuid"], state)


def enforced(work: Callable) -> Callable:
    """Return the work of a deletion whose errors are ignored (CascadeFacadeImpl.java).

    The step that fails ends the work. What was done before stays.
    """

    def go_on(cloud: Cloud, call: Call) -> Stages:
        with contextlib.suppress(ApiError):
            refuse_by_row(cloud, call)
            yield from steps_of(work(cloud, call))

    return go_on


def delete(cloud: Cloud, call: Call) -> None:
    cloud.remove(cloud.catalogue.resource(call.api.type).stored, call.target)


def act(cloud: Cloud, call: Call) -> Any:
    """Do what the row says, and answer what the API answers."""
    scope = scope_of(cloud, call)
    has_answer = call.api.answers and call.api.long != "always"
    return carry_out(scope, lambda: answer_of(scope, call.api) if has_answer else None)


def carry_out(scope: Scope, answer: Callable[[], Any]) -> Any:
    """Do what the row says, and answer: at once, or as a generator that goes through stages."""
    if scope.call.api.stages_of_row:
        return go_through_stages(scope, answer)
    scope.perform(scope.call.api.clauses)
    return answer()


def go_through_stages(scope: Scope, answer: Callable[[], Any]) -> Stages:
    api, clauses = scope.call.api, []
    for clause in api.clauses:
        if not isinstance(clause.effect, Stage):
            clauses.append(clause)
            continue
        scope.perform(clauses)
        clauses = []
        yield clause.effect.name
        may_be_gone = api.subject and api.subject.may_be_gone
        if may_be_gone and not scope.cloud.store.peek(scope.stored, scope.item["uuid"]):
            return None  # somebody else has removed it, as this call should
        uuid = scope.item["uuid"]
        if api.creates and not scope.cloud.store.peek(scope.stored, uuid):
            raise refused(f"{scope.type.lower()} [uuid:{uuid}] has been deleted")
        scope.item = scope.cloud.get(scope.stored, uuid)
    scope.perform(clauses)
    return answer()


def answer_of(scope: Scope, api: Api) -> Item:
    """Return the answer of an API: an inventory, or fields of the item.

    The inventory is that of the item, or of the object that a key of the item leads to.
    """
    if not api.answers.startswith("inventory:"):
        return {name: scope.item.get(name) for name in api.answers.split()}
    row = scope.cloud.catalogue.resources[scope.type]
    key = "uuid"
    if api.type not in (row.name, row.stored):
        keys = [key for key, type in row.leads.items() if type == api.type]
        key = keys[0] if keys else "uuid"
    return scope.cloud.inventory_of(api.type, scope.item[key], api.plain)


def query(cloud: Cloud, call: Call) -> Item:
    return cloud.query(call.api, call["query"], cloud.queries_of(call))


# what Gets answer


def answer_candidates(cloud: Cloud, call: Call) -> Item:
    """Answer the objects of a type for which all conditions of the row hold, by uuid."""
    row = cloud.catalogue.resource(call.api.type)
    inventories = []
    queries = cloud.queries if call.api.public else cloud.queries_of(call)
    for item in queries.tables.in_order(row.stored):
        scope = Scope(cloud, call, row.name, item)
        if all(map(scope.where, call.api.conditions.values())):
            inventories.append(cloud.inventory(row.name, item))
    return {"inventories": inventories}


def answer_facts(cloud: Cloud, call: Call) -> Item:
    """Answer what the system tags of the object say.

    A tag without a value of the type counts as absent: then the default is answered, or nothing.
    """
    scope, body = scope_of(cloud, call), {}
    for fact in call.api.facts:
        begin = scope.text(fact.begin)
        tags = tags_of(cloud, scope.item["uuid"], begin)
        texts = [tag["tag"].removeprefix(begin) for tag in tags]
        if fact.value.default:
            texts.append(fact.value.default)
        values = [TYPES[fact.value.type].parse(text) for text in texts]
        value = next((value for value in values if value is not None), None)
        if value is not None:
            body[fact.value.name] = value
    return body


def answer_sums(cloud: Cloud, call: Call) -> Item:
    """Answer sums over the objects that the first list given names, or over all of the type.

    An object counts for each element of the list that it belongs to.
    """
    row = cloud.catalogue.resource(call.api.sums)
    items: Iterable[Item] | None = None
    for param, key in call.api.by.items():
        if call[param] and key:
            finds = [cloud.queries.find(row, key, uuid) for uuid in dict.fromkeys(call[param])]
            items = itertools.chain(*finds)
        if call[param]:
            break
    if items is None:
        items = cloud.store.rows(row.name)
    sums = dict.fromkeys(call.api.answers.split(), 0)
    for item in items:
        for name in sums:
            sums[name] += cloud.queries.value(row, item, name) or 0
    return sums


def answer_truths(cloud: Cloud, call: Call) -> Item:
    """Answer whether the condition of the row holds, or which of several do, by their names."""
    scope, api = scope_of(cloud, call), call.api
    truths = {name: bool(scope.where(test)) for name, test in api.conditions.items()}
    return truths if isinstance(api.whether, str) else {api.answers: truths}


def answer_always(cloud: Cloud, call: Call) -> Item:
    return {call.api.answers: copy.deepcopy(call.api.always)}


def verb_of(api: Api) -> Callable | None:
    """Return the function that does the calls of an API without a behaviour, or None."""
    if api.creates:
        return create
    if api.long == "always":
        return act
    if api.kind == "Delete" and not api.does:
        return delete
    if api.kind == "Change" and "stateEvent" in api.params:
        return change_state
    if api.kind == "Query":
        return query
    if api.kind == "Update" and api.target:
        return update
    if api.only:
        return answer_candidates
    if api.tells:
        return answer_facts
    if api.sums:
        return answer_sums
    if api.whether:
        return answer_truths
    if api.always is not None:
        return answer_always
    return act if api.does else None


def refuse_idle_rows(catalogue: Catalogue) -> None:
    """Raise SettingsError for a simulated API that neither a function nor its row does."""
    for api in catalogue.apis.values():
        if api.backing != "none" and not (api.behaviour or verb_of(api)):
            with catalogue.rows.about("apis", api.name):
                raise ValueError("nothing does its calls")


# ---- Cloud ---------------------------------------------------------------------------------------

ADMIN = "36c27e8ff05c4780bf6d2fa65700f22e"  # AccountManagerImpl.java
LICENSE_WRITES = {"DeleteLicense", "ReloadLicense", "UpdateLicense"}
CLEARED_IF_CONFIGURED = {  # references that are cleared with their target if this is on
    "instanceOfferingUuid": ("vm", "instanceOffering.setNullWhenDeleting"),
}
State = TypeVar("State")


class Outages:
    """The incidents of a cloud, and what each kind has broken until it ends."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}  # those that have not ended, by id
        self.numbers = itertools.count(1)  # for their ids
        self.hosts: Counter[Uuid] = Counter()  # the incidents that keep a host away
        self.full_storages: Counter[Uuid] = Counter()  # the incidents that fill a primary storage
        self.licenses: dict[Uuid, tuple] = {}  # those that ended early: their end before and now
        self.refusals: dict[str, Callable[[Call], ApiError | None]] = {}  # by kind of incident
        self.nodes_away = 0  # the incidents that keep the management node away
        self.node_deaths = 0  # how often that was killed


class Cloud:
    """A simulated ZStack, driven by Call objects. It knows no HTTP.

    check() reads the parameters of a call. perform() does the call, and returns the body of the
    answer, None if there is none, or a generator that yields after each stage.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        store: Store,
        clock: Clock,
        dialect: Dialect,
    ) -> None:
        self.settings, self.catalogue, self.store = settings, catalogue, store
        self.db = store  # the objects, as a tinydb.TinyDB
        self.clock, self.dialect = clock, dialect
        computed = self.computed_fields()
        self.queries = QueryEngine(catalogue, dialect, store, computed, clock.utc_offset)
        self.computing = {type for type, _ in self.queries.computed}  # the types with such fields
        self.jobs: Jobs = None
        self.accounts: Accounts = None
        self.resets = 0
        self.clear()

    def clear(self) -> None:
        """Forget all that does not lie in the store. The random sequence starts again."""
        self.random = random.Random(self.settings.seed)
        self.parts: dict[Callable, Any] = {}
        self.used: Counter[str] = Counter()  # the calls of each API
        self.draws: Counter[tuple[str, bool]] = Counter()  # the durations drawn for each API
        self.creation_moment: Seconds | None = None  # the date that new objects get instead of now
        self.acting: Uuid | None = None  # the account whose call is being done, but for admin
        self.resets += 1
        self.outages = Outages()

    def part(self, kind: Callable[[Cloud], State]) -> State:
        """Return the cloud's instance of a class that holds the state of a section.

        It is made on first use. A reset forgets it.
        """
        if kind not in self.parts:
            self.parts[kind] = kind(self)
        return self.parts[kind]

    # items

    def uuid(self) -> Uuid:
        """Return a random v4 uuid without dashes, from the seed."""
        return uuid_from(f"{self.random.getrandbits(128):032x}", version=4)

    def stamp(self) -> Stamp:
        """Return the date that an object gets which is made or changed now."""
        return self.clock.stamp(self.creation_moment)

    def get(self, type: str, uuid: Uuid) -> Item:
        """Return a copy of an item. Raise SYS.1003 if there is none."""
        item = self.store.get(type, uuid)
        if item is None:
            raise missing("uuid", uuid, type)
        return item

    def look(self, type: str, uuid: Uuid | None) -> Item:
        """Return an item itself, which nobody may change, or {} if there is none."""
        return self.store.peek(type, uuid) or {}

    def resource_of(self, api: Api | None, params: Item) -> Item:
        """Return the object that a call reads or changes, {} if there is none."""
        if api and api.kind == "Query":
            type, uuid = api.type, params.get("uuid")
        elif api and api.target:
            type, uuid = api.target.refers, params.get(api.target.name)
        else:
            return {}
        row = self.catalogue.resource(type)
        return self.look(row.stored, uuid) if row else {}

    def find(self, type: str, key: str, value: Any) -> list[Item]:
        return list(self.store.find(type, key, value))

    def exists(self, type: str, uuid: Uuid) -> bool:
        """Return True if there is an object of a type, of any for "Resource" (ResourceVO)."""
        if type == "Resource":
            return any(self.store.peek(name, uuid) for name in self.catalogue.resources)
        row = self.catalogue.resources[type]
        item = self.store.peek(row.stored, uuid)
        return item is not None and row.has(item)

    def add(self, type: str, /, **values: Any) -> Item | None:
        """Add an item with the values that its row starts with, a uuid and dates, and return it.

        What lies inside another item is added to its list there.
        """
        row, now = self.catalogue.resource(type), self.stamp()
        item = {**row.new, **values}
        if row.inside:
            for name in row.fields.keys() & {"createDate", "lastOpDate"}:
                item[name] = now
            self.refer(row, item)
            return None
        item |= {"uuid": values.get("uuid") or self.uuid(), "createDate": now, "lastOpDate": now}
        if row.owner and "owner" not in item:
            item["owner"] = self.owner_of_new(row, item)
        self.store.put(type, without_nulls(item))
        return self.store.get(type, item["uuid"])

    def owner_of_new(self, row: Resource, item: Item) -> Uuid | None:
        """Return the account that owns what a new item is part of, else the account that calls."""
        if row.owner != "caller" and item.get(row.owner):
            whole = self.store.peek(row.leads[row.owner], item[row.owner])
            if whole:
                return whole.get("owner")
        return self.acting

    def refer(self, row: Resource, reference: Item) -> None:
        """Add a reference to the list that it lies in; a list of uuids gets its uuid."""
        place = row.place
        owner = self.get(place.owner, reference[place.key])
        element: Any = reference
        if self.catalogue.resource(place.owner).all_fields[place.list_name] == "list":
            element = reference[place.value]
        elements = [*owner.get(place.list_name, ()), element]
        self.change(place.owner, owner["uuid"], **{place.list_name: elements})

    def drop(self, type: str, item: Item) -> None:
        """Remove an item, or a reference from the list that it lies in."""
        if self.catalogue.resource(type).inside:
            self.change_inside(type, item, None)
        else:
            self.remove(type, item["uuid"])

    def change_inside(self, type: str, item: Item, changes: Item | None) -> None:
        """Change a reference in the list that it lies in, or remove it."""
        place = self.catalogue.resource(type).place
        owner = self.look(place.owner, item[place.key])
        elements = []
        for element, reference in zip(owner[place.list_name], place.rows(owner)):
            if reference != item:
                elements.append(element)
            elif changes is not None:
                elements.append(element | changes)
        self.change(place.owner, owner["uuid"], **{place.list_name: elements})

    def change(self, type: str, uuid: Uuid, /, **changes: Any) -> None:
        """Change fields of an item; None takes a field away. Raise SYS.1003 if there is none.

        Its date stays if it is as before.
        """
        item = self.store.peek(type, uuid)
        if not item:
            raise missing("uuid", uuid, type)
        if any(item.get(name) != changes[name] for name in changes):
            self.store.update(type, uuid, **changes, lastOpDate=self.stamp())

    def remove(self, type: str, uuid: Uuid) -> None:
        """Remove an item with its tags and all that depends on it (the cascade extensions)."""
        item = self.store.get(type, uuid)
        if item is None:
            return
        self.store.remove(type, uuid)
        if self.catalogue.resource(type).soft_deleted:
            self.store.put("Gone", {"uuid": uuid})
        self.notice("removed", type, item)
        Scope(self, None, type, item).perform(self.catalogue.endings[type])
        self.update_dependents(type, uuid)

    def update_dependents(self, type: str, uuid: Uuid) -> None:
        """Remove what cannot be without a removed item, and the references of others to it."""
        for child_type, key, lost in self.catalogue.dependents[type]:
            row = self.catalogue.resource(child_type)
            for child in list(self.queries.find(row, key, uuid)):
                if lost:
                    self.clear_references(child_type, child, uuid, lost)
                else:
                    self.drop(child_type, child)
        for about in ("SystemTag", "UserTag", "SharedResource"):
            for item in self.find(about, "resourceUuid", uuid):
                self.store.remove(about, item["uuid"])

    def clear_references(self, type: str, item: Item, uuid: Uuid, names: list[str]) -> None:
        """Take from an item the reference to a removed one: the first of `names`.

        A list loses the element. The other names are fields that have no meaning without it.
        """
        key = names[0]
        if key in CLEARED_IF_CONFIGURED and not configured(self, *CLEARED_IF_CONFIGURED[key]):
            return
        changes = dict.fromkeys(names)
        if isinstance(item[key], list):
            changes = {key: [element for element in item[key] if element != uuid]}
        self.change(type, item["uuid"], **changes)

    def take_back(self, changes: list[tuple]) -> None:
        """Undo changes, and remove what others have made meanwhile that depends on new items."""
        self.store.take_back(changes)
        touched = {change[:2] for change in changes if change[0] in self.catalogue.resources}
        for type, uuid in sorted(touched):
            if not self.store.peek(type, uuid):
                self.update_dependents(type, uuid)

    def notice(self, event: str, subject: str, *arguments: Any) -> None:
        """Call the functions that are registered for an event (see `on`)."""
        for function in HOOKS.get((event, subject), ()):
            function(self, *arguments)

    # inventories

    def computed_fields(self) -> dict[tuple[str, str], Callable[..., Any]]:
        """Return the functions that work out fields when they are looked at."""
        computed: dict[tuple[str, str], Callable[..., Any]] = {}
        for (event, subject), functions in HOOKS.items():
            if event == "computed":
                type, _, name = subject.partition(".")
                computed[type, name] = functools.partial(functions[0], self)
        return computed

    def inventory(self, type: str, item: Item, only: Collection[str] | None = None) -> Inventory:
        """Return an item as a client sees it: without nulls, with embedded inventories."""
        row = self.catalogue.resource(type)
        names = [name for name in row.all_fields if only is None or name in only]
        if row.stored in self.computing:
            item = item | {name: self.queries.value(row, item, name) for name in names}
        shown = {name: item[name] for name in names if item.get(name) is not None}
        for name in row.worded:
            if name in shown:
                is_date = row.all_fields[name] == "date"
                shown[name] = us_date(shown[name]) if is_date else self.with_us_dates(shown[name])
        if only is None:
            self.embed(self.catalogue.subtype_row(row, item), item, shown)
        return shown

    def embed(self, row: Resource, item: Item, shown: Inventory) -> None:
        for name, inner in self.catalogue.embedded[row.name].items():
            children = self.queries.find(inner, row.relations[name].theirs, item["uuid"])
            children = sorted(children, key=lambda child: child.get("deviceId", 0))
            shown[name] = [self.inventory(inner.name, child) for child in children]

    def with_us_dates(self, references: list[Item]) -> list[Item]:
        """Return references with their dates as clients get them."""
        shown = []
        for reference in references:
            worded = dict(reference)
            for name, value in reference.items():
                is_date = name.endswith("Date") and isinstance(value, str)
                if is_date and self.clock.is_stamp(value):
                    worded[name] = us_date(value)
            shown.append(worded)
        return shown

    def inventory_of(self, type: str, uuid: Uuid, plain: bool = False) -> Item:
        """Return the usual answer: {"inventory": {...}}, a plain one without fields of subtypes."""
        row = self.catalogue.resources[type]
        item = self.get(row.stored, uuid)
        return {"inventory": self.inventory(type, item, row.fields if plain else None)}

    # parameters

    def check(self, api: Api, arguments: Item) -> Item:
        """Return the legal parameters of a call, read as their types (APIMessage.java).

        Raise BadParameter or FrontError for an illegal one.
        """
        params = {}
        for param in api.params.values():
            value = arguments.get(param.name)
            params[param.name] = self.read(param, param.default if value is None else value)
        required = [param.name for param in api.params.values() if param.required]
        missing_names = [name for name in required if params[name] is None]
        for param in api.params.values():
            self.check_param(api, param, params[param.name], missing_names)
        params = self.spelled(api, without_nulls(params))
        if self.makes(api) and arguments.get("resourceUuid") not in (None, ""):
            params["resourceUuid"] = self.check_uuid(arguments["resourceUuid"])
        mode = arguments.get("deleteMode")
        self.check_mode(api, mode)
        if mode == "Enforcing":
            params["deleteMode"] = mode
        refuse_arguments(self, api, params)
        check = getattr(api.behaviour, "check", None)
        if check:
            check(self, params)
        return params

    def read(self, param: ValueSpec, value: Any) -> Any:
        if value is None:
            return None
        try:
            return param.read(value)
        except TypeError as error:
            hint = f"{param.name} is {a_noun(TYPES[param.type].noun)}"
            raise FrontError(self.dialect["malformed-body"], str(error), hint) from None

    def check_param(self, api: Api, param: ValueSpec, value: Any, missing_names: list[str]) -> None:
        """Raise BadParameter for an illegal value.

        The server reports the first parameter that is missing. The hint names all.
        """
        problem = param.problem(value)
        if not problem:
            return
        hint = did_you_mean(value, param.values)[2:] if problem == "values" else ""
        where = f"field[{param.name}] of message[{api.message}]"
        details = param.explain(problem, value, PARAMETER_PROBLEMS, where=where)
        if value is None:
            hint = f"{api.name} needs {', '.join(missing_names)}"
            raise BadParameter(details, hint, absent=missing_names)
        raise BadParameter(details, hint)

    def makes(self, api: Api) -> bool:
        """Return True if a call may say the uuid of what it makes."""
        creates = api.method == "POST" or api.creates
        return creates and not api.bare and "resourceUuid" not in api.params

    def check_uuid(self, value: Any) -> Uuid:
        if isinstance(value, str) and re.fullmatch(UUID, value):
            return value
        article = "http://en.wikipedia.org/wiki/Universally_unique_identifier"
        raise BadParameter(
            f"resourceUuid[{value}] is not a valid uuid. A valid uuid is a UUID(v4 recommended) "
            f"with '-' stripped. see {article} for format of UUID, the regular expression ZStack "
            f"uses to validate a UUID is '{UUID}'"
        )

    def check_mode(self, api: Api, mode: Any) -> None:
        """Refuse an unknown deleteMode; zstack-sdk-go sends an empty one."""
        if api.method != "DELETE" or mode in (None, "", "Permissive", "Enforcing"):
            return
        enum = "org.zstack.header.message.APIDeleteMessage.DeletionMode"
        code = "SYS.1007" if self.dialect["bad-parameter"] else "SYS.1000"
        hint = "deleteMode is Permissive or Enforcing"
        raise BadParameter(f"No enum constant {enum}.{mode}", hint, code)

    # uuids

    def spelled(self, api: Api, params: Item) -> Item:
        """Return parameters in which each uuid is spelled as in the item that has it.

        Clients may write a uuid in any case, for MySQL compares without; zmock compares with ==.
        """
        spelled = dict(params)
        for name, param in api.params.items():
            if name in params:
                spelled[name] = self.spell(api, param, params[name])
        return spelled

    def spell(self, api: Api, param: ValueSpec, value: Any) -> Any:
        if (api.type, param.name) == ("SystemTag", "tag") and isinstance(value, str):
            return spell_in_tag(value, self.catalogue.naming_tags, self.spell_uuid)
        if param.refers in ("", "Resource"):
            return spell_in("uuid" if param.refers else param.name, value, self.spell_uuid)
        types = [self.catalogue.resources[param.refers].stored]
        return spell_in("uuid", value, functools.partial(self.store.spelling, types=types))

    def spell_uuid(self, uuid: Uuid) -> Uuid:
        """Return the uuid of any resource as it is spelled there."""
        return self.store.spelling(uuid, self.catalogue.resources)

    # calls

    def simulated(self, api: Api) -> bool:
        return api.backing != "none"

    def at_once(self, api: Api) -> bool:
        """Return True if a call is answered by itself, without a job."""
        is_job = self.dialect["license-writes"] and api.name in LICENSE_WRITES
        return api.at_once and not is_job

    def needs_session(self, api: Api) -> bool:
        return not api.open

    def note_caller(self, call: Call) -> None:
        """Set the account and user of a call by its session, which may end before the call does.

        perform() raises what is wrong, in its turn.
        """
        with contextlib.suppress(ApiError):
            if self.needs_session(call.api):
                self.accounts.enter(call)
        for refuse in self.outages.refusals.values():
            call.refused = call.refused or refuse(call)

    def perform(self, call: Call) -> Any:
        """Do a call, in the server's order: references, session, then the operation itself."""
        call.params = self.spelled(call.api, call.params)  # again: there may be more objects by now
        patterns = self.catalogue.naming_tags
        tags = call.system_tags
        call.system_tags = [spell_in_tag(tag, patterns, self.spell_uuid) for tag in tags]
        if self.is_gone(call):
            return None  # deleting what is not there succeeds (ApiMessageProcessorImpl.java)
        if self.needs_session(call.api) and not call.account:
            self.accounts.enter(call)
        if call.refused:
            raise call.refused
        self.validate(call)
        if "ephemeral::validationOnly" in call.system_tags:
            return None
        call.begun = True
        return self.act(call)

    def validate(self, call: Call, is_submitted: bool = False) -> None:
        """Raise what keeps a call from beginning, or from being submitted as a long job."""
        if not self.by_admin(call):
            self.accounts.admit(call)
        self.refuse_used_uuid(call)
        self.notice("called", "", call)
        if not call["deleteMode"] or call.api.name not in self.dialect["enforced-deletion"]:
            refuse_by_row(self, call, with_late=not is_submitted and not call["deleteMode"])
        if not self.by_admin(call):
            self.accounts.charge(call)

    def act(self, call: Call) -> Any:
        """Do a call that nothing refuses, by the behaviour of its API or by its verb."""
        work = self.behaviour(call.api, call.long) or verb_of(call.api)
        if call["deleteMode"] and call.api.fails == "SYS.1004":
            work = enforced(work)
        if call.account in ("", ADMIN):
            return work(self, call)
        return self.accounts.act(call, work)

    def behaviour(self, api: Api, long: bool = False) -> Callable | None:
        """Return the function of an API. What is always a long job does as its row says in one."""
        return None if long and api.long == "always" else api.behaviour

    def stages(self, api: Api, long: bool = False) -> dict[str, str]:
        """Return the stages of a job, or of a long job, with the sentences of its progress."""
        if long and api.long == "always":
            return api.stages_of_row
        return api.stages

    def is_gone(self, call: Call) -> bool:
        """Return True if the object of a call is not there and need not be.

        Raise SYS.1003 for a missing object that must be there.
        """
        for param in call.api.params.values():
            value = call[param.name]
            if not param.refers or value is None:
                continue
            uuids = value if isinstance(value, list) else [value]
            absent = [uuid for uuid in uuids if not self.exists(param.refers, uuid)]
            if not absent:
                continue
            if param.may_be_gone:
                if not param.any_form and not re.fullmatch(UUID, value):
                    details = f"invalid value[{value}] of field [{param.name}]"
                    hint = Examples(self, call).hint_on_absent(value, param)
                    raise ApiError("SYS.1003", details, hint=hint)
                return True
            hint = Examples(self, call).hint_on_absent(absent[0], param)
            if not isinstance(value, list):
                raise missing(param.name, value, param.refers, hint)
            resource = f"resource[uuids:[{', '.join(map(str, absent))}], type:{param.refers}VO]"
            details = f"invalid field[{param.name}], {resource} not found"
            raise ApiError("SYS.1003", details, hint=hint)
        return False

    def refuse_used_uuid(self, call: Call) -> None:
        uuid = call["resourceUuid"] if self.makes(call.api) else None
        if uuid and (self.exists("Resource", uuid) or self.store.peek("Gone", uuid)):
            reason = f"Duplicate entry '{uuid}' for key 'PRIMARY'"
            raise ApiError("SYS.1000", f"could not execute statement; {reason}")

    @staticmethod
    def by_admin(call: Call) -> bool:
        """Return True for a call of admin, of the mock itself, or without need of a session."""
        return call.user in ("", ADMIN)

    # queries

    def queries_of(self, call: Call, type: str = "") -> QueryEngine:
        """Return the evaluator of a caller's queries on a type, over all that it may see."""
        if self.by_admin(call) or call.account == ADMIN:
            return self.accounts.queries_on(type)
        return self.accounts.queries(call.account)

    def query(self, api: Api, query: Query, queries: QueryEngine | None = None) -> Item:
        """Return the answer of a query: {"inventories": [...]}, and total if it is wanted."""
        row = query.resource or self.catalogue.resource(api.type)
        items, total = (queries or self.queries).select(query, row)
        if query.count:
            return {"total": total}
        inventories = [self.inventory(row.name, item, query.fields) for item in items]
        body: Item = {"inventories": inventories}
        if query.with_count:
            body["total"] = total
        return body

    # tags and notifications

    def tag_new(self, call: Call, type: str, uuid: Uuid) -> None:
        """Put the tags of a creation on the new object, but for system tags of other types."""
        row = self.catalogue.resources[type]
        for tag in call.system_tags:
            fits = self.dialect["free-system-tags"] or row.allows_tag(tag)
            if fits and not tag.startswith("ephemeral::"):
                self.add("SystemTag", resourceUuid=uuid, resourceType=f"{type}VO", tag=tag)
                name, _, rest = tag.partition("::")
                self.notice("tagged", name, uuid, rest)
        for tag in call.user_tags:
            self.add("UserTag", resourceUuid=uuid, resourceType=f"{type}VO", tag=tag)

    def notify(
        self,
        content: str,
        arguments: list[str],
        about: str | None = None,
        uuid: Uuid | None = None,
        severity: str = "Info",
        **more: Any,
    ) -> None:
        """Add a notification: a text with %s, and the arguments for them."""
        moment = self.clock.now() if self.creation_moment is None else self.creation_moment
        self.add(
            "Notification",
            content=content,
            arguments=json.dumps(arguments, ensure_ascii=False),
            resourceType=about,
            resourceUuid=uuid,
            type=severity,
            time=int(moment * 1000),
            **more,
        )

    def notify_failure(self, call: Call, error: ApiError) -> None:
        self.notify(
            "API[%s] failed: %s",
            [call.api.name, error.details],
            call.api.type and f"{call.api.type}VO",
            call.target,
            "Error",
            name="api",
            sender="api",
            opaque={"success": False, "session": call.session},
        )


# hints on parameters that are missing, or name no object

LONGEST_HINT = 600  # characters of a hint on missing parameters
MOST_TRIED = 500  # objects of a type that are examples for a hint
GOOD_STATES = ("Enabled", "Connected", "Ready", "Running")


class Examples:
    """Examples for the parameters of a refused call: objects that its caller sees."""

    def __init__(self, cloud: Cloud, call: Call) -> None:
        self.cloud, self.catalogue, self.call = cloud, cloud.catalogue, call
        self.account = call.account
        with contextlib.suppress(ApiError):
            self.account = self.account or cloud.accounts.session(call.session)["accountUuid"]

    @functools.cached_property
    def tables(self) -> Store | View:
        """Return the tables with what the caller sees."""
        if self.account == ADMIN:
            return self.cloud.store
        return self.cloud.accounts.view(self.account)

    # missing parameters

    def hint_on_missing(self, names: Sequence[str]) -> str:
        """Return the missing parameters, each with a place to find its values and an example.

        "CreateDataVolume needs name, diskOfferingUuid (GET /disk-offerings: 1f6c... small)"
        """
        begin = f"{self.call.api.name} needs "
        texts = [self.text_on(self.call.api.params[name]) for name in names]
        for place in reversed(range(len(names))):
            if len(begin + ", ".join(texts)) > LONGEST_HINT:
                texts[place] = names[place]
        return begin + ", ".join(texts)

    def text_on(self, param: ValueSpec) -> str:
        """Return the name of a parameter with its legal values: "cpuNum (1..1024)"."""
        if param.refers in self.catalogue.resources:
            note = self.text_on_reference(param)
        elif param.values:
            note = " or ".join(param.values)
        elif param.low is not None:
            note = f"{param.low}..{param.high}"
        else:
            note = "" if param.type in ("str", "any") else a_noun(TYPES[param.type].noun)
        return f"{param.name} ({note})" if note else param.name

    def text_on_reference(self, param: ValueSpec) -> str:
        """Return "GET /images: UUID image-1", or which API makes an image."""
        type = param.refers
        row = self.catalogue.resources[type]
        path = row.path or self.catalogue.resources[row.stored].path
        place = f"GET /{path}" if path else type
        if not self.account or row.inside:
            return place
        usable = [item for item in self.items(type) if self.suits(param, item)]
        if usable:
            return f"{place}: {words_for(max(usable, key=goodness))}"
        creator = self.creator_of(type)
        way = f": {creator.name}, {creator.call}" if creator else ""
        return f"no usable {type}{way}"

    def items(self, type: str) -> list[Item]:
        """Return some of the objects of a type that the caller sees, the oldest first."""
        row = self.catalogue.resources[type]
        if not self.account or row.inside:
            return []
        waiting = EXPUNGING.get(row.stored)
        items = []
        for item in itertools.islice(self.tables.rows(row.stored), MOST_TRIED):
            if row.has(item) and not (waiting and waiting.waits(item)):
                items.append(item)
        return items

    def suits(self, param: ValueSpec, item: Item) -> bool:
        """Return True if the row of the API lets the call use an item."""
        value = [item["uuid"]] if param.type == "list" else item["uuid"]
        params = self.call.arguments | {param.name: value}
        call = replace(self.call, params=params, account=self.account)
        scope = Scope(self.cloud, call, type=self.call.api.type)
        for refusal in self.call.api.refusals:
            subjects = [test.subject.partition(".")[0] for test in refusal.condition.tests]
            with contextlib.suppress(ApiError, *UNREADABLE):  # it is about other parameters too
                if param.name in subjects and scope.where(refusal.condition):
                    return False
        return True

    def creator_of(self, type: str) -> Api | None:
        """Return the first API that makes an object of a type."""
        types = [type, *(row.name for row in self.catalogue.resources.values() if row.of == type)]
        for api in self.catalogue.apis.values():
            if api.creates and api.type in types and self.cloud.simulated(api):
                return api
        return None

    # parameters that name no object

    def hint_on_absent(self, value: Any, param: ValueSpec) -> str:
        """Return the hint on a value that is the uuid of no object, with an object that is near."""
        text = str(value)[:200]
        if param.refers not in self.catalogue.resources:
            return f"{param.name} is the uuid of an object, and {text} is none"
        names = [name for name in self.catalogue.resources if self.cloud.exists(name, value)]
        if names:
            return f"{text} is of type {names[-1]}, {param.name} of type {param.refers}"
        for item in self.named(param.refers, text):
            return f"{text} is the name of {a_noun(param.refers)}; its uuid is {item['uuid']}"
        by_name = {item.get("name"): item for item in self.items(param.refers)}
        for name in nearest(text, filter(None, by_name)):
            near = words_for(by_name[name])
            return f"no {param.refers} has the uuid {text}, did you mean {near}?"
        return f"no {param.refers} has the uuid {text}; {self.text_on_reference(param)}"

    def named(self, type: str, name: str) -> list[Item]:
        """Return the objects of a type that the caller sees and that have this name."""
        row = self.catalogue.resources[type]
        if not self.account or row.inside or "name" not in row.all_fields:
            return []
        return [item for item in self.tables.find(row.stored, "name", name) if row.has(item)]


UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # of a call without its parameters


def goodness(item: Item) -> int:
    """Return how many of the state and the status of an item are good."""
    return sum(item.get(name) in GOOD_STATES for name in ("state", "status"))


def words_for(item: Item) -> str:
    """Return the uuid of an item with its name."""
    name = str(item.get("name") or "")
    return f"{item['uuid']} {name[:40]}".rstrip()


def management_node(cloud: Cloud) -> Item:
    return next(iter(cloud.store.rows("ManagementNode")))


# global configurations


def configure(cloud: Cloud, category: str, name: str, value: Any) -> None:
    """Change a global configuration. Raise SYS.1007 for an unknown one or an illegal value."""
    configurations, key = cloud.catalogue.configurations, f"{category}/{name}"
    row = configurations.get(key)
    if not row:
        details = f"unable to find global configuration[category:{category}, name:{name}]"
        hint = f"no global configuration {key}{did_you_mean(key, configurations)}"
        raise ApiError("SYS.1007", details, hint=hint)
    if fault := row.fault(value):
        configuration = f"global configuration[category:{category}, name:{name}]"
        raise ApiError("SYS.1007", f"{configuration} {fault}")
    cloud.change("GlobalConfig", row.name, value=value)
    cloud.notice("configured", row.name)


@behaviour
def update_global_config(cloud: Cloud, call: Call) -> Item:
    configure(cloud, call["category"], call["name"], call["value"])
    return cloud.inventory_of("GlobalConfig", f"{call['category']}/{call['name']}")


# deleted objects, which wait to be expunged


@dataclass(frozen=True)
class Expunging:
    """The state in which deleted objects of a type wait to be expunged: `field` is `value`.

    Of an image, single copies wait. The global configurations deletionPolicy and expungePeriod of
    `category` apply to them.
    """

    type: str
    field: str
    value: str
    category: str

    def waiting(self, item: Item) -> list[Item]:
        """Return what waits of an item: itself, or copies of an image."""
        parts = item.get("backupStorageRefs", ()) if self.type == "Image" else (item,)
        return [part for part in parts if part.get(self.field) == self.value]

    def waits(self, item: Item) -> bool:
        return bool(self.waiting(item))

    def last_change(self, item: Item) -> Stamp:
        return max(part["lastOpDate"] for part in self.waiting(item))


EXPUNGING = {
    row.type: row
    for row in (
        Expunging("VmInstance", "state", "Destroyed", "vm"),
        Expunging("Volume", "status", "Deleted", "volume"),
        Expunging("Image", "status", "Deleted", "image"),
    )
}


class ExpungeTimers(dict[Uuid, Timer]):
    """The timers of the objects that wait to be expunged, by uuid."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__()


def expunge(cloud: Cloud, type: str, uuid: Uuid) -> None:
    """Remove a deleted object: at once if it is so configured, else when its period is over."""
    row = EXPUNGING[type]
    policy = configured(cloud, row.category, "deletionPolicy")
    if policy == "Direct" and row.waits(cloud.look(type, uuid)):
        cloud.remove(type, uuid)
    else:
        expunge_later(cloud, row, uuid, cloud.clock.now())


def expunge_later(cloud: Cloud, row: Expunging, uuid: Uuid, since: Seconds) -> None:
    """Plan to remove an object when it has been deleted for its period, unless policy is Never."""
    timers = cloud.part(ExpungeTimers)
    if uuid in timers:
        timers.pop(uuid).cancel()
    if configured(cloud, row.category, "deletionPolicy") == "Never":
        return

    def remove() -> None:
        del timers[uuid]
        item = cloud.look(row.type, uuid)
        if not row.waits(item):
            return
        changed = cloud.clock.date_of_stamp(row.last_change(item))
        if changed >= since + 1:  # it was deleted anew
            expunge_later(cloud, row, uuid, changed)
            return
        if row.type == "Image":
            cloud.notice("expunged", "Image", item, row.waiting(item))
        else:
            cloud.remove(row.type, uuid)
        cloud.clock.spawn(cloud.store.try_commit())

    due = since + configured(cloud, row.category, "expungePeriod")
    name = f"expunge of {row.type} {uuid}"
    timers[uuid] = cloud.clock.after(due - cloud.clock.now(), remove, name)


@on("configured", "vm/deletionPolicy", "vm/expungePeriod")
@on("configured", "volume/deletionPolicy", "volume/expungePeriod")
@on("configured", "image/deletionPolicy", "image/expungePeriod")
def expunge_all_later(cloud: Cloud) -> None:
    """Plan anew when deleted objects are expunged. A root volume goes with its virtual machine."""
    for row in EXPUNGING.values():
        for item in [*cloud.store.rows(row.type)]:
            if row.waits(item) and item.get("type") != "Root":
                since = cloud.clock.date_of_stamp(row.last_change(item))
                expunge_later(cloud, row, item["uuid"], since)


# ---- Accounts ------------------------------------------------------------------------------------


def matches_names(pattern: str, name: str) -> bool:
    """Return True if a pattern matches the dotted name of a class (PolicyMatcher.java).

    * is any run of letters in a part, ** any run of parts.
    """
    parts, names = pattern.split("."), name.split(".")
    ends = {0}  # the numbers of names that the parts so far may stand for
    for part in parts:
        if part == "**":
            ends = {*range(min(ends, default=len(names) + 1), len(names) + 1)}
        else:
            ends = {n + 1 for n in ends if n < len(names) and fnmatchcase(names[n], part)}
    return len(names) in ends


def texts_in(value: Any) -> list[str]:
    """Return the texts in a value that a client sent for a list of texts."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Statement:
    """An action that a policy allows or denies: the messages of APIs, or some of their fields."""

    policy: Item
    effect: str
    action: str

    def matches(self, message: str) -> bool:
        if self.effect == "Deny":
            return matches_names(self.action.split(":")[0], message)
        return matches_names(self.action.partition(":")[2] or self.action, message)

    def denied_fields(self) -> list[str]:
        """Return the fields that may not be set, none if the whole API is denied."""
        names = self.action.partition(":")[2]
        return names.split(",") if names else []


class Accounts:
    """Tells who calls, what a caller may do and see, and how much an account may have.

    The admin account may do and see everything.
    """

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.store, self.catalogue = cloud, cloud.store, cloud.catalogue

    # sessions

    def session(self, uuid: Uuid) -> Item:
        """Return a session. Raise ID.1001 if it does not exist or is over.

        The use of a session does not renew it.
        """
        session = self.store.peek("Session", uuid)
        if session and session["expiredDate"] > self.cloud.clock.stamp():
            return session
        if self.cloud.settings.open:
            return {"accountUuid": ADMIN, "userUuid": ADMIN}
        reason = f"the session {uuid[:80]} is unknown: it ended, or was never opened"
        if session:
            reason = f"the session {uuid} is over"
        elif not uuid:
            reason = "the session is missing behind OAuth"
        hint = f"{reason}; log in again: PUT /zstack/v1/accounts/login"
        raise ApiError("ID.1001", "Session expired", hint=hint)

    def enter(self, call: Call) -> None:
        """Note the account and the user of the session of a call."""
        session = self.session(call.session)
        call.account, call.user = session["accountUuid"], session["userUuid"]

    def sweep(self) -> None:
        """Remove the sessions that are over."""
        now = self.cloud.clock.stamp()
        for session in [*self.store.rows("Session")]:
            if session["expiredDate"] <= now:
                self.store.remove("Session", session["uuid"])

    # owners

    def owner(self, type: str, item: Item) -> Uuid | None:
        """Return the account that owns an item, None for what nobody owns, as a zone.

        A tag belongs to the owner of its object.
        """
        if type in ("SystemTag", "UserTag"):
            row = self.catalogue.resource_of_vo(item["resourceType"])
            if row is None:
                return None
            return self.owner(row.stored, self.cloud.look(row.stored, item["resourceUuid"]))
        row = self.catalogue.resource(type)
        if row and row.owner:
            return item.get("owner", ADMIN)
        return item.get(row.account) if row and row.account else None

    def find(self, uuid: Uuid) -> tuple[str, Item | None]:
        """Return the type and the item of a uuid that accounts may own, or ("", None)."""
        for type in self.catalogue.referenced:
            item = self.store.peek(type, uuid)
            if item:
                return type, item
        return "", None

    def items_of(self, account: Uuid, type: str) -> list[Item]:
        """Return the items of a type that an account owns."""
        if type in self.catalogue.owned and account != ADMIN:
            return self.store.find(type, "owner", account)
        return [item for item in self.store.rows(type) if self.owner(type, item) == account]

    def give(self, type: str, item: Item, account: Uuid) -> None:
        """Change the owner of an item and of its parts."""
        self.cloud.change(type, item["uuid"], owner=None if account == ADMIN else account)
        for row in self.catalogue.owned.values():
            if row.leads.get(row.owner) == type:
                for part in self.cloud.find(row.name, row.owner, item["uuid"]):
                    self.give(row.name, part, account)

    def act(self, call: Call, work: Callable) -> Any:
        """Do the work of a call. New objects belong to the account that calls."""
        cloud = self.cloud
        before, cloud.acting = cloud.acting, call.account
        try:
            body = work(cloud, call)
        finally:
            cloud.acting = before
        return self.act_in_stages(call, body) if isinstance(body, GeneratorType) else body

    def act_in_stages(self, call: Call, steps: Iterator) -> Stages:
        """Go through the stages of a call. Others may act between them."""
        while True:
            try:
                stage = self.act(call, lambda cloud, call: next(steps))
            except StopIteration as end:
                return end.value
            yield stage

    # permissions

    def admit(self, call: Call) -> None:
        """Refuse a call that its caller may not make: because of its API, or of an object."""
        if not self.store.peek("Account", call.account):  # it was removed while the call waited
            raise ApiError("ID.1001", "Session expired")
        self.refuse_api(call.api, call.params, call.account, call.user)
        if call.api.name == "DeleteTag":
            self.refuse_tag(call)
        if call.account == ADMIN:
            return
        for param in call.api.params.values():
            value = call[param.name]
            for uuid in value if isinstance(value, list) else [value]:
                self.refuse_object(call, param, *self.object_of(call, param, uuid))

    def may_call(self, api: Api, account: Uuid, user: Uuid) -> bool:
        try:
            self.refuse_api(api, {}, account, user)
        except ApiError:
            return False
        return True

    def refuse_api(self, api: Api, params: Item, account: Uuid, user: Uuid) -> None:
        """Raise SYS.1006 for an API that is for admin only, or that no policy of the user allows.

        The source is RBACAPIRequestChecker.java.
        """
        denied = "operation is denied by default"
        if account != ADMIN and api.caller == "admin" and api.message not in self.opened_apis():
            raise ApiError("SYS.1006", denied, hint=f"{api.name} is for admin only")
        if user in (account, ADMIN):
            return
        statements = [entry for entry in self.statements(user) if entry.matches(api.message)]
        for statement in statements:
            if statement.effect == "Deny":
                self.refuse_denied(statement, params)
        if not any(statement.effect == "Allow" for statement in statements):
            hint = f"a user needs a policy that allows {api.message}"
            raise ApiError("SYS.1006", denied, hint=hint)

    def refuse_denied(self, statement: Statement, params: Item) -> None:
        name, uuid = statement.policy["name"], statement.policy["uuid"]
        names = statement.denied_fields()
        if not names:
            policy = f"policy[name:{name} uuid:{uuid}]"
            raise refused(f"the operation is denied by the {policy}")
        for field_name in names:
            if field_name in params:
                policy = f"policy[name:{name}, uuid:{uuid}], field[{field_name}]"
                raise refused(f"the operation is denied by the {policy} is not permitted to set")

    def opened_apis(self) -> list[str]:
        """Return the messages of APIs for admin that all accounts may call."""
        return configured(self.cloud, "identity", "account.api.control").replace(",", " ").split()

    def statements(self, user: Uuid) -> Iterator[Statement]:
        """Yield the actions that the policies of a user and of its groups allow or deny."""
        refs = list(self.store.find("UserPolicyRef", "userUuid", user))
        for group in self.store.find("UserGroupUserRef", "userUuid", user):
            refs += self.store.find("UserGroupPolicyRef", "groupUuid", group["groupUuid"])
        for ref in refs:
            policy = self.cloud.look("Policy", ref["policyUuid"])
            for entry in policy.get("statements", ()):
                if isinstance(entry, dict) and self.is_about(entry, user):
                    for action in texts_in(entry.get("actions")):
                        yield Statement(policy, entry.get("effect"), action)

    def is_about(self, entry: Item, user: Uuid) -> bool:
        """Return True if a statement of a policy has no principals, or a user among them."""
        principals = [name.removeprefix("user:") for name in texts_in(entry.get("principals"))]
        return not entry.get("principals") or any(matches_names(name, user) for name in principals)

    def object_of(self, call: Call, param: ValueSpec, uuid: Uuid) -> tuple[str, Item | None]:
        """Return the type and the item that a value of a parameter names, or ("", None)."""
        if param.refers not in ("", "Resource"):
            type = self.catalogue.resources[param.refers].stored
            return type, self.store.peek(type, uuid)
        if not param.refers and param.name not in ("resourceUuid", "resourceUuids"):
            return "", None
        type, item = self.find(uuid)
        row = self.catalogue.resource_of_vo(call["resourceType"] or "")
        if not type and param.name == "resourceUuid" and row:
            return row.stored, self.store.peek(row.stored, uuid)
        return type, item

    def refuse_tag(self, call: Call) -> None:
        for type, kind in (("SystemTag", "system"), ("UserTag", "user")):
            tag = self.store.peek(type, call["uuid"])
            if tag and call.account not in (ADMIN, self.owner(type, tag)):
                reason = "refer to a resource not belonging to the account"
                details = f"The {kind} tag[uuid: {tag['uuid']}] {reason}[uuid: {call.account}]"
                raise ApiError("ID.1002", f"permission denied. {details}")

    def refuse_object(self, call: Call, param: ValueSpec, type: str, item: Item | None) -> None:
        """Refuse to change an object of another account, or to use one that it does not share.

        All may use an object that nobody owns, as a host, but only admin may tag it. The source is
        OperationTargetAPIRequestChecker.java.
        """
        if item is None:
            return
        owner, is_tagging = self.owner(type, item), call.api.type in ("SystemTag", "UserTag")
        if owner == call.account or (owner is None and not is_tagging):
            return
        kind = type if param.refers in ("", "Resource") else param.refers
        resource = f"resource[uuid:{item['uuid']}, type:{kind}VO]"
        account = f"the account[uuid:{call.account}]"
        is_acted_on = call.api.kind not in ("Get", "Check")
        is_acted_on = is_acted_on and (param in call.api.named or not param.refers)
        if param.changed or (is_acted_on and not param.used):
            raise refused(f"permission denied, {account} is not the owner of the {resource}")
        if item["uuid"] not in self.shared_with(call.account):
            raise refused(f"{account} has no access to the {resource}")

    # views

    def shared_with(self, account: Uuid) -> list[Uuid]:
        """Return the objects that others share with an account, or with all."""
        shares = [*self.store.find("SharedResource", "receiverAccountUuid", account)]
        shares += self.store.find("SharedResource", "toPublic", True)
        return list(dict.fromkeys(share["resourceUuid"] for share in shares))

    def view(self, account: Uuid) -> View:
        return View(self, account)

    def queries(self, account: Uuid) -> QueryEngine:
        """Return the evaluator of queries over what an account sees."""
        queries = self.cloud.queries
        view = self.view(account)
        dialect = self.cloud.dialect
        return QueryEngine(self.catalogue, dialect, view, queries.computed, queries.ahead)

    def queries_on(self, type: str) -> QueryEngine:
        """Return the evaluator over all objects of a type.

        AccountResourceRefs are not stored: a view makes them.
        """
        return self.queries(ADMIN) if type == "AccountResourceRef" else self.cloud.queries

    # quotas

    def amount(self, account: Uuid, quota: Quota) -> int:
        """Return how much of a quota an account uses."""
        row, used = self.catalogue.resource(quota.type), 0
        if row is None:
            return 0
        for item in self.items_of(account, row.stored):
            counts = row.has(item)
            if counts and quota.condition:
                scope = Scope(self.cloud, type=row.name, item=item)
                counts = scope.where(quota.condition) is not None
            if counts:
                used += item.get(quota.field, 0) if quota.field else 1
        return used

    def limit(self, account: Uuid, name: str) -> int:
        """Return how much an account may use of a quota; 0 for admin, which has no limits."""
        for quota in self.store.find("Quota", "identityUuid", account):
            if quota["name"] == name:
                return quota["value"]
        return 0 if account == ADMIN else configured(self.cloud, "quota", name)

    def charge(self, call: Call) -> None:
        """Refuse a call that needs more than the quotas of its account leave (QuotaUtil.java)."""
        wanted: Counter[str] = Counter()
        named = {charge.quota for charge in call.api.charges}
        for quota in self.catalogue.quotas.values():
            is_made = call.api.creates and quota.type == call.api.type and not quota.field
            if is_made and quota.name not in named:
                wanted[quota.name] = 1
        for charge in call.api.charges:
            scope = scope_of(self.cloud, call)
            if not charge.condition or scope.where(charge.condition):
                wanted[charge.quota] += self.worth(scope, charge.words)
        only_adds = call.api.creates and call["strategy"] == "JustCreate"  # VmQuotaOperator.java
        if call.account == ADMIN or only_adds:
            return
        for name, number in wanted.items():
            used = self.amount(call.account, self.catalogue.quotas[name])
            self.refuse_excess(call, call.account, name, used, number)

    @staticmethod
    def worth(scope: Scope, words: Iterable[str]) -> int:
        """Return the value of the first word that is there; of a list, the sum for its elements.

        A value that is no number counts as 1.
        """
        for word in words:
            total, name = 0, word.partition(".")[0]
            lists = [ListName(name, maps=False)] if name in scope.params else []
            for element in scope.repeated(lists):
                value = element.value(word)
                if is_there(value):
                    total += value if isinstance(value, int) else 1
            if total:
                return total
        return 0

    def refuse_excess(self, call: Call, owner: Uuid, name: str, used: int, wanted: int) -> None:
        """Raise ID.1003 if an account would own more than its quota allows (QuotaUtil.java)."""
        limit = self.limit(owner, name)
        if owner == ADMIN or not wanted or used + wanted <= limit:
            return
        excess = f"account[uuid: {owner}] exceeds a quota[name: {name}, value: {limit}]"
        if call.api.name in self.catalogue.quotas[name].brief:
            text = f"The {excess}"
        else:
            text = f"Current account is [uuid: {call.account}]. The resource target owner {excess}"
            text += f", Current used:{used}, Request:{wanted}"
        details = f"quota exceeding. {text}. Please contact the administrator."
        raise ApiError("ID.1003", details)


class View:
    """The tables of a store as an account sees them: its own, shared and unowned objects.

    The table of AccountResourceRefs is made on demand. It tells which account owns what; an account
    sees its own references only.
    """

    def __init__(self, accounts: Accounts, account: Uuid) -> None:
        self.accounts, self.store, self.account = accounts, accounts.store, account
        self.tables: dict[str, dict[str, Item]] = {}  # the visible items of a type, by uuid

    @functools.cached_property
    def shared(self) -> set[Uuid]:
        return set(self.accounts.shared_with(self.account))

    def sees(self, type: str, item: Item) -> bool:
        if self.accounts.owner(type, item) in (None, self.account):
            return True
        return item.get("resourceUuid", item["uuid"]) in self.shared

    def visible(self, type: str) -> list[Item]:
        if type == "AccountResourceRef":
            references = []
            for kind in self.accounts.catalogue.referenced:
                for item in self.store.rows(kind):
                    references += self.references(kind, item)
            return references
        if type in self.accounts.catalogue.owned:
            items = [self.store.peek(type, uuid) for uuid in self.shared]
            return [*self.accounts.items_of(self.account, type), *filter(None, items)]
        return [item for item in self.store.rows(type) if self.sees(type, item)]

    def references(self, type: str, item: Item | None) -> list[Item]:
        """Return the reference that tells who owns an item, if it may be seen, in a list."""
        owner = self.accounts.owner(type, item) if item else None
        if owner is None or self.account not in (ADMIN, owner):
            return []
        reference = {"accountUuid": owner, "resourceUuid": item["uuid"]}
        reference["resourceType"] = f"{type}VO"
        for name in ("uuid", "createDate", "lastOpDate"):
            reference[name] = item.get(name)
        return [reference]

    def rows(self, type: str) -> Collection[Item]:
        if type not in self.tables:
            self.tables[type] = {folded(item["uuid"]): item for item in self.visible(type)}
        return self.tables[type].values()

    def in_order(self, type: str, start: int | None = None, stop: int | None = None) -> list[Item]:
        self.rows(type)
        table = self.tables[type]
        return [table[uuid] for uuid in sorted(table)[start:stop]]

    def find(self, type: str, key: str, value: Any) -> list[Item]:
        if type == "AccountResourceRef":  # by the resource, the only key of it that is indexed
            return self.references(*self.accounts.find(value))
        return [item for item in self.store.find(type, key, value) if self.sees(type, item)]

    def how_many(self, type: str, key: str, value: Any) -> int:
        return self.store.how_many(type, key, value)

    def count(self, type: str) -> int:
        return len(self.rows(type))


def new_cloud(settings: Settings, catalogue: Catalogue) -> Cloud:
    """Return an empty cloud with its clock, store, accounts and jobs."""
    clock, dialect = Clock(settings.clock, settings.utc_offset), Dialect(settings.dialect)
    indexes = {name: row.indexes for name, row in catalogue.resources.items()}
    folder = None if settings.memory else settings.data
    store = Store(indexes, folder, settings.durable == "on", standing_in(catalogue))
    cloud = Cloud(settings, catalogue, store, clock, dialect)
    cloud.accounts = Accounts(cloud)
    cloud.jobs = Jobs(cloud)
    return cloud


# calls about accounts


@behaviour
def query_account_resource_ref(cloud: Cloud, call: Call) -> Item:
    return cloud.query(call.api, call["query"], cloud.accounts.queries(call.account))


@behaviour
def change_resource_owner(cloud: Cloud, call: Call) -> Item:
    """Change the owner of a resource and of its parts.

    Raise ID.1003 if that exceeds a quota of the new owner.
    """
    accounts, quotas = cloud.accounts, cloud.catalogue.quotas
    new_owner = cloud.get("Account", call["accountUuid"])["uuid"]
    type, item = accounts.find(call["resourceUuid"])
    if not item or cloud.catalogue.resources[type].account:
        resource = f"resource[uuid:{call['resourceUuid']}]"
        reason = "wrong resourceUuid or the resource is admin resource"
        raise refused(f"cannot find the {resource}; {reason}")
    if (type, item.get("type")) == ("Volume", "Root"):
        # The words of VmInstanceManagerImpl.java.
        raise refused(
            f"the resource[uuid:{item['uuid']}] is a ROOT volume, you cannot change its owner, "
            "instead,change the owner of the VM the root volume belongs to"
        )
    old_owner = accounts.owner(type, item)
    if old_owner == new_owner:
        raise ApiError(
            "ID.1004",
            "Invalid ChangeResourceOwner operation.Original owner is the same as target owner."
            f"Current account is [uuid: {call.account}].The resource target owner "
            f"account[uuid: {new_owner}].The resource original owner account[uuid:{old_owner}].",
        )
    used = {name: accounts.amount(new_owner, quota) for name, quota in quotas.items()}
    accounts.give(type, item, new_owner)
    for name, quota in quotas.items():
        wanted = accounts.amount(new_owner, quota) - used[name]
        accounts.refuse_excess(call, new_owner, name, used[name], wanted)
    reference = View(accounts, ADMIN).references(*accounts.find(item["uuid"]))[0]
    return {"inventory": cloud.inventory("AccountResourceRef", reference)}


def shares_of(cloud: Cloud, uuid: Uuid, receivers: Iterable[Uuid]) -> list[Item]:
    """Return the shares of a resource with some accounts; "" is the share with all."""
    wanted = {*map(folded, receivers)}
    shares = []
    for share in cloud.find("SharedResource", "resourceUuid", uuid):
        if folded(share.get("receiverAccountUuid", "")) in wanted:
            shares.append(share)
    return shares


@behaviour
def get_resource_names(cloud: Cloud, call: Call) -> Item:
    """Answer the names and types of objects, whoever owns them (AccountManagerImpl.java)."""
    inventories = []
    for uuid in call["uuids"]:
        for type in cloud.catalogue.resources:
            if item := cloud.look(type, uuid):
                names = {"resourceName": item.get("name"), "resourceType": f"{type}VO"}
                inventories.append(without_nulls({"uuid": uuid} | names))
    return {"inventories": inventories}


@behaviour
def share_resource(cloud: Cloud, call: Call) -> None:
    receivers = [""] if call["toPublic"] else call["accountUuids"] or []
    for uuid in call["resourceUuids"]:
        type, item = cloud.accounts.find(uuid)
        if not item:
            account = f"the account[uuid: {call.account}]"
            raise ApiError("SYS.1007", f"{account} doesn't have a resource[uuid: {uuid}]")
        for receiver in receivers:
            if not shares_of(cloud, uuid, [receiver]):
                cloud.add(
                    "SharedResource",
                    ownerAccountUuid=call.account,
                    receiverAccountUuid=receiver or None,
                    toPublic=not receiver,
                    resourceType=f"{type}VO",
                    resourceUuid=item["uuid"],
                )


@behaviour
def revoke_resource_sharing(cloud: Cloud, call: Call) -> None:
    """Remove shares. The first of accountUuids, toPublic and all counts (AccountBase.java)."""
    for uuid in call["resourceUuids"]:
        if call["accountUuids"]:
            shares = shares_of(cloud, uuid, call["accountUuids"])
        elif call["toPublic"]:
            shares = shares_of(cloud, uuid, [""])
        elif call["all"]:
            shares = cloud.find("SharedResource", "resourceUuid", uuid)
        else:
            shares = []
        for share in shares:
            cloud.remove("SharedResource", share["uuid"])


@named_in_rows
def grant_quotas(cloud: Cloud, account: Item, call: Call) -> None:
    for name in cloud.catalogue.quotas:
        cloud.add(
            "Quota",
            name=name,
            identityUuid=account["uuid"],
            identityType="AccountVO",
            value=configured(cloud, "quota", name),
        )


@behaviour
def update_quota(cloud: Cloud, call: Call) -> Item:
    name = folded(call["name"])
    quotas = cloud.find("Quota", "identityUuid", call["identityUuid"])
    quota = next(quota for quota in quotas if folded(quota["name"]) == name)
    cloud.change("Quota", quota["uuid"], value=call["value"])
    return cloud.inventory_of("Quota", quota["uuid"])


@behaviour
def get_account_quota_usage(cloud: Cloud, call: Call) -> Item:
    uuid, usages = call["uuid"], []
    for name, quota in cloud.catalogue.quotas.items():
        limit, used = cloud.accounts.limit(uuid, name), cloud.accounts.amount(uuid, quota)
        usages.append({"name": name, "total": limit, "used": used})
    return {"usages": usages}


@behaviour
def update_user(cloud: Cloud, call: Call) -> Item:
    """Update a user, the one who calls if none is named (AccountManagerImpl.java)."""
    uuid, is_user = call["uuid"], call.user != call.account
    if not uuid and not is_user:
        session = "the current session is an account session"
        need = "You need to specify the field 'uuid' of the user you want to update"
        raise ApiError("SYS.1007", f"{session}. {need}")
    if uuid and is_user and call.account != ADMIN and folded(uuid) != folded(call.user):
        details = f"your are login as a user, you cannot another user[uuid:{uuid}]"  # sic
        raise ApiError("SYS.1007", details)
    return update(cloud, replace(call, params={"uuid": call.user} | call.params))


@behaviour
def check_api_permission(cloud: Cloud, call: Call) -> Item:
    account, user = call.account, call.user
    if subject := cloud.look("User", call["userUuid"]):
        if account not in (ADMIN, subject["accountUuid"]):
            raise refused(
                f"the user specified by the userUuid[{subject['uuid']}] does not belong to the "
                "current account, and the current account is not an admin account, so it has no "
                "permission to check the user'spermissions"  # sic: AccountManagerImpl.java
            )
        account, user = subject["accountUuid"], subject["uuid"]
    permissions = {}
    for name in call["apiNames"]:
        allowed = cloud.accounts.may_call(api_of_message(cloud, name), account, user)
        permissions[name] = "Allow" if allowed else "Deny"
    return {"inventory": permissions}


def api_of_message(cloud: Cloud, message: str) -> Api:
    """Return the API of a Java class. Raise SYS.1007 if there is none."""
    name = message.rpartition(".")[2].removeprefix("API").removesuffix("Msg")
    api = cloud.catalogue.apis.get(name)
    if api and api.message == message:
        return api
    hint = "write the class, as org.zstack.header.zone.APICreateZoneMsg"
    if api:
        hint = f"write {api.message}"
    raise ApiError("SYS.1007", f"{message} is not an API", hint=hint)


# logins (manual 3.7)


def open_session(cloud: Cloud, account: Uuid, user: Uuid) -> Item:
    """Return a new session. Raise SYS.1000 if the user has as many as are allowed."""

    def sessions_of_user() -> int:
        sessions = cloud.store.find("Session", "accountUuid", account)
        return sum(session["userUuid"] == user for session in sessions)

    most = configured(cloud, "identity", "session.maxConcurrent")
    if sessions_of_user() >= most:
        cloud.accounts.sweep()
    if sessions_of_user() >= most:
        limit = "Login sessions hit limit of max allowed concurrent login sessions"
        raise ApiError("SYS.1000", f"{limit}, max allowed: {most}")
    ends = cloud.clock.now() + configured(cloud, "identity", "session.timeout")
    end = cloud.clock.stamp(ends)
    session = cloud.add("Session", accountUuid=account, userUuid=user, expiredDate=end)
    return cloud.inventory_of("Session", session["uuid"])


@behaviour
def log_in_by_account(cloud: Cloud, call: Call) -> Item:
    for account in cloud.find("Account", "name", call["accountName"]):
        if folded(account["password"]) == folded(call["password"]):
            return open_session(cloud, account["uuid"], account["uuid"])
    accounts = [*cloud.store.rows("Account")]
    hint = hint_on_login("account", call["accountName"], call["password"], accounts)
    raise ApiError("ID.1000", "wrong account name or password", hint=hint)


def hint_on_login(kind: str, name: str, password: str, items: list[Item]) -> str:
    """Return the hint on a failed login: the name is wrong, or the form of the password.

    It shows the SHA-512 of a password only if that is the right one.
    """
    hints = []
    names = [item["name"] for item in items]
    passwords = [folded(item["password"]) for item in items]
    if folded(name) not in map(folded, names):
        hints.append(f"no {kind} {name[:80]}{did_you_mean(name, names)}")
    if not re.fullmatch("[0-9a-fA-F]{128}", password):
        hints.append("the password is sent as the hex SHA-512 of its text")
        sha512 = hashlib.sha512(password.encode(errors="replace")).hexdigest()
        if folded(sha512) in passwords:
            hints[-1] += f": {sha512}"
    return "; ".join(hints) or f"{kind} {name[:80]} has another password"


def check_account_of_user(cloud: Cloud, params: Item) -> None:
    if not params.get("accountName") and not params.get("accountUuid"):
        reason = "accountName and accountUuid cannot both be null"
        raise BadParameter(f"{reason}, you must specify at least one")


@checks_parameters(check_account_of_user)
@behaviour
def log_in_by_user(cloud: Cloud, call: Call) -> Item:
    key, value = "uuid", call["accountUuid"]
    if not value:
        key, value = "name", call["accountName"]
    accounts = cloud.find("Account", key, value)
    if not accounts:
        names = [account[key] for account in cloud.store.rows("Account")]
        hint = f"no account {value[:80]}{did_you_mean(value, names)}"
        raise ApiError("SYS.1007", f"account[{value}] not found", hint=hint)
    account = accounts[0]["uuid"]
    users = cloud.find("User", "accountUuid", account)
    for user in users:
        is_named = folded(user["name"]) == folded(call["userName"])
        if is_named and folded(user["password"]) == folded(call["password"]):
            return open_session(cloud, account, user["uuid"])
    hint = hint_on_login("user", call["userName"], call["password"], users)
    raise ApiError("ID.1000", "wrong account or username or password", hint=hint)


@behaviour
def validate_session(cloud: Cloud, call: Call) -> Item:
    session = cloud.look("Session", call["sessionUuid"])
    ends = cloud.clock.date_of_stamp(session["expiredDate"]) if session else 0
    return {"valid": bool(session) and ends > cloud.clock.now()}


@behaviour
def renew_session(cloud: Cloud, call: Call) -> Item:
    seconds = call["duration"] or configured(cloud, "identity", "session.timeout")
    end = cloud.clock.stamp(cloud.clock.now() + seconds)
    cloud.change("Session", call["sessionUuid"], expiredDate=end)
    return cloud.inventory_of("Session", call["sessionUuid"])


# ZQL and batch queries


@behaviour
def zql_query(cloud: Cloud, call: Call) -> Item:
    try:
        statement = ZqlParser(call["zql"] or "", cloud.catalogue).statement()
        queries = cloud.queries_of(call, statement.resource.name)
        return {"result": cloud.query(call.api, statement, queries)}
    except ApiError as error:
        raise unanswered(cloud, call, "SYS.1000", error.details, error.hint) from None


def unanswered(cloud: Cloud, call: Call, code: str, details: str, hint: str) -> ApiError:
    """Return the failure of a query, in the dialect server that of a call without an answer."""
    seconds = cloud.dialect["unanswered-query"]
    if not seconds:
        return ApiError(code, details, hint=hint)
    message = f"Message[name: {call.api.message}, id: {cloud.uuid()}]"
    return NeverAnswered(message, seconds, f"{details}; {hint}".rstrip("; "))


SCRIPT_TEXT = r"""("[^"$\\]*"|'[^'\\]*')"""
SCRIPT_STATEMENT = re.compile(r"""(?:"[^"]*"|'[^']*'|//.*|[^;\n])+""")
SCRIPT_PUT = re.compile(rf"put *\( *{SCRIPT_TEXT} *, *(.+?) *\)", re.S)
SCRIPT_ASSIGNMENT = re.compile(r"(?:def +)?(\w+) *= *(.+)", re.S)
SCRIPT_VALUE = re.compile(
    rf"query *\( *{SCRIPT_TEXT} *\)"
    rf"|call *\( *{SCRIPT_TEXT} *, *{SCRIPT_TEXT} *\)"
    r"|(?!\d|(?:null|true|false)\b)(\w+)(?:\.(\w+))?"
)
QUERY_OPTIONS = "fields limit start count replyWithCount sortBy sortDirection".split()


@behaviour
def batch_query(cloud: Cloud, call: Call) -> Item:
    """Run a script that has no more than queries, variables and put() (BatchQuery.groovy)."""
    script, batch = call["script"] or "", BatchQuery(cloud, call)
    for statement in SCRIPT_STATEMENT.finditer(script):
        text = re.sub(rf"{SCRIPT_TEXT}|//.*", r"\1", statement[0]).strip()
        if re.match(r"return\b", text):
            break
        try:
            batch.run(text)
        except (ApiError, ValueError) as error:
            if isinstance(error, NotPlain):
                raise
            line = script.count("\n", 0, statement.start())  # sic: the first one is 0
            whole = script.split("\n")[line]
            details = f"{error}, error at line {line}: {whole}"
            hint = getattr(error, "hint", "")
            raise unanswered(cloud, call, "SYS.1006", details, hint) from None
    return {"result": without_nulls(batch.output)}


class NotPlain(FrontError):
    """The refusal of what zmock does not run of Groovy."""

    def __init__(self, text: str) -> None:
        hint = 'write vms = query("queryvminstance state=Running") and put("vms", vms.result)'
        super().__init__(501, f"zmock runs plain scripts only, not {text}", hint)


class BatchQuery:
    """Runs the statements of a script, which set `values` and put them into `output`."""

    def __init__(self, cloud: Cloud, call: Call) -> None:
        self.cloud, self.batch = cloud, call
        self.values: Item = {}
        self.output: Item = {}

    def run(self, text: str) -> None:
        if match := SCRIPT_PUT.fullmatch(text):
            self.output[match[1][1:-1]] = self.value(match[2])
        elif match := SCRIPT_ASSIGNMENT.fullmatch(text):
            self.values[match[1]] = self.value(match[2])
        elif text:
            self.value(text)

    def value(self, text: str) -> Any:
        """Return the value of query("..."), call("...", "...") or name.member."""
        match = SCRIPT_VALUE.fullmatch(text)
        if not match:
            raise NotPlain(text)
        words, api, parameters, name, member = match.groups()
        if words:
            return self.query(words[1:-1])
        if api:
            return self.call(api[1:-1], parameters[1:-1])
        if name not in self.values:
            raise ValueError(f"No such property: {name} for class: Script1")
        value = self.values[name]
        if not member:
            return value
        if not isinstance(value, dict):
            raise NotPlain(text)
        return value.get(member)

    def query(self, text: str) -> Item:
        """Return the answer to "queryzone name=a limit=1"."""
        if not text.split():
            raise ValueError(f"invalid query string: {text}")
        name, *words = text.split()
        api = self.api(name, name.lower(), is_query=True)
        pairs = []
        for word in words:
            key, _, value = word.partition("=")
            if key not in QUERY_OPTIONS:
                key, value = "q", word.replace("!=null", "=null")  # sic
                if not any(sign in word for sign in OPERATORS):
                    where = f"invalid query string[{text}], word[{word}]"
                    raise ValueError(f"{where} doesn't have a valid operator")
            pairs.append((key, value))
        query, _ = read_query(pairs, Dialect("manual"))  # which has null tests
        options = dict(pairs)
        query.sort = options.get("sortBy", "")
        query.descending = options.get("sortDirection") == "desc"
        if api.actionless and self.batch.account != ADMIN:
            return {"total": 0, "result": []}
        body = self.cloud.query(api, query, self.cloud.queries_of(self.batch, api.type))
        return {name.replace("inventories", "result"): value for name, value in body.items()}

    def call(self, name: str, text: str) -> Item:
        """Return the answer of an API that answers at once, with parameters in JSON."""
        api, params = self.api(name, name, is_query=False), load_json(text)
        if not isinstance(params, dict):
            raise ValueError(f"{text} is no JSON object")
        params = self.cloud.check(api, params)
        return {"result": self.cloud.perform(replace(self.batch, api=api, params=params)) or {}}

    def api(self, name: str, key: str, is_query: bool) -> Api:
        """Return the API of a name. Those that need no session cannot be in a script."""
        rows = self.cloud.catalogue.apis.values()
        apis = {row.name.lower(): row for row in rows if row.at_once and not row.open}
        api = apis.get(key)
        if api is None:
            hint = did_you_mean(name, apis)[2:]
            raise ApiError("SYS.1007", f"no query API found for {name}", hint=hint)
        if is_query != (api.kind == "Query") or not self.cloud.simulated(api):
            raise NotPlain(name)
        return api


# ---- Behaviours: hosts ---------------------------------------------------------------------------

GIB, TIB = 1 << 30, 1 << 40


# capacity


TAKES_NOTHING = ("Created", "Destroyed", "Destroying", "Stopped")  # HostAllocatorManagerImpl.java


def cpus_of(vm: Item) -> int:
    """Return the processors that a virtual machine takes from its host."""
    return vm.get("cpuNum", 0) if vm.get("state") not in TAKES_NOTHING else 0


def memory_of(vm: Item) -> int:
    return vm.get("memorySize", 0) if vm.get("state") not in TAKES_NOTHING else 0


@on("computed", "Host.availableCpuCapacity")
def available_cpus(cloud: Cloud, host: Item) -> Any:
    """Return the processors that nothing uses, None before the host was connected once."""
    used = cloud.store.table("VmInstance").total("hostUuid", host["uuid"], cpus_of)
    return host["totalCpuCapacity"] - used if "totalCpuCapacity" in host else None


@on("computed", "Host.availableMemoryCapacity")
def available_memory(cloud: Cloud, host: Item) -> Any:
    used = cloud.store.table("VmInstance").total("hostUuid", host["uuid"], memory_of)
    return host["totalMemoryCapacity"] - used if "totalMemoryCapacity" in host else None


def reserved_memory(cloud: Cloud, host: Item) -> int:
    """Return the bytes that a host keeps for itself.

    A tag of the host, of its cluster or of its zone says so, if the level is configured to count,
    else the global configuration. Only the host's own tag counts while it is not usable.
    """
    levels = (
        ("host", host["uuid"], "reservedMemory::"),
        ("cluster", host["clusterUuid"], "host::reservedMemory::"),
        ("zone", host["zoneUuid"], "host::reservedMemory::"),
    )
    for level, uuid, begin in levels:
        size = size_of(rest_of_tag(cloud, uuid, begin) or "")
        counts = configured(cloud, "hostAllocator", f"reservedCapacity.{level}Level")
        if size is not None and counts and (level == "host" or is_usable(host)):
            return size
    is_default = is_usable(host) and host["hypervisorType"] == "KVM"
    return configured(cloud, "kvm", "reservedMemory") if is_default else 0


def default_hardware(cloud: Cloud, cpus: int = 16, memory: int = 64 * GIB) -> Item:
    """Return the processors and the memory of a new host."""
    ratio = configured(cloud, "host", "cpu.overProvisioning.ratio")
    return {
        "cpuSockets": 2,
        "cpuNum": cpus,
        "totalCpuCapacity": cpus * ratio,
        "totalMemoryCapacity": memory,
    }


@on("configured", "host/cpu.overProvisioning.ratio")
def recompute_cpu_capacity(cloud: Cloud) -> None:
    ratio = configured(cloud, "host", "cpu.overProvisioning.ratio")
    for host in [*cloud.store.rows("Host")]:
        if "cpuNum" in host:
            cloud.change("Host", host["uuid"], totalCpuCapacity=host["cpuNum"] * ratio)


HOST_CAPACITIES = (  # in the order of the answer of GetCpuMemoryCapacity
    "totalCpuCapacity",
    "availableCpuCapacity",
    "totalMemoryCapacity",
    "availableMemoryCapacity",
    "cpuNum",
)


@behaviour
def get_cpu_memory_capacity(cloud: Cloud, call: Call) -> Item:
    """Return the capacity of hosts that work, chosen by host, cluster or zone (manual 4.5).

    The first of these lists that is given counts. All hosts that it names reserve memory. Of hosts
    that are named themselves, only the first does (HostCapacityReserveManagerImpl.java).
    """
    everywhere = call["all"] and not call["zoneUuids"]
    zones = [zone["uuid"] for zone in cloud.store.rows("Zone")] if everywhere else call["zoneUuids"]
    keys = {"uuid": call["hostUuids"], "clusterUuid": call["clusterUuids"], "zoneUuid": zones}
    key = next((key for key in keys if keys[key]), "uuid")
    hosts = []
    for uuid in dict.fromkeys(keys[key] or ()):
        hosts += cloud.find("Host", key, uuid)
    hypervisor = None if everywhere else call["hypervisorType"]
    row, sums = cloud.catalogue.resource("Host"), dict.fromkeys(call.api.answers.split(), 0)
    for host in hosts:
        if is_usable(host) and hypervisor in (None, host["hypervisorType"]):
            for name, field_name in zip(sums, HOST_CAPACITIES):
                sums[name] += cloud.queries.value(row, host, field_name)
    reserved = [reserved_memory(cloud, host) for host in hosts]
    memory = sums["availableMemory"] - sum(reserved[:1] if key == "uuid" else reserved)
    return sums | {"availableMemory": max(0, memory)}


def is_usable(item: Item) -> bool:
    """Return True for a host or a storage that is enabled and connected."""
    return (item["state"], item["status"]) == ("Enabled", "Connected")


# connected and disconnected


@named_in_rows
def connect_host(cloud: Cloud, host: Item, call: Call | None = None) -> None:
    """Connect a host: its virtual machines are known again, and waiting GC jobs are tried.

    A new one shows its hardware.
    """
    uuid, hardware = host["uuid"], {} if "cpuNum" in host else default_hardware(cloud)
    cloud.change("Host", uuid, status="Connected", **hardware)
    for vm in cloud.find("VmInstance", "hostUuid", uuid):
        if vm["state"] == "Unknown":
            state = vm.get("stateBefore", "Running")
            cloud.change("VmInstance", vm["uuid"], state=state, stateBefore=None)
    cloud.notice("connected", "Host", host)
    collect_for(cloud, uuid)


def disconnect_host(cloud: Cloud, uuid: Uuid) -> None:
    """Disconnect a host: its virtual machines become Unknown, with a notification for each.

    One that never ran stays Created (VmInstanceState.java).
    """
    cloud.change("Host", uuid, status="Disconnected")
    sentence = "the host[uuid:%s] becomes Disconnected"
    cloud.notify(sentence, [uuid], "HostVO", uuid, "Warning")
    for vm in cloud.find("VmInstance", "hostUuid", uuid):
        if vm["state"] not in ("Unknown", "Created"):
            cloud.change("VmInstance", vm["uuid"], state="Unknown", stateBefore=vm["state"])
            change = f"{sentence}, change the VM[uuid:%s]' state to Unknown"  # sic
            cloud.notify(change, [uuid, vm["uuid"]], "VmInstanceVO", vm["uuid"])


@named_in_rows
def refuse_cut_off_host(cloud: Cloud, host: Item, call: Call) -> None:
    """Raise SYS.1006 for a host that an incident keeps away."""
    if host["uuid"] in cloud.outages.hosts:
        raise no_ssh(host, "] to check the management node connectivity,")


def no_ssh(host: Item, purpose: str) -> ApiError:
    """Return the error of a host that does not answer (KVMHost.java)."""
    user = f"username:{host.get('username')}, sshPort:{host.get('sshPort')}"
    place = f"KVM[ip:{host['managementIp']}, {user}{purpose}"
    cure = "please check if username/password is wrong; the host does not answer"
    return refused(f"unable to connect to {place}{cure}")


@on("failed", "ReconnectHost")
def lose_host(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Leave a host that could not be reconnected Disconnected."""
    host = cloud.look("Host", call["uuid"])  # {} if it was removed meanwhile
    if call.begun and host.get("status", "Disconnected") != "Disconnected":
        disconnect_host(cloud, call["uuid"])


@named_in_rows
def reconnect_later(cloud: Cloud, host: Item, call: Call) -> None:
    """Reconnect a host that is in use again, beside the call (HostBase.java)."""
    call_in_background(cloud, call, "ReconnectHost", host["uuid"])


def call_in_background(cloud: Cloud, call: Call, name: str, uuid: Uuid) -> None:
    """Make another call, about an object, that nobody waits for. It takes as long as this one."""
    inner = Call(cloud.catalogue.apis[name], {"uuid": uuid}, job=cloud.uuid(), account=ADMIN)

    def done(body: Any, error: ApiError | None) -> None:
        cloud.clock.spawn(cloud.store.try_commit())

    begin = functools.partial(Run, cloud.jobs, inner, call.seconds, done)
    cloud.clock.after(0, begin, f"{name} of {uuid}")


# The tags of hosts of a cluster that have to be alike, with the words for them (KVMHost.java).
ALIKE = {
    "qemu-img::version::": "qemu/libvirt version",
    "libvirt::version::": "qemu/libvirt version",
    "cpuModelName::": "cpu model name",
}


def system_of(cloud: Cloud, host: Uuid) -> str:
    """Return the operating system of a host with its version: "CentOS;Core;7.4.1708"."""
    parts = ("distribution", "release", "version")
    return ";".join(rest_of_tag(cloud, host, f"os::{part}::") or "null" for part in parts)


@named_in_rows
def refuse_unlike_host(cloud: Cloud, host: Item, call: Call) -> None:
    """Refuse a new host that is unlike another one of its cluster."""
    uuid, cluster = host["uuid"], host["clusterUuid"]
    system = system_of(cloud, uuid).partition(".")[0]  # without its minor version
    for other in cloud.find("Host", "clusterUuid", cluster):
        for begin, words in ALIKE.items():
            counts = begin != "cpuModelName::" or configured(cloud, "kvm", "checkHostCpuModelName")
            value = rest_of_tag(cloud, other["uuid"], begin)
            if counts and value not in (None, rest_of_tag(cloud, uuid, begin)):
                place = f"host [uuid:{uuid}] cannot be added to cluster [uuid:{cluster}]"
                raise refused(f"{place} because {words} does not match")
        current = system_of(cloud, other["uuid"]).partition(".")[0]
        if other["status"] != "Connecting" and current not in ("null;null;null", system):
            new = f"new added host[name:{host['name']} ip:{host['managementIp']}]"
            place = f"cluster[uuid:{cluster}] already has host with os version[{current}]"
            raise refused(f"{place}, but {new} has host os version[{system}]")


@behaviour(run="Run the script")
def kvm_run_shell(cloud: Cloud, call: Call) -> Stages:
    """Return the empty output of the script on each host, or the error of one out of reach."""
    yield "run"
    results = {}
    for uuid in call["hostUuids"]:
        results[uuid] = {"returnCode": 0, "stdout": "", "stderr": ""}
        if uuid in cloud.outages.hosts:
            error = no_ssh(cloud.get("Host", uuid), " ] to do DNS check, ")  # sic
            results[uuid] = {"returnCode": 0, "errorCode": cloud.catalogue.error_body(error)}
    return {"inventory": results}


# on a host and off it


def put_on_host(cloud: Cloud, uuid: Uuid, host: Item) -> None:
    vm = cloud.look("VmInstance", uuid)
    cloud.change(
        "VmInstance",
        uuid,
        hostUuid=host["uuid"],
        clusterUuid=host["clusterUuid"],
        zoneUuid=host["zoneUuid"],
        lastHostUuid=vm.get("hostUuid") or vm.get("lastHostUuid"),
        hypervisorType=host["hypervisorType"],
    )


def leave_host(cloud: Cloud, uuid: Uuid, state: str) -> None:
    """Take a virtual machine off its host, into a state."""
    vm = cloud.look("VmInstance", uuid)
    if not vm:
        return
    last = vm.get("hostUuid") or vm.get("lastHostUuid")
    changes = {"state": state, "hostUuid": None, "lastHostUuid": last, "stateBefore": None}
    if "status" in vm:  # a router
        changes["status"] = "Disconnected"
    cloud.change("VmInstance", uuid, **changes)
    if state in ("Stopped", "Destroyed"):
        cloud.notice(state.lower(), "VmInstance", vm)  # stopped, destroyed


# affinity groups


def hosts_of_group(cloud: Cloud, group: Uuid) -> set[Uuid]:
    """Return the hosts on which virtual machines of an affinity group are."""
    usages = cloud.find("AffinityGroupUsage", "affinityGroupUuid", group)
    return {cloud.look("VmInstance", usage["resourceUuid"]).get("hostUuid") for usage in usages}


def filter_by_affinity(cloud: Cloud, vm: Item, hosts: list[Item]) -> list[Item]:
    """Return the hosts that hold no virtual machine of the affinity groups of this one.

    If there is none, a soft group is ignored, and a hard one raises HOST_ALLOCATION.1000.
    """
    for usage in cloud.find("AffinityGroupUsage", "resourceUuid", vm["uuid"]):
        group = cloud.look("AffinityGroup", usage["affinityGroupUuid"])
        taken = hosts_of_group(cloud, group["uuid"])
        free = [host for host in hosts if host["uuid"] not in taken or group["state"] != "Enabled"]
        if not free and group["policy"] == "antiHard":
            place = f"for itself in affinity group[uuid:{group['uuid']}]"
            details = f"no host found that vm[uuid:{vm['uuid']}] has {place}"
            raise ApiError("HOST_ALLOCATION.1000", details)
        hosts = free or hosts
    return hosts


@named_in_rows
def refuse_shared_host(cloud: Cloud, group: Item, call: Call) -> None:
    """Refuse to add a virtual machine to a group that may not have another one on its host."""
    host = cloud.look("VmInstance", call["uuid"]).get("hostUuid")
    is_strict = (group["policy"], group["state"]) == ("antiHard", "Enabled")
    if is_strict and host and host in hosts_of_group(cloud, group["uuid"]):
        other = f"another vm of affinity group[uuid:{group['uuid']}]"
        raise refused(f"host[uuid:{host}] of vm[uuid:{call['uuid']}] has {other}")


@on("tagged", "affinityGroupUuid")
def join_group(cloud: Cloud, vm: Uuid, group: str) -> None:
    """Add a new virtual machine to the affinity group of its tag affinityGroupUuid::."""
    if cloud.get("AffinityGroup", group).get("owner") != cloud.look("VmInstance", vm).get("owner"):
        both = f"affinity group[uuid:{group}] and vm[uuid:{vm}]"
        raise refused(f"{both} do not belong to the same account")
    cloud.add(
        "AffinityGroupUsage",
        affinityGroupUuid=group,
        resourceUuid=vm,
        resourceType="VmInstanceVO",
    )


# garbage collection (manual 4.6)


@behaviour
def trigger_gc_job(cloud: Cloud, call: Call) -> None:
    collect(cloud, cloud.get("GarbageCollector", call["uuid"]))


def collect(cloud: Cloud, job: Item) -> None:
    """Try a GC job: it is Done if its host or backup storage can be reached, else Idle again."""
    context = json.loads(job.get("context") or "{}")
    host = cloud.look("Host", context.get("hostUuid"))
    target = host or cloud.look("BackupStorage", context.get("backupStorageUuid"))
    reached = not target or target["status"] == "Connected"
    cloud.change("GarbageCollector", job["uuid"], status="Done" if reached else "Idle")


def collect_for(cloud: Cloud, uuid: Uuid) -> None:
    """Try the waiting GC jobs of a host or backup storage that is back, or removed."""
    for job in [*cloud.store.rows("GarbageCollector")]:
        if job["status"] != "Done" and uuid in job.get("context", ""):
            collect(cloud, job)


def add_gc_job(cloud: Cloud, name: str, runner: str, type: str, **uuids: Uuid) -> Item:
    return cloud.add(
        "GarbageCollector",
        name=name,
        runnerClass=f"org.zstack.{runner}",
        type=type,
        context=json.dumps(uuids),
        managementNodeUuid=management_node(cloud)["uuid"],
    )


def add_gc_job_if_away(cloud: Cloud, vm: Item, host: Item, runner: str, task: str) -> None:
    """Add a GC job for what cannot be done to a virtual machine on a host out of reach."""
    if host.get("status", "Connected") != "Connected":
        name, uuids = f"gc-{task}-on-host-{host['uuid']}", {"hostUuid": host["uuid"]}
        add_gc_job(cloud, name, f"compute.vm.{runner}", "EventBased", **uuids, vmUuid=vm["uuid"])


def no_resource() -> ApiError:
    """Return the error of work for an object that is nowhere (CloudBusImpl2.java)."""
    hint = "the host or the storage that it needs was removed"
    return ApiError("SYS.1000", "resourceUuid cannot be null", hint=hint)


# ---- Behaviours: storage -------------------------------------------------------------------------

EMPTY_DISK = 3 << 16  # bytes of a qcow2 file of three clusters
LOCAL_DISK = 4 * TIB  # bytes that a host adds to the local storage of its cluster
SHARED_BLOCK = 4 * TIB  # bytes of a shared block
STORAGE_CAPACITIES = (
    "totalCapacity",
    "availableCapacity",
    "totalPhysicalCapacity",
    "availablePhysicalCapacity",
)


# capacity


@on("computed", "PrimaryStorage.totalCapacity")
def total_capacity(cloud: Cloud, ps: Item) -> int:
    """Return the bytes of a primary storage, of local storage those of its hosts' disks."""
    if ps.get("type") == "LocalStorage":
        return LOCAL_DISK * len(hosts_of_storage(cloud, ps))
    return 0 if ps.get("unmounted") else ps.get("totalCapacity", 0)


@on("computed", "PrimaryStorage.totalPhysicalCapacity")
def total_physical_capacity(cloud: Cloud, ps: Item) -> int:
    return ps.get("totalPhysicalCapacity", total_capacity(cloud, ps))


@on("computed", "PrimaryStorage.availablePhysicalCapacity")
def available_physical_capacity(cloud: Cloud, ps: Item) -> int:
    if ps["uuid"] in cloud.outages.full_storages:
        return 0
    return ps.get("availablePhysicalCapacity", total_physical_capacity(cloud, ps))


@on("computed", "PrimaryStorage.availableCapacity")
def available_capacity(cloud: Cloud, ps: Item) -> int:
    """Return the bytes of a primary storage that nothing uses, 0 while an incident fills it.

    Snapshots may exceed them: they are taken without asking for room. The stored number is what
    there is when the storage is empty, by default the total.
    """
    if ps["uuid"] in cloud.outages.full_storages:
        return 0
    if ps.get("type") == "LocalStorage":
        return sum(free_on_host(cloud, ps, host) for host in hosts_of_storage(cloud, ps))
    free = total_capacity(cloud, ps) - ps.get("systemUsedCapacity", 0)
    return max(0, ps.get("availableCapacity", free) - used_capacity(cloud, ps))


def store_capacities_of_empty(cloud: Cloud, storages: Iterable[Item]) -> None:
    """Let primary storage whose stored number is what is free now hold what is free when empty.

    Cloud files have it so, and had the folders of format 2.
    """
    for ps in [*storages]:
        available = ps.get("availableCapacity")
        if available is not None:
            empty = available + used_capacity(cloud, ps)
            cloud.store.update("PrimaryStorage", ps["uuid"], availableCapacity=empty)


def space_of(item: Item) -> int:
    """Return the bytes that a snapshot or a cached image takes.

    The snapshot that a reimage leaves has no type, and takes none (VolumeSnapshotManagerImpl.java).
    """
    is_counted = "imageUuid" in item or "type" in item
    return item.get("size", 0) if is_counted else 0


def space_of_volume(volume: Item) -> int:
    """Return the bytes that a volume takes, none before it has a place."""
    return volume["size"] if "installPath" in volume else 0


def used_capacity(cloud: Cloud, ps: Item) -> int:
    """Return the bytes of the volumes, snapshots and cached images on a primary storage."""
    uuid, store = ps["uuid"], cloud.store
    used = store.table("Volume").total("primaryStorageUuid", uuid, space_of_volume)
    used += store.table("VolumeSnapshot").total("primaryStorageUuid", uuid, space_of)
    return used + store.table("ImageCache").total("primaryStorageUuid", uuid, space_of)


def has_room(cloud: Cloud, ps: Item, size: int) -> bool:
    """Return True if a primary storage takes so many bytes and keeps what it reserves."""
    reserved = configured(cloud, "primaryStorage", "reservedCapacity")
    available = available_capacity(cloud, ps) - reserved
    return is_usable(ps) and available >= size and available_physical_capacity(cloud, ps) > 0


def storage_with_room(cloud: Cloud, uuid: Uuid | None, size: int) -> Item:
    """Return a primary storage. Raise SYS.1006 if it has no room for so many bytes."""
    ps = cloud.look("PrimaryStorage", uuid)
    if ps and not has_room(cloud, ps, size):
        raise no_storage(cloud, [ps], size, uuid)
    return ps


def pick_storage(cloud: Cloud, cluster: Uuid, size: int, wanted: Uuid | None = None) -> Item:
    """Return the first primary storage of a cluster with room for so many bytes, or the wanted one.

    Raise SYS.1006 if there is none.
    """
    storages = cloud.find("PrimaryStorage", "attachedClusterUuids", cluster)
    storages = [ps for ps in storages if wanted in (None, ps["uuid"])]
    for ps in storages:
        if has_room(cloud, ps, size):
            return ps
    raise no_storage(cloud, storages, size, wanted)


def no_storage(cloud: Cloud, storages: list[Item], size: int, wanted: Uuid | None) -> ApiError:
    """Return the error of primary storage without room (PrimaryStorageMainAllocatorFlow.java)."""
    for ps in storages:
        if is_usable(ps) and available_capacity(cloud, ps) >= size:
            if not available_physical_capacity(cloud, ps):
                reason = "physical capacity usage has exceeded the threshold[1.0]"
                errors = f"[primary storage[uuid:{ps['uuid']}]'s {reason}]"
                return refused(f"cannot find any qualified primary storage, errors are {errors}")
            reserved = configured(cloud, "primaryStorage", "reservedCapacity")
            reason = f"there is no primary storage having required size[{size} bytes]"
            return refused(f"after subtracting reserved capacity[{reserved}], {reason}")
    conditions = f"conditions[state:Enabled, status:Connected, size:{size}]"
    if wanted:
        return refused(f"required primary storage[uuid:{wanted}] cannot satisfy {conditions}")
    return refused(f"cannot find primary storage satisfying {conditions}")


@on("computed", "BackupStorage.availableCapacity")
def room_for_images(cloud: Cloud, bs: Item) -> int:
    """Return the bytes of a backup storage that its images leave.

    The stored number is what there is when the storage is empty.
    """
    images = cloud.find("Image", "backupStorageRefs.backupStorageUuid", bs["uuid"])
    used = sum(image.get("actualSize", image.get("size", 0)) for image in images)
    return max(0, bs.get("availableCapacity", 0) - used)


@on("computed", "BackupStorage.poolAvailableCapacity")
def available_capacity_of_pool(cloud: Cloud, bs: Item) -> int | None:
    return room_for_images(cloud, bs) if bs.get("type") == "Ceph" else None


@on("computed", "BackupStorage.poolUsedCapacity")
def used_capacity_of_pool(cloud: Cloud, bs: Item) -> int | None:
    if bs.get("type") != "Ceph":
        return None
    return bs.get("totalCapacity", 0) - room_for_images(cloud, bs)


@on("computed", "CephPrimaryStoragePool.availableCapacity")
def available_in_pool(cloud: Cloud, pool: Item) -> int | None:
    ps = cloud.look("PrimaryStorage", pool.get("primaryStorageUuid"))
    return available_capacity(cloud, ps) if ps else None


@on("computed", "CephPrimaryStoragePool.usedCapacity")
def used_in_pool(cloud: Cloud, pool: Item) -> int:
    """Return the bytes of the volumes and cached images in a pool of Ceph."""
    begin, used = f"ceph://{pool.get('poolName')}/", 0
    for type, path in (("Volume", "installPath"), ("ImageCache", "installUrl")):
        for item in cloud.find(type, "primaryStorageUuid", pool.get("primaryStorageUuid")):
            if begin in item.get(path, ""):
                used += item["size"]
    return used


@named_in_rows
def add_shared_block_capacity(cloud: Cloud, ps: Item, call: Call) -> None:
    """Set the capacity of a group of shared blocks."""
    blocks = cloud.find("SharedBlock", "sharedBlockGroupUuid", ps["uuid"])
    cloud.change("PrimaryStorage", ps["uuid"], totalCapacity=SHARED_BLOCK * len(blocks))


# places of volumes


def place_of_volume(cloud: Cloud, volume: Item, ps: Item, host: Uuid | None = None) -> Item:
    """Return the changes that put a volume on a primary storage, a local one on a host's disk."""
    uuid, is_root = volume["uuid"], volume["type"] == "Root"
    folder = "rootVolumes" if is_root else "dataVolumes"
    path = path_on(cloud, ps, volume["type"], f"{folder}/acct-{ADMIN}/vol-{uuid}", uuid)
    image = cloud.look("Image", volume.get("rootImageUuid"))
    cloud.remove("LocalStorageResourceRef", uuid)
    if ps["type"] == "LocalStorage":
        host = host or host_for_volume(cloud, volume, ps)
    if is_root and image:
        cache_image(cloud, ps, image, host)
    if host:
        keep_on_host(cloud, volume, ps, host)
    return {
        "primaryStorageUuid": ps["uuid"],
        "status": "Ready",
        "format": "raw" if path.startswith("ceph:") else "qcow2",
        "installPath": path,
        "actualSize": volume.get("actualSize") or image.get("actualSize") or EMPTY_DISK,
    }


def path_on(cloud: Cloud, ps: Item, kind: str, folder: str, name: str) -> str:
    """Return a path on a primary storage: a file, or an object in a pool of Ceph."""
    for pool in cloud.find("CephPrimaryStoragePool", "primaryStorageUuid", ps["uuid"]):
        if pool["type"] == kind:
            return f"ceph://{pool['poolName']}/{name}"
    return f"{ps.get('mountPath') or ps['url']}/{folder}/{name}.qcow2"


def cache_image(cloud: Cloud, ps: Item, image: Item, host: Uuid | None) -> None:
    """Copy the image of a root volume to the cache of a primary storage.

    The cache of local storage is on a host.
    """
    last = 0
    for cache in cloud.store.rows("ImageCache"):
        last = max(last, cache["id"])
        if cache["imageUuid"] != image["uuid"]:
            continue
        place = cache.get("primaryStorageUuid", ps["uuid"]), cache.get("hostUuid", host)
        if place == (ps["uuid"], host):
            return
    folder = "iso" if image["mediaType"] == "ISO" else "template"
    folder = f"imagecache/{folder}/{image['uuid']}"
    url = path_on(cloud, ps, "ImageCache", folder, image["uuid"])
    storage_with_room(cloud, ps["uuid"], image["size"])
    cloud.add(
        "ImageCache",
        id=last + 1,
        primaryStorageUuid=ps["uuid"],
        hostUuid=host,
        imageUuid=image["uuid"],
        installUrl=f"{url};hostUuid://{host}" if host else url,
        mediaType=image["mediaType"],
        size=image["size"],
    )


@named_in_rows
def clean_up_cache(cloud: Cloud, ps: Item, call: Call) -> None:
    """Remove the cached images that are gone and that no root volume needs.

    One root volume without an image keeps them all (ImageCacheCleaner.java).
    """
    needed = set()
    for volume in cloud.find("Volume", "primaryStorageUuid", ps["uuid"]):
        if volume["type"] == "Root":
            needed.add(volume.get("rootImageUuid"))
    for cache in cloud.find("ImageCache", "primaryStorageUuid", ps["uuid"]):
        is_needed = None in needed or cache["imageUuid"] in needed
        if not is_needed and not cloud.look("Image", cache["imageUuid"]):
            cloud.remove("ImageCache", cache["uuid"])


def move_volume(cloud: Cloud, volume: Item, storage: Uuid) -> None:
    """Move a volume with its snapshots to another primary storage."""
    snapshots, size = [], volume["size"]
    for snapshot in cloud.find("VolumeSnapshot", "volumeUuid", volume["uuid"]):
        if snapshot["status"] != "Creating":
            snapshots.append(snapshot)
            size += snapshot["size"]
    ps = storage_with_room(cloud, storage, size)
    place = place_of_volume(cloud, volume, ps)
    cloud.change("Volume", volume["uuid"], **place)
    for snapshot in snapshots:
        cloud.change(
            "VolumeSnapshot",
            snapshot["uuid"],
            primaryStorageUuid=storage,
            primaryStorageInstallPath=place["installPath"],
        )


# local storage: each volume is on the disk of a host


def hosts_of_storage(cloud: Cloud, ps: Item) -> list[Uuid]:
    """Return the hosts in the clusters of a local storage that have shown it their disks."""
    uuids = []
    for cluster in ps["attachedClusterUuids"]:
        uuids += [host["uuid"] for host in cloud.find("Host", "clusterUuid", cluster)]
    return [uuid for uuid in uuids if uuid not in ps.get("unseenHostUuids", ())]


def local_disks(cloud: Cloud, ps: Item, hosts: list[Uuid]) -> list[Item]:
    """Return the disks that hosts have of a local storage (HostDiskCapacity)."""
    disks = []
    for host in hosts:
        disk = {"hostUuid": host, **dict.fromkeys(STORAGE_CAPACITIES, LOCAL_DISK)}
        disks.append(disk | {"availableCapacity": free_on_host(cloud, ps, host)})
    return disks


def free_on_host(cloud: Cloud, ps: Item, host: Uuid) -> int:
    """Return the bytes that volumes, their snapshots and cached images leave on a host's disk."""
    free = LOCAL_DISK
    for type in ("ImageCache", "LocalStorageResourceRef"):
        for item in cloud.find(type, "hostUuid", host):
            if item["primaryStorageUuid"] == ps["uuid"]:
                snapshot = cloud.look("VolumeSnapshot", item.get("resourceUuid"))
                free -= space_of(snapshot) if snapshot else size_of_local_volume(cloud, item)
    return free


@on("computed", "LocalStorageResourceRef.size")
def size_of_local_volume(cloud: Cloud, ref: Item) -> int | None:
    return cloud.look("Volume", ref.get("resourceUuid")).get("size", ref.get("size"))


def host_for_volume(cloud: Cloud, volume: Item, ps: Item) -> Uuid:
    """Return the host for a volume on local storage.

    It is that of the virtual machine, else the one of the tag localStorage::hostUuid::, else the
    one with the most room.
    """
    vm = cloud.look("VmInstance", volume.get("vmInstanceUuid"))
    for host in (vm.get("hostUuid"), vm.get("lastHostUuid")):
        if host in hosts_of_storage(cloud, ps):
            return host
    host = rest_of_tag(cloud, volume["uuid"], "localStorage::hostUuid::")
    if host:
        return host
    hosts = hosts_of_storage(cloud, ps)
    if not hosts:
        raise no_storage(cloud, [], volume["size"], ps["uuid"])
    return max(hosts, key=functools.partial(free_on_host, cloud, ps))


def keep_on_host(cloud: Cloud, volume: Item, ps: Item, host: Uuid) -> None:
    """Note the host of a volume on local storage. Raise SYS.1006 if its disk has no room."""
    uuid, size = volume["uuid"], volume["size"]
    if host not in hosts_of_storage(cloud, ps):
        storage = f"local primary storage[uuid:{ps['uuid']}]"
        raise ApiError("SYS.1007", f"the host[uuid:{host}] doesn't belong to the {storage}")
    if free_on_host(cloud, ps, host) < size:
        raise no_storage(cloud, [], size, ps["uuid"])
    add_local_ref(cloud, "VolumeVO", uuid, ps["uuid"], host, size)


def add_local_ref(
    cloud: Cloud, type: str, resource: Uuid, ps: Uuid, host: Uuid, size: int
) -> None:
    """Note the host on whose disk something lies of a local storage."""
    cloud.add(
        "LocalStorageResourceRef",
        uuid=resource,
        resourceUuid=resource,
        primaryStorageUuid=ps,
        hostUuid=host,
        size=size,
        resourceType=type,
    )


def local_host(cloud: Cloud, uuid: Uuid | None) -> Uuid | None:
    """Return the host of a volume or a snapshot on local storage, or None."""
    return cloud.look("LocalStorageResourceRef", uuid).get("hostUuid")


@named_in_rows
def move_to_host(cloud: Cloud, volume: Item, call: Call) -> None:
    """Move a volume on local storage to the disk of the wanted host, which caches its image."""
    host, ps = call["destHostUuid"], cloud.look("PrimaryStorage", volume["primaryStorageUuid"])
    current, needed = free_on_host(cloud, ps, host), volume["size"]
    if current < needed:
        place = f"host[uuid: {host}] of local primary storage[uuid: {ps['uuid']}]"
        numbers = f"[current: {current} bytes, needed: {needed}]"
        raise refused(f"{place} doesn't have enough capacity{numbers}")
    image = cloud.look("Image", volume.get("rootImageUuid"))
    if volume["type"] == "Root" and image:
        cache_image(cloud, ps, image, host)
    move_local_refs(cloud, volume["uuid"], host)


def move_local_refs(cloud: Cloud, volume: Uuid | None, host: Uuid) -> None:
    """Note a new host for a volume and its snapshots, if they are on local storage."""
    for item in ({"uuid": volume}, *cloud.find("VolumeSnapshot", "volumeUuid", volume)):
        if local_host(cloud, item["uuid"]):
            cloud.change("LocalStorageResourceRef", item["uuid"], hostUuid=host)


@behaviour
def get_local_storage_host_disk_capacity(cloud: Cloud, call: Call) -> Item:
    """Answer the disks of the hosts of a local storage, zeros for one that it has not seen."""
    ps, host = cloud.get("PrimaryStorage", call["primaryStorageUuid"]), call["hostUuid"]
    if host and host not in hosts_of_storage(cloud, ps):
        return {"inventories": [{"hostUuid": host, **dict.fromkeys(STORAGE_CAPACITIES, 0)}]}
    hosts = [host] if host else hosts_of_storage(cloud, ps)
    return {"inventories": local_disks(cloud, ps, hosts)}


# monitors and users of storage


@named_in_rows
def wrong_mons(cloud: Cloud, storage: Item, call: Call) -> Item | None:
    """Return why hosts cannot be new monitors, or None (CephApiInterceptor.java).

    A monitor is of one primary storage and of one backup storage.
    """
    hostnames = [mon_of(url)["hostname"] for url in call["monUrls"]]
    if len({*hostnames}) < len(hostnames):
        return {"reason": f"Cannot add same host[{repeated(hostnames)}] in mons"}
    mons = cloud.catalogue.resources[call.api.type].relations["mons"].target
    used = [name for name in hostnames if cloud.find(mons, "hostname", name)]
    if not used:
        return None
    if call["uuid"]:
        return {"reason": "Adding the same Mon node is not allowed"}
    storage_words = spaced(call.api.type).lower()
    reason = f"there has been some {storage_words} using mon[hostnames:[{', '.join(used)}]]"
    return {"reason": f"cannot add {storage_words}, {reason}"}


@named_in_rows
def add_mons(cloud: Cloud, storage: Item, call: Call) -> None:
    """Add a monitor for each url to a storage of Ceph."""
    relation = cloud.catalogue.resources[call.api.type].relations["mons"]
    for mon in map(mon_of, call["monUrls"]):
        key = {relation.theirs: storage["uuid"]}
        uuid = cloud.uuid()
        cloud.add(relation.target, uuid=uuid, monUuid=uuid, monAddr=mon["hostname"], **key, **mon)


@named_in_rows
def join_ceph(cloud: Cloud, storage: Item, call: Call) -> None:
    """Give a storage of Ceph the id of its cluster, for which the first monitor stands.

    Raise SYS.1006 without a monitor, or if another storage of this kind has that cluster.
    """
    row = cloud.catalogue.resources[call.api.type]
    maker, _, noun = spaced(row.name).lower().partition(" ")
    if not call["monUrls"]:
        details = f"unable to connect to the {maker} {noun}[uuid:{storage['uuid']}]"
        details += f". Failed to connect all {maker} mons."
        raise refused(details if noun == "primary storage" else details + " Errors are []")
    hostname = mon_of(call["monUrls"][0])["hostname"]
    fsid = str(uuid5(NAMESPACE_OID, hostname))  # the same for primary and backup storage
    for other in cloud.find(row.stored, "fsid", fsid):
        if other["type"] == storage["type"]:
            maker = maker.upper()
            place = f"another {maker} {noun}[name:{other['name']}, uuid:{other['uuid']}]"
            reason = f"you cannot add the same {maker} setup as two different {noun}"
            raise refused(f"there is {place} with the same FSID[{fsid}], {reason}")
    cloud.change(row.stored, storage["uuid"], fsid=fsid)


# the hosts that reach storage


@named_in_rows
def note_unseen_disks(cloud: Cloud, ps: Item, call: Call) -> None:
    """Note the hosts of a new cluster of local storage that cannot show it their disks."""
    hosts = cloud.find("Host", "clusterUuid", call["clusterUuid"])
    away = [host["uuid"] for host in hosts if host["status"] != "Connected"]
    unseen = [*ps.get("unseenHostUuids", ()), *away]
    cloud.change("PrimaryStorage", ps["uuid"], unseenHostUuids=unseen)


@on("connected", "Host")
def mount_storage(cloud: Cloud, host: Item) -> None:
    """Let a connected host mount the storage of its cluster, and show its disk."""
    for ps in [*cloud.store.rows("PrimaryStorage")]:
        unseen = [uuid for uuid in ps.get("unseenHostUuids", ()) if uuid != host["uuid"]]
        changes: Item = {"unseenHostUuids": unseen or None}
        is_near = host["clusterUuid"] in ps["attachedClusterUuids"]
        if is_near and ps["type"] in ("NFS", "SharedMountPoint") and not ps.get("cutOff"):
            changes |= {"status": "Connected", "unmounted": None}
        cloud.change("PrimaryStorage", ps["uuid"], **changes)


@on("removed", "Host")
def unmount_storage(cloud: Cloud, host: Item) -> None:
    """Take the capacity of file storage in a cluster that has lost its last host.

    The other clusters of that storage lose it too (NfsPrimaryStorageFactory.java).
    """
    cluster = host["clusterUuid"]
    if not cloud.find("Host", "clusterUuid", cluster):
        for ps in cloud.find("PrimaryStorage", "attachedClusterUuids", cluster):
            if ps["type"] in ("NFS", "SharedMountPoint"):
                cloud.change("PrimaryStorage", ps["uuid"], unmounted=True)


def vms_on_storage(cloud: Cloud, ps: Uuid) -> list[Item]:
    """Return the virtual machines with a volume on a primary storage."""
    volumes = cloud.find("Volume", "primaryStorageUuid", ps)
    vms = [cloud.look("VmInstance", volume.get("vmInstanceUuid")) for volume in volumes]
    return list({vm["uuid"]: vm for vm in vms if vm}.values())


@named_in_rows
def wrong_gateway(cloud: Cloud, ps: Item, call: Call) -> Item | None:
    """Return why an address is not in the network of a system tag, or None.

    The source is NfsApiParamChecker.java.
    """
    begin, address = "primaryStorage::gateway::cidr::", call["url"].partition(":")[0]
    cidrs = [tag.removeprefix(begin) for tag in call.system_tags if tag.startswith(begin)]
    if len(cidrs) > 1:
        return {"reason": "found multiple CIDR"}
    for cidr in cidrs:
        if not is_cidr(cidr):
            return {"reason": f"invalid CIDR: {cidr}"}
        if not contains(cidr, address):
            return {"reason": f"IP address[{address}] is not in CIDR[{cidr}]"}
    return None


@named_in_rows
def running_users(cloud: Cloud, ps: Item, call: Call) -> Item | None:
    """Return the number of running virtual machines on a primary storage, and a line for each."""
    vms = [vm for vm in vms_on_storage(cloud, ps["uuid"]) if vm["state"] == "Running"]
    lines = "\n".join(f"VM[name:{vm['name']}, uuid:{vm['uuid']}]" for vm in vms)
    return {"number": len(vms), "lines": lines} if vms else None


@on("failed", "ReconnectPrimaryStorage", "ReconnectBackupStorage")
def lose_storage(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Leave a storage that could not be reconnected Disconnected."""
    type, has_failed = call.api.type, call.begun or error.code == "PS.1003"
    if has_failed and cloud.look(type, call.target):
        cloud.change(type, call.target, status="Disconnected")


@on("failed", "DeletePrimaryStorage")
def leave_deleting(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Leave a primary storage that could not be deleted Deleting (PrimaryStorageBase.java)."""
    if call.begun and cloud.look("PrimaryStorage", call.target):
        cloud.change("PrimaryStorage", call.target, state="Deleting")


@on("removed", "BackupStorage")
def clean_up_after_backup_storage(cloud: Cloud, storage: Item) -> None:
    """Take the copies on a removed backup storage from images.

    An image that is not complete, or without another copy, is removed (ImageCascadeExtension.java).
    """
    for image in cloud.find("Image", "backupStorageRefs.backupStorageUuid", storage["uuid"]):
        copies = []
        for ref in image["backupStorageRefs"]:
            if ref["backupStorageUuid"] != storage["uuid"]:
                copies.append(ref)
        if copies and not is_incomplete(image):
            cloud.change("Image", image["uuid"], backupStorageRefs=copies)
        else:
            cloud.remove("Image", image["uuid"])
    collect_for(cloud, storage["uuid"])


def works_with(bs: Item, ps: Item) -> bool:
    """Return True if images of a backup storage can go to a primary storage.

    The source is HostAllocatorManager.xml.
    """
    if bs["type"] == "SftpBackupStorage":
        return ps["type"] not in ("Ceph", "Fusionstor")
    return bs["type"] in (ps["type"], "ImageStoreBackupStorage")


def is_incomplete(image: Item) -> bool:
    """Return True for an image of which a copy is still downloaded or made."""
    return any(ref["status"] in ("Creating", "Downloading") for ref in image["backupStorageRefs"])


# ---- Behaviours: networks ------------------------------------------------------------------------

DHCP_SERVER = "flatNetwork::DhcpServer::"  # FlatNetworkSystemTags.java
BRIDGE = "kvm::bridge::"  # KVMSystemTags.java
CIDR_OF_CLUSTER = re.compile(r".*::clusterUuid::(.*)::cidr::\{(.*)\}")  # VxlanSystemTags.java
VXLAN_PORT = 4789


# ranges of addresses


def addresses(ip_range: Item) -> tuple[int, int]:
    """Return the first and the last address of a range as numbers, 0 for text that is none."""
    first, last = address_of(ip_range["startIp"]), address_of(ip_range["endIp"])
    return int(first or 0), int(last or 0)


def vnis(vni_range: Item) -> tuple[int, int]:
    return vni_range["startVni"], vni_range["endVni"]


def overlap(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Return True if two ranges, each from a number to another, have one in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def numbers_of(
    cloud: Cloud, ranges: list[Item], bounds: Callable, is_random: bool
) -> Iterator[tuple[int, Item]]:
    """Yield each number of some ranges with its range: in order, or from a random one on."""
    if is_random:
        cloud.random.shuffle(ranges)
    for row in ranges:
        start, end = bounds(row)
        first = cloud.random.randint(start, max(start, end)) if is_random else start
        for number in itertools.chain(range(first, end + 1), range(start, first)):
            yield number, row


def is_in_range(ip: str | None, ip_range: Item) -> bool:
    return contains(f"{ip_range['startIp']}-{ip_range['endIp']}", ip)


def set_bounds(cloud: Cloud, params: Item) -> None:
    """Let the first address of a CIDR be the gateway, and all others the range."""
    network = network_of(params["networkCidr"])
    if network and not is_narrow(str(network)):
        params |= {
            "gateway": str(network[1]),
            "startIp": str(network[2]),
            "endIp": str(network[-2]),
            "netmask": str(network.netmask),
        }


@checks_parameters(set_bounds)
@behaviour
def add_ip_range_by_network_cidr(cloud: Cloud, call: Call) -> Item:
    return create(cloud, call)


@named_in_rows
def overlapping_ip_range(cloud: Cloud, ip_range: Item, call: Call) -> Item | None:
    """Return a range of the same L2 network with an address of a new range, or None."""
    l3 = cloud.look("L3Network", ip_range["l3NetworkUuid"])
    for neighbour in cloud.find("L3Network", "l2NetworkUuid", l3["l2NetworkUuid"]):
        for other in cloud.find("IpRange", "l3NetworkUuid", neighbour["uuid"]):
            if overlap(addresses(ip_range), addresses(other)):
                return other
    return None


@named_in_rows
def range_of_other_cidr(cloud: Cloud, ip_range: Item, call: Call) -> Item | None:
    """Return a range of the same L3 network in another network than a new range, with both."""
    new = cidr_of(ip_range)
    for other in cloud.find("IpRange", "l3NetworkUuid", ip_range["l3NetworkUuid"]):
        old = cidr_of(other)
        if old != new:
            return {"uuid": other["uuid"], "cidr": old, "newCidr": new}
    return None


def cidr_of(ip_range: Item) -> str:
    return str(network_of(f"{ip_range['gateway']}/{ip_range['netmask']}"))


@named_in_rows
def set_cidr(cloud: Cloud, ip_range: Item, call: Call) -> None:
    """Set the CIDR of a new range, with the address of the gateway (SubnetUtils.java)."""
    bits = cidr_of(ip_range).partition("/")[2]
    cloud.change("IpRange", ip_range["uuid"], networkCidr=f"{ip_range['gateway']}/{bits}")


# free addresses

RANDOM_IP = "RandomIpAllocatorStrategy"


def is_taken(cloud: Cloud, l3: Uuid, ip: str) -> bool:
    for type in ("VmNic", "Vip"):
        for item in cloud.store.find(type, "ip", ip):
            if item.get("l3NetworkUuid") == l3:
                return True
    return ip == dhcp_ip(cloud, l3)


def range_with(cloud: Cloud, l3: Uuid, ip: str) -> Item | None:
    """Return the range of an L3 network that has an address, or None."""
    for ip_range in cloud.find("IpRange", "l3NetworkUuid", l3):
        if is_in_range(ip, ip_range):
            return ip_range
    return None


def required_ip(cloud: Cloud, l3: Uuid, ip: str) -> tuple[str, Item]:
    """Return an address and its range. Raise L3.1000 if it is not free."""
    ip_range = range_with(cloud, l3, ip)
    if not ip_range:
        details = f"cannot find ip range that has ip[{ip}] in l3Network[uuid:{l3}]"
        raise ApiError("L3.1000", details)
    if is_taken(cloud, l3, ip):
        raise no_address(RANDOM_IP, f"IP[{ip}] is not available")
    return ip, ip_range


def no_address(strategy: str, reason: str) -> ApiError:
    return ApiError("L3.1000", f"IP allocator strategy[{strategy}] failed, because {reason}")


def free_ip(cloud: Cloud, l3: Uuid, strategy: str = RANDOM_IP) -> tuple[str, Item]:
    """Return a free address of an L3 network and its range: any one, or the first one.

    Raise L3.1000 if none is free, SYS.1003 if the network went (L3NetworkManagerImpl.java).
    """
    network = cloud.look("L3Network", l3)
    if not network:
        raise ApiError("SYS.1003", f"Unable to find L3Network[uuid:{l3}], it may have been deleted")
    ranges = sorted(cloud.find("IpRange", "l3NetworkUuid", l3), key=addresses)
    is_random = strategy == RANDOM_IP and cloud.settings.addresses == "random"
    for number, ip_range in numbers_of(cloud, ranges, addresses, is_random):
        ip = str(ipaddress.IPv4Address(number))
        if not is_taken(cloud, l3, ip):
            return ip, ip_range
    name = f"l3Network[name:{network['name']}, uuid:{l3}]"
    raise no_address(strategy, f"no ip is available in this {name}")


def subnet_of(ip_range: Item) -> Item:
    """Return what an object with an address of a range shows of it, nulls without a range."""
    subnet = {name: ip_range.get(name) for name in ("netmask", "gateway")}
    return subnet | {"ipRangeUuid": ip_range.get("uuid")}


@named_in_rows
def take_address(cloud: Cloud, vip: Item, call: Call) -> None:
    """Give a virtual IP the required address of its L3 network, or a free one."""
    l3, wanted = vip["l3NetworkUuid"], call["requiredIp"]
    strategy = call["allocatorStrategy"] or RANDOM_IP
    ip, ip_range = required_ip(cloud, l3, wanted) if wanted else free_ip(cloud, l3, strategy)
    cloud.change("Vip", vip["uuid"], ip=ip, **subnet_of(ip_range))


@behaviour
def get_ip_address_capacity(cloud: Cloud, call: Call) -> Item:
    """Return the number of addresses of ranges, and of the free ones.

    The ranges are those that are named, else those of networks, else those of zones.
    """
    ranges = []
    if call["ipRangeUuids"]:
        ranges = [cloud.look("IpRange", uuid) for uuid in call["ipRangeUuids"]]
    else:
        for l3 in networks_of(cloud, call):
            ranges += cloud.find("IpRange", "l3NetworkUuid", l3)
    total = used = 0
    for ip_range in ranges:
        first, last = addresses(ip_range)
        total += last - first + 1
        for type in ("VmNic", "Vip"):
            used += len(cloud.find(type, "ipRangeUuid", ip_range["uuid"]))
        used += is_in_range(dhcp_ip(cloud, ip_range["l3NetworkUuid"]), ip_range)
    return {"totalCapacity": total, "availableCapacity": total - used}


def networks_of(cloud: Cloud, call: Call) -> list[Uuid]:
    """Return the uuids of the L3 networks that a call asks about: by uuid, by zone, or all."""
    if call["l3NetworkUuids"]:
        return call["l3NetworkUuids"]
    zones = call["zoneUuids"] or [zone["uuid"] for zone in cloud.store.rows("Zone")]
    networks = []
    for zone in zones:
        networks += [l3["uuid"] for l3 in cloud.find("L3Network", "zoneUuid", zone)]
    return networks


@behaviour
def get_free_ip_of_l3_network(cloud: Cloud, call: Call) -> Item:
    return free_ips(cloud, call)


@behaviour
def get_free_ip_of_ip_range(cloud: Cloud, call: Call) -> Item:
    return free_ips(cloud, call)


def free_ips(cloud: Cloud, call: Call) -> Item:
    """Return free addresses of a range or of an L3 network, from `start` on, in order.

    Each range adds at least one. Its limit is what is left of `limit` when the addresses of all
    ranges before are taken off, after each range anew (L3BasicNetwork.java APIGetFreeIpMsg).
    """
    ranges = cloud.find("IpRange", "l3NetworkUuid", call["l3NetworkUuid"])
    if call["ipRangeUuid"]:
        ranges = [cloud.look("IpRange", call["ipRangeUuid"])]
    inventories: list[Item] = []
    limit = remaining = call["limit"] if call["limit"] >= 0 else math.inf
    for ip_range in ranges:
        inventories += first_free(cloud, ip_range, call["start"], remaining)
        if len(inventories) >= limit:
            break
        remaining -= len(inventories)
    return {"inventories": inventories}


def first_free(cloud: Cloud, ip_range: Item, start: str, limit: float) -> list[Item]:
    """Return the first free addresses of a range, at least one if there is one."""
    (first, last), inventories = addresses(ip_range), []
    for number in range(max(first, int(address_of(start))), last + 1):
        ip = str(ipaddress.IPv4Address(number))
        if not is_taken(cloud, ip_range["l3NetworkUuid"], ip):
            inventories.append({"ip": ip, **subnet_of(ip_range)})
        if len(inventories) >= limit:
            break
    return inventories


@behaviour
def check_ip_availability(cloud: Cloud, call: Call) -> Item:
    l3, ip = call["l3NetworkUuid"], call["ip"]
    gateways = [ip_range["gateway"] for ip_range in cloud.find("IpRange", "l3NetworkUuid", l3)]
    exists = range_with(cloud, l3, ip) is not None and ip not in gateways
    return {"available": exists and not is_taken(cloud, l3, ip)}


# services of a network


def is_served(cloud: Cloud, l3: Item, types: Container[str], service: str | None = None) -> bool:
    """Return True if a provider of one of the types gives a network a service, or any."""
    for ref in l3.get("networkServices", ()):
        provider = cloud.look("NetworkServiceProvider", ref["networkServiceProviderUuid"])
        if provider.get("type") in types and service in (None, ref["networkServiceType"]):
            return True
    return False


def dhcp_ip(cloud: Cloud, l3: Uuid) -> str | None:
    """Return the address of the flat DHCP server of an L3 network, or None."""
    tag = rest_of_tag(cloud, l3, DHCP_SERVER)
    return tag.partition("::")[0] if tag else None


def take_dhcp_ip(cloud: Cloud, l3: Item) -> None:
    """Give the flat DHCP server of a network an address, unless it has one."""
    if not is_served(cloud, l3, ("Flat",), "DHCP") or dhcp_ip(cloud, l3["uuid"]):
        return
    ip, ip_range = free_ip(cloud, l3["uuid"])
    used = uuid_from(digest(ip_range["uuid"] + ip), version=3)  # L3NetworkManagerImpl.java
    tag = f"{DHCP_SERVER}{ip}::ipUuid::{used}"
    add_tag_of_server(cloud, "L3Network", l3["uuid"], tag, inherent=True)


@behaviour
def get_l3_network_dhcp_ip_address(cloud: Cloud, call: Call) -> Item:
    uuid = call["l3NetworkUuid"]
    ip = dhcp_ip(cloud, uuid)
    if not ip:
        raise refused(f"Cannot find DhcpIp for l3 network[uuid:{uuid}]")
    return {"ip": ip}


@on("removed", "IpRange")
def free_dhcp_ip(cloud: Cloud, ip_range: Item) -> None:
    l3 = ip_range["l3NetworkUuid"]
    if is_in_range(dhcp_ip(cloud, l3), ip_range):
        remove_tags(cloud, l3, DHCP_SERVER)


@behaviour
def remove_dns_from_l3_network(cloud: Cloud, call: Call) -> Item | None:
    """Take a DNS server from a network. Answer nothing if the network does not have it."""
    uuid = call["l3NetworkUuid"]
    servers = cloud.look("L3Network", uuid).get("dns", ())
    if call["dns"] not in servers:
        return None
    others = [ip for ip in servers if ip != call["dns"]]
    cloud.change("L3Network", uuid, dns=others or None)
    return cloud.inventory_of("L3Network", uuid)


@behaviour
def remove_host_route_from_l3_network(cloud: Cloud, call: Call) -> Item:
    body = act(cloud, call)
    services = [ref["networkServiceType"] for ref in body["inventory"]["networkServices"]]
    if services and "HostRoute" not in services:
        raise refused(f"L3Network [uuid: {call['l3NetworkUuid']}] provide type null")
    return body


@on("failed", "RemoveHostRouteFromL3Network")
def remove_route(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Remove the route of a call that has failed: the row goes first (L3BasicNetwork.java)."""
    if call.begun:
        act(cloud, call)


@named_in_rows
def range_without_router(cloud: Cloud, l3: Item, call: Call) -> Item | None:
    """Return a range whose CIDR does not have the address of a router, or None."""
    for ip_range in cloud.find("IpRange", "l3NetworkUuid", l3["uuid"]):
        if not contains(ip_range["networkCidr"], call["routerInterfaceIp"]):
            return ip_range
    return None


@named_in_rows
def range_with_router(cloud: Cloud, l3: Item, call: Call) -> Item | None:
    return range_with(cloud, l3["uuid"], call["routerInterfaceIp"])


@named_in_rows
def add_router_ip(cloud: Cloud, l3: Item, call: Call) -> None:
    """Add the tag of a router's address. Those of others stay (L3BasicNetwork.java)."""
    text = f"routerInterfaceIp::{call['routerInterfaceIp']}"
    add_tag_of_server(cloud, "L3Network", l3["uuid"], text)


@behaviour
def get_l3_network_router_interface_ip(cloud: Cloud, call: Call) -> Item:
    """Return the address that was set, else the gateway of the first range."""
    body = answer_facts(cloud, call)
    for ip_range in cloud.find("IpRange", "l3NetworkUuid", call["l3NetworkUuid"]):
        body.setdefault("routerInterfaceIp", ip_range["gateway"])
    return body


@on("removed", "L3Network")
def untag_addresses(cloud: Cloud, l3: Item) -> None:
    """Remove the tags of addresses on a removed network."""
    for tag in [*cloud.store.rows("SystemTag")]:
        if tag["tag"].startswith(f"staticIp::{l3['uuid']}::"):
            cloud.remove("SystemTag", tag["uuid"])


# L2 networks


@on("computed", "NetworkServiceProvider.attachedL2NetworkUuids")
def networks_of_provider(cloud: Cloud, provider: Item) -> list[Uuid]:
    """Return the L2 networks that can have services of a provider: of any type for Flat."""
    is_flat, networks = provider.get("type") == "Flat", cloud.store.rows("L2Network")
    return [l2["uuid"] for l2 in networks if is_flat or not l2["type"].startswith("Vxlan")]


def tag_bridge(cloud: Cloud, l2: Item, bridge: str) -> None:
    """Tag an L2 network with the name of its bridge on hosts, unless it has one."""
    if not tags_of(cloud, l2["uuid"], BRIDGE):
        add_tag_of_server(cloud, "L2Network", l2["uuid"], BRIDGE + bridge, inherent=True)


@named_in_rows
def prepare_hosts(cloud: Cloud, l2: Item, call: Call) -> None:
    """Make the bridge of an L2 network on each host of a cluster that works.

    A VXLAN pool gets the tags of the call. Raise SYS.1006 for a host outside its CIDR.
    """
    uuid, cluster = l2["uuid"], call["clusterUuid"]
    is_pool = l2["type"] == "VxlanNetworkPool"
    for tag in call.system_tags if is_pool else ():
        cloud.add("SystemTag", resourceUuid=uuid, resourceType="L2NetworkVO", tag=tag)
    cidr = (cidrs_of_pool(cloud, l2) or {}).get(cluster)
    for host in cloud.find("Host", "clusterUuid", cluster):
        if host["status"] != "Connected" or host["state"] in ("PreMaintenance", "Maintenance"):
            continue
        if not is_pool:
            name, vlan = l2["physicalInterface"], l2.get("vlan")
            tag_bridge(cloud, l2, f"br_{name[:7]}_{vlan}" if vlan else f"br_{name}")
        elif not contains(cidr, host["managementIp"]):
            place = f"l2VxlanNetworkPool[uuid:{uuid}, name:{l2['name']}]"
            reason = f"on kvm host[uuid:{host['uuid']}], no interface has an address in it"
            raise refused(f"failed to check cidr[{cidr}] for {place} {reason}")


# VXLAN


@on("computed", "L2Network.attachedCidrs")
def cidrs_of_pool(cloud: Cloud, pool: Item) -> Item | None:
    """Return the CIDR of each cluster of a VXLAN pool: {"a4de...": "10.10.0.0/24"}."""
    if pool.get("type") != "VxlanNetworkPool":
        return None
    cidrs = {}
    for tag in tags_of(cloud, pool["uuid"], "l2NetworkUuid::"):
        if match := CIDR_OF_CLUSTER.fullmatch(tag["tag"]):
            cidrs[match[1]] = match[2]
    return cidrs


@named_in_rows
def wrong_cidr(cloud: Cloud, pool: Item, call: Call) -> Item | None:
    """Return why a VXLAN pool cannot have the tags of a call, or None.

    The source is VxlanNetworkCheckerImpl.java.
    """
    if pool["type"] != "VxlanNetworkPool":
        return None
    example = "like : l2NetworkUuid::XXX::clusterUuid::XXX::cidr::{X.X.X.X/Y}"
    if not call.system_tags:
        return {"reason": f"need to input one system tag {example}"}
    for tag in call.system_tags:
        match = re.fullmatch(r".*cidr::\{(.*)\}", tag)
        if not match:
            return {"reason": f"wrong system tag format, shoud be {example}"}  # sic
        if "/" not in match[1] or not network_of(match[1]):
            return {"reason": "wrong cidr format in system tag"}
    return None


@named_in_rows
def overlapping_pool(cloud: Cloud, pool: Item, call: Call) -> Item | None:
    """Return a VXLAN pool of the cluster with a range that overlaps all ranges of a new one.

    A new one without ranges overlaps any range, too (getOverlapVniRangePool).
    """
    if pool["type"] != "VxlanNetworkPool":
        return None
    ranges = cloud.find("VniRange", "l2NetworkUuid", pool["uuid"])
    for other in cloud.find("L2Network", "attachedClusterUuids", call["clusterUuid"]):
        for vni_range in cloud.find("VniRange", "l2NetworkUuid", other["uuid"]):
            if all(overlap(vnis(vni_range), vnis(own)) for own in ranges):
                return other
    return None


@named_in_rows
def overlapping_vni_range(cloud: Cloud, pool: Item, call: Call) -> Item | None:
    """Return a range of the pool that a new one overlaps, or None."""
    for other in cloud.find("VniRange", "l2NetworkUuid", call["l2NetworkUuid"]):
        if overlap(vnis(call.params), vnis(other)):
            return other
    return None


@named_in_rows
def is_outside_ranges(cloud: Cloud, network: Item, call: Call) -> bool:
    """Return True if no range of the pool has the required number of a VXLAN network."""
    vni, ranges = call["vni"], cloud.find("VniRange", "l2NetworkUuid", call["poolUuid"])
    return not any(overlap((vni, vni), vnis(vni_range)) for vni_range in ranges)


@named_in_rows
def take_vni(cloud: Cloud, network: Item, call: Call) -> None:
    """Give a VXLAN network a free number of its pool.

    The number of a range that has no other is never chosen (RandomVniAllocatorStrategy.java).
    """
    pool = cloud.look("L2Network", network["poolUuid"])
    used = {other.get("vni") for other in cloud.find("L2Network", "poolUuid", pool["uuid"])}
    ranges = cloud.find("VniRange", "l2NetworkUuid", pool["uuid"])
    is_random = cloud.settings.addresses == "random"
    for vni, vni_range in numbers_of(cloud, ranges, vnis, is_random):
        if vni not in used and vni_range["startVni"] < vni_range["endVni"]:
            cloud.change("L2Network", network["uuid"], vni=vni)
            return
    place = f"VxlanNetwork[name:{pool['name']}, uuid:{pool['uuid']}]"
    strategy = "Vni allocator strategy[RandomVniAllocatorStrategy] returns nothing"
    reason = f"because no vni is available in this {place}"
    raise ApiError("L2.1001", f"{strategy}, {reason}")


@on("removed", "VniRange")
def remove_networks_of_range(cloud: Cloud, vni_range: Item) -> None:
    """Remove the VXLAN networks with a number of a removed range."""
    for network in cloud.find("L2Network", "poolUuid", vni_range["l2NetworkUuid"]):
        if overlap((network["vni"], network["vni"]), vnis(vni_range)):
            cloud.remove("L2Network", network["uuid"])


@named_in_rows
def share_clusters(cloud: Cloud, pool: Item, call: Call) -> None:
    """Let the networks of a VXLAN pool be attached to the clusters of the pool, and no others."""
    clusters = pool["attachedClusterUuids"]
    for network in cloud.find("L2Network", "poolUuid", pool["uuid"]):
        cloud.change("L2Network", network["uuid"], attachedClusterUuids=clusters)


@on("connected", "Host")
def move_vteps(cloud: Cloud, host: Item) -> None:
    """Let tunnels end at the address with which a host connects."""
    for vtep in cloud.find("Vtep", "hostUuid", host["uuid"]):
        cloud.change("Vtep", vtep["uuid"], vtepIp=host["managementIp"])


@on("started", "VmInstance")
@on("moved", "VmInstance")
def add_vteps(cloud: Cloud, vm: Item) -> None:
    """Add the ends of tunnels that the VXLAN networks of a virtual machine need on its host.

    Its host has one for each pool (KVMRealizeL2VxlanNetworkBackend.java).
    """
    host = cloud.look("Host", vm.get("hostUuid"))
    for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]):
        l3 = cloud.look("L3Network", nic.get("l3NetworkUuid"))
        l2 = cloud.look("L2Network", l3.get("l2NetworkUuid"))
        if l2.get("type") != "VxlanNetwork":
            continue
        tag_bridge(cloud, l2, f"br_vx_{l2['vni']}")
        vteps = cloud.find("Vtep", "poolUuid", l2["poolUuid"])
        if host["managementIp"] not in [vtep["vtepIp"] for vtep in vteps]:
            cloud.add(
                "Vtep",
                poolUuid=l2["poolUuid"],
                hostUuid=host["uuid"],
                clusterUuid=host["clusterUuid"],
                vtepIp=host["managementIp"],
                port=VXLAN_PORT,
                type="KVM_HOST_VXLAN",
            )


# ---- Behaviours: network services ----------------------------------------------------------------


@named_in_rows
def free_vip(cloud: Cloud, item: Item, call: Call | None) -> None:
    """Free a virtual IP whose last user is removed."""
    vip = item["vipUuid"]
    for type in ("Eip", "PortForwardingRule", "LoadBalancer"):
        if cloud.find(type, "vipUuid", vip):
            return
    if cloud.look("Vip", vip):
        cloud.change("Vip", vip, useFor=None, peerL3NetworkUuids=[])


@named_in_rows
def refuse_taken_ports(cloud: Cloud, rule: Item, call: Call) -> None:
    """Refuse a port range that overlaps with one of the same virtual IP and protocol."""
    for other in cloud.find("PortForwardingRule", "vipUuid", rule["vipUuid"]):
        if other["uuid"] == rule["uuid"] or other["protocolType"] != rule["protocolType"]:
            continue
        start, end = rule["vipPortStart"], rule["vipPortEnd"]
        other_start, other_end = other["vipPortStart"], other["vipPortEnd"]
        if overlap((start, end), (other_start, other_end)):
            raise refused(
                f"vip port range[vipStartPort:{start}, vipEndPort:{end}] overlaps with "
                f"rule[uuid:{other['uuid']}, vipStartPort:{other_start}, vipEndPort:{other_end}]"
            )


@behaviour
def get_vip_used_ports(cloud: Cloud, call: Call) -> Item:
    uuid, protocol, ports = call["uuid"], call["protocol"], []
    for rule in cloud.find("PortForwardingRule", "vipUuid", uuid):
        if rule["protocolType"] == protocol:
            ports.append(f"{rule['vipPortStart']}-{rule['vipPortEnd']}")
    balancers = cloud.find("LoadBalancer", "vipUuid", uuid) if protocol == "TCP" else []
    for balancer in balancers:
        for listener in cloud.find("LoadBalancerListener", "loadBalancerUuid", balancer["uuid"]):
            ports.append(f"{listener['loadBalancerPort']}-{listener['loadBalancerPort']}")
    return {"inventories": [{"uuid": uuid, "protocol": protocol, "usedPorts": ports}]}


@behaviour
def get_network_service_types(cloud: Cloud, call: Call) -> Item:
    """Return each type of service with its providers."""
    types = defaultdict(list)
    for provider in cloud.store.rows("NetworkServiceProvider"):
        for service in provider["networkServiceTypes"]:
            types[service].append(provider["uuid"])
    return {"types": types}


# limits of traffic


def limits_of(cloud: Cloud, call: Call) -> list[Item]:
    """Return the limits of a virtual IP, or of one of its ports."""
    limits = cloud.find("VipQos", "vipUuid", call["uuid"])
    return [limit for limit in limits if limit.get("port") == call["port"]]


@behaviour
def set_vip_qos(cloud: Cloud, call: Call) -> Item:
    """Limit a virtual IP, or one of its ports. A bandwidth that is not given stays."""
    limits = limits_of(cloud, call)
    if not limits:
        new = {"vipUuid": call["uuid"], "port": call["port"], "type": "VirtualRouter"}
        limits = [cloud.add("VipQos", **new)]
    uuid = limits[0]["uuid"]
    for name in ("inboundBandwidth", "outboundBandwidth"):
        if call[name]:
            cloud.change("VipQos", uuid, **{name: call[name]})
    return cloud.inventory_of("VipQos", uuid)


@behaviour
def delete_vip_qos(cloud: Cloud, call: Call) -> None:
    for limit in limits_of(cloud, call):
        cloud.remove("VipQos", limit["uuid"])


# security groups


@behaviour
def create_security_group(cloud: Cloud, call: Call) -> Item:
    """Add a group whose members reach each other. The answer has no rules yet.

    The source is SecurityGroupManagerImpl.java.
    """
    uuid = new_item(cloud, call)["uuid"]
    body = cloud.inventory_of("SecurityGroup", uuid)
    for type in ("Ingress", "Egress"):
        own = {"securityGroupUuid": uuid, "remoteSecurityGroupUuid": uuid}
        cloud.add("SecurityGroupRule", type=type, **own)
    return body


def identity_of_rule(rule: Item) -> tuple:
    """Return what no two rules of a security group may have in common, with all ports."""
    rule = without_nulls(rule)
    start = rule.get("startPort", -1)
    cidr = rule.get("allowedCidr", "0.0.0.0/0")
    end = -1 if rule["protocol"] == "ALL" else rule.get("endPort", start)
    return rule["type"], rule["protocol"], start, end, cidr


@named_in_rows
def repeated_rule(cloud: Cloud, group: Item, call: Call) -> Item | None:
    """Return the last of equal rules of a call, or None."""
    rules = [*map(identity_of_rule, call["rules"])]
    for rule, identity in zip(call["rules"], rules):
        if rules.count(identity) > 1:
            return {"rule": rule}
    return None


@named_in_rows
def existing_rule(cloud: Cloud, group: Item, call: Call) -> Item | None:
    """Return a rule of a call that a group has, for the same remote group or none, or None.

    Its ports are compared as they are given, though stored in order.
    """
    rules = {identity_of_rule(rule): rule for rule in call["rules"]}
    remotes = call["remoteSecurityGroupUuids"] or [None]
    for rule in cloud.find("SecurityGroupRule", "securityGroupUuid", group["uuid"]):
        remote, identity = rule.get("remoteSecurityGroupUuid"), identity_of_rule(rule)
        if identity in rules and remote in remotes:
            return {"rule": rules[identity], "group": remote or "null"}
    return None


@behaviour
def add_security_group_rule(cloud: Cloud, call: Call) -> Item:
    """Add each rule once for every remote group, or once. The lower port is the start."""
    uuid = call["securityGroupUuid"]
    for rule in call["rules"]:
        type, protocol, start, end, cidr = identity_of_rule(rule)
        for remote in call["remoteSecurityGroupUuids"] or [None]:
            cloud.add(
                "SecurityGroupRule",
                securityGroupUuid=uuid,
                remoteSecurityGroupUuid=remote,
                type=type,
                protocol=protocol,
                allowedCidr=cidr,
                startPort=min(start, end),
                endPort=max(start, end),
            )
    return cloud.inventory_of("SecurityGroup", uuid)


@behaviour
def delete_security_group_rule(cloud: Cloud, call: Call) -> Item:
    """Remove rules, whatever group they are of. Answer the group of the first one."""
    rules = [cloud.look("SecurityGroupRule", uuid) for uuid in call["ruleUuids"]]
    groups = []
    for rule in filter(None, rules):
        groups.append(rule["securityGroupUuid"])
        cloud.remove("SecurityGroupRule", rule["uuid"])
    return cloud.inventory_of("SecurityGroup", groups[0]) if groups else {}


@named_in_rows
def add_members(cloud: Cloud, group: Item, call: Call) -> None:
    """Add nics to a security group, also those that it has (SecurityGroupManagerImpl.java)."""
    for uuid in dict.fromkeys(call["vmNicUuids"]):
        vm = cloud.look("VmNic", uuid)["vmInstanceUuid"]
        nic = {"vmNicUuid": uuid, "vmInstanceUuid": vm}
        cloud.add("VmNicSecurityGroupRef", securityGroupUuid=group["uuid"], **nic)


@named_in_rows
def detach_nics(cloud: Cloud, group: Item, call: Call) -> None:
    """Remove the nics on a network from a security group that is detached from it."""
    for ref in cloud.find("VmNicSecurityGroupRef", "securityGroupUuid", group["uuid"]):
        if cloud.look("VmNic", ref["vmNicUuid"]).get("l3NetworkUuid") == call["l3NetworkUuid"]:
            cloud.remove("VmNicSecurityGroupRef", ref["uuid"])


# the life of virtual machines and their nics (VmReleaseResourceFlow.java)


def users_of_nics(cloud: Cloud, vm: Item, type: str) -> Iterator[Item]:
    """Yield the objects of a type that serve a nic of a virtual machine."""
    row = cloud.catalogue.resources[type]
    for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]):
        yield from list(cloud.queries.find(row, "vmNicUuid", nic["uuid"]))


@on("destroying", "VmInstance")
def leave_security_groups(cloud: Cloud, vm: Item) -> None:
    for ref in users_of_nics(cloud, vm, "VmNicSecurityGroupRef"):
        cloud.remove("VmNicSecurityGroupRef", ref["uuid"])


@on("destroyed", "VmInstance")
def leave_services(cloud: Cloud, vm: Item) -> None:
    """Take EIPs, port forwarding and load balancing from the nics of a virtual machine."""
    for type in ("Eip", "PortForwardingRule"):
        for item in users_of_nics(cloud, vm, type):
            cloud.change(type, item["uuid"], vmNicUuid=None, guestIp=None)
    for ref in users_of_nics(cloud, vm, "LoadBalancerListenerVmNicRef"):
        cloud.drop("LoadBalancerListenerVmNicRef", ref)


@on("started", "VmInstance")
def activate_balancing(cloud: Cloud, vm: Item) -> None:
    set_status_of_balancing(cloud, vm, "Active")


@on("stopped", "VmInstance")
def deactivate_balancing(cloud: Cloud, vm: Item) -> None:
    set_status_of_balancing(cloud, vm, "Inactive")


def set_status_of_balancing(cloud: Cloud, vm: Item, status: str) -> None:
    """Change the status that the nics of a virtual machine have in listeners."""
    for ref in users_of_nics(cloud, vm, "LoadBalancerListenerVmNicRef"):
        cloud.change_inside("LoadBalancerListenerVmNicRef", ref, {"status": status})


@on("readdressed", "VmNic")
def lead_eips_to(cloud: Cloud, nic: Item) -> None:
    """Let EIPs lead to the new address of a nic; port forwarding does not (EipManagerImpl.java)."""
    for eip in cloud.find("Eip", "vmNicUuid", nic["uuid"]):
        cloud.change("Eip", eip["uuid"], guestIp=nic["ip"])


# ---- Behaviours: virtual machines ----------------------------------------------------------------

# The metaData of a router's nic is the sum of 1 (public), 2 (management) and 4 (guest).
GUEST = "4"  # VirtualRouterNicMetaData.java
OF_FIRST_START = (  # parameters of a creation that the first start needs
    "l3NetworkUuids",
    "rootDiskOfferingUuid",
    "dataDiskOfferingUuids",
    "primaryStorageUuidForRootVolume",
)
OFFERED = ("cpuNum", "cpuSpeed", "memorySize", "allocatorStrategy")  # by an instance offering


def get_vm(cloud: Cloud, uuid: Uuid) -> Item:
    return cloud.get("VmInstance", uuid)


def set_state_of_vm(cloud: Cloud, uuid: Uuid, state: str) -> None:
    cloud.change("VmInstance", uuid, state=state)


def refuse_unless(cloud: Cloud, uuid: Uuid, state: str) -> None:
    """Raise VM.1010 if somebody has changed the state of a virtual machine meanwhile."""
    current = get_vm(cloud, uuid)["state"]
    if current != state:
        raise ApiError("VM.1010", f"vm[uuid:{uuid}] became {current} while it was {state}")


# the host for a virtual machine (HostAllocatorManager.xml)


def pick_host(cloud: Cloud, vm: Item, exclude: Uuid | None = None, **wanted: Uuid | None) -> Item:
    """Return the host with the fewest virtual machines among those that can take one.

    The server does so in LeastVmPreferredHostAllocatorStrategy.java. Raise SYS.1006 if they would
    have to give what they reserve.
    """
    for host in able_hosts(cloud, vm, exclude, **wanted):
        if available_memory(cloud, host) - reserved_memory(cloud, host) >= vm["memorySize"]:
            return host
    place = f"the host[uuid:{host['uuid']}] on host[uuid:{host['uuid']}]"
    size = f"no enough memory[{vm['memorySize']}]"
    raise refused(f"[Host Allocation]: {size} on {place}. try next one")  # sic


def able_hosts(
    cloud: Cloud, vm: Item, exclude: Uuid | None = None, **wanted: Uuid | None
) -> list[Item]:
    """Return the hosts that can take a virtual machine, that with the fewest ones first.

    `exclude` is the host that it leaves. `wanted` are values of the keys of a host; None is any.
    Raise HOST_ALLOCATION.1000 if there is no such host.
    """

    def load(host: Item) -> tuple[int, Uuid]:
        return len(cloud.find("VmInstance", "hostUuid", host["uuid"])), host["uuid"]

    hosts = hosts_on_networks(cloud, vm, exclude)
    if not exclude:
        hosts = wanted_hosts(cloud, hosts, wanted)
    hosts = working_hosts(cloud, hosts, vm.get("hypervisorType") or "KVM")
    if not vm.get("rootVolumeUuid"):
        hosts = hosts_with_image(cloud, vm, hosts)
    size = f"cpu[{vm['cpuNum']}], memory[{vm['memorySize']} bytes]"
    strong = [host for host in hosts if has_capacity_for(cloud, host, vm)]
    hosts = some_of(cloud, strong, f"no host having {size} found")
    hosts = hosts_with_storage(cloud, vm, hosts)
    if exclude:
        hosts = wanted_hosts(cloud, hosts, wanted)
        hosts = hosts_to_move_to(cloud, hosts, exclude)
    elif homes := hosts_with_local_volumes(cloud, vm):
        near = [host for host in hosts if homes <= {host["uuid"]}]
        hosts = some_of(cloud, near, "no host has the local primary storage")
    return sorted(filter_by_affinity(cloud, vm, hosts), key=load)


def some_of(cloud: Cloud, hosts: list[Item], reason: str) -> list[Item]:
    """Return hosts. Raise HOST_ALLOCATION.1000 if there is none (HostAllocatorChain.java)."""
    if hosts:
        return hosts
    if configured(cloud, "hostAllocator", "usePagination"):
        pages = "due to pagination is enabled, there might be several allocation failures happened"
        reason = f"unable to allocate hosts; {pages} before; the error list is [{{{reason}}}]"
    raise ApiError("HOST_ALLOCATION.1000", reason)


def hosts_on_networks(cloud: Cloud, vm: Item, exclude: Uuid | None) -> list[Item]:
    """Return the hosts in clusters that have the networks of a virtual machine."""
    l3s = vm.get("l3NetworkUuids")
    if not l3s:
        nics = cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])
        l3s = [nic.get("l3NetworkUuid", "null") for nic in nics]
    if not l3s and not exclude:
        details = "l3Network uuids can not be empty AttachedL2NetworkAllocatorFlow"
        raise ApiError("SYS.1000", details)
    hosts = []
    for host in cloud.store.rows("Host"):
        if all(host["clusterUuid"] in clusters_of(cloud, l3) for l3 in l3s):
            hosts.append(host)
    if not hosts:
        place = f"L2Networks which have L3Networks[{', '.join(l3s)}]"
        details = f"no host found in clusters that has attached to {place}"
        raise ApiError("HOST_ALLOCATION.1000", details)
    return hosts


def clusters_of(cloud: Cloud, l3: Uuid | None) -> list[Uuid]:
    """Return the clusters to which a network is attached."""
    l2 = cloud.look("L2Network", cloud.look("L3Network", l3).get("l2NetworkUuid"))
    return l2.get("attachedClusterUuids", [])


def has_networks(cloud: Cloud, cluster: Uuid, vm: Uuid | None) -> bool:
    """Return True if a cluster has the networks of a virtual machine."""
    nics = cloud.find("VmNic", "vmInstanceUuid", vm)
    return all(cluster in clusters_of(cloud, nic.get("l3NetworkUuid")) for nic in nics)


def wanted_hosts(cloud: Cloud, hosts: list[Item], wanted: dict[str, Uuid | None]) -> list[Item]:
    """Return the hosts with values that a call asks for."""
    wanted = without_nulls(wanted)
    hosts = [host for host in hosts if wanted.items() <= host.items()]
    words = " ".join(f"{key}={value}" for key, value in wanted.items())
    return some_of(cloud, hosts, f"No host with {words} found")


def working_hosts(cloud: Cloud, hosts: list[Item], hypervisor: str) -> list[Item]:
    """Return the hosts that are usable and have a hypervisor."""
    number = f"hosts found in the [{len(hosts)}] candidate hosts"
    connected = [host for host in hosts if host["status"] == "Connected"]
    enabled = [host for host in hosts if host["state"] == "Enabled"]
    fitting = [host for host in enabled if host["hypervisorType"] == hypervisor]
    some_of(cloud, connected, f"no Connected {number}")
    some_of(cloud, enabled, f"no Enabled {number}")
    some_of(cloud, fitting, f"no Enabled {number} having the hypervisor type [{hypervisor}]")
    kind = f"state=Enabled status=Connected hypervisorType={hypervisor}"
    usable = [host for host in fitting if host in connected]
    return some_of(cloud, usable, f"no host having {kind} found")


def hosts_with_image(cloud: Cloud, vm: Item, hosts: list[Item]) -> list[Item]:
    """Return the hosts in zones of a backup storage that has the image of a new virtual machine.

    The image may be deleted if all the primary storage of the hosts has it in its cache.
    """
    image = cloud.get("Image", vm.get("imageUuid"))
    copies = [ref for ref in image.get("backupStorageRefs", ()) if ref["status"] != "Deleted"]
    storages = [cloud.look("BackupStorage", ref["backupStorageUuid"]) for ref in copies]
    connected = [storage for storage in storages if storage["status"] == "Connected"]
    if not storages:
        caches = cloud.find("ImageCache", "imageUuid", image["uuid"])
        needed = {ps["uuid"] for host in hosts for ps in storages_of(cloud, host)}
        if needed <= {cache["primaryStorageUuid"] for cache in caches}:
            return hosts
        name = f"image[uuid:{image['uuid']}, name:{image['name']}]"
        raise refused(f"the {name} is deleted on all backup storage")
    if not connected:
        place = f"all backup storage that image[uuid:{image['uuid']}] is on"
        details = f"{place} can not satisfy conditions[status = Connected]"
        raise ApiError("HOST_ALLOCATION.1000", details)
    zones = list(itertools.chain(*(storage["attachedZoneUuids"] for storage in connected)))
    place = f"zones[uuids:[{', '.join(zones)}]] that attaches to backup storage where"
    hosts = [host for host in hosts if host["zoneUuid"] in zones]
    return some_of(cloud, hosts, f"no host found in {place} image[{image['uuid']}] is on")


def storages_of(cloud: Cloud, host: Item) -> list[Item]:
    return cloud.find("PrimaryStorage", "attachedClusterUuids", host["clusterUuid"])


def has_capacity_for(cloud: Cloud, host: Item, vm: Item) -> bool:
    has_cpus = available_cpus(cloud, host) >= vm["cpuNum"]
    return has_cpus and available_memory(cloud, host) >= vm["memorySize"]


def hosts_with_storage(cloud: Cloud, vm: Item, hosts: list[Item]) -> list[Item]:
    """Return the hosts that reach all volumes of a virtual machine, or have room for new ones."""
    volumes = cloud.find("Volume", "vmInstanceUuid", vm["uuid"])
    needed, size = {volume["primaryStorageUuid"] for volume in volumes}, 0
    states, conditions = ["Enabled", "Disabled"], "state: Enabled or Disabled, status: Connected"
    if not needed:
        size = sum(size for size, _ in disks_of_new(cloud, vm))
        states = ["Enabled"]
        conditions = f"state: Enabled, status: Connected, available capacity {size} bytes"

    def has_volumes(host: Item) -> bool:
        return needed <= {ps["uuid"] for ps in storages_of(cloud, host)}

    def has_usable_storage(host: Item) -> bool:
        for ps in storages_of(cloud, host):
            is_usable = ps["status"] == "Connected" and ps["state"] in states
            if is_usable and available_capacity(cloud, ps) >= size:
                return True
        return False

    place = f"primary storage[{', '.join(sorted(needed))}] where vm[uuid:{vm['uuid']}]'s"
    reason = f"no host found in clusters which have attached to all {place} volumes locate"
    hosts = some_of(cloud, [*filter(has_volumes, hosts)], reason)
    cure = "Check the state/status of primary storage and make sure they have been attached"
    reason = f"cannot find available primary storage[{conditions}]. {cure} to clusters"
    return some_of(cloud, [*filter(has_usable_storage, hosts)], reason)


def disks_of_new(cloud: Cloud, vm: Item) -> list[tuple[int, Item]]:
    """Return the size of each volume that a new virtual machine gets, with its disk offering.

    The first one is the root volume. Its offering counts for an ISO only.
    """
    image = cloud.look("Image", vm.get("imageUuid"))
    root = cloud.look("DiskOffering", vm.get("rootDiskOfferingUuid"))
    root = root if image.get("mediaType") == "ISO" else {}
    disks = [(root.get("diskSize") or image.get("size", 0), root)]
    for uuid in vm.get("dataDiskOfferingUuids") or ():
        if disk := cloud.look("DiskOffering", uuid):
            disks.append((disk["diskSize"], disk))
    return disks


def hosts_to_move_to(cloud: Cloud, hosts: list[Item], origin: Uuid) -> list[Item]:
    """Return the hosts besides the present one that have its version of the operating system."""
    others = []
    for host in hosts:
        if host["uuid"] != origin and cloud.look("Cluster", host["clusterUuid"]):
            others.append(host)  # those of a removed cluster are going too
    reason = f"after rule out avoided host[{origin}], there is no host left in candidates"
    others = some_of(cloud, others, reason)
    system = system_of(cloud, origin)
    same = [host for host in others if system_of(cloud, host["uuid"]) == system]
    return some_of(cloud, same, f"no candidate host has version[{system}]")


def hosts_with_local_volumes(cloud: Cloud, vm: Item) -> set[Uuid]:
    """Return the hosts on whose local disks volumes of a virtual machine are."""
    volumes = cloud.find("Volume", "vmInstanceUuid", vm["uuid"])
    return {host for volume in volumes if (host := local_host(cloud, volume["uuid"]))}


def move_away(cloud: Cloud, vm: Item) -> bool:
    """Move a virtual machine to any other host. Return False if it cannot move.

    One on local storage cannot (LocalStorageFactory.java).
    """
    if storage_of_root(cloud, vm).get("type") == "LocalStorage":
        return False
    try:
        host = pick_host(cloud, vm, vm["hostUuid"])
    except ApiError:
        return False
    put_on_host(cloud, vm["uuid"], host)
    set_state_of_vm(cloud, vm["uuid"], "Running")
    cloud.notice("moved", "VmInstance", get_vm(cloud, vm["uuid"]))
    return True


@named_in_rows
def evacuate_host(cloud: Cloud, host: Item, call: Call) -> None:
    """Move the virtual machines of a host away, or stop them, but for Unknown ones (HostBase.java).

    Raise HOST.1001 if one cannot be stopped.
    """
    staying = []
    for vm in cloud.find("VmInstance", "hostUuid", host["uuid"]):
        if vm["state"] in ("Running", "Paused"):
            if not move_away(cloud, vm):
                leave_host(cloud, vm["uuid"], "Stopped")
        elif vm["state"] != "Unknown":
            staying.append(vm["uuid"])
    if staying and not configured(cloud, "host", "maintenanceMode.ignoreError"):
        place = f"host[uuid:{host['uuid']}, name:{host['name']}, ip:{host['managementIp']}]"
        details = f"failed to stop vm[uuids:[{', '.join(staying)}]] on {place}"
        raise chained(("HOST.1001", "SYS.1006"), [details])


@on("failed", "ChangeHostState")
def leave_evacuated(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Let virtual machines that have left the host be where they are."""
    if error.code == "HOST.1001":
        with contextlib.suppress(ApiError):
            evacuate_host(cloud, cloud.get("Host", call["uuid"]), call)


def move_or_remove(cloud: Cloud, appliance: Item) -> None:
    """Move an appliance that runs to another host, or remove it if that is not possible.

    The source is ApplianceVmCascadeExtension.java.
    """
    if appliance["state"] != "Running" or not move_away(cloud, appliance):
        cloud.remove("VmInstance", appliance["uuid"])


@on("removed", "Host")
def clean_up_after_host(cloud: Cloud, host: Item) -> None:
    """Stop the user's virtual machines on a removed host, and move its appliances.

    One that is paused stays so, nowhere.
    """
    for vm in cloud.find("VmInstance", "hostUuid", host["uuid"]):
        if vm["type"] == "ApplianceVm":
            move_or_remove(cloud, vm)
        elif vm["state"] == "Paused":
            cloud.change("VmInstance", vm["uuid"], hostUuid=None)
        else:
            add_gc_job_if_away(cloud, vm, host, "StopVmGC", f"stop-vm-{vm['uuid']}-{vm['name']}")
            leave_host(cloud, vm["uuid"], "Stopped")
    collect_for(cloud, host["uuid"])
    sentence = "the host[uuid:%s, name:%s] went away"
    arguments = [host["uuid"], host["name"]]
    cloud.notify(sentence, arguments, "HostVO", host["uuid"], "Warning")


@named_in_rows
def stop_users(cloud: Cloud, ps: Item, call: Call) -> None:
    """Stop the virtual machines with a volume on a primary storage, whenever that is done."""
    for vm in vms_on_storage(cloud, ps["uuid"]):
        call_in_background(cloud, call, "StopVmInstance", vm["uuid"])


@named_in_rows
def stop_users_in_cluster(cloud: Cloud, ps: Item, call: Call) -> None:
    """Stop the virtual machines of a cluster with a volume on a primary storage.

    One whose host is away cannot be stopped, and stays.
    """
    for vm in vms_on_storage(cloud, ps["uuid"]):
        if vm.get("clusterUuid") != call["clusterUuid"]:
            continue
        status = cloud.look("Host", vm.get("hostUuid")).get("status")
        if vm["type"] == "ApplianceVm":
            move_or_remove(cloud, vm)
        elif vm["state"] in ("Running", "Paused", "Unknown") and status == "Connected":
            leave_host(cloud, vm["uuid"], "Stopped")


# the life of a virtual machine


@behaviour(
    host="Choose a host for the vm",
    volume="Create the volumes of the vm",
    nic="Allocate the nics of the vm",
    start="Start the vm on the hypervisor",
)
def create_vm_instance(cloud: Cloud, call: Call) -> Stages:
    """Add a virtual machine, and start it unless it is only to be created."""
    vm = new_item(cloud, call)
    uuid, l3s = vm["uuid"], call["l3NetworkUuids"]
    offering = cloud.get("InstanceOffering", call["instanceOfferingUuid"])
    host, cluster = call["hostUuid"], call["clusterUuid"]
    zone = None if host or cluster else call["zoneUuid"]
    cloud.change(
        "VmInstance",
        uuid,
        clusterUuid=None if host else cluster,
        zoneUuid=zone or cloud.get("L3Network", l3s[0])["zoneUuid"],
        platform=cloud.get("Image", call["imageUuid"]).get("platform"),
        defaultL3NetworkUuid=call["defaultL3NetworkUuid"] or l3s[0],
        **{name: offering.get(name) for name in OFFERED},
        **{name: call[name] for name in OF_FIRST_START},
    )
    for source in (call["instanceOfferingUuid"], call["imageUuid"]):
        for tag in tags_of(cloud, source, ""):
            if not tag["inherent"]:
                copied = {"resourceUuid": uuid, "resourceType": "VmInstanceVO", "tag": tag["tag"]}
                cloud.add("SystemTag", **copied)
    if call["strategy"] == "JustCreate":
        return cloud.inventory_of("VmInstance", uuid)
    set_state_of_vm(cloud, uuid, "Starting")
    yield None  # the preparations end
    yield from start_for_the_first_time(cloud, uuid, with_volumes=True)
    return cloud.inventory_of("VmInstance", uuid)


def storages_of_image(cloud: Cloud, uuid: Uuid, zone: Uuid | None = None) -> list[Item]:
    """Return the backup storage that has an image, in one zone or in all."""
    refs = cloud.look("Image", uuid).get("backupStorageRefs", ())
    storages = [cloud.look("BackupStorage", ref["backupStorageUuid"]) for ref in refs]
    return [bs for bs in storages if zone in (None, *bs["attachedZoneUuids"])]


def goes_with(cloud: Cloud, image: Uuid, ps: Item, zone: Uuid | None = None) -> bool:
    """Return True if an image is on backup storage that works with a primary storage."""
    return any(works_with(bs, ps) for bs in storages_of_image(cloud, image, zone))


def start_for_the_first_time(cloud: Cloud, uuid: Uuid, with_volumes: bool = False) -> Stages:
    """Start a virtual machine where its creation wanted it, with new nics and volumes."""
    vm = get_vm(cloud, uuid)
    for l3 in vm.get("l3NetworkUuids", ()):
        if not cloud.look("L3Network", l3):
            reason = "to start the current vm, it may have been deleted, Operation suggestion: "
            cure = "delete this vm, recreate a new vm"
            details = f"Unable to find L3Network[uuid:{l3}] {reason}{cure}"
            raise ThrownError("SYS.1006", details)
    near = storages_of_image(cloud, vm["imageUuid"], vm["zoneUuid"])
    is_reached = any(bs["status"] == "Connected" for bs in near)
    if len(cloud.get("Image", vm["imageUuid"])["backupStorageRefs"]) > 1 and not is_reached:
        raise refused(
            f"cannot find the image[uuid:{vm['imageUuid']}] in any connected backup storage "
            f"attached to the zone[uuid:{vm['zoneUuid']}]. check below:\n1. if the backup storage "
            f"is attached to the zone where the VM[name: {vm['name']}, uuid:{uuid}] is in\n"
            "2. if the backup storage is in connected status, if not, try reconnecting it"
        )
    wanted = {"uuid": vm.get("hostUuid"), "clusterUuid": vm.get("clusterUuid")}
    cloud.change("VmInstance", uuid, hostUuid=None)
    yield from bring_up(cloud, uuid, wanted, with_volumes)
    host, done = get_vm(cloud, uuid)["hostUuid"], dict.fromkeys(OF_FIRST_START)
    cloud.change("VmInstance", uuid, lastHostUuid=host, **done)


def bring_up(cloud: Cloud, uuid: Uuid, wanted: Item, with_volumes: bool = False) -> Stages:
    """Go through the stages of a start: choose a host, make the parts that are missing, and run.

    `wanted` are values of the keys of the host.
    """
    vm = get_vm(cloud, uuid)
    put_on_host(cloud, uuid, pick_host(cloud, vm, **wanted))
    yield "host"
    make_volumes(cloud, get_vm(cloud, uuid))
    if with_volumes:
        yield "volume"
    for l3 in vm.get("l3NetworkUuids", ()):
        add_nic(cloud, get_vm(cloud, uuid), l3)
    add_servers(cloud, get_vm(cloud, uuid))
    give_addresses(cloud, uuid)
    yield "nic"
    get_vm(cloud, uuid)
    yield "start"
    refuse_unless(cloud, uuid, "Starting")
    boot_once(cloud, uuid)
    cloud.change("VmInstance", uuid, state="Running", startDate=cloud.stamp())
    if vm.get("status"):  # that of a router
        cloud.change("VmInstance", uuid, status="Connected")
    cloud.notice("started", "VmInstance", get_vm(cloud, uuid))


@behaviour(
    host="Choose a host for the vm",
    nic="Allocate the nics of the vm",
    start="Start the vm on the hypervisor",
)
def start_vm_instance(cloud: Cloud, call: Call) -> Stages:
    """Start a virtual machine on a host that has its volumes. One that never ran gets all parts."""
    uuid = call["uuid"]
    vm = get_vm(cloud, uuid)
    if vm["state"] != "Created":
        check_isos(cloud, vm)
    set_state_of_vm(cloud, uuid, "Starting")
    yield None  # the preparations end
    if vm["state"] == "Created":
        try:
            yield from start_for_the_first_time(cloud, uuid)
        except ThrownError:
            raise
        except ApiError as error:
            raise refused(error.details, error) from None
    else:
        host, cluster = call["hostUuid"], call["clusterUuid"]
        is_elsewhere = not host and cluster != vm.get("clusterUuid")
        wanted = {"uuid": host, "clusterUuid": cluster if is_elsewhere else None}
        yield from bring_up(cloud, uuid, wanted)
    return cloud.inventory_of("VmInstance", uuid)


@on("failed", "StartVmInstance")
def remove_if_never_started(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Remove a virtual machine whose first start has failed (startVmFromNewCreate)."""
    is_undone = call.begun and not isinstance(error, ThrownError)
    if is_undone and cloud.look("VmInstance", call["uuid"]).get("state") == "Created":
        cloud.remove("VmInstance", call["uuid"])


def isos_of(cloud: Cloud, uuid: Uuid) -> list[list[str]]:
    """Return the images and the device numbers of the ISOs of a virtual machine."""
    return [tag["tag"].split("::")[1:3] for tag in tags_of(cloud, uuid, "iso::")]


def check_isos(cloud: Cloud, vm: Item) -> None:
    """Refuse ISOs that nobody could attach (IsoOperator.java), or that are out of reach."""
    isos, reason = isos_of(cloud, vm["uuid"]), ""
    images, devices = [image for image, _ in isos], [device for _, device in isos]
    if len(isos) > 3:
        reason = "can only attach up to 3 ISOs，Please detach the extra iso"  # noqa: RUF001
    elif len({*images}) < len(images):
        image = repeated(images)
        reason = f"attached duplicate ios[uuid:{image}]，Please detach the extra iso"  # noqa: RUF001
    elif len({*devices}) < len(devices):
        first, image = [image for image, device in isos if device == repeated(devices)][:2]
        cure = f"please detach the iso[{first}], and then re-attach iso[{first}]"
        reason = f"attached ios[{image}] deviceId repeat，{cure}"  # noqa: RUF001
    if reason:
        raise ThrownError("SYS.1006", f"VM[uuid:{vm['uuid']}] {reason}")
    for image in images:
        if not storages_of_image(cloud, image, vm["zoneUuid"]):
            place = f"no backup storage attached to the zone[uuid:{vm['zoneUuid']}]"
            raise refused(f"{place} contains the ISO[uuid:{image}]")


def boot_once(cloud: Cloud, uuid: Uuid) -> None:
    """Forget the boot order that was for one start."""
    if tags_of(cloud, uuid, "cdromBootOnce::"):
        remove_tags(cloud, uuid, "cdromBootOnce::")
        remove_tags(cloud, uuid, "bootOrder::")


@behaviour(work="Ask the hypervisor")
def stop_vm_instance(cloud: Cloud, call: Call) -> Stages:
    vm = get_vm(cloud, call["uuid"])
    if vm["state"] != "Stopped":
        set_state_of_vm(cloud, vm["uuid"], "Stopping")
        yield "work"
        refuse_unless(cloud, vm["uuid"], "Stopping")
        leave_host(cloud, vm["uuid"], "Stopped")
    return cloud.inventory_of("VmInstance", vm["uuid"])


def change_for_a_while(cloud: Cloud, uuid: Uuid, meanwhile: str, state: str) -> Stages:
    """Go through a stage in a state, and end in another one."""
    set_state_of_vm(cloud, uuid, meanwhile)
    yield "work"
    refuse_unless(cloud, uuid, meanwhile)
    set_state_of_vm(cloud, uuid, state)
    return cloud.inventory_of("VmInstance", uuid)


@behaviour(work="Ask the hypervisor")
def reboot_vm_instance(cloud: Cloud, call: Call) -> Stages:
    """Stop and start a virtual machine on its host."""
    vm = get_vm(cloud, call["uuid"])
    check_isos(cloud, vm)
    boot_once(cloud, vm["uuid"])
    cloud.notice("stopped", "VmInstance", vm)
    body = yield from change_for_a_while(cloud, vm["uuid"], "Rebooting", "Running")
    cloud.notice("started", "VmInstance", vm)
    return body


@behaviour(work="Ask the hypervisor")
def pause_vm_instance(cloud: Cloud, call: Call) -> Stages:
    return change_for_a_while(cloud, call["uuid"], "Pausing", "Paused")


@behaviour(work="Ask the hypervisor")
def resume_vm_instance(cloud: Cloud, call: Call) -> Stages:
    return change_for_a_while(cloud, call["uuid"], "Resuming", "Running")


@behaviour(choose="Choose a destination host", move="Move the vm's memory")
def migrate_vm(cloud: Cloud, call: Call) -> Stages:
    """Move a virtual machine to another host, where it runs. Its local volumes go with it."""
    uuid = call["vmInstanceUuid"]
    vm = get_vm(cloud, uuid)
    source = vm.get("hostUuid", "null")
    pick_host(cloud, vm, source, uuid=call["hostUuid"])  # refuses if there is none
    set_state_of_vm(cloud, uuid, "Migrating")
    yield "choose"
    get_vm(cloud, uuid)
    yield "move"
    refuse_unless(cloud, uuid, "Migrating")
    host = pick_host(cloud, vm, source, uuid=call["hostUuid"])
    put_on_host(cloud, uuid, host)
    move_local_refs(cloud, vm.get("rootVolumeUuid"), host["uuid"])
    set_state_of_vm(cloud, uuid, "Running")
    cloud.notice("moved", "VmInstance", get_vm(cloud, uuid))
    return cloud.inventory_of("VmInstance", uuid)


@behaviour(work="Stop the vm on the hypervisor")
def destroy_vm_instance(cloud: Cloud, call: Call) -> Stages:
    """Destroy a virtual machine: it waits to be expunged. One that never ran is removed."""
    uuid = call["uuid"]
    state = get_vm(cloud, uuid)["state"]
    if state == "Created":
        cloud.remove("VmInstance", uuid)
    if state in ("Created", "Destroyed"):
        return None
    set_state_of_vm(cloud, uuid, "Destroying")
    cloud.notice("destroying", "VmInstance", get_vm(cloud, uuid))
    yield "work"
    vm = cloud.look("VmInstance", uuid)
    if not vm:
        return None  # somebody else has removed it
    destroy(cloud, vm)
    return None


def destroy(cloud: Cloud, vm: Item) -> None:
    """Take a virtual machine off its host, free its parts, and let it wait to be expunged."""
    uuid = vm["uuid"]
    host = cloud.look("Host", vm.get("hostUuid"))
    add_gc_job_if_away(cloud, vm, host, "DeleteVmGC", f"vm-{uuid}")
    leave_host(cloud, uuid, "Destroyed")
    for ref in cloud.find("ShareableVolumeVmInstanceRef", "vmInstanceUuid", uuid):
        cloud.remove("ShareableVolumeVmInstanceRef", ref["uuid"])
    release_parts(cloud, uuid)
    if vm["type"] == "ApplianceVm":
        cloud.remove("VmInstance", uuid)  # ApplianceVmBase.java destroyHook
    else:
        expunge(cloud, "VmInstance", uuid)


@on("removed", "Host")
def clean_up_local_storage(cloud: Cloud, host: Item) -> None:
    """Remove all that lies on the disk of a removed host (LocalStorageBase.deleteResourceRef)."""
    for ref in cloud.find("LocalStorageResourceRef", "hostUuid", host["uuid"]):
        volume = cloud.look("Volume", ref["resourceUuid"])
        if volume.get("type") == "Root":
            cloud.remove("VmInstance", volume.get("vmInstanceUuid"))
        cloud.remove("Volume", ref["resourceUuid"])
        cloud.remove("VolumeSnapshot", ref["resourceUuid"])


def remove_record(cloud: Cloud, uuid: Uuid) -> None:
    """Remove a volume, but not its snapshots, which are of no volume then (DBOnly)."""
    for type in ("VolumeSnapshotTree", "VolumeSnapshot"):
        for item in cloud.find(type, "volumeUuid", uuid):
            cloud.change(type, item["uuid"], volumeUuid=None)
    cloud.remove("Volume", uuid)


@named_in_rows
def untag_taken_addresses(cloud: Cloud, vm: Item, call: Call) -> None:
    """Remove the tags of addresses that others have by now."""
    for tag in tags_of(cloud, vm["uuid"], "staticIp::"):
        _, l3, ip = tag["tag"].split("::")
        if is_taken(cloud, l3, ip):
            cloud.remove("SystemTag", tag["uuid"])


def release_parts(cloud: Cloud, uuid: Uuid) -> None:
    """Free the addresses of a virtual machine, delete its root volume, detach its data volumes."""
    for nic in cloud.find("VmNic", "vmInstanceUuid", uuid):
        set_address(cloud, nic, None, {})
    deletes_data = configured(cloud, "vm", "dataVolume.deleteOnVmDestroy")
    for volume in cloud.find("Volume", "vmInstanceUuid", uuid):
        if volume["type"] == "Root":
            cloud.change("Volume", volume["uuid"], status="Deleted")
            continue
        cloud.change("Volume", volume["uuid"], vmInstanceUuid=None, deviceId=None)
        if deletes_data:
            cloud.change("Volume", volume["uuid"], status="Deleted")
            expunge(cloud, "Volume", volume["uuid"])


# what can be changed


@behaviour
def update_vm_instance(cloud: Cloud, call: Call) -> Item:
    """Change fields. A state is written as it is given (VmInstanceBase.java).

    A tag iso:: makes that ISO the first.
    """
    before = get_vm(cloud, call["uuid"])
    update(cloud, call)
    resize_vm(cloud, before, {})
    for tag in call.system_tags:
        if tag.startswith("iso::"):
            put_iso_first(cloud, before["uuid"], tag.split("::")[1])
    return cloud.inventory_of("VmInstance", before["uuid"])


def put_iso_first(cloud: Cloud, uuid: Uuid, iso: Uuid) -> None:
    """Give an ISO of a virtual machine the number 0, and the others those after it."""
    isos = sorted(isos_of(cloud, uuid), key=operator.itemgetter(1))
    images = [image for image, _ in isos]
    if iso not in images:
        raise refused(f"ISO[uuid:{iso}] is not attached to VM[uuid:{uuid}]")
    images.remove(iso)
    remove_tags(cloud, uuid, "iso::")
    for number, image in enumerate([iso, *images]):
        add_iso(cloud, uuid, image, number)


def add_iso(cloud: Cloud, uuid: Uuid, image: Uuid, number: int | str) -> None:
    add_tag_of_server(cloud, "VmInstance", uuid, f"iso::{image}::{number}", inherent=True)


@behaviour
def change_instance_offering(cloud: Cloud, call: Call) -> Item:
    """Give a virtual machine the size and the strategy of an offering."""
    before = get_vm(cloud, call["vmInstanceUuid"])
    offering = cloud.get("InstanceOffering", call["instanceOfferingUuid"])
    changes = {name: offering[name] for name in ("cpuNum", "memorySize", "allocatorStrategy")}
    resize_vm(cloud, before, changes | {"instanceOfferingUuid": offering["uuid"]})
    return cloud.inventory_of("VmInstance", before["uuid"])


MEMORY_STEP = 128 << 20  # bytes by which the memory of a running virtual machine grows


def resize_vm(cloud: Cloud, before: Item, changes: Item) -> None:
    """Change a virtual machine. While it runs, its memory grows in steps, if its host has room."""
    vm = get_vm(cloud, before["uuid"]) | changes
    cpus, memory = vm["cpuNum"] - before["cpuNum"], vm["memorySize"] - before["memorySize"]
    if before["state"] == "Running" and memory:
        memory = max(1, (memory + MEMORY_STEP // 2) // MEMORY_STEP) * MEMORY_STEP
        changes = changes | {"memorySize": before["memorySize"] + memory}
    if changes:
        cloud.change("VmInstance", before["uuid"], **changes)
    host = cloud.look("Host", before.get("hostUuid"))
    lacks = host and (available_cpus(cloud, host) < 0 or available_memory(cloud, host) < 0)
    if lacks and (cpus or memory):
        reason = f"host[uuid:{host['uuid']}] capacity is not enough to offer"
        text = f"{reason} cpu[{cpus}], memory[{memory} bytes]"
        raise refused(text, ApiError("HOST_ALLOCATION.1000", text))


@behaviour(copy="Make the new root volume")
def change_vm_image(cloud: Cloud, call: Call) -> Stages:
    """Replace the root volume by one of another image."""
    uuid = call["vmInstanceUuid"]
    yield "copy"
    vm, image = get_vm(cloud, uuid), cloud.get("Image", call["imageUuid"])
    old = cloud.get("Volume", vm["rootVolumeUuid"])
    size = max(image["size"], old["size"])
    platform = image.get("platform")
    cloud.change("VmInstance", uuid, imageUuid=image["uuid"], platform=platform)
    cloud.remove("Volume", old["uuid"])
    ps = storage_with_room(cloud, old["primaryStorageUuid"], size)
    more = {"size": size, "uuid": call["resourceUuid"], "rootImageUuid": image["uuid"]}
    new_volume_of_vm(cloud, vm, 0, ps, **more)
    return cloud.inventory_of("VmInstance", uuid)


@behaviour(copy="Copy the volumes")
def primary_storage_migrate_vm(cloud: Cloud, call: Call) -> Stages:
    """Move the root volume to another primary storage, and the data volumes if it is wanted."""
    uuid = call["vmInstanceUuid"]
    yield "copy"
    get_vm(cloud, uuid)
    for volume in cloud.find("Volume", "vmInstanceUuid", uuid):
        if volume["type"] == "Root" or call["withDataVolumes"]:
            move_volume(cloud, volume, call["dstPrimaryStorageUuid"])
    return cloud.inventory_of("VmInstance", uuid)


# hosts


@behaviour
def get_candidate_zones_clusters_hosts_for_creating_vm(cloud: Cloud, call: Call) -> Item:
    vm = vm_of_call(call)
    offering = cloud.get("InstanceOffering", call["instanceOfferingUuid"])
    vm |= {"cpuNum": offering["cpuNum"], "memorySize": offering["memorySize"]}
    wanted = {"zoneUuid": call["zoneUuid"], "clusterUuid": call["clusterUuid"]}
    return destinations(cloud, call, vm, None, **wanted)


def vm_of_call(call: Call) -> Item:
    """Return the virtual machine that a call would create, each disk offering once."""
    vm: Item = {name: call[name] for name in ("imageUuid", *OF_FIRST_START)}
    disks = dict.fromkeys(call["dataDiskOfferingUuids"] or ())
    return vm | {"uuid": "", "dataDiskOfferingUuids": [*disks]}


@behaviour
def get_vm_starting_candidate_clusters_hosts(cloud: Cloud, call: Call) -> Item:
    return destinations(cloud, call, get_vm(cloud, call["uuid"]), None)


@behaviour
def get_vm_migration_candidate_hosts(cloud: Cloud, call: Call) -> Item:
    vm = get_vm(cloud, call["vmInstanceUuid"])
    return destinations(cloud, call, vm, vm.get("hostUuid", "null"))


def destinations(
    cloud: Cloud, call: Call, vm: Item, exclude: Uuid | None, **wanted: Uuid | None
) -> Item:
    """Return the hosts that could take a virtual machine, with their clusters and zones."""
    try:
        hosts = able_hosts(cloud, vm, exclude, **wanted)
    except ApiError as error:
        if error.code != "HOST_ALLOCATION.1000":
            raise
        hosts = []
    body = {}
    for member, type in re.findall(r"(\w+):(\w+)", call.api.answers):
        key = "uuid" if type == "Host" else f"{type.lower()}Uuid"
        uuids = dict.fromkeys(host[key] for host in hosts)
        body[member] = [cloud.inventory(type, cloud.look(type, uuid)) for uuid in uuids]
    return body


def storages_near(cloud: Cloud, l3: Uuid) -> set[Uuid]:
    """Return the primary storage in the clusters of a network."""
    storages = set()
    for cluster in clusters_of(cloud, l3):
        for ps in cloud.find("PrimaryStorage", "attachedClusterUuids", cluster):
            storages.add(ps["uuid"])
    return storages


@behaviour
def get_candidate_primary_storages_for_creating_vm(cloud: Cloud, call: Call) -> Item:
    """Return the primary storage with room for each volume that a call would create."""
    near = set.union(*(storages_near(cloud, l3) for l3 in call["l3NetworkUuids"]))

    def storages_for(size: int) -> list[Inventory]:
        storages = []
        for ps in cloud.store.in_order("PrimaryStorage"):
            if ps["uuid"] in near and has_room(cloud, ps, size):
                storages.append(cloud.inventory("PrimaryStorage", ps))
        return storages

    (root_size, _), *disks = disks_of_new(cloud, vm_of_call(call))
    data = {}
    for size, disk in disks:
        if storages := storages_for(size):
            data[disk["uuid"]] = storages
    root = storages_for(root_size)
    return {"rootVolumePrimaryStorages": root, "dataVolumePrimaryStorages": data}


@behaviour
def get_interdependent_l3_networks_images(cloud: Cloud, call: Call) -> Item:
    """Return the networks on which an image can be used, or the images for networks, of a zone."""
    zone, image, inventories = call["zoneUuid"], call["imageUuid"], []

    def suits(image: Uuid, storages: Iterable[Uuid]) -> bool:
        items = [cloud.look("PrimaryStorage", uuid) for uuid in storages]
        return any(goes_with(cloud, image, ps, zone) for ps in items)

    if not image:
        shared = set.intersection(*(storages_near(cloud, l3) for l3 in call["l3NetworkUuids"]))
        for item in cloud.store.in_order("Image"):
            if suits(item["uuid"], shared):
                inventories.append(cloud.inventory("Image", item))
        return {"inventories": inventories}
    if not storages_of_image(cloud, image, zone):
        place = f"any backup storage that has been attached to the zone[uuid:{zone}]"
        raise ApiError("SYS.1007", f"the image[uuid:{image}] is not on {place}")
    for l3 in cloud.queries_of(call).tables.in_order("L3Network"):
        if l3["zoneUuid"] == zone and suits(image, storages_near(cloud, l3["uuid"])):
            inventories.append(cloud.inventory("L3Network", l3))
    return {"inventories": inventories}


# nics


def add_nic(cloud: Cloud, vm: Item, l3: Uuid) -> None:
    """Add a nic on a network. That of a router says in metaData what it is for."""
    nics = {}
    for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]):
        nics[nic["deviceId"]] = nic.get("l3NetworkUuid")
    if l3 in nics.values():
        raise refused(f"Can't add same uuid in the l3Network,uuid: {l3}")  # sic
    device = next(number for number in itertools.count() if number not in nics)
    digits = f"fa{cloud.random.getrandbits(32):08x}{device:02x}"
    custom = f"customMac::{l3}::"
    mac = (rest_of_tag(cloud, vm["uuid"], custom) or "").lower()
    remove_tags(cloud, vm["uuid"], custom)
    if mac and cloud.find("VmNic", "mac", mac):
        mac = ""
    is_public = l3 == vm.get("publicNetworkUuid")
    is_management = l3 == vm.get("managementNetworkUuid")
    use = str(is_public + 2 * is_management or GUEST)
    cloud.add(
        "VmNic",
        vmInstanceUuid=vm["uuid"],
        l3NetworkUuid=l3,
        deviceId=device,
        mac=mac or ":".join(re.findall("..", digits)),
        metaData=None if vm["type"] == "UserVm" else use,
    )


def set_address(cloud: Cloud, nic: Item, ip: str | None, ip_range: Item) -> None:
    """Give a nic an address of a range, or none."""
    cloud.change("VmNic", nic["uuid"], ip=ip, **subnet_of(ip_range))
    if ip and nic.get("ip"):
        cloud.notice("readdressed", "VmNic", nic | {"ip": ip})


def give_addresses(cloud: Cloud, uuid: Uuid, l3: Uuid | None = None, ip: str | None = None) -> None:
    """Give an address to each nic without one.

    It is `ip` on the network `l3`, else that of a tag staticIp::, else the gateway for the guest
    nic of a router, else a free one.
    """
    for nic in cloud.find("VmNic", "vmInstanceUuid", uuid):
        if nic.get("ip"):
            continue
        network = nic.get("l3NetworkUuid")
        wanted = ip if network == l3 else rest_of_tag(cloud, uuid, f"staticIp::{network}::")
        if wanted:
            address, ip_range = required_ip(cloud, network, wanted)
        else:
            address, ip_range = free_ip(cloud, network)
            if nic.get("metaData") == GUEST:
                address = ip_range["gateway"]
                ip_range = ip_range | {"uuid": None}
        set_address(cloud, nic, address, ip_range)


def put_tag_in_place(cloud: Cloud, uuid: Uuid, begin: str, rest: str) -> None:
    """Change the system tag that begins so, or add one, which is checked (SystemTag.java)."""
    if tags := tags_of(cloud, uuid, begin):
        cloud.change("SystemTag", tags[0]["uuid"], tag=begin + rest)
    else:
        put_tag(cloud, "VmInstance", uuid, begin, begin + rest)


@behaviour
def attach_l3_network_to_vm(cloud: Cloud, call: Call) -> Item:
    """Add a nic on a network, with the address that is asked for or a free one."""
    uuid, l3, ip = call["vmInstanceUuid"], call["l3NetworkUuid"], call["staticIp"]
    vm = get_vm(cloud, uuid)
    add_nic(cloud, vm, l3)
    give_addresses(cloud, uuid, l3, ip)
    if ip:
        put_tag_in_place(cloud, uuid, f"staticIp::{l3}::", ip)
    if not vm.get("defaultL3NetworkUuid"):
        cloud.change("VmInstance", uuid, defaultL3NetworkUuid=l3)
    return cloud.inventory_of("VmInstance", uuid)


@named_in_rows
def has_foreign_ip(cloud: Cloud, vm: Item, call: Call) -> bool:
    return not range_with(cloud, call["l3NetworkUuid"], call["staticIp"])


@named_in_rows
def has_taken_ip(cloud: Cloud, vm: Item, call: Call) -> bool:
    return is_taken(cloud, call["l3NetworkUuid"], call["staticIp"])


@named_in_rows
def has_eip_of_network(cloud: Cloud, vm: Item, call: Call) -> bool:
    """Return True if a network provides an EIP to a virtual machine (EipManagerImpl.java)."""
    for eip in users_of_nics(cloud, vm, "Eip"):
        if cloud.look("Vip", eip["vipUuid"]).get("l3NetworkUuid") == call["l3NetworkUuid"]:
            return True
    return False


@on("removed", "VmNic")
def forget_network(cloud: Cloud, nic: Item) -> None:
    """Forget the static address of a detached nic, and choose another default network."""
    vm, l3 = cloud.look("VmInstance", nic["vmInstanceUuid"]), nic.get("l3NetworkUuid")
    if not vm or vm["state"] == "Destroyed":
        return
    remove_tags(cloud, vm["uuid"], f"staticIp::{l3}::")
    if vm.get("defaultL3NetworkUuid") not in (None, l3):
        return
    nics = cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])
    nics.sort(key=operator.itemgetter("deviceId"))
    default = nics[0].get("l3NetworkUuid") if nics else None
    cloud.change("VmInstance", vm["uuid"], defaultL3NetworkUuid=default)


@on("removed", "L3Network")
def leave_network(cloud: Cloud, l3: Item) -> None:
    release_nics(cloud, cloud.find("VmNic", "l3NetworkUuid", l3["uuid"]))


@on("removed", "IpRange")
def leave_range(cloud: Cloud, ip_range: Item) -> None:
    """Release the nics with an address of a range, and those that are its gateway."""
    nics = cloud.find("VmNic", "ipRangeUuid", ip_range["uuid"])
    for nic in cloud.find("VmNic", "ip", ip_range["gateway"]):
        if nic.get("l3NetworkUuid") == ip_range["l3NetworkUuid"]:
            nics.append(nic)
    release_nics(cloud, nics)


@named_in_rows
def leave_cluster(cloud: Cloud, l2: Item, call: Call) -> None:
    """Detach the machines of a cluster from an L2 network, or from those of a VXLAN pool."""
    for network in (l2, *cloud.find("L2Network", "poolUuid", l2["uuid"])):
        for l3 in cloud.find("L3Network", "l2NetworkUuid", network["uuid"]):
            nics = []
            for nic in cloud.find("VmNic", "l3NetworkUuid", l3["uuid"]):
                vm = cloud.look("VmInstance", nic["vmInstanceUuid"])
                if vm.get("clusterUuid") == call["clusterUuid"]:
                    nics.append(nic)
            release_nics(cloud, nics, moves_appliances=True)


def release_nics(cloud: Cloud, nics: list[Item], moves_appliances: bool = False) -> None:
    """Detach nics from virtual machines in some states. Remove the appliances that have them.

    The sources are VmCascadeExtension.java and ApplianceVmCascadeExtension.java.
    """
    for nic in nics:
        vm = cloud.look("VmInstance", nic["vmInstanceUuid"])
        if vm.get("type") == "ApplianceVm" and moves_appliances:
            move_or_remove(cloud, vm)
        elif vm.get("type") == "ApplianceVm":
            cloud.remove("VmInstance", vm["uuid"])
        elif vm.get("state") in ("Running", "Paused", "Stopped", "Destroyed"):
            cloud.remove("VmNic", nic["uuid"])


@behaviour
def set_vm_static_ip(cloud: Cloud, call: Call) -> None:
    """Give the nic on a network an address at once."""
    uuid, l3, ip = call["vmInstanceUuid"], call["l3NetworkUuid"], call["ip"]
    for nic in cloud.find("VmNic", "vmInstanceUuid", uuid):
        if nic.get("l3NetworkUuid") == l3 and nic.get("ip") != ip:
            set_address(cloud, nic, *required_ip(cloud, l3, ip))
    put_tag_in_place(cloud, uuid, f"staticIp::{l3}::", ip)


def storage_of_root(cloud: Cloud, vm: Item) -> Item:
    """Return the primary storage of the root volume, {} without one."""
    root = cloud.look("Volume", vm.get("rootVolumeUuid"))
    return cloud.look("PrimaryStorage", root.get("primaryStorageUuid"))


@named_in_rows
def is_near_vm(cloud: Cloud, l3: Item, call: Call) -> bool:
    """Return True if the cluster of a virtual machine has a network.

    Before it has one, it may be any cluster with its networks and its primary storage.
    """
    vm, clusters = get_vm(cloud, call["vmInstanceUuid"]), clusters_of(cloud, l3["uuid"])
    if vm.get("clusterUuid"):
        return vm["clusterUuid"] in clusters
    reached = storage_of_root(cloud, vm).get("attachedClusterUuids", ())
    return any(has_networks(cloud, cluster, vm["uuid"]) for cluster in {*reached} & {*clusters})


# ISOs, boot order, hostname and keys


@named_in_rows
def has_iso(cloud: Cloud, vm: Item, call: Call) -> bool:
    return bool(tags_of(cloud, vm["uuid"], f"iso::{call['isoUuid']}::"))


@named_in_rows
def has_several_isos(cloud: Cloud, vm: Item, call: Call) -> bool:
    return len(isos_of(cloud, vm["uuid"])) > 1


@named_in_rows
def has_all_isos(cloud: Cloud, vm: Item, call: Call) -> bool:
    return len(isos_of(cloud, vm["uuid"])) > 2


@named_in_rows
def is_out_of_reach(cloud: Cloud, vm: Item, call: Call) -> bool:
    """Return True if an ISO cannot go to the primary storage of a virtual machine."""
    ps, iso = storage_of_root(cloud, vm), call["isoUuid"]
    for cache in cloud.find("ImageCache", "imageUuid", iso):
        if cache["primaryStorageUuid"] == ps.get("uuid"):
            return False
    return bool(ps) and not goes_with(cloud, iso, ps)


@behaviour
def attach_iso_to_vm_instance(cloud: Cloud, call: Call) -> Item:
    """Attach an ISO under the first free number. It may be any image (IsoOperator.java)."""
    uuid = call["vmInstanceUuid"]
    numbers = [number for _, number in isos_of(cloud, uuid)]
    add_iso(cloud, uuid, call["isoUuid"], next(digit for digit in "012" if digit not in numbers))
    return cloud.inventory_of("VmInstance", uuid)


@named_in_rows
def is_attachable_iso(cloud: Cloud, image: Item, call: Call) -> bool:
    """Return True if a virtual machine can reach an image that it has not yet."""
    vm, uuid = get_vm(cloud, call["vmInstanceUuid"]), image["uuid"]
    is_attached = tags_of(cloud, vm["uuid"], f"iso::{uuid}::")
    return not is_attached and goes_with(cloud, uuid, storage_of_root(cloud, vm), vm["zoneUuid"])


@named_in_rows
def reaches_iso(cloud: Cloud, vm: Item, call: Call) -> bool:
    """Return True if an ISO can go to the primary storage of a virtual machine."""
    ps = storage_of_root(cloud, vm)
    return bool(ps) and goes_with(cloud, call["isoUuid"], ps)


def check_boot_order(cloud: Cloud, params: Item) -> None:
    devices = params.get("bootOrder") or ()
    for device in devices:
        if device not in ("HardDisk", "CdRom"):
            order = ", ".join(devices)
            raise BadParameter(f"invalid boot device[{device}] in boot order[{order}]")


@behaviour
@checks_parameters(check_boot_order)
def set_vm_boot_order(cloud: Cloud, call: Call) -> Item:
    """Set or forget the order of devices. A tag of the call makes it one for a single start."""
    uuid, order = call["uuid"], call["bootOrder"]
    remove_tags(cloud, uuid, "bootOrder::")
    remove_tags(cloud, uuid, "cdromBootOnce::")
    if order == []:
        raise ApiError("SYS.1000", "bootOrder:: is not a valid tag")
    if order:
        add_tag_of_server(cloud, "VmInstance", uuid, f"bootOrder::{','.join(order)}", inherent=True)
    once = "cdromBootOnce::true"
    if once in call.system_tags:
        add_tag_of_server(cloud, "VmInstance", uuid, once, inherent=True)
    return cloud.inventory_of("VmInstance", uuid)


@behaviour
def get_vm_boot_order(cloud: Cloud, call: Call) -> Item:
    order = rest_of_tag(cloud, call["uuid"], "bootOrder::")
    if order:
        return {"orders": order.split(",")}
    return {"orders": ["HardDisk", "CdRom"] if isos_of(cloud, call["uuid"]) else ["HardDisk"]}


@behaviour
def set_vm_hostname(cloud: Cloud, call: Call) -> None:
    """Name a virtual machine. Only its first name is checked (SystemTag.java)."""
    try:
        put_tag_in_place(cloud, call["uuid"], "hostname::", call["hostname"])
    except ApiError as error:
        body: Item = {"causes": []} | cloud.catalogue.error_body(error)
        raise ApiError("SYS.1000", json.dumps(body, separators=(",", ":"))) from None


@behaviour
def delete_vm_ssh_key(cloud: Cloud, call: Call) -> None:
    """Remove a key. An unknown virtual machine fails late (VmInstanceManagerImpl.java)."""
    uuid = call["uuid"]
    if not cloud.look("VmInstance", uuid):
        details = f"Cannot find VmInstance[uuid:{uuid}], it may have been deleted"
        raise ApiError("SYS.1000", details)
    remove_tags(cloud, uuid, "sshkey::")


# volumes of a virtual machine

ALLOCATOR = "primaryStorage::allocator::uuid::"  # PrimaryStorageSystemTags.java


def make_volumes(cloud: Cloud, vm: Item) -> None:
    """Make the root volume from the image, and a data volume for each disk offering, once."""
    if vm.get("rootVolumeUuid"):
        return
    image = cloud.get("Image", vm.get("imageUuid"))
    for device, (size, disk) in enumerate(disks_of_new(cloud, vm)):
        wanted = storage_wanted(cloud, vm, device, disk)
        ps = pick_storage(cloud, vm["clusterUuid"], size, wanted)
        if device:
            new_volume_of_vm(cloud, vm, device, ps, size=size, diskOfferingUuid=disk["uuid"])
        else:
            new_volume_of_vm(cloud, vm, device, ps, size=size, rootImageUuid=image["uuid"])
    if image["mediaType"] == "ISO":
        add_iso(cloud, vm["uuid"], image["uuid"], 0)


def storage_wanted(cloud: Cloud, vm: Item, device: int, disk: Item) -> Uuid | None:
    """Return the primary storage on which a call or a tag wants a volume.

    The tags are of the instance offering for the root volume, of the disk offering for others.
    """
    if device:
        begin = "primaryStorageUuidForDataVolume::"
        return rest_of_tag(cloud, vm["uuid"], begin) or rest_of_tag(cloud, disk["uuid"], ALLOCATOR)
    wanted = vm.get("primaryStorageUuidForRootVolume")
    return wanted or rest_of_tag(cloud, vm.get("instanceOfferingUuid"), ALLOCATOR)


def new_volume_of_vm(cloud: Cloud, vm: Item, device: int, ps: Item, **values: Any) -> None:
    """Add a volume of a virtual machine. The first one is its root volume."""
    name, type, description = f"DATA-for-{vm['name']}", "Data", f"DataVolume-{vm['uuid']}"
    if device == 0:
        name, type = f"ROOT-for-{vm['name']}", "Root"
        description = f"Root volume for VM[uuid:{vm['uuid']}]"
    volume = cloud.add(
        "Volume",
        name=name,
        type=type,
        description=description,
        vmInstanceUuid=vm["uuid"],
        deviceId=device,
        **values,
    )
    place = place_of_volume(cloud, volume, ps)
    if device:
        place["actualSize"] = volume["actualSize"]
    cloud.change("Volume", volume["uuid"], **place)
    if device == 0:
        cloud.change("VmInstance", vm["uuid"], rootVolumeUuid=volume["uuid"])


# routers


@behaviour(
    host="Choose a host for the router",
    nic="Allocate the nics of the router",
    start="Start the router on the hypervisor",
)
def create_vpc_v_router(cloud: Cloud, call: Call) -> Stages:
    """Add a virtual router, which is a virtual machine, from its offering and start it."""
    uuid = new_item(cloud, call)["uuid"]
    offering = cloud.get("InstanceOffering", call["virtualRouterOfferingUuid"])
    management, public = offering.get("managementNetworkUuid"), offering.get("publicNetworkUuid")
    cloud.change(
        "VmInstance",
        uuid,
        type="ApplianceVm",
        applianceVmType=call["applianceVmType"] or "vpcvrouter",
        status="Connecting",
        agentPort=7759,
        hypervisorType="KVM",
        state="Starting",
        instanceOfferingUuid=offering["uuid"],
        platform=cloud.look("Image", offering.get("imageUuid")).get("platform"),
        zoneUuid=offering.get("zoneUuid"),
        imageUuid=offering.get("imageUuid"),
        managementNetworkUuid=management,
        publicNetworkUuid=public,
        defaultRouteL3NetworkUuid=public,
        defaultL3NetworkUuid=public,
        **{name: offering.get(name) for name in OFFERED},
    )
    for l3 in dict.fromkeys((management, public, call["guestL3NetworkUuid"])):
        if l3:
            add_nic(cloud, get_vm(cloud, uuid), l3)
    yield None  # the preparations end
    yield from bring_up(cloud, uuid, {})
    return cloud.inventory_of("VmInstance", uuid)


def add_servers(cloud: Cloud, vm: Item) -> None:
    """Give the networks of a virtual machine what serves them: a DHCP server, a virtual router.

    A network needs a router if it gets services from one and its zone has an offering for it.
    """
    if vm["type"] != "UserVm":
        return
    for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]):
        l3 = cloud.look("L3Network", nic.get("l3NetworkUuid"))
        take_dhcp_ip(cloud, l3)
        is_routed = is_served(cloud, l3, ("VirtualRouter", "vrouter"))
        offering = offering_of_router(cloud, l3) if is_routed else None
        if offering and not has_router(cloud, l3):
            new_router(cloud, l3, offering)


def has_router(cloud: Cloud, l3: Item) -> bool:
    nics = cloud.find("VmNic", "metaData", GUEST)
    return any(nic.get("l3NetworkUuid") == l3["uuid"] for nic in nics)


def offering_of_router(cloud: Cloud, l3: Item) -> Item | None:
    """Return the router offering for a network: the one tagged for it, else the default one."""
    tags = cloud.find("SystemTag", "tag", f"guestL3Network::{l3['uuid']}")
    tagged = {tag["resourceUuid"] for tag in tags}
    offerings = cloud.find("InstanceOffering", "zoneUuid", l3["zoneUuid"])
    offerings = [offering for offering in offerings if offering["state"] == "Enabled"]

    def preference(offering: Item) -> tuple[bool, bool]:
        return offering["uuid"] in tagged, offering["isDefault"]

    return max(offerings, key=preference, default=None)


def new_router(cloud: Cloud, l3: Item, offering: Item) -> None:
    """Make a running router with a nic on a network, for the account that owns the network."""
    uuid = cloud.uuid()
    params = {
        "name": f"virtualRouter.l3.{l3['name']}.{l3['uuid'][:6]}",
        "virtualRouterOfferingUuid": offering["uuid"],
        "applianceVmType": "VirtualRouter",
        "guestL3NetworkUuid": l3["uuid"],
        "resourceUuid": uuid,
    }
    api = cloud.catalogue.apis["CreateVpcVRouter"]
    for _ in create_vpc_v_router(cloud, Call(api, params, account=ADMIN)):
        pass
    owner = cloud.accounts.owner("L3Network", l3)
    cloud.accounts.give("VmInstance", get_vm(cloud, uuid), owner)


# clones

COPIED = (
    "description",
    "imageUuid",
    "instanceOfferingUuid",
    "platform",
    "cpuNum",
    "cpuSpeed",
    "memorySize",
    "allocatorStrategy",
    "hypervisorType",
    "zoneUuid",
    "clusterUuid",
    "defaultL3NetworkUuid",
)


@behaviour(copy="Copy the volumes of the vm", start="Start the clones")
def clone_vm_instance(cloud: Cloud, call: Call) -> Stages:
    """Make clones of a virtual machine. Each fails or succeeds by itself."""
    yield "copy"
    source = get_vm(cloud, call.target)
    clones = [clone_of(cloud, call, source, name) for name in call["names"]]
    yield "start"
    number = sum("inventory" in clone for clone in clones)
    return {"result": {"numberOfClonedVm": number, "inventories": clones}}


def clone_of(cloud: Cloud, call: Call, source: Item, name: str) -> Item:
    """Make a clone and start it if it is wanted. Return its inventory, or the error."""
    is_started = call["strategy"] == "InstantStart"
    try:
        with cloud.store.all_or_nothing():
            values = {key: source.get(key) for key in COPIED}
            vm = cloud.add("VmInstance", name=name, **values)
            copy_parts(cloud, source["uuid"], vm, with_data=call["full"])
            if is_started:
                api = cloud.catalogue.apis["StartVmInstance"]
                start = replace(call, api=api, params={"uuid": vm["uuid"]})
                cloud.accounts.charge(start)
                for _ in cloud.act(start):
                    pass
            return cloud.inventory_of("VmInstance", vm["uuid"]) | {"started": is_started}
    except ApiError as error:
        return {"error": cloud.catalogue.error_body(error), "started": False}


def copy_parts(cloud: Cloud, source: Uuid, vm: Item, with_data: bool) -> None:
    """Give a virtual machine nics on the networks of another one, and volumes of the same sizes."""
    nics = cloud.find("VmNic", "vmInstanceUuid", source)
    for nic in sorted(nics, key=operator.itemgetter("deviceId")):
        if "l3NetworkUuid" in nic:
            add_nic(cloud, vm, nic["l3NetworkUuid"])
    volumes = cloud.find("Volume", "vmInstanceUuid", source)
    for volume in sorted(volumes, key=lambda volume: volume["type"] != "Root"):
        if volume["type"] == "Root" or with_data:
            ps = storage_with_room(cloud, volume["primaryStorageUuid"], volume["size"])
            keys = ("size", "actualSize", "diskOfferingUuid", "rootImageUuid")
            values = {key: volume.get(key) for key in keys}
            new_volume_of_vm(cloud, vm, volume["deviceId"], ps, **values)


# consoles

CONSOLE_PORT, VNC_PORT = 4900, 5900


@behaviour
def request_console_access(cloud: Cloud, call: Call) -> Item:
    """Return where a browser finds the console, with a token for this session."""
    vm = get_vm(cloud, call["vmInstanceUuid"])
    agent = next(iter(cloud.store.rows("ConsoleProxyAgent")))
    hostname = agent["consoleProxyOverriddenIp"]
    if hostname in ("", "0.0.0.0"):
        hostname = agent["managementIp"]
    console = {"scheme": "http", "hostname": hostname, "port": CONSOLE_PORT}
    return {"inventory": console | {"token": f"{call.session}_{vm['uuid']}"}}


@behaviour
def get_vm_console_address(cloud: Cloud, call: Call) -> Item:
    host = cloud.get("Host", get_vm(cloud, call["uuid"]).get("hostUuid"))
    vms = [vm["uuid"] for vm in cloud.find("VmInstance", "hostUuid", host["uuid"])]
    port = VNC_PORT + vms.index(call["uuid"])
    return {"hostIp": host["managementIp"], "port": port, "protocol": "vnc"}


@behaviour(reconnect="Reconnect the console proxy agents")
def reconnect_console_proxy_agent(cloud: Cloud, call: Call) -> Stages:
    """Return the result of each agent. An unknown one is no failure.

    The source is ManagementServerConsoleProxyBackend.java.
    """
    agents = [agent["uuid"] for agent in cloud.store.rows("ConsoleProxyAgent")]
    uuids = call["agentUuids"] or agents
    for uuid in agents:
        if uuid in uuids:
            cloud.change("ConsoleProxyAgent", uuid, status="Connecting")
    yield "reconnect"
    results: dict[Uuid, Any] = {}
    for uuid in uuids:
        if uuid in agents:
            cloud.change("ConsoleProxyAgent", uuid, status="Connected")
            results[uuid] = True
        else:
            error = ApiError("SYS.1007", f"invalid management node UUID[{uuid}]")
            results[uuid] = cloud.catalogue.error_body(error)
    return {"inventory": results}


# ---- Behaviours: volumes and images --------------------------------------------------------------


@named_in_rows
def place_new_volume(cloud: Cloud, volume: Item, call: Call) -> None:
    """Put a new data volume on its primary storage, if it has one.

    The tag ephemeral::shareable of the call makes it shareable (VolumeSystemTags.java).
    """
    changes: Item = {"isShareable": "ephemeral::shareable" in call.system_tags}
    if volume.get("primaryStorageUuid"):
        ps = storage_with_room(cloud, volume["primaryStorageUuid"], volume["size"])
        host = host_of_new_volume(cloud, volume, call) if ps["type"] == "LocalStorage" else None
        changes |= place_of_volume(cloud, volume, ps, host)
    elif call["volumeSnapshotUuid"]:  # its primary storage was removed
        raise no_resource()
    cloud.change("Volume", volume["uuid"], **changes)


def host_of_new_volume(cloud: Cloud, volume: Item, call: Call) -> Uuid:
    """Return the host on whose local disk a call wants a volume. Refuse a call without one."""
    uuid, template = volume["uuid"], call["imageUuid"]
    if call["volumeSnapshotUuid"]:
        return local_host(cloud, call["volumeSnapshotUuid"])
    tag = "localStorage::hostUuid::"
    host = call["hostUuid"] if template else rest_of_tag(cloud, uuid, tag)
    if host:
        return host
    if template:
        ps = f"a local primary storage[uuid:{volume['primaryStorageUuid']}]"
        reason = "because the hostUuid is not specified."
        raise refused(f"unable to create the data volume[uuid: {uuid}] on {ps}, {reason}")
    place = "the host that the data volume is going to be created using the system tag"
    cure = f"you must specify {place} [{tag}{{hostUuid}}]"
    details = f"To create data volume on the local primary storage, {cure}"
    raise ApiError("SYS.1007", details)


@on("failed", "CreateDataVolumeFromVolumeSnapshot")
def leave_volume(cloud: Cloud, call: Call, error: ApiError) -> None:
    """Leave the volume of a failed call, without size and place (VolumeManagerImpl.java)."""
    if call.begun or error.code == "VOLUME_SNAPSHOT.1000":
        values = {name: call[name] for name in ("name", "description")}
        values |= {"uuid": call["resourceUuid"], "owner": call.account}
        cloud.add("Volume", status="Creating", size=0, **values)


@named_in_rows
def is_attachable_volume(cloud: Cloud, volume: Item, call: Call) -> bool:
    """Return True if a virtual machine reaches a data volume, or if that has no place yet."""
    vm = get_vm(cloud, call["vmInstanceUuid"])
    if volume["status"] == "NotInstantiated":
        return can_plug(vm)
    host = local_host(cloud, volume["uuid"])
    homes = hosts_with_local_volumes(cloud, vm) or {vm.get("hostUuid", host)}
    return host in (None, *homes) and can_plug(vm) and can_use(cloud, vm, volume)


def can_plug(vm: Item) -> bool:
    """Return True unless the guest of a virtual machine cannot get a volume while it runs."""
    return vm["state"] == "Stopped" or vm.get("platform") != "Other"


def can_use(cloud: Cloud, vm: Item, volume: Item) -> bool:
    """Return True if the cluster of a virtual machine has the storage of a volume, and can read it.

    The hypervisors for a format are those that GetVolumeFormat answers.
    """
    ps = cloud.look("PrimaryStorage", volume["primaryStorageUuid"])
    if vm.get("clusterUuid") not in ps["attachedClusterUuids"]:
        return False
    for row in cloud.catalogue.apis["GetVolumeFormat"].always:
        if row["format"] == volume["format"]:
            return vm.get("hypervisorType") in row["supportingHypervisorTypes"]
    return False


@behaviour(attach="Attach the volume")
def attach_data_volume_to_vm(cloud: Cloud, call: Call) -> Stages:
    """Attach a volume under the next free number. It gets a place if it has none yet."""
    uuid, vm = call["volumeUuid"], get_vm(cloud, call["vmInstanceUuid"])
    volume, numbers = cloud.get("Volume", uuid), {0}  # that of the root volume
    for type in ("Volume", "ShareableVolumeVmInstanceRef"):
        for item in cloud.find(type, "vmInstanceUuid", vm["uuid"]):
            numbers.add(item.get("deviceId"))
    most = configured(cloud, "kvm", "dataVolume.maxNum")
    if len(numbers) > most:
        limit = f"only allows max {most} data volumes to be attached to a single vm"
        present = f"there have been {len(numbers) - 1} data volumes attached to"
        details = f"hypervisor[{vm.get('hypervisorType')}] {limit}; {present} vm[uuid:{vm['uuid']}]"
        raise ThrownError("SYS.1006", details)
    if volume["status"] == "NotInstantiated":
        host = cloud.look("Host", vm.get("hostUuid") or vm.get("lastHostUuid"))
        if not host:
            cure = f"please start the vm[{vm['uuid']}], then mount the disk"
            raise refused(f" Can not find the vm's host, {cure}")  # sic: it begins with a space
        ps = pick_storage(cloud, host["clusterUuid"], volume["size"])
        place = place_of_volume(cloud, volume | {"vmInstanceUuid": vm["uuid"]}, ps)
        cloud.change("Volume", uuid, **place)
    number = next(number for number in itertools.count(1) if number not in numbers)
    attachment = {"vmInstanceUuid": vm["uuid"], "deviceId": number}
    if volume["isShareable"]:
        cloud.add("ShareableVolumeVmInstanceRef", volumeUuid=uuid, **attachment)
    else:
        cloud.change("Volume", uuid, **attachment)
    yield "attach"
    return cloud.inventory_of("Volume", uuid)


@named_in_rows
def disks_apart(cloud: Cloud, volume: Item, call: Call) -> Item | None:
    """Return the hosts on whose disks a volume and a root volume are, or None if it is the same."""
    root = get_vm(cloud, call["vmInstanceUuid"]).get("rootVolumeUuid")
    here, there = local_host(cloud, root), local_host(cloud, volume["uuid"])
    is_same = None in (here, there) or here == there
    return None if is_same else {"root": root, "here": here, "there": there}


@named_in_rows
def can_take_volume(cloud: Cloud, vm: Item, call: Call) -> bool:
    """Return True if a volume is, or can be, where a virtual machine reaches it."""
    volume = cloud.get("Volume", call["volumeUuid"])
    if volume["status"] == "NotInstantiated":
        storages = cloud.find("PrimaryStorage", "attachedClusterUuids", vm.get("clusterUuid"))
        rooms = [available_capacity(cloud, ps) for ps in storages if ps["state"] == "Enabled"]
        return can_plug(vm) and max(rooms, default=0) > volume["size"]
    host = local_host(cloud, volume["uuid"])
    root_host = local_host(cloud, vm.get("rootVolumeUuid"))
    is_near = host is None or host == root_host == vm.get("hostUuid", host)
    return is_near and can_plug(vm) and can_use(cloud, vm, volume)


@behaviour
def get_volume_capabilities(cloud: Cloud, call: Call) -> Item:
    """Answer what the primary storage of a volume can do, nothing before it is Ready."""
    is_ready = cloud.get("Volume", call["uuid"])["status"] == "Ready"
    return answer_truths(cloud, call) if is_ready else {"capabilities": {}}


@named_in_rows
def measure_volume(cloud: Cloud, volume: Item, call: Call) -> None:
    """Set the size of the file of a volume, with the sizes of its snapshots."""
    if volume["status"] == "Ready":
        uuid, snapshots = volume["uuid"], cloud.store.table("VolumeSnapshot")
        size = size_of_file(cloud, volume) + snapshots.total("volumeUuid", uuid, space_of)
        cloud.change("Volume", uuid, actualSize=size)


def size_of_file(cloud: Cloud, volume: Item) -> int:
    """Return the bytes of the file of a volume. It starts empty above a snapshot."""
    for snapshot in cloud.find("VolumeSnapshot", "volumeUuid", volume["uuid"]):
        if snapshot["status"] != "Creating" and not volume["installPath"].startswith("ceph:"):
            return EMPTY_DISK
    return volume["actualSize"]


@named_in_rows
def volumes_beside(cloud: Cloud, volume: Item, call: Call) -> Item | None:
    """Return the number of the data volumes of a root volume's machine, or None without any."""
    number = len(cloud.find("Volume", "vmInstanceUuid", volume["vmInstanceUuid"])) - 1
    return {"number": number} if number else None


@named_in_rows
def lacks_networks(cloud: Cloud, volume: Item, call: Call) -> bool:
    """Return True if the cluster of a host lacks a network of the machine of a volume."""
    cluster = cloud.get("Host", call["destHostUuid"])["clusterUuid"]
    return not has_networks(cloud, cluster, volume["vmInstanceUuid"])


@named_in_rows
def can_hold_volume(cloud: Cloud, host: Item, call: Call) -> bool:
    """Return True if a host has room for a local volume, and the networks of its machine."""
    volume = cloud.get("Volume", call["volumeUuid"])
    ps = cloud.get("PrimaryStorage", volume["primaryStorageUuid"])
    size = cloud.store.table("VolumeSnapshot").total("volumeUuid", volume["uuid"], space_of)
    has_room = free_on_host(cloud, ps, host["uuid"]) >= size + volume["size"]
    return has_room and has_networks(cloud, host["clusterUuid"], volume.get("vmInstanceUuid"))


@named_in_rows
def resize_volume(cloud: Cloud, volume: Item, call: Call) -> None:
    storage_with_room(cloud, volume.get("primaryStorageUuid"), call["size"] - volume["size"])
    cloud.change("Volume", volume["uuid"], size=call["size"])


@named_in_rows
def expunge_volume_later(cloud: Cloud, volume: Item, call: Call) -> None:
    expunge(cloud, "Volume", volume["uuid"])


@on("removed", "Account")
def delete_volumes_of_account(cloud: Cloud, account: Item) -> None:
    """Delete the data volumes of a removed account, which belong to nobody then."""
    for volume in cloud.find("Volume", "owner", account["uuid"]):
        if volume["type"] == "Data":
            changes = {"status": "Deleted", "vmInstanceUuid": None, "owner": None}
            cloud.change("Volume", volume["uuid"], **changes)
            expunge(cloud, "Volume", volume["uuid"])


@on("removed", "PrimaryStorage")
def clean_up_after_primary_storage(cloud: Cloud, ps: Item) -> None:
    """Remove what was on a removed primary storage: virtual machines, volumes and pools.

    The pools go by name, whatever storage they are of (CephPrimaryStorageBase.java).
    """
    for volume in cloud.find("Volume", "primaryStorageUuid", ps["uuid"]):
        remove_record(cloud, volume["uuid"])
        if volume["type"] == "Root":
            cloud.remove("VmInstance", volume["vmInstanceUuid"])
    for pool in cloud.find("CephPrimaryStoragePool", "primaryStorageUuid", ps["uuid"]):
        for same in cloud.find("CephPrimaryStoragePool", "poolName", pool["poolName"]):
            cloud.remove("CephPrimaryStoragePool", same["uuid"])


@named_in_rows
def move_to_storage(cloud: Cloud, volume: Item, call: Call) -> None:
    move_volume(cloud, volume, call["dstPrimaryStorageUuid"])


# snapshots


@named_in_rows
def hang_in_tree(cloud: Cloud, snapshot: Item, call: Call) -> None:
    """Put a new snapshot below the latest one of the current tree.

    A new tree begins if there is none, if its chain is long enough, and for each snapshot of Ceph.
    """
    volume, latest = cloud.get("Volume", snapshot["volumeUuid"]), {}
    for other in cloud.find("VolumeSnapshot", "volumeUuid", volume["uuid"]):
        tree = cloud.look("VolumeSnapshotTree", other.get("treeUuid"))
        if other["latest"] and tree.get("current"):
            latest = other
    tree, distance = latest.get("treeUuid"), latest.get("distance", 1)
    is_full = distance >= longest_chain(cloud, volume["uuid"])
    branch = {"treeUuid": tree, "parentUuid": latest.get("uuid"), "distance": distance + 1}
    if not tree or is_full or volume["installPath"].startswith("ceph:"):
        if tree:
            cloud.change("VolumeSnapshotTree", tree, current=False)
        new_tree = cloud.add("VolumeSnapshotTree", volumeUuid=volume["uuid"])
        branch = {"treeUuid": new_tree["uuid"], "distance": 0 if tree else 1}
    else:
        cloud.change("VolumeSnapshot", latest["uuid"], latest=False)
    cloud.change("VolumeSnapshot", snapshot["uuid"], **branch)


def make_latest(cloud: Cloud, volume: Uuid, snapshot: Item | None = None) -> None:
    """Make a snapshot the latest one of its tree, and that the current one, or let none be so."""
    wanted = snapshot or {}
    for tree in cloud.find("VolumeSnapshotTree", "volumeUuid", volume):
        is_current = tree["uuid"] == wanted.get("treeUuid")
        cloud.change("VolumeSnapshotTree", tree["uuid"], current=is_current)
    for other in cloud.find("VolumeSnapshot", "volumeUuid", volume):
        if wanted.get("treeUuid") in (None, other["treeUuid"]):
            is_latest = other["uuid"] == wanted.get("uuid")
            cloud.change("VolumeSnapshot", other["uuid"], latest=is_latest)


@named_in_rows
def place_snapshot(cloud: Cloud, snapshot: Item, call: Call) -> None:
    """Give a snapshot the file of its volume, which goes on in a new one, but not on Ceph."""
    uuid, volume = snapshot["uuid"], cloud.get("Volume", snapshot.get("volumeUuid", ""))
    path, ps, size = volume["installPath"], volume["primaryStorageUuid"], snapshot["size"]
    if not size:
        size = size_of_file(cloud, volume)
    place: Item = {"size": size, "primaryStorageUuid": ps, "primaryStorageInstallPath": path}
    if path.startswith("ceph:"):
        place |= {"type": "Storage", "primaryStorageInstallPath": f"{path}@{uuid}"}
    cloud.change("Volume", volume["uuid"], installPath=path_beside(path, f"snapshots/{uuid}"))
    if host := local_host(cloud, volume["uuid"]):
        add_local_ref(cloud, "VolumeSnapshotVO", uuid, ps, host, size)
    cloud.change("VolumeSnapshot", uuid, **place)


@named_in_rows
def reset_root_volume(cloud: Cloud, vm: Item, call: Call) -> None:
    """Leave the content of a root volume in a snapshot. The next one begins a new tree.

    The sources are VmInstanceBase.reimageVmInstance, VolumeSnapshotManagerImpl.java.
    """
    volume = cloud.get("Volume", vm["rootVolumeUuid"])
    snapshot = cloud.add(
        "VolumeSnapshot",
        name="reimage-vm-point",
        description=f"save snapshot for reimage vm [uuid:{vm['uuid']}]",
        type=None,
        volumeUuid=volume["uuid"],
        volumeType=volume["type"],
        format=volume["format"],
        size=volume["size"],
    )
    hang_in_tree(cloud, snapshot, call)
    place_snapshot(cloud, snapshot, call)
    make_latest(cloud, volume["uuid"])
    path = path_beside(volume["installPath"], cloud.uuid())
    cloud.change("Volume", volume["uuid"], installPath=path)


def path_beside(path: str, name: str) -> str:
    """Return the path of another file in the folder of a volume. The object of Ceph stays."""
    if path.startswith("ceph:"):
        return path
    return f"{path.rpartition('/')[0].removesuffix('/snapshots')}/{name}.qcow2"


def longest_chain(cloud: Cloud, volume: Uuid) -> int:
    """Return the number of snapshots that a chain may have: a tag of the volume, or configured."""
    text = rest_of_tag(cloud, volume, "volumeMaxIncrementalSnapshotNum::") or ""
    number = int_of(text)
    if number is None:
        return configured(cloud, "volumeSnapshot", "incrementalSnapshot.maxNum")
    return number


@behaviour(snapshot="Take the snapshots")
def create_volumes_snapshot(cloud: Cloud, call: Call) -> Stages:
    """Take a snapshot of each volume, all at the same moment."""
    api = cloud.catalogue.apis["CreateVolumeSnapshot"]
    snapshots = []
    for uuid in call["volumeUuids"]:
        name = f"snapshot-of-{cloud.look('Volume', uuid)['name']}"
        params = {"volumeUuid": uuid, "name": name}
        snapshots.append(create(cloud, replace(call, api=api, params=params)))
    for snapshot in snapshots:
        next(snapshot)
    yield "snapshot"
    inventories = []
    for snapshot in snapshots:
        body = yield from snapshot
        inventories.append(body["inventory"])
    return {"inventories": inventories}


@named_in_rows
def revert_volume(cloud: Cloud, snapshot: Item, call: Call) -> None:
    """Make a snapshot the latest one of its tree, and that the current one of the volume.

    The volume goes on in a new file, with the size that it had. On Ceph, the file stays.
    """
    volume = cloud.get("Volume", snapshot.get("volumeUuid", ""))
    path = path_beside(volume["installPath"], cloud.uuid())
    size = snapshot.get("volumeSize") or volume["size"]
    cloud.change("Volume", volume["uuid"], installPath=path, size=size)
    make_latest(cloud, volume["uuid"], snapshot)


def branch_of(cloud: Cloud, snapshot: Item) -> list[Item]:
    """Return a snapshot with all below it."""
    branch = [snapshot]
    for other in branch:  # it grows by what is below
        branch += cloud.find("VolumeSnapshot", "parentUuid", other["uuid"])
    return branch


@named_in_rows
def needs_merge(cloud: Cloud, snapshot: Item, call: Call) -> bool:
    """Return True if the latest snapshot of the current tree is at or below one.

    Then the chain above it is merged into the volume, but not on Ceph.
    """
    if not cloud.look("VolumeSnapshotTree", snapshot["treeUuid"]).get("current"):
        return False
    branch = branch_of(cloud, snapshot)
    return any(other["latest"] and other.get("type") != "Storage" for other in branch)


@named_in_rows
def begin_to_delete_branch(cloud: Cloud, snapshot: Item, call: Call) -> None:
    """Set the status of a snapshot and of all below it."""
    for other in branch_of(cloud, snapshot):
        cloud.change("VolumeSnapshot", other["uuid"], status="Deleting")


@named_in_rows
def remove_branch(cloud: Cloud, snapshot: Item, call: Call) -> None:
    """Remove a snapshot with all below it, from the leaves to the first."""
    for other in reversed(branch_of(cloud, snapshot)):
        cloud.remove("VolumeSnapshot", other["uuid"])


@on("removed", "VolumeSnapshot")
def mend_tree(cloud: Cloud, snapshot: Item) -> None:
    """Make the parent of a removed snapshot the latest one, and remove an empty tree."""
    parent = snapshot.get("parentUuid")
    if snapshot["latest"] and cloud.look("VolumeSnapshot", parent):
        cloud.change("VolumeSnapshot", parent, latest=True)
    if not cloud.find("VolumeSnapshot", "treeUuid", snapshot["treeUuid"]):
        cloud.remove("VolumeSnapshotTree", snapshot["treeUuid"])


@on("computed", "VolumeSnapshotTree.tree")
def tree_of_snapshots(cloud: Cloud, tree: Item) -> Item | None:
    """Return the first snapshot of a tree, with those below it as children.

    The source is VolumeSnapshotTree.java.
    """
    snapshots = cloud.find("VolumeSnapshot", "treeUuid", tree["uuid"])
    snapshots.sort(key=lambda snapshot: (snapshot["createDate"], snapshot.get("distance", 1)))
    leaves: dict[Uuid, Item] = {}
    root = None
    for snapshot in snapshots:
        inventory = cloud.inventory("VolumeSnapshot", snapshot)
        leaves[snapshot["uuid"]] = {"inventory": inventory, "children": []}
    for snapshot in snapshots:
        leaf, parent = leaves[snapshot["uuid"]], leaves.get(snapshot.get("parentUuid"))
        if parent:
            leaf["parentUuid"] = snapshot["parentUuid"]
            parent["children"].append(leaf)
        else:
            root = root or leaf
    return root


# images


@named_in_rows
def has_no_usable_storage(cloud: Cloud, item: Item, call: Call) -> bool:
    uuids = call["backupStorageUuids"]
    return not any(is_usable(cloud.get("BackupStorage", uuid)) for uuid in uuids)


@named_in_rows
def choose_backup_storage(cloud: Cloud, image: Item, call: Call) -> None:
    """Add a copy of an image on each given backup storage that is usable, to be downloaded."""
    for uuid in dict.fromkeys(call["backupStorageUuids"]):
        if is_usable(cloud.get("BackupStorage", uuid)):
            add_copy(cloud, image, uuid, "Downloading")


def add_copy(cloud: Cloud, image: Item, bs: Uuid, status: str) -> None:
    """Add a copy of a new image on a backup storage. It has no path yet."""
    place = {"imageUuid": image["uuid"], "backupStorageUuid": bs, "installPath": ""}
    cloud.add("ImageBackupStorageRef", status=status, **place)


def refuse_snapshot(snapshot: Item, message: str) -> ApiError:
    """Return the error of a snapshot that is not Ready (VolumeSnapshotTreeBase.java)."""
    name = f"snapshot[uuid:{snapshot['uuid']}, name:{snapshot['name']}]"
    place = f"message[org.zstack.header.storage.snapshot.{message}]"
    details = f"{name}'s status[{snapshot['status']}] is not allowed for {place}"
    return ApiError("VOLUME_SNAPSHOT.1000", f"{details}, allowed status[Ready]")


def storages_for_image(
    cloud: Cloud, call: Call, zone: Uuid, size: int
) -> tuple[list[Uuid], dict[Uuid, ApiError]]:
    """Return the backup storage that can take an image, and the error of each that cannot.

    If the call names none, the first one of all is returned.
    """
    uuids = dict.fromkeys(call["backupStorageUuids"] or ())
    wanted = [cloud.get("BackupStorage", uuid) for uuid in uuids]
    conditions = f"available capacity > {size} bytes, status = Connected, state = Enabled"
    storages, errors = [], {}
    for bs in wanted or cloud.store.in_order("BackupStorage"):
        is_near = zone in bs["attachedZoneUuids"]
        if is_near and is_usable(bs) and room_for_images(cloud, bs) > size:
            storages.append(bs["uuid"])
        else:
            place = f"backup storage[uuid:{bs['uuid']}]"
            reason = f"can not satisfy one or more conditions[{conditions}]"
            details = f"{place} {reason}, or it doesn't attach to zone[uuid:{zone}]"
            errors[bs["uuid"]] = refused(details)
    if wanted:
        return storages, errors
    reason = f"satisfies conditions[{conditions}, attached zone uuid={zone}]"
    return storages[:1], {"": refused(f"no backup storage that {reason} found")}


def no_storage_for_template(cloud: Cloud, call: Call, errors: list[ApiError]) -> ApiError:
    """Return the error of a template for which there is no backup storage.

    Templates of snapshots, of root volumes and of data volumes differ (ImageManagerImpl.java).
    """
    uuids = f"[{', '.join(call['backupStorageUuids'] or ())}]"
    bodies = json.dumps([cloud.catalogue.error_body(error) for error in errors])
    if call["snapshotUuid"]:
        place = f"volume snapshot[uuid:{call['snapshotUuid']}] on backup storage[uuids:{uuids}]"
        details = f"failed to create template from the {place}"
        return ApiError("SYS.1006", details, causes=errors)
    if call["rootVolumeUuid"]:
        place = f"backup storage specified by uuids{uuids}"
        details = f"unable to allocate {place}, list errors are: {bodies}"
        return refused(details) if call["backupStorageUuids"] else errors[0]
    if not call["backupStorageUuids"]:
        return refused("cannot find proper backup storage", errors[0])
    place = f"all backup storage[uuid:{uuids}]"
    return refused(f"failed to allocate {place}, a list of error: {bodies}")


@named_in_rows
def allocate_backup_storage(cloud: Cloud, image: Item, call: Call) -> None:
    """Add a copy of a template on each given backup storage that can take it, else on any."""
    snapshot = cloud.look("VolumeSnapshot", call["snapshotUuid"])
    volume = cloud.look("Volume", call["rootVolumeUuid"] or call["volumeUuid"])
    storage = (snapshot or volume).get("primaryStorageUuid")
    zone = cloud.look("PrimaryStorage", storage).get("zoneUuid", "")
    storages, errors = storages_for_image(cloud, call, zone, image.get("actualSize", 0))
    if snapshot and snapshot["status"] != "Ready":
        storages = []
        errors = {"": refuse_snapshot(snapshot, "CreateTemplateFromVolumeSnapshotMsg")}
    if not storages:
        raise no_storage_for_template(cloud, call, [*errors.values()])
    for bs in storages:
        add_copy(cloud, image, bs, "Creating")
    if snapshot:
        for uuid, error in errors.items():
            error_body = cloud.catalogue.error_body(error)
            call.failures.append({"backupStorageUuid": uuid, "error": error_body})
    elif call["rootVolumeUuid"]:
        cloud.change("Image", image["uuid"], owner=volume.get("owner"))
    else:
        cloud.change("Image", image["uuid"], platform=None)


FILES = {  # directory and suffix of an image file, by media type (BackupStoragePathMaker.java)
    "RootVolumeTemplate": ("rootVolumeTemplates", "template"),
    "DataVolumeTemplate": ("dataVolumeTemplates", "volume"),
    "ISO": ("dataVolumeTemplates", "iso"),
}


@named_in_rows
def complete_image(cloud: Cloud, image: Item, call: Call) -> None:
    """Make an image Ready, with all its copies. The file of a template has its uuid as name."""
    uuid, url, copies = image["uuid"], image["url"], []
    directory, suffix = FILES[image["mediaType"]]
    name = uuid if url.startswith("volume") else os.path.splitext(os.path.basename(url))[0]
    path = f"{directory}/acct-{image.get('owner') or ADMIN}/{uuid}/{name}.{suffix}"
    for ref in image["backupStorageRefs"]:
        bs = cloud.get("BackupStorage", ref["backupStorageUuid"])
        place = f"{bs['url']}/{path}"
        if "poolName" in bs:
            place = f"{bs['type'].lower()}://{bs['poolName']}/{uuid}"
        changes = {"status": "Ready", "installPath": place, "lastOpDate": cloud.stamp()}
        copies.append(ref | changes)
    cloud.change("Image", uuid, status="Ready", backupStorageRefs=copies)


@named_in_rows
def download_image(cloud: Cloud, image: Item, call: Call) -> None:
    """Download an image to each of its backup storages. One that fails is left out."""
    copies, errors = [], []
    for ref in image["backupStorageRefs"]:
        bs = cloud.get("BackupStorage", ref["backupStorageUuid"])
        room = room_for_images(cloud, bs)
        if not is_usable(bs):
            message = "org.zstack.header.storage.backup.DownloadImageMsg"
            name = "state" if bs["state"] != "Enabled" else "status"
            reason = f"because its {name} is {bs[name]}"
            errors.append(refused(f"backup storage cannot proceed message[{message}] {reason}"))
        elif room <= IMAGE_SIZE:
            errors.append(refused(
                f"the backup storage[uuid:{bs['uuid']}, name:{bs['name']}] has not enough capacity "
                f"to download the image[{image['name']}].Required size:{IMAGE_SIZE}, available "
                f"size:{room}"
            ))  # fmt: skip
        else:
            copies.append(ref)
    if not copies:
        uuids = ", ".join(ref["backupStorageUuid"] for ref in image["backupStorageRefs"])
        place = f"Failed to download image[name:{image['name']}] on all backup storage[{uuids}]."
        raise ApiError("SYS.1002", place, causes=errors)
    if image["url"].startswith("upload://"):
        cloud.clock.after(30, functools.partial(end_upload, cloud, image["uuid"]), "upload")
        return
    changes: Item = {"size": IMAGE_SIZE, "actualSize": IMAGE_SIZE, "backupStorageRefs": copies}
    changes["url"] = re.sub(r"(?<=://)([^/@:]*):[^/@]*(?=@)", r"\1", image["url"])
    cloud.change("Image", image["uuid"], md5Sum=digest(image["uuid"]), **changes)
    complete_image(cloud, image | changes, call)


IMAGE_SIZE = 10 * GIB


def end_upload(cloud: Cloud, uuid: Uuid) -> None:
    """Remove an image to which nobody uploads anything (ImageManagerImpl.java)."""
    if cloud.look("Image", uuid).get("status") == "Downloading":
        cloud.remove("Image", uuid)
        cloud.clock.spawn(cloud.store.try_commit())


def with_status(cloud: Cloud, copies: list[Item], status: str, chosen: list[Item]) -> list[Item]:
    """Return the copies of an image, the chosen ones with another status."""
    changes = {"status": status, "lastOpDate": cloud.stamp()}
    return [ref | changes if ref in chosen else ref for ref in copies]


def copies_on(copies: list[Item], storages: list[Uuid] | None) -> list[Item]:
    """Return the copies on some backup storages, or all."""
    return [ref for ref in copies if not storages or ref["backupStorageUuid"] in storages]


def is_reached(cloud: Cloud, ref: Item) -> bool:
    return is_usable(cloud.look("BackupStorage", ref["backupStorageUuid"]))


@behaviour
def delete_image(cloud: Cloud, call: Call) -> None:
    delete_copies(cloud, cloud.get("Image", call["uuid"]), call["backupStorageUuids"])


def delete_copies(cloud: Cloud, image: Item, storages: list[Uuid] | None) -> None:
    """Delete the copies of an image on some backup storages, or all. They wait to be expunged.

    An image that is not complete is removed.
    """
    uuid, copies = image["uuid"], image["backupStorageRefs"]
    if is_incomplete(image) or not copies:
        cloud.remove("Image", uuid)
        return
    deleted = copies_on(copies, storages)
    if not deleted:
        details = "you must call then() to add flow before calling start() or allowEmptyFlow()"
        raise ApiError("SYS.1000", f"{details} to run empty flow chain on purpose")
    if configured(cloud, "image", "deletionPolicy") == "Direct":
        deleted = [ref for ref in deleted if is_reached(cloud, ref)]
        keep_copies(cloud, image, [ref for ref in copies if ref not in deleted])
        return
    keep_copies(cloud, image, with_status(cloud, copies, "Deleted", deleted))
    expunge(cloud, "Image", uuid)


def keep_copies(cloud: Cloud, image: Item, copies: list[Item]) -> None:
    """Leave an image with some copies. It is Deleted while all are, and removed with the last."""
    if not copies:
        cloud.remove("Image", image["uuid"])
        return
    status = "Ready" if image["status"] == "Deleted" else image["status"]
    if all(ref["status"] == "Deleted" for ref in copies):
        status = "Deleted"
    cloud.change("Image", image["uuid"], backupStorageRefs=copies, status=status)


@on("removed", "Account")
def delete_images_of_account(cloud: Cloud, account: Item) -> None:
    """Delete the images of a removed account. Those that wait to be expunged are admin's."""
    for image in cloud.find("Image", "owner", account["uuid"]):
        cloud.change("Image", image["uuid"], owner=None)
        delete_copies(cloud, image, None)


@behaviour
def recover_image(cloud: Cloud, call: Call) -> Item:
    """Make deleted copies of an image Ready, on some backup storages or on all."""
    image = cloud.get("Image", call["imageUuid"])
    deleted = copies_on(EXPUNGING["Image"].waiting(image), call["backupStorageUuids"])
    keep_copies(cloud, image, with_status(cloud, image["backupStorageRefs"], "Ready", deleted))
    return cloud.inventory_of("Image", image["uuid"])


@behaviour
def expunge_image(cloud: Cloud, call: Call) -> None:
    """Remove the deleted copies of an image, on some backup storages or on all."""
    image = cloud.get("Image", call["imageUuid"])
    copies = EXPUNGING["Image"].waiting(image)
    expunge_copies(cloud, image, copies_on(copies, call["backupStorageUuids"]))


@on("expunged", "Image")
def expunge_copies(cloud: Cloud, image: Item, copies: list[Item]) -> None:
    """Remove copies of an image. A GC job deletes them on a backup storage that is away."""
    keep_copies(cloud, image, [ref for ref in image["backupStorageRefs"] if ref not in copies])
    for ref in copies:
        if not is_reached(cloud, ref):
            bs, uuid = ref["backupStorageUuid"], image["uuid"]
            name = f"gc-delete-bits-{uuid}-on-backup-storage-{bs}"
            uuids = {"backupStorageUuid": bs, "imageUuid": uuid}
            job = add_gc_job(cloud, name, "image.BackupStorageDeleteBitGC", "TimeBased", **uuids)
            collect_later(cloud, job["uuid"])


def collect_later(cloud: Cloud, uuid: Uuid) -> None:
    """Try a GC job in each interval until it is Done."""

    def try_again() -> None:
        job = cloud.look("GarbageCollector", uuid)
        if job.get("status", "Done") == "Done":
            return
        collect(cloud, job)
        cloud.clock.spawn(cloud.store.try_commit())
        collect_later(cloud, uuid)

    interval = configured(cloud, "image", "deletion.gcInterval")
    cloud.clock.after(interval, try_again, f"GC job {uuid}")


@named_in_rows
def takes_images_of_volume(cloud: Cloud, bs: Item, call: Call) -> bool:
    """Return True if a backup storage works with the primary storage of a volume or snapshot."""
    volume = cloud.look("Volume", call["volumeUuid"])
    volume = volume or cloud.look("VolumeSnapshot", call["volumeSnapshotUuid"])
    ps = cloud.get("PrimaryStorage", volume["primaryStorageUuid"])
    return works_with(bs, ps) and ps["zoneUuid"] in bs["attachedZoneUuids"]


@behaviour(export="Export the image")
def export_image_from_backup_storage(cloud: Cloud, call: Call) -> Stages:
    """Return an address from which to fetch an image."""
    yield "export"
    image = cloud.get("Image", call["imageUuid"])
    bs = cloud.get("BackupStorage", call["backupStorageUuid"])
    url = f"http://{bs['hostname']}:8001/imagestore/export/{image['uuid']}.{image['format']}"
    cloud.change("Image", image["uuid"], exportUrl=url, exportMd5Sum=image.get("md5Sum"))
    return {"imageUrl": url}


@behaviour
def get_images_from_image_store_backup_storage(cloud: Cloud, call: Call) -> Item:
    """Return the images of an image store (ImageStoreImageStruct)."""
    infos = []
    for image in cloud.find("Image", "backupStorageRefs.backupStorageUuid", call["uuid"]):
        if image["status"] != "Ready":
            continue
        infos.append({
            "id": image["uuid"],
            "name": image["name"],
            "desc": image.get("description", ""),
            "size": image.get("actualSize", 0),
            "arch": "x86_64",
            "blobsum": image.get("md5Sum", ""),
            "virtualsize": image.get("size", 0),
            "created": us_date(image["createDate"]),
        })  # fmt: skip
    return {"infos": infos}


@behaviour(copy="Copy the image")
def sync_image_from_image_store_backup_storage(cloud: Cloud, call: Call) -> Stages:
    return copy_image(cloud, call)


@behaviour(copy="Copy the image")
def recovery_image_from_image_store_backup_storage(cloud: Cloud, call: Call) -> Stages:
    return copy_image(cloud, call)


def copy_image(cloud: Cloud, call: Call) -> Stages:
    """Add an image that is the copy of another one in another image store."""
    yield "copy"
    image, uuid = cloud.get("Image", call["uuid"]), cloud.uuid()
    copies = []
    for ref in image["backupStorageRefs"]:
        if ref["backupStorageUuid"] == call["srcBackupStorageUuid"]:
            place = {"imageUuid": uuid, "backupStorageUuid": call["dstBackupStorageUuid"]}
            copies.append(ref | place)
    image |= {
        "uuid": uuid,
        "name": call["name"],
        "description": call["description"],
        "backupStorageRefs": copies,
        "exportUrl": None,
        "exportMd5Sum": None,
    }
    cloud.add("Image", **image)
    return cloud.inventory_of("Image", uuid)


# ---- Behaviours: tags ----------------------------------------------------------------------------

@on("tagging", "")
def check_tag(
    cloud: Cloud, tag: str, vo: str, uuid: Uuid | None = None, l3: Uuid | None = None
) -> None:
    """Refuse a system tag of an object: by the rules for tags, or for what others have.

    `l3` is the default network of a virtual machine that is being created.
    """
    for rule in cloud.catalogue.tag_rules:
        parts = parts_of(rule.tag, tag) if rule.type == vo else None
        scope = Scope(cloud, item=parts).where(rule.condition) if parts else None
        if scope:
            raise ApiError("SYS.1007", scope.text(rule.details))
    if vo == "VmInstanceVO":
        l3 = l3 or cloud.look("VmInstance", uuid).get("defaultL3NetworkUuid")
        refuse_taken_hostname(cloud, tag, uuid, l3)
        static = parts_of("staticIp::{l3}::{ip}", tag)
        own_ips = [nic.get("ip") for nic in cloud.find("VmNic", "vmInstanceUuid", uuid)]
        if static and static["ip"] not in own_ips:
            network, ip = static.values()
            if is_taken(cloud, network, ip) or not range_with(cloud, network, ip):
                raise refused(f"IP[{ip}] is not available on the L3 network[uuid:{network}]")


def refuse_taken_hostname(cloud: Cloud, tag: str, vm: Uuid | None, l3: Uuid | None) -> None:
    """Refuse a hostname that another virtual machine on a network has."""
    for other in cloud.find("SystemTag", "tag", tag) if tag.startswith("hostname::") else ():
        uuid = other["resourceUuid"]
        l3s = [nic.get("l3NetworkUuid") for nic in cloud.find("VmNic", "vmInstanceUuid", uuid)]
        if l3 in l3s and uuid != vm:
            owner = f"a VM[uuid:{uuid}] having hostname[{tag.partition('::')[2]}]"
            place = f"on L3 network[uuid:{l3}]"
            details = f"conflict hostname in system tag[{tag}]; there has been {owner} {place}"
            raise ApiError("SYS.1007", details)


@on("called", "")
def check_tags_of_call(cloud: Cloud, call: Call) -> None:
    """Refuse wrong system tags of a call that makes something (TagManagerImpl.java)."""
    is_free = cloud.dialect["free-system-tags"] or call.api.bare
    rows = cloud.catalogue.resources
    for tag in call.system_tags:
        is_known = any(row.allows_tag(tag) for row in rows.values())
        if not is_free and not is_known and not tag.startswith("ephemeral::"):
            raise ApiError("SYS.1007", f"no system tag matches {tag}")
        if call.api.creates:
            vo = f"{rows[call.api.type].stored}VO"
            check_tag(cloud, tag, vo, l3=call["defaultL3NetworkUuid"])
    if not call.api.creates or call.api.type != "VmInstance":
        return
    tags = [tag.partition("::") for tag in call.system_tags]
    names = Counter(name for name, _, _ in tags)
    if names["hostname"] > 1:
        raise ApiError("SYS.1007", "only one hostname system tag is allowed, but 2 got")
    if names["userdata"] > 1:
        details = "Shouldn't be more than one userdata systemTag for one vm."
        raise ApiError("SYS.1007", details)
    macs = Counter(rest.partition("::")[2].lower() for name, _, rest in tags if name == "customMac")
    for mac, count in macs.items():
        if count > 1:
            raise refused(f"Not allowed same mac [{mac}]")


def tagged_resource(cloud: Cloud, vo: str) -> Resource:
    """Return the resource that ZStack names by its entity, as HostVO."""
    row = cloud.catalogue.resource_of_vo(vo)
    if row:
        return row
    entities = [f"{name}VO" for name in cloud.catalogue.resources]
    hint = f"unknown resourceType{did_you_mean(vo, entities)}"
    raise ApiError("SYS.1007", f"no resource type[{vo}] found in tag system", hint=hint)


def check_pattern(cloud: Cloud, tag: str, vo: str) -> None:
    row = cloud.catalogue.resource_of_vo(vo)
    if not cloud.dialect["free-system-tags"] and not row.allows_tag(tag):
        raise ApiError("SYS.1007", f"no system tag matches[{tag}] for resourceType[{vo}]")


def has_tag(cloud: Cloud, type: str, call: Call) -> bool:
    """Return True if the object of a call has its tag already."""
    for tag in cloud.find(type, "resourceUuid", call["resourceUuid"]):
        is_same = folded(tag["tag"]) == folded(call["tag"])
        if is_same and tag["resourceType"] == call["resourceType"]:
            return True
    return False


def add_tag(cloud: Cloud, type: str, call: Call) -> Item:
    names = ("resourceUuid", "resourceType", "tag")
    tag = cloud.add(type, **{name: call[name] for name in names})
    return cloud.inventory_of(type, tag["uuid"])


@behaviour
def create_system_tag(cloud: Cloud, call: Call) -> Item:
    """Add a system tag. One that is there already is a success without an inventory.

    The source is TagManagerImpl.java.
    """
    vo, uuid, tag = call["resourceType"], call["resourceUuid"], call["tag"]
    row = tagged_resource(cloud, vo)
    check_pattern(cloud, tag, vo)
    if not cloud.store.peek(row.stored, uuid):
        raise ApiError("SYS.1007", "The argument :'resourceType' doesn't match uuid")
    if has_tag(cloud, "SystemTag", call):
        return {}
    check_tag(cloud, tag, vo, uuid)
    return add_tag(cloud, "SystemTag", call)


@behaviour
def update_system_tag(cloud: Cloud, call: Call) -> Item:
    tag = cloud.get("SystemTag", call["uuid"])
    check_pattern(cloud, call["tag"], tag["resourceType"])
    if tag["tag"] != call["tag"]:
        check_tag(cloud, call["tag"], tag["resourceType"], tag["resourceUuid"])
        cloud.change("SystemTag", tag["uuid"], tag=call["tag"])
    return cloud.inventory_of("SystemTag", tag["uuid"])


@behaviour
def create_user_tag(cloud: Cloud, call: Call) -> Item:
    tagged_resource(cloud, call["resourceType"])
    if has_tag(cloud, "UserTag", call):
        place = f"resourceType:{call['resourceType']}, resourceUuid:{call['resourceUuid']}"
        raise refused(f"Duplicated Tag[tag:{call['tag']}, type:User, {place}]")
    return add_tag(cloud, "UserTag", call)


# ---- Behaviours: long jobs -----------------------------------------------------------------------


class LongRuns(dict[Uuid, Run]):
    """The long jobs under way, by uuid."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__()


def draw_seconds(cloud: Cloud, api: Api, long: bool = False) -> Seconds:
    """Return the duration of a call, drawn from --delay, or that of a long job from --long-delay.

    It depends on the seed, the API and the number of its calls, not on other calls.
    """
    delay, factor = cloud.settings.delay, 1
    if long and cloud.settings.long_delay:
        delay = cloud.settings.long_delay
    elif long:
        factor = 10
    low, high = seconds_range(delay)
    cloud.draws[api.name, long] += 1
    if low == high:
        return factor * low
    seed = f"{cloud.settings.seed}/{api.name}/{cloud.draws[api.name, long]}/{long}"
    return factor * (low + (high - low) * random.Random(seed).random())


def api_of_long_job(cloud: Cloud, name: str) -> Api | None:
    """Return the API of the name of a long job: APIAddImageMsg is AddImage."""
    api = cloud.catalogue.apis.get(name.removeprefix("API").removesuffix("Msg"))
    return api if api and api.long and name == f"API{api.name}Msg" else None


def check_job_name(cloud: Cloud, params: Item) -> None:
    name = params["jobName"]
    if not api_of_long_job(cloud, name):
        names = sorted(f"API{api.name}Msg" for api in cloud.catalogue.apis.values() if api.long)
        raise BadParameter(f"{name} is not an API", f"jobName is one of {', '.join(names)}")


def inner_call(cloud: Cloud, call: Call) -> Call:
    """Return the call that a long job makes, from its jobData."""
    api = api_of_long_job(cloud, call["jobName"])
    try:
        arguments = load_json(call["jobData"])
    except (TypeError, ValueError) as error:
        raise ApiError("SYS.1000", f"jobData is no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ApiError("SYS.1000", "jobData is no JSON object")
    if api.target and call["targetResourceUuid"]:
        arguments.setdefault(api.target.name, call["targetResourceUuid"])
    return replace(
        call,
        api=api,
        params=cloud.check(api, arguments),
        system_tags=texts_in(arguments.get("systemTags")),
        user_tags=texts_in(arguments.get("userTags")),
    )


@checks_parameters(check_job_name)
@behaviour
def submit_long_job(cloud: Cloud, call: Call) -> Item:
    """Begin a long job, if nothing keeps its call from beginning.

    Deleting what is gone already has succeeded.
    """
    inner = inner_call(cloud, call)
    is_gone = cloud.is_gone(inner)
    if not is_gone:
        cloud.validate(inner, is_submitted=True)
    names = ("description", "jobName", "targetResourceUuid")
    values = {name: call[name] for name in names}
    values |= {"uuid": call["resourceUuid"], "name": call["name"] or call["jobName"]}
    tags = {"systemTags": inner.system_tags, "userTags": inner.user_tags}
    values["jobData"] = json.dumps(inner.params | {key: tags[key] for key in tags if tags[key]})
    job = new_long_job(cloud, call, **values)
    if is_gone:
        end_long_job(cloud, job["uuid"], None)
        return cloud.inventory_of("LongJob", job["uuid"])
    run_long_job(cloud, job["uuid"], inner, draw_seconds(cloud, call.api, long=True))
    return {"inventory": cloud.inventory("LongJob", job)}


@named_in_rows
def begin_update(cloud: Cloud, cluster: Item, call: Call) -> None:
    """Take the hosts of a cluster out of use, but for those that another update has taken.

    Refuse if one is the NFS server of a virtual machine that is not Stopped.
    """
    servers = set()
    for vm in cloud.store.rows("VmInstance"):
        if vm["state"] != "Stopped":
            servers.add(storage_of_root(cloud, vm).get("url", "").partition(":/")[0])
    hosts = cloud.find("Host", "clusterUuid", cluster["uuid"])
    busy = [host["managementIp"] for host in hosts if host["managementIp"] in servers]
    if busy:
        cure = "stop releated vm instances before update host os."  # sic
        raise refused(f"nfs server running on hosts [{','.join(busy)}], {cure}")
    for host in hosts:
        if host["state"] not in ("PreMaintenance", "Maintenance"):
            changes = {"state": "PreMaintenance", "stateBefore": host["state"]}
            cloud.change("Host", host["uuid"], updateJob=call.job, **changes)


@named_in_rows
def end_update(cloud: Cloud, cluster: Item, call: Call) -> None:
    """Take hosts with new packages into use again, and note how each of them has fared."""
    results = {}
    for host in cloud.find("Host", "clusterUuid", cluster["uuid"]):
        results[host["uuid"]] = "success"
        if host["status"] != "Connected":
            results[host["uuid"]] = "host is not in the connected status, cannot update os"
        if host.get("updateJob") == call.job:
            changes = {"state": host["stateBefore"], "stateBefore": None, "updateJob": None}
            cloud.change("Host", host["uuid"], **changes)
            reconnect_later(cloud, host, call)
        elif host["state"] != "Maintenance":
            results[host["uuid"]] = "host is in the premaintenance state, cannot update os"
    for job in cloud.find("LongJob", "apiId", call.job):
        cloud.change("LongJob", job["uuid"], jobResult=json.dumps(results))


@behaviour
def update_cluster_os(cloud: Cloud, call: Call) -> Item:
    """Begin a long job, though nobody submits one: each call of this API is one."""
    name, packages = f"API{call.api.name}Msg", ",".join(call["excludePackages"] or ())
    values = {"uuid": call["resourceUuid"], "name": name, "jobName": name}
    values["jobData"] = f"{{'uuid':'{call.target}', 'excludePackages':'{packages}'}}"  # sic
    job = new_long_job(cloud, call, **values)
    run_long_job(cloud, job["uuid"], call, draw_seconds(cloud, call.api, long=True))
    return {"inventory": cloud.inventory("LongJob", job)}


def new_long_job(cloud: Cloud, call: Call, **values: Any) -> Item:
    node = management_node(cloud)["uuid"]
    job = cloud.add("LongJob", apiId=call.job, state="Running", managementNodeUuid=node, **values)
    cloud.tag_new(call, "LongJob", job["uuid"])
    return job


def run_long_job(
    cloud: Cloud, uuid: Uuid, call: Call, seconds: Seconds, began: Seconds | None = None
) -> None:
    """Do the work of a long job, which began at a date. It fails when its time limit is over."""
    runs = cloud.part(LongRuns)
    inner = replace(call, long=True, fault=NO_FAULT)

    def done(body: Any, error: ApiError | None) -> None:
        end_long_job(cloud, uuid, error)

    run = runs[uuid] = Run(cloud.jobs, inner, seconds, done, began)
    limit = configured(cloud, "longJob", "longJob.api.timeout")
    if not 0 < limit < seconds:
        return

    def time_out() -> None:
        if runs.get(uuid) is run:
            message = f"Message[name: {call.api.message}, id: {call.job}]"
            run.fail(ApiError("SYS.1001", f"{message} timeout after {limit} seconds"))

    cloud.clock.at_second(run.began + limit, time_out, f"timeout of long job {uuid}")


def end_long_job(cloud: Cloud, uuid: Uuid, error: ApiError | None) -> None:
    """Set the state and the result of a long job whose work is over, but for a canceled one."""
    cloud.part(LongRuns).pop(uuid, None)
    job = cloud.look("LongJob", uuid)
    if not job or job["state"] == "Canceled":
        return
    state, result = "Succeeded", job.get("jobResult", "Succeeded")
    if error:
        state = "Failed"
        result = "Failed : " + json.dumps(cloud.catalogue.error_body(error), ensure_ascii=False)
        sentence = "long job[uuid:%s] failed: %s"
        cloud.notify(sentence, [uuid, error.details], "LongJobVO", uuid, "Error")
    cloud.change("LongJob", uuid, state=state, jobResult=result)
    cloud.clock.spawn(cloud.store.try_commit())


def long_job_json(cloud: Cloud, job: Item) -> Item:
    """Return a long job as GET /zmock/jobs shows it."""
    run, state = cloud.part(LongRuns).get(job["uuid"]), job["state"].lower()
    progress = 1 if state == "succeeded" else None
    return {
        "uuid": job["uuid"],
        "name": job["name"],
        "jobName": job["jobName"],
        "state": state,
        "progress": run.percent(cloud.clock.steady()) / 100 if run else progress,
        "resourceUuid": job.get("targetResourceUuid"),
    }


@named_in_rows
def cancel_long_run(cloud: Cloud, job: Item, call: Call) -> None:
    """End a long job soon if it can be cancelled.

    Those of the open-source edition go on to their end (LongJobManagerImpl.java).
    """
    uuid = job["uuid"]

    def cancel() -> None:
        run = cloud.part(LongRuns).get(uuid)
        if cloud.store.peek("LongJob", uuid):  # its account may have been deleted meanwhile
            cloud.change("LongJob", uuid, state="Canceled")
        if run:
            run.fail(refused("canceled"))
        cloud.clock.spawn(cloud.store.try_commit())

    api = api_of_long_job(cloud, job["jobName"])
    if api and api.long == "cancellable":
        cloud.clock.after(0, cancel, f"cancel long job {uuid}")


# progress (manual 4.3)


@behaviour
def get_task_progress(cloud: Cloud, call: Call) -> Item:
    """Return the newest row with its ancestors, root first, or all, inside each other."""
    job = cloud.look("Job", call["apiId"]).get("uuid", call["apiId"])
    progress = cloud.jobs.progress.get(job)
    if not progress:
        return {"inventories": []}
    root, children = task_rows(cloud, progress)
    if call["all"]:
        return {"inventories": [root | {"subTasks": children}]}
    return {"inventories": [root, *children[-1:]]}


def task_rows(cloud: Cloud, progress: Run) -> tuple[Item, list[Item]]:
    """Return the root row of an operation, and a row for each stage that began."""
    job, api, is_long = progress.call.job, progress.call.api, progress.call.long
    words = spaced(api.name)
    root = task_row(cloud, progress, f"{job}/0", words, progress.began)
    root["taskName"] = f"class {api.message}" if is_long else api.message
    children = []
    moments = progress.stage_starts or [progress.began]
    for number, (sentence, moment) in enumerate(zip(progress.stages.values(), moments), 1):
        row = task_row(cloud, progress, f"{job}/{number}", sentence, moment, root, number)
        children.append(row | {"taskName": words})
    if is_long:
        now = cloud.clock.steady()
        percent, moment = str(progress.percent(now)), min(now, max(progress.due, progress.began))
        row = task_row(cloud, progress, f"{job}/percent", percent, moment, root, len(children))
        children.append(row | {"taskName": words, "type": "Progress"})
    return root, children


def task_row(
    cloud: Cloud,
    progress: Run,
    seed: str,
    content: str,
    moment: Seconds,
    parent: Item | None = None,
    step: int = 0,
) -> Item:
    uuid = digest(seed)
    row: Item = {"taskUuid": uuid, "type": "Task", "content": content}
    row["time"] = int(cloud.clock.date_of(moment) * 1000)
    if parent:
        row["parentUuid"] = parent["taskUuid"]
    if cloud.dialect["task-progress-fields"]:
        row["taskId"] = uuid
        row["totalSteps"] = max(1, len(progress.stages))
        row["currentStep"] = step or max(1, len(progress.stage_starts))
        if parent:
            row["parentId"] = parent["taskUuid"]
    return row


# ---- Behaviours: schedules -----------------------------------------------------------------------

# By the type of a scheduler job: its API, and the resource and the parameter of its target.
SCHEDULED = {
    "startVm": ("StartVmInstance", "VmInstance", "uuid"),
    "stopVm": ("StopVmInstance", "VmInstance", "uuid"),
    "rebootVm": ("RebootVmInstance", "VmInstance", "uuid"),
    "volumeSnapshot": ("CreateVolumeSnapshot", "Volume", "volumeUuid"),
}
# The parameters of the call by their names in a scheduler job.
PARAMETER_NAMES = {  # APICreateVolumeSnapshotSchedulerJobMsg.java
    "snapshotName": "name",
    "snapShotName": "name",
    "volumeSnapshotDescription": "description",
}
LAST_STOP = 2147454847  # the end of MySQL's timestamps (SchedulerApiInterceptor.java)
MISFIRE = 60  # seconds after the beginning of a trigger in which added jobs run for it (Quartz)
MOST_RUNS = 20_000  # of jobs, in one move of the Clock


# triggers


def next_moment(cloud: Cloud, trigger: Item, since: Seconds) -> Seconds | None:
    """Return the first date of a trigger that is not before another, None if it has ended."""
    if cron := read_cron(str(trigger.get("cron"))):
        offset = cloud.clock.utc_offset
        second = cron.next(math.ceil(since + offset))
        return None if second is None else second - offset
    if not trigger.get("startTime"):
        return None
    begin = cloud.clock.date_of_stamp(trigger["startTime"])
    interval = trigger.get("schedulerInterval", 0)
    most = trigger.get("repeatCount") or (math.inf if interval > 0 else 1)
    passed = max(0, math.ceil((since - begin) / max(1, interval)))
    return begin + passed * interval if passed < most else None


@named_in_rows
def set_times(cloud: Cloud, trigger: Item, call: Call) -> None:
    """Set the beginning of a simple trigger, and its end if it has one. A beginning at 0 is now."""
    if trigger["schedulerType"] != "simple":
        return
    begin = call["startTime"] or math.floor(cloud.clock.now())
    if call["startTime"] is None and trigger.get("startTime"):
        begin = cloud.clock.date_of_stamp(trigger["startTime"])
    length = (trigger.get("repeatCount") or 0) * (trigger.get("schedulerInterval") or 0)
    if begin + length > LAST_STOP:
        raise ApiError("SYS.1007", "stopTime out of mysql timestamp range")
    stop = cloud.clock.stamp(begin + length) if length else None
    start = cloud.clock.stamp(begin)
    cloud.change("SchedulerTrigger", trigger["uuid"], startTime=start, stopTime=stop)


@behaviour
def get_available_triggers(cloud: Cloud, call: Call) -> Item:
    """Return the triggers that have not stopped."""
    now, inventories = cloud.clock.stamp(), []
    for trigger in cloud.queries_of(call).tables.in_order("SchedulerTrigger"):
        if trigger.get("stopTime", "9") >= now:
            inventories.append(cloud.inventory("SchedulerTrigger", trigger))
    return {"inventories": inventories}


# scheduler jobs


class ScheduleTimers(dict[Uuid, Timer]):
    """The timers of scheduler jobs, by the uuid of what ties a job to its trigger."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__()


def scheduled_call(cloud: Cloud, job: Item, uuid: Uuid = "") -> Call:
    """Return the call that a scheduler job makes. Raise SYS.1007 for a target of another type."""
    name, type, target = SCHEDULED.get(job.get("type"), ("", "", ""))
    if not name or not cloud.store.peek(type, job["targetResourceUuid"]):
        kind = f"what a job of type[{job.get('type')}] is for"
        details = f"resource[uuid:{job['targetResourceUuid']}] is not {kind}"
        raise ApiError("SYS.1007", details)
    arguments, parameters = {"name": job["name"]}, job.get("parameters")
    if isinstance(parameters, dict):
        for key, value in parameters.items():
            arguments[PARAMETER_NAMES.get(key, key)] = value
    arguments[target] = job["targetResourceUuid"]
    api = cloud.catalogue.apis[name]
    return Call(api, cloud.check(api, arguments), job=uuid)


@named_in_rows
def check_scheduled_call(cloud: Cloud, job: Item, call: Call) -> None:
    """Refuse a new job whose call could not be made."""
    scheduled_call(cloud, job)


def plan(cloud: Cloud, tie: Item, since: Seconds) -> None:
    """Set the timer of an enabled job to the first date of its trigger from `since` on."""
    timers, uuid = cloud.part(ScheduleTimers), tie["uuid"]
    if uuid in timers:
        timers.pop(uuid).cancel()
    due = next_moment(cloud, cloud.look("SchedulerTrigger", tie["schedulerTriggerUuid"]), since)
    is_enabled = cloud.look("SchedulerJob", tie["schedulerJobUuid"]).get("state") == "Enabled"
    if due is not None and is_enabled:
        name = f"run scheduler job {tie['schedulerJobUuid']}"
        timers[uuid] = cloud.clock.at(due, lambda: run_scheduled_job(cloud, uuid), name)


def run_scheduled_job(cloud: Cloud, uuid: Uuid) -> None:
    """Make the call of a job as an api-job, unless the job or the management node is disabled.

    A notification tells if that is refused.
    """
    cloud.part(ScheduleTimers).pop(uuid, None)
    tie = cloud.look("SchedulerJobSchedulerTrigger", uuid)
    if not tie:
        return
    plan(cloud, tie, math.floor(cloud.clock.now()) + 1)
    job = cloud.look("SchedulerJob", tie["schedulerJobUuid"])
    if state_of_scheduler_job(cloud, job) != "Enabled" or cloud.outages.nodes_away:
        return
    try:
        call = scheduled_call(cloud, job, cloud.uuid())
    except ApiError as error:
        sentence, arguments = "scheduler job[uuid:%s] cannot run: %s", [job["uuid"], error.details]
        cloud.notify(sentence, arguments, "SchedulerJobVO", job["uuid"], "Error")
        return
    call.seconds = draw_seconds(cloud, call.api)
    cloud.note_caller(call)
    call.account = call.user = job.get("owner", ADMIN)
    cloud.jobs.submit(call)


@on("computed", "SchedulerJob.state")
def state_of_scheduler_job(cloud: Cloud, job: Item) -> str | None:
    """Return Disabled for a job whose target waits to be expunged."""
    target = job.get("targetResourceUuid")
    for row in EXPUNGING.values():
        if row.type != "Image" and row.waits(cloud.look(row.type, target)):
            return "Disabled"
    return job.get("state")


@named_in_rows
def plan_new_tie(cloud: Cloud, tie: Item, call: Call) -> None:
    """Plan a job that is tied to a trigger, for its beginning too if that was just now."""
    trigger = cloud.look("SchedulerTrigger", call["schedulerTriggerUuid"])
    since = now = cloud.clock.now()
    if trigger.get("startTime"):
        begin = cloud.clock.date_of_stamp(trigger["startTime"])
        since = begin if 0 <= now - begin < MISFIRE else now
    plan(cloud, tie, since)


@named_in_rows
def plan_ties(cloud: Cloud, item: Item, call: Call) -> None:
    """Plan anew what is tied to a changed scheduler job or trigger."""
    for key in ("schedulerJobUuid", "schedulerTriggerUuid"):
        for tie in cloud.find("SchedulerJobSchedulerTrigger", key, item["uuid"]):
            plan(cloud, tie, cloud.clock.now())


def plan_all(cloud: Cloud) -> None:
    """Plan all jobs for a clock that shows another time. Runs that it passed over are not made."""
    for tie in [*cloud.store.rows("SchedulerJobSchedulerTrigger")]:
        plan(cloud, tie, cloud.clock.now())


def follow_dates(cloud: Cloud, seconds: Seconds) -> None:
    """Plan all jobs anew if the system's clock was set back by more than a correction.

    After a correction all stay on their dates, so that none runs twice. Runs that a clock which was
    set forth passed over are made once, and late: the timers are dated.
    """
    if seconds < -MISFIRE:
        plan_all(cloud)


def refuse_many_runs(cloud: Cloud, until: Seconds) -> None:
    """Raise TooFar if jobs would run too often until a date."""
    runs = 0
    for uuid, timer in cloud.part(ScheduleTimers).items():
        tie = cloud.look("SchedulerJobSchedulerTrigger", uuid)
        trigger = cloud.look("SchedulerTrigger", tie.get("schedulerTriggerUuid"))
        due = timer.due if trigger else None
        while due is not None and due <= until:
            runs += 1
            due = next_moment(cloud, trigger, due + 1)
            if runs > MOST_RUNS:
                jobs = f"those of trigger {trigger['name']} among them"
                raise TooFar(f"scheduler jobs would run more than {MOST_RUNS} times, {jobs}")


# ---- Behaviours: licences ------------------------------------------------------------------------


# management node (manual 4.1)


@behaviour
def get_version(cloud: Cloud, call: Call) -> Item:
    return {"version": "2.5.1"}


@behaviour
def get_current_time(cloud: Cloud, call: Call) -> Item:
    now = cloud.clock.now()
    milliseconds, seconds = int(now * 1000), int(now)
    # The words of ApiMediatorImpl.java.
    return {"currentTime": {"MillionSeconds": milliseconds, "Seconds": seconds}}


@behaviour
def is_ready_to_go(cloud: Cloud, call: Call) -> Item | None:
    uuid = call["managementNodeId"] or management_node(cloud)["uuid"]
    if not cloud.store.peek("ManagementNode", uuid):
        raise ApiError("SYS.1009", f"No route to management node[uuid:{uuid}]")
    return {"managementNodeId": uuid} if cloud.dialect["is-ready"] else None


@behaviour
def is_opensource_version(cloud: Cloud, call: Call) -> Item:
    return {"opensource": True}


@on("computed", "ManagementNode.heartBeat")
def heart_beat(cloud: Cloud, node: Item) -> Stamp:
    interval = configured(cloud, "managementServer", "node.heartbeatInterval")
    return cloud.clock.stamp(cloud.clock.now() // interval * interval)


@behaviour
def update_notifications_status(cloud: Cloud, call: Call) -> None:
    for uuid in call["uuids"]:
        if cloud.store.peek("Notification", uuid):
            cloud.change("Notification", uuid, status=call["status"])


# licences (manual 4.7)

LICENSE_FIELDS = {
    "licenseType": str,
    "expiredDate": str,
    "issuedDate": str,
    "user": str,
    "hostNum": int,
    "cpuNum": int,
}


def license_of(cloud: Cloud) -> Item:
    return next(iter(cloud.store.rows("License")))


def license_date(cloud: Cloud, days: int) -> Stamp:
    return cloud.clock.stamp(cloud.clock.now() + days * DAY)


def community_license(cloud: Cloud) -> Item:
    """Return the licence that ZStack falls back to when none is installed."""
    request = {"thumbprint": management_node(cloud)["uuid"], "version": "2.5.1"}
    return {
        "licenseType": "Community",
        "hostNum": 2147483647,
        "cpuNum": 2147483647,
        "licenseRequest": base64.b64encode(json.dumps(request).encode()).decode(),
        "issuedDate": license_date(cloud, 0),
        "user": "",
        "expiredDate": "",
    }


@on("computed", "License.expiredDate")
@on("computed", "LicenseAddOn.expiredDate")
def end_of_license(cloud: Cloud, row: Item) -> Stamp | None:
    """Return the end of a licence: an earlier one while an incident lasts, unless it is renewed."""
    own_end = row.get("expiredDate")
    end_then, end_now = cloud.outages.licenses.get(row["uuid"], (None, None))
    return end_now if end_now and own_end == end_then else own_end


@on("computed", "License.expired")
@on("computed", "LicenseAddOn.expired")
def is_expired(cloud: Cloud, row: Item) -> bool:
    end = end_of_license(cloud, row)
    return bool(end) and end <= cloud.clock.stamp()


@on("computed", "License.availableHostNum")
def available_hosts(cloud: Cloud, row: Item) -> int:
    return max(0, row["hostNum"] - cloud.store.count("Host"))


@on("computed", "License.availableCpuNum")
def available_sockets(cloud: Cloud, row: Item) -> int:
    sockets = sum(host.get("cpuSockets", 0) for host in cloud.store.rows("Host"))
    return max(0, row["cpuNum"] - sockets)


def shown_license(cloud: Cloud) -> Item:
    inventory = cloud.inventory("License", license_of(cloud))
    return {"inventory": {name: value for name, value in inventory.items() if value != ""}}


@behaviour
def get_license_info(cloud: Cloud, call: Call) -> Item:
    return shown_license(cloud)


@behaviour
def reload_license(cloud: Cloud, call: Call) -> Item:
    return shown_license(cloud)


@behaviour
def get_license_capabilities(cloud: Cloud, call: Call) -> Item:
    if cloud.dialect["license-capabilities"]:
        return {}
    row = license_of(cloud)
    capabilities: Item = {"hostNum": row["hostNum"], "cpuNum": row["cpuNum"]}
    for addon in cloud.store.rows("LicenseAddOn"):
        if not is_expired(cloud, addon):
            capabilities |= dict.fromkeys(addon["modules"], True)
    return {"capabilities": capabilities}


@behaviour
def get_license_add_ons(cloud: Cloud, call: Call) -> Item:
    rows = cloud.store.rows("LicenseAddOn")
    return {"addons": [cloud.inventory("LicenseAddOn", row) for row in rows]}


@behaviour
def delete_license(cloud: Cloud, call: Call) -> None:
    row, uuid = license_of(cloud), call["uuid"]
    if uuid in (None, row["uuid"]):
        cloud.change("License", row["uuid"], **community_license(cloud))
    elif cloud.store.peek("LicenseAddOn", uuid):
        cloud.remove("LicenseAddOn", uuid)
    else:
        raise missing("uuid", uuid, "LicenseAddOn")


@behaviour
def update_license(cloud: Cloud, call: Call) -> Item:
    """Install a licence from any text.

    The base64 of a JSON object sets the fields that it names.
    """
    changes: Item = {"licenseType": "Paid"}
    changes |= {"issuedDate": license_date(cloud, 0), "expiredDate": license_date(cloud, 365)}
    changes |= license_fields(cloud, call["license"])
    cloud.change("License", license_of(cloud)["uuid"], **changes)
    return shown_license(cloud)


def license_fields(cloud: Cloud, text: str) -> Item:
    """Return the fields that the base64 text of a JSON object names, none for any other text.

    Raise SYS.1007 for an illegal value.
    """
    try:
        values = load_json(base64.b64decode(text, validate=True).decode("utf-8-sig"))
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    for name, value in values.items():
        kind = LICENSE_FIELDS.get(name)
        if kind is None:
            better = did_you_mean(name, LICENSE_FIELDS)
            raise ApiError("SYS.1007", f"a license has no field {name}{better}")
        right = a_noun(kind.__name__)
        is_right = isinstance(value, kind) and not isinstance(value, bool)
        if is_right and name.endswith("Date"):
            right, is_right = "a date such as 2017-02-05 19:44:21", cloud.clock.is_stamp(value)
        if not is_right:
            raise ApiError("SYS.1007", f"{name} of a license is {right}, not {value!r}")
    return values


# ---- Behaviours: monitoring ----------------------------------------------------------------------

OWN_SHARE = 0.05  # of a host, for itself
MOST_RATE = 100 << 20  # bytes a second that an object reads, writes, receives or sends itself
MOST_VALUES = 120_000  # that a call computes
LONG_SPANS = {"m": 60, "h": 3600, "d": DAY}  # seconds


# what objects use


def levels(cloud: Cloud, uuid: Uuid, load: str, times: range) -> list[float]:
    """Return how busy an object is at some times, from 0.05 to 0.9: a daily wave with noise.

    A level follows from the seed, the object, the load and the time alone.
    """
    chance = random.Random(f"{cloud.settings.seed} {uuid} {load}")
    mean, phase, salt = chance.uniform(0.2, 0.6), chance.uniform(0, DAY), chance.getrandbits(32)
    jitter = 0.02 if load == "memory" else 0.15
    busy = []
    for second in times:
        wave = math.sin((second + phase) / DAY * math.tau)
        noise = zlib.crc32(b"%d %d" % (salt, second // 10)) / 0xFFFFFFFF
        busy.append(mean + wave * 0.15 + noise * jitter)
    return busy


def size_for(item: Item, load: str) -> int:
    """Return the processors, the bytes of memory, or the bytes a second of an object."""
    sizes = {"cpu": cpus_of(item), "memory": memory_of(item) or item.get("totalMemoryCapacity")}
    return sizes.get(load, MOST_RATE) or 1


def usage(cloud: Cloud, item: Item, load: str, times: range) -> list[float]:
    """Return what an object uses at some times. A host also uses what its virtual machines use.

    They share its processors and its memory if it has promised more than it has.
    """
    size: float = size_for(item, load)
    host, promise = item.get("hostUuid"), {"cpu": cpus_of, "memory": memory_of}.get(load)
    if not host:
        size *= OWN_SHARE
    elif promise:
        promised = cloud.store.table("VmInstance").total("hostUuid", host, promise)
        size *= min(1, size_for(cloud.look("Host", host), load) / (promised or 1))
    amounts = [size * level for level in levels(cloud, item["uuid"], load, times)]
    for vm in cloud.find("VmInstance", "hostUuid", item["uuid"]):
        later = working_times(cloud, vm, times)
        for index, amount in enumerate(usage(cloud, vm, load, later), len(times) - len(later)):
            amounts[index] += amount
    return amounts


def working_times(cloud: Cloud, item: Item, times: range) -> range:
    """Return the times since the start of an object, none if it does not work now."""
    state = item["state"] if "memorySize" in item else item["status"]
    if state not in ("Running", "Rebooting", "Migrating", "Connected"):
        return times[:0]
    start = cloud.clock.date_of_stamp(item.get("startDate") or item["createDate"])
    return times[bisect.bisect_left(times, start) :]


# series


def seconds_of(span: str) -> int:
    """Return the seconds of a span: "90" and "90s" are 90."""
    return int(span.rstrip("smhd")) * LONG_SPANS.get(span[-1], 1)


def times_of(cloud: Cloud, params: Item) -> range:
    """Return the seconds of the points that a call wants, by default of the last minute."""
    now = int(cloud.clock.now())
    end = params.get("endTime", now)
    span = params.get("offsetAheadOfCurrentTime") or seconds_of(params.get("relativeTime", "1m"))
    start = max(0, params.get("startTime", end - span))
    period = params.get("period") or seconds_of(params.get("step", "0"))
    times = range(start, min(end, now) + 1, period or max(10, (end - start) // 100))
    return times[-1:] if params.get("instant") else times


def metric_of(cloud: Cloud, params: Item) -> tuple[Metric, dict[str, list[str]]]:
    """Return the metric that a call names, and the values of labels that it wants.

    Raise BadParameter for the name of a metric or of a label that is unknown.
    """
    namespace, name = params.get("namespace", "Prometheus"), params.get("metricName")
    texts = params.get("labels") or params.get("filterLabels") or []
    if "expression" in params:
        name, _, inner = params["expression"].rstrip("}").partition("{")
        texts = filter(str.strip, inner.split(","))
    wanted = {"exported_instance": params["vmUuids"]} if "vmUuids" in params else {}
    for text in texts:
        label, _, value = text.partition("=")
        wanted[label.strip()] = value.strip('~ "').split("|")
    key, metrics = f"{namespace} {name}", cloud.catalogue.metrics
    if key not in metrics:
        hint = did_you_mean(key, metrics)[2:]
        raise BadParameter(f"the namespace[{namespace}] has no metric[{name}]", hint)
    labels = metrics[key].labels
    for label in (*wanted, *params.get("labelNames", ())):
        if label not in labels:
            details = f"metric[{name}] of the namespace[{namespace}] has no label named {label}"
            raise BadParameter(details, f"its labels are {', '.join(labels)}")
    return metrics[key], wanted


def series_of(cloud: Cloud, call: Call) -> Iterator[tuple[Item, list[tuple[int, float]]]]:
    """Yield the labels and the points of each series that a call wants.

    Raise SYS.1006 for too many values.
    """
    metric, wanted = metric_of(cloud, call.params)
    times, room = times_of(cloud, call.params), MOST_VALUES
    for item in cloud.queries_of(call).tables.in_order(metric.type):
        later = working_times(cloud, item, times)
        count = cpus_of(item) if "cpu" in metric.labels.values() else 1
        vms = cloud.find("VmInstance", "hostUuid", item["uuid"])
        for number in range(count if later else 0):
            values = item | {"cpu": str(number)}
            labels = {name: values.get(key, key) for name, key in metric.labels.items()}
            if all(labels[name] in texts for name, texts in wanted.items()):
                room -= len(later) * (1 + len(vms))
                if room < 0:
                    hint = "choose a longer period, a shorter time, or fewer series by their labels"
                    details = f"the call needs more than {MOST_VALUES} values"
                    raise ApiError("SYS.1006", details, hint=hint)
                # the processors are not equally busy
                tilt = 1 + (number - (count - 1) / 2) / count / 10
                yield labels, points_of(cloud, metric, item, later, tilt)


def points_of(
    cloud: Cloud, metric: Metric, item: Item, times: range, tilt: float
) -> list[tuple[int, float]]:
    """Return the points of a series, as the metric shows what the object uses."""
    size, points = size_for(item, metric.load), []
    for second, used in zip(times, usage(cloud, item, metric.load, times)):
        value = size - used * tilt if "free" in metric.shows else used * tilt
        if "%" in metric.shows:
            value *= 100 / size
        points.append((second, round(value, 2)))
    return points


# ZWatch and Prometheus


@behaviour
def get_all_metric_metadata(cloud: Cloud, call: Call) -> Item:
    metrics = []
    for metric in cloud.catalogue.metrics.values():
        if metric.namespace != "Prometheus":
            names = {"namespace": metric.namespace, "name": metric.name}
            metrics.append(names | {"labelNames": [*metric.labels]})
    return {"metrics": metrics}


@checks_parameters(metric_of)
@behaviour
def get_metric_data(cloud: Cloud, call: Call) -> Item:
    points = []
    for labels, series in series_of(cloud, call):
        points += [{"value": value, "time": second, "labels": labels} for second, value in series]
    return {"data": points}


@checks_parameters(metric_of)
@behaviour
def get_metric_label_value(cloud: Cloud, call: Call) -> Item:
    """Return each combination of the values that labels have now."""
    combinations = {}
    for labels, _ in series_of(cloud, call):
        values = tuple(labels[name] for name in call["labelNames"])
        combinations[values] = dict(zip(call["labelNames"], values))
    return {"labels": [*combinations.values()]}


@checks_parameters(metric_of)
@behaviour
def prometheus_query_pass_through(cloud: Cloud, call: Call) -> Item:
    """Return series as Prometheus does: a matrix, or a vector of single points (instant)."""
    result = []
    for labels, points in series_of(cloud, call):
        values = [[second, str(value)] for second, value in points]
        shown = {"value": values[0]} if call["instant"] else {"values": values}
        result.append({"metric": labels} | shown)
    kind = "vector" if call["instant"] else "matrix"
    body = {"status": "success", "data": {"resultType": kind, "result": result}}
    return {"inventories": body}


@checks_parameters(metric_of)
@behaviour
def prometheus_query_vm_monitoring_data(cloud: Cloud, call: Call) -> Item:
    return prometheus_query_pass_through(cloud, call)


# ---- Clouds --------------------------------------------------------------------------------------

NAMESPACE = UUIDv5("5a537461-636b-5000-8000-7a6d6f636b21")
SHA512_OF_PASSWORD = hashlib.sha512(b"password").hexdigest()
LOGIN = json.dumps({"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}})
DEMO_FILE = Path(__file__).parent / "data" / "demo.json"


def named(name: str) -> str:
    """Return the uuid of an object of the demo cloud, the same in every mock: named("vm-web-1")."""
    return uuid5(NAMESPACE, name).hex


def is_cloud_file(cloud: str) -> bool:
    """Return True if --cloud names a file."""
    if cloud in ("demo", "empty") or cloud.startswith("large:"):
        return False
    return cloud.endswith(".json") or "/" in cloud or os.path.exists(cloud)


def fill(cloud: Cloud, name: str) -> None:
    """Fill an empty cloud with the one that --cloud names.

    Raise SettingsError for a name or a file that is no cloud.
    """
    with cloud.store.all_or_nothing():
        if name == "empty":
            add_basics(cloud)
        elif name == "demo":
            add_demo(cloud)
        elif name.startswith("large:"):
            if not re.fullmatch(r"large:\d{1,7}", name):
                raise SettingsError(f"--cloud large:N needs a number, not {name!r}")
            add_large(cloud, int(name.removeprefix("large:")))
        elif is_cloud_file(name):
            settings = replace(cloud.settings, memory=True, clock="frozen")
            loaded = load_cloud(name, settings, cloud.catalogue, cloud.clock.now())
            add_loaded(cloud, loaded)
        else:
            better = did_you_mean(name, ("demo", "empty", "large:1000"))
            raise SettingsError(
                f"--cloud is demo, empty, large:N or a JSON file, not {name!r}{better}"
            )


def add_basics(cloud: Cloud) -> None:
    """Add the objects that even an empty ZStack has.

    They are its management node, the admin, a licence, and the providers of network services.
    """
    cloud.add(
        "ManagementNode",
        uuid=named("management-node"),
        hostName=cloud.settings.host,
        joinDate=cloud.clock.stamp(),
    )
    cloud.add(
        "Account", uuid=ADMIN, name="admin", type="SystemAdmin", password=SHA512_OF_PASSWORD
    )
    cloud.add("License", uuid=named("license"), **community_license(cloud))
    add_console_agent(cloud)
    for provider in cloud.catalogue.providers:
        cloud.add(
            "NetworkServiceProvider",
            uuid=named(f"provider-{provider.type}"),
            name=provider.name or provider.type,
            description=provider.description,
            type=provider.type,
            networkServiceTypes=[*provider.services],
            attachedL2NetworkUuids=[],
        )


def add_console_agent(cloud: Cloud) -> None:
    """Add the agent that takes browsers to consoles, unless it is there."""
    if cloud.store.count("ConsoleProxyAgent"):
        return
    uuid = management_node(cloud)["uuid"]
    cloud.add(
        "ConsoleProxyAgent",
        uuid=uuid,
        managementIp=management_node(cloud)["hostName"],
        description=f"Console proxy agent running on the management node[uuid:{uuid}]",
    )


# the demo cloud


def add_demo(cloud: Cloud) -> None:
    """Add the demo cloud, a small data centre that is a month old."""
    add_loaded(cloud, demo_of(cloud))
    # What clients create has the same uuids, whatever the demo cloud is made of.
    cloud.random = random.Random(f"{cloud.settings.seed}/0")


def demo_of(cloud: Cloud) -> LoadedCloud:
    """Return the demo cloud as a cloud with these settings loads it."""
    return loaded_demo(cloud.catalogue, cloud.settings.host, cloud.settings.utc_offset)


@functools.lru_cache(maxsize=8)
def loaded_demo(catalogue: Catalogue, host: str, utc_offset: float) -> LoadedCloud:
    """Return the demo cloud. A process loads its file once."""
    if not DEMO_FILE.exists():
        raise SettingsError(
            f"{DEMO_FILE} is missing: it holds the demo cloud, and belongs in data/ "
            "beside zmock.py; get it from where zmock.py came from"
        )
    settings = Settings(memory=True, clock="frozen", host=host, utc_offset=utc_offset)
    return load_cloud(str(DEMO_FILE), settings, catalogue)


def resume_long_jobs(cloud: Cloud) -> None:
    """Go on with the Running long jobs of a cloud file that have a `duration`, in seconds."""
    for job in [*cloud.store.rows("LongJob")]:
        is_under_way = job["uuid"] in cloud.part(LongRuns)
        if job["state"] == "Running" and job.get("duration") and not is_under_way:
            cloud.creation_moment = cloud.clock.date_of_stamp(job["createDate"])
            call = call_of_long_job(cloud, job)
            run_long_job(cloud, job["uuid"], call, job["duration"], cloud.creation_moment)
            cloud.creation_moment = None


def call_of_long_job(cloud: Cloud, job: Item) -> Call:
    """Return the call that a long job makes. Raise KeyError or ApiError where it cannot be made."""
    check_job_name(cloud, job)
    submitted = cloud.catalogue.apis["SubmitLongJob"]
    account = job.get("owner", ADMIN)
    return inner_call(cloud, Call(submitted, job, job=job["apiId"], account=account))


# large clouds

VMS_PER_HOST = 100
OF_HOST = ("clusterUuid", "zoneUuid", "hypervisorType")  # fields that a virtual machine has too
GROUND = (  # what a large cloud takes from the demo cloud
    "Zone", "Cluster", "PrimaryStorage", "BackupStorage", "Image", "InstanceOffering",
    "DiskOffering", "L2Network", "L3Network",
)  # fmt: skip


def add_large(cloud: Cloud, count: int) -> None:
    """Add a data centre with `count` running virtual machines."""
    add_basics(cloud)
    add_loaded(cloud, demo_of(cloud), GROUND)
    space = 20 * TIB + count * 10 * GIB
    cloud.change("PrimaryStorage", named("ps-nfs"), totalCapacity=space)
    call_now(
        cloud,
        "AddIpRangeByNetworkCidr",
        resourceUuid=named("range-private"),
        name="range-private",
        l3NetworkUuid=named("l3-private"),
        networkCidr="172.16.0.0/12",
    )
    hosts = [named(f"host-{n}") for n in range(max(1, math.ceil(count / VMS_PER_HOST)))]
    for n, uuid in with_progress(enumerate(hosts), len(hosts), "making the cloud: %s hosts"):
        call_now(
            cloud,
            "AddKVMHost",
            resourceUuid=uuid,
            name=f"host-{n}",
            managementIp=str(ipaddress.IPv4Address("10.0.0.0") + n),
            username="root",
            password="password",
            clusterUuid=named(f"cluster-{n % 2 + 1}"),
        )
    for n in with_progress(range(count), count, "making the cloud: %s virtual machines"):
        add_running_vm(cloud, f"vm-{n}", cloud.look("Host", hosts[n % len(hosts)]))


def call_now(cloud: Cloud, api_name: str, **params: object) -> None:
    """Make a call of admin to its end, at once."""
    api = cloud.catalogue.apis[api_name]
    work = cloud.act(Call(api, cloud.check(api, params), account=ADMIN))
    if isinstance(work, GeneratorType):
        deque(work, 0)


def add_running_vm(cloud: Cloud, name: str, host: Item) -> None:
    """Add a virtual machine to a host, without the search for one."""
    offering = cloud.look("InstanceOffering", named("offering-small"))
    image = cloud.look("Image", named("image-centos7"))
    network = named("l3-private")
    vm = cloud.add(
        "VmInstance",
        uuid=named(name),
        name=name,
        state="Running",
        instanceOfferingUuid=offering["uuid"],
        imageUuid=image["uuid"],
        platform=image["platform"],
        hostUuid=host["uuid"],
        defaultL3NetworkUuid=network,
        **{key: offering[key] for key in OFFERED},
        **{key: host[key] for key in OF_HOST},
    )
    add_nic(cloud, vm, network)
    make_volumes(cloud, vm)
    give_addresses(cloud, vm["uuid"])


# values of fields

KINDS: dict[str, tuple[Any, Any]] = {  # the JSON types of a kind, and nothing of it
    "str": (str, ""),
    "date": (str, None),
    "int": (int, 0),
    "long": (int, 0),
    "double": ((int, float), 0),
    "bool": (bool, False),
    "list": (list, []),
    "maps": (list, []),
    "map": (dict, {}),
}
ELEMENTS: dict[str, type] = {"list": str, "maps": dict}  # of a list of that kind
SIZE = re.compile("(?i)(size|capacity|num)$")  # the name of a field that is never negative
STAMP = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
)


def fits(value: object, kind: str) -> bool:
    """Return True if a field of that kind may have the value."""
    if value is None:
        return True
    if not isinstance(value, KINDS[kind][0]) or isinstance(value, bool) != (kind == "bool"):
        return False
    return kind not in ELEMENTS or all(isinstance(element, ELEMENTS[kind]) for element in value)


def complete(
    cloud: Cloud, row: Resource, item: Item, refer: Callable[[Resource, Item, str], Uuid]
) -> Item:
    """Return the fields that an item lacks and behaviours rely on.

    They come from the objects that it refers to, else they are as in a created one.
    refer(row, item, name) returns the uuid for a reference that has no default.
    """
    usual: Item = {}
    for name in ("createDate", "lastOpDate"):
        if name in row.all_fields:
            usual[name] = None
    for need in row.needs:
        name, _, default = need.partition("=")
        usual[name] = default or None
    usual |= row.new | created_fields(cloud, row.name, item)
    scope = Scope(cloud, None, row.name, item)
    for name in usual:
        if item.get(name) is not None:
            continue
        for clause in cloud.catalogue.inherited[row.name]:
            scope.apply(clause.effect)
        kind, value = row.all_fields.get(name, "str"), scope.item.get(name)
        if value is None:
            value = usual[name]
        if value is None and name in row.leads:
            value = refer(row, item, name)
        if value is None:
            value = cloud.clock.stamp() if kind == "date" else KINDS[kind][1]
        scope.set(**{name: value})
    return scope.changes


def created_fields(cloud: Cloud, type: str, item: Item) -> Item:
    """Return the fields that a created object has and its row does not say."""
    if type in ("Account", "User"):
        return {"password": SHA512_OF_PASSWORD}
    if type == "Host":
        cpus, memory = item.get("cpuNum", 16), item.get("totalMemoryCapacity", 64 * GIB)
        return default_hardware(cloud, cpus, memory)
    if type == "PrimaryStorage":
        return {"totalCapacity": 20 * TIB}
    if type == "BackupStorage":
        return dict.fromkeys(STORAGE_CAPACITIES[:2], item.get("totalCapacity", 50 * TIB))
    if type == "Notification":
        created = item.get("createDate") or cloud.clock.stamp()
        return {"time": int(cloud.clock.date_of_stamp(created) * 1000)}
    return {}


# cloud files


@dataclass
class LoadedCloud:
    """The objects of a cloud file as items, by type, and the moment that their dates count from.

    Without that moment the dates stay as they are.
    """

    image: Image
    now: Seconds | None


def load_cloud(
    path: str, settings: Settings, catalogue: Catalogue, now: Seconds = 0
) -> LoadedCloud:
    """Load a cloud file into a cloud of its own.

    Its clock stands at the "now" of the file, else at `now`: the date of all that has none.
    Raise SettingsError for a file that is no cloud.
    """
    try:
        collections = read_json(path)
    except (OSError, ValueError) as error:
        choices = "--cloud is demo, empty, large:N or a JSON file"
        raise SettingsError(f"cannot read the cloud in {path}: {error}; {choices}") from None
    cloud = new_cloud(settings, catalogue)
    cloud.clock.stopped_at = now
    return load_objects(path, collections, cloud)


def load_objects(path: str, collections: Any, cloud: Cloud) -> LoadedCloud:
    """Load the objects of a cloud file into a cloud whose clock stands."""
    file = CloudFile(path, cloud)
    objects, date = file.read(collections)
    moment = cloud.clock.date_of_stamp(date) if date else None
    if moment is not None:
        cloud.clock.stopped_at = moment
    file.load(objects)
    return LoadedCloud(cloud.store.image(), moment)


def copy_of(cloud: Cloud) -> Cloud:
    """Return a copy of a cloud in memory whose clock stands, to try something out."""
    copy = new_cloud(replace(cloud.settings, memory=True, clock="frozen"), cloud.catalogue)
    copy.clock.stopped_at = cloud.clock.now()
    copy.store.put_back(cloud.store.image())
    return copy


def add_objects(cloud: Cloud, collections: Any) -> None:
    """Add objects to a cloud, from JSON as in a cloud file. Those that are there are changed.

    Raise SettingsError for a mistake.
    """
    add_loaded(cloud, load_objects("cloud", collections, copy_of(cloud)))
    expunge_all_later(cloud)
    resume_long_jobs(cloud)
    plan_all(cloud)


def add_loaded(cloud: Cloud, loaded: LoadedCloud, types: Collection[str] = ()) -> None:
    """Add the objects of a cloud file, or those of some types. Their dates move with its "now"."""
    seconds = 0 if loaded.now is None else cloud.clock.now() - loaded.now
    documents = loaded.image.documents
    for type in types or documents:
        for item in documents[type].values():
            if item is cloud.store.peek(type, item["uuid"]):
                continue  # it was there before
            cloud.store.put(type, moved(cloud.clock, item, seconds) if seconds else item)


def moved(clock: Clock, item: Item, seconds: Seconds) -> Item:
    """Return an item with its dates `seconds` later, also those of the references in it."""
    changes: Item = {}
    for name, value in item.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            changes[name] = [moved(clock, reference, seconds) for reference in value]
        elif name == "time" and isinstance(value, int):  # of a notification, in milliseconds
            changes[name] = value + int(seconds * 1000)
        elif name.endswith(("Date", "Time")) and isinstance(value, str) and clock.is_stamp(value):
            moment = clock.date_of_stamp(value) + seconds
            changes[name] = clock.stamp(max(0, min(moment, LATEST)))
    return item | changes


NO_COLLECTIONS = ("now", "$schema")  # keys of a cloud file


class CloudFile:
    """A cloud file: {"now": DATE, "zones": [{...}], "Host": [...]}, objects by collection or type.

    An object has the fields of its inventory, and hidden ones of its row. "@name" refers to an
    object by its name. An object without a uuid has one that follows from its type and name. An
    object with a uuid that every cloud has, as that of the admin, changes that one.
    Each method raises SettingsError for a mistake, with the object and the nearest right thing.
    """

    def __init__(self, path: str, cloud: Cloud) -> None:
        self.path, self.cloud, self.catalogue = path, cloud, cloud.catalogue
        rows = self.catalogue.resources.values()
        self.inside = {(row.place.owner, row.place.list_name): row for row in rows if row.inside}
        self.basic: set[tuple[str, Uuid]] = set()  # the objects that are there without the file
        self.loaded: set[str] = set()  # the uuids in use, as folded() spells them
        self.uuids: dict[tuple[str, str], dict[Uuid, None]] = defaultdict(dict)  # by type and name
        self.nameless: Counter[str] = Counter()  # objects without a uuid, by type and name
        self.objects: list[tuple[Resource, Item]] = []
        self.parts: list[tuple[Resource, Item]] = []
        self.references: list[Reference] = []  # checked when all objects are loaded

    def refuse(self, reason: str) -> NoReturn:
        raise SettingsError(f"{self.path}: {reason}")

    def read(self, collections: Any) -> tuple[list[tuple[Resource, Item]], Stamp]:
        """Return the objects of the file with the rows of their keys, and its "now" or ""."""
        if not isinstance(collections, dict):
            self.refuse('a cloud is a JSON object {"zones": [...], ...}')
        now = collections.get("now")
        objects: list[tuple[Resource, Item]] = []
        for key, items in collections.items():
            if key in NO_COLLECTIONS:
                continue
            row = self.row_of(key)
            if not isinstance(items, list):
                self.refuse(f"{key!r} is a list of objects, not {short_json(items)}")
            objects += zip(itertools.repeat(row), items)
        try:
            json.dumps(collections, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise SettingsError(
                f"{self.path} holds half of a surrogate pair, which no text in UTF-8 has"
            ) from None
        return objects, "" if now is None else self.date("now", now, "")

    def row_of(self, key: str) -> Resource:
        """Return the row that a key of the file names, by its collection or its type."""
        collections, types = self.catalogue.collections, self.catalogue.resources
        row = collections.get(key.strip("/")) or types.get(key)
        if not row:
            likely, others = (types, collections) if key[:1].isupper() else (collections, types)
            better = did_you_mean(key, likely) or did_you_mean(key, others)
            shape = '{"zones": [...], ...}'
            self.refuse(f"{key!r} is no collection{better}; a cloud is {shape}")
        return row

    def load(self, objects: list[tuple[Resource, Item]]) -> None:
        """Put the objects of the file into its cloud, with all that a created object has."""
        if not self.cloud.store.count("ManagementNode"):
            add_basics(self.cloud)
        for type in self.catalogue.resources:
            for item in self.cloud.store.rows(type):
                self.basic.add((type, item["uuid"]))
                self.loaded.add(folded(item["uuid"]))
                self.uuids[type, item.get("name", "")][item["uuid"]] = None
        self.identify_all(objects)
        progress = f"loading {self.path}: %s objects"
        for row, item in with_progress(self.objects, len(self.objects), progress):
            self.load_item(row, item)
        for row, item in objects:
            if row.inside:
                self.load_reference(row, item)
            elif row.name == "GlobalConfig":
                self.load_configuration(item)
        rows = [row for row, _ in (*objects, *self.objects)]
        types = {row.place.owner if row.inside else row.stored for row in rows}
        spell_references(self.cloud, types)
        self.refuse_dangling()
        self.complete_all()
        self.refuse_impossible()

    # objects

    def identify_all(self, objects: list[tuple[Resource, Item]]) -> None:
        """Note the objects with their uuids, then the objects that inventories show in others."""
        for row, item in objects:
            if not row.inside and row.name != "GlobalConfig":
                self.identify(row, item)
        uuids = {str(item["uuid"]) for _, item in self.objects}
        for row, item in self.parts:  # it grows: a part has parts
            if str(item.get("uuid")) not in uuids:
                self.identify(row, item)

    def identify(self, row: Resource, item: Item) -> None:
        """Note an object with its uuid, and the objects in it that its inventory shows."""
        if not isinstance(item, dict):
            self.refuse(f"{item!r} in {row.name} is no JSON object")
        item = {name: values.split("|")[0] for name, values in row.only.items()} | item
        uuid = item["uuid"] = item.get("uuid") or self.uuid_of(row, item.get("name"))
        if isinstance(item.get("name"), str) and isinstance(uuid, str):
            self.uuids[row.stored, item["name"]][uuid] = None
        self.objects.append((row, item))
        shown = self.catalogue.subtype_row(row, item)
        for name, part_row in self.catalogue.embedded[shown.name].items():
            parts: Any = item.pop(name, None) or []
            if not fits(parts, "maps"):
                self.refuse(f"{name} of {row.name} {label_of(item)} is a list of objects")
            if not part_row.inside:
                key = shown.relations[name].theirs
                self.parts += [(part_row, part | {key: uuid}) for part in parts]

    def uuid_of(self, row: Resource, name: object) -> Uuid:
        """Return the uuid of an object that has none in the file.

        It follows from the type, the name, and the number of objects before it with that name.
        """
        text = f"{row.name}/{name}"
        self.nameless[text] += 1
        return named(text if self.nameless[text] == 1 else f"{text}/{self.nameless[text]}")

    def load_item(self, row: Resource, item: Item) -> None:
        """Store an object. Where the file gives no lastOpDate, it is the createDate."""
        item = without_nulls(self.checked(row, item))
        type, uuid, store = row.stored, item["uuid"], self.cloud.store
        if "createDate" in item:
            item = {"lastOpDate": item["createDate"]} | item
        if (type, uuid) in self.basic:
            self.basic.remove((type, uuid))
            before = store.peek(type, uuid)
            if type == "PrimaryStorage" and "availableCapacity" in before:  # see complete_all()
                item = {"availableCapacity": available_capacity(self.cloud, before)} | item
            store.put(type, before | item)
            return
        if folded(uuid) in self.loaded:
            self.refuse(f"the uuid {uuid} is there twice")
        self.loaded.add(folded(uuid))
        if type == "Host":
            item = {"status": "Connected"} | item  # a created one is, once it is there
        store.put(type, self.cloud.add(type, **item) | item)

    def load_configuration(self, item: Item) -> None:
        """Set a global configuration."""
        keys = ("category", "name", "value")
        if not isinstance(item, dict) or any(not isinstance(item.get(key), str) for key in keys):
            shape = '{"category": ..., "name": ..., "value": ...}'
            self.refuse(
                f"a global configuration is {shape}, all texts, not {short_json(item)}"
            )
        try:
            configure(self.cloud, *(item[key] for key in keys))
        except ApiError as error:
            self.refuse(error.details)

    def load_reference(self, row: Resource, item: Item) -> None:
        """Put a reference, as a network service of an L3 network, into the object that holds it."""
        place, keys = row.place, (row.place.key, row.place.value)
        if not isinstance(item, dict) or any(not isinstance(item.get(key), str) for key in keys):
            names = " and ".join(keys)
            self.refuse(f"{row.name} needs {names}, both texts, not {short_json(item)}")
        item = self.checked(row, item)
        holder = self.cloud.store.peek(place.owner, item[place.key])
        if not holder:
            self.refuse(
                f"{row.name} has the {place.key} {item[place.key]}, "
                f"and there is no such {place.owner}"
            )
        for name in ("uuid", "createDate", "lastOpDate"):
            item.pop(name, None)
        # The inventory of the holder may show it, too.
        if not any(item.items() <= reference.items() for reference in place.rows(holder)):
            self.cloud.refer(row, row.new | item)

    # fields

    def checked(self, row: Resource, item: Item, owner: str = "") -> Item:
        """Return an object with its fields as items hold them.

        A reference has no name: `owner` says where it lies, "backupStorageRefs of Image i".
        """
        for name in item.keys() - self.catalogue.item_fields(row.name).keys():
            better = did_you_mean(name, row.all_fields)
            self.refuse(f"{owner or row.name} has no field {name}{better}")
        row = self.catalogue.subtype_row(row, item)
        of = f" of {owner or row.name} {label_of(item)}".rstrip()
        for name, values in row.only.items():
            if name in item and item[name] not in values.split("|"):
                self.refuse(f"{name}{of} is {values.replace('|', ' or ')}, not {item[name]!r}")
        return {name: self.field(row, item, name, of) for name in item}

    def field(self, row: Resource, item: Item, name: str, of: str) -> object:
        """Return the value of a field as items hold it."""
        value, kind = item[name], self.catalogue.item_fields(row.name)[name]
        if not fits(value, kind):
            self.refuse(f"{name}{of} is {a_noun(kind)}, not {value!r}")
        inner = self.inside.get((row.stored, name))
        if inner and kind == "maps" and value:
            return [self.checked(inner, reference, f"{name}{of}") for reference in value]
        if type := self.type_of(row, item, name, inner):
            if isinstance(value, list):
                return [self.reference(row, name, type, element, of) for element in value]
            return self.reference(row, name, type, value, of)
        if kind == "date" and value:
            return self.date(name, value, of)
        values = self.catalogue.values_of(row, name)
        if values and isinstance(value, str) and value not in values:
            better = did_you_mean(value, values)
            self.refuse(f"{name}{of} is {' or '.join(values)}, not {value!r}{better}")
        if isinstance(value, (int, float)) and value < 0 and SIZE.search(name):
            self.refuse(f"{name}{of} is not negative, as {value} is")
        return value

    def date(self, name: str, text: str, of: str) -> Stamp:
        if not isinstance(text, str):
            self.refuse(f"{name}{of} is a date, not {json.dumps(text)}")
        try:
            stamp = stamp_from(text, self.cloud.clock.utc_offset)
        except ValueError as error:
            self.refuse(f"{name}{of}: {error}")
        if len(stamp) != 19 or stamp < "1970":  # strftime pads no years; MySQL begins in 1970
            self.refuse(f"{name}{of} is a date after 1970, not {text!r}")
        return stamp

    # references

    def type_of(self, row: Resource, item: Item, name: str, inner: Resource | None) -> str:
        """Return the type that a field refers to, or ""; that of a tag is in its resourceType."""
        if inner and row.all_fields.get(name) == "list":
            return type_referred_to(self.catalogue, inner, inner.place.value)
        type = type_referred_to(self.catalogue, row, name)
        if type == "Resource" and name == "resourceUuid":
            tagged = self.catalogue.resource_of_vo(str(item.get("resourceType")))
            return tagged.name if tagged else type
        return type

    def reference(self, row: Resource, name: str, type: str, value: object, of: str) -> object:
        """Return the uuid that a reference means: "@zone-1", or a uuid."""
        if not isinstance(value, str) or not value:
            return value
        uuid = self.uuid_named(type, value[1:], f"{name}{of}") if value[0] == "@" else value
        self.references.append(Reference(row, name, type, uuid, f"{name}{of}"))
        return uuid

    def uuid_named(self, type: str, name: str, where: str) -> Uuid:
        """Return the uuid of the only object of a type with that name."""
        uuids: dict[Uuid, None] = {}
        for stored in self.stored_types(type):
            uuids |= self.uuids.get((stored, name), {})
        if not uuids:
            better = did_you_mean(f"@{name}", [f"@{name}" for name in self.names_of(type)])
            self.refuse(f"{where}: there is no {type} named {name}{better}")
        if len(uuids) > 1:
            several = f"{counted(len(uuids), 'object')} of type {type} have the name {name}"
            self.refuse(f"{where}: {several}; refer to one by its uuid")
        return next(iter(uuids))

    def stored_types(self, type: str) -> list[str]:
        """Return the types whose objects a reference to a type may mean: all for "Resource"."""
        resources = self.catalogue.resources
        return [*resources] if type == "Resource" else [resources[type].stored]

    def names_of(self, type: str) -> dict[str, dict[Uuid, None]]:
        """Return the names that a reference to a type may mean, with their uuids."""
        types = self.stored_types(type)
        return {name: uuids for (kind, name), uuids in self.uuids.items() if name and kind in types}

    def refuse_dangling(self) -> None:
        """Raise SettingsError if a reference leads nowhere, now that all objects are loaded."""
        for reference in self.references:
            type, uuid, where = reference.type, reference.uuid, reference.where
            if self.cloud.exists(type, uuid):
                continue
            remembers = self.catalogue.resources[reference.row.stored].remembers
            if reference.name not in remembers or not re.fullmatch(UUID, uuid):
                self.refuse(f"{where} {self.why_dangling(type, uuid)}")
            why = "is not in the file; it counts as deleted"
            log.warning("%s: %s, %s, %s", self.path, where, uuid, why)

    def why_dangling(self, type: str, uuid: str) -> str:
        for row in reversed(self.catalogue.resources.values()):
            if self.cloud.exists(row.name, uuid):
                return f"is {a_noun(type)}, and {uuid} is of type {row.name}"
        words: dict[str, str] = {}
        for name, uuids in self.names_of(type).items():
            words |= {name: f"@{name}"} | {other: other for other in uuids}
        better = "".join(f", did you mean {words[near]}?" for near in nearest(uuid, words))
        return f"leads nowhere: there is no {type} {uuid}{better}"

    # the whole

    def complete_all(self) -> None:
        """Give each object what it lacks, and count what is left of hosts and storage."""
        cloud, store = self.cloud, self.cloud.store
        for row in self.catalogue.resources.values():  # an object stands behind those it refers to
            for item in self.new_items(row.name) if row.needs else ():
                if changes := complete(cloud, row, item, self.only_one):
                    store.update(row.name, item["uuid"], **changes)
        store_capacities_of_empty(cloud, self.new_items("PrimaryStorage"))

    def new_items(self, type: str) -> list[Item]:
        """Return the items of a type that the file adds or changes."""
        items = self.cloud.store.rows(type)
        return [item for item in items if (type, item["uuid"]) not in self.basic]

    def only_one(self, row: Resource, item: Item, name: str) -> Uuid:
        """Return the uuid for a reference that is left out: that of the only object there is."""
        type = row.leads[name]
        if type == "Account":
            return ADMIN
        items = [*self.cloud.store.rows(self.catalogue.resources[type].stored)]
        if len(items) != 1:
            reason = f"say which of {len(items)}" if items else f"there is no {type} in the file"
            self.refuse(f"{row.name} {label_of(item)} needs {a_noun(name)}: {reason}")
        return items[0]["uuid"]

    def refuse_impossible(self) -> None:
        """Raise SettingsError for objects that contradict each other, or cannot go on."""
        hosts: dict[str, Item] = {}  # by address
        for host in self.cloud.store.rows("Host"):
            name, address = label_of(host), host["managementIp"]
            other = hosts.setdefault(address, host) if address else host
            if other is not host:
                self.refuse(f"Host {name} has the managementIp {address} of Host {label_of(other)}")
            cluster = self.cloud.look("Cluster", host["clusterUuid"])
            if cluster["zoneUuid"] != host["zoneUuid"]:
                self.refuse(
                    f"Host {name} is in the zone {host['zoneUuid']}, "
                    f"and its cluster {label_of(cluster)} in the zone {cluster['zoneUuid']}"
                )
        for vm in self.cloud.store.rows("VmInstance"):
            if vm["state"] in ("Running", "Paused") and not vm.get("hostUuid"):
                self.refuse(f"VmInstance {label_of(vm)} is {vm['state']}, and needs a hostUuid")
        for job in self.cloud.store.rows("LongJob"):
            if job["state"] == "Running" and job.get("duration"):
                try:
                    call_of_long_job(self.cloud, job)
                except (KeyError, ApiError) as error:
                    self.refuse(f"LongJob {label_of(job)} cannot go on: {error}")


@dataclass
class Reference:
    """A field of an object in a cloud file that refers to another one.

    where  the words for it: "zoneUuid of Cluster cluster-1"
    """

    row: Resource
    name: str
    type: str
    uuid: str
    where: str


def label_of(item: Item) -> str:
    """Return the words for an object in a message: its name, or its uuid."""
    return str(item.get("name") or item.get("uuid") or "")


def type_referred_to(catalogue: Catalogue, row: Resource, name: str) -> str:
    """Return the type that a field refers to, "Resource" for any, "" if it is no reference.

    A row says it for what a query follows or a deletion touches: "zoneUuid" -> Zone. Elsewhere the
    name of the field ends with it: "lastHostUuid" -> Host, "targetResourceUuid" -> Resource.
    """
    ends = [relation for relation in row.relations.values() if relation.own == name]
    if len({relation.target for relation in ends if relation.theirs == "uuid"}) > 1:
        return "Resource"
    target = row.leads.get(name) or catalogue.resources[row.stored].leads.get(name)
    if target or not re.search(".Uuids?$", name):
        return target if target in catalogue.resources else ""
    words = re.sub("Uuids?$", "", name).lower()
    if words == "parent":
        return row.stored
    if words.endswith("resource"):
        return "Resource"
    fitting = [type for type in catalogue.resources if words.endswith(type.lower())]
    return max(fitting, key=len, default="")


def spell_references(cloud: Cloud, types: Container[str]) -> None:
    """Spell the uuids inside objects as the objects that have them; files may write any case."""
    rows = [row for row in cloud.catalogue.resources.values() if not row.of]
    exact: set[Uuid] = set()
    for row in rows:
        exact.update(item["uuid"] for item in cloud.store.rows(row.name))
    patterns = cloud.catalogue.naming_tags

    def spell(uuid: str) -> str:
        return uuid if uuid in exact else cloud.spell_uuid(uuid)

    for row in rows:
        for item in [*cloud.store.rows(row.name)] if row.name in types else ():
            spelled = {name: spell_in(name, value, spell) for name, value in item.items()}
            if row.name == "SystemTag" and isinstance(item.get("tag"), str):
                spelled["tag"] = spell_in_tag(item["tag"], patterns, spell)
            if spelled != item:
                cloud.store.change(row.name, item["uuid"], spelled)


# a kept cloud

JOB_FIELDS = {"api": str, "state": str, "hook": str, "schema": bool}  # of an api-job's record
JOB_MOMENTS = ("created", "seen", "due", "finished")


def repair(cloud: Cloud, types: Container[str]) -> list[str]:
    """Mend the objects of some types that somebody edited, and return a line for each such object.

    A field that behaviours rely on gets its default where it is missing, or not of its type.
    """
    spell_references(cloud, types)
    lines: list[str] = []
    for row in cloud.catalogue.resources.values():
        if row.name in types:
            lines += repair_type(cloud, row)
    if "GlobalConfig" in types:
        lines += faulty_configurations(cloud)
    if "Job" in types:
        lines += forget_faulty_jobs(cloud)
    return lines


def repair_type(cloud: Cloud, row: Resource) -> Iterator[str]:
    """Mend the objects of a type, and yield a line for each that was not as it should be."""
    removed = [state for state, changes in row.interrupted.items() if not changes]
    for item in [*cloud.store.rows(row.name)]:
        if item.get("status") in removed:
            continue  # recover() removes it, before it had all that it needs
        usable, faults = dict(item), []
        for name, fault, is_usable in faults_of_item(cloud.catalogue, row, item):
            faults.append(fault)
            if not is_usable:
                del usable[name]
        defaults = without_nulls(complete(cloud, row, usable, no_reference))
        missing = [f"{name} is missing" for name in defaults if item.get(name) is None]
        if missing or faults:
            cloud.store.change(row.name, item["uuid"], usable | defaults)
            yield f"{row.name} {item['uuid']}: {'; '.join(missing + faults)}"


def faults_of_item(
    catalogue: Catalogue, row: Resource, item: Item
) -> Iterator[tuple[str, str, bool]]:
    """Yield each field that is not as it should be, with why, and if its value can be used."""
    fields = catalogue.item_fields(row.name)
    for name, value in item.items():
        kind = fields.get(name)
        if kind is None:
            yield name, f"{name} is unknown{did_you_mean(name, row.all_fields)}", True
        elif not fits(value, kind):
            yield name, f"{name} is {a_noun(kind)}, not {short_json(value)}", False
        elif kind == "date" and value is not None and not STAMP.fullmatch(value):
            yield name, f"{name} is no date", False
        elif isinstance(value, str):
            values = catalogue.values_of(row, name)
            if values and value not in values:
                yield name, f"{name} cannot be {value}{did_you_mean(value, values)}", True


def no_reference(row: Resource, item: Item, name: str) -> Uuid:
    return ""


def faulty_configurations(cloud: Cloud) -> Iterator[str]:
    """Yield a line for each global configuration that is unknown, or has a value it cannot have."""
    for item in cloud.store.rows("GlobalConfig"):
        row = cloud.catalogue.configurations.get(item["uuid"])
        if fault := row.fault(item.get("value")) if row else "is unknown":
            yield f"the global configuration {item['uuid']} {fault}; its default counts"


def forget_faulty_jobs(cloud: Cloud) -> Iterator[str]:
    """Remove the records of api-jobs that are none, and yield a line for each."""
    for record in [*cloud.store.rows("Job")]:
        fields = JOB_FIELDS.items()
        wrong = [name for name, kind in fields if not isinstance(record.get(name), kind)]
        moments = {"finished": 0} | record
        wrong += [name for name in JOB_MOMENTS if not can_be_date(moments.get(name))]
        if wrong or record["api"] not in cloud.catalogue.apis:
            why = ", ".join(wrong) or record["api"]
            yield f"Job {record['uuid']} is no api-job ({why}); it is forgotten"
            cloud.store.remove("Job", record["uuid"])


def recover(cloud: Cloud) -> None:
    """Go on with a kept cloud after a start: incidents are over, operations under way ended."""
    interrupt(cloud)
    for type in ("Host", "PrimaryStorage", "BackupStorage"):
        for item in [*cloud.store.rows(type)]:
            if item.get("cutOff"):
                cloud.change(type, item["uuid"], status="Connected", cutOff=None)
                if type == "Host":
                    connect_host(cloud, cloud.get("Host", item["uuid"]))
    add_console_agent(cloud)
    expunge_all_later(cloud)
    plan_all(cloud)


def interrupt(cloud: Cloud) -> None:
    """End all that is under way, as a restart of the management node does."""
    for row in cloud.catalogue.resources.values():
        if row.interrupted:
            for item in [*cloud.store.rows(row.name)]:
                interrupt_item(cloud, row, item["uuid"])


def interrupt_item(cloud: Cloud, row: Resource, uuid: Uuid) -> None:
    """Bring an item out of each state that does not last, as its row says."""
    for key in ("stateBefore", "state", "status"):
        item = cloud.look(row.name, uuid)
        state = item.get(key)
        if state not in row.interrupted:
            continue
        changes = row.interrupted[state]
        if not changes:
            cloud.remove(row.name, uuid)
        elif row.name == "VmInstance" and key != "status":
            has_run = item.get("rootVolumeUuid")
            leave_host(cloud, item["uuid"], changes["state"] if has_run else "Created")
        elif row.name == "Host" and key == "status":
            if uuid in cloud.outages.hosts:
                cloud.change("Host", uuid, status="Disconnected")
            else:
                connect_host(cloud, cloud.get("Host", uuid))
        elif row.name == "Image" and changes["status"] == "Error":
            copies = [reference | changes for reference in item["backupStorageRefs"]]
            cloud.change("Image", uuid, backupStorageRefs=copies, **changes)
        elif row.name == "Volume" and state == "Migrating" and "installPath" not in item:
            cloud.change("Volume", uuid, status="NotInstantiated")
        else:
            cloud.change(row.name, uuid, **changes)


# ---- Incidents -----------------------------------------------------------------------------------

INCIDENTS: dict[str, Any] = {}  # by kind: a generator that begins one, yields its facts, ends it


class UnknownTarget(ValueError):
    """The target of an incident is not there."""


@dataclass
class Incident:
    """A failure that lasts, and the generator that ends it.

    facts  further members of its answer: {"uuid": the host that is down}
    timer  of its end, where it ends by itself
    """

    id: str
    kind: str
    target: object
    facts: Item
    course: Generator
    timer: Timer | None = None

    def as_json(self, clock: Clock) -> Item:
        """Return the incident as /zmock/incidents answers it."""
        ends = {"ends": iso(clock.due_date(self.timer))} if self.timer else {}
        return {"id": self.id, self.kind: self.target, **self.facts, **ends}


def incident(kind: str) -> Callable:
    """Register a generator as an incident. One that does not yield is over at once."""

    def register(course: Callable) -> Callable:
        INCIDENTS[kind] = course
        return course

    return register


def begin_incident(cloud: Cloud, body: object) -> Incident:
    """Begin an incident {kind: target}. Raise ValueError for one that cannot be."""
    kind = next(iter(body), None) if isinstance(body, dict) else body
    if not isinstance(body, dict) or len(body) != 1 or kind not in INCIDENTS:
        raise ValueError(
            f"an incident is {{NAME: ...}}, with one of {', '.join(INCIDENTS)}"
            f"{did_you_mean(kind, INCIDENTS)}"
        )
    target = body[kind]
    course = INCIDENTS[kind](cloud, target)
    with cloud.store.all_or_nothing():
        facts = next(course, None)
    begun = Incident(f"incident-{next(cloud.outages.numbers)}", kind, target, facts or {}, course)
    if facts is not None:
        cloud.outages.incidents[begun.id] = begun
    if cloud.clock.started:
        log.info("%s began: %s %s", begun.id, kind, target_text(target))
    if "seconds" in begun.facts:
        seconds = begun.facts.pop("seconds")
        end = functools.partial(end_incident, cloud, begun.id)
        begun.timer = cloud.clock.after(seconds, end, f"{kind} ends", awaited=True)
    return begun


def target_text(target: object) -> str:
    """Return the target of an incident for people: "host-1", and "" for {}."""
    return json.dumps(target, ensure_ascii=False).strip('"{}')


def end_incident(cloud: Cloud, id: str) -> None:
    """End an incident, unless it has ended."""
    if id in cloud.outages.incidents:
        next(cloud.outages.incidents.pop(id).course, None)
        if cloud.clock.started:
            log.info("%s ended", id)
            cloud.clock.spawn(cloud.store.try_commit())


def item_named(cloud: Cloud, target: object, *types: str) -> tuple[str, Item]:
    """Return the type and the item with a name or uuid, or raise UnknownTarget."""
    items: list[Item] = []
    for type in types:
        if item := cloud.store.peek(type, target):
            return type, item
        items += cloud.store.rows(type)
        for item in items:
            if item["name"] == target:
                return type, item
    better = did_you_mean(target, [item["name"] for item in items])
    raise UnknownTarget(f"no {' or '.join(types)} {target!r}{better}")


# hosts


@incident("host-down")
def host_down(cloud: Cloud, target: object) -> Generator:
    """Cut off a host."""
    _, host = item_named(cloud, target, "Host")
    cut_off(cloud, [host["uuid"]])
    yield {"uuid": host["uuid"]}
    reach_again(cloud, [host["uuid"]])


@incident("network-partition")
def network_partition(cloud: Cloud, target: object) -> Generator:
    """Cut off the hosts of a zone, of a cluster, or of a list of zones, clusters and hosts.

    Backup storage that only such zones have is Disconnected too.
    """
    targets = target if isinstance(target, list) and target else [target]
    parts = [item_named(cloud, name, "Zone", "Cluster", "Host") for name in targets]
    keys = {"Zone": "zoneUuid", "Cluster": "clusterUuid", "Host": "uuid"}
    hosts = []
    for host in cloud.store.rows("Host"):
        if any(host[keys[type]] == item["uuid"] for type, item in parts):
            hosts.append(host["uuid"])
    zones = {item["uuid"] for type, item in parts if type == "Zone"}
    cut_off(cloud, hosts)
    storages = []
    for storage in [*cloud.store.rows("BackupStorage")]:
        uuid, attached = storage["uuid"], storage["attachedZoneUuids"]
        lost = attached and zones.issuperset(attached)
        if lost and switch_storage(cloud, "BackupStorage", uuid, "Disconnected"):
            storages.append(uuid)
    yield {"hosts": hosts}
    for uuid in storages:
        switch_storage(cloud, "BackupStorage", uuid, "Connected")
    reach_again(cloud, hosts)


def cut_off(cloud: Cloud, hosts: list[Uuid]) -> None:
    """Make hosts unreachable.

    Operations under way on them fail. The hosts are Disconnected, and so is storage that no other
    host reaches.
    """
    for run in [*cloud.jobs.runs]:
        if host := host_needed_by(cloud, run, hosts):
            error = ApiError("HOST.1010", f"host[uuid:{host}] is disconnected")
            run.fail(wrapped(error, run.call))
    for uuid in hosts:
        if not cloud.store.peek("Host", uuid):
            continue
        cloud.outages.hosts[uuid] += 1
        if cloud.look("Host", uuid)["status"] != "Disconnected":
            disconnect_host(cloud, uuid)
            cloud.change("Host", uuid, cutOff=True)
    update_storage_status(cloud)


def host_needed_by(cloud: Cloud, run: Run, hosts: list[Uuid]) -> Uuid | None:
    """Return which of the hosts an operation needs.

    It needs the host that it is about, and the host of each virtual machine that it touches.
    """
    used = {change[1] for change in run.log}
    used |= {uuid for uuid in run.call.params.values() if isinstance(uuid, str)}
    used |= {cloud.look("VmInstance", uuid).get("hostUuid") for uuid in used}
    return next((host for host in hosts if host in used), None)


def reach_again(cloud: Cloud, hosts: list[Uuid]) -> None:
    """Connect hosts again, unless another incident keeps them away, or they were away before."""
    cloud.outages.hosts -= Counter(hosts)
    for uuid in hosts:
        if cloud.look("Host", uuid).get("cutOff") and uuid not in cloud.outages.hosts:
            cloud.change("Host", uuid, cutOff=None)
            connect_host(cloud, cloud.get("Host", uuid))
    update_storage_status(cloud)


# storage


def update_storage_status(cloud: Cloud) -> None:
    """Keep primary storage connected as long as one host of its clusters is."""
    for storage in [*cloud.store.rows("PrimaryStorage")]:
        statuses: set[str] = set()
        for cluster in storage["attachedClusterUuids"]:
            statuses.update(host["status"] for host in cloud.find("Host", "clusterUuid", cluster))
        if statuses and "Connected" not in statuses and cloud.outages.hosts:
            switch_storage(cloud, "PrimaryStorage", storage["uuid"], "Disconnected")
        elif storage.get("cutOff"):
            switch_storage(cloud, "PrimaryStorage", storage["uuid"], "Connected")


def switch_storage(cloud: Cloud, type: str, uuid: Uuid, status: str) -> bool:
    """Change the status of a storage, with a notification. Return True if it had another one."""
    if cloud.look(type, uuid).get("status") in (None, status):
        return False
    nouns = {"PrimaryStorage": "primary storage", "BackupStorage": "backup storage"}
    content, lost = f"the {nouns[type]}[uuid:%s] becomes {status}", status == "Disconnected"
    cloud.change(type, uuid, status=status, cutOff=lost or None)
    cloud.notify(content, [uuid], type + "VO", uuid, "Warning" if lost else "Info")
    return True


@incident("primary-storage-full")
def primary_storage_full(cloud: Cloud, target: object) -> Generator:
    """Fill a primary storage: nothing more fits on it, whatever is deleted."""
    _, storage = item_named(cloud, target, "PrimaryStorage")
    uuid = storage["uuid"]
    cloud.outages.full_storages[uuid] += 1
    content = "the primary storage[uuid:%s] has no space left"
    cloud.notify(content, [uuid], "PrimaryStorageVO", uuid, "Warning")
    yield {"uuid": uuid}
    cloud.outages.full_storages = +(cloud.outages.full_storages - Counter([uuid]))


# the management node


@incident("management-node-restart")
def management_node_restart(cloud: Cloud, target: object) -> Generator:
    """Restart the management node, in no time.

    What was under way stops where it is, and its jobs are polled for ever (facts of a restart).
    """
    refuse_target(target, "management-node-restart")
    stop_node(cloud)
    start_node(cloud)
    yield from ()


@incident("management-node-down")
def management_node_down(cloud: Cloud, target: object) -> Generator:
    """Reset all connections, for `target` seconds or until the incident is ended.

    Afterwards the management node is as after a restart.
    """
    endless = target in ({}, None)
    if not endless:
        SECONDS.check("management-node-down", target)
    cloud.outages.nodes_away += 1
    stop_node(cloud)
    yield {} if endless else {"seconds": target}
    cloud.outages.nodes_away -= 1
    if not cloud.outages.nodes_away:
        start_node(cloud)


def refuse_target(target: object, kind: str) -> None:
    """Raise ValueError if an incident that is about nothing has a target."""
    if target not in ({}, None):
        raise ValueError(f"{kind} is about nothing: write {{{json.dumps(kind)}: {{}}}}")


def stop_node(cloud: Cloud) -> None:
    """Lose all that is under way on the management node."""
    cloud.jobs.lose()
    cloud.part(LongRuns).clear()
    cloud.outages.node_deaths += 1


def start_node(cloud: Cloud) -> None:
    """Start the management node anew."""
    uuid = management_node(cloud)["uuid"]
    cloud.store.update("ManagementNode", uuid, joinDate=cloud.clock.stamp())
    interrupt(cloud)
    content = "the management node[uuid:%s] has been started"
    cloud.notify(content, [uuid], "ManagementNodeVO", uuid)


# licences


@incident("license-expired")
def license_expired(cloud: Cloud, target: object) -> Generator:
    """End all licences just now. Until there is a new one, calls that change anything fail.

    Calls about licences do not fail.
    """
    refuse_target(target, "license-expired")
    end = cloud.clock.stamp(cloud.clock.now() - 1)
    for type in ("License", "LicenseAddOn"):
        for item in cloud.store.rows(type):
            cloud.outages.licenses[item["uuid"]] = item.get("expiredDate"), end
    cloud.outages.refusals["license-expired"] = functools.partial(refuse_without_license, cloud)
    uuid = license_of(cloud)["uuid"]
    cloud.notify("the license has expired", [], "LicenseVO", uuid, "Warning")
    yield {}
    if all(other.kind != "license-expired" for other in cloud.outages.incidents.values()):
        cloud.outages.licenses.clear()
        cloud.outages.refusals.pop("license-expired")


def refuse_without_license(cloud: Cloud, call: Call) -> ApiError | None:
    """Return the error of a call for which there must be a licence."""
    if cloud.at_once(call.api) or "License" in call.api.name:
        return None
    if is_expired(cloud, license_of(cloud)):
        return ApiError("LICENSE.1000", "the license has expired")
    return None


# scenarios

ACTIONS = {"rule": ANY_JSON, "incident": ANY_JSON, "end": AN_ID, "cloud": ANY_JSON}
STEP_KEYS = {"at": SECONDS, "id": AN_ID} | ACTIONS  # the values of each key; one is an action


@dataclass
class Step:
    """A step of a scenario: {"at": 30, "id": "outage", "incident": {"host-down": "host-1"}}.

    state  what came of it: {"played": True, "began": "incident-1"}
    timer  of the step, until it is played
    """

    definition: Item
    state: Item
    timer: Timer | None = None

    @property
    def text(self) -> str:
        """The words for it: "incident host-down: host-1"."""
        [action] = self.definition.keys() & ACTIONS
        return f"{action} " + re.sub(r'["{}\[\]]', "", short_json(self.definition[action]))


class Scenario:
    """Steps that begin and end rules and incidents, and add objects, each at a second of its own.

    Seconds count from when it was first loaded. A step that the cloud refuses stops nothing.
    """

    def __init__(self, id: str, faults: Faults) -> None:
        self.id, self.faults = id, faults
        self.cloud, self.clock = faults.cloud, faults.cloud.clock
        self.zero = self.clock.steady()
        self.steps: list[Step] = []  # in the order of play
        self.ends: dict[str, Callable[[], Any]] = {}  # of what it began, by the id of the step

    def load(self, definitions: Any, since: Seconds = -1) -> None:
        """Take these steps in the place of those before. Only those after `since` are played.

        Raise ValueError, with nothing changed, if one of them cannot be.
        """
        steps = self.rehearsed(definitions, since)
        self.stop()
        self.steps = steps
        for step in steps:
            at, play = step.definition["at"], functools.partial(self.play, step)
            if at > since:
                name = f"{self.id}: {step.text}"
                step.timer = self.clock.at_second(self.zero + at, play, name, awaited=True)

    def rehearsed(self, definitions: Any, since: Seconds) -> list[Step]:
        """Return the steps in the order of play, after a copy of the cloud has played them."""
        if not isinstance(definitions, list):
            raise ValueError(f"a scenario is a JSON list of steps, not {short_json(definitions)}")
        steps, ids = [], []
        copy = Scenario(self.id, Faults(copy_of(self.cloud)))
        copy.ends = dict.fromkeys(self.ends, dict)
        for number, definition in sorted(enumerate(definitions, 1), key=moment_of_step):
            with numbered("step", number, len(definitions)):
                check_step(definition)
                if definition.get("id", 0) in ids:
                    raise ValueError(f"there is a step {definition['id']!r} already")
                if definition["at"] > since:
                    copy.perform(definition)
            ids.append(definition.get("id"))
            former = [step for step in self.steps if step.definition == definition]
            steps.append(former[0] if former else Step(definition, {"played": False}))
        return steps

    def stop(self) -> None:
        for step in self.steps:
            if step.timer:
                step.timer.cancel()

    def play(self, step: Step) -> None:
        step.timer = None
        try:
            step.state = {"played": True} | self.perform(step.definition)
        except (ValueError, SettingsError) as error:
            step.state = {"played": False, "refused": str(error)}
            log.warning("%s: %s is refused: %s", self.id, step.text, error)
        else:
            log.info("%s: %s", self.id, step.text)
        self.clock.spawn(self.cloud.store.try_commit())

    def perform(self, step: Item) -> Item:
        """Do what a step says. Return {"began": ID} if it begins a rule or an incident."""
        if "cloud" in step:
            add_objects(self.cloud, step["cloud"])
            return {}
        if "end" in step:
            if step["end"] not in self.ends:
                refuse("end", "the id of a step before it", step["end"], self.ends)
            self.ends[step["end"]]()
            return {}
        if "rule" in step:
            rule = self.faults.add(step["rule"])
            id, end = rule.id, functools.partial(self.faults.remove, rule)
        else:
            id = begin_incident(self.cloud, step["incident"]).id
            end = functools.partial(end_incident, self.cloud, id)
        self.ends[step.get("id", id)] = end
        return {"began": id}

    def as_json(self) -> Item:
        """Return the scenario as GET /zmock/scenarios shows it."""
        due = [iso(self.clock.due_date(step.timer)) for step in self.steps if step.timer]
        steps = [step.definition | step.state for step in self.steps]
        return {"id": self.id, "next": due[0] if due else None, "steps": steps}


def moment_of_step(numbered: tuple[int, Any]) -> Seconds:
    """Return the second of a step, for sorting: a wrong one goes first, and is refused first."""
    _, step = numbered
    at = step.get("at") if isinstance(step, dict) else None
    return at if is_span(at) else -1


def check_step(step: Any) -> None:
    """Raise ValueError for a step with a wrong key, or a wrong value of `at`, `id` or `end`."""
    if not isinstance(step, dict):
        raise ValueError(f"a step is a JSON object, not {short_json(step)}")
    for key, value in ({"at": None} | step).items():
        if key not in STEP_KEYS:
            raise ValueError(f"{key!r} is no key of a step{did_you_mean(key, STEP_KEYS)}")
        STEP_KEYS[key].check(key, value)
    if len(step.keys() & ACTIONS) != 1:
        raise ValueError(f"a step has one of {', '.join(ACTIONS)}")


class Scenarios:
    """The scenarios under way: that of --scenario, and those of POST /zmock/scenarios."""

    def __init__(self, faults: Faults) -> None:
        self.faults, self.clock = faults, faults.cloud.clock
        self.file = faults.cloud.settings.scenario
        self.clear()

    def clear(self) -> None:
        self.by_id: dict[str, Scenario] = {}
        self.stamp: Any = ""  # of the file, as it was read last
        self.problem = ""  # why the file cannot be used

    def add(self, definitions: Any, id: str = "") -> Scenario:
        """Begin a scenario, or change the one with that id. Raise ValueError for a wrong one."""
        id = id or f"scenario-{len(self.by_id) + 1}"
        former = self.by_id.get(id)
        scenario = former or Scenario(id, self.faults)
        scenario.load(definitions, self.clock.steady() - scenario.zero if former else -1)
        self.by_id[id] = scenario
        log.info("%s: %s", id, counted(len(scenario.steps), "step"))
        if self.clock.started:
            self.clock.fire_due()
        return scenario

    def reread(self) -> None:
        """Load the file if it has changed. A file that cannot be used changes nothing."""
        stamp = file_stamp(self.file)
        if stamp == self.stamp:
            return
        self.stamp, self.problem = stamp, ""
        try:
            self.add(read_json(self.file), Path(self.file).name)
        except (OSError, ValueError) as error:
            self.problem = f"cannot use the scenario in {self.file}: {error}"
            if self.clock.started:  # else zmock does not start
                log.warning("%s", self.problem)

    def end(self) -> None:
        """End all scenarios, with the rules and incidents that they began. Objects stay."""
        for scenario in self.by_id.values():
            scenario.stop()
            for end in scenario.ends.values():
                end()
        self.by_id.clear()


# ---- API -----------------------------------------------------------------------------------------

# requests


def malformed(dialect: Dialect, details: str, hint: str = "") -> FrontError:
    """Return the error of a request that cannot be read (dialect row malformed-body)."""
    return FrontError(dialect["malformed-body"], details, hint)


STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def path_below(path: str, dialect: Dialect, catalogue: Catalogue) -> str:
    """Return the path below the prefix, percent-decoded, without double slashes."""
    if STRAY_PERCENT.search(path):
        details = f"malformed percent-encoding in {path}"
        raise malformed(dialect, details, "write a percent sign as %25")
    try:
        text = urllib.parse.unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise malformed(dialect, f"the path {path} is not UTF-8") from None
    text = re.sub("/{2,}", "/", text)  # zstack-sdk-go sends /zones//{uuid}
    for prefix in dialect["path-prefix"]:
        if text == prefix or text.startswith(f"{prefix}/"):
            return text.removeprefix(prefix) or "/"
    first = dialect["path-prefix"][0]
    hint = f"the APIs are below {first}, the controls below /zmock"
    inner = re.sub("^(/api|/zstack|/v[0-9.]+)+(?=/)", "", text)
    if catalogue.route(inner) or inner.startswith("/api-jobs/"):
        hint = f"write {first}{inner}; {hint}"
    raise FrontError(404, f"no api mapping to {text}", f"{hint}; GET /zmock/apis lists the APIs")


def effective_method(method: str) -> str:
    """Return the method that decides what a request does: HEAD is a GET without the body."""
    return "GET" if method == "HEAD" else method


CHARSETS = (
    "utf-8", "utf-16", "utf-32", "gbk", "gb2312", "gb18030", "big5", "iso-8859-1", "us-ascii",
)
NO_CHARSETS = {  # codecs of Python
    "idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape",
}
PACKINGS = {  # window bits of zlib; clients send deflate with and without its header
    "gzip": (31,),
    "x-gzip": (31,),
    "deflate": (15, -15),
}


def unpack(octets: bytes, encoding: str, limit: int) -> bytes:
    """Return the bytes that a Content-Encoding holds, `limit` at most.

    Raise ValueError for bytes in another encoding, or cut short.
    """
    if not octets or encoding in ("", "identity"):
        return octets
    if encoding not in PACKINGS:
        name = ascii(encoding[:80])
        raise ValueError(f"Content-Encoding {name} is not understood, gzip and deflate are")
    problem = f"the body is not {encoding}, as its Content-Encoding says"
    for bits in PACKINGS[encoding]:
        with contextlib.suppress(zlib.error):
            content, is_whole = unpack_members(octets, bits, limit)
            if is_whole:
                return content
            problem = f"the {encoding} body is cut short"
    raise ValueError(problem)


def unpack_members(octets: bytes, bits: int, limit: int) -> tuple[bytes, bool]:
    """Return the content of the packed members (RFC 1952), and False if the last is cut short."""
    content = b""
    while octets:
        stream = zlib.decompressobj(bits)
        content += stream.decompress(octets, limit + 1 - len(content))
        if len(content) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, len(content))
        if not stream.eof:
            return content, False
        octets = stream.unused_data
    return content, True


def codec_of(charset: str | None, octets: bytes) -> str:
    """Return the codec of a body: its declared charset, else the one that its bytes show.

    Raise ValueError for an unknown charset.
    """
    seen = json.detect_encoding(octets)
    try:
        codec = codecs.lookup(charset).name if charset else seen
        b" ".decode(codec, "ignore")  # LookupError for codecs that make no text, as hex
    except (LookupError, ValueError):
        codec = ""
    if not codec or codec in NO_CHARSETS:
        better = did_you_mean(charset, CHARSETS)
        raise ValueError(f"no charset {charset[:80]!a} is known{better}")
    if codec in ("utf-16", "utf-32"):  # without a mark: as the bytes show, else RFC 2781
        return seen if seen.startswith(codec) else f"{codec}-be"
    return codec


def decode(octets: bytes, charset: str | None) -> str:
    """Return bytes as text without a byte order mark. Raise ValueError if they are none."""
    codec = codec_of(charset, octets)
    try:
        return octets.decode(codec).removeprefix("\ufeff")
    except UnicodeError:
        lacking = "" if charset else ", and its Content-Type names no charset"
        name = codec.removesuffix("-sig").upper()
        raise ValueError(f"the body is not {name}{lacking}") from None


async def body_text(request: web.Request, limit: int) -> str:
    """Return the body as text. Raise ValueError if it cannot be unpacked or decoded."""
    octets = await request.read() if request.body_exists else b""
    encoding = header_of(request, "Content-Encoding") or ""
    return decode(unpack(octets, encoding.strip().lower(), limit), request.charset)


async def read_body(request: web.Request, limit: int, dialect: Dialect, entry: Entry) -> str:
    """Return the body as text, and note it. Raise FrontError if it is too large or unreadable."""
    try:
        text = await body_text(request, limit)
        if text:
            entry.request = Message.of(request.headers, text)
        return text
    except web.HTTPRequestEntityTooLarge:
        details = f"the body has more than {counted(limit, 'byte')}"
        raise FrontError(400, details, "--body-limit sets how many are allowed") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise FrontError(400, f"the body cannot be read: {error}") from None
    except ValueError as error:
        entry.request = Message.of(request.headers, await request.read())
        hint = (
            "a body is JSON in UTF-8 or in the charset that its Content-Type names, "
            "plain or packed as gzip or deflate"
        )
        raise malformed(dialect, str(error), hint) from None


def parse_body(text: str, dialect: Dialect, alone: bool) -> Item:
    """Return the JSON object of a body.

    Return {} for no body, for null, and for [] if an API is `alone` on its path (Gson).
    """
    if not text.strip():
        return {}
    try:
        body = load_json(text, parse_constant=refuse_number, parse_float=finite_number)
        json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate cannot be kept
    except ValueError as error:
        details = f"com.google.gson.stream.MalformedJsonException: {error}"
        raise malformed(dialect, details, hint_on_json(text, error)) from None
    if body is None or (alone and body == []):
        return {}
    if not isinstance(body, dict):
        expected = f"Expected BEGIN_OBJECT but was {gson_word(body)} at line 1 column 2"
        details = f"java.lang.IllegalStateException: {expected}"
        raise malformed(dialect, details, "the body is a JSON object")
    return body


def hint_on_json(text: str, error: Exception) -> str:
    """Return the hint on a body that is no JSON: the place of the first wrong character."""
    hint = "the body is a JSON object"
    if isinstance(error, UnicodeError):
        return "a text of the body holds half of a surrogate pair, which no text in UTF-8 has"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if may_be_secret(text):
        return hint
    if re.match(r"\w+(=|$)", text):
        return f'{hint} such as {{"params": {{"name": "x"}}}}, no form: {text[:40]!a}'
    near = text[max(0, error.pos - 15) : error.pos + 15]
    hint += f", and this is none at line {error.lineno}, column {error.colno}: {near!a}"
    if text[error.pos : error.pos + 1] == "'":
        return f"{hint}; JSON has double quotes"
    if re.search(r",\s*[}\]]", near):
        return f"{hint}; no comma stands before the end"
    return hint


def refuse_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no number that JSON or Java has")


def finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        refuse_number(text)
    return number


decoded = functools.partial(urllib.parse.unquote_plus, errors="replace")


def read_arguments(query: str, dialect: Dialect) -> Arguments:
    """Return the pairs of a query string. A plus is a space."""
    pairs = []
    for part in filter(None, query.split("&")):
        if STRAY_PERCENT.search(part) and not dialect["stray-percent"]:
            continue
        name, _, value = part.partition("=")
        pairs.append((decoded(name), decoded(value)))
    return pairs


def from_query(api: Api, arguments: Arguments, dialect: Dialect) -> Item:
    """Return the parameters of a GET or DELETE (RestServer.java).

    A list repeats its key or numbers it, "uuids.1=b&uuids.0=a". A map has dots, "map.key=value".
    """
    values: dict[str, Any] = {}
    for name, value in arguments:
        head, _, tail = name.partition(".")
        kind = query_type(api, head)
        if kind == "list":
            index = int(tail) if re.fullmatch("[0-9]{1,9}", tail) else 0
            values.setdefault(head, []).append((index, value))
        elif tail and kind == "map":
            inner = values.setdefault(head, {})
            if not isinstance(inner, dict) or tail in inner:
                problem = "there has been a parameter with the same map key"
                raise FrontError(400, f"duplicate map query parameter[{name}], {problem}")
            inner[tail] = value
        elif kind == "bool" and not dialect["bad-parameter"]:
            values[name] = value.lower() == "true"  # as queryParameterToApiFieldValue
        elif name in values and (head in api.params or name in OPEN_TO_ALL):
            problem = "only one value is allowed for the parameter but multiple values found"
            raise FrontError(400, f"Invalid query parameter[{name}], {problem}")
        else:
            values[name] = value
    for name, pairs in values.items():
        if isinstance(pairs, list):
            values[name] = [value for _, value in sorted(pairs, key=operator.itemgetter(0))]
    return values


def query_type(api: Api, name: str) -> str:
    if name in api.params:
        return api.params[name].type
    return "list" if name in ("systemTags", "userTags") else "str"


def member_of(body: Item, key: str, dialect: Dialect) -> Item:
    """Return a copy of the object that a body has at a key, {} for none."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        names: dict[type, str] = {str: "lang.String", list: "util.ArrayList", bool: "lang.Boolean"}
        java = names.get(type(value), "lang.Double")
        details = f"java.{java} cannot be cast to java.util.Map"
        raise malformed(dialect, details, f"{key} is a JSON object")
    return dict(value)


def tag_list(value: Any, name: str, dialect: Dialect) -> list[str]:
    """Return the tags of a call. Raise FrontError if they are no list of texts."""
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        names: dict[type, str] = {str: "lang.String", dict: "util.LinkedHashMap"}
        java = names.get(type(value), "lang.Object")
        details = f"java.{java} cannot be cast to java.util.List"
        raise malformed(dialect, details, f"{name} is a list of texts")
    return value


def header_of(request: web.Request, name: str) -> str | None:
    """Return a header as text that can be kept and sent again, whatever its bytes are."""
    value = request.headers.get(name)
    if value is None:
        return None
    return value.encode(errors="surrogateescape").decode(errors="replace")


HOST = r"[A-Za-z0-9.\-_\[\]:]+"
FORWARDED = {
    "X-Forwarded-Proto": "https?",
    "X-Forwarded-Host": HOST,
    "X-Forwarded-Prefix": r"(/[A-Za-z0-9._~-]+)*/?",
}


def forwarded(request: web.Request) -> list[str]:
    """Return the scheme, host and path prefix that a proxy in front names.

    Each is "" if the proxy does not name it, or garbles it. Of several proxies each appends its
    own: the first is the one that the client called.
    """
    parts = []
    for name, form in FORWARDED.items():
        first = (header_of(request, name) or "").partition(",")[0].strip()
        parts.append(first.rstrip("/") if re.fullmatch(form, first) else "")
    return parts


def has_spells(request: web.Request) -> bool:
    """Return True if a header of a request is for zmock, right or wrong."""
    return any(name[:7].lower() == "x-zmock" for name in request.headers)


def header_safe(text: str) -> str:
    """Return text as a header carries it: one line, not too long, as UTF-8 (RFC 9110, 5.5)."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return line.encode(errors="replace").decode()[:2000]


# hints


def shape_of(path: str) -> str:
    """Return a path without its uuids: "/zone/d825b1a26f4e474b8c59306081920ff2" -> "/zone/{}"."""
    return re.sub(r"(?<=\w)/[0-9A-Fa-f-]{32,36}(?=/|$)", "/{}", path[:1000])


def nearest_path(apis: Iterable[Api], path: str) -> tuple[str, list[Api]] | None:
    """Return the path of APIs that is most like a wrong path, and the APIs on it, if any is.

    "/zone/d825b1a26f4e474b8c59306081920ff2" -> ("/zones/{uuid}", [<QueryZone>, <DeleteZone>])
    """
    paths = {}
    owners = defaultdict(list)
    for api in apis:
        for pattern, shape in zip(api.paths, api.shapes):
            paths[shape] = pattern
            owners[pattern].append(api)
    for near in difflib.get_close_matches(shape_of(path), paths, 1):
        return paths[near], owners[paths[near]]
    return None


def path_hint(catalogue: Catalogue, method: str, path: str) -> str:
    """Return a hint on a path that no API has: the nearest one, with its method and APIs.

    `path` is without its uuids, see shape_of.
    """
    collection = path.split("/")[1]
    if not collection:
        return "an API is a collection below it, as /zones; GET /zmock/apis lists all"
    apis = [POLL_JOB, *catalogue.apis.values()]
    paths = {pattern for api in apis for pattern in api.paths}
    collections = sorted({pattern.split("/")[1] for pattern in paths})
    hints = []
    if collection not in collections:
        if inner := paths_of_inner(collection, paths):
            return f"no collection {collection}; there is {' and '.join(inner)}"
        begin = collection.removesuffix("s") + "-"  # vms stands for vm-instances
        longer = sorted((name for name in collections if name.startswith(begin)), key=len)
        better = f", did you mean {longer[0]}?" if longer else did_you_mean(collection, collections)
        hints.append(f"no collection {collection}{better}")
        if longer:
            path = path.replace(collection, longer[0], 1)
    same_method = [api for api in apis if api.method == method]
    if near := nearest_path(same_method, path) or nearest_path(apis, path):
        pattern, owners = near
        hints.append(f"nearest: {pattern} by {owners[0].method} ({names_of(owners)})")
    return "; ".join(hints)


def paths_of_inner(name: str, paths: Iterable[str]) -> list[str]:
    """Return the paths of a collection inside another: "users" -> ["/accounts/users"]."""
    return sorted(path for path in paths if path.split("/")[2:] == [name])


def names_of(apis: list[Api]) -> str:
    """Return the names of the first four APIs, "UpdateVmInstance, StartVmInstance, ..."."""
    names = [api.name for api in apis[:4]]
    if len(apis) > 4:
        names.append("...")
    return ", ".join(names)


def other_path(catalogue: Catalogue, method: str, path: str) -> str:
    """Return a hint on a method that a path does not take: the nearest of its collection."""
    for _, variables in catalogue.route(path):
        for value in variables.values():
            path = path.replace(f"/{value}", "/{}")
    collection = "/" + path.split("/")[1]
    apis = [api for api in catalogue.apis.values() if api.path.startswith(collection)]
    apis = [api for api in apis if api.method == method]
    if near := nearest_path(apis, path):
        pattern, owners = near
        return f"; {method} is for {pattern} ({names_of(owners)})"
    return ""


def action_elsewhere(catalogue: Catalogue, key: str, keys: Iterable[str]) -> str:
    """Return a hint on an action that is none of the `keys` of a path: the path that has it."""
    for api in catalogue.apis.values():
        if api.key == key and api.method == "PUT" and key not in keys:
            return f"; {key} is for {api.method} {api.path} ({api.name})"
    return ""


def unread_hints(
    api: Api, params: Item, body: Item, arguments: Arguments, key: str | None, dialect: Dialect
) -> list[str]:
    """Return hints on the parts of a call that nothing reads. `key` is the body's, if any."""
    legal = api.params.keys() | OPEN_TO_ALL
    hints = []
    spared = legal | {"id", "timeout", "session"}
    unread = [name for name in params if name not in spared]
    for name in unread[:MOST_HINTS]:
        better = did_you_mean(name[:200], legal)
        hints.append(f"{api.name} does not read {name[:200]}{better}")
    if api.method == "DELETE":
        if body and not dialect["delete-parameters"]:
            names = ", ".join(sorted(body))
            hints.append(f"a DELETE reads the query string only: {names}")
    elif api.method != "GET":
        hints += unread_body(api, body, key)
        if arguments:
            names = ", ".join(sorted({name for name, _ in arguments}))
            hints.append(f"{a_noun(api.method)} does not read the query string: {names}")
    return hints


def unread_body(api: Api, body: Item, key: str | None) -> list[str]:
    """Return a hint on the members of a body beside the one that holds the parameters."""
    names = sorted(name for name in body if name not in OPEN_TO_ALL and name != key)
    listed = ", ".join(names)
    if names and key is None and not api.bare:
        return [f"parameters go inside {json.dumps(api.key)}: {listed}"]
    if not names or (api.bare and names == ["params"]):
        return []
    return [f"nothing reads {listed} beside {json.dumps(api.key if key is None else key)}"]


HEADERS_READ = ("X-Job-UUID", "X-Web-Hook", "X-JSON-Schema", *SPELLS.values())


def unread_headers(headers: Iterable[str]) -> list[str]:
    """Return hints on headers that look like one that is read."""
    read = {name.lower() for name in HEADERS_READ}
    hints = []
    for name in headers:
        if name.lower() not in read and re.match("x-(zmock|.*(job|hook|schema))", name, re.I):
            better = did_you_mean(name, HEADERS_READ)
            hints.append(f"no api reads the header {header_safe(name)}{better}")
    return hints


# the journal and answers

LONGEST_VALUE = 2000  # characters of a value in the journal
MOST_HINTS = 20  # of a call
MOST_WRONG_PATHS = 200  # whose hints are remembered: the search takes some milliseconds
MOST_LOGGED_HINTS = 1000  # hints whose repetition is no warning in the log


LONGEST_BODY = 1 << 14  # characters or bytes of a body in the journal
MOST_BODIES = 1000  # calls whose headers and bodies the journal holds
MOST_JOURNAL_PARAMS = 100  # parameters of a call in the journal
INNER_FIELDS = (  # of an Entry, which /zmock/calls does not show
    "moment", "began", "hints", "drop", "end", "fault", "error", "is_last", "hung_up",
    "is_spelled", "request", "answer",
)  # fmt: skip
SECRET_NAME = re.compile(
    r"\w*(?:passwords?|secret(?:_?key)?|authkey|privatekey|psk)", re.IGNORECASE
)
SECRET = re.compile(  # a name, and its value in a tag, in a query string, or in broken JSON
    rf"""({SECRET_NAME.pattern}(?:\\*["']\s*:[\[{{\s]*(?:\\*["'])?|=|%3D|::))"""
    r"""(?:(?<=["'])(?:[^"'\\]|\\.)*|(?!true|false|null)[^"'&\s,}\]]+)""",
    re.IGNORECASE,
)
SECRET_HEADERS = re.compile("(set-)?cookie|proxy-authorization|x-api-key", re.IGNORECASE)


def may_be_secret(text: str) -> bool:
    """Return False for texts without passwords, quicker than a regular expression does."""
    text = text.lower()
    is_named = "passw" in text or "secret" in text or "key" in text or "psk" in text
    return is_named or "\\u00" in text


def masked(value: Any, name: str = "") -> Any:
    """Return a JSON value without passwords: {"password": "x"} -> {"password": "***"}.

    A text may be JSON itself.
    """
    if value and value is not True and may_be_secret(name) and SECRET_NAME.fullmatch(name):
        return "***"
    if isinstance(value, dict):
        return {key: masked(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner) for inner in value]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """Return a text without passwords. What it has in JSON is written anew if that has any."""
    if not may_be_secret(text):
        return text
    try:
        value = load_json(text)
    except ValueError:
        return SECRET.sub(r"\1***", text)
    shown = masked(value)
    return text if shown == value else json.dumps(shown, ensure_ascii=False)


def journalled(name: str, value: Any) -> Any:
    """Return a parameter as the journal keeps it: a password is masked, a long value cut."""
    shown = masked(value, name)
    text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    return f"{text[:LONGEST_VALUE]}…" if len(text) > LONGEST_VALUE else shown


@dataclass(slots=True, eq=False)
class Message:
    """A request or an answer in the journal: its headers, and the begin of its body.

    size    of the whole body
    """

    headers: Mapping[str, str]
    body: str | bytes = b""  # bytes if it is no text
    size: int = 0

    @classmethod
    def of(cls, headers: Mapping[str, str], body: str | bytes = b"") -> Message:
        """Return the message with its body cut, and no headers if they are longer than a body."""
        fits = sum(map(len, headers.values())) <= LONGEST_BODY
        return cls(headers if fits else {}, body[:LONGEST_BODY], len(body))

    @property
    def text(self) -> str:
        """The body without passwords."""
        body = self.body
        return masked_text(body if isinstance(body, str) else body.decode(errors="replace"))

    def open_headers(self) -> dict[str, str]:
        """Return the headers without passwords but that of the API's session."""
        headers = {}
        for name, value in self.headers.items():
            is_secret = SECRET_HEADERS.fullmatch(name)
            headers[name] = "***" if is_secret else re.sub("//[^/@]*@", "//***@", value)
        return headers

    def as_json(self) -> Item:
        row = {"headers": self.open_headers(), "body": self.text, "size": self.size}
        is_whole = self.headers and len(self.body) == self.size
        return row if is_whole else row | {"truncated": True}


NO_MESSAGE = Message({})


@dataclass
class Entry:
    """An entry of the journal: one request with its answer.

    code      of the error in the answer; of a 202, of the error that its job ended with
    outcome   ok, error, how the answer broke; of a 202 running, then succeeded or failed
    hints     sent in X-ZMock-Hint
    ms        from the head of the request to the answer, in real time
    drop      how the answer breaks
    end       the outcome and the code of its job, once that has ended

    Only the terminal shows these:

    began     when the request came, on the monotonic clock
    fault     the fault that a rule chose for it
    error     the text of the error in the answer
    is_last   True for a poll that shows the end of its job
    hung_up   True if the client was gone before the answer

    is_spelled  True if a header of the request is for zmock
    """

    seq: int
    moment: Seconds
    began: Seconds
    method: str
    path: str
    query: str
    api: str = ""
    params: Item = field(default_factory=dict)
    status: int = 0
    code: str = ""
    job: str = ""
    outcome: str = ""
    rule: str = ""
    ms: float = 0
    hints: list[str] = field(default_factory=list)
    drop: str = ""
    end: tuple = ()
    fault: Fault = NO_FAULT
    error: str = ""
    is_last: bool = False
    hung_up: bool = False
    is_spelled: bool = False
    request: Message = field(default=NO_MESSAGE, repr=False)  # it may have passwords
    answer: Message = field(default=NO_MESSAGE, repr=False)

    @property
    def time(self) -> str:
        return iso(self.moment)

    @property
    def target(self) -> str:
        """The path with the query string."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def add_params(self, params: Item) -> None:
        """Add the parameters of the call, without passwords."""
        for name in [*params][:MOST_JOURNAL_PARAMS]:
            self.params[name[:200]] = journalled(name, params[name])

    def as_json(self) -> Item:
        """Return the entry as /zmock/calls shows it."""
        row = {"seq": self.seq, "time": self.time} | vars(self) | {"hint": "; ".join(self.hints)}
        for name in INNER_FIELDS:
            del row[name]
        return row

    def in_full(self) -> Item:
        """Return the entry with its request and answer, as /zmock/calls/{seq} shows it."""
        messages = {"request": self.request.as_json(), "answer": self.answer.as_json()}
        return self.as_json() | messages


@dataclass
class Answer:
    """An answer to send. A body of None is the empty result.

    ready   the head as bytes without the date, if it is made already
    """

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    ready: bytes = b""


def json_or_none(body: Any) -> Any:
    """Return the JSON value in the bytes of a body, None for other bytes."""
    if not isinstance(body, bytes):
        return body
    try:
        return load_json(body.decode())
    except ValueError:
        return None


def raw_answer(status: int, body: Any, headers: Item) -> Answer:
    """Return an answer that is not ZStack's but of a proxy in between."""
    headers = {name.title(): value for name, value in headers.items()}
    if not isinstance(body, str):
        octets = b"" if body is None else to_json(body)
        return Answer(status, octets, {"Content-Type": "application/json"} | headers)
    kind = "html" if body.lstrip().startswith("<") else "plain"
    return Answer(status, body.encode(), {"Content-Type": f"text/{kind}; charset=utf-8"} | headers)


def members_answered(call: Call) -> dict[str, Member]:
    """Return the members of a call's answer, with their classes.

    A query with `fields` answers the class that it asks for, not the class of each item (ZQL.java).
    """
    query, members = call["query"], call.api.members
    if not query or query.fields is None:
        return members
    java = members["inventories"].java
    java = java.kinds.get(query.kind(java.discriminator), java)
    plain = replace(java, kinds={})
    return {name: replace(member, java=plain) for name, member in members.items()}


def with_inventory(text: bytes) -> bytes:
    """Return the text of an answer with its only inventory as `inventory` too.

    {"inventories":[X]} -> {"inventory":X,"inventories":[X]}
    """
    inventory = text.removeprefix(b'{"inventories":[').removesuffix(b"]}")
    return b'{"inventory":%b,%b' % (inventory, text[1:])


# answers that are ready, for GETs are repeated again and again

LONGEST_CACHED = 1 << 16  # bytes of one answer
STANDING_ROOM = 1 << 24  # bytes of all answers


class Unanswered(web.StreamResponse):
    """An answer of which aiohttp sends nothing: all of it is sent already, or nothing is."""

    keep_alive = False

    def __init__(self, keep_alive: bool = False) -> None:
        super().__init__()
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class PrebuiltResponse(Unanswered):
    """An answer whose bytes are ready. They leave in one write, past aiohttp's own headers."""

    def __init__(self, request: web.Request, octets: bytes) -> None:
        super().__init__(keep_alive=True)
        self.transport = request.transport
        self.octets = octets

    async def write_eof(self, data: bytes = b"") -> None:
        self.transport.write(self.octets)

    @staticmethod
    def fits(request: web.Request) -> bool:
        """Return True for a connection that stays open and on which nothing waits to be sent."""
        transport = request.transport
        if not transport or transport.is_closing() or transport.get_write_buffer_size():
            return False
        return request.keep_alive and request.version == aiohttp.HttpVersion11


@dataclass(slots=True)
class CachedAnswer:
    """An answer to a query that stands until an item of a type that it was read from changes.

    head       without the date
    message    it, as the journal shows it
    versions   of the tables of these types: [("Zone", version)]
    """

    api: Api
    params: Item
    body: bytes
    head: bytes
    message: Message
    versions: list[tuple[str, object]]

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return 2000 + len(self.body) + sum(len(str(value)) for value in self.params.values())


class AnswerCache:
    """The answers that stand, by path with query, up to STANDING_ROOM bytes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clear()

    def clear(self) -> None:
        self.answers: dict[str, CachedAnswer] = {}
        self.weight = 0

    def find(self, path: str) -> CachedAnswer | None:
        """Return the answer to a path if it still stands."""
        answer = self.answers.get(path)
        if answer and all(self.is_current(*pair) for pair in answer.versions):
            return answer
        self.drop(path)
        return None

    def is_current(self, type: str, version: object) -> bool:
        tables = self.store.tables
        return type in tables and tables[type].version is version

    def keep(self, path: str, answer: CachedAnswer) -> None:
        self.drop(path)
        size = len(path) + answer.weight
        if self.weight + size > STANDING_ROOM:
            self.clear()
        self.answers[path] = answer
        self.weight += size

    def drop(self, path: str) -> None:
        if path in self.answers:
            self.weight -= len(path) + self.answers.pop(path).weight


# answers that break

BREAKS = (*DROPS, "after", "rate")
SILENT_BREAKS = {"reset", "empty", "hang"}  # nothing at all is sent
SLOW_BREAKS = {"dribble", "rate"}  # the whole body is sent, piece by piece
CHUNKED_BREAKS = {"garbage", "slow-close"}
PIECE_SECONDS = 0.1  # seconds between two pieces of a slow answer


def pieces_sent(drop: str, amount: float, body: bytes) -> list[bytes]:
    """Return the pieces of a body that a broken answer sends, in order."""
    if drop in SILENT_BREAKS:
        return []
    if drop in SLOW_BREAKS:
        size = max(1, int(amount * PIECE_SECONDS))
        return [body[place : place + size] for place in range(0, len(body), size)]
    sizes = {"after": int(amount), "slow-close": len(body)}
    return [body[: sizes.get(drop, len(body) // 2)]]


async def send_broken(
    request: web.Request, response: web.Response, clock: Clock, drop: str, amount: float
) -> web.StreamResponse:
    """Send as much of an answer as `drop` lets through, and end the connection as it says."""
    if drop == "reset":
        send_reset(request.transport)
    if drop in SILENT_BREAKS:  # a hanging answer keeps the client waiting, but no task
        return Unanswered(keep_alive=drop == "hang")
    body: Any = response.body
    pieces = [] if request.method == "HEAD" else pieces_sent(drop, amount, body)
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    if drop in SLOW_BREAKS:
        stream.content_length = len(body)
    elif drop not in CHUNKED_BREAKS:
        stream.content_length = max(1, len(body))
    elif request.version >= aiohttp.HttpVersion11:
        stream.enable_chunked_encoding()
    await stream.prepare(request)
    for number, piece in enumerate(pieces):
        await clock.sleep(len(piece) / amount if number else 0)
        await stream.write(piece)
    if drop == "garbage" and pieces and request.transport:
        request.transport.write(b"\x00\xff\xfe no chunk begins like this\r\n")
    if drop == "slow-close":
        await clock.sleep(amount)
    if drop == "slow-close" or drop in SLOW_BREAKS:
        await stream.write_eof()
    return stream if drop in SLOW_BREAKS else Unanswered()


def send_reset(transport: Any) -> None:
    """Send a RST: the client sees "connection reset by peer"."""
    if transport:
        at_once = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        transport.abort()


# calls


class Unreachable(Exception):
    """The management node is down: the connection is reset without an answer."""


CLOUD = web.AppKey("cloud", Cloud)
EXPOSED_HEADERS = ("X-ZMock-Hint", "X-ZMock-Rule", "Allow", "Date")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ALLOWED_HEADERS = ", ".join(["Authorization", "Content-Type", *HEADERS_READ])
PREFLIGHT_SECONDS = "600"  # how long a browser may keep the answer to a preflight
KINDS_OF_APIS = {"POST": "creational", "GET": "query", "DELETE": "delete"}  # RestServer.java

Variables = dict[str, str]  # the variables of a path: {"uuid": "..."}


def headers_for_page(request: web.Request, names: Iterable[str] = ()) -> dict[str, str]:
    """Return the headers that let the page of a request read its answer, {} for no page.

    `names` are those of the answer's own headers. They and the origin are listed, as with
    credentials a browser does not accept "*".
    """
    origin = header_of(request, "Origin")
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": ", ".join(dict.fromkeys([*EXPOSED_HEADERS, *names])),
    }


def headers_of_preflight(request: web.Request) -> dict[str, str]:
    """Return the headers that allow the request which a browser asks about, whatever it is.

    The page can then read why the request is wrong.
    """
    method = header_of(request, "Access-Control-Request-Method") or "GET"
    headers = header_of(request, "Access-Control-Request-Headers") or ALLOWED_HEADERS
    answer = {
        "Access-Control-Allow-Methods": ", ".join(dict.fromkeys([*METHODS, method])),
        "Access-Control-Allow-Headers": headers,
        "Access-Control-Max-Age": PREFLIGHT_SECONDS,
    }
    if header_of(request, "Access-Control-Request-Private-Network"):
        answer["Access-Control-Allow-Private-Network"] = "true"
    return answer


class Rest:
    """The API below /zstack/v1: one request in, one answer out.

    The order of a call, as in dispatch():

    1. find the API that the path means, and read the body
    2. check the session header
    3. read the parameters, or the query
    4. match a rule
    5. run the call now, or submit it as a job

    answer() then records the call in the journal and sends the answer.
    """

    def __init__(
        self, settings: Settings, cloud: Cloud, jobs: Jobs, faults: Faults, journal: deque[Entry]
    ) -> None:
        self.settings = settings
        self.cloud, self.jobs, self.faults = cloud, jobs, faults
        self.scenarios = Scenarios(faults)
        self.dialect, self.clock, self.catalogue = cloud.dialect, cloud.clock, cloud.catalogue
        self.journal = journal
        self.seq = itertools.count(1)
        self.dropped = 0  # calls that the journal had no room for
        self.watchers: list[Callable[[str, Entry], None]] = []  # of calls, see tell()
        self.logged_hints: dict[str, None] = {}  # the oldest first
        self.cached = AnswerCache(cloud.store)
        hint_on_path = functools.partial(path_hint, cloud.catalogue)
        self.hint_on_path = functools.lru_cache(MOST_WRONG_PATHS)(hint_on_path)
        self.headers = {"Vary": "Origin"}  # of every answer
        if self.dialect["response-headers"]:
            self.headers["Content-Type"] = "application/json"
        self.start: Start | None = None  # the cloud as it was made, for a reset
        self.made: Item = {}  # the settings that filled the folder: {"cloud": "demo", "seed": 1}
        self.base = ""  # where zmock listens, once it does

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request: the one way out of every API call."""
        path, _, query = request.raw_path.partition("?")
        path = re.sub("^https?://[^/]*", "", path)
        seq, now, began = next(self.seq), self.clock.now(), self.clock.monotonic()
        entry = Entry(seq, now, began, request.method, path, query[:LONGEST_VALUE])
        entry.request = Message.of(request.headers)
        entry.is_spelled = has_spells(request)
        try:
            answer = self.cached_answer(request, entry) if request.method == "GET" else None
            answer = answer or await self.dispatch(request, entry)
        except Unreachable:
            answer = Answer(503)
            entry.drop = "reset"
        except ApiError as error:
            answer = self.error_answer(error, entry)
        except Exception as error:  # any exception of a service is SYS.1000 (MessageSafeAspect.aj)
            log.exception("%s %s failed", entry.method, entry.path)
            answer = self.error_answer(ApiError("SYS.1000", str(error)), entry)
        entry.hung_up = request.transport is None
        self.record(entry, answer.status)
        return await self.send(request, answer, entry)

    async def dispatch(self, request: web.Request, entry: Entry) -> Answer:
        """Find the API of a request, read the call, match a rule, and run the call."""
        if self.cloud.outages.nodes_away:
            raise Unreachable
        if self.faults.armed and (stub := await self.answer_of_stub(request, entry)):
            return stub
        if request.method == "OPTIONS":
            return self.preflight(request, entry.path)
        path = path_below(entry.path, self.dialect, self.catalogue)
        if path.startswith("/api-jobs/"):
            call = self.read_poll(path, entry)
        else:
            api, variables, body = await self.find_api(request, path, entry)
            entry.api = api.name
            if api.method != "GET" or entry.is_spelled:
                entry.hints += unread_headers(request.headers)
            if not self.cloud.simulated(api):
                raise self.not_simulated(api)
            session = self.check_session(request, api)
            call = self.read_call(request, api, variables, body, session, entry)
        self.cloud.used[call.api.name] += 1
        at_once = self.cloud.at_once(call.api)
        if not at_once:
            call.seconds = draw_seconds(self.cloud, call.api)
        # Without rules, a job's object or headers may name a fault.
        if self.faults.armed or not at_once or entry.is_spelled:
            self.match_rule(request, call, entry)
        if call.fault.at in ("accept", "after"):
            return await self.run_with_fault(request, call, entry)
        if at_once:
            return await self.run_now(request, call, entry)
        call.seconds += call.fault.delay
        return await self.submit(request, call, entry)

    async def wait(self, awaitable: Awaitable[object]) -> None:
        """Wait in the middle of a call. Raise if the mock is reset or its node dies meanwhile."""
        resets, deaths = self.cloud.resets, self.cloud.outages.node_deaths
        await awaitable
        if resets != self.cloud.resets:
            raise ApiError("SYS.1012", "the mock was reset while the call waited")
        if deaths != self.cloud.outages.node_deaths:
            raise Unreachable

    # cached answers

    def cached_answer(self, request: web.Request, entry: Entry) -> Answer | None:
        """Return the earlier answer to the same GET by admin, if it still stands."""
        if self.faults.armed or self.cloud.outages.nodes_away:
            return None
        if request.body_exists or "X-JSON-Schema" in request.headers or entry.is_spelled:
            return None
        cached = self.cached.find(request.raw_path)
        if cached is None:
            return None
        entry.api, entry.params = cached.api.name, cached.params
        session = self.cloud.accounts.session(self.check_session(request, cached.api))
        if session["userUuid"] != ADMIN:
            return None
        self.cloud.used[cached.api.name] += 1
        entry.answer = cached.message
        return Answer(200, cached.body, ready=cached.head)

    def cache_answer(self, request: web.Request, call: Call, text: bytes, entry: Entry) -> None:
        """Cache the answer to a query, unless it depends on more than the items that it reads."""
        if entry.hints or call.user != ADMIN or call.api.behaviour:
            return
        if len(text) > LONGEST_CACHED:
            return
        row = self.catalogue.resource(call.api.type)
        types = self.cloud.queries.reads(call["query"], row)
        if not types:
            return
        headers = self.headers | {"Content-Length": str(len(text)), "Server": SERVER_SOFTWARE}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = "HTTP/1.1 200 OK\r\n" + "".join(lines) + "Date: "
        versions = [(type, self.cloud.store.table(type).version) for type in types]
        message = Message.of(headers, text)
        cached = CachedAnswer(call.api, entry.params, text, head.encode(), message, versions)
        self.cached.keep(request.raw_path, cached)

    # reading

    async def find_api(
        self, request: web.Request, path: str, entry: Entry
    ) -> tuple[Api, Variables, Item]:
        """Return the API that a request means, the variables of its path, and its body."""
        apis = self.catalogue.route(path)
        if not apis:
            hint = f"without the slash at the end: {path.rstrip('/')}"
            if not self.catalogue.route(path.rstrip("/")):
                hint = self.hint_on_path(effective_method(request.method), shape_of(path))
            raise FrontError(404, f"no api mapping to /v1{path}", hint)
        text = await read_body(request, self.settings.body_limit, self.dialect, entry)
        body = parse_body(text, self.dialect, len(apis) == 1)
        match = apis[0]
        if self.dialect["wrong-method"] or len(apis) > 1:
            method = effective_method(request.method)
            fitting = [match for match in apis if match[0].method == method]
            if not fitting:
                raise self.wrong_method(request, [api for api, _ in apis], path)
            match = fitting[0]
            if method == "PUT" and (len(apis) > 1 or body.keys() - OPEN_TO_ALL):
                match = self.choose_action(fitting, path, body, text)
        api, variables = match
        return api, variables, body

    def not_simulated(self, api: Api) -> FrontError:
        file = self.catalogue.rows.origins.get(f"apis, {api.name}")
        hint = "GET /zmock/apis lists what is"
        if file:
            hint = f'its row in {file} needs "backing": "generic"'
        return FrontError(501, f"{api.name} is not simulated", hint)

    def choose_action(
        self, matches: list[tuple[Api, Variables]], path: str, body: Item, text: str
    ) -> tuple[Api, Variables]:
        """Return the API whose action a body names (RestServer.java handleNonUniqueApi)."""
        for match in matches:
            if self.key_of(match[0], body) is not None:
                return match
        if not self.dialect["wrong-method"] and text.strip() in ("", "null"):
            raise FrontError(500, "")
        keys = [api.key for api, _ in matches]
        wrong = next((key for key in body if key not in OPEN_TO_ALL), "")
        readers = [api for api, _ in matches if wrong in api.params]
        hint = f"{wrong[:200] or 'an empty body'} is no action here{did_you_mean(wrong, keys)}"
        if wrong == "params" or readers:
            api = readers[0] if readers else matches[0][0]
            inner = ", ".join(f'"{name}": ...' for name in api.params if name in body)
            hint += f'; parameters go inside the action: {{"{api.key}": {{{inner or "..."}}}}}'
        hint += f"; there {'is' if len(keys) == 1 else 'are'} {', '.join(keys)}"
        hint += action_elsewhere(self.catalogue, wrong, keys)
        raise no_action(path, hint)

    def wrong_method(self, request: web.Request, apis: list[Api], path: str) -> FrontError:
        """Return the error of a method that no API of a path has."""
        allowed = sorted({api.method for api in apis})
        hint = f"{path} takes {', '.join(allowed)}: {names_of(apis)}"
        if path.endswith("/actions") and "PUT" in allowed:
            action = next(api.key for api in apis if api.method == "PUT")
            hint += f'; the key of the body names the action, as {{"{action}": {{}}}}'
        else:
            hint += other_path(self.catalogue, request.method, path)
        if len(apis) == 1:
            hint += "; zmock --dialect server runs it for any verb, as the server does"
        method = effective_method(request.method)
        if method in KINDS_OF_APIS and not self.dialect["wrong-method"]:
            details = f"No {KINDS_OF_APIS[method]} API found for the path[/zstack/v1{path}]"
            return FrontError(500, details, hint)
        if method == "PUT" and not self.dialect["wrong-method"]:
            return no_action(path, hint)
        raw_path = request.raw_path.partition("?")[0]
        details = f"The method[{request.method}] is not allowed for the path[{raw_path}]"
        return FrontError(405, details, hint, allowed)

    def key_of(self, api: Api, body: Item) -> str | None:
        """Return the key of the body below which the parameters of an API stand, if it is there."""
        keys = api.keys
        if api.name == "LogInByAccount" and self.dialect["login-key"]:
            keys = (api.key, "loginByAccount")
        return next((key for key in keys if key in body), None)

    def check_session(self, request: web.Request, api: Api) -> Uuid:
        """Return the session that a request carries, "" if the API needs none."""
        if not self.cloud.needs_session(api):
            return ""
        header = header_of(request, "Authorization")
        if header is None:
            login = f"curl -X PUT {self.base}/zstack/v1/accounts/login -d '{LOGIN}'"
            uuid = "the uuid of its inventory"
            hint = f"log in ({login}) and send {uuid} as Authorization: OAuth UUID"
            raise FrontError(400, "missing header 'Authorization'", hint)
        header = header.strip()
        if not header.startswith("OAuth"):
            match = re.search("[0-9a-f]{32}", header)
            uuid = match[0] if match else "UUID, that of a session"
            hint = f"send Authorization: OAuth {uuid}"
            raise FrontError(400, "Authorization type must be 'OAuth'", hint)
        return header.removeprefix("OAuth").strip()

    def read_poll(self, path: str, entry: Entry) -> Call:
        """Return the call that polls a job."""
        uuid = path.removeprefix("/api-jobs/")
        entry.api, entry.job = POLL_JOB.name, uuid[:LONGEST_VALUE]
        return Call(POLL_JOB, {"uuid": uuid}, arguments={"uuid": uuid})

    def read_call(
        self,
        request: web.Request,
        api: Api,
        variables: Variables,
        body: Item,
        session: Uuid,
        entry: Entry,
    ) -> Call:
        """Return the call of a request, with parameters that check_params has checked."""
        arguments = read_arguments(request.raw_path.partition("?")[2], self.dialect)
        if api.kind == "Query":
            return self.read_query_call(api, variables, arguments, session, entry)
        job = self.job_uuid(request, api)
        key = self.key_of(api, body)
        if effective_method(request.method) in ("GET", "DELETE"):
            params = self.read_url_params(request, api, arguments, body)
        else:
            params = member_of(body, key, self.dialect)
        params = without_nulls(params) | variables
        tags = self.take_tags(request, params, body)
        call = Call(api, {}, session, job, tags["systemTags"], tags["userTags"])
        call.arguments = self.cloud.spelled(api, params)
        call.arguments |= {name: values for name, values in tags.items() if values}
        entry.add_params(params)
        entry.hints += unread_hints(api, params, body, arguments, key, self.dialect)
        self.check_params(call, params)
        return call

    def check_params(self, call: Call, params: Item) -> None:
        """Set the parameters of a call, as their types. Raise BadParameter for an illegal one.

        In the server dialect the call is refused only when it runs.
        """
        job_data = params.get("jobData") if call.api.name == "SubmitLongJob" else None
        if isinstance(job_data, dict) and self.dialect["job-data-object"]:
            params["jobData"] = json.dumps(job_data)
        try:
            call.params = self.cloud.check(call.api, params)
        except BadParameter as error:
            if error.absent:
                error.hint = Examples(self.cloud, call).hint_on_missing(error.absent)
            if self.dialect["bad-parameter"]:
                error.status = 400
                raise
            call.refused = error

    def read_url_params(
        self, request: web.Request, api: Api, arguments: Arguments, body: Item
    ) -> Item:
        """Return the parameters in the query string of a GET or DELETE.

        The body of a DELETE may have some too, at its top or in `params` (manual 4.4.1).
        """
        params = from_query(api, arguments, self.dialect)
        if request.method == "DELETE" and self.dialect["delete-parameters"]:
            params |= {name: value for name, value in body.items() if name != "params"}
            params |= member_of(body, "params", self.dialect)
        return params

    def take_tags(
        self, request: web.Request, params: Item, body: Item
    ) -> dict[str, list[str]]:
        """Take the tags out of the parameters. Tags beside the parameters replace them."""
        has_tags = request.method in ("POST", "PUT") or self.dialect["delete-parameters"]
        tags = {}
        for name in ("systemTags", "userTags"):
            inner = params.pop(name, None)
            outer = body.get(name) if has_tags else None
            tags[name] = tag_list(outer or inner or [], name, self.dialect)
        return tags

    def read_query_call(
        self, api: Api, variables: Variables, arguments: Arguments, session: Uuid, entry: Entry
    ) -> Call:
        """Return the call of a Query API; its only parameter is the query."""
        entry.add_params(dict(arguments) | variables)
        names = [name for name, _ in arguments]
        if "uuid" in variables:
            query = Query(uuid=variables["uuid"])
            if names:
                unread_names = ", ".join(sorted(set(names)))
                entry.hints.append(f"with a uuid in the path nothing reads {unread_names}")
        else:
            query, unread_keys = read_query(arguments, self.dialect)
            fields = self.catalogue.resource(api.type).all_fields
            for name in sorted(unread_keys):
                entry.hints.append(other_key(name, fields, self.dialect))
            if names.count("fields") > 1 and not self.dialect["repeated-fields"]:
                entry.hints.append("the server reads the first fields only: write fields=uuid,name")
        return Call(api, {"query": query}, session, arguments=dict(arguments) | variables)

    def job_uuid(self, request: web.Request, api: Api) -> Uuid:
        """Return X-Job-UUID, or a new uuid if the call becomes a job."""
        uuid = header_of(request, "X-Job-UUID")
        if uuid is None:
            return "" if self.cloud.at_once(api) else self.cloud.uuid()
        pattern, hint = ".{32}", ""
        if self.dialect["job-uuid"]:
            pattern = UUID.replace("[1-5]", "4")
            hint = "it must be a v4 UUID, lower case, without dashes"
        if not re.fullmatch(pattern, uuid):
            details = "Invalid header[X-Job-UUID], it must be a UUID with '-' stripped"
            raise FrontError(400, details, hint)
        return uuid

    # rules

    def match_rule(self, request: web.Request, call: Call, entry: Entry) -> None:
        """Set the fault of a call: what its headers ask for, else that of the first rule."""
        if entry.is_spelled:
            call.fault = self.fault_of_headers(request, call.api, entry)
        if not call.fault.name:
            occasion = self.occasion_of(entry, call.arguments, request.transport)
            call.fault = self.faults.decide(occasion)
        self.note_fault(call.fault, entry)

    def fault_of_headers(self, request: web.Request, api: Api, entry: Entry) -> Fault:
        """Return the fault that the headers of a request ask for, none with --no-magic."""
        if self.settings.no_magic:
            entry.hints.append(f"--no-magic: nothing reads {', '.join(SPELLS.values())}")
            return NO_FAULT
        words = {}
        for word, name in SPELLS.items():
            if name in request.headers:
                words[word] = header_of(request, name)
        if not words:
            return NO_FAULT
        at = "accept" if self.cloud.at_once(api) else "job"
        try:
            return self.faults.requested("header", at, words)
        except ValueError as error:
            raise FrontError(400, str(error), str(error)) from None

    def note_fault(self, fault: Fault, entry: Entry) -> None:
        """Put a fault into the entry of its call, and tell the watchers."""
        entry.rule = header_safe(fault.name)
        if fault.hint:
            entry.hints.append(fault.hint)
        if fault.name:
            entry.fault = fault
            self.tell("fault", entry)

    def occasion_of(
        self, entry: Entry, arguments: Item, transport: Any = None
    ) -> MatchedCall:
        """Return a call as rules see it, with its object as it is now."""
        api = self.faults.apis.get(entry.api)
        job = self.cloud.store.peek("Job", entry.job) if api is POLL_JOB else None
        return MatchedCall(
            api,
            effective_method(entry.method),
            entry.path,
            entry.query,
            arguments,
            entry.request.headers,
            self.jobs.as_json(job) if job else self.cloud.resource_of(api, arguments),
            job.get("key", "") if job else "",
            entry,
            transport,
            self.clock.steady(),
        )

    def try_rule(self, definition: Any) -> Item:
        """Return the calls of the journal that a rule matches, as the journal knows them."""
        rule = self.faults.compile(definition)
        occasions = [self.occasion_of(entry, entry.params) for entry in self.journal]
        calls = [occasion.entry.seq for occasion in occasions if rule.is_for(occasion)]
        return {"matches": len(calls), "of": len(self.journal), "calls": calls}

    # stubs

    async def answer_of_stub(self, request: web.Request, entry: Entry) -> Answer | None:
        """Return the answer of the first stub that fires, or None."""
        self.faults.reread()
        if not self.faults.stubs:
            return None
        arguments = await self.read_for_stubs(request, entry)
        occasion = self.occasion_of(entry, arguments, request.transport)
        fault = self.faults.decide(occasion, stubs=True)
        if fault.answer:
            self.note_fault(fault, entry)
            await self.wait(self.clock.sleep(fault.delay))
            return raw_answer(*fault.answer)
        return None

    async def read_for_stubs(self, request: web.Request, entry: Entry) -> Item:
        """Note the API and the body of a request. Return the body, as part of call_key()."""
        with contextlib.suppress(FrontError):
            await read_body(request, self.settings.body_limit, self.dialect, entry)
            path = path_below(entry.path, self.dialect, self.catalogue)
            if path.startswith("/api-jobs/"):
                self.read_poll(path, entry)
            else:
                api, _, _ = await self.find_api(request, path, entry)
                entry.api = api.name
        return {"body": entry.request.body}

    async def run_with_fault(self, request: web.Request, call: Call, entry: Entry) -> Answer:
        """Return the answer to a call that a rule fails, breaks, slows down or answers itself."""
        fault, at_once = call.fault, self.cloud.at_once(call.api)
        if at_once or fault.at == "accept":
            hold = fault.hold_for if fault.job == "hold" else 0
            name = f"answer of {call.api.name}"
            await self.wait(self.clock.sleep(fault.delay + hold, name))
        else:
            call.seconds += fault.delay
        entry.drop = fault.drop
        answer = None
        if runs_despite_fault(call):
            run = self.run_now if at_once else self.submit
            try:
                answer = await run(request, call, entry)
            except ApiError as error:
                answer = self.error_answer(error, entry)
        if fault.answer:
            entry.code = ""
            return self.stub_answer(request, call)
        if fault.error and (at_once or not answer):  # else the poll of its job returns the error
            raise fault.error
        if answer and fault.merge:
            answer.body = merged(json_or_none(answer.body), fault.merge)
        if answer:
            return answer
        if at_once:
            return Answer(200, {})
        return Answer(202, self.location(request, call.job))

    def stub_answer(self, request: web.Request, call: Call) -> Answer:
        """Return the answer that a rule gives. Without a body, a 2xx has that of the dialect."""
        status, body, headers = call.fault.answer
        answer = raw_answer(status, body, headers)
        if body is not None or not 200 <= status < 300 or status == 204:
            return answer
        if status == 202 and call.api is POLL_JOB:
            answer.body = self.still_running(request, call["uuid"]).body
        elif status == 202 and call.job:
            answer.body = self.location(request, call.job)
        else:
            answer.body = None
        return answer

    # running

    async def run_now(self, request: web.Request, call: Call, entry: Entry) -> Answer:
        """Run a synchronous call. Return its answer once its changes are on disk."""
        if call.api is POLL_JOB:
            return self.poll(request, call["uuid"], entry)
        if call.refused:
            raise call.refused
        store = self.cloud.store
        writes = store.writes
        try:
            with store.all_or_nothing() as changes:
                body = self.cloud.perform(call)
        except NeverAnswered as error:
            await self.wait(self.clock.sleep(error.seconds, f"time-out of {call.api.name}"))
            raise
        if store.writes != writes:
            await self.wait(store.commit(lambda error: store.take_back(changes)))
        if call["query"]:
            return self.query_answer(request, call, body, entry)
        if body is not None and call.api.whole and not self.dialect["success-field"]:
            body = body | {"success": True}
        if "X-JSON-Schema" in request.headers:
            body = dict(body or {})
            body["schema"] = schema_of(body, call.api.members)
        return Answer(200, body)

    def query_answer(self, request: web.Request, call: Call, body: Item, entry: Entry) -> Answer:
        """Return the answer to a query, with `inventory` and `schema` as the dialect has them.

        Its hints tell of conditions that no item can satisfy.
        """
        row = self.catalogue.resource(call.api.type)
        has_any = bool(body.get("total") or body.get("inventories"))
        uuid = call["query"].uuid
        if uuid and not has_any and not re.fullmatch("[0-9a-fA-F]{32}", uuid):
            param = ValueSpec("uuid", refers=row.name)
            entry.hints.append(Examples(self.cloud, call).hint_on_absent(uuid, param))
        entry.hints += self.cloud.queries_of(call).doubts(call["query"], row, has_any)
        wants_schema = "X-JSON-Schema" in request.headers
        single = call["query"].uuid and self.dialect["get-one"] and body["inventories"]
        if wants_schema or not self.dialect["query-schema"]:
            if single:
                body = {"inventory": single[0]} | body
            body["schema"] = schema_of(body, members_answered(call))
            text = to_json(body)
        else:
            text = with_inventory(to_json(body)) if single else to_json(body)
        if not wants_schema:
            self.cache_answer(request, call, text, entry)
        return Answer(200, text)

    async def submit(self, request: web.Request, call: Call, entry: Entry) -> Answer:
        """Submit a call as a job. Return its 202 once the job is on disk."""
        store = self.cloud.store
        if store.peek("Job", call.job):
            details = f"could not execute statement; Duplicate entry '{call.job}' for key 'PRIMARY'"
            status = 400 if self.dialect["job-uuid"] else 500
            hint = "this X-Job-UUID was used before"
            raise FrontError(status, f"ConstraintViolationException: {details}", hint)
        if call.refused:
            call.fault = replace(
                call.fault, name="", error=call.refused, at="job", stage="", job=""
            )
        call.key = call_key(effective_method(entry.method), entry.path, entry.query, call.arguments)
        call.on_end = functools.partial(self.record_end, entry)
        entry.job = call.job
        self.cloud.note_caller(call)
        hook = header_of(request, "X-Web-Hook") or ""
        self.jobs.submit(call, hook.strip(), "X-JSON-Schema" in request.headers)
        await self.wait(store.commit(lambda error: self.jobs.withdraw(call)))
        hook_first = self.jobs.hooks_first.get(call.job)
        if hook_first:
            await self.wait(hook_first.wait())
        return Answer(202, self.location(request, call.job))

    def poll(self, request: web.Request, uuid: Uuid, entry: Entry) -> Answer:
        """Return the result of a job, or 202 while it runs."""
        if effective_method(request.method) != "GET":
            details = "only GET method is allowed for querying job status"
            hint = f"write GET /api-jobs/{uuid}; POST /zmock/jobs/{uuid} ends it"
            raise FrontError(405, details, hint, ("GET",))
        record = self.jobs.poll(uuid) or {}
        rule = record.get("rule") or self.jobs.expired_by.get(uuid, "")
        entry.rule = entry.rule or header_safe(rule)
        if not record:
            raise FrontError(404, "the job has been expired", self.hint_on_job(uuid))
        if record.get("hint"):
            entry.hints.append(record["hint"])
        if record["state"] not in OVER:
            return self.still_running(request, uuid)
        entry.code, entry.error, entry.is_last = code_of(record), failure_of(record), True
        status = 503 if record["state"] == "failed" else 200
        wants_schema = "X-JSON-Schema" in request.headers
        api = self.catalogue.apis[record["api"]] if wants_schema else None
        return Answer(status, result_of(record, api))

    def hint_on_job(self, uuid: Uuid) -> str:
        """Return the hint on a poll of no job, whose uuid may be that of an object."""
        types = [type for type in self.catalogue.resources if self.cloud.exists(type, uuid)]
        if types:
            kind = a_noun(types[-1])
            return f"this is the uuid of {kind}; the location in a 202 has that of the api-job"
        count = counted(self.cloud.store.count("Job"), "api-job")
        return f"there is no such api-job, or not any more; GET /zmock/jobs lists {count}"

    # answers

    def still_running(self, request: web.Request, uuid: Uuid) -> Answer:
        """Return the 202 of a poll while the job is not over."""
        return Answer(202, self.location(request, uuid) if self.dialect["poll-body"] else b"")

    def location(self, request: web.Request, job: Uuid) -> Item:
        """Return the body that tells where to poll a job.

        That is below --base-url, else at the address of a proxy, else as the dialect has it.
        """
        scheme, host, prefix = forwarded(request)
        if self.settings.base_url:
            base = self.settings.base_url.rstrip("/")
        elif self.base and not (scheme or host or prefix or self.dialect["job-location"]):
            base = self.base
        else:
            own = request.headers.get("Host", "")
            if not re.fullmatch(HOST, own):
                own = self.base.partition("://")[2]
            base = f"{scheme or request.scheme}://{host or own}{prefix}"
        return {"location": f"{base}/zstack/v1/api-jobs/{job}"}

    def error_answer(self, error: ApiError, entry: Entry) -> Answer:
        """Return the answer of an error, in the shape of the dialect."""
        entry.code, entry.error = error.code, str(error)
        if error.hint:
            entry.hints.append(error.hint)
        headers = {}
        if isinstance(error, FrontError):
            if error.allow:
                headers["Allow"] = ", ".join(error.allow)
            if not self.dialect["error-body"]:
                return Answer(error.status, error.details.encode(), headers)
        return Answer(error.status, {"error": self.catalogue.error_body(error)}, headers)

    def preflight(self, request: web.Request, path: str) -> Answer:
        """Return the answer to an OPTIONS, as a browser sends it before a request."""
        methods: Collection[str] = METHODS
        with contextlib.suppress(FrontError):
            path = path_below(path, self.dialect, self.catalogue)
            apis = [api for api, _ in self.catalogue.route(path)]
            if path.startswith("/api-jobs/"):
                apis = [POLL_JOB]
            methods = sorted({api.method for api in apis}) or METHODS
        allow = {"Allow": ", ".join(methods)}
        return Answer(200, b"", headers_of_preflight(request) | allow)

    async def send(
        self, request: web.Request, answer: Answer, entry: Entry
    ) -> web.StreamResponse:
        """Send an answer. A job's web-hook waits until its 202 has left."""
        body: Any = self.dialect["empty-result"] if answer.body is None else answer.body
        if answer.ready and self.dialect["response-headers"] and PrebuiltResponse.fits(request):
            lines = [rfc822_formatted_time()]
            lines += [f"{name}: {value}" for name, value in headers_for_page(request).items()]
            rest = "\r\n".join(lines).encode()
            return PrebuiltResponse(request, b"%b%b\r\n\r\n%b" % (answer.ready, rest, body))
        if not isinstance(body, bytes):
            body = to_json(body)
        headers = self.headers | answer.headers
        if entry.hints:
            headers["X-ZMock-Hint"] = header_safe("; ".join(entry.hints))
        if entry.rule:
            headers["X-ZMock-Rule"] = entry.rule
        if not self.dialect["response-headers"] and "JSESSIONID" not in request.cookies:
            headers["Set-Cookie"] = session_cookie(entry.seq)
        response = web.Response(status=answer.status, body=body, headers=headers)
        drop, amount = entry.drop, entry.fault.amount
        sent = b"".join(pieces_sent(drop, amount, body)) if drop else body
        entry.answer = Message.of(response.headers, sent)
        job = "" if entry.api == POLL_JOB.name else entry.job
        if job not in self.jobs.unanswered and not entry.drop:
            return response
        try:
            if drop:
                return await send_broken(request, response, self.clock, drop, amount)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:  # the client has gone
            return Unanswered()
        finally:
            self.jobs.answer_sent(job)
        return response

    # the journal

    def record(self, entry: Entry, status: int) -> None:
        """Add a call to the journal, tell the watchers, and log its hints."""
        entry.ms = round(1000 * (self.clock.monotonic() - entry.began), 1)
        entry.status = 0 if entry.drop in SILENT_BREAKS else status
        if entry.status < 400:
            entry.code = ""
        if entry.drop:
            entry.outcome = entry.drop
        elif status == 202 and entry.job:
            entry.outcome = "running"
        else:
            entry.outcome = "error" if status >= 400 else "ok"
        if entry.outcome == "running" and entry.end:  # the job was quicker
            entry.outcome, entry.code = entry.end
        entry.path, entry.params = entry.path[:LONGEST_VALUE], frozen(entry.params)
        entry.query = masked_text(entry.query)
        if len(self.journal) == self.journal.maxlen:
            self.dropped += 1
        self.journal.append(entry)
        if len(self.journal) > MOST_BODIES:
            old = self.journal[-1 - MOST_BODIES]
            old.request, old.answer = NO_MESSAGE, NO_MESSAGE
        if entry.hints:
            entry.hints = [hint[:LONGEST_VALUE] for hint in entry.hints[:MOST_HINTS]]
            self.log_hints(entry)
        self.tell("call", entry)

    def record_end(self, entry: Entry, outcome: str, code: str) -> None:
        """Give the entry of a 202 the outcome of its job, and tell who watches again."""
        entry.end = outcome, code
        if entry.outcome == "running":
            entry.outcome, entry.code = entry.end
            self.tell("end", entry)

    def tell(self, kind: str, entry: Entry) -> None:
        """Call the watchers with an entry: a "call", its "fault", or the "end" of its job."""
        for watch in self.watchers:
            watch(kind, entry)

    def log_hints(self, entry: Entry) -> None:
        """Log the hints of a call. A repeated hint is no warning: clients repeat their mistakes."""
        for hint in entry.hints:
            level = logging.INFO if hint in self.logged_hints else logging.WARNING
            hint_log.log(level, "%s %s: %s", entry.method, entry.path, hint)
            self.logged_hints[hint] = None
        for old in [*self.logged_hints][:-MOST_LOGGED_HINTS]:
            del self.logged_hints[old]

    def forget_calls(self) -> None:
        self.journal.clear()
        self.dropped = 0


def runs_despite_fault(call: Call) -> bool:
    """Return True if a call runs, whatever its rule then makes of the answer.

    A broken answer to a read is made of the true one.
    """
    fault = call.fault
    replaced = fault.error or fault.answer or fault.drop
    reads = call.api.method == "GET"
    return fault.at != "accept" or not replaced or bool(fault.drop and reads)


def no_action(path: str, hint: str) -> FrontError:
    """Return the error of a PUT that names no action of its path."""
    details = f"the body doesn't contain action mapping to the URL[/v1{path}]"
    return FrontError(400, details, hint)


def session_cookie(seq: int) -> str:
    """Return a cookie as the server's Tomcat sets it."""
    digest = hashlib.md5(str(seq).encode(), usedforsecurity=False).hexdigest()
    return f"JSESSIONID={digest.upper()}; Path=/zstack; HttpOnly"


# ---- Contract ------------------------------------------------------------------------------------

Schema = dict[str, Any]  # a JSON Schema
Part = dict[str, Any]  # an object of an OpenAPI document

# schemas

TEXT_SCHEMA: Schema = {"type": "string"}
OBJECT_SCHEMA: Schema = {"type": "object"}
DATE = "^[A-Z][a-z]{2} [0-9]{1,2}, [0-9]{4} [0-9]{1,2}:[0-9]{2}:[0-9]{2} [AP]M$"
SCHEMAS: dict[str, Schema] = {  # the JSON Schema of each type of the catalogue
    "str": TEXT_SCHEMA,
    "int": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "list": {"type": "array", "items": TEXT_SCHEMA},
    "map": OBJECT_SCHEMA,
    "maps": {"type": "array", "items": OBJECT_SCHEMA},
    "any": {},
    "date": {"type": "string", "pattern": DATE, "examples": ["Nov 23, 2026 7:47:14 PM"]},
}
TAGS_SCHEMA = {"systemTags": SCHEMAS["list"], "userTags": SCHEMAS["list"]}
UUID_SCHEMA = {"type": "string", "pattern": f"^{UUID}$"}
JOB_UUID_SCHEMA = {"type": "string", "pattern": f"^{UUID.replace('[1-5]', '4')}$"}
NOT_BLANK = {"pattern": r"\S"}


def ref(kind: str, name: str) -> Part:
    """Return a reference to one of the components, as ref("schemas", "Error")."""
    return {"$ref": f"#/components/{kind}/{name}"}


def any_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def object_of(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    """Return the schema of an object with these properties."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = [*required]
    return schema


def schema_refs(apis: list[Api], suffix: str) -> list[Part]:
    """Return the references of APIs to their schemas, as CreateZoneResult for the suffix Result."""
    return [ref("schemas", f"{api.name}{suffix}") for api in apis]


def json_content(schema: Schema) -> Part:
    return {"application/json": {"schema": schema}}


def parameter(
    name: str, place: str, schema: Schema, description: str = "", **options: bool
) -> Part:
    """Return a parameter in a "path", "query" or "header"; options are as in OpenAPI."""
    described = {"name": name, "in": place, **options, "schema": schema}
    if description:
        described["description"] = description
    return described


def param_schema(param: ValueSpec) -> Schema:
    """Return the schema of a parameter with its constraints."""
    schema = dict(SCHEMAS[param.type])
    if param.type == "str":
        schema |= text_constraints(param)
    if param.type == "list" and param.nonblank:
        schema["items"] = TEXT_SCHEMA | NOT_BLANK
    if param.type in ("list", "maps") and param.nonempty:
        schema["minItems"] = 1
    if param.low is not None:
        schema |= {"minimum": param.low, "maximum": param.high}
    if param.default is not None:
        schema["default"] = param.read(param.default)
    if param.refers:
        schema["description"] = f"uuid of {param.refers}"
    return schema


def text_constraints(param: ValueSpec) -> Schema:
    """Return the constraints of a text parameter in words of JSON Schema."""
    constraints = {
        "pattern": NOT_BLANK["pattern"] if param.nonblank else "",
        "minLength": param.shortest or int(param.nonempty),
        "maxLength": param.longest,
        "enum": [*param.values],
    }
    constraints = {name: value for name, value in constraints.items() if value}
    if param.regex:  # Java matches the whole text, JSON Schema any part of it
        constraints["pattern"] = f"^(?:{param.regex.removeprefix('^').removesuffix('$')})$"
    return constraints


def member_schema(member: Member) -> Schema:
    """Return the schema of a member of an object: its class, or a list of it."""
    kinds = filter(None, (member.java, member.other))
    schema = any_of([ref("schemas", java.simple) for java in kinds])
    return {"type": "array", "items": schema} if member.many else schema


def params_outside_path(api: Api) -> list[ValueSpec]:
    return [param for name, param in api.params.items() if f"{{{name}}}" not in api.path]


def body_schema(api: Api, creates: bool) -> Schema:
    """Return the schema of a POST or PUT body: the parameters under their key, tags beside them."""
    params = params_outside_path(api)
    members = {}
    if creates and "inventory" in api.members:
        members = api.members["inventory"].java.members
    properties = {}
    for param in params:
        properties[param.name] = param_schema(param)
        if param.type == "maps" and param.name in members:  # the answer has the same objects
            properties[param.name] |= member_schema(members[param.name])
    if creates:
        properties["resourceUuid"] = UUID_SCHEMA
    required = [param.name for param in params if param.required]
    body = object_of({api.key: object_of(properties, required), **TAGS_SCHEMA})
    if required or api.method == "PUT":
        body["required"] = [api.key]
    body["additionalProperties"] = False
    return body


def object_schema(fields: dict[str, str], java: JavaClass) -> Schema:
    """Return the schema of the objects of a class, with the members of its subclasses.

    Nothing is required: the server sends no nulls.
    """
    properties = {name: SCHEMAS[type] for name, type in fields.items()}
    choices: dict[str, list] = defaultdict(list)  # schemas of a member, by its name
    for kind in java.family():
        for name, member in kind.members.items():
            schema = member_schema(member)
            if not member.java.constants and schema not in choices[name]:
                choices[name].append(schema)
    for name, schemas in choices.items():
        properties[name] = any_of(schemas)
    return object_of(properties)


def result_schema(api: Api, dialect: Dialect) -> Schema:
    """Return the schema of the answer to a successful call."""
    properties = {}
    for name in re.findall(r"(\w+)(?::\w+)?", api.answers):
        properties[name] = member_schema(api.members[name]) if name in api.members else {}
    if api.kind == "Query":
        properties["total"] = SCHEMAS["long"]
        if dialect["get-one"]:
            properties["inventory"] = properties["inventories"]["items"]
    if api.whole and not dialect["success-field"]:
        properties["success"] = SCHEMAS["bool"]
    if api.name == "IsReadyToGo" and dialect["is-ready"]:
        properties["managementNodeId"] = TEXT_SCHEMA
    properties["schema"] = {"type": "object", "additionalProperties": TEXT_SCHEMA}
    return object_of(properties)


def condition_pattern(types: dict[str, str]) -> str:
    """Return the pattern of a condition: a field or a path through relations, an operator, a value.

    `types` has the fields with their types.
    """
    booleans = [name for name, type in types.items() if type == "bool"]
    others = [name for name in types if name not in booleans]
    texts = "|".join([*others, *TAGS, r"[A-Za-z]\w*(?:\.\w+)+"])
    signs = [sign for sign, row in OPERATORS.items() if row.reads != "nothing"]
    operators = "|".join(signs).replace("?", r"\?")
    forms = [
        rf"(?:{texts})(?:{operators})(?:\S.*)?",
        f"(?:{'|'.join([*booleans, texts])}) (?:is|not) null",
    ]
    if booleans:
        forms.append(f"(?:{'|'.join(booleans)})(?:{operators})(?:true|false)")
    return f"^(?:{'|'.join(forms)})$"


# components

ERROR_SCHEMA = object_of(
    {
        "code": TEXT_SCHEMA,
        "description": TEXT_SCHEMA,
        "details": TEXT_SCHEMA,
        "cause": ref("schemas", "ErrorCode"),
    },
    ["code", "description", "details"],
)
REFUSALS = {  # error responses by status: the name and the description of the component
    "400": (
        "BadRequest",
        "No session, or something malformed; in the manual dialect also a missing "
        "or illegal parameter",
    ),
    "404": ("NotFound", "No API has this path; never that a resource is missing"),
    "500": (
        "Malformed",
        "In the server dialect: a body that is no JSON object, or with wrong JSON types",
    ),
    "501": ("NotSimulated", "zmock knows this API from the catalogue and does not simulate it"),
    "503": (
        "Failed",
        "The operation failed, for instance with SYS.1003: a resource does not exist, "
        "or ID.1001: the session is over",
    ),
}
BACKINGS = {
    "manual": "Simulated, documented in the developer manual.",
    "server": "Simulated as the server does it.",
    "generic": "Simulated as its parameters and fields tell.",
    "none": "Not simulated: 501.",
}
WHOLE_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}
URI_SCHEMA = {"type": "string", "format": "uri"}
PARAMETERS = {
    "JobUuid": parameter(
        "X-Job-UUID",
        "header",
        JOB_UUID_SCHEMA,
        "The uuid that the job shall have, new for each call",
    ),
    "WebHook": parameter("X-Web-Hook", "header", URI_SCHEMA, "Where to POST the result"),
    "JsonSchema": parameter(
        "X-JSON-Schema",
        "header",
        {"type": "string", "enum": ["true"]},
        "Has the answer tell the Java class of each object in it",
    ),
    "limit": parameter("limit", "query", WHOLE_NUMBER | {"default": 1000}),
    "start": parameter("start", "query", WHOLE_NUMBER | {"default": 0}),
    "count": parameter("count", "query", SCHEMAS["bool"], "Only how many there are"),
    "replyWithCount": parameter(
        "replyWithCount", "query", SCHEMAS["bool"], "How many there are, too"
    ),
}
MODE_SCHEMA = {"type": "string", "enum": ["Permissive", "Enforcing"]}
SUCCESS_SCHEMA = {"type": "string", "enum": ["true", "false"]}
SCHEMA_FILE = Path(__file__).parent / "data" / "schema.json"  # of files; tests/schema.py writes it
HOOK_HEADERS = [
    parameter("X-Job-UUID", "header", TEXT_SCHEMA, required=True),
    parameter("X-Job-Success", "header", SUCCESS_SCHEMA, required=True),
]
SECURITY_SCHEMES = {
    "session": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "OAuth and the uuid of a session",
    },
}
HEADERS = {
    "Hint": {"description": "zmock: what was perhaps meant", "schema": TEXT_SCHEMA},
    "Rule": {"description": "zmock: the fault rule that fired", "schema": TEXT_SCHEMA},
}
RESPONSE_HEADERS = {
    "X-ZMock-Hint": ref("headers", "Hint"),
    "X-ZMock-Rule": ref("headers", "Rule"),
}
POLL_LINK = {"operationId": "PollJob", "parameters": {"uuid": "$request.header.X-Job-UUID"}}
LONGEST_IN_URL = 4000  # characters of a parameter; Tomcat takes 8 kB of headers in all


def response(description: str, schema: Schema | None = None, links: Part | None = None) -> Part:
    """Return a response with the headers of zmock and a JSON body, if it has a schema."""
    described = {"description": description, "headers": RESPONSE_HEADERS}
    if schema:
        described["content"] = json_content(schema)
    if links:
        described["links"] = links
    return described


def checks_more(api: Api) -> bool:
    """Return True if a call may be refused although its parameters satisfy the schema.

    The query string of the contract has no maps, though some are required.
    """
    maps = [param for param in api.params.values() if param.type == "map" and param.required]
    if maps and api.method in ("GET", "DELETE"):
        return True
    codes = [refusal.codes[0] for refusal in api.refusals]
    return "SYS.1007" in codes or bool(getattr(api.behaviour, "check", None))


def has_body(api: Api) -> bool:
    return api.method in ("POST", "PUT") and not api.bare


def url_parameters(api: Api) -> list[Part]:
    """Return the parameters in the query string of a GET or DELETE, which holds no maps."""
    parameters = []
    for param in params_outside_path(api):
        if param.type not in ("map", "maps"):
            schema = param_schema(replace(param, longest=min(param.longest, LONGEST_IN_URL)))
            parameters.append(parameter(param.name, "query", schema, required=param.required))
    return parameters


@dataclass(eq=False)
class Operation:
    """The APIs that share a method and a path. OpenAPI allows one operation for them.

    path        "/zones/{}", without the names of its variables
    names       the names of the variables in the path of the first API
    variables   their names in the document, those of most APIs: OpenAPI allows one spelling
    """

    method: str
    path: str
    names: tuple[str, ...]
    variables: tuple[str, ...] = ()
    apis: list[Api] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return CreateZone, QueryZoneByUuid, or VmInstancesActions for the APIs of a path."""
        if len(self.apis) > 1:
            return "".join(word.capitalize() for word in re.findall("[a-z0-9]+", self.path))
        api = self.apis[0]
        by_uuid = api.kind == "Query" and self.path.endswith("{}")
        return f"{api.name}ByUuid" if by_uuid else api.name

    def link(self, uuid: str) -> Part:
        """Return a link to this operation. `uuid` is a runtime expression for its variable."""
        return {"operationId": self.id, "parameters": {self.variables[0]: uuid}}


class Contract:
    """The APIs as an OpenAPI 3.1 document, with the answers of the dialect in force."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud
        self.dialect = cloud.dialect
        self.catalogue = cloud.catalogue
        self.operations: dict[tuple[str, str], Operation] = {}  # by method and path
        self.actions: dict[str, set] = defaultdict(set)  # operations on an object, by its type
        self.fields = {name: struct.fields for name, struct in self.catalogue.structs.items()}
        for name, row in self.catalogue.resources.items():
            self.fields[name] = row.all_fields
        self.collect_operations()

    def collect_operations(self) -> None:
        """Group the APIs by method and path, and choose the names of the variables."""
        spellings: dict[str, Counter] = defaultdict(Counter)
        for api in self.catalogue.apis.values():
            for full_path in api.paths:
                path = re.sub(r"{\w+}", "{}", full_path)
                names = tuple(re.findall(r"{(\w+)}", full_path))
                place = api.method, path
                operation = self.operations.setdefault(place, Operation(*place, names))
                operation.apis.append(api)
                spellings[path][names] += 1
                if api.target and len(names) == 1:
                    self.actions[api.target.refers].add(place)
        for operation in self.operations.values():
            operation.variables = spellings[operation.path].most_common(1)[0][0]

    def document(self, base: str) -> Part:
        """Return the whole document for a server at `base`, "http://127.0.0.1:8080"."""
        paths: dict[str, Part] = defaultdict(dict)
        for operation in self.operations.values():
            path = operation.path.replace("{}", "{%s}") % operation.variables
            paths[path][operation.method.lower()] = self.operation_object(operation)
        paths["/api-jobs/{uuid}"]["get"] = self.poll_operation()
        origin = f"Generated by zmock {__version__}, {self.dialect.name} dialect"
        description = f"{origin}; GET /zmock/dialect says what that means."
        return {
            "openapi": "3.1.0",
            "info": {"title": "ZStack", "version": "2.5.1", "description": description},
            "servers": [{"url": f"{base}/zstack/v1"}],
            "security": [{"session": []}],
            "paths": paths,
            "components": self.components(),
        }

    def components(self) -> Part:
        responses = {}
        for status, (name, description) in REFUSALS.items():
            responses[name] = self.refusal(status, description)
        return {
            "securitySchemes": SECURITY_SCHEMES,
            "schemas": self.schemas(),
            "parameters": PARAMETERS,
            "responses": responses,
            "headers": HEADERS,
            "links": {"poll": POLL_LINK},
        }

    def schemas(self) -> dict[str, Schema]:
        """Return the schemas of all classes, results and request bodies by name."""
        schemas = {}
        for name, types in self.fields.items():
            java = self.catalogue.classes[name]
            schemas[java.simple] = object_schema(types, java)
        apis = self.catalogue.apis.values()
        for api in apis:
            schemas[f"{api.name}Result"] = result_schema(api, self.dialect)
        for api in filter(has_body, apis):
            schemas[f"{api.name}Request"] = body_schema(api, self.cloud.makes(api))
        location = URI_SCHEMA | {"description": "Where to poll"}
        schemas["ErrorCode"] = ERROR_SCHEMA
        schemas["Error"] = object_of({"error": ref("schemas", "ErrorCode")}, ["error"])
        schemas["Accepted"] = object_of({"location": location}, ["location"])
        return schemas

    def refusal(self, status: str, description: str) -> Part:
        refusal = response(description, ref("schemas", "Error"))
        if status in ("400", "404", "500") and not self.dialect["error-body"]:
            refusal["content"] = {"text/plain": {"schema": TEXT_SCHEMA}}
        return refusal

    # operations

    def operation_object(self, operation: Operation) -> Part:
        """Return an operation as OpenAPI describes it."""
        apis = operation.apis
        names = [spaced(api.name) for api in apis]
        described = {
            "operationId": operation.id,
            "tags": [operation.path.split("/")[1]],
            "summary": ", ".join(names),
            "description": " ".join(f"{api.name}: {BACKINGS[api.backing]}" for api in apis),
            "parameters": self.parameters(operation),
            "x-zmock-simulated": any(map(self.cloud.simulated, apis)),
            "x-zmock-checks-more": any(map(checks_more, apis)),
        }
        if any(map(has_body, apis)):
            described["requestBody"] = self.request_body(operation)
        described["responses"] = self.responses(operation)
        sessions = {self.cloud.needs_session(api) for api in apis}
        if False in sessions:
            described["security"] = [{"session": []}, {}] if True in sessions else []
        jobs = self.asynchronous(apis)
        if jobs:
            described["callbacks"] = {"done": self.callback(jobs)}
        return described

    def asynchronous(self, apis: list[Api]) -> list[Api]:
        return [api for api in apis if not self.cloud.at_once(api)]

    def request_body(self, operation: Operation) -> Part:
        bodies = schema_refs([*filter(has_body, operation.apis)], "Request")
        schema = bodies[0] if len(bodies) == 1 else {"oneOf": bodies}
        params = params_outside_path(operation.apis[0])
        required = operation.method == "PUT" or any(param.required for param in params)
        return {"required": required, "content": json_content(schema)}

    def parameters(self, operation: Operation) -> list[Part]:
        api = operation.apis[0]
        parameters = []
        for variable, name in zip(operation.variables, operation.names):
            schema = param_schema(api.params[name]) if name in api.params else dict(TEXT_SCHEMA)
            schema["minLength"] = max(1, schema.get("minLength", 1))
            parameters.append(parameter(variable, "path", schema, required=True))
        if api.kind == "Query" and not operation.names:
            parameters += self.query_parameters(api)
        if api.kind != "Query" and api.method in ("GET", "DELETE"):
            parameters += url_parameters(api)
        if api.method == "DELETE":
            parameters.append(parameter("deleteMode", "query", MODE_SCHEMA))
        parameters.append(ref("parameters", "JsonSchema"))
        if self.asynchronous(operation.apis):
            parameters += [ref("parameters", "JobUuid"), ref("parameters", "WebHook")]
        return parameters

    def query_parameters(self, api: Api) -> list[Part]:
        """Return the parameters of a query: conditions, paging, sorting, fields."""
        row = self.catalogue.resource(api.type)
        types = self.fields[api.type]
        fields, joined = (row.fields, row.joined) if row else (types, ())
        single = [name for name, type in fields.items() if type not in ("list", "maps", "map")]
        unqueried = {name for name, type in fields.items() if type == "maps"}
        pattern = condition_pattern({name: types[name] for name in types if name not in unqueried})
        conditions = {"type": "array", "items": {"type": "string", "pattern": pattern}}
        order = {"type": "string", "pattern": f"^[+-]?(?:{'|'.join(single)})$"}
        stored = [name for name in single if name not in joined]
        names = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": stored}}
        return [
            parameter("q", "query", conditions, "Conditions, all of which must hold"),
            *(ref("parameters", name) for name in ("limit", "start", "count", "replyWithCount")),
            parameter("sort", "query", order),
            parameter("fields", "query", names, explode=False),
            parameter("groupBy", "query", {"type": "string", "enum": single}),
        ]

    # responses

    def responses(self, operation: Operation) -> Part:
        apis = operation.apis
        refusals = ["400", "503"]
        if operation.variables:
            refusals.append("404")
        if not all(map(self.cloud.simulated, apis)):
            refusals.append("501")
        if self.dialect["malformed-body"] == 500:
            refusals.append("500")
        responses = {status: ref("responses", REFUSALS[status][0]) for status in refusals}
        links = self.links(operation)
        now = [api for api in apis if self.cloud.at_once(api)]
        if now:
            empty = not self.dialect["empty-result"] and not any(api.answers for api in now)
            schema = None if empty else any_of(schema_refs(now, "Result"))
            responses["200"] = response("Done", schema, links)
        if len(now) < len(apis):
            links = {"poll": ref("links", "poll"), **links}
            accepted = ref("schemas", "Accepted")
            responses["202"] = response("Accepted as a job", accepted, links)
        return dict(sorted(responses.items()))

    def links(self, operation: Operation) -> Part:
        """Return links by name.

        A creation has one to the GET of the new object, a query those to operations on its first
        result.
        """
        api = operation.apis[0]
        if self.cloud.makes(api) and api.type in self.catalogue.resources:
            made = self.operations.get(("GET", f"/{self.catalogue.resource(api.type).path}/{{}}"))
            return {"made": made.link("$request.body#/params/resourceUuid")} if made else {}
        if api.kind != "Query" or operation.variables:
            return {}
        places = self.actions[api.type] | {("GET", f"{operation.path}/{{}}")}
        links = {}
        for place in sorted(places & self.operations.keys()):
            linked = self.operations[place]
            links[linked.id] = linked.link("$response.body#/inventories/0/uuid")
        return links

    def callback(self, apis: list[Api]) -> Part:
        """Return the web-hook of a job: a POST of its result or error, as a poll answers it."""
        schema = {"anyOf": [*schema_refs(apis, "Result"), ref("schemas", "Error")]}
        post = {
            "parameters": HOOK_HEADERS,
            "requestBody": {"required": True, "content": json_content(schema)},
            "responses": {"2XX": {"description": "Heard; else there are more tries"}},
        }
        return {"{$request.header.X-Web-Hook}": {"post": post}}

    def poll_operation(self) -> Part:
        """Return the operation that polls a job, the only one without an API."""
        uuid_schema = TEXT_SCHEMA | {"minLength": 1}
        done = {
            "description": "Done: the result of the API",
            "content": json_content(OBJECT_SCHEMA),
        }
        running: Part = {"description": "Not done yet"}
        if self.dialect["poll-body"]:
            running["content"] = json_content(ref("schemas", "Accepted"))
        return {
            "operationId": "PollJob",
            "tags": ["api-jobs"],
            "summary": "Poll Job",
            "security": [],
            "parameters": [
                parameter("uuid", "path", uuid_schema, required=True),
                ref("parameters", "JsonSchema"),
            ],
            "responses": {
                "200": done,
                "202": running,
                "404": ref("responses", "NotFound"),
                "503": ref("responses", "Failed"),
            },
        }


# ---- Control -------------------------------------------------------------------------------------

Handler = Callable[[web.Request], Any]  # a coroutine function that returns JSON or a response

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"}
PUBLIC = {"/zmock/health", "/zmock/openapi.json"}  # anybody may read them
MOST_FOUND = 100  # lines of health; the log has all
MOST_PENDING = 100  # rows of the clock
MOST_REMEMBERED = 1000  # events; who reads later is told how many are forgotten
MOST_IN_SUMMARY = 30  # calls
EVENTS_INTERVAL = 0.1  # seconds of real time between two writes of events
COMMENT_INTERVAL = 15  # seconds of real time; comments keep proxies from closing a silent stream
UNSEEN_TYPES = OWN_TYPES - {"Rule"}  # types without events, but api-jobs have their own
JOB_STATES = ("running", "held", "succeeded", "failed", "lost")
SILENT_TYPES = OWN_TYPES | {"Notification"}  # types without state events


class ControlError(Exception):
    """The refusal of a control call: {"error": ..., "hint": ...}."""

    def __init__(self, status: int, error: str, hint: str = ""):
        super().__init__(error)
        self.status = status
        self.error = error
        self.hint = hint


def json_answer(body: Any, status: int = 200, headers: dict | None = None) -> web.Response:
    """Return an answer of /zmock. It shows characters of all scripts as they are."""
    octets = json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace")
    return web.Response(
        body=octets,
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def control_error(request: web.Request, error: Exception) -> ControlError:
    """Return the refusal that tells a client of an exception."""
    if isinstance(error, ControlError):
        return error
    if isinstance(error, TooFar):
        hint = "go on in smaller steps, or take jobs away from triggers"
        return ControlError(409, str(error), hint)
    if isinstance(error, ApiError) and error.code == "SYS.1016":  # only a commit raises it
        hint = "it is done, but not yet kept; that is tried until it can be"
        return ControlError(error.status, str(error), hint)
    if isinstance(error, ApiError):
        return ControlError(409, str(error), error.hint or "the cloud refuses it")
    log.exception("%s %s failed", request.method, request.path)
    hint = "the log has the traceback; please report it"
    return ControlError(500, f"zmock failed: {error!r}", hint)


@contextlib.contextmanager
def refused_for(error_class: type[Exception], status: int = 400, hint: str = "") -> Iterator[None]:
    """Turn an exception of the block into a ControlError with the same text."""
    try:
        yield
    except error_class as error:
        raise ControlError(status, str(error), hint or getattr(error, "hint", "")) from None


def no_such(kind: str, name: str, names: Iterable[str]) -> ControlError:
    """Return a 404 that names the nearest right name: no rule 'a', did you mean b?"""
    return ControlError(404, f"no {kind} {name!r}{did_you_mean(name, names)}")


# the page

PAGE_FILE = Path(__file__).parent / "data" / "page.html"
PAGE_POLICY = (  # it runs its own script, and calls this server only
    "default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)


@functools.lru_cache(2)
def page_of(stamp: tuple | None) -> tuple[bytes, dict[str, str]]:
    """Return the page of PAGE_FILE and its headers, b"" without the file.

    A changed file has another stamp.
    """
    page = PAGE_FILE.read_bytes() if stamp else b""
    hashes = inline_hash(page, b"script"), inline_hash(page, b"style")
    return page, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": PAGE_POLICY % hashes,
        "ETag": f'"{hashlib.sha256(page).hexdigest()}"',
        "Cache-Control": "no-cache",  # a browser asks each time whether it has changed
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
    }


def inline_hash(page: bytes, name: bytes) -> str:
    """Return what a policy calls the content of the inline <script> or <style>."""
    content = page.partition(b"<%b>" % name)[2].partition(b"</%b>" % name)[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


# watching

CALL_KINDS = ("call", "end", "fault")
GONE = {"rule": {"removed": True}, "incident": {"ended": True}}


@dataclass
class Event:
    """A server-sent event. The JSON is made for the first reader, and shared with the others.

    kind   its name; an "end" is a "call" that is sent again because its job has ended
    facts  its body, or a function that returns it
    """

    seq: int
    kind: str
    facts: Any

    @functools.cached_property
    def text(self) -> str:
        """Return the event as it is sent. In the body, the seq of a call is that of the journal."""
        kind = "call" if self.kind == "end" else self.kind
        body = {"seq": self.seq} | (self.facts() if callable(self.facts) else self.facts)
        return f"event: {kind}\nid: {self.seq}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"


class Watch:
    """Remembers the latest events for their readers, and wakes waiting calls.

    It hears of calls, jobs and changes from the first reader or waiting call on. They cost a note.
    The notes become events when a reader looks, at most every EVENTS_INTERVAL. Rules, incidents
    and the clock make no notes: they are compared with what they were.
    """

    def __init__(self, rest: Rest, show_clock: Callable[[], Item]):
        self.rest = rest
        self.jobs = rest.jobs
        self.store = rest.cloud.store
        self.show_clock = show_clock
        self.started = iso(rest.clock.system_time())
        self.waiters: set[asyncio.Event] = set()
        self.before: dict[tuple[str, Uuid], Item | None] = {}  # changed items, as they were
        self.notes: dict[tuple[str, Any], Any] = {}  # the facts of events, by kind and subject
        self.events: deque[Event] = deque(maxlen=MOST_REMEMBERED)
        self.seq = 0  # of the last event
        self.batches: dict[tuple[int, str], bytes] = {}  # texts of the events up to the last
        self.tick = 0  # when readers looked last, in units of EVENTS_INTERVAL
        self.facts: dict[tuple[str, str], Any] = {}  # rules, incidents and the clock

    def attach(self) -> None:
        """Hear of what happens. The calls made before count as events that are forgotten."""
        if self.note_call in self.rest.watchers:
            return
        self.rest.watchers.append(self.note_call)
        self.jobs.watch = self.note_job
        self.store.watch = self.note_change
        self.facts = self.present_facts()
        self.seq += len(self.rest.journal) + self.rest.dropped

    # noting

    def note(self, kind: str, subject: Any, facts: Any = None) -> None:
        """Note an event. A later one about the same subject replaces it."""
        if len(self.notes) >= MOST_REMEMBERED:
            self.make_events()
        self.notes[kind, subject] = facts
        self.wake()

    def wake(self) -> None:
        for waiter in self.waiters:
            waiter.set()

    def note_call(self, kind: str, entry: Entry) -> None:
        """Note a "call", its "fault", or the "end" of its job."""
        if kind == "end" and ("call", entry.seq) in self.notes:
            self.wake()  # the event of the call will have the end
        else:
            self.note(kind, entry.seq, entry.as_json)

    def note_job(self, uuid: Uuid) -> None:
        self.note("job", uuid, functools.partial(self.facts_of_job, uuid))

    def facts_of_job(self, uuid: Uuid) -> Item:
        return self.jobs.find(uuid) or {"uuid": uuid, "state": "expired"}

    def note_change(self, type: str, uuid: Uuid, before: Item | None) -> None:
        """Note an item as it was. Its new state is noted after all changes of this call."""
        if not self.before:
            asyncio.get_running_loop().call_soon(self.note_changes)
        self.before.setdefault((type, uuid), before)

    def note_changes(self) -> None:
        """Note the items that differ, and their states. An item that does not exist is {}."""
        self.wake()
        changed, self.before = self.before, {}
        for (type, uuid), before in changed.items():
            after = self.store.peek(type, uuid)
            if after is not before and type not in UNSEEN_TYPES:
                self.note("change", (type, uuid))
                self.note_states(type, before or {}, after or {})

    def note_states(self, type: str, before: Item, after: Item) -> None:
        """Note changes of an item's state and status."""
        item = after or before
        for name in ("state", "status"):
            change = {"field": name, "from": before.get(name), "to": after.get(name)}
            if change["from"] != change["to"] and type not in SILENT_TYPES:
                subject = {"type": type, "uuid": item["uuid"], "name": item.get("name")}
                self.note("state", len(self.notes), subject | change)

    # events

    def make_events(self) -> None:
        """Turn the notes into events, and add one "change" for all items that differ."""
        notes, self.notes = self.notes, {}
        types = Counter(subject[0] for kind, subject in notes if kind == "change")
        events = [(kind, facts) for (kind, _), facts in notes.items() if kind != "change"]
        events += self.changes_of_facts()
        if types:
            events.append(("change", {"types": types}))
        for kind, facts in events:
            self.seq += 1
            self.events.append(Event(self.seq, kind, facts))
            self.batches.clear()

    def present_facts(self) -> dict[tuple[str, str], Any]:
        """Return the rules, the incidents, and how the clock is set."""
        clock = self.rest.clock
        facts: dict = {("clock", ""): (clock.mode, clock.system_offset)}
        for rule in self.rest.faults.rules:
            facts["rule", rule.id] = rule.as_json()
        for id, incident in self.rest.cloud.outages.incidents.items():
            facts["incident", id] = self.facts.get(("incident", id)) or incident.as_json(clock)
        return facts

    def changes_of_facts(self) -> list[tuple[str, Item]]:
        """Return the events for facts that differ from what they were."""
        before, self.facts = self.facts, self.present_facts()
        events = []
        for key, fact in (before | self.facts).items():
            kind = key[0]
            if key not in self.facts:
                events.append((kind, fact | GONE[kind]))
            elif fact != before.get(key):
                events.append((kind, self.show_clock() if kind == "clock" else fact))
        return events

    # reading

    async def until(self, result: Callable[[], Any], seconds: Seconds, hints: Sequence = ()) -> Any:
        """Return result() as soon as it is not None. Raise 408 with the hints when time is up."""
        self.attach()
        changed = asyncio.Event()
        self.waiters.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while (answer := result()) is None:
                    await changed.wait()
                    changed.clear()
                return answer
        except TimeoutError:
            text = f"it did not come about within {counted(seconds, 'second')}"
            hint = "; ".join([*hints, "GET /zmock/calls shows what did"])
            raise ControlError(408, text, hint) from None
        finally:
            self.waiters.discard(changed)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send what happens as server-sent events, from ?since=SEQ on; see ?calls=summary."""
        refuse_other_keys(request, ("since", "calls"), "events are chosen by since and calls")
        last = request.headers.get("Last-Event-ID", "")
        since = last or request.query.get("since", "")
        calls = request.query.get("calls", "all")
        with refused_for(ValueError):
            FILTERS["since"]("Last-Event-ID" if last else "since", since or "0")
            among("all", "summary").check("calls", calls)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}
        response = web.StreamResponse(headers=headers | {"X-Accel-Buffering": "no"})
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            self.attach()
            self.make_events()
            seq = int(since or self.seq)
            async for text in self.texts(request, 0 if seq > self.seq else seq, calls):
                await response.write(text)
        return Unanswered()

    async def texts(self, request: web.Request, since: int, calls: str) -> AsyncIterator[bytes]:
        """Yield the events after one, and comments, while the client is there."""
        loop = asyncio.get_running_loop()
        comment_due = loop.time() + COMMENT_INTERVAL
        yield self.hello(since).encode()
        while request.transport:
            text = self.text_after(since, calls)
            since = self.seq
            if loop.time() >= comment_due:
                comment_due = loop.time() + COMMENT_INTERVAL
                text += b": still here\n\n"
            if text:
                yield text
            await real_time(EVENTS_INTERVAL - loop.time() % EVENTS_INTERVAL)  # all readers at once
            tick = round(loop.time() / EVENTS_INTERVAL)
            if tick != self.tick:
                self.tick = tick
                self.make_events()

    def hello(self, since: int) -> str:
        """Return the first event. A page compares it with that of an earlier connection."""
        tag = page_of(file_stamp(str(PAGE_FILE)))[1]["ETag"]
        facts = {"version": __version__, "started": self.started, "seq": self.seq, "page": tag}
        return Event(since, "hello", facts).text

    def text_after(self, since: int, calls: str) -> bytes:
        """Return the events after one as text. Readers that are up to date share it."""
        if (since, calls) not in self.batches:
            self.batches[since, calls] = self.text_of(since, calls).encode(errors="replace")
        return self.batches[since, calls]

    def text_of(self, since: int, calls: str) -> str:
        """Return the events after one as text, the number of forgotten ones first."""
        forgotten = self.seq - len(self.events)  # the seq of the last one
        events = [*self.events][since - self.seq :] if since < self.seq else []
        if calls == "summary":
            events = with_summary(events)
        if since < forgotten:
            events.insert(0, Event(forgotten, "dropped", {"events": forgotten - since}))
        return "".join(event.text for event in events)


def with_summary(events: list[Event]) -> list[Event]:
    """Return events with one "calls" for all calls and faults, without calls before a reset."""
    reset = max((event.seq for event in events if event.kind == "reset"), default=0)
    calls = [event for event in events if event.kind in ("call", "end") and event.seq > reset]
    others = [event for event in events if event.kind not in CALL_KINDS]
    if calls:
        count = sum(event.kind == "call" for event in calls)
        last = [event.facts() for event in calls[-MOST_IN_SUMMARY:]]
        others.append(Event(calls[-1].seq, "calls", {"count": count, "last": last}))
    return sorted(others, key=operator.attrgetter("seq"))


# reading requests


def name_of_host(text: str) -> str:
    """Return the name in a Host header or an origin: "http://[::1]:8080" -> "::1"."""
    return re.sub(r"^.*://|:\d*$", "", text).strip("[]").lower()


def is_secret(text: str, secret: str) -> bool:
    """Compare a text from outside with a secret, in a time that tells nothing of it."""
    return hmac.compare_digest(text.encode(errors="surrogateescape"), secret.encode())


def without_prefix(path: str) -> str:
    """Return the path of an API below /zstack/v1, "/zstack/v1/zones" -> "/zones"."""
    return re.sub("^(/zstack)?/v1", "", path)


def without_query(handler: Handler) -> Handler:
    """Return a handler of a control call that refuses every key in the query string."""

    async def answer(request: web.Request) -> Any:
        refuse_other_keys(request, (), f"{request.method} {request.path} takes no query")
        return await handler(request)

    return answer


def refuse_other_keys(request: web.Request, keys: Sequence[str], text: str) -> None:
    for key in request.query.keys() - {*keys}:
        raise ControlError(400, f"{text}, not {key!r}{did_you_mean(key, keys)}")


THE_WORD_TRUE = Allowed(str, "true", words=("true",))


def read_number(request: web.Request, key: str, default: float, highest: float) -> float:
    text = request.query.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) > highest:
        raise ControlError(400, f"{key!r} is a number from 0 to {highest}, not {text!r}")
    return float(text)


FILTERS: dict[str, Callable[[str, str], None]] = {  # of the journal: the check of each value
    "api": check_glob,
    "path": check_glob,
    "status": Allowed(str, "a number such as 404, or 4xx", pattern="[0-9]{1,18}|[1-5]xx").check,
    "outcome": among("ok", "error", "running", "succeeded", "failed", *BREAKS).check,
    "since": Allowed(str, "a number from 0", pattern="[0-9]{1,18}").check,
}


def journal_filter(request: web.Request, *more: str) -> Callable[[Entry], bool]:
    """Return the test for entries that the FILTERS of a request make.

    Raise ControlError for any other key but those in `more`.
    """
    text = f"the journal is filtered by {', '.join(FILTERS)}"
    refuse_other_keys(request, (*FILTERS, *more), text)
    query = request.query
    with refused_for(ValueError):
        for key in FILTERS.keys() & query.keys():
            FILTERS[key](key, query[key])
    since = int(query.get("since", 0))
    return lambda entry: entry.seq > since and passes(vars(entry), query)


def passes(row: Item, filters: Mapping[str, str]) -> bool:
    """Return True if a call of the journal passes the filters, all but `since`."""
    status = str(row["status"])
    if filters.get("status", status) not in (status, f"{status[:1]}xx"):
        return False
    if filters.get("outcome", row["outcome"]) != row["outcome"]:
        return False
    path = filters.get("path", "*")
    paths = (row["path"], without_prefix(row["path"]))
    if not any(fnmatchcase(text, path) for text in paths):
        return False
    return fnmatchcase(row["api"], filters.get("api", "*"))


# calls as other programs read them

HEADERS_REPEATED = re.compile(
    "authorization|content-type|x-(job-uuid|web-hook|json-schema|zmock-.*)", re.IGNORECASE
)
HEX_UUID = re.compile("[0-9a-f]{32}")


def as_curl(rest: Rest, entries: Sequence[Entry]) -> str:
    """Return calls as commands for a shell, with the session and the headers that zmock reads."""
    commands = []
    for entry in entries:
        words = ["curl", "-g", rest.base + entry.target]
        if entry.method == "HEAD":
            words.append("-I")
        elif entry.method != "GET":
            words += ["-X", entry.method]
        for name, value in entry.request.headers.items():
            if HEADERS_REPEATED.fullmatch(name):
                words += ["-H", f"{name}: {value}"]
        if entry.request.size:
            words += ["--data-raw", entry.request.text]
        commands.append(shlex.join(words) + "\n")
    return "".join(commands)


def as_har(rest: Rest, entries: Sequence[Entry]) -> str:
    """Return calls as an HTTP archive (HAR 1.2), without the uuids of sessions."""
    archive = {
        "version": "1.2",
        "creator": {"name": "zmock", "version": __version__},
        "entries": [har_entry(entry, rest.base) for entry in entries],
    }
    sessions = {item["uuid"] for item in rest.cloud.store.rows("Session")}
    sessions |= {session_sent(entry) for entry in entries}
    text = json.dumps({"log": archive})
    return HEX_UUID.sub(lambda match: "***" if match[0] in sessions else match[0], text)


def session_sent(entry: Entry) -> Uuid:
    """Return the session that a call carries, or ""."""
    match = HEX_UUID.search(entry.request.headers.get("Authorization", ""))
    return match[0] if match else ""


def har_entry(entry: Entry, base: str) -> Item:
    pairs = urllib.parse.parse_qsl(entry.query, keep_blank_values=True)
    request = har_message(entry.request) | {
        "method": entry.method,
        "url": base + entry.target,
        "queryString": named_values(pairs),
    }
    if entry.request.size:
        request["postData"] = har_body(entry.request)
    response = har_message(entry.answer) | {
        "status": entry.status,
        "statusText": http.client.responses.get(entry.status, ""),
        "content": har_body(entry.answer) | {"size": entry.answer.size},
        "redirectURL": "",
    }
    return {
        "startedDateTime": entry.time,
        "time": entry.ms,
        "request": request,
        "response": response,
        "cache": {},
        "timings": {"send": 0, "wait": entry.ms, "receive": 0},
    }


def named_values(pairs: Iterable[tuple[str, str]]) -> list[Item]:
    return [{"name": name, "value": value} for name, value in pairs]


def har_message(message: Message) -> Item:
    """Return the members that requests and answers have in HAR."""
    return {
        "httpVersion": "HTTP/1.1",
        "headers": named_values(message.open_headers().items()),
        "cookies": [],
        "headersSize": -1,
        "bodySize": message.size,
    }


def har_body(message: Message) -> Item:
    """Return a body in HAR: as base64 if it is no text."""
    body = {"mimeType": message.headers.get("Content-Type", ""), "text": message.text}
    if isinstance(message.body, bytes) and "\ufffd" in message.text[:-1]:
        body |= {"text": base64.b64encode(message.body).decode(), "encoding": "base64"}
    return body


CUT_SHORT = {"reset", "empty", "truncate", "garbage", "after"}  # no client can read the answer
PYTHON_WORDS = {"true": "True", "false": "False", "null": "None"}
NO_SESSION = "none"  # the recorded session of a login that the handle needs
RULE_PARTS = ("api", "method", "path", "when", "then")  # all but those that count


class PytestWriter:
    """Writes calls as a test for the fixture `zmock`, which makes them again, in their order.

    A call of the test goes to the end of its job, so polls are left out. A uuid that a call made
    is taken from its answer.
    """

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.lines: list[str] = []
        self.rows: list[str] = []  # of the calls, as the last lines assert them
        self.made: dict[Uuid, str] = {}  # the expressions of uuids that calls made
        self.seen: set[Uuid] = set()  # uuids of earlier requests and answers
        self.session = ""  # the recorded session that the handle has now
        self.names: Counter[str] = Counter()  # of variables

    def text(self, entries: Sequence[Entry]) -> str:
        """Return the test."""
        for entry in entries:
            is_below = without_prefix(entry.path) != entry.path
            is_poll = entry.api == POLL_JOB.name
            if is_below and not is_poll and entry.method != "OPTIONS" and entry.drop != "hang":
                self.add(entry)
            texts = (entry.target, entry.request.text, entry.answer.text)
            self.seen.update(HEX_UUID.findall(" ".join(texts)))
        settings = {"clock": "warp"}  # slow calls and jobs take no time
        for name in ("cloud", "dialect", "seed"):
            value = getattr(self.rest.settings, name)
            if value != getattr(Settings, name):
                settings[name] = value
        marker = self.call("@pytest.mark.zmock", **settings)
        calls = f'[call for call in zmock.calls() if call.api != "{POLL_JOB.name}"]'
        check = "assert [[call.api, call.status, call.code] for call in calls] == ["
        lines = "\n".join([*self.lines, f"calls = {calls}", check, *self.rows, "]"])
        body = textwrap.indent(lines, "    ")
        return f"import pytest\n\n\n{marker}\nasync def test_calls(zmock):\n{body}\n"

    def add(self, entry: Entry) -> None:
        """Add a call with its session, the rule that it met, and how it ends."""
        fault = entry.fault
        is_whole = entry.outcome in ("ok", *OVER) and not (fault.answer or fault.job)
        inventory = self.inventory_of(entry) if is_whole else {}
        if inventory and entry.params.get("accountName") == "admin":
            self.log_in(inventory["uuid"])
            return
        headers = self.take_session(entry)
        definition = fault.definition or {}
        if "then" in definition:
            rule = {key: definition[key] for key in RULE_PARTS if key in definition}
            self.lines.append(self.call("zmock.rule", **rule, times=1))
        values: list[Any] = [entry.method, without_prefix(entry.target)]
        if entry.request.size or headers:
            values.append(json_of(entry.request))
        if headers:
            values.append(headers)
            is_whole = False
        call = self.call(f"await zmock.{'finish' if is_whole else 'request'}", *values)
        if entry.drop in CUT_SHORT:
            self.add_failure("OSError", call)
        elif not is_whole:
            self.lines.append(f"assert ({call})[0] == {entry.status}")
        elif entry.code:
            self.add_failure(f"RuntimeError, match={self.literal(entry.code)}", call)
        else:
            call = call.replace("***", "password")
            self.lines.append(self.assigned(call, entry, inventory))
        self.rows.append(f"    {self.literal([entry.api, entry.status, entry.code])},")

    def add_failure(self, error: str, call: str) -> None:
        self.lines += [f"with pytest.raises({error}):", textwrap.indent(call, "    ")]

    def take_session(self, entry: Entry) -> dict[str, str]:
        """Let the handle have the session of a call.

        Return the headers without which the call would end in another way.
        """
        sent, session = entry.request.headers, session_sent(entry)
        headers = {name: sent[name] for name in sent if name.lower().startswith("x-zmock-")}
        api = self.rest.catalogue.apis.get(entry.api)
        needs_session = api and self.rest.cloud.needs_session(api)
        if needs_session and (not session or entry.code == "ID.1001"):
            headers["Authorization"] = sent.get("Authorization", "")
        elif session not in self.made and (session or not self.session):
            self.log_in(session or NO_SESSION)
        elif session not in ("", self.session):
            self.session = session
            self.lines.append(f"zmock.session = {self.made[session]}")
        return {name: header_safe(value) for name, value in headers.items()}

    def log_in(self, session: Uuid) -> None:
        """Add a login as admin, whose session stands for a recorded one."""
        self.session, self.made[session] = session, self.variable("session")
        self.lines.append(f"{self.made[session]} = await zmock.login()")
        self.rows.append('    ["LogInByAccount", 200, ""],')

    def inventory_of(self, entry: Entry) -> Item:
        """Return the inventory that a call answers, or its job, {} for none."""
        record = self.rest.cloud.look("Job", entry.job)
        body = result_of(record) if record else json_of(entry.answer)
        inventory = body.get("inventory") if isinstance(body, dict) else None
        return inventory if isinstance(inventory, dict) else {}

    def assigned(self, call: str, entry: Entry, inventory: Item) -> str:
        """Return "zone = ..." for a call that makes uuids, and note the expression of each."""
        places = [(uuid, place) for uuid, place in uuids_in(inventory) if uuid not in self.seen]
        if not places:
            return call
        name = spaced(self.rest.catalogue.apis[entry.api].type or "answer")
        name = self.variable(name.replace(" ", "_").lower())
        for uuid, place in places:
            self.made.setdefault(uuid, name + place)
        return f'{name} = ({call})["inventory"]'

    def variable(self, name: str) -> str:
        """Return a name that no variable has yet: zone, zone_2, ..."""
        self.names[name] += 1
        number = self.names[name]
        return name if number == 1 else f"{name}_{number}"

    def call(self, function: str, *values: Any, **keywords: Any) -> str:
        """Return a function call in Python, with a line for each member if it is long."""
        for indent in (None, 4):
            words = [self.literal(value, indent) for value in values]
            words += [f"{name}={self.literal(keywords[name], indent)}" for name in keywords]
            text = f"{function}({', '.join(words)})"
            if len(text) < 80:
                break
        return text

    def literal(self, value: Any, indent: int | None = None) -> str:
        """Return a value in Python, with the expressions of the uuids that calls made."""
        text = json.dumps(value, indent=indent)
        return re.sub(r'"(\\.|[^"\\])*"|true|false|null', self.word, text)

    def word(self, match: re.Match[str]) -> str:
        """Return a text or a word of JSON in Python: "/zones/" + zone["uuid"]."""
        text = PYTHON_WORDS.get(match[0], match[0])
        for uuid in self.made.keys() & {*HEX_UUID.findall(text)}:
            text = text.replace(uuid, f'" + {self.made[uuid]} + "')
        return text.removeprefix('"" + ').removesuffix(' + ""')


def json_of(message: Message) -> Any:
    """Return the JSON of a body, its text if it is none, or None."""
    try:
        return load_json(message.text)
    except ValueError:
        return message.text or None


def uuids_in(value: Any, place: str = "") -> Iterator[tuple[Uuid, str]]:
    """Yield the uuids in an inventory with their places: ("36c2...", '["vmNics"][0]["uuid"]')."""
    if isinstance(value, str) and HEX_UUID.fullmatch(value):
        yield value, place
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from uuids_in(inner, f'{place}["{key}"]')
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from uuids_in(inner, f"{place}[{number}]")


def as_pytest(rest: Rest, entries: Sequence[Entry]) -> str:
    return PytestWriter(rest).text(entries)


EXPORTS = {"har": as_har, "curl": as_curl, "pytest": as_pytest}


def read_steering(body: Any, codes: dict[str, str]) -> tuple[str, ApiError | None]:
    """Return what {"do": ...} does to a job, and the error that "fail" names, or None.

    Raise ControlError for a wrong body. `codes` has the error codes with their descriptions.
    """
    action = body.get("do") if isinstance(body, dict) else None
    with refused_for(ValueError):
        among("finish", "fail", "hold", "release", "expire").check("do", action)
    keys = ("error", "details")
    for key in body.keys() - {"do", *keys}:
        text = f"{key!r} is no key here{did_you_mean(key, keys)}"
        raise ControlError(400, text, "there are do, error and details")
    used = [key for key in keys if key in body]
    if not used:
        return action, None
    if action != "fail":
        raise ControlError(400, f"{used[0]!r} goes with 'fail' only")
    code = body.get("error", FAILED_BY_HAND.code)
    with refused_for(ValueError):
        check_code("error", code, codes)
        details = body.get("details", codes[code])
        ANY_TEXT.check("details", details)
    return action, ApiError(code, details)


def count_objects(items_by_type: dict[str, Any]) -> dict[str, int]:
    """Return the number of objects of each type that has any, without zmock's own record."""
    return {type: len(items) for type, items in items_by_type.items() if items and type != "Mock"}


class Control:
    """The calls below /zmock. They are never delayed, never faulted, and not in the journal."""

    def __init__(self, rest: Rest, reset_mock: Callable, restore_mock: Callable):
        self.rest = rest
        self.reset_mock = reset_mock
        self.restore_mock = restore_mock
        self.cloud = rest.cloud
        self.jobs = rest.jobs
        self.faults = rest.faults
        self.clock = rest.clock
        self.settings = rest.settings
        self.store = rest.cloud.store
        self.began = self.clock.monotonic()
        self.watch = Watch(rest, self.clock_state)
        self.copying = asyncio.Lock()  # held while a snapshot is read, taken or dropped
        folder = None if self.settings.memory else Path(self.settings.data).parent / "snapshots"
        self.snapshots = Snapshots(folder)
        allowed = map(name_of_host, self.settings.allow_origin)
        self.hosts = LOOPBACK | {"", self.settings.host, *allowed}
        cookie = hmac.digest(self.settings.control_token.encode(), b"zmock", "sha256").hex()
        self.cookie = f"zmock-{cookie[:8]}", cookie  # cookies of a host are those of all its ports

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the control calls, by method and path below /zmock."""
        return {call: handler.__get__(self) for call, handler in self.CALLS.items()}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Route /zmock. Names may hold slashes and line breaks, and further slashes do no harm."""
        refuse = self.answering(self.refuse_path)
        for path in ("/", "/zmock{after:/*}"):
            router.add_get(path, self.answering(self.show_page))
        resources = {}
        for call, handler in self.handlers().items():
            method, path = call.split(" ")
            pattern = path.replace("{name}", "{name:(?s:.*?)}")
            resource = router.add_resource(f"/zmock{{before:/+}}{pattern}{{after:/*}}")
            takes_query = call in self.CALLS_WITH_QUERY
            answer = self.answering(handler if takes_query else without_query(handler))
            resource.add_route(method, answer)
            if method == "GET":
                resource.add_route("HEAD", answer)
            resources[path] = resource
        resources[""] = router.add_resource("/zmock{path:(?s:(/.*)?)}")
        for resource in resources.values():
            resource.add_route("*", refuse)

    async def refuse_path(self, request: web.Request) -> None:
        """Raise 405 for a path that takes other methods, else 404. Both name what is right."""
        routes = request.match_info.route.resource
        methods = [route.method for route in routes if route.method not in ("HEAD", "*")]
        if methods:
            raise ControlError(405, f"{request.path} takes {', '.join(methods)}")
        words = sorted({re.split("[ /]", call)[1] for call in self.handlers()})
        word = request.path.removeprefix("/zmock").strip("/").partition("/")[0]
        text = f"no control call {request.path}{did_you_mean(word, words)}"
        raise ControlError(404, text, "there are " + ", ".join(f"/zmock/{word}" for word in words))

    def answering(self, handler: Handler) -> Handler:
        """Return an aiohttp handler that guards a handler, and answers with JSON, errors too."""

        async def answer(request: web.Request) -> web.StreamResponse:
            public = request.path in PUBLIC and effective_method(request.method) == "GET"
            try:
                if request.method == "OPTIONS" and self.is_open(request):
                    return web.Response(headers=headers_of_preflight(request))
                offers_token = handler == self.show_page and "token" in request.query
                if offers_token and self.settings.control_token:
                    return self.let_in(request)
                if not public and not self.is_stub(request):
                    self.guard(request)
                body = await handler(request)
            except Exception as error:  # as MessageSafeAspect.aj: never a 500 in plain text
                refusal = control_error(request, error)
                where = f"{request.method} {request.path}"
                log.info("%d  %s\n%s\n%s", refusal.status, where, refusal.error, refusal.hint)
                body = {"error": refusal.error, "hint": refusal.hint}
                return json_answer(body, refusal.status)
            if isinstance(body, web.StreamResponse):
                return body
            return json_answer(body)

        return answer

    def is_open(self, request: web.Request) -> bool:
        """Return True if the page of a request may read the answer."""
        origin = request.headers.get("Origin")
        is_public = request.path in PUBLIC or self.is_stub(request)
        return is_public or origin in self.settings.allow_origin

    def is_stub(self, request: web.Request) -> bool:
        """Return True if a rule answers GET /, in the place of the page."""
        stubs = self.faults.stubs if request.path == "/" else ()
        return any(stub.is_at("GET", "/") for stub in stubs)

    def guard(self, request: web.Request) -> None:
        """Refuse foreign pages, and requests without the token or from other machines."""
        token, headers = self.settings.control_token, request.headers
        origin, own = headers.get("Origin", ""), headers.get("Host", "")
        is_own = origin.partition("://")[2] in {own, forwarded(request)[1]} - {""}
        if origin and not is_own and not self.is_open(request):
            hint = f"start with --allow-origin {origin}"
            if origin == "null":
                hint = "a file or a sandboxed frame has no origin; serve the page over http"
            raise ControlError(403, f"/zmock does not answer pages of {origin}", hint)
        if token and not self.is_authorised(request):
            hint = "send Authorization: Bearer TOKEN of --control-token, or open /?token=TOKEN"
            raise ControlError(401, "/zmock asks for its token", hint)
        if not token and (request.remote or "127.0.0.1") not in LOOPBACK:
            hint = "start with --control-token TOKEN to reach it from another one"
            raise ControlError(403, "/zmock answers this machine only", hint)
        if not token and name_of_host(own) not in self.hosts:
            hint = f"use {self.rest.base}, or start with --allow-origin {request.scheme}://{own}"
            raise ControlError(403, f"/zmock does not answer for the host {own}", hint)
        writes = request.method in ("POST", "PUT") and request.body_exists
        if writes and request.content_type != "application/json":
            hint = "send Content-Type: application/json"
            raise ControlError(415, "a control call is JSON", hint)

    def is_authorised(self, request: web.Request) -> bool:
        """Return True if a request has the token, or the cookie that let_in() sets."""
        name, value = self.cookie
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        has_token = is_secret(token, self.settings.control_token) and scheme.lower() == "bearer"
        return has_token or is_secret(request.cookies.get(name, ""), value)

    def let_in(self, request: web.Request) -> web.Response:
        """Give the cookie to a browser that opens /?token=TOKEN, and send it to the page."""
        if not is_secret(request.query["token"], self.settings.control_token):
            hint = "open /?token=TOKEN, with the TOKEN of --control-token"
            raise ControlError(401, "this is not the token of /zmock", hint)
        place = forwarded(request)[2] + request.path
        response = web.Response(status=303, headers={"Location": place})
        name, value = self.cookie
        response.set_cookie(name, value, httponly=True, samesite="Strict")
        return response

    async def read_json(self, request: web.Request) -> Any:
        """Return the JSON of a body, {} for an empty one."""
        limit = self.settings.body_limit
        try:
            text = await body_text(request, limit)
        except (ValueError, ConnectionError, web.RequestPayloadError) as error:
            raise ControlError(400, f"the body cannot be read: {error}") from None
        except web.HTTPRequestEntityTooLarge:
            raise ControlError(400, f"the body has more than {counted(limit, 'byte')}") from None
        try:
            return load_json(text, object_pairs_hook=unique_keys) if text.strip() else {}
        except ValueError as error:
            raise ControlError(400, f"the body is no JSON: {error}") from None

    # zmock itself

    async def show_page(self, request: web.Request) -> web.StreamResponse:
        """Return the page to a browser, and the index of the control calls to others."""
        if self.is_stub(request):
            return await self.rest.answer(request)
        page, headers = page_of(file_stamp(str(PAGE_FILE)))
        is_browser = "text/html" in request.headers.get("Accept", "")
        if is_browser and headers["ETag"] in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        if is_browser and page:
            return web.Response(body=page, headers=headers)
        index: Item = {"zmock": __version__, "calls": {}}
        for call, handler in self.handlers().items():
            line = (handler.__doc__ or "").partition("\n")[0]
            index["calls"][call.replace(" ", " /zmock/")] = line
        if is_browser:
            index["hint"] = f"the page is missing: zmock.py looks for it at {PAGE_FILE}"
        return json_answer(index, headers={"Vary": "Accept"})

    async def show_health(self, request: web.Request) -> Item:
        """Return version, dialect, cloud, objects per type, and whether all changes are on disk."""
        return self.health()

    def health(self) -> Item:
        """Return the state of zmock without secrets: anybody may read it."""
        settings = self.settings
        cloud = (self.store.peek("Mock", "mock") or {}).get("cloud", "unknown")
        tables = {name: table.items for name, table in sorted(self.store.tables.items())}
        return {
            "version": __version__,
            "dialect": self.cloud.dialect.name,
            "cloud": Path(cloud).name if Path(cloud).is_absolute() else cloud,
            "seed": settings.seed,
            "objects": count_objects(tables),
            "commit": self.without_secrets(self.store.state),
            "data": "" if settings.memory else self.without_secrets(settings.data),
            "found": [self.without_secrets(line) for line in self.store.reports[:MOST_FOUND]],
            "uptime": round(self.clock.monotonic() - self.began, 3),
        }

    def without_secrets(self, text: str) -> str:
        """Return a text without the uuids of sessions and the place of the data folder."""
        folder = Path(self.settings.data)
        text = re.sub(r"\bSession \S+(?=:)", "a session", text)
        return text.replace(str(folder), folder.name) if folder.is_absolute() else text

    async def list_apis(self, request: web.Request) -> Item:
        """List all APIs: method, path, backing, and how often each was called."""
        return {"apis": [*map(self.facts_of, self.cloud.catalogue.apis.values())]}

    def facts_of(self, api: Api) -> Item:
        facts = {name: getattr(api, name) for name in ("name", "method", "path", "backing")}
        return facts | {"calls": self.cloud.used[api.name]}

    async def show_api(self, request: web.Request) -> Item:
        """Return an API with its parameters, and the key of the body that holds them."""
        name, apis = request.match_info["name"], self.cloud.catalogue.apis
        if name not in apis:
            raise no_such("API", name, apis)
        api = apis[name]
        params = []
        for param in api.params.values():
            facts = {"name": param.name, "type": param.type, "required": param.required}
            if row := self.cloud.catalogue.resource(param.refers):
                facts["refers"] = row.path or None
            facts["values"] = param.values or None
            facts["default"] = param.default
            params.append(without_nulls(facts))
        wrapper = api.key if api.method in ("POST", "PUT") else None
        return self.facts_of(api) | {"wrapper": wrapper, "params": params}

    async def show_dialect(self, request: web.Request) -> Item:
        """Return the table of dialects with its sources and the dialect in force."""
        dialect = self.cloud.dialect
        return {"dialect": dialect.name, "differences": dialect.described()}

    async def show_contract(self, request: web.Request) -> Item:
        """Return the APIs as OpenAPI 3.1."""
        return Contract(self.cloud).document("")

    async def show_schema(self, request: web.Request) -> Item:
        """Return the JSON Schema of files of rules, scenarios, clouds and catalogues."""
        with refused_for(OSError, 404):
            return read_json(SCHEMA_FILE)

    async def reset(self, request: web.Request) -> Item:
        """Go back to the start: cloud, rules, clock, journal; {"cloud": NAME} changes the cloud."""
        body = await self.read_json(request)
        fits = isinstance(body, dict) and body.keys() <= {"cloud"}
        cloud = body.get("cloud", self.settings.cloud) if fits else None
        if not isinstance(cloud, str):
            forms = '{"cloud": "demo"}, "empty", "large:N" or a file'
            text = json.dumps(body, ensure_ascii=False)
            raise ControlError(400, f"reset takes {forms}, not {text}")
        await self.reset_to(cloud)
        return self.health()

    async def reset_to(self, cloud: str) -> None:
        """Start again with a cloud as --cloud names it, and return when that is on disk.

        Raise ControlError, with nothing changed, if there is no such cloud.
        """
        start = self.rest.start
        works = start and cloud == self.settings.cloud
        if works and is_cloud_file(cloud):  # the file may have changed
            works = start.is_of(cloud, self.clock.now())
        if not works:
            self.try_out(cloud)
        self.settings.cloud = cloud
        self.watch.note("reset", self.cloud.resets, {"cloud": cloud})
        self.reset_mock()
        log.info("reset to the cloud %s", cloud)
        self.faults.log_files(self.faults.files)
        self.began = self.clock.monotonic()
        await self.store.commit()

    def try_out(self, cloud: str) -> None:
        """Make a cloud beside the present one. Raise ControlError if that is not possible."""
        settings = replace(self.settings, memory=True, clock="frozen")
        with refused_for(SettingsError):
            fill(new_cloud(settings, self.cloud.catalogue), cloud)

    # rules

    async def list_rules(self, request: web.Request) -> Item:
        """List the rules with their counts, and the rule files that cannot be used."""
        self.faults.reread()
        answer: Item = {"rules": [rule.as_json() for rule in self.faults.rules]}
        if self.faults.problems:
            answer["problems"] = self.faults.problems
        return answer

    async def add_rule(self, request: web.Request) -> Item:
        """Add a rule behind the others. With ?try=true, return the past calls that it matches."""
        body = await self.read_json(request)
        refuse_other_keys(request, ["try"], "a rule is added, or tried with try=true")
        with refused_for(ValueError):
            if "try" in request.query:
                THE_WORD_TRUE.check("try", request.query["try"])
                return self.rest.try_rule(body)
            rule = self.faults.add(body)
        stored = body | {"uuid": rule.id, "id": rule.id}
        if rule.timer:
            stored["ends"] = self.clock.due_date(rule.timer)
        self.store.put("Rule", stored)
        log.info("%s is in force: %s", rule.id, json.dumps(body, ensure_ascii=False))

        def undo(error: ApiError) -> None:
            self.faults.remove(rule)
            self.store.remove("Rule", rule.id)

        await self.commit_rules(undo)
        return rule.as_json()

    async def commit_rules(self, undo: Callable[[ApiError], None]) -> None:
        """Write a change of the rules to disk, or undo it and raise ControlError."""
        try:
            await self.store.commit(undo)
        except ApiError as error:
            hint = "the rules are as they were; make room, and do it again"
            raise ControlError(error.status, str(error), hint) from None

    async def drop_rules(self, request: web.Request) -> Item:
        """Remove all rules."""
        stored = {item["uuid"] for item in self.store.rows("Rule")}  # some may not be in force
        await self.remove_rules(stored | {rule.id for rule in self.faults.rules})
        return {"rules": []}

    async def remove_rules(self, ids: set[str]) -> None:
        before = self.faults.rules
        with self.store.all_or_nothing() as changes:
            self.faults.replace(rule for rule in before if rule.id not in ids)
            for id in ids:
                self.store.remove("Rule", id)

        def undo(error: ApiError) -> None:
            now = self.faults.rules
            old = [rule for rule in before if rule.id in ids or rule in now]
            self.faults.replace(old + [rule for rule in now if rule not in before])
            self.store.take_back(changes)

        await self.commit_rules(undo)

    async def show_rule(self, request: web.Request) -> Item:
        """Return a rule with its counts."""
        return self.named_rule(request).as_json()

    async def drop_rule(self, request: web.Request) -> Item:
        """Remove a rule."""
        await self.remove_rules({self.named_rule(request).id})
        return {}

    def named_rule(self, request: web.Request) -> Rule:
        """Return the rule that the path names. Raise ControlError if there is none."""
        id = request.match_info["name"]
        rules = self.faults.by_id
        if id not in rules:
            raise no_such("rule", id, rules)
        return rules[id]

    # the clock

    async def show_clock(self, request: web.Request) -> Item:
        """Return the time, the mode of the clock, and what is pending."""
        return self.clock_state()

    def clock_state(self, fired: Sequence[str] = ()) -> Item:
        """Return the state of the clock. `fired` are the names of timers that came due."""
        now = self.clock.now()
        offset = round(now - self.clock.system_time(), 3)
        state = {"now": iso(now), "mode": self.clock.mode, "offset": offset, "fired": [*fired]}
        pending, rows = self.pending(), []
        for date, text in pending[:MOST_PENDING]:
            words = re.sub(UUID, self.name_of, text)
            rows.append({"in": round(date - now, 3), "at": iso(date), "what": words})
        return state | {"pending": rows, "more": len(pending) - len(rows)}

    def pending(self) -> list[tuple[Seconds, str]]:
        """Return all that is due, in order: its date, and its words with uuids."""
        clock, pending = self.clock, []
        for timer in sorted(clock.timers + clock.dated, key=clock.due_order):
            if timer.name and timer.fire:  # a sweep has no name
                pending.append((clock.due_date(timer), timer.name))
        for session in self.store.rows("Session"):
            ends = clock.date_of_stamp(session["expiredDate"])
            if ends > clock.now():
                pending.append((ends, f"session of {session['accountUuid']} ends"))
        return sorted(pending, key=operator.itemgetter(0))

    def name_of(self, match: re.Match) -> str:
        """Return the name of the object that a uuid stands for, or that a job with it is about."""
        uuid = match[0]
        items = [self.store.peek(type, uuid) for type in self.store.tables]
        items += self.store.find("LongJob", "apiId", uuid)
        names = [item["name"] for item in items if item and item.get("name")]
        return str(names[0]) if names else uuid

    async def set_clock(self, request: web.Request) -> Item:
        """Apply {"advance": SECONDS or "next"}, {"set": DATE}, {"freeze": BOOL}, {"warp": BOOL}."""
        body = await self.read_json(request)
        keys = {"advance", "set", "freeze", "warp"}
        if not isinstance(body, dict) or len(body) != 1 or not body.keys() <= keys:
            date = '{"set": "2018-07-10T00:00:00Z"}'
            forms = f'{{"advance": seconds}}, {date}, {{"freeze": true}} or {{"warp": true}}'
            hint = "one at a time" if isinstance(body, dict) and len(body) > 1 else ""
            raise ControlError(400, f"the clock takes {forms}", hint)
        [(key, value)] = body.items()
        fired: Sequence[str] = ()
        if key == "advance":
            fired = await self.advance(value)
        elif key == "set":
            fired = await self.set_date(value)
        else:
            self.set_mode("frozen" if key == "freeze" else "warp", value)
        self.store.update("Mock", "mock", clock=self.clock.saved())
        await self.store.commit()
        return self.clock_state(fired)

    async def advance(self, seconds: Any) -> Sequence[str]:
        """Let some seconds pass, or the time until the "next" pending moment."""
        if seconds == "next":
            pending = self.pending()
            if not pending:
                raise ControlError(409, "nothing is pending")
            return await self.clock.go_to(pending[0][0])
        if not is_span(seconds):
            text = "'advance' is a number of seconds from 0 to 1e9, or \"next\""
            raise ControlError(400, f"{text}, not {seconds!r}")
        return await self.clock.advance(seconds)

    async def set_date(self, text: Any) -> Sequence[str]:
        """Set the clock to a date. An advance under way ends where it is."""
        try:
            moment = date_of_iso(text)
        except ValueError:
            examples = "2018-07-10T00:00:00Z or 2018-07-10T08:00:00+08:00"
            message = f"'set' is a date such as {examples}, not {text!r}"
            raise ControlError(400, message) from None
        if not 0 <= moment < 4e9:
            raise ControlError(400, f"'set' is a date from 1970 to 2096, not {text!r}")
        self.clock.halt()
        if moment < self.clock.now() - 0.001:  # iso() cuts dates to milliseconds
            self.clock.set_back(moment)
        return await self.clock.go_to(moment)

    def set_mode(self, mode: str, on: Any) -> None:
        if not isinstance(on, bool):
            raise ControlError(400, f"'freeze' and 'warp' are true or false, not {on!r}")
        self.clock.set_mode(mode if on else "real")

    # jobs

    async def list_jobs(self, request: web.Request) -> Item:
        """List api-jobs and long jobs; state=running,held, api and limit filter them."""
        keys, query = ("state", "api", "limit"), request.query
        refuse_other_keys(request, keys, f"jobs are filtered by {', '.join(keys)}")
        states = query["state"].split(",") if query.get("state") else []
        api, limit = query.get("api", "*"), int(read_number(request, "limit", 1_000_000, 1_000_000))
        with refused_for(ValueError):
            self.faults.named(re.sub("^API|Msg$", "", api) or "*", can_be_stub=True)
            for state in states:
                among(*JOB_STATES, "canceled").check("state", state)

        def fits(state: str, name: str) -> bool:
            return (not states or state in states) and fnmatchcase(name, api)

        records, items = self.store.rows("Job"), self.store.rows("LongJob")
        jobs = [record for record in records if fits(self.jobs.state_of(record), record["api"])]
        long_jobs = [item for item in items if fits(item["state"].lower(), item["jobName"])]
        counts = Counter(map(self.jobs.state_of, records))
        return {
            "jobs": [*map(self.jobs.as_json, deque(jobs, limit))],
            "longJobs": [long_job_json(self.cloud, item) for item in deque(long_jobs, limit)],
            "counts": {state: counts[state] for state in JOB_STATES},
        }

    def find_job(self, uuid: Uuid) -> Item | None:
        """Return an api-job or a long job as its list shows it, None if there is none."""
        item = self.store.peek("LongJob", uuid)
        return long_job_json(self.cloud, item) if item else self.jobs.find(uuid)

    def job_named(self, request: web.Request) -> Item:
        """Return the job that the path names. "last" is the api-job submitted last."""
        name = request.match_info["name"]
        uuid = self.jobs.last or name if name == "last" else name
        job = self.find_job(uuid)
        if not job:
            hint = "GET /zmock/jobs lists the jobs that have not expired; last is the newest"
            raise ControlError(404, f"no job {uuid}", hint)
        return job

    async def show_job(self, request: web.Request) -> Item:
        """Return a job or a long job; "last" is the job submitted last."""
        return self.job_named(request)

    async def steer_job(self, request: web.Request) -> Item:
        """Apply {"do": "finish"}, "hold", "release", "expire", or "fail" with error and details."""
        body = await self.read_json(request)
        job = self.job_named(request)
        action, error = read_steering(body, self.cloud.catalogue.errors)
        steer = self.steer_long_job if "jobName" in job else self.steer_api_job
        steer(job, action, error)
        await self.clock.settle()
        await self.store.commit()
        return self.find_job(job["uuid"]) or job | {"state": "expired"}

    def steer_api_job(self, shown: Item, action: str, error: ApiError | None) -> None:
        uuid = shown["uuid"]
        job = self.jobs.running.get(uuid)
        over = not job or (action in ("hold", "release") and job.ended)
        if over and action != "expire":
            state = "lost" if shown["state"] == "lost" else "over"
            raise ControlError(409, f"job {uuid} is {state}")
        if action == "finish" and self.jobs.waits(uuid):
            text = f"job {uuid} waits for another one on the same object"
            raise ControlError(409, text, "finish that one first: GET /zmock/jobs")
        if action == "release" and not job.held:
            raise ControlError(409, f"job {uuid} is not held")
        self.jobs.control(uuid, action, error)

    def steer_long_job(self, job: Item, action: str, error: ApiError | None) -> None:
        run = self.cloud.part(LongRuns).get(job["uuid"])
        if action not in ("finish", "fail"):
            raise ControlError(409, f"a long job takes finish and fail, not {action}")
        if not run:
            raise ControlError(409, f"long job {job['uuid']} is over")
        if action == "finish":
            run.hurry()
        else:
            run.fail(error or FAILED_BY_HAND)

    # the journal

    async def list_calls(self, request: web.Request) -> Any:
        """List the journal; api, path, status, outcome and since filter it; as=har|curl|pytest."""
        with refused_for(ValueError):
            self.faults.named(request.query.get("api") or "*", can_be_stub=True)
        fits = journal_filter(request, "as")
        form = self.export(request, [entry for entry in self.rest.journal if fits(entry)])
        return form or self.calls_passing(fits)

    def calls_passing(self, fits: Callable[[Entry], bool]) -> Item:
        """Return the calls that pass a filter."""
        calls = [entry.as_json() for entry in self.rest.journal if fits(entry)]
        return {"calls": calls, "dropped": self.rest.dropped}

    def export(self, request: web.Request, entries: Sequence[Entry]) -> web.Response | None:
        """Return calls in the form that `as` names, None if the request has no `as`."""
        form = request.query.get("as")
        if form is None:
            return None
        with refused_for(ValueError):
            among(*EXPORTS).check("as", form)
        octets = EXPORTS[form](self.rest, entries).encode(errors="backslashreplace")
        kind = "application/json" if form == "har" else "text/plain"
        return web.Response(body=octets, content_type=kind, charset="utf-8")

    async def show_call(self, request: web.Request) -> Any:
        """Return a call with the headers and bodies of its request and answer; as=... too."""
        refuse_other_keys(request, ("as",), "a call is shown as=har, curl or pytest")
        seq, journal = request.match_info["name"], self.rest.journal
        for entry in journal:
            if str(entry.seq) == seq:
                return self.export(request, [entry]) or entry.in_full()
        hint = f"it has {journal[0].seq} to {journal[-1].seq}" if journal else "it is empty"
        raise ControlError(404, f"no call {seq!r} in the journal", hint)

    async def drop_calls(self, request: web.Request) -> Item:
        """Empty the journal."""
        self.rest.forget_calls()
        return {"calls": [], "dropped": 0}

    # watching

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """Send what happens as server-sent events, from ?since=SEQ on; see ?calls=summary."""
        return await self.watch.stream(request)

    async def wait(self, request: web.Request) -> Item:
        """Wait until `count` calls were made or objects are there; 408 after `timeout` seconds."""
        query = request.query
        seconds = read_number(request, "timeout", 10, 600)
        if "q" in query or (query.get("path") and "api" not in query):
            return await self.wait_for_objects(request, seconds)
        if "api" not in query:
            examples = "?api=CreateVmInstance&count=2, or ?path=/vm-instances&q=name=web-1"
            raise ControlError(400, f"what is waited for? {examples}")
        return await self.wait_for_calls(request, seconds)

    async def wait_for_calls(self, request: web.Request, seconds: Seconds) -> Item:
        with refused_for(ValueError):
            self.faults.named(request.query["api"])  # refuses what names no API
        fits = journal_filter(request, "count", "timeout")
        count = read_number(request, "count", 1, self.rest.journal.maxlen)

        def enough_calls() -> Item | None:
            answer = self.calls_passing(fits)
            return answer if len(answer["calls"]) >= count else None

        return await self.watch.until(enough_calls, seconds)

    async def wait_for_objects(self, request: web.Request, seconds: Seconds) -> Item:
        """Return the answer of a query once it has `count` objects, or none for count=0."""
        keys = ("path", "q", "count", "timeout")
        refuse_other_keys(request, keys, "items are waited for by path, q, count and timeout")
        api = self.query_api(request.query.get("path", ""))
        count = read_number(request, "count", 1, 1_000_000)
        conditions = [("q", text) for text in request.query.getall("q", ())]
        with refused_for(ApiError):
            query, _ = read_query(conditions, self.cloud.dialect)
        query.with_count = True

        def enough_objects() -> Item | None:
            answer = self.objects(api, query)
            total = answer["total"]
            enough = total >= count if count else total == 0
            return answer if enough else None

        enough_objects()  # refuses a wrong query at once
        queries = self.cloud.accounts.queries_on(api.type)
        hints = queries.doubts(query, self.cloud.catalogue.resource(api.type))
        return await self.watch.until(enough_objects, seconds, hints)

    def query_api(self, path: str) -> Api:
        """Return the simulated API that queries "zones". Raise ControlError if there is none."""
        row = self.collection(path)
        for api, _ in self.cloud.catalogue.route(f"/{row.path}"):
            if api.kind == "Query" and self.cloud.simulated(api):
                return api
        raise ControlError(404, f"no simulated API queries {row.path}")

    # queries

    async def show_queryable(self, request: web.Request) -> Item:
        """Return what a query on a collection may name, or on its relation ?at=vmNics.eip."""
        row = self.collection(request.match_info.get("name", ""))
        refuse_other_keys(request, ["at"], "a relation is shown with at=vmNics.eip")
        queries = self.cloud.queries
        for step in filter(None, request.query.get("at", "").split(".")):
            if step not in row.relations:
                text = f"{row.name} has no relation {step}{did_you_mean(step, row.listed)}"
                raise ControlError(404, text, f"there are {', '.join(row.listed) or 'none'}")
            row = queries.beyond(row, step)
        return queries.queryable(row)

    async def list_collections(self, request: web.Request) -> Item:
        """List the collections: type, number of objects, and the API that creates one."""
        catalogue = self.cloud.catalogue
        simulated = filter(self.cloud.simulated, catalogue.apis.values())
        apis = {api.call: api for api in simulated if api.creates or api.kind == "Query"}
        collections = []
        for path, row in catalogue.collections.items():
            query, create = apis.get(f"GET /{path}"), apis.get(f"POST /{path}")
            if query:
                total = self.objects(query, Query(count=True))["total"]
                facts = {"collection": path, "type": row.name, "count": total}
                collections.append(facts | ({"create": create.name} if create else {}))
        return {"collections": collections}

    async def query_objects(self, request: web.Request) -> Item:
        """Answer a query on a collection as the API does, without a session."""
        api = self.query_api(request.match_info["name"])
        row = self.cloud.catalogue.resource(api.type)
        return self.objects(api, self.read_query(request.query.items(), row))

    def objects(self, api: Api, query: Query) -> Item:
        """Return the answer of a query to an admin. Raise ControlError for a wrong query."""
        with refused_for(ApiError):
            return self.cloud.query(api, query, self.cloud.accounts.queries_on(api.type))

    def read_query(self, pairs: Iterable[tuple[str, str]], row: Resource) -> Query:
        """Return the query of a query string. Raise ControlError for a key that none has."""
        dialect = self.cloud.dialect
        with refused_for(ApiError):
            query, unread = read_query(pairs, dialect)
        if unread:
            raise ControlError(400, other_key(min(unread), row.all_fields, dialect))
        return query

    async def explain(self, request: web.Request) -> Item:
        """Return what each condition of ?path=/vm-instances&q=..., or ?zql=..., keeps and drops."""
        if "zql" in request.query:
            return self.explain_zql(request)
        path = request.query.get("path")
        if not path:
            example = "?path=/vm-instances&q=state=Running"
            raise ControlError(400, f"explain needs a collection: {example}")
        row = self.collection(path)
        pairs = [(key, text) for key, text in request.query.items() if key != "path"]
        query = self.read_query(pairs, row)
        with refused_for(ApiError):
            return self.cloud.accounts.queries_on(row.name).explain(query, row)

    def explain_zql(self, request: web.Request) -> Item:
        refuse_other_keys(request, ["zql"], "a statement of ZQL is explained with zql alone")
        with refused_for(ApiError):
            statement = ZqlParser(request.query["zql"], self.cloud.catalogue).statement()
            queries = self.cloud.accounts.queries_on(statement.resource.name)
            return queries.explain(statement, statement.resource)

    def collection(self, path: str) -> Resource:
        """Return the resource of "vm-instances". Raise ControlError if there is none."""
        path, collections = without_prefix(path).strip("/"), self.cloud.catalogue.collections
        if path not in collections:
            text = f"no collection {path or 'is named'}{did_you_mean(path, collections)}"
            raise ControlError(404, text, f"there are {', '.join(sorted(collections))}")
        return collections[path]

    # snapshots

    async def list_snapshots(self, request: web.Request) -> Item:
        """List the names of the snapshots."""
        return {"snapshots": await self.on_disk(self.snapshots.names)}

    async def show_snapshot(self, request: web.Request) -> Item:
        """Return the number of objects per type in a snapshot."""
        name = request.match_info["name"]
        documents = await self.on_disk(self.read_snapshot, name)
        return {"name": name, "objects": count_objects(documents)}

    async def take_snapshot(self, request: web.Request) -> Item:
        """Take a snapshot of the present state, or replace the one of that name."""
        await self.read_json(request)  # refuses a body that is no JSON
        name = request.match_info["name"]
        self.check_name(name)
        documents = self.store.image().documents
        clock = {"clock": self.clock.saved()}
        mock = {number: frozen(item | clock) for number, item in documents["Mock"].items()}
        await self.on_disk(self.snapshots.take, name, documents | {"Mock": mock})
        self.watch.note("snapshot", name, {"name": name, "taken": True})
        return {"name": name, "objects": count_objects(documents)}

    async def drop_snapshot(self, request: web.Request) -> Item:
        """Remove a snapshot."""
        name = request.match_info["name"]
        await self.on_disk(self.remove_snapshot, name)
        self.watch.note("snapshot", name, {"name": name, "removed": True})
        return {}

    async def restore_snapshot(self, request: web.Request) -> Item:
        """Go back to a snapshot. Jobs that were under way have ended, as after a restart."""
        await self.read_json(request)  # refuses a body that is no JSON
        name = request.match_info["name"]
        documents = await self.on_disk(self.read_snapshot, name)
        with refused_for(SettingsError, 409):
            self.restore_mock(documents, f"the snapshot {name}")
        self.watch.note("snapshot", name, {"name": name, "restored": True})
        await self.store.commit()
        return self.health()

    async def on_disk(self, work: Callable, *arguments: Any) -> Any:
        """Run work on the snapshots in a thread. Raise ControlError if the disk fails."""
        try:
            async with self.copying:
                return await asyncio.to_thread(work, *arguments)
        except ControlError:
            raise
        except Exception as error:
            kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
            text = f"cannot read or write the snapshots: {kind}{error}"
            raise ControlError(503, text) from error

    def read_snapshot(self, name: str) -> dict[str, dict[int, Item]]:
        try:
            self.check_exists(name)
            return self.snapshots.documents(name)
        except (Broken, OSError) as error:
            hint = "mend that file, or take the snapshot anew"
            raise ControlError(409, f"cannot read {error}", hint) from None

    def remove_snapshot(self, name: str) -> None:
        self.check_exists(name)
        self.snapshots.drop(name)

    def check_exists(self, name: str) -> None:
        self.check_name(name)
        names = self.snapshots.names()
        if name not in names:
            raise no_such("snapshot", name, names)

    @staticmethod
    def check_name(name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
            hint = "letters, digits, - _ and ., 64 at most, not beginning with ."
            raise ControlError(400, f"{name[:80]!r} is no name for a snapshot", hint)

    # incidents

    async def list_incidents(self, request: web.Request) -> Item:
        """List the incidents that last."""
        incidents = self.cloud.outages.incidents.values()
        return {"incidents": [incident.as_json(self.clock) for incident in incidents]}

    async def add_incident(self, request: web.Request) -> Item:
        """Begin an incident, as {"host-down": "host-1"}."""
        body = await self.read_json(request)
        with refused_for(ValueError), refused_for(UnknownTarget, 404):
            incident = begin_incident(self.cloud, body)
        await self.store.commit()
        return incident.as_json(self.clock)

    async def drop_incident(self, request: web.Request) -> Item:
        """End an incident."""
        id = request.match_info["name"]
        incidents = self.cloud.outages.incidents
        if id not in incidents:
            raise no_such("incident", id, incidents)
        end_incident(self.cloud, id)
        await self.store.commit()
        return {}

    # scenarios

    async def list_scenarios(self, request: web.Request) -> Item:
        """List the scenarios with their steps, and which of them were played."""
        self.clock.reread_files()
        scenarios = self.rest.scenarios
        answer: Item = {"scenarios": [each.as_json() for each in scenarios.by_id.values()]}
        if scenarios.problem:
            answer["problem"] = scenarios.problem
        return answer

    async def add_scenario(self, request: web.Request) -> Item:
        """Play a scenario, a list of steps as {"at": 30, "incident": {"host-down": "host-1"}}."""
        body = await self.read_json(request)
        if body == []:
            raise ControlError(400, "a scenario has steps, and this list is empty")
        with refused_for(ValueError):
            scenario = self.rest.scenarios.add(body)
        await self.store.commit()
        return scenario.as_json()

    async def drop_scenarios(self, request: web.Request) -> Item:
        """Remove all scenarios, with the rules and incidents that they began."""
        self.rest.scenarios.end()
        await self.store.commit()
        return {"scenarios": []}

    CALLS: dict[str, Callable[..., Any]] = {
        "GET health": show_health,
        "GET apis": list_apis,
        "GET apis/{name}": show_api,
        "GET dialect": show_dialect,
        "POST reset": reset,
        "GET rules": list_rules,
        "POST rules": add_rule,
        "DELETE rules": drop_rules,
        "GET rules/{name}": show_rule,
        "DELETE rules/{name}": drop_rule,
        "GET clock": show_clock,
        "POST clock": set_clock,
        "GET jobs": list_jobs,
        "GET jobs/{name}": show_job,
        "POST jobs/{name}": steer_job,
        "GET calls": list_calls,
        "GET calls/{name}": show_call,
        "DELETE calls": drop_calls,
        "GET wait": wait,
        "GET events": stream_events,
        "GET objects": list_collections,
        "GET objects/{name}": query_objects,
        "GET queryable/{name}": show_queryable,
        "GET explain": explain,
        "GET snapshots": list_snapshots,
        "POST snapshots/{name}/restore": restore_snapshot,
        "GET snapshots/{name}": show_snapshot,
        "PUT snapshots/{name}": take_snapshot,
        "DELETE snapshots/{name}": drop_snapshot,
        "GET scenarios": list_scenarios,
        "POST scenarios": add_scenario,
        "DELETE scenarios": drop_scenarios,
        "GET incidents": list_incidents,
        "POST incidents": add_incident,
        "DELETE incidents/{name}": drop_incident,
        "GET openapi.json": show_contract,
        "GET schema.json": show_schema,
    }
    CALLS_WITH_QUERY = (  # they refuse other keys themselves
        "POST rules", "GET jobs", "GET calls", "GET calls/{name}", "GET wait", "GET events",
        "GET objects/{name}", "GET queryable/{name}", "GET explain",
    )  # fmt: skip


# ---- App -----------------------------------------------------------------------------------------

IN_TESTS: dict[str, Any] = {"port": 0, "memory": True, "delay": "0", "clock": "frozen"}
CATALOGUE_FILE = Path(__file__).parent / "data" / "catalogue.json"  # in a source tree and installed
MOST_CATALOGUES = 4  # in memory at a time: tests use several
FRESH = 600  # seconds that a reset may use the cloud of the start; then its dates are too old
REST = web.AppKey("rest", Rest)
CONTROL = web.AppKey("control", Control)
UNUSABLE = (  # exceptions that edited objects and other servers bring about
    KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


def catalogue(files: Sequence[str | Path] = ()) -> Catalogue:
    """Return the catalogue, with the rows of these files.

    Nothing changes a catalogue. The mocks of a process share it.
    """
    return catalogue_of(tuple((str(file), file_stamp(str(file))) for file in files))


@functools.lru_cache(MOST_CATALOGUES)
def catalogue_of(stamps: tuple[tuple[str, Any], ...]) -> Catalogue:
    """Return the catalogue with the rows of files. A changed file has another stamp."""
    rows = Catalogue(CATALOGUE_FILE, [file for file, _ in stamps])
    refuse_idle_rows(rows)
    return rows


def create_app(settings: Settings | None = None) -> web.Application:
    """Return a whole mock as an aiohttp application. It shares nothing with other mocks.

    The default settings are those of tests. Raise SettingsError for a folder that cannot be used.
    """
    settings = copy.copy(settings or Settings(**IN_TESTS))  # a reset to another cloud changes it
    cloud = new_cloud(settings, catalogue(settings.catalogue))
    rest = Rest(settings, cloud, cloud.jobs, Faults(cloud), deque(maxlen=settings.journal))
    reset = functools.partial(reset_mock, rest)
    restore = functools.partial(restore_mock, rest)
    control = Control(rest, reset, restore)

    clock = cloud.clock
    clock.move_checks.append(functools.partial(refuse_many_runs, cloud))
    clock.on_clock_set.append(functools.partial(follow_dates, cloud))
    clock.on_clock_set.append(functools.partial(store_ends_of_rules, rest))
    if settings.scenario:
        clock.file_readers.append(rest.scenarios.reread)
    load_or_fill(rest)
    control.snapshots.tidy_if_possible()

    handler_args = {"auto_decompress": False}  # unpack() has better errors
    app = web.Application(client_max_size=settings.body_limit, handler_args=handler_args)
    app[CLOUD] = cloud
    app[REST] = rest
    app[CONTROL] = control
    control.add_routes(app.router)
    app.router.add_route("*", "/{rest:(?s:.*)}", rest.answer)  # (?s:) as paths may hold line breaks
    app.on_response_prepare.append(complete_headers)
    app.cleanup_ctx.append(functools.partial(lifetime, cloud))
    return app


async def lifetime(cloud: Cloud, app: web.Application) -> AsyncIterator[None]:
    """Run a cloud while its application runs."""
    cloud.clock.start()
    with cloud.store.released_on_failure():
        try:
            await cloud.store.commit()
        except ApiError as error:
            cloud.clock.stop()
            cure = "make room there, or choose another folder with --data, or --memory"
            raise SettingsError(f"{error.details}; {cure}") from None
    cloud.store.start()
    yield
    cloud.clock.stop()
    await cloud.jobs.close()
    await cloud.store.rest()
    cloud.store.close()


async def complete_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages read an answer that is open to them. Headers that a rule sets go before.

    Remove the header that aiohttp adds and the server does not (RestServerController.java).
    """
    if CLOUD not in request.app:
        return
    is_api = request.match_info.handler == request.app[REST].answer
    if is_api and not request.app[CLOUD].dialect["response-headers"]:
        response.headers.popall("Content-Type", None)
    if is_api or request.app[CONTROL].is_open(request):
        headers = {"Vary": "Origin"} | headers_for_page(request, response.headers)
        for name, value in headers.items():
            response.headers.setdefault(name, value)


# the state: from the folder, from the start, from a snapshot


def load_or_fill(rest: Rest) -> None:
    """Go on with the cloud that the folder keeps, or fill an empty folder."""
    with rest.cloud.store.released_on_failure(), refused_if_unsuited(rest.settings):
        if rest.settings.memory:
            reset_mock(rest)
        else:
            with refused_if_unusable(rest.settings.data, "choose another --data"):
                load_folder(rest)
        rest.faults.must_read()
        if rest.scenarios.problem:
            raise SettingsError(rest.scenarios.problem)


@contextlib.contextmanager
def refused_if_unsuited(settings: Settings) -> Iterator[None]:
    """Turn an exception of the block into a SettingsError that names the files of --catalogue."""
    files = " and ".join(map(str, settings.catalogue))
    try:
        yield
    except SettingsError as error:
        if not files or str(DEMO_FILE) not in str(error):
            raise
        raise SettingsError(f"{error} (with the rows of {files})") from None
    except (*UNUSABLE, ApiError) as error:
        if not files:
            raise
        problem = f"no cloud {settings.cloud} can be made with the rows of {files} ({error!r})"
        raise SettingsError(f"{problem}; change them, or choose --cloud empty") from None


@contextlib.contextmanager
def refused_if_unusable(source: str, cure: str) -> Iterator[None]:
    """Raise SettingsError for an exception that objects of a folder or snapshot bring about."""
    try:
        yield
    except UNUSABLE as error:
        problem = f"{source} holds what zmock cannot use ({error!r})"
        raise SettingsError(f"{problem}; mend it, or {cure}") from None


def load_folder(rest: Rest) -> None:
    """Go on with the cloud of the folder, or fill it. Raise SettingsError for a wrong flag."""
    store = rest.cloud.store
    store.open()
    documents = {name: table.items for name, table in store.tables.items() if table.items}
    if not documents:
        reset_mock(rest)
        return
    check_documents(rest, documents, store.folder.path)
    record = mock_record(rest)
    filled_with: Item = {name: record[name] for name in ("cloud", "seed") if name in record}
    rest.made = record.get("made") or filled_with
    check_made_with(rest.settings, rest.made)
    resume_cloud(rest, store.folder.edited_types)


def resume_cloud(rest: Rest, edited: Container[str]) -> None:
    """Go on with the cloud in the store, as the server does after a restart.

    Mend the objects of the types that somebody may have `edited`, and report them.
    """
    cloud, store, settings = rest.cloud, rest.cloud.store, rest.settings
    record: Item = {"uuid": "mock", "seed": settings.seed} | mock_record(rest)
    settings.cloud = record.get("cloud", settings.cloud)
    settings.seed = record["seed"]
    starts = record.get("starts", 0) + 1
    store.put("Mock", record | facts_of(rest) | {"starts": starts})
    if "clock" in record:
        rest.clock.resume(record["clock"])
    cloud.random = random.Random(f"{settings.seed}/{starts}")  # new uuids are new
    for line in repair(cloud, edited):
        store.report(line)
    if record.get("format", FORMAT) < 3:
        store_capacities_of_empty(cloud, store.rows("PrimaryStorage"))
    for job in [*store.rows("Job")]:
        if job["state"] == "running":  # polls get 202 for ever (MysqlAsyncRestStore.java)
            store.update("Job", job["uuid"], state="lost")
    load_rules(rest)
    recover(cloud)
    sweep_regularly(rest)
    rest.clock.reread_files()


def reset_mock(rest: Rest) -> None:
    """Go back to the start: the cloud of --cloud, the rules of the files, an empty journal."""
    clear_mock(rest)
    cloud, start = rest.cloud, rest.start
    if start and start.is_of(rest.settings.cloud, rest.clock.now()):
        cloud.store.put_back(start.image)
        cloud.random.setstate(start.random)
    else:
        make_cloud(rest)
    expunge_all_later(cloud)
    resume_long_jobs(cloud)
    plan_all(cloud)
    load_rules(rest)
    sweep_regularly(rest)
    rest.clock.reread_files()


def clear_mock(rest: Rest) -> None:
    """Forget all jobs, calls and rules, and all that is due. The store stays."""
    rest.jobs.clear()
    rest.cached.clear()
    rest.cloud.clear()
    rest.clock.mode = rest.settings.clock
    rest.clock.restart()
    rest.forget_calls()
    rest.faults.clear()
    rest.scenarios.clear()


def make_cloud(rest: Rest) -> None:
    """Make the cloud that --cloud names, and remember it as the start."""
    cloud, settings = rest.cloud, rest.settings
    date = rest.clock.now()
    stamp = stamp_of_cloud(settings.cloud)
    cloud.store.clear()
    fill(cloud, settings.cloud)
    filled_with = {"cloud": settings.cloud, "seed": settings.seed}
    if not rest.made:
        rest.made = filled_with | {"cloud": named_anywhere(settings.cloud)}
    record = {"uuid": "mock", "starts": 0, "since": int(date)}
    cloud.store.put("Mock", record | filled_with | facts_of(rest))
    rest.start = Start(settings.cloud, date, stamp, cloud.store.image(), cloud.random.getstate())


@dataclass
class Start:
    """A new cloud as it was made, for resets."""

    cloud: str  # as --cloud names it
    date: Seconds
    stamp: tuple | None  # of the file that --cloud names
    image: Image
    random: tuple  # the state of the generator

    def is_of(self, cloud: str, now: Seconds) -> bool:
        """Return True if a reset to `cloud` can use it: it is fresh, and its file unchanged."""
        is_fresh = 0 <= now - self.date < FRESH
        return self.cloud == cloud and is_fresh and self.stamp == stamp_of_cloud(cloud)


def stamp_of_cloud(cloud: str) -> tuple | None:
    """Return the stamp of the file that --cloud names, if any."""
    return file_stamp(cloud) if is_cloud_file(cloud) else None


def restore_mock(rest: Rest, documents: Documents, source: str) -> None:
    """Go on with the state of a snapshot as after a restart.

    Raise SettingsError if it cannot be used. Nothing has changed then: another mock tries it first.
    """
    check_documents(rest, documents, source)
    settings = replace(rest.settings, memory=True)
    cloud = new_cloud(settings, rest.cloud.catalogue)
    cloud.store.report = report_nothing  # type: ignore[method-assign]
    other = Rest(settings, cloud, cloud.jobs, Faults(cloud), deque(maxlen=0))
    with refused_if_unusable(source, "take it anew"):
        put_documents(other, documents)
    clear_mock(rest)
    put_documents(rest, documents)


def report_nothing(line: str) -> None:
    """Drop a report: the restored mock makes the same one."""


def put_documents(rest: Rest, documents: Documents) -> None:
    rest.cloud.store.put_back(Image(documents))
    rest.cloud.store.reports.clear()
    resume_cloud(rest, documents.keys())


# the record of the mock in the store

FACTS: dict[str, tuple[Any, str]] = {  # of Mock.json: the type, and the noun for people
    "format": (int, "whole number"),
    "starts": (int, "whole number"),
    "cloud": (str, "text"),
    "seed": (int, "whole number"),
    "since": ((int, float), "date in seconds"),
    "made": (dict, "map of the settings that the folder was made with"),
    "clock": (dict, 'clock such as {"mode": "frozen", "offset": 0, "at": 1532000000}'),
}


def mock_record(rest: Rest) -> Item:
    return rest.cloud.store.get("Mock", "mock") or {}


def facts_of(rest: Rest) -> Item:
    """Return the facts that each start writes into the record."""
    dialect = rest.settings.dialect
    return {"format": FORMAT, "version": __version__, "dialect": dialect, "made": rest.made}


def check_documents(rest: Rest, documents: Documents, source: Path | str) -> None:
    """Raise SettingsError for a state that no zmock wrote, or that a newer one wrote.

    This checks the types and the record of the mock only. repair() mends all other objects.
    """
    types = {type for type, items in documents.items() if items}
    for type in types - rest.cloud.store.indexes.keys() - OWN_TYPES:
        problem = f"{source} holds objects of {type}, a type without a row"
        raise SettingsError(f"{problem}; add the --catalogue with a row {type}, or use another")
    for record in documents.get("Mock", {}).values():
        check_record(record, source)
    if not documents.get("ManagementNode"):
        problem = f"{source} holds only a part of a cloud: no management node"
        raise SettingsError(f"{problem}; put its file back, or choose another --data")


def check_record(record: Item, source: Path | str) -> None:
    """Raise SettingsError for a wrong record of the mock, or that of a newer zmock."""
    for name, (kind, noun) in FACTS.items():
        value = record.get(name)
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if name == "clock":
            fits = is_saved_clock(value)
        if name in record and not fits:
            text = json.dumps(value, ensure_ascii=False)[:80]
            problem = f"{source} holds a Mock.json in which {name!r} is no {noun}: {text}"
            raise SettingsError(f"{problem}; mend it")
    if record.get("format", 0) > FORMAT:
        problem = f"{source} was written by a newer zmock (format {record['format']})"
        raise SettingsError(f"{problem}; use that one, or another --data")


def check_made_with(settings: Settings, made: Item) -> None:
    """Refuse a flag that differs from what the folder was made with. Warn of such a variable."""
    for name, value in (("cloud", settings.cloud), ("seed", settings.seed)):
        source = settings.sources.get(name)
        if not source or (name in made and is_made_with(name, value, made[name])):
            continue
        is_variable = source.startswith("ZMOCK_")
        text = f"{source}={value}" if is_variable else f"{source} {value}"
        origin = f"that does not say with which --{name} it was made"
        if name in made:
            origin = f"made with --{name} {made[name]}"
        if name in made and not is_variable:
            problem = f"{settings.data} keeps a cloud {origin}, not {text}"
            cure = "leave it out, choose another --data, or remove the folder"
            raise SettingsError(f"{problem}; {cure}")
        log.warning("%s keeps a cloud %s; %s is for an empty folder", settings.data, origin, text)


def is_made_with(name: str, value: Any, made: Any) -> bool:
    """Return True if a folder was made with a setting. A file may be named from another folder."""
    if name == "cloud":
        return os.path.abspath(value) == os.path.abspath(made)
    return value == made


def named_anywhere(cloud: str) -> str:
    """Return what --cloud names so that it means the same in every folder."""
    return os.path.abspath(cloud) if is_cloud_file(cloud) else cloud


# rules and sweeps


def load_rules(rest: Rest) -> None:
    """Put the rules of the files and of the store in force."""
    rest.faults.read_changed_files()
    for record in [*rest.cloud.store.rows("Rule")]:
        body = {name: value for name, value in record.items() if name not in ("uuid", "ends")}
        try:
            rest.faults.add(body, ends=record.get("ends"))
        except ValueError as error:
            rest.cloud.store.report(f"the rule {record['uuid']} is not in force: {error}")


def store_ends_of_rules(rest: Rest, seconds: Seconds) -> None:
    """Store the dates on which rules end, after a clock was set. A restart reads them."""
    store = rest.cloud.store
    for rule in rest.faults.rules:
        if rule.timer and store.peek("Rule", rule.id):
            store.update("Rule", rule.id, ends=rest.clock.due_date(rule.timer))


def sweep_regularly(rest: Rest) -> None:
    """Remove expired sessions and job records every now and then."""

    def sweep() -> None:
        sweep_regularly(rest)  # first, for a sweep that fails must not be the last one
        rest.cloud.accounts.sweep()
        rest.jobs.sweep()

    rest.clock.after(rest.jobs.scan_interval, sweep)


# listening, and one request

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

LONGEST_LINE = 1 << 16  # bytes of a URL or header: q=uuid?=... grows long
LONGEST_WAIT = 300  # real seconds for an answer
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # as for ::1 on a machine without IPv6
TLS_MARKS = ("HTTPS traffic", r"\x16\x03")  # of TLS, in the text of an error of aiohttp
PORT_TRIES = 20  # a port that is free at one address may be taken at the next
UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # characters that the address of a request keeps

server_log = logging.getLogger("zmock.http")
server_log.setLevel(logging.DEBUG)  # as aiohttp logs bytes that are no HTTP


@server_log.addFilter
def log_in_one_line(record: logging.LogRecord) -> bool:
    """Log broken HTTP, which is the client's fault, as a line without traceback."""
    error = record.exc_info and record.exc_info[1]
    broken = (aiohttp.http_exceptions.HttpProcessingError, web.RequestPayloadError)
    if isinstance(error, broken):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.exc_info = None
        text = one_line(str(error))
        record.msg, record.args = "refused broken HTTP: %s", (text,)
        if any(mark in text for mark in TLS_MARKS):
            record.msg, record.args = "a client speaks TLS to this port: use http, not https", ()
    return record.levelno >= log.getEffectiveLevel()


def address(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL at which a client on this machine reaches a listening host."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS of --cert and --key, None without. Raise SettingsError for wrong files."""
    if settings.key and not settings.cert:
        raise SettingsError("--key goes with --cert, the certificate")
    if not settings.cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = settings.cert, settings.key or settings.cert
    try:
        for file in files:
            Path(file).read_bytes()  # an error of load_cert_chain() names no file
        context.load_cert_chain(settings.cert, settings.key or None, password="")
    except OSError as error:
        place = error.filename or " with the key of ".join(files)
        reason = str(error.strerror or error).partition(" (")[0]
        cure = "--cert is a certificate in PEM, --key its key without a password"
        raise SettingsError(f"cannot use {place}: {reason}; {cure}") from None
    return context


def trusting_tls() -> ssl.SSLContext:
    """Return the TLS of a client that takes any certificate, as those of a test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets: one for each address of a host, all on the same port.

    A free port that is taken at one of them is drawn again. Raise SettingsError if that fails.
    """
    tries = 1 if port else PORT_TRIES
    try:
        addresses = addresses_of(host)
        while True:
            tries -= 1
            try:
                return take_port(addresses, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not tries:
                    raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        cure = "choose another --port, or 0 for a free one"
        if isinstance(error, UnicodeError):
            reason = "it is no name of a host"
        if (
            isinstance(error, (socket.gaierror, UnicodeError))
            or getattr(error, "errno", 0) in NOT_HERE
        ):
            cure = "choose another --host"
        raise SettingsError(f"cannot listen on {place}: {reason}; {cure}") from None


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host. "localhost" is always ["127.0.0.1", "::1"]."""
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def take_port(addresses: list[str], port: int) -> list[socket.socket]:
    """Return a listening socket for each address that this machine has, all on one port.

    Raise OSError if it has none of them, or the port is taken.
    """
    sockets: list[socket.socket] = []
    failure = None
    with contextlib.ExitStack() as undo:
        for host in addresses:
            try:
                sockets.append(undo.enter_context(listen_at(host, port)))
                port = sockets[0].getsockname()[1]
            except OSError as error:
                failure = error
                if error.errno not in NOT_HERE:
                    raise
        if not sockets:
            raise failure
        undo.pop_all()
    return sockets


def listen_at(host: str, port: int) -> socket.socket:
    """Return a listening socket. At "::" it takes IPv4 too, if the machine can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, dualstack_ipv6=both, backlog=128)


def shut(connection: socket.socket) -> None:
    """Shut a socket down for all processes: a forked child holds it open after a close()."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


async def exchange(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    idle: list[Connection] | None = None,
) -> tuple[int, str]:
    """Send one HTTP request and return (status, text), without retries, redirects or cookies.

    It uses no HTTP library: some retry, and tests patch them. `idle` is a list of open
    connections. The request takes one of them if it can, and leaves its own there.
    """
    place = urllib.parse.urlsplit(url)
    target = urllib.parse.quote(url[url.index(place.netloc) + len(place.netloc) :], safe=UNQUOTED)
    defaults = {
        "Host": place.netloc,
        "User-Agent": f"zmock/{__version__}",
        "Accept": "*/*",
        "Connection": "close" if idle is None else "keep-alive",
        "Content-Length": str(len(body)),
    }
    head = request_head(method, target, with_defaults(headers, defaults))
    broken = (OSError, EOFError, ValueError, asyncio.LimitOverrunError, http.client.HTTPException)
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            reader, writer = await connection_to(place, idle)
            try:
                writer.write(head + body)
                status, text, is_open = await read_answer(method, reader)
            except BaseException:
                writer.close()
                raise
    except broken as error:
        raise aiohttp.ClientOSError(f"{method} {url}: {error or type(error).__name__}") from error
    if is_open and idle is not None:
        idle.append((reader, writer))
    else:
        writer.close()
    return status, text


def request_head(method: str, target: str, headers: dict[str, str]) -> bytes:
    """Return the lines of a request before its body."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def with_defaults(headers: dict[str, str], defaults: dict[str, str]) -> dict[str, str]:
    """Return headers with defaults for those that are missing, in whatever case."""
    present = {name.lower() for name in headers}
    absent = {name: text for name, text in defaults.items() if name.lower() not in present}
    return absent | headers


async def connection_to(
    place: urllib.parse.SplitResult, idle: list[Connection] | None
) -> Connection:
    """Return an idle connection that is still open, or a new one."""
    if idle:
        await one_turn()  # the loop sees connections that the mock has closed
    while idle:
        reader, writer = idle.pop()
        if not (reader.at_eof() or reader.exception() or writer.is_closing()):
            return reader, writer
        writer.close()
    tls = trusting_tls() if place.scheme == "https" else None
    return await asyncio.open_connection(place.hostname, place.port, ssl=tls)


async def read_answer(method: str, reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """Return the status and the text of an answer, and True if the connection stays open.

    Raise EOFError or HTTPException if it is empty, cut short or broken.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    match = re.fullmatch(r"HTTP/1\.\d (\d{3})( .*)?", first)
    if not match:
        raise http.client.BadStatusLine(first)
    status = int(match[1])
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    is_open = headers.get("connection", "").lower() != "close"
    if method == "HEAD" or status in (204, 304):
        octets = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        octets = await read_chunks(reader)
    elif "content-length" in headers:
        octets = await reader.readexactly(int(headers["content-length"]))
    else:
        octets, is_open = await reader.read(), False
    charset = re.search(r"charset=([\w-]+)", headers.get("content-type", ""))
    return status, octets.decode(charset[1] if charset else "utf-8", "replace"), is_open


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a chunked body. It may have no trailer."""
    octets = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        octets += await reader.readexactly(size)
        await reader.readexactly(2)
        if not size:
            return octets


# ---- Fixtures ------------------------------------------------------------------------------------

MOST_REPORTED = 50  # calls in the report of a failed test

NO_LOOP = (
    "zmock runs on asyncio, and no asyncio loop runs here, as under trio; "
    "`with serve() as mock` brings its own"
)
NO_ADDRESS = (
    "a mock has an address once it runs: async with serve() as mock, or with serve() as mock"
)
ONE_LOOP = "use zmock_server, or the same loop_scope for the test and its fixtures"
OTHER_LOOP = f"this mock runs in another event loop, which stands still meanwhile; {ONE_LOOP}"
ENDED = "this mock has ended; serve() makes another one"
FORKED = (
    "this mock runs in the process that this one was forked from; "
    "use its address, or serve() makes another one"
)

# the handle


class Mock:
    """A running mock in the hands of a test: `async with serve(cloud="empty") as mock`.

    The fixture `zmock` is one. `with serve() as mock` runs it in a thread instead, and returns a
    MockInThread, whose methods need no await.
    """

    def __init__(self, settings: Settings, rules: Sequence[Item] = ()) -> None:
        self.tls = tls_of(settings)
        self.app = create_app(settings)
        self.cloud, self.rest, self.control = self.app[CLOUD], self.app[REST], self.app[CONTROL]
        self.settings = self.cloud.settings
        self.db: tinydb.TinyDB = self.cloud.db
        self.runner = web.AppRunner(
            self.app,
            access_log=None,
            logger=server_log,
            shutdown_timeout=0.2,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        self.base = ""
        self.port = settings.port
        self.session: str | None = None
        self.first_cloud, self.first_rules = self.settings.cloud, rules  # reset() restores them
        self.idle: list[Connection] = []  # connections of earlier requests
        self.listening: list[socket.socket] = []
        self.servers: list[asyncio.Server] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: LoopThread | None = None
        with self.cloud.store.released_on_failure():
            self._add_first_rules()

    @property
    def url(self) -> str:
        """Where the APIs are: http://127.0.0.1:PORT/zstack/v1."""
        if not self.base:
            raise RuntimeError(NO_ADDRESS)
        return self.base + "/zstack/v1"

    # running

    async def __aenter__(self) -> Mock:
        if self.loop:
            raise RuntimeError("a mock runs once; serve() makes another one")
        self.loop = running_loop()
        with self.cloud.store.released_on_failure():
            self.listening = listen(self.settings.host, self.settings.port)
            try:
                self.port = self.listening[0].getsockname()[1]
                settings = self.settings
                self.base = self.rest.base = address(settings.host, self.port, settings.scheme)
                await self.runner.setup()
                await self._accept()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._stop_listening()
        for _, writer in self.idle:
            writer.close()
        await self.runner.cleanup()

    def __enter__(self) -> MockInThread:
        self.thread = LoopThread()
        try:
            self.thread.run(self.__aenter__())
        except BaseException:
            self.thread.close()
            raise
        return MockInThread(self, self.thread)

    def __exit__(self, *failure: object) -> None:
        if self.thread:
            self.thread.run(self.__aexit__())
            self.thread.close()

    async def _accept(self) -> None:
        """Accept connections on the listening sockets."""
        for each_socket in self.listening:
            if each_socket.fileno() != -1:  # down() may close it meanwhile
                server = await self.loop.create_server(
                    self.runner.server, sock=each_socket, ssl=self.tls, start_serving=False
                )
                self.servers.append(server)
                await server.start_serving()

    def _stop_listening(self) -> None:
        for each_socket in self.listening:
            shut(each_socket)
        for server in self.servers:
            server.close()
        for each_socket in self.listening:
            each_socket.close()
        self.listening, self.servers = [], []

    def listens_at(self, host: str, port: int) -> bool:
        """Return True if this mock listens at an address."""
        for each_socket in self.listening:
            own_host, own_port = each_socket.getsockname()[:2]
            if own_port == port and own_host in (host, "0.0.0.0", "::"):
                return True
        return False

    def down(self) -> None:
        """Go down, as a host without power: connections break, new ones are refused.

        The cloud stays as it is.
        """
        self._stop_listening()
        for connection in self.runner.server.connections if self.runner.server else ():
            if connection.transport:
                shut(connection.transport.get_extra_info("socket"))
                connection.transport.abort()

    def up(self) -> None:
        """Come back on the same port."""
        if not self.listening:
            self.listening = listen(self.settings.host, self.port)
            self.clock.spawn(self._accept())

    # calling

    async def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request to the API, once: (status, body).

        The body is parsed JSON, else a text, else None. Raise OSError (aiohttp.ClientOSError) if
        the connection is refused or breaks.
        """
        url = self.url + path
        self._check_loop()
        octets = b""
        defaults = {}
        if self.session:
            defaults["Authorization"] = f"OAuth {self.session}"
        if body is not None:
            defaults["Content-Type"] = "application/json"
            octets = json.dumps(body).encode()
        headers = with_defaults(headers or {}, defaults)
        status, text = await exchange(method, url, headers, octets, self.idle)
        if text.startswith(("{", "[")):
            return status, json.loads(text)
        return status, text or None

    def _check_loop(self) -> None:
        """Raise RuntimeError in another event loop than the mock's: it would wait for ever."""
        if self.loop and asyncio.get_running_loop() is not self.loop:
            raise RuntimeError(OTHER_LOOP)

    async def login(self, name: str = "admin", password: str = "password") -> str:
        """Log in. Return the uuid of the session, which later calls of this handle use."""
        hashed = hashlib.sha512(password.encode()).hexdigest()
        login = {"logInByAccount": {"accountName": name, "password": hashed}}
        _, body = await self.request("PUT", "/accounts/login", login)
        self.session = body_or_raise(body)["inventory"]["uuid"]
        return self.session

    async def finish(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request, and poll its job to the end, moving time as far as that takes.

        Return the body of the last answer. Raise RuntimeError if it is an error.
        """
        if not self.session:
            await self.login()
        status, answer = await self.request(method, path, body)
        job = answer["location"].rpartition("/")[2] if status == 202 else ""
        while status == 202:
            await self.clock.settle()
            status, answer = await self.request("GET", f"/api-jobs/{job}")
            if status == 202:
                await self.clock.go_to(self.clock.now() + self._seconds_until_change(job))
        return body_or_raise(answer)

    def _seconds_until_change(self, job: Uuid) -> Seconds:
        """Return the seconds until a job may end.

        Raise RuntimeError if nothing will end it: it is held, lost, or behind such a job.
        """
        record = self.cloud.store.peek("Job", job)
        state = self.cloud.jobs.as_json(record)["state"]
        now = self.clock.now()
        moments = [self.cloud.jobs.due(record)]
        if moments[0] <= now:
            moments = [self.clock.due_date(timer) for timer in self.clock.awaited_timers()]
        uuid = record["uuid"]
        running = self.cloud.jobs.running.get(uuid)
        if state == "lost" or (running and running.stuck) or not moments:
            reason = f"job {uuid} is {state} and will not end by itself"
            raise RuntimeError(f"{reason}: POST /zmock/jobs/{uuid}")
        return max(0, min(moments) - now)

    async def call(self, /, api: str, **params: Any) -> Any:
        """Call an API by its name, to the end. Return the body of its answer."""
        row = self._api(api)
        path = row.path
        for name in re.findall(r"\{(\w+)\}", row.path):
            path = path.replace(f"{{{name}}}", str(params.pop(name, "")))
        if row.method in ("GET", "DELETE"):
            return await self.finish(row.method, f"{path}?{query_string(params)}")
        return await self.finish(row.method, path, {row.key: params})

    def _api(self, name: str) -> Api:
        """Return an API by its name. Raise ValueError if there is none."""
        apis = self.cloud.catalogue.apis | {POLL_JOB.name: POLL_JOB}
        if name not in apis:
            raise ValueError(f"there is no API {name}{did_you_mean(name, apis)}")
        return apis[name]

    async def create(self, /, api: str, **params: Any) -> Inventory:
        """Call an API that creates a resource. Return its inventory."""
        return (await self.call(api, **params))["inventory"]

    async def query(self, collection: str, *conditions: str) -> list[Inventory]:
        """Return the inventories that satisfy the conditions: query("zones", "name=z")."""
        arguments = urllib.parse.urlencode([("q", condition) for condition in conditions])
        body = await self.finish("GET", f"/{collection}?{arguments}")
        return body["inventories"]

    async def act(
        self, /, collection: str, uuid: str, action: str, **params: Any
    ) -> Inventory:
        """Call an action of a resource. Return its inventory, or what else the action answers."""
        body = await self.finish("PUT", f"/{collection}/{uuid}/actions", {action: params})
        return (body or {}).get("inventory", body)

    async def delete(self, collection: str, uuid: str) -> None:
        await self.finish("DELETE", f"/{collection}/{uuid}")

    # shaping

    @property
    def clock(self) -> Clock:
        return self.cloud.clock

    async def advance(self, seconds: float) -> list[str]:
        """Let so many seconds pass. Return what came due.

        Raise ValueError unless `seconds` is a number from 0 to 1e9.
        """
        self._check_loop()
        if not is_span(seconds):
            legal = "a number of seconds from 0 to 1e9"
            raise ValueError(f"advance() takes {legal}, not {seconds!r}")
        return await self.clock.advance(seconds)

    def rule(self, /, **rule: Any) -> Rule:
        """Add a fault rule. Raise ValueError if it can never fire."""
        return self.rest.faults.add(rule)

    @property
    def rules(self) -> list[Rule]:
        return self.rest.faults.rules

    def _add_first_rules(self) -> None:
        for rule in self.first_rules:
            self.rest.faults.add(rule)

    async def incident(
        self, incident: dict[str, Any] | None = None, /, **kinds: Any
    ) -> dict[str, Any]:
        """Begin an incident: incident(host_down="host-1"), or incident({"host-down": "host-1"}).

        Return it as /zmock/incidents shows it, with its id.
        """
        if not incident:
            incident = {kind.replace("_", "-"): subject for kind, subject in kinds.items()}
        begun = begin_incident(self.cloud, incident)
        await self.cloud.store.commit()
        return begun.as_json(self.clock)

    async def scenario(self, steps: list[Item]) -> Item:
        """Play a scenario. Return it as /zmock/scenarios shows it."""
        scenario = self.rest.scenarios.add(steps)
        await self.cloud.store.commit()
        return scenario.as_json()

    async def end_incident(self, id: str) -> None:
        end_incident(self.cloud, id)
        await self.cloud.store.commit()

    async def reset(self) -> None:
        """Go back to the start: its cloud, clock and rules, no calls, no session."""
        self.session = None
        await self.control.reset_to(self.first_cloud)
        self._add_first_rules()

    # looking

    def calls(self, api: str | None = None) -> list[Entry]:
        """Return the calls in the journal, or those of one API."""
        if api is None:
            return [*self.rest.journal]
        name = self._api(api).name
        return [entry for entry in self.rest.journal if entry.api == name]

    def jobs(self) -> list[dict[str, Any]]:
        """Return the api-jobs, as GET /zmock/jobs shows them."""
        return [self.cloud.jobs.as_json(record) for record in self.cloud.store.rows("Job")]

    def never_fired(self) -> list[Rule]:
        """Return the rules that no call has met, without those that depend on chance."""
        silent = [rule for rule in self.rules if not rule.hits]
        return [rule for rule in silent if "probability" not in rule.definition]

    def report(self) -> str:
        """Return the report of a failed test: calls, rules and their hits, jobs under way."""
        calls = self.calls()
        jobs = {job["uuid"]: job for job in self.jobs()}
        lines = []
        if len(calls) > MOST_REPORTED:
            lines.append(f"… {len(calls) - MOST_REPORTED} earlier calls")
        for entry in calls[-MOST_REPORTED:]:
            lines.append(report_line(entry, jobs.get(entry.job)))
        for rule in self.rules:
            text = json.dumps(rule.definition, ensure_ascii=False)
            lines.append(f"{rule.id} fired {rule.hits} of {rule.matches} times: {text}")
        now = iso(self.clock.now())
        for uuid, job in jobs.items():
            if job["state"] not in OVER:
                state = f"job {uuid} is {job['state']}, due {job['due'] or 'never'}"
                lines.append(f"not over: {job['api']}, {state}; it is {now}")
        return "\n".join(lines) or "no calls"


def running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(NO_LOOP) from None


def body_or_raise(body: Any) -> Any:
    """Return the body of an answer. Raise RuntimeError with its error if it has one."""
    if isinstance(body, dict) and "error" in body:
        raise RuntimeError("{code}: {details}".format(**body["error"]))
    return body


def query_string(params: Item) -> str:
    """Return parameters as the query string of a GET: a list repeats its key, a map has dots.

    {"hostUuids": ["a", "b"], "tags": {"k": "v"}} -> "hostUuids=a&hostUuids=b&tags.k=v"
    """
    pairs: list[tuple[str, Any]] = []
    for name, value in params.items():
        if isinstance(value, dict):
            pairs += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            pairs.append((name, value))
    return urllib.parse.urlencode(pairs, doseq=True)


def report_line(entry: Entry, job: Item | None) -> str:
    """Return a call as a line: "#2 POST /zstack/v1/zones  CreateZone  202  job UUID running"."""
    query = f"?{entry.query}" if entry.query else ""
    parts = [f"#{entry.seq} {entry.method} {entry.path}{query}"]
    parts += [entry.api or "no API", str(entry.status)]
    if job:
        parts.append(f"job {entry.job} {job['state']}")
    if entry.rule:
        parts.append(entry.rule)
    if entry.hints:
        parts.append(f"({'; '.join(entry.hints)})")
    return "  ".join(parts)


# the handle in a thread

Result = TypeVar("Result")
Params = ParamSpec("Params")


class LoopThread:
    """A thread that runs an event loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="zmock", daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the thread, and wait for its result."""
        if not self.thread.is_alive():
            coroutine.close()
            raise RuntimeError(ENDED if self.loop.is_closed() else FORKED)
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in the thread, and wait for its result."""

        async def call() -> Result:
            return function(*arguments)

        return self.run(call())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def waiting(
    method: Callable[Concatenate[Mock, Params], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[MockInThread, Params], Result]:
    """Return the method of MockInThread that waits for a coroutine method of Mock."""

    @functools.wraps(method)
    def wait(self: MockInThread, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return self.thread.run(method(self.mock, *args, **kwargs))

    return wait


def calling(
    method: Callable[Concatenate[Mock, Params], Result],
) -> Callable[Concatenate[MockInThread, Params], Result]:
    """Return the method of MockInThread that calls a plain method of Mock in its thread."""

    @functools.wraps(method)
    async def call(mock: Mock, /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        return method(mock, *args, **kwargs)

    return waiting(call)


class MockInThread:
    """The handle of a mock that runs in another thread: the methods of Mock without await."""

    request = waiting(Mock.request)
    login = waiting(Mock.login)
    call = waiting(Mock.call)
    create = waiting(Mock.create)
    query = waiting(Mock.query)
    act = waiting(Mock.act)
    delete = waiting(Mock.delete)
    advance = waiting(Mock.advance)
    incident = waiting(Mock.incident)
    end_incident = waiting(Mock.end_incident)
    scenario = waiting(Mock.scenario)
    reset = waiting(Mock.reset)
    rule = calling(Mock.rule)
    calls = calling(Mock.calls)
    jobs = calling(Mock.jobs)
    never_fired = calling(Mock.never_fired)
    report = calling(Mock.report)
    down = calling(Mock.down)
    up = calling(Mock.up)

    def __init__(self, mock: Mock, thread: LoopThread) -> None:
        self.mock, self.thread = mock, thread
        self.settings, self.clock = mock.settings, mock.clock
        self.base, self.url = mock.base, mock.url
        self.db: tinydb.TinyDB = mock.db
        mock.cloud.store.call_in_loop = thread.call

    @property
    def session(self) -> str | None:
        return self.mock.session

    @property
    def rules(self) -> list[Rule]:
        return self.mock.rules


# its settings


def serve(**settings: Any) -> Mock:
    """Return a mock: `async with serve(dialect="server") as mock`, or `with` without asyncio.

    The keywords are settings of the command line. The defaults are those of tests: a free port,
    in memory, delay 0, a frozen clock.
    """
    return Mock(*read_keywords(settings))


def read_keywords(keywords: dict[str, Any]) -> tuple[Settings, list[Item]]:
    """Return the settings and the rules that the keywords of serve() or of the marker give.

    `rules` are rules, or files of rules. Raise SettingsError for a wrong keyword or value.
    """
    known_settings = {setting.name: setting for setting in fields(Settings)}
    for name in keywords.keys() - known_settings.keys():
        hint = did_you_mean(name, known_settings)
        raise SettingsError(f"there is no setting {name}{hint}")
    files, rules = split_rules(keywords.get("rules", ()))
    values = dict(IN_TESTS)
    if "data" in keywords:  # a folder is named to be used
        values["memory"] = False
    for name, value in keywords.items():
        values[name] = files if name == "rules" else read_value(known_settings[name], value)
    return Settings(**values), rules


def split_rules(rules: Any) -> tuple[tuple[str | Path, ...], list[Item]]:
    """Return the files of rules, and the rules themselves. A single one needs no list."""
    rules = listed(rules, (dict, str, Path), "rules is a list of rules, or of files with rules")
    files = tuple(rule for rule in rules if not isinstance(rule, dict))
    return files, [rule for rule in rules if isinstance(rule, dict)]


def listed(value: Any, types: tuple[type, ...], wanted: str) -> Sequence[Any]:
    """Return a list of values of these types. A single one needs no list."""
    values = [value] if isinstance(value, types) else value
    is_list = isinstance(values, (list, tuple))
    if not is_list or not all(isinstance(element, types) for element in values):
        raise SettingsError(f"{wanted}, not {value!r}")
    return values


def read_value(setting: Field[Any], value: Any) -> Any:
    """Return the value of a setting. A number or a path may stand for a text."""
    kind = type(setting.default)
    if kind is str and isinstance(value, (int, float, Path)):
        return str(value)
    if kind is tuple:
        files = listed(value, (str, Path), f"{setting.name} is a list of files")
        return tuple(map(str, files))
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or isinstance(value, bool) != (kind is bool):
        raise SettingsError(f"{setting.name} is {a_noun(kind.__name__)}, not {value!r}")
    return value


# the pytest plugin

MARKER = (
    'zmock(cloud="empty", dialect="server", rules=[...], strict=False): settings of the fixtures '
    "zmock and zmock_server; where strict is False, a rule may stay unused"
)
LOOP_FIXTURES = {  # the fixture behind zmock, by the scope of the test's event loop
    "function": "_zmock_function",
    "class": "_zmock_class",
    "module": "_zmock_module",
    "package": "_zmock_package",
    "session": "_zmock_session",
}
NOT_ASYNC = (
    "this test is not async, so that the event loop of zmock does not run in it; use zmock_server"
)
IN_UNITTEST = (
    "unittest runs this test outside the event loop of zmock; "
    "use zmock_server, or serve() in the test"
)
ON_TRIO = "zmock runs on asyncio, this test on trio; use zmock_server"
RUN_BY_NONE = (
    "nothing runs this async test; mark it with @pytest.mark.asyncio, or set asyncio_mode = auto"
)
NOT_INSTALLED = (
    "the fixture zmock runs in the loop of pytest-asyncio, which is not installed; "
    "zmock_server does without"
)
BLOCKING = (
    "a blocking client stops the event loop that zmock runs in; "
    "call it in asyncio.to_thread, or use zmock_server"
)
ELSEWHERE = (
    f"the event loop of zmock stands still while this client waits in another one; {ONE_LOOP}"
)
UNUSED = "(@pytest.mark.zmock(strict=False) lets them stay unused)"


class SharedMocks:
    """The mocks of zmock_server in one thread: one for each combination of settings."""

    def __init__(self) -> None:
        self.thread = LoopThread()
        self.handles: dict[str, MockInThread] = {}

    def take(self, keywords: dict[str, Any]) -> MockInThread:
        """Return the handle of a mock with these settings, as new.

        Another mock that listens on the same port goes down first.
        """
        settings, rules = read_keywords(keywords)
        key = repr(settings)
        for other_key, other in self.handles.items():
            if other_key != key and other.mock.port == settings.port:
                other.down()
        if key not in self.handles:
            mock = Mock(settings)
            self.thread.run(mock.__aenter__())
            self.handles[key] = MockInThread(mock, self.thread)
        handle = self.handles[key]
        handle.mock.first_rules = rules
        handle.up()
        handle.reset()
        return handle

    def close(self) -> None:
        for handle in self.handles.values():
            self.thread.run(handle.mock.__aexit__())
        self.thread.close()


if "pytest" in sys.modules:  # pytest imports its plugins; without it nobody needs fixtures
    import inspect
    import unittest

    import pytest

    MOCKS = pytest.StashKey[list]()  # of a test: (handle, strict) of each mock that it uses
    IN_LOOPS = pytest.StashKey[set]()  # of a run: (thread, mock) of each mock in a test's loop

    # in a test: zmock, zmock_server, zmock_settings, and the marker

    def pytest_configure(config: pytest.Config) -> None:
        config.addinivalue_line("markers", MARKER)

    @pytest.fixture
    def zmock_settings() -> dict[str, Any]:
        """Settings for zmock and zmock_server. Override it in a module, class or conftest."""
        return {}

    @pytest.fixture
    def zmock_server(
        request: pytest.FixtureRequest, zmock_settings: Item, zmock_thread: SharedMocks
    ) -> MockInThread:
        """A mock for tests without await: one per worker, cleared for each test.

        It is in memory, its delay is 0, its time is frozen.
        """
        return take_mock(request, zmock_thread.take)

    @pytest.fixture(scope="session")
    def zmock_thread() -> Iterator[SharedMocks]:
        """The thread of zmock_server. Its loop is none of the tests', so it lasts the session."""
        mocks = SharedMocks()
        yield mocks
        mocks.close()

    if importlib.util.find_spec("pytest_asyncio"):
        import pytest_asyncio

        HAS_SCOPES = "loop_scope" in inspect.signature(pytest_asyncio.fixture).parameters  # 0.24

        @pytest.fixture
        def zmock(request: pytest.FixtureRequest, zmock_settings: Item) -> Mock:
            """A mock of its own for each test, in the test's event loop.

            It is in memory, its delay is 0, its time is frozen.
            """
            item, backend = request.node, None
            if is_asyncio_test(item):
                return request.getfixturevalue(LOOP_FIXTURES[loop_scope(item)])
            if "anyio_backend" in request.fixturenames:
                backend = request.getfixturevalue("anyio_backend_name")
            if backend != "asyncio" or not inspect.iscoroutinefunction(item.function):
                pytest.fail(f"zmock: {why_no_loop(item, backend)}", pytrace=False)
            return request.getfixturevalue("_zmock_anyio")

        def is_asyncio_test(item: pytest.Item) -> bool:
            """Return True if pytest-asyncio runs a test."""
            if hasattr(pytest_asyncio, "is_async_test"):  # since 0.23
                return pytest_asyncio.is_async_test(item)
            return item.get_closest_marker("asyncio") is not None

        def loop_scope(item: pytest.Item) -> str:
            """Return the scope of the loop in which pytest-asyncio runs a test."""
            keywords = getattr(item.get_closest_marker("asyncio"), "kwargs", {})
            scope = keywords.get("loop_scope") or keywords.get("scope")
            with contextlib.suppress(ValueError, KeyError):  # an option since 0.25
                scope = scope or item.config.getini("asyncio_default_test_loop_scope")
            return scope or "function"

        def fixture_in(scope: str) -> Any:
            """Return a fixture: a mock in the loop that pytest-asyncio has for a scope."""

            options: dict[str, Any] = {"loop_scope": scope} if HAS_SCOPES else {}

            @pytest_asyncio.fixture(**options)
            async def in_loop(
                request: pytest.FixtureRequest, zmock_settings: Item
            ) -> AsyncIterator[Mock]:
                async with mock_in_loop(request) as mock:
                    yield mock

            return in_loop

        _zmock_function = fixture_in("function")
        _zmock_class = fixture_in("class")
        _zmock_module = fixture_in("module")
        _zmock_package = fixture_in("package")
        _zmock_session = fixture_in("session")

        @pytest.fixture
        async def _zmock_anyio(
            request: pytest.FixtureRequest, zmock_settings: Item
        ) -> AsyncIterator[Mock]:
            """A mock in the loop of anyio's plugin, which runs async fixtures itself."""
            async with mock_in_loop(request) as mock:
                yield mock

    else:

        @pytest.fixture
        def zmock() -> None:
            pytest.fail(NOT_INSTALLED, pytrace=False)

    @contextlib.asynccontextmanager
    async def mock_in_loop(request: pytest.FixtureRequest) -> AsyncIterator[Mock]:
        """Run the mock of a test in the present event loop."""
        async with take_mock(request, lambda keywords: serve(**keywords)) as mock:
            mocks = guarded_mocks(request.config)
            entry = (threading.get_ident(), mock)
            mocks.add(entry)
            try:
                yield mock
            finally:
                mocks.discard(entry)

    def take_mock(request: pytest.FixtureRequest, take: Callable[[Item], Any]) -> Any:
        """Return the handle that take(keywords) gives. Fail the test in a line if it cannot."""
        mistake = ""
        try:
            keywords = keywords_of(request)
            strict = keywords.pop("strict", True)
            mock = take(keywords)
        except (SettingsError, ValueError) as error:
            mistake = f"zmock: {error}"
        if mistake:  # outside the handler: the report shows no second exception
            pytest.fail(mistake, pytrace=False)
        request.node.stash[MOCKS].append((mock, strict))
        return mock

    def keywords_of(request: pytest.FixtureRequest) -> dict[str, Any]:
        """Return the keywords of zmock_settings and of a test's markers. The nearest wins."""
        keywords = dict(request.getfixturevalue("zmock_settings"))
        for marker in reversed([*request.node.iter_markers("zmock")]):
            if marker.args:
                expected = 'the marker zmock takes keywords, zmock(cloud="empty")'
                raise SettingsError(f"{expected}, not {marker.args[0]!r}")
            keywords |= marker.kwargs
        return keywords

    # around a test: rules that never fired, and the report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(item: pytest.Item) -> None:
        item.stash[MOCKS] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item: pytest.Item) -> Any:
        """Fail a test that passed if a rule never fired: the test has not met its fault."""
        outcome = yield
        for mock, strict in item.stash.get(MOCKS, ()):
            lines = []
            for rule in mock.never_fired() if strict else ():
                text = json.dumps(rule.definition, ensure_ascii=False)
                lines.append(f"\n  {rule.id}, matched {counted(rule.matches, 'time')}: {text}")
            if lines:
                rules = "".join(lines)
                message = f"no call has met these rules of zmock:{rules}\n{UNUSED}"
                pytest.fail(message, pytrace=False)
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Add a section on its mocks to the report of a failed test."""
        report = yield
        if report.failed and report.when != "teardown":
            for mock, _ in item.stash.get(MOCKS, ()):
                report.sections.append(("zmock", mock.report()))
        return report

    # a test that would hang

    def why_no_loop(item: pytest.Item, backend: str | None) -> str:
        """Return why no asyncio loop runs during a test, and the cure."""
        if issubclass(getattr(item, "cls", None) or object, unittest.TestCase):
            return IN_UNITTEST
        if not inspect.iscoroutinefunction(getattr(item, "function", None)):
            return NOT_ASYNC
        if backend == "trio" or item.get_closest_marker("trio"):
            return ON_TRIO
        return RUN_BY_NONE

    def guarded_mocks(config: pytest.Config) -> set[tuple[int, Mock]]:
        """Return the mocks of this run of pytest that refuse_to_hang() guards."""
        if IN_LOOPS not in config.stash:
            config.stash[IN_LOOPS] = set()
            sys.addaudithook(functools.partial(refuse_to_hang, config.stash[IN_LOOPS]))
        return config.stash[IN_LOOPS]

    def refuse_to_hang(mocks: set[tuple[int, Mock]], event: str, arguments: tuple) -> None:
        """Fail a test that connects to a mock in the very thread whose loop has to answer.

        Python calls this hook of sys.addaudithook() before each connect().
        """
        if event != "socket.connect":
            return
        client, target = arguments
        for thread, mock in mocks:
            if thread != threading.get_ident() or not mock.listens_at(*target[:2]):
                continue
            blocks = client.gettimeout() != 0
            if blocks or asyncio._get_running_loop() is not mock.loop:
                client.close()  # nothing else closes it after an exception that is no OSError
                pytest.fail(f"zmock: {BLOCKING if blocks else ELSEWHERE}", pytrace=False)


# ---- Terminal ------------------------------------------------------------------------------------

# stderr is for people: it shows a line for each call, and the problems of a call below its line.
#
#     21:04:12  202  POST /zstack/v1/vm-instances  CreateVmInstance  rule-1  2 ms
#               rule-1 fired, hit 1: error HOST_ALLOCATION.1000
#     21:04:13  503  GET /zstack/v1/api-jobs/3f2b...  CreateVmInstance  VM.1000  512 ms, 3 polls
#               HOST_ALLOCATION.1000: no host has room
#
# The polls of a job are folded into the line of the last one. Its time is that of the whole job.

BATCH_INTERVAL: Seconds = 0.1  # of real time, between two batches of lines
MOST_LINES = 100  # calls of a batch that are written; further ones are counted
MOST_UNWRITTEN = 1 << 16  # bytes that wait for a reader of stderr; further lines are dropped
MOST_OPEN_JOBS = 10_000  # jobs whose polls are counted; the oldest are forgotten
LONGEST_TARGET = 160  # characters of a path with its query
LONGEST_TEXT = 500  # characters of a line below a call
UNPOLLED: Seconds = 3  # of real time, until a failed job that no poll has shown has a line
PROGRESS_INTERVAL: Seconds = 3  # between two lines of progress, off a terminal
POLLS_SHOWN: Seconds = 10  # of real time, between two lines for the polls of one job
LAST_TRIES = 5  # tenths of a second that the end waits for a reader of stderr
MOST_LAST = 20  # jobs of which the end tells
MARGIN = " " * 10  # before the lines below a call
SAFE_CHUNK = getattr(select, "PIPE_BUF", 512)  # bytes that a ready pipe takes at once

RED, GREEN, YELLOW, GREY = 31, 32, 33, 90  # ANSI colours


def printable(text: str, longest: int) -> str:
    """Return a text for a terminal: what could steer it is escaped, and a long text is cut."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


Paint = Callable[[str, int], str]  # puts a text in a colour


def paint_for(stream: TextIO | None) -> Paint:
    """Return the paint for a stream. Off a terminal, and on a plain one, it changes nothing."""
    is_screen = stream is not None and stream.isatty()
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    has_colours = is_screen and not is_plain

    def paint(text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if has_colours and colour else text

    return paint


def duration(ms: float) -> str:
    """Return a time for people: 4.2 -> "4 ms", 1500 -> "1.5 s"."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def age(seconds: Seconds) -> str:
    """Return an age for people: 7300 -> "2 hours old"."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(int(seconds // length), unit)} old"
    return "less than a minute old"


def describe_fault(fault: Fault) -> str:
    """Return what a fault does to a call: "0.5 s late, error HOST.1010"."""
    parts = []
    if fault.delay:
        parts.append(f"{fault.delay:.3g} s late")
    if fault.error:
        stage = f" at the stage {fault.stage}" if fault.stage else ""
        parts.append(f"error {fault.error.code}{stage}")
    if fault.answer:
        parts.append(f"answer {fault.answer[0]}")
    if fault.merge:
        parts.append("answer patched")
    if fault.drop:
        parts.append(f"connection broken ({fault.drop})")
    if fault.job:
        parts.append({"hold": "job held", "lose": "job lost", "expire": "job expires"}[fault.job])
    if fault.webhook:
        parts.append(f"web-hook {fault.webhook}")
    return ", ".join(parts) or "no effect"


class PatientStream:
    """A stream of text that never waits for its reader.

    A pipe that nobody reads is full after 64 KiB, and a write to it would stop the mock. Here text
    waits for the reader in memory. Lines that do not fit in MOST_UNWRITTEN bytes are dropped.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.unwritten = b""
        self.dropped = 0  # lines
        self.number = -1  # of its file; -1 if it has none, or select() does not take it
        if os.name != "nt":
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self.number = stream.fileno()

    def write(self, text: str) -> None:
        """Write lines as far as the reader takes them. Write nothing after a failure."""
        if self.stream is None:
            return
        try:
            if self.number < 0:
                self.stream.write(text)
                self.stream.flush()
            else:
                for line in text.splitlines(keepends=True):
                    self.enqueue(line)
                self.write_ready()
        except (OSError, ValueError):  # closed, or a full disk
            self.stream = None

    def enqueue(self, line: str) -> None:
        """Let a line wait for the reader. Drop it if that reads too slowly."""
        if self.dropped and len(self.unwritten) < MOST_UNWRITTEN / 2:
            note = f"… {counted(self.dropped, 'line')} dropped: stderr was not read in time\n"
            self.dropped = 0
            self.unwritten += self.encoded(note)
        octets = self.encoded(line)
        if len(self.unwritten) + len(octets) > MOST_UNWRITTEN:
            self.write_ready()
        if len(self.unwritten) + len(octets) > MOST_UNWRITTEN:
            self.dropped += 1
        else:
            self.unwritten += octets

    def encoded(self, text: str) -> bytes:
        return text.encode(self.stream.encoding or "utf-8", "backslashreplace")

    def write_ready(self, patience: Seconds = 0) -> None:
        """Write the waiting text as far as the reader takes it, after at most `patience`."""
        self.stream.flush()
        while self.unwritten:
            ready = select.select([], [self.number], [], patience)[1]
            if not ready:
                return
            try:
                written = os.write(self.number, self.unwritten[:SAFE_CHUNK])
            except BlockingIOError:
                return
            self.unwritten = self.unwritten[written:]

    def finish(self) -> None:
        """Write the rest, for a reader that takes it soon."""
        with contextlib.suppress(OSError, ValueError):
            for _ in range(LAST_TRIES):
                if self.stream and self.unwritten:
                    self.write_ready(patience=0.1)


@dataclass
class OpenJob:
    """A job whose end no poll has shown yet.

    began      the time of its call; of a job of an earlier run, that of its first poll
    polls      until now
    shown      the time of the last line on it
    failed     True if its failure is counted
    unlogged   the call of a failed job, until its failure is shown
    """

    api: str
    began: Seconds
    shown: Seconds
    polls: int = 0
    failed: bool = False
    unlogged: Entry | None = None


Line = str | tuple[Entry, OpenJob | None]  # a text, or a call with the job that it polls


def is_failed_by_rule(entry: Entry) -> bool:
    """Return True if a rule made a call fail, at once or by letting its job expire."""
    fault = entry.fault
    if fault.name:
        return bool(fault.error or fault.answer or fault.drop)
    return bool(entry.rule)


class Terminal(logging.Handler):
    """The lines on stderr: calls and log records in their order.

    The event loop writes them in batches. Where none runs, they are written at once. With `quiet`
    there are only warnings and errors.
    """

    def __init__(self, stream: TextIO | None, quiet: bool = False) -> None:
        super().__init__(logging.WARNING if quiet else logging.INFO)
        self.stream = PatientStream(stream)
        self.quiet = quiet
        is_screen = stream is not None and stream.isatty()
        self.rewrites = is_screen and os.environ.get("TERM") != "dumb"
        self.paint = paint_for(stream)
        self.rest: Rest = None
        self.batch: list[Line] = []
        self.left_out = 0  # calls that the batch has no room for
        self.is_due = False  # True while a batch waits to be written
        self.open_jobs: dict[Uuid, OpenJob] = {}
        self.calls = self.failures = self.failures_by_rules = 0
        self.next_progress: Seconds = 0
        self.shows_progress = False  # True while the last line on the screen is one of progress

    def __enter__(self) -> Terminal:
        logging.getLogger().addHandler(self)
        self.level_before = log.level
        log.setLevel(logging.INFO)
        return self

    def __exit__(self, *failure: object) -> None:
        logging.getLogger().removeHandler(self)
        log.setLevel(self.level_before)
        self.write_batch()
        if self.shows_progress:
            self.stream.write("\n")
        self.stream.finish()

    def follow(self, rest: Rest) -> None:
        """Show the calls to a mock from now on."""
        self.rest = rest
        if not self.quiet:
            rest.watchers.append(self.hear)

    # calls

    def hear(self, kind: str, entry: Entry) -> None:
        """Count a call, or the end of its job. Show it with the next batch."""
        if kind == "call" and entry.method != "OPTIONS":
            self.note_call(entry)
        if kind == "end" or (kind == "call" and entry.end):
            self.note_end(entry)

    def note_call(self, entry: Entry) -> None:
        """Count a call, and add it to the batch unless it is a poll of a job that goes on."""
        self.calls += 1
        is_poll = entry.api == POLL_JOB.name
        job = self.open_job(entry) if entry.job and entry.outcome != "error" else None
        if entry.is_last:
            job = self.open_jobs.pop(entry.job, None)
        if is_poll and job:
            job.polls += 1
        has_failed = entry.outcome == "error" or entry.drop not in ("", "dribble")
        if has_failed and not (entry.is_last and job and job.failed):
            self.count_failure(is_failed_by_rule(entry))
        goes_on = is_poll and entry.outcome == "running" and not entry.fault.name
        if goes_on and job and entry.began - job.shown < POLLS_SHOWN:
            return
        if job:
            job.shown = entry.began
        self.add((entry, job if is_poll else None))

    def open_job(self, entry: Entry) -> OpenJob:
        """Return the job that a call submits or polls. Forget the oldest of too many."""
        job = self.open_jobs.get(entry.job)
        if job is None or entry.api != POLL_JOB.name:
            record = self.rest.cloud.store.peek("Job", entry.job) or {}
            job = OpenJob(record.get("api", entry.api), entry.began, entry.began)
            self.open_jobs[entry.job] = job
            if len(self.open_jobs) > MOST_OPEN_JOBS:
                del self.open_jobs[next(iter(self.open_jobs))]
        return job

    def note_end(self, entry: Entry) -> None:
        """Count the failure of a job. Log it after UNPOLLED seconds, unless a poll shows it."""
        if entry.end[0] != "failed":
            return
        record = self.rest.cloud.store.peek("Job", entry.job) or {}
        self.count_failure(bool(record.get("rule")))
        job = self.open_jobs.get(entry.job)
        if job:
            job.failed, job.unlogged = True, entry
            log_failure = functools.partial(self.log_failure, job)
            asyncio.get_running_loop().call_later(UNPOLLED, log_failure)

    def log_failure(self, job: OpenJob) -> None:
        """Log why a job failed, unless a poll has shown it."""
        entry, job.unlogged = job.unlogged, None
        if entry and self.open_jobs.get(entry.job) is job:
            record = self.rest.cloud.store.peek("Job", entry.job) or {}
            reason = failure_of(record) or entry.end[1]
            log.info("%s failed, job %s: %s", entry.api, entry.job, reason)

    def log_open_jobs(self) -> None:
        """Log the failures that no poll has shown, and the polled jobs that go on."""
        for uuid, job in [*self.open_jobs.items()][-MOST_LAST:]:
            if job.unlogged:
                self.log_failure(job)
            elif job.polls and not job.failed:
                polls = counted(job.polls, "poll")
                log.info("%s goes on after %s, job %s", job.api, polls, uuid)

    def count_failure(self, is_by_rule: bool) -> None:
        self.failures += 1
        self.failures_by_rules += is_by_rule

    def sum_up(self, where: str) -> None:
        """Write the last line: "27 calls, 9 failed (4 by rules); cloud kept in data/cloud"."""
        self.log_open_jobs()
        self.write_batch()
        by_rules = f" ({self.failures_by_rules} by rules)" if self.failures_by_rules else ""
        calls = counted(self.calls, "call")
        self.write_lines([f"{calls}, {self.failures} failed{by_rules}; {where}"])

    # log records

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == hint_log.name:
            return
        if record.name == progress_log.name:
            self.show_progress(record.getMessage(), record.created)
            return
        text, colour = self.format(record), 0
        if record.levelno >= logging.WARNING:
            text, colour = f"{record.levelname.lower()}: {text}", YELLOW
        first, *others = text.splitlines()
        now = datetime.fromtimestamp(record.created)
        lines = [f"{now:%H:%M:%S}  {self.paint(printable(first, LONGEST_TEXT), colour)}"]
        lines += [MARGIN + printable(line, LONGEST_TEXT) for line in others]
        self.add("\n".join(lines))

    def show_progress(self, text: str, moment: Seconds) -> None:
        """Write progress at once: over the last line of a screen, else every few seconds."""
        if self.rewrites:
            self.stream.write(f"\r\x1b[K{text}")
            self.shows_progress = True
        elif moment >= self.next_progress:
            self.stream.write(f"{text}\n")
            self.next_progress = moment + PROGRESS_INTERVAL

    # writing

    def add(self, line: Line) -> None:
        """Add a call, or lines of text, to the next batch."""
        if len(self.batch) >= MOST_LINES and not isinstance(line, str):
            self.left_out += 1
        else:
            self.batch.append(line)
        if not self.write_later():
            self.write_batch()

    def write_later(self) -> bool:
        """Write the batch soon. Return False if no event loop runs in this thread."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if not self.is_due:
            self.is_due = True
            loop.call_later(BATCH_INTERVAL, self.write_batch)
        return True

    def write_batch(self) -> None:
        with self.lock:
            batch, self.batch = self.batch, []
            lines = [line if isinstance(line, str) else self.call_text(*line) for line in batch]
            if self.left_out:
                lines.append(f"{MARGIN}… and {counted(self.left_out, 'more call')}")
            self.left_out, self.is_due = 0, False
            if lines or self.stream.unwritten:
                self.write_lines(lines)
            if self.stream.unwritten:
                self.write_later()

    def write_lines(self, lines: Sequence[str]) -> None:
        clear = "\r\x1b[K" if self.shows_progress else ""
        self.shows_progress = False
        self.stream.write(clear + "".join(f"{line}\n" for line in lines))

    def call_text(self, entry: Entry, job: OpenJob | None) -> str:
        """Return the line of a call, and the lines below it. `job` is the one that it polls."""
        now = datetime.fromtimestamp(self.rest.clock.system_time())
        row = entry.as_json()
        ending = duration(entry.ms)
        if job:
            row["api"] = job.api
            ending = duration(1000 * (entry.began - job.began) + entry.ms)
            ending += f", {counted(job.polls, 'poll')}"
        head = call_line(f"{now:%H:%M:%S}", row, ending, self.paint)
        return "\n".join([head, *self.lines_below(entry)])

    def lines_below(self, entry: Entry) -> Iterator[str]:
        """Yield the problems of a call: its fault, its error, its hints, a client that hung up."""
        texts = []
        if entry.fault.name:
            name, _, hit = entry.fault.name.partition("; hit=")
            texts.append(f"{name} fired, hit {hit}: {describe_fault(entry.fault)}")
        if entry.error:
            texts.append(entry.error)
        texts += entry.hints
        if entry.hung_up:
            texts.append(f"the client hung up before the answer, which took {duration(entry.ms)}")
        for text in dict.fromkeys(texts):
            yield MARGIN + self.paint(printable(text, LONGEST_TEXT), YELLOW)


def call_line(time: str, row: Item, ending: str, paint: Paint) -> str:
    """Return the line of a call: time, status, method and path, API, error code, rule, ending.

    `row` is the call as /zmock/calls shows it. Where no status was sent, its outcome stands.
    """
    status = str(row["status"] or row["outcome"])
    colour = GREEN if status < "4" else RED
    target = f"{row['path']}?{row['query']}" if row["query"] else row["path"]
    code = row["code"] if row["status"] >= 400 else ""
    columns = [
        time,
        paint(status, colour),
        f"{row['method']} {printable(target, LONGEST_TARGET)}",
        row["api"],
        paint(code, RED) if code else "",
        row["rule"].partition(";")[0],
        paint(ending, GREY),
    ]
    return "  ".join(filter(None, columns))


# ---- Main ----------------------------------------------------------------------------------------

COUNTED = ("Zone", "Host", "VmInstance", "Volume", "Image")  # types that the start tells of
LONGEST_PROBLEM = 2000  # characters


# output


def print_out(text: str) -> None:
    """Print on stdout at once. Raise SettingsError if that fails.

    Raise BrokenPipeError if the reader of stdout has gone: it has seen enough.
    """
    if sys.stdout is None:
        raise SettingsError("cannot write to stdout: it is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "w") as nothing:  # for what waits to be written
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise SettingsError(f"cannot write to stdout: {error.strerror}") from None


def print_problem(text: str) -> None:
    """Print a problem as one line on stderr."""
    if sys.stderr:
        with contextlib.suppress(OSError):
            print(f"zmock: {printable(text, LONGEST_PROBLEM)}", file=sys.stderr, flush=True)


# the server


def run_server(settings: Settings) -> int:
    """Run a mock until SIGTERM or Ctrl-C. Return the exit code."""
    with Terminal(sys.stderr, settings.quiet) as terminal:
        asyncio.run(run(Mock(settings), terminal))
    return 0


async def run(mock: Mock, terminal: Terminal) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows knows Ctrl-C only
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with mock:
        terminal.follow(mock.rest)
        welcome(mock, terminal)
        await stop.wait()
    if not mock.settings.quiet:
        terminal.sum_up(end_of_cloud(mock))


def welcome(mock: Mock, terminal: Terminal) -> None:
    """Print the address for programs on stdout, and the first steps for people on stderr."""
    if sys.stdout:
        with contextlib.suppress(BrokenPipeError):  # others may call the mock
            print_out(f"export ZSTACK_URL={mock.url}\n")
    settings = mock.settings
    query = "?token=TOKEN" if settings.control_token else ""
    counts = ", ".join(f"{mock.cloud.store.count(type)} {type}" for type in COUNTED)
    terminal.write_lines([
        f"zmock {__version__}: ZStack 2.5.1, {settings.dialect} dialect, seed {settings.seed}",
        f"cloud {settings.cloud}, {origin_of(mock)}: {counts}",
        *unusual_state(mock),
        "log in as admin / password:",
        f"  curl -X PUT {mock.url}/accounts/login -d '{LOGIN}'",
        f"look at it in a browser: {mock.base}/{query}",
    ])


def origin_of(mock: Mock) -> str:
    """Return the origin of the cloud: "made now, kept in data/cloud"."""
    if mock.settings.memory:
        return "made now, in memory"
    record = mock_record(mock.rest)
    folder = mock.settings.data
    if not record["starts"]:
        return f"made now, kept in {folder}"
    if "since" not in record:
        return f"resumed from {folder}"
    return f"{age(mock.clock.now() - record['since'])}, resumed from {folder}"


def unusual_state(mock: Mock) -> Iterator[str]:
    """Yield the state of the folder that a user may have forgotten: its rules, its clock."""
    rules = [rule.id for rule in mock.rules if not rule.over]
    if rules:
        ids = ", ".join(rules[:5]) + (", …" if rules[5:] else "")
        yield f"{counted(len(rules), 'rule')} in force: {ids}"
    clock = mock.clock
    if clock.mode == "frozen":
        yield f"the clock is frozen at {iso(clock.now())}"
    elif clock.mode == "warp":
        yield "the clock warps: every wait ends at once"
    elif abs(clock.now() - clock.system_time()) > 1:
        yield f"the clock was set: it is {iso(clock.now())}"


def end_of_cloud(mock: Mock) -> str:
    """Return the fate of the cloud when the mock ends: "cloud kept in data/cloud"."""
    if mock.settings.memory:
        return "cloud not kept (--memory)"
    reason = mock.cloud.store.failures.reason
    if reason:
        return f"the last changes are not kept: {reason}"
    return f"cloud kept in {mock.settings.data}"


# commands that ask a running mock


@dataclass
class Options:
    """The options of a command. A value that cannot be used raises SettingsError."""

    def __post_init__(self) -> None:
        self.sources: dict[str, str] = {}  # where a value is from, as in Settings


@dataclass
class MockAddress(Options):
    """The options of a command that asks a running mock."""

    url: str = setting(
        "", "address of the mock; by default ZSTACK_URL, else --host and --port", values="URL"
    )
    host: str = setting(Settings.host, "host of the mock")
    port: int = setting(Settings.port, "port of the mock")
    control_token: str = setting("", "the --control-token of the mock", values="TOKEN")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_empty("host", self.host)
        check_between("port", self.port, 0, 65535)
        check_token(self.control_token)


@dataclass
class EnvOptions(MockAddress):
    """The options of `zmock env`."""

    account: str = setting("admin", "account that logs in")
    password: str = setting("password", "its password")


@dataclass
class WaitOptions(MockAddress):
    """The options of `zmock wait`."""

    timeout: float = setting(30.0, "give up after this time", values="SECONDS")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between("timeout", self.timeout, 0, 86400)


@dataclass
class CallsOptions(MockAddress):
    """The options of `zmock calls`."""

    follow: bool = setting(False, "then print each new call, and the end of its job", short="-f")


BETWEEN_TRIES: Seconds = 0.05  # of real time
LONGEST_BETWEEN_TRIES: Seconds = 1
LONGEST_ANSWER: Seconds = 30  # of real time, until a command gives up
LONGEST_EVENT = 1 << 26  # bytes
MOST_PRINTED = 100_000  # calls of which `calls -f` remembers that they are printed
NO_ANSWER = (aiohttp.ClientError, OSError, ValueError)  # exceptions of RunningMock.ask()


class NoMock(SettingsError):
    """No mock answers at an address, or not yet."""


class RunningMock:
    """A mock in another process, which a command asks. HTTP proxies are not used.

    An answer of another shape than a mock's ends the block of `async with` with NoMock.
    """

    def __init__(self, options: MockAddress) -> None:
        self.base, self.source = base_of(options, os.environ)
        token = options.control_token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __aenter__(self) -> RunningMock:
        host = urllib.parse.urlsplit(self.base).hostname
        connector = aiohttp.TCPConnector(ssl=host not in LOOPBACK)  # may sign for itself
        self.http = aiohttp.ClientSession(connector=connector, read_bufsize=LONGEST_EVENT)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self.http.close()
        if isinstance(error, UNUSABLE):
            raise self.unreachable(error) from None

    async def ask(self, method: str, path: str, seconds: Seconds, body: Any = None) -> Any:
        """Return the status and the JSON of an answer. Raise one of NO_ANSWER if none comes."""
        async with self.http.request(
            method,
            self.base + path,
            json=body,
            headers=self.headers if path.startswith("/zmock") else {},
            timeout=aiohttp.ClientTimeout(total=seconds),
            allow_redirects=False,
        ) as answer:
            return answer.status, load_json(await answer.text(errors="replace"))

    async def control(self, path: str, member: str, seconds: Seconds = LONGEST_ANSWER) -> Item:
        """Return the answer of GET /zmock/..., an object with this member.

        Raise NoMock if no mock gives one, and SettingsError if the mock refuses to.
        """
        try:
            status, body = await self.ask("GET", f"/zmock/{path}", seconds)
        except NO_ANSWER as error:
            raise self.unreachable(error) from None
        if status == 401:
            cure = "give it with --control-token or ZMOCK_CONTROL_TOKEN"
            raise SettingsError(f"the mock at {self.base} asks for its token; {cure}")
        if isinstance(body, dict) and member in body:
            return body
        if isinstance(body, dict) and isinstance(body.get("error"), str):
            hint = f"; {body['hint']}" if body.get("hint") else ""
            raise SettingsError(f"the mock at {self.base} refuses it: {body['error']}{hint}")
        raise self.unreachable(ValueError())

    def unreachable(self, error: Exception) -> NoMock:
        """Return the error for a mock that does not answer, with its cure."""
        place = self.base + self.source
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL, UnicodeError)):
            problem = f"no mock answers at {place}"
        elif isinstance(error, TimeoutError):
            problem = f"{place} does not answer in time"
        else:
            problem = f"{place} answers, but it is no zmock"
        return NoMock(f"{problem}; start zmock, or name its address with --url")


def base_of(options: MockAddress, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the address of a mock, before /zstack/v1, and " (ZSTACK_URL)" if it is from there.

    A flag goes before ZSTACK_URL, which goes before ZMOCK_HOST and ZMOCK_PORT.
    """
    flags = [flag for flag in ("--host", "--port") if flag in options.sources.values()]
    if options.url and flags:
        raise SettingsError(f"--url names the port and the host; leave {flags[0]} out")
    url, source = options.url, "--url"
    if not url and not flags:
        url, source = environment.get("ZSTACK_URL", ""), "ZSTACK_URL"
    if not url:
        if not options.port:
            raise SettingsError("port 0 is any port; name it by --port, --url or ZSTACK_URL")
        return address(options.host, options.port), ""
    if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url):
        example = "http://127.0.0.1:8080/zstack/v1"
        raise SettingsError(f"{source} is an address such as {example}, not {url!r}")
    base = re.sub("/(zstack/v1|zmock)$", "", url.rstrip("/"))
    return base, "" if source == "--url" else f" ({source})"


async def print_exports(options: EnvOptions) -> int:
    """Print the addresses of a mock and a new session, for the eval of a shell."""
    async with RunningMock(options) as mock:
        await mock.control("health", "dialect")  # no password goes to another server
        exports = {
            "ZSTACK_URL": f"{mock.base}/zstack/v1",
            "ZSTACK_CONTROL_URL": f"{mock.base}/zmock",
            "ZSTACK_SESSION": await session_of(mock, options.account, options.password),
        }
    for name, value in exports.items():
        print_out(f"export {name}={shlex.quote(value)}\n")
    return 0


async def session_of(mock: RunningMock, account: str, password: str) -> Uuid:
    """Log in and return the uuid of the session. Raise SettingsError if that is refused."""
    sha512 = hashlib.sha512(password.encode(errors="replace")).hexdigest()
    body = {"logInByAccount": {"accountName": account, "password": sha512}}
    try:
        _, answer = await mock.ask("PUT", "/zstack/v1/accounts/login", LONGEST_ANSWER, body)
        if "inventory" in answer:
            return str(answer["inventory"]["uuid"])
        reason = "{code}: {details}".format(**answer["error"])
    except NO_ANSWER as error:
        reason = one_line(str(error)) or "no answer"
    except (KeyError, TypeError):
        reason = f"it answers {short_json(answer)}"
    cure = "if its password was changed, give --account and --password"
    raise SettingsError(f"cannot log in as {account} at {mock.base}: {reason}; {cure}")


async def wait_for_mock(options: WaitOptions) -> int:
    """Wait until a mock answers. Return 0, or 1 when time is up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + options.timeout
    async with RunningMock(options) as mock:
        while True:
            try:
                await mock.control("health", "dialect", max(1, end - loop.time()))
                return 0
            except SettingsError as error:
                problem = error
            if loop.time() >= end:
                break
            await real_time(BETWEEN_TRIES)
    seconds = counted(options.timeout, "second")
    print_problem(f"after {seconds}, {problem}")
    return 1


async def print_calls(options: CallsOptions) -> int:
    """Print the journal of a mock, and with --follow each later call."""
    async with RunningMock(options) as mock:
        printer = CallPrinter(mock)
        lost = await printer.print_journal()
        if options.follow:
            await printer.follow()
    if lost:
        print_problem(f"the journal has no room for {counted(lost, 'earlier call')} (--journal)")
    return 0


class CallPrinter:
    """Prints the calls of a mock, each once, and the ends of their jobs."""

    def __init__(self, mock: RunningMock) -> None:
        self.mock = mock
        self.paint = paint_for(sys.stdout)
        self.printed: dict[tuple[int, str], str] = {}  # outcomes, by seq and time
        self.problem = ""  # printed last
        self.pause = BETWEEN_TRIES  # before the next try

    async def print_journal(self) -> int:
        """Print the new calls of the journal. Return how many calls it has no room for."""
        answer = await self.mock.control("calls", "calls")
        for row in answer["calls"]:
            self.print_news(row)
        return answer["dropped"]

    async def follow(self) -> None:
        """Print calls for ever, also those of a mock that is started anew.

        Raise SettingsError if that one refuses to be asked, as it may have another token.
        """
        while True:
            try:
                await self.print_events()
            except BrokenPipeError:  # of stdout
                raise
            except NoMock as error:
                self.warn(str(error))
            except (aiohttp.ClientError, OSError):
                self.warn(f"{self.mock.base} has gone; waiting for it")
            await real_time(self.pause)
            self.pause = min(2 * self.pause, LONGEST_BETWEEN_TRIES)

    def warn(self, problem: str) -> None:
        """Print a problem once, until the mock is back."""
        if problem != self.problem:
            self.problem = problem
            print_problem(problem)

    async def print_events(self) -> None:
        """Print the calls of GET /zmock/events until the connection ends."""
        url = f"{self.mock.base}/zmock/events"
        silence = 3 * COMMENT_INTERVAL
        timeout = aiohttp.ClientTimeout(sock_connect=LONGEST_ANSWER, sock_read=silence)
        headers = self.mock.headers
        async with self.mock.http.get(url, headers=headers, timeout=timeout) as response:
            if response.content_type != "text/event-stream":
                await self.mock.control("dialect", "dialect")  # raises the reason
                raise aiohttp.ClientConnectionError
            await response.content.readline()  # of hello; from now on each call is an event
            await self.print_journal()
            self.problem, self.pause, kind = "", BETWEEN_TRIES, ""
            async for octets in response.content:
                name, _, text = octets.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = text
                elif name == "data" and kind == "call":
                    self.print_news(load_json(text))
                elif name == "data" and kind == "dropped":
                    await self.print_journal()
        raise aiohttp.ServerDisconnectedError

    def print_news(self, row: Item) -> None:
        """Print a call, or the end of its job, if it is new."""
        key = row["seq"], row["time"]
        before = self.printed.get(key)
        if before is None:
            print_out(journal_line(row, self.paint) + "\n")
        elif before != row["outcome"] and row["outcome"] in OVER:
            print_out(end_line(row, self.paint) + "\n")
        self.printed[key] = row["outcome"]
        while len(self.printed) > MOST_PRINTED:
            del self.printed[next(iter(self.printed))]


def journal_line(row: Item, paint: Paint) -> str:
    """Return a call of GET /zmock/calls as the terminal shows it, with its hints below it.

    21:04:12  202  POST /zstack/v1/zones  CreateZone  rule-1  2 ms, job running
    """
    began = datetime.fromtimestamp(date_of_iso(row["time"]))
    ending = duration(row["ms"])
    if row["outcome"] in ("running", *OVER):
        ending += f", job {row['outcome']}" + (f": {row['code']}" if row["code"] else "")
    elif row["outcome"] not in ("ok", "error") and row["status"]:
        ending += f", drop: {row['outcome']}"
    line = call_line(f"{began:%H:%M:%S}", row, ending, paint)
    if not row["hint"]:
        return line
    return f"{line}\n{MARGIN}{paint(printable(row['hint'], LONGEST_TEXT), YELLOW)}"


def end_line(row: Item, paint: Paint) -> str:
    """Return the end of a call's job as a line: "job UUID of CreateZone failed: SYS.1006"."""
    code = f": {row['code']}" if row["code"] else ""
    text = f"job {row['job']} of {row['api']} {row['outcome']}{code}"
    return MARGIN + paint(text, RED if code else GREEN)


# check


@dataclass
class CheckOptions(Options):
    """The files of `zmock check`, and the catalogue and the cloud that they are checked with."""

    files: tuple[str, ...] = ()
    cloud: str = setting("demo", "the cloud that scenarios play in", values="demo|empty|FILE")
    catalogue: tuple = setting((), "rows of the mock's --catalogue; repeatable", values="FILE")


def check_files(options: CheckOptions) -> int:
    """Check files as people write them. Return the exit code: 2 if one is unusable."""
    settings = Settings(**IN_TESTS, catalogue=options.catalogue, cloud=options.cloud)
    catalogue(settings.catalogue)  # refuses a wrong one once
    code = 0
    for path in options.files:
        try:
            content = check_file(path, settings)
        except (SettingsError, ValueError) as error:
            problem = str(error)
            print_problem(problem if problem.startswith(path) else f"{path}: {problem}")
            code = 2
        else:
            print_out(f"{path}: {content}\n")
    return code


def check_file(path: str, settings: Settings) -> str:
    """Return the content of a file: "rules, 3 rules".

    Raise SettingsError or ValueError if it cannot be used.
    """
    try:
        content = load_json(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(error.strerror or str(error)) from None
    except ValueError as error:
        raise SettingsError(f"no JSON: {error}") from None
    if isinstance(content, list):
        if any(isinstance(row, dict) and row.keys() & ACTIONS for row in content):
            return check_scenario(path, settings)
        return check_rules(path, settings)
    if isinstance(content, dict):
        content.pop("$schema", None)
    else:
        kinds = "a list of rules or steps, a cloud, nor the tables of a catalogue"
        raise SettingsError(f"{short_json(content)} is neither {kinds}")
    if not content.keys().isdisjoint(TABLES):
        return check_catalogue(path, content, settings)
    if "api" in content or "then" in content:
        raise SettingsError("a rules file is a list of rules, and this is one rule; put it in [ ]")
    return check_cloud(path, content, settings)


def check_rules(path: str, settings: Settings) -> str:
    """Return the number of rules. Raise SettingsError for the first that cannot be used."""
    faults = Faults(new_cloud(replace(settings, rules=(path,)), catalogue(settings.catalogue)))
    faults.read_changed_files()
    if path in faults.problems:
        raise SettingsError(faults.problems[path])
    return f"rules, {counted(len(faults.rules), 'rule')}"


def check_scenario(path: str, settings: Settings) -> str:
    """Return the number of steps. Raise ValueError for the first that cannot be played."""
    cloud = new_cloud(settings, catalogue(settings.catalogue))
    fill(cloud, settings.cloud)
    scenario = Scenario(path, Faults(cloud))
    scenario.load(read_json(path))
    return f"scenario, {counted(len(scenario.steps), 'step')}"


def check_cloud(path: str, content: Item, settings: Settings) -> str:
    """Return the objects of a cloud file by type. Raise SettingsError if it cannot be used."""
    cloud = new_cloud(settings, catalogue(settings.catalogue))
    load_cloud(path, settings, cloud.catalogue, cloud.clock.now())
    counts: Counter[str] = Counter()
    for key, items in content.items():
        if key != "now":
            counts[CloudFile(path, cloud).row_of(key).name] += len(items)
    types = ", ".join(f"{count} {type}" for type, count in counts.items())
    total = counted(counts.total(), "object")
    return f"cloud, {total}: {types}" if types else f"cloud, {total}"


def check_catalogue(path: str, content: Item, settings: Settings) -> str:
    """Return the rows of a catalogue by table. Raise SettingsError if it cannot be used."""
    catalogue([*dict.fromkeys([*settings.catalogue, path])])
    counts = [counted(len(rows), "row") + f" in {table}" for table, rows in content.items()]
    return f"catalogue, {', '.join(counts)}"


# openapi and completion


def print_contract(settings: Settings) -> int:
    """Print the APIs as OpenAPI, for a mock that would listen as the settings say."""
    cloud = new_cloud(replace(settings, memory=True), catalogue(settings.catalogue))
    own = address(settings.host, settings.port, settings.scheme)
    url = settings.base_url or own
    print_out(json.dumps(Contract(cloud).document(url), indent=1, ensure_ascii=False) + "\n")
    return 0


COMPLETION = """\
# completion of zmock in bash: source <(zmock completion)
_zmock() {
    local word=${COMP_WORDS[COMP_CWORD]} words=
    if [[ $word == -* ]]; then
        case ${COMP_WORDS[1]} in
            FLAGS
        esac
    elif (( COMP_CWORD == 1 )); then
        words="COMMANDS"
    else
        case ${COMP_WORDS[COMP_CWORD-1]} in
            VALUES
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _zmock zmock zmock.py
"""


def print_completion(options: Options) -> int:
    """Print the completion script for bash. Where it knows no words, bash completes files."""
    flags, values = [], []
    for command in (*COMMANDS.values(), SERVER):
        flags.append(f'{command.name or "*"}) words="{" ".join(flags_of(command))}" ;;')
    for item in SERVER.items():
        words = [word for word in item.metadata["values"].split("|") if word.islower()]
        if words:
            values.append(f'{flag_of(item.name)}) words="{" ".join(words)}" ;;')
    script = COMPLETION.replace("COMMANDS", " ".join(COMMANDS))
    for mark, cases in (("FLAGS", flags), ("VALUES", values)):
        script = script.replace(mark, f"\n{' ' * 12}".join(cases))
    print_out(script)
    return 0


# the command line


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    options      the class of its options, whose fields are its flags
    run          the function that runs it and returns the exit code
    flags        the fields that are its flags, if not all are
    takes_files  True if files stand behind it
    """

    name: str
    help: str
    options: type
    run: Callable[[Any], int | Coroutine[Any, Any, int]]
    flags: tuple[str, ...] = ()
    takes_files: bool = False

    @property
    def program(self) -> str:
        return f"zmock {self.name}".rstrip()

    @property
    def words(self) -> str:
        """The command with its arguments: "check FILE..."."""
        return f"{self.name} FILE..." if self.takes_files else self.name

    def items(self) -> list[Field[Any]]:
        """Return the fields that are its flags."""
        items = [item for item in fields(self.options) if item.metadata]
        return [item for item in items if not self.flags or item.name in self.flags]


SERVER = Command("", __doc__.partition("\n")[0], Settings, run_server)
CONTRACT_FLAGS = ("dialect", "catalogue", "open", "host", "port", "base_url")
COMMANDS = {
    command.name: command
    for command in (
        Command(
            "env",
            'print the address and a new session, for eval "$(zmock env)"',
            EnvOptions,
            print_exports,
        ),
        Command("wait", "wait until a mock answers", WaitOptions, wait_for_mock),
        Command("calls", "print the journal of a mock; -f follows it", CallsOptions, print_calls),
        Command(
            "check",
            "check files of rules, scenarios, clouds and catalogues",
            CheckOptions,
            check_files,
            takes_files=True,
        ),
        Command(
            "openapi", "print the APIs as OpenAPI 3.1", Settings, print_contract, CONTRACT_FLAGS
        ),
        Command("completion", "print a completion script for bash", Options, print_completion),
    )
}
USAGE = "zmock [options]\n       zmock COMMAND [options]    (see zmock COMMAND --help)"
EPILOG = """\
[ ] is a default. A variable sets what its flag sets: ZMOCK_PORT=0, ZMOCK_MEMORY=1,
ZMOCK_RULES=a.json:b.json (separated as PATH is; origins by commas). A flag beats its variable."""


class CommandParser(argparse.ArgumentParser):
    """The parser of a command. A mistake is one line that names the nearest right flag."""

    def __init__(self, command: Command) -> None:
        self.command = command
        super().__init__(
            prog=command.program,
            usage=f"zmock {command.words} [options]",
            description=command.help,
            formatter_class=HelpFormatter,
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        if command is SERVER:
            lines = [f"  {other.words:<24}  {other.help}" for other in COMMANDS.values()]
            self.description = "\n".join([command.help, "", "commands:", *lines])
            self.usage, self.epilog = USAGE, EPILOG
        group = self.add_argument_group("options")
        for item in command.items():
            if group.title != (item.metadata["group"] or "options"):
                group = self.add_argument_group(item.metadata["group"])
            group.add_argument(*names_of_flag(item), dest=item.name, **argument_of(item))
        group.add_argument("-h", "--help", action="help", help="print this help")
        if command is SERVER:
            group.add_argument(
                "--version", action="version", version=__version__, help="print the version"
            )
        if command.takes_files:
            self.add_argument("files", nargs="+", metavar="FILE", help=argparse.SUPPRESS)

    def _print_message(self, message: str, file: Any = None) -> None:
        print_out(message)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            message = self.unknown_argument(unknown.partition(" ")[0])
        command = f"{self.prog} " if self.command.name else ""
        raise SettingsError(f"{message} (see {command}--help)")

    def unknown_argument(self, argument: str) -> str:
        """Return why an argument is wrong: it is of another command, or of none."""
        word = argument.partition("=")[0]
        if word in COMMANDS:
            return f"the command {word} goes first: zmock {word}"
        programs = []
        for other in (SERVER, *COMMANDS.values()):
            if word in flags_of(other):
                programs.append(other.program)
        if programs:
            return f"{word} goes with {' and '.join(programs)}, not with {self.prog}"
        words = flags_of(self.command)
        if self.command is SERVER:
            words += COMMANDS
        return f"unknown argument {argument}{did_you_mean(word, words)}"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The help in lines of 100 columns, whatever the width of the terminal is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def names_of_flag(item: Field[Any]) -> list[str]:
    """Return the names of a flag: ["-f", "--follow"]."""
    return [*filter(None, [item.metadata["short"], flag_of(item.name)])]


def argument_of(item: Field[Any]) -> dict[str, Any]:
    """Return the keywords that add the flag of a setting to a parser."""
    if item.default is False:
        return {"action": "store_true", "help": item.metadata["help"]}
    options: dict[str, Any] = {"metavar": item.metadata["values"] or item.name.upper()}
    has_default = item.default not in ((), "", 0)
    default = f"{item.default:g}" if isinstance(item.default, float) else item.default
    options["help"] = item.metadata["help"] + (f" [{default}]" if has_default else "")
    if item.default == ():
        return options | {"action": "append"}
    return options | {"type": type(item.default)}


def flags_of(command: Command) -> list[str]:
    """Return the flags that a command takes, long and short."""
    return [*CommandParser(command)._option_string_actions]


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings from flags, then from ZMOCK_* variables, then from the defaults.

    Raise SettingsError for a mistake. --help and --version end the program.
    """
    return read_options(SERVER, arguments, environment)


def read_options(command: Command, arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    """Return the options of a command, and in `sources` where each value is from."""
    flags = vars(CommandParser(command).parse_args(arguments))
    names = {item.name for item in command.items()}
    variables = read_variables(environment)
    variables = {name: value for name, value in variables.items() if name in names}
    for name, value in flags.items():
        if isinstance(value, list):
            flags[name] = tuple(value)
    options = command.options(**variables | flags)
    options.sources = {name: variable_of(name) for name in variables}
    options.sources |= {name: flag_of(name) for name in flags}
    return options


async def until_sigterm(work: Coroutine[Any, Any, int]) -> int:
    """Run a command. SIGTERM cancels it, which leaves no connection half made."""
    task = asyncio.current_task()
    with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # as in a thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit code."""
    if arguments is None:
        arguments = sys.argv[1:]
    command = COMMANDS.get(arguments[0], SERVER) if arguments else SERVER
    if command is not SERVER:
        arguments = arguments[1:]
    with contextlib.suppress(ValueError):  # in a thread, signals are somebody else's
        # until run() has its handlers: a large cloud takes a while to make
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    options: Any = None
    try:
        options = read_options(command, arguments, os.environ)
        code = command.run(options)
        return asyncio.run(until_sigterm(code)) if asyncio.iscoroutine(code) else code
    except SettingsError as error:
        print_problem(str(error))
        return 2
    except BrokenPipeError:  # see print_out()
        return 0
    except (KeyboardInterrupt, asyncio.CancelledError):
        # This is how a server and calls -f end. Any other command has not done its work.
        is_usual = command is SERVER or getattr(options, "follow", False)
        return 0 if is_usual else 130


if __name__ == "__main__":
    sys.exit(main())
