"""The pages show what happens: their commands are typed, their programs run, their tables and links hold."""

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter

import pytest
import tables
from asking import each
from pages import (
    CHINESE,
    ENGLISH,
    PAGES,
    ROOT,
    Shell,
    anchors_of,
    as_shown,
    blocks_of,
    commands_of,
    copy_project,
    english_of,
    headings_of,
    links_of,
    name_of,
    start,
    text_of,
    without_blocks,
)

import zmock

OTHER_LANGUAGES = ROOT / "docs/other-languages.md"
READMES = [page for page in PAGES if page.parent == ROOT]
TYPED = [page for page in ENGLISH if blocks_of(page, "console")]
NEEDS_SHELL = pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "openssl"))), reason="types into bash, with curl and openssl")
APIS = zmock.catalogue().apis.values()
BACKINGS = Counter(api.backing for api in APIS)


# what is typed


@pytest.fixture
def project(tmp_path):
    """A folder with zmock, as after `make run`."""
    copy_project(tmp_path)
    return tmp_path


@pytest.fixture
def shell(project):
    """A shell in a folder where zmock runs, on a cloud just made."""
    server, port = start(project)
    shell = Shell(project, port)
    yield shell
    shell.close()
    server.kill()
    server.join()


@pytest.fixture
def receiver():
    """A server that keeps the web-hooks that it gets: (request line, headers, body)."""
    posts = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            posts.append((self.requestline, dict(self.headers), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        server.posts = posts
        yield server
        server.shutdown()


@NEEDS_SHELL
@pytest.mark.parametrize("page", TYPED, ids=name_of)
def test_the_console_blocks_of_a_page_are_one_session_on_a_new_cloud(page, shell, receiver):
    for block in blocks_of(page, "console"):
        for command, shown in commands_of(block):
            printed = shell.type(command.replace(":9099", f":{receiver.server_port}"))
            assert as_shown(shown).fullmatch(printed), f"$ {command}\n{printed}\n-- but the page shows\n{shown}"
    for block in blocks_of(page, "http"):
        wait_until(lambda: receiver.posts)
        assert_is_shown(receiver.posts[0], block)
    assert_printed(page, shell)


def assert_printed(page, shell):
    """Hold the text blocks that show the terminal against what zmock printed in this session."""
    for block in blocks_of(page, "text"):
        if re.match(r"zmock \d|\d\d:", block):
            wait_until_printed(shell, block)


def wait_until_printed(shell, block):
    shown = as_shown(block.strip())
    wait_until(lambda: shown.search(shell.terminal()), lambda: f"{block}\n-- but the terminal shows\n{shell.terminal()}")


def wait_until(condition, failure=lambda: "it did not come about"):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, failure()
        time.sleep(0.02)


def assert_is_shown(post, block):
    """Hold a request against an http block, which may leave headers out."""
    head, _, shown = block.strip().partition("\n\n")
    first, *lines = head.split("\n")
    request_line, headers, body = post
    assert request_line == first
    assert dict(line.split(": ", 1) for line in lines).items() <= headers.items()
    assert as_shown(shown).fullmatch(body), body


def paste(shell, blocks):
    """Type blocks as a reader pastes them. Return what each prints."""
    return [shell.type(block) for block in blocks]


@NEEDS_SHELL
@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_the_pastes_of_the_readme_make_a_virtual_machine_and_fail_one(readme, shell):
    run, *pastes = blocks_of(readme, "sh")
    assert run.startswith("make run")
    made, failed = paste(shell, pastes)
    assert made.count('{"location":') >= 1 and '"name":"hello"' in made and '"state":"Running"' in made
    assert '"code":"HOST_ALLOCATION.1000"' in failed and '"details":"no host has room"' in failed
    assert_printed(readme, shell)


@NEEDS_SHELL
@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("git", "make"))), reason="clones with git, starts with make")
@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_a_stranger_gets_from_a_clone_to_a_failed_machine_with_the_pastes_alone(readme, tmp_path):
    run, *pastes = blocks_of(readme, "sh")
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "zmock"], check=True)
    command = run.splitlines()[0].partition("#")[0].strip() + ' ARGS="--port 0"'
    outer = ("ARGS", "PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of the make that runs this test
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    server = subprocess.Popen(["bash", "-c", "exec " + command], cwd=tmp_path / "zmock", env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    port = re.search(r":(\d+)/", server.stdout.readline())[1]
    shell = Shell(tmp_path / "zmock", port)
    try:
        made, failed = paste(shell, pastes)
        assert '"state":"Running"' in made and "HOST_ALLOCATION.1000" in failed
    finally:
        shell.close()
        os.killpg(server.pid, signal.SIGTERM)  # make and zmock
        server.communicate(timeout=30)


# programs


PYTHON = [(page, number, block) for page in ENGLISH for number, block in enumerate(blocks_of(page, "python"))]


def test_the_python_of_the_pages_runs(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["zmock"]\n')
    tests = 0
    for page, number, block in PYTHON:
        name = f"{page.stem.replace('-', '_')}_{number}.py"
        if "def test_" in block:
            (tmp_path / f"test_{name}").write_text(block)
            tests += len(re.findall(r"^(?:async )?def test_", block, re.M))
        else:
            run_python(tmp_path, "-c", block)
    shown = run_python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-o", "asyncio_mode=strict")
    assert tests > 3 and f"{tests} passed" in shown, shown


def test_the_test_of_the_readme_is_an_example():
    (block,) = blocks_of(ROOT / "README.md", "python")
    assert block == (ROOT / "tests/examples/test_no_room.py").read_text(encoding="utf-8")


def test_the_compose_file_of_the_page_is_an_example():
    (block,) = blocks_of(OTHER_LANGUAGES, "yaml")
    assert block == (ROOT / "tests/examples/compose.yml").read_text(encoding="utf-8")


@pytest.mark.asyncio
async def test_the_catalogue_file_of_the_page_adds_a_resource(tmp_path):
    (block,) = [block for block in blocks_of(ROOT / "docs/adding-apis.md", "json") if "Rack" in block]
    (tmp_path / "racks.json").write_text(block)
    async with zmock.serve(catalogue=str(tmp_path / "racks.json")) as mock:
        await mock.create("CreateRack", name="r")
        (rack,) = await mock.query("racks", "name=r")
        assert (rack["name"], rack["height"]) == ("r", 42)


def run_python(folder, *arguments):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "SSL_CERT_FILE": os.devnull}
    run = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


PROGRAMS = [("js", "start.mjs", "node", "zone-1"), ("java", "Start.java", "java", '{"version":"2.5.1"}'), ("go", "start.go", "go", '{"version":"2.5.1"}')]


@pytest.mark.parametrize(("language", "file", "program", "printed"), PROGRAMS, ids=["Node", "Java", "Go"])
def test_a_program_that_starts_zmock_prints_what_the_page_says(language, file, program, printed, project):
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here to run it")
    (source,) = blocks_of(OTHER_LANGUAGES, language)
    (project / file).write_text(source)
    command = [program, "run", file] if program == "go" else [program, file]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.strip()) == (0, printed), run.stderr
    assert printed in text_of(OTHER_LANGUAGES)


@pytest.mark.skipif(not shutil.which("node"), reason="node checks the syntax")
def test_the_javascript_of_the_pages_parses(tmp_path):
    for page in ENGLISH:
        for block in blocks_of(page, "js"):
            (tmp_path / "block.mjs").write_text(block)
            run = subprocess.run(["node", "--check", "block.mjs"], cwd=tmp_path, capture_output=True, text=True)
            assert run.returncode == 0, f"{name_of(page)}\n{run.stderr}"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash checks the syntax")
def test_the_shell_of_the_pages_parses():
    for page in ENGLISH:
        for block in blocks_of(page, "sh"):
            run = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
            assert run.returncode == 0, f"{name_of(page)}\n{block}\n{run.stderr}"


FLAGS = {zmock.flag_of(item.name) for item in zmock.fields(zmock.Settings)}
COMMAND_FLAGS = {zmock.flag_of(item.name) for command in zmock.COMMANDS.values() for item in command.items()} | {"--help", "--version"}
FOREIGN_FLAGS = {"--data-urlencode", "--rm", "--zmock-coverage", "--zmock-coverage-fail-under"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_flags_of_a_page_are_flags_of_zmock(page):
    text = text_of(page).replace("--prot", "").replace("<!--", "").replace("-->", "")
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert flags - FLAGS - COMMAND_FLAGS - FOREIGN_FLAGS == set()


# tables and facts


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tables_of_a_page_are_those_of_the_code(page):
    text = text_of(page)
    assert tables.rewritten(page) == text, "write them anew: python tests/tables.py"
    for name, table in tables.MARKED.findall(text):
        _, rows = tables.rows_of(table)
        assert [key for key, cells in rows.items() if "?" in cells or "" in cells[len(tables.TABLES[name]().facts[0]):]] == []


@each("page", PAGES, ids=name_of)
def test_a_table_has_as_many_cells_in_each_row_as_in_its_header(page):
    for table in re.findall(r"(?:^\|.*\n)+", without_blocks(text_of(page)), re.M):
        assert len({len(tables.cells_of(line)) for line in table.splitlines()}) == 1, table


@pytest.mark.parametrize("readers", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_each_table_of_the_code_is_in_one_page(readers):
    names = [name for page in readers for name, _ in tables.MARKED.findall(text_of(page))]
    assert not readers or sorted(names) == sorted(tables.TABLES)


@pytest.mark.parametrize("name", ["README.md", "docs/not-simulated.md"])
def test_a_page_counts_what_is_simulated(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not BACKINGS["none"] and f"zmock simulates all {len(APIS)} APIs" in text


def test_the_chinese_pages_count_the_same():
    for english in (ROOT / "README.md", ROOT / "docs/not-simulated.md"):
        for page in (page for page in CHINESE if english_of(page) == english):
            assert f"全部 {len(APIS)} 个 API" in text_of(page), name_of(page)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name == "dialects.md"], ids=name_of)
def test_a_page_counts_how_apis_are_backed(page):
    assert [backing for backing, count in BACKINGS.items() if f"| `{backing}` | {count} |" not in text_of(page)] == []


def test_the_pages_know_how_many_apis_are_in_the_manual_and_how_many_configurations_there_are():
    more = len(APIS) - BACKINGS["manual"]
    limits, configuration = (text_of(ROOT / f"docs/{name}.md") for name in ("not-simulated", "configuration"))
    assert f"the {BACKINGS['manual']} of the developer manual and {more} more" in limits
    assert f"the {len(zmock.catalogue().configurations)} global configurations" in configuration
    assert f"{more} more: all {len(APIS)} APIs" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.asyncio
@pytest.mark.parametrize("page", [page for page in PAGES if page.name == "clouds.md"], ids=name_of)
async def test_the_names_of_the_demo_cloud_lead_to_its_objects(page):
    demo = without_blocks(text_of(page)).split("\n## ")[1]
    (names,) = [part for part in demo.split("\n\n") if "`trigger-nightly`" in part]
    names = [name for name in re.findall(r"`([a-z0-9-]+)`", names) if not name.endswith("-")]
    (machines,) = [line for line in demo.splitlines() if "`office-1`" in line and line.startswith("|")]
    async with zmock.serve() as mock:
        uuids = {item["uuid"] for table in mock.cloud.store.tables.values() for item in table.items.values() if "uuid" in item}
        assert len(names) > 12 and [name for name in names if zmock.named(name) not in uuids] == []
        stored = {vm["name"] for vm in await mock.query("vm-instances")}
        assert set(re.findall(r"`([a-z]+-\d)`", machines)) | {"web-2"} == stored


def test_the_records_that_a_page_shows_stand_in_the_catalogue():
    stored = json.loads((ROOT / "data/catalogue.json").read_text(encoding="utf-8"))
    records = [*stored["inventories"].values(), *stored["apis"].values()]
    shown = [json.loads(block) for block in blocks_of(ROOT / "docs/adding-apis.md", "json")]
    known = [record for block in shown for record in [*block.get("inventories", ()), *block["apis"]] if "Rack" not in record["name"]]
    assert len(known) == 6
    assert [record["name"] for record in known if record not in records] == []


@each("example", [file.name for file in (ROOT / "tests/examples").iterdir() if file.suffix in (".py", ".yml") and file.stem != "test_ci_recipes"])
def test_the_pages_name_every_example(example):
    assert any(example in text_of(page) for page in ENGLISH)


# pages, links and form


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in links_of(page):
        if target == "zh/README.md" and not CHINESE:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in anchors_of(to), target


@pytest.mark.parametrize(("first", "pages"), [("README.md", ENGLISH), ("README.zh-CN.md", CHINESE)], ids=["English", "Chinese"])
def test_every_page_is_reached_from_the_readme(first, pages):
    reached, fresh = set(), {ROOT / first}
    while fresh:
        reached |= fresh
        targets = {(page.parent / target.partition("#")[0]).resolve() for page in fresh for target in links_of(page)}
        fresh = {target for target in targets if target in pages} - reached
    assert {*pages} - reached == set()


def columns(line):
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_short_and_narrow(page):
    lines = text_of(page).splitlines()
    assert len(lines) <= (150 if page in READMES else 300)
    is_table = re.compile(r"\|.*\|$")
    wide = [line for line in lines if columns(line) > 120 and (page in READMES or not is_table.match(line))]
    assert wide == []


@pytest.mark.parametrize("page", [page for page in ENGLISH if page.parent != ROOT and page.name != "README.md"], ids=name_of)
def test_a_page_says_first_which_question_it_answers(page):
    assert re.match(r"# .+\n\nThis page answers: .+\?\n", text_of(page))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_no_path_of_a_machine(page):
    assert re.findall(r"/(?:tmp|work|root|home|Users)/\S*", text_of(page)) == []


# both languages


COMMENT = re.compile(r"(?:^|(?<=\s))(?:#|//) .*$", re.M)


def without_comments(block):
    """Return a block without its comments, which a translation may translate: a page may say `# web-1`."""
    language, text = block
    text = COMMENT.sub("", text) if language not in ("text", "http", "json") else text
    return language, "\n".join(filter(None, (line.rstrip() for line in text.splitlines())))


@pytest.mark.skipif(not CHINESE, reason="there are no Chinese pages")
def test_both_languages_have_the_same_pages():
    assert sorted(map(english_of, CHINESE)) == ENGLISH


@pytest.mark.parametrize("page", CHINESE, ids=name_of)
def test_a_page_in_both_languages_has_the_same_headings_and_code(page):
    english = english_of(page)
    assert [level for level, _ in headings_of(page)] == [level for level, _ in headings_of(english)]
    pairs = [*map(without_comments, blocks_of(page))], [*map(without_comments, blocks_of(english))]
    for block, same in zip(*pairs):
        assert block == same
    assert len(pairs[0]) == len(pairs[1])
