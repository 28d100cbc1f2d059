"""Decode attention: bounded by the memory, by the kernel that groups heads, and said by whom."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.predict.kernels.attention.decode import DecodeKind, DecodeSizes, decode_s
from hwprof.specs.catalogue.kernel_points import KernelTable, kernel_table
from hwprof.specs.catalogue.lookup import load_device

TABLE = kernel_table("decode")
H100 = "h100-sxm5-80gb"


def rises(values):
    """Up to the rounding of what lies between two knots."""
    return bool((np.diff(values) >= -1e-9 * values[1:]).all())


def kind(cache_dtype="bf16", **changes):
    return DecodeKind(**({"cache_dtype": cache_dtype, "head_dim": 128, "value_dim": 128, "window": 0} | changes))


def sizes(key_heads, cache_len, group=4.0):
    key_heads, cache_len, group = np.broadcast_arrays(
        *(np.asarray(one, float) for one in (key_heads, cache_len, group))
    )
    return DecodeSizes(key_heads=key_heads, cache_len=cache_len, group=group)


def asked_of(device, asked_kind, asked, table=TABLE):
    return decode_s(asked, load_device(device), asked_kind, table=table)


@pytest.mark.parametrize("device", ["h100-sxm5-80gb", "b200-sxm-180gb", "a100-sxm4-80gb"])
def test_large_caches_are_read_at_most_of_the_bandwidth(device):
    """8 GiB of cache: 2 x 8 x 64 sequences of 32,768 tokens with 128 numbers of 2 bytes."""
    found = asked_of(device, kind(), sizes([512.0], [32768.0])).seconds[0]
    share = 512 * 32768 * 256 * 2 / found / load_device(device).memory.bandwidth_byte_per_s
    assert 0.7 < share <= 1


def test_half_the_bytes_take_about_half_the_time():
    wide, narrow = (asked_of(H100, kind(one), sizes([512.0], [32768.0])).seconds[0] for one in ("bf16", "fp8"))
    assert 1.5 < wide / narrow < 2.2


def test_a_window_bounds_what_is_read():
    near, far = (
        asked_of(H100, kind(window=1024), sizes([256.0], [length])).seconds[0] for length in (2048.0, 262144.0)
    )
    assert far < 2 * near


def test_more_heads_than_a_kernel_groups_read_the_cache_once_each():
    grouped, alone = (asked_of(H100, kind(), sizes([64.0], [4096.0], [group])).seconds[0] for group in (32.0, 64.0))
    assert alone > 5 * grouped


@pytest.mark.parametrize("device", ["h100-sxm5-80gb", "rtx-pro-6000-blackwell-server", "l4", "mi300x"])
def test_more_work_never_takes_less_time(device):
    steps = 2.0 ** np.arange(0, 16, 0.21)
    for other in (1.0, 60.0, 3000.0):
        assert rises(asked_of(device, kind(), sizes(steps, other)).seconds)
        assert rises(asked_of(device, kind(), sizes(other, steps)).seconds)
    groups = np.arange(1.0, 32.0)
    assert rises(asked_of(device, kind(), sizes(512.0, 4096.0, groups)).seconds)


def test_a_latent_cache_is_read_once_for_keys_and_values():
    """FlashMLA's authors name 3,000 GB/s on an H800 where memory bounds, 660 TFLOP/s where arithmetic does (README)."""
    latent = kind(head_dim=576, value_dim=0)
    few = asked_of("h800-sxm5-80gb", latent, sizes([64.0], [65536.0], [16.0]))
    assert few.lo_s[0] < 64 * 65536 * 576 * 2 / 3000e9 < few.hi_s[0]
    many = asked_of("h800-sxm5-80gb", latent, sizes([64.0], [65536.0], [128.0]))
    flop = 64 * 65536 * 128 * 2 * (576 + 512)
    assert many.lo_s[0] < flop / 660e12 < many.hi_s[0]
    assert many.basis.word == "assumed"


def test_a_device_left_out_lies_inside_what_its_twin_says():
    known = TABLE.of("h200-sxm5-141gb")
    mine = known.where((known.numbers["head_dim"] == 128) & (known.words["cache_dtype"] == "bf16"))
    mine = mine.where(mine.numbers["window"] == 0)
    table = KernelTable.holding("decode", {H100: TABLE.of(H100)})
    numbers = mine.numbers
    asked = sizes(
        numbers["batch_size"] * numbers["kv_heads"], numbers["cache_len"], numbers["heads"] / numbers["kv_heads"]
    )
    found = asked_of("h200-sxm5-141gb", kind(), asked, table)
    assert found.basis.word == "sibling"
    assert ((found.lo_s <= mine.seconds) & (mine.seconds <= found.hi_s)).mean() > 0.85
    assert np.median(np.abs(np.log(found.seconds / mine.seconds))) < 0.2


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="known: bf16, fp16, fp8"):
        asked_of(H100, kind("int3"), sizes([1.0], [1.0]))
