"""What tests of several files ask of a mock."""

import asyncio
import contextlib
import functools
import inspect
import json
import logging
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path

import aiohttp
import pytest

import zmock

ROOT = Path(__file__).parent.parent

# The command of a zmock in a process of its own, with IMPORTABLE in its environment. As a script it is the same, but Python
# keeps no bytecode of scripts: it starts half a second later.
PROGRAM = (sys.executable, "-m", "zmock")
IMPORTABLE = {"PYTHONPATH": str(ROOT), "SSL_CERT_FILE": os.devnull}  # aiohttp reads all certificates at its import


def read_settings(arguments, environment):
    """The settings of a mock that is started with these flags and variables."""
    return zmock.read_options(zmock.SERVER, arguments, environment)


def forked(folder, *flags, stderr, hurry=(), **variables):
    """Start zmock in a folder. Return the process and its stdout.

    The process is a fork of this one: it has imported zmock and read its catalogue, which takes longer than all the rest.
    `hurry` are constants of zmock, in seconds, which are a tenth of what they are.
    """
    zmock.catalogue()
    reading, stdout = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=run, args=(folder, flags, stdout, stderr, hurry, variables))
    process.start()
    os.close(stdout)
    return process, open(reading)  # noqa: SIM115


def run(folder, flags, stdout, stderr, hurry, variables):
    """Be the zmock that `forked` starts."""
    os.chdir(folder)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    logging.getLogger().handlers.clear()  # those of pytest
    for name in [name for name in os.environ if name.startswith("ZMOCK_")]:
        del os.environ[name]
    os.environ |= variables
    for name in hurry:
        setattr(zmock, name, getattr(zmock, name) / 10)
    sys.exit(zmock.main(["--port", "0", *flags]))


class World:
    """The clocks of a machine, which stand until a test moves them: what the wall shows, and how long it has been up."""

    def __init__(self):
        self.wall, self.up = 1_531_152_000.0, 77.0
        self.time, self.monotonic = lambda: self.wall, lambda: self.up

    def pass_on(self, seconds):
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def __getattr__(self, name):
        return getattr(time, name)


@contextlib.contextmanager
def without_exceptions(*about):
    """Fail if zmock logs an exception in this block. Its answer is SYS.1000, which the server also says on purpose."""
    logged, handler = [], logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append((record.getMessage(), record.exc_info[1])) if record.exc_info else None
    log = logging.getLogger("zmock")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
    assert logged == [], about


async def outcome(mock, method, path, body=None):
    """A call to its end: the status and the body that a client gets, by itself or from its job."""
    status, answer = await mock.request(method, path, body)
    if status == 202:
        await mock.advance(0)
        status, answer = await mock.request("GET", "/api-jobs/" + answer["location"][-32:])
    return status, answer


def add_header(mock, name, value):
    """Send a header with every request of the handle."""
    request = mock.request

    def with_header(method, path, body=None, headers=None):
        return request(method, path, body, {name: value} | (headers or {}))

    mock.request = with_header


async def one(mock, collection, *conditions):
    """The only inventory that satisfies the conditions."""
    (found,) = await mock.query(collection, *conditions)
    return found


async def submit(mock, method, path, body=None):
    """A call that becomes a job: the job's uuid."""
    status, answer = await mock.request(method, path, body)
    assert status == 202, answer
    return answer["location"][-32:]


async def ask_control(mock, method, path, body=None):
    """A control call: the JSON that it answers."""
    body = {} if body is None and method in ("POST", "PUT") else body
    async with aiohttp.ClientSession() as http, http.request(method, f"{mock.base}/zmock/{path}", json=body) as answer:
        told = await answer.json()
        assert answer.status == 200, told
        return told


async def failure(mock, api, **given):
    """Why a call fails."""
    with pytest.raises(RuntimeError) as error:
        await mock.call(api, **given)
    return str(error.value)


async def send(mock, data):
    """Bytes to the mock, and what comes back until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(mock.base.rpartition(":")[2]))
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def exchange(mock, line, body=None, headers=None):
    """A request as no client library would send it: (status, headers, body). A header that is None is not sent."""
    body = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body))}
    sent |= {"Authorization": f"OAuth {mock.session}"} | (headers or {})
    head = "\r\n".join([f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value is not None)])
    came, _, content = (await send(mock, head.encode("latin-1") + b"\r\n\r\n" + body)).partition(b"\r\n\r\n")
    first, *rest = came.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}, content


async def finished(mock, status, content):
    """The end of an asynchronous call: its last status and body."""
    if status != 202:
        return status, json.loads(content or b"null")
    await mock.advance(0)
    return await mock.request("GET", "/api-jobs/" + json.loads(content)["location"].rpartition("/")[2])


async def eventually(condition, seconds=30):
    """Return what a condition of another task returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never became true"
        await asyncio.sleep(0.01)
    return value


# tests of tables

def each_nth(step, cases):
    """Leave every `step`-th case of a table to `make check`, and the others to `make slow`, where each takes long."""
    return [case if number % step == 0 else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(cases)]


def each(names, rows, ids=None, reset=True):
    """Make one test of a table: it goes through all rows, and tells at its end which went wrong, and why.

    It stands in place of @pytest.mark.parametrize, which makes a test of each row, where rows are many and quick. Each
    row finds the mocks reset, nothing patched or logged, and a tmp_path of its own; other fixtures are made once.
    Without `reset`, rows that are refused share the mocks: a reset would take as long as the row.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    rows = [*rows]
    ids = [*map(ids, rows)] if callable(ids) else ids or [None] * len(rows)
    table = [(id_of(row, id), dict(zip(names, values_of(row, len(names))))) for row, id in zip(rows, ids)]
    assert table, "a table without rows tests nothing"

    def over_all(test):
        wanted = inspect.signature(test)

        async def go_through(self, request, fixtures):
            fixtures |= {"request": request} if "request" in wanted.parameters else {}
            mocks = [(mock, mock.session) for mock in fixtures.values() if hasattr(mock, "never_fired")]
            strict = all(mark.kwargs.get("strict", True) for mark in request.node.iter_markers("zmock"))
            wrong = []
            for n, (name, row) in enumerate(table):
                with collected(wrong, name), renewed(fixtures, n) as given:
                    for mock, session in mocks if n and reset else ():
                        vars(mock).pop("request", None)  # as add_header() has set it
                        await end_of(mock.reset())
                        await end_of(mock.login() if session else None)
                    await end_of(test(*self, **given, **row))
                    assert not strict or [rule.definition for mock, _ in mocks for rule in mock.never_fired()] == []
            if wrong:
                told = "\n".join(f"{name}\n    {why}" for name, why, _ in wrong)
                raise AssertionError(f"{len(wrong)} of {len(table)} went wrong:\n{told}") from wrong[0][2]

        if inspect.iscoroutinefunction(test):
            @functools.wraps(test)
            async def all_rows(*self, request, **fixtures):
                await go_through(self, request, fixtures)
        else:
            @functools.wraps(test)
            def all_rows(*self, request, **fixtures):
                with contextlib.suppress(StopIteration):  # it awaits nothing
                    go_through(self, request, fixtures).send(None)

        others = [param for name, param in wanted.parameters.items() if name not in (*names, "request")]
        request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        all_rows.__signature__ = wanted.replace(parameters=[*others, request])
        return all_rows

    return over_all


async def end_of(done):
    """Return what is awaited, or is there already."""
    return await done if inspect.isawaitable(done) else done


def values_of(row, count):
    return getattr(row, "values", None) if type(row).__name__ == "ParameterSet" else row if count > 1 else (row,)


def id_of(row, id):
    """Name a row, for what is told of it."""
    id = id or getattr(row, "id", None)
    if isinstance(id, str) or isinstance(row, str):
        return id or row
    return getattr(row, "name", None) or repr(row)[:300]


@contextlib.contextmanager
def collected(wrong, name):
    """Collect what is raised inside."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = [frames[0], *(frame for frame in frames if Path(frame.filename).name.startswith("test_"))][-1]
        told = f"{type(error).__name__}: {str(error)[:1000]}"
        wrong.append((name, f"{Path(place.filename).name}:{place.lineno}: {told}", error))


@contextlib.contextmanager
def renewed(fixtures, n):
    """Give the fixtures as the row of this number finds them."""
    given = {**fixtures}
    with pytest.MonkeyPatch.context() as monkeypatch:
        if "monkeypatch" in given:
            given["monkeypatch"] = monkeypatch
        if "tmp_path" in given:
            given["tmp_path"] = given["tmp_path"] / str(n)
            given["tmp_path"].mkdir()
        if "caplog" in given:
            given["caplog"].clear()
        if "capsys" in given:
            given["capsys"].readouterr()
        yield given


def counted_points(monkeypatch):
    """Return a list that gets the number of points of each series of a metric that is made from now on."""
    made, points_of = [], zmock.points_of

    def counting(cloud, metric, item, times, tilt):
        made.append(len(times))
        return points_of(cloud, metric, item, times, tilt)

    monkeypatch.setattr(zmock, "points_of", counting)
    return made
