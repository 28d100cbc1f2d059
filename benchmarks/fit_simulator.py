"""Fit the simulator's parameters on published runs and write them to hardware_specs/simulator/parameters.toml.

    python benchmarks/fit_simulator.py            # fit on all sources, hold each out in turn, write the file
    python benchmarks/fit_simulator.py --no-hold  # without holding out (keeps the file's error model)

Method: least squares of ln(predicted / measured) with a loss that outliers move little (soft L1 beyond 6 %), each
parameter drawn to a prior by its stated width, every device to its architecture and every stack to its family. Sources
with many rows weigh less than in proportion. The interval is fitted on held-out runs: half of them without their
configuration, half without their whole source.
Needs scipy.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares, lsq_linear
from simulator_file import write_parameters

from hwprof.predict.kernels.op_time import micro_batch_times
from hwprof.predict.parameters import BOUNDS, DEVICE_NAMES, FITTED_NAMES, Parameters, arithmetic_per_joule
from hwprof.simulate.error_model import UNKNOWN, Known, circumstances
from hwprof.simulate.jobs import jobs_of, work_of
from hwprof.simulate.published.case import Case, RefusedError, case_of
from hwprof.simulate.whole_step import step_times
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.catalogue.published import PublishedRun, read_published
from hwprof.specs.catalogue.simulator import FILE, HeldOut

SPREAD = 0.06
"""Residuals beyond this count linearly."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What a parameter is before any run is seen: its value, and how far it may be off (in ln), in all and of each."""

    value: float
    width: float
    own_width: float


PRIORS = {
    "sustained_share": Prior(0.88, 0.06, 0.05),
    "narrow_share": Prior(0.9, 0.06, 0.05),
    "memory_share": Prior(0.88, 0.02, 0.02),
    "product_factor": Prior(1.0, 0.03, 0.04),
    "attention_factor": Prior(1.0, 0.08, 0.12),
    "traffic_factor": Prior(1.3, 0.25, 0.15),
    "loss_traffic_factor": Prior(1.5, 0.4, 0.3),
    "kernel_host_s": Prior(8e-6, 0.6, 0.4),
    "expert_layer_host_s": Prior(3e-4, 0.8, 0.5),
    "tensor_overlap": Prior(0.2, 0.6, 0.4),
    "expert_overlap": Prior(0.2, 0.6, 0.4),
    "data_overlap": Prior(0.7, 0.3, 0.2),
    "contention": Prior(0.15, 0.6, 0.4),
    "step_fixed_s": Prior(5e-3, 0.9, 0.7),
    "straggler_share": Prior(6e-3, 0.6, 0.4),
}


THROTTLE_PRIOR = ((0.13, 0.5), (1.6, 0.3))
"""Scale and exponent of the law of power, each with how far it may be off (in ln)."""

OWN_THROTTLE = 0.3
"""How far what a GPU's arithmetic takes longer may be off the law (in ln)."""


class Layout:
    """Where each parameter stands in the vector of the fit: common ones, then per group, then per member."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.members = {
            "device": sorted({case.machine.device.id for case in cases}),
            "stack": sorted({case.stack.name for case in cases}),
        }
        group_of = {case.machine.device.id: case.machine.architecture for case in cases}
        group_of |= {case.stack.name: case.stack.family for case in cases}
        self.groups = {kind: sorted({group_of[name] for name in names}) for kind, names in self.members.items()}
        self.parent = {
            kind: np.array([self.groups[kind].index(group_of[name]) for name in names])
            for kind, names in self.members.items()
        }
        self.index = {
            "device": np.array([self.members["device"].index(case.machine.device.id) for case in cases]),
            "stack": np.array([self.members["stack"].index(case.stack.name) for case in cases]),
        }
        self.group_slice: dict[str, slice] = {}
        self.own_slice: dict[str, slice] = {}
        centre: list[float] = []
        width: list[float] = []
        self.columns: list[list[int]] = []
        for name in FITTED_NAMES:
            prior, kind = PRIORS[name], self.kind(name)
            count = len(self.groups[kind]) if kind else 1
            self.group_slice[name] = slice(len(centre), len(centre) + count)
            self.columns.append(list(range(len(centre), len(centre) + count)))
            centre += [math.log(prior.value)] * count
            width += [prior.width] * count
            if kind:
                own = len(self.members[kind])
                self.own_slice[name] = slice(len(centre), len(centre) + own)
                self.columns.append(list(range(len(centre), len(centre) + own)))
                centre += [0.0] * own
                width += [prior.own_width] * own
        self.power = self._power(cases)
        self.law_slice = slice(len(centre), len(centre) + 2)
        for column, (value, wide) in enumerate(THROTTLE_PRIOR, len(centre)):
            self.columns.append([column])
            centre.append(math.log(value))
            width.append(wide)
        own = self.own_slice["sustained_share"]
        for place, known in enumerate(~np.isnan(self.power), own.start):
            width[place] = OWN_THROTTLE if known else width[place]
        self.centre, self.width = np.array(centre), np.array(width)

    def _power(self, cases: Sequence[Case]) -> np.ndarray:
        """ln of the TFLOP for each joule of every device; NaN where the law of power does not hold or is not known."""
        device_of = {case.machine.device.id: case.machine.device for case in cases}
        found = [arithmetic_per_joule(device_of[name]) for name in self.members["device"]]
        return np.log(np.array([each or math.nan for each in found]))

    @staticmethod
    def kind(name: str) -> str:
        """Whether a parameter belongs to devices or to stacks."""
        return "device" if name in DEVICE_NAMES else "stack"

    def members_of(self, name: str, vector: np.ndarray) -> np.ndarray:
        """The parameter of every device or stack, or the common one."""
        bounds, kind = BOUNDS[name], self.kind(name)
        logs = vector[self.group_slice[name]]
        if kind:
            logs = logs[self.parent[kind]] + vector[self.own_slice[name]]
        if name == "sustained_share":
            scale, exponent = vector[self.law_slice]
            longer = np.exp(scale + np.exp(exponent) * self.power + vector[self.own_slice[name]])
            logs = np.where(np.isnan(self.power), logs, -np.log1p(longer))
        return np.clip(np.exp(logs), bounds.low, bounds.high)

    def groups_of(self, name: str, vector: np.ndarray) -> np.ndarray:
        """The parameter of every architecture or family."""
        bounds = BOUNDS[name]
        return np.clip(np.exp(vector[self.group_slice[name]]), bounds.low, bounds.high)

    def parameters(self, vector: np.ndarray) -> Parameters:
        """One value of each parameter for each case."""
        values: dict[str, object] = {"kernel_share": 1.0, "link_share": 1.0}
        for name in FITTED_NAMES:
            kind, found = self.kind(name), self.members_of(name, vector)
            values[name] = found[self.index[kind]] if kind else float(found[0])
        return Parameters(**values)


class Fit:
    """Cases in arrays, and the residuals of a parameter vector."""

    def __init__(self, cases: Sequence[Case], measured_s: np.ndarray) -> None:
        self.cases, self.measured = cases, np.log(measured_s)
        self.sources = np.array([case.id.split("-")[0] for case in cases])
        placed = [(case.job, case.machine, case.stack) for case in cases]
        self.shares, _ = work_of(placed, [()] * len(placed))
        self.jobs = jobs_of(placed)
        self.layout = Layout(cases)
        _, inverse, counts = np.unique(self.sources, return_inverse=True, return_counts=True)
        self.weight = np.clip((40 / counts[inverse]) ** 0.25, 0.4, 1.5)
        self.rows_of = self._rows_of_columns()

    def _rows_of_columns(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each set of columns that move together: the column that moves each case."""
        found = []
        for columns in self.layout.columns:
            if columns[0] >= self.layout.law_slice.start:
                found.append((np.array(columns), np.full(len(self.cases), columns[0])))
                continue
            name = next(name for name in FITTED_NAMES if columns[0] in self._range(name))
            kind = Layout.kind(name)
            own = name in self.layout.own_slice and columns[0] == self.layout.own_slice[name].start
            member = self.layout.index[kind] if kind else np.zeros(len(self.cases), int)
            group = member if own or not kind else self.layout.parent[kind][member]
            found.append((np.array(columns), columns[0] + group))
        return found

    def _range(self, name: str) -> range:
        own = self.layout.own_slice.get(name)
        group = self.layout.group_slice[name]
        return range(group.start, own.stop if own else group.stop)

    def predict(self, vector: np.ndarray) -> np.ndarray:
        """ln of the predicted step of every case."""
        p = self.layout.parameters(vector)
        return np.log(step_times(self.jobs, micro_batch_times(self.shares, p), p).step_s)

    def solve(self, kept: np.ndarray, start: np.ndarray | None = None, evaluations: int = 40) -> np.ndarray:
        """The vector that fits the kept cases best."""
        layout, weight = self.layout, self.weight[kept] / SPREAD

        def residuals(vector: np.ndarray) -> np.ndarray:
            off = (self.predict(vector) - self.measured)[kept] * weight
            return np.concatenate([off, 0.7 * (vector - layout.centre) / layout.width])

        def slopes(vector: np.ndarray) -> np.ndarray:
            step, base = 1e-4, self.predict(vector)
            matrix = np.zeros((len(self.cases), len(vector)))
            for columns, moved in self.rows_of:
                shifted = vector.copy()
                shifted[columns] += step
                slope = (self.predict(shifted) - base) / step
                matrix[np.arange(len(slope)), moved] = slope
            return np.concatenate([matrix[kept] * weight[:, None], np.diag(0.7 / layout.width)])

        found = least_squares(
            residuals,
            layout.centre if start is None else start,
            jac=slopes,
            loss="soft_l1",
            x_scale=layout.width,
            max_nfev=evaluations,
        )
        return found.x


def _chosen(values: float | np.ndarray, index: np.ndarray) -> float | np.ndarray:
    return values[index] if isinstance(values, np.ndarray) else values


def measured_cases(runs: Sequence[PublishedRun]) -> tuple[list[Case], np.ndarray]:
    """The runs with a step time that can be modelled."""
    cases, steps = [], []
    for run in runs:
        if run.step_s is None:
            continue
        try:
            cases.append(case_of(run))
        except RefusedError:
            continue
        steps.append(run.step_s)
    return cases, np.array(steps)


def described(off: np.ndarray) -> str:
    """Errors in words: count, median, 90th percentile and largest of |error|, median error."""
    error = np.expm1(off)
    size = np.abs(error) * 100
    return (
        f"n={len(off):4d} median={np.median(size):5.1f} p90={np.percentile(size, 90):5.1f} max={size.max():5.0f} "
        f"bias={np.median(error) * 100:+5.1f}"
    )


def hold_out(fit: Fit, start: np.ndarray, groups: np.ndarray) -> Left:
    """Every case as a fit predicts it that had not seen any case of its group."""
    off = np.zeros(len(fit.cases))
    names: list[tuple[str, ...]] = [()] * len(fit.cases)
    for group in np.unique(groups):
        kept = groups != group
        vector = fit.solve(kept, forgotten(fit, start, kept), evaluations=10)
        off[~kept] = (fit.predict(vector) - fit.measured)[~kept]
        print(f"  without {group}: {described(off[~kept])}", flush=True)
        seen = {kind: set(fit.layout.index[kind][kept]) for kind in fit.layout.members}
        for place in np.flatnonzero(~kept):
            names[place] = unseen(fit, int(place), seen)
    return Left(off, names)


def unseen(fit: Fit, place: int, seen: Mapping[str, set[int]]) -> tuple[str, ...]:
    """The circumstances of a case for a fit that had seen these devices and stacks."""
    case = fit.cases[place]
    known = Known(
        software=fit.layout.index["stack"][place] in seen["stack"],
        device=fit.layout.index["device"][place] in seen["device"],
        kernels=kernel_table("gemm").of(case.machine.device.id) is not None,
        recompute=case.recompute_stated,
        network=case.network_stated,
    )
    return circumstances(case.job, case.machine, known)


def figures(by_fold: np.ndarray, by_source: np.ndarray, sources: np.ndarray) -> dict[str, HeldOut]:
    """Errors of held-out runs in figures: of all, both ways, and of each source."""
    groups = {source: by_source[sources == source] for source in np.unique(sources)}
    return {
        str(name): HeldOut(
            runs=len(off),
            median_pct=float(np.median(np.abs(np.expm1(off))) * 100),
            p90_pct=float(np.percentile(np.abs(np.expm1(off)), 90) * 100),
        )
        for name, off in {"configurations": by_fold, "sources": by_source, **groups}.items()
    }


def folds(cases: Sequence[Case], count: int = 5) -> np.ndarray:
    """A fold for every case; measurements of one configuration are in one fold."""
    keys = [f"{case.job.model.name} {case.job.layout} {case.job.dtype} {case.machine.device.id}" for case in cases]
    return np.array([f"fold {zlib.crc32(key.encode()) % count}" for key in keys])


def forgotten(fit: Fit, start: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The start without what only the held-out source could have taught: its own device or stack is as the group's."""
    vector = start.copy()
    for name, where in fit.layout.own_slice.items():
        kind = Layout.kind(name)
        lost = set(range(len(fit.layout.members[kind]))) - set(fit.layout.index[kind][kept])
        vector[[where.start + member for member in lost]] = 0.0
    return vector


@dataclass(frozen=True, slots=True)
class Left:
    """Runs predicted by a fit that had not seen them: ln(predicted / measured), and what it did not know of them."""

    off: np.ndarray
    circumstances: list[tuple[str, ...]]


def error_model(left: Sequence[Left]) -> dict[str, object]:
    """Scale by circumstance (least squares of ln|error|), and the quantiles that hold 90 % of the held-out runs.

    What is not known never narrows an interval. The quantiles are those of the last of ``left``.
    """
    held = [names for one in left for names in one.circumstances]
    off = np.concatenate([one.off for one in left])
    names = ["base", *sorted({name for each in held for name in each})]
    matrix = np.array([[1.0, *(name in each for name in names[1:])] for each in held], dtype=float)
    size = np.log(np.maximum(np.abs(off), 5e-3))
    ridge = np.diag([1e-9] + [2.0] * (len(names) - 1))
    low = np.array([0.0 if name in UNKNOWN else -np.inf for name in names])
    found = lsq_linear(
        np.concatenate([matrix, ridge]), np.concatenate([size, np.zeros(len(names))]), bounds=(low, np.inf)
    )
    score = (-off / np.exp(matrix @ found.x))[-len(left[-1].off) :]
    return {
        "coefficients": dict(zip(names, found.x, strict=True)),
        "low": float(np.quantile(score, 0.045)),
        "high": float(np.quantile(score, 0.955)),
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-hold", action="store_true", help="do not hold sources out")
    parser.add_argument("--start", type=Path, help="start from the vector of an earlier fit (.npz)")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[1] / FILE)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    cases, steps = measured_cases([run for run in read_published() if isinstance(run, PublishedRun)])
    fit = Fit(cases, steps)
    print(f"{len(cases)} cases in {time.monotonic() - start:.0f} s", flush=True)
    begin = np.load(options.start)["vector"] if options.start else None
    vector = fit.solve(np.ones(len(cases), bool), begin)
    off = fit.predict(vector) - fit.measured
    print(f"fitted in {time.monotonic() - start:.0f} s: {described(off)}", flush=True)
    for label, keys in (("source", fit.sources), ("stack", np.array([case.stack.name for case in cases]))):
        for key in np.unique(keys):
            print(f"  {label} {key:20s} {described(off[keys == key])}")
    np.savez(options.output.with_suffix(".npz"), vector=vector, off=off)
    errors, held_out = None, {}
    if not options.no_hold:
        by_fold = hold_out(fit, vector, folds(cases))
        print(f"configurations held out: {described(by_fold.off)}", flush=True)
        by_source = hold_out(fit, vector, fit.sources)
        print(f"sources held out: {described(by_source.off)}", flush=True)
        errors = error_model([by_fold, by_source])
        held_out = figures(by_fold.off, by_source.off, fit.sources)
        np.savez(options.output.with_suffix(".npz"), vector=vector, by_fold=by_fold.off, by_source=by_source.off)
    write_parameters(
        options.output,
        fit.layout,
        vector,
        rows=len(cases),
        errors=errors,
        held_out=held_out,
        date=dt.datetime.now(tz=dt.UTC).date(),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
