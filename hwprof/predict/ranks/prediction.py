"""What does a step take on several ranks? One rank's share of the work, the pipeline's bubble, and the traffic.

Traffic is the collectives that ran in the profiled window, each at the rate that the probe reached at its size before
the run: how many and how large they are follows from the layout, how long they take is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.collective import Meetings, bus_factor
from hwprof.specs.record.ranks import CollectiveResult, RankPlace
from hwprof.specs.record.run import PhaseName, Prediction
from hwprof.units import format_fraction, number

_PIPED: tuple[PhaseName, ...] = ("forward", "loss", "backward")


def with_ranks(
    prediction: Prediction,
    collectives: Sequence[CollectiveResult],
    layout: ParallelLayout,
    *,
    micro_batches: int,
    device: Literal["cpu", "cuda"],
    meetings: Sequence[Meetings] = (),
    sharing: float = 1.0,
) -> Prediction:
    """The prediction of one rank's share as the whole layout's.

    A pipeline waits for (p - 1)/(v m) of its work (Narayanan et al. 2021, section 2.2). Where ranks share cores, and
    their work was timed while all of them did, a rank that waits leaves its part to the others, and the step is the
    larger of (1 + bubble) x work / sharing and work. On a CPU collectives take the cores that would compute, so nothing
    hides them; on a GPU those of data ranks hide behind the backward pass, all others are exposed. Work takes longer,
    too, by what the probe of meetings found for meetings as far apart: ranks that are early wait. The interval reaches
    from all hidden and no waiting to all of both.

    Args:
        prediction: of the mean rank's share of the work.
        collectives: those of a step.
        layout: degrees, schedule and chunks.
        micro_batches: of a step.
        device: where the collectives run.
        meetings: what equal work takes on all ranks that meet after each piece of it.
        sharing: how many threads of ranks there are for each core, at least 1.
    """
    stages = layout.pipeline_parallel
    bubble = max((1 + (stages - 1) / (layout.virtual_stages * micro_batches)) / sharing, 1.0) - 1
    piped = {name: value * (1 + bubble) if name in _PIPED else value for name, value in prediction.phase_s.items()}
    traffic = [(each, traffic_s(each)) for each in collectives]
    known = [(each, seconds) for each, seconds in traffic if seconds is not None]
    whole_s = sum(seconds for _, seconds in known)
    hidden_s = _hidden_s(known, piped, device)
    phase_s = _with_traffic(piped, known, hidden_s)
    slower = _meeting_factor(sum(prediction.phase_s.values()), sum(each.calls for each in collectives), meetings)
    more = format_fraction(slower - 1)
    late_s = (slower - 1) * sum(prediction.phase_s.values())
    for name, share in _shares_of_meetings(collectives).items():
        phase_s[name] = phase_s.get(name, 0.0) + share * late_s
    low_s, high_s = prediction.interval_s
    waits_s = late_s + bubble * sum(prediction.phase_s.get(name, 0.0) for name in _PIPED)
    unknown = len(traffic) - len(known)
    return prediction.changed(
        step_s=sum(phase_s.values()),
        interval_s=(low_s * (1 + bubble), high_s + waits_s + whole_s),
        phase_s=phase_s,
        basis=prediction.basis
        + f"; on each rank, with {len(known)} kinds of collectives at the rates of the probe"
        + (f" ({unknown} that were not probed left out)" if unknown else "")
        + (f" and a pipeline bubble of {format_fraction(bubble)}" if stages > 1 else "")
        + (f" on cores that {number(sharing)} threads of ranks share" if stages > 1 and sharing > 1 else "")
        + (f"; ranks that meet are {more} slower than alone, by the probe" if slower > 1 else ""),
    )


def core_sharing(environment: Mapping[str, str], places: Sequence[RankPlace]) -> float:
    """Threads of ranks for each core of the first rank's machine; 1 where that is less, or not known."""
    try:
        threads, cores = int(environment["torch.threads"]), int(environment["process.cpus_allowed"])
    except (KeyError, ValueError):
        return 1.0
    beside = sum(place.host == places[0].host for place in places)
    return max(threads * beside / cores, 1.0)


def _meeting_factor(work_s: float, count: float, meetings: Sequence[Meetings]) -> float:
    """How many times longer work takes with so many meetings in it, between the probed lengths by their logarithm."""
    if not meetings or not count:
        return 1.0
    known = sorted(meetings, key=lambda each: each.piece_s)
    lengths = [math.log(each.piece_s) for each in known]
    return float(np.interp(math.log(work_s / count), lengths, [each.factor for each in known]))


def _backward_share(each: CollectiveResult) -> float:
    """How much of a collective stands in the backward pass: all of what reduces gradients, half of everything else."""
    return 1.0 if each.axis == "data" and each.collective in {"all_reduce", "reduce_scatter"} else 0.5


def _shares_of_meetings(collectives: Sequence[CollectiveResult]) -> dict[PhaseName, float]:
    count = sum(each.calls for each in collectives)
    backward = sum(_backward_share(each) * each.calls for each in collectives) / count if count else 1.0
    return {"forward": 1 - backward, "backward": backward}


def traffic_s(result: CollectiveResult) -> float | None:
    """Seconds of a step in a collective at the probe's rate; None where it was not probed."""
    if result.probe_bus_byte_per_s is None:
        return None
    factor = bus_factor(result.collective, result.ranks)
    return result.calls * result.size_bytes * factor / result.probe_bus_byte_per_s


def _hidden_s(
    traffic: Sequence[tuple[CollectiveResult, float]], phase_s: Mapping[PhaseName, float], device: str
) -> float:
    if device == "cpu":
        return 0.0
    of_data_s = sum(seconds for each, seconds in traffic if each.axis == "data")
    return min(of_data_s, phase_s.get("backward", 0.0))


def _with_traffic(
    phase_s: Mapping[PhaseName, float], traffic: Sequence[tuple[CollectiveResult, float]], hidden_s: float
) -> dict[PhaseName, float]:
    """Gradients are reduced in the backward pass; everything else goes half with forward, half with backward."""
    found = dict(phase_s)
    for each, seconds in traffic:
        backward = _backward_share(each)
        found["forward"] = found.get("forward", 0.0) + (1 - backward) * seconds
        found["backward"] = found.get("backward", 0.0) + backward * seconds
    found["backward"] = found.get("backward", 0.0) - hidden_s
    return found
