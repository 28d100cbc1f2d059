"""What does the model say of the rows of a table of experts' grouped products?"""

from __future__ import annotations

import numpy as np

from hwprof.errors import SpecError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.formats import PRODUCT_FORMATS, ProductFormat
from hwprof.predict.kernels.grouped import asked_of, experts_s, exponents
from hwprof.predict.kernels.row_kinds import alike, refuse_unknown
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

GROUPED_COLUMNS = (
    *("dtype", "tokens", "hidden", "ffn_hidden", "experts", "experts_per_token", "tp", "ep", "distribution"),
)


def grouped_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Predictions of rows of one device, whose ``seconds`` are not read."""
    found = RowTimes.empty(len(rows))
    found.group[:] = ["experts"] * len(rows)
    refuse_unknown(found, {"dtype": rows.words["dtype"]}, {"dtype": PRODUCT_FORMATS})
    power, numbers = exponents(rows), rows.numbers
    found.refuse(
        np.flatnonzero(np.isnan(power)),
        "distribution is neither 'balanced' nor 'power_law_' with an exponent above 0 and below 3",
    )
    too_few = (numbers["ep"] > numbers["experts"]) | (numbers["experts_per_token"] > numbers["experts"])
    found.refuse(np.flatnonzero(too_few), "there are fewer experts than ranks, or than a token takes")
    formats: list[ProductFormat] = rows.words["dtype"].tolist()
    for (dtype, even), index in alike(zip(formats, power == 0, strict=True), found):
        asked = asked_of(rows.where(index))
        try:
            found.put(index, experts_s(asked, device, dtype, table=table, even=bool(even)), name=f"{dtype} experts")
        except SpecError as error:
            found.refuse(index, str(error))
    return found
