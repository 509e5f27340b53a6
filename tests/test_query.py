"""Queries: conditions as MySQL reads them, sorting and paging, relations, tags, and each mistake in the server's words."""

import contextlib
import itertools
import json
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import aiohttp
import pytest
from asking import each
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from zmock import (
    OPERATORS,
    Dialect,
    Settings,
    catalogue,
    fill,
    hint_on_condition,
    like,
    named,
    new_cloud,
    read_condition,
    read_query,
    serve,
    stamp_from,
    us_date,
)

CATALOGUE = catalogue()
MANUAL, SERVER = "manual", "server"
BOTH = pytest.mark.parametrize("dialect", (MANUAL, SERVER))
ZONES = {  # name: description
    "web-1": "Front", "Web-2": None, "web": "Front end", "db_1": "", "dba": "back", "100%": "ACK", "null": "null", "a=b": None, "=b": None,
    "c:\\x": None, "pad ": None, " lead": None, "café": None, "区域": None,
}  # fmt: skip
OTHERS = [name for name in ZONES if "web" not in name.lower()]


def thing(name, **more):
    return {"uuid": named(name), "name": name} | more


CLUSTERS = [named("cluster-a"), named("cluster-b")]
IN_A, IN_B = {"zoneUuid": named("web-1")}, {"zoneUuid": named("dba")}
CLOUD = {
    "zones": [thing(name, description=told, state="Disabled" if name == "web" else "Enabled") for name, told in ZONES.items()],
    "instance-offerings": [
        thing(name, cpuNum=cpus, memorySize=memory)
        for name, cpus, memory in (("one", 1, 1000), ("two", 2, 1 << 30), ("sixteen", 16, (1 << 53) + 1))
    ],
    "volumes": [
        thing("root", deviceId=0, isShareable=False), thing("data", deviceId=3, isShareable=True), thing("loose", isShareable=False),
    ],
    "clusters": [thing("cluster-a", hypervisorType="KVM", **IN_A), thing("cluster-b", hypervisorType="KVM", **IN_B)],
    "hosts": [
        thing("host-a", clusterUuid=CLUSTERS[0], managementIp="10.0.0.1", hypervisorType="KVM", sshPort=22, username="root", **IN_A),
        thing("host-b", clusterUuid=CLUSTERS[1], managementIp="10.0.0.2", hypervisorType="Other", **IN_B),
    ],
    "l2-networks": [
        thing("l2-a", type="L2VlanNetwork", vlan=10, attachedClusterUuids=CLUSTERS, **IN_A),
        thing("l2-b", type="L2NoVlanNetwork", attachedClusterUuids=[], **IN_B),
    ],
    "l3-networks": [
        thing("l3-a", l2NetworkUuid=named("l2-a"), dns=["8.8.8.8", "1.1.1.1"], **IN_A),
        thing("l3-b", l2NetworkUuid=named("l2-b"), dns=["1.1.1.1"], networkServices=[
            {"networkServiceProviderUuid": named("flat"), "networkServiceType": "DHCP"}], **IN_B),
    ],
    "primary-storage": [thing("ps-a", attachedClusterUuids=CLUSTERS[:1], **IN_A)],
    "vm-instances": [
        thing("two-nics", clusterUuid=CLUSTERS[0], hostUuid=named("host-a"), state="Running", **IN_A),
        thing("one-nic", clusterUuid=CLUSTERS[1], hostUuid=named("host-b"), state="Stopped", **IN_B),
        thing("no-nic", zoneUuid=named("web"), state="Stopped"),
    ],
    "vm-instances/nics": [
        {"uuid": named(f"nic-{n}"), "vmInstanceUuid": named(vm), "l3NetworkUuid": named(l3), "ip": f"10.1.0.{n}", "metaData": told}
        for n, vm, l3, told in ((1, "two-nics", "l3-a", "m"), (2, "two-nics", "l3-b", "m"), (3, "one-nic", "l3-b", None))
    ],
    "vips": [thing("vip", ip="172.16.0.1", l3NetworkUuid=named("l3-b"), peerL3NetworkUuids=[named("l3-a")])],
    "backup-storage": [thing("bs-a", attachedZoneUuids=[named("web-1")]), thing("bs-b")],
    "images": [
        thing(name, backupStorageRefs=[{"backupStorageUuid": named(bs), "status": status} for bs, status in refs])
        for name, refs in (("image-both", (("bs-a", "Ready"), ("bs-b", "Creating"))), ("image-one", (("bs-b", "Ready"),)), ("image-lost", ()))
    ],
    "network-services/providers": [thing("flat", type="Flat"), thing("router", type="VirtualRouter")],
    "eips": [thing("eip", vmNicUuid=named("nic-3"), vipUuid=named("vip"), vipIp="172.16.0.1")],
    "user-tags": [
        {"uuid": named(f"tag-{to}-{tag}"), "resourceUuid": named(to), "resourceType": type, "tag": tag}
        for type, to, tag in (
            ("VmInstanceVO", "two-nics", "Web"), ("VmInstanceVO", "two-nics", "old"), ("VmInstanceVO", "one-nic", "db"),
            ("ZoneVO", "web-1", "shanghai"),
        )
    ],
    "system-tags": [{"uuid": named("tag-ip"), "resourceUuid": named("nic-3"), "resourceType": "VmNicVO", "tag": "staticIp::l3::10.1.0.3"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cloud") / "cloud.json"
    path.write_text(json.dumps(CLOUD))
    return str(path)


@pytest.fixture
def dialect():
    return MANUAL


@pytest.fixture
async def mock(cloud_file, dialect):
    async with serve(cloud=cloud_file, dialect=dialect) as mock:
        await mock.login()
        yield mock


def names(inventories):
    return [item["name"] for item in inventories]


async def ask(mock, path):
    """The body of a query that is answered."""
    status, body = await mock.request("GET", path)
    assert status == 200, body
    return body


async def raw(mock, path):
    """The same with a path that goes out as it is."""
    session = {"Authorization": f"OAuth {mock.session}"}
    async with aiohttp.ClientSession() as http, http.get(URL(mock.url + path, encoded=True), headers=session) as answer:
        return json.loads(await answer.text())


# conditions

TEXT = (
    ("name=web-1", ["web-1"]),
    ("name=WEB-1", ["web-1"]),
    ("name=web-1   ", ["web-1"]),
    ("name=pad", ["pad "]),
    ("name=cafe", ["café"]),
    ("name=CAFÉ", ["café"]),
    ("name=区域", ["区域"]),
    ("name=a=b", ["a=b"]),
    ("name==b", ["=b"]),
    ("name=nobody", []),
    ("name=", []),
    ("description=", ["db_1"]),
    ("state=disabled", ["web"]),
    ("state=Broken", []),
    (f"uuid={named('web').upper()}", ["web"]),
    ("name!=WEB-1", [name for name in ZONES if name != "web-1"]),
    ("description!=front", ["web", "db_1", "dba", "100%", "null"]),
    ("name~=web", ["web"]),
    ("name~=web%", ["web-1", "Web-2", "web"]),
    ("name~=WEB__", ["web-1", "Web-2"]),
    ("name~=%_1", ["web-1", "db_1"]),
    ("name~=%\\_1", ["db_1"]),
    ("name~=%\\%", ["100%"]),
    ("name~=c:\\\\x", ["c:\\x"]),
    ("name~=%.%", []),
    ("name~=%", [*ZONES]),
    ("description~=%", ["web-1", "web", "db_1", "dba", "100%", "null"]),
    ("name!~=web%", OTHERS),
    ("description!~=%ack%", ["web-1", "web", "db_1", "null"]),
    ("name?=WEB-1,dba,nobody", ["web-1", "dba"]),
    ("name?=web-1, dba", ["web-1"]),
    ("name?=web-1,,", ["web-1"]),
    ("description?=Front,,", ["web-1"]),
    ("description?=,Front", ["web-1", "db_1"]),
    ("description?=", ["db_1"]),
    ("name!?=web-1,Web-2,WEB", OTHERS),
    ("description!?=Front,front end,", ["db_1", "dba", "100%", "null"]),
    ("description>front", ["web", "null"]),
    ("description>=FRONT", ["web-1", "web", "null"]),
    ("description<B", ["db_1", "100%"]),
    ("description<=back", ["db_1", "dba", "100%"]),
    ("description is null", ["Web-2", "a=b", "=b", "c:\\x", "pad ", " lead", "café", "区域"]),
    ("description is null, whatever follows", ["Web-2", "a=b", "=b", "c:\\x", "pad ", " lead", "café", "区域"]),
    ("description not null", ["web-1", "web", "db_1", "dba", "100%", "null"]),
    ("name is null", []),
)


@BOTH
@each(("condition", "found"), TEXT)
async def test_a_condition_on_text_finds_what_mysql_would(mock, condition, found):
    assert sorted(names(await mock.query("zones", condition))) == sorted(found)


def test_the_table_has_every_operator():
    assert {read_condition(condition, Dialect(SERVER)).sign for condition, _ in TEXT} == OPERATORS.keys()


@pytest.mark.parametrize("sign", OPERATORS)
def test_no_operator_is_shadowed_by_one_that_it_contains(sign):
    condition = read_condition(f"name{sign if sign.isascii() and not sign.endswith('null') else ' ' + sign}x", Dialect(SERVER))
    assert (condition.path, condition.sign, condition.value) == (("name",), sign, "x")


@pytest.mark.parametrize(
    ("text", "sign", "value"), (("a>=b=c", ">=", "b=c"), ("a=b=c", "=", "b=c"), ("a~=b?=c", "~=", "b?=c"), ("a==x", "=", "=x"))
)
def test_the_first_operator_of_the_list_that_stands_anywhere_counts(text, sign, value):
    condition = read_condition(text, Dialect(MANUAL))
    assert (condition.field, condition.sign, condition.value) == ("a", sign, value)


@pytest.mark.parametrize(
    ("dialect", "condition", "found"),
    (
        (MANUAL, "name=null", []),
        (SERVER, "name=null", ["null"]),
        (MANUAL, "description=null", ["Web-2", "a=b", "=b", "c:\\x", "pad ", " lead", "café", "区域"]),
        (SERVER, "description=null", ["null"]),
        (MANUAL, "description!=null", ["web-1", "web", "db_1", "dba", "100%", "null"]),
        (SERVER, "description!=null", ["web-1", "web", "db_1", "dba", "100%"]),
        (SERVER, "name= lead", [" lead"]),
        (SERVER, "name =web", ["web"]),
        (SERVER, "name = web", []),
        (SERVER, "description= ", ["db_1"]),
    ),
)
async def test_where_the_dialects_read_a_condition_differently(mock, condition, found):
    assert sorted(names(await mock.query("zones", condition))) == sorted(found)


@BOTH
@each(
    ("collection", "condition", "found"),
    (
        ("instance-offerings", "cpuNum=2", "two"),
        ("instance-offerings", "cpuNum=2.0", "two"),
        ("instance-offerings", "cpuNum=2abc", "two"),
        ("instance-offerings", "cpuNum!=2", "one sixteen"),
        ("instance-offerings", "cpuNum>2", "sixteen"),
        ("instance-offerings", "cpuNum>=2", "sixteen two"),
        ("instance-offerings", "cpuNum<16", "one two"),
        ("instance-offerings", "cpuNum<=1", "one"),
        ("instance-offerings", "cpuNum>abc", "one sixteen two"),
        ("instance-offerings", "cpuNum<", ""),
        ("instance-offerings", "cpuNum>-1", "one sixteen two"),
        ("instance-offerings", "cpuNum?=2,16", "sixteen two"),
        ("instance-offerings", "cpuNum!?=2,16", "one"),
        ("instance-offerings", "cpuNum~=1%", "one sixteen"),
        ("instance-offerings", "cpuNum!~=1%", "two"),
        ("instance-offerings", "memorySize=1e3", "one"),
        ("instance-offerings", "memorySize>2000", "sixteen two"),
        ("instance-offerings", f"memorySize={(1 << 53) + 1}", "sixteen"),
        ("volumes", "deviceId=0", "root"),
        ("volumes", "deviceId!=0", "data"),
        ("volumes", "deviceId<5", "data root"),
        ("volumes", "deviceId!?=0,1", "data"),
        ("volumes", "deviceId is null", "loose"),
        ("volumes", "deviceId not null", "data root"),
        ("volumes", "isShareable=true", "data"),
        ("volumes", "isShareable=FALSE", "loose root"),
        ("volumes", "isShareable!=true", "loose root"),
        ("volumes", "isShareable?=true,false", "data loose root"),
        ("l3-networks", "dns=8.8.8.8", "l3-a"),
        ("l3-networks", "dns?=8.8.8.8,1.1.1.1", "l3-a l3-b"),
        ("l3-networks", "dns!=1.1.1.1", "l3-a"),
        ("primary-storage", f"attachedClusterUuids={named('cluster-a').upper()}", "ps-a"),
        ("primary-storage", f"attachedClusterUuids={named('cluster-b')}", ""),
    ),
)  # fmt: skip
async def test_numbers_booleans_and_lists_are_compared_as_what_they_are(mock, collection, condition, found):
    assert sorted(names(await mock.query(collection, condition))) == found.split()


@BOTH
@each(
    ("condition", "found"),
    (
        ("createDate=2030-01-02 03:00:00", "second"),
        ("createDate!=2030-01-02 03:00:00", "first third"),
        ("createDate>2030-01-02 03:00:00", "third"),
        ("createDate>=2030-01-02T03:00:00", "second third"),
        ("createDate<2030-01-02", "first"),
        ("createDate=2030-01-03", "third"),
        ("createDate>2030-01-02 02:59:59.999", "second third"),
        ("createDate?=2030-01-02 03:00:00,2030-01-03", "second third"),
        ("createDate~=2030-01-02%", "second"),
        ("createDate not null", "first second third"),
    ),
)
async def test_a_date_is_written_as_mysql_has_it_in_the_time_of_the_cloud(three, condition, found):
    assert sorted(names(await three().query("zones", condition))) == found.split()


@pytest.fixture
async def three(dialect):
    """A function that gives a mock with three zones, which no reset takes away."""
    async with three_zones(dialect) as mock:
        yield lambda: mock


@contextlib.asynccontextmanager
async def three_zones(dialect):
    """A mock with three zones of 2030, 8 hours ahead of UTC."""
    async with serve(cloud="empty", dialect=dialect) as mock:
        for name, stamp in (("first", "2030-01-01 00:00:00"), ("second", "2030-01-02 03:00:00"), ("third", "2030-01-03 00:00:00")):
            await mock.advance(mock.clock.date_of_stamp(stamp) - mock.clock.now())
            mock.session = None
            await mock.create("CreateZone", name=name)
        yield mock


async def test_the_manual_reads_dates_as_answers_show_them_and_in_iso_8601():
    table = (
        ("createDate>Jan 2, 2030 3:00:00 AM", "third"),
        ("createDate=Jan 2, 2030 3:00:00 AM", "second"),
        ("createDate>=Jan 2, 2030", "second third"),
        ("createDate?=Jan 2, 2030 3:00:00 AM,Jan 3, 2030", "second third"),
        ("createDate!?=Jan 1, 2030,2030-01-03", "second"),
        ("createDate=2030-01-01T19:00:00Z", "second"),
        ("createDate=2030-01-01T19:00:00.000Z", "second"),
        ("createDate=2030-01-02T04:00:00+09:00", "second"),
        ("createDate=2030-01-02T04:00:00 09:00", "second"),
        ("createDate=2030-01-01T14:00:00-0500", "second"),
        ("createDate>2030-01-02T03:00", "third"),
        ("createDate>=20300102T030000", "second third"),
    )
    async with three_zones(MANUAL) as mock:
        shown = {zone["name"]: zone["createDate"] for zone in await mock.query("zones")}
        table += tuple((f"createDate={date}", name) for name, date in shown.items())
        found = {condition: sorted(names(await mock.query("zones", condition))) for condition, _ in table}
    assert found == {condition: told.split() for condition, told in table}


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_a_date_means_the_same_in_each_way_of_writing_it(moment, minutes):
    stamp, offset = moment.isoformat(" ", "seconds")[:19], timezone(timedelta(minutes=minutes))
    elsewhere = moment.replace(tzinfo=UTC).astimezone(offset)
    for text in (stamp, us_date(stamp), moment.isoformat(), elsewhere.isoformat()):
        assert stamp_from(text) == stamp


NO_DATES = ("banana", "", "2030-13-01", "2030-02-30", "02/01/2030", "1893524400", "2030", "soon 2030-01-02", "Jan 2 2030", "2030-01-02T25:00:00Z")


async def test_the_manual_refuses_what_is_no_date(mock):
    for text, sign in itertools.product(NO_DATES, ("=", "!=", ">", "?=")):
        for condition in (f"createDate{sign}{text}", f"cluster.createDate{sign}{text}"):
            status, code, details = await error_of(mock, f"/zones?q={condition}")
            assert (status, code, repr(text) in details) == (400, "SYS.1007", True), condition
            assert f"write createDate{sign}2018-07-10 09:31:06" in await hint_of(mock, f"/zones?q={condition}")


@pytest.mark.parametrize("dialect", (SERVER,))
async def test_the_server_reads_what_is_no_date_of_mysql_as_the_zero_date_and_the_hint_says_so(mock):
    for text in ("banana", "", "Jan 2, 2030 3:00:00 AM", "2030-01-02T03:00:00Z"):
        assert len(await mock.query("zones", f"createDate>{text}")) == len(ZONES)
        assert "compares with the zero date" in await hint_of(mock, f"/zones?q=createDate>{text}")


async def test_conditions_are_all_satisfied(mock):
    assert names(await mock.query("zones", "name~=web%", "description not null", "state=Enabled")) == ["web-1"]
    assert await mock.query("zones", "name=web", "name=web-1") == []


@BOTH
@pytest.mark.parametrize(
    "query", ("q=name%3Dweb", "=name%3Dweb", "q=state%3DDisabled&=name%3Dweb", "q=name%3Dweb&whatever=x&sortBy=nothing")
)
async def test_conditions_come_as_q_or_without_a_name(mock, query):
    assert names((await ask(mock, f"/zones?{query}"))["inventories"]) == ["web"]


@pytest.mark.parametrize(("dialect", "found"), ((MANUAL, 1), (SERVER, len(ZONES))))
async def test_condition_is_q_in_the_manual_only(mock, found):
    assert len((await ask(mock, "/zones?condition=name%3Dweb"))["inventories"]) == found


@pytest.mark.parametrize(("dialect", "found"), ((MANUAL, 3), (SERVER, len(ZONES))))
async def test_a_percent_sign_as_it_is_is_one_in_the_manual_only(mock, found):
    assert len((await raw(mock, "/zones?q=name~=web%"))["inventories"]) == found


# sorting and paging

SORTED = "one two sixteen".split()


@BOTH
@each(
    ("query", "found"),
    (
        ("sort=cpuNum", SORTED),
        ("sort=+cpuNum", SORTED),
        ("sort=%2BcpuNum", SORTED),
        ("sort=%2B%2BcpuNum", SORTED),
        ("sort=%20cpuNum%20", SORTED),
        ("sort=-cpuNum", SORTED[::-1]),
        ("sort=--cpuNum", SORTED[::-1]),
        ("sort=-cpuNum&sort=cpuNum", SORTED[::-1]),
        ("sort=cpuNum&limit=2", SORTED[:2]),
        ("sort=cpuNum&limit=%2B2", SORTED[:2]),
        ("sort=cpuNum&limit=+2", SORTED[:2]),
        ("sort=cpuNum&limit=2&limit=x", SORTED[:2]),
        ("sort=-cpuNum&limit=2", SORTED[:0:-1]),
        ("sort=cpuNum&start=1", SORTED[1:]),
        ("sort=cpuNum&start=1&limit=1", SORTED[1:2]),
        ("sort=cpuNum&start=3", []),
        ("sort=cpuNum&limit=0", []),
        ("sort=cpuNum&q=cpuNum%3E1&limit=1", SORTED[1:2]),
        ("sort=", sorted(SORTED, key=named)),
        ("", sorted(SORTED, key=named)),
        ("limit=1", sorted(SORTED, key=named)[:1]),
    ),
)
async def test_what_is_found_is_sorted_and_paged(mock, query, found):
    assert names((await raw(mock, f"/instance-offerings?{query}"))["inventories"]) == found


@pytest.mark.parametrize(
    ("collection", "sort", "found"),
    (
        ("volumes", "deviceId", ["loose", "root", "data"]),
        ("volumes", "-deviceId", ["data", "root", "loose"]),
        ("volumes", "-name", ["root", "loose", "data"]),
        ("zones", "name", [" lead", "100%", "=b", "a=b", "c:\\x", "café", "dba", "db_1", "null", "pad ", "web", "web-1", "Web-2", "区域"]),
    ),
)
async def test_sorting_puts_nothing_first_and_text_in_the_order_of_mysql(mock, collection, sort, found):
    assert names((await ask(mock, f"/{collection}?sort={sort}"))["inventories"]) == found


@BOTH
@pytest.mark.parametrize(
    ("query", "keys", "total", "count"),
    (
        ("", {"inventories"}, None, 14),
        ("replyWithCount=true", {"inventories", "total"}, 14, 14),
        ("replyWithCount=TRUE&limit=2&start=13", {"inventories", "total"}, 14, 1),
        ("replyWithCount=yes", {"inventories"}, None, 14),
        ("replyWithCount=true&q=state%3DDisabled", {"inventories", "total"}, 1, 1),
        ("count=true", {"total"}, 14, 0),
        ("count=True&limit=2&start=5&replyWithCount=true", {"total"}, 14, 0),
        ("count=true&q=name%3Dnobody", {"total"}, 0, 0),
        ("count=1", {"inventories"}, None, 14),
    ),
)
async def test_what_is_found_can_be_counted(mock, dialect, query, keys, total, count):
    body = await ask(mock, f"/zones?{query}")
    assert body.keys() == keys | ({"schema"} if dialect == SERVER else set())
    assert (body.get("total"), len(body.get("inventories", ()))) == (total, count)


async def test_a_thousand_are_answered_unless_a_limit_says_otherwise(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(json.dumps({"zones": [{"name": f"z{n}"} for n in range(1003)]}))
    async with serve(cloud=str(path)) as mock:
        await mock.login()
        answers = [
            await ask(mock, f"/zones?replyWithCount=true&{query}") for query in ("", "start=1000", "limit=1003", "start=2&limit=1001")
        ]
    assert [len(answer["inventories"]) for answer in answers] == [1000, 3, 1003, 1001]
    assert {answer["total"] for answer in answers} == {1003}


@pytest.mark.parametrize(
    ("dialect", "fields", "keys"),
    (
        (MANUAL, "fields=name,uuid", {"name", "uuid"}),
        (SERVER, "fields=name,uuid", {"name", "uuid"}),
        (MANUAL, "fields=uuid&fields=name", {"name", "uuid"}),
        (SERVER, "fields=uuid&fields=name", {"uuid"}),
        (SERVER, "fields=%20name%20,name,%20uuid", {"name", "uuid"}),
        (MANUAL, "fields=name,description", {"name"}),
        (MANUAL, "fields=createDate", {"createDate"}),
    ),
)
async def test_fields_says_what_an_inventory_shows(mock, fields, keys):
    (zone,) = (await ask(mock, f"/zones?q=name%3DWeb-2&{fields}"))["inventories"]
    assert zone.keys() == keys


async def test_fields_leaves_out_what_is_embedded(mock):
    bodies = [await ask(mock, f"/vm-instances?q=name%3Done-nic&{fields}") for fields in ("", "fields=name,state")]
    whole, part = (body["inventories"][0] for body in bodies)
    assert [nic["ip"] for nic in whole["vmNics"]] == ["10.1.0.3"]
    assert part == {"name": "one-nic", "state": "Stopped"}


@pytest.mark.parametrize(("dialect", "found"), ((MANUAL, ["Running", "Stopped"]), (SERVER, ["Running", "Stopped", "Stopped"])))
async def test_group_by_gives_one_of_each_value_in_the_manual_only(mock, found):
    body = await ask(mock, "/vm-instances?groupBy=state&replyWithCount=true")
    assert sorted(vm["state"] for vm in body["inventories"]) == found
    assert body["total"] == len(found)


# one by its uuid


@BOTH
@pytest.mark.parametrize("query", ("", "?q=name%3Dnobody&fields=name&limit=0", "?q=nonsense&limit=x&sort=nothing&count=true"))
@pytest.mark.parametrize("uuid", (named("web"), named("web").upper()))
async def test_a_uuid_in_the_path_is_all_that_counts(mock, dialect, uuid, query):
    body = await ask(mock, f"/zones/{uuid}{query}")
    (zone,) = body["inventories"]
    assert (zone["name"], zone["description"]) == ("web", "Front end")
    assert body == {"inventories": [zone]} | (
        {"inventory": zone} if dialect == MANUAL else {"schema": {"inventories[0]": "org.zstack.header.zone.ZoneInventory"}}
    )


@BOTH
@pytest.mark.parametrize("uuid", (named("nobody"), "x", "%E5%8C%BA"))
async def test_a_uuid_that_nobody_has_gives_an_empty_list(mock, dialect, uuid):
    assert await ask(mock, f"/zones/{uuid}") == {"inventories": []} | ({"schema": {}} if dialect == SERVER else {})


@BOTH
async def test_a_count_takes_no_notice_of_what_sorts(mock):
    assert (await ask(mock, "/zones?count=true&sort=nothing&limit=1"))["total"] == len(ZONES)


# relations and tags


@BOTH
@each(
    ("collection", "conditions", "found"),
    (
        ("vm-instances", ("vmNics.ip=10.1.0.1",), "two-nics"),
        ("vm-instances", ("vmNics.ip~=10.1.0.%",), "one-nic two-nics"),
        ("vm-instances", ("vmNics.ip!=10.1.0.3",), "two-nics"),
        ("vm-instances", ("vmNics.ip!=10.1.0.1",), "one-nic two-nics"),
        ("vm-instances", ("vmNics.ip!~=10.1.%",), ""),
        ("vm-instances", ("vmNics.metaData is null",), "one-nic"),
        ("vm-instances", ("vmNics.uuid not null",), "one-nic two-nics"),
        ("vm-instances", ("vmNics.ip=10.1.0.1", f"vmNics.l3NetworkUuid={named('l3-b')}"), "two-nics"),
        ("vm-instances", ("vmNics.ip=10.1.0.1", "vmNics.ip=10.1.0.3"), ""),
        ("vm-instances", ("host.managementIp=10.0.0.2",), "one-nic"),
        ("vm-instances", ("vmNics.eip.vipIp=172.16.0.1",), "one-nic"),
        ("vm-instances", ("vmNics.eip.vip.l3Network.name=L3-B",), "one-nic"),
        ("vm-instances", ("zone.cluster.l2Network.l3Network.name=l3-a",), "one-nic two-nics"),
        ("vm-instances", ("zone.cluster.l2Network.l3Network.name=l3-b",), ""),
        ("vm-instances", ("vmNics.vmInstance.name=two-nics",), "two-nics"),
        ("vm-instances", ("vmNics.vmInstance.vmNics.vmInstance.vmNics.ip=10.1.0.2",), "two-nics"),
        ("vm-instances", ("zone.vmInstance.zone.vmInstance.name=no-nic",), "no-nic"),
        ("zones", ("vmInstance.vmNics.eip.name=eip",), "dba"),
        ("clusters", ("l2Network.type=L2VlanNetwork",), "cluster-a cluster-b"),
        ("clusters", ("primaryStorage.name=ps-a", "zone.name=web-1"), "cluster-a"),
        ("l2-networks", ("cluster.host.name~=host-_",), "l2-a"),
        ("hosts", ("cluster.zone.state!=Disabled",), "host-a host-b"),
        ("vm-instances", ("__userTag__=web",), "two-nics"),
        ("vm-instances", ("__userTag__?=DB,old",), "one-nic two-nics"),
        ("vm-instances", ("__userTag__~=o%",), "two-nics"),
        ("vm-instances", ("__userTag__=shanghai",), ""),
        ("vm-instances", ("__userTag__!=web",), "no-nic one-nic"),
        ("vm-instances", ("__userTag__!?=web,nothing",), "no-nic one-nic"),
        ("vm-instances", ("__userTag__!~=%b",), "no-nic"),
        ("vm-instances", ("__userTag__ not null",), "one-nic two-nics"),
        ("vm-instances", ("__userTag__ is null",), ""),
        ("vm-instances", ("__userTag__=web", "__userTag__=old"), "two-nics"),
        ("vm-instances", ("zone.__userTag__=Shanghai",), "two-nics"),
        ("vm-instances", ("vmNics.__systemTag__~=staticIp::%",), "one-nic"),
        ("vm-instances", ("vmNics.eip.vmNic.__systemTag__=STATICIP::l3::10.1.0.3",), "one-nic"),
        ("hosts", ("hypervisorType=KVM", "sshPort=22", "username=root"), "host-a"),
        ("l2-networks", ("vlan>5", "type=L2VlanNetwork"), "l2-a"),
        ("images", ("backupStorageRefs.status=ready",), "image-both image-one"),
        ("images", ("backupStorageRefs.status!=Ready",), "image-both"),
        ("images", ("backupStorageRefs.installPath is null",), "image-both image-one"),
        ("images", ("backupStorageRefs.backupStorage.name=bs-a",), "image-both"),
        ("images", ("backupStorage.name=bs-b", "name=image-one"), "image-one"),
        ("images", ("backupStorage.zone.name=web-1",), "image-both"),
        ("backup-storage", ("image.name=image-one",), "bs-b"),
        ("l3-networks", ("networkServices.networkServiceType=DHCP",), "l3-b"),
        ("l3-networks", ("serviceProvider.type=flat",), "l3-b"),
        ("l3-networks", ("vmNic.vmInstance.state=Stopped", "ipRanges.startIp is null"), ""),
        ("vips", ("peerL3Network.l3NetworkUuid=" + named("l3-a"),), "vip"),
        ("vips", ("peerL3Network.l3Network.name=l3-b",), ""),
        ("vips", ("peerL3NetworkUuids?=" + named("l3-a"), "peerL3NetworkUuids not null"), "vip"),
        ("l3-networks", ("dns is null",), ""),
        ("vm-instances", ("vmNics.securityGroup.name!=x",), ""),
        ("vm-instances", ("uuid=" + named("one-nic"), "vmNics.eip.vip.l3Network.name=l3-b"), "one-nic"),
    ),
)  # fmt: skip
async def test_conditions_reach_through_relations_and_tags(mock, collection, conditions, found):
    assert sorted(names(await mock.query(collection, *conditions))) == found.split()


async def test_what_was_deleted_matches_no_more_and_what_was_destroyed_does(mock):
    await mock.delete("l2-networks", named("l2-a"))
    assert await mock.query("clusters", "l2Network.type=L2VlanNetwork") == []
    await mock.delete("vm-instances", named("no-nic"))
    assert names(await mock.query("zones", "vmInstance.state=Destroyed")) == ["web"]


@pytest.mark.parametrize("query", ("sort=-sshPort", "fields=name,sshPort", "q=sshPort%3C100"))
async def test_a_condition_on_the_type_makes_the_fields_of_the_subtype_legal(mock, query):
    assert names((await ask(mock, f"/hosts?q=hypervisorType%3DKVM&{query}"))["inventories"]) == ["host-a"]
    assert (await mock.request("GET", f"/hosts?{query}"))[0] == 400


@pytest.mark.parametrize("dialect", (SERVER,))
@pytest.mark.parametrize(("query", "java"), (
    ("", "org.zstack.kvm.KVMHostInventory"),
    ("&fields=name,hypervisorType", "org.zstack.header.host.HostInventory"),
    ("&fields=name&q=hypervisorType%3DKVM", "org.zstack.kvm.KVMHostInventory"),
    ("&fields=name&q=hypervisorType!%3DOther", "org.zstack.header.host.HostInventory"),
    ("&fields=name&q=uuid~%3D%25", "org.zstack.header.host.HostInventory"),
))  # fmt: skip
async def test_a_query_with_fields_answers_the_class_that_it_asks_for(mock, query, java):
    body = await ask(mock, f"/hosts?q=name%3Dhost-a{query}")
    assert len(body["inventories"]) == 1
    assert body["schema"] == {"inventories[0]": java}


@pytest.mark.parametrize("dialect", (SERVER,))
@pytest.mark.parametrize("fields", ("uuid,name", "name,state,status"))
async def test_what_fields_leaves_out_is_not_named(mock, fields):
    body = await ask(mock, f"/images?q=name%3Dimage-both&fields={fields}")
    assert body["schema"] == {"inventories[0]": "org.zstack.header.image.ImageInventory"}


# plans: what is looked at does not grow with what there is


class Watched:
    """The tables of a store that count the items that they hand out."""

    def __init__(self, store):
        self.store, self.handed = store, 0

    def __getattr__(self, name):
        def handing(*arguments):
            found = getattr(self.store, name)(*arguments)
            return map(self.hand, found) if name in ("find", "rows", "in_order") else found

        return handing

    def hand(self, item):
        self.handed += 1
        return item


def looked_at(size, *conditions):
    """How many items a query of virtual machines looks at in a cloud of that size, and how many it finds; {} are of one of them."""
    cloud = new_cloud(Settings(memory=True), CATALOGUE)
    fill(cloud, f"large:{size}")
    cloud.queries.tables = Watched(cloud.store)
    vm = cloud.find("VmInstance", "name", "vm-50")[0]
    known = vm | {"ip": cloud.find("VmNic", "vmInstanceUuid", vm["uuid"])[0]["ip"]}
    query, _ = read_query([("q", text.format(**known)) for text in conditions], cloud.dialect)
    found = cloud.query(CATALOGUE.apis["QueryVmInstance"], query, cloud.queries)["inventories"]
    return cloud.queries.tables.handed, len(found)


@pytest.mark.parametrize(
    "conditions",
    (
        ("uuid={uuid}",), ("name={name}",), ("vmNics.ip={ip}",), ("vmNics.vmInstance.vmNics.ip={ip}",), ("rootVolume.uuid={rootVolumeUuid}",),
        ("state=Running", "name={name}"), ("uuid={uuid}", "vmNics.ip~=%.%"), ("name={name}", "host.vmInstance.state~=R%"),
        ("name={name}", "__userTag__!=x"), ("host.name=nobody",), ("vmNics.eip.vip.name=nothing",),
    ),
)  # fmt: skip
def test_a_query_that_an_index_answers_looks_at_as_many_items_whatever_the_size_of_the_cloud(conditions):
    few, many = looked_at(100, *conditions), looked_at(400, *conditions)
    assert few == many or conditions[-1].startswith("host.vmInstance")
    assert many[0] < 60


def test_a_condition_through_many_relations_looks_once_at_each_thing_on_its_way():
    cloud = new_cloud(Settings(memory=True), CATALOGUE)
    for n in range(30):
        cloud.add("Zone", uuid=named(f"z{n}"), name=f"z{n}")
        cloud.add("Cluster", name=f"c{n}", zoneUuid=named("z0"))
    cloud.queries.tables = Watched(cloud.store)
    text = "cluster.zone." * 9 + "name~=z%"
    query, _ = read_query([("q", f"uuid={named('z0')}"), ("q", text)], cloud.dialect)
    assert len(cloud.query(CATALOGUE.apis["QueryZone"], query, cloud.queries)["inventories"]) == 1
    assert cloud.queries.tables.handed < 3000


@pytest.mark.parametrize(("sort", "first"), (("sort=cpuNum", 1), ("sort=-cpuNum", -1)))
def test_what_sorts_equal_comes_by_uuid_however_it_was_found(sort, first):
    cloud = new_cloud(Settings(memory=True), CATALOGUE)
    for n in range(60):
        cloud.add("VmInstance", uuid=f"{n * 7 % 60:032x}", name=f"vm-{n}", cpuNum=1, hostUuid=named(f"host-{n % 3}"))
        cloud.add("Host", uuid=named(f"host-{n}"), name=f"host-{n}")
    hosts = ",".join(f"host-{n}" for n in (2, 0, 1))
    for conditions in ([], [("q", f"host.name?={hosts}")], [("q", "name~=vm%")]):
        query, _ = read_query([*conditions, ("sort", sort.partition("=")[2]), ("limit", "20")], cloud.dialect)
        found = [vm["uuid"] for vm in cloud.query(CATALOGUE.apis["QueryVmInstance"], query, cloud.queries)["inventories"]]
        assert found == sorted((f"{n:032x}" for n in range(60)), reverse=first < 0)[:20]


@BOTH
async def test_a_list_of_uuids_is_found_by_them(mock):
    wanted = ",".join(named(name) for name in ("two-nics", "no-nic", "nobody"))
    assert sorted(names(await mock.query("vm-instances", f"uuid?={wanted}"))) == ["no-nic", "two-nics"]
    asked = [("path", "/v1/zones"), ("q", f"uuid?={named('web')}"), ("q", "name!=x")]
    async with aiohttp.ClientSession() as http, http.get(f"{mock.base}/zmock/explain", params=asked) as answer:
        assert [row["index"] for row in (await answer.json())["conditions"]] == ["Zone.uuid", None]


async def test_what_is_grouped_is_counted_as_it_is_listed_and_stands_for_its_group_by_uuid(mock):
    body = await ask(mock, "/zones?groupBy=state&replyWithCount=true&sort=-name")
    assert body["total"] == (await ask(mock, "/zones?groupBy=state&count=true"))["total"] == len(body["inventories"]) == 2
    first = {state: min(zone["uuid"] for zone in await mock.query("zones", f"state={state}")) for state in ("Enabled", "Disabled")}
    assert {zone["state"]: zone["uuid"] for zone in body["inventories"]} == first


# mistakes

ZONE_CLASS = "class org.zstack.header.zone.ZoneInventory"
KNOWN = "[[!=, >=, <=, !?=, !~=, ~=, ?=, =, >, <, is null, not null]]"
NO_OPERATOR = "Invalid query parameter. The '{}' in the parameter[q] doesn't contain any query operator. Valid query operators are " + KNOWN
NO_PAIR = "Invalid query parameter. The '{}' in parameter[q] is not a key-value pair split by ="
NO_NUMBER = "Invalid query parameter. '{}' must be an integer"


def no_field(name, java="zone.Zone"):
    return f"inventory class[class org.zstack.header.{java}Inventory] not having field[{name}]"


def no_relation(name, rest):
    return f"invalid nested query condition[{rest}] on {ZONE_CLASS},the expanded target[{ZONE_CLASS}] have no expanded query[{name}]"


def no_order(name):
    return f"invalid order by clause, inventory[ZoneInventory] doesn't have field[{name}]"


FRONT = {  # query: what the HTTP front end says, 400 in both dialects
    "q=abc": NO_OPERATOR.format("abc"),
    "q=": NO_OPERATOR.format(""),
    "q==abc": NO_PAIR.format("=abc"),
    "q=name%3Dweb&q=%3E5": NO_PAIR.format(">5"),
    **{f"limit={text}": NO_NUMBER.format("limit") for text in ("abc", "", "1.5", "2147483648", "1e3", "%C2%B2")},
    "start=abc": NO_NUMBER.format("start"),
}
FIELDS = {  # path: what the query engine says, 400 in the manual, 503 SYS.1000 on the server; None where its words are not known
    "/zones?q=foo=1": no_field("foo"),
    "/zones?q=Name=1": no_field("Name"),
    "/zones?q=name is not null": no_field("name is"),
    "/zones?q=name=x!=y": no_field("name=x"),
    "/zones?q=cluster.foo=1": no_field("foo", "cluster.Cluster"),
    "/zones?q=foo.bar=1": no_relation("foo", "bar"),
    "/zones?q=name.bar.baz=1": no_relation("name", "bar.baz"),
    "/zones?sort=foo": no_order("foo"),
    "/zones?sort=cluster.name": no_order("cluster.name"),
    **{
        f"/zones?fields=name,{name}": "inventory[${selfInventoryClass}] has no field[%s]" % name
        for name in ("foo", "__userTag__", "cluster", "")
    },
    "/hosts?fields=totalCpuCapacity": None,
    "/primary-storage?fields=attachedClusterUuids": None,
    "/hosts?q=sshPort=22": no_field("sshPort", "host.Host"),
    "/hosts?q=sshPort=22&q=hypervisorType!=KVM": no_field("sshPort", "host.Host"),
    "/l2-networks?q=vlan=10&q=type=l2vlannetwork": no_field("vlan", "network.l2.L2Network"),
    "/vm-instances?q=vmNics.l3Network.l2Network.vlan=10": no_field("vlan", "network.l2.L2Network"),
    "/vm-instances?q=internalId=1": no_field("internalId", "vm.VmInstance"),
    "/volumes?q=isShareable=yes": None,
    "/volumes?q=isShareable=1": None,
    "/zones?limit=-1": None,
    "/zones?start=-1": None,
}


async def hint_of(mock, path):
    """The hint that came with an answer, or nothing."""
    async with aiohttp.ClientSession() as http, http.get(mock.url + path, headers={"Authorization": f"OAuth {mock.session}"}) as answer:
        return answer.headers.get("X-ZMock-Hint", "")


async def error_of(mock, path):
    """Status, code and text of an error, in JSON or plain."""
    async with aiohttp.ClientSession() as http, http.get(mock.url + path, headers={"Authorization": f"OAuth {mock.session}"}) as answer:
        text = await answer.text()
        error = json.loads(text)["error"] if text.startswith("{") else {"code": None, "details": text}
        return answer.status, error["code"], error["details"]


@pytest.mark.parametrize(("dialect", "code"), ((MANUAL, "SYS.1007"), (SERVER, None)))
@each("query", FRONT)
async def test_what_is_no_query_is_refused_at_the_door(mock, code, query):
    assert await error_of(mock, f"/zones?{query}") == (400, code, FRONT[query])


@pytest.mark.parametrize(("dialect", "status", "code"), ((MANUAL, 400, "SYS.1007"), (SERVER, 503, "SYS.1000")))
@each("path", FIELDS)
async def test_what_cannot_be_queried_is_refused_in_the_servers_words(mock, status, code, path):
    told = await error_of(mock, path)
    assert told == (status, code, FIELDS[path] or told[2]) and told[2]


@BOTH
@pytest.mark.parametrize("path", ("/zones?q=name=it's", "/zones?q=cluster.name~='%25", "/zones?q=__userTag__~=%25s"))
async def test_what_breaks_the_servers_parser_is_an_internal_error(mock, path):
    status, code, details = await error_of(mock, path)
    assert (status, code, bool(details)) == (503, "SYS.1000", True)


@pytest.mark.parametrize("query", ("name = web", "name= web", "name =web", "name~= web%25"))
async def test_spaces_around_an_operator_are_a_mistake_in_the_manual(mock, query):
    status, code, details = await error_of(mock, f"/zones?q={query}")
    assert (status, code) == (400, "SYS.1007") and "spaces" in details


@each(
    ("path", "hint"),
    (
        ("/zones?q=nam=1", "did you mean name?"),
        ("/vm-instances?q=vmNic.ip=1", "did you mean vmNics?"),
        ("/zones?sort=createdate", "did you mean createDate?"),
        ("/zones?fields=desciption", "did you mean description?"),
        ("/zones?limt=5", "did you mean limit?"),
        ("/zones?q=name = web", "name=web"),
        ("/zones?q=name like web%25", "write name~=web%"),
        ("/zones?q=name not like web%25", "write name!~=web%"),
        ("/zones?q=name in web,dba", "write name?=web,dba"),
        ("/zones?q=name:web", "write name=web"),
        ("/zones?q=name <> web", "write name!=web"),
        ("/zones?q=description is not null", "write description not null"),
        ("/zones?q=description IS NULL", "write description is null"),
        ("/zones?q=__usertag__=web", "did you mean __userTag__?"),
        ("/hosts?q=username=root", "add q=hypervisorType=KVM"),
        ("/hosts?fields=totalCpuCapacity", "totalCpuCapacity may stand in q and sort"),
        ("/zones?sort=-name,uuid", "one field to sort by"),
        ("/vm-instances?sort=vmNics", "VmInstance has no field vmNics"),
        ("/volumes?q=isShareable=1", "write isShareable=true"),
        ("/zones?name=web", "write q=name=..."),
        ("/zones?offset=5", "write start"),
    ),
)
async def test_the_hint_names_the_nearest_right_name(mock, path, hint):
    assert hint in await hint_of(mock, path)


OTHER_LANGUAGES = (  # what people write, and what they would write here
    ("name ~= web%", "name~=web%"), ("name = web", "name=web"), ("name == web", "name=web"), ("name != web", "name!=web"),
    ("cpuNum >= 5", "cpuNum>=5"), ("state ?= Running", "state?=Running"), ("state !?= Running", "state!?=Running"),
    ("state in (Running)", "state?=Running"), ("state in ('Running', 'Stopped')", "state?=Running,Stopped"),
    ("state IN [Running,Stopped]", "state?=Running,Stopped"), ("state not in (Running)", "state!?=Running"), ("name = 'web'", "name=web"),
    ('name = "web"', "name=web"), ("name contains web", "name~=%web%"), ("cpuNum gt 5", "cpuNum>5"), ("cpuNum lte 5", "cpuNum<=5"),
    ("name eq web", "name=web"), ("name ne web", "name!=web"), ("name: web", "name=web"), ("host.name like web", "host.name~=web"),
    ("name=~web", "name~=web"), ("cpuNum=>5", "cpuNum>=5"), ("name===web", "name=web"), ("name!==web", "name!=web"),
)  # fmt: skip


@each(("text", "better"), OTHER_LANGUAGES)
def test_a_condition_of_another_language_is_said_in_this_one(text, better):
    assert hint_on_condition(text) == f"write {better}"
    assert hint_on_condition(better) == ""


async def hints_that_lack(mock, table):
    """The paths whose hints lack what a table says, and the hints that came."""
    told = [(path, hint, await hint_of(mock, path)) for path, hint in table]
    return [(path, came) for path, hint, came in told if hint not in came]


async def test_the_hint_says_what_a_condition_of_another_language_would_be_here(mock):
    table = [(f"/vm-instances?q={quote(text)}", f"write {better}") for text, better in OTHER_LANGUAGES]
    assert await hints_that_lack(mock, table) == []


READS_STRANGELY = (
    ("/zones?q=name~=we", "name~=we finds nothing: without % the whole text counts, write name~=%we%"),
    ("/zones?q=name==web", "write name=web"),
    ("/zones?q=name=web%25", "write name~=web%"),
    ("/zones?q=name=web*", "write name~=web%"),
    ("/zones?q=name!=web*", "excludes nothing: write name!~=web%"),
    ('/zones?q=name="web"', "write name=web"),
    ("/zones?q=name='web'", "write name=web"),
    ("/zones?q=name?=(web,dba)", "write name?=web,dba"),
    ("/zones?q=name?=web, dba", "the space before dba counts: write name?=web,dba"),
    ("/zones?q=name=web and state=Disabled", "write q=name=web&q=state=Disabled"),
    ("/zones?q=name=web%26%26state=Disabled", "write q=name=web&q=state=Disabled"),
    ("/zones?q=state=disable", "no Zone can have the state disable, did you mean Disabled?"),
    ("/zones?q=state!=Broken", "no Zone can have the state Broken: it is Enabled, Disabled"),
    ("/zones?q=state?=Enabled,Disbled", "no Zone can have the state Disbled, did you mean Disabled?"),
    ("/zones?q=cluster.host.state=enable", "no Host can have the state enable, did you mean Enabled?"),
    ("/vm-instances?q=state=runing", "no VmInstance can have the state runing, did you mean Running?"),
    ("/instance-offerings?q=cpuNum>abc", "cpuNum>abc compares with 0: 'abc' is no number"),
    ("/instance-offerings?q=cpuNum=2abc", "cpuNum=2abc compares with 2: '2abc' is no number"),
    ("/instance-offerings?q=cpuNum?=2,x", "compares with 0: 'x' is no number"),
    ("/instance-offerings?q=cpuNum=>2", "write cpuNum>=2"),
    ("/zones?q=createDate=2030-01-02", "2030-01-02 alone is midnight, write q=createDate>=2030-01-02 and q=createDate< the day after"),
    ("/zones?q=cluster=x", "Zone has no field cluster, it is a relation: write cluster.uuid=..."),
    ("/zones?pageSize=5", "write limit"),
    ("/zones?page_size=5", "write limit"),
    ("/zones?page=2", "write start and limit"),
    ("/zones?sortDirection=desc", "write sort=-name"),
    ("/zones?filter=name=x", "write q"),
    ("/zones?withTotal=true", "write replyWithCount=true"),
)  # fmt: skip


@BOTH
async def test_a_hint_says_how_a_legal_condition_is_read_where_its_writer_may_mean_another(mock):
    assert await hints_that_lack(mock, READS_STRANGELY) == []


READS_WELL = (
    "/zones", "/zones?q=name==b", "/zones?q=name~=web", "/zones?q=name=nobody", "/zones?q=name!=nobody", "/zones?q=name=100%25",
    "/zones?q=state=disabled", "/zones?q=state=Disabled ", "/zones?q=state~=Dis%25", "/zones?q=state>x", "/zones?q=name?=web,dba",
    "/zones?q=description is null", "/zones?q=createDate>2030-01-02", "/instance-offerings?q=cpuNum=2.0", "/volumes?q=isShareable=TRUE",
    "/instance-offerings?q=cpuNum~=9%25", "/vm-instances?q=vmNics.ip=10.1.0.99", "/zones?q=__userTag__=nobody", "/zones?q=name=a=b",
)  # fmt: skip


@BOTH
async def test_a_condition_that_says_what_it_means_gets_no_hint(mock):
    assert [(path, hint) for path in READS_WELL if (hint := await hint_of(mock, path))] == []


@pytest.mark.parametrize("dialect", (SERVER,))
async def test_a_hint_says_what_the_server_passes_over_of_the_manuals(mock):
    table = (
        ("/zones?condition=name=web", "the server does not read condition: write q"),
        ("/zones?groupBy=state", "the server does not read groupBy"),
        ("/zones?fields=uuid&fields=name", "the server reads the first fields only"),
    )
    assert await hints_that_lack(mock, table) == []


async def test_explain_and_wait_tell_the_same_hints(mock):
    asked = [("path", "/zones"), ("q", "state=disable"), ("q", "name=web")]
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{mock.base}/zmock/explain", params=asked) as answer:
            first, second = (await answer.json())["conditions"]
            assert "did you mean Disabled?" in first["hint"] and "hint" not in second
        async with http.get(f"{mock.base}/zmock/wait", params=[*asked, ("timeout", "0.01")]) as answer:
            assert (answer.status, "did you mean Disabled?" in (await answer.json())["hint"]) == (408, True)


@BOTH
async def test_a_query_needs_a_session(mock):
    mock.session = "wrong"
    for path in ("/zones", f"/zones/{named('web')}"):
        status, body = await mock.request("GET", path)
        assert (status, body["error"]["code"]) == (503, "ID.1001")


async def test_a_pattern_of_many_wildcards_does_not_hold_the_server_up():
    assert not like("%a" * 30 + "b")("A" * 2000) and like("%a" * 30 + "%")("A" * 2000)
    begin = time.process_time()
    assert not like("%a%a%a%a%a%b")("A" * 500_000) and not like("%_a" * 8 + "%b")("A" * 500_000)
    assert time.process_time() - begin < 1
    assert not like("%" + "a" * 30_000 + "b%")("A" * 900_000)


@given(st.text("ab%_\\", max_size=8), st.text("AB%_", max_size=8))
def test_a_pattern_fits_what_the_regular_expression_of_the_same_meaning_fits(pattern, text):
    meaning = {"%": ".*", "_": "."}
    parts = re.findall(r"\\.|.", pattern.upper(), re.S)
    expected = re.fullmatch("".join(meaning.get(part) or re.escape(part[-1]) for part in parts), text, re.S)
    assert bool(like(pattern)(text)) == bool(expected)


def fits(parts, text):
    """LIKE letter by letter: the plain reference of like()."""
    if not parts:
        return not text
    first, *rest = parts
    if first == "%":
        return any(fits(rest, text[start:]) for start in range(len(text) + 1))
    return bool(text) and (first == "_" or first[-1] == text[0]) and fits(rest, text[1:])


@given(st.text("ab%_\\é\n", max_size=8), st.text("AB%_\\E\n", max_size=8))
def test_a_pattern_fits_what_a_comparison_letter_by_letter_fits(pattern, text):
    parts = re.findall(r"\\.|.", pattern.upper().replace("É", "E"), re.S)
    assert bool(like(pattern)(text)) == fits(parts, text)
