"""The rules of the house: what lets a reader open zmock.py anywhere and follow it."""

import ast
import functools
import re
import symtable
from pathlib import Path

import pytest

import zmock

SOURCE = Path(zmock.__file__)
TEXT = SOURCE.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
BANNERS = [(number, found[1]) for number, line in enumerate(LINES, 1) if (found := re.fullmatch(r"# ---- (.+?) -+", line))]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
REGISTRIES = {"BEHAVIOURS", "EFFECTS", "HOOKS", "INCIDENTS"}
VAGUE_NAMES = {"told", "said", "given", "asked", "found", "left", "kept", "known", "one", "what", "those", "thing"}
VAGUE_OPENERS = ("What ", "Whether ", "Who ", "Those ", "Also ", "The same ")


@functools.cache
def tree():
    """Return the syntax tree of zmock.py. Only a worker that runs these tests needs it."""
    return ast.parse(TEXT)


@functools.cache
def nodes():
    return [*ast.walk(tree())]


def functions():
    return [node for node in nodes() if isinstance(node, DEFINITIONS[:2])]


def section(line):
    return next((name for number, name in reversed(BANNERS) if number <= line), "the docstring and the imports")


def test_the_sections_are_those_of_the_map_in_its_order():
    described = re.findall(r"^    ([A-Z][A-Za-z ]*?) {2,}\S", zmock.__doc__, re.M)
    described = described[: described.index("Main") + 1]
    sections = list(dict.fromkeys(name.partition(":")[0] for _, name in BANNERS))
    assert sections == described
    areas = re.search(r"by area: (.*?)\n    [A-Z]", zmock.__doc__, re.S)[1]
    assert [name.partition(": ")[2] for _, name in BANNERS if ":" in name] == re.split(r",\s+", areas)
    assert len({name for _, name in BANNERS}) == len(BANNERS) <= 34


class WithoutAnnotations(ast.NodeTransformer):
    """Take the annotations away, which may name what stands below."""

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        target = node.target
        value = node.value or ast.Constant(None)
        return ast.copy_location(ast.Assign([target], value, lineno=node.lineno), node)

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        return node

    visit_AsyncFunctionDef = visit_FunctionDef


def globals_used(table, at_the_top=True):
    """Yield the names of a piece of the module that are not its own."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (at_the_top or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from globals_used(inner, False)


def test_a_section_uses_only_what_stands_above_it():
    order = {name: n for n, (_, name) in enumerate(BANNERS, 1)}
    bare = ast.fix_missing_locations(WithoutAnnotations().visit(ast.parse(TEXT)))
    places = {}
    for node in bare.body:
        for name in names_bound(node):
            places.setdefault(name, section(node.lineno))
    wrong = set()
    for node in bare.body:
        here = section(node.lineno)
        for name in {*globals_used(symtable.symtable(ast.unparse(node), "zmock", "exec"))} & places.keys():
            if order.get(places[name], 0) > order.get(here, 0):
                wrong.add(f"{here}: {getattr(node, 'name', 'a constant')} uses {name} of {places[name]}")
    assert sorted(wrong) == []


def names_bound(node):
    """Return the names that a statement of the module binds."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [inner.id for target in targets if target for inner in ast.walk(target) if isinstance(inner, ast.Name)]


def test_only_four_registries_are_filled_by_the_sections_below_them():
    empty = set()
    for node in tree().body:
        value = getattr(node, "value", None)
        if isinstance(value, (ast.Dict, ast.List)) and not ast.unparse(value).strip("{}[]"):
            empty |= {*names_bound(node)}
    assert empty == REGISTRIES


def test_no_line_is_wider_than_100_columns():
    assert [f"line {number}: {len(line)} columns" for number, line in enumerate(LINES, 1) if len(line) > 100 and "# ----" not in line] == []


def test_no_function_has_more_than_40_lines():
    assert {node.name: node.end_lineno - node.lineno + 1 for node in functions() if node.end_lineno - node.lineno >= 40} == {}


def test_a_local_name_says_what_its_value_is():
    names = [(node.lineno, node.arg) for node in nodes() if isinstance(node, ast.arg)]
    names += [(node.lineno, node.id) for node in nodes() if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert [f"line {line}: {name}" for line, name in names if name in VAGUE_NAMES] == []


def test_classes_and_long_functions_have_a_docstring_that_is_a_sentence():
    wrong = []
    for node in (node for node in nodes() if isinstance(node, DEFINITIONS)):
        text = ast.get_docstring(node)
        is_long = node.end_lineno - node.lineno > 25 and not node.name.startswith("_")
        if text is None and is_long and node.name != "__init__":
            wrong.append(f"line {node.lineno}: {node.name} has no docstring")
        if text and (text.startswith(VAGUE_OPENERS) or not re.search(r"[.:?)]$", text.split("\n\n")[0].strip())):
            wrong.append(f"line {node.lineno}: {text.splitlines()[0]}")
    assert wrong == []


def test_no_expression_stands_as_a_statement_for_its_effect():
    effects = (ast.IfExp, ast.Tuple, ast.BoolOp)
    assert [node.lineno for node in nodes() if isinstance(node, ast.Expr) and isinstance(node.value, effects)] == []


def test_every_function_has_typed_parameters_and_a_typed_result():
    untyped = []
    for node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if any(argument.annotation is None and argument.arg not in ("self", "cls") for argument in arguments):
            untyped.append(f"line {node.lineno}: {node.name}")
    assert untyped == []


@pytest.mark.parametrize("wrong", ("Misc", "Util", "Helper", "Manager", "Base", "Process", "Data"))
def test_no_class_and_no_section_is_a_drawer_for_what_fits_nowhere(wrong):
    classes = [node.name for node in nodes() if isinstance(node, ast.ClassDef)]
    words = [re.findall("[A-Z][a-z]+", name) for name in classes if name != "Database"]
    assert [name for name in words if wrong in name] == []
    assert [name for _, name in BANNERS if wrong.lower() in name.lower()] == []


def test_the_file_ends_in_the_command_line():
    assert [line for line in LINES if line][-2:] == ['if __name__ == "__main__":', "    sys.exit(main())"]
    assert BANNERS[-1][1] == "Main"


def test_whoever_swallows_any_exception_logs_its_traceback():
    """All others raise it again, or something else from it. One call each, one timer, one undo may fail alone."""
    swallowing = set()
    for function in functions():
        for node in ast.walk(function):
            caught = re.findall(r"\w+", ast.unparse(node.type or ast.Name("Exception"))) if isinstance(node, ast.ExceptHandler) else ()
            if not {"Exception", "BaseException"} & set(caught):
                continue
            raised = [inner for inner in ast.walk(node) if isinstance(inner, ast.Raise)]
            if any(inner.exc is None or ast.unparse(inner.cause or ast.Constant(None)) == node.name for inner in raised):
                continue
            swallowing.add((section(node.lineno), function.name))
            first = ast.unparse(node.body[0])
            logs = first.startswith("log.exception") or "exc_info" in first or "control_error(" in first  # which logs it
            assert logs, f"line {node.lineno}"
    assert swallowing == {("Clock", "fire_due"), ("Store", "undo"), ("Jobs", "attempt"), ("Jobs", "leave_traces"), ("API", "answer"), ("Control", "answer")}


def test_only_the_clock_knows_the_time_and_sleeps():
    asked = [(node.lineno, ast.unparse(node)) for node in nodes() if isinstance(node, ast.Attribute)]
    wrong = [(line, name) for line, name in asked if name.startswith("time.") or name in ("asyncio.sleep", "datetime.now")]
    assert [f"{section(line)}, line {line}: {name}" for line, name in wrong if section(line) != "Clock"] == []


def test_no_name_is_given_twice():
    targets = [target for node in tree().body for target in (node.targets if isinstance(node, ast.Assign) else [node.target if isinstance(node, ast.AnnAssign) else None])]
    given = [name.id for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target]) if isinstance(name, ast.Name)]
    given += [node.name for node in tree().body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    assert sorted(name for name in {*given} if given.count(name) > 1) == []
