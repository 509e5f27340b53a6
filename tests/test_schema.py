"""data/schema.json takes the files that zmock takes, and refuses those that it refuses, as far as a schema can."""

import functools
import json
import re

import aiohttp
import schema
import test_catalogue_files
import test_cloud_file
import test_faults
import test_scenarios
from asking import each
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from zmock import CATALOGUE_FILE, DEMO_FILE, SCHEMA_FILE, WORLDS, create_app, main, serve

DOCUMENT = schema.document()
FAULTS = create_app()[WORLDS].main.rest.faults
TAKEN = {  # by kind of file
    "rules": [[], [{"api": "CreateZone"}], [{"path": "/x*", "method": "GET", "then": {"status": 503, "headers": {"Retry-After": "5"}}}]],
    "scenario": [
        [], test_scenarios.OUTAGE, [{"at": 0.5, "rule": test_scenarios.SLOW}, {"at": 3, "cloud": {"zones": [{"name": "z"}]}}],
        [{"at": 1, "incident": {"management-node-down": 30}}, {"at": 2, "incident": {"network-partition": ["zone-1"]}}, {"at": 3, "incident": {"license-expired": {}}}],
    ],
    "cloud": [{}, test_cloud_file.SMALL, {"$schema": "x", "now": None, "Zone": [{"name": None}]}, json.loads(DEMO_FILE.read_text(encoding="utf-8"))],
    "catalogue": [{}, test_catalogue_files.RACKS, {"$schema": "x", "apis": {"1": test_catalogue_files.QUERY}}, json.loads(CATALOGUE_FILE.read_text(encoding="utf-8"))],
}  # fmt: skip
MISTAKES = {  # by kind of file: what is wrong, and why zmock refuses it
    "rules": [([rule], why) for rule, why in test_faults.REFUSED],
    "scenario": [*test_scenarios.WRONG.values()],
    "cloud": [(test_cloud_file.SMALL | mistake, why) for mistake, why in test_cloud_file.MISTAKES if isinstance(mistake, dict)],
    "catalogue": [(tables, why) for tables, why in test_catalogue_files.WRONG.values() if isinstance(tables, dict)],
}
BEYOND = {  # by kind of file: why zmock refuses what no schema does. It depends on other values, on the cloud, or on Unicode.
    "rules": r"\*|names no API$|is not simulated|at most 500 characters|said in JSON|is a text|smaller one first|already|'method' is|did you mean|no (resource|query)"
    r" at all|has 'resource.name'|without a job|has no stage|is no number that JSON|cannot hold|surrogate|that of directives|without a query|then\.status|\"path\": \.\.\.|no 'at'|glob over|which no rule|before zmock reads",
    "scenario": r"already|Host 'hots-1'|there is no Zone|'end' is the id",
    "cloud": r"there is no|leads nowhere|is of type|have the name|no date|is SftpBackupStorage|did you mean ee06|resourceUuid of UserTag|needs a hostUuid|and its cluster|has the managementIp"
    r"|cannot go on|there twice|needs",
}
IN_A_ROW = r"is missing|(?<!fields) is empty|no key|there is no table|: ?\w+ is (a|an|true) |is not (words|a (method|path|name|category|code|relation|place)|members)"  # refusals of a catalogue


@functools.cache
def validator(kind):
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": DOCUMENT["$defs"]})


def fits(kind, content):
    return validator(kind).is_valid(content)


def test_the_file_is_as_the_tables_of_zmock_make_it():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema.text(), "python tests/schema.py writes it anew"
    assert json.loads(schema.text()) == json.loads(json.dumps(DOCUMENT))
    Draft202012Validator.check_schema(DOCUMENT)


@each(("kind", "content"), [(kind, content) for kind, contents in TAKEN.items() for content in contents])
def test_a_file_that_zmock_takes_fits(kind, content):
    assert fits(kind, content) and Draft202012Validator(DOCUMENT).is_valid(content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(test_faults.TOLD)
def test_whatever_rule_zmock_takes_fits(rule):
    try:
        FAULTS.compile(rule)
    except ValueError:
        return
    assert fits("rules", [rule])


@each(("kind", "content", "why"), [(kind, *mistake) for kind, mistakes in MISTAKES.items() for mistake in mistakes])
def test_a_mistake_that_a_schema_can_see_does_not_fit(kind, content, why):
    is_visible = re.search(IN_A_ROW, why) if kind == "catalogue" else not re.search(BEYOND[kind], why)
    assert not (is_visible and fits(kind, content)), why


async def test_the_mock_answers_with_the_schema(zmock):
    async with aiohttp.ClientSession() as http, http.get(f"{zmock.base}/zmock/schema.json") as answer:
        assert (answer.status, await answer.json()) == (200, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


async def test_a_mock_without_the_file_says_which_one_is_missing(zmock, monkeypatch, tmp_path):
    monkeypatch.setattr("zmock.SCHEMA_FILE", tmp_path / "schema.json")
    async with aiohttp.ClientSession() as http, http.get(f"{zmock.base}/zmock/schema.json") as answer:
        assert answer.status == 404 and "schema.json" in (await answer.json())["error"]


@each("tables", ({"zones": [{"name": "z"}]}, {"apis": [test_catalogue_files.QUERY], "inventories": [test_catalogue_files.RACK]}))
def test_a_file_may_name_its_schema(tmp_path, capsys, tables):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"$schema": "http://127.0.0.1:8080/zmock/schema.json"} | tables))
    assert main(["check", str(path)]) == 0
    assert "$schema" not in capsys.readouterr().out
    with serve(**({"cloud": str(path)} if "zones" in tables else {"catalogue": [str(path)]})) as mock:
        assert mock.create("CreateZone", name="y")


def test_an_editor_sees_the_words_of_a_key():
    then = DOCUMENT["$defs"]["rules"]["items"]["properties"]["then"]["anyOf"][0]
    assert "HOST.1010" in then["properties"]["error"]["enum"] and "hold" in then["properties"]["job"]["enum"]
    vm = DOCUMENT["$defs"]["cloud"]["$defs"]["VmInstance"]["properties"]
    assert "Running" in vm["state"]["enum"] and vm["vmNics"]["items"] == {"$ref": "#/$defs/cloud/$defs/VmNic"}
    assert DOCUMENT["$defs"]["scenario"]["items"]["properties"]["incident"]["properties"].keys() >= {"host-down", "license-expired"}
