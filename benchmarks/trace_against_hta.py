"""Is `hwprof trace` faster and smaller than Holistic Trace Analysis on a large trace, and are the numbers the same?

    python benchmarks/trace_against_hta.py --hta-python DIR/bin/python     times and peak memory, side by side
    python benchmarks/trace_against_hta.py --hta-python ... --golden      rewrites tests/trace/hta_golden.json

HolisticTraceAnalysis brings some 80 packages (JupyterLab among them), so it has an environment of its own:

    python -m venv DIR && DIR/bin/pip install HolisticTraceAnalysis==0.5.0

Each tool runs in a process of its own, on the same file: reading, temporal breakdown, kernel breakdown, overlap. For
hwprof that is all that `hwprof trace` does, the critical path and the operator tables among it. CPU seconds are
printed beside wall seconds: other work on the machine lengthens only the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import kineto  # noqa: E402 (found by the line before)

GOLDEN = ROOT / "tests" / "trace" / "hta_golden.json"

_PEAK = """
from pathlib import Path
def peak_bytes():  # not ru_maxrss, which begins with what the parent process held
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) * 1024
"""

HTA = (
    _PEAK
    + """
import json, sys, time
wall, cpu = time.time(), time.process_time()
from hta.trace_analysis import TraceAnalysis
files = dict(enumerate(sys.argv[1:]))
analysis = TraceAnalysis(trace_files=files, trace_dir="/", include_last_profiler_step=True)
loaded = time.time() - wall, time.process_time() - cpu
temporal = analysis.get_temporal_breakdown(visualize=False)
kinds, kernels = analysis.get_gpu_kernel_breakdown(
    visualize=False, num_kernels=10**6, duration_ratio=1.0, include_memory_kernels=True)
overlap = analysis.get_comm_comp_overlap(visualize=False)
print(json.dumps({
    "load_wall_s": loaded[0], "load_cpu_s": loaded[1],
    "wall_s": time.time() - wall, "cpu_s": time.process_time() - cpu,
    "peak_bytes": peak_bytes(),
    "temporal": json.loads(temporal.to_json(orient="records")),
    "kinds": json.loads(kinds.to_json(orient="records")),
    "kernels": json.loads(kernels.to_json(orient="records")),
    "overlap": json.loads(overlap.to_json(orient="records")),
}))
"""
)
HWPROF = (
    _PEAK
    + """
import json, sys, time
wall, cpu = time.time(), time.process_time()
from hwprof.spans.read.file import read_trace
from hwprof.trace.analysis import analyse
if len(sys.argv) > 2:
    read_trace(Path(sys.argv[1]))
else:
    analyse([Path(sys.argv[1])])
print(json.dumps({"wall_s": time.time() - wall, "cpu_s": time.process_time() - cpu,
    "peak_bytes": peak_bytes()}))
"""
)


def output_of(python: str, program: str, *args: str) -> dict:
    environment = {**os.environ, "HTA_DISABLE_NS_ROUNDING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", program, *args], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def rewrite_golden(hta_python: str) -> None:
    golden = {}
    for name, (loop, world_size) in kineto.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            files = [
                str(file.write(Path(folder) / f"rank{rank}.json"))
                for rank, file in enumerate(kineto.simulate(loop, world_size))
            ]
            found = output_of(hta_python, HTA, *files)
        golden[name] = {key: found[key] for key in ("temporal", "kinds", "kernels", "overlap")}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    print(f"wrote {GOLDEN}")


def compare(hta_python: str, path: Path) -> None:
    size_bytes = path.stat().st_size
    print(f"trace of {size_bytes / 1e6:.0f} MB")
    read = output_of(sys.executable, HWPROF, str(path), "read")
    ours = output_of(sys.executable, HWPROF, str(path))
    theirs = output_of(hta_python, HTA, str(path))
    rows = [
        ("load, CPU s", theirs["load_cpu_s"], read["cpu_s"]),
        ("load, wall s", theirs["load_wall_s"], read["wall_s"]),
        ("load and analyse, CPU s", theirs["cpu_s"], ours["cpu_s"]),
        ("load and analyse, wall s", theirs["wall_s"], ours["wall_s"]),
        ("peak memory, MB", theirs["peak_bytes"] / 1e6, ours["peak_bytes"] / 1e6),
    ]
    print(f"{'':28}{'HTA':>10}{'hwprof':>10}{'ratio':>10}")
    for title, hta, hwprof in rows:
        print(f"{title:28}{hta:10.1f}{hwprof:10.1f}{hta / hwprof:9.1f}x")
    print(f"hwprof's peak memory over the size of the trace: {ours['peak_bytes'] / size_bytes:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hta-python", required=True, help="interpreter that has HolisticTraceAnalysis")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--layers", type=int, default=1800, help="1800 layers and 12 steps make 310 MB")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--stack", action="store_true", help="with the Python frames of with_stack=True, too")
    args = parser.parse_args()
    if args.golden:
        rewrite_golden(args.hta_python)
        return
    with tempfile.TemporaryDirectory() as folder:
        loop = kineto.Loop(layers=args.layers, steps=args.steps, frames=20 if args.stack else 0)
        compare(args.hta_python, kineto.simulate(loop, 2)[0].write(Path(folder) / "rank0.json"))


if __name__ == "__main__":
    main()
