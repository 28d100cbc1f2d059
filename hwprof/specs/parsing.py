"""How does a TOML file, or what somebody asks for, become a checked noun, and what is said when it can't?"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hwprof.errors import InputError, SpecError
from hwprof.specs.frozen import Record
from hwprof.specs.reading import check_bounded, content_of

_REMEDY = "name a TOML file, or a name that `hwprof specs list` shows"

_MOST = 1e18
"""No dimension, count or capacity of a specification comes near it."""

Noun = TypeVar("Noun", bound=Record)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        SpecError: there is no such file, it cannot be read, it is empty, or it is not TOML.
    """
    content = content_of(path, error=SpecError, remedy=_REMEDY)
    try:
        tables = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not text", expectation="expected TOML in UTF-8", remedy=_REMEDY) from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not TOML: {error}", remedy="correct the file at that place") from error
    check_bounded(tables, path, error=SpecError, remedy="correct the file")
    if not tables:
        raise SpecError(f"{path} is empty", expectation="expected a TOML file with keys", remedy=_REMEDY)
    return tables


def build(noun: type[Noun], tables: dict[str, Any], *, path: Path, example: str) -> Noun:
    """The noun that the tables of ``path`` describe; ``example`` is a catalogue name of the same sort.

    Raises:
        SpecError: the first problem, with the number of further ones; it names file, key, expectation and remedy.
    """
    problems: list[SpecError] = []
    built = _validate(noun, tables, path=path, example=example, problems=problems)
    if built is None:
        first, more = problems[0], len(problems) - 1
        fact = f"{first.fact} (and {more} more: see `hwprof specs check {path}`)" if more else first.fact
        raise SpecError(fact, expectation=first.expectation, remedy=first.remedy)
    return built


def problems_in(noun: type[Record], tables: dict[str, Any], *, path: Path, example: str) -> list[SpecError]:
    """Every problem of the tables of ``path``; empty when they describe a ``noun``."""
    problems: list[SpecError] = []
    _validate(noun, tables, path=path, example=example, problems=problems)
    return problems


def checked(noun: type[Noun], **values: Any) -> Noun:
    """The noun that a person or a program asked for by its fields.

    Raises:
        InputError: the first problem: a field and what was expected of it, or what does not go together.
    """
    try:
        return noun(**values)
    except ValidationError as error:
        problem = _problem(error.errors(include_url=False)[0], noun=noun)
        raise InputError(problem.fact, expectation=problem.expectation, remedy=problem.remedy) from error


def _validate(
    noun: type[Noun], tables: dict[str, Any], *, path: Path, example: str, problems: list[SpecError]
) -> Noun | None:
    impossible = [
        SpecError(f"{path}: key {key!r} is {number}", expectation="expected a finite number from 0 up to 1e18")
        for key, number in _numbers(tables)
        if not 0 <= number < _MOST  # which no number that is none is
    ]
    if impossible:
        problems.extend(_with_remedy(problem, example) for problem in impossible)
        return None
    try:
        return noun.model_validate(_frozen(tables), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems.extend(
            _with_remedy(_problem(detail, noun=noun, place=f"{path}: ", word="key "), example) for detail in details
        )
        return None


def _with_remedy(problem: SpecError, example: str) -> SpecError:
    remedy = problem.remedy or f"correct the file; `hwprof specs show {example}` prints a complete one"
    return SpecError(problem.fact, expectation=problem.expectation, remedy=remedy)


def _numbers(value: Any, key: str = "") -> list[tuple[str, float]]:
    """Every number in nested tables, with its dotted key."""
    if isinstance(value, dict):
        return [pair for name, item in value.items() for pair in _numbers(item, f"{key}.{name}" if key else name)]
    if isinstance(value, list):
        return [pair for item in value for pair in _numbers(item, key)]
    return [(key, value)] if isinstance(value, (int, float)) else []


def _frozen(value: Any) -> Any:
    """Nested tables with tuples for arrays, as strict frozen nouns want them."""
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _problem(detail: ErrorDetails, *, noun: type[Record], place: str = "", word: str = "") -> SpecError:
    """What is wrong, where (``place``), with the key called ``word`` there."""
    name = ".".join(str(part) for part in detail["loc"])
    key = f"{place}{word}{name!r}" if name else place.removesuffix(": ")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return SpecError(f"{key}: {cause.fact}", expectation=cause.expectation, remedy=cause.remedy)
    if cause is not None:
        return SpecError(f"{key}: {cause}" if key else str(cause))
    if detail["type"] == "missing":
        return SpecError(f"{key} is missing", remedy=f"add {name!r} to the file" if place else "")
    if detail["type"] == "extra_forbidden":
        return SpecError(f"{key} is unknown", expectation=_near_keys(detail, noun))
    expectation = "expected " + detail["msg"].removeprefix("Input should be ").removeprefix("Input should ")
    return SpecError(f"{key} is {detail['input']!r:.80}", expectation=expectation)


def _near_keys(detail: ErrorDetails, noun: type[Record]) -> str:
    """The keys of the table where the unknown key stands, as "did you mean" or in full."""
    table: Any = noun
    for part in detail["loc"][:-1]:
        table = _table_of(table, str(part))
    keys = [field.alias or name for name, field in table.model_fields.items()] if table else []
    near = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known keys: {', '.join(keys)}"


def _table_of(noun: Any, key: str) -> type[Record] | None:
    """The noun of the nested table ``key``, or None where the key holds none."""
    fields = noun.model_fields if noun else {}
    kinds = next((field.annotation for name, field in fields.items() if key in (field.alias, name)), None)
    for kind in getattr(kinds, "__args__", (kinds,)):
        if isinstance(kind, type) and issubclass(kind, Record):
            return kind
    return None
