"""How does a long command say where it is, and on several ranks, who speaks? One line, one voice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hwprof.cli.format_option import say
from hwprof.errors import HwprofError
from hwprof.report.printable import printable
from hwprof.session.caller import Caller, Told


@contextmanager
def progress_on_stderr(*, quiet: bool) -> Iterator[Told]:
    """A function that shows one line of progress, live on a terminal; nothing when piped. Stdout stays untouched."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield lambda line: status.update(Text(printable(line)))


@contextmanager
def caller(*, quiet: bool) -> Iterator[Caller]:
    """The command line as it was typed, whose user is told on stderr where the work is and what is left of it.

    Of several ranks, rank 0 alone shows progress and says what is wrong; the others leave with the same exit code.
    """
    from hwprof.measure.world import launched, rank_of_environment

    rank = rank_of_environment() if launched() else 0
    try:
        with progress_on_stderr(quiet=quiet or rank > 0) as progress:
            yield Caller(
                command=" ".join(["hwprof", *sys.argv[1:]]),
                progress=progress,
                told=lambda line: say(f"hwprof: {line}", err=True),
            )
    except HwprofError as error:
        if rank:
            sys.exit(error.exit_code)
        raise
