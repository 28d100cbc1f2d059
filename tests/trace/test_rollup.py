"""Are sorts of work, rates by shape, causal attention and copies what the events say? By hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kineto
import pytest
from made_up_record import made_up_ceiling

from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import Asked, analyse

REAL = Path(__file__).parent / "real"
Write = Callable[..., Path]
US = 1e-6


class Hand(kineto.KinetoFile):
    """Operators with one kernel each, one after the other, at times in microseconds."""

    def op(
        self, name: str, kernel: str, time: int, *, dims: object = None, values: object = None, **args: object
    ) -> None:
        ident, start = len(self.events) + 1, 1000 * len(self.events)
        shapes = (
            {} if dims is None else {"Input__Dims": dims, "Input__type": ["float" if each else "" for each in dims]}
        )
        shapes |= {} if values is None else {"Concrete__Inputs": values}
        self.complete("cpu_op", name, 1, 1, start * 1000, 900_000, **shapes)
        self.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, start * 1000 + 1000, 1000, correlation=ident)
        cat = "gpu_memcpy" if kernel.startswith("Memcpy") else "kernel"
        span = (start * 1000 + 5000, time * 1000)
        self.complete(cat, kernel, 0, 7, *span, stream=7, device=0, correlation=ident, **args)


def _one(path: Path, asked: Asked | None = None) -> TraceDevice:
    (device,) = analyse([path], asked).devices
    return device


def _loop() -> Hand:
    hand = Hand()
    hand.op("aten::mm", "sm90_xmma_gemm", 20, dims=[[64, 32], [32, 16]])
    hand.op("aten::mm", "sm90_xmma_gemm", 30, dims=[[64, 32], [32, 16]])
    hand.op("aten::add", "vectorized_elementwise_kernel", 40, dims=[[64, 16], [64, 16]])
    hand.op("mine::secret", "secret_kernel", 10)
    hand.op("aten::copy_", "Memcpy HtoD (Pinned -> Device)", 100, dims=[[64], [64]], bytes=2_000_000)
    return hand


def test_sorts_of_work_add_up_and_have_the_rate_of_what_is_counted(written: Write):
    device = _one(written(_loop()))
    rows = {row.category: row for row in device.categories}
    assert {name: (row.kernels, round(row.time_s / US, 6)) for name, row in rows.items()} == {
        "copy": (1, 100), "product": (2, 50), "elementwise": (1, 40), "unknown": (1, 10),
    }  # fmt: skip
    assert sum(row.share for row in device.categories) == pytest.approx(1)
    assert rows["product"].matmul_flop == 2 * 2 * 64 * 32 * 16
    assert rows["product"].flop_per_s == pytest.approx(2 * 2 * 64 * 32 * 16 / (50 * US))
    assert rows["elementwise"].byte_per_s == pytest.approx(3 * 4 * 64 * 16 / (40 * US))
    assert rows["unknown"].counted_s == 0


def test_equal_shapes_are_one_rate(written: Write):
    found = {op.op: (op.shapes, op.calls, round(op.time_s / US, 6)) for op in _one(written(_loop())).rates}
    assert found == {
        "aten::copy_": ("64, 64", 1, 100),
        "aten::mm": ("64x32, 32x16", 2, 50),
        "aten::add": ("64x16, 64x16", 1, 40),
    }


def test_copies_are_held_to_the_link_of_their_direction(written: Write):
    """2 MB in 100 µs are 20 GB/s; PCIe 5.0 x16 carries 63."""
    hand = _loop()
    hand.op("aten::copy_", "Memcpy DtoD (Device -> Device)", 10, dims=[[64], [64]], bytes=4_000_000)
    h100 = load_device("h100-sxm")
    found = {row.name: row for row in _one(written(hand), Asked(hardware=h100)).copies}
    row = found["Memcpy HtoD (Pinned -> Device)"]
    assert row.byte_per_s == pytest.approx(2e10)
    assert row.link_byte_per_s == h100.host_link.bandwidth_byte_per_s
    assert row.link_fraction == pytest.approx(2e10 / h100.host_link.bandwidth_byte_per_s)
    probe = (
        made_up_ceiling("transfer.host_to_device.pinned", 4e10, kind="transfer"),
        made_up_ceiling("memory.dram", 2e12, level="dram"),
    )
    found = {row.name: row for row in _one(written(hand), Asked(hardware=h100, ceilings=probe)).copies}
    assert found["Memcpy HtoD (Pinned -> Device)"].link_fraction == pytest.approx(0.5)
    assert found["Memcpy DtoD (Device -> Device)"].link_fraction == pytest.approx(4e11 / 1e12)


def test_causal_attention_shows_both_and_is_held_to_the_half_that_it_must_do(written: Write):
    """Scores of 2·4 heads of 128 x 128 numbers of 64: 33.6 MFLOP in full, half of it in 100 µs."""
    hand = Hand()
    dims = [[2, 4, 128, 64]] * 3 + [[], []]
    hand.op(
        "aten::_scaled_dot_product_flash_attention", "flash_fwd_kernel", 100, dims=dims,
        values=["", "", "", "0.", "True"],
    )  # fmt: skip
    ceilings = (
        made_up_ceiling("matmul.fp32", 0.3e12, dtype="fp32"),
        made_up_ceiling("memory.dram", 1e12, level="dram"),
    )
    (op,) = _one(written(hand), Asked(ceilings=ceilings)).ops
    assert (op.matmul_flop, op.causal_flop) == (33_554_432, 16_777_216)
    assert op.roof_fraction == pytest.approx(16_777_216 / 0.3e12 / 1e-4)
    assert (op.bound, op.marks) == ("compute", ())


def test_a_step_of_a_served_model_has_its_kernels_by_sort():
    """36 layers and a head: 4 products a layer and 1, 2 kernels of attention a layer, 4 norms a layer and 1."""
    rows = {row.category: row.kernels for row in _one(REAL / "tl_sglang_decode.json.gz").categories}
    assert (rows["product"], rows["attention"], rows["norm"]) == (4 * 36 + 1, 2 * 36, 4 * 36 + 1)


def test_kernels_that_nobody_knows_are_called_so(written: Write):
    kernels = {kernel.name: (kernel.library, kernel.category) for kernel in _one(written(_loop())).kernels}
    assert kernels["secret_kernel"] == ("", "unknown")
