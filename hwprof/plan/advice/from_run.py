"""What does a measured run say about plans? Its ceilings replace fitted shares, its residual scales the rest."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.memory.job import job_memory
from hwprof.predict.ceilings.calibrated import with_ceilings, with_device
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import device_set
from hwprof.predict.stacks import Stack, stack_named
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.record.run import RunRecord
from hwprof.units import format_fraction, format_seconds

TORCH: Stack = stack_named("torch")
"""``hwprof run`` trains in torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Parameters that reproduce a run on its own device.

    Attributes:
        table: the simulator's parameters, those of the run's device replaced.
        memory_scale: measured over counted peak memory, at least 1.
        notes: what was taken from the run, in words.
    """

    table: SimulatorParameters
    memory_scale: float
    notes: tuple[str, ...]


def job_of_run(record: RunRecord) -> TrainingJob:
    """The run's step as a job on one device."""
    settings = record.run_settings
    return TrainingJob(
        model=record.spec,
        seq_len=settings.seq_len,
        global_batch=settings.micro_batch * settings.gradient_accumulation,
        micro_batch=settings.micro_batch,
        dtype=settings.dtype,
        **TORCH.compiling(settings.compile) | {"optimizer_implementation": settings.optimizer_implementation},
        optimizer=settings.optimizer,
        recompute=settings.recompute,
    )


def calibrated(record: RunRecord, table: SimulatorParameters, machine: Machine) -> Calibrated:
    """Shares from the run's ceilings, then all rates scaled so that the run's own step comes out as measured.

    Args:
        record: a run on one device.
        table: the fitted parameters.
        machine: one device of the run's kind.

    Raises:
        SpecError: the device lacks a number that a prediction needs.
    """
    fitted, taken = with_ceilings(table, machine, record.ceilings, record.run_settings.dtype)
    notes, scale = list(taken), 1.0
    if record.step is not None:
        predicted_s = _step_s(record, machine, fitted)
        scale = _scale(record, machine, fitted, record.step.median_s)
        notes.append(
            f"measured step {format_seconds(record.step.median_s)}, predicted {format_seconds(predicted_s)}: "
            f"times of the device's kernels are scaled by {scale:.3g}"
        )
    memory_scale = _memory_scale(record)
    if memory_scale > 1:
        notes.append(
            f"measured peak memory is {format_fraction(memory_scale - 1)} above the counted one; plans have it too"
        )
    return Calibrated(table=_slowed(fitted, machine, scale), memory_scale=memory_scale, notes=tuple(notes))


ROUNDS = 8
"""Of fitting the scale: what does not scale with it (host, fixed times) makes one round too few."""


def _scale(record: RunRecord, machine: Machine, table: SimulatorParameters, measured_s: float) -> float:
    """By how much the device's kernels have to be slower for the run's step to come out as measured."""
    scale = 1.0
    for _ in range(ROUNDS):
        scale *= measured_s / _step_s(record, machine, _slowed(table, machine, scale))
    return scale


def _step_s(record: RunRecord, machine: Machine, table: SimulatorParameters) -> float:
    return predict_job(job_of_run(record), machine, TORCH, table).step_s


def _slowed(table: SimulatorParameters, machine: Machine, scale: float) -> SimulatorParameters:
    """All kernels of the device slower by ``scale``, those that were measured one by one too."""
    known, _ = device_set(table, machine.device)
    return with_device(table, machine, {"kernel_share": 1 / scale}, known.measured if known else ())


def _memory_scale(record: RunRecord) -> float:
    memory = record.memory
    if memory is None or not memory.measured_peak_bytes or record.run_settings.device == "cpu":
        return 1.0
    counted = job_memory(job_of_run(record)).peak_bytes
    return max(memory.measured_peak_bytes / counted, 1.0)
