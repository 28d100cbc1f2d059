"""Claims about the trace file of a profiled window: read whole or not at all, and kept within its limit."""

import gzip
import json

import pytest

from hwprof.errors import InputError
from hwprof.measure.watch.trace_file import TRACE_LIMIT_BYTES, read_whole, shorten


@pytest.mark.parametrize(("events", "lacks"), [(0, "no list of traceEvents"), (300, "not a readable Chrome trace")])
def test_file_that_a_full_disk_cut_off_is_refused(tmp_path, events, lacks):
    path = tmp_path / "trace.json.gz"
    text = json.dumps({"traceEvents": [{"ph": "X", "name": f"event {at}", "ts": at} for at in range(events)]})
    path.write_bytes(gzip.compress(text.encode())[:-12])
    with pytest.raises(InputError, match=lacks):
        read_whole(path)


def test_a_trace_within_its_limit_is_left_alone(tmp_path):
    path = tmp_path / "trace.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump({"traceEvents": [{"ph": "X", "name": "a", "ts": 1.0, "dur": 1.0}]}, file)
    before = path.read_bytes()
    assert shorten(path, window="hwprof:window") == 1.0
    assert path.read_bytes() == before


def test_no_trace_is_kept_above_50_megabytes():
    assert TRACE_LIMIT_BYTES == 50_000_000
