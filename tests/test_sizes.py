"""No module over 400 lines, no function over 60, no folder over 20 modules, but for a stated reason."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_MODULES_OF_A_FOLDER = 20
LONGER = {
    "hwprof/count/ops/matmul.py:attention_core": "half of it is its formula and what each argument means",
    "benchmarks/gpu_evidence.py": "one script, to be run alone on a machine with a GPU",
}
"""``path`` or ``path:function`` -> why it is longer."""


def _sources():
    for folder in ("hwprof", "tests", "benchmarks", "examples", ".ci"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def _folders():
    return sorted({path.parent for path in (ROOT / "hwprof").rglob("*.py")})


def _modules(folder):
    return [path.stem for path in folder.glob("*.py") if path.stem not in {"__init__", "__main__"}]


def _too_long(path):
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > MOST_LINES_OF_A_MODULE:
        yield name
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > MOST_LINES_OF_A_FUNCTION:
            yield f"{name}:{node.name}"


def _lines(node):
    """Lines of a function from its ``def`` on: options of a command are decorators, and a table."""
    return node.end_lineno - node.lineno + 1


def test_what_is_long_is_long_for_a_stated_reason():
    found = {name for path in _sources() for name in _too_long(path)}
    assert sorted(found - set(LONGER)) == []


def test_reasons_are_of_files_that_are_there():
    assert [name for name in LONGER if not (ROOT / name.partition(":")[0]).exists()] == []


def test_no_folder_has_more_modules_than_a_reader_takes_in():
    full = {folder.relative_to(ROOT).as_posix(): len(_modules(folder)) for folder in _folders()}
    assert {name: count for name, count in full.items() if count > MOST_MODULES_OF_A_FOLDER} == {}


def test_no_module_repeats_the_name_of_its_folder():
    repeats = [f"{folder.name}/{name}" for folder in _folders() for name in _modules(folder) if name == folder.name]
    assert repeats == []


def test_each_folder_opens_with_its_question():
    for folder in _folders():
        opening = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        assert opening, folder
        assert "?" in opening.splitlines()[0], f"{folder}: {opening.splitlines()[0]}"
