"""Stories of the hybrid cloud and of Aliyun NAS, as a client lives them over HTTP, in both dialects. See tests/test_stories.py."""

import pytest
from facts import state_of
from test_stories import CENTOS, PRIVATE, SMALL, Client

from zmock import named, serve

NOBODY = named("nobody")


@pytest.fixture(params=["manual", "server"])
async def client(request):
    async with serve(dialect=request.param, delay=0) as mock:
        await mock.login()
        yield Client(mock)


async def data_centre(client, region="cn-hangzhou"):
    return (await client.call("AddDataCenterFromRemote", regionId=region, type="aliyun"))["uuid"]


async def network(client):
    """Add a key, a data centre and a network in it: what there is, by name."""
    await client.call("AddHybridKeySecret", name="k", key="AK", secret="s", type="aliyun")
    dc = await data_centre(client)
    zone = (await client.call("AddIdentityZoneFromRemote", dataCenterUuid=dc, type="aliyun", zoneId="cn-hangzhou-b"))["uuid"]
    vpc = (await client.call("CreateEcsVpcRemote", dataCenterUuid=dc, cidrBlock="10.0.0.0/8", name="v", vRouterName="router"))["uuid"]
    switch = (await client.call("CreateEcsVSwitchRemote", vpcUuid=vpc, identityZoneUuid=zone, cidrBlock="10.1.0.0/24", name="sw"))["uuid"]
    group = (await client.call("CreateEcsSecurityGroupRemote", vpcUuid=vpc, name="g", strategy="basic"))["uuid"]
    return {"dc": dc, "zone": zone, "vpc": vpc, "switch": switch, "group": group}


async def instance(client, net, **params):
    image = (await client.call("SyncEcsImageFromRemote", dataCenterUuid=net["dc"], type="system"))["inventories"][0]["uuid"]
    given = {"name": "e", "ecsRootPassword": "Password1", "instanceType": "ecs.n4.large"} | params
    return await client.call("CreateEcsInstanceFromEcsImage", ecsImageUuid=image, ecsVSwitchUuid=net["switch"], ecsSecurityGroupUuid=net["group"], **given)


async def listed(client, api, **params):
    return [item["uuid"] for item in (await client.call(api, **params))["inventories"]]


async def test_from_a_key_to_an_instance_with_a_disk_and_an_eip_and_back_to_nothing(client):
    await client.fails("HYBRID.1002: no aliyun account found for accountUuid: *", "GetDataCenterFromRemote", type="aliyun")
    key = await client.call("AddHybridKeySecret", name="k", key="AK", secret="s", type="aliyun")
    assert (key["akey"], key["current"], "secret" in key) == ("AK", "true", False)
    regions = (await client.call("GetDataCenterFromRemote", type="aliyun"))["inventories"]
    dc = await client.call("AddDataCenterFromRemote", regionId=regions[0]["regionId"], type="aliyun")
    assert (dc["regionName"], dc["dcType"]) == (regions[0]["regionName"], "aliyun")
    zones = [zone["zoneId"] for zone in (await client.call("GetIdentityZoneFromRemote", type="aliyun", dataCenterUuid=dc["uuid"]))["inventories"]]
    assert zones == ["cn-beijing-a", "cn-beijing-b"]
    zone = await client.call("AddIdentityZoneFromRemote", dataCenterUuid=dc["uuid"], type="aliyun", zoneId=zones[1])
    vpc = await client.call("CreateEcsVpcRemote", dataCenterUuid=dc["uuid"], cidrBlock="10.0.0.0/8", name="v", vRouterName="router")
    (router,) = (await client.call("SyncAliyunVirtualRouterFromRemote", vpcUuid=vpc["uuid"]))["inventories"]
    assert vpc["ecsVpcId"] == f"vpc-{vpc['uuid']}" and (router["vrId"], router["name"]) == (vpc["vRouterId"], "router")
    switch = await client.call("CreateEcsVSwitchRemote", vpcUuid=vpc["uuid"], identityZoneUuid=zone["uuid"], cidrBlock="10.1.0.0/24", name="sw")
    group = await client.call("CreateEcsSecurityGroupRemote", vpcUuid=vpc["uuid"], name="g", strategy="all")
    rules = (await client.call("SyncEcsSecurityGroupRuleFromRemote", uuid=group["uuid"]))["inventories"]
    assert sorted(rule["direction"] for rule in rules) == ["egress", "ingress"]

    # an image of this cloud, through a bucket
    local = {"imageUuid": CENTOS, "dataCenterUuid": dc["uuid"], "name": "centos"}
    await client.fails(f"ALIYUN.1010: no ossbucket attached to the datacenter: {dc['uuid']}", "CreateEcsImageFromLocalImage", **local)
    bucket = await client.call("CreateOssBucketRemote", dataCenterUuid=dc["uuid"], bucketName="images")
    assert (await client.call("AttachOssBucketToEcsDataCenter", ossBucketUuid=bucket["uuid"]))["current"] == "true"
    image = await client.call("CreateEcsImageFromLocalImage", **local)
    assert (image["type"], image["platform"], image["ecsImageSize"]) == ("self", "Linux", 10 << 30)
    assert (await client.call("GetCreateEcsImageProgress", imageUuid=CENTOS, dataCenterUuid=dc["uuid"]))["progress"]["progress"] == "100%"

    # the instance
    ecs = await client.call("CreateEcsInstanceFromEcsImage", name="e", ecsImageUuid=image["uuid"], ecsVSwitchUuid=switch["uuid"], ecsSecurityGroupUuid=group["uuid"],
        ecsRootPassword="Password1", instanceOfferingUuid=SMALL, ecsRootVolumeGBSize=50)  # fmt: skip
    assert (ecs["ecsStatus"], ecs["privateIpAddress"], ecs["cpuCores"], ecs["memorySize"]) == ("Running", "10.1.0.1", 1, 1 << 30)
    assert "publicIpAddress" not in ecs and ecs["ecsInstanceId"] == f"i-{ecs['uuid']}"
    vnc = await client.call("GetEcsInstanceVncUrl", uuid=ecs["uuid"])
    assert vnc["ecsId"] == ecs["ecsInstanceId"] and vnc["vncUrl"].endswith(ecs["ecsInstanceId"])
    disk = await client.call("CreateAliyunDiskFromRemote", identityUuid=zone["uuid"], name="data", sizeWithGB=20)
    attached = await client.call("AttachAliyunDiskToEcs", diskUuid=disk["uuid"], ecsUuid=ecs["uuid"])
    assert (disk["status"], attached["status"], attached["ecsInstanceUuid"]) == ("Available", "InUse", ecs["uuid"])
    (root,) = {*await listed(client, "SyncDiskFromAliyunFromRemote", identityUuid=zone["uuid"])} - {disk["uuid"]}
    shown = await client.look("hybrid/aliyun/disk", root)
    assert (shown["diskType"], shown["sizeWithGB"], shown["diskId"]) == ("system", 50, ecs["ecsRootVolumeId"])
    assert await listed(client, "SyncDiskFromAliyunFromRemote", identityUuid=zone["uuid"], diskId=disk["diskId"]) == [disk["uuid"]]
    snapshot = await client.call("CreateAliyunSnapshotRemote", diskUuid=disk["uuid"], name="s1")
    eip = await client.call("CreateHybridEip", name="ip", bandWidthMb=5, type="aliyun", dataCenterUuid=dc["uuid"], chargeType="PayByTraffic")
    assert (eip["eipAddress"], eip["bandWidth"], eip["status"]) == ("203.0.113.1", "5", "Available")
    eip = await client.call("AttachHybridEipToEcs", eipUuid=eip["uuid"], ecsUuid=ecs["uuid"], type="aliyun")
    assert (eip["status"], eip["allocateResourceUuid"]) == ("InUse", ecs["uuid"])
    (synced,) = (await client.call("SyncEcsInstanceFromRemote", dataCenterUuid=dc["uuid"]))["inventories"]
    assert synced["publicIpAddress"] == eip["eipAddress"]

    # stopped, and deleted with its root disk; the other disk and the EIP are free again
    await client.call("StopEcsInstance", uuid=ecs["uuid"])
    assert (await client.look("hybrid/aliyun/ecs", ecs["uuid"]))["ecsStatus"] == "Stopped"
    await client.fails(f"ALIYUN.1019: ecs [{ecs['uuid']}] is Stopped now, cannot reboot it", "RebootEcsInstance", uuid=ecs["uuid"])
    await client.fails(f"SYS.1006: ecs [{ecs['uuid']}] existed, cannot delete remote", "DeleteEcsVSwitchRemote", uuid=switch["uuid"])
    await client.call("DeleteEcsInstance", uuid=ecs["uuid"])
    assert await listed(client, "SyncDiskFromAliyunFromRemote", identityUuid=zone["uuid"]) == [disk["uuid"]]
    left = await client.look("hybrid/aliyun/disk", disk["uuid"]), await client.look("hybrid/eip", eip["uuid"])
    assert [(item["status"], "ecsInstanceUuid" in item, "allocateResourceUuid" in item) for item in left] == [("Available", False, False)] * 2
    await client.call("DeleteAliyunDiskFromRemote", uuid=disk["uuid"])
    assert "diskUuid" not in await client.look("hybrid/aliyun/snapshot", snapshot["uuid"])
    await client.call("DeleteHybridEipFromLocal", uuid=eip["uuid"], type="aliyun")
    await client.call("DeleteEcsVSwitchRemote", uuid=switch["uuid"])
    await client.call("DeleteEcsSecurityGroupRemote", uuid=group["uuid"])
    await client.call("DeleteEcsVpcRemote", uuid=vpc["uuid"])
    await client.call("DeleteDataCenterInLocal", uuid=dc["uuid"])
    for path in ("identity-zone", "aliyun/vrouter", "aliyun/image", "aliyun/oss-bucket", "aliyun/snapshot", "eip", "data-center"):
        _, answer = await client.mock.request("GET", f"/hybrid/{path}")
        assert answer["inventories"] == [], path


async def test_the_end_of_a_data_centre_is_that_of_all_in_it_and_of_nothing_else(client):
    net = await network(client)
    ecs = await instance(client, net, privateIpAddress="10.1.0.7", allocatePublicIp="true", ecsBandWidth=5)
    assert (ecs["cpuCores"], ecs["memorySize"], ecs["privateIpAddress"], ecs["publicIpAddress"]) == (2, 4 << 30, "10.1.0.7", "198.51.100.1")
    other = await data_centre(client, "cn-beijing")
    await client.call("SyncEcsImageFromRemote", dataCenterUuid=other)
    await client.call("DeleteDataCenterInLocal", uuid=net["dc"])
    for path, count in (("aliyun/ecs", 0), ("aliyun/disk", 0), ("aliyun/vpc", 0), ("aliyun/security-group-rule", 0), ("aliyun/image", 2), ("data-center", 1), ("hybrid/key", 1)):
        _, answer = await client.mock.request("GET", f"/hybrid/{path}")
        assert len(answer["inventories"]) == count, path


async def test_all_instances_of_a_data_centre_go_with_the_disks_that_go_with_them(client):
    net = await network(client)
    first, second = [await instance(client, net, name=name) for name in ("a1", "b1")]
    assert (first["privateIpAddress"], second["privateIpAddress"]) == ("10.1.0.1", "10.1.0.2")
    goes, stays = [(await client.call("CreateAliyunDiskFromRemote", identityUuid=net["zone"], name=name, sizeWithGB=20))["uuid"] for name in ("goes", "stays")]
    await client.call("AttachAliyunDiskToEcs", diskUuid=goes, ecsUuid=first["uuid"], deleteWithInstance=True)
    await client.call("AttachAliyunDiskToEcs", diskUuid=stays, ecsUuid=second["uuid"])
    await client.call("DeleteAllEcsInstancesFromDataCenter", uuid=net["dc"])
    assert await listed(client, "SyncEcsInstanceFromRemote", dataCenterUuid=net["dc"]) == []
    assert await listed(client, "SyncDiskFromAliyunFromRemote", identityUuid=net["zone"]) == [stays]


async def test_a_small_network_is_full_until_an_instance_goes(client):
    net = await network(client)
    net["switch"] = (await client.call("CreateEcsVSwitchRemote", vpcUuid=net["vpc"], identityZoneUuid=net["zone"], cidrBlock="10.2.0.0/30", name="small"))["uuid"]
    there = [await instance(client, net, name=name) for name in ("a1", "b1")]
    assert [ecs["privateIpAddress"] for ecs in there] == ["10.2.0.1", "10.2.0.2"]
    given = {"name": "d1", "ecsRootPassword": "Password1", "instanceType": "ecs.n4.small", "ecsImageUuid": there[0]["ecsImageUuid"]}
    given |= {"ecsVSwitchUuid": net["switch"], "ecsSecurityGroupUuid": net["group"]}
    await client.fails("SYS.1006: no address of 10.2.0.0/30 is free", "CreateEcsInstanceFromEcsImage", **given)
    await client.call("DeleteEcsInstanceLocal", uuid=there[1]["uuid"])
    assert (await client.call("CreateEcsInstanceFromEcsImage", **given))["privateIpAddress"] == "10.2.0.2"


async def test_one_key_of_an_account_and_type_is_current(client):
    first = await client.call("AddAliyunKeySecret", name="a", key="A", secret="s")
    second = await client.call("AddHybridKeySecret", name="b", key="B", secret="s", type="aliyun")
    daho = await client.call("AddHybridKeySecret", name="c", key="C", secret="s", type="daho")
    assert [key["current"] for key in (first, second, daho)] == ["true", "false", "true"]

    async def current():
        _, answer = await client.mock.request("GET", "/hybrid/hybrid/key?q=current=true&sort=%2Bname")
        return [key["name"] for key in answer["inventories"]]

    await client.call("AttachHybridKey", uuid=second["uuid"])
    assert await current() == ["b", "c"]
    await client.call("DetachAliyunKey", uuid=second["uuid"])
    assert await current() == ["c"]
    await client.fails("HYBRID.1002: *", "AddDataCenterFromRemote", regionId="cn-hangzhou", type="aliyun")
    await client.fails("SYS.1006: name: [a] already existed, please choose another name", "AddAliyunKeySecret", name="a", key="D", secret="s")
    await client.fails("SYS.1006: key: [A] already existed by accountUuid: *", "AddAliyunKeySecret", name="d", key="A", secret="s")


async def test_a_sync_brings_what_no_call_creates_once(client):
    net = await network(client)
    place = {"dataCenterUuid": net["dc"]}
    for api, path in (("SyncConnectionAccessPointFromRemote", "aliyun/access-point"), ("SyncVirtualBorderRouterFromRemote", "aliyun/border-router"),
                      ("SyncVpcVpnGatewayFromRemote", "vpc-vpn"), ("SyncDahoCloudConnection", "daho/cloud_connections")):  # fmt: skip
        (uuid,) = await listed(client, api, **place)
        assert await listed(client, api, **place) == [uuid], api
        assert await client.look(f"hybrid/{path}", uuid), api
    images = await listed(client, "SyncEcsImageFromRemote", **place)
    assert len(images) == 2 and await listed(client, "SyncEcsImageFromRemote", **place, type="self") == []
    assert [point["accessPointId"] for point in (await client.call("GetConnectionAccessPointFromRemote", **place))["inventories"]] == ["ap-cn-hangzhou-a", "ap-cn-hangzhou-b"]
    await client.fails("SYS.1006: access point[ap-cn-hangzhou-a] already existed, *", "AddConnectionAccessPointFromRemote", **place, accessPointId="ap-cn-hangzhou-a")


async def test_a_network_here_is_connected_to_one_there(client):
    net = await network(client)
    vbr = (await client.call("SyncVirtualBorderRouterFromRemote", dataCenterUuid=net["dc"]))["inventories"][0]
    (router,) = await listed(client, "SyncAliyunVirtualRouterFromRemote", vpcUuid=net["vpc"])
    near = {"dataCenterUuid": net["dc"], "name": "near", "routerType": "VBR", "vRouterUuid": vbr["uuid"], "accessPointUuid": vbr["accessPointUuid"], "spec": "Large.1"}
    near = await client.call("CreateAliyunRouterInterfaceRemote", **near)
    far = await client.call("CreateAliyunRouterInterfaceRemote", dataCenterUuid=net["dc"], name="far", routerType="VRouter", vRouterUuid=router)
    assert [(item["role"], item["spec"], item["status"]) for item in (near, far)] == [("InitiatingSide", "Large.1", "Idle"), ("AcceptingSide", "Negative", "Idle")]
    pair = {"vbrInterfaceUuid": near["uuid"], "vrouterInterfaceUuid": far["uuid"]}
    await client.fails("SYS.1006: router interface[*] is that of a virtual border router", "StartConnectionBetweenAliyunRouterInterface", vbrInterfaceUuid=far["uuid"], vrouterInterfaceUuid=near["uuid"])
    near = await client.call("StartConnectionBetweenAliyunRouterInterface", **pair)
    far = await client.look("hybrid/aliyun/router-interface", far["uuid"])
    assert [(item["status"], item["oppositeInterfaceUuid"]) for item in (near, far)] == [("Active", far["uuid"]), ("Active", near["uuid"])]
    await client.fails(f"SYS.1006: router interface[{far['uuid']}] already has a connection, it is {near['uuid']}", "StartConnectionBetweenAliyunRouterInterface", **pair)
    await client.call("UpdateAliyunRouteInterfaceRemote", uuid=far["uuid"], op="inactive", vRouterType="vrouter")
    assert (await client.look("hybrid/aliyun/router-interface", far["uuid"]))["status"] == "Inactive"

    # routes
    route = {"vRouterUuid": router, "vRouterType": "vrouter", "dstCidrBlock": "192.168.0.0/16", "nextHopUuid": far["uuid"], "nextHopType": "RouterInterface"}
    entry = await client.call("CreateAliyunVpcVirtualRouterEntryRemote", **route)
    await client.fails(f"SYS.1006: destination cidr [192.168.0.0/16] is existed and point to another instance-id [{far['uuid']}], *", "CreateAliyunVpcVirtualRouterEntryRemote", **route)
    entries = (await client.call("SyncAliyunRouteEntryFromRemote", vRouterUuid=router, vRouterType="vrouter"))["inventories"]
    assert sorted(item["type"] for item in entries) == ["Custom", "System"]
    system = next(item["uuid"] for item in entries if item["type"] == "System")
    await client.fails("SYS.1006: cannot delete system entry", "DeleteAliyunRouteEntryRemote", uuid=system)

    # the relation, as each end of it knows it
    link = {"l3networkUuid": PRIVATE, "vpcUuid": net["vpc"], "vbrUuid": vbr["uuid"], "cpeIp": "192.0.2.9", "name": "link", "direction": "both"}
    link = await client.call("CreateConnectionBetweenL3NetworkAndAliyunVSwitch", **link)
    for kind, uuid in (("l3network", PRIVATE), ("vbr", vbr["uuid"]), ("vpc", net["vpc"])):
        (shown,) = (await client.call("GetConnectionBetweenL3NetworkAndAliyunVSwitch", uuid=uuid, resourceType=kind))["inventories"]
        assert (shown["uuid"], shown["direction"], shown["connectionType"]) == (link["uuid"], "both", "aliyunConnection")

    # the border router goes down, comes back, and takes all with it that leads through it
    await client.call("TerminateVirtualBorderRouterRemote", uuid=vbr["uuid"])
    await client.fails("ALIYUN.1019: *", "TerminateVirtualBorderRouterRemote", uuid=vbr["uuid"])
    await client.call("RecoveryVirtualBorderRouterRemote", uuid=vbr["uuid"])
    await client.call("DeleteVirtualBorderRouterLocal", uuid=vbr["uuid"])
    far = await client.look("hybrid/aliyun/router-interface", far["uuid"])
    assert (far["status"], "oppositeInterfaceUuid" in far, await client.look("hybrid/aliyun/relationships", link["uuid"])) == ("Idle", False, None)
    await client.call("DeleteAliyunRouteEntryRemote", uuid=entry["uuid"])


async def test_a_vpn_connection_has_two_gateways_and_two_configurations(client):
    net = await network(client)
    await client.call("SyncVpcVpnGatewayFromRemote", dataCenterUuid=net["dc"])
    (gateway,) = (await client.call("SyncVpcVpnGatewayFromRemote", dataCenterUuid=net["dc"]))["inventories"]
    assert (gateway["vSwitchUuid"], gateway["publicIp"]) == (net["switch"], "192.0.2.1")
    user = await client.call("CreateVpcUserVpnGatewayRemote", dataCenterUuid=net["dc"], ip="198.51.100.9", name="us")
    ike = await client.call("CreateVpnIkeConfig", name="ike", psk="secret", localIp=gateway["publicIp"], remoteIp=user["ip"], encAlg="aes-256")
    ipsec = await client.call("CreateVpnIpsecConfig", name="ipsec", pfs="group2")
    ends = {"userGatewayUuid": user["uuid"], "vpnGatewayUuid": gateway["uuid"], "ikeConfUuid": ike["uuid"], "ipsecConfUuid": ipsec["uuid"]}
    vpn = await client.call("CreateVpcVpnConnectionRemote", name="vpn", localCidr="10.1.0.0/24", remoteCidr="192.168.0.0/16", active=True, **ends)
    assert (vpn["localSubnet"], vpn["ikeConfigUuid"], vpn["accountName"]) == ("10.1.0.0/24", ike["uuid"], user["accountName"])
    told = await client.call("GetVpcVpnConfigurationFromRemote", uuid=vpn["uuid"])
    assert (told["ikeConf"]["Psk"], told["ikeConf"]["IkeEncAlg"], told["ipSecConf"]["IpsecPfs"]) == ("secret", "aes-256", "group2")
    await client.fails("SYS.1007: remoteCidr must be Cidr!", "UpdateVpcVpnConnectionRemote", uuid=vpn["uuid"], remoteCidr="192.168.0.1")
    changed = await client.call("UpdateVpcVpnConnectionRemote", uuid=vpn["uuid"], remoteCidr="172.16.0.0/12")
    assert (changed["remoteSubnet"], changed["localSubnet"]) == ("172.16.0.0/12", "10.1.0.0/24")
    other = await client.call("CreateVpcUserVpnGatewayRemote", dataCenterUuid=await data_centre(client, "cn-beijing"), ip="198.51.100.9", name="them")
    await client.fails("SYS.1006: vpn gateway and user gateway are not in the same dataCenterUuid!", "CreateVpcVpnConnectionRemote",
        name="w", localCidr="10.1.0.0/24", remoteCidr="10.2.0.0/24", active=True, **ends | {"userGatewayUuid": other["uuid"]})  # fmt: skip
    await client.fails(f"SYS.1006: vpngateway [{gateway['uuid']}] existed, cannot delete remote", "DeleteEcsVpcRemote", uuid=net["vpc"])
    assert await listed(client, "SyncVpcVpnConnectionFromRemote", dataCenterUuid=net["dc"]) == [vpn["uuid"]]
    await client.call("DeleteVpcVpnConnectionRemote", uuid=vpn["uuid"])
    await client.call("DeleteVpcVpnGatewayLocal", uuid=gateway["uuid"])


async def test_a_line_of_daho_joins_two_connections(client):
    net = await network(client)
    (near,), (far,) = await listed(client, "SyncDahoDataCenterConnection"), await listed(client, "SyncDahoCloudConnection", dataCenterUuid=net["dc"])
    line = {"name": "l", "description": "d", "bandwidth": 10, "expirePolicy": "renewal", "dcConnUuid": near, "cloudConnUuid": far, "vlan": 7}
    vll = await client.call("CreateDahoVllRemote", **line)
    assert (vll["connZUuid"], vll["connAUuid"], vll["vlanId"], vll["bandwidthMbps"], vll["dataCenterUuid"]) == (near, far, 7, 10, net["dc"])
    await client.fails("SYS.1006: vlanId[7] has been existed!", "CreateDahoVllRemote", **line)
    assert (await client.call("UpdateDahoVll", uuid=vll["uuid"], bandWidthMbps=20))["bandwidthMbps"] == 20
    assert await listed(client, "SyncDahoVll", dataCenterUuid=net["dc"]) == [vll["uuid"]]
    await client.call("DeleteDahoCloudConnection", uuid=far)
    assert await client.look("hybrid/daho/vlls", vll["uuid"]) is None


async def test_the_database_is_backed_up_into_a_bucket_and_fetched_from_it(client):
    region = {"regionId": "cn-hangzhou"}
    await client.fails("HYBRID.1000: *", "CreateOssBackupBucketRemote", **region)
    net = await network(client)
    await client.fails("SYS.1006: no bucket found for backup", "BackupDatabaseToPublicCloud", **region, type="aliyun")
    await client.call("CreateOssBackupBucketRemote", **region)
    backup = await client.call("BackupDatabaseToPublicCloud", **region, type="aliyun", local=True)
    assert backup["regionId"] == "cn-hangzhou" and backup["local"].endswith(backup["remote"])
    _, answer = await client.mock.request("GET", "/hybrid/aliyun/oss-bucket?q=bucketName=zstack-backup-cn-hangzhou")
    bucket = answer["inventories"][0]["uuid"]
    assert (await client.call("GetOssBucketFileFromRemote", uuid=bucket))["files"] == [backup["remote"]]
    assert (await client.call("DownloadBackupFileFromPublicCloud", **region, type="aliyun", file=backup["remote"]))["local"] == backup["local"]
    await client.fails("SYS.1006: oss bucket is not empty!", "DeleteOssBucketRemote", uuid=bucket)
    await client.call("DeleteBackupFileInPublic", **region, type="aliyun", file=backup["remote"])
    await client.fails("SYS.1006: there is no file*", "DownloadBackupFileFromPublicCloud", **region, type="aliyun", file=backup["remote"])
    assert (await client.call("GetOssBucketNameFromRemote", dataCenterUuid=net["dc"]))["inventories"] == [{"bucketName": "zstack-backup-cn-hangzhou", "regionId": "cn-hangzhou"}]
    await client.call("DeleteOssBucketRemote", uuid=bucket)


async def test_a_file_system_has_a_mount_target_for_an_access_group(client):
    net = await network(client)
    place = {"dataCenterUuid": net["dc"]}
    group = await client.call("CreateAliyunNasAccessGroup", **place, name="hosts", networkType="classic")
    await client.fails(f"SYS.1006: access group [hosts] already existed in datacenter [{net['dc']}]", "AddAliyunNasAccessGroup", **place, groupName="hosts")
    rule = await client.call("CreateAliyunNasAccessGroupRule", accessGroupUuid=group["uuid"], sourceCidrIp="10.0.0.0/8", rwAccessType="RDONLY")
    assert (rule["rule"], rule["priority"], rule["sourceCidr"]) == ("RDONLY", 1, "10.0.0.0/8")
    assert [each["uuid"] for each in (await client.look("nas/aliyun/access", group["uuid"]))["rules"]] == [rule["uuid"]]
    files = await client.call("CreateAliyunNasFileSystem", **place, storageType="Performance", name="files")
    target = await client.call("CreateAliyunNasMountTarget", nasAccessGroupUuid=group["uuid"], nasFSUuid=files["uuid"], vSwitchUuid=net["switch"], name="target")
    assert target["status"] == "Active" and target["mountDomain"].endswith(".cn-hangzhou.nas.example.com")
    (there,) = (await client.call("GetAliyunNasMountTargetRemote", nasFSUuid=files["uuid"]))["inventories"]
    assert there == {"mountDomain": target["mountDomain"], "status": "Active", "accessGroupName": "hosts"}
    (there,) = (await client.call("GetAliyunNasFileSystemRemote", **place))["inventories"]
    assert (there["fileSystemId"], there["storageType"], there["protocol"]) == (files["fileSystemId"], "Performance", "NFS")
    assert (await client.call("GetAliyunNasAccessGroupRemote", **place, groupName="others"))["inventories"] == []
    await client.fails(f"SYS.1006: access group[uuid:{group['uuid']}] is used by mount target[uuid:{target['uuid']}]", "DeleteAliyunNasAccessGroup", uuid=group["uuid"])
    other = await client.call("AddAliyunNasAccessGroup", **place, groupName="others")
    assert (await client.call("UpdateAliyunMountTarget", uuid=target["uuid"], accessGroupUuid=other["uuid"]))["accessGroupUuid"] == other["uuid"]
    await client.call("DeleteAliyunNasAccessGroup", uuid=group["uuid"])
    await client.call("DeleteDataCenterInLocal", uuid=net["dc"])
    assert await client.look("primary-storage/nas/mount", target["uuid"]) is None


# what is refused, of a network with a stopped instance and a running one

ECS = {"name": "n1", "ecsRootPassword": "Password1", "instanceType": "ecs.n4.small", "ecsImageUuid": "@image", "ecsVSwitchUuid": "@switch", "ecsSecurityGroupUuid": "@group"}
REFUSED = {
    "a region that is none": ("AddDataCenterFromRemote", {"regionId": "eu-nowhere-1", "type": "aliyun"}, "SYS.1006: regionId[eu-nowhere-1] is invalid by aliyun!"),
    "a region twice": ("AddDataCenterFromRemote", {"regionId": "cn-hangzhou", "type": "aliyun"}, "SYS.1006: regionId [cn-hangzhou] already created by ak [AK]"),
    "a zone twice": ("AddIdentityZoneFromRemote", {"dataCenterUuid": "@dc", "type": "aliyun", "zoneId": "cn-hangzhou-b"}, "SYS.1006: identity zone [cn-hangzhou-b] already existed, uuid is: *"),
    "zones of nowhere": ("GetIdentityZoneFromRemote", {"type": "aliyun"}, "SYS.1007: either dataCenterUuid or regionId should be set, please check the parameters."),
    "a kind of key that is none": ("AddHybridKeySecret", {"name": "n", "key": "k", "secret": "s", "type": "aws"}, "SYS.1007: type[aws] is not one of aliyun, privateAliyun, daho"),
    "a VPC without a network": ("CreateEcsVpcRemote", {"dataCenterUuid": "@dc", "cidrBlock": "x", "name": "n", "vRouterName": "r1"}, "SYS.1007: invalid CidrBlock: x, which must subnet in *"),
    "a vSwitch of the same network": ("CreateEcsVSwitchRemote", {"vpcUuid": "@vpc", "identityZoneUuid": "@zone", "cidrBlock": "10.1.0.0/24", "name": "n1"}, "SYS.1006: cidr is overlap by another vswitch: *"),
    "a vSwitch of another data centre": ("CreateEcsVSwitchRemote", {"vpcUuid": "@vpc", "identityZoneUuid": "@far", "cidrBlock": "10.3.0.0/24", "name": "n1"}, "SYS.1006: * should be in the same dataCenter"),
    "a VPC with a vSwitch": ("DeleteEcsVpcRemote", {"uuid": "@vpc"}, "SYS.1006: vswitch [*] existed, cannot delete remote"),
    "a group with an instance": ("DeleteEcsSecurityGroupRemote", {"uuid": "@group"}, "SYS.1006: ecs [*] existed, cannot delete remote"),
    "a rule twice": ("CreateEcsSecurityGroupRuleRemote", {"groupUuid": "@group", "direction": "ingress", "protocol": "tcp", "portRange": "22/22", "cidr": "0.0.0.0/0"}, "SYS.1006: security group rule already existed"),
    "a rule of the internet": ("CreateEcsSecurityGroupRuleRemote", {"groupUuid": "@group", "direction": "ingress", "protocol": "tcp", "portRange": "1/2", "cidr": "0.0.0.0/0", "nictype": "internet"}, "SYS.1007: only support intranet rule in vpc"),
    "an image of the system, deleted": ("DeleteEcsImageRemote", {"uuid": "@image"}, "SYS.1006: can not delete ecs system image remote"),
    "an instance of no size": ("CreateEcsInstanceFromEcsImage", {name: value for name, value in ECS.items() if name != "instanceType"}, "SYS.1007: instanceOffering or instanceType must be set!"),
    "an instance of a size that is none": ("CreateEcsInstanceFromEcsImage", ECS | {"instanceType": "ecs.huge"}, "SYS.1006: No Available instance types now."),
    "an address outside": ("CreateEcsInstanceFromEcsImage", ECS | {"privateIpAddress": "10.9.0.1"}, "SYS.1007: 10.9.0.1 is not in cidr range: 10.1.0.0/24"),
    "an address that is taken": ("CreateEcsInstanceFromEcsImage", ECS | {"privateIpAddress": "10.1.0.1"}, "SYS.1006: private ip is existed in vswitch: *, allocated to ecs: *"),
    "a public address without bandwidth": ("CreateEcsInstanceFromEcsImage", ECS | {"allocatePublicIp": "true"}, "SYS.1007: bandwidth must be set while allocate publicIp"),
    "a start of what runs": ("StartEcsInstance", {"uuid": "@ecs"}, "ALIYUN.1019: ecs [*] is Running now, cannot start it"),
    "a disk of no size": ("CreateAliyunDiskFromRemote", {"identityUuid": "@zone", "name": "n1"}, "SYS.1007: The size and snapshot id in the request parameter must select one of the items *"),
    "a disk that is attached": ("AttachAliyunDiskToEcs", {"diskUuid": "@disk", "ecsUuid": "@ecs"}, "SYS.1006: The disk [*] is already mounted on the instance [*]"),
    "a disk of another instance": ("AttachAliyunDiskToEcs", {"diskUuid": "@disk", "ecsUuid": "@stopped"}, "SYS.1006: Cannot attach disk when in use"),
    "a root disk, detached": ("DetachAliyunDiskFromEcs", {"uuid": "@root"}, "SYS.1006: Only data disk can be mounted on ecs"),
    "a root disk, deleted": ("DeleteAliyunDiskFromLocal", {"uuid": "@root"}, "SYS.1006: Root volume cannot be deleted"),
    "an image of a data disk": ("CreateEcsImageFromEcsSnapshot", {"snapshotUuid": "@snapshot", "name": "n1"}, "SYS.1006: Only system disks can create mirrors"),
    "an EIP that is attached": ("AttachHybridEipToEcs", {"eipUuid": "@eip", "ecsUuid": "@stopped", "type": "aliyun"}, "SYS.1006: couldn't attach eip to ecs: [*] , eip :[*] already attached ecs:[*] "),
    "a second EIP": ("AttachHybridEipToEcs", {"eipUuid": "@spare", "ecsUuid": "@ecs", "type": "aliyun"}, "SYS.1006: couldn't attach eip [*] to ecs: [*] , ecs is already attached"),
    "an EIP that is free, detached": ("DetachHybridEipFromEcs", {"eipUuid": "@spare", "type": "aliyun"}, "SYS.1006: couldn't detach eip :[*], it is not attached on any instance "),
    "an interface of a border router without a place": ("CreateAliyunRouterInterfaceRemote", {"dataCenterUuid": "@dc", "name": "n", "routerType": "VBR", "vRouterUuid": NOBODY}, "SYS.1007: accessPointUuid cannot be null *"),
    "an interface of no router": ("CreateAliyunRouterInterfaceRemote", {"dataCenterUuid": "@dc", "name": "n", "routerType": "VRouter", "vRouterUuid": NOBODY}, f"SYS.1003: no such virtual router: {NOBODY}"),
    "a route to nowhere": ("CreateAliyunVpcVirtualRouterEntryRemote", {"vRouterUuid": "@router", "vRouterType": "vrouter", "dstCidrBlock": "10.0.0.0/8", "nextHopUuid": NOBODY, "nextHopType": "Instance"}, f"SYS.1003: no such ecs instance: {NOBODY}"),
    "a second bucket that is current": ("AttachOssBucketToEcsDataCenter", {"ossBucketUuid": "@bucket"}, "SYS.1006: There is a current ossbucket[*] for dataCenter[*] already attached, update to an other."),
    "relations of no VPC": ("GetConnectionBetweenL3NetworkAndAliyunVSwitch", {"uuid": NOBODY, "resourceType": "vpc"}, f"SYS.1003: no such vpc found for: {NOBODY}"),
}  # fmt: skip


async def test_what_the_public_cloud_does_not_allow_is_refused_and_changes_nothing(client):
    there = await network(client)
    far = await data_centre(client, "cn-beijing")
    there["far"] = (await client.call("AddIdentityZoneFromRemote", dataCenterUuid=far, type="aliyun"))["uuid"]
    (there["router"],) = await listed(client, "SyncAliyunVirtualRouterFromRemote", vpcUuid=there["vpc"])
    there["image"] = (await listed(client, "SyncEcsImageFromRemote", dataCenterUuid=there["dc"]))[0]
    for name in ("ecs", "stopped"):
        there[name] = (await instance(client, there, name=name))["uuid"]
    (there["root"],) = [disk["uuid"] for disk in (await client.call("SyncDiskFromAliyunFromRemote", identityUuid=there["zone"]))["inventories"] if disk["ecsInstanceUuid"] == there["ecs"]]
    await client.call("StopEcsInstance", uuid=there["stopped"])
    there["disk"] = (await client.call("CreateAliyunDiskFromRemote", identityUuid=there["zone"], name="data", sizeWithGB=20))["uuid"]
    await client.call("AttachAliyunDiskToEcs", diskUuid=there["disk"], ecsUuid=there["ecs"])
    there["snapshot"] = (await client.call("CreateAliyunSnapshotRemote", diskUuid=there["disk"], name="s1"))["uuid"]
    for name in ("eip", "spare"):
        there[name] = (await client.call("CreateHybridEip", name=name, bandWidthMb=5, type="aliyun", dataCenterUuid=there["dc"], chargeType="PayByTraffic"))["uuid"]
    await client.call("AttachHybridEipToEcs", eipUuid=there["eip"], ecsUuid=there["ecs"], type="aliyun")
    there["bucket"] = (await client.call("CreateOssBucketRemote", dataCenterUuid=there["dc"], bucketName="b"))["uuid"]
    await client.call("AttachOssBucketToEcsDataCenter", ossBucketUuid=there["bucket"])
    before, wrong = state_of(client.mock), []
    for what, (api, params, error) in REFUSED.items():
        try:
            await client.fails(error, api, **{name: there[value[1:]] if str(value)[:1] == "@" else value for name, value in params.items()})
        except AssertionError as failure:
            wrong.append(f"{what}: {failure}")
    assert wrong == []
    assert state_of(client.mock) == before
