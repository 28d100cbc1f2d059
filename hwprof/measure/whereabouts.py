"""Where is a thread: in which line, and does it wait for other ranks there?"""

from __future__ import annotations

import os
from types import FrameType


def whereabouts(frame: FrameType | None) -> tuple[str, bool]:
    """What a thread is running (``function in file:line``), and whether that is a collective or waits for one."""
    if frame is None:
        return "nowhere", False
    code = frame.f_code
    place = f"{code.co_name} in {os.path.basename(code.co_filename)}:{frame.f_lineno}"  # noqa: PTH119 (a frame's file may be no path)
    waiting = False
    here: FrameType | None = frame
    while here is not None and not waiting:
        name = here.f_code.co_filename.replace("\\", "/")
        waiting = "torch/distributed/" in name or name.endswith("torch/autograd/graph.py")
        here = here.f_back
    return place, waiting
