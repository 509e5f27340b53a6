"""Tests that await nothing, one after another or with `pytest -n 4`: each finds the cloud as it was at the start."""

import json
import urllib.request

import pytest

from zmock import MockInThread


def zones(mock: MockInThread) -> list[str]:
    """The client under test, without asyncio."""
    request = urllib.request.Request(f"{mock.url}/zones", headers={"Authorization": f"OAuth {mock.login()}"})
    with urllib.request.urlopen(request) as answer:
        return [zone["name"] for zone in json.load(answer)["inventories"]]


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_nobody_sees_the_zones_of_another_test(zmock_server: MockInThread, name: str) -> None:
    zmock_server.create("CreateZone", name=name)
    assert sorted(zones(zmock_server)) == [name, "zone-1"]


@pytest.mark.zmock(cloud="empty", dialect="server")
def test_other_settings_are_another_mock_in_the_same_worker(zmock_server: MockInThread) -> None:
    assert zones(zmock_server) == []


def test_the_cloud_is_gone_for_a_while(zmock_server: MockInThread) -> None:
    zmock_server.down()
    with pytest.raises(OSError):
        urllib.request.urlopen(zmock_server.url)
    zmock_server.up()
    assert zones(zmock_server) == ["zone-1"]
