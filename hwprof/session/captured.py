"""What is a model that hwprof has no reader for? Captured as transformers' own class, and counted like any other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.count.blocks.parameters import parameters
from hwprof.count.inference.serving import Serving
from hwprof.errors import InputError, SpecError
from hwprof.session.capturing.generation import CapturedGeneration, Decoded, decoding_of, generation_of
from hwprof.session.capturing.kept import kept
from hwprof.session.capturing.lengths import Lengths
from hwprof.session.capturing.passes import Found, Pass
from hwprof.session.capturing.shapes import LINE, Shapes
from hwprof.specs.catalogue.lookup import config_file, load_model
from hwprof.specs.huggingface import KNOWN_TYPES, WITH_IMAGES, UnreadKeysError, model_from_config, model_type_of
from hwprof.specs.job.settings import Dtype
from hwprof.specs.job.switches import JobDtype
from hwprof.specs.model.captured import CapturedModel, CapturedShot
from hwprof.specs.model.sharing import shared
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.reading import model_name
from hwprof.specs.record.captured import Facts

if TYPE_CHECKING:
    from hwprof.deploy.model import ServedModel

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
    if isinstance(found, ModelSpec):
        return found
    try:
        return _captured(found, shapes)
    except InputError as error:
        return _text_alone(found, shapes, error)


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
    size, path = shapes.batch_sizes[0], found.path
    try:
        facts = _facts(found)
        seen = _decoded(path, facts, size, shapes, steps=max(steps, 1))
    except InputError as error:
        return _text_alone(found, shapes, error)
    spec = _spec(found, facts, shapes, seen.model, [seen.model.shot])
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
        seen = _decoded(path, facts, 1, shapes, steps=1)
    except InputError:
        if read is None or (facts and not facts.causal):
            raise
        return read
    model = served_capture(_spec(found, facts, shapes, seen.model, [seen.model.shot]), seen.caches[0])
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


def _text_alone(found: _Unread, shapes: Shapes, error: InputError) -> ModelSpec:
    """The text model by its reader, where the class of the whole fails.

    Raises:
        InputError: ``error``, where images were asked for or no reader knows the text model.
    """
    if shapes.of_capture_alone or not _holds_images(found.path):
        raise error
    try:
        spec = model_from_config(found.path)
    except InputError:
        raise error from None
    return spec.changed(notes=f"{spec.notes} The class of the whole fails here ({error.fact}).".strip())


def _without(path: Path, refusal: UnreadKeysError) -> ModelSpec | None:
    """The model without keys that transformers ignores, too; None where it may not."""
    if not find_spec("transformers"):
        return None

    def made() -> tuple[bool, int]:
        from hwprof.measure.capture.facts import weights_of_config

        return weights_of_config(path, refusal.keys)

    try:
        spec = model_from_config(path, ignored=refusal.keys)
        ignored, elements = kept(tuple[bool, int], path, refusal.keys, made)
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
    return kept(Facts, found.path, (), partial(_facts_now, found))


def _facts_now(found: _Unread) -> Facts:
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

    def seen(batch_size: int, seq_len: int) -> Found:
        one = replace(shapes, batch_sizes=(batch_size,), seq_len=seq_len, more_lengths=(), longest=seq_len)
        try:
            return kept(Found, found.path, one, lambda: Pass.of(found.path, facts, batch_size, one).found())
        except InputError as error:
            raise _too_long(facts, found.path, seq_len) or error from error

    lengths = Lengths(seen, found.path.read_bytes())
    shots = [lengths.shot(size, length) for length in shapes.lengths for size in shapes.batch_sizes]
    return _spec(found, facts, shapes, lengths.first(shapes.batch_sizes[0], shapes.lengths[0]), shots)


def _decoded(path: Path, facts: Facts, size: int, shapes: Shapes, *, steps: int) -> Decoded:
    asked = size, shapes, steps
    return kept(Decoded, path, asked, lambda: decoding_of(path, facts, size, shapes, steps=steps))


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


def _spec(found: _Unread, facts: Facts, shapes: Shapes, first: Found, shots: Sequence[CapturedShot]) -> ModelSpec:
    """The model of some passes."""
    path, refusal = found.path, found.refusal
    tensors = first.tensors
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
    if shapes.adapted and any(len(each.shape) == _STACKED and each.experts > 1 for each in tensors):
        notes.append("adapters leave its stacked experts alone, and QLoRA leaves them whole, as bitsandbytes does")
    seen = CapturedModel(by=facts.by, tensors=tensors, shots=tuple(shots), pieces=facts.pieces)
    return ModelSpec.model_validate(
        facts.widths
        | {"name": model_name(path), "family": facts.family, "kind": "decoder" if facts.causal else "encoder"}
        | {"layers": max(first.layers, 1), "activation": "silu", "gated": False, "positions": "none"}
        | {"norm": "rmsnorm", "norm_placement": "pre", "final_norm": True, "tied_embeddings": False}
        | {"attention_bias": "none", "mlp_bias": False, "head": first.head}
        | {"notes": "; ".join(notes), "source": {"config": str(path), "captured": facts.by}}
        | {"captured": shared(seen, d_model=facts.widths["d_model"], vocab_size=facts.widths["vocab_size"])}
    )
