import gc

import pytest
from asking import World

pytest_plugins = ["zmock"]

gc.disable()  # all that collection makes lasts as long as the tests do


def pytest_collection_finish():
    """Keep what collection has made out of each search for garbage, which took a third of the time."""
    gc.freeze()
    gc.enable()


@pytest.fixture
async def cloud(zmock):
    """The mock of the test, logged in."""
    await zmock.login()
    return zmock


@pytest.fixture
def world(monkeypatch):
    """The clocks of the machine, for mocks that begin after it: they stand until the test moves them."""
    world = World()
    monkeypatch.setattr("zmock.time", world)
    return world
