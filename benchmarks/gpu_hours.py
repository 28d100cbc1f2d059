"""How far are days of whole trainings from what was published? Steps alone, and with failures; a row a training.

    python benchmarks/gpu_hours.py

First what published fleets kept of their time, over what failures alone leave them: its 10th percentile is
``hwprof.plan.goodput.reliability.LOST_BESIDE``. A training that is among them is held out of its own band.

Each is planned on its devices, with the batch, sequence, format and software of its source, and the layout where that
is stated; else the fastest that fits. A minute.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprof.plan.answer.cost import Bill, bill_of, rates_of
from hwprof.plan.answer.machines import option_of
from hwprof.plan.goodput.expected import goodput_of
from hwprof.plan.goodput.reliability import LOST_BESIDE, reliability_of
from hwprof.plan.space.question import Question
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import TrainingJob

SHARES = Path(__file__).parent / "goodput.csv"
RUNS = Path(__file__).with_suffix(".csv")


def runs() -> Iterator[dict[str, str]]:
    """The published trainings."""
    with RUNS.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def bill_of_run(run: Mapping[str, str]) -> Bill | None:
    """The training with failures: in its own layout where all of it is stated, else in the fastest that fits."""
    stack, devices = stack_named(run["stack"]), int(run["devices"])
    machine = machine_of(load_cluster(f"{devices}x{run['hardware']}"))
    tokens, rates = float(run["tokens"]), rates_of(machine.device, devices)
    base = {
        "model": stack.trained(load_model(run["model"])),
        "dtype": run["dtype"],
        "seq_len": int(run["seq_len"]),
        "global_batch": int(run["global_batch"]),
        **stack.switches,
        **stated_switches(run["switches"]),
    }
    if run["tp"]:
        job = TrainingJob.model_validate(base | stated_layout(run))
        found = predict_job(job, machine, stack, simulator_parameters())
        goodput = goodput_of(job, machine, reliability_of())
        return bill_of(found.step_s, devices, tokens / job.tokens, rates, interval_s=found.interval_s, goodput=goodput)
    question = Question(
        base=TrainingJob.model_validate(base), machine=machine, stack=stack, table=simulator_parameters()
    )
    option = option_of(question, rates, tokens=tokens, reliability=reliability_of())
    return option.plans[0].bill if option.plans else None


def stated_switches(words: str) -> dict[str, Any]:
    """What the source says of its kernels: ``fused loss=fused``; a word alone is on."""
    pairs = (word.partition("=") for word in words.split())
    return {name: value or True for name, _, value in pairs}


def stated_layout(run: Mapping[str, str]) -> dict[str, Any]:
    """Degrees, recompute and micro-batch as the source states them."""
    tensor, stages, chunks = int(run["tp"]), int(run["pp"]), int(run["vp"] or 1)
    layout = ParallelLayout(
        tensor_parallel=tensor,
        pipeline_parallel=stages,
        virtual_stages=chunks,
        expert_parallel=int(run["ep"] or 1),
        data_parallel=int(run["devices"]) // (tensor * stages),
        zero_stage=int(run["zero"]),  # type: ignore[arg-type]
        schedule=run["schedule"] or ("interleaved" if chunks > 1 else "1f1b"),  # type: ignore[arg-type]
    )
    return {"layout": layout, "recompute": run["recompute"], "micro_batch": int(run["micro_batch"] or 1)}


def kept_beside() -> dict[str, float]:
    """Of each published account, its share of time in steps over the share that the failure model leaves."""
    found = {}
    with SHARES.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            machine = machine_of(load_cluster(f"{row['devices']}x{row['hardware']}"))
            job = TrainingJob(model=load_model(row["model"]), seq_len=2048, global_batch=2048)
            found[row["id"]] = float(row["share"]) / goodput_of(job, machine, reliability_of()).fraction
    return found


def band_of(bill: Bill, kept: Mapping[str, float], run_id: str) -> tuple[float, float]:
    """The days' interval as shipped; for a run that is among the accounts, with the percentile of the others."""
    low, high = bill.days_interval
    if run_id not in kept:
        return low, high
    others = tenth([ratio for name, ratio in kept.items() if name != run_id])
    spread = math.log(high / bill.days) ** 2 - math.log(LOST_BESIDE) ** 2 + math.log(others) ** 2
    return low, bill.days * math.exp(math.sqrt(spread))


def tenth(values: Sequence[float]) -> float:
    """The 10th percentile, linear between neighbours."""
    return statistics.quantiles(values, n=10, method="inclusive")[0]


def main() -> None:
    """Print the table and its medians."""
    kept = kept_beside()
    print("; ".join(f"{name} {ratio:.3f}" for name, ratio in kept.items()))
    middle = statistics.median(kept.values())
    print(f"kept beside failures: 10th percentile {tenth([*kept.values()]):.2f}, median {middle:.3f}\n")
    steps, wholes, inside = [], [], []
    print("| training | published days | step alone | step and failures | 10 to 90 % |\n|---|---|---|---|---|")
    for run in runs():
        published = float(run["device_hours"]) / int(run["devices"]) / 24
        bill = bill_of_run(run)
        if bill is None:
            print(f"| {run['id']} | {published:.1f} | does not fit | | |")
            continue
        low, high = band_of(bill, kept, run["id"])
        alone, whole = bill.step_time_s / 86400 / published - 1, bill.days / published - 1
        steps.append(abs(alone))
        wholes.append(abs(whole))
        inside.append(low <= published <= high)
        print(
            f"| {run['id']} | {published:.1f} | {bill.step_time_s / 86400:.1f} ({alone:+.0%}) "
            f"| {bill.days:.1f} ({whole:+.0%}) | {low:.1f} to {high:.1f} |",
            flush=True,
        )
    shares = f"{statistics.median(steps):.0%} alone, {statistics.median(wholes):.0%} with failures"
    print(f"\nmedian error: {shares}; inside the band: {sum(inside)} of {len(inside)}")


if __name__ == "__main__":
    main()
