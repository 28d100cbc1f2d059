"""Against which roofs is a step held whose device ran at another clock than its probes?"""

import pytest
from made_up_record import made_up_ceiling, made_up_record

from hwprof.session.analysis import analysed
from hwprof.specs.record.run import Recording

CEILINGS = (
    made_up_ceiling("matmul.fp32", 1e6, dtype="fp32", conditions={"sm_clock_hz": 2e9}),
    made_up_ceiling("memory.dram", 1e15, level="dram"),
    made_up_ceiling("latency.launch", 1e-12),
)


def _forward(**counters):
    """The forward phase of a step that products bound, and the notes."""
    recording = Recording(
        step_samples_s=(20.0,) * 5, phase_samples_s={"forward": (20.0,) * 5}, memory_peak_bytes=1e9, counters=counters
    )
    found = analysed(made_up_record(on="cuda", ceilings=CEILINGS), recording)
    (forward,) = (phase for phase in found.phases if phase.name == "forward")
    return forward, found.notes


def test_the_roof_over_a_step_is_that_of_products_at_the_steps_own_clock():
    burst, _ = _forward()
    held, notes = _forward(**{"gpu.sm_clock": 1e9, "gpu.throttle.power_cap": 0.9})
    assert held.roof_s == pytest.approx(2 * burst.roof_s, rel=1e-3)
    assert "the GPU was held down by its power cap limit in 90 % of the samples taken beside the timed steps" in notes
    assert any("the step is held against that ceiling at its own clock, 50 % of it" in note for note in notes)
