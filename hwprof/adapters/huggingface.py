"""Hugging Face ``Trainer``: a callback.

>>> trainer = Trainer(model, args, train_dataset=data, callbacks=[HwprofCallback(output="report")])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any, Unpack

from hwprof.adapters.options import Options
from hwprof.errors import MissingLibraryError
from hwprof.loop.profile import Profile, profile

try:
    from transformers import TrainerCallback
except ImportError as missing:
    raise MissingLibraryError("transformers", extra="transformers") from missing


class HwprofCallback(TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers
    """Measures the training of a ``Trainer``; an evaluation or a save is left out of the steps.

    Args:
        options: those of ``hwprof.profile``.

    Attributes:
        profile: the measurement, once training has begun.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        self._options = options
        self.profile: Profile | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Begin to measure what the trainer trains."""
        self.profile = profile(given["model"], given.get("optimizer"), **self._options)
        self.profile.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """One optimizer step is over."""
        if self.profile is not None:
            self.profile.step()

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """An evaluation ran since the last step."""
        self._leave_out()

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """A checkpoint was written since the last step."""
        self._leave_out()

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Stop, and write the report if there is an output."""
        if self.profile is not None:
            self.profile.stop()

    def _leave_out(self) -> None:
        if self.profile is not None:
            self.profile.leave_out_step()
