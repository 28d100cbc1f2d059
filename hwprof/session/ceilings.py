"""Which ceilings does a run need? Those of its device, at the shapes of its model and in its precision first."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.count.blocks.transformer import matmul_shapes
from hwprof.measure.probes.attention import AttentionShape
from hwprof.measure.probes.device import TRAINED_DTYPES, ProbeResult, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.session.caller import Told
from hwprof.session.settle import SettledRun


def probe_ceilings(run: SettledRun, *, report: Told, on_result: Callable[[ProbeResult], None]) -> None:
    """Ceilings of the device that runs, at the shapes of its model too; whole products say nothing of tensor ranks'."""
    settings = run.settings
    dtypes = (settings.dtype, *TRAINED_DTYPES[run.device.type])  # its own first: kept if a later probe is interrupted
    shapes = matmul_shapes(run.model, settings) if settings.layout.tensor_parallel == 1 else ()
    probe_device(
        run.device,
        dtypes=tuple(dict.fromkeys(dtypes)),
        shapes=[MatmulShape(m=shape.m, n=shape.n, k=shape.k) for shape in shapes],
        shape_dtype=settings.dtype,
        attention=AttentionShape(spec=run.model, batch=settings.micro_batch, seq_len=settings.seq_len),
        quick=not run.request.full_probes,
        report=report,
        on_result=on_result,
    )
