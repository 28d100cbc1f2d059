"""Claims about collectives as nouns: nccl-tests' factors, interpolation, and a calibration file that reads back."""

import pytest

from hwprof.errors import InputError
from hwprof.specs.record.calibration import Calibration, read_calibration
from hwprof.specs.record.collective import AlphaBeta, CollectiveCurve, CollectivePoint, Slowdown, bus_factor


def _point(size, time):
    return CollectivePoint(
        size_bytes=size,
        samples_s=(time,),
        time_s=time,
        algorithm_byte_per_s=size / time,
        bus_byte_per_s=size / time,
        spread=0.0,
    )


FIT = AlphaBeta(
    latency_s=1e-6,
    byte_per_s=1e9,
    latency_error_s=0,
    byte_per_s_error=0,
    typical_error=0,
    worst_error=0,
    worst_size_bytes=1000,
    smallest_bytes=1000,
    largest_bytes=3000,
)
CURVE = CollectiveCurve(
    collective="all_reduce",
    scope="node",
    backend="gloo",
    ranks=2,
    nodes=1,
    points=(_point(1000, 2e-6), _point(3000, 4e-6)),
    fit=FIT,
    stable=True,
)


@pytest.mark.parametrize(
    ("collective", "ranks", "factor"),
    [  # the summary table of nccl-tests' doc/PERFORMANCE.md, with n put in
        ("all_reduce", 2, 1.0),
        ("all_reduce", 8, 1.75),
        ("all_gather", 8, 0.875),
        ("reduce_scatter", 4, 0.75),
        ("all_to_all", 4, 0.75),
        ("broadcast", 8, 1.0),
        ("send_recv", 8, 1.0),
    ],
)
def test_bus_bandwidth_has_the_factor_of_nccl_tests(collective, ranks, factor):
    assert bus_factor(collective, ranks) == factor


@pytest.mark.parametrize(("size", "time_us"), [(500, 2), (1000, 2), (2000, 3), (3000, 4), (5000, 6)])
def test_time_is_interpolated_between_points_and_continued_along_the_line(size, time_us):
    assert CURVE.time_s(size) == pytest.approx(time_us * 1e-6)


def test_slowdown_is_time_together_over_time_alone():
    slow = Slowdown(work="w", beside="b", work_alone_s=2, work_together_s=3, beside_alone_s=4, beside_together_s=10)
    assert (slow.work_factor, slow.beside_factor) == (1.5, 2.5)


def _calibration(**changes):
    fields = {
        "hwprof_version": "0",
        "status": "complete",
        "created": "now",
        "device": "d",
        "torch_version": "2",
        "driver": "none",
        "quick": True,
        "collectives": (CURVE,),
        "environment": {},
    }
    return Calibration(**(fields | changes))


def test_calibration_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(_calibration().to_json())
    assert read_calibration(path) == _calibration()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no JSON"),
        ("[]", "no calibration of schema version"),
        ('{"schema_version": 99}', "no calibration of schema version 1"),
        ('{"schema_version": 1}', "Field required"),
    ],
)
def test_file_that_is_no_calibration_is_refused(tmp_path, content, says):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_calibration(path)


def test_missing_calibration_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_calibration(tmp_path / "nosuch.json")
