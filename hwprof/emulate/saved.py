"""How is what ranks did kept, to be priced again without running the script? A file of JSON, packed; no code in it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from hwprof.emulate.recording import Memory, Recording, Refusal
from hwprof.emulate.tape import (
    COLLECTIVE,
    EVENT_NUMBERS,
    KERNEL,
    PHASE,
    PHASES,
    Call,
    Collective,
    CollectiveName,
    Event,
)
from hwprof.errors import InputError
from hwprof.specs.record.saved_calls import (
    RECORDING_VERSION,
    REMEDY,
    Layout,
    call_json,
    call_of_json,
    layouts_of_json,
    recording_content,
)


def recording_bytes(recordings: Sequence[Recording]) -> bytes:
    """The file's content."""
    content = {"schema_version": RECORDING_VERSION, "ranks": [_kept(one) for one in recordings]}
    return gzip.compress(json.dumps(content, allow_nan=False, separators=(",", ":")).encode(), mtime=0)


def read_recordings(folder: Path) -> tuple[Recording, ...]:
    """What ``hwprof emulate --output`` left in a folder, the rank that was asked for first.

    Raises:
        InputError: it can't be read, or is something else.
    """
    content = recording_content(folder)
    try:
        found = tuple(_recording(one) for one in content["ranks"])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        fact = f"{folder} holds no recording: {type(error).__name__}: {str(error)[:200]}"
        raise InputError(fact, remedy=REMEDY) from error
    if not found:
        raise InputError(f"the recording in {folder} has no rank", remedy=REMEDY)
    return found


_PLAIN = ("rank", "devices", "call_count", "steps", "device", "software", "tf32", "host", "dispatch_s")


def _kept(one: Recording) -> dict[str, Any]:
    refusal = one.memory.refusal
    used, sent = (sorted(one.count(kind)) for kind in (KERNEL, COLLECTIVE))
    places = {KERNEL: {place: number for number, place in enumerate(used)}}
    places[COLLECTIVE] = {place: number for number, place in enumerate(sent)}
    return {
        **{name: getattr(one, name) for name in _PLAIN},
        "made_up": dict(one.made_up),
        "notes": list(one.notes),
        "layouts": _kept_layouts(one),
        "host_ns": [round(seconds * 1e9) for seconds in one.host_s],
        "memory": {
            "peak_bytes": one.memory.peak_bytes,
            "reserved_bytes": one.memory.reserved_bytes,
            "capacity_bytes": one.memory.capacity_bytes,
            "kinds": dict(one.memory.kinds),
            "places": dict(one.memory.places),
            "refusal": None
            if refusal is None
            else [refusal.asked_bytes, refusal.allocated_bytes, refusal.reserved_bytes, refusal.line],
        },
        "calls": [_kept_call(one.calls[place]) for place in used],
        "collectives": [_kept_collective(one.collectives[place]) for place in sent],
        "events": [
            [event[0], places[event[0]][event[1]], *event[2:]] if event[0] in places else list(event)
            for event in one.events
        ],
    }


def _kept_layouts(one: Recording) -> list[list[Layout]]:
    """Storages are numbered as they come; nothing, where no event has any."""
    numbers: dict[int, int] = {}
    return [
        [(numbers.setdefault(storage, len(numbers)), offset, strides) for storage, offset, strides in each]
        for each in (one.layouts if any(one.layouts) else ())
    ]


def _kept_call(call: Call) -> list[Any]:
    kept = None if call.call is None else call_json(call.call)
    return [call.name, call.flop, call.device, kept, call.line, call.spared_bytes, call.joined]


def _kept_collective(one: Collective) -> list[Any]:
    return [one.op, list(one.ranks), one.size_bytes, one.peer, one.group, one.place]


def _recording(kept: Any) -> Recording:
    calls = tuple(_call(each) for each in kept["calls"])
    collectives = tuple(_collective(each) for each in kept["collectives"])
    events = tuple(_event(each, len(calls), len(collectives)) for each in kept["events"])
    host_s = tuple(_whole(each) * 1e-9 for each in kept["host_ns"])
    if host_s and len(host_s) != len(events):
        raise ValueError(f"{len(host_s)} times of {len(events)} events")
    return Recording(
        **{name: _typed(kept[name], _TYPES[name]) for name in _PLAIN},
        calls=calls,
        collectives=collectives,
        events=events,
        memory=_memory(kept["memory"]),
        made_up={str(name): _whole(times) for name, times in kept["made_up"].items()},
        notes=tuple(str(each) for each in kept["notes"]),
        failure="",
        line="",
        host_s=host_s,
        layouts=tuple(map(layouts_of_json, kept.get("layouts", ()))),
    )


_TYPES: dict[str, type[Any]] = dict.fromkeys(_PLAIN, int) | {
    "device": str, "software": str, "host": str, "tf32": bool, "dispatch_s": float,
}  # fmt: skip


def _memory(kept: Any) -> Memory:
    refusal = kept["refusal"]
    return Memory(
        peak_bytes=_whole(kept["peak_bytes"]),
        reserved_bytes=_whole(kept["reserved_bytes"]),
        kinds={str(name): _whole(size) for name, size in kept["kinds"].items()},
        places={str(name): _whole(size) for name, size in kept["places"].items()},
        capacity_bytes=_whole(kept["capacity_bytes"]),
        refusal=None if refusal is None else _refusal(refusal),
    )


def _refusal(kept: Any) -> Refusal:
    asked_bytes, allocated_bytes, reserved_bytes, line = kept
    return Refusal(_whole(asked_bytes), _whole(allocated_bytes), _whole(reserved_bytes), _typed(line, str))


def _call(kept: Any) -> Call:
    name, flop, device, call, line, spared_bytes, joined = kept
    return Call(
        name=_typed(name, str),
        flop=_whole(flop),
        device=_typed(device, str),
        call=None if call is None else call_of_json(call),
        line=_typed(line, str),
        spared_bytes=_whole(spared_bytes),
        joined=_typed(joined, bool),
    )


def _collective(kept: Any) -> Collective:
    op, ranks, size_bytes, peer, group, place = kept
    if op not in get_args(CollectiveName) or not ranks:
        raise ValueError(f"a collective {op!r} over {ranks!r}")
    numbers = tuple(_whole(rank) for rank in ranks)
    return Collective(
        op=op,
        ranks=numbers,
        size_bytes=_whole(size_bytes),
        peer=_typed(peer, int),
        group=_whole(group),
        place=_typed(place, str),
    )


def _event(kept: Any, calls: int, collectives: int) -> Event:
    kind, *numbers = (_typed(each, int) for each in kept)
    if not 0 <= kind < len(EVENT_NUMBERS) or len(numbers) != EVENT_NUMBERS[kind]:
        raise ValueError(f"an event {kept!r}")
    most = {KERNEL: calls, COLLECTIVE: collectives, PHASE: len(PHASES)}.get(kind)
    if most is not None and not 0 <= numbers[0] < most:
        raise ValueError(f"an event of a kind that is not there: {kept!r}")
    return (kind, *numbers)


def _whole(value: Any) -> int:
    number: int = _typed(value, int)
    if number < 0:
        raise ValueError(f"{value!r} is below 0")
    return number


def _typed(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
