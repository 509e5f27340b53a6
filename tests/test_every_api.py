"""Every API that is simulated, driven once to success and once to its most typical refusal.

Parameters are made from their constraints, and what they refer to from what the demo cloud has, or by the API that creates
it; what cannot be found that way stands in the tables.
"""

import base64
import contextlib
import json
import re

import pytest
from asking import add_header, ask_control, each, without_exceptions
from jsonschema import Draft202012Validator

from zmock import (
    ADMIN,
    SHA512_OF_PASSWORD,
    Call,
    Contract,
    Settings,
    catalogue,
    exported,
    load_objects,
    named,
    new_cloud,
    repair,
    serve,
)

CATALOGUE = catalogue()
CONTRACT = json.loads(json.dumps(Contract(new_cloud(Settings(memory=True), CATALOGUE)).document("http://127.0.0.1")["components"]))
for schema in CONTRACT["schemas"].values():
    schema |= {"additionalProperties": False} if "properties" in schema else {}  # an answer holds what the contract says, and nothing else
SIMULATED = {api.name: api for api in CATALOGUE.apis.values() if api.backing != "none"}



def resolved(value):
    """A value with the uuid of an object of the demo cloud for its "@name", in lists too."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    return named(value[1:]) if isinstance(value, str) and value.startswith("@") else value


# parameters whose constraints do not say what they mean
BY_NAME = {
    "password": "p" * 128, "url": "http://mirror.example.com/x", "managementIp": "10.10.0.77", "ip": "10.20.0.99", "requiredIp": "10.20.0.99",
    "dns": "8.8.8.8", "networkCidr": "172.30.0.0/24", "format": "qcow2", "tag": "t", "resourceType": "ZoneVO", "resourceUuid": "@zone-1",
    "ipmiAddress": "10.0.0.9", "peerAddress": "10.0.0.8", "peerCidrs": ["10.8.0.0/24"], "destination": "10.8.0.0/24",
    "mac": "fa:00:00:00:00:01", "prefix": "10.9.0.0/16", "nexthop": "10.20.0.9", "managementNodeUuid": "@management-node", "license": base64.b64encode(b"{}").decode(),
    "startIp": "172.30.0.2", "endIp": "172.30.0.9", "netmask": "255.255.255.0", "gateway": "172.30.0.1", "accountName": "admin", "userName": "operator",
    "monUrls": ["root:password@10.10.0.91"], "diskUuid": "disk-2", "hostname": "h", "physicalInterface": "eth0", "loadBalancerPort": 80, "all": True, "l3NetworkUuid": "@l3-public",
    "email": "ops@example.com", "phoneNumber": "+86-12388889999", "actionType": "sns", "actionUuid": "@topic-alarms", "applicationPlatformType": "Email",
    "regionId": "cn-hangzhou", **dict.fromkeys(("cidrBlock", "dstCidrBlock", "cidr", "sourceCidrIp", "localCidr", "remoteCidr"), "10.1.0.0/24"),
    **dict.fromkeys(("cpeIp", "localIp", "remoteIp"), "192.0.2.9"),
}  # fmt: skip
MONITORED = [f"{kind}{place}" for kind in ("Ceph", "Fusionstor") for place in ("PrimaryStorage", "BackupStorage")]
MORE_MONS = [f"AddMonTo{storage}" for storage in MONITORED]
ALICE = "cn=alice,ou=people,dc=example,dc=com"
TEMPLATE = json.dumps({"ZStackTemplateFormatVersion": "2018-06-18", "Parameters": {"P": {"Type": "Number", "DefaultValue": 1, "NoEcho": True}},
                       "Resources": {"Group": {"Type": "ZStack::Resource::SecurityGroup", "Properties": {"name": "g"}}}})  # fmt: skip
WITH_LDAP = (("AddLdapServer", {}), ("CreateLdapBinding", {}))
REQUESTS = [{"apiName": "org.zstack.header.zone.APICreateZoneMsg", "apiBody": {"name": "z"}}]
KEY = ("AddHybridKeySecret", {"type": "aliyun"})
DATA_CENTRE = (KEY, ("AddDataCenterFromRemote", {}))
BUCKET = (*DATA_CENTRE, ("CreateOssBackupBucketRemote", {}))
VPC = ("CreateEcsVpcRemote", {"vRouterName": "router"})
VROUTER = {"vRouterUuid": "@VpcVirtualRouter.name=router", "vRouterType": "vrouter"}
# what else an API is given, before what is generated; @name is a uuid of the demo cloud, @Type.field=value that of what is found
GIVEN = {
    **{api: {"monUrls": ["root:password@10.10.0.92:2222/?monPort=6790"]} for api in MORE_MONS},
    **{f"RemoveMonFrom{storage}": {"monHostnames": ["10.10.0.91"]} for storage in MONITORED},
    "DeleteCephPrimaryStoragePool": {"uuid": "@made"},
    **{api: {"templateContent": TEMPLATE} for api in ("AddStackTemplate", "CreateResourceStack", "CheckStackTemplateParameters", "PreviewResourceStack")},
    "AddHybridKeySecret": KEY[1],
    "CreateAliyunDiskFromRemote": {"sizeWithGB": 20},
    "CreateEcsInstanceFromEcsImage": {"instanceType": "ecs.n4.small"},
    "CreateAliyunRouterInterfaceRemote": {"vRouterUuid": VROUTER["vRouterUuid"], "routerType": "VRouter"},
    "CreateAliyunVpcVirtualRouterEntryRemote": VROUTER | {"nextHopType": "RouterInterface", "nextHopUuid": "@interface"},
    "SyncAliyunRouteEntryFromRemote": VROUTER,
    "StartConnectionBetweenAliyunRouterInterface": {"vrouterInterfaceUuid": "@AliyunRouterInterface.vRouterType=vrouter", "vbrInterfaceUuid": "@AliyunRouterInterface.vRouterType=vbr"},
    "GetConnectionBetweenL3NetworkAndAliyunVSwitch": {"uuid": "@l3-public", "resourceType": "l3network"},
    "AttachAliyunDiskToEcs": {"diskUuid": "@AliyunDisk.diskType=data"},
    "DetachAliyunDiskFromEcs": {"uuid": "@AliyunDisk.diskType=data"},
    "DeleteAliyunDiskFromLocal": {"uuid": "@AliyunDisk.diskType=data"},
    "GetIdentityZoneFromRemote": {"regionId": "cn-hangzhou"},
    "UpdateEcsInstanceVncPassword": {"password": "secret"},
    "CreateEcsImageFromEcsSnapshot": {"snapshotUuid": "@made"},
    "DownloadBackupFileFromPublicCloud": {"file": "@OssBucket.current=false.files"},
    "AddKVMHost": {"username": "root", "clusterUuid": "@cluster-1"},
    **{f"AddAttributesToIAM2{kind}": {"attributes": [{"name": "a", "value": "1"}]} for kind in ("Organization", "Project", "VirtualID", "VirtualIDGroup")},
    "AddIAM2VirtualIDsToGroup": {"virtualIDUuids": ["@virtual-id-carol"]},
    "ChangeIAM2OrganizationParent": {"parentUuid": "@organization-acme", "childrenUuids": ["@organization-sales"]},
    "LoginIAM2Project": {"projectName": "shop"},
    "LoginIAM2VirtualID": {"name": "carol", "password": SHA512_OF_PASSWORD},
    "CreateIAM2Project": {"quota": {"vm.num": 1}},
    "CreateIAM2ProjectTemplate": {"quota": {"vm.num": 1}, "attributes": [{"name": "a"}]},
    "AddLdapServer": {"base": "dc=example,dc=com"},
    **dict.fromkeys(("GetLdapEntry", "GetCandidateLdapEntryForBinding"), {"ldapFilter": "(cn=a*)"}),
    "CreateLdapBinding": {"ldapUid": ALICE},
    "LogInByLdap": {"uid": "alice", "password": "password"},
    "AddLocalPrimaryStorage": {"url": "/other"},
    "AddSftpBackupStorage": {"url": "/other"},
    "CreateVniRange": {"l2NetworkUuid": "@pool"},
    "GetZone": {"uuid": "@zone-1"},
    "AddSecurityGroupRule": {"rules": [{"type": "Ingress", "protocol": "ALL"}]},
    "DeleteSecurityGroupRule": {"ruleUuids": ["@rule"]},
    "AddImage": {"backupStorageUuids": ["@bs-1"]},
    "AttachNetworkServiceToL3Network": {"networkServices": {named("provider-Flat"): ["DHCP"]}},
    "AttachPrimaryStorageToCluster": {"primaryStorageUuid": "@ps-local", "clusterUuid": "@cluster-1"},
    "CreateInstanceOffering": {"memorySize": 1 << 30},
    "CreateVirtualRouterOffering": {"memorySize": 1 << 30, "managementNetworkUuid": "@l3-public", "imageUuid": "@image-centos7"},
    "UpdateVirtualRouterOffering": {"uuid": "@made"},
    "CreatePolicy": {"statements": [{"effect": "Allow", "actions": ["**"]}]},
    "CreateSchedulerJob": {"targetResourceUuid": "@vm-web-1"},
    "CreateSchedulerTrigger": {"startTime": 0, "repeatCount": 1},
    "AddVmToAffinityGroup": {"uuid": "@vm-web-1"},
    "RemoveVmFromAffinityGroup": {"uuid": "@vm-db-1"},
    "CreateSystemTag": {"tag": "host::reservedCpu::1"},
    "CreateResourcePrice": {"timeUnit": "mon"},
    "CreateTicket": {"accountSystemType": "iam2", "requests": REQUESTS},
    "UpdateTicketRequest": {"requests": REQUESTS},
    "ChangeTicketStatus": {"statusEvent": "approve"},
    "CreateVmInstance": {"l3NetworkUuids": ["@l3-private"], "imageUuid": "@image-centos7", "instanceOfferingUuid": "@offering-small"},
    "GetTaskProgress": {"apiId": "a" * 32},
    "ZQLQuery": {"zql": "query zone"},
    "BatchQuery": {"script": 'put("zones", query("queryzone"))'},
    "LogInByAccount": {"password": SHA512_OF_PASSWORD},
    "LogInByUser": {"password": SHA512_OF_PASSWORD, "accountName": "admin"},
    "SubmitLongJob": {"jobName": "APIMigrateVmMsg", "jobData": json.dumps({"vmInstanceUuid": named("vm-web-1")})},
    "ChangeHostState": {"uuid": "@host-2"},
    "UpdateHost": {"managementIp": "10.10.0.78"},
    "StartVmInstance": {"uuid": "@vm-ci-1"},
    "ResumeVmInstance": {"uuid": "@vm-office-1"},
    "RecoverVmInstance": {"uuid": "@vm-old-1"},
    "ExpungeVmInstance": {"uuid": "@vm-old-1"},
    "PrimaryStorageMigrateVm": {"vmInstanceUuid": "@vm-ci-1", "dstPrimaryStorageUuid": "@ps-nfs"},
    "ReconnectHost": {"uuid": "@host-1"},
    "AttachDataVolumeToVm": {"volumeUuid": "@volume-spare", "vmInstanceUuid": "@vm-web-1"},
    "DetachDataVolumeFromVm": {"uuid": "@volume-db-data-1"},
    "PrimaryStorageMigrateVolume": {"volumeUuid": "@volume-spare", "dstPrimaryStorageUuid": "@ps-nfs"},
    "CreateRootVolumeTemplateFromRootVolume": {"rootVolumeUuid": "@root"},
    "CreateLoadBalancerListener": {"loadBalancerPort": 81},
    "DeleteLongJob": {"uuid": "@done"},
    "AttachEip": {"vmNicUuid": "@nic"},
    "AttachPortForwardingRule": {"vmNicUuid": "@nic"},
    "DeletePrimaryStorage": {"uuid": "@made"},
    "AttachBackupStorageToZone": {"zoneUuid": "@made"},
    "AttachL2NetworkToCluster": {"clusterUuid": "@made"},
    "AddIpRange": {"l3NetworkUuid": "@made"},
    "AddIpRangeByNetworkCidr": {"l3NetworkUuid": "@made"},
    "UpdateClusterOS": {"uuid": "@cluster-1"},
    "UpdateGlobalConfig": {"category": "host", "name": "load.all", "value": "false"},
    "RevertVolumeFromSnapshot": {"uuid": "@made"},
    **{api: {"l3NetworkUuid": "@l3-private"} for api in ("AttachSecurityGroupToL3Network", "DetachSecurityGroupFromL3Network", "RemoveHostRouteFromL3Network")},
    "DetachNetworkServiceFromL3Network": {"l3NetworkUuid": "@l3-private", "networkServices": {named("provider-SecurityGroup"): ["SecurityGroup"]}},
    "AddCertificateToLoadBalancerListener": {"listenerUuid": "@made"},
    "TriggerGCJob": {"uuid": "@waiting"},
    "DeleteAccount": {"uuid": "@made"},
    "ChangeResourceOwner": {"accountUuid": "@made", "resourceUuid": "@vm-web-1"},
    "CheckApiPermission": {"apiNames": ["org.zstack.header.zone.APICreateZoneMsg"]},
    "ShareResource": {"resourceUuids": ["@image-centos7"], "toPublic": True},
    "RevokeResourceSharing": {"resourceUuids": ["@image-centos7"], "all": True},
    "UpdateQuota": {"identityUuid": "@made", "name": "vm.num"},
    "DetachL3NetworkFromVm": {"vmNicUuid": "@nic"},
    "GetLocalStorageHostDiskCapacity": {"primaryStorageUuid": "@ps-local"},
    "GetMetricData": {"namespace": "ZStack/VM", "metricName": "CPUUsedUtilization"},
    "GetMetricLabelValue": {"namespace": "ZStack/VM", "metricName": "CPUUsedUtilization", "labelNames": ["CPUNum"]},
    "CreateAlarm": {"namespace": "ZStack/VM", "metricName": "CPUAllUsedUtilization"},
    "AddLabelToAlarm": {"key": "VMUuid", "alarmUuid": "@made"},
    "AddActionToAlarm": {"alarmUuid": "@made"},
    "RemoveActionFromAlarm": {"alarmUuid": "@alarm-web-1-cpu"},
    "SubscribeEvent": {"namespace": "ZStack/Host", "eventName": "HostDisconnected"},
    "AddLabelToEventSubscription": {"key": "HostUuid"},
    "PutMetricData": {"data": [{"metricName": "Depth", "value": 1.5}]},
    "GetMonitorItem": {"resourceType": "HostVO"},
    "PrometheusQueryMetadata": {"matches": ["collectd:collectd_memory"]},
    "PrometheusQueryPassThrough": {"expression": "collectd:collectd_memory"},
    "PrometheusQueryVmMonitoringData": {"expression": "collectd:collectd_virt_memory", "vmUuids": ["@vm-web-1"]},
    "LocalStorageMigrateVolume": {"volumeUuid": "@local", "destHostUuid": "@host-4"},
    **{api: {"uuid": "@stored", "srcBackupStorageUuid": "@store-1", "dstBackupStorageUuid": "@store-2"}
       for api in ("SyncImageFromImageStoreBackupStorage", "RecoveryImageFromImageStoreBackupStorage")},
    **{api: {"backupStorageUuid": "@store-1", "imageUuid": "@stored"} for api in ("ExportImageFromBackupStorage", "DeleteExportedImageFromBackupStorage")},
    "GetImagesFromImageStoreBackupStorage": {"uuid": "@store-1"},
    "GetDataVolumeAttachableVm": {"volumeUuid": "@volume-spare"},
    "ReimageVmInstance": {"vmInstanceUuid": "@vm-ci-1"},
    "ResizeDataVolume": {"uuid": "@volume-spare", "size": 200 << 30},
    "ResizeRootVolume": {"uuid": "@root", "size": 200 << 30},
    "SetL3NetworkRouterInterfaceIp": {"routerInterfaceIp": "10.20.0.1"},
    "SetNicQos": {"outboundBandwidth": 8192},
    "DeleteVmSshKey": {"uuid": "@vm-web-1"},
    "DeleteVmStaticIp": {"l3NetworkUuid": "@l3-private"},
    "SetVmStaticIp": {"vmInstanceUuid": "@vm-ci-1", "l3NetworkUuid": "@l3-private", "ip": "192.168.100.99"},
    "UpdateUser": {"uuid": "@user-operator"},
    "GetCandidatePrimaryStoragesForCreatingVm": {"imageUuid": "@image-centos7"},
    "GetCandidateZonesClustersHostsForCreatingVm": {"imageUuid": "@image-centos7"},
    "GetInterdependentL3NetworksImages": {"imageUuid": "@image-centos7"},
    "ChangeVmPassword": {"uuid": "@vm-web-1", "password": "p"},
    "UpdateVmNicMac": {"vmNicUuid": "@stopped-nic"},
    "GetVmStartingCandidateClustersHosts": {"uuid": "@vm-ci-1"},
    "ChangeVmImage": {"vmInstanceUuid": "@vm-ci-1", "imageUuid": "@image-centos7"},
    "ChangeInstanceOffering": {"vmInstanceUuid": "@vm-ci-1", "instanceOfferingUuid": "@offering-large"},
    "BackupStorageMigrateImage": {"srcBackupStorageUuid": "@bs-1", "dstBackupStorageUuid": "@made"},
    "CreateDataVolumeFromVolumeTemplate": {"imageUuid": "@made", "primaryStorageUuid": "@ps-nfs"},
    "CreateVolumesSnapshot": {"volumeUuids": ["@volume-db-data-1", "@volume-db-data-2"]},
    "LocalStorageGetVolumeMigratableHosts": {"volumeUuid": "@volume-spare"},
    "SetVipQos": {"inboundBandwidth": 1 << 20},
    **{f"{verb}VmInstance": {"uuid": "@vm-web-1"} for verb in ("Stop", "Reboot", "Pause", "Update", "Destroy")},
    **{api: {"vmInstanceUuid": "@vm-web-1"} for api in ("MigrateVm",)},
    **{api: {"imageUuid": "@image-centos7"} for api in ("RecoverImage", "ExpungeImage")},
    **{api: {"uuid": "@volume-spare"} for api in ("ChangeVolumeState", "DeleteDataVolume", "RecoverDataVolume", "ExpungeDataVolume")},
    **{api: {"volumeUuid": "@volume-db-data-1"} for api in ("CreateVolumeSnapshot", "CreateDataVolumeTemplateFromVolume")},
    "CreateBaremetalHostCfg": {"cfgItems": {"nicCfgs": [{"mac": "fa:00:00:00:00:01", "pxe": True}], "bondings": [{"name": "b", "slaves": "fa:00:00:00:00:02", "mode": "4"}]}},
    **{api: {"vmInstanceUuid": "@vm-web-1"} for api in ("AttachPciDeviceToVm", "DetachPciDeviceFromVm", "AttachUsbDeviceToVm", "DetachUsbDeviceFromVm")},
    "AddVRouterRouteEntry": {"target": "10.20.0.9"},
    **{f"{api}L3Networks{way}IPsecConnection": {"l3NetworkUuids": ["@vpc"]} for api, way in (("Attach", "To"), ("Detach", "From"))},
}  # fmt: skip
ALWAYS_NEW = {"Vip"}  # one that is there is taken
# calls that come first: the api, and what it is given
GROUP_ON_NETWORK = ("AttachSecurityGroupToL3Network", {"securityGroupUuid": "@group", "l3NetworkUuid": "@l3-private"})
GROUP = ("CreateSecurityGroup", {"resourceUuid": "@group"})
LISTENER = ("CreateLoadBalancerListener", {"resourceUuid": "@made", "protocol": "https", "certificateUuid": "@certificate", "loadBalancerPort": 443})
CERTIFICATE = ("CreateCertificate", {"resourceUuid": "@certificate"})
POOL = ("CreateL2VxlanNetworkPool", {"resourceUuid": "@pool"})
STORED = (("AddImageStoreBackupStorage", {"resourceUuid": "@store-1"}), ("AddImageStoreBackupStorage", {"resourceUuid": "@store-2"}),
          ("AttachBackupStorageToZone", {"backupStorageUuid": "@store-1", "zoneUuid": "@zone-1"}),
          ("AddImage", {"backupStorageUuids": ["@store-1"], "resourceUuid": "@stored"}))  # fmt: skip
ROUTES = {"networkServices": {named("provider-Flat"): ["HostRoute"]}}
ROUTER = ("CreateVpcVRouter", {"resourceUuid": "@router"})
PXE_SERVER = ("CreateBaremetalPxeServer", {})
VPC_NETWORK = (ROUTER, ("CreateL3Network", {"resourceUuid": "@vpc", "type": "L3VpcNetwork"}), ("AddIpRangeByNetworkCidr", {"l3NetworkUuid": "@vpc"}),
               ("AttachNetworkServiceToL3Network", {"l3NetworkUuid": "@vpc", "networkServices": {named("provider-vrouter"): ["IPsec"]}}),
               ("AttachL3NetworkToVm", {"vmInstanceUuid": "@router", "l3NetworkUuid": "@vpc"}))
FIRST = {
    **dict.fromkeys(("AddLabelToAlarm", "AddActionToAlarm"), (("CreateAlarm", {"resourceUuid": "@made"}),)),
    "RemoveLabelFromEventSubscription": (("AddLabelToEventSubscription", {}),),
    "RemoveActionFromEventSubscription": (("AddActionToEventSubscription", {}),),
    "RemoveSNSDingTalkAtPerson": (("AddSNSDingTalkAtPerson", {}),),
    "ValidateSNSEmailPlatform": (("CreateSNSEmailPlatform", {}),),
    "UpdateEmailMedia": (("CreateEmailMedia", {}),),
    "UpdateEmailMonitorTriggerAction": (("CreateEmailMonitorTriggerAction", {}),),
    "UnsubscribeSNSTopic": (("SubscribeSNSTopic", {}),),
    "DetachMonitorTriggerActionFromTrigger": (("AttachMonitorTriggerActionToTrigger", {}),),
    **{f"{api}Mon": ((f"Add{api[6:]}", {}),) for api in (f"Update{storage}" for storage in MONITORED)},
    **{api: (("DeleteIAM2Project", {}),) for api in ("RecoverIAM2Project", "ExpungeIAM2Project")},
    **{api: (("AddAttributesToIAM2Project", {}),) for api in ("UpdateIAM2ProjectAttribute", "RemoveAttributesFromIAM2Project")},
    **{api: (("AddAttributesToIAM2VirtualIDGroup", {}),) for api in ("UpdateIAM2VirtualIDGroupAttribute", "RemoveAttributesFromIAM2VirtualIDGroup")},
    "UpdateIAM2OrganizationAttribute": (("RemoveAttributesFromIAM2Organization", {"uuid": "@organization-sales"}), ("AddAttributesToIAM2Organization", {})),
    "UpdateIAM2VirtualIDAttribute": (("RemoveAttributesFromIAM2VirtualID", {}), ("AddAttributesToIAM2VirtualID", {})),
    "LoginIAM2Project": (("LoginIAM2VirtualID", {}),),
    "RemoveIAM2VirtualIDsFromProject": (("RemoveAttributesFromIAM2VirtualID", {}),),
    "AddDataCenterFromRemote": (KEY,),
    "GetDataCenterFromRemote": (KEY,),
    "CreateOssBackupBucketRemote": DATA_CENTRE,
    **dict.fromkeys(("BackupDatabaseToPublicCloud", "DeleteBackupFileInPublic"), BUCKET),
    "DownloadBackupFileFromPublicCloud": (*BUCKET, ("BackupDatabaseToPublicCloud", {})),
    "CreateEcsImageFromLocalImage": (("CreateOssBucketRemote", {}), ("AttachOssBucketToEcsDataCenter", {})),
    "CreateEcsImageFromEcsSnapshot": (("CreateEcsInstanceFromEcsImage", {}), ("CreateAliyunSnapshotRemote", {"diskUuid": "@AliyunDisk.diskType=system", "resourceUuid": "@made"})),
    **dict.fromkeys(("AttachAliyunDiskToEcs", "DeleteAliyunDiskFromLocal"), (("CreateAliyunDiskFromRemote", {}),)),
    "DetachAliyunDiskFromEcs": (("CreateAliyunDiskFromRemote", {}), ("AttachAliyunDiskToEcs", {})),
    "DetachHybridEipFromEcs": (("AttachHybridEipToEcs", {}),),
    "DetachOssBucketFromEcsDataCenter": (("AttachOssBucketToEcsDataCenter", {}),),
    "StartEcsInstance": (("StopEcsInstance", {}),),
    "RecoveryVirtualBorderRouterRemote": (("TerminateVirtualBorderRouterRemote", {}),),
    "SyncVpcVpnGatewayFromRemote": (("CreateEcsVSwitchRemote", {}),),
    **dict.fromkeys(("CreateAliyunRouterInterfaceRemote", "SyncAliyunRouteEntryFromRemote"), (VPC,)),
    "CreateAliyunVpcVirtualRouterEntryRemote": (VPC, ("CreateAliyunRouterInterfaceRemote", {"resourceUuid": "@interface"})),
    "StartConnectionBetweenAliyunRouterInterface": (VPC, ("CreateAliyunRouterInterfaceRemote", {}), ("SyncVirtualBorderRouterFromRemote", {}), ("CreateAliyunRouterInterfaceRemote",
        {"routerType": "VBR", "vRouterUuid": "@VirtualBorderRouter.status=active", "accessPointUuid": "@ConnectionAccessPoint.status=recommended"})),
    "DeleteCephPrimaryStoragePool": (("AddCephPrimaryStoragePool", {"resourceUuid": "@made"}),),
    "AddAliyunNasPrimaryStorage": (("AddAliyunNasMountTarget", {}),),
    **dict.fromkeys(("SyncImageFromImageStoreBackupStorage", "RecoveryImageFromImageStoreBackupStorage", "ExportImageFromBackupStorage",
                     "DeleteExportedImageFromBackupStorage", "GetImagesFromImageStoreBackupStorage"), STORED),
    "LocalStorageMigrateVolume": (("ReconnectHost", {"uuid": "@host-4"}), ("CreateDataVolume", {"primaryStorageUuid": "@ps-nfs", "resourceUuid": "@local"}),
        ("PrimaryStorageMigrateVolume", {"volumeUuid": "@local", "dstPrimaryStorageUuid": "@ps-local"})),
    "AddCertificateToLoadBalancerListener": (CERTIFICATE, LISTENER, ("RemoveCertificateFromLoadBalancerListener", {"listenerUuid": "@made", "certificateUuid": "@certificate"})),
    "RemoveCertificateFromLoadBalancerListener": (CERTIFICATE, LISTENER),
    "AddIpRange": (("CreateL3Network", {"resourceUuid": "@made"}),),
    "AddIpRangeByNetworkCidr": (("CreateL3Network", {"resourceUuid": "@made"}),),
    "BackupStorageMigrateImage": (("AddSftpBackupStorage", {"resourceUuid": "@made"}),),
    "CreateDataVolumeFromVolumeTemplate": (("CreateDataVolumeTemplateFromVolume", {"resourceUuid": "@made"}),),
    "GetL3NetworkDhcpIpAddress": (("AttachNetworkServiceToL3Network", {}), ("CreateVmInstance", {"l3NetworkUuids": ["@l3-public"]})),
    "LocalStorageGetVolumeMigratableHosts": (("PrimaryStorageMigrateVolume", {"volumeUuid": "@volume-spare", "dstPrimaryStorageUuid": "@ps-local"}),),
    "AddVmNicToSecurityGroup": (GROUP, GROUP_ON_NETWORK),
    "DetachSecurityGroupFromL3Network": (GROUP, GROUP_ON_NETWORK),
    "DeleteLongJob": (("SubmitLongJob", {}),),
    **{api: (("CreateAccount", {"resourceUuid": "@made"}),) for api in ("DeleteAccount", "ChangeResourceOwner", "UpdateQuota")},
    "CreateVniRange": (POOL,),
    "DeleteVniRange": (POOL,),
    "CreateL2VxlanNetwork": (POOL, ("CreateVniRange", {"startVni": 1, "endVni": 9})),
    "DeleteSecurityGroupRule": (GROUP,),
    "UpdateVirtualRouterOffering": (("CreateVirtualRouterOffering", {"resourceUuid": "@made"}),),
    "AttachBackupStorageToZone": (("CreateZone", {"resourceUuid": "@made"}),),
    "AttachL2NetworkToCluster": (("CreateCluster", {"resourceUuid": "@made", "zoneUuid": "@zone-1"}),),
    "AttachEip": (("DetachEip", {"uuid": "@eip-1"}),),
    "DeletePrimaryStorage": (("AddNfsPrimaryStorage", {"resourceUuid": "@made"}),),
    "AddSchedulerJobToSchedulerTrigger": (("RemoveSchedulerJobFromSchedulerTrigger", {}),),
    "RecoverDataVolume": (("DeleteDataVolume", {"uuid": "@volume-spare"}),),
    "ExpungeDataVolume": (("DeleteDataVolume", {"uuid": "@volume-spare"}),),
    "RecoverImage": (("DeleteImage", {"uuid": "@image-centos7"}),),
    "ExpungeImage": (("DeleteImage", {"uuid": "@image-centos7"}),),
    "AddHostRouteToL3Network": (("AttachNetworkServiceToL3Network", ROUTES),),
    "RemoveHostRouteFromL3Network": (("AttachNetworkServiceToL3Network", ROUTES | {"l3NetworkUuid": "@l3-private"}),
                                     ("AddHostRouteToL3Network", {"l3NetworkUuid": "@l3-private"})),
    "RemoveDnsFromL3Network": (("AddDnsToL3Network", {}),),
    "UpdateTicketRequest": (("ChangeTicketStatus", {"statusEvent": "cancel"}),),
    **dict.fromkeys(("RefreshLoadBalancer", "RemoveVmNicFromLoadBalancer"), (("AddVmNicToLoadBalancer", {}),)),
    "CleanInvalidLdapBinding": (*WITH_LDAP, ("UpdateLdapServer", {"base": "dc=org"})),
    **dict.fromkeys(("CreateLdapBinding", "GetLdapEntry", "GetCandidateLdapEntryForBinding"), WITH_LDAP[:1]),
    **dict.fromkeys(("DeleteLdapBinding", "LogInByLdap"), WITH_LDAP),
    "DetachPortForwardingRule": (("AttachPortForwardingRule", {}),),
    "RevertVolumeFromSnapshot": (("PrimaryStorageMigrateVolume", {"volumeUuid": "@volume-spare", "dstPrimaryStorageUuid": "@ps-nfs"}),
                                 ("CreateVolumeSnapshot", {"volumeUuid": "@volume-spare", "resourceUuid": "@made"})),
    "RemoveDnsFromVpcRouter": (("CreateVpcVRouter", {}), ("AddDnsToVpcRouter", {})),
    **dict.fromkeys(("AttachVRouterRouteTableToVRouter", "GetVRouterRouteTable"), (ROUTER,)),
    "DetachVRouterRouteTableFromVRouter": (ROUTER, ("AttachVRouterRouteTableToVRouter", {})),
    "AttachL3NetworksToIPsecConnection": VPC_NETWORK,
    "DetachL3NetworksFromIPsecConnection": (*VPC_NETWORK, ("AttachL3NetworksToIPsecConnection", {})),
    "DetachPciDeviceFromVm": (("AttachPciDeviceToVm", {}),),
    "DetachUsbDeviceFromVm": (("AttachUsbDeviceToVm", {}),),
    "ProvisionBaremetalHost": (PXE_SERVER, ("CreateBaremetalHostCfg", {})),
    "RequestBaremetalConsoleAccess": (PXE_SERVER,),
    "RemoveRemoteCidrsFromIPsecConnection": (("AddRemoteCidrsToIPsecConnection", {}),),
    **dict.fromkeys(("AddDnsToVpcRouter", "GetAttachablePublicL3ForVRouter", "GetAttachableVpcL3Network", "GetVpcVRouterDistributedRoutingConnections",
                     "GetVpcVRouterDistributedRoutingEnabled", "ReconnectVirtualRouter", "SetVpcVRouterDistributedRoutingEnabled"), (("CreateVpcVRouter", {}),)),
}  # fmt: skip


ABSENT = "a" * 31 + "4"


class Drive:
    """Makes a call of any API with what it needs."""

    def __init__(self, mock):
        self.mock = mock
        self.store = mock.cloud.store

    async def params(self, api):
        """Parameters that are legal: what the tables say, and what is required."""
        said = {name: self.told(value) for name, value in GIVEN.get(api.name, {}).items()}
        for param in api.params.values():
            if param.name not in said and (param.required or f"{{{param.name}}}" in api.path or (api.method == "GET" and param.name == "all")):
                said[param.name] = await self.value(param)
        return said

    def told(self, value):
        """A value of the tables: a state that is looked for, or an item by its name."""
        if isinstance(value, list):
            return [self.told(element) for element in value]
        looked_for = {"@rule": ("SecurityGroupRule", "securityGroupUuid", named("group")), "@nic": ("VmNic", "vmInstanceUuid", named("vm-web-2")), "@stopped-nic": ("VmNic", "vmInstanceUuid", named("vm-ci-1")), "@root": ("Volume", "type", "Root"), "@done": ("LongJob", "state", "Succeeded"), "@waiting": ("GarbageCollector", "status", "Idle")}
        place = looked_for.get(value) if isinstance(value, str) else None
        if not place and isinstance(value, str) and (match := re.fullmatch(r"@(\w+)\.(\w+)=(\w+)(\.files)?", value)):
            place = match.groups()[:3]
        if place:
            item = next(iter(self.store.find(*place)), {"uuid": ABSENT})
            return item["files"][0] if str(value).endswith(".files") else item["uuid"]
        return resolved(value)

    async def value(self, param):
        if param.name in BY_NAME and not (param.refers and param.name != "l3NetworkUuid"):
            return resolved(BY_NAME[param.name])
        if param.refers:
            uuid = await self.one(param.refers)
            return [uuid] if param.type == "list" else uuid
        if param.values:
            return param.values[0]
        if param.regex:
            return next(text for text in ("A0", "secret", "Large.1") if not param.problem(text))
        plain = {"str": "x" * max(1, param.shortest), "bool": True, "list": ["x"], "map": {"a": "b"}, "maps": [{"a": "b"}]}
        return plain.get(param.type, param.low or 1)

    async def one(self, type):
        """The uuid of an item of a type: the first there is, or a new one."""
        row = CATALOGUE.resources[type if type != "Resource" else "Zone"]
        there = [item["uuid"] for item in self.store.in_order(row.stored) if row.has(item)] if type not in ALWAYS_NEW else ()
        if there:
            return there[0]
        made = [api for api in SIMULATED.values() if api.type == type and (api.creates or api.kind == "Sync")]
        assert made, f"no API makes a {type}"
        api = min(made, key=lambda api: not api.creates)
        await self.prepare(api, again=True)
        body = await self.mock.call(api.name, **await self.params(api))
        return (body["inventory"] if api.creates else body["inventories"][0])["uuid"]

    async def prepare(self, api, again=False):
        """Make the calls that come first, which may have been made when it is done again."""
        for name, given in FIRST.get(api.name, ()):
            with contextlib.suppress(RuntimeError) if again else contextlib.nullcontext():
                body = await self.mock.call(name, **await self.params(SIMULATED[name]) | {key: self.told(value) for key, value in given.items()})
                if name == "LoginIAM2VirtualID":
                    self.mock.session = body["inventory"]["uuid"]


DELETES_WITHIN = ("DeleteAllEcsInstancesFromDataCenter", "DeleteOssBucketFileRemote")  # something of the object, not itself
CLIENTS_USE = (
    "accounts management-nodes zones clusters hosts primary-storage backup-storage images instance-offerings disk-offerings vm-instances vpc/virtual-routers "
    "volumes volume-snapshots l2-networks l3-networks network-services vips eips port-forwarding load-balancers certificates security-groups system-tags user-tags "
    "tags longjobs task-progresses global-configurations notifications gc-jobs licenses scheduler affinity-groups"
).split()


@each("collection", CLIENTS_USE)
def test_all_of_what_clients_use_is_simulated(collection):
    apis = [api for api in CATALOGUE.apis.values() if f"{api.path}/".startswith(f"/{collection}/")]
    assert apis and [api.name for api in apis if api.backing == "none"] == []


# members of answers that are maps, of which the server names nothing (JsonSchemaBuilder.java)
MAPS = {"ZQLQuery.result", "BatchQuery.result", "CheckApiPermission.inventory", "GetResourceAccount.inventories", "GetCandidatePrimaryStoragesForCreatingVm.dataVolumePrimaryStorages", "GetCurrentTime.currentTime",
        "GetLicenseCapabilities.capabilities", "GetNetworkServiceTypes.types", "GetVmCapabilities.capabilities", "GetVolumeCapabilities.capabilities",
        "GetMetricLabelValue.labels", "PrometheusQueryLabelValues.inventories", "PrometheusQueryMetadata.inventories", "GetVpcVRouterDistributedRoutingConnections.inventories", "KvmRunShell.inventory", "PrometheusQueryPassThrough.inventories",
        "PrometheusQueryVmMonitoringData.inventories", "ReconnectConsoleProxyAgent.inventory", "GetLdapEntry.inventories",
        "GetCandidateLdapEntryForBinding.inventories", "GetResourceFromResourceStack.resources",
        "GetIAM2VirtualIDAPIPermission.permissions"}  # fmt: skip
UNTYPED = {"opaque", "attachedCidrs", "labels", "preview.actions", "quota", "apiBody", "accountSystemContext"}  # members of inventories that are maps of texts, or of anything


def objects_in(value, path=""):
    """The objects in an answer by their paths, those in maps left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            if not {name, place} & UNTYPED:
                yield from [(place, inner)] if isinstance(inner, dict) else ()
                yield from objects_in(inner, place)
    for index, inner in enumerate(value if isinstance(value, list) else ()):
        yield from [(f"{path}[{index}]", inner)] if isinstance(inner, dict) else ()
        yield from objects_in(inner, f"{path}[{index}]")


def value_at(body, path):
    for step in re.findall(r"\w+", path):
        body = body[int(step) if isinstance(body, list) else step]
    return body


def misnamed(name, body):
    """What is wrong with the schema of an answer: objects without a class, paths that lead nowhere, classes that are not what is there."""
    schema = body["schema"]
    answer = {member: value for member, value in body.items() if member != "schema" and f"{name}.{member}" not in MAPS}
    yield from [f"{path} has no class" for path, _ in objects_in(answer) if path not in schema]
    for path, java in schema.items():
        value, simple = value_at(answer, path), re.split("[.$]", java)[-1]
        if isinstance(value, dict):
            declared = Draft202012Validator({"$ref": f"#/components/schemas/{simple}", "components": CONTRACT})
            yield from [f"{path} is no {simple}: {error.message}" for error in declared.iter_errors(value)]
        elif value not in (CATALOGUE.classes[simple].constants if simple in CATALOGUE.classes else ()):
            yield f"{path} is {value}, no {simple}"


@each("name", sorted(SIMULATED))
async def test_it_does_what_it_is_for(zmock, name):
    api = SIMULATED[name]
    add_header(zmock, "X-JSON-Schema", "true")
    await zmock.login()
    drive = Drive(zmock)
    await drive.prepare(api)
    params = await drive.params(api)
    body = await zmock.call(name, **params)
    promised = Draft202012Validator({"$ref": f"#/components/schemas/{name}Result", "components": CONTRACT})
    assert [f"{error.json_path}: {error.message}" for error in promised.iter_errors(body)] == []
    assert [*misnamed(name, body)] == [], "typed clients read each object into its class"
    for member in re.findall(r"(inventor(?:y|ies)):\w+", api.answers):
        assert member in body
    shown = body.get("inventory", {}) if body else {}
    if api.creates:
        row = CATALOGUE.resources[api.type]
        assert zmock.cloud.store.peek(row.stored, shown.get("uuid", "")) or "uuid" not in row.fields
    if shown and (api.creates or api.kind == "Update"):
        dates = [key for key, kind in CATALOGUE.resources[api.type].all_fields.items() if kind == "date"]
        same = {key: value for key, value in params.items() if key in shown and key not in ("uuid", *dates)}
        assert {key: shown[key] for key in same} == same, "what was given is there"
    if api.kind in ("Delete", "Expunge", "Destroy") and api.target and re.fullmatch(r"/[a-z/0-9-]+/{uuid}", api.path) and api.type not in ("ManagementNode", "License") and api.name not in DELETES_WITHIN:
        item = zmock.cloud.store.peek(CATALOGUE.resources[api.target.refers].stored, params[api.target.name]) or {}
        assert not item or "De" in item.get("status", "") + item.get("state", ""), "what was deleted is gone, or waits to be expunged"


HEADER, NETWORK, PLUGIN = "org.zstack.header.", "org.zstack.network.service.", "org.zstack."
LISTENERS = "AddCertificateToLoadBalancerListener"
NAMED_WITHIN = {  # the APIs that are called: what the answer of the last one has inside, with its class
    "QueryImage": {"inventories[0].backupStorageRefs[0]": HEADER + "image.ImageBackupStorageRefInventory"},
    "AddImage": {"inventory.backupStorageRefs[0]": HEADER + "image.ImageBackupStorageRefInventory"},
    "QueryL3Network": {"inventories[0].networkServices[0]": HEADER + "network.service.NetworkServiceL3NetworkRefInventory",
                       "inventories[0].ipRanges[0]": HEADER + "network.l3.IpRangeInventory"},
    "AddHostRouteToL3Network": {"inventory.hostRoute[0]": HEADER + "network.l3.L3NetworkHostRouteInventory"},
    "CreatePolicy": {"inventory.statements[0]": HEADER + "identity.PolicyStatement"},
    "CreatePolicy QueryPolicy": {"inventories[0].statements[0].effect": HEADER + "identity.StatementEffect"},
    "CreateVolumeSnapshot CreateVolumeSnapshot QueryVolumeSnapshotTree": {
        **{f"inventories[0].tree{leaf}": HEADER + "storage.snapshot.VolumeSnapshotTree$SnapshotLeafInventory" for leaf in ("", ".children[0]")},
        **{f"inventories[0].tree{leaf}.inventory": HEADER + "storage.snapshot.VolumeSnapshotInventory" for leaf in ("", ".children[0]")}},
    "AddVmNicToLoadBalancer": {"inventory.vmNicRefs[0]": NETWORK + "lb.LoadBalancerListenerVmNicRefInventory"},
    LISTENERS: {"inventory.certificateRefs[0]": NETWORK + "lb.LoadBalancerListenerCertificateRefInventory"},
    f"{LISTENERS} QueryLoadBalancer": {"inventories[0].listeners[0]": NETWORK + "lb.LoadBalancerListenerInventory",
                                       "inventories[0].listeners[0].certificateRefs[0]": NETWORK + "lb.LoadBalancerListenerCertificateRefInventory"},
    f"{LISTENERS} QueryCertificate": {"inventories[0].listeners[0]": NETWORK + "lb.LoadBalancerListenerCertificateRefInventory"},
    "GetFreeIpOfL3Network": {"inventories[0]": HEADER + "network.l3.FreeIpInventory"},
    "GetFreeIpOfIpRange": {"inventories[1]": HEADER + "network.l3.FreeIpInventory"},
    "GetVipUsedPorts": {"inventories[0]": NETWORK + "virtualrouter.APIGetVipUsedPortsReply$VipPortRangeInventory"},
    "GetLocalStorageHostDiskCapacity": {"inventories[0]": PLUGIN + "storage.primary.local.APIGetLocalStorageHostDiskCapacityReply$HostDiskCapacity"},
    "GetVolumeFormat": {"formats[1]": HEADER + "volume.APIGetVolumeFormatReply$VolumeFormatReplyStruct"},
    "GetAccountQuotaUsage": {"usages[0]": HEADER + "identity.Quota$QuotaUsage"},
    "CloneVmInstance": {"result": HEADER + "vm.CloneVmInstanceResults", "result.inventories[0]": HEADER + "vm.CloneVmInstanceInventory",
                        "result.inventories[0].inventory": HEADER + "vm.VmInstanceInventory",
                        "result.inventories[0].inventory.vmNics[0]": HEADER + "vm.VmNicInventory"},
    "AddDnsToVpcRouter": {"inventory": PLUGIN + "vpc.VpcRouterVmInventory", "inventory.dns[0]": PLUGIN + "vpc.VpcRouterDnsInventory"},
    "GetImagesFromImageStoreBackupStorage": {"infos[0]": PLUGIN + "storage.backup.imagestore.ImageStoreImageStruct"},
    "RequestConsoleAccess": {"inventory": HEADER + "console.ConsoleInventory"},
    "SubmitLongJob": {"inventory.state": HEADER + "longjob.LongJobState"},
    # subclasses among others
    "QueryHost": {"inventories[0]": PLUGIN + "kvm.KVMHostInventory"},
    "AddDnsToVpcRouter QueryVmInstance": {"inventories[type=UserVm]": HEADER + "vm.VmInstanceInventory",
                                          "inventories[type=ApplianceVm]": PLUGIN + "vpc.VpcRouterVmInventory",
                                          "inventories[type=ApplianceVm].dns[0]": PLUGIN + "vpc.VpcRouterDnsInventory"},
    "AddDnsToVpcRouter QueryApplianceVm": {"inventories[0]": PLUGIN + "vpc.VpcRouterVmInventory", "inventories[0].vmNics[0]": HEADER + "vm.VmNicInventory"},
    "CreateVirtualRouterOffering QueryInstanceOffering": {"inventories[type=UserVm]": HEADER + "configuration.InstanceOfferingInventory",
                                                          "inventories[type=VirtualRouter]": NETWORK + "virtualrouter.VirtualRouterOfferingInventory"},
    "AddImageStoreBackupStorage QueryBackupStorage": {"inventories[type=SftpBackupStorage]": PLUGIN + "storage.backup.sftp.SftpBackupStorageInventory",
        "inventories[type=ImageStoreBackupStorage]": PLUGIN + "storage.backup.imagestore.ImageStoreBackupStorageInventory"},
    "AddFusionstorPrimaryStorage QueryPrimaryStorage": {"inventories[type=LocalStorage]": HEADER + "storage.primary.PrimaryStorageInventory",
        "inventories[type=Fusionstor].mons[0]": PLUGIN + "storage.fusionstor.primary.FusionstorPrimaryStorageMonInventory"},
    "AddSharedBlockGroupPrimaryStorage QueryPrimaryStorage": {
        "inventories[type=SharedBlock].sharedBlocks[0].state": PLUGIN + "storage.primary.sharedblock.SharedBlockState"},
    "AddNfsPrimaryStorage": {"inventory": HEADER + "storage.primary.PrimaryStorageInventory"},
    "CreateL2VxlanNetwork QueryL2Network": {"inventories[type=VxlanNetwork]": PLUGIN + "network.l2.vxlan.vxlanNetwork.L2VxlanNetworkInventory",
        "inventories[type=VxlanNetworkPool].attachedVniRanges[0]": PLUGIN + "network.l2.vxlan.vxlanNetworkPool.VniRangeInventory"},
    "AddAliyunNasFileSystem QueryNasFileSystem": {"inventories[0]": PLUGIN + "aliyun.nas.filesystem.AliyunNasFileSystemInventory",
                                                  "inventories[0].protocol": PLUGIN + "nas.NasProtocolType"},
}  # fmt: skip


def index_of(path, body):
    """A path with the index of the list's item that has this type: "inventories[type=Ceph]" -> "inventories[2]"."""
    return re.sub(r"(\w+)\[type=(\w+)\]", lambda told: f"{told[1]}[{[one['type'] for one in body[told[1]]].index(told[2])}]", path)


@each("called", NAMED_WITHIN)
async def test_an_answer_names_the_class_of_what_is_inside_an_inventory(called):
    async with serve() as mock:
        add_header(mock, "X-JSON-Schema", "true")
        drive = Drive(mock)
        for name in called.split():
            await drive.prepare(SIMULATED[name])
            body = await mock.call(name, **await drive.params(SIMULATED[name]))
    schema, expected = body["schema"], {index_of(path, body): java for path, java in NAMED_WITHIN[called].items()}
    assert {path: schema.get(path) for path in expected} == expected
    assert [*misnamed(name, body)] == []


@pytest.mark.parametrize("called", ("CloneVmInstance", "QueryVolumeSnapshotTree", "QueryL3Network"))
async def test_an_object_is_named_before_what_is_in_it_for_the_sdk_replaces_one_after_the_other(called):
    async with serve() as mock:
        add_header(mock, "X-JSON-Schema", "true")
        body = await mock.call(called, **await Drive(mock).params(SIMULATED[called]))
    met = set()
    for path in body["schema"]:
        inside = path.rpartition(".")[0]
        assert inside in met or "." not in path
        met.add(path)


async def test_a_reference_of_a_snapshot_to_a_backup_storage_is_named():
    async with serve() as mock:
        snapshot = (await mock.call("QueryVolumeSnapshot"))["inventories"][0]["uuid"]
        mock.cloud.change("VolumeSnapshot", snapshot, backupStorageRefs=[{"volumeSnapshotUuid": snapshot, "backupStorageUuid": named("bs-1")}])
        for path, place in ((f"/volume-snapshots/{snapshot}", "inventory"), ("/volume-snapshots/trees?q=snapshot.uuid=" + snapshot, "inventories[0].tree.inventory")):
            _, body = await mock.request("GET", path, headers={"X-JSON-Schema": "true"})
            assert body["schema"][f"{place}.backupStorageRefs[0]"] == HEADER + "storage.snapshot.VolumeSnapshotBackupStorageRefInventory"
            assert [*misnamed("", body)] == []


async def test_without_the_header_nothing_looks_for_classes(monkeypatch):
    monkeypatch.setattr("zmock.schema_of", lambda *_: pytest.fail("looked for"))
    async with serve() as mock:
        assert "schema" not in await mock.call("QueryVmInstance")
        assert "schema" not in await mock.call("CreateZone", name="z")


def is_reference(param):
    return param.refers not in ("", "Resource") and param.required and not param.may_be_gone


async def absent(type):
    return ABSENT


def refusal_of(api, params):
    """What is wrong in the most typical way: parameters, and the code that tells so."""
    for param in api.params.values():
        if is_reference(param):
            return params | {param.name: [ABSENT] if param.type == "list" else ABSENT}, "SYS.1003"
    for param in api.params.values():
        if param.required and f"{{{param.name}}}" not in api.path:
            return {name: value for name, value in params.items() if name != param.name}, "SYS.1007"
    if api.method == "DELETE":
        return params | {"deleteMode": "Later"}, "SYS.1007"
    return None


@each("name", sorted(SIMULATED))
async def test_it_refuses_what_is_typically_wrong(zmock, name):
    api = SIMULATED[name]
    await zmock.login()
    drive = Drive(zmock)
    if api.kind == "Query":
        status, body = await zmock.request("GET", f"{api.path}?q=nosuchfield=1")
        assert (status, body["error"]["code"]) == (400, "SYS.1007")
        return
    if any(map(is_reference, api.params.values())):
        drive.one = absent  # this is refused before all else
    else:
        await drive.prepare(api)
    wrong = refusal_of(api, await drive.params(api))
    if wrong:
        with pytest.raises(RuntimeError, match=wrong[1]):
            await zmock.call(name, **wrong[0])
        return
    zmock.session = "a" * 32
    if api.open:
        assert await zmock.call(name, **await drive.params(api)) is not None, "it answers anybody"
    else:
        with pytest.raises(RuntimeError, match="ID.1001"):
            await zmock.call(name, **await drive.params(api))


SUBTYPES = "AddDnsToVpcRouter AddSNSDingTalkAtPerson AddVCenter CreateEmailMedia CreateEmailMonitorTriggerAction CreateSNSEmailPlatform CreateSNSHttpEndpoint".split()
OTHERS = ("AddAliyunNasFileSystem", "AddAttributesToIAM2VirtualIDGroup", "CreateEcsInstanceFromEcsImage", "ProvisionBaremetalHost", "AttachPciDeviceToVm")


@each("name", [*SUBTYPES, *OTHERS])
async def test_what_it_made_is_whole_after_a_restart_and_can_be_exported(zmock, tmp_path, name):
    await zmock.login()
    drive = Drive(zmock)
    await drive.prepare(SIMULATED[name])
    await zmock.call(name, **await drive.params(SIMULATED[name]))
    assert repair(zmock.cloud, CATALOGUE.resources) == []
    path = tmp_path / "cloud.json"
    path.write_text(json.dumps(await ask_control(zmock, "GET", "cloud")))
    async with serve(cloud=str(path)) as other:
        for type in {CATALOGUE.resources[SIMULATED[name].type].stored} if SIMULATED[name].type else ():
            assert {item["uuid"] for item in other.cloud.store.rows(type)} == {item["uuid"] for item in zmock.cloud.store.rows(type)}


STAGED = [(api.name, param.name) for api in SIMULATED.values() for param in api.params.values() if api.stages and param.refers]
JOB = "b" * 31 + "4"


@each("name, param", STAGED)
async def test_what_is_deleted_while_an_operation_needs_it_leaves_nothing_half_done(zmock, name, param):
    api, cloud = SIMULATED[name], zmock.cloud
    await zmock.login()
    drive = Drive(zmock)
    await drive.prepare(api)
    params = await drive.params(api)
    value = params.setdefault(param, await drive.value(api.params[param]))
    with without_exceptions(name, param):
        cloud.jobs.submit(Call(api, cloud.check(api, params), job=JOB, account=ADMIN, user=ADMIN, seconds=30))
        cloud.remove(CATALOGUE.resources[api.params[param].refers].stored, value[0] if isinstance(value, list) else value)
        await zmock.advance(60)
    job = cloud.look("Job", JOB)
    assert job["state"] in ("succeeded", "failed") and "null" not in json.dumps(job.get("body", ""))
    load_objects("cloud", exported(cloud), new_cloud(Settings(memory=True, clock="frozen"), CATALOGUE))
