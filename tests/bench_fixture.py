"""What `make bench` prints of the fixtures: what one costs, a world, and 500 tests that each create a zone."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from zmock import SharedMocks, serve

ROOT = Path(__file__).parent.parent
ROUNDS, TESTS = 100, 500
CREATING = f"""
import pytest
@pytest.mark.parametrize("n", range({TESTS}))
async def test_create(zmock, n):
    await zmock.create("CreateZone", name="z")
@pytest.mark.parametrize("n", range({TESTS}))
def test_create_in_a_thread(zmock_server, n):
    zmock_server.create("CreateZone", name="z")
"""


def shown(what, seconds, limit):
    print(f"{what:40} {statistics.median(seconds) * 1000:6.2f} ms   worst {max(seconds) * 1000:6.2f} ms   (under {limit} ms)")


async def in_the_loop():
    """Set-up and tear-down of `zmock`, demo cloud."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        async with serve():
            pass
        took.append(time.perf_counter() - began)
    print(f"{'the first in a process':40} {took[0] * 1000:6.2f} ms")
    shown("fixture zmock", took[1:], 10)


async def worlds():
    """A world, demo cloud: its making, and its share of memory."""
    async with serve(worlds=2 * ROUNDS) as mock:
        took = []
        for n in range(ROUNDS):
            began = time.perf_counter()
            mock.worlds.named(f"w{n}")
            took.append(time.perf_counter() - began)
        shown("world", took, 5)
        tracemalloc.start()
        for n in range(ROUNDS):
            mock.worlds.named(f"m{n}")
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{'memory of a world':40} {held / ROUNDS / 1024:6.0f} kB")


def in_a_thread():
    threaded, took = SharedMocks(), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        threaded.take({})
        took.append(time.perf_counter() - began)
    threaded.close()
    shown("fixture zmock_server", took[1:], 10)


def many_tests():
    for flag in ("test_create", "test_create_in_a_thread"):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test_many.py").write_text(CREATING)
            Path(folder, "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
            began = time.perf_counter()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "zmock", f"test_many.py::{flag}"]
            run = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
            took = time.perf_counter() - began
        assert f"{TESTS} passed" in run.stdout, run.stdout + run.stderr
        print(f"{TESTS} tests that create a zone, {flag.removeprefix('test_create') or '_in_the_loop':14} {took:6.2f} s   (under 10 s)")


if __name__ == "__main__":
    asyncio.run(in_the_loop())
    asyncio.run(worlds())
    in_a_thread()
    many_tests()
