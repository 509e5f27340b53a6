"""/zmock/fuzz and fuzz(): answers vary as the API allows, and no further."""

import asyncio
import json
import re

import pytest
from asking import ask_control, each, one
from jsonschema import Draft202012Validator
from test_control import control
from test_every_api import SIMULATED, Drive

from zmock import VARIATIONS, Contract, named, serve

ZONE, PS, VM = named("zone-1"), named("ps-nfs"), named("vm-web-1")
QUERIES = {name: api.path for name, api in SIMULATED.items() if api.kind == "Query" and "{" not in api.path}
CALLS = (
    "CreateZone", "UpdateZone", "CreateVmInstance", "GetVmMigrationCandidateHosts", "CloneVmInstance", "CreateVolumeSnapshot",
    "GetVersion", "DeleteZone",
)  # fmt: skip
JOB = "4" * 12 + "4" + "4" * 3 + "8" + "4" * 15
FALSE = {"seed": None, "vary": []}


async def asked(mock, path):
    """The inventories that a query answers."""
    return (await mock.request("GET", path))[1]["inventories"]


async def everything(mock):
    """What all queries answer."""
    return {path: await mock.request("GET", path) for path in QUERIES.values()}


def uuids(inventories):
    return [inventory["uuid"] for inventory in inventories]


def in_groups(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]


# a function of the seed and the object


@each("seed", (1, 2))
async def test_each_answer_is_what_the_contract_says(each_dialect, seed):
    components = json.loads(json.dumps(Contract(each_dialect.cloud).document("")["components"]))
    each_dialect.fuzz(seed)
    drive = Drive(each_dialect)
    bodies = [(name, await each_dialect.request("GET", path)) for name, path in QUERIES.items()]
    for name in CALLS if seed == 1 else ():
        api = SIMULATED[name]
        bodies.append((name, (200, await each_dialect.call(name, **await drive.params(api)))))
    for name, (status, body) in bodies:
        promised = Draft202012Validator({"$ref": f"#/components/schemas/{name}Result", "components": components})
        body = {} if body is None else body
        assert (status, [f"{error.json_path}: {error.message}" for error in promised.iter_errors(body)]) == (200, []), name


async def test_the_same_seed_varies_alike_in_each_process_and_for_clients_in_parallel():
    answers = []
    for seed in (7, 7, 8):
        async with serve() as mock:
            await mock.login()
            mock.fuzz(seed)
            bodies = await asyncio.gather(*(mock.request("GET", path) for path in ("/vm-instances", "/images", "/volumes")))
            answers.append(re.sub(r'Date": "[^"]*"', "", json.dumps(bodies)))  # the mocks start at other seconds
    assert answers[0] == answers[1] != answers[2]


async def test_what_is_stored_stays_and_all_is_as_before_at_the_end(cloud):
    before = await everything(cloud)
    stored = await ask_control(cloud, "GET", "objects/vm-instances")
    cloud.fuzz()
    during = await everything(cloud)
    assert await everything(cloud) == during
    assert {path for path in before if before[path] != during[path]} == {*before}, "even an empty list has a new field beside it"
    assert await ask_control(cloud, "GET", "objects/vm-instances") == stored
    assert cloud.diff() == {"added": {}, "removed": {}, "changed": {}}
    cloud.fuzz(None)
    assert await everything(cloud) == before


# order


@pytest.mark.zmock(cloud="large:60")
@each("query", ("", "&q=state=Running", "&sort=cpuNum", "&sort=-cpuNum", "&fields=uuid,name"))
async def test_lists_come_in_another_order_and_pages_go_on_where_the_last_one_ended(cloud, query):
    plain = await asked(cloud, f"/vm-instances?limit=1000{query}")
    cloud.fuzz(3, ["order"])
    whole = await asked(cloud, f"/vm-instances?limit=1000{query}")
    pages = [await asked(cloud, f"/vm-instances?start={start}&limit=7{query}") for start in range(0, len(plain), 7)]
    assert pages == in_groups(whole, 7)
    assert uuids(whole) != uuids(plain) and sorted(uuids(whole)) == sorted(uuids(plain))
    if "sort" in query:
        assert [vm["cpuNum"] for vm in whole] == sorted([vm["cpuNum"] for vm in plain], reverse="-" in query)


async def test_lists_of_objects_and_uuids_vary_and_others_keep_their_order(cloud):
    for dns in ("9.9.9.9", "1.1.1.1", "5.5.5.5"):
        await cloud.call("AddDnsToL3Network", l3NetworkUuid=named("l3-private"), dns=dns)
    before = [await one(cloud, "l3-networks", "name=l3-private"), await one(cloud, "primary-storage", f"uuid={PS}"), *await cloud.query("vm-instances", "allVolumes.type=Data")]
    orders = set()
    for seed in range(8):
        cloud.fuzz(seed, ["order"])
        after = [await one(cloud, "l3-networks", "name=l3-private"), await one(cloud, "primary-storage", f"uuid={PS}"), *await cloud.query("vm-instances", f"uuid={before[2]['uuid']}")]
        assert after[0]["dns"] == before[0]["dns"]
        assert {*uuids(after[2]["allVolumes"])} == {*uuids(before[2]["allVolumes"])}
        assert {*after[1]["attachedClusterUuids"]} == {*before[1]["attachedClusterUuids"]}
        orders.add((after[1]["attachedClusterUuids"][0], after[2]["allVolumes"][0]["uuid"]))
    assert len({cluster for cluster, _ in orders}) == 2 and len({volume for _, volume in orders}) > 1


# absent, extra


async def test_optional_fields_are_left_out_now_and_then_and_always_the_same(cloud):
    plain = await asked(cloud, "/volumes")
    cloud.fuzz(1, ["absent"])
    left_out = {name for one, other in zip(plain, await asked(cloud, "/volumes")) for name in one.keys() - other.keys()}
    assert "description" in left_out <= {"description", "diskOfferingUuid"}
    for before, after in zip(plain, await asked(cloud, "/volumes")):
        assert await asked(cloud, f"/volumes/{before['uuid']}") == [after]
        assert before | after == before
    for query in ("fields=uuid,description", "sort=description", "q=description not null"):
        found = await asked(cloud, f"/volumes?{query}".replace(" ", "%20"))
        assert sum("description" in volume for volume in found) == sum("description" in volume for volume in plain), query


async def test_inventories_and_bodies_have_a_field_of_a_later_server(cloud):
    cloud.fuzz(1, ["extra"])
    status, body = await cloud.request("GET", f"/vm-instances/{VM}")
    (vm,) = body["inventories"]
    assert all("addedLater" in each for each in (body, body["inventory"], vm, vm["vmNics"][0], vm["allVolumes"][0]))
    made = await cloud.call("CreateZone", name="z")
    assert "addedLater" in made and "addedLater" in made["inventory"]
    _, body = await cloud.request("GET", "/zones?fields=uuid,name")
    assert [zone.keys() for zone in body["inventories"]] == [{"uuid", "name"}] * 2
    status, body = await cloud.request("GET", "/zones?q=nam=x")
    assert status == 400 and body.keys() == {"error"}


async def test_the_java_classes_of_an_answer_are_those_of_the_answer(cloud):
    cloud.fuzz(2)
    _, body = await cloud.request("GET", "/vm-instances", headers={"X-JSON-Schema": "true"})
    volumes = [f"inventories[{n}].allVolumes[{m}]" for n, vm in enumerate(body["inventories"]) for m, _ in enumerate(vm["allVolumes"])]
    assert {path for path in body["schema"] if "allVolumes" in path} == {*volumes}


# polls


async def polls_of(mock, name, **headers):
    """The statuses of the polls of a job that is over."""
    _, answer = await mock.request("POST", "/zones", {"params": {"name": name}}, headers)
    await mock.advance(1)
    statuses = [202]
    while statuses[-1] == 202:
        statuses.append((await mock.request("GET", "/api-jobs/" + answer["location"][-32:]))[0])
    return statuses[1:]


async def test_up_to_three_more_polls_answer_202_before_the_end_of_a_job(cloud):
    assert await polls_of(cloud, "a") == [200]
    assert cloud.rest.fuzz.late == {}, "nothing is noted while nothing varies"
    cloud.fuzz(1, ["polls"])
    counts = [await polls_of(cloud, f"zone {n}") for n in range(12)]
    assert {len(polls) for polls in counts} == {1, 2, 3, 4}
    assert await polls_of(cloud, "zone 0", **{"X-Job-UUID": JOB}) == counts[0], "the call decides, not the uuid of its job"
    assert (await cloud.request("GET", f"/api-jobs/{JOB}"))[0] == 200, "what is over stays over"
    assert (await cloud.create("CreateZone", name="zone 1"))["name"] == "zone 1"
    async with serve() as other:
        await other.login()
        other.fuzz(1, ["polls"])
        assert [await polls_of(other, f"zone {n}") for n in range(12)] == counts


async def test_the_result_in_a_web_hook_varies_and_its_job_ends_at_once(cloud):
    cloud.fuzz(1, ["extra", "polls"])
    for n in range(5):
        headers = {"X-Web-Hook": f"{cloud.base}/zmock/hooks"}
        assert await polls_of(cloud, f"zone {n}", **headers) == [200]
    hooks = (await ask_control(cloud, "GET", "hooks"))["hooks"]
    assert len(hooks) == 5 and all("addedLater" in hook["body"]["inventory"] for hook in hooks)


async def test_rules_hold_and_patch_as_without(cloud):
    cloud.fuzz(1)
    cloud.rule(api="CreateZone", when={"params.name": "held"}, then={"job": "hold", "for": 5})
    cloud.rule(api="QueryZone", then={"merge": {"inventories": [{"name": "patched"}]}})
    cloud.rule(api="CreateCluster", then={"merge": {"inventory": {"addedLater": "patched"}}})
    _, answer = await cloud.request("POST", "/zones", {"params": {"name": "held"}})
    path = "/api-jobs/" + answer["location"][-32:]
    assert [(await cloud.request("GET", path))[0] for _ in range(6)] == [202] * 6
    await cloud.advance(5)
    assert 200 in [(await cloud.request("GET", path))[0] for _ in range(4)]
    assert await asked(cloud, "/zones") == [{"name": "patched"}]
    made = await cloud.create("CreateCluster", name="c", zoneUuid=ZONE, hypervisorType="KVM")
    assert made["addedLater"] == "patched"


# numbers, unicode


async def test_storages_and_hosts_are_larger_than_they_are(cloud):
    kinds = {"/primary-storage": ("", "Physical"), "/backup-storage": ("",), "/hosts": ("Memory",)}
    plain = {path: await asked(cloud, path) for path in kinds}
    cloud.fuzz(1, ["numbers"])
    for path, words in kinds.items():
        for before, after in zip(plain[path], await asked(cloud, path)):
            names = [f"{begin}{word}Capacity" for begin in ("total", "available") for word in words if f"total{word}Capacity" in before]
            more = {after[name] - before[name] for name in names}
            assert len(more) == 1 and 1 << 32 <= more.pop() < 1 << 53
            assert all(after[name] < 1 << 53 for name in names)
            assert {name: after[name] for name in after if name not in names} == {name: before[name] for name in before if name not in names}
        for before, after in zip(await asked(cloud, f"{path}?sort=total{words[0]}Capacity"), sorted(plain[path], key=lambda it: (it[f"total{words[0]}Capacity"], it["uuid"]))):
            assert before == after, "what is sorted by is as it is stored"


async def test_names_of_the_start_have_tails_in_other_scripts(cloud):
    plain = await asked(cloud, "/images")
    cloud.fuzz(1, ["unicode"])
    tails = set()
    for before, after in zip(plain, await asked(cloud, "/images")):
        assert after["name"].startswith(before["name"] + " ")
        tails.add(after["name"].removeprefix(before["name"]))
        assert await cloud.query("images", f"name={after['name']}") == [after], "it is found by the name that is shown"
        assert (await one(cloud, "images", f"name={before['name']}"))["name"] == before["name"], "and by its own, as which it is then shown"
    assert len(tails) > 1
    assert {vm["name"] for vm in await asked(cloud, "/accounts")} == {"admin", "shop"}, "what people log in with stays"
    assert (await asked(cloud, "/accounts/users"))[0]["name"] == "operator"
    providers = await asked(cloud, "/network-services/providers")
    assert all(provider["name"].isascii() for provider in providers), "what nobody can rename stays"


async def test_what_a_call_has_sent_comes_back_as_it_was_sent(cloud):
    cloud.fuzz(1)
    made = await cloud.create("CreateZone", name="mine", description="d")
    assert (made["name"], made["description"]) == ("mine", "d") and made.items() <= (await one(cloud, "zones", f"uuid={made['uuid']}")).items()
    first = (await asked(cloud, f"/zones/{ZONE}"))[0]["name"]
    assert first != "zone-1"
    for name in ("zone-1", "other", first, "zone-1", "other"):
        assert (await cloud.act("zones", ZONE, "updateZone", name=name))["name"] == name
        assert (await asked(cloud, f"/zones/{ZONE}"))[0]["name"] == name
        assert uuids(await cloud.query("zones", f"name={name}")) == [ZONE]
    cloud.fuzz(1)
    assert (await asked(cloud, f"/zones/{ZONE}"))[0]["name"] == "other", "also what was sent before"


# the control call


@each("body, got", [
    ({}, {"seed": 1, "vary": [*VARIATIONS]}),
    (None, {"seed": 1, "vary": [*VARIATIONS]}),
    ({"seed": 12}, {"seed": 12, "vary": [*VARIATIONS]}),
    ({"seed": 0, "vary": ["unicode", "order", "order"]}, {"seed": 0, "vary": ["order", "unicode"]}),
])  # fmt: skip
async def test_fuzz_shows_what_is_in_force(cloud, body, got):
    assert await ask_control(cloud, "GET", "fuzz") == FALSE
    assert await control(cloud, "POST", "fuzz", body) == (200, got)
    assert await ask_control(cloud, "GET", "fuzz") == got
    assert await ask_control(cloud, "POST", "fuzz", {"vary": ["extra"], "seed": 5}) == {"seed": 5, "vary": ["extra"]}
    assert await ask_control(cloud, "DELETE", "fuzz") == FALSE == await ask_control(cloud, "GET", "fuzz")


@each("body, error", [
    ([], "fuzz is a JSON object with seed, vary, not []"),
    (0, "fuzz is a JSON object with seed, vary, not 0"),
    ({"sed": 1}, "fuzz takes seed, vary, not 'sed', did you mean seed?"),
    ({"seed": "1"}, "'seed' is a whole number from 0, not '1'"),
    ({"seed": 1.5}, "'seed' is a whole number from 0, not 1.5"),
    ({"seed": -1}, "'seed' is a whole number from 0, not -1"),
    ({"seed": True}, "'seed' is a whole number from 0, not true"),
    ({"seed": None}, "'seed' is a whole number from 0, not null"),
    ({"vary": []}, "'vary' is a list of order, absent, extra, polls, numbers, unicode, not []"),
    ({"vary": "order"}, "'vary' is a list of order, absent, extra, polls, numbers, unicode, not 'order'"),
    ({"vary": ["orders"]}, "'vary' is order, absent, extra, polls, numbers or unicode, not 'orders', did you mean order?"),
])  # fmt: skip
async def test_a_wrong_fuzz_is_refused_and_changes_nothing(cloud, body, error):
    cloud.fuzz(9, ["polls"])
    status, answer = await control(cloud, "POST", "fuzz", body)
    assert (status, answer["error"]) == (400, error)
    assert await ask_control(cloud, "GET", "fuzz") == {"seed": 9, "vary": ["polls"]}


async def test_a_query_behind_fuzz_is_refused(cloud):
    assert (await control(cloud, "POST", "fuzz?seed=2"))[0] == 400


async def test_a_reset_ends_it_and_a_snapshot_that_is_restored_does_so_too(cloud):
    await ask_control(cloud, "PUT", "snapshots/s")
    for end in ("reset", "snapshots/s/restore"):
        cloud.fuzz()
        await ask_control(cloud, "POST", end)
        assert await ask_control(cloud, "GET", "fuzz") == FALSE
        await cloud.login()
        assert "addedLater" not in (await cloud.request("GET", "/zones"))[1]


async def test_each_world_has_its_own(cloud):
    other = await cloud.world("a")
    await other.login()
    other.fuzz(3, ["extra"])
    assert "addedLater" in (await other.request("GET", "/zones"))[1]
    assert "addedLater" not in (await cloud.request("GET", "/zones"))[1]
    assert await ask_control(other, "GET", "fuzz") == {"seed": 3, "vary": ["extra"]}


async def test_the_journal_has_the_seed(cloud):
    await cloud.query("zones")
    cloud.fuzz(4)
    await cloud.query("zones")
    assert [(call.api, call.fuzz) for call in cloud.calls()] == [("LogInByAccount", None), ("QueryZone", None), ("QueryZone", 4)]
    assert [call["fuzz"] for call in (await ask_control(cloud, "GET", "calls"))["calls"]] == [None, None, 4]


async def test_a_resumed_cloud_has_no_start_whose_values_could_vary(tmp_path):
    for run in range(2):
        async with serve(data=tmp_path / "cloud") as mock:
            await mock.login()
            mock.fuzz()
            (zone,) = await asked(mock, "/zones")
            assert (zone["name"] == "zone-1") == (run == 1) and "addedLater" in zone


def test_fuzz_is_plain_on_the_handle_in_a_thread(zmock_server):
    assert zmock_server.fuzz(vary=("extra",)) == {"seed": 1, "vary": ["extra"]}
    assert "addedLater" in zmock_server.query("zones")[0]
    with pytest.raises(ValueError, match="did you mean polls"):
        zmock_server.fuzz(1, ["pols"])
    assert zmock_server.fuzz(None) == FALSE
    assert "addedLater" not in zmock_server.query("zones")[0]
