"""How long does each kind of call and each kind of collective take on a machine? Asked of the one kernel model."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwprof.count.aten import matmul
from hwprof.count.aten.registry import aten_cost, unpriced
from hwprof.emulate.here import Here
from hwprof.emulate.recording import Recording
from hwprof.emulate.tape import COLLECTIVE, KERNEL, Call, Collective, CollectiveName
from hwprof.predict.collectives.clock import clock_of
from hwprof.predict.collectives.form import Operation
from hwprof.predict.kernels.attention.base import AttentionKernel, AttentionKind
from hwprof.predict.kernels.attention.sequences import AttentionSizes, attention_s
from hwprof.predict.kernels.formats import ProductFormat
from hwprof.predict.kernels.products import Products, product_s
from hwprof.predict.kernels.traffic.training_ops import QUEUED_S
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import Parameters
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.hardware.spec import MatmulDtype
from hwprof.specs.record.captured import AtenCall, TensorView
from hwprof.units import format_byte_per_s, format_estimate, format_fraction

Floats = NDArray[np.float64]

NO_KERNEL = frozenset({
    "aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::new_empty_strided",
    "aten::empty_permuted", "aten::set_", "aten::resize_", "aten::lift_fresh", "aten::record_stream",
})  # fmt: skip
"""Operators that give or change memory without touching what is in it."""

_OPERATIONS: dict[CollectiveName, Operation] = {
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "all_reduce": "all_reduce",
    "all_to_all": "alltoall",
    "broadcast": "broadcast",
    "reduce": "broadcast",
    "gather": "all_gather",
    "scatter": "all_gather",
    "send": "send_recv",
    "recv": "send_recv",
}
"""``reduce`` takes the time of a broadcast, ``gather`` and ``scatter`` that of an all-gather."""

_FORMATS: dict[str, MatmulDtype] = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Seconds of each kind, arrays of one for each.

    Attributes:
        device_s: of calls, on the device.
        host_s: of calls, on the host that makes them.
        launch_s: of a call that launches a kernel or a collective, on the host.
        assumed: of calls, whether nobody measured what the price rests on.
        memory_bound: of calls, whether their traffic takes longer than their arithmetic.
        collective_s: of collectives.
        script_share: what the script's own code takes there, over what it took where it was emulated; 0: not known.
        basis: in words, whose kernels speak.
    """

    device_s: Floats
    host_s: Floats
    launch_s: float
    assumed: NDArray[np.bool_]
    memory_bound: NDArray[np.bool_]
    collective_s: Floats
    basis: tuple[str, ...]
    script_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """``batch`` products [m, k]·[k, n] that a call is."""

    m: int
    n: int
    k: int
    batch: int


def prices_of(recording: Recording, machine: Machine, parameters: Parameters, here: Here | None = None) -> Prices:
    """Times of every kind of call and collective of a recording.

    Args:
        recording: what a rank did; what other devices than the one that trains compute is the host's.
        machine: the machine.
        parameters: of the device and of PyTorch.
        here: what was measured on the machine itself.

    Raises:
        SpecError: the machine lacks a number that is needed.
    """
    calls, times = recording.calls, recording.count(KERNEL)
    pricer = _Pricer(machine, parameters, tf32=recording.tf32, here=here)
    device_s, assumed = np.zeros(len(calls)), np.zeros(len(calls), dtype=bool)
    memory_bound = np.zeros(len(calls), dtype=bool)
    launch_s = float(np.asarray(parameters.kernel_host_s))
    host_s = np.full(len(calls), launch_s)
    basis: dict[str, None] = {}
    timed = 0
    for place in times:
        call = calls[place]
        launches = call.call is not None and call.name not in NO_KERNEL
        host_s[place] *= 0.0 if call.joined else 1.0 if launches else VIEW_SHARE
        measured_s = here.call_s(call) if here is not None and call.device == recording.device else None
        if measured_s is not None and here is not None:
            timed += 1
            device_s[place], host_s[place] = measured_s, 0.0 if here.processor else host_s[place]
        elif call.call is None or not launches:
            continue
        elif call.device != recording.device:
            host_s[place] += aten_cost(call.call).moved_bytes / HOST_BYTE_PER_S
            basis[f"the host's own work: its bytes at {format_byte_per_s(HOST_BYTE_PER_S)} (assumed)"] = None
        else:
            device_s[place], assumed[place], memory_bound[place], text = pricer.price(call, call.call)
            basis[text] = None
    collective_s, unmeasured = _collective_s(recording, machine, here)
    crowd = 1.0 if here is None else here.crowd(recording.devices)
    if here is not None:
        untimed = sum(1 for place in times if device_s[place]) - timed
        basis |= dict.fromkeys(here.basis(recording, timed, untimed, unmeasured))
        device_s, host_s = device_s * crowd, host_s * crowd
    return Prices(
        device_s=device_s,
        host_s=host_s,
        launch_s=launch_s * crowd,
        assumed=assumed,
        memory_bound=memory_bound,
        collective_s=collective_s,
        basis=tuple(basis),
        script_share=here.script_share(recording) * crowd if here is not None else 0.0,
    )


VIEW_SHARE = 0.25
"""Host time of a call that launches nothing over that of one that does: dispatch without a launch (assumed)."""

HOST_BYTE_PER_S = 10e9
"""What one core of a host moves (assumed; a processor that was probed has rates of its own)."""


class _Pricer:
    """The kernel models of one machine."""

    def __init__(self, machine: Machine, parameters: Parameters, *, tf32: bool, here: Here | None) -> None:
        self._machine, self._p, self._tf32, self._here = machine, parameters, tf32, here
        self._products = here.products(machine) if here is not None else None
        self._queued_s = 0.0 if machine.device.kind == "cpu" else QUEUED_S
        self._kernel_share = float(np.asarray(parameters.kernel_share))

    def price(self, kind: Call, call: AtenCall) -> tuple[float, bool, bool, str]:
        """Seconds, whether they are assumed, whether memory binds, and who says so."""
        product = product_of(call)
        if product is not None:
            return self._product(call, product)
        if call.name.removesuffix("_backward").removesuffix("_forward") in _ATTENTION:
            return self._attention(call)
        share = float(np.asarray(self._p.memory_share))
        moved_bytes = max(aten_cost(call).moved_bytes - kind.spared_bytes, 0.0)
        moved_s = moved_bytes / (self._machine.memory_byte_per_s * share)
        text = f"other kernels: their traffic at {format_fraction(share)} of the memory's rate"
        known = not unpriced([call.name])
        queued_s = 0.0 if kind.joined else self._queued_s
        return (queued_s + moved_s) / self._kernel_share, not known, True, text

    def _product(self, call: AtenCall, product: Product) -> tuple[float, bool, bool, str]:
        dtype = self._format(next(tensor.dtype for tensor in call.inputs if tensor.is_float))
        sizes = {name: np.array([float(max(getattr(product, name), 1))]) for name in ("m", "n", "k", "batch")}
        asked = Products(**sizes)
        found = product_s(asked, self._machine.device, dtype, table=kernel_table("gemm"), here=self._products)
        alone_s = float(found.seconds[0]) / self._machine.scale
        used = self._machine.format_used(_peak(dtype))
        arithmetic_s = float(asked.flop[0]) / self._machine.peak_flop_per_s(used)
        share = float(np.asarray(self._p.narrow_share if used in {"fp8", "fp4"} else self._p.sustained_share))
        seconds = (alone_s + (1 / share - 1) * arithmetic_s) * float(np.asarray(self._p.product_factor))
        moved_s = aten_cost(call).moved_bytes / self._machine.memory_byte_per_s
        return seconds / self._kernel_share, found.basis.word == "assumed", moved_s > arithmetic_s, found.basis.text

    def _format(self, torch_dtype: str) -> ProductFormat:
        asked = _FORMATS.get(torch_dtype, "fp32")
        used = self._machine.format_used("tf32" if asked == "fp32" and self._tf32 else asked)
        return "nvfp4" if used == "fp4" else used

    def _attention(self, call: AtenCall) -> tuple[float, bool, bool, str]:
        query, key, value = (call.tensor(name).shape for name in ("query", "key", "value"))
        heads, places = (2, 1) if call.name.startswith(("aten::_flash", "aten::_efficient")) else (1, 2)
        backward = call.name.endswith("_backward")
        causal = call.arguments.get("is_causal") is True
        kind = AttentionKind(
            kernel=self._kernel(),
            direction="backward" if backward else "forward",
            causal=causal,
            head_dim=query[-1],
            value_dim=value[-1],
        )
        queries, keys = float(query[places]), float(key[places])
        share = queries / keys  # a rank's part of a sequence does the work of a part of the heads
        asked = AttentionSizes(
            batch_heads=np.array([query[0] * query[heads] * share]),
            seq_len=np.array([max(keys, 1.0)]),
            group=np.array([query[heads] / max(key[heads], 1)]),
        )
        wide = self._machine.format_used(_FORMATS.get(call.tensor("query").dtype, "bf16"))
        group = float(asked.group[0])
        points = self._here.attention(self._machine, wide, kind, group) if self._here is not None else None
        found = attention_s(asked, self._machine.device, kind, table=kernel_table("attention"), here=points)
        products = 5.0 if backward else 2.0
        flop = products * query[0] * query[heads] * queries * keys * (query[-1] + value[-1]) / (2 if causal else 1)
        arithmetic_s = flop / self._machine.peak_flop_per_s(wide)
        slower = 1 / float(np.asarray(self._p.sustained_share)) - 1
        seconds = (float(found.seconds[0]) / self._machine.scale + slower * arithmetic_s) * float(
            np.asarray(self._p.attention_factor)
        )
        wide_words = call.tensor("query").element_bytes > 2
        text, assumed = found.basis.text, found.basis.word == "assumed"
        if wide_words:
            times, why = self._of_wide_words()
            seconds, text, assumed = (
                seconds * times,
                f"{text}; in 32 bits {format_estimate(times)} as long ({why})",
                True,
            )
        return seconds / self._kernel_share, assumed, False, text

    def _of_wide_words(self) -> tuple[float, str]:
        """How much longer attention takes in 32 bits than in 16, and why.

        The memory-efficient kernel takes tensor cores thrice for a product of 32 bits from Ampere on (CUTLASS's 3xTF32;
        ``gemm_kernel_utils.h`` of torch's mem_eff_attention), before that the vector units.
        """
        machine, narrow = self._machine, self._machine.peak_flop_per_s("bf16")
        if machine.device.matmul_flop_per_s("tf32") is not None:
            return 3 * narrow / machine.peak_flop_per_s("tf32"), "three products of TF32 for each"
        return narrow / machine.peak_flop_per_s("fp32"), "the peak of fp32"

    def _kernel(self) -> AttentionKernel:
        return "torch-sdpa" if self._machine.device.kind == "gpu" else "vendor"


_ATTENTION = set(matmul.ATTENTION) | {"aten::_flash_attention", "aten::_efficient_attention"}


def _peak(dtype: ProductFormat) -> MatmulDtype:
    narrow: dict[str, MatmulDtype] = {"nvfp4": "fp4", "fp8-block": "fp8"}
    return narrow.get(dtype, dtype)  # type: ignore[arg-type]


def product_of(call: AtenCall) -> Product | None:
    """The matrix product that a call is; None where it is none."""
    pair = _PRODUCTS.get(call.name)
    if pair is not None:
        left, right = (call.tensor(name) for name in pair)
        batch = left.shape[0] if len(left.shape) == len(right.shape) == 3 else 1
        return Product(m=left.shape[-2], n=right.shape[-1], k=left.shape[-1], batch=batch)
    if call.name == "aten::convolution":
        return _convolution(call.results[0], call.tensor("weight"))
    if call.name == "aten::convolution_backward":
        return _convolution(call.tensor("grad_output"), call.tensor("weight"), passes=2)
    return None


_PRODUCTS = {
    "aten::mm": ("self", "mat2"),
    "aten::bmm": ("self", "mat2"),
    "aten::_scaled_mm": ("self", "mat2"),
    "aten::_int_mm": ("self", "mat2"),
    "aten::_grouped_mm": ("self", "mat2"),
    "aten::_scaled_grouped_mm": ("self", "mat2"),
    "aten::addmm": ("mat1", "mat2"),
    "aten::baddbmm": ("batch1", "batch2"),
    "aten::addbmm": ("batch1", "batch2"),
}


def _convolution(output: TensorView, weight: TensorView, *, passes: int = 1) -> Product:
    """A convolution as the product of its unfolded input and its kernel."""
    places = output.shape[0] * prod(output.shape[2:])
    return Product(m=places * passes, n=weight.shape[0], k=prod(weight.shape[1:]), batch=1)


def _collective_s(recording: Recording, machine: Machine, here: Here | None) -> tuple[Floats, int]:
    """Seconds of each kind, and how many kinds of the step nobody measured on the machine."""
    clock = clock_of([machine])
    seconds, unmeasured = np.zeros(len(recording.collectives)), 0
    for place in recording.count(COLLECTIVE):
        each = recording.collectives[place]
        measured_s = here.collective_s(each) if here is not None else None
        if measured_s is not None:
            seconds[place] = measured_s
            continue
        unmeasured += 1
        ranks, stride = float(len(each.ranks)), float(_stride(each))
        if each.peer >= 0:
            ranks = 2.0
        size_bytes = np.array([max(float(each.size_bytes), 1.0)])
        seconds[place] = clock.seconds(_OPERATIONS[each.op], size_bytes, np.array([ranks]), np.array([stride]))[0]
    return seconds, unmeasured


def _stride(collective: Collective) -> int:
    """How far apart neighbours of a group are; irregular groups are taken by their mean."""
    ranks = sorted(collective.ranks)
    if len(ranks) < 2:
        return 1
    return max(1, round((ranks[-1] - ranks[0]) / (len(ranks) - 1)))
