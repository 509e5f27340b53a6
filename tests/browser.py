"""A client of Chromium's DevTools protocol: it opens pages, acts on them as a person does, and collects what goes wrong in them."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
         "--disable-sync --disable-dev-shm-usage --disable-extensions --remote-debugging-port=0 "
         # the list of the address bar is a page of its own in each window, which costs as much as ours
         "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup").split()  # fmt: skip
PATIENCE = 30  # seconds of real time until a condition has failed
SHOTS = os.environ.get("ZMOCK_TEST_SHOTS")  # a folder for screenshots; without it there are none
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40}  # Windows' numbers
# The first visible element of a selector that has a text.
FIND = """((selector, text) => {
  const shown = [...document.querySelectorAll(selector)].filter(each => each.checkVisibility() && !each.disabled)
  const element = shown.find(each => (each.innerText || each.value || "").includes(text))
  if (!element) throw Error(`no ${selector} with "${text}" among ${shown.length}`)
  element.scrollIntoView({block: "nearest", inline: "nearest"})
  return element
})(%s, %s)"""
# Where to click an element. A click that meets another one, as the page moved meanwhile, is stopped; `hit` says so.
AIM = """(element => {
  const {x, y, width, height} = element.getClientRects()[0]
  const place = {x: x + width / 2, y: y + height / 2}
  const meets = target => element.contains(target) || target?.closest("label")?.contains(element)
  const top = document.elementFromPoint(place.x, place.y)
  if (!meets(top)) throw Error(`covered by ${top?.outerHTML.slice(0, 200)}`)
  globalThis.aim?.abort()
  globalThis.aim = new AbortController()
  globalThis.hit = undefined
  for (const kind of ["mousedown", "mouseup", "click"]) {
    addEventListener(kind, event => {
      globalThis.hit ??= meets(event.target)
      if (!globalThis.hit) { event.preventDefault(); event.stopImmediatePropagation() }
    }, {capture: true, signal: aim.signal})
  }
  return place
})(%s)"""


@contextlib.contextmanager
def running_chromium(folder):
    """Run a browser without a window; its profile is in a folder. Yield the address of its protocol."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        place, deadline = Path(folder, "DevToolsActivePort"), time.monotonic() + 60
        while not (place.exists() and place.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < deadline, f"{CHROMIUM} does not start"
            time.sleep(0.01)
        port, path = place.read_text().split()
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class ScriptError(Exception):
    """An expression that threw in the page, or a call of the protocol that failed."""


class Browser:
    """A window of the browser with cookies and storage of its own: `async with Browser(address) as browser`."""

    def __init__(self, address):
        self.address, self.numbers, self.answers, self.pages = address, itertools.count(1), {}, {}

    async def __aenter__(self):
        self.http = aiohttp.ClientSession()
        self.socket = await self.http.ws_connect(self.address, max_msg_size=0)
        self.listening = asyncio.create_task(self.listen())
        self.context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        return self

    async def __aexit__(self, *failure):
        await self.send("Target.disposeBrowserContext", browserContextId=self.context)
        await self.socket.close()
        await self.listening
        await self.http.close()

    async def listen(self):
        async for frame in self.socket:
            message = json.loads(frame.data)
            if answer := self.answers.pop(message.get("id"), None):
                answer.set_result(message)
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].note(message["method"], message["params"])

    async def send(self, method, session=None, **params):
        """Make a call of the protocol. Return its result."""
        number = next(self.numbers)
        answer = self.answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {}))
        message = await asyncio.wait_for(answer, 60)
        if "error" in message:
            raise ScriptError(f"{method}: {message['error']['message']}")
        return message["result"]

    async def open(self, url, hosts=(), width=1280, language="en-US", dark=False):
        """Open a page. It may ask its own host and the hosts given: "127.0.0.1:8080"."""
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=self.context))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self.pages[session] = Page(self, target, session, {urlsplit(url).netloc, *hosts})
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.send(f"{domain}.enable")
        await page.resize(width)
        await page.colours("dark" if dark else "light")
        await page.send("Emulation.setUserAgentOverride", userAgent="Chromium", acceptLanguage=language)
        await page.send("Emulation.setTimezoneOverride", timezoneId="UTC")
        await page.send("Page.navigate", url=url)
        return page

    def problems(self):
        """Return what went wrong in the pages, apart from what their tests expect."""
        return [problem for page in self.pages.values() for problem in page.problems()]


class Page:
    """A page: what it shows, and what a person does to it. Reports that match one of `expected` are no problems."""

    def __init__(self, browser, target, session, hosts):
        self.browser, self.target, self.session, self.hosts, self.reports, self.expected = browser, target, session, hosts, [], []
        self.streams = set()  # of server-sent events, as long as they are open

    async def send(self, method, **params):
        return await self.browser.send(method, self.session, **params)

    def note(self, method, params):
        """Keep an event that can be a problem: an exception, a line of the console or of the log (the CSP), a request."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.reports.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled":
            self.reports.append(" ".join([f"console.{params['type']}:", *(str(each.get("value", each.get("description"))) for each in params["args"])]))
        elif method == "Log.entryAdded":
            self.reports.append("log: {level}: {text} {url}".format_map({"url": ""} | params["entry"]))
        elif method == "Network.requestWillBeSent":
            host = urlsplit(params["request"]["url"]).netloc
            self.reports += [f"request: {params['request']['url']}"] if host not in {"", *self.hosts} else []
            self.streams |= {params["requestId"]} if params.get("type") == "EventSource" else set()
        elif method in ("Network.loadingFailed", "Network.loadingFinished"):
            self.streams.discard(params["requestId"])

    def problems(self):
        return [report for report in self.reports if not any(re.search(pattern, report) for pattern in self.expected)]

    async def run(self, expression):
        """Return the value of an expression in JavaScript, or of its promise."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise ScriptError(answer["exceptionDetails"].get("exception", {}).get("description", "").partition("\n")[0])
        return answer["result"].get("value")

    async def until(self, expression, seconds=PATIENCE):
        """Evaluate an expression until it is true, and return its value. To throw means: not yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = reason = await self.run(expression)
            except ScriptError as error:
                value, reason = None, error
            if value not in (None, False, 0, ""):
                return value
            if time.monotonic() > deadline:
                text = (await self.run("document.querySelector('dialog, main, body').innerText")).replace("\n", " | ")
                raise AssertionError(f"{expression}\nis not true after {seconds} s: {reason}\nproblems: {self.problems()}\nthe page: {text[:1500]}")
            await asyncio.sleep(0.05)  # each evaluation costs the browser a millisecond or three

    async def see(self, text, selector="body"):
        """Wait until an element shows a text."""
        await self.until(f"[...document.querySelectorAll({json.dumps(selector)})].some(each => each.innerText.includes({json.dumps(text)}))")

    async def click(self, selector, text=""):
        """Click the first visible element of a selector that has a text. A click that meets another one, as the page moved, is taken back and made again."""
        hit = False
        while not hit:
            place = await self.until(AIM % FIND % (json.dumps(selector), json.dumps(text)))
            for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
                await self.send("Input.dispatchMouseEvent", type=kind, button="left", buttons=buttons, clickCount=1, **place)
            hit = await self.run("typeof hit === 'undefined' || (aim.abort(), hit)")  # a page that the click left is another one

    async def write(self, text, selector=None):
        """Write a text where the focus is, or in place of the text of an element."""
        if selector:
            await self.until(f"(element => (element.focus(), element.select(), document.activeElement === element))({FIND % (json.dumps(selector), '``')})")
        await self.send("Input.insertText", text=text)

    async def choose(self, selector, value):
        """Choose a value of a <select>, whose list of options is no part of the page."""
        chosen = f"element.focus(), element.value = {json.dumps(value)}, element.value === {json.dumps(value)}"
        events = "['input', 'change'].map(kind => element.dispatchEvent(new Event(kind, {bubbles: true})))"
        await self.until(f"(element => ({chosen}) && {events})({FIND % (json.dumps(selector), '``')})")

    async def press(self, *keys):
        """Press keys: "Enter", "ArrowDown", "p", "?"."""
        for key in keys:
            shift = 8 if key in "?" else 0
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = KEYS.get(key) or ord(key.upper())
            for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
                sent = {"text": text} if kind == "keyDown" else {}
                await self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=shift, **sent)

    async def close(self):
        await self.browser.send("Target.closeTarget", targetId=self.target)

    async def resize(self, width, height=800):
        await self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    async def colours(self, scheme):
        await self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def shoot(self, name):
        """Take a screenshot, if ZMOCK_TEST_SHOTS names a folder."""
        if SHOTS:
            picture = await self.send("Page.captureScreenshot", format="png")
            Path(SHOTS, f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
