"""How is inference counted from the command line? ``hwprof count --inference``, with a prompt and new tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, get_args

import click

from hwprof.cli.options import refuse, with_options
from hwprof.count.inference.serving import MlaForm, Serving, WeightFormat
from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype
from hwprof.specs.model.spec import ModelSpec

NarrowCache = Literal["fp8", "int8"]

inference_options = with_options(
    click.option("--inference", is_flag=True, help="Count prefill and decode with a key-value cache, not training."),
    click.option("--prompt-len", type=click.IntRange(min=1), help="With --inference: tokens of a prompt or source."),
    click.option(
        "--new-tokens", type=click.IntRange(min=0), help="With --inference: tokens generated for each prompt."
    ),
    click.option("--weights", type=click.Choice(get_args(WeightFormat)), help="With --inference: of layers' matrices."),
    click.option("--cache-dtype", type=click.Choice(get_args(NarrowCache)), help="With --inference: a narrower cache."),
    click.option("--mla", type=click.Choice(get_args(MlaForm)), help="With --inference: how latent attention decodes."),
    click.option("--hardware", help="With --inference: the device whose datasheet bounds the time from below."),
)
"""The options that only inference has."""

_OF_TRAINING_ALONE = {
    "seq_len": "--prompt-len and --new-tokens set the lengths",
    "recompute": "there is no backward pass",
    "optimizer": "no weight changes",
    "compiled": "bytes are those of eager kernels, and the least that any kernels move",
}
"""Options of ``count`` that say nothing about inference, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What was typed about inference; None = not typed."""

    prompt_len: int | None
    new_tokens: int | None
    weights: WeightFormat | None
    cache_dtype: NarrowCache | None
    mla: MlaForm | None
    hardware: str | None


def refuse_inference_options(context: click.Context) -> None:
    """Say that options of inference need ``--inference``, and that no module goes with it.

    Raises:
        InputError: one of them was given.
    """
    alone = dict.fromkeys(InferenceRequest.__slots__, "it goes with --inference alone")
    refuse(context, {"inference": "it counts models of the catalogue", **alone})


def count_inference(
    context: click.Context,
    spec: ModelSpec,
    request: InferenceRequest,
    *,
    batch_size: int,
    dtype: Dtype,
    output_format: str,
) -> None:
    """Count prefill and decode of a batch, and print it.

    Raises:
        InputError: an option does not go with ``--inference`` or with the model, a length is missing or can't be,
            unknown hardware or a rate of it that is not known.
    """
    from hwprof.cli.count.inference_report import CountedInference, inference_json, inference_text
    from hwprof.count.inference.generation import generation
    from hwprof.specs.catalogue.lookup import load_device

    _check(context, spec)
    serving = Serving(dtype=dtype, weights=request.weights, cache=request.cache_dtype, mla=request.mla or "absorbed")
    shape = _shape(spec, request, target_len=context.params["target_len"])
    _note(spec, shape)
    counted = CountedInference(
        spec=spec,
        serving=serving,
        batch_size=batch_size,
        shape=shape,
        work=generation(spec, batch_size=batch_size, serving=serving, **shape),
        device=load_device(request.hardware) if request.hardware else None,
    )
    click.echo(json.dumps(inference_json(counted), indent=2) if output_format == "json" else inference_text(counted))


def _check(context: click.Context, spec: ModelSpec) -> None:
    reasons = dict(_OF_TRAINING_ALONE)
    if not spec.mla:
        reasons["mla"] = f"{spec.name} has no latent attention"
    if spec.kind != "encoder_decoder":
        reasons["target_len"] = "only an encoder-decoder has a target sequence"
    refuse(context, reasons)


def _shape(spec: ModelSpec, request: InferenceRequest, *, target_len: int | None) -> dict[str, int]:
    """Lengths: the prompt of an encoder-decoder is its source, and its decoder starts from ``target_len`` tokens."""
    if request.new_tokens is None and spec.causal:
        raise InputError("--new-tokens is missing", expectation=f"{spec.name} generates tokens", remedy="say how many")
    prompt, new = spec.vision.tokens if spec.vision else request.prompt_len, request.new_tokens or 0
    if prompt is None:
        raise InputError("--prompt-len is missing", expectation=f"{spec.name} reads tokens", remedy="say how many")
    if spec.kind == "encoder_decoder":
        return {"source_tokens": prompt, "prompt_tokens": target_len or 1, "new_tokens": new}
    return {"source_tokens": 0, "prompt_tokens": prompt, "new_tokens": new}


def _note(spec: ModelSpec, shape: dict[str, int]) -> None:
    """Lengths that the model can take, but was not made for, on stderr."""
    tokens = shape["prompt_tokens"] + shape["new_tokens"]
    if tokens > spec.max_seq_len and spec.positions != "learned":
        note = f"{tokens} tokens are more than the {spec.max_seq_len} that {spec.name} was made for"
        click.echo(f"hwprof: note: {note}", err=True)
