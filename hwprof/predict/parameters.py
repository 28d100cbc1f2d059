"""How well do a device and its software use what the datasheet promises? The numbers that are fitted, never counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from hwprof.count.ops.elementwise import Amount
from hwprof.errors import SpecError
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.simulator import MeasuredRate, ParameterSet, SimulatorParameters, ThrottleLaw
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.units import format_estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a step has beyond its kernels, collectives and copies run alone; numbers, or arrays of one per job.

    Of the device:

    Attributes:
        sustained_share: clock of a device under a step's sustained power over that of a kernel run alone; it stretches
            arithmetic. Where nobody measured the device's kernels, share of the assumed rates.
        narrow_share: the same of products in 8 bits or fewer.
        memory_share: share of the memory bandwidth that streaming kernels reach.

    Of the machine at hand, 1 where nothing was measured on it, never fitted:

    Attributes:
        kernel_share: modelled over measured time of a run's kernels.
        link_share: measured over modelled rate of collectives between neighbours.

    Of the software:

    Attributes:
        product_factor, attention_factor: times of products and attention over those of the measured libraries' kernels.
        traffic_factor: bytes that elementwise kernels move over those of perfectly fused ones; ``loss_traffic_factor``
            the same from the final norm to the loss.
        kernel_host_s: host time to launch one kernel.
        expert_layer_host_s: host time of a layer of experts beside its kernels (routing, synchronisation).
        tensor_overlap, expert_overlap: share of tensor and expert traffic hidden behind compute.
        data_overlap: share of the compute beside which data-parallel traffic may run.
        contention: share of hidden data-parallel traffic by which it slows compute.
        step_fixed_s: time of a step that depends on nothing (data, logging, synchronisation).
        straggler_share: slowdown for each doubling of the devices beyond 8.

    Measured on the device itself:

    Attributes:
        measured: rates of single kernels, which stand before those that others measured.
    """

    sustained_share: Amount
    narrow_share: Amount
    memory_share: Amount
    kernel_share: Amount
    link_share: Amount

    product_factor: Amount
    attention_factor: Amount
    traffic_factor: Amount
    loss_traffic_factor: Amount
    kernel_host_s: Amount
    expert_layer_host_s: Amount
    tensor_overlap: Amount
    expert_overlap: Amount
    data_overlap: Amount
    contention: Amount
    step_fixed_s: Amount
    straggler_share: Amount

    measured: tuple[MeasuredRate, ...] = ()


NAMES = tuple(field.name for field in fields(Parameters) if field.name != "measured")
DEVICE_NAMES = NAMES[:5]
STACK_NAMES = NAMES[5:]
FITTED_NAMES = (*NAMES[:3], *STACK_NAMES)
"""All but those of the machine at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between which values a parameter makes sense, and why."""

    low: float
    high: float
    why: str


BOUNDS = {
    "sustained_share": Bounds(low=0.6, high=1.0, why="warm over cold 0.98 on H100, 0.87 on A100; the rest is steps'"),
    "narrow_share": Bounds(low=0.6, high=1.0, why="as sustained_share"),
    "memory_share": Bounds(low=0.75, high=0.95, why="streaming kernels measured on A100, H100 and RTX 3090"),
    "product_factor": Bounds(low=0.9, high=1.6, why="libraries of other years and layouts of operands"),
    "attention_factor": Bounds(low=0.7, high=2.0, why="generations of attention kernels differ by two"),
    "traffic_factor": Bounds(low=0.8, high=4.0, why="from perfectly fused to one kernel an operation"),
    "loss_traffic_factor": Bounds(low=0.5, high=10.0, why="from a fused loss to one in fp32 with copies"),
    "kernel_host_s": Bounds(low=5e-7, high=8e-5, why="a launch from a graph to some ten calls of Python"),
    "expert_layer_host_s": Bounds(low=1e-6, high=1e-2, why="from none to several synchronisations with the host"),
    "tensor_overlap": Bounds(low=0.01, high=0.95, why="something is exposed at both ends"),
    "expert_overlap": Bounds(low=0.01, high=0.95, why="something is exposed at both ends"),
    "data_overlap": Bounds(low=0.1, high=1.0, why="share of the compute beside which traffic runs"),
    "contention": Bounds(low=0.005, high=0.9, why="traffic that hides does not cost more than itself"),
    "step_fixed_s": Bounds(low=0.0, high=1.0, why="reading data and logging, once a step"),
    "straggler_share": Bounds(low=0.0, high=0.05, why="slowdown for each doubling; 14 doublings are 10,000 devices"),
}
"""By the name of the parameter; a fit keeps to them."""


def sustained_share(device: DeviceSpec, law: ThrottleLaw | None) -> float | None:
    """The clock that a GPU holds under a step's power, from what it has of power for its arithmetic; None = not known.

    A step keeps the chip at its power limit; what arithmetic takes longer is a power law of peak over power.
    """
    flop_per_joule = arithmetic_per_joule(device)
    if law is None or flop_per_joule is None:
        return None
    share = float(1 / (1 + law.scale * flop_per_joule**law.exponent))
    return min(max(share, BOUNDS["sustained_share"].low), BOUNDS["sustained_share"].high)


def arithmetic_per_joule(device: DeviceSpec) -> float | None:
    """Dense 16-bit TFLOP for each joule at the power limit: of GPUs that say both."""
    peak = device.matmul_flop_per_s("bf16") or device.matmul_flop_per_s("fp16")
    power_watt = device.compute.tdp_watt
    return peak / power_watt * 1e-12 if device.kind == "gpu" and peak and power_watt else None


def device_set(table: SimulatorParameters, device: DeviceSpec) -> tuple[ParameterSet | None, str]:
    """What is kept for a device, or for the one with the same chip, and under which name."""
    chip = device.compute.same_chip_as
    name = chip if chip and device.id not in table.device else device.id
    return table.device.get(name), name


def parameters_for(table: SimulatorParameters, machine: Machine, stack: Stack) -> tuple[Parameters, tuple[str, ...]]:
    """The parameters of a device with a software stack, and of each set of them whether it was fitted or assumed.

    Raises:
        SpecError: a parameter has no value.
    """
    device = device_set(table, machine.device)
    architecture = (table.architecture.get(machine.architecture), machine.architecture)
    general = (table.architecture.get("other"), "other devices")
    software = (table.stack.get(stack.name), stack.name)
    family = (table.family.get(stack.family), f"the {stack.family} family")
    by_power = _by_power(machine.device, table)
    chosen = {
        **_values(DEVICE_NAMES, (general, architecture, by_power, device)),
        **_values(STACK_NAMES, (family, software)),
    }
    missing = [name for name in NAMES if name not in chosen]
    if missing:
        raise SpecError(
            f"the simulator's parameter file has no {', '.join(missing)} for {machine.device.id} and {stack.name}",
            remedy="take the file that hwprof ships, or fit it again with benchmarks/fit_simulator.py",
        )
    longer, cap_words = _under_cap(machine, table.throttle)
    chosen |= {name: 1 / (1 / chosen[name] + longer) for name in ("sustained_share", "narrow_share")}
    measured = device[0].measured if device[0] else ()
    basis = list(_basis((device, architecture, general), (software, family)))
    if device[0] is None and by_power[0]:
        watt = machine.device.compute.tdp_watt
        basis.append(f"sustained clock of {machine.device.id} by its {watt:g} W, a law fitted to all GPUs")
    basis += cap_words
    return Parameters(**chosen, measured=measured), tuple(basis)


def _under_cap(machine: Machine, law: ThrottleLaw | None) -> tuple[float, tuple[str, ...]]:
    """By how much arithmetic takes longer under the machine's power cap, over its time alone; and that in words.

    The law of power says what each GPU loses at its rating, by what it has of power for its arithmetic; less power is
    the same as more arithmetic. A V100 at 150 of 250 W takes 6 % longer by it; 6.8 % were measured (McDonald et al.
    2022, arXiv 2205.09646).
    """
    cap_watt, rated = machine.power_cap_watt, arithmetic_per_joule(machine.device)
    if cap_watt is None or law is None or rated is None:
        return 0.0, ()
    watt = machine.device.compute.tdp_watt
    assert watt is not None
    longer = law.scale * rated**law.exponent * float((watt / cap_watt) ** law.exponent - 1)
    return longer, (
        f"capped at {cap_watt:g} of {watt:g} W: arithmetic takes {format_estimate(longer)} of its time alone longer",
    )


_Named = tuple[ParameterSet | None, str]


def _by_power(device: DeviceSpec, table: SimulatorParameters) -> _Named:
    """What the law of power says of a device."""
    share = sustained_share(device, table.throttle)
    return (ParameterSet(values={"sustained_share": share}) if share else None), ""


def _values(names: tuple[str, ...], sets: tuple[_Named, ...]) -> dict[str, float]:
    """Values of these names, those of later sets before those of earlier ones."""
    return {name: value for one, _ in sets if one for name, value in one.values.items() if name in names}


def _basis(*levels: tuple[_Named, ...]) -> Iterator[str]:
    """In words, where the values of each kind are from: the most particular set that there is."""
    for sets in levels:
        found, name = next((one for one in sets if one[0] is not None), sets[-1])
        if found is not None:
            yield f"{found.basis} for {name}" if found.basis == "fitted" else f"assumed for {name}: {found.source}"
