"""How many FLOP a second does matrix multiplication reach here, at best and at a model's own shapes?

The method follows mamf-finder (maximum achievable matmul FLOP/s): random data, since a product of zeros draws less
power and so runs faster; several large shapes, the best sustained median wins; on CUDA the L2 cache is flushed before
each sample. One product is checked against float64, so that a fast wrong answer is an error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from hwprof.errors import WorkError
from hwprof.measure.probes.bench import Bench, Budget, CannotRunError, Conditions, best_ceiling
from hwprof.measure.probes.isa import products_run_on, widened
from hwprof.measure.probes.operators import warmed_up
from hwprof.measure.probes.rotation import rotating
from hwprof.measure.probes.sampling import Samples, Work, sample_s
from hwprof.measure.probes.step.check import in_float64
from hwprof.specs.job.settings import Dtype
from hwprof.specs.measurement import Ceiling
from hwprof.train.precision import architecture, kept_matmul_precision, multiplies_bf16, set_matmul_precision
from hwprof.units import format_seconds

TORCH_DTYPE: dict[Dtype, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_TOLERANCE: dict[Dtype, float] = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp16": 5e-2}
"""Largest error of an element over sqrt(k), the standard deviation of an element for unit normal operands."""

_MIN_CAPABILITY: dict[Dtype, tuple[int, int]] = {"tf32": (8, 0), "bf16": (8, 0), "fp16": (5, 3)}
"""CUDA compute capability from which the hardware computes in the dtype (CUDA C++ Programming Guide, table 'Feature
Support per Compute Capability'); below it torch emulates."""

_SIXTEEN_BITS: tuple[Dtype, ...] = ("bf16", "fp16")

PILOT_LIMIT_S = 0.5
"""A 256 x 256 x 256 product slower than this makes the dtype not worth measuring."""
_CUDA_PILOT_S = 0.1
"""Products of some µs are never steady on a GPU; more time would not make them so."""
_PILOT_SAMPLES = 3
_PILOT_ENOUGH_S = 5e-3
_PILOT_SIDES = (256, 512, 1024, 2048, 4096)
FLUSH_BYTES = 256 * 2**20
"""Written before each CUDA sample; several times the largest L2 cache so far (GB200: 126 MB)."""


@dataclass(frozen=True, slots=True)
class MatmulShape:
    """``[m, k] @ [k, n] -> [m, n]``; for a linear layer m = tokens, n = output features, k = input features."""

    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        """Work of the product: 2 FLOP for each of m x n x k multiply-adds."""
        return 2 * self.m * self.n * self.k

    def moved_bytes(self, dtype: Dtype) -> int:
        """Both operands and the result, once each."""
        return (self.m * self.n + self.m * self.k + self.n * self.k) * TORCH_DTYPE[dtype].itemsize

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


_CPU_SWEEP = tuple(
    MatmulShape(*mnk)
    for mnk in ((512, 512, 512), (1024, 1024, 1024), (4096, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096))
)
_CUDA_SWEEP = tuple(
    MatmulShape(*mnk)
    for mnk in ((4096, 4096, 4096), (8192, 4096, 4096), (8192, 8192, 4096), (8192, 8192, 8192), (16384, 8192, 8192))
)
_BEST_OF_MAMF_FINDER = (
    (1024, 10240, 5120),
    (2048, 2048, 13312),
    (1024, 15360, 4096),
    (1792, 16128, 3072),
    (4096, 9728, 2048),
)
"""Best shapes found in bf16 on A100, H100, GH200, B200 and GB200 (ml-engineering, compute/accelerator/README.md)."""
_CPU_MORE = tuple(
    MatmulShape(*mnk) for mnk in ((512, 4096, 1024), (2048, 2048, 512), (1024, 1024, 4096), (2048, 1024, 2048))
)
_CUDA_MORE = (
    *(MatmulShape(*mnk) for mnk in _BEST_OF_MAMF_FINDER),
    *itertools.starmap(MatmulShape, itertools.product((4096, 8192, 16384), (4096, 8192, 16384), (2048, 4096, 16384))),
)
"""What a full probe tries besides: the best that others found, and a grid around the others."""
_SUSTAINED_S = 1.0
"""A GPU under its power limit lowers its clocks within some tenths of a second."""
_HEAT_S = 0.3
"""So long a product of a step is called before it is timed on a GPU, so that its clocks are those of a step."""


def sweep_of(bench: Bench) -> tuple[MatmulShape, ...]:
    """The shapes to try; a quick probe tries fewer."""
    few, more = (_CUDA_SWEEP, _CUDA_MORE) if bench.device.type != "cpu" else (_CPU_SWEEP, _CPU_MORE)
    return distinct((*few, *more)) if bench.thorough else few


def matmul_ceiling(bench: Bench, dtype: Dtype) -> Ceiling:
    """The best sustained median over a sweep of large shapes.

    Shapes too slow for their share of the probe's time are left out, judged by the best rate so far.

    Raises:
        CannotRunError: the device does not compute in ``dtype``, or too slowly to be measured.
        WorkError: a product is wrong.
    """

    def at_shape(bench: Bench, shape: MatmulShape, deadline_s: float) -> Ceiling:
        timed = bench.time(product(bench, dtype, shape), deadline_s=deadline_s, prepare=l2_flush(bench.device))
        return _product_ceiling(bench, f"matmul.{dtype}", dtype, shape, timed)

    with matmul_precision(dtype):
        return best_of_sweep(bench, sweep_of(bench), at_shape, flop_per_s=pilot_flop_per_s(bench, dtype))


AtShape = Callable[[Bench, MatmulShape, float], Ceiling]
"""Measures one shape within so many seconds."""


def best_of_sweep(bench: Bench, sweep: Sequence[MatmulShape], at_shape: AtShape, *, flop_per_s: float) -> Ceiling:
    """The shape of the highest rate, on a GPU measured again under sustained load.

    Args:
        bench: where to measure.
        sweep: the shapes; one too slow for its share of the probe's time is left out, but for the first.
        at_shape: measures one.
        flop_per_s: expected rate, replaced by the best so far.
    """
    budget = Budget(bench.timer, total_s=bench.probe_s, pieces=len(sweep))
    found: dict[MatmulShape, Ceiling] = {}
    for shape in sweep:
        deadline_s = budget.next_s()
        if found and shape.flop / flop_per_s * (bench.warmups + bench.samples) > deadline_s:
            continue
        found[shape] = at_shape(bench, shape, deadline_s)
        best_flop_per_s = max(one.value for one in found.values())
        flop_per_s = best_flop_per_s if math.isinf(flop_per_s) else max(flop_per_s, best_flop_per_s)
    best = best_ceiling(list(found.values()))
    tried: Conditions = {"shapes_tried": len(found)}
    if bench.device.type != "cpu":
        tried["before_sustained_load_flop_per_s"] = best.value
        shape = next(shape for shape, one in found.items() if one is best)
        calls = math.ceil(_SUSTAINED_S * best.value / shape.flop)  # back to back, until the GPU has clocks it can keep
        best = at_shape(replace(bench, warmups=max(bench.warmups, calls)), shape, 3 * _SUSTAINED_S)
    return best.changed(conditions=best.conditions | tried)


def shape_ceiling(
    bench: Bench, dtype: Dtype, shape: MatmulShape, *, deadline_s: float, swept_bytes: float = math.inf
) -> Ceiling:
    """What ``torch.nn.functional.linear`` reaches at one shape.

    Args:
        bench: where to measure.
        dtype: the operands' format.
        shape: m = tokens, n = output features, k = input features.
        deadline_s: time set aside for this shape.
        swept_bytes: as ``rotating``.

    Raises:
        CannotRunError: the device does not compute in ``dtype``.
        WorkError: the product is wrong.
    """
    require_support(bench.device, dtype)
    with matmul_precision(dtype):
        work = rotating(
            lambda: product(bench, dtype, shape), shape.moved_bytes(dtype), bench.device, swept_bytes=swept_bytes
        )
        warm = warmed_up(bench, work, deadline_s=deadline_s)
        if bench.device.type != "cpu":
            heat(bench, work)
        timed = warm.bench.time(work, deadline_s=warm.deadline_s, prepare=l2_flush(bench.device))
    found = _product_ceiling(bench, f"matmul.{dtype}.{shape}", dtype, shape, timed)
    return found.changed(conditions=found.conditions | {"operators": warm.operators})


def heat(bench: Bench, work: Work) -> None:
    """Call some work back to back for ``_HEAT_S``, as far as the device is through with what it was given."""
    until_s = bench.timer.mark().host_s + _HEAT_S
    while (start := bench.timer.mark()).host_s < until_s:
        for _ in range(_CALLS_OF_HEAT):
            work()
        bench.timer.elapsed_s(start, bench.timer.mark())


_CALLS_OF_HEAT = 20


def pilot_flop_per_s(bench: Bench, dtype: Dtype) -> float:
    """A first rate, from the smallest cube whose product takes 5 ms.

    Raises:
        CannotRunError: the device does not compute in ``dtype``, or a small product takes too long.
    """
    require_support(bench.device, dtype)
    deadline_s = _CUDA_PILOT_S if bench.device.type != "cpu" else PILOT_LIMIT_S
    best = 0.0
    for side in _PILOT_SIDES:
        shape = MatmulShape(side, side, side)
        work = product(bench, dtype, shape)
        timed = sample_s(bench.timer, work, warmups=0, samples=_PILOT_SAMPLES, deadline_s=deadline_s)
        elapsed_s = min(timed.seconds)
        if side == _PILOT_SIDES[0] and elapsed_s > PILOT_LIMIT_S:
            raise CannotRunError(f"{dtype} is too slow here: one {shape} product takes {format_seconds(elapsed_s)}")
        best = max(best, shape.flop / elapsed_s)
        if elapsed_s >= _PILOT_ENOUGH_S:
            break
    return best


def require_support(device: torch.device, dtype: Dtype) -> None:
    """Refuse a number format that the device's hardware does not compute in.

    Raises:
        CannotRunError: it says what is needed.
    """
    if device.type == "cpu":
        _require_cpu_support(dtype)
        return
    if dtype == "tf32" and (device.type != "cuda" or torch.version.hip):
        raise CannotRunError("tf32 is a number format of NVIDIA tensor cores")
    if device.type != "cuda":
        return
    if torch.version.hip:
        if dtype == "bf16" and not multiplies_bf16(device):
            raise CannotRunError(f"the matrix units of {architecture(device)} don't take bf16")
        return
    capability = torch.cuda.get_device_capability(device)
    needed = _MIN_CAPABILITY.get(dtype, (0, 0))
    if capability < needed:
        have, want = (".".join(map(str, version)) for version in (capability, needed))
        raise CannotRunError(f"{dtype} needs compute capability {want}; this device has {have}")


def _require_cpu_support(dtype: Dtype) -> None:
    if dtype == "tf32":
        raise CannotRunError("tf32 is a number format of NVIDIA tensor cores; a CPU has none")
    if dtype not in _SIXTEEN_BITS:
        return
    runs_on = products_run_on(TORCH_DTYPE[dtype])
    if widened(runs_on):
        raise CannotRunError(
            f"{dtype} products run on {runs_on or 'plain loops'} here, which widens them to fp32: no rate of {dtype}",
            remedy="train in fp32, or on a CPU with instructions for the format (AVX512_BF16, AMX, AVX512_FP16)",
        )


@contextmanager
def matmul_precision(dtype: Dtype) -> Iterator[None]:
    """fp32 products in true fp32, tf32 products in tf32; the process's own setting comes back afterwards."""
    with kept_matmul_precision():
        set_matmul_precision("high" if dtype == "tf32" else "highest")
        yield


def _product_ceiling(bench: Bench, name: str, dtype: Dtype, shape: MatmulShape, timed: Samples) -> Ceiling:
    conditions: Conditions = {"shape_mxnxk": str(shape)}
    if bench.device.type == "cpu":
        conditions["runs_on"] = (
            products_run_on(TORCH_DTYPE[dtype]) or f"{torch.backends.cpu.get_cpu_capability()} (BLAS)"
        )
    return bench.ceiling(name, "compute", timed, work_per_call=shape.flop, dtype=dtype, conditions=conditions)


def product(bench: Bench, dtype: Dtype, shape: MatmulShape) -> Work:
    """``linear(x[m, k], w[n, k])`` on unit normal data, its result checked once."""
    generator = torch.Generator(bench.device).manual_seed(0)

    def operand(rows: int) -> torch.Tensor:
        values = torch.randn(rows, shape.k, generator=generator, device=bench.device)
        return values.to(TORCH_DTYPE[dtype])

    x, w = operand(shape.m), operand(shape.n)
    check_product(torch.nn.functional.linear(x, w), x, w, tolerance=_TOLERANCE[dtype])
    return lambda: torch.nn.functional.linear(x, w)


def check_product(y: torch.Tensor, x: torch.Tensor, w: torch.Tensor, *, tolerance: float) -> None:
    """Compare at most 16 x 16 elements of ``y``, spread over the whole, with ``x @ w.T`` in float64.

    Args:
        y: the product, ``[m, n]``.
        x: left operand, ``[m, k]``, elements of unit variance.
        w: right operand, ``[n, k]``, elements of unit variance.
        tolerance: largest error over sqrt(k).

    Raises:
        WorkError: an element is further off.
    """
    rows = torch.linspace(0, x.shape[0] - 1, min(16, x.shape[0]), device=x.device).long()
    columns = torch.linspace(0, w.shape[0] - 1, min(16, w.shape[0]), device=x.device).long()
    expected = in_float64(x[rows]) @ in_float64(w[columns]).t()
    worst = float((in_float64(y[rows][:, columns]) - expected).abs().max()) / x.shape[1] ** 0.5
    if not worst <= tolerance:
        raise WorkError(
            f"a {str(x.dtype).removeprefix('torch.')} product is wrong by {worst:.2g} of its standard deviation",
            expectation=f"expected at most {tolerance:g}",
            remedy="check the device and the torch installation",
        )


def l2_flush(device: torch.device) -> Work | None:
    """What empties a CUDA device's L2 cache of the operands; None on a CPU, whose products reuse their caches."""
    if device.type == "cpu":
        return None
    buffer = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    return buffer.zero_


def distinct(shapes: Sequence[MatmulShape]) -> tuple[MatmulShape, ...]:
    """The shapes without repetition, in order."""
    return tuple(dict.fromkeys(shapes))
