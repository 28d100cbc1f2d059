"""What must a plan keep to, and what is the fleet like? Options of time, money, power and failures, checked."""

from __future__ import annotations

from typing import Any, get_args

import click

from hwprof.cli.options import Amount, FiniteRange, Measured, Word, with_options
from hwprof.errors import InputError
from hwprof.plan.answer.fleet import Limits
from hwprof.plan.answer.machines import Objective
from hwprof.plan.goodput.reliability import CheckpointMode, Reliability, reliability_of
from hwprof.plan.space.question import MEMORY_MARGIN

NONNEGATIVE = FiniteRange(min=0, min_open=True)

USUAL_TOLERANCE = 0.15
"""Share by which the batch may move where a number of devices is searched for."""


DURATION = Measured("s", "duration", "d")
POWER = Measured("watt", "power", "W")

power_cap_option = click.option(
    "--power-cap", type=POWER, help="Of each GPU, for example 500W: lower clocks, longer steps."
)

goal_part = with_options(
    click.option(
        "--objective",
        type=Word(get_args(Objective)),
        help="Default: time; with --deadline or --budget and no --devices, the smallest and the cheapest fleet.",
    ),
    click.option("--tokens", type=Amount(), help="Tokens of the whole training, for example 15T."),
    click.option("--deadline", type=DURATION, help="Longest time of the whole training, for example 60d."),
    click.option("--budget", type=Amount(), help="Most that the whole training may cost in USD, for example 2M."),
    click.option(
        "--batch-tolerance",
        type=FiniteRange(min=0, max=1),
        help=f"Share by which --global-batch may move so that it divides; default with --deadline or --budget: "
        f"{USUAL_TOLERANCE:g}, else 0.",
    ),
    click.option("--site-power", type=POWER, help="Most that all of it may take, for example 5MW."),
    power_cap_option,
    click.option("--price", type=NONNEGATIVE, help="USD for an hour of one device; default: the device file's."),
    click.option(
        "--watt", type=NONNEGATIVE, help="Power of one device, host and network included; default: as they are rated."
    ),
    click.option("--pue", type=FiniteRange(min=1), help="Power of the building over that of its devices."),
    click.option("--grid", type=FiniteRange(min=0), help="g CO2 for a kWh; default: the world's mean."),
    click.option(
        "--memory-margin",
        type=FiniteRange(min=0, max=0.9),
        default=MEMORY_MARGIN,
        show_default=True,
        help="Share of a device's memory to leave free.",
    ),
    click.option("--device-memory", help="Memory of a device, where its file does not say: 512GB."),
)
"""What is best, and what a plan must keep to."""

fleet_part = with_options(
    click.option("--mtbf", type=DURATION, help="Of one device, between failures; default: Llama 3's, 50,676h."),
    click.option("--restart-time", type=DURATION, help="From a failure to training again; default: 15min (MegaScale)."),
    click.option(
        "--checkpoint",
        type=Word(get_args(CheckpointMode)),
        default="async",
        show_default=True,
        help="Whether training goes on while state is written.",
    ),
    click.option("--checkpoint-interval", type=DURATION, help="Default: the best, by Daly's formula."),
    click.option(
        "--checkpoint-rate",
        type=Measured("byte_per_s", "rate", "GB/s"),
        help="Of storage, all devices together; default: 122 MB/s each.",
    ),
    click.option(
        "--spare-nodes", type=click.IntRange(min=0), default=0, show_default=True, help="Paid for, standing by."
    ),
    click.option(
        "--repair-time",
        type=DURATION,
        help="Of a failed node: the job waits where more are in repair than stand by; default: replaced at once.",
    ),
)
"""How often the fleet fails, and what it takes to go on."""


def reliability_typed(typed: dict[str, Any], devices: int) -> Reliability:
    """The fleet that was typed."""
    return reliability_of(
        mtbf_s=typed["mtbf"],
        restart_s=typed["restart_time"],
        storage_byte_per_s=typed["checkpoint_rate"] / devices if typed["checkpoint_rate"] else None,
        checkpoint=typed["checkpoint"],
        checkpoint_interval_s=typed["checkpoint_interval"],
        spare_nodes=typed["spare_nodes"],
        repair_s=typed["repair_time"],
    )


def limited(typed: dict[str, Any]) -> bool:
    """Whether a whole training must keep to a time or a cost."""
    return typed["deadline"] is not None or typed["budget"] is not None


def limits_typed(typed: dict[str, Any], batch: int) -> Limits:
    """What was typed that a training must keep to.

    Raises:
        InputError: the length of the training is not known.
    """
    if not typed["tokens"]:
        raise InputError(
            "--deadline and --budget bound the whole training, and its length is not known",
            remedy="give its tokens too, such as --tokens 2T",
        )
    tolerance = typed["batch_tolerance"]
    return Limits(
        tokens=typed["tokens"],
        deadline_s=typed["deadline"],
        budget_usd=typed["budget"],
        site_watt=typed["site_power"],
        most_devices=typed["max_devices"],
        batch=batch,
        batch_tolerance=USUAL_TOLERANCE if tolerance is None else tolerance,
    )
