"""How does a long command say where it is? A live line on a terminal, nothing when piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str], None]


@contextmanager
def progress_on_stderr(*, quiet: bool) -> Iterator[Progress]:
    """A function that shows one line of progress; stdout stays untouched."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update
