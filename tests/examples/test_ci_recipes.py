"""The recipes beside this file do what they say: their commands, but for pip's, run here."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def recipe(name: str) -> tuple[list[str], dict[str, str]]:
    """The commands of a recipe, and the variables that it sets."""
    told: dict[Any, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    if name == "gitlab-ci.yml":
        return told["test"]["script"], told["test"]["variables"]
    job = told["jobs"]["test"]
    return [step["run"] for step in job["steps"] if "run" in step], job["env"]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def run(folder: Path, name: str, around: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the commands of a recipe where the environment has these variables already."""
    commands, variables = recipe(name)
    assert commands[0] == "pip install aiohttp tinydb"
    shutil.copy(ROOT / "zmock.py", folder)
    shutil.copytree(ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("cloud", "snapshots"))
    script = "set -e\n" + "\n".join(commands[1:])
    known, port = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, free_port()
    told = {key: value.replace("18080", port) for key, value in variables.items()}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=known | around | told, capture_output=True, text=True, timeout=60)


NOBODY = "http://127.0.0.1:9"  # a proxy that is not there
PROXY = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), NOBODY)


@pytest.mark.parametrize("around", [{}, PROXY, PROXY | {"no_proxy": "intranet.example"}], ids=["", "behind a proxy", "behind a proxy with exceptions"])
@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_recipe_runs_as_it_stands(tmp_path: Path, name: str, around: dict[str, str]) -> None:
    ended = run(tmp_path, name, around)
    assert (ended.returncode, ended.stdout) == (0, '{"version":"2.5.1"}'), ended.stderr


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_recipe_ends_with_an_error_when_zmock_does_not_start(tmp_path: Path, name: str) -> None:
    ended = run(tmp_path, name, {"ZMOCK_PROT": "1"})
    assert (ended.returncode != 0, ended.stdout, "did you mean ZMOCK_PORT?" in ended.stderr) == (True, "", True), ended.stderr
