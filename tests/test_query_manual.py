"""Every example of the manual's section 3.9, in its order: the request, and the names of what it finds in a small cloud.

Where its text is misread (I3Network) or forgets a letter, the name is as it is meant; the uuids, addresses and names are its own.
"""

import json

import aiohttp
import pytest
from yarl import URL

from zmock import named, serve

UUIDS = {  # of the manual, and what has them here
    "vm1": "bfa67f956afb430890aa49db14b85153", "VM2": "25506342d1384c07b7342373a57475b9", "IntelCoreI7": "bc58d68090ac42358c0cb0fe72e3287f",
    "IntelCoreM7": "c4981689088b40f98d2ade2548c323da",
}  # fmt: skip


def thing(name, **more):
    return {"uuid": UUIDS.get(name) or named(name), "name": name} | more


STORAGE = {"zoneUuid": named("zone-1")}
HERE = {"zoneUuid": named("zone-1"), "clusterUuid": named("cluster-1")}
CLOUD = {
    "zones": [thing("zone-1"), thing("zone-2")],
    "clusters": [thing("cluster-1", zoneUuid=named("zone-1"), hypervisorType="KVM")],
    "hosts": [thing(f"host-{n}", managementIp=f"10.10.20.{n}", hypervisorType="KVM", **HERE) for n in (3, 4)],
    "primary-storage": [STORAGE | thing("large", totalCapacity=2001), STORAGE | thing("small", totalCapacity=2000),
                        STORAGE | {"uuid": named("nameless"), "totalCapacity": 1}],
    "l2-networks": [thing("l2-1", type="L2NoVlanNetwork", attachedClusterUuids=[named("cluster-1")], zoneUuid=named("zone-1"))],
    "l3-networks": [thing("l3-1", l2NetworkUuid=named("l2-1"), zoneUuid=named("zone-1"))],
    "instance-offerings": [thing("key-b", sortKey=2), thing("key-a", sortKey=1), thing("key-c", sortKey=10)],
    "vm-instances": [
        thing("vm1", state="Running", cpuNum=6, hostUuid=named("host-3"), type="UserVm", hypervisorType="KVM", **HERE),
        thing("vm1", uuid=named("vm1"), state="Stopped", cpuNum=5, type="UserVm", hypervisorType="KVM", zoneUuid=named("zone-2")),
        thing("VM2", state="Running", cpuNum=1, hostUuid=named("host-4"), type="ApplianceVm", hypervisorType="KVM", **HERE),
        *(thing(f"IntelCore{name}", state="Stopped", cpuNum=1, type="UserVm", hypervisorType="ESX") for name in ("I7", "M7", "Duo7", "I5")),
    ],
    "vm-instances/nics": [
        {"uuid": named(f"nic-{ip}"), "vmInstanceUuid": UUIDS[vm], "l3NetworkUuid": named("l3-1"), "ip": ip}
        for ip, vm in (("192.168.10.100", "vm1"), ("192.168.0.100", "VM2"))
    ],
    "vips": [thing("vip", ip="192.168.0.100", l3NetworkUuid=named("l3-1"))],
    "eips": [thing("eip", vmNicUuid=named("nic-192.168.10.100"), vipUuid=named("vip"), vipIp="192.168.0.100")],
    "volumes": [
        thing("of-m7", vmInstanceUuid=UUIDS["IntelCoreM7"]), thing("of-vm1", vmInstanceUuid=UUIDS["vm1"]), thing("loose"),
    ],
    "system-tags": [
        {"uuid": named("tag"), "resourceUuid": UUIDS["VM2"], "resourceType": "VmInstanceVO", "tag": "staticIp:10.10.1.20"},
    ],
}  # fmt: skip
INTEL = ["IntelCoreDuo7", "IntelCoreI5", "IntelCoreI7", "IntelCoreM7"]

# What it sends, and the names of what is found; in this order where it sorts.
EXAMPLES = (
    ("/vm-instances?q=name=vm1", ["vm1", "vm1"]),
    ("/vm-instances?q=name=vm1&q=state=Running", ["vm1"]),
    ("/vm-instances?q=vmNics.ip=192.168.10.100", ["vm1"]),
    ("/vm-instances?q=host.managementIp=10.10.20.3", ["vm1"]),
    ("/instance-offerings?sort=+sortKey", ["key-a", "key-b", "key-c"]),
    ("/instance-offerings?sort=-sortKey", ["key-c", "key-b", "key-a"]),
    ("/vm-instances?q=uuid=bfa67f956afb430890aa49db14b85153", ["vm1"]),
    ("/primary-storage?q=totalCapacity>2000", ["large"]),
    ("/volumes?q=vmInstanceUuid not null", ["of-m7", "of-vm1"]),
    ("/vm-instances?q=uuid=25506342d1384c07b7342373a57475b9", ["VM2"]),
    ("/volumes?q=vmInstanceUuid=c4981689088b40f98d2ade2548c323da", ["of-m7"]),
    ("/volumes?q=vmInstanceUuid!=c4981689088b40f98d2ade2548c323da", ["of-vm1"]),
    ("/primary-storage?q=totalCapacity<2000", [None]),
    ("/primary-storage?q=totalCapacity>=2000", ["large", "small"]),
    ("/primary-storage?q=totalCapacity<=2000", [None, "small"]),
    ("/vm-instances?q=uuid?=25506342d1384c07b7342373a57475b9,bc58d68090ac42358c0cb0fe72e3287f", ["IntelCoreI7", "VM2"]),
    ("/vm-instances?q=name!?=VM1,VM2", INTEL),
    ("/vm-instances?q=name~=IntelCore%", INTEL),
    ("/vm-instances?q=name~=IntelCore_7", ["IntelCoreI7", "IntelCoreM7"]),
    ("/vm-instances?q=name!~=IntelCore%", ["VM2", "vm1", "vm1"]),
    ("/primary-storage?q=name=null", [None]),
    ("/primary-storage?q=name!=null", ["large", "small"]),
    ("/primary-storage?q=name is null", [None]),
    ("/primary-storage?q=name not null", ["large", "small"]),
    ("/vm-instances?q=cpuNum>5", ["vm1"]),
    ("/vm-instances?q=hypervisorType=KVM&fields=uuid&fields=name", ["VM2", "vm1", "vm1"]),
    ("/vm-instances?q=vmNics.ip=192.168.0.100", ["VM2"]),
    ("/vm-instances?q=vmNics.eip.ip=192.168.0.100", ["vm1"]),
    ("/vm-instances?q=zone.cluster.l2Network.l3Network.name=l3-1", ["VM2", "vm1"]),
    ("/vm-instances?q=zone.cluster.l2Network.l3Network.name!=l3-1", []),
    ("/vm-instances?q=vmNics.vmInstance.name=vm1", ["vm1"]),
    ("/vm-instances/nics?q=vmInstance.name=vm1&fields=ip", [None]),
    ("/vm-instances?q=__systemTag__=staticIp:10.10.1.20", ["VM2"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cloud") / "cloud.json"
    path.write_text(json.dumps(CLOUD))
    return str(path)


@pytest.fixture
async def mock(cloud_file):
    async with serve(cloud=cloud_file) as mock:
        await mock.login()
        mock.cloud.change("PrimaryStorage", named("nameless"), name=None)
        yield mock


async def ask(mock, path):
    """The status and the body; the path goes out as it stands in the manual, spaces and all that no URL may have encoded."""
    headers = {"Authorization": f"OAuth {mock.session}"}
    async with aiohttp.ClientSession() as http, http.get(URL(mock.url + path.replace(" ", "%20"), encoded=True), headers=headers) as answer:
        return answer.status, json.loads(await answer.text())


def found(body, path):
    names = [item.get("name") for item in body["inventories"]]
    return names if "sort=" in path else sorted(names, key=lambda name: name or "")


@pytest.mark.parametrize(("path", "names"), EXAMPLES)
async def test_an_example_finds_what_the_manual_says(mock, path, names):
    status, body = await ask(mock, path)
    assert status == 200, body
    assert found(body, path) == names


@pytest.mark.parametrize("path", ("/vm-instances?q=uuid = 25506342d1384c07b7342373a57475b9", "/vm-instances?q=name = vm1"))
async def test_spaces_around_the_operator_are_the_wrong_condition_that_the_manual_calls_it(mock, path):
    assert (await ask(mock, path))[0] == 400


async def test_fields_answers_the_fields_that_it_names_and_no_others(mock):
    for fields in ("fields=uuid&fields=name", "fields=name,uuid"):
        _, body = await ask(mock, f"/vm-instances?q=hypervisorType=KVM&{fields}")
        assert {frozenset(vm) for vm in body["inventories"]} == {frozenset(("uuid", "name"))}


@pytest.mark.parametrize("name", ("__systemTag__", "__userTag__", "vmNics.ip", "vmNics", "zone."))
async def test_fields_takes_native_fields_only(mock, name):
    assert (await ask(mock, f"/vm-instances?fields=uuid,{name}"))[0] == 400


async def test_group_by_answers_one_of_each(mock):
    _, body = await ask(mock, "/vm-instances?groupBy=type")
    assert sorted(vm["type"] for vm in body["inventories"]) == ["ApplianceVm", "UserVm"]


async def test_a_loop_through_the_nics_is_the_same_as_the_name_of_the_vm_itself(mock):
    """As far as a VM has a NIC: what has none is reached through none."""
    _, loop = await ask(mock, "/vm-instances?q=vmNics.vmInstance.name=vm1")
    _, itself = await ask(mock, "/vm-instances?q=name=vm1&q=vmNics.uuid not null")
    assert loop == itself and len(loop["inventories"]) == 1


async def test_a_thousand_are_read_a_hundred_at_a_time(tmp_path):
    path = tmp_path / "thousand.json"
    path.write_text(json.dumps({"zones": [{"name": f"zone-{n}"} for n in range(1000)]}))
    async with serve(cloud=str(path)) as mock:
        await mock.login()
        pages = [(await ask(mock, f"/zones?start={start}&limit=100&replyWithCount=true"))[1] for start in range(0, 1000, 100)]
        _, counted = await ask(mock, "/zones?count=true")
    assert {page["total"] for page in pages} == {1000} and counted == {"total": 1000}
    assert [len(page["inventories"]) for page in pages] == [100] * 10
    assert {zone["name"] for page in pages for zone in page["inventories"]} == {f"zone-{n}" for n in range(1000)}


# What the Tab key shows in zstack-cli: relations, then conditions; here without the parameters that every query has.

SHOWN = (
    ("", "allVolumes cluster host image instanceOffering rootVolume vmNics zone",
     "allocatorStrategy clusterUuid cpuNum cpuSpeed createDate defaultL3NetworkUuid description hostUuid hypervisorType imageUuid "
     "instanceOfferingUuid lastHostUuid lastOpDate memorySize name platform rootVolumeUuid state type uuid zoneUuid"),
    ("vmNics", "eip l3Network loadBalancerListener portForwarding securityGroup vmInstance",
     "createDate deviceId gateway ip l3NetworkUuid lastOpDate mac metaData netmask uuid vmInstanceUuid"),
    ("zone.cluster.l2Network.l3Network", "ipRanges l2Network networkServices serviceProvider vmNic zone",
     "createDate description dnsDomain l2NetworkUuid lastOpDate name state system type uuid zoneUuid"),
)  # fmt: skip
SINCE = {"zone.cluster.l2Network.l3Network": ({"hostRoute"}, {"category", "dns"})}  # what 2.5.1 has and the manual's picture not yet


async def queryable(mock, at):
    async with aiohttp.ClientSession() as http, http.get(f"{mock.base}/zmock/queryable/vm-instances", params={"at": at}) as answer:
        return await answer.json()


@pytest.mark.parametrize(("at", "relations", "conditions"), SHOWN)
async def test_what_can_be_asked_is_what_the_tab_key_shows(mock, at, relations, conditions):
    told = await queryable(mock, at)
    more_relations, more_fields = SINCE.get(at, (set(), set()))
    assert set(told["relations"]) == {*relations.split()} | more_relations
    assert set(told["fields"]) == {*conditions.split()} | more_fields


@pytest.mark.parametrize(("at", "relations", "conditions"), SHOWN)
async def test_all_that_the_tab_key_shows_can_be_asked(mock, at, relations, conditions):
    for name in [*conditions.split(), *(f"{relation}.uuid" for relation in relations.split()), "__systemTag__", "__userTag__"]:
        path = ".".join(filter(None, (at, name)))
        status, body = await ask(mock, f"/vm-instances?q={path} not null")
        # what refers to a network service has no uuid of its own
        assert status == (400 if name == "networkServices.uuid" else 200), (path, body)
