"""Who has torch's profiler? torch has one session a process, and the program's own goes before ours.

A second session takes the first one's trace away, in whatever thread it is opened, and whoever ends or exports the
first one then crashes the process (pytorch issue 156564). So a session of ours is opened only where no other is, and
ends before another begins: at once in its own thread, else at the next hook of its thread, for which the other waits.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.autograd import profiler as autograd_profiler
from torch.profiler import profile

from hwprof.errors import WorkError
from hwprof.specs.leftovers import scratch_prefix

PATIENCE_S = 5.0
"""How long a session in another thread waits for ours to end; after that ours is left as it is and never touched."""

_PACKED, _PIECE_BYTES = 6, 2**20
"""How hard a trace is packed (a sixth larger than at 9, as torch has it), and how much at once."""

_lock = threading.RLock()


class ProfilerBusyError(WorkError):
    """Another session of torch's profiler is open in this process, or took ours away."""

    def __init__(self) -> None:
        super().__init__("the program's own torch.profiler is open; torch has one session at a time")


class Session:
    """A session of ours.

    Args:
        session: torch's own, not yet entered.

    Attributes:
        lost: whether another session began before its end; it has no trace then.
    """

    def __init__(self, session: profile) -> None:
        self._session = session
        self._thread = threading.get_ident()
        self._ended = threading.Event()
        self.lost = False

    def export(self, path: Path) -> None:
        """Write its Chrome trace; a ``.gz`` is packed here, as torch does so line by line, in eight times the time.

        Raises:
            ProfilerBusyError: it was lost.
            OSError, RuntimeError: the file can't be written.
        """
        if self.lost:
            raise ProfilerBusyError
        if path.suffix != ".gz":
            self._session.export_chrome_trace(str(path))
            return
        with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as folder:
            plain = Path(folder) / "trace.json"
            self._session.export_chrome_trace(str(plain))
            with plain.open("rb") as trace, gzip.open(path, "wb", compresslevel=_PACKED) as packed:
                shutil.copyfileobj(trace, packed, _PIECE_BYTES)

    def begin(self) -> None:
        """Open it.

        Raises:
            ProfilerBusyError: another is open.
        """
        with _lock:
            if _process.ours is not None or _process.another():
                raise ProfilerBusyError
            _process.ours = self
            try:
                _process.call(self._session.__enter__)
            except BaseException:
                _process.ours = None
                raise

    def end(self) -> None:
        """Close it, if it was not lost."""
        with _lock:
            if _process.ours is not self:
                return
            try:
                leave: Any = self._session.__exit__  # torch does not type it
                _process.call(lambda: leave(None, None, None))
            finally:
                _process.ours = None
                self._ended.set()

    def make_way(self) -> None:
        """Another session is about to begin, in whatever thread."""
        if self.here:
            self.lost = True
            self.end()
            return
        _process.asked = True
        if not self._ended.wait(PATIENCE_S):
            with _lock:
                self.lost = True
                _process.ours = None
        _process.asked = False

    @property
    def here(self) -> bool:
        """Whether it is this thread's."""
        return threading.get_ident() == self._thread


class _Process:
    """What is known of the sessions of this process.

    Attributes:
        ours: the session of ours that is open.
        asked: whether another thread waits for its end.
    """

    def __init__(self) -> None:
        self.ours: Session | None = None
        self.asked = False
        self._calling: int | None = None
        self._others: set[int] = set()
        self._watchers = 0
        self._undo: list[Callable[[], None]] = []

    def call(self, what: Callable[[], object]) -> None:
        """Call torch for ourselves; the lock is held."""
        self._calling = threading.get_ident()
        try:
            what()
        finally:
            self._calling = None

    def another(self) -> bool:
        """Whether a session of the program's own is open, or prepared, as far as torch and the watch know."""
        anywhere = getattr(autograd_profiler, "_is_profiler_enabled", False)
        here: bool = torch.autograd._profiler_enabled()  # type: ignore[attr-defined]  # noqa: SLF001 (no public way)
        return bool(anywhere or here or self._others)

    def watch(self) -> None:
        """Hear of every session that begins or ends."""
        with _lock:
            self._watchers += 1
            if self._watchers == 1:
                self._others.clear()
                self._wrap("_prepare_profiler", self._before_another)
                self._wrap("_enable_profiler", self._before_another)
                self._wrap("_disable_profiler", self._after_another)

    def unwatch(self) -> None:
        """Leave torch as it was."""
        with _lock:
            self._watchers -= 1
            while not self._watchers and self._undo:
                self._undo.pop()()

    def _wrap(self, name: str, told: Callable[[], None]) -> None:
        original: Any = getattr(autograd_profiler, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._calling != threading.get_ident():
                told()
            return original(*args, **kwargs)

        def undo() -> None:
            if getattr(autograd_profiler, name) is wrapper:  # else somebody has wrapped it in turn, and calls it on
                setattr(autograd_profiler, name, original)

        setattr(autograd_profiler, name, wrapper)
        self._undo.append(undo)

    def _before_another(self) -> None:
        with _lock:
            self._others.add(threading.get_ident())
            ours = self.ours
        if ours is not None:
            ours.make_way()

    def _after_another(self) -> None:
        self._others.discard(threading.get_ident())


_process = _Process()


@contextmanager
def watched_sessions() -> Iterator[None]:
    """Hear of every session of the program's own meanwhile."""
    _process.watch()
    try:
        yield
    finally:
        _process.unwatch()


@contextmanager
def opened(session: profile) -> Iterator[Session]:
    """A session of ours, while the context is open and no other begins.

    Raises:
        ProfilerBusyError: another is open.
    """
    ours = Session(session)
    with watched_sessions():
        ours.begin()
        try:
            yield ours
        finally:
            ours.end()


def make_way_if_asked() -> None:
    """End the session of this thread if another thread waits for that; called wherever our hooks run."""
    ours = _process.ours
    if _process.asked and ours is not None and ours.here:
        ours.make_way()
