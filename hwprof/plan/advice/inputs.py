"""What does feeding the device cost the step? Workers that prepare batches, copies that hide behind compute."""

from __future__ import annotations

from hwprof.plan.advice.facts import Facts
from hwprof.plan.advice.gain import SURE, WORTH_SAYING, gain_within
from hwprof.specs.record.run import Recommendation
from hwprof.units import format_fraction


def data_workers(facts: Facts) -> Recommendation | None:
    """Batches that are ready when the step wants them."""
    wait, workers = facts.input_wait_share, facts.settings.workers
    gain = gain_within(wait, low=0.0 if facts.settings.device == "cpu" else SURE * wait, high=wait)
    if gain[1] < WORTH_SAYING:
        return None
    more = "more" if workers is None else str(max(2 * workers, 2))
    present = "" if workers is None else f" with {workers} workers"
    return Recommendation(
        title=f"Prepare batches in {more} workers",
        change=f"--workers {more}",
        reason=f"the step waits {format_fraction(wait)} of its time for the next batch{present}",
        gain_fraction=gain,
        evidence="measured data phase and idle time of the device before it",
        basis="measured",
    )


def overlapped_copies(facts: Facts) -> Recommendation | None:
    """Copies to the device that run beside the compute of the step before."""
    stake = 0.0 if facts.settings.device == "cpu" else facts.copy_share
    if stake < WORTH_SAYING:
        return None
    return Recommendation(
        title="Copy the next batch while the device computes",
        change="in the loop: pinned batches, copied with non_blocking=True on a stream of their own, one step ahead",
        reason=f"{format_fraction(stake)} of the step is copies to the device with nothing beside them",
        gain_fraction=gain_within(stake, low=SURE * stake, high=stake),
        evidence="exposed copies of the profiled step and the host-to-device phase",
        basis="measured",
    )
