"""The server's database compares uuids without case: whatever spelling a client or a file uses, zmock finds what is meant and keeps one spelling."""

import json
import re

import pytest
from asking import ask_control, each, failure, one, outcome, submit
from test_every_api import SIMULATED, Drive
from test_state import differences

from zmock import ADMIN, Cloud, named, open_session, serve

NAMED = re.compile("[uU]uids?$|managementNodeId$")
NEW = {("ChangeVmImage", "resourceUuid")}  # uuids of what the call makes: the server wants those in lower case
ENDS = {"resourceUuid": "Zone", "accountUuid": "Account", "backupStorageUuids": "BackupStorage", "zoneUuid": "Zone", "clusterUuid": "Cluster",
        "defaultL3NetworkUuid": "L3Network", "isoUuid": "Image", "agentUuids": "ConsoleProxyAgent", "resourceUuids": "Image", "managementNodeId": "ManagementNode",
        "sessionUuid": "Session", "uuids": "Notification"}  # fmt: skip


def uuid_parameters(api):
    return [param for param in api.params.values() if (param.refers or NAMED.search(param.name)) and (api.name, param.name) not in NEW]


def capitals(value):
    """The same with each uuid in it in capital letters."""
    if isinstance(value, dict):
        return {capitals(key): capitals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [capitals(inner) for inner in value]
    if not isinstance(value, str) or value[:1] == "{":  # the data of a long job is a text, and stays as it is
        return value
    return re.sub(r"\b[0-9a-f]{32}\b", lambda uuid: uuid[0].upper(), value)


class Beside(Drive):
    """Makes the same call in two spellings, each on a cloud that is as at the start."""

    async def given(self, api, besides=None):
        said = await self.params(api)
        if besides and besides.name not in said:
            end = besides.refers or ENDS.get(besides.name)
            uuid = end and await self.one(end)
            said |= {besides.name: [uuid] if besides.type == "list" else uuid} if uuid else {}
        return said

    async def outcome(self, api, besides, spell):
        """What a call answers, and what there is then."""
        await self.mock.reset()
        self.mock.clock.jump(self.mock.rest.start.date)
        self.mock.session = open_session(self.mock.cloud, ADMIN, ADMIN)["inventory"]["uuid"]
        await self.prepare(api)
        given = spell(await self.given(api, besides))
        try:
            body = await self.mock.call(api.name, **given)
        except RuntimeError as error:
            body = str(error)
        return body, {type: items for type, items in self.store.documents().items() if type != "Job"}


def cases(api):
    """None for a call with what it needs, and each uuid that it may be given besides."""
    needed = [param for param in uuid_parameters(api) if param.required or f"{{{param.name}}}" in api.path]
    return [None] * bool(needed) + [param for param in uuid_parameters(api) if param not in needed]


@pytest.mark.parametrize("step", (4, pytest.param(1, marks=pytest.mark.slow)), ids=("a quarter", "all"))
async def test_a_call_in_capitals_does_and_answers_the_same(step, monkeypatch):
    monkeypatch.setattr(Cloud, "let_draw", lambda cloud, call: None)  # new uuids follow from the spelling of a call, too
    wrong, tried = {}, 0
    async with serve() as mock:
        beside = Beside(mock)
        for api, besides in [(each, param) for each in SIMULATED.values() for param in cases(each)][::step]:
            plain, other = [await beside.outcome(api, besides, spell) for spell in (dict, capitals)]
            tried += 1
            if plain != other:
                wrong[f"{api.name} {besides.name if besides else ''}"] = (plain[0], other[0]) if plain[0] != other[0] else differences(plain[1], other[1])
    assert wrong == {} and tried > 300 / step


# stories


ZONE, CLUSTER_1, CLUSTER_2, HOST_1, HOST_3, PRIVATE, WEB, CI, CENTOS, SMALL, SPARE, NFS, GROUP = (named(name) for name in (
    "zone-1", "cluster-1", "cluster-2", "host-1", "host-3", "l3-private", "vm-web-1", "vm-ci-1", "image-centos7", "offering-small", "volume-spare", "ps-nfs", "group-db"))  # fmt: skip
VM = {"name": "n", "imageUuid": CENTOS, "instanceOfferingUuid": SMALL, "l3NetworkUuids": [PRIVATE]}
slow = pytest.mark.zmock(delay="10")


async def test_a_network_that_was_attached_by_a_cluster_in_capitals_is_reached_there(cloud):
    l2 = await cloud.create("CreateL2NoVlanNetwork", name="l2", zoneUuid=ZONE.upper(), physicalInterface="eth9")
    attached = await cloud.create("AttachL2NetworkToCluster", l2NetworkUuid=l2["uuid"].upper(), clusterUuid=CLUSTER_1.upper())
    assert attached["attachedClusterUuids"] == [CLUSTER_1]
    l3 = await cloud.create("CreateL3Network", name="l3", l2NetworkUuid=l2["uuid"])
    await cloud.call("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3["uuid"], networkCidr="10.77.0.0/24")
    vm = await cloud.create("CreateVmInstance", **VM | {"l3NetworkUuids": [l3["uuid"]]})
    assert (vm["state"], vm["clusterUuid"]) == ("Running", CLUSTER_1)


async def test_the_console_of_a_virtual_machine_is_found_in_capitals(cloud):
    plain = await cloud.call("GetVmConsoleAddress", uuid=WEB)
    assert await cloud.call("GetVmConsoleAddress", uuid=WEB.upper()) == plain


@pytest.mark.parametrize("path", (
    f"/vm-instances/{WEB.upper()}", f"/vm-instances?q=uuid={WEB.upper()}", f"/vm-instances?q=hostUuid={HOST_1.upper()}&q=name=web-1",
    f"/vm-instances?q=vmNics.l3NetworkUuid={PRIVATE.upper()}&q=name=web-1", f"/vm-instances?q=uuid?={WEB.upper()},x",
))  # fmt: skip
async def test_queries_find_a_uuid_in_capitals(cloud, path):
    assert [vm["uuid"] for vm in (await cloud.request("GET", path))[1]["inventories"]] == [WEB]


async def test_system_tags_name_others_in_capitals(cloud):
    tags = [f"staticIp::{PRIVATE.upper()}::192.168.100.77", f"affinityGroupUuid::{GROUP.upper()}", "hostname::Web-9"]
    status, answer = await cloud.request("POST", "/vm-instances", {"params": VM, "systemTags": tags})
    await cloud.advance(0)
    vm = (await cloud.request("GET", "/api-jobs/" + answer["location"][-32:]))[1]["inventory"]
    assert vm["vmNics"][0]["ip"] == "192.168.100.77"
    assert {tag["tag"] for tag in await cloud.query("system-tags", f"resourceUuid={vm['uuid']}")} == {
        f"staticIp::{PRIVATE}::192.168.100.77", f"affinityGroupUuid::{GROUP}", "hostname::Web-9"}  # fmt: skip
    assert (await one(cloud, "affinity-groups", "name=db"))["usages"][-1]["resourceUuid"] == vm["uuid"]


@pytest.mark.parametrize(("type", "uuid", "tag"), [
    ("VmInstanceVO", CI, f"staticIp::{PRIVATE}::192.168.100.77"), ("VmInstanceVO", CI, f"customMac::{PRIVATE}::fa:00:00:00:00:01"),
    ("VmInstanceVO", CI, f"iso::{CENTOS}::0"), ("VmInstanceVO", CI, f"primaryStorageUuidForDataVolume::{NFS}"),
    ("VmInstanceVO", CI, f"virtio::diskOffering::{named('disk-20g')}::num::1"), ("InstanceOfferingVO", SMALL, f"guestL3Network::{PRIVATE}"),
    ("InstanceOfferingVO", SMALL, f"primaryStorage::allocator::uuid::{NFS}"), ("VolumeVO", SPARE, f"localStorage::hostUuid::{HOST_3}"),
    ("L2NetworkVO", named("l2-public"), f"l2NetworkUuid::{named('l2-public')}::clusterUuid::{CLUSTER_1}::cidr::10.0.0.0/8"),
    ("ImageVO", CENTOS, f"imageName::Zone-1::primaryStorageUuid::{NFS}"), ("L3NetworkVO", PRIVATE, f"l3NetworkUuid::{PRIVATE}::mtu::1500"),
    ("VmInstanceVO", CI, "consolePassword::NONE"),
])  # fmt: skip
async def test_a_tag_in_capitals_is_kept_as_the_other_spells_its_uuid(cloud, type, uuid, tag):
    given = {"resourceType": type, "resourceUuid": uuid.upper(), "tag": capitals(tag)}
    made = await cloud.create("CreateSystemTag", **given)
    assert (made["resourceUuid"], made["tag"]) == (uuid, tag)
    again = await cloud.create("UpdateSystemTag", uuid=made["uuid"].upper(), tag=capitals(tag))
    assert again["tag"] == tag


async def test_a_long_job_and_a_scheduled_one_work_on_what_they_name_in_capitals(cloud):
    host = (await one(cloud, "vm-instances", "name=web-1"))["hostUuid"]
    data = json.dumps({"vmInstanceUuid": WEB.upper(), "hostUuid": None})
    job = await cloud.create("SubmitLongJob", jobName="APIMigrateVmMsg", jobData=data, targetResourceUuid=WEB.upper())
    assert (job["targetResourceUuid"], json.loads(job["jobData"])["vmInstanceUuid"]) == (WEB, WEB), "it shows the call as it was read"
    await cloud.advance(60)
    assert (await one(cloud, "vm-instances", "name=web-1"))["hostUuid"] != host
    scheduled = await cloud.create("CreateSchedulerJob", name="j", type="stopVm", targetResourceUuid=WEB.upper())
    trigger = await cloud.create("CreateSchedulerTrigger", name="t", schedulerType="simple", startTime=0, repeatCount=1, schedulerInterval=60)
    await cloud.call("AddSchedulerJobToSchedulerTrigger", schedulerJobUuid=scheduled["uuid"].upper(), schedulerTriggerUuid=trigger["uuid"].upper())
    await cloud.advance(120)
    assert (await one(cloud, "vm-instances", "name=web-1"))["state"] == "Stopped"


@slow
async def test_a_call_in_capitals_waits_for_what_makes_its_object(cloud):
    wanted = "0123456789ab4def8123456789abcdef"
    await submit(cloud, "POST", "/vm-instances", {"params": VM | {"resourceUuid": wanted}})
    stopping = await submit(cloud, "PUT", f"/vm-instances/{wanted.upper()}/actions", {"stopVmInstance": {}})
    await cloud.advance(15)
    assert (await cloud.request("GET", f"/api-jobs/{stopping}"))[0] == 202, "it stands in line"
    await cloud.advance(15)
    status, body = await cloud.request("GET", f"/api-jobs/{stopping}")
    assert (status, body["inventory"]["uuid"], body["inventory"]["state"]) == (200, wanted, "Stopped")


async def test_what_is_not_there_is_quoted_as_it_was_written(cloud):
    assert f"uuid:{'A' * 32}" in await failure(cloud, "StartVmInstance", uuid="A" * 32)


async def test_a_name_that_looks_like_a_uuid_is_a_name(cloud):
    assert (await cloud.create("UpdateZone", uuid=ZONE, name=CLUSTER_1.upper(), description=ZONE.upper()))["name"] == CLUSTER_1.upper()


# jobs, incidents


@slow
@pytest.mark.zmock(dialect="server")
async def test_a_job_is_polled_and_ended_in_any_case(cloud):
    mine = "ABCDEFAB" * 4
    status, _ = await cloud.request("POST", "/zones", {"params": {"name": "z"}}, {"X-Job-UUID": mine})
    assert (status, (await cloud.request("GET", f"/api-jobs/{mine.lower()}"))[0]) == (202, 202)
    assert (await ask_control(cloud, "POST", f"jobs/{mine.lower()}", {"do": "finish"}))["state"] == "succeeded"
    assert (await cloud.request("GET", f"/api-jobs/{mine.lower()}"))[0] == 200


@slow
async def test_the_progress_of_a_job_is_found_in_any_case(cloud):
    job = await submit(cloud, "PUT", f"/vm-instances/{CI}/actions", {"startVmInstance": {}})
    cloud.cloud.store.update("Job", job, uuid=job.upper())
    cloud.cloud.jobs.progress[job.upper()] = cloud.cloud.jobs.progress.pop(job)
    assert (await cloud.request("GET", f"/task-progresses/{job}"))[1]["inventories"]


@pytest.mark.parametrize("incident", ({"host-down": HOST_1.upper()}, {"network-partition": [CLUSTER_1.upper()]}, {"network-partition": [HOST_1.upper(), ZONE.upper()]}))
async def test_an_incident_is_about_a_uuid_in_any_case(cloud, incident):
    await cloud.incident(incident)
    assert (await one(cloud, "hosts", "name=host-1"))["status"] == "Disconnected"


async def test_a_rule_about_a_uuid_meets_calls_in_any_case(cloud):
    cloud.rule(api="MigrateVm", when={"params.hostUuid": HOST_3}, then={"error": "SYS.1006", "details": "by the rule"})
    assert "by the rule" in await failure(cloud, "MigrateVm", vmInstanceUuid=WEB, hostUuid=HOST_3.upper())
    assert cloud.calls("MigrateVm")[-1].params["hostUuid"] == HOST_3.upper(), "the journal says what was written"


@pytest.mark.parametrize("body", ({"resourceUuid": 1}, {"resourceUuid": ["a"]}, {"tag": {"a": "b"}}, {"resourceUuid": {"a": {"uuid": None}}}, {"tag": None}))
async def test_what_is_no_uuid_is_refused_as_before(cloud, body):
    given = {"resourceType": "ZoneVO", "resourceUuid": ZONE, "tag": "host::reservedCpu::1"} | body
    _, answer = await outcome(cloud, "POST", "/system-tags", {"params": given})
    assert answer["error"]["code"] in ("SYS.1007", 400)


# files


FILE = {
    "zones": [{"name": "z", "uuid": "Zone-A"}], "clusters": [{"name": "c", "uuid": "ab" * 16, "zoneUuid": "zone-a", "hypervisorType": "KVM"}],
    "l2-networks": [{"name": "l2", "uuid": "l2", "zoneUuid": "ZONE-A", "physicalInterface": "eth0", "attachedClusterUuids": ["AB" * 16]}],
    "system-tags": [{"resourceUuid": "AB" * 16, "resourceType": "ClusterVO", "tag": "host::reservedMemory::1G"}],
    "instance-offerings": [{"name": "o", "uuid": "o", "cpuNum": 1, "memorySize": 1}],
    "l3-networks": [{"name": "l3", "uuid": "l3", "zoneUuid": "ZONE-A", "l2NetworkUuid": "L2", "networkServices": [
        {"l3NetworkUuid": "L3", "networkServiceProviderUuid": named("provider-Flat").upper(), "networkServiceType": "DHCP"}]}],
}  # fmt: skip


CHANGE_IMAGE = {"vmInstanceUuid": named("vm-ci-1"), "imageUuid": named("image-centos7")}
NAMERS = [("CreateZone", {"name": "z"}), ("UpdateClusterOS", {"uuid": named("cluster-1")}), ("ChangeVmImage", CHANGE_IMAGE)]


@each("api, params", NAMERS)
async def test_whatever_makes_an_object_takes_a_new_uuid_for_it_and_no_other(cloud, api, params):
    with pytest.raises(RuntimeError, match="SYS.1007: resourceUuid.@zone-1. is not a valid uuid"):
        await cloud.call(api, **params, resourceUuid="@zone-1")
    with pytest.raises(RuntimeError, match="SYS.1000: .*Duplicate entry"):
        await cloud.call(api, **params, resourceUuid=named("zone-1"))
    await cloud.call(api, **params, resourceUuid="")
    await cloud.reset()
    await cloud.login()
    await cloud.call(api, **params, resourceUuid=named("new"))
    assert cloud.cloud.exists("Resource", named("new"))


async def test_a_cloud_file_may_name_others_in_any_case(tmp_path):
    path = tmp_path / "cloud.json"
    path.write_text(json.dumps(FILE))
    async with serve(cloud=str(path)) as mock:
        assert (await one(mock, "clusters", "name=c"))["zoneUuid"] == "Zone-A"
        l2, l3 = await one(mock, "l2-networks", "name=l2"), await one(mock, "l3-networks", "name=l3")
        assert (l2["zoneUuid"], l2["attachedClusterUuids"], l3["zoneUuid"]) == ("Zone-A", ["ab" * 16], "Zone-A")
        assert l3["networkServices"][0]["networkServiceProviderUuid"] == named("provider-Flat") and l3["networkServices"][0]["l3NetworkUuid"] == "l3"
        assert (await one(mock, "system-tags", "tag~=host%"))["resourceUuid"] == "ab" * 16
        await mock.call("DeleteCluster", uuid="AB" * 16)
        assert (await one(mock, "l2-networks", "name=l2"))["attachedClusterUuids"] == []


def in_capitals(path, uuid):
    """Somebody edits a file: each mention of a uuid, but for the object's own, is in capitals now."""
    path.write_text(re.sub(rf'(?<!"uuid":"){uuid}', uuid.upper(), path.read_text()))


async def test_a_kept_cloud_that_was_edited_names_others_as_they_spell_themselves(tmp_path):
    async with serve(memory=False, data=str(tmp_path / "cloud")) as mock:
        await mock.login()
    in_capitals(tmp_path / "cloud" / "Host.json", CLUSTER_1)
    in_capitals(tmp_path / "cloud" / "PrimaryStorage.json", CLUSTER_1)
    async with serve(memory=False, data=str(tmp_path / "cloud")) as mock:
        assert {host["clusterUuid"] for host in mock.cloud.store.rows("Host")} == {CLUSTER_1, CLUSTER_2}
        assert CLUSTER_1 in (await one(mock, "primary-storage", "name=ps-nfs"))["attachedClusterUuids"]
        assert (await mock.create("CreateVmInstance", **VM | {"clusterUuid": CLUSTER_1}))["state"] == "Running"


async def test_a_snapshot_that_was_edited_names_others_as_they_spell_themselves(tmp_path):
    async with serve(memory=False, data=str(tmp_path / "cloud")) as mock:
        await ask_control(mock, "PUT", "snapshots/s")
        in_capitals(tmp_path / "snapshots" / "s" / "Host.json", CLUSTER_1)
        await ask_control(mock, "POST", "snapshots/s/restore")
        assert {host["clusterUuid"] for host in mock.cloud.store.rows("Host")} == {CLUSTER_1, CLUSTER_2}


# what is new


async def ids_of(names, **settings):
    """The uuids of zones that are made in this order, and of their jobs."""
    async with serve(**settings) as mock:
        await mock.login()
        submitted = [await mock.request("POST", "/zones", {"params": {"name": name}}) for name in names]
        await mock.advance(5)
        jobs = [answer["location"][-32:] for _, answer in submitted]
        made = [(await mock.request("GET", f"/api-jobs/{job}"))[1]["inventory"]["uuid"] for job in jobs]
        return sorted(zip(names, jobs, made))


async def test_new_uuids_follow_from_the_seed_and_the_call_and_not_from_the_order_of_arrival():
    first = await ids_of("aabcd")
    assert len({uuid for row in first for uuid in row[1:]}) == 10
    assert await ids_of("dcbaa") == await ids_of("aabcd", delay="0-2") == first
    assert not {uuid for row in first for uuid in row[1:]} & {uuid for row in await ids_of("aabcd", seed=2) for uuid in row[1:]}


async def test_a_resumed_cloud_makes_new_uuids(tmp_path):
    first = await ids_of("ab", data=str(tmp_path / "cloud"), cloud="empty")
    second = await ids_of("ab", data=str(tmp_path / "cloud"))
    assert not {uuid for row in first for uuid in row[1:]} & {uuid for row in second for uuid in row[1:]}
