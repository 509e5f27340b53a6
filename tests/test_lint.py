"""The habits of a client: /zmock/lint and lint(), with a client that has each habit and one that has not."""

import contextlib

import aiohttp
import pytest
from asking import ask_control
from test_fixtures import run_elsewhere

from zmock import ADVICE, SHA512_OF_PASSWORD, named, serve

LOGIN = {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}
ZONE = {"params": {"name": "z"}}
JOB = "4" * 12 + "4" + "4" * 3 + "8" + "4" * 15


class Client:
    """A client of its own. On its clock no real time passes but what it waits."""

    def __init__(self, mock, http, watch):
        self.mock, self.http, self.watch, self.headers = mock, http, watch, {}

    async def call(self, method, path, body=None, **headers):
        headers = self.headers | {name.replace("_", "-"): text for name, text in headers.items()}
        async with self.http.request(method, self.mock.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def login(self):
        _, answer = await self.call("PUT", "/accounts/login", LOGIN)
        self.headers = {"Authorization": f"OAuth {answer['inventory']['uuid']}"}

    async def logout(self):
        await self.call("DELETE", "/accounts/sessions/" + self.headers["Authorization"][-32:])

    async def submit(self, **headers):
        _, answer = await self.call("POST", "/zones", ZONE, **headers)
        return "/api-jobs/" + answer["location"][-32:]

    async def poll(self, job, seconds, times=1):
        for _ in range(times):
            await self.call("GET", job)
            self.watch.up += seconds

    async def create(self):
        job = await self.submit()
        await self.mock.advance(1)
        await self.poll(job, 1)


async def hurry(client):
    job = await client.submit()
    await client.poll(job, 0.05, times=3)
    await client.mock.advance(1)
    client.watch.up += 1
    await client.poll(job, 0.05)


async def never_give_up(client):
    await client.poll(await client.submit(X_ZMock_Hold="1000"), 1, times=101)


async def give_up(client):
    await client.poll(await client.submit(X_ZMock_Hold="1000"), 1, times=100)


async def poll_on(client):
    job = await client.submit()
    await client.mock.advance(1)
    await client.poll(job, 1, times=2)


async def forget(client):
    await client.submit()
    await client.mock.advance(1)


async def be_called(client):
    await client.submit(X_Web_Hook=f"{client.mock.base}/zmock/hooks")
    await client.mock.advance(1)


HOSTS = [named("host-1"), named("host-2"), "1" * 32, "2" * 32, "3" * 32]


async def ask_for_each(client):
    for uuid in HOSTS:
        await client.call("GET", f"/hosts?q=uuid={uuid}")


async def ask_for_each_by_path(client):
    for uuid in HOSTS:
        await client.call("GET", f"/hosts/{uuid}")


async def ask_for_all(client):
    await client.call("GET", "/hosts?q=uuid?=" + ",".join(HOSTS))
    for _ in range(9):  # to watch one object is no such habit
        await client.call("GET", f"/hosts/{HOSTS[0]}")


async def ask_after_each_change(client):
    for uuid in HOSTS:
        await client.call("GET", f"/hosts/{uuid}")
        await client.create()


async def list_all(client):
    await client.call("GET", "/vm-instances")


async def list_pages(client):
    await client.call("GET", "/vm-instances?limit=100&start=0")
    await client.call("GET", "/vm-instances?limit=100&start=100")
    await client.call("GET", "/hosts")


async def log_in_for_each(client):
    await client.logout()
    for _ in range(3):
        await client.login()
        await client.call("GET", "/zones")
        await client.logout()
    await client.login()
    await client.call("GET", "/zones")
    await client.call("GET", "/hosts")


async def stay(client):
    client.logout = None


async def lose(client, *headers):
    client.mock.rule(api="CreateZone", times=1, then={"drop": "reset"})
    with contextlib.suppress(aiohttp.ClientError):
        await client.call("POST", "/zones", ZONE, **(headers[0] if headers else {}))


async def retry_blindly(client):
    await lose(client)
    await client.create()


async def retry_with_uuid(client):
    await lose(client, {"X_Job_UUID": JOB})
    job = await client.submit(X_Job_UUID=JOB)
    await client.mock.advance(1)
    await client.poll(job, 1)


async def insist(client):
    client.mock.rule(api="QueryZone", times=2, then={"error": "SYS.1000"})
    await client.call("GET", "/zones")
    await client.call("GET", "/zones")
    await client.call("GET", "/hosts")


async def insist_on_a_job(client):
    client.mock.rule(api="CreateZone", times=1, then={"error": "SYS.1000"})
    await client.create()
    await client.create()


async def go_on(client):
    client.mock.rule(api="QueryZone", times=1, then={"error": "SYS.1000"})
    await client.call("GET", "/zones")
    await client.call("GET", "/zones?q=name=other")
    await client.mock.advance(1)


async def misspell(client):
    job = await client.call("POST", "/zones", {"params": {"name": "z", "descripton": "d"}})
    await client.mock.advance(1)
    await client.poll("/api-jobs/" + job[1]["location"][-32:], 1)


async def misspell_a_key(client):
    await client.call("GET", "/zones?limt=1")


async def narrow_by_path(client):
    await client.call("GET", f"/zones/{named('zone-1')}?limit=1")


async def behave(client):
    await client.create()
    await client.call("GET", "/zones?q=name=z&limit=10")


HABITS = [
    (hurry, {("polls-too-fast", "CreateZone"): 2}),
    (never_give_up, {("polls-without-end", "CreateZone"): 1}),
    (give_up, {}),
    (poll_on, {("polls-after-end", "CreateZone"): 1}),
    (forget, {("job-never-polled", "CreateZone"): 1}),
    (be_called, {}),
    (ask_for_each, {("query-per-object", "QueryHost"): 1}),
    (ask_for_each_by_path, {("query-per-object", "QueryHost"): 1}),
    (ask_for_all, {}),
    (ask_after_each_change, {}),
    (list_all, {("list-without-limit", "QueryVmInstance"): 1}),
    (list_pages, {}),
    (log_in_for_each, {("login-per-call", "LogInByAccount"): 3}),
    (stay, {("session-left-open", "LogInByAccount"): 1}),
    (retry_blindly, {("retry-without-job-uuid", "CreateZone"): 1}),
    (retry_with_uuid, {}),
    (insist, {("retries-a-refusal", "QueryZone"): 1}),
    (insist_on_a_job, {("retries-a-refusal", "CreateZone"): 1}),
    (go_on, {}),
    (misspell, {("unread-field", "CreateZone"): 1}),
    (misspell_a_key, {("unread-field", "QueryZone"): 1}),
    (narrow_by_path, {("unread-field", "QueryZone"): 1}),
    (behave, {}),
]


@pytest.mark.parametrize(("habit", "findings"), HABITS, ids=[habit.__name__ for habit, _ in HABITS])
async def test_a_habit_is_found_where_it_is(world, habit, findings):
    cloud = "large:150" if habit in (list_all, list_pages) else "demo"
    async with serve(cloud=cloud, delay="0.5") as mock, aiohttp.ClientSession() as http:
        client = Client(mock, http, world)
        await client.login()
        await habit(client)
        if client.logout:
            await client.logout()
        answer = mock.lint()["findings"]
        assert {(row["rule"], row["api"]): row["count"] for row in answer} == findings
        for row in answer:
            assert row["advice"] == ADVICE[row["rule"]]
            shown = [call for call in mock.calls() if call.seq in row["example"]]
            assert len(shown) == min(row["count"], 5) and {call.api for call in shown} <= {row["api"], "PollJob"}


def test_each_advice_has_a_client_that_needs_it():
    assert {rule for _, findings in HABITS for rule, _ in findings} == ADVICE.keys()


async def test_over_http_what_is_open_counts_after_10_minutes(zmock):
    async with aiohttp.ClientSession() as http:
        client = Client(zmock, http, None)
        await client.login()
        await client.submit()
        await zmock.advance(590)
        assert await ask_control(zmock, "GET", "lint") == {"findings": []}
        await zmock.advance(20)
    findings = (await ask_control(zmock, "GET", "lint"))["findings"]
    assert [row["rule"] for row in findings] == ["job-never-polled", "session-left-open"]
    await zmock.reset()
    assert await ask_control(zmock, "GET", "lint") == {"findings": []}


async def test_the_handle_is_no_client(cloud):
    for _ in range(3):
        await cloud.create("CreateZone", name="z")
    assert cloud.lint() == {"findings": []}


TESTS = """
import urllib.request

def test_failing(zmock_server):
    request = urllib.request.Request(zmock_server.url + "/zones?limt=1", headers={"Authorization": "OAuth " + zmock_server.login()})
    try:
        urllib.request.urlopen(request)
    except OSError:
        pass
    assert False
"""


def test_the_report_of_a_failed_test_tells_of_habits(tmp_path):
    told = run_elsewhere(tmp_path, TESTS)
    assert "unread-field  QueryZone  1 time, as #2: leave it out, or spell it as the API does; see the hint of the call\n" in told, told


async def test_a_journal_of_no_calls_has_no_findings():
    async with serve(journal=0) as mock:
        await mock.login()
        async with aiohttp.ClientSession() as http, http.get(f"{mock.url}/zones?limt=1"):
            assert mock.calls() == [] and mock.lint() == await ask_control(mock, "GET", "lint") == {"findings": []}
