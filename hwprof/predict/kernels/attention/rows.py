"""How long does each row of a table of attention kernels take? Rows of one kind are asked together."""

from __future__ import annotations

import numpy as np

from hwprof.errors import InputError
from hwprof.predict.curves.rows import RowTimes
from hwprof.predict.kernels.attention.base import KERNELS, AttentionKind
from hwprof.predict.kernels.attention.decode import CACHE_DTYPES, DecodeKind, DecodeSizes, decode_s
from hwprof.predict.kernels.attention.sequences import AttentionSizes, attention_s
from hwprof.predict.kernels.row_kinds import alike, refuse_unknown
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

ATTENTION_COLUMNS = (
    "dtype", "direction", "causal", "batch_size", "seq_len", "heads", "kv_heads", "head_dim", "window"
)  # fmt: skip
"""And, where they are there, ``kernel`` (else serving's) and ``value_dim`` (else as wide as keys)."""

DECODE_COLUMNS = ("batch_size", "cache_len", "heads", "kv_heads", "head_dim", "window", "cache_dtype")

LONG = 1024
"""Tokens from which attention is counted apart from shorter."""

WORDS = {"dtype": ("bf16", "fp16"), "direction": ("forward", "backward"), "causal": ("yes", "no"), "kernel": KERNELS}


def attention_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Times of the rows of one device; a row with an unknown word is refused with the reason."""
    numbers, words = rows.numbers, dict(rows.words)
    words.setdefault("kernel", np.full(len(rows), "serving"))
    values = numbers.get("value_dim", numbers["head_dim"])
    times = RowTimes.empty(len(rows))
    times.group[:] = [_attention_group(length) for length in numbers["seq_len"]]
    refuse_unknown(times, {name: words[name] for name in WORDS}, WORDS)
    kinds = zip(
        words["kernel"],
        words["direction"],
        words["causal"],
        numbers["head_dim"],
        values,
        numbers["window"],
        strict=True,
    )
    for (kernel, direction, causal, head_dim, value_dim, window), index in alike(kinds, times):
        kind = AttentionKind(
            kernel=kernel,
            direction=direction,
            causal=causal == "yes",
            head_dim=int(head_dim),
            value_dim=int(value_dim),
            window=int(window),
        )
        here = {name: column[index] for name, column in numbers.items()}
        sizes = AttentionSizes(
            batch_heads=here["batch_size"] * here["heads"],
            seq_len=here["seq_len"],
            group=here["heads"] / here["kv_heads"],
        )
        try:
            times.put(index, attention_s(sizes, device, kind, table=table), name=f"{kernel} attention {direction}")
        except InputError as error:
            times.refuse(index, str(error))
    return times


def decode_rows(device: DeviceSpec, rows: KernelPoints, table: KernelTable) -> RowTimes:
    """Times of the rows of one device; a row with an unknown format is refused with the reason."""
    numbers = rows.numbers
    times = RowTimes.empty(len(rows))
    times.group[:] = ["decode attention"] * len(rows)
    refuse_unknown(times, {"cache_dtype": rows.words["cache_dtype"]}, {"cache_dtype": CACHE_DTYPES})
    kinds = zip(rows.words["cache_dtype"], numbers["head_dim"], numbers["window"], strict=True)
    for (cache_dtype, head_dim, window), index in alike(kinds, times):
        kind = DecodeKind(cache_dtype=cache_dtype, head_dim=int(head_dim), value_dim=int(head_dim), window=int(window))
        here = {name: column[index] for name, column in numbers.items()}
        sizes = DecodeSizes(
            key_heads=here["batch_size"] * here["kv_heads"],
            cache_len=here["cache_len"],
            group=here["heads"] / here["kv_heads"],
        )
        times.put(index, decode_s(sizes, device, kind, table=table), name=f"decode attention {cache_dtype}")
    return times


def _attention_group(seq_len: float) -> str:
    return "attention from 1,024 tokens" if seq_len >= LONG else "attention below"
