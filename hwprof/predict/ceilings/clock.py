"""What do ceilings of products say of another clock? They are proportional to it, as the units are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprof.specs.measurement import Ceiling
from hwprof.units import format_fraction, format_quantity

SM_CLOCK = "gpu.sm_clock"
"""Of a step: the telemetry's quantity. Of a ceiling its condition is ``sm_clock_hz``."""
THROTTLE = "gpu.throttle."
WORTH_SAYING = 0.03
"""A clock further off than this, or a share of time larger than this, is said."""
_KINDS = frozenset({"compute"})


def at_clock(ceilings: Iterable[Ceiling], clock_hz: float | None) -> tuple[Ceiling, ...]:
    """The ceilings, those of products that were measured at a known clock as they are at this one."""
    return tuple(_moved(ceiling, clock_hz) for ceiling in ceilings)


def _moved(ceiling: Ceiling, clock_hz: float | None) -> Ceiling:
    own_hz = ceiling.conditions.get("sm_clock_hz")
    if not clock_hz or not isinstance(own_hz, int | float) or not own_hz or ceiling.kind not in _KINDS:
        return ceiling
    return ceiling.changed(value=ceiling.value * clock_hz / own_hz)


def clock_notes(ceilings: Iterable[Ceiling], counters: Mapping[str, float], dtype: str) -> tuple[str, ...]:
    """What held the device's clock down during the steps, and how far it was from that of the ceiling of products."""
    notes = [
        f"the GPU was held down by its {name.removeprefix(THROTTLE).replace('_', ' ')} limit in "
        f"{format_fraction(share)} of the samples taken beside the timed steps"
        for name, share in counters.items()
        if name.startswith(THROTTLE) and share > WORTH_SAYING
    ]
    clock_hz = counters.get(SM_CLOCK)
    own_hz = next((one.conditions.get("sm_clock_hz") for one in ceilings if one.name == f"matmul.{dtype}"), None)
    if clock_hz and isinstance(own_hz, int | float) and own_hz and abs(clock_hz / own_hz - 1) > WORTH_SAYING:
        notes.append(
            f"the step ran at {format_quantity(clock_hz, 'hertz')}, and the ceiling of {dtype} products was measured "
            f"at {format_quantity(own_hz, 'hertz')}: the step is held against that ceiling at its own clock, "
            f"{format_fraction(clock_hz / own_hz)} of it"
        )
    return tuple(notes)
