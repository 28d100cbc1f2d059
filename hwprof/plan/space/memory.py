"""How much memory does each of many layouts need? The pieces of each shape counted sparingly, then one formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.count.memory.job import job_pieces
from hwprof.count.memory.moments import Spread, host_bytes, reserved_bytes
from hwprof.count.memory.overhead import FRAGMENTATION, libraries_bytes
from hwprof.count.memory.pieces import Block, Held, Pieces
from hwprof.count.ops.elementwise import Amount
from hwprof.plan.space.columns import Columns, Numbers, only, rows_of
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES
from hwprof.specs.job.settings import RECOMPUTE
from hwprof.specs.job.step import TrainingJob

Floats = NDArray[np.float64]

_CHUNK_ROWS = 8192
"""Rows at a time: their arrays stay in a core's cache."""

_CURVE = ("tensor", "context", "expert", "expert_tensor", "recompute", "sequence_parallel")
"""What the pieces depend on, beside the micro-batch."""

_PLAIN = (1, 1, 1, 1, 0, 1)

_HELD = tuple(each.name for each in fields(Held))
_SIZES = tuple(each.name for each in fields(Block) if each.type == "Amount")
_BLOCKS = tuple(each.name for each in fields(Pieces) if each.type == "Block")
_AMOUNTS = tuple(each.name for each in fields(Pieces) if each.type == "Amount")
_OF_HELD = len(_HELD) * (2 * len(_BLOCKS) + 1)

_GROWING = tuple(_OF_HELD + len(_SIZES) * block + _SIZES.index("growing_bytes") for block in range(len(_BLOCKS)))
_STEADY = np.array([i for i in range(_OF_HELD + len(_SIZES) * len(_BLOCKS) + len(_AMOUNTS)) if i not in _GROWING])

SAME = 1e-6
"""Relative difference up to which amounts that are rounded to bytes count as the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceShelf:
    """The pieces of a job's shapes, as rows of numbers; each counted once or found between two that were counted."""

    base: TrainingJob
    _counted: dict[tuple[int, ...], Floats] = field(default_factory=dict)

    def needs(self, columns: Columns, *, scale: float = 1.0) -> Floats:
        """What the fullest device of each row has to have; its tensors need ``scale`` times what is counted."""
        reserved = self._of_each(columns, reserved_bytes) * scale * (1 + FRAGMENTATION[self.base.framework])
        libraries = libraries_bytes(
            tensor=columns["tensor"],
            context=columns["context"],
            data=columns["data"],
            stages=columns["pipeline"],
            expert=columns["expert"],
            framework=self.base.framework,
        )
        return np.asarray(reserved + libraries)

    def on_host(self, columns: Columns) -> Floats:
        """Bytes in host memory for the device of each row that puts most there."""
        return self._of_each(columns, host_bytes)

    def _of_each(self, columns: Columns, amount: Callable[[Pieces, Spread], Amount]) -> Floats:
        table, place = self._table(columns)
        like = self._pieces(_PLAIN, 1)
        found = np.empty(rows_of(columns))
        for code in np.unique(columns["schedule"]):
            same = np.flatnonzero(columns["schedule"] == code)
            for start in range(0, len(same), _CHUNK_ROWS):
                rows = same[start : start + _CHUNK_ROWS]
                spread = self._spread(only(columns, rows), int(code))
                found[rows] = amount(_pieces_of(table, place[rows], like), spread)
        return found

    def _spread(self, columns: Columns, code: int) -> Spread:
        counted = self.base.global_batch // (columns["data"] * columns["micro_batch"])
        return Spread(
            stages=columns["pipeline"],
            virtual_stages=columns["virtual"],
            micro_batches=counted,
            replicas=columns["data"] * columns["context"],
            shards=columns["shard_ranks"],
            zero_stage=columns["zero_stage"],
            schedule=SCHEDULES[code],
        )

    def _table(self, columns: Columns) -> tuple[Floats, Numbers]:
        """The numbers of each shape, one row a shape, and the row of each layout."""
        keys = np.stack([columns[name] for name in (*_CURVE, "micro_batch")])
        shapes, place = _distinct(keys)
        curves, of_curve = _distinct(shapes[:-1])
        table = np.empty((shapes.shape[1], len(self._numbers(_PLAIN, 1))))
        for number in range(curves.shape[1]):
            rows = np.flatnonzero(of_curve == number)
            rows = rows[np.argsort(shapes[-1, rows])]
            sizes = [int(size) for size in shapes[-1, rows]]
            self._fill(tuple(map(int, curves[:, number])), sizes, table, rows)
        return table, place

    def _fill(self, curve: tuple[int, ...], sizes: Sequence[int], table: Floats, rows: Numbers) -> None:
        """The numbers at each size of a curve, few of them counted.

        Every amount is linear in the micro-batch or the largest of several that are, hence convex; and a convex curve
        that meets its chord between the ends is straight.
        """
        ends = self._numbers(curve, sizes[0]), self._numbers(curve, sizes[-1])
        table[rows[0]], table[rows[-1]] = ends
        if len(sizes) < 3:
            return
        middle = len(sizes) // 2
        shares = (np.array(sizes) - sizes[0]) / (sizes[-1] - sizes[0])
        chord = ends[0] + shares[:, None] * (ends[1] - ends[0])
        counted = self._numbers(curve, sizes[middle])
        if self._is_straight(counted, chord[middle]):
            table[rows] = chord
        else:
            self._fill(curve, sizes[: middle + 1], table, rows[: middle + 1])
            self._fill(curve, sizes[middle:], table, rows[middle:])

    def _is_straight(self, counted: Floats, chord: Floats) -> bool:
        """Whether what was counted lies on a chord; ``growing_bytes`` counts only where gradients grow."""
        which = _STEADY if self._pieces(_PLAIN, 1).lasting_gradients else slice(None)
        return np.allclose(counted[which], chord[which], rtol=SAME, atol=1.0)

    def _numbers(self, curve: tuple[int, ...], micro_batch: int) -> Floats:
        key = (*curve, micro_batch)
        if key not in self._counted:
            self._counted[key] = _numbers_of(self._pieces(curve, micro_batch))
        return self._counted[key]

    def _pieces(self, curve: tuple[int, ...], micro_batch: int) -> Pieces:
        tensor, context, expert, expert_tensor, recompute, sequence_parallel = curve
        shards = expert * expert_tensor
        data = shards // math.gcd(shards, context * tensor)
        layout = ParallelLayout(
            data_parallel=data,
            tensor_parallel=tensor,
            context_parallel=context,
            context_kind=self.base.layout.context_kind,
            expert_parallel=expert,
            expert_tensor=expert_tensor,
            sequence_parallel=bool(sequence_parallel),
        )
        return job_pieces(
            self.base.changed(
                micro_batch=micro_batch,
                global_batch=micro_batch * data,
                recompute=RECOMPUTE[recompute],
                layout=layout,
            )
        )


def shelf_of(base: TrainingJob) -> PieceShelf:
    """An empty shelf for a job; of its layout only the kind of context parallelism stays."""
    layout = ParallelLayout(context_kind=base.layout.context_kind)
    return PieceShelf(base=base.changed(layout=layout, recompute_layers=None))


def _distinct(keys: Numbers) -> tuple[Numbers, Numbers]:
    """The distinct columns of a table, and the place of each column among them."""
    code = keys[0].copy()
    for row in keys[1:]:
        code = code * (int(row.max(initial=0)) + 1) + row
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return keys[:, first], place.reshape(-1)


def _numbers_of(pieces: Pieces) -> Floats:
    blocks = [getattr(pieces, name) for name in _BLOCKS]
    held = [part for block in blocks for part in (block.dense, block.experts)] + [pieces.tied]
    values = [getattr(part, name) for part in held for name in _HELD]
    values += [getattr(block, name) for block in blocks for name in _SIZES]
    values += [getattr(pieces, name) for name in _AMOUNTS]
    return np.array(values, dtype=float)


def _pieces_of(table: Floats, place: Numbers, like: Pieces) -> Pieces:
    """Pieces whose amounts are arrays, one element a layout; an amount that is the same everywhere stays a number."""
    same = np.all(table == table[:1], axis=0)
    columns = iter(float(table[0, i]) if same[i] else table[place, i] for i in range(table.shape[1]))
    held = [Held(**_taken(_HELD, columns)) for _ in range(2 * len(_BLOCKS) + 1)]
    blocks: dict[str, Any] = {
        name: Block(dense=held[2 * i], experts=held[2 * i + 1], **_taken(_SIZES, columns))
        for i, name in enumerate(_BLOCKS)
    }
    return replace(like, **blocks, tied=held[-1], **_taken(_AMOUNTS, columns))


def _taken(names: Sequence[str], columns: Any) -> Mapping[str, Any]:
    return {name: next(columns) for name in names}
