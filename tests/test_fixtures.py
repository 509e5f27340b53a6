"""The handle, and the fixture that gives it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from zmock import create_app, named, serve

ROOT = Path(__file__).parent.parent


async def test_the_handle_speaks_the_cloud(zmock):
    assert zmock.url == zmock.base + "/zstack/v1"
    session = await zmock.login()
    assert len(session) == 32
    zone = await zmock.create("CreateZone", name="z")
    assert [item["uuid"] for item in await zmock.query("zones", "name=z", "state=Enabled")] == [zone["uuid"]]
    assert (await zmock.act("zones", zone["uuid"], "changeZoneState", stateEvent="disable"))["state"] == "Disabled"
    assert await zmock.delete("zones", zone["uuid"]) is None
    assert await zmock.query("zones", "name=z") == []


async def test_the_handle_logs_in_by_itself(zmock):
    assert zmock.session is None
    assert (await zmock.create("CreateZone", name="z"))["name"] == "z"
    assert zmock.session


async def test_a_request_comes_back_as_status_and_json(zmock):
    assert await zmock.request("PUT", "/management-nodes/actions", {"getVersion": {}}) == (200, {"version": "2.5.1"})
    status, body = await zmock.request("GET", "/zones")
    assert (status, body["error"]["details"]) == (400, "missing header 'Authorization'")
    await zmock.login()
    assert (await zmock.request("GET", "/zones", headers={"Authorization": "OAuth wrong"}))[1]["error"]["code"] == "ID.1001"


@pytest.mark.parametrize(
    ("api", "params", "told"),
    (
        ("CreateZone", {}, "SYS.1007: field[name] of message"),
        ("DeleteLongJob", {"uuid": named("nothing")}, "SYS.1003: invalid field[uuid]"),
    ),
)
async def test_an_error_is_raised_with_what_the_mock_said(zmock, api, params, told):
    with pytest.raises(RuntimeError) as error:
        await zmock.call(api, **params)
    assert str(error.value).startswith(told)


async def test_any_api_can_be_called_by_its_name(zmock):
    assert (await zmock.call("GetVersion")) == {"version": "2.5.1"}
    assert (await zmock.call("GetCpuMemoryCapacity", hostUuids=[named("host-1"), named("host-2")]))["managedCpuNum"] == 32
    attached = await zmock.call("AttachDataVolumeToVm", volumeUuid=named("volume-spare"), vmInstanceUuid=named("vm-web-1"))
    assert attached["inventory"]["vmInstanceUuid"] == named("vm-web-1")
    assert await zmock.call("DeleteZone", uuid=named("zone-1")) == {}


async def test_rules_calls_and_jobs_are_at_hand(zmock):
    rule = zmock.rule(api="CreateZone", times=1, then={"error": "SYS.1006"})
    with pytest.raises(RuntimeError, match=r"SYS\.1006"):
        await zmock.create("CreateZone", name="z")
    await zmock.create("CreateZone", name="z")
    assert (zmock.rules, rule.hits) == ([rule], 1)
    assert [call.status for call in zmock.calls("CreateZone")] == [202, 202]
    assert [job["state"] for job in zmock.jobs() if job["api"] == "CreateZone"] == ["failed", "succeeded"]
    assert len(zmock.calls()) == 5


async def test_a_wrong_rule_is_an_error_of_the_test(zmock):
    with pytest.raises(ValueError, match="did you mean CreateZone?"):
        zmock.rule(api="CreateZon")


async def test_time_stands_still_until_it_is_moved(zmock):
    before = zmock.clock.now()
    await asyncio.sleep(0)
    assert zmock.clock.now() == before
    await zmock.advance(90)
    assert zmock.clock.now() == before + 90


async def test_reset_gives_the_cloud_of_the_start(zmock):
    session = await zmock.login()
    await zmock.delete("vm-instances", named("vm-web-1"))
    await zmock.reset()
    assert (zmock.session, zmock.calls(), zmock.jobs()) == (None, [], [])
    assert await zmock.login() == session
    assert (await zmock.query("vm-instances", "name=web-1"))[0]["state"] == "Running"


@pytest.mark.parametrize("name", ("vm-web-1", "zone-1", "host-1", "image-centos7", "l3-private", "volume-spare", "offering-small"))
async def test_things_of_the_demo_cloud_have_uuids_that_can_be_named(zmock, name):
    collection = {"vm": "vm-instances", "zone": "zones", "host": "hosts", "image": "images", "l3": "l3-networks", "volume": "volumes",
                  "offering": "instance-offerings"}[name.partition("-")[0]]  # fmt: skip
    (found,) = await zmock.query(collection, f"uuid={named(name)}")
    assert found["name"] in (name, name.partition("-")[2])


class TestSettings:
    @pytest.fixture
    def zmock_settings(self):
        return {"cloud": "empty", "delay": "10", "dialect": "server"}

    async def test_a_fixture_sets_what_the_command_line_sets(self, zmock):
        await zmock.login()
        assert await zmock.query("zones") == []
        _, body = await zmock.request("POST", "/zones", {"params": {"name": "z"}})
        job = body["location"][-32:]
        assert await zmock.request("GET", f"/api-jobs/{job}") == (202, None)
        await zmock.advance(10)
        assert (await zmock.request("GET", f"/api-jobs/{job}"))[0] == 200

    async def test_the_handle_waits_for_slow_calls_by_moving_time(self, zmock):
        before = zmock.clock.now()
        assert (await zmock.create("CreateZone", name="z"))["name"] == "z"
        assert zmock.clock.now() == before + 10


async def test_ten_mocks_live_side_by_side():
    mocks = [serve(seed=n) for n in range(10)]
    for mock in mocks:
        await mock.__aenter__()
    await asyncio.gather(*(mock.create("CreateZone", name=f"z{n}") for n, mock in enumerate(mocks)))
    names = [[zone["name"] for zone in await mock.query("zones", "name!=zone-1")] for mock in mocks]
    for mock in mocks:
        await mock.__aexit__()
    assert names == [[f"z{n}"] for n in range(10)]
    assert len({mock.base for mock in mocks}) == 10


async def test_the_bare_application_goes_into_another_client(aiohttp_client):
    client = await aiohttp_client(create_app())
    answer = await client.put("/zstack/v1/management-nodes/actions", json={"getVersion": {}})
    assert await answer.json() == {"version": "2.5.1"}


IN_ANOTHER_PROJECT = '''
import pytest

pytest_plugins = ["zmock"]


@pytest.fixture
def zmock_settings():
    return {"cloud": "empty"}


@pytest.mark.asyncio
async def test_first(zmock):
    await zmock.create("CreateZone", name="z")
    assert len(await zmock.query("zones")) == 1


@pytest.mark.asyncio
async def test_second(zmock):
    assert await zmock.query("zones") == []
'''


def test_the_fixture_works_where_asyncio_is_strict(tmp_path):
    (tmp_path / "test_mine.py").write_text(IN_ANOTHER_PROJECT)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = strict\npythonpath = {ROOT}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "2 passed" in run.stdout, run.stdout + run.stderr
