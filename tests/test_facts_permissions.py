"""Who may do what on the real server, and in which order a call is checked, fact by fact, in both dialects.

The steps that make accounts, users, policies and sessions are for tests/test_facts_identity.py too.
"""

from asking import each, outcome
from facts import Fact, Refused, Shown, Uncovered, after, changed, check, error_of, take
from test_facts_vm import (
    CENTOS,
    CI,
    DISK,
    ISO,
    PRIVATE,
    PUBLIC,
    SMALL,
    VM,
    WEB,
    V,
    as_ann,
    facts,
    leaves,
    nic_of,
)

from zmock import ADMIN, SHA512_OF_PASSWORD, named

ANN, BOB, ULF, UMA, GROUP, POLICY, ROLE, ANNS, BOBS = map(named, ("ann", "bob", "ulf", "uma", "group", "policy", "role", "vm-ann", "vm-bob"))
NOBODY, OUT, SG, VIP = "a" * 12 + "4" + "a" * 19, "f" * 32, named("group-ann"), named("vip-ann")
PASSWORD = {"password": SHA512_OF_PASSWORD}
DENIED, SESSION = "operation is denied by default", "Session expired"
CLASS, IDENTITY = "org.zstack.header.vm.API%sVmInstanceMsg", "org.zstack.header.identity."
STOP_IT, START_IT, UPDATE_IT, QUERY_IT = (CLASS % verb for verb in ("Stop", "Start", "Update", "Query"))
OWNER = "permission denied, the account[uuid:%s] is not the owner of the resource[uuid:%s, type:%s]"
ACCESS = "the account[uuid:%s] has no access to the resources[uuid:[%s], type:%s]"


# steps


def account(name, **more):
    """A step that makes an account, whose uuid follows from its name."""
    return ("CreateAccount", {"name": name, "resourceUuid": named(name)} | PASSWORD | more)


def user(name="ulf", **more):
    return ("CreateUser", {"name": name, "resourceUuid": named(name)} | PASSWORD | more)


def by(name="admin"):
    """A step: an account logs in, and makes the next calls."""
    return lambda mock: mock.login(name)


def by_user(name="ulf", account=ANN):
    """A step: a user logs in, and makes the next calls."""

    async def step(mock):
        login = await mock.call("LogInByUser", accountUuid=account, userName=name, **PASSWORD)
        mock.session = login["inventory"]["uuid"]

    return step


async def logged_out(mock):
    mock.session = OUT


def share(*uuids, to=None):
    return ("ShareResource", {"resourceUuids": [*uuids]} | ({"accountUuids": [to]} if to else {"toPublic": True}))


def statement(effect, *actions, **more):
    return {"name": "s", "effect": effect, "actions": [*actions]} | more


def policy(*statements, uuid=POLICY, **more):
    return ("CreatePolicy", {"name": "p", "statements": [*statements], "resourceUuid": uuid} | more)


def vm(uuid=ANNS, name="ann-web", **more):
    return ("CreateVmInstance", VM | {"resourceUuid": uuid, "name": name} | more)


PEOPLE = (account("ann"), account("bob"))
OPEN = (*PEOPLE, share(PRIVATE, SMALL, CENTOS, DISK))  # two accounts that can make virtual machines
STOP_ANNS, ATTACH = ("StopVmInstance", {"uuid": ANNS}), ("AttachPolicyToUser", {"userUuid": ULF, "policyUuid": POLICY})
AS_ANN = (*OPEN, by("ann"))
WITH_ULF = (*AS_ANN, vm(), user())
BOTH = (*OPEN, by("ann"), vm(), by("bob"), vm(BOBS, "bob-web"), by("ann"))


def ruled(*statements, through=ATTACH):
    """Steps: ulf, a user of ann, has a policy and logs in."""
    return (*WITH_ULF, policy(*statements), *(through if isinstance(through[0], tuple) else (through,)), by_user())


IN_GROUP = (
    ("CreateUserGroup", {"name": "g", "resourceUuid": GROUP}), ("AddUserToGroup", {"userUuid": ULF, "groupUuid": GROUP}),
    ("AttachPolicyToUserGroup", {"groupUuid": GROUP, "policyUuid": POLICY}),
)  # fmt: skip


def by_policy(details, *statements, through=ATTACH, api="StopVmInstance", code="SYS.1006", **params):
    """A call of ulf, of a user of ann with a policy, that is refused."""
    return Refused(after(*ruled(*statements, through=through), **{"uuid": ANNS} | params), code, details)


def in_spite_of(*statements):
    """A call of ulf that succeeds in spite of a policy."""
    return leaves(*ruled(*statements), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")


def sees(*steps, collection="vm-instances", are=()):
    """A story: who has logged in last sees these objects, by their names."""

    async def story(mock):
        await take(mock, steps)
        assert sorted(item["name"] for item in await mock.query(collection)) == sorted(are)

    return Shown(story)


def owned(uuid, type="VmInstanceVO", account=ANN):
    return OWNER % (account, uuid, type)


def unshared(uuid, type, account=ANN):
    return ACCESS % (account, uuid, type)


def bad_uuid_before(*steps):
    """A creation with a uuid that is none is refused for it, whatever else is wrong."""

    async def story(mock):
        await take(mock, steps)
        _, answer = await outcome(mock, "POST", "/zones", {"params": {"name": "z", "resourceUuid": "x"}})
        assert answer["error"]["code"] == "SYS.1007" and answer["error"]["details"].startswith("resourceUuid[x] is not a valid uuid")

    return Shown(story)


async def gone_before_the_session(mock):
    mock.session = OUT
    assert (await outcome(mock, "DELETE", f"/accounts/policies/{NOBODY}"))[0] == 200


async def whatever_the_principal_is(mock):
    """Of a user of admin, a principal names the account: it matches by admin's uuid only."""
    deny = statement("Deny", "org.zstack.header.zone.**", principals=[f"user:{ADMIN}"])
    await take(mock, [user("una"), policy(deny), ("AttachPolicyToUser", {"userUuid": named("una"), "policyUuid": POLICY}), by_user("una", ADMIN)])
    assert (await error_of(mock, "QueryZone", {}))["details"] == f"the operation is denied by the policy[uuid:{POLICY}]"


async def tags_of_others(mock):
    await take(mock, [*OPEN, by("bob"), vm(BOBS), by("ann"), ("CreateUserTag", {"resourceType": "VmInstanceVO", "resourceUuid": BOBS, "tag": "t"})])
    assert mock.cloud.find("UserTag", "resourceUuid", BOBS)


async def second_admin(mock):
    """An account of the type SystemAdmin has no quotas, may delete accounts, and is else a normal one."""
    await take(mock, [account("bob"), account("ann", type="SystemAdmin"), ("UpdateQuota", {"identityUuid": ANN, "name": "securityGroup.num", "value": 0})])
    await take(mock, [by("ann"), ("CreateSecurityGroup", {"name": "g"})])
    assert (await error_of(mock, "CreateZone", {"name": "z"}))["details"] == DENIED
    assert (await error_of(mock, "UpdateVmInstance", {"uuid": WEB, "name": "x"}))["details"] == owned(WEB)
    await take(mock, [("DeleteAccount", {"uuid": BOB})])
    assert not mock.cloud.look("Account", BOB)


def may(api, *steps, **params):
    """A call that is not refused."""

    async def story(mock):
        await take(mock, steps)
        assert await error_of(mock, api, params) == {}

    return Shown(story)


def denied(*steps, **params):
    """A call of an account that is for admin only."""
    return V("SYS.1006", params, DENIED, *steps, by("ann")) if steps else V("SYS.1006", params, DENIED, account("ann"), by("ann"))


ADMINS_OWN = (
    ("CreateAccount", {"name": "x", "password": "p"}), ("ShareResource", {"resourceUuids": [CENTOS], "toPublic": True}),
    ("RevokeResourceSharing", {"resourceUuids": [CENTOS], "all": True}), ("UpdateQuota", {"identityUuid": ANN, "name": "vm.num", "value": 9}),
    ("QuerySharedResource", {}), ("ChangeResourceOwner", {"accountUuid": ANN, "resourceUuid": WEB}), ("DetachRoleFromAccount", {"roleUuid": ROLE, "accountUuid": ANN}),
    ("CreateZone", {"name": "z"}), ("QueryCluster", {}),
)  # fmt: skip
WITH_ROLE = (account("ann"), ("CreateRole", {"name": "r", "resourceUuid": ROLE}), by("ann"))
MAKE_SG = ("CreateSecurityGroup", {"name": "g", "resourceUuid": SG})
MAKE_VIP = ("CreateVip", {"name": "v", "l3NetworkUuid": PRIVATE, "resourceUuid": VIP})
LISTENER, BALANCER = named("listener-ann"), named("balancer-ann")
MAKE_LISTENER = (
    ("CreateLoadBalancer", {"name": "b", "vipUuid": VIP, "resourceUuid": BALANCER}),
    ("CreateLoadBalancerListener", {"name": "l", "loadBalancerUuid": BALANCER, "loadBalancerPort": 80, "protocol": "tcp", "resourceUuid": LISTENER}),
)  # fmt: skip
NOT_POOL = changed("L2Network", named("l2-public"), type="VxlanNetworkPool")
TWO_NAMES = {"systemTags": ["hostname::a", "hostname::b"]}

FACTS = (
    *facts("CreateZone",
        ("is refused for the uuid of what it makes before its session", bad_uuid_before(logged_out)),
        ("and before its caller", bad_uuid_before(account("ann"), by("ann"))),
    ),
    *facts("DeletePolicy",
        ("of none succeeds whatever the session is", Shown(gone_before_the_session)),
    ),
    *facts("StopVmInstance",
        ("looks for the machine before the session", V("SYS.1003", {"uuid": NOBODY}, "*", logged_out)),
        ("looks at the session before the state", V("ID.1001", {"uuid": CI}, SESSION, logged_out)),
    ),
    *facts("CreateVmInstance",
        ("looks at the system tags before the session", V("SYS.1007", VM | TWO_NAMES, "only one hostname system tag is allowed, but 2 got", logged_out)),
        ("looks at the owner before the quota", Refused(as_ann("vm.totalNum", 0, **VM | {"l3NetworkUuids": [PUBLIC]}), "SYS.1006", ACCESS % ("*", PUBLIC, "L3NetworkVO"))),
    ),
    *facts("DeleteDiskOffering",
        ("looks at the session before the caller", V("ID.1001", {"uuid": DISK}, SESSION, logged_out)),
        ("looks at the caller before the owner", V("SYS.1006", {"uuid": DISK}, DENIED, account("ann"), by("ann"))),
    ),
    *facts("CreateL3Network",
        ("looks at the quota before all that it refuses itself", Refused(as_ann("l3.num", 0, ("ShareResource", {"resourceUuids": [named("l2-public")], "toPublic": True}), NOT_POOL, l2NetworkUuid=named("l2-public"), name="n"), "ID.1003")),
        ("looks at the quota before the job", Refused(as_ann("l3.num", 0, ("ShareResource", {"resourceUuids": [named("l2-public")], "toPublic": True}), l2NetworkUuid=named("l2-public"), name="n"), "ID.1003")),
    ),
    *facts("CreateDataVolume",
        ("looks at the quota before the offering", Refused(as_ann("volume.data.num", 0, changed("DiskOffering", DISK, state="Disabled"), name="d", diskOfferingUuid=DISK), "ID.1003")),
    ),
    *facts("sessions",
        ("that is an account's has the account as its user", Shown(lambda mock: session_is(mock, ADMIN, ADMIN))),
        ("that is a user's has both", Shown(lambda mock: session_is(mock, ANN, ULF, account("ann"), by("ann"), user(), by_user()))),
        ("of an account of the type SystemAdmin are those of a normal account, but for quotas and deletions", Shown(second_admin)),
        ("of admin may do all", may("CreateZone", name="z")),
    ),
    *(Fact(api, "is denied to an account", denied(**params)) for api, params in ADMINS_OWN),
    *facts("QuerySftpBackupStorage",
        ("is denied to an account, whatever a setting says", denied(("UpdateGlobalConfig", {"category": "identity", "name": "account.api.control", "value": "org.zstack.storage.backup.sftp.APIQuerySftpBackupStorageMsg"}), account("ann"))),
    ),
    *facts("permissions",
        *((f"allow {api} to an account", may(api, account("ann"), by("ann"))) for api in ("QueryZone", "QueryHost", "QueryPrimaryStorage", "QueryBackupStorage", "QueryDiskOffering")),
        ("let a user of admin do all without a policy", may("CreateZone", user("una"), by_user("una", ADMIN), name="z")),
        ("let a user without any policy do what its account may", leaves(*WITH_ULF, by_user(), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("let a user make users", leaves(*WITH_ULF, by_user(), user("uma"), of=("User", UMA), accountUuid=ANN)),
        ("let a user make policies", leaves(*WITH_ULF, by_user(), policy(statement("Allow", "**")), of=("Policy", POLICY), accountUuid=ANN)),
        ("make what a user makes its account's", leaves(*WITH_ULF, by_user(), vm(BOBS), of=("VmInstance", BOBS), owner=ANN)),
    ),
    *facts("StopVmInstance",
        ("is denied by its class", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", STOP_IT))),
        ("is denied by a pattern", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", "org.zstack.header.vm.**"))),
        ("is denied by a pattern in a name", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", "org.zstack.*.vm.API*VmInstanceMsg"))),
        ("is denied by all", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", "**"))),
        ("is denied though it is allowed too", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Allow", "**"), statement("Deny", STOP_IT))),
        ("is denied through a group", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", STOP_IT), through=IN_GROUP)),
        ("is denied to the user of a principal", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", STOP_IT, principals=[f"user:{ULF}"]))),
        ("is denied to a pattern of users", by_policy(f"the operation is denied by the policy[uuid:{POLICY}]", statement("Deny", STOP_IT, principals=["user:*"]))),
        ("is not denied by another class", in_spite_of(statement("Deny", START_IT))),
        ("is not denied by a package", in_spite_of(statement("Deny", "org.zstack.header.*"))),
        ("is not denied by the name alone", in_spite_of(statement("Deny", "APIStopVmInstanceMsg"))),
        ("is not denied by an action of old", in_spite_of(statement("Deny", "instance:stop", "instance:APIStopVmInstanceMsg", f"instance:{STOP_IT}"))),
        ("is not denied to the user of another principal", in_spite_of(statement("Deny", STOP_IT, principals=[f"user:{UMA}"]))),
        ("is not denied by a group that the user has left", leaves(*ruled(statement("Deny", STOP_IT), through=(*IN_GROUP, ("RemoveUserFromGroup", {"userUuid": ULF, "groupUuid": GROUP}))), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("is not denied by a policy that nobody has", leaves(*WITH_ULF, policy(statement("Deny", "**")), by_user(), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("is denied to users, not to their account", leaves(*ruled(statement("Deny", STOP_IT)), by("ann"), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("fails with a principal that is an account", by_policy("unknown principal[account]", statement("Deny", STOP_IT, principals=[f"account:{ANN}"]), code="SYS.1000")),
        ("blanks out inventories of what a policy denies by its resources", Uncovered("resources of policies are ignored")),
    ),
    *facts("UpdateVmInstance",
        ("is denied by a field that is set", by_policy(f"the operation is denied by the policy[uuid:{POLICY}], field[name] is not permitted to set", statement("Deny", f"{UPDATE_IT}:description,name"), name="n")),
        ("is not denied by one that is not set", leaves(*ruled(statement("Deny", f"{UPDATE_IT}:description")), ("UpdateVmInstance", {"uuid": ANNS, "name": "n"}), of=("VmInstance", ANNS), name="n")),
    ),
    *facts("CreateZone",
        ("is allowed to a user by a policy", may("CreateZone", *AS_ANN, user(), by(), policy(statement("Allow", "org.zstack.header.zone.**")), ("AttachPoliciesToUser", {"userUuid": ULF, "policyUuids": [POLICY]}), by_user(), name="z")),
        ("is allowed by a policy of the account, as ** is not looked at", may("CreateZone", *ruled(statement("Allow", "**")), name="z")),
        ("is not allowed by an action of old", V("SYS.1000", {"name": "z"}, "unknown principal[account]", *ruled(statement("Allow", "zone:create")))),
        ("is denied to a user with another error", V("SYS.1000", {"name": "z"}, "unknown principal[account]", *WITH_ULF, by_user())),
        ("is not allowed by a role", denied(("CreateRole", {"name": "r", "resourceUuid": ROLE, "statements": [statement("Allow", "**")]}), account("ann"), ("AttachRoleToAccount", {"roleUuid": ROLE, "accountUuid": ANN}), name="z")),
    ),
    *facts("QueryZone",
        ("is denied to a user of admin by a policy", Shown(whatever_the_principal_is)),
    ),
    *facts("StopVmInstance",
        ("needs to own the machine", V("SYS.1006", {"uuid": BOBS}, owned(BOBS), *BOTH)),
        ("of admin too", V("SYS.1006", {"uuid": WEB}, owned(WEB), *AS_ANN)),
        ("stops one's own", leaves(*AS_ANN, vm(), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("of anybody for admin", leaves(*BOTH, by(), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
        ("and for a user of admin", leaves(*OPEN, user("una"), by("ann"), vm(), by_user("una", ADMIN), STOP_ANNS, of=("VmInstance", ANNS), state="Stopped")),
    ),
    *facts("UpdateImage",
        ("needs more than a share", V("SYS.1006", {"uuid": CENTOS, "name": "x"}, owned(CENTOS, "ImageVO"), *PEOPLE, share(CENTOS), by("ann"))),
    ),
    *facts("owners",
        ("Get calls ask for none", may("GetVmHostname", *BOTH, uuid=BOBS)),
        ("candidates ask for none", may("GetVmAttachableDataVolume", *BOTH, vmInstanceUuid=BOBS)),
        ("quotas ask for none", may("GetAccountQuotaUsage", *BOTH, uuid=BOB)),
        ("consoles ask for none", may("RequestConsoleAccess", *BOTH, vmInstanceUuid=BOBS)),
        ("tags ask for none", Shown(tags_of_others)),
        ("virtual routers ask for none", may("CreateVirtualRouterOffering", *AS_ANN, name="r", cpuNum=1, memorySize=1 << 30, zoneUuid=named("zone-1"), managementNetworkUuid=PUBLIC, imageUuid=named("image-ubuntu1804"))),
    ),
    *facts("CreateVmInstance",
        ("needs access to its networks", V("SYS.1006", VM | {"l3NetworkUuids": [PUBLIC]}, unshared(PUBLIC, "L3NetworkVO"), *AS_ANN)),
        ("names all that it has no access to", V("SYS.1006", VM | {"l3NetworkUuids": [PUBLIC, PRIVATE], "defaultL3NetworkUuid": PUBLIC}, unshared(f"{PUBLIC}, {PRIVATE}", "L3NetworkVO"), *PEOPLE, share(SMALL, CENTOS), by("ann"))),
        ("needs access to its offering", V("SYS.1006", VM | {"instanceOfferingUuid": named("offering-large")}, unshared(named("offering-large"), "InstanceOfferingVO"), *AS_ANN)),
        ("needs access to its image", V("SYS.1006", VM | {"imageUuid": ISO}, unshared(ISO, "ImageVO"), *AS_ANN)),
        ("takes what is shared with the account", leaves(*PEOPLE, share(PRIVATE, SMALL, CENTOS, to=ANN), by("ann"), vm(), of=("VmInstance", ANNS), state="Running")),
        ("asks nobody for a host", leaves(*AS_ANN, vm(hostUuid=named("host-1")), of=("VmInstance", ANNS), hostUuid=named("host-1"))),
    ),
    *facts("AttachDataVolumeToVm",
        ("needs to own the volume", V("SYS.1006", {"vmInstanceUuid": ANNS, "volumeUuid": named("volume-db-data-1")}, owned(named("volume-db-data-1"), "VolumeVO"), *AS_ANN, vm())),
        ("and access to the machine only", V("SYS.1006", {"vmInstanceUuid": BOBS, "volumeUuid": DISK[:-1] + "0"}, unshared(BOBS, "VmInstanceVO"), *BOTH, lambda mock: mock.cloud.add("Volume", uuid=DISK[:-1] + "0", name="d", size=1, owner=ANN) and take(mock, ()))),
    ),
    *facts("CreateEip",
        ("needs access to its VIP only", V("SYS.1006", {"name": "e", "vipUuid": named("vip-1")}, unshared(named("vip-1"), "VipVO"), *AS_ANN)),
    ),
    *facts("UpdateEip",
        ("needs to own the EIP", V("SYS.1006", {"uuid": named("eip-1"), "name": "x"}, owned(named("eip-1"), "EipVO"), *AS_ANN)),
    ),
    *facts("UpdateVip",
        ("needs to own the VIP", V("SYS.1006", {"uuid": VIP, "name": "x"}, owned(VIP, "VipVO"), *OPEN, MAKE_VIP, by("ann"))),
    ),
    *facts("UpdateLoadBalancer",
        ("needs to own the load balancer", V("SYS.1006", {"uuid": BALANCER, "name": "x"}, owned(BALANCER, "LoadBalancerVO"), *OPEN, MAKE_VIP, *MAKE_LISTENER, by("ann"))),
    ),
    *facts("UpdateLoadBalancerListener",
        ("needs access to the listener only", V("SYS.1006", {"uuid": LISTENER, "name": "x"}, unshared(LISTENER, "LoadBalancerListenerVO"), *OPEN, MAKE_VIP, *MAKE_LISTENER, by("ann"))),
        ("takes one that is shared", may("UpdateLoadBalancerListener", *OPEN, MAKE_VIP, *MAKE_LISTENER, share(LISTENER), by("ann"), uuid=LISTENER, name="x")),
    ),
    *facts("DeleteSecurityGroup",
        ("needs to own the group", V("SYS.1006", {"uuid": SG}, owned(SG, "SecurityGroupVO"), *OPEN, MAKE_SG, by("ann"))),
    ),
    *facts("AddVmNicToSecurityGroup",
        ("needs access to the nics only", Shown(lambda mock: nic_of_another(mock))),
    ),
    *facts("DeletePolicy",
        ("needs to own the policy", V("SYS.1006", {"uuid": POLICY}, owned(POLICY, "PolicyVO"), *PEOPLE, by("bob"), policy(statement("Allow", "**")), by("ann"))),
    ),
    *facts("AttachRoleToAccount",
        ("is denied to an account", V("SYS.1006", {"roleUuid": ROLE, "accountUuid": ANN}, DENIED, *WITH_ROLE)),
    ),
    *facts("DeleteRole",
        ("needs to own the role", V("SYS.1006", {"uuid": ROLE}, owned(ROLE, "RoleVO"), *WITH_ROLE)),
    ),
    *facts("DeleteUser",
        ("needs access to the user", V("SYS.1006", {"uuid": ULF}, unshared(ULF, "UserVO"), *PEOPLE, by("bob"), user(), by("ann"))),
    ),
    *facts("QueryVmInstance",
        ("finds what the account owns", sees(*BOTH, are=["ann-web"])),
        ("finds it for a user too", sees(*BOTH, user(), by_user(), are=["ann-web"])),
        ("finds what is shared with the account", sees(*OPEN, share(WEB, to=ANN), by("ann"), are=["web-1"])),
        ("finds what is shared with all", sees(*OPEN, share(WEB), by("ann"), are=["web-1"])),
        ("finds nothing of others", sees(*OPEN, share(WEB, to=BOB), by("ann"))),
    ),
    *facts("QueryAccount",
        ("finds all accounts for everybody", sees(*PEOPLE, by("ann"), collection="accounts", are=["admin", "ann", "bob", "shop"])),
    ),
    *facts("QueryUser",
        ("finds the users of the account", sees(*PEOPLE, by("bob"), user("uma"), by("ann"), user(), collection="accounts/users", are=["ulf"])),
    ),
)  # fmt: skip


async def session_is(mock, account, user, *steps):
    await take(mock, steps)
    session = mock.cloud.look("Session", mock.session)
    assert (session["accountUuid"], session["userUuid"]) == (account, user)


async def nic_of_another(mock):
    await take(mock, [*BOTH, MAKE_SG])
    nic = nic_of(mock, BOBS)["uuid"]
    assert (await error_of(mock, "AddVmNicToSecurityGroup", {"securityGroupUuid": SG, "vmNicUuids": [nic]}))["details"] == unshared(nic, "VmNicVO")


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
