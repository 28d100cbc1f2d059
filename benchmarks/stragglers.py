"""Is the rank that keeps others waiting named, with its cause, and what does it cost to watch? Faults in a gloo loop.

    python benchmarks/stragglers.py --runs 20            # injections, each beside a clean loop; some 10 s each
    python benchmarks/stragglers.py --runs 50 --ranks 4 --seed 3 --json faults.jsonl
    python benchmarks/stragglers.py --merge faults.jsonl more.jsonl
    python benchmarks/stragglers.py --cost               # the same loop watched and not, in turns

Each run is so many ranks (``--ranks``, one of those given at a time) of DistributedDataParallel, of FSDP2, or of
collectives by hand, on one machine. It wants an idle one: where other programs take the processors, ranks differ by
more than a fault of 20 ms. ``--json`` adds a line a run to a file as it goes; ``--merge`` sums such files up.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FAULTS = {
    "forward": "host",
    "backward": "host",
    "optimizer": "host",
    "data": "input",
    "compute": "compute",
    "gc": "garbage collection",
    "save": "checkpoint",
}

PROGRAM = """
import gc, io, json, statistics, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from hwprof.loop.together import Together

fault, late_s, bad = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
way, watched = sys.argv[4], sys.argv[5]
by_hand = way == "hand"
torch.set_num_threads(1)
dist.init_process_group("gloo")
late = dist.get_rank() == bad

class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        if late and fault == "forward":
            time.sleep(late_s)
        if late and fault == "compute":
            until, a = time.perf_counter() + late_s, torch.ones(128, 128)
            while time.perf_counter() < until:
                a @ a
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
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

torch.manual_seed(0)
model = Model()
if way == "ddp":
    model = nn.parallel.DistributedDataParallel(model)
if way == "fsdp2":
    for layer in (model.first, model.second, model):
        fully_shard(layer)
optimizer = torch.optim.AdamW(model.parameters())

def step():
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

def block(watch, steps):
    together = Together(model, (optimizer,), torch.device("cpu"))
    if watch:
        together.start()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        if watch:
            together.step(counts=True)
        times.append(time.perf_counter() - began)
    return together.stop() if watch else None, statistics.median(times)

gc.freeze()
block(False, 3)
if watched == "cost":
    pairs = [(block(True, 10)[1], block(False, 10)[1]) for _ in range(20)]
    answer = {"ratios": [on / off for on, off in pairs], "step_s": pairs[0][1]}
else:
    answer = {}
    for name in sys.argv[6:]:
        late = dist.get_rank() == bad and name == "found"
        found, _ = block(True, 25)
        answer[name] = found and json.loads(found.model_dump_json())
if dist.get_rank() == 0:
    print("ANSWER" + json.dumps(answer))
dist.destroy_process_group()
"""


def run(folder: Path, ranks: int, *words: str) -> dict[str, object]:
    """One run of the program on so many ranks; what rank 0 says."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(path)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    answer: dict[str, object] = json.loads(line.removeprefix("ANSWER"))
    return answer


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=20)
    asked.add_argument("--cost", action="store_true")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--ranks", type=int, nargs="*", default=[2, 2, 4])
    asked.add_argument("--ways", nargs="*", default=["ddp", "hand", "fsdp2"])
    asked.add_argument("--json", type=Path)
    asked.add_argument("--merge", type=Path, nargs="+")
    options = asked.parse_args()
    if options.merge:
        summed([json.loads(line) for path in options.merge for line in path.read_text().splitlines()])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.cost:
            answer = run(folder, options.ranks[0], "none", "0", "-1", "ddp", "cost")
            ratios = answer["ratios"]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"watched over not, 20 pairs of 10 steps: median {middle:.4f}, quartiles {low:.4f} to {high:.4f}")
            return
        rows = []
        for number in range(options.runs):
            rows.append(tried(folder, options, random.Random(f"{options.seed} {number}")))
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        summed(rows)


def tried(folder: Path, options: argparse.Namespace, source: random.Random) -> dict[str, object]:
    """A loop with a fault, and right before or after it without: what was done, and what was said."""
    ranks, fault, way = source.choice(options.ranks), source.choice(list(FAULTS)), source.choice(options.ways)
    bad, late_s = source.randrange(ranks), source.uniform(0.02, 0.3)
    order = source.sample(["found", "clean"], 2)
    both = run(folder, ranks, fault, str(late_s), str(bad), way, "watch", *order)
    found, clean = both["found"], both["clean"]
    row = {
        "ranks": ranks,
        "fault": fault,
        "way": way,
        "rank": bad,
        "late_s": late_s,
        "named": {str(one["rank"]): one["cause"] for one in found["ranks"] if one["cause"] != ""},
        "error": (found["step_without_s"] or found["step_s"]) / clean["step_s"] - 1,
        "ghosts": [one["rank"] for one in clean["ranks"] if one["cause"] != ""],
    }
    print(
        f"{ranks} ranks {way:4} {fault:9} {1e3 * late_s:5.0f} ms on rank {bad}: named {row['named']}, "
        f"without {row['error']:+.0%} of a clean step; clean names {row['ghosts']}",
        flush=True,
    )
    return row


def summed(rows: list[dict[str, object]]) -> None:
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
