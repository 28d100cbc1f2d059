"""Rows of a job asked of the models of kernels: measured products and attention, traffic by hand, scale, windows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_up_record import made_up_ceiling

from hwprof.count.job.rows import Part, Pass, Row, Unit
from hwprof.predict.ceilings.calibrated import with_ceilings
from hwprof.predict.kernels.grouped import Experts, experts_s
from hwprof.predict.kernels.products import Products, product_s
from hwprof.predict.kernels.row_table import row_table
from hwprof.predict.kernels.row_times import row_times
from hwprof.predict.machine import machine_of
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.simulate.jobs import expert_sizes
from hwprof.simulate.runners import attention_kernel, runners_of
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import MeasuredRate, simulator_parameters
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import TrainingJob

H100 = machine_of(load_cluster("8xh100-sxm"))


def job_of(name="llama-3.1-8b", **changes):
    return TrainingJob(model=load_model(name), seq_len=2048, global_batch=8, **changes)


def asked(*rows, job=None, machine=H100, stack="megatron-core", measured=()):
    runners, of = runners_of([(job or job_of(), machine, stack_named(stack))], [tuple(measured)])
    return row_times(row_table([rows], [expert_sizes(job or job_of())]), runners, of)


def product(m, n, k, unit=Unit.MATMUL, groups=1):
    flop = 2.0 * m * n * k * groups
    return Row(Part.LAYER, Pass.FORWARD, unit, m, n, k, groups, flop, 2.0 * groups * (m * k + n * k + m * n), 1)


def attention(seq_len, heads, share=1.0, unit=Unit.ATTENTION, width=128):
    products = 2 if unit == Unit.ATTENTION else 5
    flop = share * heads * products * seq_len**2 / 2 * 2 * width
    return Row(Part.LAYER, Pass.FORWARD, unit, seq_len, heads, width, 1, flop, 0.0, 1)


def test_products_are_asked_of_the_model_of_products():
    found = asked(product(4096, 4096, 4096), product(4096, 4096, 4096), product(512, 8192, 1024))
    sizes = Products(
        m=np.array([4096.0, 512.0]), n=np.array([4096.0, 8192.0]), k=np.array([4096.0, 1024.0]), batch=np.ones(2)
    )
    alone = product_s(sizes, H100.device, "bf16", table=kernel_table("gemm")).seconds
    assert found.alone_s == pytest.approx([alone[0], alone[0], alone[1]])
    assert found.arithmetic_s[0] == pytest.approx(2 * 4096**3 / H100.peak_flop_per_s("bf16"))
    assert any("bf16 products measured on h100-sxm5-80gb" in line for line in found.basis)


def test_scores_of_heads_that_are_no_multiple_of_16_bytes_wide_do_without_matrix_units():
    """96 heads of 150 numbers over 2048 tokens are 2 x 96 x 2048^2 x 150 = 121 GFLOP: 6.2 ms at 19.5 TFLOP/s."""
    a100 = machine_of(load_cluster("8xa100-80gb-sxm"))
    scores, values = product(2048, 2048, 150, groups=96), product(2048, 150, 2048, groups=96)
    wider, experts = product(2048, 2048, 152, groups=96), product(2048, 2048, 150, Unit.GROUPED, groups=96)
    found = asked(scores, values, wider, experts, job=job_of("mixtral-8x7b"), machine=a100)
    assert found.alone_s[:2] == pytest.approx([6.195e-3, 6.195e-3], rel=1e-3)
    assert (found.alone_s[2:] < 2e-3).all()


def test_products_of_several_experts_run_at_the_rate_of_measured_expert_layers():
    """Mixtral's on four ranks: gate and up, and down, add up to the layer; gradients of weights take as long."""
    job = job_of("mixtral-8x7b", layout=ParallelLayout(data_parallel=4, expert_parallel=4))
    tokens, hidden, width = 2048.0, 4096, 14336
    up, down = (product(tokens, n, k, Unit.GROUPED, groups=2) for n, k in ((2 * width, hidden), (hidden, width)))
    weights = product(2 * width, hidden, tokens, Unit.GROUPED, groups=2)._replace(when=Pass.WEIGHT)
    found = asked(up, down, weights, job=job)
    one = {"rows": 2 * tokens, "experts": 2.0, "hidden": float(hidden), "width": float(width), "ranks": 4.0}
    layer = experts_s(
        Experts(**{name: np.array([value]) for name, value in one.items()}),
        H100.device,
        "bf16",
        table=kernel_table("grouped"),
    )
    assert found.alone_s[:2].sum() == pytest.approx(layer.seconds[0])
    assert found.alone_s[2] == pytest.approx(found.alone_s[0])
    assert any("expert layers measured on h100-sxm5-80gb" in line for line in found.basis)


def test_narrow_products_run_in_the_format_of_their_recipe():
    rows = [product(8192, 8192, 8192, Unit.NARROW_MATMUL)]
    tensor = asked(*rows, job=job_of(dtype="fp8"))
    block = asked(*rows, job=job_of(dtype="fp8", fp8_recipe="blockwise"))
    wide = asked(product(8192, 8192, 8192), job=job_of(dtype="fp8"))
    assert tensor.alone_s[0] < wide.alone_s[0]
    assert tensor.alone_s[0] != block.alone_s[0]
    assert tensor.arithmetic_s[0] == pytest.approx(wide.arithmetic_s[0] / 2, rel=0.01)


def test_traffic_takes_its_bytes_over_the_bandwidth():
    moved = Row(Part.LAYER, Pass.FORWARD, Unit.TRAFFIC, 0, 0, 0, 1, 0, 3.35e9, 1)
    found = asked(moved)
    assert found.alone_s[0] == pytest.approx(1e-3)
    assert found.traffic[0]


def test_ranks_that_share_a_sequence_and_windows_do_a_part_of_the_heads_work():
    whole, half = asked(attention(16384, 32)), asked(attention(16384, 32, share=0.5))
    assert half.alone_s[0] == pytest.approx(whole.alone_s[0] / 2, rel=0.1)
    backward = asked(attention(16384, 32, unit=Unit.ATTENTION_BACKWARD))
    assert 1.5 < backward.alone_s[0] / whole.alone_s[0] < 5


@pytest.mark.parametrize(
    ("hardware", "stack", "changes", "kernel"),
    [
        ("h100-sxm", "megatron-core", {}, "cudnn"),
        ("h100-sxm", "fsdp", {}, "torch-sdpa"),
        ("a100-sxm4-80gb", "megatron-core", {}, "flash-2"),
        ("h100-sxm", "fsdp", {"attention": "flash-3"}, "flash-3"),
        ("h100-sxm", "llm-foundry", {}, "flash-1"),
        ("h100-sxm", "llm-foundry", {"attention": "flash-2"}, "flash-2"),
        ("b200-sxm-180gb", "llm-foundry", {}, "torch-sdpa"),
        ("mi300x", "llm-foundry", {}, "torch-sdpa"),
        ("tpu-v5p", "maxtext", {}, "vendor"),
        ("v100-sxm2-32gb", "megatron-deepspeed", {}, "torch-sdpa"),
    ],
)
def test_the_attention_kernel_follows_from_device_and_software(hardware, stack, changes, kernel):
    machine = machine_of(load_cluster(f"8x{hardware}"))
    assert attention_kernel(job_of(**changes), machine, stack_named(stack)) == kernel


def test_kernels_measured_on_the_machine_itself_stand_first():
    slow = MeasuredRate(unit="matmul", m=4096, n=4096, k=4096, share=0.5)
    found = asked(product(4096, 4096, 4096), measured=[slow])
    assert found.alone_s[0] == pytest.approx(2 * 4096**3 / (0.5 * H100.peak_flop_per_s("bf16")), rel=0.1)
    assert any("measured here" in line for line in found.basis)
    of_attention = MeasuredRate(unit="attention", m=2048, n=32, k=128, share=0.3)
    found = asked(attention(2048, 32), measured=[of_attention])
    flop = 32 * 2 * 2048**2 / 2 * 2 * 128
    assert found.alone_s[0] == pytest.approx(flop / (0.3 * H100.peak_flop_per_s("bf16")), rel=0.15)


def test_ceilings_of_a_probe_stand_before_what_others_measured():
    peak = H100.peak_flop_per_s("bf16")
    found, notes = with_ceilings(
        simulator_parameters(),
        H100,
        [
            made_up_ceiling("matmul.bf16", 0.7 * peak),
            made_up_ceiling("matmul.bf16.4096x4096x1024", 0.6 * peak),
            made_up_ceiling("attention.bf16.1x32x8x2048x128.backward", 0.2 * peak),
            made_up_ceiling("matmul.fp32.4096x4096x1024", 0.01 * peak),
            made_up_ceiling("memory.dram", 0.8 * H100.memory_byte_per_s),
        ],
        "bf16",
    )
    before, _ = parameters_for(simulator_parameters(), H100, stack_named("torch"))
    after, _ = parameters_for(found, H100, stack_named("torch"))
    assert (after.sustained_share, after.memory_share) == (1.0, pytest.approx(0.8))
    same = {"sustained_share": before.sustained_share, "memory_share": before.memory_share, "measured": ()}
    assert dataclasses.replace(after, **same) == before
    plain, backward = after.measured
    assert (plain.unit, plain.m, plain.n, plain.k, plain.share) == ("matmul", 4096, 4096, 1024, pytest.approx(0.6))
    assert (backward.unit, backward.m, backward.n, backward.k) == ("attention backward", 2048, 32, 128)
    assert backward.share == pytest.approx(0.2 * 5 / 4)  # its kernel does five products, the probe counts four
    assert len(notes) == 2


def test_an_fp8_job_says_where_a_probe_has_no_narrow_products():
    wide = made_up_ceiling("matmul.bf16.4096x4096x1024", 0.7 * H100.peak_flop_per_s("bf16"))
    _, notes = with_ceilings(simulator_parameters(), H100, [wide], "bf16", narrow="fp8")
    assert any(note.startswith("fp8 products: none") for note in notes)
