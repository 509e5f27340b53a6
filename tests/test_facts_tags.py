"""What the real server does with system tags and user tags, fact by fact, in both dialects.

In the dialect manual a system tag is any text: a fact about patterns is `patterned`.
"""

from asking import each, outcome
from facts import Refused, Shown, Uncovered, chain, check, error_of, take
from test_facts_vm import ABSENT, NOBODY, PRIVATE, VM, WEB, ZONE, V, answers, as_ann, facts

import zmock
from zmock import named

HOST = named("host-1")
LISTENER, LB, VIP, APPLIANCE, NEW_DISK, TAG = map(named, ("listener-new", "lb-new", "vip-new", "appliance-new", "disk-new", "tag-new"))
RESERVED = {"resourceType": "HostVO", "resourceUuid": HOST, "tag": "reservedMemory::3G"}
MINE = {"resourceType": "HostVO", "resourceUuid": HOST, "tag": "mine"}
OFFERING = {"name": "d", "diskSize": 1 << 30, "resourceUuid": NEW_DISK}
KEPT = "cannot delete the system tag[%s]. The load balancer plugin relies on it, you can only update it"
ALLOCATOR = "primaryStorage::allocator::userTag::t"
MISMATCH = "The argument :'resourceType' doesn't match uuid"
BALANCED = (
    ("CreateVip", {"name": "v", "l3NetworkUuid": named("l3-public"), "resourceUuid": VIP}),
    ("CreateLoadBalancer", {"name": "b", "vipUuid": VIP, "resourceUuid": LB}),
    ("CreateLoadBalancerListener", {"name": "l", "loadBalancerUuid": LB, "loadBalancerPort": 80, "resourceUuid": LISTENER}),
)


def tag(uuid=HOST, type="HostVO", text="reservedMemory::3G", inherent=False):
    """A step that adds the system tag TAG behind the server's back."""

    async def step(mock):
        mock.cloud.add("SystemTag", uuid=TAG, resourceUuid=uuid, resourceType=type, tag=text, inherent=inherent)

    return step


def user_tag(uuid=HOST, type="HostVO"):
    async def step(mock):
        mock.cloud.add("UserTag", uuid=TAG, resourceUuid=uuid, resourceType=type, tag="mine")

    return step


def patterned(api, params, details, code="SYS.1007"):
    """A story: the server refuses a system tag, the manual's dialect does not."""

    async def story(mock):
        if "uuid" in params:
            await tag()(mock)
        error = await error_of(mock, api, params)
        if mock.cloud.dialect["free-system-tags"]:
            assert error == {}
        else:
            assert (error["code"], error["details"]) == (code, details)

    return Shown(story)


def tagged_creation(*system_tags, are, user_tags=()):
    """A story: a disk offering is made with tags, and these are on it."""

    async def story(mock):
        body = {"params": OFFERING, "systemTags": list(system_tags), "userTags": list(user_tags)}
        assert (await outcome(mock, "POST", "/disk-offerings", body))[0] == 200
        shown = [await mock.query(kind, f"resourceUuid={NEW_DISK}") for kind in ("system-tags", "user-tags")]
        assert sorted(item["tag"] for items in shown for item in items) == sorted(are)
        assert not any(item["inherent"] for item in shown[0])

    return Shown(story)


def kept_by(api, text, **params):
    """A story: a tag of a listener cannot be deleted, and can be updated."""

    async def story(mock):
        await take(mock, BALANCED)
        for item in mock.cloud.find("SystemTag", "resourceUuid", LISTENER):
            (error,) = chain(await error_of(mock, api, {"uuid": item["uuid"]}))
            assert (error["code"], error["details"]) == ("SYS.1006", text % item["tag"])
        assert len(mock.cloud.find("SystemTag", "resourceUuid", LISTENER)) == 8
        await mock.call("UpdateSystemTag", uuid=item["uuid"], tag="maxConnection::7")

    return Shown(story)


def removed(*steps, type="SystemTag"):
    async def story(mock):
        await take(mock, steps)
        assert await error_of(mock, "DeleteTag", {"uuid": TAG}) == {}
        assert not mock.cloud.look(type, TAG)

    return Shown(story)


def untagged(api, path, **params):
    """A story: the server knows no type for the system tags of a creation; the manual's dialect takes any."""

    async def story(mock):
        status, answer = await outcome(mock, "POST", path, {"params": params, "systemTags": ["host::reservedMemory::1G"]})
        if mock.cloud.dialect["free-system-tags"]:
            assert status == 200
        else:
            message = mock.cloud.catalogue.apis[api].message
            assert (answer["error"]["code"], answer["error"]["details"]) == ("SYS.1000", f"API message[{message}] doesn't define resource type by @TagResourceType")

    return Shown(story)


async def anybody_tags(mock):
    await take(mock, [as_ann("vm.num", 1), ("CreateSystemTag", RESERVED), ("CreateUserTag", MINE)])
    shown = [item for kind in ("system-tags", "user-tags") for item in await mock.query(kind, f"resourceUuid={HOST}")]
    assert {"reservedMemory::3G", "mine"} <= {item["tag"] for item in shown}


async def anybody_updates(mock):
    await take(mock, [tag(), as_ann("vm.num", 1), ("UpdateSystemTag", {"uuid": TAG, "tag": "reservedMemory::4G"})])
    assert mock.cloud.look("SystemTag", TAG)["tag"] == "reservedMemory::4G"


async def own_tag_is_deleted(mock):
    await as_ann("vm.num", 9, owns=WEB)(mock)
    for kind in ("system", "user"):
        vm = {"resourceType": "VmInstanceVO", "resourceUuid": WEB, "tag": "sshkey::k"}
        made = {"uuid": (await mock.call(f"Create{kind.title()}Tag", **vm))["inventory"]["uuid"]}
        assert await error_of(mock, "DeleteTag", made) == {}


async def all_see_all_tags(mock):
    before = [len(list(mock.cloud.store.rows(type))) for type in ("SystemTag", "UserTag")]
    await as_ann("vm.num", 1)(mock)
    assert [len(await mock.query(kind)) for kind in ("system-tags", "user-tags")] == before


async def same_text(mock):
    await tag()(mock)
    before = dict(mock.cloud.look("SystemTag", TAG))
    await mock.advance(5)
    answer = await mock.call("UpdateSystemTag", uuid=TAG, tag="reservedMemory::3G")
    assert (mock.cloud.look("SystemTag", TAG), answer["inventory"]["tag"]) == (before, "reservedMemory::3G")


async def stays_inherent(mock):
    await take(mock, [tag(inherent=True), ("UpdateSystemTag", {"uuid": TAG, "tag": "reservedMemory::4G"})])
    item = mock.cloud.look("SystemTag", TAG)
    assert (item["inherent"], item["tag"]) == (True, "reservedMemory::4G")


async def subclass(mock):
    mock.cloud.add("VmInstance", uuid=APPLIANCE, name="router", type="ApplianceVm", state="Running")
    params = {"resourceType": "ApplianceVmVO", "resourceUuid": APPLIANCE, "tag": "hostname::r"}
    error = await error_of(mock, "CreateSystemTag", params)
    if mock.cloud.dialect["free-system-tags"]:
        (item,) = mock.cloud.find("SystemTag", "resourceUuid", APPLIANCE)
        assert item["resourceType"] == "ApplianceVmVO"
    else:
        assert error["details"] == "no system tag matches[hostname::r] for resourceType[ApplianceVmVO]"
    assert await error_of(mock, "CreateSystemTag", params | {"resourceType": "VmInstanceVO"}) == {}


async def same_text_as_another_type(mock):
    mock.cloud.add("VmInstance", uuid=APPLIANCE, name="router", type="ApplianceVm", state="Running")
    for type in ("VmInstanceVO", "ApplianceVmVO"):
        await mock.call("CreateUserTag", resourceType=type, resourceUuid=APPLIANCE, tag="mine")
    assert len(mock.cloud.find("UserTag", "resourceUuid", APPLIANCE)) == 2


async def duplicate_user_tags(mock):
    body = {"params": OFFERING, "userTags": ["mine", "mine"]}
    _, answer = await outcome(mock, "POST", "/disk-offerings", body)
    details = f"Duplicated Tag[tag:mine, type:User, resourceType:DiskOfferingVO, resourceUuid:{NEW_DISK}]"
    assert (answer["error"]["code"], answer["error"]["details"]) == ("SYS.1006", details)


async def other_calls(mock):
    body = {"updateZone": {"name": "z"}, "systemTags": ["nonsense"], "userTags": ["mine"]}
    assert (await outcome(mock, "PUT", f"/zones/{ZONE}/actions", body))[0] == 200
    assert not mock.cloud.find("SystemTag", "tag", "nonsense") and not mock.cloud.find("UserTag", "resourceUuid", ZONE)


async def enforced(mock):
    await tag(inherent=True)(mock)
    error = await error_of(mock, "DeleteTag", {"uuid": TAG, "deleteMode": "Enforcing"})
    assert bool(error) == bool(mock.cloud.look("SystemTag", TAG)) == (mock.cloud.dialect.name == "server")


async def other_types(mock):
    body = {"params": OFFERING, "systemTags": ["reservedMemory::1G"]}
    assert (await outcome(mock, "POST", "/disk-offerings", body))[0] == 200
    assert len(mock.cloud.find("SystemTag", "resourceUuid", NEW_DISK)) == mock.cloud.dialect["free-system-tags"]


async def update_of_a_balancer(mock):
    await take(mock, BALANCED)
    error = await error_of(mock, "UpdateLoadBalancer", {"uuid": LB, "name": "x", "systemTags": ["separateVirtualRouterVm"]})
    assert error.get("code") == (None if mock.cloud.dialect["free-system-tags"] else "SYS.1000")


async def user_tags_of_a_zone(mock):
    _, answer = await outcome(mock, "POST", "/zones", {"params": {"name": "z"}, "userTags": ["a", "b"]})
    assert sorted(item["tag"] for item in await mock.query("user-tags", f"resourceUuid={answer['inventory']['uuid']}")) == ["a", "b"]


async def tags_of_a_host(mock):
    await tag()(mock)
    assert TAG in {item["uuid"] for item in await mock.query("system-tags", f"resourceUuid={HOST}", "resourceType=HostVO", "inherent=false")}


async def uuids_of_the_server(mock):
    """The uuids of new hosts follow from the seed: no tag of them takes one out of its sequence."""
    host = {"name": "h", "username": "root", "password": "p", "clusterUuid": named("cluster-1"), "resourceUuid": named("host-new")}
    await mock.call("AddKVMHost", managementIp="172.20.0.99", **host)
    made = mock.cloud.find("SystemTag", "resourceUuid", named("host-new"))
    assert len(made) == 9
    for item in made:
        assert item["uuid"] == zmock.uuid_from(zmock.digest(f"{named('host-new')}-HostVO-{item['tag']}"), version=3)


def of_ann(kind, step):
    """The refusal to delete a tag of an object of another account."""
    details = f"permission denied. The {kind} tag[uuid: {TAG}] refer to a resource not belonging to the account[uuid: *]"
    return Refused(as_ann("vm.num", 1, step, uuid=TAG), "ID.1002", details)


of_other_types, untagged_update = (Shown(story) for story in (other_types, update_of_a_balancer))
FACTS = (
    *facts("CreateSystemTag",
        ("refuses an unknown type first", V("SYS.1007", RESERVED | {"resourceType": "HostVOX", "resourceUuid": NOBODY, "tag": "x"}, "no resource type[HostVOX] found in tag system")),
        ("knows types by case", V("SYS.1007", RESERVED | {"resourceType": "hostVO"}, "no resource type[hostVO] found in tag system")),
        ("then refuses a tag that fits no pattern of that type", patterned("CreateSystemTag", RESERVED | {"tag": "host::reservedCpu::1"}, "no system tag matches[host::reservedCpu::1] for resourceType[HostVO]")),
        ("compares segments by case", patterned("CreateSystemTag", RESERVED | {"tag": "ReservedMemory::1G"}, "no system tag matches[ReservedMemory::1G] for resourceType[HostVO]")),
        ("counts no empty segments at the end", patterned("CreateSystemTag", RESERVED | {"tag": "reservedMemory::"}, "no system tag matches[reservedMemory::] for resourceType[HostVO]")),
        ("then runs the validators of the pattern", V("SYS.1007", {"resourceType": "VmInstanceVO", "resourceUuid": NOBODY, "tag": "hostname::a_b"}, "hostname[a_b] specified in system tag[hostname::a_b] is not a valid domain name")),
        ("refuses a second userdata", V("SYS.1007", {"resourceType": "VmInstanceVO", "resourceUuid": WEB, "tag": "userdata::b"}, f"Already have one userdata systemTag for vm[uuid: {WEB}].", tag(WEB, "VmInstanceVO", "userdata::a"))),
        ("refuses a hostname that the machine has itself", V("SYS.1007", {"resourceType": "VmInstanceVO", "resourceUuid": WEB, "tag": "hostname::web-1"}, f"conflict hostname in system tag[hostname::web-1]; there has been a VM[uuid:{WEB}] having hostname[web-1] on L3 network[uuid:{PRIVATE}]")),
        ("checks no value without a validator", answers(("CreateSystemTag", RESERVED | {"tag": "reservedMemory::abc"}), tag="reservedMemory::abc")),
        ("then refuses an object that is none", V("SYS.1007", RESERVED | {"resourceUuid": NOBODY}, MISMATCH)),
        ("refuses an object of another type", V("SYS.1007", RESERVED | {"resourceUuid": ZONE}, MISMATCH)),
        ("succeeds without an inventory for a tag that is there", answers(tag(), ("CreateSystemTag", RESERVED), inventory=ABSENT)),
        ("may be refused by a judger of the pattern", Uncovered("no pattern of the server has a judger that refuses a creation")),
        ("asks for no owner", Shown(anybody_tags)),
        ("keeps the name of a subclass, which has patterns of its own", Shown(subclass)),
        ("makes a tag that is not inherent", answers(("CreateSystemTag", RESERVED), inherent=False, type="System", resourceType="HostVO")),
    ),
    *facts("UpdateSystemTag",
        ("refuses a tag that is none", V("SYS.1003", {"uuid": NOBODY, "tag": "x"}, "*type:SystemTagVO] not found")),
        ("refuses a text that fits no pattern of the type", patterned("UpdateSystemTag", {"uuid": TAG, "tag": "for-large-DB"}, "no system tag matches[for-large-DB] for resourceType[HostVO]")),
        ("runs the validators", V("SYS.1007", {"uuid": TAG, "tag": "hostname::a_b"}, "hostname[a_b] *", tag(WEB, "VmInstanceVO", "sshkey::k"))),
        ("takes a text of another pattern", answers(tag(), ("UpdateSystemTag", {"uuid": TAG, "tag": "reservedCpu::4"}), tag="reservedCpu::4")),
        ("writes nothing for the same text", Shown(same_text)),
        ("updates an inherent tag, which stays so", Shown(stays_inherent)),
        ("updates the tags of listeners", kept_by("DeleteTag", KEPT)),
        ("asks for no owner", Shown(anybody_updates)),
    ),
    *facts("CreateUserTag",
        ("refuses an unknown type", V("SYS.1007", MINE | {"resourceType": "Host"}, "no resource type[Host] found in tag system")),
        ("fails for an object that is none", V("SYS.1000", MINE | {"resourceUuid": NOBODY}, "*a foreign key constraint fails*")),
        ("does not compare the type with that of the object", answers(("CreateUserTag", MINE | {"resourceUuid": ZONE}), resourceType="HostVO", resourceUuid=ZONE)),
        ("refuses a tag that is there", V("SYS.1006", MINE, f"Duplicated Tag[tag:mine, type:User, resourceType:HostVO, resourceUuid:{HOST}]", user_tag())),
        ("takes it for another type", Shown(same_text_as_another_type)),
        ("asks for no owner", Shown(anybody_tags)),
        ("answers the tag", answers(("CreateUserTag", MINE), type="User", tag="mine", inherent=ABSENT)),
    ),
    *facts("DeleteTag",
        ("succeeds for a tag that is none", answers(("DeleteTag", {"uuid": "nothing"}))),
        ("refuses an inherent tag", V("SYS.1006", {"uuid": TAG}, f"tag[uuid:{TAG}] is an inherent system tag, can not be removed", tag(inherent=True))),
        ("refuses it also to other accounts first", Refused(as_ann("vm.num", 1, tag(inherent=True), uuid=TAG), "SYS.1006", "*is an inherent system tag*")),
        ("refuses it also when enforced, which the manual allows", Shown(enforced)),
        ("refuses a user tag of another account's object", of_ann("user", user_tag(WEB, "VmInstanceVO"))),
        ("refuses a system tag of another account's object", of_ann("system", tag(WEB, "VmInstanceVO", "sshkey::k"))),
        ("fails for a tag of what nobody owns", Refused(as_ann("vm.num", 1, tag(), uuid=TAG), "SYS.1000", "No entity found for query")),
        ("removes tags of one's own", Shown(own_tag_is_deleted)),
        ("removes any other tag for admin", removed(tag())),
        ("removes a user tag", removed(user_tag(), type="UserTag")),
        ("fails for the eight tags of a listener", kept_by("DeleteTag", KEPT)),
        ("removes another tag of a listener", removed(*BALANCED, tag(LISTENER, "LoadBalancerListenerVO", "mine"))),
    ),
    *facts("tags of a creation",
        ("a system tag twice is one", tagged_creation(ALLOCATOR, ALLOCATOR, are=[ALLOCATOR])),
        ("a tag in other letters is the same tag", tagged_creation(ALLOCATOR + "a", ALLOCATOR + "A", are=[ALLOCATOR + "a"])),
        ("a system tag has to fit some pattern", patterned("CreateDiskOffering", OFFERING | {"systemTags": ["nonsense"]}, "no system tag matches nonsense")),
        ("a call without a type for tags fails", untagged("CreateZone", "/zones", name="z")),
        ("so does one that needs no other parameter", untagged("CreateSecurityGroup", "/security-groups", name="g")),
        ("so does an update that is a creation by its class", untagged_update),
        ("a tag that fits no pattern is refused before that", patterned("CreateZone", {"name": "z", "systemTags": ["nonsense"]}, "no system tag matches nonsense")),
        ("user tags need no type", Shown(user_tags_of_a_zone)),
        ("they are not inherent", tagged_creation(ALLOCATOR, are=[ALLOCATOR])),
        ("a tag of other types is skipped", of_other_types),
        ("what is made is rolled back", Shown(duplicate_user_tags)),
        ("a user tag twice fails the creation", Shown(duplicate_user_tags)),
        ("ephemeral tags are never stored", tagged_creation("ephemeral::shareable", user_tags=["mine"], are=["mine"])),
        ("other calls check no tags and keep none", Shown(other_calls)),
    ),
    *facts("CreateVmInstance",
        ("the tag of a machine is checked before the job", V("SYS.1007", VM | {"systemTags": ["hostname::a_b"]}, "hostname[a_b] *")),
    ),
    *facts("CreateDiskOffering",
        ("what a validator refuses fails the creation", V("SYS.1007", OFFERING | {"systemTags": [f"primaryStorage::allocator::uuid::{NOBODY}"]}, "primary storage[uuid:*] not found")),
    ),
    *facts("QuerySystemTag",
        ("shows all tags to all accounts", Shown(all_see_all_tags)),
        ("finds a tag by its object", Shown(tags_of_a_host)),
    ),
    *facts("QueryUserTag",
        ("shows all tags to all accounts", Shown(all_see_all_tags)),
    ),
    *facts("tags of the server",
        ("an inherent tag has the uuid of its object and text", Shown(uuids_of_the_server)),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
