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
    return [step["run"] for step in told["jobs"]["test"]["steps"] if "run" in step], {}


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_recipe_runs_as_it_stands(tmp_path: Path, name: str) -> None:
    commands, variables = recipe(name)
    assert commands[0] == "pip install aiohttp tinydb"
    shutil.copy(ROOT / "zmock.py", tmp_path)
    script = "set -e\n" + "\n".join(commands[1:])
    known, port = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, free_port()
    told = {key: value.replace("18080", port) for key, value in variables.items()}
    run = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=known | told, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, '{"version":"2.5.1"}'), run.stderr
