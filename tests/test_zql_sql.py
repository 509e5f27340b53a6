"""ZQL against SQL: what generated statements find in generated clouds is what SQLite finds through a translation of its own.

The clouds and the comparisons of values are those of tests/test_query_sql.py. The tree of conditions, the sub-queries and the ways
of `restrict by` are read here from the same bytes twice: as ZQL for zmock, and as SQL.

More clouds than usual: SQL_CLOUDS=5000 python -m pytest tests/test_zql_sql.py
"""

from contextlib import closing

import pytest
from test_query_sql import (
    CHILDREN,
    FIELDS,
    JOINED,
    REFERENCES,
    TABLES,
    TAGS,
    Choices,
    Refused,
    Sql,
    cases,
    every,
    near_value,
    pattern,
    read_case,
    read_path,
    zmock_of,
)

import zmock

SIGNS = {"=": "=", "!=": "!=", ">": ">", "<": "<", ">=": ">=", "<=": "<=", "in": "?=", "not in": "!?=", "like": "~=", "not like": "!~=",
         "is null": "is null", "is not null": "not null"}  # fmt: skip
WAYS = {  # by the keys of the tables: where `restrict by` goes from one type to another
    ("VmInstance", "Zone"): ["zoneUuid=Zone.uuid"],
    ("VmInstance", "Cluster"): ["clusterUuid=Cluster.uuid"],
    ("VmInstance", "Image"): ["imageUuid=Image.uuid"],
    ("VmInstance", "L3Network"): ["uuid=VmNic.vmInstanceUuid", "l3NetworkUuid=L3Network.uuid"],
    ("VmInstance", "VmInstance"): [],
    ("Host", "Zone"): ["zoneUuid=Zone.uuid"],
    ("Volume", "Zone"): ["primaryStorageUuid=PrimaryStorage.uuid", "zoneUuid=Zone.uuid"],
    ("Volume", "Cluster"): ["vmInstanceUuid=VmInstance.uuid", "clusterUuid=Cluster.uuid"],
    ("Eip", "L3Network"): ["vipUuid=Vip.uuid", "l3NetworkUuid=L3Network.uuid"],
    ("Image", "BackupStorage"): ["uuid=ImageBackupStorageRef.imageUuid", "backupStorageUuid=BackupStorage.uuid"],
    ("PortForwardingRule", "Vip"): ["vipUuid=Vip.uuid"],
    ("Zone", "Cluster"): None,
    ("Cluster", "Host"): None,
    ("DiskOffering", "Zone"): None,
}
TYPES = [type for type in TABLES if type not in REFERENCES]


def quoted(text):
    return "'" + text.replace("'", "") + "'"


class Reader:
    """Reads a statement from bytes: as ZQL, and as a tree that tells what it means."""

    def __init__(self, choices, cloud):
        self.choices, self.cloud = choices, cloud

    def field_of(self, type):
        """A field of a type that a statement may name."""
        fields = [field for field in FIELDS[type].values() if (type, field.name) not in CHILDREN]
        return self.choices.pick([field for field in fields if not (field.name == "uuid" and type in REFERENCES)])

    def expression(self, type):
        """(ZQL, (path, sign, values or sub-query))"""
        pick, (path, end) = self.choices.pick, read_path(self.choices, type)
        tagged = end not in {*TAGS.values(), *REFERENCES} and self.choices.upto(6) == 1
        name = pick([*TAGS]) if tagged else self.field_of(end).name
        field = FIELDS[TAGS[name]]["tag"] if tagged else FIELDS[end][name]
        sign = pick([*SIGNS])
        names = ".".join([*path, name])
        if sign.endswith("null"):
            return f"{names} {sign}", ([*path, name], SIGNS[sign], [])
        if self.choices.upto(4) == 1 and sign not in ("like", "not like"):
            return self.with_query(names, [*path, name], sign, field)
        there = [value for item in self.cloud[field.type] for value in every(item.get(field.name))]
        count = 1 + self.choices.upto(2) if sign.endswith("in") else 1
        values = [pattern(self.choices, [*map(str, there)]) if sign.endswith("like") and field.kind != "bool" else near_value(self.choices, field, there)
                  for _ in range(count)]  # fmt: skip
        values = [value.replace("'", "").replace("%s", "") for value in values]
        words = [value if value.isdigit() and len(value) < 20 and field.kind == "number" and self.choices.upto(1) else quoted(value) for value in values]
        if field.kind == "bool":
            words = [value if value in ("true", "false") and self.choices.upto(1) else quoted(value) for value in values]
        told = f"({', '.join(words)})" if sign.endswith("in") else words[0]
        space = pick(("", " ")) if sign[0] in "=!<>" else " "
        return f"{names}{space}{sign}{space}{told}", ([*path, name], SIGNS[sign], values)

    def with_query(self, names, path, sign, field):
        """A condition whose values a sub-query has: those of a field of the same kind."""
        fields = [(type, other.name) for type in TYPES for other in FIELDS[type].values()
                  if other.kind == field.kind and not other.list and other.name not in JOINED and (type, other.name) not in CHILDREN]  # fmt: skip
        type, name = self.choices.pick(fields)
        where, tree = self.conditions(type, 1) if self.choices.upto(3) else ("", None)
        text = f"query {type}.{name}" + (f" where {where}" if where else "")
        return f"{names} {sign} ({text})", (path, SIGNS[sign], (type, name, tree))

    def conditions(self, type, most):
        """Conditions joined by and, or, with brackets where there are some; they group to the right."""
        parts = [self.operand(type, most) for _ in range(self.choices.pick((1, 1, 2, 2, 3, 4)) if most else 1)]
        joints = [self.choices.pick(("and", "or")) for _ in parts[1:]]
        text, tree = parts[-1]
        for (left, meant), joint in zip(reversed(parts[:-1]), reversed(joints)):
            text, tree = f"{left} {joint} {text}", (joint, meant, tree)
        return text, tree

    def operand(self, type, most):
        if most and self.choices.upto(3) == 1:
            text, tree = self.conditions(type, most - 1)
            return f"({text})", tree
        return self.expression(type)

    def restriction(self, type):
        """(ZQL, (way, end, path, sign, values)) or one of a tag."""
        others = [end for start, end in WAYS if start == type]
        end = self.choices.pick(others)
        field = self.choices.pick([field for field in FIELDS[end].values() if not field.list and (end, field.name) not in CHILDREN])
        there = [value for item in self.cloud[end] for value in every(item.get(field.name))]
        sign, value = self.choices.pick(("=", "!=", ">", "<")), near_value(self.choices, field, there).replace("'", "")
        return f"{end}.{field.name} {sign} {quoted(value)}", (WAYS[type, end], end, [field.name], sign, [value])

    def statement(self):
        pick, upto = self.choices.pick, self.choices.upto
        restricted = upto(3) == 1
        type = pick(sorted({start for start, _ in WAYS})) if restricted else pick(TYPES)
        meant = {"type": type, "count": upto(5) == 1, "tree": None, "restrictions": [], "sort": None, "page": (0, None), "fields": [], "total": False}
        own = [field.name for field in FIELDS[type].values() if not field.list and (type, field.name) not in CHILDREN]
        target = pick((type, type.lower(), type.upper()))
        if not upto(3):
            meant["fields"] = [*{"uuid": 0, pick([name for name in own if name not in JOINED]): 0}]
            target += "." + ",".join(meant["fields"])
        text = ["count" if meant["count"] else "query", target]
        if upto(6):
            where, meant["tree"] = self.conditions(type, 3)
            text += ["where", where]
        if restricted:
            found = [self.restriction(type) for _ in range(1 + upto(1))]
            text.append(f"restrict by ({', '.join(word for word, _ in found)})")
            meant["restrictions"] = [way for _, way in found]
        if not meant["count"] and not upto(3):
            text.append("return with (total)")
            meant["total"] = True
        if not upto(2):
            meant["sort"] = pick(own), pick(("asc", "desc"))
            text.append("order by {} {}".format(*meant["sort"]))
        if not upto(2):
            limit, start = upto(5), upto(3)
            meant["page"] = start, start + limit
            text.append(f"limit {limit} offset {start}")
        return "\n".join(text) if upto(5) == 1 else " ".join(text), meant


class Translation:
    """A statement in SQL."""

    def __init__(self, sql):
        self.sql = sql

    def where(self, type, tree):
        if tree is None:
            return "1", []
        if tree[0] in ("and", "or") and len(tree) == 3:
            left, values = self.where(type, tree[1])
            right, more = self.where(type, tree[2])
            return f"(({left}) {tree[0]} ({right}))", values + more
        path, sign, told = tree
        if isinstance(told, tuple):
            return self.with_query(type, path, sign, *told)
        return self.compare(type, path, sign, told)

    def compare(self, type, path, sign, values):
        """The comparison of one field; one with a list is one with each of its values."""
        if not sign.endswith("?="):
            return self.sql.where(type, path, sign, values[0] if values else "", None)
        bare = sign.lstrip("!")
        if bare != sign and (path[-1] in TAGS or len(path) > 1 or FIELDS[type][path[-1]].list):
            joined = ",".join(values)
            if any("," in value or not value for value in values):
                raise Ambiguous
            return self.sql.where(type, path, sign, joined, None)
        parts = [self.sql.where(type, path, "=", value, None) for value in values]
        whole = " OR ".join(f"({text})" for text, _ in parts)
        return f"NOT ({whole})" if bare != sign else whole, [value for _, more in parts for value in more]

    def with_query(self, type, path, sign, other, name, tree):
        where, values = self.where(other, tree)
        rows = [row[0] for row in self.sql.db.execute(f"SELECT {name} FROM {other} WHERE {where}", values)]
        if not sign.endswith("?="):
            if len(rows) > 1:
                raise Refused("the sub-query has several rows")
            if not rows or rows[0] is None:
                return self.unknown(type, path, sign)
            return self.compare(type, path, sign, [self.word(other, name, rows[0])])
        if sign.startswith("!") and None in rows:
            return self.unknown(type, path, sign)
        words = [self.word(other, name, row) for row in rows if row is not None]
        if words:
            return self.compare(type, path, sign, words)
        if sign.startswith("!") and path[-1] not in TAGS:  # all, where there is a row
            text, more = self.sql.where(type, path, "is null", "", None)
            other, others = self.sql.where(type, path, "not null", "", None)
            return f"({text}) OR ({other})", more + others
        return self.unknown(type, path, sign)

    def unknown(self, type, path, sign):
        """Nothing compares with null; a tag that is not there is none."""
        if path[-1] in TAGS and sign.startswith("!"):
            text, values = self.sql.where(type, [*path[:-1], path[-1]], "!=", "no tag has this text", None)
            return text, values
        return "0", []

    def word(self, type, name, value):
        kind = FIELDS[type][name].kind
        return {0: "false", 1: "true"}[value] if kind == "bool" else str(value)

    def restrict(self, type, way, end, path, sign, values):
        if way is None:
            return "1", []
        where, found = self.sql.where(end, path, sign, values[0], None)
        types = [type]
        for step in way:
            types.append(step.partition("=")[2].partition(".")[0])
        for start, step in zip(reversed(types[:-1]), reversed(way)):
            own, _, place = step.partition("=")
            target, _, theirs = place.partition(".")
            where, found = self.sql.related((own, target, theirs), start, where, found)
        return where, found

    def find(self, meant):
        """[(uuid, key)] in the order of the statement, of all pages."""
        type = meant["type"]
        parts = [self.where(type, meant["tree"])] + [self.restrict(type, *restriction) for restriction in meant["restrictions"]]
        where, values = " AND ".join(f"({text})" for text, _ in parts), [value for _, more in parts for value in more]
        name, direction = meant["sort"] or ("uuid", "asc")
        key = f"upper(rtrim({name}))" if FIELDS[type][name].kind == "text" else name
        return self.sql.db.execute(f"SELECT uuid, {key} k FROM {type} WHERE {where} ORDER BY k {direction}, uuid", values).fetchall()


class Ambiguous(Exception):
    """A list that tests/test_query_sql.py cannot write with commas."""


def difference(sql, text, meant, mock):
    """What zmock has and SQL has not, or nothing."""
    try:
        found = Translation(sql).find(meant)
    except Refused as reason:
        found = reason
    except Ambiguous:
        return ""
    try:
        statement = zmock.ZqlParser(text, mock.catalogue).statement()
        answer = mock.query(None, statement, mock.queries)
    except zmock.ApiError as error:
        return "" if isinstance(found, Refused) else f"zmock refuses: {error}; SQL has {found}"
    if isinstance(found, Refused):
        return f"the server refuses: {found}; zmock has {answer}"
    if meant["count"]:
        return "" if answer == {"total": len(found)} else f"{answer}, SQL {len(found)}"
    if meant["total"] != ("total" in answer) or answer.get("total", len(found)) != len(found):
        return f"total {answer.get('total')}, SQL {len(found)}"
    key_of, page = dict(found), slice(*meant["page"])
    uuids = [item["uuid"] for item in answer["inventories"]]
    if meant["fields"] and any(item.keys() - {*meant["fields"]} for item in answer["inventories"]):
        return f"more than {meant['fields']}"
    if len({*uuids}) < len(uuids) or not {*uuids} <= key_of.keys():
        return f"{uuids}, SQL {found}"
    return "" if [key_of[uuid] for uuid in uuids] == [key for _, key in found[page]] else f"{uuids}, SQL {found[page]}"


def check_statements(cloud, before, queries, dialect):
    """Check 20 statements on a cloud; each is read from 120 bytes."""
    cloud, before, _ = read_case(cloud, before, [])
    mock, sql = zmock_of(cloud, dialect, before), Sql(cloud, dialect)
    with closing(sql.db):
        for number in range(0, len(queries), 3):
            text, meant = Reader(Choices(b"".join(queries[number : number + 3])), cloud).statement()
            wrong = difference(sql, text, meant, mock)
            assert not wrong, f"{text!r} in the dialect {dialect}: {wrong}"


@cases(20)
def test_zmock_finds_what_sql_finds(cloud, before, queries, dialect):
    check_statements(cloud, before, queries, dialect)


@pytest.mark.slow
@cases(200)
def test_zmock_finds_what_sql_finds_in_many_clouds(cloud, before, queries, dialect):
    check_statements(cloud, before, queries, dialect)
