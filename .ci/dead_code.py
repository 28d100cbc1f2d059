"""Is there code in hwprof that nothing uses, or only tests? Tests are not among what is read here.

Two looks, as each sees what the other can't: vulture knows names of methods, fields and arguments, wherever they stand;
what a module has at its top is also looked up where it is imported, so that a name that stands twice hides nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from vulture import Vulture
from vulture.config import make_config

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = {
    "*:__*__": "Python looks for it",
    "*:model_config": "pydantic looks for it",
    "hwprof/specs/*: variable": "fields of files and of records, for people and programs that read JSON",
    "hwprof/adapters/*.py:on_*": "the trainer calls it",
    "hwprof/adapters/lightning.py:batch_idx": "the trainer names it",
    "hwprof/adapters/lightning.py:exception": "the trainer names it",
    "hwprof/cli/__init__.py:*_command*": "click calls it",
    "hwprof/cli/serve.py:do_*": "http.server calls it",
    "hwprof/cli/serve.py:log_message": "http.server calls it",
    "hwprof/cli/serve.py:*_version": "http.server sends it",
    "hwprof/deploy/engine.py: variable": "fields of a file, read by their names",
    "hwprof/deploy/rollout.py:generate_s": "JSON has it by its name",
    "hwprof/session/bench_server.py:requests_per_s": "JSON has it by its name",
    "benchmarks/serve_tiny.py: attribute": "tokenizers and transformers read it",
    "hwprof/deploy/accuracy.py: variable": "fields of JSON, printed by their names",
    "hwprof/emulate/run/cuda/accelerator.py:avoid_device_init": "torch asks it",
    "hwprof/emulate/run/witness.py:supports_*": "torch asks it",
    "hwprof/trace/snapshot.py:find_class": "pickle calls it",
    "hwprof/emulate/run/cuda/names.py:*": "scripts and torch ask it",
    "hwprof/emulate/run/groups.py:*": "torch.distributed calls it",
    "hwprof/emulate/run/replicas.py:*": "DistributedDataParallel calls it",
    "hwprof/emulate/run/worlds.py:_get_accelerator": "torch asks it",
    "hwprof/emulate/run/cuda/streams.py:*": "scripts and torch call it",
    "hwprof/cli/serve.py:request_queue_size": "socketserver reads it",
    "hwprof/cli/serve.py:service_actions": "socketserver calls it",
    "hwprof/cli/serve.py:handle_error": "socketserver calls it",
    "hwprof/loop/profile.py:to_pandas": "what people call, see docs/own-loop.md",
    "hwprof/loop/profile.py:_repr_html_": "notebooks call it",
    "hwprof/measure/telemetry/gpm.py: attribute": "NVML reads the structure",
    "hwprof/predict/kernels/traffic/training_ops.py:*": "facts on fused and eager kernels; docs/kernels.md shows them",
    "hwprof/simulate/published/words.py:VOCABULARIES": "tests walk every word of every column",
    "hwprof/report/run/headline.py:more_recommendations": "a template shows it",
    "hwprof/report/xlsx.py: attribute": "openpyxl writes it",
    "hwprof/train/bpe.py:pre_tokenizer": "tokenizers reads it",
    "examples/lightning_trainer.py:*": "the trainer calls it",
    "benchmarks/programs/*.py:*": "programs for the libraries that they are written for",
}
"""``path:name``, or ``path: kind``, as patterns -> why nothing in the code uses it."""


class Found(NamedTuple):
    """A name that nothing uses; ``kind`` is function, method, class, variable, attribute, ..."""

    path: str
    line: int
    name: str
    kind: str

    def is_meant_by(self, exception: str) -> bool:
        """Whether an exception allows it."""
        return any(fnmatch(f"{self.path}:{said}", exception) for said in (self.name, f" {self.kind}"))


def by_name(root: Path) -> Iterator[Found]:
    """What vulture finds, with the settings of pyproject.toml."""
    settings = make_config([f"--config={root / 'pyproject.toml'}"])
    looker = Vulture(ignore_names=settings["ignore_names"], ignore_decorators=settings["ignore_decorators"])
    looker.scavenge([str(root / path) for path in settings["paths"]])
    for item in looker.get_unused_code(min_confidence=settings["min_confidence"]):
        path = Path(item.filename).resolve().relative_to(root)
        yield Found(path.as_posix(), item.first_lineno, item.name, item.typ)


class Module:
    """A file: what it defines at its top, and what it uses of other modules."""

    def __init__(self, path: Path, modules: frozenset[str]) -> None:
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.names_used: set[tuple[str, str]] = set()
        self.attributes_used: set[str] = set()
        imported: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    module = f"{node.module}.{alias.name}"
                    if module in modules:
                        imported[alias.asname or alias.name] = module
                    self.names_used.add((node.module or "", alias.name))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                owner = imported.get(node.value.id) if isinstance(node.value, ast.Name) else None
                if owner is None:
                    self.attributes_used.add(node.attr)
                else:
                    self.names_used.add((owner, node.attr))

    def defined(self) -> Iterator[tuple[str, ast.stmt]]:
        """Functions, classes and constants, but what a decorator registers."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.decorator_list):
                yield node.name, node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))

    def uses_itself(self, name: str, definition: ast.stmt) -> bool:
        """Whether a name is used beside its definition."""
        rest = (inner for node in self.tree.body if node is not definition for inner in ast.walk(node))
        return any(name in {getattr(node, "id", None), getattr(node, "value", None)} for node in rest)


def by_import(root: Path) -> Iterator[Found]:
    """What no file imports and its own module does not use."""
    paths = {_dotted(path.relative_to(root)): path for path in sorted((root / "hwprof").rglob("*.py"))}
    modules = {name: Module(path, frozenset(paths)) for name, path in paths.items()}
    others = [path for folder in ("benchmarks", "examples") for path in (root / folder).glob("*.py")]
    everywhere = [*modules.values(), *(Module(path, frozenset(paths)) for path in others)]
    names_used = set().union(*(module.names_used for module in everywhere))
    attributes_used = set().union(*(module.attributes_used for module in everywhere))
    for name, module in modules.items():
        for defined, node in module.defined():
            if (name, defined) in names_used or defined in attributes_used or module.uses_itself(defined, node):
                continue
            yield Found(paths[name].relative_to(root).as_posix(), node.lineno, defined, type(node).__name__)


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def complaints(root: Path) -> list[str]:
    """A line for each name that nothing uses, and for each exception that nothing needs."""
    found = {*by_name(root), *by_import(root)}
    left = {(one.path, one.line, one.name) for one in found if not any(one.is_meant_by(each) for each in EXCEPTIONS)}
    stale = [each for each in EXCEPTIONS if not any(one.is_meant_by(each) for one in found)]
    return [
        *(f"{path}:{line}: nothing uses {name}, or only tests do; remove it" for path, line, name in sorted(left)),
        *(f".ci/dead_code.py: the exception {each!r} is not needed; remove it" for each in stale),
    ]


if __name__ == "__main__":
    sys.exit("\n".join(complaints(ROOT)) or 0)
