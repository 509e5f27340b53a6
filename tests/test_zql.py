"""ZQL and batch queries: what helps with a wrong statement, what explain tells, and that no text breaks them."""

import asyncio
import json
from urllib.parse import urlencode

import aiohttp
import pytest
from asking import each
from hypothesis import example, given, settings
from hypothesis import strategies as st

import zmock
from zmock import ZqlParser

CATALOGUE = zmock.catalogue()


def parse(text):
    return ZqlParser(text, CATALOGUE).statement()


def text_of(part):
    return part.text


@each("text, brackets", (
    ("a = 1 and b = 2 and c = 3", "a = 1 and b = 2 and c = 3"),
    ("a = 1 and b = 2 or c = 3", "a = 1 and (b = 2 or c = 3)"),
    ("a = 1 or b = 2 and c = 3", "(a = 1 or (b = 2 and c = 3))"),
    ("(a = 1 or b = 2) and c = 3", "(a = 1 or b = 2) and c = 3"),
    ("a = 1 or b = 2 or c = 3 and d = 4", "(a = 1 or b = 2 or (c = 3 and d = 4))"),
    ("((a  in ( 'x' , 'y' )))", "a  in ( 'x' , 'y' )"),
))  # fmt: skip
def test_and_or_group_to_the_right(text, brackets):
    assert " and ".join(map(text_of, parse(f"query zone where {text}").conditions)) == brackets


WRONG = (  # a statement, where it is wrong, and the hint
    ("querry zone", "at line 1:0, querry zon", "did you mean query?"),
    ("query zonee", "cannot find inventory with name[zonee]", "did you mean zone?"),
    ("query zone wher name = 'a'", "at line 1:11, uery zone wher name ", "did you mean where?"),
    ("query zone\nwhere\n  name like x", "at line 3:12, name like x", "write 'x', with single quotes"),
    ('query zone where name = "x"', 'at line 1:24, re name = "x"', "write 'x', with single quotes"),
    ("query zone where naem = 'x'", "not having field[naem]", "did you mean name?"),
    ("query host where username = 'root'", "not having field[username]", "or in ZQL query KVMHost"),
    ("query zone where clustr.name = 'x'", "have no expanded query[clustr]", "did you mean cluster?"),
    ("query zone orderby name asc", "at line 1:11, ", "did you mean order by?"),
    ("query zone.naem", "has no field[naem]", "did you mean name?"),
    ("query zone order by naem asc", "doesn't have field[naem]", "did you mean name?"),
    ("query zone where name is null 'x'", "the database cannot read name is null 'x'", "conditions are name = 'a', name in ('a', 'b') or name is null"),
    ("query zone where uuid = (query cluster.zoneUuid)", "Subquery returns more than 1 row", "write in"),
    ("query zone where __userTag__ = '%s'", "cannot parse the condition __userTag__ = '%s'", "a value cannot hold '%s', and nothing escapes it"),
    ("query volumesnapshot where latest = 'x'", "'x' is neither true nor false", "write latest=true or latest=false"),
    ("query zone where createDate > 'soon'", "'soon' is no date", "write 2018-07-10 09:31:06 or 2018-07-10T09:31:06+08:00"),
)  # fmt: skip


@each("statement, details, hint", WRONG)
def test_a_wrong_statement_is_told_with_its_place_and_the_right_word(statement, details, hint):
    with pytest.raises(zmock.ApiError) as refusal:
        DEMO.query(None, parse(statement), DEMO.queries)
    assert details in refusal.value.details
    assert hint in refusal.value.hint


def demo():
    mock = zmock.new_cloud(zmock.Settings(memory=True), CATALOGUE)
    mock.add("Zone", name="z", state="Enabled")
    for name in ("a", "b"):
        mock.add("Cluster", name=name, zoneUuid=mock.find("Zone", "name", "z")[0]["uuid"], hypervisorType="KVM")
    return mock


DEMO = demo()
WORDS = """query count zone cluster VmInstance kvmhost where and or ( ) , . = != > < >= <= in not like is null 'a' "b" 'it''s' 12 -3 4.5 true false
    order by asc desc limit offset restrict return with total filter { } {{}} name uuid vmNics.ip __userTag__ '%s' ; ' ü § 1a""".split()  # fmt: skip
STATEMENTS = st.one_of(
    st.lists(st.sampled_from([*WORDS, "is null", "not in", "order by", "return with (total)", "restrict by", "query zone where"]), max_size=14).map(" ".join),
    st.text(max_size=40),
    st.text(max_size=20).map(lambda text: f"query zone where name = '{text}' or {text}"),
    st.tuples(st.sampled_from(["query zone where name = 'a' and state = 'b' limit 1"]), st.integers(0, 48), st.text(max_size=3)).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]),
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(STATEMENTS)
@example("query zone where " + "(" * 4000)
@example("query zone where " + "name = 'a' and name = 'b' or " * 300 + "name = 'c'")
@example("query zone where " + "uuid in (query zone.uuid where " * 200)
@example("query zone where name in (" * 500)
@example("query zone limit " + "9" * 5000)
@example("query zone offset 9999999999999999999 limit 1")
@example("query zone filter by a" + "{" * 2000 + "}" * 2000)
@example("query zone where state = 'a' or " * 900 + "name = 'c'")
def test_no_statement_breaks_it(statement):
    try:
        answer = DEMO.query(None, parse(statement), DEMO.queries)
    except zmock.ApiError as error:
        assert error.details and error.code in ("SYS.1000", "SYS.1007")
    else:
        assert answer.keys() <= {"inventories", "total"}


SCRIPTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["x", "=", "query(", '"queryzone"', ")", "put(", "'a'", ",", ".result", "\n", ";", "//", "return", "call(", '"{}"', '"getversion"', "queryzone", "def "]), max_size=12).map("".join),
    st.lists(st.sampled_from([*WORDS, "name=a", "limit=x", "limit=-1", "fields=", "sortBy=foo", "count=true", "name=null", "=", "!="]), max_size=6).map(lambda words: f'put("x", query("queryzone {" ".join(words)}"))'),
)  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    def run(script):
        call = zmock.Call(CATALOGUE.apis["BatchQuery"], {"script": script}, account=zmock.ADMIN, user=zmock.ADMIN)
        return zmock.batch_query(DEMO, call)

    return run


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(script=SCRIPTS)
@example(script="x = " * 3000)
@example(script="put(" * 3000)
@example(script='call("batchquery", "{}")')
@example(script='call("queryzone", "{}")')
@example(script='call("gettaskprogress", "[1]")')
@example(script='call("gettaskprogress", "x")')
@example(script='query("gettaskprogress")')
@example(script='query("queryiam2project")')
@example(script='put("x", query("queryzone limit=99999999999"))')
def test_no_script_breaks_it(batch, script):
    try:
        assert batch(script).keys() == {"result"}
    except zmock.ApiError as error:
        assert error.details and error.code in ("SYS.1006", "SYS.1014")


@pytest.fixture
async def mock():
    async with zmock.serve() as mock:
        await mock.login()
        yield mock


async def explain(mock, **params):
    async with aiohttp.request("GET", f"{mock.base}/zmock/explain?{urlencode(params)}") as answer:
        return answer.status, json.loads(await answer.text())


async def test_explain_tells_what_each_condition_keeps(mock):
    statement = "query vminstance where zone.name = 'zone-1' and (state = 'Runing' or name like 'web-%' and cpuNum > 'x') restrict by (account.name = 'x')"
    status, told = await explain(mock, zql=statement)
    zone, either, account = told["conditions"]
    assert (status, told["total"]) == (200, 3)
    assert (zone["q"], zone["kept"], zone["dropped"]) == ("zone.name = 'zone-1'", 12, 0)
    assert (either["q"], either["kept"]) == ("(state = 'Runing' or (name like 'web-%' and cpuNum > 'x'))", 3)
    state, both = either["of"]
    assert (state["kept"], state["hint"]) == (0, "no VmInstance can have the state Runing, did you mean Running?")
    assert [part["kept"] for part in both["of"]] == [3, 3]
    assert both["of"][1]["hint"] == "cpuNum > 'x' compares with 0: 'x' is no number"
    assert (account["kept"], account["hint"]) == (3, "the server ignores it: no key leads from VmInstance to Account")


@each("statement, index, parts", (
    ("query vminstance where name = 'a'", "VmInstance.name", None),
    ("query vminstance where name = 'a' or uuid = 'b'", None, [None, None]),
    ("query vminstance where cpuNum > 1 or (name = 'a' and memorySize > 1)", None, [None, None]),
    ("query vminstance where zone.name = 'a' or uuid = 'b'", None, ["Zone.name", None]),
))  # fmt: skip
async def test_explain_tells_the_index_that_a_query_reads(mock, statement, index, parts):
    _, told = await explain(mock, zql=statement)
    (condition,) = told["conditions"]
    assert condition["index"] == index and [part["index"] for part in condition.get("of", ())] == (parts or [])


@each("params, error", (
    ({"zql": "query zonez"}, "cannot find inventory with name[zonez]"),
    ({"zql": "query zone where foo = 1"}, "not having field[foo]"),
    ({"zql": "query zone", "path": "/zones"}, "a statement of ZQL is explained with zql alone"),
    ({"zql": ""}, "expecting {'count', 'query'}"),
))  # fmt: skip
async def test_explain_refuses_a_wrong_statement(mock, params, error):
    status, told = await explain(mock, **params)
    assert status == 400
    assert error in json.dumps(told)


async def test_the_hint_of_a_call_that_times_out_has_the_reason():
    async with zmock.serve(dialect="server") as mock:
        await mock.login()
        headers = {"Authorization": f"OAuth {mock.session}"}
        async with aiohttp.ClientSession(mock.url.partition("/zstack")[0], headers=headers) as http:
            call = asyncio.ensure_future(http.get("/zstack/v1/zql?zql=query+zonez").__aenter__())
            while not (await asyncio.wait([call], timeout=0.02))[0]:
                if any(timer.name == "time-out of ZQLQuery" for timer in mock.cloud.clock.timers):
                    await mock.advance(300)
            answer = call.result()
            assert answer.headers["X-ZMock-Hint"] == "cannot find inventory with name[zonez]; did you mean zone?"
