"""Is each diagram of the documentation what the code is? Draws the imports between the modules that a page names.

A page marks a diagram with the modules that it shows, a line for each floor, highest first:

    <!-- imports of
    hwprof.cli.run
    hwprof.session.run hwprof.session.request
    -->

The Mermaid block below such a mark is made by ``python .ci/diagrams.py``; with ``--check`` a block that is not
what it would make, or a module that is not there, is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

PAGES = Path(__file__).resolve().parents[1] / "docs"
DIAGRAM = re.compile(r"<!-- imports of\n(?P<modules>[\w.\s]+)-->\n(?:\n```mermaid\n.*?\n```\n)?", re.DOTALL)


def drawn(page: str, graph: grimp.ImportGraph) -> str:
    """The page with each of its diagrams made anew."""
    return DIAGRAM.sub(lambda found: _diagram(found["modules"], graph), page)


def _diagram(modules: str, graph: grimp.ImportGraph) -> str:
    lines = "\n".join(["flowchart TD", *_lines([line.split() for line in modules.splitlines()], graph)])
    return f"<!-- imports of\n{modules}-->\n\n```mermaid\n{lines}\n```\n"


def _lines(floors: list[list[str]], graph: grimp.ImportGraph) -> Iterator[str]:
    """Modules floor by floor, then the imports from each to those that it does not reach through another one shown."""
    shown = [module for floor in floors for module in floor]
    unknown = sorted(set(shown) - graph.modules)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: shown in a diagram of docs/, but not in the code; name what took the place")
    for module in shown:
        yield f'    {_key(module)}["{module.removeprefix("hwprof.").replace(".", "/")}"]'
    direct = {module: graph.find_modules_directly_imported_by(module) & set(shown) for module in shown}
    for module in shown:
        through = {far for near in direct[module] for far in direct[near]}
        yield from (f"    {_key(module)} --> {_key(other)}" for other in shown if other in direct[module] - through)


def _key(module: str) -> str:
    return module.replace(".", "_")


def main(arguments: list[str]) -> None:
    """Write the pages anew, or with ``--check`` say which ones are not as they would be written."""
    graph = grimp.build_graph("hwprof")
    stale = []
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        new = drawn(page, graph)
        if new != page and "--check" in arguments:
            stale.append(path.name)
        elif new != page:
            path.write_text(new, encoding="utf-8")
    if stale:
        sys.exit(f"docs: the diagrams of {', '.join(stale)} are not what the code is; run `make diagrams`")


if __name__ == "__main__":
    main(sys.argv[1:])
