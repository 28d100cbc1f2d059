"""How fast is the simulator? One configuration through the engine, and many at once through the closed form.

    python benchmarks/simulator_speed.py

Targets: 5 ms for one configuration of Llama-3.1 405B on 16,384 H100, 200,000 configurations a second on one core.
Times are CPU time of this process, so that other work on the machine hardly counts. ``new`` configurations have
layouts that were not seen before, so no cache knows them as a whole; ``first`` is the very first in the process.
"""

from __future__ import annotations

import itertools
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import Stack, stack_named
from hwprof.simulate.prediction import predict_job
from hwprof.simulate.space import Space, predict_space
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES
from hwprof.specs.job.settings import RECOMPUTE
from hwprof.specs.job.step import TrainingJob

DEVICES = 16384


def cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def layouts() -> Iterator[TrainingJob]:
    model = load_model("llama-3.1-405b")
    degrees = itertools.product((4, 8), (1, 2), (8, 16), (1, 2), (1, 3), (8192, 4096))
    for tensor, context, stages, micro_batch, zero_stage, seq_len in degrees:
        data = DEVICES // (tensor * context * stages)
        layout = ParallelLayout(
            tensor_parallel=tensor,
            context_parallel=context,
            pipeline_parallel=stages,
            data_parallel=data,
            zero_stage=zero_stage,
        )
        yield TrainingJob(model=model, seq_len=seq_len, global_batch=data * 16, micro_batch=micro_batch, layout=layout)


def one_by_one(machine: Machine, stack: Stack) -> None:
    table, jobs = simulator_parameters(), list(layouts())
    new_s = [cpu_s(lambda job=job: predict_job(job, machine, stack, table)) for job in jobs]
    again_s = [cpu_s(lambda job=job: predict_job(job, machine, stack, table)) for job in jobs]
    print(f"one configuration, first     {1e3 * new_s[0]:7.2f} ms")
    print(f"one configuration, new       {1e3 * statistics.median(new_s[1:]):7.2f} ms (median of {len(jobs) - 1})")
    print(f"one configuration, again     {1e3 * statistics.median(again_s):7.2f} ms (median of {len(jobs)})")


def space() -> Space:
    columns = (
        "tensor",
        "context",
        "pipeline",
        "virtual",
        "micro_batch",
        "zero_stage",
        "recompute",
        "sequence_parallel",
        "overlap",
    )
    choices = (
        (1, 2, 4, 8),
        (1, 2, 4, 8),
        (1, 2, 4, 8, 16, 32),
        (1, 2, 4),
        (1, 2, 4, 8),
        range(4),
        range(len(RECOMPUTE)),
        (0, 1),
        (0, 1),
    )
    rows = np.array([row for row in itertools.product(*choices) if row[2] > 1 or row[3] == 1], dtype=np.int64)
    values = dict(zip(columns, rows.T, strict=True))
    data = DEVICES // (values["tensor"] * values["context"] * values["pipeline"])
    named = {"interleaved": SCHEDULES.index("interleaved"), "1f1b": SCHEDULES.index("1f1b")}
    return Space(
        base=TrainingJob(model=load_model("llama-3.1-405b"), seq_len=8192, global_batch=8 * DEVICES),
        expert=np.ones_like(data),
        expert_tensor=values["tensor"],
        data=data,
        shard_ranks=data * values["context"],
        schedule=np.where(values["virtual"] > 1, named["interleaved"], named["1f1b"]),
        **values | {name: values[name] > 0 for name in ("sequence_parallel", "overlap")},
    )


def at_once(machine: Machine, stack: Stack) -> None:
    parameters, _ = parameters_for(simulator_parameters(), machine, stack)
    many = space()
    times_s = [cpu_s(lambda: predict_space(many, machine, stack, parameters)) for _ in range(5)]
    print(f"{len(many):,} configurations at once: first {len(many) / times_s[0]:,.0f}/s,", end=" ")
    print(f"then {len(many) / statistics.median(times_s[1:]):,.0f}/s")


def main() -> None:
    machine, stack = machine_of(load_cluster(f"{DEVICES}xh100-sxm")), stack_named("megatron-core")
    one_by_one(machine, stack)
    at_once(machine, stack)


if __name__ == "__main__":
    main()
