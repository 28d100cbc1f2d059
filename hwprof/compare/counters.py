"""Do a GPU's own counters agree with the byte model and the bound classes? Kernels of a run beside those counted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from hwprof.predict.classify import FAR_FROM_ROOF
from hwprof.specs.record.counters import CounterRow, CountersResult, KernelCounters
from hwprof.specs.record.run import BoundClass, KernelTime, OpResult, RunRecord

_NO_KERNEL = ("Memcpy", "Memset")
_SAME = (
    (re.compile(r"<unnamed>|\(anonymous namespace\)|_GLOBAL__N__\w+"), "{anonymous}"),
    (re.compile(r"\[lambda\([^()]*\) \(instance (\d+)\)\]|\{lambda\([^()]*\)#(\d+)\}"), r"{lambda\1\2}"),
    (re.compile(r"\(\([^()]*\)(-?\d+)\)"), r"\1"),
    (re.compile(r"\b(?:void|const)\b"), ""),
    (re.compile(r"(?<=\d)(?:ull|ul|ll|u|l)\b"), ""),
    (re.compile(r"\btrue\b"), "1"),
    (re.compile(r"\bfalse\b"), "0"),
    (re.compile(r"\s+"), ""),
)
"""Spellings in which NVIDIA's demangler and that of C++ differ, and one for both: unnamed namespaces, lambdas,
enumerators, the place of const, results, suffixes of numbers."""
_INNERMOST = re.compile(r"\([^()]*\)")


def held_against(record: RunRecord, counters: Sequence[KernelCounters], *, source: str) -> CountersResult:
    """The run's kernels beside their counters.

    A kernel is looked for by its whole demangled name, then by the function's name alone, since ncu may write that; a
    function that the run knows with several template arguments is then one kernel.

    Args:
        record: the run.
        counters: what was counted.
        source: where that is from.
    """
    known = [kernel for kernel in record.kernels if not kernel.name.startswith(_NO_KERNEL)]
    whole, by_function = _grouped(known, whole=True), _grouped(known, whole=False)
    rows, unmatched, matched = [], [], set[str]()
    for counted in counters:
        found = whole.get(_signature(counted.name)) or by_function.get(_short(counted.name), [])
        if found:
            rows.append(_row(found, counted, record.ops))
            matched |= {kernel.name for kernel in found}
        else:
            unmatched.append(counted.name)
    all_s = sum(kernel.time_s for kernel in known)
    matched_s = sum(kernel.time_s for kernel in known if kernel.name in matched)
    return CountersResult(
        source=source,
        rows=tuple(sorted(rows, key=lambda row: -row.time_s)),
        run_kernels=len({kernel.name for kernel in known}),
        file_kernels=len(counters),
        matched_time_fraction=matched_s / all_s if all_s else 0.0,
        unmatched=tuple(unmatched),
    )


def _grouped(kernels: Sequence[KernelTime], *, whole: bool) -> dict[str, list[KernelTime]]:
    groups: dict[str, list[KernelTime]] = defaultdict(list)
    for kernel in kernels:
        groups[_signature(kernel.name) if whole else function_of(kernel.name)].append(kernel)
    return dict(groups)


def _signature(name: str) -> str:
    """The name as all demanglers would write it, without results, casts and parameters (NVIDIA's are T1, T2, ...)."""
    for pattern, replacement in _SAME:
        name = pattern.sub(replacement, name)
    shorter = _INNERMOST.sub("", name)
    while shorter != name:
        name, shorter = shorter, _INNERMOST.sub("", shorter)
    return name


def _short(name: str) -> str:
    """The function, where that is all that the counters' file gives; a name with arguments is no such name."""
    return name.strip() if re.fullmatch(r"\s*[\w$]+\s*", name) else ""


def function_of(name: str) -> str:
    """The function's own name: ``void at::native::f<4, g<int> >(int)`` is ``f``."""
    depth, plain = 0, ""
    for sign in _signature(name):
        depth += (sign == "<") - (sign == ">")
        if depth == 0 and sign != ">":
            plain += sign
    return plain.split("::")[-1]


def _row(kernels: Sequence[KernelTime], counted: KernelCounters, ops: Sequence[OpResult]) -> CounterRow:
    """One kernel, which several operations may use."""
    of_op = {(op.label, op.phase, op.direction): op for op in ops}
    main = max(kernels, key=lambda kernel: kernel.time_s)
    owner = of_op.get((main.label, main.phase, main.direction))
    calls = sum(kernel.calls for kernel in kernels)
    shares = [_share_bytes(kernel, of_op.get((kernel.label, kernel.phase, kernel.direction))) for kernel in kernels]
    known = [share for share in shares if share is not None]
    return CounterRow(
        kernel=main.name,
        launches=counted.launches,
        calls=calls,
        time_s=sum(kernel.time_s for kernel in kernels),
        label=main.label,
        direction=main.direction,
        op_fraction=_of_op(kernels, main, owner),
        other_ops=len({(kernel.label, kernel.phase, kernel.direction) for kernel in kernels}) - 1,
        counted_bytes=sum(known) if len(known) == len(shares) else None,
        measured_bytes=None if counted.dram_bytes is None else counted.dram_bytes * calls,
        dram_fraction=counted.dram_fraction,
        tensor_fraction=counted.tensor_fraction,
        counted_bound="unknown" if owner is None else owner.bound,
        measured_bound=bound_of(counted),
    )


def _of_op(kernels: Sequence[KernelTime], main: KernelTime, op: OpResult | None) -> float:
    """The share of an operation's time in those of the kernels that are its own."""
    if op is None or not op.time_s:
        return 0.0
    own = (k for k in kernels if (k.label, k.phase, k.direction) == (main.label, main.phase, main.direction))
    return sum(kernel.time_s for kernel in own) / op.time_s


def _share_bytes(kernel: KernelTime, op: OpResult | None) -> float | None:
    """What of an operation's counted bytes falls to one of its kernels; None where nothing was counted."""
    if op is None or not op.time_s or not op.read_bytes + op.write_bytes:
        return None
    return (op.read_bytes + op.write_bytes) * kernel.time_s / op.time_s


def bound_of(counted: KernelCounters) -> BoundClass:
    """The resource that the counters show the busiest; ``latency`` where none is used to a ``FAR_FROM_ROOF``.

    Memory is the busier of DRAM and L2, compute the busiest pipe; ``unknown`` where the file lacks one of the two.
    """
    memory = max((share for share in (counted.dram_fraction, counted.l2_fraction) if share is not None), default=None)
    compute = counted.pipe_fraction
    if memory is None or compute is None:
        return "unknown"
    if max(memory, compute) < FAR_FROM_ROOF:
        return "latency"
    return "memory" if memory >= compute else "compute"
