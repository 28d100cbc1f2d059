"""Do counters meet the run's kernels by name, and is agreement what it says it is?"""

import json
from pathlib import Path

import pytest
from made_up_record import made_up_op, made_up_record

from hwprof.compare.counters import bound_of, function_of, held_against
from hwprof.specs.record.counters import KernelCounters
from hwprof.specs.record.run import KernelTime

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_cublas"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, 3ul>(int, float)"
ADD_OF_NCU = (
    "void at::native::vectorized_elementwise_kernel<(int)4, at::native::CUDAFunctor_add<float>, "
    "(unsigned long)3>(int, T2)"
)
OF_TORCH_AND_OF_NCU = json.loads(Path(__file__).with_name("kernel_names.json").read_text())
"""As torch.profiler and as ncu write the same kernels."""


def op(label, time_s, *, bound, moved=0.0, direction="forward"):
    moves = {"read_bytes": moved / 4, "write_bytes": 3 * moved / 4}
    return made_up_op(label, time_s, bound=bound, phase=direction, direction=direction, **moves)


def run(kernels, ops):
    return made_up_record(on="cuda", kernels=tuple(kernels), ops=tuple(ops))


def kernel(name, label, time_s, *, calls=2.0, direction="forward"):
    phase = direction
    return KernelTime(name=name, label=label, phase=phase, direction=direction, calls=calls, time_s=time_s)


@pytest.fixture
def record():
    kernels = (
        kernel(GEMM, "layers.*.ffn.up", 8e-3, calls=4),
        kernel(ADD, "layers.*.ffn.up", 2e-3, calls=4),
        kernel(ADD, "layers.*", 1e-3, calls=2),
        kernel("Memcpy HtoD (Pinned -> Device)", "data", 5e-3),
        kernel("lonely_kernel", "head", 1e-3),
    )
    ops = (
        op("layers.*.ffn.up", 10e-3, bound="compute", moved=50e6),
        op("layers.*", 1e-3, bound="memory", moved=6e6),
        op("head", 1e-3, bound="memory"),
    )
    return run(kernels, ops)


def test_kernels_meet_by_name_however_the_demangler_spells_it(record):
    counted = (KernelCounters(name=ADD_OF_NCU, launches=3), KernelCounters(name="other_kernel", launches=1))
    found = held_against(record, counted, source="f.csv")
    assert [row.kernel for row in found.rows] == [ADD]
    assert (found.run_kernels, found.file_kernels, found.unmatched) == (3, 2, ("other_kernel",))
    assert found.matched_time_fraction == pytest.approx(3 / 12)  # of 12 ms in kernels; a copy is none


@pytest.mark.parametrize("case", OF_TORCH_AND_OF_NCU)
def test_both_spellings_of_a_kernel_are_one_and_no_other_kernel_is(case):
    of_torch, of_ncu = OF_TORCH_AND_OF_NCU[case]
    known = run([kernel(of_torch, "head", 1e-3)], [])
    assert len(held_against(known, [KernelCounters(name=of_ncu, launches=1)], source="").rows) == 1
    others = [ncu for name, (_, ncu) in OF_TORCH_AND_OF_NCU.items() if name != case]
    assert held_against(known, [KernelCounters(name=one, launches=1) for one in others], source="").rows == ()


def test_a_function_s_bare_name_is_enough_and_a_template_with_other_arguments_is_not(record):
    bare = held_against(record, [KernelCounters(name="vectorized_elementwise_kernel", launches=1)], source="")
    assert [row.kernel for row in bare.rows] == [ADD]
    other = ADD.replace("<4", "<8")
    assert held_against(record, [KernelCounters(name=other, launches=1)], source="").rows == ()


def test_bytes_of_an_operation_are_shared_among_its_kernels_and_held_against_the_counters(record):
    counted = (
        KernelCounters(name=GEMM, launches=9, dram_bytes=5e6),
        KernelCounters(name=ADD, launches=9, dram_bytes=1e6),
    )
    gemm, add = held_against(record, counted, source="").rows
    assert gemm.counted_bytes == pytest.approx(40e6)  # 8 of the 10 ms of an operation that moves 50 MB
    assert gemm.measured_bytes == 20e6  # 4 calls of 5 MB
    assert gemm.byte_ratio == pytest.approx(2.0)
    assert add.counted_bytes == pytest.approx(10e6 + 6e6)
    assert (add.measured_bytes, add.other_ops, add.label) == (6e6, 1, "layers.*.ffn.up")
    assert held_against(record, counted, source="").byte_ratio == pytest.approx(56 / 26)


def test_an_operation_that_was_not_counted_has_no_bytes_to_compare(record):
    (row,) = held_against(record, [KernelCounters(name="lonely_kernel", launches=1, dram_bytes=1.0)], source="").rows
    assert row.counted_bytes is None
    assert row.byte_ratio is None


def test_agreement_counts_only_kernels_that_make_their_operation_and_whose_class_both_know(record):
    counted = (
        KernelCounters(name=GEMM, launches=1, dram_fraction=0.3, pipe_fraction=0.8),
        KernelCounters(name=ADD, launches=1, dram_fraction=0.7, pipe_fraction=0.2),
        KernelCounters(name="lonely_kernel", launches=1, dram_fraction=0.2, pipe_fraction=0.9),
    )
    found = held_against(record, counted, source="")
    assert [row.op_fraction for row in found.rows] == [pytest.approx(0.8), pytest.approx(0.2), 1.0]
    assert [row.agrees for row in found.rows] == [True, None, False]  # the addition is a fifth of its operation
    assert (found.agreeing, len(found.compared)) == (1, 2)
    unknown = held_against(record, [KernelCounters(name=GEMM, launches=1, dram_fraction=0.7)], source="")
    assert unknown.compared == ()


@pytest.mark.parametrize(
    ("dram", "l2", "pipe", "bound"),
    [
        (0.9, 0.4, 0.3, "memory"),
        (0.2, 0.7, 0.6, "memory"),
        (0.3, None, 0.8, "compute"),
        (0.05, 0.1, 0.14, "latency"),
        (None, None, 0.8, "unknown"),
        (0.9, 0.9, None, "unknown"),
    ],
)
def test_the_busiest_resource_is_the_class(dram, l2, pipe, bound):
    assert (
        bound_of(KernelCounters(name="f", launches=1, dram_fraction=dram, l2_fraction=l2, pipe_fraction=pipe)) == bound
    )


@pytest.mark.parametrize(
    ("name", "function"),
    [
        (ADD, "vectorized_elementwise_kernel"),
        (GEMM, GEMM),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, 8>(float*)", "softmax_warp_forward"),
        ("void f<g<(a)1>::h>(int (*)(int))", "f"),
    ],
)
def test_a_function_is_named_without_namespace_template_and_arguments(name, function):
    assert function_of(name) == function
