"""Which ceilings does a run need? Those of its device, at the shapes of its model and in its precision first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwprof.measure.host.accelerator import table_of
from hwprof.measure.probes.attention import PASSES, AttentionPass, AttentionShape
from hwprof.measure.probes.device import TRAINED_DTYPES, ProbeResult, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.host import HostStep
from hwprof.measure.probes.step.parts import Part
from hwprof.measure.world import launched
from hwprof.predict.ceilings.step_kernels import step_kernels
from hwprof.predict.ceilings.step_products import attention_calls, product_calls, products_by_label
from hwprof.predict.work import step_work
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
    work = step_work(spec, settings, attention="causal")
    if settings.layout.tensor_parallel == 1:
        for (m, n, k), calls in product_calls(work, products_by_label(spec, settings)).items():
            shape = MatmulShape(m=m, n=n, k=k)
            yield Part(work=shape, calls=calls, flop=shape.flop, moved_bytes=shape.moved_bytes(settings.dtype))
    attention = AttentionShape(spec=spec, batch=settings.micro_batch, seq_len=settings.seq_len)
    passes = attention_calls(work)
    for direction in PASSES:
        yield Part(
            work=AttentionPass(attention, direction),
            calls=passes.get(direction, 0.0),
            flop=attention.flop(direction),
            moved_bytes=attention.moved_bytes(settings.dtype, direction),
        )
    for use in step_kernels(work, spec, settings):
        yield Part(work=use.kernel, calls=use.calls, moved_bytes=use.moved_bytes)


def _layer_bytes(spec: ModelSpec, settings: RunSettings) -> float:
    """What a layer moves in one pass over a micro-batch, on average over forward and backward."""
    work = step_work(spec, settings.changed(gradient_accumulation=1), attention="causal")
    moved_bytes = sum(item.total.moved_bytes for item in work if item.label.startswith("layers."))
    return moved_bytes / (2 * spec.layers)
