"""What do threads of the script see? The device that is not there, as the script itself: torch watches one thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from hwprof.emulate.run.rank import Rank


def install(rank: Rank, watches: Sequence[Any]) -> None:
    """Put a rank's watches over each thread that begins, on the first stream, for the rest of this process."""
    thread: Any = threading.Thread
    engine_threads = torch._C._is_multithreading_enabled()  # noqa: SLF001 (torch tells it nowhere else)
    begin = thread._bootstrap_inner  # noqa: SLF001 (whatever runs in a thread runs in it)

    def watched(self: Any) -> None:
        rank.apart[threading.get_ident()] = 0
        with ExitStack() as stack:
            for each in watches:
                stack.enter_context(each)
            stack.callback(rank.apart.pop, threading.get_ident())
            torch.autograd.set_multithreading_enabled(engine_threads)  # which each thread has for itself
            begin(self)

    thread._bootstrap_inner = watched  # noqa: SLF001 (see above)
