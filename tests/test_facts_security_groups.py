"""What the real server does with security groups, fact by fact, in both dialects.

The facts follow the calls. The last ones are about what goes with a group, and about what membership survives.
"""

from asking import each, outcome
from facts import Refused, Shown, Uncovered, changed, check, error_of, take
from test_facts_l3 import GROUPS, serve
from test_facts_nics import detach, nothing, static
from test_facts_vm import (
    C1,
    C2,
    CI,
    DESTROY,
    HOST1,
    NFS,
    NOBODY,
    OLD,
    PAUSE,
    PRIVATE,
    PUBLIC,
    START,
    STOP,
    WEB,
    WEB2,
    ZONE,
    V,
    act,
    answers,
    as_ann,
    configured,
    facts,
    gone,
    leaves,
    nic_of,
)  # fmt: skip

from zmock import named

GROUP, OTHER = named("group-new"), named("group-2")
CREATE = ("CreateSecurityGroup", {"name": "g", "resourceUuid": GROUP})
CREATE_OTHER = ("CreateSecurityGroup", {"name": "o", "resourceUuid": OTHER})
TCP = {"type": "Ingress", "protocol": "TCP", "startPort": 80}
ICMP, ALL = TCP | {"protocol": "ICMP"}, {"type": "Ingress", "protocol": "ALL"}
DISABLE = ("ChangeSecurityGroupState", {"uuid": GROUP, "stateEvent": "disable"})
DELETE = ("DeleteSecurityGroup", {"uuid": GROUP})
LEAVE_NFS = (*(("DetachPrimaryStorageFromCluster", {"primaryStorageUuid": NFS, "clusterUuid": uuid}) for uuid in (C1, C2)), ("DeletePrimaryStorage", {"uuid": NFS}))


def on_group(api, group=GROUP, **params):
    return (api, {"securityGroupUuid": group} | params)


def add(*rules, **more):
    """A step that adds rules to GROUP."""
    return on_group("AddSecurityGroupRule", rules=list(rules), **more)


def attach(l3=PRIVATE, group=GROUP):
    return on_group("AttachSecurityGroupToL3Network", group, l3NetworkUuid=l3)


ATTACHED = (CREATE, attach())
DETACH = on_group("DetachSecurityGroupFromL3Network", l3NetworkUuid=PRIVATE)


def of_nics(api, *vms):
    """A step that makes a call on the first nics of machines."""

    async def step(mock):
        return await mock.call(api, securityGroupUuid=GROUP, vmNicUuids=[nic_of(mock, vm)["uuid"] for vm in vms])

    return step


def join(*vms):
    return of_nics("AddVmNicToSecurityGroup", *vms)


def leave(*vms):
    return of_nics("DeleteVmNicFromSecurityGroup", *vms)


def wrong(details, *rules, steps=()):
    """A refusal of rules, the last of which is dumped in the details."""
    return V("SYS.1007", add(*rules)[1], details, CREATE, *steps)


def rules_of(mock, group=GROUP):
    return mock.cloud.find("SecurityGroupRule", "securityGroupUuid", group)


def stored(*steps, are, of=("startPort", "endPort", "allowedCidr")):
    """A story: the rules of GROUP but those that it began with, by some fields."""

    async def story(mock):
        await take(mock, [CREATE, *steps])
        added = [rule for rule in rules_of(mock) if rule.get("remoteSecurityGroupUuid") != GROUP]
        assert [tuple(rule.get(name) for name in of) for rule in added] == list(are)

    return Shown(story)


def members(*steps, are):
    """A story: the machines whose nics are in GROUP after some steps, once for each membership."""

    async def story(mock):
        await take(mock, [*ATTACHED, *steps])
        refs = await mock.query("security-groups/vm-instances/nics", f"securityGroupUuid={GROUP}")
        assert sorted(ref["vmInstanceUuid"] for ref in refs) == sorted(are)
        assert all(mock.cloud.look("VmNic", ref["vmNicUuid"])["vmInstanceUuid"] == ref["vmInstanceUuid"] for ref in refs)

    return Shown(story)


def candidates(*steps, have=(), lack=()):
    """A story: machines whose nics may join GROUP, and others whose nics may not."""

    async def story(mock):
        found = await take(mock, [*ATTACHED, *steps, on_group("GetCandidateVmNicForSecurityGroup")])
        vms = {nic["vmInstanceUuid"] for nic in found["inventories"]}
        assert {*have} <= vms and not {*lack} & vms

    return Shown(story)


def silent(api, *vms, steps=()):
    """A story: a call on nics answers nothing."""

    async def story(mock):
        await take(mock, [*ATTACHED, *steps])
        assert not await of_nics(api, *vms)(mock)

    return Shown(story)


# groups


async def full_quota(mock):
    await take(mock, [as_ann("securityGroup.num", 1), ("CreateSecurityGroup", {"name": "n"})])
    return {"name": "m"}


async def rules_of_a_new_group(mock):
    group = (await take(mock, [CREATE]))["inventory"]
    assert (group["rules"], group["attachedL3NetworkUuids"], group["state"]) == ([], [], "Enabled")
    (shown,) = await mock.query("security-groups", f"uuid={GROUP}")
    values = {"protocol": "ALL", "startPort": -1, "endPort": -1, "allowedCidr": "0.0.0.0/0", "remoteSecurityGroupUuid": GROUP, "state": "Enabled"}
    assert sorted(rule["type"] for rule in shown["rules"]) == ["Egress", "Ingress"]
    assert all(values.items() <= rule.items() for rule in shown["rules"])


async def tags_of_new_rules(mock):
    await outcome(mock, "POST", "/security-groups", {"params": CREATE[1], "userTags": ["t"]})
    assert [tag["resourceUuid"] for tag in mock.cloud.store.rows("UserTag") if tag["tag"] == "t"] == [GROUP]


async def a_disabled_group_works(mock):
    await take(mock, [*ATTACHED, join(WEB), DISABLE, join(WEB2), add(TCP), leave(WEB), DETACH, attach()])
    assert len(rules_of(mock)) == 3 and mock.cloud.look("SecurityGroup", GROUP)["state"] == "Disabled"


async def what_goes_with_a_group(mock):
    remote = on_group("AddSecurityGroupRule", OTHER, rules=[TCP], remoteSecurityGroupUuids=[GROUP])
    await take(mock, [*ATTACHED, CREATE_OTHER, attach(group=OTHER), join(WEB), remote, DELETE])
    assert not rules_of(mock) and len(rules_of(mock, OTHER)) == 2 and not [*mock.cloud.store.rows("VmNicSecurityGroupRef")]
    assert mock.cloud.look("SecurityGroup", OTHER)["attachedL3NetworkUuids"] == [PRIVATE] and mock.cloud.look("VmNic", nic_of(mock)["uuid"])


# rules


async def a_rule_for_each_remote_group(mock):
    await take(mock, [CREATE, CREATE_OTHER, add(TCP, TCP | {"startPort": 81}, remoteSecurityGroupUuids=[GROUP, OTHER])])
    added = [(rule["startPort"], rule["remoteSecurityGroupUuid"]) for rule in rules_of(mock) if rule["protocol"] == "TCP"]
    assert sorted(added) == sorted((port, group) for port in (80, 81) for group in (GROUP, OTHER))


async def all_rules_are_answered(mock):
    group = (await take(mock, [CREATE, add(TCP)]))["inventory"]
    assert sorted(rule["protocol"] for rule in group["rules"]) == ["ALL", "ALL", "TCP"]


async def remote_groups_of_others(mock):
    steps = [CREATE_OTHER, as_ann("securityGroup.num", 9), CREATE]
    await take(mock, steps)
    error = await error_of(mock, *add(TCP, remoteSecurityGroupUuids=[OTHER]))
    assert error["code"] == "SYS.1006" and not any(rule["protocol"] == "TCP" for rule in rules_of(mock))


async def removed_rules(mock):
    await take(mock, [CREATE, CREATE_OTHER, add(TCP)])
    (tcp,) = [rule["uuid"] for rule in rules_of(mock) if rule["protocol"] == "TCP"]
    uuids = [NOBODY, tcp, *(rule["uuid"] for rule in rules_of(mock, OTHER))]
    group = (await mock.call("DeleteSecurityGroupRule", ruleUuids=uuids))["inventory"]
    assert group["uuid"] == GROUP and len(group["rules"]) == 2 and rules_of(mock, OTHER) == []


async def no_rule_to_remove(mock):
    status, answer = await outcome(mock, "DELETE", f"/security-groups/rules?ruleUuids={NOBODY}")
    assert (status, answer) == (200, {})


# members


def of_new_nic(api, vm, code, details):
    """A refusal of the nic of a machine."""

    async def state(mock):
        await take(mock, [CREATE])
        return {"securityGroupUuid": GROUP, "vmNicUuids": [nic_of(mock, vm)["uuid"]]}

    return Refused(state, code, details)


async def nics_of_others(mock):
    await take(mock, [as_ann("securityGroup.num", 9), *ATTACHED])
    assert (await mock.call("GetCandidateVmNicForSecurityGroup", securityGroupUuid=GROUP))["inventories"] == []
    nics = [nic_of(mock, WEB2)["uuid"]]
    ann, mock.session = mock.cloud.look("SecurityGroup", GROUP)["owner"], ""
    await mock.login()
    mock.cloud.store.update("VmInstance", WEB2, owner=ann)
    mock.cloud.store.update("VmNic", nics[0], owner=ann)
    body = {"logInByAccount": {"accountName": "ann", "password": "p"}}
    mock.session = (await mock.request("PUT", "/accounts/login", body))[1]["inventory"]["uuid"]
    found = (await mock.call("GetCandidateVmNicForSecurityGroup", securityGroupUuid=GROUP))["inventories"]
    assert [nic["uuid"] for nic in found] == nics


async def membership_and_account(mock):
    ann = (await mock.call("CreateAccount", name="ann", password="p"))["inventory"]["uuid"]
    await mock.call("ChangeResourceOwner", accountUuid=ann, resourceUuid=WEB)
    await take(mock, [*ATTACHED, join(WEB, WEB2), ("DeleteAccount", {"uuid": ann})])
    assert [ref["vmInstanceUuid"] for ref in await mock.query("security-groups/vm-instances/nics")] == [WEB2]


def related(collection, *conditions, steps=(), are=1):
    """A story: how many objects satisfy conditions over relations."""

    async def story(mock):
        await take(mock, [*ATTACHED, join(WEB), *steps])
        assert len(await mock.query(collection, *conditions)) == are

    return Shown(story)


FACTS = (
    *facts("CreateSecurityGroup",
        ("refuses an exceeded quota", Refused(full_quota, "ID.1003", "quota exceeding. The account[uuid: *] exceeds a quota[name: securityGroup.num, value: 1]*")),
        ("makes two rules, and answers none", Shown(rules_of_a_new_group)),
        ("puts no tags on its rules", Shown(tags_of_new_rules)),
        ("answers an internalId", Uncovered("fields that the server hides from queries are missing")),
    ),
    *facts("UpdateSecurityGroup",
        ("changes name and description", answers(CREATE, ("UpdateSecurityGroup", {"uuid": GROUP, "name": "n", "description": "d"}), name="n", description="d", uuid=GROUP)),
        ("takes a name that another group has", answers(CREATE, CREATE_OTHER, ("UpdateSecurityGroup", {"uuid": OTHER, "name": "g"}), name="g")),
        ("changes nothing without them", answers(CREATE, ("UpdateSecurityGroup", {"uuid": GROUP}), name="g")),
    ),
    *facts("ChangeSecurityGroupState",
        ("disables", answers(CREATE, DISABLE, state="Disabled")),
        ("disables a disabled one", answers(CREATE, DISABLE, DISABLE, state="Disabled")),
        ("enables an enabled one", answers(CREATE, ("ChangeSecurityGroupState", {"uuid": GROUP, "stateEvent": "enable"}), state="Enabled")),
        ("leaves the use of a group as it is", Shown(a_disabled_group_works)),
    ),
    *facts("DeleteSecurityGroup",
        ("succeeds for one that is gone", nothing(("DeleteSecurityGroup", {"uuid": NOBODY}))),
        ("minds neither members nor networks, and takes rules of other groups along", Shown(what_goes_with_a_group)),
        ("answers nothing", nothing(CREATE, DELETE)),
        ("does the same with Enforcing", gone(*ATTACHED, join(WEB), ("DeleteSecurityGroup", {"uuid": GROUP, "deleteMode": "Enforcing"}), of=("SecurityGroup", GROUP))),
    ),
    *facts("AddSecurityGroupRule",
        ("refuses a rule without type", wrong("rule type can not be null. rule dump: {*", {"protocol": "TCP"})),
        ("refuses another type", wrong('unknown rule type[Both], rule can only be Ingress/Egress. rule dump: {*"Both"*}', TCP | {"type": "Both"})),
        ("refuses a rule without protocol", wrong("protocol can not be null. rule dump: {*", {"type": "Egress"})),
        ("refuses another protocol", wrong("invalid protocol[tcp]. Valid protocols are [TCP, UDP, ICMP, ALL]. rule dump: {*", TCP | {"protocol": "tcp"})),
        ("refuses a rule without start port", wrong("startPort can not be null. rule dump: {*", {"type": "Ingress", "protocol": "UDP", "endPort": 9})),
        ("refuses a start port for ALL", wrong("can not set port for protocol [type:ALL]. rule dump: {*", ALL | {"startPort": -1})),
        ("refuses an ICMP type that is too high", wrong("invalid ICMP type[256]. Valid type is [-1, 255]. rule dump: {*", ICMP | {"startPort": 256})),
        ("refuses an ICMP type that is too low", wrong("invalid ICMP type[-2]. Valid type is [-1, 255]. rule dump: {*", ICMP | {"startPort": -2})),
        ("refuses a start port that is too high", wrong("invalid startPort[65536]. Valid range is [0, 65535]. rule dump: {*", TCP | {"startPort": 65536})),
        ("refuses a start port that is too low", wrong("invalid startPort[-1]. Valid range is [0, 65535]. rule dump: {*", TCP | {"startPort": -1})),
        ("refuses an ICMP code that is too high", wrong("invalid ICMP code[4]. Valid range is [-1, 3]. rule dump: {*", ICMP | {"startPort": 3, "endPort": 4})),
        ("refuses an ICMP code that is too low", wrong("invalid ICMP code[-2]. Valid range is [-1, 3]. rule dump: {*", ICMP | {"startPort": 3, "endPort": -2})),
        ("refuses ICMP 8 without a code", wrong("invalid ICMP code[8]. Valid range is [-1, 3]. rule dump: {*", ICMP | {"startPort": 8})),
        ("refuses an end port that is too high", wrong("invalid endPort[70000]. Valid range is [0, 65535]. rule dump: {*", TCP | {"endPort": 70000})),
        ("refuses an end port that is too low", wrong("invalid endPort[-1]. Valid range is [0, 65535]. rule dump: {*", TCP | {"protocol": "UDP", "endPort": -1})),
        ("refuses what is no CIDR", wrong("invalid CIDR[10.0.0.0]. rule dump: {*", TCP | {"allowedCidr": "10.0.0.0"})),
        ("refuses an empty CIDR", wrong("invalid CIDR[]. rule dump: {*", TCP | {"allowedCidr": ""})),
        ("looks at all of a rule before the next one", Uncovered("each check looks at all rules: of two wrong rules, another one may be told")),
        ("refuses equal rules of a call", wrong('rule should not be duplicated. rule dump: {*"TCP"*}', TCP, TCP | {"endPort": 80, "allowedCidr": "0.0.0.0/0"})),
        ("refuses an existing rule", wrong('rule exist. rule dump: {*"TCP"*}, remoteSecurityGroupUuid:[null]', TCP, steps=[add(TCP)])),
        ("refuses an existing rule for a remote group", V("SYS.1007", add(TCP, remoteSecurityGroupUuids=[OTHER])[1], f"rule exist. rule dump: {{*, remoteSecurityGroupUuid:[{OTHER}]", CREATE, CREATE_OTHER, add(TCP, remoteSecurityGroupUuids=[OTHER, GROUP]))),
        ("takes rules of another CIDR", stored(add(TCP), add(TCP | {"allowedCidr": "10.0.0.0/8"}), are=[(80, 80, "0.0.0.0/0"), (80, 80, "10.0.0.0/8")])),
        ("compares ports before it orders them", stored(add(TCP | {"endPort": 70}), add(TCP | {"endPort": 70}), are=[(70, 80, "0.0.0.0/0")] * 2)),
        ("takes a rule that a remote group has", stored(CREATE_OTHER, add(TCP, remoteSecurityGroupUuids=[OTHER]), add(TCP), of=["remoteSecurityGroupUuid"], are=[(OTHER,), (None,)])),
        ("takes ALL beside the rules of a new group", stored(add(ALL), are=[(-1, -1, "0.0.0.0/0")])),
        ("fails for equal rules of which the last has no CIDR and another has one", Uncovered("zmock has no null pointer: the rules are different, and both are added")),
        ("refuses an unknown remote group", V("SYS.1003", add(TCP, remoteSecurityGroupUuids=[NOBODY])[1], "*", CREATE)),
        ("refuses an empty list of remote groups", V("SYS.1007", add(TCP, remoteSecurityGroupUuids=[])[1], "*", CREATE)),
        ("refuses a remote group of another account", Shown(remote_groups_of_others)),
        ("fills the end port", stored(add(TCP), are=[(80, 80, "0.0.0.0/0")])),
        ("overwrites an end port of ALL", stored(add(ALL | {"endPort": 99}), are=[(-1, -1, "0.0.0.0/0")])),
        ("swaps ports", stored(add(TCP | {"endPort": 70}), are=[(70, 80, "0.0.0.0/0")])),
        ("swaps the type and the code of ICMP", stored(add(ICMP | {"startPort": 8, "endPort": 0}), are=[(0, 8, "0.0.0.0/0")])),
        ("takes any ICMP", stored(add(ICMP | {"startPort": -1}), are=[(-1, -1, "0.0.0.0/0")])),
        ("takes the lowest and the highest port", stored(add(TCP | {"startPort": 0, "endPort": 65535}), are=[(0, 65535, "0.0.0.0/0")])),
        ("tells directions and protocols apart", stored(*(add(TCP | {"type": type, "protocol": of}) for type in ("Ingress", "Egress") for of in ("TCP", "UDP")), are=[(80, 80, "0.0.0.0/0")] * 4)),
        ("keeps the CIDR", stored(add(TCP | {"allowedCidr": "10.0.0.0/8"}), are=[(80, 80, "10.0.0.0/8")])),
        ("makes a rule for each remote group", Shown(a_rule_for_each_remote_group)),
        ("makes Enabled rules", stored(add(TCP), of=["state", "remoteSecurityGroupUuid"], are=[("Enabled", None)])),
        ("answers all rules of the group", Shown(all_rules_are_answered)),
    ),
    *facts("DeleteSecurityGroupRule",
        ("drops unknown rules, and answers the group of the first", Shown(removed_rules)),
        ("succeeds without an inventory if it knows none", Shown(no_rule_to_remove)),
        ("refuses an empty list", V("SYS.1007", {}, "*")),
    ),
    *facts("AttachSecurityGroupToL3Network",
        ("refuses a network that has the group", V("SYS.1006", attach()[1], f"security group[uuid:{GROUP}] has attached to l3Network[uuid:{PRIVATE}], can't attach again", *ATTACHED)),
        ("refuses a network without the service", V("SYS.1007", attach(PUBLIC)[1], f"the L3 network[uuid:{PUBLIC}] doesn't have the network service type[SecurityGroup] enabled", CREATE)),
        ("takes a network that another group has", answers(*ATTACHED, CREATE_OTHER, attach(group=OTHER), uuid=OTHER, attachedL3NetworkUuids=[PRIVATE])),
        ("takes one that gets it", answers(CREATE, serve("SecurityGroup", provider=GROUPS, l3=PUBLIC), attach(PUBLIC), attachedL3NetworkUuids=[PUBLIC])),
        ("answers the group", answers(*ATTACHED, uuid=GROUP, attachedL3NetworkUuids=[PRIVATE])),
    ),
    *facts("DetachSecurityGroupFromL3Network",
        ("refuses a network that does not have the group", V("SYS.1006", DETACH[1], f"security group[uuid:{GROUP}] has not attached to l3Network[uuid:{PRIVATE}], can't detach", CREATE)),
        ("takes the nics on the network out", members(join(WEB, WEB2), DETACH, are=[])),
        ("answers the group", answers(*ATTACHED, DETACH, uuid=GROUP, attachedL3NetworkUuids=[])),
    ),
    *facts("AddVmNicToSecurityGroup",
        ("refuses a nic that does not exist", V("SYS.1003", {"securityGroupUuid": GROUP, "vmNicUuids": [NOBODY]}, "*", CREATE)),
        ("refuses a nic on a network without the group", of_new_nic("AddVmNicToSecurityGroup", WEB, "SYS.1007", f"VM nics[uuids:[*]] are not on L3 networks that have been attached to the security group[uuid:{GROUP}]")),
        ("adds a nic again", members(join(WEB), join(WEB), are=[WEB, WEB])),
        ("looks at no state of a machine", members(join(OLD), are=[OLD])),
        ("looks at no state of a group", members(DISABLE, join(WEB), are=[WEB])),
        ("counts a nic once in a call", members(join(WEB, WEB), are=[WEB])),
        ("answers nothing", silent("AddVmNicToSecurityGroup", WEB)),
    ),
    *facts("DeleteVmNicFromSecurityGroup",
        ("removes nics", members(join(WEB, WEB2), leave(WEB), are=[WEB2])),
        ("succeeds for nics that are not in the group", silent("DeleteVmNicFromSecurityGroup", WEB)),
        ("ignores them beside others", members(join(WEB), leave(WEB, CI), are=[])),
        ("answers nothing", silent("DeleteVmNicFromSecurityGroup", WEB, steps=[join(WEB)])),
    ),
    *facts("GetCandidateVmNicForSecurityGroup",
        ("answers nics of running and stopped machines", candidates(have=[WEB, CI])),
        ("leaves out machines in other states", candidates(PAUSE, lack=[WEB, OLD])),
        ("leaves out nics on other networks", candidates(DETACH, lack=[WEB, CI])),
        ("leaves out nics in the group", candidates(join(WEB), have=[CI], lack=[WEB])),
        ("leaves out appliances", candidates(changed("VmInstance", WEB, type="ApplianceVm"), lack=[WEB])),
        ("answers an account its own nics", Shown(nics_of_others)),
    ),
    *facts("QuerySecurityGroup",
        ("knows the nics", related("security-groups", f"vmNic.vmInstanceUuid={WEB}")),
        ("knows the networks", related("security-groups", "l3Network.name=l3-private")),
        ("knows the rules", related("security-groups", "rules.type=Ingress", "rules.protocol=ALL")),
    ),
    *facts("QuerySecurityGroupRule",
        ("knows the group", related("security-groups/rules", "securityGroup.name=g", are=2)),
    ),
    *facts("QueryVmNicInSecurityGroup",
        ("knows the nic", related("security-groups/vm-instances/nics", f"vmNic.vmInstanceUuid={WEB}")),
        ("knows the group", related("security-groups/vm-instances/nics", "securityGroup.name=g")),
        ("is known to nics", related("vm-instances/nics", "securityGroup.name=g")),
    ),
    *facts("membership",
        ("stays when a machine stops and starts", members(join(WEB), STOP, START, are=[WEB])),
        ("stays when it reboots", members(join(WEB), act("RebootVmInstance"), are=[WEB])),
        ("stays when it is paused and resumed", members(join(WEB), PAUSE, act("ResumeVmInstance"), are=[WEB])),
        ("stays when it moves", members(join(WEB2), ("MigrateVm", {"vmInstanceUuid": WEB2}), are=[WEB2])),
        ("stays when its address changes", members(join(CI), static(), are=[CI])),
        ("goes when it is destroyed while it is stopped", members(join(CI), act("DestroyVmInstance", CI), are=[])),
        ("goes with the policy Never", members(configured("vm", "deletionPolicy", "Never"), join(WEB), DESTROY, are=[])),
        ("goes with the policy Direct", members(configured("vm", "deletionPolicy", "Direct"), join(WEB), DESTROY, are=[])),
        ("goes with the account of the machine", Shown(membership_and_account)),
        ("goes when it is destroyed", members(join(WEB), DESTROY, are=[])),
        ("does not come back", members(join(WEB), DESTROY, act("RecoverVmInstance"), START, are=[])),
        ("goes with the nic", members(join(WEB), detach(), are=[])),
        ("stays when a host takes its machines along", members(join(WEB), ("DeleteHost", {"uuid": HOST1}), are=[WEB])),
        ("stays when a cluster stops its machines", members(join(WEB), ("DeleteCluster", {"uuid": C1}), are=[WEB])),
        ("goes with the primary storage of the machine", members(join(WEB), *LEAVE_NFS, are=[])),
        ("goes with the zone", members(join(WEB), ("DeleteZone", {"uuid": ZONE}), are=[])),
        ("goes with the network, as the group is not there any more", leaves(*ATTACHED, join(WEB), ("DeleteL3Network", {"uuid": PRIVATE}), of=("SecurityGroup", GROUP), attachedL3NetworkUuids=[])),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
