"""What the real server does with accounts, users, policies, roles, shares, quotas and sessions, fact by fact, in both dialects.

The facts follow the calls. Who may call what is told in tests/test_facts_permissions.py.
"""

import json

from asking import each, one, outcome
from facts import Refused, Shown, Uncovered, after, changed, check, error_of, take
from test_facts_permissions import (
    ANN,
    ANNS,
    AS_ANN,
    BOB,
    CLASS,
    GROUP,
    IDENTITY,
    MAKE_LISTENER,
    MAKE_SG,
    MAKE_VIP,
    NOBODY,
    OPEN,
    OUT,
    PASSWORD,
    PEOPLE,
    POLICY,
    ROLE,
    SESSION,
    SG,
    STOP_IT,
    ULF,
    UMA,
    VIP,
    account,
    by,
    by_user,
    policy,
    sees,
    share,
    statement,
    unshared,
    user,
    vm,
)
from test_facts_vm import (
    ABSENT,
    BS,
    CENTOS,
    CI,
    DISK,
    GIB,
    PRIVATE,
    PUBLIC,
    WEB,
    V,
    answers,
    configured,
    facts,
    gone,
    leaves,
    nic_of,
)

from zmock import ADMIN, named

OTHER, EIP, RULE, CERTIFICATE, DATA, IMAGE, ADMINS_VIP = map(named, ("other", "eip-ann", "rule-ann", "certificate-ann", "volume-ann", "image-ann", "vip-admin"))
ZONE_ADMIN = "org.zstack.header.zone.APICreateZoneMsg"
ANNS_POLICY, BOBS_POLICY = policy(statement("Allow", "**")), policy(statement("Allow", "**"), uuid=OTHER)
GROUP_OF = ("CreateUserGroup", {"name": "g", "resourceUuid": GROUP})
FOREIGN = "%s[name: %s, uuid: %s] doesn't belong to the account[uuid: %s]"
HERS = (*PEOPLE, by("ann"), user(), GROUP_OF, ANNS_POLICY)
BOBS_TOO = (*PEOPLE, by("bob"), BOBS_POLICY, user("uma"), by("ann"), user(), GROUP_OF, ANNS_POLICY)
OF_USER, OF_GROUP, IN_GROUP = {"userUuid": ULF, "policyUuid": POLICY}, {"groupUuid": GROUP, "policyUuid": POLICY}, {"userUuid": ULF, "groupUuid": GROUP}
MAKE_ROLE = ("CreateRole", {"name": "r", "resourceUuid": ROLE, "statements": [statement("Allow", STOP_IT)]})
TO_BOB = {"accountUuid": BOB, "resourceUuid": ANNS}
EMPTY = ({}, None, {"success": True})


def makes_nothing(*steps):
    """A story: the last call answers nothing."""

    async def story(mock):
        assert await take(mock, steps) in EMPTY

    return Shown(story)


def count(type, key, value, *steps, is_=1):
    """A story: after some steps, so many objects have a value."""

    async def story(mock):
        await take(mock, steps)
        assert len(mock.cloud.find(type, key, value)) == is_

    return Shown(story)


def notified(*steps, of, are):
    """A story: some steps add notifications of an object, with these texts."""

    async def story(mock):
        await take(mock, steps)
        texts = [note["content"] % tuple(json.loads(note["arguments"])) for note in mock.cloud.find("Notification", "resourceUuid", of)]
        assert texts == [*are]

    return Shown(story)


def owner(*steps, of=("VmInstance", ANNS), is_=None):
    """A story: after some steps, an account owns an object; None is admin."""
    return leaves(*steps, of=of, owner=ABSENT if is_ is None else is_)


def valid(*steps, is_=True, of=None):
    """A story: whether a session is valid after some steps."""

    async def story(mock):
        session = mock.session
        await take(mock, steps)
        status, answer = await mock.request("GET", f"/accounts/sessions/{of or session}/valid")
        assert (status, answer["valid"]) == (200, is_)

    return Shown(story)


def usage(*steps, of=None, total=None, **used):
    """A story: what an account uses of some quotas; __ stands for a dot."""

    async def story(mock):
        await take(mock, steps)
        usages = {each["name"]: each for each in (await mock.call("GetAccountQuotaUsage", uuid=of or ANN))["usages"]}
        assert {name: usages[name.replace("__", ".")]["used"] for name in used} == used
        assert total is None or {each["total"] for each in usages.values()} == {total}

    return Shown(story)


# stories


async def other_login_names(mock):
    await take(mock, [*PEOPLE, by("ann"), user()])
    login = {"userName": "ULF", "password": PASSWORD["password"].upper(), "accountName": "nobody"}
    assert (await mock.call("LogInByUser", accountUuid=ANN, **login))["inventory"]["userUuid"] == ULF


async def new_sessions(mock):
    first = mock.session
    assert await mock.login() != first and mock.cloud.look("Session", first)


async def as_many_as_allowed(mock):
    await take(mock, [configured("identity", "session.maxConcurrent", "1")])
    return {"accountName": "admin"} | PASSWORD


async def expired_session_ends(mock):
    session = mock.session
    await mock.advance(7201)
    assert (await mock.request("GET", f"/accounts/sessions/{session}/valid"))[1] == {"valid": False}
    assert not mock.cloud.look("Session", session)


async def expiry_of_a_session(mock):
    login = (await mock.call("LogInByAccount", accountName="admin", **PASSWORD))["inventory"]
    session = mock.cloud.look("Session", login["uuid"])
    dates = [mock.cloud.clock.date_of_stamp(session[name]) for name in ("createDate", "expiredDate")]
    assert dates[1] - dates[0] == 7200


def renewed(seconds, *steps, **params):
    """A story: a session ends so many seconds after its renewal."""

    async def story(mock):
        await take(mock, steps)
        await mock.advance(100)
        now = mock.cloud.clock.now()
        answer = (await mock.call("RenewSession", sessionUuid=mock.session, **params))["inventory"]
        assert (answer["uuid"], answer["userUuid"]) == (mock.session, ADMIN)
        end = mock.cloud.clock.date_of_stamp(mock.cloud.look("Session", mock.session)["expiredDate"])
        assert abs(end - now - seconds) < 1

    return Shown(story)


async def session_of_another(mock):
    of_admin = mock.session
    await take(mock, [account("ann"), by("ann"), ("RenewSession", {"sessionUuid": of_admin, "duration": 60})])


async def ended_session(mock):
    ended = mock.session
    await mock.login()
    mock.cloud.change("Session", ended, expiredDate="2018-07-01 00:00:00")
    return {"sessionUuid": ended}


async def policies_of_an_account(mock):
    await take(mock, [account("ann")])
    found = {each["name"]: each["statements"] for each in mock.cloud.find("Policy", "accountUuid", ANN)}
    assert found == {
        "DEFAULT-READ": [{"name": f"read-permission-for-account-{ANN}", "effect": "Allow", "actions": [".*:read"]}],
        "USER-RESET-PASSWORD": [{"name": f"user-reset-password-{ANN}", "effect": "Allow", "actions": ["identity:APIUpdateUserMsg"]}],
    }


async def quotas_of_an_account(mock):
    await take(mock, [configured("quota", "vm.num", "3"), account("ann"), configured("quota", "vm.num", "4")])
    found = {each["name"]: (each["value"], each["identityType"]) for each in mock.cloud.find("Quota", "identityUuid", ANN)}
    settings = {name.partition("/")[2] for name in mock.cloud.catalogue.configurations if name.startswith("quota/")}
    assert found["vm.num"] == (3, "AccountVO") and found.keys() == settings


async def untagged_account(mock):
    name, params = account("ann")
    status, _ = await outcome(mock, "POST", "/accounts", {"params": params, "systemTags": ["a::b"] if mock.settings.dialect == "manual" else [], "userTags": ["t"]})
    assert status == 200 and not mock.cloud.find("UserTag", "resourceUuid", ANN) + mock.cloud.find("SystemTag", "resourceUuid", ANN)


async def sessions_outlive_a_password(mock):
    await take(mock, [account("ann"), by("ann"), ("UpdateAccount", {"uuid": ANN, "password": "p"}), ("QueryUser", {})])
    assert mock.cloud.look("Account", ANN)["password"] == "p"


async def another_admin_renames(mock):
    await take(mock, [account("ann", type="SystemAdmin"), by("ann"), ("UpdateAccount", {"uuid": ANN, "name": "x"})])
    assert mock.cloud.look("Account", ANN)["name"] == "x"


ANNS_ALL = (*OPEN, by("ann"), vm(dataDiskOfferingUuids=[DISK]))
DELETE_ANN = (by(), ("DeleteAccount", {"uuid": ANN}))


def deleted(*steps, of, **fields):
    """A story: what an object is like after its account was deleted."""
    return leaves(*OPEN, by("ann"), *steps, *DELETE_ANN, of=of, **fields)


def deleted_too(*steps, of):
    return gone(*OPEN, by("ann"), *steps, *DELETE_ANN, of=of)


def snapshot(volume):
    return ("CreateVolumeSnapshot", {"volumeUuid": volume, "name": "s", "resourceUuid": OTHER})


MAKE_DATA = ("CreateDataVolume", {"name": "d", "diskOfferingUuid": DISK, "primaryStorageUuid": named("ps-nfs"), "resourceUuid": DATA})
ADD_IMAGE = ("AddImage", {"name": "i", "url": "http://a.example.com/x", "format": "qcow2", "backupStorageUuids": [BS], "resourceUuid": IMAGE})
MAKE_CERTIFICATE = ("CreateCertificate", {"name": "c", "certificate": "x", "resourceUuid": CERTIFICATE})
MAKE_L3 = ("CreateL3Network", {"name": "n", "l2NetworkUuid": named("l2-public"), "resourceUuid": OTHER})
SHARE_L2 = ("ShareResource", {"resourceUuids": [named("l2-public")], "toPublic": True})
WAIT = configured("vm", "deletionPolicy", "Direct")


async def sessions_end_with_the_account(mock):
    await take(mock, [*PEOPLE, by("ann"), user(), by_user()])
    of_user = mock.session
    await take(mock, [by("ann")])
    of_account = mock.session
    await take(mock, DELETE_ANN)
    for mock.session in (of_user, of_account):
        assert (await error_of(mock, "QueryUser", {}))["code"] == "ID.1001"


async def nics_of_others_leave(mock):
    """A network of the account takes the nics of anybody's machines with it."""
    await take(mock, [*OPEN, SHARE_L2, by("ann"), MAKE_L3, ("AddIpRange", {"l3NetworkUuid": OTHER, "name": "r", "startIp": "10.9.0.10", "endIp": "10.9.0.19", "netmask": "255.255.255.0", "gateway": "10.9.0.1"})])
    await take(mock, [by(), ("AttachL3NetworkToVm", {"vmInstanceUuid": CI, "l3NetworkUuid": OTHER})])
    assert len(mock.cloud.find("VmNic", "vmInstanceUuid", CI)) == 2
    await take(mock, DELETE_ANN)
    assert len(mock.cloud.find("VmNic", "vmInstanceUuid", CI)) == 1


async def eips_of_others_go(mock):
    await take(mock, [*OPEN, by("ann"), MAKE_VIP, by(), ("CreateEip", {"name": "e", "vipUuid": VIP, "resourceUuid": EIP}), *DELETE_ANN])
    assert not mock.cloud.look("Eip", EIP)


async def eip_on_another_vip(mock):
    """A foreign VIP that is shared may be used: the EIP stays, and is admin's."""
    await take(mock, [*OPEN, ("CreateVip", {"name": "v", "l3NetworkUuid": PRIVATE, "resourceUuid": ADMINS_VIP}), share(ADMINS_VIP, to=ANN), by("ann"), ("CreateEip", {"name": "e", "vipUuid": ADMINS_VIP, "resourceUuid": EIP})])
    assert mock.cloud.look("Eip", EIP)["owner"] == ANN
    await take(mock, DELETE_ANN)
    assert "owner" not in mock.cloud.look("Eip", EIP)


async def long_job_of_an_account(mock):
    await take(mock, [*OPEN, by("ann")])
    mock.cloud.add("LongJob", uuid=OTHER, name="l", apiId="1" * 32, jobName="x", jobData="{}", managementNodeUuid=named("management-node"), state="Succeeded", owner=ANN)
    await take(mock, DELETE_ANN)
    assert "owner" not in mock.cloud.look("LongJob", OTHER)


async def nobody_is_left_behind(mock):
    await take(mock, [*HERS, ("AttachPolicyToUser", OF_USER), ("AddUserToGroup", IN_GROUP), ("AttachPolicyToUserGroup", OF_GROUP), *DELETE_ANN])
    for type in ("User", "UserGroup", "Policy", "Quota"):
        assert not mock.cloud.find(type, "identityUuid" if type == "Quota" else "accountUuid", ANN), type
    assert not any(mock.cloud.store.count(type) for type in ("UserPolicyRef", "UserGroupUserRef", "UserGroupPolicyRef"))


async def shares_go(mock):
    await take(mock, [*PEOPLE, share(CENTOS, to=ANN), ("DeleteAccount", {"uuid": ANN})])
    assert not mock.cloud.store.count("SharedResource")


async def expansions(mock):
    await take(mock, [*HERS, ("AttachPolicyToUser", OF_USER), ("AddUserToGroup", IN_GROUP), ("AttachPolicyToUserGroup", OF_GROUP)])
    for path in (
        "accounts?q=user.name=ulf", "accounts?q=group.name=g", "accounts?q=policy.name=p", "accounts?q=quota.name=vm.num&q=name=ann",
        "accounts/users?q=account.name=ann", "accounts/users?q=group.name=g", "accounts/users?q=policy.name=p",
        "accounts/groups?q=account.name=ann", "accounts/groups?q=user.name=ulf", "accounts/groups?q=policy.name=p",
        "accounts/policies?q=account.name=ann&q=name=p", "accounts/policies?q=group.name=g", "accounts/policies?q=user.name=ulf&q=name=p",
        "accounts/quotas?q=account.name=ann&q=name=vm.num",
    ):  # fmt: skip
        assert len((await mock.request("GET", f"/{path}"))[1]["inventories"]) == 1, path


async def no_passwords(mock):
    await take(mock, HERS)
    for collection in ("accounts", "accounts/users"):
        assert all("password" not in item for item in await mock.query(collection))


async def fields_of_a_policy(mock):
    await take(mock, [account("ann"), by("ann"), policy({"effect": "Deny", "actions": ["a"]}, description="lost")])
    found = await one(mock, "accounts/policies", f"uuid={POLICY}")
    assert found == {"uuid": POLICY, "name": "p", "accountUuid": ANN, "statements": [{"effect": "Deny", "actions": ["a"]}]}


async def group_without_date(mock):
    await take(mock, HERS)
    found = await one(mock, "accounts/groups", f"uuid={GROUP}")
    assert "createDate" in found and "lastOpDate" not in found


async def policies_of_a_user(mock):
    await take(mock, [account("ann"), by("ann"), user()])
    names = {mock.cloud.look("Policy", ref["policyUuid"])["name"] for ref in mock.cloud.find("UserPolicyRef", "userUuid", ULF)}
    assert names == {"DEFAULT-READ", "USER-RESET-PASSWORD"}


async def session_of_a_deleted_user(mock):
    await take(mock, [account("ann"), by("ann"), user(), by_user()])
    of_user = mock.session
    await take(mock, [by("ann"), ("DeleteUser", {"uuid": ULF})])
    mock.session = of_user
    assert (await error_of(mock, "QueryUser", {}))["code"] == "ID.1001" and not mock.cloud.find("UserPolicyRef", "userUuid", ULF)


async def statements_of_a_role(mock):
    made = (await take(mock, [MAKE_ROLE]))["inventory"]
    (entry,) = made["statements"]
    assert entry["statement"] == statement("Allow", STOP_IT) and {*entry} == {"uuid", "statement", "createDate", "lastOpDate"}
    await take(mock, [("AddPolicyStatementsToRole", {"uuid": ROLE, "statements": [statement("Deny", "**")]})])
    assert [each["statement"]["effect"] for each in (await one(mock, "identities/roles", f"uuid={ROLE}"))["statements"]] == ["Allow", "Deny"]
    await take(mock, [("RemovePolicyStatementsFromRole", {"uuid": ROLE, "policyStatementUuids": [entry["uuid"]]})])
    assert [each["statement"]["effect"] for each in (await one(mock, "identities/roles", f"uuid={ROLE}"))["statements"]] == ["Deny"]


async def public_row_alone(mock):
    await take(mock, [*PEOPLE, ("ShareResource", {"resourceUuids": [CENTOS], "toPublic": True, "accountUuids": [ANN]})])
    (row,) = mock.cloud.find("SharedResource", "resourceUuid", CENTOS)
    assert row["toPublic"] and "receiverAccountUuid" not in row and row["ownerAccountUuid"] == ADMIN and row["resourceType"] == "ImageVO"


async def rows_of_a_share(mock):
    await take(mock, [*PEOPLE, ("ShareResource", {"resourceUuids": [CENTOS, PRIVATE], "accountUuids": [ANN, BOB]})])
    rows = {(row["resourceUuid"], row["receiverAccountUuid"], row["toPublic"]) for row in mock.cloud.store.rows("SharedResource")}
    assert rows == {(uuid, account, False) for uuid in (CENTOS, PRIVATE) for account in (ANN, BOB)}


def shares(*steps, are=()):
    """A story: after some steps, CENTOS is shared with these accounts; "" is all."""

    async def story(mock):
        await take(mock, [*PEOPLE, share(CENTOS), share(CENTOS, to=ANN), share(CENTOS, to=BOB), *steps])
        assert sorted(row.get("receiverAccountUuid", "") for row in mock.cloud.find("SharedResource", "resourceUuid", CENTOS)) == sorted(are)

    return Shown(story)


def revoke(**params):
    return ("RevokeResourceSharing", {"resourceUuids": [CENTOS]} | params)


async def shares_of_another_owner(mock):
    mock.cloud.add("SharedResource", ownerAccountUuid=BOB, resourceUuid=CENTOS, resourceType="ImageVO", toPublic=True)
    await take(mock, [*PEOPLE, revoke(all=True)])
    assert mock.cloud.find("SharedResource", "resourceUuid", CENTOS)


GIVEN = (*ANNS_ALL, by(), ("ChangeResourceOwner", TO_BOB))


async def parts_of_a_given_machine(mock):
    await take(mock, [*OPEN, share(PUBLIC), by("ann"), vm(dataDiskOfferingUuids=[DISK]), ("CreateVip", MAKE_VIP[1] | {"l3NetworkUuid": PUBLIC}), MAKE_SG])
    nic, root = nic_of(mock, ANNS), mock.cloud.look("VmInstance", ANNS)["rootVolumeUuid"]
    await take(mock, [("CreateEip", {"name": "e", "vipUuid": VIP, "vmNicUuid": nic["uuid"], "resourceUuid": EIP}), snapshot(root), by(), ("ChangeResourceOwner", TO_BOB)])
    follow = [("VmInstance", ANNS), ("VmNic", nic["uuid"]), ("VolumeSnapshot", OTHER), ("Eip", EIP)]
    follow += [("Volume", volume["uuid"]) for volume in mock.cloud.find("Volume", "vmInstanceUuid", ANNS)]
    assert len(follow) == 6 and {mock.cloud.look(*place)["owner"] for place in follow} == {BOB}
    assert {mock.cloud.look(*place)["owner"] for place in (("Vip", VIP), ("SecurityGroup", SG))} == {ANN}


async def services_stay(mock):
    await take(mock, [*ANNS_ALL, MAKE_VIP, *MAKE_LISTENER])
    nic = nic_of(mock, ANNS)["uuid"]
    await take(mock, [("AddVmNicToLoadBalancer", {"listenerUuid": MAKE_LISTENER[1][1]["resourceUuid"], "vmNicUuids": [nic]})])
    mock.cloud.add("PortForwardingRule", uuid=RULE, name="p", vipUuid=VIP, vipIp="1.1.1.1", vmNicUuid=nic, protocolType="TCP", owner=ANN, **dict.fromkeys(("vipPortStart", "vipPortEnd", "privatePortStart", "privatePortEnd"), 22))
    await take(mock, [by(), ("ChangeResourceOwner", TO_BOB)])
    for place in (("PortForwardingRule", RULE), ("LoadBalancer", MAKE_LISTENER[0][1]["resourceUuid"]), ("LoadBalancerListener", MAKE_LISTENER[1][1]["resourceUuid"])):
        assert mock.cloud.look(*place)["owner"] == ANN, place


async def root_volume(mock):
    await take(mock, [*ANNS_ALL, by()])
    return {"accountUuid": BOB, "resourceUuid": mock.cloud.look("VmInstance", ANNS)["rootVolumeUuid"]}


async def owners_by_uuid(mock):
    await take(mock, [*ANNS_ALL, by("bob")])
    _, answer = await mock.request("GET", f"/resources/accounts?resourceUuids={ANNS}&resourceUuids={WEB}&resourceUuids={NOBODY}")
    assert {uuid: owner["name"] for uuid, owner in answer["inventories"].items()} == {ANNS: "ann", WEB: "admin", NOBODY: "admin"}
    assert answer["inventories"][ANNS]["uuid"] == ANN and "password" not in answer["inventories"][ANNS]


async def names_by_uuid(mock):
    await take(mock, [*PEOPLE, by("ann")])
    _, answer = await mock.request("GET", f"/resources/names?uuids={WEB}&uuids={named('zone-1')}&uuids={NOBODY}")
    assert sorted((found["uuid"], found["resourceName"], found["resourceType"]) for found in answer["inventories"]) == sorted(
        [(WEB, "web-1", "VmInstanceVO"), (named("zone-1"), "zone-1", "ZoneVO")])  # fmt: skip


async def name_of_a_deleted_one(mock):
    await take(mock, [("DeleteDiskOffering", {"uuid": DISK})])
    assert (await mock.request("GET", f"/resources/names?uuids={DISK}"))[1]["inventories"] == []


def permission(decision, api, *steps, of=None):
    """A story: what CheckApiPermission says of an API."""

    async def story(mock):
        await take(mock, steps)
        body = await mock.call("CheckApiPermission", apiNames=[api], **({"userUuid": of} if of else {}))
        assert body["inventory"] == {api: decision}

    return Shown(story)


def of_ulf(decision, api, *statements, through=("AttachPolicyToUser", OF_USER)):
    """A story: what CheckApiPermission says of an API to ulf, a user of ann with a policy."""
    rest = (policy(*statements), *(through if isinstance(through[0], tuple) else (through,))) if statements else ()
    return permission(decision, api, *PEOPLE, by("ann"), user(), *rest, of=ULF)


THROUGH_GROUP = (GROUP_OF, ("AddUserToGroup", IN_GROUP), ("AttachPolicyToUserGroup", OF_GROUP))


def quota(**params):
    return {"identityUuid": ANN, "name": "vm.num", "value": 9} | params


async def caller_of_a_start(mock):
    """Admin starts a machine of ann though her quota is used up."""
    await take(mock, [*ANNS_ALL, ("StopVmInstance", {"uuid": ANNS}), by(), ("UpdateQuota", quota(value=0)), ("StartVmInstance", {"uuid": ANNS})])
    assert mock.cloud.look("VmInstance", ANNS)["state"] == "Running"


def exceeded(quota_name, text, params, *steps):
    """A call that exceeds a quota of ann, who may have none."""
    return V("ID.1003", params, text % f"[name: {quota_name}, value: 0]", *OPEN, ("UpdateQuota", quota(name=quota_name, value=0)), by("ann"), *steps)


BRIEF = f"quota exceeding. The account[uuid: {ANN}] exceeds a quota%s. Please contact the administrator."
LONG = f"quota exceeding. Current account is [uuid: {ANN}]. The resource target owner account[uuid: {ANN}] exceeds a quota%s, Current used:*, Request:*. Please contact the administrator."

FACTS = (
    *facts("LogInByAccount",
        ("makes a session with every login", Shown(new_sessions)),
        ("has the account as its user", answers(account("ann"), ("LogInByAccount", {"accountName": "ann"} | PASSWORD), accountUuid=ANN, userUuid=ANN)),
        ("refuses a wrong password", V("ID.1000", {"accountName": "admin", "password": "x"}, "wrong account name or password")),
        ("refuses more sessions than are allowed", Refused(as_many_as_allowed, "SYS.1000", "Login sessions hit limit of max allowed concurrent login sessions, max allowed: 1")),
        ("ends after the time-out of sessions", Shown(expiry_of_a_session)),
    ),
    *facts("LogInByUser",
        ("does not look for the name where a uuid is given", Shown(other_login_names)),
        ("does not look for the uuid", V("ID.1000", {"accountUuid": NOBODY, "userName": "ulf"} | PASSWORD, "wrong account or username or password")),
        ("refuses an unknown name of an account", V("SYS.1007", {"accountName": "x", "userName": "ulf"} | PASSWORD, "account[x] not found")),
        ("refuses neither of both", V("SYS.1007", {"userName": "ulf"} | PASSWORD, "accountName and accountUuid cannot both be null, you must specify at least one")),
        ("refuses an unknown user", V("ID.1000", {"accountName": "admin", "userName": "x"} | PASSWORD, "wrong account or username or password")),
        ("has the user in its session", answers(account("ann"), by("ann"), user(), ("LogInByUser", {"accountName": "ann", "userName": "ulf"} | PASSWORD), accountUuid=ANN, userUuid=ULF)),
    ),
    *facts("LogOut",
        ("ends the session", valid(lambda mock: mock.call("LogOut", sessionUuid=mock.session), is_=False)),
        ("of none succeeds", makes_nothing(("LogOut", {"sessionUuid": OUT}))),
    ),
    *facts("ValidateSession",
        ("affirms a session", valid()),
        ("denies an unknown one", valid(of=OUT, is_=False)),
        ("ends one that is over", Shown(expired_session_ends)),
    ),
    *facts("RenewSession",
        ("refuses an unknown session", V("SYS.1003", {"sessionUuid": OUT})),
        ("refuses less than a minute", V("SYS.1007", {"sessionUuid": OUT, "duration": 59})),
        ("refuses more than a year", V("SYS.1007", {"sessionUuid": OUT, "duration": 31536001})),
        ("refuses one that is over", Refused(ended_session, "ID.1001", SESSION)),
        ("answers the session, and counts from now", renewed(60, duration=60)),
        ("takes the time-out of sessions by default", renewed(300, configured("identity", "session.timeout", "300"))),
        ("renews that of another", Shown(session_of_another)),
    ),
    *facts("CreateAccount",
        ("refuses a name that is taken", V("SYS.1007", account("admin")[1], "unable to create an account. An account already called admin")),
        ("is a normal one", leaves(account("ann"), of=("Account", ANN), type="Normal")),
        ("has two policies", Shown(policies_of_an_account)),
        ("has the quotas that are configured now", Shown(quotas_of_an_account)),
        ("has no user", count("User", "accountUuid", ANN, account("ann"), is_=0)),
        ("has no tags of the call", Shown(untagged_account)),
        ("answers the account", answers(account("ann", description="d"), uuid=ANN, name="ann", description="d", type="Normal", password=ABSENT)),
    ),
    *facts("UpdateAccount",
        ("refuses to rename admin", V("SYS.1006", {"uuid": ADMIN, "name": "x"}, "the name of admin account cannot be updated")),
        ("refuses that for another account of admins too", V("SYS.1006", {"uuid": ADMIN, "name": "x"}, "the name of admin account cannot be updated", account("ann", type="SystemAdmin"), by("ann"))),
        ("refuses a password from another account of admins", V("SYS.1006", {"uuid": ANN, "password": "x"}, "only admin account can update it's password", account("ann", type="SystemAdmin"), by("ann"))),
        ("takes all else from it", Shown(another_admin_renames)),
        ("takes the password of admin", leaves(("UpdateAccount", {"uuid": ADMIN, "password": "x"}), of=("Account", ADMIN), password="x")),
        ("refuses another account", V("SYS.1006", {"uuid": BOB, "name": "x"}, f"account[uuid: {BOB}, name: bob] is a normal account, it cannot reset the password of another account[uuid: {BOB}]", *PEOPLE, by("ann"))),
        ("changes the own one", leaves(*PEOPLE, by("ann"), ("UpdateAccount", {"uuid": ANN, "name": "x", "description": "d"}), of=("Account", ANN), name="x", description="d")),
        ("takes a name that is taken", leaves(*PEOPLE, ("UpdateAccount", {"uuid": ANN, "name": "bob"}), of=("Account", ANN), name="bob")),
        ("leaves sessions alone", Shown(sessions_outlive_a_password)),
        ("answers the account", answers(account("ann"), ("UpdateAccount", {"uuid": ANN}), uuid=ANN, name="ann")),
    ),
    *facts("DeleteAccount",
        ("succeeds for none", makes_nothing(("DeleteAccount", {"uuid": NOBODY}))),
        ("refuses the own one", V("SYS.1007", {"uuid": ADMIN}, "account cannot delete itself")),
        ("refuses the own one to all admins", V("SYS.1007", {"uuid": ANN}, "account cannot delete itself", account("ann", type="SystemAdmin"), by("ann"))),
        ("refuses the first one", V("SYS.1007", {"uuid": ADMIN}, "cannot delete builtin admin account.", account("ann"), by("ann"))),
        ("refuses a normal account", V("SYS.1007", {"uuid": BOB}, "Only admin can delete account.", *PEOPLE, by("ann"))),
        ("refuses it the own one too", V("SYS.1007", {"uuid": ANN}, "Only admin can delete account.", *PEOPLE, by("ann"))),
        ("destroys machines", deleted(vm(), of=("VmInstance", ANNS), state="Destroyed", owner=ABSENT)),
        ("removes them if that is their policy", gone(WAIT, *ANNS_ALL, *DELETE_ANN, of=("VmInstance", ANNS))),
        ("removes machines that never ran", deleted_too(vm(strategy="JustCreate"), of=("VmInstance", ANNS))),
        ("takes machines off their hosts", deleted(vm(), of=("VmInstance", ANNS), hostUuid=ABSENT)),
        ("deletes data volumes", deleted(MAKE_DATA, of=("Volume", DATA), status="Deleted", owner=ABSENT)),
        ("deletes those of machines", deleted(vm(dataDiskOfferingUuids=[DISK]), of=("Volume", "name", "DATA-for-ann-web"), status="Deleted", owner=ABSENT)),
        ("deletes images", deleted(ADD_IMAGE, of=("Image", IMAGE), status="Deleted", owner=ABSENT)),
        ("removes networks", gone(*OPEN, SHARE_L2, by("ann"), MAKE_L3, *DELETE_ANN, of=("L3Network", OTHER))),
        ("detaches the nics of others from them", Shown(nics_of_others_leave)),
        ("removes disk offerings", deleted_too(changed("DiskOffering", named("disk-100g"), owner=ANN), of=("DiskOffering", named("disk-100g")))),
        ("removes instance offerings", deleted_too(changed("InstanceOffering", named("offering-large"), owner=ANN), of=("InstanceOffering", named("offering-large")))),
        ("removes VIPs", deleted_too(MAKE_VIP, of=("Vip", VIP))),
        ("removes the EIPs of others on them", Shown(eips_of_others_go)),
        ("removes load balancers", deleted_too(MAKE_VIP, *MAKE_LISTENER, of=("LoadBalancer", MAKE_LISTENER[0][1]["resourceUuid"]))),
        ("removes users, groups, policies and quotas", Shown(nobody_is_left_behind)),
        ("removes shares", Shown(shares_go)),
        ("removes roles", deleted_too(MAKE_ROLE, of=("Role", ROLE))),
        ("removes their statements", deleted_too(MAKE_ROLE, of=("RolePolicyStatement", "roleUuid", ROLE))),
        ("makes security groups admin's", deleted(MAKE_SG, of=("SecurityGroup", SG), owner=ABSENT)),
        ("makes certificates admin's", deleted(MAKE_CERTIFICATE, of=("Certificate", CERTIFICATE), owner=ABSENT)),
        ("makes snapshots admin's", deleted(MAKE_DATA, changed("Volume", DATA, status="Ready", installPath="/d"), snapshot(DATA), of=("VolumeSnapshot", OTHER), owner=ABSENT)),
        ("makes long jobs admin's", Shown(long_job_of_an_account)),
        ("makes EIPs on the VIPs of others admin's", Shown(eip_on_another_vip)),
        ("ends its sessions", Shown(sessions_end_with_the_account)),
        ("ignores a mode", leaves(*ANNS_ALL, by(), ("DeleteAccount", {"uuid": ANN, "deleteMode": "Enforcing"}), of=("VmInstance", ANNS), state="Destroyed")),
        ("answers nothing", makes_nothing(account("ann"), ("DeleteAccount", {"uuid": ANN}))),
    ),
    *facts("QueryAccount",
        ("leads to users, groups, policies and quotas, and back", Shown(expansions)),
        ("shows no password", Shown(no_passwords)),
    ),
    *facts("QueryUserGroup",
        ("shows no lastOpDate", Shown(group_without_date)),
    ),
    *facts("QueryPolicy",
        ("shows name, uuid, account and statements only", Shown(fields_of_a_policy)),
    ),
    *facts("CreateUser",
        ("refuses a name that is taken in the account", V("SYS.1007", user()[1] | {"resourceUuid": UMA}, f"unable to create a user. A user called ulf is already under the account[uuid:{ANN}]", account("ann"), by("ann"), user())),
        ("takes one of another account", leaves(*PEOPLE, by("bob"), user(), by("ann"), user(resourceUuid=UMA), of=("User", UMA), name="ulf")),
        ("belongs to the account of the session", leaves(*PEOPLE, by("ann"), user(), of=("User", ULF), accountUuid=ANN)),
        ("gets the two policies of the account", Shown(policies_of_a_user)),
        ("gets none where there are none", count("UserPolicyRef", "userUuid", ULF, user(), is_=0)),
        ("answers the user", answers(account("ann"), by("ann"), user(description="d"), uuid=ULF, accountUuid=ANN, name="ulf", description="d", password=ABSENT)),
    ),
    *facts("UpdateUser",
        ("takes the user of the session", leaves(account("ann"), by("ann"), user(), by_user(), ("UpdateUser", {"password": "x"}), of=("User", ULF), password="x")),
        ("refuses none to the session of an account", V("SYS.1007", {"name": "x"}, "the current session is an account session. You need to specify the field 'uuid' of the user you want to update")),
        ("refuses another to the session of a user", V("SYS.1007", {"uuid": UMA, "name": "x"}, f"your are login as a user, you cannot another user[uuid:{UMA}]", account("ann"), by("ann"), user(), user("uma"), by_user())),
        ("lets a user of admin", leaves(user("una"), user("uma"), by_user("una", ADMIN), ("UpdateUser", {"uuid": UMA, "name": "x"}), of=("User", UMA), name="x")),
        ("refuses the user of another account", V("SYS.1006", {"uuid": UMA, "name": "x"}, unshared(UMA, "UserVO"), *BOBS_TOO)),
        ("refuses one that is shared too", V("SYS.1007", {"uuid": UMA, "name": "x"}, f"the user[uuid:{UMA}] does not belong to the account[uuid:{ANN}]", *PEOPLE, by("bob"), user("uma"), by(), share(UMA), by("ann"))),
        ("lets admin", leaves(*HERS, by(), ("UpdateUser", {"uuid": ULF, "name": "x", "description": "d"}), of=("User", ULF), name="x", description="d")),
        ("fails with a name that is taken", V("SYS.1000", {"uuid": ULF, "name": "uma"}, "*Duplicate entry*", *HERS, user("uma"))),
    ),
    *facts("DeleteUser",
        ("succeeds for none", makes_nothing(("DeleteUser", {"uuid": NOBODY}))),
        ("ends the sessions of the user, and takes it from policies", Shown(session_of_a_deleted_user)),
        ("takes it from groups", gone(*HERS, ("AddUserToGroup", IN_GROUP), ("DeleteUser", {"uuid": ULF}), of=("UserGroupUserRef", "userUuid", ULF))),
        ("answers nothing", makes_nothing(*HERS, ("DeleteUser", {"uuid": ULF}))),
    ),
    *facts("CreateUserGroup",
        ("refuses a name that is taken", V("SYS.1007", {"name": "g"}, f"unable to create a group. A group called g is already under the account[uuid:{ANN}]", *HERS)),
        ("answers the group", answers(account("ann"), by("ann"), GROUP_OF, uuid=GROUP, accountUuid=ANN, name="g", lastOpDate=ABSENT)),
    ),
    *facts("UpdateUserGroup",
        ("refuses one of another account", V("SYS.1006", {"uuid": GROUP, "name": "x"}, unshared(GROUP, "UserGroupVO", BOB), *HERS, by("bob"))),
        ("refuses one that is shared too", V("SYS.1007", {"uuid": GROUP, "name": "x"}, f"the user group[uuid:{GROUP}] does not belong to the account[uuid:{BOB}]", *HERS, by(), share(GROUP), by("bob"))),
        ("lets admin", answers(*HERS, by(), ("UpdateUserGroup", {"uuid": GROUP, "name": "x"}), uuid=GROUP, name="x")),
    ),
    *facts("DeleteUserGroup",
        ("succeeds for none", makes_nothing(("DeleteUserGroup", {"uuid": NOBODY}))),
        ("takes its users and policies from it", gone(*HERS, ("AddUserToGroup", IN_GROUP), ("AttachPolicyToUserGroup", OF_GROUP), ("DeleteUserGroup", {"uuid": GROUP}), of=("UserGroupUserRef", "groupUuid", GROUP))),
        ("answers nothing", makes_nothing(*HERS, ("DeleteUserGroup", {"uuid": GROUP}))),
    ),
    *facts("CreatePolicy",
        ("refuses a statement without effect", V("SYS.1007", policy({"actions": ["a"]})[1], 'a statement must have effect field. Invalid statement[{*"actions"*}]')),
        ("refuses an unknown effect", V("SYS.1007", policy({"effect": "Maybe", "actions": ["a"]})[1], "a statement must have effect field. Invalid statement[*]")),
        ("refuses a statement without actions", V("SYS.1007", policy({"effect": "Deny"})[1], "a statement must have action field. Invalid statement[*]")),
        ("refuses an empty list of actions", V("SYS.1007", policy({"effect": "Deny", "actions": []})[1], "a statement must have a non-empty action field. Invalid statement[*]")),
        ("refuses what is for admin only", V("ID.1002", policy(statement("Allow", STOP_IT, f"{ZONE_ADMIN}:name"))[1], f"normal accounts can't create admin-only action polices[{ZONE_ADMIN}:name]", account("ann"), by("ann"))),
        ("takes that of admin", leaves(policy(statement("Allow", ZONE_ADMIN)), of=("Policy", POLICY), accountUuid=ADMIN)),
        ("takes all with **", leaves(account("ann"), by("ann"), policy(statement("Allow", "**")), of=("Policy", POLICY), accountUuid=ANN)),
        ("loses the description", answers(policy(statement("Allow", "a"), description="d"), description=ABSENT, name="p")),
        ("answers the policy", answers(account("ann"), by("ann"), policy(statement("Allow", "a")), uuid=POLICY, accountUuid=ANN, statements=[statement("Allow", "a")])),
    ),
    *facts("DeletePolicy",
        ("succeeds for none", makes_nothing(("DeletePolicy", {"uuid": NOBODY}))),
        ("takes it from who has it", gone(*HERS, ("AttachPolicyToUser", OF_USER), ("DeletePolicy", {"uuid": POLICY}), of=("UserPolicyRef", "policyUuid", POLICY))),
        ("answers nothing", makes_nothing(*HERS, ("DeletePolicy", {"uuid": POLICY}))),
    ),
    *[fact for api in ("AttachPolicyToUser", "DetachPolicyFromUser") for fact in facts(api,
        ("refuses the policy of another account to admin", V("SYS.1007", OF_USER, FOREIGN % ("policy", "p", POLICY, ADMIN), *HERS, by())),
        ("then the user of another", V("SYS.1007", {"userUuid": ULF, "policyUuid": OTHER}, FOREIGN % ("user", "ulf", ULF, ADMIN), *HERS, by(), BOBS_POLICY)),
        ("answers nothing", makes_nothing(*HERS, (api, OF_USER))),
    )],
    *[fact for api in ("AttachPolicyToUserGroup", "DetachPolicyFromUserGroup") for fact in facts(api,
        ("refuses the policy of another account to admin", V("SYS.1007", OF_GROUP, FOREIGN % ("policy", "p", POLICY, ADMIN), *HERS, by())),
        ("then the group of another", V("SYS.1007", {"groupUuid": GROUP, "policyUuid": OTHER}, FOREIGN % ("group", "g", GROUP, ADMIN), *HERS, by(), BOBS_POLICY)),
        ("answers nothing", makes_nothing(*HERS, (api, OF_GROUP))),
    )],
    *facts("AttachPolicyToUser",
        ("attaches once", count("UserPolicyRef", "policyUuid", POLICY, *HERS, *[("AttachPolicyToUser", OF_USER)] * 2)),
    ),
    *facts("AttachPolicyToUserGroup",
        ("attaches once", count("UserGroupPolicyRef", "policyUuid", POLICY, *HERS, *[("AttachPolicyToUserGroup", OF_GROUP)] * 2)),
    ),
    *facts("DetachPolicyFromUser",
        ("detaches", count("UserPolicyRef", "policyUuid", POLICY, *HERS, ("AttachPolicyToUser", OF_USER), ("DetachPolicyFromUser", OF_USER), is_=0)),
    ),
    *facts("DetachPolicyFromUserGroup",
        ("detaches", count("UserGroupPolicyRef", "policyUuid", POLICY, *HERS, ("AttachPolicyToUserGroup", OF_GROUP), ("DetachPolicyFromUserGroup", OF_GROUP), is_=0)),
    ),
    *facts("AttachPoliciesToUser",
        ("asks admin for no account", count("UserPolicyRef", "policyUuid", POLICY, *HERS, by(), ("AttachPoliciesToUser", {"userUuid": ULF, "policyUuids": [POLICY]}))),
        ("asks an account for its own", V("SYS.1006", {"userUuid": UMA, "policyUuids": [POLICY]}, unshared(UMA, "UserVO"), *BOBS_TOO)),
        ("attaches once", count("UserPolicyRef", "policyUuid", POLICY, *HERS, *[("AttachPoliciesToUser", {"userUuid": ULF, "policyUuids": [POLICY]})] * 2)),
        ("answers nothing", makes_nothing(*HERS, ("AttachPoliciesToUser", {"userUuid": ULF, "policyUuids": [POLICY]}))),
    ),
    *facts("DetachPoliciesFromUser",
        ("detaches what admin wants", count("UserPolicyRef", "policyUuid", POLICY, *HERS, ("AttachPolicyToUser", OF_USER), by(), ("DetachPoliciesFromUser", {"userUuid": ULF, "policyUuids": [POLICY]}), is_=0)),
        ("answers nothing", makes_nothing(*HERS, ("DetachPoliciesFromUser", {"userUuid": ULF, "policyUuids": [POLICY]}))),
    ),
    *facts("AddUserToGroup",
        ("refuses the user of another account", V("SYS.1007", IN_GROUP, FOREIGN % ("user", "ulf", ULF, ADMIN), *HERS, by())),
        ("then the group of another", V("SYS.1007", {"userUuid": UMA, "groupUuid": GROUP}, FOREIGN % ("group", "g", GROUP, ADMIN), *HERS, by(), user("uma"))),
        ("adds twice", count("UserGroupUserRef", "userUuid", ULF, *HERS, *[("AddUserToGroup", IN_GROUP)] * 2, is_=2)),
        ("answers nothing", makes_nothing(*HERS, ("AddUserToGroup", IN_GROUP))),
    ),
    *facts("RemoveUserFromGroup",
        ("removes once", count("UserGroupUserRef", "userUuid", ULF, *HERS, *[("AddUserToGroup", IN_GROUP)] * 2, ("RemoveUserFromGroup", IN_GROUP))),
        ("asks admin for no account", count("UserGroupUserRef", "userUuid", ULF, *HERS, ("AddUserToGroup", IN_GROUP), by(), ("RemoveUserFromGroup", IN_GROUP), is_=0)),
        ("succeeds for no member, and answers nothing", makes_nothing(*HERS, ("RemoveUserFromGroup", IN_GROUP))),
    ),
    *facts("CreateRole",
        ("is customized and enabled", leaves(MAKE_ROLE, of=("Role", ROLE), type="Customized", state="Enabled")),
        ("has the policies that are given", count("RolePolicyRef", "roleUuid", ROLE, BOBS_POLICY, ("CreateRole", {"name": "r", "resourceUuid": ROLE, "policyUuids": [OTHER]}))),
        ("answers no statement as an empty list", answers(("CreateRole", {"name": "r"}), statements=[])),
        ("belongs to the caller", owner(account("ann"), by("ann"), MAKE_ROLE, of=("Role", ROLE), is_=ANN)),
        ("has its statements with their uuids, which can be added to and removed", Shown(statements_of_a_role)),
    ),
    *facts("QueryRole",
        ("finds predefined roles of admin, which all may see", Uncovered("the server makes their statements from its own code")),
    ),
    *facts("DeleteRole",
        ("succeeds for none", makes_nothing(("DeleteRole", {"uuid": NOBODY}))),
        *((f"refuses one of the type {type}", V("SYS.1007", {"uuid": ROLE}, "cannot delete a system or predefined role", MAKE_ROLE, changed("Role", ROLE, type=type))) for type in ("Predefined", "System")),
        ("answers nothing", makes_nothing(MAKE_ROLE, ("DeleteRole", {"uuid": ROLE}))),
    ),
    *facts("ChangeRoleState",
        ("disables", answers(MAKE_ROLE, ("ChangeRoleState", {"uuid": ROLE, "stateEvent": "disable"}), uuid=ROLE, state="Disabled")),
    ),
    *facts("AddPolicyStatementsToRole",
        ("answers nothing", makes_nothing(MAKE_ROLE, ("AddPolicyStatementsToRole", {"uuid": ROLE, "statements": [statement("Allow", "a")]}))),
    ),
    *facts("RemovePolicyStatementsFromRole",
        ("answers nothing", makes_nothing(MAKE_ROLE, ("RemovePolicyStatementsFromRole", {"uuid": ROLE, "policyStatementUuids": [OTHER]}))),
    ),
    *facts("AttachPolicyToRole",
        ("fails the second time", V("SYS.1000", {"roleUuid": ROLE, "policyUuid": OTHER}, "*Duplicate entry*", MAKE_ROLE, BOBS_POLICY, ("AttachPolicyToRole", {"roleUuid": ROLE, "policyUuid": OTHER}))),
        ("answers nothing", makes_nothing(MAKE_ROLE, BOBS_POLICY, ("AttachPolicyToRole", {"roleUuid": ROLE, "policyUuid": OTHER}))),
    ),
    *facts("DetachPolicyFromRole",
        ("detaches", count("RolePolicyRef", "roleUuid", ROLE, MAKE_ROLE, BOBS_POLICY, ("AttachPolicyToRole", {"roleUuid": ROLE, "policyUuid": OTHER}), ("DetachPolicyFromRole", {"roleUuid": ROLE, "policyUuid": OTHER}), is_=0)),
        ("succeeds for what is not attached", makes_nothing(MAKE_ROLE, BOBS_POLICY, ("DetachPolicyFromRole", {"roleUuid": ROLE, "policyUuid": OTHER}))),
    ),
    *facts("AttachRoleToAccount",
        ("fails the second time", V("SYS.1000", {"roleUuid": ROLE, "accountUuid": ANN}, "*Duplicate entry*", account("ann"), MAKE_ROLE, ("AttachRoleToAccount", {"roleUuid": ROLE, "accountUuid": ANN}))),
        ("answers nothing", makes_nothing(account("ann"), MAKE_ROLE, ("AttachRoleToAccount", {"roleUuid": ROLE, "accountUuid": ANN}))),
    ),
    *facts("DetachRoleFromAccount",
        ("detaches", count("RoleAccountRef", "roleUuid", ROLE, account("ann"), MAKE_ROLE, ("AttachRoleToAccount", {"roleUuid": ROLE, "accountUuid": ANN}), ("DetachRoleFromAccount", {"roleUuid": ROLE, "accountUuid": ANN}), is_=0)),
        ("asks for neither of both", makes_nothing(("DetachRoleFromAccount", {"roleUuid": NOBODY, "accountUuid": NOBODY}))),
    ),
    *facts("ShareResource",
        ("refuses nobody", V("SYS.1007", {"resourceUuids": [CENTOS]}, "toPublic is set to false, accountUuids cannot be null or empty")),
        ("refuses an empty list", V("SYS.1007", {"resourceUuids": [CENTOS], "toPublic": False, "accountUuids": []}, "toPublic is set to false, accountUuids cannot be null or empty")),
        ("refuses a resource that nobody owns", V("SYS.1007", {"resourceUuids": [CENTOS, named("zone-1")], "toPublic": True}, f"the account[uuid: {ADMIN}] doesn't have a resource[uuid: {named('zone-1')}]")),
        ("refuses an unknown one", V("SYS.1007", {"resourceUuids": [NOBODY], "toPublic": True}, f"the account[uuid: {ADMIN}] doesn't have a resource[uuid: {NOBODY}]")),
        ("shares that of another account as admin's", leaves(*AS_ANN, MAKE_SG, by(), share(SG), of=("SharedResource", "resourceUuid", SG), ownerAccountUuid=ADMIN)),
        ("makes a row for each resource and account", Shown(rows_of_a_share)),
        ("makes the public row alone", Shown(public_row_alone)),
        ("leaves out what is there", count("SharedResource", "resourceUuid", CENTOS, *PEOPLE, *[share(CENTOS, to=ANN), share(CENTOS)] * 2, is_=2)),
        ("notifies of a share with all", notified(share(CENTOS), of=CENTOS, are=[f"Shared resource[uuid:{CENTOS} type:ImageVO] to public"])),
        ("notifies of a share with an account, once", notified(*PEOPLE, *[share(CENTOS, to=ANN)] * 2, of=CENTOS, are=[f"Shared resource[uuid:{CENTOS} type:ImageVO] to account[uuid:{ANN}]"])),
        ("shows the resource to the account", sees(*PEOPLE, share(CENTOS, to=ANN), by("ann"), collection="images", are=["image-centos7"])),
        ("answers nothing", makes_nothing(share(CENTOS))),
    ),
    *facts("RevokeResourceSharing",
        ("refuses toPublic alone", V("SYS.1007", {"resourceUuids": [CENTOS], "toPublic": True}, "all is set to false, accountUuids cannot be null or empty")),
        ("refuses nothing at all", V("SYS.1007", {"resourceUuids": [CENTOS]}, "all is set to false, accountUuids cannot be null or empty")),
        ("revokes from accounts", shares(revoke(accountUuids=[ANN]), are=["", BOB])),
        ("revokes from accounts only, where all is given", shares(revoke(accountUuids=[ANN], all=True, toPublic=True), are=["", BOB])),
        ("revokes the public share only, where both are given", shares(revoke(all=True, toPublic=True), are=[ANN, BOB])),
        ("revokes all", shares(revoke(all=True))),
        ("leaves the shares of another account", Shown(shares_of_another_owner)),
        ("ignores an unknown resource, and answers nothing", makes_nothing(("RevokeResourceSharing", {"resourceUuids": [NOBODY], "all": True}))),
        ("hides the resource", sees(*PEOPLE, share(CENTOS, to=ANN), revoke(accountUuids=[ANN]), by("ann"), collection="images")),
    ),
    *facts("ChangeResourceOwner",
        ("refuses an unknown account", V("SYS.1003", {"accountUuid": NOBODY, "resourceUuid": WEB})),
        ("fails for a resource that nobody owns", V("SYS.1000", {"accountUuid": BOB, "resourceUuid": named("zone-1")}, "*NullPointerException", *PEOPLE)),
        ("refuses it for admin with another error", V("SYS.1007", {"accountUuid": ADMIN, "resourceUuid": named("zone-1")}, f"cannot find the resource[uuid:{named('zone-1')}]; wrong resourceUuid or the resource is admin resource")),
        ("refuses the present owner", V("ID.1004", {"accountUuid": ANN, "resourceUuid": ANNS}, f"Invalid ChangeResourceOwner operation.Original owner is the same as target owner.Current account is [uuid: {ADMIN}].The resource target owner account[uuid: {ANN}].The resource original owner account[uuid:{ANN}].", *ANNS_ALL, by())),
        ("takes admin though it is the present owner", owner(("ChangeResourceOwner", {"accountUuid": ADMIN, "resourceUuid": WEB}), of=("VmInstance", WEB))),
        ("refuses machines above a quota", V("ID.1003", TO_BOB, f"quota exceeding. Current account is [uuid: {ADMIN}]. The resource target owner account[uuid: {BOB}] exceeds a quota[name: vm.num, value: 0], Current used:0, Request:1. Please contact the administrator.", *ANNS_ALL, by(), ("UpdateQuota", quota(identityUuid=BOB, value=0)))),
        ("refuses an image above a quota", V("ID.1003", {"accountUuid": BOB, "resourceUuid": CENTOS}, "*exceeds a quota[name: image.num, value: 0]*", *PEOPLE, ("UpdateQuota", quota(identityUuid=BOB, name="image.num", value=0)))),
        ("asks for no quota of others", owner(*PEOPLE, MAKE_SG, ("UpdateQuota", quota(identityUuid=BOB, name="securityGroup.num", value=0)), ("ChangeResourceOwner", {"accountUuid": BOB, "resourceUuid": SG}), of=("SecurityGroup", SG), is_=BOB)),
        ("refuses a root volume", Refused(root_volume, "SYS.1006", "the resource[uuid:*] is a ROOT volume, you cannot change its owner, instead,change the owner of the VM the root volume belongs to")),
        ("hands over a machine with volumes, nics, snapshots and EIPs", Shown(parts_of_a_given_machine)),
        ("keeps rules, load balancers and groups where they are", Shown(services_stay)),
        ("hands over a volume with its snapshots", owner(*OPEN, by("ann"), MAKE_DATA, changed("Volume", DATA, status="Ready", installPath="/d"), snapshot(DATA), by(), ("ChangeResourceOwner", {"accountUuid": BOB, "resourceUuid": DATA}), of=("VolumeSnapshot", OTHER), is_=BOB)),
        ("keeps the nics of a machine without a root volume", Uncovered("a machine gets its nics together with its root volume")),
        ("hands over users, groups, policies and quotas", Uncovered("they belong to the account that they name")),
        ("keeps shares", count("SharedResource", "resourceUuid", CENTOS, *PEOPLE, share(CENTOS), ("ChangeResourceOwner", {"accountUuid": BOB, "resourceUuid": CENTOS}))),
        ("hands over to admin", owner(*ANNS_ALL, by(), ("ChangeResourceOwner", {"accountUuid": ADMIN, "resourceUuid": ANNS}))),
        ("notifies of the resource", notified(*GIVEN, of=ANNS, are=[f"changing the ownership to the account[uuid:{BOB}]"])),
        ("notifies of the old owner twice", notified(*GIVEN, of=ANN, are=[f"{verb} a resource[type: VmInstanceVO, uuid: {ANNS}] {end}" for verb, end in (("transferring", f"to the account[uuid:{BOB}]"), ("receiving", f"from the account[uuid:{ANN}]"))])),
        ("answers the reference", answers(*GIVEN, accountUuid=BOB, resourceUuid=ANNS, resourceType="VmInstanceVO", permission=ABSENT, ownerAccountUuid=ABSENT)),
    ),
    *facts("GetResourceAccount",
        ("answers a map of owners, admin for unknown ones, to everybody", Shown(owners_by_uuid)),
    ),
    *facts("GetResourceNames",
        ("answers names and types of those that exist", Shown(names_by_uuid)),
        ("leaves out deleted ones", Shown(name_of_a_deleted_one)),
    ),
    *facts("CheckApiPermission",
        ("refuses the user of another account", V("SYS.1006", {"userUuid": ULF, "apiNames": [STOP_IT]}, f"the user specified by the userUuid[{ULF}] does not belong to the current account, and the current account is not an admin account, so it has no permission to check the user'spermissions", *HERS, by("bob"))),
        ("refuses what is no class", V("SYS.1007", {"apiNames": ["StopVmInstance"]}, "StopVmInstance is not an API")),
        ("fails for a class that is no API", Uncovered("no other classes than APIs are known")),
        ("allows admin all", permission("Allow", ZONE_ADMIN)),
        ("allows an account of admins all", permission("Allow", ZONE_ADMIN, account("ann", type="SystemAdmin"), by("ann"))),
        ("denies what has no action", permission("Deny", ZONE_ADMIN, account("ann"), by("ann"))),
        ("denies what only admin may", permission("Deny", "org.zstack.header.console.APIReconnectConsoleProxyAgentMsg", account("ann"), by("ann"))),
        ("denies users what only accounts may", of_ulf("Deny", f"{IDENTITY}APICreateUserMsg", statement("Allow", ".*"))),
        ("allows accounts the rest", permission("Allow", STOP_IT, account("ann"), by("ann"))),
        ("allows users to read by the first policy of their account", of_ulf("Allow", CLASS % "Query")),
        ("allows users to change their password", of_ulf("Allow", f"{IDENTITY}APIUpdateUserMsg")),
        ("denies users the rest", of_ulf("Deny", STOP_IT)),
        ("allows users by the category and the class", of_ulf("Allow", STOP_IT, statement("Allow", f"instance:{STOP_IT}"))),
        ("allows users by the simple class", of_ulf("Allow", STOP_IT, statement("Allow", "instance:API.*Msg"))),
        ("denies users by a statement", of_ulf("Deny", STOP_IT, statement("Deny", ".*"), statement("Allow", ".*"))),
        ("asks groups after the user", of_ulf("Allow", CLASS % "Query", statement("Deny", ".*"), through=THROUGH_GROUP)),
        ("asks groups too", of_ulf("Allow", STOP_IT, statement("Allow", ".*"), through=THROUGH_GROUP)),
        ("lets admin ask for anybody", permission("Deny", STOP_IT, *HERS, by(), of=ULF)),
    ),
    *facts("UpdateQuota",
        ("refuses an unknown account", V("SYS.1003", quota(identityUuid=NOBODY))),
        ("refuses an unknown quota", V("SYS.1007", quota(name="x"), f"cannot find Quota[name: x] for the account[uuid: {ANN}]", *PEOPLE)),
        ("refuses admin, which has none", V("SYS.1007", quota(identityUuid=ADMIN), f"cannot find Quota[name: vm.num] for the account[uuid: {ADMIN}]")),
        ("takes less than is used", answers(*ANNS_ALL, by(), ("UpdateQuota", quota(value=0)), value=0)),
        ("takes a negative value", answers(*PEOPLE, ("UpdateQuota", quota(value=-5)), value=-5)),
        ("answers the quota", answers(*PEOPLE, ("UpdateQuota", quota()), name="vm.num", identityUuid=ANN, identityType="AccountVO", value=9)),
    ),
    *facts("GetAccountQuotaUsage",
        ("tells everybody of any account", usage(*ANNS_ALL, by("bob"), vm__num=1)),
        ("has no total for admin", usage(of=ADMIN, total=0)),
        ("counts machines that run", usage(*ANNS_ALL, vm__num=1, vm__cpuNum=1, vm__memorySize=GIB, vm__totalNum=1)),
        ("counts stopped ones in all", usage(*ANNS_ALL, ("StopVmInstance", {"uuid": ANNS}), vm__num=0, vm__cpuNum=0, vm__memorySize=0, vm__totalNum=1)),
        ("counts destroyed ones nowhere", usage(*ANNS_ALL, ("DestroyVmInstance", {"uuid": ANNS}), vm__num=0, vm__totalNum=0)),
        ("counts none that never started", usage(*AS_ANN, vm(strategy="JustCreate"), vm__num=0, vm__totalNum=0)),
        ("counts none that starts and has no host yet", usage(*ANNS_ALL, changed("VmInstance", ANNS, state="Starting", hostUuid=None), vm__num=0)),
        ("counts one that starts on a host", usage(*ANNS_ALL, changed("VmInstance", ANNS, state="Starting"), vm__num=1)),
        ("counts data volumes", usage(*AS_ANN, MAKE_DATA, volume__data__num=1, volume__capacity=20 * GIB)),
        ("counts deleted ones in the capacity only", usage(*AS_ANN, MAKE_DATA, ("DeleteDataVolume", {"uuid": DATA}), volume__data__num=0, volume__capacity=20 * GIB)),
        ("counts root volumes in the capacity", usage(*AS_ANN, vm(), volume__data__num=0, volume__capacity=10 * GIB)),
        ("counts the actual size of images", usage(*PEOPLE, changed("Image", CENTOS, owner=ANN, size=5 * GIB, actualSize=GIB), image__num=1, image__size=GIB)),
        ("counts deleted images", usage(*PEOPLE, changed("Image", CENTOS, owner=ANN, actualSize=GIB, status="Deleted"), image__num=1, image__size=GIB)),
        ("counts snapshots", usage(*AS_ANN, MAKE_DATA, changed("Volume", DATA, status="Ready", installPath="/d"), snapshot(DATA), snapshot__volume__num=1)),
        ("counts the rest by rows", usage(*AS_ANN, MAKE_VIP, *MAKE_LISTENER, MAKE_SG, vip__num=1, loadBalancer__num=1, listener__num=1, securityGroup__num=1, eip__num=0, l3__num=0)),
    ),
    *facts("CreateVip", ("is brief above a quota", exceeded("vip.num", BRIEF, {"name": "v", "l3NetworkUuid": PRIVATE}))),
    *facts("CreateSecurityGroup", ("takes what a quota leaves", owner(*OPEN, ("UpdateQuota", quota(name="securityGroup.num", value=1)), by("ann"), MAKE_SG, of=("SecurityGroup", SG), is_=ANN))),
    *facts("CreateLoadBalancerListener", ("is brief above a quota", exceeded("listener.num", BRIEF, MAKE_LISTENER[1][1], MAKE_VIP, MAKE_LISTENER[0]))),
    *facts("CreateSecurityGroup", ("is brief above a quota", exceeded("securityGroup.num", BRIEF, {"name": "g"}))),
    *facts("CreateLoadBalancer", ("is brief above a quota", exceeded("loadBalancer.num", BRIEF, {"name": "b", "vipUuid": VIP}, MAKE_VIP))),
    *facts("CreatePortForwardingRule", ("is brief above a quota", exceeded("portForwarding.num", BRIEF, {"name": "b", "vipUuid": VIP, "vipPortStart": 22, "protocolType": "TCP"}, MAKE_VIP))),
    *facts("CreateEip", ("tells the numbers above a quota", exceeded("eip.num", LONG, {"name": "e", "vipUuid": VIP}, MAKE_VIP))),
    *facts("CreateDataVolume", ("tells the numbers above a quota", exceeded("volume.data.num", LONG, {"name": "d", "diskOfferingUuid": DISK}))),
    *facts("CreateVolumeSnapshot", ("tells the numbers above a quota", exceeded("snapshot.volume.num", LONG, {"name": "s", "volumeUuid": DATA}, MAKE_DATA, changed("Volume", DATA, status="Ready", installPath="/d")))),
    *facts("AddImage", ("tells the numbers above a quota", exceeded("image.num", LONG, ADD_IMAGE[1]))),
    *facts("CreateVmInstance",
        ("asks for no quota before the start", leaves(*OPEN, ("UpdateQuota", quota(name="vm.totalNum", value=0)), by("ann"), vm(strategy="JustCreate"), of=("VmInstance", ANNS), state="Created")),
    ),
    *facts("StartVmInstance",
        ("asks admin for no quota", Shown(caller_of_a_start)),
        ("asks for the quota of the account", Refused(after(*ANNS_ALL, ("StopVmInstance", {"uuid": ANNS}), by(), ("UpdateQuota", quota(value=0)), by("ann"), uuid=ANNS), "ID.1003", "*exceeds a quota[name: vm.num, value: 0]*")),
    ),
    *facts("IsOpensourceVersion",
        ("affirms", answers(("IsOpensourceVersion", {}), opensource=True)),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
