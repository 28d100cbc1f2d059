"""How does a person type a training job and its layout? One table of options, for count, simulate and plan alike."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, get_origin

import click

from hwprof.cli.options import Decorator, FiniteRange, Listed, Whole, Word, kind_of, option_of, with_options
from hwprof.errors import InputError
from hwprof.predict.stacks import STACKS, USUAL_STACKS, Stack, stack_named
from hwprof.session.captured import Shapes, of_products
from hwprof.specs.catalogue.lookup import counted
from hwprof.specs.frozen import Record, default_of
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import JobDtype, Switches
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import checked

LONGEST_DEFAULT = 4096
"""Tokens of a sequence where none are said and the model was made for more."""
POSITIVE = Whole()
TOKENS = Whole(1024)
STACK = Word([stack.name for stack in STACKS])

_OPTIONS: dict[str, tuple[type[Record], str, str]] = {
    "seq_len": (TrainingJob, "seq_len", f"tokens of a sequence; default: the model's, at most {LONGEST_DEFAULT}"),
    "global_batch": (TrainingJob, "global_batch", "sequences of a step over all devices"),
    "micro_batch": (TrainingJob, "micro_batch", "sequences that a replica works on at a time"),
    "dtype": (TrainingJob, "dtype", "what the linear layers multiply in"),
    "optimizer": (TrainingJob, "optimizer", "what changes the weights"),
    "recompute": (TrainingJob, "recompute", "what backward computes again instead of keeping it"),
    "recompute_layers": (TrainingJob, "recompute_layers", "in how many layers; default: in all"),
    "offload": (TrainingJob, "offload", "what lives in host memory"),
    "offload_to": (TrainingJob, "offload_to", "where it lives"),
    "offload_layers": (TrainingJob, "offload_layers", "of how many layers activations are offloaded; default: of all"),
    "expert_skew": (TrainingJob, "expert_skew", "tokens of the busiest expert rank over the mean"),
    "lora_rank": (LoraSpec, "rank", "train low-rank adapters of this rank only"),
    "lora_targets": (LoraSpec, "targets", "what has adapters"),
    "qlora": (LoraSpec, "quantized", "with --lora-rank: frozen matrices in 4 bits"),
    "storage": (TrainingJob, "storage", "formats of weights, gradients and optimizer state"),
    "framework": (TrainingJob, "framework", "whose way of keeping gradients and buckets"),
    "gradient_bytes": (TrainingJob, "gradient_bytes", "width of gradients, where it is not the storage's"),
    "compile": (TrainingJob, "compiled", "a compiler makes the kernels"),
    "fused": (TrainingJob, "fused", "elementwise chains and norms are single kernels"),
    "cuda_graphs": (TrainingJob, "cuda_graphs", "the host launches whole graphs of kernels"),
    "loss": (TrainingJob, "loss", "how cross-entropy runs"),
    "attention": (TrainingJob, "attention", "kernel of attention; only materialised stores scores"),
    "optimizer_implementation": (TrainingJob, "optimizer_implementation", "kernels of the optimizer"),
    "optimizer_paged": (TrainingJob, "optimizer_paged", "optimizer state in pages that may move to the host"),
    "update_in_backward": (TrainingJob, "update_in_backward", "each weight is updated once its gradient exists"),
    "selective": (TrainingJob, "selective", "with selective recompute: what runs again, or the policy of what is kept"),
    "fp8_recipe": (TrainingJob, "fp8_recipe", "what shares a scale below 16 bits"),
    "fp8_saved": (TrainingJob, "fp8_saved", "products keep narrow operands for backward"),
    "fp8_all_gather": (TrainingJob, "fp8_all_gather", "sharded weights are gathered in the narrow format"),
    "async_tp": (TrainingJob, "async_tensor_parallel", "products run in pieces beside tensor ranks' traffic"),
    "expert_overlap": (TrainingJob, "expert_overlap", "tokens travel to experts beside another micro-batch"),
    "prefetch_layers": (TrainingJob, "prefetch_layers", "layers whose sharded weights are gathered ahead"),
    "offload_each_micro_batch": (TrainingJob, "offload_each_micro_batch", "gradients go to the host every micro-batch"),
    "wide_norms": (TrainingJob, "wide_norms", "eager RMS norms run in steps in fp32"),
    "repeat_kv": (TrainingJob, "repeats_kv", "keys and values are copied to all query heads"),
    "pipeline_outputs": (TrainingJob, "pipeline_outputs", "the last stage holds all micro-batches' logits"),
    "adapter_library": (TrainingJob, "adapter_library", "whose way of quantizing and adapting"),
    "tp": (ParallelLayout, "tensor_parallel", "tensor-parallel devices"),
    "pp": (ParallelLayout, "pipeline_parallel", "pipeline stages"),
    "vp": (ParallelLayout, "virtual_stages", "model chunks a stage (interleaved)"),
    "cp": (ParallelLayout, "context_parallel", "context-parallel devices"),
    "context_kind": (ParallelLayout, "context_kind", "with --cp: how its devices see each other's tokens"),
    "ep": (ParallelLayout, "expert_parallel", "devices over which experts are spread"),
    "etp": (ParallelLayout, "expert_tensor", "devices that share one expert; default: --tp, where --ep leaves room"),
    "dp": (ParallelLayout, "data_parallel", "data-parallel replicas"),
    "zero": (ParallelLayout, "zero_stage", "ZeRO stage; 3 = FSDP"),
    "shard_ranks": (ParallelLayout, "shard_ranks", "ranks over which ZeRO shards (HSDP); default: all"),
    "schedule": (ParallelLayout, "schedule", "default: 1f1b, interleaved with --vp"),
    "no_sequence_parallel": (ParallelLayout, "sequence_parallel", "norms and residuals whole on each tensor rank"),
    "no_overlap": (ParallelLayout, "overlap", "traffic never runs beside compute"),
}
"""What is typed -> the field that it means, and how it is explained."""

SWITCHES = tuple(name for name, (_, field, _) in _OPTIONS.items() if field in Switches.__annotations__)
"""What a stack says where nothing is typed."""

model_option = functools.partial(click.option, "--model", help="Catalogue name, TOML file or Hugging Face config.json.")


class _ImagesType(click.ParamType[tuple[int, int, int]]):
    """``NxHEIGHTxWIDTH``."""

    name = "NxHEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        """The three numbers, or a usage error."""
        parts = str(value).lower().split("x")
        if len(parts) == 2:
            parts = ["1", *parts]
        if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
            self.fail(f"{value!r} is no number of images with a height and a width, such as 2x896x896.", param, ctx)
        count, height, width = map(int, parts)
        return count, height, width


capture_options = with_options(
    click.option(
        "--images",
        type=_ImagesType(),
        help="Of a captured model: images to a sequence, height and width; --seq-len counts their tokens.",
    ),
    click.option(
        "--seconds",
        type=FiniteRange(min=0, min_open=True),
        help="Of a captured model: of sound; without it --seq-len is the samples or frames.",
    ),
    click.option(
        "--freeze",
        multiple=True,
        metavar="MODULE",
        help="Of a captured model: weights that are not trained, by a part of their name: visual, embed_tokens.",
    ),
)
"""What goes into a model that reads more than tokens."""


def job_options(*names: str, **changes: Mapping[str, Any]) -> Decorator:
    """Options of a job with the defaults of its records; ``changes``: name -> what else ``click.option`` is told."""
    return with_options(*(_option(name, changes.get(name, {})) for name in names))


def _option(name: str, changes: Mapping[str, Any]) -> Decorator:
    record, field, meaning = _OPTIONS[name]
    how = {"help": f"{meaning[0].upper()}{meaning[1:]}.", **changes}
    spelt = f"--{name.replace('_', '-')}"
    if name.startswith("no_"):
        how |= {"is_flag": True, "type": None, "default": False}
    elif name == "seq_len":
        how = {"type": TOKENS, **how}
    elif name in SWITCHES:
        how |= {"default": None}
        if get_origin(record.model_fields[field].annotation) is tuple:
            how |= {"type": Listed(kind_of(record, field)), "multiple": False}
        elif record.model_fields[field].annotation is bool:
            spelt = f"{spelt}/--no-{spelt.removeprefix('--')}"
    return option_of(record, field, spelt, name, **how)


def switch_options(default: str | None = None) -> Decorator:
    """How the software runs a step; what is not typed is as the stack has it, ``default`` where none is named."""
    usual = default or ", ".join(f"{stack} with {storage}" for storage, stack in USUAL_STACKS.items())
    words = f"Training software, for all that is not said; default: {usual}."
    stack = click.option("--stack", type=STACK, default=default, help=words)
    return with_options(stack, job_options(*SWITCHES))


def job_choices(*names: str, **meanings: str) -> Decorator:
    """The same options as lists, of what may be chosen; ``meanings`` are of those that need words of their own."""
    return with_options(*(_choice(name, meanings.get(name)) for name in names))


def _choice(name: str, meaning: str | None) -> Decorator:
    record, field, of_one = _OPTIONS[name]
    kind = Listed(kind_of(record, field))
    return click.option(f"--{name.replace('_', '-')}", type=kind, help=meaning or f"Only these: {of_one}.")


def layout_of(typed: Mapping[str, Any]) -> ParallelLayout:
    """The layout that was typed; chunks are interleaved where no schedule was named.

    Raises:
        InputError: its degrees contradict each other.
    """
    usual = {"schedule": "interleaved"} if typed["vp"] > 1 else {}
    return checked(ParallelLayout, **usual | _values_of(ParallelLayout, typed))


def stack_of(typed: Mapping[str, Any]) -> Stack:
    """The software that was typed, or the usual one of the storage that was."""
    return stack_named(typed["stack"] or USUAL_STACKS[typed["storage"] or default_of(TrainingJob, "storage")])


def job_of(typed: Mapping[str, Any], stack: Stack, *, model: ModelSpec, **fields: Any) -> TrainingJob:
    """The job that was typed, of a model as the stack stores it; ``fields`` are what follows from these.

    Raises:
        InputError: its parts contradict each other.
    """
    if typed["lora_rank"] is None and (typed["qlora"] or typed["lora_targets"] != default_of(LoraSpec, "targets")):
        raise InputError(
            "--qlora and --lora-targets describe adapters, but there are none", remedy="add --lora-rank, such as 16"
        )
    lora = checked(LoraSpec, **_values_of(LoraSpec, typed)) if typed["lora_rank"] else None
    own = stack.compiling(typed["compile"]) | _values_of(TrainingJob, typed) | {"lora": lora} | fields
    return checked(TrainingJob, model=stack.trained(model), **own)


def switched(typed: Mapping[str, Any], stack: Stack) -> dict[str, Any]:
    """Field -> value of a job, of the switches: what was typed before what the stack does by itself."""
    own = {name: typed[name] for name in SWITCHES}
    return {**stack.compiling(typed["compile"]), **_values_of(TrainingJob, own)}


def _values_of(record: type[Record], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Field -> value, of what was typed or has a default of its own."""
    return {
        field: not typed[name] if name.startswith("no_") else typed[name]
        for name, (of, field, _) in _OPTIONS.items()
        if of is record and typed.get(name) is not None
    }


def counted_hardware(hardware: str, devices: int | None) -> tuple[str, int]:
    """A device and how many of it, as ``8xh100`` or two options say.

    Raises:
        InputError: neither says how many, or they contradict each other.
    """
    count, name = counted(hardware, alone=devices is None)
    if count is None and devices is None:
        raise InputError("--devices is missing", remedy=f"give it, or name so many: --hardware 8x{hardware}")
    if count is not None and devices not in {None, count}:
        raise InputError(f"--hardware {hardware} and --devices {devices} contradict each other", remedy="leave out one")
    return name, count or devices or 1


def named_hardware(hardware: Sequence[str], devices: Sequence[int], *, alone: bool) -> dict[str, Any]:
    """Names and numbers, where ``8xh100`` says both; with ``alone`` a cluster's name does, too.

    Raises:
        InputError: the numbers contradict each other.
    """
    said = [counted(each, alone=alone) for each in hardware]
    counts = {count for count, _ in said} - {None}
    if not counts:
        return {"hardware": hardware}
    if devices or len(counts) > 1 or None in {count for count, _ in said}:
        raise InputError(
            f"--hardware {','.join(hardware)} says numbers of devices, and not the same as all else",
            remedy="name devices alone, and give --devices",
        )
    return {"hardware": tuple(name for _, name in said), "devices": tuple(counts)}


def shapes_of(typed: dict[str, Any], *, dtype: JobDtype, batch_sizes: tuple[int, ...]) -> Shapes:
    """What goes into a model, should it have to be captured."""
    return Shapes(
        batch_sizes=batch_sizes,
        seq_len=typed["seq_len"],
        dtype=of_products(dtype),
        narrow=True,
        longest=LONGEST_DEFAULT,
        images=typed["images"],
        seconds=typed["seconds"],
        freeze=typed["freeze"],
        adapted=bool(typed["lora_rank"]),
    )


def seq_len_of(model: ModelSpec) -> int:
    """Tokens of a sequence where none are said."""
    return min(model.max_seq_len, LONGEST_DEFAULT)


def check_model(model: ModelSpec, layout: ParallelLayout) -> None:
    """That the model can be divided so.

    Raises:
        InputError: it can't, and why.
    """
    experts, *_ = model.routed
    tensor, chunks = layout.tensor_parallel, layout.pipeline_parallel * layout.chunks
    pairs, ulysses = max(model.kv_heads // tensor, 1), layout.context_kind == "ulysses"
    whole = model.undivided(tensor=tensor, context=layout.context_parallel)
    wrong = {
        f"{model.heads} heads do not divide by tensor parallel {tensor}": model.whole_heads[0] % tensor != 0,
        f"{model.layers} layers are fewer than {chunks} pipeline chunks": model.pipeline_places < chunks,
        f"{model.heads // tensor} heads of a tensor rank do not divide by context parallel {layout.context_parallel}": (
            ulysses and model.heads // tensor % layout.context_parallel != 0
        ),
        f"{pairs} key and value heads of a tensor rank do not divide by context parallel {layout.context_parallel}": (
            ulysses and pairs % layout.context_parallel != 0
        ),
        whole: bool(whole),
        f"no experts that {layout.expert_tensor} devices could share": (
            model.moe is None and (layout.expert_tensor or 1) > 1
        ),
        f"{experts} experts do not divide by expert parallel {layout.expert_parallel}": (
            experts % layout.expert_parallel != 0
        ),
    }
    for fact, holds in wrong.items():
        if holds:
            raise InputError(f"{model.name}: {fact}", remedy="change the degree, or name another model")
