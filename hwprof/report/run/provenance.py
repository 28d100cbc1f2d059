"""Where does each number come from? Tables of ceilings, what could not run, environment, settings, telemetry."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from hwprof.report.cells import Field, Table, build_table, number, percent, quantity_text, scale
from hwprof.report.run.absence import absence
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.run import RunRecord, Series


def _stability(ceiling: Ceiling) -> str:
    return "" if ceiling.stable is None else ("stable" if ceiling.stable else "unstable")


def _level(ceiling: Ceiling) -> str:
    size = f", {quantity_text(ceiling.level_bytes, 'byte')}" if ceiling.level_bytes else ""
    return (ceiling.level or ceiling.dtype) + size


def _plain(value: str | float) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _conditions(ceiling: Ceiling) -> str:
    return ", ".join(f"{key.replace('_', ' ')}: {_plain(value)}" for key, value in ceiling.conditions.items())


_CEILINGS: tuple[Field[Ceiling], ...] = (
    Field("ceiling", "Ceiling", lambda ceiling: ceiling.name, style="code"),
    Field("value", "Value", lambda ceiling: ceiling.value, "count", show=lambda c: quantity_text(c.value, c.unit)),
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


@dataclass(frozen=True, slots=True)
class _Fact:
    group: str
    name: str
    value: str


_FACTS: tuple[Field[_Fact], ...] = (
    Field("group", "Group", lambda fact: fact.group),
    Field("name", "Name", lambda fact: fact.name),
    Field("value", "Value", lambda fact: fact.value, style="long"),
)


@dataclass(frozen=True, slots=True)
class _SeriesSummary:
    name: str
    unit: str
    samples: int
    factor: float
    low: float
    middle: float
    high: float

    def words(self, value: float) -> str:
        """A value in the unit of the series."""
        return f"{number(value * self.factor, 4)} {self.unit}".strip()


_TELEMETRY: tuple[Field[_SeriesSummary], ...] = (
    Field("series", "Series", lambda line: line.name, style="code"),
    Field("samples", "Samples", lambda line: line.samples, "count"),
    Field("min", "Least", lambda line: line.low, "count", show=lambda line: line.words(line.low)),
    Field("median", "Median", lambda line: line.middle, "count", show=lambda line: line.words(line.middle)),
    Field("max", "Most", lambda line: line.high, "count", show=lambda line: line.words(line.high)),
)


@dataclass(frozen=True, slots=True)
class _LossLine:
    step: int
    loss: float


_LOSSES: tuple[Field[_LossLine], ...] = (
    Field("step", "Step", lambda line: line.step, "count"),
    Field("loss", "Loss [nats per token]", lambda line: line.loss, "count"),
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
    facts = [*_run_facts(record), *_device_facts(record), *_setting_facts(record), *_model_facts(record)]
    facts += [_Fact("environment", key, value) for key, value in record.environment.items()]
    return build_table("environment", "Environment", _FACTS, facts)


def _run_facts(record: RunRecord) -> list[_Fact]:
    rows = {
        "command": record.command,
        "created": record.created,
        "hwprof version": record.hwprof_version,
        "status": f"{record.status} {record.status_note}".strip(),
        "ranks": str(record.world_size),
        "evaluation loss": "" if record.eval_loss is None else f"{record.eval_loss:.4g} nats per token",
    }
    return [_Fact("run", name, value) for name, value in rows.items()]


def _device_facts(record: RunRecord) -> list[_Fact]:
    device = record.device
    memory = f"{quantity_text(device.memory_bytes, 'byte')} ({device.memory_source})" if device.memory_bytes else ""
    rows = {
        "name": device.name,
        "catalogue entry": device.catalogue_id or "none: only measured ceilings are used",
        "note": device.note,
        "memory": memory,
    }
    return [_Fact("device", name, value) for name, value in rows.items()]


def _setting_facts(record: RunRecord) -> list[_Fact]:
    settings = record.settings.model_dump()
    return [_Fact("settings", name.replace("_", " "), str(value)) for name, value in settings.items()]


def _model_facts(record: RunRecord) -> list[_Fact]:
    model = record.model.model_dump(exclude={"source", "aliases"})
    rows = {name.replace("_", " "): f"{value:,}" if type(value) is int else str(value) for name, value in model.items()}
    source = record.model.source
    rows |= {"defined in": source} if isinstance(source, str) else {f"source of {key}": source[key] for key in source}
    work = record.work
    if work is not None:
        rows |= {
            "parameters": f"{work.parameters:,}",
            "active parameters": "" if work.active_parameters is None else f"{work.active_parameters:,}",
            "work of a step, full attention": quantity_text(work.train_flop_full, "flop", 4),
            "work of a step, causal attention": quantity_text(work.train_flop_causal, "flop", 4),
            "recomputed work": quantity_text(work.recompute_flop_full, "flop", 4),
            "vector work (estimate)": quantity_text(work.vector_flop, "flop", 4),
            "bytes moved (estimate)": quantity_text(work.moved_bytes, "byte", 4),
            "tokens of a step": "" if work.tokens is None else f"{work.tokens:,}",
        }
    return [_Fact("model", name, value) for name, value in rows.items()]


def telemetry_table(record: RunRecord) -> Table:
    """Least, median and most of each series over the run."""
    lines = [_summary(series) for series in record.telemetry if any(map(math.isfinite, series.values))]
    return build_table("telemetry", "Telemetry", _TELEMETRY, lines, empty=absence(record, "telemetry"))


def _summary(series: Series) -> _SeriesSummary:
    values = [value for value in series.values if math.isfinite(value)]
    factor, unit = scale(series.unit, values)
    return _SeriesSummary(
        name=series.name,
        unit=unit,
        samples=len(values),
        factor=factor,
        low=min(values),
        middle=statistics.median(values),
        high=max(values),
    )


def loss_table(record: RunRecord) -> Table:
    """The training loss after each step."""
    lines = [_LossLine(step, loss) for step, loss in enumerate(record.losses, start=1)]
    note = ""
    if len(lines) > 1 and lines[0].loss:
        change = lines[-1].loss / lines[0].loss - 1
        note = f"The loss {'fell' if change < 0 else 'rose'} by {percent(abs(change))} over {len(lines)} steps."
    return build_table("losses", "Training loss", _LOSSES, lines, note=note, empty=absence(record, "training losses"))
