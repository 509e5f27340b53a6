"""Stories of billing and of tickets, as a client lives them over HTTP, in both dialects. See tests/test_stories.py."""


import pytest
from asking import ask_control, each
from test_stories import CENTOS, GIB, PRIVATE, SMALL, Client

from zmock import ADMIN, SHA512_OF_PASSWORD, named, serve

DAY, MS = 86400, 1000
WEB, DATA_1, SPARE = named("vm-web-1"), named("volume-db-data-1"), named("volume-spare")


@pytest.fixture(params=["manual", "server"])
async def client(request):
    async with serve(dialect=request.param) as mock:
        await ask_control(mock, "POST", "clock", {"set": "2030-01-01T00:00:00Z"})
        await mock.login()
        mock.cloud.db.table("Price").truncate()
        yield Client(mock)


def now(client):
    return int(client.mock.cloud.clock.now() * MS)


async def log_in_as(client, name):
    """Log in as a new account."""
    uuid = (await client.call("CreateAccount", name=name, password=SHA512_OF_PASSWORD))["uuid"]
    await client.mock.login(name)
    return uuid


# billing


async def spending(client, account=ADMIN, **dates):
    """The spending of an account by its type, and the whole answer."""
    answer = await client.call("CalculateAccountSpending", accountUuid=account, **dates)
    assert [row["spendingType"] for row in answer["spending"]] == ["VM", "rootVolume", "dataVolume", "snapShot"]
    return {row["spendingType"]: row for row in answer["spending"] if row["details"]}, answer


async def let_pass(client, days, account="admin"):
    """Let days go by; a session does not last so long."""
    await client.mock.advance(days * DAY)
    await client.mock.login(account)


async def new_vm(client, **params):
    return await client.call("CreateVmInstance", name="v", imageUuid=CENTOS, instanceOfferingUuid=SMALL, l3NetworkUuids=[PRIVATE], **params)


async def test_a_month_is_billed_to_the_cent(client):
    await client.call("CreateResourcePrice", resourceName="cpu", timeUnit="h", price=0.5, dateInLong=0)
    await client.call("CreateResourcePrice", resourceName="memory", resourceUnit="G", timeUnit="d", price=1.25, dateInLong=0)
    await client.call("CreateResourcePrice", resourceName="rootVolume", resourceUnit="G", timeUnit="mon", price=0.3, dateInLong=0)
    account = await log_in_as(client, "tenant")
    await client.mock.login()
    await client.call("ShareResource", resourceUuids=[CENTOS, SMALL, PRIVATE], toPublic=True)
    await client.mock.login("tenant")
    start = now(client)
    vm = await new_vm(client)
    cpus, memory, size = vm["cpuNum"], vm["memorySize"] / GIB, vm["allVolumes"][0]["size"] / GIB
    await let_pass(client, 4)  # the fifth day begins
    dearer = await client.call("CreateResourcePrice", resourceName="cpu", timeUnit="h", price=0.8)
    assert dearer["dateInLong"] == now(client) == start + 4 * DAY * MS
    await let_pass(client, 6, "tenant")
    await client.call("StopVmInstance", uuid=vm["uuid"])
    await let_pass(client, 20, "tenant")

    by_type, answer = await spending(client, account)
    cpu = cpus * (4 * 24 * 0.5 + 6 * 24 * 0.8)
    ram, disk = memory * 10 * 1.25, size * 1 * 0.3
    assert {kind: round(row["spending"], 2) for kind, row in by_type.items()} == {"VM": round(cpu + ram, 2), "rootVolume": round(disk, 2)}
    assert round(answer["total"], 2) == round(cpu + ram + disk, 2)
    (machine,) = by_type["VM"]["details"]
    assert (machine["resourceUuid"], machine["resourceName"], machine["type"]) == (vm["uuid"], "v", "VM")
    change, stop = start + 4 * DAY * MS, start + 10 * DAY * MS
    assert [(row["startTime"], row["endTime"]) for row in machine["cpuInventory"]] == [(start, change), (change, stop)]
    assert [(row["startTime"], row["endTime"]) for row in machine["memoryInventory"]] == [(start, stop)]
    ((root,),) = [volume["sizeInventory"] for volume in by_type["rootVolume"]["details"]]
    assert root == {"startTime": start, "endTime": now(client), "spending": pytest.approx(disk), "volumeSize": size * GIB}

    # a part of the month: the days 9 to 12
    by_type, _ = await spending(client, account, dateStart=start + 8 * DAY * MS, dateEnd=start + 12 * DAY * MS)
    assert round(by_type["VM"]["spending"], 2) == round(cpus * 48 * 0.8 + memory * 2 * 1.25, 2)
    assert (by_type["VM"]["dateStart"], by_type["VM"]["dateEnd"]) == (start + 8 * DAY * MS, start + 12 * DAY * MS)
    # what comes has cost nothing yet
    assert (await spending(client, account, dateStart=now(client), dateEnd=now(client) + DAY * MS))[0] == {}
    await client.fails("SYS.1006: permission denied, *", "CalculateAccountSpending", accountUuid=ADMIN)


async def cost_so_far(client, price, account=ADMIN, **of):
    """What something has cost an account at a price of 1 for each unit and day, as of now."""
    by_type, _ = await spending(client, account)
    parts = [part for row in by_type.values() for part in row["details"] if part["resourceUuid"] == of["uuid"]]
    return round(sum(cost["spending"] for part in parts for cost in part.get(price, ())), 6)


async def test_a_volume_costs_by_its_size_and_owner_until_it_is_deleted(client):
    await client.call("CreateResourcePrice", resourceName="dataVolume", resourceUnit="G", timeUnit="d", price=1, dateInLong=0)
    await client.call("CreateResourcePrice", resourceName="snapShot", resourceUnit="G", timeUnit="d", price=1, dateInLong=0)
    volume = (await client.call("CreateDataVolume", name="d", diskOfferingUuid=named("disk-20g"), primaryStorageUuid=named("ps-nfs")))["uuid"]

    async def cost(account=ADMIN, uuid=volume):
        return await cost_so_far(client, "sizeInventory", account, uuid=uuid)

    await let_pass(client, 1)
    assert await cost() == 20
    await client.call("ResizeDataVolume", uuid=volume, size=30 * GIB)
    snapshot = await client.call("CreateVolumeSnapshot", name="s", volumeUuid=volume)
    await let_pass(client, 2)
    assert await cost() == 20 + 60
    assert await cost(uuid=snapshot["uuid"]) == round(snapshot["size"] / GIB * 2, 6)
    await client.call("DeleteVolumeSnapshot", uuid=snapshot["uuid"])
    account = (await client.call("CreateAccount", name="tenant", password=SHA512_OF_PASSWORD))["uuid"]
    await client.call("ChangeResourceOwner", accountUuid=account, resourceUuid=volume)
    await let_pass(client, 1)
    assert (await cost(), await cost(account)) == (80, 30)
    assert await cost(uuid=snapshot["uuid"]) == round(snapshot["size"] / GIB * 2, 6), "it is gone"
    await client.call("DeleteDataVolume", uuid=volume)
    await let_pass(client, 0.5)
    await client.call("RecoverDataVolume", uuid=volume)
    await let_pass(client, 0.5)
    assert await cost(account) == 30 + 15
    await client.call("DeleteDataVolume", uuid=volume)
    await client.call("ExpungeDataVolume", uuid=volume)
    await let_pass(client, 9)
    assert await cost(account) == 45


async def test_a_machine_costs_while_it_is_on_a_host(client):
    await client.call("CreateResourcePrice", resourceName="cpu", timeUnit="d", price=1, dateInLong=0)
    vm = await new_vm(client, strategy="JustCreate")

    async def cost():
        return await cost_so_far(client, "cpuInventory", uuid=vm["uuid"])

    await let_pass(client, 1)
    assert await cost() == 0
    await client.call("StartVmInstance", uuid=vm["uuid"])
    for api in ("RebootVmInstance", "PauseVmInstance", "ResumeVmInstance"):
        await let_pass(client, 1)
        await client.call(api, uuid=vm["uuid"])
    assert await cost() == 3 * vm["cpuNum"]
    incident = await ask_control(client.mock, "POST", "incidents", {"host-down": (await client.look("vm-instances", vm["uuid"]))["hostUuid"]})
    await client.mock.advance(600)
    await ask_control(client.mock, "DELETE", f"incidents/{incident['id']}")
    after = await cost()
    assert 3 * vm["cpuNum"] <= after < 3.1 * vm["cpuNum"]
    await client.call("StopVmInstance", uuid=vm["uuid"], type="cold")
    await client.call("DestroyVmInstance", uuid=vm["uuid"])
    before = await cost()
    await let_pass(client, 9)
    assert await cost() == before


async def test_what_was_there_before_counts_from_its_own_dates_and_takes_no_records(client):
    db = client.mock.cloud.db
    assert len(db.table("Usage")) == 0
    await client.call("CreateResourcePrice", resourceName="dataVolume", resourceUnit="G", timeUnit="d", price=1, dateInLong=now(client) - DAY * MS)
    volume = await client.look("volumes", SPARE)
    await let_pass(client, 1)
    assert await cost_so_far(client, "sizeInventory", uuid=SPARE) == round(volume["size"] / GIB * 2, 6), "from the date of the price"
    assert len(db.table("Usage")) == 0
    await client.call("DeleteDataVolume", uuid=SPARE)
    assert len(db.table("Usage")) == 1
    assert (await ask_control(client.mock, "GET", "diff?from=start"))["added"].keys() <= {"Price"}, "a record is no object of the cloud"


async def test_the_price_of_another_day_takes_the_place_of_one_that_is_deleted(client):
    price = {"resourceName": "cpu", "timeUnit": "d", "price": 1}
    first = await client.call("CreateResourcePrice", **price, dateInLong=0)
    second = await client.call("CreateResourcePrice", **price | {"price": 2}, dateInLong=now(client))
    await let_pass(client, 1)
    both = await cost_so_far(client, "cpuInventory", uuid=WEB)
    await client.call("DeleteResourcePrice", uuid=second["uuid"])
    cpus = (await client.look("vm-instances", WEB))["cpuNum"]
    assert round(both - await cost_so_far(client, "cpuInventory", uuid=WEB), 3) == cpus
    await client.call("DeleteResourcePrice", uuid=first["uuid"])
    assert await cost_so_far(client, "cpuInventory", uuid=WEB) == 0


PRICE = {"resourceName": "memory", "resourceUnit": "G", "timeUnit": "d", "price": 1}


@each("given, error", [
    ({"resourceName": "disk"}, "SYS.1007: *"),
    ({"timeUnit": "y"}, "SYS.1007: timeUnit[y] is none of s, m, h, d, w, mon"),
    ({"resourceUnit": "X"}, "SYS.1007: resourceUnit[X] is none of K, M, G, T"),
    ({"resourceUnit": "b"}, "SYS.1007: the minimal resource unit is megabyte, cannot be byte"),
    ({"resourceUnit": None}, "SYS.1007: resourceUnit must be set for the price of memory: M, G, T"),
    ({"price": -1}, "SYS.1007: *"),
])  # fmt: skip
async def test_an_impossible_price_is_refused(client, given, error):
    await client.fails(error, "CreateResourcePrice", **{key: value for key, value in (PRICE | given).items() if value is not None})


async def test_prices_are_for_admin_and_a_period_begins_before_it_ends(client):
    await client.fails("SYS.1007: the start date must be greater than the end date", "CalculateAccountSpending", accountUuid=ADMIN, dateStart=2, dateEnd=1)
    account = await log_in_as(client, "tenant")
    await client.fails("SYS.1006: operation is denied by default", "CreateResourcePrice", **PRICE)
    by_type, answer = await spending(client, account)
    assert (by_type, answer["total"], {row["spending"] for row in answer["spending"]}) == ({}, 0, {0})


# tickets

MACHINE = {"name": "wanted", "imageUuid": CENTOS, "instanceOfferingUuid": SMALL, "l3NetworkUuids": [PRIVATE], "timeout": -1.0, "headers": {}}
REQUEST = {"requestName": "create vm", "apiName": "org.zstack.header.vm.APICreateVmInstanceMsg", "executeTimes": 1.0, "apiBody": MACHINE}
TICKET = {"name": "t", "accountSystemType": "iam2", "accountSystemContext": {"projectUuid": "a" * 32, "virtualIDUuid": "b" * 32}}


async def change(client, ticket, event, **params):
    await client.mock.advance(1)
    return await client.call("ChangeTicketStatus", uuid=ticket["uuid"], statusEvent=event, **params)


async def history(client, collection="tickets/histories", **of):
    _, answer = await client.mock.request("GET", f"/{collection}?q=ticketUuid={of['uuid']}&sort=+createDate")
    return answer["inventories"]


async def tenant_with_access(client):
    """Make an account that sees what it takes to create a machine, and stay admin."""
    account = (await client.call("CreateAccount", name="tenant", password=SHA512_OF_PASSWORD))["uuid"]
    await client.call("ShareResource", resourceUuids=[CENTOS, SMALL, PRIVATE], toPublic=True)
    return account


async def vms_of(client, name="wanted"):
    _, answer = await client.mock.request("GET", f"/vm-instances?q=name={name}")
    return answer["inventories"]


async def test_a_ticket_is_approved_in_two_steps_and_its_machine_is_there(client):
    account = await tenant_with_access(client)
    await client.mock.login("tenant")
    lead = (await client.call("CreateUser", name="lead", password=SHA512_OF_PASSWORD))["uuid"]
    await client.mock.login()
    flows = [{"name": "lead", "approverUuid": lead}, {"name": "admin", "approverUuid": ADMIN, "approverTitle": "SystemAdmin"}]
    collection = await client.call("CreateIAM2TickFlowCollection", name="c", description="d", flows=flows)
    first, second = collection["flows"]
    assert (first["name"], first["flowContextType"], first.get("parentFlowUuid"), second["parentFlowUuid"]) == ("lead", "iam2", None, first["uuid"])

    await client.mock.login("tenant")
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST, REQUEST | {"executeTimes": 2}], flowCollectionUuid=collection["uuid"])
    assert (ticket["status"], ticket["currentFlowUuid"], ticket["request"][1]["executeTimes"]) == ("Pending", first["uuid"], 2)
    await client.fails(f"SYS.1006: operation denied. the operator needs to be done by account/virtual ID[uuid:{lead}]", "ChangeTicketStatus", uuid=ticket["uuid"], statusEvent="approve")
    client.mock.session = (await client.call("LogInByUser", accountUuid=account, userName="lead", password=SHA512_OF_PASSWORD))["uuid"]
    ticket = await change(client, ticket, "approve", comment="go")
    assert (ticket["status"], ticket["currentFlowUuid"], await vms_of(client)) == ("IntermediateApproved", second["uuid"], [])
    await client.mock.login()
    ticket = await change(client, ticket, "approve")
    assert (ticket["status"], ticket.get("currentFlowUuid")) == ("FinalApproved", None)

    await client.mock.login("tenant")
    assert [vm["state"] for vm in await vms_of(client)] == ["Running"] * 3, "they are the tenant's own"
    one, two = await history(client, uuid=ticket["uuid"])
    assert (one["fromStatus"], one["toStatus"], one["comment"], one["operatorUuid"], one["operatorType"]) == ("Pending", "IntermediateApproved", "go", lead, "Account")
    assert (two["fromStatus"], two["toStatus"], two["operatorUuid"], two.get("comment")) == ("IntermediateApproved", "FinalApproved", ADMIN, None)
    results = two["operationContext"]["requestResults"]
    assert [(result["requestName"], result["successTimes"], result["failureTimes"], result["errors"]) for result in results] == [(REQUEST["apiName"], times, 0, []) for times in (1, 2)]
    await client.fails("SYS.1006: operation denied. the ticket is in status of FinalApproved, cannot do the operation[cancel]", "ChangeTicketStatus", uuid=ticket["uuid"], statusEvent="cancel")

    await client.call("DeleteTicket", uuid=ticket["uuid"])
    assert await client.look("tickets", ticket["uuid"]) is None and await history(client, uuid=ticket["uuid"]) == []
    _, answer = await client.mock.request("GET", f"/tickets/archives?q=ticketUuid={ticket['uuid']}")
    (archived,) = answer["inventories"]
    assert {**ticket, "accountUuid": account, "ticketUuid": ticket["uuid"], **{key: archived[key] for key in ("uuid", "createDate", "lastOpDate")}} == archived
    steps = await history(client, "tickets/histories/archives", uuid=ticket["uuid"])
    assert [(step["historyUuid"], step["toStatus"], step["accountUuid"]) for step in steps] == [(row["uuid"], row["toStatus"], account) for row in (one, two)]


async def test_a_ticket_is_rejected_changed_and_opened_again(client):
    account = await tenant_with_access(client)
    await client.mock.login("tenant")
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST])
    flow = ticket["currentFlowUuid"]
    await client.mock.login()
    await log_in_as(client, "other")
    assert await client.look("tickets", ticket["uuid"]) is None, "it is the tenant's"
    await client.fails("SYS.1006: permission denied, *", "ChangeTicketStatus", uuid=ticket["uuid"], statusEvent="cancel")
    await client.mock.login()
    assert (await change(client, ticket, "reject", comment="too big"))["status"] == "Rejected"
    await client.mock.login("tenant")
    new = [REQUEST | {"apiBody": MACHINE | {"name": "smaller"}}]
    await client.fails("SYS.1006: ticket[uuid:*, name:t] can only be updated after being cancelled, current status is Rejected", "UpdateTicketRequest", uuid=ticket["uuid"], requests=new)
    assert (await change(client, ticket, "cancel"))["status"] == "Cancelled"
    assert (await client.call("UpdateTicketRequest", uuid=ticket["uuid"], requests=new))["request"] == new
    ticket = await change(client, ticket, "reopen")
    assert (ticket["status"], ticket["currentFlowUuid"]) == ("Pending", flow)
    await client.mock.login()
    assert (await change(client, ticket, "approve"))["status"] == "FinalApproved"
    (vm,) = await vms_of(client, "smaller")
    assert client.mock.cloud.accounts.owner_of(vm["uuid"]) == account
    assert [step["toStatus"] for step in await history(client, uuid=ticket["uuid"])] == ["Rejected", "Cancelled", "Pending", "FinalApproved"]


async def test_a_virtual_id_approves_a_ticket_of_its_project(client):
    ((carol, shop),) = [(ref["virtualIDUuid"], ref["projectUuid"]) for ref in client.mock.cloud.store.rows("IAM2ProjectVirtualIDRef")]
    collection = await client.call("CreateIAM2TickFlowCollection", name="c", description="d", flows=[{"name": "f", "approverUuid": carol}])
    client.mock.session = (await client.call("LoginIAM2VirtualID", name="carol", password=SHA512_OF_PASSWORD))["uuid"]
    client.mock.session = (await client.call("LoginIAM2Project", projectName="shop"))["uuid"]
    context = {"projectUuid": shop, "virtualIDUuid": carol}
    group = {"apiName": "org.zstack.network.securitygroup.APICreateSecurityGroupMsg", "apiBody": {"name": "g"}}
    ticket = await client.call("CreateTicket", **TICKET | {"accountSystemContext": context}, requests=[group], flowCollectionUuid=collection["uuid"])
    assert ticket["accountSystemContext"] == context
    assert (await change(client, ticket, "approve"))["status"] == "FinalApproved"
    (step,) = await history(client, uuid=ticket["uuid"])
    assert (step["operatorType"], step["operatorUuid"], step["operationContext"]["requestResults"][0]["successTimes"]) == ("IAM2VirtualID", carol, 1)
    _, answer = await client.mock.request("GET", "/security-groups?q=name=g")
    assert len(answer["inventories"]) == 1, "it belongs to the project"


async def test_a_request_that_fails_is_told_in_the_history_and_nothing_of_it_stays(client):
    await client.call("CreateAccount", name="tenant", password=SHA512_OF_PASSWORD)  # sees no image
    huge = (await client.call("CreateInstanceOffering", name="huge", cpuNum=1, memorySize=1 << 50))["uuid"]
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST | {"apiBody": MACHINE | {"instanceOfferingUuid": huge}}])
    assert (await change(client, ticket, "approve"))["status"] == "FinalApproved"
    (step,) = await history(client, uuid=ticket["uuid"])
    (result,) = step["operationContext"]["requestResults"]
    assert (result["failureTimes"], result["errors"][0]["code"], await vms_of(client)) == (1, "HOST_ALLOCATION.1000", []), "no host has so much memory"

    await client.mock.login("tenant")
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST, {"apiName": "org.zstack.header.identity.APICreateUserGroupMsg", "apiBody": {"name": "g"}, "executeTimes": 2}])
    await client.mock.login()
    assert (await change(client, ticket, "approve"))["status"] == "FinalApproved"
    (step,) = await history(client, uuid=ticket["uuid"])
    machine, group = step["operationContext"]["requestResults"]
    assert (machine["successTimes"], machine["failureTimes"]) == (0, 1) and "has no access to the resources" in machine["errors"][0]["details"]
    assert (group["successTimes"], group["failureTimes"]) == (1, 1) and "A group called g is already under the account" in group["errors"][0]["details"]
    assert await vms_of(client) == []


@each("given, error", [
    ({"accountSystemType": "ldap"}, "SYS.1007: no accountSystemType[ldap] defined in system"),
    ({"requests": []}, "SYS.1007: *"),
    ({"requests": [REQUEST | {"apiName": "org.zstack.header.vm.APICreateVmMsg"}]}, "SYS.1007: invalid request. no API[org.zstack.header.vm.APICreateVmMsg] found"),
    ({"requests": [REQUEST | {"apiName": "APIQueryVmInstanceMsg"}]}, "SYS.1007: invalid request. no API[APIQueryVmInstanceMsg] found"),
    ({"requests": [REQUEST | {"apiBody": "x"}]}, "SYS.1007: invalid request. no API[*] found"),
    ({"requests": [REQUEST | {"apiBody": {}}]}, "SYS.1007: field[name] of message[org.zstack.header.vm.APICreateVmInstanceMsg] is mandatory, can not be null"),
    ({"requests": [REQUEST | {"executeTimes": 101}]}, "SYS.1007: executeTimes of a request is in 1..100"),
    ({"requests": [REQUEST | {"executeTimes": "many"}]}, "SYS.1007: executeTimes of a request is in 1..100"),
    ({"requests": [{}]}, "SYS.1007: invalid request. no API[null] found"),
    ({"requests": [REQUEST | {"executeTimes": True}]}, "SYS.1007: executeTimes of a request is in 1..100"),
    ({"requests": [REQUEST | {"requestName": 5}]}, "SYS.1007: requestName of a request is a text, not 5"),
    ({"flowCollectionUuid": "a" * 32}, "SYS.1003: *"),
])  # fmt: skip
async def test_an_impossible_ticket_is_refused(client, given, error):
    await client.fails(error, "CreateTicket", **TICKET | {"requests": [REQUEST]} | given)


@each("flows, error", [
    ([{"approverUuid": ADMIN}], "SYS.1007: each flow must have a name"),
    ([{}], "SYS.1007: each flow must have a name"),
    ([{"name": 5, "approverUuid": ADMIN}], "SYS.1007: the name of a flow is a text, not 5"),
    ([{"name": "f", "description": [], "approverUuid": ADMIN}, {"name": "f", "description": 5, "approverUuid": ADMIN}], "SYS.1007: the description of a flow is a text, not *"),
    ([{"name": "f"}], "SYS.1007: each flow must have an approverUuid"),
    ([{"name": "f", "approverUuid": "a" * 32}], f"SYS.1003: the approver[uuid:{'a' * 32}] of a flow is no account, user or virtual ID"),
])  # fmt: skip
async def test_an_impossible_flow_is_refused(client, flows, error):
    await client.fails(error, "CreateIAM2TickFlowCollection", name="c", description="d", flows=flows)


async def test_without_a_default_collection_a_ticket_names_one(client):
    for collection in client.mock.cloud.find("TicketFlowCollection", "isDefault", True):
        client.mock.cloud.change("TicketFlowCollection", collection["uuid"], isDefault=False)
    await client.fails("SYS.1007: no default ticket flow collection found, *", "CreateTicket", **TICKET, requests=[REQUEST])
    first, second = [await client.call("CreateIAM2TickFlowCollection", name="c", description="d", isDefault=True) for _ in range(2)]
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST])
    assert (ticket["flowCollectionUuid"], ticket.get("currentFlowUuid")) == (second["uuid"], None)
    assert client.mock.cloud.look("TicketFlowCollection", first["uuid"])["isDefault"] is False
    assert (await change(client, ticket, "approve"))["status"] == "FinalApproved", "by admin: it has no flows"


@each("event", ["open", "reopen"])
async def test_a_pending_ticket_is_open(client, event):
    ticket = await client.call("CreateTicket", **TICKET, requests=[REQUEST])
    await client.fails(f"SYS.1006: operation denied. the ticket is in status of Pending, cannot do the operation[{event}]", "ChangeTicketStatus", uuid=ticket["uuid"], statusEvent=event)
