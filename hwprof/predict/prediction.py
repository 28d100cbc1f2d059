"""How long should the step take, from counts and ceilings alone, before anyone looks at the measured time?

A sum over operations, which run one after another: each kernel as it was probed, what no probe saw at its roof, and
what the host adds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hwprof.predict.ceilings.product_times import UNPROBED_MATMUL_EFFICIENCY, ProductRates, unprobed_s
from hwprof.predict.ceilings.roofs import Roofs
from hwprof.predict.ceilings.step_kernels import KernelUse
from hwprof.predict.ceilings.step_products import ATTENTION_LABELS, MatmulShapes, Shape, product_calls
from hwprof.predict.classify import floor_of
from hwprof.predict.work import Work
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.record.run import Direction, Dtype, PhaseName, Prediction
from hwprof.units import format_fraction, format_span

KERNELS_PER_INSTANCE: dict[Direction, int] = {
    "forward": 3,
    "backward": 5,
    "recompute": 3,
    "update": 8,
    "decode": 3,
}
"""Assumed kernels of one op instance that was not probed, for the cost of dispatching them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What a prediction has to know of a step beside its work.

    Attributes:
        dtype: the run's format.
        device: catalogue entry of the device, if it has one.
        footprint_bytes: memory that one step touches.
        operand_bytes: width of an element that a matrix multiplication reads or writes.
        input_bytes: bytes copied to the device a step, if it has memory of its own.
        micro_batches: of a step.
        stages: of the pipeline that divides the model; 1 where there is none.
        decode_steps: passes over new tokens, where the step generates.
        host_beside: whether the device works while the host goes on, as a GPU does; a CPU is both.
    """

    footprint_bytes: float
    operand_bytes: int
    input_bytes: float
    dtype: Dtype = "fp32"
    device: DeviceSpec | None = None
    micro_batches: int = 1
    stages: int = 1
    decode_steps: int = 0
    host_beside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """Least, expected and longest time of some work, in seconds."""

    least_s: float
    expected_s: float
    longest_s: float

    def __add__(self, other: _Estimate) -> _Estimate:
        return _Estimate(
            least_s=self.least_s + other.least_s,
            expected_s=self.expected_s + other.expected_s,
            longest_s=self.longest_s + other.longest_s,
        )


_NOTHING = _Estimate(least_s=0.0, expected_s=0.0, longest_s=0.0)
_Phases = dict[PhaseName, _Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What turns counted work into seconds: ceilings, what one step touches, width of a product's elements.

    ``others`` are products that were not probed: expected and longest seconds.
    """

    roofs: Roofs
    matmul_flop_per_s: float
    footprint_bytes: float
    operand_bytes: int
    dispatch_s: float
    others: Mapping[Shape, tuple[float, float]]

    def traffic_s(self, moved_bytes: float) -> float:
        """Bytes that were last touched long ago, or never: from the level that holds all that a step touches."""
        return moved_bytes / (self.roofs.memory_for(self.footprint_bytes) or self.roofs.memory[-1]).byte_per_s

    def slow_traffic_s(self, moved_bytes: float) -> float:
        """The same from the last level."""
        return moved_bytes / self.roofs.memory[-1].byte_per_s

    def product_s(self, shape: Shape) -> tuple[float, float]:
        """Expected and longest time of a product, as probed or by the others."""
        rate = self.roofs.shape_flop_per_s.get(shape)
        if rate is None:
            return self.others[shape]
        m, n, k = shape
        return 2.0 * m * n * k / rate, 2.0 * m * n * k / rate


def predict_step(
    work: Sequence[Work],
    shapes: MatmulShapes,
    roofs: Roofs,
    facts: StepFacts,
    *,
    kernels: Sequence[KernelUse] = (),
) -> Prediction | None:
    """The step as a sum over its operations; None where no compute or memory ceiling is known.

    ``least``: compute and traffic of each op perfectly overlapped, traffic at the fastest level that could hold it.
    ``expected``: matrix multiplications, attention and other kernels at the times probed for their shapes; traffic of
    what was not probed at the level that holds ``footprint_bytes``, because results go to memory that was last touched
    a step ago and stay for the backward pass (only the later passes of an update find in a nearer level what the first
    one left there); the host, which a CPU runs before and after each operator and a GPU works beside: there the step
    is the longer of both.
    ``longest``: nothing overlaps, every kernel's bytes from the last memory level come on top.

    Args:
        work: counted ops of the step, attention in the convention (causal) of its ceiling.
        shapes: matrix-multiply shapes of each op.
        roofs: ceilings of the run's dtype.
        facts: of the step.
        kernels: which of the work is a kernel that may have been probed.
    """
    if not roofs.matmul_flop_per_s or not roofs.memory:
        return None
    flop = {(m, n, k): 2.0 * m * n * k * calls for (m, n, k), calls in product_calls(work, shapes).items()}
    others = _others(flop.keys() - roofs.shape_flop_per_s.keys(), roofs, facts)
    machine = _Machine(
        roofs=roofs,
        matmul_flop_per_s=roofs.matmul_flop_per_s,
        footprint_bytes=facts.footprint_bytes,
        operand_bytes=facts.operand_bytes,
        dispatch_s=0.0 if roofs.host and not facts.host_beside else roofs.dispatch_s,
        others=others.seconds,
    )
    phases: _Phases = defaultdict(lambda: _NOTHING)
    probed = [(use, call_s) for use in kernels if (call_s := roofs.kernels.call_s(use.kernel, use.moved_bytes))]
    for use, call_s in probed:
        phases[use.phase] += _kernel_time(use, call_s, machine)
    as_kernels = {id(item) for use, _ in probed for item in use.work}
    for item in work:
        if id(item) not in as_kernels:
            phases[item.phase] += _op_time(item, shapes.get((item.label, item.direction), ()), machine)
    if roofs.host_to_device_byte_per_s:
        copy_s = facts.input_bytes / roofs.host_to_device_byte_per_s
        phases["host_to_device"] += _Estimate(least_s=0.0, expected_s=copy_s, longest_s=copy_s)
    alone = {use.phase for use, _ in probed if use.kernel.direction == "update" and not facts.host_beside}
    whole = _with_host(phases, roofs, facts, without=alone)
    total = sum(whole.values(), _NOTHING)
    return Prediction(
        step_s=total.expected_s,
        interval_s=(total.least_s, total.longest_s),
        basis=_basis(_products_basis(flop, others), roofs, facts, kernels),
        phase_s={name: estimate.expected_s for name, estimate in whole.items()},
    )


@dataclass(frozen=True, slots=True)
class _Others:
    """Products that were not probed: expected and longest seconds, and who says so."""

    seconds: Mapping[Shape, tuple[float, float]]
    basis: str


def _others(missing: Iterable[Shape], roofs: Roofs, facts: StepFacts) -> _Others:
    wanted = sorted(missing)
    if not wanted:
        return _Others({}, "")
    assert roofs.matmul_flop_per_s is not None
    known = ProductRates(
        dtype=facts.dtype,
        flop_per_s=max(roofs.matmul_flop_per_s, *roofs.shape_flop_per_s.values(), 0.0),
        byte_per_s=roofs.memory[-1].byte_per_s,
        roof_name=roofs.matmul_name,
        shapes=roofs.shape_flop_per_s,
        device=facts.device if facts.host_beside else None,
    )
    found = unprobed_s(wanted, known)
    times = zip(found.seconds.tolist(), found.hi_s.tolist(), strict=True)
    return _Others(dict(zip(wanted, times, strict=True)), found.basis.text)


def _with_host(
    phases: Mapping[PhaseName, _Estimate], roofs: Roofs, facts: StepFacts, *, without: Collection[PhaseName]
) -> _Phases:
    """The phases with what the host adds.

    On a CPU host and device are one timeline. On a GPU the longer of both whole steps wins, as nothing in a step waits
    for the GPU; what the host takes longer is spread over the phases by its own time in each. ``without``: phases whose
    probed times have the host's in them.
    """
    if roofs.host is None:
        return dict(phases)
    of_step = roofs.host.of_step(
        micro_batches=facts.micro_batches, stages=facts.stages, decode_steps=facts.decode_steps
    )
    host = {name: seconds for name, seconds in of_step.items() if name not in without}
    device_s, host_s = sum(phases.values(), _NOTHING).expected_s, sum(host.values())
    added = 1.0 if not facts.host_beside else max(host_s - device_s, 0.0) / host_s if host_s else 0.0
    return {
        name: phases.get(name, _NOTHING)
        + _Estimate(least_s=0.0, expected_s=added * host.get(name, 0.0), longest_s=host.get(name, 0.0))
        for name in {**phases, **host}
    }


def _kernel_time(use: KernelUse, call_s: float, machine: _Machine) -> _Estimate:
    """A probed kernel: not below its roof; at worst its bytes come from the last level as if none had in the probe."""
    least_s = sum(floor_of([item], machine.roofs, launches=0).roof_s for item in use.work)
    expected_s = max(call_s * use.calls, least_s)
    return _Estimate(
        least_s=least_s,
        expected_s=expected_s,
        longest_s=expected_s + machine.slow_traffic_s(use.moved_bytes * use.calls),
    )


def _op_time(item: Work, shapes: Sequence[Shape], machine: _Machine) -> _Estimate:
    launch_s = KERNELS_PER_INSTANCE[item.direction] * machine.dispatch_s
    floor = floor_of([item], machine.roofs, launches=0)
    expected_s, longest_s = _instance_s(item, shapes, machine)
    expected_s = max(expected_s * item.instances, floor.roof_s)
    return _Estimate(
        least_s=floor.roof_s,
        expected_s=expected_s + launch_s * item.instances,
        longest_s=max((longest_s + launch_s) * item.instances, expected_s),
    )


def _instance_s(item: Work, shapes: Sequence[Shape], machine: _Machine) -> tuple[float, float]:
    """Expected and longest time of one instance, without dispatch."""
    if item.direction == "update":
        return _update_s(item, machine), machine.slow_traffic_s(item.cost.moved_bytes)
    if not item.cost.matmul_flop:
        return machine.traffic_s(item.cost.moved_bytes), machine.slow_traffic_s(item.cost.moved_bytes)
    if shapes:
        return _linear_s(item, shapes, machine)
    return _attention_s(item, machine)


def _update_s(item: Work, machine: _Machine) -> float:
    """First touch from far, the passes after it from the level that holds what they go over."""
    first_bytes = min(item.compulsory_bytes, item.cost.moved_bytes)
    again_bytes = item.cost.moved_bytes - first_bytes
    near = machine.roofs.memory_for(item.working_set_bytes) or machine.roofs.memory[-1]
    return machine.traffic_s(first_bytes) + again_bytes / near.byte_per_s


def _linear_s(item: Work, shapes: Sequence[Shape], machine: _Machine) -> tuple[float, float]:
    """The products, and what a linear layer moves beside their operands: casts, biases, sums of gradients."""
    products = [machine.product_s(shape) for shape in shapes]
    operands_bytes = sum(m * n + m * k + n * k for m, n, k in shapes) * machine.operand_bytes
    other_bytes = max(item.cost.moved_bytes - operands_bytes, 0.0)
    expected_s = max(sum(expected for expected, _ in products), machine.traffic_s(operands_bytes))
    longest_s = sum(longest for _, longest in products) + machine.slow_traffic_s(item.cost.moved_bytes)
    return expected_s + machine.traffic_s(other_bytes), longest_s


def _attention_s(item: Work, machine: _Machine) -> tuple[float, float]:
    cost, probed = item.cost, machine.roofs.attention_flop_per_s
    slow_s = machine.slow_traffic_s(cost.moved_bytes)
    if item.label in ATTENTION_LABELS and item.direction in probed:
        probed_s = cost.matmul_flop / probed[item.direction]
        return probed_s, probed_s + slow_s
    least, middle, _ = UNPROBED_MATMUL_EFFICIENCY
    flat_s = cost.matmul_flop / machine.matmul_flop_per_s
    return max(flat_s / middle, machine.traffic_s(cost.moved_bytes)), flat_s / least + slow_s


def _basis(products: str, roofs: Roofs, facts: StepFacts, kernels: Sequence[KernelUse]) -> str:
    said = (
        products,
        _attention_basis(roofs),
        *_kernels_basis(roofs, kernels),
        f"traffic at {', '.join(roof.name for roof in roofs.memory)}",
        _host_basis(roofs, facts),
    )
    return f"roofline sum over operations: {', '.join(said)}; overlap from full (low end) to none (high end)"


def _products_basis(flop: Mapping[Shape, float], others: _Others) -> str:
    missing = others.seconds.keys()
    if not missing:
        return f"{len(flop)} matrix-multiply shapes at their own ceilings"
    share = sum(flop[shape] for shape in missing) / sum(flop.values())
    left_out = f"{len(missing)} matrix-multiply shapes ({format_fraction(share)} of their FLOP) at {others.basis}"
    own = len(flop) - len(missing)
    return f"{own} matrix-multiply shapes at their own ceilings, {left_out}" if own else left_out


def _kernels_basis(roofs: Roofs, kernels: Sequence[KernelUse]) -> Iterator[str]:
    names = {use.kernel for use in kernels}
    near = [name for name in names if roofs.kernels.has_like(name)]
    own = [name for name in near if roofs.kernels.has(name)]
    if own:
        yield f"{len(own)} of {len(names)} other kernels at their own ceilings"
    if len(near) > len(own):
        yield f"{len(near) - len(own)} of {len(names)} other kernels by the nearest sizes"


def _host_basis(roofs: Roofs, facts: StepFacts) -> str:
    if roofs.host is None:
        return "dispatch of an assumed number of kernels"
    return "beside the host as probed" if facts.host_beside else "the host as probed"


def _attention_basis(roofs: Roofs) -> str:
    directions: tuple[Direction, ...] = ("forward", "backward")
    missing = [direction for direction in directions if direction not in roofs.attention_flop_per_s]
    if not missing:
        return "attention at its own ceiling"
    if len(missing) == len(directions):
        return f"attention {_assumed(roofs)}"
    return f"attention at its own ceiling, but {missing[0]} {_assumed(roofs)}"


def _assumed(roofs: Roofs) -> str:
    least, middle, most = UNPROBED_MATMUL_EFFICIENCY
    return f"at an assumed {format_fraction(middle)} ({format_span((least, most), 'fraction')}) of {roofs.matmul_name}"


def roof_by_phase(work: Iterable[Work], roofs: Roofs) -> dict[PhaseName, float]:
    """The least possible time of each phase of the step."""
    groups: dict[PhaseName, list[Work]] = defaultdict(list)
    for item in work:
        groups[item.phase].append(item)
    return {phase: sum(floor_of([item], roofs, launches=0).roof_s for item in items) for phase, items in groups.items()}


def with_residual(prediction: Prediction, *, measured_s: float) -> Prediction:
    """The same prediction beside the measured step: how far off, and on which side of its interval."""
    low_s, high_s = prediction.interval_s
    if measured_s > high_s:
        note = "measured above the interval: kernels run below every roof, or the host holds the device up"
    elif measured_s < low_s:
        note = "measured below the least possible time: a ceiling or a count is in error"
    else:
        note = "measured inside the interval"
    return prediction.changed(residual_fraction=measured_s / prediction.step_s - 1, residual_note=note)
