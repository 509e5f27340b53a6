"""What `make bench` prints: zmock beside a bare aiohttp server that does nothing, measured in turns in one run."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import aiohttp
from aiohttp import web

from zmock import Catalogue, Settings, fill, named, new_cloud, read_query, serve

ROUNDS, GETS = 7, 2000
ZMOCK = Path(__file__).parent.parent / "zmock.py"
BARE = """
import asyncio, tinydb
from aiohttp import web
async def hello(request): return web.Response(body=b"{}")
async def main():
    app = web.Application(); app.router.add_get("/{rest:.*}", hello)
    runner = web.AppRunner(app, access_log=None); await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"URL=http://127.0.0.1:{runner.addresses[0][1]}/zstack/v1", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def start(command):
    """Milliseconds from the start of a process to its first answer, and its resident megabytes then."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        url = process.stdout.readline().partition("=")[2].strip()
        urllib.request.urlopen(url.replace("/zstack/v1", "/zmock/health")).read()
        took = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status")
        resident = next((int(line.split()[1]) for line in status.open() if line.startswith("VmRSS")), 0) if status.exists() else 0
        process.terminate()
    return took * 1000, resident / 1024


def starts():
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(start([ZMOCK, "--port", "0", "--data", f"{folder}/{n}"]), start(["-c", BARE])) for n in range(ROUNDS)]
    mine, bare = ([statistics.median(column) for column in zip(*side)] for side in zip(*pairs))
    print(f"start to first answer   {mine[0]:6.0f} ms   bare aiohttp and tinydb {bare[0]:6.0f} ms   ratio {mine[0] / bare[0]:.2f}")
    print(f"resident, demo cloud    {mine[1]:6.1f} MB   bare aiohttp and tinydb {bare[1]:6.1f} MB   ratio {mine[1] / bare[1]:.2f}")


async def seconds_of_gets(session, url, headers):
    began = time.perf_counter()
    for _ in range(GETS):
        async with session.get(url, headers=headers) as answer:
            await answer.read()
    return time.perf_counter() - began


async def gets():
    async with serve() as mock, aiohttp.ClientSession() as session:
        headers, url = {"Authorization": f"OAuth {await mock.login()}"}, f"{mock.url}/vm-instances/{named('vm-web-1')}"
        async with session.get(url, headers=headers) as answer:
            body = await answer.read()
        app = web.Application()
        app.router.add_get("/", handler_of(body))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        bare_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        pairs = [(await seconds_of_gets(session, url, headers), await seconds_of_gets(session, bare_url, headers)) for _ in range(3)]
        await runner.cleanup()
    mine, bare = (GETS / min(side) for side in zip(*pairs))
    print(f"GET a VM by its uuid    {mine:6.0f} /s   bare handler, same bytes {bare:5.0f} /s   ratio {mine / bare:.2f}")


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
        cloud.query(api, read_query(pairs, cloud.dialect)[0])
        took.append(time.perf_counter() - began)
    return min(took[1:])


def queries(sizes=(1_000, 100_000)):
    catalogue, clouds = Catalogue(ZMOCK.parent / "data" / "catalogue.json"), {}
    for size in sizes:
        clouds[size] = new_cloud(Settings(memory=True), catalogue)
        fill(clouds[size], f"large:{size}")
    for what, pairs in VM_QUERIES.items():
        few, many = (seconds_of_query(cloud, pairs) * 1000 for cloud in clouds.values())
        print(f"{what:23} {many:6.2f} ms of 100 000   of 1 000 virtual machines {few:9.2f} ms   ratio {many / few:.2f}")


def handler_of(body):
    async def answer(request):
        return web.Response(body=body, content_type="application/json")

    return answer


if __name__ == "__main__":
    starts()
    asyncio.run(gets())
    queries()
