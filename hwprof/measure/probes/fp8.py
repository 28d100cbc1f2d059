"""How many FLOP a second does matrix multiplication in fp8 reach? ``torch._scaled_mm`` over the sweep of the others.

Both operands are e4m3 with one scale each, the product bf16, with the fast accumulation that training uses forward.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from hwprof.measure.probes.bench import Bench, CannotRunError, Conditions
from hwprof.measure.probes.matmul import MatmulShape, best_of_sweep, check_product, l2_flush, sweep_of
from hwprof.measure.probes.sampling import Work
from hwprof.specs.measurement import Ceiling
from hwprof.train.precision import architecture

FP8 = "fp8"
_CAPABILITY = (8, 9)
"""Ada and Hopper: the first tensor cores with fp8 (CUDA C++ Programming Guide, 'Feature Support')."""
_TOLERANCE = 5e-2
"""As of the other 16-bit products: operands are exact in fp8, and the product is rounded to bf16."""


def fp8_ceiling(bench: Bench) -> Ceiling:
    """``matmul.fp8``: the best sustained median over a sweep of large shapes.

    Raises:
        CannotRunError: the device, or this torch, does not multiply in fp8.
        WorkError: a product is wrong.
    """
    multiply = require_fp8(bench.device)

    def at_shape(bench: Bench, shape: MatmulShape, deadline_s: float) -> Ceiling:
        work = _product(bench.device, shape, multiply)
        timed = bench.time(work, deadline_s=deadline_s, prepare=l2_flush(bench.device))
        conditions: Conditions = {"shape_mxnxk": str(shape), "operands": "e4m3, scaled as a whole", "result": "bf16"}
        return bench.ceiling(
            f"matmul.{FP8}", "compute", timed, work_per_call=shape.flop, dtype=FP8, conditions=conditions
        )

    return best_of_sweep(bench, sweep_of(bench), at_shape, flop_per_s=math.inf)


def require_fp8(device: torch.device) -> Any:
    """The fp8 product of torch, where the device computes in fp8.

    Raises:
        CannotRunError: it does not, or torch is too old.
    """
    if device.type == "cpu":
        raise CannotRunError("fp8 is a number format of tensor cores; torch emulates it on a CPU")
    if device.type != "cuda":
        raise CannotRunError(f"whether the matrix units of {device.type} take fp8 is not told by torch")
    format_of(device)
    multiply = getattr(torch, "_scaled_mm", None)
    if multiply is None or not hasattr(torch, "float8_e4m3fn"):
        raise CannotRunError(f"torch {torch.__version__} has no fp8 product (torch._scaled_mm)", remedy="update torch")
    return multiply


def format_of(device: torch.device) -> torch.dtype:
    """The e4m3 of a device: OCP's, but of AMD's MI300 series the one without negative zero (gfx94x; ISA of CDNA 3).

    Raises:
        CannotRunError: its matrix units take none.
    """
    if device.type != "cuda":
        return torch.float8_e4m3fn
    if torch.version.hip:
        name = architecture(device)
        if name.startswith("gfx94"):
            return torch.float8_e4m3fnuz
        if name.startswith(("gfx95", "gfx12")):
            return torch.float8_e4m3fn
        raise CannotRunError(f"the matrix units of {name or 'this device'} take no fp8; those of gfx942 and newer do")
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        have, want = (".".join(map(str, version)) for version in (capability, _CAPABILITY))
        raise CannotRunError(f"fp8 needs compute capability {want}; this device has {have}")
    return torch.float8_e4m3fn


def _product(device: torch.device, shape: MatmulShape, multiply: Any) -> Work:
    generator = torch.Generator(device).manual_seed(0)

    def operand(rows: int) -> torch.Tensor:
        return torch.randn(rows, shape.k, generator=generator, device=device).to(format_of(device))

    x, w = operand(shape.m), operand(shape.n)
    scale = torch.ones((), device=device)

    def work() -> torch.Tensor:
        result: torch.Tensor = multiply(
            x, w.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16, use_fast_accum=device.type == "cuda"
        )
        return result

    check_product(work(), x, w, tolerance=_TOLERANCE)
    return work
