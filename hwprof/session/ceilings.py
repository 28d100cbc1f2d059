"""Which ceilings does a run need? Those of its device, at the shapes of its model and in its precision first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from hwprof.measure.host.accelerator import table_of
from hwprof.measure.probes.attention import PASSES, AttentionPass, AttentionShape
from hwprof.measure.probes.device import TRAINED_DTYPES, ProbeResult, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.host import HostStep
from hwprof.measure.probes.step.parts import Part
from hwprof.measure.world import launched
from hwprof.predict.ceilings.step_products import attention_calls, product_calls
from hwprof.predict.generation import kernels_of, products_of, work_of
from hwprof.session.caller import Told
from hwprof.session.settle import SettledRun
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec


def probe_ceilings(run: SettledRun, *, report: Told, on_result: Callable[[ProbeResult], None]) -> None:
    """Ceilings of the device that runs, and of the parts of the step."""
    settings = run.settings
    dtypes = (
        settings.dtype,
        *TRAINED_DTYPES[table_of(run.device)],
    )  # its own first: kept if a later probe is interrupted
    probe_device(
        run.device,
        dtypes=tuple(dict.fromkeys(dtypes)),
        parts=tuple(parts_of(run.model, settings)),
        dtype=settings.dtype,
        step=HostStep(spec=run.model, settings=settings, layer_bytes=_layer_bytes(run.model, settings)),
        peers=not launched(),
        quick=not run.request.full_probes,
        report=report,
        on_result=on_result,
    )


def parts_of(spec: ModelSpec, settings: RunSettings) -> Iterator[Part]:
    """Products, attention and the other kernels of a step; whole products say nothing of tensor ranks'."""
    work = work_of(spec, settings, attention="causal")
    swept_bytes = max((item.swept_bytes for item in work), default=0.0) if settings.new_tokens else math.inf
    if settings.layout.tensor_parallel == 1:
        for (m, n, k), calls in product_calls(work, products_of(spec, settings)).items():
            shape = MatmulShape(m=m, n=n, k=k)
            moved_bytes = shape.moved_bytes(settings.dtype)
            yield Part(work=shape, calls=calls, flop=shape.flop, moved_bytes=moved_bytes, swept_bytes=swept_bytes)
    attention = AttentionShape(spec=spec, batch=settings.micro_batch, seq_len=settings.seq_len)
    passes = attention_calls(work)
    for direction in PASSES[:1] if settings.new_tokens else PASSES:
        yield Part(
            work=AttentionPass(attention, direction),
            calls=passes.get(direction, 0.0),
            flop=attention.flop(direction),
            moved_bytes=attention.moved_bytes(settings.dtype, direction),
        )
    for use in kernels_of(work, spec, settings):
        yield Part(work=use.kernel, calls=use.calls, moved_bytes=use.moved_bytes, swept_bytes=swept_bytes)


def _layer_bytes(spec: ModelSpec, settings: RunSettings) -> float:
    """What a layer moves in one pass over a micro-batch, on average over forward and backward, or over all passes."""
    work = work_of(spec, settings.changed(gradient_accumulation=1), attention="causal")
    moved_bytes = sum(item.total.moved_bytes for item in work if item.label.startswith("layers."))
    return moved_bytes / ((1 + settings.decode_steps if settings.new_tokens else 2) * spec.layers)
