"""The tables of docs/ that follow from the code. Run as a script, it writes them into the pages.

A table stands between <!-- table: NAME --> and <!-- end -->. Its first columns are facts. The last column of an
English page is the description in the code, or, where the code has none, what stands in the page. A Chinese page
keeps its own descriptions, which belong to the first column.
"""

import inspect
import re
import sys
from dataclasses import dataclass, fields

if __name__ == "__main__":
    sys.path.insert(0, __file__.rpartition("/tests/")[0])

import pages

import zmock

MARKED = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", re.S)


@dataclass
class Table:
    """Rows of a table: facts by their first column, and descriptions, in any number of columns."""

    facts: list[list[str]]
    described: dict[str, list[str]] | None = None  # by the first fact; None: the page describes them
    columns: int = 1  # of descriptions


def code(text):
    return f"`{text}`" if text else ""


def key_of(cell):
    """Return what a row is known by: its first cell, or of a flag with its values the flag."""
    return cell.strip("`").partition(" ")[0] if cell.startswith("`--") else cell


def commands_table():
    return Table([[code(f"zmock {command.words}".strip())] for command in (zmock.SERVER, *zmock.COMMANDS.values())])


def settings_table():
    facts, described = [], {}
    for item in fields(zmock.Settings):
        default = f"{item.default:g}" if isinstance(item.default, float) else item.default
        flag = f"{zmock.flag_of(item.name)} {item.metadata.get('values', '')}".strip()
        facts.append([code(flag), code(zmock.variable_of(item.name)), code(default)])
        described[key_of(code(flag))] = [item.metadata["help"]]
    return Table(facts, described)


def dialect_table():
    rows = zmock.DIFFERENCES
    return Table([[row.name] for row in rows], {row.name: [row.manual, row.server] for row in rows}, 2)


def operators_table():
    return Table([[code(sign)] for sign in zmock.OPERATORS])


def rule_keys_table():
    return Table([[code(key)] for key in zmock.RULE_KEYS])


def then_keys_table():
    return Table([[code(key)] for key in [*zmock.THEN_KEYS, "at"]])


def drops_table():
    forms = ["{\"after\": BYTES}", "{\"rate\": BYTES_PER_SECOND}"]
    return Table([[code(word)] for word in [*zmock.DROPS, *forms]])


def incidents_table():
    return Table([[code(kind)] for kind in zmock.INCIDENTS])


def control_table():
    handlers = zmock.Control.CALLS
    facts, described = [], {}
    for call, handler in handlers.items():
        if handlers.get(f"{call}/{{name}}") == handler:
            continue  # without a name, it only names the collections
        method, path = call.split(" ")
        row = [code(f"{method} /zmock/{path}")]
        facts.append(row)
        described[row[0]] = [inspect.getdoc(handler).partition("\n")[0]]
    return Table(facts, described)


TABLES = {
    "commands": commands_table,
    "settings": settings_table,
    "dialect": dialect_table,
    "operators": operators_table,
    "rule_keys": rule_keys_table,
    "then_keys": then_keys_table,
    "drops": drops_table,
    "incidents": incidents_table,
    "control": control_table,
}


def cells_of(line):
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def line_of(cells):
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def rows_of(text):
    """Return the header lines of a table, and its rows by their first cell."""
    lines = [line for line in text.split("\n") if line.startswith("|")]  # without the marks of a merge
    return lines[:2], {key_of(cells[0]): cells for cells in map(cells_of, lines[2:])}


def written(name, text, in_english):
    """Return a table as it should stand in a page where `text` stands now."""
    table = TABLES[name]()
    header, rows = rows_of(text)
    lines = header
    for facts in table.facts:
        if table.described and in_english:
            described = table.described[key_of(facts[0])]
        else:
            described = rows.get(key_of(facts[0]), [])[len(facts):] or ["?"] * table.columns
        lines = [*lines, line_of([*facts, *described])]
    return "\n".join(lines) + "\n"


def rewritten(page):
    """Return the text of a page with its tables as they should be."""
    in_english = page in pages.ENGLISH

    def replaced(match):
        return f"<!-- table: {match[1]} -->\n{written(match[1], match[2], in_english)}<!-- end -->"

    return MARKED.sub(replaced, pages.text_of(page))


if __name__ == "__main__":
    for page in pages.PAGES:
        page.write_text(rewritten(page), encoding="utf-8")
