"""What did somebody mean who typed words that no command has, or left out what one needs? One line says it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence

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
    "--context": "--seq-len or --prompt-len or --new-tokens",
    "--context-length": "--seq-len or --prompt-len or --new-tokens",
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

SAME_OPTIONS = frozenset(
    (
        *("--gpus", "--num-gpus", "--ngpus", "--n-gpus", "--num-devices", "--gpu-type"),
        *("--accelerator", "--card", "--vram", "--gpu-memory", "--global-batch-size", "--gbs"),
        *("--mbs", "--micro-batch-size", "--seq", "--seqlen", "--seq-length", "--sequence-length", "--max-seq-len"),
        *("--batch", "--bs", "--max-length", "--context", "--context-length", "--precision", "--quantization", "--rps"),
        *("--input-len", "--output-len", "--max-new-tokens", "--concurrency", "--json", "--bf16"),
    )
)
"""Those that mean nothing else: a command that has one of ours, and no other of them, reads it so."""

_OF_INFERENCE = {"--prompt-len", "--new-tokens"}
"""They go with ``--inference``, where a command has it."""

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


_NAMED_DEVICES = re.compile(r"[0-9][0-9x×* ]*[x×*]\s*[^0-9\s].*", re.IGNORECASE)


def understood(words: Sequence[str], command: click.Command) -> list[str]:
    """Words of a command as it knows them; what it does not know stays as it is.

    Other names of options become ours. Where a command takes options alone, blanks in a value need no quotes
    (``--deadline 30 days``), a model may stand before them, and ``--devices 2x8xh100`` names the hardware, too.
    """
    options = _options_of(command)
    generates = "--inference" in words or "--inference" not in options
    meant = options if generates else {name: one for name, one in options.items() if name not in _OF_INFERENCE}
    alone = not any(isinstance(one, click.Argument) for one in command.params)
    found: list[str] = []
    left, value = list(words), -1
    while left and left[0] != "--":
        name, *equals = left.pop(0).split("=", 1)
        name, *more = _same(name, meant)
        left = [*more, *left]
        word, option = "=".join([name, *equals]), options.get(name)
        if option is not None:
            takes = not (option.is_flag or option.count)
            follows = (
                takes and not equals and left and left[0].partition("=")[0] not in options
            )  # a value may be optional
            found += [word, *([left.pop(0)] if follows else [])]
            value = len(found) - 1 if takes and (equals or follows) else -1
        elif word.startswith("-") or not alone:  # click says what is wrong with it, and the rest stays as it is
            return [*found, word, *left]
        elif value >= 0:
            found[value] += f" {word}"
        else:
            bare = "--model" in options and "--model" not in [*found, *left]
            found += ["--model", word] if bare else [word]
    return _with_hardware([*found, *left], options)


def _options_of(command: click.Command) -> dict[str, click.Option]:
    own = [one for one in command.params if isinstance(one, click.Option)]
    return {spelt: one for one in own for spelt in (*one.opts, *one.secondary_opts)}


def _same(name: str, options: Mapping[str, click.Option]) -> list[str]:
    """The option of another name, and its value where the name says that, too."""
    if name in options or name not in SAME_OPTIONS:
        return [name]
    meant = [words for each in MEANT_OPTIONS[name].split(" or ") if (words := each.split())[0] in options]
    return meant[0] if len(meant) == 1 else [name]


def _with_hardware(words: list[str], options: Mapping[str, click.Option]) -> list[str]:
    place = words.index("--devices") if "--devices" in words and "--hardware" in options else -1
    if 0 <= place < len(words) - 1 and "--hardware" not in words and _NAMED_DEVICES.fullmatch(words[place + 1]):
        words[place] = "--hardware"
    return words


def usage_line(error: click.ClickException, words: Sequence[str]) -> str:
    """A usage error in one line: what is wrong with the words that were typed, what to type, where help is."""
    context: click.Context | None = getattr(error, "ctx", None)
    said = error.format_message().rstrip(".")
    if context is None:
        return said
    if isinstance(error, click.NoSuchOption):
        said = _no_option(error.option_name, context.command)
    elif isinstance(error, click.MissingParameter):
        own = words[words.index(context.info_name) + 1 :] if context.info_name in words else words
        of_argument = f"{said}; for example `{_example(context.command)}`"
        said = _missing(context.command, understood(own, context.command)) or of_argument
    elif said.startswith("Got unexpected extra argument"):
        said = f"{said}; every value stands behind its option, as in `{_example(context.command)}`"
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
    example = _example(command)
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} missing" + (f"; for example `{example}`" if example else "")


def _example(command: click.Command) -> str:
    """The first of its help; empty where it has none."""
    lines = (line.strip() for line in (command.epilog or "").splitlines() if "hwprof " in line)
    return shlex.join(shlex.split(next(lines, "")))
