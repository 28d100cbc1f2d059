"""A clock whose durations a test writes down."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hwprof.measure.timing import Mark


class ScriptedTimer:
    """A clock that returns given durations in turn; its host clock moves on by each.

    Args:
        durations_s: what the calls of ``elapsed_s`` return, in order; may be endless.
    """

    def __init__(self, durations_s: Iterable[float]) -> None:
        self._durations_s = iter(durations_s)
        self._now_s = 0.0
        self._reads = itertools.count(1)

    def mark(self) -> Mark:
        """The sum of the durations read so far."""
        return Mark(self._now_s)

    def reached(self, mark: Mark) -> bool:  # noqa: ARG002 (nothing is awaited)
        """Never: what is read is read at the end, in the order of the script."""
        return False

    def elapsed_s(self, start: Mark, stop: Mark) -> float:  # noqa: ARG002 (the script stands in for the marks)
        """The script's next duration.

        Raises:
            AssertionError: the script is at its end, so the code under test reads more often than expected.
        """
        read = next(self._reads)
        duration_s = next(self._durations_s, None)
        assert duration_s is not None, f"the script has no duration for read {read}"
        self._now_s += duration_s
        return duration_s
