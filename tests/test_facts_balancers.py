"""What the real server does with load balancers, listeners and certificates, fact by fact, in both dialects."""

import pytest
from asking import each, outcome
from facts import Refused, Shown, Uncovered, chain, changed, check, error_of, take
from test_facts_l3 import L3
from test_facts_nics import nothing
from test_facts_services import (
    CI_NIC,
    DELETE_LB,
    DELETE_VIP,
    DETACH_NIC,
    LB,
    LB2,
    MAKE_VIP,
    MAKE_VIP2,
    OFFICE_NIC,
    OLD_NIC,
    PORT,
    ROUTED,
    ROUTED_L3,
    ROUTER_VM,
    ROUTER_VM2,
    SEVERAL,
    SHORT,
    TAKEN,
    VIP,
    VIP2,
    WEB2_NIC,
    WEB_NIC,
    balance,
    balancer,
    broken,
    eip,
    failing_removal,
    found,
    l3_nic,
    listener,
    nics,
    offering,
    on_l3,
    poor,
    router,
    rule,
    unchanged,
    vip,
    without,
)  # fmt: skip
from test_facts_vm import (
    ABSENT,
    CI,
    PRIVATE,
    WEB2,
    V,
    act,
    answers,
    configured,
    facts,
    gone,
    leaves,
)

from zmock import named

CERTIFICATE, CERTIFICATE2, PORT2 = map(named, ("certificate-1", "certificate-2", "listener-2"))
BALANCED = (MAKE_VIP, balancer(), listener())
SERVED = (*BALANCED, balance())
OF_PORT, OF_LB = ("LoadBalancerListener", PORT), ("LoadBalancer", LB)
NEW_PORT = listener(resourceUuid=PORT2, uuid=PORT2)[1]
HTTPS = listener(443, protocol="https")
CERTIFY = ("CreateCertificate", {"name": "c", "certificate": "pem", "resourceUuid": CERTIFICATE})
ADD_IT = ("AddCertificateToLoadBalancerListener", {"listenerUuid": PORT, "certificateUuid": CERTIFICATE})
REMOVE_IT = ("RemoveCertificateFromLoadBalancerListener", {"listenerUuid": PORT, "certificateUuid": CERTIFICATE})
DELETE_IT, DELETE_PORT = ("DeleteCertificate", {"uuid": CERTIFICATE}), ("DeleteLoadBalancerListener", {"uuid": PORT})
REFRESH = ("RefreshLoadBalancer", {"uuid": LB})
USED = f"Current port range[80, 80] is conflicted with used port range [70, 90] with vip[uuid: {VIP}] protocol: tcp "
DEFAULTS = ["balancerAlgorithm::roundrobin", "connectionIdleTimeout::60", "healthCheckInterval::5", "healthCheckTarget::tcp:default", "healthCheckTimeout::2",
            "healthyThreshold::2", "maxConnection::5000", "unhealthyThreshold::2"]  # fmt: skip


def unbalance(*nics):
    return ("RemoveVmNicFromLoadBalancer", {"listenerUuid": PORT, "vmNicUuids": list(nics or [WEB2_NIC])})


def tagged_listener(*tags, **more):
    """A call that makes a listener with system tags."""
    return listener(**more)[1] | {"systemTags": list(tags)}


def wrong_tag(tag, details):
    return V("SYS.1007", tagged_listener(tag), details, MAKE_VIP, balancer())


def no_nic(code, details, *steps, nics=(WEB2_NIC,)):
    """A refusal of nics; each may be worked out from the mock."""
    uuids = nics if callable(nics) else list(nics)
    return V(code, {"listenerUuid": PORT, "vmNicUuids": uuids}, details, *BALANCED, *steps)


def statuses(*steps, are):
    """A story: the listener has nics with these statuses."""

    async def story(mock):
        await take(mock, [*BALANCED, *steps])
        assert [ref["status"] for ref in mock.cloud.look(*OF_PORT)["vmNicRefs"]] == are

    return Shown(story)


# stories


async def tags_of_a_listener(mock):
    await take(mock, [MAKE_VIP, balancer(), configured("loadBalancer", "maxConnection", "7")])
    body = {"params": listener()[1], "systemTags": ["balancerAlgorithm::source"], "userTags": ["mine"]}
    status, _ = await outcome(mock, "POST", f"/load-balancers/{LB}/listeners", body)
    found = sorted(tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", PORT))
    assert status == 200 and found == ["balancerAlgorithm::source", *DEFAULTS[1:6], "maxConnection::7", DEFAULTS[7]]
    assert not mock.cloud.find("UserTag", "resourceUuid", PORT)


async def default_tags(mock):
    await take(mock, BALANCED)
    assert sorted(tag["tag"] for tag in mock.cloud.find("SystemTag", "resourceUuid", PORT)) == DEFAULTS


async def tags_go_with_a_listener(mock):
    await take(mock, [*BALANCED, DELETE_PORT])
    assert not mock.cloud.find("SystemTag", "resourceUuid", PORT) and not mock.cloud.look(*OF_PORT)


async def pending_nics(mock):
    await take(mock, BALANCED)
    mock.rule(api="AddVmNicToLoadBalancer", delay=4, times=1)
    status, answer = await mock.request("POST", f"/load-balancers/listeners/{PORT}/vm-instances/nics", {"params": {"vmNicUuids": [WEB2_NIC]}})
    await mock.advance(1)
    assert status == 202 and [ref["status"] for ref in mock.cloud.look(*OF_PORT)["vmNicRefs"]] == ["Pending"]
    await mock.advance(9)
    assert [ref["status"] for ref in mock.cloud.look(*OF_PORT)["vmNicRefs"]] == ["Active"]


async def nothing_of_a_failed_addition(mock):
    await take(mock, BALANCED)
    mock.rule(api="AddVmNicToLoadBalancer", then={"error": "SYS.1006", "stage": "work"})
    assert [error["code"] for error in chain(await error_of(mock, *balance()))] == ["SYS.1006"]
    assert mock.cloud.look(*OF_PORT)["vmNicRefs"] == [] and "providerType" not in mock.cloud.look(*OF_LB)


async def nic_of_a_listener(mock):
    (ref,) = (await take(mock, SERVED))["inventory"]["vmNicRefs"]
    assert {*ref} == {"id", "listenerUuid", "vmNicUuid", "status", "createDate", "lastOpDate"}
    assert (ref["listenerUuid"], ref["vmNicUuid"], ref["status"]) == (PORT, WEB2_NIC, "Active")


async def nothing_to_remove(mock):
    """The server never answers; the dialect manual fails at once."""
    await take(mock, BALANCED)
    before = mock.clock.now()
    with pytest.raises(RuntimeError) as error:
        await mock.call("RemoveVmNicFromLoadBalancer", listenerUuid=PORT, vmNicUuids=[WEB2_NIC])
    code, seconds = ("SYS.1001", 300) if mock.cloud.dialect.name == "server" else ("SYS.1006", 0)
    assert str(error.value).startswith(code) and mock.clock.now() - before == pytest.approx(seconds, abs=1)


async def listeners_of_a_certificate(mock):
    await take(mock, [MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT])
    (shown,) = await mock.query("certificates", f"uuid={CERTIFICATE}")
    assert [ref["listenerUuid"] for ref in shown["listeners"]] == [PORT]


FACTS = (
    *facts("CreateLoadBalancer",
        ("refuses more than the quota", Refused(poor("loadBalancer.num", changed("Vip", VIP, useFor="Eip"), **balancer()[1]), "ID.1003", SHORT % "loadBalancer.num")),
        ("refuses a virtual IP with an EIP", V("SYS.1007", balancer()[1], "the " + TAKEN % "Eip", MAKE_VIP, eip())),
        ("looks at no state of the virtual IP", leaves(MAKE_VIP, changed("Vip", VIP, state="Disabled"), balancer(), of=OF_LB, state="Enabled")),
        ("takes a virtual IP with another one", vip(balancer(), balancer(LB2), useFor="LoadBalancer")),
        ("takes one with port forwarding", vip(rule(), balancer(), useFor="PortForwarding,LoadBalancer")),
        ("tells the virtual IP its use only", vip(balancer(), useFor="LoadBalancer")),
        ("leaves nothing if the virtual IP fails", Refused(broken("CreateLoadBalancer", MAKE_VIP, **balancer()[1]), "SYS.1006")),
        ("is Enabled, and shows no provider", answers(MAKE_VIP, balancer(), state="Enabled", providerType=ABSENT, createDate=ABSENT)),
        ("answers no listeners", answers(MAKE_VIP, balancer(), listeners=[])),
    ),
    *facts("DeleteLoadBalancer",
        ("succeeds for one that is gone", nothing(MAKE_VIP, balancer(), DELETE_LB, DELETE_LB)),
        ("has SYS.1004 around errors", Shown(failing_removal("DeleteLoadBalancer", LB, *BALANCED))),
        ("deletes its listeners", gone(*SERVED, DELETE_LB, of=OF_PORT)),
        ("frees the virtual IP, which stays", vip(balancer(), listener(), balance(), DELETE_LB)),
        ("leaves the use to another one", vip(balancer(), listener(), balance(), balancer(LB2), DELETE_LB, useFor="LoadBalancer", **ROUTED)),
        ("answers nothing", nothing(*SERVED, DELETE_LB)),
    ),
    *facts("UpdateLoadBalancer",
        ("answers the load balancer", answers(MAKE_VIP, balancer(), ("UpdateLoadBalancer", {"uuid": LB, "name": "new", "description": "d"}), name="new", description="d", lastOpDate=ABSENT)),
        ("writes nothing if nothing changes", unchanged("load-balancers", "UpdateLoadBalancer", LB, balancer())),
    ),
    *facts("RefreshLoadBalancer",
        ("fails for one that never had a nic", V("SYS.1000", REFRESH[1], "providerType cannot be null", *BALANCED)),
        ("answers one that had a nic", answers(*SERVED, unbalance(), REFRESH, uuid=LB)),
    ),
    *facts("CreateLoadBalancerListener",
        ("takes the port of the load balancer for that of machines", answers(*BALANCED, instancePort=80)),
        ("takes tcp for the protocol", answers(*BALANCED, protocol="tcp")),
        ("has eight tags", Shown(default_tags)),
        ("has those of the call, and the rest as configured", Shown(tags_of_a_listener)),
        ("refuses more than the quota", Refused(poor("listener.num", balancer(), **listener(certificateUuid=None)[1]), "ID.1003", SHORT % "listener.num")),
        ("refuses a port of the load balancer", V("SYS.1007", NEW_PORT, f"conflict loadBalancerPort[80], a listener[uuid:{PORT}] has used that port", *BALANCED)),
        ("refuses a port of another one on the virtual IP", V("SYS.1007", NEW_PORT | {"loadBalancerUuid": LB2}, f"conflict loadBalancerPort[80], a vip[uuid:{VIP}] has used that port", *BALANCED, balancer(LB2))),
        ("takes a port of another virtual IP", answers(*BALANCED, MAKE_VIP2, balancer(LB2, VIP2), listener(uuid=PORT2, lb=LB2), uuid=PORT2)),
        ("refuses a port of a rule", V("SYS.1006", listener()[1], USED, MAKE_VIP, balancer(), rule(70, vipPortEnd=90))),
        ("takes it for http", answers(MAKE_VIP, balancer(), rule(80), listener(protocol="http"), protocol="http")),
        ("takes it if the rule is for UDP", answers(MAKE_VIP, balancer(), rule(80, protocolType="UDP"), listener(), protocol="tcp")),
        ("refuses a wrong algorithm", wrong_tag("balancerAlgorithm::x", "invalid balance algorithm[x], valid algorithms are [roundrobin, leastconn, source]")),
        ("refuses a wrong unhealthy threshold", wrong_tag("unhealthyThreshold::x", "invalid unhealthy threshold[unhealthyThreshold::x], x is not a number")),
        ("refuses a wrong healthy threshold", wrong_tag("healthyThreshold::x", "invalid healthy threshold[healthyThreshold::x], x is not a number")),
        ("refuses a wrong timeout", wrong_tag("healthCheckTimeout::x", "invalid healthy timeout[healthCheckTimeout::x], x is not a number")),
        ("refuses a wrong idle timeout", wrong_tag("connectionIdleTimeout::x", "invalid connection idle timeout[connectionIdleTimeout::x], x is not a number")),
        ("refuses a wrong interval", wrong_tag("healthCheckInterval::x", "invalid health check interval[healthCheckInterval::x], x is not a number")),
        ("refuses a wrong number of connections", wrong_tag("maxConnection::x", "invalid max connection[maxConnection::x], x is not a number")),
        ("takes a negative number", answers(MAKE_VIP, balancer(), lambda mock: outcome(mock, "POST", f"/load-balancers/{LB}/listeners", {"params": listener()[1], "systemTags": ["maxConnection::-1"]}), ("UpdateLoadBalancerListener", {"uuid": PORT}), uuid=PORT)),
        ("refuses a target without a port", wrong_tag("healthCheckTarget::tcp", "invalid health target[healthCheckTarget::tcp], the format is targetCheckProtocol:port, for example, tcp:default")),
        ("refuses a target with another protocol", wrong_tag("healthCheckTarget::TCP:80", "invalid health target[healthCheckTarget::TCP:80], *")),
        ("refuses a target with a wrong port", wrong_tag("healthCheckTarget::tcp:0", "*[healthCheckTarget::tcp:0], *")),
        ("refuses a target with a port that is no number", wrong_tag("healthCheckTarget::tcp:x", "*[healthCheckTarget::tcp:x], *")),
        ("tells which part of a target is wrong", Uncovered("all wrong targets have the text on their format")),
        ("stays after a wrong tag", Uncovered("tags are checked before anything is made")),
        ("fails for a tag of another type", Uncovered("tags of other types are ignored")),
        ("needs no certificate for https", answers(MAKE_VIP, balancer(), HTTPS, protocol="https", certificateRefs=[])),
        ("keeps a certificate for any protocol", found("load-balancers/listeners", f"certificate.certificateUuid={CERTIFICATE}", steps=[balancer(), CERTIFY, listener(certificateUuid=CERTIFICATE)])),
        ("answers no nics", answers(*BALANCED, vmNicRefs=[], certificateRefs=[])),
    ),
    *facts("DeleteLoadBalancerListener",
        ("refuses one that is gone", V("SYS.1003", DELETE_PORT[1], "*", *BALANCED, DELETE_PORT)),
        ("takes its nics, certificates and tags along", Shown(tags_go_with_a_listener)),
        ("answers the load balancer", answers(*SERVED, DELETE_PORT, uuid=LB, listeners=[])),
        ("leaves the virtual IP", vip(balancer(), listener(), balance(), DELETE_PORT, useFor="LoadBalancer", **ROUTED)),
    ),
    *facts("UpdateLoadBalancerListener",
        ("answers the listener", answers(*BALANCED, ("UpdateLoadBalancerListener", {"uuid": PORT, "name": "new"}), name="new", uuid=PORT)),
        ("answers the date before", Uncovered("the answer has the new date, as that of every update")),
    ),
    *facts("AddVmNicToLoadBalancer",
        ("refuses a network without the service", no_nic("SYS.1006", f"L3 networks[uuids:[{PRIVATE}]] of the vm nics has no network service[LoadBalancer] enabled", without("LoadBalancer"))),
        ("refuses nics that are there, and names these", no_nic("SYS.1006", f"the vm nics[uuid:[{WEB2_NIC}]] are already on the load balancer listener[uuid:{PORT}]", balance(), nics=[WEB_NIC, WEB2_NIC])),
        ("refuses nics behind two routers", no_nic("SYS.1007", f"*and attached vmnics are not on the same vrouter, they are on vrouters[uuids:[{', '.join(sorted((ROUTER_VM, ROUTER_VM2)))}]]", *SEVERAL, nics=lambda mock: [WEB2_NIC, l3_nic(mock)])),
        ("refuses one behind another router than those before", no_nic("SYS.1007", "*are not on the same vrouter*", *SEVERAL, balance(), nics=lambda mock: [l3_nic(mock)])),
        ("refuses one behind another router than the peers", no_nic("SYS.1007", f"new add vm nics[uuids:[{WEB2_NIC}]] and peer l3s[uuids:[{L3}]] of loadbalancer[uuid: {LB}]'s vip are not on the same vrouter, they are on vrouters[uuids:[*]]", *SEVERAL, changed("Vip", VIP, peerL3NetworkUuids=[L3]))),
        ("refuses another provider than that of the first nic", no_nic("SYS.1006", "service provider of the vip*has been set to vrouter", changed("Vip", VIP, serviceProvider="vrouter"))),
        ("takes machines in any state", statuses(changed("VmInstance", WEB2, state="Unknown"), balance(), are=["Active"])),
        ("takes a nic twice", statuses(balance(WEB2_NIC, WEB2_NIC), are=["Active", "Active"])),
        ("shows Pending nics while it works", Shown(pending_nics)),
        ("has the provider of the first nic for good", leaves(*SERVED, unbalance(), of=OF_LB, providerType="VirtualRouter")),
        ("tells the virtual IP provider and peer", vip(balancer(), listener(), balance(), useFor="LoadBalancer", **ROUTED)),
        ("tells it several peers", vip(*ROUTED_L3, balancer(), listener(), balance(), lambda mock: take(mock, [balance(l3_nic(mock))]), useFor="LoadBalancer", serviceProvider="VirtualRouter", peerL3NetworkUuids=[PRIVATE, L3])),
        ("makes nics of stopped machines Active", statuses(balance(CI_NIC), are=["Active"])),
        ("leaves nothing if it fails", Shown(nothing_of_a_failed_addition)),
        ("answers the listener", answers(*SERVED, uuid=PORT)),
        ("answers its nics", Shown(nic_of_a_listener)),
    ),
    *facts("RemoveVmNicFromLoadBalancer",
        ("never answers if the listener has none of the nics", Shown(nothing_to_remove)),
        ("removes those that it has", statuses(balance(), balance(WEB_NIC), unbalance(WEB2_NIC, CI_NIC), are=["Active"])),
        ("leaves provider and peers", vip(balancer(), listener(), balance(), unbalance(), useFor="LoadBalancer", **ROUTED)),
        ("answers the load balancer", answers(*SERVED, unbalance(), uuid=LB)),
    ),
    *facts("GetCandidateVmNicsForLoadBalancer",
        ("answers nics of running and stopped machines", nics(balancer(), listener(), listenerUuid=PORT, are=[WEB2_NIC, CI_NIC], without=[OFFICE_NIC, OLD_NIC])),
        ("answers none on a network without the service", nics(balancer(), listener(), without("LoadBalancer"), listenerUuid=PORT)),
        ("answers those behind the router of the peers", nics(*SEVERAL, balancer(), listener(), changed("Vip", VIP, peerL3NetworkUuids=[PRIVATE]), listenerUuid=PORT, are=[WEB2_NIC], without=[])),
        ("answers none behind another one", nics(*SEVERAL, balancer(), listener(), changed("Vip", VIP, peerL3NetworkUuids=[L3]), listenerUuid=PORT, are=[l3_nic], without=[WEB2_NIC])),
        ("answers none on the listener", nics(balancer(), listener(), balance(), listenerUuid=PORT, are=[WEB_NIC], without=[WEB2_NIC])),
        ("answers those behind a router on the public network", nics(router(), balancer(), listener(), listenerUuid=PORT, are=[WEB2_NIC])),
        ("answers none behind a router elsewhere", nics(on_l3, router(public=L3), balancer(), listener(), listenerUuid=PORT)),
        ("answers none without any router, where there could be one", nics(offering, balancer(), listener(), listenerUuid=PORT)),
    ),
    *facts("QueryLoadBalancer",
        ("finds it by its listeners and its virtual IP", found("load-balancers", f"listeners.uuid={PORT}", f"vip.uuid={VIP}", steps=BALANCED[1:])),
    ),
    *facts("QueryLoadBalancerListener",
        ("finds it by its load balancer and its nics", found("load-balancers/listeners", f"loadBalancer.uuid={LB}", f"vmNic.uuid={WEB2_NIC}", steps=SERVED[1:])),
    ),
    *facts("CreateCertificate",
        ("takes any text", answers(CERTIFY, certificate="pem", listeners=[])),
    ),
    *facts("UpdateCertificate",
        ("answers the certificate", answers(CERTIFY, ("UpdateCertificate", {"uuid": CERTIFICATE, "name": "new"}), name="new", certificate="pem")),
        ("writes nothing if nothing changes", unchanged("certificates", "UpdateCertificate", CERTIFICATE, CERTIFY)),
    ),
    *facts("DeleteCertificate",
        ("succeeds for one that is gone", nothing(CERTIFY, DELETE_IT, DELETE_IT)),
        ("deletes one that is used", gone(MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, DELETE_IT, of=("Certificate", CERTIFICATE))),
        ("takes it from listeners", leaves(MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, DELETE_IT, of=OF_PORT, certificateRefs=[])),
        ("answers the error of a refreshed load balancer", Uncovered("no backend is refreshed, so that none fails")),
        ("answers nothing", nothing(CERTIFY, DELETE_IT)),
    ),
    *facts("AddCertificateToLoadBalancerListener",
        ("refuses another protocol than https", V("SYS.1007", ADD_IT[1], "loadbalancer listener with type tcp does not need certificate", *BALANCED, CERTIFY)),
        ("refuses a second one, and names it", V("SYS.1007", ADD_IT[1], f"loadbalancer listener [uuid:{CERTIFICATE}] already had certificate", MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT)),
        ("removes it if the refresh fails", Refused(broken("AddCertificateToLoadBalancerListener", MAKE_VIP, balancer(), HTTPS, CERTIFY, **ADD_IT[1]), "SYS.1006")),
        ("answers the listener", answers(MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, uuid=PORT)),
    ),
    *facts("RemoveCertificateFromLoadBalancerListener",
        ("refuses one that is not there", V("SYS.1007", REMOVE_IT[1], f"certificate [uuid:{CERTIFICATE}] is not added to loadbalancer listener [uuid:{PORT}]", *BALANCED, CERTIFY)),
        ("removes it", answers(MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, REMOVE_IT, uuid=PORT, certificateRefs=[])),
        ("puts it back if the refresh fails", Refused(broken("RemoveCertificateFromLoadBalancerListener", MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, **REMOVE_IT[1]), "SYS.1006")),
    ),
    *facts("QueryCertificate",
        ("finds it by its listeners", found("certificates", f"listeners.listenerUuid={PORT}", steps=[balancer(), HTTPS, CERTIFY, ADD_IT])),
        ("shows them", Shown(listeners_of_a_certificate)),
    ),
    *facts("VmInstance",
        ("is Active again after a start", statuses(balance(CI_NIC), act("StartVmInstance", CI), are=["Active"])),
        ("is Inactive after a stop", statuses(balance(), act("StopVmInstance", WEB2), are=["Inactive"])),
        ("stays Active when it moves or pauses", statuses(balance(), act("MigrateVm", WEB2), act("PauseVmInstance", WEB2), act("ResumeVmInstance", WEB2), are=["Active"])),
        ("looks at no state of the load balancer", statuses(changed("LoadBalancer", LB, state="Disabled"), balance(), are=["Active"])),
        ("leaves listeners when it is destroyed", statuses(balance(), act("DestroyVmInstance", WEB2), are=[])),
        ("leaves them when it is destroyed after a stop", statuses(balance(), act("StopVmInstance", WEB2), act("DestroyVmInstance", WEB2), are=[])),
        ("leaves them with its nic", statuses(balance(), DETACH_NIC, are=[])),
        ("leaves the virtual IP", vip(balancer(), listener(), balance(), act("DestroyVmInstance", WEB2), useFor="LoadBalancer", **ROUTED)),
    ),
    *facts("cascades",
        ("load balancers and listeners go with the virtual IP", gone(*SERVED, DELETE_VIP, of=OF_PORT)),
        ("certificates stay", leaves(MAKE_VIP, balancer(), HTTPS, CERTIFY, ADD_IT, DELETE_VIP, of=("Certificate", CERTIFICATE), name="c")),
    ),
)  # fmt: skip


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
