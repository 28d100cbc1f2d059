"""What does a training cost? Days, money, energy and carbon of many steps on rented devices, failures included."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.plan.answer.power import power_of
from hwprof.plan.goodput.expected import Goodput
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.record.run import Interval

DAY_S = 86400.0
HOUR_S = 3600.0
JOULE_PER_KWH = 3.6e6

_NINETY_PERCENT, _EIGHTY_PERCENT = 1.645, 1.282
"""Standard deviations from the median to either end of an interval that holds so much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRates:
    """What an hour of one device costs, and what power it takes.

    Attributes:
        usd_per_hour: lowest and highest price of renting one device; None = not known.
        watt: electric power of one device under load, with its share of host and network; None = not known.
        pue: power of the building over that of its devices.
        g_per_kwh: carbon dioxide of the grid.
        basis: where each of them is from, in words.
    """

    usd_per_hour: tuple[float, float] | None
    watt: float | None
    pue: float
    g_per_kwh: float
    basis: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A whole training, or one step of it.

    Attributes:
        steps: optimizer steps.
        step_time_s: of all of them, one after another without interruption.
        time_s: with checkpoints, failures and restarts.
        days_interval: 10th and 90th percentile of the days, from the step's interval and the fleet's failures.
        device_hours: devices that are paid for, spare ones too, times hours.
        usd: at the lowest and at the highest price; None = no price is known.
        usd_interval: lowest price in the fewest days to highest price in most.
        power_watt: of devices, hosts, network and building; None = no power is known.
        energy_kwh: the same times the hours.
        co2_kg: of that energy.
        goodput: share of the time in steps that last.
    """

    steps: float
    step_time_s: float
    time_s: float
    days_interval: Interval
    device_hours: float
    usd: tuple[float, float] | None
    usd_interval: Interval | None
    power_watt: float | None
    energy_kwh: float | None
    co2_kg: float | None
    goodput: float

    @property
    def days(self) -> float:
        """The time in days."""
        return self.time_s / DAY_S

    @property
    def mean_usd(self) -> float | None:
        """Between the lowest and the highest price."""
        return sum(self.usd) / 2 if self.usd else None


def rates_of(
    device: DeviceSpec,
    devices: int = 1,
    *,
    usd_per_hour: float | None = None,
    watt: float | None = None,
    pue: float | None = None,
    g_per_kwh: float | None = None,
    cap_watt: float | None = None,
) -> RunningRates:
    """Rates as the user gives them, else those of the device's file and the usual PUE.

    Raises:
        InputError: a PUE below 1.
    """
    power = power_of(device, devices, watt=watt, pue=pue, g_per_kwh=g_per_kwh, cap_watt=cap_watt)
    price = (usd_per_hour, usd_per_hour) if usd_per_hour is not None else None
    if price:
        words = f"price of {device.id}: {usd_per_hour:g} USD/h, as given"
    elif device.price:
        price = device.price.low_usd_per_hour, device.price.high_usd_per_hour
        dated = device.price.note or "; ".join(device.price.source)
        words = f"price of {device.id}: {price[0]:g} to {price[1]:g} USD/h ({dated})"
    else:
        words = f"price of {device.id}: not known; --price gives it"
    return RunningRates(
        usd_per_hour=price,
        watt=power.watt,
        pue=power.pue,
        g_per_kwh=power.g_per_kwh,
        basis=(words, *power.basis),
    )


def steps_of(job: TrainingJob, tokens: float | None) -> float:
    """Optimizer steps that so many tokens take; one where no number is given."""
    return 1.0 if tokens is None else tokens / job.tokens


def bill_of(
    step_s: float,
    devices: int,
    steps: float,
    rates: RunningRates,
    *,
    interval_s: Interval | None = None,
    goodput: Goodput | None = None,
) -> Bill:
    """So many steps on so many devices; without ``goodput`` nothing fails and nothing is saved."""
    fraction = goodput.fraction if goodput else 1.0
    time_s = step_s * steps / fraction
    paid = devices + (goodput.spare_devices if goodput else 0)
    hours, price = time_s / HOUR_S * paid, rates.usd_per_hour
    low, high = _spread(step_s, interval_s or (step_s, step_s), goodput)
    power_watt = None if rates.watt is None else rates.watt * rates.pue * paid
    energy_kwh = None if power_watt is None else power_watt * time_s / JOULE_PER_KWH
    return Bill(
        steps=steps,
        step_time_s=step_s * steps,
        time_s=time_s,
        days_interval=(time_s * low / DAY_S, time_s * high / DAY_S),
        device_hours=hours,
        usd=(hours * price[0], hours * price[1]) if price else None,
        usd_interval=(hours * low * price[0], hours * high * price[1]) if price else None,
        power_watt=power_watt,
        energy_kwh=energy_kwh,
        co2_kg=None if energy_kwh is None else energy_kwh * rates.g_per_kwh / 1e3,
        goodput=fraction,
    )


def _spread(step_s: float, interval_s: Interval, goodput: Goodput | None) -> tuple[float, float]:
    """10th and 90th percentile of the time over its median: log-normal steps, and how often fleets fail beside it."""
    ends = []
    for end, sign in ((0, -1), (1, 1)):
        of_step = abs(math.log(interval_s[end] / step_s)) * _EIGHTY_PERCENT / _NINETY_PERCENT
        of_fleet = abs(math.log(goodput.range_fraction[1 - end] / goodput.fraction)) if goodput else 0.0
        ends.append(math.exp(sign * math.hypot(of_step, of_fleet)))
    return ends[0], ends[1]


def step_limits_s(
    *,
    steps: float,
    devices: int,
    rates: RunningRates,
    deadline_s: float | None,
    budget_usd: float | None,
    goodput: Goodput | None = None,
) -> dict[str, float]:
    """The longest step that keeps to a deadline, and the longest that at the highest price keeps to a budget.

    Raises:
        InputError: a budget, but no price.
    """
    fraction = goodput.fraction if goodput else 1.0
    paid = devices + (goodput.spare_devices if goodput else 0)
    limits = {} if deadline_s is None else {"the deadline": deadline_s * fraction / steps}
    if budget_usd is not None:
        if rates.usd_per_hour is None:
            raise InputError(
                "a budget needs a price (--price), and none is known",
                remedy="give --price in USD for an hour of one device",
            )
        limits["the budget"] = budget_usd / rates.usd_per_hour[1] * HOUR_S / paid * fraction / steps
    return limits
