"""Virtual machines: what is allowed in which state, the whole life of one, routers and VPC; tables and stories, over HTTP."""

import pytest
from asking import each, failure, one

from zmock import named, serve, used_capacity

WEB, CI, PRIVATE, PUBLIC, GIB = (*map(named, ("vm-web-1", "vm-ci-1", "l3-private", "l3-public")), 1 << 30)
VM = {"instanceOfferingUuid": named("offering-small"), "imageUuid": named("image-centos7"), "l3NetworkUuids": [PRIVATE]}
ROUTER = {"zoneUuid": named("zone-1"), "managementNetworkUuid": PUBLIC, "imageUuid": named("image-centos7"), "cpuNum": 1, "memorySize": GIB}
STATES = ("Created Starting Running Stopping Stopped Rebooting Destroying Destroyed Migrating Expunging Pausing Paused Resuming VolumeMigrating Error "
          "Unknown").split()  # fmt: skip


# states: the api, what it is given besides the vm, where it is allowed

ALLOWED = (
    ("StartVmInstance", {}, "Created|Stopped"),
    ("StopVmInstance", {}, "Running|Stopped|Unknown|Paused"),
    ("RebootVmInstance", {}, "Running"),
    ("PauseVmInstance", {}, "Running"),
    ("ResumeVmInstance", {}, "Paused"),
    ("MigrateVm", {}, "Running|Paused"),
    ("RecoverVmInstance", {}, "Destroyed"),
    ("ExpungeVmInstance", {}, "Destroyed"),
    ("ChangeVmImage", {"imageUuid": named("image-ubuntu1804")}, "Stopped"),
    ("ChangeVmPassword", {"account": "root", "password": "s3"}, "Running"),
    ("CloneVmInstance", {"names": ["c"]}, "Running|Stopped|Paused"),
    ("AttachIsoToVmInstance", {"isoUuid": named("image-debian9")}, "Running|Stopped|Paused"),
    ("DetachIsoFromVmInstance", {}, "Running|Stopped|Paused"),
    ("SetVmStaticIp", {"l3NetworkUuid": PRIVATE, "ip": "192.168.100.99"}, "Stopped"),
    ("UpdateVmNicMac", {"mac": "fa:00:00:00:00:01"}, "Stopped"),
    ("GetVmStartingCandidateClustersHosts", {}, "Stopped"),
    ("GetVmMigrationCandidateHosts", {}, "Running|Paused"),
    ("DestroyVmInstance", {}, "|".join(STATES)),
)  # fmt: skip


WRAPPED = {  # the error that VM.1010 is the cause of
    "StartVmInstance": "VM.1001", "StopVmInstance": "VM.1002", "RebootVmInstance": "VM.1003", "PauseVmInstance": "VM.1012", "ResumeVmInstance": "VM.1013",
    "MigrateVm": "VM.1008", "GetVmMigrationCandidateHosts": "VM.1008",
    **dict.fromkeys(("RecoverVmInstance", "ExpungeVmInstance", "AttachIsoToVmInstance", "DetachIsoFromVmInstance", "SetVmStaticIp",
                     "GetVmStartingCandidateClustersHosts"), "SYS.1006"),
}  # fmt: skip


@each("state", STATES)
@each(("api", "given", "allowed"), ALLOWED, ids=[row[0] for row in ALLOWED])
async def test_each_state_allows_some_calls_and_says_of_the_others_where_they_are_allowed(cloud, api, given, allowed, state):
    mock = cloud.cloud
    mock.change("VmInstance", WEB, state=state, hostUuid=None if state in ("Created", "Stopped", "Destroyed") else named("host-1"))
    nic = mock.find("VmNic", "vmInstanceUuid", WEB)[0]["uuid"]
    target = mock.catalogue.apis[api].target.name
    given = given | {target: nic if target == "vmNicUuid" else WEB}
    if state in allowed.split("|"):
        await cloud.call(api, **given)
        return
    told = await failure(cloud, api, **given)
    assert told.startswith(f"{WRAPPED.get(api, 'VM.1010')}: ")
    message = "GetVmStartingCandidateClustersHostsMsg" if "Starting" in api else f"API{api}Msg"
    assert f"current vm instance state[{state}] doesn't allow to proceed message[org.zstack.header.vm.{message}]" in told
    assert told.endswith(f"allowed states are [{allowed.replace('|', ', ')}]")
    assert mock.get("VmInstance", WEB)["state"] == state


# the life of one


async def test_a_virtual_machine_lives_is_cloned_changed_destroyed_recovered_and_gone(cloud):
    vm = await cloud.create("CreateVmInstance", name="app", dataDiskOfferingUuids=[named("disk-20g"), named("disk-20g")], **VM)
    assert [(v["type"], v["deviceId"]) for v in vm["allVolumes"]] == [("Root", 0), ("Data", 1), ("Data", 2)]
    result = (await cloud.call("CloneVmInstance", vmInstanceUuid=vm["uuid"], names=["app-2", "app-3"], full=True))["result"]
    assert (result["numberOfClonedVm"], [one["started"] for one in result["inventories"]]) == (2, [True, True])
    twin = result["inventories"][0]["inventory"]
    assert (twin["name"], twin["state"], twin["imageUuid"], twin["cpuNum"], len(twin["allVolumes"])) == ("app-2", "Running", vm["imageUuid"], 1, 3)
    assert not {twin["vmNics"][0]["ip"], twin["vmNics"][0]["mac"]} & {vm["vmNics"][0]["ip"], vm["vmNics"][0]["mac"]}
    assert [v["name"] for v in twin["allVolumes"]] == ["ROOT-for-app-2", "DATA-for-app-2", "DATA-for-app-2"]

    await cloud.act("vm-instances", vm["uuid"], "stopVmInstance")
    bigger = await cloud.create("ChangeInstanceOffering", vmInstanceUuid=vm["uuid"], instanceOfferingUuid=named("offering-medium"))
    assert (bigger["instanceOfferingUuid"], bigger["cpuNum"], bigger["memorySize"]) == (named("offering-medium"), 2, 4 * GIB)
    other = await cloud.create("ChangeVmImage", vmInstanceUuid=vm["uuid"], imageUuid=named("image-windows2016"))
    assert (other["imageUuid"], other["platform"]) == (named("image-windows2016"), "Windows")
    assert other["rootVolumeUuid"] != vm["rootVolumeUuid"] and len(other["allVolumes"]) == 3
    assert (await one(cloud, "volumes", f"uuid={other['rootVolumeUuid']}"))["rootImageUuid"] == named("image-windows2016")
    assert await cloud.query("volumes", f"uuid={vm['rootVolumeUuid']}") == []

    assert (await cloud.act("vm-instances", vm["uuid"], "startVmInstance"))["state"] == "Running"
    await cloud.delete("vm-instances", vm["uuid"])
    gone = await one(cloud, "vm-instances", f"uuid={vm['uuid']}")
    assert (gone["state"], [v["type"] for v in gone["allVolumes"]]) == ("Destroyed", ["Root"])
    assert (await cloud.act("vm-instances", vm["uuid"], "recoverVmInstance"))["state"] == "Stopped"
    await cloud.delete("vm-instances", vm["uuid"])
    await cloud.act("vm-instances", vm["uuid"], "expungeVmInstance")
    assert await cloud.query("vm-instances", f"uuid={vm['uuid']}") == await cloud.query("volumes", f"uuid={other['rootVolumeUuid']}") == []


async def test_clones_fail_or_succeed_each_by_itself_and_leave_nothing_where_they_fail(cloud):
    (root,) = [v for v in (await one(cloud, "vm-instances", "name=web-1"))["allVolumes"] if v["type"] == "Root"]
    used = used_capacity(cloud.cloud, {"uuid": root["primaryStorageUuid"]})
    reserved = 1 << 30
    cloud.cloud.change("PrimaryStorage", root["primaryStorageUuid"], availableCapacity=used + root["size"] + reserved)
    result = (await cloud.call("CloneVmInstance", vmInstanceUuid=WEB, names=["first", "second"]))["result"]
    assert result["numberOfClonedVm"] == 1
    assert [one.get("inventory", {}).get("name") or one["error"]["code"] for one in result["inventories"]] == ["first", "SYS.1006"]
    assert await cloud.query("vm-instances", "name=second") == await cloud.query("volumes", "name=ROOT-for-second") == []


async def test_clones_count_for_the_quota_of_who_has_them_made(cloud):
    ann = await cloud.create("CreateAccount", name="ann", password="p")
    vm = await cloud.create("CreateVmInstance", name="n", **VM)
    for uuid in (vm["uuid"], PRIVATE, VM["imageUuid"], VM["instanceOfferingUuid"]):
        await cloud.call("ChangeResourceOwner", accountUuid=ann["uuid"], resourceUuid=uuid)
    await cloud.call("UpdateQuota", identityUuid=ann["uuid"], name="vm.totalNum", value=3)
    await cloud.call("UpdateQuota", identityUuid=ann["uuid"], name="vm.cpuNum", value=2)
    cloud.session = (await cloud.request("PUT", "/accounts/login", {"logInByAccount": {"accountName": "ann", "password": "p"}}))[1]["inventory"]["uuid"]
    assert "quota[name: vm.totalNum, value: 3], Current used:1, Request:3" in await failure(cloud, "CloneVmInstance", vmInstanceUuid=vm["uuid"], names=["a", "b", "c"])
    clones = (await cloud.call("CloneVmInstance", vmInstanceUuid=vm["uuid"], names=["a", "b"]))["result"]["inventories"]
    assert [one["started"] for one in clones] == [True, False] and "quota[name: vm.cpuNum, value: 2]" in clones[1]["error"]["details"]


async def test_a_clone_that_is_only_created_starts_later_with_the_volume_that_it_has(cloud):
    result = (await cloud.call("CloneVmInstance", vmInstanceUuid=CI, names=["later"], strategy="JustCreate"))["result"]["inventories"][0]
    assert (result["started"], result["inventory"]["state"], "hostUuid" in result["inventory"]) == (False, "Created", False)
    started = await cloud.act("vm-instances", result["inventory"]["uuid"], "startVmInstance")
    assert (started["state"], started["rootVolumeUuid"]) == ("Running", result["inventory"]["rootVolumeUuid"])


# offerings


async def left(mock, host="host-1"):
    host = await one(mock, "hosts", f"name={host}")
    return host["availableCpuCapacity"], host["availableMemoryCapacity"]


async def test_an_offering_that_is_changed_while_the_vm_runs_takes_from_its_host(cloud):
    await cloud.call("UpdateGlobalConfig", category="vm", name="numa", value="true")
    cpus, memory = await left(cloud)
    await cloud.create("ChangeInstanceOffering", vmInstanceUuid=WEB, instanceOfferingUuid=named("offering-medium"))
    assert await left(cloud) == (cpus - 1, memory - 3 * GIB)
    told = await failure(cloud, "ChangeInstanceOffering", vmInstanceUuid=WEB, instanceOfferingUuid=named("offering-small"))
    assert told == f"SYS.1007: can't decrease capacity when vm[uuid:{WEB}] is running"
    huge = await cloud.create("CreateInstanceOffering", name="huge", cpuNum=1000, memorySize=GIB << 3)
    assert "capacity is not enough to offer cpu[998], memory[4294967296 bytes]" in await failure(cloud, "ChangeInstanceOffering", vmInstanceUuid=WEB, instanceOfferingUuid=huge["uuid"])
    assert await left(cloud) == (cpus - 1, memory - 3 * GIB)
    assert (await one(cloud, "vm-instances", "name=web-1"))["instanceOfferingUuid"] == named("offering-medium")


# nics


async def test_the_bandwidth_of_a_nic_is_limited_each_way_and_told(cloud):
    nic = (await one(cloud, "vm-instances/nics", "vmInstance.name=web-1"))["uuid"]
    asked = [{"outboundBandwidth": 8192}, {"inboundBandwidth": 9000}, {"outboundBandwidth": 10000}]
    for given in asked:
        await cloud.call("SetNicQos", uuid=nic, **given)
    assert await cloud.call("GetNicQos", uuid=nic) == {"outboundBandwidth": 10000, "inboundBandwidth": 9000}
    await cloud.call("DeleteNicQos", uuid=nic, direction="out")
    assert await cloud.call("GetNicQos", uuid=nic) == {"outboundBandwidth": -1, "inboundBandwidth": 9000}
    assert (await failure(cloud, "SetNicQos", uuid=nic)).startswith("SYS.1007: either inboundBandwidth")


async def test_a_mac_is_changed_to_one_that_no_other_nic_of_the_network_has(cloud):
    mine, other = [await one(cloud, "vm-instances/nics", f"vmInstance.name={vm}") for vm in ("ci-1", "ci-2")]
    assert (await cloud.create("UpdateVmNicMac", vmNicUuid=mine["uuid"], mac="fa:00:00:00:00:01"))["mac"] == "fa:00:00:00:00:01"
    assert "is used by another nic" in await failure(cloud, "UpdateVmNicMac", vmNicUuid=mine["uuid"], mac=other["mac"])
    assert await failure(cloud, "UpdateVmNicMac", vmNicUuid=mine["uuid"], mac="fa:00") == "SYS.1007: fa:00 is not a valid mac address"


async def test_a_fixed_address_is_the_one_that_a_new_nic_gets(cloud):
    vm = await cloud.create("CreateVmInstance", name="n", strategy="JustCreate", **VM)
    await cloud.create("CreateSystemTag", resourceType="VmInstanceVO", resourceUuid=vm["uuid"], tag=f"staticIp::{PRIVATE}::192.168.100.77")
    assert (await cloud.act("vm-instances", vm["uuid"], "startVmInstance"))["vmNics"][0]["ip"] == "192.168.100.77"


# what is told


async def test_the_guest_agent_is_a_switch(cloud):
    for enable in (True, True, False):
        await cloud.call("SetVmQga", uuid=WEB, enable=enable)
        assert await cloud.call("GetVmQga", uuid=WEB) == {"enable": enable}


@pytest.mark.parametrize(("type", "told"), (
    ("NFS", {"LiveMigration": True, "VolumeMigration": False, "Reimage": True}),
    ("LocalStorage", {"LiveMigration": False, "VolumeMigration": True, "Reimage": True}),
))  # fmt: skip
async def test_what_a_vm_can_do_depends_on_where_its_root_volume_is(cloud, type, told):
    root = await one(cloud, "volumes", "vmInstance.name=web-1", "type=Root")
    cloud.cloud.change("PrimaryStorage", root["primaryStorageUuid"], type=type)
    assert (await cloud.call("GetVmCapabilities", uuid=WEB))["capabilities"] == told


async def names(mock, api, member="inventories", **given):
    return sorted(row["name"] for row in (await mock.call(api, **given))[member])


async def test_candidates_for_a_new_vm_have_room_and_its_networks(cloud):
    asked = "GetCandidateZonesClustersHostsForCreatingVm"
    assert [await names(cloud, asked, member, **VM) for member in ("zones", "clusters", "hosts")] == [
        ["zone-1"], ["cluster-1", "cluster-2"], ["host-1", "host-2", "host-3"]
    ]  # fmt: skip
    assert await names(cloud, asked, "hosts", **VM, clusterUuid=named("cluster-2")) == ["host-3"]
    huge = await cloud.create("CreateInstanceOffering", name="huge", cpuNum=1000, memorySize=GIB)
    assert await names(cloud, asked, "hosts", **VM | {"instanceOfferingUuid": huge["uuid"]}) == []
    await cloud.delete(f"l2-networks/{named('l2-private')}/clusters", named("cluster-1"))
    assert await names(cloud, asked, "clusters", **VM) == ["cluster-2"]


async def test_candidates_for_the_volumes_of_a_new_vm_have_room_for_each(cloud):
    given = {"imageUuid": VM["imageUuid"], "l3NetworkUuids": [PRIVATE], "dataDiskOfferingUuids": [named("disk-100g")]}
    body = await cloud.call("GetCandidatePrimaryStoragesForCreatingVm", **given)
    assert sorted(ps["name"] for ps in body["rootVolumePrimaryStorages"]) == ["ps-local", "ps-nfs"]
    used = used_capacity(cloud.cloud, {"uuid": named("ps-nfs")})
    cloud.cloud.change("PrimaryStorage", named("ps-nfs"), availableCapacity=used + 50 * GIB)
    body = await cloud.call("GetCandidatePrimaryStoragesForCreatingVm", **given)
    assert [ps["name"] for ps in body["dataVolumePrimaryStorages"][named("disk-100g")]] == ["ps-local"]
    told = await failure(cloud, "GetCandidatePrimaryStoragesForCreatingVm", **given | {"imageUuid": named("image-debian9")})
    assert told == "SYS.1007: rootVolumeOffering is needed when image media type is ISO"


async def test_candidates_for_a_vm_that_is_there(cloud):
    assert await names(cloud, "GetVmStartingCandidateClustersHosts", "hosts", uuid=CI) == ["host-1", "host-2", "host-3"]
    assert await names(cloud, "GetVmMigrationCandidateHosts", vmInstanceUuid=WEB) == ["host-2", "host-3"]
    assert await names(cloud, "GetImageCandidatesForVmToChange", vmInstanceUuid=CI) == ["image-centos7", "image-ubuntu1804", "image-windows2016"]
    assert await names(cloud, "GetPrimaryStorageCandidatesForVmMigration", vmInstanceUuid=named("vm-web-3")) == ["ps-local"]
    for vm, devices in ((WEB, [named("gpu-1"), named("usb-key-1")]), (named("vm-web-2"), [])):  # those of its host
        answers = [await cloud.call(f"Get{kind}DeviceCandidatesForAttachingVm", vmInstanceUuid=vm) for kind in ("Pci", "Usb")]
        assert [device["uuid"] for answer in answers for device in answer["inventories"]] == devices


# routers


async def test_a_vpc_router_has_networks_dns_and_distributed_routing(cloud):
    offering = await cloud.create("CreateVirtualRouterOffering", name="o", **ROUTER)
    router = await cloud.create("CreateVpcVRouter", name="vpc", virtualRouterOfferingUuid=offering["uuid"])
    assert (router["state"], router["type"], [nic["metaData"] for nic in router["vmNics"]]) == ("Running", "ApplianceVm", ["3"])
    assert len(await cloud.query("volumes", f"vmInstanceUuid={router['uuid']}")) == 1
    l3 = await cloud.create("CreateL3Network", name="vpc-net", l2NetworkUuid=named("l2-private"), type="L3VpcNetwork")
    await cloud.create("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3["uuid"], networkCidr="172.20.0.0/24")
    assert await names(cloud, "GetAttachableVpcL3Network", uuid=router["uuid"]) == ["vpc-net"]
    attached = await cloud.create("AttachL3NetworkToVm", vmInstanceUuid=router["uuid"], l3NetworkUuid=l3["uuid"])
    assert [(nic["ip"], nic["metaData"]) for nic in attached["vmNics"][1:]] == [("172.20.0.1", "4")]
    assert await names(cloud, "GetAttachableVpcL3Network", uuid=router["uuid"]) == []
    assert await names(cloud, "GetAttachablePublicL3ForVRouter", vmInstanceUuid=router["uuid"]) == []

    for dns in ("8.8.8.8", "1.1.1.1"):
        shown = await cloud.create("AddDnsToVpcRouter", uuid=router["uuid"], dns=dns)
    assert [row["dns"] for row in shown["dns"]] == ["8.8.8.8", "1.1.1.1"]
    assert "there has been a DNS" in await failure(cloud, "AddDnsToVpcRouter", uuid=router["uuid"], dns="8.8.8.8")
    assert [row["dns"] for row in (await cloud.create("RemoveDnsFromVpcRouter", uuid=router["uuid"], dns="8.8.8.8"))["dns"]] == ["1.1.1.1"]
    assert (await one(cloud, "vpc/virtual-routers", "name=vpc"))["applianceVmType"] == "vpcvrouter"

    assert await cloud.call("GetVpcVRouterDistributedRoutingEnabled", uuid=router["uuid"]) == {"enabled": False}
    for event, enabled in (("enable", True), ("disable", False)):
        assert await cloud.call("SetVpcVRouterDistributedRoutingEnabled", uuid=router["uuid"], stateEvent=event) == {"enabled": enabled}
        assert await cloud.call("GetVpcVRouterDistributedRoutingEnabled", uuid=router["uuid"]) == {"enabled": enabled}
    assert await cloud.call("GetVpcVRouterDistributedRoutingConnections", uuid=router["uuid"]) == {"inventories": {}}
    told = await failure(cloud, "AddDnsToVpcRouter", uuid=WEB, dns="8.8.4.4")
    assert told.startswith("SYS.1003")


async def test_a_router_is_seen_on_its_way_and_a_failure_leaves_nothing_of_it(cloud):
    offering = await cloud.create("CreateVirtualRouterOffering", name="o", **ROUTER | {"cpuNum": 1000})
    before = [len(await cloud.query(collection)) for collection in ("vm-instances", "vm-instances/nics", "volumes")]
    assert (await failure(cloud, "CreateVpcVRouter", name="vpc", virtualRouterOfferingUuid=offering["uuid"])).startswith("HOST_ALLOCATION.1000")
    assert [len(await cloud.query(collection)) for collection in ("vm-instances", "vm-instances/nics", "volumes")] == before


async def test_a_router_that_is_removed_while_it_reconnects_fails_the_job():
    async with serve(delay="10") as mock:
        await mock.login()
        offering = await mock.create("CreateVirtualRouterOffering", name="o", **ROUTER)
        router = (await mock.create("CreateVpcVRouter", name="vpc", virtualRouterOfferingUuid=offering["uuid"]))["uuid"]
        _, answer = await mock.request("PUT", f"/vm-instances/appliances/virtual-routers/{router}/actions", {"reconnectVirtualRouter": {}})
        mock.cloud.remove("VmInstance", router)
        await mock.advance(10)
        status, body = await mock.request("GET", f"/api-jobs/{answer['location'][-32:]}")
        assert (status, body["error"]["code"]) == (503, "SYS.1003")


async def test_of_two_that_migrate_at_once_to_where_there_is_room_for_one_the_other_stays_where_it_was():
    async with serve(delay="10") as mock:
        await mock.login()
        used = sum(vm["memorySize"] for vm in mock.cloud.find("VmInstance", "hostUuid", named("host-2")))
        mock.cloud.change("Host", named("host-2"), totalMemoryCapacity=used + 9 * GIB, availableMemoryCapacity=9 * GIB)
        there = {"migrateVm": {"hostUuid": named("host-2")}}
        jobs = [(await mock.request("PUT", f"/vm-instances/{named(vm)}/actions", there))[1]["location"][-32:] for vm in ("vm-db-1", "vm-web-1")]
        await mock.advance(10)
        first, second = [await mock.request("GET", f"/api-jobs/{job}") for job in jobs]
        assert first[1]["inventory"]["hostUuid"] == named("host-2")
        assert "no enough memory" in second[1]["error"]["details"]
        assert [(vm["state"], vm["hostUuid"]) for vm in await mock.query("vm-instances", "name=web-1")] == [("Running", named("host-1"))]


async def test_a_clone_shows_its_progress_and_ends_when_its_time_has_come():
    async with serve(delay="10") as mock:
        await mock.login()
        _, answer = await mock.request("PUT", f"/vm-instances/{WEB}/actions", {"cloneVmInstance": {"names": ["c"]}})
        job = answer["location"][-32:]
        await mock.advance(6)
        assert (await mock.request("GET", f"/task-progresses/{job}"))[1]["inventories"][-1]["content"] == "Start the clones"
        await mock.advance(4)
        status, body = await mock.request("GET", f"/api-jobs/{job}")
        assert (status, body["result"]["numberOfClonedVm"]) == (200, 1)


async def test_a_vm_that_is_reimaged_has_a_snapshot_more_once_that_is_done(cloud):
    vm = await cloud.act("vm-instances", WEB, "stopVmInstance")
    cloud.rule(api="ReimageVmInstance", delay=10, times=1)
    await cloud.request("PUT", f"/vm-instances/{WEB}/actions", {"reimageVmInstance": {}})
    for seconds, names in ((9, []), (1, ["reimage-vm-point"])):
        await cloud.advance(seconds)
        assert [snapshot["name"] for snapshot in await cloud.query("volume-snapshots", f"volumeUuid={vm['rootVolumeUuid']}")] == names
