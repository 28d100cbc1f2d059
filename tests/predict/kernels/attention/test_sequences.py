"""Attention over whole sequences: the published rates of kernels, what no shape may break, and who says a time."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.predict.kernels.attention.base import AttentionKind, Dims, flop_per_pair, pairs
from hwprof.predict.kernels.attention.sequences import AttentionSizes, attention_s
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable, kernel_table
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("attention")
H100, A100 = "h100-sxm5-80gb", "a100-sxm4-80gb"


def rises(values):
    """Up to the rounding of what lies between two knots."""
    return bool((np.diff(values) >= -1e-9 * values[1:]).all())


def kind(kernel="flash-3", direction="forward", **changes):
    given = {"causal": True, "head_dim": 128, "value_dim": 128, "window": 0} | changes
    return AttentionKind(kernel=kernel, direction=direction, **given)


def sizes(heads, seq_len, group=1.0):
    heads, seq_len = np.broadcast_arrays(np.asarray(heads, float), np.asarray(seq_len, float))
    return AttentionSizes(batch_heads=heads, seq_len=seq_len, group=np.full(len(heads), float(group)))


def seconds(device, asked_kind, asked, table=TABLE, **others):
    return attention_s(asked, load_device(device), asked_kind, table=table, **others).seconds


def tflop_per_s(device, kernel, direction, heads, seq_len, products):
    """Rate of causal attention with heads of 128, counting half of the square: ``products`` of 2·128·S²/2 FLOP each."""
    found = seconds(device, kind(kernel, direction), sizes([heads], [seq_len]))
    return products * 2 * 128 * heads * seq_len**2 / 2 / found[0] / 1e12


def dims(*, causal=True, head_dim=128.0, value_dim=128.0, window=0.0):
    numbers = (np.array([number]) for number in (head_dim, value_dim, window))
    head_dim, value_dim, window = numbers
    return Dims(causal=np.array([causal]), head_dim=head_dim, value_dim=value_dim, window=window)


def tiles_of(seq_len, window, tile=128):
    """Pairs in the tiles that a causal kernel visits, one by one."""
    count = 0
    for first in range(0, seq_len, tile):
        lowest = max(0, first - window + 1) // tile * tile if window else 0
        count += tile * (first + tile - lowest)
    return count


@pytest.mark.parametrize(
    ("seq_len", "window"), [(128, 0), (256, 0), (4096, 0), (16384, 0), (4096, 1024), (16384, 4096)]
)
def test_pairs_are_those_of_the_tiles_that_are_visited(seq_len, window):
    found = pairs("flash-2", dims(window=float(window)), np.array([float(seq_len)]))[0]
    assert found == pytest.approx(tiles_of(seq_len, window), rel=0.06)


def test_backward_is_five_products_against_two():
    assert flop_per_pair("forward", dims())[0] == 512
    assert flop_per_pair("backward", dims())[0] == 1280


def test_latent_heads_count_by_their_two_widths():
    """Three products of the backward pass are as wide as keys, two as wide as values: 228.7 TFLOP in cuDNN's benchmark.

    Causal, two sequences of 32,768 tokens, 128 heads of 192 and 128 (NVIDIA/cudnn-frontend, dsv3 on H200: 450 ms at
    508 TFLOP/s).
    """
    latent = dims(head_dim=192.0, value_dim=128.0)
    flop = 2 * 128 * 32768**2 / 2 * flop_per_pair("backward", latent)[0]
    assert flop == pytest.approx(0.450227 * 508e12, rel=2e-3)


def test_long_sequences_on_a100_run_at_the_rate_that_training_measured():
    """XTuner's 7B runs from 32k to 1M tokens on A100: 175 TFLOP/s forward and backward for each further token."""
    for seq_len in (131072, 262144, 524288, 1048576):
        forward, backward = (
            seconds(A100, kind("flash-2", one), sizes([32.0], [seq_len], 1))[0] for one in ("forward", "backward")
        )
        rate = 32 * seq_len**2 / 2 * (512 + 1280) / (forward + backward) / 1e12
        assert rate == pytest.approx(175, rel=0.12)


def test_flash_2_of_pytorch_and_of_its_authors_are_alike():
    assert tflop_per_s(H100, "torch-sdpa", "forward", 16, 16384, 2) == pytest.approx(
        tflop_per_s(H100, "flash-2", "forward", 16, 16384, 2), rel=0.1
    )


def test_generations_of_kernels_differ_as_their_authors_say():
    """FlashAttention-3 is 1.5 to 2 times as fast as flash-2 on H100 (arXiv:2407.08608, abstract)."""
    for direction, products in (("forward", 2), ("backward", 5)):
        newer, older = (tflop_per_s(H100, name, direction, 16, 16384, products) for name in ("flash-3", "flash-2"))
        assert 1.5 < newer / older < 2


@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_first_flash_kernel_reaches_the_share_of_an_a100_that_its_author_says(head_dim):
    """25 to 40 % of 312 TFLOP/s, the second 50 to 73 % (arXiv:2307.08691, abstract), 16,384 tokens, causal."""
    asked = sizes([2048 / head_dim], [16384])
    for kernel, low, high in (("flash-1", 0.25, 0.40), ("flash-2", 0.46, 0.73)):
        both = (kind(kernel, one, head_dim=head_dim, value_dim=head_dim) for one in ("forward", "backward"))
        took_s = sum(seconds(A100, one, asked)[0] for one in both)
        assert low < 7 * 2 * 2048 * 16384**2 / 2 / took_s / 312e12 < high


def test_the_first_flash_kernel_runs_on_turing_and_says_what_is_assumed():
    found = attention_s(sizes([32.0], [2048.0]), load_device("t4"), kind("flash-1"), table=TABLE)
    assert found.basis.word == "assumed"
    assert "1.82 times as long as torch-sdpa" in found.basis.text


def test_whole_sequences_take_other_widths_before_short_windows():
    """A100's own points have heads of 64 with windows of 128 only; H100's are whole. Flash-2 reaches 171 TFLOP/s there.

    With heads of 64, causal, 16,384 tokens, forward and backward (arXiv:2307.08691, figure 4).
    """
    asked = sizes([32.0], [16384.0])
    both = (kind("flash-2", one, head_dim=64, value_dim=64) for one in ("forward", "backward"))
    took_s = sum(seconds(A100, one, asked)[0] for one in both)
    assert 7 * 2 * 64 * 32 * 16384**2 / 2 / took_s / 1e12 == pytest.approx(171, rel=0.15)


def test_a_curve_without_a_shape_still_predicts_it():
    """Each length of 4,096 tokens left out of flash-3's forward points: 579 TFLOP/s measured (fig. 5d)."""
    known = TABLE.of(H100)
    others = known.where(known.numbers["seq_len"] != 4096)
    table = KernelTable.holding("attention", {H100: others})
    found = seconds(H100, kind(), sizes([64.0], [4096.0]), table)[0]
    assert 4 * 64 * 128 * 4096**2 / 2 / found / 1e12 == pytest.approx(579, rel=0.06)


@pytest.mark.parametrize("device", ["h100-sxm5-80gb", "b200-sxm-180gb", "rtx-pro-6000-blackwell-server", "l40s", "t4"])
@pytest.mark.parametrize(("kernel", "direction"), [("serving", "forward"), ("torch-sdpa", "backward")])
def test_more_work_never_takes_less_time(device, kernel, direction):
    asked = kind(kernel, direction)
    lengths = 2.0 ** np.arange(0, 20, 0.23)
    for heads in (0.5, 8.0, 700.0):
        assert rises(seconds(device, asked, sizes(heads, lengths, 4)))
    counts = 2.0 ** np.arange(-4, 16, 0.23)
    for length in (1.0, 130.0, 9000.0):
        assert rises(seconds(device, asked, sizes(counts, length, 4)))


def test_nothing_beats_the_peak():
    asked = sizes(2.0 ** np.arange(0, 16.0), 32768.0)
    for device in ("h100-sxm5-80gb", "h20-sxm5-96gb", "mi300x", "rtx-4090", "gb300-nvl72"):
        for direction, per_pair in (("forward", 512), ("backward", 1280)):
            least = asked.batch_heads * 32768.0**2 / 2 * per_pair / load_device(device).matmul_flop_per_s("bf16")
            assert (seconds(device, kind("flash-2", direction), asked) >= least).all()


def test_a_window_spares_what_it_hides():
    whole, windowed = (seconds(H100, kind(window=window), sizes([64.0], [65536.0]))[0] for window in (0, 1024))
    assert windowed < whole / 16


def test_a_part_of_a_sequence_takes_its_part_of_the_time():
    """Ranks that share long sequences have fractions of heads."""
    whole, part = (seconds(H100, kind(), sizes([heads], [1048576.0]))[0] for heads in (1.0, 0.125))
    assert whole / part == pytest.approx(8, rel=0.1)


def test_a_device_without_points_takes_those_of_its_twin_on_its_own_peak():
    """H20 is an H100 with 15 % of its matrix rate (148 of 989 TFLOP/s): its softmax costs little beside products."""
    found = attention_s(sizes([64.0], [16384.0]), load_device("h20-sxm5-96gb"), kind(), table=TABLE)
    rate = 4 * 64 * 128 * 16384**2 / 2 / found.seconds[0] / 1e12
    assert 0.65 * 148 < rate < 0.9 * 148
    assert found.basis.word == "sibling"
    assert "h100" in found.basis.text
    assert found.hi_s[0] / found.seconds[0] > 1.2


def test_no_points_anywhere_is_said_and_wide():
    found = attention_s(sizes([64.0], [8192.0]), load_device("tpu-v5p"), kind("vendor"), table=TABLE)
    assert found.basis.word == "assumed"
    assert found.hi_s[0] / found.lo_s[0] > 3


def test_points_measured_here_go_before_those_of_others():
    theirs = TABLE.of(H100)
    slow = KernelPoints(theirs.numbers | {"seconds": 2 * theirs.seconds}, theirs.words)
    found = attention_s(sizes([64.0], [4096.0]), load_device(H100), kind(), table=TABLE, here=slow)
    assert found.basis.word == "measured_here"
    assert found.seconds[0] == pytest.approx(2 * seconds(H100, kind(), sizes([64.0], [4096.0]))[0], rel=0.1)


@pytest.mark.parametrize(
    ("device", "asked", "words"),
    [
        (A100, kind("flash-3"), "does not run on a100"),
        ("b200-sxm-180gb", kind("flash-1"), "does not run on b200"),
        ("v100-sxm2-32gb", kind("flash-2"), "does not run on v100"),
        (H100, kind("serving", "backward"), "no backward pass"),
        (H100, kind("flash-9"), "is unknown"),
    ],
)
def test_kernels_that_cannot_run_are_refused(device, asked, words):
    with pytest.raises(InputError, match=words):
        seconds(device, asked, sizes([1.0], [1.0]))


@pytest.mark.parametrize(("device", "measured"), [("h200-sxm5-141gb", 619), ("gb200-nvl72", 1593)])
def test_points_up_to_8192_tokens_give_the_rate_of_32768(device, measured):
    """cuDNN's own kernels, causal, 128 heads of 128: TFLOP/s forward as measured (cuDNN frontend)."""
    known = TABLE.of(device)
    table = KernelTable.holding("attention", {device: known.where(known.numbers["seq_len"] <= 8192)})
    found = seconds(device, kind("cudnn"), sizes([128.0], [32768.0], 8), table)[0]
    assert 4 * 128 * 128 * 32768**2 / 2 / found / 1e12 == pytest.approx(measured, rel=0.1)
