"""data/schema.json: JSON Schema of the files that people write, made from the tables that zmock checks them with.

Run as a script, it writes the file. A test fails while the file differs from the tables.
"""

import json
import sys
from itertools import chain
from types import NoneType
from typing import get_args, get_origin, get_type_hints

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/tests/")[0])

import zmock
from zmock import Allowed, AllowedList, AllowedObject, Either

NULL = {"type": "null"}
TEXT = {"type": "string"}
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", NoneType: "null"}


def document():
    """Return the whole schema, with a definition for each kind of file."""
    catalogue = zmock.catalogue()
    files = {
        "rules": {"type": "array", "items": rule(catalogue)},
        "scenario": {"type": "array", "items": step()},
        "cloud": cloud(catalogue),
        "catalogue": tables(),
    }
    refs = [{"$ref": f"#/$defs/{name}"} for name in files]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Files of zmock", "anyOf": refs, "$defs": files}


def closed(properties, required=()):
    """Return the schema of an object with these properties and no others."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": [*required]} if required else {})


def nullable(schema):
    return {"anyOf": [schema, NULL]}


def beside(properties):
    """Return the schema for the properties that stand beside others: {key: {other: schema}}."""
    return {"dependentSchemas": {key: {"properties": others} for key, others in properties.items()}}


# rules and scenarios


def of_shape(shape):
    """Return the schema of the values that a shape of section Rules allows."""
    match shape:
        case Allowed():
            return of_allowed(shape)
        case AllowedList():
            return {"type": "array", "items": of_shape(shape.each), "minItems": shape.least, "maxItems": shape.most}
        case AllowedObject():
            return closed(of_shapes(shape.keys), shape.keys)
        case Either():
            return {"anyOf": [of_shape(shape.plain), single(of_shapes(shape.forms))]}
    raise TypeError(f"no schema for {shape}")


def of_shapes(shapes):
    return {name: of_shape(shape) for name, shape in shapes.items()}


def single(properties):
    """Return the schema of an object with one of these properties."""
    return closed(properties) | {"minProperties": 1, "maxProperties": 1}


def of_allowed(allowed):
    if allowed.types is object:
        return {}
    types = allowed.types if isinstance(allowed.types, tuple) else (allowed.types,)
    schema = {"type": [TYPES[type] for type in types], "description": allowed.meaning}
    if allowed.words:
        schema["enum"] = [*allowed.words]
    if allowed.pattern not in (Allowed.pattern, zmock.ANY_TEXT.pattern):  # a schema leaves half surrogates to zmock
        schema["pattern"] = f"^(?:{allowed.pattern})$"
    if {*types} <= {int, float}:
        low = {"exclusiveMinimum": 0} if allowed.low == zmock.TINY else {"minimum": allowed.low}
        schema |= low | {"maximum": allowed.high}
    return schema


def rule(catalogue):
    properties = of_shapes(zmock.RULE_KEYS)
    glob = {"type": "string", "pattern": r"[*?\[]", "maxLength": zmock.LONGEST_GLOB}
    properties["api"] = {"anyOf": [{"enum": [zmock.POLL_JOB.name, *catalogue.apis]}, glob]}
    properties["when"] |= {"propertyNames": {"pattern": pattern_of_conditions()}, "additionalProperties": of_allowed(zmock.GLOB)}
    properties["then"] = then(catalogue)
    schema = closed({name: nullable(inner) for name, inner in properties.items()})
    return schema | {"anyOf": [{"required": [name], "properties": {name: TEXT}} for name in ("api", "path")]}


def pattern_of_conditions():
    """Return the pattern of the keys of `when`: method, path, params.NAME, ..."""
    return f"^(?:{'|'.join(zmock.CONDITIONS)})$".replace(".NAME", r"\..+")


def then(catalogue):
    properties = of_shapes(zmock.THEN_KEYS)
    properties |= {"error": {"enum": [*catalogue.errors]}, "at": {"enum": [*zmock.THEN["error"]]}}
    properties["headers"] |= {"propertyNames": {"pattern": f"^(?:{zmock.HEADER_NAME})$"}, "additionalProperties": of_allowed(zmock.HEADER_TEXT)}
    others = {"stage": {"at": {"const": "job"}}, "for": {"job": {"const": "hold"}}}
    for effect, moments in zmock.THEN.items():
        others[effect] = dict.fromkeys([other for other in zmock.THEN if other != effect], False)
        others[effect]["at"] = {"enum": [*moments]} if moments != ("job",) else False
    owners = {key: [owner] for key, owner in zmock.OWNERS.items()}
    return closed(properties) | {"dependentRequired": owners} | beside(others)


def step():
    properties = of_shapes(zmock.STEP_KEYS) | {
        "rule": {"$ref": "#/$defs/rules/items"},
        "incident": single(dict.fromkeys(zmock.INCIDENTS, {})),
        "cloud": {"$ref": "#/$defs/cloud"},
    }
    return closed(properties, ["at"]) | {"oneOf": [{"required": [action]} for action in zmock.ACTIONS]}


# clouds


def cloud(catalogue):
    """Return the schema of a cloud file: lists of objects by collection or by type."""
    properties = dict.fromkeys(zmock.NO_COLLECTIONS, nullable(TEXT))
    for name, row in (catalogue.collections | catalogue.resources).items():
        properties[name] = {"type": "array", "items": ref(row)}
    items = {name: item(catalogue, row) for name, row in catalogue.resources.items()}
    return closed(properties) | {"$defs": items}


def ref(row):
    return {"$ref": f"#/$defs/cloud/$defs/{row.name}"}


def item(catalogue, row):
    """Return the schema of an object in a cloud file. A resource with subtypes has the fields of all."""
    properties, rows = {}, catalogue.resources.values()
    inside = {each.place.list_name: each for each in rows if each.inside and each.place.owner == row.stored}
    kinds = [row, *catalogue.subtypes[row.name].values()]
    for name, kind in catalogue.item_fields[row.name].items():
        properties[name] = field(name, kind, [catalogue.values_of(each, name) for each in kinds])
        if kind == "maps" and name in inside:
            properties[name]["items"] = ref(inside[name])
    for each in kinds:
        for name, part in catalogue.embedded[each.name].items():
            properties[name] = {"type": ["array", "null"], "items": ref(part)}
    return closed(properties)


def field(name, kind, values):
    """Return the schema of a field. `values` are those of each subtype, if a subtype restricts them."""
    types = ("integer", "number") if kind == "double" else (TYPES[zmock.KINDS[kind]],)
    schema = {"type": [*types, "null"]}
    if kind in zmock.ELEMENTS:
        schema["items"] = {"type": TYPES[zmock.ELEMENTS[kind]]}
    if zmock.SIZE.search(name):
        schema["minimum"] = 0
    if kind == "str" and all(values):
        schema["enum"] = [*dict.fromkeys(chain(*values)), None]
    return schema


# catalogues


def tables():
    """Return the schema of a catalogue file: tables, each a list of rows, or rows by number."""
    properties = {"$schema": TEXT}
    for table, row_class in zmock.TABLES.items():
        types, columns = get_type_hints(row_class), zmock.columns_of(table)
        keys = {key: column_schema(column, types[column.attribute]) for key, column in columns.items()}
        row = closed(keys, [key for key, column in columns.items() if column.is_needed])
        properties[table] = {"type": ["array", "object"], "items": row, "additionalProperties": row}
    return closed(properties)


def column_schema(column, type):
    schema = of_type(type) if column.words else {}
    if column.form:
        schema.get("items", schema)["pattern"] = f"^(?:{column.form[0]})$"
    return schema


def of_type(type):
    """Return the schema of the JSON values of a Python type such as dict[str, tuple[str, ...]]."""
    arguments = get_args(type)
    if get_origin(type) is tuple:
        return {"type": "array", "items": of_type(arguments[0])}
    if get_origin(type) is dict:
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    if arguments:
        return {"anyOf": [of_type(argument) for argument in arguments]}
    return {"type": TYPES[type]} if type in TYPES else {}


# the file


def text():
    """Return the text of the file: a line for each definition."""
    schema = document()
    definitions = schema["$defs"] = dict(schema["$defs"])
    items = definitions["cloud"] = dict(definitions["cloud"])
    items["$defs"] = {}
    lines = [f"{json.dumps(name)}:{compact(inner)}" for name, inner in document()["$defs"]["cloud"]["$defs"].items()]
    return compact(schema).replace('"$defs":{}', '"$defs":{\n' + ",\n".join(lines) + "\n}") + "\n"


def compact(value):
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    zmock.SCHEMA_FILE.write_text(text(), encoding="utf-8")
