"""Accelerate: the loop's own ``with``, with metrics going to the accelerator's trackers.

>>> with profile(accelerator, model, optimizer, output="report") as prof:  # doctest: +SKIP
...     for batch in loader:
...         with accelerator.accumulate(model):
...             accelerator.backward(model(**batch).loss)
...             optimizer.step()
...             optimizer.zero_grad()
...         if accelerator.sync_gradients:
...             prof.step()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from hwprof.adapters.options import Options
from hwprof.loop.profile import Profile
from hwprof.loop.profile import profile as profile_loop


class Trackers:
    """Hands metrics to all trackers of an accelerator.

    Args:
        accelerator: the accelerator; ``end_training`` stays with the program.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        self._accelerator.log(dict(metrics), step=step)

    def close(self) -> None:
        """The accelerator closes its trackers."""


def profile(accelerator: Any, model: Any, optimizer: Any = None, **options: Unpack[Options]) -> Profile:
    """Measure a loop of Accelerate's; call ``step()`` where ``accelerator.sync_gradients`` is set.

    Args:
        accelerator: whose trackers get the metrics.
        model: what ``accelerator.prepare`` gave.
        optimizer: what ``accelerator.prepare`` gave; None = every optimizer of the program.
        options: those of ``hwprof.profile``.

    Raises:
        InputError: as ``hwprof.profile``.
    """
    chosen = dict(options)
    chosen["loggers"] = (*options.get("loggers", ()), Trackers(accelerator))
    return profile_loop(model, optimizer, **chosen)  # type: ignore[arg-type]  # a TypedDict does not survive dict()
