"""Is the goodput of a job that is killed what the planner's formula says? Two gloo ranks, killed at seeded times.

    python benchmarks/killed_job.py [--training 60] [--mtbf 20] [--seeds 1,2,3,4,5,6]

The job trains (a step is a wait, so that a busy machine changes little), saves with ``torch.save`` and is killed with
SIGKILL after exponentially distributed times, also while it starts; it is started again at once until it has trained so
long. Its book (``hwprof.profile(goodput=...)``) says the goodput. Two things are held against it:

- each seed: the same lives, played through with the step and start that each life had, and the mean checkpoint and gap.
  That is what the book and the model of a restart are worth, without the luck of ten deaths.
- all seeds together: Daly's formula (``expected_fraction``) with these and the mean time between failures that the
  deaths were drawn from; a few deaths scatter, so the standard error of the mean stands beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import random
import socket
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.distributed as dist

import hwprof
from hwprof.loop.goodput import Mark, booked, marks_of
from hwprof.plan.goodput.expected import expected_fraction

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One start of the job: when it was, and after how long it was killed; None = it came to its end."""

    start_s: float
    killed_after_s: float | None


def run(folder: Path, *, training_s: float, mtbf_s: float, every: int, seed: int) -> list[Life]:
    """Start both ranks and kill them until they are through."""
    forks, times = multiprocessing.get_context("fork"), random.Random(seed)
    steps = round(training_s / STEP_S)
    lives: list[Life] = []
    while not lives or lives[-1].killed_after_s is not None:
        port, after_s = free_port(), times.expovariate(1 / mtbf_s)
        ranks = [forks.Process(target=rank, args=(number, port, folder, every, steps)) for number in range(2)]
        start_s = time.time()
        for each in ranks:
            each.start()
        ranks[0].join(timeout=max(start_s + after_s - time.time(), 0.0))
        killed = ranks[0].exitcode is None
        for each in ranks:
            if killed:
                each.kill()
        for each in ranks:
            each.join()
        lives.append(Life(start_s=start_s, killed_after_s=after_s if killed else None))
        if ranks[0].exitcode not in {0, -9}:
            raise SystemExit(f"the job failed by itself: {[each.exitcode for each in ranks]}")
    return lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a seed gave: the job's parameters, its goodput by its book, and that of its lives played through."""

    step_s: float
    stall_s: float
    begin_s: float
    gap_s: float
    deaths: int
    measured: float
    replayed: float


def of_seed(options: argparse.Namespace, seed: int) -> Found:
    """Run it, read its book, play its lives through."""
    with tempfile.TemporaryDirectory() as name:
        book = Path(name) / "goodput.jsonl"
        lives = run(Path(name), training_s=options.training, mtbf_s=options.mtbf, every=options.every, seed=seed)
        lines = [json.loads(line) for line in book.read_text().splitlines()]
        lines[-1]["over"] = False  # to read a book that is closed
        book.write_text("".join(json.dumps(line) + "\n" for line in lines))
        marks = marks_of(book)
    found = booked(marks)
    firsts = {mark.process: mark.at_s for mark in reversed(marks)}.values()
    starts = [max(life.start_s for life in lives if life.start_s < at_s) for at_s in firsts]
    lasts = [*reversed({mark.process: mark for mark in marks}.values())]
    begun = [at_s - start_s + unbooked_s(at_s, last) for at_s, start_s, last in zip(firsts, starts, lasts, strict=True)]
    own = {
        start_s: (begin_s, last.training_s / last.steps if last.steps else STEP_S)
        for start_s, begin_s, last in zip(starts, begun, lasts, strict=True)
    }
    gaps = [b.start_s - a.start_s - (a.killed_after_s or 0.0) for a, b in itertools.pairwise(lives)]
    facts = {
        "step_s": found.training_s / found.steps,
        "stall_s": found.checkpoint_s / ((found.steps + found.lost_steps) / options.every),
        "begin_s": mean(begun),
        "gap_s": mean(gaps) if gaps else 0.0,
    }
    whole_s = found.wall_s + next(reversed(firsts)) - lives[0].start_s  # the book begins with its first mark
    return Found(
        **facts,
        deaths=len(lives) - 1,
        measured=found.training_s / whole_s,
        replayed=replayed(lives, own, found.steps, options.every, stall_s=facts["stall_s"], gap_s=facts["gap_s"])
        * facts["step_s"],
    )


def unbooked_s(first_s: float, last: Mark) -> float:
    """Of a process, from its first mark on: what is neither step nor checkpoint (the profiler's own first steps)."""
    return last.at_s - first_s - last.training_s - sum(last.beside_s.values())


def replayed(
    lives: list[Life], own: dict[float, tuple[float, float]], steps: int, every: int, *, stall_s: float, gap_s: float
) -> float:
    """Steps a second of the same lives: each begins, trains, saves, and dies when it died, or ends when all is done."""
    wall_s, saved = 0.0, 0
    for life in lives:
        if life.start_s not in own:  # it died before its first mark
            wall_s += (life.killed_after_s or 0.0) + gap_s
            continue
        begin_s, step_s = own[life.start_s]
        period_s = every * step_s + stall_s
        left, to_end_s = steps - saved, begin_s + (steps - saved) * step_s + (steps - saved) // every * stall_s
        if life.killed_after_s is None or life.killed_after_s >= to_end_s:
            wall_s += to_end_s
            break
        wall_s += life.killed_after_s + gap_s
        saved += min(max(int((life.killed_after_s - begin_s) / period_s), 0) * every, left)
    return steps / wall_s


def expected_of(found: Found, given: argparse.Namespace) -> float:
    """Daly's formula, and the first start, which is no restart after a failure but as long, and may fail as often."""
    restart_s, work_s = found.begin_s + found.gap_s, given.training / STEP_S * found.step_s
    fraction = expected_fraction(
        interval_s=given.every * found.step_s,
        stall_s=found.stall_s,
        lag_s=0.0,
        restart_s=restart_s,
        mtbf_s=given.mtbf,
    )
    return work_s / (work_s / fraction + given.mtbf * math.expm1(restart_s / given.mtbf))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--training", type=float, default=60.0, help="seconds of steps")
    options.add_argument("--mtbf", type=float, default=20.0, help="seconds")
    options.add_argument("--every", type=int, default=60, help="steps between checkpoints")
    options.add_argument("--seeds", default="1,2,3,4,5,6")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    print("| seed | deaths | step, stall, begin, gap [s] | goodput | lives played through |\n|---|---|---|---|---|")
    found = []
    for seed in given.seeds.split(","):
        found.append(one := of_seed(given, int(seed)))
        facts = f"{one.step_s:.3f}, {one.stall_s:.2f}, {one.begin_s:.2f}, {one.gap_s:.2f}"
        off = one.replayed / one.measured - 1
        print(f"| {seed} | {one.deaths} | {facts} | {one.measured:.1%} | {one.replayed:.1%} ({off:+.1%}) |", flush=True)
    expected = mean(expected_of(one, given) for one in found)
    measured = [one.measured for one in found]
    middle = mean(measured)
    error = stdev(measured) / math.sqrt(len(measured)) if len(measured) > 1 else math.nan
    print(f"\nmean goodput {middle:.1%} (standard error {error:.1%})")
    print(f"Daly's formula {expected:.1%}: {expected / middle - 1:+.1%}")


if __name__ == "__main__":
    main()
