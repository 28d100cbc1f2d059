"""How does a person write a parallel layout? ``fsdp``, ``tp2``, ``fsdp-tp2-pp2``: what is divided, over how many."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ValidationError

from hwprof.errors import InputError
from hwprof.specs.job.parallel import ParallelLayout

PlainSchedule = Literal["gpipe", "1f1b"]
"""Schedules of a pipeline with one chunk a stage, of those that hwprof trains with; several chunks are interleaved."""

_ZERO_STAGES = {"ddp": 0, "zero2": 2, "fsdp": 3}
_DEGREE = re.compile(r"(tp|pp|vp)([0-9]+)")
_WORDS = "expected words joined by dashes: ddp, zero2 or fsdp; tp<N>, sp; pp<N>, vp<N>"


def parse_layout(text: str, ranks: int, *, schedule: PlainSchedule = "1f1b") -> ParallelLayout:
    """The layout that a text means on so many ranks.

    ``ddp`` copies the model to all data ranks, ``zero2`` shards gradients and optimizer state (FSDP2 that keeps its
    weights between forward and backward), ``fsdp`` shards weights, too; they take the ranks that ``tp<N>`` (tensor) and
    ``pp<N>`` (pipeline) leave. ``sp`` also splits what lies between tensor-parallel matrices, over the sequence;
    ``vp<N>`` gives each rank N chunks of the interleaved pipeline.

    Raises:
        InputError: no such layout, or it does not divide the ranks.
    """
    degrees = {"tp": 1, "pp": 1, "vp": 1}
    zero_stage: int | None = None
    sequence_parallel = False
    for word in text.strip().lower().split("-"):
        match = _DEGREE.fullmatch(word)
        if word in _ZERO_STAGES and zero_stage is None:
            zero_stage = _ZERO_STAGES[word]
        elif match and degrees[match.group(1)] == 1 and int(match.group(2)) > 0:
            degrees[match.group(1)] = int(match.group(2))
        elif word == "sp":
            sequence_parallel = True
        else:
            raise InputError(f"{text!r} is not a parallel layout", expectation=_WORDS, remedy="write --parallel fsdp")
    data_parallel = _data_ranks(text, ranks, degrees["tp"] * degrees["pp"], has_word=zero_stage is not None)
    _check_combination(text, zero_stage, degrees, data_parallel, sequence_parallel=sequence_parallel)
    try:
        return ParallelLayout(
            data_parallel=data_parallel,
            tensor_parallel=degrees["tp"],
            pipeline_parallel=degrees["pp"],
            virtual_stages=degrees["vp"],
            zero_stage=zero_stage or 0,
            sequence_parallel=sequence_parallel,
            schedule="interleaved" if degrees["vp"] > 1 else schedule,
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--parallel {text}: {reason}", remedy="leave out vp, or give pp<N> as well") from error


def _data_ranks(text: str, ranks: int, model_ranks: int, *, has_word: bool) -> int:
    if ranks % model_ranks:
        raise InputError(
            f"--parallel {text} divides the model over {model_ranks} ranks, and there are {ranks}",
            expectation=f"expected a multiple of {model_ranks}",
            remedy="change --nproc-per-node or the layout",
        )
    data_parallel = ranks // model_ranks
    if data_parallel > 1 and not has_word:
        raise InputError(
            f"--parallel {text} takes {model_ranks} of the {ranks} ranks",
            expectation=f"the other {data_parallel}-fold needs a kind of data parallelism",
            remedy=f"write fsdp-{text}, or start {model_ranks} ranks",
        )
    return data_parallel


def _check_combination(
    text: str, zero_stage: int | None, degrees: dict[str, int], data_parallel: int, *, sequence_parallel: bool
) -> None:
    if zero_stage == 0 and data_parallel > 1 and degrees["tp"] > 1:
        raise InputError(
            f"--parallel {text}: torch's DDP does not take tensor-parallel weights",
            remedy=f"write {text.replace('ddp', 'fsdp')}",
        )
    if sequence_parallel and degrees["tp"] == 1:
        raise InputError(f"--parallel {text}: sp splits between tensor-parallel ranks", remedy="add tp<N>")


def layout_text(layout: ParallelLayout) -> str:
    """The text that means a layout: the shortest that ``parse_layout`` reads back."""
    data = {0: "ddp", 1: "ddp", 2: "zero2", 3: "fsdp"}[layout.zero_stage]
    words = [data] if layout.data_parallel > 1 or layout.tensor_parallel * layout.pipeline_parallel == 1 else []
    if layout.tensor_parallel > 1:
        words.append(f"tp{layout.tensor_parallel}")
        words += ["sp"] if layout.sequence_parallel else []
    if layout.pipeline_parallel > 1:
        words.append(f"pp{layout.pipeline_parallel}")
    if layout.virtual_stages > 1:
        words.append(f"vp{layout.virtual_stages}")
    return "-".join(words)
