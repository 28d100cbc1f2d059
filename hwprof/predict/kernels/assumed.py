"""Which share of its peak does a device reach whose products nobody published one by one?"""

from __future__ import annotations

from typing import NamedTuple

from hwprof.specs.hardware.spec import DeviceSpec


class UsualShare(NamedTuple):
    """Share of the dense peak in large products, and who says so."""

    share: float
    source: str


_TABLE = "stas00/ml-engineering, compute/accelerator/README.md, best product of many"
_BY_FAMILY = {
    "cdna": UsualShare(0.55, f"between MI300X (51 %) and MI325X (60 %; {_TABLE})"),
    "gaudi": UsualShare(0.85, f"between Gaudi 3 (74 %) and Gaudi 2 (97 %; {_TABLE})"),
}
_OTHERS = UsualShare(0.8, "assumed: measured devices reach 70 to 90 %")


def usual_share(device: DeviceSpec) -> UsualShare:
    """The share that is assumed for a device, by its architecture."""
    return _BY_FAMILY.get(device.architecture_family, _OTHERS)
