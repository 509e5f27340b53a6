"""A long story of an organization, a virtual id and two projects over HTTP, and what projects refuse."""

import json

import pytest
from asking import each, outcome
from facts import chain
from test_stories import CENTOS, DELAY, DISK, NFS, PRIVATE, SMALL, Client
from test_stories_identity import Cast

from zmock import ADMIN, SHA512_OF_PASSWORD, serve

PASSWORD = {"password": SHA512_OF_PASSWORD}
MACHINE = {"instanceOfferingUuid": SMALL, "imageUuid": CENTOS, "l3NetworkUuids": [PRIVATE], "primaryStorageUuidForRootVolume": NFS}
IAM2 = "org.zstack.iam2.api"
VM_APIS = {"effect": "Allow", "actions": ["org.zstack.header.vm.**"]}
CREATE_VM, CREATE_VOLUME = "org.zstack.header.vm.APICreateVmInstanceMsg", "org.zstack.header.volume.APICreateDataVolumeMsg"


class Company(Cast):
    """Virtual ids that use one client, each in the project that it has entered last."""

    async def member(self, name, **params):
        made = await self("admin", "CreateIAM2VirtualID", name=name, **PASSWORD, **params)
        session = await self("admin", "LoginIAM2VirtualID", name=name, **PASSWORD)
        self.uuids[name], self.sessions[name] = made["uuid"], session["uuid"]
        return session

    async def enter(self, name, project):
        """Return the session within a project, which goes on with what the virtual id calls."""
        session = await self(name, "LoginIAM2Project", projectName=project)
        self.sessions[name] = session["uuid"]
        return session

    async def project(self, name, **params):
        made = await self("admin", "CreateIAM2Project", name=name, **params)
        self.uuids[name] = made["uuid"]
        await self("admin", "ShareResource", resourceUuids=[SMALL, DISK, CENTOS, PRIVATE], accountUuids=[made["linkedAccountUuid"]])
        return made


@pytest.fixture(params=["manual", "server"])
async def company(request):
    async with serve(dialect=request.param, delay=DELAY) as mock:
        await mock.login()
        yield Company(Client(mock))


async def test_a_virtual_id_works_in_a_project_until_its_quota_refuses(company):
    acme = await company("admin", "CreateIAM2Organization", name="acme", type="Company")
    lab = await company("admin", "CreateIAM2Organization", name="lab", type="Department", parentUuid=acme["uuid"])
    role = await company("admin", "CreateRole", name="machines", statements=[VM_APIS])
    mill = await company.project("mill", quota={"vm.num": 1}, attributes=[{"name": "cost centre", "value": "17"}])
    assert (mill["state"], [attribute["type"] for attribute in mill["attributes"]]) == ("Enabled", ["Customized"])
    session = await company.member("ann", organizationUuid=lab["uuid"])
    ann, account = company.uuids["ann"], mill["linkedAccountUuid"]
    assert (session["accountUuid"], session["userUuid"]) == (ann, ann)
    await company("admin", "AddAttributesToIAM2Organization", uuid=lab["uuid"], attributes=[{"name": "__OrganizationSupervisor__", "value": ann}])
    assert (await company.look("ann", "iam2/organizations", lab["uuid"]))["attributes"][0]["type"] == "System"
    assert await company.names("ann", f"iam2/virtual-ids?q=organizations.uuid={lab['uuid']}") == ["ann"]

    await company.fails("ann", "ID.1000: virtual ID[name:ann] not belonging to the project[name:mill]", "LoginIAM2Project", projectName="mill")
    assert (await company("ann", "GetIAM2ProjectsOfVirtualID"))["inventories"] == []
    await company("admin", "AddIAM2VirtualIDsToProject", projectUuid=mill["uuid"], virtualIDUuids=[ann], roleUuids=[role["uuid"]])
    assert [project["name"] for project in (await company("ann", "GetIAM2ProjectsOfVirtualID"))["inventories"]] == ["mill"]
    await company.fails("ann", "SYS.1006: operation is denied by default", "CreateVmInstance", name="outside", **MACHINE)
    session = await company.enter("ann", "mill")
    assert (session["accountUuid"], session["userUuid"]) == (account, ann)
    vm = await company("ann", "CreateVmInstance", name="mill-1", **MACHINE)
    await company.fails("ann", f"ID.1003: *account[uuid: {account}] exceeds a quota[name: vm.num, value: 1]*", "CreateVmInstance", name="mill-2", **MACHINE)
    await company.fails("ann", "SYS.1006: operation is denied by default", "CreateDataVolume", name="disk", diskOfferingUuid=DISK)
    await company.fails("ann", "SYS.1006: operation is denied by default", "CreateZone", name="z")
    owners = (await company("admin", "GetResourceAccount", resourceUuids=[vm["uuid"]]))["inventories"]
    assert owners[vm["uuid"]]["name"] == "mill"

    await company.project("blog")
    await company("admin", "AddIAM2VirtualIDsToProject", projectUuid=company.uuids["blog"], virtualIDUuids=[ann])
    await company.enter("ann", "blog")
    assert await company.names("ann", "vm-instances") == [] and await company.names("ann", "iam2/projects") == ["blog"]
    await company.fails("ann", "SYS.1006: permission denied*", "StopVmInstance", uuid=vm["uuid"])
    await company.enter("ann", "mill")
    assert await company.names("ann", "vm-instances") == ["mill-1"]

    uuid = {"uuid": mill["uuid"]}
    await company("admin", "StopAllResourcesInIAM2Project", **uuid)
    assert (await company.look("ann", "vm-instances", vm["uuid"]))["state"] == "Stopped"
    await company.fails("admin", f"SYS.1006: the project[uuid: {mill['uuid']}, name:mill] is in state of Enabled which disallows the operation[class {IAM2}.APIRecover*",
                        "RecoverIAM2Project", **uuid)  # fmt: skip
    await company("admin", "DeleteIAM2Project", **uuid)
    assert (await company.look("admin", "iam2/projects", mill["uuid"]))["state"] == "Deleted"
    await company.fails("ann", "ID.1001: Session expired", "StartVmInstance", uuid=vm["uuid"])
    await company("admin", "LoginIAM2VirtualID", name="ann", **PASSWORD)
    company.sessions["ann"] = (await company("admin", "LoginIAM2VirtualID", name="ann", **PASSWORD))["uuid"]
    await company.fails("ann", "SYS.1006: login is prohibited because the project is in state of Deleted", "LoginIAM2Project", projectName="mill")
    assert (await company("admin", "RecoverIAM2Project", **uuid))["state"] == "Enabled"
    await company.enter("ann", "mill")
    assert (await company("ann", "StartVmInstance", uuid=vm["uuid"]))["state"] == "Running"
    await company("admin", "DeleteIAM2Project", **uuid)
    await company("admin", "ExpungeIAM2Project", **uuid)
    assert await company.look("admin", "iam2/projects", mill["uuid"]) is None and await company.look("admin", "accounts", account) is None
    assert (await company.look("admin", "vm-instances", vm["uuid"]))["state"] == "Destroyed"


async def test_who_leads_a_project_forms_groups_whose_roles_count_there_only(company):
    blog = await company.project("blog")
    mill = await company.project("mill")
    await company.member("eve", projectUuid=blog["uuid"], attributes=[{"name": "__ProjectAdmin__", "value": blog["uuid"]}])
    await company.member("bob", projectUuid=mill["uuid"])
    eve, bob = company.uuids["eve"], company.uuids["bob"]
    await company.enter("eve", "blog")
    await company("eve", "CreateDataVolume", name="disk", diskOfferingUuid=DISK)
    group = await company("eve", "CreateIAM2VirtualIDGroup", projectUuid=blog["uuid"], name="writers")
    role = await company("eve", "CreateRole", name="machines", statements=[VM_APIS])
    await company("eve", "AddRolesToIAM2VirtualIDGroup", groupUuid=group["uuid"], roleUuids=[role["uuid"]])
    await company.fails("eve", f"SYS.1006: *is not the owner of the resource[uuid:{mill['uuid']}, type:IAM2ProjectVO]",
                        "CreateIAM2VirtualIDGroup", projectUuid=mill["uuid"], name="spies")  # fmt: skip
    outside = f"SYS.1007: virtual ids[{bob}] not in the project the group[uuid:{group['uuid']}] belongs to"
    await company.fails("eve", outside, "AddIAM2VirtualIDsToGroup", groupUuid=group["uuid"], virtualIDUuids=[eve, bob])
    await company("eve", "AddIAM2VirtualIDsToProject", projectUuid=blog["uuid"], virtualIDUuids=[bob])
    await company.enter("bob", "blog")
    await company.fails("bob", "SYS.1006: operation is denied by default", "CreateVmInstance", name="v", **MACHINE)
    await company("eve", "AddIAM2VirtualIDsToGroup", groupUuid=group["uuid"], virtualIDUuids=[bob])
    assert await company.names("bob", f"iam2/virtual-ids?q=groups.uuid={group['uuid']}") == ["bob"]
    await company("bob", "CreateVmInstance", name="v", **MACHINE)
    await company.enter("bob", "mill")
    await company.fails("bob", "SYS.1006: operation is denied by default", "CreateVmInstance", name="v", **MACHINE)

    await company.fails("eve", f"SYS.1007: virtual ID[uuid:{eve}] is project admin that cannot be removed from the project",
                        "RemoveIAM2VirtualIDsFromProject", projectUuid=blog["uuid"], virtualIDUuids=[bob, eve])  # fmt: skip
    await company.enter("bob", "blog")
    await company("admin", "ChangeRoleState", uuid=role["uuid"], stateEvent="disable")
    await company.fails("bob", "SYS.1006: operation is denied by default", "CreateVmInstance", name="v", **MACHINE)
    await company("eve", "RemoveIAM2VirtualIDsFromProject", projectUuid=blog["uuid"], virtualIDUuids=[bob])
    await company.fails("bob", "ID.1001: Session expired", "QueryVmInstance")
    assert await company.names("eve", f"iam2/virtual-ids?q=groups.uuid={group['uuid']}") == []


async def test_a_virtual_id_changes_itself_and_a_disabled_one_is_shut_out(company):
    await company.member("ann")
    await company.member("bob")
    ann = company.uuids["ann"]
    other = "b" * 128
    await company("ann", "UpdateIAM2VirtualID", uuid=ann, name="anna", password=other)
    await company.fails("ann", "SYS.1006: only admin and the virtual ID itself can do the update", "UpdateIAM2VirtualID", uuid=company.uuids["bob"], name="b")
    await company.fails("admin", "ID.1000: wrong virtual ID[name:anna], not existing or wrong password", "LoginIAM2VirtualID", name="anna", **PASSWORD)
    company.sessions["ann"] = (await company("admin", "LoginIAM2VirtualID", name="anna", password=other))["uuid"]
    await company("admin", "ChangeIAM2VirtualIDState", uuid=ann, stateEvent="disable")
    await company.fails("ann", "ID.1001: Session expired", "QueryVmInstance")
    await company.fails("admin", "ID.1000: virtual ID[name:anna] is disabled", "LoginIAM2VirtualID", name="anna", password=other)
    await company("admin", "DeleteIAM2VirtualID", uuid=company.uuids["bob"])
    await company.fails("bob", "ID.1001: Session expired", "QueryVmInstance")


async def test_a_platform_admin_acts_as_admin(company):
    assert (await company.member("root", attributes=[{"name": "__PlatformAdmin__"}]))["accountUuid"] == ADMIN
    zone = await company("root", "CreateZone", name="z")
    role = await company("root", "CreateRole", name="no zones", statements=[{"effect": "Deny", "actions": ["org.zstack.header.zone.APIDeleteZoneMsg"]}])
    await company("root", "AddRolesToIAM2VirtualID", virtualIDUuid=company.uuids["root"], roleUuids=[role["uuid"]])
    await company.fails("root", f"SYS.1006: the operation is denied by the policy[uuid:{role['uuid']}]", "DeleteZone", uuid=zone["uuid"])
    root = await company.look("admin", "iam2/virtual-ids", company.uuids["root"])
    await company("admin", "RemoveAttributesFromIAM2VirtualID", uuid=root["uuid"], attributeUuids=[root["attributes"][0]["uuid"]])
    await company.fails("root", "ID.1001: Session expired", "CreateZone", name="y")


async def test_an_answer_tells_which_apis_a_virtual_id_may_call(company):
    role = await company("admin", "CreateRole", name="machines", statements=[VM_APIS])
    mill = await company.project("mill")
    await company.member("ann", projectUuid=mill["uuid"])
    await company("admin", "AddRolesToIAM2VirtualID", virtualIDUuid=company.uuids["ann"], roleUuids=[role["uuid"]])
    await company.enter("ann", "mill")
    question = json.dumps({"apiName": CREATE_VM, "body": {"name": "v"}})
    answer = await company("ann", "GetIAM2VirtualIDAPIPermission", apisToCheck=[question, CREATE_VOLUME])
    assert (answer["permissions"], answer["noPermission"]) == ({CREATE_VM: {"allow": True}, CREATE_VOLUME: {"allow": False}}, False)
    everything = await company("ann", "GetIAM2VirtualIDAPIPermission")
    assert len(everything["permissions"]) > 800 and everything["permissions"][CREATE_VM] == {"allow": True}
    await company.fails("ann", "SYS.1007: x is not an API", "GetIAM2VirtualIDAPIPermission", apisToCheck="x")
    names = [attribute["name"] for attribute in (await company("ann", "GetIAM2SystemAttributes"))["inventories"]]
    assert {"__ProjectAdmin__", "__PlatformAdmin__"} <= {*names}


async def test_a_template_gives_its_attributes_and_quotas_to_projects(company):
    mill = await company.project("mill", quota={"vm.num": 3}, attributes=[{"name": "cost centre", "value": "17"}])
    template = await company("admin", "CreateIAM2ProjectTemplateFromProject", projectUuid=mill["uuid"], name="like mill")
    assert template["template"]["attributes"] == [{"name": "cost centre", "value": "17"}] and template["template"]["quota"]["vm.num"] == 3
    changed = await company("admin", "UpdateIAM2ProjectTemplate", uuid=template["uuid"], quota={"vm.num": 5})
    assert changed["template"]["quota"] == {"vm.num": 5} and changed["template"]["attributes"] == template["template"]["attributes"]
    blog = await company("admin", "CreateIAM2ProjectFromTemplate", templateUuid=template["uuid"], name="blog")
    assert [(attribute["name"], attribute["value"]) for attribute in blog["attributes"]] == [("cost centre", "17")]
    usages = (await company("admin", "GetAccountQuotaUsage", uuid=blog["linkedAccountUuid"]))["usages"]
    assert next(usage["total"] for usage in usages if usage["name"] == "vm.num") == 5
    empty = await company("admin", "CreateIAM2ProjectTemplate", name="empty", attributes=[{"name": "a", "value": None}])
    assert empty["template"]["attributes"] == [{"name": "a"}], "an answer of Java has no nulls"
    role = await company("admin", "CreateRole", name="empty", statements=[{"effect": "Allow", "actions": None}])
    assert role["statements"][0]["statement"] == {"effect": "Allow"}
    plain = await company("admin", "CreateIAM2ProjectTemplate", name="plain")
    assert plain["template"] == {"attributes": [], "quota": {}}


async def test_a_ticket_is_that_of_its_submitter_as_long_as_there_is_one(company):
    mill = await company.project("mill")
    for name in ("ann", "bob"):
        await company.member(name, projectUuid=mill["uuid"])
    tickets = [f"{IAM2.replace('iam2', 'ticket')}.API{name}Msg" for name in ("CreateTicket", "ChangeTicketStatus", "DeleteTicket")]
    role = await company("admin", "CreateRole", name="tickets", statements=[{"effect": "Allow", "actions": tickets}])
    await company("admin", "AddRolesToIAM2VirtualID", virtualIDUuid=company.uuids["ann"], roleUuids=[role["uuid"], role["uuid"]])
    await company("admin", "AddRolesToIAM2VirtualID", virtualIDUuid=company.uuids["bob"], roleUuids=[role["uuid"]])
    for name in ("ann", "bob"):
        await company.enter(name, "mill")
    request = {"apiName": CREATE_VOLUME, "apiBody": {"name": "disk", "diskOfferingUuid": DISK}}
    made = [await company("ann", "CreateTicket", name="t", accountSystemType="iam2", accountSystemContext={}, requests=[request]) for _ in range(2)]
    ticket = made[0]["uuid"]
    words = f"the ticket[uuid:{ticket}, name:t]"
    await company.fails("bob", f"SYS.1006: the virtual ID[uuid:{company.uuids['bob']}] is not the owner of {words}", "ChangeTicketStatus", uuid=ticket, statusEvent="cancel")
    for event in ("cancel", "reopen"):
        await company("ann", "ChangeTicketStatus", uuid=ticket, statusEvent=event)
    await company("admin", "DeleteIAM2Project", uuid=mill["uuid"])
    gone = f"SYS.1006: operation denied because the project[uuid:{mill['uuid']}] of the ticket has been deleted, {words} can only be deleted now"
    await company.fails("admin", gone, "ChangeTicketStatus", uuid=ticket, statusEvent="approve")
    await company("admin", "RecoverIAM2Project", uuid=mill["uuid"])
    await company("admin", "ChangeTicketStatus", uuid=made[1]["uuid"], statusEvent="approve")
    await company("admin", "DeleteIAM2VirtualID", uuid=company.uuids["ann"])
    gone = f"SYS.1006: operation denied because the ticket submitter[uuid:{company.uuids['ann']}] has been deleted, {words} can only be deleted now"
    await company.fails("admin", gone, "ChangeTicketStatus", uuid=ticket, statusEvent="approve")
    await company("admin", "DeleteTicket", uuid=ticket)


async def test_nothing_names_a_deleted_project_or_virtual_id(company):
    mill = await company.project("mill")
    await company.member("ann", projectUuid=mill["uuid"], attributes=[{"name": "__ProjectAdmin__", "value": mill["uuid"]}])
    ann = company.uuids["ann"]
    acme = await company("admin", "CreateIAM2Organization", name="acme", type="Company", attributes=[{"name": "__OrganizationSupervisor__", "value": ann}])
    await company("admin", "DeleteIAM2Project", uuid=mill["uuid"])
    await company("admin", "ExpungeIAM2Project", uuid=mill["uuid"])
    assert (await company.look("admin", "iam2/virtual-ids", ann))["attributes"] == []
    await company("admin", "DeleteIAM2VirtualID", uuid=ann)
    assert (await company.look("admin", "iam2/organizations", acme["uuid"]))["attributes"] == []


async def test_who_is_named_twice_is_a_member_once(company):
    mill = await company.project("mill")
    await company.member("ann")
    ann = company.uuids["ann"]
    await company("admin", "AddIAM2VirtualIDsToProject", projectUuid=mill["uuid"], virtualIDUuids=[ann, ann])
    assert len(company.client.mock.cloud.store.find("IAM2ProjectVirtualIDRef", "virtualIDUuid", ann)) == 1


async def test_organizations_are_a_tree(company):
    a = await company("admin", "CreateIAM2Organization", name="a", type="Company")
    b = await company("admin", "CreateIAM2Organization", name="b", type="Department", parentUuid=a["uuid"])
    c = await company("admin", "CreateIAM2Organization", name="c", type="Department", parentUuid=b["uuid"])
    d = await company("admin", "CreateIAM2Organization", name="d", type="Department")
    circle = f"SYS.1006: organization[uuid:{b['uuid']}] is parent of the organization[uuid:{c['uuid']}], cannot set it as a child organization"
    await company.fails("admin", circle, "ChangeIAM2OrganizationParent", parentUuid=c["uuid"], childrenUuids=[d["uuid"], b["uuid"]])
    await company.fails("admin", circle, "UpdateIAM2Organization", uuid=b["uuid"], parentUuid=c["uuid"])
    firm = f"SYS.1007: organizations[{a['uuid']}] are company that cannot be children of other organization"
    await company.fails("admin", firm, "ChangeIAM2OrganizationParent", parentUuid=d["uuid"], childrenUuids=[a["uuid"]])
    await company.fails("admin", f"SYS.1007: organization[uuid:{a['uuid']}] is a Company that cannot have parent organization", "UpdateIAM2Organization", uuid=a["uuid"], parentUuid=d["uuid"])
    await company("admin", "ChangeIAM2OrganizationParent", parentUuid=a["uuid"], childrenUuids=[c["uuid"], d["uuid"]])
    assert await company.names("admin", "iam2/organizations?q=parent.name=a") == ["b", "c", "d"]
    await company("admin", "DeleteIAM2Organization", uuid=a["uuid"])
    assert "parentUuid" not in await company.look("admin", "iam2/organizations", b["uuid"])


NOBODY = "0" * 32
REFUSALS = {
    "a second project of a name": ("POST /iam2/projects", {"name": "mill"}, "SYS.1007", "duplicate project name[mill]"),
    "a project called as an account": ("POST /iam2/projects", {"name": "admin"}, "SYS.1007", "invalid project name[admin], there has been an account or project with the same name"),
    "an unknown quota": ("POST /iam2/projects", {"name": "p", "quota": {"vm.nmu": 1}}, "SYS.1007", "no quota[name:vm.nmu] found"),
    "a quota in words": ("POST /iam2/projects", {"name": "p", "quota": {"vm.num": "many"}}, "SYS.1007", "the quota[name:vm.num] is a number, not many"),
    "a list of quotas": ("POST /iam2/projects", {"name": "p", "quota": {"vm.num": [1]}}, "SYS.1007", "the quota[name:vm.num] is a number, not 1"),
    "no number for a quota": ("POST /iam2/projects", {"name": "p", "quota": {"vm.num": None}}, "SYS.1007", "the quota[name:vm.num] is a number, not null"),
    "an attribute without a name": ("POST /iam2/projects/{mill}/attributes", {"attributes": [{"name": "a"}, {"value": "1"}]}, "SYS.1007", "attribute name cannot be null, value[1]"),
    "an attribute without anything": ("POST /iam2/projects/{mill}/attributes", {"attributes": [{"name": "a"}, {}]}, "SYS.1007", "attribute name cannot be null, value[null]"),
    "a role that allows no list": ("POST /identities/roles", {"name": "r", "statements": [{"effect": "Allow", "actions": "**"}]}, "SYS.1007",
                                   'a statement must have action field. Invalid statement[{"effect": "Allow", "actions": "**"}]'),
    "an attribute with a long name": ("POST /iam2/projects", {"name": "p", "attributes": [{"name": "n" * 2049}]}, "SYS.1007", f"attribute name[{'n' * 2049}] exceed the max length of 2048 chars"),
    "an attribute with a long value": ("POST /iam2/projects", {"name": "p", "attributes": [{"name": "a", "value": "v" * 2049}]}, "SYS.1007",
                                       f"attribute[name:a] value[{'v' * 2049}] exceed the max length of 2048 chars"),
    "a Company within another organization": ("POST /iam2/organizations", {"name": "o", "type": "Company", "parentUuid": "018100ff75605329a69d575ecf791e0a"}, "SYS.1007",
                                              "organization[name:o] is a Company that cannot have parent organization"),
    "an attribute that is no text": ("POST /iam2/projects/{mill}/attributes", {"attributes": [{"name": {}}]}, "SYS.1007", "attribute[name:{}, value:null] is no text"),
    "a reserved name": ("POST /iam2/virtual-ids", {"name": "admin", **PASSWORD}, "SYS.1007", "admin is a reserved name, please use another name"),
    "a second virtual id of a name": ("POST /iam2/virtual-ids", {"name": "eve", **PASSWORD}, "SYS.1007", "duplicate virtualID name[eve]"),
    "a second admin of a project": ("POST /iam2/virtual-ids/{eve}/attributes", {"attributes": [{"name": "__ProjectAdmin__", "value": "{mill}"}]}, "SYS.1006", "project[uuid:{mill}] already has a project admin"),
    "the admin of no project": ("POST /iam2/virtual-ids/{eve}/attributes", {"attributes": [{"name": "__ProjectAdmin__", "value": NOBODY}]}, "SYS.1006", f"project[uuid:{NOBODY}] not existing"),
    "a supervisor who does not exist": ("POST /iam2/organizations", {"name": "o", "type": "Company", "attributes": [{"name": "__OrganizationSupervisor__", "value": NOBODY}]}, "SYS.1006", f"virtual ID[uuid:{NOBODY}] not existing"),
    "the login of a stranger": ("PUT /iam2/virtual-ids/login", {"loginIAM2VirtualID": {"name": "mallory", **PASSWORD}}, "ID.1000", "wrong virtual ID[name:mallory], not existing or wrong password"),
    "a login of admin to a project": ("PUT /iam2/projects/login", {"loginIAM2Project": {"projectName": "mill"}}, "ID.1000", f"wrong virtual ID[uuid:{ADMIN}], not existing or wrong password"),
    "a login to no project": ("PUT /iam2/projects/login", {"loginIAM2Project": {"projectName": "p"}}, "ID.1000", "project[name:p] not existing"),
}  # fmt: skip


@each("refusal", REFUSALS)
async def test_projects_refuse(refusal):
    path, body, code, details = REFUSALS[refusal]
    async with serve() as mock:
        await mock.login()
        company = Company(Client(mock))
        await company.project("mill")
        await company.member("eve", attributes=[{"name": "__ProjectAdmin__", "value": company.uuids["mill"]}])
        text = json.dumps([path, body if path.startswith("PUT") else {"params": body}, details])
        for name, uuid in company.uuids.items():
            text = text.replace(f"{{{name}}}", uuid)
        path, body, details = json.loads(text)
        company.act("admin")
        status, answer = await outcome(mock, *path.split(), body)
        assert status in (400, 503), answer
        found = chain(answer["error"])[-1]
        assert (found["code"], found["details"]) == (code, details)
