"""The pages of the documentation, and a shell that types what they show."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from asking import ROOT, forked

ENGLISH = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CHINESE = sorted([ROOT / "README.zh-CN.md", *(ROOT / "docs/zh").glob("*.md")]) if (ROOT / "docs/zh").exists() else []
PAGES = [*ENGLISH, *CHINESE]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.M | re.S)
DATE = r"[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M"
ANY_DATE = re.compile(  # and what else varies in the output of a terminal
    DATE + r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z|\b\d\d:\d\d:\d\d\b|\b\d+ ms(?:, \d+ polls?)?\b|zmock \d+\.\d+\.\d+"
)
REPLACED = re.compile("|".join(["…", ANY_DATE.pattern]))


def name_of(page):
    """Return the path of a page below the project, as tests are named."""
    return page.relative_to(ROOT).as_posix()


def english_of(page):
    """Return the English page of a Chinese one."""
    return ROOT / "README.md" if page.name == "README.zh-CN.md" else ROOT / "docs" / page.name


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks_of(page, language=None):
    """Return the code blocks of a page: (language, text), or the texts of one language."""
    blocks = [(match[2], textwrap.dedent(match[3])) for match in BLOCK.finditer(text_of(page))]
    return [text for name, text in blocks if name == language] if language else blocks


def without_blocks(text):
    return BLOCK.sub("", text)


def headings_of(page):
    return re.findall(r"^(#+) +(.+?) *$", without_blocks(text_of(page)), re.M)


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub names them."""
    anchors = []
    for _, heading in headings_of(page):
        text = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(anchor.partition("~")[0] == text for anchor in anchors)
        anchors.append(f"{text}-{count}" if count else text)
    return anchors


def links_of(page):
    """Return the targets of a page's links, without those to other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_blocks(text_of(page)))
    return [target for target in targets if not re.match("https?:|mailto:", target)]


def commands_of(block):
    """Return the commands of a console block, with what the page shows behind each."""
    commands = []
    for line in block.rstrip("\n").split("\n"):
        if line.startswith("$ ") and not (commands and is_open(commands[-1])):
            commands.append([line[2:], []])
        elif is_open(commands[-1]):
            commands[-1][0] += "\n" + line.removeprefix("> ")
        else:
            commands[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in commands]


def is_open(command):
    """Return True if a command goes on in the next line."""
    text, shown = command
    if shown:
        return False
    return text.endswith("\\") or text.count("'") % 2 == 1


def as_shown(text):
    """Return a pattern for what a page shows: … is anything, and a date is any date."""
    pattern, end = "", 0
    for match in REPLACED.finditer(text):
        pattern += re.escape(text[end:match.start()])
        pattern += ".*" if match[0] == "…" else f"(?:{ANY_DATE.pattern})"
        end = match.end()
    return re.compile(pattern + re.escape(text[end:]), re.S)


def copy_project(folder):
    """Copy zmock to a folder with the bytecode that it has, and a .venv whose python is this one, and keeps that."""
    shutil.copy2(ROOT / "zmock.py", folder)
    if (bytecode := Path(importlib.util.cache_from_source(ROOT / "zmock.py"))).exists():
        (folder / "__pycache__").mkdir()
        shutil.copy2(bytecode, folder / "__pycache__")
    (folder / "data").mkdir()
    for name in ("catalogue.json", "demo.json", "openapi.json", "page.html", "schema.json"):
        shutil.copy(ROOT / "data" / name, folder / "data")
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nif [ "$1" = zmock.py ]; then shift; set -- -m zmock "$@"; fi\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)


def start(folder, *flags):
    """Start zmock in a folder. Return the process and its port."""
    with open(folder / "zmock.log", "w") as log:
        server, stdout = forked(folder, *flags, stderr=log.fileno())
    with stdout:
        return server, re.search(r":(\d+)/", stdout.readline())[1]


class Shell:
    """A bash that goes on from one command to the next, in a folder with a running zmock."""

    def __init__(self, folder, port):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZMOCK_", "ZSTACK_"))}
        environment |= {"SSL_CERT_FILE": os.devnull}  # aiohttp reads all certificates at its import
        environment["ZSTACK_URL"] = f"http://127.0.0.1:{port}/zstack/v1"
        self.log = folder / "zmock.log"
        self.port = port
        self.bash = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.type('curl() { command curl -s "$@"; }')

    def type(self, command):
        """Type a command. Return what it prints."""
        assert "<<" not in command, f"{command}: a here-document has no end here; put the text in quotes"
        self.bash.stdin.write(command.replace(":8080", f":{self.port}") + "\necho; echo ==over==\n")
        self.bash.stdin.flush()
        lines = [line.rstrip() for line in iter(self.bash.stdout.readline, "==over==\n")]
        return "\n".join(lines).strip("\n").replace(f":{self.port}", ":8080")

    def terminal(self):
        """Return what zmock has printed for people."""
        return self.log.read_text().replace(f":{self.port}", ":8080")

    def close(self):
        self.bash.kill()
        self.bash.communicate()
