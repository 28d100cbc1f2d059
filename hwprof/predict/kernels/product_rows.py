"""What does the model say of the rows of a table of matrix products?"""

from __future__ import annotations

import numpy as np

from hwprof.errors import SpecError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.formats import FORMATS, PRODUCT_FORMATS, ProductFormat
from hwprof.predict.kernels.products import Products, product_s
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

COLUMNS = ("batch", "m", "n", "k")

TRAINING_ROWS, TRAINING_S = 1024, 50e-6
"""A product of training size has so many rows and is predicted to take so long."""

SMALL_ROWS = 256


def product_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Predictions of rows of one device, whose ``seconds`` are not read."""
    found = RowTimes.empty(len(rows))
    dtypes = rows.words["dtype"]
    for dtype in dict.fromkeys(dtypes.tolist()):
        index = np.flatnonzero(dtypes == dtype)
        if dtype not in FORMATS:
            found.refuse(index, f"dtype {dtype!r} is not known; known: {', '.join(PRODUCT_FORMATS)}")
            continue
        asked = Products(**{name: rows.numbers[name][index] for name in ("m", "n", "k", "batch")})
        known: ProductFormat = dtype
        try:
            found.put(index, product_s(asked, device, known, table=table), name=f"{device.id} {dtype}")
        except SpecError as error:
            found.refuse(index, str(error))
    for row, (m, seconds) in enumerate(zip(rows.numbers["m"], found.seconds, strict=True)):
        found.group[row] = _group(m, seconds)
    return found


def _group(m: float, seconds: float) -> str:
    if m <= SMALL_ROWS:
        return "small products"
    return "products of training size" if m >= TRAINING_ROWS and seconds > TRAINING_S else "products between"
