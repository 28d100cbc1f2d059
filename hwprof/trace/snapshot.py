"""What filled the memory of a device? Reads the snapshots of ``torch.cuda.memory``, which are pickles of plain values.

Lists, tables, words and numbers are read: a pickle that names a class or function is refused before that is called.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.errors import InputError
from hwprof.specs.reading import content_of

_REMEDY = "give a file that torch.cuda.memory._dump_snapshot wrote"
MOST_ENTRIES = 20_000_000
"""Blocks and events that are looked at; a hostile file can name the same list again and again."""


@dataclass(frozen=True, slots=True)
class HeldByLine:
    """Bytes of blocks that one line of the program asked for."""

    line: str
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRefusal:
    """An allocation that failed.

    Attributes:
        line: that asked.
        asked_bytes: for how much.
        allocated_bytes, reserved_bytes: in blocks, and in segments, then.
        free_bytes: that the device had left.
    """

    line: str
    asked_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStory:
    """What a snapshot says of one device.

    Attributes:
        device: its number.
        events: how many the history has; 0 where it was not recorded.
        peak_bytes: in blocks, at most, as far as the history reaches; at its end where there is none.
        reserved_bytes: in segments, at the end.
        free_bytes, largest_free_bytes: in segments and in no block, at the end; the largest piece.
        at_peak: who held it then, the largest first.
        refusal: the first allocation that failed.
    """

    device: int
    events: int
    peak_bytes: int
    reserved_bytes: int
    free_bytes: int
    largest_free_bytes: int
    at_peak: tuple[HeldByLine, ...]
    refusal: MemoryRefusal | None


def is_pickle(path: Path) -> bool:
    """Whether a file begins like a pickle of today's protocols; a pipe, which would have to be waited for, is none."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(1) == b"\x80"
    except OSError:
        return False


def read_story(path: Path) -> tuple[MemoryStory, ...]:
    """What a snapshot says of each device that has memory in use or a history.

    Raises:
        InputError: it can't be read, is no snapshot, or names something that is no plain value.
    """
    content = content_of(path, remedy=_REMEDY)
    try:
        found = _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle fails in many ways
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{path} is no snapshot of memory: {reason}", remedy=_REMEDY) from error
    try:
        return tuple(_stories(found))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"{path} is no snapshot of memory: {reason}", remedy=_REMEDY) from error


class _PlainUnpickler(pickle.Unpickler):
    """Knows no class and no function."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse.

        Raises:
            UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"it names {module}.{name}, and a snapshot is made of plain values alone")


def _stories(content: Any) -> Iterator[MemoryStory]:
    segments, traces = content["segments"], content.get("device_traces", [])
    looked_at = sum(len(segment["blocks"]) for segment in segments) + sum(map(len, traces))
    if looked_at > MOST_ENTRIES:
        raise ValueError(f"{looked_at} blocks and events, at most {MOST_ENTRIES} are read")
    devices = {int(segment.get("device", 0)) for segment in segments} | {n for n, each in enumerate(traces) if each}
    for device in sorted(devices):
        mine = [segment for segment in segments if int(segment.get("device", 0)) == device]
        yield _story(device, mine, traces[device] if device < len(traces) else [])


def _story(device: int, segments: list[Any], trace: list[Any]) -> MemoryStory:
    held = dict(_before(segments, trace))
    reserved = sum(int(segment["total_size"]) for segment in segments) - sum(map(_segment_change, trace))
    now = sum(size for size, _ in held.values())
    peak, at_peak, refusal = now, dict(held), None
    latest: dict[int, tuple[int, str]] | None = None
    for entry in trace:
        action = entry["action"]
        reserved += _segment_change(entry)
        if action == "alloc":
            held[int(entry["addr"])] = (int(entry["size"]), _line(entry))
            now += int(entry["size"])
            if now > peak:
                peak, latest = now, held
        elif action == "free_completed":
            if latest is held:
                at_peak, latest = dict(held), None
            now -= held.pop(int(entry["addr"]), (0, ""))[0]
        elif action == "oom" and refusal is None:
            refusal = MemoryRefusal(
                line=_line(entry),
                asked_bytes=int(entry["size"]),
                allocated_bytes=now,
                reserved_bytes=reserved,
                free_bytes=int(entry.get("device_free", 0)),
            )
    free = [int(block["size"]) for block in _blocks(segments) if block["state"] == "inactive"]
    return MemoryStory(
        device=device,
        events=len(trace),
        peak_bytes=peak,
        reserved_bytes=sum(int(segment["total_size"]) for segment in segments),
        free_bytes=sum(free),
        largest_free_bytes=max(free, default=0),
        at_peak=tuple(_by_line(held if latest is held else at_peak)),
        refusal=refusal,
    )


def _blocks(segments: list[Any]) -> Iterator[Any]:
    for segment in segments:
        address = int(segment["address"])
        for block in segment["blocks"]:
            yield {"address": address, **block}
            address += int(block["size"])


def _before(segments: list[Any], trace: list[Any]) -> Iterator[tuple[int, tuple[int, str]]]:
    """Blocks that were there before the history begins: freed in it without having been asked for, or there still."""
    asked: set[int] = set()
    for entry in trace:
        if entry["action"] == "alloc":
            asked.add(int(entry["addr"]))
        elif entry["action"] == "free_completed" and int(entry["addr"]) not in asked:
            asked.add(int(entry["addr"]))
            yield int(entry["addr"]), (int(entry["size"]), BEFORE)
    for block in _blocks(segments):
        if block["state"] != "inactive" and int(block["address"]) not in asked:
            yield int(block["address"]), (int(block["size"]), _line(block) or BEFORE)


BEFORE = "before the history begins"


def _segment_change(entry: Mapping[str, Any]) -> int:
    sign = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}.get(entry["action"], 0)
    return sign * int(entry["size"]) if sign else 0


_LIBRARIES = ("site-packages", "dist-packages", "/lib/python3", "<")


def _line(entry: Mapping[str, Any]) -> str:
    """The innermost line of the user's own files; of none the innermost of all."""
    frames = entry.get("frames") or []
    for frame in frames:
        name = str(frame["filename"])
        if name.endswith(".py") and not any(each in name for each in _LIBRARIES):
            return f"{name.rsplit('/', 1)[-1]}:{frame['line']}"
    if not frames:
        return ""
    name, line = str(frames[0]["filename"]).rsplit("/", 1)[-1], frames[0]["line"]
    return f"{name}:{line}" if line else name


def _by_line(held: Mapping[int, tuple[int, str]]) -> Iterator[HeldByLine]:
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for size, line in held.values():
        sizes[line] += size
        counts[line] += 1
    yield from (HeldByLine(line, size, counts[line]) for line, size in sizes.most_common(MOST_LINES))


MOST_LINES = 40
