"""Live metrics as a text file that Prometheus' node exporter collects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwprof.specs.files import write_atomically

_HELP = {
    "hwprof_step_time_seconds": "Time of one optimizer step, mean over the steps since the last entry.",
    "hwprof_tokens_per_second": "Tokens per second of this rank.",
    "hwprof_samples_per_second": "Samples per second of this rank.",
    "hwprof_mfu_ratio": "Model FLOP utilisation, recompute excluded.",
    "hwprof_hfu_ratio": "Hardware FLOP utilisation, recompute included.",
    "hwprof_bound_share_ratio": "Share of the profiled step by bound class.",
    "hwprof_exposed_communication_ratio": "Share of the profiled step that waits for collectives.",
    "hwprof_slow_steps_total": "Steps that took far longer than those around them.",
    "hwprof_slow_steps_lost_seconds": "What these took beyond the usual, together.",
    "hwprof_drift_ratio": "Step time of the last tenth of the run over that of the first, less 1.",
    "hwprof_memory_bytes": "Memory that the allocator has given out, or of the process on a CPU.",
    "hwprof_memory_growth_bytes": "Growth of that memory a step, 0 where it does not grow all the time.",
    "hwprof_step": "Number of the step of this entry.",
}
_NAMES = {
    "hwprof/step_time_s": "hwprof_step_time_seconds",
    "hwprof/tokens_per_s": "hwprof_tokens_per_second",
    "hwprof/samples_per_s": "hwprof_samples_per_second",
    "hwprof/mfu": "hwprof_mfu_ratio",
    "hwprof/hfu": "hwprof_hfu_ratio",
    "hwprof/exposed_communication_share": "hwprof_exposed_communication_ratio",
    "hwprof/slow_steps": "hwprof_slow_steps_total",
    "hwprof/slow_steps_lost_s": "hwprof_slow_steps_lost_seconds",
    "hwprof/drift": "hwprof_drift_ratio",
    "hwprof/memory_bytes": "hwprof_memory_bytes",
    "hwprof/memory_growth_bytes_per_step": "hwprof_memory_growth_bytes",
}
"""Metric -> its name in Prometheus' convention (base unit as suffix, ratios from 0 to 1)."""

_BOUND = "hwprof/bound_share/"


class PrometheusFile:
    """Replaces a file with the newest metrics, whole or not at all.

    Args:
        path: in the collector's directory, with the ending ``.prom`` (``--collector.textfile.directory``).
        labels: labels of every line (``{"job": "pretrain", "rank": "0"}``).
    """

    def __init__(self, path: str | Path, labels: Mapping[str, str] | None = None) -> None:
        self._path = Path(path)
        self._labels = dict(labels or {})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of a step.

        Raises:
            WorkError: the file can't be written.
        """
        write_atomically(self._path, exposition({**metrics}, step, self._labels))

    def close(self) -> None:
        """The file stays as it was written last."""


def exposition(metrics: Mapping[str, float], step: int, labels: Mapping[str, str]) -> str:
    """Metrics in Prometheus' text format, version 0.0.4; what it has no name for is left out."""
    lines: dict[str, list[str]] = {"hwprof_step": [_line("hwprof_step", float(step), labels)]}
    for name, value in metrics.items():
        if name.startswith(_BOUND):
            bound = {**labels, "bound": name.removeprefix(_BOUND)}
            lines.setdefault("hwprof_bound_share_ratio", []).append(_line("hwprof_bound_share_ratio", value, bound))
        elif name in _NAMES:
            lines[_NAMES[name]] = [_line(_NAMES[name], value, labels)]
    families = (f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n" + "".join(lines[name]) for name in lines)
    return "".join(families)


def _line(name: str, value: float, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value!r}\n" if inside else f"{name} {value!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
