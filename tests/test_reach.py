"""Reaching zmock: pages of any origin at the API, of allowed origins at /zmock, tokens, TLS, IPv6, proxies."""

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from asking import each, exchange, read_settings

from zmock import Mock, Settings, SettingsError, named, serve

pytestmark = pytest.mark.zmock(strict=False)  # also rules that must not fire

PAGE, OTHER = "http://localhost:5173", "http://evil.example"
VM = named("vm-web-1")
JSON = {"Content-Type": "application/json"}
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-zmock-fault"}
READABLE = {"access-control-allow-origin": PAGE, "access-control-allow-credentials": "true", "vary": "Origin"}


async def ask(mock, line, headers=None, body=None):
    """A request: status, headers, and the JSON of the body."""
    status, answered, content = await exchange(mock, line, body, {"Authorization": None} | (headers or {}))
    return status, answered, json.loads(content) if content[:1] in (b"{", b"[") else {}


# the API, from any page


@pytest.mark.usefixtures("unsimulated")
@each(("line", "headers", "status"), (
    ("GET /zstack/v1/zones", {}, 200),
    ("HEAD /zstack/v1/zones", {}, 200),
    ("GET /zstack/v1/zones?q=nam=x", {}, 400),
    ("GET /zstack/v1/zons", {}, 404),
    ("GET /nowhere", {}, 404),
    ("GET /zstack/v1/zones/100%", {}, 400),
    ("PATCH /zstack/v1/zones", {}, 405),
    ("GET /zstack/v1/hybrid/eip", {}, 501),
    ("GET /zstack/v1/hosts", {}, 418),
    ("GET /zstack/v1/clusters", {"Authorization": "OAuth x"}, 503),
    ("GET /zstack/v1/zones", {"Expect": "wonders"}, 417),
    ("GET /zmock/health", {}, 200),
    ("HEAD /zmock/health", {}, 200),
    ("GET /zmock/openapi.json", {"Host": "cloud.example"}, 200),
))  # fmt: skip
async def test_a_page_of_any_origin_reads_every_answer_of_the_api_with_credentials(zmock, line, headers, status):
    await zmock.login()
    zmock.rule(api="QueryHost", then={"status": 418, "body": "short and stout"})
    for _ in range(2):  # the second GET may be answered from the cache
        came, answered, _ = await exchange(zmock, line, None, {"Origin": PAGE} | headers)
        assert came == status
        assert {name: answered[name] for name in READABLE} == READABLE
        assert {"X-ZMock-Hint", "X-ZMock-Rule", "Allow", "Vary"} <= set(answered["access-control-expose-headers"].split(", "))


async def test_a_stub_in_the_place_of_the_page_is_open_to_pages_of_any_origin(zmock):
    zmock.rule(path="/", then={"status": 299, "body": "x"})
    status, headers, _ = await ask(zmock, "GET /", {"Origin": PAGE, "Host": "cloud.example"})
    assert status == 299 and READABLE.items() <= {name.lower(): value for name, value in headers.items()}.items()


async def test_a_cached_answer_names_the_origin_of_each_page(zmock):
    await zmock.login()
    for origin in (PAGE, OTHER, None, PAGE):
        async with aiohttp.ClientSession() as http:  # keeps its connection, as the cache needs
            for _ in range(3):
                headers = {"Authorization": f"OAuth {zmock.session}"} | ({"Origin": origin} if origin else {})
                async with http.get(f"{zmock.url}/zones", headers=headers) as answer:
                    assert (await answer.json())["inventories"]
                    assert answer.headers.getall("Vary") == ["Origin"]
                    assert answer.headers.get("Access-Control-Allow-Origin") == origin
                    assert ("Access-Control-Allow-Credentials" in answer.headers) == bool(origin)


@each(("path", "method"), (
    ("/zstack/v1/zones", "POST"),
    (f"/zstack/v1/vm-instances/{VM}/actions", "PUT"),
    ("/zstack/v1/zons", "GET"),
    ("/zstack/v1/zones/100%", "GET"),
    ("/nowhere", "DELETE"),
    ("/zstack/v1/zones", "PATCH"),
    ("/zmock/health", "GET"),
    ("/zmock/openapi.json", "GET"),
))  # fmt: skip
async def test_a_preflight_allows_whatever_the_page_will_send_so_that_it_reads_what_is_wrong(zmock, path, method):
    asks = ASKS | {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Private-Network": "true"}
    status, headers, _ = await ask(zmock, f"OPTIONS {path}", asks)
    assert (status, headers["access-control-allow-origin"], headers["access-control-allow-credentials"]) == (200, PAGE, "true")
    assert method in headers["access-control-allow-methods"].split(", ")
    assert headers["access-control-allow-headers"] == ASKS["Access-Control-Request-Headers"]
    assert headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-private-network" not in (await ask(zmock, f"OPTIONS {path}", ASKS | {"Origin": PAGE}))[1]


async def test_a_broken_answer_can_be_read_by_a_page_as_far_as_it_goes(zmock):
    await zmock.login()
    zmock.rule(api="QueryZone", then={"drop": "truncate"})
    status, headers, _ = await exchange(zmock, "GET /zstack/v1/zones", None, {"Origin": PAGE})
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)


# /zmock, from pages of allowed origins


FOREIGN = f"start with --allow-origin {OTHER}"
CALLS = (  # method and path, headers, then status, hint and whether the page may read the answer
    ("GET /zmock/clock", {}, 200, "", True),
    ("HEAD /zmock/clock", {}, 200, "", True),
    ("GET /zmock/clok", {}, 404, "", True),
    ("DELETE /zmock/clock", {}, 405, "", True),
    ("POST /zmock/reset", JSON, 200, "", True),
    ("POST /zmock/clock", {"Content-Type": "text/plain"}, 415, "send Content-Type: application/json", True),
    ("OPTIONS /zmock/clock", ASKS, 200, "", True),
    ("OPTIONS /zmock/clok", ASKS, 200, "", True),
    ("GET /zmock/clock", {"Host": "localhost:5173"}, 200, "", True),
    ("GET /zmock/clock", {"Host": "shop.example"}, 200, "", True),
    ("GET /zmock/clock", {"Host": "evil.example"}, 403, "use http://127.0.0.1:", True),
    ("GET /zmock/clock", {"Host": "evil.example:81", "Origin": None}, 403, "start with --allow-origin http://evil.example:81", False),
    ("GET /zmock/clock", {"Origin": OTHER}, 403, FOREIGN, False),
    ("GET /zmock/events", {"Origin": OTHER}, 403, FOREIGN, False),
    ("POST /zmock/reset", JSON | {"Origin": OTHER}, 403, FOREIGN, False),
    ("OPTIONS /zmock/clock", ASKS | {"Origin": OTHER}, 403, FOREIGN, False),
    ("GET /zmock/clock", {"Origin": "https://localhost:5173"}, 403, "start with --allow-origin https://localhost:5173", False),
    ("GET /zmock/clock", {"Origin": "http://localhost:51730"}, 403, "start with --allow-origin", False),
    ("GET /zmock/clock", {"Origin": "http://localhost"}, 403, "start with --allow-origin http://localhost", False),
    ("GET /zmock/clock", {"Origin": "null"}, 403, "serve the page over http", False),
    ("GET /zmock/clock", {"Origin": "null", "Host": ""}, 403, "serve the page over http", False),
)


@each(("line", "headers", "status", "hint", "readable"), CALLS)
async def test_a_page_of_an_allowed_origin_may_call_zmock_and_read_its_refusals(allowing, line, headers, status, hint, readable):
    body = b"{}" if line.startswith("POST") else None
    came, answered, content = await ask(allowing, line, {"Origin": PAGE} | headers, body)
    assert came == status
    assert hint in content.get("hint", "")
    assert ("hint" in content) == (status >= 400)
    assert answered.get("access-control-allow-origin") == (PAGE if readable else None)
    assert answered.get("access-control-allow-credentials") == ("true" if readable else None)


@pytest.fixture
async def allowing():
    async with serve(allow_origin=(PAGE, "https://shop.example")) as mock:
        yield mock


async def test_a_page_of_an_allowed_origin_reads_the_events(allowing):
    for origin, readable in ((PAGE, PAGE), (allowing.base, None)):
        async with aiohttp.ClientSession() as http, http.get(f"{allowing.base}/zmock/events", headers={"Origin": origin}) as stream:
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert stream.headers.get("Access-Control-Allow-Origin") == readable
            assert (stream.headers["X-Accel-Buffering"], stream.headers["Cache-Control"]) == ("no", "no-store, no-transform")
            assert await stream.content.readline()


@each(("headers", "status"), (
    ({"Host": "localhost:5173", "Origin": PAGE}, 200),  # Vite without changeOrigin
    ({"Host": "127.0.0.1:8080", "Origin": PAGE}, 403),  # with changeOrigin
    ({"Host": "127.0.0.1:8080", "Origin": PAGE, "X-Forwarded-Host": "localhost:5173"}, 200),  # and xfwd
    ({"Host": "127.0.0.1:8080", "Origin": PAGE, "X-Forwarded-Host": "localhost:5173, inner:80"}, 200),
    ({"Host": "127.0.0.1:8080", "Origin": OTHER, "X-Forwarded-Host": "localhost:5173"}, 403),
    ({"Host": "evil.example", "Origin": OTHER, "X-Forwarded-Host": "evil.example"}, 403),  # a name that leads here
    ({"Host": "evil.example", "Origin": OTHER}, 403),
    ({"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}, 200),
    ({"Host": "LOCALHOST:8080"}, 200),
))  # fmt: skip
async def test_a_page_behind_a_proxy_is_that_of_the_mock_if_the_proxy_names_its_host(zmock, headers, status):
    assert (await ask(zmock, "GET /zmock/clock", headers))[0] == status


# --allow-origin


@each(("text", "right"), (
    ("http://localhost:5173", ""),
    ("https://shop.example", ""),
    ("http://[::1]:5173", ""),
    ("tauri://localhost", ""),
    ("chrome-extension://abcdef", ""),
    ("http://localhost:5173/", "http://localhost:5173"),
    ("http://localhost:5173/a/b?c", "http://localhost:5173"),
    ("localhost:5173", "http://localhost:5173"),
    ("localhost", "http://localhost"),
    ("HTTPS://Shop.Example:443", "https://shop.example"),
    ("http://shop.example:80/", "http://shop.example"),
    ("http://shop.example:8080", ""),
    ("https://[::1]:443", "https://[::1]"),
    ("*", None), ("null", None), ("", None), ("http://", None), ("http://a b", None), ("http://a,http://b", None), ("http://*.example", None),
    ("http://u:p@shop.example", None), ("http://localhost:51x", None), ("http://a\n", None),
))  # fmt: skip
def test_an_origin_is_what_a_browser_sends_else_the_refusal_names_that(text, right):
    if right == "":
        assert Settings(allow_origin=(text,)).allow_origin == (text,)
        return
    with pytest.raises(SettingsError) as error:
        read_settings(["--allow-origin", text], {})
    better = f", did you mean {right}?" if right else ""
    assert str(error.value) == f"--allow-origin is an origin such as http://localhost:5173, not {text!r}{better}"


def test_origins_of_a_variable_have_commas_between_them():
    assert read_settings([], {"ZMOCK_ALLOW_ORIGIN": f"{PAGE},https://shop.example"}).allow_origin == (PAGE, "https://shop.example")
    assert read_settings(["--allow-origin", PAGE, "--allow-origin", OTHER], {}).allow_origin == (PAGE, OTHER)


# the token


async def cookie_of(mock, path="/?token=s3cret"):
    _, headers, _ = await ask(mock, f"GET {path}")
    return headers["set-cookie"]


@each("path", ("/", "/zmock", "/zmock/"))
async def test_a_browser_that_opens_the_page_with_the_token_gets_a_cookie_and_is_sent_to_the_page(path):
    async with serve(control_token="s3cret") as mock:
        status, headers, _ = await ask(mock, f"GET {path}?token=s3cret&x=1")
        assert (status, headers["location"]) == (303, path)
        cookie, *attributes = headers["set-cookie"].split("; ")
        assert {*attributes} == {"HttpOnly", "SameSite=Strict", "Path=/"} and "s3cret" not in cookie
        assert (await ask(mock, f"GET {path}", {"Cookie": cookie}))[0] == 200
        assert (await ask(mock, f"GET {path}?token=s3cret", {"X-Forwarded-Prefix": "/mock"}))[1]["location"] == f"/mock{path}"


COOKIE = "zmock-eb831c9a=eb831c9a7e641b59b0ebd08764898c9969dfb3d74c275598806d591927dada10"


@each(("line", "headers", "status"), (
    ("GET /zmock/clock", {}, 401),
    ("GET /", {"Accept": "text/html"}, 401),
    ("GET /zmock", {"Accept": "text/html"}, 401),
    ("GET /?token=wrong", {}, 401),
    ("GET /?token=", {}, 401),
    ("GET /?token=s3cret%FF", {}, 401),
    ("GET /zmock/clock?token=s3cret", {}, 401),
    ("GET /zmock/clock", {"Authorization": "Bearer wrong"}, 401),
    ("GET /zmock/clock", {"Authorization": "Bearer \xff"}, 401),
    ("GET /zmock/clock", {"Authorization": "Bearer s3cret"}, 200),
    ("GET /zmock/clock", {"Cookie": COOKIE}, 200),
    ("POST /zmock/reset", JSON | {"Cookie": COOKIE}, 200),
    ("GET /zmock/clock", {"Cookie": f"a=b; {COOKIE}; c=d"}, 200),
    ("GET /zmock/clock", {"Cookie": COOKIE[:-1]}, 401),
    ("GET /zmock/clock", {"Cookie": COOKIE.partition("=")[0] + "=s3cret"}, 401),
    ("GET /zmock/clock", {"Cookie": COOKIE, "Origin": OTHER}, 403),
    ("POST /zmock/reset", JSON | {"Cookie": COOKIE, "Origin": OTHER}, 403),
    ("GET /zmock/clock", {"Origin": PAGE}, 401),
    ("GET /zmock/clock", {"Origin": PAGE, "Authorization": "Bearer s3cret"}, 200),
    ("OPTIONS /zmock/clock", ASKS | {"Origin": PAGE}, 200),  # a preflight has no token
    ("OPTIONS /zmock/clock", ASKS | {"Origin": OTHER}, 403),
    ("GET /zmock/health", {}, 200),
))  # fmt: skip
async def test_the_token_opens_zmock_as_bearer_or_as_cookie_but_not_to_foreign_pages(guarded, line, headers, status):
    came, _, content = await ask(guarded, line, headers, b"{}" if line.startswith("POST") else None)
    assert came == status, content
    if status == 401:
        assert "/?token=TOKEN" in content["hint"] and "s3cret" not in str(content)


@pytest.fixture
async def guarded():
    async with serve(control_token="s3cret", allow_origin=(PAGE,)) as mock:
        yield mock


async def test_mocks_with_different_tokens_have_different_cookies_for_the_ports_of_a_host_share_them():
    async with serve(control_token="a") as one, serve(control_token="b") as other:
        first, second = await cookie_of(one, "/?token=a"), await cookie_of(other, "/?token=b")
    assert first.partition("=")[0] != second.partition("=")[0]


async def test_without_a_token_the_page_ignores_the_one_of_an_old_link(zmock):
    status, headers, _ = await ask(zmock, "GET /?token=old")
    assert (status, "set-cookie" in headers) == (200, False)


# TLS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of a certificate for this machine that signs itself, its key, both in one, the key with a password, another key, and none."""
    folder = tmp_path_factory.mktemp("tls")
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext".split()
    for cert, key in (("cert.pem", "key.pem"), ("other-cert.pem", "other.pem")):
        names = ["subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1", "-out", folder / cert, "-keyout", folder / key]
        subprocess.run([*new, *names], check=True, capture_output=True)
    lock = ["openssl", "ec", "-aes256", "-in", folder / "key.pem", "-out", folder / "locked.pem", "-passout", "pass:x"]
    subprocess.run(lock, check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    (folder / "junk.pem").write_text("no PEM")
    return folder


@each(("host", "base"), (("127.0.0.1", "https://127.0.0.1:"), ("::1", "https://[::1]:"), ("localhost", "https://localhost:")))
async def test_with_a_certificate_everything_speaks_https(files, host, base):
    settings = {"cert": str(files / "cert.pem"), "key": str(files / "key.pem"), "host": host, "delay": "0"}
    trust = ssl.create_default_context(cafile=files / "cert.pem")
    async with serve(**settings) as mock, aiohttp.ClientSession() as http:
        assert mock.base.startswith(base)
        assert (await mock.create("CreateZone", name="z"))["name"] == "z"
        _, answer = await mock.request("POST", "/zones", {"params": {"name": "y"}})
        assert answer["location"].startswith(mock.base)
        async with http.get(f"{mock.base}/zmock/calls", ssl=trust) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await http.get(mock.base.replace("https", "http") + "/zmock/health")
        mock.rule(api="QueryZone", then={"drop": "reset"})
        with pytest.raises(aiohttp.ClientOSError):
            await mock.request("GET", "/zones")
        mock.down()
        mock.up()
        assert (await mock.request("GET", "/hosts"))[0] == 200


@each(("cert", "key", "problem"), (
    ("", "key.pem", "--key goes with --cert"),
    ("absent.pem", "", "cannot use .*absent.pem: No such file"),
    ("cert.pem", "absent.pem", "cannot use .*absent.pem: No such file"),
    ("junk.pem", "key.pem", "cannot use .*junk.pem with the key of .*key.pem: .*PEM"),
    ("cert.pem", "", "cannot use .*cert.pem with the key of .*cert.pem: .*--key its key"),
    ("cert.pem", "other.pem", "key values mismatch"),
    ("cert.pem", "locked.pem", "without a password"),
    (".", "key.pem", "Is a directory"),
))  # fmt: skip
def test_files_that_are_no_certificate_are_refused_in_one_line_before_anything_is_kept(files, tmp_path, cert, key, problem):
    paths = {name: str(files / file) for name, file in (("cert", cert), ("key", key)) if file}
    with pytest.raises(SettingsError, match=problem) as error:
        Mock(Settings(data=str(tmp_path / "cloud"), port=0, **paths))
    assert "\n" not in str(error.value) and not (tmp_path / "cloud").exists()


def test_commands_find_a_mock_with_a_certificate_of_its_own(files):
    with serve(cert=str(files / "both.pem")) as mock:
        run = [sys.executable, "-m", "zmock"]
        for words in (["wait", "--timeout", "5", "--url", mock.base], ["env", "--url", mock.url], ["calls", "--url", mock.base]):
            done = subprocess.run([*run, *words], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        assert "LogInByAccount" in done.stdout


def test_the_health_check_of_the_container_speaks_https_too(files):
    check = [sys.executable, "-S", str(Path(__file__).parent.parent / "package" / "health.py")]
    with serve(cert=str(files / "both.pem")) as mock:
        port = {"ZMOCK_PORT": mock.base.rpartition(":")[2]}
        codes = [subprocess.run(check, env=port | cert, capture_output=True, timeout=30).returncode for cert in ({"ZMOCK_CERT": "c"}, {})]
    assert codes == [0, 1]


async def test_the_banner_says_how_a_browser_sends_the_token():
    command = [sys.executable, "-m", "zmock", "--memory", "--port", "0", "--control-token", "s3cret"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    await process.stdout.readline()
    process.terminate()
    told = (await process.communicate())[1].decode()
    assert "/?token=TOKEN\n" in told and "s3cret" not in told


async def test_the_first_line_of_the_output_has_the_https_address(files):
    command = [sys.executable, "-m", "zmock", "--memory", "--port", "0", "--host", "::1", "--cert", str(files / "both.pem")]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = (await process.stdout.readline()).decode()
    process.terminate()
    _, told = await process.communicate()
    base = first.removeprefix("export ZSTACK_URL=").removesuffix("/zstack/v1\n")
    assert base.startswith("https://[::1]:") and told.decode().count(base) == 2
    assert "http://" not in told.decode()
