"""How does hwprof say that something is wrong? Each error states the fact, the expectation and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

INTERRUPTED_EXIT_CODE = 130
"""128 + SIGINT, as shells report it."""


def first_line(error: BaseException) -> str:
    """What an error of another library says first; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class HwprofError(Exception):
    """An error that a person can act on.

    Args:
        fact: what is the case ("model 'nosuch' is not in the catalogue").
        expectation: what was expected instead; may be empty when the fact says it.
        remedy: what to do next.
    """

    exit_code = 1

    def __init__(self, fact: str, *, expectation: str = "", remedy: str = "") -> None:
        self.fact = fact
        self.expectation = expectation
        self.remedy = remedy
        super().__init__("; ".join(part for part in (fact, expectation, remedy) if part))


class InputError(HwprofError, ValueError):
    """What the user gave is wrong: exit code 2."""

    exit_code = 2


class SpecError(InputError):
    """A model, device, link or cluster file is wrong."""


_FEW = 12
"""Names that are all told."""


class UnknownNameError(InputError):
    """A catalogue has no such name."""

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        known: Iterable[str],
        remedy: str,
        meant: Sequence[str] = (),
        related: Sequence[str] = (),
    ) -> None:
        """``meant`` are several that the words of the name fit; ``related`` share some with it."""
        names = sorted(known)
        swapped = [known for known in names if sorted(known) == sorted(name.lower())]
        near = (
            list(meant) or difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6) or swapped or list(related)
        )
        few = f"known: {', '.join(names)}" if len(names) <= _FEW else ""
        expectation = f"did you mean {' or '.join(near)}?" if near else few
        super().__init__(f"{kind} {name!r} is not in the catalogue", expectation=expectation, remedy=remedy)


class UnknownDeviceError(InputError):
    """No peak numbers are known for a device; never replaced by a default."""


class WorkError(HwprofError):
    """The work itself failed: exit code 1."""


class UndecidedError(HwprofError):
    """Neither yes nor no can be said of what was asked: exit code 3."""

    exit_code = 3


class OutOfMemoryError(WorkError):
    """The work needs more memory than the device has."""


class MissingLibraryError(InputError):
    """Something was asked for that needs a library which is not installed."""

    def __init__(self, library: str, *, extra: str) -> None:
        super().__init__(f"{library} is not installed", remedy=f"pip install 'hwprof[{extra}]'")
