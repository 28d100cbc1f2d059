"""What does a training cost? Days, money and energy of many steps on rented devices, with where each rate is from."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.job.step import TrainingJob

DAY_S = 86400.0
HOUR_S = 3600.0
JOULE_PER_KWH = 3.6e6

USUAL_PUE = 1.56
PUE_SOURCE = "average of data centres, Uptime Institute Global Data Center Survey 2024"
"""Power of the building over power of its machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRates:
    """What an hour of one device costs, and what power it takes.

    Attributes:
        usd_per_hour: lowest and highest price of renting one device; None = not known.
        watt: electric power of one device under load; None = not known.
        pue: power of the building over that of its devices.
        basis: where each of them is from, in words.
    """

    usd_per_hour: tuple[float, float] | None
    watt: float | None
    pue: float
    basis: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A whole training, or one step of it.

    Attributes:
        steps: optimizer steps.
        time_s: of all of them, one after another without interruption.
        device_hours: devices times hours.
        usd: at the lowest and at the highest price; None = no price is known.
        energy_kwh: of devices and building; None = no power is known.
    """

    steps: float
    time_s: float
    device_hours: float
    usd: tuple[float, float] | None
    energy_kwh: float | None

    @property
    def days(self) -> float:
        """The time in days."""
        return self.time_s / DAY_S


def rates_of(
    device: DeviceSpec, *, usd_per_hour: float | None = None, watt: float | None = None, pue: float | None = None
) -> RunningRates:
    """Rates as the user gives them, else those of the device's file and the usual PUE.

    Raises:
        InputError: a PUE below 1.
    """
    if pue is not None and pue < 1:
        raise InputError(f"a PUE of {pue}", expectation="a building takes at least the power of its devices: 1 or more")
    basis = []
    price = (usd_per_hour, usd_per_hour) if usd_per_hour is not None else None
    if price:
        basis.append(f"price of {device.id}: {usd_per_hour:g} USD/h, as given")
    elif device.price:
        price = device.price.low_usd_per_hour, device.price.high_usd_per_hour
        dated = device.price.note or "; ".join(device.price.source)
        basis.append(f"price of {device.id}: {price[0]:g} to {price[1]:g} USD/h ({dated})")
    else:
        basis.append(f"price of {device.id}: not known; --price gives it")
    power = watt if watt is not None else device.compute.tdp_watt
    if power is None:
        basis.append(f"power of {device.id}: not known; --watt gives it")
    else:
        basis.append(
            f"power of {device.id}: {power:g} W, " + ("as given" if watt is not None else "its TDP, hosts apart")
        )
    basis.append(f"PUE {pue:g}, as given" if pue is not None else f"PUE {USUAL_PUE:g}: {PUE_SOURCE}")
    return RunningRates(usd_per_hour=price, watt=power, pue=pue or USUAL_PUE, basis=tuple(basis))


def steps_of(job: TrainingJob, tokens: float | None) -> float:
    """Optimizer steps that so many tokens take; one where no number is given."""
    return 1.0 if tokens is None else tokens / job.tokens


def bill_of(step_s: float, devices: int, steps: float, rates: RunningRates) -> Bill:
    """So many steps on so many devices."""
    time_s = step_s * steps
    hours = time_s / HOUR_S * devices
    price = rates.usd_per_hour
    return Bill(
        steps=steps,
        time_s=time_s,
        device_hours=hours,
        usd=(hours * price[0], hours * price[1]) if price else None,
        energy_kwh=None if rates.watt is None else rates.watt * rates.pue * time_s * devices / JOULE_PER_KWH,
    )


def step_limits_s(
    *, steps: float, devices: int, rates: RunningRates, deadline_s: float | None, budget_usd: float | None
) -> dict[str, float]:
    """The longest step that keeps to a deadline, and the longest that at the highest price keeps to a budget.

    Raises:
        InputError: a budget, but no price.
    """
    limits = {} if deadline_s is None else {"the deadline": deadline_s / steps}
    if budget_usd is not None:
        if rates.usd_per_hour is None:
            raise InputError(
                "a budget needs a price (--price), and none is known",
                remedy="give --price in USD for an hour of one device",
            )
        limits["the budget"] = budget_usd / rates.usd_per_hour[1] * HOUR_S / devices / steps
    return limits
