"""Lightning: a callback for its ``Trainer``.

>>> trainer = lightning.Trainer(callbacks=[HwprofCallback(output="report")])  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Unpack

from hwprof.adapters.options import Options
from hwprof.errors import MissingLibraryError
from hwprof.loop.profile import Profile, profile

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ImportError as missing:
        raise MissingLibraryError("lightning", extra="lightning") from missing


class TrainerLoggers:
    """Hands metrics to all loggers of a Lightning trainer.

    Args:
        trainer: the trainer, whose loggers stay its own.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""
        for logger in self._trainer.loggers:
            logger.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        """The trainer closes its loggers."""


class HwprofCallback(Callback):  # type: ignore[misc]  # mypy does not read lightning
    """Measures the training of a ``Trainer``; metrics go to its loggers too.

    The forward phase is the whole of ``training_step``, its loss included. Lightning clips gradients inside the
    optimizer's step, so clipping is a part of that phase.

    Args:
        options: those of ``hwprof.profile``.

    Attributes:
        profile: the measurement, once training has begun.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._options = options
        self._forward = ExitStack()
        self._updates = 0
        self.profile: Profile | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to measure what the trainer trains."""
        options = dict(self._options)
        options["loggers"] = (*self._options.get("loggers", ()), TrainerLoggers(trainer))
        self._updates = trainer.global_step
        self.profile = profile(trainer.strategy.model or pl_module, trainer.optimizers, **options)  # type: ignore[arg-type]
        self.profile.start()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """The forward pass begins."""
        if self.profile is not None:
            self._forward.enter_context(self.profile.phase("forward", inputs=batch))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:  # noqa: ARG002
        """The forward pass is over."""
        self._forward.close()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """A batch is over; if it ended with an update, so is a step."""
        self._forward.close()
        if self.profile is not None and trainer.global_step != self._updates:
            self._updates = trainer.global_step
            self.profile.step()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """An evaluation runs in this step."""
        self._leave_out()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:  # noqa: ARG002
        """A checkpoint is written in this step."""
        self._leave_out()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Stop, and write the report if there is an output."""
        self._stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Training failed: stop, and write what there is."""
        self._stop()

    def _leave_out(self) -> None:
        if self.profile is not None:
            self.profile.leave_out_step()

    def _stop(self) -> None:
        self._forward.close()
        if self.profile is not None:
            self.profile.stop()
