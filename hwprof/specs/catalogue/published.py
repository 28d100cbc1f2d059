"""What did others measure? Rows of published training runs, each with the place where it was printed."""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from hwprof.errors import InputError
from hwprof.specs.files import data_roots
from hwprof.specs.frozen import Record
from hwprof.specs.model.parts import PositiveInt
from hwprof.specs.reading import content_of

FOLDER = Path("hardware_specs") / "published"
TABLES = ("measurements.csv.xz", "more.csv.xz")


class PublishedRun(Record):
    """One published measurement: a configuration, and what its source says of step time or memory.

    Columns that the source leaves blank are None. Degrees are those of the source: ``dp`` leaves context ranks out,
    ``micro_batch_seqs`` is that of one replica. Of ``notes`` only a degree is read that has no column of its own in the
    shipped tables (``ETP=1``).
    """

    id: str
    model_name: str
    accelerator: str
    n_devices: PositiveInt
    seq_len: PositiveInt
    global_batch_seqs: PositiveInt
    framework: str = ""
    n_layers: PositiveInt | None = None
    hidden: PositiveInt | None = None
    ffn_hidden: PositiveInt | None = None
    n_heads: PositiveInt | None = None
    n_kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    vocab: PositiveInt | None = None
    gated_mlp: bool | None = None
    moe_experts: PositiveInt | None = None
    moe_topk: PositiveInt | None = None
    accel_mem_gb: float | None = Field(default=None, gt=0)
    devices_per_node: PositiveInt | None = None
    intra_node_link: str = ""
    inter_node_link_gbps_per_gpu: float | None = Field(default=None, gt=0)
    tp: PositiveInt | None = None
    sp: bool | None = None
    pp: PositiveInt | None = None
    vp: PositiveInt | None = None
    cp: PositiveInt | None = None
    ep: PositiveInt | None = None
    etp: PositiveInt | None = None
    dp: PositiveInt | None = None
    zero_stage_or_fsdp: str = ""
    precision: str = ""
    micro_batch_seqs: float | None = Field(default=None, gt=0)
    recompute: str = ""
    attention_impl: str = ""
    offload: str = ""
    compile: str = ""
    optimizer: str = ""
    lora_rank: PositiveInt | None = None
    qlora: bool | None = None
    fused_loss: str = ""
    attention_kernel: str = ""
    step_s: float | None = Field(default=None, gt=0)
    peak_mem_gib_per_device: float | None = Field(default=None, gt=0)
    source_title: str = ""
    source_ref: str = ""
    notes: str = ""


class UnreadableRun(Record):
    """A row that is no measurement: it lacks a needed value, or has one of the wrong kind."""

    id: str
    reason: str


def read_published(path: Path | None = None) -> tuple[PublishedRun | UnreadableRun, ...]:
    """The rows of a table of published runs, in its order; of those that hwprof ships where no path is given.

    Raises:
        InputError: the file can't be read, lacks a needed column, or has no row.
    """
    if path is None:
        shipped = [data_roots()[0] / FOLDER / name for name in TABLES]
        return tuple(run for each in shipped for run in _rows(_unpacked(each), each))
    return _rows(content_of(path, remedy="give a CSV file"), path)


def _unpacked(path: Path) -> bytes:
    """What is in a table that hwprof ships."""
    return lzma.decompress(path.read_bytes())


def _rows(content: bytes, path: Path) -> tuple[PublishedRun | UnreadableRun, ...]:
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        _check_columns(path, table.fieldnames or ())
        rows = tuple(_run(number, row) for number, row in enumerate(table, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}", expectation="expected a CSV file") from error
    if not rows:
        raise InputError(f"{path} has no rows", expectation="expected a row for each measurement")
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    required = [name for name, field in PublishedRun.model_fields.items() if field.is_required()]
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}",
            expectation=f"expected at least {', '.join(required)}",
            remedy="take the column names of the table that hwprof ships",
        )


def _run(number: int, row: dict[str, str | None]) -> PublishedRun | UnreadableRun:
    cells = {key: value.strip() for key, value in row.items() if key in PublishedRun.model_fields and value}
    try:
        return PublishedRun.model_validate({key: _typed(key, value) for key, value in cells.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(map(str, first["loc"]))
        shown = repr(cells[column]) if column in cells else "blank"
        return UnreadableRun(
            id=cells.get("id", f"line {number}"), reason=f"{column} is {shown}: {first['msg'].lower()}"
        )


def _typed(column: str, text: str) -> str | int | float | bool:
    """Text as the kind of its column (spreadsheets print 8 as 8.0); what can't be converted the schema refuses."""
    if PublishedRun.model_fields[column].annotation is str:
        return text
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    try:
        number = float(text)
    except ValueError:
        return text
    if not abs(number) < _LARGEST:  # also what is no number
        return text
    return int(number) if number.is_integer() else number


_LARGEST = 1e12
"""No cell of a published run is a count or a size above it; what is stays text, which the schema refuses."""

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
