"""Stories: what a cloud does beyond its rows, as the manual's chapter 4 and the real server have it."""

import asyncio
import base64
import itertools
import json
import re
from datetime import datetime

import aiohttp
import pytest
from asking import each, one, outcome, submit

from zmock import catalogue, named, serve

GIB, DAY = 1 << 30, 86400


async def incident(mock, **what):
    async with aiohttp.ClientSession() as http, http.post(f"{mock.base}/zmock/incidents", json=what) as answer:
        return (await answer.json())["id"]


async def end_incident(mock, id):
    async with aiohttp.ClientSession() as http, http.delete(f"{mock.base}/zmock/incidents/{id}") as answer:
        assert answer.status == 200


VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [named("l3-private")]}
NEW_HOST = {"name": "h", "managementIp": "10.10.0.50", "username": "root", "password": "p"}
IMAGE = {"name": "i", "url": "http://a/b", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}


class TestVirtualMachines:
    # action: where it is allowed, what it leads to, the error of any other state (the server's table, with the cause VM.1010)
    GUARDS = {
        "startVmInstance": ("Created Stopped", "Running", "VM.1001"),
        "stopVmInstance": ("Running Paused Unknown Stopped", "Stopped", "VM.1002"),
        "rebootVmInstance": ("Running", "Running", "VM.1003"),
        "pauseVmInstance": ("Running", "Paused", "VM.1012"),
        "resumeVmInstance": ("Paused", "Running", "VM.1013"),
        "migrateVm": ("Running Paused", "Running", "VM.1008"),
        "recoverVmInstance": ("Destroyed", "Stopped", "SYS.1006"),
        "expungeVmInstance": ("Destroyed", None, "SYS.1006"),
    }
    IN_STATE = {"Running": "web-1", "Stopped": "ci-1", "Paused": "web-2", "Unknown": "batch-1", "Destroyed": "old-1", "Created": "new"}

    async def vm_in(self, mock, state):
        if state == "Created":
            await mock.create("CreateVmInstance", name="new", strategy="JustCreate", resourceUuid=named("vm-new"), **VM)
        if state == "Paused":
            await mock.act("vm-instances", named("vm-web-2"), "pauseVmInstance")
        vm = await one(mock, "vm-instances", f"uuid={named('vm-' + self.IN_STATE[state])}")
        assert vm["state"] == state
        return vm["uuid"]

    @each("state", IN_STATE)
    @each("action", GUARDS)
    async def test_an_action_is_allowed_in_some_states_and_leads_to_another(self, cloud, action, state):
        allowed, after, code = self.GUARDS[action]
        uuid = await self.vm_in(cloud, state)
        status, body = await outcome(cloud, "PUT", f"/vm-instances/{uuid}/actions", {action: {}})
        found = await cloud.query("vm-instances", f"uuid={uuid}")
        if (action, state) == ("stopVmInstance", "Unknown"):
            assert (status, body["error"]["cause"]["code"], found[0]["state"]) == (503, "HOST.1011", state), "its host does not answer"
        elif state in allowed.split():
            assert (status, [vm["state"] for vm in found]) == (200, [after] if after else [])
        else:
            message = f"org.zstack.header.vm.API{action[0].upper()}{action[1:]}Msg"
            told = f"current vm instance state[{state}] doesn't allow to proceed message[{message}], allowed states are ["
            assert (status, body["error"]["code"], body["error"]["cause"]["code"], found[0]["state"]) == (503, code, "VM.1010", state)
            assert body["error"]["cause"]["details"].startswith(told)

    @pytest.mark.parametrize("state", IN_STATE)
    async def test_a_vm_can_be_destroyed_in_every_state(self, cloud, state):
        uuid = await self.vm_in(cloud, state)
        assert await outcome(cloud, "DELETE", f"/vm-instances/{uuid}") == (200, {})
        assert [vm["state"] for vm in await cloud.query("vm-instances", f"uuid={uuid}")] == ([] if state == "Created" else ["Destroyed"])

    @pytest.mark.parametrize("state", ("Running", "Paused"))
    async def test_a_stopped_vm_has_left_its_host(self, cloud, state):
        uuid = await self.vm_in(cloud, state)
        host = (await one(cloud, "vm-instances", f"uuid={uuid}"))["hostUuid"]
        vm = await cloud.act("vm-instances", uuid, "stopVmInstance")
        assert ("hostUuid" in vm, vm["lastHostUuid"]) == (False, host)
        assert (await cloud.act("vm-instances", uuid, "startVmInstance"))["hostUuid"]

    async def test_a_vm_that_was_only_created_has_no_host_and_no_address_before_its_start(self, cloud):
        uuid = await self.vm_in(cloud, "Created")
        vm = await one(cloud, "vm-instances", f"uuid={uuid}")
        assert "hostUuid" not in vm and vm["vmNics"] == []
        vm = await cloud.act("vm-instances", uuid, "startVmInstance")
        assert vm["hostUuid"] and vm["vmNics"][0]["ip"] and vm["rootVolumeUuid"]

    async def test_a_destroyed_vm_gives_back_addresses_and_data_volumes_and_can_be_recovered(self, cloud):
        uuid = named("vm-db-1")
        await cloud.delete("vm-instances", uuid)
        vm = await one(cloud, "vm-instances", f"uuid={uuid}")
        assert (vm["state"], "hostUuid" in vm, vm["lastHostUuid"]) == ("Destroyed", False, named("host-1"))
        assert not {"ip", "netmask", "gateway"} & vm["vmNics"][0].keys()
        assert [(volume["type"], volume["status"]) for volume in vm["allVolumes"]] == [("Root", "Deleted")]
        data = await one(cloud, "volumes", "name=db-data-1")
        assert ("vmInstanceUuid" in data, data["status"]) == (False, "Ready")
        recovered = await cloud.act("vm-instances", uuid, "recoverVmInstance")
        assert (recovered["state"], recovered["allVolumes"][0]["status"]) == ("Stopped", "Ready")
        assert (await cloud.act("vm-instances", uuid, "startVmInstance"))["vmNics"][0]["ip"]

    async def test_expunging_takes_the_row_the_nics_and_the_root_volume(self, cloud):
        uuid = named("vm-old-1")
        assert await outcome(cloud, "PUT", f"/vm-instances/{uuid}/actions", {"expungeVmInstance": {}}) == (200, {})
        assert await cloud.query("vm-instances/nics", f"vmInstanceUuid={uuid}") == []
        assert await cloud.query("volumes", "name=ROOT-for-old-1") == []

    async def test_a_destroyed_vm_keeps_its_tags_until_it_is_expunged(self, cloud):
        uuid = named("vm-web-1")
        await cloud.delete("vm-instances", uuid)
        assert len(await cloud.query("user-tags", f"resourceUuid={uuid}")) == 1
        await cloud.act("vm-instances", uuid, "expungeVmInstance")
        assert await cloud.query("user-tags", f"resourceUuid={uuid}") == await cloud.query("system-tags", f"resourceUuid={uuid}") == []

    @pytest.mark.parametrize(
        ("collection", "uuid"),
        (("vm-instances", named("vm-web-1")), ("volumes", named("volume-spare")), ("images", named("image-centos7"))),
    )
    async def test_what_was_deleted_is_expunged_a_day_later(self, cloud, collection, uuid):
        await cloud.delete(collection, uuid)
        await cloud.advance(DAY - 60)
        await cloud.login()
        assert len(await cloud.query(collection, f"uuid={uuid}")) == 1
        await cloud.advance(3700)
        assert await cloud.query(collection, f"uuid={uuid}") == []

    @pytest.mark.parametrize(
        ("collection", "uuid", "action", "key", "after"),
        (
            ("vm-instances", named("vm-web-1"), "recoverVmInstance", "state", "Stopped"),
            ("volumes", named("volume-db-data-1"), "recoverDataVolume", "status", "Ready"),
            ("volumes", named("volume-spare"), "recoverDataVolume", "status", "NotInstantiated"),
            ("images", named("image-centos7"), "recoverImage", "status", "Ready"),
        ),
    )
    async def test_what_was_recovered_in_time_stays(self, cloud, collection, uuid, action, key, after):
        await cloud.delete(collection, uuid)
        assert (await cloud.act(collection, uuid, action))[key] == after
        await cloud.advance(3 * DAY)
        await cloud.login()
        assert (await one(cloud, collection, f"uuid={uuid}"))[key] == after

    async def test_what_was_deleted_again_has_a_whole_day_again(self, cloud):
        uuid = named("vm-web-1")
        await cloud.delete("vm-instances", uuid)
        await cloud.advance(DAY / 2)
        await cloud.login()
        await cloud.act("vm-instances", uuid, "recoverVmInstance")
        await cloud.delete("vm-instances", uuid)
        await cloud.advance(DAY * 3 / 4)
        await cloud.login()
        assert len(await cloud.query("vm-instances", f"uuid={uuid}")) == 1

    async def test_a_new_vm_is_as_its_offering_and_image_say(self, cloud):
        vm = await cloud.create("CreateVmInstance", name="n", description="d", dataDiskOfferingUuids=[named("disk-20g")], **VM)
        assert (vm["state"], vm["cpuNum"], vm["memorySize"], vm["platform"], vm["type"]) == ("Running", 1, GIB, "Linux", "UserVm")
        assert (vm["defaultL3NetworkUuid"], vm["zoneUuid"], vm["hypervisorType"]) == (named("l3-private"), named("zone-1"), "KVM")
        volumes = [(v["name"], v["type"], v["deviceId"], v["status"]) for v in vm["allVolumes"]]
        assert volumes == [("ROOT-for-n", "Root", 0, "Ready"), ("DATA-for-n", "Data", 1, "Ready")]
        assert vm["allVolumes"][0]["description"] == f"Root volume for VM[uuid:{vm['uuid']}]"
        assert vm["rootVolumeUuid"] == vm["allVolumes"][0]["uuid"]
        assert re.fullmatch(r"fa(:[0-9a-f]{2}){4}:00", vm["vmNics"][0]["mac"])

    async def test_two_vms_never_share_an_address(self, cloud):
        await asyncio.gather(*(cloud.create("CreateVmInstance", name="n", **VM) for _ in range(10)))
        addresses = [nic["ip"] for nic in await cloud.query("vm-instances/nics", "ip not null")]
        assert len(addresses) == len(set(addresses)) > 15

    async def test_a_vm_goes_where_it_is_told_to(self, cloud):
        assert (await cloud.create("CreateVmInstance", name="n", hostUuid=named("host-2"), **VM))["hostUuid"] == named("host-2")
        assert (await cloud.create("CreateVmInstance", name="n", clusterUuid=named("cluster-2"), **VM))["hostUuid"] == named("host-3")
        vm = await cloud.act("vm-instances", named("vm-web-1"), "migrateVm", hostUuid=named("host-2"))
        assert (vm["hostUuid"], vm["lastHostUuid"]) == (named("host-2"), named("host-1"))

    async def test_a_vm_that_finds_no_host_leaves_nothing_behind(self, cloud):
        huge = await cloud.create("CreateInstanceOffering", name="huge", cpuNum=1000, memorySize=1 << 50)
        before = [len(await cloud.query(c)) for c in ("vm-instances", "vm-instances/nics", "volumes", "user-tags")]
        status, body = await outcome(cloud, "POST", "/vm-instances",
                                     {"params": VM | {"name": "n", "instanceOfferingUuid": huge["uuid"]}, "userTags": ["t"]})  # fmt: skip
        assert (status, body["error"]["cause"]["code"]) == (503, "HOST_ALLOCATION.1000")
        assert [len(await cloud.query(c)) for c in ("vm-instances", "vm-instances/nics", "volumes", "user-tags")] == before

    async def test_tags_of_a_creation_are_put_on_what_it_made(self, cloud):
        body = {"params": VM | {"name": "n"}, "systemTags": ["hostname::n"], "userTags": ["mine"]}
        _, answer = await outcome(cloud, "POST", "/vm-instances", body)
        tagged = await one(cloud, "vm-instances", "__systemTag__=hostname::n", "__userTag__=mine")
        assert tagged["uuid"] == answer["inventory"]["uuid"]


class TestWhileItLasts:
    @pytest.fixture
    def zmock_settings(self):
        return {"delay": "10"}

    @pytest.mark.parametrize(
        ("vm", "method", "body", "meanwhile", "after"),
        (
            ("ci-1", "PUT", {"startVmInstance": {}}, "Starting", "Running"),
            ("web-1", "PUT", {"stopVmInstance": {}}, "Stopping", "Stopped"),
            ("web-1", "PUT", {"rebootVmInstance": {}}, "Rebooting", "Running"),
            ("web-1", "PUT", {"pauseVmInstance": {}}, "Pausing", "Paused"),
            ("office-1", "PUT", {"resumeVmInstance": {}}, "Resuming", "Running"),
            ("web-1", "PUT", {"migrateVm": {}}, "Migrating", "Running"),
            ("web-1", "DELETE", None, "Destroying", "Destroyed"),
        ),
    )
    async def test_the_state_between_is_seen_while_the_job_runs(self, cloud, vm, method, body, meanwhile, after):
        uuid = named(f"vm-{vm}")
        await submit(cloud, method, f"/vm-instances/{uuid}{'/actions' if body else ''}", body)
        for seconds, state in ((1, meanwhile), (8, meanwhile), (1, after)):
            await cloud.advance(seconds)
            assert (await one(cloud, "vm-instances", f"uuid={uuid}"))["state"] == state

    @pytest.mark.parametrize(
        ("path", "params", "collection", "name", "key", "states"),
        (
            ("/vm-instances", VM | {"name": "n"}, "vm-instances", "n", "state", ("Starting", "Running")),
            ("/images", IMAGE, "images", "i", "status", ("Downloading", "Ready")),
            ("/hosts/kvm", NEW_HOST | {"clusterUuid": named("cluster-1")}, "hosts", "h", "status", ("Connecting", "Connected")),
        ),
    )
    async def test_what_is_being_made_can_be_seen(self, cloud, path, params, collection, name, key, states):
        await submit(cloud, "POST", path, {"params": params})
        for seconds, state in zip((5, 5), states):
            await cloud.advance(seconds)
            assert (await one(cloud, collection, f"name={name}"))[key] == state

    async def test_calls_on_the_same_vm_wait_for_each_other(self, cloud):
        path = f"/vm-instances/{named('vm-web-1')}/actions"
        jobs = [await submit(cloud, "PUT", path, {action: {}}) for action in ("stopVmInstance", "startVmInstance")]
        statuses = []
        for _ in range(3):
            statuses.append([(await cloud.request("GET", f"/api-jobs/{job}"))[0] for job in jobs])
            await cloud.advance(10)
        assert statuses == [[202, 202], [200, 202], [200, 200]]

    @pytest.mark.parametrize("dialect", ("manual", "server"))
    async def test_the_progress_of_a_job_is_a_tree(self, dialect):
        async with serve(delay="10", dialect=dialect) as mock:
            await mock.login()
            job = await submit(mock, "POST", "/vm-instances", {"params": VM | {"name": "n"}})
            seen = []
            for _ in range(4):
                await mock.advance(2.4)
                _, tree = await mock.request("GET", f"/task-progresses/{job}?all=true")
                _, chain = await mock.request("GET", f"/task-progresses/{job}")
                ((root,), (first, last)) = tree["inventories"], chain["inventories"]
                assert first == {key: value for key, value in root.items() if key != "subTasks"}
                assert (last, last["parentUuid"]) == (root["subTasks"][-1], root["taskUuid"])
                assert [child["time"] for child in root["subTasks"]] == sorted(child["time"] for child in root["subTasks"])
                assert (root["taskName"], root["type"]) == ("org.zstack.header.vm.APICreateVmInstanceMsg", "Task")
                manuals = {"taskId", "totalSteps", "currentStep"}
                assert manuals & last.keys() == (manuals if dialect == "manual" else set())
                seen.append(last["content"])
            assert [words.split()[0] for words in seen] == ["Choose", "Create", "Allocate", "Start"]

    async def test_progress_is_kept_for_five_minutes_after_the_end(self, cloud):
        job = await submit(cloud, "POST", "/vm-instances", {"params": VM | {"name": "n"}})
        for seconds, rows in ((10, 2), (299, 2), (2, 0)):
            await cloud.advance(seconds)
            assert len((await cloud.request("GET", f"/task-progresses/{job}"))[1]["inventories"]) == rows

    @pytest.mark.parametrize("api_id", ("x", named("job").upper(), named("job")[1:]))
    async def test_progress_is_asked_for_by_a_uuid(self, cloud, api_id):
        status, body = await cloud.request("GET", f"/task-progresses/{api_id}")
        told = f"parameter apiId[{api_id}] is not a valid uuid."
        assert (status, body["error"]["code"], body["error"]["details"]) == (400, "SYS.1007", told)

    @pytest.mark.parametrize("query", ("", "?all=true"))
    async def test_what_nobody_does_has_no_progress(self, cloud, query):
        assert await cloud.request("GET", f"/task-progresses/{named('nothing')}{query}") == (200, {"inventories": []})


class TestFromNothing:
    @pytest.fixture
    def zmock_settings(self):
        return {"cloud": "empty"}

    async def test_a_cloud_can_be_built_from_nothing(self, cloud):
        zone = await cloud.create("CreateZone", name="zone")
        cluster = await cloud.create("CreateCluster", name="cluster", zoneUuid=zone["uuid"], hypervisorType="KVM")
        host = await cloud.create("AddKVMHost", clusterUuid=cluster["uuid"], **NEW_HOST)
        assert (host["state"], host["status"], host["zoneUuid"]) == ("Enabled", "Connected", zone["uuid"])
        primary = await cloud.create("AddLocalPrimaryStorage", name="ps", url="/zstack_ps", zoneUuid=zone["uuid"])
        assert (primary["totalCapacity"], primary["attachedClusterUuids"]) == (0, [])
        primary = await cloud.create("AttachPrimaryStorageToCluster", primaryStorageUuid=primary["uuid"], clusterUuid=cluster["uuid"])
        assert primary["availableCapacity"] > 0 and primary["attachedClusterUuids"] == [cluster["uuid"]]
        backup = await cloud.create("AddSftpBackupStorage", name="bs", url="/bs", hostname="10.0.0.2", username="root", password="p")
        await cloud.create("AttachBackupStorageToZone", backupStorageUuid=backup["uuid"], zoneUuid=zone["uuid"])
        image = await cloud.create("AddImage", **IMAGE | {"backupStorageUuids": [backup["uuid"]]})
        assert (image["status"], image["backupStorageRefs"][0]["status"]) == ("Ready", "Ready")
        offering = await cloud.create("CreateInstanceOffering", name="small", cpuNum=1, memorySize=GIB)
        disk = await cloud.create("CreateDiskOffering", name="disk", diskSize=20 * GIB)
        l2 = await cloud.create("CreateL2NoVlanNetwork", name="l2", zoneUuid=zone["uuid"], physicalInterface="eth0")
        await cloud.create("AttachL2NetworkToCluster", l2NetworkUuid=l2["uuid"], clusterUuid=cluster["uuid"])
        l3 = await cloud.create("CreateL3Network", name="l3", l2NetworkUuid=l2["uuid"])
        await cloud.create("AddIpRange", name="r", l3NetworkUuid=l3["uuid"], startIp="192.168.0.10", endIp="192.168.0.11",
                           netmask="255.255.255.0", gateway="192.168.0.1")  # fmt: skip
        made_of = {"instanceOfferingUuid": offering["uuid"], "imageUuid": image["uuid"], "l3NetworkUuids": [l3["uuid"]]}
        vm = await cloud.create("CreateVmInstance", name="vm", **made_of)
        volume = await cloud.create("CreateDataVolume", name="data", diskOfferingUuid=disk["uuid"])
        assert (volume["status"], volume["size"], "installPath" in volume) == ("NotInstantiated", 20 * GIB, False)
        volume = await cloud.create("AttachDataVolumeToVm", volumeUuid=volume["uuid"], vmInstanceUuid=vm["uuid"])
        assert (volume["status"], volume["deviceId"], volume["primaryStorageUuid"]) == ("Ready", 1, primary["uuid"])
        vm = await one(cloud, "vm-instances", "vmNics.ip?=192.168.0.10,192.168.0.11", "allVolumes.name=data", "host.name=h")
        assert (vm["state"], vm["hostUuid"], len(vm["allVolumes"])) == ("Running", host["uuid"], 2)
        assert (vm["vmNics"][0]["netmask"], vm["vmNics"][0]["gateway"]) == ("255.255.255.0", "192.168.0.1")
        await cloud.create("CreateVmInstance", name="second", **made_of)
        with pytest.raises(RuntimeError, match=rf"no ip is available in this l3Network\[name:l3, uuid:{l3['uuid']}\]"):
            await cloud.create("CreateVmInstance", name="third", **made_of)

    async def test_an_empty_cloud_has_a_node_an_admin_and_a_community_license(self, cloud):
        assert (await one(cloud, "management-nodes"))["hostName"] == "127.0.0.1"
        assert (await one(cloud, "accounts"))["name"] == "admin"
        license = (await cloud.call("GetLicenseInfo"))["inventory"]
        assert (license["licenseType"], license["hostNum"], license["expired"]) == ("Community", 2147483647, False)
        for collection in ("zones", "hosts", "vm-instances", "images", "longjobs", "gc-jobs", "notifications"):
            assert await cloud.query(collection) == []

    async def test_no_host_is_no_capacity(self, cloud):
        capacity = await cloud.call("GetCpuMemoryCapacity", all="true")
        assert capacity == dict.fromkeys(("totalCpu", "availableCpu", "totalMemory", "availableMemory", "managedCpuNum"), 0)


class TestCapacity:
    async def free(self, mock, **where):
        return await mock.call("GetCpuMemoryCapacity", **where or {"all": "true"})

    async def test_what_runs_takes_capacity_and_gives_it_back(self, cloud):
        before = await self.free(cloud)
        vm = await cloud.create("CreateVmInstance", name="n", **VM | {"instanceOfferingUuid": named("offering-large")})
        running = await self.free(cloud)
        assert {key: before[key] - running[key] for key in before} == {
            "totalCpu": 0, "availableCpu": 4, "totalMemory": 0, "availableMemory": 8 * GIB, "managedCpuNum": 0}  # fmt: skip
        await cloud.act("vm-instances", vm["uuid"], "stopVmInstance")
        assert await self.free(cloud) == before
        await cloud.act("vm-instances", vm["uuid"], "startVmInstance")
        assert await self.free(cloud) == running
        await cloud.delete("vm-instances", vm["uuid"])
        assert await self.free(cloud) == before

    async def test_all_is_the_sum_of_its_parts(self, cloud):
        whole = await self.free(cloud)
        for parts in (
            [{"hostUuids": named(f"host-{n}")} for n in (1, 2, 3, 4)],
            [{"clusterUuids": named(f"cluster-{n}")} for n in (1, 2)],
            [{"zoneUuids": named("zone-1")}],
        ):
            sums = [await self.free(cloud, **part) for part in parts]
            assert {key: sum(part[key] for part in sums) for key in whole} == whole

    @pytest.mark.parametrize("name", ("host-1", "host-2", "host-3"))
    async def test_memory_that_a_host_keeps_for_itself_is_not_available(self, cloud, name):
        host = await one(cloud, "hosts", f"name={name}")
        kept = 2 * GIB if name == "host-1" else GIB  # host-1 has the tag reservedMemory::2G
        assert (await self.free(cloud, hostUuids=host["uuid"]))["availableMemory"] == host["availableMemoryCapacity"] - kept

    @pytest.mark.parametrize("event", ("disable", "maintain"))
    async def test_only_hosts_that_are_in_use_count(self, cloud, event):
        rest = await self.free(cloud, hostUuids=[named("host-2"), named("host-3")])
        before = await self.free(cloud)
        await cloud.act("hosts", named("host-1"), "changeHostState", stateEvent=event)
        after = await self.free(cloud)
        assert after["totalCpu"] == rest["totalCpu"] < before["totalCpu"]
        assert (await self.free(cloud, hostUuids=named("host-1")))["totalCpu"] == 0

    async def test_vms_move_away_from_a_host_in_maintenance(self, cloud):
        moved = {vm["uuid"] for vm in await cloud.query("vm-instances", f"hostUuid={named('host-1')}")}
        host = await cloud.act("hosts", named("host-1"), "changeHostState", stateEvent="maintain")
        assert (host["state"], await cloud.query("vm-instances", f"hostUuid={named('host-1')}")) == ("Maintenance", [])
        assert {vm["state"] for vm in await cloud.query("vm-instances", f"uuid?={','.join(moved)}")} == {"Running"}

    @pytest.mark.parametrize(("dialect", "members"), (("manual", 5), ("server", 6)))
    async def test_the_server_adds_that_it_went_well(self, dialect, members):
        async with serve(dialect=dialect) as mock:
            capacity = await self.free(mock)
            assert len(capacity) == members
            assert all(type(value) is int for key, value in capacity.items() if key != "success")

    async def test_something_must_be_asked_for(self, cloud):
        status, body = await cloud.request("GET", "/hosts/capacities/cpu-memory")
        told = "zoneUuids, clusterUuids, hostUuids must at least have one be none-empty list, or all is set to true"
        assert (status, body["error"]["code"], body["error"]["details"]) == (400, "SYS.1007", told)


class TestHostDown:
    async def test_a_host_goes_away_and_comes_back(self, cloud):
        running = {vm["uuid"] for vm in await cloud.query("vm-instances", f"hostUuid={named('host-1')}")}
        capacity = await cloud.call("GetCpuMemoryCapacity", all="true")
        before = {row["uuid"] for row in await cloud.query("notifications")}
        id = await incident(cloud, **{"host-down": "host-1"})

        assert (await one(cloud, "hosts", "name=host-1"))["status"] == "Disconnected"
        assert {vm["uuid"] for vm in await cloud.query("vm-instances", "state=Unknown", f"hostUuid={named('host-1')}")} == running
        told = [row for row in await cloud.query("notifications") if row["uuid"] not in before]
        assert {row["resourceUuid"] for row in told} == running | {named("host-1")}
        assert (await cloud.call("GetCpuMemoryCapacity", all="true"))["totalCpu"] < capacity["totalCpu"]
        status, body = await outcome(cloud, "PUT", f"/hosts/{named('host-1')}/actions", {"reconnectHost": {}})
        assert (status, body["error"]["code"]) == (503, "HOST.1002")

        lost = named("vm-web-1")
        await cloud.delete("vm-instances", lost)
        job = await one(cloud, "gc-jobs", f"name=gc-vm-{lost}-on-host-{named('host-1')}")
        assert (job["status"], json.loads(job["context"])["vmUuid"]) == ("Idle", lost)
        await cloud.act("gc-jobs", job["uuid"], "triggerGCJob")
        assert (await one(cloud, "gc-jobs", f"uuid={job['uuid']}"))["status"] == "Idle"

        await end_incident(cloud, id)
        assert (await one(cloud, "hosts", "name=host-1"))["status"] == "Connected"
        assert {vm["uuid"] for vm in await cloud.query("vm-instances", "state=Running", f"hostUuid={named('host-1')}")} == running - {lost}
        assert (await one(cloud, "gc-jobs", f"uuid={job['uuid']}"))["status"] == "Done"

    async def test_no_vm_starts_on_a_host_that_is_away(self, cloud):
        await incident(cloud, **{"host-down": named("host-1")})
        status, body = await outcome(cloud, "POST", "/vm-instances", {"params": VM | {"name": "n", "hostUuid": named("host-1")}})
        told = f"host[uuid:{named('host-1')}] is specified but it's connection status is Disconnected, can not create vm from it"
        assert (status, body["error"]["code"], body["error"]["details"]) == (503, "SYS.1006", told)
        hosts = {(await cloud.create("CreateVmInstance", name="n", **VM))["hostUuid"] for _ in range(6)}
        assert hosts == {named("host-2"), named("host-3")}

    async def test_the_host_that_the_demo_lost_can_be_reconnected(self, cloud):
        assert (await cloud.act("hosts", named("host-4"), "reconnectHost"))["status"] == "Connected"
        assert (await one(cloud, "vm-instances", "name=batch-1"))["state"] == "Running"
        assert {job["status"] for job in await cloud.query("gc-jobs")} == {"Done"}

    async def test_a_host_that_is_away_cannot_go_into_maintenance(self, cloud):
        with pytest.raises(RuntimeError, match=rf"SYS.1006: can not maintain host\[uuid:{named('host-4')}\]which is not Connected"):
            await cloud.act("hosts", named("host-4"), "changeHostState", stateEvent="maintain")


class TestGarbage:
    async def waiting(self, mock):
        return await one(mock, "gc-jobs", "status=Idle")

    async def test_a_job_is_done_once_its_host_is_back(self, cloud):
        job = await self.waiting(cloud)
        assert job["name"] == f"gc-vm-{named('vm-batch-2')}-on-host-{named('host-4')}"
        assert await outcome(cloud, "PUT", f"/gc-jobs/{job['uuid']}/actions", {"triggerGCJob": {}}) == (200, {})
        assert (await self.waiting(cloud))["uuid"] == job["uuid"]

    @pytest.mark.parametrize(
        ("uuid", "code", "details"),
        (
            ("gc-done", "SYS.1006", f"cannot trigger a finished GC job[uuid:{named('gc-done')}, name:gc-volume-on-primary-storage]"),
            ("nothing", "SYS.1003", f"invalid field[uuid], resource[uuid:{named('nothing')}, type:GarbageCollectorVO] not found"),
        ),
    )
    async def test_what_is_done_or_not_there_cannot_be_triggered(self, cloud, uuid, code, details):
        status, body = await outcome(cloud, "PUT", f"/gc-jobs/{named(uuid)}/actions", {"triggerGCJob": {}})
        assert (status, body["error"]["code"], body["error"]["details"]) == (503, code, details)

    @pytest.mark.parametrize("name", ("gc-done", "idle", "nothing"))
    async def test_any_job_can_be_deleted(self, cloud, name):
        uuid = (await self.waiting(cloud))["uuid"] if name == "idle" else named(name)
        assert await outcome(cloud, "DELETE", f"/gc-jobs/{uuid}") == (200, {})
        assert await cloud.query("gc-jobs", f"uuid={uuid}") == []

    @pytest.mark.parametrize(("dialect", "status"), (("manual", 200), ("server", 503)))
    async def test_only_the_manual_knows_a_job_by_its_state(self, dialect, status):
        async with serve(dialect=dialect) as mock:
            await mock.login()
            assert (await mock.request("GET", "/gc-jobs?q=state=Done"))[0] == status


NODE = named("management-node")


class TestLicense:
    def text(self, **fields):
        return base64.b64encode(json.dumps(fields).encode()).decode()

    async def license(self, mock):
        return (await mock.call("GetLicenseInfo"))["inventory"]

    async def test_a_license_says_what_is_left(self, cloud):
        license = await self.license(cloud)
        assert (license["licenseType"], license["hostNum"], license["availableHostNum"], license["expired"]) == ("Paid", 10, 6, False)
        assert json.loads(base64.b64decode(license["licenseRequest"]))["thumbprint"]
        await cloud.delete("hosts", named("host-4"))
        assert (await self.license(cloud))["availableHostNum"] == 7

    async def test_a_license_ends_on_the_second(self, cloud):
        text = self.text(expiredDate=cloud.clock.stamp(cloud.clock.now() + 100))
        license = await cloud.call("UpdateLicense", managementNodeUuid=NODE, license=text)
        assert license["inventory"]["expired"] is False
        await cloud.advance(98)
        assert (await self.license(cloud))["expired"] is False
        await cloud.advance(2)
        assert (await self.license(cloud))["expired"] is True

    @pytest.mark.parametrize("days", (334, 336))
    async def test_the_license_of_the_demo_cloud_ends_after_a_year(self, cloud, days):
        await cloud.advance(days * DAY)
        await cloud.login()
        (addon,) = (await cloud.call("GetLicenseAddOns"))["addons"]
        assert ((await self.license(cloud))["expired"], addon["expired"]) == (days > 335, days > 335)

    @pytest.mark.parametrize(
        ("fields", "shown"),
        (
            ({"hostNum": 20, "cpuNum": 80}, {"hostNum": 20, "availableHostNum": 16, "cpuNum": 80, "licenseType": "Paid"}),
            ({"licenseType": "Trial", "user": "me"}, {"licenseType": "Trial", "user": "me"}),
            ({"expiredDate": "2017-02-05 19:44:21"}, {"expiredDate": "2017-02-05 19:44:21", "expired": True}),
            ({"hostNum": 1}, {"hostNum": 1, "availableHostNum": 0}),
            ({}, {"licenseType": "Paid", "expired": False}),
        ),
    )
    async def test_a_license_text_sets_the_fields_that_it_names(self, cloud, fields, shown):
        answer = await cloud.call("UpdateLicense", managementNodeUuid=NODE, license=self.text(**fields))
        assert answer["inventory"].items() >= shown.items()
        assert await self.license(cloud) == answer["inventory"]

    async def test_a_license_text_may_have_line_breaks(self, cloud):
        text = base64.encodebytes(json.dumps({"user": "me", "hostNum": 20, "cpuNum": 80, "licenseType": "Trial"}).encode()).decode()
        assert "\n" in text.strip()
        answer = await cloud.call("UpdateLicense", managementNodeUuid=NODE, license=text)
        assert (answer["inventory"]["user"], answer["inventory"]["hostNum"]) == ("me", 20)

    @pytest.mark.parametrize("text", ("ZStack license", "bm90IGpzb24=", "WzFd", "许可证", "bm90\nIGpz b24="))
    async def test_any_text_is_a_license(self, cloud, text):
        assert (await cloud.call("UpdateLicense", managementNodeUuid=NODE, license=text))["inventory"]["expired"] is False

    @pytest.mark.parametrize(
        ("fields", "details"),
        (
            ({"hostNumber": 1}, "a license has no field hostNumber, did you mean hostNum?"),
            ({"hostNum": "many"}, "hostNum of a license is an int, not 'many'"),
            ({"expiredDate": "tomorrow"}, "expiredDate of a license is a date such as 2017-02-05 19:44:21, not 'tomorrow'"),
            ({"expiredDate": "2017-02-30 00:00:00"},
                "expiredDate of a license is a date such as 2017-02-05 19:44:21, not '2017-02-30 00:00:00'"),
        ),
    )
    async def test_a_license_that_says_something_else_is_refused(self, cloud, fields, details):
        with pytest.raises(RuntimeError) as error:
            await cloud.call("UpdateLicense", managementNodeUuid=NODE, license=self.text(**fields))
        assert str(error.value) == f"SYS.1007: {details}"

    @pytest.mark.parametrize("params", ({}, {"license": ""}))
    async def test_no_license_is_none(self, cloud, params):
        status, body = await cloud.request("PUT", f"/licenses/mn/{NODE}/actions", {"updateLicense": params})
        assert (status, body["error"]["code"]) == (400, "SYS.1007")

    @pytest.mark.parametrize(
        ("uuid", "type", "addons"), (("", "Community", 1), ("license", "Community", 1), ("license-addon", "Paid", 0))
    )
    async def test_the_license_or_one_of_its_add_ons_can_be_deleted(self, cloud, uuid, type, addons):
        query = f"?uuid={named(uuid)}" if uuid else ""
        assert await outcome(cloud, "DELETE", f"/licenses/mn/{NODE}/actions{query}") == (200, {})
        assert (await self.license(cloud))["licenseType"] == type
        assert len((await cloud.call("GetLicenseAddOns"))["addons"]) == addons

    async def test_reloading_shows_the_license(self, cloud):
        assert (await cloud.call("ReloadLicense", managementNodeUuids=[NODE]))["inventory"] == await self.license(cloud)
        assert (await cloud.call("ReloadLicense"))["inventory"] == await self.license(cloud)

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        (
            ("PUT", f"/licenses/mn/{named('nothing')}/actions", {"updateLicense": {"license": "x"}}),
            ("DELETE", f"/licenses/mn/{named('nothing')}/actions", None),
            ("DELETE", f"/licenses/mn/{NODE}/actions?uuid={named('nothing')}", None),
            ("PUT", "/licenses/actions", {"reloadLicense": {"managementNodeUuids": [named("nothing")]}}),
        ),
    )
    async def test_a_node_or_license_that_is_not_there_is_told(self, cloud, method, path, body):
        status, answer = await outcome(cloud, method, path, body)
        assert (status, answer["error"]["code"]) == (503, "SYS.1003")
        assert named("nothing") in answer["error"]["details"]

    @pytest.mark.parametrize(("dialect", "status"), (("manual", 202), ("server", 200)))
    async def test_changes_are_a_job_in_the_manual_only(self, dialect, status):
        async with serve(dialect=dialect) as mock:
            await mock.login()
            assert (await mock.request("PUT", "/licenses/actions", {"reloadLicense": {}}))[0] == status

    async def test_capabilities_are_empty_in_the_manual_only(self, cloud):
        assert await cloud.call("GetLicenseCapabilities") == {}
        async with serve(dialect="server") as mock:
            capabilities = (await mock.call("GetLicenseCapabilities"))["capabilities"]
            assert capabilities == {"hostNum": 10, "cpuNum": 40, "project-management": True}

    @pytest.mark.parametrize("path", ("/licenses", "/licenses/addons"))
    async def test_some_can_be_seen_without_a_session(self, zmock, path):
        assert (await zmock.request("GET", path))[0] == 200


class TestNotifications:
    @pytest.mark.parametrize("query", (True, False), ids=("query", "body"))
    async def test_they_can_be_deleted(self, cloud, query):
        (first, second, *rest) = [row["uuid"] for row in await cloud.query("notifications")]
        path = f"/notifications?uuids={first}&uuids={second}&uuids=x" if query else "/notifications"
        assert await outcome(cloud, "DELETE", path, None if query else {"uuids": [first, second, "x"]}) == (200, {})
        assert [row["uuid"] for row in await cloud.query("notifications")] == rest


HOST, ZONE = named("host-1"), named("zone-1")


CENTOS, VOLUME = named("image-centos7"), named("volume-db-data-1")
OFFERING, IMG, L3, PRIVATE, SPARE = named("offering-small"), CENTOS, named("l3-public"), named("l3-private"), named("volume-spare")
DISK, PS, C1, C2, BS, L2 = named("disk-20g"), named("ps-nfs"), named("cluster-1"), named("cluster-2"), named("bs-1"), named("l2-public")


def switched(type, uuid, event="disable"):
    return (f"Change{type}State", {"uuid": uuid, "stateEvent": event})


REFUSALS = (  # what is done first, the call, its parameters, and the error in the server's words
    (switched("InstanceOffering", OFFERING), "CreateVmInstance", VM,
        f"SYS.1006: instance offering[uuid:{OFFERING}] is Disabled, can't create vm from it"),
    (switched("Image", IMG), "CreateVmInstance", VM, f"SYS.1006: image[uuid:{IMG}] is Disabled, can't create vm from it"),
    (switched("DiskOffering", DISK), "CreateVmInstance", VM | {"dataDiskOfferingUuids": [DISK]},
        f"SYS.1006: disk offerings[uuids:[{DISK}]] are Disabled, can not create vm from it"),
    (switched("L3Network", PRIVATE), "CreateVmInstance", VM, f"SYS.1006: l3Network[uuid:{PRIVATE}] is Disabled, can not create vm on it"),
    (switched("Zone", ZONE), "CreateVmInstance", VM | {"zoneUuid": ZONE},
        f"SYS.1006: zone[uuid:{ZONE}] is specified but it's Disabled, can not create vm from it"),
    (switched("Cluster", C1), "CreateVmInstance", VM | {"clusterUuid": C1},
        f"SYS.1006: cluster[uuid:{C1}] is specified but it's Disabled, can not create vm from it"),
    (switched("Host", HOST), "CreateVmInstance", VM | {"hostUuid": HOST},
        f"SYS.1006: host[uuid:{HOST}] is specified but it's Disabled, can not create vm from it"),
    (None, "CreateVmInstance", VM | {"imageUuid": named("image-debian9")},
        "SYS.1007: rootDiskOfferingUuid cannot be null when image mediaType is ISO"),
    (None, "CreateVmInstance", VM | {"l3NetworkUuids": [L3, PRIVATE]},
        "SYS.1007: there are more than one L3 network specified in l3NetworkUuids, but defaultL3NetworkUuid is null"),
    (None, "CreateVmInstance", VM | {"defaultL3NetworkUuid": L3},
        f"SYS.1007: defaultL3NetworkUuid[uuid:{L3}] is not in l3NetworkUuids[{PRIVATE}]"),
    (None, "CreateVmInstance", VM | {"l3NetworkUuids": [PRIVATE, PRIVATE], "defaultL3NetworkUuid": PRIVATE},
        f"SYS.1006: Can't add same uuid in the l3Network,uuid: {PRIVATE}"),
    (None, "DeleteDataVolume", {"uuid": "ROOT"}, "SYS.1007: volume[uuid:ROOT] is Root volume, can't be deleted"),
    (("DeleteDataVolume", {"uuid": SPARE}), "DeleteDataVolume", {"uuid": SPARE},
        f"SYS.1006: volume[uuid:{SPARE}] is already in status of deleted"),
    (None, "RecoverDataVolume", {"uuid": SPARE},
        f"SYS.1006: the volume[uuid:{SPARE}] is not in status of deleted. This is operation is to recover a deleted data volume"),
    (None, "AttachDataVolumeToVm", {"volumeUuid": VOLUME, "vmInstanceUuid": named("vm-web-1")},
        f"SYS.1006: data volume[uuid:{VOLUME}] has been attached to some vm, can't attach again"),
    (None, "DetachDataVolumeFromVm", {"uuid": SPARE}, f"SYS.1006: data volume[uuid:{SPARE}] is not attached to any vm, can't detach"),
    (None, "DetachDataVolumeFromVm", {"uuid": "ROOT"},
        "SYS.1006: the volume[uuid:ROOT, name:ROOT-for-web-1] is Root Volume, can't detach it"),
    (None, "ChangeVolumeState", {"uuid": "ROOT", "stateEvent": "disable"},
        "SYS.1006: it's not allowed to change state of root volume, uuid:ROOT"),
    (None, "CreateVolumeSnapshot", {"volumeUuid": SPARE},
        f"SYS.1006: volume[uuid:{SPARE}] is not in status Ready, current is NotInstantiated, can't create snapshot"),
    (None, "AddImage", IMAGE | {"url": "mirror/b"},
        "SYS.1007: url must starts with 'file:///', 'http://', 'https://'， 'ftp://', 'sftp://' or '/'"),
    (None, "AddImage", IMAGE | {"format": "zip"}, "SYS.1007: unknown format[zip]"),
    (None, "CreateInstanceOffering", {"cpuNum": 1, "memorySize": 1 << 20},
        "SYS.1007: memory size[1048576 bytes] is less than 16M, no modern operating system is likely able to "
        "boot with such small memory size"),
    (None, "CreateInstanceOffering", {"cpuNum": 1, "memorySize": GIB, "type": "x"}, "SYS.1007: unsupported instance offering type[x]"),
    (None, "CreateInstanceOffering", {"cpuNum": 1, "memorySize": GIB, "allocatorStrategy": "x"},
        "SYS.1007: unsupported host allocation strategy[x]"),
    (None, "AddKVMHost", {"managementIp": "10.10.0.11", "username": "r", "password": "p", "clusterUuid": C1},
        "SYS.1007: there has been a kvm host having management ip[10.10.0.11]"),
    (None, "AddKVMHost", {"managementIp": "10.10.0", "username": "r", "password": "p", "clusterUuid": C1},
        "SYS.1007: managementIp[10.10.0] is neither an IPv4 address nor a valid hostname"),
    (None, "AttachPrimaryStorageToCluster", {"primaryStorageUuid": PS, "clusterUuid": C1},
        f"SYS.1006: primary storage[uuid:{PS}] has been attached to cluster[uuid:{C1}]"),
    (None, "DetachPrimaryStorageFromCluster", {"primaryStorageUuid": named("ps-local"), "clusterUuid": C1},
        f"SYS.1007: primary storage[uuid:{named('ps-local')}] has not been attached to cluster[uuid:{C1}] yet"),
    (None, "DeletePrimaryStorage", {"uuid": named("ps-local")},
        f"SYS.1006: primary storage[uuid:{named('ps-local')}] cannot be deleted for still being attached to cluster[uuid:{C2}]."),
    (None, "AttachBackupStorageToZone", {"backupStorageUuid": BS, "zoneUuid": ZONE},
        f"SYS.1006: backup storage[uuid:{BS}] has been attached to zone[uuid:{ZONE}]"),
    (("DetachBackupStorageFromZone", {"backupStorageUuid": BS, "zoneUuid": ZONE}), "DetachBackupStorageFromZone",
        {"backupStorageUuid": BS, "zoneUuid": ZONE}, f"SYS.1006: backup storage[uuid:{BS}] has not been attached to zone[uuid:{ZONE}]"),
    (None, "AttachL2NetworkToCluster", {"l2NetworkUuid": L2, "clusterUuid": C1},
        f"SYS.1006: l2Network[uuid:{L2}] has attached to cluster[uuid:{C1}], can't attach again"),
    (("DetachL2NetworkFromCluster", {"l2NetworkUuid": L2, "clusterUuid": C1}), "DetachL2NetworkFromCluster",
        {"l2NetworkUuid": L2, "clusterUuid": C1}, f"SYS.1006: l2Network[uuid:{L2}] has not attached to cluster[uuid:{C1}]"),
)  # fmt: skip


@each(("first", "api", "given", "told"), REFUSALS, ids=[f"{row[1]}-{row[3][:40]}" for row in REFUSALS])
async def test_what_is_not_possible_now_is_refused_in_the_servers_words(cloud, first, api, given, told):
    root = (await one(cloud, "volumes", "name=ROOT-for-web-1"))["uuid"]
    given = {"name": "n"} | {key: root if value == "ROOT" else value for key, value in given.items()}
    if first:
        await cloud.call(first[0], **first[1])
    with pytest.raises(RuntimeError) as error:
        await cloud.call(api, **given)
    assert str(error.value) == told.replace("uuid:ROOT", f"uuid:{root}")


@pytest.mark.parametrize(
    ("cidr", "gateway", "start", "end"),
    (("172.20.0.0/29", "172.20.0.1", "172.20.0.2", "172.20.0.6"), ("172.20.3.7/16", "172.20.0.1", "172.20.0.2", "172.20.255.254")),
)
async def test_a_cidr_makes_a_range(cloud, cidr, gateway, start, end):
    l3 = await cloud.create("CreateL3Network", name="l", l2NetworkUuid=L2)
    made = await cloud.create("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3["uuid"], networkCidr=cidr)
    assert (made["gateway"], made["startIp"], made["endIp"]) == (gateway, start, end)
    assert [row["uuid"] for row in (await one(cloud, "l3-networks", "name=l"))["ipRanges"]] == [made["uuid"]]


async def test_dns_servers_come_and_go(cloud):
    assert (await cloud.create("AddDnsToL3Network", l3NetworkUuid=PRIVATE, dns="8.8.8.8"))["dns"] == ["10.10.0.2", "8.8.8.8"]
    assert (await cloud.create("RemoveDnsFromL3Network", l3NetworkUuid=PRIVATE, dns="10.10.0.2"))["dns"] == ["8.8.8.8"]


async def test_space_on_primary_storage_is_taken_and_given_back(cloud):
    async def free():
        return (await one(cloud, "primary-storage", "name=ps-nfs"))["availableCapacity"]

    before = await free()
    volume = await cloud.create("CreateDataVolume", name="v", diskOfferingUuid=DISK, primaryStorageUuid=PS)
    assert (volume["status"], before - await free()) == ("Ready", 20 * GIB)
    await cloud.delete("volumes", volume["uuid"])
    assert before - await free() == 20 * GIB
    await cloud.act("volumes", volume["uuid"], "expungeDataVolume")
    assert await free() == before


async def test_snapshots_grow_as_a_chain_and_a_deleted_one_takes_what_came_after(cloud):
    third = await cloud.create("CreateVolumeSnapshot", name="third", volumeUuid=VOLUME)
    assert (third["parentUuid"], third["latest"]) == (named("snapshot-2"), True)
    assert [row["name"] for row in await cloud.query("volume-snapshots", "latest=true")] == ["third"]
    await cloud.delete("volume-snapshots", named("snapshot-2"))
    assert [(row["name"], row["latest"]) for row in await cloud.query("volume-snapshots")] == [("before-upgrade-1", True)]
    await cloud.delete("volume-snapshots", named("snapshot-1"))
    assert await cloud.query("volume-snapshots/trees") == []


async def test_an_iso_has_the_format_iso_and_a_path_becomes_a_file(cloud):
    image = await cloud.create("AddImage", **IMAGE | {"url": "/a/b", "mediaType": "ISO"})
    assert (image["format"], image["url"]) == ("iso", "file:///a/b")


class TestTheDemoCloud:
    COLLECTIONS = """
        zones clusters hosts primary-storage backup-storage images instance-offerings disk-offerings l2-networks l3-networks
        l3-networks/ip-ranges network-services/providers vm-instances vm-instances/nics volumes volume-snapshots volume-snapshots/trees
        vips eips accounts accounts/users system-tags user-tags notifications gc-jobs longjobs management-nodes
    """.split()

    async def everything(self, mock):
        return {collection: await mock.query(collection) for collection in self.COLLECTIONS}

    async def test_there_is_some_of_everything(self, cloud):
        assert [name for name, items in (await self.everything(cloud)).items() if not items] == []

    async def test_no_uuid_leads_nowhere(self, cloud):
        found = await self.everything(cloud)
        there = {item["uuid"] for items in found.values() for item in items}
        for collection, items in found.items():
            for key, value in itertools.chain.from_iterable(item.items() for item in items):
                if re.search("Uuids?$", key):
                    assert {*(value if isinstance(value, list) else [value])} <= there, f"{collection}: {key}"

    async def test_a_host_has_what_does_not_run_on_it(self, cloud):
        for host in await cloud.query("hosts"):
            vms = await cloud.query("vm-instances", f"hostUuid={host['uuid']}")
            assert host["totalCpuCapacity"] - host["availableCpuCapacity"] == sum(vm["cpuNum"] for vm in vms)
            assert host["totalMemoryCapacity"] - host["availableMemoryCapacity"] == sum(vm["memorySize"] for vm in vms)

    async def test_a_storage_has_what_nothing_on_it_takes(self, cloud):
        for storage in await cloud.query("primary-storage"):
            there = [await cloud.query(collection, f"primaryStorageUuid={storage['uuid']}") for collection in ("volumes", "volume-snapshots", "primary-storage/imagecache")]
            assert storage["totalCapacity"] - storage["availableCapacity"] == sum(item["size"] for item in itertools.chain(*there))

    async def test_an_address_is_from_the_range_of_its_network(self, cloud):
        for nic in await cloud.query("vm-instances/nics", "ip not null"):
            (ip_range,) = await cloud.query("l3-networks/ip-ranges", f"l3NetworkUuid={nic['l3NetworkUuid']}")
            assert (nic["gateway"], nic["netmask"]) == (ip_range["gateway"], ip_range["netmask"])

    async def test_nothing_happened_in_the_future_or_before_it_began(self, cloud):
        now = datetime.strptime(cloud.clock.stamp(), "%Y-%m-%d %H:%M:%S")
        for collection, items in (await self.everything(cloud)).items():
            for item in items:
                dates = [datetime.strptime(item[key], "%b %d, %Y %I:%M:%S %p") for key in ("createDate", "lastOpDate") if key in item]
                assert dates == sorted(dates) and all(date <= now for date in dates), f"{collection}: {item}"

    async def test_a_vm_is_younger_than_what_it_is_made_of(self, cloud):
        def created(item):
            return datetime.strptime(item["createDate"], "%b %d, %Y %I:%M:%S %p")

        parts = {item["uuid"]: item for c in ("images", "hosts", "instance-offerings", "l3-networks") for item in await cloud.query(c)}
        for vm in await cloud.query("vm-instances"):
            for key in ("imageUuid", "instanceOfferingUuid", "lastHostUuid", "defaultL3NetworkUuid"):
                assert key not in vm or created(parts[vm[key]]) < created(vm), f"{key} of {vm['name']}"

    async def test_two_mocks_have_the_same_cloud(self, cloud):
        async with serve(seed=99) as other:
            one, two = await self.everything(cloud), await self.everything(other)
        for collection in ("zones", "clusters", "hosts", "images", "vm-instances", "l3-networks", "longjobs"):
            assert [item["uuid"] for item in one[collection]] == [item["uuid"] for item in two[collection]]
        assert {vm["uuid"] for vm in one["vm-instances"]} >= {named("vm-web-1"), named("vm-db-1")}

    async def test_the_same_seed_has_the_same_everything(self, cloud):
        async with serve() as other:
            one, two = await self.everything(cloud), await self.everything(other)
        assert [item["uuid"] for items in one.values() for item in items] == [item["uuid"] for items in two.values() for item in items]

    async def test_it_has_vms_in_the_states_that_a_client_has_to_draw(self, cloud):
        assert {vm["state"] for vm in await cloud.query("vm-instances")} == {"Running", "Stopped", "Paused", "Destroyed", "Unknown"}


def test_every_code_has_a_description():
    assert all(re.fullmatch(r"[A-Z0-9_.]+\.\d{4}", code) and text for code, text in catalogue().errors.items())


# what happens meanwhile

AWAY = f"/hosts/{named('host-2')}"
MAINTAIN, DELETE_HOST = ("PUT", f"{AWAY}/actions", {"changeHostState": {"stateEvent": "maintain"}}), ("DELETE", AWAY, None)


@pytest.mark.parametrize("meanwhile", (MAINTAIN, DELETE_HOST), ids=("maintenance", "deletion"))
@pytest.mark.parametrize("action", ("stopVmInstance", "pauseVmInstance", "rebootVmInstance", "migrateVm"))
async def test_a_host_that_goes_while_a_vm_is_under_way_leaves_no_trace_in_the_capacities(action, meanwhile):
    async with serve(delay="3") as mock:
        await mock.login()
        mock.rule(api=action[0].upper() + action[1:], delay=10)
        await submit(mock, "PUT", f"/vm-instances/{named('vm-web-2')}/actions", {action: {}})
        await submit(mock, *meanwhile)
        await mock.advance(60)
        vms = await mock.query("vm-instances")
        for host in await mock.query("hosts"):
            here = [vm for vm in vms if vm.get("hostUuid") == host["uuid"]]
            assert host["totalCpuCapacity"] - host["availableCpuCapacity"] == sum(vm["cpuNum"] for vm in here)
        assert not [vm for vm in vms if vm["state"] in ("Running", "Paused") and "hostUuid" not in vm]




