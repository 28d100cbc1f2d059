"""How near are predictions at shapes that no probe saw? One run calibrates, others on the same machine are held out.

    python benchmarks/held_out_shapes.py [cpu | cuda]
    OMP_NUM_THREADS=1 python benchmarks/held_out_shapes.py cpu --cpu-time

Where other programs run, the second line takes the CPU time of one thread for the wall time, in probes and steps alike:
what others take from it does not count then, but what they do to caches and clocks.

The first run's ceilings (matrix products and attention at its own shapes, memory, dispatch) predict the steps of the
others, whose own measured step stands beside. Target: within 5 % on a GPU, 10 % on a CPU. Beside it the same with each
run's own ceilings, which says how much of an error is the shapes'.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from hwprof.report.files.run import read_run
from hwprof.session.analysis import predicted
from hwprof.specs.record.run import RunRecord

RUNS = {
    "cpu": (
        ("--model", "tiny", "--micro-batch", "8", "--seq-len", "256"),
        ("--model", "tiny", "--micro-batch", "4", "--seq-len", "256"),
        ("--model", "tiny", "--micro-batch", "4", "--seq-len", "512"),
        ("--model", "tiny", "--micro-batch", "16", "--seq-len", "128"),
    ),
    "cuda": (
        ("--model", "1b", "--micro-batch", "4", "--seq-len", "2048", "--dtype", "bf16"),
        ("--model", "1b", "--micro-batch", "2", "--seq-len", "2048", "--dtype", "bf16"),
        ("--model", "1b", "--micro-batch", "2", "--seq-len", "4096", "--dtype", "bf16"),
        ("--model", "3b", "--micro-batch", "2", "--seq-len", "2048", "--dtype", "bf16"),
    ),
}


CPU_TIME = """
import time
from hwprof.cli import cli
from hwprof.measure import timing
timing.WallTimer.mark = lambda self: timing.Mark(time.process_time())
cli()
"""


def one_run(folder: Path, options: tuple[str, ...], device: str, *, cpu_time: bool) -> RunRecord:
    program = ["-c", CPU_TIME] if cpu_time else ["-m", "hwprof"]
    line = [sys.executable, *program, "run", *options, "--device", device, "--output", str(folder), "--quiet"]
    subprocess.run([*line, "--workers", "0"], check=True, stdout=subprocess.DEVNULL)
    return read_run(folder)


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    cpu_time = "--cpu-time" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            one_run(Path(folder) / str(number), options, device, cpu_time=cpu_time)
            for number, options in enumerate(RUNS[device])
        ]
    known = runs[0].ceilings
    print(f"{'run':58} {'measured':>10} {'predicted':>10} {'error':>8} {'with own ceilings':>18}")
    for number, (options, run) in enumerate(zip(RUNS[device], runs, strict=True)):
        held_out, own = predicted(run.model_copy(update={"ceilings": known})), run.prediction
        assert run.step is not None
        assert held_out is not None
        assert own is not None
        measured_s = run.step.median_s
        label = " ".join(options) + (" (calibrates)" if number == 0 else "")
        print(
            f"{label:58} {measured_s:9.4f}s {held_out.step_s:9.4f}s {held_out.step_s / measured_s - 1:+8.1%} "
            f"{own.step_s / measured_s - 1:+18.1%}"
        )


if __name__ == "__main__":
    main()
