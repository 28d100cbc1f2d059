"""What counters say beside what was counted, by hand."""

from __future__ import annotations

import pytest

from hwprof.specs.record.counters import TOP_KERNELS, CounterRow, CountersResult


def row(counted="memory", measured="memory", op_fraction=0.9, **more):
    fields = {"kernel": "k", "launches": 3, "calls": 3.0, "time_s": 1.0, "label": "ffn", "direction": "forward"}
    fields |= {"op_fraction": op_fraction, "other_ops": 0, "counted_bound": counted, "measured_bound": measured}
    return CounterRow(**fields | more)


def result(*rows):
    return CountersResult(source="f", rows=rows, run_kernels=9, file_kernels=9, matched_time_fraction=0.5)


@pytest.mark.parametrize(
    ("one", "agrees"),
    [
        (row(), True),
        (row(measured="compute"), False),
        (row(counted="unknown"), None),
        (row(measured="unknown"), None),
        (row(op_fraction=0.49), None),  # the class is that of other kernels
        (row(op_fraction=0.5), True),
    ],
)
def test_classes_agree_only_where_both_speak_of_the_kernel(one, agrees):
    assert one.agrees is agrees


def test_bytes_are_held_against_each_other_where_both_are_known():
    both, counted = row(counted_bytes=30.0, measured_bytes=20.0), row(counted_bytes=1e9)
    small = row(counted_bytes=10.0, measured_bytes=20.0)
    assert (both.byte_ratio, counted.byte_ratio) == (1.5, None)
    assert result(both, counted, small).byte_ratio == 40 / 40
    assert result(counted).byte_ratio is None


def test_agreement_is_stated_for_the_kernels_of_most_time():
    rows = [row()] * (TOP_KERNELS - 2) + [row(measured="compute"), row(counted="unknown"), row()]
    assert (len(result(*rows).compared), result(*rows).agreeing) == (19, 18)
