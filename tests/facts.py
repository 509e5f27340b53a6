"""Facts of the real server, each with the case that shows it. A row of a table is a refusal or an effect.

A file of facts (tests/test_facts_*.py) holds FACTS, a table of Fact in the order of the APIs, and runs it in both dialects:

    FACTS = (
        Fact("PauseVmInstance", "refuses a machine that is not Running", Refused(stopped, "VM.1012 <- VM.1010", "current vm*")),
        Fact("PauseVmInstance", "keeps host, capacity and nics", Shown(a_paused_machine_keeps_its_place)),
        Fact("PauseVmInstance", "asks the host when it fails", Uncovered("no agent is simulated")),
    )
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from asking import outcome


@dataclass(frozen=True)
class Refused:
    """A call that fails.

    state    prepares the cloud, and returns the parameters of the call: a coroutine function of the mock, or the parameters
    code     of the error and its causes, the outer one first: "VM.1001 <- VM.1010"
    details  a glob over the details of the innermost error
    changes  True if the job has changed something before it failed; otherwise the cloud is as it was
    """

    state: Callable[[Any], Awaitable[dict]] | dict
    code: str
    details: str = "*"
    changes: bool = False


@dataclass(frozen=True)
class Shown:
    """An effect that a coroutine function of the mock asserts."""

    story: Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Uncovered:
    """A fact that zmock does not honour, and why."""

    reason: str


@dataclass(frozen=True)
class Fact:
    """A sentence on what an API does, and the case that shows it."""

    api: str
    text: str
    case: Refused | Shown | Uncovered

    @property
    def name(self):
        return f"{self.api} {self.text}"


def changed(type, uuid, /, **changes):
    """A step that changes an object behind the server's back."""

    async def step(mock):
        mock.cloud.change(type, uuid, **changes)

    return step


async def take(mock, steps):
    """Take steps: calls of an API, or coroutine functions of the mock. Return the answer of the last call."""
    body = None
    for step in steps:
        if isinstance(step, tuple):
            body = await mock.call(step[0], **step[1])
        else:
            await step(mock)
    return body


def after(*steps, **params):
    """The state after some steps, with the parameters of the call. A parameter may be worked out from the mock."""

    async def state(mock):
        await take(mock, steps)
        return {name: value(mock) if callable(value) else value for name, value in params.items()}

    return state


async def error_of(mock, api, params):
    """Call an API to its end, and return its error with the causes, {} if it succeeds."""
    row, params = mock.cloud.catalogue.apis[api], {**params}
    path = re.sub(r"\{(\w+)\}", lambda name: str(params.pop(name[1])), row.path)
    if row.method in ("GET", "DELETE"):
        pairs = [(name, item) for name, value in params.items() for item in (value if isinstance(value, list) else [value])]
        status, answer = await outcome(mock, row.method, f"{path}?{urlencode(pairs)}")
    else:
        tags = {name: params.pop(name) for name in ("systemTags", "userTags") if name in params}
        status, answer = await outcome(mock, row.method, path, {row.key: params} | tags)
    return answer["error"] if status >= 400 else {}


def chain(error):
    """Return an error and its causes, the outer one first."""
    errors = []
    while error:
        errors.append(error)
        error = error.get("cause")
    return errors


def state_of(mock):
    """Return all objects but those that any call leaves behind."""
    passing = {"Job", "Mock", "Session", "Notification", "TaskProgress"}
    return {name: dict(table.items) for name, table in mock.cloud.store.tables.items() if table.items and name not in passing}


async def check(fact, mock):
    """Assert that a fact holds in a mock that is fresh."""
    case = fact.case
    if isinstance(case, Uncovered):
        return
    if isinstance(case, Shown):
        await case.story(mock)
        return
    params = case.state if isinstance(case.state, dict) else await case.state(mock)
    before = state_of(mock)
    errors = chain(await error_of(mock, fact.api, params))
    assert " <- ".join(error["code"] for error in errors) == case.code
    assert fnmatch.fnmatchcase(errors[-1]["details"], case.details.replace("[", "[[]")), errors[-1]["details"]
    assert case.changes or state_of(mock) == before


def report(facts):
    """Return the coverage of facts: a line for each API, then the uncovered ones with their reasons."""
    count, covered = Counter(fact.api for fact in facts), Counter(fact.api for fact in facts if not isinstance(fact.case, Uncovered))
    lines = [f"{api}: {covered[api]} of {count[api]}" for api in count]
    lines += [f"not covered: {fact.name}: {fact.case.reason}" for fact in facts if isinstance(fact.case, Uncovered)]
    share = 100 * (1 - covered.total() / count.total())
    return "\n".join([*lines, f"{covered.total()} of {count.total()} facts are covered; {share:.1f} % are not"])
