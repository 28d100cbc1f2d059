"""What is a processor that no file of the catalogue describes, or of which a program sees a part? As it was probed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwprof.errors import InputError
from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.specs.frozen import CHANGED
from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.measurement import Ceiling
from hwprof.units import parse

PASSES_OF_A_MESSAGE = 6
"""Times that bytes of a message between processes of a host are read or written where nobody measured it: out of the
sender's memory and into the kernel's, out of that and into the receiver's, and there into place (assumed)."""


def probed_cluster(
    name: str, ceilings: Sequence[Ceiling], environment: Mapping[str, str], *, ranks: int
) -> ClusterSpec:
    """So many ranks on one host, each of which has its processor as a probe found it.

    Args:
        name: of the processor, as the system says it.
        ceilings: that were measured on it.
        environment: of the probe; how much memory there is.
        ranks: processes, each of which counts as a device.

    Raises:
        InputError: products or memory were not measured.
    """
    best = best_ceilings(ceilings)
    rates = {dtype: best[f"matmul.{dtype}"].value for dtype in ("fp32", "bf16", "fp16") if f"matmul.{dtype}" in best}
    if "fp32" not in rates or "memory.dram" not in best:
        raise InputError(
            "the calibration has no rate of fp32 products, or none of memory",
            expectation="`hwprof probe --device cpu` measures both",
            remedy="probe again, and name that file with --calibration, too",
        )
    byte_per_s, source = best["memory.dram"].value, (best["memory.dram"].source,)
    device = {
        "id": "probed-cpu",
        "kind": "cpu",
        "vendor": name,
        "architecture": name,
        "architecture_family": "cpu",
        "form_factor": "socket",
        "confidence": "read",
        "compute": {"source": source},
        "peaks": {"source": source, "dense": rates},
        "memory": {"source": source, "capacity": _memory_bytes(environment), "type": "DRAM", "bandwidth": byte_per_s},
        "host_link": {"source": source, "type": "shared memory", "bandwidth": byte_per_s / PASSES_OF_A_MESSAGE},
        "node": {"source": source, "devices": ranks, "scale_up_domain": 1},
    }
    cluster = {
        "id": f"{ranks}x{name}",
        "device": device,
        "devices": ranks,
        "devices_per_node": ranks,
        "scale_up_domain": 1,
        "source": {"devices": "asked for"},
    }
    return ClusterSpec.model_validate(cluster, context=CHANGED)


def _memory_bytes(environment: Mapping[str, str]) -> float | None:
    """All memory of the host; None where the probe did not say."""
    try:
        return parse(environment.get("memory.total", ""), "byte")
    except InputError:
        return None
