"""Take every model file of the catalogue that is a configuration through each command; print what came of it.

    python benchmarks/catalogue_walk.py                      # all of them, more than 25 minutes
    python benchmarks/catalogue_walk.py qwen3-next dit       # those whose name starts so
    python benchmarks/catalogue_walk.py --commands plan fit  # with these commands alone

A line says how it ended, how long it took, what it says first, and what of it can't be: a time of 0, more work than the
device's peak allows, less memory than the weights, FLOP of training far from six for each parameter and token, an
error without a remedy. Exit code 1: some line has such a thing. Needs transformers, and diffusers for its models.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.errors import HwprofError

MODELS = Path(__file__).resolve().parents[1] / "models"
COMMANDS = {
    "count": "count --batch-size 1 {shape}",
    "generate": "count --inference --batch-size 1 --prompt-len 256 --new-tokens 16",
    "simulate": "simulate --hardware h200 --devices {devices} --zero 3 --global-batch {devices} {shape}",
    "plan": "plan --hardware h200 --devices {devices} --global-batch {batch} {shape}",
    "fit": "fit --hardware 8xh200 {fit}",
    "deploy": "deploy --hardware 8xh200 --weights fp8 --prompt-len 512 --new-tokens 128",
}
"""What is walked -> its words; those in braces follow from the model."""

GENERATES_NOTHING = ("clip", "siglip", "dit", "flux", "sd3")
LARGE = ("deepseek", "glm-5", "kimi", "qwen3.5-397b", "minimax", "qwen3-vl-235b", "nemotron-3-super", "qwen3.5-122b")
SIX = (0.5, 2.0)
"""Training FLOP over six for each active parameter and token, between which a decoder of 512 tokens lies."""


def words_of(name: str, command: str) -> list[str]:
    """What is typed."""
    shape, fit, devices = "--seq-len 512", "--seq-len 512", 64 if name.startswith(LARGE) else 8
    if name.startswith(("clip", "siglip")):
        shape = fit = ""
    elif name.startswith(("dit", "flux", "sd3")):
        shape = fit = "--images 1x256x256"
    elif name.startswith("whisper"):
        shape = fit = "--seq-len 448"
    typed = COMMANDS[command].format(shape=shape, fit=fit, devices=devices, batch=4 * devices)
    return [*typed.split(), "--model", name, "--format", "json"]


def values_in(found: Any, key: str) -> Iterator[float]:
    """All numbers of that name, wherever they stand."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == key and isinstance(value, int | float) and not isinstance(value, bool):
                yield value
            else:
                yield from values_in(value, key)
    elif isinstance(found, list):
        for each in found:
            yield from values_in(each, key)


def absurd(command: str, name: str, said: dict[str, Any]) -> list[str]:
    """What of an answer can't be."""
    found = []
    if command == "count":
        six = 6 * said["active_parameters"] * said["seq_len"]
        share = said["flop"]["train"]["full"] / six if six else 0
        found += [f"{share:.2f} x 6N"] if not name.startswith(GENERATES_NOTHING) and not SIX[0] < share < SIX[1] else []
    if command == "generate":
        share = said["inference"]["decode"]["first_step"]["flop"] / (2 * said["parameters"])
        found += [f"a step of {share:.3f} x 2N"] if not 0.015 < share < 1.3 else []
    for key in ("step_s", "ttft_s", "tpot_s", "tokens_per_s", "peak_bytes", "weights_bytes_per_device"):
        found += [f"{key} {value}" for value in values_in(said, key) if not 0 < value < float("inf")][:1]
    for key in ("mfu", "hfu"):
        found += [f"{key} {value:.2f}" for value in values_in(said, key) if not 0 <= value < 1][:1]
    return found


def walked(name: str, command: str) -> tuple[int, float, str, list[str]]:
    """Exit code, seconds, what is said first, and what of it can't be."""
    began = time.monotonic()
    result = CliRunner().invoke(cli, words_of(name, command))
    took, errors = time.monotonic() - began, result.stderr.strip()
    raised = result.exc_info[1] if result.exc_info else None
    if isinstance(raised, HwprofError):
        errors = str(raised)
    elif raised is not None and not isinstance(raised, SystemExit):
        return result.exit_code, took, repr(raised)[:300], ["a traceback"]
    try:
        said = json.loads(result.stdout)
    except ValueError:
        return result.exit_code, took, " ".join(errors.split())[-500:], [] if "; " in errors else ["no remedy"]
    keys = {"step_s", "mfu", "peak_bytes", "ttft_s", "tpot_s", "active_parameters", "kv_cache_bytes"}
    first = {key: f"{value:.4g}" for key in sorted(keys) if (value := next(values_in(said, key), None)) is not None}
    return result.exit_code, took, json.dumps(first).replace('"', ""), absurd(command, name, said)


def main() -> int:
    """Walk those that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    given = parser.parse_args()
    wrong = 0
    for path in sorted(MODELS.glob("*.json")):
        if given.names and not path.stem.startswith(tuple(given.names)):
            continue
        for command in given.commands:
            if path.stem.startswith(GENERATES_NOTHING) and command in {"generate", "deploy"}:
                continue
            code, took, first, odd = walked(path.stem, command)
            wrong += bool(odd)
            print(
                path.stem, command, code, f"{took:.1f}", first, *(f"!! {each}" for each in odd), sep=" | ", flush=True
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
