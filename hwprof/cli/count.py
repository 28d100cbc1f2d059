"""How is a model counted from the command line? ``hwprof count``: no hardware, no torch."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from hwprof.cli.count_inference import InferenceRequest, count_inference, inference_options, refuse_inference_options
from hwprof.cli.count_module import ModuleRequest, count_module, module_options, refuse_module_options
from hwprof.cli.op_json import bytes_json, op_json
from hwprof.count.formulas import formulas
from hwprof.count.memory import MemoryNeed, training_memory
from hwprof.count.parameters import ParameterCount, parameters
from hwprof.count.totals import StepFlop, cost_by_kind, step_flop, total_cost
from hwprof.count.transformer import training_step_ops
from hwprof.errors import InputError
from hwprof.specs.model import ModelSpec
from hwprof.specs.settings import Dtype, OptimizerName, Recompute, RunSettings
from hwprof.units import format_bytes, format_count, format_flop

POSITIVE = click.IntRange(min=1)


@click.command(short_help="Count parameters, FLOP, bytes and memory; no hardware needed.")
@click.option("--model", help="Catalogue name, TOML file or Hugging Face config.json.")
@click.option("--batch-size", type=POSITIVE, help="Sequences in the batch.")
@click.option("--seq-len", type=POSITIVE, help="Tokens of a sequence; an image has those of its patches.")
@click.option("--target-len", type=POSITIVE, help="Tokens of an encoder-decoder's target; default: --seq-len.")
@click.option("--dtype", type=click.Choice(get_args(Dtype)), default="bf16", show_default=True)
@click.option("--recompute", type=click.Choice(get_args(Recompute)), default="none", show_default=True)
@click.option("--optimizer", type=click.Choice(get_args(OptimizerName)), default="adamw", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Bytes of compiled kernels, which join elementwise passes.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@module_options
@inference_options
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    model: str | None,
    batch_size: int | None,
    seq_len: int | None,
    target_len: int | None,
    dtype: Dtype,
    recompute: Recompute,
    optimizer: OptimizerName,
    compiled: bool,
    form: str,
    target: str | None,
    inputs: tuple[str, ...],
    device: str,
    inference: bool,
    **serving: Any,
) -> None:
    """Count one training step of MODEL: parameters, FLOP, bytes moved, memory. Needs no hardware.

    FLOP are those of matrix multiplications, in both attention conventions: full, and causal (half the attention, and
    in layers with a window only what it holds). Bytes are those of torch's eager CUDA kernels, or of compiled ones.

    With --inference: a prefill over prompts, the decode steps after it, the key-value cache and the memory; with
    --hardware also the least time of a token that the device's datasheet allows.
    """
    if target is not None or not inference:
        refuse_inference_options(context)
    if target is not None:
        own = ModuleRequest(target=target, inputs=inputs, device=device, batch_size=batch_size, seq_len=seq_len)
        count_module(context, own, dtype=dtype, form=form)
        return
    refuse_module_options(context)
    if model is None or batch_size is None:
        raise click.UsageError(f"Missing option '{'--model' if model is None else '--batch-size'}'.")
    from hwprof.specs.catalogue import load_model

    spec = load_model(model)
    if inference:
        count_inference(context, spec, InferenceRequest(**serving), batch_size=batch_size, dtype=dtype, form=form)
        return
    length = _length(spec, seq_len=seq_len, target_len=target_len)
    _note(spec, length=length, target_len=target_len)
    settings = RunSettings(
        model=spec.name,
        device="cuda",
        dtype=dtype,
        micro_batch=batch_size,
        seq_len=length,
        target_len=(target_len or length) if spec.kind == "encoder_decoder" else None,
        compile=compiled,
        recompute=recompute,
        optimizer=optimizer,
    )
    click.echo(json.dumps(as_json(spec, settings), indent=2) if form == "json" else as_text(spec, settings))


def _length(spec: ModelSpec, *, seq_len: int | None, target_len: int | None) -> int:
    """The length of a sequence: as asked for, or that of the model's images."""
    if target_len is not None and spec.kind != "encoder_decoder":
        raise InputError(
            f"--target-len does not apply to {spec.name}, which is a {spec.kind}",
            expectation="only an encoder-decoder has a target sequence",
            remedy="leave it out; --seq-len sets the length",
        )
    if spec.vision:
        if seq_len not in {None, spec.vision.tokens}:
            _say(f"--seq-len {seq_len} is not used: an image of {spec.name} is {spec.vision.tokens} tokens")
        return spec.vision.tokens
    if seq_len is None:
        raise InputError("--seq-len is missing", expectation=f"{spec.name} reads tokens", remedy="say how many")
    return seq_len


def _note(spec: ModelSpec, *, length: int, target_len: int | None) -> None:
    """What the counts leave out, on stderr."""
    limit = spec.encoder_side.max_seq_len if spec.encoder else spec.max_seq_len
    notes = [spec.notes] if "config" in spec.source and spec.notes else []
    for tokens, most, fixed in ((length, limit, False), (target_len or 0, spec.max_seq_len, True)):
        if tokens > most and spec.positions != "learned":
            side = "target " if fixed else ""
            notes.append(f"{tokens} {side}tokens are more than the {most} that {spec.name} was made for")
    for note in notes:
        _say(note)


def _say(note: str) -> None:
    click.echo(f"hwprof: note: {note}", err=True)


def as_json(spec: ModelSpec, settings: RunSettings) -> dict[str, Any]:
    """The JSON contract of ``hwprof count``: counts are integers, of one step over one batch."""
    ops = training_step_ops(spec, settings)
    flop, need, count = step_flop(spec, settings), training_memory(spec, settings), parameters(spec)
    return {
        "model": spec.name,
        "batch_size": settings.micro_batch,
        "seq_len": settings.seq_len,
        "target_len": settings.target_len,
        "dtype": settings.dtype,
        "recompute": settings.recompute,
        "optimizer": settings.optimizer,
        "parameters": count.total,
        "active_parameters": count.active,
        "active_non_embedding_parameters": count.active_non_embedding,
        "parameters_by_part": _parts(count),
        "flop": {
            "forward": {"full": flop.forward_full, "causal": flop.forward_causal},
            "train": {"full": flop.train_full, "causal": flop.train_causal},
            "recompute": flop.recompute_full,
        },
        "vector_flop": int(total_cost(ops).vector_flop),
        "per_token": _per(flop, settings.tokens_per_step),
        "per_sample": _per(flop, settings.micro_batch),
        "bytes": bytes_json(ops),
        "ops": [op_json(op) for op in ops],
        "memory": _memory(need),
        "formulas": [
            {"name": f.name, "train_flop": f.flop, "source": f.source, "differs": f.differs}
            for f in formulas(spec, settings)
        ],
    }


def _parts(count: ParameterCount) -> dict[str, int]:
    parts = ("embedding", "attention", "ffn", "norm", "head", "other")
    return {part: int(getattr(count, part)) for part in parts}


def _per(flop: StepFlop, units: int) -> dict[str, dict[str, float]]:
    """Matrix-multiply FLOP of one of the step's ``units``."""
    return {
        "forward": {"full": flop.forward_full / units, "causal": flop.forward_causal / units},
        "train": {"full": flop.train_full / units, "causal": flop.train_causal / units},
    }


def _memory(need: MemoryNeed) -> dict[str, Any]:
    return {
        "peak_bytes": round(need.peak_bytes),
        "moment": need.moment,
        "parts": [{"name": part.name, "bytes": round(part.predicted_bytes), "note": part.note} for part in need.parts],
    }


def as_text(spec: ModelSpec, settings: RunSettings) -> str:
    """A summary for people."""
    return "\n".join((*_headline(spec, settings), "", *_flop_lines(spec, settings), "", *_memory_lines(spec, settings)))


def _headline(spec: ModelSpec, settings: RunSettings) -> list[str]:
    count = parameters(spec)
    target = f" -> {settings.target_len}" if settings.target_len else ""
    work = f"{settings.micro_batch} x {settings.seq_len}{target} tokens, {settings.dtype}"
    active = f", {format_count(count.active)} active ({count.active:,})" if count.active != count.total else ""
    return [
        f"{spec.name}: {format_count(count.total)} parameters ({count.total:,}){active}",
        "  " + ", ".join(f"{part} {format_count(number)}" for part, number in _parts(count).items() if number),
        f"one step over {work}, recompute {settings.recompute}, {settings.optimizer}",
    ]


def _flop_lines(spec: ModelSpec, settings: RunSettings) -> list[str]:
    ops, flop = training_step_ops(spec, settings), step_flop(spec, settings)
    rows = [
        f"  forward    {format_flop(flop.forward_full):>14} {format_flop(flop.forward_causal):>14}",
        f"  train      {format_flop(flop.train_full):>14} {format_flop(flop.train_causal):>14}",
    ]
    if flop.recompute_full:
        rows.append(f"  recompute  {format_flop(flop.recompute_full):>14}")
    estimates = [
        f"  {f.name:<17} {format_flop(f.flop):>14} {f.flop / flop.train_full - 1:>+8.1%}   {f.differs} ({f.source})"
        for f in formulas(spec, settings)
    ]
    header = "  layer kind direction        matrix FLOP     other FLOP     bytes moved"
    kinds = [
        f"  {kind:<10} {direction:<10} {format_flop(cost.matmul_flop):>16} {format_flop(cost.vector_flop):>14} "
        f"{format_bytes(cost.moved_bytes):>15}"
        for (kind, direction), cost in cost_by_kind(ops).items()
    ]
    return [
        "matrix FLOP          full attention         causal",
        *rows,
        "",
        *(
            ["formulas for train, and how far they are from the exact count (full)", *estimates, ""]
            if estimates
            else []
        ),
        header,
        *kinds,
    ]


def _memory_lines(spec: ModelSpec, settings: RunSettings) -> list[str]:
    need = training_memory(spec, settings)
    parts = [f"  {part.name:<24} {format_bytes(part.predicted_bytes):>10}  {part.note}".rstrip() for part in need.parts]
    return [f"memory at its peak ({need.moment}): {format_bytes(need.peak_bytes)}", *parts]
