"""Who is being emulated, on what, and what is known of it so far? One rank of many."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import get_ident
from types import FrameType

from hwprof.emulate.believed import Believed
from hwprof.emulate.run.host_time import HostTime
from hwprof.emulate.run.mail import Mail
from hwprof.emulate.run.regions import Regions
from hwprof.emulate.run.storages import Storages
from hwprof.emulate.run.values import Values
from hwprof.emulate.tape import Phase, Tape


class EnoughError(BaseException):
    """The script has shown what it does; it goes no further."""


@dataclass(slots=True)
class Rank:
    """One emulated rank. Mutable: it is written while the script runs.

    Attributes:
        number: of the rank.
        believed: its device.
        mail: objects of other ranks.
        tape, storages, values: what it asked for, held and was told.
        regions: its compiled code.
        apart: identity of a thread that the script began -> number of the stream that is current in it.
        phase: of the step.
        place: module that runs.
        notes: what was done in place of the script's own wish.
        host_time: of the script's own code.
        finished: steps after which the emulation ends; None ends it when two follow each other that are alike.
    """

    number: int
    believed: Believed
    finished: int | None = None
    mail: Mail = field(default_factory=lambda: Mail(None))
    tape: Tape = field(default_factory=Tape)
    values: Values = field(init=False)
    storages: Storages = field(init=False)
    regions: Regions = field(init=False)
    apart: dict[int, int] = field(default_factory=dict)
    phase: Phase = "forward"
    place: str = ""
    notes: dict[str, None] = field(default_factory=dict)
    host_time: HostTime = field(default_factory=HostTime)
    _stream: int = 0

    def __post_init__(self) -> None:
        self.values = Values(self.believed.expert_skew)
        self.storages = Storages(float(self.believed.capacity_bytes), self.host_time)
        self.regions = Regions(self)
        self.tape.timed(self.host_time.take_s)

    @property
    def stream(self) -> int:
        """Number of the stream that is current; autograd's threads have that of the script."""
        return self.apart.get(get_ident(), self._stream) if self.apart else self._stream

    @stream.setter
    def stream(self, number: int) -> None:
        if get_ident() in self.apart:
            self.apart[get_ident()] = number
        else:
            self._stream = number

    def note(self, text: str) -> None:
        """Say what was done otherwise than asked."""
        self.notes[text] = None

    def enter(self, phase: Phase) -> None:
        """The script is in another phase."""
        if phase != self.phase:
            self.phase = phase
            self.tape.phase(phase)


def script_line() -> str:
    """The innermost line of what the user wrote that runs now: not of a library, not of this package."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        path = frame.f_code.co_filename
        if is_own(path):
            return f"{Path(path).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@cache
def is_own(path: str) -> bool:
    """Whether a file is the user's: neither a library's nor this package's."""
    if path.startswith("<"):
        return False
    libraries = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    own = str(Path(__file__).parents[1])
    return not path.startswith((*libraries, own)) and "site-packages" not in path
