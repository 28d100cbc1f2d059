"""What power does a device take with its share of host, network and building, and what does a kilowatt-hour emit?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.predict.machine import LEAST_CAP
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.units import format_quantity

USUAL_PUE = 1.56
PUE_SOURCE = "average of data centres, Uptime Institute Global Data Center Survey 2024"
"""Power of the building over power of its machines."""

HOST_SHARE = (10.2e3 - 8 * 700) / (8 * 700)
"""Of a host beside that of its devices, where no file has it: a DGX H100 takes 10.2 kW with eight of 700 W (its
datasheet)."""

SWITCH_WATT, SWITCH_PORTS = 1720.0, 64
"""Of a switch with active modules in all ports: NVIDIA Quantum-2 QM9700, datasheet."""

GRID_G_PER_KWH = 445.0
GRID_SOURCE = "the world's mean of 2024, IEA Electricity 2025"


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Of one device.

    Attributes:
        watt: with its shares of host and network; None = not known.
        pue: power of the building over that.
        g_per_kwh: carbon dioxide of the grid.
        basis: where each is from, in words.
    """

    watt: float | None
    pue: float
    g_per_kwh: float
    basis: tuple[str, ...]

    @property
    def site_watt(self) -> float | None:
        """With the building's share."""
        return None if self.watt is None else self.watt * self.pue


def power_of(
    device: DeviceSpec,
    devices: int,
    *,
    watt: float | None = None,
    pue: float | None = None,
    g_per_kwh: float | None = None,
    cap_watt: float | None = None,
) -> Power:
    """As rated: the most that it takes, of the device no more than ``cap_watt``.

    ``watt`` is all of it, with host and network.

    Raises:
        InputError: a PUE below 1.
    """
    if pue is not None and pue < 1:
        raise InputError(f"a PUE of {pue}", expectation="a building takes at least the power of its devices: 1 or more")
    found, words = (
        (watt, f"{watt:g} W, as given, host and network included") if watt else _rated(device, devices, cap_watt)
    )
    return Power(
        watt=found,
        pue=pue or USUAL_PUE,
        g_per_kwh=GRID_G_PER_KWH if g_per_kwh is None else g_per_kwh,
        basis=(
            f"power of {device.id}: {words}",
            f"PUE {pue:g}, as given" if pue is not None else f"PUE {USUAL_PUE:g}: {PUE_SOURCE}",
            f"grid: {GRID_G_PER_KWH:g} g CO2/kWh, {GRID_SOURCE}"
            if g_per_kwh is None
            else f"grid: {g_per_kwh:g} g CO2/kWh, as given",
        ),
    )


def network_watt(devices: int, node: int) -> float:
    """Switch ports of one device in a fat tree: one on the lowest level, two on each further one."""
    if devices <= node:
        return 0.0
    levels, reach = 1, SWITCH_PORTS
    while reach < devices:
        levels, reach = levels + 1, reach * SWITCH_PORTS // 2
    return (2 * levels - 1) * SWITCH_WATT / SWITCH_PORTS


def cap_within(device: DeviceSpec, devices: int, *, site_watt: float, pue: float | None) -> float | None:
    """What each device may take so that all of them keep to a site's power; None = as rated, they do.

    Raises:
        InputError: even capped as low as they go they take more.
    """
    rated = power_of(device, devices, pue=pue)
    own = device.compute.tdp_watt
    if rated.site_watt is None or own is None or rated.site_watt * devices <= site_watt:
        return None
    cap_watt = own - (rated.site_watt - site_watt / devices) / rated.pue
    if cap_watt < LEAST_CAP * own:
        least_watt = rated.site_watt - (1 - LEAST_CAP) * own * rated.pue
        raise InputError(
            f"{devices:,} x {device.id} take {format_quantity(rated.site_watt * devices, 'watt')}, and "
            f"{format_quantity(least_watt * devices, 'watt')} with each capped as low as it goes; --site-power is "
            f"{format_quantity(site_watt, 'watt')}",
            remedy=f"it is enough for {int(site_watt // rated.site_watt):,} at full power, and for "
            f"{int(site_watt // least_watt):,} at the lowest cap",
        )
    return cap_watt


def _rated(device: DeviceSpec, devices: int, cap_watt: float | None) -> tuple[float | None, str]:
    own = device.compute.tdp_watt
    if own is None:
        return None, "not known; --watt gives it"
    if device.kind == "cpu":
        return own, f"its TDP of {own:g} W"
    node = device.node
    host = node.power_watt / node.devices - own if node.power_watt else HOST_SHARE * own
    from_file = "its node's rating" if node.power_watt else "as in a DGX H100 (assumed)"
    taken = min(cap_watt or own, own)
    wires = network_watt(devices, node.devices)
    network = f" + {wires:.0f} W of switches (QM9700)" if wires else ""
    said = f"{own:g} W (its TDP)" if taken == own else f"{taken:g} W (capped)"
    return taken + host + wires, f"{said} + {host:.0f} W of the host ({from_file}){network}, all as rated"
