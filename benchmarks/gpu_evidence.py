"""How good is hwprof on this GPU? Ceilings, predicted steps, bound classes and bytes against what can be measured.

    python benchmarks/gpu_evidence.py [--output DIR] [--budget 540]

Prints a table and writes ``evidence.json``, ``evidence.md`` and the run directories into DIR. It ends within the
budget (seconds); a section that can't run here, or for which no time is left, says why. On a machine without a GPU it
takes the same path with the model ``tiny`` on the CPU.

1. ceilings: probed, against the datasheet and against figures that others measured
2. steps: ``hwprof run`` of 1b, 3b and 8b, predicted against measured time and memory
3. counters: bound classes of the 20 longest kernels and the byte model against Nsight Compute, of the first step
4. dram: bytes that the model counts against NVML's GPM counter, of the first step
5. overhead: steps with marks against steps without, profiled against unprofiled steps, size of the trace
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hwprof.cli.counted_step import WARMUP_STEPS
from hwprof.cli.run import command as run_command
from hwprof.compare.counters import held_against
from hwprof.errors import HwprofError
from hwprof.measure.host.environment import environment, resolve_device
from hwprof.measure.host.identity import identify
from hwprof.measure.probes.device import probe_device
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.report.files.run import read_run
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.record.run import RunRecord
from hwprof.trace.ncu.report import read_counters
from hwprof.train.loop import Trainer
from hwprof.units import format_fraction, format_quantity, number
from hwprof.version import __version__

Row = dict[str, Any]

BUDGET_S = 540.0
NEEDED_S = {"ceilings": 120.0, "step": 75.0, "dram": 15.0, "counters": 90.0}
"""Time without which a section is not begun on a GPU."""
NCU_LIMIT_S = 200.0
DRAM_LOAD_S = 4.0
METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
)
GPU_STEPS = {
    "1b": ("--dtype", "bf16"),
    "3b": ("--dtype", "bf16", "--micro-batch", "1"),
    "8b": ("--dtype", "bf16", "--micro-batch", "1", "--optimizer", "sgd", "--recompute", "full"),
}
GPU_RUN = ("--steps", "10", "--profiled-steps", "1", "--time-budget", "20")
CPU_STEPS = {"tiny": ("--dtype", "fp32", "--micro-batch", "1", "--seq-len", "64")}
CPU_RUN = ("--steps", "6", "--profiled-steps", "1", "--warmup-steps", "1", "--time-budget", "5", "--workers", "0")

MAMF = "ml-engineering, compute/accelerator/README.md, best of mamf-finder"
KNOWN: dict[tuple[str, str], tuple[float, str]] = {
    ("a100-sxm4-80gb", "matmul.bf16"): (271.2e12, MAMF),
    ("h100-sxm5-80gb", "matmul.bf16"): (794.5e12, MAMF),
    ("h100-sxm5-80gb", "matmul.fp8"): (1402.6e12, MAMF),
    ("h200-sxm5-141gb", "matmul.bf16"): (790e12, "random data, measured by hand"),
    ("h200-sxm5-141gb", "memory.dram"): (4.3e12, "device copy, read and written, measured by hand"),
    ("b200-sxm-180gb", "matmul.bf16"): (1745.0e12, MAMF),
}
"""(catalogue id, ceiling) -> what others reached, and who."""


class CannotRunError(Exception):
    """Why a section has no rows."""


class Clock:
    """The time that is left."""

    def __init__(self, budget_s: float) -> None:
        self._ends_s = time.monotonic() + budget_s

    @property
    def left_s(self) -> float:
        return self._ends_s - time.monotonic()

    def require(self, what: str) -> None:
        if self.left_s < NEEDED_S[what]:
            raise CannotRunError(f"{self.left_s:.0f} s are left, and it takes about {NEEDED_S[what]:.0f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=Path("reports/gpu-evidence"))
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    device = resolve_device(chosen.device)
    evidence = gather(device, chosen.output, Clock(chosen.budget))
    (chosen.output / "evidence.json").write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(evidence)
    (chosen.output / "evidence.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def gather(device: torch.device, folder: Path, clock: Clock) -> Row:
    """All sections; each has rows or says why it has none."""
    began_s = time.monotonic()
    identity, spec = identify(device)
    on_gpu = device.type == "cuda"
    records: dict[str, RunRecord] = {}
    sections: dict[str, Row] = {}

    def add(name: str, rows: Callable[[], list[Row]]) -> None:
        print(f"-- {name} ({clock.left_s:.0f} s left)", file=sys.stderr, flush=True)
        sections[name] = section(rows)

    add("ceilings", lambda: ceiling_rows(device, spec, clock))
    add("steps", lambda: step_rows(GPU_STEPS if on_gpu else CPU_STEPS, folder, clock, records, on_gpu=on_gpu))
    add("dram", lambda: dram_rows(records, spec, clock))
    add("counters", lambda: counter_rows(records, folder, clock))
    add("overhead", lambda: overhead_rows(records, folder))
    return {
        "hwprof": __version__,
        "device": identity.name,
        "catalogue_id": spec.id if spec else None,
        "environment": environment(device),
        "took_s": round(time.monotonic() - began_s, 1),
        "sections": sections,
    }


def section(rows: Callable[[], list[Row]]) -> Row:
    try:
        return {"rows": rows()}
    except (CannotRunError, HwprofError) as stop:
        return {"skipped": str(stop)}
    except Exception as error:  # noqa: BLE001 (one section's failure must not cost the others; its text is kept)
        return {"skipped": f"failed with {type(error).__name__}: {error}"}


def ceiling_rows(device: torch.device, spec: DeviceSpec | None, clock: Clock) -> list[Row]:
    on_gpu = device.type == "cuda"
    if on_gpu:
        clock.require("ceilings")
    found = probe_device(device, dtypes=("bf16", "fp16", "tf32", "fp32") if on_gpu else ("fp32",), quick=not on_gpu)
    peaks = {one.name: one.value for one in (datasheet_ceilings(spec) if spec else ())}
    fp8 = spec.matmul_flop_per_s("fp8") if spec and on_gpu else None
    peaks |= {"matmul.fp8": fp8} if fp8 else {}
    rows: list[Row] = []
    for one in found.ceilings:
        known, source = KNOWN.get((spec.id if spec else "", one.name), (None, ""))
        peak = peaks.get(one.name)
        rows.append(
            {
                "ceiling": one.name,
                "value": one.value,
                "unit": one.unit,
                "stable": one.stable,
                "datasheet": peak,
                "of_datasheet": one.value / peak if peak else None,
                "known": known,
                "of_known": one.value / known if known else None,
                "known_source": source,
                "conditions": one.conditions,
            }
        )
    return rows + [{"ceiling": skip.name, "skipped": skip.reason} for skip in found.skipped]


def step_rows(
    steps: dict[str, tuple[str, ...]], folder: Path, clock: Clock, records: dict[str, RunRecord], *, on_gpu: bool
) -> list[Row]:
    """One run a model; ``records`` gets those that came to their end."""
    rows: list[Row] = []

    def one(model: str, options: Sequence[str]) -> list[Row]:
        if on_gpu:
            clock.require("step")
        records[model] = run(model, options, folder / model, on_gpu=on_gpu)
        return [step_row(model, records[model])]

    for model, options in steps.items():
        found = section(functools.partial(one, model, (*options, *(GPU_RUN if on_gpu else CPU_RUN))))
        rows += found.get("rows") or [{"model": model, **found}]
    return rows


def run(model: str, options: Sequence[str], directory: Path, *, on_gpu: bool) -> RunRecord:
    """``hwprof run`` in this process; its memory is given back."""
    where = ("--device", "cuda" if on_gpu else "cpu", "--output", str(directory), "--quiet")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run_command.main(["--model", model, *options, *where], standalone_mode=False)
    finally:
        give_memory_back()
    return read_run(directory)


def give_memory_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def step_row(model: str, record: RunRecord) -> Row:
    step, prediction, memory = record.step, record.prediction, record.memory
    measured_s = step.median_s if step else None
    predicted_s = prediction.step_s if prediction else None
    counted_bytes = memory.predicted_peak_bytes if memory else None
    peak_bytes = memory.measured_peak_bytes if memory else None
    return {
        "model": model,
        "settings": record.run_settings.model_dump(mode="json"),
        "measured_s": measured_s,
        "stable": step.stable if step else None,
        "predicted_s": predicted_s,
        "time_error": error_of(predicted_s, measured_s),
        "predicted_bytes": counted_bytes,
        "measured_bytes": peak_bytes,
        "memory_error": error_of(counted_bytes, peak_bytes),
        "mfu": step.mfu if step else None,
        "bound": record.bound,
        "explained_fraction": record.attribution.explained_fraction if record.attribution else None,
    }


def error_of(predicted: float | None, measured: float | None) -> float | None:
    return predicted / measured - 1 if predicted and measured else None


def dram_rows(records: dict[str, RunRecord], spec: DeviceSpec | None, clock: Clock) -> list[Row]:
    """The first run's step, again and again for some seconds beside NVML's GPM counters."""
    model, record = first_on_gpu(records)
    clock.require("dram")
    if spec is None:
        raise CannotRunError("the catalogue has no such device, and GPM gives DRAM traffic as a share of its peak")
    device = resolve_device("cuda")
    settings = record.run_settings.model_copy(update={"workers": 0})
    trainer = Trainer(record.spec, settings, data_path=None, device=device)
    try:
        for _ in range(WARMUP_STEPS):
            trainer.step()
        torch.cuda.synchronize(device)
        with Telemetry(device.index or 0) as telemetry:
            began_s, steps = time.monotonic(), 0
            while time.monotonic() - began_s < DRAM_LOAD_S:
                trainer.step()
                torch.cuda.synchronize(device)
                steps += 1
            step_s = (time.monotonic() - began_s) / steps
    finally:
        trainer.close()
        del trainer
        give_memory_back()
    series = {one.name: one.values for one in telemetry.series}
    if "gpu.dram_bandwidth" not in series:
        reason = next((skip.reason for skip in telemetry.skipped if skip.name.startswith("gpu")), "no reason given")
        raise CannotRunError(f"NVML's GPM gives no DRAM counter: {reason}")
    share = statistics.mean(series["gpu.dram_bandwidth"])
    measured_bytes = share * spec.memory.bandwidth_byte_per_s * step_s
    counted_bytes = record.work.moved_bytes if record.work else None
    return [
        {
            "model": model,
            "step_s": step_s,
            "dram_fraction": share,
            "tensor_fraction": statistics.mean(series.get("gpu.tensor_active", (0.0,))),
            "measured_bytes": measured_bytes,
            "counted_bytes": counted_bytes,
            "counted_over_measured": counted_bytes / measured_bytes if counted_bytes and measured_bytes else None,
        }
    ]


def counter_rows(records: dict[str, RunRecord], folder: Path, clock: Clock) -> list[Row]:
    """Nsight Compute on one step of the first run."""
    model, record = first_on_gpu(records)
    ncu = shutil.which("ncu")
    if ncu is None:
        raise CannotRunError("ncu (Nsight Compute) is not on PATH")
    clock.require("counters")
    path = folder / "ncu.csv"
    how = ["--profile-from-start", "off", "--csv", "--page", "raw", "--print-units", "base"]
    again = [sys.executable, "-m", "hwprof.cli.counted_step", str(folder / model)]
    limit_s = min(NCU_LIMIT_S, clock.left_s - 15)
    with path.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                [ncu, *how, "--metrics", ",".join(METRICS), *again], stdout=file, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotRunError(f"ncu was not done with one step after {limit_s:.0f} s") from None
    if done.returncode and "ERR_NVGPUCTRPERM" not in path.read_text(encoding="utf-8", errors="replace"):
        raise CannotRunError(f"ncu ended with {done.returncode}")
    found = held_against(record, read_counters(path), source=path.name)
    total: Row = {
        "kernel": f"{len(found.rows)} of {found.file_kernels} kernels matched",
        "bound_classes_agree": f"{found.agreeing} of {len(found.compared)}",
        "counted_over_measured": found.byte_ratio,
        "time_fraction": found.matched_time_fraction,
    }
    return [total, *({**row.model_dump(), "counted_over_measured": row.byte_ratio} for row in found.rows[:20])]


def first_on_gpu(records: dict[str, RunRecord]) -> tuple[str, RunRecord]:
    if not records:
        raise CannotRunError("no step ran")
    model, record = next(iter(records.items()))
    if record.run_settings.device != "cuda":
        raise CannotRunError("the steps ran on a CPU, which has no such counters")
    return model, record


def overhead_rows(records: dict[str, RunRecord], folder: Path) -> list[Row]:
    if not records:
        raise CannotRunError("no step ran")
    rows = []
    for model, record in records.items():
        trace = folder / model / "trace.json.gz"
        rows.append(
            {
                "model": model,
                "marks": record.recorder_overhead_fraction,
                "marked_over_bare": record.marked_over_bare_interval,
                "profiled_over_unprofiled": record.profiler_overhead_fraction,
                "trace_bytes": trace.stat().st_size if trace.is_file() else None,
            }
        )
    return rows


SHOWN: dict[str, dict[str, str]] = {
    "ceilings": {"ceiling": "", "value": "unit", "of_datasheet": "fraction", "of_known": "fraction", "stable": ""},
    "steps": {
        "model": "",
        "measured_s": "s",
        "predicted_s": "s",
        "time_error": "fraction",
        "measured_bytes": "byte",
        "predicted_bytes": "byte",
        "memory_error": "fraction",
        "mfu": "fraction",
        "bound": "",
    },
    "dram": {"model": "", "dram_fraction": "fraction", "tensor_fraction": "fraction", "counted_over_measured": "ratio"},
    "counters": {
        "kernel": "",
        "time_s": "s",
        "counted_bound": "",
        "measured_bound": "",
        "counted_over_measured": "ratio",
        "bound_classes_agree": "",
    },
    "overhead": {
        "model": "",
        "marks": "fraction",
        "marked_over_bare": "fraction",
        "profiled_over_unprofiled": "fraction",
        "trace_bytes": "byte",
    },
}
"""Section -> column -> its quantity; the unit of a ceiling stands in its own row."""


def as_markdown(evidence: Row) -> str:
    lines = [f"# Evidence on {evidence['device']}", "", f"hwprof {evidence['hwprof']}, {evidence['took_s']} s", ""]
    for name, found in evidence["sections"].items():
        lines += [f"## {name}", ""]
        if "skipped" in found:
            lines += [f"Could not run: {found['skipped']}", ""]
            continue
        columns = SHOWN[name]
        lines += [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
        whole = [row for row in found["rows"] if "skipped" not in row]
        lines += [f"| {' | '.join(cell(row, column, kind) for column, kind in columns.items())} |" for row in whole]
        lines += ["", *(f"- {first(row)}: {row['skipped']}" for row in found["rows"] if "skipped" in row), ""]
    return "\n".join(lines)


def first(row: Row) -> str:
    return str(next(iter(row.values())))


def cell(row: Row, column: str, kind: str) -> str:
    value = row.get(column)
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " to ".join(format_fraction(end) for end in value)
    if not kind or isinstance(value, str):
        return str(value)
    if kind == "fraction":
        return format_fraction(value)
    return number(value) if kind == "ratio" else format_quantity(value, row["unit"] if kind == "unit" else kind)


if __name__ == "__main__":
    sys.exit(main())
