"""What tests of several files ask of a mock."""

import time

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


async def one(mock, collection, *conditions):
    """The only inventory that satisfies the conditions."""
    (found,) = await mock.query(collection, *conditions)
    return found


async def submit(mock, method, path, body=None):
    """A call that becomes a job: the job's uuid."""
    status, answer = await mock.request(method, path, body)
    assert status == 202, answer
    return answer["location"][-32:]


async def failure(mock, api, **given):
    """Why a call fails."""
    with pytest.raises(RuntimeError) as error:
        await mock.call(api, **given)
    return str(error.value)
