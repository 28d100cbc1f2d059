from pathlib import Path

import pytest

from hwprof.emulate.start import machine_named, recorded

SCRIPT = Path(__file__).parent / "scripts" / "sharded.py"


@pytest.fixture(scope="session")
def emulated():
    """Rank 0 of two of a plain FSDP2 loop, on H100."""
    return recorded([str(SCRIPT), "--steps", "3"], machine_named("h100-sxm", 2))[0]
