"""What a newcomer starts: make run, uv run, a venv, pipx; and what a project finds: the wheel installed, or the file copied."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from asking import each

import zmock

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXAMPLE = ROOT / "tests" / "examples" / "test_no_room.py"
WITHOUT_AWAIT = "def test_sync(zmock_server):\n    assert len(zmock_server.query('zones')) == 1\n"
TYPED = "from zmock import named, serve\n\nwith serve() as mock:\n    reveal_type(mock.query('zones'))\n    reveal_type(named('zone-1'))\n"
NO_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_NO_INDEX": "1"}  # pip and uv reach no network
VENV = """
python3 -m venv .venv
.venv/bin/pip install aiohttp tinydb
.venv/bin/python zmock.py
"""
AROUND = {name: value for name, value in os.environ.items() if name not in ("ARGS", "PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}  # make slow
STARTED = r"export ZSTACK_URL=http://127\.0\.0\.1:\d+/zstack/v1\n"


def out(folder, *command, **variables):
    """Return what a command prints; the test fails, with all of it, if the command does."""
    run = subprocess.run(command, cwd=folder, env=AROUND | variables, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def start(folder, *command, **variables):
    """Start a command that goes on, in a process group of its own."""
    variables = AROUND | {"ZMOCK_PORT": "0"} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=variables, start_new_session=True, **pipes)


def end(process, number=signal.SIGINT):
    """Send a signal to a process and its children, as a terminal does. Return what they had printed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        return process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def starts(folder, *command, **variables):
    """Run a command until it has printed a line, and end it. Return its stdout and its stderr."""
    process = start(folder, *command, **variables)
    first = process.stdout.readline()
    stdout, stderr = end(process)
    return first + stdout, stderr


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Variables with which pip and uv install from a folder of wheels, without a network."""
    folder = tmp_path_factory.mktemp("wheels")
    packages = ("aiohttp", "tinydb", "hatchling", "pytest", "pytest-aiohttp", "pytest-xdist", "pip")
    out(folder, sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", folder, *packages)
    cache = str(tmp_path_factory.mktemp("cache"))
    return NO_INDEX | {"PIP_FIND_LINKS": str(folder), "UV_FIND_LINKS": str(folder), "UV_CACHE_DIR": cache, "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The folder of uv and pipx."""
    folder = tmp_path_factory.mktemp("tools")
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", folder, "uv", "pipx"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if run.returncode:
        pytest.skip(f"uv and pipx cannot be had: {run.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def system_python(tmp_path_factory):
    """The folder of a fresh Python of a system, which refuses `pip install` outside a venv, as Debian's does."""
    prefix = tmp_path_factory.mktemp("system")
    library = prefix / "lib" / Path(sysconfig.get_path("stdlib")).name
    (library / "site-packages").mkdir(parents=True)
    (prefix / "bin").mkdir()
    shutil.copy(os.path.realpath(sys.executable), prefix / "bin" / "python3")
    for file in Path(sysconfig.get_path("stdlib")).iterdir():
        if file.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (library / file.name).symlink_to(file)
    (library / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=use a venv\n")
    (library / "site-packages" / "pip").symlink_to(importlib.util.find_spec("pip").submodule_search_locations[0])
    command = [prefix / "bin" / "python3", "-c", "import pip, ssl, sys, venv; print(sys.prefix)"]
    copy = subprocess.run(command, capture_output=True, text=True)
    if copy.stdout.strip() != str(prefix):
        pytest.skip(f"a copy of this Python does not start: {copy.stderr}")
    return prefix / "bin"


def path_with(*folders):
    return {"PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}


@pytest.fixture
def folder(tmp_path):
    """A folder with zmock.py and its data alone."""
    return copied(tmp_path / "folder", "zmock.py", "data/catalogue.json", "data/demo.json", "data/openapi.json", "data/page.html")


def copied(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def distributions(tmp_path_factory, offline):
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    out(ROOT, sys.executable, "-m", "build", "--outdir", folder, ROOT, **offline)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(distributions):
    return distributions[1]


def fresh(folder, offline, *packages):
    """Return the Python of a new environment with these packages."""
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check")
    out(ROOT, *pip, *packages, **offline)
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory, offline):
    """The Python of an environment that has zmock, by `pip install .`, and what a project with tests has."""
    return fresh(tmp_path_factory.mktemp("installed"), offline, ".", "pytest", "pytest-aiohttp", "pytest-xdist")


def test_make_lists_its_targets():
    listed = re.findall(r"^  make (\w+) ", out(ROOT, "make"), re.M)
    assert listed == re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M) and "run" in listed


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, system_python, offline):
    """A folder in which `make` finds the wheels, and of the tests one that needs nothing; a uv that must not run is on the PATH."""
    folder = copied(tmp_path_factory.mktemp("checkout"), "zmock.py", "data/catalogue.json", "data/demo.json", "data/openapi.json", "data/page.html", "Makefile")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(re.sub(r"^test = \[.*?^\]", 'test = ["pytest>=8", "pytest-xdist"]', project, flags=re.M | re.S))
    (folder / "tests").mkdir()
    (folder / "tests" / "test_none.py").write_text("def test_none(): ...\n")
    (folder / "uv").write_text("#!/bin/sh\ntouch uv-was-run\n")
    (folder / "uv").chmod(0o755)
    return folder


@pytest.fixture
def make(checkout, system_python, offline):
    """Run make in the checkout: return the exit code, stdout and stderr."""

    def run(*arguments, **variables):
        command = ["make", f"PYTHON={system_python / 'python3'}", *arguments]
        environment = AROUND | path_with(checkout) | offline | variables
        run = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300)
        return run.returncode, run.stdout, run.stderr

    return run


def stamps(checkout):
    return {name for name in (".run", ".ready") if (checkout / ".venv" / name).exists()}


def change_project(checkout, old="", new=""):
    """Replace a text of pyproject.toml, which then is newer than any stamp."""
    file = checkout / "pyproject.toml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    later = time.time() + 1
    os.utime(file, (later, later))
    while time.time() <= later:
        time.sleep(0.05)


@pytest.mark.slow
def test_make_run_installs_what_running_needs_also_after_an_interrupt(checkout, system_python, offline):
    command, variables = ["make", "run", f"PYTHON={system_python / 'python3'}"], path_with(checkout) | offline
    process = start(checkout, *command, **variables)
    while not (checkout / ".venv" / "bin" / "python").exists():
        assert process.poll() is None, process.stderr.read()
    end(process)
    assert stamps(checkout) == set()
    stdout, stderr = starts(checkout, *command, **variables)
    assert re.fullmatch(STARTED, stdout) and "installing aiohttp and tinydb into .venv\n" in stderr
    assert "make: ***" not in stderr and "Traceback" not in stderr
    packages = out(checkout, ".venv/bin/python", "-m", "pip", "list", "--format", "freeze").splitlines()
    assert len(packages) <= 15 and not any("pytest" in package for package in packages)
    assert stamps(checkout) == {".run"} and not (checkout / "uv-was-run").exists()
    assert str(system_python.parent) == out(checkout, ".venv/bin/python", "-c", "import sys; print(sys.base_prefix)").strip()


@pytest.mark.slow
def test_make_test_adds_the_rest_and_then_nothing_is_installed_again(checkout, make):
    code, stdout, stderr = make("test")
    assert code == 0 and "1 passed" in stdout and "installing what the tests need into .venv\n" in stderr
    assert stamps(checkout) == {".run", ".ready"}
    (checkout / ".venv" / ".run").unlink()  # as in a .venv that an older Makefile made
    assert make("run", "ARGS=--version", **NO_INDEX) == (0, f"{zmock.__version__}\n", "")
    assert make("--question", ".venv/.ready")[0] == 0


@pytest.mark.slow
def test_an_install_that_failed_is_tried_again_and_needs_no_network_where_the_packages_are(checkout, make):
    change_project(checkout, "tinydb>=4.8", "tinydb>=99")
    code, stdout, stderr = make("run", "ARGS=--version")
    assert (code, stdout) == (2, "") and "tinydb>=99" in stderr and "PIP_INDEX_URL names another index" in stderr
    assert make("--question", ".venv/.run")[0] == 1
    change_project(checkout, "tinydb>=99", "tinydb>=4.8")
    code, stdout, stderr = make("run", "ARGS=--version", **NO_INDEX)
    assert (code, stdout) == (0, f"{zmock.__version__}\n"), stderr
    assert make("--question", ".venv/.run")[0] == 0


@pytest.mark.slow
def test_a_venv_of_another_python_than_named_is_made_anew(make):
    make("run", "ARGS=--version")
    assert make("--question", ".venv/.run")[0] == 0
    other = os.path.realpath(sys.executable)
    assert f"its Python is not {other}" in make("--dry-run", "run", f"PYTHON={other}")[1]


@pytest.mark.slow
def test_a_venv_whose_python_is_gone_is_made_anew(checkout, make, system_python, offline):
    make("run", "ARGS=--version")
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    process = start(checkout, "make", "run", f"PYTHON={system_python / 'python3'}", **offline)
    assert process.stderr.readline().startswith("making .venv anew: its Python does not start")
    while not python.exists():
        assert process.poll() is None, process.stderr.read()
    end(process)
    assert stamps(checkout) == set()


@each("python", ["/nowhere/python3", "false"])
def test_make_names_a_python_that_it_cannot_use(tmp_path, python):
    copied(tmp_path, "Makefile", "pyproject.toml")
    run = subprocess.run(["make", "run", f"PYTHON={python}"], cwd=tmp_path, env=AROUND, capture_output=True, text=True)
    assert run.returncode == 2 and f"zmock needs Python 3.11 or newer, which {python} is not" in run.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
def test_a_system_python_refuses_pip_and_zmock_names_the_ways_to_start_it(folder, system_python):
    python = system_python / "python3"
    refused = subprocess.run([python, "-m", "pip", "install", "--no-index", "aiohttp"], capture_output=True, text=True)
    assert refused.returncode == 1 and "externally-managed-environment" in refused.stderr
    for names in ((), ("Makefile",)):
        run = subprocess.run([python, "zmock.py"], cwd=copied(folder, *names), capture_output=True, text=True, timeout=30)
        assert (run.returncode, run.stdout) == (2, "") and re.fullmatch(r"zmock: [^\n]*No module named [^\n]*\n", run.stderr)
        assert "uv run zmock.py" in run.stderr and "-m pip install" not in run.stderr
        assert ("make run" in run.stderr) == ("Makefile" in names)
        assert f"{python} -m venv .venv && .venv/bin/pip install aiohttp tinydb && .venv/bin/python zmock.py" in run.stderr


@pytest.mark.slow
def test_three_lines_start_it_in_a_venv(folder, system_python, offline):
    stdout, stderr = starts(folder, "bash", "-ec", VENV.replace("pip install", "pip install -q"), **path_with(system_python), **offline)
    assert re.fullmatch(STARTED, stdout), stderr


@pytest.mark.slow
def test_uv_run_starts_it(folder, system_python, tools, offline):
    stdout, stderr = starts(folder, "uv", "run", "zmock.py", **path_with(tools / "bin", system_python), **offline)
    assert re.fullmatch(STARTED, stdout), stderr
    assert not (folder / ".venv").exists()


@pytest.mark.slow
def test_pipx_runs_and_installs_it(tmp_path, tools, offline):
    home = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin"), "PYTHONPATH": str(tools)}
    pipx = (sys.executable, "-m", "pipx")
    assert out(ROOT, *pipx, "run", "--spec", ".", "zmock", "--version", **home, **offline) == f"{zmock.__version__}\n"
    out(ROOT, *pipx, "install", "-q", ".", **home, **offline)
    assert out(tmp_path, tmp_path / "bin" / "zmock", "--version") == f"{zmock.__version__}\n"


@pytest.mark.slow
def test_an_sdist_has_what_its_tests_and_its_readers_need(distributions):
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    tracked = [ROOT / name for name in ("zmock.py", "README.md", "Makefile", "Dockerfile", ".dockerignore", "pyproject.toml")]
    tracked += [file for pattern in ("docs/**/*.md", "tests/**/*.py", "tests/**/*.yml", "package/*") for file in ROOT.glob(pattern) if file.is_file()]
    assert sorted({file.relative_to(ROOT).as_posix() for file in tracked} - names) == []
    assert [name for name in names if name.startswith(("data/cloud", ".venv", ".git/"))] == []


@pytest.mark.slow
def test_a_wheel_has_all_of_it_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == ["zmock/__init__.py", "zmock/__main__.py", "zmock/data/catalogue.json", "zmock/data/demo.json", "zmock/data/openapi.json", "zmock/data/page.html", "zmock/data/schema.json", "zmock/py.typed"]
    assert wheel.name.startswith(f"zmock-{zmock.__version__}-py3")


@pytest.mark.slow
@pytest.mark.parametrize("flags", ((), ("-n", "4"), ("-o", "asyncio_mode=auto")), ids=("alone", "in parallel", "auto"))
def test_the_first_example_is_green_where_zmock_is_installed(tmp_path, installed, flags):
    shutil.copy(EXAMPLE, tmp_path)
    (tmp_path / "test_other.py").write_text(WITHOUT_AWAIT)
    assert "2 passed" in out(tmp_path, installed, "-m", "pytest", "-q", *flags)


@pytest.mark.slow
def test_it_is_green_too_where_the_file_and_its_catalogue_were_copied(tmp_path, folder, offline):
    python = fresh(tmp_path / "environment", offline, "aiohttp", "tinydb", "pytest", "pytest-aiohttp")
    shutil.copy(EXAMPLE, folder)
    assert "1 passed" in out(folder, python, "-m", "pytest", "-q")


@pytest.mark.slow
def test_an_installation_is_a_command_and_a_module_with_the_whole_catalogue(tmp_path, installed):
    for command in ([installed.parent / "zmock"], [installed, "-m", "zmock"]):
        assert out(tmp_path, *command, "--version") == f"{zmock.__version__}\n"
        assert len(json.loads(out(tmp_path, *command, "openapi"))["paths"]) > 600


@pytest.mark.slow
def test_an_installation_has_types(tmp_path, installed):
    (tmp_path / "mine.py").write_text(TYPED)
    told = out(tmp_path, sys.executable, "-m", "mypy", "--python-executable", installed, "--follow-imports", "silent", "mine.py")
    assert re.findall('Revealed type is "(.*)"', told) == ["list[dict[str, Any]]", "str"]


@pytest.mark.slow
def test_without_pytest_asyncio_the_fixture_says_what_it_lacks(tmp_path, wheel, offline):
    python = fresh(tmp_path / "environment", offline, wheel, "pytest")
    (tmp_path / "test_mine.py").write_text("def test_async(zmock): ...\n" + WITHOUT_AWAIT)
    run = subprocess.run([python, "-m", "pytest", "-q", "test_mine.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "1 passed, 1 error" in run.stdout and "runs in the loop of pytest-asyncio, which is not installed" in run.stdout


def test_pytest_is_not_imported_in_production():
    told = out(ROOT, sys.executable, "-c", "import sys, zmock; print([name for name in ('pytest', 'pytest_asyncio', '_pytest') if name in sys.modules])")
    assert told == "[]\n"


def test_the_file_says_itself_what_it_needs():
    header = re.search(r"^# /// script\n(.*?)^# ///$", (ROOT / "zmock.py").read_text(encoding="utf-8"), re.M | re.S)
    told = tomllib.loads(re.sub("^# ?", "", header[1], flags=re.M))
    assert told == {"requires-python": PROJECT["project"]["requires-python"], "dependencies": PROJECT["project"]["dependencies"]}


def test_the_version_is_said_once_and_the_changes_know_it():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert f"\n## {zmock.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
