import pytest
from asking import World

pytest_plugins = ["zmock"]


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
