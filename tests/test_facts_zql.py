"""What the real server does with ZQL and batch queries, fact by fact, in both dialects.

A statement that fails is answered at once in the dialect manual. In the dialect server nobody answers it: the call times out.
"""

import asyncio
import fnmatch
from urllib.parse import urlencode

from asking import each, outcome
from facts import Fact, Refused, Shown, Uncovered, check

from zmock import named

WEB = ["web-1", "web-2", "web-3"]
RUNNING = ["cache-1", "db-1", "db-2", *WEB]
INTERNAL, FAILED = "SYS.1000", "SYS.1006"
TIMED_OUT = "Message[name: org.zstack.query.API%sMsg, id: *] timeout after 300 seconds"


async def ask(mock, path, **params):
    """Answer a call, or let it time out: its status and body."""
    call = asyncio.ensure_future(outcome(mock, "GET", f"{path}?{urlencode(params)}"))
    while not (await asyncio.wait([call], timeout=0.02))[0]:
        if any(timer.name.startswith("time-out") for timer in mock.cloud.clock.timers):
            await mock.advance(300)
    return call.result()


async def zql(mock, statement):
    status, answer = await ask(mock, "/zql", zql=statement)
    assert status == 200, answer
    return answer["result"]


def finds(statement, *names, total=None, field="name", in_order=False):
    """A statement that finds objects by their names, or by another field."""

    async def story(mock):
        result = await zql(mock, statement)
        values = [inventory.get(field) for inventory in result.pop("inventories")]
        assert (values if in_order else sorted(values)) == [*names]
        assert result == ({} if total is None else {"total": total})

    return Shown(story)


def answers(statement, result):
    async def story(mock):
        assert await zql(mock, statement) == result

    return Shown(story)


def counts(statement, total):
    return answers(statement, {"total": total})


def same(statement, collection, *conditions):
    """A statement that finds what a Query call finds."""

    async def story(mock):
        queried = [item["uuid"] for item in await mock.query(collection, *conditions)]
        assert [item["uuid"] for item in (await zql(mock, statement))["inventories"]] == queried != []

    return Shown(story)


def fails(statement, details, path="zql", code=INTERNAL):
    """A statement or script that fails, with a glob over the details."""

    async def story(mock):
        status, answer = await ask(mock, "/zql" if path == "zql" else "/batch-queries", **{path: statement})
        error, expected = answer["error"], (code, details)
        if mock.cloud.dialect.name == "server":
            expected = ("SYS.1001", TIMED_OUT % ("ZQLQuery" if path == "zql" else "BatchQuery"))
        assert (status, error["code"]) == (503, expected[0])
        assert fnmatch.fnmatchcase(error["details"], expected[1].replace("[", "[[]")), error["details"]

    return Shown(story)


def puts(script, result):
    """A script and what it puts into the answer."""

    async def story(mock):
        status, answer = await ask(mock, "/batch-queries", script=script)
        assert (status, answer) == (200, {"result": result})

    return Shown(story)


def breaks(script, details, code=FAILED):
    return fails(script, details, "script", code)


def breaks_plainly(*scripts):
    """Scripts that zmock does not run."""

    async def story(mock):
        for script in scripts:
            assert (await ask(mock, "/batch-queries", script=script))[0] == 501, script

    return Shown(story)


def facts(api, *rows):
    return [Fact(api, text, case) for text, case in rows]


# stories


async def ann(mock):
    """Make the normal account ann, and act for it from now on."""
    await mock.call("CreateAccount", name="ann", password="p")
    body = {"logInByAccount": {"accountName": "ann", "password": "p"}}
    mock.session = (await mock.request("PUT", "/accounts/login", body))[1]["inventory"]["uuid"]


async def zql_of_an_account(mock):
    await ann(mock)
    return {"zql": "query zone"}


async def zql_allowed_to_a_user(mock):
    """By a policy, the user of an account sees what is its account's, shared or of nobody."""
    admin = mock.session
    await ann(mock)
    of_ann = mock.cloud.look("Session", mock.session)["accountUuid"]
    user = (await mock.call("CreateUser", name="ulf", password="p"))["inventory"]["uuid"]
    mock.session = admin
    statements = [{"effect": "Allow", "actions": ["org.zstack.query.APIZQLQueryMsg"]}]
    policy = (await mock.call("CreatePolicy", name="p", statements=statements))["inventory"]["uuid"]
    await mock.call("AttachPoliciesToUser", userUuid=user, policyUuids=[policy])
    assert (await zql(mock, "count instanceoffering"))["total"]
    mock.session = (await mock.call("LogInByUser", accountUuid=of_ann, userName="ulf", password="p"))["inventory"]["uuid"]
    assert await zql(mock, "count instanceoffering") == {"total": 0}
    assert await zql(mock, "count zone") == {"total": 1}
    await mock.call("CreateSecurityGroup", name="mine")
    assert await zql(mock, "query securitygroup.name") == {"inventories": [{"name": "mine"}]}


async def any_verb_of_one_path(mock):
    status, answer = await outcome(mock, "GET", "/zql?zql=" + "query+zone.name")
    assert (status, answer) == (200, {"result": {"inventories": [{"name": "zone-1"}]}})


async def inventories_are_whole(mock):
    (host,) = (await zql(mock, "query host where name = 'host-1'"))["inventories"]
    (vm,) = (await zql(mock, "query vminstance where name = 'web-1'"))["inventories"]
    assert (host["username"], host["sshPort"]) == ("root", 22)  # of the child
    assert vm["vmNics"][0]["uuid"] and vm["allVolumes"][0]["uuid"]
    assert vm == (await mock.query("vm-instances", "name=web-1"))[0]


async def no_schema(mock):
    answer = await ask(mock, "/zql", zql="query zone")
    assert "schema" not in answer[1]


async def a_failure_is_not_answered(mock):
    """The call ends after 300 s, in the dialect manual at once."""
    call = asyncio.ensure_future(mock.request("GET", "/zql?zql=query+zonez"))
    for _ in range(50):
        await asyncio.sleep(0)
    await mock.advance(299)
    await asyncio.sleep(0.05)
    assert call.done() == (mock.cloud.dialect.name == "manual")
    await mock.advance(2)
    status, answer = await call
    assert (status, answer["error"]["code"]) == (503, "SYS.1000" if mock.cloud.dialect.name == "manual" else "SYS.1001")


async def shares_the_engine_of_queries(mock):
    for q, where in (("name=WEB-1", "name = 'WEB-1'"), ("vmNics.eip.vipIp=10.20.0.2", "vmNics.eip.vipIp = '10.20.0.2'"), ("hostUuid is null", "hostUuid is null")):
        assert await mock.query("vm-instances", q) == (await zql(mock, f"query vminstance where {where}"))["inventories"]


async def without_default_limit(mock):
    for number in range(1001):
        mock.cloud.add("Zone", name=f"z{number}")
    assert len((await zql(mock, "query zone.name"))["inventories"]) == 1002
    status, answer = await ask(mock, "/batch-queries", script='z = query("queryzone"); put("z", z.result)')
    assert (status, len(answer["result"]["z"])) == (200, 1000)


async def two_rows_in_a_sub_query(mock):
    mock.cloud.add("Zone", name="zone-2")
    await fails("query vminstance where zoneUuid = (query zone.uuid)", "Subquery returns more than 1 row").story(mock)
    assert await zql(mock, "count vminstance where zoneUuid = (query zone.uuid where name = 'zone-1')") == {"total": 12}


async def batch_of_an_account(mock):
    """Its own, nothing of what has no @Action, all of what nobody owns."""
    await ann(mock)
    await mock.call("CreateSecurityGroup", name="mine")
    script = """
        put("own", query("querysecuritygroup fields=name"))
        put("clusters", query("querycluster"))
        put("zones", query("queryzone count=true"))
    """
    status, answer = await ask(mock, "/batch-queries", script=script)
    assert (status, answer) == (200, {"result": {"own": {"result": [{"name": "mine"}]}, "clusters": {"total": 0, "result": []}, "zones": {"total": 1}}})


async def call_of_an_api(mock):
    script = """put("c", call("getcpumemorycapacity", '{"all": true}'))"""
    _, capacity = await ask(mock, "/hosts/capacities/cpu-memory", all="true")
    capacity.pop("success", None)
    assert await ask(mock, "/batch-queries", script=script) == (200, {"result": {"c": {"result": capacity}}})


async def call_of_an_account(mock):
    """An API for admin is refused, with its own words."""
    await ann(mock)
    await breaks("""call("getcpumemorycapacity", '{"all": true}')""", "operation is denied by default, error at line 0: *").story(mock)


PLAINLY = ("for (i in 1..3) { }", "x = 1 + 2", 'x = query("queryzone").result[0]', 'put("a", [1])', "x = 1", 'put("a", null)', "System.exit(0)")
NAMED_ZONE = named("zone-1")
IN_VM = "query vminstance.name where"
FACTS = (
    *facts("ZQLQuery",
        ("is refused to normal accounts", Refused(zql_of_an_account, "SYS.1006", "operation is denied by default")),
        ("shows a user what is its account's, where a policy allows the API", Shown(zql_allowed_to_a_user)),
        ("takes zql in the query string", Shown(any_verb_of_one_path)),
        ("fails without zql", fails("", "error mismatched input '<EOF>' expecting {'count', 'query'} at line 1:0, ")),
        ("knows no second statement", fails("query zone; query host", "error * at line 1:12, *")),
        ("drops the semicolon", finds("query zone;", "zone-1")),
        ("knows no sum", fails("sum vminstance.cpuNum", "error * at line 1:0, sum vminst")),
        ("knows no group by", fails("query vminstance group by state", "error * at line 1:17, *")),
        ("knows no named as", fails("query zone named as 'x'", "error * at line 1:11, *")),
        ("has the engine of the Query calls", Shown(shares_the_engine_of_queries)),
        ("is what Terraform sends", finds("query Image where __systemTag__='applianceType::vrouter'")),
        ("target: an entity", finds("query zone", "zone-1")),
        ("target: a field", answers("query zone.name", {"inventories": [{"name": "zone-1"}]})),
        ("target: several fields, without nulls", answers("query vminstance.name,description where name = 'ci-1'", {"inventories": [{"name": "ci-1"}]})),
        ("target: what is nested in a field is dropped", answers("query zone.name.b", {"inventories": [{"name": "zone-1"}]})),
        ("target: own fields only", fails("query vminstance.vmNics", "inventory[${selfInventoryClass}] has no field[vmNics]")),
        ("target: an unknown field", fails("query zone.foo", "inventory[${selfInventoryClass}] has no field[foo]")),
        ("takes an entity in any case", finds("query VMINSTANCE where name = 'web-1'", "web-1")),
        ("takes a child", finds("query kvmhost.name where username = 'root'", "host-1", "host-2", "host-3", "host-4")),
        ("takes another child", finds("query l2vlannetwork.name where vlan = 100", "l2-private")),
        ("takes what no Query call has", counts("count imagebackupstorageref where status = 'Ready'", 4)),
        ("does not know what has no inventory", fails("query session", "cannot find inventory with name[session]")),
        ("unknown entity", fails("query vm", "cannot find inventory with name[vm]")),
        ("a parent has no fields of its children", fails("query host where username = 'root'", "inventory class[class *HostInventory] not having field[username]")),
        ("a condition on the type does not change that", fails("query host where hypervisorType = 'KVM' and username = 'root'", "* not having field[username]")),
        ("fields have case", fails("query zone where Name = 'x'", "inventory class[class org.zstack.header.zone.ZoneInventory] not having field[Name]")),
        ("operator =", finds(f"{IN_VM} name = 'web-1'", "web-1")),
        ("operator !=", counts("count vminstance where name != 'web-1'", 11)),
        ("operator >", finds(f"{IN_VM} cpuNum > 2", "db-1", "db-2")),
        ("operator >=", counts("count vminstance where cpuNum >= 2", 6)),
        ("operator <", counts("count vminstance where cpuNum < 2", 6)),
        ("operator <=", counts("count vminstance where cpuNum <= '2'", 10)),
        ("operator is null", counts("count vminstance where hostUuid is null", 4)),
        ("operator is not null", counts("count vminstance where hostUuid is not null", 8)),
        ("operator in", finds(f"{IN_VM} name in ('web-1', 'db-1', 'x')", "db-1", "web-1")),
        ("operator not in", counts("count vminstance where name not in ('web-1', 'db-1')", 10)),
        ("operator like", finds(f"{IN_VM} name like 'web-_'", *WEB)),
        ("operator not like", same("query vminstance where name not like '%-1'", "vm-instances", "name!~=%-1")),
        ("a value in a list has commas", counts("count vminstance where name in ('web-1,db-1')", 0)),
        ("value: negative", counts("count vminstance where cpuNum > -1", 12)),
        ("value: a fraction", counts("count vminstance where cpuNum > 1.5", 6)),
        ("value: a boolean", same("query systemtag where inherent = false", "system-tags", "inherent=false")),
        ("value: a boolean in quotes", same("query systemtag where inherent = 'true'", "system-tags", "inherent=true")),
        ("value: a list for one value", finds(f"{IN_VM} name = ('web-1')", "web-1")),
        ("value: no escapes", counts(r"count vminstance where name like 'web\_1'", 0)),
        ("value: double quotes are refused", fails('query zone where name = "zone-1"', "*")),
        ("value: a uuid without quotes is a syntax error", fails("query zone where uuid = a5576d5e", "error * at line 1:24, *")),
        ("value: none for is null", fails("query zone where name is null 'x'", "*")),
        ("value: one for =", fails("query zone where name =", "*")),
        ("value: a list for in", fails("query zone where name in 'zone-1'", "*")),
        ("value: no empty list", fails("query zone where name in ()", "error mismatched input ')' * at line 1:26, *")),
        ("keywords are in lower case", fails("query zone WHERE name = 'x'", "error mismatched input 'WHERE' * at line 1:11, *")),
        ("keywords of two words have one blank", fails("query zone order  by name asc", "error * at line 1:11, *")),
        ("keywords are no names", fails("query zone where limit = 1", "error * at line 1:17, *")),
        ("a name may begin with a digit", fails("query zone where 1a = 1", "* not having field[1a]")),
        ("brackets", finds(f"{IN_VM} (name like 'web-%' and state = 'Running') or name = 'db-1'", "db-1", *WEB)),
        ("and, or group to the right", counts("count vminstance where name = 'x' and name = 'web-1' or name = 'db-1'", 0)),
        ("or, and group to the right", finds(f"{IN_VM} name = 'db-1' or name like 'web-%' and name = 'web-1'", "db-1", "web-1")),
        ("brackets in brackets", finds(f"{IN_VM} ((name = 'web-1') or ((name = 'db-1')))", "db-1", "web-1")),
        ("conditions side by side fail", fails("query zone where name = 'a' name = 'b'", "*")),
        ("brackets have an end", fails("query zone where (name = 'a'", "error mismatched input '<EOF>' * at line 1:28, *")),
        ("nested names", finds(f"{IN_VM} vmNics.l3Network.l2Network.cluster.zoneUuid = '{NAMED_ZONE}' and name like 'web%'", *WEB)),
        ("each nested name is an own sub-query", finds("query image.name where backupStorage.zone.name = 'zone-1' and name like '%centos%'", "image-centos7")),
        ("unknown relation", fails("query zone where foo.bar = 1", "invalid nested query condition[bar] on class *ZoneInventory,the expanded target[class *ZoneInventory] have no expanded query[foo]")),
        ("tags", finds(f"{IN_VM} __userTag__ = 'web'", *WEB)),
        ("tags that are not there", counts("count vminstance where __userTag__ != 'web'", 9)),
        ("tags in a list", finds(f"{IN_VM} __userTag__ in ('web', 'x') and __systemTag__ like 'hostname::%'", "web-1")),
        ("tags behind relations", counts("count volume where vmInstance.__userTag__ = 'web'", 3)),
        ("tags in restrict by", finds("query vminstance.name restrict by (__userTag__ = 'web')", *WEB)),
        ("a tag cannot hold %s", fails("query zone where __userTag__ = '%s'", "*")),
        ("a sub-query", finds(f"{IN_VM} uuid in (query vmnic.vmInstanceUuid where eip.vipIp = '10.20.0.2')", "web-1")),
        ("a sub-query for one value", finds("query cluster.name where zoneUuid = (query zone.uuid where name = 'zone-1')", "cluster-1", "cluster-2")),
        ("a sub-query with several rows for one value", Shown(two_rows_in_a_sub_query)),
        ("a sub-query in a sub-query", finds("query zone.name where uuid in (query vminstance.zoneUuid where uuid not in (query vmnic.vmInstanceUuid where ip = '1.1.1.1'))", "zone-1")),
        ("a sub-query with a null excludes all", counts("count host where uuid not in (query vminstance.hostUuid)", 0)),
        ("a sub-query that finds nothing excludes none", counts("count vminstance where hostUuid not in (query zone.uuid where name = 'x')", 12)),
        ("a sub-query needs a field", fails("query vminstance where uuid in (query vmnic)", "*")),
        ("a sub-query has no unknown field", fails("query vminstance where uuid in (query vmnic.foo)", "inventory[${selfInventoryClass}] has no field[foo]")),
        ("restrict by: a related entity", same("query vminstance restrict by (zone.name = 'zone-1', cluster.name != 'cluster-1')", "vm-instances", "zone.name=zone-1", "cluster.name!=cluster-1")),
        ("restrict by: the path of the smallest weight", same("query image restrict by (zone.name = 'zone-1')", "images", "backupStorage.zone.name=zone-1")),
        ("restrict by: a list", same("query vminstance restrict by (host.name in ('host-1', 'host-2'))", "vm-instances", "host.name?=host-1,host-2")),
        ("restrict by: the entity itself", finds("query zone.name restrict by (zone.name = 'zone-1')", "zone-1")),
        ("restrict by: an entity without relation is ignored", counts("count zone restrict by (cluster.name = 'x')", 1)),
        ("restrict by: joined to where by and", finds("query image.name where name like '%debian%' restrict by (__systemTag__ != 'remote', zone.name = 'zone-1')", "image-debian9")),
        ("restrict by: no other name without entity", fails("query zone restrict by (name = 'x')", "the restrict by clause[*] without entity name is not handled by any extension")),
        ("restrict by: an unknown entity", fails("query zone restrict by (foo.name = 'x')", "cannot find inventory with name[foo]")),
        ("return with: total, without limit", finds(f"{IN_VM} state = 'Running' return with (total) order by name asc limit 2 offset 1", "db-1", "db-2", total=6, in_order=True)),
        ("return with: other items are ignored", finds("query zone return with (other, metric.CPU, zwatch{vm.cpuNum, {a}})", "zone-1")),
        ("filter by is ignored", finds("query zone filter by zwatch{vm.CPUNum > 0 during 5m and {{}}}, example{func(_,100,'text')}", "zone-1")),
        ("order by ascends", finds("query cluster.name order by name asc", "cluster-1", "cluster-2", in_order=True)),
        ("order by descends", finds("query cluster.name order by name desc", "cluster-2", "cluster-1", in_order=True)),
        ("order by needs a direction", fails("query cluster order by name", "error mismatched input '<EOF>' expecting {'asc', 'desc'} at line 1:27, *")),
        ("order by an own field", fails("query cluster order by foo asc", "invalid order by clause, inventory[ClusterInventory] doesn't have field[foo]")),
        ("limit", finds("query cluster.name order by name asc limit 1", "cluster-1")),
        ("offset", finds("query cluster.name order by name asc offset 1", "cluster-2")),
        ("no limit by default", Shown(without_default_limit)),
        ("no limit below 0", fails("query zone limit -1", "*")),
        ("clauses have an order", fails("query zone limit 1 order by name asc", "error mismatched input 'order by' expecting {<EOF>, 'filter by', 'offset'} at line 1:19, *")),
        ("where comes before restrict by", fails("query zone restrict by (zone.name = 'a') where name = 'a'", "error * at line 1:41, *")),
        ("count", counts("count vminstance where state = 'Running'", 6)),
        ("count ignores order, limit and offset", counts("count vminstance order by name asc limit 1 offset 5", 12)),
        ("count has no return with", fails("count zone return with (total)", "error * at line 1:11, *")),
        ("count has no filter by", fails("count zone filter by a{}", "error * at line 1:11, *")),
        ("answers an empty list", answers("query zone where name = 'x'", {"inventories": []})),
        ("answers whole inventories of the real type", Shown(inventories_are_whole)),
        ("answers no schema", Shown(no_schema)),
        ("a failure is answered by nobody", Shown(a_failure_is_not_answered)),
        ("syntax errors have line, column and what is around", fails("query zone\nwhere name", "error mismatched input '<EOF>' expecting {* 'is null', *} at line 2:10, *")),
        ("unknown characters are dropped", finds("query § zone ! where name ^= 'zone-1'", "zone-1")),
    ),
    *facts("BatchQuery",
        ("is allowed to all, who see their own", Shown(batch_of_an_account)),
        ("puts an answer: objects", puts('put("zones", query("queryzone fields=name"))', {"zones": {"result": [{"name": "zone-1"}]}})),
        ("puts an answer: a number", puts('put("zones", query("queryzone count=true"))', {"zones": {"total": 1}})),
        ("puts an answer: both", puts('put("c", query("querycluster fields=name limit=1 sortBy=name replyWithCount=true"))', {"c": {"result": [{"name": "cluster-1"}], "total": 2}})),
        ("has variables", puts('def z = query("queryzone fields=name")\nn = query("queryvminstance count=true");put("n", n.total); put("z", z.result)', {"n": 12, "z": [{"name": "zone-1"}]})),
        ("has comments, and ends at return", puts('def z = query("queryzone count=true") // all\nput(\'z\', z.total)\nreturn z\nput("x", z)', {"z": 1})),
        ("puts nothing", puts('query("queryzone")', {})),
        ("puts no null", puts('z = query("queryzone"); put("x", z.total)', {})),
        ("keeps the order of the puts", puts('put("b", query("queryzone count=true")); put("a", query("queryzone count=true"))', {"b": {"total": 1}, "a": {"total": 1}})),
        ("takes the API in any case", puts('put("z", query("QueryZone count=true"))', {"z": {"total": 1}})),
        ("sorts", puts('put("c", query("querycluster fields=name sortBy=name sortDirection=desc"))', {"c": {"result": [{"name": "cluster-2"}, {"name": "cluster-1"}]}})),
        ("pages", puts('put("c", query("querycluster fields=name sortBy=name start=1 limit=1"))', {"c": {"result": [{"name": "cluster-2"}]}})),
        ("operator =", puts('put("n", query("queryvminstance state=Running count=true"))', {"n": {"total": 6}})),
        ("operator !=", puts('put("n", query("queryvminstance state!=Running count=true"))', {"n": {"total": 6}})),
        ("operators >=, <=", puts('put("n", query("queryvminstance cpuNum>=2 cpuNum<=2 count=true"))', {"n": {"total": 4}})),
        ("operators >, <", puts('put("n", query("queryvminstance cpuNum>1 cpuNum<4 count=true"))', {"n": {"total": 4}})),
        ("operators ?=, !?=", puts('put("n", query("queryvminstance name?=web-1,db-1 name!?=db-1 count=true"))', {"n": {"total": 1}})),
        ("operators ~=, !~=", puts('put("n", query("queryvminstance name~=web-% name!~=%-1 count=true"))', {"n": {"total": 2}})),
        ("name=null is the null test", puts('put("n", query("queryvminstance hostUuid=null count=true"))', {"n": {"total": 4}})),
        ("name!=null is the same", puts('put("n", query("queryvminstance hostUuid!=null count=true"))', {"n": {"total": 4}})),
        ("call", Shown(call_of_an_api)),
        ("call: as its caller may", Shown(call_of_an_account)),
        ("call: an API without session", breaks('call("getversion", "{}")', "no query API found for getversion, error at line 0: *")),
        ("call: no Query API", breaks_plainly('call("queryzone", "{}")')),
        ("query: a Query API", breaks_plainly('query("gettaskprogress")')),
        ("call: JSON", breaks('call("gettaskprogress", "[]")', "[] is no JSON object, error at line 0: *")),
        ("call of no API", breaks('call("GetVersion", "{}")', 'no query API found for GetVersion, error at line 0: call("GetVersion", "{}")')),
        ("query of no API", breaks('x = query("queryzone")\nx = query("queryfoo")', 'no query API found for queryfoo, error at line 1: x = query("queryfoo")')),
        ("an empty query", breaks('x = query(" ")', 'invalid query string: *, error at line 0: x = query(" ")')),
        ("a word without operator", breaks('query("queryzone foo")', "invalid query string[queryzone foo], word[foo] doesn't have a valid operator, error at line 0: *")),
        ("an unknown field", breaks('query("queryzone foo=1")', "inventory class[class *ZoneInventory] not having field[foo], error at line 0: *")),
        ("an unknown variable", breaks('put("x", y)', 'No such property: y for class: Script1, error at line 0: put("x", y)')),
        ("only plain scripts run", breaks_plainly(*PLAINLY)),
        ("forbids sleep and classes", Uncovered("what is not plain is a 501, not the refusal of the server's sandbox")),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
