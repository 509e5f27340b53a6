"""Resource stacks over HTTP: what a template makes, what it cannot be, and what stays after a failure."""

import json

import pytest
from asking import each, without_exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from test_stories import CENTOS, DELAY, GIB, NFS, PRIVATE, PUBLIC, SMALL, Client

from zmock import named

VERSION = {"ZStackTemplateFormatVersion": "2018-06-18"}
NIC = {"Fn::Select": ["0", {"Fn::GetAtt": ["Vm", "vmNics"]}]}
WEB = VERSION | {
    "Description": "a virtual machine with a data volume and a public address",
    "Parameters": {"ImageUuid": {"Type": "String", "Label": "image"}, "Cpus": {"Type": "Number", "DefaultValue": 2, "NoEcho": True},
                   "Networks": {"Type": "CommaDelimitedList", "DefaultValue": PRIVATE}},
    "Mappings": {"Sizes": {"small": {"memory": GIB}}},
    "Resources": {
        "Eip": {"Type": "ZStack::Resource::Eip", "Properties": {"name": "eip", "vipUuid": {"Ref": "Vip"}, "vmNicUuid": {"Fn::GetAtt": [NIC, "uuid"]}}},
        "Vip": {"Type": "ZStack::Resource::Vip", "Properties": {"name": "vip", "l3NetworkUuid": PUBLIC}, "DependsOn": "Attach"},
        "Attach": {"Type": "ZStack::Action::AttachDataVolumeToVm", "Properties": {"vmInstanceUuid": {"Ref": "Vm"}, "volumeUuid": {"Ref": "Volume"}}},
        "Volume": {"Type": "ZStack::Resource::DataVolume", "Properties": {"name": "data", "diskOfferingUuid": {"Ref": "Disk"}, "primaryStorageUuid": NFS}},
        "Vm": {"Type": "ZStack::Resource::VmInstance", "Properties": {
            "name": {"Fn::Join": ["-", [{"Ref": "ZStack::StackName"}, "vm"]]}, "description": {"Fn::Join": [" ", [{"Ref": "Cpus"}, "cores"]]}, "instanceOfferingUuid": {"Ref": "Offering"}, "imageUuid": {"Ref": "ImageUuid"},
            "l3NetworkUuids": {"Ref": "Networks"}, "primaryStorageUuidForRootVolume": NFS,
            "systemTags": [{"Fn::Join": ["::", ["userdata", {"Fn::Base64": "#cloud-config"}]]}]}},
        "Offering": {"Type": "ZStack::Resource::InstanceOffering", "Properties": {
            "name": {"Fn::Select": [1, {"Fn::Split": [",", "a,b"]}]}, "cpuNum": {"Ref": "Cpus"}, "memorySize": {"Fn::FindInMap": ["Sizes", "small", "memory"]}}},
        "Disk": {"Type": "ZStack::Resource::DiskOffering", "Properties": {"name": "disk", "diskSize": GIB}, "DeletionPolicy": "Retain"},
    },
    "Outputs": {"Ip": {"Value": {"Fn::GetAtt": [NIC, "ip"]}}, "Vm": {"Value": {"Ref": "Vm"}}},
}  # fmt: skip
ORDER = ["Disk", "Offering", "Volume", "Vm", "Attach", "Vip", "Eip"]
COLLECTIONS = ("eips", "vips", "volumes", "vm-instances", "vm-instances/nics", "instance-offerings", "disk-offerings", "cloudformation/stack", "cloudformation/event")


async def list_all(client, collection, *conditions):
    query = "&".join(f"q={condition}" for condition in conditions)
    status, answer = await client.mock.request("GET", f"/{collection}?{query}")
    assert status == 200, answer
    return answer["inventories"]


async def counts(client):
    return {collection: len(await list_all(client, collection)) for collection in COLLECTIONS}


async def events(client, stack):
    return [(each["action"], each["resourceName"], each["actionStatus"]) for each in await list_all(client, "cloudformation/event", f"stackUuid={stack}")]


def resource(type, **properties):
    return {"Type": f"ZStack::Resource::{type}", "Properties": properties}


def template(**resources):
    return json.dumps(VERSION | {"Resources": resources})


async def test_a_stack_makes_what_its_template_says_and_takes_it_away_again(client):
    before, values = await counts(client), json.dumps({"ImageUuid": CENTOS})
    stack = await client.call("CreateResourceStack", name="web", templateContent=json.dumps(WEB), parameters=values)
    assert (stack["status"], stack["enableRollback"], stack["version"], stack["type"], stack["paramContent"]) == ("Created", True, "2018-06-18", "zstack", values)
    assert "reason" not in stack

    answer = await client.call("GetResourceFromResourceStack", uuid=stack["uuid"])
    refs = {each["resourceName"]: each for each in answer["resources"]}
    assert [*refs] == [name for name in ORDER if name != "Attach"]
    assert (refs["Vm"]["resourceType"], refs["Volume"]["resourceType"], refs["Disk"]["deletionPolicy"]) == ("VmInstance", "Volume", "Retain")
    vm, volume, eip, offering = [await client.look(*place) for place in (("vm-instances", refs["Vm"]["resourceUuid"]), ("volumes", refs["Volume"]["resourceUuid"]),
                                 ("eips", refs["Eip"]["resourceUuid"]), ("instance-offerings", refs["Offering"]["resourceUuid"]))]  # fmt: skip
    assert (vm["name"], vm["state"], vm["cpuNum"], vm["memorySize"]) == ("web-vm", "Running", 2, GIB)
    assert offering["name"] == "b" and volume["vmInstanceUuid"] == vm["uuid"]
    assert (eip["guestIp"], eip["vmNicUuid"]) == (vm["vmNics"][0]["ip"], vm["vmNics"][0]["uuid"])
    assert await client.tags(vm["uuid"], "userdata%25") == ["userdata::I2Nsb3VkLWNvbmZpZw=="]

    shown = await list_all(client, "cloudformation/event", f"stackUuid={stack['uuid']}")
    assert await events(client, stack["uuid"]) == [("Create", name, status) for name in (*ORDER, "Outputs") for status in ("Begin", "Succeed")]
    assert [each["id"] for each in shown] == [*range(1, 17)] and [each["duration"] for each in shown] == ["0 seconds", "3 seconds"] * 8
    assert json.loads(shown[-1]["content"]) == {"Ip": {"Value": vm["vmNics"][0]["ip"]}, "Vm": {"Value": vm["uuid"]}}
    assert json.loads(shown[1]["content"])["uuid"] == refs["Disk"]["resourceUuid"]

    assert await client.call("DeleteResourceStack", uuid=stack["uuid"]) in (None, {})
    assert await counts(client) == before | {"disk-offerings": before["disk-offerings"] + 1}, "what the template retains"


async def test_a_stack_under_way_shows_its_state_and_its_last_event(client):
    status, answer = await client.begin("CreateResourceStack", name="s", templateContent=template(A=resource("DiskOffering", name="a", diskSize=GIB), B=resource("DiskOffering", name="b", diskSize=GIB)))
    await client.mock.advance(DELAY + 1)
    (stack,) = await list_all(client, "cloudformation/stack")
    assert stack["status"] == "Creating" and await events(client, stack["uuid"]) == [("Create", "A", "Begin"), ("Create", "A", "Succeed"), ("Create", "B", "Begin")]
    assert (await client.mock.request("GET", f"/api-jobs/{answer['location'][-32:]}"))[0] == 202
    for api in ("UpdateResourceStack", "RestartResourceStack"):
        await client.fails(f"SYS.1006: resource stack[uuid:{stack['uuid']}] is Creating, can't be *", api, uuid=stack["uuid"])


@each("rollback", (True, False))
async def test_a_stack_that_fails_tells_why_and_rolls_back_unless_it_is_told_not_to(client, rollback):
    parts = {"Disk": resource("DiskOffering", name="d", diskSize=GIB), "Group": resource("SecurityGroup", name="g"),
             "Vm": resource("VmInstance", name="v", instanceOfferingUuid=SMALL, imageUuid=CENTOS, l3NetworkUuids=["0" * 32])}  # fmt: skip
    before = await counts(client)
    await client.fails("SYS.1006 <- SYS.1003: invalid field[l3NetworkUuids], resource*not found", "CreateResourceStack", name="s", templateContent=template(**parts), rollback=rollback)
    (stack,) = await list_all(client, "cloudformation/stack")
    uuid, done = stack["uuid"], [("Create", "Disk", "Begin"), ("Create", "Disk", "Succeed"), ("Create", "Group", "Begin"), ("Create", "Group", "Succeed")]
    taken_back = [("Rollback", name, status) for name in ("Group", "Disk") for status in ("Begin", "Succeed")]
    assert stack["status"] == ("Rollbacked" if rollback else "Failed") and stack["reason"].startswith("Create of Vm failed: invalid field[l3NetworkUuids]")
    assert await events(client, uuid) == [*done, ("Create", "Vm", "Begin"), ("Create", "Vm", "Failed"), *(taken_back if rollback else [])]
    assert (await counts(client))["disk-offerings"] == before["disk-offerings"] + (not rollback)

    # mended and begun anew
    parts["Vm"]["Properties"]["l3NetworkUuids"] = [PRIVATE]
    await client.call("UpdateResourceStack", uuid=uuid, templateContent=template(**parts), name="mended", rollback=False)
    stack = await client.call("RestartResourceStack", uuid=uuid)
    assert (stack["status"], stack["name"], stack["enableRollback"]) == ("Created", "mended", False) and "reason" not in stack
    answer = await client.call("GetResourceFromResourceStack", uuid=uuid)
    assert [each["resourceName"] for each in answer["resources"]] == ["Disk", "Group", "Vm"]
    await client.call("DeleteSecurityGroup", uuid=answer["resources"][1]["resourceUuid"])
    left = (await client.call("GetResourceFromResourceStack", uuid=uuid))["resources"]
    assert [each["resourceName"] for each in left] == ["Disk", "Vm"], "what somebody deleted is no resource any more"
    await client.call("DeleteResourceStack", uuid=uuid)
    assert await counts(client) == before


async def test_a_template_is_kept_and_used_by_many_stacks(client):
    content = template(Disk=resource("DiskOffering", name={"Ref": "ZStack::StackName"}, diskSize=GIB))
    kept = await client.call("AddStackTemplate", name="t", templateContent=content)
    assert (kept["state"], kept["version"], kept["content"], len(kept["md5sum"])) == (True, "2018-06-18", content, 32)
    for name in ("a", "b"):
        await client.call("CreateResourceStack", name=name, templateUuid=kept["uuid"])
    names = [each["name"] for each in await list_all(client, "disk-offerings")]
    assert {"a", "b"} < {*names}

    changed = await client.call("UpdateStackTemplate", uuid=kept["uuid"], templateContent=json.dumps(WEB), state=False)
    assert changed["md5sum"] != kept["md5sum"] and changed["state"] is False
    await client.fails("SYS.1007: templateContent: there is no type 'x'", "UpdateStackTemplate", uuid=kept["uuid"], templateContent=template(A={"Type": "x"}))
    await client.fails(f"SYS.1006: stack template[uuid:{kept['uuid']}] is disabled", "CreateResourceStack", name="c", templateUuid=kept["uuid"])
    answer = await client.call("CheckStackTemplateParameters", uuid=kept["uuid"])
    assert answer["parametes"] == [
        {"paramName": "ImageUuid", "type": "String", "label": "image"},
        {"paramName": "Cpus", "type": "Number", "defaultValue": "2", "noEcho": True},
        {"paramName": "Networks", "type": "CommaDelimitedList", "defaultValue": PRIVATE},
    ]
    answer = await client.call("PreviewResourceStack", uuid=kept["uuid"], parameters=json.dumps({"ImageUuid": CENTOS}))
    actions = answer["preview"]["actions"]
    assert [each["resourceName"] for each in actions] == ORDER
    assert actions[0] == {"resourceName": "Disk"} | WEB["Resources"]["Disk"]
    await client.fails("SYS.1007: parameters: ImageUuid has no value", "PreviewResourceStack", uuid=kept["uuid"])


async def test_an_account_makes_what_it_may_and_sees_its_own_stacks(client):
    password = {"password": "p" * 128}
    await client.call("CreateAccount", name="ann", **password)
    stack = await client.call("CreateResourceStack", name="mine", templateContent=template(G=resource("SecurityGroup", name="g")))
    admin, session = client.mock.session, await client.call("LogInByAccount", accountName="ann", **password)
    client.mock.session = session["uuid"]
    assert await list_all(client, "cloudformation/stack") == [] == await list_all(client, "cloudformation/event")
    await client.fails("SYS.1006: permission denied, *", "DeleteResourceStack", uuid=stack["uuid"])
    made = await client.call("CreateResourceStack", name="hers", templateContent=template(G=resource("SecurityGroup", name="g")))
    assert [each["name"] for each in await list_all(client, "security-groups")] == ["g"] and len(await list_all(client, "cloudformation/event")) == 4
    await client.fails("SYS.1006 <- SYS.1006: operation is denied by default", "CreateResourceStack", name="no", templateContent=template(Z=resource("Zone", name="z")))
    client.mock.session = admin
    await client.call("DeleteResourceStack", uuid=made["uuid"])


GOOD = resource("DiskOffering", name="d", diskSize=1)
WRONG_TEMPLATES = [
    ("", "the template is a JSON object, not null"),
    ("{", "Expecting property name *"),
    ([], "the template is a JSON object, not []"),
    ({"Resources": {}}, "there is no ZStackTemplateFormatVersion null"),
    (VERSION | {"Resource": {}}, "there is no member of the template named 'Resource', did you mean Resources?"),
    (VERSION | {"Resources": []}, "Resources is a JSON object, not []"),
    (VERSION | {"Resources": {"A": 1}}, "Resources.A is a JSON object, not 1"),
    (VERSION | {"Parameters": {"P": {"Default": 1}}, "Resources": {}}, "there is no member of Parameters.P named 'Default', did you mean DefaultValue?"),
    ({"A": GOOD | {"DependOn": "B"}}, "there is no member of Resources.A named 'DependOn', did you mean DependsOn?"),
    ({"A": GOOD | {"DeletionPolicy": "Keep"}}, "there is no DeletionPolicy 'Keep'"),
    ({"A": {"Type": None}}, "there is no type null"),
    ({"A": {"Type": "ZStack::Resource::VmInstances"}}, "there is no type 'ZStack::Resource::VmInstances', did you mean ZStack::Resource::VmInstance?"),
    ({"A": {"Type": "ZStack::Action::QueryZone"}}, "there is no type 'ZStack::Action::QueryZone'*"),
    ({"A": {"Type": "ZStack::Resource::ResourceStack"}}, "there is no type 'ZStack::Resource::ResourceStack'*"),
    ({"A": resource("DiskOffering", nam="d", diskSize=1)}, "there is no member of A named 'nam', did you mean name?"),
    ({"A": resource("DiskOffering", name="d")}, "A needs diskSize"),
    ({"A": GOOD | {"Properties": 1}}, "A is a JSON object, not 1"),
    ({"A": GOOD | {"DependsOn": ["B"]}}, "there is no parameter or resource 'B'*"),
    ({"Disk": GOOD, "B": resource("Zone", name={"Ref": "Disc"})}, "there is no parameter or resource 'Disc', did you mean Disk?"),
    ({"A": resource("Zone", name={"Ref": []})}, "there is no parameter or resource null"),
    ({"A": resource("Zone", name={"Fn::Joined": ["a", []]})}, "there is no function 'Fn::Joined', did you mean Fn::Join?"),
    ({"A": resource("Zone", name={"Ref": "B"}), "B": resource("Zone", name={"Fn::GetAtt": ["A", "name"]})}, "resources need each other: A -> B -> A"),
    (VERSION | {"Resources": {"A": GOOD}, "Outputs": {"O": {"Value": {"Ref": "B"}}}}, "there is no parameter or resource 'B'*"),
    ("[" * 300 + "]" * 300, "it is nested more than 200 levels deep"),
]  # fmt: skip


@each("wrong", WRONG_TEMPLATES)
async def test_a_wrong_template_is_refused_in_words_that_name_the_right_thing(zmock, wrong):
    await zmock.login()
    client, (content, details) = Client(zmock), wrong
    if isinstance(content, dict) and not content.keys() & {"Resources", "Resource"}:
        content = VERSION | {"Resources": content}
    text = content if isinstance(content, str) else json.dumps(content)
    for api in ("AddStackTemplate", "CreateResourceStack"):
        await client.fails(f"SYS.1007: templateContent: {details}", api, name="s", templateContent=text)
    assert await list_all(client, "cloudformation/stack") == [] == await list_all(client, "cloudformation/template")


WRONG_PARAMETERS = [
    ("{", "Expecting property name *"),
    ("[]", "the value is a JSON object, not []"),
    (None, "ImageUuid has no value"),
    ('{"ImageUuid": null}', "ImageUuid has no value"),
    ('{"ImageUid": 1}', "there is no member of the value named 'ImageUid', did you mean ImageUuid?"),
]


@each("wrong", WRONG_PARAMETERS)
async def test_wrong_parameters_are_refused_before_anything_is_made(zmock, wrong):
    await zmock.login()
    text, details = wrong
    parameters = {"parameters": text} if text else {}
    await Client(zmock).fails(f"SYS.1007: parameters: {details}", "CreateResourceStack", name="s", templateContent=json.dumps(WEB), **parameters)
    assert await list_all(Client(zmock), "cloudformation/stack") == []


FAILURES = [
    ({"Fn::GetAtt": ["Disk", "colour"]}, "there is no 'colour'"),
    ({"Fn::Select": [3, ["a"]]}, 'Fn::Select does not take [3, ["a"]]'),
    ({"Fn::Select": ["x", ["a"]]}, 'Fn::Select does not take ["x", ["a"]]'),
    ({"Ref": {"a": 1}}, 'Ref does not take [{"a": 1}]'),
    ({"Ref": ["ZStack::StackName", "b"]}, 'Ref does not take ["ZStack::StackName", "b"]'),
    ({"Fn::Base64": None}, "Fn::Base64 does not take [null]"),
    ({"Fn::FindInMap": ["no", "such", "map"]}, "there is no 'no'"),
    ({"Fn::Join": [1, 2]}, "Fn::Join does not take [1, 2]"),
]


@each("failure", FAILURES)
async def test_a_function_that_fails_fails_its_resource(zmock, failure):
    await zmock.login()
    name, details = failure
    parts = {"Disk": GOOD, "Zone": resource("Zone", name=name) | {"DependsOn": ["Disk"]}}
    await Client(zmock).fails(f"SYS.1006 <- SYS.1007: Zone: {details}", "CreateResourceStack", name="s", templateContent=template(**parts))
    (stack,) = await list_all(Client(zmock), "cloudformation/stack")
    assert stack["status"] == "Rollbacked"


WORDS = some.sampled_from(["Ref", "Fn::GetAtt", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::Base64", "Fn::FindInMap", "Type", "A", "B", "P", "ZStack::StackName", "name", "0", ""])
JSON = some.recursive(some.none() | some.booleans() | some.integers() | some.floats() | WORDS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(WORDS, inner, max_size=2), max_leaves=8)
PARTS = some.fixed_dictionaries({"Resources": some.dictionaries(WORDS, some.fixed_dictionaries({}, optional={
    "Type": some.sampled_from(["ZStack::Resource::Zone", "ZStack::Action::DeleteZone"]), "Properties": some.fixed_dictionaries({"name": JSON, "uuid": JSON}) | some.fixed_dictionaries({"name": JSON}),
    "DependsOn": JSON, "DeletionPolicy": JSON}) | JSON, max_size=3)}, optional={"Parameters": some.dictionaries(WORDS, JSON), "Outputs": JSON, "Mappings": JSON})  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=PARTS, parameters=some.none() | JSON)
async def test_no_template_whatever_is_in_it_brings_about_a_traceback(zmock, body, parameters):
    await zmock.login()
    with without_exceptions(body):
        call = {"templateContent": json.dumps(VERSION | body), "parameters": json.dumps(parameters)}
        for api, more in (("CreateResourceStack", {"name": "s"}), ("PreviewResourceStack", {}), ("CheckStackTemplateParameters", {})):
            status, _ = await Client(zmock).end(*await Client(zmock).begin(api, **call | more))
            assert status in (200, 400, 503)


@pytest.mark.zmock(delay=DELAY)
async def test_a_stack_under_way_has_failed_after_a_restart_and_can_be_begun_anew(zmock):
    await zmock.login()
    client = Client(zmock)
    await client.begin("CreateResourceStack", name="s", templateContent=template(A=GOOD, B=GOOD))
    await zmock.advance(DELAY + 1)
    await zmock.incident({"management-node-restart": {}})
    await zmock.login()
    (stack,) = await list_all(client, "cloudformation/stack")
    assert (stack["status"], stack["reason"]) == ("Failed", "the management node restarted")
    assert (await client.call("RestartResourceStack", uuid=stack["uuid"]))["status"] == "Created"
    assert len([each for each in await list_all(client, "disk-offerings") if each["name"] == "d"]) == 2


@pytest.mark.zmock(delay=DELAY)
@each("seconds", (0.5, 1.5, 2.5))
async def test_nothing_stays_of_a_stack_that_is_deleted_while_it_is_made(zmock, seconds):
    await zmock.login()
    client = Client(zmock)
    before = await counts(client)
    status, made = await client.begin("CreateResourceStack", name="s", templateContent=template(A=GOOD, B=GOOD, C=GOOD))
    await zmock.advance(seconds * DELAY)
    (stack,) = await list_all(client, "cloudformation/stack")
    await client.call("DeleteResourceStack", uuid=stack["uuid"])
    await client.end(status, made)
    assert await counts(client) == before


async def test_a_vcenter_brings_a_datacenter_a_cluster_and_storage(client):
    center = await client.call("AddVCenter", name="v", domainName="vc.example.com", username="root", password="p", zoneUuid=named("zone-1"))
    assert (center["status"], center["state"], center["userName"], center["https"]) == ("Connected", "Enabled", "root", True)
    for collection in ("datacenters", "clusters", "primary-storage", "backup-storage"):
        (part,) = await list_all(client, f"vcenters/{collection}", f"vCenterUuid={center['uuid']}")
        assert part["vCenterUuid"] == center["uuid"]
    await client.fails("SYS.1006: there has been a vCenter[domainName:vc.example.com]", "AddVCenter", name="v", domainName="vc.example.com", username="u", password="p", zoneUuid=named("zone-1"))
    other = await client.call("AddVCenter", name="w", domainName="other.example.com", username="root", password="p", zoneUuid=named("zone-1"))
    await client.fails("SYS.1006: there has been a vCenter[domainName:vc.example.com]", "UpdateVCenter", uuid=other["uuid"], domainName="vc.example.com")
    await client.call("DeleteVCenter", uuid=other["uuid"])
    changed = await client.call("UpdateVCenter", uuid=center["uuid"], username="other", port=444, domainName="vc.example.com")
    assert (changed["userName"], changed["port"]) == ("other", 444)
    assert await client.call("SyncVCenter", uuid=center["uuid"]) in (None, {})
    await client.call("DeleteVCenter", uuid=center["uuid"])
    for collection in ("datacenters", "clusters", "primary-storage", "backup-storage"):
        assert await list_all(client, f"vcenters/{collection}") == []
