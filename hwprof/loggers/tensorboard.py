"""Live metrics as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwprof.errors import MissingLibraryError


class TensorBoardLogger:
    """Writes each metric as a scalar.

    Args:
        directory: where the event file goes; ``tensorboard --logdir`` reads it.

    Raises:
        MissingLibraryError: tensorboard is not installed.
    """

    def __init__(self, directory: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingLibraryError("tensorboard", extra="tensorboard") from error
        self._writer = SummaryWriter(str(directory))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of a step."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered, and close the file."""
        self._writer.close()
