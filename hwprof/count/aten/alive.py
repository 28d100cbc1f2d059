"""How much of a captured pass is alive at once? Each result from the call that makes it to the last that reads it."""

from __future__ import annotations

from itertools import accumulate

from hwprof.specs.record.captured import Capture


def activation_peak_bytes(capture: Capture) -> int:
    """The most bytes that a pass without gradients holds of its own results; weights and what went in are left out.

    No kernel's workspace is counted, nor memory that an allocator keeps back.
    """
    born: dict[int, int] = {}
    last: dict[int, int] = {}
    size_bytes: dict[int, int] = {}
    given: set[int] = set()
    for number, placed in enumerate(capture.calls):
        for tensor in placed.call.inputs:
            last[tensor.storage] = number
            if tensor.storage not in born:
                given.add(tensor.storage)
        for tensor in placed.call.outputs:
            if tensor.storage in given:
                continue
            born.setdefault(tensor.storage, number)
            last[tensor.storage] = number
            size_bytes[tensor.storage] = max(size_bytes.get(tensor.storage, 0), tensor.size_bytes)
    change_bytes = [0] * (len(capture.calls) + 1)
    for storage, number in born.items():
        change_bytes[number] += size_bytes[storage]
        change_bytes[last[storage] + 1] -= size_bytes[storage]
    return max(accumulate(change_bytes))
