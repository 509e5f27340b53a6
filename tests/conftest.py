import pytest

pytest_plugins = ["zmock"]


@pytest.fixture
async def cloud(zmock):
    """The mock of the test, logged in."""
    await zmock.login()
    return zmock
