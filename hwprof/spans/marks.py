"""What do the names of a trace mark? Phases and modules of hwprof's recorder, and what torch writes around its work."""

from __future__ import annotations

import re

WINDOW = "hwprof:window"
"""Around the profiled steps."""
PHASE = "hwprof:phase:"
MODULE = "hwprof:module:"
"""Before the path of a module, around its forward."""
TORCH_MODULE = "nn.Module: "
"""How torch calls the Python frame of a module's forward (with_stack=True)."""
OPTIMIZER = "Optimizer.step#"
LOADER = re.compile(
    r"enumerate\(Data(Loader|Pipe)\)|hwprof:phase:data$|.*dataloader_next$|.*dataloader\.py\(\d+\): __next__$"
)
"""torch's loaders, Lightning's annotation around its own, and the Python frame of torch's."""
ENGINE = "autograd::engine::evaluate_function: "
"""What the autograd engine does around one node of backward, hooks of the program among it."""
_HOOK_NODE = "RegisterPostBackwardFunctionBackward"
"""The node that FSDP2 puts into the graph for its hook after backward; it computes nothing itself."""
GRAPH_LAUNCH = "GraphLaunch"
"""In the name of the one call that starts all kernels of a captured graph."""
COLLECTS = re.compile(r"Python GC$|<built-in (function|method) collect\b")
"""Python's garbage collection: torch's own event (record_python_gc_info=True), and a call of the collector."""
LOCKS = re.compile(
    r"<built-in method (acquire|wait) of _thread\.|threading\.py\(\d+\): (wait|acquire|join|_wait_for_tstate_lock)$|"
    r"queue\.py\(\d+\): get$|pthread_(mutex|cond|rwlock|join|timedjoin)|sem_(timed)?wait"
)
"""Frames of Python that wait for a lock (with_stack=True), and calls of the system that do."""
_MADE_KERNEL = re.compile(r"^(?:graph_\d+_)?((?:cpp|triton)_\w+)$")


def runs_hooks(operator: str) -> bool:
    """Whether an operator's own time is that of hooks in backward: they pack, reduce and wait, and compute nothing."""
    return operator.startswith(ENGINE) or operator == _HOOK_NODE


def made_kernel(name: str) -> str:
    """The name that inductor gave to a kernel that it made, as its own list has it; "" for any other kernel."""
    found = _MADE_KERNEL.match(name)
    return found[1] if found else ""
