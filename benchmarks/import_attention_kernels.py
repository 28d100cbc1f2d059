"""Brings public tables of attention, decode, elementwise and training kernels into hardware_specs/kernels.

    python benchmarks/import_attention_kernels.py FOLDER

FOLDER holds attention.csv.gz, decode.csv.gz, elementwise.csv.gz and training.csv.gz, one row a measured kernel with its
device and its source. Rows that cannot be true are clipped or left out, as the rules below say.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from hwprof.specs.catalogue.lookup import load_device

Row = dict[str, str]

ROOT = Path(__file__).resolve().parents[1] / "hardware_specs" / "kernels"

ELEMENT_BYTES = {"fp8": 1, "fp16": 2, "bf16": 2, "fp32": 4}

KEY_SHARE = {
    "Llama-2-7b-hf": 1.0, "internlm-20b": 1.0, "Qwen-72B": 1.0, "phi-2": 1.0, "Llama-2-70b-hf": 0.125,
    "CodeLlama-34b-Instruct-hf": 0.125, "Meta-Llama-3-70B": 0.125, "Meta-Llama-3-8B": 0.25,
}  # fmt: skip
"""Key heads over query heads of the models whose rotary kernels were timed (their config.json): the kernel turns the
keys, too, but the table names the width of the queries alone."""

PLAIN_FEED_FORWARD = "phi-2"
"""Its activation has no gate: half of the traffic that the table's width says."""


def main(folder: Path) -> None:
    """Write one file a device and kind."""
    for kind, rule in RULES.items():
        by_device: dict[str, list[Row]] = defaultdict(list)
        for row in _read(folder / f"{'training' if kind == 'training_ops' else kind}.csv.gz"):
            for kept in rule(row):
                by_device[kept.pop("device")].append(kept)
        for device, rows in sorted(by_device.items()):
            _write(ROOT / kind / f"{device}.csv.xz", rows)


def attention(row: Row) -> Iterable[Row]:
    """Serving's prefill kernels; values are as wide as keys."""
    names = ("direction", "causal", "batch_size", "seq_len", "heads", "kv_heads", "head_dim")
    yield {
        "device": row["device"],
        "kernel": "serving",
        "dtype": row["dtype"],
        **{name: row[name] for name in names},
        "value_dim": row["head_dim"],
        "window": row["window"],
        "seconds": row["seconds"],
        "source": row["source"],
    }


def decode(row: Row) -> Iterable[Row]:
    """No faster than the memory: a cache that was read again from the second-level cache is none in a real model."""
    tokens = int(row["cache_len"]) if row["window"] == "0" else min(int(row["cache_len"]), int(row["window"]))
    heads = int(row["batch_size"]) * int(row["kv_heads"])
    cache_bytes = 2 * heads * tokens * int(row["head_dim"]) * ELEMENT_BYTES[row["cache_dtype"]]
    yield row | {"seconds": _no_faster(row, cache_bytes, cached_bytes=0.0)}


def elementwise(row: Row) -> Iterable[Row]:
    """Rotary kernels with the width of the keys, no gate where there is none, no faster than memory beyond caches."""
    model = row["source"].split("/")[-2]
    if row["op"] == "gated_activation" and model == PLAIN_FEED_FORWARD:
        return
    key_width = round(int(row["width"]) * KEY_SHARE[model]) if row["op"] == "rope" else 0
    elements = int(row["rows"]) * (int(row["width"]) + key_width)
    l2_bytes = load_device(row["device"]).memory.l2_bytes or 0.0
    moved_bytes = PASSES.get(row["op"], 2) * elements * ELEMENT_BYTES[row["dtype"]]
    seconds = _no_faster(row, moved_bytes, cached_bytes=2 * l2_bytes)
    source = row.pop("source")
    yield row | {"key_width": str(key_width), "seconds": seconds, "source": source}


PASSES = {"add": 3, "mul": 3, "div": 3, "pow": 3, "gated_activation": 3}


def _no_faster(row: Row, moved_bytes: float, *, cached_bytes: float) -> str:
    """The measured seconds, or those of the datasheet's bandwidth where they beat it on more than a cache holds."""
    least_s = moved_bytes / load_device(row["device"]).memory.bandwidth_byte_per_s
    return f"{least_s:.4g}" if moved_bytes > cached_bytes and float(row["seconds"]) < least_s else row["seconds"]


SIZES: dict[str, Callable[[dict[str, int], int], tuple[int, int]]] = {
    "cross_entropy": lambda s, x: (s["B"] * s["T"], x),
    "megatron_cross_entropy": lambda s, x: (s["S"] * s["B"], x),
    "megatron_rms_norm": lambda s, x: (s["S"] * s["B"], x),
    "megatron_swiglu": lambda s, x: (s["S"] * s["B"], x),
    "rms_norm": lambda s, x: (s["M"], x),
    "fused_add_rms_norm": lambda s, x: (s["M"], x),
    "layer_norm": lambda s, x: (s["M"], x),
    "relu_squared": lambda s, x: (s["M"], x),
    "softmax": lambda s, x: (s["M"], x),
    "rope": lambda s, x: (
        s.get("seq_len", x), s.get("hidden_size", x) // s["num_q_heads"] * (s["num_q_heads"] + s["num_kv_heads"])
    ),
    "embedding": lambda s, _: (s["B"] * s["T"], s["D"]),
}  # fmt: skip
"""Rows and width of an op's main tensor from a benchmark's setting and its swept size."""

STATED = {
    "cross_entropy": "fp32",
    "megatron_cross_entropy": "bf16",
    "megatron_rms_norm": "bf16",
    "megatron_swiglu": "bf16",
}
"""Formats where the setting has none: torch's default in Liger's first benchmark, bf16 in its Megatron ones."""

IN_GIB = {"relu_squared", "softmax"}
"""Their peaks are called MB, but 0.02 of them for tensors of 8 MB can only be GiB."""

LARGEST_TABLE = 32768
"""Rows of an embedding's table: a gradient as large as the table hides what the tokens cost."""


BOTH_PASSES = {"megatron_cross_entropy", "megatron_swiglu"}


def training_ops(row: Row) -> Iterable[Row]:
    """Norms, rotary, activations, losses and embeddings, eager and fused; ms and MB as seconds and bytes.

    What two of the Megatron benchmarks call backward is both passes, as their equal figures show. The peak of an
    embedding holds its table.
    """
    sizes = SIZES.get(row["kernel"])
    swept = int(row["x_value"])
    if sizes is None or (row["kernel"] == "embedding" and swept > LARGEST_TABLE):
        return
    setting = json.loads(row["setting"])
    rows, width = sizes(setting, swept)
    dtype = setting.get("dtype", STATED.get(row["kernel"], "")).removeprefix("torch.")
    direction = row["direction"]
    if row["kernel"] in BOTH_PASSES and direction == "backward":
        return
    op = row["kernel"].removeprefix("megatron_")
    speed = row["metric"] == "speed"
    if not speed and row["kernel"] == "embedding":
        return
    yield {
        "device": row["device"],
        "op": op,
        "provider": row["provider"],
        "direction": direction,
        "dtype": {"float32": "fp32", "bfloat16": "bf16"}.get(dtype, dtype),
        "rows": str(rows),
        "width": str(width),
        "seconds": f"{float(row['value']) / 1e3:.6g}" if speed else "nan",
        "peak_bytes": "nan" if speed else f"{float(row['value']) * (2**30 if row['kernel'] in IN_GIB else 2**20):.6g}",
        "source": row["source"],
    }


RULES: dict[str, Callable[[Row], Iterable[Row]]] = {
    "attention": attention, "decode": decode, "elementwise": elementwise, "training_ops": training_ops
}  # fmt: skip


def _read(path: Path) -> list[Row]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[Row]) -> None:
    """Sorted and with no date inside, so that the same rows are the same bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: [_order(cell) for cell in row.values()]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME))


def _order(cell: str) -> tuple[float, str]:
    try:
        return float(cell), ""
    except ValueError:
        return 0.0, cell


if __name__ == "__main__":
    main(Path(sys.argv[1]))
