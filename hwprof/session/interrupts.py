"""When may Ctrl-C end a run? At once while it measures; not again before what was measured is on the disk."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

LONGEST_S = 30.0
"""For so long a signal waits at most; what hangs must be ended somehow."""


class Interrupts:
    """Signals of this process, as a context: the first acts as ever, and from then on they wait until ``release``.

    Elsewhere than in the main thread, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self._held_since_s: float | None = None
        self._waiting = False
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def __enter__(self) -> Self:
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

    def hold(self) -> None:
        """Signals wait from now on."""
        if self._held_since_s is None:
            self._held_since_s = time.monotonic()

    def release(self) -> None:
        """What is to be kept is kept: signals act again, one that waited now.

        Raises:
            KeyboardInterrupt: a signal came meanwhile.
        """
        self._held_since_s = None
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held_since_s is not None and time.monotonic() - self._held_since_s < LONGEST_S:
            self._waiting = True
            return
        self.hold()
        self._before[number](number, frame)
