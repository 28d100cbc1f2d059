"""With which instructions does this CPU multiply in a number format? oneDNN says it of one small product.

torch multiplies 16-bit formats on a CPU through oneDNN, which widens them to fp32 where the CPU has no instructions for
them: right results, at a rate that is no property of the format.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch

_SIDE = 64
_LINE = re.compile(r"primitive,exec,cpu,(?:matmul|inner_product|convolution),([^,]+),")
_NATIVE = ("bf16", "fp16", "amx", "avx10", "acl", "sve", "neon")
"""Parts of the names of instruction sets with which oneDNN multiplies 16-bit operands as they are.

``avx2_vnni_2`` is not among them: AVX-NE-CONVERT turns 16-bit operands into fp32 as it loads them, and has no product.
"""


def products_run_on(dtype: torch.dtype) -> str:
    """What oneDNN calls that which runs a product (``brg_matmul:avx512_core_bf16``); empty where oneDNN does not."""
    operand = torch.ones(_SIDE, _SIDE).to(dtype)
    found = _LINE.search(_said(lambda: torch.nn.functional.linear(operand, operand)))
    return found[1] if found else ""


def widened(implementation: str, machine: str = "") -> bool:
    """Whether 16-bit operands are widened before they are multiplied.

    Args:
        implementation: as ``products_run_on`` says; where it is empty, torch's own loops run the product.
        machine: the processor's family; empty for this one's.
    """
    if not implementation:
        return (machine or platform.machine()) in {"x86_64", "AMD64"}
    return not any(part in implementation for part in _NATIVE)


def _said(work: Callable[[], object]) -> str:
    """What oneDNN prints while some work runs; it writes to the process's standard output itself."""
    onednn: Any = torch.backends.mkldnn  # which torch leaves untyped
    if not onednn.is_available():
        return ""
    with tempfile.TemporaryFile() as file:
        with _standard_output_to(file), onednn.verbose(onednn.VERBOSE_ON):
            work()
        file.seek(0)
        return file.read().decode(errors="replace")


@contextmanager
def _standard_output_to(file: IO[bytes]) -> Iterator[None]:
    """What the process writes to its standard output goes to a file, also where it was started without one."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        kept = None
    os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        if kept is None:
            os.close(1)
        else:
            os.dup2(kept, 1)
            os.close(kept)
