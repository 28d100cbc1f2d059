"""How near is torchtitan's own program, emulated, to what torchtitan published? A row a run.

    python benchmarks/emulate_torchtitan.py [--rows TTAN-0001,TTAN-0002]

torchtitan 0.2.2 (``pip install 'hwprof[frameworks]'``, torchao for float8) runs unmodified under ``hwprof emulate``
with the settings of each published run (``hardware_specs/published/more.csv.xz``), on a byte-level tokenizer and text
made here. Ten minutes; 8B takes a quarter of a minute, 405B some minutes. The software's overheads (``parameters fitted
for torchtitan``) were fitted on these runs by ``hwprof simulate``; operators, collectives, their order and memory are
the program's own.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import WorkError

RUNS = Path(__file__).parents[1] / "hardware_specs" / "published" / "more.csv.xz"
ROWS = tuple(f"TTAN-{number:04}" for number in (1, 2, 3, 4, 5, 6, 19, 25, 33, 34, 35, 41))
"""In bf16, or in float8 with a stated recipe; without asynchronous tensor parallelism; of models that 0.2.2 has."""
FLAVORS = {"llama3-8b": "8B", "llama3-70b": "70B", "llama3.1-405b": "405B"}
DEVICES = {"H100 SXM (HBM2e 96GB, 500W)": "h100-sxm5-96gb-hbm2e", "A100 SXM": "a100-sxm4-80gb"}
RECOMPUTE = {
    "full": ("full", "op"),
    "selective (op)": ("selective", "op"),
    "selective (every 2nd layer)": ("selective", "2"),
}


def settings(run: Mapping[str, str]) -> str:
    """A published run as torchtitan's TOML file."""
    mode, option = RECOMPUTE[run["recompute"]]
    tables: dict[str, dict[str, Any]] = {
        "model": {"name": "llama3", "flavor": FLAVORS[run["model_name"]], "hf_assets_path": "./tokenizer"},
        "training": {
            "local_batch_size": int(float(run["micro_batch_seqs"])),
            "seq_len": int(float(run["seq_len"])),
            "steps": 10,
            "dataset": "c4_test",
        },
        "parallelism": {
            "data_parallel_shard_degree": -1,
            "tensor_parallel_degree": int(float(run["tp"])),
            "context_parallel_degree": int(float(run["cp"])),
            "pipeline_parallel_degree": int(float(run["pp"])),
        },
        "activation_checkpoint": {"mode": mode, "selective_ac_option": option},
        "compile": {"enable": run["compile"] == "yes", "components": ["model"]},
    }
    if "float8" in run["precision"]:
        tables["model"]["converters"] = ["quantize.linear.float8"]
        gathers = {"enable_fsdp_float8_all_gather": True, "precompute_float8_dynamic_scale_for_fsdp": True}
        tables["quantize.linear.float8"] = {**gathers, "filter_fqns": ["output"]}
    lines = [
        f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
        for name, table in tables.items()
    ]
    return "\n".join(lines)


def furnish(folder: Path) -> None:
    """What torchtitan reads: a tokenizer of bytes, and text where its test set lies."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    tokenizer = Tokenizer(models.BPE(vocab=words | {word: 256 + n for n, word in enumerate(special)}, merges=[]))
    setattr(tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False))  # noqa: B010
    tokenizer.add_special_tokens(special)
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    names = json.dumps({"bos_token": special[0], "eos_token": special[1]})
    (folder / "tokenizer" / "tokenizer_config.json").write_text(names, encoding="utf-8")
    texts = folder / "tests" / "assets" / "c4_test"
    texts.mkdir(parents=True)
    lines = (json.dumps({"text": f"The quick brown fox {n} jumps over the lazy dog. " * 40}) for n in range(2000))
    (texts / "data.json").write_text("\n".join(lines), encoding="utf-8")


def emulated(run: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """What ``hwprof emulate`` says of a run.

    Raises:
        WorkError: torchtitan could not be followed.
    """
    (folder / "job.toml").write_text(settings(run), encoding="utf-8")
    asked = ["--hardware", DEVICES[run["accelerator"]], "--devices", run["n_devices"], "--format", "json"]
    program = ["-m", "torchtitan.train", "--job.config_file", "job.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "hwprof", "emulate", *asked, "--", *program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WorkError(done.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table and its medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    chosen = parser.parse_args().rows.split(",")
    with lzma.open(RUNS, "rt", newline="", encoding="utf-8") as file:
        runs = [run for run in csv.DictReader(file) if run["id"] in chosen]
    steps, memories, inside = [], [], 0
    print(
        "| run | devices | format | compiled | step [s] | emulated [s] | memory [GiB] | emulated [GiB] | took |\n"
        + "|---" * 9
        + "|"
    )
    for run in runs:
        with tempfile.TemporaryDirectory() as name:
            furnish(Path(name))
            begun = time.monotonic()
            found = emulated(run, Path(name))
        measured, step_s = float(run["step_s"]), found["step_s"]
        low_s, high_s = found["interval_s"]
        steps.append(abs(step_s / measured - 1))
        inside += low_s <= measured <= high_s
        held = found["memory"]["reserved_bytes"] / 2**30
        told = run["peak_mem_gib_per_device"]
        if told:
            memories.append(abs(held / float(told) - 1))
        compiled = run["compile"] or "not said"
        layout = f"{run['model_name']} {run['recompute']}, tp {float(run['tp']):.0f} | {run['n_devices']}"
        print(
            f"| {layout} | {run['precision']} | {compiled} "
            f"| {measured:.3f} | {step_s:.3f} ({step_s / measured - 1:+.1%}) | {told or 'not said'} | {held:.1f} "
            f"| {time.monotonic() - begun:.0f} s |",
            flush=True,
        )
    print(f"\nstep: median {statistics.median(steps):.1%}, most {max(steps):.1%}, {inside} of {len(steps)} inside")
    if memories:
        print(f"memory: median {statistics.median(memories):.1%}, most {max(memories):.1%}")


if __name__ == "__main__":
    main()
