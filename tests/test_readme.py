"""What the README shows is what happens: its console blocks, typed in from top to bottom on a cloud just made."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TYPED = [
    (command, told.strip("\n"))
    for block in re.findall(r"^```console\n(.*?)^```", README, re.M | re.S)
    for command, _, told in (part.partition("\n") for part in re.split(r"^\$ ", block, flags=re.M)[1:])
]
DATE = r"[A-Z][a-z]{2} \d+, \d{4} \d+:\d\d:\d\d [AP]M"


def as_shown(told):
    """A pattern for what the page shows: … is anything, and a date any date."""
    return re.compile(re.sub(DATE, lambda _: DATE, re.escape(told).replace("…", ".*").replace(r"\ ", " ")), re.S)


class Shell:
    """A shell that goes on from one command to the next."""

    def __init__(self, folder):
        self.bash = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)

    def type(self, command):
        self.bash.stdin.write(f"{command}\necho; echo ==over==\n")
        self.bash.stdin.flush()
        return "\n".join(line.rstrip() for line in iter(self.bash.stdout.readline, "==over==\n")).strip("\n")


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "openssl"))), reason="types into bash, with curl and openssl")
def test_its_console_blocks_are_one_session_from_top_to_bottom(tmp_path):
    shutil.copy(ROOT / "zmock.py", tmp_path)
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=lambda folder, names: [name for name in names if name not in ("catalogue.json", "demo.json")])
    server = subprocess.Popen([sys.executable, "zmock.py", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    shell = Shell(tmp_path)
    try:
        port = re.search(r":(\d+)/", server.stdout.readline())[1]
        shell.type('curl() { command curl -s "$@"; }')
        before = ""
        for command, told in TYPED:
            if "…" in command:  # ANN="Authorization: OAuth …": what the answer before it gave
                command = command.replace("…", re.search(r'"uuid":"(\w{32})"', before)[1])
            before = shell.type(command.replace(":8080/", f":{port}/").replace(".venv/bin/python", sys.executable))
            shown = before.replace(f":{port}/", ":8080/")
            assert as_shown(told).fullmatch(shown), f"$ {command}\n{before}\n-- but the page shows\n{told}"
        posted = re.search(r"^\{.*\}$", re.search(r"^```http\n(.*?)^```", README, re.M | re.S)[1], re.M)[0]
        east = shell.type('curl -H "$AUTH" $ZSTACK_URL/zones?q=name=east')
        assert as_shown(posted.replace('{"inventory":', '{"inventories":[')[:-1] + "]}").fullmatch(east), east
    finally:
        server.kill()
        server.communicate()
        shell.bash.kill()
        shell.bash.communicate()
