"""Who started the work, in which words, and who hears where it is?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

Told = Callable[[str], None]

_LOG = logging.getLogger("hwprof")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The command line, or a program.

    Attributes:
        command: what was written to start this.
        progress: told in a line where the work is.
        told: told in a line what is left of work that ends early.
    """

    command: str
    progress: Told = _LOG.info
    told: Told = _LOG.warning
