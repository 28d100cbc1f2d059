"""What do measured ceilings change in the simulator's parameters? Shares of a device's peaks, and single kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hwprof.count.job.device_work import FLASH_BACKWARD_PRODUCTS
from hwprof.errors import InputError
from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.predict.collectives.measured import inside_time
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import device_set
from hwprof.specs.catalogue.detect import claimants
from hwprof.specs.catalogue.simulator import MeasuredRate, ParameterSet, SimulatorParameters
from hwprof.specs.hardware.spec import DeviceSpec, MatmulDtype
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.units import format_fraction

_PRODUCT = re.compile(r"matmul\.(?P<dtype>\w+)\.(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)")
_ATTENTION = re.compile(
    r"attention\.(?P<dtype>\w+)\.(?P<batch>\d+)x(?P<heads>\d+)x\d+x(?P<seq>\d+)x(?P<width>\d+)\.(?P<way>forward|backward)"
)

FLASH_BACKWARD_WORK = FLASH_BACKWARD_PRODUCTS / 4
"""Products that a flash kernel's backward does, over those that count as model FLOP and that probes divide by."""


def with_ceilings(
    table: SimulatorParameters,
    machine: Machine,
    ceilings: Sequence[Ceiling],
    dtype: MatmulDtype,
    *,
    narrow: MatmulDtype | None = None,
    collectives: Sequence[CollectiveCurve] = (),
) -> tuple[SimulatorParameters, tuple[str, ...]]:
    """The table with the machine's device as measured, and in words what was taken.

    Args:
        table: the parameters that hwprof ships.
        machine: the machine whose device was measured.
        ceilings: those of a probe or a run on it; ones from datasheets are left out.
        dtype: the format of the job's products, of all that are not narrow.
        narrow: the format of its narrow products (fp8, fp4), if it has any.
        collectives: those between neighbours; they say what share of their links collectives reach.

    Raises:
        SpecError: the device has no peak or no bandwidth to be held against.
    """
    measured = best_ceilings([each for each in ceilings if each.origin in {"measured", "calibrated"}])
    formats = [dtype, *([narrow] if narrow else [])]
    values: dict[str, float] = {}
    notes: list[str] = []
    if "memory.dram" in measured:
        dram = measured["memory.dram"]
        values["memory_share"] = dram.value / machine.memory_byte_per_s
        share = format_fraction(values["memory_share"])
        notes.append(f"memory.dram {dram.origin} in the run or probe: {share} of the datasheet")
    rates = tuple(rate for each in formats for rate in _rates(measured, machine, each))
    for each in formats:
        count = sum(rate.unit == _UNIT[each in NARROW] for rate in rates)
        if count:
            values["narrow_share" if each in NARROW else "sustained_share"] = 1.0
            notes.append(f"{count} products of {each} at their measured rates, other shapes by them")
        else:
            notes.append(f"{each} products: none of {machine.device.id} among the ceilings")
    reached = [_share_of_links(each, machine) for each in collectives if each.collective == "all_gather"]
    if reached and machine.domain > 1:
        values["link_share"] = max(reached)
        notes.append(f"all-gather measured between neighbours: {max(reached):.2f} of the modelled rate")
    return with_device(table, machine, values, rates), tuple(notes)


def measured_rates(ceilings: Sequence[Ceiling], machine: Machine, dtype: MatmulDtype) -> tuple[MeasuredRate, ...]:
    """Rates of single products, and of attention, in a format, of what was measured on a machine's device.

    Raises:
        SpecError: the device has no peak to be held against.
    """
    return tuple(_rates(best_ceilings([each for each in ceilings if each.origin == "measured"]), machine, dtype))


def check_probed(device: DeviceSpec, name: str, source: str) -> None:
    """Refuse measurements of another device.

    Args:
        device: that is predicted.
        name: of the device that was measured, as its machine says it.
        source: where the measurements are, in words.

    Raises:
        InputError: it is another one.
    """
    seen = claimants(name, kind="cpu" if device.kind == "cpu" else "cuda")
    if device.id not in {each.id for each in seen}:
        raise InputError(
            f"calibration {source} is of {name!r}",
            expectation=f"expected one of {device.id}",
            remedy="name the device that was probed with --hardware, or leave --calibration out",
        )


_UNIT = {False: "matmul", True: "narrow matmul"}
NARROW = frozenset({"fp8", "fp4"})


def _share_of_links(curve: CollectiveCurve, machine: Machine) -> float:
    """Modelled over measured time of the largest vector between neighbours."""
    largest = max(curve.points, key=lambda point: point.size_bytes)
    sizes = np.array([[float(largest.size_bytes)], [float(curve.ranks)]])
    return float(inside_time("all_gather", machine, *sizes).seconds[0] / largest.time_s)


def _rates(measured: Mapping[str, Ceiling], machine: Machine, dtype: MatmulDtype) -> Iterator[MeasuredRate]:
    peak = machine.peak_flop_per_s(dtype)
    for name, ceiling in measured.items():
        share = ceiling.value / peak
        if name == f"matmul.{dtype}" and (shape := str(ceiling.conditions.get("shape_mxnxk", ""))):
            m, n, k = (float(size) for size in shape.split("x"))
            yield MeasuredRate(unit=_UNIT[dtype in NARROW], m=m, n=n, k=k, share=share)
        elif (found := _PRODUCT.fullmatch(name)) and found["dtype"] == dtype:
            m, n, k = (float(found[size]) for size in "mnk")
            yield MeasuredRate(unit=_UNIT[dtype in NARROW], m=m, n=n, k=k, share=share)
        elif (found := _ATTENTION.fullmatch(name)) and found["dtype"] == dtype:
            sizes = {
                "m": float(found["seq"]),
                "n": float(found["heads"]) * float(found["batch"]),
                "k": float(found["width"]),
            }
            if found["way"] == "forward":
                yield MeasuredRate(unit="attention", **sizes, share=share)
            else:
                yield MeasuredRate(unit="attention backward", **sizes, share=share * FLASH_BACKWARD_WORK)


def with_device(
    table: SimulatorParameters, machine: Machine, values: Mapping[str, float], rates: tuple[MeasuredRate, ...]
) -> SimulatorParameters:
    """The table with these values for the machine's device; others of it stay."""
    known, _ = device_set(table, machine.device)
    merged = (known.values if known else {}) | dict(values)
    own = ParameterSet(basis="fitted", source="measured on the device", values=merged, measured=rates)
    return table.changed(device={**table.device, machine.device.id: own})
