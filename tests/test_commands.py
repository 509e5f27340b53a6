"""The commands beside the server: env, wait, calls, check, completion. A real mock answers them."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from asking import IMPORTABLE, PROGRAM, ROOT, each

from zmock import COMMANDS, SERVER, Entry, flags_of, journal_line, main, serve

NO_PROXY_HERE = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def mock():
    """A mock in another thread, whose jobs take 10 seconds of a clock that stands."""
    with serve(delay="10") as mock:
        yield mock


@pytest.fixture
def zmock_cli(capsys, monkeypatch):
    """A command in this process: its exit code, its stdout and its stderr."""
    for name in [name for name in os.environ if name.startswith(("ZMOCK_", "ZSTACK_"))]:
        monkeypatch.delenv(name)

    def run(*arguments, **environment):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (NO_PROXY_HERE | environment).items():
                patch.setenv(name, value)
            try:
                code = main(list(arguments))
            except SystemExit as end:
                code = end.code
        return code, *capsys.readouterr()

    return run


def command(*arguments, **environment):
    """A command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ZMOCK_", "ZSTACK_"))} | IMPORTABLE | environment
    words = [*PROGRAM, *arguments]
    return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def timeless(text):
    """Lines of calls without the times in them."""
    return re.sub(r"\d+ ms\b", "N ms", re.sub(r"^\d\d:\d\d:\d\d", "T", text, flags=re.M))


def port_of(mock):
    return mock.base.rpartition(":")[2]


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


# finding the mock


@each(
    ("arguments", "environment"),
    (
        (["--url", "{base}"], {}),
        (["--url={base}/"], {}),
        (["--url", "{base}/zstack/v1"], {}),
        (["--url", "{base}/zstack/v1/"], {}),
        (["--url", "{base}/zmock"], {}),
        (["--port", "{port}"], {}),
        (["--host", "localhost", "--port", "{port}"], {}),
        (["--host", "0.0.0.0", "--port", "{port}"], {}),
        ([], {"ZMOCK_PORT": "{port}"}),
        ([], {"ZMOCK_PORT": "{port}", "ZSTACK_URL": ""}),
        ([], {"ZSTACK_URL": "{base}/zstack/v1"}),
        ([], {"ZSTACK_URL": "{base}"}),
        ([], {"ZSTACK_URL": "{base}/zstack/v1", "ZMOCK_PORT": "9"}),
        (["--url", "{base}"], {"ZSTACK_URL": "http://127.0.0.1:9/zstack/v1"}),
        (["--port", "{port}"], {"ZSTACK_URL": "http://127.0.0.1:9/zstack/v1"}),
        (["--port", "{port}"], {"ZMOCK_PORT": "9"}),
        (["--port", "{port}", "--control-token", "t"], {"ZMOCK_DELAY": "3"}),
    ),
)
def test_a_mock_is_found_by_a_flag_then_by_zstack_url_then_by_its_variables(mock, zmock_cli, arguments, environment):
    places = {"base": mock.base, "port": port_of(mock)}
    arguments = [word.format(**places) for word in arguments]
    environment = {name: value.format(**places) for name, value in environment.items()}
    assert zmock_cli("wait", "--timeout", "0", *arguments, **environment) == (0, "", "")
    code, out, err = zmock_cli("env", *arguments, **environment)
    urls = "\n".join(f"export ZSTACK_{name}=http://[a-z0-9.]+:{places['port']}{path}" for name, path in (("URL", "/zstack/v1"), ("CONTROL_URL", "/zmock")))
    assert (code, err) == (0, "") and re.fullmatch(urls + r"\nexport ZSTACK_SESSION=[0-9a-f]{32}\n", out), out
    assert zmock_cli("calls", *arguments, **environment)[::2] == (0, "")


NOBODY = "http://127.0.0.1:9"
START = "start zmock, or name its address with --url"


@each(
    ("line", "environment", "told"),
    (
        ("env --url http://127.0.0.1:9", {}, f"no mock answers at {NOBODY}; {START}"),
        ("calls --port 9", {}, f"no mock answers at {NOBODY}; {START}"),
        ("calls -f --port 9", {}, f"no mock answers at {NOBODY}; {START}"),
        ("env", {"ZSTACK_URL": f"{NOBODY}/zstack/v1"}, f"no mock answers at {NOBODY} (ZSTACK_URL); {START}"),
        ("env --url ftp://x", {}, "--url is an address such as http://127.0.0.1:8080/zstack/v1, not 'ftp://x'"),
        ("wait", {"ZSTACK_URL": "127.0.0.1:8080"}, "ZSTACK_URL is an address such as http://127.0.0.1:8080/zstack/v1, not '127.0.0.1:8080'"),
        ("env --url http://x --port 3", {}, "--url names the port and the host; leave --port out"),
        ("env --port 0", {}, "port 0 is any port; name it by --port, --url or ZSTACK_URL"),
        ("wait", {"ZMOCK_PORT": "0"}, "port 0 is any port; name it by --port, --url or ZSTACK_URL"),
        ("env --port 99999", {}, "--port is a number from 0 to 65535, not 99999"),
        ("env --port http", {}, "argument --port: invalid int value: 'http' (see zmock env --help)"),
        ("env --host=", {}, "--host is empty; leave it away for its default"),
        ("wait --timeout=-1", {}, "--timeout is a number from 0 to 86400, not -1.0"),
        ("wait --timeout soon", {}, "argument --timeout: invalid float value: 'soon' (see zmock wait --help)"),
        ("wait --timeout nan", {}, "--timeout is a number from 0 to 86400, not nan"),
        ("wait", {"ZMOCK_PROT": "1"}, "no setting reads ZMOCK_PROT, did you mean ZMOCK_PORT?"),
        ("evn", {}, "unknown argument evn, did you mean env? (see --help)"),
        ("chekc a.json", {}, "unknown argument chekc, did you mean check? (see --help)"),
        ("--port 1 wait", {}, "the command wait goes first: zmock wait (see --help)"),
        ("env --cloud demo", {}, "--cloud goes with zmock and zmock check, not with zmock env (see zmock env --help)"),
        ("env --timeout 3", {}, "--timeout goes with zmock wait, not with zmock env (see zmock env --help)"),
        ("openapi --seed 3", {}, "--seed goes with zmock, not with zmock openapi (see zmock openapi --help)"),
        ("--follow", {}, "--follow goes with zmock calls, not with zmock (see --help)"),
        ("wait --timout 3", {}, "unknown argument --timout, did you mean --timeout? (see zmock wait --help)"),
        ("env now", {}, "unknown argument now (see zmock env --help)"),
        ("check", {}, "the following arguments are required: FILE (see zmock check --help)"),
        ("env --host ..", {}, f"no mock answers at http://..:8080; {START}"),
        ("env --account \x1b[31m --url http://127.0.0.1:9/\x1b[31m", {}, f"no mock answers at {NOBODY}/\\x1b[31m; {START}"),
        ("env --control-token a\x00b", {}, r"--control-token is a text without line breaks and outer spaces, not 'a\x00b'"),
        ("calls", {"ZMOCK_CONTROL_TOKEN": "a\nb"}, r"--control-token is a text without line breaks and outer spaces, not 'a\nb'"),
        ("--control-token a\x7f", {}, r"--control-token is a text without line breaks and outer spaces, not 'a\x7f'"),
        ("completion bash", {}, "unknown argument bash (see zmock completion --help)"),
    ),
)
def test_a_wrong_command_line_is_one_line_and_exit_2(zmock_cli, line, environment, told):
    assert zmock_cli(*line.split(), **environment) == (2, "", f"zmock: {told}\n")


@contextlib.contextmanager
def another_server(answer, port=0):
    """A server that is no zmock. It answers everything alike, or with 404."""

    class Alike(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write((answer or "no such page").encode("latin-1"))

        do_PUT = do_GET

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", port), Alike) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()  # seconds until it sees its shutdown
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


DEEP = '{"dialect": 1, "calls": %s}' % ("[" * 500 + "]" * 500)


@each("answer", (None, "5", "null", '"dialect"', "[]", "{}", '{"calls": 5}', '{"calls": [{}], "dropped": 0}', '{"calls": []}', '{"dialec', "\xff", DEEP, "[" * 100_000))
def test_what_listens_and_is_no_zmock_is_told_apart(zmock_cli, answer):
    with another_server(answer) as url:
        told = f"{url} answers, but it is no zmock; {START}\n"
        for line in ("env", "calls", "calls -f"):
            assert zmock_cli(*line.split(), "--url", url) == (2, "", f"zmock: {told}")
        assert zmock_cli("wait", "--url", url, "--timeout", "0") == (1, "", f"zmock: after 0 seconds, {told}")


def test_what_only_looks_like_a_mock_is_quoted(zmock_cli):
    cure = "if its password was changed, give --account and --password"
    with another_server('{"dialect": "x"}') as url:
        told = f'cannot log in as \\x1b[31m at {url}: it answers {{"dialect": "x"}}; {cure}'
        assert zmock_cli("env", "--account", "\x1b[31m", "--url", url) == (2, "", f"zmock: {told}\n")


# stdout


@each("line", ("--help", "--version", "env --url {base}", "calls --url {base}", "calls -f --url {base}", f"check {ROOT}/data/demo.json", "openapi", "completion", "wait --help"))
def test_stdout_that_cannot_be_written_is_a_line_and_a_reader_that_has_gone_is_none(mock, zmock_cli, monkeypatch, line):
    mock.login()
    reader, writer = os.pipe()
    os.close(reader)
    problems = {"/dev/full": "zmock: cannot write to stdout: No space left on device\n", writer: "", None: "zmock: cannot write to stdout: it is closed\n"}
    for place, told in problems.items():
        with open(place, "w") if place else contextlib.nullcontext() as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            assert zmock_cli(*line.format(base=mock.base).split()) == (2 if told else 0, "", told)


def test_what_could_not_be_written_is_not_written_at_the_end_either():
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, ROOT / "zmock.py", "completion"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (2, "zmock: cannot write to stdout: No space left on device\n")


@each("name", COMMANDS)
def test_the_help_of_a_command_shows_its_own_flags_in_lines_of_100_columns(zmock_cli, name):
    code, out, err = zmock_cli(name, "--help")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 100
    assert {*re.findall(r"^  .*?(--[\w-]+)", out, re.M)} == {flag for flag in flags_of(COMMANDS[name]) if flag.startswith("--")}


# env


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl"))), reason="evaluates it in bash, and calls with curl")
def test_the_exports_of_env_are_evaluated_and_used_in_a_shell(mock):
    zmock = shlex.join(PROGRAM)
    script = f"""
        eval "$({zmock} env --url {mock.base})"
        curl -s --noproxy '*' -H "Authorization: OAuth $ZSTACK_SESSION" "$ZSTACK_URL/zones?fields=name"; echo
        curl -s --noproxy '*' "$ZSTACK_CONTROL_URL/dialect" | head -c 21; echo
        {zmock} wait && echo there"""  # which finds it by ZSTACK_URL
    ended = subprocess.run(["bash", "-c", script], env=os.environ | IMPORTABLE, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ('{"inventories":[{"name":"zone-1"}]}\n{"dialect": "manual",\nthere\n', "")


def test_env_quotes_for_the_shell(zmock_cli):
    with serve(host="::1") as mock:
        code, out, _ = zmock_cli("env", "--host", "::1", "--port", port_of(mock))
    assert code == 0 and out.startswith(f"export ZSTACK_URL='http://[::1]:{port_of(mock)}/zstack/v1'\n")


def test_env_says_when_the_login_is_refused_and_takes_another_account(zmock_cli):
    with serve() as mock:
        mock.login()
        mock.create("CreateAccount", name="tester", password="b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86")
        refused = f"zmock: cannot log in as admin at {mock.base}: ID.1000: wrong account name or password; if its password was changed, give --account and --password\n"
        assert zmock_cli("env", "--url", mock.base, "--password", "other") == (2, "", refused)
        code, out, _ = zmock_cli("env", "--url", mock.base, "--account", "tester", "--password", "password")
        assert code == 0 and re.search(r"ZSTACK_SESSION=(\w{32})\n$", out)
        mock.rule(api="LogInByAccount", then={"error": "SYS.1006", "details": "not today"})
        code, out, err = zmock_cli("env", "--url", mock.base)
        assert (code, out, err.count("\n")) == (2, "", 1) and "SYS.1006: not today" in err
        mock.reset()
        mock.rule(api="LogInByAccount", then={"drop": "empty"})
        code, out, err = zmock_cli("env", "--url", mock.base)
        assert (code, out, err.count("\n")) == (2, "", 1) and f"cannot log in as admin at {mock.base}: Server disconnected" in err


def test_env_sends_no_password_to_what_is_no_zmock(zmock_cli, monkeypatch):
    asked = []

    async def ask(mock, method, path, *arguments):
        asked.append(path)
        return 200, {"status": "UP"}

    monkeypatch.setattr("zmock.RunningMock.ask", ask)
    code, out, err = zmock_cli("env", "--url", "http://x:1")
    assert (code, out, asked) == (2, "", ["/zmock/health"]) and "it is no zmock" in err


# wait


def test_wait_begins_before_the_mock_listens_and_ends_with_it():
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        process = command("wait", "--port", str(port), "--timeout", "60")
        connection, _ = first.accept()  # it has begun
        connection.close()
    with serve(port=port):
        assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_wait_ends_with_1_when_time_is_up(zmock_cli):
    told = zmock_cli("wait", "--port", unused_port(), "--timeout", "0.1")
    assert told[:2] == (1, "") and re.fullmatch(rf"zmock: after 0.1 seconds, no mock answers at http://127.0.0.1:\d+; {START}\n", told[2])


@each(("name", "number"), (("wait", signal.SIGINT), ("wait", signal.SIGTERM), ("calls", signal.SIGINT), ("env", signal.SIGTERM)))
def test_an_interrupted_command_is_quiet_and_no_success(name, number):
    with socket.create_server(("127.0.0.1", 0)) as first:
        process = command(name, "--port", str(first.getsockname()[1]))
        connection, _ = first.accept()
        with connection:
            process.send_signal(number)
            assert process.communicate(timeout=30) == ("", "") and process.returncode == 130


# calls


@pytest.fixture
def called():
    """A mock that was called in each way that a line can show."""
    with serve(delay="10") as mock:
        mock.login()
        mock.rule(api="CreateCluster", then={"error": "SYS.1006"})
        mock.rule(api="QueryHost", then={"drop": "empty"})
        mock.request("POST", "/zones", {"params": {"name": "a"}})
        mock.request("POST", "/clusters", {"params": {"name": "c", "zoneUuid": "36c27e8ff05c4780bf6d2fa65700f22e", "hypervisorType": "KVM"}})
        with contextlib.suppress(Exception):
            mock.request("GET", "/hosts")
        mock.rule(api="QueryImage", times=1, then={"drop": "truncate"})
        with contextlib.suppress(Exception):
            mock.request("GET", "/images")
        mock.request("GET", "/vm-instances?q=stat=Running")
        mock.advance(10)
        mock.request("POST", "/zones", {"params": {"name": "b"}})
        yield mock


def test_calls_prints_a_line_for_each_call_and_its_hints_below(zmock_cli, called):
    code, out, err = zmock_cli("calls", "--url", called.base)
    assert (code, err) == (0, "")
    assert timeless(out) == (
        "T  200  PUT /zstack/v1/accounts/login  LogInByAccount  N ms\n"
        "T  202  POST /zstack/v1/zones  CreateZone  N ms, job succeeded\n"
        "T  202  POST /zstack/v1/clusters  CreateCluster  rule-1  N ms, job failed: SYS.1006\n"
        "T  empty  GET /zstack/v1/hosts  QueryHost  rule-2  N ms\n"
        "T  200  GET /zstack/v1/images  QueryImage  rule-3  N ms, drop: truncate\n"
        "T  400  GET /zstack/v1/vm-instances?q=stat=Running  QueryVmInstance  SYS.1007  N ms\n"
        "          VmInstance has no field stat, did you mean state?\n"
        "T  202  POST /zstack/v1/zones  CreateZone  N ms, job running\n"
    )


@pytest.mark.parametrize("end", ("", "/", "/zmock", "/zstack/v1"))
def test_the_world_in_an_address_is_the_one_that_commands_are_about(zmock_cli, end):
    with serve() as mock:
        mock.login()
        world = mock.world("a")
        world.create("CreateZone", name="z")
        for address, calls in ((world.base, ["LogInByAccount", "CreateZone", "PollJob"]), (mock.base, ["LogInByAccount"])):
            code, out, err = zmock_cli("calls", "--url", address + end)
            assert (code, re.findall(r"  ([A-Z]\w+[a-z])  ", out), err) == (0, calls, "")
        _, out, _ = zmock_cli("env", ZSTACK_URL=world.base + end)
        assert f"export ZSTACK_CONTROL_URL={world.base}/zmock\n" in out
        assert [call.api for call in world.calls()][-1] == "LogInByAccount" and len(mock.calls()) == 1


def test_calls_says_how_many_calls_the_journal_has_lost(zmock_cli):
    with serve(journal=2) as mock:
        for _ in range(3):
            mock.login()
        code, out, err = zmock_cli("calls", "--url", mock.base)
        assert (code, len(out.splitlines()), err) == (0, 2, "zmock: the journal has no room for 1 earlier call (--journal)\n")


def test_what_a_mock_refuses_is_told_in_its_words(zmock_cli, monkeypatch):
    async def refuse(mock, *arguments):
        return 403, {"error": "/zmock does not answer for the host x", "hint": "--allow\n\x1b[31mit"}

    monkeypatch.setattr("zmock.RunningMock.ask", refuse)
    told = "zmock: the mock at http://x:1 refuses it: /zmock does not answer for the host x; --allow\\n\\x1b[31mit\n"
    assert zmock_cli("calls", "--url", "http://x:1") == (2, "", told)


def test_calls_sends_the_token_and_says_where_one_is_missing(zmock_cli):
    with serve(control_token="secret") as mock:
        asks = f"zmock: the mock at {mock.base} asks for its token; give it with --control-token or ZMOCK_CONTROL_TOKEN\n"
        for wrong in ([], ["--control-token", "other"], ["-f"]):
            assert zmock_cli("calls", "--url", mock.base, *wrong) == (2, "", asks)
        mock.login()
        assert zmock_cli("calls", "--url", mock.base, "--control-token", "secret")[1].count("LogInByAccount") == 1
        assert zmock_cli("calls", "--url", mock.base, ZMOCK_CONTROL_TOKEN="secret")[1].count("LogInByAccount") == 1


def test_a_line_escapes_what_would_steer_a_terminal():
    row = {"time": "2026-01-01T00:00:00.000Z", "status": 200, "method": "GET", "path": "/a\x1b[2J", "query": "q=天", "api": "", "code": "", "rule": "rule-1; hit=3", "world": ""}
    line = journal_line(row | {"outcome": "ok", "hint": "no \x07", "ms": 3.6}, lambda text, colour: text)
    assert timeless(line) == "T  200  GET /a\\x1b[2J?q=天  rule-1  N ms\n          no \\x07"


@each(("environment", "coloured"), (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)))
def test_calls_has_colours_on_a_terminal_only(mock, zmock_cli, monkeypatch, environment, coloured):
    mock.request("GET", "/vm-instances?q=stat=Running")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    out = zmock_cli("calls", "--url", mock.base, **environment)[1]
    assert "400" in out and ("\x1b[31m400\x1b[0m" in out) is coloured


@contextlib.contextmanager
def following(mock, *arguments):
    """`zmock calls -f` in a process of its own."""
    process = command("calls", "-f", "--url", mock.base, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process):
    return timeless(process.stdout.readline())


def skip_lines(process, count):
    for _ in range(count):
        process.stdout.readline()


def test_following_prints_the_journal_then_each_call_once_and_the_end_of_its_job(called):
    with following(called) as process:
        skip_lines(process, 7)
        assert next_line(process) == "T  202  POST /zstack/v1/zones  CreateZone  N ms, job running\n"
        called.request("GET", "/zones?q=nam=x")
        assert next_line(process) == "T  400  GET /zstack/v1/zones?q=nam=x  QueryZone  SYS.1007  N ms\n"
        assert next_line(process) == "          Zone has no field nam, did you mean name?\n"
        called.advance(10)
        assert re.fullmatch(r"          job [0-9a-f]{32} of CreateZone succeeded\n", next_line(process))
        called.rule(api="CreateZone", then={"error": "SYS.1006"})
        called.request("POST", "/zones", {"params": {"name": "b"}})
        assert next_line(process) == "T  202  POST /zstack/v1/zones  CreateZone  rule-4  N ms, job running\n"
        called.advance(10)
        assert re.fullmatch(r"          job [0-9a-f]{32} of CreateZone failed: SYS.1006\n", next_line(process))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_following_ends_with_the_next_line_when_its_reader_has_gone(called):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [*PROGRAM, "calls", "-f", "--url", called.base]
        process = subprocess.Popen(words, env=os.environ | IMPORTABLE, stdout=theirs, stderr=subprocess.PIPE, text=True)
        theirs.close()
        assert ours.recv(1)
    called.request("GET", "/images")
    assert process.communicate(timeout=30) == (None, "") and process.returncode == 0


def test_following_fetches_the_calls_of_which_too_many_came_at_once(called, monkeypatch):
    monkeypatch.setattr(called.mock.control.watch, "events", deque(maxlen=3))
    rest, clock = called.mock.rest, called.mock.clock

    def burst():
        for n in range(10):
            rest.record(Entry(next(rest.seq), clock.now(), clock.monotonic(), "GET", f"/zstack/v1/{n}", ""), 404)

    with following(called) as process:
        skip_lines(process, 7)
        assert next_line(process).endswith("job running\n")
        called.request("GET", "/images")  # its line comes from an event, or else from the journal
        assert next_line(process).endswith("QueryImage  N ms\n")
        called.mock.cloud.store.call_in_loop(burst)
        called.request("GET", "/zones")
        assert [next_line(process) for _ in range(11)] == [*(f"T  404  GET /zstack/v1/{n}  N ms\n" for n in range(10)), "T  200  GET /zstack/v1/zones  QueryZone  N ms\n"]


def test_a_long_journal_into_a_reader_that_leaves_is_no_error(called):
    rest, clock = called.mock.rest, called.mock.clock
    for _ in range(900):
        rest.record(Entry(next(rest.seq), clock.now(), clock.monotonic(), "GET", f"/{'x' * 1000}", ""), 404)
    process = command("calls", "--url", called.base)
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=30) == 0 and process.stderr.read() == ""
    process.communicate()


def test_following_goes_on_with_a_mock_that_was_away_and_with_its_successor():
    with contextlib.ExitStack() as first:
        mock = first.enter_context(serve())
        gone = f"zmock: {mock.base} has gone; waiting for it\n"
        mock.login()
        with following(mock) as process:
            assert next_line(process) == "T  200  PUT /zstack/v1/accounts/login  LogInByAccount  N ms\n"
            mock.request("GET", "/zones")
            assert next_line(process) == "T  200  GET /zstack/v1/zones  QueryZone  N ms\n"
            mock.down()
            assert process.stderr.readline() == gone
            mock.up()
            mock.request("GET", "/images")
            assert next_line(process) == "T  200  GET /zstack/v1/images  QueryImage  N ms\n"
            first.close()
            assert process.stderr.readline() == gone
            with serve(port=int(port_of(mock))) as successor:  # whose calls are numbered anew
                successor.login()
                assert next_line(process) == "T  200  PUT /zstack/v1/accounts/login  LogInByAccount  N ms\n"
                process.send_signal(signal.SIGTERM)
                assert process.communicate(timeout=30) == ("", "") and process.returncode == 0


def test_following_ends_when_the_mock_comes_back_with_a_token_and_tells_of_another_server():
    with contextlib.ExitStack() as first:
        mock = first.enter_context(serve())
        with following(mock) as process:
            mock.login()
            assert next_line(process) == "T  200  PUT /zstack/v1/accounts/login  LogInByAccount  N ms\n"
            mock.request("GET", "/zones")
            assert next_line(process) == "T  200  GET /zstack/v1/zones  QueryZone  N ms\n"
            first.close()
            gone = f"zmock: {mock.base} has gone; waiting for it\n"
            assert process.stderr.readline() == gone
            with another_server(None, int(port_of(mock))):
                assert process.stderr.readline() == f"zmock: {mock.base} answers, but it is no zmock; {START}\n"
            with serve(port=int(port_of(mock)), control_token="secret"):
                out, err = process.communicate(timeout=30)
            asks = f"zmock: the mock at {mock.base} asks for its token; give it with --control-token or ZMOCK_CONTROL_TOKEN\n"
            assert (process.returncode, out, err.removeprefix(gone)) == (2, "", asks)


def test_following_asks_less_and_less_often(zmock_cli, monkeypatch):
    pauses = []

    async def ask(mock, method, path, *arguments):
        return (200, {"calls": [], "dropped": 0}) if path == "/zmock/calls" else (404, {})

    async def real_time(seconds):
        pauses.append(seconds)
        if len(pauses) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr("zmock.RunningMock.ask", ask)
    monkeypatch.setattr("zmock.real_time", real_time)
    assert zmock_cli("calls", "-f", "--url", "http://x:1")[:2] == (0, "")
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1]


# check


RULES = [{"api": "CreateZone", "then": {"error": "SYS.1006"}}, {"api": "*", "delay": 2}, {"api": "PollJob", "skip": 1}]
CLOUD = {"zones": [{"name": "z"}], "clusters": [{"name": "c"}], "hosts": [{"name": "h"}, {"name": "g"}]}
CHECKED = {
    "rules": (json.dumps(RULES), "rules, 3 rules"),
    "rules with a BOM": ("\ufeff" + json.dumps(RULES[:1]), "rules, 1 rule"),
    "no rules": ("[]", "rules, 0 rules"),
    "a scenario": ('[{"at": 3, "id": "o", "incident": {"host-down": "host-1"}}, {"at": 5, "end": "o"}]', "scenario, 2 steps"),
    "a cloud": (json.dumps(CLOUD), "cloud, 4 objects: 1 Zone, 1 Cluster, 2 Host"),
    "a cloud by types with a BOM": ("\ufeff" + '{"now": "2018-07-10 09:00:00", "Zone": [{"name": "z"}], "zones": [{"name": "y"}]}', "cloud, 2 objects: 2 Zone"),
    "an empty cloud": ("{}", "cloud, 0 objects"),
}
REFUSED = {
    "broken JSON": ('[{"api": "CreateZone",]', "no JSON: Expecting property name enclosed in double quotes: line 1 column 23 (char 22)"),
    "an empty file": ("", "no JSON: Expecting value: line 1 column 1 (char 0)"),
    "no UTF-8": (b"\xff\xfe", "no JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "deep JSON": ("[" * 100_000, "no JSON: it is nested more than 200 levels deep"),
    "a number": ("5", "5 is neither a list of rules or steps, a cloud, nor the tables of a catalogue"),
    "a rule for no API": ('[{"api": "CreateZone"}, {"api": "CreateZon"}]', "rule 2 of 2: 'api' names no API: 'CreateZon', did you mean CreateZone?"),
    "a rule with a wrong key": ('[{"api": "*", "delai": 3}]', "rule 1 of 1: 'delai' is no key of a rule, did you mean delay?"),
    "rules of the same id": ('[{"api": "*", "id": "a"}, {"api": "*", "id": "a"}]', "rule 2 of 2: there is a rule 'a' already"),
    "a single rule": ('{"api": "CreateZone"}', "a rules file is a list of rules, and this is one rule; put it in [ ]"),
    "a scenario with an unknown incident": ('[{"at": 3, "incident": {"host-dwn": "host-1"}}]', "step 1 of 1: an incident is {NAME: ...}, with one of host-down"),
    "a scenario about a host that is not there": ('[{"at": 3, "incident": {"host-down": "hots-1"}}]', "step 1 of 1: no Host 'hots-1', did you mean host-1?"),
    "a scenario without a moment": ('[{"at": 3, "rule": {"api": "*", "delay": 1}}, {"rule": {"api": "*"}}]', "step 2 of 2: 'at' is a number from 0, not null"),
    "a rule with a moment outside of its then": ('[{"api": "*", "at": "job"}]', "'at' is no key of a rule; it stands inside 'then'"),
    "a cloud of a wrong collection": ('{"zonez": []}', "'zonez' is no collection, did you mean zones?"),
    "a cloud with a wrong field": ('{"zones": [{"nam": "z"}]}', "Zone has no field nam, did you mean name?"),
    "a cloud with a dangling reference": ('{"zones": [{"name": "z"}], "clusters": [{"name": "c", "zoneUuid": "@y"}]}', "zoneUuid"),
    "a cloud with a number for an object": ('{"hosts": [5]}', "5 in Host is no JSON object"),
    "a catalogue with a wrong row": ('{"apis": {"1": {"name": "X"}}}', "apis, X: call is missing"),
}  # fmt: skip


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@each("name", CHECKED)
def test_check_tells_the_kind_of_a_good_file_and_what_it_holds(zmock_cli, tmp_path, name):
    content, told = CHECKED[name]
    path = written(tmp_path / "file.json", content)
    assert zmock_cli("check", path) == (0, f"{path}: {told}\n", "")


@each("name", REFUSED)
def test_check_refuses_a_bad_file_in_a_line_with_the_place(zmock_cli, tmp_path, name):
    content, told = REFUSED[name]
    path = written(tmp_path / "file.json", content)
    code, out, err = zmock_cli("check", path)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith(f"zmock: {path}") and told in err


def test_check_goes_through_all_files_and_fails_if_one_does(zmock_cli, tmp_path):
    good, bad = written(tmp_path / "good.json", "[]"), written(tmp_path / "bad.json", "{")
    code, out, err = zmock_cli("check", bad, good, str(tmp_path), str(tmp_path / "nowhere.json"))
    assert (code, out) == (2, f"{good}: rules, 0 rules\n")
    assert [line.rpartition(": ")[2] for line in err.splitlines()[1:]] == ["Is a directory", "No such file or directory"]


GADGETS = {
    "inventories": [{"name": "Gadget", "path": "gadgets", "java": "org.acme.GadgetInventory", "fields": ["uuid", "name"]}],
    "apis": [{"name": "QueryGadget", "call": "GET /gadgets", "answers": "inventories:Gadget", "backing": "generic"}],
}


@each(("flags", "variables", "code"), ((["--catalogue", "rows.json"], {}, 0), ([], {"ZMOCK_CATALOGUE": "rows.json"}, 0), ([], {}, 2)))
def test_check_knows_the_catalogue_of_the_mock(zmock_cli, monkeypatch, tmp_path, flags, variables, code):
    monkeypatch.chdir(tmp_path)
    written(Path("rows.json"), json.dumps(GADGETS))
    written(Path("cloud.json"), '{"gadgets": [{"name": "g"}]}')
    written(Path("rules.json"), '[{"api": "QueryGadget"}]')
    told = zmock_cli("check", *flags, "cloud.json", "rules.json", **variables)
    assert told[0] == code
    if not code:
        assert told == (0, "cloud.json: cloud, 1 object: 1 Gadget\nrules.json: rules, 1 rule\n", "")


def test_check_plays_scenarios_in_the_cloud_that_a_flag_names(zmock_cli, tmp_path):
    cloud = written(tmp_path / "cloud.json", json.dumps({"zones": [{"name": "z"}], "clusters": [{"name": "c"}], "hosts": [{"name": "h"}]}))
    story = written(tmp_path / "story.json", '[{"at": 1, "incident": {"host-down": "h"}}]')
    assert zmock_cli("check", "--cloud", cloud, story) == (0, f"{story}: scenario, 1 step\n", "")
    assert zmock_cli("check", story)[0] == 2


def test_check_knows_the_files_of_the_project(zmock_cli):
    demo, rows = str(ROOT / "data" / "demo.json"), str(ROOT / "data" / "catalogue.json")
    code, out, err = zmock_cli("check", demo, rows)
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"{demo}: cloud, \d+ objects: .*4 Host.*12 VmInstance.*\n{rows}: catalogue, \d+ rows in apis, .*\n", out)


# completion


@pytest.fixture
def script(zmock_cli, tmp_path):
    code, out, err = zmock_cli("completion")
    assert (code, err) == (0, "")
    return written(tmp_path / "completion.sh", out)


def test_the_completion_script_knows_all_commands_and_flags(script):
    text = Path(script).read_text()
    for command in (SERVER, *COMMANDS.values()):
        assert command.name in text and " ".join(flags_of(command)) in text


@pytest.mark.skipif(not shutil.which("bash"), reason="completes in bash")
@each(
    ("line", "words"),
    (
        ("zmock e", "env"),
        ("zmock ch", "check"),
        ("zmock --cl", "--cloud --clock"),
        ("zmock --port 1 --cl", "--cloud --clock"),
        ("zmock --dialect ", "manual server"),
        ("zmock --cloud d", "demo"),
        ("zmock --rules ", ""),  # then bash completes files
        ("zmock --port ", ""),
        ("zmock env --p", "--port --password"),
        ("zmock calls --fo", "--follow"),
        ("zmock check --cloud d", "demo"),
        ("zmock wait --c", "--control-token"),
        ("zmock check ", ""),
        ("zmock check -", "--cloud --catalogue -h --help"),
        ("zmock openapi --dialect m", "manual"),
    ),
)
def test_bash_completes_commands_flags_and_values(script, line, words):
    typed = " ".join(f"'{word}'" for word in re.split(" ", line))
    commands = f'source {script}; COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _zmock; echo "${{COMPREPLY[*]}}"'
    completed = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, timeout=60)
    assert (completed.stdout, completed.stderr) == (f"{words}\n", "")
