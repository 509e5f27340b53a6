"""The file keeps what its first page promises, and the READMEs keep up with the file."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from asking import each

import zmock

SOURCE = Path(zmock.__file__)
ROOT = SOURCE.parent
LINES = SOURCE.read_text(encoding="utf-8").splitlines()
TREE = ast.parse("\n".join(LINES))
BANNERS = [(number, found[1]) for number, line in enumerate(LINES, 1) if (found := re.fullmatch(r"# ---- (.+?) -+", line))]
FUNCTIONS = [node for node in ast.walk(TREE) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def section(line):
    return next((name for number, name in reversed(BANNERS) if number <= line), "the docstring and the imports")


def readme(name="README.md"):
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text):
    return re.findall(r"^```.*?^```", text, re.M | re.S)


def headings(text):
    return re.findall(r"^#+ .+$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)


def test_the_docstring_lists_the_banners_in_their_order():
    listed = re.findall(r"^    ([A-Z][A-Za-z]*(?::? [A-Za-z0-9][A-Za-z0-9 ]*?)?) {2,}\S", zmock.__doc__, re.M)
    assert listed == [name for _, name in BANNERS]


@pytest.mark.parametrize("wrong", ("Misc", "Util", "Helper", "Manager"))
def test_no_section_is_a_drawer_for_what_fits_nowhere(wrong):
    assert not [name for _, name in BANNERS if wrong.lower() in name.lower()]


def test_the_file_ends_in_the_command_line():
    assert [line for line in LINES if line][-2:] == ['if __name__ == "__main__":', "    sys.exit(main())"]
    assert BANNERS[-1][1] == "Main"


def test_no_function_has_more_than_40_lines():
    assert {node.name: node.end_lineno - node.lineno + 1 for node in FUNCTIONS if node.end_lineno - node.lineno >= 40} == {}


def test_no_section_is_too_long_to_be_read_at_once_and_what_rows_cannot_say_stays_small():
    ends = [number for number, _ in BANNERS[1:]] + [len(LINES)]
    lengths = {name: end - start for (start, name), end in zip(BANNERS, ends)}
    assert {name: length for name, length in lengths.items() if length > 600} == {}
    assert sum(length for name, length in lengths.items() if name.startswith("Behaviours")) < 800


def test_only_what_does_as_message_safe_aspect_and_the_clock_swallow_whatever_is_thrown():
    """The others raise it again, or something else from it."""
    (fires,) = [node for node in FUNCTIONS if node.name == "fire_due" and section(node.lineno) == "Clock"]
    by_clock = []
    for node in ast.walk(TREE):
        caught = re.findall(r"\w+", ast.unparse(node.type or ast.Name("Exception"))) if isinstance(node, ast.ExceptHandler) else ()
        if {"Exception", "BaseException"} & set(caught):
            goes_on = any(isinstance(inner, ast.Raise) and (inner.exc is None or ast.unparse(inner.cause or ast.Constant(None)) == node.name) for inner in node.body)
            by_clock += [node] if fires.lineno <= node.lineno <= fires.end_lineno else []
            assert goes_on or node in by_clock or "MessageSafeAspect" in LINES[node.lineno - 1], f"line {node.lineno}: {LINES[node.lineno - 1].strip()}"
    (handler,) = by_clock  # around one timer, with a word in the log
    assert [ast.unparse(line).partition("(")[0] for line in handler.body] == ["log.exception"]


def test_only_the_clock_knows_the_time_and_sleeps():
    asked = [(node.lineno, ast.unparse(node)) for node in ast.walk(TREE) if isinstance(node, ast.Attribute)]
    wrong = [(line, name) for line, name in asked if name.startswith("time.") or name in ("asyncio.sleep", "datetime.now")]
    assert [f"{section(line)}, line {line}: {name}" for line, name in wrong if section(line) != "Clock"] == []


@each("name", [field.name for field in fields(zmock.Settings)])
def test_every_setting_is_in_the_readme(name):
    assert f"--{name.replace('_', '-')}" in readme()


def test_every_control_call_is_in_the_readme():
    routes = re.findall(r'"(GET|POST|PUT|DELETE) ([a-z.]+)(?:/[^"]*)?": self\.', "\n".join(LINES))
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


def test_no_name_is_given_twice():
    targets = [target for node in TREE.body for target in (node.targets if isinstance(node, ast.Assign) else [node.target if isinstance(node, ast.AnnAssign) else None])]
    given = [name.id for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target]) if isinstance(name, ast.Name)]
    given += [node.name for node in TREE.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    assert sorted(name for name in {*given} if given.count(name) > 1) == []
