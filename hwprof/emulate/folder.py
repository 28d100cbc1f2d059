"""What does an emulation leave in a folder? Its report, its answer, its trace, and the recording to price it again."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwprof.emulate.answer import Emulation, emulation_json
from hwprof.emulate.decoder import FILE as MODEL_FILE
from hwprof.emulate.decoder import toml_of, trained_of
from hwprof.emulate.in_chinese import page_in_chinese
from hwprof.emulate.page import build_page
from hwprof.emulate.recording import History
from hwprof.emulate.saved import recording_bytes
from hwprof.emulate.timeline import chrome_trace
from hwprof.errors import InputError
from hwprof.report.chinese import Language
from hwprof.report.files.folder import write_folder
from hwprof.report.html import render_page
from hwprof.specs.record.saved_calls import RECORDING_FILE

_EARLIER = (RECORDING_FILE, MODEL_FILE, "emulation.json", "report.html", "trace.json.gz")


def write_emulation(
    found: Emulation, compared: Sequence[Emulation], directory: Path, language: Language = "en"
) -> list[Path]:
    """Write all files of an emulation into a folder, which is made if need be.

    Raises:
        WorkError: a file could not be written.
    """
    return write_folder(directory, _contents(found, compared, language), earlier=_EARLIER)


SNAPSHOT_FILE = "memory_snapshot.pickle"


def snapshot(history: History) -> dict[str, Any]:
    """An emulated allocator as ``torch.cuda.memory._snapshot`` says it; torch's own viewers read it."""
    segments: dict[int, dict[str, Any]] = {}
    for segment, address, size_bytes, stream, small, kind in history.blocks:
        one = segments.setdefault(segment, {
            "device": 0, "address": address, "total_size": 0, "stream": stream, "segment_pool_id": (0, 0),
            "segment_type": "small" if small else "large", "allocated_size": 0, "active_size": 0,
            "is_expandable": False, "requested_size": 0, "frames": [], "blocks": [],
        })  # fmt: skip
        used = size_bytes if kind else 0
        one["total_size"] += size_bytes
        for name in ("allocated_size", "active_size", "requested_size"):
            one[name] += used
        state = "active_allocated" if kind else "inactive"
        frames = _frames(kind) if kind else []
        one["blocks"].append(
            {"address": address, "size": size_bytes, "requested_size": used, "state": state, "frames": frames}
        )
    return {"segments": list(segments.values()), "device_traces": [[_entry(*event) for event in history.events]]}


def _entry(action: str, address: int, size_bytes: int, stream: int, line: str) -> dict[str, Any]:
    where = {"device_free": address} if action == "oom" else {"addr": address}
    told = {"action": action, "size": size_bytes, "stream": stream, "time_us": 0, "compile_context": "N/A"}
    return {**told, **where, "frames": _frames(line), "pool_id": (0, 0)}


def _frames(line: str) -> list[dict[str, Any]]:
    file, _, number = line.partition(":")
    return [{"filename": file, "line": int(number), "name": "<module>"}] if number.isdigit() else [
        {"filename": file, "line": 0, "name": file}
    ] if file else []  # fmt: skip


def _contents(found: Emulation, compared: Sequence[Emulation], language: Language) -> Iterator[tuple[str, str | bytes]]:
    answer = emulation_json(found)
    if compared:
        answer["compare"] = [emulation_json(each) for each in compared]
    yield RECORDING_FILE, recording_bytes((found.recording, *found.others))
    yield "emulation.json", json.dumps(answer, indent=1, allow_nan=False) + "\n"
    if found.recording.history is not None:
        yield SNAPSHOT_FILE, pickle.dumps(snapshot(found.recording.history), protocol=4)
    with suppress(InputError):  # a model that the planner has no words for; it says why when it is asked
        yield MODEL_FILE, toml_of(trained_of(found.recording).spec)
    page = build_page(found, compared)
    if language == "zh":
        page = page_in_chinese(page, found)
    pictures = [page.roofs, page.timeline]
    yield "report.html", render_page("emulate.html.j2", page=page, pictures=pictures, language=language)
    yield "trace.json.gz", gzip.compress(chrome_trace(found).encode(), mtime=0)
