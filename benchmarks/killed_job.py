"""Is the goodput of a job that is killed what the planner's formula says? Two gloo ranks, killed at seeded times.

    python benchmarks/killed_job.py [--training 120] [--mtbf 25] [--seed 1]

The job trains (a step is a wait, so that a busy machine changes little), saves with ``torch.save`` and is killed with
SIGKILL after exponentially distributed times, also while it starts; it is started again at once until it has trained so
long. Its book (``hwprof.profile(goodput=...)``) says the goodput; expected is Daly's formula (``expected_fraction``)
with the interval, the checkpoint's time, the restart's time and the mean time between failures that the job had.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import socket
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean

import torch
import torch.distributed as dist

import hwprof
from hwprof.loop.goodput import booked, marks_of
from hwprof.plan.goodput.expected import expected_fraction
from hwprof.specs.record.goodput import BookedTime

PROFILE = hwprof.profile  # imported here, so that forks need not
SCHEDULE = hwprof.Schedule
STEP_S = 0.05
SAVE_S = 0.2


def rank(number: int, port: int, folder: Path, every: int, steps: int) -> None:
    """One of the two ranks; a fork of this process, so that a start takes no imports."""
    places = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
    dist.init_process_group("gloo")
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    saved = folder / "saved.pt"
    done = torch.load(saved)["done"] if saved.is_file() else 0
    short = SCHEDULE(warmup=2, timed=2, profiled=0)
    with PROFILE(model, optimizer, goodput=folder / "goodput.jsonl", ceilings="datasheet", schedule=short) as prof:
        for step in range(done + 1, steps + 1):
            time.sleep(STEP_S)
            model(torch.ones(4, 64)).sum().backward()
            for each in model.parameters():
                dist.all_reduce(each.grad)
            optimizer.step()
            optimizer.zero_grad()
            prof.step()
            if step % every == 0 and number == 0:
                with prof.phase("checkpoint"):
                    torch.save({"done": step}, folder / "new.pt")
                    time.sleep(SAVE_S)
                    (folder / "new.pt").rename(saved)
            dist.barrier()
    os._exit(0)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def run(folder: Path, *, training_s: float, mtbf_s: float, every: int, seed: int) -> list[float]:
    """Start both ranks and kill them until they are through; when each start was. All but the last were killed."""
    forks, times = multiprocessing.get_context("fork"), random.Random(seed)
    steps = round(training_s / STEP_S)
    codes: list[int | None] = [1]
    starts: list[float] = []
    while any(codes):
        port = free_port()
        ranks = [forks.Process(target=rank, args=(number, port, folder, every, steps)) for number in range(2)]
        starts.append(time.time())
        for each in ranks:
            each.start()
        ranks[0].join(timeout=times.expovariate(1 / mtbf_s))
        for each in ranks:
            if ranks[0].exitcode is None:
                each.kill()
        for each in ranks:
            each.join()
        codes = [each.exitcode for each in ranks]
        if ranks[0].exitcode not in {0, -9}:
            raise SystemExit(f"the job failed by itself: {codes}")
    return starts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--training", type=float, default=120.0, help="seconds of steps")
    options.add_argument("--mtbf", type=float, default=25.0, help="seconds")
    options.add_argument("--every", type=int, default=60, help="steps between checkpoints")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, began_s = Path(name), time.time()
        starts = run(folder, training_s=given.training, mtbf_s=given.mtbf, every=given.every, seed=given.seed)
        lines = [json.loads(line) for line in (folder / "goodput.jsonl").read_text().splitlines()]
        lines[-1]["over"] = False  # to read a book that is closed
        (folder / "goodput.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        marks = marks_of(folder / "goodput.jsonl")
        firsts = {mark.process: mark.at_s for mark in reversed(marks)}.values()
        begun = [at_s - max(start for start in starts if start < at_s) for at_s in firsts]
        report(booked(marks), given.every, time.time() - began_s, deaths=len(starts) - 1, begin_s=mean(begun))


def report(found: BookedTime, every: int, wall_s: float, *, deaths: int, begin_s: float) -> None:
    """A death while the job starts leaves no mark, so deaths and the time of a start are those that were seen here."""
    step_s = found.training_s / found.steps
    checkpoints = found.steps / every
    said = {
        "interval_s": every * step_s,
        "stall_s": found.checkpoint_s / checkpoints,
        "lag_s": 0.0,
        "restart_s": begin_s,
        "mtbf_s": wall_s / max(deaths, 1),
    }
    expected = expected_fraction(**said)
    measured = found.fraction
    print(f"{deaths} deaths in {wall_s:.0f} s; {found.sentence}")
    print("; ".join(f"{name} {value:.2f}" for name, value in said.items()))
    print(f"goodput measured {measured:.2%}, expected {expected:.2%}: {expected / measured - 1:+.2%}")


if __name__ == "__main__":
    main()
