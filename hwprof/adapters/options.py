"""What may be said to every adapter? The options of ``hwprof.profile``, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from hwprof.loop.live import Logger
from hwprof.loop.schedule import Schedule


class Options(TypedDict, total=False):
    """The keyword arguments of ``hwprof.profile``, which says what they mean."""

    schedule: Schedule | None
    ceilings: str | Path | None
    output: str | Path | None
    loggers: Sequence[Logger]
    log_every: int
    tokens_per_step: int | None
    progress: Callable[[str], None]
