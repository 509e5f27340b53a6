"""What the real server does with an LDAP server, bindings and logins, fact by fact, in both dialects.

The directory is that of the demo cloud: cn=alice and cn=bob below ou=people, and a group with both. BASE is above all of them.
"""

from asking import each
from facts import Refused, Shown, Uncovered, check, error_of, take
from test_facts_vm import ABSENT, NOBODY, V, answers, as_ann, facts

import zmock
from zmock import named

SERVER, ANN, BEN = map(named, ("ldap-new", "account-ann", "account-ben"))
BASE, ALICE, BOB, GROUP = "dc=example,dc=com", *(f"cn={name},dc=example,dc=com" for name in ("alice,ou=people", "bob,ou=people", "developers,ou=groups"))
LDAP = {"name": "l", "url": "ldap://ldap.example.com", "base": BASE, "username": "", "password": "", "encryption": "None", "resourceUuid": SERVER}
ADD = ("AddLdapServer", LDAP)
ACCOUNTS = tuple(("CreateAccount", {"name": name, "password": "p", "resourceUuid": uuid}) for name, uuid in (("ann", ANN), ("ben", BEN)))
FREE = "hostname::a"  # which the dialect manual keeps, as any text
NO_SERVER = "There is no ldap server in the system, Please add a ldap server first."
PEOPLE = {"ldapFilter": "(objectClass=person)"}


def bind(dn, account=ANN):
    return ("CreateLdapBinding", {"ldapUid": dn, "accountUuid": account})


def tagged(*tags, api="AddLdapServer", **params):
    """A step that sends system tags with a call on the server."""

    async def step(mock):
        assert await error_of(mock, api, {**params, "systemTags": list(tags)}) == {}

    return step


def log_in(uid="alice", password="password"):
    return ("LogInByLdap", {"uid": uid, "password": password})


ALICE_LOGS_IN = log_in()


def logs_in(*steps, login=ALICE_LOGS_IN, account=ANN):
    """A story: after some steps, a login opens a session of an account."""

    async def story(mock):
        await take(mock, steps)
        answer = await take(mock, [login])
        session, shown = answer["inventory"], answer["accountInventory"]
        assert (session["accountUuid"], session["userUuid"], shown["uuid"]) == (account,) * 3
        assert ("success" in answer) != mock.cloud.dialect["success-field"]
        mock.session = session["uuid"]
        assert (await mock.request("GET", "/volumes"))[0] == 200

    return Shown(story)


def fails(login, code, details, *steps):
    return Refused(lambda mock: state(mock, login, steps), code, details)


async def state(mock, login, steps):
    await take(mock, steps)
    return login[1]


def entries(*steps, are, api="GetLdapEntry", **params):
    """A story: a query of the directory answers entries with these names."""

    async def story(mock):
        await take(mock, [ADD, *steps])
        body = await mock.call(api, **params)
        assert [entry["dn"] for entry in body["inventories"]] == list(are)

    return Shown(story)


def filtered(text, *are):
    return (f"meets {text}", entries(are=are, ldapFilter=text))


def wrong_filter(text):
    return (f"refuses {text}", V("SYS.1006", {"ldapFilter": text}, f"query ldap entry[filter: {text.replace('*', '?')}] fail, *", ADD))


def tags_are(*steps, are):
    async def story(mock):
        await take(mock, steps)
        tags = [tag for tag in mock.cloud.find("SystemTag", "resourceUuid", SERVER) if tag["tag"] != FREE]
        assert (sorted(tag["tag"] for tag in tags), {tag["inherent"] for tag in tags}) == (sorted(are), {False})

    return Shown(story)


def bound(*steps, are):
    """A story: after some steps, these names are bound."""

    async def story(mock):
        await take(mock, [ADD, *ACCOUNTS, *steps])
        assert {binding["ldapUid"] for binding in await mock.query("ldap/bindings")} == {*are}

    return Shown(story)


def without(dn):
    """A step after which an entry has left the directory."""

    async def step(mock):
        (entry,) = mock.cloud.find("LdapEntry", "dn", dn)
        mock.cloud.remove("LdapEntry", entry["uuid"])

    return step


def entry(dn, **attributes):
    async def step(mock):
        mock.cloud.add("LdapEntry", dn=dn, attributes=attributes)

    return step


async def shown_server(mock):
    shown = (await take(mock, [ADD]))["inventory"]
    assert shown.keys() == {"uuid", "name", "url", "base", "username", "encryption", "createDate", "lastOpDate"}
    assert await mock.query("ldap/servers") == [shown]


async def shown_binding(mock):
    shown = (await take(mock, [ADD, *ACCOUNTS, bind(ALICE)]))["inventory"]
    assert shown.keys() == {"uuid", "ldapUid", "ldapServerUuid", "accountUuid", "createDate", "lastOpDate"}
    assert (shown["ldapUid"], shown["ldapServerUuid"], shown["accountUuid"]) == (ALICE, SERVER, ANN)


async def shown_entry(mock):
    await take(mock, [ADD])
    (shown,) = (await mock.call("GetLdapEntry", ldapFilter="(cn=alice)"))["inventories"]
    assert shown.keys() == {"dn", "attributes"}
    assert {row["id"]: row["values"] for row in shown["attributes"]}.items() >= {"cn": ["alice"], "mail": ["alice@example.com"]}.items()


async def deleted_with_bindings(mock):
    await take(mock, [tagged("ldapServerType::OpenLdap", **LDAP), *ACCOUNTS, bind(ALICE)])
    assert await error_of(mock, "DeleteLdapServer", {"uuid": SERVER}) == {}
    left = [len(list(mock.cloud.store.rows(type))) for type in ("LdapServer", "LdapAccountRef")]
    assert (left, mock.cloud.find("SystemTag", "resourceUuid", SERVER)) == ([0, 0], [])


async def sessions_stay(mock):
    await take(mock, [ADD, *ACCOUNTS, bind(ALICE)])
    session = (await mock.call("LogInByLdap", uid="alice", password="password"))["inventory"]["uuid"]
    (binding,) = mock.cloud.store.rows("LdapAccountRef")
    assert await error_of(mock, "DeleteLdapBinding", {"uuid": binding["uuid"]}) == {}
    assert (await mock.call("ValidateSession", sessionUuid=session))["valid"]


async def gone_with_its_account(mock):
    await take(mock, [ADD, *ACCOUNTS, bind(ALICE), bind(BOB, BEN), ("DeleteAccount", {"uuid": ANN})])
    assert [binding["ldapUid"] for binding in await mock.query("ldap/bindings")] == [BOB]


def cleaned(*steps, accounts=ABSENT, filter=""):
    """A story: the bindings of entries that are gone or excluded are removed; the accounts are answered."""

    async def story(mock):
        add = tagged(f"ldapCleanBindingFilter::{filter}", **LDAP) if filter else ADD
        await take(mock, [add, *ACCOUNTS, bind(ALICE), bind(BOB, BEN), *steps])
        body = await mock.call("CleanInvalidLdapBinding")
        if accounts is ABSENT:
            assert "inventories" not in body and len(list(mock.cloud.store.rows("LdapAccountRef"))) == 2
        else:
            assert [account["uuid"] for account in body["inventories"]] == accounts
            assert not {row["accountUuid"] for row in mock.cloud.store.rows("LdapAccountRef")} & {*accounts}

    return Shown(story)


async def no_session_needed(mock):
    await take(mock, [ADD, *ACCOUNTS, bind(ALICE)])
    mock.session = ""
    body = {"logInByLdap": {"uid": "alice", "password": "password"}}
    assert (await mock.request("PUT", "/ldap/login", body))[0] == 200


async def only_for_admin(mock):
    await take(mock, [ADD])
    params = await as_ann("vm.num", 1, **PEOPLE)(mock)
    error = await error_of(mock, "GetLdapEntry", params)
    assert (error["code"], error["details"]) == ("SYS.1006", "operation is denied by default")


async def no_relations(mock):
    await take(mock, [ADD, *ACCOUNTS, bind(ALICE)])
    rows = mock.cloud.catalogue.resources
    assert rows["LdapServer"].relations == rows["LdapAccountRef"].relations == {}


OPEN_LDAP = tagged("ldapServerType::OpenLdap", **LDAP)
GROUPS = (ADD, *ACCOUNTS, bind(GROUP))
FACTS = (
    *facts("AddLdapServer",
        ("is for admin only, as all but the login", Shown(only_for_admin)),
        ("refuses a login that the directory refuses", V("LDAP.1006", LDAP | {"username": ALICE, "password": "x"}, "Cannot connect to LDAP server, *")),
        ("refuses it before anything else", V("LDAP.1006", LDAP | {"username": ALICE, "password": "x", "resourceUuid": NOBODY, "systemTags": ["ldapServerType::x"]}, "Cannot connect to LDAP server, *", ADD)),
        ("takes the login of an entry", answers((ADD[0], LDAP | {"username": ALICE, "password": "password"}), username=ALICE)),
        ("fails for an unknown type", V("SYS.1000", LDAP | {"systemTags": ["ldapServerType::x"]}, "Flags = ','")),
        ("is the only server", V("LDAP.1001", LDAP | {"resourceUuid": named("ldap-2")}, "There has been a ldap server record. You'd better remove it before adding a new one!", ADD)),
        ("keeps three kinds of tags", tags_are(tagged("ldapServerType::OpenLdap", "ldapUseAsLoginName::uid", "ldapCleanBindingFilter::(cn=a*)", FREE, **LDAP), are=["ldapServerType::OpenLdap", "ldapUseAsLoginName::uid", "ldapCleanBindingFilter::(cn=a*)"])),
        ("ignores resourceUuid", Uncovered("every creation of zmock takes the uuid of what it makes")),
        ("answers the server without its password", Shown(shown_server)),
    ),
    *facts("UpdateLdapServer",
        ("refuses an unknown server", V("SYS.1003", {"ldapServerUuid": NOBODY}, "*type:LdapServerVO] not found", ADD)),
        ("fails for an unknown type", V("SYS.1000", {"ldapServerUuid": SERVER, "systemTags": ["ldapServerType::x"]}, "Flags = ','", ADD)),
        ("tests no connection", answers(ADD, ("UpdateLdapServer", {"ldapServerUuid": SERVER, "username": ALICE, "password": "x"}), username=ALICE)),
        ("changes what is given", answers(ADD, ("UpdateLdapServer", {"ldapServerUuid": SERVER, "base": "dc=org"}), base="dc=org", url=LDAP["url"], password=ABSENT)),
        ("replaces tags", tags_are(OPEN_LDAP, tagged("ldapServerType::WindowsAD", "ldapUseAsLoginName::uid", api="UpdateLdapServer", ldapServerUuid=SERVER), are=["ldapServerType::WindowsAD", "ldapUseAsLoginName::uid"])),
    ),
    *facts("DeleteLdapServer",
        ("succeeds for one that is gone", Shown(lambda mock: succeeds(mock, "DeleteLdapServer", "x"))),
        ("takes its bindings and tags along", Shown(deleted_with_bindings)),
    ),
    *facts("CreateLdapBinding",
        ("refuses an unknown account", V("SYS.1003", bind(ALICE, NOBODY)[1], "*type:AccountVO] not found", ADD)),
        ("needs a server", V("SYS.1007", bind(ALICE, zmock.ADMIN)[1], NO_SERVER)),
        ("refuses a name that is not in the directory", V("LDAP.1002", bind("cn=nobody")[1], f"cannot find dn[cn=nobody] on ldap server[Address:ldap://ldap.example.com, BaseDN:{BASE}].", ADD, *ACCOUNTS)),
        ("refuses a name outside of the base", V("LDAP.1002", bind("cn=eve,dc=org")[1], "*", ADD, *ACCOUNTS, entry("cn=eve,dc=org"))),
        ("refuses a name that is bound", V("LDAP.1003", bind(ALICE, BEN)[1], "The ldap uid has been bound to an account. ", ADD, *ACCOUNTS, bind(ALICE))),
        ("binds admin", logs_in(ADD, bind(ALICE, zmock.ADMIN), account=zmock.ADMIN)),
        ("binds several names to an account", bound(bind(ALICE), bind(BOB), are=[ALICE, BOB])),
        ("answers the binding", Shown(shown_binding)),
    ),
    *facts("DeleteLdapBinding",
        ("succeeds for one that is gone", Shown(lambda mock: succeeds(mock, "DeleteLdapBinding", NOBODY))),
        ("leaves sessions", Shown(sessions_stay)),
    ),
    *facts("CleanInvalidLdapBinding",
        ("removes bindings of names that are gone", cleaned(without(ALICE), accounts=[ANN])),
        ("removes those that meet the filter of the server", cleaned(filter="(mail=bob*)", accounts=[BEN])),
        ("answers no accounts when nothing was removed", cleaned()),
    ),
    *facts("GetLdapEntry",
        ("needs a server", V("SYS.1007", PEOPLE, NO_SERVER)),
        ("answers the entries below the base", entries(entry("cn=eve,dc=org", objectClass="person"), are=[ALICE, BOB], **PEOPLE)),
        ("takes a limit", entries(are=[ALICE], limit=1, **PEOPLE)),
        ("answers 2500 without one", entries(are=[ALICE, BOB], **PEOPLE)),
        ("answers names and attributes", Shown(shown_entry)),
        filtered("(cn=nobody)"), filtered("(CN=Alice)", ALICE), filtered("uid=bob", BOB), filtered("(mail=a*@*.com)", ALICE), filtered("(member=*)", GROUP),
        filtered("(&(objectClass=person)(!(uid=bob)))", ALICE), filtered("(|(cn=a*)(cn=d*))", ALICE, GROUP),
        filtered("(cn=a_ice)"), filtered(f"(member={BOB})", GROUP),
        *map(wrong_filter, ("(cn=alice", "cn", "(cn=a)(cn=b)", "(&(cn=a)", "(cn>=a)", ")", "(!" * 500)),
    ),
    *facts("GetCandidateLdapEntryForBinding",
        ("needs a server", V("SYS.1007", PEOPLE, NO_SERVER)),
        ("leaves out what is bound", entries(*ACCOUNTS, bind(ALICE), are=[BOB], api="GetCandidateLdapEntryForBinding", **PEOPLE)),
        ("refuses a wrong filter", V("SYS.1006", {"ldapFilter": "("}, "query ldap entry[filter: (] fail, *", ADD)),
    ),
    *facts("LogInByLdap",
        ("fails without a server", fails(log_in(), "SYS.1000", "No ldap server record in database.")),
        ("refuses a wrong password", fails(log_in(password="x"), "ID.1000", "Login validation failed in LDAP", ADD, *ACCOUNTS, bind(ALICE))),
        ("refuses an empty password", fails(log_in(password=""), "ID.1000", "Login validation failed in LDAP", ADD, *ACCOUNTS, bind(ALICE))),
        ("refuses what is not bound, whatever the password", fails(log_in(password="x"), "ID.1000", "The ldapUid does not have a binding account.", ADD)),
        ("refuses who is not in the directory", fails(log_in("nobody"), "ID.1000", "The ldapUid does not have a binding account.", ADD)),
        ("fails for a name of several entries", fails(log_in(), "LDAP.1002", "More than one ldap search result", ADD, entry("cn=alice,dc=example,dc=com"))),
        ("logs in as the account of the entry", logs_in(ADD, *ACCOUNTS, bind(ALICE))),
        ("logs in by another attribute", logs_in(tagged("ldapUseAsLoginName::mail", **LDAP), *ACCOUNTS, bind(ALICE), login=log_in("alice@example.com"))),
        ("logs in as the account of its group", logs_in(*GROUPS)),
        ("prefers the account of the entry", logs_in(*GROUPS, bind(ALICE, BEN), account=BEN)),
        ("looks at uniqueMember of OpenLdap", fails(log_in(), "ID.1000", "The ldapUid does not have a binding account.", OPEN_LDAP, *ACCOUNTS, bind(GROUP))),
        ("finds its groups by that", logs_in(OPEN_LDAP, *ACCOUNTS, entry("cn=all,dc=example,dc=com", uniqueMember=[ALICE, BOB]), bind("cn=all,dc=example,dc=com"))),
        ("fails for several groups", fails(log_in(), "SYS.1000", f"The ldapUid[{ALICE}] is bound to multiple accounts: [{ANN}, {BEN}]", *GROUPS, entry("cn=all,dc=example,dc=com", member=ALICE), bind("cn=all,dc=example,dc=com", BEN))),
        ("needs no session", Shown(no_session_needed)),
    ),
    *facts("QueryLdapServer",
        ("has no relations", Shown(no_relations)),
    ),
    *facts("QueryLdapBinding",
        ("has no relations", Shown(no_relations)),
        ("loses those of a deleted account", Shown(gone_with_its_account)),
    ),
)  # fmt: skip


async def succeeds(mock, api, uuid):
    await take(mock, [ADD])
    assert await error_of(mock, api, {"uuid": uuid}) == {}
    assert mock.cloud.look("LdapServer", SERVER)


@each("fact", FACTS, ids=lambda fact: fact.name)
async def test_facts(each_dialect, fact):
    await check(fact, each_dialect)
