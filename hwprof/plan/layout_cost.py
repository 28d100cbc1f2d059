"""How long does a step take under a layout? A first estimate: roofline work, ring collectives, the 1F1B bubble.

Letters: t, p, d tensor, pipeline and data ranks; m micro-batches a data rank; s tokens of a micro-batch. The slowest
pipeline stage sets the pace: it holds layers / p layers and what stands outside the layers (head and loss).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwprof.count.op import Op
from hwprof.count.precision import Precision
from hwprof.count.transformer import parameters, training_step_ops
from hwprof.plan.layout import Layout, Problem
from hwprof.predict.collective import all_gather_s, all_reduce_s, point_to_point_s, reduce_scatter_s
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import BoundClass, Direction, LayerKind, RunSettings

_PASSES: tuple[Direction, ...] = ("forward", "backward", "recompute")
_WHOLE_KINDS: tuple[LayerKind, ...] = ("norm", "residual")
_BACKWARD_SHARE = 2 / 3
"""Share of a micro-batch's compute that is its backward pass: two products for each of the forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What share of its rate each resource reaches, and how much of the data-parallel traffic hides behind compute."""

    matmul: float
    memory: float
    link: float
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchWork:
    """Work of the whole model on one micro-batch, and of one weight update; ``outer`` stands outside the layers.

    ``*_bytes`` is the traffic of operations without matrix products; ``train_flop`` leaves recompute out.
    ``whole_bytes`` is that of norms and residual additions in the layers, which every tensor rank runs in full
    (no sequence parallelism), ``layer_bytes`` that of the other operations in the layers.
    """

    layer_flop: float
    layer_bytes: float
    whole_bytes: float
    outer_flop: float
    outer_bytes: float
    update_bytes: float
    train_flop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEstimate:
    """Parts of one step on the slowest device; they add up to ``step_s``.

    Attributes:
        matmul_s: matrix products.
        vector_s: the other operations and the optimizer, at the memory's rate.
        communication_s: collectives that compute does not hide.
        bubble_s: (p - 1) micro-batches of waiting (1F1B: Narayanan et al. 2021, section 2.2.1).
    """

    matmul_s: float
    vector_s: float
    communication_s: float
    bubble_s: float

    @property
    def step_s(self) -> float:
        """All parts one after the other."""
        return self.matmul_s + self.vector_s + self.communication_s + self.bubble_s

    @property
    def bound(self) -> BoundClass:
        """The class of the longest part; the bubble repeats the others and is none."""
        parts: dict[BoundClass, float] = {
            "compute": self.matmul_s,
            "memory": self.vector_s,
            "communication": self.communication_s,
        }
        return max(parts, key=lambda bound: parts[bound])


def micro_batch_work(spec: ModelSpec, settings: RunSettings) -> MicroBatchWork:
    """The work of one micro-batch under ``settings``; accumulation plays no part."""
    ops = training_step_ops(spec, settings.model_copy(update={"gradient_accumulation": 1}))
    layer = [op for op in ops if op.in_layer]
    outer = [op for op in ops if not op.in_layer]
    whole = [op for op in layer if op.layer_kind in _WHOLE_KINDS]
    return MicroBatchWork(
        layer_flop=_matmul_flop(layer),
        layer_bytes=_vector_bytes(layer) - _vector_bytes(whole),
        whole_bytes=_vector_bytes(whole),
        outer_flop=_matmul_flop(outer),
        outer_bytes=_vector_bytes(outer),
        update_bytes=sum(op.cost("update").moved_bytes for op in ops),
        train_flop=sum((op.cost("forward") + op.cost("backward")).matmul_flop for op in ops),
    )


def _matmul_flop(ops: Iterable[Op]) -> float:
    return sum(op.cost(direction).matmul_flop for op in ops for direction in _PASSES)


def _vector_bytes(ops: Iterable[Op]) -> float:
    costs = (op.cost(direction) for op in ops for direction in _PASSES)
    return sum(cost.moved_bytes for cost in costs if not cost.matmul_flop)


def estimate_step(layout: Layout, problem: Problem, work: MicroBatchWork, efficiency: Efficiency) -> StepEstimate:
    """The step of ``layout`` where every resource reaches its share in ``efficiency``."""
    machine, degrees, m = problem.machine, layout.degrees, layout.gradient_accumulation
    t, p = degrees.tensor_parallel, degrees.pipeline_parallel
    memory_byte_per_s = machine.memory_byte_per_s * efficiency.memory
    matmul_s = (work.layer_flop / p + work.outer_flop) / t / (machine.peak_flop_per_s * efficiency.matmul)
    vector_s = ((work.layer_bytes / p + work.outer_bytes) / t + work.whole_bytes / p) / memory_byte_per_s
    shards = t * p * (degrees.data_parallel if layout.zero_stage else 1)
    update_s = work.update_bytes / shards / memory_byte_per_s
    inner_s = (tensor_traffic_s(layout, problem) + stage_traffic_s(layout, problem)) / efficiency.link
    hidden_s = efficiency.overlap * _overlap_window_s(layout, matmul_s + vector_s)
    exposed_s = max(data_traffic_s(layout, problem) / efficiency.link - hidden_s, 0.0)
    return StepEstimate(
        matmul_s=m * matmul_s,
        vector_s=m * vector_s + update_s,
        communication_s=m * inner_s + exposed_s,
        bubble_s=(p - 1) * (matmul_s + vector_s + inner_s),
    )


def tensor_traffic_s(layout: Layout, problem: Problem) -> float:
    """All-reduces of one micro-batch on one stage: two a layer forward, two backward (Shoeybi et al. 2019, section 3).

    Full recompute runs the forward ones again. Each carries [s, d_model] in the dtype of the matrix products.
    """
    ranks = layout.degrees.tensor_parallel
    if ranks == 1:
        return 0.0
    calls = (6 if layout.recompute == "full" else 4) * problem.spec.layers / layout.degrees.pipeline_parallel
    precision = Precision.of(problem.settings.dtype)
    size_bytes = _stream_elements(layout, problem) * precision.compute_bytes
    return calls * all_reduce_s(size_bytes, problem.machine.group(ranks=ranks, stride=1))


def stage_traffic_s(layout: Layout, problem: Problem) -> float:
    """Activations to the next stage and gradients back, for one micro-batch: [s, d_model] of the residual stream."""
    degrees, machine = layout.degrees, problem.machine
    if degrees.pipeline_parallel == 1:
        return 0.0
    stride = degrees.tensor_parallel * degrees.data_parallel
    stages = machine.group(ranks=degrees.pipeline_parallel, stride=stride)
    size_bytes = _stream_elements(layout, problem) * Precision.of(problem.settings.dtype).residual_bytes
    return 2 * point_to_point_s(size_bytes, link=machine.between if stages.nodes > 1 else machine.inside)


def data_traffic_s(layout: Layout, problem: Problem) -> float:
    """Collectives of a step over the data ranks, before overlap (Rajbhandari et al. 2020, section 7).

    With P parameters a rank: stage 0 all-reduces the gradients (2 P); stages 1 and 2 reduce-scatter gradients and
    all-gather weights (2 P), stage 2 reducing after every micro-batch because it keeps only its shard; stage 3
    gathers the weights layer by layer for each forward and each backward pass and reduces after each (3 P for m = 1).
    """
    degrees, m, spec = layout.degrees, layout.gradient_accumulation, problem.spec
    if degrees.data_parallel == 1:
        return 0.0
    group = problem.machine.group(ranks=degrees.data_parallel, stride=degrees.tensor_parallel)
    precision = Precision.of(problem.settings.dtype)
    count = parameters(spec).total / (degrees.tensor_parallel * degrees.pipeline_parallel)
    if layout.zero_stage == 0:
        return all_reduce_s(count * precision.weight_bytes, group)
    reduce_s = reduce_scatter_s(count * precision.weight_bytes, group)
    if layout.zero_stage == 3:
        layers = spec.layers / degrees.pipeline_parallel
        return m * (reduce_s + 2 * layers * all_gather_s(count * precision.compute_bytes / layers, group))
    return reduce_s * (m if layout.zero_stage == 2 else 1) + all_gather_s(count * precision.weight_bytes, group)


def _stream_elements(layout: Layout, problem: Problem) -> float:
    return layout.micro_batch * problem.settings.seq_len * problem.spec.d_model


def _overlap_window_s(layout: Layout, micro_batch_s: float) -> float:
    """The compute that data-parallel traffic can hide behind: the passes during which it may run."""
    windows = {2: _BACKWARD_SHARE * layout.gradient_accumulation, 3: float(layout.gradient_accumulation)}
    return windows.get(layout.zero_stage, _BACKWARD_SHARE) * micro_batch_s
