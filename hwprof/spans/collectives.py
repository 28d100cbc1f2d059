"""Which names are those of communication, and what do they do? Kernels, operators, annotations of all libraries."""

from __future__ import annotations

import re

from hwprof.specs.record.collective import CollectiveName

_LIBRARIES = "nccl|rccl|gloo|mpi|ucc|xccl|hccl"
KERNEL = re.compile(
    r"nccl|rccl|oneccl|hccl|nvshmem|msccl|deep_ep|all[_-]?reduce|all[_-]?gather|reduce[_-]?scatter|"
    r"all[_-]?to[_-]?all|collective-permute|cross_device_reduce|multimem_|symm_mem",
    re.IGNORECASE,
)
"""Names of kernels that talk to other devices: the libraries', and those that serve small messages themselves."""
PREPARES = re.compile(r"copy|cat|elementwise|fill|memset", re.IGNORECASE)
"""Kernels that prepare a collective's buffers; they run beside it, and are no communication."""
LIBRARY = re.compile(rf"({_LIBRARIES}):")
"""Annotations of a library around a collective: on a GPU around its launch, on a CPU while it is under way."""
OPERATOR = re.compile(r"record_param_comms$|_?c10d(_functional)?::|_dtensor::")
"""Operators of torch.distributed, which start a collective or wait for one."""
ISSUES = re.compile(r"record_param_comms$|(nccl|rccl|xccl|hccl):")
"""What is written around the launch of a collective, and of nothing else."""
MESSAGE = re.compile(r"gloo:(send|recv)$")
"""A message goes on while the thread that began it does other things, which are no part of it."""
PACKING = "FSDP::"
"""Annotations of FSDP2 around what it does before and after its collectives."""

_NAMES: tuple[tuple[re.Pattern[str], CollectiveName], ...] = (
    (re.compile(r"all_?reduce"), "all_reduce"),
    (re.compile(r"all_?gather"), "all_gather"),
    (re.compile(r"reduce_?scatter"), "reduce_scatter"),
    (re.compile(r"all_?to_?all"), "all_to_all"),
    (re.compile(r"broadcast"), "broadcast"),
    (re.compile(r"(^|:)i?recv"), "send_recv"),
)

_OPERATIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    *_NAMES[:-2],
    (re.compile(r"broadcast|^nccl.*bcast"), "broadcast"),
    (re.compile(r"barrier"), "barrier"),
    (re.compile(r"send_?recv|collective_permute"), "send_recv"),
    (re.compile(r"(^|[:_])send(\b|_|$)"), "send"),
    (re.compile(r"(^|[:_])recv(\b|_|any|$)"), "recv"),
    (re.compile(r"(^|[:_])reduce(\b|_|$)"), "reduce"),
    (re.compile(r"(^|[:_])gather(\b|_|$)"), "gather"),
    (re.compile(r"(^|[:_])scatter(\b|_|$)"), "scatter"),
)


def operation_named(text: str) -> str:
    """Any operation between ranks that the name of an operator, a kernel or an annotation says; empty for none.

    More than ``collective_named``: messages in both directions, barriers, and what has one rank as its root.
    """
    lower = text.lower().replace("-", "_")
    return next((name for pattern, name in _OPERATIONS if pattern.search(lower)), "")


def collective_named(text: str) -> CollectiveName | None:
    """What the name of an operator or a kernel, or a collective's own word says that it does; None if nothing.

    A message counts where it is received.
    """
    lower = text.lower()
    return next((name for pattern, name in _NAMES if pattern.search(lower)), None)
