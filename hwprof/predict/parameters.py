"""How well do a device and its software use what the datasheet promises? The numbers that are fitted, never counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from hwprof.count.ops.elementwise import Amount
from hwprof.errors import SpecError
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.simulator import MeasuredRate, ParameterSet, SimulatorParameters
from hwprof.specs.hardware.spec import DeviceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything in a prediction that is neither counted nor from a datasheet; numbers, or arrays of one per job.

    Of the device:

    Attributes:
        matmul_share: share of the dense peak that large products reach in 16 or 32 bits.
        fp8_matmul_share, fp4_matmul_share: the same in 8 and 4 bits, of their own peaks.
        attention_share: share of the 16-bit peak in flash attention's forward pass over long sequences.
        memory_share: share of the memory bandwidth that streaming kernels reach.
        inside_share, between_share: share of the links' bandwidth that collectives reach, inside a scale-up domain and
            between domains.

    Of products in general:

    Attributes:
        inner_half, column_half, row_half: k, n and m of a product [m, k]·[k, n] at which its rate is half of the
            limit, each alone: rate = limit / (1 + inner_half/k + column_half/n + row_half/m).
        sequence_half: sequence length at which attention's rate is half of its limit.
        attention_backward_share: rate of attention's backward pass over that of its forward pass.
        grouped_share: rate of experts' grouped products over that of plain ones.
        batched_share: rate of batched products of attention heads over that of plain ones.
        padding_loss: share of the padding to whole tiles that costs time.
        unaligned_share: rate of products whose rows are not aligned to 16 bytes.

    Of the software:

    Attributes:
        matmul_factor, attention_factor: rates relative to those of the device.
        traffic_factor: bytes that elementwise kernels move over those of perfectly fused ones; ``loss_traffic_factor``
            the same from the final norm to the loss.
        kernel_gap_s: idle time of the device after each kernel.
        kernel_host_s: host time to launch one kernel.
        expert_layer_host_s: host time of a layer of experts beside its kernels (routing, synchronisation).
        collective_s: fixed time of one collective beside its links' latency.
        tensor_overlap, expert_overlap, send_overlap: share of tensor, expert, pipeline traffic hidden behind compute.
        data_overlap: share of the compute beside which data-parallel traffic may run.
        contention: share of hidden data-parallel traffic by which it slows compute.
        step_fixed_s: time of a step that depends on nothing (data, logging, synchronisation).
        straggler_share: slowdown for each doubling of the devices beyond 8.

    Measured on the device itself:

    Attributes:
        measured: rates of single kernels, which stand before those that the numbers above give.
    """

    matmul_share: Amount
    fp8_matmul_share: Amount
    fp4_matmul_share: Amount
    attention_share: Amount
    memory_share: Amount
    inside_share: Amount
    between_share: Amount

    inner_half: Amount
    column_half: Amount
    row_half: Amount
    sequence_half: Amount
    attention_backward_share: Amount
    grouped_share: Amount
    batched_share: Amount
    padding_loss: Amount
    unaligned_share: Amount

    matmul_factor: Amount
    attention_factor: Amount
    traffic_factor: Amount
    loss_traffic_factor: Amount
    kernel_gap_s: Amount
    kernel_host_s: Amount
    expert_layer_host_s: Amount
    collective_s: Amount
    tensor_overlap: Amount
    expert_overlap: Amount
    send_overlap: Amount
    data_overlap: Amount
    contention: Amount
    step_fixed_s: Amount
    straggler_share: Amount

    measured: tuple[MeasuredRate, ...] = ()


NAMES = tuple(field.name for field in fields(Parameters) if field.name != "measured")
DEVICE_NAMES = NAMES[:7]
COMMON_NAMES = NAMES[7:16]
STACK_NAMES = NAMES[16:]


def device_set(table: SimulatorParameters, device: DeviceSpec) -> tuple[ParameterSet | None, str]:
    """What is kept for a device, or for the one with the same chip, and under which name."""
    chip = device.compute.same_chip_as
    name = chip if chip and device.id not in table.device else device.id
    return table.device.get(name), name


def took_part(table: SimulatorParameters, device: DeviceSpec) -> bool:
    """Whether runs of the device or of its architecture took part in the fit."""
    own, _ = device_set(table, device)
    architecture = table.architecture.get(device.architecture_family)
    return own is not None or (architecture is not None and architecture.basis == "fitted")


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
    chosen = {
        **_values(DEVICE_NAMES, (general, architecture, device)),
        **_values(COMMON_NAMES, ((table.common, ""),)),
        **_values(STACK_NAMES, (family, software)),
    }
    missing = [name for name in NAMES if name not in chosen]
    if missing:
        raise SpecError(
            f"the simulator's parameter file has no {', '.join(missing)} for {machine.device.id} and {stack.name}",
            remedy="take the file that hwprof ships, or fit it again with benchmarks/fit_simulator.py",
        )
    measured = device[0].measured if device[0] else ()
    return Parameters(**chosen, measured=measured), tuple(_basis((device, architecture, general), (software, family)))


_Named = tuple[ParameterSet | None, str]


def _values(names: tuple[str, ...], sets: tuple[_Named, ...]) -> dict[str, float]:
    """Values of these names, those of later sets before those of earlier ones."""
    return {name: value for one, _ in sets if one for name, value in one.values.items() if name in names}


def _basis(*levels: tuple[_Named, ...]) -> Iterator[str]:
    """In words, where the values of each kind are from: the most particular set that there is."""
    for sets in levels:
        found, name = next((one for one in sets if one[0] is not None), sets[-1])
        if found is not None:
            yield f"{found.basis} for {name}" if found.basis == "fitted" else f"assumed for {name}: {found.source}"
