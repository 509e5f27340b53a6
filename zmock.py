#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["aiohttp>=3.9", "tinydb>=4.8"]
# ///
"""zmock: a ZStack 2.5.1 private cloud that is not there.

Read it from top to bottom; a section uses only what stands above it.

    Settings    what can be set; flags, ZMOCK_* variables, --help and the README table come from it
    Dialect     where the manual and the real server differ, a row each
    Errors      ApiError, and the codes with their descriptions
    Clock       the only source of time: now, sleep, advance
    Catalogue   what a record says: Param, Api, Resource
    Catalogue: configurations    global configurations, quotas, rules for tags, and other small records
    The words of rows       what calls do and refuse beyond their verbs, in a small vocabulary
    Catalogue: the tables   data/catalogue.json, read and checked: all of the above together
    Files       what TinyDB reads, and the ledger of what is not in it yet
    Files: the folder     loading, committing, folding, faults of the world; snapshots
    Store       the items of a type in memory: by uuid, by index, in order
    Store: commits    all types; what changes is taken back, or kept in groups
    Query       what a query says: conditions with their operators, sorting, paging, fields
    Query: plans    which items satisfy it, from an index where one helps, through relations and tags
    Faults      what can befall a call, and the words that say it
    Faults: rules    rules as they are set, from files too, and what they decide
    Jobs: runs  an operation under way, and its stages
    Jobs        202, poll, web-hook, expiry
    Verbs       what rows say, at work: conditions and effects
    Verbs: calls    create, update, change state, delete, act, query, tell: what calls do that have no behaviour
    Cloud       items, inventories, what is asked and what comes of it; knows no HTTP
    Configuration    global configurations: what they may be, and what a change brings about
    Accounts    whose things are, who sees them, who may do what, and how much of it
    Accounts: calls    log in, share, give away, quotas, permissions
    Allocation  addresses, numbers, space: what is taken from a stock, and given back; who keeps apart
    Allocation: hosts and storage    which host has room for a virtual machine, which storage for a volume, and what is left
    Allocation: virtual machines     the host, the addresses and the volumes that one takes, or could
    Tags        what tags may say, of what, and what they bring about
    Long jobs   what goes on after its api-job, and is a resource until then and after
    Deletion    what was deleted and waits to be expunged
    Behaviours  what a row cannot say; first: node, progress, notifications
    Behaviours: licences                  and capacity, garbage collection: the rest of the manual's chapter 4
    Behaviours: hosts and storage         zones, clusters, hosts, primary and backup storage
    Behaviours: offerings and networks    offerings, L2 and L3 networks, address ranges
    Behaviours: virtual machines          images changed, routers, clones
    Behaviours: volumes and images        volumes, snapshots, images
    Behaviours: consoles                  how a browser gets to a virtual machine
    Schedules   jobs that a trigger has run at its moments
    Demo cloud  what a cloud starts with, as the calls that build it
    Cloud file  what people write: objects with names for references, dates, states
    Kept cloud  a cloud from a file or a folder: what is odd about it, what was under way when it was kept
    Incidents   hosts that go, storage that fills, a management node that dies
    API: requests    what a request says: path, query string, body, headers
    API: hints       what was perhaps meant: the nearest path, verb, action, field
    API: answers     what is kept of a request, and what goes out
    API: wire        answers that break: resets, half a body, one byte at a time
    API         /zstack/v1: a request in, one answer out
    Contract: schemas    parameters, bodies and inventories as JSON Schema
    Contract    the APIs as OpenAPI 3.1
    Control: watching    what happens, for who waits or listens
    Control     /zmock: look inside, move time, reset
    Catalogue: checks    rows that use a word that is none; a start refuses them
    App         create_app, and what it does at the start and the end
    Sockets     where it listens, and how its handle asks it: each request once, below every HTTP library
    Fixtures: the handle    a running mock as a test holds it, in its own loop or in a thread
    Fixtures    what pytest_plugins = ["zmock"] gives
    Main        the command line

Words, as ZStack says them. A *resource* (a Zone) is described by a row; an *item* is one of them as it is stored, an
*inventory* the same as a client sees it. An *api* is one documented call (CreateZone); a *call* is one use of it. An
asynchronous call is an *api-job*: 202 and a location to poll. A *long job* is a resource that goes on after its api-job.
A *session* is what a login gives. A *stage* is a step of an api-job that can be seen, and can fail. *Primary storage*
holds volumes, *backup storage* holds images.

PYTEST_DONT_REWRITE: a plugin without assert statements needs no rewriting, whoever imports it first.
"""

from __future__ import annotations

import os
import sys


def refuse_to_start(reason):
    """End the program with one line and exit code 2. `import zmock` fails with that line instead."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    if __name__ == "__main__" or program in ("zmock", "-m"):
        sys.stderr.write("zmock: " + reason + "\n")
        sys.exit(2)
    raise ImportError(reason) from None


if sys.version_info < (3, 11):  # noqa: UP036 (a copied file has no installer that checks this)
    version = "%d.%d" % sys.version_info[:2]
    refuse_to_start(version + " is too old a Python; use 3.11 or newer: python3.12 zmock.py")

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
import http.client
import importlib.util
import ipaddress
import itertools
import json
import logging
import math
import operator
import random
import re
import shutil
import signal
import socket
import struct
import threading
import time
import unicodedata
import urllib.parse
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from types import GeneratorType
from typing import Any, get_type_hints
from uuid import NAMESPACE_OID, uuid5
from uuid import UUID as UUIDv5

try:
    import aiohttp
    from aiohttp import web
    from aiohttp.helpers import rfc822_formatted_time
    from aiohttp.http import SERVER_SOFTWARE
    from tinydb import Storage

    if not hasattr(web, "AppKey"):
        raise ImportError(f"aiohttp {aiohttp.__version__} is too old")
except ImportError as error:
    reason = " ".join(str(error).split())
    install = f"{sys.executable or 'python3'} -m pip install 'aiohttp>=3.9' 'tinydb>=4.8'"
    refuse_to_start(f"aiohttp and tinydb are needed ({reason}); install them: {install}")

__version__ = "0.1.0"
log = logging.getLogger("zmock")

Uuid = str  # 32 hex digits
Stamp = str  # a date as it is stored: "2018-07-10 09:31:06"
Seconds = float  # a length of time, or a date as seconds since 1970
Item = dict[str, Any]  # a stored object, or a JSON object
Inventory = dict[str, Any]  # an object as a client sees it


def nearest(word, words, count=1):
    """Return the known words most like a wrong one, those that begin with it first.

    nearest("zoms", ["zones"]) -> ["zones"]
    nearest("CreateVm", ["CreateVip", "CreateVmInstance"]) -> ["CreateVmInstance"]
    """
    folded, wrong = {known.casefold(): known for known in words}, str(word)[:200].casefold()
    begun = len(wrong) > 2
    longer = sorted((known for known in folded if begun and known.startswith(wrong)), key=len)
    like = difflib.get_close_matches(wrong, folded, count, 0.6)
    return [folded[known] for known in dict.fromkeys([*longer, *like])][:count]


def did_you_mean(word, words):
    """A sentence's end that helps: ", did you mean zones?", or nothing where nothing is near."""
    return "".join(f", did you mean {near}?" for near in nearest(word, words))


def a_noun(noun):
    """Return a noun with its article: "an int", "a uuid", "an L2Network"."""
    return f"an {noun}" if re.match("[AEIOaeio]|[Ll][0-9]|[LS][A-Z]", noun) else f"a {noun}"


def counted(number, noun):
    """Return a number with its noun: "1 second", "1.5 seconds", "0 objects"."""
    text = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{text} {noun}" if number == 1 else f"{text} {noun}s"


# ---- Settings ----------------------------------------------------------------------------------------------------


class SettingsError(Exception):
    """A setting, file or folder that cannot be used; the message is one line that says what to do."""


def setting(default, help, **more):
    return field(default=default, metadata={"help": help, **more})


@dataclass
class Settings:
    """Everything that can be set, a line each; `create_app(Settings(...))` and the command line take the same."""

    host: str = setting("127.0.0.1", "address to listen on; localhost is 127.0.0.1 and ::1, and :: takes IPv4 too")
    port: int = setting(8080, "port to listen on; 0 takes a free one")
    data: str = setting("data/cloud", "folder that keeps the cloud, made when it is missing")
    memory: bool = setting(False, "keep nothing: the cloud lives in memory and ends with the process")
    durable: str = setting("on", "on: what was answered survives a kill and a power cut; off: answers do not wait for the disk, a kill takes what came last")
    cloud: str = setting("demo", "what an empty cloud starts with: demo, empty, large:N (virtual machines), or a JSON file")
    dialect: str = setting("manual", "manual: as the developer manual says; server: as the real 2.5.1 server does")
    delay: str = setting("0.3", "seconds that an asynchronous call takes, or a range as 0.5-2")
    long_delay: str = setting("", "seconds that a long job takes, or a range; ten times --delay when not given")
    rules: tuple = setting((), "JSON file with fault rules, read again when it changes; may be given more than once (several in ZMOCK_RULES: between them what is in PATH, : or ;)")
    seed: int = setting(1, "where everything random comes from: the same seed gives the same uuids and faults")
    clock: str = setting("real", "real: time passes; frozen: only POST /zmock/clock moves it; warp: what is waited for comes at once")
    no_magic: bool = setting(False, "pass over #zmock fail, #zmock delay=30, #zmock hold in names and descriptions")
    open: bool = setting(False, "accept any session, also one that nobody logged in for")
    base_url: str = setting("", "address in job locations, before /zstack/v1; when not given, what X-Forwarded-Proto, -Host and -Prefix say, else as the dialect does")
    utc_offset: float = setting(8.0, "hours by which the dates in answers are ahead of UTC")
    body_limit: int = setting(1 << 20, "bytes that a request body may have")
    journal: int = setting(1000, "how many calls GET /zmock/calls remembers")
    control_token: str = setting("", "token that /zmock asks for; needed to reach /zmock from another machine")

    def __post_init__(self):
        changed = [item for item in fields(self) if getattr(self, item.name) != item.default]
        self.sources = {item.name: flag_of(item) for item in changed}  # "seed": "--seed", or "ZMOCK_SEED"
        for item in fields(self):
            check = CHECKS.get(item.name)
            if check:
                check(getattr(self, item.name))


def seconds_range(text):
    """The lower and the upper bound of "0.3" or "0.5-2", in seconds."""
    low, dash, high = str(text).partition("-")
    try:
        bounds = float(low), float(high if dash else low)
    except ValueError:
        bounds = (1, 0)
    if not 0 <= bounds[0] <= bounds[1] < math.inf:
        raise SettingsError(f"a delay is seconds (0.3) or a range (0.5-2), not {text!r}")
    return bounds


def one_of(name, *allowed):
    def check(value):
        if value not in allowed:
            raise SettingsError(f"--{name} is {' or '.join(allowed)}, not {value!r}{did_you_mean(value, allowed)}")

    return check


def between(name, low, high):
    def check(value):
        if not low <= value <= high:
            raise SettingsError(f"--{name} is a number from {low} to {high}, not {value}")

    return check


def not_empty(name):
    def check(value):
        if not value.strip():
            raise SettingsError(f"--{name} is empty; leave it away for its default")

    return check


def check_base_url(value):
    """Refuse an address that no job location can begin with."""
    if value and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", value):
        raise SettingsError(f"--base-url is an address such as https://cloud.example:8443, not {value!r}")
    if shorter := re.fullmatch(r"(.*?)/zstack(/v1)?/?", value):
        raise SettingsError(f"--base-url is the address before /zstack/v1: {shorter[1]}")


CHECKS = {
    "host": not_empty("host"),
    "base_url": check_base_url,
    "data": not_empty("data"),
    "port": between("port", 0, 65535),
    "dialect": one_of("dialect", "manual", "server"),
    "clock": one_of("clock", "real", "frozen", "warp"),
    "durable": one_of("durable", "on", "off"),
    "delay": seconds_range,
    "long_delay": lambda text: text and seconds_range(text),
    "utc_offset": between("utc-offset", -14, 14),
    "body_limit": between("body-limit", 1, 1 << 30),
    "journal": between("journal", 0, 1_000_000),
}


def read_settings(arguments, environment):
    """Settings from flags, then ZMOCK_* variables, then defaults; raises SettingsError, exits for --help."""
    parser = SettingsParser(prog="zmock", usage="zmock [openapi] [options]", description=__doc__.partition("\n")[0], allow_abbrev=False,
                            epilog="zmock openapi prints the APIs as OpenAPI 3.1, for the dialect that is set")  # fmt: skip
    parser.add_argument("--version", action="version", version=__version__)
    for item in fields(Settings):
        shown = "" if item.default in (False, (), "") else f" (default: {item.default})"
        how = {"dest": item.name, "help": f"{item.metadata['help']}{shown}; {variable_of(item)}".replace("%", "%%")}
        how |= {bool: {"action": "store_true"}, tuple: {"action": "append", "metavar": "FILE"}}.get(type(item.default), {"type": type(item.default), "metavar": item.name.upper()})
        parser.add_argument(flag_of(item), default=argparse.SUPPRESS, **how)
    variables, flags = read_variables(environment), vars(parser.parse_args(arguments))
    given = variables | flags
    settings = Settings(**given | {"rules": tuple(given.get("rules", ()))})
    given_as = {item.name: (flag_of if item.name in flags else variable_of)(item) for item in fields(Settings)}
    settings.sources = {name: given_as[name] for name in given}
    return settings


def flag_of(item):
    return "--" + item.name.replace("_", "-")


def variable_of(item):
    return "ZMOCK_" + item.name.upper()


def read_variables(environment):
    """What ZMOCK_* variables set; one that nobody reads is a mistake."""
    known = {variable_of(item): item for item in fields(Settings)}
    given = {}
    for variable in sorted(name for name in environment if name.startswith("ZMOCK_")):
        if variable not in known:
            raise SettingsError(f"no setting reads {variable}{did_you_mean(variable, known)}")
        kind, text = type(known[variable].default), environment[variable]
        readers = {bool: truth, tuple: lambda _, text: tuple(filter(None, text.split(os.pathsep)))}
        try:
            given[known[variable].name] = readers.get(kind, lambda _, text: kind(text))(variable, text)  # noqa: B023 (called at once)
        except ValueError:
            raise SettingsError(f"{variable} is a number, not {text!r}") from None
    return given


def truth(variable, text):
    words = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    if text.lower() not in words:
        raise SettingsError(f"{variable} is true or false, not {text!r}")
    return words[text.lower()]


class SettingsParser(argparse.ArgumentParser):
    """argparse, but a mistake is one line that names the nearest right flag."""

    def error(self, message):
        unknown = message.removeprefix("unrecognized arguments: ")
        flags = ["openapi", *(flag for action in self._actions for flag in action.option_strings)]
        if unknown != message:
            message = f"unknown argument {unknown.split()[0]}{did_you_mean(unknown.split()[0].split('=')[0], flags)}"
        raise SettingsError(f"{message} (see --help)")


# ---- Dialect -----------------------------------------------------------------------------------------------------

DAY = 86400


@dataclass(frozen=True)
class Difference:
    """One point where the manual and the server disagree: the value for the code, the words for people."""

    name: str
    manual: object
    server: object
    manual_says: str
    server_does: str
    source: str


DIFFERENCES = (
    Difference("login-key", True, False, "`logInByAccount` and the manual's `loginByAccount`", "`logInByAccount` only", "manual 3.7; RestServer.java"),
    Difference("condition-alias", True, False, "`condition=` is `q=`", "`condition=` is ignored", "manual 3.2, 3.6; RestServer.java handleQueryApi"),
    Difference("repeated-fields", True, False, "`fields=a&fields=b` and `fields=a,b`", "first occurrence only, commas", "manual 3.9; RestServer.java handleQueryApi"),
    Difference("group-by", True, False, "`groupBy`: one row per distinct value, as MySQL", "accepted, ignored", "manual 3.9; QueryFacadeImpl.java"),
    Difference("null-test", True, False, "`name=null`, `name!=null` test for null", "compare with the text \"null\"", "manual 3.9; ZQL"),
    Difference("spaced-condition", True, False, "spaces around the operator: 400", "the left side is trimmed, the right is not", "manual 3.9; RestServer.java"),
    Difference("date-formats", True, False, "dates in conditions as answers show them, or ISO 8601; other text: 400, SYS.1007", "as MySQL reads them: other text is the zero date", "zmock; MySQL"),
    Difference("stray-percent", True, False, "a `%` without two hex digits is a percent sign", "drops the parameter", "manual 3.9 (`name~=IntelCore%`); Tomcat"),
    Difference("poll-body", True, False, "202 repeats `{\"location\": ...}`", "202, empty body", "manual 3.7; RestServer.java handleJobQuery"),
    Difference("empty-result", b"{}", b"", "`{}`", "a zero-length body", "manual 4.2.6; RestServer.java writeResponse"),
    Difference("bad-parameter", True, False, "a missing or illegal parameter: at once 400, SYS.1007", "503, or 202 and then 503, SYS.1007", "manual 3.4; ApiMessageProcessorImpl.java"),
    Difference("unknown-field", True, False, "an unknown field in a condition, `sort` or `fields`: 400, SYS.1007", "503, SYS.1000", "manual 3.4; ZQLMetadata.java"),
    Difference("malformed-body", 400, 500, "a body that is no JSON object, or has wrong JSON types: 400", "500", "manual 3.4; RestServer.java"),
    Difference("wrong-method", True, False, "405 with `Allow`", "a path with one API runs it for any verb; else 500, 405 for other verbs", "manual 3.4; RestServer.java handleNonUniqueApi"),
    Difference("error-body", True, False, "JSON `{\"error\": ...}` for every status", "plain text for 400, 404, 405, 500", "manual 3.4; RestServer.java"),
    Difference("job-uuid", True, False, "X-Job-UUID: v4, 32 hex, else 400; a used one: 400", "length 32, else 400; a used one: 500", "manual 3.3; RestServer.java"),
    Difference("job-expiry", "seen", "created", "2 days after the job was last looked at", "3 h after submission", "manual 3.5; rest.xml completedApi.expiredPeriod"),
    Difference("job-location", True, False, "built from the request's `Host`", "where zmock listens", "manual 3.5; RESTFacadeImpl.java"),
    Difference("path-prefix", ("/zstack/v1", "/v1"), ("/zstack/v1",), "`/zstack/v1` and `/v1`", "`/zstack/v1`", "manual 3.5, 3.6; RestServerController.java"),
    Difference("get-one", True, False, "`inventory` and `inventories`", "`inventories`", "manual 3.5, 3.7; RestServer.java"),
    Difference("query-schema", True, False, "`schema` only with X-JSON-Schema", "always", "manual 4; RestServer.java writeResponse"),
    Difference("delete-parameters", True, False, "DELETE parameters in the body or the query string", "query string", "manual 4.4.1; RestServer.java handleApi"),
    Difference("license-writes", True, False, "licence changes are asynchronous (202)", "synchronous (200)", "manual 3.5; SDK needPoll"),
    Difference("license-capabilities", True, False, "`{}`", "`{\"capabilities\": {...}}`", "manual 4.7.2; SDK GetLicenseCapabilitiesResult"),
    Difference("is-ready", True, False, "returns `managementNodeId`", "returns nothing", "manual 4.1.4; APIIsReadyToGoReply.java"),
    Difference("success-field", True, False, "no `success` where the example has none", "`\"success\": true` in replies of all fields", "manual 4.1.2, 4.1.3, 4.5.1; ApiResponse.java"),
    Difference("free-system-tags", True, False, "any text", "must match a registered pattern of that type", "manual 4.2.3; TagManagerImpl.java"),
    Difference("task-progress-fields", True, False, "`taskUuid` and `taskId`, `parentId`, `totalSteps`, `currentStep` too", "`taskUuid`, `parentUuid`", "manual 4.3.1; TaskProgressInventory.java"),
    Difference("job-data-object", True, False, "`jobData` may be an object", "must be a string", "manual 4.8.1; Gson"),
    Difference("gc-state", True, False, "`state` is an alias of `status` in conditions", "unknown field", "manual 4.6.3; GarbageCollectorInventory.java"),
    Difference("eip-ip", True, False, "`ip` is an alias of `vipIp` in conditions", "unknown field", "manual 3.9; EipInventory.java"),
    Difference("response-headers", True, False, "`Content-Type: application/json`", "none; a `JSESSIONID` cookie", "manual 4 (curl); RestServerController.java"),
)  # fmt: skip


class Dialect:
    """The column in force: dialect["empty-result"] -> b"{}"."""

    def __init__(self, name):
        self.name = name
        self.values = {row.name: getattr(row, name) for row in DIFFERENCES}

    def __getitem__(self, name):
        return self.values[name]

    def described(self):
        """The table as `GET /zmock/dialect` shows it."""
        return [
            {"name": row.name, "manual": row.manual_says, "server": row.server_does, "source": row.source, "inForce": self.name}
            for row in DIFFERENCES
        ]


# ---- Errors ------------------------------------------------------------------------------------------------------


class ApiError(Exception):
    """What an api answers when it fails: 503 and {"error": {code, description, details[, cause]}} (manual 3.4)."""

    def __init__(self, code, details, cause=None, status=503, hint=""):
        super().__init__(details)
        self.code, self.details, self.cause, self.status, self.hint = code, details, cause, status, hint


class BadParameter(ApiError):
    """A missing or illegal parameter; what becomes of it is dialect row bad-parameter."""

    def __init__(self, details, hint="", code="SYS.1007"):
        super().__init__(code, details, hint=hint)


class FrontError(ApiError):
    """A request that never became a call: wrong path, verb, header or body. The server says it in plain text."""

    def __init__(self, status, details, hint="", allow=()):
        code = {404: "SYS.1003", 405: "SYS.1014", 501: "SYS.1014", 500: "SYS.1000"}.get(status, "SYS.1007")
        super().__init__(code, details, status=status, hint=hint)
        self.allow = allow


def refused(details, cause=None):
    """The error of an operation that is not possible now."""
    return ApiError("SYS.1006", details, cause)


def missing(what, uuid, kind, hint=""):
    """The error of a reference that leads nowhere (RestServer: 503, never 404)."""
    return ApiError("SYS.1003", f"invalid field[{what}], resource[uuid:{uuid}, type:{kind}VO] not found", hint=hint)


# ---- Clock -------------------------------------------------------------------------------------------------------


MODES = ("real", "frozen", "warp")
PATIENCE = 1  # second of the world's time that one move of the Clock waits for others in vain: a web-hook's receiver may never answer
BREATH = 0.005  # seconds of the world's time that a warping Clock leaves whoever has more to ask, and any move when its patience is used up
FEW = 1000  # timers that are too few to look for cancelled ones among them
LOOK = 1  # second between two looks at the system's clock, which somebody may have set
ROUNDED = 1e-6  # seconds; a date as a float is exact to a quarter of that, and dates are added up in several ways
STEP = 0.5  # seconds by which it must have been set to be noticed; less is a correction of its own


class Timer:
    """Something due at a moment of the Clock; cancel() keeps it from firing.

    `due` is a date where the timer is `dated`, else a second of Clock.steady().
    """

    __slots__ = ("due", "order", "fire", "what", "awaited", "dated")

    def __init__(self, due, order, fire, what, awaited=False, dated=False):
        self.due, self.order, self.fire, self.what = due, order, fire, what
        self.awaited, self.dated = awaited, dated

    def __lt__(self, other):
        return (self.due, self.order) < (other.due, other.order)

    def cancel(self):
        self.fire = None

    def hurry(self):
        """Fires now instead."""
        fire, self.fire = self.fire, None
        if fire:
            fire()


class TooFar(ValueError):
    """A move on which more would fall due than can be waited for; says what, and what to do."""


class Clock:
    """The only source of time. `real` runs, `frozen` moves only by advance(); what is due fires in order.

    `warp` runs too, and when all that is left to do is to wait, it goes to the next moment that somebody waits for.

    now() is a date: the system's clock, and what set_back() and advance() have made of it. Waits
    are measured on steady(), which runs on the monotonic clock. They keep their length when the
    system's clock is set, after a sleep for instance.
    """

    def __init__(self, mode="real", utc_offset=0.0):
        self.mode, self.utc_offset, self.advancing = mode, utc_offset * 3600, None
        self.show(time.time(), 0.0)
        self.moved = []  # functions of the seconds by which dates have moved, and waits have not
        self.told_lead = 0.0  # the lead() that those in `moved` know of
        self.moving = asyncio.Lock()  # one move at a time; `advancing` is that, until halt()
        self.order = itertools.count()
        self.timers = []  # a heap: after() adds, fire_due() and tidy() take away
        self.dated = []  # as timers, a heap: what is due on a date; at() adds
        self.room = FEW  # timers, above which tidy() looks
        self.wakeup, self.started = None, False  # the loop's call of tick(), made anew by plan()
        self.sleepers = set()  # what wakes each sleep(), which adds and takes it away itself; restart() calls them all
        self.tasks = set()  # what the mock runs beside its requests: from spawn() until it is done
        self.awake = set()  # those of them that a move waits for: rouse() adds, rest() takes away when one sleeps, ends or is given up
        self.quiet = asyncio.Event()  # set while none is awake, by rest() and rouse()
        self.awaited = []  # on a warping clock, a heap of the timers that draw it on
        self.wanted, self.leaper = asyncio.Event(), None  # whether there may be any, for leap(), and the task that runs it
        self.guards = []  # functions of a moment that raise TooFar where too much would fall due until then

    @property
    def still(self):
        return self.mode == "frozen" or self.advancing

    def now(self):
        """Seconds since 1970, as the cloud sees them."""
        return self.stopped_at if self.still else time.time() + self.offset

    def steady(self, date=None):
        """Return the second that waits are measured on, or that of a date. It never jumps."""
        if date is not None:
            return date - self.lead()
        return self.stopped_at - self.ahead if self.still else time.monotonic() + self.base

    def lead(self):
        """Return how many seconds dates are ahead of steady(). It changes when a clock is set."""
        return self.ahead if self.still else self.now() - self.steady()

    def date_of(self, second):
        """Return the date of a second of steady(), as dates are now."""
        return second + self.lead()

    def due_date(self, timer):
        """Return the date on which a timer is due, as dates are now."""
        return timer.due if timer.dated else self.date_of(timer.due)

    def left(self, timer):
        """Return the seconds until a timer is due."""
        if timer.dated:
            return timer.due - self.now()
        return timer.due + self.ahead - self.stopped_at if self.still else timer.due - self.steady()

    def due_first(self):
        """Return the timer that is due before all others, or None."""
        if not (self.timers and self.dated):
            return self.timers[0] if self.timers else self.dated[0] if self.dated else None
        waiting, dated = self.timers[0], self.dated[0]
        before = (self.date_of(waiting.due), waiting.order) < (dated.due, dated.order)
        return waiting if before else dated

    def stamp(self, moment=None):
        """A moment as items hold it, in the zone of the cloud: "2018-07-10 09:31:06"."""
        moment = self.now() if moment is None else moment
        return stamp_of(math.floor(moment + self.utc_offset))

    def moment(self, stamp):
        """The seconds since 1970 of a stamp."""
        return second_of(stamp) - self.utc_offset

    def is_stamp(self, text):
        try:
            return self.stamp(self.moment(text)) == text
        except ValueError:
            return False

    def at(self, date, fire, what=""):
        """Call fire() when the Clock shows `date`; once the caller is done if that is past.

        The timer follows the date when a clock is set, as a schedule does. after() is for waits.
        """
        return self.add(self.dated, Timer(date, next(self.order), fire, what, dated=True))

    def after(self, seconds, fire, what="", awaited=False):
        """Call fire() when `seconds` have passed, whatever date it is then; never inside this call.

        `awaited` is what a client may wait for: a job's end, an answer. The sweeps of a management node are not.
        """
        return self.at_second(self.steady() + seconds, fire, what, awaited)

    def at_second(self, second, fire, what="", awaited=False):
        """Call fire() at a second of steady(), as after() does."""
        timer = self.add(self.timers, Timer(second, next(self.order), fire, what, awaited))
        if awaited and self.mode == "warp":
            heapq.heappush(self.awaited, timer)
            self.wanted.set()
        return timer

    def add(self, heap, timer):
        heapq.heappush(heap, timer)
        if heap[0] is timer:
            self.plan()
        self.tidy()
        return timer

    def tidy(self):
        """Drops what was cancelled, each time that the timers have become twice as many."""
        if len(self.timers) + len(self.dated) >= self.room:
            for heap in (self.timers, self.dated, self.awaited):
                heap[:] = [timer for timer in heap if timer.fire]
                heapq.heapify(heap)
            self.room = max(FEW, 2 * (len(self.timers) + len(self.dated)))

    def never(self, fire, what=""):
        """A timer that no time brings about, only hurry()."""
        return Timer(math.inf, next(self.order), fire, what)

    def plan(self):
        """Has the loop call tick() when the next timer is due."""
        if self.wakeup:
            self.wakeup.cancel()
            self.wakeup = None
        timer = self.due_first() if self.started else None
        if timer and (self.mode != "frozen" or self.left(timer) <= 0):
            loop = asyncio.get_running_loop()
            self.wakeup = loop.call_later(min(max(0, self.left(timer)), LOOK), self.tick)

    def start(self):
        """From now on, inside the running loop, what is due fires by itself."""
        self.started = True
        self.set_mode(self.mode)

    def tick(self):
        try:
            self.fire_due()
            self.notice()
        finally:
            self.plan()

    def fire_due(self):
        """Fire what is due, and return what it was. One that raises is logged and stops nothing."""
        fired = []
        while (timer := self.due_first()) and self.left(timer) <= 0:
            heapq.heappop(self.dated if timer.dated else self.timers)
            if timer.fire:
                fired.append(timer.what)
                try:
                    timer.hurry()
                except Exception:  # a timer is nobody's call: there is no one else to tell
                    log.exception("what was due failed: %s", timer.what or "a timer without a name")
        return fired

    def notice(self):
        """Call the functions in `moved` if somebody has set the system's clock."""
        seconds = self.lead() - self.told_lead
        if abs(seconds) > STEP:
            self.tell_moved(seconds)

    def tell_moved(self, seconds):
        self.told_lead = self.lead()
        for tell in self.moved:
            tell(seconds)

    async def sleep(self, seconds):
        """Returns when the Clock has moved on by that much."""
        if seconds <= 0:
            return
        done, task = asyncio.get_running_loop().create_future(), asyncio.current_task()

        def wake():
            if not done.done():
                done.set_result(None)
                self.rouse(task) if task in self.tasks else None

        timer = self.after(seconds, wake, awaited=True)
        self.sleepers.add(wake)
        self.rest(task)
        try:
            await done
        finally:
            timer.cancel()
            self.sleepers.discard(wake)

    def spawn(self, work):
        """Runs a coroutine beside the requests; advance() waits until it is done or sleeps on this clock."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        self.rouse(task)
        task.add_done_callback(self.rest)
        task.add_done_callback(self.tasks.discard)
        return task

    def rouse(self, task):
        self.awake.add(task)
        self.quiet.clear()

    def rest(self, task):
        self.awake.discard(task)
        if not self.awake:
            self.quiet.set()

    async def settle(self, patience=PATIENCE):
        """Waits until nothing that the mock runs beside its requests has work left for this moment.

        Answers the patience that is left: whoever uses it up is waited for no more, until it has slept on this clock.
        """
        self.fire_due()
        until = time.monotonic() + patience
        while self.awake:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await self.quiet.wait()
            except TimeoutError:
                patience = BREATH
                for task in [*self.awake]:
                    self.rest(task)
            await asyncio.sleep(0)
            self.fire_due()
        return patience

    async def advance(self, seconds):
        """Moves time on, stopping at each moment where something is due; answers what fired. Raises TooFar where that is too much."""
        self.mind(self.now() + seconds)
        async with self.moving:
            return await self.go_through(lambda: self.now() + seconds)

    async def go_to(self, moment):
        """As advance(), to a moment; nowhere if that is past."""
        self.mind(moment)
        async with self.moving:
            return await self.go_through(lambda: moment)

    def mind(self, moment):
        for guard in self.guards:
            guard(moment)

    async def go_through(self, where):
        target, fired = where(), []
        self.jump(self.now())
        self.advancing = move = object()  # meanwhile time stands still, so that what is due falls on its moment exactly
        try:
            patience = await self.settle()
            while self.advancing is move and (timer := self.due_first()):
                if self.due_date(timer) > target + ROUNDED:
                    break
                self.jump(max(self.due_date(timer), self.now()))
                fired += self.fire_due()
                patience = await self.settle(patience)
                await asyncio.sleep(0)  # others may have something to ask
            if self.advancing is move:
                self.jump(max(target, self.now()))
        finally:
            if self.advancing is move:
                self.halt()
            self.plan()
        return [what for what in fired if what]

    def halt(self):
        """Ends a move that is under way where it is."""
        if self.advancing:
            self.advancing = None
            self.jump(self.stopped_at)

    def jump(self, moment):
        """Goes to a date, and waits with it."""
        self.show(moment, self.lead())

    def show(self, moment, ahead):
        """Shows a date, by so many seconds ahead of steady()."""
        self.stopped_at, self.ahead = moment, ahead
        self.offset, self.base = moment - time.time(), moment - ahead - time.monotonic()

    def set_back(self, moment):
        """Shows an earlier moment. What is due in five seconds still is: waits run on a steady clock, dates do not."""
        self.halt()
        back = moment - self.now()
        self.show(moment, self.lead() + back)
        self.tell_moved(back)
        self.plan()

    def set_mode(self, mode):
        self.jump(self.now())
        self.mode = mode
        self.awaited = [timer for timer in sorted(self.timers) if timer.awaited] if mode == "warp" else []
        if self.leaper:
            self.leaper.cancel()
        self.leaper = asyncio.ensure_future(self.leap()) if self.started and mode == "warp" else None
        self.wanted.set()
        self.plan()

    async def leap(self):
        """Goes to the next moment that somebody waits for, as often as there is one and nothing else to do."""
        while await self.wanted.wait():
            await asyncio.sleep(BREATH)
            while self.awaited and not self.awaited[0].fire:
                heapq.heappop(self.awaited)
            if self.awaited:
                async with self.moving:
                    await self.go_through(functools.partial(self.due_date, self.awaited[0]))
            else:
                self.wanted.clear()

    def world(self):
        return time.time()

    def uptime(self, since=0.0):
        """Return the seconds of the world since another moment of it, however its clock is set."""
        return time.monotonic() - since

    def soon(self, seconds, fire):
        """Call fire() when so many seconds of the world have passed; at once on a frozen clock."""
        if self.mode == "frozen":
            fire()
        else:
            asyncio.get_running_loop().call_later(seconds, fire)

    def kept(self):
        """What of it outlives the process; take_up() takes it."""
        return {"mode": self.mode, "offset": round(self.now() - self.world(), 3), "at": self.now()}

    def take_up(self, kept):
        """Goes on from there: a clock that was set forth stays so, one that stood still stands at the same moment."""
        self.set_mode(kept["mode"] if self.mode == "real" else self.mode)
        self.jump(kept["at"] if kept["mode"] == "frozen" else self.world() + kept["offset"])
        self.plan()

    def stop(self):
        """Ends what runs beside the requests."""
        for task in [*self.tasks, *filter(None, [self.leaper])]:
            task.cancel()

    def restart(self):
        """Back to the time of the world, with nothing due."""
        self.stop()
        self.halt()
        for wake in [*self.sleepers]:
            wake()
        self.timers.clear(), self.dated.clear()
        self.show(self.world(), 0.0)
        self.told_lead = 0.0
        self.set_mode(self.mode)


def is_span(seconds):
    """Return True for a number of seconds that a Clock can be moved by."""
    return not isinstance(seconds, bool) and isinstance(seconds, (int, float)) and 0 <= seconds <= 1e9


async def one_turn():
    """Let the event loop take one turn: whatever has arrived is seen."""
    await asyncio.sleep(0)


LATEST = 2e11  # seconds since 1970, in the year 8307; dates end with 9999


def is_moment(value, earliest=0):
    return type(value) in (int, float) and earliest <= value <= LATEST


def is_clock(kept):
    """Whether it is what Clock.kept() says."""
    moments = isinstance(kept, dict) and is_moment(kept.get("at")) and is_moment(kept.get("offset"), -LATEST)
    return moments and kept.get("mode") in MODES and is_moment(time.time() + kept["offset"])


@functools.lru_cache(4096)
def stamp_of(second):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))


@functools.lru_cache(4096)
def second_of(stamp):
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))


def world_stamp():
    """The world's time in the name of a file: 20180710T093106."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())


def iso(moment):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


def moment_of(text):
    """Return the seconds since 1970 of a date and time in ISO 8601; without an offset it is UTC.

    Raises ValueError for other text.
    """
    if not isinstance(text, str) or "T" not in text:
        raise ValueError(f"{text!r} is no date and time such as 2018-07-10T00:00:00Z")
    moment = iso_date(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def iso_date(text):
    """Return the datetime of a date in ISO 8601, or with a space for its T.

    Raises ValueError for other text. In a URL, a plus that nobody encoded is a space.
    """
    if not re.fullmatch(r"[\d.,:TWZ +-]+", text, re.ASCII):
        raise ValueError(f"{text!r} is no date")
    return datetime.fromisoformat(re.sub(r"(:[\d.]+) (\d\d:?\d\d)$", r"\1+\2", text))


def stamp_from(text, ahead=0):
    """Return the stamp of a date as answers show it, or in ISO 8601; raise ValueError for other text.

    "Jul 10, 2018 9:31:06 AM", "Jul 10, 2018", "2018-07-10 09:31:06" and "2018-07-10" are in the zone
    of the cloud, `ahead` seconds ahead of UTC. "2018-07-10T01:31:06Z" names its own.
    """
    text = text.strip()
    with contextlib.suppress(ValueError):
        shown = text if ":" in text else f"{text} 12:00:00 AM"
        return stamp_of(calendar.timegm(time.strptime(shown, "%b %d, %Y %I:%M:%S %p")))
    try:
        moment = iso_date(text)
        if moment.tzinfo:
            moment = moment.astimezone(timezone(timedelta(seconds=ahead)))
    except (ValueError, OverflowError):
        examples = "2018-07-10 09:31:06, Jul 10, 2018 9:31:06 AM or 2018-07-10T09:31:06+08:00"
        raise ValueError(f"{text!r} is no date such as {examples}") from None
    return moment.isoformat(" ", "seconds")[:19]


MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@functools.lru_cache(4096)
def us_date(stamp):
    """A stamp as clients get it: "2017-01-06 03:51:16" -> "Jan 6, 2017 3:51:16 AM" (Gson's default under en_US)."""
    year, month, day = stamp[:10].split("-")
    hour = int(stamp[11:13])
    return f"{MONTHS[int(month) - 1]} {int(day)}, {year} {hour % 12 or 12}{stamp[13:]} {'AM' if hour < 12 else 'PM'}"


# ---- Catalogue ---------------------------------------------------------------------------------------------------

UUID = r"[0-9a-f]{8}[0-9a-f]{4}[1-5][0-9a-f]{3}[89ab][0-9a-f]{3}[0-9a-f]{12}"


@dataclass(frozen=True)
class Param:
    """One parameter and its constraints, read from a text such as "sshPort:int 1..65535 =22"."""

    name: str
    type: str = "str"
    required: bool = False
    shortest: int = 0
    longest: int = 0
    values: tuple = ()
    regex: str = ""
    nonempty: bool = False
    nonblank: bool = False
    verbatim: bool = False
    used: bool = False
    changed: bool = False
    low: int | None = None
    high: int | None = None
    unit: str = ""
    refers: str = ""
    may_be_gone: bool = False
    any_form: bool = False
    default: str | None = None

    @classmethod
    def read(cls, text):
        """
        name[:type][!] then any of: <=255 (length), >=1, {a|b} (values), /regex/, 1..9 (range; 1..9bytes), @Zone
        (must exist), @Zone? (gone is done; @Zone?any: whatever its form), =22 (default), nonempty, nonblank, verbatim (not trimmed),
        used or changed (what the call does with what belongs to others, where its path does not tell).
        """
        head, *words = text.split(" ")
        name, _, kind = head.rstrip("!").partition(":")
        said = {"name": name, "type": kind or "str", "required": head.endswith("!")}
        for word in words:
            said |= cls.constraint(word)
        return cls(**said)

    @staticmethod
    def constraint(word):
        if word in ("nonempty", "nonblank", "verbatim", "used", "changed"):
            return {word: True}
        if bounds := re.fullmatch(r"(-?\d+)\.\.(\d+)(bytes)?", word):
            return {"low": int(bounds[1]), "high": int(bounds[2]), "unit": bounds[3] or ""}
        sign, rest = word[0], word[1:]
        return {
            "<": lambda: {"longest": int(rest[1:])},
            ">": lambda: {"shortest": int(rest[1:])},
            "{": lambda: {"values": tuple(rest[:-1].split("|"))},
            "/": lambda: {"regex": rest[:-1]},
            "@": lambda: dict(zip(("refers", "may_be_gone", "any_form"), (rest.partition("?")[0], "?" in rest, "?any" in rest))),
            "=": lambda: {"default": rest},
        }[sign]()


def text_of(value):
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def gson_word(value):
    """What Gson's errors call a JSON value."""
    words = {dict: "BEGIN_OBJECT", list: "BEGIN_ARRAY", str: "STRING", bool: "BOOLEAN", type(None): "NULL"}
    return words.get(type(value), "NUMBER")


def as_text(param, value):
    if isinstance(value, (dict, list)):
        raise TypeError(f"java.lang.IllegalStateException: Expected a string but was {gson_word(value)} at field {param.name}")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if abs(value) > sys.float_info.max:
            raise TypeError(f"java.lang.NumberFormatException: a number without end at field {param.name}")
        return str(float(value))  # the server reads bodies through an untyped map: 123 becomes "123.0"
    return value if param.verbatim else value.strip()


def as_whole(param, value):
    bits = 31 if param.type == "int" else 63
    try:
        if isinstance(value, (bool, dict, list)):
            raise ValueError
        whole = int(value) if isinstance(value, int) or re.fullmatch(r"[-+]?\d{1,30}", str(value).strip()) else float(value)
        if whole != int(whole) or not -(1 << bits) <= whole < 1 << bits:
            raise ValueError
    except (ValueError, OverflowError):
        raise FrontError(400, f"[{param.name}] field is excepted an int or long, but was [{text_of(value)}].") from None  # sic: TypeVerifier.java
    return int(whole)


def as_fraction(param, value):
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise FrontError(400, f"[{param.name}] field is excepted a double, but was [{text_of(value)}].") from None


def as_bool(param, value):
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() not in ("true", "false"):
        raise FrontError(400, f"Invalid value for boolean field [{param.name}], [{text_of(value)}] is not a valid boolean string[true, false].")
    return str(value).strip().lower() == "true"


def as_list(param, value):
    if not isinstance(value, list):
        raise TypeError(f"java.lang.IllegalStateException: Expected BEGIN_ARRAY but was {gson_word(value)} at field {param.name}")
    return [v if v is None else as_text(param, v) for v in value]


def as_map(param, value):
    if not isinstance(value, dict):
        raise TypeError(f"java.lang.IllegalStateException: Expected BEGIN_OBJECT but was {gson_word(value)} at field {param.name}")
    return value


READERS = {"str": as_text, "int": as_whole, "long": as_whole, "double": as_fraction, "bool": as_bool, "list": as_list,
           "map": as_map, "maps": lambda param, value: [as_map(param, v) for v in value] if isinstance(value, list) else as_list(param, value)}  # fmt: skip
KIND_WORDS = {"str": "text", "int": "number", "long": "number", "double": "number", "bool": "true or false", "list": "list of texts",
              "map": "JSON object", "maps": "list of JSON objects"}  # fmt: skip


@dataclass
class JavaClass:
    """A class or an enum of the server. Typed clients read the objects of an answer into it.

    constants   the values of an enum; empty for a class
    members     the members that hold objects or enums: {"vmNics": Member(<VmNicInventory>, True)}
    kinds       the subclasses, by the value of the field `discriminator`
    """

    name: str
    discriminator: str = ""
    constants: tuple = ()
    members: dict = field(default_factory=dict, repr=False, compare=False)
    kinds: dict = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def simple(self):
        """Return the name without its package and its outer class."""
        return re.split("[.$]", self.name)[-1]

    def of(self, item):
        """Return the most specific class of an item: KVMHostInventory for a host of KVM."""
        kind = self.kinds.get(item.get(self.discriminator))
        return kind.of(item) if kind else self

    def family(self):
        """Return the class and its subclasses, at any depth."""
        return [self, *(java for kind in self.kinds.values() for java in kind.family())]


@dataclass(frozen=True)
class Member:
    """The Java class of a member of an object; with `many`, of the items of a list."""

    java: JavaClass
    many: bool = False


@dataclass(eq=False)
class Api:
    """One API of ZStack, a record of the table `apis` in data/catalogue.json.

    name      "CreateZone"
    call      "POST /zones": the method and the path
    answers   "inventory:Zone": the members of the answer, with the resource that an inventory shows
    package   the Java package of its message, which error texts name
    backing   how it is simulated: "manual", "server", "generic" (parameters and fields alone) or "none" (501)
    caller    "admin": normal accounts may not call it, unless identity/account.api.control lists it
    takes     its parameters, see Param.read
    open      needs no session
    now       answers at once although it is no GET
    later     is a job although it is a GET
    whole     answers all members of the server's reply, `success` too
    bare      takes no body
    unnamed   its parameters are inside "", as well as inside params
    by_uuid   False for a query that has no GET by uuid
    does      what it does besides its verb: effects, see the section The words of rows
    refuses   (condition, error code, details), in the order in which they are checked
    fails     the code that wraps an error which comes up on the way
    long      "always" a long job, "possible" as one, or "cancellable" as one
    asks      "vm.cpuNum = its.cpuNum": the quotas that it uses up, besides one of what it creates
    only      the conditions for the inventories that a Get answers
    tells     {"mtu:int =1500": "l3NetworkUuid::{l3NetworkUuid}::mtu::"}: members that a Get reads from the system
              tag of its object which begins so, with their type and default
    sums      the resource whose items a Get adds up, `by` the fields {parameter: field} that choose them
    always    the value that a Get answers
    whether   the condition, or the conditions by name, whose truth a Get answers
    holds     the classes of members that are no inventories: "result:CloneVmInstanceResults" is an object,
              "usages:[QuotaUsage]" a list. `members` has these classes and those of inventories.
    """

    name: str
    call: str
    answers: str = ""
    package: str = ""
    backing: str = "none"
    caller: str = ""
    takes: tuple[str, ...] = ()
    open: bool = False
    now: bool = False
    later: bool = False
    whole: bool = False
    bare: bool = False
    unnamed: bool = False
    by_uuid: bool = True
    does: tuple[str, ...] = ()
    refuses: tuple[tuple[str, ...], ...] = ()
    fails: str = ""
    long: str = ""
    asks: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    tells: dict[str, str] = field(default_factory=dict)
    sums: str = ""
    by: dict[str, str] = field(default_factory=dict)
    always: Any = None
    whether: str | dict[str, str] = ""
    holds: tuple[str, ...] = ()
    resources: dict = field(default_factory=dict, repr=False, compare=False)  # those of its catalogue
    members: dict = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def params(self):
        return {param.name: param for param in map(Param.read, self.takes)}

    @functools.cached_property
    def kind(self):
        """The first word of the name: Query, Create, Change, Delete, ...; what `verb_of` goes by."""
        return re.match(r"[A-Z][a-z]*", self.name)[0]

    @functools.cached_property
    def type(self):
        """The resource that the call is about: the one that it answers, or the one that its path names."""
        if answered := re.search(r":(\w+)", self.answers):
            return answered[1]
        return next((p.refers for p in self.params.values() if p.refers and "{%s}" % p.name in self.path), "")

    @functools.cached_property
    def method(self):
        return self.call.split(" ")[0]

    @functools.cached_property
    def path(self):
        return self.call.split(" ")[1]

    @functools.cached_property
    def paths(self):
        return (self.path, self.path + "/{uuid}") if self.kind == "Query" and self.by_uuid else (self.path,)

    @functools.cached_property
    def key(self):
        """The member of a body that holds the parameters: params, or the name of an action as logInByAccount."""
        return "params" if self.method == "POST" else self.name[0].lower() + self.name[1:]

    @functools.cached_property
    def keys(self):
        """The members of a body that may hold the parameters.

        The server names no member for the parameters of some POSTs (RestRequest.java parameterName), and "null" for
        two of those without any. The Java SDK then sends {"": ...} or {"null": ...}.
        """
        return ("", "null") if self.bare else ("", "params") if self.unnamed else (self.key,)

    @functools.cached_property
    def at_once(self):
        return not self.later if self.method == "GET" else self.now

    @functools.cached_property
    def stages(self):
        """The stages of the row, each with the sentence that its progress shows."""
        return dict(stage.groups() for stage in map(STAGE.fullmatch, self.does) if stage)

    @functools.cached_property
    def steps(self):
        """Return [(effects, stage), ...], what the row does before each stage, and the effects after the last one."""
        steps, effects = [], []
        for clause in self.does:
            stage = STAGE.fullmatch(clause)
            if stage or clause == "prepared":
                steps.append((tuple(effects), stage and stage[1]))
                effects = []
            else:
                effects.append(clause)
        return steps, tuple(effects)

    @property
    def message(self):
        """The Java class that the server's error texts name."""
        return f"{self.package or 'org.zstack.header'}.API{self.name}Msg"

    @functools.cached_property
    def target(self):
        """The parameter in the path that names the object acted on."""
        return next(self.named, None)

    @property
    def named(self):
        """The parameters that name an object: those in the path, and uuid."""
        return (p for p in self.params.values() if p.refers and ("{%s}" % p.name in self.path or p.name == "uuid"))

    @functools.cached_property
    def subject(self):
        """The parameter that names the item whose fields the row speaks of: it refers to what is answered, or is the target."""
        lists = (p for p in self.params.values() if p.refers)
        return next((p for p in self.named if p.refers == self.type), None if self.creates else self.target or next(lists, None))

    @functools.cached_property
    def creates(self):
        one = self.kind in ("Create", "Add") and "inventories:" not in self.answers
        return one and bool(self.type) and all(p.refers != self.type for p in self.named)


STAGE = re.compile(r"stage (\w+): (.+)")


@dataclass(frozen=True)
class Relation:
    """How a query gets from one resource to another: the items of `target` whose key `theirs` is among the values of `own`.

    An alias leads through other relations instead (`via`). A hidden relation may be queried, but is not listed.
    """

    name: str
    own: str = ""
    target: str = ""
    theirs: str = ""
    via: tuple = ()
    hidden: bool = False

    @classmethod
    def read(cls, text):
        """ "zone: zoneUuid=Zone.uuid"; an alias "backupStorage: backupStorageRefs.backupStorage"; hidden "-vmNicRef: uuid=..." """
        name, _, way = text.partition(": ")
        own, joins, (target, _, theirs) = *way.partition("=")[:2], way.partition("=")[2].partition(".")
        named = {"name": name.lstrip("-"), "hidden": name.startswith("-")}
        return cls(**named, own=own, target=target, theirs=theirs) if joins else cls(**named, via=tuple(way.split(".")))


@dataclass(frozen=True)
class Place:
    """Where the items of an inside resource are: in a list of the owner's items.

    An image with `backupStorageRefs: [{"backupStorageUuid": "b", "status": "Ready"}]` holds an ImageBackupStorageRef with these two
    and its own `imageUuid`; a primary storage with `attachedClusterUuids: ["c"]` a PrimaryStorageClusterRef with `clusterUuid` "c".
    """

    key: str
    owner: str
    list: str
    value: str

    @property
    def index(self):
        """The owner's key for what its list refers to."""
        return f"{self.list}.{self.value}"

    def rows(self, item):
        """What an item of the owner has in its list, each as an item."""
        rows = (row if isinstance(row, dict) else {self.value: row} for row in item.get(self.list, ()))
        return [{"uuid": f"{item['uuid']}/{n:06d}", self.key: item["uuid"]} | row for n, row in enumerate(rows)]


@dataclass(frozen=True)
class Resource:
    """One kind of resource, a record of the table `inventories` in data/catalogue.json.

    path           the collection, "vm-instances/nics"
    java           the class of its inventory
    of             the resource that it is a subtype of; its items are stored there, and it lists what it adds only
    only           which items of that resource are its own: {"type": "A|B"}
    discriminator  the field that tells the subtypes apart
    kinds          subtypes without a collection: {"KVM": [Java class, field, ...]} by the value of the discriminator
    owner          whose a new item is: "caller", or the key of what it is part of ("vmInstanceUuid")
    account        the field that says whose an item is
    unreferenced   no AccountResourceRef tells of its items
    soft_deleted   a shadow stays of a deleted item: its uuid is never free again
    field_words    "cpuNum:int": a field and its type, str when none is given
    joined         fields that the server keeps in another table: conditions may name them, `fields` may not
    indexed        fields to find items by, besides names, states and what relations go through
    relation_words see Relation.read
    embeds         the relations that an inventory shows as a list
    inside         where its items lie in a list of another resource, see Place:
                   "imageUuid=Image.backupStorageRefs.backupStorageUuid"
    new            the values that an item starts with when its creation does not give them
    needs          fields that behaviours rely on, "hypervisorType=KVM" with what stands for a missing one
    dies_with      "zoneUuid", "ipRangeUuid:IpRange": an item ends with the item that this key leads to (A|B: one of
                   two), with the resource where no relation names it
    outlives       "vmNicUuid,guestIp": the key is lost with its end, and so are the fields after it
    switches       "Cluster.zoneUuid": the items that change their state with it
    ends           what its removal does besides, as Api.does
    tags           the patterns of its system tags; {} is any text
    values         the values that a field can have: {"state": ["Enabled", "Disabled"]}
    holds          "dns:[VpcRouterDns]", "state:LongJobState": the Java classes of its other members
    """

    name: str
    java: str
    path: str = ""
    of: str = ""
    only: dict = field(default_factory=dict)
    discriminator: str = ""
    kinds: dict = field(default_factory=dict)
    owner: str = ""
    account: str = ""
    unreferenced: bool = False
    soft_deleted: bool = False
    field_words: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    indexed: tuple[str, ...] = ()
    relation_words: tuple[str, ...] = ()
    embeds: tuple[str, ...] = ()
    inside: str = ""
    new: dict = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    dies_with: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    switches: str = ""
    ends: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    values: dict = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    @functools.cached_property
    def fields(self):
        return typed(self.field_words)

    @functools.cached_property
    def all_fields(self):
        """The fields of the resource and of its subtypes, for what an inventory shows."""
        return self.fields | {name: kind for _, *words in self.kinds.values() for name, kind in typed(words).items()}

    @functools.cached_property
    def worded(self):
        """The fields that an inventory shows in other words than an item has them: dates, and references with dates in them."""
        return [name for name, kind in self.all_fields.items() if kind in ("date", "maps")]

    @functools.cached_property
    def relations(self):
        return {relation.name: relation for relation in map(Relation.read, self.relation_words)}

    @functools.cached_property
    def leads(self):
        """Where its keys lead: {"zoneUuid": "Zone"}."""
        pairs = (word.split(",")[0].split(":") for word in (*self.dies_with, *self.outlives) if ":" in word and "|" not in word)
        return {relation.own: relation.target for relation in self.relations.values() if relation.theirs == "uuid"} | dict(pairs)

    @property
    def listed(self):
        """The names of the relations that a query is offered."""
        return [name for name, relation in self.relations.items() if not relation.hidden]

    @functools.cached_property
    def place(self):
        return Place(*re.split("[=.]", self.inside))

    @property
    def stored(self):
        """The resource whose items its own are among."""
        return self.of or self.name

    @property
    def table(self):
        """The name of the table that its items are read from."""
        return self.place.owner if self.inside else self.stored

    def has(self, item):
        """Return True if an item that is stored where its own are is one of them."""
        return all(item.get(name) in value.split("|") for name, value in self.only.items())

    @functools.cached_property
    def indexes(self):
        """The fields that items are found by without a scan, as far as they have them: names, states, what relations go through."""
        keys = {relation.own for relation in self.relations.values() if relation.own}
        return (self.all_fields.keys() & {"name", "state", "status"} | {*self.indexed} | keys) - {"uuid"}

    def allows_tag(self, tag):
        """Return True if the tag matches one of its patterns, segment by segment."""
        segments = tag.split("::")
        patterns = (pattern.split("::") for pattern in self.tags)
        return any(len(p) == len(segments) and all(a in ("{}", b) for a, b in zip(p, segments)) for p in patterns)


def typed(words):
    """("name", "cpuNum:int") -> {"name": "str", "cpuNum": "int"}"""
    return {name: kind or "str" for name, _, kind in (word.partition(":") for word in words)}


NAMING_TAGS = [pattern.split("::") for pattern in (  # system tags that name another resource
    "staticIp::{uuid}::{ip}", "customMac::{uuid}::{mac}", "iso::{uuid}::{number}",
    "virtio::diskOffering::{uuid}::num::{number}", "primaryStorageUuidForDataVolume::{uuid}",
    "affinityGroupUuid::{uuid}", "imageName::{name}::primaryStorageUuid::{uuid}",
    "guestL3Network::{uuid}", "primaryStorage::allocator::uuid::{uuid}",
    "localStorage::hostUuid::{uuid}", "l3NetworkUuid::{uuid}::mtu::{mtu}",
    "l2NetworkUuid::{uuid}::clusterUuid::{uuid}::cidr::{cidr}",
)]  # fmt: skip


def spell_in_tag(tag, spell):
    """Return a system tag with spell(uuid) in the place of each uuid in it."""
    segments = tag.split("::")
    for parts in (parts for parts in NAMING_TAGS if len(parts) == len(segments)):
        pairs = [*zip(parts, segments)]
        if all(part[:1] == "{" or part == segment for part, segment in pairs):
            spelled = (spell(segment) if part == "{uuid}" else segment for part, segment in pairs)
            return "::".join(spelled)
    return tag


@functools.lru_cache(4096)
def names_uuids(name):
    """Return True for a field or parameter that holds a uuid, or a list of uuids."""
    return name in ("managementNodeId", "owner") or bool(re.search("[uU]uids?$", name))


def spell_in(name, value, spell):
    """Return the value of a field or parameter with spell(uuid) in the place of each uuid in it.

    The keys of a map may be uuids too: {"networkServices": {PROVIDER: ["DHCP"]}}.
    """
    if isinstance(value, dict):
        return {spell(key): spell_in(key, inner, spell) for key, inner in value.items()}
    if isinstance(value, list):
        return [spell_in(name, inner, spell) for inner in value]
    return spell(value) if isinstance(value, str) and names_uuids(name) else value


# ---- Catalogue: configurations -------------------------------------------------------------------------------------

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_of(text):
    """ "1G" -> 1073741824; None for what is no size."""
    found = re.fullmatch(r"([0-9]{1,15})\s*([BKMGT]?)B?", text.strip(), re.I | re.A)
    return int(found[1]) * UNITS[found[2].upper()] if found else None


def whole_of(text, bits):
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) and -(1 << bits) <= int(text) < 1 << bits else None


CONFIGURED = {  # what the value of a global configuration is, by its type, and the words for that; None where it is none
    "str": (str, "a text"),
    "bool": (lambda text: {"true": True, "false": False}.get(text.lower()), "true or false"),
    "int": (lambda text: whole_of(text, 31), "an integer"),
    "long": (lambda text: whole_of(text, 63), "an integer"),
    "size": (size_of, "a size string, a number with suffix T, G, M, K, B or without suffix"),
}
BOUNDS = {">": (operator.gt, "greater than"), "<": (operator.lt, "less than")}


@dataclass(frozen=True)
class Configuration:
    """A global configuration: "host/load.all" are its category and its name; valid is ">1 <1000", "0..1024", "a|b", or none (may be empty)."""

    name: str
    default: str | None = None
    type: str = "str"
    valid: str = ""
    description: str = ""

    def read(self, text):
        """What a value is; the default where it is nothing that may be."""
        return self.usual if text == self.default or self.fault(text) else CONFIGURED[self.type][0](text)

    @functools.cached_property
    def usual(self):
        return CONFIGURED[self.type][0](self.default)

    def fault(self, text):
        """Why a value may not be, or nothing."""
        if not text:
            return "" if self.valid == "none" else "cannot be null or empty"
        if not isinstance(text, str):
            return f"is a text, not {text}"
        value = CONFIGURED[self.type][0](text)
        if value is None:
            return f"only allows {CONFIGURED[self.type][1]}, but got {text}"
        return next(filter(None, (self.against(word, value) for word in self.valid.split() if word != "none")), "")

    def against(self, word, value):
        """What a word of valid has against a value."""
        if word[0] in BOUNDS:
            holds, words = BOUNDS[word[0]]
            return "" if holds(value, int(word[1:])) else f"should be {words} {word[1:]}, but got {value}"
        if ".." in word:
            low, high = map(int, word.split(".."))
            return "" if low <= value <= high else f"should be in range of [{low}, {high}], but got {value}"
        return "" if value in word.split("|") else f"only allows [{word.replace('|', ', ')}], but got {value}{did_you_mean(value, word.split('|'))}"

    @property
    def item(self):
        """It as it is stored until somebody changes it."""
        category, _, name = self.name.partition("/")
        said = {"category": category, "name": name, "description": self.description, "defaultValue": self.default, "value": self.default}
        return {"uuid": self.name} | {key: value for key, value in said.items() if value is not None}


@dataclass(frozen=True)
class Quota:
    """A quota of an account: how many items of a type for which a condition holds, or how much of a field of theirs.

    Its default is the global configuration of that name in the category quota.
    """

    name: str
    type: str
    field: str = ""
    when: str = ""


@dataclass(frozen=True)
class TagRule:
    """When a system tag of a resource is refused: `tag` names its parts, and `when` is a condition on them."""

    type: str
    tag: str
    when: str
    details: str


@dataclass(frozen=True)
class Provider:
    """A provider of network services that every cloud has."""

    type: str
    services: tuple[str, ...]


@dataclass(frozen=True)
class Struct:
    """A class of objects that no query reaches: they are only parts of answers."""

    name: str
    java: str
    field_words: tuple[str, ...]
    holds: tuple[str, ...] = ()

    @functools.cached_property
    def fields(self):
        return typed(self.field_words)


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


# ---- The words of rows ---------------------------------------------------------------------------------------------

# Most of what a call does beyond its verb is one of few things, and so is why it is refused. A row says them in these words.
#
# A name is a parameter of the call or, where it has none of that name, a field of the item it is about; `its.name` is the field
# in any case. A dot goes on to what a uuid leads to: vmNicUuid.ip. `caller` is the account that calls, `now` a date,
# configured.vm.numa a global configuration. A value begins with a capital (Enabled), a digit or a quote ('https',
# '/a/{its.uuid}'), or is true, false, none.
#
# conditions   vmNicUuid          something is there            no vmNicUuid        nothing is there
#              state is A|B       it is one of them             state is not A|B    it is there, and none of them
#              a in b, a not in b: a list, a network '10.0.0.0/8', a range '{a}-{b}'; a > b, a < b; A and B: both
#              some User name accountUuid=caller    there is a User with that name and account; no User …: there is none
#              dns is not IPv4    a form of text (FORMS)             several a        a list has more than one
# effects      state = Stopped    sets a field of the item, or of what a uuid leads to: vipUuid.useFor = Eip
#              port ?= otherPort  sets what is not there yet
#              dns + dns          one more in a list; dns - dns: one less
#              add Ref a=b c      a new item of another type, where all its values are there (a=b|c: b, or else c)
#              drop Ref a=b c     those with these values go
#              remove             the item goes, with all that dies with it
#              tag a::{b}         its system tag that begins with a::, one for each; tag once a::{b}: if it has none; untag a::
#              when A: B          an effect where a condition holds
#              enough if A        where a condition holds, that was all
#              nothing            only the inventory is answered
#              stage copy: Copy   time passes under that sentence, then the item is read anew
#              prepared           ends what comes before the first stage
#              other words are functions: see `effect`
# a Get's      only A; B          the items of a type for which the conditions hold
#              tells a:bool b::   what its system tag says that begins with b::, as that type; a:int=5: or else that; more after ";"
#              always A B         these values; or JSON
#              whether a: A; b: B which of the conditions hold       whether A        if it does
#              sums A b=c d=e     what the items of a type have together: those whose c is among the b that are given, or else e among the d, or else all
#
# Effects are separated by "; ". They stand in place of what the verb does, but Create, Add, Update and Change…State do both.
# A rule that names a list is for each of its elements, one that names services.key or services.value for each entry of a map.
# Refusals are (condition, code, text); an SYS.1007 that speaks of nothing but parameters is an illegal parameter.

# ---- Catalogue: the tables -----------------------------------------------------------------------------------------

VARIABLE, PARTLY, HERE = object(), object(), object()  # in the tree of paths: any part, parts that begin and end alike, what is here
TABLES = {"apis": Api, "inventories": Resource, "structs": Struct, "enums": Enum, "configurations": Configuration,
          "errors": ErrorCode, "quotas": Quota, "tags": TagRule, "providers": Provider}  # fmt: skip
SPELLED = {"fields": "field_words", "relations": "relation_words"}  # keys of records that are properties here
UNSPELLED = {name: key for key, name in SPELLED.items()}


class Catalogue:
    """What ZStack 2.5.1 is, read from data/catalogue.json: APIs, resources, configurations, error codes, quotas.

    Raise SettingsError for a file that is no catalogue, and for a wrong record, which it names.
    """

    def __init__(self, file):
        tables = {table: read_rows(file, table, records) for table, records in read_tables(file).items()}
        self.structs = {row.name: row for row in tables["structs"]}
        self.configurations = {row.name: row for row in tables["configurations"]}
        self.errors = {row.code: row.description for row in tables["errors"]}
        self.quotas = {row.name: row for row in tables["quotas"]}
        self.tag_rules, self.providers = tables["tags"], tables["providers"]
        self.resources = with_indexes(with_subtypes(file, tables["inventories"]))
        self.owned = {row.name: row for row in self.resources.values() if row.owner}
        self.referenced = [row.name for row in self.resources.values() if (row.owner or row.account) and not row.unreferenced]
        self.embedded = {row.name: {name: self.resources[row.relations[name].target] for name in row.embeds} for row in self.resources.values()}
        self.subtypes = self.by_parent()
        self.dependents = self.by_what_they_depend_on()
        self.collections = {row.path: row for row in self.resources.values() if row.path}
        self.classes = java_classes(self.resources, self.structs, tables["enums"])
        self.apis = {api.name: api for api in tables["apis"]}
        self.roots = {}
        for api in self.apis.values():
            with about_row(file, f"apis, {api.name}"):
                api.resources, api.members = self.resources, self.answered(api)
                for path in api.paths:
                    self.add_route(path, api)

    def by_parent(self):
        """Return the subtypes of each resource by the value of its discriminator: {"BackupStorage": {"Ceph": Resource}}."""
        subtypes = defaultdict(dict)
        for row in self.resources.values():
            value = row.only.get(self.resources[row.of].discriminator) if row.of else None
            if value:
                subtypes[row.of].setdefault(value, row)
        return subtypes

    def as_told(self, row, item):
        """Return the row that shows an item: the one of its subtype, where the item is looked at as one of many."""
        return self.subtypes[row.name].get(text_of(item.get(row.discriminator)), row)

    def by_what_they_depend_on(self):
        """Return, by the type of an item that goes, (type, key, lost) of each dependent: without `lost` it goes too, else it loses these fields."""
        dependents = defaultdict(list)
        for row in self.resources.values():
            words = [(word, ()) for word in row.dies_with]
            words += [(word.split(",")[0], [name.split(":")[0] for name in word.split(",")]) for word in row.outlives]
            for (key, _, named), lost in ((word.partition(":"), lost) for word, lost in words):
                for type in (named or row.leads.get(key, "")).split("|"):
                    if type in self.resources:
                        dependents[self.resources[type].stored].append((row.name, key, lost))
        return dependents

    def embedded_in(self, row):
        """Return the resources whose inventories are shown inside those of another and of its subtypes, at any depth."""
        kinds = (row, *self.subtypes[row.name].values())
        children = {child.name: child for kind in kinds for child in self.embedded[kind.name].values() if child is not row}
        return [inner for child in children.values() for inner in (child, *self.embedded_in(child))]

    def answered(self, api):
        """Return the members of an API's answer that hold objects.

        "inventory:Zone" is one zone, "inventories:Zone" a list of zones.
        """
        members = members_of(api.holds, self.classes, api.name)
        for member, _, type in (word.partition(":") for word in api.answers.split()):
            if java := self.classes.get(type):
                members[member] = Member(java, not member.lower().endswith("inventory"))
        if api.kind == "Query" and "inventories" in members:
            members["inventory"] = Member(members["inventories"].java)  # dialect row get-one
        return members

    def add_route(self, path, api):
        node = self.roots
        for part in path.lstrip("/").split("/"):
            begin, variable, end = re.fullmatch(r"([^{]*)(?:{(\w+)}(.*))?", part).groups()
            if variable and (begin or end):
                node = node.setdefault(PARTLY, {}).setdefault((begin, end), {})
            else:
                node = node.setdefault(VARIABLE if variable else part, {})
        node.setdefault(HERE, []).append((api, re.findall(r"{(\w+)}", path)))

    def values_of(self, row, name):
        """Return the values that a field of a resource can have, where they are known."""
        return row.values.get(name) or self.resources[row.stored].values.get(name, ())

    def route(self, path):
        """Return the APIs of a path with the values of its variables: [(api, {"uuid": ...})]; a literal beats a variable."""
        apis, values = self.walk(self.roots, path.lstrip("/").split("/"))
        return [(api, dict(zip(names, values))) for api, names in apis]

    def walk(self, node, parts):
        if not parts:
            return node.get(HERE, []), []
        part, *rest = parts
        if part in node and (literal := self.walk(node[part], rest))[0]:
            return literal
        for (begin, end), inner in node.get(PARTLY, {}).items():
            if len(part) > len(begin + end) and part.startswith(begin) and part.endswith(end):
                apis, values = self.walk(inner, rest)
                if apis:
                    return apis, [part[len(begin) : len(part) - len(end)], *values]
        if VARIABLE not in node or not part:
            return [], []
        apis, values = self.walk(node[VARIABLE], rest)
        return apis, [part, *values]

    def resource(self, name):
        return self.resources.get(name)

    def of_vo(self, vo):
        """Return the resource that ZStack calls ZoneVO, or None."""
        return self.resources.get(vo.removesuffix("VO")) if vo.endswith("VO") else None

    def error_body(self, error):
        """Return an ApiError as answers show it: {"code", "description", "details"[, "cause"]} (manual 3.4)."""
        body = {"code": error.code, "description": self.errors.get(error.code, error.code), "details": error.details}
        return body | ({"cause": self.error_body(error.cause)} if error.cause else {})


# reading


def read_tables(file):
    """Return the records of each table of a catalogue file: {"apis": [{...}]}. Raise SettingsError where it is no catalogue."""
    try:
        tables = json.loads(Path(file).read_text(encoding="utf-8-sig"))
        for name in TABLES:
            if not isinstance(tables[name], dict):
                raise ValueError(f"{name} is no table of records by number")
        return {name: [*tables[name].values()] for name in TABLES}
    except FileNotFoundError:
        raise SettingsError(f"{file} is missing: it holds the APIs, and belongs in data/ beside zmock.py; get it from where zmock.py came from") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{file} is not a catalogue ({error!r}); get it anew from where zmock.py came from") from None


@contextlib.contextmanager
def about_row(file, name):
    """Turn an exception of a wrong record into a SettingsError that names the record."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, re.error) as error:
        told = str(error) if isinstance(error, ValueError) else repr(error)
        raise SettingsError(f"{file}, {name}: {told}") from None


def is_texts(value):
    return isinstance(value, list) and {*map(type, value)} <= {str}


def is_object_of_texts(value):
    return isinstance(value, dict) and {*map(type, value.values())} <= {str}


SHAPES = {  # how a JSON value of a column is told, by the type of the column, and the words for it
    str: (lambda value: isinstance(value, str), "a text"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    dict: (lambda value: isinstance(value, dict), "an object"),
    tuple[str, ...]: (is_texts, "a list of texts"),
    tuple[tuple[str, ...], ...]: (lambda value: isinstance(value, list) and all(map(is_texts, value)), "a list of lists of texts"),
    dict[str, str]: (is_object_of_texts, "an object of texts"),
    str | dict[str, str]: (lambda value: isinstance(value, str) or is_object_of_texts(value), "a text, or an object of texts"),
    Any: (lambda value: True, "any JSON value"),
}


def read_rows(file, table, records):
    """Return the rows of a table."""
    row_class = TABLES[table]
    columns = {UNSPELLED.get(column.name, column.name): column for column in fields(row_class) if column.repr}
    types = get_type_hints(row_class)
    shapes = {key: SHAPES.get(types[column.name], SHAPES[Any]) for key, column in columns.items()}
    needed = {key for key, column in columns.items() if column.default is column.default_factory is MISSING}
    rows = []
    for record in records:
        try:
            check_record(record, shapes, needed)
        except ValueError as error:
            raise SettingsError(f"{file}, {table}, {name_of(record)}: {error}") from None
        values = {SPELLED.get(key, key): value if types[columns[key].name] is Any else tupled(value) for key, value in record.items()}
        rows.append(row_class(**values))
    return rows


def name_of(record):
    """Return what tells a record from others of its table."""
    name = record.get("name", record.get("code", record)) if isinstance(record, dict) else record
    return name if isinstance(name, str) else json.dumps(name)[:80]


def check_record(record, shapes, needed):
    """Raise ValueError for a record that is no object, lacks a key, or has one that is unknown or of another type."""
    if not isinstance(record, dict):
        raise ValueError("a record is a JSON object")
    for key, value in record.items():
        if key not in shapes:
            raise ValueError(f"there is no key {key[:80]!r}{did_you_mean(key, shapes)}")
        is_right, words = shapes[key]
        if not is_right(value):
            raise ValueError(f"{key} is {words}, not {json.dumps(value)[:80]}")
    for key in sorted(needed - record.keys()):
        raise ValueError(f"{key} is missing")


def tupled(value):
    """Return lists as tuples, at any depth: rows are never changed."""
    if isinstance(value, dict):
        return {key: tupled(inner) for key, inner in value.items()}
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def with_subtypes(file, rows):
    """Return {name: Resource} in which a subtype has the fields and relations of its parent too, and the parent knows its kinds."""
    complete = {}
    for row in rows:
        with about_row(file, f"inventories, {row.name}"):
            add_with_parent(complete, row)
            _ = row.all_fields, row.relations, row.leads, row.inside and row.place  # a text that cannot be read is told of this row
    for row in complete.values():
        with about_row(file, f"inventories, {row.name}"):
            refuse_loose_ends(row, complete)
    return complete


def add_with_parent(complete, row):
    """Add a row; a subtype gets what its parent has, and the parent and its own parent learn of the kind."""
    if row.of:
        if row.of not in complete:
            raise ValueError(f"of: there is no resource {row.of}{did_you_mean(row.of, complete)}")
        parent = complete[row.of]
        if parent.discriminator:
            kinds = dict.fromkeys(row.only[parent.discriminator].split("|"), (row.java, *row.field_words))
            complete[parent.name] = replace(parent, kinds=parent.kinds | kinds)
        if parent.of and (root := complete[parent.of]).discriminator:  # a subtype of a subtype
            kind = parent.only[root.discriminator]
            complete[root.name] = replace(root, kinds=root.kinds | {kind: (*root.kinds[kind], *row.field_words)})
        row = replace(row, of=parent.stored, field_words=parent.field_words + row.field_words, joined=parent.joined + row.joined,
                      relation_words=parent.relation_words + row.relation_words, holds=parent.holds + row.holds)  # fmt: skip
    complete[row.name] = row


def refuse_loose_ends(row, rows):
    """Raise ValueError for a relation to a resource that is not there, or through a relation that the row has not."""
    for relation in row.relations.values():
        if relation.via and relation.via[0] not in row.relations:
            raise ValueError(f"relation {relation.name}: there is no relation {relation.via[0]}{did_you_mean(relation.via[0], row.relations)}")
        if not relation.via and relation.target not in rows:
            raise ValueError(f"relation {relation.name}: there is no resource {relation.target}{did_you_mean(relation.target, rows)}")


def with_indexes(rows):
    """Return the rows with all fields indexed by which others find their items: ends of relations, and their owner."""
    for row in rows.values():
        if row.owner:
            rows[row.name] = replace(row, dies_with=(*row.dies_with, "owner:Account"), indexed=(*row.indexed, "owner"))
    ends = defaultdict(set)
    for relation in (relation for row in rows.values() for relation in row.relations.values() if relation.target):
        ends[rows[relation.target].stored].add(relation.theirs)
    for place in (row.place for row in rows.values() if row.inside):
        ends[place.owner].add(place.index)
    return {name: replace(row, indexed=(*row.indexed, *sorted(ends[row.stored] - row.indexes))) for name, row in rows.items()}




def java_classes(resources, structs, enums):
    """Return the Java classes by their names in rows: Zone, PolicyStatement, LongJobState."""
    classes = {}
    for enum in enums:
        classes[enum.name] = JavaClass(enum.java, constants=enum.constants)
    classes |= {name: JavaClass(struct.java) for name, struct in structs.items()}
    classes |= {name: JavaClass(row.java, row.discriminator) for name, row in resources.items()}
    by_java = {java.name: java for java in classes.values()}
    for name, row in structs.items():
        if name not in resources:
            classes[name].members |= members_of(row.holds, classes, name)
    for name, row in resources.items():
        for member in row.embeds:
            classes[name].members[member] = Member(classes[row.relations[member].target], many=True)
        classes[name].members |= members_of(row.holds, classes, name)
        for kind, (java, *_) in row.kinds.items():
            subclass = by_java.get(java) or JavaClass(java, members=classes[name].members)
            classes[name].kinds[kind] = subclass
    return classes


def members_of(holds, classes, name):
    """Return the members in `holds` of the row `name`. Raise SettingsError for an unknown class.

    "dns:[VpcRouterDns]" -> {"dns": Member(<VpcRouterDnsInventory>, many=True)}
    """
    members = {}
    for word in holds:
        member, _, type = word.partition(":")
        class_name = type.strip("[]")
        if class_name not in classes:
            told = f"the row {name} of the catalogue holds {word}, which is no class"
            raise SettingsError(told + did_you_mean(class_name, classes))
        members[member] = Member(classes[class_name], type.startswith("["))
    return members


def schema_of(body, members):
    """Return the Java class of each object in an answer: {"inventory": "org....ZoneInventory"}.

    An object comes before the objects in it: the SDK replaces them in this order (ApiResult.java).
    Enums are listed too. Maps at the top of an answer are not listed, nor is what they hold
    (JsonSchemaBuilder.java).
    """
    schema = {}
    note_members(schema, "", body, members)
    return schema


def note_members(schema, prefix, item, members):
    """Add the classes of an object's members to a schema, at any depth."""
    for name, member in members.items():
        value, path = item.get(name), prefix + name
        if not member.many:
            note_value(schema, path, value, member.java)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                note_value(schema, f"{path}[{index}]", inner, member.java)


def note_value(schema, path, value, java):
    """Add the class of an object or of an enum's constant to a schema; ignore any other value."""
    if isinstance(value, dict):
        java = java.of(value)
        schema[path] = java.name
        note_members(schema, f"{path}.", value, java.members)
    elif value in java.constants:
        schema[path] = java.name


# ---- Files -------------------------------------------------------------------------------------------------------

FORMAT = 2  # of the files; a newer one is refused
HEAD, TAIL = b'{"_default":{\n', b"}}\n"
SLICE, PAUSE = 400, 0.001  # objects that are folded at a stretch, and seconds until the next: requests are answered meanwhile
LEDGER_MOST = 16 << 20  # bytes; a longer ledger is folded though it is not quiet
OWN_TYPES = {"Job", "Mock", "Gone", "Rule"}  # that are no resources: api-jobs, the mock itself, uuids that are never free again, fault rules
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
ESCAPED = json.JSONEncoder(separators=(",", ":"))


def to_json(value):
    try:
        return COMPACT.encode(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return ESCAPED.encode(value).encode()


def to_line(number, item):
    """Return an object as a line of a TinyDB file, in ASCII as TinyDB writes it: b'"1":{"uuid":"a"}'."""
    return b'"%d":%b' % (number, ESCAPED.encode(item).encode())


def in_ascii(line):
    """Escape what is not ASCII in a line of JSON that an older zmock wrote."""
    if line.isascii():
        return line
    escaped = re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], line.decode())
    return escaped.encode()


ATOMS = (str, int, float, bool, type(None))


def refuse_change(self, *arguments, **named):
    """Raise TypeError: the start of the cloud, snapshots and what undoes a job hold this item too."""
    raise TypeError("a stored item is read-only; store.update() puts a changed one in its place")


class FrozenDict(dict):
    """A stored item, or a map inside one. Nothing changes it; its copies are plain dicts."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = refuse_change
    clear = pop = popitem = setdefault = update = refuse_change

    def __reduce__(self):
        return dict, (dict(self),)


class FrozenList(list):
    """A list inside a stored item. Nothing changes it; its copies are plain lists."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refuse_change
    append = clear = extend = insert = pop = remove = reverse = sort = refuse_change

    def __reduce__(self):
        return list, (list(self),)


SOLID = {*ATOMS, FrozenDict, FrozenList}


def frozen(value):
    """Return a value that nothing changes: frozen copies of dicts and lists, at any depth.

    All state that outlives a call is frozen, so that several holders may share it.
    """
    if type(value) in SOLID:
        return value
    if isinstance(value, dict):
        copy = FrozenDict(value)
        if not SOLID.issuperset(map(type, value.values())):  # most items are flat, and this test is quick
            for key, inner in value.items():
                dict.__setitem__(copy, key, frozen(inner))
        return copy
    return FrozenList(map(frozen, value)) if isinstance(value, (list, tuple)) else value


class Broken(Exception):
    """A file that TinyDB cannot read, or in which an object is none; says where."""

    def __init__(self, path, line, column, what):
        super().__init__(f"{path}, line {line}, column {column}: {what}")


class Foreign(Exception):
    """A file whose objects do not stand on a line each, in ASCII."""


@contextlib.contextmanager
def in_place_of(path):
    """A file beside it, which takes its place when it is complete."""
    beside = path.with_suffix(".tmp")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the next one writes over it, and a start removes it
            beside.unlink(missing_ok=True)
        raise


class AtomicJson(Storage):
    """TinyDB's storage of one file, an object a line, that is replaced whole: whoever reads it finds the old state or the new one."""

    def __init__(self, path):
        self.path, self.twice = Path(path), 0  # how many of its objects have the number of another
        self.is_ascii = True  # as documents() found it

    def read(self):
        return json.loads(self.path.read_text(encoding="utf-8-sig")) if self.path.exists() else None

    def write(self, data):
        self.replace(to_line(int(number), item) for number, item in data["_default"].items())

    def replace(self, lines, pause=lambda: None, spare=None):
        """Writes objects, each b'"1":{...}', in the place of what there was; a spare is a copy elsewhere, made then."""
        with in_place_of(self.path) as beside:
            self.write_lines(beside, lines, pause)
        if spare:
            copy_over(self.path, spare)

    @staticmethod
    def write_lines(path, lines, pause):
        with open(path, "wb", 1 << 20) as file:
            file.write(HEAD)
            for count, line in enumerate(lines):
                file.write(b",\n" + line if count else line)
                if count % SLICE == 0:
                    pause()
            file.write(TAIL if file.tell() == len(HEAD) else b"\n" + TAIL)
            file.flush()
            sync(file.fileno(), path.parent)

    def lines(self):
        """Its objects as they stand in it: (1, b'"1":{...}')."""
        with open(self.path, "rb") as file:
            head = file.readline()
            for line in file:
                found = re.match(rb'"([0-9]+)":\{', line)
                if line == TAIL and head == HEAD:
                    return
                whole = line.endswith((b"}\n", b"},\n")) and line.isascii()
                if not found or head != HEAD or not whole:
                    break
                yield int(found[1]), line.rstrip(b",\n")
        raise Foreign

    def parsed_lines(self):
        """The same of a file that somebody else wrote."""
        for number, item in self.documents().items():
            yield number, to_line(number, item)

    def documents(self):
        """Its objects by number: {1: {"uuid": ...}}."""
        text = self.path.read_bytes()
        self.is_ascii, text = text.isascii(), text.removeprefix(codecs.BOM_UTF8)
        try:
            tables = json.loads(text.decode(), object_pairs_hook=with_all)
        except json.JSONDecodeError as error:
            raise Broken(self.path, error.lineno, error.colno, error.msg) from None
        except UnicodeDecodeError as error:
            raise Broken(self.path, *where_in(text, error.start), "this is no UTF-8") from None
        except RecursionError:
            raise Broken(self.path, 1, 1, "nested too deeply") from None
        except ValueError as error:  # a number of thousands of digits
            raise Broken(self.path, 1, 1, str(error)) from None
        found = tables.get("_default", {}) if isinstance(tables, dict) else None
        if not isinstance(found, dict):
            raise Broken(self.path, 1, 1, 'a TinyDB file is {"_default": {"1": {...}}}')
        pairs = found.pairs if isinstance(found, Twice) else [*found.items()]
        for number, item in pairs:
            is_number = number.isascii() and number.isdecimal() and len(number) < 19
            if not (is_number and isinstance(item, dict) and type(item.get("uuid")) is str):
                what = f"object {number} has no uuid" if is_number else f"{number[:40]!r} is no number of an object"
                raise Broken(self.path, *where_in(text, text.find(to_json(number))), what)
        numbered = {int(number): item for number, item in pairs}
        self.twice = len(pairs) - len(numbered)
        return renumbered(pairs) if self.twice else numbered


class Twice(dict):
    """An object of JSON in which a key stands twice."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.pairs = pairs


def with_all(pairs):
    """An object of JSON, frozen; one of objects of the cloud with all that share a number too."""
    found = FrozenDict(pairs)
    objects = (isinstance(item, dict) and "uuid" in item for _, item in pairs)
    if len(found) < len(pairs) and all(objects):
        return Twice(pairs)
    for key, value in pairs:
        if type(value) is list:
            dict.__setitem__(found, key, frozen(value))
    return found


def renumbered(pairs):
    """Objects by number; of those that share one the last has it, and the others get new ones."""
    found, others = {}, []
    for number, item in pairs:
        others += [found[int(number)]] if int(number) in found else []
        found[int(number)] = item
    return found | dict(enumerate(others, max(found) + 1))


def where_in(text, at):
    """Line and column of a byte."""
    return text.count(b"\n", 0, at) + 1, at - text.rfind(b"\n", 0, at)


UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}
FORBIDDEN = {errno.EPERM, errno.EACCES}


@contextlib.contextmanager
def if_supported(what, folder, refusals=UNSUPPORTED):
    """Go on where a filesystem lacks an operation, as those of networks and containers may; warn once."""
    try:
        yield
    except OSError as error:
        if error.errno not in refusals:
            raise
        warn_unsupported(what, folder, error.strerror)


@functools.cache
def warn_unsupported(what, folder, reason):
    log.warning("the filesystem of %s does not support %s (%s)", folder, what, reason)


def copy_over(source, target):
    """A copy in the place of whatever there was, with the same date."""
    with in_place_of(target) as beside:
        copy_with_date(source, beside)


def copy_with_date(source, target):
    """Copy a file and its date, by which same() knows the copy."""
    shutil.copyfile(source, target)
    stat, refusals = os.stat(source), UNSUPPORTED | FORBIDDEN
    with if_supported("dates of files: a start reads all of them as edited", target.parent, refusals):
        os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def same(path, other):
    """Whether one is still the copy of the other."""
    one, two = (p.stat() if p.exists() else None for p in (path, other))
    return one and two and (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)


def sync(number, folder):
    """Have an open file or folder reach the disk."""
    with if_supported("fsync: a power cut may take the latest changes", folder):
        os.fsync(number)


def sync_folder(path):
    """Has the names in a folder reach the disk; Windows does it by itself."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(path, os.O_DIRECTORY)
        try:
            sync(number, path)
        finally:
            os.close(number)


# A ledger is commits one after the other. One is [Zone] and the objects of that type that it changed, a line each as in the TinyDB file,
# "7":null for one that is gone; [clear] before them if nothing stays of what there was; and [commit ...] with the checksum of it all.
SEAL = b"[commit %08x]\n"


def sealed(text):
    return text + SEAL % zlib.crc32(text)


def commits(text):
    """The commits of a ledger's text, None in the place of a damaged one; what has no end is none."""
    begin, found = 0, []
    while (end := text.find(b"\n[commit ", max(0, begin - 1)) + 1) and text.find(b"\n", end) > 0:
        body, after = text[begin:end], text.find(b"\n", end) + 1
        found.append(body if text[end:after] == SEAL % zlib.crc32(body) else None)
        begin = after
    if found and found[-1] is None and begin == len(text):  # as far as the disk came; it may break off once
        found.pop()
    return found


def lay_over(changes, commit):
    """Adds what a commit says to {type: {number: line}}; answers whether it clears what was before."""
    cleared = commit.startswith(b"[clear]\n")
    if cleared:
        changes.clear()
    for line in commit.splitlines()[cleared:]:
        if line.startswith(b"["):
            lines = changes.setdefault(line[1:-1].decode(), {})
        else:
            lines[int(line[1 : line.index(b'"', 1)])] = in_ascii(line)
    return cleared


def stays(line):
    return not line.endswith(b":null")


def merged(lines, changes):
    """The lines of a file with changes laid over them, by number."""
    left = dict(changes)
    for number, line in lines:
        line = left.pop(number, line)
        if stays(line):
            yield line
    yield from (line for _, line in sorted(left.items()) if stays(line))


class Ledger:
    """A file to which commits are appended: each is on the disk when append() returns.

    One for which it raises is taken off again, at once or before the next; a disk that refuses both, and a kill then, leave it there.
    """

    def __init__(self, path):
        self.path, self.end = path, 0
        self.file = open(path, "xb", buffering=0)  # noqa: SIM115 (open until it is full)

    def __del__(self):
        """Close the file when nobody looks at it any more: a fold lets go of a ledger that another thread may be reading."""
        if hasattr(self, "file"):  # open() may have failed
            self.file.close()

    def append(self, text, durable):
        try:
            self.write(text)
            if durable:
                sync(self.file.fileno(), self.path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # else the next one does it, or fails
                self.file.truncate(self.end)
            raise
        self.end += len(text)

    def write(self, text):
        self.cut()
        self.file.seek(self.end)
        left = memoryview(text)
        while left:
            left = left[self.file.write(left) :]

    def cut(self):
        """Take off what an append that failed has left."""
        if os.fstat(self.file.fileno()).st_size != self.end:
            self.file.truncate(self.end)

    def close(self):
        self.file.close()


def is_removed(file):
    """Whether somebody has removed an open file."""
    return os.fstat(file.fileno()).st_nlink == 0


# ---- Files: the folder -------------------------------------------------------------------------------------------


class Folder:
    """A cloud on the disk: a TinyDB file per type, a spare of each, and the ledger of what is not in them yet.

    append() commits, fold() brings the ledger into the files; both may run in threads, also at the same time.
    """

    def __init__(self, path, durable=True):
        self.path, self.spares, self.durable = Path(path), Path(path) / ".spare", durable
        self.ledger, self.numbers = None, itertools.count(1)
        self.names = set()  # of the files that must be there
        self.unspared = set()  # types whose file is not as its spare (it was edited, or has none), or not in ASCII
        self.appending, self.folding, self.hurry = threading.Lock(), threading.Lock(), threading.Event()
        self.lock = None

    def open(self):
        """Takes the folder for this process."""
        try:
            self.begin()
        except BlockingIOError as error:
            raise SettingsError(f"{error.strerror}; stop it, or choose another with --data") from None
        except OSError as error:
            raise SettingsError(f"cannot use the data folder {self.path}: {error.strerror}; choose another with --data, or --memory") from None

    def begin(self):
        """Makes and locks the folder, from which nothing is missing then."""
        self.spares.mkdir(parents=True, exist_ok=True)
        if not self.lock or is_removed(self.lock) or ".lock" in self.missing():
            before, self.lock = self.lock, locked(self.path)
            if before:
                before.close()
        self.names = self.names - self.missing() | {".lock", ".spare"}
        self.close_ledger()

    def close_ledger(self):
        if self.ledger:
            ledger, self.ledger = self.ledger, None
            ledger.close()

    def is_lost(self):
        """Whether somebody has removed the folder, or something in it that is needed."""
        with self.appending:  # lest another thread close the ledger meanwhile
            return self.lacks_something()

    def lacks_something(self):
        files = [self.lock, *([self.ledger.file] if self.ledger else ())]
        return any(map(is_removed, files)) or any(not (self.path / name).exists() for name in self.missing())

    def missing(self):
        """Return the names of needed files that are not there; OSError where that cannot be known."""
        try:
            return self.names - set(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return set(self.names)

    # reading

    def load(self, known):
        """What is kept, {type: {number: item}}, and a line for each thing that was not as it should be."""
        told = []
        try:
            names = {*matching_names(self.path, r".+\.json"), *matching_names(self.spares, r".+\.json")}
            files = {Path(name).stem: AtomicJson(self.path / name) for name in sorted(names)}
            for file in (file for type, file in files.items() if type not in known):
                raise SettingsError(f"{file.path} is no file of a cloud; choose another folder with --data, or move it away")
            self.refuse_newer(files.get("Mock"))
            for left in (folder / f"{type}.tmp" for folder in (self.path, self.spares) for type in known):
                left.unlink(missing_ok=True)
            found = {type: self.read(file, told) for type, file in files.items()}
            self.names |= names
            return self.replay(found, told), told
        except OSError as error:
            where = error.filename or self.path
            raise SettingsError(f"cannot read {where}: {error.strerror}; mend it, or start with another --data") from None

    def refuse_newer(self, file):
        """Before anything is done to files that may be right for another zmock."""
        try:
            formats = [item.get("format") for item in file.documents().values()] if file else []
        except (Broken, FileNotFoundError):
            return
        newest = max((format for format in formats if type(format) is int), default=0)
        if newest > FORMAT:
            raise SettingsError(f"{self.path} was written by a newer zmock (format {newest}); use that one, or another --data")

    def read(self, file, told):
        """The objects of a file; of its spare, where it is broken."""
        spare = AtomicJson(self.spares / file.path.name)
        if not same(file.path, spare.path):
            self.unspared.add(file.path.stem)
        try:
            found = file.documents()
            if not file.is_ascii:
                self.unspared.add(file.path.stem)
            if file.twice:
                new = "it is kept under a new one" if file.twice == 1 else "they are kept under new ones"
                told.append(f"{file.path.name} holds {counted(file.twice, 'object')} with the number of another; {new}")
            return found
        except FileNotFoundError:
            broken = f"{file.path}: it is missing"
        except Broken as error:
            broken = error
        try:
            found = spare.documents()
        except (Broken, OSError):
            raise SettingsError(f"cannot read {broken}; mend or remove it, or start with another --data") from None
        aside = f"it is now {self.set_aside(file.path)}, and " if file.path.exists() else ""
        copy_over(spare.path, file.path)
        told.append(f"cannot read {broken}; {aside}the last good one is in its place")
        return found

    def set_aside(self, path):
        aside = path.with_name(f"{path.name}.corrupt-{world_stamp()}")
        copy_with_date(path, aside)
        return aside

    def replay(self, found, told):
        """Lays what the ledgers hold over what the files hold."""
        full, changes = self.ledgers(), {}
        for path in full:
            whole = commits(path.read_bytes())
            if None in whole:
                told.append(f"{path} is damaged: {whole.count(None)} of {len(whole)} commits are lost; it is kept as {self.set_aside(path)}")
            for commit in filter(None, whole):
                if lay_over(changes, commit):
                    found = {}
        self.names |= {path.name for path in full}
        self.numbers = itertools.count(max((int(path.stem) for path in full), default=0) + 1)
        for type, lines in changes.items():
            documents = json.loads(b"{%b}" % b",".join(lines.values()))
            changed = found.get(type, {}) | {int(number): item for number, item in documents.items()}
            found[type] = {number: item for number, item in changed.items() if item is not None}
        return found

    # writing

    def append(self, text, whole=False):
        """Keeps a commit; OSError where that cannot be. A whole state goes also where something was removed."""
        with self.appending:
            if whole and self.lacks_something():
                self.begin()
            if self.ledger is None:
                self.begin_ledger()
            self.ledger.append(text, self.durable)

    def begin_ledger(self):
        ledger = Ledger(self.path / f"{next(self.numbers):08d}.ledger")
        try:
            sync_folder(self.path)
        except BaseException:
            ledger.close()
            with contextlib.suppress(OSError):  # else it stays, empty, until it is folded
                ledger.path.unlink()
            raise
        self.ledger = ledger
        self.names.add(ledger.path.name)

    @property
    def is_behind(self):
        """Whether there is something to fold."""
        return bool(self.unspared) or any(name.endswith(".ledger") for name in [*self.names])

    @property
    def is_long(self):
        return bool(self.ledger) and self.ledger.end > LEDGER_MOST

    def ledgers(self):
        """Those on the disk, oldest first."""
        return sorted(self.path / name for name in matching_names(self.path, r"[0-9]{8}\.ledger"))

    def fold(self):
        """Brings the ledger into the TinyDB files, and removes it then; commits go on in another one."""
        with self.folding:
            with self.appending:
                if self.ledger:
                    self.ledger.cut()
                self.close_ledger()
                full = self.ledgers()
            changes, cleared = {}, False
            for path in full:
                for commit in filter(None, commits(path.read_bytes())):
                    cleared |= lay_over(changes, commit)
            there = {Path(name).stem for name in matching_names(self.path, r".+\.json")}
            for type in sorted(changes.keys() | (there if cleared else self.unspared)):
                self.fold_file(AtomicJson(self.path / f"{type}.json"), changes.get(type, {}), cleared)
            self.unspared.clear()
            sync_folder(self.path)
            for path in full:
                self.remove_ledger(path)

    def remove_ledger(self, path):
        self.names.discard(path.name)  # before it is gone, or it would be missed
        try:
            path.unlink(missing_ok=True)
        except BaseException:
            self.names.add(path.name)
            raise

    def fold_file(self, file, changes, cleared):
        """What is missing though it must be there is an error, or its objects would be forgotten."""
        none = cleared or file.path.name not in self.names
        for lines in (file.parsed_lines,) if file.path.stem in self.unspared else (file.lines, file.parsed_lines):
            with contextlib.suppress(Foreign):
                file.replace(merged(() if none else lines(), changes), self.pause, self.spares / file.path.name)
                break
        self.names.add(file.path.name)

    def pause(self):
        self.hurry.wait(PAUSE)

    def close(self):
        """Completes the files, and lets the folder go."""
        self.hurry.set()
        try:
            if self.is_behind:
                self.fold()
        finally:
            self.let_go()

    def let_go(self):
        """Close the folder as it is."""
        self.close_ledger()
        if self.lock:
            self.lock.close()

    def __del__(self):
        self.let_go()  # of a mock that was made, and never ran


def matching_names(folder, pattern):
    """Return the names in a folder that match. Raise OSError if it cannot be read, which glob() does not."""
    return [name for name in os.listdir(folder) if re.fullmatch(pattern, name)]


def locked(folder):
    """Return the lock file of a folder, held until it is closed."""
    file = open(folder / ".lock", "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 (held on)
    try:
        lock_file(file, folder)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    except BaseException:
        with contextlib.suppress(OSError):  # closing tries to write again, fails, and closes nevertheless
            file.close()
        raise
    return file


def lock_file(file, folder):
    """Refuses a folder that another process uses, naming that process."""
    try:
        import fcntl
    except ImportError:  # Windows has none; there the folder is not guarded
        return
    try:
        with if_supported("locks: nothing keeps a second zmock from writing there too", folder):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise BlockingIOError(errno.EWOULDBLOCK, f"{folder} is in use by another zmock (process {holder})") from None


class Snapshots:
    """Named copies of a whole state {type: {number: item}}: folders of TinyDB files, or in memory without a folder."""

    def __init__(self, folder=None):
        self.folder, self.held = folder, {}

    def names(self):
        if not self.folder:
            return sorted(self.held)
        names = {*self.entries(r"[^.].*"), *self.left_as(".old")}
        return sorted(name for name in names if self.place(name).is_dir())

    def entries(self, pattern):
        return matching_names(self.folder, pattern) if self.folder and self.folder.exists() else []

    def left_as(self, end):
        """Return the names of which a kill or a failure has left .name.tmp or .name.old."""
        return [name[1 : -len(end)] for name in self.entries(rf"\..+\{end}")]

    def place(self, name):
        """Return the folder of a snapshot: .name.old until another one has taken its place."""
        target, old = self.folder / name, self.folder / f".{name}.old"
        return old if old.exists() and not target.exists() else target

    def take(self, name, documents):
        """Keep a snapshot. Where that cannot be, one of that name stays as it was."""
        if not self.folder:
            self.held[name] = documents
            return
        beside = self.folder / f".{name}.tmp"
        self.tidy()
        beside.mkdir(parents=True)
        try:
            for type, items in documents.items():
                AtomicJson(beside / f"{type}.json").write({"_default": items})
            sync_folder(beside)
            self.put_in_place(beside, self.folder / name, self.folder / f".{name}.old")
        finally:
            self.tidy_if_possible()

    def put_in_place(self, beside, target, old):
        try:
            if target.exists():
                os.replace(target, old)
            os.replace(beside, target)
            sync_folder(self.folder)
        except BaseException:
            with contextlib.suppress(OSError):  # place() finds the old one nevertheless
                if not beside.exists():
                    os.replace(target, beside)
                if old.exists():
                    os.replace(old, target)
            raise

    def tidy(self):
        """Takes away what one that was killed left: .one.tmp is waste; .one.old is the snapshot until another one has its place."""
        for name in self.left_as(".old"):
            old, target = self.folder / f".{name}.old", self.folder / name
            shutil.rmtree(old) if target.exists() else os.replace(old, target)
        for name in self.left_as(".tmp"):
            shutil.rmtree(self.folder / f".{name}.tmp")

    def tidy_if_possible(self):
        """Tidy up where leftovers do no harm; the next snapshot that is taken or dropped tries it again."""
        try:
            self.tidy()
        except OSError as error:
            log.warning("cannot tidy up the snapshots: %s", error)

    def documents(self, name):
        """The state that was copied; Broken or OSError where its files cannot be read."""
        if not self.folder:
            return self.held[name]
        place = self.place(name)
        files = [AtomicJson(place / file) for file in sorted(matching_names(place, r".+\.json"))]
        return {file.path.stem: file.documents() for file in files}

    def drop(self, name):
        if not self.folder:
            self.held.pop(name, None)
        elif self.place(name).exists():
            self.tidy()
            os.replace(self.folder / name, self.folder / f".{name}.tmp")
            self.tidy_if_possible()


# ---- Store -------------------------------------------------------------------------------------------------------

def clone(item):
    """A copy that shares nothing that could be changed."""
    return {key: value if type(value) in ATOMS else copied(value) for key, value in item.items()}


def copied(value):
    if isinstance(value, dict):
        return clone(value)
    return [copied(one) for one in value] if isinstance(value, (list, tuple)) else value


def without_nulls(item):
    return {key: value for key, value in item.items() if value is not None}


def letters(value):
    """A value as MySQL's utf8_general_ci compares it letter by letter: capitals without accents."""
    text = value if type(value) is str else text_of(value)
    if text.isascii():
        return text.upper()
    bare = "".join(c for c in unicodedata.normalize("NFD", text.replace("ß", "s").upper()) if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", bare)


def folded(value):
    """A value as that collation compares and sorts it whole: trailing spaces are insignificant."""
    return letters(value).rstrip(" ")


def each(item, key):
    """What an item has at a key, one by one: a value, those of a list, or of a list of references, "backupStorageRefs.status".

    A plain text in a list of references is the reference itself.
    """
    if "." in key:
        name, _, inner = key.partition(".")
        rows = (row if isinstance(row, dict) else {inner: row} for row in item.get(name, ()))
        return [row[inner] for row in rows if row.get(inner) is not None]
    value = item.get(key)
    return value if isinstance(value, list) else () if value is None else (value,)


class Table:
    """The items of one type in memory: by uuid, and by the fields that its row names, from the first time that one is asked for.

    Those of `standing` are there without being kept, until they are changed.
    """

    def __init__(self, indexed, documents=None, standing=None):
        documents = documents or {}
        self.numbers = {folded(item["uuid"]): number for number, item in documents.items()}  # what TinyDB calls a doc_id
        found = {uuid: frozen(documents[number]) for uuid, number in self.numbers.items()}
        self.items = (standing or {}) | found
        self.last = max(documents, default=0)
        self.version = object()  # another one after each change
        self.indexed = indexed
        self.indexes = {}
        self.order = None  # the uuids in MySQL's order, from the first time that it is asked for

    def put(self, uuid, item):
        """Stores an item, or takes it away where it is None; answers what was there, and its number. uuids compare without case."""
        uuid = folded(uuid)
        before = self.items.get(uuid)
        self.version = object()
        for name, index in self.indexes.items():
            if before is None or item is None or before.get(name) != item.get(name) or "." in name:
                self.reindex(index, name, uuid, before, item)
        if (before is None) != (item is None) and self.order is not None:
            self.reorder(uuid, item is None)
        if item is None:
            self.items.pop(uuid, None)
            return before, self.numbers.pop(uuid, None)
        if uuid not in self.numbers:
            self.last += 1
            self.numbers[uuid] = self.last
        self.items[uuid] = item
        return before, self.numbers[uuid]

    @staticmethod
    def reindex(index, name, uuid, before, after):
        for value in each(before, name) if before else ():
            index[folded(value)].pop(uuid, None)
            if not index[folded(value)]:
                del index[folded(value)]
        for value in each(after, name) if after else ():
            index[folded(value)][uuid] = None

    def index(self, name):
        """The uuids of the items by what they have at a key."""
        if name not in self.indexes:
            self.indexes[name] = defaultdict(dict)
            for uuid, item in self.items.items():
                self.reindex(self.indexes[name], name, uuid, None, item)
        return self.indexes[name]

    def reorder(self, uuid, gone):
        place = bisect.bisect_left(self.order, uuid)
        if gone:
            del self.order[place]
        else:
            self.order.insert(place, uuid)

    def in_order(self, start=None, stop=None):
        if self.order is None:
            self.order = sorted(self.items)
        return map(self.items.__getitem__, self.order if stop is None else self.order[start:stop])

    def documents(self):
        """Its items by number. They are frozen: a change puts another item in the place of one."""
        return {number: self.items[uuid] for uuid, number in self.numbers.items()}


class Image:
    """A whole state, {type: {number: item}}, and its commit, which is made once."""

    def __init__(self, documents):
        self.documents = documents

    @functools.cached_property
    def text(self):
        return b"[clear]\n" + b"".join(lines_of(type, items) for type, items in self.documents.items() if items)


def lines_of(type, items):
    """What a commit says of items by number; None is gone."""
    return b"[%b]\n" % type.encode() + b"".join(to_line(number, item) + b"\n" for number, item in items.items())


def undone(name, before, after, now):
    """What a field becomes when one change of several is taken back: numbers count back, others only if still as they were left."""
    was, became, is_now = before.get(name), after.get(name), now.get(name)
    if was == became:
        return is_now
    if all(type(value) in (int, float) for value in (was, became, is_now)):
        return is_now + was - became
    return was if is_now == became else is_now


# ---- Store: commits ----------------------------------------------------------------------------------------------

TICK = 0.5  # seconds of the world's time; the files are complete two ticks after the last commit


class Write:
    """One write of a Store, for all who wait for it; and what they want undone when it fails."""

    def __init__(self, store):
        self.undos, self.task = [], asyncio.ensure_future(store.write_next(self))
        self.task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits

    async def wait(self, undo=None):
        self.undos += [undo] if undo else []
        await asyncio.shield(self.task)

    async def over(self):
        """Returns when it is over, however it went."""
        await asyncio.wait([self.task])

    def undo(self, refusal):
        """Last first; one that goes wrong does not keep the others from it."""
        with contextlib.ExitStack() as stack:
            for undo in self.undos:
                stack.push(self.told)
                stack.callback(undo, refusal)

    @staticmethod
    def told(kind, error, trace):
        """Whether an undo went wrong; then that is in the log."""
        if error:
            log.error("what could not be kept could not be taken back", exc_info=error)
        return isinstance(error, Exception)


class Store:
    """Items by type and uuid. Reading never touches the disk; commit() returns when all changes before it are on it.

    It holds frozen copies of what goes in; what comes out is a copy or frozen.
    Without a folder nothing is kept.
    """

    def __init__(self, indexes, folder=None, durable=True, standing=None):
        self.indexes = indexes  # the fields to index, by type
        self.standing = standing or {}  # the items that are there from the start, by type and folded uuid
        self.path, self.folder, self.durable = folder, folder and Folder(folder, durable), durable
        self.tables, self.log = {}, None
        self.changed, self.whole = {}, None  # what the next commit says: {type: {number: uuid}}, after a whole state or none
        self.writes = 0  # how often anything was changed
        self.writing = self.waiting = None  # the Write that is under way, and the next one
        self.tending = self.ticking = None
        self.commits = self.commits_seen = 0
        self.failure = ""  # why the last look, commit or fold failed, until a commit succeeds
        self.failing, self.logged = set(), set()  # which of them failed last; the kinds of failure in the log
        self.found = []  # what was not as it should be when it was loaded
        self.watch = None  # told of each change, where somebody wants to know

    def clear(self):
        """Forgets everything; the next commit empties the files."""
        self.put_back(Image({}))

    def say_whole(self, image):
        """Has the next commit say an image, which is what there is, instead of each change."""
        self.changed, self.whole = {}, image if self.folder else None

    def put_back(self, image):
        """Has the state of an image take the place of what there is."""
        self.tables = {name: self.new_table(name, documents) for name, documents in image.documents.items()}
        self.say_whole(image)
        for write in filter(None, (self.writing, self.waiting)):
            write.undos.clear()  # nothing of it is there any more
        self.writes += 1

    def image(self):
        """The state now, as put_back() takes it."""
        return Image({name: table.documents() for name, table in self.tables.items()})

    def table(self, type):
        if type not in self.tables:
            self.tables[type] = self.new_table(type)
        return self.tables[type]

    def new_table(self, type, documents=None):
        return Table(self.indexes.get(type, ()), documents, self.standing.get(type))

    # reading

    def get(self, type, uuid):
        """A copy of the item, or None."""
        item = self.peek(type, uuid)
        return clone(item) if item is not None else None

    def peek(self, type, uuid):
        """The item itself, for looking at only."""
        return self.table(type).items.get(folded(uuid)) if isinstance(uuid, str) else None

    def spelling(self, uuid, types):
        """Return a uuid as the item of one of these types that has it spells it; else as it is."""
        key = folded(uuid)
        there = (type for type in types if type in self.tables or type in self.standing)
        found = (self.table(type).items.get(key) for type in there)
        return next((item["uuid"] for item in found if item), uuid)

    def rows(self, type):
        """All items of a type, for looking at only."""
        return self.table(type).items.values()

    def count(self, type):
        return len(self.table(type).items)

    def in_order(self, type, start=None, stop=None):
        """The items of a type by uuid, as MySQL answers without `order by`, or a page of them; for looking at only."""
        return self.table(type).in_order(start, stop)

    def find(self, type, field, value):
        """The items whose field has the value, for looking at only; without a scan where the field is indexed."""
        table = self.table(type)
        if field == "uuid":
            item = self.peek(type, value)
            return [item] if item else []
        if field in table.indexed or field in table.indexes:
            return [table.items[uuid] for uuid in table.index(field).get(folded(value), ())]
        return [item for item in table.items.values() if folded(value) in map(folded, each(item, field))]

    def how_many(self, type, field, value):
        """How many items find() would bring, of an indexed field."""
        if field == "uuid":
            return 1
        return len(self.table(type).index(field).get(folded(value), ()))

    # writing

    def put(self, type, item):
        self.change(type, item["uuid"], item)

    def update(self, type, uuid, /, **changes):
        """Changes fields; None takes a field away."""
        changed = without_nulls(self.peek(type, uuid) | frozen(changes))
        self.change(type, uuid, FrozenDict(changed))

    def remove(self, type, uuid):
        self.change(type, uuid, None)

    def change(self, type, uuid, item):
        """Puts an item in the place of one, or takes that away where it is None."""
        item = frozen(item)
        before, number = self.table(type).put(uuid, item)
        if self.folder and number:
            self.changed.setdefault(type, {})[number] = folded(uuid)
        self.writes += 1
        if self.watch:
            self.watch(type, uuid, before)
        if self.log is not None:
            self.log.append((type, uuid, before, item))

    @contextlib.contextmanager
    def all_or_nothing(self):
        """What is changed inside is taken back when an exception leaves; else the log of it is in what this yields."""
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

    def take_back(self, log):
        """Undoes changes, last first, also when others have changed the same items since: fields that they set stay."""
        for type, uuid, before, after in reversed(log):
            now = self.peek(type, uuid)
            if before and after and now:
                self.change(type, uuid, without_nulls(now | {name: undone(name, before, after, now) for name in before.keys() | after.keys()}))
            elif not (before and after):
                self.change(type, uuid, before)

    # keeping

    def open(self):
        """Takes the folder for this process and loads what is in it."""
        if not self.folder:
            return
        self.folder.open()
        with no_collection():
            documents, told = self.folder.load(self.indexes.keys() | OWN_TYPES)
            self.tables = {name: self.new_table(name, items) for name, items in documents.items()}
        twice = {name: len(items) - len(self.table(name).numbers) for name, items in documents.items()}
        for line in (*told, *(f"{name}.json holds {counted(count, 'object')} with the uuid of another; the last one counts" for name, count in twice.items() if count)):
            self.report(line)

    def report(self, line):
        """Says what is not as it should be: in the log and in /zmock/health."""
        log.error("%s", line)
        self.found.append(line)

    async def commit(self, undo=None):
        """Returns when every change before this call is on the disk; calls that come together share one write.

        When it cannot be written, undo(error) is called before anything else is, and ApiError leaves.
        """
        if self.waiting is None:
            if not self.changed and not self.whole and self.writing is None:
                return
            self.waiting = Write(self)
        if self.durable:
            await self.waiting.wait(undo)

    async def try_commit(self):
        """commit() for those whom nobody waits for: what cannot be written now goes with the next one, and is in the log."""
        with contextlib.suppress(ApiError):
            await self.commit()

    async def write_next(self, write):
        """One write, when the one before it is over."""
        if self.writing:
            await self.writing.over()
        self.writing, self.waiting = write, None
        whole, changed = None, {}
        try:
            with self.guard("commit"):
                self.look_after()
                whole, changed = self.take_changes()
                text = self.text_of(changed)
                if whole or text:
                    await asyncio.to_thread(self.write, whole, text)
        except BaseException as error:
            self.keep_for_later(whole, changed)
            if isinstance(error, ApiError):
                write.undo(error)
                self.renew_image(whole, error.__cause__)
            raise
        finally:
            self.writing = None

    @contextlib.contextmanager
    def guard(self, work):
        """Turn whatever goes wrong in a look at the folder, a commit or a fold into SYS.1016."""
        try:
            yield
        except Exception as error:
            raise ApiError("SYS.1016", self.failed(work, error)) from error
        self.succeeded(work)

    def take_changes(self):
        """Return the changes since the last call: a whole state or None, and the numbers changed after it."""
        whole, self.whole, changed, self.changed = self.whole, None, self.changed, {}
        return whole, changed

    def text_of(self, changed):
        """Return what a commit says of {type: {number: uuid}}."""
        tables = self.tables
        return b"".join(lines_of(type, {
            number: tables[type].items[uuid] if tables[type].numbers.get(uuid) == number else None for number, uuid in numbers.items()
        }) for type, numbers in changed.items())  # fmt: skip

    def write(self, whole, text):
        self.folder.append(sealed(whole.text + text if whole else text), bool(whole))
        self.commits += 1

    def keep_for_later(self, whole, changed):
        """Has the next commit say what this one could not."""
        if not self.whole:
            self.whole = whole
            self.changed = {type: changed.get(type, {}) | self.changed.get(type, {}) for type in changed.keys() | self.changed.keys()}

    def renew_image(self, whole, error):
        """Have the next commit say the state as it is now: perhaps it lost what JSON cannot write."""
        if whole and self.whole is whole and not isinstance(error, OSError):
            self.say_whole(self.image())

    def look_after(self):
        """Has the next commit say all that there is, where somebody has removed something of the folder."""
        if self.folder and not self.whole and self.folder.is_lost():
            self.say_whole(self.image())

    def failed(self, work, error):
        """Note why work on the folder failed; the log tells each kind of failure once until all is well."""
        expected = isinstance(error, (OSError, Broken))
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        kind = type(error), getattr(error, "errno", None)
        if kind not in self.logged:
            trace = None if expected else error
            log.error("cannot keep the cloud in %s: %s", self.path, reason, exc_info=trace)
        self.logged.add(kind)
        self.failing.add(work)
        self.failure = reason
        return f"the cloud cannot be kept in {self.path}: {reason}"

    def succeeded(self, work):
        self.failing.discard(work)
        if work == "commit" or not self.failing:
            self.failure = ""
        if self.logged and not self.failing:
            log.warning("the cloud is kept in %s again", self.path)
            self.logged.clear()

    def start(self):
        """From now on, inside the running loop, the files are brought up to the ledger when it is quiet, and what failed is tried again."""
        if self.folder:
            self.ticking = asyncio.get_running_loop().call_later(TICK, self.tick)

    def tick(self):
        if self.tending is None or self.tending.done():
            self.tending = asyncio.ensure_future(self.tend())
        self.start()

    async def tend(self):
        """Write what is not written yet, and complete the files when it is quiet."""
        with contextlib.suppress(ApiError):
            if not self.writing:
                with self.guard("look"):
                    self.look_after()
            if self.changed or self.whole:
                await self.commit()
            elif not self.writing:
                self.succeeded("commit")
        quiet, self.commits_seen = self.commits == self.commits_seen, self.commits
        if self.folder and (self.folder.is_long or (quiet and self.folder.is_behind)):
            await self.fold()

    async def fold(self):
        """Completes the TinyDB files."""
        with contextlib.suppress(ApiError), self.guard("fold"):
            await asyncio.to_thread(self.folder.fold)

    @property
    def state(self):
        """Where the changes are, for people: memory, kept, writing, or why they cannot be kept."""
        if not self.folder:
            return "memory"
        return f"failing: {self.failure}" if self.failure else "writing" if self.changed or self.whole or self.writing else "kept"

    async def rest(self):
        """Returns when nothing is being written."""
        await self.try_commit()
        while write := self.waiting or self.writing:
            await write.over()

    @contextlib.contextmanager
    def released_on_failure(self):
        """Let the folder go, as it is, if an exception leaves the block: nothing will close the store."""
        try:
            yield
        except BaseException:
            if self.folder:
                self.folder.let_go()
            raise

    def close(self):
        """Writes what is not yet written, completes the files, and lets the folder go."""
        if not self.folder:
            return
        if self.ticking:
            self.ticking.cancel()
        with contextlib.suppress(ApiError), self.guard("commit"):
            self.look_after()
            whole, changed = self.take_changes()
            if whole or changed:
                self.write(whole, self.text_of(changed))
        with contextlib.suppress(ApiError), self.guard("fold"):
            self.folder.close()
        self.folder = None  # what still happens is kept nowhere


@contextlib.contextmanager
def no_collection():
    """Without Python's search for garbage, which takes longer than reading where there are many objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.enable() if was_on else None


# ---- Query -------------------------------------------------------------------------------------------------------

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
    says    the description in the README
    holds   the test holds(operand, value) of a value that is not null
    """

    sign: str
    reads: str
    says: str
    holds: Callable[[Any, Any], bool]


LIKE_HELP = "like: `%` is any run, `_` one character, `\\` escapes"

# The operator of a condition is the first one that it *contains* (RestServer.java): the order
# matters. A null satisfies "is null" only.
OPERATORS = {
    row.sign: row
    for row in (
        Operator("!=", "value", "not equal", operator.ne),
        Operator(">=", "value", "greater or equal", operator.le),
        Operator("<=", "value", "less or equal", operator.ge),
        Operator("!?=", "list", "none of a list, `a,b`", is_none_of),
        Operator("!~=", "pattern", "not like", is_unlike),
        Operator("~=", "pattern", LIKE_HELP, operator.call),
        Operator("?=", "list", "one of a list, `a,b`", operator.contains),
        Operator("=", "value", "equal", operator.eq),
        Operator(">", "value", "greater", operator.lt),
        Operator("<", "value", "less", operator.gt),
        Operator("is null", "nothing", "has no value", operator.is_),
        Operator("not null", "nothing", "has a value", operator.is_not),
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
COMPARED = {
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
    """One condition: "vmNics.ip=10.0.0.1" has the path ("vmNics", "ip")."""

    text: str
    path: tuple[str, ...]
    sign: str
    value: str

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
    conditions: list[Condition] = field(default_factory=list)
    limit: int = 1000
    start: int = 0
    count: bool = False
    with_count: bool = False
    sort: str = ""
    descending: bool = False
    fields: list[str] | None = None
    group_by: str = ""

    def kind(self, discriminator: str) -> str | None:
        """Return the subtype that a condition names, or None (QueryFacadeImpl.java)."""
        for condition in self.conditions:
            if condition.path == (discriminator,) and condition.sign == "=":
                return condition.value
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

OTHER_KEYS = {  # the keys of other APIs, in lower case and without punctuation, by the key to write
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

    def __init__(self, rows: Rows, resource: Resource, passes: Predicate) -> None:
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
        self, rows: Rows, resource: Resource, relation: Relation, condition: Term, negated: bool
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


class Rows:
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
        self, catalogue: Catalogue, dialect: Dialect, tables: Store | Seen,
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
        if not (terms or query.group_by or resource.only or resource.inside):
            total = self.count_of(resource)
        elif query.count or query.with_count:
            items = [*items]
            total = len(items)
        if query.count:
            return [], total
        end = query.start + query.limit
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

    def term(self, condition: Condition, resource: Resource) -> Term:
        """Compile a condition. Raise the server's error for an unknown field or relation."""
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
            self.refuse_quotes(condition.value, condition.text, "%s")
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
                hint = meant(text) or f"a value cannot hold {unfit!r}, and nothing escapes it"
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
        is_null = condition.sign == "is null"
        read = self.reader(resource, name)

        def value_passes(item: Item) -> bool:
            value = read(item, name)
            return is_null if value is None else holds(convert(value))

        def any_passes(item: Item) -> bool:  # as in a join: where there is no row, there is no null
            return any(holds(convert(value)) for value in each(item, name))

        return any_passes if kind == "list" else value_passes

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
            if name in typed(words):
                return f"only {kind} has {name}: add q={resource.discriminator}={kind}"
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
            if not hint and operand == "list" and text.startswith(" "):
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
            better = meant(condition.text)
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
        """Return the names that a condition may hold: fields with types, relations, tags."""
        kinds = {}
        for kind, (_, *words) in resource.kinds.items():
            kinds[f"{resource.discriminator}={kind}"] = typed(words)
        return {
            "fields": {name: kind for name, kind in resource.fields.items() if kind != "maps"},
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
        terms = [self.term(condition, resource) for condition in query.conditions]
        _, first = self.narrow(terms, resource)
        items, _ = self.narrow([], resource)
        items = [*items]
        conditions = []
        for condition, term in zip(query.conditions, terms):
            dropped = [*itertools.filterfalse(term.passes, items)]
            items = [*filter(term.passes, items)]
            row = {"q": condition.text, "kept": len(items), "dropped": len(dropped), "index": None}
            if term is first or isinstance(term, Join):
                row["index"] = term.index or None
            row["examples"] = [*map(uuid_of, dropped[:EXAMPLES])]
            if hint := self.doubt(condition, resource):
                row["hint"] = hint
            conditions.append(row)
        return {"total": len(items), "conditions": conditions}


def right_value(condition: Condition, name: str, kind: str) -> str:
    """Return the hint on a value that is no date, or neither true nor false."""
    if kind == "bool":
        return f"write {name}=true or {name}=false"
    begin = f"{name}{condition.sign}"
    return f"write {begin}2018-07-10 09:31:06 or {begin}2018-07-10T09:31:06+08:00"


def first_of_groups(items: Iterable[Item], order: Callable[[Item], tuple]) -> list[Item]:
    """Return the first item by uuid of each group: of the items that differ in their uuid only."""
    groups: dict[tuple, Item] = {}
    for item in sorted(items, key=uuid_of):
        groups.setdefault(order(item)[:2], item)
    return [*groups.values()]


# ---- Faults ------------------------------------------------------------------------------------------------------

POLL_JOB = Api("PollJob", "GET /api-jobs/{uuid}", takes=("uuid!",), open=True, backing="manual")  # no api of ZStack, but rules can name it
OPEN_TO_ALL = {"systemTags", "userTags", "deleteMode", "resourceUuid"}
DROPS = ("reset", "empty", "truncate", "garbage", "hang", "dribble")
LATE = 5  # seconds by which a web-hook is late when no delay is given
Z99 = 2.3263478740408408  # 99 of 100 draws of the standard normal distribution are below


@dataclass(frozen=True)
class Fault:
    """What befalls one call, decided when it comes. Whoever serves the call looks at this, and at nothing of the rule."""

    name: str = ""  # of the rule, and which of its hits it is
    at: str = ""  # accept, job or after
    delay: float = 0
    error: ApiError | None = None
    stage: str = ""  # the one that fails with the error
    rollback: bool = True
    answer: tuple | None = None  # a status and a body instead of the call's own
    drop: str = ""
    job: str = ""  # hold, lose or expire
    webhook: str = ""  # never, late, twice or first
    lateness: float = 0
    hint: str = ""


NO_FAULT = Fault()


@dataclass
class Occasion:
    """A call as rules see it."""

    api: Api
    method: str
    path: str
    query: str
    params: dict
    headers: object
    resource: dict  # the object acted on
    made_by: str = ""  # of a poll: the key of the call that it asks about

    @functools.cached_property
    def key(self):
        """Says which calls are the same, for chance."""
        return f"poll {self.made_by}" if self.api is POLL_JOB else call_key(self.method, self.path, self.query, self.params)


def call_key(method, path, query, params):
    """What is the same for the same call, whoever makes it and whenever: neither session nor job uuid is in it."""
    return hashlib.md5(repr((method, path, query, sorted(params.items()))).encode(errors="replace"), usedforsecurity=False).hexdigest()


def refuse(key, meant, value, known=()):
    raise ValueError(f"{key!r} is {meant}, not {value!r}{did_you_mean(value, known)}")


def a_number(low, high=1e9, kind=(int, float)):
    def check(key, value):
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            refuse(key, f"a {'whole ' * (kind is int)}number from {low}{f' to {high}' * (high < 1e9)}", value)

    return check


def above_0(number):
    def check(key, value):
        number(key, value)
        if not value:
            refuse(key, "above 0", value)

    return check


def check_code(code, codes):
    if not isinstance(code, str) or code not in codes:
        refuse("error", "a code of ZStack", code, codes)


def among(*words):
    def check(key, value):
        if value not in words:
            refuse(key, f"{', '.join(words[:-1])} or {words[-1]}", value, words)

    return check


def a_text(key, value):
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
        refuse(key, "a text", value)


LONGEST_GLOB = 500  # characters; the time that a glob takes grows with their square


def a_glob(key, value):
    if not isinstance(value, str) or len(value) > LONGEST_GLOB:
        shown = value[:40] + "…" if isinstance(value, str) else value
        refuse(key, f"a text of at most {LONGEST_GLOB} characters", shown)


def an_id(key, value):
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", value):
        refuse(key, "a text of letters, digits, - _ and ., 64 at most, not beginning with .", value)


def a_truth(key, value):
    if not isinstance(value, bool):
        refuse(key, "true or false", value)


def anything(key, value):
    """Whatever JSON and UTF-8 can say, and so the disk can keep."""
    try:
        a_text(key, json.dumps(value, ensure_ascii=False, allow_nan=False))
    except ValueError as error:
        raise ValueError(f"{key!r} cannot be said in JSON: {error}") from None


# delays


def a_pair(key, told):
    if not isinstance(told, list) or len(told) != 2:
        refuse(key, "a list of two numbers", told)
    for value in told:
        a_number(0)(key, value)


def a_range(key, told):
    a_pair(key, told)
    if told[0] > told[1]:
        refuse(key, "a list of two numbers, the smaller one first", told)


def percentiles(key, told):
    if not isinstance(told, dict) or told.keys() != {"p50", "p99"}:
        refuse(key, '{"p50": seconds, "p99": seconds}', told)
    a_range(key, [told["p50"], told["p99"]])
    if not told["p50"]:
        refuse(key, "above 0 at p50", told)


DISTRIBUTIONS = {  # how what is told is checked, and a draw from it
    "uniform": (a_range, lambda random, told: random.uniform(*told)),
    "normal": (a_pair, lambda random, told: max(0.0, random.gauss(*told))),
    "lognormal": (percentiles, lambda random, told: random.lognormvariate(math.log(told["p50"]), math.log(told["p99"] / told["p50"]) / Z99)),
}


def a_delay(key, value):
    if not isinstance(value, dict):
        return a_number(0)(key, value)
    if len(value) != 1 or not value.keys() <= DISTRIBUTIONS.keys():
        refuse(key, f'seconds, or {{NAME: ...}} with one of {", ".join(DISTRIBUTIONS)}', value, DISTRIBUTIONS)
    name, told = *value, *value.values()
    return DISTRIBUTIONS[name][0](f"{key}.{name}", told)


def drawn(delay, random):
    """Seconds, of what a rule says of its delay; None where it says nothing."""
    if not isinstance(delay, dict):
        return delay
    name, told = *delay, *delay.values()
    return DISTRIBUTIONS[name][1](random, told)


# what happens then


def failing(then, delay):
    error = ApiError(then["error"], then["details"])
    return {"error": error, "stage": then.get("stage", ""), "rollback": then.get("rollback", True)}


def telling(then, delay):
    """Of a web-hook that is late, the delay of the rule is how late."""
    return {"webhook": then["webhook"], **({"lateness": LATE if delay is None else delay, "delay": 0} if then["webhook"] == "late" else {})}


@dataclass(frozen=True)
class Effect:
    """A key of `then`: how its value is checked, what may stand beside it, when it may strike, what it makes of a call's Fault.

    Of the moments, the last one that a call has is when it strikes unless `at` says otherwise; `after` must be asked for.
    """

    check: object
    does: object
    beside: dict = field(default_factory=dict)
    moments: tuple = ("accept",)


THEN = {
    "error": Effect(anything, failing, {"details": a_text, "stage": a_text, "rollback": a_truth}, ("accept", "job")),
    "status": Effect(a_number(200, 599, int), lambda then, delay: {"answer": (then["status"], then.get("body"))}, {"body": anything}),
    "drop": Effect(among(*DROPS), lambda then, delay: {"drop": then["drop"]}),
    "job": Effect(among("hold", "lose", "expire"), lambda then, delay: {"job": then["job"]}, moments=("job",)),
    "webhook": Effect(among("never", "late", "twice", "first"), telling, moments=("job",)),
}
NOTHING = Effect(anything, lambda then, delay: {}, moments=("accept", "job"))  # only the delay
OWNERS = {beside: key for key, effect in THEN.items() for beside in effect.beside}


def effect_of(then):
    return next((effect for key, effect in THEN.items() if key in then), NOTHING)


def check_then(then):
    """Refuses a `then` that says nothing, too much, or what goes with something else."""
    if not isinstance(then, dict):
        refuse("then", f"a JSON object with one of {', '.join(THEN)}", then)
    for key in then.keys() - THEN.keys() - OWNERS.keys() - {"at"}:
        raise ValueError(f"{key!r} is no key of 'then'{did_you_mean(key, [*THEN, *OWNERS, 'at'])}")
    chosen, effect = [key for key in THEN if key in then], effect_of(then)
    if len(chosen) > 1:
        raise ValueError(f"'then' is one of {', '.join(THEN)}, not {' and '.join(chosen)}: make it two rules")
    for key in [key for key in then if key in OWNERS and key not in effect.beside]:
        raise ValueError(f"{key!r} goes with {OWNERS[key]!r} only")
    for key, check in {**dict.fromkeys(chosen, effect.check), **effect.beside}.items():
        if key in then:
            check(key, then[key])
    moments = (*effect.moments, "after") if effect.moments[0] == "accept" and chosen else effect.moments
    if "at" in then:
        among(*moments)("at", then["at"]) if len(moments) > 1 else refuse("at", f"for error, status and drop: {a_noun(chosen[0])} is about", then["at"])
    if "rollback" in then and "stage" not in then:
        raise ValueError("'rollback' goes with 'stage' only")
    if "stage" in then and then.get("at", "job") != "job":
        raise ValueError("a stage is one of the job: leave 'at' away")


# which calls


def own_fields(cloud, api):
    """The fields of the object that calls of an api act on; of PollJob, what /zmock/jobs shows."""
    if api is POLL_JOB:
        return {"uuid", "api", "state", "resourceUuid"}
    target = api.target.refers if api.target else api.type if api.kind == "Query" and api.by_uuid else ""
    row = cloud.catalogue.resource(target)
    return {"uuid", *row.all_fields} if row else set()


WHEN = {  # the names that may follow, for a call of the api (None: any), and the values that an occasion has for one
    "method": (None, lambda o, name: [o.method]),
    "path": (None, lambda o, name: [o.path, re.sub("^(/zstack)?/v1", "", o.path)]),
    "header": (None, lambda o, name: o.headers.getall(name, ())),
    "query": (lambda cloud, api: QUERY_KEYS if api.kind == "Query" else {*api.params, *OPEN_TO_ALL} if api.method in ("GET", "DELETE") else (),
              lambda o, name: [value for key, value in urllib.parse.parse_qsl(o.query, keep_blank_values=True) if key == name]),
    "params": (lambda cloud, api: {*api.params, *OPEN_TO_ALL, *(["uuid"] if api.kind == "Query" else ())}, lambda o, name: values_of(o.params.get(name))),
    "resource": (own_fields, lambda o, name: values_of(o.resource.get(name))),
}  # fmt: skip


def values_of(value):
    """What a glob is held against: a value as text, or each one of a list."""
    return [] if value is None else [text_of(v) for v in value] if isinstance(value, list) else [text_of(value)]


def paths_of(cloud, api):
    """What paths of an api are like, as globs; a client may write characters as %xx, and some dialects take a slash twice."""
    return [prefix + re.sub(r"\{\w+\}", "*", path) for path in api.paths for prefix in ("", *cloud.dialect["path-prefix"])]


@functools.lru_cache(4096)
def share(glob, path):
    """Whether a text can match both a glob and a path whose * is anything but a slash."""
    if re.search("%|//", glob):
        return True
    tokens = re.findall(r"\[!?\]?[^\]]*\]|.", glob, re.S)
    ways, seen = [(0, 0)], set()
    while ways:
        way = i, j = ways.pop()
        if way in seen:
            continue
        seen.add(way)
        token, char = tokens[i] if i < len(tokens) else "", path[j] if j < len(path) else ""
        if not token and not char:
            return True
        ways += [(i + 1, j)] * (token == "*" or (char == "*" and token not in ("", "/"))) + [(i, j + 1)] * (char == "*" or (token == "*" and char != ""))
        ways += [(i + 1, j + 1)] * bool(token and char and fnmatchcase(char, token))
    return False


def check_when(cloud, when, apis):
    """Refuses a condition that no call of these apis could meet."""
    if not isinstance(when, dict):
        refuse("when", 'a JSON object such as {"params.name": "db-*"}', when)
    for key, glob in when.items():
        where, dot, name = key.partition(".")
        if where not in WHEN or bool(dot) != (where not in ("method", "path")) or (dot and not name):
            shapes = ("method", "path", "header.NAME", "query.NAME", "params.NAME", "resource.NAME")
            raise ValueError(f"'when' has no {key!r}{did_you_mean(where, WHEN)}; there are {', '.join(shapes)}")
        if not isinstance(glob, (str, int, float)):
            refuse(key, "a text, number, true or false", glob)
        a_glob(key, text_of(glob))
        known = {name for api in apis for name in WHEN[where][0](cloud, api)} if WHEN[where][0] else {name}
        if name not in known:
            raise ValueError(f"no call that 'api' names has {key!r}{did_you_mean(name, known)}" + ("" if known else f": there is no {where} at all"))
    if "path" in when and not any(share(text_of(when["path"]), path) for api in apis for path in paths_of(cloud, api)):
        refuse("path", f"one of {apis[0].name}, such as {apis[0].path}" if len(apis) == 1 else "a path of these APIs", when["path"])
    methods = {api.method for api in apis} if cloud.dialect["wrong-method"] else {"GET", "POST", "PUT", "DELETE"}
    if "method" in when and not any(fnmatchcase(method, str(when["method"])) for method in methods):
        refuse("method", " or ".join(sorted(methods)), when["method"], methods)


# ---- Faults: rules -------------------------------------------------------------------------------------------------


RULE_KEYS = {
    "id": an_id, "api": a_text, "when": None, "skip": a_number(0, kind=int), "times": a_number(1, kind=int), "every": a_number(1, kind=int),
    "probability": above_0(a_number(0, 1)), "ttl": above_0(a_number(0)), "delay": a_delay, "then": None,
}  # fmt: skip


MOST_SEEN = 100_000  # different calls of which a rule knows how often they matched; then the oldest begin again


@dataclass(eq=False)
class Rule:
    """Which calls something befalls, how often, and what. `names` are those of the APIs whose calls it can befall."""

    id: str
    told: dict  # as it was set
    names: frozenset
    source: str = ""  # the file that it comes from
    details: str = ""  # of its error, where it names none
    matches: int = 0
    hits: int = 0
    over: bool = False  # its ttl has passed
    timer: Timer | None = None  # of its ttl
    seen: Counter = field(default_factory=Counter)  # how often each call matched, where chance decides

    def meets(self, occasion):
        """Whether a call is one that the rule is for."""
        if self.over or occasion.api.name not in self.names:
            return False
        if "webhook" in self.told.get("then", ()) and "X-Web-Hook" not in occasion.headers:
            return False
        return all(self.holds(occasion, key, text_of(glob)) for key, glob in self.told.get("when", {}).items())

    @staticmethod
    def holds(occasion, key, glob):
        where, _, name = key.partition(".")
        return any(fnmatchcase(value, glob) for value in WHEN[where][1](occasion, name))

    def strikes(self, occasion, seed):
        """The fault of a call that the rule is for, or None: counts it, and leaves the rest to chance."""
        self.matches += 1
        turn, chance = self.matches - self.told.get("skip", 0), self.chance(occasion, seed)
        if turn <= 0 or turn % self.told.get("every", 1) or self.hits >= self.told.get("times", math.inf):
            return None
        if "probability" in self.told and chance.random() >= self.told["probability"]:
            return None
        self.hits += 1
        delay, then = drawn(self.told.get("delay"), chance), {"details": self.details} | self.told.get("then", {})
        return {"name": f"{self.id}; hit={self.hits}", "delay": delay or 0} | effect_of(then).does(then, delay)

    def chance(self, occasion, seed):
        """Random numbers for a call: by seed, rule, call and how often that call matched; whatever else goes on."""
        if "probability" not in self.told and not isinstance(self.told.get("delay"), dict):
            return None
        self.seen[occasion.key] += 1
        if len(self.seen) > MOST_SEEN:
            del self.seen[next(iter(self.seen))]
        return random.Random(f"{seed}/{self.id}/{occasion.key}/{self.seen[occasion.key]}")

    def shown(self):
        return {"id": self.id} | self.told | {"matches": self.matches, "hits": self.hits} | ({"over": True} if self.over else {})


class Faults:
    """The rules in force for a cloud; the first that fires decides. Where none does, magic in a name may."""

    def __init__(self, cloud):
        self.cloud, self.apis = cloud, cloud.catalogue.apis | {POLL_JOB.name: POLL_JOB}
        self.files, self.problems = cloud.settings.rules, {}
        self.clear()

    @property
    def armed(self):
        """Whether there are rules, or files that may hold some."""
        return bool(self.rules or self.files)

    def clear(self):
        """No rules, and the next one is the first."""
        self.rules, self.ids, self.magic = [], itertools.count(1), 0
        self.stamps = {}

    def add(self, told, source="", ends=None):
        """Reads a rule, `ends` where its ttl began before; raises ValueError for one that can never match."""
        names = frozenset(self.check(told))
        told = frozen(without_nulls(told))
        self.ids = self.ids if self.rules else itertools.count(1)  # the same rules again have the same names, and the same chances
        taken = {rule.id for rule in self.rules} | {"magic"}
        id = told["id"] if "id" in told else next(id for id in (f"rule-{n}" for n in self.ids) if id not in taken)
        if id in taken:
            raise ValueError(f"there is a rule {id!r} already")
        rule = Rule(id, told, names, source, self.cloud.catalogue.errors.get(told.get("then", {}).get("error"), ""))
        self.rules.append(rule)
        if "ttl" in told:
            now = self.cloud.clock.now()
            ends = now + told["ttl"] if ends is None else ends
            rule.over = ends <= now
            if not rule.over:
                end = functools.partial(setattr, rule, "over", True)
                rule.timer = self.cloud.clock.after(ends - now, end, f"rule {id} is over")
        return rule

    def check(self, told):
        """The names of the APIs that a rule is for; raises ValueError where it is none."""
        if not isinstance(told, dict):
            raise ValueError("a rule is a JSON object")
        for key in told.keys() - RULE_KEYS.keys():
            raise ValueError(f"{key!r} is no key of a rule{did_you_mean(key, RULE_KEYS)}")
        meant = self.named(told.get("api"))
        for key, check in RULE_KEYS.items():
            if check and told.get(key) is not None:
                check(key, told[key])
        if told.get("when") is not None:
            check_when(self.cloud, told["when"], meant)
        then = told.get("then")
        if then is not None:
            check_then(then)
            if "error" in then:
                check_code(then["error"], self.cloud.catalogue.errors)
        anything("rule", told)
        return [api.name for api in self.reached(told["api"], then or {}, meant)]

    def named(self, glob):
        """The simulated APIs that a rule names; PollJob only by its own name."""
        if isinstance(glob, str):
            a_glob("api", glob)
        names = [] if not isinstance(glob, str) else [glob] if glob == POLL_JOB.name else [n for n in self.apis if n != POLL_JOB.name and fnmatchcase(n, glob)]
        names = [name for name in names if name in self.apis]
        if not names:
            simulated = [name for name, api in self.apis.items() if api.backing != "none"]
            better = did_you_mean(glob, simulated) or did_you_mean(glob, self.apis)
            raise ValueError(f"'api' names no API: {glob!r}{better}")
        simulated = [self.apis[name] for name in names if self.apis[name].backing != "none"]
        if not simulated:
            raise ValueError(f"{glob} is not simulated: it answers 501")
        return simulated

    def reached(self, glob, then, apis):
        """Those of the APIs whose calls `then` can befall: that have a job, or the stage, where it takes one."""
        if effect_of(then).moments == ("job",) or then.get("at") == "job" or "stage" in then:
            apis = [api for api in apis if not self.cloud.at_once(api)]
            if not apis:
                raise ValueError(f"{glob} answers at once, without a job: {json.dumps(then, ensure_ascii=False)} can never befall it")
        stages = [stage for api in apis for stage in self.cloud.stages(api)]
        if "stage" in then and then["stage"] not in stages:
            known = f"; there are {', '.join(dict.fromkeys(stages))}" if stages else ""
            raise ValueError(f"{glob} has no stage {then['stage']!r}{did_you_mean(then['stage'], stages)}{known}")
        return [api for api in apis if then.get("stage", "") in ("", *self.cloud.stages(api))]

    def remove(self, id):
        """Takes a rule away; answers whether it was there."""
        gone = [rule for rule in self.rules if rule.id == id]
        self.replace([rule for rule in self.rules if rule.id != id])
        return bool(gone)

    def replace(self, rules):
        """These rules instead; nothing is due any more for those that are not among them."""
        for rule in self.rules:
            if rule.timer and rule not in rules:
                rule.timer.cancel()
        self.rules = rules

    def decide(self, occasion):
        """The fault that befalls a call: that of the first rule that fires, else what its object's name says."""
        self.reread()
        for rule in self.rules:
            struck = rule.strikes(occasion, self.cloud.settings.seed) if rule.meets(occasion) else None
            if struck:
                return self.timed(occasion.api, struck, rule.told.get("then", {}))
        return self.by_magic(occasion)

    def timed(self, api, struck, then):
        moments = [moment for moment in effect_of(then).moments if moment == "accept" or not self.cloud.at_once(api)]
        return Fault(**struck, at=then.get("at", moments[-1]))

    # magic

    def by_magic(self, occasion):
        """What `#zmock ...` in the name or description of the object says that a call makes or acts on. Reading is spared."""
        if self.cloud.settings.no_magic or self.cloud.at_once(occasion.api) or occasion.api is POLL_JOB:
            return NO_FAULT
        said = {name: occasion.params[name] for name in ("name", "description") if isinstance(occasion.params.get(name), str)}
        if occasion.api.kind == "Update" and said:  # the way in, and the way out again
            return NO_FAULT
        acted = {name: occasion.resource.get(name, "") for name in ("name", "description")}
        found = MAGIC.findall(" ".join([*said.values(), *map(str, acted.values())]))
        return self.conjure(found) if found else NO_FAULT

    def conjure(self, found):
        fault, codes = {}, self.cloud.catalogue.errors
        for word, _, value in found:
            spell = SPELLS.get(word)
            told = spell(value, codes) if spell else None
            if told is None:
                return Fault(hint=f"'#zmock {word}{'=' * bool(value)}{value}' is no magic: there are #zmock fail, fail=CODE, delay=SECONDS, hold"
                                  + did_you_mean(value or word, codes if word == "fail" else SPELLS))  # fmt: skip
            fault |= told
        self.magic += 1
        return Fault(**fault | {"name": f"magic; hit={self.magic}", "at": "job"})

    # files

    def must_read(self):
        """Reads the rule files; raises SettingsError for one that cannot be used."""
        self.reread()
        for path, problem in self.problems.items():
            raise SettingsError(f"cannot use the rules in {path}: {problem}; a rules file is a JSON list of rules")

    def reread(self):
        """Takes over the rule files that have changed; one that cannot be used changes nothing, and is told."""
        for path in self.files:
            stamp = file_stamp(path)
            if self.stamps.get(path, "") != stamp:
                self.stamps[path] = stamp
                self.problems.pop(path, None)
                self.replace_from(path)

    def replace_from(self, path):
        """The rules of a file in the place of those that it held before; one that is the same goes on counting."""
        kept = self.rules
        mine = defaultdict(list)  # by what was told: the same may stand there twice
        for rule in [rule for rule in kept if rule.source == path]:
            mine[as_told(rule.told)].append(rule)
        try:
            told = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            if not isinstance(told, list):
                raise ValueError(f"it holds {gson_word(told)}")
            staying = [mine[as_told(rule)].pop(0) if mine[as_told(rule)] else None for rule in told]
            self.rules = [rule for rule in kept if rule.source != path or rule in staying]
            fresh = [same or self.add(rule, path) for same, rule in zip(staying, told)]
        except (OSError, ValueError, RecursionError) as error:
            self.replace(kept)
            self.problems[path] = str(error)
            log.warning("cannot use the rules in %s: %s", path, error)
            return
        order = {path: n for n, path in enumerate(self.files)}
        others = [rule for rule in self.rules if rule.source != path]
        self.rules = kept
        self.replace(sorted([*others, *fresh], key=lambda rule: order.get(rule.source, len(order))))


def as_told(told):
    """What is the same for the same rule."""
    return json.dumps(without_nulls(told) if isinstance(told, dict) else told, sort_keys=True)


def file_stamp(path):
    """What changes when a file does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


MAGIC = re.compile(r"#zmock\s+(\w+)(=([\w.]*))?")
SPELLS = {  # the fault that a word makes, None where what follows = makes no sense
    "fail": lambda value, codes: {"error": ApiError(value or "SYS.1006", f"asked for by #zmock fail{'=' * bool(value)}{value}")} if not value or value in codes else None,
    "delay": lambda value, codes: {"delay": float(value)} if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value) else None,
    "hold": lambda value, codes: {"job": "hold"} if not value else None,
}


# ---- Jobs: runs ----------------------------------------------------------------------------------------------------

PROGRESS_KEPT = 300  # ProgressGlobalConfig.java


@dataclass
class Call:
    """One use of an api: what was asked, by whom. `job` is its uuid, which names its progress too."""

    api: Api
    params: dict
    session: str = ""
    job: str = ""
    system_tags: list = field(default_factory=list)
    user_tags: list = field(default_factory=list)
    account: str = ""
    user: str = ""  # who of the account calls: its user, or the account itself; nobody where no session is needed
    seconds: float = 0
    long: bool = False  # whether it is what a long job does
    fault: Fault = NO_FAULT
    refused: ApiError | None = None  # why, when it was let in
    key: str = ""  # the call_key of what asked for it
    given: dict = field(default_factory=dict)  # what was asked for word by word, tags and all: what rules are held against
    on_end: Any = None  # a function of the state and the error code that its job ends with

    def __getitem__(self, name):
        return self.params.get(name)

    @property
    def target(self):
        """The uuid of the object that its path names, or none."""
        return self.params.get(self.api.target.name) if self.api.target else None


@dataclass
class Progress:
    """How far an operation is: its stages with the moments they began, for GetTaskProgress.

    All moments are seconds of Clock.steady().
    """

    call: Call
    began: float
    ends: float
    stages: dict
    seen: list = field(default_factory=list)
    over: bool = False

    def percent(self, now):
        if self.over or self.ends <= self.began:
            return 100 if self.over else 0
        return max(0, min(99, int(100 * (now - self.began) / (self.ends - self.began))))


class Run:
    """One operation under way: each stage at its time, then done(body, error). A stage is what a yield of its name ends.

    A bare yield ends what comes before the first stage. One that is held goes on by hurry() only.
    `began` and `due` are seconds of Clock.steady(); the argument `began` is a date.
    """

    def __init__(self, jobs, call, seconds, done, began=None):
        self.jobs, self.call, self.done = jobs, call, done
        self.steps, self.passed, self.timer, self.over, self.log = None, None, None, False, []
        self.stages, self.awaited = jobs.stages(call.api, call.long), began is None
        self.held = call.fault.job == "hold"
        jobs.runs.add(self)
        self.began = jobs.clock.steady(began)
        self.due = self.began + seconds
        self.progress = Progress(call, self.began, self.due, self.stages)
        if (self.stages or call.long) and jobs.configured("progress", "progress.on"):
            jobs.progress[call.job] = self.progress
        if self.stages:
            self.attempt(self.begin)
        else:
            self.wait(self.due, self.begin)

    def wait(self, due, step):
        self.timer = self.later(due, lambda: self.attempt(step))

    def later(self, due, fire):
        """A timer of this operation."""
        what = f"{self.call.api.name} {self.call.job}"
        if self.held:
            return self.jobs.clock.never(fire, what)
        return self.jobs.clock.at_second(due, fire, what, self.awaited)

    def attempt(self, step):
        """Takes one step; an error ends the operation, and takes back what it had changed until then."""
        if self.over:
            return
        try:
            with self.jobs.store.all_or_nothing() as changes:
                ended, body = step()
        except ApiError as error:
            self.end(None, error)
        except Exception as error:  # MessageSafeAspect.aj: whatever a service throws becomes SYS.1000
            log.exception("%s failed", self.call.api.name)
            self.end(None, ApiError("SYS.1000", str(error)))
        else:
            self.log += changes
            self.end(body, None) if ended else self.plan_next()

    def begin(self):
        body = self.jobs.perform(self.call)
        if not isinstance(body, GeneratorType):
            return True, body
        self.steps = body
        return self.step()

    def resume(self):
        """On to the next stage, unless that is the one to fail: (whether it was the last, the result)."""
        if self.fails_next():
            raise self.call.fault.error
        return self.step()

    def fails_next(self):
        """Whether a rule has the next stage fail."""
        return self.call.fault.stage and [*self.stages, ""][len(self.progress.seen)] == self.call.fault.stage

    def step(self):
        try:
            self.passed = next(self.steps)
        except StopIteration as end:
            return True, end.value
        return False, None

    def plan_next(self):
        if self.passed is None or (not self.progress.seen and self.fails_next()):  # prepared; or a first stage that nothing prepares
            return self.attempt(self.resume)
        self.progress.seen.append(self.jobs.clock.steady())
        share = (self.due - self.began) / max(1, len(self.stages))
        return self.wait(self.began + share * len(self.progress.seen), self.resume)

    def end(self, body, error):
        """Over: at once when it went well, and not before its time when it failed on the way."""
        if error:
            self.undo() if self.call.fault.rollback else None
            error = wrapped(error, self.call.api)
        if error and self.jobs.clock.steady() < self.due:
            self.over = True
            self.timer = self.later(self.due, lambda: self.finish(None, error))
        else:
            self.finish(body, error)

    def finish(self, body, error):
        self.over = self.progress.over = True
        self.jobs.runs.discard(self)
        if self.call.job in self.jobs.progress:
            self.jobs.clock.after(PROGRESS_KEPT, lambda: self.jobs.forget(self.progress))
        self.done(body, error)

    def undo(self):
        self.jobs.take_back(self.log)
        self.log = []

    def hurry(self):
        """All that is left, now."""
        while not self.over:
            self.timer.cancel()
            self.attempt(self.resume if self.steps else self.begin)
        if self.timer:
            self.timer.hurry()  # an error that waits for its time

    def drop(self):
        """Ends it without a word, as if it had never begun."""
        self.abandon()
        self.undo()

    def abandon(self):
        """Ends it without a word, as far as it has come."""
        if self.timer:
            self.timer.cancel()
        self.over = True
        self.jobs.runs.discard(self)

    def hold(self):
        """Has it go on by hurry() only."""
        fire, self.held = self.timer.fire, True
        self.timer.cancel()
        self.timer = self.later(self.due, fire)

    def fail(self, error):
        """Ends it with an error, now, unless it has ended."""
        if self in self.jobs.runs:
            self.drop()
            self.finish(None, error)


def wrapped(error, api):
    """VM.1001 caused by HOST_ALLOCATION.1000, for instance; errors of the system itself, and of who may not, stay as they are."""
    if not api.fails or error.code.startswith(("SYS.", "ID.")):
        return error
    return ApiError(api.fails, error.details, error, hint=error.hint)


# ---- Jobs --------------------------------------------------------------------------------------------------------

HOOK_TRIES, HOOK_GAP = 15, 2  # RestServer.java callWebHook
GRACE = 0.025  # seconds of the world between a 202 and its web-hook: the client reads the 202 first
KEPT_SEEN = 2 * DAY  # how long a job is kept after it was last looked at
LOOKS_APART = 60  # seconds; a job that is looked at more often is not written more often
MOST_GONE = 1000  # jobs that a rule had expire, of which that is still known
OVER = {"succeeded", "failed"}


class Jobs:
    """Api-jobs: submitted, run, polled, told to a web-hook, expired. A record per job is kept in the Store as type Job."""

    def __init__(self, clock, store, dialect, configured, catalogue, perform, stages, notify, take_back):
        self.clock, self.store, self.dialect, self.configured, self.catalogue = clock, store, dialect, configured, catalogue
        self.perform, self.stages, self.notify, self.take_back = perform, stages, notify, take_back
        self.http, self.watch = None, None
        self.left = {}  # events: the 202 of a job whose web-hook waits for that has left; from submit() to left_now()
        self.told = {}  # events: a web-hook that the 202 waits for has been told; from submit() to let_go()
        self.clear()

    def clear(self):
        self.running, self.runs, self.progress, self.queues = {}, set(), {}, defaultdict(list)
        self.calls = {}  # by job, the calls of those that are running
        self.ended = set()  # running jobs whose result is being written; nobody has seen it yet
        self.looked = {}  # when each job was last looked at; kept in its record once a minute
        self.gone_by = {}  # the rules that had jobs expire, for the polls that come after
        self.telling = set()  # tasks
        for event in [*self.left.values(), *self.told.values()]:
            event.set()
        self.left, self.told = {}, {}

    def submit(self, call, hook="", schema=False):
        """Accepts a call as a job; answers its record."""
        if hook and not hook.startswith(("http://", "https://")):
            log.warning("job %s: a web-hook goes to http or https, not to %s", call.job, hook)
            hook = ""
        lost, now = call.fault.job == "lose", self.clock.now()
        record = {
            "uuid": call.job, "api": call.api.name, "state": "lost" if lost else "running", "created": now, "seen": now, "due": now + call.seconds,
            "target": call.target, "hook": hook, "schema": schema, "key": call.key,
        }  # fmt: skip
        said = {"held": call.fault.job == "hold" or None, "rule": call.fault.name if lost else None}
        self.store.put("Job", record | without_nulls(said))
        if not lost:
            if hook and call.fault.webhook != "never":
                (self.told if call.fault.webhook == "first" else self.left)[call.job] = asyncio.Event()
            self.running[call.job], self.calls[call.job] = None, call
            self.queues[line_of(call)].append(call)
            if len(self.queues[line_of(call)]) == 1:
                self.start(call)
        self.note(call.job)
        return record

    def note(self, uuid):
        """Lets whoever watches know that something became of a job."""
        if self.watch:
            self.watch(uuid)

    def withdraw(self, call):
        """Takes back a job that could not be accepted after all."""
        begun = self.take_off(call.job)
        if begun:
            self.stop(begun)
        self.left.pop(call.job, None), self.let_go(call.job)
        self.store.remove("Job", call.job)
        self.next_in_line(call)

    def take_off(self, uuid):
        """Take a job off those that are running; return its run, or the timer for one."""
        self.ended.discard(uuid)
        self.calls.pop(uuid, None)
        return self.running.pop(uuid, None)

    def stop(self, under_way):
        """Ends a run, or the timer that stands for one, as if it had never begun."""
        if isinstance(under_way, Run):
            under_way.drop()
            self.forget(under_way.progress)
        else:
            under_way.cancel()

    def start(self, call):
        """Begins what stands first in line: calls on the same object wait for each other, as in the server's queues."""
        fault, what = call.fault, f"{call.api.name} {call.job}"

        def done(body, failure):
            self.finish(call, body, failure or (fault.error if fault.at == "after" else None))

        if fault.error and fault.at != "after" and not fault.stage:
            fail = functools.partial(done, None, fault.error)
            if fault.job == "hold":
                self.running[call.job] = self.clock.never(fail, what)
            else:
                self.running[call.job] = self.clock.after(call.seconds, fail, what, awaited=True)
        else:
            run = Run(self, call, call.seconds, done)
            if call.job in self.running:
                self.running[call.job] = run

    def finish(self, call, body, error):
        """Decide how a job ends; publish() lets it be seen."""
        if self.calls.get(call.job) is not call:  # expired by hand in the meantime
            self.next_in_line(call)
            self.tell_end(call, "failed" if error else "succeeded", error.code if error else "")
            return
        self.ended.add(call.job)
        self.set_result(call, body, error)
        self.clock.spawn(self.publish(call))

    def set_result(self, call, body, error):
        """Put the end of a job into its record, in the place of the one that is there."""
        record = self.store.peek("Job", call.job)
        if record is None:  # swept while a slow commit was under way
            return
        if error and record["state"] != "failed":
            self.notify(call, error)
        rule = call.fault.name if error and call.fault.error in (error, error.cause) else None
        outcome = {"state": "succeeded", "body": body}
        if error:
            outcome = {"state": "failed", "body": None, "error": self.catalogue.error_body(error)}
            outcome["hint"] = error.hint or None
        now = self.clock.now()
        self.store.update("Job", call.job, finished=now, held=None, rule=rule, **outcome)

    def tell_end(self, call, state, code):
        """Call the call's on_end(), where there is one."""
        if call.on_end:
            call.on_end(state, code)

    def next_in_line(self, call):
        """Take a call out of its line. The one behind it begins if it was the first.

        The first one is under way and stays first until it ends, even if its record has expired.
        """
        key = line_of(call)
        line = self.queues.get(key, [])
        first = line[0] if line else None
        was_first = first is call
        line[:] = [waiting for waiting in line if waiting is not call and (waiting is first or self.store.peek("Job", waiting.job))]
        if line and was_first:
            self.store.update("Job", line[0].job, due=self.clock.now() + line[0].seconds)
            self.start(line[0])
        elif not line:
            self.queues.pop(key, None)

    async def publish(self, call):
        """Lets the result be seen, and tells the web-hook, once what it did is on the disk."""
        self.next_in_line(call)
        await self.write_result(call)
        if self.calls.get(call.job) is not call:  # expired by hand, or lost, in the meantime
            return
        self.take_off(call.job)
        record = self.store.get("Job", call.job)
        self.note(call.job)
        if record is None:  # swept while a slow commit was under way
            return
        self.tell_end(call, record["state"], code_of(record))
        if record["hook"] and call.fault.webhook != "never":
            task = self.clock.spawn(self.tell(record, call.fault))
            self.telling.add(task)
            task.add_done_callback(self.telling.discard)
        if call.fault.job == "expire":
            self.expire(call.job)
            self.gone_by[call.job] = call.fault.name
            for old in [*self.gone_by][:-MOST_GONE]:
                del self.gone_by[old]

    async def write_result(self, call):
        """Return when the result of a job is on the disk, or cannot be written.

        Where overturn() replaces the result meanwhile, the new one is written too.
        """
        written = None
        with contextlib.suppress(ApiError):
            while (record := self.store.peek("Job", call.job)) is not written:
                written = record
                await self.store.commit(lambda error: self.give_back(call, error))

    def give_back(self, call, error):
        """A job whose work cannot be kept has failed, and nothing of it stays."""
        if self.calls.get(call.job) is call:
            self.undo(call)
            self.store.update("Job", call.job, state="failed", error=self.catalogue.error_body(error), body=None)

    def undo(self, call):
        """Take back what a job has done."""
        run = self.running.get(call.job)
        if isinstance(run, Run):
            run.undo()

    def poll(self, uuid):
        """The record of a job, or None when there is none any more."""
        record = self.store.peek("Job", uuid)
        if record is None or self.expired(record):
            return None
        uuid = record["uuid"]
        self.looked[uuid] = self.clock.now()
        apart = abs(self.clock.now() - record["seen"])  # the clock may have been set back
        if apart >= LOOKS_APART:
            self.store.update("Job", uuid, seen=self.clock.now())
            self.clock.spawn(self.store.try_commit())
        return record if uuid not in self.running else record | {"state": "running"}

    def expired(self, record):
        if record["state"] not in OVER:
            return False
        if self.dialect["job-expiry"] == "seen":
            ends = max(record["seen"], self.looked.get(record["uuid"], 0), record.get("finished", 0)) + KEPT_SEEN
        else:  # one that took longer: until the scan finds it
            ends = max(record["created"] + self.configured("rest", "completedApi.expiredPeriod"), record.get("finished", 0) + self.scan_interval)
        return self.clock.now() >= ends

    @property
    def scan_interval(self):
        return max(1, self.configured("rest", "expiredApi.scanInterval"))

    def sweep(self):
        for record in [record for record in self.store.rows("Job") if self.expired(record)]:
            self.expire(record["uuid"])

    def expire(self, uuid):
        self.store.remove("Job", uuid)
        self.looked.pop(uuid, None)
        self.note(uuid)

    def forget(self, progress):
        if self.progress.get(progress.call.job) is progress:
            del self.progress[progress.call.job]

    async def tell(self, record, fault=NO_FAULT):
        """POSTs the result to the web-hook, not before the 202 has left: unless a rule wants it late, twice or first."""
        if left := self.left.get(record["uuid"]):
            await left.wait()
        await self.clock.sleep(fault.lateness)
        for _ in range(2 if fault.webhook == "twice" else 1):
            await self.deliver(record)

    async def deliver(self, record):
        """15 tries, 2 s apart, any 2xx ends it. A 202 that waits for it waits for one."""
        body = to_json(result_of(record, self.catalogue.apis[record["api"]] if record["schema"] else None) or {})
        headers = {"Content-Type": "application/json; charset=utf-8", "X-Job-UUID": record["uuid"],
                   "X-Job-Success": "true" if record["state"] == "succeeded" else "false"}  # fmt: skip
        for attempt in range(HOOK_TRIES):
            if attempt:
                await self.clock.sleep(HOOK_GAP)
            taken = await self.post(record["hook"], body, headers)
            self.let_go(record["uuid"])
            if taken:
                return
        log.warning("web-hook %s never took the result of job %s", record["hook"], record["uuid"])

    def left_now(self, uuid):
        """Let the web-hook of a job follow its 202, which has left; after GRACE if time runs."""
        if left := self.left.get(uuid):
            self.clock.soon(GRACE, functools.partial(self.may_follow, uuid, left))

    def may_follow(self, uuid, left):
        left.set()
        if self.left.get(uuid) is left:
            del self.left[uuid]

    def let_go(self, uuid):
        """The 202 of a job waits for its web-hook no longer."""
        if told := self.told.pop(uuid, None):
            told.set()

    async def post(self, url, body, headers):
        if self.http is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=10)
            self.http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        try:
            async with self.http.post(url, data=body, headers=headers, ssl=False, allow_redirects=False) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, ValueError, OSError, TimeoutError) as error:
            log.info("web-hook %s: %s", url, error)
            return False

    def control(self, uuid, what, error=None):
        """Finish, fail, hold or expire a job, or fail one whose result is being written."""
        call, run = self.calls.get(uuid), self.running.get(uuid)
        if what == "expire":
            self.expire_by_hand(uuid)
        elif what == "hold":
            self.hold(call, run)
        elif uuid in self.ended:
            if what == "fail":
                self.overturn(call, error or FAILED_BY_HAND)
        else:
            self.store.update("Job", uuid, held=None)
            self.end_by_hand(call, run, what, error)
        return self.store.get("Job", uuid)

    def end_by_hand(self, call, run, what, error):
        by_rule = isinstance(run, Timer)  # a fault rule has it fail, sooner or later
        if what == "finish" or (by_rule and not error):
            run.hurry()
        elif isinstance(run, Run):
            run.fail(error or FAILED_BY_HAND)
        else:
            if by_rule:
                run.cancel()
            self.finish(call, None, error or FAILED_BY_HAND)

    def overturn(self, call, error):
        """Replace the result of a job by an error while it is being written: nobody has seen it."""
        self.undo(call)
        self.set_result(call, None, error)

    def hold(self, call, run):
        """Stop a job where it is, or as soon as it begins; only control() lets it go on."""
        call.fault = replace(call.fault, job="hold")
        if isinstance(run, Run):
            run.hold()
        elif run:
            self.running[call.job] = self.clock.never(run.fire, run.what)
            run.cancel()
        self.store.update("Job", call.job, held=True)

    def expire_by_hand(self, uuid):
        """Forget a job. Its work goes on, but is given up if the job is held or in line."""
        record, call, ended = self.store.peek("Job", uuid), self.calls.get(uuid), uuid in self.ended
        run = self.take_off(uuid)
        self.expire(uuid)
        self.let_go(uuid)
        if ended:
            self.tell_end(call, record["state"], code_of(record))
        elif call and (record.get("held") or not run):
            if run:
                self.stop(run)
            self.next_in_line(call)
            self.tell_end(call, "failed", "")

    def waits(self, uuid):
        """Whether a job has not begun, because another one on the same object has not ended."""
        return self.running.get(uuid, uuid) is None and uuid not in self.ended

    def lose(self):
        """Stop all that is under way where it is, as when the management node dies.

        Polls answer 202 for ever (MysqlAsyncRestStore.java), also for a job whose result is being
        written: nobody has seen that.
        """
        for run in [*self.runs]:
            run.abandon()
        for uuid, run in self.running.items():
            if isinstance(run, Timer):
                run.cancel()
            end = dict.fromkeys(("held", "finished", "body", "error", "hint", "rule"))
            if self.store.peek("Job", uuid):
                self.store.update("Job", uuid, state="lost", **end)
            self.note(uuid)
        for task in self.telling:
            task.cancel()
        self.clear()

    def shift(self, seconds):
        """Move the dates on which running jobs are due: a clock was set by so many seconds."""
        for uuid in filter(functools.partial(self.store.peek, "Job"), self.running):
            self.store.update("Job", uuid, due=self.store.peek("Job", uuid)["due"] + seconds)

    def due(self, record):
        """Return the date on which a job is due, as dates are now."""
        under_way = self.running.get(record["uuid"])
        finite = under_way and under_way.due < math.inf
        return self.clock.date_of(under_way.due) if finite else record["due"]

    def shown(self, record):
        """A record as /zmock/jobs shows it; what is not yet on the disk is still running, and a held one is due never."""
        held = record.get("held") and record["uuid"] in self.running
        state = "held" if held else "running" if record["uuid"] in self.running else record["state"]
        inner = (record.get("body") or {}).get("inventory")
        return {"uuid": record["uuid"], "api": record["api"], "state": state, "created": iso(record["created"]),
                "due": None if held else iso(self.due(record)),
                "resourceUuid": record.get("target") or (inner.get("uuid") if isinstance(inner, dict) else None)}  # fmt: skip

    async def close(self):
        if self.http:
            await self.http.close()


def line_of(call):
    """What a call waits in line for: the object that it is about, also one that it is about to make."""
    return folded(call.target or call["resourceUuid"] or call.job)


FAILED_BY_HAND = ApiError("SYS.1006", "failed by POST /zmock/jobs")


def code_of(record):
    """The code of the error that a job ended with, or ""."""
    return (record.get("error") or {}).get("code", "")


def result_of(record, api=None):
    """What a finished job answers: its body or {"error": ...}; with the schema of what is in it, where its api is given."""
    if record["state"] == "failed":
        return {"error": record["error"]}
    body = record.get("body")
    return (body or {}) | {"schema": schema_of(body or {}, api.members)} if api else body


# ---- Verbs -------------------------------------------------------------------------------------------------------

STATES = {"enable": "Enabled", "disable": "Disabled", "maintain": "Maintenance", "deleting": "Deleting"}
EFFECTS: dict[str, Any] = {}  # effects that are functions, by their words; filled here and by the sections below
BEHAVIOURS: dict[str, Any] = {}  # what a row cannot say, by the name of the API
ON_REMOVAL: dict[str, Any] = {}  # what happens besides when an item of a type goes


def effect(words):
    """Registers what the words of an effect do: a function of a Scope and of the word after them, where one follows."""

    def register(act):
        EFFECTS[words] = act
        return act

    return register


def behaviour(*apis, check=None, **stages):
    """Registers what an API does. `check` looks at its parameters alone; `stages` are what a generator's yields end."""

    def register(act):
        act.stages, act.check = stages, check
        for api in apis:
            BEHAVIOURS[api] = act
        return act

    return register


def on_removal(type):
    """Registers what happens besides when an item of that type goes."""

    def register(act):
        ON_REMOVAL[type] = act
        return act

    return register


def configured(cloud, category, name):
    """What a global configuration is set to, as its type: configured(cloud, "identity", "session.timeout") -> 7200."""
    key = f"{category}/{name}"
    return cloud.catalogue.configurations[key].read(cloud.store.peek("GlobalConfig", key).get("value"))


def address_of(text):
    """The IPv4 address that a text is, or None."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def is_hostname(text):
    labels = text.rstrip(".").split(".")
    return not re.fullmatch(r"[\d.]+", text) and all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels)


def network_of(text, strict=False):
    """The IPv4 network that a text is, or None; strictly, its address must be the network's own."""
    try:
        return ipaddress.IPv4Network(text, strict)
    except ValueError:
        return None


def contains(whole, part):
    """Whether a list has an element, a network "10.0.0.0/8" an address, a range "10.0.0.2-10.0.0.9" one."""
    if not isinstance(whole, str):
        return part in (whole or ())
    first, address, last = map(address_of, (whole.partition("-")[0], part, whole.partition("-")[2]))
    if address and network_of(whole):
        return address in network_of(whole)
    return bool(first and address and last) and first <= address <= last


def rank(value):
    """What a value is compared by: an address is a number."""
    return address_of(value) or value if isinstance(value, str) else value


MON_URL = re.compile(  # sshUsername:sshPassword@hostname:[sshPort]/?[monPort=]
    r"(?P<sshUsername>[^:@]+):(?P<sshPassword>.+)@(?P<hostname>[\w.-]+)(:(?P<sshPort>\d{1,5}))?/?(\?monPort=(?P<monPort>\d{1,5}))?", re.A)


def mon_of(url):
    """What the url of a monitor says, or None."""
    found = MON_URL.fullmatch(url)
    said = {name: int(text) if name.endswith("Port") else text for name, text in found.groupdict().items() if text} if found else {}
    return said if all(0 < said.get(name, 1) < 1 << 16 for name in ("sshPort", "monPort")) else None


FORMS: dict[str, Any] = {
    "IPv4": address_of,
    "Hostname": is_hostname,
    "Domain": re.compile(r"([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}").fullmatch,
    "Cidr": lambda text: isinstance(text, str) and "/" in text and network_of(text, strict=True),
    "Network": network_of,
    "Narrow": lambda text: network_of(text) and network_of(text).prefixlen > 29,
    "Netmask": lambda text: text in {str(network_of(f"0.0.0.0/{bits}").netmask) for bits in range(1, 32)},
    "Path": lambda text: text.startswith("/"),
    "Port": lambda value: type(value) is int and -1 <= value <= 65535,
    "ImageUrl": re.compile(r"((http|https|ftp|sftp|upload|zstore)://|file:///|/).*", re.S).match,
    "MonUrl": mon_of,
    "ApiId": re.compile("[0-9a-f]{32}").fullmatch,
    "HealthTarget": re.compile(r"(tcp|http|udp):(default|\d{1,5})", re.A).fullmatch,
    "Number": re.compile(r"\d{1,9}", re.A).fullmatch,
    "Long": re.compile(r"-?\d{1,18}", re.A).fullmatch,
    "Mac": re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.I).fullmatch,
    "Statement": lambda said: said.get("effect") in ("Allow", "Deny") and isinstance(said.get("actions"), list) and said["actions"],
}
SAID = {"true": True, "false": False, "none": None}


def literal(word):
    """The value that a word of a rule is, when it names nothing."""
    return SAID[word] if word in SAID else int(word) if word.isdigit() else word.strip("'")


def is_name(word):
    return word[0].islower() and word not in SAID


@functools.cache
def read_rule(text):
    """ "a is B|C and no d" -> (("is", "a", ("B", "C")), ("no", "d", ())); "some T k=a" -> ("some", "T", (("k", "a"),))."""
    return tuple(map(read_test, text.split(" and ")))


def read_test(text):
    if compared := re.fullmatch(r"(\S+) (is not|is|not in|in|<|>) (\S+)", text):
        return compared[2], compared[1], tuple(compared[3].split("|"))
    if found := re.fullmatch(r"(some|no) ([A-Z]\w*)((?: \S+)*)", text):
        return f"{found[1]} item", found[2], pairs_of(found[3])
    word, _, name = text.partition(" ")
    return (word, name, ()) if word in ("no", "several") else ("there", text, ())


def pairs_of(text):
    """ "a=b c" -> (("a", "b"), ("c", "c")): a field and the word for its value."""
    return tuple((word.partition("=")[0], word.rpartition("=")[2]) for word in text.split())


def first_of(word):
    """The name that a word begins with, and what it must be for a rule to be for each of it; where it goes on, a map too: ("services", (list, dict))."""
    name, dot, _ = word.partition(".")
    return name, (list, dict) if dot else list


@functools.cache
def names_in(condition):
    """The parameters, as far as they are some, by whose elements a condition is for each of a list."""
    words = []
    for kind, left, right in read_rule(condition):
        whole = () if kind == "several" else (left,) if kind.endswith("in") else (left, *right)
        words += [word for _, word in right] if kind.endswith("item") else whole
    return tuple(map(first_of, filter(is_name, words)))


@functools.cache
def read_effects(clauses):
    """ ("a = b.c", "address of l3") -> [(Scope.assign, ("a", "=", "b.c"), ...), (take_address, ("l3",), ...)]: functions, their words, first names."""
    found = []
    for clause in clauses:
        if infix := re.fullmatch(r"(\S+) ([?]?=|[+-]) (\S+)", clause):
            found.append((Scope.assign, infix.groups(), (first_of(infix[3]),)))
            continue
        words = clause if clause in EFFECTS else next((words for words in EFFECTS if clause.startswith(words + " ")), None)
        if words is None:
            near = did_you_mean(clause, EFFECTS) or did_you_mean(clause.partition(" ")[0], EFFECTS)
            raise ValueError(f"{clause!r} is no effect{near}")
        rest = clause[len(words) + 1 :]
        found.append((EFFECTS[words], (rest,) if rest else (), tuple(first_of(word) for _, word in pairs_of(rest))))
    return found


def elements(value):
    """Those of a list; the entries of a map, one for each element of a list in it: {"a": ["b"]} -> [{"key": "a", "value": "b"}]."""
    if isinstance(value, list):
        return value
    return [{"key": key, "value": one} for key, ones in value.items() for one in (ones if isinstance(ones, list) else [ones])]


def there(value):
    return value not in (None, "", [], {})


class Scope:
    """What the words of a row's rules mean for one call: its parameters, the fields of its item, and what lies beyond them."""

    def __init__(self, cloud, call=None, type="", item=None):
        self.cloud, self.call, self.type, self.item = cloud, call, type, dict(item or {})
        self.params = call.api.params if call else {}
        self.bound, self.changes, self.enough = {}, {}, False

    # words

    def value(self, word):
        if "|" in word:
            return next(filter(there, map(self.value, word.split("|"))), None)
        return self.reach(word)[0] if is_name(word) else self.text(literal(word)) if "{" in word else literal(word)

    def reach(self, name):
        """What a name stands for, and the type of the resource that it leads to."""
        name, *steps = name.split(".")
        if name == "caller":
            value, type = self.call.account, "Account"
        elif name == "configured":
            return configured(self.cloud, steps[0], ".".join(steps[1:])), ""
        elif name == "now":
            value, type = self.cloud.clock.stamp(), ""
        elif name in self.params:
            value, type = self.bound.get(name, self.call[name]), self.params[name].refers
        else:
            name = steps.pop(0) if name == "its" else name
            value, type = self.item.get(name), self.leads(self.type, name)
        for step in steps:
            value, type = (value if isinstance(value, dict) else self.look(type, value)).get(step), self.leads(type, step)
        return value, type

    def leads(self, type, name):
        return self.cloud.catalogue.resources[type].leads.get(name, "") if type in self.cloud.catalogue.resources else ""

    def look(self, type, uuid):
        return self.cloud.look(self.cloud.catalogue.resources[type].stored, uuid) if type and uuid else {}

    def text(self, text, comma=", "):
        """A sentence with what its {names} stand for."""
        return re.sub(r"\{([\w.]+)\}", lambda name: self.worded(self.reach(name[1])[0], comma), text)

    def worded(self, value, comma):
        return comma.join(map(str, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else text_of(value)

    def for_each(self, names):
        """This, or one for each element of the list that one of the names is, or for each entry of the map that one goes into."""
        for name, kinds in names:
            if name in self.params and name not in self.bound and isinstance(self.call[name], kinds):
                return [self.with_bound(name, element) for element in elements(self.call[name])]
        return [self]

    def with_bound(self, name, value):
        other = copy.copy(self)
        other.bound = self.bound | {name: value}
        return other

    # conditions

    def where(self, text):
        """The scope in which a condition holds: this, or that of an element of a list; None where it holds in none."""
        tests = read_rule(text)
        return next((scope for scope in self.for_each(names_in(text)) if all(itertools.starmap(scope.holds, tests))), None)

    def holds(self, kind, left, right):
        if kind.endswith("item"):
            return (kind == "some item") == any(True for _ in self.items(left, right))
        value = self.value(left)
        if kind in ("there", "no"):
            return there(value) == (kind == "there")
        if kind == "several":
            return len({*(value or ())}) > 1
        if kind.endswith("in"):
            return there(value) and contains(self.value(right[0]), value) == (kind == "in")
        if kind in "<>":
            value, other = rank(value), rank(self.value(right[0]))
            return None not in (value, other) and (value < other if kind == "<" else value > other)
        present = there(value) or (value in ("", {}) and right[0] in FORMS)  # what is empty has none of the forms
        return present and any(self.same(value, word) for word in right) == (kind == "is")

    def same(self, value, word):
        return bool(FORMS[word](value)) if word in FORMS else value == self.value(word)

    def items(self, type, pairs):
        """The items of a type that have certain values."""
        row, ((field, value), *others) = self.cloud.catalogue.resource(type), [(field, self.value(word)) for field, word in pairs]
        found = self.cloud.queries.find(row, field, value) if there(value) else ()
        return (item for item in found if all(there(value) and folded(value) in map(folded, each(item, field)) for field, value in others))

    # effects

    def perform(self, *clauses):
        for act, words, names in read_effects(clauses):
            for scope in self.for_each(names) if not self.enough else ():
                act(scope, *words)

    def assign(self, name, sign, word):
        """Sets a field, of the item or of what a uuid leads to; or its list gains or loses an element."""
        *way, field = name.removeprefix("its.").split(".")
        uuid, type = self.reach(".".join(way)) if way else (None, "")
        item, value = self.look(type, uuid) if way else self.item, self.value(word)
        if (sign == "?=" and there(item.get(field))) or (sign in "+-" and value is None):
            return
        if sign in "+-":
            kept = [other for other in item.get(field, ()) if other != value]
            value = [*kept, value] if sign == "+" else kept
        if not way:
            self.set(**{field: value})
        elif item:
            self.cloud.change(type, uuid, **{field: value})

    def set(self, **changes):
        self.changes |= changes
        self.item |= changes

    def keep(self, sift=dict):
        """Writes down what was set."""
        if self.changes and self.cloud.store.peek(self.stored, self.item["uuid"]):
            self.cloud.change(self.stored, self.item["uuid"], **sift(self.changes))
        self.changes = {}

    def renew(self):
        """Looks at the item again after a while: others may have changed it, or taken it away."""
        self.item = self.cloud.get(self.stored, self.item["uuid"])

    @property
    def stored(self):
        return self.cloud.catalogue.resources[self.type].stored


@effect("add")
def add_item(scope, words):
    type, _, pairs = words.partition(" ")
    values = {field: scope.value(word) for field, word in pairs_of(pairs)}
    if all(map(there, values.values())):
        scope.cloud.add(type, **values)


@effect("drop")
def drop_items(scope, words):
    type, _, pairs = words.partition(" ")
    for item in list(scope.items(type, pairs_of(pairs))):
        scope.cloud.drop(type, item)


def tags_of(scope, words):
    """The system tags of the item that begin with words, and the words themselves."""
    begin = scope.text(words)
    return [tag for tag in scope.cloud.find("SystemTag", "resourceUuid", scope.item["uuid"]) if tag["tag"].startswith(begin)], begin


def parts_of(pattern, tag):
    """What the {parts} of a pattern are in a tag; None where it does not match."""
    pairs = [*itertools.zip_longest(pattern.split("::"), tag.split("::"), fillvalue="")]
    fits = all(said and (part[:1] == "{" or part == said) for part, said in pairs)
    return {part[1:-1]: said for part, said in pairs if part[:1] == "{"} if fits else None


def said_by_tag(cloud, uuid, words):
    """What a system tag of something says that begins with words: said_by_tag(cloud, vm, "hostname::") -> "web-1"; None where there is none."""
    for tag in cloud.store.find("SystemTag", "resourceUuid", uuid) if uuid else ():
        if tag["tag"].startswith(words):
            return tag["tag"].removeprefix(words)
    return None


@effect("when")
def when(scope, words):
    condition, _, clause = words.partition(": ")
    if scope.where(condition):
        scope.perform(clause)


@effect("enough if")
def be_enough(scope, condition):
    scope.enough = bool(scope.where(condition))


@effect("nothing")
def do_nothing(scope):
    pass


@effect("remove")
def remove_item(scope):
    scope.cloud.remove(scope.stored, scope.item["uuid"])


# ---- Verbs: calls --------------------------------------------------------------------------------------------------


def scope_of(cloud, call):
    """The scope of a call: with a copy of the item that it is about, where it is about one."""
    subject = call.api.subject
    if not subject:
        return Scope(cloud, call, call.api.type)
    named = call[subject.name]
    uuid = next(iter(named), None) if isinstance(named, list) else named
    return Scope(cloud, call, subject.refers, cloud.store.get(cloud.catalogue.resources[subject.refers].stored, uuid))


def refuse_by_row(cloud, call):
    """Raises the first refusal of the call's row whose condition holds."""
    scope = scope_of(cloud, call) if call.api.refuses else None
    for condition, code, text in call.api.refuses:
        if found := scope.where(condition):
            raise ApiError(code, found.text(text))


def refuse_arguments(cloud, api, params):
    """Raises a refusal that speaks of nothing but parameters before anything is done: they are illegal."""
    scope, names = Scope(cloud, Call(api, params)), tuple(api.params)
    for condition, code, text in api.refuses:
        if code == "SYS.1007" and only_of_parameters(condition, names) and (found := scope.where(condition)):
            raise BadParameter(found.text(text))


@functools.cache
def only_of_parameters(condition, params):
    tests = read_rule(condition)
    return all(not kind.endswith("item") and {*filter(is_name, (left, *right))} <= {*params} for kind, left, right in tests)


def create(cloud, call):
    """A new item from what was given, in so far as its resource has such fields, and from what its row does."""
    row = cloud.catalogue.resource(call.api.type)
    given = {name: value for name, value in call.params.items() if name in row.all_fields}
    scope = Scope(cloud, call, row.name, cloud.add(row.stored, uuid=call["resourceUuid"], **given | row.only))
    cloud.tag_new(call, row.stored, scope.item["uuid"])
    return carry_out(scope, lambda: cloud.shown(row.name, scope.item["uuid"]), without_nulls)


def update(cloud, call):
    """Only what is given changes; changing nothing succeeds."""
    scope = scope_of(cloud, call)
    fields = cloud.catalogue.resource(scope.type).all_fields
    cloud.change(scope.stored, scope.item.get("uuid", call.target), **{name: value for name, value in call.params.items() if name in fields and name != "uuid"})
    return carry_out(scope, lambda: answer_of(scope, call.api), without_nulls)


def change_state(cloud, call):
    """What the row does, and then the new state."""
    scope = scope_of(cloud, call)

    def answer():
        switch(cloud, scope.stored, call.target, STATES[call["stateEvent"]])
        return cloud.shown(call.api.type, call.target)

    return carry_out(scope, answer)


def carry_out(scope, answer, sift=dict):
    """Does what the row says, and answers; a generator where that takes stages."""
    if scope.call.api.stages:
        return in_stages(scope, answer, sift)
    scope.perform(*scope.call.api.does)
    scope.keep(sift)
    return answer()


def in_stages(scope, answer, sift):
    """A generator that yields after each stage of the row, and returns the answer."""
    steps, last = scope.call.api.steps
    for effects, stage in steps:
        scope.perform(*effects)
        scope.keep(sift)
        if scope.enough:
            return answer()
        yield stage
        if scope.call.api.subject and scope.call.api.subject.may_be_gone and not scope.cloud.store.peek(scope.stored, scope.item["uuid"]):
            return None  # whoever took it away did what was asked
        scope.renew()
    scope.perform(*last)
    scope.keep(sift)
    return answer()


def switch(cloud, type, uuid, state):
    """A new state, and for what changes with it too, save what is in maintenance (ClusterExtensionToZone.java)."""
    cloud.change(type, uuid, state=state)
    below, _, key = cloud.catalogue.resource(type).switches.partition(".")
    for child in cloud.find(below, key, uuid) if below else ():
        if child["state"] not in ("PreMaintenance", "Maintenance"):
            switch(cloud, below, child["uuid"], state)


def delete(cloud, call):
    cloud.remove(cloud.catalogue.resource(call.api.type).stored, call.target)


def act(cloud, call):
    """What the row says, and the usual answer."""
    scope = scope_of(cloud, call)
    return carry_out(scope, lambda: answer_of(scope, call.api) if call.api.answers and call.api.long != "always" else None)


def answer_of(scope, api):
    """The inventory that an api answers: of the item, or of the one that a key of the item leads to; or plain fields of the item."""
    if not api.answers.startswith("inventory:"):
        return {name: scope.item.get(name) for name in api.answers.split()}
    row = scope.cloud.catalogue.resources[scope.type]
    keys = (key for key, type in row.leads.items() if type == api.type)
    return scope.cloud.shown(api.type, scope.item["uuid" if api.type in (row.name, row.stored) else next(keys, "uuid")])


def candidates(cloud, call):
    """Answer the items of a type for which all conditions of the row hold, in the order of their uuids."""
    row = cloud.catalogue.resource(call.api.type)
    scopes = (Scope(cloud, call, row.name, item) for item in cloud.queries_of(call).tables.in_order(row.stored))
    return {"inventories": [cloud.inventory(row.name, scope.item) for scope in scopes if all(map(scope.where, call.api.only))]}


TAG_TYPES = {  # the value of a system tag, by the type that a row names; None where it has none of that type
    "": str, "bool": "true".__eq__, "there": "false".__ne__, "int": lambda text: whole_of(text, 63), "list": lambda text: text.split(","),
}  # fmt: skip


def tell(cloud, call):
    """Answer what system tags of the item say, under the names and as the types of the row.

    A tag without a value of that type counts as absent: the default of the row is answered, or nothing.
    """
    scope, body = scope_of(cloud, call), {}
    for member, begin in call.api.tells.items():
        name, kind, default = parts_of_member(member)
        tags, begin = tags_of(scope, begin)
        texts = [tag["tag"].removeprefix(begin) for tag in tags] + [default] * bool(default)
        value = next((value for text in texts if (value := TAG_TYPES[kind](text)) is not None), None)
        body |= {} if value is None else {name: value}
    return body


def parts_of_member(member):
    """ "mtu:int =1500" -> ("mtu", "int", "1500")"""
    name, _, default = member.partition(" =")
    return *name.partition(":")[::2], default


def sums(cloud, call):
    """Answer the sums of fields over the items that the first list given names, or over all items of the type."""
    row = cloud.catalogue.resource(call.api.sums)
    named = next(((field, call[param]) for param, field in call.api.by.items() if call[param]), None)
    items = cloud.queries.by_keys(row, *named) if named else cloud.store.rows(row.name)
    return {name: sum(cloud.queries.value(row, item, name) or 0 for item in items) for name in call.api.answers.split()}


def always(cloud, call):
    return {call.api.answers: copy.deepcopy(call.api.always)}


def whether(cloud, call):
    """Answer which of several conditions hold, by their names, or whether the only one holds."""
    scope, conditions = scope_of(cloud, call), call.api.whether
    if isinstance(conditions, str):
        return {call.api.answers: bool(scope.where(conditions))}
    return {call.api.answers: {name: bool(scope.where(condition)) for name, condition in conditions.items()}}


def query(cloud, call):
    return cloud.query(call.api, call["query"], cloud.queries_of(call))


def verb_of(api):
    """What does a call of the api when no behaviour does; None where nothing can."""
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
    return get_of(api) or (act if api.does else None)


def get_of(api):
    """Return the function that answers a Get by its row, or None."""
    gets = {candidates: api.only, tell: api.tells, sums: api.sums, whether: api.whether, always: api.always is not None}
    return next((get for get, words in gets.items() if words), None)


def taken_for(cloud, uuid, param):
    """A hint for who took one thing for another: what it is; nothing where it is nothing."""
    known = [row.name for row in cloud.catalogue.resources.values() if (item := cloud.store.peek(row.stored, uuid)) and row.has(item)]
    return f"{uuid} is of type {known[-1]}, {param.name} of type {param.refers}" if known else ""


# ---- Cloud -------------------------------------------------------------------------------------------------------

ADMIN = "36c27e8ff05c4780bf6d2fa65700f22e"  # AccountManagerImpl.java
LICENSE_WRITES = {"DeleteLicense", "ReloadLicense", "UpdateLicense"}
FORGOTTEN = {"instanceOfferingUuid": ("vm", "instanceOffering.setNullWhenDeleting")}  # keys that are lost with their end if it is configured so
CALL_CHECKS: list = []  # what every call must stand besides, before its row refuses it; filled by Tags
COMPUTED: dict[tuple[str, str], Any] = {}  # what works out a field of an item when it is looked at; filled by Configuration and Allocation
COUNTED: dict[str, Any] = {}  # around changes that are taken back, counts anew what an item of a type holds of others; filled by Allocation
ON_TAG: dict[str, Any] = {}  # what a system tag of a new item does, by its first word; filled by Allocation


class Cloud:
    """A ZStack, driven by Call objects: check() reads parameters, perform() does it. It knows no HTTP.

    perform() returns the body of the answer, None where there is none, or a generator that yields after each stage.
    """

    def __init__(self, settings, catalogue, store, clock, dialect):
        self.settings, self.catalogue, self.store = settings, catalogue, store
        self.clock, self.dialect = clock, dialect
        self.queries = Rows(catalogue, dialect, store, self.computed(), clock.utc_offset)
        self.computing = {type for type, _ in self.queries.computed}
        self.jobs = None  # set by new_cloud: long jobs run on it
        self.accounts = None  # set by new_cloud: asked about the calls of everybody but admin
        self.resets = 0
        self.clear()

    def clear(self):
        """Back to before anything was in it; the random sequence starts again."""
        self.random = random.Random(self.settings.seed)
        self.cursors = {}  # where to look next for a free address, by range
        self.used, self.draws = Counter(), Counter()  # how often each API was called, and a duration drawn for it
        self.long_runs = {}  # the long jobs under way
        self.scheduled = {}  # timers of scheduler jobs, by what ties each to its trigger
        self.expunging = {}  # timers of what waits to be expunged, by its uuid
        self.incidents, self.numbers = {}, itertools.count(1)  # those that last
        self.down = Counter()  # hosts that incidents keep away, by how many
        self.full, self.lapsed = Counter(), {}  # full primary storage; licences that ended early: (the end they had, the one they have)
        self.refusals = {}  # what incidents have against calls: functions that answer an error, or None
        self.unreachable, self.deaths = 0, 0  # incidents that keep the management node down; how often it went
        self.resets += 1
        self.pretend = None  # the moment that stands for now while the demo cloud is built
        self.acting = None  # the account whose call is being done; nobody while it is admin's

    # items

    def uuid(self):
        """A random v4 uuid without dashes, from the seed."""
        digits = f"{self.random.getrandbits(128):032x}"
        return f"{digits[:12]}4{digits[13:16]}{'89ab'[int(digits[16], 16) % 4]}{digits[17:]}"

    def get(self, type, uuid):
        """A copy of the item; SYS.1003 where there is none."""
        item = self.store.get(type, uuid)
        if item is None:
            raise missing("uuid", uuid, type)
        return item

    def look(self, type, uuid):
        """The item itself for looking at only, or an empty one."""
        return self.store.peek(type, uuid) or {}

    def find(self, type, field, value):
        return list(self.store.find(type, field, value))

    def add(self, type, /, **values):
        """A new item: what the row starts it with, what is given, a uuid and the dates; answers it."""
        row, now = self.catalogue.resource(type), self.clock.stamp(self.pretend)
        if row.inside:
            return self.refer(row, {**row.new, **values} | dict.fromkeys(row.fields.keys() & {"createDate", "lastOpDate"}, now))
        item = {"uuid": values.pop("uuid", None) or self.uuid(), **row.new, **values, "createDate": now, "lastOpDate": now}
        item["owner"] = self.owner_of_new(row, item) if row.owner else None
        self.store.put(type, without_nulls(item))
        return self.store.get(type, item["uuid"])

    def owner_of_new(self, row, item):
        """The account that has what a new item is part of, or the one whose call makes it; none where that is admin's."""
        key = row.owner
        whole = self.store.peek(row.leads[key], item[key]) if key != "caller" and item.get(key) else None
        return whole.get("owner") if whole else self.acting

    def refer(self, row, reference):
        """One more reference in the list of the item that it lies in; a list of uuids keeps the uuid alone."""
        place = row.place
        owner = self.get(place.owner, reference[place.key])
        alone = self.catalogue.resource(place.owner).all_fields[place.list] == "list"
        self.change(place.owner, owner["uuid"], **{place.list: [*owner.get(place.list, ()), reference[place.value] if alone else reference]})

    def drop(self, type, item):
        """Takes away an item, or a reference out of the list that it lies in."""
        row = self.catalogue.resource(type)
        if row.inside:
            owner = self.look(row.place.owner, item[row.place.key])
            pairs = zip(owner[row.place.list], row.place.rows(owner))
            self.change(row.place.owner, owner["uuid"], **{row.place.list: [kept for kept, reference in pairs if reference != item]})
        else:
            self.remove(type, item["uuid"])

    def change(self, type, uuid, /, **changes):
        """Changes fields of an item; None takes a field away."""
        if not self.store.peek(type, uuid):
            raise missing("uuid", uuid, type)
        self.store.update(type, uuid, **changes, lastOpDate=self.clock.stamp(self.pretend))

    def remove(self, type, uuid):
        """Takes an item away with its tags and all that dies with it (the server's cascade extensions)."""
        item = self.store.get(type, uuid)
        if item is None:
            return
        self.store.remove(type, uuid)
        row = self.catalogue.resource(type)
        if row.soft_deleted:
            self.store.put("Gone", {"uuid": uuid})
        if type in ON_REMOVAL:
            ON_REMOVAL[type](self, item)
        Scope(self, None, type, item).perform(*row.ends)
        self.bereave(type, uuid)

    def bereave(self, type, uuid):
        """What depends on an item that is gone goes too, or loses it."""
        for child, key, lost in self.catalogue.dependents[type]:
            for other in list(self.queries.find(self.catalogue.resource(child), key, uuid)):
                self.drop(child, other) if not lost else self.lose(child, other, uuid, lost)
        for about in ("SystemTag", "UserTag", "SharedResource"):
            for other in self.find(about, "resourceUuid", uuid):
                self.store.remove(about, other["uuid"])

    def take_back(self, changes):
        """Undoes changes. Others may have used in the meantime what is not there then; what was counted is counted anew."""
        touched = sorted({change[:2] for change in changes if change[0] in self.catalogue.resources})
        counts = [COUNTED[type](self, uuid) for type, uuid in touched if type in COUNTED]
        for count in counts:
            next(count)
        self.store.take_back(changes)
        for type, uuid in touched:
            if not self.store.peek(type, uuid):
                self.bereave(type, uuid)
        for count in counts:
            next(count, None)

    def lose(self, type, item, uuid, names):
        """Takes from an item what led to another that is gone: an element of a list, or the key and what went with it."""
        if names[0] in FORGOTTEN and not configured(self, *FORGOTTEN[names[0]]):
            return
        if isinstance(item[names[0]], list):
            self.change(type, item["uuid"], **{names[0]: [other for other in item[names[0]] if other != uuid]})
        else:
            self.change(type, item["uuid"], **dict.fromkeys(names))

    # inventories

    def computed(self):
        """Fields that are worked out when they are looked at."""
        return {
            ("License", "expired"): self.license_is_over,
            ("LicenseAddOn", "expired"): self.license_is_over,
            ("License", "expiredDate"): self.license_end,
            ("LicenseAddOn", "expiredDate"): self.license_end,
            ("PrimaryStorage", "availableCapacity"): lambda ps: 0 if ps["uuid"] in self.full else ps.get("availableCapacity"),
            ("PrimaryStorage", "availablePhysicalCapacity"): lambda ps: 0 if ps["uuid"] in self.full else ps.get("availablePhysicalCapacity"),
            ("SchedulerJob", "state"): lambda job: "Disabled" if self.is_deleted(job.get("targetResourceUuid")) else job.get("state"),
            ("License", "availableHostNum"): lambda row: max(0, row["hostNum"] - self.store.count("Host")),
            ("License", "availableCpuNum"): lambda row: max(0, row["cpuNum"] - sum(h.get("cpuSockets", 0) for h in self.store.rows("Host"))),
        } | {field: functools.partial(work_out, self) for field, work_out in COMPUTED.items()}

    def is_deleted(self, uuid):
        """Whether a virtual machine or a volume waits to be expunged, or recovered."""
        return self.look("VmInstance", uuid).get("state") == "Destroyed" or self.look("Volume", uuid).get("status") == "Deleted"

    def license_is_over(self, row):
        end = self.license_end(row)
        return bool(end) and end <= self.clock.stamp()

    def license_end(self, row):
        had, has = self.lapsed.get(row["uuid"], (None, None))
        return has if has and row.get("expiredDate") == had else row.get("expiredDate")

    def inventory(self, type, item, only=None):
        """An item as a client sees it: its fields without nulls, dates in words, what is embedded, what is computed."""
        row = self.catalogue.resource(type)
        names = row.all_fields if only is None else [name for name in row.all_fields if name in only]
        if row.stored in self.computing:
            item = item | {name: self.queries.value(row, item, name) for name in names}
        shown = {name: item[name] for name in names if item.get(name) is not None}
        for name in row.worded:
            if name in shown:
                shown[name] = us_date(shown[name]) if row.all_fields[name] == "date" else self.refs(shown[name])
        row = self.catalogue.as_told(row, item)
        for name, inner in self.catalogue.embedded[row.name].items() if only is None else ():
            children = self.queries.find(inner, row.relations[name].theirs, item["uuid"])
            shown[name] = [self.inventory(inner.name, child) for child in sorted(children, key=lambda child: child.get("deviceId", 0))]
        return shown

    def refs(self, rows):
        """References inside an item, with their dates in words."""

        def worded(name, value):
            dated = name.endswith("Date") and isinstance(value, str) and self.clock.is_stamp(value)
            return us_date(value) if dated else value

        return [{name: worded(name, value) for name, value in row.items()} for row in rows]

    def shown(self, type, uuid):
        """The usual answer: {"inventory": {...}}."""
        return {"inventory": self.inventory(type, self.get(self.catalogue.resources[type].stored, uuid))}

    # calls

    def simulated(self, api):
        return api.backing != "none"

    def at_once(self, api):
        """Whether a call is answered by itself, without a job."""
        return api.at_once and not (self.dialect["license-writes"] and api.name in LICENSE_WRITES)

    def needs_session(self, api):
        return not api.open

    def stages(self, api, long=False):
        """The stages that a job of the api goes through, or a long one, with the sentence that its progress shows."""
        return getattr(self.behaviour(api, long), "stages", api.stages)

    def behaviour(self, api, long=False):
        """What an api does that its row cannot say, or None; what is always a long job does as its row says once it is one."""
        return None if long and api.long == "always" else BEHAVIOURS.get(api.name)

    def check(self, api, given):
        """The parameters that were given, read and found legal; raises BadParameter or FrontError (APIMessage.java)."""
        defaults = {param.name: param.default for param in api.params.values()}
        said = defaults | {name: value for name, value in given.items() if value is not None}
        params = {param.name: self.read(param, said[param.name]) for param in api.params.values()}
        lacking = [name for name, param in api.params.items() if param.required and params[name] is None]
        for param in api.params.values():
            self.check_one(api, param, params[param.name], lacking)
        params = self.spelled(api, without_nulls(params))
        if self.makes(api) and given.get("resourceUuid") not in (None, ""):
            params["resourceUuid"] = self.check_uuid(given["resourceUuid"])
        self.check_mode(api, given.get("deleteMode"))
        check = getattr(BEHAVIOURS.get(api.name), "check", None)
        if check:
            check(self, params)
        refuse_arguments(self, api, params)
        return params

    def read(self, param, value):
        if value is None:
            return None
        try:
            return READERS[param.type](param, value)
        except TypeError as error:
            raise FrontError(self.dialect["malformed-body"], str(error), f"{param.name} is {a_noun(KIND_WORDS[param.type])}") from None

    def check_one(self, api, param, value, lacking=()):
        """Raise BadParameter for an illegal value. The server reports one that is missing; the hint names all."""
        where = f"field[{param.name}] of message[{api.message}]"
        all_missing = f"missing: {', '.join(lacking)}" if value is None else ""
        if isinstance(value, str) and param.longest and len(value) > param.longest:
            raise BadParameter(f"{where} exceeds max length of string. expected was <= {param.longest}, actual was {len(value)}")
        if isinstance(value, str) and len(value) < param.shortest:
            raise BadParameter(f"{where} less than the min length of string. expected was >= {param.shortest}, actual was {len(value)}")
        if value is None and param.required and param.low:
            value = 0  # a Java primitive cannot be missing: it is 0, and out of its range
        if value is None:
            if param.required:
                raise BadParameter(f"{where} is mandatory, can not be null", all_missing)
            return
        if param.values and value not in param.values:
            raise BadParameter(f"valid value for {where} are [{', '.join(param.values)}], but {value} found", did_you_mean(value, param.values)[2:])
        if param.regex and not re.fullmatch(param.regex, value):
            raise BadParameter(f"valid regex value for {where} are {param.regex}, but {value} found")
        self.check_list(param, value)
        if param.low is not None and not param.low <= value <= param.high:
            low, high = (f"{param.low} byte", f"{param.high} bytes") if param.unit else (param.low, param.high)
            raise BadParameter(f"field[{param.name}] must be in range of [{low}, {high}]", all_missing)

    def check_list(self, param, value):
        if param.nonempty and not value:
            raise BadParameter(f"field[{param.name}] must be a nonempty list")
        if isinstance(value, list) and None in value:
            raise BadParameter(f"field[{param.name}] cannot contain a NULL element")
        if param.nonblank and value == "":
            raise BadParameter(f"field[{param.name}] cannot be an empty string")
        if param.nonblank and isinstance(value, list) and "" in value:
            raise BadParameter(f"field[{param.name}] cannot contain any empty string")

    def makes(self, api):
        """Whether a call may say the uuid of what it makes."""
        return (api.method == "POST" or api.creates) and not api.bare and "resourceUuid" not in api.params

    def spelled(self, api, params):
        """Return parameters in which each uuid is spelled as in the item that has it.

        Clients may write a uuid in any case, for MySQL compares without; zmock compares with ==.
        """
        known = [name for name in params if name in api.params]
        return params | {name: self.spell(api, api.params[name], params[name]) for name in known}

    def spell(self, api, param, value):
        if (api.type, param.name) == ("SystemTag", "tag") and isinstance(value, str):
            return spell_in_tag(value, self.spell_uuid)
        if param.refers in ("", "Resource"):
            return spell_in("uuid" if param.refers else param.name, value, self.spell_uuid)
        types = [self.catalogue.resources[param.refers].stored]
        return spell_in("uuid", value, functools.partial(self.store.spelling, types=types))

    def spell_uuid(self, uuid):
        """Return the uuid of any resource as it is spelled there."""
        return self.store.spelling(uuid, self.catalogue.resources)

    def check_uuid(self, value):
        if not isinstance(value, str) or not re.fullmatch(UUID, value):
            raise BadParameter(
                f"resourceUuid[{value}] is not a valid uuid. A valid uuid is a UUID(v4 recommended) with '-' stripped. see "
                "http://en.wikipedia.org/wiki/Universally_unique_identifier for format of UUID, the regular expression ZStack uses "
                f"to validate a UUID is '{UUID}'"
            )
        return value

    def check_mode(self, api, mode):
        if api.method == "DELETE" and mode not in (None, "", "Permissive", "Enforcing"):  # zstack-sdk-go sends an empty one
            raise BadParameter(f"No enum constant org.zstack.header.message.APIDeleteMessage.DeletionMode.{mode}",
                               "deleteMode is Permissive or Enforcing", code="SYS.1007" if self.dialect["bad-parameter"] else "SYS.1000")  # fmt: skip

    def perform(self, call):
        """Does what is asked, in the server's order: references, session, then the operation itself."""
        call.params = self.spelled(call.api, call.params)  # again: more may be there by now
        call.system_tags = [spell_in_tag(tag, self.spell_uuid) for tag in call.system_tags]
        if self.is_gone(call):
            return None  # deleting what is not there succeeds (ApiMessageProcessorImpl.java)
        if self.needs_session(call.api) and not call.account:
            self.accounts.enter(call)
        if call.refused:
            raise call.refused
        if not self.by_admin(call):
            self.accounts.admit(call)
        wanted = call["resourceUuid"] if self.makes(call.api) else None
        if wanted and (self.exists("Resource", wanted) or self.store.peek("Gone", wanted)):
            raise ApiError("SYS.1000", f"could not execute statement; Duplicate entry '{wanted}' for key 'PRIMARY'")
        for check in CALL_CHECKS:
            check(self, call)
        if "ephemeral::validationOnly" in call.system_tags:
            return None
        refuse_by_row(self, call)
        if not self.by_admin(call):
            self.accounts.charge(call)
        return self.act(call)

    def act(self, call):
        """Does a call that nothing refuses, by its behaviour or by its verb."""
        work = self.behaviour(call.api, call.long) or verb_of(call.api)
        return work(self, call) if call.account in ("", ADMIN) else self.accounts.act(call, work)

    def is_gone(self, call):
        """Whether the call is about something that is not there and need not be; SYS.1003 for what must be."""
        for param in call.api.params.values():
            value = call[param.name]
            if not param.refers or value is None:
                continue
            lost = [uuid for uuid in (value if isinstance(value, list) else [value]) if not self.exists(param.refers, uuid)]
            if lost and param.may_be_gone:
                if not param.any_form and not re.fullmatch(UUID, value):
                    raise ApiError("SYS.1003", f"invalid value[{value}] of field [{param.name}]")
                return True
            if lost and isinstance(value, list):
                raise ApiError("SYS.1003", f"invalid field[{param.name}], resource[uuids:[{', '.join(map(str, lost))}], type:{param.refers}VO] not found",
                               hint=taken_for(self, lost[0], param))  # fmt: skip
            if lost:
                raise missing(param.name, value, param.refers, taken_for(self, value, param))
        return False

    def exists(self, type, uuid):
        if type == "Resource":  # ResourceVO: anything with a uuid
            return any(self.store.peek(name, uuid) for name in self.catalogue.resources)
        row = self.catalogue.resources[type]
        item = self.store.peek(row.stored, uuid)
        return item is not None and row.has(item)

    @staticmethod
    def by_admin(call):
        """Whether a call is admin's, or the mock's own, or of those that need no session: nothing is asked about it."""
        return call.user in ("", ADMIN)

    def admit(self, call):
        """Lets a call in, with the account of its session, which may end before the call does; perform() says what is wrong, in its turn."""
        with contextlib.suppress(ApiError):
            if self.needs_session(call.api):
                self.accounts.enter(call)
        call.refused = next(filter(None, (refuse(call) for refuse in self.refusals.values())), None)

    def queries_of(self, call):
        """What evaluates the queries of whoever calls: over all there is for admin, and over what an account sees."""
        return self.queries if self.by_admin(call) or call.account == ADMIN else self.accounts.queries(call.account)

    def query(self, api, query, queries=None):
        """The answer of a Query api: {"inventories": [...]} and total where it is wanted."""
        row = self.catalogue.resource(api.type)
        items, total = (queries or self.queries).select(query, row)
        if query.count:
            return {"total": total}
        body = {"inventories": [self.inventory(row.name, item, query.fields) for item in items]}
        return body | ({"total": total} if query.with_count else {})

    # tags and notifications

    def tag_new(self, call, type, uuid):
        """Puts the tags of a creation on what it made; system tags for another type are passed over."""
        for tag in call.system_tags:
            fits = self.dialect["free-system-tags"] or self.catalogue.resources[type].allows_tag(tag)
            if fits and not tag.startswith("ephemeral::"):
                self.add("SystemTag", resourceUuid=uuid, resourceType=type + "VO", tag=tag)
                name, _, said = tag.partition("::")
                ON_TAG[name](self, uuid, said) if name in ON_TAG else None
        for tag in call.user_tags:
            self.add("UserTag", resourceUuid=uuid, resourceType=type + "VO", tag=tag)

    def notify(self, content, arguments, about=None, uuid=None, severity="Info", **more):
        """Writes a notification: a text with %s, and what stands for them."""
        self.add("Notification", content=content, arguments=json.dumps(arguments, ensure_ascii=False), resourceType=about,
                 resourceUuid=uuid, type=severity, time=int((self.pretend or self.clock.now()) * 1000), **more)  # fmt: skip

    def notify_failure(self, call, error):
        self.notify("API[%s] failed: %s", [call.api.name, error.details], call.api.type and call.api.type + "VO", call.target, "Error", name="api", sender="api",
                    opaque={"success": False, "session": call.session})  # fmt: skip


# ---- Configuration -----------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=8)
def standing_in(catalogue):
    """The items that every cloud has until they are changed: the global configurations, each as it is by default."""
    rows = catalogue.configurations.values()
    return {"GlobalConfig": {folded(row.name): frozen(row.item) for row in rows}}


def heart_beat(cloud, node):
    interval = configured(cloud, "managementServer", "node.heartbeatInterval")
    return cloud.clock.stamp(cloud.clock.now() // interval * interval)


COMPUTED["ManagementNode", "heartBeat"] = heart_beat
ON_CONFIGURED: dict[str, list] = defaultdict(list)  # what is counted or planned anew when a global configuration changes, by its name


def on_configured(*names):
    """Registers what a change of some global configurations brings about at once; most are read where they count."""

    def register(act):
        for name in names:
            ON_CONFIGURED[name].append(act)
        return act

    return register


def configure(cloud, category, name, value):
    """A new value, if the configuration may have it."""
    known = cloud.catalogue.configurations
    row = known.get(f"{category}/{name}")
    if not row:
        raise ApiError("SYS.1007", f"unable to find global configuration[category:{category}, name:{name}]",
                       hint=f"no global configuration {category}/{name}{did_you_mean(f'{category}/{name}', known)}")  # fmt: skip
    if fault := row.fault(value):
        raise ApiError("SYS.1007", f"global configuration[category:{category}, name:{name}] {fault}")
    cloud.change("GlobalConfig", row.name, value=value)
    for act in ON_CONFIGURED.get(row.name, ()):
        act(cloud)


@effect("configure")
def configure_as_called(scope):
    configure(scope.cloud, *(scope.call[name] for name in ("category", "name", "value")))
    scope.item = scope.look("GlobalConfig", f"{scope.call['category']}/{scope.call['name']}")


# ---- Accounts ----------------------------------------------------------------------------------------------------

def matches(pattern, names):
    """Whether the names of a class match a pattern, both in parts: * is any run of letters, ** any run of names (PolicyMatcher.java)."""
    ends = {0}  # how many of the names the parts so far may stand for
    for part in pattern:
        if part == "**":
            ends = {*range(min(ends, default=len(names) + 1), len(names) + 1)}
        else:
            ends = {n + 1 for n in ends if n < len(names) and fnmatchcase(names[n], part)}
    return len(names) in ends


def names_class(pattern, message):
    return matches(pattern.split("."), message.split("."))


def texts(value):
    """The texts in what a client sent for a list of texts."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


class Accounts:
    """Who calls, what they may do and see, and how much an account may have; of admin only who he is is asked."""

    def __init__(self, cloud):
        self.cloud, self.store, self.catalogue = cloud, cloud.store, cloud.catalogue

    # who calls

    def session(self, uuid):
        """The session, if it is one; ID.1001 if not, or not any more: its end does not move when it is used."""
        session = self.store.peek("Session", uuid)
        if session and session["expiredDate"] > self.cloud.clock.stamp():
            return session
        if self.cloud.settings.open:
            return {"accountUuid": ADMIN, "userUuid": ADMIN}
        raise ApiError("ID.1001", "Session expired", hint="log in again: PUT /zstack/v1/accounts/login")

    def enter(self, call):
        """Notes whose session a call comes from."""
        session = self.session(call.session)
        call.account, call.user = session["accountUuid"], session["userUuid"]

    def sweep(self):
        """Forgets sessions that are over."""
        now = self.cloud.clock.stamp()
        for session in [session for session in self.store.rows("Session") if session["expiredDate"] <= now]:
            self.store.remove("Session", session["uuid"])

    # whose things are

    def owner(self, type, item):
        """The account that an item belongs to, its tags too; none where it is nobody's, as a zone."""
        if type in ("SystemTag", "UserTag"):
            row = self.catalogue.of_vo(item["resourceType"])
            return self.owner(row.stored, self.cloud.look(row.stored, item["resourceUuid"])) if row else None
        row = self.catalogue.resource(type)
        return item.get("owner", ADMIN) if row and row.owner else item.get(row.account) if row and row.account else None

    def find(self, uuid):
        """The type and the item of a uuid, among all that belongs to accounts."""
        found = ((type, self.store.peek(type, uuid)) for type in self.catalogue.referenced)
        return next((pair for pair in found if pair[1]), ("", None))

    def things(self, account, type):
        """The items of a type that an account has."""
        if type in self.catalogue.owned and account != ADMIN:
            return self.store.find(type, "owner", account)
        return [item for item in self.store.rows(type) if self.owner(type, item) == account]

    def give(self, type, item, account):
        """Has an item belong to an account, and what is part of it too."""
        self.cloud.change(type, item["uuid"], owner=None if account == ADMIN else account)
        for part in self.catalogue.owned.values():
            if part.leads.get(part.owner) == type:
                for child in self.cloud.find(part.name, part.owner, item["uuid"]):
                    self.give(part.name, child, account)

    def act(self, call, work):
        """Does the work of a call, so that what it makes belongs to the account that calls."""
        before, self.cloud.acting = self.cloud.acting, call.account
        try:
            body = work(self.cloud, call)
        finally:
            self.cloud.acting = before
        return self.in_turns(call, body) if isinstance(body, GeneratorType) else body

    def in_turns(self, call, steps):
        """The stages of a generator, between which others act."""
        while True:
            try:
                stage = self.act(call, lambda *_: next(steps))
            except StopIteration as end:
                return end.value
            yield stage

    # what may be done

    def admit(self, call):
        """Raises why a call may not be, for who makes it: the api, then what it touches."""
        if not self.store.peek("Account", call.account):  # it went while the call waited
            raise ApiError("ID.1001", "Session expired")
        self.refuse_api(call.api, call.params, call.account, call.user)
        if call.api.name == "DeleteTag":
            self.refuse_tag(call)
        for param in call.api.params.values() if call.account != ADMIN else ():
            for uuid in call[param.name] if isinstance(call[param.name], list) else [call[param.name]]:
                self.refuse_touching(call, param, *self.meant(call, param, uuid))

    def may(self, api, account, user):
        try:
            self.refuse_api(api, {}, account, user)
        except ApiError:
            return False
        return True

    def refuse_api(self, api, params, account, user):
        """Accounts may do all that is not only for admin. Users may do what a policy allows and none denies (RBACAPIRequestChecker.java)."""
        if account != ADMIN and api.caller == "admin" and api.message not in self.opened():
            raise ApiError("SYS.1006", "operation is denied by default", hint=f"{api.name} is for admin only")
        if user in (account, ADMIN):
            return
        said = [(policy, effect, action.split(":", 1)) for policy, effect, action in self.statements(user)]
        for policy, _, (name, *names) in (told for told in said if told[1] == "Deny" and names_class(told[2][0], api.message)):
            if not names:
                raise refused(f"the operation is denied by the policy[name:{policy['name']} uuid:{policy['uuid']}]")
            for name in filter(params.__contains__, names[0].split(",")):
                raise refused(f"the operation is denied by the policy[name:{policy['name']}, uuid:{policy['uuid']}], field[{name}] is not permitted to set")
        if not any(effect == "Allow" and names_class(action[-1], api.message) for _, effect, action in said):
            raise ApiError("SYS.1006", "operation is denied by default", hint=f"a user needs a policy that allows {api.message}")

    def opened(self):
        return configured(self.cloud, "identity", "account.api.control").replace(",", " ").split()

    def statements(self, user):
        """What policies say to a user and to its groups: policy, effect and action, each action by itself."""
        groups = self.store.find("UserGroupUserRef", "userUuid", user)
        refs = [*self.store.find("UserPolicyRef", "userUuid", user)]
        refs += [ref for group in groups for ref in self.store.find("UserGroupPolicyRef", "groupUuid", group["groupUuid"])]
        for policy in (self.cloud.look("Policy", ref["policyUuid"]) for ref in refs):
            for said in [said for said in policy.get("statements", ()) if isinstance(said, dict)]:  # a kept cloud may hold anything
                if not said.get("principals") or any(names_class(who.removeprefix("user:"), user) for who in texts(said["principals"])):
                    yield from ((policy, said.get("effect"), action) for action in texts(said.get("actions")))

    def meant(self, call, param, uuid):
        """The type and the item that a value of a parameter names; what no account has, by the type that the call says."""
        if param.refers in ("", "Resource"):
            found = self.find(uuid) if param.refers or param.name in ("resourceUuid", "resourceUuids") else ("", None)
            row = self.catalogue.of_vo(call["resourceType"] or "") if param.name == "resourceUuid" and not found[0] else None
            return (row.stored, self.store.peek(row.stored, uuid)) if row else found
        type = self.catalogue.resources[param.refers].stored
        return type, self.store.peek(type, uuid)

    def refuse_tag(self, call):
        for type in ("SystemTag", "UserTag"):
            tag = self.store.peek(type, call["uuid"])
            if tag and call.account not in (ADMIN, self.owner(type, tag)):
                raise ApiError("ID.1002", f"permission denied. The {type[:-3].lower()} tag[uuid: {tag['uuid']}] refer to a resource not belonging to "
                                          f"the account[uuid: {call.account}]")  # fmt: skip

    def refuse_touching(self, call, param, type, item):
        """What a call changes must belong to who calls, what it makes use of may be shared with it (OperationTargetAPIRequestChecker.java).

        What is nobody's, as a host, is for all to use, and for admin to tag.
        """
        owner = self.owner(type, item) if item else call.account
        if owner == call.account or (owner is None and call.api.type not in ("SystemTag", "UserTag")):
            return
        what = f"resource[uuid:{item['uuid']}, type:{type if param.refers in ('', 'Resource') else param.refers}VO]"
        named = call.api.kind not in ("Get", "Check") and (param in call.api.named or not param.refers)
        if param.changed or (named and not param.used):
            raise refused(f"permission denied, the account[uuid:{call.account}] is not the owner of the {what}")
        if item["uuid"] not in self.shared_with(call.account):
            raise refused(f"the account[uuid:{call.account}] has no access to the {what}")

    # what is seen

    def shared_with(self, account):
        """The uuids of what others share with an account, or with all."""
        shares = (*self.store.find("SharedResource", "receiverAccountUuid", account), *self.store.find("SharedResource", "toPublic", True))
        return dict.fromkeys(share["resourceUuid"] for share in shares)

    def queries(self, account):
        """What evaluates the queries of an account."""
        return Rows(self.catalogue, self.cloud.dialect, Seen(self, account), self.cloud.queries.computed, self.cloud.queries.ahead)

    def queries_on(self, type):
        """What evaluates queries on a resource over all there is: the references of accounts are only there for who asks."""
        return self.queries(ADMIN) if type == "AccountResourceRef" else self.cloud.queries

    # how much an account may have

    def amount(self, account, allowance):
        """How much an account has of what is counted."""
        row = self.catalogue.resource(allowance.type)
        counted = (item for item in self.things(account, row.stored) if row.has(item)) if row else ()
        fitting = (item for item in counted if not allowance.when or Scope(self.cloud, type=row.name, item=item).where(allowance.when))
        return sum(item.get(allowance.field, 0) if allowance.field else 1 for item in fitting)

    def total(self, account, name):
        """How much an account may have; admin is not counted."""
        said = (quota["value"] for quota in self.store.find("Quota", "identityUuid", account) if quota["name"] == name)
        return next(said, 0 if account == ADMIN else configured(self.cloud, "quota", name))

    def charge(self, call):
        """Raises that what a call asks for is more than its account may have (QuotaUtil.java)."""
        asked = Counter(row.name for row in self.catalogue.quotas.values() if call.api.creates and row.type == call.api.type and not row.field)
        for name, words in (ask.split(" = ") for ask in call.api.asks):
            asked[name] += self.worth(scope_of(self.cloud, call), words.split("|"))
        for name, wanted in asked.items():
            self.refuse_excess(call.account, name, self.amount(call.account, self.catalogue.quotas[name]) if call.account != ADMIN else 0, wanted)

    @staticmethod
    def worth(scope, words):
        """What the first of some words that is there stands for, for each element where it speaks of a list."""
        worth = (sum(value if isinstance(value, int) else 1 for each in scope.for_each([first_of(word)]) if there(value := each.value(word))) for word in words)
        return next(filter(None, worth), 0)

    def refuse_excess(self, account, name, used, wanted):
        value = self.total(account, name)
        if account != ADMIN and wanted and used + wanted > value:
            raise ApiError("ID.1003", f"quota exceeding.The resource owner(or target resource owner) account[uuid: {account} name: "  # sic: no space
                                      f"{self.cloud.look('Account', account).get('name', '')}] exceeds a quota[name: {name}, value: {value}], "
                                      f"Current used:{used}, Request:{wanted}. Please contact the administrator.")  # fmt: skip


class Seen:
    """The tables of a store as an account sees them: what is its own, what is shared with it, and what is nobody's.

    The table of AccountResourceRefs is made when it is asked for: which account has what, for an account only its own.
    """

    def __init__(self, accounts, account):
        self.accounts, self.store, self.account = accounts, accounts.store, account
        self.kept = {}  # the items of a type, by uuid

    @functools.cached_property
    def shared(self):
        return self.accounts.shared_with(self.account)

    def sees(self, type, item):
        return self.accounts.owner(type, item) in (None, self.account) or item.get("resourceUuid", item["uuid"]) in self.shared

    def all(self, type):
        if type == "AccountResourceRef":
            return [ref for kind in self.accounts.catalogue.referenced for item in self.store.rows(kind) for ref in self.reference(kind, item)]
        if type in self.accounts.catalogue.owned:
            return [*self.accounts.things(self.account, type), *filter(None, (self.store.peek(type, uuid) for uuid in self.shared))]
        return [item for item in self.store.rows(type) if self.sees(type, item)]

    def reference(self, type, item):
        """That an account has an item: one, or none where that is not to be seen, or nobody has it."""
        owner = self.accounts.owner(type, item) if item else None
        told = {"accountUuid": owner, "resourceUuid": item["uuid"], "resourceType": f"{type}VO"} if owner else {}
        return [told | {name: item.get(name) for name in ("uuid", "createDate", "lastOpDate")}] if owner and self.account in (ADMIN, owner) else []

    def rows(self, type):
        if type not in self.kept:
            self.kept[type] = {folded(item["uuid"]): item for item in self.all(type)}
        return self.kept[type].values()

    def in_order(self, type, start=None, stop=None):
        self.rows(type)
        return [self.kept[type][uuid] for uuid in sorted(self.kept[type])[start:stop]]

    def find(self, type, field, value):
        if type == "AccountResourceRef":  # by the resource, the one key of it that is indexed
            return self.reference(*self.accounts.find(value))
        return [item for item in self.store.find(type, field, value) if self.sees(type, item)]

    def how_many(self, type, field, value):
        return self.store.how_many(type, field, value)

    def count(self, type):
        return len(self.rows(type))


def new_cloud(settings, catalogue):
    """An empty cloud with all that it stands on: a clock, a store, its jobs."""
    clock, dialect = Clock(settings.clock, settings.utc_offset), Dialect(settings.dialect)
    store = Store({name: row.indexes for name, row in catalogue.resources.items()}, None if settings.memory else settings.data, settings.durable == "on",
                  standing_in(catalogue))  # fmt: skip
    cloud = Cloud(settings, catalogue, store, clock, dialect)
    cloud.accounts = Accounts(cloud)
    cloud.jobs = Jobs(clock, store, dialect, functools.partial(configured, cloud), catalogue, cloud.perform, cloud.stages,
                      cloud.notify_failure, cloud.take_back)  # fmt: skip
    return cloud


# ---- Accounts: calls -----------------------------------------------------------------------------------------------


@behaviour("QueryAccountResourceRef")
def query_account_resource_ref(cloud, call):
    return cloud.query(call.api, call["query"], cloud.accounts.queries(call.account))


@behaviour("ChangeResourceOwner")
def change_resource_owner(cloud, call):
    """Also what is part of it changes hands, as far as its new account may have so much."""
    accounts, taker = cloud.accounts, cloud.get("Account", call["accountUuid"])["uuid"]
    type, item = accounts.find(call["resourceUuid"])
    if not item or cloud.catalogue.resources[type].account:
        raise refused(f"cannot find the resource[uuid:{call['resourceUuid']}]; wrong resourceUuid or the resource is admin resource")
    if (type, item.get("type")) == ("Volume", "Root"):
        raise refused(f"the resource[uuid:{item['uuid']}] is a ROOT volume, you cannot change its owner, instead,change the owner of the VM "
                      "the root volume belongs to")  # sic: VmInstanceManagerImpl.java  # fmt: skip
    if (giver := accounts.owner(type, item)) == taker:
        raise ApiError("ID.1004", "Invalid ChangeResourceOwner operation.Original owner is the same as target owner."
                       f"Current account is [uuid: {call.account}].The resource target owner account[uuid: {taker}]."
                       f"The resource original owner account[uuid:{giver}].")  # fmt: skip
    had = {name: accounts.amount(taker, row) for name, row in cloud.catalogue.quotas.items()}
    accounts.give(type, item, taker)
    for name, used in had.items():
        accounts.refuse_excess(taker, name, used, accounts.amount(taker, cloud.catalogue.quotas[name]) - used)
    return {"inventory": cloud.inventory("AccountResourceRef", *Seen(accounts, ADMIN).reference(*accounts.find(item["uuid"])))}


def shares_of(cloud, uuid, receivers):
    """How a resource is shared with some accounts."""
    wanted = {*map(folded, receivers)}
    return [share for share in cloud.find("SharedResource", "resourceUuid", uuid) if folded(share.get("receiverAccountUuid", "")) in wanted]


@behaviour("ShareResource")
def share_resource(cloud, call):
    for uuid in call["resourceUuids"]:
        type, item = cloud.accounts.find(uuid)
        if not item:
            raise ApiError("SYS.1007", f"the account[uuid: {call.account}] doesn't have a resource[uuid: {uuid}]")
        for receiver in [""] if call["toPublic"] else call["accountUuids"] or ():
            if not shares_of(cloud, uuid, [receiver]):
                cloud.add("SharedResource", ownerAccountUuid=call.account, receiverAccountUuid=receiver or None, toPublic=not receiver,
                          resourceType=f"{type}VO", resourceUuid=item["uuid"])  # fmt: skip


@behaviour("RevokeResourceSharing")
def revoke_resource_sharing(cloud, call):
    """Of `accountUuids`, `toPublic` and `all` the first that is said counts (AccountBase.java)."""
    for uuid in call["resourceUuids"]:
        everybody = [share.get("receiverAccountUuid", "") for share in cloud.find("SharedResource", "resourceUuid", uuid)] if call["all"] else []
        for share in shares_of(cloud, uuid, call["accountUuids"] or ([""] if call["toPublic"] else everybody)):
            cloud.remove("SharedResource", share["uuid"])


@effect("grant quotas")
def grant_quotas(scope):
    for allowance in scope.cloud.catalogue.quotas.values():
        scope.cloud.add("Quota", name=allowance.name, identityUuid=scope.item["uuid"], identityType="AccountVO",
                        value=configured(scope.cloud, "quota", allowance.name))  # fmt: skip


@behaviour("UpdateQuota")
def update_quota(cloud, call):
    quota = next(quota for quota in cloud.find("Quota", "identityUuid", call["identityUuid"]) if folded(quota["name"]) == folded(call["name"]))
    cloud.change("Quota", quota["uuid"], value=call["value"])
    return cloud.shown("Quota", quota["uuid"])


@behaviour("GetAccountQuotaUsage")
def get_account_quota_usage(cloud, call):
    uuid, accounts = call["uuid"], cloud.accounts
    return {"usages": [{"name": name, "total": accounts.total(uuid, name), "used": accounts.amount(uuid, row)} for name, row in cloud.catalogue.quotas.items()]}


@behaviour("UpdateUser")
def update_user(cloud, call):
    """The user who calls, where none is named; a user updates no other (AccountManagerImpl.java)."""
    if not call["uuid"] and call.user == call.account:
        raise ApiError("SYS.1007", "the current session is an account session. You need to specify the field 'uuid' of the user you want to update")
    if call["uuid"] and call.account != ADMIN and folded(call["uuid"]) != folded(call.user) != folded(call.account):
        raise ApiError("SYS.1007", f"your are login as a user, you cannot another user[uuid:{call['uuid']}]")  # sic
    return update(cloud, replace(call, params={"uuid": call.user} | call.params))


@behaviour("CheckApiPermission")
def check_api_permission(cloud, call):
    user = cloud.look("User", call["userUuid"])
    if user and call.account not in (ADMIN, user["accountUuid"]):
        raise refused(f"the user specified by the userUuid[{user['uuid']}] does not belong to the current account, and the current account is not an "
                      "admin account, so it has no permission to check the user'spermissions")  # sic: AccountManagerImpl.java  # fmt: skip
    asks = (user["accountUuid"], user["uuid"]) if user else (call.account, call.user)
    return {"inventory": {name: "Allow" if cloud.accounts.may(api_of_class(cloud, name), *asks) else "Deny" for name in call["apiNames"]}}


def api_of_class(cloud, name):
    """The API of a Java class of a message; SYS.1007 where there is none."""
    api = cloud.catalogue.apis.get(name.rpartition(".")[2].removeprefix("API").removesuffix("Msg"))
    if not api or api.message != name:
        raise ApiError("SYS.1007", f"{name} is not an API", hint=f"write {api.message}" if api else "write the class, as org.zstack.header.zone.APICreateZoneMsg")
    return api


# sessions (manual 3.7)


def open_session(cloud, account, user):
    """A new session as its login answers it; SYS.1000 where the user has as many as may be."""
    def of_user():
        return sum(session["userUuid"] == user for session in cloud.store.find("Session", "accountUuid", account))

    most = configured(cloud, "identity", "session.maxConcurrent")
    if of_user() >= most:
        cloud.accounts.sweep()
    if of_user() >= most:
        raise ApiError("SYS.1000", f"Login sessions hit limit of max allowed concurrent login sessions, max allowed: {most}")
    ends = cloud.clock.stamp(cloud.clock.now() + configured(cloud, "identity", "session.timeout"))
    return cloud.shown("Session", cloud.add("Session", accountUuid=account, userUuid=user, expiredDate=ends)["uuid"])


@behaviour("LogInByAccount")
def log_in_by_account(cloud, call):
    for account in cloud.find("Account", "name", call["accountName"]):
        if folded(account["password"]) == folded(call["password"]):
            return open_session(cloud, account["uuid"], account["uuid"])
    raise ApiError("ID.1000", "wrong account name or password", hint="the password is sent as the lower-case hex sha512 of its text")


def check_log_in_by_user(cloud, params):
    if not params.get("accountName") and not params.get("accountUuid"):
        raise BadParameter("accountName and accountUuid cannot both be null, you must specify at least one")


@behaviour("LogInByUser", check=check_log_in_by_user)
def log_in_by_user(cloud, call):
    asked = call["accountUuid"] or call["accountName"]
    accounts = cloud.find("Account", "uuid" if call["accountUuid"] else "name", asked)
    if not accounts:
        raise ApiError("SYS.1007", f"account[{asked}] not found")
    for user in cloud.find("User", "accountUuid", accounts[0]["uuid"]):
        if folded(user["name"]) == folded(call["userName"]) and folded(user["password"]) == folded(call["password"]):
            return open_session(cloud, accounts[0]["uuid"], user["uuid"])
    raise ApiError("ID.1000", "wrong account or username or password")


@behaviour("ValidateSession")
def validate_session(cloud, call):
    session = cloud.look("Session", call["sessionUuid"])
    return {"valid": bool(session) and cloud.clock.moment(session["expiredDate"]) > cloud.clock.now()}


@behaviour("RenewSession")
def renew_session(cloud, call):
    ends = cloud.clock.stamp(cloud.clock.now() + (call["duration"] or configured(cloud, "identity", "session.timeout")))
    cloud.change("Session", call["sessionUuid"], expiredDate=ends)
    return cloud.shown("Session", call["sessionUuid"])


# ---- Allocation --------------------------------------------------------------------------------------------------

# addresses and numbers of networks


def is_taken(cloud, l3, ip):
    return any(used["l3NetworkUuid"] == l3 for type in ("VmNic", "Vip") for used in cloud.find(type, "ip", ip)) or ip == dhcp_ip(cloud, l3)


def addresses(ip_range):
    """Return the first and the last address of a range as numbers; 0 for text that is no address, in a file that somebody edited."""
    return tuple(int(address_of(ip_range[name]) or 0) for name in ("startIp", "endIp"))


@effect("bounds of the cidr")
def take_bounds(scope):
    """The gateway is the first usable address, the range goes from the second to the last one."""
    network = network_of(scope.call["networkCidr"])
    scope.set(gateway=str(network[1]), startIp=str(network[2]), endIp=str(network[-2]), netmask=str(network.netmask))


@effect("take the range")
def take_range(scope):
    """Ranges of an L2 network do not overlap, and those of an L3 network are of one CIDR."""
    cloud, new = scope.cloud, scope.item
    scope.set(networkCidr=str(network_of(f"{new['startIp']}/{new['netmask']}")))
    l3s = cloud.find("L3Network", "l2NetworkUuid", scope.value("l3NetworkUuid.l2NetworkUuid"))
    for other in (other for l3 in l3s for other in cloud.find("IpRange", "l3NetworkUuid", l3["uuid"]) if other["uuid"] != new["uuid"]):
        if addresses(new)[0] <= addresses(other)[1] and addresses(other)[0] <= addresses(new)[1]:
            raise ApiError("SYS.1007", f"overlap with ip range[uuid:{other['uuid']}, start ip:{other['startIp']}, end ip: {other['endIp']}]")
        if other["l3NetworkUuid"] == new["l3NetworkUuid"] and other["networkCidr"] != new["networkCidr"]:
            raise ApiError("SYS.1007", "multiple CIDR on the same L3 network is not allowed. There has been a IP range"
                                       f"[uuid:{other['uuid']}, CIDR:{other['networkCidr']}]")  # fmt: skip


def range_with(cloud, l3, ip):
    """The range of an L3 network that an address is in, or None."""
    return next((found for found in cloud.find("IpRange", "l3NetworkUuid", l3) if contains(f"{found['startIp']}-{found['endIp']}", ip)), None)


DHCP_SERVER = "flatNetwork::DhcpServer::"  # FlatNetworkSystemTags.java


def dhcp_ip(cloud, l3):
    """The address that the flat DHCP server of an L3 network has, while its range is there."""
    ips = (tag["tag"].split("::")[2] for tag in cloud.find("SystemTag", "resourceUuid", l3) if tag["tag"].startswith(DHCP_SERVER))
    return next((ip for ip in ips if range_with(cloud, l3, ip)), None)


def required_ip(cloud, l3, ip):
    """An address and the range that it is from; L3.1000 where it is not free."""
    found = range_with(cloud, l3, ip)
    if not found or is_taken(cloud, l3, ip):
        raise ApiError("L3.1000", f"ip[{ip}] is not available on the l3Network[uuid:{l3}]")
    return ip, found


@effect("address of")
def take_address(scope, word):
    """The next free address of an L3 network, or the one that is required, with the netmask and the gateway of its range."""
    l3, wanted = scope.value(word), scope.call["requiredIp"]
    ip, found = required_ip(scope.cloud, l3, wanted) if wanted else free_ip(scope.cloud, l3)
    scope.set(ip=ip, netmask=found["netmask"], gateway=found["gateway"], ipRangeUuid=found["uuid"])


def free_ip(cloud, l3):
    """The next free address of an L3 network and the range that it is from; a cursor spares looking from the start."""
    for found in sorted(cloud.find("IpRange", "l3NetworkUuid", l3), key=addresses):
        start, end = addresses(found)
        first = cloud.cursors.get(found["uuid"], start)
        for n in itertools.chain(range(first, end + 1), range(start, first)):
            ip = str(ipaddress.IPv4Address(n))
            if not is_taken(cloud, l3, ip):
                cloud.cursors[found["uuid"]] = n + 1
                return ip, found
    raise ApiError("L3.1000", f"no ip is available on the l3Network[uuid:{l3}]")


@effect("vni of the pool")
def take_vni(scope):
    """The number of a VXLAN network: the one that is asked for, or the first of its pool's ranges that no other has."""
    cloud, pool = scope.cloud, scope.item["poolUuid"]
    used = {network["vni"] for network in cloud.find("L2Network", "poolUuid", pool) if network["uuid"] != scope.item["uuid"]}
    numbers = itertools.chain.from_iterable(range(row["startVni"], row["endVni"] + 1) for row in cloud.find("VniRange", "l2NetworkUuid", pool))
    free = next((n for n in numbers if n not in used and scope.call["vni"] in (None, n)), None)
    if free is None:
        raise ApiError("L2.1001", f"no vni is available in the vxlan network pool[uuid:{pool}]")
    scope.set(vni=free)


# virtual IPs and their ports


@effect("free the vip")
def free_vip(scope):
    """A virtual IP whose last user goes can be used for something else."""
    vip, users = scope.item["vipUuid"], ("Eip", "PortForwardingRule", "LoadBalancer")
    if scope.cloud.look("Vip", vip) and not any(scope.cloud.find(type, "vipUuid", vip) for type in users):
        scope.cloud.change("Vip", vip, useFor=None, peerL3NetworkUuids=[])


@effect("refuse taken ports")
def refuse_taken_ports(scope):
    """Port ranges of a virtual IP do not overlap, for each protocol."""
    for rule in scope.cloud.find("PortForwardingRule", "vipUuid", scope.item["vipUuid"]):
        apart = rule["vipPortEnd"] < scope.item["vipPortStart"] or scope.item["vipPortEnd"] < rule["vipPortStart"] if "vipPortEnd" in rule else True
        if rule["uuid"] != scope.item["uuid"] and rule["protocolType"] == scope.item["protocolType"] and not apart:
            raise refused(f"vip port range[vipStartPort:{scope.item['vipPortStart']}, vipEndPort:{scope.item['vipPortEnd']}] overlaps with "
                          f"rule[uuid:{rule['uuid']}, vipStartPort:{rule['vipPortStart']}, vipEndPort:{rule['vipPortEnd']}]")  # fmt: skip


# what is left of addresses


def networks_of(cloud, zones, l3s, ranges):
    """The address ranges that are asked for: those named, those of the networks, those of the zones' networks."""
    if ranges:
        return [cloud.look("IpRange", uuid) for uuid in ranges]
    l3s = l3s or [l3["uuid"] for zone in zones or () for l3 in cloud.find("L3Network", "zoneUuid", zone)]
    return [found for l3 in l3s for found in cloud.find("IpRange", "l3NetworkUuid", l3)]


@behaviour("GetIpAddressCapacity")
def get_ip_address_capacity(cloud, call):
    zones = [zone["uuid"] for zone in cloud.store.rows("Zone")] if call["all"] else call["zoneUuids"]
    ranges = networks_of(cloud, zones, None if call["all"] else call["l3NetworkUuids"], None if call["all"] else call["ipRangeUuids"])
    total = sum(end - start + 1 for start, end in map(addresses, ranges))
    used = sum(len(cloud.find(type, "ipRangeUuid", found["uuid"])) for found in ranges for type in ("VmNic", "Vip"))
    servers = {found["l3NetworkUuid"]: dhcp_ip(cloud, found["l3NetworkUuid"]) for found in ranges}
    used += sum(contains(f"{found['startIp']}-{found['endIp']}", servers[found["l3NetworkUuid"]]) for found in ranges)
    return {"totalCapacity": total, "availableCapacity": total - used}


@behaviour("GetFreeIpOfL3Network", "GetFreeIpOfIpRange")
def get_free_ips(cloud, call):
    free = []
    for found in networks_of(cloud, None, [call["l3NetworkUuid"]], [call["ipRangeUuid"]] if call["ipRangeUuid"] else None):
        start, end = addresses(found)
        ips = (str(ipaddress.IPv4Address(n)) for n in range(max(start, int(address_of(call["start"]))), end + 1))
        free += [{"ipRangeUuid": found["uuid"], "ip": ip, "netmask": found["netmask"], "gateway": found["gateway"]}
                 for ip in itertools.islice((ip for ip in ips if not is_taken(cloud, found["l3NetworkUuid"], ip)), call["limit"])]  # fmt: skip
    return {"inventories": free[: call["limit"]]}


@behaviour("CheckIpAvailability")
def check_ip(cloud, call):
    return {"available": bool(range_with(cloud, call["l3NetworkUuid"], call["ip"])) and not is_taken(cloud, call["l3NetworkUuid"], call["ip"])}


# ---- Allocation: hosts and storage ---------------------------------------------------------------------------------

GIB, TIB = 1 << 30, 1 << 40
EMPTY_DISK = 3 << 16  # a qcow2 file of three clusters
LOCAL_DISK = 4 * TIB  # what a host brings to the local storage of its cluster
CAPACITIES = ("totalCapacity", "availableCapacity", "totalPhysicalCapacity", "availablePhysicalCapacity")

RESERVING = (("host", "uuid", "reservedMemory::"), ("cluster", "clusterUuid", "host::reservedMemory::"), ("zone", "zoneUuid", "host::reservedMemory::"))


def reserved_memory(cloud, host):
    """What a host keeps for itself: as its tag says, its cluster's or its zone's, as far as they are heeded, or the global configuration."""
    for level, key, words in RESERVING:
        said = said_by_tag(cloud, host[key], words)
        size = size_of(said) if said else None
        if size is not None and configured(cloud, "hostAllocator", f"reservedCapacity.{level}Level"):
            return size
    return configured(cloud, "kvm", "reservedMemory")


def set_capacities(cloud, type, uuid, **capacities):
    """Change capacities where they differ; an object that keeps them keeps its lastOpDate."""
    item = cloud.look(type, uuid)
    if any(item.get(name) != value for name, value in capacities.items()):
        cloud.change(type, uuid, **capacities)


def recount(cloud, uuid):
    """What is left of a host's CPU and memory: all of it, less what runs on it."""
    host = cloud.look("Host", uuid)
    if host:
        vms = cloud.find("VmInstance", "hostUuid", uuid)
        cpus = host["totalCpuCapacity"] - sum(vm["cpuNum"] for vm in vms)
        memory = host["totalMemoryCapacity"] - sum(vm["memorySize"] for vm in vms)
        set_capacities(cloud, "Host", uuid, availableCpuCapacity=cpus, availableMemoryCapacity=memory)


@on_configured("host/cpu.overProvisioning.ratio")
def recount_cpus(cloud):
    for host in [*cloud.store.rows("Host")]:
        cloud.change("Host", host["uuid"], totalCpuCapacity=host["cpuNum"] * configured(cloud, "host", "cpu.overProvisioning.ratio"))
        recount(cloud, host["uuid"])


def place(cloud, vm, host):
    """Puts a virtual machine on a host."""
    left = cloud.look("VmInstance", vm["uuid"]).get("hostUuid")
    cloud.change("VmInstance", vm["uuid"], hostUuid=host["uuid"], clusterUuid=host["clusterUuid"], zoneUuid=host["zoneUuid"],
                 lastHostUuid=left or vm.get("lastHostUuid"), hypervisorType=host["hypervisorType"])  # fmt: skip
    recount(cloud, host["uuid"]), recount(cloud, left)


def leave_host(cloud, vm, state):
    """Takes a virtual machine off its host, into that state."""
    vm = cloud.look("VmInstance", vm["uuid"])  # it may have moved since, or gone
    if not vm:
        return
    of_router = {"status": "Disconnected"} if "status" in vm else {}
    cloud.change("VmInstance", vm["uuid"], state=state, hostUuid=None, lastHostUuid=vm.get("hostUuid") or vm.get("lastHostUuid"), stateBefore=None, **of_router)
    recount(cloud, vm.get("hostUuid"))


# hosts of affinity groups


def hosts_of(cloud, group):
    """The hosts where virtual machines of an affinity group are."""
    return {cloud.look("VmInstance", usage["resourceUuid"]).get("hostUuid") for usage in cloud.find("AffinityGroupUsage", "affinityGroupUuid", group)}


def stay_apart(cloud, vm, hosts):
    """The hosts where no virtual machine of its affinity group is; all, where that is only preferred and there is none."""
    for usage in cloud.find("AffinityGroupUsage", "resourceUuid", vm["uuid"]):
        group, taken = cloud.look("AffinityGroup", usage["affinityGroupUuid"]), hosts_of(cloud, usage["affinityGroupUuid"])
        free = [host for host in hosts if host["uuid"] not in taken or group["state"] != "Enabled"]
        if not free and group["policy"] == "antiHard":
            raise ApiError("HOST_ALLOCATION.1000", f"no host found that vm[uuid:{vm['uuid']}] has for itself in affinity group[uuid:{group['uuid']}]")
        hosts = free or hosts
    return hosts


@effect("keep apart")
def keep_apart(scope):
    """What is added to a group of the hard policy must not be where another one of it is."""
    group, host = scope.item, scope.look("VmInstance", scope.call["uuid"]).get("hostUuid")
    if (group["policy"], group["state"]) == ("antiHard", "Enabled") and host and host in hosts_of(scope.cloud, group["uuid"]):
        raise refused(f"host[uuid:{host}] of vm[uuid:{scope.call['uuid']}] has another vm of affinity group[uuid:{group['uuid']}]")


def join(cloud, vm, group):
    """The system tag affinityGroupUuid:: of a new virtual machine."""
    if cloud.get("AffinityGroup", group).get("owner") != cloud.look("VmInstance", vm).get("owner"):
        raise refused(f"affinity group[uuid:{group}] and vm[uuid:{vm}] do not belong to the same account")
    cloud.add("AffinityGroupUsage", affinityGroupUuid=group, resourceUuid=vm, resourceType="VmInstanceVO")


ON_TAG["affinityGroupUuid"] = join


# the host for a virtual machine


def pick_host(cloud, vm, exclude=None, **wanted):
    """The host with the fewest virtual machines among those that can take it (LeastVmPreferredHostAllocatorStrategy)."""
    return min(able_hosts(cloud, vm, exclude, **wanted), key=lambda h: (len(cloud.find("VmInstance", "hostUuid", h["uuid"])), h["uuid"]))


def able_hosts(cloud, vm, exclude=None, **wanted):
    """The hosts that can take a virtual machine; HOST_ALLOCATION.1000 where there is none."""
    hosts = [h for h in cloud.store.rows("Host") if h["uuid"] != exclude and (h["state"], h["status"]) == ("Enabled", "Connected")]
    hosts = [h for h in hosts if all(h[key] == value for key, value in wanted.items() if value)]
    hosts = [h for h in hosts if cloud.look("Cluster", h["clusterUuid"]).get("state") == "Enabled" == cloud.look("Zone", h["zoneUuid"]).get("state")]
    homes = {cloud.look("LocalStorageResourceRef", volume["uuid"]).get("hostUuid") for volume in cloud.find("Volume", "vmInstanceUuid", vm["uuid"])} - {None}
    reached = [h for h in hosts if homes <= {h["uuid"]} and reaches(cloud, vm, h["clusterUuid"])]
    room = [h for h in reached if h["availableCpuCapacity"] >= vm["cpuNum"] and h["availableMemoryCapacity"] - reserved_memory(cloud, h) >= vm["memorySize"]]
    if not room:
        why = "no host is Enabled and Connected" if not hosts else "no host's cluster has the networks and primary storage" if not reached else \
            f"no host having cpu[{vm['cpuNum']}], memory[{vm['memorySize']} bytes]"  # fmt: skip
        raise ApiError("HOST_ALLOCATION.1000", f"{why} found")
    return stay_apart(cloud, vm, room)


def reaches(cloud, vm, cluster):
    """Whether a cluster has the networks and the primary storage that a virtual machine needs."""
    l3s = vm.get("l3NetworkUuids") or [nic["l3NetworkUuid"] for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])]
    l2s = {cloud.look("L3Network", l3).get("l2NetworkUuid") for l3 in l3s}
    root = cloud.look("Volume", vm.get("rootVolumeUuid"))
    storages = [ps for ps in cloud.find("PrimaryStorage", "attachedClusterUuids", cluster) if (ps["state"], ps["status"]) == ("Enabled", "Connected")]
    attached = root.get("primaryStorageUuid") in (None, *(ps["uuid"] for ps in storages))
    return bool(storages) and attached and all(cluster in cloud.look("L2Network", l2).get("attachedClusterUuids", ()) for l2 in l2s)


def hardware(cloud, cpus=16, memory=64 * GIB):
    """The processors and the memory of a new host."""
    given_away = cpus * configured(cloud, "host", "cpu.overProvisioning.ratio")
    return {"cpuSockets": 2, "cpuNum": cpus, "totalCpuCapacity": given_away, "availableCpuCapacity": given_away,
            "totalMemoryCapacity": memory, "availableMemoryCapacity": memory}  # fmt: skip


@effect("hardware")
def give_hardware(scope):
    scope.set(**hardware(scope.cloud))


# primary storage


@effect("capacity of")
def give_capacity(scope, size):
    """So much space, or so much more, as far as the inventory of a storage tells; of "4T for diskUuids" the size, for each of the list."""
    fields = scope.cloud.catalogue.resources[scope.type].fields
    scope.set(**{name: scope.item.get(name, 0) + size_of(size.partition(" ")[0]) for name in CAPACITIES if name in fields})


def pick_storage(cloud, cluster, size, wanted=None):
    """The first primary storage of a cluster that has so many bytes left, or the wanted one; PS.1000 where there is none."""
    for ps in cloud.find("PrimaryStorage", "attachedClusterUuids", cluster):
        if wanted in (None, ps["uuid"]) and has_room(cloud, ps, size):
            return ps
    raise ApiError("PS.1000", f"no primary storage with {size} bytes available found for cluster[uuid:{cluster}]")


def has_room(cloud, ps, size):
    """Whether a primary storage takes so much, and keeps what it reserves."""
    left = ps["availableCapacity"] - configured(cloud, "primaryStorage", "reservedCapacity")
    return (ps["state"], ps["status"]) == ("Enabled", "Connected") and left >= size and ps["uuid"] not in cloud.full


def take_space(cloud, item, size):
    """Takes so much of the primary storage that something is on, or gives it back; what is on the disk of a host that it lost does not count."""
    ps, host = cloud.look("PrimaryStorage", item.get("primaryStorageUuid")), item.get("hostUuid")
    host = host or cloud.look("LocalStorageResourceRef", item.get("volumeUuid") or item["uuid"]).get("hostUuid")
    if ps and (not host or cloud.look("Host", host).get("clusterUuid") in ps["attachedClusterUuids"]):
        cloud.change("PrimaryStorage", ps["uuid"], availableCapacity=ps["availableCapacity"] - size)


def with_room(cloud, storage, size):
    """The primary storage, which must have so much room."""
    ps = cloud.look("PrimaryStorage", storage)
    if ps and not has_room(cloud, ps, size):
        raise ApiError("PS.1000", f"primary storage[uuid:{storage}] has no {size} bytes available")
    return ps


@effect("take its space")
def take_its_space(scope):
    with_room(scope.cloud, scope.item.get("primaryStorageUuid"), scope.item["size"])
    take_space(scope.cloud, scope.item, scope.item["size"])


@effect("give its space back")
def give_space_back(scope):
    take_space(scope.cloud, scope.item, -scope.item["size"])


@effect("resize")
def resize(scope):
    """More space for a volume where there is room."""
    grown = scope.call["size"] - scope.item["size"]
    with_room(scope.cloud, scope.item.get("primaryStorageUuid"), grown)
    take_space(scope.cloud, scope.item, grown)
    scope.set(size=scope.call["size"])


def placed(cloud, volume, ps):
    """What a volume is once it has its place on a primary storage, which it takes; PS.1000 where there is no storage."""
    if not ps:
        raise ApiError("PS.1000", f"there is no primary storage for volume[uuid:{volume['uuid']}]")
    folder = "rootVolumes" if volume["type"] == "Root" else "dataVolumes"
    path = path_on(cloud, ps, volume["type"], f"{folder}/acct-{ADMIN}/vol-{volume['uuid']}", volume["uuid"])
    cloud.remove("LocalStorageResourceRef", volume["uuid"])
    host = host_for(cloud, volume, ps) if ps["type"] == "LocalStorage" else None
    if volume["type"] == "Root":
        cache_image(cloud, ps, cloud.look("Image", volume.get("rootImageUuid")), host)
    if host:
        keep_on(cloud, volume, ps, host)
    take_space(cloud, volume | {"primaryStorageUuid": ps["uuid"]}, volume["size"])
    written = volume.get("actualSize") or cloud.look("Image", volume.get("rootImageUuid")).get("actualSize") or EMPTY_DISK
    return {"primaryStorageUuid": ps["uuid"], "status": "Ready", "format": "raw" if path.startswith("ceph:") else "qcow2",
            "installPath": path, "actualSize": written}  # fmt: skip


def path_on(cloud, ps, kind, folder, name):
    """Where a primary storage keeps something: a file below its mount path, or in the pool of Ceph that is for its kind."""
    pools = [pool["poolName"] for pool in cloud.find("CephPrimaryStoragePool", "primaryStorageUuid", ps["uuid"]) if pool["type"] == kind]
    return f"ceph://{pools[0]}/{name}" if pools else f"{ps.get('mountPath') or ps['url']}/{folder}/{name}.qcow2"


# local storage: each volume is on a host


def local_disks(cloud, ps, host=None):
    """What the hosts of a local storage, or one of them, have of it (HostDiskCapacity)."""
    hosts = [host] if host else [host["uuid"] for cluster in ps["attachedClusterUuids"] for host in cloud.find("Host", "clusterUuid", cluster)]
    for uuid in hosts:
        on_it = (item for type in ("LocalStorageResourceRef", "ImageCache") for item in cloud.find(type, "hostUuid", uuid))
        kept = [item for item in on_it if item["primaryStorageUuid"] == ps["uuid"]]
        volumes = [item["resourceUuid"] for item in kept if "resourceUuid" in item]
        snapshots = (snapshot for volume in volumes for snapshot in cloud.find("VolumeSnapshot", "volumeUuid", volume))
        kept += [snapshot for snapshot in snapshots if "primaryStorageUuid" in snapshot]
        left = LOCAL_DISK - sum(cloud.look("Volume", item.get("resourceUuid")).get("size", item["size"]) for item in kept)
        yield {"hostUuid": uuid, **dict.fromkeys(CAPACITIES, LOCAL_DISK), "availableCapacity": left}


def host_for(cloud, volume, ps):
    """The host for a volume on local storage: that of its virtual machine, the one that its tag says, or the one with the most room."""
    vm = cloud.look("VmInstance", volume.get("vmInstanceUuid"))
    homes = (host for host in (vm.get("hostUuid"), vm.get("lastHostUuid")) if cloud.look("Host", host).get("clusterUuid") in ps["attachedClusterUuids"])
    told = next(homes, None) or said_by_tag(cloud, volume["uuid"], "localStorage::hostUuid::")
    roomiest = max(local_disks(cloud, ps), key=lambda disk: disk["availableCapacity"], default={})
    if not told and not roomiest:
        raise ApiError("PS.1000", f"no host is in a cluster of the local primary storage[uuid:{ps['uuid']}]")
    return told or roomiest["hostUuid"]


def keep_on(cloud, volume, ps, host):
    """A volume of local storage is on the disk of that host, where it fits; PS.1000 where it does not."""
    if cloud.look("Host", host).get("clusterUuid") not in ps["attachedClusterUuids"]:
        raise refused(f"the host[uuid:{host}] doesn't belong to the local primary storage[uuid:{ps['uuid']}]")
    if next(local_disks(cloud, ps, host))["availableCapacity"] < volume["size"]:
        raise ApiError("PS.1000", f"host[uuid:{host}] has no {volume['size']} bytes available on local primary storage[uuid:{ps['uuid']}]")
    cloud.add("LocalStorageResourceRef", uuid=volume["uuid"], resourceUuid=volume["uuid"], primaryStorageUuid=ps["uuid"], hostUuid=host,
              size=volume["size"], resourceType="VolumeVO")  # fmt: skip


@effect("keep on")
def keep_item_on(scope, word):
    keep_on(scope.cloud, scope.item, scope.look("PrimaryStorage", scope.item["primaryStorageUuid"]), scope.value(word))


@effect("recount local storage")
def recount_local_storage(scope):
    scope.keep()
    recount_disks(scope.cloud, scope.item)


def recount_storage(cloud, cluster):
    for ps in cloud.find("PrimaryStorage", "attachedClusterUuids", cluster):
        recount_disks(cloud, ps)


def recount_disks(cloud, ps):
    """Local storage is as large as the disks of the hosts of its clusters together, and has so much left."""
    if ps["type"] == "LocalStorage":
        disks = [*local_disks(cloud, ps)]
        sums = {name: sum(disk[name] for disk in disks) for name in CAPACITIES}
        set_capacities(cloud, "PrimaryStorage", ps["uuid"], **sums, systemUsedCapacity=0)


def count_host(cloud, uuid):
    """What is left of a host; where there is none after all, local storage is without its disk."""
    yield
    recount(cloud, uuid)
    for ps in [*cloud.store.rows("PrimaryStorage")] if not cloud.look("Host", uuid) else ():
        recount_disks(cloud, ps)


def held_on(cloud, storage):
    """The bytes that are on a primary storage."""
    return sum(item["size"] for type in ("Volume", "VolumeSnapshot", "ImageCache") for item in cloud.find(type, "primaryStorageUuid", storage)
               if type != "Volume" or "installPath" in item)  # fmt: skip


def count_space(cloud, uuid):
    """What is left of a primary storage is as much more as it holds less then."""
    ps, held = cloud.look("PrimaryStorage", uuid), held_on(cloud, uuid)
    yield
    total = cloud.look("PrimaryStorage", uuid).get("totalCapacity")
    if ps and total is not None:
        grown = total - ps.get("totalCapacity", 0)
        left = ps.get("availableCapacity", 0) + grown + held - held_on(cloud, uuid)
        set_capacities(cloud, "PrimaryStorage", uuid, availableCapacity=left)
        recount_disks(cloud, cloud.look("PrimaryStorage", uuid))


COUNTED |= {"Host": count_host, "PrimaryStorage": count_space}


@behaviour("GetLocalStorageHostDiskCapacity")
def get_host_disks(cloud, call):
    return {"inventories": [*local_disks(cloud, cloud.get("PrimaryStorage", call["primaryStorageUuid"]), call["hostUuid"])]}


# the images that root volumes are made of


def cache_image(cloud, ps, image, host):
    """Primary storage keeps a copy of each image that a root volume is made of; local storage one on each host."""
    kept = cloud.find("ImageCache", "imageUuid", image["uuid"]) if image else [ps]
    if any((cache.get("primaryStorageUuid", ps["uuid"]), cache.get("hostUuid", host)) == (ps["uuid"], host) for cache in kept):
        return
    url = path_on(cloud, ps, "ImageCache", f"imagecache/{'iso' if image['mediaType'] == 'ISO' else 'template'}/{image['uuid']}", image["uuid"])
    with_room(cloud, ps["uuid"], image["size"])
    last = max((cache["id"] for cache in cloud.store.rows("ImageCache")), default=0)
    cache = cloud.add("ImageCache", id=last + 1, primaryStorageUuid=ps["uuid"], hostUuid=host, imageUuid=image["uuid"],
              installUrl=f"{url};hostUuid://{host}" if host else url, mediaType=image["mediaType"], size=image["size"])  # fmt: skip
    take_space(cloud, cache, cache["size"])


def used_in_pool(cloud, pool):
    """The bytes that volumes and cached images have of a pool of Ceph."""
    kept = (item for type in ("Volume", "ImageCache") for item in cloud.find(type, "primaryStorageUuid", pool.get("primaryStorageUuid")))
    return sum(item["size"] for item in kept if f"ceph://{pool.get('poolName')}/" in item.get("installPath", item.get("installUrl", "")))


def room_for_images(cloud, bs):
    """The bytes that a backup storage has left: what it had when it was empty, less its images."""
    images = cloud.find("Image", "backupStorageRefs.backupStorageUuid", bs["uuid"])
    return max(0, bs.get("availableCapacity", 0) - sum(image.get("size", 0) for image in images))


def branches(cloud, tree):
    """The snapshots of a tree, each with those below it, from the first one down (VolumeSnapshotTree.java)."""
    snapshots = sorted(cloud.store.find("VolumeSnapshot", "treeUuid", tree["uuid"]), key=lambda one: (one["createDate"], one.get("distance", 1)))
    leaves = {one["uuid"]: {"inventory": cloud.inventory("VolumeSnapshot", one), "children": []} for one in snapshots}
    for one in snapshots:
        if one.get("parentUuid") in leaves:
            leaves[one["uuid"]]["parentUuid"] = one["parentUuid"]
            leaves[one["parentUuid"]]["children"].append(leaves[one["uuid"]])
    return next((leaf for leaf in leaves.values() if "parentUuid" not in leaf), None)


COMPUTED.update({
    ("VolumeSnapshotTree", "tree"): branches,
    ("BackupStorage", "availableCapacity"): room_for_images,
    ("BackupStorage", "poolAvailableCapacity"): lambda cloud, bs: room_for_images(cloud, bs) if bs.get("type") == "Ceph" else None,
    ("BackupStorage", "poolUsedCapacity"): lambda cloud, bs: bs.get("totalCapacity", 0) - room_for_images(cloud, bs) if bs.get("type") == "Ceph" else None,
    ("CephPrimaryStoragePool", "availableCapacity"): lambda cloud, pool: cloud.look("PrimaryStorage", pool.get("primaryStorageUuid")).get("availableCapacity"),
    ("CephPrimaryStoragePool", "usedCapacity"): used_in_pool,
    ("LocalStorageResourceRef", "size"): lambda cloud, ref: cloud.look("Volume", ref.get("resourceUuid")).get("size", ref.get("size")),
})  # fmt: skip


@effect("clean up the cache")
def clean_up_cache(scope):
    """Without the images that are gone, where no root volume needs them any more."""
    cloud, ps = scope.cloud, scope.item["uuid"]
    needed = {volume.get("rootImageUuid") for volume in cloud.find("Volume", "primaryStorageUuid", ps)}
    for cache in cloud.find("ImageCache", "primaryStorageUuid", ps):
        if cache["imageUuid"] not in needed and not cloud.look("Image", cache["imageUuid"]):
            cloud.remove("ImageCache", cache["uuid"])


# ---- Allocation: virtual machines ----------------------------------------------------------------------------------


@effect("choose a host")
def choose_host(scope):
    """The best of the hosts that the call leaves: that one, one in that cluster; another one of its cluster where it is on a host."""
    scope.keep(), scope.renew()
    scope.bound["hostUuid"] = pick_host(scope.cloud, scope.item, **bounds_of(scope.item, scope.call), uuid=scope.call["hostUuid"])["uuid"]


def bounds_of(vm, call):
    """Where a virtual machine may go: what `able_hosts` takes."""
    host = vm.get("hostUuid")
    return {"exclude": host, "zoneUuid": vm.get("zoneUuid") or call["zoneUuid"], "clusterUuid": vm.get("clusterUuid") if host else call["clusterUuid"]}


@effect("take the host")
def take_host(scope):
    scope.keep()
    place(scope.cloud, scope.item, scope.cloud.get("Host", scope.bound["hostUuid"]))
    scope.renew()


@effect("off the host as")
def off_the_host(scope, state):
    scope.keep()
    leave_host(scope.cloud, scope.item, state)
    scope.renew()


@effect("recount its host")
def recount_its_host(scope):
    """What is left of its host; what has grown has to fit there."""
    scope.keep()
    host = scope.cloud.get("Host", scope.item["hostUuid"]) if scope.item.get("hostUuid") else None
    if not host:
        return
    recount(scope.cloud, host["uuid"])
    left = scope.cloud.look("Host", host["uuid"])
    for name, unit in (("availableCpuCapacity", "cpus"), ("availableMemoryCapacity", "bytes")):
        if left[name] < min(0, host[name]):
            raise refused(f"host[uuid:{host['uuid']}] has no room for {host[name] - left[name]} more {unit}")


PENDING = "pendingCapacityChange::cpuNum::{cpuNum}::cpuSpeed::{cpuSpeed}::memory::{memorySize}"  # VmSystemTags.java


@effect("take the pending capacity")
def take_pending(scope):
    """Set the capacity of the offering that the virtual machine was changed to while it ran; drop the tag that holds it."""
    for tag in tags_of(scope, "pendingCapacityChange::")[0]:
        numbers = parts_of(PENDING, tag["tag"]) or {}
        pending = {name: whole_of(text, 63) for name, text in numbers.items()}
        scope.set(**{name: value for name, value in pending.items() if value is not None and value >= 0})
        scope.cloud.remove("SystemTag", tag["uuid"])


# nics

GUEST = "4"  # what the metaData of a router's nic says: 1 public, 2 management, 4 guest; sums of them (VirtualRouterNicMetaData.java)


@effect("nic on")
def add_nic(scope, word):
    """One more nic, on that network; that of a router says what it is for."""
    cloud, vm, l3 = scope.cloud, scope.item, scope.value(word)
    nics = {nic["deviceId"]: nic["l3NetworkUuid"] for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])}
    if l3 in nics.values():
        raise refused(f"Can't add same uuid in the l3Network,uuid: {l3}")
    device = next(n for n in itertools.count() if n not in nics)
    mac = f"fa{cloud.random.getrandbits(32):08x}{device:02x}"
    use = (l3 == vm.get("publicNetworkUuid")) + 2 * (l3 == vm.get("managementNetworkUuid"))
    mac = said_by_tag(cloud, vm["uuid"], f"customMac::{l3}::") or ":".join(re.findall("..", mac))
    cloud.add("VmNic", vmInstanceUuid=vm["uuid"], l3NetworkUuid=l3, deviceId=device, mac=mac,
              metaData=None if vm["type"] == "UserVm" else str(use or GUEST))  # fmt: skip


def readdress(cloud, nic, ip=None, found=None):
    """A nic has that address of a range, or none any more; what leads to it from outside leads there."""
    cloud.change("VmNic", nic["uuid"], ip=ip, ipRangeUuid=found and found["uuid"], **{name: found and found[name] for name in ("netmask", "gateway")})
    for type in ("Eip", "PortForwardingRule"):
        for public in cloud.find(type, "vmNicUuid", nic["uuid"]):
            cloud.change(type, public["uuid"], guestIp=ip)


@on_removal("VmNic")
def nic_removed(cloud, nic):
    """Where its network was the default one, that of the first nic that is left is it now."""
    vm = cloud.look("VmInstance", nic["vmInstanceUuid"])
    if vm.get("defaultL3NetworkUuid") == nic["l3NetworkUuid"]:
        left = sorted(cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]), key=lambda nic: nic["deviceId"])
        cloud.change("VmInstance", vm["uuid"], defaultL3NetworkUuid=left[0]["l3NetworkUuid"] if left else None)


@effect("nics leave the group")
def leave_group(scope):
    """Those on a network that a security group is detached from."""
    for ref in scope.cloud.find("VmNicSecurityGroupRef", "securityGroupUuid", scope.item["uuid"]):
        if scope.cloud.look("VmNic", ref["vmNicUuid"]).get("l3NetworkUuid") == scope.call["l3NetworkUuid"]:
            scope.cloud.remove("VmNicSecurityGroupRef", ref["uuid"])


@effect("address the nics")
def address_nics(scope):
    """An address for each nic that has none: the one that the call or a tag says, the gateway's for a router, or the next free one."""
    cloud, call = scope.cloud, scope.call
    for nic in cloud.find("VmNic", "vmInstanceUuid", scope.item["uuid"]):
        l3 = nic["l3NetworkUuid"]
        if nic.get("ip"):
            continue
        wanted = call["staticIp"] if call["l3NetworkUuid"] == l3 else said_by_tag(cloud, scope.item["uuid"], f"staticIp::{l3}::")
        ip, found = required_ip(cloud, l3, wanted) if wanted else free_ip(cloud, l3)
        if nic.get("metaData") == GUEST and not wanted:
            ip, found = found["gateway"], found | {"uuid": None}
        readdress(cloud, nic, ip, found)


# volumes

DISKS_OF_FIRST_START = ("rootDiskOfferingUuid", "dataDiskOfferingUuids", "primaryStorageUuidForRootVolume")


@effect("not on a host yet")
def not_on_host(scope):
    """A host that is asked for is not yet its own; what disks are asked for is kept until it has them."""
    asked = {name: scope.call[name] for name in DISKS_OF_FIRST_START}
    scope.cloud.change("VmInstance", scope.item["uuid"], hostUuid=None, **asked)
    scope.item |= asked | {"hostUuid": None}


ALLOCATOR = "primaryStorage::allocator::uuid::"  # PrimaryStorageSystemTags.java


def storage_wanted(cloud, vm, device, disk):
    """The primary storage that a call or a tag wants a volume on: for the root volume of its instance offering, for others of their disk offering."""
    if device:
        return said_by_tag(cloud, vm["uuid"], "primaryStorageUuidForDataVolume::") or said_by_tag(cloud, disk["uuid"], ALLOCATOR)
    return vm.get("primaryStorageUuidForRootVolume") or said_by_tag(cloud, vm.get("instanceOfferingUuid"), ALLOCATOR)


@effect("make the volumes")
def make_volumes(scope):
    """The root volume from the image, and a data volume for each disk offering, where it has none yet."""
    cloud, vm = scope.cloud, scope.item
    if vm.get("rootVolumeUuid"):
        return
    data = filter(None, (cloud.look("DiskOffering", uuid) for uuid in vm.get("dataDiskOfferingUuids") or ()))
    disks = [cloud.look("DiskOffering", vm.get("rootDiskOfferingUuid")), *data]
    image = cloud.get("Image", vm["imageUuid"])
    for device, disk in enumerate(disks):
        size = disk.get("diskSize") or image["size"]
        ps = pick_storage(cloud, vm["clusterUuid"], size, storage_wanted(cloud, vm, device, disk))
        more = {"diskOfferingUuid": disk["uuid"]} if device else {"rootImageUuid": image["uuid"]}
        new_volume(cloud, vm, device, ps, size=size, **more)
    scope.set(**dict.fromkeys(DISKS_OF_FIRST_START))


def new_volume(cloud, vm, device, ps, **values):
    """A volume of a virtual machine: the first one is its root volume."""
    kind, told = ("DATA", {"type": "Data"}) if device else ("ROOT", {"type": "Root", "description": f"Root volume for VM[uuid:{vm['uuid']}]"})
    volume = cloud.add("Volume", name=f"{kind}-for-{vm['name']}", vmInstanceUuid=vm["uuid"], deviceId=device, **told, **values)
    instantiate(cloud, volume, ps)
    if not device:
        cloud.change("VmInstance", vm["uuid"], rootVolumeUuid=volume["uuid"])


@effect("let go of what it has")
def let_go(scope):
    """Addresses are free again, the root volume is Deleted with it, data volumes are detached and stay."""
    cloud, uuid = scope.cloud, scope.item["uuid"]
    for nic in cloud.find("VmNic", "vmInstanceUuid", uuid):
        readdress(cloud, nic)
    for volume in cloud.find("Volume", "vmInstanceUuid", uuid):
        goes = volume["type"] != "Root" and configured(cloud, "vm", "dataVolume.deleteOnVmDestroy")
        cloud.change("Volume", volume["uuid"], **{"status": "Deleted"} if volume["type"] == "Root" else {"vmInstanceUuid": None, "deviceId": None})
        Scope(cloud, scope.call, "Volume", volume).perform("status = Deleted", "expunge later") if goes else None


def instantiate(cloud, volume, ps):
    cloud.change("Volume", volume["uuid"], **placed(cloud, volume, ps))


def move_volume(cloud, volume, storage):
    """Its snapshots go with it."""
    snapshots = [snapshot for snapshot in cloud.find("VolumeSnapshot", "volumeUuid", volume["uuid"]) if snapshot["status"] != "Creating"]
    ps = with_room(cloud, storage, volume["size"] + sum(snapshot["size"] for snapshot in snapshots))
    for item in (volume, *snapshots):
        take_space(cloud, item, -item["size"])
    instantiate(cloud, volume, ps)
    there = {"primaryStorageUuid": storage, "primaryStorageInstallPath": cloud.look("Volume", volume["uuid"])["installPath"]}
    for snapshot in snapshots:
        cloud.change("VolumeSnapshot", snapshot["uuid"], **there)
        take_space(cloud, snapshot | there, snapshot["size"])


@effect("move its volumes")
def move_volumes(scope):
    for volume in scope.cloud.find("Volume", "vmInstanceUuid", scope.item["uuid"]):
        if volume["type"] == "Root" or scope.call["withDataVolumes"]:
            move_volume(scope.cloud, volume, scope.call["dstPrimaryStorageUuid"])


# what could take them


@behaviour("GetCandidateZonesClustersHostsForCreatingVm", "GetVmStartingCandidateClustersHosts", "GetVmMigrationCandidateHosts")
def get_destinations(cloud, call):
    """The hosts that could take a virtual machine, one that is there or one that is thought of, with their clusters and zones."""
    vm = cloud.look("VmInstance", call.target) or cloud.look("InstanceOffering", call["instanceOfferingUuid"]) | thought_of(call)
    try:
        hosts = able_hosts(cloud, vm, **bounds_of(vm, call))
    except ApiError:
        hosts = []
    found = {}
    for member, type in re.findall(r"(\w+):(\w+)", call.api.answers):
        uuids = dict.fromkeys(host["uuid" if type == "Host" else f"{type.lower()}Uuid"] for host in hosts)
        found[member] = [cloud.inventory(type, cloud.look(type, uuid)) for uuid in uuids]
    return found


def thought_of(call):
    return {"uuid": "", "l3NetworkUuids": call["l3NetworkUuids"]}


@behaviour("GetCandidatePrimaryStoragesForCreatingVm")
def get_storages(cloud, call):
    """The primary storage with room for each volume of a virtual machine that is thought of, in a cluster that reaches its networks."""
    clusters = [cluster for cluster in cloud.store.in_order("Cluster") if reaches(cloud, thought_of(call), cluster["uuid"])]
    asked = {cluster["uuid"] for cluster in clusters if call["clusterUuid"] in (None, cluster["uuid"]) and call["zoneUuid"] in (None, cluster["zoneUuid"])}

    def roomy(size):
        fit = (ps for ps in cloud.store.in_order("PrimaryStorage") if asked & {*ps["attachedClusterUuids"]} and has_room(cloud, ps, size))
        return [cloud.inventory("PrimaryStorage", ps) for ps in fit]

    root = cloud.look("DiskOffering", call["rootDiskOfferingUuid"]).get("diskSize") or cloud.get("Image", call["imageUuid"])["size"]
    disks = {uuid: cloud.look("DiskOffering", uuid)["diskSize"] for uuid in call["dataDiskOfferingUuids"] or ()}
    return {"rootVolumePrimaryStorages": roomy(root), "dataVolumePrimaryStorages": {uuid: roomy(size) for uuid, size in disks.items()}}


# ---- Tags --------------------------------------------------------------------------------------------------------

ONLY_ONE = ("hostname", "userdata", "sshkey")  # of a virtual machine


def check_tag(cloud, tag, vo, vm=None, l3s=()):
    """Raises why a tag may not be: what it says, or what others have on the same networks."""
    for rule in cloud.catalogue.tag_rules:
        parts = parts_of(rule.tag, tag) if rule.type == vo else None
        scope = Scope(cloud, item=parts).where(rule.when) if parts else None
        if scope:
            raise ApiError("SYS.1007", scope.text(rule.details))
    if vo == "VmInstanceVO":
        nics = cloud.find("VmNic", "vmInstanceUuid", vm)
        check_place(cloud, tag, vm, nics, [nic["l3NetworkUuid"] for nic in nics] or l3s)


def check_place(cloud, tag, vm, nics, l3s):
    """A hostname is unique on each network, and a static address free, if it is not what the virtual machine has."""
    static = parts_of("staticIp::{l3}::{ip}", tag)
    if static and static["l3"] in l3s and static["ip"] not in [nic.get("ip") for nic in nics]:
        required_ip(cloud, static["l3"], static["ip"])
    for other in cloud.find("SystemTag", "tag", tag) if tag.startswith("hostname::") else ():
        shared = {nic["l3NetworkUuid"] for nic in cloud.find("VmNic", "vmInstanceUuid", other["resourceUuid"])} & {*l3s}
        if shared and other["resourceUuid"] != vm:
            raise ApiError("SYS.1007", f"conflict hostname in system; there has been a VM[uuid:{other['resourceUuid']}] having hostname"
                                       f"[{tag.partition('::')[2]}] on L3 network[uuid:{min(shared)}]")  # fmt: skip


def check_tags(cloud, call):
    """System tags of a call: each must match some pattern, where they are not free, and be right for what is created (TagManagerImpl.java)."""
    free, type = cloud.dialect["free-system-tags"], call.api.type if call.api.creates else ""
    for tag in call.system_tags:
        if not free and not tag.startswith("ephemeral::") and not any(row.allows_tag(tag) for row in cloud.catalogue.resources.values()):
            raise ApiError("SYS.1007", f"no system tag matches {tag}")
        if type:
            check_tag(cloud, tag, cloud.catalogue.resources[type].stored + "VO", l3s=call["l3NetworkUuids"] or ())
    for name in ONLY_ONE if type == "VmInstance" else ():
        if (count := sum(tag.startswith(f"{name}::") for tag in call.system_tags)) > 1:
            raise ApiError("SYS.1007", f"only one {name} system tag is allowed, but {count} got")


CALL_CHECKS.append(check_tags)


@effect("untag")
def untag(scope, words):
    for tag in tags_of(scope, words)[0]:
        scope.cloud.remove("SystemTag", tag["uuid"])


@effect("tag")
def tag(scope, words):
    """A system tag of the item, in the place of those that begin alike; `once`, only where there is none."""
    once, words = words.startswith("once "), words.removeprefix("once ")
    begin, text = words.rpartition("::")[0] + "::" if "::" in words else words, scope.text(words, ",")
    if not once or not tags_of(scope, begin)[0]:
        check_tag(scope.cloud, text, scope.stored + "VO", scope.item["uuid"])
        untag(scope, begin)
        scope.cloud.add("SystemTag", resourceUuid=scope.item["uuid"], resourceType=scope.stored + "VO", tag=text)


def tagged_type(cloud, call):
    """The resource that a tag is for; ZStack names it by its entity, as HostVO."""
    vo = call["resourceType"]
    row = cloud.catalogue.of_vo(vo)
    if not row:
        known = [name + "VO" for name in cloud.catalogue.resources]
        raise ApiError("SYS.1007", f"no resource type[{vo}] found in tag system", hint=f"unknown resourceType{did_you_mean(vo, known)}")
    return row


def check_pattern(cloud, tag, vo):
    if not cloud.dialect["free-system-tags"] and not cloud.catalogue.of_vo(vo).allows_tag(tag):
        raise ApiError("SYS.1007", f"no system tag matches[{tag}] for resourceType[{vo}]")


def same_tag(cloud, type, uuid, vo, tag):
    return [t for t in cloud.find(type, "resourceUuid", uuid) if folded(t["tag"]) == folded(tag) and t["resourceType"] == vo]


@behaviour("CreateSystemTag")
def create_system_tag(cloud, call):
    vo, uuid, tag = call["resourceType"], call["resourceUuid"], call["tag"]
    row = tagged_type(cloud, call)
    check_pattern(cloud, tag, vo)
    if not cloud.store.peek(row.stored, uuid):
        raise ApiError("SYS.1007", "The argument :'resourceType' doesn't match uuid")
    if same_tag(cloud, "SystemTag", uuid, vo, tag):
        return {}  # TagManagerImpl: a tag that is there already is a success without an inventory
    check_tag(cloud, tag, vo, uuid)
    return cloud.shown("SystemTag", cloud.add("SystemTag", resourceUuid=uuid, resourceType=vo, tag=tag)["uuid"])


@behaviour("UpdateSystemTag")
def update_system_tag(cloud, call):
    tag = cloud.get("SystemTag", call["uuid"])
    check_pattern(cloud, call["tag"], tag["resourceType"])
    if tag["tag"] != call["tag"]:
        check_tag(cloud, call["tag"], tag["resourceType"], tag["resourceUuid"])
        cloud.change("SystemTag", tag["uuid"], tag=call["tag"])
    return cloud.shown("SystemTag", tag["uuid"])


@behaviour("CreateUserTag")
def create_user_tag(cloud, call):
    vo, uuid, tag = call["resourceType"], call["resourceUuid"], call["tag"]
    tagged_type(cloud, call)
    if same_tag(cloud, "UserTag", uuid, vo, tag):
        raise refused(f"Duplicated Tag[tag:{tag}, type:User, resourceType:{vo}, resourceUuid:{uuid}]")
    return cloud.shown("UserTag", cloud.add("UserTag", resourceUuid=uuid, resourceType=vo, tag=tag)["uuid"])


# ---- Long jobs ---------------------------------------------------------------------------------------------------

def node(cloud):
    return next(iter(cloud.store.rows("ManagementNode")))


def draw_seconds(cloud, api, long=False):
    """How long a call takes: drawn from --delay by the seed, the api and how often it was called, not by what else runs."""
    low, high = seconds_range(cloud.settings.long_delay or cloud.settings.delay if long else cloud.settings.delay)
    factor = 10 if long and not cloud.settings.long_delay else 1
    cloud.draws[api.name, long] += 1
    if low == high:
        return factor * low
    chance = random.Random(f"{cloud.settings.seed}/{api.name}/{cloud.draws[api.name, long]}/{long}").random()
    return factor * (low + (high - low) * chance)


def check_long_job(cloud, params):
    name = params["jobName"].removeprefix("API").removesuffix("Msg")
    long_jobs = [api.name for api in cloud.catalogue.apis.values() if api.long]
    if name not in long_jobs or params["jobName"] != f"API{name}Msg":
        known = [f"API{job}Msg" for job in long_jobs]
        raise BadParameter(f"{params['jobName']} is not an API", f"jobName is one of {', '.join(sorted(known))}")


def inner_call(cloud, call):
    """The call that a long job makes, from its jobData."""
    api = cloud.catalogue.apis[call["jobName"].removeprefix("API").removesuffix("Msg")]
    try:
        given = json.loads(call["jobData"])
    except (ValueError, RecursionError) as error:
        raise ApiError("SYS.1000", f"jobData is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise ApiError("SYS.1000", "jobData is no JSON object")
    if api.target and api.target.name not in given and call["targetResourceUuid"]:
        given[api.target.name] = call["targetResourceUuid"]
    return replace(call, api=api, params=cloud.check(api, given), system_tags=texts(given.get("systemTags")), user_tags=texts(given.get("userTags")))


@behaviour("SubmitLongJob", check=check_long_job)
def submit_long_job(cloud, call):
    """The long job as it is when it has just begun; deleting what is gone already has succeeded."""
    inner = inner_call(cloud, call)
    gone = cloud.is_gone(inner)
    said = {name: call[name] for name in ("description", "jobName", "jobData", "targetResourceUuid")}
    job = new_long_job(cloud, call, uuid=call["resourceUuid"], name=call["name"] or call["jobName"], **said)
    if gone:
        end_long_job(cloud, job["uuid"], None, None)
        return cloud.shown("LongJob", job["uuid"])
    run_long_job(cloud, job["uuid"], inner, draw_seconds(cloud, call.api, long=True))
    return {"inventory": cloud.inventory("LongJob", job)}


@behaviour("UpdateClusterOS")
def submit_itself(cloud, call):
    """A long job, though nobody submitted one: so is every call of it."""
    name = f"API{call.api.name}Msg"
    job = new_long_job(cloud, call, name=name, jobName=name, jobData=json.dumps(call.params), targetResourceUuid=call.target)
    run_long_job(cloud, job["uuid"], call, draw_seconds(cloud, call.api, long=True))
    return {"inventory": cloud.inventory("LongJob", job)}


def new_long_job(cloud, call, **said):
    job = cloud.add("LongJob", apiId=call.job, state="Running", managementNodeUuid=node(cloud)["uuid"], **said)
    cloud.tag_new(call, "LongJob", job["uuid"])
    return job


def run_long_job(cloud, uuid, call, seconds, began=None):
    """Sets the work of a long job going; what it does ends in the job's own state and result."""
    inner = replace(call, long=True, fault=NO_FAULT)
    run = cloud.long_runs[uuid] = Run(cloud.jobs, inner, seconds, lambda body, error: end_long_job(cloud, uuid, body, error), began)
    limit = configured(cloud, "longJob", "longJob.api.timeout")
    if 0 < limit < seconds:
        error = ApiError("SYS.1001", f"Message[name: {call.api.message}, id: {call.job}] timeout after {limit} seconds")

        def time_out():
            if cloud.long_runs.get(uuid) is run:
                run.fail(error)

        cloud.clock.at_second(run.began + limit, time_out, f"timeout of long job {uuid}")


def end_long_job(cloud, uuid, body, error):
    """The state and the result of a long job whose work is over; Canceled it stays."""
    cloud.long_runs.pop(uuid, None)
    job = cloud.look("LongJob", uuid)
    if not job or job["state"] == "Canceled":
        return
    result = "Failed : " + json.dumps(cloud.catalogue.error_body(error), ensure_ascii=False) if error else "Succeeded"
    if body and "inventory" in body:
        result = json.dumps(body["inventory"], ensure_ascii=False)
    cloud.change("LongJob", uuid, state="Failed" if error else "Succeeded", jobResult=result)
    if error:
        cloud.notify("long job[uuid:%s] failed: %s", [uuid, error.details], "LongJobVO", uuid, "Error")
    cloud.clock.spawn(cloud.store.try_commit())


@effect("give up")
def give_up_soon(scope):
    """Has a long job end that can; the open-source ones go on to their end (LongJobManagerImpl.java)."""
    cloud, uuid = scope.cloud, scope.item["uuid"]
    if cloud.catalogue.apis[scope.item["jobName"][3:-3]].long == "cancellable":
        cloud.clock.after(0, lambda: give_up(cloud, uuid), f"cancel long job {uuid}")


def give_up(cloud, uuid):
    run = cloud.long_runs.get(uuid)
    if cloud.store.peek("LongJob", uuid):  # its account may have been deleted in the meantime
        cloud.change("LongJob", uuid, state="Canceled")
    if run:
        run.fail(refused("canceled"))
    cloud.clock.spawn(cloud.store.try_commit())


# ---- Deletion ----------------------------------------------------------------------------------------------------

EXPUNGED = {  # the category of the global configurations, and what tells that an item waits to be expunged
    "ExpungeVmInstance": ("VmInstance", "Destroyed", "state", "vm"),
    "ExpungeDataVolume": ("Volume", "Deleted", "status", "volume"),
    "ExpungeImage": ("Image", "Deleted", "status", "image"),
}


def expunge_later(cloud, api, uuid, since=None):
    """Expunges what is still deleted when its time is over, if it is to be at all (vm/deletionPolicy, vm/expungePeriod)."""
    type, state, key, category = EXPUNGED[api]
    if configured(cloud, category, "deletionPolicy") == "Never":
        return
    due = (cloud.clock.now() if since is None else since) + configured(cloud, category, "expungePeriod")
    if uuid in cloud.expunging:
        cloud.expunging.pop(uuid).cancel()

    def remove():
        del cloud.expunging[uuid]
        item = cloud.look(type, uuid)
        if item.get(key) != state or configured(cloud, category, "deletionPolicy") == "Never":
            return
        touched = cloud.clock.moment(item["lastOpDate"])
        if touched + configured(cloud, category, "expungePeriod") >= due + 1:  # deleted anew, or changed, since; or there is more time now
            expunge_later(cloud, api, uuid, touched)
            return
        cloud.remove(type, uuid)
        cloud.clock.spawn(cloud.store.try_commit())

    cloud.expunging[uuid] = cloud.clock.after(due - cloud.clock.now(), remove, f"{api} {uuid}")


def expunge(cloud, api, uuid):
    """What becomes of an item that was deleted: it goes at once where it is not kept for a while."""
    type, state, key, category = EXPUNGED[api]
    if configured(cloud, category, "deletionPolicy") == "Direct" and cloud.look(type, uuid).get(key) == state:
        cloud.remove(type, uuid)
    else:
        expunge_later(cloud, api, uuid)


@on_configured(*(f"{category}/{name}" for *_, category in EXPUNGED.values() for name in ("deletionPolicy", "expungePeriod")))
def expunge_all_later(cloud):
    """Plans anew when what is deleted is expunged; a root volume goes with its virtual machine."""
    for api, (type, state, key, _) in EXPUNGED.items():
        for item in [item for item in cloud.store.rows(type) if item.get(key) == state and item.get("type") != "Root"]:
            expunge_later(cloud, api, item["uuid"], cloud.clock.moment(item["lastOpDate"]))


@effect("expunge later")
def expunge_item_later(scope):
    scope.keep()
    expunge(scope.cloud, next(api for api, (type, *_) in EXPUNGED.items() if type == scope.type), scope.item["uuid"])


# ---- Behaviours --------------------------------------------------------------------------------------------------

# management node (manual 4.1)


@behaviour("GetVersion")
def get_version(cloud, call):
    return {"version": "2.5.1"}


@behaviour("GetCurrentTime")
def get_current_time(cloud, call):
    now = cloud.clock.now()
    return {"currentTime": {"MillionSeconds": int(now * 1000), "Seconds": int(now)}}  # sic: ApiMediatorImpl.java


@behaviour("IsReadyToGo")
def is_ready_to_go(cloud, call):
    asked = call["managementNodeId"] or node(cloud)["uuid"]
    if not cloud.store.peek("ManagementNode", asked):
        raise ApiError("SYS.1009", f"No route to management node[uuid:{asked}]")
    return {"managementNodeId": asked} if cloud.dialect["is-ready"] else None


@behaviour("IsOpensourceVersion")
def is_opensource_version(cloud, call):
    return {"opensource": True}


# progress (manual 4.3)


@behaviour("GetTaskProgress")
def get_task_progress(cloud, call):
    """The newest row with its ancestors, root first; or all, inside each other."""
    progress = cloud.jobs.progress.get(cloud.look("Job", call["apiId"]).get("uuid", call["apiId"]))
    if not progress:
        return {"inventories": []}
    root, children = task_rows(cloud, progress)
    return {"inventories": [root | {"subTasks": children}] if call["all"] else [root, *children[-1:]]}


def task_rows(cloud, progress):
    """The root row of an operation, and one below it for each stage that began; the last one is the newest."""
    job, message = progress.call.job, progress.call.api.message
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", progress.call.api.name)
    root = task_row(cloud, progress, f"{job}/0", f"class {message}" if progress.call.long else message, "Task", words, progress.began)
    moments = progress.seen or [progress.began]
    began = [(sentence, moment) for sentence, moment in zip(progress.stages.values(), moments)]
    children = [task_row(cloud, progress, f"{job}/{n}", words, "Task", sentence, moment, root, n) for n, (sentence, moment) in enumerate(began, 1)]
    if progress.call.long:
        now = min(cloud.clock.steady(), max(progress.ends, progress.began))
        percent = str(progress.percent(cloud.clock.steady()))
        children.append(task_row(cloud, progress, f"{job}/percent", words, "Progress", percent, now, root, len(began)))
    return root, children


def task_row(cloud, progress, seed, name, type, content, moment, parent=None, step=0):
    uuid = hashlib.md5(seed.encode(), usedforsecurity=False).hexdigest()
    row = {"taskUuid": uuid, "taskName": name, "type": type, "content": content}
    row["time"] = int(cloud.clock.date_of(moment) * 1000)
    if parent:
        row["parentUuid"] = parent["taskUuid"]
    if cloud.dialect["task-progress-fields"]:
        row |= {"taskId": uuid, "totalSteps": max(1, len(progress.stages)), "currentStep": step or max(1, len(progress.seen))}
        row |= {"parentId": parent["taskUuid"]} if parent else {}
    return row


# notifications (manual 4.4)


@behaviour("UpdateNotificationsStatus")
def update_notifications_status(cloud, call):
    for uuid in filter(lambda uuid: cloud.store.peek("Notification", uuid), call["uuids"]):
        cloud.change("Notification", uuid, status=call["status"])


# ---- Behaviours: licences ------------------------------------------------------------------------------------------

# capacity (manual 4.5)


@behaviour("GetCpuMemoryCapacity")
def get_cpu_memory_capacity(cloud, call):
    everywhere = call["all"] and not call["zoneUuids"]
    zones = [zone["uuid"] for zone in cloud.store.rows("Zone")] if everywhere else call["zoneUuids"]
    hypervisor = None if everywhere else call["hypervisorType"]
    dimensions = (("uuid", call["hostUuids"]), ("clusterUuid", call["clusterUuids"]), ("zoneUuid", zones))
    key, wanted = next((pair for pair in dimensions if pair[1]), ("zoneUuid", ()))  # the first that is given counts, no other
    working = [host for host in cloud.store.rows("Host") if (host["state"], host["status"]) == ("Enabled", "Connected")]
    hosts = [host for host in working if host[key] in wanted and hypervisor in (None, host["hypervisorType"])]
    return {
        "totalCpu": sum(h["totalCpuCapacity"] for h in hosts),
        "availableCpu": sum(h["availableCpuCapacity"] for h in hosts),
        "totalMemory": sum(h["totalMemoryCapacity"] for h in hosts),
        "availableMemory": sum(max(0, h["availableMemoryCapacity"] - reserved_memory(cloud, h)) for h in hosts),
        "managedCpuNum": sum(h["cpuNum"] for h in hosts),
    }


# garbage collection (manual 4.6)


@effect("collect")
def collect_now(scope):
    collect(scope.cloud, scope.item)


def collect(cloud, job):
    """Tries what a GC job is there for: Done when its host can be reached, else Idle again."""
    host = cloud.look("Host", json.loads(job.get("context") or "{}").get("hostUuid"))
    reached = not host or host["status"] == "Connected"
    cloud.change("GarbageCollector", job["uuid"], status="Done" if reached else "Idle")


@effect("collect later")
def leave_for_collection(scope):
    """A GC job for a virtual machine that cannot be cleaned up on a host out of reach."""
    cloud, vm, host = scope.cloud, scope.item, scope.look("Host", scope.item.get("hostUuid"))
    if host.get("status", "Connected") == "Connected":
        return
    cloud.add("GarbageCollector", name=f"gc-vm-{vm['uuid']}-on-host-{host['uuid']}", runnerClass="org.zstack.compute.vm.DeleteVmGC",
              context=json.dumps({"hostUuid": host["uuid"], "vmUuid": vm["uuid"]}), managementNodeUuid=node(cloud)["uuid"])  # fmt: skip


# licences (manual 4.7)


def license_date(cloud, days):
    return cloud.clock.stamp(cloud.clock.now() + days * DAY)


def community_license(cloud):
    """What ZStack falls back to when no licence is installed."""
    return {"licenseType": "Community", "hostNum": 2147483647, "cpuNum": 2147483647, "licenseRequest": license_request(cloud),
            "issuedDate": license_date(cloud, 0), "user": "", "expiredDate": ""}  # fmt: skip


def license_request(cloud):
    return base64.b64encode(json.dumps({"thumbprint": node(cloud)["uuid"], "version": "2.5.1"}).encode()).decode()


def the_license(cloud):
    return next(iter(cloud.store.rows("License")))


def license_shown(cloud):
    shown = cloud.inventory("License", the_license(cloud))
    return {"inventory": {name: value for name, value in shown.items() if value != ""}}


@behaviour("GetLicenseInfo", "ReloadLicense")
def get_license_info(cloud, call):
    return license_shown(cloud)


@behaviour("GetLicenseCapabilities")
def get_license_capabilities(cloud, call):
    if cloud.dialect["license-capabilities"]:
        return {}
    row = cloud.inventory("License", the_license(cloud))
    modules = {module: True for addon in cloud.store.rows("LicenseAddOn") for module in addon["modules"] if not cloud.license_is_over(addon)}
    return {"capabilities": {"hostNum": row["hostNum"], "cpuNum": row["cpuNum"], **modules}}


@behaviour("GetLicenseAddOns")
def get_license_add_ons(cloud, call):
    return {"addons": [cloud.inventory("LicenseAddOn", row) for row in cloud.store.rows("LicenseAddOn")]}


@behaviour("DeleteLicense")
def delete_license(cloud, call):
    if call["uuid"] in (None, the_license(cloud)["uuid"]):
        cloud.change("License", the_license(cloud)["uuid"], **community_license(cloud))
    elif cloud.store.peek("LicenseAddOn", call["uuid"]):
        cloud.remove("LicenseAddOn", call["uuid"])
    else:
        raise missing("uuid", call["uuid"], "LicenseAddOn")


LICENSE_FIELDS = {"licenseType": str, "expiredDate": str, "issuedDate": str, "user": str, "hostNum": int, "cpuNum": int}


@behaviour("UpdateLicense")
def update_license(cloud, call):
    """Any text is a licence; the base64 of a JSON object sets the fields that it names."""
    changes = {"licenseType": "Paid", "issuedDate": license_date(cloud, 0), "expiredDate": license_date(cloud, 365)}
    changes |= license_fields(cloud, call["license"])
    cloud.change("License", the_license(cloud)["uuid"], **changes)
    return license_shown(cloud)


def license_fields(cloud, text):
    """The fields that the base64 text of a JSON object names, none for any other text; SYS.1007 for an illegal value."""
    try:
        said = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    for name, value in said.items():
        kind = LICENSE_FIELDS.get(name)
        if kind is None:
            raise ApiError("SYS.1007", f"a license has no field {name}{did_you_mean(name, LICENSE_FIELDS)}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ApiError("SYS.1007", f"{name} of a license is {a_noun(kind.__name__)}, not {value!r}")
        if name.endswith("Date") and not cloud.clock.is_stamp(value):
            raise ApiError("SYS.1007", f"{name} of a license is a date such as 2017-02-05 19:44:21, not {value!r}")
    return said


# ---- Behaviours: hosts and storage ---------------------------------------------------------------------------------


def connected(cloud, uuid):
    """A host is there (again): its status, the virtual machines that nobody knew about, what waited."""
    cloud.change("Host", uuid, status="Connected")
    for vm in [vm for vm in cloud.find("VmInstance", "hostUuid", uuid) if vm["state"] == "Unknown"]:
        cloud.change("VmInstance", vm["uuid"], state=vm.get("stateBefore", "Running"), stateBefore=None)
    recount_storage(cloud, cloud.get("Host", uuid)["clusterUuid"])
    Scope(cloud, None, "Host", cloud.get("Host", uuid)).perform("end tunnels in clusterUuid")
    for job in [job for job in cloud.store.rows("GarbageCollector") if job["status"] != "Done" and uuid in job.get("context", "")]:
        collect(cloud, job)


def host_gone(cloud, uuid):
    """A host cannot be reached any more: Disconnected, its virtual machines Unknown, a notification for each."""
    cloud.change("Host", uuid, status="Disconnected")
    cloud.notify("the host[uuid:%s] becomes Disconnected", [uuid], "HostVO", uuid, "Warning")
    for vm in [vm for vm in cloud.find("VmInstance", "hostUuid", uuid) if vm["state"] != "Unknown"]:
        cloud.change("VmInstance", vm["uuid"], state="Unknown", stateBefore=vm["state"])
        cloud.notify("the host[uuid:%s] becomes Disconnected, change the VM[uuid:%s]' state to Unknown", [uuid, vm["uuid"]],
                     "VmInstanceVO", vm["uuid"])  # fmt: skip


@effect("connected")
def item_connected(scope):
    scope.keep(without_nulls)
    connected(scope.cloud, scope.item["uuid"])


@effect("reach")
def reach(scope):
    """Fails for a host that an incident keeps away."""
    if scope.item["uuid"] in scope.cloud.down:
        raise ApiError("HOST.1002", f"unable to connect to host[uuid:{scope.item['uuid']}]", ApiError("HOST.1010", "the host does not answer"))


@effect("empty the host")
def empty_host(scope):
    """Each virtual machine goes to another host of the cluster where one has room, else it is stopped."""
    for vm in scope.cloud.find("VmInstance", "hostUuid", scope.item["uuid"]):
        try:
            place(scope.cloud, vm, pick_host(scope.cloud, vm, exclude=vm["hostUuid"], clusterUuid=vm.get("clusterUuid")))
        except ApiError:
            leave_host(scope.cloud, vm, "Stopped")


@on_removal("Host")
def host_removed(cloud, host):
    """Its virtual machines are stopped, not deleted, save what was on its disks; and somebody should know."""
    for vm in cloud.find("VmInstance", "hostUuid", host["uuid"]):
        leave_host(cloud, vm, "Stopped")
    for kept in cloud.find("LocalStorageResourceRef", "hostUuid", host["uuid"]):
        cloud.remove("Volume", kept["resourceUuid"])
    recount_storage(cloud, host["clusterUuid"])
    cloud.notify("the host[uuid:%s, name:%s] went away", [host["uuid"], host["name"]], "HostVO", host["uuid"], "Warning")


@effect("update the hosts")
def update_hosts(scope):
    for host in scope.cloud.find("Host", "clusterUuid", scope.item["uuid"]):
        scope.cloud.change("Host", host["uuid"])


@behaviour("KvmRunShell", run="Run the script")
def run_shell(cloud, call):
    """What the script printed on each host, which is nothing; a host that is away has an error."""
    yield "run"
    away = [uuid for uuid in call["hostUuids"] if cloud.get("Host", uuid)["status"] != "Connected"]
    failed = {uuid: cloud.catalogue.error_body(ApiError("HOST.1010", f"host[uuid:{uuid}] is not Connected")) for uuid in away}
    return {"inventory": {uuid: {"returnCode": -1, "errorCode": failed[uuid]} if uuid in failed else {"returnCode": 0, "stdout": "", "stderr": ""}
                          for uuid in call["hostUuids"]}}  # fmt: skip


# storage


@effect("mons")
def add_mons(scope):
    """A monitor of the storage for each url; none is of two storages."""
    relation = scope.cloud.catalogue.resources[scope.type].relations["mons"]
    for url in scope.call["monUrls"]:
        said = mon_of(url)
        if scope.cloud.find(relation.target, "hostname", said["hostname"]):
            raise ApiError("SYS.1007", f"mon[hostname:{said['hostname']}] is of a storage of this type already")
        mon = scope.cloud.add(relation.target, **{relation.theirs: scope.item["uuid"]}, monAddr=said["hostname"], **said)
        scope.cloud.change(relation.target, mon["uuid"], monUuid=mon["uuid"])
        scope.set(fsid=scope.item.get("fsid") or str(uuid5(NAMESPACE_OID, said["hostname"])))  # the same for all that is on one cluster


@effect("stop what uses it")
def stop_users(scope):
    """No virtual machine runs on primary storage that is in maintenance."""
    users = dict.fromkeys(volume.get("vmInstanceUuid") for volume in scope.cloud.find("Volume", "primaryStorageUuid", scope.item["uuid"]))
    for uuid in [uuid for uuid in users if scope.look("VmInstance", uuid).get("hostUuid")]:
        leave_host(scope.cloud, {"uuid": uuid}, "Stopped")


@behaviour("ExportImageFromBackupStorage", export="Export the image")
def export_image(cloud, call):
    """An address to fetch the image from, with its checksum."""
    yield "export"
    image, store = cloud.get("Image", call["imageUuid"]), cloud.get("BackupStorage", call["backupStorageUuid"])
    url = f"http://{store['hostname']}:8001/imagestore/export/{image['uuid']}.{image['format']}"
    cloud.change("Image", image["uuid"], exportUrl=url, exportMd5Sum=image.get("md5Sum"))
    return {"imageUrl": url}


@behaviour("GetImagesFromImageStoreBackupStorage")
def get_stored_images(cloud, call):
    """What an image store has (ImageStoreImageStruct)."""
    images = cloud.find("Image", "backupStorageRefs.backupStorageUuid", call["uuid"])
    return {"infos": [{"id": image["uuid"], "name": image["name"], "desc": image.get("description", ""), "size": image.get("actualSize", 0), "arch": "x86_64",
                       "blobsum": image.get("md5Sum", ""), "virtualsize": image.get("size", 0), "created": us_date(image["createDate"])}
                      for image in images if image["status"] == "Ready"]}  # fmt: skip


@behaviour("SyncImageFromImageStoreBackupStorage", "RecoveryImageFromImageStoreBackupStorage", copy="Copy the image")
def copy_image(cloud, call):
    """A new image, which is another's copy in another image store."""
    yield "copy"
    image, uuid = cloud.get("Image", call["uuid"]), cloud.uuid()
    refs = [ref | {"imageUuid": uuid, "backupStorageUuid": call["dstBackupStorageUuid"]}
            for ref in image["backupStorageRefs"] if ref["backupStorageUuid"] == call["srcBackupStorageUuid"]]  # fmt: skip
    new = {"uuid": uuid, "name": call["name"], "description": call["description"], "backupStorageRefs": refs, "exportUrl": None, "exportMd5Sum": None}
    return cloud.shown("Image", cloud.add("Image", **image | new)["uuid"])


@on_removal("BackupStorage")
def backup_storage_removed(cloud, storage):
    """Images lose their copy on it; one with no other copy goes (the server's cascade extensions)."""
    for image in cloud.find("Image", "backupStorageRefs.backupStorageUuid", storage["uuid"]):
        left = [ref for ref in image["backupStorageRefs"] if ref["backupStorageUuid"] != storage["uuid"]]
        cloud.change("Image", image["uuid"], backupStorageRefs=left) if left else cloud.remove("Image", image["uuid"])


# ---- Behaviours: offerings and networks ----------------------------------------------------------------------------


@behaviour("GetL3NetworkDhcpIpAddress")
def get_dhcp_ip(cloud, call):
    """The DHCP server of a flat network takes an address when it is first asked for it."""
    scope = scope_of(cloud, call)
    l3, services = scope.item["uuid"], scope.item["networkServices"]
    providers = [one["networkServiceProviderUuid"] for one in services if one["networkServiceType"] == "DHCP"]
    if not any(cloud.look("NetworkServiceProvider", uuid)["type"] == "Flat" for uuid in providers) or not cloud.find("IpRange", "l3NetworkUuid", l3):
        raise refused(f"Cannot find DhcpIp for l3 network[uuid:{l3}]")
    if not dhcp_ip(cloud, l3):
        tag(scope, f"{DHCP_SERVER}{free_ip(cloud, l3)[0]}::ipUuid::{cloud.uuid()}")  # read_effects would keep such a text for ever
    return {"ip": dhcp_ip(cloud, l3)}


@effect("add group rules")
def add_group_rules(scope):
    """Each rule of a security group as an item, once for every remote group, or once for an address range."""
    for rule, remote in itertools.product(scope.call["rules"], scope.call["remoteSecurityGroupUuids"] or [None]):
        ports = {name: -1 if rule.get(name) is None else rule[name] for name in ("startPort", "endPort")}
        scope.cloud.add("SecurityGroupRule", securityGroupUuid=scope.item["uuid"], remoteSecurityGroupUuid=remote, type=rule["type"],
                        protocol=rule["protocol"], allowedCidr=None if remote else rule.get("allowedCidr") or "0.0.0.0/0", **ports)  # fmt: skip


VXLAN_PORT = 8472


@effect("end tunnels in")
def end_tunnels(scope, word):
    """Each host of a cluster is an end of the tunnels of the VXLAN pools that are attached there."""
    scope.keep()
    cloud, cluster = scope.cloud, scope.value(word)
    pools = [l2["uuid"] for l2 in cloud.find("L2Network", "attachedClusterUuids", cluster) if l2["type"] == "VxlanNetworkPool"]
    for pool, host in itertools.product(pools, cloud.find("Host", "clusterUuid", cluster)):
        if not any(end["hostUuid"] == host["uuid"] for end in cloud.find("Vtep", "poolUuid", pool)):
            cloud.add("Vtep", poolUuid=pool, hostUuid=host["uuid"], clusterUuid=cluster, vtepIp=host["managementIp"], port=VXLAN_PORT,
                      type="KVM_HOST_VXLAN")  # fmt: skip


@effect("take the networks along")
def take_networks_along(scope):
    """The networks of a VXLAN pool are where it is."""
    for network in scope.cloud.find("L2Network", "poolUuid", scope.item["uuid"]):
        scope.cloud.change("L2Network", network["uuid"], attachedClusterUuids=scope.item["attachedClusterUuids"])


@behaviour("GetNetworkServiceTypes")
def get_network_service_types(cloud, call):
    """Each type of service with the types of its providers."""
    types = defaultdict(list)
    for provider in cloud.store.rows("NetworkServiceProvider"):
        for service in provider["networkServiceTypes"]:
            types[service].append(provider["type"])
    return {"types": types}


@behaviour("GetVipUsedPorts")
def get_vip_ports(cloud, call):
    rules = [rule for rule in cloud.find("PortForwardingRule", "vipUuid", call["uuid"]) if rule["protocolType"] == call["protocol"]]
    ports = [(rule["vipPortStart"], rule["vipPortEnd"]) for rule in rules]
    for balancer in cloud.find("LoadBalancer", "vipUuid", call["uuid"]) if call["protocol"] == "TCP" else ():
        ports += [(one["loadBalancerPort"],) * 2 for one in cloud.find("LoadBalancerListener", "loadBalancerUuid", balancer["uuid"])]
    return {"inventories": [{"uuid": call["uuid"], "protocol": call["protocol"], "usedPorts": [f"{first}-{last}" for first, last in ports]}]}


def limits_of(cloud, call):
    """What limits the traffic of a virtual IP, or of one of its ports."""
    return [limit for limit in cloud.find("VipQos", "vipUuid", call["uuid"]) if limit.get("port") == call["port"]]


@behaviour("SetVipQos")
def set_vip_qos(cloud, call):
    """One limit for a virtual IP, and one for each port; what is not given stays."""
    given = {name: call[name] for name in ("inboundBandwidth", "outboundBandwidth") if call[name]}
    limits = limits_of(cloud, call) or [cloud.add("VipQos", vipUuid=call["uuid"], port=call["port"], type="VirtualRouter")]
    cloud.change("VipQos", limits[0]["uuid"], **given)
    return cloud.shown("VipQos", limits[0]["uuid"])


@behaviour("DeleteVipQos")
def delete_vip_qos(cloud, call):
    for limit in limits_of(cloud, call):
        cloud.remove("VipQos", limit["uuid"])


# ---- Behaviours: virtual machines ----------------------------------------------------------------------------------


@effect("still")
def be_still(scope, state):
    """Refuses to go on with a virtual machine that somebody else has taken elsewhere in the meantime."""
    if scope.item["state"] != state:
        raise ApiError("VM.1010", f"vm[uuid:{scope.item['uuid']}] became {scope.item['state']} while it was {state}")


@effect("make a new root volume")
def renew_root(scope):
    """Of its image now, in the place of the old one, which goes."""
    cloud, vm, old = scope.cloud, scope.item, scope.cloud.get("Volume", scope.item["rootVolumeUuid"])
    image = cloud.get("Image", vm["imageUuid"])
    cloud.change("Volume", old["uuid"], vmInstanceUuid=None)  # else it would go with it
    cloud.remove("Volume", old["uuid"])
    size = max(image["size"], old["size"])
    ps = with_room(cloud, old["primaryStorageUuid"], size)
    new_volume(cloud, vm, 0, ps, size=size, uuid=scope.call["resourceUuid"], rootImageUuid=image["uuid"])


# routers


@effect("find routers")
def find_routers(scope):
    """A virtual router for each network whose services come from one, where there is none yet and an offering of its zone says how."""
    cloud, vm = scope.cloud, scope.item
    for nic in cloud.find("VmNic", "vmInstanceUuid", vm["uuid"]) if vm["type"] == "UserVm" else ():
        l3 = cloud.look("L3Network", nic["l3NetworkUuid"])
        providers = {cloud.look("NetworkServiceProvider", service["networkServiceProviderUuid"]).get("type") for service in l3.get("networkServices", ())}
        routed = any(other["l3NetworkUuid"] == l3["uuid"] for other in cloud.find("VmNic", "metaData", GUEST))
        offerings = [offering for offering in cloud.find("InstanceOffering", "zoneUuid", l3["zoneUuid"]) if offering["state"] == "Enabled"]
        if "VirtualRouter" in providers and offerings and not routed:
            named_for = {tag["resourceUuid"] for tag in cloud.find("SystemTag", "tag", f"guestL3Network::{l3['uuid']}")}
            new_router(cloud, l3, max(offerings, key=lambda offering: (offering["uuid"] in named_for, offering["isDefault"])))


def new_router(cloud, l3, offering):
    """Made as one of a VPC is, with a nic more; at once, for the account that has the network."""
    apis, uuid = cloud.catalogue.apis, cloud.uuid()
    asked = {"name": f"virtualRouter.l3.{l3['name']}.{l3['uuid'][:6]}", "virtualRouterOfferingUuid": offering["uuid"], "applianceVmType": "VirtualRouter"}
    deque(create(cloud, Call(apis["CreateVpcVRouter"], asked | {"resourceUuid": uuid}, account=ADMIN)), 0)
    act(cloud, Call(apis["AttachL3NetworkToVm"], {"vmInstanceUuid": uuid, "l3NetworkUuid": l3["uuid"]}, account=ADMIN))
    cloud.accounts.give("VmInstance", cloud.get("VmInstance", uuid), cloud.accounts.owner("L3Network", l3))


# clones


COPIED = ("description imageUuid instanceOfferingUuid platform cpuNum cpuSpeed memorySize allocatorStrategy hypervisorType zoneUuid clusterUuid "
          "defaultL3NetworkUuid").split()  # fmt: skip


@behaviour("CloneVmInstance", copy="Copy the volumes of the vm", start="Start the clones")
def clone_vm(cloud, call):
    """What became of each clone: they fail or succeed by themselves."""
    yield "copy"
    clones = [cloned(cloud, call, cloud.get("VmInstance", call.target), name) for name in call["names"]]
    yield "start"
    return {"result": {"numberOfClonedVm": sum("inventory" in one for one in clones), "inventories": clones}}


def cloned(cloud, call, source, name):
    """A virtual machine with volumes and networks like those of another, started where it is not only to be created."""
    started = call["strategy"] == "InstantStart"
    try:
        with cloud.store.all_or_nothing():
            scope = Scope(cloud, call, "VmInstance", cloud.add("VmInstance", name=name, **{key: source.get(key) for key in COPIED}))
            copy_parts(scope, source["uuid"])
            if started:
                start = replace(call, api=cloud.catalogue.apis["StartVmInstance"], params={"uuid": scope.item["uuid"]})
                cloud.accounts.charge(start)
                deque(cloud.act(start), 0)
            return cloud.shown("VmInstance", scope.item["uuid"]) | {"started": started}
    except ApiError as error:
        return {"error": cloud.catalogue.error_body(error), "started": False}


def copy_parts(scope, source):
    """Nics on the same networks, and volumes of the same sizes: the root volume, with `full` those for data too."""
    cloud, vm = scope.cloud, scope.item
    for nic in sorted(cloud.find("VmNic", "vmInstanceUuid", source), key=lambda nic: nic["deviceId"]):
        add_nic(scope, f"'{nic['l3NetworkUuid']}'")
    for volume in sorted(cloud.find("Volume", "vmInstanceUuid", source), key=lambda volume: volume["type"] != "Root"):
        if volume["type"] == "Root" or scope.call["full"]:
            ps = with_room(cloud, volume["primaryStorageUuid"], volume["size"])
            kept = {key: volume.get(key) for key in ("size", "actualSize", "diskOfferingUuid", "rootImageUuid")}
            new_volume(cloud, vm, volume["deviceId"], ps, **kept)


# ---- Behaviours: volumes and images --------------------------------------------------------------------------------


@effect("instantiate where told")
def instantiate_where_told(scope):
    """A new volume takes its place when it is told where; shareable it is by a tag of the call (VolumeSystemTags.java)."""
    scope.set(type="Data", isShareable="ephemeral::shareable" in scope.call.system_tags)
    if scope.item.get("primaryStorageUuid"):
        scope.set(**placed(scope.cloud, scope.item, with_room(scope.cloud, scope.item["primaryStorageUuid"], scope.item["size"])))


@effect("attach to the vm")
def attach_to_vm(scope):
    """A volume that has no place yet takes one that the virtual machine's cluster reaches; and a free number, 0 being the root volume's."""
    cloud, volume, vm = scope.cloud, scope.item, scope.look("VmInstance", scope.call["vmInstanceUuid"])
    used = {other.get("deviceId") for type in ("Volume", "ShareableVolumeVmInstanceRef") for other in cloud.find(type, "vmInstanceUuid", vm["uuid"])}
    most = configured(cloud, "kvm", "dataVolume.maxNum")
    if len(used - {0}) >= most:
        raise refused(f"hypervisor[{vm['hypervisorType']}] only allows max {most} data volumes to be attached to a single vm")
    if volume["status"] == "NotInstantiated":
        scope.set(**placed(cloud, volume | {"vmInstanceUuid": vm["uuid"]}, pick_storage(cloud, vm.get("clusterUuid"), volume["size"])))
    place = {"vmInstanceUuid": vm["uuid"], "deviceId": next(n for n in itertools.count(1) if n not in used)}
    if volume["isShareable"]:
        cloud.add("ShareableVolumeVmInstanceRef", volumeUuid=volume["uuid"], **place)
    else:
        scope.set(**place)


@effect("move")
def move(scope):
    move_volume(scope.cloud, scope.item, scope.call["dstPrimaryStorageUuid"])


@effect("grow the tree")
def grow_tree(scope):
    """A snapshot goes below the latest one of the current tree; where there is none, or its chain is long enough, another tree begins."""
    cloud, volume = scope.cloud, scope.item["volumeUuid"]
    tree = next((tree for tree in cloud.find("VolumeSnapshotTree", "volumeUuid", volume) if tree["current"]), {})
    latest = next((other for other in cloud.find("VolumeSnapshot", "treeUuid", tree["uuid"]) if other["latest"]), {}) if tree else {}
    said = whole_of(said_by_tag(cloud, volume, "volumeMaxIncrementalSnapshotNum::") or "", 31)
    longest = said if said is not None else configured(cloud, "volumeSnapshot", "incrementalSnapshot.maxNum")
    if latest and latest.get("distance", 1) < longest:
        cloud.change("VolumeSnapshot", latest["uuid"], latest=False)
        scope.set(treeUuid=tree["uuid"], parentUuid=latest["uuid"], distance=latest.get("distance", 1) + 1)
    else:
        cloud.change("VolumeSnapshotTree", tree["uuid"], current=False) if tree else None
        scope.set(treeUuid=cloud.add("VolumeSnapshotTree", volumeUuid=volume)["uuid"], distance=1)


@behaviour("CreateVolumesSnapshot", snapshot="Take the snapshots")
def create_volumes_snapshot(cloud, call):
    """One of each volume, all at the same moment."""
    asked = [{"volumeUuid": uuid, "name": f"snapshot-of-{cloud.look('Volume', uuid)['name']}"} for uuid in call["volumeUuids"]]
    under_way, made = [create(cloud, replace(call, api=cloud.catalogue.apis["CreateVolumeSnapshot"], params=params)) for params in asked], []
    for snapshot in under_way:
        next(snapshot)
    yield "snapshot"
    for snapshot in under_way:
        made.append((yield from snapshot)["inventory"])
    return {"inventories": made}


@effect("back to the snapshot")
def back_to_snapshot(scope):
    """The next snapshot will be below this one: it is the latest of its tree, and that the current one."""
    cloud, snapshot = scope.cloud, scope.item
    for tree in cloud.find("VolumeSnapshotTree", "volumeUuid", snapshot["volumeUuid"]):
        cloud.change("VolumeSnapshotTree", tree["uuid"], current=tree["uuid"] == snapshot["treeUuid"])
    for other in cloud.find("VolumeSnapshot", "treeUuid", snapshot["treeUuid"]):
        cloud.change("VolumeSnapshot", other["uuid"], latest=other["uuid"] == snapshot["uuid"])


@effect("delete the branch")
def delete_branch(scope):
    """A snapshot goes with all that came after it, a tree with its last one; where the latest went, it is the parent now."""
    cloud, doomed = scope.cloud, [scope.item]
    for snapshot in doomed:
        doomed += cloud.find("VolumeSnapshot", "parentUuid", snapshot["uuid"])
        cloud.remove("VolumeSnapshot", snapshot["uuid"])
    if not scope.item.get("parentUuid"):
        cloud.remove("VolumeSnapshotTree", scope.item["treeUuid"])
    elif any(snapshot["latest"] for snapshot in doomed):
        cloud.change("VolumeSnapshot", scope.item["parentUuid"], latest=True)


@effect("copies on backup storage")
def copies(scope):
    """A copy, on its way, on each backup storage that can take the image; all there are when none is named."""
    cloud, uuids, now = scope.cloud, scope.call["backupStorageUuids"], scope.cloud.clock.stamp(scope.cloud.pretend)
    wanted = [cloud.look("BackupStorage", uuid) for uuid in dict.fromkeys(uuids)] if uuids else cloud.store.rows("BackupStorage")
    usable = [bs for bs in wanted if (bs["state"], bs["status"]) == ("Enabled", "Connected") and bs["attachedZoneUuids"]]
    if not usable:
        raise refused(f"no backup storage specified in uuids[{', '.join(uuids or ())}] is available for adding this image; "
                      "they must be Enabled, Connected, and attached to a zone")  # fmt: skip
    path = f"rootVolumeTemplates/acct-{ADMIN}/{scope.item['uuid']}/{scope.item['uuid']}.template"
    scope.set(backupStorageRefs=[{"imageUuid": scope.item["uuid"], "backupStorageUuid": bs["uuid"], "installPath": f"{bs['url']}/{path}",
                                  "status": scope.item["status"], "createDate": now, "lastOpDate": now} for bs in usable])  # fmt: skip


@effect("arrive with")
def arrive(scope, size):
    """An image is there, with all its copies."""
    size = scope.value(size) if is_name(size) else size_of(size)
    md5 = hashlib.md5(scope.item["uuid"].encode(), usedforsecurity=False).hexdigest()
    scope.set(status="Ready", size=size, actualSize=size, md5Sum=md5, backupStorageRefs=[ref | {"status": "Ready"} for ref in scope.item["backupStorageRefs"]])


@effect("copies are")
def mark_copies(scope, status):
    """The copies that are named by their backup storage, or all, are that now; an image is Deleted with the last of them."""
    named, copies = scope.call["backupStorageUuids"], scope.item["backupStorageRefs"]
    status = status if status == "Deleted" or scope.item.get("md5Sum") else "Error"  # it never came
    copies = [ref | {"status": status} if not named or ref["backupStorageUuid"] in named else ref for ref in copies]
    scope.set(backupStorageRefs=copies, status=next((ref["status"] for ref in copies if ref["status"] != "Deleted"), status))


@effect("expunge copies")
def expunge_copies(scope):
    """Those that are Deleted, and named if some are; with the last one goes the image."""
    named, gone = scope.call["backupStorageUuids"], scope.item["status"] == "Deleted"
    left = [ref for ref in scope.item["backupStorageRefs"] if not (gone or ref["status"] == "Deleted") or (named and ref["backupStorageUuid"] not in named)]
    scope.set(backupStorageRefs=left) if left else remove_item(scope)


# ---- Behaviours: consoles ------------------------------------------------------------------------------------------

CONSOLE_PORT, VNC_PORT = 4900, 5900


@behaviour("RequestConsoleAccess")
def request_console_access(cloud, call):
    """Where a browser finds the console of a virtual machine; the token is the same as long as it stays on its host."""
    vm, agent = cloud.get("VmInstance", call["vmInstanceUuid"]), next(iter(cloud.store.rows("ConsoleProxyAgent")))
    shown = agent["consoleProxyOverriddenIp"]
    token = hashlib.md5(f"{cloud.settings.seed}/{vm['uuid']}/{vm.get('hostUuid')}".encode(), usedforsecurity=False).hexdigest()
    return {"inventory": {"scheme": "http", "hostname": agent["managementIp"] if shown in ("", "0.0.0.0") else shown,
                          "port": CONSOLE_PORT, "token": f"{vm['uuid']}_{token}"}}  # fmt: skip


@behaviour("GetVmConsoleAddress")
def get_vm_console_address(cloud, call):
    host = cloud.get("Host", cloud.get("VmInstance", call["uuid"]).get("hostUuid"))
    beside = [vm["uuid"] for vm in cloud.find("VmInstance", "hostUuid", host["uuid"])]
    return {"hostIp": host["managementIp"], "port": VNC_PORT + beside.index(call["uuid"]), "protocol": "vnc"}


@behaviour("ReconnectConsoleProxyAgent", reconnect="Reconnect the console proxy agents")
def reconnect_console_proxy_agents(cloud, call):
    """What became of each agent; one that is not there is no failure (ManagementServerConsoleProxyBackend.java)."""
    asked = call["agentUuids"] or [agent["uuid"] for agent in cloud.store.rows("ConsoleProxyAgent")]
    known = [uuid for uuid in asked if cloud.store.peek("ConsoleProxyAgent", uuid)]
    for uuid in known:
        cloud.change("ConsoleProxyAgent", uuid, status="Connecting")
    yield "reconnect"
    for uuid in known:
        cloud.change("ConsoleProxyAgent", uuid, status="Connected")
    return {"inventory": {uuid: uuid in known or cloud.catalogue.error_body(ApiError("SYS.1007", f"invalid management node UUID[{uuid}]")) for uuid in asked}}


# ---- Schedules ---------------------------------------------------------------------------------------------------

SCHEDULED = {  # by the type of a scheduler job: the call that it makes, what its target is, the parameter that names that
    "startVm": ("StartVmInstance", "VmInstance", "uuid"),
    "stopVm": ("StopVmInstance", "VmInstance", "uuid"),
    "rebootVm": ("RebootVmInstance", "VmInstance", "uuid"),
    "volumeSnapshot": ("CreateVolumeSnapshot", "Volume", "volumeUuid"),
}
CALLED = {"snapshotName": "name", "snapShotName": "name", "volumeSnapshotDescription": "description"}  # APICreateVolumeSnapshotSchedulerJobMsg.java
LAST_STOP = 2147454847  # the end of MySQL's timestamps (SchedulerApiInterceptor.java)
MISFIRE = 60  # seconds that a job may come after its trigger's beginning and still be run for it: Quartz's misfire threshold
MOST_RUNS = 20_000  # that one move of the Clock brings about


# cron expressions: seconds minutes hours, days months weekdays; 0 0/3 17-23 * * ? is every third minute from 17 to 23 h

CRON = ((0, 59, ()), (0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, [month.upper() for month in MONTHS]), (1, 7, "SUN MON TUE WED THU FRI SAT".split()))
DAYS_AHEAD = 366 * 8  # in which a 29th of February falls


@functools.lru_cache(64)
def read_cron(text):
    """The seconds of a day and the days, months and weekdays that an expression names; None for what is none.

    Quartz's L, W and # are not known.
    """
    words = text.upper().split(" ")
    if not text.isascii() or len(words) != 6 or "?" not in words[3::2] or "?" in (*words[:3], words[4]):
        return None
    fields = [cron_field(word, *bounds) for word, bounds in zip(words, CRON)]
    if not all(fields):
        return None
    seconds, minutes, hours, *days = fields
    return sorted(3600 * hour + 60 * minute + second for hour in hours for minute in minutes for second in seconds), *days


def cron_field(text, low, high, names):
    """The numbers that a field means: "MON-WED,7" -> {2, 3, 4, 7}; none where a part of it is wrong."""
    found = [re.fullmatch(r"(?:([*?])|(\w{1,9})(?:-(\w{1,9}))?)(?:/([0-9]{1,9}))?", part)
             for part in text.split(",")]  # fmt: skip
    spans = [cron_span(*part.groups(), low, high, names) if part else () for part in found]
    return set().union(*spans) if all(spans) else set()


def cron_span(every, first, last, step, low, high, names):
    begin, end = (low, high) if every else (cron_number(first, names), cron_number(last or (step and str(high)) or first, names))
    step = int(step or 1)
    return range(begin, end + 1, step) if low <= begin <= end <= high and step else ()


def cron_number(word, names):
    return names.index(word) + 1 if word in names else int(word) if word.isdecimal() else -1


FORMS["Cron"] = read_cron


def next_of_cron(cron, second):
    """The first second since 1970 that an expression names and that is not before another one; None where there is none for years."""
    times, days, months, weekdays = cron
    today, passed = divmod(second, DAY)
    for day in range(today, today + DAYS_AHEAD):
        month, date = int(stamp_of(day * DAY)[5:7]), int(stamp_of(day * DAY)[8:10])
        if month in months and date in days and (day + 4) % 7 + 1 in weekdays:
            later = bisect.bisect_left(times, passed if day == today else 0)
            if later < len(times):
                return day * DAY + times[later]
    return None


# triggers


def next_moment(cloud, trigger, since):
    """The first moment of a trigger that is not before another one; None where it has ended."""
    if cron := read_cron(str(trigger.get("cron"))):
        zone = cloud.clock.utc_offset
        found = next_of_cron(cron, math.ceil(since + zone))
        return found if found is None else found - zone
    if not trigger.get("startTime"):
        return None
    begin, interval = cloud.clock.moment(trigger["startTime"]), trigger.get("schedulerInterval", 0)
    passed = max(0, math.ceil((since - begin) / max(1, interval)))
    return begin + passed * interval if passed < (trigger.get("repeatCount") or (math.inf if interval > 0 else 1)) else None


@effect("work out the times")
def work_out_times(scope):
    """When a simple trigger begins and, where it does not go on for ever, ends. A beginning at 0 is now."""
    cloud, trigger, asked = scope.cloud, scope.cloud.look("SchedulerTrigger", scope.item["uuid"]), scope.call["startTime"]
    if trigger["schedulerType"] == "simple":
        begin = asked or math.floor(cloud.clock.now())
        if asked is None and trigger.get("startTime"):  # a file that somebody edited may lack it
            begin = cloud.clock.moment(trigger["startTime"])
        length = (trigger.get("repeatCount") or 0) * (trigger.get("schedulerInterval") or 0)
        if begin + length > LAST_STOP:
            raise ApiError("SYS.1007", "stopTime out of mysql timestamp range")
        cloud.change("SchedulerTrigger", trigger["uuid"], startTime=cloud.clock.stamp(begin), stopTime=cloud.clock.stamp(begin + length) if length else None)


@behaviour("GetAvailableTriggers")
def get_available_triggers(cloud, call):
    """Those that have not stopped."""
    going = [trigger for trigger in cloud.queries_of(call).tables.in_order("SchedulerTrigger") if trigger.get("stopTime", "9") >= cloud.clock.stamp()]
    return {"inventories": [cloud.inventory("SchedulerTrigger", trigger) for trigger in going]}


# jobs


def scheduled_call(cloud, job, uuid=""):
    """The call that a scheduler job makes."""
    name, type, target = SCHEDULED.get(job.get("type"), ("", "", ""))
    if not cloud.store.peek(type, job["targetResourceUuid"]):
        raise ApiError("SYS.1007", f"resource[uuid:{job['targetResourceUuid']}] is not what a job of type[{job.get('type')}] is for")
    api, told = cloud.catalogue.apis[name], job.get("parameters")
    said = {CALLED.get(name, name): value for name, value in told.items()} if isinstance(told, dict) else {}
    given = {"name": job["name"]} | said | {target: job["targetResourceUuid"]}
    return Call(api, cloud.check(api, given), job=uuid)


@effect("try the call")
def try_call(scope):
    """Refuses a new job whose call could not be made."""
    scheduled_call(scope.cloud, scope.item)


def plan(cloud, tie, since):
    """Has an Enabled job run at the first moment of a trigger that is not before another one; `tie` ties the one to the other."""
    if tie["uuid"] in cloud.scheduled:
        cloud.scheduled.pop(tie["uuid"]).cancel()
    due = next_moment(cloud, cloud.look("SchedulerTrigger", tie["schedulerTriggerUuid"]), since)
    if due is not None and cloud.look("SchedulerJob", tie["schedulerJobUuid"]).get("state") == "Enabled":
        cloud.scheduled[tie["uuid"]] = cloud.clock.at(due, lambda: fire(cloud, tie["uuid"]))


def fire(cloud, uuid):
    """Runs a job, if it is still tied to its trigger, for something that is not destroyed, and a management node is there to do it."""
    cloud.scheduled.pop(uuid, None)
    tie = cloud.look("SchedulerJobSchedulerTrigger", uuid)
    if tie:
        plan(cloud, tie, math.floor(cloud.clock.now()) + 1)
        job = cloud.look("SchedulerJob", tie["schedulerJobUuid"])
        if cloud.inventory("SchedulerJob", job).get("state") == "Enabled" and not cloud.unreachable:
            run_scheduled(cloud, job)


def run_scheduled(cloud, job):
    """Makes the call of a job as an api-job of its own: what refuses or fails it is told by a notification."""
    try:
        call = scheduled_call(cloud, job, cloud.uuid())
    except ApiError as error:
        cloud.notify("scheduler job[uuid:%s] cannot run: %s", [job["uuid"], error.details], "SchedulerJobVO", job["uuid"], "Error")
        return
    call.seconds = draw_seconds(cloud, call.api)
    cloud.admit(call)
    call.account = call.user = job.get("owner", ADMIN)
    cloud.jobs.submit(call)


@effect("plan")
def plan_new(scope):
    """A job that is added soon after its trigger's beginning is run for that too."""
    cloud, trigger = scope.cloud, scope.look("SchedulerTrigger", scope.call["schedulerTriggerUuid"])
    now = cloud.clock.now()
    begin = cloud.clock.moment(trigger["startTime"]) if trigger.get("startTime") else now
    plan(cloud, scope.item, begin if 0 <= now - begin < MISFIRE else now)


@effect("plan anew")
def plan_anew(scope):
    """What is tied to a job or a trigger goes by what that is now."""
    scope.keep(without_nulls)
    for tie in scope.cloud.find("SchedulerJobSchedulerTrigger", scope.type[0].lower() + scope.type[1:] + "Uuid", scope.item["uuid"]):
        plan(scope.cloud, tie, scope.cloud.clock.now())


def follow_dates(cloud, seconds):
    """Plan all schedules anew if the system's clock was set back by more than a correction.

    After a correction all stays on its date, so that nothing runs twice. What a clock that was set
    forth passed over runs once, and late: the timers are `dated`.
    """
    if seconds < -MISFIRE:
        plan_all(cloud)


def plan_all(cloud):
    """On a clock that shows another time than before: what was due in the meantime is not made up for."""
    for tie in [*cloud.store.rows("SchedulerJobSchedulerTrigger")]:
        plan(cloud, tie, cloud.clock.now())


def mind_schedules(cloud, until):
    """Raises TooFar where jobs would run too often until a moment."""
    left = MOST_RUNS
    for uuid, timer in cloud.scheduled.items():
        trigger = cloud.look("SchedulerTrigger", cloud.look("SchedulerJobSchedulerTrigger", uuid).get("schedulerTriggerUuid"))
        due = timer.due if trigger else None
        while due is not None and due <= until:
            left, due = left - 1, next_moment(cloud, trigger, due + 1)
            if left < 0:
                raise TooFar(f"scheduler jobs would run more than {MOST_RUNS} times, those of trigger {trigger['name']} among them")


# ---- Demo cloud --------------------------------------------------------------------------------------------------


def named(name: str) -> str:
    """The fixed uuid of something in the demo cloud: named("vm-web-1") is the same in every mock."""
    return uuid5(NAMESPACE, name).hex


NAMESPACE = UUIDv5("5a537461-636b-5000-8000-7a6d6f636b21")
SHA512_OF_PASSWORD = hashlib.sha512(b"password").hexdigest()


def add_console_agent(cloud):
    """What takes browsers to consoles, on the management node, unless it is there."""
    if not cloud.store.count("ConsoleProxyAgent"):
        cloud.add("ConsoleProxyAgent", uuid=node(cloud)["uuid"], managementIp=node(cloud)["hostName"],
                  description=f"Console proxy agent running on the management node[uuid:{node(cloud)['uuid']}]")  # fmt: skip


def basics(cloud):
    """What even an empty ZStack has: its management node, the admin, a licence, the providers of network services."""
    cloud.add("ManagementNode", uuid=named("management-node"), hostName=cloud.settings.host, joinDate=cloud.clock.stamp(cloud.pretend))
    cloud.add("Account", uuid=ADMIN, name="admin", type="SystemAdmin", password=SHA512_OF_PASSWORD)
    cloud.add("License", uuid=named("license"), **community_license(cloud))
    add_console_agent(cloud)
    for name, services in ((provider.type, provider.services) for provider in cloud.catalogue.providers):
        cloud.add("NetworkServiceProvider", uuid=named(f"provider-{name}"), name=f"{name} Network Service Provider", description=f"{name} services",
                  type=name, networkServiceTypes=[*services], attachedL2NetworkUuids=[])  # fmt: skip


# Each line is a call: the API, a name that is the uuid of what it makes (or "-"), its parameters; "@name" is a uuid.
GROUND = (  # what also a large cloud stands on
    ("CreateZone", "zone-1", {"name": "zone-1", "description": "the data centre in Shanghai"}),
    *(("CreateCluster", f"cluster-{n}", {"name": f"cluster-{n}", "zoneUuid": "@zone-1", "hypervisorType": "KVM"}) for n in (1, 2)),
    ("AddNfsPrimaryStorage", "ps-nfs", {"name": "ps-nfs", "url": "10.10.0.100:/export/primary", "zoneUuid": "@zone-1"}),
    ("AddLocalPrimaryStorage", "ps-local", {"name": "ps-local", "url": "/zstack_ps", "zoneUuid": "@zone-1"}),
    *(("AttachPrimaryStorageToCluster", "-", {"primaryStorageUuid": "@ps-nfs", "clusterUuid": f"@cluster-{n}"}) for n in (1, 2)),
    ("AttachPrimaryStorageToCluster", "-", {"primaryStorageUuid": "@ps-local", "clusterUuid": "@cluster-2"}),
    ("AddSftpBackupStorage", "bs-1", {"name": "bs-1", "url": "/zstack_bs", "hostname": "10.10.0.100", "username": "root", "password": "password"}),
    ("AttachBackupStorageToZone", "-", {"backupStorageUuid": "@bs-1", "zoneUuid": "@zone-1"}),
    *(("AddImage", f"image-{name}", {"name": f"image-{name}", "url": f"http://mirror.example.com/{name}.{kind}", "format": kind, "platform": platform,
                                     "mediaType": "ISO" if kind == "iso" else "RootVolumeTemplate", "backupStorageUuids": ["@bs-1"]})
      for name, kind, platform in (("centos7", "qcow2", "Linux"), ("ubuntu1804", "qcow2", "Linux"), ("windows2016", "qcow2", "Windows"), ("debian9", "iso", "Linux"))),
    *(("CreateInstanceOffering", f"offering-{name}", {"name": f"offering-{name}", "cpuNum": cpus, "memorySize": gib * GIB})
      for name, cpus, gib in (("small", 1, 1), ("medium", 2, 4), ("large", 4, 8))),
    *(("CreateDiskOffering", f"disk-{gib}g", {"name": f"disk-{gib}g", "diskSize": gib * GIB}) for gib in (20, 100)),
    ("CreateL2NoVlanNetwork", "l2-public", {"name": "l2-public", "zoneUuid": "@zone-1", "physicalInterface": "eth0"}),
    ("CreateL2VlanNetwork", "l2-private", {"name": "l2-private", "zoneUuid": "@zone-1", "physicalInterface": "eth1", "vlan": 100}),
    *(("AttachL2NetworkToCluster", "-", {"l2NetworkUuid": f"@l2-{name}", "clusterUuid": f"@cluster-{n}"}) for name in ("public", "private") for n in (1, 2)),
    ("CreateL3Network", "l3-public", {"name": "l3-public", "l2NetworkUuid": "@l2-public", "category": "Public"}),
    ("CreateL3Network", "l3-private", {"name": "l3-private", "l2NetworkUuid": "@l2-private", "dnsDomain": "demo.local"}),
    ("AttachNetworkServiceToL3Network", "-", {"l3NetworkUuid": "@l3-private", "networkServices": {
        named("provider-VirtualRouter"): ["DHCP", "DNS", "SNAT", "PortForwarding", "Eip", "LoadBalancer"],
        named("provider-SecurityGroup"): ["SecurityGroup"]}}),
)  # fmt: skip
DEMO = (
    *GROUND,
    *(("AddKVMHost", f"host-{n}", {"name": f"host-{n}", "managementIp": f"10.10.0.{10 + n}", "username": "root", "password": "password",
                                   "clusterUuid": f"@cluster-{(n + 1) // 2}"}) for n in (1, 2, 3, 4)),
    ("AddIpRangeByNetworkCidr", "range-public", {"name": "range-public", "l3NetworkUuid": "@l3-public", "networkCidr": "10.20.0.0/24"}),
    ("AddIpRangeByNetworkCidr", "range-private", {"name": "range-private", "l3NetworkUuid": "@l3-private", "networkCidr": "192.168.100.0/24"}),
    ("AddDnsToL3Network", "-", {"l3NetworkUuid": "@l3-private", "dns": "10.10.0.2"}),
    *(("CreateVmInstance", f"vm-{name}", {"name": name, "instanceOfferingUuid": f"@offering-{size}", "imageUuid": f"@image-{image}",
                                          "l3NetworkUuids": ["@l3-private"], "hostUuid": f"@host-{host}"})
      for name, size, image, host in (
          ("web-1", "small", "centos7", 1), ("web-2", "small", "centos7", 2), ("web-3", "small", "centos7", 3),
          ("db-1", "large", "centos7", 1), ("db-2", "large", "centos7", 2), ("cache-1", "medium", "ubuntu1804", 3),
          ("ci-1", "medium", "ubuntu1804", 1), ("ci-2", "medium", "ubuntu1804", 2), ("office-1", "medium", "windows2016", 3),
          ("batch-1", "small", "ubuntu1804", 4), ("batch-2", "small", "ubuntu1804", 4), ("old-1", "small", "centos7", 1))),
    *(("StopVmInstance", "-", {"uuid": f"@vm-{name}"}) for name in ("ci-1", "ci-2")),
    ("PauseVmInstance", "-", {"uuid": "@vm-office-1"}),
    *(("CreateDataVolume", f"volume-{name}", {"name": name, "diskOfferingUuid": "@disk-100g"}) for name in ("db-data-1", "db-data-2", "spare")),
    *(("AttachDataVolumeToVm", "-", {"volumeUuid": f"@volume-db-data-{n}", "vmInstanceUuid": f"@vm-db-{n}"}) for n in (1, 2)),
    *(("CreateVolumeSnapshot", f"snapshot-{n}", {"name": f"before-upgrade-{n}", "volumeUuid": "@volume-db-data-1"}) for n in (1, 2)),
    ("CreateUser", "user-operator", {"name": "operator", "password": SHA512_OF_PASSWORD}),
    ("CreateSystemTag", "-", {"resourceType": "HostVO", "resourceUuid": "@host-1", "tag": "reservedMemory::2G"}),
    ("CreateSystemTag", "-", {"resourceType": "VmInstanceVO", "resourceUuid": "@vm-web-1", "tag": "hostname::web-1"}),
    *(("CreateUserTag", "-", {"resourceType": "VmInstanceVO", "resourceUuid": f"@vm-{name}", "tag": tag})
      for name, tag in (("web-1", "web"), ("web-2", "web"), ("web-3", "web"), ("db-1", "for-large-DB"), ("db-2", "for-large-DB"))),
    ("CreateUserTag", "-", {"resourceType": "DiskOfferingVO", "resourceUuid": "@disk-100g", "tag": "for-large-DB"}),
    ("CreateSchedulerTrigger", "trigger-nightly", {"name": "nightly", "schedulerType": "cron", "cron": "0 0 3 * * ?"}),
    ("CreateSchedulerJob", "job-nightly", {"name": "nightly-snapshot", "type": "volumeSnapshot", "targetResourceUuid": "@volume-db-data-2"}),
    ("AddSchedulerJobToSchedulerTrigger", "-", {"schedulerJobUuid": "@job-nightly", "schedulerTriggerUuid": "@trigger-nightly"}),
    ("ChangeSchedulerState", "-", {"uuid": "@job-nightly", "stateEvent": "disable"}),
    ("CreateAffinityGroup", "group-db", {"name": "db", "policy": "antiSoft"}),
    *(("AddVmToAffinityGroup", "-", {"affinityGroupUuid": "@group-db", "uuid": f"@vm-db-{n}"}) for n in (1, 2)),
)  # fmt: skip
DEMO_BEGAN, DEMO_STEP = 30 * DAY, 6 * 3600  # ago; and how long after each other its calls were
LONG_JOB_HOURS, LONG_JOB_DONE = 10, 0.425


def resolved(value):
    """ "@zone-1" -> its uuid, also in lists."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    return named(value[1:]) if isinstance(value, str) and value.startswith("@") else value


def do(cloud, api_name, name, params):
    """Makes a call to its end, now."""
    api = cloud.catalogue.apis[api_name]
    given = {key: resolved(value) for key, value in params.items() if value is not None} | ({"resourceUuid": named(name)} if name != "-" else {})
    call = Call(api, cloud.check(api, given), account=ADMIN)
    work = cloud.act(call)
    if isinstance(work, GeneratorType):
        for _ in work:
            pass


LONG_AGO = 1_000_000_000  # a whole second, from which the dates of what was made are counted
DATES_INSIDE = re.compile(r'"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"')


@functools.lru_cache(maxsize=8)
def made_by_calls(catalogue, **settings):
    """What the calls of DEMO make: the items as one text, when its dates are after the first, the random sequence and the addresses after them.

    The same for all clouds with the same settings, but for the dates; a process makes it once.
    """
    cloud = new_cloud(Settings(memory=True, clock="frozen", **settings), catalogue)
    cloud.clock.stopped_at, began = LONG_AGO + DEMO_BEGAN, LONG_AGO
    cloud.pretend = began
    basics(cloud)
    cloud.change("License", named("license"), licenseType="Paid", user="demo@example.com", hostNum=10, cpuNum=40,
                 issuedDate=cloud.clock.stamp(began), expiredDate=cloud.clock.stamp(began + 365 * DAY))  # fmt: skip
    cloud.add("LicenseAddOn", uuid=named("license-addon"), name="project-management", cpuNum=40, hostNum=10, licenseType="AddOn",
              modules=["project-management"], issuedDate=cloud.clock.stamp(began), expiredDate=cloud.clock.stamp(began + 365 * DAY))  # fmt: skip
    for n, line in enumerate(DEMO):
        cloud.pretend = began + n * DEMO_STEP
        do(cloud, *line)
    cloud.pretend = cloud.clock.now() - 3600
    with_public_address(cloud, "web-1")
    text = to_json([(type, [*kept.values()]) for type, kept in cloud.store.image().documents.items() if kept]).decode()
    return text, {stamp: cloud.clock.moment(stamp) - began for stamp in set(DATES_INSIDE.findall(text))}, cloud.random.getstate(), cloud.cursors


def demo(cloud):
    """A small data centre, a month old, in which things have happened."""
    asked = {name: getattr(cloud.settings, name) for name in ("seed", "dialect", "utc_offset", "host")}
    text, dates, randomness, cursors = made_by_calls(cloud.catalogue, **asked)
    now_said = {stamp: f'"{cloud.clock.stamp(cloud.clock.now() - DEMO_BEGAN + seconds)}"' for stamp, seconds in dates.items()}
    for type, items in json.loads(DATES_INSIDE.sub(lambda found: now_said[found[1]], text)):
        for item in items:
            cloud.store.change(type, item["uuid"], item)
    cloud.random.setstate(randomness)
    cloud.cursors = dict(cursors)
    cloud.pretend = cloud.clock.now() - 3600
    trouble(cloud)
    cloud.pretend = None
    cloud.random = random.Random(f"{cloud.settings.seed}/0")  # who comes gets the same uuids, whatever the demo cloud is made of


def with_public_address(cloud, vm):
    """A virtual IP on the public network, and the EIP that leads from it to a virtual machine."""
    ip, source = free_ip(cloud, named("l3-public"))
    nic = cloud.find("VmNic", "vmInstanceUuid", named(f"vm-{vm}"))[0]
    cloud.add("Vip", uuid=named("vip-1"), name="vip-1", l3NetworkUuid=named("l3-public"), ip=ip, gateway=source["gateway"], netmask=source["netmask"],
              serviceProvider="Flat", peerL3NetworkUuids=[nic["l3NetworkUuid"]], useFor="Eip", ipRangeUuid=source["uuid"])  # fmt: skip
    cloud.add("Eip", uuid=named("eip-1"), name="eip-1", vipUuid=named("vip-1"), vmNicUuid=nic["uuid"], vipIp=ip, guestIp=nic["ip"])


def trouble(cloud):
    """A host that went away, what its virtual machine left to collect, one destroyed, and an image that takes its time."""
    host_gone(cloud, named("host-4"))
    for vm in ("old-1", "batch-2"):
        do(cloud, "DestroyVmInstance", "-", {"uuid": f"@vm-{vm}"})
    cloud.add("GarbageCollector", uuid=named("gc-done"), name="gc-volume-on-primary-storage", runnerClass="org.zstack.storage.primary.DeleteVolumeGC",
              status="Done", type="TimeBased", managementNodeUuid=named("management-node"), context="{}")  # fmt: skip
    began = cloud.clock.now() - LONG_JOB_DONE * LONG_JOB_HOURS * 3600
    cloud.pretend = began
    given = {"name": "image-archive", "url": "http://mirror.example.com/archive.qcow2", "format": "qcow2", "backupStorageUuids": [named("bs-1")],
             "resourceUuid": named("image-archive")}  # fmt: skip
    cloud.add("LongJob", uuid=named("longjob-1"), name="add-image", description="the archive of 2017", apiId=named("api-1"), jobName="APIAddImageMsg",
              jobData=json.dumps(given), state="Running", managementNodeUuid=named("management-node"))  # fmt: skip


def set_going(cloud):
    """What the demo has under way: the image that takes its time."""
    job, api = cloud.look("LongJob", named("longjob-1")), cloud.catalogue.apis["AddImage"]
    inner = Call(api, cloud.check(api, json.loads(job["jobData"])), job=job["apiId"], account=ADMIN)
    cloud.pretend = cloud.clock.moment(job["createDate"])
    run_long_job(cloud, job["uuid"], inner, LONG_JOB_HOURS * 3600, cloud.pretend)
    cloud.pretend = None


VMS_PER_HOST = 100


def large(cloud, count):
    """A data centre with that many running virtual machines, each with a root volume and an address."""
    basics(cloud)
    hosts = max(1, math.ceil(count / VMS_PER_HOST))
    for line in GROUND:
        do(cloud, *line)
    for n in range(hosts):
        do(cloud, "AddKVMHost", f"host-{n}", {"name": f"host-{n}", "managementIp": str(ipaddress.IPv4Address(n + (10 << 24))), "username": "root",
                                              "password": "password", "clusterUuid": f"@cluster-{n % 2 + 1}"})  # fmt: skip
    do(cloud, "AddIpRangeByNetworkCidr", "range-private", {"name": "range-private", "l3NetworkUuid": "@l3-private", "networkCidr": "172.16.0.0/12"})
    cloud.change("PrimaryStorage", named("ps-nfs"), availableCapacity=20 * TIB + count * 10 * GIB, totalCapacity=20 * TIB + count * 10 * GIB)
    for n in range(count):
        running_vm(cloud, f"vm-{n}", cloud.look("Host", named(f"host-{n % hosts}")))
    for n in range(hosts):
        recount(cloud, named(f"host-{n}"))


def running_vm(cloud, name, host):
    """A virtual machine on a host, without the search for one."""
    parts = (("InstanceOffering", "offering-small"), ("Image", "image-centos7"), ("L3Network", "l3-private"))
    offering, image, l3 = (cloud.look(type, named(of)) for type, of in parts)
    vm = cloud.add("VmInstance", uuid=named(name), name=name, instanceOfferingUuid=offering["uuid"], imageUuid=image["uuid"], state="Running",
                   platform=image["platform"], hypervisorType=host["hypervisorType"], defaultL3NetworkUuid=l3["uuid"], hostUuid=host["uuid"],
                   clusterUuid=host["clusterUuid"], zoneUuid=host["zoneUuid"],
                   **{name: offering[name] for name in ("cpuNum", "cpuSpeed", "memorySize", "allocatorStrategy")})  # fmt: skip
    call = Call(cloud.catalogue.apis["CreateVmInstance"], {"l3NetworkUuids": [l3["uuid"]]})
    Scope(cloud, call, "VmInstance", vm).perform("nic on l3NetworkUuids", "make the volumes", "address the nics")


# ---- Cloud file --------------------------------------------------------------------------------------------------

REMEMBERED = {  # keys that keep the uuid of an object that was deleted, on the server too
    "VmInstance": "imageUuid instanceOfferingUuid lastHostUuid", "ImageCache": "imageUuid",
    "Volume": "rootImageUuid diskOfferingUuid", "Notification": "resourceUuid",
    "LongJob": "targetResourceUuid",
}  # fmt: skip


def type_referred_to(catalogue, row, name):
    """Return the type that a field refers to, "Resource" for any, "" if it is no reference.

    A row says it for what a query follows or a deletion touches: "zoneUuid" -> Zone. Elsewhere the
    name of the field ends with it: "lastHostUuid" -> Host, "targetResourceUuid" -> Resource.
    """
    relations = [one for one in row.relations.values() if (one.own, one.theirs) == (name, "uuid")]
    target = row.leads.get(name) or catalogue.resources[row.stored].leads.get(name)
    if target or not re.search(".Uuids?$", name):
        known = target if target in catalogue.resources else ""
        return "Resource" if len({one.target for one in relations}) > 1 else known
    words = re.sub("Uuids?$", "", name).lower()
    if words == "parent":
        return row.stored
    if words.endswith("resource"):
        return "Resource"
    fitting = [type for type in catalogue.resources if words.endswith(type.lower())]
    return max(fitting, key=len, default="")


class CloudFile:
    """What people write into a cloud file, read into objects: uuids, "@name" references, dates, states.

    Raises SettingsError for an object that cannot be, with the nearest right thing.
    """

    def __init__(self, cloud, path):
        self.cloud, self.path, self.catalogue = cloud, path, cloud.catalogue
        rows = cloud.catalogue.resources.values()
        self.inside = {(row.place.owner, row.place.list): row for row in rows if row.inside}
        self.named = defaultdict(dict)  # the uuids of objects, by type and name
        self.nameless = Counter()  # how many objects without a uuid have a name, by type and name
        self.references = []  # (row, field, type, uuid, the field and its object for people)
        for type in {row.stored for row in rows}:
            for item in cloud.store.rows(type):
                self.named[type, item.get("name")][item["uuid"]] = None

    def refuse(self, why):
        raise SettingsError(f"{self.path}: {why}")

    def read(self, rows, told):
        """Return the objects by the keys of the file, as items hold them; `rows` are the types of the keys."""
        known = {key: [self.identified(row, one) for one in told[key]] for key, row in rows.items()}
        return {key: [self.item(rows[key], one) for one in items] for key, items in known.items()}

    # uuids

    def identified(self, row, item):
        """Return an object, and those inside it, with uuids."""
        if not isinstance(item, dict) or row.inside or row.name == "GlobalConfig":
            return item
        item = {name: values.split("|")[0] for name, values in row.only.items()} | item
        uuid = item.get("uuid") or self.uuid_of(row, item.get("name"))
        if isinstance(item.get("name"), str) and isinstance(uuid, str):
            self.named[row.stored, item["name"]][uuid] = None
        parts = {}
        for name, child in self.catalogue.embedded[self.catalogue.as_told(row, item).name].items():
            if isinstance(item.get(name), list):
                parts[name] = [self.identified(child, part) for part in item[name]]
        return item | {"uuid": uuid} | parts

    def uuid_of(self, row, name):
        """Return the uuid of an object without one: it follows from type, name, and which of that name it is."""
        text = f"{row.name}/{name}"
        self.nameless[text] += 1
        return named(text if self.nameless[text] == 1 else f"{text}/{self.nameless[text]}")

    # fields

    def item(self, row, item, owner=""):
        """Return an object with its fields as items hold them; `owner` is what a reference lies in."""
        if not isinstance(item, dict) or row.name == "GlobalConfig":
            return item
        row, label = self.catalogue.as_told(row, item), item.get("name") or item.get("uuid") or ""
        of = f" of {owner or row.name} {label}".rstrip()
        for name, values in row.only.items():
            if name in item and item[name] not in values.split("|"):
                self.refuse(f"{name}{of} is {values.replace('|', ' or ')}, not {item[name]!r}")
        return {name: self.field(row, item, name, value, of) for name, value in item.items()}

    def field(self, row, item, name, value, of):
        """Return the value of a field as items hold it."""
        kind, inner = row.all_fields.get(name), self.inside.get((row.stored, name))
        part = self.catalogue.embedded[row.name].get(name) or (inner if kind == "maps" else None)
        if part and isinstance(value, list):
            return [self.part(part, one, f"{name}{of}") for one in value]
        type = self.type_of(row, item, name, inner)
        if type and isinstance(value, list):
            return [self.reference(row, name, type, one, of) for one in value]
        if type:
            return self.reference(row, name, type, value, of)
        if kind == "date" and isinstance(value, str):
            return self.date(name, value, of)
        values = self.catalogue.values_of(row, name)
        if values and isinstance(value, str) and value not in values:
            better = did_you_mean(value, values)
            self.refuse(f"{name}{of} is {' or '.join(values)}, not {value!r}{better}")
        return value

    def part(self, row, item, owner):
        """Return an object, or a reference, that lies in another one."""
        if row.inside and isinstance(item, dict):
            for name in item.keys() - row.all_fields.keys():
                self.refuse(f"{owner} has no field {name}{did_you_mean(name, row.all_fields)}")
        return self.item(row, item, owner if row.inside else "")

    def date(self, name, text, of):
        try:
            stamp = stamp_from(text, self.cloud.clock.utc_offset)
        except ValueError as error:
            return self.refuse(f"{name}{of}: {error}")
        if len(stamp) != 19 or stamp < "1970":  # strftime pads no years; MySQL begins in 1970
            return self.refuse(f"{name}{of} is a date after 1970, not {text!r}")
        return stamp

    # references

    def type_of(self, row, item, name, inner):
        """Return the type of what a field refers to; of a tag, the one that its resourceType says."""
        if inner and row.all_fields.get(name) == "list":
            return type_referred_to(self.catalogue, inner, inner.place.value)
        type = type_referred_to(self.catalogue, row, name)
        if type == "Resource" and name == "resourceUuid":
            tagged = self.catalogue.of_vo(str(item.get("resourceType")))
            return tagged.name if tagged else type
        return type

    def reference(self, row, name, type, value, of):
        """Return the uuid that a reference means: "@zone-1", or a uuid."""
        if not isinstance(value, str) or not value:
            return value
        where = f"{name}{of}"
        uuid = self.uuid_named(type, value[1:], where) if value.startswith("@") else value
        self.references.append((row, name, type, uuid, where))
        return uuid

    def candidates(self, type):
        """Return what a reference to a type may mean: {name: uuids}."""
        stored = self.catalogue.resources[type].stored if type != "Resource" else ""
        found = defaultdict(dict)
        for (kind, name), uuids in self.named.items():
            if name and kind == (stored or kind):
                found[name] |= uuids
        return found

    def uuid_named(self, type, name, where):
        known = self.candidates(type)
        if name not in known:
            better = did_you_mean(f"@{name}", [f"@{name}" for name in known])
            self.refuse(f"{where}: there is no {type} named {name}{better}")
        if len(known[name]) > 1:
            several = f"{counted(len(known[name]), 'object')} of type {type} have the name {name}"
            self.refuse(f"{where}: {several}; refer to one by its uuid")
        return next(iter(known[name]))

    def refuse_dangling(self):
        """Raise SettingsError if a reference leads nowhere, now that all objects are loaded."""
        for row, name, type, uuid, where in self.references:
            if self.cloud.exists(type, uuid):
                continue
            if name in REMEMBERED.get(row.stored, "").split() and re.fullmatch(UUID, uuid):
                why = "is not in the file; it counts as deleted"
                log.warning("%s: %s, %s, %s", self.path, where, uuid, why)
            else:
                self.refuse(f"{where} {self.why_dangling(type, uuid)}")

    def why_dangling(self, type, uuid):
        rows = self.catalogue.resources.values()
        others = [row.name for row in rows if self.cloud.exists(row.name, uuid)]
        if others:
            return f"is {a_noun(type)}, and {uuid} is of type {others[-1]}"
        known = self.candidates(type)
        words = {name: f"@{name}" for name in known}
        words |= {one: one for uuids in known.values() for one in uuids}
        better = "".join(f", did you mean {words[near]}?" for near in nearest(uuid, words))
        return f"leads nowhere: there is no {type} {uuid}{better}"


# ---- Kept cloud --------------------------------------------------------------------------------------------------

JSON_TYPES = {"str": str, "date": str, "int": int, "long": int, "double": (int, float), "bool": bool, "list": list, "maps": list, "map": dict}


ELEMENTS: dict[str, type] = {"list": str, "maps": dict}


def fits(value, kind):
    """Whether a field of that kind may have the value."""
    if value is None:
        return True
    right = isinstance(value, JSON_TYPES[kind]) and isinstance(value, bool) == (kind == "bool")
    return right and (kind not in ELEMENTS or all(isinstance(one, ELEMENTS[kind]) for one in value))


def from_file(cloud, path):
    """A cloud from a JSON file {"zones": [{...}], "Host": [...]}: objects by collection or type, as inventories show them."""
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"cannot read the cloud in {path}: {error}; --cloud is demo, empty, large:N or a JSON file") from None
    if not isinstance(told, dict):
        raise SettingsError(f"{path}: a cloud is a JSON object {{\"zones\": [...], ...}}")
    basics(cloud)
    collections, types = cloud.catalogue.collections, cloud.catalogue.resources
    rows = {kind: collections.get(kind.strip("/")) or types.get(kind) for kind in told}
    for kind, row in rows.items():
        if row and not isinstance(told[kind], list):
            raise SettingsError(f"{path}: {kind!r} is a list of objects, not {json.dumps(told[kind], ensure_ascii=False)[:80]}")
        if not row:
            kinds = (types, collections) if kind[:1].isupper() else (collections, types)
            better = next(filter(None, (did_you_mean(kind, known) for known in kinds)), "")
            shape = '{"zones": [...], ...}'
            raise SettingsError(f"{path}: {kind!r} is no collection{better}; a cloud is {shape}")
    try:
        json.dumps(told, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{path} holds half of a surrogate pair, which no text in UTF-8 has") from None
    file = CloudFile(cloud, path)
    told = file.read(rows, told)
    for kind, row in sorted(rows.items(), key=lambda pair: (bool(pair[1].inside), bool(cloud.catalogue.embedded_in(pair[1])))):  # what others show inside them comes first
        for item in told[kind]:
            loader_of(row)(cloud, path, row, item)
    spell_references(cloud, cloud.catalogue.resources)
    file.refuse_dangling()
    complete(cloud, path)


def loader_of(row):
    """Return the function that loads an object of a cloud file."""
    return load_configuration if row.name == "GlobalConfig" else load_reference if row.inside else load_item


def load_configuration(cloud, path, row, item):
    if not isinstance(item, dict) or any(not isinstance(item.get(key), str) for key in ("category", "name", "value")):
        raise SettingsError(f"{path}: a global configuration is {{\"category\": ..., \"name\": ..., \"value\": ...}}, all texts, not {json.dumps(item, ensure_ascii=False)[:80]}")
    try:
        configure(cloud, item["category"], item["name"], item["value"])
    except ApiError as error:
        raise SettingsError(f"{path}: {error.details}") from None


def load_item(cloud, path, row, item):
    if not isinstance(item, dict):
        raise SettingsError(f"{path}: {item!r} in {row.name} is no JSON object")
    told = cloud.catalogue.as_told(row, item)
    for name in item.keys() - row.all_fields.keys() - {"uuid", *told.embeds}:
        raise SettingsError(f"{path}: {row.name} has no field {name}{did_you_mean(name, row.all_fields)}")
    uuid = item.get("uuid") or named(f"{row.name}/{item.get('name')}")
    for name, kind in row.all_fields.items():
        value = item.get(name)
        if not fits(value, kind):
            raise SettingsError(f"{path}: {name} of {row.name} {item.get('name', uuid)} is {a_noun(kind)}, not {value!r}")
    if cloud.exists("Resource", uuid):
        raise SettingsError(f"{path}: the uuid {uuid} is there twice")
    kept = {name: value for name, value in without_nulls(item).items() if name in row.all_fields and name != "uuid"}
    dates = {name: value for name, value in kept.items() if row.all_fields[name] == "date"}
    kept = {"status": "Connected"} | kept if row.name == "Host" else kept  # a created one is, once it is there
    cloud.store.put(row.stored, cloud.add(row.stored, uuid=uuid, **kept) | dates)
    for name, inner in cloud.catalogue.embedded[told.name].items():
        for child in item.get(name) or ():
            if isinstance(child, dict) and not inner.inside and not cloud.store.peek(inner.stored, child.get("uuid")):
                load_item(cloud, path, inner, child | {told.relations[name].theirs: uuid})


def load_reference(cloud, path, row, item):
    """Put a reference, such as a network service of an L3 network, into the list of the object that it is kept in."""
    place = row.place
    if not isinstance(item, dict) or any(not isinstance(item.get(key), str) for key in (place.key, place.value)):
        raise SettingsError(f"{path}: {row.name} needs {place.key} and {place.value}, both texts, not {json.dumps(item, ensure_ascii=False)[:80]}")
    for name in item.keys() - row.all_fields.keys() - {"uuid"}:
        raise SettingsError(f"{path}: {row.name} has no field {name}{did_you_mean(name, row.all_fields)}")
    for name in (name for name, kind in row.all_fields.items() if not fits(item.get(name), kind)):
        raise SettingsError(f"{path}: {name} of {row.name} is {a_noun(row.all_fields[name])}, not {item[name]!r}")
    owner = cloud.store.peek(place.owner, item[place.key])
    if not owner:
        raise SettingsError(f"{path}: {row.name} has the {place.key} {item[place.key]}, and there is no such {place.owner}")
    said = {name: value for name, value in item.items() if name != "uuid" and row.all_fields[name] != "date"}
    if not any(said.items() <= reference.items() for reference in place.rows(owner)):  # the inventory of the owner may show it
        cloud.refer(row, row.new | said)


# What a created object has from the objects that it refers to, in the words of the section The words of rows.
FROM_OTHERS = {
    "Host": ("zoneUuid ?= clusterUuid.zoneUuid", "hypervisorType ?= clusterUuid.hypervisorType"),
    "L3Network": ("zoneUuid ?= l2NetworkUuid.zoneUuid",),
    "VmInstance": ("zoneUuid ?= hostUuid.zoneUuid", "clusterUuid ?= hostUuid.clusterUuid", "hypervisorType ?= hostUuid.hypervisorType",
                   "cpuNum ?= instanceOfferingUuid.cpuNum", "memorySize ?= instanceOfferingUuid.memorySize", "platform ?= imageUuid.platform"),
    "Volume": ("size ?= diskOfferingUuid.diskSize", "size ?= rootImageUuid.size"),
    "Eip": ("vipIp ?= vipUuid.ip",),
}  # fmt: skip
AS_CREATED: dict[str, Any] = {  # what a created object has besides, by type: a function of the object in the file
    "Account": lambda cloud, item: {"password": SHA512_OF_PASSWORD}, "User": lambda cloud, item: {"password": SHA512_OF_PASSWORD},
    "Host": lambda cloud, item: hardware(cloud, item.get("cpuNum", 16), item.get("totalMemoryCapacity", 64 * GIB)),
    "PrimaryStorage": lambda cloud, item: {"type": "NFS"} | dict.fromkeys(CAPACITIES, item.get("totalCapacity", 20 * TIB)),
    "BackupStorage": lambda cloud, item: {"type": "SftpBackupStorage"} | dict.fromkeys(CAPACITIES[:2], item.get("totalCapacity", 50 * TIB)),
}


def complete(cloud, path):
    """Give each object of a cloud file what a created one has; raise SettingsError where a reference is missing that is needed."""
    uncounted = [(type, item["uuid"]) for type, name in (("Host", "availableCpuCapacity"), ("PrimaryStorage", "availableCapacity"))
                 for item in cloud.store.rows(type) if item.get(name) is None]  # fmt: skip
    for type in [row.name for row in cloud.catalogue.resources.values() if row.needs]:  # what others refer to stands before them there
        for item in [*cloud.store.rows(type)]:
            complete_item(cloud, path, cloud.catalogue.resource(type), item)
    for type, uuid in uncounted:
        recount(cloud, uuid) if type == "Host" else recount_left(cloud, uuid)


def recount_left(cloud, uuid):
    """Count what is left of a primary storage: all of it, less what is on it."""
    ps = cloud.look("PrimaryStorage", uuid)
    cloud.change("PrimaryStorage", uuid, availableCapacity=ps["totalCapacity"] - held_on(cloud, uuid))
    recount_disks(cloud, cloud.look("PrimaryStorage", uuid))


def complete_item(cloud, path, row, item):
    """Give an object what it needs and the file does not say: from others, as a created one, or nothing of its type."""
    scope, needed = Scope(cloud, None, row.name, dict(item)), needed_of(row)
    created = AS_CREATED.get(row.name, lambda *_: {})(cloud, item)
    for name in [name for name in (*needed, *created) if item.get(name) is None]:
        scope.perform(*FROM_OTHERS.get(row.name, ()))
        if scope.item.get(name) is None:
            usual = created.get(name) or needed.get(name) or row.new.get(name)
            scope.set(**{name: the_only(cloud, path, row, item, name) if name in row.leads and not usual else usual or nothing(cloud, row.all_fields.get(name, "str"))})
    if scope.changes:
        cloud.store.update(row.name, item["uuid"], **scope.changes)


def the_only(cloud, path, row, item, name):
    """Return the uuid that a reference must have where it is left out: that of the only object there is; SettingsError if there is none, or a choice."""
    type = row.leads[name]
    if type == "Account":
        return ADMIN
    found = [*cloud.store.rows(cloud.catalogue.resources[type].stored)]
    if len(found) != 1:
        why = f"say which of {len(found)}" if found else f"there is no {type} in the file"
        raise SettingsError(f"{path}: {row.name} {item.get('name', item['uuid'])} needs {a_noun(name)}: {why}")
    return found[0]["uuid"]


def is_cloud_file(what):
    """Return True if --cloud names a file."""
    made = what in ("demo", "empty") or what.startswith("large:")
    return not made and (what.endswith(".json") or "/" in what or os.path.exists(what))


def fill(cloud, what):
    """Makes an empty cloud the one that --cloud names."""
    with cloud.store.all_or_nothing():
        if what in ("demo", "empty"):
            {"demo": demo, "empty": basics}[what](cloud)
        elif what.startswith("large:"):
            if not re.fullmatch(r"large:\d{1,7}", what):
                raise SettingsError(f"--cloud large:N needs a number, not {what!r}")
            large(cloud, int(what[6:]))
        elif is_cloud_file(what):
            from_file(cloud, what)
        else:
            raise SettingsError(f"--cloud is demo, empty, large:N or a JSON file, not {what!r}{did_you_mean(what, ('demo', 'empty', 'large:1000'))}")


BEHIND = {  # what objects have and no inventory shows
    "uuid", "type", "parameters", "cron", "password", "owner", "ipRangeUuid", "clusterUuid", "distance", "enabled", "hostUuid", "stateBefore", "cutOff",
    "createDate", "lastOpDate", *DISKS_OF_FIRST_START,
}  # fmt: skip
NOT_YET = {("Creating", "treeUuid")}  # by status: what is only there once it is made
JOB = {"api": str, "state": str, "hook": str, "schema": bool}
MOMENTS = ("created", "seen", "due")  # of an api-job
STAMP = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]) ([01]\d|2[0-3]):[0-5]\d:[0-5]\d")


def spell_references(cloud, types):
    """Spell the uuids inside objects as the objects that have them; files may write any case."""
    rows = [row for row in cloud.catalogue.resources.values() if not row.of]
    exact = {item["uuid"] for row in rows for item in cloud.store.rows(row.name)}

    def spell(uuid):
        return uuid if uuid in exact else cloud.spell_uuid(uuid)

    for row in (row for row in rows if row.name in types):
        for item in [*cloud.store.rows(row.name)]:
            spelled = {name: spell_in(name, value, spell) for name, value in item.items()}
            if row.name == "SystemTag" and isinstance(item.get("tag"), str):
                spelled["tag"] = spell_in_tag(item["tag"], spell)
            if spelled != item:
                cloud.store.change(row.name, item["uuid"], spelled)


def look_over(cloud, types):
    """Gives objects that somebody edited what they need, and answers lines about what is missing or unknown."""
    spell_references(cloud, types)
    told = []
    for row in cloud.catalogue.resources.values():
        if row.name in types:
            told += look_over_type(cloud, row)
    for item in cloud.store.rows("GlobalConfig") if "GlobalConfig" in types else ():
        row = cloud.catalogue.configurations.get(item["uuid"])
        if fault := row.fault(item.get("value")) if row else "is unknown":
            told.append(f"the global configuration {item['uuid']} {fault}; its default counts")
    for record in [*cloud.store.rows("Job")] if "Job" in types else ():
        wrong = [name for name, kind in JOB.items() if not isinstance(record.get(name), kind)]
        wrong += [name for name in (*MOMENTS, "finished") if not is_moment(record.get(name, 0 if name == "finished" else None))]
        if wrong or record["api"] not in cloud.catalogue.apis:
            told.append(f"Job {record['uuid']} is no api-job ({', '.join(wrong) or record['api']}); it is forgotten")
            cloud.store.remove("Job", record["uuid"])
    return told


def look_over_type(cloud, row):
    table, told, known = cloud.store.table(row.name), [], {}
    dates = [name for name, kind in row.all_fields.items() if kind == "date"]
    stamps = {item[name] for item in table.items.values() for name in dates if isinstance(item.get(name), str)}
    doubtful = {stamp for stamp in stamps if not STAMP.fullmatch(stamp)}
    values = {name: cloud.catalogue.values_of(row, name) for name in row.all_fields}
    values = {name: some for name, some in values.items() if some}
    for uuid, item in [*table.items.items()]:
        shape = (str(item.get("status")), *item, *map(type, item.values()))  # most have the same
        if shape not in known:
            known[shape] = oddities(cloud, row, item)
        wrong = [name for name in dates if isinstance(item.get(name), str) and item[name] in doubtful] if doubtful else ()
        odd = known[shape] | {name: (f"{name} is no date", cloud.clock.stamp()) for name in wrong}
        for name, some in values.items():
            value = item.get(name)
            if isinstance(value, str) and value not in some:
                odd[name] = f"{name} cannot be {value}{did_you_mean(value, some)}", value
        if odd:
            told.append(f"{row.name} {item['uuid']}: {'; '.join(what for what, _ in odd.values())}")
            cloud.store.change(row.name, uuid, without_nulls(item | {name: value for name, (_, value) in odd.items()}))
    return told


def needed_of(row):
    """Return the fields that the mock counts on in objects of a type, each with its default: a text, or "" for nothing of its kind."""
    return dict(word.partition("=")[::2] for word in row.needs)


def oddities(cloud, row, item):
    """What is odd about an object, by field: a phrase, and the value that the mock goes on with."""
    needed = needed_of(row)
    fields, new = row.all_fields, row.new | dict.fromkeys(needed, "")
    odd = {}
    for name in (fields.keys() & {"createDate", "lastOpDate"}) | new.keys():
        if item.get(name) is None and (str(item.get("status")), name) not in NOT_YET:
            odd[name] = f"{name} is missing", row.new.get(name) or needed.get(name) or nothing(cloud, fields.get(name, "str"))
    for name, value in item.items():
        kind = fields.get(name, "str")
        if name not in fields and name not in BEHIND:
            odd[name] = f"{name} is unknown{did_you_mean(name, fields)}", value
        elif name in fields and not fits(value, kind):
            odd[name] = f"{name} is {a_noun(kind)}, not {json.dumps(value, ensure_ascii=False)[:80]}", row.new.get(name) or (nothing(cloud, kind) if name in new else None)
    return odd


def nothing(cloud, kind):
    return {"str": "", "date": cloud.clock.stamp(), "bool": False, "list": [], "maps": [], "map": {}}.get(kind, 0)


def recover(cloud):
    """After a start on a kept cloud: what was under way is not any more, what waits to be expunged waits on."""
    interrupted(cloud)
    for type in ("Host", "PrimaryStorage", "BackupStorage"):  # incidents end with the process
        for item in [item for item in cloud.store.rows(type) if item.get("cutOff")]:
            cloud.change(type, item["uuid"], status="Connected", cutOff=None)
            connected(cloud, item["uuid"]) if type == "Host" else None
    add_console_agent(cloud)
    expunge_all_later(cloud)
    plan_all(cloud)


INTERRUPTED = (  # by type and state or status: what things become that were under way; nothing, where there is nothing of them yet
    ("Host", {"PreMaintenance"}, {"state": "Enabled"}),
    *((type, {"Creating"}, {}) for type in ("Volume", "VolumeSnapshot")),
    *((type, {"Migrating", "Deleting"}, {"status": "Ready"}) for type in ("Image", "Volume", "VolumeSnapshot")),
    *((type, {"Connecting"}, {"status": "Connected"}) for type in ("PrimaryStorage", "BackupStorage", "VmInstance", "ConsoleProxyAgent")),
    ("LongJob", {"Running", "Waiting", "Canceling"}, {"state": "Failed", "jobResult": "Failed because management node restarted."}),
)


UNSETTLED = {"Starting", "Stopping", "Rebooting", "Destroying", "Migrating", "Expunging", "Pausing", "Resuming", "VolumeMigrating"}


def interrupted(cloud):
    """What becomes of things under way when a management node restarts."""
    for vm in [vm for vm in cloud.store.rows("VmInstance") if UNSETTLED & {vm["state"], vm.get("stateBefore")}]:
        leave_host(cloud, vm, "Stopped" if vm.get("rootVolumeUuid") else "Created")
    for host in [host for host in cloud.store.rows("Host") if host["status"] == "Connecting"]:
        connected(cloud, host["uuid"])
    for image in [image for image in cloud.store.rows("Image") if image["status"] in ("Downloading", "Creating")]:
        cloud.change("Image", image["uuid"], status="Error", backupStorageRefs=[ref | {"status": "Error"} for ref in image["backupStorageRefs"]])
    for volume in [volume for volume in cloud.store.rows("Volume") if volume["status"] == "Migrating" and "installPath" not in volume]:
        cloud.change("Volume", volume["uuid"], status="NotInstantiated")
    for type, states, changes in INTERRUPTED:
        for item in [item for item in cloud.store.rows(type) if {item.get("state"), item.get("status")} & states]:
            cloud.change(type, item["uuid"], **changes) if changes else cloud.remove(type, item["uuid"])


# ---- Incidents ---------------------------------------------------------------------------------------------------

INCIDENTS: dict[str, Any] = {}  # by name: a generator that begins one, yields what to show of it, and ends it


class Unknown(ValueError):
    """An incident about something that is not there."""


@dataclass
class Incident:
    """Something that has gone wrong, and how it goes on."""

    id: str
    kind: str
    about: object
    more: dict
    course: GeneratorType
    timer: Timer | None = None  # of its end, where it ends by itself

    def shown(self, clock):
        ends = {"ends": iso(clock.due_date(self.timer))} if self.timer else {}
        return {"id": self.id, self.kind: self.about, **self.more, **ends}


def incident(kind):
    """Registers an incident; one that does not yield is over at once."""

    def register(course):
        INCIDENTS[kind] = course
        return course

    return register


def strike(cloud, told):
    """Begins an incident {kind: what it is about}; raises ValueError for one that cannot be."""
    kind = next(iter(told), None) if isinstance(told, dict) else told
    if not isinstance(told, dict) or len(told) != 1 or kind not in INCIDENTS:
        raise ValueError(f"an incident is {{NAME: ...}}, with one of {', '.join(INCIDENTS)}{did_you_mean(kind, INCIDENTS)}")
    course = INCIDENTS[kind](cloud, told[kind])
    with cloud.store.all_or_nothing():
        more = next(course, None)
    struck = Incident(f"incident-{next(cloud.numbers)}", kind, told[kind], more or {}, course)
    if more is not None:
        cloud.incidents[struck.id] = struck
    if more and "seconds" in more:
        end = functools.partial(end_incident, cloud, struck.id)
        struck.timer = cloud.clock.after(more.pop("seconds"), end, f"{struck.id} ends", awaited=True)
    return struck


def end_incident(cloud, id):
    """Ends an incident that lasts, unless it has ended."""
    if id in cloud.incidents:
        next(cloud.incidents.pop(id).course, None)
        cloud.clock.spawn(cloud.store.try_commit())


def item_named(cloud, told, *types):
    """The type and the item that a name or uuid means; raises Unknown, with the nearest name."""
    for type in types:
        named = (item for item in cloud.store.rows(type) if item.get("name") == told)
        if item := cloud.store.peek(type, told) or next(named, None):
            return type, item
    names = [item["name"] for type in types for item in cloud.store.rows(type)]
    raise Unknown(f"no {' or '.join(types)} {told!r}{did_you_mean(told, names)}")


@incident("host-down")
def host_down(cloud, told):
    _, host = item_named(cloud, told, "Host")
    cut_off(cloud, [host["uuid"]])
    yield {"uuid": host["uuid"]}
    reach_again(cloud, [host["uuid"]])


@incident("network-partition")
def network_partition(cloud, told):
    """The management node reaches none of the hosts of a zone, a cluster, or some of several, nor backup storage that only such a zone has."""
    parts = [item_named(cloud, name, "Zone", "Cluster", "Host") for name in (told if isinstance(told, list) and told else [told])]
    keys = {"Zone": "zoneUuid", "Cluster": "clusterUuid", "Host": "uuid"}
    hosts = [host["uuid"] for host in cloud.store.rows("Host") if any(host[keys[type]] == item["uuid"] for type, item in parts)]
    zones = {item["uuid"] for type, item in parts if type == "Zone"}
    stores = [bs["uuid"] for bs in cloud.store.rows("BackupStorage") if bs["attachedZoneUuids"] and zones.issuperset(bs["attachedZoneUuids"])]
    cut_off(cloud, hosts)
    stores = [uuid for uuid in stores if switch_storage(cloud, "BackupStorage", uuid, "Disconnected")]
    yield {"hosts": hosts}
    for uuid in stores:
        switch_storage(cloud, "BackupStorage", uuid, "Connected")
    reach_again(cloud, hosts)


def cut_off(cloud, hosts):
    """Hosts that cannot be reached any more: what is under way on them fails, then they are gone, and storage that nobody else reaches."""
    for run in [*cloud.jobs.runs]:
        lost = on_hosts(cloud, run, hosts)
        if lost:
            run.fail(wrapped(ApiError("HOST.1010", f"host[uuid:{lost}] is disconnected"), run.call.api))
    for uuid in filter(functools.partial(cloud.store.peek, "Host"), hosts):
        cloud.down[uuid] += 1
        if cloud.look("Host", uuid)["status"] != "Disconnected":
            host_gone(cloud, uuid)
            cloud.change("Host", uuid, cutOff=True)
    check_storage(cloud)


def on_hosts(cloud, run, hosts):
    """The one of the hosts that an operation needs: the host that it is about, or that of a virtual machine that it touches."""
    touched = {change[1] for change in run.log} | {uuid for uuid in run.call.params.values() if isinstance(uuid, str)}
    used = touched | {cloud.look("VmInstance", uuid).get("hostUuid") for uuid in touched}
    return next((host for host in hosts if host in used), None)


def reach_again(cloud, hosts):
    """Hosts come back, save those that another incident keeps away, or that were not there before."""
    cloud.down -= Counter(hosts)
    for uuid in [uuid for uuid in hosts if cloud.look("Host", uuid).get("cutOff") and uuid not in cloud.down]:
        cloud.change("Host", uuid, cutOff=None)
        connected(cloud, uuid)
    check_storage(cloud)


def check_storage(cloud):
    """Primary storage is connected as long as one host of its clusters is."""
    for ps in list(cloud.store.rows("PrimaryStorage")):
        hosts = [host["status"] for cluster in ps["attachedClusterUuids"] for host in cloud.find("Host", "clusterUuid", cluster)]
        if hosts and "Connected" not in hosts and cloud.down:
            switch_storage(cloud, "PrimaryStorage", ps["uuid"], "Disconnected")
        elif ps.get("cutOff"):
            switch_storage(cloud, "PrimaryStorage", ps["uuid"], "Connected")


def switch_storage(cloud, type, uuid, status):
    """Changes the status of a storage, and says so; answers whether it was another one."""
    if cloud.look(type, uuid).get("status") in (None, status):
        return False
    cloud.change(type, uuid, status=status, cutOff=True if status == "Disconnected" else None)
    words = "primary storage" if type == "PrimaryStorage" else "backup storage"
    cloud.notify(f"the {words}[uuid:%s] becomes {status}", [uuid], type + "VO", uuid, "Warning" if status == "Disconnected" else "Info")
    return True


@incident("primary-storage-full")
def primary_storage_full(cloud, told):
    """Nothing more fits on it, whatever is taken away, until the incident ends."""
    _, ps = item_named(cloud, told, "PrimaryStorage")
    cloud.full[ps["uuid"]] += 1
    cloud.notify("the primary storage[uuid:%s] has no space left", [ps["uuid"]], "PrimaryStorageVO", ps["uuid"], "Warning")
    yield {"uuid": ps["uuid"]}
    cloud.full = +(cloud.full - Counter([ps["uuid"]]))


@incident("management-node-restart")
def management_node_restart(cloud, told):
    """Over in a moment: what was under way stops where it is, and its jobs are polled for ever (facts of a restart)."""
    no_more(told, "management-node-restart")
    node_dies(cloud)
    node_starts(cloud)
    yield from ()


@incident("management-node-down")
def management_node_down(cloud, told):
    """No call is answered, connections are reset; for so many seconds, or until the incident is ended. Then it is as after a restart."""
    if told not in ({}, None):
        a_number(0)("management-node-down", told)
    cloud.unreachable += 1
    node_dies(cloud)
    yield {} if told in ({}, None) else {"seconds": told}
    cloud.unreachable -= 1
    if not cloud.unreachable:
        node_starts(cloud)


def no_more(told, kind):
    if told not in ({}, None):
        raise ValueError(f"{kind} is about nothing: write {{{json.dumps(kind)}: {{}}}}")


def node_dies(cloud):
    cloud.jobs.lose()
    cloud.long_runs.clear()
    cloud.deaths += 1


def node_starts(cloud):
    cloud.store.update("ManagementNode", node(cloud)["uuid"], joinDate=cloud.clock.stamp())
    interrupted(cloud)
    cloud.notify("the management node[uuid:%s] has been started", [node(cloud)["uuid"]], "ManagementNodeVO", node(cloud)["uuid"])


@incident("license-expired")
def license_expired(cloud, told):
    """Licences ended just now. Until there is another one, nothing is changed any more, save licences."""
    no_more(told, "license-expired")
    ended = cloud.clock.stamp(cloud.clock.now() - 1)
    lapsed = {row["uuid"]: (row.get("expiredDate"), ended) for type in ("License", "LicenseAddOn") for row in cloud.store.rows(type)}
    cloud.lapsed |= lapsed
    cloud.refusals["license-expired"] = functools.partial(refuse_without_license, cloud)
    cloud.notify("the license has expired", [], "LicenseVO", the_license(cloud)["uuid"], "Warning")
    yield {}
    if all(other.kind != "license-expired" for other in cloud.incidents.values()):
        cloud.lapsed.clear(), cloud.refusals.pop("license-expired")


def refuse_without_license(cloud, call):
    if not cloud.at_once(call.api) and "License" not in call.api.name and cloud.license_is_over(the_license(cloud)):
        return ApiError("LICENSE.1000", "the license has expired")
    return None


# ---- API ---------------------------------------------------------------------------------------------------------

# requests


def malformed(dialect: Dialect, details: str, hint: str = "") -> FrontError:
    """Return the error of a request that cannot be read (dialect row malformed-body)."""
    return FrontError(dialect["malformed-body"], details, hint)


STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def path_below(path: str, dialect: Dialect) -> str:
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
    below = f"the APIs are below {first}, the controls below /zmock"
    raise FrontError(404, f"no api mapping to {text}", f"{below}; GET /zmock/apis lists the APIs")


def acting(method: str) -> str:
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
    octets = await request.read() if request.can_read_body else b""
    encoding = header_of(request, "Content-Encoding") or ""
    return decode(unpack(octets, encoding.strip().lower(), limit), request.charset)


async def read_body(request: web.Request, limit: int, dialect: Dialect) -> str:
    """Return the body as text. Raise FrontError if it is too large or cannot be read."""
    try:
        return await body_text(request, limit)
    except web.HTTPRequestEntityTooLarge:
        details = f"the body has more than {counted(limit, 'byte')}"
        raise FrontError(400, details, "--body-limit sets how many are allowed") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise FrontError(400, f"the body cannot be read: {error}") from None
    except ValueError as error:
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
        body = json.loads(text, parse_constant=refuse_number, parse_float=finite_number)
        json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate cannot be kept
    except (ValueError, RecursionError) as error:
        details = f"com.google.gson.stream.MalformedJsonException: {error}"
        raise malformed(dialect, details, "the body is a JSON object") from None
    if body is None or (alone and body == []):
        return {}
    if not isinstance(body, dict):
        expected = f"Expected BEGIN_OBJECT but was {gson_word(body)} at line 1 column 2"
        details = f"java.lang.IllegalStateException: {expected}"
        raise malformed(dialect, details, "the body is a JSON object")
    return body


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
            if tail in inner:
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


def header_safe(text: str) -> str:
    """Return text as a header carries it: one line, not too long, as UTF-8 (RFC 9110, 5.5)."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return line.encode(errors="replace").decode()[:2000]


# hints


def nearest_path(apis: Iterable[Api], path: str) -> tuple[str, list[Api]] | None:
    """Return the path of APIs that is most like a wrong path, and the APIs on it, if any is.

    "/zone/d825b1a26f4e474b8c59306081920ff2" -> ("/zones/{uuid}", [<QueryZone>, <DeleteZone>])
    """
    paths = {}
    owners = defaultdict(list)
    for api in apis:
        for pattern in api.paths:
            paths[re.sub(r"\{\w+\}", "{}", pattern)] = pattern
            owners[pattern].append(api)
    shape = re.sub(r"/[0-9A-Fa-f-]{32,36}(?=/|$)", "/{}", path[:1000])
    for near in difflib.get_close_matches(shape, paths, 1):
        return paths[near], owners[paths[near]]
    return None


def path_hint(catalogue: Catalogue, method: str, path: str) -> str:
    """Return a hint on a path that no API has: the nearest one, with its method and APIs."""
    if path.endswith("/") and catalogue.route(path.rstrip("/")):
        return f"without the slash at the end: {path.rstrip('/')}"
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
        hints.append(f"no collection {collection}{did_you_mean(collection, collections)}")
    same_method = [api for api in apis if api.method == method]
    if near := nearest_path(same_method, path) or nearest_path(apis, path):
        pattern, owners = near
        hints.append(f"nearest: {pattern} by {owners[0].method} ({names_of(owners)})")
    return "; ".join(hints)


def paths_of_inner(name: str, paths: Iterable[str]) -> list[str]:
    """Return the paths of a collection inside another: "users" -> ["/accounts/users"]."""
    return sorted(path for path in paths if re.fullmatch(f"/[^/]+/{re.escape(name)}", path))


def names_of(apis: list[Api]) -> str:
    """Return the names of the first four APIs, "UpdateVmInstance, StartVmInstance, …"."""
    names = [api.name for api in apis[:4]]
    if len(apis) > 4:
        names.append("…")
    return ", ".join(names)


def other_path(catalogue: Catalogue, method: str, path: str) -> str:
    """Return a hint on a method that a path does not take: the nearest path that takes it."""
    for _, variables in catalogue.route(path):
        for value in variables.values():
            path = path.replace(f"/{value}", "/{}")
    apis = [api for api in catalogue.apis.values() if api.method == method]
    if near := nearest_path(apis, path):
        pattern, owners = near
        return f"; {method} is for {pattern} ({names_of(owners)})"
    return ""


def elsewhere(catalogue: Catalogue, key: str, keys: Iterable[str]) -> str:
    """Return a hint on an action that is none of the `keys` of a path: the path that has it."""
    for api in catalogue.apis.values():
        if api.key == key and api.method == "PUT" and key not in keys:
            return f"; {key} is for {api.method} {api.path} ({api.name})"
    return ""


def unread(
    api: Api, params: Item, body: Item, arguments: Arguments, key: str | None, dialect: Dialect
) -> list[str]:
    """Return hints on the parts of a call that nothing reads. `key` is the body's, if any."""
    legal = api.params.keys() | OPEN_TO_ALL
    hints = []
    for name in params:
        if name not in legal and name not in ("id", "timeout", "session"):
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


HEADERS_READ = ("X-Job-UUID", "X-Web-Hook", "X-JSON-Schema")


def unread_headers(headers: Iterable[str]) -> list[str]:
    """Return hints on headers that look like one that is read."""
    read = {name.lower() for name in HEADERS_READ}
    hints = []
    for name in headers:
        if name.lower() not in read and re.match("x-.*(job|hook|schema)", name, re.I):
            better = did_you_mean(name, HEADERS_READ)
            hints.append(f"no api reads the header {header_safe(name)}{better}")
    return hints


# the journal and answers

MOST_KEPT = 2000  # characters of a value in the journal
MOST_HINTS = 20  # of a call
MOST_SAID = 1000  # hints whose repetition is no warning in the log


def bounded(value: Any) -> Any:
    """Return a value as the journal keeps it: a long one is cut."""
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MOST_KEPT else f"{text[:MOST_KEPT]}…"


@dataclass
class Entry:
    """An entry of the journal: one request with its answer.

    code      of the error in the answer; of a 202, of the error that its job ended with
    outcome   ok, error, how the answer broke; of a 202 running, then succeeded or failed
    hints     sent in X-ZMock-Hint
    drop      how the answer breaks, a key of BREAKS
    end       the outcome and the code of its job, once that has ended
    """

    seq: int
    moment: Seconds
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
    hints: list[str] = field(default_factory=list)
    drop: str = ""
    end: tuple = ()

    @property
    def time(self) -> str:
        return iso(self.moment)

    def shown(self) -> Item:
        """Return the entry as /zmock/calls shows it."""
        row = {"seq": self.seq, "time": self.time} | vars(self) | {"hint": "; ".join(self.hints)}
        for name in ("moment", "hints", "drop", "end"):
            del row[name]
        return row


@dataclass
class Answer:
    """An answer to send. A body of None is the empty result.

    job     the job to start once this 202 has left
    drop    how the answer breaks, a key of BREAKS
    ready   the head as bytes without the date, if it is made already
    """

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    job: str = ""
    drop: str = ""
    ready: bytes = b""


def raw_answer(status: int, body: Any) -> Answer:
    """Return an answer that is not ZStack's but of a proxy in between."""
    if not isinstance(body, str):
        octets = b"" if body is None else to_json(body)
        return Answer(status, octets, {"Content-Type": "application/json"})
    kind = "html" if body.lstrip().startswith("<") else "plain"
    return Answer(status, body.encode(), {"Content-Type": f"text/{kind}; charset=utf-8"})


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


def with_one(text: bytes) -> bytes:
    """Return the text of an answer with its only inventory as `inventory` too.

    {"inventories":[X]} -> {"inventory":X,"inventories":[X]}
    """
    inventory = text.removeprefix(b'{"inventories":[').removesuffix(b"]}")
    return b'{"inventory":%b,%b' % (inventory, text[1:])


# answers that are ready, for GETs are repeated again and again

LONGEST_STANDING = 1 << 16  # bytes of one answer
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


class Ready(Unanswered):
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
class Standing:
    """An answer to a query that stands until an item of a type that it was read from changes.

    head       without the date
    versions   of the tables of these types: [("Zone", version)]
    """

    api: Api
    params: Item
    body: bytes
    head: bytes
    versions: list[tuple[str, object]]

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return 2000 + len(self.body) + sum(len(str(value)) for value in self.params.values())


class Standings:
    """The answers that stand, by path with query, up to STANDING_ROOM bytes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clear()

    def clear(self) -> None:
        self.answers: dict[str, Standing] = {}
        self.weight = 0

    def find(self, path: str) -> Standing | None:
        """Return the answer to a path if it still stands."""
        answer = self.answers.get(path)
        if answer and all(self.is_current(*pair) for pair in answer.versions):
            return answer
        self.drop(path)
        return None

    def is_current(self, type: str, version: object) -> bool:
        tables = self.store.tables
        return type in tables and tables[type].version is version

    def keep(self, path: str, answer: Standing) -> None:
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

UNSAID = {"reset", "empty", "hang"}  # nothing at all is sent
DRIBBLE = 0.1  # seconds between two bytes


async def break_reset(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send a RST: the client sees "connection reset by peer"."""
    if request.transport:
        at_once = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        request.transport.abort()
    return Unanswered()


async def break_empty(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send a FIN, and not one byte."""
    return Unanswered()


async def break_hang(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send nothing for as long as the client waits. That holds the connection, but no task."""
    return Unanswered(keep_alive=True)


async def begin(
    request: web.Request, response: web.Response, size: int | None = None
) -> web.StreamResponse:
    """Send the head of an answer: chunked, or with the Content-Length `size`."""
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    if size is not None:
        stream.content_length = size
    elif request.version >= aiohttp.HttpVersion11:
        stream.enable_chunked_encoding()
    await stream.prepare(request)
    return stream


async def break_truncate(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send a head that promises the whole body, half of it, and a FIN."""
    body: Any = response.body
    stream = await begin(request, response, max(1, len(body)))
    await stream.write(body[: len(body) // 2])
    return Unanswered()


async def break_garbage(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send a chunked answer whose second chunk is none, and a FIN."""
    body: Any = response.body
    stream = await begin(request, response)
    await stream.write(body[: len(body) // 2] or b" ")
    if request.transport:
        request.transport.write(b"\x00\xff\xfe no chunk begins like this\r\n")
    return Unanswered()


async def break_dribble(
    request: web.Request, response: web.Response, clock: Clock
) -> web.StreamResponse:
    """Send the whole answer byte by byte."""
    body: Any = response.body
    stream = await begin(request, response, len(body))
    for place, byte in enumerate(body):
        await clock.sleep(DRIBBLE if place else 0)
        await stream.write(bytes([byte]))
    await stream.write_eof()
    return stream


BREAKS = {
    "reset": break_reset,
    "empty": break_empty,
    "truncate": break_truncate,
    "garbage": break_garbage,
    "hang": break_hang,
    "dribble": break_dribble,
}


# ---- API ---------------------------------------------------------------------------------------------------------

class Unreachable(Exception):
    """Nobody is there who could answer: the connection is reset."""


CLOUD = web.AppKey("cloud", Cloud)
HEADERS_FOR_BROWSERS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "X-ZMock-Hint, X-ZMock-Rule, Allow"}
VERBS_OF_HTTP = "GET, POST, PUT, DELETE"


class Rest:
    """/zstack/v1: reads a request, has the cloud do it now or as a job, and answers once, at one place."""

    def __init__(self, settings, cloud, jobs, faults, journal):
        self.settings, self.cloud, self.jobs, self.faults, self.journal = settings, cloud, jobs, faults, journal
        self.dialect, self.clock, self.catalogue = cloud.dialect, cloud.clock, cloud.catalogue
        self.seq, self.dropped, self.watch = itertools.count(1), 0, None
        self.said = {}  # hints that are in the log already
        self.standing = Standings(cloud.store)
        self.headers = HEADERS_FOR_BROWSERS | ({"Content-Type": "application/json"} if self.dialect["response-headers"] else {})
        self.start = None  # the cloud as it was made, for a reset
        self.made = {}  # the settings that the kept folder was made with, {"cloud": "demo", "seed": 1}
        self.base = ""  # where zmock listens, once it does

    async def answer(self, request):
        """The one way out of every API call."""
        path, _, query = request.raw_path.partition("?")
        entry = Entry(next(self.seq), self.clock.now(), request.method, re.sub("^https?://[^/]*", "", path), query[:MOST_KEPT])
        try:
            answer = self.again(request, entry) or await self.meet(request, entry)
        except Unreachable:
            answer = Answer(503, drop="reset")
        except ApiError as error:
            answer = self.failed(error, entry)
        except Exception as error:  # MessageSafeAspect.aj: whatever a service throws becomes SYS.1000
            log.exception("%s %s failed", entry.method, entry.path)
            answer = self.failed(ApiError("SYS.1000", str(error)), entry)
        answer.drop = answer.drop or entry.drop
        entry.status = 0 if answer.drop in UNSAID else answer.status
        entry.outcome = answer.drop or ("error" if answer.status >= 400 else "running" if answer.status == 202 else "ok")
        entry.code = entry.code if entry.status >= 400 else ""
        if entry.outcome == "running" and entry.end:  # its job was quicker
            entry.outcome, entry.code = entry.end
        entry.path, entry.params = entry.path[:MOST_KEPT], frozen(entry.params)
        self.dropped += len(self.journal) == self.journal.maxlen
        self.journal.append(entry)
        if self.watch:
            self.watch("call", entry)
        if entry.hints:
            entry.hints = [hint[:MOST_KEPT] for hint in entry.hints[:MOST_HINTS]]
            self.say(entry)
        return await self.send(request, answer, entry)

    def again(self, request, entry):
        """The answer that was given before to the same query, if it still stands."""
        if request.method != "GET" or request.body_exists or self.faults.armed or self.cloud.unreachable or "X-JSON-Schema" in request.headers:
            return None
        kept = self.standing.find(request.raw_path)
        if kept is None:
            return None
        entry.api, entry.params = kept.api.name, kept.params
        session = self.cloud.accounts.session(self.authorize(request, kept.api))
        if session["userUuid"] != ADMIN:
            return None  # it was admin's, who sees more
        self.cloud.used[kept.api.name] += 1
        return Answer(200, kept.body, ready=kept.head)

    def keep(self, request, call, entry, text):
        """Keeps the text that answers a query for the next time; answers it."""
        row = self.catalogue.resource(call.api.type)
        passing = entry.hints or len(text) > LONGEST_STANDING or call.user != ADMIN or call.api.name in BEHAVIOURS
        read = None if passing else self.cloud.queries.reads(call["query"], row)
        if read:
            lines = {**self.headers, "Content-Length": len(text), "Server": SERVER_SOFTWARE}
            head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "Date: "
            versions = [(type, self.cloud.store.table(type).version) for type in read]
            self.standing.keep(request.raw_path, Standing(call.api, entry.params, text, head.encode(), versions))
        return text

    def job_ended(self, entry, outcome, code):
        """Give the entry of a 202 the outcome of its job, and tell watchers of the call again."""
        entry.end = outcome, code
        if entry.outcome == "running":
            entry.outcome, entry.code = entry.end
            if self.watch:
                self.watch("call", entry)

    def forget_calls(self):
        self.journal.clear()
        self.dropped = 0

    def say(self, entry):
        """Puts the hints of a call into the log: as a warning when they are new, for a client repeats its mistakes."""
        for hint in entry.hints:
            log.log(logging.INFO if hint in self.said else logging.WARNING, "%s %s: %s", entry.method, entry.path, hint)
            self.said[hint] = None
        for old in [*self.said][:-MOST_SAID]:
            del self.said[old]

    async def meet(self, request, entry):
        """From a request to an answer: path, body, which api, who, what; then now or as a job."""
        if self.cloud.unreachable:
            raise Unreachable
        if request.method == "OPTIONS":
            return self.preflight(request, path_below(entry.path, self.dialect))
        path = path_below(entry.path, self.dialect)
        if path.startswith("/api-jobs/"):
            asked = {"uuid": path.removeprefix("/api-jobs/")}
            entry.api, entry.job = "PollJob", asked["uuid"][:MOST_KEPT]
            return await self.act(request, Call(POLL_JOB, asked, given=asked), entry)
        apis = self.catalogue.route(path)
        if not apis:
            raise FrontError(404, f"no api mapping to /v1{path}", path_hint(self.catalogue, acting(request.method), path))
        text = await read_body(request, self.settings.body_limit, self.dialect)
        arguments = read_arguments(request.raw_path.partition("?")[2], self.dialect)
        body = parse_body(text, self.dialect, len(apis) == 1)
        api, variables = self.choose(request, apis, path, body, text)
        entry.api = api.name
        if api.method != "GET":
            entry.hints += unread_headers(request.headers)
        if not self.cloud.simulated(api):
            raise FrontError(501, f"{api.name} is not simulated", "GET /zmock/apis lists what is")
        session = self.authorize(request, api)
        if api.kind == "Query":
            call = Call(api, self.query(api, variables, arguments, entry), session, given=dict([*arguments, *variables.items()]))
        else:
            call = self.call(api, variables, arguments, body, session, self.job_uuid(request, api), entry)
        return await self.act(request, call, entry)

    # reading

    def choose(self, request, apis, path, body, text):
        """The api that a request means, among those that share its path (RestServer.java handleNonUniqueApi)."""
        if not self.dialect["wrong-method"] and len(apis) == 1:
            return apis[0]
        fitting = [(api, values) for api, values in apis if api.method == acting(request.method)]
        if not fitting:
            raise self.wrong_method(request, apis, path)
        if request.method != "PUT" or (len(apis) == 1 and not body.keys() - OPEN_TO_ALL):
            return fitting[0]
        for api, values in fitting:
            if self.key_of(api, body) is not None:
                return api, values
        if not self.dialect["wrong-method"] and text.strip() in ("", "null"):
            raise FrontError(500, "")
        keys = [api.key for api, _ in fitting]
        wrong = next((key for key in body if key not in OPEN_TO_ALL), "")
        raise FrontError(400, f"the body doesn't contain action mapping to the URL[/v1{path}]",
                         f"{wrong or 'an empty body'} is no action here{did_you_mean(wrong, keys)}; there are {', '.join(keys)}"
                         + elsewhere(self.catalogue, wrong, keys))  # fmt: skip

    def wrong_method(self, request, apis, path):
        allowed = sorted({api.method for api, _ in apis})
        hint = f"{path} takes {', '.join(allowed)}: {', '.join(api.name for api, _ in apis)}" + other_path(self.catalogue, request.method, path)
        words, method = {"POST": "creational", "GET": "query", "DELETE": "delete"}, acting(request.method)
        if len(apis) == 1:
            hint += "; zmock --dialect server runs it for any verb, as the server does"
        if self.dialect["wrong-method"] or method not in (*words, "PUT"):
            return FrontError(405, f"The method[{request.method}] is not allowed for the path[{request.raw_path.partition('?')[0]}]", hint, allowed)
        if method == "PUT":
            return FrontError(400, f"the body doesn't contain action mapping to the URL[/v1{path}]", hint)
        return FrontError(500, f"No {words[method]} API found for the path[/zstack/v1{path}]", hint)

    def key_of(self, api, body):
        """The member of the body that holds the parameters of an api, if it is there."""
        keys = (api.key, "loginByAccount") if api.name == "LogInByAccount" and self.dialect["login-key"] else api.keys
        return next((key for key in keys if key in body), None)

    def authorize(self, request, api):
        """The session uuid that a request carries."""
        if not self.cloud.needs_session(api):
            return ""
        header = header_of(request, "Authorization")
        if header is None:
            raise FrontError(400, "missing header 'Authorization'", "send Authorization: OAuth SESSION; a login gives the session's uuid")
        if not header.strip().startswith("OAuth"):
            raise FrontError(400, "Authorization type must be 'OAuth'", "send Authorization: OAuth SESSION")
        return header.strip().removeprefix("OAuth").strip()

    def job_uuid(self, request, api):
        """X-Job-UUID, or a new one where there will be a job."""
        given = header_of(request, "X-Job-UUID")
        if given is None:
            return "" if self.cloud.at_once(api) else self.cloud.uuid()
        legal = re.fullmatch(UUID.replace("[1-5]", "4"), given) if self.dialect["job-uuid"] else len(given) == 32
        if not legal:
            hint = "it must be a v4 UUID, lower case, without dashes" if self.dialect["job-uuid"] else ""
            raise FrontError(400, "Invalid header[X-Job-UUID], it must be a UUID with '-' stripped", hint)
        return given

    def call(self, api, variables, arguments, body, session, job, entry):
        """The call that a request makes: its parameters from path, query string and body, found legal."""
        if acting(entry.method) in ("GET", "DELETE"):
            given = from_query(api, arguments, self.dialect) | (self.from_delete_body(body) if entry.method == "DELETE" else {})
        else:
            given = member_of(body, self.key_of(api, body), self.dialect)
        given = {name: value for name, value in given.items() if value is not None} | variables
        around = body if entry.method in ("POST", "PUT") or self.dialect["delete-parameters"] else {}
        inner = {name: given.pop(name, None) for name in ("systemTags", "userTags")}
        tags = {name: tag_list(around.get(name) or inner[name] or [], name, self.dialect) for name in inner}
        asked = self.cloud.spelled(api, given) | {name: told for name, told in tags.items() if told}
        entry.params = {name[:200]: "***" if name == "password" else bounded(value) for name, value in [*given.items()][:100]}
        entry.hints += unread(api, given, body, arguments, self.key_of(api, body), self.dialect)
        if api.name == "SubmitLongJob" and self.dialect["job-data-object"] and isinstance(given.get("jobData"), dict):
            given["jobData"] = json.dumps(given["jobData"])
        try:
            params = self.cloud.check(api, given)
        except BadParameter as error:
            if self.dialect["bad-parameter"]:
                error.status = 400
                raise
            params = error  # the server finds out later: 503 for what it answers at once, through the job for what it does not
        return Call(api, params, session, job, tags["systemTags"], tags["userTags"], given=asked)

    def from_delete_body(self, body):
        """Parameters in the body of a DELETE, at top level or inside params (manual 4.4.1)."""
        if not self.dialect["delete-parameters"]:
            return {}
        return {name: value for name, value in body.items() if name != "params"} | member_of(body, "params", self.dialect)

    # queries

    def query(self, api, variables, arguments, entry):
        """What a Query api is asked, as the parameters of its call."""
        entry.params = {name[:200]: bounded(value) for name, value in [*arguments[:100], *variables.items()]}
        if "uuid" in variables:
            entry.hints += [f"with a uuid in the path nothing reads {', '.join(sorted({name for name, _ in arguments}))}"] if arguments else []
            return {"query": Query(uuid=variables["uuid"])}
        query, unread = read_query(arguments, self.dialect)
        fields = self.catalogue.resource(api.type).all_fields
        entry.hints += [other_key(name, fields, self.dialect) for name in sorted(unread)]
        repeated = [name for name, _ in arguments].count("fields") > 1
        if repeated and not self.dialect["repeated-fields"]:
            entry.hints.append("the server reads the first fields only: write fields=uuid,name")
        return {"query": query}

    # answering

    async def act(self, request, call, entry):
        """Does a call now, or accepts it as a job; a fault may slow it down, fail it, or answer in its place."""
        self.cloud.used[call.api.name] += 1
        at_once = self.cloud.at_once(call.api)
        if not at_once:
            call.seconds = draw_seconds(self.cloud, call.api)
            call.key = call_key(acting(entry.method), entry.path, entry.query, call.given)
        fault = self.decide(request, call, entry) if self.faults.armed or not at_once else NO_FAULT
        if at_once or fault.at == "accept":
            await self.outlive(self.clock.sleep(fault.delay))
        else:
            call.seconds += fault.delay
        return await (self.instead if fault.at in ("accept", "after") else self.do)(request, call, entry)

    async def outlive(self, wait):
        """Waits; a call whose management node has died meanwhile, or whose cloud is another one now, goes no further."""
        resets, deaths = self.cloud.resets, self.cloud.deaths
        await wait
        if resets != self.cloud.resets:
            raise ApiError("SYS.1012", "the mock was reset while the call waited")
        if deaths != self.cloud.deaths:
            raise Unreachable

    def decide(self, request, call, entry):
        """What the rules have in store for a call."""
        record = self.cloud.store.peek("Job", call["uuid"]) if call.api is POLL_JOB else None
        resource = self.jobs.shown(record) if record else self.acted_on(call)
        told = acting(entry.method), entry.path, entry.query, call.given
        fault = self.faults.decide(Occasion(call.api, *told, request.headers, resource, (record or {}).get("key", "")))
        call.fault, entry.rule = fault, header_safe(fault.name)
        entry.hints += [fault.hint] if fault.hint else []
        if fault.name and self.watch:
            self.watch("fault", entry)
        return fault

    def acted_on(self, call):
        """The object that a call is about, as far as there is one."""
        if isinstance(call.params, ApiError):
            return {}
        if call["query"]:
            return self.cloud.look(self.catalogue.resource(call.api.type).stored, call["query"].uuid) if call["query"].uuid else {}
        row = call.api.target and self.catalogue.resource(call.api.target.refers)
        return self.cloud.look(row.stored, call.target) if row else {}

    async def do(self, request, call, entry):
        if call.api is POLL_JOB:
            return self.poll(request, call["uuid"], entry)
        return await (self.now(request, call, entry) if self.cloud.at_once(call.api) else self.accept(request, call, entry))

    async def instead(self, request, call, entry):
        """The answer to a call that a fault strikes before the work or after it."""
        fault, at_once = call.fault, self.cloud.at_once(call.api)
        entry.drop = fault.drop
        own = await self.outcome(request, call, entry) if self.is_done(call, entry) else None
        if fault.answer:
            entry.code = ""
            return replace(self.told_answer(request, call), job=own.job if own else "")
        if fault.error and (at_once or not own):  # of a job that was accepted, the poll tells it
            raise fault.error
        return own or (Answer(200, {}) if at_once else Answer(202, {"location": self.location(request, call.job)}))

    def told_answer(self, request, call):
        """Return the answer that a rule gives. Without a body, a 2xx has that of the dialect."""
        status, body = call.fault.answer
        if body is not None or not 200 <= status < 300 or status == 204:
            return raw_answer(status, body)
        polled = call.api is POLL_JOB
        job = call["uuid"] if polled else call.job
        if status != 202 or not job:
            return Answer(status)
        location = {"location": self.location(request, job)}
        return Answer(202, self.still_running(request, job) if polled else location)

    def is_done(self, call, entry):
        """Whether a call does its work though something else is answered. What only reads does even where its answer breaks."""
        fault = call.fault
        only_slow = not (fault.error or fault.answer or fault.drop)
        return only_slow or fault.at == "after" or (fault.drop and acting(entry.method) == "GET" and self.cloud.at_once(call.api))

    async def outcome(self, request, call, entry):
        """The answer to a call, also where it is an error."""
        try:
            return await self.do(request, call, entry)
        except ApiError as error:
            return self.failed(error, entry)

    async def now(self, request, call, entry):
        if isinstance(call.params, ApiError):
            raise call.params
        writes = self.cloud.store.writes
        with self.cloud.store.all_or_nothing() as changes:
            body = self.cloud.perform(call)
        if call["query"]:
            entry.hints += self.doubts(call, body)
        if self.cloud.store.writes != writes:
            await self.outlive(self.cloud.store.commit(lambda error: self.cloud.store.take_back(changes)))
        if body is not None and call.api.whole and not self.dialect["success-field"]:
            body = body | {"success": True}
        one = call["query"] and call["query"].uuid and self.dialect["get-one"] and body["inventories"]
        asked_for_schema = "X-JSON-Schema" in request.headers
        if asked_for_schema or (call["query"] and not self.dialect["query-schema"]):
            body, one = ({"inventory": one[0]} if one else {}) | (body or {}), None
            body["schema"] = schema_of(body, members_answered(call))
        if asked_for_schema or not call["query"]:
            return Answer(200, body)
        return Answer(200, self.keep(request, call, entry, with_one(to_json(body)) if one else to_json(body)))

    def doubts(self, call, body):
        """Return hints on the conditions of a query that was answered."""
        queries, row = self.cloud.queries_of(call), self.catalogue.resource(call.api.type)
        found = bool(body.get("total") or body.get("inventories"))
        return queries.doubts(call["query"], row, found)

    async def accept(self, request, call, entry):
        """202 and where to poll, once the job is on the disk."""
        if self.cloud.store.peek("Job", call.job):
            told = f"ConstraintViolationException: could not execute statement; Duplicate entry '{call.job}' for key 'PRIMARY'"
            raise FrontError(400 if self.dialect["job-uuid"] else 500, told, "this X-Job-UUID was used before")
        if isinstance(call.params, ApiError):
            call.fault, call.params = replace(call.fault, name="", error=call.params, at="job", stage="", job=""), {}
        entry.job, call.on_end = call.job, functools.partial(self.job_ended, entry)
        self.cloud.admit(call)
        self.jobs.submit(call, (header_of(request, "X-Web-Hook") or "").strip(), "X-JSON-Schema" in request.headers)
        await self.outlive(self.cloud.store.commit(lambda error: self.jobs.withdraw(call)))
        if told := self.jobs.told.get(call.job):
            await self.outlive(told.wait())
        return Answer(202, {"location": self.location(request, call.job)}, job=call.job)

    def location(self, request, job):
        """Return where to poll: at --base-url, else where a proxy in front says, else as the dialect does."""
        if self.settings.base_url:
            return f"{self.settings.base_url.rstrip('/')}/zstack/v1/api-jobs/{job}"
        scheme, host, prefix = forwarded(request)
        base = self.base
        if scheme or host or prefix or self.dialect["job-location"] or not base:
            own = request.headers.get("Host", "")
            host = host or (own if re.fullmatch(HOST, own) else base.partition("://")[2])
            base = f"{scheme or request.scheme}://{host}{prefix}"
        return f"{base}/zstack/v1/api-jobs/{job}"

    def poll(self, request, uuid, entry):
        if acting(request.method) != "GET":
            raise FrontError(405, "only GET method is allowed for querying job status", f"write GET /api-jobs/{uuid}; POST /zmock/jobs/{uuid} ends it", ("GET",))
        record = self.jobs.poll(uuid)
        entry.rule = entry.rule or header_safe((record or {}).get("rule") or self.jobs.gone_by.get(uuid, ""))
        entry.hints += [record["hint"]] if record and record.get("hint") else []
        if record is None:
            raise FrontError(404, "the job has been expired", "there is no such api-job, or not any more")
        if record["state"] not in OVER:
            return Answer(202, self.still_running(request, uuid))
        entry.code = code_of(record)
        return Answer(503 if record["state"] == "failed" else 200, result_of(record, self.catalogue.apis[record["api"]] if "X-JSON-Schema" in request.headers else None))

    def still_running(self, request, uuid):
        """Return the body of a poll while the job is not over."""
        return {"location": self.location(request, uuid)} if self.dialect["poll-body"] else b""

    def failed(self, error, entry):
        """An error as the dialect says it."""
        entry.code = error.code
        if error.hint:
            entry.hints.append(error.hint)
        headers = {"Allow": ", ".join(error.allow)} if getattr(error, "allow", ()) else {}
        if isinstance(error, FrontError) and not self.dialect["error-body"]:
            return Answer(error.status, error.details.encode(), headers)
        return Answer(error.status, {"error": self.cloud.catalogue.error_body(error)}, headers)

    def preflight(self, request, path):
        asked = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type, X-Job-UUID, X-Web-Hook, X-JSON-Schema")
        taken = {"GET"} if path.startswith("/api-jobs/") else {api.method for api, _ in self.catalogue.route(path)}
        return Answer(200, b"", {"Access-Control-Allow-Methods": VERBS_OF_HTTP, "Access-Control-Allow-Headers": asked,
                                 "Access-Control-Max-Age": "600", "Allow": ", ".join(sorted(taken)) or VERBS_OF_HTTP})  # fmt: skip

    async def send(self, request, answer, entry):
        """The bytes of an answer; a job's web-hook is told that its 202 has left."""
        if answer.ready and self.dialect["response-headers"] and Ready.fits(request):
            return Ready(request, b"%b%b\r\n\r\n%b" % (answer.ready, rfc822_formatted_time().encode(), answer.body))
        body = answer.body if isinstance(answer.body, bytes) else self.dialect["empty-result"] if answer.body is None else to_json(answer.body)
        headers = self.headers | answer.headers
        if entry.hints:
            headers["X-ZMock-Hint"] = header_safe("; ".join(entry.hints))
        if entry.rule:
            headers["X-ZMock-Rule"] = entry.rule
        if not self.dialect["response-headers"] and "JSESSIONID" not in request.cookies:
            headers["Set-Cookie"] = f"JSESSIONID={hashlib.md5(str(entry.seq).encode(), usedforsecurity=False).hexdigest().upper()}; Path=/zstack; HttpOnly"
        response = web.Response(status=answer.status, body=body, headers=headers)
        if answer.job not in self.jobs.left and not answer.drop:
            return response
        try:
            if answer.drop:
                return await BREAKS[answer.drop](request, response, self.clock)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:  # the client has gone, and nobody else minds
            return Unanswered()
        finally:
            self.jobs.left_now(answer.job)
        return response


# ---- Contract: schemas ---------------------------------------------------------------------------------------------

TEXT_SCHEMA, OBJECT_SCHEMA = {"type": "string"}, {"type": "object"}
SCHEMAS = {  # a type of the catalogue in JSON Schema
    "str": TEXT_SCHEMA, "int": {"type": "integer", "format": "int32"}, "long": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"}, "bool": {"type": "boolean"}, "list": {"type": "array", "items": TEXT_SCHEMA},
    "map": OBJECT_SCHEMA, "maps": {"type": "array", "items": OBJECT_SCHEMA}, "any": {},
    "date": {"type": "string", "pattern": "^[A-Z][a-z]{2} [0-9]{1,2}, [0-9]{4} [0-9]{1,2}:[0-9]{2}:[0-9]{2} [AP]M$", "examples": ["Nov 23, 2026 7:47:14 PM"]},
}  # fmt: skip
TAGS_SCHEMA = {"systemTags": SCHEMAS["list"], "userTags": SCHEMAS["list"]}
UUID_SCHEMA = {"type": "string", "pattern": f"^{UUID}$"}
JOB_UUID_SCHEMA = {"type": "string", "pattern": f"^{UUID.replace('[1-5]', '4')}$"}


def ref(kind, name):
    return {"$ref": f"#/components/{kind}/{name}"}


def either(schemas):
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def object_of(properties, required=(), **more):
    return {"type": "object", "properties": properties} | ({"required": [*required]} if required else {}) | more


def whole_text(regex):
    """A pattern for all of a text, as Java matches it; JSON Schema looks for it anywhere."""
    return f"^(?:{regex.removeprefix('^').removesuffix('$')})$"


def param_schema(param):
    """A parameter with its constraints; what it refers to is in the description."""
    schema, not_blank = SCHEMAS[param.type], {"pattern": r"\S"} if param.nonblank else {}
    if param.type == "str":
        said = {"minLength": param.shortest or int(param.nonempty), "maxLength": param.longest, "enum": [*param.values], "pattern": param.regex and whole_text(param.regex)}
        schema = schema | not_blank | {key: value for key, value in said.items() if value}
    if param.type == "list":
        schema = schema | {"items": TEXT_SCHEMA | not_blank}
    if param.type in ("list", "maps") and param.nonempty:
        schema = schema | {"minItems": 1}
    if param.low is not None:
        schema = schema | {"minimum": param.low, "maximum": param.high}
    if param.default is not None:
        schema = schema | {"default": READERS[param.type](param, param.default)}
    return schema | ({"description": f"uuid of {param.refers}"} if param.refers else {})


def member_schema(member):
    """Return the schema of a member: its class, or a list of it."""
    one = ref("schemas", member.java.simple)
    return {"type": "array", "items": one} if member.many else one


def body_schema(api, makes):
    """The body of a POST or PUT: its parameters under their key, tags beside them."""
    inner = {name: param for name, param in api.params.items() if f"{{{name}}}" not in api.path}
    properties = {name: param_schema(param) for name, param in inner.items()} | ({"resourceUuid": UUID_SCHEMA} if makes else {})
    made = api.members.get("inventory") if makes else None
    for name, member in made.java.members.items() if made else ():  # the answer repeats them
        if name in inner and inner[name].type == "maps":
            properties[name] = properties[name] | member_schema(member)
    told = object_of(properties, [name for name, param in inner.items() if param.required])
    return object_of({api.key: told} | TAGS_SCHEMA, [api.key] if api.method == "PUT" or "required" in told else (), additionalProperties=False)


def object_schema(fields, java):
    """Return the schema of an object and its subtypes. Nothing is required: nulls are not sent."""
    members = defaultdict(list)
    for name, member in (pair for kind in java.family() for pair in kind.members.items()):
        if not member.java.constants and member not in members[name]:
            members[name].append(member)
    shown = {name: SCHEMAS[kind] for name, kind in fields.items()}
    inner = {name: [member_schema(one) for one in each] for name, each in members.items() if each}
    return object_of(shown | {name: either(schemas) for name, schemas in inner.items()})


def result_schema(api, dialect):
    """The body of an answer that went well."""
    properties = {}
    for name in re.findall(r"(\w+)(?::\w+)?", api.answers):
        properties[name] = member_schema(api.members[name]) if name in api.members else {}
    if api.kind == "Query":
        properties |= {"total": SCHEMAS["long"]} | ({"inventory": properties["inventories"]["items"]} if dialect["get-one"] else {})
    if api.whole and not dialect["success-field"]:
        properties["success"] = SCHEMAS["bool"]
    if api.name == "IsReadyToGo" and dialect["is-ready"]:
        properties["managementNodeId"] = TEXT_SCHEMA
    return object_of(properties | {"schema": {"type": "object", "additionalProperties": TEXT_SCHEMA}})


def condition_pattern(fields, kinds):
    """What a condition on a resource looks like: a field of its own or one behind relations, an operator, a value."""
    names = {"bool": [], "text": []}
    for name, kind in (fields | kinds).items():
        names["bool" if kind == "bool" else "text"].append(name)
    signs = [sign.replace("?", r"\?") for sign, row in OPERATORS.items() if row.reads != "nothing"]
    text = "|".join([*names["text"], *TAGS, r"[A-Za-z]\w*(?:\.\w+)+"])
    ways = [f"(?:{text})(?:{'|'.join(signs)})(?:\\S.*)?", f"(?:{'|'.join([*names['bool'], text])}) (?:is|not) null"]
    if names["bool"]:
        ways.append(f"(?:{'|'.join(names['bool'])})(?:{'|'.join(signs)})(?:true|false)")
    return f"^(?:{'|'.join(ways)})$"


# ---- Contract ----------------------------------------------------------------------------------------------------

ERROR_SCHEMA = object_of({"code": TEXT_SCHEMA, "description": TEXT_SCHEMA, "details": TEXT_SCHEMA, "cause": ref("schemas", "ErrorCode")},
                         ["code", "description", "details"])  # fmt: skip
REFUSALS = {  # the answers that are no results, by status
    "400": ("BadRequest", "No session, or something malformed; in the manual dialect also a missing or illegal parameter"),
    "404": ("NotFound", "No API has this path; never that a resource is missing"),
    "500": ("Malformed", "In the server dialect: a body that is no JSON object, or with wrong JSON types"),
    "501": ("NotSimulated", "zmock knows this API from the catalogue and does not simulate it"),
    "503": ("Failed", "The operation failed, for instance with SYS.1003: a resource does not exist, or ID.1001: the session is over"),
}
BACKINGS = {"manual": "Simulated, documented in the developer manual.", "server": "Simulated as the server does it.",
            "generic": "Simulated as its parameters and fields tell.", "none": "Not simulated: 501."}  # fmt: skip
PARAMETERS = {
    "JobUuid": {"name": "X-Job-UUID", "in": "header", "schema": JOB_UUID_SCHEMA, "description": "The uuid that the job shall have, new for each call"},
    "WebHook": {"name": "X-Web-Hook", "in": "header", "schema": {"type": "string", "format": "uri"}, "description": "Where to POST the result"},
    "JsonSchema": {"name": "X-JSON-Schema", "in": "header", "schema": {"type": "string", "enum": ["true"]}, "description": "Has the answer tell the Java class of each object in it"},
    "limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1, "default": 1000}},
    "start": {"name": "start", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1, "default": 0}},
    "count": {"name": "count", "in": "query", "schema": SCHEMAS["bool"], "description": "Only how many there are"},
    "replyWithCount": {"name": "replyWithCount", "in": "query", "schema": SCHEMAS["bool"], "description": "How many there are, too"},
}  # fmt: skip
LONGEST_IN_URL = 4000  # Tomcat takes 8 kB of headers in all
TOLD_TO_HOOKS = [{"name": "X-Job-UUID", "in": "header", "required": True, "schema": TEXT_SCHEMA},
                 {"name": "X-Job-Success", "in": "header", "required": True, "schema": {"type": "string", "enum": ["true", "false"]}}]  # fmt: skip
TOLD_IN_HEADERS = {"X-ZMock-Hint": ref("headers", "Hint"), "X-ZMock-Rule": ref("headers", "Rule")}
ANSWERS_OF_JOBS = object_of({"location": {"type": "string", "format": "uri", "description": "Where to poll"}}, ["location"])


class Contract:
    """The APIs as OpenAPI 3.1, with the answers of the dialect in force. APIs that share a verb and a path are one operation."""

    def __init__(self, cloud):
        self.cloud, self.dialect, self.catalogue = cloud, cloud.dialect, cloud.catalogue
        self.shared = defaultdict(list)  # the apis by verb and path without names of variables
        self.spelt = defaultdict(Counter)  # by path, how often its variables have which names
        for api in self.catalogue.apis.values():
            for path in api.paths:
                bare, names = re.sub(r"{\w+}", "{}", path), tuple(re.findall(r"{(\w+)}", path))
                self.shared[api.method, bare].append(api)
                self.spelt[bare][names] += 1
        self.ids = {place: self.id_of(*place, apis) for place, apis in self.shared.items()}
        self.known = {name: row.all_fields for name, row in self.catalogue.resources.items()}
        structs = self.catalogue.structs.items()
        self.known = {name: struct.fields for name, struct in structs} | self.known
        self.acts = defaultdict(set)  # what can be done with one thing, by its type
        for (method, path), apis in self.shared.items():
            for api in apis:
                if api.target and path.count("{}") == 1:
                    self.acts[api.target.refers].add((method, path))

    @staticmethod
    def id_of(method, path, apis):
        """CreateZone; QueryZoneByUuid; VmInstancesActions for what shares PUT /vm-instances/{uuid}/actions."""
        if len(apis) == 1:
            return apis[0].name + ("ByUuid" if apis[0].kind == "Query" and path.endswith("{}") else "")
        return "".join(word.capitalize() for word in re.findall("[a-z0-9]+", path))

    def document(self, base):
        """The whole contract, for a server at `base`."""
        paths = defaultdict(dict)
        for (method, path), apis in self.shared.items():
            names = self.variables(path)
            paths[path.replace("{}", "{%s}") % names][method.lower()] = self.operation(method, path, apis, names)
        paths["/api-jobs/{uuid}"]["get"] = self.polling()
        told = f"Generated by zmock {__version__}, {self.dialect.name} dialect; GET /zmock/dialect says what that means."
        return {
            "openapi": "3.1.0", "info": {"title": "ZStack", "version": "2.5.1", "description": told}, "servers": [{"url": f"{base}/zstack/v1"}],
            "security": [{"session": []}], "paths": paths, "components": self.components(),
        }  # fmt: skip

    def variables(self, path):
        """The names of the variables of a path: those of most APIs that have it, for OpenAPI allows one name only."""
        return self.spelt[path].most_common(1)[0][0]

    def components(self):
        apis = self.catalogue.apis.values()
        classes = self.catalogue.classes
        schemas = {
            classes[name].simple: object_schema(fields, classes[name])
            for name, fields in self.known.items()
        }
        schemas |= {f"{api.name}Result": result_schema(api, self.dialect) for api in apis}
        schemas |= {f"{api.name}Request": body_schema(api, self.cloud.makes(api)) for api in apis if self.has_body(api)}
        return {
            "securitySchemes": {"session": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "OAuth and the uuid of a session"}},
            "schemas": schemas | {"ErrorCode": ERROR_SCHEMA, "Error": object_of({"error": ref("schemas", "ErrorCode")}, ["error"]), "Accepted": ANSWERS_OF_JOBS},
            "parameters": PARAMETERS, "responses": {name: self.refusal(status, says) for status, (name, says) in REFUSALS.items()},
            "headers": {"Hint": {"description": "zmock: what was perhaps meant", "schema": TEXT_SCHEMA},
                        "Rule": {"description": "zmock: the fault rule that fired", "schema": TEXT_SCHEMA}},
            "links": {"poll": {"operationId": "PollJob", "parameters": {"uuid": "$request.header.X-Job-UUID"}}},
        }  # fmt: skip

    def refusal(self, status, says):
        plain = status in ("400", "404", "500") and not self.dialect["error-body"]
        content = {"text/plain": {"schema": TEXT_SCHEMA}} if plain else {"application/json": {"schema": ref("schemas", "Error")}}
        return {"description": says, "headers": TOLD_IN_HEADERS, "content": content}

    @staticmethod
    def has_body(api):
        return api.method in ("POST", "PUT") and not api.bare

    @staticmethod
    def checks_more(api):
        """Whether parameters that the schema allows may be refused as illegal all the same: a query string cannot say each map, too."""
        unsayable = api.method in ("GET", "DELETE") and any(param.type == "map" and param.required for param in api.params.values())
        return unsayable or bool(getattr(BEHAVIOURS.get(api.name), "check", None)) or any(code == "SYS.1007" for _, code, _ in api.refuses)

    # operations

    def operation(self, method, path, apis, names):
        asks = [self.cloud.needs_session(api) for api in apis]
        told = {
            "operationId": self.ids[method, path], "tags": [path.split("/")[1]], "summary": ", ".join(re.sub("(?<=[a-z])(?=[A-Z])", " ", api.name) for api in apis),
            "description": " ".join(f"{api.name}: {BACKINGS[api.backing]}" for api in apis), "parameters": self.parameters(path, apis, names),
            "x-zmock-simulated": any(map(self.cloud.simulated, apis)), "x-zmock-checks-more": any(map(self.checks_more, apis)),
        }  # fmt: skip
        bodies = [ref("schemas", f"{api.name}Request") for api in apis if self.has_body(api)]
        if bodies:
            content = {"application/json": {"schema": bodies[0] if len(bodies) == 1 else {"oneOf": bodies}}}
            told["requestBody"] = {"required": method == "PUT" or any(p.required for p in self.sent(apis[0])), "content": content}
        told["responses"] = self.responses(method, path, apis)
        if not all(asks):
            told["security"] = [{"session": []}, {}] if any(asks) else []
        jobs = [api for api in apis if not self.cloud.at_once(api)]
        return told | ({"callbacks": {"done": self.callback(jobs)}} if jobs else {})

    @staticmethod
    def sent(api):
        """The parameters that are not in the path."""
        return [param for name, param in api.params.items() if f"{{{name}}}" not in api.path]

    def parameters(self, path, apis, names):
        spelt = [*zip(names, re.findall(r"{(\w+)}", next(p for p in apis[0].paths if p.count("{") == path.count("{"))))]
        found = [{"name": name, "in": "path", "required": True, "schema": self.variable(apis[0], own)} for name, own in spelt]
        if apis[0].kind == "Query":
            found += [] if names else self.asked(apis[0])
        elif apis[0].method in ("GET", "DELETE"):
            found += [{"name": p.name, "in": "query", "required": p.required, "schema": param_schema(replace(p, longest=min(p.longest, LONGEST_IN_URL)))}
                      for p in self.sent(apis[0]) if p.type not in ("map", "maps")]  # fmt: skip
        if apis[0].method == "DELETE":
            found.append({"name": "deleteMode", "in": "query", "schema": {"type": "string", "enum": ["Permissive", "Enforcing"]}})
        jobs = [] if all(map(self.cloud.at_once, apis)) else [ref("parameters", "JobUuid"), ref("parameters", "WebHook")]
        return [*found, ref("parameters", "JsonSchema"), *jobs]

    @staticmethod
    def variable(api, name):
        schema = param_schema(api.params[name]) if name in api.params else TEXT_SCHEMA
        return schema | {"minLength": max(1, schema.get("minLength", 1))}

    def asked(self, api):
        """What a query takes: conditions, sorting, paging, fields."""
        row = self.catalogue.resource(api.type)
        fields = row.fields if row else self.known.get(api.type, {})
        kinds = {name: kind for name, kind in (row.all_fields if row else {}).items() if name not in fields}
        single = [name for name, kind in fields.items() if kind not in ("list", "maps", "map")]
        shown = [name for name in single if name not in (row.joined if row else ())]
        legal = {name: kind for name, kind in fields.items() if kind != "maps"}
        told = [
            {"name": "q", "in": "query", "schema": {"type": "array", "items": {"type": "string", "pattern": condition_pattern(legal, kinds)}}, "description": "Conditions, all of which must hold"},
            *(ref("parameters", name) for name in ("limit", "start", "count", "replyWithCount")),
            {"name": "sort", "in": "query", "schema": {"type": "string", "pattern": f"^[+-]?(?:{'|'.join(single)})$"}},
            {"name": "fields", "in": "query", "explode": False, "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": shown}}},
            {"name": "groupBy", "in": "query", "schema": {"type": "string", "enum": single}},
        ]  # fmt: skip
        return told if single else told[:5]

    # answers

    def responses(self, method, path, apis):
        now, jobs = [api for api in apis if self.cloud.at_once(api)], [api for api in apis if not self.cloud.at_once(api)]
        there = {"400", "503"} | ({"404"} if "{}" in path else set()) | ({"501"} if any(not self.cloud.simulated(api) for api in apis) else set())
        there |= {"500"} if self.dialect["malformed-body"] == 500 else set()
        told = {status: ref("responses", REFUSALS[status][0]) for status in sorted(there)}
        if now:
            content = {"content": {"application/json": {"schema": either([ref("schemas", f"{api.name}Result") for api in now])}}}
            empty = not self.dialect["empty-result"] and not any(api.answers for api in now)
            told["200"] = {"description": "Done", "headers": TOLD_IN_HEADERS} | ({} if empty else content) | self.links(method, path, apis)
        if jobs:
            content = {"application/json": {"schema": ref("schemas", "Accepted")}}
            links = {"poll": ref("links", "poll")} | self.links(method, path, apis).get("links", {})
            told["202"] = {"description": "Accepted as a job", "headers": TOLD_IN_HEADERS, "content": content, "links": links}
        return dict(sorted(told.items()))

    def links(self, method, path, apis):
        """From a query to what can be done with the first thing found; from a creation to what was made."""
        api, found = apis[0], {}
        if api.kind == "Query" and "{}" not in path:
            places = sorted(self.acts[api.type] | {("GET", path + "/{}")} & self.shared.keys())
            found = {self.ids[place]: self.link(place, "$response.body#/inventories/0/uuid") for place in places}
        if self.cloud.makes(api) and api.type in self.catalogue.resources:
            place = ("GET", f"/{self.catalogue.resource(api.type).path}/{{}}")
            found = {"made": self.link(place, "$request.body#/params/resourceUuid")} if place in self.shared else {}
        return {"links": found} if found else {}

    def link(self, place, where):
        return {"operationId": self.ids[place], "parameters": {self.variables(place[1])[0]: where}}

    def callback(self, jobs):
        """What a web-hook is told: the result or the error, as polling would."""
        schema = {"anyOf": [*(ref("schemas", f"{api.name}Result") for api in jobs), ref("schemas", "Error")]}
        told = {"required": True, "content": {"application/json": {"schema": schema}}}
        return {"{$request.header.X-Web-Hook}": {"post": {"parameters": TOLD_TO_HOOKS, "requestBody": told, "responses": {"2XX": {"description": "Heard; else there are more tries"}}}}}

    def polling(self):
        """How a job is polled: the one operation that is no API."""
        content = {"application/json": {"schema": ref("schemas", "Accepted")}} if self.dialect["poll-body"] else {}
        return {
            "operationId": "PollJob", "tags": ["api-jobs"], "summary": "Poll Job", "security": [],
            "parameters": [{"name": "uuid", "in": "path", "required": True, "schema": TEXT_SCHEMA | {"minLength": 1}}, ref("parameters", "JsonSchema")],
            "responses": {
                "200": {"description": "Done: the result of the API", "content": {"application/json": {"schema": OBJECT_SCHEMA}}},
                "202": {"description": "Not done yet"} | ({"content": content} if content else {}),
                "404": ref("responses", "NotFound"), "503": ref("responses", "Failed"),
            },
        }  # fmt: skip


# ---- Control: watching ---------------------------------------------------------------------------------------------


def json_answer(body, status=200, headers=None):
    """Return an answer of /zmock, with every character as it is."""
    try:
        text = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        text = json.dumps(body).encode()
    return web.Response(body=text, status=status, headers=headers, content_type="application/json", charset="utf-8")


class ControlError(Exception):
    """A control call that is refused: {"error": ..., "hint": ...}."""

    def __init__(self, status, error, hint=""):
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint


MOST_UNREAD = 1000  # events that wait for a reader; older ones are dropped, and counted
STILL_HERE = 15  # seconds of the world's time between two comments in a stream, which keep proxies from closing it
UNTOLD = OWN_TYPES | {"Notification"}  # types of which no state is told; jobs are told as jobs


class Reader:
    """Somebody who listens: what has not yet been read, up to a bound."""

    def __init__(self):
        self.unread, self.dropped, self.news = deque(maxlen=MOST_UNREAD), 0, asyncio.Event()
        self.plan_comment()

    def plan_comment(self):
        self.comment_due = asyncio.get_running_loop().time() + STILL_HERE

    def hear(self, event):
        self.dropped += len(self.unread) == MOST_UNREAD
        self.unread.append(event)
        self.news.set()

    async def read(self):
        """Return the events since the last time, and a comment if one is due; wait until there is something to return."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.comment_due):
                await self.news.wait()
        comment = ""
        if not self.news.is_set() or asyncio.get_running_loop().time() >= self.comment_due:
            comment = ": still here\n\n"
            self.plan_comment()
        self.news.clear()
        text = (event_text("dropped", {"events": self.dropped}) if self.dropped else "") + "".join(self.unread)
        self.unread.clear()
        self.dropped = 0
        return text + comment


def event_text(kind, told):
    """An event as it is sent."""
    return f"event: {kind}\ndata: {json.dumps(told, ensure_ascii=False)}\n\n"


class Watch:
    """Tells what happens: calls, jobs, states, faults. Where nobody listens, nothing is noted."""

    def __init__(self, rest):
        self.rest, self.jobs, self.store = rest, rest.jobs, rest.cloud.store
        self.readers, self.waiters, self.before = set(), set(), {}

    @contextlib.contextmanager
    def listening(self, listeners, one):
        listeners.add(one)
        self.attach()
        try:
            yield one
        finally:
            listeners.discard(one)
            self.attach()

    def attach(self):
        heard = bool(self.readers or self.waiters)
        self.rest.watch, self.jobs.watch, self.store.watch = (self.call, self.job, self.item) if heard else (None, None, None)

    def emit(self, kind, told):
        text = event_text(kind, told) if self.readers else ""
        for reader in self.readers:
            reader.hear(text)
        for waiter in self.waiters:
            waiter.set()

    def call(self, kind, entry):
        shown = entry.shown()
        self.emit(kind, shown if kind == "call" else {name: shown[name] for name in ("seq", "time", "api", "method", "path", "rule")})

    def job(self, uuid):
        record = self.store.peek("Job", uuid)
        self.emit("job", self.jobs.shown(record) if record else {"uuid": uuid, "state": "expired"})

    def item(self, type, uuid, before):
        """Notes what an item was; what has become of it is told when whatever changes it now is done."""
        if not self.before:
            asyncio.get_running_loop().call_soon(self.compare)
        self.before.setdefault((type, uuid), before)

    def compare(self):
        changed, self.before = self.before, {}
        for waiter in self.waiters:
            waiter.set()
        for (type, uuid), before in changed.items() if self.readers else ():
            now = self.store.peek(type, uuid)
            for name in ("state", "status") if type not in UNTOLD else ():
                was, became = (before or {}).get(name), (now or {}).get(name)
                if was != became:
                    item = now or before
                    self.emit("state", {"type": type, "uuid": item["uuid"], "name": item.get("name"), "field": name, "from": was, "to": became})

    async def until(self, holds, seconds, hints=()):
        """Return what holds() answers once that is not None; raise 408 with `hints` when time is up."""
        with self.listening(self.waiters, asyncio.Event()) as changed:
            try:
                async with asyncio.timeout(seconds):
                    while (found := holds()) is None:
                        await changed.wait()
                        changed.clear()
                    return found
            except TimeoutError:
                hint = "; ".join([*hints, "GET /zmock/calls shows what did"])
                raise ControlError(408, f"it did not come about within {counted(seconds, 'second')}", hint) from None

    async def stream(self, request):
        """Server-sent events, for as long as the client stays."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        with self.listening(self.readers, Reader()) as reader, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            await response.write(b": what happens in zmock\n\n")
            while True:
                await response.write((await reader.read()).encode(errors="replace"))
        return Unanswered()


def journal_filter(query, more=()):
    """A test for entries of the journal, from api, path, status, since; raises ControlError for what is no filter."""
    known = ("api", "path", "status", "since")
    for key in query.keys() - {*known, *more}:
        raise ControlError(400, f"the journal is filtered by {', '.join(known)}, not {key!r}{did_you_mean(key, [*known, *more])}")
    for key in ("since", "status"):
        if not re.fullmatch("[0-9]{1,18}", query.get(key, "0")):
            raise ControlError(400, f"{key!r} is a number, not {query[key]!r}")
    for key in ("api", "path"):
        if len(query.get(key, "")) > LONGEST_GLOB:
            raise ControlError(400, f"{key!r} has at most {LONGEST_GLOB} characters")
    api, path, status, since = query.get("api", "*"), query.get("path", "*"), query.get("status"), int(query.get("since", 0))
    return lambda entry: (
        entry.seq > since and fnmatchcase(entry.api, api) and status in (None, str(entry.status))
        and any(fnmatchcase(text, path) for text in (entry.path, re.sub("^(/zstack)?/v1", "", entry.path)))
    )  # fmt: skip


def whole_number(query, key, default, highest):
    text = query.get(key, str(default))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or float(text) > highest:
        raise ControlError(400, f"{key!r} is a number from 0 to {highest}, not {text!r}")
    return float(text)


STEERINGS = ("finish", "fail", "hold", "expire")


def read_steering(told, codes):
    """Return what is to become of a job, and the error that it is to fail with, or None.

    Raise ControlError for anything else.
    """
    what = told.get("do") if isinstance(told, dict) else None
    if what not in STEERINGS:
        hint = did_you_mean(what, STEERINGS)
        known = f"{', '.join(STEERINGS[:-1])} or {STEERINGS[-1]}"
        raise ControlError(400, f"'do' is {known}, not {what!r}{hint}")
    beside = {"error": lambda _, code: check_code(code, codes), "details": a_text}
    for key in told.keys() - {"do", *beside}:
        hint = "there are do, error and details"
        raise ControlError(400, f"{key!r} is no key here{did_you_mean(key, beside)}", hint)
    named = {key: told[key] for key in beside if key in told}
    if named and what != "fail":
        raise ControlError(400, f"{next(iter(named))!r} goes with 'fail' only")
    try:
        for key, value in named.items():
            beside[key](key, value)
    except ValueError as error:
        raise ControlError(400, str(error)) from None
    code = named.get("error", FAILED_BY_HAND.code)
    return what, ApiError(code, named.get("details", codes[code])) if named else None


# ---- Control -----------------------------------------------------------------------------------------------------

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"}
MOST_FOUND = 100  # lines in health; all are in the log


STREAM = object()  # instead of a body: the answer goes on and on
PUBLIC = {"/zmock/health", "/zmock/openapi.json"}  # open to all who can only read: they tell whether zmock is there, and what it can


class Control:
    """/zmock: never delayed, never faulted, never in the journal."""

    def __init__(self, rest, start, go_back):
        self.rest, self.start_again, self.go_back = rest, start, go_back
        self.copying = asyncio.Lock()
        self.snapshots = Snapshots(None if rest.settings.memory else Path(rest.settings.data).parent / "snapshots")
        self.cloud, self.jobs, self.faults = rest.cloud, rest.jobs, rest.faults
        self.clock, self.settings, self.store = rest.clock, rest.settings, rest.cloud.store
        self.began = self.clock.uptime()
        self.watch = Watch(rest)
        self.routes = {
            ("GET", "health"): self.health, ("GET", "apis"): self.apis, ("GET", "dialect"): self.dialect, ("POST", "reset"): self.reset,
            ("GET", "rules"): self.rules, ("POST", "rules"): self.add_rule, ("DELETE", "rules"): self.drop_rules,
            ("GET", "rules/{}"): self.rule, ("DELETE", "rules/{}"): self.drop_rule,
            ("GET", "clock"): self.show_clock, ("POST", "clock"): self.set_clock,
            ("GET", "jobs"): self.list_jobs, ("POST", "jobs/{}"): self.steer_job,
            ("GET", "calls"): self.calls, ("DELETE", "calls"): self.drop_calls, ("GET", "queryable/{}"): self.queryable, ("GET", "explain"): self.explain,
            ("GET", "openapi.json"): self.openapi,
            ("GET", "incidents"): self.list_incidents, ("POST", "incidents"): self.add_incident, ("DELETE", "incidents/{}"): self.end_incident,
            ("GET", "snapshots"): self.list_snapshots, ("GET", "snapshots/{}"): self.snapshot, ("PUT", "snapshots/{}"): self.take_snapshot,
            ("DELETE", "snapshots/{}"): self.drop_snapshot, ("POST", "snapshots/{}/restore"): self.restore,
            ("GET", "wait"): self.wait, ("GET", "events"): self.events,
        }  # fmt: skip

    async def answer(self, request):
        public = request.path in PUBLIC and acting(request.method) == "GET"
        try:
            if not public:
                self.guard(request)
            body = await self.dispatch(request)
        except ControlError as error:
            return json_answer({"error": error.error, "hint": error.hint}, error.status)
        except TooFar as error:
            return json_answer({"error": str(error), "hint": "go on in smaller steps, or take jobs away from triggers"}, 409)
        except ApiError as error:
            kept_late = error.code == "SYS.1016"  # only a commit says it: what was asked for is done in memory
            hint = "it is done, but not yet kept; that is tried until it can be" if kept_late else error.hint or "the cloud refuses it"
            return json_answer({"error": str(error), "hint": hint}, error.status if kept_late else 409)
        except Exception as error:  # as MessageSafeAspect.aj does for the APIs: nobody gets a 500 in plain text
            log.exception("%s %s failed", request.method, request.path)
            return json_answer({"error": f"zmock failed: {error!r}", "hint": "the log has the traceback; please report it"}, 500)
        if body is STREAM:
            return await self.watch.stream(request)
        return json_answer(body, headers=HEADERS_FOR_BROWSERS if public else None)

    def guard(self, request):
        """Refuses what does not come from this machine, or from a page of another origin (DESIGN: local first, and safe)."""
        token = self.settings.control_token
        if token and request.headers.get("Authorization") != f"Bearer {token}":
            raise ControlError(401, "/zmock asks for its token", "send Authorization: Bearer TOKEN, as given with --control-token")
        host = re.sub(r":\d*$", "", request.headers.get("Host", "")).strip("[]").lower()
        if not token and (request.remote or "127.0.0.1") not in LOOPBACK:
            raise ControlError(403, "/zmock answers this machine only", "start with --control-token to reach it from another one")
        if not token and host not in LOOPBACK | {self.settings.host, ""}:
            raise ControlError(403, f"/zmock does not answer for the host {host}", "use the address that zmock printed")
        origin = request.headers.get("Origin")
        if origin and origin.partition("://")[2] != request.headers.get("Host"):
            raise ControlError(403, f"/zmock does not answer pages of {origin}", "the API does, at /zstack/v1")
        if request.method in ("POST", "PUT") and request.content_type != "application/json":
            raise ControlError(415, "a control call is JSON", "send Content-Type: application/json")

    async def dispatch(self, request):
        parts = request.path.removeprefix("/zmock").strip("/").split("/")
        pattern, name = "/".join([parts[0], *["{}"] * bool(parts[1:])]) if parts[0] != "queryable" else "queryable/{}", "/".join(parts[1:])
        if len(parts) == 3 and f"{pattern}/{parts[2]}" in {path for _, path in self.routes}:
            pattern, name = f"{pattern}/{parts[2]}", parts[1]
        allowed = [method for method, path in self.routes if path == pattern]
        handler = self.routes.get((acting(request.method), pattern))
        if handler:
            return await handler(name, request.query, await self.told(request))
        if allowed:
            raise ControlError(405, f"{request.path} takes {', '.join(allowed)}")
        known = sorted({path.split("/")[0] for _, path in self.routes})
        raise ControlError(404, f"no control call {request.path}{did_you_mean(parts[0], known)}", "there are " + ", ".join(f"/zmock/{name}" for name in known))

    async def told(self, request):
        """The JSON that came with a control call."""
        if request.method not in ("POST", "PUT"):
            return None
        try:
            text = await body_text(request, self.settings.body_limit)
        except (ValueError, ConnectionError, web.RequestPayloadError) as error:
            raise ControlError(400, f"the body cannot be read: {error}") from None
        except web.HTTPRequestEntityTooLarge:
            raise ControlError(400, f"the body has more than {counted(self.settings.body_limit, 'byte')}") from None
        try:
            return json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ControlError(400, f"the body is no JSON: {error}") from None

    def without_secrets(self, text):
        """Return text without what is nobody else's: the folder that the cloud is kept in, and uuids of sessions."""
        folder = Path(self.settings.data)
        text = re.sub(r"\bSession \S+(?=:)", "a session", text)
        return text.replace(str(folder), folder.name) if folder.is_absolute() else text

    async def health(self, name, query, told):
        """Tell everybody how zmock is: nothing secret."""
        cloud = (self.store.peek("Mock", "mock") or {}).get("cloud", "unknown")
        return {"version": __version__, "dialect": self.cloud.dialect.name, "cloud": Path(cloud).name if Path(cloud).is_absolute() else cloud, "seed": self.settings.seed,
                "objects": {name: len(table.items) for name, table in sorted(self.store.tables.items()) if table.items and name != "Mock"},
                "commit": self.without_secrets(self.store.state), "data": "" if self.settings.memory else self.without_secrets(self.settings.data),
                "found": [self.without_secrets(line) for line in self.store.found[:MOST_FOUND]],
                "uptime": round(self.clock.uptime(self.began), 3)}  # fmt: skip

    async def apis(self, name, query, told):
        return {"apis": [{"name": api.name, "method": api.method, "path": api.path, "backing": api.backing, "calls": self.cloud.used[api.name]}
                         for api in self.cloud.catalogue.apis.values()]}  # fmt: skip

    async def dialect(self, name, query, told):
        return {"dialect": self.cloud.dialect.name, "differences": self.cloud.dialect.described()}

    async def reset(self, name, query, told):
        """Back to the start, or to another cloud; answers when it is done."""
        before = self.settings.cloud
        wanted = told.get("cloud", before) if isinstance(told, dict) and not told.keys() - {"cloud"} else None
        if not isinstance(wanted, str):
            raise ControlError(400, f"reset takes {{\"cloud\": \"demo\"}}, \"empty\", \"large:N\" or a file, not {json.dumps(told, ensure_ascii=False)}")
        fresh = self.rest.start and self.rest.start.is_of(wanted, self.clock.now())
        if wanted != before or not self.rest.start or (is_cloud_file(wanted) and not fresh):  # the file of a kept cloud may be gone
            self.try_out(wanted)
        self.settings.cloud = wanted
        self.start_again()
        self.began = self.clock.uptime()
        await self.store.commit()
        return await self.health(name, query, told)

    def try_out(self, wanted):
        """Builds the other cloud beside this one, to refuse what cannot be before anything is lost."""
        beside = new_cloud(replace(self.settings, memory=True, clock="frozen"), self.cloud.catalogue)
        try:
            fill(beside, wanted)
        except SettingsError as error:
            raise ControlError(400, str(error)) from None

    async def rules(self, name, query, told):
        self.faults.reread()
        return {"rules": [rule.shown() for rule in self.faults.rules]} | ({"problems": self.faults.problems} if self.faults.problems else {})

    async def add_rule(self, name, query, told):
        try:
            rule = self.faults.add(told)
        except ValueError as error:
            raise ControlError(400, str(error), "the README describes rules") from None
        ends = {"ends": self.clock.due_date(rule.timer)} if rule.timer else {}
        self.store.put("Rule", told | {"uuid": rule.id, "id": rule.id} | ends)
        await self.keep_rules(lambda: (self.faults.remove(rule.id), self.store.remove("Rule", rule.id)))
        return rule.shown()

    async def keep_rules(self, undo):
        """Rules are in force, or gone, when that is on the disk; else they are as they were."""
        try:
            await self.store.commit(lambda error: undo())
        except ApiError as error:
            raise ControlError(error.status, str(error), "the rules are as they were; make room, and do it again") from None

    async def drop_rules(self, name, query, told):
        await self.take_away({rule.id for rule in self.faults.rules} | {kept["uuid"] for kept in self.store.rows("Rule")})
        return {"rules": []}

    async def take_away(self, names):
        """Rules by name, and what is kept of them."""
        before, places = self.faults.rules, {rule.id: place for place, rule in enumerate(self.faults.rules)}
        with self.store.all_or_nothing() as changes:
            for name in names:
                self.faults.remove(name)
                self.store.remove("Rule", name)

        def undo():
            back = [*self.faults.rules, *(rule for rule in before if rule.id in names)]
            self.faults.rules = sorted(back, key=lambda rule: places.get(rule.id, len(places)))
            self.store.take_back(changes)

        await self.keep_rules(undo)

    async def rule(self, name, query, told):
        return self.rule_named(name).shown()

    def rule_named(self, name):
        for rule in self.faults.rules:
            if rule.id == name:
                return rule
        raise ControlError(404, f"no rule {name!r}{did_you_mean(name, [rule.id for rule in self.faults.rules])}")

    async def drop_rule(self, name, query, told):
        await self.take_away({self.rule_named(name).id})
        return {}

    async def show_clock(self, name, query, told, fired=()):
        return {"now": iso(self.clock.now()), "mode": self.clock.mode, "offset": round(self.clock.now() - self.clock.world(), 3), "fired": list(fired)}

    async def set_clock(self, name, query, told):
        """{"advance": seconds}, {"set": an ISO date}, {"freeze": true or false}, {"warp": true or false}; answers what came due."""
        ways = {"advance": self.go_on, "set": self.go_to, "freeze": functools.partial(self.switch, "frozen"), "warp": functools.partial(self.switch, "warp")}
        if not isinstance(told, dict) or len(told) != 1 or not told.keys() <= ways.keys():
            one = "{\"advance\": seconds}, {\"set\": \"2018-07-10T00:00:00Z\"}, {\"freeze\": true} or {\"warp\": true}"
            raise ControlError(400, f"the clock takes {one}", "one at a time" if isinstance(told, dict) and len(told) > 1 else "")
        way, value = *told, *told.values()
        fired = await ways[way](value)
        self.store.update("Mock", "mock", clock=self.clock.kept())
        await self.store.commit()
        return await self.show_clock(name, query, told, fired)

    async def switch(self, mode, on):
        if not isinstance(on, bool):
            raise ControlError(400, f"'freeze' and 'warp' are true or false, not {on!r}")
        self.clock.set_mode(mode if on else "real")
        return ()

    async def go_on(self, seconds):
        if not is_span(seconds):
            raise ControlError(400, f"'advance' is a number of seconds from 0 to 1e9, not {seconds!r}")
        return await self.clock.advance(seconds)

    async def go_to(self, text):
        """A date; a move that is under way ends where it is."""
        try:
            moment = moment_of(text)
        except ValueError:
            examples = "2018-07-10T00:00:00Z or 2018-07-10T08:00:00+08:00"
            raise ControlError(400, f"'set' is a date such as {examples}, not {text!r}") from None
        if not 0 <= moment < 4e9:
            raise ControlError(400, f"'set' is a date from 1970 to 2096, not {text!r}")
        self.clock.halt()
        if moment < self.clock.now() - 0.001:  # iso() says thousandths
            self.clock.set_back(moment)
        return await self.clock.go_to(moment)

    async def list_jobs(self, name, query, told):
        return {"jobs": [self.job_shown(record) for record in self.store.rows("Job")]}

    def job_shown(self, record):
        return self.jobs.shown(record)

    async def steer_job(self, name, query, told):
        """{"do": "finish"}, "hold", "expire", or "fail" with an error and details."""
        if not self.store.peek("Job", name):
            raise ControlError(404, f"no job {name}")
        name = self.store.spelling(name, ["Job"])
        what, error = read_steering(told, self.cloud.catalogue.errors)
        over = name not in self.jobs.running or (what == "hold" and name in self.jobs.ended)
        if over and what != "expire":
            raise ControlError(409, f"job {name} is {'lost' if self.store.peek('Job', name)['state'] == 'lost' else 'over'}")
        if what == "finish" and self.jobs.waits(name):
            raise ControlError(409, f"job {name} waits for another one on the same object", "finish that one first: GET /zmock/jobs")
        record = self.job_shown(self.store.get("Job", name))
        self.jobs.control(name, what, error)
        await self.clock.settle()
        await self.store.commit()
        left = self.store.peek("Job", name)  # none where it was to expire, by hand or by a rule
        return self.job_shown(left) if left else record | {"state": "expired"}

    async def calls(self, name, query, told):
        fits = journal_filter(query)
        return {"calls": [entry.shown() for entry in self.rest.journal if fits(entry)], "dropped": self.rest.dropped}

    async def drop_calls(self, name, query, told):
        self.rest.forget_calls()
        return {"calls": [], "dropped": 0}

    async def queryable(self, name, query, told):
        """What a query on a collection can name; ?at=vmNics.eip says it for a level below."""
        row, queries = self.collection(name), self.cloud.queries
        for step in filter(None, query.get("at", "").split(".")):
            if step not in row.relations:
                raise ControlError(404, f"{row.name} has no relation {step}{did_you_mean(step, row.listed)}", f"there are {', '.join(row.listed) or 'none'}")
            row = queries.beyond(row, step)
        return queries.queryable(row)

    def collection(self, path):
        """The resource of a collection, "vm-instances"."""
        collections = self.cloud.catalogue.collections
        if path not in collections:
            raise ControlError(404, f"no collection {path or 'is named'}{did_you_mean(path, collections)}", f"there are {', '.join(sorted(collections))}")
        return collections[path]

    async def explain(self, name, query, told):
        """?path=/vm-instances&q=...: what each condition keeps, of what those before it left, and the index that helped."""
        if not query.get("path"):
            raise ControlError(400, "explain needs a collection: ?path=/vm-instances&q=state=Running")
        row = self.collection(re.sub("^(/zstack)?/v1", "", query["path"]).strip("/"))
        try:
            asked, unread = read_query([pair for pair in query.items() if pair[0] != "path"], self.cloud.dialect)
            told = self.cloud.accounts.queries_on(row.name).explain(asked, row)
        except ApiError as error:
            raise ControlError(400, error.details, error.hint) from None
        for name in unread:
            raise ControlError(400, other_key(name, row.all_fields, self.cloud.dialect))
        return told

    async def list_snapshots(self, name, query, told):
        return {"snapshots": await self.on_disk(self.snapshots.names)}

    async def snapshot(self, name, query, told):
        documents = await self.snapshot_documents(name)
        return {"name": name, "objects": {type: len(items) for type, items in documents.items() if items and type != "Mock"}}

    async def snapshot_documents(self, name):
        try:
            async with self.copying:
                self.must_be_there(name)
                return await asyncio.to_thread(self.snapshots.documents, name)
        except (Broken, OSError) as error:
            raise ControlError(409, f"cannot read {error}", "mend that file, or take the snapshot anew") from None

    def must_be_there(self, name):
        if self.safe(name) not in self.snapshots.names():
            raise ControlError(404, f"no snapshot {name!r}{did_you_mean(name, self.snapshots.names())}")

    @staticmethod
    def safe(name):
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
            raise ControlError(400, f"{name[:80]!r} is no name for a snapshot", "letters, digits, - _ and ., 64 at most, not beginning with .")
        return name

    async def take_snapshot(self, name, query, told):
        """A copy of all that there is now, in the place of one of that name."""
        documents = self.with_time(self.store.image().documents)
        await self.on_disk(self.snapshots.take, self.safe(name), documents)
        return {"name": name, "objects": {type: len(items) for type, items in documents.items() if items and type != "Mock"}}

    def with_time(self, documents):
        """Return a state in which the mock's own item says what time it is."""
        told = {"clock": self.clock.kept()}
        return documents | {"Mock": {number: frozen(mock | told) for number, mock in documents["Mock"].items()}}

    async def drop_snapshot(self, name, query, told):
        await self.on_disk(self.drop_one, name)
        return {}

    def drop_one(self, name):
        self.must_be_there(name)
        self.snapshots.drop(name)

    async def on_disk(self, work, *arguments):
        """Use the folder of snapshots in a thread. Raise ControlError if that cannot be."""
        try:
            async with self.copying:
                return await asyncio.to_thread(work, *arguments)
        except ControlError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise ControlError(503, f"cannot read or write the snapshots: {reason}") from error

    async def restore(self, name, query, told):
        """Back to a snapshot; what was under way then is not any more, as after a restart."""
        documents = await self.snapshot_documents(name)
        try:
            self.go_back(documents, f"the snapshot {name}")
        except SettingsError as error:
            raise ControlError(409, str(error)) from None
        await self.store.commit()
        return await self.health(name, query, told)

    async def wait(self, name, query, told):
        """Answers when `count` calls were made, or so many items satisfy the conditions; 408 after `timeout` seconds."""
        seconds = whole_number(query, "timeout", 10, 600)
        if "q" in query or (query.get("path") and "api" not in query):
            found, hints = self.items_of(query)
            return await self.watch.until(found, seconds, hints)
        if "api" not in query:
            raise ControlError(400, "what is waited for? ?api=CreateVmInstance&count=2, or ?path=/vm-instances&q=name=web-1")
        try:
            self.faults.named(query["api"])
        except ValueError as error:
            raise ControlError(400, str(error)) from None
        fits, count = journal_filter(query, ("count", "timeout")), whole_number(query, "count", 1, self.rest.journal.maxlen)

        def made():
            found = [entry.shown() for entry in self.rest.journal if fits(entry)]
            return {"calls": found, "dropped": self.rest.dropped} if len(found) >= count else None

        return await self.watch.until(made, seconds)

    def items_of(self, query):
        """Return a function of the inventories that satisfy a query, and hints on the query.

        The function returns None if they are too few, or if there are any for count=0.
        """
        for key in query.keys() - {"path", "q", "count", "timeout"}:
            raise ControlError(400, f"items are waited for by path, q, count and timeout, not {key!r}{did_you_mean(key, ('path', 'q', 'count', 'timeout'))}")
        path = "/" + re.sub("^(/zstack)?/v1", "", query.get("path", "")).strip("/")
        api = next((api for api, _ in self.cloud.catalogue.route(path) if api.kind == "Query" and self.cloud.simulated(api)), None)
        if not api:
            raise ControlError(404, f"no collection {path}{did_you_mean(path, ['/' + known for known in self.cloud.catalogue.collections])}")
        count = whole_number(query, "count", 1, 1_000_000)

        def ask(look):
            try:
                asked, _ = read_query([("q", text) for text in query.getall("q", ())], self.cloud.dialect)
                asked = replace(asked, with_count=True)
                return look(asked, self.cloud.accounts.queries_on(api.type))
            except ApiError as error:
                raise ControlError(400, error.details, error.hint) from None

        def there():
            found = ask(lambda asked, queries: self.cloud.query(api, asked, queries))
            return found if (found["total"] >= count if count else not found["total"]) else None

        row = self.cloud.catalogue.resource(api.type)
        there()  # refuses what is no query
        return there, ask(lambda asked, queries: queries.doubts(asked, row))

    async def events(self, name, query, told):
        """A stream of server-sent events: call, job, state, fault."""
        return STREAM

    async def openapi(self, name, query, told):
        return Contract(self.cloud).document("")

    async def list_incidents(self, name, query, told):
        lasting = self.cloud.incidents.values()
        return {"incidents": [incident.shown(self.clock) for incident in lasting]}

    async def add_incident(self, name, query, told):
        """{"host-down": "host-1"} and others: something goes wrong, until the incident is ended or ends by itself."""
        try:
            incident = strike(self.cloud, told)
        except ValueError as error:
            raise ControlError(404 if isinstance(error, Unknown) else 400, str(error)) from None
        await self.store.commit()
        return incident.shown(self.clock)

    async def end_incident(self, name, query, told):
        if name not in self.cloud.incidents:
            raise ControlError(404, f"no incident {name!r}{did_you_mean(name, self.cloud.incidents)}")
        end_incident(self.cloud, name)
        await self.store.commit()
        return {}


# ---- Catalogue: checks ---------------------------------------------------------------------------------------------


def checked(catalogue, file):
    """Return the catalogue. Raise SettingsError for the first row that uses a word that is none, with the row and the clause."""
    for row in catalogue.structs.values():
        for name, kind in row.fields.items():
            for _, why in unknown(kind, SCHEMAS, "type of a field"):
                raise SettingsError(f"{file}: struct {row.name}, '{name}:{kind}': {why}")
    for kind, rows, faults_of in (("inventory", catalogue.resources, faults_of_resource), ("API", catalogue.apis, faults_of_api),
                                  ("configuration", catalogue.configurations, faults_of_configuration)):  # fmt: skip
        for row in rows.values():
            with about_row(file, row.name):
                for clause, why in faults_of(catalogue, row):
                    raise SettingsError(f"{file}: {kind} {row.name}, {clause!r}: {why}")
    return catalogue


def unknown(word, words, what):
    """Yield nothing for a known word, else the word and why it is wrong."""
    if word not in words:
        yield word, f"there is no {what} {word!r}{did_you_mean(word, words)}"


def faults_of_api(catalogue, api):
    """Yield the clauses of a row of an API that mean nothing, each with the reason."""
    yield from unknown(api.backing, ("manual", "server", "generic", "none"), "backing")
    yield from unknown(api.caller, ("", "admin"), "caller")
    yield from unknown(api.long, ("", "always", "possible", "cancellable"), "kind of long job")
    if not re.fullmatch(r"(GET|POST|PUT|DELETE) /[\w{}/.-]*", api.call):
        yield api.call, "a call is a method and a path, as GET /zones"
    for text in api.takes:
        if not PARAM.fullmatch(text):  # Param.read() is slow, and a start is not
            yield text, "it is no parameter; one is written name:type! and constraints, as in cpuNum:int! 1..1024 =2"
    if api.kind == "Query" and not re.fullmatch(r"inventories:\w+", api.answers):
        yield api.answers, "a query answers inventories of a resource, as inventories:Zone"
    if api.backing != "none":  # else nothing reads the rest of its row
        yield from faults_of_simulated(catalogue, api)


def faults_of_simulated(catalogue, api):
    for text in api.takes:
        for type in re.findall(r" @(\w+)", text):
            yield from ((text, why) for _, why in unknown(type, {*catalogue.resources, "Resource"}, "resource"))
    for _, type in re.findall(r"(\w+):(\w+)", api.answers):
        if type not in catalogue.structs:
            yield from unknown(type, catalogue.resources, "resource")
    known = {*(re.match(r"\w+", text)[0] for text in api.takes), *fields_known(catalogue, api.type)}
    for name in re.findall(r"\{(\w+)\}", api.path):
        yield from unknown(name, known, "parameter")
    if api.refuses or api.does or api.only or api.whether:
        known |= fields_known(catalogue, api.subject.refers if api.subject else "")
    for clause in api.refuses:
        if len(clause) != 3:
            yield " | ".join(clause), "a refusal is a condition, an error code and a text"
            return
        condition, code, text = clause
        yield from unknown(code, catalogue.errors, "error code")
        yield from faults_of_condition(catalogue, condition, known)
        yield from ((text, why) for word in re.findall(r"\{([\w.]+)\}", text) for _, why in unknown_name(word, known))
    if not (api.name in BEHAVIOURS or verb_of(api)):
        yield "; ".join(api.does), "nothing does what the API is for"
    yield from faults_of_get(catalogue, api, known)
    yield from faults_of_effects(catalogue, api.does, known)


PARAM = re.compile(rf"\w+(:({'|'.join(READERS)}))?!?( ([<>]=\d+|\{{\S+\}}|/\S+/|-?\d+\.\.\d+(bytes)?|@\w+(\?(any)?)?|=\S*|nonempty|nonblank|verbatim|used|changed))*")
CONSTANTS = {"its", "caller", "now", "configured"}  # names that mean something in each row


@functools.lru_cache(4096)
def fields_known(catalogue, type):
    """Return the names that rows may use for what an item of a type has."""
    row = catalogue.resource(type)
    if not row:
        return frozenset()
    return frozenset({*row.all_fields, *catalogue.resources[row.stored].all_fields, *row.new, *row.leads, *BEHIND, *row.indexes})


def unknown_name(word, known):
    name = word.partition(".")[0]
    if name not in known and name not in CONSTANTS:
        yield word, f"there is no parameter or field {name}{did_you_mean(name, known)}"


def faults_of_condition(catalogue, condition, known):
    """Yield what is wrong with a condition: names that are neither parameters nor fields, types that are none."""
    for kind, left, right in read_rule(condition):
        words = [] if kind.endswith("item") else [left, *right]
        if kind.endswith("item"):
            yield from ((condition, why) for _, why in unknown(left, catalogue.resources, "resource"))
            words = [word for _, word in right]
        for name in (part for word in words for part in word.split("|") if part and is_name(part)):
            yield from ((condition, why) for _, why in unknown_name(name, known))


def faults_of_effects(catalogue, does, known):
    """Yield the clauses that are no effects, or that name what there is not."""
    for clause in does:
        if clause == "prepared" or STAGE.fullmatch(clause):
            continue
        condition, _, inner = clause.removeprefix("when ").partition(": ") if clause.startswith("when ") else ("", "", clause)
        if condition:
            yield from faults_of_condition(catalogue, condition, known)
        if infix := re.fullmatch(r"(\S+) ([?]?=|[+-]) (\S+)", inner):
            yield from ((clause, why) for _, why in unknown_name(infix[1].removeprefix("its."), known))
        try:
            read_effects((inner,))
        except ValueError as error:
            yield clause, str(error)
        word, _, rest = inner.partition(" ")
        if inner not in EFFECTS and word in ("add", "drop"):
            yield from ((clause, why) for _, why in unknown(rest.partition(" ")[0], catalogue.resources, "resource"))


def faults_of_get(catalogue, api, known):
    """Yield what is wrong with what a Get answers by its row."""
    conditions = [api.whether] if isinstance(api.whether, str) else [*api.whether.values()]
    for condition in (*api.only, *filter(None, conditions)):
        yield from faults_of_condition(catalogue, condition, known)
    if api.sums:
        yield from unknown(api.sums, catalogue.resources, "resource")
    for member in api.tells:
        yield from ((member, why) for _, why in unknown(parts_of_member(member)[1], TAG_TYPES, "type of what a tag says"))


def faults_of_resource(catalogue, row):
    """Yield the clauses of a row of an inventory that mean nothing, each with the reason."""
    for name, kind in row.all_fields.items():
        yield from ((f"{name}:{kind}", why) for _, why in unknown(kind, JSON_TYPES, "type of a field"))
    for name in row.embeds:
        yield from unknown(name, row.relations, "relation")
    for word in (*row.dies_with, *row.outlives):
        for type in word.partition(",")[0].partition(":")[2].split("|"):
            yield from ((word, why) for _, why in unknown(type, {*catalogue.resources, ""}, "resource"))
    yield from faults_of_effects(catalogue, row.ends, fields_known(catalogue, row.name))


def faults_of_configuration(catalogue, row):
    """Yield what is wrong with the row of a global configuration."""
    yield from unknown(row.type, CONFIGURED, "type of a configuration")


# ---- App ---------------------------------------------------------------------------------------------------------

IN_TESTS: dict[str, Any] = {"port": 0, "memory": True, "delay": "0", "clock": "frozen"}
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)  # what objects that somebody edited may bring about
REST = web.AppKey("rest", Rest)
CONTROL = web.AppKey("control", Control)


CATALOGUE_FILE = Path(__file__).parent / "data" / "catalogue.json"  # in the source tree as in an installation


@functools.cache
def catalogue():
    """All rows, read and checked once in a process: nothing changes them."""
    rows = Catalogue(CATALOGUE_FILE)
    return checked(rows, CATALOGUE_FILE) if CATALOGUE_FILE.exists() else rows


def create_app(settings: Settings | None = None) -> web.Application:
    """The whole mock as an aiohttp application; nothing is shared with another one. Without settings: as in tests."""
    settings = copy.copy(settings or Settings(**IN_TESTS))  # a reset to another cloud changes its own
    cloud = new_cloud(settings, catalogue())
    rest = Rest(settings, cloud, cloud.jobs, Faults(cloud), deque(maxlen=settings.journal))
    start = functools.partial(start_again, rest)
    control = Control(rest, start, functools.partial(go_back, rest))
    cloud.clock.guards.append(functools.partial(mind_schedules, cloud))
    follow, keep = functools.partial(follow_dates, cloud), functools.partial(keep_ends, rest)
    cloud.clock.moved += [cloud.jobs.shift, follow, keep]
    with cloud.store.released_on_failure():
        try:
            load_kept(rest, start)
        except UNUSABLE as error:
            if settings.memory:
                raise
            raise SettingsError(f"{settings.data} holds what zmock cannot use ({error!r}); mend it, or choose another --data") from None
        rest.faults.must_read()
    control.snapshots.tidy_if_possible()
    app = web.Application(client_max_size=settings.body_limit, handler_args={"auto_decompress": False})  # unpack() says what is wrong
    app[CLOUD], app[REST], app[CONTROL] = cloud, rest, control
    app.router.add_route("*", "/zmock", control.answer)
    app.router.add_route("*", "/zmock/{rest:(?s:.*)}", control.answer)  # (?s:) for a path may hold a line break
    app.router.add_route("*", "/{rest:(?s:.*)}", rest.answer)
    app.on_response_prepare.append(without_content_type)
    app.cleanup_ctx.append(functools.partial(lifetime, cloud))
    return app


@dataclass
class Start:
    """A cloud as it was made, when and from which state of its file; a reset puts it back."""

    cloud: str
    moment: float
    stamp: tuple | None
    image: Image
    random: tuple
    cursors: dict

    def is_of(self, cloud, now):
        """Return True if a reset to that cloud can put this back: not too old, and its file unchanged."""
        fresh = self.cloud == cloud and 0 <= now - self.moment < FRESH
        return fresh and self.stamp == stamp_of_cloud(cloud)


def stamp_of_cloud(what):
    return file_stamp(what) if is_cloud_file(what) else None


FRESH = 600  # seconds; after that a reset makes the cloud anew, for the sake of its dates


def start_again(rest):
    """The cloud that --cloud names, as at the start; rules as the files say; the journal empty."""
    forget_all(rest)
    cloud, start, now = rest.cloud, rest.start, rest.clock.now()
    if start and start.is_of(rest.settings.cloud, now):
        cloud.store.put_back(start.image)
        cloud.random.setstate(start.random)
        cloud.cursors = dict(start.cursors)
    else:
        cloud.store.clear()
        stamp, served = stamp_of_cloud(rest.settings.cloud), {name: getattr(rest.settings, name) for name in MADE_WITH}
        fill(cloud, rest.settings.cloud)
        rest.made = rest.made or served | {"cloud": named_anywhere(rest.settings.cloud)}
        cloud.store.put("Mock", {"uuid": "mock", "starts": 0} | served | facts_of(rest))
        rest.start = Start(rest.settings.cloud, now, stamp, cloud.store.image(), cloud.random.getstate(), dict(cloud.cursors))
        cloud.store.say_whole(rest.start.image)
    expunge_all_later(cloud)
    if rest.settings.cloud == "demo":
        set_going(cloud)
    plan_all(cloud)
    read_rules(rest)
    sweep_on(rest)


def forget_all(rest):
    """Nothing is under way, nothing is due, and nobody has called."""
    rest.jobs.clear()
    rest.standing.clear()
    rest.cloud.clear()
    rest.clock.mode = rest.settings.clock
    rest.clock.restart()
    rest.forget_calls()
    rest.faults.clear()


MADE_WITH = ("cloud", "seed")  # settings that fill an empty folder only


def named_anywhere(cloud):
    """Return what --cloud names so that it means the same in every folder."""
    return os.path.abspath(cloud) if is_cloud_file(cloud) else cloud


def facts_of(rest):
    return {"format": FORMAT, "version": __version__, "dialect": rest.settings.dialect, "made": rest.made}


KEPT_FACTS = {
    "format": (lambda value: type(value) is int, "whole number"),
    "starts": (lambda value: type(value) is int, "whole number"),
    "cloud": (lambda value: type(value) is str, "text"),
    "seed": (lambda value: type(value) is int, "whole number"),
    "made": (lambda value: isinstance(value, dict), "map of the settings that the folder was made with"),
    "clock": (is_clock, "clock such as {\"mode\": \"frozen\", \"offset\": 0, \"at\": 1532000000}"),
}


def load_kept(rest, start):
    """The cloud that the folder keeps, or a new one where it keeps none."""
    store = rest.cloud.store
    store.open()
    kept = {name: table.items for name, table in store.tables.items() if table.items}
    if not kept:
        start()
        return
    refuse_unusable(rest, kept, store.folder.path)
    record = store.get("Mock", "mock") or {}
    rest.made = record.get("made") or {name: record[name] for name in MADE_WITH if name in record}
    mind_settings(rest.settings, rest.made)
    take_up(rest, store.folder.unspared)


def mind_settings(settings, made):
    """Refuse a flag that differs from what the folder was made with; warn of such a variable."""
    for name in MADE_WITH:
        wanted, source = getattr(settings, name), settings.sources.get(name, "")
        if not source or (name in made and is_made_with(name, wanted, made[name])):
            continue
        given = f"{source}{'=' if source.startswith('ZMOCK_') else ' '}{wanted}"
        if name in made and not source.startswith("ZMOCK_"):
            what = f"{settings.data} keeps a cloud made with --{name} {made[name]}, not {given}"
            cure = "leave it out, choose another --data, or remove the folder"
            raise SettingsError(f"{what}; {cure}")
        known = f"made with --{name} {made[name]}" if name in made else f"that does not say with which --{name} it was made"
        log.warning("%s keeps a cloud %s; %s is for an empty folder", settings.data, known, given)


def is_made_with(name, wanted, made):
    """Return True if a setting is the one that the folder was made with; a file may be named from another folder."""
    if name == "cloud":
        return os.path.abspath(wanted) == os.path.abspath(made)
    return wanted == made


def refuse_unusable(rest, kept, where):
    """Refuses a state, {type: {key: item}}, that no zmock, or only a newer one, has written; objects may have anything else wrong."""
    for type in {type for type, items in kept.items() if items} - rest.cloud.store.indexes.keys() - OWN_TYPES:
        raise SettingsError(f"{where} holds {type}.json, which is no file of a cloud; move it away")
    for item in kept.get("Mock", {}).values():
        for name, (fits, meant) in KEPT_FACTS.items():
            if name in item and not fits(item[name]):
                raise SettingsError(f"{where} holds a Mock.json in which {name!r} is no {meant}: {json.dumps(item[name], ensure_ascii=False)[:80]}; mend it")
        if item.get("format", 0) > FORMAT:
            raise SettingsError(f"{where} was written by a newer zmock (format {item['format']}); use that one, or another --data")
    if not kept.get("ManagementNode"):
        raise SettingsError(f"{where} holds only a part of a cloud: no management node; put its file back, or choose another --data")


def take_up(rest, edited):
    """Goes on with the cloud that is in the store: what was under way is not any more, a moved clock is where it would be."""
    store, settings = rest.cloud.store, rest.settings
    kept = {"uuid": "mock", "seed": settings.seed} | (store.get("Mock", "mock") or {})
    settings.cloud, settings.seed = kept.get("cloud", settings.cloud), kept["seed"]
    starts = kept.get("starts", 0) + 1
    store.put("Mock", kept | facts_of(rest) | {"starts": starts})
    if "clock" in kept:
        rest.clock.take_up(kept["clock"])
    rest.cloud.random = random.Random(f"{rest.settings.seed}/{starts}")  # new uuids are new
    for line in look_over(rest.cloud, edited):
        store.report(line)
    for record in [r for r in store.rows("Job") if r["state"] == "running"]:
        store.update("Job", record["uuid"], state="lost")  # a restart leaves them processing for ever (MysqlAsyncRestStore.java)
    read_rules(rest)
    recover(rest.cloud)
    sweep_on(rest)


def go_back(rest, documents, where):
    """The state of a snapshot, as if it had been loaded at a start; a cloud beside this one goes first, lest anything be lost."""
    refuse_unusable(rest, documents, where)
    settings = replace(rest.settings, memory=True)
    beside = new_cloud(settings, rest.cloud.catalogue)
    beside.store.report = lambda line: None  # all is told when it is done
    try:
        put_on(Rest(settings, beside, beside.jobs, Faults(beside), deque(maxlen=0)), documents)
    except UNUSABLE as error:
        raise SettingsError(f"{where} holds what zmock cannot use ({error!r}); mend it, or take it anew") from None
    forget_all(rest)
    put_on(rest, documents)


def put_on(rest, documents):
    rest.cloud.store.put_back(Image(documents))
    rest.cloud.store.found.clear()
    take_up(rest, documents.keys())


def sweep_on(rest):
    """Forgets what is over, every now and then: sessions and job records."""

    def sweep():
        sweep_on(rest)  # first, lest a sweep that fails be the last one
        rest.cloud.accounts.sweep()
        rest.jobs.sweep()

    rest.clock.after(rest.jobs.scan_interval, sweep)


def keep_ends(rest, seconds):
    """Keep when each rule ends, as dates are now: a ttl goes on after a restart."""
    store, clock = rest.cloud.store, rest.clock
    for rule in [rule for rule in rest.faults.rules if rule.timer and store.peek("Rule", rule.id)]:
        store.update("Rule", rule.id, ends=clock.due_date(rule.timer))


def read_rules(rest):
    """The rules of the files, and those that a call made."""
    rest.faults.reread()
    for kept in [*rest.cloud.store.rows("Rule")]:
        try:
            rest.faults.add({name: value for name, value in kept.items() if name not in ("uuid", "ends")}, ends=kept.get("ends"))
        except ValueError as error:
            rest.cloud.store.report(f"the rule {kept['uuid']} is not in force: {error}")


async def without_content_type(request, response):
    """The server sends none (RestServerController.java), and aiohttp always adds one."""
    if CLOUD in request.app and not request.app[CLOUD].dialect["response-headers"] and not request.path.startswith("/zmock"):
        response.headers.popall("Content-Type", None)


async def lifetime(cloud, app):
    cloud.clock.start()
    with cloud.store.released_on_failure():
        try:
            await cloud.store.commit()
        except ApiError as error:
            cloud.clock.stop()
            raise SettingsError(f"{error.details}; make room there, or choose another folder with --data, or --memory") from None
    cloud.store.start()
    yield
    cloud.clock.stop()
    await cloud.jobs.close()
    await cloud.store.rest()
    cloud.store.close()


# ---- Sockets ---------------------------------------------------------------------------------------------------------

LONGEST_LINE = 1 << 16  # bytes of a URL or header: q=uuid?=... grows long
server_log = logging.getLogger("zmock.http")


@server_log.addFilter
def in_one_line(record):
    """Broken HTTP is the client's own fault: a line in the log, no traceback."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, (aiohttp.http_exceptions.HttpProcessingError, web.RequestPayloadError)):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
        record.msg, record.args = "refused broken HTTP: %s", (" ".join(str(error).split()),)
        return server_log.isEnabledFor(logging.INFO)
    return True


def address(host, port):
    """Where a client on this machine finds what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # as for ::1 on a machine without IPv6
PORT_TRIES = 20  # a port that is free at one address may be taken at the next


def listen(host, port):
    """Return the listening sockets of a host: one for each of its addresses, all on the same port.

    Raise SettingsError if that is not possible.
    """
    try:
        return listen_on(addresses_of(host), port)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        wrong_host = isinstance(error, socket.gaierror) or getattr(error, "errno", 0) in NOT_HERE
        cure = "choose another --host" if wrong_host else "choose another --port, or 0 for a free one"
        raise SettingsError(f"cannot listen on {place}: {reason}; {cure}") from None


def addresses_of(host):
    """Return the addresses of a host: "localhost" -> ["127.0.0.1", "::1"], whatever the machine's own table says."""
    if host == "localhost":
        return ["127.0.0.1", "::1"]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(name[0] for *_, name in found))


def listen_on(addresses, port):
    """Return a listening socket for each address. A free port that is taken at one of them is drawn again."""
    for _ in range(0 if port else PORT_TRIES):
        try:
            return take_port(addresses, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return take_port(addresses, port)


def take_port(addresses, port):
    """Return a listening socket for each address that this machine has; OSError if it has none, or the port is taken."""
    listening, failure = [], None
    with contextlib.ExitStack() as undo:
        for host in addresses:
            try:
                listening.append(undo.enter_context(listen_at(host, port)))
                port = listening[0].getsockname()[1]
            except OSError as error:
                failure = error
                if error.errno not in NOT_HERE:
                    raise
        if not listening:
            raise failure
        undo.pop_all()
    return listening


def listen_at(host, port):
    """Return a listening socket; at "::" it takes IPv4 too, where the machine can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)


def shut(connection):
    """Shut a socket down for all processes: a child that was forked holds it too, so that close() alone ends nothing."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


LONGEST_WAIT = 300  # seconds of the world's time for an answer
AS_TYPED = "!#$%&'()*+,/:;=?@[]~"  # what stays as it is in the address of a request


async def exchange(method, url, headers, body, idle=None):
    """Send one HTTP request: (status, text). There are no retries, redirects or cookies.

    HTTP libraries retry, and tests patch them. This one stands below them all. `idle` is a list of
    connections of earlier requests: one that is still open is used again, and is idle afterwards.
    """
    place = urllib.parse.urlsplit(url)
    target = urllib.parse.quote(url[url.index(place.netloc) + len(place.netloc) :], safe=AS_TYPED)
    ends = "close" if idle is None else "keep-alive"
    defaults = {"Host": place.netloc, "User-Agent": f"zmock/{__version__}", "Accept": "*/*"}
    head = with_defaults(headers, defaults | {"Connection": ends, "Content-Length": len(body)})
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            reader, writer = await connection_to(place, idle)
            try:
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                status, text, stays = await read_answer(method, reader)
            except BaseException:
                writer.close()
                raise
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, http.client.HTTPException) as error:
        raise aiohttp.ClientOSError(f"{method} {url}: {error or type(error).__name__}") from error
    if stays and idle is not None:
        idle.append((reader, writer))
    else:
        writer.close()
    return status, text


async def connection_to(place, idle):
    """Return (reader, writer) of an idle connection that is still open, or of a new one."""
    if idle:
        await one_turn()  # the loop sees what the mock has closed
    while idle:
        reader, writer = idle.pop()
        if not (reader.at_eof() or reader.exception() or writer.is_closing()):
            return reader, writer
        writer.close()
    return await asyncio.open_connection(place.hostname, place.port)


def with_defaults(headers, defaults):
    """Return headers with defaults for those that are not there, in whatever case."""
    there = {name.lower() for name in headers}
    return {name: value for name, value in defaults.items() if name.lower() not in there} | headers


async def read_answer(method, reader):
    """Return the status and the text of an HTTP answer, and True if its connection may be used again.

    Raise EOFError or HTTPException if it is empty, cut short or broken.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    status = re.fullmatch(r"HTTP/1\.\d (\d{3})( .*)?", first)
    if not status:
        raise http.client.BadStatusLine(first)
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    octets, stays = await read_content(method, int(status[1]), fields, reader)
    charset = re.search(r"charset=([\w-]+)", fields.get("content-type", ""))
    text = octets.decode(charset[1] if charset else "utf-8", "replace")
    return int(status[1]), text, stays and fields.get("connection", "").lower() != "close"


async def read_content(method, status, fields, reader):
    """Return the content of an answer, and True if its end is not that of the connection."""
    if method == "HEAD" or status in (204, 304):
        return b"", True
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return await read_chunks(reader), True
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"])), True
    return await read_to_end(reader), False


async def read_chunks(reader):
    octets = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        octets += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # a trailer
    return octets


async def read_to_end(reader):
    """Return what comes until the connection ends, however it ends: a reset may follow a whole answer."""
    octets = bytearray()
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1 << 16):
            octets += part
    return octets


# ---- Fixtures: the handle ------------------------------------------------------------------------------------------

MOST_REPORTED = 50  # calls of a failed test

NO_LOOP = "zmock runs on asyncio, and no asyncio loop runs here, as under trio; `with serve() as mock` brings its own"
ONE_LOOP = "use zmock_server, or the same loop_scope for the test and its fixtures"


def loop_here():
    """Return the running event loop; RuntimeError in one line where there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(NO_LOOP) from None


def answer_or_raise(body):
    """An answer's body; RuntimeError where it is an error."""
    if isinstance(body, dict) and "error" in body:
        raise RuntimeError("{code}: {details}".format(**body["error"]))
    return body


class Mock:
    """A running mock as a test holds it: `async with serve(cloud="empty") as mock`, or the fixture `zmock`.

    `with serve() as mock` runs it in a thread, and gives its handle for code that awaits nothing.
    """

    def __init__(self, settings: Settings, rules: Sequence[dict[str, Any]] = ()) -> None:
        self.app = create_app(settings)
        self.cloud, self.rest, self.control = self.app[CLOUD], self.app[REST], self.app[CONTROL]
        self.settings = self.cloud.settings
        self.runner = web.AppRunner(self.app, access_log=None, logger=server_log, shutdown_timeout=0.2, max_line_size=LONGEST_LINE, max_field_size=LONGEST_LINE)
        self.base, self.port = "", settings.port
        self.session: str | None = None
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []  # connections of earlier requests
        self.told, self.first_cloud = rules, self.settings.cloud  # what there is again after a reset
        self.listening: list[socket.socket] = []
        self.servers: list[asyncio.Server] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: LoopThread | None = None
        with self.cloud.store.released_on_failure():
            self.add_rules()

    @property
    def url(self) -> str:
        """Where the APIs are: http://127.0.0.1:PORT/zstack/v1."""
        if not self.base:
            raise RuntimeError("a mock has an address once it runs: async with serve() as mock, or with serve() as mock")
        return self.base + "/zstack/v1"

    # running

    async def __aenter__(self) -> Mock:
        if self.loop:
            raise RuntimeError("a mock runs once; serve() makes another one")
        self.loop = loop_here()
        with self.cloud.store.released_on_failure():
            self.listening = listen(self.settings.host, self.settings.port)
            try:
                await self.begin()
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def begin(self):
        self.port = self.listening[0].getsockname()[1]
        self.base = address(self.settings.host, self.port)
        self.rest.base = self.base
        await self.runner.setup()
        await self.accept(self.listening)

    async def __aexit__(self, *failure: object) -> None:
        self.deafen()
        for _, writer in self.idle:
            writer.close()
        await self.runner.cleanup()

    def __enter__(self) -> MockInThread:
        self.thread = thread = LoopThread()
        try:
            thread.run(self.__aenter__())
        except BaseException:
            thread.close()
            raise
        return MockInThread(self, thread)

    def __exit__(self, *failure: object) -> None:
        if self.thread:
            self.thread.run(self.__aexit__())
            self.thread.close()

    async def accept(self, listening):
        for each_socket in listening:
            if each_socket.fileno() != -1:  # down() may come meanwhile
                server = await self.loop.create_server(self.runner.server, sock=each_socket, start_serving=False)
                self.servers.append(server)
                await server.start_serving()

    def listens_at(self, target):
        """Return True if `target`, as connect() takes it, is an address of this mock, or may be one of its many."""
        places = [each_socket.getsockname()[:2] for each_socket in self.listening]
        return any(port == target[1] and host in (target[0], "0.0.0.0", "::") for host, port in places)

    def deafen(self):
        """Takes no more connections."""
        for each_socket in self.listening:
            shut(each_socket)
        for server in self.servers:
            server.close()
        for each_socket in self.listening:
            each_socket.close()
        self.listening, self.servers = [], []

    def down(self) -> None:
        """Gone, as a host without power: connections break, new ones are refused. The cloud stays as it is."""
        self.deafen()
        for connection in self.runner.server.connections if self.runner.server else ():
            if connection.transport:
                shut(connection.transport.get_extra_info("socket"))
                connection.transport.abort()

    def up(self) -> None:
        """Back, on the same port."""
        if not self.listening:
            self.listening = listen(self.settings.host, self.port)
            self.cloud.clock.spawn(self.accept(self.listening))

    # talking to it

    async def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send one request to the API, once: (status, body), the body as JSON, else as text, None if it is empty.

        Raise OSError (aiohttp.ClientOSError) where the connection is refused or breaks.
        """
        url = self.url + path
        self.must_run_here()
        defaults = {"Authorization": f"OAuth {self.session}"} if self.session else {}
        defaults |= {} if body is None else {"Content-Type": "application/json"}
        octets = b"" if body is None else json.dumps(body).encode()
        status, text = await exchange(method, url, with_defaults(headers or {}, defaults), octets, self.idle)
        return status, json.loads(text) if text[:1] in ("{", "[") else text or None

    def must_run_here(self):
        """Raise RuntimeError in an event loop in which this mock does not run: what is awaited there never comes."""
        if self.loop and asyncio.get_running_loop() is not self.loop:
            raise RuntimeError(f"this mock runs in another event loop, which stands still meanwhile; {ONE_LOOP}")

    async def login(self, name: str = "admin", password: str = "password") -> str:
        """The uuid of a new session; later calls of this handle use it."""
        hashed = hashlib.sha512(password.encode()).hexdigest()
        _, body = await self.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": name, "password": hashed}})
        self.session = answer_or_raise(body)["inventory"]["uuid"]
        return self.session

    async def finish(self, method: str, path: str, body: Any = None) -> Any:
        """A call to its end, polled, time moved as far as it takes; the body, or RuntimeError with what the mock said."""
        if not self.session:
            await self.login()
        status, answer = await self.request(method, path, body)
        while status == 202:
            await self.clock.settle()
            job = answer["location"].rpartition("/")[2]
            status, polled = await self.request("GET", f"/api-jobs/{job}")
            if status == 202:
                await self.clock.go_to(self.clock.now() + self.seconds_until(self.cloud.store.peek("Job", job)))
            else:
                answer = polled
        return answer_or_raise(answer)

    def seconds_until(self, record):
        """How long until something can become of a job; RuntimeError where nothing will, for it is held, lost, or waits for one that is."""
        state, now = self.cloud.jobs.shown(record)["state"], self.clock.now()
        due = self.cloud.jobs.due(record)
        awaited = (timer for timer in self.clock.timers if timer.fire and timer.awaited)
        moments = [due] if due > now else [self.clock.due_date(timer) for timer in awaited]
        if state in ("held", "lost") or not moments:
            raise RuntimeError(f"job {record['uuid']} is {state} and will not end by itself: POST /zmock/jobs/{record['uuid']}")
        return max(0, min(moments) - now)

    async def call(self, api: str, **params: Any) -> Any:
        """Any api by name, to its end: the body of its answer."""
        row = self.named(api)
        path = row.path.format(**{name: params.get(name, "") for name in re.findall(r"\{(\w+)\}", row.path)})
        sent = {name: value for name, value in params.items() if f"{{{name}}}" not in row.path}
        if row.method in ("GET", "DELETE"):
            pairs = [(f"{name}.{key}", one) for name, value in sent.items() if isinstance(value, dict) for key, one in value.items()]
            pairs += [(name, value) for name, value in sent.items() if not isinstance(value, dict)]
            return await self.finish(row.method, f"{path}?{urllib.parse.urlencode(pairs, doseq=True)}")
        return await self.finish(row.method, path, {row.key: sent})

    def named(self, api):
        """The row of an API; ValueError for a name that is none."""
        apis = self.cloud.catalogue.apis | {POLL_JOB.name: POLL_JOB}
        if api not in apis:
            raise ValueError(f"there is no API {api}{did_you_mean(api, apis)}")
        return apis[api]

    async def create(self, api: str, **params: Any) -> Inventory:
        """What a creation made: its inventory."""
        return (await self.call(api, **params))["inventory"]

    async def query(self, collection: str, *conditions: str) -> list[Inventory]:
        """The inventories of a collection that satisfy the conditions."""
        return (await self.finish("GET", f"/{collection}?" + urllib.parse.urlencode([("q", c) for c in conditions])))["inventories"]

    async def act(self, collection: str, uuid: str, action: str, **params: Any) -> Inventory:
        """An action on an object: its inventory, or what else the action answers."""
        body = await self.finish("PUT", f"/{collection}/{uuid}/actions", {action: params})
        return (body or {}).get("inventory", body)

    async def delete(self, collection: str, uuid: str) -> None:
        await self.finish("DELETE", f"/{collection}/{uuid}")

    # shaping it

    @property
    def clock(self) -> Clock:
        return self.cloud.clock

    async def advance(self, seconds: float) -> list[str]:
        """Let that much time pass; return what came due. Raise ValueError for what is no number from 0 to 1e9."""
        self.must_run_here()
        if not is_span(seconds):
            raise ValueError(f"advance() takes a number of seconds from 0 to 1e9, not {seconds!r}")
        return await self.clock.advance(seconds)

    def add_rules(self):
        for rule in self.told:
            self.rest.faults.add(rule)

    def rule(self, **rule: Any) -> Rule:
        """A new fault rule; ValueError for one that can never fire."""
        return self.rest.faults.add(rule)

    @property
    def rules(self) -> list[Rule]:
        return self.rest.faults.rules

    async def incident(self, told: dict[str, Any] | None = None, /, **kinds: Any) -> dict[str, Any]:
        """Something goes wrong: incident(host_down="host-1"), or {"host-down": "host-1"}; answers what it is, with its id."""
        struck = strike(self.cloud, told or {kind.replace("_", "-"): about for kind, about in kinds.items()})
        await self.cloud.store.commit()
        return struck.shown(self.clock)

    async def end_incident(self, id: str) -> None:
        end_incident(self.cloud, id)
        await self.cloud.store.commit()

    async def reset(self) -> None:
        """Back to the start: the cloud, the clock, the rules that were there then, no calls, no session."""
        self.session = None
        await self.control.reset("", {}, {"cloud": self.first_cloud})
        self.add_rules()

    # looking at it

    def calls(self, api: str | None = None) -> list[Entry]:
        """What its clients have asked, or of that what an API was asked."""
        wanted = None if api is None else self.named(api).name
        return [entry for entry in self.rest.journal if wanted in (None, entry.api)]

    def jobs(self) -> list[dict[str, Any]]:
        """The api-jobs, as GET /zmock/jobs shows them."""
        return [self.cloud.jobs.shown(record) for record in self.cloud.store.rows("Job")]

    def never_fired(self) -> list[Rule]:
        """The rules that no call has met, but for those that leave it to chance."""
        return [rule for rule in self.rules if not rule.hits and "probability" not in rule.told]

    def told_of(self) -> str:
        """What happened, in lines: the calls, the rules and how often they fired, the jobs that are not over."""
        calls, jobs = self.calls(), {job["uuid"]: job for job in self.jobs()}
        lines = [f"… {len(calls) - MOST_REPORTED} earlier calls"] * (len(calls) > MOST_REPORTED)
        for entry in calls[-MOST_REPORTED:]:
            lines.append(f"#{entry.seq} {entry.method} {entry.path}{'?' * bool(entry.query)}{entry.query}  {entry.api or 'no API'}  {entry.status}"
                         + (f"  job {entry.job} {jobs[entry.job]['state']}" if entry.job in jobs else "")
                         + (f"  {entry.rule}" if entry.rule else "") + (f"  ({'; '.join(entry.hints)})" if entry.hints else ""))  # fmt: skip
        lines += [f"{rule.id} fired {rule.hits} of {rule.matches} times: {json.dumps(rule.told, ensure_ascii=False)}" for rule in self.rules]
        lines += [f"not over: {job['api']}, job {job['uuid']} is {job['state']}, due {job['due'] or 'never'}; it is {iso(self.clock.now())}"
                  for job in jobs.values() if job["state"] not in OVER]  # fmt: skip
        return "\n".join(lines or ["no calls"])


FORKED = "this mock runs in the process that this one was forked from; use its address, or serve() makes another one"


class LoopThread:
    """A thread with an event loop of its own, for those who have none."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="zmock", daemon=True)
        self.thread.start()

    def run(self, coroutine):
        """What the coroutine returns, once it is done there."""
        if not self.thread.is_alive():
            coroutine.close()
            ended = self.loop.is_closed()
            raise RuntimeError("this mock has ended; serve() makes another one" if ended else FORKED)
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def call(self, function, *given, **told):
        """What the function returns, called between two steps of the loop."""

        async def called():
            return function(*given, **told)

        return self.run(called())

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class MockInThread:
    """The handle of a mock that runs in another thread: what Mock does, and nothing to await."""

    def __init__(self, mock: Mock, thread: LoopThread) -> None:
        self.mock, self.thread = mock, thread
        self.settings, self.base, self.url, self.clock = mock.settings, mock.base, mock.url, mock.clock

    @property
    def session(self) -> str | None:
        return self.mock.session

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        return self.thread.run(self.mock.request(method, path, body, headers))

    def login(self, name: str = "admin", password: str = "password") -> str:
        return self.thread.run(self.mock.login(name, password))

    def call(self, api: str, **params: Any) -> Any:
        return self.thread.run(self.mock.call(api, **params))

    def create(self, api: str, **params: Any) -> Inventory:
        return self.thread.run(self.mock.create(api, **params))

    def query(self, collection: str, *conditions: str) -> list[Inventory]:
        return self.thread.run(self.mock.query(collection, *conditions))

    def act(self, collection: str, uuid: str, action: str, **params: Any) -> Inventory:
        return self.thread.run(self.mock.act(collection, uuid, action, **params))

    def delete(self, collection: str, uuid: str) -> None:
        self.thread.run(self.mock.delete(collection, uuid))

    def advance(self, seconds: float) -> list[str]:
        return self.thread.run(self.mock.advance(seconds))

    def incident(self, told: dict[str, Any] | None = None, /, **kinds: Any) -> dict[str, Any]:
        return self.thread.run(self.mock.incident(told, **kinds))

    def end_incident(self, id: str) -> None:
        self.thread.run(self.mock.end_incident(id))

    def reset(self) -> None:
        self.thread.run(self.mock.reset())

    def rule(self, **rule: Any) -> Rule:
        return self.thread.call(self.mock.rule, **rule)

    @property
    def rules(self) -> list[Rule]:
        return self.mock.rules

    def calls(self, api: str | None = None) -> list[Entry]:
        return self.thread.call(self.mock.calls, api)

    def jobs(self) -> list[dict[str, Any]]:
        return self.thread.call(self.mock.jobs)

    def never_fired(self) -> list[Rule]:
        return self.mock.never_fired()

    def told_of(self) -> str:
        return self.thread.call(self.mock.told_of)

    def down(self) -> None:
        self.thread.call(self.mock.down)

    def up(self) -> None:
        self.thread.call(self.mock.up)


def as_setting(item, value):
    """The value of a setting as Settings hold it: a number or a path may stand for a text."""
    kind = type(item.default)
    if kind is str and isinstance(value, (int, float, Path)):
        return str(value)
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
        raise SettingsError(f"{item.name} is {a_noun(kind.__name__)}, not {value!r}")
    return value


def read_keywords(told):
    """(Settings, rules) from the keywords of serve(), or of the marker; what is not said is as in tests. `rules` are files, or rules themselves."""
    known = {item.name: item for item in fields(Settings)}
    for name in told.keys() - known.keys():
        raise SettingsError(f"there is no setting {name}{did_you_mean(name, known)}")
    rules = told.get("rules", ())
    rules = [rules] if isinstance(rules, (dict, str, Path)) else rules
    if not isinstance(rules, (list, tuple)) or not all(isinstance(rule, (dict, str, Path)) for rule in rules):
        raise SettingsError(f"rules is a list of rules, or of files with rules, not {rules!r}")
    files = tuple(rule for rule in rules if not isinstance(rule, dict))
    said = {name: as_setting(known[name], value) for name, value in told.items() if name != "rules"}
    if "data" in said:  # a folder is named to be used
        said = {"memory": False} | said
    return Settings(**IN_TESTS | said, rules=files), [rule for rule in rules if isinstance(rule, dict)]


def serve(**settings: Any) -> Mock:
    """A mock: `async with serve(dialect="server") as mock`, or `with` where nothing is awaited. Settings are those of the command line."""
    return Mock(*read_keywords(settings))


# ---- Fixtures ----------------------------------------------------------------------------------------------------

MARKER = ('zmock(cloud="empty", dialect="server", rules=[...], strict=False): settings of the fixtures zmock and zmock_server; '
          "where strict is False, a rule may stay unused")  # fmt: skip


class Threaded:
    """The mocks behind zmock_server, in one thread: one for each combination of settings, cleared whenever it is taken."""

    def __init__(self):
        self.thread, self.handles = LoopThread(), {}

    def take(self, told):
        """The handle of a mock with these settings, as new; one whose port it takes is down."""
        settings, rules = read_keywords(told)
        key = repr(settings)
        for other, handle in self.handles.items():
            if other != key and settings.port == handle.mock.port:
                handle.down()
        if key not in self.handles:
            mock = Mock(settings)
            self.thread.run(mock.__aenter__())
            self.handles[key] = MockInThread(mock, self.thread)
        handle = self.handles[key]
        handle.mock.told = rules
        handle.up()
        handle.reset()
        return handle

    def close(self):
        for handle in self.handles.values():
            self.thread.run(handle.mock.__aexit__())
        self.thread.close()


def told_by(request):
    """What zmock_settings and the markers of a test say, the nearest last."""
    told = dict(request.getfixturevalue("zmock_settings"))
    for marker in reversed([*request.node.iter_markers("zmock")]):
        if marker.args:
            raise SettingsError(f'the marker zmock takes keywords, zmock(cloud="empty"), not {marker.args[0]!r}')
        told |= marker.kwargs
    return told


LOOP_SCOPES = ("function", "class", "module", "package", "session")
NOT_ASYNC = "this test is not async, so that the event loop of zmock does not run in it; use zmock_server"
IN_UNITTEST = "unittest runs this test outside the event loop of zmock; use zmock_server, or serve() in the test"
ON_TRIO = "zmock runs on asyncio, this test on trio; use zmock_server"
RUN_BY_NONE = "nothing runs this async test; mark it with @pytest.mark.asyncio, or set asyncio_mode = auto"
BLOCKING = "a blocking client stops the event loop that zmock runs in; call it in asyncio.to_thread, or use zmock_server"
ELSEWHERE = f"the event loop of zmock stands still while this client waits in another one; {ONE_LOOP}"

if "pytest" in sys.modules:  # it is there before its plugins are; where it is not, nobody asks for fixtures
    import inspect
    import unittest

    import pytest

    MOCKS = pytest.StashKey[list]()  # (handle, strict) of those that a test uses
    IN_LOOPS = pytest.StashKey[set]()  # (thread, mock) of those that run in the loop of a test

    def pytest_configure(config):
        config.addinivalue_line("markers", MARKER)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(item):
        item.stash[MOCKS] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item):
        """A test that went well fails all the same where a rule never fired: what it was about has not happened."""
        outcome = yield
        for mock, strict in item.stash.get(MOCKS, ()):
            if strict and mock.never_fired():
                rules = "".join(f"\n  {rule.id}, matched {counted(rule.matches, 'time')}: {json.dumps(rule.told, ensure_ascii=False)}" for rule in mock.never_fired())
                pytest.fail(f"no call has met these rules of zmock:{rules}\n(@pytest.mark.zmock(strict=False) lets them stay unused)", pytrace=False)
        return outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item, call):
        """What happened in the mocks of a test that failed is a section of its report."""
        report = yield
        if report.failed and report.when != "teardown":
            report.sections += [("zmock", mock.told_of()) for mock, _ in item.stash.get(MOCKS, ())]
        return report

    def taken(request, take):
        """The handle that take(settings) gives; the test fails, in a line, where it is asked for what is not possible."""
        wrong = ""
        try:
            told = told_by(request)
            strict = told.pop("strict", True)
            mock = take(told)
        except (SettingsError, ValueError) as error:
            wrong = f"zmock: {error}"
        if wrong:
            pytest.fail(wrong, pytrace=False)
        request.node.stash[MOCKS].append((mock, strict))
        return mock

    @pytest.fixture
    def zmock_settings():
        """Settings for zmock and zmock_server; override it in a module, a class or a conftest."""
        return {}

    @pytest.fixture(scope="session")
    def zmock_thread():
        """Where zmock_server runs: once in a worker. Without an event loop of the tests, so that it may last for the session."""
        threaded = Threaded()
        yield threaded
        threaded.close()

    @pytest.fixture
    def zmock_server(request, zmock_settings, zmock_thread):
        """A mock for tests that await nothing: one in a worker, cleared for each test; in memory, delay 0, time frozen."""
        return taken(request, zmock_thread.take)

    def refuse_to_hang(mocks, event, arguments):
        """Fail the test if it connects to a mock whose loop cannot answer: the thread of that loop waits for the answer.

        This is a hook of sys.addaudithook(), which Python calls before each connect().
        """
        if event != "socket.connect":
            return
        client, target = arguments
        for thread, mock in mocks:
            if thread == threading.get_ident() and mock.listens_at(target):
                blocks = client.gettimeout() != 0
                if blocks or asyncio._get_running_loop() is not mock.loop:
                    client.close()  # nobody else does, after an exception that is no OSError
                    pytest.fail(f"zmock: {BLOCKING if blocks else ELSEWHERE}", pytrace=False)

    def in_loops(config):
        """Return the set of mocks that refuse_to_hang() minds in this run of pytest."""
        if IN_LOOPS not in config.stash:
            config.stash[IN_LOOPS] = set()
            sys.addaudithook(functools.partial(refuse_to_hang, config.stash[IN_LOOPS]))
        return config.stash[IN_LOOPS]

    @contextlib.asynccontextmanager
    async def mock_in_loop(request):
        """Run the mock of a test in the loop that runs this."""
        async with taken(request, lambda told: serve(**told)) as mock:
            mocks, entry = in_loops(request.config), (threading.get_ident(), mock)
            mocks.add(entry)
            try:
                yield mock
            finally:
                mocks.discard(entry)

    def obstacle(item, backend):
        """Return why no asyncio loop runs during a test, and the cure."""
        if issubclass(getattr(item, "cls", None) or object, unittest.TestCase):
            return IN_UNITTEST
        if not inspect.iscoroutinefunction(getattr(item, "function", None)):
            return NOT_ASYNC
        return ON_TRIO if backend == "trio" or item.get_closest_marker("trio") else RUN_BY_NONE

    if importlib.util.find_spec("pytest_asyncio"):
        import pytest_asyncio

        has_scopes = "loop_scope" in inspect.signature(pytest_asyncio.fixture).parameters  # since 0.24
        is_async_test = getattr(pytest_asyncio, "is_async_test", lambda item: item.get_closest_marker("asyncio"))

        def fixture_in(loop_scope):
            """Return a fixture: a mock in the loop that pytest-asyncio has for a scope."""

            @pytest_asyncio.fixture(**{"loop_scope": loop_scope} if has_scopes else {})
            async def in_loop(request, zmock_settings):
                async with mock_in_loop(request) as mock:
                    yield mock

            return in_loop

        _zmock_function, _zmock_class, _zmock_module, _zmock_package, _zmock_session = map(fixture_in, LOOP_SCOPES)

        @pytest.fixture
        async def _zmock_anyio(request, zmock_settings):
            """A mock in the loop of anyio's plugin, which runs the async fixtures of its tests."""
            async with mock_in_loop(request) as mock:
                yield mock

        def loop_scope(item):
            """Return the scope of the loop in which pytest-asyncio runs a test."""
            given = getattr(item.get_closest_marker("asyncio"), "kwargs", {})
            scope = given.get("loop_scope") or given.get("scope")
            with contextlib.suppress(ValueError, KeyError):  # an option since 0.25
                scope = scope or item.config.getini("asyncio_default_test_loop_scope")
            return scope or "function"

        @pytest.fixture
        def zmock(request, zmock_settings):
            """A mock of its own for each test: in the test's loop, in memory, delay 0, time frozen."""
            item, backend = request.node, None
            if is_async_test(item):
                return request.getfixturevalue(f"_zmock_{loop_scope(item)}")
            if "anyio_backend" in request.fixturenames:
                backend = request.getfixturevalue("anyio_backend_name")
            if backend != "asyncio" or not inspect.iscoroutinefunction(item.function):
                pytest.fail(f"zmock: {obstacle(item, backend)}", pytrace=False)
            return request.getfixturevalue("_zmock_anyio")

    else:

        @pytest.fixture
        def zmock():
            pytest.fail("the fixture zmock runs in the loop of pytest-asyncio, which is not installed; zmock_server does without", pytrace=False)


# ---- Main --------------------------------------------------------------------------------------------------------

async def run(mock):
    """Serves until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows knows Ctrl-C only
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with mock:
        welcome(mock)
        await stop.wait()


def welcome(mock):
    print(f"export ZSTACK_URL={mock.url}", flush=True)
    counts = {name: mock.cloud.store.count(name) for name in ("Zone", "Host", "VmInstance", "Volume", "Image")}
    where = "memory" if mock.settings.memory else mock.settings.data
    login = json.dumps({"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}})
    print(f"zmock {__version__}: ZStack 2.5.1, {mock.settings.dialect} dialect, cloud in {where}: "
          + ", ".join(f"{count} {name}" for name, count in counts.items())
          + f"\nlog in as admin / password:\n  curl -X PUT {mock.url}/accounts/login -d '{login}'\n"
          + f"look inside: {mock.base}/zmock/health", file=sys.stderr, flush=True)  # fmt: skip


def print_contract(settings):
    """The APIs as OpenAPI, on stdout, for a mock that would listen as the settings say."""
    cloud = new_cloud(replace(settings, memory=True), catalogue())
    document = Contract(cloud).document(settings.base_url or address(settings.host, settings.port))
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # where the reader has seen enough
    print(json.dumps(document, indent=1, ensure_ascii=False))


def main(arguments=None):
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    told = sys.argv[1:] if arguments is None else arguments
    with contextlib.suppress(ValueError):  # in a thread, signals are somebody else's
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until run() minds it: a large cloud takes a while to make
    try:
        if told[:1] == ["openapi"]:
            print_contract(read_settings(told[1:], os.environ))
        else:
            asyncio.run(run(Mock(read_settings(told, os.environ))))
    except SettingsError as error:
        print(f"zmock: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130 if told[:1] == ["openapi"] else 0  # half a contract is none
    return 0


if __name__ == "__main__":
    sys.exit(main())
