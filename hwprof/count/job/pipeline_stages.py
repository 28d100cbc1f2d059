"""What does a device of a pipeline hold? Its layers, and how many micro-batches are between forward and backward.

All functions take numbers, or arrays that broadcast against each other.
Letters: p stages, i a device (0 is the first stage), m micro-batches of a step, v chunks of a device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hwprof.count.ops.elementwise import Amount, larger, smaller, where
from hwprof.specs.job.schedules import TRAITS, Schedule


def layers_before(chunk: Amount, *, layers: Amount, chunks: Amount) -> Amount:
    """Layers before a chunk when ``layers`` are cut into ``chunks`` chunks in a row.

    What does not divide goes to the chunks in the middle, one layer each: embedding and head weigh on the ends
    (BLOOM: 70 layers over 12 stages are 5, ten times 6, 5).

    >>> [layers_before(i + 1, layers=70, chunks=12) - layers_before(i, layers=70, chunks=12) for i in (0, 1, 10, 11)]
    [5, 6, 6, 5]
    """
    each = layers // chunks
    longer, shorter = longer_chunks(layers=layers, chunks=chunks)
    return each * chunk + smaller(larger(chunk - longer, 0), shorter - longer)


def longer_chunks(*, layers: Amount, chunks: Amount) -> tuple[Amount, Amount]:
    """The first chunk that has one layer more than the first has, and the first after these; alike if none has."""
    left_over = layers % chunks
    first = (chunks - left_over) // 2
    return first, first + left_over


def chunk_of(layer: Amount, *, layers: Amount, chunks: Amount) -> Amount:
    """The chunk that holds a layer.

    >>> [chunk_of(layer, layers=70, chunks=12) for layer in (0, 4, 5, 10, 11, 64, 65)]
    [0, 0, 1, 1, 2, 10, 11]
    """
    each = layers // chunks
    divisor = larger(each, 1)
    longer, shorter = longer_chunks(layers=layers, chunks=chunks)
    start = each * longer
    end = start + (each + 1) * (shorter - longer)
    behind = shorter + (layer - end) // divisor
    inside = longer + (layer - start) // (each + 1)
    return where(layer < start, layer // divisor, where(layer < end, inside, behind))


def devices_from(schedule: Schedule, chunk: Amount, stages: Amount) -> tuple[Amount, ...]:
    """The devices from which on a device holds what begins, or no longer what ends, at ``chunk``; ``stages`` is none.

    zb-v turns back after the last device; in DualPipe the model runs both ways.
    """
    if TRAITS[schedule].turns_back:
        return (where(chunk < stages, chunk, 2 * stages - chunk),)
    if TRAITS[schedule].two_way:
        return chunk, stages - chunk
    return (chunk % stages,)


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each of so many stages (or chunks) in a row."""
    ends = [int(layers_before(stage, layers=layers, chunks=stages)) for stage in range(stages + 1)]
    return tuple(end - start for start, end in itertools.pairwise(ends))


def device_chunks(schedule: Schedule, *, stages: Amount, virtual_stages: Amount) -> Amount:
    """Into how many chunks the layers are cut; DualPipe holds every chunk on two devices."""
    if TRAITS[schedule].turns_back:
        return 2 * stages
    return stages * virtual_stages if TRAITS[schedule].virtual else stages


def layers_held(
    schedule: Schedule, device: Amount, *, stages: Amount, virtual_stages: Amount, layers: Amount, leading: Amount
) -> tuple[Amount, Amount]:
    """How many of the ``leading`` layers, and how many of all others, a device holds.

    One chunk of the model, or several: i, i + p, i + 2p ... (interleaved); one from each end (zb-v and DualPipe, in
    which the device at the other end holds the same two).
    """
    chunks = device_chunks(schedule, stages=stages, virtual_stages=virtual_stages)
    firsts: Amount = 0
    others: Amount = 0
    for chunk, exists in _chunks_of(schedule, device, stages, virtual_stages):
        start = layers_before(chunk, layers=layers, chunks=chunks)
        end = layers_before(chunk + 1, layers=layers, chunks=chunks)
        own = end - start
        if not isinstance(leading, int) or leading:
            first = smaller(leading, end) - smaller(leading, start)
            firsts = firsts + where(exists, first, 0)
            own = own - first
        others = others + where(exists, own, 0)
    return firsts, others


def _chunks_of(
    schedule: Schedule, device: Amount, stages: Amount, virtual_stages: Amount
) -> list[tuple[Amount, Amount]]:
    """The numbers of a device's chunks, and whether there is one of that number."""
    if TRAITS[schedule].turns_back:
        return [(device, True), (2 * stages - 1 - device, True)]
    if TRAITS[schedule].two_way:
        return [(device, True), (stages - 1 - device, stages > 1)]
    most = _most(virtual_stages) if TRAITS[schedule].virtual else 1
    return [(device + turn * stages, turn < virtual_stages) for turn in range(most)]


def _most(amount: Any) -> int:
    return int(amount) if isinstance(amount, int | float) else int(amount.max())


def holds_last(schedule: Schedule, device: Amount, stages: Amount) -> Amount:
    """Whether a device holds the last chunk, with the head: the last one, in two-chunk schedules the first."""
    if TRAITS[schedule].turns_back:
        return device == 0
    if TRAITS[schedule].two_way:
        return (device == 0) | (device == stages - 1)
    return device == stages - 1


def holds_first(schedule: Schedule, device: Amount, stages: Amount) -> Amount:
    """Whether a device holds the first chunk, with the embedding."""
    if TRAITS[schedule].two_way:
        return (device == 0) | (device == stages - 1)
    return device == 0


def in_flight(
    schedule: Schedule, device: Amount, *, stages: Amount, virtual_stages: Amount, micro_batches: Amount
) -> Amount:
    """Micro-batches whose activations a device holds at most, counted in all of its layers.

    gpipe: all m. 1f1b: p - i (Narayanan et al. 2021, section 2.2). interleaved: 2(p - i - 1) + (v - 1)p + 1 chunks, of
    which v are a whole (Megatron-LM's warm-up; for i = 0 the 1 + (p - 1)/(pv) of Korthikanti et al. 2022). zb-h1 and
    zb-v: p on every device (Qi et al. 2023, section 2; 2024, section 3). dualpipe: p + 1 of half a device's layers
    (DeepSeek-V3, table 2).
    """
    return _IN_FLIGHT[schedule](device, stages, virtual_stages, micro_batches)


def _interleaved_in_flight(device: Amount, stages: Amount, virtual_stages: Amount, micro_batches: Amount) -> Amount:
    chunks = 2 * (stages - device - 1) + (virtual_stages - 1) * stages + 1
    return smaller(chunks, micro_batches * virtual_stages) / virtual_stages


_IN_FLIGHT: dict[Schedule, Callable[[Amount, Amount, Amount, Amount], Amount]] = {
    "gpipe": lambda _i, _p, _v, m: m,
    "1f1b": lambda i, p, _v, m: smaller(p - i, m),
    "interleaved": _interleaved_in_flight,
    "zb-h1": lambda _i, p, _v, m: smaller(p, m),
    "zb-v": lambda _i, p, _v, m: smaller(p, m),
    "dualpipe": lambda _i, p, _v, m: where(p > 1, smaller(p + 1, m) / 2, 1),
}
