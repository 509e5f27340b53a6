"""The cloud without HTTP: parameters, the verbs that most resources share, what dies with what, sessions."""

import re
from types import GeneratorType

import pytest
from asking import each

from zmock import (
    ADMIN,
    IN_TESTS,
    SHA512_OF_PASSWORD,
    UUID,
    WORLDS,
    Api,
    ApiError,
    Call,
    Settings,
    create_app,
    named,
)


def new_cloud(**settings):
    return create_app(Settings(**IN_TESTS | settings))[WORLDS].main.rest.cloud


@pytest.fixture
def cloud():
    return new_cloud()


def perform(cloud, api, session="", account=ADMIN, system_tags=(), user_tags=(), **given):
    """A call to its end: the body of its answer."""
    row = cloud.catalogue.apis[api]
    call = Call(row, cloud.check(row, given), session, cloud.uuid(), [*system_tags], [*user_tags], account)
    body = cloud.perform(call)
    while isinstance(body, GeneratorType):
        try:
            next(body)
        except StopIteration as end:
            body = end.value
    return body


def make(cloud, api, **given):
    return perform(cloud, api, **given)["inventory"]


def log_in(cloud, **given):
    return make(cloud, "LogInByAccount", account="", **{"accountName": "admin", "password": SHA512_OF_PASSWORD} | given)


# parameters

ZONE, MESSAGE = "org.zstack.header.zone.APICreateZoneMsg", "org.zstack.header.APICreateThingMsg"
BIGGEST = 9223372036854775807


@each(
    ("takes", "given", "details"),
    (
        ("x <=3", "abcd", f"field[x] of message[{MESSAGE}] exceeds max length of string. expected was <= 3, actual was 4"),
        ("x >=1", "", f"field[x] of message[{MESSAGE}] less than the min length of string. expected was >= 1, actual was 0"),
        ("x!", None, f"field[x] of message[{MESSAGE}] is mandatory, can not be null"),
        ("x {on|off}", "On", f"valid value for field[x] of message[{MESSAGE}] are [on, off], but On found"),
        ("x /[a-z]+/", "a1", f"valid regex value for field[x] of message[{MESSAGE}] are [a-z]+, but a1 found"),
        ("x:list nonempty", [], "field[x] must be a nonempty list"),
        ("x:list", ["a", None], "field[x] cannot contain a NULL element"),
        ("x nonblank", "", "field[x] cannot be an empty string"),
        ("x nonblank", "  ", "field[x] cannot be an empty string"),
        ("x:list nonblank", ["a", ""], "field[x] cannot contain any empty string"),
        ("x:int 1..4094", 0, "field[x] must be in range of [1, 4094]"),
        ("x:int 1..4094", 4095, "field[x] must be in range of [1, 4094]"),
        ("x:int! 1..4094", None, "field[x] must be in range of [1, 4094]"),
        (f"x:long 1..{BIGGEST}bytes", 0, f"field[x] must be in range of [1 byte, {BIGGEST} bytes]"),
        ("x:int", "abc", "[x] field is excepted an int or long, but was [abc]."),
        ("x:int", 1.5, "[x] field is excepted an int or long, but was [1.5]."),
        ("x:int", True, "[x] field is excepted an int or long, but was [true]."),
        ("x:int", 1 << 31, f"[x] field is excepted an int or long, but was [{1 << 31}]."),
        ("x:bool", "yes", "Invalid value for boolean field [x], [yes] is not a valid boolean string[true, false]."),
    ),
)
def test_a_parameter_that_breaks_its_constraint_is_told_in_the_servers_words(cloud, takes, given, details):
    with pytest.raises(ApiError) as error:
        cloud.check(Api("CreateThing", "POST /things", takes=(takes,)), {"x": given})
    assert (error.value.code, error.value.details) == ("SYS.1007", details)


@pytest.mark.parametrize("field", ("x:list", "x:map", "x:maps", "x"))
@pytest.mark.parametrize("dialect", ("manual", "server"))
def test_a_value_of_another_json_type_is_a_body_that_cannot_be_read(field, dialect):
    wrong = {"x:list": "a", "x:map": [1], "x:maps": "a", "x": {"a": 1}}[field]
    with pytest.raises(ApiError) as error:
        new_cloud(dialect=dialect).check(Api("CreateThing", "POST /things", takes=(field,)), {"x": wrong})
    assert error.value.status == {"manual": 400, "server": 500}[dialect]


@each(
    ("takes", "given", "read"),
    (
        ("x!", "", ""),
        ("x", "  a b ", "a b"),
        ("x verbatim", " a ", " a "),
        ("x", None, None),
        ("x", 123, "123.0"),
        ("x", True, "true"),
        ("x:int", "4", 4),
        ("x:int", 4.0, 4),
        ("x:long", 1e3, 1000),
        ("x:long", str(BIGGEST), BIGGEST),
        ("x:int -5..5", -5, -5),
        ("x:int 1..9 =3", None, 3),
        ("x =3", None, "3"),
        ("x:double", "1.5", 1.5),
        ("x:bool", "TRUE", True),
        ("x:bool", False, False),
        ("x:bool =true", None, True),
        ("x:list", ["a ", "b"], ["a", "b"]),
        ("x {a|b}", "b", "b"),
    ),
)
def test_a_legal_parameter_is_read_as_its_type(cloud, takes, given, read):
    assert cloud.check(Api("CreateThing", "POST /things", takes=(takes,)), {"x": given}).get("x") == read


@pytest.mark.parametrize(
    ("api", "given", "code", "details"),
    (
        ("CreateZone", {"name": "z" * 300}, "SYS.1007",
            f"field[name] of message[{ZONE}] exceeds max length of string. expected was <= 255, actual was 300"),
        ("CreateZone", {}, "SYS.1007", f"field[name] of message[{ZONE}] is mandatory, can not be null"),
        ("CreateInstanceOffering", {"name": "o", "memorySize": 1 << 30}, "SYS.1007", "field[cpuNum] must be in range of [1, 1024]"),
        ("ChangeZoneState", {"uuid": named("zone-1"), "stateEvent": "Enable"}, "SYS.1007",
            "valid value for field[stateEvent] of message[org.zstack.header.zone.APIChangeZoneStateMsg] "
            "are [enable, disable], but Enable found"),
        ("CreateL2VlanNetwork", {"name": "l", "zoneUuid": named("zone-1"), "physicalInterface": "eth0", "vlan": 4095}, "SYS.1007",
            "field[vlan] must be in range of [1, 4094]"),
        ("DeleteNotifications", {"uuids": []}, "SYS.1007", "field[uuids] must be a nonempty list"),
        ("DeleteNotifications", {}, "SYS.1007",
            "field[uuids] of message[org.zstack.core.notification.APIDeleteNotificationsMsg] is mandatory, can not be null"),
        ("CreateCluster", {"name": "c", "zoneUuid": "nowhere", "hypervisorType": "KVM"}, "SYS.1003",
            "invalid field[zoneUuid], resource[uuid:nowhere, type:ZoneVO] not found"),
        ("GetCpuMemoryCapacity", {"hostUuids": ["a", named("host-1"), "b"]}, "SYS.1003",
            "invalid field[hostUuids], resource[uuids:[a, b], type:HostVO] not found"),
        ("UpdateZone", {"uuid": "nowhere", "name": "z"}, "SYS.1003", "invalid field[uuid], resource[uuid:nowhere, type:ZoneVO] not found"),
        ("DeleteLongJob", {"uuid": named("nothing")}, "SYS.1003",
            f"invalid field[uuid], resource[uuid:{named('nothing')}, type:LongJobVO] not found"),
    ),
)  # fmt: skip
def test_a_call_is_refused_in_the_servers_words(cloud, api, given, code, details):
    with pytest.raises(ApiError) as error:
        perform(cloud, api, **given)
    assert (error.value.code, error.value.details) == (code, details)


def test_references_are_looked_up_without_case(cloud):
    assert make(cloud, "CreateCluster", name="c", zoneUuid=named("zone-1").upper(), hypervisorType="KVM")["name"] == "c"


# verbs


def test_a_new_item_starts_as_its_row_says(cloud):
    zone = make(cloud, "CreateZone", name="z")
    uuid, created, changed = (zone.pop(name) for name in ("uuid", "createDate", "lastOpDate"))
    assert (zone, created) == ({"name": "z", "state": "Enabled", "type": "zstack"}, changed)
    assert re.fullmatch(UUID, uuid)
    assert make(cloud, "CreateZone", name="z", description="")["description"] == ""


def test_names_need_not_be_unique(cloud):
    assert make(cloud, "CreateZone", name="z")["uuid"] != make(cloud, "CreateZone", name="z")["uuid"]


async def test_only_what_is_given_changes_and_the_date_of_the_change(cloud):
    zone = make(cloud, "CreateZone", name="z", description="d")
    await cloud.clock.advance(3600)
    changed = make(cloud, "UpdateZone", uuid=zone["uuid"], name="y")
    assert changed.pop("lastOpDate") != zone["lastOpDate"]
    assert changed == {key: value for key, value in zone.items() if key != "lastOpDate"} | {"name": "y"}
    assert make(cloud, "UpdateZone", uuid=zone["uuid"], description="")["description"] == ""


def test_changing_nothing_succeeds(cloud):
    assert make(cloud, "UpdateZone", uuid=named("zone-1"))["name"] == "zone-1"


@pytest.mark.parametrize("events", (["disable"], ["disable", "disable"], ["enable"], ["disable", "enable"]))
@pytest.mark.parametrize("type", ("Zone", "Cluster", "Image", "InstanceOffering", "DiskOffering", "BackupStorage", "L3Network"))
def test_a_state_can_be_changed_to_what_it_is(cloud, type, events):
    uuid = {"Zone": "zone-1", "Cluster": "cluster-1", "Image": "image-centos7", "InstanceOffering": "offering-small",
            "DiskOffering": "disk-20g", "BackupStorage": "bs-1", "L3Network": "l3-public"}[type]  # fmt: skip
    for event in events:
        state = make(cloud, f"Change{type}State", uuid=named(uuid), stateEvent=event)["state"]
    assert state == {"enable": "Enabled", "disable": "Disabled"}[events[-1]]


def test_switching_a_zone_switches_what_is_in_it_save_hosts_in_maintenance(cloud):
    make(cloud, "ChangeHostState", uuid=named("host-1"), stateEvent="maintain")
    make(cloud, "ChangeZoneState", uuid=named("zone-1"), stateEvent="disable")
    assert [cloud.get("Cluster", named(f"cluster-{n}"))["state"] for n in (1, 2)] == ["Disabled"] * 2
    assert [cloud.get("Host", named(f"host-{n}"))["state"] for n in (1, 2, 3, 4)] == ["Maintenance", *["Disabled"] * 3]


@pytest.mark.parametrize("mode", ("Permissive", "Enforcing", "", None))
def test_a_deletion_takes_a_mode(cloud, mode):
    assert perform(cloud, "DeleteZone", uuid=named("zone-1"), deleteMode=mode) is None
    assert not cloud.exists("Zone", named("zone-1"))


@pytest.mark.parametrize(("dialect", "code"), (("manual", "SYS.1007"), ("server", "SYS.1000")))
def test_another_mode_is_refused(dialect, code):
    with pytest.raises(ApiError) as error:
        perform(new_cloud(dialect=dialect), "DeleteZone", uuid=named("zone-1"), deleteMode="Quick")
    told = "No enum constant org.zstack.header.message.APIDeleteMessage.DeletionMode.Quick"
    assert (error.value.code, error.value.details) == (code, told)


def test_a_mode_means_nothing_to_other_calls(cloud):
    cloud.change("VmInstance", named("vm-web-1"), state="Stopped")
    with pytest.raises(ApiError) as error:
        perform(cloud, "MigrateVm", vmInstanceUuid=named("vm-web-1"), deleteMode="Enforcing")
    assert error.value.code == "VM.1008"


FORMED = "DeleteZone DestroyVmInstance DeleteDataVolume DeleteImage DeleteInstanceOffering DeleteDiskOffering DeleteL2Network " \
         "DeleteL3Network DeleteIpRange DeleteVolumeSnapshot DeleteUser".split()  # fmt: skip
ANY_FORM = "DeleteCluster DeleteHost DeletePrimaryStorage DeleteBackupStorage DeleteGCJob DeleteTag".split()


@pytest.mark.parametrize("api", FORMED + ANY_FORM)
def test_deleting_what_is_not_there_succeeds(cloud, api):
    assert perform(cloud, api, uuid=cloud.uuid()) is None


def test_deleting_what_is_not_there_asks_for_no_session(cloud):
    assert perform(cloud, "DeleteZone", uuid=cloud.uuid(), account="", session="wrong") is None


@pytest.mark.parametrize("api", ANY_FORM)
def test_some_deletions_take_any_text_for_a_uuid(cloud, api):
    assert perform(cloud, api, uuid="nothing") is None


@pytest.mark.parametrize("api", FORMED)
def test_most_deletions_want_a_uuid_in_its_form(cloud, api):
    with pytest.raises(ApiError) as error:
        perform(cloud, api, uuid="nothing")
    assert (error.value.code, error.value.details) == ("SYS.1003", "invalid value[nothing] of field [uuid]")


@pytest.mark.parametrize(
    ("api", "given"),
    (
        ("DeleteLongJob", {"uuid": named("nothing")}),
        ("DetachPrimaryStorageFromCluster", {"primaryStorageUuid": named("nothing"), "clusterUuid": named("cluster-1")}),
        ("DetachL2NetworkFromCluster", {"l2NetworkUuid": named("nothing"), "clusterUuid": named("cluster-1")}),
        ("DetachBackupStorageFromZone", {"backupStorageUuid": named("bs-1"), "zoneUuid": named("nothing")}),
        ("DetachDataVolumeFromVm", {"uuid": named("nothing")}),
    ),
)
def test_other_removals_of_what_is_not_there_fail(cloud, api, given):
    with pytest.raises(ApiError, match="not found") as error:
        perform(cloud, api, **given)
    assert error.value.code == "SYS.1003"


# uuids


def test_the_same_seed_gives_the_same_uuids():
    one, same, other = (new_cloud(seed=seed) for seed in (7, 7, 8))
    uuids = [[make(cloud, "CreateZone", name="z")["uuid"] for _ in range(3)] for cloud in (one, same, other)]
    assert uuids[0] == uuids[1] != uuids[2]
    assert len(set(uuids[0])) == 3


@pytest.mark.parametrize("uuid", ("x", named("zone").upper(), "0" * 32, named("zone")[:-1], named("zone") + "0"))
def test_a_uuid_of_ones_own_must_be_one(cloud, uuid):
    with pytest.raises(ApiError) as error:
        perform(cloud, "CreateZone", name="z", resourceUuid=uuid)
    assert error.value.code == "SYS.1007"
    told = f"resourceUuid[{uuid}] is not a valid uuid. A valid uuid is a UUID(v4 recommended) with '-' stripped. see "
    assert error.value.details.startswith(told)


NEW = {
    "CreateZone": {},
    "CreateCluster": {"zoneUuid": named("zone-1"), "hypervisorType": "KVM"},
    "AddKVMHost": {"managementIp": "10.9.9.9", "username": "root", "password": "p", "clusterUuid": named("cluster-1")},
    "AddNfsPrimaryStorage": {"url": "a:/b", "zoneUuid": named("zone-1")},
    "AddLocalPrimaryStorage": {"url": "/b", "zoneUuid": named("zone-1")},
    "AddSftpBackupStorage": {"url": "/b", "hostname": "h", "username": "root", "password": "p"},
    "AddImage": {"url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]},
    "CreateInstanceOffering": {"cpuNum": 1, "memorySize": 1 << 30},
    "CreateDiskOffering": {"diskSize": 1},
    "CreateL2NoVlanNetwork": {"zoneUuid": named("zone-1"), "physicalInterface": "eth0"},
    "CreateL2VlanNetwork": {"zoneUuid": named("zone-1"), "physicalInterface": "eth0", "vlan": 5},
    "CreateL3Network": {"l2NetworkUuid": named("l2-public")},
    "AddIpRange": {"l3NetworkUuid": named("l3-public"), "startIp": "10.20.0.3", "endIp": "10.20.0.9", "netmask": "255.255.255.0",
                   "gateway": "10.20.0.1"},
    "CreateVmInstance": {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"),
                         "l3NetworkUuids": [named("l3-private")]},
    "CreateDataVolume": {"diskOfferingUuid": named("disk-20g")},
    "CreateVolumeSnapshot": {"volumeUuid": named("volume-db-data-2")},
    "CreateUser": {"password": "p"},
    "SubmitLongJob": {"jobName": "APIUpdateClusterOSMsg", "jobData": '{"uuid": "%s"}' % named("cluster-1")},
}  # fmt: skip


def new(cloud, api, uuid):
    if api == "AddIpRange":
        cloud.remove("IpRange", named("range-public"))
    return make(cloud, api, name="n", resourceUuid=uuid, **NEW[api])["uuid"]


@pytest.mark.parametrize("api", NEW)
def test_a_creation_takes_the_uuid_that_it_is_given(cloud, api):
    assert new(cloud, api, named("mine")) == named("mine")


@pytest.mark.parametrize("api", NEW)
def test_a_uuid_that_is_in_use_is_not_taken_again(cloud, api):
    before = {type: [*cloud.store.rows(type)] for type in ("Zone", "VmInstance", "Host", "Image")}
    with pytest.raises(ApiError) as error:
        new(cloud, api, named("vm-db-1"))
    assert error.value.code == "SYS.1000"
    assert {type: [*cloud.store.rows(type)] for type in before} == before


def test_the_uuid_of_what_was_deleted_is_not_given_again(cloud):
    perform(cloud, "DeleteZone", uuid=new(cloud, "CreateZone", named("mine")))
    with pytest.raises(ApiError) as error:
        new(cloud, "CreateZone", named("mine"))
    assert error.value.code == "SYS.1000"


# what goes with what


def left(cloud, type):
    """The names of what there is of a type, save the root volumes of virtual machines."""
    return {item.get("name", item["uuid"]) for item in cloud.store.rows(type) if item.get("type") != "Root"}


NIC_OF_UNKNOWN = "69d495dd81354c53b0e642f43328ad08"  # an Unknown machine keeps its nic
VMS = {"web-1", "web-2", "web-3", "db-1", "db-2", "cache-1", "ci-1", "ci-2", "office-1", "batch-1", "batch-2", "old-1"}


@pytest.mark.parametrize(
    ("type", "name", "remain"),
    (
        ("Zone", "zone-1", {"Volume": {"spare"}, "BackupStorage": {"bs-1"}, **dict.fromkeys(
            "Cluster Host VmInstance VmNic L2Network L3Network IpRange PrimaryStorage Vip Eip".split(), set())}),
        ("Cluster", "cluster-1", {"Host": {"host-3", "host-4"}, "VmInstance": VMS, "L2Network": {"l2-public", "l2-private"}}),
        ("Host", "host-1", {"Host": {"host-2", "host-3", "host-4"}, "VmInstance": VMS}),
        ("L2Network", "l2-private", {"L3Network": {"l3-public"}, "IpRange": {"range-public"}, "VmNic": {NIC_OF_UNKNOWN}, "Vip": {"vip-1"},
                                     "VmInstance": VMS}),
        ("L2Network", "l2-public", {"L3Network": {"l3-private"}, "IpRange": {"range-private"}, "Vip": set(), "Eip": set()}),
        ("L3Network", "l3-private", {"L2Network": {"l2-public", "l2-private"}, "IpRange": {"range-public"}, "VmNic": {NIC_OF_UNKNOWN},
                                     "VmInstance": VMS}),
        ("IpRange", "range-public", {"L3Network": {"l3-public", "l3-private"}, "Vip": set(), "Eip": set()}),
        ("PrimaryStorage", "ps-nfs", {"VmInstance": set(), "Volume": {"spare"}, "VolumeSnapshot": {"before-upgrade-1", "before-upgrade-2"}}),
        ("BackupStorage", "bs-1", {"Image": set(), "VmInstance": VMS}),
        ("Image", "image-centos7", {"VmInstance": VMS}),
        ("DiskOffering", "disk-100g", {"Volume": {"spare", "db-data-1", "db-data-2"}}),
        ("Volume", "volume-db-data-1", {"VolumeSnapshot": set(), "VolumeSnapshotTree": set()}),
        ("Vip", "vip-1", {"Eip": set()}),
    ),
)  # fmt: skip
def test_what_belongs_to_a_thing_goes_with_it_and_nothing_else(cloud, type, name, remain):
    cloud.remove(type, named(name))
    for kind, names in remain.items():
        assert left(cloud, kind) == names, kind


@pytest.mark.parametrize(
    ("type", "name", "other", "field", "of"),
    (
        ("Zone", "zone-1", "BackupStorage", "attachedZoneUuids", "bs-1"),
        ("Cluster", "cluster-1", "PrimaryStorage", "attachedClusterUuids", "ps-nfs"),
        ("Cluster", "cluster-1", "L2Network", "attachedClusterUuids", "l2-public"),
        ("Host", "host-1", "VmInstance", "hostUuid", "vm-web-1"),
        ("InstanceOffering", "offering-small", "VmInstance", "instanceOfferingUuid", "vm-web-1"),
        ("VmInstance", "vm-web-1", "Eip", "vmNicUuid", "eip-1"),
        ("VmInstance", "vm-web-1", "Eip", "guestIp", "eip-1"),
        ("VmInstance", "vm-db-1", "Volume", "vmInstanceUuid", "volume-db-data-1"),
        ("L3Network", "l3-private", "Eip", "vmNicUuid", "eip-1"),
    ),
)
def test_what_stays_lets_go_of_what_went(cloud, type, name, other, field, of):
    before = cloud.get(other, named(of))[field]
    cloud.remove(type, named(name))
    after = cloud.get(other, named(of)).get(field)
    assert after == ([uuid for uuid in before if uuid != named(name)] if isinstance(before, list) else None)


@pytest.mark.parametrize(
    ("type", "name", "other", "field", "of"),
    (
        ("Image", "image-centos7", "VmInstance", "imageUuid", "vm-web-1"),
        ("DiskOffering", "disk-100g", "Volume", "diskOfferingUuid", "volume-db-data-1"),
    ),
)
def test_some_things_remember_what_is_gone(cloud, type, name, other, field, of):
    cloud.remove(type, named(name))
    assert cloud.get(other, named(of))[field] == named(name)


@pytest.mark.parametrize("tag", ("SystemTag", "UserTag"))
def test_tags_die_with_their_resource(cloud, tag):
    zone = make(cloud, "CreateZone", name="z")["uuid"]
    cluster = make(cloud, "CreateCluster", name="c", zoneUuid=zone, hypervisorType="KVM")["uuid"]
    before = cloud.store.count(tag)
    for type, uuid in (("ZoneVO", zone), ("ClusterVO", cluster)):
        perform(cloud, f"Create{tag}", resourceType=type, resourceUuid=uuid, tag="t")
    assert cloud.store.count(tag) == before + 2
    perform(cloud, "DeleteZone", uuid=zone)
    assert cloud.store.count(tag) == before


# checking only


@pytest.mark.parametrize("api", NEW)
def test_a_call_for_validation_only_changes_nothing(cloud, api):
    cloud.remove("IpRange", named("range-public"))
    before = {type: [*cloud.store.rows(type)] for type in cloud.catalogue.resources}
    assert perform(cloud, api, name="n", system_tags=["ephemeral::validationOnly"], **NEW[api]) is None
    assert {type: [*cloud.store.rows(type)] for type in cloud.catalogue.resources} == before


@pytest.mark.parametrize(("given", "code"), (({"zoneUuid": "nowhere"}, "SYS.1003"), ({"hypervisorType": "Xen"}, "SYS.1007")))
def test_a_call_for_validation_only_is_validated(cloud, given, code):
    with pytest.raises(ApiError) as error:
        perform(cloud, "CreateCluster", system_tags=["ephemeral::validationOnly"], **{"name": "c"} | NEW["CreateCluster"] | given)
    assert error.value.code == code


# sessions


async def test_a_session_lasts_two_hours_however_often_it_is_used(cloud):
    session = log_in(cloud)["uuid"]
    for _ in range(7199):
        await cloud.clock.advance(1)
        assert cloud.accounts.session(session)["accountUuid"] == ADMIN
    assert perform(cloud, "ValidateSession", sessionUuid=session) == {"valid": True}
    await cloud.clock.advance(1)
    assert perform(cloud, "ValidateSession", sessionUuid=session) == {"valid": False}
    with pytest.raises(ApiError, match="^Session expired$") as error:
        perform(cloud, "CreateZone", name="z", account="", session=session)
    assert error.value.code == "ID.1001"


@pytest.mark.parametrize(("given", "seconds"), (({}, 7200), ({"duration": 60}, 60), ({"duration": 31536000}, 31536000)))
async def test_a_session_can_be_renewed(cloud, given, seconds):
    session = log_in(cloud)["uuid"]
    await cloud.clock.advance(7000)
    perform(cloud, "RenewSession", sessionUuid=session, **given)
    await cloud.clock.advance(seconds - 1)
    assert cloud.accounts.session(session)["uuid"] == session
    await cloud.clock.advance(1)
    with pytest.raises(ApiError, match="Session expired"):
        cloud.accounts.session(session)


@pytest.mark.parametrize(("given", "code"), (({"duration": 59}, "SYS.1007"), ({"sessionUuid": "gone"}, "SYS.1003")))
def test_a_renewal_is_refused_for_too_short_or_for_no_session(cloud, given, code):
    with pytest.raises(ApiError) as error:
        perform(cloud, "RenewSession", **{"sessionUuid": log_in(cloud)["uuid"]} | given)
    assert error.value.code == code


def test_whoever_logs_out_is_out_and_may_do_it_twice(cloud):
    session = log_in(cloud)["uuid"]
    for _ in range(2):
        assert perform(cloud, "LogOut", sessionUuid=session) is None
        assert perform(cloud, "ValidateSession", sessionUuid=session) == {"valid": False}


async def test_an_account_has_at_most_500_sessions_at_a_time(cloud):
    for _ in range(500):
        log_in(cloud)
    with pytest.raises(ApiError) as error:
        log_in(cloud)
    told = "Login sessions hit limit of max allowed concurrent login sessions, max allowed: 500"
    assert (error.value.code, error.value.details) == ("SYS.1000", told)
    await cloud.clock.advance(7200)
    assert log_in(cloud)


def test_a_session_names_its_account_and_its_end(cloud):
    session = log_in(cloud, accountName="ADMIN", password=SHA512_OF_PASSWORD.upper())
    assert session.keys() == {"uuid", "accountUuid", "userUuid", "expiredDate", "createDate"}
    assert session["accountUuid"] == session["userUuid"] == ADMIN


@pytest.mark.parametrize("wrong", ({"accountName": "root"}, {"password": "password"}, {"password": ""}))
def test_a_wrong_name_or_password_is_not_told_apart(cloud, wrong):
    with pytest.raises(ApiError) as error:
        log_in(cloud, **wrong)
    assert (error.value.code, error.value.details) == ("ID.1000", "wrong account name or password")


@pytest.mark.parametrize(
    ("given", "code", "details"),
    (
        ({}, "SYS.1007", "accountName and accountUuid cannot both be null, you must specify at least one"),
        ({"accountName": "root"}, "SYS.1007", "account[root] not found"),
        ({"accountName": "admin", "password": "x"}, "ID.1000", "wrong account or username or password"),
        ({"accountUuid": ADMIN, "userName": "nobody"}, "ID.1000", "wrong account or username or password"),
        ({"accountName": "admin"}, "", ""),
        ({"accountUuid": ADMIN}, "", ""),
    ),
)
def test_a_user_logs_in_below_an_account(cloud, given, code, details):
    given = {"userName": "operator", "password": SHA512_OF_PASSWORD} | given
    try:
        session = make(cloud, "LogInByUser", account="", **given)
    except ApiError as error:
        assert (error.code, error.details) == (code, details)
    else:
        assert (session["accountUuid"], session["userUuid"], code) == (ADMIN, named("user-operator"), "")


@pytest.mark.parametrize(("open", "code"), ((True, None), (False, "ID.1001")))
def test_an_open_cloud_takes_any_session(open, code):
    try:
        assert perform(new_cloud(open=open), "CreateZone", name="z", account="", session="made up")["inventory"]["name"] == "z"
    except ApiError as error:
        assert error.code == code
    else:
        assert code is None


def test_references_are_looked_at_before_the_session(cloud):
    with pytest.raises(ApiError) as error:
        perform(cloud, "UpdateZone", uuid="nowhere", account="", session="wrong")
    assert error.value.code == "SYS.1003"
