"""What rows say, at work: the vocabulary itself, and the plain resources that need no more than rows; tables, over HTTP."""

import pytest
from asking import each

from zmock import (
    ADMIN,
    IN_TESTS,
    WORLDS,
    Api,
    ApiError,
    Call,
    RowParser,
    RowTest,
    Scope,
    Settings,
    create_app,
    named,
)

WEB, CI, PRIVATE, PUBLIC, ISO, SPARE, GIB = (*map(named, ("vm-web-1", "vm-ci-1", "l3-private", "l3-public", "image-debian9", "volume-spare")), 1 << 30)


# the vocabulary

CONDITIONS = (  # about the running vm web-1 and a call that is given the names below
    ("state is Running", True),
    ("state is Stopped|Running", True),
    ("state is not Running", False),
    ("state is not Stopped", True),
    ("its.hostUuid", True),
    ("no hostUuid", False),
    ("no its.description", True),
    ("its.description is not Running", False),
    ("no nothing", True),
    ("nothing is Running", False),
    ("nothing is not Running", False),
    ("hostUuid.state is Enabled and clusterUuid.zoneUuid is zoneUuid", True),
    ("hostUuid.state is Enabled and state is Stopped", False),
    ("rootVolumeUuid.primaryStorageUuid.zoneUuid is zoneUuid", True),
    ("cpuNum > 1", False),
    ("cpuNum < 2", True),
    ("cpuNum > nothing", False),
    ("l3NetworkUuids.state is Enabled", True),
    ("l3NetworkUuids.name is 'l3-public'", True),
    ("l3NetworkUuids.name is 'l3-other'", False),
    ("defaultL3NetworkUuid in l3NetworkUuids", True),
    ("defaultL3NetworkUuid not in l3NetworkUuids", False),
    ("nothing not in l3NetworkUuids", False),
    ("some VmNic vmInstanceUuid=its.uuid l3NetworkUuid=l3NetworkUuids", True),
    ("no VmNic vmInstanceUuid=its.uuid l3NetworkUuid=l3NetworkUuids", True),  # there is one of the two without
    ("some VmNic vmInstanceUuid=nothing", False),
    ("some NetworkServiceL3NetworkRef l3NetworkUuid=defaultL3NetworkUuid networkServiceType=Eip", True),
    ("address is IPv4", True),
    ("address is not IPv4|Hostname", False),
    ("address is Cidr", False),
    ("nothing is not IPv4", False),
    ("empty is not IPv4", True),
    ("empty is not Running", False),
    ("address in '10.0.0.0/8'", True),
    ("address in '{address}/255.255.255.0'", True),
    ("address not in '192.168.0.0/16'", True),
    ("address in '9.0.0.9-10.0.0.1'", True),
    ("address in '10.0.0.2-10.0.0.9'", False),
    ("address in '10.0.0.0-x'", False),
    ("address in '10.0.0.1/30'", True),
    ("address in '10.0.0.1/32'", False),
    ("address in '10.0.0.1'", True),
    ("address in 'x,10.0.0.1'", True),
    ("state in 'Cold-Start,Running'", True),
    ("state in 'Cold-Start'", False),
    ("address in 'nowhere'", False),
    ("nothing not in '10.0.0.0/8'", False),
    ("address < '9.0.0.1'", False),
    ("address < '10.0.0.10'", True),
    ("address < cpuNum", False),
    ("address > cpuNum", False),
    ("address < state", False),
    ("services < cpuNum", False),
    ("l3NetworkUuids > state", False),
    ("services.key is 'flat' and services.value is DNS", True),
    ("services.key is 'router' and services.value is DNS", False),
    ("services.value is not DHCP|DNS|Eip", False),
    ("some NetworkServiceL3NetworkRef l3NetworkUuid=defaultL3NetworkUuid networkServiceType=services.value", True),
    ("flag is true", True),
    ("flag is false", False),
    ("caller.name is 'admin'", True),
)  # fmt: skip


@each(("condition", "holds"), CONDITIONS, ids=[row[0] for row in CONDITIONS])
def test_a_condition_says_what_it_reads_like(condition, holds):
    cloud = create_app(Settings(**IN_TESTS))[WORLDS].main.rest.cloud
    takes = ("l3NetworkUuids:list @L3Network", "address", "empty", "nothing", "flag:bool", "services:map")
    api = Api("TryIt", "POST /try", takes=takes)
    call = Call(api, {"l3NetworkUuids": [PRIVATE, PUBLIC], "address": "10.0.0.1", "empty": "", "flag": True, "services": {"flat": ["DHCP", "DNS"], "router": "Eip"}}, account=ADMIN)
    assert bool(Scope(cloud, call, "VmInstance", cloud.get("VmInstance", WEB)).where(parser_of(cloud, api).condition(condition))) == holds


def parser_of(cloud, api):
    return RowParser(cloud.catalogue, ["VmInstance"], api.params)


WHEN = (  # what is done to a running vm, what is then its name
    ("when state is Running: name = 'on'", "on"),
    ("when state is Stopped: name = 'off'", "web-1"),
    ("when no description: name = 'bare'; when name is 'bare': name = 'twice'", "twice"),
    ("when services.value is DNS: name = '{state}'", "Running"),
)


@pytest.mark.parametrize(("does", "name"), WHEN, ids=[row[0] for row in WHEN])
def test_an_effect_may_depend_on_a_condition(does, name):
    cloud = create_app(Settings(**IN_TESTS))[WORLDS].main.rest.cloud
    api = Api("TryIt", "POST /try", takes=("services:map",))
    scope = Scope(cloud, Call(api, {"services": {"flat": ["DNS"]}}), "VmInstance", cloud.get("VmInstance", WEB))
    scope.perform(parser_of(cloud, api).clauses(does.split("; ")))
    assert scope.item["name"] == name


async def test_an_address_of_a_network_is_one_for_hosts_that_is_free():
    cloud = create_app(Settings(**IN_TESTS))[WORLDS].main.rest.cloud
    api = Api("TryIt", "POST /try")
    for address in ("10.0.0.1", "10.0.0.2"):
        item = cloud.add("Webhook", name="w")
        scope = Scope(cloud, Call(api, {}), "Webhook", item)
        scope.perform(RowParser(cloud.catalogue, ["Webhook"]).clauses(["url in '10.0.0.0/30'"]))
        assert cloud.get("Webhook", item["uuid"])["url"] == address
    with pytest.raises(ApiError, match="no address of 10.0.0.0/30 is free"):
        scope.perform(RowParser(cloud.catalogue, ["Webhook"]).clauses(["url in '10.0.0.0/30'"]))


def test_a_condition_is_parsed_into_tests():
    cloud = create_app(Settings(**IN_TESTS))[WORLDS].main.rest.cloud
    parser = RowParser(cloud.catalogue, names=("a", "b", "c", "d"))
    assert parser.condition("a is B|C and no d").tests == (RowTest("is", "a", ("B", "C")), RowTest("no", "d"))
    some, inside = parser.condition("some Zone name=a uuid=b and c not in d").tests
    assert (some, inside) == (RowTest("some", "Zone", (("name", "a"), ("uuid", "b"))), RowTest("not in", "c", ("d",)))


# what is kept in system tags: set it, what it is then, take it away, what it is without

KEPT_IN_TAGS = (
    (("SetVmHostname", {"uuid": WEB, "hostname": "w.demo.local"}), ("GetVmHostname", {"uuid": WEB}), {"hostname": "w.demo.local"}, "DeleteVmHostname", {}, "hostname::w.demo.local"),
    (("SetVmConsolePassword", {"uuid": WEB, "consolePassword": "s3"}), ("GetVmConsolePassword", {"uuid": WEB}), {"password": "s3"}, "DeleteVmConsolePassword", {}, "consolePassword::s3"),
    (("SetVmSshKey", {"uuid": WEB, "SshKey": "ssh-rsa a::b"}), ("GetVmSshKey", {"uuid": WEB}), {"sshKey": "ssh-rsa a::b"}, "DeleteVmSshKey", {}, "sshkey::ssh-rsa a::b"),
    (("SetVmInstanceHaLevel", {"uuid": WEB, "level": "NeverStop"}), ("GetVmInstanceHaLevel", {"uuid": WEB}), {"level": "NeverStop"}, "DeleteVmInstanceHaLevel", {}, "ha::NeverStop"),
    (("SetVmBootOrder", {"uuid": WEB, "bootOrder": ["CdRom", "HardDisk"]}), ("GetVmBootOrder", {"uuid": WEB}), {"orders": ["CdRom", "HardDisk"]}, None, None, "bootOrder::CdRom,HardDisk"),
    (("SetVmRDP", {"uuid": WEB, "enable": True}), ("GetVmRDP", {"uuid": WEB}), {"enable": True}, None, None, "RDPEnable::true"),
    (("SetVmMonitorNumber", {"uuid": WEB, "monitorNumber": 2}), ("GetVmMonitorNumber", {"uuid": WEB}), {"monitorNumber": 2}, None, None, "VDIMonitorNumber::2"),
    (("SetL3NetworkMtu", {"l3NetworkUuid": PRIVATE, "mtu": 1400}), ("GetL3NetworkMtu", {"l3NetworkUuid": PRIVATE}), {"mtu": 1400}, None, None, f"l3NetworkUuid::{PRIVATE}::mtu::1400"),
)  # fmt: skip


def told(body):
    return {name: value for name, value in body.items() if name != "success"}


@pytest.mark.parametrize(("set_it", "ask", "answer", "take", "without", "tag"), KEPT_IN_TAGS, ids=[row[0][0] for row in KEPT_IN_TAGS])
async def test_a_property_is_a_tag_that_is_set_once_asked_and_taken_away(cloud, set_it, ask, answer, take, without, tag):
    for _ in range(2):
        await cloud.call(set_it[0], **set_it[1])
    assert told(await cloud.call(ask[0], **ask[1])) == answer
    assert len(await cloud.query("system-tags", f"tag={tag}")) == 1
    if take:
        await cloud.call(take, **ask[1])
        assert (told(await cloud.call(ask[0], **ask[1])), await cloud.query("system-tags", f"tag={tag}")) == (without, [])


# candidates, by names

CANDIDATES = (
    ("GetVmAttachableDataVolume", {"vmInstanceUuid": WEB}, ["spare"]),
    ("GetVmAttachableL3Network", {"vmInstanceUuid": WEB}, ["l3-public"]),
    ("GetCandidateIsoForAttachingVm", {"vmInstanceUuid": WEB}, ["image-debian9"]),
    ("GetVmMigrationCandidateHosts", {"vmInstanceUuid": WEB}, ["host-2", "host-3"]),
    ("GetBackupStorageForCreatingImageFromVolume", {"volumeUuid": named("volume-db-data-1")}, ["bs-1"]),
    ("GetZone", {"uuid": named("zone-1")}, ["zone-1"]),
    ("GetDataVolumeAttachableVm", {"volumeUuid": SPARE}, ["cache-1", "ci-1", "ci-2", "db-1", "db-2", "web-1", "web-2", "web-3"]),
)


@pytest.mark.parametrize(("api", "given", "names"), CANDIDATES, ids=[row[0] for row in CANDIDATES])
async def test_candidates_are_computed_from_the_state(cloud, api, given, names):
    assert sorted(row["name"] for row in (await cloud.call(api, **given))["inventories"]) == names


async def test_backup_storage_for_an_image_of_a_volume_is_attached_to_the_zone_of_its_primary_storage(cloud):
    zone = await cloud.create("CreateZone", name="z")
    for name, where in (("near", named("zone-1")), ("far", zone["uuid"])):
        storage = await cloud.create("AddImageStoreBackupStorage", name=name, hostname=f"{name}.local", username="root", password="p", url="/bs")
        await cloud.call("AttachBackupStorageToZone", zoneUuid=where, backupStorageUuid=storage["uuid"])
    for api, given in (("Volume", {"volumeUuid": named("volume-db-data-1")}), ("VolumeSnapshot", {"volumeSnapshotUuid": named("snapshot-1")})):
        found = await cloud.call(f"GetBackupStorageForCreatingImageFrom{api}", **given)
        assert sorted(row["name"] for row in found["inventories"]) == ["bs-1", "near"]


REFUSED = (
    ("CreateAccount", {"name": "admin", "password": "p"}, "SYS.1007: unable to create an account. An account already called admin"),
    ("UpdateAccount", {"uuid": ADMIN, "name": "root"}, "SYS.1006: the name of admin account cannot be updated"),
    ("DeleteAccount", {"uuid": ADMIN}, "SYS.1007: account cannot delete itself"),
    ("ReimageVmInstance", {"vmInstanceUuid": WEB}, 'SYS.1000: {"causes":[],"code":"VM.1014"'),
    ("ResizeDataVolume", {"uuid": SPARE, "size": 1}, f"SYS.1007: the size[1] of volume[uuid:{SPARE}] must be larger"),
    ("ResizeRootVolume", {"uuid": SPARE, "size": 200 * GIB}, f"SYS.1007: volume[uuid:{SPARE}] is a Data volume"),
    ("ResizeDataVolume", {"uuid": named("volume-db-data-1"), "size": 1 << 60}, "SYS.1006: required primary storage[uuid:"),
    ("AddSimulatorHost", {"name": "h", "managementIp": "10.10.0.11", "clusterUuid": named("cluster-1")}, "SYS.1007: there has been a host having"),
)  # fmt: skip


@each(("api", "given", "words"), REFUSED, ids=[f"{row[0]}-{n}" for n, row in enumerate(REFUSED)])
async def test_what_is_not_possible_is_refused(cloud, api, given, words):
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **given)
    assert str(error.value).startswith(words)


# plain resources


@pytest.mark.parametrize("wrong", ({}, {"effect": "Allow"}, {"effect": "allow", "actions": ["**"]}, {"effect": "Allow", "actions": None}, {"effect": "Deny", "actions": []}, {"effect": "Allow", "actions": "**"}))
async def test_each_statement_of_a_policy_has_an_effect_and_actions(cloud, wrong):
    with pytest.raises(RuntimeError, match="SYS.1007: a statement must have "):
        await cloud.create("CreatePolicy", name="p", statements=[{"effect": "Allow", "actions": ["**"]}, wrong])


async def test_a_number_that_may_be_0_is_missed_all_the_same(cloud):
    with pytest.raises(RuntimeError, match=r"SYS.1007: field\[startVni\] of message.* is mandatory, can not be null"):
        await cloud.create("CreateVniRange", name="r", endVni=9, l2NetworkUuid=named("pool"))


async def test_an_account_has_users_groups_and_policies_that_go_with_it(cloud):
    account = await cloud.create("CreateAccount", name="team", password="b109")
    session = (await cloud.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "team", "password": "b109"}}))[1]["inventory"]["uuid"]
    admin, cloud.session = cloud.session, session
    user = await cloud.create("CreateUser", name="u", password="p")
    group = await cloud.create("CreateUserGroup", name="g")
    policy = await cloud.create("CreatePolicy", name="p", statements=[{"effect": "Allow", "actions": ["vm:.*"]}])
    assert {row["accountUuid"] for row in (user, group, policy)} == {account["uuid"]}
    await cloud.call("AddUserToGroup", userUuid=user["uuid"], groupUuid=group["uuid"])
    await cloud.call("AttachPoliciesToUser", userUuid=user["uuid"], policyUuids=[policy["uuid"]])
    await cloud.call("AttachPolicyToUserGroup", groupUuid=group["uuid"], policyUuid=policy["uuid"])
    assert [row["name"] for row in await cloud.query("accounts/users", "group.name=g", "policy.name=p")] == ["u"]
    await cloud.call("RemoveUserFromGroup", userUuid=user["uuid"], groupUuid=group["uuid"])
    assert await cloud.query("accounts/users", "group.name=g") == []
    cloud.session = admin
    await cloud.delete("accounts", account["uuid"])
    for collection in ("accounts/users", "accounts/groups", "accounts/policies"):
        assert await cloud.query(collection, f"accountUuid={account['uuid']}") == []
    assert (await cloud.request("GET", f"/accounts/sessions/{session}/valid"))[1]["valid"] is False


async def test_a_new_password_is_the_one_that_logs_in(cloud):
    account = await cloud.create("CreateAccount", name="team", password="old")
    changed = await cloud.create("UpdateAccount", uuid=account["uuid"], password="new", description="d")
    assert changed["description"] == "d" and "password" not in changed
    for password, status in (("old", 503), ("new", 200)):
        assert (await cloud.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "team", "password": password}}))[0] == status
    await cloud.create("UpdateAccount", uuid=account["uuid"], description="e")
    assert (await cloud.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "team", "password": "new"}}))[0] == 200


@pytest.mark.zmock(addresses="first")
async def test_a_vxlan_network_takes_the_first_number_of_its_pool_that_is_free(cloud):
    pool = await cloud.create("CreateL2VxlanNetworkPool", name="p", zoneUuid=named("zone-1"))
    await cloud.create("CreateVniRange", name="r", l2NetworkUuid=pool["uuid"], startVni=7, endVni=8)
    made = [await cloud.create("CreateL2VxlanNetwork", name=f"n{n}", poolUuid=pool["uuid"]) for n in (1, 2)]
    assert [(row["vni"], row["type"], row["zoneUuid"]) for row in made] == [(n, "VxlanNetwork", named("zone-1")) for n in (7, 8)]
    with pytest.raises(RuntimeError, match=r"L2\.1001"):
        await cloud.create("CreateL2VxlanNetwork", name="n3", poolUuid=pool["uuid"])
    assert [row["name"] for row in await cloud.query("l2-networks/vxlan", "vxlanPool.name=p", "vni=8")] == ["n2"]


async def test_a_volume_that_grows_takes_space(cloud):
    (before,) = await cloud.query("volumes", "name=db-data-1")
    (ps,) = await cloud.query("primary-storage", f"uuid={before['primaryStorageUuid']}")
    assert (await cloud.create("ResizeDataVolume", uuid=before["uuid"], size=before["size"] + GIB))["size"] == before["size"] + GIB
    assert (await cloud.query("primary-storage", f"uuid={ps['uuid']}"))[0]["availableCapacity"] == ps["availableCapacity"] - GIB


@pytest.mark.parametrize(
    ("api", "given", "shown"),
    (
        ("AddSharedMountPointPrimaryStorage", {"url": "/smp", "zoneUuid": named("zone-1")}, {"type": "SharedMountPoint", "mountPath": "/smp", "status": "Disconnected", "totalCapacity": 0}),
        ("AddSimulatorPrimaryStorage", {"url": "/sim", "zoneUuid": named("zone-1"), "totalCapacity": 5}, {"type": "SimulatorPrimaryStorage", "totalCapacity": 5}),
        ("AddSimulatorBackupStorage", {"url": "/sim", "totalCapacity": 5}, {"type": "SimulatorBackupStorage", "totalCapacity": 5}),
        ("AddSimulatorHost", {"managementIp": "10.10.0.99", "clusterUuid": named("cluster-1"), "cpuCapacity": 9},
            {"hypervisorType": "Simulator", "status": "Connected", "totalCpuCapacity": 9, "zoneUuid": named("zone-1")}),
        ("CreateVirtualRouterOffering", {"zoneUuid": named("zone-1"), "managementNetworkUuid": PUBLIC, "imageUuid": named("image-centos7"), "cpuNum": 1, "memorySize": GIB},
            {"type": "VirtualRouter", "publicNetworkUuid": PUBLIC, "isDefault": True}),
        ("GetHypervisorTypes", {}, None),
    ),
)  # fmt: skip
async def test_what_is_made_is_as_its_row_says(cloud, api, given, shown):
    if shown is None:
        assert await cloud.call(api) == {"hypervisorTypes": ["KVM"]}
        return
    assert shown.items() <= (await cloud.create(api, name="n", **given)).items()

# stages


def test_a_row_has_the_stages_of_its_clauses():
    cloud = create_app(Settings(**IN_TESTS))[WORLDS].main.rest.cloud
    does = ("name = 'a'", "stage one: The first", "stage two: The second")
    api = Api("MoveIt", "PUT /it/{uuid}/actions", takes=("uuid! @Zone",), does=does, backing="manual")
    api.compile(cloud.catalogue)
    assert api.stages == {"one": "The first", "two": "The second"}


@pytest.mark.parametrize("gone", (False, True))
async def test_a_row_with_stages_takes_its_time_and_finds_what_became_of_its_item(cloud, gone):
    volume = (await cloud.create("CreateDataVolume", name="v", diskOfferingUuid=named("disk-20g"), primaryStorageUuid=named("ps-nfs")))["uuid"]
    cloud.rule(api="PrimaryStorageMigrateVolume", delay=10)
    path, body = f"/primary-storage/volumes/{volume}/actions", {"primaryStorageMigrateVolume": {"dstPrimaryStorageUuid": named("ps-local")}}
    _, answer = await cloud.request("PUT", path, body)
    await cloud.advance(9)
    assert [row["status"] for row in await cloud.query("volumes", "name=v")] == ["Migrating"]
    if gone:
        cloud.cloud.remove("Volume", volume)
    await cloud.advance(1)
    status, shown = await cloud.request("GET", "/api-jobs/" + answer["location"][-32:])
    assert (shown["error"]["code"], status) == ("SYS.1003", 503) if gone else shown["inventory"]["primaryStorageUuid"] == named("ps-local")
