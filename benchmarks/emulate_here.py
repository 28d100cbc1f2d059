"""How far is an emulated step from the same script really run on this machine, by this machine's own probe?

    python benchmarks/emulate_here.py [--styles ddp,fsdp2] [--shape 384,4,128] [--steps 12] [--keep DIR] [--json]

`programs/styles.py` in each parallel style, of so many numbers a token, layers and tokens: emulated as it is, its steps
played here call by call, collectives probed between two and four ranks, all priced together; and really run with gloo,
one thread a rank. Needs an idle machine with two cores or more; takes about five minutes. Waiting for others is said:
what is busy is no measurement, but of the time that the script's own thread computes, which is compared, too. `--json`
writes an object to standard output, and the table to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from hwprof.emulate.here import measured_machine
from hwprof.emulate.prices import prices_of
from hwprof.emulate.saved import read_recordings
from hwprof.emulate.tape import KERNEL
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import stack_named

HERE = Path(__file__).parent
SCRIPT = HERE / "programs" / "styles.py"
STYLES = dict.fromkeys(("ddp", "fsdp2", "tp2", "pp2", "moe", "accumulation", "checkpointing"), 2) | {"fsdp2-tp2": 4}
"""Style -> ranks."""
WARM = 3
"""Steps that are not counted."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--styles", default=",".join(STYLES))
    parser.add_argument("--shape", default="384,4,128", help="width, layers, tokens")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--keep", type=Path, help="folder for all files; what is there already is not made again")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        styles = args.styles.split(",")
        width, layers, tokens = args.shape.split(",")
        shape = ("--width", width, "--layers", layers, "--tokens", tokens)
        calibrations = probed(folder, styles, shape)
        table = sys.stderr if args.json else sys.stdout
        script = (*shape, "--steps", str(args.steps))
        rows = [compared(style, folder, calibrations, script, table) for style in styles]
    misses = [abs(row["error"]) for row in rows]
    held = sum(row["inside"] for row in rows)
    median, worst = statistics.median(misses), max(misses)
    print(f"median error {median:.1%}, worst {worst:.1%}; {held} of {len(rows)} in the interval", file=table)
    if args.json:
        whole = {"median_abs_error": median, "max_abs_error": worst, "in_interval": held, "styles": rows}
        print(json.dumps(whole, indent=2))


def probed(folder: Path, styles: list[str], shape: tuple[str, ...]) -> list[Path]:
    """Calibrations: of the processor, of the ranks, and of all calls of all styles."""
    processor, calls = folder / "cpu.json", folder / "calls.json"
    links = [folder / f"links{ranks}.json" for ranks in sorted({STYLES[style] for style in styles})]
    if not processor.exists():
        run("probe", "--device", "cpu", "--quick", "--output", processor)
    for path in links:
        if not path.exists():
            ranks = path.stem.removeprefix("links")
            run("probe", "--device", "cpu", "--quick", "--output", path, ranks=int(ranks))
    for style in styles:
        if not (folder / style / "recording.json.gz").exists():
            asked = ("--calibration", processor, "--devices", STYLES[style], "--steps", 3, "--output", folder / style)
            run("emulate", *asked, "--", SCRIPT, "--style", style, *shape)
    if not calls.exists():
        emulations = [word for style in styles for word in ("--emulation", folder / style)]
        run("probe", "--device", "cpu", "--quick", *emulations, "--output", calls)
    return [processor, calls, *links]


def compared(
    style: str, folder: Path, calibrations: list[Path], script: tuple[str, ...], table: TextIO
) -> dict[str, Any]:
    """Really run and emulated, the interval of that, and how busy the machine was."""
    named = [word for path in calibrations for word in ("--calibration", path)]
    answer = json.loads(run("emulate", *named, "--format", "json", folder / style))
    ranks, out = STYLES[style], folder / f"{style}.times.json"
    before_s, load = os.times(), os.getloadavg()[0]
    launched = ["-m", "torch.distributed.run", "--nproc-per-node", ranks, "--master-port", free_port()]
    environment = os.environ | {"STEP_TIMES": str(out)}
    command = [sys.executable, *map(str, launched), __file__, "really", "--style", style, *script]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after_s = os.times()
    used = sum(after_s[2:4]) - sum(before_s[2:4])
    times, own = json.loads(out.read_text(encoding="utf-8"))
    really_s, own_s = (statistics.median(each[WARM:]) for each in (times, own))
    low_s, high_s = answer["interval_s"]
    emulated_s, thread_s = answer["step_s"], thread_time_s(folder / style, calibrations)
    cores = used / (after_s[4] - before_s[4])
    print(
        f"{style:14} {ranks} ranks  really {really_s * 1e3:7.1f} ms  emulated {emulated_s * 1e3:7.1f} ms  "
        f"{emulated_s / really_s - 1:+6.1%}  interval {low_s * 1e3:.0f} to {high_s * 1e3:.0f} ms  "
        f"the script's thread computes {own_s * 1e3:.1f} ms, emulated {thread_s / own_s - 1:+.1%}; load {load:.1f}, "
        f"{cores:.2f} cores",
        file=table,
        flush=True,
    )
    return {
        "style": style,
        "ranks": ranks,
        "step_s": really_s,
        "emulated_s": emulated_s,
        "interval_s": [low_s, high_s],
        "error": emulated_s / really_s - 1,
        "inside": low_s <= really_s <= high_s,
        "breakdown_s": answer["breakdown_s"],
        "thread_cpu_s": own_s,
        "emulated_thread_cpu_s": thread_s,
        "load": load,
        "cores": cores,
    }


def thread_time_s(folder: Path, calibrations: list[Path]) -> float:
    """What the first rank's own thread computes in an emulated step: its calls and what lies between them."""
    recording = read_recordings(folder)[0]
    machine, table, here, _ = measured_machine(None, recording.devices, calibrations)
    assert here is not None
    stack = stack_named(recording.software)
    parameters = here.of_software(parameters_for(table, machine, stack)[0], recording.devices)
    prices = prices_of(recording, machine, parameters, here)
    calls_s = sum((prices.device_s + prices.host_s)[place] * times for place, times in recording.count(KERNEL).items())
    return float(calls_s) / here.crowd(recording.devices) + sum(recording.host_s)


def run(*words: object, ranks: int = 1) -> str:
    """A command of hwprof in a process of its own, or in several ranks; what it printed."""
    launcher = ["torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(free_port()), "-m"]
    command = [sys.executable, "-m", *(launcher if ranks > 1 else []), "hwprof", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    print(f"  {' '.join(map(str, words))[:100]}", file=sys.stderr)
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{command}: {ended.stderr[-2000:]}")
    return ended.stdout


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def really() -> None:
    """Be one rank, and leave the times between ends of optimizer steps, and what its thread computed meanwhile."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    torch.set_num_threads(1)
    ends: list[tuple[float, float]] = []
    register_optimizer_step_post_hook(lambda *_: ends.append((time.perf_counter(), time.thread_time())))
    sys.argv = [str(SCRIPT), *sys.argv[2:]]
    runpy.run_path(str(SCRIPT), run_name="__main__")
    if os.environ["RANK"] == "0":
        times = [[after - before for before, after in pairwise(column)] for column in zip(*ends, strict=True)]
        Path(os.environ["STEP_TIMES"]).write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    really() if sys.argv[1:2] == ["really"] else main()
