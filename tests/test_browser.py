"""A page from another origin, in a real browser: it logs in, creates a virtual machine, polls, and shows it."""

import asyncio
import contextlib
import os
import shutil
import signal

import pytest
from aiohttp import web

from zmock import named

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync").split()  # fmt: skip
PAGE = """<!doctype html>
<title>virtual machines</title>
<table id="vms"></table>
<script type="module">
const api = "%(url)s"
const hash = new Uint8Array(await crypto.subtle.digest("SHA-512", new TextEncoder().encode("password")))
const password = [...hash].map(byte => byte.toString(16).padStart(2, "0")).join("")
const headers = {"Content-Type": "application/json"}
const seen = []

function show(name, state) {
  document.querySelector("#vms").innerHTML = `<tr><td>${name}</td><td>${state}</td></tr>`
  if (seen.at(-1) !== state) seen.push(state)
}

async function call(method, path, body) {
  const answer = await fetch(path.startsWith("http") ? path : api + path, {method, headers, body: body && JSON.stringify(body)})
  return [answer.status, await answer.json(), answer]
}

try {
  const [, login] = await call("PUT", "/accounts/login", {logInByAccount: {accountName: "admin", password}})
  headers.Authorization = "OAuth " + login.inventory.uuid
  let [status, body] = await call("POST", "/vm-instances", {params: %(params)s})
  const job = body.location
  while (status === 202) {
    const [, found] = await call("GET", "/vm-instances?q=name=from-the-page")
    show("from-the-page", found.inventories[0]?.state ?? "…");
    [status, body] = await call("GET", job)
    await new Promise(done => setTimeout(done, 50))
  }
  show(body.inventory.name, body.inventory.state)
  const [, , wrong] = await call("GET", "/zones?q=nam=x")
  seen.push(wrong.headers.get("X-ZMock-Hint"))
} catch (error) {
  seen.push(String(error))
}
await fetch("/shown", {method: "POST", body: JSON.stringify({seen, text: document.body.innerText})})
</script>
"""


@contextlib.asynccontextmanager
async def site(page):
    """(the address of a server that has only that page, what the page sends to /shown)."""
    shown = asyncio.get_running_loop().create_future()

    async def get(request):
        return web.Response(text=page, content_type="text/html")

    async def post(request):
        shown.set_result(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_get("/", get)
    app.router.add_post("/shown", post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", shown
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def browser(url, folder):
    process = await asyncio.create_subprocess_exec(
        BROWSER, *FLAGS, f"--user-data-dir={folder}", url, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.skipif(not BROWSER, reason="there is no chromium here (apt install chromium)")
@pytest.mark.zmock(clock="real", delay="0.5")
async def test_a_page_from_another_port_creates_a_virtual_machine_and_shows_it_running(zmock, tmp_path):
    uuids = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
    page = PAGE % {"url": zmock.url, "params": {"name": "from-the-page"} | uuids}
    async with site(page) as (url, shown), browser(url, tmp_path):
        told = await asyncio.wait_for(shown, 60)
    assert told["text"].split() == ["from-the-page", "Running"], told
    assert told["seen"][-2:] == ["Running", "Zone has no field nam, did you mean name?"]
    assert "Starting" in told["seen"]
    (vm,) = await zmock.query("vm-instances", "name=from-the-page")
    assert vm["state"] == "Running"
    assert {call.method for call in zmock.calls()} >= {"OPTIONS", "PUT", "POST", "GET"}
