"""How does a planner's answer become files? A page, pictures, tables, and settings for frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwprof.plan.answer.machines import Answer
from hwprof.plan.settings.frameworks import FILE_NAMES, settings_of
from hwprof.report.chinese import Language
from hwprof.report.csv import render_csv
from hwprof.report.files.folder import write_folder
from hwprof.report.html import render_plan
from hwprof.report.plan.in_chinese import plan_in_chinese
from hwprof.report.plan.tables import build_plan_sheets
from hwprof.report.plan.view import build_plan_view
from hwprof.report.png import render_pictures

SETTINGS_FOLDER = "settings"
_EARLIER = ("plan.html", "pareto.png", "scaling.png", *(f"{SETTINGS_FOLDER}/{name}" for name in FILE_NAMES))


def write_plan(answer: Answer, directory: Path, *, language: Language = "en") -> list[Path]:
    """Write all files of an answer into ``directory``, which is made if need be.

    What an earlier plan left there is removed, such as settings that a framework can't express any more.

    Raises:
        WorkError: a file could not be written.
    """
    return write_folder(directory, _contents(answer, language), earlier=_EARLIER)


def _contents(answer: Answer, language: Language) -> Iterator[tuple[str, str | bytes]]:
    view = build_plan_view(answer)
    yield "plan.html", render_plan(plan_in_chinese(view) if language == "zh" else view, language)
    yield "pareto.png", render_pictures(view.title, [view.pictures["pareto"]])
    yield "scaling.png", render_pictures(view.title, [view.pictures["efficiency"], view.pictures["waiting"]])
    for sheet in build_plan_sheets(answer):
        yield f"{sheet.name}.csv", render_csv(sheet)
    for one in settings_of(answer.plans[0]) if answer.plans else ():
        if one.text:
            yield f"{SETTINGS_FOLDER}/{one.file_name}", one.text
