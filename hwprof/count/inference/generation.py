"""What does it cost to generate text? Prefill and all decode steps, memory, and the least time that a device allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Self

from hwprof.count.inference.cache import Keys, KvCache, kept_features, kv_cache, visible_keys, visible_keys_over
from hwprof.count.inference.memory import InferenceMemory, activation_peak_bytes
from hwprof.count.inference.phases import Batch, prefill_ops, step_ops
from hwprof.count.inference.serving import Serving, check_lengths, served
from hwprof.count.inference.weights import Weights, weights_bytes
from hwprof.count.memory.largest import largest
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.errors import InputError
from hwprof.specs.model.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One or more passes through the model.

    Attributes:
        passes: how many.
        cost: of all of them, every product of attention counted; bytes are those of eager kernels.
        causal_flop: of matrix products, without those above the diagonal and outside windows.
        least_bytes: what no implementation can avoid: each pass reads the weights that it uses once, and what it
            attends to of the cache, and adds to the cache; activations stay on chip.
    """

    passes: int
    cost: Cost
    causal_flop: int
    least_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """All work for one batch.

    Attributes:
        prefill: the pass over the prompts, which gives each sequence its first new token.
        decode: the steps for the other new tokens, together.
        first_step: the first of them; a step after the prompt, even where there are none.
        last_step: the last of them.
        cache: when the last step is through.
        memory: at its peak.
    """

    prefill: Phase
    decode: Phase
    first_step: Phase
    last_step: Phase
    cache: KvCache
    memory: InferenceMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBound:
    """The least time of a phase: neither its products nor its traffic can be faster than the roofs.

    Attributes:
        compute_s: matrix products at the compute roof.
        memory_s: least bytes at the memory roof.
    """

    compute_s: float
    memory_s: float

    @property
    def lower_s(self) -> float:
        """The larger of the two, as if each hid behind the other."""
        return max(self.compute_s, self.memory_s)

    @property
    def roof(self) -> Literal["compute", "memory"]:
        """Which of the two binds."""
        return "compute" if self.compute_s >= self.memory_s else "memory"


def time_bound(phase: Phase, *, flop_per_s: float, byte_per_s: float) -> TimeBound:
    """The least time of a phase under two roofs, as a datasheet or a probe gives them."""
    return TimeBound(compute_s=phase.causal_flop / flop_per_s, memory_s=phase.least_bytes / byte_per_s)


def generation(
    spec: ModelSpec,
    *,
    batch_size: int,
    prompt_tokens: int,
    new_tokens: int,
    serving: Serving,
    source_tokens: int = 0,
) -> Generation:
    """Prefill and decode of ``batch_size`` sequences, all of one length.

    The prefill gives the first new token, each decode step one more; the last one is not fed back. So there are
    ``new_tokens`` - 1 steps, and the cache ends with as many tokens beside the prompt's. Sums over the growing context
    are closed forms: every cost is linear in the number of keys.

    Args:
        spec: the model.
        batch_size: sequences.
        prompt_tokens: of each (see ``prefill_ops``).
        new_tokens: of each; 0 = the prefill alone, the only choice for a model that does not generate.
        serving: widths of the numbers.
        source_tokens: of each sequence, for the encoder of an encoder-decoder.

    Raises:
        InputError: as ``prefill_ops``; new tokens of a model that gives none.
    """
    if new_tokens < 0 or (new_tokens and not spec.causal):
        raise InputError(
            f"{new_tokens} new tokens of {spec.name}, which is of kind {spec.kind!r}",
            expectation="a decoder generates tokens, any other model has a forward pass and 0 new tokens",
        )
    steps = max(new_tokens - 1, 0)
    check_lengths(spec, batch_size=batch_size, tokens=prompt_tokens + steps, source_tokens=source_tokens)
    batch = Batch(spec=served(spec), size=batch_size, serving=serving, source_tokens=source_tokens)
    step = _Step.of(batch) if spec.causal else None
    return Generation(
        prefill=_prefill(batch, prompt_tokens),
        decode=_steps(step, visible_keys_over(spec, prompt_tokens + 1, steps), steps),
        first_step=_steps(step, visible_keys(spec, prompt_tokens + 1), 1),
        last_step=_steps(step, visible_keys(spec, prompt_tokens + max(steps, 1)), 1),
        cache=_cache(batch, prompt_tokens + steps),
        memory=_memory(batch, prompt_tokens, steps),
    )


def largest_batch(
    spec: ModelSpec,
    *,
    capacity_bytes: float,
    prompt_tokens: int,
    new_tokens: int,
    serving: Serving,
    source_tokens: int = 0,
) -> int:
    """How many sequences of that length fit a memory together with the weights; 0 where not even one does."""
    one = Batch(spec=served(spec), size=1, serving=serving, source_tokens=source_tokens)
    steps = max(new_tokens - 1, 0)
    check_lengths(spec, batch_size=1, tokens=prompt_tokens + steps, source_tokens=source_tokens)
    return largest(lambda size: _memory(replace(one, size=size), prompt_tokens, steps).peak_bytes <= capacity_bytes)


def _total(ops: Iterable[Op]) -> Cost:
    return sum((op.cost("forward") for op in ops), Cost.ZERO)


def _prefill(batch: Batch, tokens: int) -> Phase:
    full, causal = (
        _prompt_ops(batch, tokens),
        prefill_ops(
            batch.spec,
            batch_size=batch.size,
            prompt_tokens=tokens,
            serving=batch.serving,
            attention="causal",
            source_tokens=batch.source_tokens,
        ),
    )
    weights = Weights.of(batch.spec, batch.serving).least_bytes(full, tokens=batch.size * tokens)
    return Phase(
        passes=1,
        cost=_total(full),
        causal_flop=int(_total(causal).matmul_flop),
        least_bytes=weights + _cache(batch, tokens).total_bytes,
    )


def _prompt_ops(batch: Batch, tokens: int) -> tuple[Op, ...]:
    return prefill_ops(
        batch.spec,
        batch_size=batch.size,
        prompt_tokens=tokens,
        serving=batch.serving,
        source_tokens=batch.source_tokens,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A decode step of a batch: every cost of it is a constant and a slope for each key of either sort."""

    batch: Batch
    constant: Cost
    full_slope: Cost
    window_slope: Cost
    weights_bytes: int

    @classmethod
    def of(cls, batch: Batch) -> Self:
        ops = step_ops(batch, Keys(0, 0))
        constant = _total(ops)
        full, window = (_total(step_ops(batch, keys)) + constant * -1 for keys in (Keys(1, 0), Keys(0, 1)))
        weights = Weights.of(batch.spec, batch.serving).least_bytes(ops, tokens=batch.size)
        return cls(batch=batch, constant=constant, full_slope=full, window_slope=window, weights_bytes=weights)


def _steps(step: _Step | None, keys: Keys, steps: int) -> Phase:
    """So many steps that attend to ``keys`` in all; nothing of a model that does not generate."""
    if step is None:
        return Phase(passes=0, cost=Cost.ZERO, causal_flop=0, least_bytes=0)
    cost = step.constant * steps + step.full_slope * keys.full + step.window_slope * keys.window
    return Phase(
        passes=steps,
        cost=cost,
        causal_flop=int(cost.matmul_flop),
        least_bytes=step.weights_bytes * steps + _cache_traffic_bytes(step.batch, keys, steps),
    )


def _cache_traffic_bytes(batch: Batch, keys: Keys, steps: int) -> int:
    """Rows of the cache that steps read and add: of the keys that a token attends to, its own is written, not read."""
    spec = batch.spec
    token_bytes = batch.size * kept_features(spec, batch.serving.mla) * batch.serving.cache_bytes
    rows = (spec.layers - spec.window_layers) * keys.full + spec.window_layers * keys.window
    return (rows + spec.layers * batch.source_tokens * steps) * token_bytes


def _cache(batch: Batch, tokens: int) -> KvCache:
    return kv_cache(
        batch.spec,
        batch_size=batch.size,
        context_tokens=tokens,
        dtype=batch.serving.cache_dtype,
        mla=batch.serving.mla,
        source_tokens=batch.source_tokens,
    )


def _memory(batch: Batch, prompt_tokens: int, steps: int) -> InferenceMemory:
    """The larger of two moments: the prefill, whose activations are large, and the last step, whose cache is."""
    spec, weights = batch.spec, weights_bytes(batch.spec, batch.serving)
    prompt = _prompt_ops(batch, prompt_tokens)
    moments = [("prefill", prompt_tokens, prompt, max(prompt_tokens, batch.source_tokens))]
    if steps:
        keys = visible_keys(spec, prompt_tokens + steps)
        moments.append(("last decode step", prompt_tokens + steps, step_ops(batch, keys), 1))
    row_bytes = batch.size * spec.d_model * batch.serving.compute_bytes
    needs = [
        InferenceMemory(
            moment=name,
            weights_bytes=weights,
            kv_cache_bytes=_cache(batch, context).total_bytes,
            activation_bytes=activation_peak_bytes(ops, stream_bytes=tokens * row_bytes),
        )
        for name, context, ops, tokens in moments
    ]
    return max(needs, key=lambda need: need.peak_bytes)
