"""Are the ways to share a fleet right about a loop that really runs? Two processes, one generates and one trains.

    python benchmarks/rollout_loop.py

A generator process takes as long as the simulated server says for each batch, a trainer process as long as its share of
the work says; batches go through a queue of one (asynchronous) or wait for each other (apart). The time of an iteration
and the idle share of each are measured and set beside the prediction.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import numpy as np

from hwprof.deploy.requests.events import PassCosts
from hwprof.deploy.rollout import Batch, generated, long_tailed, splits

COSTS = PassCosts(
    sequences=(1.0, 64.0),
    step_s=(0.001, 0.002),
    prompt_token_s=1e-6,
    request_s=0.0,
    hand_over_s=0.0,
    room=64,
    budget=8192,
)
ITERATIONS = 8
TRAIN_S = 0.6


def generator(batches: Any, turns: Any, lasts_s: float, busy: Any) -> None:
    for number in range(ITERATIONS):
        if turns is not None:
            turns.get()
        started = time.perf_counter()
        time.sleep(lasts_s)
        busy.value += time.perf_counter() - started
        batches.put(number)


def trainer(batches: Any, turns: Any, busy: Any) -> None:
    for _ in range(ITERATIONS):
        batches.get()
        started = time.perf_counter()
        time.sleep(TRAIN_S)
        busy.value += time.perf_counter() - started
        if turns is not None:
            turns.put(True)


def main() -> None:
    batch = Batch(prompt=64.0, answers=long_tailed(48, 300, 0.8, 2000, seed=2))
    lasts_s = generated(batch, 1, COSTS, "mixed").time_s
    predicted = {one.way: one for one in splits(batch, 2, 1, COSTS, "mixed", train_device_s=TRAIN_S)}
    for way in ("apart", "asynchronous"):
        batches = multiprocessing.Queue(1)
        turns = multiprocessing.Queue() if way == "apart" else None
        if turns is not None:
            turns.put(True)
        busy = [multiprocessing.Value("d", 0.0) for _ in range(2)]
        parts = [
            multiprocessing.Process(target=generator, args=(batches, turns, lasts_s, busy[0])),
            multiprocessing.Process(target=trainer, args=(batches, turns, busy[1])),
        ]
        started = time.perf_counter()
        for part in parts:
            part.start()
        for part in parts:
            part.join()
        first_s = min(lasts_s, TRAIN_S) if way == "asynchronous" else 0.0
        measured_s = (time.perf_counter() - started - first_s) / ITERATIONS
        idle = [1 - value.value / ITERATIONS / measured_s for value in busy]
        said = predicted[way]
        off = np.log(measured_s / said.iteration_s)
        print(f"{way:13} iteration {measured_s:.3f} s, predicted {said.iteration_s:.3f} s ({100 * off:+.1f} %)")
        print(f"  idle: generator {idle[0]:.2f}, trainer {idle[1]:.2f} (predicted {said.idle_training:.2f})")


if __name__ == "__main__":
    main()
