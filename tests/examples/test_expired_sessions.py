"""A session lasts two hours: does the client log in again, and once only?"""

import hashlib

import aiohttp
import pytest

from zmock import Mock


class Client:
    """The client under test: logs in when it must."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url, self.http, self.session = url, http, ""

    async def login(self) -> None:
        body = {"logInByAccount": {"accountName": "admin", "password": hashlib.sha512(b"password").hexdigest()}}
        async with self.http.put(f"{self.url}/accounts/login", json=body) as answer:
            self.session = (await answer.json())["inventory"]["uuid"]

    async def zones(self) -> list[str]:
        async with self.http.get(f"{self.url}/zones", headers={"Authorization": f"OAuth {self.session}"}) as answer:
            body = await answer.json()
        if body.get("error", {}).get("code") == "ID.1001":
            await self.login()
            return await self.zones()
        return [zone["name"] for zone in body["inventories"]]


@pytest.mark.asyncio
async def test_the_client_logs_in_again_when_its_session_is_over(zmock: Mock) -> None:
    async with aiohttp.ClientSession() as http:
        client = Client(zmock.url, http)
        await client.login()
        assert await client.zones() == ["zone-1"]
        await zmock.advance(2 * 3600)
        assert await client.zones() == ["zone-1"]
    assert [call.status for call in zmock.calls("LogInByAccount")] == [200, 200]
    assert [call.status for call in zmock.calls("QueryZone")] == [200, 503, 200]
