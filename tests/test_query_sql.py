"""Queries against SQL: what zmock finds in generated clouds is what SQLite finds there through a translation of its own.

The tables, the relations and the translation below know nothing of zmock: they are written from the server's inventory classes
and from what its query engine makes of a condition (QueryFacadeImpl.java, ZQL, TagZQLExtension.java; MySQL with utf8_general_ci).

More clouds than usual: SQL_CLOUDS=5000 python -m pytest tests/test_query_sql.py
"""

import os
import re
import sqlite3
from contextlib import closing, suppress
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

import zmock

MANUAL, SERVER = "manual", "server"

# What there is. A field is a name, its kind, ? where it may be null, the words it may hold or what it points to.

TABLES = {
    "Zone": "name description? state=Enabled|Disabled createDate:date? lastOpDate:date?",
    "Cluster": "name description? state=Enabled|Disabled hypervisorType=KVM|Simulator createDate:date? zoneUuid>Zone",
    "Host": "name description? managementIp state=Enabled|Disabled|Maintenance hypervisorType=KVM|Simulator totalCpuCapacity:number "
            "cpuNum:number createDate:date? zoneUuid>Zone clusterUuid>Cluster username sshPort:number",
    "PrimaryStorage": "name? url type=NFS|SharedMountPoint totalCapacity:number createDate:date? zoneUuid>Zone attachedClusterUuids>>Cluster",
    "Image": "name size:number? platform=Linux|Windows? system:bool? createDate:date?",
    "ImageBackupStorageRef": "installPath status=Ready|Deleted createDate:date? imageUuid>Image backupStorageUuid>BackupStorage",
    "BackupStorage": "name url status=Connected|Disconnected lastOpDate:date? attachedZoneUuids>>Zone",
    "L2Network": "name description? type=L2NoVlanNetwork|L2VlanNetwork zoneUuid>Zone attachedClusterUuids>>Cluster vlan:number",
    "L3Network": "name dnsDomain? system:bool? category=Public|Private createDate:date? zoneUuid>Zone l2NetworkUuid>L2Network dns>>",
    "NetworkServiceProvider": "name type=Flat|VirtualRouter createDate:date?",
    "NetworkServiceL3NetworkRef": "networkServiceType=DHCP|DNS|Eip l3NetworkUuid>L3Network networkServiceProviderUuid>NetworkServiceProvider",
    "L3NetworkHostRoute": "prefix nexthop createDate:date? l3NetworkUuid>L3Network",
    "IpRange": "name? startIp networkCidr? lastOpDate:date? l3NetworkUuid>L3Network",
    "InstanceOffering": "name memorySize:number cpuNum:number sortKey:number? state=Enabled|Disabled",
    "VmInstance": "name description? state=Running|Stopped|Destroyed memorySize:number cpuNum:number hypervisorType? createDate:date? "
                  "lastOpDate:date? zoneUuid>Zone? clusterUuid>Cluster? hostUuid>Host? instanceOfferingUuid>InstanceOffering? "
                  "rootVolumeUuid>Volume? imageUuid>Image?",
    "VmNic": "ip? mac metaData? deviceId:number createDate:date? vmInstanceUuid>VmInstance l3NetworkUuid>L3Network?",
    "DiskOffering": "name diskSize:number sortKey:number? createDate:date?",
    "Volume": "name description? size:number actualSize:number? deviceId:number? type=Root|Data isShareable:bool? createDate:date? "
              "primaryStorageUuid>PrimaryStorage? vmInstanceUuid>VmInstance? diskOfferingUuid>DiskOffering? "
              "rootImageUuid>Image?",
    "VolumeSnapshot": "name latest:bool? size:number? createDate:date? volumeUuid>Volume? primaryStorageUuid>PrimaryStorage?",
    "Vip": "name ip useFor? state=Enabled|Disabled createDate:date? l3NetworkUuid>L3Network",
    "VipPeerL3NetworkRef": "vipUuid>Vip l3NetworkUuid>L3Network",
    "Eip": "name vipIp guestIp? createDate:date? vmNicUuid>VmNic? vipUuid>Vip",
    "PortForwardingRule": "name vipPortStart:number allowedCidr? protocolType=TCP|UDP vipUuid>Vip vmNicUuid>VmNic?",
    "LoadBalancer": "name description? state=Enabled|Disabled vipUuid>Vip",
    "LoadBalancerListener": "name instancePort:number protocol=tcp|http loadBalancerUuid>LoadBalancer",
    "LoadBalancerListenerVmNicRef": "status=Active|Pending createDate:date? listenerUuid>LoadBalancerListener vmNicUuid>VmNic",
    "SecurityGroup": "name description? state=Enabled|Disabled attachedL3NetworkUuids>>L3Network",
    "SecurityGroupRule": "type=Ingress|Egress startPort:number allowedCidr securityGroupUuid>SecurityGroup",
    "VmNicSecurityGroupRef": "createDate:date? vmInstanceUuid>VmInstance vmNicUuid>VmNic securityGroupUuid>SecurityGroup",
    "SystemTag": "tag inherent:bool createDate:date? resourceUuid>*",
    "UserTag": "tag createDate:date? resourceUuid>*",
}  # fmt: skip
RELATIONS = """
    Zone: vmInstance uuid=VmInstance.zoneUuid, cluster uuid=Cluster.zoneUuid, host uuid=Host.zoneUuid,
        primaryStorage uuid=PrimaryStorage.zoneUuid, l2Network uuid=L2Network.zoneUuid, l3Network uuid=L3Network.zoneUuid,
        backupStorage uuid=BackupStorage.attachedZoneUuids
    Cluster: zone zoneUuid=Zone.uuid, host uuid=Host.clusterUuid, vmInstance uuid=VmInstance.clusterUuid,
        l2Network uuid=L2Network.attachedClusterUuids, l2VlanNetwork uuid=L2Network.attachedClusterUuids,
        primaryStorage uuid=PrimaryStorage.attachedClusterUuids
    Host: zone zoneUuid=Zone.uuid, cluster clusterUuid=Cluster.uuid, vmInstance uuid=VmInstance.hostUuid
    PrimaryStorage: zone zoneUuid=Zone.uuid, volume uuid=Volume.primaryStorageUuid, cluster attachedClusterUuids=Cluster.uuid,
        volumeSnapshot uuid=VolumeSnapshot.primaryStorageUuid
    Image: volume uuid=Volume.rootImageUuid, backupStorageRefs uuid=ImageBackupStorageRef.imageUuid,
        backupStorageRef uuid=ImageBackupStorageRef.imageUuid, backupStorage backupStorageRef.backupStorage
    ImageBackupStorageRef: image imageUuid=Image.uuid, backupStorage backupStorageUuid=BackupStorage.uuid
    BackupStorage: zone attachedZoneUuids=Zone.uuid, imageRef uuid=ImageBackupStorageRef.backupStorageUuid, image imageRef.image
    L2Network: zone zoneUuid=Zone.uuid, l3Network uuid=L3Network.l2NetworkUuid, cluster attachedClusterUuids=Cluster.uuid
    L3Network: zone zoneUuid=Zone.uuid, l2Network l2NetworkUuid=L2Network.uuid, vmNic uuid=VmNic.l3NetworkUuid,
        ipRanges uuid=IpRange.l3NetworkUuid, networkServices uuid=NetworkServiceL3NetworkRef.l3NetworkUuid,
        serviceProviderRef uuid=NetworkServiceL3NetworkRef.l3NetworkUuid, serviceProvider serviceProviderRef.serviceProvider,
        hostRoute uuid=L3NetworkHostRoute.l3NetworkUuid
    NetworkServiceL3NetworkRef: l3Network l3NetworkUuid=L3Network.uuid,
        serviceProvider networkServiceProviderUuid=NetworkServiceProvider.uuid
    IpRange: l3Network l3NetworkUuid=L3Network.uuid
    InstanceOffering: vmInstance uuid=VmInstance.instanceOfferingUuid
    VmInstance: zone zoneUuid=Zone.uuid, cluster clusterUuid=Cluster.uuid, host hostUuid=Host.uuid, image imageUuid=Image.uuid,
        instanceOffering instanceOfferingUuid=InstanceOffering.uuid, rootVolume rootVolumeUuid=Volume.uuid,
        vmNics uuid=VmNic.vmInstanceUuid, allVolumes uuid=Volume.vmInstanceUuid
    VmNic: vmInstance vmInstanceUuid=VmInstance.uuid, l3Network l3NetworkUuid=L3Network.uuid, eip uuid=Eip.vmNicUuid,
        portForwarding uuid=PortForwardingRule.vmNicUuid, loadBalancerListenerRef uuid=LoadBalancerListenerVmNicRef.vmNicUuid,
        loadBalancerListener loadBalancerListenerRef.listener, securityGroupRef uuid=VmNicSecurityGroupRef.vmNicUuid,
        securityGroup securityGroupRef.securityGroup
    DiskOffering: volume uuid=Volume.diskOfferingUuid
    Volume: vmInstance vmInstanceUuid=VmInstance.uuid, snapshot uuid=VolumeSnapshot.volumeUuid, image rootImageUuid=Image.uuid,
        diskOffering diskOfferingUuid=DiskOffering.uuid, primaryStorage primaryStorageUuid=PrimaryStorage.uuid
    VolumeSnapshot: volume volumeUuid=Volume.uuid, primaryStorage primaryStorageUuid=PrimaryStorage.uuid
    Vip: eip uuid=Eip.vipUuid, l3Network l3NetworkUuid=L3Network.uuid, portForwarding uuid=PortForwardingRule.vipUuid,
        peerL3Network uuid=VipPeerL3NetworkRef.vipUuid
    VipPeerL3NetworkRef: vip vipUuid=Vip.uuid, l3Network l3NetworkUuid=L3Network.uuid
    Eip: vip vipUuid=Vip.uuid, vmNic vmNicUuid=VmNic.uuid
    PortForwardingRule: vip vipUuid=Vip.uuid, vmNic vmNicUuid=VmNic.uuid
    LoadBalancer: listeners uuid=LoadBalancerListener.loadBalancerUuid, vip vipUuid=Vip.uuid
    LoadBalancerListener: loadBalancer loadBalancerUuid=LoadBalancer.uuid, vmNicRef uuid=LoadBalancerListenerVmNicRef.listenerUuid,
        vmNic vmNicRef.vmNic
    LoadBalancerListenerVmNicRef: vmNic vmNicUuid=VmNic.uuid, listener listenerUuid=LoadBalancerListener.uuid
    SecurityGroup: vmNicRef uuid=VmNicSecurityGroupRef.securityGroupUuid, vmNic vmNicRef.vmNic,
        rules uuid=SecurityGroupRule.securityGroupUuid
    SecurityGroupRule: securityGroup securityGroupUuid=SecurityGroup.uuid
    VmNicSecurityGroupRef: vmNic vmNicUuid=VmNic.uuid, securityGroup securityGroupUuid=SecurityGroup.uuid
"""  # an alias is a way through other relations
NOTHING = {type: [] for type in TABLES}
INSIDE = {  # what zmock keeps in a list of its owner
    "ImageBackupStorageRef": ("Image", "backupStorageRefs", "imageUuid"),
    "NetworkServiceL3NetworkRef": ("L3Network", "networkServices", "l3NetworkUuid"),
    "L3NetworkHostRoute": ("L3Network", "hostRoute", "l3NetworkUuid"),
    "VipPeerL3NetworkRef": ("Vip", "peerL3NetworkUuids", "vipUuid"),
    "LoadBalancerListenerVmNicRef": ("LoadBalancerListener", "vmNicRefs", "listenerUuid"),
}
REFERENCES = {*INSIDE, "VmNicSecurityGroupRef"}  # their uuid is for these tests alone
CHILDREN = {  # what only a subtype has: the field that tells it, and the subtype
    ("Host", "username"): ("hypervisorType", "KVM"), ("Host", "sshPort"): ("hypervisorType", "KVM"),
    ("L2Network", "vlan"): ("type", "L2VlanNetwork"),
}  # fmt: skip
JOINED = {"totalCpuCapacity", "totalCapacity", "cpuNum"}  # what the server keeps elsewhere for a host: not in `fields`
ALIASES = {("Eip", "ip"): "vipIp"}  # in the manual only
TAGS = {"__systemTag__": "SystemTag", "__userTag__": "UserTag"}


class Field:
    def __init__(self, type, text):
        found = re.fullmatch(r"(\w+)(?::(\w+))?(?:=([\w|]+))?(>>?)?(\w+|\*)?(\?)?", text)
        self.type, self.name, self.words, self.target = type, found[1], (found[3] or "").split("|") if found[3] else [], found[5]
        self.kind = found[2] or "text"
        self.list, self.nullable = found[4] == ">>", bool(found[6])
        self.table = f"{type}.{found[1]}" if self.list else type  # the lists of a type are a table of their own


FIELDS = {type: {f.name: f for f in (Field(type, text) for text in f"uuid {texts}".split())} for type, texts in TABLES.items()}
JOINS, ALIAS_WAYS = {type: {} for type in TABLES}, {type: {} for type in TABLES}
for line in re.finditer(r"(\w+): ([^:]+?)(?=\n +\w+:|\s*$)", RELATIONS):
    for name, way in re.findall(r"(\w+) ([\w.=]+)", line[2]):
        kept = JOINS if "=" in way else ALIAS_WAYS
        kept[line[1]][name] = re.split("[=.]", way)

# Generated clouds and queries. Each is read from bytes, a choice at a time: that is fast, and shrinks to fewer and simpler ones.

LETTERS = "aaAAbB12  __%%\\\\,,=s'"
NUMBERS = (0, 1, 2, 9, 10, 16, 100, (1 << 31) - 1, 1 << 53, (1 << 53) + 1, (1 << 63) - 1)
DATES = ("2030-01-02 03:00:00", "2030-01-02 03:00:01", "2030-01-02 00:00:00", "2030-01-03 15:04:05", "2029-12-31 23:59:59")
MOST = 15


class Choices:
    """What the bytes choose; the first of everything when they have come to their end."""

    def __init__(self, bytes):
        self.bytes = iter(bytes)

    def pick(self, choices):
        number = next(self.bytes, 0)
        return choices[(number if len(choices) <= 256 else number * 256 + next(self.bytes, 0)) % len(choices)]

    def upto(self, most):
        return self.pick(range(most + 1))

    def text(self, longest):
        return "".join(self.pick(LETTERS) for _ in range(self.upto(longest)))


def uuid_of(type, number):
    """The same for the same number; their order is not that of the numbers."""
    return f"{[*TABLES].index(type):02d}{number * 7 % 16:x}".ljust(32, "b")


def every(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def read_item(type, number, choices, counts, texts):
    """One item of a cloud that has so many of each type."""

    def key(target):
        kinds = [*TABLES] if target == "*" else [target]
        known = [uuid_of(kind, n) for kind in kinds for n in range(counts[kind])]
        return choices.pick([*known * 2, uuid_of(kinds[0], MOST), *map(str.upper, known)])  # one is of nobody, some are in capitals

    def value(field):
        if field.list:
            return [*dict.fromkeys(key(field.target) if field.target else choices.pick(texts) for _ in range(choices.pick((0, 0, 1, 1, 2, 3))))]
        if field.nullable and choices.upto(3) == 0:
            return None
        if field.target:
            return key(field.target)
        return choices.pick(field.words or {"text": texts, "number": NUMBERS, "date": DATES, "bool": (False, True)}[field.kind])

    item = {"uuid": uuid_of(type, number)} | {name: value(field) for name, field in FIELDS[type].items() if name != "uuid"}
    for (parent, name), (told_by, kind) in CHILDREN.items():
        if parent == type and item[told_by] != kind:
            item[name] = None
    return {name: value for name, value in item.items() if value is not None}


def read_cloud(choices):
    """{type: items}, with texts that many of them share."""
    texts = [choices.text(5) for _ in range(3 + choices.upto(7))]
    counts = {type: choices.pick((0, 1, 2, 3, 3, 4, 5, 6, 9, MOST)) for type in TABLES}
    return owned({type: [read_item(type, number, choices, counts, texts) for number in range(n)] for type, n in counts.items()})


def owned(cloud):
    """The cloud without references that nobody could hold."""
    uuids = {item["uuid"] for items in cloud.values() for item in items}
    return {type: [item for item in items if type not in INSIDE or item[INSIDE[type][2]].lower() in uuids] for type, items in cloud.items()}


SIGNS = ("=", "!=", ">", "<", ">=", "<=", "?=", "!?=", "~=", "!~=", " is null", " not null", "=null", "!=null")
NEAR_NUMBERS = ("{}", "{}", "{}.0", "{}.5", "{}abc", " {}", "+{}", "-{}", "{}e0", "{}e", "{}1", "0{}", "abc", "", "1e3", ".5", "- 1", "{} 1")
NEAR_DATES = ("2030-01-02", "2030-01-03", "Jan 2, 2030 3:00:00 AM", "soon", "")
BOOLEANS = ("true", "false", "TRUE", "False", "true", "false", "yes")
DEPTHS = (0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4)


def near_text(choices, there):
    """A text that is there, or nearly."""
    text = choices.pick(there) if there and choices.upto(5) else choices.text(4)
    return choices.pick((text, text, text, text, text.swapcase(), text + " ", text.rstrip(" "), text[1:]))


def pattern(choices, there):
    """What LIKE takes: a text with some of it replaced by wildcards, or escaped."""
    text = near_text(choices, there)
    at = choices.upto(len(text))
    return choices.pick((
        text, text[:at] + "%", "%" + text[at:], text[:at] + "_" + text[at + 1 :], text[:at] + "%" + text[at + 1 :],
        re.sub(r"([%_\\])", r"\\\1", text), text[:at] + "\\" + text[at:], "%" + text[at : at + 1] + "%", "_" * len(text),
    ))  # fmt: skip


def near_value(choices, field, there):
    """One value to compare a field with."""
    if field.kind == "bool":
        return choices.pick(BOOLEANS)
    if field.kind == "date":
        return choices.pick([*DATES, *NEAR_DATES])
    if field.kind == "number":
        number = choices.pick(there or [1])
        # MySQL compares with what is not whole as a double: near the largest numbers only whole ones are tried
        return choices.pick(NEAR_NUMBERS if number < 1000 else ("{}", "{}", "-{}")).format(number)
    return near_text(choices, [*there, *field.words])


def read_path(choices, type):
    """Relations, one after the other, and where they lead."""
    path = []
    for _ in range(choices.pick(DEPTHS)):
        if JOINS[type]:
            path.append(choices.pick([*JOINS[type], *ALIAS_WAYS[type]]))
            for step in ALIAS_WAYS[type].get(path[-1], [path[-1]]):
                type = JOINS[type][step][1]
    return path, type


def read_text(choices, cloud, type):
    """A condition, as it is sent: "vmNics.ip!=10"."""
    path, type = read_path(choices, type)
    tagged = type not in {*TAGS.values(), *REFERENCES} and choices.upto(6) == 1
    name = choices.pick([*TAGS] if tagged else [*FIELDS[type], *(alias for parent, alias in ALIASES if parent == type)])
    field = FIELDS[TAGS[name]]["tag"] if tagged else FIELDS[type][ALIASES.get((type, name), name)]
    there = [v for item in cloud[field.type] for v in every(item.get(field.name))]
    sign = choices.pick(SIGNS)
    if sign.endswith("null"):
        told = ""
    elif sign.endswith("?="):
        told = ",".join(near_value(choices, field, there) for _ in range(1 + choices.upto(2))) + choices.pick(("", "", ",", ",,"))
        told = told if told.strip(",") else ""  # what the server makes of commas alone is not known
    elif sign.endswith("~=") and field.kind != "bool":
        told = pattern(choices, [*map(str, there)])
    else:
        told = near_value(choices, field, there)
    return f"{'.'.join([*path, name])}{sign}{told}"


def read_query(choices, cloud):
    """A type and what is asked of it: ("VmInstance", [("q", "vmNics.ip=10"), ("limit", "2")])."""
    type = choices.pick([type for type in TABLES if type not in REFERENCES])
    asked = [("q", read_text(choices, cloud, type)) for _ in range(choices.pick((1, 1, 1, 1, 2, 2, 3, 0)))]
    for told_by, kind in {told_by for (parent, _), told_by in CHILDREN.items() if parent == type and choices.upto(1)}:
        asked.append(("q", f"{told_by}={kind}"))
    own = [field.name for field in FIELDS[type].values() if not field.list and (type, field.name) not in CHILDREN]
    field, other = choices.pick(own), choices.pick([name for name in own if name not in JOINED])
    page = [("limit", str(choices.upto(5))), ("start", str(choices.upto(3)))]
    sort = [("sort", choices.pick(("", "+", "-", "-", "--")) + field)]
    return type, asked + choices.pick((
        [], [], [], [], sort, sort, page, sort + page, [("count", "true"), *page], [("replyWithCount", "True"), *page],
        [("fields", f"{other},name"[: None if "name" in own else -5])], [("groupBy", field), ("replyWithCount", "true")],
    ))  # fmt: skip


# The translation


class Refused(Exception):
    """What the server does not answer."""


ORDER = ("!=", ">=", "<=", "!?=", "!~=", "~=", "?=", "=", ">", "<", "is null", "not null")


def read_condition(text, dialect):
    """The path, the operator and the value: the operator is the first of ORDER that the text contains anywhere."""
    sign = next(sign for sign in ORDER if sign in text)
    name, _, told = text.partition(sign)
    words = sign.endswith("null")
    if dialect == MANUAL and not words and (name != name.strip() or told.startswith(" ")):
        raise Refused("spaces around the operator")  # manual 3.9
    if dialect == MANUAL and told == "null" and sign in ("=", "!="):
        sign, words = ("is null" if sign == "=" else "not null"), True  # manual 3.9, forms 12 and 13
    if not words and "'" in told:
        raise Refused("the value ends where its quote does")
    return name.strip().split("."), sign, told


def number(text):
    """The longest beginning that is a number, as MySQL reads it; else 0."""
    text = text.lstrip(" ")
    for end in range(len(text), 0, -1):
        with suppress(ValueError):
            if set(text[:end]) <= set("0123456789+-.eE"):
                return int(text[:end]) if text[:end].lstrip("+-").isdigit() and abs(int(text[:end])) < 1 << 63 else float(text[:end])
    return 0


def date(text):
    """As MySQL has it; what it cannot read is the zero date."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text += " 00:00:00"
    return text if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", text) else "0000-00-00 00:00:00"


def date_of_manual(text):
    """As answers show it, too; what is no date is refused."""
    shown = {"Jan 2, 2030 3:00:00 AM": "2030-01-02 03:00:00"}.get(text, date(text))
    if shown.startswith("0000"):
        raise Refused(f"{text!r} is no date")
    return shown


def boolean(text):
    if text.lower() not in ("true", "false"):
        raise Refused(f"{text!r} is no boolean")
    return text.lower() == "true"


def items_of(told):
    """As Java splits at commas: empty ones at the end are dropped."""
    words = told.split(",")
    while len(words) > 1 and not words[-1]:
        words.pop()
    return words


def comparison(column, kind, sign, told, dialect):
    """The SQL of one comparison, and its values.

    Text is equal whatever its case and the spaces at its end. Before and behind: utf8_general_ci has capitals, and so `_` behind
    the letters, where NOCASE, which has small letters, has it before them; hence upper(). LIKE takes each space as it is.
    """
    if sign in ("is null", "not null"):
        return f"{column} {sign.replace('not', 'is not')}", []
    bare, no = sign.lstrip("!"), "NOT " if sign in ("!?=", "!~=") else ""
    read = {"text": str, "number": number, "date": date_of_manual if dialect == MANUAL else date, "bool": boolean}[kind]
    if bare == "~=" and kind != "bool":
        told = told + "\\" if len(told) - len(told.rstrip("\\")) & 1 else told  # the last \ has nothing to escape: it is one itself
        return f"{column} {no}LIKE ? ESCAPE '\\'", [told]
    if bare == "~=":
        return f"{column} {'!=' if no else '='} ?", [boolean(told)]
    listed = (re.split(",(?! 2030)", told.rstrip(",")) if kind == "date" else items_of(told)) if bare == "?=" else [told]
    words = [read(word) for word in listed]
    form = {"text": "rtrim({}) COLLATE NOCASE" if sign in ("=", "!=", "?=", "!?=") else "upper(rtrim({}))"}.get(kind, "{}")
    marks = ", ".join(form.format("?") for _ in words)
    return f"{form.format(column)} " + (f"{no}IN ({marks})" if bare == "?=" else f"{sign} {marks}"), words


class Sql:
    """A cloud in SQLite, asked as the server asks MySQL."""

    def __init__(self, cloud, dialect):
        self.cloud, self.dialect = cloud, dialect
        self.db = sqlite3.connect(":memory:")
        for type, items in cloud.items():
            columns = [field for field in FIELDS[type].values() if not field.list]
            typed = ", ".join(f"{f.name} {'INTEGER' if f.kind in ('number', 'bool') else 'TEXT COLLATE NOCASE'}" for f in columns)
            self.db.execute(f"CREATE TABLE {type} ({typed})")
            marks = ", ".join("?" for _ in columns)
            self.db.executemany(f"INSERT INTO {type} VALUES ({marks})", [[item.get(f.name) for f in columns] for item in items])
            for field in FIELDS[type].values():
                if field.list:
                    self.db.execute(f'CREATE TABLE "{field.table}" (uuid TEXT COLLATE NOCASE, item TEXT COLLATE NOCASE)')
                    pairs = [(item["uuid"], one) for item in items for one in item.get(field.name, ())]
                    self.db.executemany(f'INSERT INTO "{field.table}" VALUES (?, ?)', pairs)

    def where(self, type, path, sign, told, child=None):
        """What a condition says of the rows of a type."""
        name, *rest = path
        if rest:
            if name in ALIAS_WAYS[type]:
                return self.where(type, [*ALIAS_WAYS[type][name], *rest], sign, told)
            if name not in JOINS[type]:
                raise Refused(f"{type} has no relation {name}")
            return self.related(JOINS[type][name], type, *self.where(JOINS[type][name][1], rest, sign, told))
        if name in TAGS:
            if "%s" in told and not sign.endswith("null"):
                raise Refused("tag conditions are formats")
            sql, values = comparison("tag", "text", sign.lstrip("!") if sign.startswith("!") else sign, told, self.dialect)
            return f"uuid {'NOT ' if sign.startswith('!') else ''}IN (SELECT resourceUuid FROM {TAGS[name]} WHERE {sql})", values
        field = FIELDS[type].get(ALIASES.get((type, name), name) if self.dialect == MANUAL else name)
        if not field or (name == "uuid" and type in REFERENCES) or CHILDREN.get((type, name), child) != child:
            raise Refused(f"{type} has no field {name}")
        if field.list:
            sql, values = comparison("item", field.kind, sign, told, self.dialect)
            return f'uuid IN (SELECT uuid FROM "{field.table}" WHERE {sql})', values
        return comparison(field.name, field.kind, sign, told, self.dialect)

    def related(self, relation, type, sql, values):
        """Own key IN (their keys where ...); what is in a list is found through the table of the list."""
        own, target, theirs = relation
        if FIELDS[type][own].list:
            return f'uuid IN (SELECT uuid FROM "{type}.{own}" WHERE item IN (SELECT {theirs} FROM {target} WHERE {sql}))', values
        if FIELDS[target][theirs].list:
            return f'{own} IN (SELECT item FROM "{target}.{theirs}" WHERE uuid IN (SELECT uuid FROM {target} WHERE {sql}))', values
        return f"{own} IN (SELECT {theirs} FROM {target} WHERE {sql})", values

    def find(self, type, conditions):
        """The WHERE clause of all conditions, with its values."""
        read = [read_condition(text, self.dialect) for text in conditions]
        tellers = {told_by for (parent, _), (told_by, _) in CHILDREN.items() if parent == type}
        child = next(((path[0], told) for path, sign, told in read if sign == "=" and len(path) == 1 and path[0] in tellers), None)
        parts = [self.where(type, *one, child) for one in read]
        return " AND ".join(f"({sql})" for sql, _ in parts) or "1", [value for _, values in parts for value in values]

    def keys(self, type, conditions, name="uuid", descending=False):
        """[(uuid, what its field sorts by)] in the order of the field; null comes first, or last."""
        where, values = self.find(type, conditions)
        key = f"upper(rtrim({name}))" if FIELDS[type][name].kind == "text" else name
        return self.db.execute(f"SELECT uuid, {key} k FROM {type} WHERE {where} ORDER BY k {'DESC' if descending else ''}, uuid", values).fetchall()


# The comparison

CATALOGUE = zmock.catalogue()
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def stored(cloud):
    """The cloud as zmock keeps it."""
    kept = {type: [*items] for type, items in cloud.items() if type not in INSIDE}
    for type, (owner, name, key) in INSIDE.items():
        rows = [(row[key].lower(), {field: value for field, value in row.items() if field != "uuid"}) for row in cloud[type]]
        if type == "VipPeerL3NetworkRef":  # a reference that is a uuid and no more
            rows = [(uuid, row["l3NetworkUuid"]) for uuid, row in rows]
        kept[owner] = [item | {name: [row for uuid, row in rows if uuid == item["uuid"]]} for item in kept[owner]]
    return kept


def change(store, before, cloud):
    """Makes one cloud of another: nothing of that may be found. What is the same in both is left alone."""
    before, cloud = stored(before), stored(cloud)
    for type, items in cloud.items():
        old, new = ({item["uuid"]: item for item in items} for items in (before.get(type, ()), items))
        for uuid in old.keys() - new.keys():
            store.remove(type, uuid)
        for item in new.values():
            if item != old.get(item["uuid"]):
                store.put(type, item)


def zmock_of(cloud, dialect, before):
    mock = zmock.new_cloud(zmock.Settings(memory=True, dialect=dialect), CATALOGUE)
    change(mock.store, NOTHING, before)
    change(mock.store, before, cloud)
    return mock


def ask(mock, type, asked):
    """What zmock answers, or why it does not."""
    try:
        read = zmock.read_query(asked, mock.dialect)
        return mock.query(mock.catalogue.apis[f"Query{type}"], read[0] if isinstance(read, tuple) else read, mock.queries)
    except zmock.ApiError as error:
        return str(error) or repr(error)


def differences(sql, type, asked, answer):
    """Says in what an answer is not what SQL has; nothing where it is."""
    given = dict(reversed(asked))
    conditions = [text for name, text in asked if name == "q"]
    sort = given.get("sort", "uuid")
    name = sort.lstrip("+-")
    try:
        found = sql.keys(type, conditions, name, sort.startswith("-"))
    except Refused as reason:
        return "" if isinstance(answer, str) else f"the server refuses: {reason}"
    if isinstance(answer, str):
        return f"refused: {answer}"
    if "count" in given:
        return "" if answer == {"total": len(found)} else f"{len(found)} in all"
    if "groupBy" in given and sql.dialect == MANUAL:
        return group_differences(sql, type, conditions, given["groupBy"], answer)
    page = slice(int(given.get("start", 0)), int(given.get("start", 0)) + int(given.get("limit", 1000)))
    if given.get("replyWithCount") and answer.get("total") != len(found):
        return f"{len(found)} in all"
    if "fields" in given:
        by_uuid = {item["uuid"]: item for item in sql.cloud[type]}
        shown = [shown_of(type, by_uuid[uuid], given["fields"].split(",")) for uuid, _ in found]
        return "" if answer["inventories"] == shown else f"{shown}"
    uuids = [item["uuid"] for item in answer["inventories"]]
    key_of = dict(found)
    if not (set(uuids) <= key_of.keys() and len(set(uuids)) == len(uuids)):
        return f"{[*key_of]}"
    # MySQL has no order for what sorts alike: the keys are compared, and that each is there once
    return "" if [key_of[uuid] for uuid in uuids] == [key for _, key in found[page]] else f"{found[page]}"


def group_differences(sql, type, conditions, name, answer):
    """One of each value, whichever."""
    key_of = dict(sql.keys(type, conditions, name))
    keys = [key_of.get(item["uuid"], "?") for item in answer["inventories"]]
    wanted = set(key_of.values())
    return "" if set(keys) == wanted and len(keys) == len(wanted) == answer["total"] else f"one of each of {wanted}"


def shown_of(type, item, names):
    return {name: us_date(item[name]) if FIELDS[type][name].kind == "date" else item[name] for name in names if name in item}


def us_date(stamp):
    """Jan 2, 2030 3:00:00 AM"""
    year, month, day, hour, rest = re.fullmatch(r"(\d+)-(\d+)-(\d+) (\d+)(.*)", stamp).groups()
    return f"{MONTHS[int(month) - 1]} {int(day)}, {year} {(int(hour) + 11) % 12 + 1}{rest} {'AM' if int(hour) < 12 else 'PM'}"


A, B, C = "a" * 32, "b" * 32, "c" * 32
REFUSED = None
NAMED = (  # what generated queries have found, small: why, the cloud, the question, what SQL finds
    ("empty list", {"PrimaryStorage": [{"uuid": A, "attachedClusterUuids": []}]}, "PrimaryStorage", "attachedClusterUuids not null", []),
    ("empty list", {"L3Network": [{"uuid": A}, {"uuid": B, "dns": ["8.8.8.8"]}]}, "L3Network", "dns is null", []),
    ("boolean like", {"Volume": [{"uuid": A, "isShareable": True}]}, "Volume", "isShareable~=yes", REFUSED),
    ("boolean like", {"Volume": [{"uuid": A, "isShareable": True}]}, "Volume", "isShareable!~=t%", REFUSED),
    ("tag in capitals", {"Zone": [{"uuid": A}, {"uuid": B}], "UserTag": [{"uuid": C, "resourceUuid": A.upper(), "tag": "web"}]}, "Zone",
     "__userTag__=web", [A]),
    ("tag in capitals", {"Zone": [{"uuid": A}, {"uuid": B}], "UserTag": [{"uuid": C, "resourceUuid": A.upper(), "tag": "web"}]}, "Zone",
     "__userTag__!=web", [B]),
    ("way back", {"Vip": [{"uuid": A}], "VipPeerL3NetworkRef": [{"uuid": C, "vipUuid": A, "l3NetworkUuid": B}]}, "Vip",
     "peerL3Network.vipUuid not null", [A]),
    ("way back", {"Vip": [{"uuid": A, "name": "x"}], "VipPeerL3NetworkRef": [{"uuid": C, "vipUuid": A, "l3NetworkUuid": B}]}, "Vip",
     "peerL3Network.vip.name=x", [A]),
    ("vlan network", {"Cluster": [{"uuid": A}], "L2Network": [{"uuid": B, "type": "L2NoVlanNetwork", "attachedClusterUuids": [A]}]}, "Cluster",
     "l2VlanNetwork.type=L2NoVlanNetwork", [A]),
    ("hidden relation", {"Image": [{"uuid": A}, {"uuid": B}], "BackupStorage": [{"uuid": C}],
                         "ImageBackupStorageRef": [{"uuid": C, "imageUuid": B, "backupStorageUuid": C, "status": "Ready"}]}, "Image",
     "backupStorageRef.status=Ready", [B]),
    ("hidden relation", {"Image": [{"uuid": A}], "BackupStorage": [{"uuid": B}, {"uuid": C}],
                         "ImageBackupStorageRef": [{"uuid": C, "imageUuid": A, "backupStorageUuid": C, "status": "Ready"}]}, "BackupStorage",
     "imageRef.status!=Deleted", [C]),
    ("hidden relation", {"L3Network": [{"uuid": A}],
                         "NetworkServiceL3NetworkRef": [{"uuid": C, "l3NetworkUuid": A, "networkServiceType": "DHCP"}]}, "L3Network",
     "serviceProviderRef.networkServiceType=dhcp", [A]),
    ("no duplicates", {"Cluster": [{"uuid": A}, {"uuid": B}], "PrimaryStorage": [
        {"uuid": C, "attachedClusterUuids": [A, B]}, *({"uuid": f"{n}" * 32, "attachedClusterUuids": []} for n in range(9))]}, "PrimaryStorage",
     "cluster.uuid not null", [C]),
    ("vlan network", {}, "Cluster", "l2VlanNetwork.vlan=10", REFUSED),
)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "type", "condition", "found"),
    [
        pytest.param(*row, id=f"{why}: {row[2]}") for why, *row in NAMED
    ],
)
@pytest.mark.parametrize("dialect", (MANUAL, SERVER))
def test_what_was_found_once_stays_found(given, type, condition, found, dialect):
    cloud = {kind: given.get(kind, []) for kind in TABLES}
    sql, answer = Sql(cloud, dialect), ask(zmock_of(cloud, dialect, cloud), type, [("q", condition)])
    assert not differences(sql, type, [("q", condition)], answer)
    assert found == (None if isinstance(answer, str) else [item["uuid"] for item in answer["inventories"]])


CLOUDS, FEW, MANY = int(os.environ.get("SQL_CLOUDS", 0)), 30, 200


def cases(clouds, **more):
    """Generated clouds, what was there before, and 60 queries for each; the same ones each time unless SQL_CLOUDS says how many."""
    some = settings(
        max_examples=CLOUDS or clouds, derandomize=not CLOUDS, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )

    def bytes(size):  # of that size: of fewer ones Hypothesis likes few best
        return st.binary(min_size=size, max_size=size)

    queries, dialects = st.lists(bytes(40), min_size=60, max_size=60), st.sampled_from((MANUAL, SERVER))
    return lambda test: some(given(cloud=bytes(2500), before=bytes(1000), queries=queries, dialect=dialects, **more)(test))


def read_case(cloud, before, queries):
    """The cloud, the one before it, the queries that are asked of it, and those in words that SQL is asked."""
    cloud, before = read_cloud(Choices(cloud)), read_cloud(Choices(before))
    return cloud, before, [read_query(Choices(bytes), cloud) for bytes in queries]


@pytest.mark.slow
@cases(MANY)
def test_zmock_finds_what_sql_finds_in_many_clouds(cloud, before, queries, dialect):
    check_queries(cloud, before, queries, dialect)


@cases(FEW)
def test_zmock_finds_what_sql_finds(cloud, before, queries, dialect):
    check_queries(cloud, before, queries, dialect)


def check_queries(cloud, before, queries, dialect):
    cloud, before, queries = read_case(cloud, before, queries)
    mock, sql = zmock_of(cloud, dialect, before), Sql(cloud, dialect)
    with closing(sql.db):
        for type, asked in queries:
            answer = ask(mock, type, asked)
            wrong = differences(sql, type, asked, answer)
            assert not wrong, f"{type} {asked} in the {dialect} dialect: zmock has {answer}, SQL {wrong}"


@cases(3, changed=st.lists(st.sampled_from([*TABLES]), min_size=4, max_size=4))
async def test_over_http_it_finds_the_same(cloud, before, queries, dialect, changed):
    """Also where the same has been asked before, and one table has changed since."""
    cloud, before, queries = read_case(cloud, before, queries)
    async with zmock.serve(cloud="empty", dialect=dialect) as mock, aiohttp.ClientSession() as http:
        store, apis, now = mock.cloud.store, mock.cloud.catalogue.apis, NOTHING
        for provider in [*store.rows("NetworkServiceProvider")]:  # what even an empty cloud has
            store.remove("NetworkServiceProvider", provider["uuid"])
        await mock.login()
        queries = [(type, asked) for type, asked in queries if apis[f"Query{type}"].backing != "none"]
        for next in (cloud, *(owned(cloud | {type: before[type]}) for type in (*changed, *TAGS.values()))):
            change(store, now, next)
            now, sql = next, Sql(next, dialect)
            with closing(sql.db):
                for type, asked in queries:
                    path = f"{apis[f'Query{type}'].path}?{urlencode(asked)}"
                    answer = await get(mock, http, path)
                    wrong = differences(sql, type, asked, answer)
                    assert not wrong, f"GET {path} in the {dialect} dialect: zmock has {answer}, SQL {wrong}"


@pytest.mark.parametrize(("condition", "type", "item"), (
    ("name=x", "Zone", {"uuid": A, "name": "x"}),
    ("__userTag__=x", "UserTag", {"uuid": C, "resourceUuid": B, "tag": "x"}),
    ("cluster.__systemTag__~=x%", "SystemTag", {"uuid": C, "resourceUuid": A, "tag": "x"}),
    ("cluster.host.name=x", "Host", {"uuid": C, "clusterUuid": A, "name": "x"}),
    ("primaryStorage.cluster.name not null", "PrimaryStorage", {"uuid": C, "zoneUuid": B, "attachedClusterUuids": [A]}),
))  # fmt: skip
async def test_what_was_asked_before_sees_what_has_come_since(condition, type, item):
    async with zmock.serve(cloud="empty") as mock, aiohttp.ClientSession() as http:
        mock.cloud.store.put("Zone", {"uuid": B, "name": "y"})
        mock.cloud.store.put("Cluster", {"uuid": A, "name": "y", "zoneUuid": B})
        await mock.login()
        path = f"/zones?{urlencode([('q', condition), ('count', 'true')])}"
        totals = [await get(mock, http, path)]
        mock.cloud.store.put(type, item)
        assert [*totals, await get(mock, http, path)] == [{"total": 0}, {"total": 1}]


async def get(mock, http, path):
    """What is answered, or the text of an error."""
    async with http.get(URL(mock.url + path, encoded=True), headers={"Authorization": f"OAuth {mock.session}"}) as answer:
        if answer.status != 200:
            return await answer.text()
        return {name: value for name, value in (await answer.json(content_type=None)).items() if name != "schema"}
