"""The third poll fails, as when a gateway restarts: does the client give up, or ask again?"""

import asyncio

import aiohttp
import pytest

from zmock import Mock


async def create_zone(url: str, session: str, tries: int = 3) -> str:
    """The client under test: creates a zone, polls, and shrugs off so many gateway errors."""
    async with aiohttp.ClientSession(headers={"Authorization": f"OAuth {session}"}) as http:
        async with http.post(f"{url}/zones", json={"params": {"name": "east"}}) as answer:
            location = (await answer.json())["location"]
        while True:
            async with http.get(location) as answer:
                if answer.status == 200:
                    return str((await answer.json())["inventory"]["uuid"])
                tries -= answer.status != 202
                if not tries:
                    raise RuntimeError(f"polling ended with {answer.status}")
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_one_bad_poll_is_no_failure(zmock: Mock) -> None:
    rule = zmock.rule(api="PollJob", times=1, then={"status": 502, "body": "Bad Gateway"})
    uuid = await create_zone(zmock.url, await zmock.login())
    assert rule.hits == 1
    assert [zone["uuid"] for zone in await zmock.query("zones", "name=east")] == [uuid]


@pytest.mark.asyncio
@pytest.mark.zmock(rules=[{"api": "CreateZone", "skip": 2, "times": 1, "then": {"error": "SYS.1006", "details": "out of luck"}}])
async def test_the_third_creation_fails_and_the_fourth_does_not(zmock: Mock) -> None:
    for name in ("a", "b"):
        await zmock.create("CreateZone", name=name)
    with pytest.raises(RuntimeError, match="out of luck"):
        await zmock.create("CreateZone", name="c")
    await zmock.create("CreateZone", name="d")
    assert [zone["name"] for zone in await zmock.query("zones", "name?=a,b,c,d")] and len(zmock.calls("CreateZone")) == 4
