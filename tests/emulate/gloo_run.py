"""What do ranks of a script really do? Collectives, FLOP and peak memory of rank 0, seen by torch's own instruments."""

import json
import os
import runpy
import sys
import weakref
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

WHOLE = {
    "allreduce_": ("all_reduce", 0),
    "_allgather_base_": ("all_gather", 0),
    "_reduce_scatter_base_": ("reduce_scatter", 1),
    "broadcast_": ("broadcast", 0),
    "send": ("send", 0),
    "recv_": ("recv", 0),
}
"""Operators of c10d: which collective, and which argument is the whole vector."""


class Spy(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(kind.__name__ == "DTensor" for kind in types):
            return NotImplemented
        space, _, name = func._schema.name.partition("::")
        if space == "c10d" and name in WHOLE:
            op, place = WHOLE[name]
            whole = [leaf for leaf in tree_leaves(args[place]) if isinstance(leaf, torch.Tensor)]
            self.seen[op, sum(leaf.numel() * leaf.element_size() for leaf in whole)] += 1
        if space == "_c10d_functional" and name == "all_reduce":
            self.seen["all_reduce", args[0].numel() * args[0].element_size()] += 1
        return func(*args, **(kwargs or {}))


class Held(TorchDispatchMode):
    """Bytes of all storages that a tensor stands on, whoever frees them.

    torch's profiler does not see what the threads of a process group free: it goes on counting that to the end.
    """

    def __init__(self):
        super().__init__()
        self.sizes, self.held, self.peak = {}, 0, 0
        resize = torch.UntypedStorage.resize_

        def resized(storage, size):
            if storage._cdata in self.sizes:
                self.change(storage._cdata, size)
            return resize(storage, size)

        torch.UntypedStorage.resize_ = resized

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(kind.__name__ == "DTensor" for kind in types):
            return NotImplemented
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if type(tensor) in {torch.Tensor, torch.nn.Parameter}:  # others stand on these
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    weakref.finalize(storage, self.change, storage._cdata, 0)
                    self.change(storage._cdata, storage.nbytes())
        return out

    def change(self, key, size):
        self.held += size - self.sizes.pop(key, 0)
        if size:
            self.sizes[key] = size
        self.peak = max(self.peak, self.held)


def main(script, steps, out):
    torch.set_num_threads(1)
    sys.argv = [script, "--steps", steps]
    if out == "memory":
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            runpy.run_path(script, run_name="__main__")
        events = [each for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]"]
        held, peak = 0, 0
        for each in sorted(events, key=lambda one: one.start_ns()):
            held += each.nbytes()
            peak = max(peak, held)
        found = {"peak_bytes": peak}
    elif out == "held":
        with Held() as holding:
            runpy.run_path(script, run_name="__main__")
        found = {"peak_bytes": holding.peak}
    else:
        spy, counter, before = Spy(), FlopCounterMode(display=False), []
        with ExitStack() as entered:
            entered.enter_context(spy)
            if out == "calls":  # torch's counter refuses the autograd.grad with which a pipeline learns its shapes
                entered.enter_context(counter)
            register_optimizer_step_post_hook(lambda *_: before.append((Counter(spy.seen), counter.get_total_flops())))
            runpy.run_path(script, run_name="__main__")
        (seen, flop), (last_seen, last_flop) = before[-2:]
        rows = sorted([op, size, count] for (op, size), count in (last_seen - seen).items())
        found = {"flop": last_flop - flop, "collectives": rows}
    if os.environ["RANK"] == "0":
        Path(os.environ["FOUND"]).write_text(json.dumps(found), encoding="utf-8")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
