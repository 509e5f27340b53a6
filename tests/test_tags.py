"""Tags: what they may say, of what, and what they bring about."""

import re

import pytest
from asking import each, one, outcome

from zmock import catalogue, named, serve

HOST, ZONE = named("host-1"), named("zone-1")
PRIVATE, PUBLIC, WEB = named("l3-private"), named("l3-public"), named("vm-web-1")
VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [PRIVATE]}


class TestTags:
    TABLE = (  # kind, type, resource, tag; the error in the manual's dialect and in the server's, "" where there is none
        ("System", "HostVO", HOST, "reservedCpu::4", "", ""),
        ("System", "HostVO", HOST, "reservedMemory::abc", "", ""),
        ("System", "HostVO", HOST, "capability:virtio-scsi", "", ""),
        ("System", "ZoneVO", ZONE, "host::reservedMemory::1G", "", ""),
        ("System", "VmInstanceVO", WEB, "ha::NeverStop", "", ""),
        ("System", "HostVO", HOST, "for-large-DB", "", "no system tag matches[for-large-DB] for resourceType[HostVO]"),
        ("System", "HostVO", HOST, "ReservedCpu::4", "", "no system tag matches[ReservedCpu::4] for resourceType[HostVO]"),
        ("System", "HostVO", HOST, "reservedCpu::4::5", "", "no system tag matches[reservedCpu::4::5] for resourceType[HostVO]"),
        ("System", "ZoneVO", ZONE, "reservedCpu::4", "", "no system tag matches[reservedCpu::4] for resourceType[ZoneVO]"),
        ("System", "HostVO", named("nothing"), "reservedCpu::4", *["The argument :'resourceType' doesn't match uuid"] * 2),
        ("System", "HostVO", ZONE, "reservedCpu::4", *["The argument :'resourceType' doesn't match uuid"] * 2),
        ("System", "HostVO", "no uuid at all", "reservedCpu::4", *["The argument :'resourceType' doesn't match uuid"] * 2),
        ("System", "HostVOX", HOST, "t", *["no resource type[HostVOX] found in tag system"] * 2),
        ("System", "hostVO", HOST, "t", *["no resource type[hostVO] found in tag system"] * 2),
        ("User", "HostVO", HOST, "for-large-DB", "", ""),
        ("User", "Host", HOST, "t", *["no resource type[Host] found in tag system"] * 2),
        ("User", "DiskOfferingVO", named("disk-100g"), "for-large-DB",
            *[f"Duplicated Tag[tag:for-large-DB, type:User, resourceType:DiskOfferingVO, resourceUuid:{named('disk-100g')}]"] * 2),
    )  # fmt: skip

    @pytest.mark.parametrize("dialect", ("manual", "server"))
    @each(("kind", "type", "uuid", "tag", "manual", "server"), TABLE, ids=["-".join(row[:2]) for row in TABLE])
    async def test_a_tag_is_free_text_in_the_manual_and_has_a_pattern_on_the_server(self, kind, type, uuid, tag, manual, server, dialect):
        refusal = {"manual": manual, "server": server}[dialect]
        async with serve(dialect=dialect) as mock:
            await mock.login()
            body = {"params": {"resourceType": type, "resourceUuid": uuid, "tag": tag}}
            status, answer = await outcome(mock, "POST", f"/{kind.lower()}-tags", body)
            if refusal:
                code = "SYS.1006" if "Duplicated" in refusal else "SYS.1007"
                assert (answer["error"]["code"], answer["error"]["details"]) == (code, refusal)
            else:
                made = answer["inventory"]
                assert (status, made["tag"], made["type"], made["resourceUuid"], made["resourceType"]) == (200, tag, kind, uuid, type)
                assert made["createDate"] == made["lastOpDate"]
                assert made.get("inherent") is (False if kind == "System" else None)

    async def test_a_system_tag_that_is_there_already_is_a_success_without_an_inventory(self, cloud):
        body = {"params": {"resourceType": "HostVO", "resourceUuid": HOST, "tag": "reservedMemory::2G"}}
        assert await outcome(cloud, "POST", "/system-tags", body) == (200, {})

    @pytest.mark.parametrize(("dialect", "code"), (("manual", None), ("server", "SYS.1007")))
    async def test_a_system_tag_can_be_changed_within_its_patterns(self, dialect, code):
        async with serve(dialect=dialect) as mock:
            await mock.login()
            tag = await one(mock, "system-tags", "tag=reservedMemory::2G")
            path = f"/system-tags/{tag['uuid']}/actions"
            for text in ("reservedMemory::2G", "reservedMemory::4G"):
                _, body = await outcome(mock, "PUT", path, {"updateSystemTag": {"tag": text}})
                assert body["inventory"]["tag"] == text
            _, body = await outcome(mock, "PUT", path, {"updateSystemTag": {"tag": "for-large-DB"}})
            assert body.get("error", {}).get("code") == code

    async def test_a_tag_of_either_kind_can_be_deleted_but_an_inherent_one(self, cloud):
        inherent = (await cloud.query("system-tags", "inherent=true"))[0]["uuid"]
        with pytest.raises(RuntimeError) as error:
            await cloud.delete("tags", inherent)
        assert str(error.value) == f"SYS.1006: tag[uuid:{inherent}] is an inherent system tag, can not be removed"
        for kind, condition in (("system-tags", "inherent=false"), ("user-tags", "tag=web")):
            uuid = (await cloud.query(kind, condition))[0]["uuid"]
            assert await outcome(cloud, "DELETE", f"/tags/{uuid}") == (200, {})
            assert await cloud.query(kind, f"uuid={uuid}") == []
        assert await outcome(cloud, "DELETE", "/tags/nothing") == (200, {})

    @pytest.mark.parametrize(
        ("tags", "details", "stored"),
        (
            (["hostname::n"], None, ["hostname::n"]),
            (["reservedCpu::4"], None, []),
            (["ephemeral::shareable"], None, []),
            (["nonsense"], "no system tag matches nonsense", None),
        ),
    )
    async def test_the_server_wants_the_tags_of_a_creation_to_match_some_pattern(self, tags, details, stored):
        async with serve(dialect="server") as mock:
            await mock.login()
            _, body = await outcome(mock, "POST", "/vm-instances", {"params": VM | {"name": "n"}, "systemTags": tags})
            assert body.get("error", {}).get("details") == details
            if not details:
                found = await mock.query("system-tags", f"resourceUuid={body['inventory']['uuid']}")
                assert [tag["tag"] for tag in found] == stored


async def tags_of(mock, uuid):
    return sorted(tag["tag"] for tag in await mock.query("system-tags", f"resourceUuid={uuid}", "inherent=false"))


REFUSED = (  # what is tagged, the tag, and why it may not be
    ("VmInstanceVO", WEB, "hostname::a_b", "hostname[a_b] specified in system tag[hostname::a_b] is not a valid domain name"),
    ("VmInstanceVO", named("vm-web-2"), "hostname::web-1", f"conflict hostname in system tag[hostname::web-1]; there has been a VM[uuid:{WEB}] having hostname[web-1] on L3 network[uuid:{PRIVATE}]"),
    ("VmInstanceVO", WEB, f"staticIp::{PRIVATE}::300.1.1.1", f"300.1.1.1 is not a valid IPv4 address. Please correct your system tag[staticIp::{PRIVATE}::300.1.1.1] of static IP"),
    ("VmInstanceVO", WEB, f"staticIp::{ZONE}::1.1.1.1", f"L3 network[uuid:{ZONE}] not found. Please correct your system tag[staticIp::{ZONE}::1.1.1.1] of static IP"),
    ("VmInstanceVO", WEB, f"staticIp::{PRIVATE}::10.0.0.1", f"IP[10.0.0.1] is not available on the L3 network[uuid:{PRIVATE}]"),
    ("DiskOfferingVO", named("disk-20g"), f"primaryStorage::allocator::uuid::{ZONE}", f"primary storage[uuid:{ZONE}] not found"),
    ("InstanceOfferingVO", named("offering-small"), f"guestL3Network::{ZONE}", f"guest l3Network[uuid:{ZONE}] not found"),
)  # fmt: skip


@pytest.mark.parametrize("dialect", ("manual", "server"))
@each(("type", "uuid", "tag", "why"), REFUSED, ids=[row[2].partition("::")[0] for row in REFUSED])
async def test_a_tag_that_means_something_says_it_right(dialect, type, uuid, tag, why):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        before = await tags_of(mock, uuid)
        _, body = await outcome(mock, "POST", "/system-tags", {"params": {"resourceType": type, "resourceUuid": uuid, "tag": tag}})
        assert body["error"]["details"] == why
        assert await tags_of(mock, uuid) == before


async def create(mock, *tags, **more):
    return await mock.create("CreateVmInstance", **VM | {"name": "new", "systemTags": [*tags]} | more)


async def test_a_hostname_is_unique_on_a_network_only(cloud):
    vm = await create(cloud, "hostname::web-1", l3NetworkUuids=[PUBLIC])
    assert (await cloud.call("GetVmHostname", uuid=vm["uuid"]))["hostname"] == "web-1"
    await cloud.call("SetVmHostname", uuid=WEB, hostname="web-1")
    with pytest.raises(RuntimeError, match="conflict hostname"):
        await cloud.call("SetVmHostname", uuid=named("vm-web-2"), hostname="web-1")
    await cloud.call("DeleteVmHostname", uuid=WEB)
    await cloud.call("SetVmHostname", uuid=named("vm-web-2"), hostname="web-1")
    assert await tags_of(cloud, named("vm-web-2")) == ["hostname::web-1"]


async def test_a_vm_has_the_address_and_the_mac_that_its_tags_say(cloud):
    vm = await create(cloud, f"staticIp::{PRIVATE}::192.168.100.77", f"customMac::{PRIVATE}::fa:12:34:56:78:9a")
    (nic,) = vm["vmNics"]
    assert (nic["ip"], nic["mac"]) == ("192.168.100.77", "fa:12:34:56:78:9a")
    with pytest.raises(RuntimeError, match=r"IP\[192.168.100.77\] is not available"):
        await create(cloud, f"staticIp::{PRIVATE}::192.168.100.77")
    await cloud.create("CreateSystemTag", resourceType="VmInstanceVO", resourceUuid=WEB, tag=f"staticIp::{PRIVATE}::{(await one(cloud, 'vm-instances', 'name=web-1'))['vmNics'][0]['ip']}")


async def test_a_static_address_is_not_one_that_another_has(cloud):
    (web, ci) = [await one(cloud, "vm-instances", f"name={name}") for name in ("web-1", "ci-1")]
    with pytest.raises(RuntimeError, match="is not available"):
        await cloud.call("SetVmStaticIp", vmInstanceUuid=ci["uuid"], l3NetworkUuid=PRIVATE, ip=web["vmNics"][0]["ip"])
    await cloud.call("SetVmStaticIp", vmInstanceUuid=ci["uuid"], l3NetworkUuid=PRIVATE, ip=ci["vmNics"][0]["ip"])
    assert await tags_of(cloud, ci["uuid"]) == [f"staticIp::{PRIVATE}::{ci['vmNics'][0]['ip']}"]


async def test_volumes_are_where_tags_want_them(cloud):
    await cloud.create("CreateSystemTag", resourceType="InstanceOfferingVO", resourceUuid=named("offering-small"), tag=f"primaryStorage::allocator::uuid::{named('ps-local')}")
    given = {"dataDiskOfferingUuids": [named("disk-20g")], "clusterUuid": named("cluster-2")}
    vm = await create(cloud, f"primaryStorageUuidForDataVolume::{named('ps-nfs')}", **given)
    assert {volume["type"]: volume["primaryStorageUuid"] for volume in vm["allVolumes"]} == {"Root": named("ps-local"), "Data": named("ps-nfs")}
    await cloud.create("CreateSystemTag", resourceType="DiskOfferingVO", resourceUuid=named("disk-20g"), tag=f"primaryStorage::allocator::uuid::{named('ps-local')}")
    vm = await create(cloud, **given)
    assert {volume["primaryStorageUuid"] for volume in vm["allVolumes"]} == {named("ps-local")}


async def test_an_update_says_it_right_too(cloud):
    tag = await one(cloud, "system-tags", "tag=hostname::web-1")
    with pytest.raises(RuntimeError, match="is not a valid domain name"):
        await cloud.call("UpdateSystemTag", uuid=tag["uuid"], tag="hostname::a b")
    assert await tags_of(cloud, WEB) == ["hostname::web-1"]
    await cloud.call("UpdateSystemTag", uuid=tag["uuid"], tag="hostname::web-one")
    assert (await cloud.call("GetVmHostname", uuid=WEB))["hostname"] == "web-one"


async def test_tags_go_when_what_they_are_of_goes_for_good(cloud):
    await cloud.create("CreateUserTag", resourceType="VmInstanceVO", resourceUuid=WEB, tag="mine")
    await cloud.delete("vm-instances", WEB)
    assert await cloud.query("system-tags", f"resourceUuid={WEB}") and await cloud.query("user-tags", f"resourceUuid={WEB}")
    await cloud.act("vm-instances", WEB, "expungeVmInstance")
    assert await cloud.query("system-tags", f"resourceUuid={WEB}") == await cloud.query("user-tags", f"resourceUuid={WEB}") == []


ALL = catalogue()
WRITTEN = sorted({(ALL.resources[api.type].stored, re.sub(r"{[^}]*}", "x", tag)) for api in ALL.apis.values()
                  for clause in api.does for tag in re.findall(r"(?:^|: )tag (?:once |inherent )?(\S+)", clause)})  # fmt: skip


@each(("type", "tag"), WRITTEN)
def test_a_tag_that_an_api_writes_may_be_sent_by_a_client_too(type, tag):
    assert ALL.resources[type].allows_tag(tag), ALL.resources[type].tags


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_a_high_availability_tag_of_a_new_virtual_machine_is_its_level(dialect):
    async with serve(dialect=dialect) as mock:
        await mock.login()
        status, answer = await outcome(mock, "POST", "/vm-instances", {"params": VM | {"name": "v"}, "systemTags": ["ha::NeverStop"]})
        assert status == 200, answer
        level = await mock.request("GET", f"/vm-instances/{answer['inventory']['uuid']}/ha-levels")
        assert level == (200, {"level": "NeverStop"})


# tags that are read as numbers

NUMBERS = (  # the type, whose, the tag up to its number, the API that reads it with its parameters, and what it answers where there is no number
    ("VmInstanceVO", WEB, "VDIMonitorNumber::", "GetVmMonitorNumber", {"uuid": WEB}, {"monitorNumber": 1}),
    ("VolumeVO", named("volume-spare"), "volumeTotalBandwidth::", "GetVolumeQos", {"uuid": named("volume-spare")}, {"volumeBandwidth": -1}),
    ("L3NetworkVO", PRIVATE, f"l3NetworkUuid::{PRIVATE}::mtu::", "GetL3NetworkMtu", {"l3NetworkUuid": PRIVATE}, {"mtu": 1500}),
)
NO_NUMBERS = ("two", "٣", "²", "1.5", "1_0", " 1", "9" * 5000)


@each("text", NO_NUMBERS, ids=lambda text: text[:9])
@each(("vo", "uuid", "begin", "api", "params", "usual"), NUMBERS, ids=[row[3] for row in NUMBERS])
async def test_a_tag_that_is_read_as_a_number_is_refused_without_one_and_counts_for_nothing_where_it_is_there(cloud, vo, uuid, begin, api, params, usual, text):
    with pytest.raises(RuntimeError, match=r"SYS\.1007: invalid tag\[.* is not a number"):
        await cloud.create("CreateSystemTag", resourceType=vo, resourceUuid=uuid, tag=begin + text)
    cloud.cloud.add("SystemTag", resourceUuid=uuid, resourceType=vo, tag=begin + text)  # as in a file that somebody edited
    assert (await cloud.call(api, **params)).items() >= usual.items()


async def test_a_snapshot_is_taken_whatever_the_tag_for_the_length_of_its_chain_says(cloud):
    for text in NO_NUMBERS:
        cloud.cloud.add("SystemTag", resourceUuid=named("volume-db-data-1"), resourceType="VolumeVO", tag=f"volumeMaxIncrementalSnapshotNum::{text}")
    await cloud.create("CreateVolumeSnapshot", name="s", volumeUuid=named("volume-db-data-1"))


PENDING = ("cpuNum::x::cpuSpeed::y::memory::z", "cpuNum::٣::cpuSpeed::1::memory::²", f"cpuNum::{'9' * 5000}::cpuSpeed::0::memory::-5", "cpuNum::1", "", "cpuNum::::cpuSpeed::::memory::")


@pytest.mark.parametrize("unit", "\u212a\uff2b")  # the Kelvin sign, which is a K to a regex that ignores case; a full-width K
async def test_a_unit_that_only_looks_like_a_k_is_none(cloud, unit):
    await cloud.create("CreateSystemTag", resourceType="HostVO", resourceUuid=named("host-2"), tag=f"reservedMemory::1{unit}")
    assert (await cloud.call("GetCpuMemoryCapacity", all=True))["availableMemory"] > 0
    with pytest.raises(RuntimeError, match="only allows a size string"):
        await cloud.call("UpdateGlobalConfig", category="kvm", name="reservedMemory", value=f"1{unit}")


async def test_sharing_with_no_account_in_particular_is_sharing_with_all(cloud):
    await cloud.call("ShareResource", resourceUuids=[named("image-centos7")], accountUuids=[], toPublic=True)
    assert [share["toPublic"] for share in await cloud.query("accounts/resources", f"resourceUuid={named('image-centos7')}")] == [True]
