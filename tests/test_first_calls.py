"""The first calls of a stranger: the hint of a refused call names what is missing, and where this cloud has it."""

import json
import re

import pytest
from asking import each, exchange

from zmock import catalogue, serve

APIS = [api for api in catalogue().apis.values() if api.backing != "none"]
UUID = "[0-9a-f]{32}"
LONGEST_HINT = 600  # characters
SHA512_OF_PASSWORD = "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86"  # fmt: skip


async def ask(mock, line, body=None, **headers):
    """A call to its end: its last status, its error and its hint."""
    status, came, content = await exchange(mock, line, body, headers or None)
    if status == 202:
        await mock.advance(0)
        status, came, content = await exchange(mock, f"GET /zstack/v1/api-jobs/{json.loads(content)['location'][-32:]}")
    answer = json.loads(content) if content[:1] in b"{[" and content else content.decode()
    error = answer.get("error", {}) if isinstance(answer, dict) else {"details": answer}
    return status, error, came.get("x-zmock-hint", "")


# missing parameters


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_virtual_machine_is_made_of_nothing_but_the_examples_of_the_hint(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        status, error, hint = await ask(mock, "POST /zstack/v1/vm-instances", {"params": {"description": "d"}})
        assert (status, error["code"]) == (400 if dialect == "manual" else 503, "SYS.1007")
        assert error["details"] == "field[name] of message[org.zstack.header.vm.APICreateVmInstanceMsg] is mandatory, can not be null"
        pattern = (
            rf"CreateVmInstance needs name, instanceOfferingUuid \(GET /instance-offerings: ({UUID}) offering-small\), "
            rf"imageUuid \(GET /images: ({UUID}) [\w-]+\), l3NetworkUuids \(GET /l3-networks: ({UUID}) [\w-]+\)"
        )
        assert (found := re.fullmatch(pattern, hint)), hint
        offering, image, l3 = found.groups()
        vm = await mock.create("CreateVmInstance", name="vm", instanceOfferingUuid=offering, imageUuid=image, l3NetworkUuids=[l3])
        assert vm["state"] == "Running"
        assert hint in mock.calls()[0].hints or any(hint in entry.hints for entry in mock.calls())


MISSING = (  # a call, and its hint
    ("POST /zstack/v1/zones", {"params": {}}, "CreateZone needs name"),
    ("POST /zstack/v1/zones", {"name": "z"}, 'parameters go inside "params": name; CreateZone needs name'),
    ("POST /zstack/v1/instance-offerings", {"params": {"name": "n"}}, "CreateInstanceOffering needs cpuNum (1..1024), memorySize (1..9223372036854775807)"),
    ("POST /zstack/v1/clusters", {"params": {"name": "c"}}, f"CreateCluster needs zoneUuid (GET /zones: {UUID} zone-1), hypervisorType (KVM or Simulator)"),
    ("POST /zstack/v1/images", {"params": {"name": "i"}}, f"AddImage needs url, format, backupStorageUuids (GET /backup-storage: {UUID} bs-1)"),
    ("POST /zstack/v1/volumes/data", {"params": {"name": "v"}}, f"CreateDataVolume needs diskOfferingUuid (GET /disk-offerings: {UUID} [\\w-]+)"),
    ("PUT /zstack/v1/accounts/login", {"logInByAccount": {}}, "LogInByAccount needs accountName, password"),
)  # fmt: skip


@each(("line", "body", "hint"), MISSING)
async def test_all_missing_parameters_are_named_with_their_values(cloud, line, body, hint):
    _, error, told = await ask(cloud, line, body)
    assert error["code"] == "SYS.1007" and re.fullmatch(re.escape(hint).replace(re.escape(UUID), UUID).replace(re.escape("[\\w-]+"), r"[\w-]+"), told), told


@each("api", [api for api in APIS if api.kind != "Query" and any(param.required for param in api.params.values())], ids=lambda api: api.name, reset=False)
async def test_every_api_names_all_that_it_misses_in_a_line_that_can_be_read(cloud, api):
    path = re.sub(r"\{\w+\}", "0" * 32, api.path)
    body = None if api.method in ("GET", "DELETE") else {api.keys[0]: {}}
    _, error, hint = await ask(cloud, f"{api.method} /zstack/v1{path}", body)
    missing = [param.name for param in api.params.values() if param.required and param.default is None and f"{{{param.name}}}" not in api.path]
    if missing and error["code"] == "SYS.1007" and "mandatory" in error["details"]:
        assert all(name in hint for name in missing) and f"{api.name} needs " in hint
        assert len(hint) <= LONGEST_HINT and hint.isascii() and "\n" not in hint


@pytest.mark.zmock(cloud="empty")
async def test_a_cloud_without_objects_names_the_api_that_makes_one(cloud):
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {"name": "vm"}})
    assert hint == (
        "CreateVmInstance needs instanceOfferingUuid (no usable InstanceOffering: CreateInstanceOffering, POST /instance-offerings), "
        "imageUuid (no usable Image: AddImage, POST /images), l3NetworkUuids (no usable L3Network: CreateL3Network, POST /l3-networks)"
    )


async def test_an_example_is_one_that_the_call_may_use(cloud):
    small, *_ = offerings = await cloud.query("instance-offerings", "name~=offering-%")
    for offering in offerings[:-1]:
        await cloud.act("instance-offerings", offering["uuid"], "changeInstanceOfferingState", stateEvent="disable")
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {"name": "vm"}})
    assert f"instanceOfferingUuid (GET /instance-offerings: {offerings[-1]['uuid']}" in hint and small["uuid"] not in hint
    await cloud.act("instance-offerings", offerings[-1]["uuid"], "changeInstanceOfferingState", stateEvent="disable")
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {"name": "vm"}})
    others = [row for row in await cloud.query("instance-offerings") if row["state"] == "Enabled" and row["type"] == "UserVm"]
    assert others or "no usable InstanceOffering: CreateInstanceOffering, POST /instance-offerings" in hint


async def test_an_account_gets_examples_of_what_it_sees(cloud):
    await cloud.call("CreateAccount", name="tom", password=SHA512_OF_PASSWORD)
    admin = cloud.session
    image = (await cloud.query("images", "mediaType=RootVolumeTemplate", "status=Ready"))[0]
    _, answer = await cloud.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "tom", "password": SHA512_OF_PASSWORD}})
    tom = answer["inventory"]["uuid"]
    cloud.session = tom
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {"name": "vm"}})
    assert "imageUuid (no usable Image" in hint and image["uuid"] not in hint
    _, _, hint = await ask(cloud, "PUT /zstack/v1/images/image/actions", {"updateImage": {"name": image["name"]}})
    assert image["uuid"] not in hint
    cloud.session = admin
    await cloud.call("ShareResource", resourceUuids=[image["uuid"]], toPublic=True)
    cloud.session = tom
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {"name": "vm"}})
    assert f"{image['uuid']} {image['name']}" in hint


async def test_a_hint_stays_short_whatever_the_names_are(cloud):
    for offering in await cloud.query("instance-offerings"):
        await cloud.act("instance-offerings", offering["uuid"], "updateInstanceOffering", name="云" * 200)
    _, _, hint = await ask(cloud, "POST /zstack/v1/vm-instances", {"params": {}})
    assert len(hint) <= LONGEST_HINT and "l3NetworkUuids" in hint


# references to nothing


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_uuid_of_nothing_gets_the_object_that_was_meant(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        image = (await mock.query("images", "name=image-centos7"))[0]["uuid"]
        zone = (await mock.query("zones"))[0]["uuid"]
        vm = {"name": "vm", "instanceOfferingUuid": (await mock.query("instance-offerings"))[0]["uuid"], "l3NetworkUuids": [(await mock.query("l3-networks"))[0]["uuid"]]}
        nothing = "f" * 32
        for text, told in (
            ("image-centos7", f"image-centos7 is the name of an Image; its uuid is {image}"),
            ("image-centos", f"no Image has the uuid image-centos, did you mean {image} image-centos7?"),
            (zone, f"{zone} is of type Zone, imageUuid of type Image"),
        ):
            status, error, hint = await ask(mock, "POST /zstack/v1/vm-instances", {"params": vm | {"imageUuid": text}})
            assert (status, error["code"], hint) == (503, "SYS.1003", told)
        _, _, hint = await ask(mock, "POST /zstack/v1/vm-instances", {"params": vm | {"imageUuid": nothing}})
        assert re.fullmatch(rf"no Image has the uuid {nothing}; GET /images: {UUID} [\w-]+", hint)
        _, _, hint = await ask(mock, "POST /zstack/v1/clusters", {"params": {"name": "c", "zoneUuid": nothing, "hypervisorType": "KVM"}})
        assert hint == f"no Zone has the uuid {nothing}; GET /zones: {zone} zone-1"
        _, _, hint = await ask(mock, "DELETE /zstack/v1/zones/zone-1")
        assert hint == f"zone-1 is the name of a Zone; its uuid is {zone}"
        status, _, hint = await ask(mock, "GET /zstack/v1/zones/zone-1")
        assert (status, hint) == (200, f"zone-1 is the name of a Zone; its uuid is {zone}")


# first mistakes

LOGIN = {"logInByAccount": {"accountName": "admin", "password": "password"}}
MISTAKES = (  # a request, with other headers than a right one has, its status, and what its hint tells
    ("GET /zstack/v1/zones", None, {"Authorization": None}, 400, "log in (curl -X PUT http://127.0.0.1:"),
    ("GET /zstack/v1/zones", None, {"Authorization": None}, 400, SHA512_OF_PASSWORD),
    ("GET /zstack/v1/zones", None, {"Authorization": "a" * 32}, 400, f"send Authorization: OAuth {'a' * 32}"),
    ("GET /zstack/v1/zones", None, {"Authorization": f"Bearer {'b' * 32}"}, 400, f"send Authorization: OAuth {'b' * 32}"),
    ("GET /zstack/v1/zones", None, {"Authorization": "OAuth"}, 503, "the session is missing behind OAuth; log in again: PUT /zstack/v1/accounts/login"),
    ("GET /zstack/v1/zones", None, {"Authorization": "OAuth abc"}, 503, "the session abc is unknown"),
    ("PUT /zstack/v1/accounts/login", LOGIN, {}, 503, f"the password is sent as the hex SHA-512 of its text: {SHA512_OF_PASSWORD}"),
    ("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "secret"}}, {}, 503, "the password is sent as the hex SHA-512 of its text"),
    ("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admn", "password": SHA512_OF_PASSWORD}}, {}, 503, "no account admn, did you mean admin?"),
    ("PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "0" * 128}}, {}, 503, "account admin has another password"),
    ("PUT /zstack/v1/accounts/users/login", {"logInByUser": {"accountName": "admn", "userName": "tom", "password": "x"}}, {}, 503, "no account admn, did you mean admin?"),
    ("PUT /zstack/v1/accounts/users/login", {"logInByUser": {"accountName": "admin", "userName": "tom", "password": "x"}}, {}, 503, "no user tom; the password is sent"),
    ("PUT /zstack/v1/accounts/login", LOGIN["logInByAccount"], {}, 400, 'parameters go inside the action: {"logInByAccount": {"accountName": ..., "password": ...}}'),
    ("PUT /zstack/v1/accounts/login", {"params": LOGIN["logInByAccount"]}, {}, 400, 'parameters go inside the action: {"logInByAccount": {...}}; there is logInByAccount'),
    ("POST /zstack/v1/accounts/login", LOGIN, {}, 405, "/accounts/login takes PUT: LogInByAccount"),
    ("POST /zstack/v1/zones", {"name": "z"}, {}, 400, 'parameters go inside "params": name'),
    ("GET /zones", None, {}, 404, "write /zstack/v1/zones; the APIs are below /zstack/v1"),
    ("GET /zstack/zones", None, {}, 404, "write /zstack/v1/zones"),
    ("GET /api/v1/zones", None, {}, 404, "write /zstack/v1/zones"),
    ("GET /api-jobs/abc", None, {}, 404, "write /zstack/v1/api-jobs/abc"),
    ("GET /zonez", None, {}, 404, "the APIs are below /zstack/v1, the controls below /zmock"),
    ("GET /zstack/v1/vm-instance", None, {}, 404, "did you mean vm-instances?"),
    ("GET /zstack/v1/vms", None, {}, 404, "did you mean vm-instances?; nearest: /vm-instances by GET (QueryVmInstance)"),
    ("POST /zstack/v1/vm-instances/a/actions", {"params": {}}, {}, 405, 'the key of the body names the action, as {"updateVmInstance": {}}'),
    ("PUT /zstack/v1/vm-instances/a/actions", {"stop": {}}, {}, 400, "stop is no action here, did you mean stopVmInstance?"),
    ("PUT /zstack/v1/vm-instances/a/actions", {"name": "x"}, {}, 400, 'parameters go inside the action: {"updateVmInstance": {"name": ...}}'),
    ("POST /zstack/v1/zones", b'{"params": {"name": "x",}}', {}, 400, "this is none at line 1, column 25: ': {\"name\": \"x\",}}'; no comma stands before the end"),
    ("POST /zstack/v1/zones", b'{\n"params": {"name" "x"}}', {}, 400, "this is none at line 2, column 19"),
    ("POST /zstack/v1/zones", b"{'params': {}}", {}, 400, "JSON has double quotes"),
    ("POST /zstack/v1/zones", b"name=x&description=y", {}, 400, "the body is a JSON object such as {\"params\": {\"name\": \"x\"}}, no form: 'name=x"),
    ("POST /zstack/v1/zones", {"params": {"name": "z"}}, {"Content-Type": "application/x-www-form-urlencoded"}, 200, ""),
    ("GET /zstack/v1/api-jobs/" + "0" * 32, None, {}, 404, "there is no such api-job, or not any more; GET /zmock/jobs lists 0 api-jobs"),
)  # fmt: skip


@each(("line", "body", "headers", "status", "told"), MISTAKES)
async def test_a_first_mistake_is_told_with_what_to_do_instead(cloud, line, body, headers, status, told):
    came, _, hint = await ask(cloud, line, body, **headers)
    assert (came, told in hint) == (status, True), hint
    assert "\n" not in hint and len(hint) < 1000


async def test_the_hint_on_a_wrong_path_is_searched_once_for_all_its_uuids(cloud, monkeypatch):
    _, _, first = await ask(cloud, f"GET /zstack/v1/zone/{'a' * 32}")
    assert "did you mean zones?; nearest: /zones/{uuid} by GET (QueryZone)" in first
    monkeypatch.setattr("zmock.nearest_path", None)
    assert (await ask(cloud, f"GET /zstack/v1/zone/{'b' * 32}"))[2] == first
    path = f"/zones/{'c' * 32}"
    assert (await ask(cloud, f"PUT /zstack/v1{path}/actions/"))[2] == f"without the slash at the end: {path}/actions"


async def test_a_poll_of_a_wrong_uuid_tells_whose_it_is_or_where_the_jobs_are(cloud):
    vm = (await cloud.query("vm-instances"))[0]["uuid"]
    await cloud.request("POST", "/zones", {"params": {"name": "z"}})
    for uuid, told in (
        (vm, "this is the uuid of a VmInstance; the location in a 202 has that of the api-job"),
        ("nothing", "there is no such api-job, or not any more; GET /zmock/jobs lists 1 api-job"),
    ):
        status, _, hint = await ask(cloud, f"GET /zstack/v1/api-jobs/{uuid}")
        assert (status, hint) == (404, told)


async def test_a_hint_on_a_login_shows_no_hash_of_a_password_that_is_wrong(cloud):
    await ask(cloud, "PUT /zstack/v1/accounts/login", {"logInByAccount": {"accountName": "admin", "password": "my own secret"}})
    assert not re.search("[0-9a-f]{128}", " ".join(hint for entry in cloud.calls() for hint in entry.hints))
    (entry,) = [entry for entry in cloud.calls("LogInByAccount") if entry.status == 503]
    assert "my own secret" not in json.dumps(entry.as_json())


async def test_a_right_call_is_spared_the_search_for_examples(cloud, monkeypatch):
    monkeypatch.setattr("zmock.Examples", None)
    await cloud.create("CreateZone", name="z")
    assert len(await cloud.query("zones")) == 2


# rules

RULES = (  # a wrong rule, its error, and what its hint lists
    ([], "a rule is a JSON object, not []", "keys of a rule: id, api, method, path, when, skip, times, every, on, limit, probability, ttl"),
    ({}, "'api' is missing", "keys of a rule: id, api"),
    ({"api": "CreateZone", "tmies": 1}, "'tmies' is no key of a rule, did you mean times?", "keys of a rule: id, api"),
    ({"api": "CreateZone", "error": "SYS.1006"}, "'error' is no key of a rule; it stands inside 'then'", "keys of a rule"),
    ({"api": "CreateZone", "times": 0}, "'times' is a whole number from 1, not 0", "keys of a rule"),
    ({"api": "CreateVm"}, "did you mean CreateVmInstance?", "GET /zmock/apis lists the APIs"),
    ({"api": "CreateZone", "when": {"param.name": "z"}}, "'when' has no 'param.name', did you mean params.NAME?", "keys of when: method, path, header.NAME, query.NAME"),
    ({"api": "CreateZone", "when": {"param.a\nb": "z"}}, "'when' has no 'param.a\\nb', did you mean params.NAME?", "keys of when"),
    (["\ud800"], 'a rule is a JSON object, not ["\\ud800"]', "keys of a rule"),
    ({"api": "CreateZone", "when": {"params": "z"}}, "did you mean params.NAME?", "keys of when: method, path, header.NAME, query.NAME"),
    ({"api": "CreateZone", "when": {"params.nam": "z"}}, "has 'params.nam', did you mean name?", "keys of when here: params.deleteMode, params.description, params.name"),
    ({"api": "CreateZone", "when": {"resource.name": "z"}}, "there is no resource at all", "keys of when: method"),
    ({"api": "CreateZone", "then": {"eror": "SYS.1006"}}, "'eror' is no key of 'then', did you mean error?", "keys of then: one of error, status, merge, drop, job, webhook; with error: details, stage"),
    ({"api": "CreateZone", "then": {"error": "SYS.106"}}, "did you mean SYS.1016?", "keys of then"),
    ({"api": "CreateZone", "then": {"error": "SYS.1006", "status": 500}}, "make it two rules", "keys of then: one of error, status, merge, drop, job, webhook"),
    ({"api": "CreateZone", "then": {"details": "no"}}, "'details' goes with 'error' only", "with error: details, stage; with stage: rollback; with status: headers, body; with job: for; at: accept, job, after"),
    ({"api": "CreateZone", "then": {"job": "hold", "at": "job"}}, "'at' is for error, status, merge and drop, not for job", "keys of then"),
    ({"api": "QueryZone", "then": {"job": "hold"}}, "QueryZone answers at once", "keys of then"),
)  # fmt: skip


@each(("rule", "error", "hint"), RULES)
async def test_the_error_of_a_rule_names_the_nearest_key_and_its_hint_lists_the_keys_of_that_place(cloud, rule, error, hint):
    status, _, content = await exchange(cloud, "POST /zmock/rules", rule, {"Content-Type": "application/json"})
    body = json.loads(content)
    assert status == 400 and error in body["error"] and hint in body["hint"]


async def test_a_wrong_rule_of_a_file_is_named_with_its_number_and_the_valid_keys(tmp_path):
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"api": "CreateZone"}, {"api": "CreateZone", "then": {"eror": "SYS.1006"}}]))
    with pytest.raises(Exception, match=r"rules.json: rule 2 of 2: 'eror' is no key of 'then', did you mean error\?; keys of then: one of error, status") as error:
        async with serve(rules=str(file)):
            pass
    assert "\n" not in str(error.value)
