"""Global configurations: what they are, what they may be, and what a change brings about."""

import json

import aiohttp
import pytest
from asking import each

from zmock import SettingsError, catalogue, configured, named, serve

ALL = catalogue().configurations
CHANGED = "host/cpu.overProvisioning.ratio"


async def found(mock, name):
    category, _, name = name.partition("/")
    (inventory,) = await mock.query("global-configurations", f"category={category}", f"name={name}")
    return inventory


async def configure(mock, name, value):
    category, _, name = name.partition("/")
    return (await mock.call("UpdateGlobalConfig", category=category, name=name, value=value))["inventory"]


async def test_each_of_the_157_is_found_with_its_default(cloud):
    inventories = await cloud.query("global-configurations")
    assert len(inventories) == 157 == len(ALL)
    for inventory in inventories:
        row = ALL[f"{inventory['category']}/{inventory['name']}"]
        assert inventory.get("defaultValue") == inventory.get("value") == row.default
        assert inventory["description"] == row.description != ""
        assert inventory.keys() <= {"category", "name", "description", "defaultValue", "value"}


@each("row", ALL.values(), ids=ALL)
def test_each_default_is_valid(row):
    assert row.fault(row.default) == ""


async def test_they_are_asked_for_as_any_resource(cloud):
    _, body = await cloud.request("GET", "/global-configurations?q=category=quota&q=name~=vm.%25&sort=-name&fields=name")
    assert [row["name"] for row in body["inventories"]] == ["vm.totalNum", "vm.num", "vm.memorySize", "vm.cpuNum"]
    _, body = await cloud.request("GET", "/global-configurations?q=category=quota&count=true")
    assert body == {"total": 17}


async def test_a_change_is_found_and_its_default_stays(cloud):
    answered = await configure(cloud, CHANGED, "20")
    assert (answered["value"], answered["defaultValue"]) == ("20", "10")
    assert await found(cloud, CHANGED) == answered
    assert await cloud.query("global-configurations", "value=20", "category=host") == [answered]
    await cloud.reset()
    await cloud.login()
    assert (await found(cloud, CHANGED))["value"] == "10"


@pytest.mark.parametrize(("name", "hint"), (("host/ratio", "no global configuration host/ratio"), ("hosts/load.all", "did you mean host/load.all?"),
                                            ("vm/expungePerod", "did you mean vm/expungePeriod?")))  # fmt: skip
async def test_one_that_is_not_there_is_refused_and_the_nearest_named_where_the_job_is_polled(cloud, name, hint):
    category, _, short = name.partition("/")
    _, answer = await cloud.request("PUT", f"/global-configurations/{name}/actions", {"updateGlobalConfig": {"value": "1"}})
    async with aiohttp.ClientSession() as http, http.get(cloud.base + answer["location"][answer["location"].index("/zstack") :]) as polled:
        told = (await polled.json())["error"]["details"]
        assert (polled.status, told) == (503, f"Unable to find GlobalConfig[category: {category}, name: {short}]")
        assert polled.headers["X-ZMock-Hint"].endswith(hint)


async def test_what_was_changed_survives_a_restart_and_the_rest_is_not_kept(tmp_path):
    settings = {"memory": False, "data": str(tmp_path), "cloud": "demo"}
    async with serve(**settings) as mock:
        await mock.login()
        await configure(mock, CHANGED, "20")
        await configure(mock, CHANGED, "30")
    assert [item["value"] for item in json.loads((tmp_path / "GlobalConfig.json").read_text())["_default"].values()] == ["30"]
    async with serve(**settings) as mock:
        await mock.login()
        assert (await found(mock, CHANGED))["value"] == "30"
        assert len(await mock.query("global-configurations")) == 157


@pytest.mark.parametrize("wrong", ('"lots"', "20", "null"))
async def test_an_edited_value_that_may_not_be_counts_as_the_default(tmp_path, wrong):
    settings = {"memory": False, "data": str(tmp_path), "cloud": "empty"}
    async with serve(**settings) as mock:
        await mock.login()
        await configure(mock, CHANGED, "20")
    file = tmp_path / "GlobalConfig.json"
    file.write_text(file.read_text().replace('"20"', wrong))
    async with serve(**settings) as mock:
        assert configured(mock.cloud, "host", "cpu.overProvisioning.ratio") == 10
        assert [line for line in mock.cloud.store.reports if CHANGED in line]


async def test_a_cloud_from_a_file_may_say_some(tmp_path):
    file = tmp_path / "cloud.json"
    file.write_text(json.dumps({"global-configurations": [{"category": "host", "name": "cpu.overProvisioning.ratio", "value": "5"}]}))
    async with serve(cloud=str(file)) as mock:
        assert configured(mock.cloud, "host", "cpu.overProvisioning.ratio") == 5


@pytest.mark.parametrize(("item", "why"), (({"category": "host", "name": "x", "value": "5"}, "Unable to find"), ({"name": "x"}, "all texts"), ("x", "all texts"),
                                           ({"category": "host", "name": "load.all", "value": "5"}, "is not a valid boolean string")))  # fmt: skip
async def test_and_is_refused_where_it_says_wrong_ones(tmp_path, item, why):
    file = tmp_path / "cloud.json"
    file.write_text(json.dumps({"global-configurations": [item]}))
    with pytest.raises(SettingsError, match=why):
        async with serve(cloud=str(file)):
            pass


# what acts


class TestSessions:
    async def test_a_user_has_no_more_sessions_than_it_is_said(self, cloud):
        await configure(cloud, "identity/session.maxConcurrent", "2")
        await cloud.login()
        with pytest.raises(RuntimeError, match="max allowed: 2"):
            await cloud.login()


class TestHosts:
    async def test_cpus_are_given_away_as_often_as_it_is_said(self, cloud):
        before = (await cloud.query("hosts", "name=host-1"))[0]
        await configure(cloud, CHANGED, "4")
        after = (await cloud.query("hosts", "name=host-1"))[0]
        assert after["totalCpuCapacity"] == after["cpuNum"] * 4
        assert before["totalCpuCapacity"] - before["availableCpuCapacity"] == after["totalCpuCapacity"] - after["availableCpuCapacity"]

    async def test_a_new_host_too(self, cloud):
        await configure(cloud, CHANGED, "4")
        host = await cloud.create("AddKVMHost", name="h", managementIp="10.1.1.1", username="root", password="p", clusterUuid=named("cluster-1"))
        assert host["totalCpuCapacity"] == host["cpuNum"] * 4

    async def test_hosts_reserve_memory(self, cloud):
        before = await cloud.call("GetCpuMemoryCapacity", hostUuids=[named("host-2")])
        await configure(cloud, "kvm/reservedMemory", "5G")
        after = await cloud.call("GetCpuMemoryCapacity", hostUuids=[named("host-2")])
        assert before["availableMemory"] - after["availableMemory"] == 4 << 30

    @pytest.mark.parametrize(("level", "vo", "uuid"), (("cluster", "ClusterVO", "cluster-1"), ("zone", "ZoneVO", "zone-1")))
    async def test_what_a_cluster_or_a_zone_reserves_counts_as_long_as_it_is_heeded(self, cloud, level, vo, uuid):
        before = await cloud.call("GetCpuMemoryCapacity", hostUuids=[named("host-2")])
        await cloud.create("CreateSystemTag", resourceType=vo, resourceUuid=named(uuid), tag="host::reservedMemory::3G")
        after = await cloud.call("GetCpuMemoryCapacity", hostUuids=[named("host-2")])
        assert before["availableMemory"] - after["availableMemory"] == 2 << 30
        await configure(cloud, f"hostAllocator/reservedCapacity.{level}Level", "false")
        assert await cloud.call("GetCpuMemoryCapacity", hostUuids=[named("host-2")]) == before

    async def test_the_heart_beats(self, cloud):
        await configure(cloud, "managementServer/node.heartbeatInterval", "3600")
        beat = (await cloud.query("management-nodes"))[0]["heartBeat"]
        await cloud.advance(5)
        assert (await cloud.query("management-nodes"))[0]["heartBeat"] == beat


async def vm_deleted(mock):
    await mock.delete("vm-instances", named("vm-web-1"))
    return "vm-instances", named("vm-web-1"), "state=Destroyed"


async def volume_deleted(mock):
    await mock.delete("volumes", named("volume-spare"))
    return "volumes", named("volume-spare"), "status=Deleted"


async def image_deleted(mock):
    await mock.delete("images", named("image-debian9"))
    return "images", named("image-debian9"), "status=Deleted"


DELETED = {"vm": vm_deleted, "volume": volume_deleted, "image": image_deleted}


@pytest.mark.parametrize("category", DELETED)
class TestExpunging:
    async def is_there(self, mock, collection, uuid, deleted):
        await mock.login()
        return bool(await mock.query(collection, f"uuid={uuid}", deleted))

    async def test_direct_is_at_once(self, cloud, category):
        await configure(cloud, f"{category}/deletionPolicy", "Direct")
        collection, uuid, _ = await DELETED[category](cloud)
        assert await cloud.query(collection, f"uuid={uuid}") == []

    async def test_never_is_never(self, cloud, category):
        await configure(cloud, f"{category}/deletionPolicy", "Never")
        thing = await DELETED[category](cloud)
        await cloud.advance(30 * 86400)
        assert await self.is_there(cloud, *thing)

    async def test_delay_is_after_the_period(self, cloud, category):
        await configure(cloud, f"{category}/expungePeriod", "600")
        thing = await DELETED[category](cloud)
        await cloud.advance(590)
        assert await self.is_there(cloud, *thing)
        await cloud.advance(20)
        assert not await self.is_there(cloud, *thing)

    @pytest.mark.parametrize(("period", "gone_after"), (("600", 610), ("864000", 864010)))
    async def test_what_waits_waits_shorter_or_longer_when_the_period_changes(self, cloud, category, period, gone_after):
        thing = await DELETED[category](cloud)
        await configure(cloud, f"{category}/expungePeriod", period)
        await cloud.advance(gone_after - 20)
        assert await self.is_there(cloud, *thing)
        await cloud.advance(20)
        assert not await self.is_there(cloud, *thing)

    async def test_however_often_the_period_changes_one_timer_waits(self, cloud, category):
        _, uuid, _ = await DELETED[category](cloud)
        for period in ("600", "700", "500"):
            await configure(cloud, f"{category}/expungePeriod", period)
        assert len([timer for timer in cloud.clock.timers if timer.fire and uuid in timer.name]) == 1

    async def test_what_waits_stays_when_it_is_never_and_goes_when_it_is_not(self, cloud, category):
        thing = await DELETED[category](cloud)
        await configure(cloud, f"{category}/deletionPolicy", "Never")
        await cloud.advance(100_000)
        assert await self.is_there(cloud, *thing)
        await configure(cloud, f"{category}/deletionPolicy", "Delay")
        await cloud.advance(0)
        assert not await self.is_there(cloud, *thing)


async def test_primary_storage_keeps_what_it_reserves(cloud):
    (storage,) = await cloud.query("primary-storage", "name=ps-nfs")
    await configure(cloud, "primaryStorage/reservedCapacity", str(storage["availableCapacity"] - (50 << 30)))
    with pytest.raises(RuntimeError, match="SYS.1006"):
        await cloud.create("CreateDataVolume", name="v", diskOfferingUuid=named("disk-100g"), primaryStorageUuid=storage["uuid"])
    assert await cloud.create("CreateDataVolume", name="v", diskOfferingUuid=named("disk-20g"), primaryStorageUuid=storage["uuid"])


async def test_a_vm_has_no_more_data_volumes_than_it_is_said(cloud):
    await configure(cloud, "kvm/dataVolume.maxNum", "1")
    with pytest.raises(RuntimeError, match="only allows max 1 data volumes"):
        await cloud.create("AttachDataVolumeToVm", volumeUuid=named("volume-spare"), vmInstanceUuid=named("vm-db-1"))


@pytest.mark.parametrize(("period", "found_later"), (("10800", 200), ("60", 404)))
async def test_api_jobs_are_kept_as_long_as_it_is_said_where_the_server_is_followed(period, found_later):
    async with serve(dialect="server") as mock:
        await mock.login()
        await configure(mock, "rest/completedApi.expiredPeriod", period)
        await configure(mock, "rest/expiredApi.scanInterval", "60")
        status, body = await mock.request("POST", "/zones", {"params": {"name": "z"}})
        await mock.advance(120)
        assert (status, (await mock.request("GET", body["location"].partition("/v1")[2]))[0]) == (202, found_later)


@pytest.mark.parametrize(("said", "status"), (("false", "Ready"), ("true", "Deleted")))
async def test_data_volumes_are_deleted_with_their_vm_when_it_is_said(cloud, said, status):
    await configure(cloud, "vm/dataVolume.deleteOnVmDestroy", said)
    await cloud.delete("vm-instances", named("vm-db-1"))
    (volume,) = await cloud.query("volumes", "name=db-data-1")
    assert (volume["status"], volume.get("vmInstanceUuid")) == (status, None)
    await cloud.advance(86500)
    await cloud.login()
    assert bool(await cloud.query("volumes", "name=db-data-1")) == (said == "false")


async def test_a_chain_of_snapshots_is_no_longer_than_it_is_said(cloud):
    await configure(cloud, "volumeSnapshot/incrementalSnapshot.maxNum", "2")
    snapshot = await cloud.create("CreateVolumeSnapshot", name="third", volumeUuid=named("volume-db-data-1"))
    assert "parentUuid" not in snapshot


async def test_a_new_listener_is_tagged_with_what_is_configured_unless_it_says_otherwise(cloud):
    await configure(cloud, "loadBalancer/maxConnection", "99")
    vip = await cloud.create("CreateVip", name="v", l3NetworkUuid=named("l3-public"))
    balancer = await cloud.create("CreateLoadBalancer", name="lb", vipUuid=vip["uuid"])
    listener = await cloud.create("CreateLoadBalancerListener", name="l", loadBalancerUuid=balancer["uuid"], loadBalancerPort=80, systemTags=["balancerAlgorithm::source"])
    tags = {tag["tag"] for tag in await cloud.query("system-tags", f"resourceUuid={listener['uuid']}")}
    assert {"maxConnection::99", "balancerAlgorithm::source", "connectionIdleTimeout::60"} <= tags and len(tags) == 8


async def test_a_long_job_takes_no_longer_than_it_is_said(zmock):
    async with serve(long_delay="20000") as mock:
        await mock.login()
        await configure(mock, "longJob/longJob.api.timeout", "10800")
        job = await mock.create("SubmitLongJob", jobName="APIMigrateVmMsg", jobData=json.dumps({"vmInstanceUuid": named("vm-db-2")}))
        await mock.advance(10799)
        await mock.login()
        assert (await mock.query("longjobs", f"uuid={job['uuid']}"))[0]["state"] == "Running"
        await mock.advance(1)
        (job,) = await mock.query("longjobs", f"uuid={job['uuid']}")
        assert job["state"] == "Failed" and "APIMigrateVmMsg, id: " in job["jobResult"] and "timeout after 10800 seconds" in job["jobResult"]
        assert (await mock.query("vm-instances", f"uuid={named('vm-db-2')}"))[0]["state"] == "Running"


