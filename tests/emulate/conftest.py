from pathlib import Path

import pytest

from hwprof.emulate.start import machine_named, recorded
from hwprof.predict.ceilings.probed import probed_cluster
from hwprof.predict.machine import machine_of
from hwprof.specs.measurement import Ceiling

SCRIPT = Path(__file__).parent / "scripts" / "sharded.py"


@pytest.fixture(scope="session")
def emulated():
    """Rank 0 of two of a plain FSDP2 loop, on H100."""
    return recorded([str(SCRIPT), "--steps", "3"], machine_named("h100-sxm", 2))[0]


@pytest.fixture(scope="session")
def processor():
    """Two ranks on the processor of a host."""
    ceilings = [
        Ceiling(name="matmul.fp32", kind="compute", value=1e11, unit="flop_per_s", origin="measured", source="here"),
        Ceiling(name="memory.dram", kind="memory", value=2e10, unit="byte_per_s", origin="measured", source="here"),
    ]
    return machine_of(probed_cluster("Some Processor", ceilings, {"memory.total": "8 GB"}, ranks=2))
