"""What is a model that hwprof has no reader for? Captured as transformers' own class, and counted like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.count.aten.captured import captured_pairs, operators_unpriced
from hwprof.count.blocks.parameters import parameters
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.errors import InputError, SpecError
from hwprof.session.captured_labels import Labels, labels_of
from hwprof.specs.catalogue.lookup import config_file, load_model
from hwprof.specs.huggingface import KNOWN_TYPES, WITH_IMAGES, UnreadKeysError, model_from_config, model_type_of
from hwprof.specs.job.settings import Dtype
from hwprof.specs.job.switches import JobDtype
from hwprof.specs.model.captured import CapturedCost, CapturedModel, CapturedRow, CapturedShot, CapturedTensor
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.captured import Capture, ParameterUse

if TYPE_CHECKING:
    from hwprof.measure.capture.facts import Facts

_GROUPED = "aten::_grouped_mm"
_PRODUCTS = frozenset({"aten::mm", "aten::addmm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """At which shapes a model is wanted, should it have to be captured.

    Attributes:
        batch_sizes: one, or two between and beyond which costs lie on a straight line.
        seq_len: tokens of a sequence; None = what the model was made for, at most ``longest``.
        target_len: of an encoder-decoder's target.
        dtype: of the products.
        narrow: whether weights are as narrow as products; else products are narrow by autocast.
        longest: bound of a length that is not said.
        images: images to a sequence, height and width.
        seconds: of sound.
        inputs: arguments of forward as they are typed (``pixel_values=2x3x64x64:float32``).
    """

    batch_sizes: tuple[int, ...]
    seq_len: int | None
    target_len: int | None = None
    dtype: Dtype = "bf16"
    narrow: bool = False
    longest: int = 4096
    images: tuple[int, int, int] | None = None
    seconds: float | None = None
    inputs: tuple[str, ...] = ()

    @property
    def of_capture_alone(self) -> str:
        """An option that says something of captured models alone, if one was given."""
        given = {"--images": self.images, "--seconds": self.seconds, "--input": self.inputs}
        return next((option for option, value in given.items() if value), "")


def of_products(dtype: JobDtype) -> Dtype:
    """What a capture runs in: fp32 or bf16; formats below are those of products alone, which change no shape."""
    return "fp32" if dtype in {"fp32", "tf32"} else "bf16"


def counted_model(name: str, shapes: Shapes) -> ModelSpec:
    """The model of a name or a file; a ``config.json`` that no reader of hwprof takes is captured.

    Raises:
        SpecError: it is no such file, or neither hwprof nor transformers can make a model of it.
        InputError: it can't be captured at these shapes.
    """
    path = config_file(name)
    if path is not None and (shapes.of_capture_alone or _holds_images(path)) and find_spec("transformers"):
        return _captured(path, SpecError(f"{path}: it reads more than tokens"), shapes)
    if shapes.of_capture_alone:
        raise InputError(
            f"{shapes.of_capture_alone} does not go with {name}",
            expectation="a config.json that transformers has a class for (pip install 'hwprof[transformers]')",
            remedy="leave it out, or give such a file",
        )
    try:
        return load_model(name)
    except UnreadKeysError as refusal:
        assert path is not None
        return _without(path, refusal) or _captured(path, refusal, shapes)
    except SpecError as refusal:
        if path is None:
            raise
        return _captured(path, refusal, shapes)


def _holds_images(path: Path) -> bool:
    """Whether it is of a type of which the readers know the text model alone."""
    return model_type_of(path) in WITH_IMAGES


def _without(path: Path, refusal: UnreadKeysError) -> ModelSpec | None:
    """The model without keys that transformers ignores, too; None where it may not."""
    from hwprof.measure.capture.facts import weights_of_config

    if not find_spec("transformers"):
        return None
    try:
        spec = model_from_config(path, ignored=refusal.keys)
        ignored, elements = weights_of_config(path, refusal.keys)
    except InputError:
        return None
    if not ignored or elements != parameters(spec).total:
        return None
    names = ", ".join(map(repr, refusal.keys))
    note = f"Transformers has no key {names} for this type: it changes no count."
    return spec.changed(notes=f"{spec.notes} {note}".strip())


def _captured(path: Path, refusal: SpecError, shapes: Shapes) -> ModelSpec:
    from hwprof.measure.capture.facts import facts_of

    kind = model_type_of(path)
    if not kind:
        raise refusal
    if kind in KNOWN_TYPES and not find_spec("transformers"):
        remedy = f"{refusal.remedy}, or have it captured: pip install 'hwprof[transformers]'"
        raise SpecError(refusal.fact, expectation=refusal.expectation, remedy=remedy)
    try:
        facts = facts_of(path)
    except InputError as error:
        raise (refusal if kind in KNOWN_TYPES else error) from error
    shapes = replace(shapes, seq_len=shapes.seq_len or min(facts.widths["max_seq_len"], shapes.longest))
    passes = [_Pass.of(path, facts, batch_size, shapes) for batch_size in shapes.batch_sizes]
    first = passes[0]
    tensors = tuple(first.tensors())
    notes = [f"{refusal.fact.removeprefix(f'{path}: ')}: counted by capture of {facts.by}", *first.notes]
    if any(each.experts > 1 for each in tensors):
        notes.append("which expert a token meets is made up, evenly")
    head = "linear" if facts.widths["vocab_size"] and first.labels.head else "none"
    return ModelSpec.model_validate(
        facts.widths
        | {"name": first.name, "family": facts.family, "kind": "decoder" if facts.causal else "encoder"}
        | {"layers": max(first.labels.layers, 1), "activation": "silu", "gated": False, "positions": "none"}
        | {"norm": "rmsnorm", "norm_placement": "pre", "final_norm": True, "tied_embeddings": False}
        | {"attention_bias": "none", "mlp_bias": False, "head": {"kind": head}}
        | {"notes": "; ".join(notes), "source": {"config": str(path), "captured": facts.by}}
        | {
            "captured": CapturedModel(
                by=facts.by, tensors=tensors, shots=tuple(map(_Pass.shot, passes)), tensor_plan=facts.tensor_plan
            )
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One captured pass of a model: of whom, at which shape, what was seen and what its parts are called."""

    name: str
    facts: Facts
    batch_size: int
    shapes: Shapes
    seen: Capture
    labels: Labels
    notes: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, facts: Facts, batch_size: int, shapes: Shapes) -> _Pass:
        """Capture it: in the format that was asked for, or as it is where its module does not run so."""
        from hwprof.measure.capture.configured import FORMATS, subject_of_config
        from hwprof.measure.capture.inputs import Asked
        from hwprof.measure.capture.module import capture
        from hwprof.measure.capture.subject import parse_input

        asked = Asked(
            batch_size=batch_size,
            seq_len=shapes.seq_len,
            target_len=shapes.target_len,
            images=shapes.images,
            seconds=shapes.seconds,
            inputs=tuple(map(parse_input, shapes.inputs)),
        )
        notes: tuple[str, ...] = ()
        try:
            subject = subject_of_config(path, asked, shapes.dtype if shapes.narrow else "fp32")
            wide = shapes.narrow or shapes.dtype == "fp32"
            seen = capture(subject, autocast=None if wide else FORMATS[shapes.dtype])
        except InputError:
            if shapes.dtype == "fp32":
                raise
            subject = subject_of_config(path, asked)
            seen = capture(subject)
            notes = (f"it does not run in {shapes.dtype}: its bytes are those of fp32",)
        notes += tuple(f"the FLOP of {name} are not known, only its bytes" for name in operators_unpriced(seen))
        labels = labels_of(seen, both_sides=facts.encoder_decoder)
        return cls(
            name=subject.name,
            facts=facts,
            batch_size=batch_size,
            shapes=shapes,
            seen=seen,
            labels=labels,
            notes=notes,
        )

    @property
    def tokens(self) -> int:
        """Tokens of the batch, of the target in an encoder-decoder."""
        target = self.shapes.target_len if self.facts.encoder_decoder else None
        return self.batch_size * (target or self.shapes.seq_len or 1)

    def shot(self) -> CapturedShot:
        """The pass as a record."""
        target = (self.shapes.target_len or self.shapes.seq_len) if self.facts.encoder_decoder else None
        return CapturedShot(
            batch_size=self.batch_size, seq_len=self.shapes.seq_len or 1, target_len=target, rows=tuple(self._rows())
        )

    def _rows(self) -> Iterator[CapturedRow]:
        """Rows merged anew, under hwprof's labels."""
        matrices = _matrices(self.seen.parameters, self.labels)
        for op, half in captured_pairs(self.seen, self.labels.of):
            yield CapturedRow(
                label=op.label,
                kind="linear" if op.kind in _PRODUCTS and _is_linear(op, matrices) else op.kind,
                layer_kind=op.layer_kind,
                repeats=op.repeats,
                forward=_cost(op.forward, half.forward),
                backward=_cost(op.backward, half.backward),
                recompute=_cost(op.recompute, half.recompute),
                saved_bytes=op.saved_bytes,
                weight_copy_bytes=op.weight_copy_bytes,
                output_bytes=self._logits_bytes(op),
                parameters=op.parameters,
            )

    def _logits_bytes(self, op: Op) -> int:
        if op.label != "head" or not op.forward.matmul_flop:
            return 0
        width = 4 if self.shapes.dtype == "fp32" else 2
        return self.tokens * self.facts.widths["vocab_size"] * width

    def tensors(self) -> Iterator[CapturedTensor]:
        """The weights, those of one shape under one label together."""
        rows = {
            (self.labels.of(placed.place.path), placed.call.tensor("mat2").shape): placed.call.tensor("self").shape[0]
            for placed in self.seen.calls
            if placed.place.kind == placed.call.name == _GROUPED and placed.direction == "forward"
        }
        uses = Counter((self.labels.of(use.place.path), use.shape) for use in self.seen.parameters)
        source = self.batch_size * (self.shapes.seq_len or 1)
        for (label, shape), repeats in uses.items():
            experts, top_k = 1, 1
            if len(shape) == 3 and any(label == each for each, _ in rows):
                met = max(number for (each, _), number in rows.items() if each == label)
                experts, top_k = shape[0], max(1, min(shape[0], round(met / source)))
            elif "experts" in label:
                experts, top_k = self.facts.experts
            yield CapturedTensor(label=label, shape=shape, repeats=repeats, experts=experts, top_k=top_k)


def _matrices(uses: Iterable[ParameterUse], labels: Labels) -> dict[str, tuple[int, ...]]:
    """Label -> shape, where all weights with two sizes under it have one shape."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for use in uses:
        if len(use.shape) == 2:
            shapes.setdefault(labels.of(use.place.path), set()).add(use.shape)
    return {label: found.copy().pop() for label, found in shapes.items() if len(found) == 1}


def _is_linear(op: Op, matrices: dict[str, tuple[int, ...]]) -> bool:
    """Whether it is the product of some tokens with the one matrix of its module."""
    shape = matrices.get(op.label)
    if shape is None or 0 in shape or not op.forward.matmul_flop:
        return False
    return op.forward.matmul_flop % (2 * shape[0] * shape[1]) == 0


def _cost(full: Cost, causal: Cost) -> CapturedCost:
    return CapturedCost(
        matmul_flop=int(full.matmul_flop),
        causal_matmul_flop=int(causal.matmul_flop),
        vector_flop=int(full.vector_flop),
        read_bytes=int(full.read_bytes),
        write_bytes=int(full.write_bytes),
    )
