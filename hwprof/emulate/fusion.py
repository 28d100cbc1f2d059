"""What does a compiler spare? Elementwise operators that follow each other in compiled code read and write once.

TorchInductor puts pointwise operators and reductions that feed each other into one kernel: what only that kernel needs
is neither written nor read, and what two of its parts read is read once (Ansel et al. 2024, "PyTorch 2", section 4.4).
Between forward and backward pass it stores what reductions and products made, and computes pointwise results again (the
min-cut partitioner of ``torch/_functorch/partitioners.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

FlowKind = Literal["pointwise", "reduction", "view", "other"]
Place = tuple[int, bool, int]
"""Number of the compiled region in its step, whether its backward pass, number of the call in it."""
Part = tuple[int, int, int]
"""Number of a storage, where in it a tensor begins, its bytes."""
Kernel = tuple[int, bool, int]
"""Region, pass and level: how many operators that are no part of a kernel lie on the way to it from the region's start.
Calls of one level can share a kernel: none has to wait for what another has fed to a product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one call read and wrote.

    Attributes:
        event: its place among the events of the step.
        call: its kind of call; -1 where results leave a compiled region, which is no call.
        region: the compiled region that it is in; None outside of all.
        kind: what a compiler can do with it.
        reads, writes: parts of storages.
    """

    event: int
    call: int
    region: Place | None
    kind: FlowKind
    reads: tuple[Part, ...]
    writes: tuple[Part, ...]

    @property
    def fusible(self) -> bool:
        """Whether it can be a part of a kernel."""
        return self.region is not None and self.kind in {"pointwise", "reduction"}


@dataclass(frozen=True, slots=True)
class Fused:
    """What is left of a call in compiled code.

    Attributes:
        spared_bytes: that it does not move.
        joined: whether it is part of a kernel that another call began, or no kernel at all.
        stored: whether its result is in memory.
        passing: whether its result is in memory only until the forward pass of its region is over, whoever holds it:
            what nothing else reads no compiler keeps.
    """

    spared_bytes: int = 0
    joined: bool = False
    stored: bool = True
    passing: bool = False


@dataclass(slots=True, eq=False)
class _Version:
    """What a call left in a storage. Mutable: readers are added, and whether they need it.

    Attributes:
        call: which one, in the order of the step.
        region: number and pass of the region that it is in; None outside of compiled code.
        kernel: region, pass and level of the kernels that may hold the call; None outside of compiled code.
        pointwise: whether it can be computed again at no great cost.
        size_bytes: of it.
        readers: how many calls read it.
        needed: whether it has to be in memory.
        first: whether its storage began with it.
        inside: whether nothing outside of its region and pass reads or changes it.
    """

    call: int
    region: tuple[int, bool] | None
    kernel: Kernel | None
    pointwise: bool
    size_bytes: int
    readers: int = 0
    needed: bool = False
    first: bool = True
    inside: bool = True


@dataclass(frozen=True, slots=True)
class _Step:
    """One call with the versions that it reads and writes, and where it can stand."""

    flow: Flow
    kernel: Kernel | None
    reads: tuple[tuple[Part, _Version | None], ...]
    writes: tuple[_Version, ...]

    @property
    def region(self) -> tuple[int, bool] | None:
        """Number and pass of the region that it is in."""
        return self.flow.region[:2] if self.flow.region else None


def fused(flows: Sequence[Flow]) -> list[Fused]:
    """What is left of each call of a step, in its order."""
    steps = list(_followed(flows))
    dead = _dead(steps)
    spared = Counter({number: sum(part[2] for part in steps[number].flow.reads) for number in dead})
    joined, begun, seen = set(dead), set(), set()
    for number, step in ((number, step) for number, step in enumerate(steps) if number not in dead):
        kernel = step.kernel
        if step.flow.kind == "view" and step.flow.region is not None:
            joined.add(number)
        if kernel in begun:
            joined.add(number)
        elif kernel is not None:
            begun.add(kernel)
        for part, version in step.reads:
            inside = version is not None and kernel is not None and _together(version, kernel)
            if inside or (kernel is not None and (kernel, part) in seen):
                spared[number] += part[2]
            elif version is not None:
                version.needed |= not (version.pointwise and _again(version, kernel))
            seen.add((kernel, part))
    versions = [version for step in steps for version in step.writes]
    stored = {version.call for version in versions if version.needed}
    for version in versions:
        if not version.needed:
            spared[version.call] += version.size_bytes
    return [
        Fused(spared[number], number in joined, number in stored or step.kernel is None, _passing(step))
        for number, step in enumerate(steps)
    ]


def _dead(steps: Sequence[_Step]) -> set[int]:
    """Calls of a compiled backward pass whose results nothing reads: a checkpoint runs the whole forward pass again."""
    found: set[int] = set()
    read: set[_Version] = set()
    for number, step in reversed(list(enumerate(steps))):
        again = step.kernel is not None and step.kernel[1] and all(each.first for each in step.writes)
        if again and not read.intersection(step.writes):
            found.add(number)
        else:
            for version in (version for _, version in step.reads if version is not None):
                read.add(version)
                version.inside &= version.region == step.region
    return found


def _passing(step: _Step) -> bool:
    forward = step.region is not None and not step.region[1]
    return forward and bool(step.writes) and all(each.first and each.inside for each in step.writes)


def _together(version: _Version, kernel: Kernel) -> bool:
    """Whether a reader can be in the kernel that makes what it reads; what it alone reads can be made just for it."""
    made = version.kernel
    return made == kernel or (
        made is not None and made[:2] == kernel[:2] and version.pointwise and version.readers == 1
    )


def _again(version: _Version, kernel: Kernel | None) -> bool:
    """Whether a reader computes what the forward pass had."""
    made = version.kernel
    return made is not None and kernel is not None and kernel[1] and not made[1]


def _followed(flows: Sequence[Flow]) -> Iterator[_Step]:
    latest: dict[int, _Version] = {}
    levels: dict[_Version, tuple[tuple[int, bool], int]] = {}
    for number, flow in enumerate(flows):
        region = flow.region[:2] if flow.region else None
        reads = tuple((part, latest.get(part[0])) for part in flow.reads)
        before = [levels[version] for _, version in reads if version is not None and version in levels]
        level = max((depth for where, depth in before if where == region), default=0) + (flow.kind == "other")
        kernel = (*region, level) if region is not None and flow.fusible else None
        writes = tuple(_written(number, flow, part, latest, kernel) for part in flow.writes)
        for version in {version for _, version in reads if version is not None}:
            version.readers += 1
        if region is not None:
            levels |= dict.fromkeys(writes, (region, level))
        latest |= {part[0]: version for part, version in zip(flow.writes, writes, strict=True)}
        yield _Step(flow, kernel, reads, writes)


def _written(number: int, flow: Flow, part: Part, latest: dict[int, _Version], kernel: Kernel | None) -> _Version:
    """A new version; one that replaces what somebody else may still see is needed."""
    storage, _, size_bytes = part
    before = latest.get(storage)
    region = flow.region[:2] if flow.region else None
    if before is not None:
        before.inside &= before.region == region
    if before is not None and size_bytes < before.size_bytes:
        before.needed = True  # the rest of it is still there
    changed = any(storage == read[0] for read in flow.reads)
    own = before is not None and before.kernel is not None and kernel is not None and before.kernel[:2] == kernel[:2]
    return _Version(
        call=number,
        region=region,
        kernel=kernel,
        pointwise=flow.kind == "pointwise",
        size_bytes=size_bytes,
        needed=kernel is None or (changed and not own),
        first=before is None,
    )
