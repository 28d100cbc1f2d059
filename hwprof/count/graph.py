"""How does an operation of a model get its cost? The model and the shape of a micro-batch, applied to the op table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hwprof.count.ops import OPS, Execution, Op
from hwprof.count.parameters import parameter_tensors
from hwprof.specs.labels import layer_kind
from hwprof.specs.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One micro-batch of ``batch`` sequences of ``seq_len`` tokens through ``spec``."""

    spec: ModelSpec
    batch: int
    seq_len: int
    how: Execution

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch."""
        return self.batch * self.seq_len

    def op(self, label: str, kind: str, *, repeats: int = 1, **shapes: Any) -> Op:
        """The operation ``label``, its cost from the table's row ``kind`` at these shapes."""
        cost = OPS[kind](self.how, **shapes)
        own = sum(tensor.elements for tensor in parameter_tensors(self.spec) if tensor.label == label)
        return Op(
            label=label,
            kind=kind,
            layer_kind=layer_kind(label),
            repeats=repeats,
            forward=cost.forward,
            backward=cost.backward,
            update=cost.update,
            saved_bytes=cost.saved_bytes,
            weight_copy_bytes=cost.weight_copy_bytes,
            input_bytes=cost.input_bytes,
            output_bytes=cost.output_bytes,
            parameters=own,
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
        input_bytes: int | None = None,
        input_kept: bool = False,
        input_shared: bool = False,
    ) -> Op:
        """A linear layer over all tokens: in every layer, or once for the head."""
        return self.op(
            label,
            "linear",
            repeats=self._repeats(label),
            tokens=self.tokens,
            in_features=in_features,
            out_features=out_features,
            bias=bias,
            input_bytes=input_bytes,
            input_kept=input_kept,
            input_shared=input_shared,
        )

    def embedding(self) -> Iterator[Op]:
        """Token vectors, learned position vectors if any, dropout if any."""
        spec, d = self.spec, self.spec.d_model
        yield self.op(
            "embedding.tokens",
            "embedding",
            tokens=self.tokens,
            features=d,
            rows=spec.vocab_size,
            tied=spec.tied_embeddings,
        )
        if spec.positions == "learned":
            yield self.op(
                "embedding.positions",
                "embedding",
                tokens=self.seq_len,
                features=d,
                rows=spec.max_seq_len,
                added_to=self.tokens * d,
            )
        yield from self.dropout("embedding.dropout", d, element_bytes=self.how.precision.residual_bytes)

    def dropout(self, label: str, features: int, *, element_bytes: int | None = None) -> Iterator[Op]:
        """Dropout of a block's result (or of elements of another width), if the model has any."""
        if self.spec.dropout:
            width = self.how.precision.compute_bytes if element_bytes is None else element_bytes
            shapes = {"tokens": self.tokens, "features": features, "element_bytes": width}
            yield self.op(label, "dropout", repeats=self._repeats(label), **shapes)

    def residuals(self) -> Op:
        """Both residual additions of a layer."""
        return self.layer_op("layers.*.residual", "residual", tokens=2 * self.tokens, features=self.spec.d_model)

    def attention_core(self, label: str, *, causal_half: bool = False, packed: bool = False) -> Op:
        """Scores, softmax, mixing of values: one kernel, but with dropout on a CPU, where torch has no such kernel."""
        spec = self.spec
        shapes = {"batch": self.batch, "seq_len": self.seq_len, "heads": spec.heads, "head_dim": spec.head_dim}
        if self.how.device == "cpu" and spec.dropout:
            return self.layer_op(
                label, "attention_core_materialised", **shapes, causal=causal_half, dropout=True, packed=packed
            )
        return self.layer_op(label, "attention_core", **shapes, kv_heads=spec.kv_heads, causal=causal_half)

    def _repeats(self, label: str) -> int:
        return self.spec.layers if label.startswith("layers.") else 1
