"""What does the model say of the rows of a table of experts' grouped products?"""

from __future__ import annotations

import numpy as np

from hwprof.errors import SpecError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.formats import FORMATS, PRODUCT_FORMATS, ProductFormat
from hwprof.predict.kernels.grouped import asked_of, experts_s, exponents
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

COLUMNS = ("dtype", "tokens", "hidden", "ffn_hidden", "experts", "experts_per_token", "tp", "ep", "distribution")


def grouped_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Predictions of rows of one device, whose ``seconds`` are not read."""
    found = RowTimes.empty(len(rows))
    found.group[:] = ["experts"] * len(rows)
    power = exponents(rows)
    unknown = np.isnan(power)
    found.refuse(np.flatnonzero(unknown), "distribution is neither 'balanced' nor 'power_law_' and an exponent below 3")
    numbers = rows.numbers
    unlike = ~unknown & ((numbers["ep"] > numbers["experts"]) | (numbers["experts_per_token"] > numbers["experts"]))
    found.refuse(np.flatnonzero(unlike), "there are fewer experts than ranks or than experts a token")
    dtypes = rows.words["dtype"]
    for dtype in dict.fromkeys(dtypes.tolist()):
        of_dtype = (dtypes == dtype) & ~unknown & ~unlike
        if dtype not in FORMATS:
            found.refuse(np.flatnonzero(of_dtype), f"dtype {dtype!r} is not known; known: {', '.join(PRODUCT_FORMATS)}")
            continue
        known: ProductFormat = dtype
        for even in (True, False):
            index = np.flatnonzero(of_dtype & ((power == 0) == even))
            if not len(index):
                continue
            try:
                times = experts_s(asked_of(rows.where(index)), device, known, table=table, even=even)
            except SpecError as error:
                found.refuse(index, str(error))
                continue
            found.put(index, times, name=f"{device.id} {dtype}")
    return found
