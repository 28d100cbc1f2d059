"""What does hwprof predict for a table of measured servers? Each row from its configuration alone, then the errors."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path

import numpy as np

from hwprof.deploy.config import model_from_config, read_config
from hwprof.deploy.engine import EngineFile, EngineName, engine_file, engine_named
from hwprof.deploy.formats import formats_of
from hwprof.deploy.kernels import Floats, Share
from hwprof.deploy.layouts import Layout, fleet_of_row
from hwprof.deploy.links import links_of
from hwprof.deploy.model import ServedModel
from hwprof.deploy.names import known_model
from hwprof.deploy.passes import Deployment
from hwprof.deploy.server import Fleet, Load, Passes, Served, joined_passes, passes_of, served
from hwprof.deploy.speculation import drafted, perhaps_drafted
from hwprof.errors import HwprofError, InputError
from hwprof.specs.catalogue.lookup import load_device

NEEDED = ("backend", "model_path", "device", "precision", "mode", "prompt_tokens", "new_tokens", "concurrency")

SHIPPED_TABLE = Path("hardware_specs") / "serving" / "measured.csv.xz"
"""Servers that others measured, times to seven digits, to which the engines' numbers are fitted."""

MODES = ("agg", "disagg")

USUAL_USERS = 32.0
"""Requests under way where a row says neither how many nor how large its batches are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row, understood."""

    deployment: Deployment
    engine: EngineName
    layout: Layout
    prompt: float
    new: float
    users: float
    drafts: bool
    perhaps: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRows:
    """Rows of a table and what is predicted for them, in its order.

    Attributes:
        rows: the table's.
        times: seconds [rows, 6]: time to the first token with its interval, time of a token with its interval; not a
            number where refused.
        refused: why a row has no prediction, or empty.
        notes: what was assumed.
        measured: seconds [rows, 2], where the table has them.
    """

    rows: Sequence[Mapping[str, str]]
    times: Floats
    refused: tuple[str, ...]
    notes: tuple[tuple[str, ...], ...]
    measured: Floats


def serving_rows(path: Path) -> ServingRows:
    """Predictions for a CSV file, or gzip or xz of one; what was measured is not read for them.

    Raises:
        InputError: the file can't be read, or has not the columns.
    """
    rows = read_rows(path)
    cases, refused = understood(rows, path.parent)
    times = np.full((len(rows), 6), nan)
    good = [place for place, case in enumerate(cases) if case is not None]
    if good:
        found = predicted([case for case in cases if case is not None])
        columns = (found.ttft_s, found.ttft_lo_s, found.ttft_hi_s, found.tpot_s, found.tpot_lo_s, found.tpot_hi_s)
        times[good] = np.stack(columns, axis=1)
    measured = np.array([[_number(row, name) / 1e3 for name in ("ttft_ms", "tpot_ms")] for row in rows])
    notes = tuple(() if case is None else case.notes for case in cases)
    return ServingRows(rows=rows, times=times, refused=tuple(refused), notes=notes, measured=measured.reshape(-1, 2))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of servers.

    Raises:
        InputError: as ``serving_rows``.
    """
    try:
        data = path.read_bytes()
        text = _unpacked(data).decode("utf-8-sig")
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        wanted = "expected a CSV file, or gzip or xz of one"
        raise InputError(f"cannot read {path}: {reason}", expectation=wanted) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}",
            expectation=f"a table of servers has {', '.join(NEEDED)}",
            remedy="`hwprof validate --data` takes training runs, `--kernels` kernels",
        )
    return [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ\x00"):
        return lzma.decompress(data)
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def understood(rows: Sequence[Mapping[str, str]], folder: Path) -> tuple[list[Case | None], list[str]]:
    """What each row means, and why it can't be predicted where it can't."""
    cases: list[Case | None] = []
    refused: list[str] = []
    models: dict[str, ServedModel] = {}
    deployments: dict[tuple[str, ...], Deployment] = {}
    for row in rows:
        try:
            cases.append(_case(row, folder, models, deployments))
            refused.append("")
        except HwprofError as error:
            cases.append(None)
            refused.append(str(error))
    return cases, refused


def _case(
    row: Mapping[str, str],
    folder: Path,
    models: dict[str, ServedModel],
    deployments: dict[tuple[str, ...], Deployment],
) -> Case:
    engine = engine_named(row["backend"])
    if row["mode"] not in MODES:
        raise InputError(f"mode {row['mode']!r} is unknown", expectation=f"known: {', '.join(MODES)}")
    named = row.get("model_config") or row.get("config_json") or row["model_path"]
    if named not in models:
        models[named] = model_of(named, folder)
    key = (named, row["device"], row["precision"], row.get("gemm_quant_mode", ""), row.get("moe_quant_mode", ""))
    if key not in deployments:
        device = load_device(row["device"])
        layers, experts = _words(row, models[named])
        formats = formats_of(models[named], device, layers, experts=experts)
        deployments[key] = Deployment(model=models[named], device=device, formats=formats, links=links_of(device.id))
    deployment = deployments[key]
    prompt, new = (_positive(row, name) for name in ("prompt_tokens", "new_tokens"))
    layout = fleet_of_row(row, deployment)
    users, notes = layout.users, [*deployment.model.assumptions, *deployment.formats.assumptions, *layout.notes]
    if not users:
        users = USUAL_USERS
        notes.append(f"{USUAL_USERS:.0f} users: the row does not say how many")
    drafts, why = drafted(row, engine)
    perhaps = not drafts and not layout.stated and perhaps_drafted(row, engine)
    notes += [why] if why else ["whether tokens are drafted is not said: between both"] if perhaps else []
    return Case(
        deployment=deployment,
        engine=engine,
        layout=layout,
        prompt=prompt,
        new=new,
        users=users,
        drafts=drafts,
        perhaps=perhaps,
        notes=tuple(notes),
    )


def model_of(named: str, folder: Path) -> ServedModel:
    """A model by name, by the path of its config.json (seen from the table or from here), or by that file's text.

    A name of a hub also finds a config.json that lies beside the table under that name.

    Raises:
        InputError: it is none of these.
    """
    if named.lstrip().startswith("{"):
        return model_from_config(named, "config.json")
    owner, _, bare = named.rpartition("/")
    beside = (bare, f"{bare}.json", f"{bare}_config.json", f"{owner}--{bare}.json", f"{owner}--{bare}_config.json")
    for path in (folder / named, Path(named), *(folder / name for name in beside)):
        if path.suffix != ".toml" and (path.is_file() or (path / "config.json").is_file()):
            return read_config(path)
    return known_model(named)


_WORDS = {
    "float16": "bf16",
    "bfloat16": "bf16",
    "fp8_static": "fp8",
    "fp8_ootb": "fp8",
    "w4afp8": "int4",
    "sq": "int8",
    "fp16": "bf16",
    "fp8_block": "fp8-block",
    "fp4": "nvfp4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4",
    "int4_wo": "int4",
    "int8_wo": "int8",
}
"""Words of tables for formats, where they are not hwprof's own."""


def _words(row: Mapping[str, str], model: ServedModel) -> tuple[str, str]:
    """Formats of the layers' and of the experts' weights.

    Checkpoints with experts in 8 bits are scaled by blocks (DeepSeek, Qwen, MiniMax, GLM), whichever 8 bits a table
    says; gpt-oss exists in mxfp4 alone.
    """

    def word(column: str, otherwise: str) -> str:
        said = row.get(column, "").lower()
        return _WORDS.get(said, said) or otherwise

    layers = word("gemm_quant_mode", word("precision", "bf16"))
    experts = word("moe_quant_mode", layers)
    if model.sparse:
        layers, experts = ("fp8-block" if word == "fp8" else word for word in (layers, experts))
    if "gpt-oss" in model.name.lower() and layers == "nvfp4":
        layers = experts = "mxfp4"
    return layers, experts


def _positive(row: Mapping[str, str], name: str) -> float:
    number = _number(row, name)
    if not isfinite(number) or number <= 0:
        raise InputError(f"{name} is {row.get(name, '')!r}", expectation="expected a number above 0")
    return number


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row.get(name, ""))
    except ValueError:
        return nan


def predicted(cases: Sequence[Case], file: EngineFile | None = None) -> Served:
    """Times of cases, each deployment's together."""
    passes, fleet, load, engines = asked(cases)
    return served(passes, fleet, load, engines, file or engine_file(), steady=False)


def asked(cases: Sequence[Case]) -> tuple[Passes, Fleet, Load, list[EngineName]]:
    """Passes, servers, load and engine of each case, in order."""
    groups: dict[int, list[int]] = {}
    for place, case in enumerate(cases):
        groups.setdefault(id(case.deployment), []).append(place)
    order = [place for places in groups.values() for place in places]
    back = np.argsort(np.array(order))
    parts = []
    for places in groups.values():
        some = [cases[place] for place in places]
        parts.append(passes_of(some[0].deployment, _fleet(some), _load(some)))
    return _at(joined_passes(parts), back), _fleet(cases), _load(cases), [case.engine for case in cases]


def _at(passes: Passes, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Passes:
    return Passes(
        step=passes.step.at(index),
        prompt=passes.prompt.at(index),
        chunk=passes.chunk.at(index),
        prompts=passes.prompts[index],
        sequences=passes.sequences[index],
        room=passes.room[index],
        hand_over_s=passes.hand_over_s[index],
    )


def _load(cases: Sequence[Case]) -> Load:
    return Load(
        prompt=np.array([case.prompt for case in cases]),
        new=np.array([case.new for case in cases]),
        users=np.array([case.users for case in cases]),
        reused=np.zeros(len(cases)),
        drafts=np.array([case.drafts for case in cases]),
        perhaps=np.array([case.perhaps for case in cases]),
        accepted=np.full(len(cases), nan),
    )


def _fleet(cases: Sequence[Case]) -> Fleet:
    layouts = [case.layout for case in cases]
    return Fleet(
        decode=_shares([one.decode for one in layouts]),
        decoders=np.array([one.decoders for one in layouts]),
        prefill=_shares([one.prefill for one in layouts]),
        prefillers=np.array([one.prefillers for one in layouts]),
        apart=np.array([one.apart for one in layouts]),
        stated=np.array([one.stated for one in layouts]),
    )


def _shares(degrees: Sequence[tuple[float, float, float, float, float]]) -> Share:
    tp, dp, ep, moe_tp, pp = np.array(degrees, dtype=np.float64).reshape(-1, 5).T
    return Share(tp=tp, dp=dp, ep=ep, moe_tp=moe_tp, pp=pp)
