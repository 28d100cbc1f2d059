"""What was seen in one captured pass of a model? Its rows under hwprof's labels, and its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.count.aten.captured import captured_pairs, operators_unpriced
from hwprof.count.job.device_work import GROUPED
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.errors import InputError
from hwprof.session.capturing.labels import Labels, labels_of
from hwprof.session.capturing.shapes import Shapes
from hwprof.specs.model.captured import CapturedCost, CapturedRow, CapturedShot, CapturedTensor
from hwprof.specs.record.captured import Capture, Facts, ParameterUse

if TYPE_CHECKING:
    from hwprof.measure.capture.inputs import Asked

_PRODUCTS = frozenset({"aten::mm", "aten::addmm"})
_ATTENTION = "aten::_scaled_dot_product"
"""Kernels that keep no scores; others are products and a softmax of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one pass of a model showed.

    Attributes:
        layers: how many there are.
        head: what it predicts, as fields of a head.
        calls: of operators, in both directions.
        notes: what to say of it.
        tensors: its weights.
        shot: what ran.
    """

    layers: int
    head: dict[str, Any]
    calls: int
    notes: tuple[str, ...]
    tensors: tuple[CapturedTensor, ...]
    shot: CapturedShot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One captured pass of a model: at which shape, what was seen and what its parts are called.

    ``frozen`` is its forward pass with all weights frozen, where that was asked.
    """

    facts: Facts
    batch_size: int
    shapes: Shapes
    seen: Capture
    frozen: Capture | None
    labels: Labels
    notes: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, facts: Facts, batch_size: int, shapes: Shapes) -> Pass:
        """Capture it: in the format that was asked for, or as it is where its module does not run so."""
        notes: tuple[str, ...] = ()
        try:
            seen, frozen = _captured(path, batch_size, shapes)
        except InputError:
            if shapes.dtype == "fp32":
                raise
            seen, frozen = _captured(path, batch_size, replace(shapes, dtype="fp32"))
            notes = (f"it does not run in {shapes.dtype}: its bytes are those of fp32",)
        found = cls.seen_of(seen, facts=facts, batch_size=batch_size, shapes=shapes)
        return replace(found, frozen=frozen, notes=(*notes, *found.notes))

    @classmethod
    def seen_of(cls, seen: Capture, *, facts: Facts, batch_size: int, shapes: Shapes) -> Pass:
        """Of what was captured already."""
        return cls(
            facts=facts,
            batch_size=batch_size,
            shapes=shapes,
            seen=seen,
            frozen=None,
            labels=labels_of(seen, both_sides=facts.encoder_decoder),
            notes=tuple(f"the FLOP of {each} are not known, only its bytes" for each in operators_unpriced(seen)),
        )

    @property
    def tokens(self) -> int:
        """Tokens of the batch, of the target in an encoder-decoder."""
        target = self.shapes.target_len if self.facts.encoder_decoder else None
        return self.batch_size * (target or self.shapes.seq_len or 1)

    def found(self) -> Found:
        """All that is asked of it."""
        tensors, shot = tuple(self.tensors()), self.shot()
        return Found(
            layers=self.labels.layers,
            head=self.head(),
            calls=len(self.seen.calls),
            notes=(*self.notes, *_more_than_routed(tensors, shot)),
            tensors=tensors,
            shot=shot,
        )

    def shot(self) -> CapturedShot:
        """The pass as a record."""
        target = (self.shapes.target_len or self.shapes.seq_len) if self.facts.encoder_decoder else None
        return CapturedShot(
            batch_size=self.batch_size, seq_len=self.shapes.seq_len or 1, target_len=target, rows=tuple(self._rows())
        )

    def _rows(self) -> Iterator[CapturedRow]:
        """Rows merged anew, under hwprof's labels."""
        matrices = {"head": self._table} | _matrices(self.seen.parameters, self.labels)
        trained = replace(self.seen, parameters=tuple(use for use in self.seen.parameters if use.trainable))
        calls = Counter(
            (self.labels.of(placed.place.path), placed.place.kind)
            for placed in self.seen.calls
            if placed.direction == "forward"
        )
        pairs = captured_pairs(trained, self.labels.of, frozen=self.frozen)
        instances: Counter[tuple[str, str]] = Counter()
        for op, _ in pairs:
            instances[op.label, op.kind] += op.repeats
        for op, half in pairs:
            own = op.label, op.kind
            yield CapturedRow(
                label=op.label,
                kind=_kind(op, matrices),
                layer_kind=op.layer_kind,
                repeats=op.repeats,
                calls=max(1, round(calls[own] / instances[own])),
                forward=cost_of(op.forward, half.forward),
                backward=cost_of(op.backward, half.backward),
                recompute=cost_of(op.recompute, half.recompute),
                saved_bytes=op.saved_bytes,
                weight_saved_bytes=op.weight_saved_bytes,
                weight_copy_bytes=op.weight_copy_bytes,
                output_bytes=self._logits_bytes(op),
                parameters=op.parameters,
            )

    @property
    def _table(self) -> tuple[int, ...]:
        """The shape of a table of tokens, which a head without a matrix of its own multiplies."""
        return self.facts.widths["vocab_size"], self.facts.widths["d_model"]

    def _logits_bytes(self, op: Op) -> int:
        if op.label != "head" or not op.forward.matmul_flop:
            return 0
        width = 4 if self.shapes.dtype == "fp32" else 2
        return self.tokens * self.facts.widths["vocab_size"] * width

    def head(self) -> dict[str, Any]:
        """What it predicts: a token of the vocabulary at each place, one of some classes for a sequence, or nothing."""
        shapes = [
            placed.call.results[0].shape
            for placed in self.seen.calls
            if placed.place.path == self.labels.head and placed.direction == "forward" and placed.call.results
        ]
        if any(shape[-1] == self.facts.widths["vocab_size"] > 0 for shape in shapes if shape):
            return {"kind": "linear"}
        if shapes and self.facts.classifies:
            return {"kind": "classifier", "classes": shapes[0][-1]}
        return {"kind": "none"}

    def tensors(self) -> Iterator[CapturedTensor]:
        """The weights, those of one shape under one label together."""
        rows = {
            (self.labels.of(placed.place.path), placed.call.tensor("mat2").shape): placed.call.tensor("self").shape[0]
            for placed in self.seen.calls
            if placed.place.kind == placed.call.name == GROUPED and placed.direction == "forward"
        }
        uses = Counter(
            (self.labels.of(use.place.path), use.shape, use.linear, use.trainable, use.split)
            for use in self.seen.parameters
        )
        source = self.batch_size * (self.shapes.seq_len or 1)
        for (label, shape, linear, trained, split), repeats in uses.items():
            experts, top_k = 1, 1
            if len(shape) == 3 and any(label == each for each, _ in rows):
                met = max(number for (each, _), number in rows.items() if each == label)
                experts, top_k = shape[0], max(1, min(shape[0], round(met / source)))
            elif "experts" in label and "shared" not in label:
                experts, top_k = self.facts.experts
            yield CapturedTensor(
                label=label,
                shape=shape,
                repeats=repeats,
                experts=experts,
                top_k=top_k,
                linear=linear,
                trained=trained,
                split=split,
            )


def asked_of(batch_size: int, shapes: Shapes) -> Asked:
    """How much goes in at once."""
    from hwprof.measure.capture.inputs import Asked
    from hwprof.measure.capture.subject import parse_input

    return Asked(
        batch_size=batch_size,
        seq_len=shapes.seq_len,
        target_len=shapes.target_len,
        images=shapes.images,
        seconds=shapes.seconds,
        inputs=tuple(map(parse_input, shapes.inputs)),
    )


def _captured(path: Path, batch_size: int, shapes: Shapes) -> tuple[Capture, Capture | None]:
    """One pass, and the forward pass of the same frozen where that is asked."""
    from hwprof.measure.capture.configured import FORMATS, Frozen, subject_of_config
    from hwprof.measure.capture.diffusion import class_of_diffusers, diffusion_subject
    from hwprof.measure.capture.module import capture

    asked = asked_of(batch_size, shapes)
    weights = shapes.dtype if shapes.narrow else "fp32"
    autocast = None if shapes.narrow or shapes.dtype == "fp32" else FORMATS[shapes.dtype]
    made = diffusion_subject if class_of_diffusers(path) else subject_of_config
    subject = made(path, asked, weights, Frozen(names=shapes.freeze))
    seen = capture(subject, autocast=autocast)
    if not shapes.adapted:
        return seen, None
    still = made(path, asked, weights, Frozen(all=True))
    return seen, capture(still, autocast=autocast, backward=False)


def _matrices(uses: Iterable[ParameterUse], labels: Labels) -> dict[str, tuple[int, ...]]:
    """Label -> shape, where all weights with two sizes under it have one shape."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for use in uses:
        if len(use.shape) == 2:
            shapes.setdefault(labels.of(use.place.path), set()).add(use.shape)
    return {label: found.copy().pop() for label, found in shapes.items() if len(found) == 1}


def _kind(op: Op, matrices: dict[str, tuple[int, ...]]) -> str:
    """A word of the op table where the operator is like one of it; else its name."""
    if op.kind in _PRODUCTS and _is_linear(op, matrices):
        return "linear"
    return "attention_core" if op.kind.startswith(_ATTENTION) else op.kind


def _is_linear(op: Op, matrices: dict[str, tuple[int, ...]]) -> bool:
    """Whether it is the product of some tokens with the one matrix of its module."""
    shape = matrices.get(op.label)
    if shape is None or 0 in shape or not op.forward.matmul_flop:
        return False
    return op.forward.matmul_flop % (2 * shape[0] * shape[1]) == 0


def _more_than_routed(tensors: Iterable[CapturedTensor], shot: CapturedShot) -> Iterator[str]:
    """What to say of a class that multiplies more in its experts than their tokens need (NLLB of transformers 5)."""
    experts = [each for each in tensors if each.experts > 1 and (each.linear or len(each.shape) > len(("out", "in")))]
    labels = {each.label for each in experts}
    tokens = shot.batch_size * max(shot.seq_len, shot.target_len or 0)
    needed = sum(2 * tokens * prod(each.shape) * each.repeats * each.top_k / each.experts for each in experts)
    done = sum(row.forward.matmul_flop * row.repeats for row in shot.rows if row.label in labels)
    if needed and done > _TWICE * needed:
        yield f"its class multiplies {done / needed:.3g} times as much in its experts as the tokens routed to them need"


_TWICE = 2


def cost_of(full: Cost, causal: Cost) -> CapturedCost:
    """A cost as a record, with its products where attention is causal."""
    return CapturedCost(
        matmul_flop=int(full.matmul_flop),
        causal_matmul_flop=int(causal.matmul_flop),
        vector_flop=int(full.vector_flop),
        read_bytes=int(full.read_bytes),
        write_bytes=int(full.write_bytes),
    )
