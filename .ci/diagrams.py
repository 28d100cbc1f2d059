"""Is what the documentation shows of the code what the code is? Draws imports, and the questions of the folders.

A page marks a diagram with the modules that it shows, a line for each floor, highest first:

    <!-- imports of
    hwprof.cli.run
    hwprof.session.run hwprof.session.request
    -->

and a table of folders with the packages in its order: ``<!-- questions of specs count ... -->``. What follows a mark
is made by ``make diagrams``; with ``--check`` it is an error where it is not what would be made, where a mark names a
module that is not there, or leaves out a package.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
DIAGRAM = re.compile(r"<!-- imports of\n(?P<modules>[\w.\s]+)-->\n(?:\n```mermaid\n.*?\n```\n)?", re.DOTALL)
TABLE = re.compile(r"<!-- questions of (?P<packages>[\w\s]+)-->\n(?:\n(?:\|.*\n)+)?")


def drawn(page: str, graph: grimp.ImportGraph, folder: Path) -> str:
    """A page with its diagrams of ``graph`` and its tables of the packages below ``folder`` made anew."""
    page = DIAGRAM.sub(lambda found: _diagram(found["modules"], graph), page)
    return TABLE.sub(lambda found: _table(found["packages"], folder), page)


def _diagram(modules: str, graph: grimp.ImportGraph) -> str:
    lines = "\n".join(["flowchart TD", *_lines([line.split() for line in modules.splitlines()], graph)])
    return f"<!-- imports of\n{modules}-->\n\n```mermaid\n{lines}\n```\n"


def _lines(floors: list[list[str]], graph: grimp.ImportGraph) -> Iterator[str]:
    """An arrow for each import, but to what another one shown leads to; a module without any stands alone."""
    shown = [module for floor in floors for module in floor]
    unknown = sorted(set(shown) - graph.modules)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: shown in a diagram of the docs, but not in the code; name what took the place")
    direct = {module: graph.find_modules_directly_imported_by(module) & set(shown) for module in shown}
    arrows = []
    for module in shown:
        through = {far for near in direct[module] for far in direct[near]}
        arrows += [(module, one) for one in shown if one in direct[module] - through]
    yield from (f"    {_place(module)}" for module in shown if not any(module in arrow for arrow in arrows))
    yield from (f"    {_place(module)} --> {_place(one)}" for module, one in arrows)


def _place(module: str) -> str:
    return module.removeprefix("hwprof.").replace(".", "/")


def _table(packages: str, folder: Path) -> str:
    """Each package, and each room in it, with the first line of what it says of itself."""
    named, there = packages.split(), sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    if sorted(named) != there:
        sys.exit(f"a table of the docs has the packages {' '.join(named)}, the code {' '.join(there)}; name each once")
    files = [path for name in named for path in sorted((folder / name).rglob("__init__.py"))]
    rows = [f"| `{path.parent.relative_to(folder.parent).as_posix()}` | {_question(path)} |" for path in files]
    return "\n".join([f"<!-- questions of {packages}-->", "", "| folder | its question |", "|---|---|", *rows, ""])


def _question(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main(arguments: list[str]) -> None:
    """Write the pages anew, or with ``--check`` say which ones are not as they would be written."""
    graph = grimp.build_graph("hwprof")
    stale = []
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        page = path.read_text(encoding="utf-8")
        new = drawn(page, graph, ROOT / "hwprof")
        if new != page and "--check" in arguments:
            stale.append(path.name)
        elif new != page:
            path.write_text(new, encoding="utf-8")
    if stale:
        sys.exit(f"docs: {', '.join(stale)} does not show what the code is; run `make diagrams`")


if __name__ == "__main__":
    main(sys.argv[1:])
