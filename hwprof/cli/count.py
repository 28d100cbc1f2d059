"""How is a model counted from the command line? ``hwprof count``: no hardware, no torch."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from hwprof.count.cost import Cost
from hwprof.count.memory import MemoryNeed, training_memory
from hwprof.count.op import Op
from hwprof.count.parameters import parameters
from hwprof.count.totals import cost_by_kind, formulas, step_flop, total_cost
from hwprof.count.transformer import training_step_ops
from hwprof.errors import InputError
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Dtype, OptimizerName, Recompute, RunSettings
from hwprof.units import format_bytes, format_count, format_flop

POSITIVE = click.IntRange(min=1)


@click.command(short_help="Count parameters, FLOP, bytes and memory; no hardware needed.")
@click.option("--model", required=True, help="Catalogue name, TOML file or Hugging Face config.json.")
@click.option("--batch-size", type=POSITIVE, required=True, help="Sequences in the batch.")
@click.option("--seq-len", type=POSITIVE, required=True, help="Tokens of a sequence.")
@click.option("--target-len", type=POSITIVE, help="Tokens of a target sequence, for an encoder-decoder.")
@click.option("--dtype", type=click.Choice(get_args(Dtype)), default="bf16", show_default=True)
@click.option("--recompute", type=click.Choice(get_args(Recompute)), default="none", show_default=True)
@click.option("--optimizer", type=click.Choice(get_args(OptimizerName)), default="adamw", show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    *,
    model: str,
    batch_size: int,
    seq_len: int,
    target_len: int | None,
    dtype: Dtype,
    recompute: Recompute,
    optimizer: OptimizerName,
    form: str,
) -> None:
    """Count one training step of MODEL: parameters, FLOP, bytes moved, memory. Needs no hardware.

    FLOP are those of matrix multiplications, in both attention conventions: full, and causal (half the attention).
    Bytes are those of torch's eager CUDA kernels.
    """
    from hwprof.specs.catalogue import load_model

    spec = load_model(model)
    _check_lengths(spec, seq_len=seq_len, target_len=target_len)
    settings = RunSettings(
        model=spec.name,
        device="cuda",
        dtype=dtype,
        micro_batch=batch_size,
        seq_len=seq_len,
        recompute=recompute,
        optimizer=optimizer,
    )
    click.echo(json.dumps(as_json(spec, settings), indent=2) if form == "json" else as_text(spec, settings))


def _check_lengths(spec: ModelSpec, *, seq_len: int, target_len: int | None) -> None:
    if target_len is not None:
        raise InputError(
            f"--target-len does not apply to {spec.name}, which is a {spec.kind}",
            expectation="only an encoder-decoder has a target sequence",
            remedy="leave it out; --seq-len sets the length",
        )
    if seq_len > spec.max_seq_len and spec.positions != "learned":
        click.echo(
            f"hwprof: note: {seq_len} tokens are more than the {spec.max_seq_len} that {spec.name} was made for",
            err=True,
        )


def as_json(spec: ModelSpec, settings: RunSettings) -> dict[str, Any]:
    """The JSON contract of ``hwprof count``: counts are integers, of one step over one batch."""
    ops = training_step_ops(spec, settings)
    flop, need, count = step_flop(spec, settings), training_memory(spec, settings), parameters(spec)
    return {
        "model": spec.name,
        "batch_size": settings.micro_batch,
        "seq_len": settings.seq_len,
        "dtype": settings.dtype,
        "recompute": settings.recompute,
        "optimizer": settings.optimizer,
        "parameters": count.total,
        "active_parameters": count.active,
        "flop": {
            "forward": {"full": flop.forward_full, "causal": flop.forward_causal},
            "train": {"full": flop.train_full, "causal": flop.train_causal},
            "recompute": flop.recompute_full,
        },
        "bytes": _bytes(ops),
        "ops": [_op(op) for op in ops],
        "memory": _memory(need),
        "formulas": [{"name": f.name, "train_flop": f.flop, "source": f.source} for f in formulas(spec, settings)],
    }


def _bytes(ops: tuple[Op, ...]) -> dict[str, int]:
    """Bytes read and written, by direction; clipping counts with the optimizer."""
    return {
        "forward": int(total_cost(ops, "forward").moved_bytes),
        "backward": int(total_cost(ops, "backward").moved_bytes),
        "recompute": int(total_cost(ops, "recompute").moved_bytes),
        "optimizer": int(total_cost(ops, "update").moved_bytes),
        "total": int(total_cost(ops).moved_bytes),
    }


def _op(op: Op) -> dict[str, Any]:
    """One op: costs of ONE instance; ``repeats`` says how many there are."""
    return {
        "label": op.label,
        "kind": op.kind,
        "layer_kind": op.layer_kind,
        "repeats": op.repeats,
        "parameters": op.parameters,
        "forward": _cost(op.forward),
        "backward": _cost(op.backward),
        "recompute": _cost(op.recompute),
        "update": _cost(op.update),
        "saved_bytes": op.saved_bytes,
    }


def _cost(cost: Cost) -> dict[str, int]:
    return {
        "matmul_flop": int(cost.matmul_flop),
        "vector_flop": int(cost.vector_flop),
        "read_bytes": int(cost.read_bytes),
        "write_bytes": int(cost.write_bytes),
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
    work = f"{settings.micro_batch} x {settings.seq_len} tokens, {settings.dtype}"
    return [
        f"{spec.name}: {format_count(count.total)} parameters ({count.total:,})",
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
    estimates = [f"  {f.name:<17} {format_flop(f.flop):>14}   ({f.source})" for f in formulas(spec, settings)]
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
        "formulas for train",
        *estimates,
        "",
        header,
        *kinds,
    ]


def _memory_lines(spec: ModelSpec, settings: RunSettings) -> list[str]:
    need = training_memory(spec, settings)
    parts = [f"  {part.name:<24} {format_bytes(part.predicted_bytes):>10}  {part.note}".rstrip() for part in need.parts]
    return [f"memory at its peak ({need.moment}): {format_bytes(need.peak_bytes)}", *parts]
