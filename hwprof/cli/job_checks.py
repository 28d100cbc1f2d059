"""Does what was typed about a job make sense? One line about the first thing that does not."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from hwprof.errors import InputError
from hwprof.specs.frozen import Record
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.model.spec import ModelSpec

Noun = TypeVar("Noun", bound=Record)


def checked(noun: type[Noun], **values: Any) -> Noun:
    """The noun, with what is wrong in one line.

    Raises:
        InputError: the values contradict each other.
    """
    try:
        return noun(**values)
    except ValidationError as error:
        raise InputError(str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")) from error


def check_model(model: ModelSpec, layout: ParallelLayout) -> None:
    """That the model can be divided so.

    Raises:
        InputError: it can't, and why.
    """
    experts = model.moe.experts if model.moe else 1
    tensor, chunks = layout.tensor_parallel, layout.pipeline_parallel * layout.chunks
    pairs, ulysses = max(model.kv_heads // tensor, 1), layout.context_kind == "ulysses"
    wrong = {
        f"{model.heads} heads do not divide by tensor parallel {tensor}": model.heads % tensor != 0,
        f"{model.layers} layers are fewer than {chunks} pipeline chunks": model.layers < chunks,
        f"{model.heads // tensor} heads of a tensor rank do not divide by context parallel {layout.context_parallel}": (
            ulysses and model.heads // tensor % layout.context_parallel != 0
        ),
        f"{pairs} key and value heads of a tensor rank do not divide by context parallel {layout.context_parallel}": (
            ulysses and pairs % layout.context_parallel != 0
        ),
        f"{experts} experts do not divide by expert parallel {layout.expert_parallel}": (
            experts % layout.expert_parallel != 0
        ),
    }
    for fact, holds in wrong.items():
        if holds:
            raise InputError(f"{model.name}: {fact}", remedy="change the degree, or name another model")
