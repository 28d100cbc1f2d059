"""Which ceilings does a datasheet promise? Used beside measured ones, and in their place where a probe can't run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import Dtype


def datasheet_ceilings(device: DeviceSpec) -> tuple[Ceiling, ...]:
    """Dense matrix-multiply peaks and memory bandwidth of a GPU or accelerator.

    A processor's datasheet is for a whole socket, of which a machine may show a part, so it gives no ceilings.
    """
    return () if device.kind == "cpu" else tuple(_ceilings(device))


def _ceilings(device: DeviceSpec) -> Iterator[Ceiling]:
    for dtype in get_args(Dtype):
        peak_flop_per_s = device.matmul_flop_per_s(dtype)
        if peak_flop_per_s:
            yield Ceiling(
                name=f"matmul.{dtype}",
                kind="compute",
                value=peak_flop_per_s,
                unit="flop_per_s",
                origin="datasheet",
                source=f"{device.id}: dense peak ({', '.join(device.peaks.source)})",
                dtype=dtype,
            )
    yield Ceiling(
        name="memory.dram",
        kind="memory",
        value=device.memory.bandwidth_byte_per_s,
        unit="byte_per_s",
        origin="datasheet",
        source=f"{device.id}: {device.memory.type} ({', '.join(device.memory.source)})",
        level="dram",
    )
    if device.host_link:
        yield Ceiling(
            name="transfer.host_to_device.pinned",
            kind="transfer",
            value=device.host_link.bandwidth_byte_per_s,
            unit="byte_per_s",
            origin="datasheet",
            source=f"{device.id}: {device.host_link.type} ({', '.join(device.host_link.source)})",
        )
