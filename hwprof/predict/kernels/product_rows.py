"""What does the model say of the rows of a table of matrix products?"""

from __future__ import annotations

import numpy as np

from hwprof.errors import SpecError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.formats import PRODUCT_FORMATS, ProductFormat
from hwprof.predict.kernels.products import Products, product_s
from hwprof.predict.kernels.row_kinds import alike, refuse_unknown
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

PRODUCT_COLUMNS = ("dtype", "batch", "m", "n", "k")

TRAINING_ROWS, TRAINING_S = 1024, 50e-6
"""A product of training size has so many rows and is predicted to take so long."""

SMALL_ROWS = 256


def product_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Predictions of rows of one device, whose ``seconds`` are not read."""
    found = RowTimes.empty(len(rows))
    refuse_unknown(found, {"dtype": rows.words["dtype"]}, {"dtype": PRODUCT_FORMATS})
    formats: list[ProductFormat] = rows.words["dtype"].tolist()
    for dtype, index in alike(formats, found):
        asked = Products(**{name: rows.numbers[name][index] for name in ("m", "n", "k", "batch")})
        try:
            found.put(index, product_s(asked, device, dtype, table=table, launched=True), name=f"{dtype} products")
        except SpecError as error:
            found.refuse(index, str(error))
    found.group[:] = [_group(m, seconds) for m, seconds in zip(rows.numbers["m"], found.seconds, strict=True)]
    return found


def _group(m: np.float64, seconds: np.float64) -> str:
    if m <= SMALL_ROWS:
        return "small products"
    return "products of training size" if m >= TRAINING_ROWS and seconds > TRAINING_S else "products between"
