"""Why can a layout not run? Named constraints on many layouts at once, each with the reason in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hwprof.plan.space.columns import Columns, Numbers, Truths
from hwprof.plan.space.question import SHORTEST_CONTEXT, Question
from hwprof.specs.job.schedules import SCHEDULES, TRAITS, with_trait
from hwprof.units import format_bytes, format_fraction, format_seconds, number

Row = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A rule, which layouts break it, and why one of them does.

    Attributes:
        name: of the rule.
        broken: which rows break it.
        reason: the numbers, for one such row.
    """

    name: str
    broken: Callable[[Columns, Question], Truths]
    reason: Callable[[Row, Question], str]


def _context(columns: Columns, question: Question) -> Truths:
    length, ranks = question.base.seq_len, columns["context"]
    broken: Truths = (ranks > 1) & ((length % (2 * ranks) != 0) | (length // ranks < SHORTEST_CONTEXT))
    return broken


def _context_heads(columns: Columns, question: Question) -> Truths:
    heads, pairs = (own % columns["context"] != 0 for own in _heads_of_rank(columns["tensor"], question))
    broken: Truths = np.asarray(question.base.layout.context_kind == "ulysses") & (heads | pairs)
    return broken


def _heads_of_rank(tensor: Numbers, question: Question) -> tuple[Numbers, Numbers]:
    """Query heads, and key and value heads, of a tensor rank."""
    return question.base.model.heads // tensor, np.maximum(question.base.model.kv_heads // tensor, 1)


def _context_heads_reason(row: Row, question: Question) -> str:
    heads, pairs = (int(own) for own in _heads_of_rank(np.asarray(row["tensor"]), question))
    few = f"{heads} heads" if heads % row["context"] else f"{pairs} key and value heads"
    return _undivided(f"{few} of a tensor rank", "context", row) + ", as Ulysses needs"


def _layers(columns: Columns, question: Question) -> Truths:
    """At least a layer for each chunk; the chunks of an interleaved schedule are equal but for the two ends.

    Megatron-LM and BLOOM count embedding and head as a layer each, so that the first and last chunk have one less.
    """
    layers, stages = question.base.model.layers, columns["pipeline"]
    chunks = stages * columns.get("chunks", np.ones_like(stages))
    even = (layers % chunks == 0) | ((layers + 2) % chunks == 0)
    broken: Truths = (chunks > layers) | ((chunks > stages) & ~even)
    return broken


def _micro_batches(columns: Columns, question: Question) -> Truths:
    """Some schedules take whole groups of micro-batches, some need so many for each stage, and both ways the same."""
    count = question.base.global_batch // (columns["data"] * columns["micro_batch"])
    schedule, stages = columns["schedule"], columns["pipeline"]
    broken: Truths = with_trait(schedule, lambda traits: traits.in_groups) & (count % stages != 0)
    broken |= with_trait(schedule, lambda traits: traits.two_way) & ((stages % 2 != 0) | (count % 2 != 0))
    for code, name in enumerate(SCHEDULES):
        if fewest := TRAITS[name].fewest:
            broken |= (schedule == code) & (count < fewest * stages)
    return broken


def _capture_splits(columns: Columns, question: Question) -> Truths:
    """Where a captured model would have to be split in a way that nobody described."""
    model = question.base.model
    wrong = [ranks for ranks in np.unique(columns["tensor"]).tolist() if model.undivided(tensor=ranks)]
    by_context = np.asarray(bool(model.undivided(context=2)))
    broken: Truths = np.isin(columns["tensor"], wrong) | by_context & (columns["context"] > 1)
    return broken


def _undivided(what: str, degree: str, row: Row) -> str:
    return f"{what} do not divide by {degree} parallel {row[degree]}"


HEADS_DIVIDE = Constraint(
    name="heads_divide",
    broken=lambda columns, q: q.base.model.whole_heads[0] % columns["tensor"] != 0,
    reason=lambda row, q: _undivided(f"{q.base.model.heads} heads", "tensor", row),
)
"""Tensor parallelism gives each rank whole attention heads (Shoeybi et al. 2019, section 3)."""

KV_HEADS_DIVIDE = Constraint(
    name="kv_heads_divide",
    broken=lambda columns, q: (
        (q.base.model.whole_heads[1] % columns["tensor"] != 0) & (columns["tensor"] % q.base.model.kv_heads != 0)
    ),
    reason=lambda row, q: (
        f"{q.base.model.kv_heads} key and value heads neither divide by tensor parallel {row['tensor']} nor into it"
    ),
)
"""Key and value heads are shared out whole, or each is repeated on whole groups of ranks."""

TENSOR_INSIDE_DOMAIN = Constraint(
    name="tensor_inside_domain",
    broken=lambda columns, q: columns["tensor"] > q.machine.domain,
    reason=lambda row, q: f"tensor parallel {row['tensor']} leaves the scale-up domain of {q.machine.domain} devices",
)
"""Tensor parallelism communicates in every layer and so stays on the scale-up links."""

BATCH_DIVIDES = Constraint(
    name="batch_divides",
    broken=lambda columns, q: q.base.global_batch % columns["data"] != 0,
    reason=lambda row, q: _undivided(f"{q.base.global_batch} sequences a step", "data", row),
)
"""Every data rank gets equally many whole sequences."""

CONTEXT_DIVIDES = Constraint(
    name="context_divides",
    broken=_context,
    reason=lambda row, q: (
        f"context parallel {row['context']} leaves {q.base.seq_len / row['context']:g} tokens of a sequence to a rank; "
        f"2 chunks of equal size and {SHORTEST_CONTEXT} tokens are the least"
    ),
)
"""Each context rank takes two chunks of a sequence, so that causal work is even (Megatron-Core), and not too short."""

CONTEXT_DIVIDES_HEADS = Constraint(name="context_divides_heads", broken=_context_heads, reason=_context_heads_reason)
"""Ulysses changes from tokens to whole heads (Jacobs et al. 2023, section 3.1), also of keys and values (Transformer
Engine's ``a2a``)."""

EXPERTS_DIVIDE = Constraint(
    name="experts_divide",
    broken=lambda columns, _: (
        columns["data"] * columns["context"] * columns["tensor"] % (columns["expert"] * columns["expert_tensor"]) != 0
    ),
    reason=lambda row, _: (
        f"expert parallel {row['expert']} with {row['expert_tensor']} devices an expert does not divide "
        f"{row['data'] * row['context'] * row['tensor']} tensor, context and data ranks"
    ),
)
"""Experts are spread evenly over the ranks of one stage."""

LAYERS_DIVIDE = Constraint(
    name="layers_divide",
    broken=_layers,
    reason=lambda row, q: (
        f"{q.base.model.layers} layers are too few for {row['pipeline'] * row.get('chunks', 1)} pipeline chunks, or do "
        "not divide by them, nor with embedding and head as a layer each"
    ),
)

MICRO_BATCHES_FILL = Constraint(
    name="micro_batches_fill",
    broken=_micro_batches,
    reason=lambda row, q: (
        f"{q.base.global_batch // (row['data'] * row['micro_batch'])} micro-batches do not fill the "
        f"{SCHEDULES[row['schedule']]} schedule of {row['pipeline']} stages"
    ),
)

ZERO_IN_PIPELINE = Constraint(
    name="zero_in_pipeline",
    broken=lambda columns, q: (
        (columns["pipeline"] > 1) & ~np.isin(columns["zero_stage"], q.stack.zero_stages_in_pipeline)
    ),
    reason=lambda row, q: f"{q.stack.name} has no ZeRO stage {row['zero_stage']} in a pipeline",
)

CAPTURE_SPLITS = Constraint(
    name="capture_splits",
    broken=_capture_splits,
    reason=lambda row, q: q.base.model.undivided(tensor=row["tensor"], context=row["context"]),
)
"""Of a captured model tensor ranks share what its class says, context ranks layers that mix tokens in a known way."""

OF_DEGREES = (
    CAPTURE_SPLITS,
    HEADS_DIVIDE,
    KV_HEADS_DIVIDE,
    TENSOR_INSIDE_DOMAIN,
    BATCH_DIVIDES,
    CONTEXT_DIVIDES,
    CONTEXT_DIVIDES_HEADS,
    EXPERTS_DIVIDE,
    LAYERS_DIVIDE,
)
"""Constraints on the degrees alone, in the order in which they are asked."""

OF_SETTINGS = (LAYERS_DIVIDE, ZERO_IN_PIPELINE, MICRO_BATCHES_FILL)
"""Constraints on all settings together; memory follows."""

HOST_MEMORY_FITS = "host_memory_fits"
MEMORY_FITS = "memory_fits"
INSIDE_LIMITS = "inside_limits"


def memory_reason(need_bytes: float, question: Question) -> str:
    """Why a need of so many bytes, allocator and libraries included, does not fit; in numbers."""
    capacity = question.machine.capacity_bytes
    usable_bytes = capacity * (1 - question.margin)
    need, kept = _beyond(need_bytes, usable_bytes, format_bytes), format_fraction(question.margin)
    return f"needs {need}, device has {format_bytes(usable_bytes)} ({format_bytes(capacity)} less {kept})"


def host_reason(need_bytes: float, question: Question) -> str:
    """Why what offload puts in host memory for one device does not fit; in numbers."""
    assert question.host_share_bytes is not None
    assert question.host_memory_bytes is not None
    shares = round(question.host_memory_bytes / question.host_share_bytes)
    return (
        f"offload of {question.base.offload} needs {format_bytes(need_bytes * shares)} of a node's host memory, it has "
        f"{format_bytes(question.host_memory_bytes)} for {shares} device(s)"
    )


def limit_reason(step_s: float, question: Question) -> str:
    """Why a step of this length is too long: in days or money of the whole training where these are known."""
    assert question.longest_step_s is not None
    if question.limit_rate is not None:
        rate, unit = question.limit_rate
        asked, takes = question.longest_step_s * rate, step_s * rate
        return (
            f"takes {number(takes)} {unit}, {question.limit} leaves {number(asked)}: {number(takes - asked)} too many"
        )
    took = _beyond(step_s, question.longest_step_s, format_seconds)
    return f"a step takes {took}, {question.limit} leaves {format_seconds(question.longest_step_s)}"


def _beyond(need: float, limit: float, formatted: Callable[[float], str]) -> str:
    """A need above its limit; by how much where the digits shown do not tell."""
    more = f" ({formatted(need - limit)} more)" if formatted(need) == formatted(limit) else ""
    return formatted(need) + more
