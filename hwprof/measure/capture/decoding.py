"""What does a model of transformers do where it generates? A pass over prompts, one new token of each, its own cache.

The cache is the one that the class itself makes: keys and values, windows, states of convolutions and of recurrences.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwprof.errors import HwprofError, InputError
from hwprof.measure.capture.configured import subject_of_config
from hwprof.measure.capture.fake import ShapesOnly, all_fake
from hwprof.measure.capture.flexible import without_flex_kernels
from hwprof.measure.capture.inputs import Asked
from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.capture.module import parameter_uses
from hwprof.measure.capture.shapes import shapes_only
from hwprof.measure.capture.subject import Subject
from hwprof.specs.job.settings import Dtype
from hwprof.specs.record.captured import Cached, CachedKind, Capture

_NAMES = ("past_key_values", "cache", "cache_params", "state")
"""What classes call the cache, as an argument and in their results."""

_OF_TOKENS = ("keys", "values", "indexer_keys")
"""What a cache calls that which has a place for each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """What was seen.

    Attributes:
        name: of the model.
        prompt: the pass over the prompts, without gradients.
        steps: the first step after it, and the last one.
        caches: what the cache holds after the prompt, the first and the last step.
    """

    name: str
    prompt: Capture
    steps: tuple[Capture, Capture]
    caches: tuple[tuple[Cached, ...], tuple[Cached, ...], tuple[Cached, ...]]


def capture_decoding(path: Path, asked: Asked, steps: int, weights: Dtype) -> Decoding:
    """Run the prompts, one step, and after as many tokens more as there are steps between them the last one.

    Args:
        path: a ``config.json``.
        asked: what goes in first.
        steps: how many there are in all, at least 1.
        weights: their format.

    Raises:
        InputError: as ``subject_of_config``; or the class keeps no cache, or one that can't be made longer.
    """
    subject = subject_of_config(path, asked, weights)
    assert subject.fake is not None
    try:
        with ExitStack() as stack:
            stack.enter_context(shapes_only(subject.fake))
            stack.enter_context(subject.around())
            stack.enter_context(without_flex_kernels())
            stack.enter_context(torch.no_grad())
            return _decoded(subject, subject.fake, steps)
    except HwprofError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or "no message"
        raise InputError(
            f"{subject.name} raised {type(error).__name__} while it generated: {message:.300}",
            expectation="a class of transformers that generates token by token with a cache",
            remedy="count a forward pass over whole sequences instead: leave --inference out",
        ) from error


def _decoded(subject: Subject, mode: ShapesOnly, steps: int) -> Decoding:
    module, takes = subject.module, inspect.signature(subject.module.forward).parameters
    given = dict(subject.keywords) | {"use_cache": True}
    if "logits_to_keep" in takes:
        given["logits_to_keep"] = 1
    before = dict(_own_states(module))
    encoded: list[Any] = []
    if getattr(module.config, "is_encoder_decoder", False):
        encoder: Any = module.get_encoder()  # type: ignore[operator]
        encoder.register_forward_hook(lambda _module, _given, found: encoded.append(found))
    prompt, output = _recorded(module, given)
    cache = next((output.get(name) for name in _NAMES if output.get(name) is not None), None)
    if cache is None and "cache" in takes:  # it fills one that it does not give back
        cache = _empty_cache(module)
        prompt, output = _recorded(module, given | {"cache": cache})
    if cache is None or not any(_cached(cache)):
        raise InputError(
            f"{subject.name} keeps nothing from one token to the next",
            expectation="--inference of a captured model asks for a class that generates",
            remedy="leave --inference out, or name such a class under 'architectures'",
        )
    after_prompt = tuple(_all_cached(cache, module, before))
    named = next(name for name in _NAMES if name in takes)
    more: dict[str, Any] = {"use_cache": True, named: cache}
    if output.get("encoder_last_hidden_state") is not None:
        more["encoder_outputs"] = encoded[-1] if encoded else (output["encoder_last_hidden_state"],)
    ids = given.get("decoder_input_ids", given["input_ids"])
    token = "decoder_input_ids" if "decoder_input_ids" in given else "input_ids"
    more[token] = all_fake(torch.full((ids.shape[0], 1), 3, dtype=torch.int64), mode)
    first, output = _recorded(module, more)
    _check_one_token(subject.name, output, ids.shape[0])
    after_first = tuple(_all_cached(cache, module, before))
    last = first
    if steps > 1:
        if _may_grow(cache):
            _grow(cache, steps - 2)
        else:
            longer = all_fake(torch.full((ids.shape[0], ids.shape[1] + steps - 1), 3, dtype=torch.int64), mode)
            _, output = _recorded(module, given | {token: longer})
            cache = more[named] = next(output[name] for name in _NAMES if output.get(name) is not None)
        last, _ = _recorded(module, more)
    return Decoding(
        name=subject.name,
        prompt=prompt,
        steps=(first, last),
        caches=(after_prompt, after_first, tuple(_all_cached(cache, module, before))),
    )


def _recorded(module: nn.Module, given: dict[str, Any]) -> tuple[Capture, Any]:
    recorder = CallRecorder()
    with recorder.inside(module.named_modules()), recorder:
        output = module(**_encoded(module, given))
    return Capture(calls=tuple(recorder.calls), kept=(), parameters=tuple(parameter_uses(recorder, module))), output


def _encoded(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Its encoder by itself, as ``generate`` runs it, where the class would tell it of the cache, too (Switch)."""
    takes: Any = inspect.signature(module.forward).parameters
    if "use_cache" in takes or "encoder_outputs" not in takes or "encoder_outputs" in given:
        return given
    encoder: Any = module.get_encoder()  # type: ignore[operator]
    own = {name: value for name, value in given.items() if name in {"input_ids", "attention_mask"}}
    return {name: value for name, value in given.items() if name not in own} | {"encoder_outputs": encoder(**own)}


def _may_grow(cache: Any) -> bool:
    """Whether all of it are layers of transformers' own cache, which take keys and values as they come."""
    layers = _layers(getattr(cache, "self_attention_cache", cache))
    return bool(layers) and all(type(layer).__module__.endswith(".cache_utils") for layer in layers)


def _grow(cache: Any, tokens: int) -> None:
    """Make it as long as it is after so many tokens more, by its own rules."""
    if tokens < 1:
        return
    for layer in _layers(getattr(cache, "self_attention_cache", cache)):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if isinstance(keys, torch.Tensor) and isinstance(values, torch.Tensor) and keys.dim() == _DIMENSIONS:
            layer.update(*(each.new_zeros(*each.shape[:2], tokens, each.shape[3]) for each in (keys, values)))
        index = getattr(layer, "indexer_keys", None)
        if isinstance(index, torch.Tensor):
            layer.update_indexer(index.new_zeros(index.shape[0], tokens, index.shape[2]))


_DIMENSIONS = 4
"""Of keys: [batch, heads, tokens, width]."""


def _layers(cache: Any) -> list[Any]:
    return list(getattr(cache, "layers", ()))


def _cached(cache: Any) -> Iterator[Cached]:
    """What a cache of transformers holds, once however many names it has."""
    yield from _held(cache, _Where(), set())


def _check_one_token(name: str, output: Any, batch_size: int) -> None:
    logits = output.get("logits")
    if logits is not None and logits.dim() == _LOGITS and logits.shape[1] != 1:
        raise InputError(
            f"the class of {name} makes {logits.shape[1]} tokens of one in a batch of {batch_size}",
            expectation="a class that keeps the sequences of a batch apart",
            remedy="give --batch-size 1",
        )


_LOGITS = 3
"""Sizes of logits: sequences, tokens, vocabulary."""


def _empty_cache(module: nn.Module) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=module.config)


def _all_cached(cache: Any, module: nn.Module, before: dict[str, torch.Tensor]) -> Iterator[Cached]:
    """What a cache holds, and what layers hold themselves that they did not hold before."""
    yield from _cached(cache)
    for name, state in _own_states(module):
        if name not in before and state.is_floating_point() and state.dim():
            layer = next((int(part) for part in name.split(".") if part.isdecimal()), 0)
            yield Cached(kind="state", shape=tuple(state.shape), element_bytes=state.element_size(), layer=layer)


def _own_states(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that parts have as plain attributes, no weights and no buffers."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                yield f"{path}.{name}", value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Where in a cache a value is.

    Attributes:
        name: of the attribute.
        owner: whose.
        layer: which layer's.
        crossed: whether it is of an encoder's result.
    """

    name: str = ""
    owner: Any = None
    layer: int = 0
    crossed: bool = False

    @property
    def kind(self) -> CachedKind:
        """How it grows."""
        if self.name not in _OF_TOKENS:
            return "state"
        if self.crossed:
            return "cross"
        return "window" if getattr(self.owner, "is_sliding", False) else "tokens"


def _held(value: Any, where: _Where, seen: set[int]) -> Iterator[Cached]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and value.dim():
            yield Cached(
                kind=where.kind,
                shape=tuple(value.shape),
                element_bytes=value.element_size(),
                layer=where.layer,
                window=int(getattr(where.owner, "sliding_window", 0) or 0) if where.kind == "window" else 0,
            )
    elif isinstance(value, dict):
        for part in value.values():
            yield from _held(part, where, seen)
    elif isinstance(value, list | tuple):
        listed = where.name in _BY_LAYER
        for number, part in enumerate(value):
            yield from _held(part, replace(where, layer=number) if listed else where, seen)
    elif _is_cache(value):
        for name, part in vars(value).items():
            crossed = where.crossed or name == "cross_attention_cache"
            yield from _held(part, replace(where, name=name, owner=value, crossed=crossed), seen)


_BY_LAYER = ("layers", "linear_cache", "conv_states", "ssm_states")
"""Lists that have an item for each layer."""


def _is_cache(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("transformers.") and any("Cache" in each.__name__ for each in kind.__mro__)
