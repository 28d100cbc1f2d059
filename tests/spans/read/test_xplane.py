"""Is a profile of JAX read? A real one of a CPU, and one of a TPU by hand, in the words of xplane.proto."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("google.protobuf")

from wire import message

from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_device
from hwprof.trace.analysis import Asked, analyse

REAL = Path(__file__).parents[2] / "trace" / "real" / "jax_cpu.xplane.pb"
US = 1e-6


STATS = {1: "flops", 2: "bytes_accessed", 3: "hlo_category", 4: "shape_with_layout", 5: "device_type_string"}
PRODUCT = ((1, 2_000_000_000), (2, 1_000_000), (3, "convolution fusion"), (4, "bf16[128,256]{1,0}"))
OPS = {
    1: ("%fusion.1 = bf16[128,256]", "fusion.1", PRODUCT),
    2: ("%all-reduce.3", "all-reduce.3", ((3, "all-reduce"),)),
    3: ("%while.2", "while.2", ((3, "while"),)),
    4: ("4", "", ()),
    5: ("5", "", ()),
}  # fmt: skip


def _stat(number: int, value: int | str) -> bytes:
    return message((1, number), (3 if isinstance(value, int) else 5, value))


def _event(kind: int, start_us: int, end_us: int) -> tuple[int, bytes]:
    return 4, message((1, kind), (2, start_us * 10**6), (3, (end_us - start_us) * 10**6))


def _line(name: str, *events: tuple[int, bytes]) -> tuple[int, bytes]:
    return 3, message((1, 1), (2, name), (3, 1_790_000_000_000_000_000), *events)


def _tpu(path: Path) -> Path:
    """Two steps of 100 µs: 60 of a product, 20 of an all-reduce, all of it inside a loop; 20 idle."""
    named = [
        (4, message((1, key), (2, message((1, key), (2, name), (4, shown), *((5, _stat(*stat)) for stat in stats)))))
        for key, (name, shown, stats) in OPS.items()
    ]
    known = [(5, message((1, key), (2, message((1, key), (2, name))))) for key, name in STATS.items()]
    plane = message(
        (2, "/device:TPU:0"),
        _line("Steps", _event(4, 0, 100), _event(5, 100, 200)),
        _line("XLA Modules", _event(3, 0, 200)),
        _line("XLA Ops", *(_event(kind, at + low, at + high) for at in (0, 100)
                           for kind, low, high in ((3, 0, 80), (1, 0, 60), (2, 60, 80)))),
        *named, *known, (6, _stat(5, "TPU v5p")),
    )  # fmt: skip
    path.write_bytes(message((1, plane)))
    return path


def test_operations_of_a_tpu_with_steps_and_what_the_compiler_counted(tmp_path: Path):
    """A product of 2 GFLOP in 60 µs runs at 33 TFLOP/s; a TPU v5p reaches 459."""
    v5p = load_device("tpu-v5p")
    from hwprof.predict.ceilings.datasheet import datasheet_ceilings

    asked = Asked(hardware=v5p, ceilings=datasheet_ceilings(v5p))
    (device,) = analyse([_tpu(tmp_path / "vm.xplane.pb")], asked).devices
    assert device.device == "TPU v5p (gpu:0)"
    assert [(step.name, round(step.duration_s / US)) for step in device.steps] == [
        ("ProfilerStep#4", 100), ("ProfilerStep#5", 80),
    ]  # fmt: skip
    assert device.breakdown.compute_s == pytest.approx(120 * US)
    assert device.breakdown.exposed_communication_s == pytest.approx(40 * US)
    product = device.ops[0]
    assert (product.op, product.category, product.calls) == ("convolution fusion fusion.1", "product", 2)
    assert (product.matmul_flop, product.moved_bytes, product.dtype) == (4e9, 2e6, "bfloat16")
    assert product.roof_fraction == pytest.approx(2e9 / 459e12 / (60 * US), rel=0.01)
    assert {row.op for row in device.collectives} == {"all_reduce"}


def test_a_real_profile_of_a_cpu_has_its_steps_and_the_operations_of_xla():
    (device,) = analyse([REAL]).devices
    assert [step.name for step in device.steps] == ["ProfilerStep#0", "ProfilerStep#1", "ProfilerStep#2"]
    ops = {op.op: op.calls for op in device.ops}
    assert ops == {"dot": 3, "ynn_fusion": 3, "multiply_add_fusion": 3, "multiply_subtract_fusion": 3}


def test_other_bytes_are_refused(tmp_path: Path):
    path = tmp_path / "cat.xplane.pb"
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(InputError, match="can't be read"):
        analyse([path])
    path.write_bytes(b"")
    with pytest.raises(InputError, match="no lines of events"):
        analyse([path])
