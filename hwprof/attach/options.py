"""What does ``hwprof run -- ...`` tell the programs that it starts? How to measure, in the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hwprof.specs.frozen import Record

VARIABLE = "HWPROF_ATTACH"


class Attach(Record):
    """How a program is measured.

    Attributes:
        output: where the report is written, a whole path.
        goodput: the file in which its time is booked over restarts; empty = none.
        warmup, timed, profiled: the schedule (``hwprof.Schedule``).
    """

    output: str
    goodput: str = ""
    warmup: int = 3
    timed: int = 10
    profiled: int = 2


def environment(attach: Attach, site: Path) -> dict[str, str]:
    """The environment of a program that is to be measured; Python runs what is in ``site`` first."""
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, VARIABLE: attach.model_dump_json(), "PYTHONPATH": os.pathsep.join(paths)}


def attached_options() -> dict[str, Any]:
    """The options of ``hwprof.profile`` that this program was started with."""
    from hwprof.loggers.page import LivePage
    from hwprof.loop.schedule import Schedule

    asked = Attach.model_validate(json.loads(os.environ[VARIABLE]))
    schedule = Schedule(warmup=asked.warmup, timed=asked.timed, profiled=asked.profiled)
    page = LivePage(Path(asked.output) / "live.html")
    return {"schedule": schedule, "output": asked.output, "goodput": asked.goodput or None, "loggers": [page]}
