"""Messages for people, whatever they are about: the nearest right word, articles, numbers, characters, and nothing left unfilled."""

import ast
import re
from pathlib import Path

import aiohttp
import pytest

import zmock
from zmock import (
    CATALOGUE_FILE,
    Catalogue,
    a_noun,
    counted,
    did_you_mean,
    header_safe,
    nearest,
    serve,
)

SOURCE = Path(zmock.__file__).read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)
APIS = zmock.catalogue().apis
RESOURCES = zmock.catalogue().resources


# the nearest right word


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    (
        ("CreateVm", APIS, "CreateVmInstance"),
        ("StartVm", APIS, "StartVmInstance"),
        ("AddKvm", APIS, "AddKVMHost"),
        ("CreateVmInstanc", APIS, "CreateVmInstance"),
        ("CreatVmInstance", APIS, "CreateVmInstance"),
        ("zonez", ["vms", "zones"], "zones"),
        ("stat", ["status", "state"], "state"),
        ("ENABLED", ["Disabled", "Enabled"], "Enabled"),
        ("na", ["names", "namespace"], None),
        ("banana", ["zones"], None),
    ),
)
def test_a_word_that_begins_like_the_wrong_one_is_nearer_than_one_that_looks_like_it(wrong, words, right):
    assert nearest(wrong, words) == ([right] if right else [])
    assert did_you_mean(wrong, words) == (f", did you mean {right}?" if right else "")


def test_the_name_of_an_api_without_its_end_or_with_a_slip_leads_to_it_or_to_one_that_begins_so():
    for name in [name for name in APIS if len(name) > 12][::40]:
        assert nearest(name[:-4], APIS)[0].startswith(name[:-4])
        assert name in nearest(name[:5] + name[6:], APIS, 3)


# articles and numbers


@pytest.mark.parametrize(
    ("noun", "told"),
    (("int", "an int"), ("str", "a str"), ("uuid", "a uuid"), ("error", "an error"), ("L2Network", "an L2Network"), ("l3NetworkUuid", "an l3NetworkUuid"), ("Image", "an Image"),
     ("User", "a User"), ("LongJob", "a LongJob"), ("SNSTopic", "an SNSTopic"), ("SystemTag", "a SystemTag"), ("GET", "a GET")),
)  # fmt: skip
def test_a_noun_has_its_article(noun, told):
    assert a_noun(noun) == told


@pytest.mark.parametrize(("number", "told"), ((1, "1 second"), (1.0, "1 second"), (0, "0 seconds"), (2, "2 seconds"), (1.5, "1.5 seconds"), (0.5, "0.5 seconds")))
def test_a_number_agrees_with_its_noun(number, told):
    assert counted(number, "second") == told


def parts_of_messages():
    """For each text with values in it: the text before a value, the code of the value, the text after it, and the line."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.JoinedStr):
            parts = ["", *node.values, ""]
            for before, value, after in zip(parts, parts[1:], parts[2:]):
                if isinstance(value, ast.FormattedValue):
                    texts = [part.value if isinstance(part, ast.Constant) else "" for part in (before, after)]
                    yield texts[0], ast.unparse(value.value), texts[1], node.lineno


def test_no_message_puts_an_article_before_a_word_that_it_does_not_know():
    """Where a value stands behind an article, all that it can be begin alike, or a_noun() gives the article."""
    known = ("'whole ' * (kind is int)", "noun")
    assert [(line, value) for before, value, _, line in parts_of_messages() if re.search(r"\b[Aa]n? $", before) and value not in known] == []


def test_no_message_puts_a_plural_behind_a_number_that_may_be_1():
    """Constants, and sentences of the server, are known; for others counted() agrees."""
    plural = r" (seconds|minutes|hours|bytes|objects|times|calls|items|hosts|relations|characters|rules|jobs|types|lines|files|days)\b"
    found = [(line, value) for before, value, after, line in parts_of_messages() if re.match(plural, after)]
    said_by_the_server = {"vm['memorySize']", "memory", "size", "volume['size']", "current", "limit", "param.high"}
    said_by_the_server |= {"rule.matches", "len(calls) - MOST_REPORTED"}  # "1 of 1 times"; only of many calls
    assert [(line, value) for line, value in found if value not in said_by_the_server and not value.isupper()] == []


# nothing unfilled


def is_message(node):
    names = {"ApiError", "BadParameter", "FrontError", "ControlError", "SettingsError", "ValueError", "Unknown", "TooFar", "refused", "refuse", "missing",
             "bad_query", "did_you_mean", "malformed"}  # fmt: skip
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names


def constants_of_messages():
    for call in filter(is_message, ast.walk(TREE)):
        filled = {id(inner) for node in ast.walk(call) for inner in ast.walk(node)
                  if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)) or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("format"))}  # fmt: skip
        plain = {id(part) for node in ast.walk(call) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in filled:
                yield node.lineno, node.value, id(node) in plain


def test_no_message_has_a_placeholder_that_nothing_fills():
    unfilled = [(line, text) for line, text, in_f_string in constants_of_messages()
                if re.search(r"%[sdr]\b" if in_f_string else r"%[sdr]\b|\{\w+\}", text)]  # fmt: skip
    assert unfilled == []


def test_each_name_in_a_sentence_of_a_row_is_one_that_it_can_fill():
    """{name} is a parameter of the API, a field of what it is about, or begins with a word of the vocabulary."""
    unknown = []
    for api in APIS.values():
        types = {api.type, *(param.refers for param in api.params.values())} & RESOURCES.keys()
        fields = {name for type in types for name in (*RESOURCES[type].all_fields, *RESOURCES[type].hidden)}
        names = {"its", "caller", "login", "configured", "now", "other", *api.params, *fields}
        sentences = [sentence for _, _, sentence, *_ in api.refuses]
        unknown += [(api.name, name) for text in sentences for name in re.findall(r"\{([\w.]+)\}", text) if name.split(".")[0] not in names]
    assert unknown == []


SENT = (  # a wrong call of each kind, whose answers are read as a whole
    ("GET", "/zstack/v1/zones?q=name=it's"), ("GET", "/zstack/v1/zones?q=__userTag__='x'"), ("GET", "/zstack/v1/zones?q=foo=1"),
    ("GET", "/zstack/v1/zones?q=foo.bar=1"), ("GET", "/zstack/v1/zones?q=x"), ("GET", "/zstack/v1/zones?q=createDate>x"),
    ("GET", "/zstack/v1/zones?sort=x"), ("GET", "/zstack/v1/zones?limit=x"), ("GET", "/zstack/v1/zons"), ("PATCH", "/zstack/v1/zones"),
    ("GET", "/zmock/nothing"), ("GET", "/zmock/queryable/zonez"), ("GET", "/zmock/explain?path=/zones&q=foo=1"), ("GET", "/zmock/calls?apis=x"),
    ("GET", "/zmock/wait?api=CreateVm"), ("GET", "/zmock/wait?path=/zones&q=name=x&timeout=1e-3"), ("GET", "/zmock/wait?path=/zones&q=name=x&timeout=0.001"),
    ("GET", "/zmock/snapshots/none"), ("DELETE", "/zmock/rules/none"),
)  # fmt: skip


async def test_no_answer_to_a_mistake_shows_a_placeholder():
    async with serve() as mock, aiohttp.ClientSession() as http:
        await mock.login()
        for method, path in SENT:
            async with http.request(method, mock.base + path, headers={"Authorization": f"OAuth {mock.session}"}) as answer:
                told = await answer.text() + answer.headers.get("X-ZMock-Hint", "")
                assert answer.status >= 400
                assert not re.search(r"%[sdr]\b|(?<!\$)\{\w+\}|\bNone\b", told.replace("{uuid}", "")), (path, told)


# characters


async def test_names_of_any_script_are_readable_in_hints_and_errors():
    async with serve() as mock, aiohttp.ClientSession() as http:
        await mock.login()
        session = {"Authorization": f"OAuth {mock.session}"}
        async with http.get(f"{mock.url}/zones", params={"区域": "上海"}, headers=session) as answer:
            assert answer.headers["X-ZMock-Hint"] == "a query does not read 区域"
            raw = dict(answer.raw_headers)[b"X-ZMock-Hint"]
            assert raw == "a query does not read 区域".encode()
        async with http.get(f"{mock.url}/zones", params={"q": "名字=1"}, headers=session) as answer:
            assert "名字" in answer.headers["X-ZMock-Hint"] and "名字" in (await answer.read()).decode()
        for path, body in (("rules", {"api": "创建"}), ("reset", {"cloud": "云.json"}), ("reset", {"云": 1}), ("incidents", {"host-down": "主机"})):
            async with http.post(f"{mock.base}/zmock/{path}", json=body) as answer:
                assert answer.status >= 400 and re.search("[一-龥]", (await answer.read()).decode())
        async with http.get(f"{mock.base}/zmock/calls") as answer:
            assert "a query does not read 区域" in (await answer.read()).decode()


@pytest.mark.parametrize("text", ("区域", "a\nb\r\nc", "\x85\u2028x", "\ud800 lone", "é" * 5000, "tab\t"))
def test_a_header_is_one_line_that_can_be_sent(text):
    safe = header_safe(text)
    assert len(safe) <= 2000 and not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", safe) and safe.encode()


# a BOM


async def test_a_body_may_begin_with_a_bom():
    async with serve() as mock, aiohttp.ClientSession() as http:
        await mock.login()
        session = {"Authorization": f"OAuth {mock.session}", "Content-Type": "application/json"}
        for path, body in (("/zstack/v1/zones", b'{"params": {"name": "z"}}'), ("/zmock/rules", b'{"api": "*", "delay": 1}'), ("/zmock/reset", b"")):
            async with http.post(mock.base + path, data=b"\xef\xbb\xbf" + body, headers=session) as answer:
                assert answer.status in (200, 202), await answer.text()


async def test_a_rules_file_may_begin_with_a_bom(tmp_path):
    file = tmp_path / "rules.json"
    file.write_text('[{"api": "CreateZone", "then": {"error": "SYS.1006", "details": "区域"}}]', encoding="utf-8-sig")
    async with serve(rules=(str(file),)) as mock:
        assert [rule.definition["then"]["details"] for rule in mock.rules] == ["区域"]


def test_a_catalogue_may_begin_with_a_bom(tmp_path):
    file = tmp_path / "catalogue.json"
    file.write_text(CATALOGUE_FILE.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert Catalogue(file).apis.keys() == APIS.keys()
