"""How long do products take whose shape no probe saw? By what was measured here, then elsewhere on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.ceilings.step_products import Shape
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.process import Points, curve
from hwprof.predict.kernels.formats import FORMATS
from hwprof.predict.kernels.products import AXES, PRIOR, Products, product_s
from hwprof.specs.catalogue.kernel_points import KernelPoints, kernel_table
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.job.settings import Dtype
from hwprof.units import format_estimate, format_span

Floats = NDArray[np.float64]

UNPROBED_MATMUL_EFFICIENCY = (0.25, 0.5, 1.0)
"""Assumed share of the matrix-multiply roof (least, expected, most) of products that nothing says anything about."""

FEWEST_FOR_CURVE = 3
"""So few measured products make a curve over the sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRates:
    """What is known of products in one format on a device.

    Attributes:
        dtype: the format.
        flop_per_s: their roof.
        byte_per_s: the memory's.
        roof_name: of the ceiling that ``flop_per_s`` is.
        shapes: (m, n, k) -> rate, as probed here.
        device: its catalogue entry, where others' measurements may speak; None where there is none.
    """

    dtype: Dtype
    flop_per_s: float
    byte_per_s: float
    roof_name: str
    shapes: Mapping[Shape, float]
    device: DeviceSpec | None = None


def unprobed_s(wanted: Sequence[Shape], known: ProductRates) -> KernelTime:
    """Times of products by the others: by a curve through those probed here and those of the device's kind, if any."""
    asked = _products(wanted)
    if known.device is not None and known.device.matmul_flop_per_s(FORMATS[known.dtype].peak):
        points = _points(known) if known.shapes else None
        return product_s(asked, known.device, known.dtype, table=kernel_table("gemm"), here=points)
    if len(known.shapes) >= FEWEST_FOR_CURVE:
        return _by_curve(asked, known)
    least, middle, most = UNPROBED_MATMUL_EFFICIENCY
    text = f"an assumed {format_estimate(middle)} ({format_span((least, most), 'estimate')}) of {known.roof_name}"
    at_roof_s = asked.flop / known.flop_per_s
    return KernelTime(at_roof_s / middle, at_roof_s / most, at_roof_s / least, Basis("assumed", text))


def _by_curve(asked: Products, known: ProductRates) -> KernelTime:
    """A curve on the roofs that were measured here."""
    measured = _products(tuple(known.shapes))
    seconds = measured.flop / np.array(list(known.shapes.values()))
    kept = FORMATS[known.dtype]

    def base_s(sizes: Floats) -> Floats:
        products = _of_sizes(sizes)
        roofs_s = (products.flop / known.flop_per_s, products.moved_bytes(kept) / known.byte_per_s)
        longer_s: Floats = np.maximum(*roofs_s)
        return longer_s

    sizes = _sizes(measured)
    law = curve(AXES, Points(sizes, seconds, base_s(sizes)), base_s, PRIOR)
    found_s, half_width = law.at(_sizes(asked))
    text = f"a curve through the {len(known.shapes)} that were probed"
    return KernelTime.around(found_s, half_width, Basis("measured_here", text))


def _points(known: ProductRates) -> KernelPoints:
    measured = _products(tuple(known.shapes))
    seconds = measured.flop / np.array(list(known.shapes.values()))
    numbers = {"m": measured.m, "n": measured.n, "k": measured.k, "batch": measured.batch, "seconds": seconds}
    return KernelPoints(numbers, {"dtype": np.full(len(seconds), known.dtype)})


def _products(shapes: Sequence[Shape]) -> Products:
    return _of_sizes(np.array(shapes, float).reshape(-1, 3))


def _of_sizes(sizes: Floats) -> Products:
    return Products(m=sizes[:, 0], n=sizes[:, 1], k=sizes[:, 2], batch=np.ones(len(sizes)))


def _sizes(asked: Products) -> Floats:
    return np.stack([asked.m, asked.n, asked.k], axis=1)
