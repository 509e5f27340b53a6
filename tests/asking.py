"""What tests of several files ask of a mock."""

import asyncio
import json
import time

import aiohttp
import pytest


class World:
    """The clocks of a machine, which stand until a test moves them: what the wall shows, and how long it has been up."""

    def __init__(self):
        self.wall, self.up = 1_531_152_000.0, 77.0
        self.time, self.monotonic = lambda: self.wall, lambda: self.up

    def pass_on(self, seconds):
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def __getattr__(self, name):
        return getattr(time, name)


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
