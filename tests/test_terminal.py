"""The terminal: the banner, a line for each call, what went wrong below it, and the summary."""

import io
import json
import os
import pty
import re
import select
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from asking import IMPORTABLE, PROGRAM, ask_control, each, forked

from zmock import (
    RED,
    SHA512_OF_PASSWORD,
    PatientStream,
    age,
    duration,
    end_of_cloud,
    named,
    origin_of,
    paint_for,
    printable,
    serve,
    unusual_state,
)

LOGIN = {"logInByAccount": {"accountName": "admin", "password": SHA512_OF_PASSWORD}}
WEB_1, CI_1 = named("vm-web-1"), named("vm-ci-1")
JOB = "3f2b0c9d8e7a4b6c9d0e1f2a3b4c5d6e"
LONG = {"api": "QueryZone", "then": {"error": "SYS.1000", "details": "\u4e91" * 600}}  # 1.6 KB below a call: less than a batch of calls fills a pipe


class Shown:
    """A zmock in a process of its own, and what it shows on stderr. `hurry` and variables are those of `forked`."""

    def __init__(self, folder, *flags, stderr=None, hurry=(), **variables):
        self.file = folder / "stderr"
        with self.file.open("wb") as file:
            self.process, self.stdout = forked(folder, *flags, stderr=file.fileno() if stderr is None else stderr, hurry=hurry, **variables)
        self.url = self.stdout.readline().strip().partition("=")[2]
        self.port = int(self.url.rpartition(":")[2].partition("/")[0])
        self.control = self.url.removesuffix("/zstack/v1") + "/zmock"
        self.session = ""

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.kill()
        self.process.join()
        self.stdout.close()

    def ask(self, method, path, body=None, headers=None, timeout=10):
        """Send a request; return its status and its body."""
        url = path if path.startswith("http") else self.url + path
        sent = {"Authorization": f"OAuth {self.session}", "Content-Type": "application/json"} | (headers or {})
        sent = {name: value for name, value in sent.items() if value is not None}
        octets = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, octets, sent, method=method), timeout=timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def log_in(self):
        self.session = json.loads(self.ask("PUT", "/accounts/login", LOGIN)[1])["inventory"]["uuid"]

    def finish(self, method, path, body=None, headers=None):
        """Make a call and poll its job to the end; return the last status."""
        status, answer = self.ask(method, path, body, headers)
        while status == 202:
            location = json.loads(answer)["location"]
            time.sleep(0.02)
            status, answer = self.ask("GET", location)
            answer = answer if status != 202 else json.dumps({"location": location}).encode()
        return status

    def text(self):
        return self.file.read_text(encoding="utf-8")

    def wait_for(self, pattern, start=0):
        """Return what it shows from `start` on, once that matches a pattern."""
        until = time.monotonic() + 10
        while not re.search(pattern, self.text()[start:], re.S | re.M):
            assert time.monotonic() < until, f"{pattern!r} is not in\n{self.text()[start:]}"
            time.sleep(0.02)
        return self.text()[start:]

    def end(self):
        """Stop it; return all it has shown."""
        self.process.terminate()
        self.process.join(10)
        assert self.process.exitcode == 0
        return self.text() if self.file.exists() else ""


@pytest.fixture
def shown(tmp_path):
    (tmp_path / "unsimulated.json").write_text(json.dumps({"apis": [{"name": "QueryHybridEipFromLocal", "call": "GET /hybrid/eip", "answers": "inventories:HybridEipAddress"}]}))
    with Shown(tmp_path, "--memory", "--delay", "0.05", "--catalogue", "unsimulated.json", hurry=["UNPOLLED", "BATCH_INTERVAL"]) as shown:
        shown.log_in()
        yield shown


def speak_tls(shown):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", shown.port)) as connection:
        context.wrap_socket(connection)


def hang_up(shown):
    shown.ask("POST", shown.control + "/rules", {"api": "QueryHost", "delay": 0.5, "times": 1})
    with pytest.raises(TimeoutError):
        shown.ask("GET", "/hosts", timeout=0.2)


def wrong_password(shown):
    shown.ask("PUT", "/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "password"}})


def used_job(shown):
    for _ in range(2):
        shown.finish("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": JOB})


def start_running(shown):
    shown.finish("PUT", f"/vm-instances/{WEB_1}/actions", {"startVmInstance": {}})


def nobody_polls(shown):
    shown.ask("PUT", f"/vm-instances/{WEB_1}/actions", {"startVmInstance": {}})


MISTAKES = {  # what a client does, and what the terminal says of it
    "no Authorization": (("GET", "/zones", None, {"Authorization": None}), "  400  GET /zstack/v1/zones .*missing header 'Authorization'.*OAuth UUID"),
    "no OAuth": (("GET", "/zones", None, {"Authorization": "abc"}), "Authorization type must be 'OAuth'"),
    "an unknown session": (("GET", "/zones", None, {"Authorization": "OAuth abc"}), "  503  GET /zstack/v1/zones  QueryZone  ID.1001"),
    "a wrong password": (wrong_password, "LogInByAccount  ID.1000"),
    "a path of no API": (("GET", "/zone"), "404  GET /zstack/v1/zone .*did you mean zones"),
    "a verb that the path has not": (("DELETE", "/zones"), "  405  DELETE /zstack/v1/zones"),
    "an unknown field": (("GET", "/vm-instances?q=stat=Running"), "q=stat=Running  QueryVmInstance  SYS.1007.*did you mean state"),
    "an operator of another language": (("GET", "/vm-instances?q=state==Running"), "QueryVmInstance .*=="),
    "missing parameters": (("POST", "/vm-instances", {"params": {"name": "v"}}), "  400  POST /zstack/v1/vm-instances  CreateVmInstance  SYS.1007"),
    "a uuid of no object": (("DELETE", "/zones/61dde510a7b051488ac26c8cb459cd20"), None),
    "a body that is no JSON": (("POST", "/zones", b'{"params": '), "400  POST /zstack/v1/zones"),
    "an unknown action": (("PUT", f"/vm-instances/{WEB_1}/actions", {"startVm": {}}), "startVm is no action here, did you mean startVmInstance"),
    "parameters at the top of the body": (("POST", "/zones", {"name": "z"}), 'parameters go inside "params"'),
    "an API that is not simulated": (("GET", "/hybrid/eip"), "  501  .*is not simulated"),
    "a state that forbids the call": (start_running, r"  503  GET /zstack/v1/api-jobs/\w{32}  StartVmInstance  VM.1001 .*current vm instance state\[Running\]"),
    "a job that fails and is not polled": (nobody_polls, r"StartVmInstance failed, job \w{32}: current vm instance state\[Running\]"),
    "an unknown job": (("GET", f"/api-jobs/{JOB[::-1]}"), "404  GET /zstack/v1/api-jobs/.*there is no such api-job"),
    "a job uuid used twice": (used_job, "400  POST /zstack/v1/zones .*this X-Job-UUID was used before"),
    "a header that is near one": (("POST", "/zones", {"params": {"name": "z"}}, {"X-Webhook": "http://127.0.0.1:9/"}), "no api reads the header X-Webhook, did you mean X-Web-Hook"),
    "a web-hook of another protocol": (("POST", "/zones", {"params": {"name": "z"}}, {"X-Web-Hook": "ftp://a/"}), "a web-hook goes to http or https, not to ftp://a/"),
    "a web-hook without an address": (("POST", "/zones", {"params": {"name": "z"}}, {"X-Web-Hook": "http:///a"}), "a web-hook goes to http or https, not to http:///a"),
    "a web-hook that nobody takes": (("POST", "/zones", {"params": {"name": "z"}}, {"X-Web-Hook": "http://127.0.0.1:9/"}), "web-hook http://127.0.0.1:9/: "),
    "a text for a number": (("POST", "/instance-offerings", {"params": {"name": "o", "cpuNum": "many", "memorySize": 1}}), "CreateInstanceOffering .*many"),
    "a rule with an unknown key": (("POST", "/zmock/rules", {"api": "CreateZone", "tims": 1}), "  400  POST /zmock/rules.*did you mean times"),
    "a rule for no API": (("POST", "/zmock/rules", {"api": "CreateZon"}), "did you mean CreateZone"),
    "a control call that is none": (("GET", "/zmock/rule"), "  404  GET /zmock/rule$.*did you mean rules"),
    "a control call without JSON": (("POST", "/zmock/reset", b"x", {"Content-Type": "text/plain"}), "  415  POST /zmock/reset.*Content-Type: application/json"),
    "a page of another origin": (("GET", "/zmock/jobs", None, {"Origin": "http://elsewhere.example"}), "  403  GET /zmock/jobs.*does not answer pages of http://elsewhere.example.*start with --allow-origin http://elsewhere.example"),
    "a page that asks before it calls": (("OPTIONS", "/zmock/jobs", None, {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}), "  403  OPTIONS /zmock/jobs.*start with --allow-origin http://elsewhere.example"),
    "a name that leads to this machine": (("GET", "/zmock/jobs", None, {"Host": "elsewhere.example"}), "  403  GET /zmock/jobs.*does not answer for the host elsewhere.example.*use http://127.0.0.1:.*, or start with --allow-origin http://elsewhere.example"),
    "TLS": (speak_tls, "a client speaks TLS to this port: use http, not https"),
    "a client that hangs up": (hang_up, r"GET /zstack/v1/hosts  QueryHost  rule-\d.*the client hung up before the answer"),
}  # fmt: skip


def test_of_each_mistake_of_a_session_the_terminal_alone_tells_what_was_wrong(shown):
    shown.finish("DELETE", "/zones/" + named("zone-1"))
    shown.ask("POST", shown.control + "/reset")
    shown.log_in()
    wrong = []
    for mistake, (deed, pattern) in MISTAKES.items():
        start = len(shown.text())
        if callable(deed):
            deed(shown)
        else:
            method, path, *rest = deed
            path = shown.url.removesuffix("/zstack/v1") + path if path.startswith("/zmock") else path
            shown.ask(method, path, *rest)
        try:
            shown.wait_for(pattern or r"^\d\d:\d\d:\d\d  \d+  ", start)
        except AssertionError as error:
            wrong.append(f"{mistake}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert "Traceback" not in shown.text()


def test_a_call_is_a_line_and_the_polls_of_its_job_are_folded_into_the_last(shown):
    assert shown.finish("POST", "/zones", {"params": {"name": "east"}}, {"X-Job-UUID": JOB}) == 200
    shown.ask("GET", "/zones?q=name=east")
    shown.wait_for("q=name=east")
    lines = shown.end().splitlines()[5:]
    expected = [
        "TIME  200  PUT /zstack/v1/accounts/login  LogInByAccount  N ms",
        "TIME  202  POST /zstack/v1/zones  CreateZone  N ms",
        f"TIME  200  GET /zstack/v1/api-jobs/{JOB}  CreateZone  N ms, N polls",
        "TIME  200  GET /zstack/v1/zones?q=name=east  QueryZone  N ms",
    ]
    told = [re.sub(r"^\d\d:\d\d:\d\d", "TIME", re.sub(r"\d+ (ms|polls)\b", r"N \1", line)) for line in lines]
    assert told[:4] == [line.replace("N polls", "N polls") for line in expected]
    calls, polls = re.match(r"(\d+) calls, 0 failed; cloud not kept \(--memory\)", lines[4]), re.search(r"(\d+) polls", lines[2])
    assert int(calls[1]) == 3 + int(polls[1])


def test_what_rules_do_stands_below_the_call_and_in_the_summary(shown):
    for then in ({"error": "HOST.1010", "details": "the host is busy"}, {"status": 502}, {"drop": "empty"}):
        shown.ask("POST", shown.control + "/rules", {"api": "StartVmInstance", "times": 1, "then": then})
        deed = ("PUT", f"/vm-instances/{CI_1}/actions", {"startVmInstance": {}})
        try:
            shown.finish(*deed)
        except OSError:
            assert then == {"drop": "empty"}
    text = shown.end()
    for pattern in (
        r'rule-1 is in force: \{"api": "StartVmInstance"',
        r"  202  PUT /zstack/v1/vm-instances/\w+/actions  StartVmInstance  rule-1  \d+ ms\n +rule-1 fired, hit 1: error HOST.1010\n",
        r"  503  GET /zstack/v1/api-jobs/\w+  StartVmInstance  HOST.1010  rule-1  \d+ ms, \d+ polls?\n +the host is busy\n",
        r"  502  PUT .*StartVmInstance  rule-2  .*\n +rule-2 fired, hit 1: answer 502\n",
        r"  empty  PUT .*StartVmInstance  rule-3  .*\n +rule-3 fired, hit 1: connection broken \(empty\)\n",
        r"\d+ calls, 3 failed \(3 by rules\); cloud not kept",
    ):
        assert re.search(pattern, text), f"{pattern}\n{text}"


def test_what_happens_beside_the_calls_is_told_too(shown, tmp_path):
    shown.ask("POST", shown.control + "/incidents", {"host-down": "host-1"})
    shown.ask("DELETE", shown.control + "/incidents/incident-1")
    shown.ask("POST", shown.control + "/reset", {"cloud": "empty"})
    shown.ask("GET", shown.control + "/health")
    shown.ask("OPTIONS", "/zones")
    text = shown.end()
    assert re.search("incident-1 began: host-down host-1\n.*incident-1 ended\n.*reset to the cloud empty\n", text)
    assert "OPTIONS" not in text and "in a browser: http://" in text and "GET /zmock/health" not in text


def test_files_of_rules_are_told_of_when_they_are_read_and_when_they_cannot_be(tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text('[{"api": "CreateZone", "delay": 1}]')
    with Shown(tmp_path, "--memory", "--rules", "rules.json") as shown:
        shown.log_in()
        shown.wait_for("1 rule in force from rules.json")
        rules.write_text('[{"api": "CreateZon"}]')
        shown.ask("GET", "/zones")
        shown.wait_for("warning: cannot use the rules in rules.json: rule 1 of 1: 'api' names no API: 'CreateZon', did you mean CreateZone")
        rules.write_text("[]")
        shown.ask("GET", "/zones")
        shown.wait_for("0 rules in force from rules.json")


def test_quiet_leaves_the_banner_and_errors(tmp_path):
    with Shown(tmp_path, "--memory", "--quiet") as shown:
        shown.ask("GET", "/zone")
        shown.ask("GET", shown.control + "/rule")
        lines = shown.end().splitlines()
    assert len(lines) == 5 and lines[0].startswith("zmock ")
    assert lines[1].startswith("cloud demo, made now, in memory: 1 Zone, 4 Host, 12 VmInstance")


@each("since, shown_age", [(3 * 86400, "3 days old, "), (None, "")])
async def test_the_banner_says_where_the_cloud_is_from_and_how_old_it_is(tmp_path, since, shown_age):
    async with serve(data=str(tmp_path), clock="real") as mock:
        assert (origin_of(mock), end_of_cloud(mock)) == (f"made now, kept in {tmp_path}", f"cloud kept in {tmp_path}")
    file = tmp_path / "Mock.json"
    mock = json.loads(file.read_text())
    for record in mock["_default"].values():
        record["since"] -= since or 0
        if since is None:
            del record["since"]
    file.write_text(json.dumps(mock))
    async with serve(data=str(tmp_path), clock="real") as mock:
        assert origin_of(mock) == f"{shown_age}resumed from {tmp_path}"


async def test_the_banner_tells_of_rules_and_of_a_clock_that_were_kept(tmp_path):
    async with serve(data=str(tmp_path), clock="real") as mock:
        assert [*unusual_state(mock)] == []
        await ask_control(mock, "POST", "rules", {"id": "slow", "api": "CreateZone", "delay": 1})
        await ask_control(mock, "POST", "clock", {"advance": 3600})
    for clock in ("the clock was set: it is 20", "the clock is frozen at 20"):
        async with serve(data=str(tmp_path), clock="real") as mock:
            rules, shown_clock = unusual_state(mock)
            assert rules == "1 rule in force: slow" and shown_clock.startswith(clock)
            await ask_control(mock, "POST", "clock", {"freeze": True})


def test_a_pipe_that_nobody_reads_stops_nothing(tmp_path):
    reading, writing = os.pipe()
    with Shown(tmp_path, "--memory", stderr=writing) as shown:
        os.close(writing)
        shown.ask("POST", shown.control + "/rules", LONG)
        for _ in range(200):
            assert shown.ask("GET", "/zones")[0] == 503
        read = b""
        until = time.monotonic() + 10
        while b"dropped: stderr was not read in time" not in read:
            assert time.monotonic() < until
            if select.select([reading], [], [], 0.1)[0]:
                read += os.read(reading, 1 << 16)
            shown.ask("GET", "/api-jobs/1")
        shown.end()
    os.close(reading)


def test_a_reader_that_pauses_gets_all_lines_and_the_summary(tmp_path):
    reading, writing = os.pipe()
    with Shown(tmp_path, "--memory", stderr=writing) as shown:
        os.close(writing)
        shown.ask("POST", shown.control + "/rules", LONG)
        for _ in range(60):
            shown.ask("GET", "/zones")
        read = b""
        while read.count(b"  503  ") < 60:  # no call comes any more
            assert select.select([reading], [], [], 10)[0], read[-200:]
            read += os.read(reading, 1 << 16)
        for _ in range(60):
            shown.ask("GET", "/zones")
        shown.process.terminate()
        while octets := os.read(reading, 1 << 12):
            read += octets
        shown.process.join(10)
        assert shown.process.exitcode == 0
    os.close(reading)
    assert len(read) > 3 << 16 >> 1 and read.count(b"  503  ") == 120 and b"dropped" not in read
    assert read.endswith(b"120 calls, 120 failed (120 by rules); cloud not kept (--memory)\n")


def test_long_lines_to_a_file_are_all_written(shown):
    shown.ask("POST", shown.control + "/rules", LONG)
    request = f"GET /zstack/v1/zones?q=name={200 * 'a'} HTTP/1.1\r\nHost: a\r\nAuthorization: OAuth {shown.session}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shown.port)) as connection:
        connection.sendall(request.encode() * 90)
        received = 0
        while received < 90:
            received += connection.recv(1 << 16).count(b"HTTP/1.1 503")
    text = shown.end()
    assert text.count("  503  GET /zstack/v1/zones") == 90 and "dropped" not in text


def test_only_failures_that_rules_make_count_as_theirs(shown):
    for api in ("Query*", "StartVmInstance"):
        shown.ask("POST", shown.control + "/rules", {"api": api, "delay": 0.01})
    shown.ask("GET", "/zones?q=nam=a")
    start_running(shown)
    shown.finish("POST", "/zones", {"params": {"name": "#zmock fail"}})
    assert re.search(r"\d+ calls, 3 failed \(1 by rules\); ", shown.end())


def test_polls_are_counted_though_rules_meet_them_and_lost_jobs_are_folded(shown):
    shown.ask("POST", shown.control + "/rules", {"api": "PollJob", "delay": 0.001, "times": 2})
    shown.finish("POST", "/zones", {"params": {"name": "a"}})
    polls = len(json.loads(shown.ask("GET", shown.control + "/calls?api=PollJob")[1])["calls"])
    shown.ask("DELETE", shown.control + "/rules")
    shown.ask("POST", shown.control + "/rules", {"api": "CreateZone", "then": {"job": "lose"}})
    location = json.loads(shown.ask("POST", "/zones", {"params": {"name": "b"}})[1])["location"]
    for _ in range(20):
        assert shown.ask("GET", location)[0] == 202
    text = shown.end()
    assert re.search(rf"200  GET /zstack/v1/api-jobs/\w+  CreateZone  .*, {polls} polls?\n", text)
    assert len(re.findall("202  GET /zstack/v1/api-jobs/", text)) <= 2
    assert re.search(rf"CreateZone goes on after 20 polls, job {location[-32:]}\n", text)


def test_a_failure_that_no_poll_has_shown_is_told_at_the_end(shown):
    nobody_polls(shown)
    while b'"state": "failed"' not in shown.ask("GET", shown.control + "/jobs")[1]:
        time.sleep(0.02)
    assert re.search(r"StartVmInstance failed, job \w{32}: .*\n.* 1 failed; ", shown.end())


def test_a_failure_before_a_reset_is_not_that_of_a_later_job_with_the_same_uuid(tmp_path):
    headers = {"X-Job-UUID": JOB}
    with Shown(tmp_path, "--memory", "--delay", "0.01", hurry=["UNPOLLED"]) as shown:
        shown.log_in()
        shown.ask("POST", "/zones", {"params": {"name": "#zmock fail"}}, headers)
        shown.ask("GET", shown.control + "/wait?path=/zones&timeout=0.1&q=name=none")
        shown.ask("POST", shown.control + "/reset")
        shown.log_in()
        shown.ask("POST", "/zones", {"params": {"name": "#zmock hold"}}, headers)
        shown.ask("GET", shown.control + "/wait?path=/zones&timeout=0.5&q=name=none")
        assert "CreateZone failed" not in shown.end()


def test_failures_of_an_earlier_run_are_counted_when_they_are_polled(tmp_path):
    with Shown(tmp_path, "--data", "state", "--delay", "0.05") as shown:
        shown.log_in()
        shown.finish("POST", "/zones", {"params": {"name": "#zmock fail"}}, {"X-Job-UUID": JOB})
        shown.end()
    with Shown(tmp_path, "--data", "state") as shown:
        assert shown.ask("GET", f"/api-jobs/{JOB}")[0] == 503
        assert "1 call, 1 failed" in shown.end()


@each("stderr", ["closed", "/dev/full"])
def test_a_stderr_that_cannot_be_written_stops_nothing(tmp_path, stderr):
    redirection = "2>&-" if stderr == "closed" else f"2>{stderr}"
    command = f"exec {' '.join(PROGRAM)} --port 0 --memory {redirection}"
    process = subprocess.Popen(["bash", "-c", command], env=os.environ | IMPORTABLE, stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().strip().partition("=")[2]
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + "/nowhere", timeout=10)
    process.terminate()
    assert process.wait(10) == 0


QUICK = ("FIRST_PROGRESS", "PROGRESS_STEP")  # a tenth of the machines takes as long


def test_a_screen_has_colours_and_one_line_of_progress(tmp_path):
    master, slave = pty.openpty()
    with Shown(tmp_path, "--memory", "--cloud", "large:1000", stderr=slave, hurry=QUICK, TERM="xterm", NO_COLOR="") as shown:
        os.close(slave)
        shown.ask("GET", "/zone")
        text = b""
        while b"did you mean" not in text:
            assert select.select([master], [], [], 10)[0]
            text += os.read(master, 1 << 16)
        shown.end()
    os.close(master)
    text = text.decode()
    assert "\x1b[31m404\x1b[0m" in text and "\r\x1b[Kmaking the cloud: " in text
    assert re.search(r"virtual machines\r\x1b\[Kzmock ", text)


@each("variables", [{"NO_COLOR": "1", "TERM": "xterm"}, {"NO_COLOR": "", "TERM": "dumb"}])
def test_without_colours_on_request_and_on_a_dumb_screen(monkeypatch, variables):
    screen = io.StringIO()
    screen.isatty = lambda: True
    for name, value in ({"NO_COLOR": "", "TERM": "xterm"} | variables).items():
        monkeypatch.setenv(name, value)
    assert paint_for(screen)("404", RED) == "404"
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "xterm")
    assert paint_for(screen)("404", RED) == "\x1b[31m404\x1b[0m"


def test_off_a_screen_progress_is_a_line(tmp_path):
    with Shown(tmp_path, "--memory", "--cloud", "large:1000", hurry=QUICK) as shown:
        text = shown.end()
    assert re.search(r"^making the cloud: \d+ of \d+ (hosts|virtual machines)$", text, re.M) and "\x1b" not in text


def test_a_burst_is_cut_and_counted(tmp_path):
    with Shown(tmp_path, "--memory") as shown:
        with socket.create_connection(("127.0.0.1", shown.port)) as connection:
            request = b"GET /zstack/v1/api-jobs/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            begin = time.monotonic()
            connection.sendall(request * 2000)
            received = 0
            while received < 2000:
                received += connection.recv(1 << 16).count(b"HTTP/1.1 404")
            is_burst = time.monotonic() - begin < 1.5  # a busy machine may be slower than the terminal
        text = shown.end()
    left_out = sum(int(number) for number in re.findall(r"… and (\d+) more calls?", text))
    lines = len(re.findall("  404  GET", text))
    assert (left_out > 0 or not is_burst) and lines + left_out == 2000 and "2000 calls, 2000 failed" in text


@each("text, shown_text", [("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\nb\r", r"a\nb\r"), ("\u202e", r"\u202e"), ("云主机", "云主机"), ("x" * 20, "xxxxxxxxx…")])
def test_what_comes_from_outside_does_not_steer_the_terminal(text, shown_text):
    assert printable(text, 10) == shown_text


@each("ms, text", [(0.4, "0 ms"), (999, "999 ms"), (1500, "1.5 s")])
def test_durations_are_for_people(ms, text):
    assert duration(ms) == text


@each("seconds, text", [(0, "less than a minute old"), (-5, "less than a minute old"), (60, "1 minute old"), (7300, "2 hours old")])
def test_ages_are_for_people(seconds, text):
    assert age(seconds) == text


def test_a_stream_without_a_file_is_written_to_as_it_is(capsys):
    PatientStream(sys.stderr).write("a line\n")
    PatientStream(None).write("nothing\n")
    assert capsys.readouterr().err == "a line\n"
