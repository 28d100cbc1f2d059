"""When may Ctrl-C end a run? At once while it measures; not again before what was measured is on the disk."""

from __future__ import annotations

import _thread
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

LONGEST_S = 30.0
"""For so long a signal waits at most; what hangs must be ended somehow."""
AGAIN_S = 0.001
"""After so long a Ctrl-C that Python lost comes again: by then what lost it, a finalizer, has mostly ended."""


@contextmanager
def heard(lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A Ctrl-C that falls into a finalizer, which Python prints and forgets, comes once more, without the print.

    Finalizers are ``__del__``, callbacks of weak references and of the collector, and generators that are closed
    (Python's documentation of ``sys.unraisablehook``). A file that can't be closed as it is thrown away says nothing,
    as before Python 3.13: the write that failed has been told.

    Args:
        lost: told of one that was lost, before it comes again.
    """
    before = sys.unraisablehook

    def hook(args: UnraisableHookArgs) -> None:
        if issubclass(args.exc_type, KeyboardInterrupt):
            lost()
            _thread.start_new_thread(_again, ())
        elif not isinstance(args.object, io.IOBase):
            before(args)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _again() -> None:
    time.sleep(AGAIN_S)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # which wakes a thread that waits


class Interrupts:
    """Signals of this process, as a context: the first acts as ever, and from then on they wait until ``release``.

    Elsewhere than in the main thread, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self._held_since_s: float | None = None
        self._waiting = False
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._heard = heard(self._let_go)

    def __enter__(self) -> Self:
        self._heard.__enter__()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._heard.__exit__(kind, error, trace)

    def hold(self) -> None:
        """Signals wait from now on."""
        if self._held_since_s is None:
            self._held_since_s = time.monotonic()

    def release(self) -> None:
        """What is to be kept is kept: signals act again, one that waited now.

        Raises:
            KeyboardInterrupt: a signal came meanwhile.
        """
        self._let_go()
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def _let_go(self) -> None:
        self._held_since_s = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held_since_s is not None and time.monotonic() - self._held_since_s < LONGEST_S:
            self._waiting = True
            return
        self.hold()
        self._before[number](number, frame)
