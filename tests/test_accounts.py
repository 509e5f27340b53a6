"""Accounts: whose things are, who sees them, who may do what, and how much of it; stories and tables over HTTP."""

import json
import re

import pytest

import zmock
from zmock import ADMIN, SHA512_OF_PASSWORD, Accounts, View, catalogue, configured, named

ALL = catalogue()
L3, OFFERING, IMAGE, DISK, PUBLIC, WEB = (named(name) for name in ("l3-private", "offering-small", "image-centos7", "disk-20g", "l3-public", "vm-web-1"))
NOBODY = "a" * 31 + "4"
VM = {"l3NetworkUuids": [L3], "instanceOfferingUuid": OFFERING, "imageUuid": IMAGE}


class Cast:
    """Several who use one mock: `await cast.admin("CreateZone", ...)` is a call of admin, `await cast("ann", ...)` one of ann."""

    def __init__(self, mock):
        self.mock, self.sessions, self.uuids = mock, {}, {}

    async def __call__(self, who, api, **params):
        self.mock.session = self.sessions[who]
        return await self.mock.call(api, **params)

    async def admin(self, api, **params):
        return await self("admin", api, **params)

    async def query(self, who, collection, *conditions):
        self.mock.session = self.sessions[who]
        return await self.mock.query(collection, *conditions)

    async def names(self, who, collection, *conditions):
        return sorted(item["name"] for item in await self.query(who, collection, *conditions))

    async def get(self, who, path):
        self.mock.session = self.sessions[who]
        return await self.mock.request("GET", path)

    async def refusal(self, who, api, **params):
        with pytest.raises(RuntimeError) as refused:
            await self(who, api, **params)
        return str(refused.value)

    async def account(self, name):
        self.uuids[name] = (await self.admin("CreateAccount", name=name, password=SHA512_OF_PASSWORD))["inventory"]["uuid"]
        self.sessions[name] = await self.mock.login(name)

    async def user(self, account, name):
        self.uuids[name] = (await self(account, "CreateUser", name=name, password=SHA512_OF_PASSWORD))["inventory"]["uuid"]
        login = await self.mock.call("LogInByUser", accountUuid=self.uuids.get(account, ADMIN), userName=name, password=SHA512_OF_PASSWORD)
        self.sessions[name] = login["inventory"]["uuid"]

    async def vm(self, who, name, **more):
        return (await self(who, "CreateVmInstance", name=name, **VM | more))["inventory"]["uuid"]


@pytest.fixture
async def cast(zmock):
    """Admin, who shares what virtual machines are made of with all, and two accounts."""
    cast = Cast(zmock)
    cast.sessions["admin"] = await zmock.login()
    await cast.admin("ShareResource", resourceUuids=[L3, OFFERING, IMAGE, DISK], toPublic=True)
    await cast.account("ann")
    await cast.account("bob")
    return cast


# the tables


def test_what_the_tables_name_is_there():
    resources = ALL.resources
    parts = {row.name: row.leads[row.owner] for row in resources.values() if row.owner not in ("", "caller")}
    assert {*parts.values()} <= ALL.owned.keys()
    assert all(row.account in ("", *row.fields) for row in resources.values())
    assert all(quota.type in resources and quota.field in ("", *resources[quota.type].fields) for quota in ALL.quotas.values())
    asks = [(api, *ask.split(" = ")) for api in ALL.apis.values() for ask in api.asks]
    assert len(asks) > 15 and {name for _, name, _ in asks} <= ALL.quotas.keys()
    words = [(api, word) for api, _, words in asks for word in words.partition(" when ")[0].split("|") if not word[0].isdigit()]
    assert [(api, word) for api, word in words if word.split(".")[0] not in {"its", *api.params}] == []


# seeing


async def test_two_accounts_cannot_see_each_other(cast):
    web = await cast.vm("ann", "ann-web", systemTags=["hostname::ann-web"])
    await cast.vm("bob", "bob-web")
    assert await cast.names("ann", "vm-instances") == ["ann-web"] and await cast.names("bob", "vm-instances") == ["bob-web"]
    assert {"ann-web", "bob-web", "web-1"} <= {*await cast.names("admin", "vm-instances")}
    assert await cast.query("bob", f"vm-instances/{web}") == [], "a Get by uuid finds nothing"
    assert (await cast.query("ann", f"vm-instances/{web}"))[0]["name"] == "ann-web"
    for collection in ("volumes", "vm-instances/nics"):
        assert len(await cast.query("ann", collection)) == 1, "root volume and nic belong to who has the vm"
        assert len(await cast.query("ann", collection, f"vmInstanceUuid={web}")) == 1
        assert await cast.query("bob", collection, f"vmInstanceUuid={web}") == []
    assert [tag["tag"] for tag in await cast.query("bob", "system-tags", f"resourceUuid={web}")] == ["hostname::ann-web"], "a tag is for all to see"
    assert await cast.names("ann", "accounts") == ["admin", "ann", "bob", "shop"], "accounts are nobody's"


@pytest.mark.parametrize("condition", ("vmInstance.name=bob-web", "vmInstance.vmNics.l3Network.uuid?=" + L3, "image.volume.vmInstance.name=bob-web"))
async def test_a_condition_does_not_lead_to_what_another_has(cast, condition):
    await cast.vm("bob", "bob-web")
    assert await cast.query("ann", "volumes", condition) == [] and await cast.query("bob", "volumes", condition) != []


async def test_whether_another_uses_a_public_image_cannot_be_found_out(cast):
    await cast.vm("bob", "bob-web")
    assert await cast.names("bob", "images", "volume.name~=ROOT%bob-web") == await cast.names("admin", "images", "volume.name~=ROOT%bob-web") == ["image-centos7"]
    assert await cast.names("ann", "images", "volume.name~=ROOT%bob-web") == []


async def test_counts_pages_and_order_are_of_what_is_seen(cast):
    for name in ("c", "a", "b"):
        await cast.vm("ann", name)
    await cast.vm("bob", "z")
    assert await cast.get("ann", "/vm-instances?count=true") == (200, {"total": 3})
    assert await cast.get("ann", "/vm-instances?count=true&q=name=z") == (200, {"total": 0})
    _, page = await cast.get("ann", "/vm-instances?sort=-name&limit=2&start=1&replyWithCount=true")
    assert [vm["name"] for vm in page["inventories"]] == ["b", "a"] and page["total"] == 3
    _, page = await cast.get("ann", "/vm-instances?limit=2&start=2")
    assert len(page["inventories"]) == 1


async def test_an_answer_that_stands_is_given_to_nobody_else(cast):
    await cast.vm("ann", "ann-web")
    path, seen = "/vm-instances?sort=name", []
    for who in ("admin", "ann", "bob", "admin", "ann"):
        for _ in range(2):
            seen.append({vm["name"] for vm in (await cast.get(who, path))[1]["inventories"]})
    assert seen[0] == seen[1] == seen[6] == seen[7] > {"ann-web"}
    assert seen[2] == seen[3] == seen[8] == seen[9] == {"ann-web"} and seen[4] == seen[5] == set()


async def test_admin_is_asked_nothing(cast, monkeypatch):
    """What accounts cost is paid by who is not admin: no permission, no table as seen, no owner is looked at."""
    await cast.vm("ann", "ann-web")
    asked = []

    def watch(owner, name):
        does = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *told: asked.append(name) or does(self, *told))

    for name in ("owner", "admit", "charge", "queries"):
        watch(Accounts, name)
    for name in ("rows", "find"):
        watch(View, name)
    await cast.query("admin", "vm-instances", "name~=web%", "vmNics.l3Network.name=l3-private")
    await cast.vm("admin", "another")
    await cast.admin("StopVmInstance", uuid=WEB)
    assert asked == []
    await cast.query("ann", "vm-instances", "name~=web%")
    assert {"queries", "admit", "rows"} <= {*asked}


async def test_what_admin_has_carries_no_owner(cast):
    web = await cast.vm("ann", "ann-web")
    store = cast.mock.cloud.store
    assert "owner" not in store.peek("VmInstance", WEB) and store.peek("VmInstance", web)["owner"] == cast.uuids["ann"]
    assert all("owner" not in item for item in await cast.query("ann", "vm-instances"))


async def test_candidates_are_among_what_is_seen(cast):
    web = await cast.vm("ann", "ann-web")
    for who in ("ann", "bob", "admin"):
        await cast(who, "CreateDataVolume", name=f"{who}-data", diskOfferingUuid=DISK)
    found = (await cast("ann", "GetVmAttachableDataVolume", vmInstanceUuid=web))["inventories"]
    assert {volume["name"] for volume in found} <= {"ann-data"}


async def test_whose_everything_is_can_be_asked(cast):
    web, ann = await cast.vm("ann", "ann-web"), cast.uuids["ann"]
    ref = (await cast.query("admin", "accounts/resources/refs", f"resourceUuid={web}"))[0]
    assert ref["accountUuid"] == ann and ref["resourceType"] == "VmInstanceVO" and "uuid" not in ref
    assert (await cast.query("admin", "accounts/resources/refs", f"resourceUuid={WEB}"))[0]["accountUuid"] == ADMIN
    types = {ref["resourceType"] for ref in await cast.query("admin", "accounts/resources/refs", f"accountUuid={ann}", "resourceType!=QuotaVO", "resourceType!=PolicyVO")}
    assert types == {"VmInstanceVO", "VmNicVO", "VolumeVO"}
    assert {ref["accountUuid"] for ref in await cast.query("ann", "accounts/resources/refs")} == {ann}
    assert await cast.query("bob", "accounts/resources/refs", f"resourceUuid={web}") == []
    before = await cast.query("admin", "accounts/resources/refs")
    await cast.vm("ann", "another")
    assert len(await cast.query("admin", "accounts/resources/refs")) == len(before) + 3, "no answer of it stands"
    assert (await cast.get("admin", f"/accounts/resources/refs?count=true&q=accountUuid={ann}&q=resourceType=VmInstanceVO"))[1] == {"total": 2}
    assert await cast.query("admin", "accounts/resources/refs", "resourceType=ZoneVO") == [], "a zone is nobody's"


# touching

OWNER = "SYS.1006: permission denied, the account[uuid:{ann}] is not the owner of the resource[uuid:{%s}, type:%sVO]"
ACCESS = "SYS.1006: the account[uuid:{ann}] has no access to the resources[uuid:[{%s}], type:%sVO]"
DENIED = "SYS.1006: operation is denied by default"
REFUSED = (  # what ann may not do; @name is something of bob, =name of admin, +name of ann
    ("StopVmInstance", {"uuid": "@vm"}, OWNER % ("vm", "VmInstance")),
    ("DestroyVmInstance", {"uuid": "@vm"}, OWNER % ("vm", "VmInstance")),
    ("UpdateVmInstance", {"uuid": "=vm-web-1", "name": "mine"}, OWNER % ("=vm-web-1", "VmInstance")),
    ("DeleteDataVolume", {"uuid": "@data"}, OWNER % ("data", "Volume")),
    ("AttachDataVolumeToVm", {"volumeUuid": "@data", "vmInstanceUuid": "+vm"}, OWNER % ("data", "Volume")),
    ("AttachDataVolumeToVm", {"volumeUuid": "+data", "vmInstanceUuid": "@vm"}, ACCESS % ("vm", "VmInstance")),
    ("CreateVolumeSnapshot", {"volumeUuid": "@data", "name": "s"}, OWNER % ("data", "Volume")),
    ("UpdateImage", {"uuid": "=image-centos7", "name": "x"}, OWNER % ("=image-centos7", "Image")),
    ("CreateVmInstance", {"name": "v", "l3NetworkUuids": ["=l3-public"], "instanceOfferingUuid": "=offering-small", "imageUuid": "=image-centos7"},
        ACCESS % ("=l3-public", "L3Network")),
    ("CreateVmInstance", {"name": "v", "l3NetworkUuids": ["=l3-private"], "instanceOfferingUuid": "=offering-large", "imageUuid": "=image-centos7"},
        ACCESS % ("=offering-large", "InstanceOffering")),
    ("AttachL3NetworkToVm", {"vmInstanceUuid": "+vm", "l3NetworkUuid": "=l3-public"}, ACCESS % ("=l3-public", "L3Network")),
    ("DeleteTag", {"uuid": "@tag"}, "ID.1002: permission denied. The system tag[uuid: {tag}] refer to a resource not belonging to the account[uuid: {ann}]"),
    ("DeleteTag", {"uuid": "@reserved"}, "SYS.1000: No entity found for query"),
    ("DeleteAccount", {"uuid": "@bob"}, "SYS.1007: Only admin can delete account."), ("DeleteAccount", {"uuid": "+ann"}, "SYS.1007: Only admin can delete account."),
    ("CreateZone", {"name": "z"}, DENIED), ("QueryCluster", {}, DENIED),
    ("AddImageStoreBackupStorage", {"name": "b", "url": "/b", "hostname": "h", "username": "u", "password": "p"}, DENIED),
    ("QuerySharedBlock", {}, DENIED), ("CreateAccount", {"name": "x", "password": "x"}, DENIED), ("ShareResource", {"resourceUuids": ["+vm"], "toPublic": True}, DENIED),
    ("UpdateQuota", {"identityUuid": "+ann", "name": "vm.num", "value": 99}, DENIED), ("AddKVMHost", {"name": "h", "managementIp": "10.0.0.1", "username": "u",
        "password": "p", "clusterUuid": "=cluster-1"}, DENIED), ("CreateDiskOffering", {"name": "d", "diskSize": 1}, DENIED),
    ("StopVmInstance", {"uuid": NOBODY}, "SYS.1003"),
)  # fmt: skip


def meant(value, cast, known):
    """A value of the table with uuids in place of its names."""
    if isinstance(value, list):
        return [meant(one, cast, known) for one in value]
    if not isinstance(value, str) or value[:1] not in ("@", "=", "+"):
        return value
    return named(value[1:]) if value[0] == "=" else known[value if value[0] == "+" else value[1:]]


@pytest.mark.parametrize(("api", "params", "told"), REFUSED, ids=[f"{api} {n}" for n, (api, *_) in enumerate(REFUSED)])
async def test_what_belongs_to_others_is_not_touched(cast, api, params, told):
    known = {"+ann": cast.uuids["ann"], "ann": cast.uuids["ann"], "bob": cast.uuids["bob"]}
    for who, sign in (("ann", "+"), ("bob", "")):
        known[f"{sign}vm"] = await cast.vm(who, f"{who}-web", systemTags=[f"hostname::{who}"])
        known[f"{sign}data"] = (await cast(who, "CreateDataVolume", name="data", diskOfferingUuid=DISK))["inventory"]["uuid"]
    for name, tag in (("tag", "hostname::bob"), ("reserved", "reservedMemory::2G")):
        known[name] = (await cast.query("admin", "system-tags", f"tag={tag}"))[0]["uuid"]
    expected = re.sub(r"\{(\W?)([\w-]+)\}", lambda name: named(name[2]) if name[1] == "=" else known[name[1] + name[2]], told)
    assert (await cast.refusal("ann", api, **{name: meant(value, cast, known) for name, value in params.items()})).startswith(expected)


async def test_what_is_shared_is_made_use_of_but_stays_as_it_is(cast):
    web, public = await cast.vm("ann", "web"), {"l3NetworkUuid": PUBLIC}
    group = (await cast("ann", "CreateSecurityGroup", name="g"))["inventory"]["uuid"]
    data = (await cast.admin("CreateDataVolumeTemplateFromVolume", name="t", volumeUuid=named("volume-db-data-1")))["inventory"]["uuid"]
    for api in ("AttachSecurityGroupToL3Network", "DetachSecurityGroupFromL3Network"):
        await cast("ann", api, securityGroupUuid=group, l3NetworkUuid=L3)
    uses = (("AttachL3NetworkToVm", public | {"vmInstanceUuid": web}),
            ("CreateDataVolumeFromVolumeTemplate", {"name": "d", "imageUuid": data, "primaryStorageUuid": named("ps-nfs")}))  # fmt: skip
    for api, params in uses:
        assert "has no access to the resources" in await cast.refusal("ann", api, **params)
    await cast.admin("ShareResource", resourceUuids=[PUBLIC, data], accountUuids=[cast.uuids["ann"]])
    for api, params in uses:
        await cast("ann", api, **params)
    for api, params in (("UpdateL3Network", {"uuid": PUBLIC, "name": "x"}), ("DeleteImage", {"uuid": data}), ("AddDnsToL3Network", public | {"dns": "8.8.8.8"})):
        assert "is not the owner of the resource" in await cast.refusal("ann", api, **params)


async def test_an_account_does_with_its_own_as_admin_with_his(cast):
    web = await cast.vm("ann", "web")
    volume = (await cast("ann", "CreateDataVolume", name="data", diskOfferingUuid=DISK))["inventory"]["uuid"]
    await cast("ann", "AttachDataVolumeToVm", volumeUuid=volume, vmInstanceUuid=web)
    snapshot = (await cast("ann", "CreateVolumeSnapshot", volumeUuid=volume, name="s"))["inventory"]["uuid"]
    await cast.admin("CreateVolumeSnapshot", volumeUuid=volume, name="by admin")
    assert await cast.names("ann", "volume-snapshots") == ["by admin", "s"], "a snapshot is of who has the volume"
    await cast("ann", "RebootVmInstance", uuid=web)
    await cast("ann", "DeleteVolumeSnapshot", uuid=snapshot)
    await cast("ann", "DestroyVmInstance", uuid=web)
    assert (await cast.query("ann", "vm-instances"))[0]["state"] == "Destroyed"


async def test_a_long_job_is_done_for_who_submits_it(cast):
    root = (await cast.query("bob", "volumes", f"vmInstanceUuid={await cast.vm('bob', 'web')}"))[0]["uuid"]
    data = '{"name": "i", "rootVolumeUuid": "%s", "backupStorageUuids": ["%s"]}' % (root, named("bs-1"))
    call = {"jobName": "APICreateRootVolumeTemplateFromRootVolumeMsg", "jobData": data}
    with pytest.raises(RuntimeError, match="has no access"):
        await cast("ann", "SubmitLongJob", **call)
    await cast("bob", "SubmitLongJob", **call, name="of bob")
    await cast.mock.advance(60)
    assert [job["state"] for job in await cast.query("admin", "longjobs", "name=of bob")] == ["Succeeded"]
    assert await cast.names("bob", "images", "name=i") == ["i"] and await cast.names("ann", "longjobs") == []


# sharing


async def test_what_is_shared_is_seen_until_it_is_revoked(cast):
    large, ann, bob = named("offering-large"), cast.uuids["ann"], cast.uuids["bob"]
    assert "offering-large" not in await cast.names("ann", "instance-offerings")
    for _ in range(2):
        await cast.admin("ShareResource", resourceUuids=[large], accountUuids=[ann])
    assert await cast.names("ann", "instance-offerings") == ["offering-large", "offering-small"] and await cast.names("bob", "instance-offerings") == ["offering-small"]
    shares = await cast.query("admin", "accounts/resources", f"resourceUuid={large}")
    assert [(share["ownerAccountUuid"], share["receiverAccountUuid"], share["toPublic"], share["resourceType"]) for share in shares] == [
        (ADMIN, ann, False, "InstanceOfferingVO")]  # fmt: skip
    web = await cast.vm("ann", "large", instanceOfferingUuid=large)
    await cast.admin("RevokeResourceSharing", resourceUuids=[large], accountUuids=[bob])
    assert "offering-large" in await cast.names("ann", "instance-offerings"), "another's share was revoked"
    await cast.admin("RevokeResourceSharing", resourceUuids=[large], accountUuids=[ann])
    assert await cast.names("ann", "instance-offerings") == ["offering-small"]
    assert "has no access" in await cast.refusal("ann", "CreateVmInstance", name="v", **VM | {"instanceOfferingUuid": large})
    assert (await cast.query("ann", f"vm-instances/{web}"))[0]["state"] == "Running", "what was made of it stays"


async def test_a_share_ends_with_what_is_shared_and_with_who_receives_it(cast):
    for disk in ("disk-100g", "disk-20g"):
        await cast.admin("ShareResource", resourceUuids=[named(disk)], accountUuids=[cast.uuids["ann"]])
    await cast.admin("DeleteDiskOffering", uuid=named("disk-100g"))
    assert await cast.query("admin", "accounts/resources", f"resourceUuid={named('disk-100g')}") == []
    await cast.admin("DeleteAccount", uuid=cast.uuids["ann"])
    assert await cast.query("admin", "accounts/resources", "receiverAccountUuid not null") == []


@pytest.mark.parametrize("uuid", (NOBODY, named("zone-1")))
async def test_what_is_nobodys_cannot_be_shared(cast, uuid):
    assert await cast.refusal("admin", "ShareResource", resourceUuids=[uuid], toPublic=True) == f"SYS.1007: the account[uuid: {ADMIN}] doesn't have a resource[uuid: {uuid}]"


async def test_people_quotas_and_root_volumes_do_not_change_hands(cast):
    await cast.user("ann", "ulf")
    quota = (await cast.query("ann", "accounts/quotas", "name=vm.num"))[0]["uuid"]
    for uuid in (quota, cast.uuids["ulf"], await policy(cast, "ann", ("Allow", ["**"]))):
        assert "wrong resourceUuid" in await cast.refusal("admin", "ChangeResourceOwner", accountUuid=cast.uuids["bob"], resourceUuid=uuid)
    assert (await cast.admin("UpdateQuota", identityUuid=cast.uuids["ann"], name="vm.num", value=7))["inventory"]["uuid"] == quota
    root = (await cast.query("admin", "volumes", "type=Root"))[0]["uuid"]
    assert "is a ROOT volume" in await cast.refusal("admin", "ChangeResourceOwner", accountUuid=cast.uuids["bob"], resourceUuid=root)


async def test_a_resource_changes_hands_with_all_that_is_part_of_it(cast):
    web, bob = await cast.vm("ann", "web"), cast.uuids["bob"]
    ref = (await cast.admin("ChangeResourceOwner", accountUuid=bob, resourceUuid=web))["inventory"]
    assert (ref["accountUuid"], ref["resourceUuid"]) == (bob, web)
    for collection in ("vm-instances", "volumes", "vm-instances/nics"):
        assert await cast.query("ann", collection) == [] and len(await cast.query("bob", collection)) == 1
    refusal = await cast.refusal("admin", "ChangeResourceOwner", accountUuid=bob, resourceUuid=web)
    assert refusal.startswith("ID.1004: Invalid ChangeResourceOwner operation.Original owner is the same as target owner.")
    await cast.admin("UpdateQuota", identityUuid=cast.uuids["ann"], name="vm.num", value=0)
    assert (await cast.refusal("admin", "ChangeResourceOwner", accountUuid=cast.uuids["ann"], resourceUuid=web)).startswith("ID.1003")
    assert len(await cast.query("bob", "vm-instances")) == 1, "it stayed where it was"
    await cast.admin("ChangeResourceOwner", accountUuid=ADMIN, resourceUuid=web)
    assert "owner" not in cast.mock.cloud.store.peek("VmInstance", web)


# quotas


async def test_a_quota_is_reached_raised_and_given_back(cast):
    ann = cast.uuids["ann"]
    await cast.admin("UpdateQuota", identityUuid=ann, name="vm.totalNum", value=1)
    first = await cast.vm("ann", "first")
    refusal = await cast.refusal("ann", "CreateVmInstance", name="second", **VM)
    assert refusal == (f"ID.1003: quota exceeding. The account[uuid: {ann}] exceeds a quota[name: vm.totalNum, value: 1]. "
                       "Please contact the administrator.")  # fmt: skip
    assert await cast.names("ann", "vm-instances") == ["first"]
    await cast.vm("bob", "of another")
    await cast.admin("UpdateQuota", identityUuid=ann, name="vm.totalNum", value=2)
    await cast.vm("ann", "second")
    assert (await cast.refusal("ann", "CreateVmInstance", name="third", **VM)).startswith("ID.1003")
    await cast("ann", "DestroyVmInstance", uuid=first)
    await cast.vm("ann", "third")
    assert (await cast.refusal("ann", "RecoverVmInstance", uuid=first)).startswith("ID.1003")


async def test_what_stands_still_counts_less(cast):
    ann = cast.uuids["ann"]
    await cast.admin("UpdateQuota", identityUuid=ann, name="vm.cpuNum", value=1)
    first = await cast.vm("ann", "first")
    assert "quota[name: vm.cpuNum, value: 1]" in await cast.refusal("ann", "CreateVmInstance", name="second", **VM)
    await cast("ann", "StopVmInstance", uuid=first)
    await cast.vm("ann", "second")
    assert "vm.cpuNum" in await cast.refusal("ann", "StartVmInstance", uuid=first)


MAKES = (  # quotas, and what reaches them where one is allowed, or so much
    ("volume.data.num", 0, "CreateDataVolume", {"diskOfferingUuid": DISK}),
    ("volume.data.num", 1, "CreateVmInstance", VM | {"dataDiskOfferingUuids": [DISK, DISK]}),
    ("volume.capacity", (20 << 30) - 1, "CreateDataVolume", {"diskOfferingUuid": DISK}),
    ("vm.memorySize", (1 << 30) - 1, "CreateVmInstance", VM),
    ("image.num", 0, "AddImage", {"url": "http://mirror.example.com/x", "format": "qcow2", "backupStorageUuids": [named("bs-1")]}),
    ("securityGroup.num", 0, "CreateSecurityGroup", {}),
    ("vip.num", 0, "CreateVip", {"l3NetworkUuid": L3}),
)  # fmt: skip


@pytest.mark.parametrize(("quota", "value", "api", "params"), MAKES, ids=[f"{quota} {api}" for quota, _, api, _ in MAKES])
async def test_each_quota_is_kept(cast, quota, value, api, params):
    await cast.admin("UpdateQuota", identityUuid=cast.uuids["ann"], name=quota, value=value)
    assert f"exceeds a quota[name: {quota}, value: {value}]" in await cast.refusal("ann", api, name="x", **params)
    await cast.admin("UpdateQuota", identityUuid=cast.uuids["ann"], name=quota, value=1 << 50)
    await cast("ann", api, name="x", **params)


async def test_quotas_are_what_the_global_configuration_says_and_are_told_with_what_is_used(cast):
    ann = cast.uuids["ann"]
    quotas = {quota["name"]: quota["value"] for quota in await cast.query("ann", "accounts/quotas")}
    assert quotas == {name: configured(cast.mock.cloud, "quota", name) for name in ALL.quotas}
    assert {(quota["identityUuid"], quota["identityType"]) for quota in await cast.query("ann", "accounts/quotas")} == {(ann, "AccountVO")}
    assert await cast.names("ann", "accounts", "quota.name=vm.num") == ["ann"]
    await cast.vm("ann", "web", dataDiskOfferingUuids=[DISK])
    for who in ("ann", "admin"):
        usage = {told["name"]: (told["total"], told["used"]) for told in (await cast(who, "GetAccountQuotaUsage", uuid=ann))["usages"]}
        assert usage["vm.num"] == (20, 1) and usage["vm.memorySize"] == (80 << 30, 1 << 30) and usage["volume.data.num"] == (40, 1)
        assert usage["vip.num"] == (20, 0) and usage.keys() == ALL.quotas.keys() and usage["volume.capacity"][1] > 20 << 30
    assert (await cast.admin("UpdateQuota", identityUuid=ann, name="vip.num", value=3))["inventory"]["value"] == 3
    assert await cast.refusal("admin", "UpdateQuota", identityUuid=ann, name="vips", value=3) == f"SYS.1007: cannot find Quota[name: vips] for the account[uuid: {ann}]"


async def test_admin_has_as_much_as_there_is(cast):
    assert {told["total"] for told in (await cast.admin("GetAccountQuotaUsage", uuid=ADMIN))["usages"]} == {0}
    used = {told["name"]: told["used"] for told in (await cast.admin("GetAccountQuotaUsage", uuid=ADMIN))["usages"]}
    for n in range(21):
        await cast.admin("CreateSecurityGroup", name=f"g{n}")
    assert used["vm.totalNum"] == 10 and (await cast.admin("GetAccountQuotaUsage", uuid=ADMIN))["usages"][13]["used"] >= 21


# users and policies

async def policy(cast, account, *statements):
    made = await cast(account, "CreatePolicy", name="p", statements=[{"name": "s", "effect": effect, "actions": actions} for effect, actions in statements])
    return made["inventory"]["uuid"]


async def test_a_policy_that_was_kept_may_say_anything(cast):
    await cast.user("ann", "ulf")
    said, gone = await policy(cast, "ann", ("Deny", ["**"])), await policy(cast, "ann", ("Deny", ["**"]))
    await cast("ann", "AttachPoliciesToUser", userUuid=cast.uuids["ulf"], policyUuids=[said, gone])
    cast.mock.cloud.store.update("Policy", said, statements=["x", None, {"effect": "Deny", "actions": [7, {}, "[", "", "**.*." * 3000 + "**", "org.zstack.header.image.**"]}])
    cast.mock.cloud.store.remove("Policy", gone)
    assert await cast.query("ulf", "vm-instances") == []
    assert await cast.refusal("ulf", "QueryImage") == f"SYS.1006: the operation is denied by the policy[uuid:{said}]"


# the end


async def test_an_account_is_deleted_with_all_it_owned(cast):
    host = (await cast.query("admin", "hosts", f"uuid={named('host-1')}"))[0]
    before = {type: cast.mock.cloud.store.count(type) for type in cast.mock.cloud.store.tables}
    free = sum(host["availableCpuCapacity"] for host in await cast.query("admin", "hosts"))
    assert host
    await cast.account("eve")
    await cast.user("eve", "ulf")
    await cast("eve", "CreateUserGroup", name="g")
    await policy(cast, "eve", ("Allow", ["**"]))
    web = await cast.vm("eve", "web", dataDiskOfferingUuids=[DISK], systemTags=["hostname::web"])
    data = (await cast.query("eve", "volumes", "type=Data"))[0]["uuid"]
    await cast("eve", "CreateVolumeSnapshot", volumeUuid=data, name="s")
    vip = (await cast("eve", "CreateVip", name="v", l3NetworkUuid=L3))["inventory"]["uuid"]
    balancer = (await cast("eve", "CreateLoadBalancer", name="l", vipUuid=vip))["inventory"]["uuid"]
    await cast("eve", "CreateLoadBalancerListener", name="w", loadBalancerUuid=balancer, loadBalancerPort=80)
    group = (await cast("eve", "CreateSecurityGroup", name="g"))["inventory"]["uuid"]
    await cast("eve", "AddImage", name="i", url="http://mirror.example.com/x", format="qcow2", backupStorageUuids=[named("bs-1")])
    bobs = await cast.vm("bob", "bob-web")
    await cast.admin("DeleteAccount", uuid=cast.uuids["eve"])
    store = cast.mock.cloud.store
    assert not [(type, item) for type in store.tables for item in store.rows(type) if cast.uuids["eve"] in map(str, item.values()) and type != "Job"]
    assert store.peek("VmInstance", web)["state"] == "Destroyed" and store.peek("VmInstance", bobs)["state"] == "Running"
    assert store.peek("Volume", data)["status"] == "Deleted", "it waits to be expunged, and is admin's"
    await cast.admin("ExpungeVmInstance", uuid=web)
    await cast.admin("ExpungeDataVolume", uuid=data)
    await cast.admin("DeleteSecurityGroup", uuid=group)
    (image,) = await cast.query("admin", "images", "name=i")
    assert image["status"] == "Deleted"
    await cast.admin("ExpungeImage", imageUuid=image["uuid"])
    await cast("bob", "DestroyVmInstance", uuid=bobs)
    await cast("bob", "ExpungeVmInstance", uuid=bobs)
    after = {type: store.count(type) for type in before if type not in ("Gone", "Job", "Notification", "Session", "GarbageCollector")}
    assert after == {type: before[type] for type in after}
    assert sum(host["availableCpuCapacity"] for host in await cast.query("admin", "hosts")) == free
    assert await cast.get("eve", "/vm-instances") == (503, {"error": {"code": "ID.1001", "details": "Session expired",
        "description": "The session is invalid, either wrong session id or the session has been expired"}})  # fmt: skip


async def test_a_call_that_outlives_its_account_makes_nothing():
    async with zmock.serve(delay="10") as mock:
        admin = await mock.login()
        ann = (await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD))["uuid"]
        await mock.login("ann")
        status, answer = await mock.request("POST", "/security-groups", {"params": {"name": "late"}})
        mock.session = admin
        gone = mock.cloud.remove("Account", ann)
        await mock.advance(20)
        status, body = await mock.request("GET", "/api-jobs/" + answer["location"].rpartition("/")[2])
        assert gone is None and (status, body["error"]["code"]) == (503, "ID.1001") and await mock.query("security-groups") == []


async def test_a_long_job_is_cancelled_while_its_account_is_deleted():
    async with zmock.serve(clock="frozen", delay="5") as mock:
        cast = Cast(mock)
        cast.sessions["admin"] = await mock.login()
        await cast.admin("ShareResource", resourceUuids=[DISK], toPublic=True)
        await cast.account("eve")
        free = [storage["availableCapacity"] for storage in await cast.query("admin", "primary-storage")]
        data = (await cast("eve", "CreateDataVolume", name="d", diskOfferingUuid=DISK, primaryStorageUuid=named("ps-nfs")))["inventory"]["uuid"]
        told = json.dumps({"volumeUuid": data, "dstPrimaryStorageUuid": named("ps-local")})
        job = (await cast("eve", "SubmitLongJob", jobName="APIPrimaryStorageMigrateVolumeMsg", jobData=told))["inventory"]["uuid"]
        await mock.request("PUT", f"/longjobs/{job}/actions", {"cancelLongJob": {}})
        mock.session = cast.sessions["admin"]
        await mock.request("DELETE", f"/accounts/{cast.uuids['eve']}")
        await mock.advance(5)
        await mock.advance(500)
        assert [found["state"] for found in await cast.query("admin", "longjobs", f"uuid={job}")] == ["Canceled"]
        await cast.admin("ExpungeDataVolume", uuid=data)
        assert [storage["availableCapacity"] for storage in await cast.query("admin", "primary-storage")] == free and not zmock.work_of(mock.cloud, job)


@pytest.mark.parametrize("moment", (1.5, 2.5, 3.5))
async def test_what_an_account_takes_while_it_is_deleted_is_given_back_once(moment):
    async with zmock.serve(clock="frozen", delay="5") as mock:
        cast = Cast(mock)
        cast.sessions["admin"] = await mock.login()
        await cast.admin("ShareResource", resourceUuids=[L3, OFFERING, IMAGE, DISK], toPublic=True)
        before = [storage["availableCapacity"] for storage in await cast.query("admin", "primary-storage")]
        await cast.account("eve")
        mock.session = cast.sessions["admin"]
        assert (await mock.request("DELETE", f"/accounts/{cast.uuids['eve']}"))[0] == 202
        await mock.advance(moment)
        mock.session = cast.sessions["eve"]
        status, _ = await mock.request("POST", "/vm-instances", {"params": VM | {"name": "late", "dataDiskOfferingUuids": [DISK]}})
        await mock.advance(60)
        after = [storage["availableCapacity"] for storage in await cast.query("admin", "primary-storage")]
        assert (status, after) == (202, before) and await cast.names("admin", "vm-instances", "name=late") == []


async def test_an_open_mock_takes_who_has_no_session_for_admin():
    async with zmock.serve(open=True) as mock:
        mock.session = "anybody"
        assert {"zone-1"} == {zone["name"] for zone in await mock.query("zones")}
        await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
        await mock.login("ann")
        assert await mock.query("vm-instances") == [], "a session counts where there is one"


@pytest.mark.parametrize("dialect", ("manual", "server"))
async def test_refusals_are_errors_of_the_operation_in_both_dialects(dialect):
    async with zmock.serve(dialect=dialect) as mock:
        await mock.login()
        ann = (await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD))["uuid"]
        await mock.login("ann")
        status, body = await mock.request("GET", "/clusters")
        assert (status, body["error"]["code"], body["error"]["details"]) == (503, "SYS.1006", "operation is denied by default")
        status, answer = await mock.request("PUT", f"/vm-instances/{WEB}/actions", {"stopVmInstance": {}})
        assert status == 202
        with pytest.raises(RuntimeError, match=re.escape(f"SYS.1006: permission denied, the account[uuid:{ann}] is not the owner of the resource[uuid:{WEB}, type:VmInstanceVO]")):
            await mock.act("vm-instances", WEB, "stopVmInstance")
        assert await mock.query("vm-instances") == []


async def test_what_an_account_has_is_kept(tmp_path):
    for again in (False, True):
        async with zmock.serve(memory=False, data=str(tmp_path / "cloud")) as mock:
            if not again:
                await mock.login()
                await mock.create("CreateAccount", name="ann", password=SHA512_OF_PASSWORD)
            await mock.login("ann")
            if not again:
                await mock.create("CreateSecurityGroup", name="mine")
            assert [group["name"] for group in await mock.query("security-groups")] == ["mine"]
