"""How long do a step's kernels take, by the probes of them? At their own sizes, else by the nearest probed ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hwprof.predict.kernels.nearest import nearest_mean
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.measurement import Ceiling

_NAME = re.compile(r"(?P<family>\w+\.[\w-]+\.\w+)\.(?P<sizes>\d+(?:x\d+)*)\.(?P<direction>\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPoint:
    """A kernel at some sizes: seconds of one call without what the host adds, and bytes by the op table."""

    seconds: float
    moved_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTimes:
    """Probed kernels by their name without the sizes, then by sizes."""

    points: Mapping[str, Mapping[str, KernelPoint]]

    def call_s(self, kernel: StepKernel, moved_bytes: float) -> float | None:
        """Seconds of one call: as probed, else its bytes at the rate of the nearest; None where none like it was."""
        family, sizes = _split(str(kernel))
        known = self.points.get(family)
        if known is None:
            return None
        if sizes in known:
            return known[sizes].seconds
        near = nearest_mean(
            np.array([[moved_bytes]]),
            np.array([[point.moved_bytes] for point in known.values()]),
            np.array([point.moved_bytes / point.seconds for point in known.values()]),
        )
        return moved_bytes / float(near[0])

    def has(self, kernel: StepKernel) -> bool:
        """Whether the kernel was probed at its own sizes."""
        family, sizes = _split(str(kernel))
        return sizes in self.points.get(family, {})

    def has_like(self, kernel: StepKernel) -> bool:
        """Whether it was probed at any."""
        return _split(str(kernel))[0] in self.points


NO_KERNELS = KernelTimes(points={})


def kernel_times(ceilings: Iterable[Ceiling], *, dispatch_s: float) -> KernelTimes:
    """The probed kernels among ceilings.

    Args:
        ceilings: one of each name.
        dispatch_s: what each operator of a pass takes to dispatch where that is timed elsewhere, too; else 0. Of an
            update it is timed nowhere else.
    """
    found: dict[str, dict[str, KernelPoint]] = defaultdict(dict)
    for ceiling in ceilings:
        call_s, moved_bytes = (ceiling.conditions.get(name) for name in ("call_s", "counted_bytes"))
        if ceiling.kind == "kernel" and isinstance(call_s, float) and isinstance(moved_bytes, int | float):
            family, sizes = _split(ceiling.name)
            operators = 0.0 if ceiling.name.endswith(".update") else float(ceiling.conditions.get("operators", 0))
            host_s = operators * dispatch_s
            found[family][sizes] = KernelPoint(seconds=max(call_s - host_s, LEAST * call_s), moved_bytes=moved_bytes)
    return KernelTimes(points=found)


LEAST = 0.1
"""At least this share of a probed time is the kernel's own."""


def _split(name: str) -> tuple[str, str]:
    """Name without the sizes, and the sizes."""
    match = _NAME.fullmatch(name)
    assert match is not None, f"{name} is no name of a kernel"
    return f"{match['family']}.{match['direction']}", match["sizes"]
