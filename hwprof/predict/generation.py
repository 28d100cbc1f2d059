"""What work does a step stand for that generates text? Its passes, their products and kernels, by label and phase.

``work_of``, ``products_of`` and ``kernels_of`` answer for any run: of a training step as ``step_work`` and its kin do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hwprof.count.blocks.transformer import AttentionConvention, matmul_shapes
from hwprof.count.inference.cache import kv_cache, visible_keys
from hwprof.count.inference.phases import Batch, prefill_ops, step_ops
from hwprof.count.inference.serving import Serving, served
from hwprof.count.inference.weights import Weights, weights_bytes
from hwprof.count.ops.operation import Op
from hwprof.predict.ceilings.step_kernels import KernelUse, step_kernels
from hwprof.predict.ceilings.step_products import MatmulShapes, products_by_label
from hwprof.predict.work import Work, step_work
from hwprof.specs.job.settings import Direction, PhaseName, RunSettings
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.model.spec import ModelSpec

CACHED_CORE = "cached_attention_core"
"""The row of the op table of attention against a cache."""


def work_of(spec: ModelSpec, settings: RunSettings, *, attention: AttentionConvention) -> tuple[Work, ...]:
    """The counted ops of a step, whatever it does."""
    if settings.new_tokens:
        return generation_work(spec, settings, attention=attention)
    return step_work(spec, settings, attention=attention)


def products_of(spec: ModelSpec, settings: RunSettings) -> MatmulShapes:
    """The products of linear layers in a step."""
    if not settings.new_tokens:
        return products_by_label(spec, settings)
    prompts, one = (_forward_shapes(spec, settings.changed(seq_len=count)) for count in (settings.seq_len, 1))
    last = {label: shapes for label, shapes in one.items() if label.startswith("head")}
    found: dict[tuple[str, Direction], Sequence[tuple[int, int, int]]] = {}
    found |= {(label, "forward"): shapes for label, shapes in (prompts | last).items()}
    found |= {(label, "decode"): shapes for label, shapes in one.items()}
    return found


def kernels_of(work: Iterable[Work], spec: ModelSpec, settings: RunSettings) -> tuple[KernelUse, ...]:
    """The kernels of a step that can be timed one by one, beside products and attention of whole sequences.

    Of a decode step attention against the cache alone: what else it runs takes the host longer than the device.
    """
    work = tuple(work)
    if not settings.new_tokens:
        return step_kernels(work, spec, settings)
    prompts = step_kernels((item for item in work if item.phase == "prefill"), spec, settings)
    wide = settings.dtype in {"fp32", "tf32"}  # the kernels of training keep their tensors in fp32
    return (*(prompts if wide else ()), *_cached(work, spec, settings))


def generation_work(spec: ModelSpec, settings: RunSettings, *, attention: AttentionConvention) -> tuple[Work, ...]:
    """The counted ops of prompts and of the passes that follow, which attend to ever more tokens: to their mean.

    Each pass touches all weights and the cache before it touches any of them again.
    """
    serving, sequences, prompt = Serving(dtype=settings.dtype), settings.micro_batch, settings.seq_len
    batch = Batch(spec=served(spec), size=sequences, serving=serving)
    before = prefill_ops(spec, batch_size=sequences, prompt_tokens=prompt, serving=serving, attention=attention)
    cache = kv_cache(spec, batch_size=sequences, context_tokens=prompt, dtype=serving.cache_dtype)
    swept_bytes = float(weights_bytes(spec, serving) + cache.total_bytes)
    weights = Weights.of(batch.spec, serving)

    def of_ops(ops: Iterable[Op], phase: PhaseName, direction: Direction, passes: int, tokens: int) -> Iterator[Work]:
        for op in ops:
            cost = op.forward
            stored_bytes = weights.read_by(op, tokens=tokens).size_bytes
            yield Work(
                label=op.label,
                layer_kind=op.layer_kind,
                direction=direction,
                phase=phase,
                cost=cost,
                instances=op.repeats * passes,
                working_set_bytes=cost.moved_bytes,
                compulsory_bytes=cost.read_bytes if op.kind == CACHED_CORE else float(stored_bytes),
                swept_bytes=swept_bytes,
                kind=op.kind,
            )

    found = of_ops(before, "prefill", "forward", 1, sequences * prompt)
    if not settings.decode_steps:
        return tuple(found)
    steps = _mean_step(batch, prompt + 1, prompt + settings.decode_steps)
    return (*found, *of_ops(steps, "decode", "decode", settings.decode_steps, sequences))


def _mean_step(batch: Batch, first: int, last: int) -> Iterator[Op]:
    """A decode step in the middle: every cost is linear in the number of keys."""
    ends = (step_ops(batch, visible_keys(batch.spec, length)) for length in (first, last))
    for one, other in zip(*ends, strict=True):
        yield replace(one, forward=(one.forward + other.forward) * 0.5)


def _forward_shapes(spec: ModelSpec, settings: RunSettings) -> dict[str, list[tuple[int, int, int]]]:
    shapes: dict[str, list[tuple[int, int, int]]] = {}
    for shape in matmul_shapes(spec, settings):
        if shape.direction == "forward":
            shapes.setdefault(shape.label, []).append((shape.m, shape.n, shape.k))
    return shapes


def _cached(work: Iterable[Work], spec: ModelSpec, settings: RunSettings) -> Iterator[KernelUse]:
    keys = settings.seq_len + (1 + settings.decode_steps) // 2
    sizes = (settings.micro_batch, keys, spec.heads, spec.kv_heads, spec.head_dim)
    kernel = StepKernel("cached_attention", "core", settings.dtype, sizes, "forward")
    for item in work:
        if item.kind == CACHED_CORE:
            yield KernelUse(
                kernel=kernel,
                phase=item.phase,
                calls=item.instances,
                moved_bytes=item.cost.moved_bytes,
                work=(item,),
            )
