"""How does a decision on servers become files? A page, a picture, tables, and settings for three engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwprof.deploy.decision import Decision
from hwprof.deploy.settings import settings_of
from hwprof.deploy.space import Demand
from hwprof.report.chinese import Language
from hwprof.report.csv import render_csv
from hwprof.report.deploy.in_chinese import deploy_in_chinese
from hwprof.report.deploy.tables import offer_sheet
from hwprof.report.deploy.view import build_deploy_view
from hwprof.report.files.folder import write_folder
from hwprof.report.html import render_page
from hwprof.report.png import render_pictures

_EARLIER = ("deploy.html", "pareto.png", "deploy.csv", "settings/vllm.sh", "settings/sglang.sh", "settings/trtllm.*")


def write_deploy(decision: Decision, demand: Demand, model: str, directory: Path, language: Language = "en") -> None:
    """Write all files of a decision into ``directory``, which is made if need be.

    Raises:
        WorkError: a file could not be written.
    """
    write_folder(directory, _contents(decision, demand, model, language), earlier=_EARLIER)


def _contents(decision: Decision, demand: Demand, model: str, language: Language) -> Iterator[tuple[str, str | bytes]]:
    view = build_deploy_view(decision, demand, model)
    page = deploy_in_chinese(view) if language == "zh" else view
    yield "deploy.html", render_page("deploy.html.j2", page=page, pictures=[page.pareto], language=language)
    yield "pareto.png", render_pictures(view.title, [view.pareto])
    yield "deploy.csv", render_csv(offer_sheet(decision))
    for one in settings_of(decision.services[0].offer, demand, model) if decision.services else ():
        yield f"settings/{one.engine}.sh", f"#!/bin/sh\n{one.command}\n"
        if one.file_text:
            yield f"settings/{one.file_name}", one.file_text
