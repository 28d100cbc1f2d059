"""How does a field of a record become an option? Its type, choices, range and default stand in the record alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import click
from click.core import ParameterSource
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hwprof.errors import InputError
from hwprof.specs.frozen import Record
from hwprof.units import Dimension, parse_typed

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]
_BOUNDS = ("gt", "ge", "lt", "le")


class FiniteRange(click.FloatRange):
    """A ``click.FloatRange`` of finite numbers."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Word(click.Choice[str]):
    """One of several words, in small letters or capitals: ``LoRA`` is ``lora``."""

    def __init__(self, choices: Iterable[str]) -> None:
        super().__init__(tuple(choices), case_sensitive=False)


_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_WHOLE = re.compile(r"([1-9]\d*)([kKmM]?)")


class Whole(click.ParamType[int]):
    """A whole number of at least 1 as people type it: ``1024``, ``1,024``, ``1_024``, ``4k``, ``1M``.

    Args:
        kilo: ``k``, and its square ``M``: 1024 where sizes go by powers of two, as lengths of sequences do.
    """

    name = "count"

    def __init__(self, kilo: int = 1000) -> None:
        self.kilo = kilo

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error."""
        text = str(value).strip()
        plain = text.replace(",", "") if _THOUSANDS.fullmatch(text) else text
        match = _WHOLE.fullmatch(plain.replace("_", ""))
        if re.fullmatch(r"-\d+|0", text):
            self.fail(f"{text} is not in the range x>=1.", param, ctx)
        if not match:
            self.fail(f"{value!r} is no whole number from 1 on, such as 8, 1024 or 4k.", param, ctx)
        return int(match[1]) * {"": 1, "k": self.kilo, "m": self.kilo * self.kilo}[match[2].lower()]


class Devices(Whole):
    """A number of devices: ``64``, or ``2x8``, two machines of eight."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error."""
        parts = re.split(r"\s*[x×*]\s*", str(value).strip())
        return math.prod(super(Devices, self).convert(part, param, ctx) for part in parts)


_AMOUNT = re.compile(
    r"(?:US)?\$?\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([a-z万亿]*?)\s*(?:USD|US\$|\$|dollars?|tokens?|美元)?",
    re.IGNORECASE,
)
_FACTORS = {
    word: size
    for words, size in (
        ("", 1.0),
        ("k thousand", 1e3),
        ("m mn mio million", 1e6),
        ("g b bn billion", 1e9),
        ("t tn trillion 万亿", 1e12),
        ("万", 1e4),
        ("亿", 1e8),
    )
    for word in words.split() or [""]
}
_FACTORS_ALONE = {"", "K", "M", "B", "T"}


class Amount(click.ParamType[float]):
    """A positive number that may end in k, M, B (or G) or T: ``15T`` tokens, ``$2M``, ``2 million``, ``2万亿``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        text = re.sub(r"(?<=\d)[, '](?=\d{3}(?!\d))", "", str(value).strip())
        match = _AMOUNT.fullmatch(text)
        factor = _FACTORS.get(match[2].lower(), 0.0) if match else 0.0
        if match is None or not 0 < float(match[1]) * factor < float("inf"):
            lost = " (of $2M a shell leaves M: write 2M or '$2M')" if text.upper() in _FACTORS_ALONE else ""
            lost = " (money is counted in USD)" if re.search("[€£¥元]|EUR|CNY|RMB|人民币", text) else lost
            self.fail(f"{value!r} is no positive number such as 15T, 300B or 2.5M{lost}.", param, ctx)
        return float(match[1]) * factor


class Measured(click.ParamType[float]):
    """A quantity with its unit, in base units: ``60 days``, ``5MW``, ``2 GB/s``."""

    def __init__(self, dimension: Dimension, example: str, unit: str) -> None:
        self.dimension = dimension
        self.name = example
        self.unit = unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The quantity, or a usage error."""
        if isinstance(value, float):
            return value
        if re.fullmatch(r"[0-9.,_]+", str(value)):
            self.fail(f"{value} has no unit, such as {value}{self.unit}.", param, ctx)
        try:
            found = parse_typed(str(value), self.dimension)
        except InputError as error:
            self.fail(f"{error.fact}; {error.expectation}.", param, ctx)
        if not found:
            self.fail(f"{value!r} is nothing.", param, ctx)
        return found


class Listed(click.ParamType[tuple[Any, ...]]):
    """Several values with commas between them, each once. No list has a part such as ``024``: ``1,024`` is a number."""

    name = "list"

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The values, or a usage error."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if isinstance(self.kind, Whole) and any(re.fullmatch(r"0\d\d", part) for part in parts[1:]):
            parts = [str(value).strip()]
        return tuple(dict.fromkeys(self.kind.convert(part, param, ctx) for part in parts))


def with_options(*options: Decorator) -> Callable[[Command], Command]:
    """Give a command all of the options, in this order."""

    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def options_of(
    request: type[Record], spellings: Mapping[str, Sequence[str]], **changes: Mapping[str, Any]
) -> Callable[[Command], Command]:
    """Give a command an option for every field of a request; what the request says of a field is the help.

    Args:
        request: the record that the command makes of what was typed.
        spellings: field -> how it is typed, where that is not ``--`` and its name without a unit.
        changes: field -> what else ``click.option`` is told.
    """
    options = []
    for name, field in request.model_fields.items():
        spelling = spellings.get(name, (f"--{name.removesuffix('_s').replace('_', '-')}",))
        how = {"help": field.description, **changes.get(name, {})}
        options.append(option_of(request, name, *spelling, name, **how))
    return with_options(*options)


def option_of(record: type[Record], name: str, *spelling: str, **changes: Any) -> Decorator:
    """The option for a field of a record.

    Args:
        record: where the field is.
        name: of the field.
        spelling: how the option is typed, and last what the command calls it.
        changes: what ``click.option`` is told beside what the field says, or in its place.
    """
    field = record.model_fields[name]
    default = None if field.default is PydanticUndefined else field.default
    how: dict[str, Any] = {"type": kind_of(record, name), "default": default}
    if field.annotation is bool:
        how = {"is_flag": True, "default": False}
    elif get_origin(field.annotation) is tuple:
        how["multiple"] = True
    how |= changes
    shown = how["default"] is not None and how["default"] is not False and how["default"] != ()
    return click.option(*spelling, **how, show_default=shown)


def kind_of(record: type[Record], name: str) -> click.ParamType[Any]:
    """What a field takes, as click checks it."""
    field = record.model_fields[name]
    return _kind(field.annotation, field.metadata)


def _kind(annotation: Any, limits: Sequence[Any]) -> click.ParamType[Any]:
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(inner[0], [*limits, *inner[1:]])
    if origin is Literal:
        numbers = all(isinstance(choice, int) for choice in inner)
        return click.IntRange(min(inner), max(inner)) if numbers else Word(inner)
    if origin is not None:  # the others are X | None and tuple[X, ...]
        return _kind(inner[0], limits)
    if annotation is int:
        return _whole_numbers(_bounds(limits))
    if annotation is float:
        return _real_numbers(_bounds(limits))
    return click.Path(path_type=Path) if annotation is Path else click.STRING


def _bounds(limits: Sequence[Any]) -> dict[str, Any]:
    """Limits as pydantic keeps them -> ``gt``, ``ge``, ``lt``, ``le``, where there are such."""
    flat = [each for limit in limits for each in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    return {name: getattr(limit, name) for limit in flat for name in _BOUNDS if hasattr(limit, name)}


def _whole_numbers(bounds: Mapping[str, int]) -> click.ParamType[Any]:
    least = bounds["gt"] + 1 if "gt" in bounds else bounds.get("ge")
    return Whole() if least == 1 and "le" not in bounds else click.IntRange(least, bounds.get("le"))


def _real_numbers(bounds: Mapping[str, float]) -> click.ParamType[Any]:
    least, most = bounds.get("gt", bounds.get("ge")), bounds.get("lt", bounds.get("le"))
    return FiniteRange(least, most, min_open="gt" in bounds, max_open="lt" in bounds)


def given(context: click.Context, *names: str) -> list[str]:
    """Which of these parameters were typed, as they are spelt."""
    typed = (name for name in names if context.get_parameter_source(name) not in {None, ParameterSource.DEFAULT})
    spelt = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    return [spelt[name] for name in typed]


def refuse(context: click.Context, reasons: Mapping[str, str], *, where: str = "here") -> None:
    """Say of the first of these parameters that was typed why it does not go there.

    Raises:
        InputError: one was.
    """
    for name, reason in reasons.items():
        for spelt in given(context, name):
            raise InputError(f"{spelt} does not go {where}", expectation=reason, remedy="leave it out")
