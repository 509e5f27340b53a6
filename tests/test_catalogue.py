"""The rows of the catalogue hold together, and cover every API that ZStack 2.5.1 has."""

import json
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
from asking import each, each_nth
from canonical import text_of
from tinydb import TinyDB

from zmock import (
    BEHAVIOURS,
    EFFECTS,
    HOOKS,
    TABLES,
    Catalogue,
    Each,
    Perform,
    QueryEngine,
    SettingsError,
    ValueSpec,
    When,
    catalogue,
    named,
    names_uuids,
    refuse_idle_rows,
    type_referred_to,
    verb_of,
)

FILE = Path(__file__).parent.parent / "data" / "catalogue.json"
RECORDS = json.loads(FILE.read_text(encoding="utf-8"))
ALL = catalogue()
EVERY = list(ALL.apis.values())
SIMULATED = [api for api in EVERY if api.backing != "none"]
RESOURCES = list(ALL.resources.values())
INDEXED = {record["name"]: record.get("indexed", ()) for record in RECORDS["inventories"].values()}
TEXTS = [text for api in EVERY for text in api.takes]
DOCUMENTED = set("""
    QueryManagementNode GetVersion GetCurrentTime IsReadyToGo CreateSystemTag QuerySystemTag UpdateSystemTag CreateUserTag QueryUserTag
    DeleteTag GetTaskProgress DeleteNotifications QueryNotification UpdateNotificationsStatus GetCpuMemoryCapacity TriggerGCJob DeleteGCJob
    QueryGCJob GetLicenseInfo GetLicenseCapabilities GetLicenseAddOns DeleteLicense ReloadLicense UpdateLicense SubmitLongJob DeleteLongJob
    QueryLongJob CancelLongJob
""".split())  # chapter 4 of the manual
INTERNAL = {"owner", "roleUuid", "ipRangeUuid", "clusterUuid", "cutOff", "enabled", "hostUuid"}  # kept in items, shown in no inventory


def names(rows):
    return [row.name for row in rows]


@each("api", SIMULATED, ids=names(SIMULATED))
def test_what_a_parameter_refers_to_is_a_resource_and_what_is_answered_is_known(api):
    assert {param.refers for param in api.params.values() if param.refers} <= {*ALL.resources, "Resource"}
    assert set(re.findall(r":(\w+)", api.answers)) <= {*ALL.resources, *ALL.structs}


@each("api", EVERY, ids=names(EVERY))
def test_an_api_is_called_by_a_verb_and_a_path_and_its_path_variables_are_its_parameters(api):
    assert re.fullmatch(r"(GET|POST|PUT|DELETE) (/[\w-]*(\{\w+\})?)+", api.call)
    if api.backing != "none":
        assert set(re.findall(r"\{(\w+)\}", api.path)) <= api.params.keys()


@each("api", EVERY, ids=names(EVERY))
def test_the_words_of_an_api_are_known_and_its_message_is_a_java_class(api):
    assert api.backing in ("manual", "server", "generic", "none")
    assert api.caller in ("", "admin") and api.long in ("", "always", "possible", "cancellable")
    assert re.fullmatch(r"(\w+(:\w+)? ?)*", api.answers)
    assert re.fullmatch(r"org\.zstack\.[\w.]*\.?API\w+Msg", api.message)
    assert {*api.fails.split(" <- ")} <= {"", *ALL.errors}


@each("text", sorted(set(TEXTS)))
def test_the_text_of_a_parameter_can_be_read_and_says_all_of_it(text):
    param = ValueSpec.parse(text)
    assert re.fullmatch(r"\w+", param.name)
    assert param.type in ("str", "int", "long", "double", "bool", "list", "map", "maps")
    assert ValueSpec.parse(written(param)) == param


def written(param):
    """A parameter as the text that it is read from."""
    bounds = f"{param.low}..{param.high}{param.unit}" if param.low is not None else ""
    gone = ("?any" if param.any_form else "?") if param.may_be_gone else ""
    words = (
        param.longest and f"<={param.longest}", param.shortest and f">={param.shortest}",
        param.values and "{%s}" % "|".join(param.values),
        param.regex and f"/{param.regex}/", bounds, param.refers and f"@{param.refers}{gone}", param.nonempty and "nonempty",
        param.nonblank and "nonblank", param.verbatim and "verbatim", param.default is not None and f"={param.default}",
    )  # fmt: skip
    return " ".join([f"{param.name}:{param.type}{'!' if param.required else ''}", *filter(None, words)])


def test_every_constraint_of_a_parameter_is_read():
    text = "vlans:list! <=9 >=2 {a|b} /x+/ 1..4094bytes 0.. ..8 @Zone?any nonempty nonblank optional verbatim =22 or so"
    value = ValueSpec.parse(text)
    assert vars(value) == {
        "name": "vlans", "type": "list", "required": True, "shortest": 2, "longest": 9, "values": ("a", "b"), "regex": "x+",
        "low": 1, "high": 4094, "unit": "bytes", "least": 0, "most": 8, "refers": "Zone", "may_be_gone": True, "any_form": True,
        "nonempty": True, "nonblank": True, "optional": True, "verbatim": True, "default": "22 or so",
    }  # fmt: skip
    assert {field.name for field in fields(ValueSpec)} == set(vars(value))


@each("row", RESOURCES, ids=names(RESOURCES))
def test_relations_lead_from_a_field_to_a_field_of_a_resource(row):
    for name, relation in row.relations.items():
        if relation.via:
            assert relation.via[0] in row.relations, f"{name} goes through {relation.via[0]}"
            assert QueryEngine(ALL, None, None, {}).beyond(row, name)
            continue
        assert relation.own.partition(".")[0] in ALL.item_fields[row.name], f"{name} starts at {relation.own}"
        assert relation.target in ALL.resources, f"{name} leads to {relation.target}"
        assert relation.theirs.partition(".")[0] in ALL.item_fields[relation.target], f"{name} ends at {relation.theirs}"
    assert set(row.embeds) <= row.relations.keys()


@each("row", RESOURCES, ids=names(RESOURCES))
def test_a_relation_ends_where_an_index_finds_what_it_leads_to(row):
    for relation in row.relations.values():
        target = ALL.resources.get(relation.target)
        assert not target or QueryEngine(ALL, None, None, {}).indexed(target, relation.theirs), relation


def of_subtypes(row):
    return {name for other in ALL.resources.values() if other.of == row.name for name in other.all_fields}


@each("row", RESOURCES, ids=names(RESOURCES))
def test_a_number_that_is_missing_has_no_text_for_a_default(row):
    types = row.all_fields
    assert [need for need in row.needs if "=" in need and types.get(need.partition("=")[0]) in ("int", "long", "double", "bool")] == []


LEADS_ANYWHERE = {  # to objects of several types, of no type here, or of none that is left
    "resourceUuid", "targetResourceUuid", "managementNodeUuid", "accountUuid", "attachedL2NetworkUuids", "defaultRouteL3NetworkUuid", "diskUuid",
    "monUuid", "taskUuid", "parentUuid",
}  # fmt: skip


@each("row", RESOURCES, ids=names(RESOURCES))
def test_a_field_with_uuids_leads_to_a_type_so_that_cloud_files_may_name_an_object_there(row):
    if row.inside:
        return
    family = [other for other in ALL.resources.values() if row.name in (other.name, other.of) or other.name == row.stored]
    leads = {name for other in family for name in (*other.leads, *other.remembers)}
    assert {name for name in row.all_fields if names_uuids(name) and name != "uuid"} <= leads | LEADS_ANYWHERE


# references whose end no key of the row tells, with what ends them
ENDS_OTHERWISE = {
    **dict.fromkeys(("SharedResource.resourceUuid", "SystemTag.resourceUuid", "UserTag.resourceUuid"), "each goes with its resource"),
    **dict.fromkeys(("GarbageCollector.managementNodeUuid", "LongJob.managementNodeUuid"), "no API deletes a management node"),
    **dict.fromkeys(("Host.zoneUuid", "L3Network.zoneUuid", "VmInstance.zoneUuid"), "each goes with what is in the zone and holds it"),
    **dict.fromkeys(("PrimaryStorage.vCenterUuid", "BackupStorage.vCenterUuid"), "the row of the subtype tells it"),
    "VmInstance.hostUuid": "the deletion of a host stops its machines",
    "VmInstance.defaultRouteL3NetworkUuid": "a router ends with its public network",
    "VmNicSecurityGroupRef.vmInstanceUuid": "the nic of the machine ends it",
    "TaskProgress.parentUuid": "no API deletes a step",
}  # fmt: skip
NEVER_STORED = {"AccountResourceRef", "VirtualRouterEipRef", "VirtualRouterLoadBalancerRef", "VirtualRouterPortForwardingRuleRef"}
COMPUTED = {subject for event, subject in HOOKS if event == "computed"}


@each("row", [row for row in RESOURCES if not row.of and not row.inside and row.name not in NEVER_STORED], ids=lambda row: row.name)
def test_a_reference_to_what_is_deleted_ends_with_it_or_is_remembered(row):
    ended = {(child, key) for dependents in ALL.dependents.values() for child, key, _ in dependents}
    left = {name for name in row.all_fields if type_referred_to(ALL, row, name) and (row.name, name) not in ended}
    left -= {*row.remembers, *(name for name in left if f"{row.name}.{name}" in COMPUTED)}
    assert {f"{row.name}.{name}" for name in left} <= ENDS_OTHERWISE.keys()


@each("row", RESOURCES, ids=names(RESOURCES))
def test_what_dies_with_another_or_outlives_it_is_found_by_a_key_that_leads_there(row):
    for word in (*row.dies_with, *row.outlives):
        key = re.split("[:,]", word)[0]
        assert key in {*row.all_fields, *row.hidden, *INTERNAL, *of_subtypes(row)}, word
        assert key in row.indexes, f"{word} is looked for by a scan"
        assert {*(word.partition(":")[2].split("|") if "|" in word else [row.leads[key]])} <= ALL.resources.keys()
    assert {name.split(":")[0] for word in row.outlives for name in word.split(",")} <= {*row.all_fields, *INTERNAL}
    below, _, key = row.switches.partition(".")
    assert not below or key in ALL.resources[below].indexes


def test_no_row_of_a_creation_takes_the_uuid_of_the_new_object_for_every_creation_does():
    assert [api.name for api in SIMULATED if api.creates and "resourceUuid" in api.params and not api.params["resourceUuid"].required] == []


@each("api", SIMULATED, ids=names(SIMULATED))
def test_what_a_get_adds_up_are_fields(api):
    if api.sums:
        assert {*api.answers.split(), *filter(None, api.by.values())} <= {*ALL.resources[api.sums].all_fields}
        assert api.by.keys() <= api.params.keys()


@each("api", SIMULATED, ids=names(SIMULATED))
def test_what_is_simulated_has_a_function_or_a_verb_that_does_it(api):
    if not api.behaviour:
        assert verb_of(api) and (api.type in ALL.resources or api.always is not None or api.sums or api.does)


def functions_of(clauses):
    for clause in clauses:
        effect = clause.effect
        while isinstance(effect, When | Each):
            if isinstance(effect, When):
                yield from functions_in(effect.condition)
            effect = effect.clause.effect
        if isinstance(effect, Perform):
            yield effect.function


def functions_in(condition):
    return [EFFECTS[test.subject] for test in condition.tests if test.kind == "call"]


def test_every_function_that_rows_may_name_is_named_by_one():
    clauses = [*(clause for api in EVERY for clause in api.clauses), *(clause for ending in ALL.endings.values() for clause in ending)]
    conditions = [condition for api in EVERY for condition in (*(refusal.condition for refusal in api.refusals), *api.conditions.values())]
    tests = {function for condition in conditions for function in functions_in(condition)}
    assert {*EFFECTS.values()} == {*functions_of(clauses)} | tests


@each("row", RESOURCES, ids=names(RESOURCES))
def test_a_row_speaks_of_fields_that_it_has(row):
    assert row.new.keys() <= {*row.all_fields, *(word.partition(":")[0] for word in row.hidden)}
    assert row.discriminator in ("", *row.fields)
    assert row.of in ("", *ALL.resources)
    assert not ALL.resources[row.stored].of
    assert row.java.startswith("org.zstack.")
    indexed = {name.partition(".")[0] for name in INDEXED.get(row.name, ())}
    assert indexed <= {*row.all_fields, *row.hidden, *INTERNAL, *of_subtypes(row)}


def test_a_path_and_a_verb_mean_one_api_and_an_action_on_it_too():
    calls = Counter(call for api in EVERY for call in calls_of(api))
    assert {call: n for call, n in calls.items() if n > 1} == {}


def calls_of(api):
    """Verb, path and action: what a request chooses an API by."""
    return [(api.method, re.sub(r"\{\w+\}", "{}", path), api.key if api.method == "PUT" else "") for path in api.paths]


def test_every_function_of_an_api_is_named_as_one():
    assert BEHAVIOURS.keys() - {name.lower() for name in ALL.apis} == set()


def test_every_hook_is_about_something_that_there_is():
    subjects = {"removed": {*ALL.resources}, "changed": {*ALL.resources}, "connected": {"Host"}, "configured": {*ALL.configurations}, "configuring": {*ALL.configurations}, "called": {"", *ALL.apis}, "tagging": {""}, "planning": {""}, "noted": {""}, "notified": {""}, "failed": {*ALL.apis},
                "expunged": {"Image"}, "serving": {"L3Network"}}  # fmt: skip
    for event, subject in HOOKS:
        if event == "computed":
            type, _, name = subject.partition(".")
            assert name in ALL.item_fields[type], subject
        elif event == "tagged":
            assert any(pattern.startswith(f"{subject}::") for row in RESOURCES for pattern in row.tags), subject
        else:
            assert subject in subjects[event], (event, subject)


def test_the_manuals_apis_are_backed_by_it():
    assert len(DOCUMENTED) == 28
    in_examples = {"CreateVmInstance", "CreateZone", "DestroyVmInstance", "LogInByAccount", "LogOut", "QueryVmInstance", "QueryVmNic",
                   "QueryZone", "StartVmInstance", "StopVmInstance"}  # fmt: skip
    assert {api.name for api in EVERY if api.backing == "manual"} == DOCUMENTED | in_examples


def test_the_apis_are_the_893_of_zstack():
    assert len(RECORDS["apis"]) == len(ALL.apis) == 893


def test_the_file_is_as_the_canonical_writer_writes_it():
    assert FILE.read_text(encoding="utf-8") == text_of(RECORDS), "python tests/canonical.py writes it anew"


@pytest.mark.parametrize("table", TABLES)
def test_records_have_numbers_of_their_own_and_no_name_is_there_twice(table):
    assert all(number == str(int(number)) for number in RECORDS[table])
    keys = [record.get("name") or record.get("code") or record["type"] for record in RECORDS[table].values()]
    assert table in ("tags", "metrics") or len(keys) == len({*keys})


def test_tinydb_opens_the_shipped_file():
    with TinyDB(FILE, access_mode="r") as db:
        assert db.tables() == {*TABLES}
        assert [dict(document) for document in db.table("apis")] == [*RECORDS["apis"].values()]


def test_a_missing_catalogue_is_a_line_that_says_where_it_belongs(tmp_path):
    with pytest.raises(SettingsError, match="is missing"):
        Catalogue(tmp_path / "catalogue.json")


@pytest.mark.parametrize(
    ("path", "api", "variables"),
    (
        ("/zones", "CreateZone", {}),
        ("/zones/a", "QueryZone", {"uuid": "a"}),
        ("/vm-instances/nics", "QueryVmNic", {}),
        ("/vm-instances/nics/a", "QueryVmNic", {"uuid": "a"}),
        ("/volumes/data", "CreateDataVolume", {}),
        ("/volumes/a", "QueryVolume", {"uuid": "a"}),
        ("/volumes/a/vm-instances/b", "AttachDataVolumeToVm", {"volumeUuid": "a", "vmInstanceUuid": "b"}),
        ("/l3-networks/a/ip-ranges", "AddIpRange", {"l3NetworkUuid": "a"}),
        ("/zones/{}", "QueryZone", {"uuid": "{}"}),
    ),
)
def test_a_literal_path_goes_before_a_variable(path, api, variables):
    assert (api, variables) in [(found.name, values) for found, values in ALL.route(path)]


def test_every_api_is_found_by_each_of_its_paths():
    paths = [(api.name, path) for api in ALL.apis.values() for path in api.paths]
    for name, path in paths:
        variables = {variable: named(variable) for variable in re.findall(r"{(\w+)}", path)}
        assert (name, variables) in [(found.name, values) for found, values in ALL.route(path.format(**variables))], path


@pytest.mark.parametrize("path", ("/zonez", "/zones/", "/hybrid/aliyun/access-pointx/remotex", "/zones//actions", "/zones/a/b/c/d", "", "/", "/Zones", "/vm-instances//nics"))
def test_a_path_that_is_none_leads_nowhere(path):
    assert ALL.route(path) == []


def test_the_literal_path_hides_what_the_variable_would_have_found():
    assert [api.name for api, _ in ALL.route("/volumes/data") if api.method in ("GET", "DELETE")] == []


@pytest.mark.parametrize("text", ('{"apis": [', "[]", "5", "{}", '{"apis": [], "inventories": {}}', '{"apis": {}, "inventories": 5}', "[" * 100_000, "\0"), ids=lambda text: text[:9])
def test_a_catalogue_that_cannot_be_read_says_so(tmp_path, text):
    broken = tmp_path / "catalogue.json"
    broken.write_text(text)
    with pytest.raises(SettingsError, match="is not a catalogue"):
        Catalogue(broken)


WRONG_ROWS = (  # a table, a record, what is wrong in it, and what the start says besides file and record
    ("apis", "SetVmHostname", {"does": ["tagg hostname::{hostname}"]}, "there is no effect 'tagg hostname::{hostname}'"),
    ("apis", "SetVmHostname", {"does": ["take_vnis"]}, "there is no effect 'take_vnis', did you mean take_vni?"),
    ("apis", "SetVmHostname", {"does": ["when nonsense: tag hostname::{hostname}"]}, "'nonsense': there is no parameter or field nonsense"),
    ("apis", "SetVmHostname", {"does": ["hostUid = none"]}, "there is no parameter or field hostUid, did you mean hostUuid?"),
    ("apis", "SetVmHostname", {"does": ["hostUuid.nme = none"]}, "nothing in hostUuid.nme has a field nme"),
    ("apis", "SetVmHostname", {"does": ["add Zonee name=hostname"]}, "there is no resource 'Zonee', did you mean Zone?"),
    ("apis", "SetVmHostname", {"does": ["add Zone nam=hostname"]}, "Zone has no field nam"),
    ("apis", "SetVmHostname", {"refuses": [["hostnam is Enabled", "SYS.1006", "no"]]}, "'hostnam is Enabled': there is no parameter or field hostnam, did you mean hostname?"),
    ("apis", "SetVmHostname", {"refuses": [["configured.vm.num is true", "SYS.1006", "no"]]}, "there is no setting 'vm/num', did you mean vm/numa?"),
    ("apis", "SetVmHostname", {"refuses": [["hostname is Enabled", "SYS.1006", "no {hostnam}"]]}, "there is no parameter or field hostnam"),
    ("apis", "SetVmHostname", {"refuses": [["no Zonee uuid=hostname", "SYS.1006", "no"]]}, "there is no resource 'Zonee'"),
    ("apis", "SetVmHostname", {"refuses": [["hostname", "SYS.9", "no"]]}, "there is no error code 'SYS.9'"),
    ("apis", "SetVmHostname", {"refuses": [["hostname"]]}, "a refusal is a condition, an error code and a text"),
    ("apis", "SetVmHostname", {"refuses": [["hostname", "SYS.1006", "no", "later"]]}, "a refusal is a condition, an error code and a text"),
    ("apis", "SetVmHostname", {"refuses": ["hostname"]}, "refuses is a list of lists of texts"),
    ("apis", "SetVmHostname", {"nowe": True}, "there is no key 'nowe', did you mean now?"),
    ("apis", "SetVmHostname", {"now": 1}, "now is true or false, not 1"),
    ("apis", "SetVmHostname", {"backing": "servr"}, "there is no backing 'servr', did you mean server?"),
    ("apis", "SetVmHostname", {"caller": "admn"}, "there is no caller 'admn', did you mean admin?"),
    ("apis", "SetVmHostname", {"long": "maybe"}, "there is no kind of long job 'maybe'"),
    ("apis", "SetVmHostname", {"takes": ["uuid! @VmInstance", "hostname:strin!"]}, "'hostname:strin!' is no name with a type, did you mean str?"),
    ("apis", "SetVmHostname", {"takes": ["uuid! @VmInstance", "hostname! ~5"]}, "'~5' is no constraint"),
    ("apis", "SetVmHostname", {"takes": ["uuid! @VmInstanc", "hostname!"]}, "there is no resource 'VmInstanc', did you mean VmInstance?"),
    ("apis", "SetVmHostname", {"takes": ["hostname!"]}, "there is no parameter 'uuid'"),
    ("apis", "SetVmSshKey", {"does": []}, "nothing does its calls"),
    ("apis", "SetVmHostname", {"call": "PUTT /vm-instances/{uuid}/actions"}, "is not a method and a path, such as GET /zones"),
    ("apis", "SetVmHostname", {"dose": "x"}, "there is no key 'dose', did you mean does?"),
    ("apis", "SetVmHostname", {"does": 5}, "does is a list of texts, not 5"),
    ("apis", "GetVmMonitorNumber", {"tells": {"monitorNumber:inte =1": "VDIMonitorNumber::"}}, "'monitorNumber:inte' is no name with a type, did you mean int?"),
    ("apis", "GetPrimaryStorageCapacity", {"sums": "PrimaryStorag"}, "there is no resource 'PrimaryStorag'"),
    ("inventories", "Certificate", {"fields": ["uuid", "name:strin"]}, "there is no type of name, 'strin', did you mean str?"),
    ("inventories", "Certificate", {"relations": ["zone: zoneUuid=Zonee.uuid"]}, "there is no resource 'Zonee', did you mean Zone?"),
    ("inventories", "Certificate", {"relations": ["zone: nonsense.zone"]}, "there is no relation 'nonsense'"),
    ("inventories", "Certificate", {"ends": ["dropp Zone uuid=uuid"]}, "there is no effect 'dropp Zone uuid=uuid'"),
    ("inventories", "Certificate", {"dies_with": ["zoneUuid:Zonee"]}, "there is no resource 'Zonee'"),
    ("inventories", "Certificate", {"of": "Nonsense"}, "there is no resource 'Nonsense'"),
    ("configurations", "host/load.all", {"value": "boolean"}, "'value:boolean' is no name with a type, did you mean bool?"),
    ("structs", "VipPortRange", {"fields": ["uuid", "ports:lists"]}, "there is no type of ports, 'lists', did you mean list?"),
)


@pytest.mark.parametrize("mistake", each_nth(8, WRONG_ROWS), ids=[f"{row[1]} {row[2]}" for row in WRONG_ROWS])  # each reads the whole catalogue
def test_a_row_with_a_word_that_is_none_stops_the_start_and_names_row_and_clause(tmp_path, mistake):
    table, name, wrong, why = mistake
    ((number, row),) = ((number, row) for number, row in RECORDS[table].items() if row["name"] == name)
    (tmp_path / "catalogue.json").write_text(json.dumps(RECORDS | {table: RECORDS[table] | {number: row | wrong}}))
    with pytest.raises(SettingsError) as error:
        refuse_idle_rows(Catalogue(tmp_path / "catalogue.json"))
    told = str(error.value)
    assert str(tmp_path / "catalogue.json") in told and name in told and why in told and "\n" not in told


@each("struct", ALL.structs.values(), ids=ALL.structs)
def test_an_inventory_that_no_query_reaches_has_fields_of_known_types(struct):
    assert {*struct.fields.values()} <= {"str", "int", "long", "double", "bool", "date", "list", "map", "maps", "any"}


# Java classes


def test_a_class_is_called_as_its_row():
    plain = {name: java.simple for name, java in ALL.classes.items() if java.simple not in (name, f"{name}Inventory")}
    assert plain == {}
    assert [java.name for java in ALL.classes.values() if not re.fullmatch(r"org\.zstack(\.[a-z]\w*)+\.[A-Z]\w+(\$[A-Z]\w+)?", java.name)] == []


UNTYPED = {  # members that are maps of texts, or anything
    "MetricDatum.labels", "Notification.opaque", "TaskProgress.opaque", "L2Network.attachedCidrs", "L2VxlanNetworkPool.attachedCidrs", "LdapEntry.attributes",
    "TicketStatusHistory.operationContext", "ArchiveTicketStatusHistory.operationContext", "Ticket.accountSystemContext",
    "ArchiveTicket.accountSystemContext",
}  # fmt: skip


@each("row", RESOURCES, ids=names(RESOURCES))
def test_each_member_of_an_inventory_that_holds_objects_has_a_class(row):
    named = {name for java in ALL.classes[row.name].family() for name in java.members}
    objects = {f"{row.name}.{name}" for name, kind in row.all_fields.items() if kind in ("map", "maps") and name not in named}
    assert objects <= UNTYPED


def test_a_subtype_holds_what_it_is_a_subtype_of_holds():
    for row in ALL.resources.values():
        if row.of:
            assert ALL.classes[row.of].members.keys() <= ALL.classes[row.name].members.keys(), row.name


@pytest.mark.parametrize("table", ("apis", "inventories", "structs"))
def test_a_row_that_holds_what_is_no_class_stops_the_start_and_is_told_which_is_near(tmp_path, table):
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    row = next(row for row in rows[table].values() if any("[" in word for word in row.get("holds", ())))
    right = next(filter(None, (re.search(r"\[(\w+)\]", word) for word in row["holds"])))[1]
    row["holds"] = [word.replace(f"[{right}]", f"[{right}x]") for word in row["holds"]]
    (tmp_path / "catalogue.json").write_text(json.dumps(rows))
    with pytest.raises(SettingsError, match=rf"{row['name']}: .*\[{right}x\], which is no class, did you mean {right}\?"):
        Catalogue(tmp_path / "catalogue.json")
