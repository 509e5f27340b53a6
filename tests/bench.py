"""What `make bench` prints: zmock beside a bare aiohttp server, in turns in one run; clients and servers are processes of their own."""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from browser import CHROMIUM, Browser, running_chromium

from zmock import SHA512_OF_PASSWORD, Catalogue, Settings, fill, named, new_cloud, read_query

ROUNDS, TURNS, SECONDS = 5, 3, 0.8
HERE = Path(__file__)
ZMOCK = HERE.parent.parent / "zmock.py"
BARE = """
import asyncio, sys, tinydb
from aiohttp import web
body = open(sys.argv[1], "rb").read() if sys.argv[1:] else b"{}"
async def answer(request): return web.Response(body=body, content_type="application/json")
async def main():
    app = web.Application(); app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None); await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"URL=http://127.0.0.1:{runner.addresses[0][1]}/zstack/v1", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Server:
    """A process that answers: zmock with flags, or a bare one."""

    def __init__(self, *command):
        self.session, self.stderr, began = "", tempfile.TemporaryFile("w+"), time.perf_counter()  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        self.url = self.process.stdout.readline().partition("=")[2].strip()
        if not self.url:
            self.process.wait()
            self.stderr.seek(0)
            sys.exit(f"{self.process.args} does not start: {self.stderr.read()}")
        self.ask("GET", self.url.replace("/zstack/v1", "/zmock/health"))
        self.started = time.perf_counter() - began

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.terminate()
        self.process.wait()
        self.stderr.close()

    def ask(self, method, url, body=None):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"OAuth {self.session}"} if self.session else {})
        with urllib.request.urlopen(urllib.request.Request(url, body and json.dumps(body).encode(), headers, method=method)) as answer:
            return answer.read()

    def log_in(self):
        told = self.ask("PUT", self.url + "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}})
        self.session = json.loads(told)["inventory"]["uuid"]

    def objects(self):
        return sum(json.loads(self.ask("GET", self.url.replace("/zstack/v1", "/zmock/health")))["objects"].values())

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self):
        status = Path(f"/proc/{self.process.pid}/status")
        return next((int(line.split()[1]) for line in status.open() if line.startswith("VmRSS")), 0) / 1024 if status.exists() else 0


def zmock(folder, *flags):
    return Server(ZMOCK, "--port", 0, "--delay", 0, "--data", folder, *flags)


def load(*arguments):
    """What the load client, a process of its own, prints."""
    return json.loads(subprocess.run([sys.executable, HERE, *map(str, arguments)], capture_output=True, text=True, check=True).stdout)


# the load client


class Asking(asyncio.Protocol):
    """A connection that asks one thing again and again, and counts the answers; the first one says how long they are."""

    def __init__(self, request):
        self.request, self.length, self.had, self.answers, self.bytes = request, 0, b"", 0, 0

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        if not self.length:
            self.had += data
            head, end, _ = self.had.partition(b"\r\n\r\n")
            if not end:
                return
            assert b" 200 " in head, self.had
            self.length = len(head) + 4 + int(head.lower().partition(b"content-length:")[2].split()[0])
            data = self.had
        self.bytes += len(data)
        if self.bytes >= self.length:
            self.bytes, self.answers = 0, self.answers + 1
            self.transport.write(self.request)


async def gets(url, session, connections, seconds):
    """Answers per second."""
    host, _, path = url.removeprefix("http://").partition("/")
    request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: OAuth {session}\r\n\r\n".encode()
    loop, (name, port) = asyncio.get_running_loop(), host.split(":")
    asking = [(await loop.create_connection(lambda: Asking(request), name, int(port)))[1] for _ in range(int(connections))]
    await asyncio.sleep(0.1)
    before, began = sum(one.answers for one in asking), time.perf_counter()
    await asyncio.sleep(float(seconds))
    return (sum(one.answers for one in asking) - before) / (time.perf_counter() - began)


async def steadily(url, session, rate, seconds):
    """The number of answers to GETs that are sent at a rate, however fast they are answered."""
    host, _, path = url.removeprefix("http://").partition("/")
    request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: OAuth {session}\r\n\r\n".encode()
    name, port = host.split(":")
    connections = [await asyncio.open_connection(name, int(port)) for _ in range(16)]
    began, sent, answers = time.perf_counter(), 0, 0

    async def drain(reader):
        nonlocal answers
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            answers += 1

    tasks = [asyncio.create_task(drain(reader)) for reader, _ in connections]
    while (passed := time.perf_counter() - began) < float(seconds):
        while sent < passed * float(rate):
            connections[sent % 16][1].write(request)
            sent += 1
        await asyncio.sleep(0.001)
    while answers < sent:
        assert not any(task.done() for task in tasks)
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    return answers


async def creates(url, session, count, together):
    """Seconds until so many zones are made and polled to the end, of which some are under way at the same time."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, port = host.split(":")
    headers = f"HTTP/1.1\r\nHost: {host}\r\nAuthorization: OAuth {session}\r\n"
    numbers = iter(range(int(count)))

    async def ask(streams, method, where, body=""):
        reader, writer = streams
        writer.write(f"{method} {where} {headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split()[0])
        return int(head[9:12]), json.loads(await reader.readexactly(length))

    async def make(streams):
        for number in numbers:
            status, body = await ask(streams, "POST", f"/{path}/zones", json.dumps({"params": {"name": f"zone-{number}"}}))
            location = "/" + body["location"].removeprefix("http://").partition("/")[2]
            while status == 202:
                status, body = await ask(streams, "GET", location)
            assert status == 200, body

    connections = [await asyncio.open_connection(name, int(port)) for _ in range(int(together))]
    began = time.perf_counter()
    await asyncio.gather(*map(make, connections))
    return time.perf_counter() - began


# what is printed


VM_QUERIES = {  # {} are of the virtual machine in the middle
    "q=uuid=": (("q", "uuid={uuid}"),),
    "q=name=": (("q", "name={name}"),),
    "q=vmNics.ip=": (("q", "vmNics.ip={ip}"),),
    "scan, sort, limit=20": (("q", "platform=Linux"), ("sort", "-name"), ("limit", "20")),
    "scan, count=true": (("q", "name~=%9%"), ("count", "true")),
}


def seconds_of_query(cloud, pairs, rounds=5):
    """The best of some rounds, without HTTP and without what is kept of earlier answers."""
    vm = cloud.find("VmInstance", "name", f"vm-{cloud.store.count('VmInstance') // 2}")[0]
    known = vm | {"ip": cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])[0]["ip"]}
    pairs, api, took = [(key, text.format(**known)) for key, text in pairs], cloud.catalogue.apis["QueryVmInstance"], []
    for _ in range(rounds):
        began = time.perf_counter()
        cloud.query(api, read_query(pairs, cloud.dialect)[0], cloud.queries)
        took.append(time.perf_counter() - began)
    return min(took[1:])


def queries(sizes=(1_000, 100_000)):
    catalogue, clouds = Catalogue(ZMOCK.parent / "data" / "catalogue.json"), {}
    for size in sizes:
        clouds[size] = new_cloud(Settings(memory=True), catalogue)
        fill(clouds[size], f"large:{size}")
    for what, pairs in VM_QUERIES.items():
        few, many = (seconds_of_query(cloud, pairs) * 1000 for cloud in clouds.values())
        print(f"{f'query {what}, 100 000 virtual machines':<46}{many:8.2f} ms   1 000 {few:8.2f} ms   ratio {many / few:.2f}", flush=True)


def beside(label, mine, bare, unit, form="8.0f"):
    print(f"{label:<46}{mine:{form}} {unit:<4} bare {bare:{form}} {unit:<4} ratio {mine / bare:.2f}", flush=True)


def starts(folder):
    pairs = []
    for n in range(ROUNDS):
        for side in ((ZMOCK, "--port", 0, "--data", folder / f"start-{n}"), ("-c", BARE)):
            with Server(*side) as server:
                pairs.append((server.started * 1000, server.megabytes()))
    mine, bare = ([statistics.median(column) for column in zip(*side)] for side in (pairs[::2], pairs[1::2]))
    beside("start to first answer, demo cloud", mine[0], bare[0], "ms")
    beside("resident, demo cloud", mine[1], bare[1], "MB")
    return bare[0]


def start_of_many(folder, bare):
    """100 000 objects that are on the disk already."""
    found = []
    for _ in range(3):
        with zmock(folder) as server:
            found.append((server.started * 1000, server.megabytes(), server.objects()))
    milliseconds, megabytes, objects = (statistics.median(column) for column in zip(*found))
    beside(f"start to first answer, {objects} objects kept", milliseconds, bare, "ms")
    return megabytes, objects


def reading(server, label):
    """GET by uuid, and a list with a condition, beside a bare handler that answers the same bytes."""
    server.log_in()
    for what, path in (("GET by uuid", f"/vm-instances/{named('vm-77')}"), ("list, 20 of a host", f"/vm-instances?q=hostUuid={named('host-1')}&limit=20")):
        body = server.ask("GET", server.url + path)
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            with Server("-c", BARE, file.name) as bare:
                for connections in (1, 32):
                    turns = [[load("gets", s.url + path, server.session, connections, SECONDS) for s in (server, bare)] for _ in range(TURNS)]
                    beside(f"{what}, {label}, {connections} connections", *(max(side) for side in zip(*turns)), "/s")


def creating(servers):
    """What a create costs from POST to 200, one after the other, in turns on clouds of different sizes."""
    for server in servers:
        server.log_in()
    sizes, turns = [server.objects() for server in servers], 2 * TURNS
    found = [[load("creates", server.url, server.session, 100, 1) / 100 * 1000 for server in servers] for _ in range(turns)]
    best = [min(side) for side in zip(*found)]
    for size, milliseconds in zip(sizes, best):
        print(f"{f'create and poll, one by one, {size} objects':<46}{milliseconds:8.2f} ms   ratio to the fewest {milliseconds / best[0]:.2f}", flush=True)
    seconds = min(load("creates", servers[0].url, servers[0].session, 1000, 1000) for _ in range(TURNS))
    print(f"{'1000 creates at once, polled to the end':<46}{seconds:8.2f} s", flush=True)


def showing():
    """What the lines on stderr cost, beside --quiet."""
    with contextlib.ExitStack() as stack:
        flags = (ZMOCK, "--port", 0, "--memory", "--delay", 0)
        sides = [stack.enter_context(Server(*flags, *quiet)) for quiet in ((), ("--quiet",))]
        for server in sides:
            server.log_in()
        path = f"/vm-instances/{named('vm-web-1')}"
        for connections in (1, 32):
            turns = [[load("gets", s.url + path, s.session, connections, SECONDS) for s in sides] for _ in range(2 * TURNS)]
            shown, quiet = (max(side) for side in zip(*turns))
            print(f"{f'GET with a line each, {connections} connections':<46}{shown:8.0f} /s   --quiet {quiet:8.0f} /s   ratio {shown / quiet:.2f}", flush=True)
        turns = [[load("creates", s.url, s.session, 100, 1) * 10 for s in sides] for _ in range(2 * TURNS)]
        shown, quiet = (min(side) for side in zip(*turns))
        print(f"{'create and poll with a line each':<46}{shown:8.2f} ms   --quiet {quiet:8.2f} ms   ratio {shown / quiet:.2f}", flush=True)


READER = "import sys, urllib.request\nfor line in urllib.request.urlopen(sys.argv[1]): pass"


def watching(rate=1000, seconds=2):
    """What a reader of events costs the server for each call, at a rate of calls."""
    if not Path("/proc/self/stat").exists():
        return
    with contextlib.ExitStack() as stack:
        flags = (ZMOCK, "--port", 0, "--memory", "--quiet")
        servers = [stack.enter_context(Server(*flags)) for _ in range(3)]
        for server in servers:
            server.log_in()
        turns = []
        for _ in range(2 * TURNS):
            turns.append([microseconds(server, query, rate, seconds) for server, query in zip(servers, (None, "?calls=summary", ""))])
        alone, summary, full = (statistics.median(side) for side in zip(*turns))
    for label, watched in (("summary", summary), ("each call", full)):
        print(f"{f'CPU of a GET at {rate} a second, a reader of events, {label}':<62}{watched:6.0f} us   no reader {alone:6.0f} us   ratio {watched / alone:.2f}", flush=True)


def microseconds(server, query, rate, seconds):
    """CPU time of the server per call, while a process reads its events if there is a query."""
    url = server.url.replace("/zstack/v1", f"/zmock/events{query}")
    reader = None if query is None else subprocess.Popen([sys.executable, "-c", READER, url])
    time.sleep(0.3)
    before = server.cpu_seconds()
    answers = load("steadily", f"{server.url}/vm-instances/{named('vm-web-1')}", server.session, rate, seconds)
    used = server.cpu_seconds() - before
    if reader:
        reader.kill()
        reader.wait()
    return used / answers * 1e6


async def milliseconds_of_pages(address, pages, rounds):
    """Open pages in a browser, in turns. Return the median time to the first paint of each, and to what it shows then."""
    times = {url: [] for url in pages}
    for _ in range(rounds):
        for url, shown in pages.items():
            async with Browser(address) as browser:
                page = await browser.open(url)
                complete = await page.until(f"document.body.innerText.includes('{shown}') && performance.now()")
                first = await page.until("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                times[url].append((first, complete))
    return [[statistics.median(column) for column in zip(*times[url])] for url in pages]


async def milliseconds_to_appear(address, server, rounds):
    """The median time from the answer to a create until its row is on the page, which is open."""
    times = []
    async with Browser(address) as browser:
        page = await browser.open(server.url.replace("/zstack/v1", "/#/cloud/zones"))
        await page.see("live")
        for n in range(rounds):
            body = {"params": {"name": f"appears-{n}"}}
            await asyncio.to_thread(server.ask, "POST", server.url + "/zones", body)
            began = time.perf_counter()
            await page.see(f"appears-{n}", "tbody")
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def painting(folder, size=10_000):
    """When a browser shows the page of many virtual machines, beside a page of the same server that is text alone."""
    if not CHROMIUM:
        print("the page: not measured, there is no chromium here", flush=True)
        return
    with zmock(folder / "cloud", "--cloud", f"large:{size}") as server, running_chromium(folder / "chromium") as address:
        base = server.url.removesuffix("/zstack/v1")
        mine, bare = asyncio.run(milliseconds_of_pages(address, {f"{base}/": "vm-", f"{base}/zmock/health": "VmInstance"}, ROUNDS))
        beside(f"first paint of the page, {size} machines", mine[0], bare[0], "ms")
        beside(f"its list of them, {size} machines", mine[1], bare[1], "ms")
        server.log_in()
        took = asyncio.run(milliseconds_to_appear(address, server, ROUNDS))
        print(f"{f'a create until the page shows it, {size} machines':<46}{took:8.0f} ms", flush=True)


def resetting(folder):
    with zmock(folder, "--cloud", "large:330") as server:
        url, took = server.url.replace("/zstack/v1", "/zmock/reset"), []
        for _ in range(10):
            began = time.perf_counter()
            server.ask("POST", url, {})
            took.append((time.perf_counter() - began) * 1000)
        print(f"{f'reset of {server.objects()} objects, over HTTP and kept':<46}{min(took):8.2f} ms", flush=True)


def main(folder):
    bare = starts(folder)
    clouds = {"few": "large:25", "thousand": "large:330", "more": "large:3300", "many": "large:33000"}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(zmock(folder / name, "--cloud", cloud)) for name, cloud in clouds.items()}
        made = servers["many"].megabytes(), servers["many"].objects()
        time.sleep(3)  # until the files are complete
        creating([servers[name] for name in ("few", "more", "many")])
        reading(servers["thousand"], "1 000")
        reading(servers["many"], "100 000")
    showing()
    watching()
    painting(folder / "page")
    resetting(folder / "reset")
    size = sum(path.stat().st_size for path in (folder / "many").glob("*.json"))
    with zmock(folder / "none", "--cloud", "empty") as server:
        least = server.megabytes()
    kept = start_of_many(folder / "many", bare)
    for label, (megabytes, objects) in (("made", made), ("loaded", kept)):
        print(f"{f'resident per object of {size // objects} bytes, {label}':<46}{(megabytes - least) / objects * 1024:8.2f} KB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(asyncio.run({"gets": gets, "steadily": steadily, "creates": creates}[sys.argv[1]](*sys.argv[2:]))))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
        queries()
