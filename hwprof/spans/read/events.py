"""What does one event of a Chrome trace say? Its fields as Kineto names them, read leniently where types differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

NOTHING = msgspec.Raw(b"")
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a column takes; an event with a larger number is read leniently, without it."""


class Args(
    msgspec.Struct,
    gc=False,
    frozen=True,
    rename={
        "sequence": "Sequence number",
        "forward_thread": "Fwd thread id",
        "dims": "Input Dims",
        "strides": "Input Strides",
        "types": "Input type",
        "concrete": "Concrete Inputs",
        "device_id": "Device Id",
        "device_type": "Device Type",
        "changed_bytes": "Bytes",
        "allocated_bytes": "Total Allocated",
        "reserved_bytes": "Total Reserved",
        "size_bytes": "bytes",
        "external": "External id",
        "external_old": "external id",
        "collective": "Collective name",
        "elements": "In msg nelems",
        "out_elements": "Out msg nelems",
        "group": "Process Group Name",
        "description": "Process Group Description",
        "group_size": "Group size",
        "counted_flop": "hwprof flop",
        "counted_bytes": "hwprof bytes",
        "counted_dtype": "hwprof dtype",
    },
):
    """The arguments that the analysis reads; shapes stay text, since most events share few of them.

    What is ``counted`` no profiler of torch writes: other readers put there what a compiler says of a kernel.
    """

    sequence: Int64 = -1
    forward_thread: Int64 = 0
    correlation: Int64 = -1
    stream: Int64 = -1
    device: Int64 = -1
    size_bytes: Int64 = 0
    external: Int64 | str = -1
    external_old: Int64 = -1
    dims: msgspec.Raw = NOTHING
    strides: msgspec.Raw = NOTHING
    types: msgspec.Raw = NOTHING
    concrete: msgspec.Raw = NOTHING
    device_id: Int64 = -1
    device_type: Int64 = -1
    changed_bytes: Int64 = 0
    allocated_bytes: Int64 = -1
    reserved_bytes: Int64 = -1
    collective: str = ""
    dtype: str = ""
    elements: Int64 = 0
    out_elements: Int64 = 0
    group: int | str = ""
    description: str = ""
    group_size: Int64 = 0
    counted_flop: float = 0.0
    counted_bytes: float = 0.0
    counted_dtype: str = ""


NO_ARGS = Args()


class Event(msgspec.Struct, gc=False, frozen=True):
    """One event; ``ts`` and ``dur`` in microseconds, as Chrome traces have them."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = 0
    tid: int | str = 0
    ts: float = math.nan
    dur: float = 0.0
    args: Args | None = None


_LARGEST_INTEGER = 2**63 - 1
_RAW_FIELDS = ("dims", "strides", "types", "concrete")
_KEYS = {field.name: field.encode_name for field in msgspec.structs.fields(Args)}
_TYPES: dict[str, type] = {field.name: type(getattr(NO_ARGS, field.name)) for field in msgspec.structs.fields(Args)}


def lenient_event(fields: object) -> Event | None:
    """The event of JSON whose types are not those that Kineto writes; None where it is no event at all."""
    if not isinstance(fields, Mapping):
        return None
    args = fields.get("args")
    return Event(
        ph=_text(fields.get("ph")),
        cat=_text(fields.get("cat")),
        name=_text(fields.get("name")),
        pid=_identity(fields.get("pid")),
        tid=_identity(fields.get("tid")),
        ts=_number(fields.get("ts"), math.nan),
        dur=_number(fields.get("dur"), 0.0),
        args=_lenient_args(args) if isinstance(args, Mapping) else None,
    )


def _lenient_args(args: Mapping[str, Any]) -> Args:
    given = {name: args[key] for name, key in _KEYS.items() if key in args}
    return Args(**{name: _converted(name, value) for name, value in given.items()})


def _converted(name: str, value: object) -> Any:
    if name in _RAW_FIELDS:
        return _raw(value)
    if name == "group":
        return _identity(value)
    if name == "external":
        return _integer(value, -1)
    if _TYPES[name] is float:
        return _number(value, 0.0)
    return _text(value) if _TYPES[name] is str else _integer(value, getattr(NO_ARGS, name))


def _raw(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except UnicodeEncodeError:  # halves of surrogate pairs are no shape
        return NOTHING


def _text(value: object) -> str:
    """A text without halves of surrogate pairs, which no terminal or file would take."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def _identity(value: object) -> int | str:
    return _integer(value, 0) if isinstance(value, int) else _text(value)


def _number(value: object, otherwise: float) -> float:
    if not isinstance(value, (int, float, str)):
        return otherwise
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return otherwise
    return number if math.isfinite(number) else otherwise


def _integer(value: object, otherwise: int) -> int:
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INTEGER else otherwise
    number = _number(value, math.nan)
    return int(number) if abs(number) < _LARGEST_INTEGER else otherwise
