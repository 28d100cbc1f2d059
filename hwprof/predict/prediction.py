"""How long should the step take, from counts and ceilings alone, before anyone looks at the measured time?

A first estimate: operations run one after another, each at its own roof. The full simulator takes this place later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hwprof.predict.classify import floor_of
from hwprof.predict.roofs import Roofs
from hwprof.predict.work import Work
from hwprof.specs.run import Direction, PhaseName, Prediction

MatmulShapes = Mapping[tuple[str, Direction], Sequence[tuple[int, int, int]]]
"""(op label, direction) -> (m, n, k) of each matrix multiplication of one instance."""

UNPROBED_MATMUL_EFFICIENCY = (0.25, 0.5, 1.0)
"""Assumed share of the matrix-multiply roof (least, expected, most) where no probe ran at that shape: attention."""

KERNELS_PER_INSTANCE: dict[Direction, int] = {"forward": 3, "backward": 5, "recompute": 3, "update": 1}
"""Assumed kernels of one op instance, for the cost of dispatching them."""


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


def predict_step(
    work: Sequence[Work], shapes: MatmulShapes, roofs: Roofs, *, footprint_bytes: float, input_bytes: float
) -> Prediction | None:
    """The step as a sum over its operations; None where no compute or memory ceiling is known.

    ``least``: compute and traffic of each op perfectly overlapped, traffic at the fastest level that could hold it.
    ``expected``: matrix multiplications at the rate probed for their shape, all else at the memory level that holds the
    working set (backward and recompute: the step's ``footprint_bytes``, because what they read was written a whole
    pass ago; else the op's own), plus dispatch. ``longest``: nothing overlaps, everything from the last memory level.

    Args:
        work: counted ops of the step.
        shapes: matrix-multiply shapes of each op.
        roofs: ceilings of the run's dtype.
        footprint_bytes: memory that one step touches.
        input_bytes: bytes copied to the device a step, if it has memory of its own.
    """
    if not roofs.matmul_flop_per_s or not roofs.memory:
        return None
    phases: dict[PhaseName, _Estimate] = defaultdict(lambda: _NOTHING)
    for item in work:
        phases[item.phase] += _op_time(item, shapes.get((item.label, item.direction), ()), roofs, footprint_bytes)
    if roofs.host_to_device_byte_per_s:
        copy_s = input_bytes / roofs.host_to_device_byte_per_s
        phases["host_to_device"] += _Estimate(least_s=0.0, expected_s=copy_s, longest_s=copy_s)
    total = sum(phases.values(), _NOTHING)
    return Prediction(
        step_s=total.expected_s,
        interval_s=(total.least_s, total.longest_s),
        basis=_basis(roofs),
        phase_s={name: estimate.expected_s for name, estimate in phases.items()},
    )


def _op_time(item: Work, shapes: Sequence[tuple[int, int, int]], roofs: Roofs, footprint_bytes: float) -> _Estimate:
    assert roofs.matmul_flop_per_s
    cost = item.cost
    launch_s = KERNELS_PER_INSTANCE[item.direction] * roofs.dispatch_s
    again = item.direction in {"forward", "update"}
    expected_roof = roofs.memory_for(item.working_set_bytes if again else footprint_bytes) or roofs.memory[-1]
    traffic_s = cost.moved_bytes / expected_roof.byte_per_s
    slow_traffic_s = cost.moved_bytes / roofs.memory[-1].byte_per_s
    if shapes and all(shape in roofs.shape_flop_per_s for shape in shapes):
        matmul_s = sum(2.0 * m * n * k / roofs.shape_flop_per_s[m, n, k] for m, n, k in shapes)
        expected_s, longest_s = matmul_s, matmul_s + slow_traffic_s
    else:
        least, middle, _ = UNPROBED_MATMUL_EFFICIENCY
        matmul_s = cost.matmul_flop / roofs.matmul_flop_per_s
        expected_s, longest_s = max(matmul_s / middle, traffic_s), matmul_s / least + slow_traffic_s
    floor = floor_of([item], roofs, launches=0)
    expected_s = max(expected_s * item.instances, floor.roof_s)
    return _Estimate(
        least_s=floor.roof_s,
        expected_s=expected_s + launch_s * item.instances,
        longest_s=max((longest_s + launch_s) * item.instances, expected_s),
    )


def _basis(roofs: Roofs) -> str:
    least, middle, most = UNPROBED_MATMUL_EFFICIENCY
    return (
        f"roofline sum over operations: {len(roofs.shape_flop_per_s)} matrix-multiply shapes at their own ceilings, "
        f"attention at an assumed {middle:.0%} ({least:.0%} to {most:.0%}) of {roofs.matmul_name}, "
        f"traffic at {', '.join(roof.name for roof in roofs.memory)}; overlap from full (low end) to none (high end)"
    )


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
    return prediction.model_copy(
        update={"residual_fraction": measured_s / prediction.step_s - 1, "residual_note": note}
    )
