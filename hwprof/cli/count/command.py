"""How is a model counted from the command line? ``hwprof count``: no hardware, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

import click

from hwprof.cli.count.inference import count_inference, inference_options, refuse_inference_options
from hwprof.cli.count.job import counted_job, job_part, job_words, refuse_job_options
from hwprof.cli.count.module import count_module, module_options, refuse_module_options
from hwprof.cli.count.notes import note, note_length
from hwprof.cli.count.step_report import Counted, as_json, as_text
from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, tell, verbose_option
from hwprof.cli.job_options import POSITIVE, TOKENS, capture_options, job_options, model_option, seq_len_of
from hwprof.count.blocks.transformer import CONVENTIONS, training_step_ops
from hwprof.count.job.totals import flop_of
from hwprof.count.memory.step import training_memory
from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype, OptimizerName, Recompute, RunSettings
from hwprof.specs.job.switches import JobDtype, JobOptimizer
from hwprof.specs.model.spec import ModelSpec

if TYPE_CHECKING:
    from hwprof.session.captured import Shapes

_RUN_DTYPES: dict[JobDtype, Dtype] = {name: name for name in get_args(Dtype)}
_RUN_OPTIMIZERS: dict[JobOptimizer, OptimizerName] = {name: name for name in get_args(OptimizerName)}
"""What hwprof's own training loop has; of the rest, jobs alone are counted."""


@click.command(
    epilog=examples(
        "hwprof count --model 70b --batch-size 1 --seq-len 4096",
        "hwprof count --model 8b --batch-size 1 --seq-len 8192 --tp 2 --pp 4 --dp 2 --micro-batches 8",
        "hwprof count --model 8b --inference --batch-size 16 --prompt-len 1024 --new-tokens 256 --hardware h100-sxm",
    )
)
@model_option()
@click.option("--batch-size", type=POSITIVE, help="Sequences in the batch; default: 1.")
@click.option(
    "--seq-len",
    type=TOKENS,
    help="Tokens of a sequence; an image has its patches'; default: the model's, at most 4096.",
)
@click.option("--target-len", type=POSITIVE, help="Tokens of an encoder-decoder's target; default: --seq-len.")
@capture_options
@job_options("dtype", "recompute", "optimizer")
@verbose_option
@format_option
@module_options
@inference_options
@job_part
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    model: str | None,
    batch_size: int | None,
    seq_len: int | None,
    target_len: int | None,
    dtype: JobDtype,
    recompute: Recompute,
    optimizer: JobOptimizer,
    verbose: bool,
    output_format: str,
    target: str | None,
    inference: bool,
    **_more: object,
) -> None:
    """Count one training step of MODEL: parameters, FLOP, bytes moved, memory. Needs no hardware.

    FLOP are those of matrix multiplications, in both attention conventions: full, and causal (half the attention, and
    in layers with a window only what it holds). Bytes are those of torch's eager CUDA kernels, or of compiled ones.

    With --inference: a prefill over prompts, the decode steps after it, the key-value cache and the memory; with
    --hardware also the least time of a token that the device's datasheet allows.

    With a degree (--tp, --pp ...), a storage or an adaptation: the memory of one device of a training job, whose
    replicas work on micro-batches of --batch-size sequences; FLOP and bytes are those of one micro-batch.
    """
    run_dtype = _RUN_DTYPES.get(dtype, "bf16")
    if target is not None or inference:
        refuse_job_options(context, dtype=dtype, optimizer=optimizer)
    if target is not None or not inference:
        refuse_inference_options(context)
    if target is not None:
        count_module(context, dtype=run_dtype)
        return
    refuse_module_options(context)
    if model is None:
        raise click.UsageError("Missing option '--model'.")
    batch_size = context.params["batch_size"] = batch_size or 1
    from hwprof.session.captured import counted_model

    if inference:
        count_inference(context, model, _shapes(context, run_dtype))
        return
    spec = counted_model(model, _shapes(context, run_dtype))
    length = _length(spec, seq_len=seq_len, target_len=target_len)
    how = {
        "dtype": run_dtype,
        "micro_batch": batch_size,
        "compile": bool(context.params["compile"]),
        "recompute": recompute,
    }
    settings = _settings(spec, length, target_len, optimizer, how)
    if job_words(context, dtype=dtype, optimizer=optimizer):
        counted = counted_job(context, spec, settings, dtype=dtype, optimizer=optimizer)
    else:
        counted = _counted_run(spec, settings)
    tell(output_format, lambda: as_json(counted), lambda: as_text(counted, verbose=verbose))


def _shapes(context: click.Context, dtype: Dtype) -> Shapes:
    """What goes in, should the model have to be captured."""
    from hwprof.session.captured import Shapes

    typed = context.params
    asked = {name: typed[name] for name in ("seq_len", "target_len", "images", "seconds", "inputs", "freeze")}
    return Shapes(batch_sizes=(typed["batch_size"],), dtype=dtype, adapted=bool(typed["lora_rank"]), **asked)


def _settings(
    spec: ModelSpec, length: int, target_len: int | None, optimizer: JobOptimizer, how: Mapping[str, object]
) -> RunSettings:
    """The step as hwprof's own loop would run it, ``how`` among its fields; says what the counts leave out."""
    if "config" in spec.source and spec.notes:
        note(spec.notes)
    note_length(spec, length, spec.encoder_side.max_seq_len if spec.encoder else spec.max_seq_len)
    note_length(spec, target_len or 0, spec.max_seq_len, side="target ")
    return RunSettings.model_validate(
        {
            "model": spec.name,
            "device": "cuda",
            "seq_len": length,
            "target_len": (target_len or length) if spec.two_sided else None,
            "optimizer": _RUN_OPTIMIZERS.get(optimizer, "adamw"),
            **how,
        }
    )


def _length(spec: ModelSpec, *, seq_len: int | None, target_len: int | None) -> int:
    """The length of a sequence: as asked for, or that of the model's images."""
    if target_len is not None and not spec.two_sided:
        raise InputError(
            f"--target-len does not apply to {spec.name}, which is a {spec.kind}",
            expectation="only an encoder-decoder has a target sequence",
            remedy="leave it out; --seq-len sets the length",
        )
    if spec.vision:
        if seq_len not in {None, spec.vision.tokens}:
            note(f"--seq-len {seq_len} is not used: an image of {spec.name} is {spec.vision.tokens} tokens")
        return spec.vision.tokens
    return seq_len or (target_len if spec.two_sided and target_len else seq_len_of(spec))


def _counted_run(spec: ModelSpec, settings: RunSettings) -> Counted:
    """A step of hwprof's own training loop on one device."""
    full, causal = (training_step_ops(spec, settings, attention=convention) for convention in CONVENTIONS)
    return Counted(
        spec=spec,
        settings=settings,
        dtype=settings.dtype,
        optimizer=settings.optimizer,
        ops=full,
        flop=flop_of(full, causal),
        need=training_memory(spec, settings),
    )
