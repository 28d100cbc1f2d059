"""Is the rank that keeps others waiting named, with its cause, and what does it cost to watch? Faults in a gloo loop.

    python benchmarks/stragglers.py --runs 20            # injections, each beside a clean loop; some 10 s each
    python benchmarks/stragglers.py --runs 50 --ranks 4 --seed 3 --json faults.jsonl
    python benchmarks/stragglers.py --device-ms 40 --json asleep.jsonl   # layers wait so long, as for a device
    python benchmarks/stragglers.py --merge faults.jsonl more.jsonl
    python benchmarks/stragglers.py --cost               # the same loop watched and not, in turns

Each run is so many ranks (``--ranks``, one of those given at a time) of DistributedDataParallel, of FSDP2, or of
collectives by hand, on one machine. It wants an idle one: where other programs take the processors, ranks differ by
more than a fault of 20 ms. Where ranks share cores, one that sleeps leaves them to the others, so that a step without
its fault takes longer than what is left of one with it: with ``--device-ms`` each pass of the layers also waits for so
long as for a device of its own, and takes little of what is shared. ``--json`` adds a line a run to a file as it goes;
``--merge`` sums such files up.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FAULTS = {
    "forward": "host",
    "backward": "host",
    "optimizer": "host",
    "data": "input",
    "compute": "compute",
    "gc": "garbage collection",
    "save": "checkpoint",
}

TOGETHER = 10
"""So many tries share one start of the program."""

PROGRAM = """
import gc, io, json, statistics, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from hwprof.loop.together import Together

device_s, tries = float(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo")
late, fault, late_s = False, "none", 0.0

class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        time.sleep(device_s)
        if late and fault == "forward":
            time.sleep(late_s)
        if late and fault == "compute":
            until, a = time.perf_counter() + late_s, torch.ones(128, 128)
            while time.perf_counter() < until:
                a @ a
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(device_s)
        if late and fault == "backward":
            time.sleep(late_s)
        return gradient

class Late:
    def __reduce__(self):
        time.sleep(late_s)
        return int, ()

    def __del__(self):
        time.sleep(late_s * (fault == "gc"))

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 256)
        layers = (nn.TransformerEncoderLayer(256, 4, 512, batch_first=True, dropout=0.0) for _ in range(2))
        self.first, self.second = layers
        self.head = nn.Linear(256, 256)

    def forward(self, x):
        return self.head(self.second(Slow.apply(self.first(self.embed(x)))))

def trained(way):
    torch.manual_seed(0)
    model = Model()
    if way == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    if way == "fsdp2":
        for layer in (model.first, model.second, model):
            fully_shard(layer)
    return model, torch.optim.AdamW(model.parameters())

def step(model, optimizer, by_hand):
    if late and fault == "data":
        time.sleep(late_s)
    if late and fault == "gc":
        one = Late()
        one.itself = one
        del one
        gc.collect()
    if late and fault == "save":
        torch.save(Late(), io.BytesIO())
    x = torch.randint(256, (8, 64))
    nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()
    if by_hand:
        for weight in model.parameters():
            dist.all_reduce(weight.grad)
    if late and fault == "optimizer":
        time.sleep(late_s)
    optimizer.step()
    optimizer.zero_grad()

def block(model, optimizer, way, watch, steps):
    together = Together(model, (optimizer,), torch.device("cpu"))
    if watch:
        together.start()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step(model, optimizer, way == "hand")
        if watch:
            together.step(counts=True)
        times.append(time.perf_counter() - began)
    return together.stop() if watch else None, statistics.median(times)

def cost(loop):
    block(*loop, False, 3)
    pairs = [(block(*loop, True, 10)[1], block(*loop, False, 10)[1]) for _ in range(20)]
    return {"ratios": [on / off for on, off in pairs], "step_s": pairs[0][1]}

gc.freeze()
for one in tries:
    loop = (*trained(one["way"]), one["way"])
    if one["order"] == ["cost"]:
        answer = cost(loop)
    else:
        answer, fault, late_s = {}, one["fault"], one["late_s"]
        block(*loop, False, 3)
        for name in one["order"]:
            late = dist.get_rank() == one["rank"] and name == "found"
            found, _ = block(*loop, True, 25)
            answer[name] = found and json.loads(found.model_dump_json())
        late = False
    if dist.get_rank() == 0:
        print("ANSWER" + json.dumps(answer), flush=True)
dist.destroy_process_group()
"""


Row = dict[str, Any]


def run(folder: Path, ranks: int, device_ms: float, tries: Sequence[Row]) -> Iterator[Row]:
    """One run of the program on so many ranks; what rank 0 says of each try, as it comes."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(path)]
    words = [f"{1e-3 * device_ms}", json.dumps(tries)]
    with subprocess.Popen([*launch, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        for line in program.stdout or ():
            if line.startswith("ANSWER"):
                yield json.loads(line.removeprefix("ANSWER"))
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, launch)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=20)
    asked.add_argument("--cost", action="store_true")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--ranks", type=int, nargs="*", default=[2, 2, 4])
    asked.add_argument("--ways", nargs="*", default=["ddp", "hand", "fsdp2"])
    asked.add_argument("--device-ms", type=float, default=0.0)
    asked.add_argument("--json", type=Path)
    asked.add_argument("--merge", type=Path, nargs="+")
    options = asked.parse_args()
    if options.merge:
        summed([json.loads(line) for path in options.merge for line in path.read_text().splitlines()])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.cost:
            (answer,) = run(folder, options.ranks[0], options.device_ms, [{"way": "ddp", "order": ["cost"]}])
            low, middle, high = statistics.quantiles(answer["ratios"], n=4)
            print(f"watched over not, 20 pairs of 10 steps: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}")
            return
        tries = [drawn(options, random.Random(f"{options.seed} {number}")) for number in range(options.runs)]
        rows = [row for some in launches(tries) for row in tried(folder, options, some)]
        summed(rows)


def drawn(options: argparse.Namespace, source: random.Random) -> Row:
    """A fault: which, of which rank, in which loop; and whether the loop without it comes first or last."""
    ranks, fault, way = source.choice(options.ranks), source.choice(list(FAULTS)), source.choice(options.ways)
    rank, late_s = source.randrange(ranks), source.uniform(0.02, 0.3)
    order = source.sample(["found", "clean"], 2)
    return {"ranks": ranks, "fault": fault, "way": way, "rank": rank, "late_s": late_s, "order": order}


def launches(tries: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Tries of as many ranks, which one start of the program makes one after another."""
    for ranks in sorted({one["ranks"] for one in tries}):
        yield from batched([one for one in tries if one["ranks"] == ranks], TOGETHER)


def batched(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """So many at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def tried(folder: Path, options: argparse.Namespace, tries: Sequence[Row]) -> Iterator[Row]:
    """Loops with a fault, and right before or after each without: what was done, and what was said."""
    for one, both in zip(tries, run(folder, tries[0]["ranks"], options.device_ms, tries), strict=True):
        found, clean = both["found"], both["clean"]
        row = {
            **one,
            "device_s": 1e-3 * options.device_ms,
            "step_s": clean["step_s"],
            "named": {str(rank["rank"]): rank["cause"] for rank in found["ranks"] if rank["cause"] != ""},
            "error": (found["step_without_s"] or found["step_s"]) / clean["step_s"] - 1,
            "ghosts": [rank["rank"] for rank in clean["ranks"] if rank["cause"] != ""],
        }
        print(
            f"{row['ranks']} ranks {row['way']:5} {row['fault']:9} {1e3 * row['late_s']:5.0f} ms on rank {row['rank']}"
            f": named {row['named']}, without {row['error']:+.0%} of a clean step of {1e3 * row['step_s']:.0f} ms; "
            f"clean names {row['ghosts']}",
            flush=True,
        )
        if options.json:
            with options.json.open("a") as file:
                file.write(json.dumps(row) + "\n")
        yield row


def summed(rows: list[Row]) -> None:
    """Rows by number of ranks, and all of them."""
    for ranks in (*sorted({row["ranks"] for row in rows}), None):
        some = [row for row in rows if ranks in {None, row["ranks"]}]
        right = [row for row in some if row["named"] == {str(row["rank"]): FAULTS[row["fault"]]}]
        errors = sorted(row["error"] for row in right)
        within = sum(abs(error) <= 0.05 for error in errors)
        ghosts = sum(bool(row["ghosts"]) for row in some)
        middle = f"{statistics.median(errors):+.1%}" if errors else "-"
        print(
            f"{ranks or 'all'} ranks: right rank and cause in {len(right)} of {len(some)}; a clean loop named a rank "
            f"in {ghosts}; without it {middle} in the median, {within} of {len(errors)} within 5 % of a clean step"
        )


if __name__ == "__main__":
    main()
