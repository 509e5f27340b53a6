"""A real process is killed at random moments under load, and disks fail: nothing that was acknowledged is lost, nothing else half there."""

import asyncio
import contextlib
import copy
import errno
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
from uuid import UUID

import aiohttp
import pytest
from asking import IMPORTABLE, PROGRAM
from tinydb import TinyDB

from zmock import SHA512_OF_PASSWORD, named, serve

ROUNDS = int(os.environ.get("ROUNDS", 4))
LOG_IN = {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}
GONE = None


class Process:
    """A zmock with a folder."""

    def __init__(self, folder):
        command = [*PROGRAM, "--port", "0", "--data", folder, "--delay", "0-0.05"]
        self.process = subprocess.Popen(command, env=os.environ | IMPORTABLE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip().partition("=")[2]
        assert self.url, self.process.communicate()[1]

    def end(self, number):
        self.process.send_signal(number)
        return self.process.communicate()[1]


class Client:
    """Somebody who changes zones, volumes and virtual machines, and remembers what was acknowledged.

    `known` is what each zone is by what was acknowledged: a token in its name, its description and its tag, or GONE;
    `perhaps` is what it may be besides, when nobody said how a call ended.
    """

    def __init__(self, seed):
        self.random = random.Random(f"client {seed}")
        self.url = self.session = self.http = None
        self.known, self.perhaps, self.volumes, self.vms = {}, {}, {}, {}
        self.accepted, self.results = set(), {}
        self.refused = 0

    def uuid(self):
        return UUID(int=self.random.getrandbits(128), version=4).hex

    def memory(self):
        return copy.deepcopy({name: getattr(self, name) for name in ("known", "perhaps", "volumes", "vms", "accepted", "results")})

    async def ask(self, method, path, body=None, job=None):
        headers = {"Authorization": f"OAuth {self.session}"} | ({"X-Job-UUID": job} if job else {})
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.text())

    async def act(self, method, path, body=None):
        """A call to its end; whether it was done."""
        job = self.uuid()
        status, answer = await self.ask(method, path, body, job)
        if status == 202:
            self.accepted.add(job)
        while status == 202:
            await asyncio.sleep(0.005)
            status, answer = await self.ask("GET", f"/api-jobs/{job}")
        if job in self.accepted:
            self.results[job] = status, answer
        assert status == 200 or answer["error"]["code"] == "SYS.1016", (path, body, answer)
        self.refused += status != 200
        return status == 200

    async def to(self, uuid, token, method, path, body=None):
        """Makes a zone what it is to be."""
        self.perhaps.setdefault(uuid, set()).add(token)
        if await self.act(method, path, body):
            self.known[uuid] = token
        self.perhaps.pop(uuid)

    async def new_zone(self):
        uuid, token = self.uuid(), f"token-{self.random.getrandbits(40)}"
        given = {"name": token, "description": token, "resourceUuid": uuid}
        self.known[uuid] = GONE
        await self.to(uuid, token, "POST", "/zones", {"params": given, "userTags": ["t"]})

    async def some_zone(self):
        mine = [uuid for uuid, token in self.known.items() if token and uuid not in self.perhaps]
        uuid, token = self.random.choice(mine) if mine else None, f"token-{self.random.getrandbits(40)}"
        if uuid and self.random.random() < 0.4:
            await self.to(uuid, GONE, "DELETE", f"/zones/{uuid}")
        elif uuid:
            await self.to(uuid, token, "PUT", f"/zones/{uuid}/actions", {"updateZone": {"name": token, "description": token}})

    async def new_volume(self):
        uuid = self.uuid()
        given = {"name": "v", "diskOfferingUuid": named("disk-20g"), "primaryStorageUuid": named("ps-nfs"), "resourceUuid": uuid}
        self.volumes[uuid] = await self.act("POST", "/volumes/data", {"params": given})

    async def new_vm(self):
        uuid = self.uuid()
        given = {"name": "vm", "instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"),
                 "l3NetworkUuids": [named("l3-private")], "resourceUuid": uuid}  # fmt: skip
        if await self.act("POST", "/vm-instances", {"params": given}):
            self.vms[uuid] = "Running"
            self.vms.pop(uuid)  # nobody knows while it is asked
            if await self.act("DELETE", f"/vm-instances/{uuid}"):
                self.vms[uuid] = "Destroyed"

    async def work(self):
        """Does one thing after the other, until nobody answers any more."""
        things = [self.new_zone, self.some_zone, self.some_zone, self.new_volume, self.new_vm]
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                await self.random.choices(things, (4, 4, 4, 2, 1))[0]()

    @contextlib.asynccontextmanager
    async def on(self, url):
        async with aiohttp.ClientSession() as self.http:
            self.url = url
            if not self.session:
                self.session = (await self.ask("PUT", "/accounts/login", LOG_IN))[1]["inventory"]["uuid"]
            yield self

    # what must be

    async def check(self):
        zones = {zone["uuid"]: zone for zone in await self.all("zones")}
        tagged = {tag["resourceUuid"] for tag in await self.all("user-tags") if tag["tag"] == "t"}
        for uuid, token in self.known.items():
            zone = zones.get(uuid, {"name": GONE})
            assert zone["name"] in {token} | self.perhaps.get(uuid, set()), (uuid, token, self.perhaps.get(uuid))
            assert zone["name"] == zone.get("description") and (uuid in tagged) == (uuid in zones)
            self.known[uuid] = zone["name"]
        self.perhaps.clear()
        await self.check_sums()
        for job in self.random.sample(sorted(self.accepted), min(100, len(self.accepted))):
            status, answer = await self.ask("GET", f"/api-jobs/{job}")
            assert (status, answer) == self.results[job] if job in self.results else status in (200, 202), job
        self.accepted, self.results = set(), {}

    async def check_sums(self):
        """Capacities are what the objects leave."""
        volumes, vms = await self.all("volumes"), {vm["uuid"]: vm for vm in await self.all("vm-instances")}
        assert {uuid for uuid, made in self.volumes.items() if made} <= {volume["uuid"] for volume in volumes}
        assert {uuid: vms[uuid]["state"] for uuid in self.vms} == self.vms
        snapshots = await self.all("volume-snapshots")
        for ps in await self.all("primary-storage"):
            taken = sum(thing["size"] for thing in volumes + snapshots if thing.get("primaryStorageUuid") == ps["uuid"])
            assert ps["availableCapacity"] + taken == self.capacities.setdefault(ps["uuid"], ps["availableCapacity"] + taken)
        for host in await self.all("hosts"):
            assert host["availableCpuCapacity"] == host["totalCpuCapacity"] - sum(vm["cpuNum"] for vm in vms.values() if vm.get("hostUuid") == host["uuid"])

    async def all(self, collection):
        status, answer = await self.ask("GET", f"/{collection}?limit=100000")
        assert status == 200, answer
        return answer["inventories"]


def stock_tinydb_reads(folder):
    for path in folder.glob("*.json"):
        with TinyDB(path) as db:
            db.all()


async def test_what_was_acknowledged_survives_kills_and_nothing_is_half_there(tmp_path):
    folder, client, chance = tmp_path / "cloud", Client(1), random.Random(2)
    client.capacities = {}
    for _ in range(ROUNDS):
        process = Process(folder)
        async with client.on(process.url):
            await client.check()
            workers = [asyncio.ensure_future(client.work()) for _ in range(12)]
            await asyncio.sleep(chance.uniform(0.02, 0.5))
            if chance.random() < 0.3:  # killed when it folds, or has folded
                for worker in workers:
                    worker.cancel()
                await asyncio.sleep(chance.uniform(0.4, 1.1))
            told = process.end(signal.SIGKILL)
            await asyncio.gather(*workers, return_exceptions=True)
            for worker in workers:
                assert worker.cancelled() or worker.exception() is None, str(worker.exception())
        assert "Traceback" not in told and "ERROR" not in told, told
        stock_tinydb_reads(folder)
    process = Process(folder)
    async with client.on(process.url):
        await client.check()
        assert (await client.ask("GET", "/../../zmock/health"))[1].get("found", []) == []
    process.end(signal.SIGTERM)
    stock_tinydb_reads(folder)
    assert not [*folder.glob("*.ledger"), *folder.glob("*.corrupt*"), *folder.rglob("*.tmp")]
    assert len(client.known) > ROUNDS and ROUNDS < 20 or any(client.vms.values())


# disks that fail


class Disk:
    """What is beneath the Storage class and the ledger, failing as it is told: a write in its middle, or not at all."""

    def __init__(self, monkeypatch, folder, chance):
        self.folder, self.chance, self.code, self.failed = str(folder), chance, 0, 0
        disk = self

        class File(io.FileIO):
            def write(self, data):
                if disk.fails():
                    super().write(memoryview(data)[: len(data) // 2])
                    disk.fail()
                return super().write(data)

            def truncate(self, size=None):
                return disk.fail() if disk.fails() else super().truncate(size)

        def opened(path, mode="r", buffering=-1, **more):
            if not str(path).startswith(self.folder) or "b" not in mode or "r" in mode:
                return open(path, mode, buffering, **more)
            if self.fails():
                self.fail()
            file = File(path, mode.replace("b", ""))
            return io.BufferedWriter(file, buffering) if buffering else file

        monkeypatch.setattr("zmock.open", opened, raising=False)
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, self.mortal(getattr(os, name)))
        monkeypatch.setattr(shutil, "copyfile", self.mortal(shutil.copyfile))

    def mortal(self, do):
        def act(*arguments, **more):
            return self.fail() if self.fails() else do(*arguments, **more)

        return act

    def fails(self):
        return self.code and self.chance.random() < self.share

    def fail(self):
        self.failed += 1
        raise OSError(self.code, os.strerror(self.code))

    def set(self, code, share=1.0):
        self.code, self.share = code, share


@pytest.mark.parametrize(
    ("code", "share"),
    ((errno.ENOSPC, 1.0), (errno.ENOSPC, 0.3), (errno.EIO, 0.3), (errno.EROFS, 1.0)),
    ids=("full", "nearly-full", "failing", "read-only"),
)
async def test_a_disk_that_fails_costs_no_more_than_what_was_refused(tmp_path, monkeypatch, code, share, caplog):
    client = Client(3)
    client.capacities = {}
    disk = Disk(monkeypatch, tmp_path, random.Random(4))
    settings = {"memory": False, "data": str(tmp_path / "cloud"), "delay": "0-0.02", "clock": "real"}
    async with serve(**settings) as mock, client.on(mock.url):
        await client.check()
        for _ in range(2):
            workers = [asyncio.ensure_future(client.work()) for _ in range(8)]
            await asyncio.sleep(0.1)
            disk.set(code, share)
            async with asyncio.timeout(20):
                while not (disk.failed and client.refused):
                    await asyncio.sleep(0.05)
            await mock.cloud.store.fold()
            await asyncio.sleep(0.1)
            disk.set(0)
            await asyncio.sleep(0.1)
            refused = client.refused
            await asyncio.sleep(0.1)
            assert disk.failed and refused
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            stock_tinydb_reads(tmp_path / "cloud")
            shutil.copytree(tmp_path / "cloud", tmp_path / "copy")
            at_the_copy = client.memory()
            while mock.cloud.jobs.running:
                await asyncio.sleep(0.01)
            await mock.cloud.store.commit()
            assert mock.cloud.store.state == "kept" and refused == client.refused
            await client.check()
            now = client.memory()
            async with serve(**settings | {"data": str(tmp_path / "copy")}) as other:
                vars(client).update(at_the_copy, url=other.url)
                await client.check()
                assert other.control.health()["found"] == []
            vars(client).update(now, url=mock.url)
            shutil.rmtree(tmp_path / "copy")
    assert "Traceback" not in caplog.text


# folders that cannot be written


def a_file_in_its_place(folder, patch):
    aside = folder.rename(folder.with_name("aside"))
    folder.write_text("")
    return lambda: (folder.unlink(), aside.rename(folder))


def a_file_in_its_place_for_good(folder, patch):
    shutil.rmtree(folder)
    folder.write_text("")
    return folder.unlink


def unreadable(folder, patch):
    def mortal(do):
        return lambda path, **more: fail(errno.EACCES) if str(path).startswith(str(folder)) else do(path, **more)

    for name in ("listdir", "stat"):
        patch.setattr(os, name, mortal(getattr(os, name)))
    return patch.undo


def out_of_descriptors(folder, patch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 5, hard))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return lambda: (resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)), *map(os.close, taken))


def fail(code):
    raise OSError(code, os.strerror(code))


def no_fsync(code):
    def trouble(folder, patch):
        patch.setattr(os, "fsync", lambda number: fail(code))
        return patch.undo

    return trouble


def going_wrong(name, error):
    def wrong(*arguments, **more):
        raise error

    def trouble(folder, patch):
        patch.setattr(name, wrong)
        return patch.undo

    return trouble


TROUBLES = {
    "a file in its place": a_file_in_its_place,
    "a file in its place for good": a_file_in_its_place_for_good,
    "unreadable": unreadable,
    "out of descriptors": out_of_descriptors,
    "full": no_fsync(errno.ENOSPC),
    "failing": no_fsync(errno.EIO),
    "read-only": no_fsync(errno.EROFS),
    "out of memory": going_wrong("zmock.to_line", MemoryError()),
    "too deep for JSON": going_wrong("zmock.to_line", RecursionError("maximum recursion depth exceeded")),
    "nothing for JSON": going_wrong("zmock.sealed", TypeError("Object of type set is not JSON serializable")),
    "no more threads": going_wrong("asyncio.to_thread", RuntimeError("can't start new thread")),
}


def things(mock):
    """What there is, by type and uuid, but for what says how calls went."""
    kept = {name: dict(table.items) for name, table in mock.cloud.store.tables.items() if name not in ("Job", "Mock", "Notification")}
    return {name: items for name, items in kept.items() if items}


@contextlib.asynccontextmanager
async def connected(mock):
    """Have the handle use one connection that stays open: there may be no descriptor for another one."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:

        async def request(method, path, body=None, headers=None):
            session = {"Authorization": f"OAuth {mock.session}"} if mock.session else {}
            async with http.request(method, mock.url + path, json=body, headers=session | (headers or {})) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text else None

        mock.request = request
        yield


async def health(mock):
    return mock.control.health()


@pytest.fixture(params=TROUBLES)
def trouble(request, monkeypatch):
    """A function that breaks a folder, and answers the one that mends it."""
    heal = []

    def strike(folder):
        heal.append(TROUBLES[request.param](folder, monkeypatch))
        return lambda: heal.pop()()

    yield strike
    for mend in heal:
        mend()


async def test_a_call_that_cannot_be_kept_is_refused_with_nothing_changed_until_the_folder_is_well(tmp_path, trouble, caplog):
    settings = {"memory": False, "data": str(tmp_path / "cloud"), "cloud": "empty"}
    async with serve(**settings) as mock, connected(mock):
        await mock.login()
        before = things(mock)
        await mock.cloud.store.fold()  # the next commit opens a ledger
        heal = trouble(tmp_path / "cloud")
        for _ in range(3):
            for method, path, body in (("POST", "/zones", {"params": {"name": "z"}}), ("PUT", "/accounts/login", LOG_IN)):
                status, answer = await mock.request(method, path, body)
                assert (status, answer["error"]["code"]) == (503, "SYS.1016")
                assert things(mock) == before
            await mock.cloud.store.tend()
            assert (await health(mock))["commit"].startswith("failing: ")
        assert [record.levelname for record in caplog.records if record.name == "zmock"] == ["ERROR"]
        heal()
        for _ in range(3):
            await mock.cloud.store.tend()
        assert (await health(mock))["commit"] == "kept" and things(mock) == before
        await mock.create("CreateZone", name="afterwards")
        after = things(mock)
        assert caplog.records[-1].getMessage().endswith("again") and "never retrieved" not in caplog.text
    stock_tinydb_reads(tmp_path / "cloud")
    async with serve(**settings) as again:
        assert things(again) == after
        assert not (await health(again)).get("found")


async def test_a_job_whose_work_cannot_be_kept_fails_and_its_work_is_undone(tmp_path, trouble):
    settings = {"memory": False, "data": str(tmp_path / "cloud"), "delay": "5"}
    async with serve(**settings) as mock, connected(mock):
        await mock.login()
        vm = await mock.create("CreateVmInstance", name="vm", instanceOfferingUuid=named("offering-small"), imageUuid=named("image-centos7"),
                               l3NetworkUuids=[named("l3-private")])  # fmt: skip
        before = things(mock)
        job = (await mock.request("DELETE", f"/vm-instances/{vm['uuid']}"))[1]["location"][-32:]
        await mock.cloud.store.fold()  # the next commit opens a ledger
        heal = trouble(tmp_path / "cloud")
        await mock.advance(5)
        status, answer = await mock.request("GET", f"/api-jobs/{job}")
        assert (status, answer["error"]["code"], things(mock)) == (503, "SYS.1016", before)
        heal()
        for _ in range(3):
            await mock.cloud.store.tend()
        assert (await health(mock))["commit"] == "kept"
    async with serve(**settings) as again:
        types = ("VmInstance", "VmNic", "Volume", "Host", "PrimaryStorage")
        assert {name: things(again)[name] for name in types} == {name: before[name] for name in types}
        assert (await again.request("GET", f"/api-jobs/{job}"))[0] == 503
