"""Does the planner's order of layouts hold? Sweeps in which one source measured many layouts of one model.

    python benchmarks/planner_evidence.py             # parameters as shipped: fitted on these sources among others
    python benchmarks/planner_evidence.py --held-out  # each source predicted by a fit that never saw it; needs scipy

A sweep is one source, model (all its dimensions), machine, precision and software, sequence and global batch, with at
least four layouts whose step time was measured. A layout measured more than once counts once, with its median. The
layouts are ranked by the closed form that the search ranks by. ``rank`` is the predicted place of the layout that was
measured to be the fastest. ``regret`` is the measured time of the layout that is predicted to be the fastest, over that
of the fastest measured, less 1. ``attainable`` is the Spearman correlation that a planner without any error would
reach in the median: its true times are the measured ones drawn together until they and the scatter of the source's own
repeated measurements have the measured spread. It is blank where a source repeated nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hwprof.plan.answer.confidence import chance_of_being_faster
from hwprof.simulate.published.validation import ValidationRow, validate
from hwprof.specs.catalogue.published import PublishedRun, read_published
from hwprof.specs.catalogue.simulator import simulator_parameters

FEWEST = 4
FEWEST_REPEATS = 5
GOOD = 0.9
DRAWS = 2000

Runs = Sequence[tuple[PublishedRun, ValidationRow]]


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of a sweep: measured (median of its repeats) and predicted seconds a step."""

    measured_s: float
    predicted_s: float
    interval_s: tuple[float, float]
    repeats: int


Sweep = Sequence[Layout]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--held-out", action="store_true", help="predict every source by a fit without it")
    options = parser.parse_args(arguments)
    runs = predicted_runs()
    if options.held_out:
        runs = held_out(runs)
    sweeps, scatter = sweeps_of(runs), scatter_of(runs)
    print(f"{'sweep':58} {'layouts':>7} {'spread':>7} {'rank':>5} {'Spearman':>9} {'attainable':>11} {'regret':>7}")
    for name, sweep in sorted(sweeps.items()):
        print(f"{name:58} {described(sweep, scatter.get(name[:4]))}")
    print()
    for title, chosen in (("all sources", ""), ("vTrain multi-node and BigScience's 176B work", ("VTRM", "BSPQ"))):
        print(f"{title}: {summary([sweep for name, sweep in sweeps.items() if name.startswith(chosen)])}")
    print(f"scatter of repeated measurements: {', '.join(f'{key} {value:.1%}' for key, value in scatter.items())}\n")
    print("pairs of layouts of one sweep, by the stated chance that the one predicted to be faster is faster:")
    for line in chances(sweeps.values()):
        print(f"  {line}")
    print(shared_error(sweeps.values()))


def predicted_runs() -> Runs:
    """Published runs with a measured step time, and their predictions."""
    runs = read_published()
    rows = validate(runs, simulator_parameters()).rows
    return [
        (run, row)
        for run, row in zip(runs, rows, strict=True)
        if isinstance(run, PublishedRun) and row.measured_step_s is not None and row.predicted_step_s is not None
    ]


def held_out(runs: Runs) -> Runs:
    """The sources that have sweeps, each predicted by parameters fitted to all others."""
    from fit_simulator import Fit, forgotten, measured_cases

    cases, steps = measured_cases([run for run, _ in runs])
    fit = Fit(cases, steps)
    whole = fit.solve(np.ones(len(cases), bool))
    found: dict[str, float] = {}
    for source in sorted({name[:4] for name in sweeps_of(runs)}):
        kept = fit.sources != source
        logs = fit.predict(fit.solve(kept, forgotten(fit, whole, kept), evaluations=10))
        found |= {case.id: math.exp(logs[row]) for row, case in enumerate(cases) if not kept[row]}
    return [(run, moved(row, found[run.id])) for run, row in runs if run.id in found]


def moved(row: ValidationRow, predicted_s: float) -> ValidationRow:
    """The row with another prediction, and its interval in proportion."""
    assert row.predicted_step_s is not None
    assert row.interval_s is not None
    ratio = predicted_s / row.predicted_step_s
    low, high = row.interval_s
    return replace(row, predicted_step_s=predicted_s, interval_s=(low * ratio, high * ratio))


def sweeps_of(runs: Runs) -> dict[str, Sweep]:
    """Layouts of every sweep, by the sweep's name, which begins with its source's."""
    found: dict[str, dict[tuple[object, ...], list[ValidationRow]]] = defaultdict(lambda: defaultdict(list))
    for run, row in runs:
        found[sweep_name(run)][layout_key(run)].append(row)
    return {name: [layout_of(rows) for rows in each.values()] for name, each in found.items() if len(each) >= FEWEST}


def sweep_name(run: PublishedRun) -> str:
    """What all layouts of a sweep have in common."""
    model = f"{run.model_name} {run.n_layers}x{run.hidden} heads {run.n_heads}"
    machine = f"{run.n_devices} {run.accelerator}"
    if run.accel_mem_gb:
        machine += f" {run.accel_mem_gb:.0f}GB"
    batch = f"{run.global_batch_seqs} of {run.seq_len} {run.precision.split()[0]}"
    return f"{run.id[:4]} {model}, {machine}, {batch}, {run.framework}"


def layout_key(run: PublishedRun) -> tuple[object, ...]:
    """Everything that a planner could choose."""
    degrees = (run.tp, run.pp, run.vp, run.cp, run.ep, run.dp, run.zero_stage_or_fsdp, run.sp)
    return (*degrees, run.micro_batch_seqs, run.recompute, run.offload, run.attention_impl)


def layout_of(rows: Sequence[ValidationRow]) -> Layout:
    """One layout of all its measurements."""
    first = rows[0]
    assert first.predicted_step_s is not None
    assert first.interval_s is not None
    measured = statistics.median(row.measured_step_s or math.nan for row in rows)
    return Layout(measured, first.predicted_step_s, first.interval_s, len(rows))


def scatter_of(runs: Runs) -> dict[str, float]:
    """Standard deviation (of logarithms) of measurements of one job, by source, where there are enough of them."""
    jobs: dict[tuple[str, tuple[object, ...]], list[float]] = defaultdict(list)
    for run, row in runs:
        jobs[sweep_name(run), layout_key(run)].append(math.log(row.measured_step_s or math.nan))
    repeated: dict[str, list[list[float]]] = defaultdict(list)
    for (name, _), logs in jobs.items():
        if len(logs) > 1:
            repeated[name[:4]].append(logs)
    found = {}
    for source, groups in repeated.items():
        freedom = sum(len(logs) - 1 for logs in groups)
        if freedom >= FEWEST_REPEATS:
            found[source] = math.sqrt(sum(statistics.variance(logs) * (len(logs) - 1) for logs in groups) / freedom)
    return found


def described(sweep: Sweep, scatter: float | None) -> str:
    """A sweep's line of the table."""
    rank, regret, rho = figures(sweep)
    spread = statistics.pstdev(math.log(layout.measured_s) for layout in sweep)
    best = f"{attainable(sweep, scatter):11.2f}" if scatter else f"{'':11}"
    return f"{len(sweep):>7} {spread:>7.1%} {rank:>5} {rho:>9.2f} {best} {regret:>7.1%}"


def figures(sweep: Sweep) -> tuple[int, float, float]:
    """Predicted place of the fastest measured, regret, Spearman correlation."""
    measured = [layout.measured_s for layout in sweep]
    predicted = [layout.predicted_s for layout in sweep]
    order = sorted(range(len(sweep)), key=predicted.__getitem__)
    rank = order.index(measured.index(min(measured))) + 1
    return rank, measured[order[0]] / min(measured) - 1, spearman(measured, predicted)


def attainable(sweep: Sweep, scatter: float) -> float:
    """Median Spearman correlation of a planner without errors, given the scatter of single measurements."""
    noise = np.array([scatter / math.sqrt(layout.repeats) for layout in sweep])
    logs = np.log([layout.measured_s for layout in sweep])
    true_share = math.sqrt(max(1 - float(np.mean(noise**2)) / float(np.var(logs)), 0.0))
    true = logs.mean() + (logs - logs.mean()) * true_share
    random = np.random.default_rng(0)
    drawn = (true + noise * random.standard_normal(len(sweep)) for _ in range(DRAWS))
    return statistics.median(spearman(list(one), list(true)) for one in drawn)


def summary(sweeps: Sequence[Sweep]) -> str:
    """The figures of several sweeps in a line."""
    found = [figures(sweep) for sweep in sweeps]
    ranks, regrets, correlations = zip(*found, strict=True)
    high = sum(rho >= GOOD for rho in correlations)
    return (
        f"{len(found)} sweeps; fastest measured in the predicted top 3: {sum(rank <= 3 for rank in ranks)}; "
        f"Spearman median {statistics.median(correlations):.2f}, at least {GOOD} in {high}; "
        f"regret median {statistics.median(regrets):.1%}, most {max(regrets):.1%}"
    )


def chances(sweeps: Iterable[Sweep], edges: Sequence[float] = (0.5, 0.6, 0.75, 0.9, 1.0)) -> Iterator[str]:
    """How often the layout predicted to be faster was, for pairs by the chance that the planner states for it."""
    pairs = [pair for sweep in sweeps for pair in pairs_of(sweep)]
    for low, high in pairwise(edges):
        inside = [(stated, right) for stated, right in pairs if low <= stated < high or stated == high == 1.0]
        if inside:
            mean = statistics.mean(stated for stated, _ in inside)
            right = statistics.mean(right for _, right in inside)
            yield f"stated {low:.0%} to {high:.0%} (mean {mean:.0%}): right in {right:.0%} of {len(inside)} pairs"


def pairs_of(sweep: Sweep) -> Iterator[tuple[float, bool]]:
    """Stated chance and whether it was so, of each two layouts whose predictions differ."""
    for number, one in enumerate(sweep):
        for other in sweep[:number]:
            fast, slow = sorted((one, other), key=lambda layout: layout.predicted_s)
            if fast.predicted_s == slow.predicted_s:
                continue
            stated = chance_of_being_faster(fast.predicted_s, fast.interval_s, slow.predicted_s, slow.interval_s)
            yield stated, fast.measured_s < slow.measured_s


def shared_error(sweeps: Iterable[Sweep]) -> str:
    """Variance of errors within sweeps and between them."""
    errors = [[math.log(layout.measured_s / layout.predicted_s) for layout in sweep] for sweep in sweeps]
    within = statistics.mean(statistics.variance(each) for each in errors)
    shared = statistics.variance([statistics.mean(each) for each in errors])
    return (
        f"errors in one sweep: sd {within**0.5:.3f}, of sweeps: sd {shared**0.5:.3f}, "
        f"correlation of two layouts of a sweep {shared / (shared + within):.2f}"
    )


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Correlation of ranks; equal values share their mean rank."""
    a, b = _ranks(one), _ranks(other)
    mean = (len(a) + 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return covariance / spread if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


if __name__ == "__main__":
    main(sys.argv[1:])
