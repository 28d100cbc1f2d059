"""What does a long sequence ask of a class that loops over its tokens? What short ones say, where they say it exactly.

Recurrent layers of transformers loop over pieces of the sequence, so that a capture takes as long as the sequence.
Costs of all layers are at most quadratic in its length: three lengths give them, a fourth shows whether that is so.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from hwprof.session.capturing.passes import Found
from hwprof.specs.model.captured import CapturedShot

LONGEST_SEEN = 8192
"""Tokens up to which a sequence is captured as it is."""

STEP = 256
"""Tokens between the lengths that are captured in its place; pieces of loops divide it (64 of gated delta, 256 of
Mamba-2)."""

_FIRST = 2
"""In steps, the first of these lengths: with one piece some operators don't run."""

_MORE_CALLS = 2
"""A sequence that would take this many times the calls of a short one is not captured."""

_BOUNDS = ("window", "chunk", "block", "local", "segment")
"""Words of configurations for lengths beyond which a layer does something else."""


class Lengths:
    """Passes of one configuration.

    Args:
        seen: captures some sequences of a length.
        config: the file's content, in JSON.
    """

    def __init__(self, seen: Callable[[int, int], Found], config: bytes) -> None:
        self.seen = functools.cache(seen)
        self.bounds = tuple(_bounds(json.loads(config)))

    def first(self, batch_size: int, seq_len: int) -> Found:
        """A pass that shows the model's parts."""
        return self.seen(batch_size, self._short(seq_len)[0] if self._loops(batch_size, seq_len) else seq_len)

    def shot(self, batch_size: int, seq_len: int) -> CapturedShot:
        """What some sequences do."""
        if self._loops(batch_size, seq_len):
            short = [self.seen(batch_size, each).shot for each in self._short(seq_len)]
            found = extended(short, seq_len)
            if found is not None:
                return found
        return self.seen(batch_size, seq_len).shot

    @staticmethod
    def _short(seq_len: int) -> list[int]:
        """Four lengths that leave the last piece as full as the asked one does."""
        return [seq_len % STEP + (_FIRST + each) * STEP for each in range(4)]

    def _loops(self, batch_size: int, seq_len: int) -> bool:
        """Whether a pass would have many times the calls of a short one, and the same in kind."""
        low, high = self._short(seq_len)[:2]
        longest = self._short(seq_len)[-1]
        if seq_len <= LONGEST_SEEN or any(longest < bound <= seq_len for bound in self.bounds):
            return False
        few, more = (self.seen(batch_size, each).calls for each in (low, high))
        return few + (more - few) * (seq_len - low) / STEP > _MORE_CALLS * more


def _bounds(config: Any) -> Iterator[int]:
    if isinstance(config, list):
        config = dict.fromkeys(range(len(config)))
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, int) and any(word in str(key) for word in _BOUNDS):
            yield value
        yield from _bounds(value)


def extended(short: list[CapturedShot], seq_len: int) -> CapturedShot | None:
    """The pass at ``seq_len`` tokens, by those at four shorter lengths that are as far from each other.

    Returns:
        None where their rows differ in kind, or the fourth is not what the first three say.
    """
    first, second, third, fourth = ([row.model_dump() for row in shot.rows] for shot in short)
    if not len(first) == len(second) == len(third) == len(fourth):
        return None
    steps = (seq_len - short[0].seq_len) // (short[1].seq_len - short[0].seq_len)
    rows = []
    for row in zip(first, second, third, fourth, strict=True):
        if _at(row[:3], 3) != row[3]:
            return None
        rows.append(_at(row[:3], steps))
    return CapturedShot.model_validate(short[0].model_dump() | {"seq_len": seq_len, "rows": rows})


def _at(values: tuple[Any, ...], steps: int) -> Any:
    """The value so many steps after the first, on the parabola through three; None where there is none."""
    low, middle, high = values
    if isinstance(low, dict):
        return {name: _at((value, middle[name], high[name]), steps) for name, value in low.items()}
    if not isinstance(low, int):
        return low if low == middle == high else None
    return low + steps * (middle - low) + steps * (steps - 1) // 2 * (high - 2 * middle + low)
