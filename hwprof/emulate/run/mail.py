"""What do ranks tell each other in Python objects? Messages wait in a folder, as ranks run one after the other."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any


class UnsentError(BaseException):
    """A rank waits for an object of one that has not been emulated.

    Attributes:
        sender: that rank.
    """

    def __init__(self, sender: int) -> None:
        super().__init__(sender)
        self.sender = sender


class Mail:
    """The messages of a rank, in a folder that all ranks share; None where there is only one.

    A receiver is the number of a rank, or the name of a group.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._numbers: Counter[tuple[int, str]] = Counter()

    @property
    def shared(self) -> bool:
        """Whether others leave messages, too."""
        return self._folder is not None

    def send(self, sender: int, receiver: str, objects: list[Any]) -> None:
        """Leave a message."""
        path = self._path(sender, receiver)
        if path is not None:
            path.write_bytes(pickle.dumps(objects))

    def receive(self, sender: int, receiver: str) -> Any:
        """The next message of a rank.

        Raises:
            UnsentError: there is none.
        """
        path = self._path(sender, receiver)
        if path is None or not path.exists():
            raise UnsentError(sender)
        return pickle.loads(path.read_bytes())  # noqa: S301 (written by a rank of the same script)

    def _path(self, sender: int, receiver: str) -> Path | None:
        number = self._numbers[sender, receiver]
        self._numbers[sender, receiver] += 1
        return None if self._folder is None else self._folder / f"{sender}-{receiver}-{number}.pickle"
