"""How is inference counted from the command line? ``hwprof count --inference``, with a prompt and new tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from hwprof.cli.count.notes import note, note_length
from hwprof.cli.format_option import tell
from hwprof.cli.job_options import TOKENS
from hwprof.cli.options import Word, refuse, with_options
from hwprof.count.inference.serving import MlaForm, Serving, WeightFormat
from hwprof.errors import InputError
from hwprof.specs.model.spec import ModelSpec

if TYPE_CHECKING:
    from hwprof.session.captured import Shapes

NarrowCache = Literal["fp8", "int8"]

inference_options = with_options(
    click.option("--inference", is_flag=True, help="Count prefill and decode with a key-value cache, not training."),
    click.option("--prompt-len", type=TOKENS, help="With --inference: tokens of a prompt or source."),
    click.option(
        "--new-tokens", type=click.IntRange(min=0), help="With --inference: tokens generated for each prompt."
    ),
    click.option("--weights", type=Word(get_args(WeightFormat)), help="With --inference: of layers' matrices."),
    click.option("--cache-dtype", type=Word(get_args(NarrowCache)), help="With --inference: a narrower cache."),
    click.option("--mla", type=Word(get_args(MlaForm)), help="With --inference: how latent attention decodes."),
    click.option("--hardware", help="With --inference: the device whose datasheet bounds the time from below."),
)
"""The options that only inference has."""

_OF_TRAINING_ALONE = {
    "seq_len": "--prompt-len and --new-tokens set the lengths",
    "recompute": "there is no backward pass",
    "optimizer": "no weight changes",
    "compile": "bytes are those of eager kernels, and the least that any kernels move",
}
"""Options of ``count`` that say nothing about inference, and why."""


def refuse_inference_options(context: click.Context) -> None:
    """Say that options of inference need ``--inference``, and that no module goes with it.

    Raises:
        InputError: one of them was given.
    """
    alone = ("prompt_len", "new_tokens", "weights", "cache_dtype", "mla", "hardware")
    refuse(context, {"inference": "it counts models of the catalogue"})
    elsewhere = "`hwprof fit` says what fits a device, `hwprof simulate` how long a step takes there"
    reasons = dict.fromkeys(alone, "it goes with --inference alone")
    refuse(context, reasons | {"hardware": f"{reasons['hardware']}: {elsewhere}"})


def count_inference(context: click.Context, model: str, shapes: Shapes) -> None:
    """Count prefill and decode of a batch, and print it.

    Raises:
        InputError: an option does not go with ``--inference`` or with the model, a length is missing or can't be,
            unknown hardware or a rate of it that is not known.
    """
    from hwprof.cli.count.inference_report import CountedInference, inference_json, inference_text
    from hwprof.count.inference.generation import generation
    from hwprof.session.captured import counted_generation
    from hwprof.specs.catalogue.lookup import load_device

    typed = context.params
    formats = {"weights": typed["weights"], "cache": typed["cache_dtype"], "mla": typed["mla"] or "absorbed"}
    serving = Serving(dtype=shapes.dtype, **formats)
    asked = replace(shapes, seq_len=typed["prompt_len"], target_len=shapes.target_len or 1)
    found = counted_generation(model, asked, steps=max((typed["new_tokens"] or 0) - 1, 0), serving=serving)
    captured = None if isinstance(found, ModelSpec) else found
    spec = found if isinstance(found, ModelSpec) else found.spec
    _check(context, spec)
    shape = _shape(spec, typed)
    note_length(spec, shape["prompt_tokens"] + shape["new_tokens"], spec.max_seq_len)
    if captured:
        note(spec.notes)
    size, device = typed["batch_size"], typed["hardware"]
    counted = CountedInference(
        spec=spec,
        serving=serving,
        batch_size=size,
        shape=shape,
        work=captured.work if captured else generation(spec, batch_size=size, serving=serving, **shape),
        device=load_device(device) if device else None,
        captured=captured,
    )
    tell(typed["output_format"], lambda: inference_json(counted), lambda: inference_text(counted))


def _check(context: click.Context, spec: ModelSpec) -> None:
    reasons = dict(_OF_TRAINING_ALONE)
    if not spec.mla:
        reasons["mla"] = f"{spec.name} has no latent attention"
    if not spec.two_sided:
        reasons["target_len"] = "only an encoder-decoder has a target sequence"
    refuse(context, reasons)


def _shape(spec: ModelSpec, typed: Mapping[str, Any]) -> dict[str, int]:
    """Lengths: the prompt of an encoder-decoder is its source, and its decoder starts from ``--target-len`` tokens."""
    if typed["new_tokens"] is None and spec.causal:
        raise InputError("--new-tokens is missing", expectation=f"{spec.name} generates tokens", remedy="say how many")
    prompt, new = spec.vision.tokens if spec.vision else typed["prompt_len"], typed["new_tokens"] or 0
    if prompt is None:
        raise InputError("--prompt-len is missing", expectation=f"{spec.name} reads tokens", remedy="say how many")
    if spec.two_sided:
        return {"source_tokens": prompt, "prompt_tokens": typed["target_len"] or 1, "new_tokens": new}
    return {"source_tokens": 0, "prompt_tokens": prompt, "new_tokens": new}
