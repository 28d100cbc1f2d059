"""Against which roofs is a loop held whose device ran at another clock than its probes?"""

import pytest
from made_up_model import made_up_model
from made_up_record import made_up_ceiling, made_up_record

from hwprof.loop.conclusions import Seen, concluded
from hwprof.loop.counted import CountedStep
from hwprof.predict.work import step_work
from hwprof.specs.record.loop import LoopSettings, ModuleSpec
from hwprof.specs.record.run import Recording, RunSettings

CEILINGS = (
    made_up_ceiling("matmul.fp32", 1e6, dtype="fp32", conditions={"sm_clock_hz": 2e9}),
    made_up_ceiling("memory.dram", 1e15, level="dram"),
    made_up_ceiling("latency.launch", 1e-12),
)


def _forward(**counters):
    """The forward phase of a loop's step that products bound, and the notes."""
    job = RunSettings(model="small", device="cuda", micro_batch=1, seq_len=16)
    work = step_work(made_up_model(), job, attention="causal")
    recording = Recording(step_samples_s=(20.0,) * 5, phase_samples_s={"forward": (20.0,) * 5}, counters=counters)
    record = made_up_record(ceilings=CEILINGS).changed(
        settings=LoopSettings(model="Small", device="cuda", dtype="fp32", warmup_steps=1, steps=5, profiled_steps=1)
    )
    module = ModuleSpec(name="Small", parameters=1, trainable_parameters=1)
    found = concluded(
        record, Seen(module=module, recording=recording, counted=CountedStep(full=work, causal=work, dtype="fp32"))
    )
    (forward,) = (phase for phase in found.phases if phase.name == "forward")
    return forward, found.notes


def test_the_roof_over_a_loop_is_that_of_products_at_its_own_clock():
    burst, _ = _forward()
    held, notes = _forward(**{"gpu.sm_clock": 1e9, "gpu.throttle.thermal_hardware": 0.5})
    assert held.roof_s == pytest.approx(2 * burst.roof_s, rel=1e-3)
    assert any(note.startswith("the GPU was held down by its thermal hardware limit in 50 %") for note in notes)
    assert any("the step is held against that ceiling at its own clock, 50 % of it" in note for note in notes)
