"""Pages of other origins in a real browser, with cookies, and behind the proxy of a development server."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from aiohttp import web
from asking import each
from multidict import CIMultiDict

from zmock import named, serve

UUIDS = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
PAGE = """<!doctype html>
<title>virtual machines</title>
<link rel=icon href="data:,">
<table id="vms"></table>
<script>
let api = "/zstack/v1", session, states = []

async function call(method, path, body, headers = {}) {
  headers = {"Content-Type": "application/json", ...session && {Authorization: "OAuth " + session}, ...headers}
  const url = path.startsWith("http") ? path : api + path
  const answer = await fetch(url, {method, headers, body: body && JSON.stringify(body), credentials: "include"})
  return {status: answer.status, body: await answer.json(), hint: answer.headers.get("X-ZMock-Hint"), rule: answer.headers.get("X-ZMock-Rule")}
}

async function logIn() {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-512", new TextEncoder().encode("password")))
  const password = [...hash].map(byte => byte.toString(16).padStart(2, "0")).join("")
  session = (await call("PUT", "/accounts/login", {logInByAccount: {accountName: "admin", password}})).body.inventory.uuid
}

async function end(answer, each = () => {}) {
  const location = answer.body.location
  while (answer.status === 202) {
    await each()
    await new Promise(done => setTimeout(done, 20))
    answer = await call("GET", location)
  }
  return {location, ...answer}
}

async function show(name) {
  const {state} = (await call("GET", "/vm-instances?q=name=" + name)).body.inventories[0] ?? {state: "…"}
  if (states.at(-1) !== state) states.push(state)
  document.querySelector("#vms").innerHTML = `<tr><td>${name}</td><td>${state}</td></tr>`
}
</script>
"""


@contextlib.asynccontextmanager
async def site(answer=None):
    """Serve what `answer(request)` answers, else the page, on a free port: yield the address."""

    async def handler(request):
        return (answer and await answer(request)) or web.Response(text=PAGE, content_type="text/html")

    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def host(address):
    return address.partition("://")[2]


HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length")


@contextlib.asynccontextmanager
async def behind_proxy(change_origin=False, forwarded=False, prefix="", paths=("/zstack/", "/zmock"), allowed=False):
    """Run a mock, and a site that passes paths on to it as the development server of Vite does: yield both.

    `changeOrigin` and `xfwd` are its options. The mock may allow the origin of the site.
    """

    async def answer(request):
        path = request.path_qs.removeprefix(prefix)
        if not request.path_qs.startswith(prefix) or not path.startswith(paths):
            return None
        headers = CIMultiDict((name, text) for name, text in request.headers.items() if name not in HOP_BY_HOP)
        if forwarded:
            headers.update({"X-Forwarded-Host": request.host, "X-Forwarded-Proto": "http", "X-Forwarded-Prefix": prefix or "/"})
        if change_origin:
            headers["Host"] = host(mock.base)
        async with aiohttp.ClientSession(auto_decompress=False) as http, http.request(
            request.method, mock.base + path, headers=headers, data=await request.read() or None, allow_redirects=False
        ) as true:  # fmt: skip
            passed = CIMultiDict((name, text) for name, text in true.headers.items() if name not in HOP_BY_HOP)
            response = web.StreamResponse(status=true.status, headers=passed)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):  # the page has gone
                async for chunk in true.content.iter_any():
                    await response.write(chunk)
            return response

    async with site(answer) as address, serve(clock="real", allow_origin=(address,) if allowed else ()) as mock:
        yield mock, address


def javascript(*values):
    return ", ".join(map(json.dumps, values))


async def page_at(browser, address, mock, api=""):
    """Open the page of a site, logged in to the API of a mock: by its address, else by the page's own."""
    page = await browser.open(address + "/", hosts=[host(mock.base)])
    await page.until("typeof call === 'function'")
    await page.run(f"api = {javascript(api + '/zstack/v1')}; logIn()")
    return page


# other origins


@pytest.mark.zmock(clock="real", delay="0.5")
async def test_a_page_from_another_port_creates_a_virtual_machine_and_shows_it_running(zmock, browser):
    async with site() as address:
        page = await page_at(browser, address, zmock, zmock.base)
        body = {"params": UUIDS | {"name": "from-the-page"}}
        created = await page.run(f"call('POST', '/vm-instances', {javascript(body)}).then(answer => end(answer, () => show('from-the-page')))")
        await page.run("show('from-the-page')")
        await page.see("from-the-page\tRunning", "#vms")
        assert created["body"]["inventory"]["state"] == "Running"
        assert await page.run("states.slice(-2)") == ["Starting", "Running"]
        wrong = await page.run("call('GET', '/zones?q=nam=x')")
        assert (wrong["status"], wrong["hint"]) == (400, "Zone has no field nam, did you mean name?")
        page.expected = ["status of 400"]
    (vm,) = await zmock.query("vm-instances", "name=from-the-page")
    assert vm["state"] == "Running"
    assert {call.method for call in zmock.calls()} >= {"OPTIONS", "PUT", "POST", "GET"}


CONTROL = "{method: 'POST', credentials: 'include', headers: {'Content-Type': 'application/json'}, body: '{\"api\": \"CreateZone\", \"delay\": 1}'}"


async def test_zmock_answers_the_pages_of_allowed_origins_only_and_the_api_those_of_all(browser):
    async with site() as allowed, site() as other, serve(allow_origin=(allowed,)) as mock:
        for address, works in ((allowed, True), (other, False)):
            page = await page_at(browser, address, mock, mock.base)
            assert (await page.run("call('GET', '/zones?count=true')"))["body"]["total"] == 1
            public = await page.run(f"Promise.all(['health', 'openapi.json'].map(name => fetch('{mock.base}/zmock/' + name).then(answer => answer.status)))")
            assert public == [200, 200]
            tries = [f"fetch('{mock.base}/zmock/rules', {options})" for options in ("{credentials: 'include'}", CONTROL)]
            statuses = [await page.run(f"{fetch}.then(answer => answer.status, error => error.message)") for fetch in tries]
            readable = [status for status in statuses if isinstance(status, int)]
            assert readable == [200, 200] if works else 200 not in statuses
            page.expected = [] if works else ["blocked by CORS policy", r"zmock/rules$"]
        assert len(mock.rules) == 1


# faults by header


async def test_a_page_asks_for_faults_by_headers(zmock, browser):
    async with site() as address:
        page = await page_at(browser, address, zmock, zmock.base)
        page.expected = ["status of [45]0[03]"]

        async def call(method, path, body, **headers):
            sent = {"X-ZMock-" + name: text for name, text in headers.items()}
            return await page.run(f"call({javascript(method, path, body, sent)}).then(answer => (answer.status === 202 ? end(answer) : answer))")

        listed = await call("GET", "/zones", None, Fault="SYS.1001")
        assert (listed["status"], listed["body"]["error"]["code"]) == (503, "SYS.1001")
        made = await call("POST", "/zones", {"params": {"name": "z"}}, Fault="HOST_ALLOCATION.1000")
        assert (made["status"], made["body"]["error"]["code"]) == (503, "HOST_ALLOCATION.1000")
        wrong = await call("GET", "/zones", None, Fault="HOST_ALLOCATION.100")
        assert wrong["status"] == 400 and "HOST_ALLOCATION.1000" in wrong["hint"] + str(wrong["body"])
        assert (await call("GET", "/zones", None, Delay="soon"))["status"] == 400
        assert (await call("GET", "/zones", None))["status"] == 200


@each("header, method, path, body", (
    ("Delay", "GET", "/zones", None), ("Delay", "POST", "/zones", {"params": {"name": "z"}}),
    ("Hold", "GET", "/zones", None), ("Hold", "POST", "/zones", {"params": {"name": "z"}}),
))  # fmt: skip
async def test_a_page_makes_a_call_wait_by_a_header(zmock, browser, header, method, path, body):
    async with site() as address:
        page = await page_at(browser, address, zmock, zmock.base)
        before = zmock.clock.now()
        call = f"call({javascript(method, path, body, {f'X-ZMock-{header}': '5'})})"
        answer = asyncio.create_task(page.run(f"{call}.then(answer => answer.status === 202 ? end(answer) : answer)"))
        while not answer.done():
            await zmock.advance(0.5)
            await asyncio.sleep(0.01)
        assert (await answer)["status"] == 200
        assert zmock.clock.now() - before >= 5


# behind a proxy


PROXIES = {
    "as Vite does it": {},
    "with changeOrigin": {"change_origin": True, "allowed": True},
    "with X-Forwarded-Host": {"forwarded": True},
    "with both": {"change_origin": True, "forwarded": True},
    "with a prefix": {"forwarded": True, "prefix": "/mock"},
    "with a prefix and changeOrigin": {"forwarded": True, "change_origin": True, "prefix": "/mock"},
}


@each("options", PROXIES.values(), PROXIES.keys())
async def test_a_page_behind_a_proxy_reaches_the_api_its_jobs_and_zmock(browser, options):
    async with behind_proxy(**options) as (mock, address):
        prefix = options.get("prefix", "")
        page = await page_at(browser, address, mock, prefix)
        made = await page.run("call('POST', '/zones', {params: {name: 'z'}}).then(end)")
        assert made["body"]["inventory"]["name"] == "z"
        is_own = options.get("forwarded") or not options.get("change_origin")
        assert made["location"].startswith(f"{address if is_own else mock.base}{prefix}/zstack/v1/api-jobs/")
        failed = await page.run("call('POST', '/zones', {params: {name: 'z'}}, {'X-ZMock-Fault': 'SYS.1001'}).then(end)")
        assert (failed["status"], failed["body"]["error"]["code"]) == (503, "SYS.1001")
        assert await page.run(f"fetch('{prefix}/zmock/rules', {CONTROL}).then(answer => answer.status)") == 200
        page.expected = ["status of 503"]


async def test_a_proxy_that_hides_the_host_of_the_page_needs_its_origin_allowed(browser):
    async with behind_proxy(change_origin=True) as (mock, address):
        page = await page_at(browser, address, mock)
        refused = await page.run(f"fetch('/zmock/rules', {CONTROL}).then(answer => answer.json())")
        assert f"--allow-origin {address}" in refused["hint"]
        page.expected = ["status of 403"]


@each("options, place", (
    ({}, "/zmock/"), ({"prefix": "/mock", "forwarded": True}, "/mock/"),
    ({"prefix": "/a/b", "change_origin": True, "allowed": True}, "/a/b/zmock"),
))  # fmt: skip
async def test_the_page_of_zmock_works_behind_a_proxy(browser, options, place):
    paths = "/" if "prefix" in options else ("/zstack/", "/zmock")
    async with behind_proxy(**options, paths=paths) as (mock, address):
        page = await browser.open(address + place)
        await page.see("web-1", "tbody")
        await page.click("[data-tab=time]")
        await page.click("button", "Frozen")
        await page.until("document.querySelector('.clock.frozen')")
        assert mock.clock.mode == "frozen"
        await page.close()


# retries


async def test_a_browser_repeats_a_get_whose_kept_connection_was_reset(zmock, browser):
    """A rule meets the repeat as a further call, unless it counts it as the same call."""
    async with site() as address:
        page = await page_at(browser, address, zmock, zmock.base)
        get = "fetch(api + '/zones?count=true', {headers: {Authorization: 'OAuth ' + session}}).then(answer => answer.status, error => error.message)"
        for retries, shown in (({}, 200), ({"retries": "same"}, "Failed to fetch")):
            await page.run(get)  # a connection that the browser keeps
            rule = zmock.rule(api="QueryZone", times=1, then={"drop": "reset"}, **retries)
            assert await page.run(get) == shown
            assert rule.hits == 1
        page.expected = ["ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
