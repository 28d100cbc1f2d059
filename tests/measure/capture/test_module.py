"""Any module: FLOP against torch's own counter, kept bytes against what autograd packs on real tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from captured_modules import MODULES, Nested, Tied, made
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.aten.captured import captured_ops, operators_unpriced
from hwprof.count.job.totals import total_cost
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.errors import InputError
from hwprof.measure.capture import fake
from hwprof.measure.capture.configured import quietly
from hwprof.measure.capture.fake import all_fake, make_fake, weightless
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject
from hwprof.specs.record.captured import Capture


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small only wait for each other in a pool of threads, all the more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fake_capture(module: nn.Module, *inputs: Any, loss: Any = None, **keywords: Any) -> Capture:
    mode = make_fake(module)
    arguments, named = all_fake((inputs, keywords), mode)
    return capture(Subject(name="test", module=module, arguments=arguments, keywords=named, loss=loss, fake=mode))


def outputs_of(output: Any) -> list[torch.Tensor]:
    parts = output if isinstance(output, tuple) else (output,)
    return [part for part in parts if isinstance(part, torch.Tensor) and part.requires_grad]


def kept_bytes(rows: tuple[Op, ...]) -> int:
    return sum((row.saved_bytes + row.weight_copy_bytes) * row.repeats for row in rows)


def row(rows: tuple[Op, ...], label: str, kind: str) -> Op:
    (found,) = [each for each in rows if each.label == label and each.kind == f"aten::{kind}"]
    return found


@pytest.mark.parametrize("name", list(MODULES))
def test_products_equal_torchs_count_on_real_tensors(name: str) -> None:
    module, inputs, keywords = made(name)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        outputs = outputs_of(module(*inputs, **keywords))
        torch.autograd.backward(outputs, [torch.ones_like(each) for each in outputs])
    rows = captured_ops(fake_capture(*made(name)[:1], *inputs, **keywords))
    total = total_cost(rows)
    assert total.matmul_flop == counter.get_total_flops() > 0


@pytest.mark.parametrize("name", list(MODULES))
def test_kept_bytes_equal_what_autograd_packs_on_real_tensors(name: str) -> None:
    module, inputs, keywords = made(name)
    own = {each.untyped_storage().data_ptr() for each in itertools.chain(module.parameters(), module.buffers())}
    packed: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            packed[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = outputs_of(module(*inputs, **keywords))
    roots = {each.untyped_storage().data_ptr() for each in outputs}
    expected = sum(storage.nbytes() for pointer, storage in packed.items() if pointer not in roots)
    assert kept_bytes(captured_ops(fake_capture(*made(name)[:1], *inputs, **keywords))) == expected


@pytest.mark.parametrize("name", list(MODULES))
def test_real_tensors_give_the_same_rows_as_fake_ones(name: str) -> None:
    module, inputs, keywords = made(name)
    real = capture(Subject(name="test", module=module, arguments=inputs, keywords=keywords))
    assert captured_ops(real) == captured_ops(fake_capture(*made(name)[:1], *inputs, **keywords))


@pytest.mark.parametrize("name", list(MODULES))
def test_every_parameter_counts_once_and_every_operator_has_a_price(name: str) -> None:
    module, inputs, keywords = made(name)
    elements = sum(each.numel() for each in module.parameters())
    seen = fake_capture(module, *inputs, **keywords)
    assert sum(use.elements for use in seen.parameters) == elements
    assert sum(each.parameters * each.repeats for each in captured_ops(seen)) == elements
    assert operators_unpriced(seen) == ()


def test_a_linear_layer_by_hand() -> None:
    rows = captured_ops(fake_capture(nn.Sequential(nn.Linear(8, 16)), torch.zeros(4, 8)))
    (linear,) = rows
    assert (linear.label, linear.kind, linear.parameters, linear.saved_bytes) == ("0", "aten::addmm", 144, 4 * 8 * 4)
    assert linear.forward == Cost(
        matmul_flop=2 * 4 * 8 * 16, vector_flop=64, read_bytes=(16 + 32 + 128) * 4, write_bytes=64 * 4
    )
    # the input is data and has no gradient: dW reads dY and X, db reads dY
    assert linear.backward == Cost(
        matmul_flop=2 * 4 * 8 * 16, vector_flop=64, read_bytes=(2 * 64 + 32) * 4, write_bytes=(128 + 16) * 4
    )


def test_a_tied_table_is_counted_at_its_lookup_and_its_gradients_are_added() -> None:
    rows = captured_ops(fake_capture(Tied(), torch.zeros(2, 8, dtype=torch.int64)))
    assert row(rows, "tokens", "embedding").parameters == 31 * 16
    assert row(rows, "head", "mm").parameters == 0
    assert [each.parameters for each in rows if each.label == "unused"] == [16 * 3 + 3]
    table = 31 * 16 * 4
    written = row(rows, "tokens", "embedding").backward.write_bytes
    assert written == (table + 2 * 8 * 16 * 4) + table  # filled and added to, then added to the head's gradient


def test_a_module_that_runs_twice_is_one_row_of_both_runs() -> None:
    rows = captured_ops(fake_capture(Tied(), torch.zeros(2, 8, dtype=torch.int64)))
    assert row(rows, "twice.*", "addmm").forward.matmul_flop == 2 * (2 * 16 * 16 * 16)
    assert row(rows, "twice.*", "addmm").parameters == 16 * 16 + 16


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, of reentrant ones in one another
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_forwards_that_run_again_are_recompute(*, reentrant: bool) -> None:
    x = torch.zeros(4, 16, requires_grad=True)
    rows = captured_ops(fake_capture(Nested(reentrant=reentrant), x))
    layer = 2 * 4 * 16 * 16
    assert total_cost(rows, "forward").matmul_flop == 4 * layer
    assert total_cost(rows, "backward").matmul_flop == 8 * layer
    # each stage runs its two layers again; a reentrant inner one is run again once more, for its own backward
    assert total_cost(rows, "recompute").matmul_flop == (4 if not reentrant else 6) * layer
    assert {each.label for each in rows if each.recompute.matmul_flop} == {"stages.*.*"}


def test_work_in_a_loss_function_is_labelled_loss() -> None:
    targets = torch.zeros(6, dtype=torch.int64)
    module = nn.Sequential(nn.Linear(8, 5))
    seen = fake_capture(module, torch.zeros(6, 8), loss=lambda logits: F.cross_entropy(logits, targets))
    rows = captured_ops(seen)
    assert {each.label for each in rows} == {"0", "loss"}
    assert {each.layer_kind for each in rows if each.label == "loss"} == {"loss"}
    loss = sum(each.saved_bytes for each in rows if each.label == "loss")
    assert loss == 6 * 5 * 4 + 6 * 8 + 4  # log-softmax, targets, total weight
    assert row(rows, "0", "addmm").backward.matmul_flop == 2 * 6 * 8 * 5


class Several(nn.Module):
    """Two heads, in a record."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        return {"hidden": self.second(x), "logits": self.first(x)}


def test_gradients_start_at_the_logits_of_an_output_of_several_tensors() -> None:
    rows = captured_ops(fake_capture(Several(), torch.zeros(2, 4)))
    assert row(rows, "first", "addmm").backward.matmul_flop == 2 * 2 * 4 * 4
    assert row(rows, "second", "addmm").backward == Cost.ZERO


def test_a_module_without_trainable_parameters_has_a_forward_pass_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).requires_grad_(requires_grad=False)
    seen = fake_capture(module, torch.zeros(2, 4))
    rows = captured_ops(seen)
    assert total_cost(rows, "forward").matmul_flop == 2 * 2 * 4 * 4
    assert total_cost(rows, "backward") == Cost.ZERO
    assert kept_bytes(rows) == 0
    assert not any(use.trainable for use in seen.parameters)


class Cached(nn.Module):
    """Keeps a result in an attribute, which autograd knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.cache: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache = torch.cat([x, x])
        y: torch.Tensor = self.linear(x)
        return y


def test_what_a_module_holds_itself_is_kept_too() -> None:
    rows = captured_ops(fake_capture(Cached(), torch.zeros(2, 4)))
    assert row(rows, "model", "cat").saved_bytes == 2 * 2 * 4 * 4
    assert row(rows, "linear", "addmm").saved_bytes == 2 * 4 * 4


class Inference(nn.Module):
    """Runs in inference mode, where operators are not taken apart by autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    @torch.inference_mode()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return F.scaled_dot_product_attention(y[None], y[None], y[None])


def test_inference_mode_counts_products_too() -> None:
    rows = captured_ops(fake_capture(Inference(), torch.zeros(2, 4)))
    assert row(rows, "linear", "addmm").forward.matmul_flop == 2 * 2 * 4 * 4
    assert total_cost(rows).matmul_flop == 2 * 2 * 4 * 4 + 2 * (2 * 2 * 2 * 4)


def test_autocast_copies_weights_and_keeps_the_copies() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    mode = make_fake(module)
    subject = Subject(name="test", module=module, arguments=all_fake((torch.zeros(4, 8),), mode), fake=mode)
    rows = captured_ops(capture(subject, autocast=torch.bfloat16))
    # backward needs the second layer's weight for the gradient of its input; the first one's input is data
    assert sum(each.weight_copy_bytes for each in rows) == 16 * 4 * 2
    assert sum(each.saved_bytes for each in rows) == (4 * 8 + 4 * 16) * 2


class LooksAtValues(nn.Module):
    """Chooses by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return self.linear(y) if float(y.sum()) >= -1e9 else y


def test_a_module_that_looks_at_values_is_sent_to_real_tensors() -> None:
    with pytest.raises(InputError, match=r"looks at values, which fake tensors have not; capture it .* --device cpu"):
        fake_capture(LooksAtValues(), torch.zeros(2, 4))
    rows = captured_ops(capture(Subject(name="test", module=LooksAtValues(), arguments=(torch.zeros(2, 4),))))
    assert row(rows, "linear", "addmm").forward.matmul_flop == 2 * (2 * 2 * 4 * 4)


def test_a_class_of_a_file_that_looks_at_values_is_to_be_built_in_a_function() -> None:
    with weightless():
        module = LooksAtValues()
    mode = make_fake(module)
    inputs = all_fake((torch.zeros(2, 4),), mode)
    with pytest.raises(InputError, match=r"hwprof count --module PACKAGE.MODULE:FUNCTION --device cpu"):
        capture(Subject(name="file", module=module, arguments=inputs, fake=mode, around=quietly))


class Selects(nn.Module):
    """Has a result whose size depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        chosen: torch.Tensor = self.linear(y[y[:, 0] > -1e9])
        return chosen


def test_a_size_that_depends_on_values_is_sent_to_real_tensors() -> None:
    with pytest.raises(InputError, match="--device cpu"):
        fake_capture(Selects(), torch.zeros(2, 4))
    seen = capture(Subject(name="test", module=Selects(), arguments=(torch.ones(3, 4),)))
    assert row(captured_ops(seen), "linear", "addmm").forward.matmul_flop == 2 * (2 * 3 * 4 * 4)


class Routes(nn.Module):
    """Sends each token to two of four experts, one expert after another, and drops tokens that are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(9, 4)
        self.router = nn.Linear(4, 4, bias=False)
        self.experts = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(4))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids[ids != 0])
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        mixed = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, rank = torch.where(chosen == number)
            if token.numel():
                mixed.index_add_(0, token, expert(x[token]) * weights[token, rank, None])
        return mixed


def test_known_values_are_followed_and_routing_is_made_up() -> None:
    ids = torch.tensor([1, 2, 0, 3, 4, 0, 5, 6])
    seen = captured_ops(fake_capture(Routes(), ids))
    router, experts = (row(seen, label, "mm") for label in ("router", "experts.*"))
    assert router.forward.matmul_flop == 2 * 6 * 4 * 4
    assert (experts.repeats, experts.forward.matmul_flop) == (4, 2 * 3 * 4 * 4)  # 6 tokens x 2 of 4 experts
    assert experts.backward.matmul_flop == 2 * experts.forward.matmul_flop


class Flexible(nn.Module):
    """Attention by ``flex_attention``, whose scores a function may change."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 3 * 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.view(2, 6, 4, 8).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed: Any = flex_attention(query, key, value, score_mod=lambda score, *_: score * 2)
        return mixed


def test_flexible_attention_counts_all_scores() -> None:
    seen = captured_ops(fake_capture(Flexible(), torch.zeros(2, 6, 32)))
    scores = 2 * 2 * 2 * 4 * 6 * 6 * 8  # both products, in a batch of two with four heads
    product = 2 * 2 * 6 * 32 * 96
    assert total_cost(seen, "forward").matmul_flop == product + scores
    assert total_cost(seen, "backward").matmul_flop == product + 2 * scores  # the input's gradient is not taken


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_are_counted_step_by_step(kind: type[nn.Module], gates: int) -> None:
    layer = kind(8, 16, batch_first=True)
    seen = captured_ops(fake_capture(layer, torch.zeros(2, 5, 8)))
    forward = 2 * 2 * 5 * gates * 16 * (8 + 16)
    assert total_cost(seen, "forward").matmul_flop == forward
    data = 2 * 2 * 5 * gates * 16 * 8  # nothing takes the gradient of the input, nor of the first state
    assert total_cost(seen).matmul_flop == 3 * forward - data - 2 * 2 * gates * 16 * 16


def test_a_missing_argument_says_how_to_give_it() -> None:
    with pytest.raises(InputError, match=r"missing 1 required .*--input SHAPE:DTYPE"):
        fake_capture(nn.Bilinear(4, 4, 2), torch.zeros(2, 4))


def test_a_module_that_fails_on_real_tensors_is_not_sent_there_again() -> None:
    with pytest.raises(InputError, match=r"RuntimeError while it was captured.*call the module by hand") as caught:
        capture(Subject(name="test", module=nn.Linear(4, 4), arguments=(torch.zeros(2, 5),)))
    assert "--device" not in str(caught.value)


def test_sparse_gradients_are_refused() -> None:
    module = nn.Embedding(10, 4, sparse=True)
    with pytest.raises(InputError, match=r"tensor of layout torch\.sparse_coo.*sparse=False"):
        fake_capture(module, torch.zeros(2, 3, dtype=torch.int64))


def test_hooks_are_gone_after_a_capture_and_after_a_failed_one() -> None:
    module = nn.Linear(4, 4)
    fake_capture(module, torch.zeros(2, 4))
    with pytest.raises(InputError):
        fake_capture(module, torch.zeros(2, 5))
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_weights_without_end_are_refused_while_they_are_made(monkeypatch):
    monkeypatch.setattr(fake, "MOST_TENSORS", 10)
    with weightless():
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    with weightless(), pytest.raises(InputError, match="more than 10 weights"):
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))


def test_a_plan_that_is_told_by_objects_shares_nothing() -> None:
    module = nn.Linear(4, 4)
    module._tp_plan = {"weight": object()}  # type: ignore[assignment]  # as diffusers has it
    seen = capture(Subject(name="linear", module=module, arguments=(torch.ones(2, 4),)))
    assert [use.split for use in seen.parameters] == ["", ""]
