"""How does a command's help end? With lines that can be typed as they stand."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """The epilog of a command."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
