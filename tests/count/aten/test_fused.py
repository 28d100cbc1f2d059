"""What do fused operators of other libraries cost? By hand, and against torch's own operators of the same work."""

import subprocess
import sys

import pytest

from hwprof.count.aten.recorded import is_causal, is_priced, recorded_cost
from hwprof.spans.arguments import Recorded

BF16 = "c10::BFloat16"


def _call(*dims, kinds=(), values=()):
    kinds = [*kinds, *(BF16 if each else "" for each in dims[len(kinds) :])]
    return Recorded(dims=dims, types=kinds, values=values or [""] * len(dims))


def test_flash_attention_counts_what_torchs_own_does():
    """Two sequences of 8 tokens, 4 heads of 16: tokens before heads in one, heads before tokens in the other."""
    theirs = recorded_cost("flash_attn::_flash_attn_forward", _call([2, 8, 4, 16], [2, 8, 4, 16], [2, 8, 4, 16]))
    ours = recorded_cost(
        "aten::_scaled_dot_product_flash_attention", _call([2, 4, 8, 16], [2, 4, 8, 16], [2, 4, 8, 16])
    )
    assert theirs.matmul_flop == ours.matmul_flop == 2 * 2 * 2 * 4 * 8 * 8 * 16
    assert theirs.read_bytes == ours.read_bytes == 3 * 1024 * 2


def test_backward_is_twice_forward_and_grouped_keys_are_smaller():
    dims = [[2, 8, 4, 16], [2, 8, 4, 16], [2, 8, 2, 16], [2, 8, 2, 16], [2, 8, 4, 16]]
    cost = recorded_cost("flash_attn::_flash_attn_backward", _call(*dims))
    assert cost.matmul_flop == 2 * 2 * 2 * 2 * 4 * 8 * 8 * 16
    assert (cost.read_bytes, cost.write_bytes) == (2048 * 3 + 1024 * 2, 2048 + 1024 * 2)


def test_packed_sequences_count_as_the_longest():
    """Three sequences of up to 5 tokens."""
    call = _call(
        [11, 4, 16], [11, 4, 16], [11, 4, 16], [4], [4], [], [], kinds=[BF16, BF16, BF16, "int", "int"],
        values=["", "", "", "", "", "5", "5"],
    )  # fmt: skip
    assert recorded_cost("flash_attn::_flash_attn_varlen_forward", call).matmul_flop == 2 * 3 * 4 * 5 * 5 * 32


@pytest.mark.parametrize(
    ("name", "dims", "read", "write"),
    [
        ("_C::rms_norm", ([7, 32], [7, 32], [32]), 448 * 2 + 64, 0),
        ("_C::fused_add_rms_norm", ([7, 32], [7, 32], [32]), 448 * 2 + 64, 448 * 2),
        ("_C::silu_and_mul", ([7, 32], [7, 64]), 448 + 896, 0),
        ("LigerSiLUMulFunction", ([7, 32], [7, 32]), 896, 448),
        ("LigerRMSNormFunction", ([7, 32], [32]), 448 + 64, 448),
        ("triton_poi_fused_add_0", ([7, 32], [7, 32], [7, 32]), 3 * 448, 0),
    ],
)
def test_what_passes_over_memory_once(name, dims, read, write):
    cost = recorded_cost(name, _call(*dims))
    assert (cost.matmul_flop, cost.read_bytes, cost.write_bytes) == (0, read, write)


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("_C::cutlass_scaled_mm", ([6, 10], [6, 8], [8, 10])),
        ("aiter::gemm_a8w8", ([6, 8], [10, 8])),
        ("triton_tem_fused_mm_4", ([6, 8], [8, 10], [6, 10])),
    ],
)
def test_products_of_each_order_of_arguments(name, dims):
    assert recorded_cost(name, _call(*dims)).matmul_flop == 2 * 6 * 8 * 10


def test_a_fused_head_is_three_products():
    cost = recorded_cost(
        "LigerFusedLinearCrossEntropyFunction", _call([6, 8], [100, 8], [6], kinds=[BF16, BF16, "long"])
    )
    assert cost.matmul_flop == 3 * 2 * 6 * 8 * 100


@pytest.mark.parametrize(
    ("name", "dims"), [("mine::secret", ([4, 4],)), ("_C::rms_norm", ()), ("aiter::gemm_a8w8", ([6, 8], [10, 9]))]
)
def test_what_is_not_known_or_does_not_fit_has_no_cost(name, dims):
    assert recorded_cost(name, _call(*dims)) is None


def test_kernels_belong_to_the_fused_operator_around_them():
    assert is_priced("flash_attn::_flash_attn_forward")
    assert not is_priced("mine::secret")


@pytest.mark.parametrize(
    ("name", "place", "value", "causal"),
    [
        ("aten::_scaled_dot_product_flash_attention", 4, "True", True),
        ("aten::_scaled_dot_product_flash_attention", 4, "False", False),
        ("aten::_scaled_dot_product_cudnn_attention", 6, "True", True),
        ("aten::_efficient_attention_forward", 9, "1", True),
        ("aten::_efficient_attention_forward", 9, "0", False),
        ("flash_attn::_flash_attn_forward", 5, "True", True),
        ("aten::mm", 1, "True", False),
    ],
)
def test_causal_attention_says_so_itself(name, place, value, causal):
    values = [""] * (place + 1)
    values[place] = value
    assert is_causal(name, Recorded(dims=(), types=(), values=values)) is causal


def test_every_operator_is_registered_whoever_asks():
    """A process that imports nothing else: the backward pass of a norm is not a rule for all that is unknown."""
    names = "'aten::_fused_rms_norm_backward' in ATEN, 'aten::mm' in ATEN"
    program = f"from hwprof.count.aten.registry import ATEN; print({names})"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "True True\n"
