"""The canonical text of a catalogue: a fact a line, so that a change of one fact is a diff of one line."""

import json
from pathlib import Path

FILE = Path(__file__).parent.parent / "data" / "catalogue.json"
WIDTH = 120


def text_of(tables):
    return "{\n" + ",\n".join(f'"{name}": {{\n{records(rows)}\n}}' for name, rows in tables.items()) + "\n}\n"


def records(rows):
    return ",\n".join(f'"{number}": {{\n{members(record)}\n}}' for number, record in rows.items())


def members(record):
    return ",\n".join(f' {json.dumps(key)}: {value_of(key, value)}' for key, value in record.items())


def value_of(key, value):
    line = json.dumps(value)
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(element)}" for element in value) + "\n ]"
    if isinstance(value, dict) and len(line) + len(key) + 5 > WIDTH:
        return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(element)}" for name, element in value.items()) + "\n }"
    return line


if __name__ == "__main__":
    FILE.write_text(text_of(json.loads(FILE.read_text(encoding="utf-8"))), encoding="utf-8")
