"""What should change? The parts of the time that are not work, each with what shows it and what usually helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwprof.specs.record.trace import TimePart, TraceDevice, TraceFinding
from hwprof.units import format_bytes, format_fraction, format_seconds

WORTH_SAYING = 0.03
"""Smaller shares of the time are not worth a change."""
_GROWS = 0.005
"""Growth a step, as a share of the peak, that is called a leak."""


def findings(device: TraceDevice) -> tuple[TraceFinding, ...]:
    """What holds this device back, the largest share first; a leak of memory last."""
    found = [
        TraceFinding(title=title, share=share, evidence=evidence(device), change=change)
        for part, title, evidence, change in _RULES[device.kind]
        for share in [device.shares.get(part, 0.0)]
        if share >= WORTH_SAYING
    ]
    return (*sorted([*found, *_unasked(device)], key=lambda finding: -finding.share), *_leaks(device))


def _top_cause(part: TimePart) -> Callable[[TraceDevice], str]:
    """What the host was in during most of the gaps of a cause."""

    def evidence(device: TraceDevice) -> str:
        mine = [cause for cause in device.causes if cause.cause == part]
        named = [f"{cause.what} ({format_seconds(cause.time_s)})" for cause in mine[:3]]
        return f"meanwhile the host was in: {', '.join(named)}" if named else ""

    return evidence


def _short(device: TraceDevice) -> str:
    assert device.launches is not None, "a GPU's kernels are launched"
    few = format_fraction(device.launches.short_kernels / max(device.launches.kernels, 1))
    delay = format_seconds(device.launches.delay_median_s)
    return f"{few} of {device.launches.kernels} kernels are shorter than the call that launches them; delay {delay}"


def _hidden(device: TraceDevice) -> str:
    fraction = device.overlap.communication_fraction
    largest = next((kernel.name for kernel in device.kernels if kernel.kind == "communication"), "")
    hidden = "" if fraction is None else f"{format_fraction(fraction)} of communication is hidden"
    return "; ".join(filter(None, (hidden, f"most time in {largest[:60]}" if largest else "")))


def _copies(device: TraceDevice) -> str:
    named = [f"{each.name} ({format_seconds(each.time_s)})" for each in device.kernels if each.kind == "copy"]
    return ", ".join(named[:3])


def _gap(device: TraceDevice) -> str:
    gap = device.largest_gap
    if gap is None:
        return ""
    lasts, then = format_seconds(gap.duration_s), gap.then[:60]
    return (
        f"the longest is {lasts} in {gap.host[-1]}, before {then}"
        if gap.host
        else f"the longest is {lasts}, before {then}"
    )


def _nothing(_device: TraceDevice) -> str:
    return ""


_Rule = tuple[TimePart, str, Callable[[TraceDevice], str], str]

_CALLS = (
    "first use loads kernels and libraries (warm up, CUDA_MODULE_LOADING=EAGER); a copy waits: pinned memory and "
    "non_blocking=True"
)
_COMPILATION: _Rule = (
    "recompilation",
    "waits for compilations",
    _top_cause("recompilation"),
    "torch.compile(dynamic=True), padded shapes, or mark_dynamic; TORCH_LOGS=recompiles says what changed",
)
_GARBAGE: _Rule = (
    "garbage_collection",
    "waits while Python collects garbage",
    _top_cause("garbage_collection"),
    "gc.freeze() after the first steps and gc.disable(), with gc.collect() every so many steps on all ranks at once",
)
_COMMUNICATION = "larger or earlier buckets, more work between collectives, a layout with less traffic"
_INPUT: _Rule = (
    "input",
    "waits for the next batch",
    _nothing,
    "more DataLoader workers, prefetching, cheaper decoding, batches prepared beforehand",
)
_RULES: dict[str, tuple[_Rule, ...]] = {
    "gpu": (
        ("communication", "waits for communication", _hidden, _COMMUNICATION),
        ("copy", "waits for copies", _copies, "pinned memory, non_blocking=True, a stream of its own for copies"),
        _INPUT,
        (
            "blocking_copy",
            "ran dry while the host waited for a copy",
            _top_cause("blocking_copy"),
            "no .item(), .cpu() or nonzero in every step; to the device from pinned memory with non_blocking=True",
        ),
        (
            "synchronisation",
            "ran dry while the host waited for it",
            _top_cause("synchronisation"),
            "no torch.cuda.synchronize() or print of a tensor in every step; log every so many steps",
        ),
        (
            "lock",
            "waits for a lock",
            _top_cause("lock"),
            "fewer threads beside the one that launches: loader and checkpoint in processes, memory pinned beforehand",
        ),
        _GARBAGE,
        _COMPILATION,
        (
            "graph",
            "waits in graph replays",
            _short,
            "more work in one graph, larger kernels in it, independent work on branches; fewer, longer replays",
        ),
        (
            "host",
            "waits for the host to launch its next kernel",
            _top_cause("host"),
            "torch.compile, CUDA graphs, fused or foreach optimizers, larger batches",
        ),
        (
            "call",
            "waits inside single long calls",
            _gap,
            _CALLS,
        ),
        (
            "allocation",
            "waits for memory from the driver",
            _top_cause("allocation"),
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, fewer changing shapes, no empty_cache() in a step",
        ),
        ("launch", "waits for launches to arrive", _short, "fewer, larger kernels: torch.compile or CUDA graphs"),
        (
            "queued",
            "waits between kernels that are launched already",
            _short,
            "see which stream the kernels wait for; join short kernels with torch.compile",
        ),
    ),
    "cpu": (
        ("communication", "waits for communication", _hidden, _COMMUNICATION),
        _INPUT,
        _GARBAGE,
        _COMPILATION,
        ("host", "runs Python between operators", _nothing, "torch.compile, larger batches, fewer small operators"),
    ),
}


def _unasked(device: TraceDevice) -> Iterator[TraceFinding]:
    """Gathers that the device waited for and that no earlier module had asked for."""
    late = [row for row in device.gathers if row.prefetched < row.count]
    share = sum(row.exposed_s for row in late) / device.breakdown.span_s
    if share >= WORTH_SAYING:
        named = [f"{row.module or 'the root'} {row.direction} ({format_seconds(row.exposed_s)})" for row in late[:3]]
        yield TraceFinding(
            title="waits for parameters that nothing had gathered beforehand",
            share=share,
            evidence=f"exposed gathers that were not prefetched: {', '.join(named)}",
            change="FSDPModule.set_modules_to_forward_prefetch and set_modules_to_backward_prefetch; larger groups",
        )


def _leaks(device: TraceDevice) -> Iterator[TraceFinding]:
    for memory in device.memory:
        growth_bytes = memory.growth_bytes_per_step or 0.0
        if growth_bytes > _GROWS * memory.peak_allocated_bytes > 0:
            yield TraceFinding(
                title=f"allocates more memory in every step ({memory.device})",
                share=0.0,
                evidence=f"{format_bytes(growth_bytes)} more after each step",
                change="do not keep tensors with their graph (losses in a list); use .detach() or .item()",
            )
