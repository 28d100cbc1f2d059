"""Claims about the attention probe: its count, its rate, whose kernel it calls, and that wrong results are errors."""

import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from hypothesis import given
from hypothesis import strategies as st
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.count.ops.precision import Precision
from hwprof.count.ops.table import OPS, Execution
from hwprof.errors import WorkError
from hwprof.measure.probes import attention
from hwprof.measure.probes.attention import PASSES, AttentionShape, attention_ceiling
from hwprof.measure.probes.attention_check import TOLERANCE, check_attention
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.timing import WallTimer
from hwprof.specs.catalogue.lookup import load_model
from hwprof.train.attention import AttentionCore

CPU = torch.device("cpu")
DECODER = load_model("tiny").model_copy(update={"heads": 4, "kv_heads": 2, "head_dim": 16})
ENCODER = load_model("encoder-base").model_copy(
    update={"heads": 4, "kv_heads": 4, "head_dim": 16, "d_model": 64, "dropout": 0.0}
)


def shape_of(spec=DECODER, batch=2, seq_len=8):
    return AttentionShape(spec=spec, batch=batch, seq_len=seq_len)


def ceiling(spec=DECODER, direction="forward", dtype="fp32", deadline_s=1000.0, seq_len=8, script=(0.5,) * 5):
    timer = ScriptedTimer(script)
    return attention_ceiling(
        made_up_bench(timer), dtype, shape_of(spec, seq_len=seq_len), direction, deadline_s=deadline_s
    )


def operands(spec=DECODER, dtype="fp32", seq_len=24):
    return attention._operands(CPU, dtype, shape_of(spec, seq_len=seq_len)).all


def test_scores_and_mixing_are_counted_and_a_causal_model_counts_half():
    # 2 sequences x 4 heads x 8 x 8 scores of 16 multiply-adds, twice (scores, mixing), 2 FLOP each
    assert shape_of(ENCODER).flop("forward") == 2 * 4 * 8 * 8 * 16 * 2 * 2 == 32768
    assert shape_of(ENCODER).flop("backward") == 65536
    assert shape_of(DECODER).flop("forward") == 16384
    assert shape_of(DECODER).flop("backward") == 32768


@given(batch=st.integers(1, 5), seq_len=st.integers(1, 65), causal=st.booleans())
def test_rates_are_of_the_flop_that_the_op_table_counts(batch, seq_len, causal):
    spec = DECODER if causal else ENCODER
    cost = OPS["attention_core"](
        Execution(precision=Precision.of("fp32")),
        batch=batch,
        seq_len=seq_len,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        causal=causal,
    )
    shape = shape_of(spec, batch=batch, seq_len=seq_len)
    assert shape.flop("forward") == cost.forward.matmul_flop
    assert shape.flop("backward") == cost.backward.matmul_flop


@pytest.mark.parametrize(("direction", "flop_per_s"), [("forward", 32768.0), ("backward", 65536.0)])
def test_a_pass_is_named_by_its_shape_and_rated_by_its_own_work(direction, flop_per_s):
    found = ceiling(direction=direction)
    assert found.name == f"attention.fp32.2x4x2x8x16.{direction}"
    assert (found.kind, found.unit, found.dtype) == ("compute", "flop_per_s", "fp32")
    assert found.value == flop_per_s


def test_conditions_say_which_convention_the_rate_is_in():
    assert ceiling(DECODER).conditions["counted_flop"] == "causal: half of all products"
    assert ceiling(ENCODER).conditions["counted_flop"] == "full: all products"


def test_a_single_token_has_no_rate():
    with pytest.raises(CannotRunError, match="single token"):
        ceiling(seq_len=1)


def test_tf32_has_no_meaning_on_a_cpu():
    with pytest.raises(CannotRunError, match="tensor cores"):
        ceiling(dtype="tf32")


def test_gradients_are_there_where_the_caller_works_without_them():
    with torch.inference_mode():
        assert ceiling(direction="backward").value == 65536.0


def test_dropout_of_the_model_is_in_what_is_timed():
    spec = ENCODER.model_copy(update={"dropout": 0.5})
    for with_dropout, differs in ((True, True), (False, False)):
        work = attention._work(
            attention._core(spec, CPU, dropout=with_dropout),
            attention._operands(CPU, "fp32", shape_of(spec)),
            "forward",
        )
        assert torch.equal(work(), work()) != differs
    assert ceiling(spec).conditions["dropout"] == 0.5


def test_a_decoder_is_probed_by_the_core_that_it_trains_with():
    core = attention._core(DECODER, CPU, dropout=True)
    assert isinstance(core, AttentionCore)
    assert core.training


def test_an_encoder_is_probed_by_what_its_stock_layer_computes():
    stock = torch.nn.MultiheadAttention(64, 4, batch_first=True)
    vectors = torch.randn(2, 8, 64)
    heads = [
        one.unflatten(-1, (4, 16)) for one in F.linear(vectors, stock.in_proj_weight, stock.in_proj_bias).chunk(3, -1)
    ]
    mixed = attention._core(ENCODER, CPU, dropout=True)(*heads)
    expected, _ = stock(vectors, vectors, vectors, need_weights=False)
    torch.testing.assert_close(stock.out_proj(mixed), expected)


@pytest.mark.parametrize("spec", [DECODER, ENCODER], ids=["decoder", "encoder"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("seq_len", [2, 100])
def test_right_attention_passes_in_each_dtype(spec, dtype, seq_len):
    core = attention._core(spec, CPU, dropout=False)
    check_attention(core, operands(spec, dtype, seq_len), causal=spec.causal, tolerance=TOLERANCE[dtype])


def _sdpa(query, key, value, **options):
    options = {"is_causal": True, "enable_gqa": True} | options
    heads = (one.transpose(1, 2) for one in (query, key, value))
    return F.scaled_dot_product_attention(*heads, **options).transpose(1, 2).flatten(2)


def _last_token_left_out(query, key, value):
    mixed = _sdpa(query, key, value)
    return torch.cat((mixed[:, :-1], torch.zeros_like(mixed[:, -1:])), dim=1)


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(_context, tensor):
        return tensor.clone()

    @staticmethod
    def backward(_context, gradient):
        return torch.zeros_like(gradient)


WRONG = {
    "all zero": lambda q, k, v: 0 * _sdpa(q, k, v),
    "not a number": lambda q, k, v: float("nan") * _sdpa(q, k, v),
    "no mask": lambda q, k, v: _sdpa(q, k, v, is_causal=False),
    "no scale": lambda q, k, v: _sdpa(q, k, v, scale=1.0),
    "last token missing": _last_token_left_out,
    "heads in another order": lambda q, k, v: _sdpa(q.flip(2), k, v),
    "groups interleaved": lambda q, k, v: _sdpa(q, k.repeat(1, 1, 2, 1), v.repeat(1, 1, 2, 1)),
    "query without gradient": lambda q, k, v: _sdpa(_NoGradient.apply(q), k, v),
    "key without gradient": lambda q, k, v: _sdpa(q, _NoGradient.apply(k), v),
    "value without gradient": lambda q, k, v: _sdpa(q, k, _NoGradient.apply(v)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_attention_or_a_wrong_gradient_is_an_error_in_the_coarsest_dtype_too(case):
    check_attention(_sdpa, operands(), causal=True, tolerance=TOLERANCE["bf16"])
    with pytest.raises(WorkError, match=r"attention in float32: .* is wrong by"):
        check_attention(WRONG[case], operands(), causal=True, tolerance=TOLERANCE["bf16"])


@pytest.mark.parametrize("direction", PASSES)
def test_real_attention_runs_between_a_megaflop_and_a_petaflop_per_second(direction):
    real = made_up_bench(WallTimer(), samples=3)
    found = attention_ceiling(real, "fp32", shape_of(batch=1, seq_len=64), direction, deadline_s=0.2)
    assert 1e6 < found.value < 1e15


def test_endless_noise_ends_with_the_time_set_aside():
    noisy = itertools.cycle([1.0, 2.0, 3.0, 4.0])
    found = ceiling(deadline_s=30.0, script=noisy)
    assert not found.stable
    assert found.conditions["discarded_samples"] > 0
