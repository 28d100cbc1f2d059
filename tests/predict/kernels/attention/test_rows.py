"""Rows of tables: predicted by kind, refused by reason, never by what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.kernels.attention.rows import attention_rows, decode_rows
from hwprof.specs.catalogue.kernel_points import KernelTable, kernel_table, table_of
from hwprof.specs.catalogue.lookup import load_device

ATTENTION, DECODE = kernel_table("attention"), kernel_table("decode")
NAMES = ("dtype", "direction", "causal", "batch_size", "seq_len", "heads", "kv_heads", "head_dim", "window", "seconds")


def rows(*cells, names=NAMES):
    return table_of(names, [[str(cell) for cell in row] for row in cells], where="test")


def test_what_was_measured_is_never_read():
    blank, false = (rows(["bf16", "forward", "yes", 2, 4096, 32, 8, 128, 0, cell]) for cell in ("nan", 1e9))
    first, second = (attention_rows(load_device("h100"), one, ATTENTION) for one in (blank, false))
    assert first.seconds[0] == second.seconds[0]
    assert first.lo_s[0] < first.seconds[0] < first.hi_s[0]


def test_rows_keep_their_order_and_their_groups():
    table = rows(
        ["bf16", "forward", "yes", 1, 8192, 32, 8, 128, 0, "nan"],
        ["bf16", "forward", "yes", 1, 64, 32, 8, 64, 128, "nan"],
        ["bf16", "forward", "yes", 1, 2048, 32, 8, 128, 0, "nan"],
    )
    times = attention_rows(load_device("h100"), table, ATTENTION)
    assert times.group == ["attention from 1,024 tokens", "attention below", "attention from 1,024 tokens"]
    assert times.seconds[0] > times.seconds[2] > times.seconds[1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["int4", "forward", "yes", 1, 64, 32, 8, 128, 0, "nan"], "dtype 'int4' is unknown; known: bf16, fp16"),
        (["bf16", "sideways", "yes", 1, 64, 32, 8, 128, 0, "nan"], "direction 'sideways' is unknown"),
        (["bf16", "forward", "perhaps", 1, 64, 32, 8, 128, 0, "nan"], "causal 'perhaps' is unknown; known: yes, no"),
        (["bf16", "backward", "yes", 1, 64, 32, 8, 128, 0, "nan"], "serving has no backward pass"),
    ],
)
def test_a_row_is_refused_with_the_reason(row, words):
    times = attention_rows(load_device("h100"), rows(row), ATTENTION)
    assert words in times.refused[0]
    assert np.isnan(times.seconds[0])


def test_a_column_may_name_the_kernel():
    table = rows(
        ["bf16", "backward", "yes", 2, 4096, 32, 8, 128, 0, "nan", "flash-2"],
        ["bf16", "backward", "yes", 2, 4096, 32, 8, 128, 0, "nan", "flash-3"],
        names=(*NAMES, "kernel"),
    )
    times = attention_rows(load_device("h100"), table, ATTENTION)
    assert times.seconds[0] > 1.3 * times.seconds[1]
    assert {basis.word for basis in times.bases.values()} == {"measured"}


def test_shapes_held_back_are_predicted_and_lie_inside():
    """A quarter of the shapes of one device, taken out: median within 5 %, nine of ten within 15 % and inside."""
    known = ATTENTION.of("b200-sxm-180gb")
    known = known.where(known.words["kernel"] == "serving")
    back = np.arange(len(known)) % 4 == 1
    table = KernelTable.holding("attention", {"b200-sxm-180gb": known.where(~back)})
    asked = known.where(back)
    times = attention_rows(load_device("b200-sxm-180gb"), asked, table)
    missed = np.abs(np.log(times.seconds / asked.seconds))
    inside = (times.lo_s <= asked.seconds) & (asked.seconds <= times.hi_s)
    assert np.median(missed) < 0.05
    assert np.quantile(missed, 0.9) < 0.15
    assert inside.mean() > 0.85


def test_decode_rows_refuse_an_unknown_cache_alone():
    names = ("batch_size", "cache_len", "heads", "kv_heads", "head_dim", "window", "cache_dtype", "seconds")
    table = rows([8, 4096, 32, 8, 128, 0, "bf16", "nan"], [8, 4096, 32, 8, 128, 0, "int2", "nan"], names=names)
    times = decode_rows(load_device("h100"), table, DECODE)
    assert times.refused[0] == ""
    assert "cache_dtype 'int2' is unknown" in times.refused[1]
    assert times.group == ["decode attention", "decode attention"]
