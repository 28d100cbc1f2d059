"""What does Python run before a program that ``hwprof run -- ...`` starts? The hook, and what was here before it."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

_HERE = str(Path(__file__).resolve().parent)


def _before() -> None:
    """The environment's own sitecustomize, which ours stands before."""
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != _HERE])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


_before()
if os.environ.get("HWPROF_ATTACH"):
    try:
        from hwprof.attach import imports
    except ImportError as error:
        print(f"hwprof: not attached: {error}; install hwprof for {sys.executable}", file=sys.stderr)  # noqa: T201
    else:
        imports.listen()
