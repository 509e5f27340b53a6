"""The contract: it is valid OpenAPI, says what the rows say, and the running mock keeps it."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from asking import IMPORTABLE, PROGRAM, ROOT, outcome
from openapi_spec_validator import validate

from zmock import (
    CATALOGUE_FILE,
    UUID,
    Catalogue,
    Contract,
    Settings,
    ValueSpec,
    catalogue,
    main,
    new_cloud,
    param_schema,
    serve,
)

ALL = catalogue()


def contract(dialect="manual", rows=ALL):
    return Contract(new_cloud(Settings(memory=True, dialect=dialect), rows)).document("http://127.0.0.1:8080")


DOCUMENTS = {dialect: contract(dialect) for dialect in ("manual", "server")}
MANUAL, SERVER = DOCUMENTS["manual"], DOCUMENTS["server"]
OPERATIONS = {told["operationId"]: told | {"method": method, "path": path} for path, item in MANUAL["paths"].items() for method, told in item.items()}
SCHEMAS = MANUAL["components"]["schemas"]


def at(document, reference):
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


def references(value):
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else [ref for inner in value.values() for ref in references(inner)]
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def reached(paths):
    """The components that paths lead to, by their references."""
    components, ways = {}, [*references(paths)]
    while ways:
        way = ways.pop()
        kind, name = way.split("/")[2:]
        if name not in components.setdefault(kind, {}):
            components[kind][name] = MANUAL["components"][kind][name]
            ways += references(components[kind][name])
    return components


@pytest.mark.parametrize("step", (15, pytest.param(1, marks=pytest.mark.slow)), ids=("a fifteenth", "all"))
def test_it_is_valid_openapi(step):
    """A validator is slow: of all paths it sees each fifteenth with what that leads to, and all of them in `make slow`."""
    paths = dict([*MANUAL["paths"].items()][::step])
    components = MANUAL["components"] if step == 1 else MANUAL["components"] | {"schemas": {}} | reached(paths)
    validate(MANUAL | {"paths": paths, "components": components})


@pytest.mark.parametrize("dialect", DOCUMENTS)
def test_whatever_it_refers_to_is_there(dialect):
    document = DOCUMENTS[dialect]
    found = set(references(document))
    assert len(found) > 1000
    for reference in found:
        at(document, reference)


def test_all_893_apis_are_in_it_and_those_that_answer_501_say_so():
    described = {id: re.findall(r"(\w+): (?:Simulated|Not simulated)", told.get("description", "")) for id, told in OPERATIONS.items()}
    named = {name for names in described.values() for name in names}
    assert len(ALL.apis) == 893
    assert named == ALL.apis.keys()
    for id, names in described.items():
        assert ("501" in OPERATIONS[id]["responses"]) == any(name == "BatchQuery" or ALL.apis[name].backing == "none" for name in names), id


def test_every_verb_and_path_is_an_operation_of_its_own_name():
    assert len(OPERATIONS) == sum(len(item) for item in MANUAL["paths"].values())
    bare = [re.sub(r"\{\w+\}", "{}", path) for path in MANUAL["paths"]]
    assert len(bare) == len(set(bare))


def test_a_job_is_202_with_its_location_a_link_to_poll_and_a_callback():
    told = OPERATIONS["CreateVmInstance"]
    accepted = told["responses"]["202"]
    assert at(MANUAL, accepted["content"]["application/json"]["schema"]["$ref"])["required"] == ["location"]
    assert at(MANUAL, accepted["links"]["poll"]["$ref"]) == {"operationId": "PollJob", "parameters": {"uuid": "$request.header.X-Job-UUID"}}
    assert accepted["links"]["made"] == {"operationId": "QueryVmInstanceByUuid", "parameters": {"uuid": "$request.body#/params/resourceUuid"}}
    heard = told["callbacks"]["done"]["{$request.header.X-Web-Hook}"]["post"]
    assert [at(MANUAL, param["$ref"])["name"] for param in heard["parameters"]] == ["X-Job-UUID", "X-Job-Success"]
    assert {"$ref": "#/components/schemas/CreateVmInstanceResult"} in heard["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert "200" not in told["responses"]


def test_the_actions_of_one_path_are_one_operation_with_a_body_for_each():
    told = OPERATIONS["VmInstancesActions"]
    bodies = [ref["$ref"].rpartition("/")[2] for ref in told["requestBody"]["content"]["application/json"]["schema"]["oneOf"]]
    assert len(bodies) == 25 and "StartVmInstanceRequest" in bodies and "MigrateVmRequest" in bodies
    assert SCHEMAS["MigrateVmRequest"]["required"] == ["migrateVm"]
    assert SCHEMAS["MigrateVmRequest"]["additionalProperties"] is False
    assert told["path"] == "/vm-instances/{uuid}/actions"


def test_links_lead_to_operations_with_the_parameters_that_they_name():
    count = 0
    for told in [*OPERATIONS.values()]:
        for answer in told["responses"].values():
            for link in answer.get("links", {}).values():
                link = at(MANUAL, link["$ref"]) if "$ref" in link else link
                known = {param["name"] for param in OPERATIONS[link["operationId"]]["parameters"] if "name" in param}
                assert link["parameters"].keys() <= known
                count += 1
    assert count > 500


@pytest.mark.parametrize(
    ("text", "schema"),
    (
        ("name! <=255", {"type": "string", "maxLength": 255}),
        ("sshPort:int 1..65535 =22", {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535, "default": 22}),
        ("stateEvent! {enable|disable}", {"type": "string", "enum": ["enable", "disable"]}),
        ("hostname nonblank", {"type": "string", "pattern": r"\S"}),
        ("code /[a-z]{2}/", {"type": "string", "pattern": "^(?:[a-z]{2})$"}),
        ("uuids:list! nonempty", {"type": "array", "items": {"type": "string"}, "minItems": 1}),
        ("rules:maps! nonempty", {"type": "array", "items": {"type": "object"}, "minItems": 1}),
        ("certificateUuid nonempty", {"type": "string", "minLength": 1}),
        ("zoneUuid @Zone", {"type": "string", "description": "uuid of Zone"}),
        ("all:bool =true", {"type": "boolean", "default": True}),
        ("size:long 1..9", {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9}),
        ("data:map", {"type": "object"}),
    ),
)
def test_a_constraint_of_a_row_is_one_of_json_schema(text, schema):
    assert param_schema(ValueSpec.parse(text)) == schema


def test_a_text_in_a_query_string_has_a_length_that_a_server_takes():
    texts = {}
    for id, operation in OPERATIONS.items():
        for param in operation["parameters"]:
            if param.get("in") == "query" and param["schema"].get("type") == "string" and not id.startswith("Query"):
                texts[id, param["name"]] = param["schema"]["maxLength"]
    assert len(texts) > 50 and {*texts.values()} == {4000}
    assert texts["PreviewResourceStack", "templateContent"] == texts["GetLdapEntry", "ldapFilter"] == 4000


def test_an_enum_of_an_answer_is_a_text(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"apis": [{"name": "GetRackState", "call": "GET /rack-state", "answers": "state", "holds": ["state:LongJobState"]}]}))
    document = contract(rows=Catalogue(CATALOGUE_FILE, [file]))
    assert document["components"]["schemas"]["GetRackStateResult"]["properties"]["state"] == {"type": "string"}


def test_inventories_of_closed_modules_are_described_too():
    assert SCHEMAS["AlarmInventory"]["properties"]["threshold"] == {"type": "number", "format": "double"}
    assert [name for name, schema in SCHEMAS.items() if name.endswith("Inventory") and not schema["properties"]] == []
    answered = {type for api in ALL.apis.values() for type in re.findall(r":(\w+)", api.answers)}
    assert {f"{type}Inventory" for type in answered} <= SCHEMAS.keys()
    assert SCHEMAS["VmInstanceInventory"]["properties"]["vmNics"] == {"type": "array", "items": {"$ref": "#/components/schemas/VmNicInventory"}}


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize(("name", "member", "schema"), (
    ("ImageInventory", "backupStorageRefs", {"type": "array", "items": ref("ImageBackupStorageRefInventory")}),
    ("PolicyInventory", "statements", {"type": "array", "items": ref("PolicyStatement")}),
    ("VolumeSnapshotTreeInventory", "tree", ref("SnapshotLeafInventory")),
    ("SnapshotLeafInventory", "children", {"type": "array", "items": ref("SnapshotLeafInventory")}),
    ("CloneVmInstanceInventory", "error", ref("ErrorCode")),
    ("VmInstanceInventory", "dns", {"type": "array", "items": ref("VpcRouterDnsInventory")}),
    ("CloneVmInstanceResult", "result", ref("CloneVmInstanceResults")),
    ("GetAccountQuotaUsageResult", "usages", {"type": "array", "items": ref("QuotaUsage")}),
    ("GetFreeIpOfIpRangeResult", "inventories", {"type": "array", "items": ref("FreeIpInventory")}),
    ("QueryZoneResult", "inventory", ref("ZoneInventory")),
    ("GetResourceAccountResult", "inventories", {}),
    ("LongJobInventory", "state", {"type": "string"}),
))  # fmt: skip
def test_what_is_inside_an_answer_is_described_by_its_class(name, member, schema):
    assert SCHEMAS[name]["properties"][member] == schema


def test_a_storage_has_the_monitors_of_one_kind_or_of_the_other():
    ways = SCHEMAS["PrimaryStorageInventory"]["properties"]["mons"]["anyOf"]
    assert [way["items"] for way in ways] == [ref(f"{kind}PrimaryStorageMonInventory") for kind in ("Ceph", "Fusionstor")]


def test_the_statements_of_a_new_policy_are_what_it_answers():
    statements = SCHEMAS["CreatePolicyRequest"]["properties"]["params"]["properties"]["statements"]
    assert statements == {"type": "array", "items": ref("PolicyStatement"), "minItems": 1}


@pytest.mark.parametrize(
    ("condition", "fits"),
    (("name=web-1", True), ("name~=web%", True), ("vmNics.eip.vipIp=10.0.0.1", True), ("hostUuid is null", True), ("__userTag__=web", True), ("cpuNum>=", True),
     ("nam=web-1", False), ("name", False), ("name = web-1", False), ("name is  null", False), ("=web", False)),
)  # fmt: skip
def test_a_condition_has_a_pattern_that_knows_the_fields(condition, fits):
    pattern = next(param for param in OPERATIONS["QueryVmInstance"]["parameters"] if param.get("name") == "q")["schema"]["items"]["pattern"]
    assert bool(re.search(pattern, condition)) == fits


async def test_a_condition_may_name_the_fields_that_a_query_may_name(zmock):
    """Fields of subtypes are shown, but no condition can name them."""
    await zmock.login()
    tried = set()
    for row in filter(lambda row: row.path and row.kinds, ALL.resources.values()):
        parameters = MANUAL["paths"][f"/{row.path}"]["get"]["parameters"]
        pattern = next(param for param in parameters if param.get("name") == "q")["schema"]["items"]["pattern"]
        for name in row.all_fields:
            status, _ = await outcome(zmock, "GET", f"/{row.path}?q={name}%20is%20null")
            assert bool(re.search(pattern, f"{name} is null")) == (status == 200), (row.name, name)
            tried.add(status)
    assert tried == {200, 400}


@pytest.mark.parametrize(
    ("manual", "server"),
    (
        (lambda d: d["components"]["responses"]["BadRequest"]["content"], "text/plain"),
        (lambda d: d["paths"]["/zones/{uuid}"]["delete"]["responses"], "500"),
    ),
)
def test_the_answers_are_those_of_the_dialect(manual, server):
    assert server in manual(SERVER) and server not in manual(MANUAL)
    assert "content" not in SERVER["paths"]["/api-jobs/{uuid}"]["get"]["responses"]["202"]
    assert "200" in SERVER["paths"]["/licenses/actions"]["put"]["responses"] and "202" in MANUAL["paths"]["/licenses/actions"]["put"]["responses"]
    assert "inventory" in SCHEMAS["QueryZoneResult"]["properties"] and "inventory" not in SERVER["components"]["schemas"]["QueryZoneResult"]["properties"]


async def test_it_is_served_where_other_tools_look_for_it(aiohttp_client, zmock):
    client = await aiohttp_client(zmock.app)
    answer = await client.get("/zmock/openapi.json")
    told = await answer.json()
    assert (answer.status, told["servers"]) == (200, [{"url": "/zstack/v1"}])
    assert told["paths"] == json.loads(json.dumps(MANUAL["paths"]))


@pytest.mark.parametrize("dialect", DOCUMENTS)
def test_the_command_line_prints_the_same(dialect):
    run = subprocess.run([*PROGRAM, "openapi", "--dialect", dialect], env=os.environ | IMPORTABLE, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    assert json.loads(run.stdout) == json.loads(json.dumps(DOCUMENTS[dialect]))


async def test_a_mock_without_the_file_says_which_one_is_missing(aiohttp_client, zmock, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("zmock.CONTRACT_FILE", tmp_path / "openapi.json")
    answer = await (await aiohttp_client(zmock.app)).get("/zmock/openapi.json")
    assert answer.status == 404 and "openapi.json is missing" in (await answer.json())["error"]
    assert main(["openapi"]) == 2 and "openapi.json is missing" in capsys.readouterr().err


def test_the_uuid_of_a_job_is_a_v4_uuid():
    schema = MANUAL["components"]["parameters"]["JobUuid"]["schema"]
    assert schema["pattern"] == f"^{UUID.replace('[1-5]', '4')}$"


async def test_options_allow_what_the_path_takes(aiohttp_client, zmock):
    client = await aiohttp_client(zmock.app)
    for path, allowed in (("/zones", "GET, POST"), ("/vm-instances/x/actions", "PUT"), ("/api-jobs/x", "GET"), ("/nothing", "GET, POST, PUT, PATCH, DELETE")):
        assert (await client.options(f"/zstack/v1{path}")).headers["Allow"] == allowed


async def test_a_line_break_in_a_path_is_a_path_like_others(zmock):
    await zmock.login()
    status, body = await zmock.request("GET", "/zones/a%0Ab")
    assert (status, body["inventories"]) == (200, [])
    assert (await zmock.request("GET", "/zon%0Aes"))[1]["error"]["code"] == "SYS.1003"


# Some of it once, and in `make slow` all of it thoroughly.
SOME = "(Zone|VmInstance|Eip)s?(Actions|ByUuid)?$"  # calls of all kinds
RUNS = {
    "some": ["--phases", "fuzzing", "--max-examples", "1", "--include-operation-id-regex", SOME],
    "all": ["--phases", "coverage,fuzzing,stateful", "--max-examples", "1"],
    "wrong": ["--phases", "fuzzing", "--mode", "negative", "--max-examples", "1"],
}


@pytest.mark.parametrize("what", ["some", *(pytest.param(what, marks=pytest.mark.slow) for what in RUNS if what != "some")])
def test_schemathesis_finds_nothing_that_the_contract_does_not_say(what):
    mode = [] if "--mode" in RUNS[what] else ["--mode", "positive"]
    with serve(clock="real") as mock, tempfile.TemporaryDirectory() as folder:
        command = [
            Path(sys.executable).parent / "schemathesis", "--config-file", ROOT / "tests/schemathesis.toml", "run", f"{mock.base}/zmock/openapi.json",
            "--header", f"Authorization: OAuth {mock.login()}", "--seed", "1", "--no-shrink", "--suppress-health-check", "all", *mode, *RUNS[what],
        ]  # fmt: skip
        environment = {"SCHEMATHESIS_HOOKS": str(ROOT / "tests/contract_hooks.py"), "PATH": "/usr/bin:/bin", "HOME": folder}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        tested = int(re.search(r"Tested: (\d+)", run.stdout)[1])
        wanted = re.compile(SOME if what == "some" else "")
        assert tested == sum(bool(wanted.search(id)) for id in OPERATIONS)
        assert tested > 20 and len(mock.calls()) >= tested


def test_apis_that_check_more_than_their_constraints_say_so():
    assert OPERATIONS["AddImage"]["x-zmock-checks-more"] and OPERATIONS["CreateInstanceOffering"]["x-zmock-checks-more"]
    assert not OPERATIONS["CreateZone"]["x-zmock-checks-more"]
