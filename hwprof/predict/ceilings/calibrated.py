"""What do measured ceilings change in the simulator's parameters? Shares of a device's peaks, and single kernels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hwprof.count.job.device_work import FLASH_BACKWARD_PRODUCTS
from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import device_set
from hwprof.specs.catalogue.simulator import MeasuredRate, ParameterSet, SimulatorParameters
from hwprof.specs.hardware.spec import MatmulDtype
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
    shares = dict(_shares(measured, machine, formats))
    notes = [
        f"{name} {measured[name].origin} in the run or probe: {format_fraction(share)} of the datasheet"
        for name, share in shares.items()
    ]
    rates = tuple(rate for each in formats for rate in _rates(measured, machine, each))
    if rates:
        kinds = " and ".join(formats)
        notes.append(f"{len(rates)} kernels of {kinds} at their measured rates, other shapes by the nearest of them")
    notes += [
        f"{each} products: no rate of {machine.device.id} among the ceilings, fitted share used"
        for each in formats
        if f"matmul.{each}" not in shares
    ]
    values = {_parameter(name): share for name, share in shares.items()}
    reached = [
        each.best_bus_byte_per_s / machine.inside_byte_per_s
        for each in collectives
        if each.collective == "all_gather" and each.nodes == 1
    ]
    if reached and machine.domain > 1:
        values["inside_share"] = max(reached)
        notes.append(f"all-gather measured between neighbours: {format_fraction(max(reached))} of the links")
    return with_device(table, machine, values, rates), tuple(notes)


def _parameter(ceiling: str) -> str:
    """The simulator's name of the share that a ceiling measures."""
    if ceiling.startswith("memory."):
        return "memory_share"
    dtype = ceiling.removeprefix("matmul.")
    return f"{dtype}_matmul_share" if dtype in NARROW else "matmul_share"


NARROW = frozenset({"fp8", "fp4"})


def _shares(
    measured: Mapping[str, Ceiling], machine: Machine, formats: Sequence[MatmulDtype]
) -> Iterator[tuple[str, float]]:
    peaks = {f"matmul.{dtype}": machine.peak_flop_per_s(dtype) for dtype in formats}
    peaks["memory.dram"] = machine.memory_byte_per_s
    for name, peak in peaks.items():
        if name in measured:
            yield name, measured[name].value / peak


def _rates(measured: Mapping[str, Ceiling], machine: Machine, dtype: MatmulDtype) -> Iterator[MeasuredRate]:
    peak = machine.peak_flop_per_s(dtype)
    for name, ceiling in measured.items():
        share = ceiling.value / peak
        if (found := _PRODUCT.fullmatch(name)) and found["dtype"] == dtype:
            m, n, k = (float(found[size]) for size in "mnk")
            yield MeasuredRate(unit="narrow matmul" if dtype in NARROW else "matmul", m=m, n=n, k=k, share=share)
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
    return table.model_copy(update={"device": {**table.device, machine.device.id: own}})
