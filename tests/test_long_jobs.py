"""Long jobs: each kind does what it is called, goes on after its api-job, and can be looked at, canceled and deleted."""

import itertools
import json

import aiohttp
import pytest
from asking import ask_control, one, submit

from zmock import named, serve

NODE = named("management-node")
IMAGE = {"name": "i", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}


CENTOS, VOLUME = named("image-centos7"), named("volume-db-data-1")
LONG_JOBS = (
    ("MigrateVm", {"vmInstanceUuid": named("vm-web-1"), "hostUuid": named("host-2")}, "vm-instances", "name=web-1",
        "hostUuid", named("host-2")),
    ("AddImage", IMAGE, "images", "name=i", "status", "Ready"),
    ("CreateDataVolumeTemplateFromVolume", {"volumeUuid": VOLUME, "name": "t"}, "images", "name=t", "mediaType", "DataVolumeTemplate"),
    ("CreateRootVolumeTemplateFromRootVolume", {"rootVolumeUuid": "ROOT-for-ci-1", "name": "t"}, "images", "name=t",
        "mediaType", "RootVolumeTemplate"),
    ("DeleteVolumeSnapshot", {"uuid": named("snapshot-2")}, "volume-snapshots", "", "name", "before-upgrade-1"),
    ("RevertVolumeFromSnapshot", {"uuid": named("snapshot-1")}, "volume-snapshots", "latest=true", "name", "before-upgrade-1"),
    ("UpdateClusterOS", {"uuid": named("cluster-2")}, "hosts", "name=host-3", "state", "Enabled"),
    ("PrimaryStorageMigrateVolume", {"volumeUuid": VOLUME, "dstPrimaryStorageUuid": named("ps-local")}, "volumes", "name=db-data-1",
        "primaryStorageUuid", named("ps-local")),
    ("PrimaryStorageMigrateVm", {"vmInstanceUuid": named("vm-ci-1"), "dstPrimaryStorageUuid": named("ps-local")}, "volumes",
        "name=ROOT-for-ci-1", "primaryStorageUuid", named("ps-local")),
    ("BackupStorageMigrateImage", {"imageUuid": CENTOS, "srcBackupStorageUuid": named("bs-1"), "dstBackupStorageUuid": named("bs-2")},
        "images", "backupStorage.name=bs-2", "uuid", CENTOS),
)  # fmt: skip
SECOND_BACKUP = {"name": "bs-2", "url": "/b", "hostname": "h", "username": "r", "password": "p", "resourceUuid": named("bs-2")}


@pytest.mark.zmock(long_delay="100")
@pytest.mark.parametrize(("action", "state", "image"), (("finish", "succeeded", ["Ready"]), ("fail", "failed", [])))
async def test_a_long_job_is_ended_by_hand(cloud, action, state, image):
    job = await cloud.create("SubmitLongJob", jobName="APIAddImageMsg", jobData=json.dumps(IMAGE))
    await cloud.advance(40)
    shown = await ask_control(cloud, "GET", f"jobs/{job['uuid']}")
    row = {"uuid": job["uuid"], "name": "APIAddImageMsg", "jobName": "APIAddImageMsg", "state": "running", "progress": 0.4, "resourceUuid": None}
    assert shown == row and row in (await ask_control(cloud, "GET", "jobs?state=running&api=APIAdd*"))["longJobs"]
    ended = await ask_control(cloud, "POST", f"jobs/{job['uuid']}", {"do": action} | ({"error": "SYS.1001"} if action == "fail" else {}))
    assert (ended["state"], ended["progress"]) == (state, 1 if state == "succeeded" else None)
    assert [found["status"] for found in await cloud.query("images", "name=i")] == image
    assert (await one(cloud, "longjobs", f"uuid={job['uuid']}"))["state"].lower() == state


@pytest.mark.parametrize(("action", "error"), (("hold", "a long job takes finish and fail, not hold"), ("finish", "is over")))
async def test_what_a_long_job_cannot_do_is_refused(cloud, action, error):
    job = await cloud.create("SubmitLongJob", jobName="APIAddImageMsg", jobData=json.dumps(IMAGE))
    await cloud.advance(100)
    with pytest.raises(AssertionError, match=error):
        await ask_control(cloud, "POST", f"jobs/{job['uuid']}", {"do": action})


async def pending_timeouts(mock):
    return [row["what"] for row in (await ask_control(mock, "GET", "clock"))["pending"] if row["what"].startswith("timeout")]


async def test_the_time_limit_of_a_long_job_is_pending_until_the_job_has_ended(subtests):
    endings = {
        "finish": lambda mock, job: ask_control(mock, "POST", f"jobs/{job}", {"do": "finish"}),
        "fail": lambda mock, job: ask_control(mock, "POST", f"jobs/{job}", {"do": "fail"}),
        "cancel": lambda mock, job: mock.call("CancelLongJob", uuid=job),
        "restart": lambda mock, job: mock.incident({"management-node-restart": {}}),
    }
    data = json.dumps({"volumeUuid": VOLUME, "dstPrimaryStorageUuid": named("ps-local")})
    for ending, end in endings.items():
        with subtests.test(ending):
            async with serve(long_delay="20000", delay="0", clock="frozen") as mock:
                await mock.login()
                await mock.call("UpdateGlobalConfig", category="longJob", name="longJob.api.timeout", value="10800")
                job = await mock.create("SubmitLongJob", jobName="APIPrimaryStorageMigrateVolumeMsg", jobData=data)
                before = await pending_timeouts(mock)
                await end(mock, job["uuid"])
                await mock.advance(1)
                assert (len(before), await pending_timeouts(mock)) == (1, [])


class TestLongJobs:
    @pytest.fixture
    def zmock_settings(self):
        return {"long_delay": "100"}

    @pytest.fixture
    async def ready(self, cloud):
        """A second backup storage, a stopped db-1 and a cluster-2 that is all there: what some long jobs ask for."""
        await cloud.create("AddSftpBackupStorage", **SECOND_BACKUP)
        await cloud.create("AttachBackupStorageToZone", backupStorageUuid=named("bs-2"), zoneUuid=named("zone-1"))
        await cloud.act("vm-instances", named("vm-db-1"), "stopVmInstance")
        await cloud.act("hosts", named("host-4"), "reconnectHost")
        return cloud

    async def start(self, mock, api, data, **more):
        found = await mock.query("volumes", f"name={data.get('rootVolumeUuid', '')}")
        data = data | ({"rootVolumeUuid": found[0]["uuid"]} if found else {})
        return await mock.create("SubmitLongJob", jobName=f"API{api}Msg", jobData=json.dumps(data), **more)

    async def job(self, mock, job):
        return await one(mock, "longjobs", f"uuid={job['uuid']}")

    @pytest.mark.parametrize(("name", "data", "collection", "condition", "key", "value"), LONG_JOBS, ids=[row[0] for row in LONG_JOBS])
    async def test_a_long_job_does_what_it_is_called(self, ready, name, data, collection, condition, key, value):
        conditions = [condition] if condition else []
        before = await ready.query(collection, *conditions)
        job = await self.start(ready, name, data)
        assert job["state"] == "Running" and "jobResult" not in job
        await ready.advance(99)
        assert (await self.job(ready, job))["state"] == "Running"
        await ready.advance(1)
        job = await self.job(ready, job)
        assert (job["state"], job["jobResult"].startswith("Failed")) == ("Succeeded", False)
        after = await ready.query(collection, *conditions)
        assert [item[key] for item in after] == [value]
        assert after != before

    async def test_every_long_job_of_the_server_is_tried_here(self):
        assert len({row[0] for row in LONG_JOBS}) == 10

    async def test_a_long_job_has_its_own_name_and_the_word_succeeded_as_result(self, cloud):
        job = await self.start(cloud, "AddImage", IMAGE, name="fetch", description="d")
        assert (job["name"], job["description"], job["jobName"], job["managementNodeUuid"]) == ("fetch", "d", "APIAddImageMsg", NODE)
        await cloud.advance(100)
        assert (await self.job(cloud, job))["jobResult"] == "Succeeded"

    async def test_progress_rises_from_0_to_100(self, cloud):
        job = await self.start(cloud, "AddImage", IMAGE)
        seen = []
        for _ in range(11):
            _, body = await cloud.request("GET", f"/task-progresses/{job['apiId']}")
            seen.append((body["inventories"][-1]["type"], int(body["inventories"][-1]["content"])))
            await cloud.advance(10)
        assert seen == [("Progress", percent) for percent in range(0, 101, 10)]

    async def test_the_id_of_the_call_is_the_id_of_its_progress(self, cloud):
        body = {"params": {"jobName": "APIAddImageMsg", "jobData": json.dumps(IMAGE)}}
        id = await submit(cloud, "POST", "/longjobs", body)
        await cloud.advance(0)
        assert (await one(cloud, "longjobs", f"apiId={id}"))["state"] == "Running"

    async def test_the_demo_cloud_has_a_long_job_halfway(self, cloud):
        job = await one(cloud, "longjobs")
        _, body = await cloud.request("GET", f"/task-progresses/{job['apiId']}")
        assert (job["state"], body["inventories"][-1]["content"]) == ("Running", "42")
        await cloud.advance(6 * 3600)
        await cloud.login()
        assert (await one(cloud, "longjobs"))["state"] == "Succeeded"
        assert (await one(cloud, "images", "name=image-archive"))["status"] == "Ready"

    @pytest.mark.parametrize(
        ("name", "data", "code", "details"),
        (
            ("CreateZone", {"name": "z"}, "SYS.1007", "APICreateZoneMsg is not an API"),
            ("AddImages", IMAGE, "SYS.1007", "APIAddImagesMsg is not an API"),
            ("AddImage", IMAGE | {"format": "zip"}, "SYS.1007", "unknown format[zip]"),
            ("MigrateVm", {"vmInstanceUuid": "x"}, "SYS.1003",
                "invalid field[vmInstanceUuid], resource[uuid:x, type:VmInstanceVO] not found"),
            ("MigrateVm", {}, "SYS.1007",
                "field[vmInstanceUuid] of message[org.zstack.header.vm.APIMigrateVmMsg] is mandatory, can not be null"),
        ),
    )  # fmt: skip
    async def test_the_data_is_checked_before_anything_begins(self, cloud, name, data, code, details):
        before = await cloud.query("longjobs")
        with pytest.raises(RuntimeError) as error:
            await self.start(cloud, name, data)
        assert str(error.value) == f"{code}: {details}"
        assert await cloud.query("longjobs") == before

    @pytest.mark.parametrize(("dialect", "status"), (("manual", 202), ("server", 500)))
    async def test_the_data_may_be_an_object_in_the_manual_only(self, dialect, status):
        async with serve(dialect=dialect) as mock:
            await mock.login()
            async with aiohttp.ClientSession(headers={"Authorization": f"OAuth {mock.session}"}) as http:
                body = {"params": {"jobName": "APIAddImageMsg", "jobData": IMAGE}}
                async with http.post(f"{mock.url}/longjobs", json=body) as answer:
                    assert answer.status == status

    @pytest.mark.parametrize("data", ("{", "[1]", "text"))
    async def test_data_that_is_no_json_object_is_an_error_of_the_server(self, cloud, data):
        with pytest.raises(RuntimeError, match=r"^SYS\.1000: "):
            await cloud.create("SubmitLongJob", jobName="APIAddImageMsg", jobData=data)

    async def test_deleting_what_is_gone_has_succeeded_at_once(self, cloud):
        job = await self.start(cloud, "DeleteVolumeSnapshot", {"uuid": cloud.cloud.uuid()})
        assert (job["state"], job["jobResult"]) == ("Succeeded", "Succeeded")

    async def test_a_long_job_that_fails_says_why(self, cloud):
        job = await self.start(cloud, "RevertVolumeFromSnapshot", {"uuid": named("snapshot-1")})  # its vm runs
        await cloud.advance(100)
        job = await self.job(cloud, job)
        told = (f"unable to reset volume[uuid:{VOLUME}] to snapshot[uuid:{named('snapshot-1')}], the vm[uuid:{named('vm-db-1')}] "
                "volume attached to is not in Stopped state, current state is Running")  # fmt: skip
        assert job["state"] == "Failed"
        assert json.loads(job["jobResult"].removeprefix("Failed : "))["details"] == told

    async def end(self, mock, how):
        """A long job in the state that is asked for."""
        if how == "Failed":
            job = await self.start(mock, "RevertVolumeFromSnapshot", {"uuid": named("snapshot-1")})
        else:
            job = await self.start(mock, "BackupStorageMigrateImage", LONG_JOBS[-1][1])
        if how == "Canceled":
            await mock.act("longjobs", job["uuid"], "cancelLongJob")
        await mock.advance(100)
        assert (await self.job(mock, job))["state"] == how
        return job

    @pytest.mark.parametrize(
        ("state", "details"),
        (
            ("Succeeded", "cannot cancel longjob that is succeeded"),
            ("Canceled", "cannot cancel longjob that is already canceled"),
            ("Failed", "cannot cancel longjob that is failed"),
        ),
    )
    async def test_what_is_over_cannot_be_canceled_but_deleted(self, cloud, state, details):
        await cloud.create("AddSftpBackupStorage", **SECOND_BACKUP)
        job = await self.end(cloud, state)
        with pytest.raises(RuntimeError) as error:
            await cloud.act("longjobs", job["uuid"], "cancelLongJob")
        assert str(error.value) == f"SYS.1007: {details}"
        await cloud.delete("longjobs", job["uuid"])
        assert await cloud.query("longjobs", f"uuid={job['uuid']}") == []

    @pytest.mark.parametrize(("name", "data"), [row[:2] for row in LONG_JOBS], ids=[row[0] for row in LONG_JOBS])
    async def test_premium_jobs_can_be_canceled_and_the_others_go_on_to_their_end(self, ready, name, data):
        things = ("vm-instances", "volumes", "images", "volume-snapshots")
        before = [await ready.query(thing) for thing in things]
        job = await self.start(ready, name, data)
        await ready.advance(50)
        await ready.act("longjobs", job["uuid"], "cancelLongJob")
        premium = "Storage" in name
        assert (await self.job(ready, job))["state"] == ("Canceled" if premium else "Canceling")
        await ready.advance(50)
        assert (await self.job(ready, job))["state"] == ("Canceled" if premium else "Succeeded")
        if premium:
            volatile = {"lastOpDate", "actualSize"}
            after = [await ready.query(thing) for thing in things]
            for old, new in zip(itertools.chain(*before), itertools.chain(*after), strict=True):
                assert {k: v for k, v in new.items() if k not in volatile} | {"allVolumes": 0} == \
                    {k: v for k, v in old.items() if k not in volatile} | {"allVolumes": 0}  # fmt: skip

    async def test_updating_a_clusters_operating_system_is_a_long_job_from_the_start(self, ready):
        job = await ready.create("UpdateClusterOS", uuid=named("cluster-2"))
        assert (job["state"], job["jobName"]) == ("Running", "APIUpdateClusterOSMsg")
        _, body = await ready.request("GET", f"/task-progresses/{job['apiId']}")
        assert [row["content"] for row in body["inventories"]] == ["Update Cluster OS", "0"]
        before = (await one(ready, "hosts", "name=host-3"))["lastOpDate"]
        await ready.advance(60)
        _, body = await ready.request("GET", f"/task-progresses/{job['apiId']}?all=true")
        assert [row["content"] for row in body["inventories"][0]["subTasks"]] == ["Prepare the repository", "Update the hosts", "60"]
        await ready.advance(40)
        assert (await self.job(ready, job))["state"] == "Succeeded"
        assert (await one(ready, "hosts", "name=host-3"))["lastOpDate"] != before

    @pytest.mark.parametrize("tags", ("x", 5, {"a": 1}, [1, None, "hostname::x"]))
    async def test_tags_of_the_wrong_shape_inside_the_data_are_passed_over(self, cloud, tags):
        job = await self.start(cloud, "AddImage", IMAGE | {"systemTags": tags, "userTags": tags})
        await cloud.advance(100)
        assert (await self.job(cloud, job))["state"] == "Succeeded"
