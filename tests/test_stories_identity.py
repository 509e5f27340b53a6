"""A long story of two accounts over HTTP: users, groups, policies, shares, a change of owner, and the end of an account."""

import pytest
from test_stories import CENTOS, DELAY, DISK, NFS, PRIVATE, SMALL, WEB_3, Client

from zmock import ADMIN, SHA512_OF_PASSWORD, serve

PASSWORD = {"password": SHA512_OF_PASSWORD}
STOP, VM_APIS = "org.zstack.header.vm.APIStopVmInstanceMsg", "org.zstack.header.vm.API*VmInstanceMsg"
MACHINE = {"instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "primaryStorageUuidForRootVolume": NFS}


class Cast:
    """Several who use one client: `await cast("ann", "StopVmInstance", uuid=...)` is a call of ann."""

    def __init__(self, client):
        self.client, self.sessions, self.uuids = client, {"admin": client.mock.session}, {}

    def act(self, who):
        self.client.mock.session = self.sessions[who]
        return self.client

    async def __call__(self, who, api, **params):
        return await self.act(who).call(api, **params)

    async def fails(self, who, error, api, **params):
        await self.act(who).fails(error, api, **params)

    async def look(self, who, collection, uuid):
        return await self.act(who).look(collection, uuid)

    async def names(self, who, collection):
        _, answer = await self.act(who).mock.request("GET", f"/{collection}")
        return sorted(item["name"] for item in answer["inventories"])

    async def account(self, name):
        made = await self("admin", "CreateAccount", name=name, **PASSWORD)
        session = await self("admin", "LogInByAccount", accountName=name, **PASSWORD)
        self.uuids[name], self.sessions[name] = made["uuid"], session["uuid"]
        assert (session["accountUuid"], session["userUuid"]) == (made["uuid"], made["uuid"])

    async def user(self, account, name):
        made = await self(account, "CreateUser", name=name, **PASSWORD)
        session = await self(account, "LogInByUser", accountName=account, userName=name, **PASSWORD)
        self.uuids[name], self.sessions[name] = made["uuid"], session["uuid"]
        assert (session["accountUuid"], session["userUuid"]) == (self.uuids[account], made["uuid"])


@pytest.fixture(params=["manual", "server"])
async def cast(request):
    async with serve(dialect=request.param, delay=DELAY) as mock:
        await mock.login()
        yield Cast(Client(mock))


async def share(cast):
    """Share a network with ann, then with all, and revoke it again; ann makes a machine meanwhile."""
    ann, bob = cast.uuids["ann"], cast.uuids["bob"]
    network = {"resourceUuids": [PRIVATE]}
    await cast.fails("ann", "SYS.1006: operation is denied by default", "ShareResource", **network, toPublic=True)
    await cast.fails("admin", "SYS.1007: toPublic is set to false, accountUuids cannot be null or empty", "ShareResource", **network)
    await cast("admin", "ShareResource", resourceUuids=[SMALL, DISK], toPublic=True)
    await cast("admin", "ShareResource", resourceUuids=[CENTOS, PRIVATE], accountUuids=[ann])
    assert await cast.names("ann", "images") == ["image-centos7"] and await cast.names("bob", "images") == []
    vm = await cast("ann", "CreateVmInstance", name="shop", dataDiskOfferingUuids=[DISK], **MACHINE)
    denied = f"SYS.1006: the account[uuid:{bob}] has no access to the resources[uuid:[{CENTOS}], type:ImageVO]"
    await cast.fails("bob", denied, "CreateVmInstance", name="v", **MACHINE)
    await cast("admin", "ShareResource", resourceUuids=[CENTOS, PRIVATE], toPublic=True)
    assert await cast.names("bob", "l3-networks") == ["l3-private"]
    assert (await cast("bob", "CreateVmInstance", name="blog", **MACHINE))["state"] == "Running"
    owner = f"SYS.1006: permission denied, the account[uuid:{bob}] is not the owner of the resource[uuid:{CENTOS}, type:ImageVO]"
    await cast.fails("bob", owner, "UpdateImage", uuid=CENTOS, name="mine")

    await cast.fails("admin", "SYS.1007: all is set to false, accountUuids cannot be null or empty", "RevokeResourceSharing", resourceUuids=[CENTOS], toPublic=True)
    await cast("admin", "RevokeResourceSharing", resourceUuids=[CENTOS], toPublic=True, all=True)
    assert await cast.names("bob", "images") == [] and await cast.names("ann", "images") == ["image-centos7"]
    await cast("admin", "RevokeResourceSharing", resourceUuids=[CENTOS], accountUuids=[ann])
    assert await cast.names("ann", "images") == [] and (await cast.look("ann", "vm-instances", vm["uuid"]))["state"] == "Running"
    return vm


async def deny(cast, vm):
    """A user may do what its account may, until a policy denies it: its own, then that of its group."""
    uuid = {"uuid": vm["uuid"]}
    await cast("ulf", "StopVmInstance", **uuid)
    await cast("ulf", "StartVmInstance", **uuid)
    await cast.fails("ulf", "SYS.1000: unknown principal[account]", "CreateZone", name="z")
    await cast.fails("ann", "SYS.1007: a statement must have effect field*", "CreatePolicy", name="p", statements=[{"actions": [STOP]}])
    no_stop = await cast("ann", "CreatePolicy", name="no stop", statements=[{"name": "s", "effect": "Deny", "actions": [STOP]}])
    await cast("ann", "AttachPolicyToUser", userUuid=cast.uuids["ulf"], policyUuid=no_stop["uuid"])
    await cast.fails("ulf", f"SYS.1006: the operation is denied by the policy[uuid:{no_stop['uuid']}]", "StopVmInstance", **uuid)
    assert await cast.names("ulf", "vm-instances") == ["shop"]
    await cast("ann", "DetachPolicyFromUser", userUuid=cast.uuids["ulf"], policyUuid=no_stop["uuid"])
    await cast("ulf", "StopVmInstance", **uuid)

    group = await cast("ann", "CreateUserGroup", name="guests")
    no_vms = await cast("ann", "CreatePolicy", name="no vms", statements=[{"effect": "Deny", "actions": [VM_APIS]}])
    await cast("ann", "AttachPolicyToUserGroup", groupUuid=group["uuid"], policyUuid=no_vms["uuid"])
    await cast("ulf", "StartVmInstance", **uuid)
    await cast("ann", "AddUserToGroup", groupUuid=group["uuid"], userUuid=cast.uuids["ulf"])
    denied = f"SYS.1006: the operation is denied by the policy[uuid:{no_vms['uuid']}]"
    await cast.fails("ulf", denied, "StopVmInstance", **uuid)
    status, answer = await cast.act("ulf").mock.request("GET", "/vm-instances")
    assert (status, answer["error"]["details"]) == (503, denied.partition(": ")[2])
    assert await cast.names("ulf", "volumes") == ["DATA-for-shop", "ROOT-for-shop"]
    await cast.fails("admin", f"SYS.1007: user[name: ulf, uuid: {cast.uuids['ulf']}] doesn't belong to the account[uuid: {ADMIN}]", "AddUserToGroup",
                     groupUuid=group["uuid"], userUuid=cast.uuids["ulf"])  # fmt: skip
    await cast("ann", "RemoveUserFromGroup", groupUuid=group["uuid"], userUuid=cast.uuids["ulf"])
    await cast("ulf", "StopVmInstance", **uuid)
    await cast("ulf", "StartVmInstance", **uuid)


async def hand_over(cast, vm):
    """Bob gets the machine of ann, and what goes with it."""
    bob, owned = cast.uuids["bob"], {"resourceUuid": vm["uuid"]}
    await cast.fails("admin", "SYS.1006: *is a ROOT volume*", "ChangeResourceOwner", accountUuid=bob, resourceUuid=vm["rootVolumeUuid"])
    await cast("admin", "UpdateQuota", identityUuid=bob, name="vm.num", value=1)
    await cast.fails("admin", "ID.1003: *exceeds a quota[name: vm.num, value: 1], Current used:1, Request:1*", "ChangeResourceOwner", accountUuid=bob, **owned)
    await cast("admin", "UpdateQuota", identityUuid=bob, name="vm.num", value=5)
    reference = await cast("admin", "ChangeResourceOwner", accountUuid=bob, **owned)
    assert (reference["accountUuid"], reference["resourceType"]) == (bob, "VmInstanceVO")
    await cast.fails("admin", "ID.1004: *Original owner is the same as target owner*", "ChangeResourceOwner", accountUuid=bob, **owned)
    for collection in ("vm-instances", "volumes", "vm-instances/nics"):
        _, answer = await cast.act("ann").mock.request("GET", f"/{collection}")
        assert answer["inventories"] == []
    assert await cast.names("bob", "vm-instances") == ["blog", "shop"]
    assert await cast.names("bob", "volumes") == ["DATA-for-shop", "ROOT-for-blog", "ROOT-for-shop"]
    owner = f"SYS.1006: permission denied, the account[uuid:{cast.uuids['ann']}] is not the owner of the resource[uuid:{vm['uuid']}, type:VmInstanceVO]"
    await cast.fails("ann", owner, "StopVmInstance", uuid=vm["uuid"])
    owners = (await cast("bob", "GetResourceAccount", resourceUuids=[vm["uuid"], vm["rootVolumeUuid"], WEB_3]))["inventories"]
    assert {uuid: account["name"] for uuid, account in owners.items()} == {vm["uuid"]: "bob", vm["rootVolumeUuid"]: "bob", WEB_3: "admin"}


async def end(cast, vm):
    """The account of bob is deleted. Admin has what is left of it."""
    bob, disk = cast.uuids["bob"], (await cast("bob", "CreateDataVolume", name="disk", diskOfferingUuid=DISK))["uuid"]
    group = (await cast("bob", "CreateSecurityGroup", name="group"))["uuid"]
    vip = (await cast("bob", "CreateVip", name="vip", l3NetworkUuid=PRIVATE))["uuid"]
    await cast.user("bob", "uma")
    await cast.fails("ann", "SYS.1007: Only admin can delete account.", "DeleteAccount", uuid=bob)
    await cast.fails("admin", "SYS.1007: account cannot delete itself", "DeleteAccount", uuid=ADMIN)
    assert not await cast("admin", "DeleteAccount", uuid=bob)
    for who in ("bob", "uma"):
        await cast.fails(who, "ID.1001: Session expired", "CreateSecurityGroup", name="late")
    assert await cast.names("admin", "accounts") == ["admin", "ann", "shop"] and await cast.look("admin", "accounts/users", cast.uuids["uma"]) is None
    machine = await cast.look("admin", "vm-instances", vm["uuid"])
    assert machine["state"] == "Destroyed" and [nic.get("ip") for nic in machine["vmNics"]] == [None]
    assert (await cast.look("admin", "volumes", disk))["status"] == "Deleted"
    assert await cast.look("admin", "vips", vip) is None
    owners = (await cast("ann", "GetResourceAccount", resourceUuids=[vm["uuid"], disk, group]))["inventories"]
    assert {account["uuid"] for account in owners.values()} == {ADMIN}
    assert await cast.look("ann", "security-groups", group) is None and await cast.look("admin", "security-groups", group)
    recovered = await cast("admin", "RecoverVmInstance", uuid=vm["uuid"])
    assert recovered["state"] == "Stopped"
    await cast.fails("admin", "ID.1000: wrong account name or password", "LogInByAccount", accountName="bob", **PASSWORD)


async def test_two_accounts_with_users_groups_and_policies_share_hand_over_and_are_deleted(cast):
    await cast.account("ann")
    await cast.account("bob")
    await cast.user("ann", "ulf")
    vm = await share(cast)
    await deny(cast, vm)
    await hand_over(cast, vm)
    await end(cast, vm)
