"""What does each part of a model keep on a device? Bytes of one layer, of either end, of the loss.

The pieces depend on the micro-batch, on how layers are shared and on formats; not on pipeline, replicas or schedule.
``memory_moments`` puts them together. All fields are plain numbers, and may be arrays that stand for many pieces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from hwprof.count.ops.elementwise import Amount
from hwprof.count.ops.operation import Op

KEPT_BY_RECOMPUTE = "kept by recompute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What weights take throughout, before ZeRO divides it.

    Attributes:
        weights_bytes: the weights.
        gradient_bytes: their gradients.
        state_bytes: optimizer state, master weights included.
        gathered_bytes: the weights as ZeRO stage 3 gathers them for use.
        reduced_bytes: whole gradients as they are reduced.
        step_bytes: what the optimizer step takes beside, for all of them.
        largest_step_bytes: the same for the largest of them, one after another.
    """

    weights_bytes: Amount = 0.0
    gradient_bytes: Amount = 0.0
    state_bytes: Amount = 0.0
    gathered_bytes: Amount = 0.0
    reduced_bytes: Amount = 0.0
    step_bytes: Amount = 0.0
    largest_step_bytes: Amount = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer, or one end of the model.

    Attributes:
        dense: what its weights take that all replicas hold.
        experts: what its routed experts take.
        kept: bytes kept from forward to backward for one micro-batch, by what they are.
        kept_bytes: their sum.
        copies_bytes: narrow copies of weights that last from forward to backward.
        working_bytes: the most that its backward needs beyond what is kept.
        growing_bytes: the same where its own gradients come to be meanwhile.
        grown_bytes: its gradients, where they come to be in backward.
        moment: the operation at which ``working_bytes`` is reached.
        growing_moment: the operation at which ``growing_bytes`` is reached.
    """

    dense: Held = Held()
    experts: Held = Held()
    kept: Mapping[str, Amount] = field(default_factory=dict)
    kept_bytes: Amount = 0.0
    copies_bytes: Amount = 0.0
    working_bytes: Amount = 0.0
    growing_bytes: Amount = 0.0
    grown_bytes: Amount = 0.0
    moment: str = ""
    growing_moment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A model in pieces, as one device of a group that shares layers sees them.

    Attributes:
        leading_layers: layers of the first sort (dense ones before those with experts; an encoder's).
        layers: all layers in a row.
        before: embedding.
        leading: one of the leading layers.
        body: one of the other layers.
        after: final norm, head, predictions of further tokens; without the loss.
        tied: a tied table that a last stage holds a second time.
        loss_kept_bytes: kept by the loss for backward.
        loss_working_bytes: the most that the loss takes beyond that.
        loss_at_head_bytes: of what the loss keeps, what is there while the head runs backward.
        lasting_logits_bytes: logits that are there until the step ends.
        pipeline_output_bytes: logits of a micro-batch that a pipeline holds until the step ends.
        stream_bytes: the residual stream between two layers.
        tables_bytes: rotary tables.
        placeholder_bytes: empty gradients that stay (``Storage.placeholders``).
        live_bytes: gathered weights that may stay after use.
        bucket_bytes: the largest of either of two buckets in which gradients are reduced and weights gathered.
        narrows_in_use: narrow copies of weights come and go with their layer, sharded or not.
        lasting_gradients: gradients have their place throughout the step.
        bucketed_gradients: DDP keeps a second copy of the gradients in its buckets.
        whole_gradient_share: width of a gradient before it is reduced over that of a kept one.
        keeps_ends: whether whole weights of the ends stay from their use in forward on, and their whole gradients until
            all are reduced, as FSDP's root has it.
        prefetched_layers: layers whose sharded weights come in ahead of use.
        freed_logits_bytes: narrow logits whose place stays free, but too small, when they have been made wide.
        streams: sharded gradients and gathered weights come from pools of their own in torch's allocator.
        expert_replication: replicas of an expert for each replica of the model.
        state_on_device: 0 where the optimizer state lives in host memory, else 1.
        gradients_on_device: 0 where gradients go to the host as they are made, or weights are updated at once.
        weights_on_device: the same for weights.
        activations_on_device: share of the layers whose kept activations stay; two layers' always do.
    """

    leading_layers: int = 0
    layers: int
    before: Block
    leading: Block
    body: Block
    after: Block
    tied: Held = Held()
    loss_kept_bytes: Amount = 0.0
    loss_working_bytes: Amount = 0.0
    lasting_logits_bytes: Amount = 0.0
    loss_at_head_bytes: Amount = 0.0
    pipeline_output_bytes: Amount = 0.0
    stream_bytes: Amount = 0.0
    tables_bytes: Amount = 0.0
    placeholder_bytes: Amount = 0.0
    live_bytes: Amount = 0.0
    bucket_bytes: Amount = 0.0
    narrows_in_use: bool = False
    lasting_gradients: bool = False
    bucketed_gradients: bool = False
    whole_gradient_share: float = 1.0
    keeps_ends: bool = True
    prefetched_layers: int = 1
    freed_logits_bytes: Amount = 0.0
    streams: bool = False
    expert_replication: Amount = 1.0
    state_on_device: float = 1.0
    gradients_on_device: float = 1.0
    weights_on_device: float = 1.0
    activations_on_device: float = 1.0

    @property
    def resident_bytes(self) -> tuple[Amount, Amount, Amount]:
        """Weights, gradients and optimizer state of the whole model, on a device that shares layers."""
        pairs = (
            (1, self.before),
            (self.leading_layers, self.leading),
            (self.layers - self.leading_layers, self.body),
            (1, self.after),
        )
        held = [(times, part) for times, block in pairs for part in (block.dense, block.experts)]
        return (
            sum(times * part.weights_bytes for times, part in held),
            sum(times * part.gradient_bytes for times, part in held),
            sum(times * part.state_bytes for times, part in held),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a block's operations are kept and worked on.

    Attributes:
        module_of: what an operation of a layer keeps between forward and backward, and the module that brings back the
            rest when it runs again.
        again: what a layer keeps instead when it is run again as a whole; None = it is not.
        gradient_bytes: element of an accumulated gradient.
        whole_bytes: element of a gradient before it is reduced over the ranks that share its weight.
        fresh_bytes: element of a gradient as a product writes it; 0 = it is added where it belongs.
        stream_bytes: gradient of the residual stream beside a layer's operation.
    """

    module_of: Callable[[Op], tuple[str, float]]
    again: Callable[[Sequence[Op]], float | None]
    gradient_bytes: float
    whole_bytes: float
    fresh_bytes: float
    stream_bytes: float


def layer_block(ops: Sequence[Op], rules: Rules, *, dense: Held, experts: Held) -> Block:
    """One layer; the amounts of its operations are those of one layer on average."""
    instead = rules.again(ops)
    if instead is None:
        kept = _by_kind(ops, lambda op: rules.module_of(op)[1])
        held = _held_in_backward(ops, rules.module_of)
    else:
        kept = {KEPT_BY_RECOMPUTE: instead}
        held = _running(ops, _saved)  # what was kept is among it
    copies = sum(op.weight_copy_bytes for op in ops) if instead is None else 0.0
    return _block(ops, rules, kept, held, copies, stream_bytes=rules.stream_bytes, dense=dense, experts=experts)


def _held_in_backward(ops: Sequence[Op], module_of: Callable[[Op], tuple[str, float]]) -> list[float]:
    """What is there at each operation's backward: kept by it and those before it, and what its module brought back."""
    kept, back, held = 0.0, dict[str, float](), []
    for op in ops:
        module, kept_bytes = module_of(op)
        kept += kept_bytes
        back[module] = back.get(module, 0.0) + op.saved_bytes - kept_bytes
        held.append(kept + back[module])
    return held


def end_block(ops: Sequence[Op], rules: Rules, *, dense: Held, experts: Held = Held()) -> Block:
    """What comes before or after all layers."""
    copies = sum(op.weight_copy_bytes for op in ops)
    kept, held = _by_kind(ops, _saved), _running(ops, _saved)
    return _block(ops, rules, kept, held, copies, stream_bytes=0.0, dense=dense, experts=experts)


def mixed(one: Block, other: Block, share: float) -> Block:
    """An average layer where a ``share`` of the layers is like ``one`` and the rest like ``other``."""
    names = dict.fromkeys((*one.kept, *other.kept))
    kept = {name: share * one.kept.get(name, 0.0) + (1 - share) * other.kept.get(name, 0.0) for name in names}
    copies = share * one.copies_bytes + (1 - share) * other.copies_bytes
    total = sum(kept.values())
    peaks = [(block.kept_bytes + block.copies_bytes + block.working_bytes, block.moment) for block in (one, other)]
    peak, moment = max(peaks)
    growing, growing_moment = max(
        (block.kept_bytes + block.copies_bytes + block.growing_bytes, block.growing_moment) for block in (one, other)
    )
    return replace(
        one,
        kept=kept,
        kept_bytes=total,
        copies_bytes=copies,
        working_bytes=peak - total - copies,
        growing_bytes=growing - total - copies,
        moment=moment,
        growing_moment=growing_moment,
    )


def _block(
    ops: Sequence[Op],
    rules: Rules,
    kept: Mapping[str, float],
    held: Sequence[float],
    copies: float,
    *,
    stream_bytes: float,
    dense: Held,
    experts: Held,
) -> Block:
    """Its peaks: at each operation's backward, what is still kept, gradients in work, and perhaps gradients done."""
    kept_bytes = sum(kept.values())
    copied = _running(ops, lambda op: op.weight_copy_bytes)
    working = [
        size
        + copy
        + op.input_bytes
        + op.output_bytes
        + stream_bytes
        + op.parameters * rules.fresh_bytes
        + op.weight_copy_bytes
        for size, copy, op in zip(held, copied, ops, strict=True)
    ]
    grown = sum(op.parameters for op in ops) * rules.gradient_bytes
    whole = _running(ops, lambda op: op.parameters * rules.whole_bytes)
    growing = [size + sum(whole[-1:]) - done for size, done in zip(working, whole, strict=True)]
    at, growing_at = (max(range(len(ops)), key=sizes.__getitem__, default=None) for sizes in (working, growing))
    return Block(
        dense=dense,
        experts=experts,
        kept=kept,
        kept_bytes=kept_bytes,
        copies_bytes=copies,
        working_bytes=0.0 if at is None else working[at] - kept_bytes - copies,
        growing_bytes=0.0 if growing_at is None else growing[growing_at] - kept_bytes - copies,
        grown_bytes=grown,
        moment="" if at is None else ops[at].label,
        growing_moment="" if growing_at is None else ops[growing_at].label,
    )


def _running(ops: Sequence[Op], amount: Callable[[Op], float]) -> list[float]:
    return list(accumulate(amount(op) for op in ops))


def _saved(op: Op) -> float:
    return op.saved_bytes


def _by_kind(ops: Sequence[Op], amount: Callable[[Op], float]) -> dict[str, float]:
    parts: dict[str, float] = defaultdict(float)
    for op in ops:
        parts[f"activations: {op.layer_kind}"] += amount(op)
    return dict(parts)
