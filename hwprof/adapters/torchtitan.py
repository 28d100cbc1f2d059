"""torchtitan and its like: a metrics logger that adds hwprof's metrics to those that pass through it.

>>> trainer.metrics_processor.logger = MetricsHook(prof, trainer.metrics_processor.logger)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping

from hwprof.loop.live import Logger
from hwprof.loop.profile import Profile


class MetricsHook:
    """A logger in the shape of torchtitan's ``BaseLogger``.

    Args:
        profile: a measurement; the training loop calls its ``step()``.
        inner: the logger that was there before, which gets the loop's metrics and hwprof's.
    """

    def __init__(self, profile: Profile, inner: Logger) -> None:
        self._profile = profile
        self._inner = inner

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Pass the metrics of a step on, with hwprof's newest."""
        self._inner.log({**metrics, **self._profile.metrics}, step)

    def close(self) -> None:
        """Close the logger that was there before."""
        self._inner.close()
