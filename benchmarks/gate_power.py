"""How surely does the gate of ``hwprof diff`` find what got slower, and how often does it cry for nothing?

    python benchmarks/gate_power.py           # 12 pairs of each kind: two minutes on one processor, the same each time
    python benchmarks/gate_power.py --slow 0.05 --pairs 40
    python benchmarks/gate_power.py --steps 2 --ranks 8

Traces of a made-up training loop on several GPUs (the one that the tests use), whose ranks meet in collectives. Each
kernel's time has a noise of 2 %, each step of each rank one of 1 %, anew in every trace. In B the kernels of some
operators on some ranks take longer. What the step then really takes is the same loop without noise.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import kineto  # noqa: E402

from hwprof.compare.diff import compare  # noqa: E402
from hwprof.compare.sides import Side, side_of_traces  # noqa: E402
from hwprof.trace.analysis import Asked, analyse  # noqa: E402
from hwprof.trace.windows import Chosen  # noqa: E402

LIMIT = 0.03
KERNEL_NOISE, STEP_NOISE = 0.02, 0.01
PRODUCTS = "nvjet"


@dataclass(frozen=True, slots=True)
class Slow:
    """What takes longer in B, by a share: kernels whose name begins so (all: empty) on some ranks, or all times."""

    share: float = 0.0
    ranks: Collection[int] = ()
    kernels: str = ""
    whole: bool = False


class Rank(kineto.Rank):
    """A rank whose kernels have noise, and may be slow."""

    slow = Slow()
    noise: random.Random | None = None
    of_step = 1.0

    def device(  # noqa: PLR0917 - as it is in the loop of the tests
        self, cat: str, name: str, stream: int, ready_ns: int, dur_ns: int, ident: int, **args: object
    ) -> int:
        """As it is, but for the time of a kernel that computes."""
        if cat == "kernel" and not name.startswith("nccl"):
            late = self.rank in self.slow.ranks and not self.slow.whole and name.startswith(self.slow.kernels)
            drawn = self.noise.gauss(1.0, KERNEL_NOISE) * self.of_step if self.noise else 1.0
            dur_ns = int(dur_ns * max(drawn, 0.5) * (1 + self.slow.share * late))
        return super().device(cat, name, stream, ready_ns, dur_ns, ident, **args)

    def step(self, number: int) -> kineto.Collective:
        """A step with a noise of its own."""
        self.of_step = self.noise.gauss(1.0, STEP_NOISE) if self.noise else 1.0
        yield from super().step(number)


def side(name: str, options: argparse.Namespace, slow: Slow, seed: int | None) -> Side:
    """The traces of one run of the loop; without a seed it has no noise. The first step is left out."""
    loop = kineto.Loop(
        layers=2, steps=options.steps + 1, rows=65536, width=1024, input_wait_ns=20_000, seed=seed or 0, memory=False
    )
    ranks = [Rank(loop, number, options.ranks) for number in range(options.ranks)]
    for rank in ranks:
        rank.slow, rank.noise = slow, random.Random(seed * 1000 + rank.rank) if seed is not None else None
    with tempfile.TemporaryDirectory() as folder:
        files = [file.write(Path(folder) / f"rank{place}.json") for place, file in enumerate(kineto.run(ranks))]
        found = side_of_traces(name, analyse(files, Asked(wanted=Chosen(warmup=1))).devices)

    stretch = {rank: 1 + slow.share * (slow.whole and rank in slow.ranks) for rank in found.ranks}
    times = {rank: tuple(each * stretch[rank] for each in steps) for rank, steps in found.ranks.items()}
    return replace(found, ranks=times, step_median_s=statistics.median(map(statistics.median, times.values())))


def kinds(ranks: int, shares: Sequence[float]) -> Iterator[tuple[str, Slow]]:
    """What is made slower, in words."""
    if 0 in shares:
        yield "nothing", Slow()
    for share in filter(None, shares):
        for who, which in (("one rank", [1]), ("half the ranks", range(ranks // 2)), ("all ranks", range(ranks))):
            for what, kernels in (("products", PRODUCTS), ("all kernels", "")):
                yield f"{what} by {share:.0%} on {who}", Slow(share, frozenset(which), kernels)
            yield f"everything by {share:.0%} on {who}", Slow(share, frozenset(which), whole=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pairs", type=int, default=12)
    asked.add_argument("--steps", type=int, default=8)
    asked.add_argument("--only", default="", help="what its words contain")
    asked.add_argument("--slow", type=float, nargs="*", default=[0.0, 0.03, 0.05, 0.2])
    asked.add_argument("--ranks", type=int, default=4)
    options = asked.parse_args()
    before_s = side("A", options, Slow(), None).step_median_s
    print(f"{options.ranks} ranks, {options.steps} steps a side, limit {LIMIT:.0%}, {options.pairs} pairs each")
    print("| slower in B | the step really | failed | undecided | passed |\n|---|---|---|---|---|")
    seed = int(1000 * sum(options.slow))
    for words, slow in kinds(options.ranks, options.slow):
        really = side("B", options, slow, None).step_median_s / before_s - 1
        outcomes: Counter[str | None] = Counter()
        changes = []
        if options.only not in words:
            continue
        for _ in range(options.pairs):
            a, b = side("A", options, Slow(), seed + 1), side("B", options, slow, seed + 2)
            seed += 2
            report = compare(a, b, limit_fraction=LIMIT)
            outcomes[report.outcome] += 1
            changes.append(report.step.change_fraction)
        shares = " | ".join(f"{outcomes[each] / options.pairs:.0%}" for each in ("failed", "undecided", "passed"))
        spread = statistics.pstdev(changes)
        print(f"| {words} | {really:+.1%} (measured ± {spread:.1%}) | {shares} |", flush=True)


if __name__ == "__main__":
    main()
