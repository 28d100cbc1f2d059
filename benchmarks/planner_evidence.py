"""Does the planner's order of layouts hold? Sweeps in which one source measured many layouts of one model.

    python benchmarks/planner_evidence.py

A sweep is one source, model, device, number of devices, sequence and global batch, with at least four layouts whose
step time was measured. The layouts are ranked by the closed form that the search ranks by; ``rank`` is the predicted
place of the layout that was measured to be the fastest. ``regret`` is the measured time of the layout that is predicted
to be the fastest, over that of the fastest measured, less 1. The parameters were fitted to these sources among others,
so this is no held-out test of step times; the fit knew nothing of ranks.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

from hwprof.simulate.validation import validate
from hwprof.specs.published import PublishedRun, read_published
from hwprof.specs.simulator import simulator_parameters

SOURCES = ("VTRM", "BSPQ", "SIMU", "LLMF")
FEWEST = 4


def main() -> None:
    sweeps = sweeps_of()
    print(f"{'sweep':58} {'layouts':>7} {'rank':>6} {'Spearman':>9} {'regret':>8}")
    regrets, ranks, correlations = [], [], []
    within, between = [], []
    for name, pairs in sorted(sweeps.items()):
        measured, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        order = sorted(range(len(pairs)), key=predicted.__getitem__)
        rank = order.index(measured.index(min(measured))) + 1
        regret, rho = measured[order[0]] / min(measured) - 1, spearman(measured, predicted)
        print(f"{name:58} {len(pairs):>7} {rank:>6} {rho:>9.3f} {regret:>8.1%}")
        regrets.append(regret)
        ranks.append(rank)
        correlations.append(rho)
        errors = [math.log(m / p) for m, p in pairs]
        within.append(statistics.variance(errors))
        between.append(statistics.mean(errors))
    print(f"\n{len(sweeps)} sweeps; fastest measured in the predicted top 3: {sum(rank <= 3 for rank in ranks)}")
    print(
        f"Spearman: median {statistics.median(correlations):.3f}, at least 0.9 in {sum(r >= 0.9 for r in correlations)}"
    )
    print(f"regret of the predicted fastest: median {statistics.median(regrets):.1%}, most {max(regrets):.1%}")
    shared = statistics.variance(between)
    print(f"errors in one sweep: sd {statistics.mean(within) ** 0.5:.3f}, of sweeps: sd {shared**0.5:.3f}, ", end="")
    print(f"correlation of two layouts of a sweep {shared / (shared + statistics.mean(within)):.2f}")


def sweeps_of() -> dict[str, list[tuple[float, float]]]:
    """(measured, predicted) seconds of each sweep's layouts."""
    runs = read_published()
    rows = validate(runs, simulator_parameters()).rows
    sweeps: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run, row in zip(runs, rows, strict=True):
        if not isinstance(run, PublishedRun) or not run.id.startswith(SOURCES):
            continue
        if row.measured_step_s is None or row.predicted_step_s is None:
            continue
        key = (
            run.id[:4],
            run.model_name,
            run.accelerator,
            run.n_devices,
            run.seq_len,
            run.global_batch_seqs,
            run.precision,
        )
        sweeps[" ".join(map(str, key))].append((row.measured_step_s, row.predicted_step_s))
    return {name: pairs for name, pairs in sweeps.items() if len(pairs) >= FEWEST}


def spearman(one: list[float], other: list[float]) -> float:
    """Correlation of ranks; equal values share their mean rank."""
    a, b = _ranks(one), _ranks(other)
    mean = (len(a) + 1) / 2
    covariance = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return covariance / spread if spread else 0.0


def _ranks(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


if __name__ == "__main__":
    main()
