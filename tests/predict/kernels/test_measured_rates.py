"""Measured kernels stand before fitted curves: at their shapes exactly, elsewhere by the nearest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_record import made_up_ceiling

from hwprof.count.job.device_work import Part, Pass, Row, Unit
from hwprof.predict.ceilings.calibrated import with_ceilings
from hwprof.predict.kernels.op_time import kernel_s
from hwprof.predict.kernels.row_table import Rates, row_table
from hwprof.predict.machine import machine_of
from hwprof.predict.parameters import NAMES, Parameters, parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster
from hwprof.specs.catalogue.simulator import MeasuredRate, simulator_parameters

PEAK = 1e15
CURVED = dict.fromkeys(NAMES, 0.0) | {
    name: 1.0 for name in NAMES if name.endswith(("share", "factor")) and name != "straggler_share"
}
CURVED |= {"inner_half": 100.0, "column_half": 100.0, "row_half": 100.0, "sequence_half": 500.0}


def rate(shape, *measured, unit=Unit.MATMUL, groups=1):
    """FLOP/s of a kernel without traffic."""
    m, n, k = shape
    row = Row(Part.LAYER, Pass.FORWARD, unit, m, n, k, groups, 1e12, 0.0, 1)
    values = {
        "peak_flop_per_s": PEAK,
        "narrow_flop_per_s": 2 * PEAK,
        "fp4": False,
        "memory_byte_per_s": 1e12,
        "units": 1.0,
        "expert_layers": 0.0,
        "new_attention": False,
    }
    rates = Rates(**{name: np.array([value]) for name, value in values.items()})
    seconds, _ = kernel_s(row_table([[row]]), rates, Parameters(**CURVED, measured=measured))
    return 1e12 / float(seconds[0])


def product(m, n, k, share):
    return MeasuredRate(unit="matmul", m=m, n=n, k=k, share=share)


SMALL, LARGE = product(128, 128, 128, 0.1), product(4096, 4096, 4096, 0.9)


def test_measured_shapes_run_as_measured():
    assert rate((128, 128, 128), SMALL, LARGE) == pytest.approx(0.1 * PEAK, rel=1e-3)
    assert rate((4096, 4096, 4096), SMALL, LARGE) == pytest.approx(0.9 * PEAK, rel=1e-3)


def test_other_shapes_follow_the_curve_between_what_the_measured_ones_have_over_it():
    ratios = [point.share * PEAK / rate((point.m, point.n, point.k)) for point in (SMALL, LARGE)]
    between = rate((512, 512, 512), SMALL, LARGE) / rate((512, 512, 512))
    assert min(ratios) < between < max(ratios)


@pytest.mark.parametrize("size", [8192, 65536])
def test_beyond_the_measured_sizes_the_edge_holds(size):
    edge = 0.9 * PEAK / rate((4096, 4096, 4096))
    assert rate((size, size, size), SMALL, LARGE) == pytest.approx(edge * rate((size, size, size)), rel=1e-3)


def test_kernels_of_another_kind_are_left_as_they_are():
    for unit, groups in ((Unit.GROUPED, 8), (Unit.MATMUL, 8), (Unit.NARROW_MATMUL, 1), (Unit.ATTENTION, 1)):
        assert rate((256, 64, 64), SMALL, unit=unit, groups=groups) == rate((256, 64, 64), unit=unit, groups=groups)


def test_attention_runs_as_measured_at_its_length():
    point = MeasuredRate(unit="attention", m=2048, n=64, k=128, share=0.4)
    assert rate((2048, 64, 128), point, unit=Unit.ATTENTION) == pytest.approx(0.4 * PEAK, rel=1e-3)


@given(faster=st.floats(1.0, 3.0), size=st.integers(64, 8192))
def test_a_faster_measurement_never_makes_anything_slower(faster, size):
    quicker = SMALL.model_copy(update={"share": SMALL.share * faster})
    assert rate((size, size, 256), quicker, LARGE) >= rate((size, size, 256), SMALL, LARGE) * (1 - 1e-9)


def test_ceilings_of_a_probe_replace_the_fitted_shares_of_its_device():
    machine = machine_of(load_cluster("8xh100-sxm"))
    peak = machine.peak_flop_per_s("bf16")
    found, notes = with_ceilings(
        simulator_parameters(),
        machine,
        [
            made_up_ceiling("matmul.bf16", 0.7 * peak),
            made_up_ceiling("matmul.bf16.4096x4096x1024", 0.6 * peak),
            made_up_ceiling("attention.bf16.1x32x8x2048x128.backward", 0.2 * peak),
            made_up_ceiling("matmul.fp32.4096x4096x1024", 0.01 * peak),
            made_up_ceiling("memory.dram", machine.memory_byte_per_s, origin="datasheet"),
        ],
        "bf16",
    )
    before, _ = parameters_for(simulator_parameters(), machine, stack_named("torch"))
    after, _ = parameters_for(found, machine, stack_named("torch"))
    assert after.matmul_share == pytest.approx(0.7)
    assert dataclasses.replace(after, matmul_share=before.matmul_share, measured=()) == before
    plain, attention = after.measured
    assert (plain.unit, plain.m, plain.n, plain.k, plain.share) == ("matmul", 4096, 4096, 1024, pytest.approx(0.6))
    assert (attention.unit, attention.m, attention.n, attention.k) == ("attention backward", 2048, 32, 128)
    assert attention.share == pytest.approx(0.2 * 5 / 4)  # its kernel does five products, the probe counts four
    assert len(notes) == 2


def test_an_fp8_job_takes_the_fp8_rates_of_a_probe_and_says_so_where_there_are_none():
    machine, stack = machine_of(load_cluster("8xh100-sxm")), stack_named("torch")
    wide = made_up_ceiling("matmul.bf16", 0.7 * machine.peak_flop_per_s("bf16"))
    narrow = made_up_ceiling("matmul.fp8", 0.6 * machine.peak_flop_per_s("fp8"))
    both, _ = with_ceilings(simulator_parameters(), machine, [wide, narrow], "bf16", narrow="fp8")
    found, _ = parameters_for(both, machine, stack)
    assert (found.matmul_share, found.fp8_matmul_share) == (pytest.approx(0.7), pytest.approx(0.6))
    _, notes = with_ceilings(simulator_parameters(), machine, [wide], "bf16", narrow="fp8")
    assert any(note.startswith("fp8 products: no rate") for note in notes)
