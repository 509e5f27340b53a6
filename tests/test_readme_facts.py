"""The READMEs keep up with the file."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from asking import each

import zmock

ROOT = Path(zmock.__file__).parent


def readme(name="README.md"):
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text):
    return re.findall(r"^```.*?^```", text, re.M | re.S)


def headings(text):
    return re.findall(r"^#+ .+$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)


@each("name", [field.name for field in fields(zmock.Settings)])
def test_every_setting_is_in_the_readme(name):
    assert f"--{name.replace('_', '-')}" in readme()


def test_every_control_call_is_in_the_readme():
    routes = re.findall(r'"(GET|POST|PUT|DELETE) ([a-z.]+)(?:/[^"]*)?": self\.', (ROOT / "zmock.py").read_text(encoding="utf-8"))
    assert len(routes) > 15
    assert sorted({path for _, path in routes if f"/zmock/{path}" not in readme()}) == []


@each("name", [row.name for row in zmock.DIFFERENCES])
def test_every_row_of_the_dialects_is_in_the_readme(name):
    assert name in readme()


def test_the_readmes_count_what_is_simulated_and_what_is_not():
    backings = [api.backing for api in zmock.Catalogue(ROOT / "data" / "catalogue.json").apis.values()]
    none, more = backings.count("none"), len(backings) - backings.count("none") - backings.count("manual")
    assert f"{none} of the {len(backings)}" in readme() and f"{more} more" in readme()
    assert f"有 {none} 个返回 501" in readme("README.zh-CN.md") and f"另有 {more} 个" in readme("README.zh-CN.md")
    assert f"{more} more of ZStack 2.5.1; the other {none}" in readme("CHANGELOG.md")


@pytest.mark.parametrize("line", re.findall(r'^\{"name": .+\}$', readme(), re.M))
def test_a_line_that_the_readme_shows_stands_in_the_catalogue(line):
    tables = json.loads((ROOT / "data" / "catalogue.json").read_text(encoding="utf-8"))
    assert json.loads(line) in [*tables["inventories"].values(), *tables["apis"].values()]


def test_both_readmes_have_the_same_headings_and_code():
    assert len(headings(readme())) == len(headings(readme("README.zh-CN.md")))
    assert code_blocks(readme()) == code_blocks(readme("README.zh-CN.md"))
