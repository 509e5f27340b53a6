"""Stories of devices: bare metal, PCI and USB devices, IPsec connections and route tables. See tests/test_stories.py."""

import json

import pytest
from test_stories import CENTOS, GIB, HOST_1, HOST_2, PRIVATE, PUBLIC, SMALL, Client

from zmock import named, serve

WEB, CI, DB_2 = map(named, ("vm-web-1", "vm-ci-1", "vm-db-2"))
GPU, USB, OFFERING = map(named, ("gpu-1", "usb-key-1", "gpu-p4"))
CHASSIS = {"name": "rack-1", "ipmiAddress": "10.0.9.1", "ipmiUsername": "admin", "ipmiPassword": "secret"}


# bare metal


async def hardware(client, chassis):
    _, answer = await client.mock.request("GET", f"/baremetal/hardwareinfo?q=chassisUuid={chassis}")
    return {row["type"]: json.loads(row["content"]) for row in answer["inventories"]}


async def test_a_chassis_from_the_pxe_server_to_provisioned(client):
    chassis = await client.call("CreateBaremetalChassis", **CHASSIS)
    uuid = chassis["uuid"]
    assert (chassis["ipmiPort"], chassis["status"]) == ("623", "Unprovisioned") and not {"ipmiPassword", "powerStatus"} & chassis.keys()
    assert await client.call("PowerStatusBaremetalHost", chassisUuid=uuid) == {"status": "Chassis Power is off"}

    # without a PXE server it is on, and reports nothing
    await client.call("PowerOnBaremetalHost", chassisUuid=uuid)
    assert await client.call("PowerStatusBaremetalHost", chassisUuid=uuid) == {"status": "Chassis Power is on"}
    assert await hardware(client, uuid) == {}
    await client.fails("BAREMETAL.1401: the PXE server is not running", "RequestBaremetalConsoleAccess", chassisUuid=uuid)

    # it boots from one that runs
    pxe = await client.call("CreateBaremetalPxeServer", name="pxe", dhcpInterface="eth1", dhcpRangeBegin="10.0.8.10", dhcpRangeEnd="10.0.8.99", dhcpRangeNetmask="255.255.255.0")
    assert pxe["status"] == "Running"
    await client.call("StopBaremetalPxeServer", uuid=pxe["uuid"])
    await client.call("PowerResetBaremetalHost", chassisUuid=uuid)
    assert await hardware(client, uuid) == {}
    await client.call("StartBaremetalPxeServer", uuid=pxe["uuid"])
    await client.call("PowerResetBaremetalHost", chassisUuid=uuid)
    found = await hardware(client, uuid)
    assert found["basic"]["memorySize"] == 64 * GIB
    mac = found["nic"][0]["mac"]
    await client.call("PowerResetBaremetalHost", chassisUuid=uuid)
    assert await hardware(client, uuid) == found, "once"

    # provisioned by its configuration
    await client.fails("SYS.1006: chassis[uuid:*] has no host configuration", "ProvisionBaremetalHost", chassisUuid=uuid)
    nic = {"mac": mac, "ip": "10.0.8.20", "netmask": "255.255.255.0", "gateway": "10.0.8.1"}
    bonding = {"name": "bond0", "slaves": "fa:00:00:00:00:01,fa:00:00:00:00:02", "mode": 4}
    cfg = await client.call("CreateBaremetalHostCfg", chassisUuid=uuid, password="secret", cfgItems={"nicCfgs": [nic], "bondings": [bonding]})
    assert [(row["mac"], row["ip"], row["pxe"]) for row in cfg["nicCfgs"]] == [(mac, "10.0.8.20", False)] and "dns" not in cfg["nicCfgs"][0]
    assert [(row["name"], row["slaves"], row["mode"]) for row in cfg["bondings"]] == [("bond0", bonding["slaves"], "4")]
    assert (cfg["vnc"], cfg["unattended"], cfg["cloneIso"]) == (True, True, False) and "password" not in cfg
    await client.fails("SYS.1006: There must be one and only one pxe=true.", "ProvisionBaremetalHost", chassisUuid=uuid)
    await client.call("DeleteBaremetalHostCfg", uuid=cfg["uuid"])
    await client.call("CreateBaremetalHostCfg", chassisUuid=uuid, cfgItems={"nicCfgs": [nic | {"pxe": True}]})
    began = await client.begin("ProvisionBaremetalHost", chassisUuid=uuid)
    await client.mock.advance(1)
    assert (await client.look("baremetal/chassis", uuid))["status"] == "Provisioning"
    _, answer = await client.end(*began)
    assert answer["inventory"]["status"] == "Provisioned"
    console = await client.call("RequestBaremetalConsoleAccess", chassisUuid=uuid)
    assert console["chassisUuid"] == uuid and console["token"]

    # again only when it is marked as unprovisioned
    await client.fails("SYS.1006: Chassis * has already been provisioned. Update status = Unprovisioned before re-provision.", "ProvisionBaremetalHost", chassisUuid=uuid)
    await client.call("UpdateBaremetalChassis", uuid=uuid, status="Unprovisioned")
    assert (await client.call("ProvisionBaremetalHost", chassisUuid=uuid))["status"] == "Provisioned"
    await client.call("PowerOffBaremetalHost", chassisUuid=uuid)
    assert await client.call("PowerStatusBaremetalHost", chassisUuid=uuid) == {"status": "Chassis Power is off"}
    await client.call("DeleteBaremetalChassis", uuid=uuid)
    assert await hardware(client, uuid) == {} and await client.mock.query("baremetal/hostcfg") == []


def nics(**nic):
    return {"chassisUuid": "chassis", "cfgItems": {"nicCfgs": [{"mac": "fa:00:00:00:00:01"} | nic]}}


def bondings(**bonding):
    return {"chassisUuid": "chassis", "cfgItems": {"bondings": [{"name": "b", "slaves": "s", "mode": "0"} | bonding]}}


PXE = {"name": "p", "dhcpInterface": "eth1"}
REFUSED = (
    ("CreateBaremetalChassis", CHASSIS, "Baremetal Chassis of IPMI address 10.0.9.1 and IPMI port 623 has already been created."),
    ("CreateBaremetalChassis", CHASSIS | {"ipmiAddress": "x"}, "IPMI Address x is not valid"),
    ("UpdateBaremetalChassis", {"uuid": "chassis", "ipmiAddress": "10.0.9.2"}, "IPMI Address and Port 10.0.9.2:623 already exists."),
    ("CreateBaremetalPxeServer", PXE, "PXE server[uuid:*] has been created already"),
    ("CreateBaremetalPxeServer", PXE | {"dhcpRangeBegin": "10.0.0.1"}, "Set Range Start & End, or set Range Start & End & Netmask!"),
    ("CreateBaremetalPxeServer", PXE | {"dhcpRangeBegin": "10.0.0.9", "dhcpRangeEnd": "10.0.0.1"}, "PXE Server DHCP Range Start 10.0.0.9 is larger than Range Stop 10.0.0.1."),
    ("CreateBaremetalPxeServer", PXE | {"dhcpRangeBegin": "10.0.0.1", "dhcpRangeEnd": "10.0.1.9", "dhcpRangeNetmask": "255.255.255.0"},
     "PXE Server DHCP Range Start 10.0.0.1 and Range Stop 10.0.1.9 do not belong to the same subnet."),
    ("StopBaremetalPxeServer", {"uuid": "pxe"}, "chassis[uuid:*] is being provisioned from the PXE server"),
    ("DeleteBaremetalPxeServer", {"uuid": "pxe"}, "chassis[uuid:*] is being provisioned from the PXE server"),
    ("CreateBaremetalHostCfg", {"chassisUuid": "chassis", "cfgItems": {"nics": []}}, "cfgItems has nicCfgs and bondings, not nics"),
    ("CreateBaremetalHostCfg", nics(mac=""), "Mac cannot be empty."),
    ("CreateBaremetalHostCfg", nics(mac=5), "Mac address 5 is not valid. It should be like 11:11:11:11:11:11"),
    ("CreateBaremetalHostCfg", nics(ip="10.0.0.1"), "IP/Netmask should be all empty or all exists."),
    ("CreateBaremetalHostCfg", nics(ip="10.0.0.1", netmask=["x"]), "Netmask x is not valid."),
    ("CreateBaremetalHostCfg", nics(ip="10.0.0.1", netmask="255.0.0.0", gateway="9.0.0.1"), "IP address 10.0.0.1 and Gateway 9.0.0.1 do not belong to one subnet!"),
    ("CreateBaremetalHostCfg", nics(ip="10.0.9.1", netmask="255.0.0.0"), "Ip address 10.0.9.1 is same as IPMI address of chassis *."),
    ("CreateBaremetalHostCfg", nics(pxe="yes"), "pxe of nic fa:00:00:00:00:01 is yes, neither true nor false"),
    ("CreateBaremetalHostCfg", bondings(slaves=""), "Bonding slaves is empty."),
    ("CreateBaremetalHostCfg", bondings(mode="7"), "Bonding mode 7 is not valid [0 ~ 6]."),
    ("AddVRouterRouteEntry", {"routeTableUuid": "table", "destination": "10.0.0.0", "target": "10.0.0.1"}, "destination[10.0.0.0] is not a CIDR"),
    ("AddVRouterRouteEntry", {"routeTableUuid": "table", "destination": "10.0.0.0/8"}, "a route entry of type UserStatic needs a target"),
    ("AddVRouterRouteEntry", {"routeTableUuid": "table", "destination": "10.0.0.0/8", "target": "x"}, "target[x] is not an IPv4 address"),
    ("AddVRouterRouteEntry", {"routeTableUuid": "table", "destination": "10.0.0.0/8", "type": "UserBlackHole", "target": "10.0.0.1"}, "a route entry of type UserBlackHole has no target"),
    ("AddVRouterRouteEntry", {"routeTableUuid": "table", "destination": "10.0.0.0/8", "type": "ZStack"}, "type[ZStack] of a route entry is neither UserStatic nor UserBlackHole"),
)  # fmt: skip


@pytest.fixture
async def prepared():
    async with serve() as mock:
        await mock.login()
        client = Client(mock)
        uuids = {"chassis": (await client.call("CreateBaremetalChassis", **CHASSIS))["uuid"], "table": (await client.call("CreateVRouterRouteTable", name="t"))["uuid"]}
        busy = (await client.call("CreateBaremetalChassis", **CHASSIS | {"ipmiAddress": "10.0.9.2"}))["uuid"]
        await client.call("UpdateBaremetalChassis", uuid=busy, status="Provisioning")
        uuids["pxe"] = (await client.call("CreateBaremetalPxeServer", **PXE))["uuid"]
        yield client, uuids


async def test_what_cannot_be_is_refused(prepared):
    client, uuids = prepared
    for api, params, details in REFUSED:
        params = {name: uuids.get(value, value) if isinstance(value, str) else value for name, value in params.items()}
        await client.fails(f"*: {details}", api, **params)


# PCI and USB devices


async def test_a_gpu_is_attached_to_a_machine_and_free_when_that_is_destroyed(client):
    assert [row["uuid"] for row in (await client.call("GetPciDeviceCandidatesForNewCreateVm"))["inventories"]] == [GPU]
    assert (await client.call("GetPciDeviceCandidatesForNewCreateVm", hostUuid=HOST_2))["inventories"] == []
    gpu = await client.call("AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=WEB)
    assert (gpu["vmInstanceUuid"], gpu["status"], gpu["hostUuid"]) == (WEB, "Attached", HOST_1)
    assert (await client.call("GetPciDeviceCandidatesForNewCreateVm", clusterUuids=[named("cluster-1")], types=["GPU_3D_Controller"]))["inventories"] == []
    await client.fails(f"SYS.1006: specified invalid(non-exists, disabled or not attachable) pci device[uuid: {GPU}]*", "AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=CI)
    await client.fails(f"SYS.1006: pci device[uuid:{GPU}] is not attached to vm[uuid:{CI}]", "DetachPciDeviceFromVm", pciDeviceUuid=GPU, vmInstanceUuid=CI)

    # its machine stays on the host
    await client.fails(f"SYS.1006: can not migrate vm[uuid:{WEB}] since pci device attached", "MigrateVm", vmInstanceUuid=WEB)
    await client.fails(f"SYS.1006: The host [{HOST_1}] has failed to enter the maintenance, The vm [[{WEB}]] cannot migrate*", "ChangeHostState", uuid=HOST_1, stateEvent="maintain")
    await client.call("StopVmInstance", uuid=WEB)
    await client.fails("VM.1001 <- HOST_ALLOCATION.1000: *No host with uuid=*", "StartVmInstance", uuid=WEB, hostUuid=HOST_2)
    assert (await client.call("StartVmInstance", uuid=WEB))["hostUuid"] == HOST_1
    await client.call("DetachPciDeviceFromVm", pciDeviceUuid=GPU, vmInstanceUuid=WEB)
    await client.fails(f"SYS.1006: can not attach this pci device[uuid:{GPU}] to vm[uuid:{DB_2}] due to host allocation", "AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=DB_2)

    # it is free again once the machine is destroyed
    await client.call("AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=WEB)
    await client.fails("SYS.1006: *is attached to vm*", "DeletePciDevice", uuid=GPU)
    await client.call("DestroyVmInstance", uuid=WEB)
    gpu = await client.look("pci-device/pci-devices", GPU)
    assert (gpu["status"], gpu.get("vmInstanceUuid")) == ("Active", None)
    assert gpu["matchedPciDeviceOfferingRef"] == [{"pciDeviceUuid": GPU, "pciDeviceOfferingUuid": OFFERING}]

    # a new machine takes it with a tag, and comes to its host
    new = {"instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "systemTags": [f"pciDevice::{GPU}"]}
    vm = await client.call("CreateVmInstance", name="train", **new)
    assert vm["hostUuid"] == HOST_1 and (await client.look("pci-device/pci-devices", GPU))["vmInstanceUuid"] == vm["uuid"]
    await client.fails("*specified invalid(non-exists, disabled or not attachable) pci device*", "CreateVmInstance", name="second", **new)
    await client.call("UpdatePciDevice", uuid=GPU, state="Disabled", metaData="cores=2560")
    gpu = await client.look("pci-device/pci-devices", GPU)
    assert (gpu["state"], gpu["metaData"]) == ("Disabled", {"metaData": "cores=2560"})
    for params in ({"metaData": ""}, {"description": "d"}):
        await client.call("UpdatePciDevice", uuid=GPU, **params)
        assert (await client.look("pci-device/pci-devices", GPU))["metaData"] == {"metaData": ""}


async def test_iommu_is_active_after_a_reconnection_and_offerings_match_by_ids(client):
    assert await client.call("GetHostIommuStatus", uuid=HOST_2) == {"status": "Inactive"}
    assert await client.call("UpdateHostIommuState", uuid=HOST_1, state="Disabled") == {"state": "Disabled"}
    assert (await client.look("hosts", HOST_1))["state"] == "Enabled" and await client.call("GetHostIommuState", uuid=HOST_1) == {"state": "Disabled"}
    disabled = f"SYS.1006: IOMMU state or status of host[uuid: {HOST_1}] which pci device[uuid: {GPU}] on is disabled or inactive"
    await client.fails(disabled, "AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=WEB)
    await client.call("ReconnectHost", uuid=HOST_1)
    assert await client.call("GetHostIommuStatus", uuid=HOST_1) == {"status": "Inactive"}
    await client.call("UpdateHostIommuState", uuid=HOST_1, state="Enabled")
    await client.fails(disabled, "AttachPciDeviceToVm", pciDeviceUuid=GPU, vmInstanceUuid=WEB)
    await client.call("ReconnectHost", uuid=HOST_1)
    assert await client.call("GetHostIommuStatus", uuid=HOST_1) == {"status": "Active"}

    offering = await client.call("CreatePciDeviceOffering", vendorId="10de", deviceId="1bb3")
    assert (offering["name"], offering["type"], [ref["pciDeviceUuid"] for ref in offering["matchedPciDevices"]]) == ("10de:1bb3", "GPU_Video", [GPU])
    other = await client.call("CreatePciDeviceOffering", name="other", vendorId="8086", deviceId="1bb3")
    assert (other["type"], other["matchedPciDevices"]) == ("Generic", [])
    await client.call("DeletePciDeviceOffering", uuid=OFFERING)
    gpu = await client.look("pci-device/pci-devices", GPU)
    assert [ref["pciDeviceOfferingUuid"] for ref in gpu["matchedPciDeviceOfferingRef"]] == [offering["uuid"]]


async def test_a_usb_device_goes_from_machine_to_machine_on_its_host(client):
    usb = await client.call("AttachUsbDeviceToVm", usbDeviceUuid=USB, vmInstanceUuid=WEB)
    assert usb["vmInstanceUuid"] == WEB and "status" not in usb
    await client.fails(f"SYS.1006: the usb device[uuid:{USB}] has already been attached to another vm[uuid:{WEB}]", "AttachUsbDeviceToVm", usbDeviceUuid=USB, vmInstanceUuid=CI)
    await client.fails(f"SYS.1006: cannot disable usb device[uuid:{USB}] when it's attached to a vm instance", "UpdateUsbDevice", uuid=USB, state="Disabled")
    await client.fails(f"SYS.1006: cannot migrate vm[uuid:{WEB}] because there are usb devices attached", "MigrateVm", vmInstanceUuid=WEB)
    assert "vmInstanceUuid" not in await client.call("DetachUsbDeviceFromVm", usbDeviceUuid=USB)
    await client.fails(f"SYS.1006: the usb device[uuid:{USB}] is not attached to any vm instance.", "DetachUsbDeviceFromVm", usbDeviceUuid=USB)
    await client.call("AttachUsbDeviceToVm", usbDeviceUuid=USB, vmInstanceUuid=CI)
    assert (await client.call("StartVmInstance", uuid=CI))["hostUuid"] == HOST_1
    await client.call("DestroyVmInstance", uuid=CI)
    assert "vmInstanceUuid" not in await client.look("usb-device/usb-devices", USB)


# behind a VPC router


async def vpc(client):
    """A router of a VPC, and a network behind it with IPsec."""
    offering = await client.call("CreateVirtualRouterOffering", name="o", cpuNum=1, memorySize=GIB, zoneUuid=named("zone-1"), managementNetworkUuid=PUBLIC, imageUuid=CENTOS)
    router = (await client.call("CreateVpcVRouter", name="router", virtualRouterOfferingUuid=offering["uuid"]))["uuid"]
    l3 = (await client.call("CreateL3Network", name="vpc", l2NetworkUuid=named("l2-private"), type="L3VpcNetwork"))["uuid"]
    await client.call("AddIpRangeByNetworkCidr", name="r", l3NetworkUuid=l3, networkCidr="172.20.0.0/24")
    return router, l3


async def routes(client, router):
    found = (await client.call("GetVRouterRouteTable", virtualRouterVmUuid=router))["inventories"]
    return [(route["type"], route["destination"], route.get("target"), route["distance"]) for route in found]


async def test_a_route_table_on_a_vpc_router(client):
    router, l3 = await vpc(client)
    await client.call("AttachL3NetworkToVm", vmInstanceUuid=router, l3NetworkUuid=l3)
    direct = await routes(client, router)
    assert {route[0] for route in direct} == {"DirectConnect"} and ("DirectConnect", "172.20.0.0/24", "172.20.0.1", 0) in direct

    table = (await client.call("CreateVRouterRouteTable", name="table"))["uuid"]
    entry = await client.call("AddVRouterRouteEntry", routeTableUuid=table, destination="10.8.0.0/16", target="172.20.0.9")
    assert (entry["type"], entry["distance"], entry["routeTableUuid"]) == ("UserStatic", 128, table)
    await client.call("AddVRouterRouteEntry", routeTableUuid=table, destination="10.9.0.0/16", type="UserBlackHole", distance=1)
    await client.fails("SYS.1006: route table[uuid:*] has a route entry[uuid:*] to 10.8.0.0/16 through 172.20.0.9 already",
        "AddVRouterRouteEntry", routeTableUuid=table, destination="10.8.0.0/16", target="172.20.0.9")  # fmt: skip
    await client.fails("SYS.1006: route table[uuid:*] has a black hole[uuid:*] for 10.9.0.0/16 already",
        "AddVRouterRouteEntry", routeTableUuid=table, destination="10.9.0.0/16", type="UserBlackHole")  # fmt: skip
    assert await routes(client, router) == direct

    attached = await client.call("AttachVRouterRouteTableToVRouter", routeTableUuid=table, virtualRouterVmUuid=router)
    assert attached["attachedRouterRefs"] == [{"virtualRouterVmUuid": router, "routeTableUuid": table}] and len(attached["routeEntries"]) == 2
    static, hole = ("UserStatic", "10.8.0.0/16", "172.20.0.9", 128), ("UserBlackHole", "10.9.0.0/16", None, 1)
    assert await routes(client, router) == [*direct, static, hole]
    second = (await client.call("CreateVRouterRouteTable", name="second"))["uuid"]
    await client.fails(f"SYS.1006: virtual router[uuid:{router}] has the route table[uuid:{table}] already", "AttachVRouterRouteTableToVRouter", routeTableUuid=second, virtualRouterVmUuid=router)
    await client.fails(f"SYS.1007: route entry[uuid:{entry['uuid']}] is not in route table[uuid:{second}]", "DeleteVRouterRouteEntry", routeTableUuid=second, uuid=entry["uuid"])
    left = await client.call("DeleteVRouterRouteEntry", routeTableUuid=table, uuid=entry["uuid"])
    assert left["uuid"] == table and [route["destination"] for route in left["routeEntries"]] == ["10.9.0.0/16"]
    assert await routes(client, router) == [*direct, hole]

    await client.call("DetachVRouterRouteTableFromVRouter", routeTableUuid=table, virtualRouterVmUuid=router)
    assert await routes(client, router) == direct
    await client.call("AttachVRouterRouteTableToVRouter", routeTableUuid=table, virtualRouterVmUuid=router)
    await client.call("DestroyVmInstance", uuid=router)
    assert (await client.look("vrouter-route-tables", table))["attachedRouterRefs"] == []
    await client.call("DeleteVRouterRouteTable", uuid=table)
    assert await client.mock.query("vrouter-route-tables/route-entries") == []


async def test_an_ipsec_connection_on_a_virtual_ip(client):
    router, l3 = await vpc(client)
    vip = (await client.call("CreateVip", name="v", l3NetworkUuid=PUBLIC))["uuid"]
    new = {"name": "c", "vipUuid": vip, "peerAddress": "9.9.9.9", "authKey": "secret", "peerCidrs": ["10.8.0.0/24"]}
    await client.fails(f"SYS.1006: Network [uuid: {l3}] does't not have IPsec service", "CreateIPsecConnection", **new, l3NetworkUuid=l3)
    await client.call("AttachNetworkServiceToL3Network", l3NetworkUuid=l3, networkServices={named("provider-vrouter"): ["IPsec"]})
    await client.fails(f"SYS.1006: L3Network [uuid: {l3}] has not been attached to vpc router", "CreateIPsecConnection", **new, l3NetworkUuid=l3)
    await client.call("AttachL3NetworkToVm", vmInstanceUuid=router, l3NetworkUuid=l3)

    connection = await client.call("CreateIPsecConnection", **new, l3NetworkUuid=l3)
    uuid = connection["uuid"]
    assert (connection["state"], connection["status"], connection["authMode"], connection["ikeDhGroup"]) == ("Enabled", "Ready", "psk", 2)
    assert [row["cidr"] for row in connection["peerCidrs"]] == ["10.8.0.0/24"] and [row["l3NetworkUuid"] for row in connection["l3NetworkRefs"]] == [l3]
    assert (await client.look("vips", vip))["useFor"] == "IPsec"
    for more, details in (({}, f"there already have ipsec connection[uuid:{uuid}, name:c] with the same vrouter and peerAddress"),
                          ({"peerAddress": (await client.look("vips", vip))["ip"]}, "the peerAddress[*] cannot be the same to the VIP address"),
                          ({"peerAddress": "x"}, "the peerAddress[x] is not an IPv4 address"), ({"peerCidrs": ["x"]}, "peer CIDR[x] is not valid"),
                          ({"peerAddress": "8.8.8.8", "policyEncryptionAlgorithm": "aes-192"}, "vyos doesn't support aes-192 as PolicyEncryptionAlgorithm, available*")):  # fmt: skip
        await client.fails(f"*: {details}", "CreateIPsecConnection", **new | more)

    # CIDRs and networks
    more = await client.call("AddRemoteCidrsToIPsecConnection", uuid=uuid, peerCidrs=["10.9.0.0/24", "10.10.0.0/24"])
    assert len(more["peerCidrs"]) == 3
    await client.fails(f"SYS.1007: Cidr [10.9.0.0/24] is already in the Cidrs of ipsec [uuid :{uuid}]", "AddRemoteCidrsToIPsecConnection", uuid=uuid, peerCidrs=["10.11.0.0/24", "10.9.0.0/24"])
    fewer = await client.call("RemoveRemoteCidrsFromIPsecConnection", uuid=uuid, peerCidrs=["10.8.0.0/24", "10.9.0.0/24"])
    assert [row["cidr"] for row in fewer["peerCidrs"]] == ["10.10.0.0/24"]
    await client.fails(f"SYS.1007: L3 network [{PRIVATE}] is not vpc network, can not be attached or detached to ipsec", "AttachL3NetworksToIPsecConnection", uuid=uuid, l3NetworkUuids=[PRIVATE])
    await client.fails(f"SYS.1007: L3 network [{l3}] can not be attached to ipsec [uuid :{uuid}]twice", "AttachL3NetworksToIPsecConnection", uuid=uuid, l3NetworkUuids=[l3])
    assert (await client.call("DetachL3NetworksFromIPsecConnection", uuid=uuid, l3NetworkUuids=[l3]))["l3NetworkRefs"] == []
    await client.fails(f"SYS.1007: L3 network [{l3}] is not be attached to ipsec [uuid :{uuid}]", "DetachL3NetworksFromIPsecConnection", uuid=uuid, l3NetworkUuids=[l3])
    await client.call("AttachL3NetworksToIPsecConnection", uuid=uuid, l3NetworkUuids=[l3])
    assert (await client.call("ChangeIPSecConnectionState", uuid=uuid, stateEvent="disable"))["state"] == "Disabled"

    # it goes with its virtual IP, and the use of that with its last connection
    second = (await client.call("CreateIPsecConnection", **new | {"peerAddress": "8.8.8.8"}))["uuid"]
    await client.call("DeleteIPsecConnection", uuid=uuid)
    assert (await client.look("vips", vip))["useFor"] == "IPsec"
    await client.call("DeleteIPsecConnection", uuid=second)
    assert "useFor" not in await client.look("vips", vip)
    third = (await client.call("CreateIPsecConnection", **new))["uuid"]
    await client.call("DeleteVip", uuid=vip)
    assert await client.look("ipsec", third) is None
