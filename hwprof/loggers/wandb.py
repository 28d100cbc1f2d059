"""Live metrics in a Weights & Biases run; offline too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwprof.errors import MissingLibraryError

STEP = "hwprof/step"
"""The x axis of hwprof's metrics: W&B's own step counts calls of ``log`` and belongs to the program."""


class WandbLogger:
    """Logs to a run that is open, or to one that it opens and finishes itself.

    Args:
        run: the run; None = the one that is open, else a new one.
        options: of ``wandb.init`` for a new one (``project="...", mode="offline"``).

    Raises:
        MissingLibraryError: wandb is not installed.
    """

    def __init__(self, run: Any = None, **options: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingLibraryError("wandb", extra="wandb") from error
        self._own = run is None and wandb.run is None
        self._run: Any = run or wandb.run or wandb.init(**options)
        self._run.define_metric("hwprof/*", step_metric=STEP)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        self._run.log({**metrics, STEP: step})

    def close(self) -> None:
        """Finish the run, if it was opened here."""
        if self._own:
            self._run.finish()
