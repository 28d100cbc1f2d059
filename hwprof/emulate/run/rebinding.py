"""How is a function replaced wherever it was imported to?"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def rebind(module: ModuleType, name: str, function: Any) -> None:
    """Replace a module's function, in every module that holds it under its name."""
    before = getattr(module, name)
    setattr(module, name, function)
    for other in list(sys.modules.values()):
        if getattr(other, "__dict__", {}).get(name) is before:
            setattr(other, name, function)
