"""How many devices does it take to train by a deadline or within a budget? The smallest, cheapest and fastest fleet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from hwprof.errors import InputError
from hwprof.plan.answer.cost import DAY_S, Bill, RunningRates, bill_of, steps_of
from hwprof.plan.answer.machines import Objective, Option, option_of
from hwprof.plan.answer.plans import Plan, whole_run
from hwprof.plan.goodput.reliability import Reliability
from hwprof.plan.space.question import Question
from hwprof.plan.space.search import search
from hwprof.units import format_quantity

MOST_DOUBLINGS = 15
"""Of a node: a quarter of a million devices of nodes of eight."""

SMOOTH = (2, 3, 5, 7)
"""Counts of nodes between two doublings have these prime factors alone: few others divide into layouts."""

Ask = Callable[[int, int], tuple[Question, RunningRates]]
"""A number of devices and a global batch -> the question without limits, and what such devices cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a training must keep to.

    Attributes:
        tokens: of it.
        deadline_s: longest time; None = none.
        budget_usd: most that it may cost at the highest price; None = none.
        site_watt: most power that all of it may take; None = none.
        most_devices: None = any number.
        batch: sequences of a step.
        batch_tolerance: share by which the batch may be smaller or larger, so that it divides.
    """

    tokens: float
    deadline_s: float | None
    budget_usd: float | None
    site_watt: float | None
    most_devices: int | None
    batch: int
    batch_tolerance: float

    def missed_by(self, bill: Bill) -> str:
        """Which limit a training breaks and by how much; empty where it keeps to all."""
        if self.deadline_s is not None and bill.time_s > self.deadline_s:
            asked = self.deadline_s / DAY_S
            return f"{bill.days:.1f} days, {bill.days - asked:.1f} too many"
        if self.budget_usd is not None and bill.usd is not None and bill.usd[1] > self.budget_usd:
            over = format_quantity(bill.usd[1] - self.budget_usd, "usd")
            return f"up to {format_quantity(bill.usd[1], 'usd')}, {over} over the budget"
        if self.site_watt is not None and bill.power_watt is not None and bill.power_watt > self.site_watt:
            return f"{format_quantity(bill.power_watt, 'watt')}, the site has {format_quantity(self.site_watt, 'watt')}"
        return ""

    def batches(self, devices: int) -> tuple[int, ...]:
        """The batch, and the nearest that has the odd factors of so many devices and the most factors of two."""
        odd = devices
        while odd % 2 == 0:
            odd //= 2
        found = [self.batch]
        if odd > 1:
            low, high = (self.batch * (1 + sign * self.batch_tolerance) for sign in (-1, 1))
            unit = odd * 2 ** max(math.floor(math.log2(max(high / odd, 1))), 0)
            while unit >= odd:
                near = round(self.batch / unit) * unit
                if low <= near <= high and near > 0:
                    found.append(near)
                    break
                unit //= 2
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A number of devices with the batch that suits them, as the closed form sees it."""

    devices: int
    batch: int
    bill: Bill
    missed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What one hardware takes.

    Attributes:
        hardware: its name.
        points: counts that were looked at, fewest first.
        smallest: fewest devices that keep to the limits; None = no number does.
        cheapest: least money.
        fastest: least time.
        nearest: where none does, what comes nearest; None = nothing fits in memory.
        reason: why none does.
    """

    hardware: str
    points: tuple[Point, ...]
    smallest: Option | None
    cheapest: Option | None
    fastest: Option | None
    nearest: Option | None
    reason: str = ""

    @property
    def options(self) -> tuple[Option, ...]:
        """Each once."""
        named = (self.smallest, self.cheapest, self.fastest, self.nearest)
        return tuple({option.name: option for option in named if option}.values())


@dataclass
class _Looked:
    """What was looked at so far; a count is searched once."""

    ask: Ask
    limits: Limits
    reliability: Reliability
    points: dict[int, Point] = field(default_factory=dict)
    options: dict[int, Option] = field(default_factory=dict)
    undefined: str = ""

    def at(self, devices: int) -> Point | None:
        """The best batch on so many devices; None where nothing fits or no such machine is defined."""
        if devices not in self.points:
            found = [point for batch in self.limits.batches(devices) if (point := self._point(devices, batch))]
            if not found:
                return None
            self.points[devices] = min(found, key=lambda point: point.bill.time_s)
        return self.points[devices]

    def _point(self, devices: int, batch: int) -> Point | None:
        try:
            question, rates = self.ask(devices, batch)
        except InputError as error:
            self.undefined = error.fact
            return None
        found = search(question)
        if not len(found.order):
            self.undefined = self.undefined or "no layout fits in memory"
            return None
        bill = bill_of(
            float(found.times.step_s[found.order[0]]),
            devices,
            steps_of(question.base, self.limits.tokens),
            rates,
            goodput=whole_run(question, self.limits.tokens, self.reliability),
        )
        return Point(devices=devices, batch=batch, bill=bill, missed=self.limits.missed_by(bill))

    def option(self, point: Point) -> Option:
        """The point through the engine."""
        if point.devices not in self.options:
            question, rates = self.ask(point.devices, point.batch)
            found = option_of(question, rates, tokens=self.limits.tokens, reliability=self.reliability)
            self.options[point.devices] = found
        return self.options[point.devices]


def fleet_of(hardware: str, node: int, ask: Ask, limits: Limits, reliability: Reliability) -> Fleet:
    """Doublings of a node, then the counts between the last that misses the limits and the first that keeps to them.

    Args:
        hardware: its name.
        node: devices of a node.
        ask: what is asked of a number of devices.
        limits: what the training must keep to.
        reliability: of the fleet.

    Raises:
        SpecError: the machine lacks a number that memory or time need.
        InputError: a budget, but no price.
    """
    looked = _Looked(ask=ask, limits=limits, reliability=reliability)
    doublings = [count for count in _doublings(node) if limits.most_devices is None or count <= limits.most_devices]
    for count in doublings:
        point = looked.at(count)
        if point is not None and _met(looked) >= 2 and (limits.budget_usd is None or point.missed):
            break  # more of them only cost more
        if point is not None and limits.site_watt is not None and _beyond_site(point, limits):
            _fill_site(looked, point, node)
            break
    _bisect(looked, node, first=True)
    _bisect(looked, node, first=False)
    points = tuple(sorted(looked.points.values(), key=lambda point: point.devices))
    kept = [point for point in points if not point.missed]
    if not kept:
        near = min(points, key=lambda point: _distance(point, limits), default=None)
        return Fleet(
            hardware=hardware,
            points=points,
            smallest=None,
            cheapest=None,
            fastest=None,
            nearest=None if near is None else looked.option(near),
            reason=looked.undefined if near is None else f"{near.devices:,} take {near.missed}",
        )
    return Fleet(
        hardware=hardware,
        points=points,
        smallest=_kept(looked, kept, lambda point: point.devices),
        cheapest=_kept(looked, kept, _price),
        fastest=_kept(looked, kept, lambda point: point.bill.time_s),
        nearest=None,
    )


def _doublings(node: int) -> Iterator[int]:
    yield from (count for power in range(node.bit_length()) if (count := 1 << power) < node)
    yield from (node << power for power in range(MOST_DOUBLINGS))


def _met(looked: _Looked) -> int:
    return sum(not point.missed for point in looked.points.values())


def _beyond_site(point: Point, limits: Limits) -> bool:
    assert limits.site_watt is not None
    return point.bill.power_watt is not None and point.bill.power_watt > limits.site_watt


def _fill_site(looked: _Looked, beyond: Point, node: int) -> None:
    """The largest count that the power of the site is enough for."""
    site_watt, taken_watt = looked.limits.site_watt, beyond.bill.power_watt
    assert site_watt is not None
    assert taken_watt is not None
    most = int(site_watt / taken_watt * beyond.devices) // node
    count = next((count for count in range(most, 0, -1) if _smooth(count)), 0)
    if count:
        looked.at(count * node)


def _price(point: Point) -> float:
    return point.bill.device_hours if point.bill.mean_usd is None else point.bill.mean_usd


def _distance(point: Point, limits: Limits) -> float:
    """How far a point is beyond its limits, as the largest of their ratios."""
    bill, ratios = point.bill, [1.0]
    if limits.deadline_s is not None:
        ratios.append(bill.time_s / limits.deadline_s)
    if limits.budget_usd is not None and bill.usd is not None:
        ratios.append(bill.usd[1] / limits.budget_usd)
    if limits.site_watt is not None and bill.power_watt is not None:
        ratios.append(bill.power_watt / limits.site_watt)
    return max(ratios)


def _bisect(looked: _Looked, node: int, *, first: bool) -> None:
    """Counts around the first that keeps to the limits, or after the last: time falls and money rises with them."""
    counts = sorted(looked.points)
    kept = [not looked.points[count].missed for count in counts]
    if True not in kept:
        return
    place = kept.index(True) if first else len(kept) - 1 - kept[::-1].index(True)
    other = place - 1 if first else place + 1
    if not 0 <= other < len(counts):
        return
    low, high = sorted((counts[place], counts[other]))
    between = [count * node for count in range(low // node + 1, high // node) if _smooth(count)] if low >= node else []
    while between:
        middle = len(between) // 2
        point = looked.at(between[middle])
        upwards = (point is None or bool(point.missed)) == first
        between = between[middle + 1 :] if upwards else between[:middle]


def _smooth(count: int) -> bool:
    for prime in SMOOTH:
        while count % prime == 0:
            count //= prime
    return count == 1


def _kept(looked: _Looked, points: list[Point], key: Callable[[Point], float]) -> Option | None:
    """The first of the points that keeps to the limits in the event engine, too."""
    for point in sorted(points, key=key):
        option = looked.option(point)
        if option.plans and not looked.limits.missed_by(option.plans[0].bill):
            return option
    return None


def best_plan(fleets: tuple[Fleet, ...], limits: Limits, objective: Objective | None = None) -> Plan | None:
    """What to take: what the objective says, else with a deadline the cheapest of the smallest fleets, else of all."""
    if objective == "time":
        return min(_plans(fleet.fastest for fleet in fleets), key=lambda plan: plan.bill.time_s, default=None)
    smallest = objective is None and limits.deadline_s is not None
    plans = _plans(fleet.smallest if smallest else fleet.cheapest for fleet in fleets)
    return min(plans, key=lambda plan: (plan.bill.mean_usd or math.inf, plan.devices), default=None)


def _plans(options: Iterable[Option | None]) -> list[Plan]:
    return [option.plans[0] for option in options if option]
