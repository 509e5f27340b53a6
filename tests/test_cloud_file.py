"""Cloud files: names for references, dates, states, and each mistake with the object and the nearest right thing."""

import json
import re

import aiohttp
import canonical
import pytest
from asking import each

from zmock import (
    ADMIN,
    DEMO_FILE,
    SHA512_OF_PASSWORD,
    Settings,
    SettingsError,
    catalogue,
    fill,
    named,
    new_cloud,
    serve,
    type_referred_to,
)

CATALOGUE = catalogue()
NOW = 1_800_000_000.5  # 2027-01-15 16:00:00 in the zone of the cloud
ZONE, CLUSTER, HOST = {"name": "z"}, {"name": "c", "zoneUuid": "@z", "hypervisorType": "KVM"}, {"name": "h", "zoneUuid": "@z", "clusterUuid": "@c"}
SMALL = {"zones": [ZONE], "clusters": [CLUSTER], "hosts": [HOST]}


def cloud_of(what, **settings):
    cloud = new_cloud(Settings(memory=True, clock="frozen", **settings), CATALOGUE)
    cloud.clock.stopped_at = NOW
    fill(cloud, what)
    return cloud


@pytest.fixture
def load(tmp_path):
    """A function that makes a cloud of what a file says."""

    def of(told, encoding="utf-8"):
        path = tmp_path / "cloud.json"
        path.write_text(json.dumps(told, ensure_ascii=False), encoding=encoding)
        return cloud_of(str(path))

    return of


@pytest.fixture
def refusal(load):
    """A function that returns why a file is refused, without its path."""

    def of(told):
        with pytest.raises(SettingsError) as error:
            load(told)
        return re.sub(r"^\S+cloud\.json: ", "", str(error.value))

    return of


def items(cloud, type, *names):
    return [[item.get(name) for name in names] for item in sorted(cloud.store.rows(type), key=lambda item: item["name"])]


# references


def test_a_reference_names_an_object_of_its_type_wherever_it_stands_in_the_file(load):
    told = {
        "hosts": [HOST], "clusters": [CLUSTER], "zones": [ZONE], "Cluster": [CLUSTER | {"name": "z"}],
        "primary-storage": [{"name": "ps", "zoneUuid": "@z", "type": "NFS", "attachedClusterUuids": ["@c", "@z"]}],
        "backup-storage": [{"name": "bs", "attachedZoneUuids": ["@z"]}],
        "images": [{"name": "i", "backupStorageRefs": [{"backupStorageUuid": "@bs", "status": "Ready"}]}],
        "user-tags": [{"resourceType": "HostVO", "resourceUuid": "@h", "tag": "t"}],
        "vm-instances": [{"name": "vm", "zoneUuid": "@z", "lastHostUuid": "@h", "rootVolumeUuid": "@root", "state": "Stopped",
                          "allVolumes": [{"name": "root", "type": "Root", "primaryStorageUuid": "@ps"}]}],
    }  # fmt: skip
    cloud = load(told)
    uuids = {item["name"]: item["uuid"] for type in ("Zone", "Host", "PrimaryStorage", "BackupStorage", "Volume") for item in cloud.store.rows(type)}
    clusters = {item["name"]: item["uuid"] for item in cloud.store.rows("Cluster")}
    assert items(cloud, "Host", "zoneUuid", "clusterUuid") == [[uuids["z"], clusters["c"]]]
    assert items(cloud, "PrimaryStorage", "zoneUuid", "attachedClusterUuids") == [[uuids["z"], [clusters["c"], clusters["z"]]]]
    assert items(cloud, "BackupStorage", "attachedZoneUuids") == [[[uuids["z"]]]]
    assert items(cloud, "Image", "backupStorageRefs") == [[[{"backupStorageUuid": uuids["bs"], "status": "Ready"}]]]
    assert [tag["resourceUuid"] for tag in cloud.store.rows("UserTag")] == [uuids["h"]]
    assert items(cloud, "VmInstance", "lastHostUuid", "rootVolumeUuid") == [[uuids["h"], uuids["root"]]]


@pytest.mark.parametrize("account", ({"accountUuid": "@admin"}, {"accountUuid": None}, {}))
def test_a_reference_may_name_what_every_cloud_has(load, account):
    cloud = load({"accounts/users": [{"name": "u"} | account]})
    assert items(cloud, "User", "accountUuid") == [[item["uuid"] for item in cloud.store.rows("Account")]]


def test_text_that_begins_with_an_at_sign_is_text_where_it_is_no_reference(load):
    assert items(load({"zones": [{"name": "@z", "description": "@home"}]}), "Zone", "name", "description") == [["@z", "@home"]]


GONE = named("gone")
MISTAKES = (  # what a file adds to SMALL, and why it is refused
    ({"hosts": [HOST | {"zoneUuid": "@zz"}]}, "zoneUuid of Host h: there is no Zone named zz"),
    ({"zones": [{"name": "zone-1"}], "clusters": [CLUSTER | {"zoneUuid": "@zone-2"}]},
     "zoneUuid of Cluster c: there is no Zone named zone-2, did you mean @zone-1?"),
    ({"hosts": [HOST | {"zoneUuid": GONE}]}, f"zoneUuid of Host h leads nowhere: there is no Zone {GONE}"),
    ({"hosts": [HOST | {"zoneUuid": "z"}]}, "zoneUuid of Host h leads nowhere: there is no Zone z, did you mean @z?"),
    ({"zones": [ZONE | {"uuid": named("y")}], "hosts": [HOST | {"zoneUuid": named("y")[:-1]}]}, f"did you mean {named('y')}?"),
    ({"zones": [ZONE | {"uuid": named("y")}], "hosts": [HOST | {"clusterUuid": named("y")}]},
     f"clusterUuid of Host h is a Cluster, and {named('y')} is of type Zone"),
    ({"hosts": [HOST | {"clusterUuid": "@z"}]}, "clusterUuid of Host h: there is no Cluster named z"),
    ({"zones": [ZONE, ZONE]}, "zoneUuid of Cluster c: 2 objects of type Zone have the name z; refer to one by its uuid"),
    ({"backup-storage": [{"name": "b", "attachedZoneUuids": ["@z", GONE]}]}, f"attachedZoneUuids of BackupStorage b leads nowhere: there is no Zone {GONE}"),
    ({"images": [{"name": "i", "backupStorageRefs": [{"backupStorageUuid": GONE}]}]},
     f"backupStorageUuid of backupStorageRefs of Image i leads nowhere: there is no BackupStorage {GONE}"),
    ({"images": [{"name": "i", "backupStorageRefs": [{"backupStorageUid": GONE}]}]},
     "backupStorageRefs of Image i has no field backupStorageUid, did you mean backupStorageUuid?"),
    ({"vm-instances": [{"name": "v", "vmNics": [{"l3NetworkUuid": "@l3"}]}]}, "there is no L3Network named l3"),
    ({"vm-instances": [{"name": "v", "imageUuid": "centos"}]}, "imageUuid of VmInstance v leads nowhere: there is no Image centos"),
    ({"vm-instances": [{"name": "v", "hostUuid": GONE}]}, f"hostUuid of VmInstance v leads nowhere: there is no Host {GONE}"),
    ({"user-tags": [{"resourceType": "ZoneVO", "resourceUuid": "@h", "tag": "t"}]}, "resourceUuid of UserTag"),
    ({"user-tags": [{"resourceType": "ZoneVO", "resourceUuid": GONE, "tag": "t"}]}, f"there is no Zone {GONE}"),
    ({"hosts": [HOST | {"state": "Enable"}]}, "state of Host h is Enabled or Disabled or PreMaintenance or Maintenance, not 'Enable', did you mean Enabled?"),
    ({"hosts": [HOST | {"status": "connected"}]}, "not 'connected', did you mean Connected?"),
    ({"vm-instances": [{"name": "v", "state": "runing"}]}, "not 'runing', did you mean Running?"),
    ({"vm-instances": [{"name": "v", "allVolumes": [{"name": "d", "status": "Redy"}]}]}, "status of Volume d is"),
    ({"images": [{"name": "i", "backupStorageRefs": [{"status": "Redy"}]}]}, "status of backupStorageRefs of Image i is"),
    ({"zones": [ZONE | {"createDate": "yesterday"}]}, "createDate of Zone z: 'yesterday' is no date such as"),
    ({"zones": [ZONE | {"createDate": ""}]}, "createDate of Zone z: '' is no date such as"),
    ({"zones": [ZONE | {"createDate": "2018-02-30"}]}, "createDate of Zone z: '2018-02-30' is no date"),
    ({"zones": [ZONE | {"stat": "Enabled"}]}, "Zone has no field stat, did you mean state?"),
    ({"instance-offerings": [{"name": "o", "cpuNum": "4"}]}, "cpuNum of InstanceOffering o is an int, not '4'"),
    ({"backup-storage/sftp": [{"name": "b", "type": "Ceph"}]}, "type of SftpBackupStorage b is SftpBackupStorage, not 'Ceph'"),
    ({"now": "yesterday"}, "now: 'yesterday' is no date such as"),
    ({"vm-instances": [{"name": "v", "state": "Running"}]}, "VmInstance v is Running, and needs a hostUuid"),
    ({"vm-instances": [{"name": "v", "vmNics": 5}]}, "vmNics of VmInstance v is a list of objects"),
    ({"zones": [ZONE, {"name": "y"}], "hosts": [HOST | {"zoneUuid": "@y"}]}, f"Host h is in the zone {named('Zone/y')}, and its cluster c in the zone {named('Zone/z')}"),
    ({"hosts": [HOST | {"name": name, "managementIp": "10.0.0.1"} for name in "hi"]}, "Host i has the managementIp 10.0.0.1 of Host h"),
    ({"instance-offerings": [{"name": "o", "memorySize": -1}]}, "memorySize of InstanceOffering o is not negative, as -1 is"),
    ({"longjobs": [{"name": "l", "state": "Running", "duration": 9, "jobName": "APIAddImageMsg", "jobData": "{}", "apiId": "a"}]}, "LongJob l cannot go on: "),
    ({"longjobs": [{"name": "l", "state": "Running", "duration": 9, "jobName": "APIFlyMsg", "jobData": "{}", "apiId": "a"}]}, "LongJob l cannot go on: APIFlyMsg is not an API"),
    ({"now": 5}, "now is a date, not 5"), ({"now": {}}, "now is a date, not {}"),
    ({"longjobs": [{"name": "l", "state": "Running", "duration": 9, "jobName": "APIAddImageMsg", "apiId": "a"}]}, "LongJob l cannot go on: "),
    ({"zonez": []}, "'zonez' is no collection, did you mean zones?"),
    ({"vm-instance": []}, "'vm-instance' is no collection, did you mean vm-instances?"),
    ({"VmInstanc": []}, "'VmInstanc' is no collection, did you mean VmInstance?"),
    ({"hosts/kvm": []}, "'hosts/kvm' is no collection, did you mean hosts?"),
)  # fmt: skip


@each(("told", "why"), MISTAKES, ids=[why for _, why in MISTAKES])
def test_a_mistake_is_refused_with_the_object_and_the_nearest_right_thing(refusal, told, why):
    assert why in refusal(SMALL | told)


@pytest.mark.parametrize("field", ("imageUuid", "instanceOfferingUuid"))
def test_what_a_real_object_remembers_of_a_deleted_one_is_taken_and_reported(load, caplog, field):
    assert items(load({"vm-instances": [{"name": "v", "state": "Stopped", field: GONE}]}), "VmInstance", field) == [[GONE]]
    assert f"{field} of VmInstance v, {GONE}, is not in the file" in caplog.text


def test_every_reference_that_cannot_dangle_is_refused_where_it_does(refusal):
    """Each field by which an object dies with another, or loses it, is known to lead there."""
    keys = {(child, key, type) for type, found in CATALOGUE.dependents.items() for child, key, _ in found if key != "owner"}
    found = {(child, key): type_referred_to(CATALOGUE, CATALOGUE.resources[child], key) for child, key, _ in keys if key in CATALOGUE.resources[child].all_fields}
    assert len(found) > 60
    stored = {pair: CATALOGUE.resources[type].stored if type in CATALOGUE.resources else type for pair, type in found.items()}
    assert {pair: type for pair, type in stored.items() if type != "Resource" and (*pair, type) not in keys} == {}


# names, dates, kinds


def test_objects_of_the_same_name_are_different_objects_with_lasting_uuids(load):
    told = {"zones": [ZONE, ZONE, ZONE | {"uuid": named("mine")}, ZONE],
            "vm-instances": [{"name": "v", "vmNics": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}],
            "l2-networks": [{"name": "l2", "zoneUuid": named("mine")}], "l3-networks": [{"name": "l3"}]}
    first, again = ({item["uuid"] for type in ("Zone", "VmNic") for item in load(told).store.rows(type)} for _ in range(2))
    assert first == again and len(first) == 6 and {named("Zone/z"), named("mine")} < first


@pytest.mark.parametrize("text", ("Jan 6, 2017 3:51:16 AM", "2017-01-06 03:51:16", "2017-01-06T03:51:16", "2017-01-05T19:51:16Z", "2017-01-06T04:51:16+09:00"))
def test_dates_are_as_answers_show_them_or_in_iso_8601(load, text):
    assert items(load({"zones": [ZONE | {"createDate": text}]}), "Zone", "createDate") == [["2017-01-06 03:51:16"]]
    assert items(load({"zones": [ZONE | {"createDate": text.replace("T", " ")}]}), "Zone", "createDate") == [["2017-01-06 03:51:16"]]


PARTS = sorted((row.path, row.name) for row in CATALOGUE.resources.values() if row.of and row.path)


@each(("collection", "type"), PARTS)
def test_a_collection_that_is_part_of_another_is_known(load, collection, type):
    for key in (collection, f"/{collection}", type):
        cloud = load({key: [{"name": "n", "zoneUuid": "@z"} if "zoneUuid" in CATALOGUE.resources[type].all_fields else {"name": "n"}], "zones": [ZONE]})
        row = CATALOGUE.resources[type]
        assert [item["name"] for item in cloud.store.rows(row.stored) if row.has(item)] == ["n"]


def test_a_file_may_begin_with_a_bom(load):
    assert items(load({"zones": [{"name": "区域"}]}, "utf-8-sig"), "Zone", "name") == [["区域"]]


# clouds that zmock makes itself


def inventories(cloud):
    """What a cloud has beyond an empty one, in the format of a cloud file."""
    empty = cloud_of("empty")
    rows = {row.path: row for row in cloud.catalogue.resources.values() if row.path and not row.of and not row.inside and row.name != "GlobalConfig"}
    told = {path: [item for item in cloud.store.rows(row.name) if not empty.exists("Resource", item["uuid"])] for path, row in rows.items()}
    shown = {path: [cloud.inventory(rows[path].name, item) for item in found] for path, found in told.items() if found}
    for storage in shown["backup-storage"]:
        del storage["availableCapacity"]  # what is left of what only zmock knows
    return shown


@pytest.mark.parametrize("what", ("demo", "large:20"))
def test_a_cloud_that_zmock_makes_is_a_good_cloud_file(load, what, caplog):
    told = inventories(cloud_of(what))
    again = inventories(load(told))
    assert len(told) > 10 and [line for line in caplog.messages if "of Ticket" not in line] == [], "the flow of a ticket is in no collection"
    assert {path: sorted(map(json.dumps, found)) for path, found in again.items()} == {path: sorted(map(json.dumps, found)) for path, found in told.items()}


def test_objects_begin_and_are_put_in_states_that_the_catalogue_has():
    known = {value for row in CATALOGUE.resources.values() for values in row.values.values() for value in values}
    for row in CATALOGUE.resources.values():
        assert {name: value for name, value in row.new.items() if (values := CATALOGUE.values_of(row, name)) and value not in values} == {}
    assert {*re.findall(r"\b(?:state|status) = ([A-Z]\w+)", " ".join(clause for api in CATALOGUE.apis.values() for clause in api.does))} <= known
    for row in CATALOGUE.resources.values():
        assert row.values.keys() <= row.all_fields.keys()


# the demo cloud, and what its file and that of a user can say


def test_the_demo_cloud_is_as_the_canonical_writer_writes_it():
    assert DEMO_FILE == canonical.DEMO
    text = DEMO_FILE.read_text(encoding="utf-8")
    assert text == canonical.text_of_cloud(json.loads(text)), "python tests/canonical.py writes it anew"


def test_the_demo_cloud_is_a_cloud_file_like_any_other():
    demo, loaded = cloud_of("demo").store.documents(), cloud_of(str(DEMO_FILE)).store.documents()
    assert demo == loaded and len(demo) > 30


@pytest.mark.parametrize("settings", ({}, {"seed": 7}, {"dialect": "server"}, {"utc_offset": 5.5}, {"host": "0.0.0.0"}))
def test_the_demo_cloud_is_a_month_old_and_the_same_with_all_settings(settings):
    cloud = cloud_of("demo", **settings)
    (zone,), (host,) = cloud.store.rows("Zone"), cloud.store.find("Host", "name", "host-4")
    ago = [NOW - cloud.clock.date_of_stamp(date) for date in (zone["createDate"], host["lastOpDate"])]
    assert ago == pytest.approx([30 * 86400, 3600], abs=1) and host["status"] == "Disconnected"
    assert {item["time"] for item in cloud.store.rows("Notification")} == {int((NOW - 3600) * 1000)}
    assert cloud.store.get("ManagementNode", named("management-node"))["hostName"] == settings.get("host", "127.0.0.1")
    assert cloud.store.get("License", named("license"))["expiredDate"] == cloud.clock.stamp(NOW + 335 * 86400)
    assert {item["password"] for type in ("Account", "User") for item in cloud.store.rows(type)} == {SHA512_OF_PASSWORD}


def test_dates_count_from_now_where_the_file_says_so(load):
    told = {"zones": [ZONE | {"createDate": "2018-07-10 08:00:00"}, {"name": "y"}],
            "images": [{"name": "i", "backupStorageRefs": [{"createDate": "2018-07-09 09:00:00"}]}]}  # fmt: skip
    dates = {name: [item["createDate"], item["lastOpDate"]] for cloud in [load(told | {"now": "Jul 10, 2018 9:00:00 AM"})]
             for name, item in [(item["name"], item) for type in ("Zone", "Account") for item in cloud.store.rows(type)]}  # fmt: skip
    assert dates == {"z": ["2027-01-15 15:00:00"] * 2, "y": ["2027-01-15 16:00:00"] * 2, "admin": ["2027-01-15 16:00:00"] * 2}
    (image,) = load(told | {"now": "2018-07-10 09:00:00"}).store.rows("Image")
    assert image["backupStorageRefs"] == [{"createDate": "2027-01-14 16:00:00"}]
    assert items(load(told), "Zone", "createDate") == [["2027-01-15 16:00:00"], ["2018-07-10 08:00:00"]]


def test_an_object_that_every_cloud_has_is_changed_by_a_file(load, refusal):
    admin = {"uuid": ADMIN, "description": "the boss"}
    assert items(load({"accounts": [admin]}), "Account", "name", "description", "password") == [["admin", "the boss", SHA512_OF_PASSWORD]]
    assert refusal({"accounts": [admin, admin]}) == f"the uuid {ADMIN} is there twice"


def test_a_file_may_hold_fields_that_no_inventory_shows(load):
    told = SMALL | {"accounts": [{"name": "ann", "password": "p"}],
                    "vm-instances": [{"name": "v", "hostUuid": "@h", "state": "Unknown", "stateBefore": "Paused", "owner": "@ann"}]}  # fmt: skip
    cloud = load(told)
    ann = next(item["uuid"] for item in cloud.store.find("Account", "name", "ann"))
    assert items(cloud, "VmInstance", "stateBefore", "owner") == [["Paused", ann]] and cloud.store.get("Account", ann)["password"] == "p"


async def test_a_long_job_of_a_file_goes_on_where_it_has_a_duration(tmp_path):
    data = json.dumps({"name": "archive", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("BackupStorage/b")]})
    job = {"state": "Running", "jobName": "APIAddImageMsg", "jobData": data, "apiId": "a" * 32, "createDate": "2018-07-10 08:59:00"}
    told = {"now": "2018-07-10 09:00:00", "zones": [ZONE], "backup-storage": [{"name": "b", "attachedZoneUuids": ["@z"]}],
            "longjobs": [job | {"name": "going", "duration": 100}, job | {"name": "standing", "apiId": "b" * 32}]}  # fmt: skip
    (tmp_path / "cloud.json").write_text(json.dumps(told))
    async with serve(cloud=str(tmp_path / "cloud.json")) as mock:
        for seconds, state in ((39, "Running"), (2, "Succeeded")):
            await mock.advance(seconds)
            assert {job["name"]: job["state"] for job in await mock.query("longjobs")} == {"going": state, "standing": "Running"}


async def test_a_price_of_a_file_that_says_little_is_one_of_processors_by_the_hour(tmp_path):
    (tmp_path / "cloud.json").write_text(json.dumps({"billings/prices": [{"price": 1.5}]}))
    async with serve(cloud=str(tmp_path / "cloud.json")) as mock:
        (price,) = await mock.query("billings/prices")
        assert (price["resourceName"], price["timeUnit"]) == ("cpu", "h")
        assert (await mock.call("CalculateAccountSpending", accountUuid=ADMIN))["total"] == 0


async def test_a_virtual_machine_of_a_file_that_has_no_nic_cannot_start_and_says_so(tmp_path):
    storage = [{"name": "p", "attachedClusterUuids": ["@c"]}]
    (tmp_path / "cloud.json").write_text(json.dumps(SMALL | {"primary-storage": storage, "vm-instances": [{"name": "v", "state": "Stopped"}]}))
    async with serve(cloud=str(tmp_path / "cloud.json")) as mock:
        await mock.login()
        with pytest.raises(RuntimeError, match="SYS.1006.*doesn't have any nic"):
            await mock.act("vm-instances", named("VmInstance/v"), "startVmInstance")


# resetting


async def test_a_reset_reads_a_file_again_that_was_edited_and_refuses_a_wrong_one(tmp_path):
    file = tmp_path / "cloud.json"
    file.write_text(json.dumps({"zones": [{"name": "first"}]}))
    async with serve(cloud=str(file)) as mock:
        for body in ({}, {"cloud": str(file)}):
            for name in ("second one", "the third"):
                file.write_text(json.dumps({"zones": [{"name": name}]}))
                assert (await control(mock, body))[0] == 200
                assert [zone["name"] for zone in await mock.query("zones")] == [name]
            file.write_text(json.dumps({"zones": [{"name": "wrong", "stat": "Enabled"}]}))
            status, answer = await control(mock, body)
            assert (status, "did you mean state?" in answer["error"]) == (400, True)
            assert [zone["name"] for zone in await mock.query("zones")] == ["the third"]
            file.unlink()
            assert (await control(mock, body))[0] == 400
            assert [zone["name"] for zone in await mock.query("zones")] == ["the third"]


async def control(mock, body):
    """The status and the body of a reset."""
    async with aiohttp.ClientSession() as http, http.post(f"{mock.base}/zmock/reset", json=body) as answer:
        mock.session = None
        return answer.status, await answer.json()


def test_half_of_a_surrogate_pair_is_refused_in_a_line(tmp_path):
    (tmp_path / "cloud.json").write_text('{"zones": [{"name": "\\ud800"}]}')
    with pytest.raises(SettingsError, match="half of a surrogate pair"):
        serve(cloud=tmp_path / "cloud.json")
