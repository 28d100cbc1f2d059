"""How is a trace read that is larger than memory? A piece at a time, each cut where one event ends and another begins.

A cut is right if what stands before it decodes as a list of objects: JSON has only one reading, so that a cut inside
a string or a nested object cannot.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from hwprof.errors import InputError
from hwprof.spans.columns import Break
from hwprof.spans.read.events import Event, lenient_event

PIECE_BYTES = 1 << 18
MOST_HEADER_BYTES = 64 << 20
MOST_EVENT_BYTES = 16 << 20
"""An event longer than this is taken for a damaged file."""

_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_START = re.compile(rb'"traceEvents"\s*:\s*\[')
_PLACE = re.compile(r"\(byte (\d+)\)")
_SEARCH_BYTES = (4096, 1 << 16, MOST_EVENT_BYTES + PIECE_BYTES)
_MOST_CUTS = 16
_EXPECTED = "expected the JSON that torch.profiler's export_chrome_trace writes, plain or gzipped"

_events = msgspec.json.Decoder(list[Event])
_anything = msgspec.json.Decoder(list[Any])
_tolerant = json.JSONDecoder(strict=False)


class Readable(Protocol):
    """What a file and a decompressor share."""

    def read(self, most_bytes: int, /) -> bytes:
        """The next bytes, none at the end."""


class Scanner:
    """The events of one stream in batches; what stands around them and where the stream broke is known afterwards.

    Attributes:
        metadata: the top-level fields of the trace but for its events.
        broken: None for a whole file.
    """

    def __init__(self, stream: Readable, name: str) -> None:
        self.metadata: dict[str, Any] = {}
        self.broken: Break | None = None
        self._stream = stream
        self._name = name
        self._offset = 0
        self._at_end = False

    def batches(self) -> Iterator[list[Event]]:
        """The events in the order of the file.

        Raises:
            InputError: the stream is no Chrome trace.
        """
        rest = self._after_header()
        while not self._at_end:
            rest += self._piece()
            events, used = _decode(rest)
            if not used and (self._at_end or len(rest) > MOST_EVENT_BYTES):
                break
            self._offset += used
            rest = rest[used:]
            yield events
        events, used = _decode_one_by_one(rest)
        yield events
        self._offset += used
        self._finish(rest[used:])

    def _piece(self) -> bytes:
        try:
            piece = self._stream.read(PIECE_BYTES)
        except (EOFError, zlib.error, OSError) as error:
            self.broken = Break(-1, f"the compressed data is damaged or ends early ({error})")
            piece = b""
        self._at_end = not piece
        return piece

    def _after_header(self) -> bytes:
        """Read to the first event; what is read of the events already."""
        text = b""
        while not self._at_end and len(text) < MOST_HEADER_BYTES:
            text += self._piece()
            body = text.lstrip(b"\xef\xbb\xbf \t\r\n")
            if body[:1] == b"[":
                self._offset = len(text) - len(body) + 1
                return body[1:]
            if body and body[:1] != b"{":
                break
            found = _START.search(text)
            if found:
                self.metadata = _object(body[: found.start() - len(text) + len(body)] + b'"traceEvents": []}')
                self._offset = found.end()
                return text[found.end() :]
        raise InputError(self._no_trace(text), expectation=_EXPECTED, remedy="give a trace file")

    def _no_trace(self, text: bytes) -> str:
        if not text:
            return f"{self._name} is empty" if self.broken is None else f"{self._name}: {self.broken.reason}"
        return f"{self._name} is no Chrome trace: it has no list of traceEvents"

    def _finish(self, rest: bytes) -> None:
        """Read what follows the last event; it must be the end of the list."""
        after = rest.lstrip(b", \t\r\n")
        if self.broken is not None:
            self.broken = Break(self._offset, self.broken.reason)
        elif after[:1] == b"]":
            while not self._at_end and len(after) < MOST_HEADER_BYTES:
                after += self._piece()
            self._footer(after[1:].lstrip())
        elif after or self.metadata:
            place = self._offset + len(rest) - len(after)
            self.broken = Break(place, _why(after, at_end=self._at_end))

    def _footer(self, text: bytes) -> None:
        """``"traceName": ...}`` after the list; a bare list, or one that is closed at once, has none."""
        if text[:1] == b",":
            more = _object(b"{" + text[1:])
            self.metadata |= more
            if not more:
                self.broken = Break(self._offset, "the file ends after the last event, before its closing brace")
        elif self.metadata and text[:1] != b"}":
            self.broken = Break(self._offset, "the file ends after the last event, before its closing brace")


def _why(text: bytes, *, at_end: bool) -> str:
    if not text:
        return "the file ends before the list of events is closed"
    if at_end and _cut_off(text):
        return "the file ends in the middle of an event"
    return f"this is no event: {text[:40].decode('ascii', 'replace')!r}"


def _cut_off(text: bytes) -> bool:
    """Whether the event would be right if it went on."""
    if text[:1] != b"{":
        return False
    try:
        _anything.decode(b"[" + text)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except (UnicodeDecodeError, RecursionError):
        return False
    return False


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _decode(buffer: bytes) -> tuple[list[Event], int]:
    """The events of ``buffer`` up to a cut between two, and how many bytes they are."""
    limit = len(buffer)
    if _last_cut(buffer, limit)[0] < 0:
        return [], 0
    for _ in range(_MOST_CUTS):
        cut, following = _last_cut(buffer, limit)
        if cut < 0:
            break
        piece = b"[" + buffer[:cut].lstrip(b", \t\r\n") + b"]"
        try:
            return _decoded(piece), following
        except msgspec.DecodeError as error:
            place = _PLACE.search(str(error))
            skipped = cut - len(piece) + 2
            limit = min(int(place[1]) + skipped, cut - 1) if place else cut - 1
        except (UnicodeDecodeError, RecursionError):
            break
    return _decode_one_by_one(buffer)


def _decoded(piece: bytes) -> list[Event]:
    try:
        return _events.decode(piece)
    except msgspec.ValidationError:
        events = (lenient_event(fields) for fields in _anything.decode(piece))
        return [event for event in events if event is not None]


def _last_cut(buffer: bytes, limit: int) -> tuple[int, int]:
    """End of the last event before ``limit`` that another follows, and start of that other; (-1, -1) if none."""
    for reach in _SEARCH_BYTES:
        last = deque(_BETWEEN.finditer(buffer, max(limit - reach, 0), limit), maxlen=1)
        if last:
            return last[0].start() + 1, last[0].end()
        if reach >= limit:
            break
    return -1, -1


def _decode_one_by_one(buffer: bytes) -> tuple[list[Event], int]:
    """The events up to the first that is damaged or incomplete; reads ``NaN`` and control characters, too."""
    text = buffer.decode("utf-8", "surrogateescape")
    events: list[Event] = []
    place = _next_event(text, 0)
    end = 0
    while place < len(text) and text[place] == "{":
        try:
            fields, end = _tolerant.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        event = lenient_event(fields)
        if event is not None:
            events.append(event)
        place = _next_event(text, end)
    return events, len(text[:end].encode("utf-8", "surrogateescape"))


_SEPARATOR = re.compile(r"[,\s]*")


def _next_event(text: str, place: int) -> int:
    found = _SEPARATOR.match(text, place)
    assert found is not None
    return found.end()
