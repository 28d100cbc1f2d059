"""What did somebody mean who typed a word that no command has, or left out what one needs? One line says it."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence

import click

MEANT_OPTIONS = {
    "--gpu": "--hardware or --devices",
    "--gpus": "--devices",
    "--num-gpus": "--devices",
    "--ngpus": "--devices",
    "--n-gpus": "--devices",
    "--world-size": "--devices",
    "--nproc-per-node": "--devices",
    "--count": "--devices",
    "--num-devices": "--devices",
    "--device": "--hardware",
    "--card": "--hardware",
    "--machine": "--hardware",
    "--accelerator": "--hardware",
    "--gpu-type": "--hardware",
    "--vram": "--memory",
    "--gpu-memory": "--memory or --device-memory",
    "--batch": "--global-batch or --batch-size",
    "--bs": "--batch-size or --global-batch",
    "--batch-size": "--global-batch or --users",
    "--global-batch-size": "--global-batch",
    "--gbs": "--global-batch",
    "--mbs": "--micro-batch",
    "--micro-batch-size": "--micro-batch",
    "--seq": "--seq-len",
    "--seqlen": "--seq-len",
    "--seq-length": "--seq-len",
    "--sequence-length": "--seq-len",
    "--max-seq-len": "--seq-len",
    "--max-length": "--seq-len",
    "--context": "--seq-len or --prompt-len",
    "--context-length": "--seq-len or --prompt-len",
    "--length": "--seq-len",
    "--lora": "--adaptation lora or --lora-rank 16",
    "--qlora": "--adaptation qlora",
    "--full": "--adaptation full",
    "--rank": "--lora-rank",
    "--precision": "--dtype",
    "--quantization": "--weights",
    "--dtype": "--weights",
    "--fp8": "--dtype fp8 or --weights fp8",
    "--bf16": "--dtype bf16",
    "--gradient-checkpointing": "--recompute full",
    "--activation-checkpointing": "--recompute full",
    "--checkpointing": "--recompute full",
    "--gradient-accumulation-steps": "--accumulation",
    "--days": "--deadline 60d",
    "--time": "--deadline",
    "--cost": "--budget",
    "--money": "--budget",
    "--usd": "--budget",
    "--power": "--site-power or --power-cap",
    "--tdp": "--power-cap",
    "--data": "--tokens",
    "--dataset-size": "--tokens",
    "--rps": "--qps",
    "--rate": "--qps",
    "--input-len": "--prompt-len",
    "--output-len": "--new-tokens",
    "--max-new-tokens": "--new-tokens",
    "--concurrency": "--users",
    "--fsdp": "--zero 3",
    "--zero-stage": "--zero",
    "--json": "--format json",
    "--config": "--model config.json",
}
"""What people call options elsewhere (torchrun, Megatron, transformers, vLLM) -> ours, the first that a command has."""

MEANT_COMMANDS = {
    "train": "run",
    "profile": "run",
    "measure": "run",
    "attach": "run",
    "bench": "probe",
    "benchmark": "probe",
    "serve": "deploy",
    "serving": "deploy",
    "inference": "deploy",
    "infer": "deploy",
    "vllm": "deploy",
    "finetune": "fit",
    "fine-tune": "fit",
    "lora": "fit",
    "qlora": "fit",
    "memory": "fit",
    "vram": "fit",
    "predict": "simulate",
    "estimate": "simulate",
    "sim": "simulate",
    "search": "plan",
    "layout": "plan",
    "cost": "plan",
    "compare": "diff",
    "flops": "count",
    "params": "count",
    "list": "specs list",
    "show": "specs show",
    "models": "specs list models",
    "devices": "specs list devices",
    "hardware": "specs list devices",
    "report": "view",
    "check": "doctor",
}


def usage_line(error: click.ClickException, words: Sequence[str]) -> str:
    """A usage error in one line: what is wrong with the words that were typed, what to type, where help is."""
    context: click.Context | None = getattr(error, "ctx", None)
    said = error.format_message().rstrip(".")
    if context is None:
        return said
    if isinstance(error, click.NoSuchOption):
        said = _no_option(error.option_name, context.command)
    elif isinstance(error, click.MissingParameter):
        said = _missing(context.command, words) or said
    elif said.startswith("No such command"):
        said = _no_command(said.split("'")[1], context.command, context.command_path)
    return f"{said} (see `{context.command_path} --help`)"


def _no_option(name: str, command: click.Command) -> str:
    known = [spelt for parameter in command.params for spelt in parameter.opts if spelt.startswith("--")]
    meant = [one for one in MEANT_OPTIONS.get(name, "").split(" or ") if one.split()[:1] and one.split()[0] in known]
    meant = meant or difflib.get_close_matches(name, known, n=2, cutoff=0.7)
    return f"no such option {name}" + (f"; did you mean {' or '.join(meant)}?" if meant else "")


def _no_command(name: str, group: click.Command, path: str) -> str:
    known = group.list_commands(click.Context(group)) if isinstance(group, click.Group) else []
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.7)
    meant = [f"`{path} {one}`" for one in near]
    if path == "hwprof" and name.lower() in MEANT_COMMANDS:
        meant = [f"`hwprof {MEANT_COMMANDS[name.lower()]}`"]
    rest = f"did you mean {' or '.join(meant)}?" if meant else f"there are {', '.join(known)}"
    return f"no such command {name!r}; {rest}"


def _missing(command: click.Command, words: Sequence[str]) -> str:
    """All options that are needed and were not typed, with an example; empty where an argument is missing."""
    typed = {word.partition("=")[0] for word in words}
    needed = [one.opts[0] for one in command.params if isinstance(one, click.Option) and one.required]
    missing = [spelt for spelt in needed if spelt not in typed]
    if not missing:
        return ""
    example = next((line.strip() for line in (command.epilog or "").splitlines() if "hwprof " in line), "")
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} missing" + (
        f"; for example `{shlex.join(shlex.split(example))}`" if example else ""
    )
