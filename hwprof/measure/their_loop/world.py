"""In what world does somebody else's loop run? Its ranks, and the settings of torch that its numbers depend on."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from hwprof.specs.record.loop import SeenDtype
from hwprof.train.precision import multiplies_in_tf32


def world() -> tuple[int, int]:
    """This process's rank, and how many there are; torch's process group says so, where there is one."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def default_store() -> Any:
    """The store through which the ranks of this process's group found each other; None where there is no group."""
    if not dist.is_available() or not dist.is_initialized():
        return None
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001 (torch has no public way to it)


def matmul_precision(stored: SeenDtype, device: torch.device) -> SeenDtype:
    """What products of this format are multiplied in: of fp32 on CUDA that may be TF32."""
    shortened = device.type == "cuda" and multiplies_in_tf32()
    return "tf32" if stored == "fp32" and shortened else stored
