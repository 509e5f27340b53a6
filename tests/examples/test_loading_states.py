"""What a page has to draw between a click and its effect: each state holds until the test moves on."""

import pytest

from zmock import Mock, named

VM = named("vm-ci-1")


async def shown(zmock: Mock) -> str:
    """What a page shows of the virtual machine."""
    (vm,) = await zmock.query("vm-instances", f"uuid={VM}")
    return str(vm["state"])


@pytest.mark.asyncio
@pytest.mark.zmock(delay=10)
async def test_starting_then_running(zmock: Mock) -> None:
    await zmock.login()
    assert await shown(zmock) == "Stopped"
    status, job = await zmock.request("PUT", f"/vm-instances/{VM}/actions", {"startVmInstance": {}})
    assert (status, await shown(zmock)) == (202, "Starting")  # the spinner turns for as long as the test likes
    await zmock.advance(10)
    assert await shown(zmock) == "Running"
    assert job["location"].startswith(zmock.url)


@pytest.mark.asyncio
@pytest.mark.zmock(delay=10, rules=[{"api": "StartVmInstance", "then": {"error": "HOST_ALLOCATION.1000", "details": "no host has room"}}])
async def test_starting_then_stopped_again_with_a_message(zmock: Mock) -> None:
    with pytest.raises(RuntimeError, match="no host has room"):
        await zmock.act("vm-instances", VM, "startVmInstance")
    assert await shown(zmock) == "Stopped"


@pytest.mark.asyncio
async def test_a_host_that_goes_away_while_the_page_is_open(zmock: Mock) -> None:
    await zmock.incident(host_down="host-1")
    (web,) = await zmock.query("vm-instances", "name=web-1")
    assert web["state"] == "Unknown"
