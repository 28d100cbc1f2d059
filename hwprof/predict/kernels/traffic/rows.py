"""How long does each row of a table of elementwise kernels take? Rows of one op are asked together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.kernel_time import KernelTime
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.row_kinds import alike, refuse_unknown
from hwprof.predict.kernels.traffic.elementwise import (
    ISSUE_BYTES,
    NUMBER_BYTES,
    PASSES,
    ElementwiseKind,
    Library,
    elementwise_s,
)
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]

ELEMENTWISE_COLUMNS = ("op", "dtype", "rows", "width")
"""And, where it is there, ``key_width``: of the keys that a rotary kernel turns beside queries of ``width``."""

MANY = 1e6
"""Elements from which a kernel is counted apart from smaller."""

KEY_SHARES = (0.125, 1.0)
"""Key heads over query heads of today's decoders, from eight queries a key to one."""

SERVED = {"add", *ISSUE_BYTES}
"""Ops of which serving libraries have kernels of their own; in 16 bits they are taken to be meant."""


def elementwise_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Times of the rows of one device; a row with an unknown op or format is refused with the reason."""
    numbers, words = rows.numbers, rows.words
    times = RowTimes.empty(len(rows))
    many = numbers["rows"] * numbers["width"] >= MANY
    times.group[:] = ["elementwise of a million elements" if each else "elementwise below" for each in many]
    known = {"op": tuple(PASSES), "dtype": tuple(NUMBER_BYTES)}
    refuse_unknown(times, {name: words[name] for name in known}, known)
    for (op, dtype), index in alike(zip(words["op"], words["dtype"], strict=True), times):
        library: Library = "serving" if dtype != "fp32" and op in SERVED else "eager"
        kind = ElementwiseKind(op=op, dtype=dtype, library=library)
        here = {name: column[index] for name, column in numbers.items()}
        if op == "rope" and "key_width" not in here:
            found = _of_unknown_keys(here["rows"], here["width"], device, kind, table)
        else:
            found = elementwise_s(here["rows"], here["width"] + here.get("key_width", 0.0), device, kind, table=table)
        times.put(index, found, name=f"{library} {op}")
    return times


def _of_unknown_keys(
    rows: Floats, width: Floats, device: DeviceSpec, kind: ElementwiseKind, table: KernelTable
) -> KernelTime:
    """A rotary kernel of which only the queries' width is known: between the fewest keys and as many as queries."""
    fewest, most = (elementwise_s(rows, width * (1 + share), device, kind, table=table) for share in KEY_SHARES)
    return KernelTime(np.sqrt(fewest.seconds * most.seconds), fewest.lo_s, most.hi_s, most.basis)
