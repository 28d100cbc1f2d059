"""How are calls of torch's operators kept in JSON? Tensors by shape and type, numbers as they are; whole recordings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from hwprof.errors import InputError
from hwprof.specs.reading import packed_json_of
from hwprof.specs.record.captured import AtenCall, TensorView, Value

Layout: TypeAlias = tuple[int, int, tuple[int, ...]]
"""Number of a tensor's storage in its step, where in it the tensor begins, and its strides, in elements."""
Step: TypeAlias = tuple[tuple[AtenCall, tuple[Layout, ...]], ...]
"""Calls in their order, each with where its tensors lie: those of its arguments, then its results."""

_MOST_LEVELS = 8
"""Of lists within lists; those of operators have two."""


def call_json(call: AtenCall) -> dict[str, Any]:
    """A call as a value of JSON; memory is numbered from 0 within it."""
    numbers: dict[int, int] = {}

    def kept(value: Value) -> Any:
        if isinstance(value, TensorView):
            storage = numbers.setdefault(value.storage, len(numbers))
            return {"tensor": [list(value.shape), value.dtype, value.element_bytes, value.elements, storage]}
        if isinstance(value, tuple):
            return [kept(item) for item in value]
        return {"float": str(value)} if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "name": call.name,
        "arguments": {name: kept(value) for name, value in call.arguments.items()},
        "results": [kept(each) for each in call.results],
        "written": list(call.written),
    }


def call_of_json(content: Any) -> AtenCall:
    """A call from a value of JSON.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    results = tuple(_value(each, _MOST_LEVELS) for each in content["results"])
    if not all(isinstance(each, TensorView) for each in results):
        raise ValueError("a result that is no tensor")
    return AtenCall(
        name=_text(content["name"]),
        arguments={_text(name): _value(value, _MOST_LEVELS) for name, value in content["arguments"].items()},
        results=results,  # type: ignore[arg-type]  # looked at above
        written=tuple(map(_text, content["written"])),
    )


def _value(kept: Any, levels: int) -> Value:
    if isinstance(kept, bool | int | float | str | None):
        return kept
    if isinstance(kept, list):
        if not levels:
            raise ValueError("lists within lists without end")
        return tuple(_value(item, levels - 1) for item in kept)
    if "float" in kept:
        return float(kept["float"])
    shape, dtype, element_bytes, elements, storage = kept["tensor"]
    numbers = (*shape, element_bytes, elements, storage)
    if any(type(each) is not int or each < 0 for each in numbers):
        raise ValueError(f"a tensor of {numbers}")
    return TensorView(tuple(shape), _text(dtype), element_bytes, elements, storage)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} in place of a name")
    return value


def call_name(call: AtenCall) -> str:
    """The name of a call's time among ceilings: ``call.<operator>.<digest of its arguments>``."""
    content = json.dumps(call_json(call), sort_keys=True, allow_nan=False)
    return f"call.{call.name}.{hashlib.sha256(content.encode()).hexdigest()[:DIGITS]}"


DIGITS = 16


RECORDING_FILE, RECORDING_VERSION = "recording.json.gz", 1
REMEDY = "name a folder that `hwprof emulate --output` wrote"


def recording_content(folder: Path) -> Any:
    """What is in the recording of an emulated script, by its folder or its path.

    Raises:
        InputError: it can't be read, or is of another version.
    """
    path = folder / RECORDING_FILE if folder.is_dir() else folder
    content = packed_json_of(path, remedy=REMEDY)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != RECORDING_VERSION:
        found = f"(found {version})"
        raise InputError(f"{path} is no recording of schema version {RECORDING_VERSION} {found}", remedy=REMEDY)
    return content


def saved_calls(folder: Path) -> tuple[tuple[AtenCall, ...], tuple[Step, ...]]:
    """Each kind of call of the device that trains, once, of all ranks of a recording; the steps of those on processors.

    Raises:
        InputError: there is no recording.
    """
    found: dict[str, AtenCall] = {}
    steps: list[Step] = []
    try:
        for rank in recording_content(folder)["ranks"]:
            calls: dict[int, AtenCall] = {}
            for place, (_name, _flop, device, kept, *_) in enumerate(rank["calls"]):
                if kept is not None and device == rank["device"]:
                    calls[place] = call_of_json(kept)
                    found.setdefault(call_name(calls[place]), calls[place])
            steps.append(tuple(_of_events(rank["events"], rank.get("layouts", ()), calls)))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InputError(f"{folder} holds no recording: {type(error).__name__}: {error}", remedy=REMEDY) from error
    return tuple(found.values()), tuple(filter(None, steps))


def _of_events(
    events: Any, layouts: Any, calls: Mapping[int, AtenCall]
) -> Iterator[tuple[AtenCall, tuple[Layout, ...]]]:
    for (kind, place, *_), kept in zip(events, layouts, strict=False):
        call = calls.get(place) if kind == 0 else None
        if call is None or not kept:
            continue
        found = layouts_of_json(kept)
        if list(map(len, (each[2] for each in found))) != [len(each.shape) for each in (*call.inputs, *call.results)]:
            raise ValueError(f"tensors of {call.name} that lie as {found}")
        yield call, found


def layouts_of_json(kept: Any) -> tuple[Layout, ...]:
    """Where the tensors of a call lie.

    Raises:
        ValueError, TypeError: it says something else.
    """
    found = tuple((storage, offset, tuple(strides)) for storage, offset, strides in kept)
    if any(
        type(each) is not int or each < 0 for storage, offset, strides in found for each in (storage, offset, *strides)
    ):
        raise ValueError(f"tensors that lie as {kept!r}")
    return found
