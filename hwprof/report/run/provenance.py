"""Where does each number come from? Tables of ceilings, what could not run, environment, settings, telemetry."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from hwprof.report.cells import Field, Table, build_table
from hwprof.report.run.absence import absence
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.run import DeviceIdentity, RunRecord, Series
from hwprof.units import format_bytes, format_flop, format_fraction, format_quantity, number


def _stability(ceiling: Ceiling) -> str:
    return "" if ceiling.stable is None else ("stable" if ceiling.stable else "unstable")


def _level(ceiling: Ceiling) -> str:
    size = f", {format_bytes(ceiling.level_bytes)}" if ceiling.level_bytes else ""
    return (ceiling.level or ceiling.dtype) + size


def _conditions(ceiling: Ceiling) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')}: {number(value) if isinstance(value, float) else value}"
        for key, value in ceiling.conditions.items()
    )


_CEILINGS: tuple[Field[Ceiling], ...] = (
    Field("ceiling", "Ceiling", lambda ceiling: ceiling.name, style="code"),
    Field("value", "Value", lambda ceiling: ceiling.value, "count", show=lambda c: format_quantity(c.value, c.unit)),
    Field("origin", "Origin", lambda ceiling: ceiling.origin, meaning="measured, calibrated, datasheet or assumed"),
    Field("source", "Source", lambda ceiling: ceiling.source, style="long"),
    Field("samples", "Samples", lambda ceiling: len(ceiling.samples) or None, "count"),
    Field("spread", "Spread", lambda ceiling: ceiling.spread, "fraction", meaning="interquartile range over median"),
    Field("stable", "Verdict", _stability, meaning="stable: spread of at most 5 %, and no other process took the CPU"),
    Field("level", "Level or type", _level, meaning="memory level and its size, or data type"),
    Field("conditions", "Conditions", _conditions, style="long"),
)

_SKIPPED: tuple[Field[Skipped], ...] = (
    Field("name", "Probe or reader", lambda item: item.name, style="code"),
    Field("reason", "Why it could not run", lambda item: item.reason, style="long"),
    Field("remedy", "What to do", lambda item: item.remedy, style="long"),
)


_FACTS: tuple[Field[tuple[str, str, str]], ...] = (
    Field("group", "Group", lambda fact: fact[0]),
    Field("name", "Name", lambda fact: fact[1]),
    Field("value", "Value", lambda fact: fact[2], style="long"),
)


def _known(series: Series) -> list[float]:
    return [value for value in series.values if math.isfinite(value)]


def _of_known(name: str, title: str, pick: Callable[[list[float]], float]) -> Field[Series]:
    """One number of all known values, in the unit of the series."""
    return Field(
        name,
        title,
        lambda series: pick(_known(series)),
        "count",
        show=lambda series: format_quantity(pick(_known(series)), series.unit),
    )


_TELEMETRY: tuple[Field[Series], ...] = (
    Field("series", "Series", lambda series: series.name, style="code"),
    Field("samples", "Samples", lambda series: len(_known(series)), "count"),
    _of_known("min", "Least", min),
    _of_known("median", "Median", statistics.median),
    _of_known("max", "Most", max),
)

_LOSSES: tuple[Field[tuple[int, float]], ...] = (
    Field("step", "Step", lambda line: line[0], "count"),
    Field("loss", "Loss", lambda line: line[1], "nats_per_token"),
)


def ceiling_table(record: RunRecord) -> Table:
    """Every ceiling with its origin, method and stability."""
    empty = absence(record, "ceilings")
    return build_table("ceilings", "Ceilings", _CEILINGS, record.ceilings, empty=empty)


def skipped_table(record: RunRecord) -> Table:
    """Every probe or reader that could not run, and what to do about it."""
    complete = record.status == "complete"
    empty = "Everything that was asked for could run." if complete else "Nothing was skipped before the run stopped."
    return build_table("skipped", "What could not run", _SKIPPED, record.skipped, empty=empty)


def environment_table(record: RunRecord) -> Table:
    """Run, device, settings, model and environment, as name and value."""
    asked = record.settings.model_dump()
    unused = _OF_TRAINING if record.generation else {"new_tokens"}
    settings = {name.replace("_", " "): str(value) for name, value in asked.items() if name not in unused}
    groups = {
        "run": _run_facts(record),
        "device": _device_facts(record.device),
        "settings": settings,
        "model": _model_facts(record),
        "environment": record.environment,
    }
    facts = [(group, name, value) for group, values in groups.items() for name, value in values.items()]
    return build_table("environment", "Environment", _FACTS, facts)


_OF_TRAINING = {
    *("target_len", "gradient_accumulation", "optimizer", "optimizer_implementation", "learning_rate", "clip_norm"),
    *("recompute", "compile", "tokenizer", "workers", "eval_batches", "layout"),
}
"""Settings that a step does not have which generates."""


def _run_facts(record: RunRecord) -> dict[str, str]:
    loss = record.eval_loss
    return {
        "command": record.command,
        "created": record.created,
        "hwprof version": record.hwprof_version,
        "status": f"{record.status} {record.status_note}".strip(),
        "ranks": str(record.world_size),
        "evaluation loss": "" if loss is None else format_quantity(loss, "nats_per_token"),
    }


def _device_facts(device: DeviceIdentity) -> dict[str, str]:
    return {
        "name": device.name,
        "catalogue entry": device.catalogue_id or "none: only measured ceilings are used",
        "note": device.note,
        "memory": f"{format_bytes(device.memory_bytes)} ({device.memory_source})" if device.memory_bytes else "",
    }


def _model_facts(record: RunRecord) -> dict[str, str]:
    model = record.model.model_dump(exclude={"source", "aliases"})
    facts = {
        name.replace("_", " "): f"{value:,}" if type(value) is int else str(value) for name, value in model.items()
    }
    source, work = record.model.source, record.work
    facts |= {"defined in": source} if isinstance(source, str) else {f"source of {key}": source[key] for key in source}
    if work is not None:
        facts |= {
            "parameters": f"{work.parameters:,}",
            "active parameters": "" if work.active_parameters is None else f"{work.active_parameters:,}",
            "work of a step, full attention": format_flop(work.train_flop_full),
            "work of a step, causal attention": format_flop(work.train_flop_causal),
            "recomputed work": format_flop(work.recompute_flop_full),
            "vector work (estimate)": format_flop(work.vector_flop),
            "bytes moved (estimate)": format_bytes(work.moved_bytes),
            "tokens of a step": "" if work.tokens is None else f"{work.tokens:,}",
        }
    return facts


def telemetry_table(record: RunRecord) -> Table:
    """Least, median and most of each series over the run."""
    items = [series for series in record.telemetry if _known(series)]
    return build_table("telemetry", "Telemetry", _TELEMETRY, items, empty=absence(record, "telemetry"))


def loss_table(record: RunRecord) -> Table:
    """The training loss after each step."""
    losses, note = record.losses, ""
    if len(losses) > 1 and losses[0]:
        change = losses[-1] / losses[0] - 1
        note = (
            f"The loss {'fell' if change < 0 else 'rose'} by {format_fraction(abs(change))} over {len(losses)} steps."
        )
    items, empty = list(enumerate(losses, start=1)), absence(record, "training losses")
    return build_table("losses", "Training loss", _LOSSES, items, note=note, empty=empty)
