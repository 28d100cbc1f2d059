"""What is a model that hwprof has no reader for? Captured as transformers' own class, and counted like any other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.count.blocks.parameters import parameters
from hwprof.count.inference.serving import Serving
from hwprof.errors import InputError, SpecError
from hwprof.session.capturing.generation import CapturedGeneration, decoding_of, generation_of
from hwprof.session.capturing.lengths import Lengths
from hwprof.session.capturing.passes import Pass
from hwprof.session.capturing.shapes import LINE, Shapes
from hwprof.specs.catalogue.lookup import config_file, load_model
from hwprof.specs.huggingface import KNOWN_TYPES, WITH_IMAGES, UnreadKeysError, model_from_config, model_type_of
from hwprof.specs.job.settings import Dtype
from hwprof.specs.job.switches import JobDtype
from hwprof.specs.model.captured import CapturedModel, CapturedShot
from hwprof.specs.model.spec import ModelSpec

if TYPE_CHECKING:
    from hwprof.deploy.model import ServedModel
    from hwprof.measure.capture.facts import Facts

__all__ = ["LINE", "Shapes", "counted_generation", "counted_model", "counted_server", "of_products"]


def of_products(dtype: JobDtype) -> Dtype:
    """What a capture runs in: fp32 or bf16; formats below are those of products alone, which change no shape."""
    return "fp32" if dtype in {"fp32", "tf32"} else "bf16"


def counted_model(name: str, shapes: Shapes) -> ModelSpec:
    """The model of a name or a file; a ``config.json`` that no reader of hwprof takes is captured.

    Raises:
        SpecError: it is no such file, or neither hwprof nor transformers can make a model of it.
        InputError: it can't be captured at these shapes.
    """
    found = _read(name, shapes)
    return found if isinstance(found, ModelSpec) else _captured(found, shapes)


def counted_generation(name: str, shapes: Shapes, *, steps: int, serving: Serving) -> ModelSpec | CapturedGeneration:
    """The model of a name or a file, to be counted as it generates; a captured one has been.

    Args:
        name: as ``counted_model``.
        shapes: the batch of prompts.
        steps: passes after them.
        serving: widths of weights and cache.

    Raises:
        SpecError, InputError: as ``counted_model``; or it generates nothing.
    """
    found = _read(name, shapes)
    if isinstance(found, ModelSpec):
        return found
    if shapes.seq_len is None:
        raise InputError("--prompt-len is missing", expectation=f"{name} reads tokens", remedy="say how many")
    facts = _facts(found)
    size, path = shapes.batch_sizes[0], found.path
    seen = decoding_of(path, size, shapes, steps=max(steps, 1))
    first = Pass.seen_of(seen.name, seen.prompt, facts=facts, batch_size=size, shapes=shapes)
    spec = _spec(found, facts, first, [first.shot()])
    work = {"batch_size": size, "prompt_tokens": shapes.seq_len, "steps": steps}
    return generation_of(spec, seen, **work, serving=serving)


def counted_server(name: str) -> ServedModel:
    """The model of a name or a file as serving sees it; one that no reader of hwprof takes is captured.

    Where its file says that a latent vector is cached, as servers do and transformers' classes do not, the file counts,
    if it says as many weights as the class has.

    Raises:
        InputError, SpecError: as ``counted_model``; or it generates nothing.
    """
    from hwprof.deploy.model import MOST_UNSEEN
    from hwprof.deploy.published import model_of
    from hwprof.session.capturing.serving import served_capture

    path = config_file(name)
    if path is None or model_type_of(path) in KNOWN_TYPES or not find_spec("transformers"):
        return model_of(name, Path())
    read = None
    with suppress(InputError):
        read = model_of(name, Path())
    found = _Unread(path=path, refusal=SpecError(f"{path}: model_type {model_type_of(path)!r} is unknown"))
    shapes = Shapes(batch_sizes=(1,), seq_len=_SOME_TOKENS, target_len=1)
    facts = None
    try:
        facts = _facts(found)
        _check_causal(path, facts)
        seen = decoding_of(path, 1, shapes, steps=1)
    except InputError:
        if read is None or (facts and not facts.causal):
            raise
        return read
    first = Pass.seen_of(seen.name, seen.prompt, facts=facts, batch_size=1, shapes=shapes)
    model = served_capture(_spec(found, facts, first, [first.shot()]), seen.caches[0])
    latent = read is not None and any(one.kind == "latent" for one in read.mixing)
    if read is not None and latent and abs(read.parameters / model.parameters - 1) <= MOST_UNSEEN:
        return read
    return model


_STACKED = 3
"""Sizes of the experts of a layer in one weight."""

_SOME_TOKENS = 32
"""Of the prompt that shows what a class caches for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unread:
    """A file that no reader takes, and why."""

    path: Path
    refusal: SpecError


def _read(name: str, shapes: Shapes) -> ModelSpec | _Unread:
    path = config_file(name)
    if path is not None and (shapes.of_capture_alone or _holds_images(path)) and find_spec("transformers"):
        return _Unread(path=path, refusal=SpecError(f"{path}: it reads more than tokens"))
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
        return _without(path, refusal) or _Unread(path=path, refusal=refusal)
    except SpecError as refusal:
        if path is None:
            raise
        return _Unread(path=path, refusal=refusal)


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


def _facts(found: _Unread) -> Facts:
    """What its configuration says.

    Raises:
        SpecError: it has no type, or is of one that hwprof knows and transformers is not there.
        InputError: transformers does not take it.
    """
    from hwprof.measure.capture.diffusion import class_of_diffusers, diffusion_facts
    from hwprof.measure.capture.facts import facts_of

    path, refusal = found.path, found.refusal
    kind = model_type_of(path)
    if not kind:
        if class_of_diffusers(path):
            return diffusion_facts(path)
        raise refusal
    if kind in KNOWN_TYPES and not find_spec("transformers"):
        remedy = f"{refusal.remedy}, or have it captured: pip install 'hwprof[transformers]'"
        raise SpecError(refusal.fact, expectation=refusal.expectation, remedy=remedy)
    try:
        return facts_of(path)
    except InputError as error:
        raise (refusal if kind in KNOWN_TYPES else error) from error


def _captured(found: _Unread, shapes: Shapes) -> ModelSpec:
    facts = _facts(found)
    shapes = replace(shapes, seq_len=shapes.seq_len or min(facts.widths["max_seq_len"], shapes.longest))

    def seen(batch_size: int, seq_len: int) -> Pass:
        try:
            return Pass.of(found.path, facts, batch_size, replace(shapes, seq_len=seq_len))
        except InputError as error:
            raise _too_long(facts, found.path, seq_len) or error from error

    lengths = Lengths(seen, found.path.read_bytes())
    shots = [lengths.shot(size, length) for length in shapes.lengths for size in shapes.batch_sizes]
    return _spec(found, facts, lengths.first(shapes.batch_sizes[0], shapes.lengths[0]), shots)


def _check_causal(path: Path, facts: Facts) -> None:
    if not facts.causal:
        raise InputError(
            f"{path}: {facts.by} generates no tokens",
            expectation="a server predicts tokens with a decoder",
            remedy="`hwprof count` counts a pass of other models",
        )


def _too_long(facts: Facts, path: Path, tokens: int) -> InputError | None:
    """What to say where a class that refuses so many tokens was made for fewer; None where it was not."""
    longest = facts.widths["max_seq_len"]
    if tokens <= longest:
        return None
    return InputError(
        f"{path}: {facts.by} can't take {tokens} tokens; its positions end at {longest}",
        remedy=f"take --seq-len {longest} or fewer",
    )


def _spec(found: _Unread, facts: Facts, first: Pass, shots: Sequence[CapturedShot]) -> ModelSpec:
    """The model of some passes."""
    path, refusal = found.path, found.refusal
    tensors = tuple(first.tensors())
    why = refusal.fact.removeprefix(f"{path}: ").partition(" (did you mean")[0]
    if not model_type_of(path):
        why = "a configuration of diffusers"
    notes = [
        f"{why}: counted by capture of {facts.by}",
        *facts.remarks,
        *first.notes,
    ]
    if any(each.experts > 1 for each in tensors):
        notes.append("which expert a token meets is made up, evenly")
    if first.shapes.adapted and any(len(each.shape) == _STACKED and each.experts > 1 for each in tensors):
        notes.append("adapters leave its stacked experts alone, and QLoRA leaves them whole, as bitsandbytes does")
    return ModelSpec.model_validate(
        facts.widths
        | {"name": first.name, "family": facts.family, "kind": "decoder" if facts.causal else "encoder"}
        | {"layers": max(first.labels.layers, 1), "activation": "silu", "gated": False, "positions": "none"}
        | {"norm": "rmsnorm", "norm_placement": "pre", "final_norm": True, "tied_embeddings": False}
        | {"attention_bias": "none", "mlp_bias": False, "head": first.head()}
        | {"notes": "; ".join(notes), "source": {"config": str(path), "captured": facts.by}}
        | {"captured": CapturedModel(by=facts.by, tensors=tensors, shots=tuple(shots))}
    )
