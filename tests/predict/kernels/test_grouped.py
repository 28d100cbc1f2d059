"""Experts: busiest ranks, weights that are read, times that rise with rows, said by the most trusted."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.predict.kernels.expert_loads import busiest_over_mean
from hwprof.predict.kernels.grouped import Experts, asked_of, experts_s
from hwprof.specs.catalogue.kernel_points import kernel_table, table_of
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("grouped")


def experts(rows, held=16.0, hidden=4096.0, width=1536.0, ranks=8.0):
    columns = np.broadcast_arrays(*(np.asarray(one, float) for one in (rows, held, hidden, width, ranks)))
    return Experts(**dict(zip(("rows", "experts", "hidden", "width", "ranks"), columns, strict=True)))


def times(device, dtype, asked, **changes):
    return experts_s(asked, load_device(device), dtype, table=TABLE, **changes)


def test_even_loads_have_no_busiest_rank():
    assert busiest_over_mean(128, 8, 4096, 8, 0.0) == 1
    assert busiest_over_mean(128, 1, 4096, 8, 1.2) == 1


def test_the_steeper_the_law_and_the_more_ranks_the_busier_is_the_busiest():
    by_ranks = [busiest_over_mean(128, ranks, 4096, 8, 1.2) for ranks in (2, 8, 32)]
    assert by_ranks == sorted(by_ranks)
    assert 1 < by_ranks[0] < 2
    assert busiest_over_mean(128, 32, 4096, 8, 1.01) < by_ranks[-1] < 32


def test_no_expert_gets_a_token_twice():
    """With two experts of which each token takes both, loads are even whatever the law."""
    assert busiest_over_mean(2, 2, 4096, 2, 1.2) == pytest.approx(1)


def test_rows_of_a_table_are_copies_of_tokens_on_the_busiest_rank():
    names = (
        "dtype",
        "tokens",
        "hidden",
        "ffn_hidden",
        "experts",
        "experts_per_token",
        "tp",
        "ep",
        "distribution",
        "seconds",
    )
    points = table_of(names, [["bf16", "1024", "4096", "1536", "128", "8", "2", "4", "balanced", "1"]], where="a test")
    asked = asked_of(points)
    assert (asked.rows, asked.experts, asked.width) == (1024 * 8 / 4, 32, 768)


def test_few_rows_read_the_weights_of_few_experts():
    """One row wakes one expert; a thousand rows wake all sixteen."""
    assert experts([1.0, 1000.0]).active == pytest.approx([1, 16], rel=0.04)


@pytest.mark.parametrize(
    ("device", "dtype"), [("h100-sxm5-80gb", "bf16"), ("h200-sxm5-141gb", "fp8-block"), ("tpu-v5p", "bf16")]
)
@pytest.mark.parametrize("even", [True, False])
def test_more_rows_more_experts_or_wider_ones_never_take_less_time(device, dtype, even):
    for asked in (
        experts(np.exp2(np.arange(0, 18, 0.1))),
        experts(256.0, np.exp2(np.arange(0, 8, 0.1))),
        experts(256.0, hidden=np.exp2(np.arange(10, 14, 0.05))),
        experts(4096.0, width=np.exp2(np.arange(5, 14, 0.1))),
    ):
        found = times(device, dtype, asked, even=even).seconds
        assert (np.diff(found) >= -1e-9 * found[1:]).all()


def test_many_rows_run_at_a_share_of_the_peak_and_few_at_one_of_the_bandwidth():
    spec = load_device("h200-sxm5-141gb")
    many, few = experts([65536.0]), experts([16.0], held=128.0, ranks=1.0)
    compute = many.flop / times(spec.id, "fp8-block", many).seconds / spec.matmul_flop_per_s("fp8")
    assert 0.15 < compute[0] < 0.7
    weights = few.active * 3 * 4096 * 1536 * (1 + 4 / 128)
    assert 0.3 < (weights / times(spec.id, "fp8-block", few).seconds / spec.memory.bandwidth_byte_per_s)[0] <= 1


@pytest.mark.parametrize(
    ("device", "dtype", "word", "named"),
    [
        ("h100-sxm5-80gb", "fp8", "measured", "516 fp8 expert layers measured on h100-sxm5-80gb"),
        ("h20-sxm5-96gb", "fp8", "sibling", "expert layers measured on h"),
        ("tpu-v5p", "bf16", "assumed", "as nobody measured"),
    ],
)
def test_the_basis_names_who_says_the_time(device, dtype, word, named):
    basis = times(device, dtype, experts([1024.0])).basis
    assert basis.word == word
    assert named in basis.text
