"""Our own models captured call by call, against the op table of their specs, label by label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from math import prod
from typing import NamedTuple

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.aten.captured import captured_ops
from hwprof.count.aten.registry import aten_cost
from hwprof.count.blocks.transformer import Precision, model_ops, training_step_ops
from hwprof.count.job.totals import total_cost
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.measure.capture.fake import all_fake, make_fake
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject
from hwprof.specs.job.labels import owner_of
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.captured import AtenCall, Capture, TensorView
from hwprof.specs.record.run import Dtype, Recompute, RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder

BATCH, SEQ_LEN = 3, 16
TOKENS = BATCH * SEQ_LEN
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16")

pytestmark = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older CPU kernels keep other tensors than those that are counted"
)


class Moved(NamedTuple):
    """Bytes read and written, forward and backward."""

    read: int = 0
    write: int = 0
    backward_read: int = 0
    backward_write: int = 0


def captured(spec: ModelSpec, dtype: Dtype = "fp32", recompute: Recompute = "none") -> Capture:
    return _captured(spec.model_dump_json(), dtype, recompute)


@cache
def _captured(dimensions: str, dtype: Dtype, recompute: Recompute) -> Capture:
    spec = ModelSpec.model_validate_json(dimensions)
    model = (Decoder if spec.kind == "decoder" else Encoder)(spec, recompute=recompute)
    fake = make_fake(model)
    tokens = all_fake(torch.zeros(BATCH, SEQ_LEN, dtype=torch.int64), fake)
    subject = Subject(name="ours", module=model, arguments=(tokens,), fake=fake)
    return capture(subject, autocast=torch.bfloat16 if dtype == "bf16" else None)


def from_spec(spec: ModelSpec, dtype: Dtype = "fp32") -> tuple[Op, ...]:
    return model_ops(spec, batch_size=BATCH, seq_len=SEQ_LEN, precision=Precision.of(dtype), device="cpu")


def by_label(ops: Iterable[Op], value: Callable[[Op], int], owners: set[str] | None = None) -> dict[str, int]:
    """Sums of all instances; under the label that a captured row bears, which is a module's."""
    sums: dict[str, int] = defaultdict(int)
    for op in ops:
        label = op.label if owners is None else owner_of(op.label, owners)
        assert label is not None
        sums[label] += value(op)
    return {label: total for label, total in sums.items() if total}


def assert_agree(spec: ModelSpec, dtype: Dtype, value: Callable[[Op], int]) -> None:
    seen = captured_ops(captured(spec, dtype))
    assert by_label(seen, value) == by_label(from_spec(spec, dtype), value, {op.label for op in seen})


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_agree_forward_and_backward(spec: ModelSpec, dtype: Dtype) -> None:
    assert_agree(spec, dtype, lambda op: int(op.forward.matmul_flop) * op.repeats)
    assert_agree(spec, dtype, lambda op: int(op.backward.matmul_flop) * op.repeats)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_bytes_and_parameters_agree(spec: ModelSpec, dtype: Dtype) -> None:
    assert_agree(spec, dtype, lambda op: op.saved_bytes * op.repeats)
    assert_agree(spec, dtype, lambda op: op.weight_copy_bytes * op.repeats)
    assert_agree(spec, dtype, lambda op: op.parameters * op.repeats)


def test_products_agree_where_half_of_causal_attention_counts(make_spec: Callable[..., ModelSpec]) -> None:
    for spec in (make_spec("llama"), make_spec("gpt2"), make_spec("encoder without dropout")):
        ops = model_ops(
            spec, batch_size=BATCH, seq_len=SEQ_LEN, precision=Precision.of("fp32"), attention="causal", device="cpu"
        )
        seen = captured_ops(captured(spec), causal_half=True)
        assert total_cost(seen).matmul_flop == total_cost(ops).matmul_flop


def test_products_are_those_that_torch_counts(spec: ModelSpec) -> None:
    model = (Decoder if spec.kind == "decoder" else Encoder)(spec)
    tokens = torch.zeros(BATCH, SEQ_LEN, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it has no formula for CPU flash
        model(tokens).sum().backward()
    assert total_cost(captured_ops(captured(spec))).matmul_flop == counter.get_total_flops()


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputed_products_agree(spec: ModelSpec, recompute: Recompute) -> None:
    settings = RunSettings(model="m", device="cpu", micro_batch=BATCH, seq_len=SEQ_LEN, recompute=recompute)
    ops = training_step_ops(spec, settings)
    seen = captured_ops(captured(spec, recompute=recompute))
    assert total_cost(seen, "recompute").matmul_flop == total_cost(ops, "recompute").matmul_flop
    assert total_cost(seen, "forward").matmul_flop == total_cost(ops, "forward").matmul_flop
    assert total_cost(seen, "backward").matmul_flop == total_cost(ops, "backward").matmul_flop


def test_each_recompute_keeps_less_than_the_one_before(make_spec: Callable[..., ModelSpec]) -> None:
    # selective keeps products in torch's own cache, which is no saved tensor of autograd
    nothing, selective, full = (
        sum(kept.size_bytes for kept in captured(make_spec("llama", layers=4), recompute=recompute).kept)
        for recompute in ("none", "selective", "full")
    )
    assert nothing > selective > full
    kept_products = TOKENS * (32 + 16 + 16 + 32 + 32 + 80 + 80 + 32) * 4
    lse = TOKENS * 4 * 4
    assert selective - full == 4 * (kept_products + lse)


def moved_by(ops: Iterable[Op], owners: set[str] | None = None) -> dict[str, Moved]:
    sums: dict[str, Moved] = defaultdict(Moved)
    for op in ops:
        label = op.label if owners is None else owner_of(op.label, owners)
        assert label is not None
        costs = (op.forward.read_bytes, op.forward.write_bytes, op.backward.read_bytes, op.backward.write_bytes)
        sums[label] = Moved(*(old + int(new) * op.repeats for old, new in zip(sums[label], costs, strict=True)))
    return sums


def differences(spec: ModelSpec, dtype: Dtype) -> dict[str, Moved]:
    """Captured bytes less the spec's, by label."""
    seen = captured_ops(captured(spec, dtype))
    ours = moved_by(from_spec(spec, dtype), {op.label for op in seen})
    theirs = moved_by(seen)
    gaps = {
        label: Moved(*(there - here for there, here in zip(theirs[label], ours[label], strict=True)))
        for label in theirs | ours
    }
    return {label: gap for label, gap in gaps.items() if any(gap)}


def norm_weights(spec: ModelSpec) -> Moved:
    """Gain (and bias) are read, their gradients written; a CPU's RMS norm also passes its row statistics on."""
    d, statistics = spec.d_model * 4, TOKENS * 4
    if spec.norm == "layernorm":
        return Moved(2 * d, 0, d, 2 * d)
    return Moved(d + 3 * statistics, 2 * statistics, d + 5 * statistics, d + 4 * statistics)


def rope_tables(spec: ModelSpec) -> Moved:
    """Eight products of a half with a table, for queries and keys."""
    tables = 8 * SEQ_LEN * spec.head_dim // 2 * 4
    return Moved(tables, 0, tables, 0)


def explained(spec: ModelSpec) -> Iterator[tuple[str, Moved]]:
    """What a spec's rows leave out, and gradient sums that they book at another use of the same tensor.

    Torch adds the gradients of a tensor's uses where the last of them comes in, which is the first in the forward pass.
    """
    x = TOKENS * spec.d_model * 4
    gradient_sum, none = Moved(0, 0, 2 * x, x), Moved(0, 0, -2 * x, -x)
    for label in ("layers.*.attention_norm", "layers.*.ffn_norm"):
        yield label, norm_weights(spec)
    if spec.positions == "rope":
        yield "layers.*.attention.rope", rope_tables(spec)
    yield "layers.*", none
    yield "layers.*", none
    if spec.norm_placement == "pre":
        yield "layers.*.attention_norm", gradient_sum
        yield "layers.*.ffn_norm", gradient_sum
        yield "layers.*.attention.value", none
        yield "layers.*.attention.query", gradient_sum
    else:
        yield "layers.*.attention.query", gradient_sum
        yield "layers.*.ffn.up", gradient_sum
    if spec.gated:
        yield "layers.*.ffn.up", none
        yield "layers.*.ffn.gate", gradient_sum


def explained_once(spec: ModelSpec) -> Iterator[tuple[str, Moved]]:
    if spec.final_norm:
        yield "final_norm", norm_weights(spec)
    if spec.positions == "learned":  # the sum is the embedding module's own; it also writes position numbers
        x, rows, numbers = TOKENS * spec.d_model * 4, SEQ_LEN * spec.d_model * 4, SEQ_LEN * 8
        yield "embedding", Moved(x + rows, x + numbers, x, rows)
        yield "embedding.positions", Moved(-x - rows, -x, -x, -rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "variant", ["llama", "gpt2", "post-norm relu", "wide heads, gated relu", "tied rope, gated gelu"]
)
def test_moved_bytes_of_decoders_differ_by_what_is_explained(
    make_spec: Callable[..., ModelSpec], variant: str, dtype: Dtype
) -> None:
    spec = make_spec(variant)
    sums: dict[str, Moved] = defaultdict(Moved)
    for label, gap in [*explained_once(spec), *((label, gap) for label, gap in explained(spec) for _ in range(2))]:
        sums[label] = Moved(*(old + new for old, new in zip(sums[label], gap, strict=True)))
    assert differences(spec, dtype) == sums


@pytest.mark.parametrize("dtype", DTYPES)
def test_moved_bytes_of_the_stock_encoder_differ_by_its_copies_too(
    make_spec: Callable[..., ModelSpec], dtype: Dtype
) -> None:
    gaps = differences(make_spec("encoder without dropout"), dtype)
    attention = gaps.pop("layers.*.self_attn")
    # stock attention copies to [sequence, batch] order and unpacks queries, keys and values: no row of the spec's
    assert all(gap > 0 for gap in attention)
    x = TOKENS * 32 * 4
    weights = Moved(2 * 2 * 128, 0, 2 * 128, 2 * 2 * 128)
    assert gaps == {
        "layers.*.norm1": weights,
        "layers.*.norm2": weights,
        "layers.*": Moved(0, 0, -8 * x, -4 * x),
        "layers.*.linear1": Moved(0, 0, 4 * x, 2 * x),
    }


def test_a_triangular_system_is_solved_by_substitution() -> None:
    """3 systems of 8 unknowns for 5 right sides: n²·m each; torch's counter leaves them out."""

    def tensor(*shape: int) -> TensorView:
        return TensorView(shape=shape, dtype="float32", element_bytes=4, elements=prod(shape), storage=-1)

    given = {"self": tensor(3, 8, 8), "B": tensor(3, 8, 5)}
    seen = AtenCall("aten::linalg_solve_triangular", given, (replace(tensor(3, 8, 5), storage=1),))
    assert aten_cost(seen) == Cost(vector_flop=960, read_bytes=4 * (192 + 120), write_bytes=4 * 120)
