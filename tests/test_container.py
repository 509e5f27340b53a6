"""The container without Docker: its Dockerfile is carried out in a folder, and zmock runs there as Docker would run it."""

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from asking import each, read_settings

import zmock

ROOT = Path(__file__).parent.parent
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")  # nothing listens there
NOBODY = 65534
HOST_FOLDERS = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/dev", sys.base_prefix, sys.prefix)  # in place of the base image


def instructions():
    """Return the lines of the Dockerfile as (instruction, arguments) pairs."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def arguments_of(instruction):
    return [arguments for name, arguments in instructions() if name == instruction]


def is_sent(name):
    """Return True if .dockerignore lets Docker see this file: its last pattern that matches decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if pattern and not pattern.startswith("#") and fnmatch.fnmatch(name, pattern.removeprefix("!")):
            sent = pattern.startswith("!")
    return sent


ENVIRONMENT = dict(assignment.split("=") for assignment in arguments_of("ENV")[0].split())
VOLUME = arguments_of("VOLUME")[0]
HEALTH_CHECK = json.loads(arguments_of("HEALTHCHECK")[0].partition("CMD ")[2])
ENTRYPOINT = json.loads(arguments_of("ENTRYPOINT")[0])
USER, GROUP = map(int, arguments_of("USER")[0].split(":"))
COPIED = [name for arguments in arguments_of("COPY") for name in arguments.split()[:-1]]


class Container:
    """What the Dockerfile makes, in a folder, and the processes in it."""

    def __init__(self, folder):
        self.image, self.volume = folder / "image", folder / "volume"
        self.work = "/"
        folder.chmod(0o755)
        for mounted in (*HOST_FOLDERS, VOLUME):
            self.place(mounted).mkdir(parents=True, exist_ok=True)
        for instruction, arguments in instructions():
            if instruction == "WORKDIR":
                self.work = arguments
                self.place(arguments).mkdir()
            elif instruction == "COPY":
                self.copy(*arguments.split())
            elif instruction == "RUN" and not arguments.startswith("pip install"):
                subprocess.run(self.inside(["sh", "-ec", arguments], user=0, group=0, writable=True), check=True, timeout=60)
        shutil.copytree(self.place(VOLUME), self.volume)  # as Docker fills a new volume
        os.chown(self.volume, self.place(VOLUME).stat().st_uid, self.place(VOLUME).stat().st_gid)

    def place(self, path):
        """Return the place of a path of the container on this machine."""
        return self.image / path.lstrip("/")

    def copy(self, *arguments):
        *names, target = arguments
        folder = self.place(os.path.join(self.work, target))
        folder.mkdir(exist_ok=True)
        for name in names:
            shutil.copy2(ROOT / name, folder)
            (folder / Path(name).name).chmod(0o600)  # as a checkout with a strict umask has it

    def inside(self, command, user=USER, group=GROUP, writable=False, volume=True, **variables):
        """Return the command that runs a command inside: in a root of its own, read-only, as process 1 of a user without rights."""
        mounts = ["mount --make-rprivate /", f"mount --bind {self.image} {self.image}"]
        mounts += [f"mount --rbind {folder} {self.place(folder)}" for folder in HOST_FOLDERS if os.path.isdir(folder)]
        if volume and not writable:
            mounts.append(f"mount --bind {self.volume} {self.place(VOLUME)}")
        if not writable:
            mounts.append(f"mount -o remount,bind,ro {self.image}")
        path = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
        environment = [f"{name}={value}" for name, value in (path | ENVIRONMENT | variables).items()]
        rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        enter = ["chroot", str(self.image), *rights, "env", "-i", "-C", self.work, *environment, *command]
        return ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", f"{'; '.join(mounts)}; exec {shlex.join(enter)}"]

    @contextlib.contextmanager
    def running(self, port, *flags, volume=True, **variables):
        """Yield the process 1 of a container once it answers."""
        command = self.inside([*ENTRYPOINT, *flags], volume=volume, ZMOCK_PORT=str(port), **variables)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == f"export ZSTACK_URL=http://127.0.0.1:{port}/zstack/v1\n", process.stderr.read()
            yield process
        finally:
            if process.poll() is None:
                os.kill(first_child(process), signal.SIGKILL)
            process.communicate(timeout=30)

    def check_health(self, port, **variables):
        """Return the exit code of the health check, and its output."""
        command = self.inside(HEALTH_CHECK, ZMOCK_PORT=str(port), **variables)
        run = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return run.returncode, run.stdout + run.stderr


def first_child(process):
    """Return the number that process 1 of a container has on this machine."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8"))


def stop(process):
    """Send SIGTERM to process 1 of a container. Return the exit code and the seconds that it took."""
    begin = time.monotonic()
    os.kill(first_child(process), signal.SIGTERM)
    return process.wait(timeout=30), time.monotonic() - begin


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def why_not():
    """Return the reason why this machine cannot run a container, or nothing."""
    if not all(map(shutil.which, ("unshare", "setpriv", "chroot"))):
        return "needs Linux with unshare, setpriv and chroot"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "mount", "--make-rprivate", "/"], capture_output=True, text=True)
    return tried.stderr.strip()


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    if reason := why_not():
        pytest.skip(f"no root of its own: {reason}")
    return Container(tmp_path_factory.mktemp("container"))


def request(port, method, path, token="secret"):
    """Return the status and the JSON of a request without a body."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    sent = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sent, timeout=10) as answer:
        return answer.status, json.loads(answer.read())


def test_docker_is_sent_the_files_of_the_image_and_no_others():
    files = [file.relative_to(ROOT).as_posix() for pattern in ("*", "*/*", "*/*/*") for file in ROOT.glob(pattern) if file.is_file()]
    assert sorted({name for name in files if is_sent(name)}) == sorted(COPIED)
    assert "tests/test_container.py" in files and not is_sent("data/cloud/Zone.json") and not is_sent(".git/config")


def test_the_image_has_the_data_files_of_the_wheel():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {name for name in wheel["force-include"] if name.startswith("data/")} == {name for name in COPIED if name.startswith("data/")}


def test_the_base_and_the_packages_of_the_image_are_pinned():
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", arguments_of("FROM")[0])
    packages = re.findall('"([a-z]+)>=([0-9.]+),<([0-9]+)"', arguments_of("RUN")[0])
    assert [f"{name}>={lowest}" for name, lowest, _ in packages] == DEPENDENCIES
    assert [int(limit) - int(lowest.partition(".")[0]) for _, lowest, limit in packages] == [1, 1]


def test_every_variable_of_the_image_is_a_setting():
    read_settings([], {name: value for name, value in ENVIRONMENT.items() if name.startswith("ZMOCK_")})
    assert arguments_of("EXPOSE") == [str(zmock.Settings().port)]


def test_it_runs_on_a_read_only_root_as_nobody_and_keeps_its_cloud_in_the_volume(container):
    port = free_port()
    with container.running(port, "--control-token", "secret") as process:
        process_1 = Path(f"/proc/{first_child(process)}/status").read_text(encoding="utf-8")
        assert re.search(rf"^Uid:(\t{NOBODY}){{4}}$", process_1, re.M) and re.search(r"^NSpid:\t\d+\t1$", process_1, re.M)
        assert request(port, "PUT", "/zmock/snapshots/first")[0] == 200
        code, seconds = stop(process)
        assert code == 0 and seconds < 3, (seconds, process.stderr.read())  # 0.3 s where nothing else runs; Docker kills after 10
    assert {file.stat().st_uid for file in container.volume.rglob("*")} == {NOBODY}
    assert [*container.place("/zmock").rglob("*.pyc")] != []
    with container.running(port, "--control-token", "secret"):
        assert "first" in json.dumps(request(port, "GET", "/zmock/snapshots"))


def test_with_memory_it_needs_no_volume(container):
    port = free_port()
    with container.running(port, volume=False, ZMOCK_MEMORY="true") as process:
        assert request(port, "GET", "/zmock/health")[0] == 200
        assert stop(process)[0] == 0


def test_a_volume_that_nobody_may_write_is_refused_in_a_line(container):
    os.chown(container.volume, 0, 0)
    run = subprocess.run(container.inside(ENTRYPOINT, ZMOCK_DATA="/data/other"), capture_output=True, text=True, timeout=30)
    os.chown(container.volume, NOBODY, NOBODY)
    assert (run.returncode, run.stdout) == (2, "") and re.fullmatch(r"zmock: [^\n]*/data[^\n]*\n", run.stderr), run.stderr


@each("variables", [{}, PROXY])
def test_the_health_check_passes_when_zmock_answers_and_fails_when_it_does_not(container, variables):
    port = free_port()
    with container.running(port, "--control-token", "secret", ZMOCK_MEMORY="true"):
        assert container.check_health(port, **variables) == (0, "")
    code, output = container.check_health(port, **variables)
    assert code == 1 and re.fullmatch(r"zmock does not answer on port \d+: .*\n", output)


HEALTH = ROOT / "package" / "health.py"


@each("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_the_health_check_fails_when_something_else_answers(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = subprocess.Popen([sys.executable, "-S", HEALTH], env=os.environ | {"ZMOCK_PORT": str(port)}, stderr=subprocess.PIPE, text=True)
        connection = server.accept()[0]
        with connection:
            connection.recv(1000)
            connection.sendall(answer)
        assert re.fullmatch(rf"zmock answers .+ on port {port}\n", check.communicate(timeout=30)[1]) and check.returncode == 1


def test_the_compose_file_starts_the_tests_when_zmock_answers():
    services = yaml.safe_load((ROOT / "tests/examples/compose.yml").read_text(encoding="utf-8"))["services"]
    mock, tests = services["zmock"], services["tests"]
    assert mock["healthcheck"] == {"test": ["CMD", *HEALTH_CHECK], "interval": "1s", "retries": 30}
    assert mock["ports"] == ["127.0.0.1:8080:8080"] and mock["volumes"] == [f"zmock:{VOLUME}"]
    read_settings([], mock["environment"])
    assert tests["depends_on"]["zmock"] == {"condition": "service_healthy"}
    around = tests["environment"]
    assert around["NO_PROXY"] == around["no_proxy"] == around["ZSTACK_URL"].partition("//")[2].partition(":")[0] == "zmock"
