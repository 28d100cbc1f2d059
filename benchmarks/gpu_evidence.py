"""How good is hwprof on this GPU? Ceilings, predicted steps, bound classes and bytes against what can be measured.

    python benchmarks/gpu_evidence.py [--output DIR] [--budget 465]

Prints a table and writes ``evidence.json``, ``evidence.md`` and the run directories into DIR. It ends within the
budget (seconds), in less than eight minutes; a section that can't run here, or for which no time is left, says why.
Each has a process of its own and is written when it is done, so that one that hangs, or breaks the device's context,
costs no other. On a machine without a GPU it takes the same path with the model ``tiny`` on the CPU.

1. machine: what it is
2. ceilings: probed, against the datasheet and against figures that others measured
3. step: ``hwprof run`` of 1b, predicted against measured time and memory; those of 3b and 8b come after the counters
4. dram: bytes that the model counts against NVML's GPM counter, of the first step
5. counters: bound classes of the 20 longest kernels and the byte model against Nsight Compute, of the first step
6. overhead: steps with marks against steps without, profiled against unprofiled steps, size of the trace
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
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
from hwprof.specs.record.run import RunRecord
from hwprof.trace.ncu.report import read_counters
from hwprof.train.loop import Trainer
from hwprof.units import format_fraction, format_quantity, number
from hwprof.version import __version__

Row = dict[str, Any]

BUDGET_S = 465.0
NEEDED_S = {"machine": 20.0, "ceilings": 100.0, "step": 60.0, "dram": 25.0, "counters": 60.0, "overhead": 5.0}
"""Time without which a section is not begun on a GPU."""
LONGEST_S = {"machine": 30.0, "ceilings": 130.0, "step": 110.0, "dram": 40.0, "counters": 120.0, "overhead": 15.0}
"""Time after which a section is ended."""
DRAM_LOAD_S = 4.0
COUNTERS_READ_S = 15.0
"""What is left of the time of Nsight Compute to read what it wrote."""
NCU_PLACES = ("/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu")
"""Where Nsight Compute is put, beside PATH."""
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
GPU_RUN = ("--steps", "10", "--profiled-steps", "1", "--time-budget", "15")
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=Path("reports/gpu-evidence"))
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--section", help="this one alone, in this process")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of that section")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    device = resolve_device(chosen.device)
    if chosen.section:
        found = section(lambda: rows_of(chosen.section, device, chosen.output, chosen.limit))
        write(place_of(chosen.output, chosen.section), found)
        print(json.dumps(found, indent=1))
        return 0
    child = functools.partial(in_child, device=device, folder=chosen.output)
    print(as_markdown(gather(device, chosen.output, Clock(chosen.budget), run=child)))
    return 0


def sections_of(device: torch.device) -> tuple[str, ...]:
    """In this order: what needs the first step alone comes before the other steps, for which time may be short."""
    first, *others = (f"step-{model}" for model in (GPU_STEPS if device.type == "cuda" else CPU_STEPS))
    return ("machine", "ceilings", first, "dram", "counters", *others, "overhead")


Run = Callable[[str, float], Row]
"""Runs a section within so many seconds; its rows, or why there are none."""


def gather(device: torch.device, folder: Path, clock: Clock, *, run: Run) -> Row:
    """All sections; each has rows or says why it has none. What is there so far is written after each."""
    began_s = time.monotonic()
    evidence: Row = {"hwprof": __version__, "device": "unknown", "sections": {}}
    for name in sections_of(device):
        kind = name.partition("-")[0]
        print(f"-- {name} ({clock.left_s:.0f} s left)", file=sys.stderr, flush=True)
        if device.type == "cuda" and clock.left_s < NEEDED_S[kind]:
            found: Row = {
                "skipped": f"{clock.left_s:.0f} s are left, and it takes about {NEEDED_S[kind]:.0f} s",
            }
        else:
            found = run(name, min(LONGEST_S[kind], max(clock.left_s, 1.0)) if device.type == "cuda" else 600.0)
        if kind == "machine":
            evidence |= found["rows"][0] if "rows" in found else {"machine": found["skipped"]}
        elif kind == "step":
            rows = found.get("rows") or [{"model": name.removeprefix("step-"), **found}]
            evidence["sections"].setdefault("steps", {"rows": []})["rows"] += rows
        else:
            evidence["sections"][kind] = found
        evidence["took_s"] = round(time.monotonic() - began_s, 1)
        write(folder / "evidence.json", evidence)
        (folder / "evidence.md").write_text(as_markdown(evidence), encoding="utf-8")
    return evidence


def rows_of(name: str, device: torch.device, folder: Path, limit_s: float) -> list[Row]:
    """The rows of a section, measured in this process."""
    kind, _, model = name.partition("-")
    sections: dict[str, Callable[[], list[Row]]] = {
        "machine": lambda: machine_rows(device),
        "ceilings": lambda: ceiling_rows(device),
        "step": lambda: step_rows(model, device, folder),
        "dram": lambda: dram_rows(*first_on_gpu(folder)),
        "counters": lambda: counter_rows(*first_on_gpu(folder), folder, limit_s - COUNTERS_READ_S),
        "overhead": lambda: overhead_rows(folder),
    }
    return sections[kind]()


def section(rows: Callable[[], list[Row]]) -> Row:
    try:
        return {"rows": rows()}
    except (CannotRunError, HwprofError) as stop:
        return {"skipped": str(stop)}
    except Exception as error:  # noqa: BLE001 (one section's failure must not cost the others; its text is kept)
        return {"skipped": f"failed with {type(error).__name__}: {error}"}


def in_child(name: str, limit_s: float, *, device: torch.device, folder: Path) -> Row:
    """A section in a process of its own, which is ended with all that it started when its time is up."""
    place = place_of(folder, name)
    place.unlink(missing_ok=True)
    log = place.with_suffix(".log")
    with log.open("wb") as file:
        ended = within(command_of(name, device, folder, limit_s), limit_s, stdout=file, stderr=subprocess.STDOUT)
    if place.is_file():
        found: Row = json.loads(place.read_text(encoding="utf-8"))
        return found
    last = next(reversed(log.read_text(encoding="utf-8", errors="replace").splitlines()), "it said nothing")
    how = f"was not done after {limit_s:.0f} s" if ended is None else f"ended with {ended}"
    return {"skipped": f"its process {how}: {last}"}


def command_of(name: str, device: torch.device, folder: Path, limit_s: float) -> list[str]:
    what = ["--section", name, "--limit", str(limit_s), "--device", str(device), "--output", str(folder)]
    return [sys.executable, __file__, *what]


def within(command: Sequence[str], limit_s: float, **options: Any) -> int | None:
    """Run a program and what it starts, for so long at most; its exit code, None where it had to be ended."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        started = _started_by(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for one in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def _started_by(pid: int) -> list[psutil.Process]:
    """What a process started, and what that did: some, as ncu here, are in a session of their own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def place_of(folder: Path, name: str) -> Path:
    """Where a section's rows are kept."""
    place = folder / "sections" / f"{name}.json"
    place.parent.mkdir(exist_ok=True)
    return place


def write(path: Path, content: Row) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def machine_rows(device: torch.device) -> list[Row]:
    identity, spec = identify(device)
    return [{"device": identity.name, "catalogue_id": spec.id if spec else None, "environment": environment(device)}]


def ceiling_rows(device: torch.device) -> list[Row]:
    _, spec = identify(device)
    on_gpu = device.type == "cuda"
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


def step_rows(model: str, device: torch.device, folder: Path) -> list[Row]:
    """``hwprof run`` of one model."""
    on_gpu = device.type == "cuda"
    options = (*GPU_STEPS[model], *GPU_RUN) if on_gpu else (*CPU_STEPS[model], *CPU_RUN)
    where = ("--device", str(device), "--output", str(folder / model), "--quiet")
    with contextlib.redirect_stdout(io.StringIO()):
        run_command.main(["--model", model, *options, *where], standalone_mode=False)
    return [step_row(model, read_run(folder / model))]


def records_of(folder: Path) -> dict[str, RunRecord]:
    """The runs that came to their end, by model."""
    models = [model for model in (*GPU_STEPS, *CPU_STEPS) if (folder / model / "run.json").is_file()]
    records = {model: read_run(folder / model) for model in models}
    return {model: record for model, record in records.items() if record.status == "complete"}


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


def dram_rows(model: str, record: RunRecord) -> list[Row]:
    """The first run's step, again and again for some seconds beside NVML's GPM counters."""
    device = device_of(record)
    _, spec = identify(device)
    if spec is None:
        raise CannotRunError("the catalogue has no such device, and GPM gives DRAM traffic as a share of its peak")
    settings = record.run_settings.model_copy(update={"workers": 0})
    trainer = Trainer(record.spec, settings, data_path=None, device=device)
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
    trainer.close()
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


def device_of(record: RunRecord) -> torch.device:
    """The device that a run had."""
    return resolve_device(f"cuda:{record.environment.get('device.index', '0')}")


def counter_rows(model: str, record: RunRecord, folder: Path, limit_s: float) -> list[Row]:
    """Nsight Compute on one step of the first run, at the clocks that the run had."""
    path = folder / "ncu.csv"
    how = ["--profile-from-start", "off", "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base"]
    again = [sys.executable, "-m", "hwprof.cli.counted_step", str(folder / model)]
    with path.open("w", encoding="utf-8") as file:
        ended = within([find_ncu(), *how, "--metrics", ",".join(METRICS), *again], limit_s, stdout=file)
    try:
        found = held_against(record, read_counters(path), source=path.name)
    except HwprofError as error:
        how_ended = f"was not done after {limit_s:.0f} s" if ended is None else f"ended with {ended}"
        raise CannotRunError(f"ncu {how_ended}: {error}" if ended != 0 else str(error)) from error
    total: Row = {
        "kernel": f"{len(found.rows)} of {found.file_kernels} kernels matched",
        "bound_classes_agree": f"{found.agreeing} of {len(found.compared)}",
        "counted_over_measured": found.byte_ratio,
        "time_fraction": found.matched_time_fraction,
        "ncu_ended_with": "the time limit" if ended is None else ended,
    }
    return [total, *({**row.model_dump(), "counted_over_measured": row.byte_ratio} for row in found.rows[:20])]


def find_ncu() -> str:
    """Nsight Compute, on PATH or where CUDA puts it; the newest of several."""
    found = shutil.which("ncu") or next(
        (str(path) for pattern in NCU_PLACES for path in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)),
        None,
    )
    if found is None:
        raise CannotRunError(f"ncu (Nsight Compute) is neither on PATH nor at {' or '.join(NCU_PLACES)}")
    return found


def first_on_gpu(folder: Path) -> tuple[str, RunRecord]:
    records = records_of(folder)
    if not records:
        raise CannotRunError("no step ran")
    model, record = next(iter(records.items()))
    if record.run_settings.device != "cuda":
        raise CannotRunError("the steps ran on a CPU, which has no such counters")
    return model, record


def overhead_rows(folder: Path) -> list[Row]:
    records = records_of(folder)
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
