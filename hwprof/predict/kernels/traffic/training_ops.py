"""How much memory traffic do training's kernels without products cost, fused or not, by who wrote them?

Norms, rotary embeddings, activations, losses and embeddings, forward and backward, of PyTorch and Hugging Face in eager
mode, of Megatron and of Liger. Their time grows with the elements of their main tensor, so a fact is short: bytes for
each element at the bandwidth of the datasheet, all that a kernel or a chain of them loses included.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, joined
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]

Pass = Literal["forward", "backward", "full"]


LEAST_WIDTH = 0.15
LENT_WIDTH = 0.25
"""Half width on a measured device and on others: layer norms, the only kernels measured on two devices, need the same
bytes on A100 and H100 to 10 %."""

OTHER_FORMAT = 0.35
"""Half width to add where the format asked for is another than the one measured: eager norms work in 32 bits anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOp:
    """A kernel or a chain of them.

    Attributes:
        op: ``rms_norm``, ``fused_add_rms_norm``, ``layer_norm``, ``rope``, ``swiglu``, ``relu_squared``, ``softmax``,
            ``embedding`` or ``cross_entropy``.
        provider: who wrote it: ``huggingface``, ``torch``, ``torch_compile``, ``megatron``, ``liger`` and its variants.
        direction: ``full`` is forward and backward.
        dtype: format of the main tensor.
    """

    op: str
    provider: str
    direction: Pass
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What an element of the main tensor costs.

    Attributes:
        moved_bytes: time times the datasheet's bandwidth, for each element.
        least_s: what small tensors take, the host's part included, since such kernels were timed one by one.
        half_width: of the 90 % interval of time, in natural logarithms.
        peak_bytes: largest memory in use for each element, input and gradients included; not a number if not measured.
        devices: that were measured.
    """

    moved_bytes: float
    least_s: float
    half_width: float
    peak_bytes: float
    devices: tuple[str, ...]


def training_op_s(elements: Floats, device: DeviceSpec, asked: TrainingOp, *, table: KernelTable) -> KernelTime:
    """Time of a kernel that the host has queued behind others.

    Args:
        elements: of the main tensor: what is normed, turned or activated, the logits, the embedded tokens.
        device: the device.
        asked: which kernel.
        table: measured ones.

    Raises:
        InputError: nobody measured the op or the provider.
    """
    found = traffic_of(asked, table)
    seconds = QUEUED_S + elements * found.moved_bytes / device.memory.bandwidth_byte_per_s
    text = f"{asked.provider} {asked.op} {asked.direction}: {found.moved_bytes:.1f} bytes for each element"
    own = device.id in found.devices
    width = found.half_width if own else float(np.hypot(found.half_width, LENT_WIDTH))
    basis = Basis("measured" if own else "sibling", f"{text}, measured on {', '.join(found.devices)}")
    return KernelTime.around(seconds, np.full(len(elements), width), basis)


QUEUED_S = 4e-6
"""A short kernel that waits in a queue (vLLM's, timed by the device: 2 to 7 us)."""


@functools.lru_cache(maxsize=256)
def traffic_of(asked: TrainingOp, table: KernelTable) -> Traffic:
    """What an element costs, the mean of the devices that were measured.

    Raises:
        InputError: nobody measured the op or the provider.
    """
    if asked.direction == "backward" and not _fits(asked, table):
        return _backward(asked, table)
    fits = _fits(asked, table)
    if not fits:
        raise InputError(
            f"nobody measured {asked.provider} {asked.op} {asked.direction}",
            expectation=f"measured: {', '.join(_known(table))}",
            remedy="name one of these, or count its bytes as plain traffic",
        )
    formats = {dtype for _, dtype, *_ in fits}
    other = asked.dtype not in formats
    chosen = [fit for fit in fits if other or fit[1] == asked.dtype]
    moved = np.array([moved_bytes for _, _, moved_bytes, *_ in chosen])
    misses = np.concatenate([missed for *_, missed in chosen])
    width = max(LEAST_WIDTH, float(np.quantile(np.abs(misses), 0.9)))
    return Traffic(
        moved_bytes=float(np.exp(np.log(moved).mean())),
        least_s=float(np.median([launch_s for _, _, _, launch_s, _ in chosen])),
        half_width=float(np.hypot(width, OTHER_FORMAT if other else 0.0)),
        peak_bytes=_peak_bytes(asked, table),
        devices=tuple(device for device, *_ in chosen),
    )


def _backward(asked: TrainingOp, table: KernelTable) -> Traffic:
    """Both passes without the forward one, where the backward pass was not timed alone."""
    both, forward = (traffic_of(_directed(asked, direction), table) for direction in ("full", "forward"))
    return Traffic(
        moved_bytes=both.moved_bytes - forward.moved_bytes,
        least_s=max(both.least_s - forward.least_s, 0.0),
        half_width=float(np.hypot(both.half_width, forward.half_width)),
        peak_bytes=both.peak_bytes,
        devices=both.devices,
    )


def _directed(asked: TrainingOp, direction: str) -> TrainingOp:
    assert direction in {"forward", "full"}
    to: Pass = "forward" if direction == "forward" else "full"
    return TrainingOp(op=asked.op, provider=asked.provider, direction=to, dtype=asked.dtype)


def _fits(asked: TrainingOp, table: KernelTable) -> list[tuple[str, str, float, float, Floats]]:
    """For each device and format: bytes an element, seconds of a small one, and by how much each size is missed."""
    found = []
    for device in table.devices():
        points = _chosen(asked, table.of(device))
        timed = points.where(np.isfinite(points.seconds)) if points else None
        for dtype in sorted(set(timed.words["dtype"].tolist())) if timed else ():
            mine = timed.where(timed.words["dtype"] == dtype) if timed else None
            if mine is not None and len(mine) >= FEWEST:
                found.append((device, str(dtype), *_line(mine, load_device(device))))
    return found


FEWEST = 3


def _line(points: KernelPoints, device: DeviceSpec) -> tuple[float, float, Floats]:
    """Bytes an element, seconds of a small tensor, and by how much each size is missed when the others speak."""
    elements, seconds = _elements(points), points.seconds
    launch_s, element_s = _fit(elements, seconds)
    others = ~np.eye(len(seconds), dtype=np.bool_)
    lines = [_fit(elements[other], seconds[other]) for other in others]
    predicted = np.array([_time_s(size, *line) for size, line in zip(elements, lines, strict=True)])
    missed: Floats = np.log(predicted / seconds)
    return element_s * device.memory.bandwidth_byte_per_s, launch_s, missed


def _time_s(elements: Floats, launch_s: Floats | float, element_s: Floats | float) -> Floats:
    """The host launches while the device works: a maximum with a rounded corner."""
    total_s: Floats = (np.asarray(launch_s) ** CORNER + (elements * np.asarray(element_s)) ** CORNER) ** (1 / CORNER)
    return total_s


CORNER = 4.0


def _fit(elements: Floats, seconds: Floats) -> tuple[float, float]:
    """Launch and seconds an element for which the sum of the misses is least, of those that some point has alone."""
    launches, slopes = np.append(seconds, 0.0), seconds / elements
    predicted = _time_s(elements, launches[:, None, None], slopes[None, :, None])
    missed = np.abs(np.log(predicted / seconds)).sum(axis=2)
    first, second = np.unravel_index(int(missed.argmin()), missed.shape)
    return float(launches[first]), float(slopes[second])


def _peak_bytes(asked: TrainingOp, table: KernelTable) -> float:
    """Peak memory for each element of the largest tensor; where the format was not measured, that of the others."""
    found: dict[str, list[float]] = {}
    for device in table.devices():
        points = _chosen(_directed(asked, "full"), table.of(device))
        measured = points.where(np.isfinite(points.numbers["peak_bytes"])) if points else None
        for dtype in sorted(set(measured.words["dtype"].tolist())) if measured else ():
            mine = measured.where(measured.words["dtype"] == dtype) if measured else None
            assert mine is not None
            largest = int(_elements(mine).argmax())
            found.setdefault(dtype, []).append(float(mine.numbers["peak_bytes"][largest] / _elements(mine)[largest]))
    chosen = found.get(asked.dtype) or [value for values in found.values() for value in values]
    return float(np.median(chosen)) if chosen else float("nan")


def _chosen(asked: TrainingOp, points: KernelPoints | None) -> KernelPoints | None:
    """The points of the op, provider and direction."""
    if points is None:
        return None
    words = points.words
    same = (words["op"] == asked.op) & (words["provider"] == asked.provider) & (words["direction"] == asked.direction)
    mine = points.where(same)
    return mine if same.any() else None


def _elements(points: KernelPoints) -> Floats:
    elements: Floats = points.numbers["rows"] * points.numbers["width"]
    return elements


def _known(table: KernelTable) -> list[str]:
    tables = [points for device in table.devices() if (points := table.of(device)) is not None]
    words = joined(tables).words if tables else {"op": np.array([]), "provider": np.array([])}
    return sorted({f"{provider} {op}" for op, provider in zip(words["op"], words["provider"], strict=True)})
