"""Which words can a module put before a reader? Its texts and f-strings, with holes for what is filled in."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAMES = {"Field", "build_table", "build_sheet", "chosen", "getattr", "Literal", "TypeVar", "include", "namedtuple"}
"""Calls whose first words are names of columns and fields."""


def sentences(path: Path) -> list[str]:
    """Texts of a module with letters in them, ``{}`` for each hole.

    Left out are docstrings, what errors say, keys and what is compared, and names: of columns, of files, of options.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {inner for node in ast.walk(tree) for part in _silent(node) for inner in ast.walk(part)}
    found = [_text(node) for node in ast.walk(tree) if node not in silent]
    return list(dict.fromkeys(text for text in found if text and not _is_name(text)))


def _silent(node: ast.AST) -> list[ast.AST]:
    """Parts of a node that no reader sees."""
    return next((parts(node) for kind, parts in _SILENT.items() if isinstance(node, kind)), [])


def _of_text(node: ast.JoinedStr) -> list[ast.AST]:
    formats = [part.format_spec for part in node.values if isinstance(part, ast.FormattedValue)]
    return [part for part in node.values if isinstance(part, ast.Constant)] + [part for part in formats if part]


def _of_call(node: ast.Call) -> list[ast.AST]:
    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
    kept = [word.value for word in node.keywords if word.arg in {"style", "kind"}]
    return [*kept, *(node.args[: 2 if name == "chosen" else 1] if name in NAMES else [])]


_SILENT = {
    ast.Expr: lambda node: [node.value] if isinstance(node.value, ast.Constant) else [],
    ast.Raise: lambda node: [node],
    ast.Assert: lambda node: [node],
    ast.Compare: lambda node: [node.left, *node.comparators],
    ast.Dict: lambda node: [key for key in node.keys if key is not None],
    ast.Subscript: lambda node: [node.slice],
    ast.Set: lambda node: [node],
    ast.AnnAssign: lambda node: [node.annotation],
    ast.JoinedStr: _of_text,
    ast.Call: _of_call,
}


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_name(text: str) -> bool:
    """Whether no sentence is meant: a file, an option, one word in small letters with a line below, no letters."""
    return not re.search("[A-Za-z]{2}", text.replace("{}", "")) or bool(
        re.fullmatch(r"[a-z0-9-]+(_[a-z0-9{}]*)*|--[\w {}-]+|[a-z]+/?\{\}|[a-z]+\.|[a-z_ ]*_[a-z_ ]*", text)
    )
