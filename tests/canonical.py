"""The canonical text of a catalogue: a fact a line, so that a change of one fact is a diff of one line.

And that of the demo cloud: an object a line where it is short, else a field a line.
"""

import json
from pathlib import Path

FILE = Path(__file__).parent.parent / "data" / "catalogue.json"
DEMO = FILE.with_name("demo.json")
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


def text_of_cloud(cloud):
    parts = (f"{json.dumps(key)}: {collection_of(value)}" for key, value in cloud.items())
    return "{\n" + ",\n\n".join(parts) + "\n}\n"


def collection_of(value):
    return "[\n" + ",\n".join(map(object_of, value)) + "\n]" if isinstance(value, list) else json.dumps(value)


def object_of(item):
    line = " " + json.dumps(item, ensure_ascii=False)
    return line if len(line) < WIDTH else " {\n" + ",\n".join(f"  {json.dumps(key)}: {field_of(value)}" for key, value in item.items()) + "\n }"


def field_of(value):
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"   {json.dumps(reference)}" for reference in value) + "\n  ]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    for file, text in ((FILE, text_of), (DEMO, text_of_cloud)):
        file.write_text(text(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
