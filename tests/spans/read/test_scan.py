"""Does the streaming reader find the events that a whole read finds, however they are spelled and wherever cut?"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import InputError
from hwprof.spans.read import scan
from hwprof.spans.read.file import read_trace
from hwprof.spans.read.scan import Scanner

AWKWARD = [
    {"ph": "X", "cat": "cpu_op", "name": 'a "},\n  {" b', "ts": 1, "dur": 2.5, "pid": 1, "tid": "t"},
    {"args": {"Input Dims": [[1, 2], []], "list": [{"a": 1}, {"b": [{}, {}]}]}, "ph": "X", "ts": 3, "name": "é\\"},
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    {"name": "empty", "args": {}},
    {"name": "x" * 300, "args": {"k": "}, {" * 30}},
]


def _read(data: bytes, piece_bytes: int = 1 << 20) -> tuple[list[str], Scanner]:
    class Pieces(io.BytesIO):
        def read(self, _most=-1):
            return super().read(piece_bytes)

    scanner = Scanner(Pieces(data), "data")
    return [event.name for batch in scanner.batches() for event in batch], scanner


def _whole(events=AWKWARD, **kwargs) -> bytes:
    return json.dumps({"schemaVersion": 1, "traceEvents": events, "traceName": "t"}, **kwargs).encode()


NAMES = [event["name"] for event in AWKWARD]


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 500, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_any_spelling_read_in_any_pieces(piece_bytes, style):
    names, scanner = _read(_whole(**style), piece_bytes)
    assert names == NAMES
    assert scanner.broken is None
    assert scanner.metadata == {"schemaVersion": 1, "traceEvents": [], "traceName": "t"}


def test_a_bare_list_a_byte_order_mark_and_a_comma_too_many():
    assert _read(json.dumps(AWKWARD).encode())[0] == NAMES
    assert _read(b"\xef\xbb\xbf" + _whole())[0] == NAMES
    assert _read(_whole().replace(b'}], "traceName"', b'},\n], "traceName"'))[0] == NAMES


def test_what_json_has_no_word_for_is_read_all_the_same():
    data = _whole([{"name": "a", "dur": 7}, {"name": "b"}, {"name": "tab\t"}, {"name": "c"}])
    names, scanner = _read(data.replace(b"7", b"NaN").replace(b"tab\\t", b"tab\t"))
    assert names == ["a", "b", "tab\t", "c"]
    assert scanner.broken is None


def test_values_of_other_types_are_converted_or_left_out():
    events = [{"name": 3, "ts": "1.5", "dur": "x", "pid": None, "args": {"correlation": "9", "stream": 1e30}}, 5, None]
    scanner = Scanner(io.BytesIO(_whole(events)), "data")
    (event,) = [event for batch in scanner.batches() for event in batch]
    assert (event.name, event.ts, event.dur) == ("3", 1.5, 0.0)
    assert event.args is not None
    assert (event.args.correlation, event.args.stream) == (9, -1)


def test_cut_anywhere_gives_the_events_before_and_says_where():
    data = _whole(indent=2)
    begin = data.index(b"[") + 1
    whole_names, _ = _read(data)
    for length in range(begin, len(data) - 1):
        names, scanner = _read(data[:length], 100)
        assert names == whole_names[: len(names)]
        assert scanner.broken is not None, length
        assert 0 <= scanner.broken.offset_bytes <= length
    assert names == whole_names


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_never_invents_events(place, byte):
    data = bytearray(_whole())
    data[place % len(data)] = byte
    try:
        names, _ = _read(bytes(data), 90)
    except InputError:
        return
    assert len(names) <= len(NAMES) + 1


def test_the_break_is_at_the_first_byte_of_the_damaged_event():
    data = _whole()
    place = data.index(b'{"ph": "M"')
    _, scanner = _read(data[:place] + b'{"ph": @@@' + data[place + 10 :])
    assert scanner.broken is not None
    assert scanner.broken.offset_bytes == place
    assert "this is no event" in scanner.broken.reason


def test_gzip_by_content_in_members_and_cut_short(tmp_path: Path, gpu_file: Path):
    plain = gpu_file.read_bytes()
    half = len(plain) // 2
    packed = gzip.compress(plain[:half]) + gzip.compress(plain[half:])
    path = tmp_path / "named-json.json"
    path.write_bytes(packed)
    whole = read_trace(path)
    assert whole.broken is None
    assert whole.events == len(json.loads(plain)["traceEvents"])
    path.write_bytes(packed[: len(packed) * 3 // 4])
    cut = read_trace(path)
    assert cut.broken is not None
    assert "compressed" in cut.broken.reason
    assert 0 < cut.events < whole.events


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"not json", b"\x1f\x8b", b"PK\x03\x04", b'{"traceEvents": 3}', b"\x00" * 100]
)
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no Chrome trace|is empty|compressed|cut off"):
        read_trace(path)


def test_an_endless_event_is_a_damaged_file(monkeypatch):
    monkeypatch.setattr(scan, "MOST_EVENT_BYTES", 4000)
    data = b'{"traceEvents": [{"name": "a"}, {"name": "' + b"x" * 50_000
    names, scanner = _read(data, 1000)
    assert names == ["a"]
    assert scanner.broken is not None
