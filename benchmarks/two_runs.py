"""Do two runs on this machine agree, how steady are the probes, and what does the recorder cost?

Runs the main job twice in fresh processes and prints the figures side by side; ratios and shares, no absolute claims.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def one_run(folder: Path, model: str) -> dict:
    line = [sys.executable, "-m", "hwprof", "run", "--model", model, "--device", "cpu", "--output", str(folder)]
    subprocess.run([*line, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "run.json").read_text())


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    with tempfile.TemporaryDirectory() as folder:
        runs = [one_run(Path(folder) / str(number), model) for number in (1, 2)]
    steps = [run["step"] for run in runs]
    (low_a, high_a), (low_b, high_b) = (step["interval_s"] for step in steps)
    ratio = steps[1]["median_s"] / steps[0]["median_s"]
    print(f"step medians, second over first: {ratio:.4f}")
    print(f"intervals overlap: {low_a <= high_b and low_b <= high_a}")
    for number, run in enumerate(runs, 1):
        print(f"run {number}: explained share {run['attribution']['explained_fraction']:.4f}")
        print(f"run {number}: recorder overhead, profiler off {run['recorder_overhead_fraction']:+.4%}")
        low, high = run["marked_over_bare_interval"]
        print(f"run {number}: marked over bare steps, 95 % interval {low:+.2%} to {high:+.2%}")
        print(f"run {number}: profiler overhead inside the window {run['profiler_overhead_fraction']:+.2%}")
        print(f"run {number}: step spread {run['step']['spread']:.2%}")
        for ceiling in run["ceilings"]:
            if ceiling["spread"] is not None:
                print(f"run {number}: probe {ceiling['name']} spread {ceiling['spread']:.2%}")


if __name__ == "__main__":
    main()
