"""What do measured servers say of the engines' numbers, and how far off are models that were left out?

    python benchmarks/fit_serving.py SERVING.csv[.gz] [--write]

Fits the numbers of ``hardware_specs/serving/engines.toml`` to a table of measured servers (times of tokens first, then
of first tokens), leaves out each family of models in turn, and prints errors; ``--write`` writes the file, with half
widths of the intervals from the models left out. Each measurement counts once, however often the table has it, and no
more than 40 of a model, an engine and a sort of deployment.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from hwprof.deploy.engine import ENGINES, FILE, EngineNumbers
from hwprof.deploy.kernels import EXPERT_KINDS
from hwprof.deploy.published import Case, asked, read_rows, understood
from hwprof.deploy.queue import settled
from hwprof.deploy.server import Numbers, first_token_s, queue_of, token_times

TOKEN = {  # name -> usual value, spread of all engines, further spread of each (natural logarithms)
    "product_factor": (0.9, 0.1, 0),
    "floor_share": (0.35, 0.4, 0.2),
    "attention_factor": (0.9, 0.15, 0),
    "moved_factor": (1.0, 0.3, 0),
    "small_s": (1.2e-6, 0.3, 0.2),
    "reduce_s": (4e-6, 0.4, 0.2),
    "latent_layer_s": (8e-6, 0.8, 0),
    "expert_layer_s": (12e-6, 0.6, 0.3),
    "expert_compute_share": (0.3, 0.4, 0),
    "prefill_product_factor": (1.1, 0.15, 0.1),
    "prefill_attention_factor": (1.0, 0.2, 0),
    "prefill_expert_factor": (1.0, 0.4, 0.2),
    "step_s": (3e-4, 0.6, 0.5),
    "sequence_s": (5e-6, 0.3, 0.3),
    "interleave": (1.0, 0.1, 0.05),
    "accepted_tokens": (2.4, 0.3, 0),
    "unstated_factor": (0.75, 0.4, 0.3),
}
FIRST = {
    "request_s": (0.02, 0.0, 0.7),
    "prefill_factor": (1.0, 0.0, 0.3),
    "start_share": (0.05, 0.0, 1.0),
    "step_wait": (0.5, 0.0, 1.0),
    "group_wait": (5.0, 0.0, 1.0),
    "apart_request_s": (0.2, 0.0, 0.3),
    "apart_prefill_factor": (0.8, 0.0, 0.4),
    "apart_start_share": (0.05, 0.0, 1.0),
    "apart_wait_factor": (1.0, 0.0, 0.5),
}
EXPERTS = {"traffic_factor": (1.33, 0.25), "layer_factor": (1.0, 0.25)}
FITTED_KINDS = ("16 bits", "blocks of 8 bits", "4 bits", "widened")
"""Experts in 8 bits by tensor were not measured: they get the numbers of 16 bits' layers and of blocks' memory."""

SOURCE = "ai-dynamo/aiconfigurator@095f58a51:aic-core/src/aiconfigurator_core/systems/silicon_sample.csv"

TOKEN_SD, FIRST_SD = 0.15, 0.3
MOST = 40


class Problem:
    """Cases with their passes, and what was measured."""

    def __init__(self, cases: list[Case], ttft_s: np.ndarray, tpot_s: np.ndarray, labels: list[str]) -> None:
        self.cases, self.ttft_s, self.tpot_s, self.labels = cases, ttft_s, tpot_s, np.array(labels)
        self.passes, self.fleet, self.load, engines = asked(cases)
        self.engines = engines
        self.engine = np.array([ENGINES.index(name) for name in engines])
        self.kind = self.passes.step.expert_kind.astype(int)
        self.family = np.array([family_of(case.deployment.model.name) for case in cases])
        sorts = np.where(self.fleet.stated, np.where(self.fleet.apart, "apart", "together"), "unstated")
        self.sort = sorts
        groups = Counter(zip(self.family, self.engine, sorts, strict=True))
        seen: set[tuple[float, float]] = set()
        weights = []
        for key, measured in zip(
            zip(self.family, self.engine, sorts, strict=True), zip(ttft_s, tpot_s, strict=True), strict=True
        ):
            weights.append(0.0 if measured in seen else min(1.0, MOST / groups[key]))
            seen.add(measured)
        self.weight = np.array(weights) * np.array([not odd(label) for label in labels])

    def numbers(self, values: dict[str, np.ndarray], experts: dict[str, np.ndarray]) -> Numbers:
        engine = {name: column[self.engine] for name, column in values.items()}
        return Numbers(
            engine=engine,
            traffic_factor=experts["traffic_factor"][self.kind],
            layer_factor=experts["layer_factor"][self.kind],
        )

    def first_s(self, numbers: Numbers, times: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        steady = settled(queue_of(self.passes, self.fleet, self.load, numbers, self.engines))
        return first_token_s(self.passes, self.fleet, self.load, numbers, (*times, steady.first_s))


ODD = {("vllm", "gpt-oss", "512"), ("vllm", "qwen3-235b", ""), ("trtllm", "deepseek-r1-nvfp4", "")}
"""Servers that were measured in a way of their own: overrun by users (0.11.2), without graphs (0.12.0), a release
candidate at a tenth of its usual speed (1.3.0rc1). They are predicted like all others, but say nothing of an engine."""


def odd(label: str) -> bool:
    engine, model, users, mode = label.split("|")
    return mode == "agg" and any(engine == e and m in model and u in {"", users} for e, m, u in ODD)


def family_of(name: str) -> str:
    return next(
        (
            family
            for family in ("deepseek", "llama", "gpt-oss", "minimax", "qwen3-", "qwen3.5", "glm")
            if family in name.lower()
        ),
        name,
    )


def unpacked(vector: np.ndarray, table: dict, start: int = 0) -> tuple[dict[str, np.ndarray], int]:
    values, place = {}, start
    for name, (usual, spread, own) in table.items():
        shift = np.zeros(len(ENGINES))
        if spread:
            shift, place = shift + vector[place], place + 1
        if own:
            shift, place = shift + vector[place : place + len(ENGINES)], place + len(ENGINES)
        low, high = bounds(name)
        values[name] = np.clip(usual * np.exp(shift), low, high)
    return values, place


def bounds(name: str) -> tuple[float, float]:
    limits = EngineNumbers.model_fields[name].metadata
    return max(limit.ge for limit in limits if hasattr(limit, "ge")), min(
        limit.le for limit in limits if hasattr(limit, "le")
    )


def spreads(table: dict) -> list[float]:
    return [
        sd
        for _, spread, own in table.values()
        for sd in ([spread] if spread else []) + ([own] * len(ENGINES) if own else [])
    ]


def experts_of(vector: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for number, (name, (usual, _)) in enumerate(EXPERTS.items()):
        part = vector[number * len(FITTED_KINDS) : (number + 1) * len(FITTED_KINDS)]
        by_kind = dict(zip(FITTED_KINDS, usual * np.exp(part), strict=True))
        by_kind["8 bits"] = by_kind["blocks of 8 bits" if name == "traffic_factor" else "16 bits"]
        found[name] = np.array([by_kind[kind] for kind in EXPERT_KINDS])
    return found


def robust(miss: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Small misses count squared, large ones by their size."""
    return np.sign(miss) * np.sqrt(2 * (np.sqrt(1 + miss * miss) - 1) * weight)


def fitted(problem: Problem, chosen: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    weight = problem.weight * chosen
    sd = np.array(spreads(TOKEN) + [spread for _, spread in EXPERTS.values() for _ in FITTED_KINDS])

    def token_miss(vector: np.ndarray) -> np.ndarray:
        values, place = unpacked(vector, TOKEN)
        _, tpot_s, _ = token_times(
            problem.passes, problem.fleet, problem.load, problem.numbers(values, experts_of(vector[place:]))
        )
        return np.concatenate([robust(np.log(tpot_s / problem.tpot_s) / TOKEN_SD, weight), vector / sd])

    solution = least_squares(token_miss, np.zeros(len(sd)), max_nfev=60).x
    values, place = unpacked(solution, TOKEN)
    experts = experts_of(solution[place:])
    numbers = problem.numbers(values, experts)
    _, tpot_s, prompt_s = token_times(problem.passes, problem.fleet, problem.load, numbers)

    def first_miss(vector: np.ndarray) -> np.ndarray:
        both = problem.numbers(values | unpacked(vector, FIRST)[0], experts)
        ttft_s = problem.first_s(both, (tpot_s, prompt_s))
        return np.concatenate(
            [robust(np.log(ttft_s / problem.ttft_s) / FIRST_SD, weight), vector / np.array(spreads(FIRST))]
        )

    first = least_squares(first_miss, np.zeros(len(spreads(FIRST))), max_nfev=60).x
    return values | unpacked(first, FIRST)[0], experts


def misses(problem: Problem, values: dict, experts: dict) -> tuple[np.ndarray, np.ndarray]:
    numbers = problem.numbers(values, experts)
    _, tpot_s, prompt_s = token_times(problem.passes, problem.fleet, problem.load, numbers)
    ttft_s = problem.first_s(numbers, (tpot_s, prompt_s))
    return np.log(tpot_s / problem.tpot_s), np.log(ttft_s / problem.ttft_s)


def shown(name: str, tpot: np.ndarray, ttft: np.ndarray) -> None:
    def text(miss: np.ndarray) -> str:
        size = 100 * np.expm1(np.abs(miss))
        high, bias = np.quantile(size, 0.9), 100 * np.expm1(np.median(miss))
        return f"median {np.median(size):6.1f} %  p90 {high:7.1f} %  bias {bias:+6.1f} %"

    print(f"{name:28} n {len(tpot):5}  tpot {text(tpot)}   ttft {text(ttft)}")


def main() -> None:
    path = Path(sys.argv[1])
    rows = read_rows(path)
    cases, refused = understood(rows, path.parent)
    print(Counter(reason for reason in refused if reason))
    good = [(case, row) for case, row in zip(cases, rows, strict=True) if case and row["ttft_ms"] and row["tpot_ms"]]
    labels = [
        "|".join((row["backend"], row["model_path"].lower(), f"{float(row['concurrency'] or 0):.0f}", row["mode"]))
        for _, row in good
    ]
    problem = Problem(
        [case for case, _ in good],
        np.array([float(row["ttft_ms"]) / 1e3 for _, row in good]),
        np.array([float(row["tpot_ms"]) / 1e3 for _, row in good]),
        labels,
    )
    everything = np.ones(len(good))
    values, experts = fitted(problem, everything)
    tpot, ttft = misses(problem, values, experts)
    shown("all, all fitted", tpot, ttft)
    for sort in np.unique(problem.sort):
        shown(f"  {sort}", tpot[problem.sort == sort], ttft[problem.sort == sort])
    for family in np.unique(problem.family):
        for engine in range(len(ENGINES)):
            chosen = (problem.family == family) & (problem.engine == engine)
            if chosen.any():
                shown(f"  {family} {ENGINES[engine]}", tpot[chosen], ttft[chosen])
    out_tpot, out_ttft = np.zeros(len(good)), np.zeros(len(good))
    for family in np.unique(problem.family):
        left = problem.family == family
        found = misses(problem, *fitted(problem, ~left))
        out_tpot[left], out_ttft[left] = found[0][left], found[1][left]
        shown(f"left out: {family}", out_tpot[left], out_ttft[left])
    shown("left out: all", out_tpot, out_ttft)
    widths = {}
    for sort, before in (("together", ""), ("apart", "apart_"), ("unstated", "unstated_")):
        chosen = problem.sort == sort
        shown(f"left out: {sort}", out_tpot[chosen], out_ttft[chosen])
        for name, inside, outside in (("tpot", tpot, out_tpot), ("ttft", ttft, out_ttft)):
            widths[before + name] = float(np.quantile(np.abs(np.concatenate([inside[chosen], outside[chosen]])), 0.9))
    print(widths)
    if "--write" in sys.argv:
        write(path.name, values, experts, widths)


def write(name: str, values: dict, experts: dict, widths: dict) -> None:
    lines = [
        "# What engines add to their kernels, fitted to measured servers by benchmarks/fit_serving.py.",
        "",
        f'basis = "{name}: {SOURCE}"',
    ]
    for place, engine in enumerate(ENGINES):
        lines += ["", f"[engines.{engine}]", *(f"{each} = {column[place]:.4g}" for each, column in values.items())]
    for place, kind in enumerate(EXPERT_KINDS):
        lines += ["", f'[experts."{kind}"]', *(f"{each} = {column[place]:.4g}" for each, column in experts.items())]
    lines += ["", "[half_widths]", *(f"{each} = {value:.4g}" for each, value in widths.items())]
    Path(FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
