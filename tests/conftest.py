import gc
import os

import pytest
from asking import World
from browser import CHROMIUM, Browser, running_chromium

from zmock import catalogue, serve

pytest_plugins = ["zmock"]

gc.disable()  # all that collection makes lasts as long as the tests do


def pytest_collection_finish():
    """Keep what collection has made out of each search for garbage, which took a third of the time."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Let three workers share two processors: now and then each waits, for a process, the browser or the disk."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + processors // 2


@pytest.fixture
async def cloud(zmock):
    """The mock of the test, logged in."""
    await zmock.login()
    return zmock


@pytest.fixture(params=["manual", "server"])
async def each_dialect(request):
    """A mock of each dialect, logged in."""
    async with serve(dialect=request.param) as mock:
        await mock.login()
        yield mock


@pytest.fixture(params=["manual", "server"])
async def client(request):
    """A client as the stories use it, of the demo cloud in each dialect."""
    from test_stories import DELAY, Client

    async with serve(dialect=request.param, delay=DELAY) as mock:
        await mock.login()
        yield Client(mock)


@pytest.fixture
def unsimulated():
    """Let GET /hybrid/eip answer 501, as an API does that is not simulated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue().apis["QueryHybridEipFromLocal"], "backing", "none")
        yield


@pytest.fixture
def world(monkeypatch):
    """The clocks of the machine, for mocks that begin after it: they stand until the test moves them."""
    world = World()
    monkeypatch.setattr("zmock.time", world)
    return world


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """The address of a browser that runs as long as the tests."""
    if not CHROMIUM:
        pytest.skip("there is no chromium here (apt install chromium)")
    with running_chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def browser(chromium):
    """A window of the browser. The test fails if anything goes wrong in its pages that it does not expect."""
    async with Browser(chromium) as browser:
        yield browser
    assert browser.problems() == []
