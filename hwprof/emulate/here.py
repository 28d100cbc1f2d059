"""What does a machine's own probe say of a recording? Its calls and collectives, its host, its processor's rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwprof.emulate.recording import Recording
from hwprof.emulate.tape import Call, Collective, CollectiveName
from hwprof.errors import InputError
from hwprof.predict.ceilings.calibrated import check_probed, measured_rates, with_ceilings
from hwprof.predict.ceilings.probed import PASSES_OF_A_MESSAGE, probed_cluster
from hwprof.predict.kernels.attention.base import AttentionKind
from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.parameters import Parameters
from hwprof.report.files.measured import Measured, read_measured
from hwprof.simulate.runners import attention_point, points_table
from hwprof.specs.catalogue.kernel_points import KernelPoints
from hwprof.specs.catalogue.lookup import cluster_of
from hwprof.specs.catalogue.simulator import MeasuredRate, SimulatorParameters, simulator_parameters
from hwprof.specs.hardware.spec import MatmulDtype
from hwprof.specs.record.collective import CollectiveCurve, Slowdown, bus_factor
from hwprof.specs.record.collective import CollectiveName as CurveName
from hwprof.specs.record.saved_calls import call_name
from hwprof.units import format_estimate, format_seconds

_CURVES: dict[CollectiveName, CurveName] = {
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "all_reduce": "all_reduce",
    "all_to_all": "all_to_all",
    "broadcast": "broadcast",
    "reduce": "broadcast",
    "gather": "all_gather",
    "scatter": "all_gather",
    "send": "send_recv",
    "recv": "send_recv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What was measured on the machine that is asked for.

    Attributes:
        processor: whether the ranks train on the host's processor: its calls are timed from Python.
        name: of the device.
        calls: name of a call's ceiling -> seconds of one.
        rates: format -> rates of products and of attention in it, which stand before those that others measured.
        curves: collectives between its ranks.
        slowdowns: what traffic and compute cost each other.
        dispatch_s: host time of a call of one number; None where it was not measured.
        threads: with which the calls were timed; 0 where that is not known.
        cores: of the host; 0 where that is not known.
    """

    processor: bool
    name: str
    calls: Mapping[str, float]
    rates: Mapping[MatmulDtype, tuple[MeasuredRate, ...]]
    curves: Sequence[CollectiveCurve]
    slowdowns: Sequence[Slowdown]
    dispatch_s: float | None
    threads: int
    cores: int

    def call_s(self, kind: Call) -> float | None:
        """Seconds of a call; None where it was not timed, or is no call of its own in compiled code."""
        if kind.call is None or kind.joined or kind.spared_bytes:
            return None
        return self.calls.get(call_name(kind.call))

    def products(self, machine: Machine) -> KernelPoints | None:
        """Those that were measured, as a table of kernels."""
        rows = [
            {
                "dtype": dtype,
                "batch": 1,
                "m": rate.m,
                "n": rate.n,
                "k": rate.k,
                "seconds": 2 * rate.m * rate.n * rate.k / (rate.share * machine.peak_flop_per_s(dtype)),
            }
            for dtype, rates in self.rates.items()
            for rate in rates
            if rate.unit == "matmul"
        ]
        return points_table(rows)

    def attention(self, machine: Machine, dtype: MatmulDtype, kind: AttentionKind, group: float) -> KernelPoints | None:
        """Attention that was measured, as a table of kernels."""
        rows = [
            attention_point(
                rate,
                rate.share * machine.peak_flop_per_s(dtype),
                kind.kernel,
                causal=kind.causal,
                group=group,
            )
            for rate in self.rates.get(dtype, ())
            if rate.unit.startswith("attention")
        ]
        return points_table(rows)

    def collective_s(self, kind: Collective) -> float | None:
        """Seconds of a collective between so many ranks; of other numbers by the traffic of each; None: not measured.

        With other ranks its share of the vector is another (nccl-tests' factors), and so is the number of its steps.
        """
        wanted = 2 if kind.peer >= 0 else len(kind.ranks)
        found = [curve for curve in self.curves if curve.collective == _CURVES[kind.op]]
        if not found or wanted < 2:
            return None
        curve = min(found, key=lambda one: (abs(one.ranks - wanted), one.scope != "node"))
        if curve.ranks == wanted:
            return curve.time_s(kind.size_bytes)
        traffic = bus_factor(curve.collective, wanted) / bus_factor(curve.collective, curve.ranks)
        empty_s = curve.fit.latency_s if curve.fit else curve.points[0].time_s
        steps = (wanted - 1) / (curve.ranks - 1)
        return max(curve.time_s(kind.size_bytes) - empty_s, 0.0) * traffic + empty_s * steps

    def crowd(self, ranks: int) -> float:
        """How many threads of so many ranks share a core; at least 1."""
        return max(ranks * self.threads / self.cores, 1.0) if self.processor and self.threads and self.cores else 1.0

    def contention(self, ranks: int) -> float | None:
        """Seconds that a second of hidden traffic costs the compute of so many ranks; None where nobody measured it.

        Between processes of a host whose cores all compute, traffic takes of them what it needs of a processor.
        """
        if not self.slowdowns:
            return None
        nearest = min(self.slowdowns, key=lambda one: abs((one.ranks or ranks) - ranks))
        if not self.processor or nearest.beside_cpu_s is None:
            return max(nearest.work_factor - 1.0, 0.0)
        if self.cores and ranks * self.threads < self.cores:
            return 0.0
        return nearest.beside_cpu_s / nearest.beside_alone_s * self.crowd(ranks)

    def script_share(self, recording: Recording) -> float:
        """What the machine's host takes for the script's own code, over the host that emulated; 0: not known."""
        if not recording.host_s or not recording.dispatch_s or self.dispatch_s is None:
            return 0.0
        return 1.0 if self.processor and recording.host == self.name else self.dispatch_s / recording.dispatch_s

    def of_software(self, parameters: Parameters, ranks: int) -> Parameters:
        """Parameters with what the host and the traffic of so many ranks really cost, where that was measured."""
        found, contention = parameters, self.contention(ranks)
        if contention is not None:
            found = replace(found, contention=contention)
        if self.dispatch_s is not None:  # what the script's own code takes beside it is known of each event
            found = replace(found, step_fixed_s=0.0, kernel_host_s=self.dispatch_s)
        return found

    def basis(self, recording: Recording, timed: int, untimed: int, unmeasured: int) -> list[str]:
        """In words, what of a recording was measured."""
        said = [f"calls: {timed} kinds timed on {self.name}, {untimed} by its rates"]
        share = self.script_share(recording)
        if share:
            told = "" if share == 1.0 else f", times {format_estimate(share)} (dispatch there over dispatch here)"
            said.append(f"host: the script's own code as it ran here{told}")
        contention = self.contention(recording.devices)
        if contention is not None:
            said.append(f"hidden traffic: a second of it costs {format_seconds(contention)} of compute, measured")
        if unmeasured:
            way = f"their bytes {PASSES_OF_A_MESSAGE} times through memory (assumed)" if self.processor else "modelled"
            said.append(f"{unmeasured} kinds of collectives: not measured, {way}; probe several ranks for them")
        crowd = self.crowd(recording.devices)
        if crowd > 1:
            said.append(f"{recording.devices} ranks on {self.cores} cores: work takes {format_estimate(crowd)} as long")
        return said


_FORMATS: tuple[MatmulDtype, ...] = ("fp32", "tf32", "bf16", "fp16")


def _has(machine: Machine, dtype: MatmulDtype) -> bool:
    return machine.device.matmul_flop_per_s(dtype) is not None


def _here(found: Measured, machine: Machine) -> Here:
    whole = {name: found.environment.get(name, "") for name in ("torch.threads", "cpu.cores_logical")}
    threads, cores = (int(text) if text.isdigit() else 0 for text in whole.values())
    return Here(
        processor=found.on_cpu,
        name=found.device,
        calls={each.name: each.value for each in found.ceilings if each.name.startswith("call.")},
        rates={dtype: measured_rates(found.ceilings, machine, dtype) for dtype in _FORMATS if _has(machine, dtype)},
        curves=found.collectives,
        slowdowns=found.slowdowns,
        dispatch_s=found.value("latency.dispatch"),
        threads=threads,
        cores=cores,
    )


def measured_machine(
    hardware: str | None, devices: int, calibrations: Sequence[Path]
) -> tuple[Machine, SimulatorParameters, Here | None, tuple[str, ...]]:
    """The machine that is asked for, the parameters that hold for it, and what its own probes say.

    Args:
        hardware: a device of the catalogue or a file; None: the processor that was probed.
        devices: how many there are.
        calibrations: files of ``hwprof probe`` and folders of ``hwprof run``.

    Raises:
        InputError: a file can't be read, is of another device, or there is neither hardware nor calibration.
        UnknownNameError, SpecError: the hardware is not known.
    """
    table = simulator_parameters()
    if not calibrations:
        if hardware is None:
            raise InputError(
                "no hardware is named",
                expectation="--hardware names a device of the catalogue, or --calibration a probed processor",
                remedy="write for example --hardware h100-sxm",
            )
        return machine_of(cluster_of(devices, hardware)), table, None, ()
    found = read_measured(calibrations)
    if hardware is None and not found.on_cpu:
        raise InputError(
            f"the calibration is of {found.device!r}, an accelerator",
            expectation="its links and its memory are those of the catalogue",
            remedy="name it with --hardware",
        )
    if found.on_cpu and hardware is None:
        cluster = probed_cluster(found.device, found.ceilings, found.environment, ranks=devices)
    else:
        assert hardware is not None
        cluster = cluster_of(devices, hardware)
        check_probed(cluster.device, found.device, found.source)
    machine = machine_of(cluster)
    wide = machine.format_used("fp32" if found.on_cpu else "bf16")
    table, notes = with_ceilings(table, machine, found.ceilings, wide, collectives=found.collectives)
    return machine, table, _here(found, machine), notes
