"""How fast were copies, against the links that carried them?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.spans.columns import NS, Trace
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.trace_rows import TraceCopy

_DIRECTIONS = {"HtoD": "host_to_device", "DtoH": "device_to_host"}
_KIND = re.compile(r"(HtoD|DtoH|DtoD|PtoP)|(?i:host ?to ?device|device ?to ?host|device ?to ?device)")
_WORDS = {"hosttodevice": "HtoD", "devicetohost": "DtoH", "devicetodevice": "DtoD"}


def copy_table(
    trace: Trace, pieces: Pieces, ceilings: Sequence[Ceiling], device: DeviceSpec | None
) -> tuple[TraceCopy, ...]:
    """One row for each kind of copy, most time first; fills are among them, without a link.

    Args:
        trace: where the names are from.
        pieces: what ran.
        ceilings: of the device; a measured rate of copies goes before the link's.
        device: its entry of the catalogue; None leaves links between devices unknown.
    """
    copies = pieces.where(pieces.kind == Kind.COPY)
    best = best_ceilings(ceilings)
    rows = []
    for name in np.unique(copies.name).tolist():
        mine = copies.where(copies.name == name)
        rows.append(_row(trace.names[name], mine, *_link(trace.names[name], best, device)))
    return tuple(sorted(rows, key=lambda row: -row.time_s))


def _row(name: str, copies: Pieces, link_name: str, link_byte_per_s: float | None) -> TraceCopy:
    time_s = (copies.end_ns - copies.start_ns) * NS
    size_bytes = float(copies.size_bytes.sum())
    known = (copies.size_bytes > 0) & (time_s > 0)
    best = float((copies.size_bytes[known] / time_s[known]).max()) if known.any() else None
    return TraceCopy(
        name=name,
        count=len(copies),
        bytes=size_bytes,
        time_s=float(time_s.sum()),
        byte_per_s=float(copies.size_bytes[known].sum() / time_s[known].sum()) if known.any() else None,
        best_byte_per_s=best,
        link_name=link_name,
        link_byte_per_s=link_byte_per_s,
        link_fraction=best / link_byte_per_s if best and link_byte_per_s else None,
    )


def _link(name: str, best: Mapping[str, Ceiling], device: DeviceSpec | None) -> tuple[str, float | None]:
    """The link of a copy, and what it carries one way."""
    found = _KIND.search(name)
    kind = _WORDS.get(found[0].lower().replace(" ", ""), found[0]) if found else ""
    if kind in _DIRECTIONS:
        memory = "pageable" if "pageable" in name.lower() else "pinned"
        for one in (f"transfer.{_DIRECTIONS[kind]}.{memory}", f"transfer.{_DIRECTIONS[kind]}.pinned"):
            if one in best:
                return one, best[one].value
        return ("host link", device.host_link.bandwidth_byte_per_s) if device and device.host_link else ("", None)
    if kind == "DtoD" and (memory_roof := best.get("memory.dram")):
        return "memory.dram, read and written", memory_roof.value / 2
    if kind == "PtoP":
        peers = [ceiling for one, ceiling in best.items() if re.match(r"transfer\.(to|from)_peer\.", one)]
        if peers:
            fastest = max(peers, key=lambda ceiling: ceiling.value)
            return fastest.name, fastest.value
        if device and device.link:
            return "links between devices", device.link.per_device_byte_per_s
    return "", None
