"""What a fresh project finds: the wheel installed beside pytest, or the file alone copied beside the tests."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import zmock

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEN_LINES = next(block for block in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S) if "async def test_" in block)
WITHOUT_AWAIT = "def test_sync(zmock_server):\n    assert len(zmock_server.query('zones')) == 1\n"
TYPED = "from zmock import named, serve\n\nwith serve() as mock:\n    reveal_type(mock.query('zones'))\n    reveal_type(named('zone-1'))\n"


def out(folder, *command):
    """What a command prints; the test fails, with all of it, where it does not end well."""
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    out(ROOT, sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl"))


def fresh(folder, *packages):
    """The Python of a new environment with these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    out(folder, python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages)
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    """The Python of an environment that has the wheel and what a project with tests has."""
    return fresh(tmp_path_factory.mktemp("installed"), wheel, "pytest", "pytest-aiohttp", "pytest-xdist")


@pytest.mark.slow
def test_a_wheel_has_all_of_it_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == ["zmock/__init__.py", "zmock/__main__.py", "zmock/data/catalogue.json", "zmock/data/demo.json", "zmock/py.typed"]
    assert wheel.name.startswith(f"zmock-{zmock.__version__}-py3")


@pytest.mark.slow
@pytest.mark.parametrize("flags", ((), ("-n", "4"), ("-o", "asyncio_mode=auto")), ids=("alone", "in parallel", "auto"))
def test_the_test_of_the_readme_is_green_where_zmock_is_installed(tmp_path, installed, flags):
    (tmp_path / "test_mine.py").write_text(TEN_LINES)
    (tmp_path / "test_other.py").write_text(WITHOUT_AWAIT)
    assert "2 passed" in out(tmp_path, installed, "-m", "pytest", "-q", *flags)


@pytest.mark.slow
def test_it_is_green_too_where_the_file_and_its_catalogue_were_copied(tmp_path):
    python = fresh(tmp_path / "environment", "aiohttp", "tinydb", "pytest", "pytest-aiohttp")
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "zmock.py", project)
    (project / "data").mkdir()
    for name in ("catalogue.json", "demo.json"):
        shutil.copy(ROOT / "data" / name, project / "data")
    (project / "test_mine.py").write_text(TEN_LINES)
    assert "1 passed" in out(project, python, "-m", "pytest", "-q")


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
def test_without_pytest_asyncio_the_fixture_says_what_it_lacks(tmp_path, wheel):
    python = fresh(tmp_path / "environment", wheel, "pytest")
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


def test_the_readme_names_every_example():
    assert [file.name for file in (ROOT / "tests/examples").iterdir() if file.suffix in (".py", ".yml") and file.stem != "test_ci_recipes" and file.name not in README] == []


def test_the_container_starts_what_is_there_and_is_healthy(tmp_path):
    lines = [line.split() for line in re.findall(r"^COPY (.*)$", (ROOT / "Dockerfile").read_text(), re.M)]
    copied = {name: folder for *names, folder in lines for name in names}
    assert copied == {"zmock.py": "/zmock/", "data/catalogue.json": "/zmock/data/", "data/demo.json": "/zmock/data/"}
    assert all((ROOT / name).exists() for name in copied)
    assert {"ZMOCK_HOST=0.0.0.0", "ZMOCK_MEMORY=true"} <= {*re.search(r"^ENV (.*)$", (ROOT / "Dockerfile").read_text(), re.M)[1].split()}


HEALTH = re.search(r'test: \[CMD, python, -c, "(.*)"\]', README)[1]
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9")  # where nobody is


def test_the_compose_file_waits_until_zmock_answers_or_a_while_and_no_proxy_stands_between():
    services = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", README, re.M | re.S)[1])["services"]
    check, around = services["zmock"]["healthcheck"], services["tests"]["environment"]
    assert (check["test"], check["interval"], check["retries"]) == (["CMD", "python", "-c", HEALTH], "1s", 30)
    assert services["tests"]["depends_on"]["zmock"] == {"condition": "service_healthy"}
    assert around["NO_PROXY"] == around["no_proxy"] == around["ZSTACK_URL"].partition("//")[2].partition(":")[0] == "zmock"


def check_health(port, around):
    command = [sys.executable, "-c", HEALTH.replace(":8080", f":{port}")]
    return subprocess.run(command, env=os.environ | around, capture_output=True, text=True, timeout=60).returncode


@pytest.mark.parametrize("around", ({}, PROXY), ids=("", "behind a proxy"))
@pytest.mark.parametrize("settings", ({}, {"control_token": "secret"}), ids=("", "with a token"))
def test_the_health_check_of_the_container_passes_when_zmock_answers_and_fails_when_it_does_not(settings, around):
    with zmock.serve(host="0.0.0.0", **settings) as mock:
        assert check_health(mock.base.rpartition(":")[2], around) == 0
    assert check_health(mock.base.rpartition(":")[2], around) == 1
