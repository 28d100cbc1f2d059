"""How much memory does a training step need, and for what? The largest of the moments at which it may peak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from hwprof.count.op import Op
from hwprof.count.optimizer_memory import state_bytes, temporary_bytes
from hwprof.count.parameters import ParameterTensor, parameter_tensors
from hwprof.count.precision import Precision
from hwprof.count.sharding import Sharding
from hwprof.count.transformer import training_step_ops
from hwprof.count.vector_ops import LOSS_BYTES, ROPE_BYTES
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import MemoryPart, RunSettings

Parts = dict[str, float]

_NOTES = {
    "weights": "fp32",
    "gradients": "fp32",
    "weight copies": "narrow copies that autocast keeps for the backward pass",
    "kept by recompute": "inputs of layers, with selective recompute also results of matrix multiplications",
    "logits and loss": "logits, fp32 log-softmax and its gradients",
    "working gradients": "gradients of activations and fresh gradients of weights",
    "rotary tables": "cosines and sines, fp32",
    "gathered weights": "two layers' whole weights (ZeRO stage 3)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Memory of tensors at the step's peak on the device that needs most; the parts add up to ``peak_bytes``.

    Not in it: what the framework, its libraries and the allocator's fragmentation add.

    Attributes:
        parts: what it is for.
        peak_bytes: their sum.
        moment: when in the step it is reached.
    """

    parts: tuple[MemoryPart, ...]
    peak_bytes: float
    moment: str


def training_memory(
    spec: ModelSpec,
    settings: RunSettings,
    *,
    data_parallel: int = 1,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    zero_stage: int = 0,
) -> MemoryNeed:
    """The peak over one step after the first (when the optimizer state exists).

    Followed through the step: end of forward and start of the loss's backward, the backward of each op of the last and
    of the first layer (it changes evenly between them), the optimizer. Gradients grow while activations shrink, so
    the peak is one of these moments and not the sum of the largest parts.
    ``micro_batch`` is that of one replica, ``gradient_accumulation`` the number of micro-batches through a pipeline.

    Raises:
        InputError: a shape without tokens or beyond learned positions, a degree below 1, an unknown ZeRO stage.
    """
    sharding = Sharding(
        data_parallel=data_parallel,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        zero_stage=zero_stage,
    )
    moments = [moment for stage in _stages(spec, settings, sharding) for moment in _moments(stage)]
    name, parts = max(moments, key=lambda moment: sum(moment[1].values()))
    present = {part: size for part, size in parts.items() if size}
    return MemoryNeed(
        parts=tuple(
            MemoryPart(name=part, predicted_bytes=size, note=_NOTES.get(part, "")) for part, size in present.items()
        ),
        peak_bytes=sum(present.values()),
        moment=name,
    )


def largest_micro_batch(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> int:
    """The largest micro-batch whose step fits ``capacity_bytes`` on one device; 0 where not even one sequence fits."""

    def fits(micro_batch: int) -> bool:
        tried = settings.model_copy(update={"micro_batch": micro_batch})
        return training_memory(spec, tried).peak_bytes <= capacity_bytes

    too_many = 1
    while fits(too_many):
        too_many *= 2
    fitting = too_many // 2
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fits(middle) else (fitting, middle)
    return fitting


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One pipeline stage on one device: its ops in order, and how many micro-batches are under way.

    ``before``, ``layer`` and ``after`` are the ops of the embedding, of one layer, and of final norm, head and loss.
    """

    settings: RunSettings
    sharding: Sharding
    before: tuple[Op, ...]
    layer: tuple[Op, ...]
    after: tuple[Op, ...]
    layers: int
    in_flight: int
    stream_bytes: int
    logits_bytes: int
    fixed: Parts
    optimizer_temporary_bytes: float

    @property
    def recomputes(self) -> bool:
        return self.settings.recompute != "none"

    @property
    def kept_by_layer(self) -> Parts:
        """What one layer keeps for one micro-batch from forward to its own backward."""
        if not self.recomputes:
            return _saved(self.layer)
        results = sum(op.output_bytes for op in self.layer if "linear" in op.kind or "attention_core" in op.kind)
        return {"kept by recompute": self.stream_bytes + (results if self.settings.recompute == "selective" else 0)}


def _stages(spec: ModelSpec, settings: RunSettings, sharding: Sharding) -> Iterator[_Stage]:
    """The first pipeline stage (most micro-batches under way) and the last (the head); with one stage, that one."""
    ops = [sharding.of_op(_gradient_owner(op, spec)) for op in training_step_ops(spec, settings)]
    depth = sharding.pipeline_parallel
    tensors = parameter_tensors(spec)
    for index in dict.fromkeys((0, depth - 1)):
        before = tuple(op for op in ops if _leads_in(op) and index == 0)
        after = tuple(op for op in ops if _leads_out(op) and index == depth - 1)
        layers = -(-depth_of(spec) // depth)
        held = {op.label for op in (*before, *after)}
        if spec.tied_embeddings and "head" in held:
            held.add("embedding.tokens")
        own = [_resized(tensor, depth) for tensor in tensors if tensor.label in held or _in_layer(tensor)]
        yield _Stage(
            settings=settings,
            sharding=sharding,
            before=before,
            layer=tuple(_average(op, depth_of(spec)) for op in ops if op.in_layer),
            after=after,
            layers=layers,
            in_flight=min(depth - index, settings.gradient_accumulation),
            stream_bytes=settings.micro_batch * (settings.target_len or settings.seq_len) * spec.d_model * 4,
            logits_bytes=sum(op.output_bytes for op in after if op.label == "head"),
            fixed=_fixed(spec, settings, sharding, own),
            optimizer_temporary_bytes=temporary_bytes(own, settings, sharding),
        )


def _gradient_owner(op: Op, spec: ModelSpec) -> Op:
    """With a tied table the gradient appears at the head; the embedding then makes its own and the sum of the two."""
    table = spec.vocab_size * spec.d_model
    if spec.tied_embeddings and op.label == "head":
        return replace(op, parameters=op.parameters + table)
    if spec.tied_embeddings and op.label == "embedding.tokens":
        return replace(op, parameters=0, input_bytes=2 * table * 4)
    return op


def depth_of(spec: ModelSpec) -> int:
    """Layers one after another: of both sides of an encoder-decoder, and those of multi-token prediction."""
    return spec.layers + spec.mtp_layers + (spec.encoder.layers if spec.encoder else 0)


def _leads_in(op: Op) -> bool:
    return op.layer_kind == "embedding" or op.label.endswith("embedding_norm")


def _leads_out(op: Op) -> bool:
    return not (op.in_layer or _leads_in(op) or op.layer_kind in {"optimizer", "clip"})


def _average(op: Op, layers: int) -> Op:
    """What a layer has of an op on average over all ``layers``, of which only some may have it (experts, a window)."""
    if op.repeats == layers:
        return op

    def share(amount: int) -> int:
        return amount * op.repeats // layers

    return replace(
        op,
        parameters=share(op.parameters),
        saved_bytes=share(op.saved_bytes),
        weight_copy_bytes=share(op.weight_copy_bytes),
    )


def _in_layer(tensor: ParameterTensor) -> bool:
    return "layers.*" in tensor.label


def _resized(tensor: ParameterTensor, stages: int) -> ParameterTensor:
    """The tensor as one of so many pipeline stages holds it."""
    return replace(tensor, repeats=-(-tensor.repeats // stages)) if _in_layer(tensor) else tensor


def _fixed(spec: ModelSpec, settings: RunSettings, sharding: Sharding, own: list[ParameterTensor]) -> Parts:
    """What is there throughout the step."""
    weights = sum(sharding.parameters_of(tensor.label, tensor.total) for tensor in own) * 4
    layer = sum(sharding.parameters_of(tensor.label, tensor.elements) for tensor in own if _in_layer(tensor))
    gathered = sharding.weight_shards > 1
    tables = settings.seq_len * spec.head_dim * ROPE_BYTES if spec.positions == "rope" else 0
    return {
        "weights": weights / sharding.weight_shards,
        "optimizer state": state_bytes(own, settings, sharding),
        "rotary tables": tables,
        "gathered weights": 2 * layer * Precision.of(settings.dtype).compute_bytes if gathered else 0.0,
    }


def _moments(stage: _Stage) -> Iterator[tuple[str, Parts]]:
    """Each moment of the step at which memory may peak, and what it then holds."""
    if stage.logits_bytes:
        yield "start of backward, at the loss", _at_loss(stage)
    yield from _backward_moments(stage)
    parts = dict(stage.fixed)
    parts["gradients"] = _gradient_bytes(stage, [*stage.before, *stage.after, *stage.layer * stage.layers])
    parts["optimizer temporaries"] = stage.optimizer_temporary_bytes
    yield "optimizer step", parts


def _at_loss(stage: _Stage) -> Parts:
    """Everything is kept; the loss adds two fp32 gradients of the size of the logits, which are still there too."""
    wide = stage.logits_bytes / Precision.of(stage.settings.dtype).compute_bytes * LOSS_BYTES
    parts = _sum(stage.fixed, _held(stage, stage.layers, stage.after, done=[]))
    parts["logits and loss"] += 2 * wide
    return parts


def _backward_moments(stage: _Stage) -> Iterator[tuple[str, Parts]]:
    """The backward of each op: of the head, of the last and the first layer, of the embedding."""
    without_loss = [op for op in stage.after if op.label != "loss"]
    for position, op in reversed(list(enumerate(without_loss))):
        held = _held(stage, stage.layers, without_loss[: position + 1], done=without_loss[position + 1 :])
        yield f"backward of {op.label}", _working(stage, op, held)
    for index in dict.fromkeys((stage.layers - 1, 0)):
        for position, op in reversed(list(enumerate(stage.layer))):
            later = [*without_loss, *stage.layer * (stage.layers - 1 - index), *stage.layer[position + 1 :]]
            held = _held(stage, index, stage.layer[: position + 1], done=later)
            yield f"backward of {op.label.replace('*', str(index))}", _working(stage, op, held)
    for op in stage.before:
        held = _held(stage, 0, (), done=[*without_loss, *stage.layer * stage.layers])
        yield f"backward of {op.label}", _working(stage, op, held)


def _held(stage: _Stage, layers: int, ops: Iterable[Op], *, done: Iterable[Op]) -> Parts:
    """Kept tensors while ``layers`` layers and ``ops`` still wait for their backward and ``done`` have had theirs."""
    whole = _sum(_times(stage.kept_by_layer, stage.layers), _saved((*stage.before, *stage.after)))
    parts = _sum(_times(whole, stage.in_flight - 1), _times(stage.kept_by_layer, layers), _saved(stage.before))
    parts = _sum(parts, _saved(ops))
    everything = [*stage.before, *stage.after, *stage.layer * stage.layers]
    parts["gradients"] = _gradient_bytes(stage, everything if stage.settings.gradient_accumulation > 1 else done)
    parts["logits and loss"] += stage.logits_bytes
    copies = [*ops, *(() if stage.recomputes else stage.layer * layers)]
    parts["weight copies"] = sum(op.weight_copy_bytes for op in copies)
    return parts


def _working(stage: _Stage, op: Op, held: Parts) -> Parts:
    """Beside what is held: gradients of the op's result and inputs, of the residual stream, and of its weights."""
    weights = op.parameters * 4 + op.weight_copy_bytes
    stream = stage.stream_bytes if op.in_layer else 0
    return _sum(stage.fixed, held, {"working gradients": op.input_bytes + op.output_bytes + stream + weights})


def _gradient_bytes(stage: _Stage, ops: Iterable[Op]) -> float:
    return sum(op.parameters for op in ops) * 4 / stage.sharding.gradient_shards


def _saved(ops: Iterable[Op]) -> Parts:
    parts: Parts = defaultdict(float)
    for op in ops:
        parts["logits and loss" if op.label == "loss" else f"activations: {op.layer_kind}"] += op.saved_bytes
    return parts


def _times(parts: Parts, times: int) -> Parts:
    return {name: size * times for name, size in parts.items()}


def _sum(*several: Parts) -> Parts:
    total: Parts = defaultdict(float)
    for parts in several:
        for name, size in parts.items():
            total[name] += size
    return total
