"""How does an operation of a model get its cost? The model and the shape of a micro-batch, applied to the op table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.ops.table import OPS, Execution, Op
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.model.spec import ModelSpec


def weights_of(spec: ModelSpec) -> dict[str, int]:
    """Elements of one instance of each operation's weights, by label."""
    weights: dict[str, int] = defaultdict(int)
    for tensor in parameter_tensors(spec):
        weights[tensor.label] += tensor.elements
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One micro-batch of ``batch`` sequences of ``seq_len`` tokens through ``spec``, a model or a part of one.

    Attributes:
        spec: the model, or a part of it as a model of its own.
        batch: sequences.
        seq_len: tokens of a sequence.
        how: the execution.
        weights: elements of the weights of each op of the whole model.
        prefix: what the labels of a part begin with.
        memory_len: tokens of the encoder's result that layers attend to; 0 = there is none.
    """

    spec: ModelSpec
    batch: int
    seq_len: int
    how: Execution
    weights: Mapping[str, int] = field(default_factory=dict)
    prefix: str = ""
    memory_len: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch."""
        return self.batch * self.seq_len

    def op(self, label: str, kind: str, *, repeats: int = 1, **shapes: Any) -> Op:
        """The operation ``label``, its cost from the table's row ``kind`` at these shapes."""
        cost = OPS[kind](self.how, **shapes)
        whole_label = self.prefix + label
        return Op(
            label=whole_label,
            kind=kind,
            layer_kind=layer_kind(whole_label),
            repeats=repeats,
            forward=cost.forward,
            backward=cost.backward,
            update=cost.update,
            saved_bytes=cost.saved_bytes,
            weight_saved_bytes=cost.weight_saved_bytes,
            weight_copy_bytes=cost.weight_copy_bytes,
            input_bytes=cost.input_bytes,
            output_bytes=cost.output_bytes,
            parameters=self.weights.get(whole_label, 0),
        )

    def layer_op(self, label: str, kind: str, **shapes: Any) -> Op:
        """An operation that every layer runs."""
        return self.op(label, kind, repeats=self.spec.layers, **shapes)

    def linear(
        self,
        label: str,
        in_features: int,
        out_features: int,
        *,
        bias: bool,
        tokens: int | None = None,
        repeats: int | None = None,
        **flags: Any,
    ) -> Op:
        """A linear layer over all tokens (or so many): in every layer (or in so many), or once outside layers."""
        return self.op(
            label,
            "linear",
            repeats=self.repeats_of(label) if repeats is None else repeats,
            tokens=self.tokens if tokens is None else tokens,
            in_features=in_features,
            out_features=out_features,
            bias=bias,
            **flags,
        )

    def norm(self, label: str, *, repeats: int | None = None, features: int | None = None, rows: int = 1) -> Op:
        """A norm of the model's kind over every token's vector, or over ``rows`` parts of ``features`` a token."""
        shapes = {"tokens": self.tokens * rows, "features": features or self.spec.d_model}
        return self.op(label, self.spec.norm, repeats=self.repeats_of(label) if repeats is None else repeats, **shapes)

    def dropout(self, label: str, features: int, *, element_bytes: int | None = None) -> Iterator[Op]:
        """Dropout of a block's result (or of elements of another width), if the model has any."""
        if self.spec.dropout:
            width = self.how.precision.compute_bytes if element_bytes is None else element_bytes
            shapes = {"tokens": self.tokens, "features": features, "element_bytes": width}
            yield self.op(label, "dropout", repeats=self.repeats_of(label), **shapes)

    def residuals(self) -> Op:
        """All residual additions of a layer: of attention, of the feed-forward network, of cross-attention."""
        sums = 3 if self.memory_len else 2
        return self.layer_op("layers.*.residual", "residual", tokens=sums * self.tokens, features=self.spec.d_model)

    def repeats_of(self, label: str) -> int:
        """How often an operation runs: in every layer, or once."""
        return self.spec.layers if label.startswith("layers.") else 1
