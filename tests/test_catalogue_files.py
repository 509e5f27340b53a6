"""--catalogue FILE: rows that are added or replaced, who sees them, and how a wrong one stops the start."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from asking import ask_control, each_nth, exchange, outcome, read_settings

import zmock as module
from zmock import (
    CATALOGUE_FILE,
    TABLES,
    Catalogue,
    Mock,
    Settings,
    SettingsError,
    main,
    refuse_idle_rows,
    serve,
)

RECORDS = json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))
RACK = {
    "name": "Rack", "path": "racks", "java": "org.acme.rack.RackInventory", "owner": "caller",
    "fields": ["uuid", "name", "description", "state", "units:int", "zoneUuid", "createDate:date", "lastOpDate:date"],
    "relations": ["zone: zoneUuid=Zone.uuid"], "new": {"state": "Enabled"}, "values": {"state": ["Enabled", "Disabled"]}, "dies_with": ["zoneUuid"],
}  # fmt: skip
CREATE = {"name": "CreateRack", "call": "POST /racks", "answers": "inventory:Rack", "backing": "generic", "takes": ["name! <=255", "description", "zoneUuid! @Zone", "units:int 1..60 =42"]}
QUERY = {"name": "QueryRack", "call": "GET /racks", "answers": "inventories:Rack", "backing": "generic"}
CHANGE = {"name": "ChangeRackState", "call": "PUT /racks/{uuid}/actions", "answers": "inventory:Rack", "backing": "generic", "takes": ["uuid! @Rack", "stateEvent! {enable|disable}"],
          "refuses": [["stateEvent is 'enable' and state is Enabled", "SYS.1006", "rack[uuid:{uuid}] is {state}"]]}  # fmt: skip
DELETE = {"name": "DeleteRack", "call": "DELETE /racks/{uuid}", "backing": "generic", "takes": ["uuid! @Rack?"]}
RACKS = {"inventories": [RACK], "apis": [CREATE, QUERY, CHANGE, DELETE]}


def write(path, tables):
    path.write_text(tables if isinstance(tables, str) else json.dumps(tables), encoding="utf-8")
    return str(path)


@pytest.fixture
def racks(tmp_path):
    return write(tmp_path / "racks.json", RACKS)


def record(table, key):
    return next(row for row in RECORDS[table].values() if key in (row.get("name"), row.get("code"), row.get("type")))


# what is added


async def test_an_api_that_the_catalogue_lacks_is_made_called_queried_changed_and_deleted(racks):
    async with serve(catalogue=[racks]) as mock:
        await mock.login()
        zone = (await mock.query("zones"))[0]
        rack = await mock.create("CreateRack", name="r-1", zoneUuid=zone["uuid"])
        assert (rack["units"], rack["state"]) == (42, "Enabled")
        assert [row["uuid"] for row in await mock.query("racks", f"zone.name={zone['name']}")] == [rack["uuid"]]
        assert (await outcome(mock, "PUT", f"/racks/{rack['uuid']}/actions", {"changeRackState": {"stateEvent": "enable"}}))[1]["error"]["details"] == f"rack[uuid:{rack['uuid']}] is Enabled"
        assert (await mock.act("racks", rack["uuid"], "changeRackState", stateEvent="disable"))["state"] == "Disabled"
        assert (await outcome(mock, "POST", "/racks", {"params": {"name": "r", "zoneUuid": zone["uuid"], "units": 61}}))[0] == 400
        await mock.delete("zones", zone["uuid"])
        assert await mock.query("racks") == []


async def test_everything_that_tells_of_apis_and_resources_tells_of_the_added_ones(racks):
    async with serve(catalogue=racks) as mock:
        await mock.login()
        queryable, apis, contract = [await ask_control(mock, "GET", path) for path in ("queryable/racks", "apis", "openapi.json")]
        assert "units" in json.dumps(queryable) and "CreateRack" in json.dumps(apis) and "/racks" in contract["paths"]
        mock.rule(api="CreateRack", then={"error": "SYS.1006", "details": "no"})
        status, body = await outcome(mock, "POST", "/racks", {"params": {"name": "r", "zoneUuid": (await mock.query("zones"))[0]["uuid"]}})
        assert (status, body["error"]["details"]) == (503, "no")


@pytest.mark.zmock(catalogue=[str(Path(__file__).parent / "nowhere.json")])
def test_a_marker_names_files_too(request):
    with pytest.raises(pytest.fail.Exception, match=r"zmock: .*nowhere.json is missing: --catalogue names a JSON file with rows"):
        request.getfixturevalue("zmock_server")


async def test_a_large_cloud_and_a_cloud_file_are_made_with_the_added_rows(racks, tmp_path):
    file = write(tmp_path / "cloud.json", {"zones": [{"name": "z"}], "racks": [{"name": "r", "zoneUuid": "@z", "units": 7}]})
    for cloud, count in ((file, 1), ("large:20", 0)):
        async with serve(catalogue=racks, cloud=cloud) as mock:
            await mock.login()
            assert len(await mock.query("racks")) == count


async def test_a_kept_folder_goes_on_with_the_added_types_and_is_refused_without_them(racks, tmp_path):
    folder = str(tmp_path / "cloud")
    async with serve(catalogue=racks, data=folder) as mock:
        await mock.login()
        await mock.create("CreateRack", name="r-1", zoneUuid=(await mock.query("zones"))[0]["uuid"])
    with pytest.raises(SettingsError, match=r"Rack.json is not a file of a cloud; .*--catalogue") as error:
        Mock(Settings(data=folder, port=0))
    assert "\n" not in str(error.value)
    async with serve(catalogue=racks, data=folder) as mock:
        await mock.login()
        assert [row["name"] for row in await mock.query("racks")] == ["r-1"]


# what is replaced


async def test_a_row_of_a_file_replaces_the_one_of_its_name_and_the_later_file_wins(tmp_path):
    zone = record("apis", "CreateZone")
    first = write(tmp_path / "1.json", {"apis": [zone | {"takes": ["name! <=5", "description"]}], "errors": [{"code": "SYS.1007", "description": "mine"}]})
    second = write(tmp_path / "2.json", {"apis": {"7": zone | {"takes": ["name! <=3", "description"]}}})
    for files, too_long in (([first], "z23456"), ([first, second], "z234"), ([second, first], "z23456")):
        async with serve(catalogue=files) as mock:
            await mock.login()
            await mock.create("CreateZone", name=too_long[:-1])
            status, body = await mock.request("POST", "/zones", {"params": {"name": too_long}})
            assert (status, body["error"]["description"]) == (400, "mine")


async def test_a_mock_without_the_flag_shares_the_one_catalogue_and_knows_nothing_of_a_file(racks):
    async with serve() as plain, serve(catalogue=racks) as other, serve(catalogue=racks) as third:
        assert plain.cloud.catalogue is module.catalogue() and "CreateRack" not in plain.cloud.catalogue.apis
        assert other.cloud.catalogue is third.cloud.catalogue is not plain.cloud.catalogue


async def test_an_added_api_without_backing_answers_501_and_says_what_its_row_lacks(tmp_path):
    file = write(tmp_path / "mine.json", {"inventories": [RACK], "apis": [without(CREATE, "backing")]})
    async with serve(catalogue=file) as mock:
        await mock.login()
        status, headers, _ = await exchange(mock, "POST /zstack/v1/racks", {"params": {"name": "r"}})
        assert (status, headers["x-zmock-hint"]) == (501, f'its row in {file} needs "backing": "generic"')
        with pytest.raises(AssertionError, match="no simulated API queries racks"):
            await ask_control(mock, "GET", "objects/racks")


def test_a_file_that_has_changed_is_read_anew(racks):
    assert "CreateRack" in module.catalogue([racks]).apis
    write(Path(racks), {"apis": [], "enums": []})
    assert "CreateRack" not in module.catalogue([racks]).apis


def test_a_file_may_begin_with_a_bom_and_be_numbered_as_tinydb_numbers_it(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"inventories": {"1": RACK}, "apis": {"1": CREATE, "9": QUERY}}), encoding="utf-8-sig")
    assert {"CreateRack", "QueryRack"} <= module.catalogue([tmp_path / "c.json"]).apis.keys()


def test_variables_name_files_and_flags_replace_them(tmp_path):
    settings = read_settings([], {"ZMOCK_CATALOGUE": "a.json:b.json"})
    assert settings.catalogue == ("a.json", "b.json")
    assert read_settings(["--catalogue", "c", "--catalogue", "d"], {"ZMOCK_CATALOGUE": "a"}).catalogue == ("c", "d")


# what is refused


def api(**changes):
    return {"inventories": [RACK], "apis": [CREATE | changes]}


def resource(**changes):
    return {"inventories": [RACK | changes]}


def without(row, key):
    return {name: value for name, value in row.items() if name != key}


HOSTNAME = record("apis", "SetVmHostname")
BARE = ["name", "zoneUuid", "state"]  # the fields of a rack without a uuid
NUMA = record("configurations", "vm/numa")
WRONG = {  # a file, and what the start says of it besides the file
    "no JSON": ("{", "is not a catalogue (Expecting"),
    "a list": ("[]", "is not a catalogue (no JSON object of tables)"),
    "nothing": ("", "is not a catalogue"),
    "a number that is none": ('{"apis": [NaN]}', "a row is a JSON object, not NaN"),
    "a table that is none": ({"api": [CREATE]}, "there is no table 'api', did you mean apis?"),
    "a table of a wrong type": ({"apis": 5}, "apis is no table"),
    "a row that is none": ({"apis": ["CreateRack"]}, "apis, row 1: a row is a JSON object, not \"CreateRack\""),
    "a row without a name": ({"apis": [CREATE, without(QUERY, "name")]}, "apis, row 2: name is missing"),
    "a row with an empty name": (api(name=""), "name: '' is not words with capitals"),
    "a row without a method": ({"apis": [without(CREATE, "call")]}, "apis, CreateRack: call is missing"),
    "a configuration without a name": ({"configurations": [{"value": "bool"}]}, "name is missing"),
    "an error without a description": ({"errors": [{"code": "ACME.1000"}]}, "errors, ACME.1000: description is missing"),
    "a resource without fields": ({"structs": [{"name": "Leg", "java": "org.acme.Leg"}]}, "structs, Leg: fields is missing"),
    "two rows of a name": ({"apis": [QUERY, QUERY]}, "apis, QueryRack: a row of this name stands above"),
    "an unknown key": (api(take=["name!"]), "apis, CreateRack: there is no key 'take', did you mean takes?"),
    "an unknown key of a resource": (resource(field=["uuid"]), "inventories, Rack: there is no key 'field', did you mean fields?"),
    "text for a list": (api(takes="name!"), 'takes is a list of texts, not "name!"'),
    "text for true": (api(open="yes"), 'open is true or false, not "yes"'),
    "null for a text": (api(answers=None), "answers is a text, not null"),
    "a number for a text": (api(call=5), "call is a text, not 5"),
    "a list for an object": (resource(new=["state"]), 'new is an object, not ["state"]'),
    "an object for a list": (resource(fields={"uuid": "str"}), "fields is a list of texts"),
    "a method that is none": (api(call="PSOT /racks"), "call: 'PSOT /racks' is not a method and a path, such as GET /zones"),
    "a path that is none": (api(call="POST racks"), "is not a method and a path"),
    "a path with an open brace": (api(call="POST /racks/{uuid"), "is not a method and a path"),
    "a variable that no parameter has": (api(call="POST /zones/{zonUuid}/racks"), "there is no parameter 'zonUuid', did you mean zoneUuid?"),
    "a name that is none": (api(name="createRack"), "name: 'createRack' is not words with capitals"),
    "an answer that is none": (api(answers="inventory:Rak"), "there is no resource 'Rak', did you mean Rack?"),
    "a query without a resource": ({"inventories": [RACK], "apis": [QUERY | {"answers": "racks"}]}, "a query answers inventories of a resource"),
    "a backing that is none": (api(backing="genric"), "there is no backing 'genric', did you mean generic?"),
    "a type that is none": (api(takes=["name:strng!", "zoneUuid @Zone"]), "'name:strng!' is no name with a type, did you mean str?"),
    "a constraint that is none": (api(takes=["name! nonempt"]), "'nonempt' is no constraint, did you mean nonempty?"),
    "a regex that is none": (api(takes=["name! /(/"]), "apis, CreateRack: missing )"),
    "a default that is not legal": (api(takes=["name!", "units:int 1..60 =61"]), "units: its default '61' is not legal"),
    "a default of another type": (api(takes=["name!", "units:int =many"]), "units: its default 'many' is not legal"),
    "a parameter twice": (api(takes=["name!", "name"]), "takes names name twice"),
    "a reference to nothing": (api(takes=["name!", "zoneUuid! @Zonee"]), "there is no resource 'Zonee', did you mean Zone?"),
    "a refusal that is short": (api(refuses=[["name"]]), "a refusal is a condition, an error code and a text"),
    "a refusal without a condition": (api(refuses=[["", "SYS.1006", "no"]]), "a refusal is a condition, an error code and a text"),
    "a refusal of another word": (api(refuses=[["name", "SYS.1006", "no", "jobs"]]), "a refusal is a condition, an error code and a text"),
    "a refusal with more texts than codes": (api(refuses=[["name", "SYS.1006 <- SYS.1007", "a <- b <- c"]]), "it has more texts than error codes"),
    "a condition with a typo": (api(refuses=[["zoneUuid.stat is Disabled", "SYS.1006", "no"]]), "nothing in zoneUuid.stat has a field stat, did you mean state?"),
    "a code that is none": (api(refuses=[["name", "SYS.106", "no"]]), "there is no error code 'SYS.106', did you mean SYS.1016?"),
    "a sentence with a typo": (api(refuses=[["name", "SYS.1006", "no {nam}"]]), "there is no parameter or field nam, did you mean name?"),
    "an effect with a typo": (api(does=["whn name: nothing"]), "there is no effect 'whn name: nothing', did you mean when?"),
    "an effect on an unknown field": (api(does=["unit = 5"]), "there is no parameter or field unit, did you mean units?"),
    "a when without effect": (api(does=["when name"]), "it is written when CONDITION: EFFECT"),
    "an each without effect": (api(does=["each Zone uuid"]), "there is no effect ''"),
    "an each of nothing": (api(does=["each Zoo name: remove"]), "there is no resource 'Zoo'"),
    "a name in a value that is none": (api(always={"a": "{nam}"}), "there is no parameter or field nam"),
    "a tag with a typo": ({"apis": [HOSTNAME | {"does": ["tag hostname::{hostnam}"]}]}, "apis, SetVmHostname: 'tag hostname::{hostnam}': there is no parameter or field hostnam, did you mean hostname?"),
    "a stage without sentence": (api(does=["stage copy"]), "it is written stage NAME: SENTENCE"),
    "a wrapper code that is none": (api(fails="SYS.9"), "there is no error code 'SYS.9'"),
    "an api that nothing does": ({"apis": [{"name": "PaintRack", "call": "PUT /racks", "backing": "generic"}]}, "apis, PaintRack: nothing does its calls"),
    "an api whose path another has": ({"inventories": [RACK], "apis": [QUERY, QUERY | {"name": "QueryShelf"}]}, "is GET /racks already"),
    "an api whose path the catalogue has": ({"apis": [record("apis", "QueryZone") | {"name": "QueryArea"}]}, "apis, QueryArea: QueryZone is GET /zones already"),
    "a query of a struct": ({"structs": [{"name": "Leg", "java": "org.acme.Leg", "fields": ["name"]}], "apis": [{"name": "QueryLeg", "call": "GET /legs", "answers": "inventories:Leg"}]}, "apis, QueryLeg: there is no resource 'Leg'"),
    "a query of an enum": ({"apis": [{"name": "QueryLongJobState", "call": "GET /states", "answers": "inventories:LongJobState"}]}, "apis, QueryLongJobState: there is no resource 'LongJobState'"),
    "an element that a field has twice": (resource(ends=["when repeated name: remove"]), "there is no parameter 'name'"),
    **{f"an effect without an object: {does}": ({"inventories": [RACK], "apis": [{"name": "ResetRacks", "call": "PUT /racks/actions", "answers": "inventory:Rack", "backing": "generic", "takes": ["name"], "does": [does]}]},
       "apis, ResetRacks: no parameter names the object that it acts on") for does in ("name = 'x'", "tag a::b", "untag a::", "remove", "stage go: Go", "when name: remove")},
    "the other object itself": (api(does=["when some Zone name: name = other"]), "there is no parameter or field other"),
    "a field of a date": (api(does=["name = now.name"]), "nothing in now.name has a field name"),
    "a caller where no call is": (resource(ends=["when no name: drop Zone name=caller.name"]), "only rows of APIs may name the caller"),
    "a user where no call is": (resource(ends=["each Zone name: name = login"]), "only rows of APIs may name the login"),
    "an api whose path a query by uuid has": ({"apis": [{"name": "GetArea", "call": "GET /zones/{zoneUuid}", "takes": ["zoneUuid! @Zone"]}]}, "apis, GetArea: QueryZone is GET /zones/{zoneUuid} already"),
    "a query by uuid whose path another has": ({"inventories": [RACK], "apis": [{"name": "GetRack", "call": "GET /racks/{rackUuid}", "takes": ["rackUuid! @Rack"]}, QUERY]}, "apis, GetRack: QueryRack is GET /racks/{rackUuid} already"),
    "an api whose path polls have": (api(call="POST /api-jobs/{zoneUuid}"), "apis, CreateRack: polls of api-jobs have the paths below /api-jobs already"),
    "a type that is none, of an api without an answer": ({"apis": [DELETE | {"takes": ["uuid:strng!"]}]}, "apis, DeleteRack: 'uuid:strng!' is no name with a type, did you mean str?"),
    "an api of the 501 with a wrong parameter": (api(backing="none", takes=["name:strng"]), "is no name with a type"),
    "a parameter with a type of global configurations": (api(takes=["name!", "room:size", "zoneUuid @Zone"]), "apis, CreateRack: there is no type of room, 'size'"),
    "a field with a type of global configurations": (resource(fields=["uuid", "name", "room:size"]), "inventories, Rack: there is no type of room, 'size'"),
    "a field of any type": (resource(fields=["uuid", "name", "room:any"]), "inventories, Rack: there is no type of room, 'any'"),
    "a struct with a type of global configurations": ({"structs": [{"name": "Leg", "java": "org.acme.Leg", "fields": ["site:url"]}]}, "structs, Leg: there is no type of site, 'url'"),
    "a field of no type": (resource(fields=["uuid", "name", "units:itn"]), "there is no type of units, 'itn', did you mean int?"),
    "a field with a space": (resource(fields=["uuid", "my name"]), "fields: 'my name' is not a name, or a name with a type as cpuNum:int"),
    "a start value of no field": (resource(new={"stat": "Enabled"}), "there is no field 'stat', did you mean state?"),
    "values of no field": (resource(values={"stat": ["a"]}), "there is no field 'stat', did you mean state?"),
    "values that are no list": (resource(values={"state": "Enabled"}), "values is an object of lists of texts"),
    "a name of two lines": ({"structs": [{"name": "Leg\nArm", "java": "org.acme.Leg", "fields": ["uuid:x"]}]}, "structs, Leg Arm: there is no type of uuid, 'x'"),
    "a relation with a typo": (resource(relations=["zone zoneUuid=Zone.uuid"]), "is not a relation such as"),
    "a relation to nothing": (resource(relations=["zone: zoneUuid=Zoen.uuid"]), "there is no resource 'Zoen', did you mean Zone?"),
    "a relation to no field": (resource(relations=["zone: zoneUuid=Zone.uid"]), "there is no field of Zone 'uid', did you mean uuid?"),
    "a relation from no field": (resource(relations=["zone: zonUuid=Zone.uuid"]), "there is no field 'zonUuid', did you mean zoneUuid?"),
    "an index on no field": (resource(indexed=["unit"]), "there is no field 'unit', did you mean units?"),
    "an owner that is none": (resource(owner="zonUuid"), "zonUuid', did you mean zoneUuid?"),
    "a subtype of nothing": (resource(of="Zoen"), "there is no resource 'Zoen', did you mean Zone?"),
    "a subtype above its type": ({"inventories": [RACK | {"name": "IronRack", "of": "Rack", "path": "iron"}, RACK]}, "the row Rack stands below"),
    "a subtype that says not which": (resource(of="Host"), "only says which Host it is"),
    "a place that is none": (resource(inside="zoneUuid"), "inside: 'zoneUuid' is not a place such as"),
    "a member of no class": (resource(holds=["legs:[Leg]"]), "it holds legs:[Leg], which is no class"),
    "a configuration with a wrong default": ({"configurations": [NUMA | {"default": "maybe"}]}, "its default is illegal: GlobalConfig[category:vm, name:numa]'s value[maybe] is not a valid boolean string[true, false]."),
    "a configuration with a sentence for no problem": ({"configurations": [NUMA | {"refuses": {"lest": "no"}}]}, "there is no problem 'lest', did you mean least?"),
    "a configuration with a wrong sentence": ({"configurations": [NUMA | {"refuses": {"least": "{vale} is less"}}]}, "there is no word 'vale', did you mean value?"),
    "a configuration without a category": ({"configurations": [{"name": "numa", "value": "bool", "default": "true"}]}, "name: 'numa' is not a category and a name"),
    "a quota of nothing": ({"quotas": [{"name": "vm.num", "type": "VmInstanc"}]}, "there is no resource 'VmInstanc', did you mean VmInstance?"),
    "a quota without a default": ({"quotas": [{"name": "rack.num", "type": "Zone"}]}, "there is no global configuration 'quota/rack.num'"),
    "a rule for tags of nothing": ({"tags": [{"type": "VmInstance", "tag": "a::{b}", "when": "b", "details": "no"}]}, "there is no type 'VmInstance', did you mean VmInstanceVO?"),
    "a rule for tags with a typo": ({"tags": [{"type": "VmInstanceVO", "tag": "a::{b}", "when": "c", "details": "no"}]}, "there is no parameter or field c"),
    "an error code of another form": ({"errors": [{"code": "sys-1", "description": "d"}]}, "code: 'sys-1' is not a code such as SYS.1006"),
    "a name that zmock uses": (resource(name="Job"), "inventories, Job: zmock uses the name Job itself; choose another"),
    "a name that stands for all": (resource(name="Resource"), "zmock uses the name Resource itself"),
    "a name that no file can have": (resource(name="R" * 300), "is not words with capitals"),
    "a collection of sessions": ({"inventories": [record("inventories", "Session") | {"path": "sessions"}]}, "inventories, Session: path: sessions have none"),
    "a path of another resource": (resource(path="zones"), "inventories, Rack: path: 'zones' is that of Zone"),
    "a query of another path": ({"inventories": [RACK | {"path": "a/b"}], "apis": [QUERY]}, "apis, QueryRack: it queries /racks, but the path of Rack is 'a/b'"),
    "a query of no path": ({"inventories": [without(RACK, "path")], "apis": [QUERY]}, "but the path of Rack is ''"),
    "a query of a class without objects": ({"structs": [{"name": "Leg", "java": "org.acme.Leg", "fields": ["uuid"]}], "apis": [QUERY | {"answers": "inventories:Leg"}]}, "there is no resource 'Leg'"),
    "a new object without uuid": ({"inventories": [RACK | {"fields": BARE}], "apis": [CREATE]}, "apis, CreateRack: the fields of Rack lack uuid"),
    "a query of a uuid that is not there": ({"inventories": [RACK | {"fields": BARE}], "apis": [QUERY | {"by_uuid": True}]}, "apis, QueryRack: the fields of Rack lack uuid"),
    "a resource of no fields": (resource(fields=[]), "inventories, Rack: fields is empty"),
    "a field twice": (resource(fields=[*RACK["fields"], "uuid"]), "fields names uuid twice"),
    "a field of a class twice": ({"structs": [{"name": "Leg", "java": "org.acme.Leg", "fields": ["uuid", "uuid"]}]}, "structs, Leg: fields names uuid twice"),
    "a relation twice": (resource(relations=["zone: zoneUuid=Zone.uuid", "zone: zoneUuid=Zone.uuid"]), "relations names zone twice"),
    "a name with a control character": ({"structs": [{"name": "\x1b[31m\u202e", "java": "org.acme.Leg"}]}, "structs, \\x1b[31m\\u202e: fields is missing"),
    "a key twice": ('{"apis": [{"name": "A", "name": "B"}]}', "the key 'name' is there twice in {\"name\": \"B\"}"),
    "a provider without services": ({"providers": [{"type": "Acme"}]}, "providers, Acme: services is missing"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", each_nth(8, WRONG))  # each of them reads the whole catalogue
def test_a_wrong_file_stops_the_start_with_one_line_that_names_file_row_and_the_nearest_right_thing(tmp_path, monkeypatch, capsys, mistake):
    async def run(mock):
        pytest.fail("it started")

    monkeypatch.setattr("zmock.run", run)
    tables, why = WRONG[mistake]
    file = write(tmp_path / "mine.json", tables)
    assert main(["--memory", "--port", "0", "--catalogue", file]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"zmock: [^\n]+\n", err) and file in err and why in err
    assert "Error(" not in err and err.strip().isprintable()


def test_a_second_query_has_a_path_of_its_own_and_a_subtype_may_repeat_the_fields_of_its_type(tmp_path):
    shelf = QUERY | {"name": "QueryShelf", "call": "GET /shelves"}
    iron = RACK | {"name": "IronRack", "of": "Rack", "path": "iron"}
    file = write(tmp_path / "mine.json", {"inventories": [RACK, iron], "apis": [QUERY, shelf]})
    assert {"QueryRack", "QueryShelf"} <= Catalogue(CATALOGUE_FILE, [file]).apis.keys()


def test_a_part_of_a_path_with_text_around_its_variable_goes_before_one_that_is_any_text(tmp_path):
    export = {"name": "GetRackFile", "call": "GET /racks/r-{units}.json", "takes": ["units! <=9"]}
    catalogue = Catalogue(CATALOGUE_FILE, [write(tmp_path / "mine.json", {"inventories": [RACK], "apis": [QUERY, export]})])
    parts = {"r-9.json": ("GetRackFile", "9"), "r-a\n.json": ("GetRackFile", "a\n")}
    parts |= {part: ("QueryRack", part) for part in ("9", "r-.json", "r-9xjson", "R-9.json", "r-9.json.", "a\n", "(.+)")}
    for part, (name, value) in parts.items():
        assert [(api.name, [*values.values()]) for api, values in catalogue.route(f"/racks/{part}")] == [(name, [value])], part
    assert catalogue.route("/racks/") == catalogue.route("/racks/r-9.json/") == []


def test_a_file_that_is_missing_and_a_flag_without_a_file_are_a_line(tmp_path, capsys):
    assert main(["--memory", "--catalogue", str(tmp_path / "none.json")]) == 2
    assert re.fullmatch(r"zmock: .*none.json is missing: --catalogue names a JSON file with rows\n", capsys.readouterr().err)
    assert main(["--memory", "--catalogue", str(tmp_path)]) == 2
    assert re.fullmatch(r"zmock: .* is not a catalogue .*\n", capsys.readouterr().err)


async def test_a_row_of_the_catalogue_that_a_replaced_one_breaks_tells_which_file_is_to_blame(tmp_path):
    zone = record("inventories", "Zone")
    file = write(tmp_path / "mine.json", {"inventories": [zone | {"fields": ["uuid", "name"], "values": {}, "new": {}, "needs": []}]})
    with pytest.raises(SettingsError) as error:
        Mock(Settings(memory=True, port=0, catalogue=(file,)))
    assert file in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("cloud", ("demo", "large:5"))
def test_rows_that_the_start_cloud_cannot_be_made_of_are_named(tmp_path, cloud):
    rows = [without(record("inventories", name), "path") for name in ("Cluster", "Image")]
    file = write(tmp_path / "mine.json", {"inventories": rows, "apis": [without(record("apis", "AddKVMHost"), "answers")]})
    try:
        module.create_app(Settings(memory=True, cloud=cloud, catalogue=(file,)))
    except SettingsError as error:
        assert file in str(error) and "\n" not in str(error)
    else:
        assert cloud != "demo"


def test_the_shipped_file_itself_says_which_table_it_lacks(tmp_path):
    file = write(tmp_path / "catalogue.json", {name: {} for name in TABLES if name != "enums"})
    with pytest.raises(SettingsError, match="the table enums is missing"):
        Catalogue(Path(file))


# rows with a value of each kind of JSON

VALUES = (None, True, 5, -1.5, "text", "", [], ["text"], [["text"]], {}, {"text": "text"}, {"text": ["text"]}, {"text": {}})


def mutants():
    """For each key of each table: a row of the catalogue that has it, with each kind of value in its place."""
    for table, records in RECORDS.items():
        keys = dict.fromkeys(key for row in records.values() for key in row)
        for key in keys:
            row = next(row for row in records.values() if key in row)
            for value in VALUES:
                yield table, row, key, value


@pytest.mark.parametrize(("first", "step"), [(0, 47), pytest.param(1, 3, marks=pytest.mark.slow)], ids=["some", "many"])
def test_a_row_with_a_value_of_any_kind_is_good_or_refused_in_a_line_that_names_it(tmp_path, first, step):
    seen, file = Counter(), tmp_path / "mine.json"
    for table, row, key, value in itertools.islice(mutants(), first, None, step):
        write(file, {table: [row | {key: value}]})
        try:
            refuse_idle_rows(Catalogue(CATALOGUE_FILE, [file]))
            seen["good"] += 1
        except SettingsError as error:
            told = str(error)
            names = [row[name] for name in ("content", "name", "code", "tag", "type", "namespace") if name in row and name != key]
            names += ["text", "row 1"] if key in ("name", "code", "type", "content") else []
            assert str(file) in told and any(name in told for name in names) and "\n" not in told and "Error(" not in told, (table, key, value, told)
            seen["refused"] += 1
    assert seen["good"] and seen["refused"] > 600 / step


def test_a_row_of_the_catalogue_given_again_changes_nothing(tmp_path):
    file = write(tmp_path / "same.json", RECORDS)
    plain, again = Catalogue(CATALOGUE_FILE), Catalogue(CATALOGUE_FILE, [file])
    assert [*plain.apis] == [*again.apis] and [*plain.resources] == [*again.resources]
    assert {name: row.all_fields for name, row in plain.resources.items()} == {name: row.all_fields for name, row in again.resources.items()}


def test_the_contract_is_printed_with_the_added_rows(racks, capsys, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    assert main(["openapi", "--catalogue", racks]) == 0
    paths = json.loads(capsys.readouterr().out)["paths"]
    assert {*paths["/racks"]} >= {"get", "post"} and "delete" in paths["/racks/{uuid}"]
