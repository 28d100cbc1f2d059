"""Parts of a record of round numbers, where a test is about a few of them: each is given what the test is about."""

from __future__ import annotations

from typing import Any

from made_up_model import made_up_model

from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import (
    Attribution,
    DeviceIdentity,
    OpResult,
    PhaseTime,
    RunRecord,
    RunSettings,
    StepTime,
)

_KINDS = {"matmul": "compute", "attention": "compute", "memory": "memory", "transfer": "transfer", "latency": "latency"}
_UNITS = {"compute": "flop_per_s", "latency": "s"}


def made_up_ceiling(name: str, value: float = 1.0, **changes: Any) -> Ceiling:
    """A measured ceiling; its name tells its kind and its unit."""
    kind = _KINDS.get(name.split(".", maxsplit=1)[0], "kernel")
    plain = {"kind": kind, "unit": _UNITS.get(kind, "byte_per_s"), "origin": "measured", "source": "made up"}
    return Ceiling(name=name, value=value, **plain | changes)


def made_up_op(label: str, time_s: float, **changes: Any) -> OpResult:
    """An operation of the forward pass in which nothing is counted, with changes."""
    plain: dict[str, Any] = {
        "layer_kind": "ffn",
        "phase": "forward",
        "direction": "forward",
        "calls": 1.0,
        "share": 0.1,
        "matmul_flop": 0.0,
        "vector_flop": 0.0,
        "read_bytes": 0.0,
        "write_bytes": 0.0,
        "intensity_flop_per_byte": None,
        "flop_per_s": 0.0,
        "byte_per_s": 0.0,
        "roof_name": "",
        "roof_s": 0.0,
        "roof_fraction": None,
        "bound": "unknown",
        "margin": None,
        "confidence": "low",
        "lost_s": 0.0,
    }
    return OpResult(label=label, time_s=time_s, **plain | changes)


def made_up_phase(name: str, median_s: float, **changes: Any) -> PhaseTime:
    """A phase of a step of 1 s, sampled once, with changes."""
    plain = {"interval_s": (median_s, median_s), "share": median_s, "in_step": True, "samples_s": (median_s,)}
    return PhaseTime(name=name, median_s=median_s, **plain | changes)


def made_up_step(median_s: float, **changes: Any) -> StepTime:
    """A step that took the same time whenever it ran, with changes."""
    plain: dict[str, Any] = {
        "interval_s": (median_s, median_s),
        "samples_s": (median_s,),
        "spread": 0.0,
        "stable": True,
        "warmups": 1,
        "tokens_per_s": 1024.0,
    }
    return StepTime(median_s=median_s, **plain | changes)


def made_up_attribution(step_s: float = 1.0, **changes: float) -> Attribution:
    """A step that is all computation, with changes."""
    plain = {
        "compute_s": step_s,
        "exposed_communication_s": 0.0,
        "exposed_copy_s": 0.0,
        "idle_host_s": 0.0,
        "idle_input_s": 0.0,
        "residue_s": 0.0,
        "explained_fraction": 1.0,
        "attributed_op_fraction": 1.0,
    }
    return Attribution(step_s=step_s, **plain | changes)


def made_up_record(*, on: str = "cpu", **changes: Any) -> RunRecord:
    """A complete run that measured nothing, with changes."""
    plain: dict[str, Any] = {
        "hwprof_version": "0.1.0",
        "status": "complete",
        "created": "2026-01-15T10:30:00+00:00",
        "command": "hwprof run",
        "settings": RunSettings(model="small", device=on, micro_batch=1, seq_len=16),
        "model": made_up_model(),
        "environment": {},
        "device": DeviceIdentity(name=on.upper(), catalogue_id=None, note=""),
    }
    return RunRecord(**plain | changes)
