"""Which numbers of the simulator are fitted or assumed, from what, and how wrong were they? The parameter file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from hwprof.errors import SpecError
from hwprof.specs.files import data_roots
from hwprof.specs.frozen import Record
from hwprof.specs.hardware.spec import ArchitectureFamily
from hwprof.specs.parsing import read_toml

FILE = Path("hardware_specs") / "simulator" / "parameters.toml"

Basis = Literal["fitted", "assumed"]


class MeasuredRate(Record):
    """How fast one kernel of a shape ran on the device itself.

    Attributes:
        unit: what the kernel is; ``narrow`` products have operands of 8 bits or fewer.
        m, n, k: a product [m, k]·[k, n]. Of attention m is the length of the sequences, n heads x sequences, k the
            width of a head.
        share: its rate over the dense peak of its format; of attention the FLOP that the kernel does.
    """

    unit: Literal["matmul", "narrow matmul", "attention", "attention backward"]
    m: float = Field(gt=0)
    n: float = Field(gt=0)
    k: float = Field(gt=0)
    share: float = Field(gt=0)


class ParameterSet(Record):
    """Values of parameters for one device, architecture, software stack, family of stacks, or for all.

    Attributes:
        basis: whether published runs of it took part in the fit.
        source: of what is assumed.
        values: by the names of ``hwprof.predict.parameters.Parameters``.
        measured: of a device, rates of single kernels, which stand before what the values say.
    """

    basis: Basis = "fitted"
    source: str = ""
    values: dict[str, float]
    measured: tuple[MeasuredRate, ...] = ()


class ErrorModel(Record):
    """How far predictions were off.

    Of step time: on held-out runs, half without their configuration, half without their whole source. Of memory, of
    which one number is fitted: on all published figures, each source with one weight
    (``benchmarks/published_memory.py``).

    The scale of |ln(predicted / measured)| is exp(sum of the coefficients of what holds of a job). ``low`` and ``high``
    are quantiles of ln(measured / predicted) over that scale, such that some 90 % of these runs lie between.

    Attributes:
        coefficients: by circumstance; ``base`` always holds.
        low, high: quantiles.
    """

    coefficients: dict[str, float]
    low: float
    high: float


class HeldOut(Record):
    """Errors of step time on runs that a fit had not seen, in per cent of the measured time; ``runs`` of them."""

    runs: int
    median_pct: float
    p90_pct: float


class ThrottleLaw(Record):
    """By how much arithmetic takes longer in a step than alone: ``scale`` x (TFLOP for each joule)^``exponent``.

    Fitted to all GPUs together; a device's own share stands before it.
    """

    scale: float = Field(gt=0)
    exponent: float = Field(gt=0)


class SimulatorParameters(Record):
    """The whole parameter file.

    Attributes:
        fitted_on: date of the fit.
        method: how it was fitted.
        rows: published runs that took part.
        architecture, device: of devices; a device's values stand before those of its architecture.
        throttle: the sustained share of a GPU without values of its own; it stands before the architecture's.
        family, stack: of software; a stack's values stand before those of its family.
        step_time, memory: how far off predictions were.
        held_out: the same in figures: all runs, each without its configuration (``configurations``) and each without
            its source (``sources``), and those of each source by its code.
    """

    fitted_on: str
    method: str
    rows: int
    architecture: dict[ArchitectureFamily, ParameterSet]
    device: dict[str, ParameterSet] = Field(default_factory=dict)
    throttle: ThrottleLaw | None = None
    family: dict[str, ParameterSet]
    stack: dict[str, ParameterSet] = Field(default_factory=dict)
    step_time: ErrorModel
    memory: ErrorModel
    held_out: dict[str, HeldOut] = Field(default_factory=dict)


def simulator_file() -> Path:
    """The parameter file that hwprof ships."""
    return data_roots()[0] / FILE


@functools.lru_cache(maxsize=4)
def simulator_parameters(path: Path | None = None) -> SimulatorParameters:
    """The parameters that hwprof ships, or those of another file.

    Raises:
        SpecError: the file is not as it has to be.
    """
    source = path or simulator_file()
    try:
        return SimulatorParameters.model_validate(read_toml(source))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise SpecError(
            f"{source}: key {key!r}: {first['msg'].lower()}",
            remedy="take the file that hwprof ships, or fit it again with benchmarks/fit_simulator.py",
        ) from error
