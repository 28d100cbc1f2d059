"""What does an emulation leave in a folder? Its report, its answer, its trace, and the recording to price it again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from hwprof.emulate.answer import Emulation, emulation_json
from hwprof.emulate.page import build_page
from hwprof.emulate.saved import recording_bytes
from hwprof.emulate.timeline import chrome_trace
from hwprof.report.chinese import Language
from hwprof.report.files.folder import write_folder
from hwprof.report.html import render_page
from hwprof.specs.record.saved_calls import RECORDING_FILE

_EARLIER = (RECORDING_FILE, "emulation.json", "report.html", "trace.json.gz")


def write_emulation(
    found: Emulation, compared: Sequence[Emulation], directory: Path, language: Language = "en"
) -> list[Path]:
    """Write all files of an emulation into a folder, which is made if need be.

    Raises:
        WorkError: a file could not be written.
    """
    return write_folder(directory, _contents(found, compared, language), earlier=_EARLIER)


def _contents(found: Emulation, compared: Sequence[Emulation], language: Language) -> Iterator[tuple[str, str | bytes]]:
    answer = emulation_json(found)
    if compared:
        answer["compare"] = [emulation_json(each) for each in compared]
    yield RECORDING_FILE, recording_bytes((found.recording, *found.others))
    yield "emulation.json", json.dumps(answer, indent=1, allow_nan=False) + "\n"
    page = build_page(found, compared)
    pictures = [page.roofs, page.timeline]
    yield "report.html", render_page("emulate.html.j2", page=page, pictures=pictures, language=language)
    yield "trace.json.gz", gzip.compress(chrome_trace(found).encode(), mtime=0)
