"""The memory need of a step, against every tensor that a real step on this machine's CPU holds at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from hwprof.count.memory.step import MemoryNeed, largest_micro_batch, training_memory
from hwprof.errors import InputError
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder
from hwprof.train.optimizers import build_optimizer

SEQ_LEN = 64
SIZES = {"layers": 3, "d_model": 64, "d_ff": 160, "head_dim": 16, "max_seq_len": SEQ_LEN}

new_kernels = pytest.mark.skipif(
    torch.__version__ < (2, 13), reason="older CPU kernels keep other tensors than those that are counted"
)


class LiveBytes(TorchDispatchMode):
    """Sums up the storages that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self._alive:
                continue
            self.live_bytes += size
            self._alive[key] = weakref.ref(storage, lambda _, key=key, size=size: self._gone(key, size))
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _gone(self, key: int, size: int) -> None:
        del self._alive[key]
        self.live_bytes -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.watch(leaf for leaf in tree_iter(result) if isinstance(leaf, torch.Tensor))
        return result


def settings_of(**changes: object) -> RunSettings:
    base = {"model": "m", "device": "cpu", "micro_batch": 4, "seq_len": SEQ_LEN}
    return RunSettings.model_validate(base | changes)


def take_step(model: Any, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor], settings: RunSettings) -> None:
    """One step as the training loop takes it."""

    def accumulate() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bf16"):
            logits = model(batch[0])
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), batch[1].view(-1))
        torch.autograd.backward(loss / settings.gradient_accumulation)

    for _ in range(settings.gradient_accumulation):
        accumulate()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def prepared(spec: ModelSpec, settings: RunSettings) -> tuple[Any, torch.optim.Optimizer, list[torch.Tensor]]:
    """A model, its optimizer and a batch, after one step."""
    torch.manual_seed(0)
    model = (Decoder if spec.kind == "decoder" else Encoder)(spec, recompute=settings.recompute)
    optimizer = build_optimizer(
        model, settings.optimizer, settings.optimizer_implementation, learning_rate=settings.learning_rate
    )
    batch = [torch.randint(0, spec.vocab_size, (settings.micro_batch, settings.seq_len)) for _ in range(2)]
    take_step(model, optimizer, batch, settings)
    return model, optimizer, batch


def state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]


def measured_peak_bytes(spec: ModelSpec, settings: RunSettings) -> int:
    model, optimizer, batch = prepared(spec, settings)
    with LiveBytes() as live:
        live.watch([*model.parameters(), *model.buffers(), *batch, *state_tensors(optimizer)])
        take_step(model, optimizer, batch, settings)
    return live.peak_bytes


def part(need: MemoryNeed, name: str) -> float:
    return next((part.predicted_bytes for part in need.parts if part.name == name), 0.0)


@new_kernels
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["llama", "gpt2", "encoder", "post-norm relu", "dropout"])
def test_the_peak_at_the_loss_is_exact(make_spec: Callable[..., ModelSpec], variant: str, dtype: str) -> None:
    spec = make_spec(variant, **SIZES, vocab_size=512)
    settings = settings_of(dtype=dtype, gradient_accumulation=2)
    need = training_memory(spec, settings)
    assert need.moment == "start of backward, at the loss"
    scalars_bytes = 64  # the loss, its quotient and their gradients
    assert measured_peak_bytes(spec, settings) == pytest.approx(need.peak_bytes, abs=scalars_bytes)


@new_kernels
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize(("dtype", "micro_batch"), [("fp32", 1), ("bf16", 4)])
@pytest.mark.parametrize("variant", ["llama", "gpt2", "encoder", "post-norm relu"])
def test_the_peak_is_within_4_percent_wherever_it_is(
    make_spec: Callable[..., ModelSpec], variant: str, recompute: str, dtype: str, micro_batch: int
) -> None:
    """What is kept is exact; gradients under way inside one layer's backward are estimated op by op."""
    spec = make_spec(variant, **SIZES, vocab_size=128)
    settings = settings_of(dtype=dtype, recompute=recompute, micro_batch=micro_batch)
    need = training_memory(spec, settings)
    assert measured_peak_bytes(spec, settings) == pytest.approx(need.peak_bytes, rel=0.04)


@pytest.mark.parametrize(
    ("optimizer", "implementation"),
    [
        (optimizer, implementation)
        for optimizer in ("adamw", "adam", "sgd", "adafactor")
        for implementation in ("for-loop", "foreach", "fused")
        if (optimizer, implementation) != ("adafactor", "fused")
    ],
)
def test_optimizer_state_is_exact_and_its_step_within_4_percent(
    make_spec: Callable[..., ModelSpec], optimizer: str, implementation: str
) -> None:
    spec = make_spec(**SIZES)
    settings = settings_of(optimizer=optimizer, optimizer_implementation=implementation, micro_batch=1, seq_len=8)
    need = training_memory(spec.model_copy(update={"max_seq_len": 8}), settings)
    _, torch_optimizer, _ = prepared(spec, settings)
    state_bytes = sum(tensor.untyped_storage().nbytes() for tensor in state_tensors(torch_optimizer))
    assert part(need, "optimizer state") == state_bytes
    peak_bytes = measured_peak_bytes(spec.model_copy(update={"max_seq_len": 8}), settings)
    assert peak_bytes == pytest.approx(need.peak_bytes, rel=0.04)


def test_the_parts_of_adamw_in_fp32_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec()  # 25 568 parameters in 2 x 9 + 3 tensors
    need = training_memory(spec, settings_of(micro_batch=1, seq_len=1))
    assert need.moment == "optimizer step"
    assert part(need, "weights") == part(need, "gradients") == 4 * 25_568
    assert part(need, "optimizer state") == 8 * 25_568 + 4 * 21
    assert part(need, "rotary tables") == 2 * 1 * 4 * 4
    assert part(need, "optimizer temporaries") == 2 * 4 * 80 * 32
    assert need.peak_bytes == 16 * 25_568 + 4 * 21 + 32 + 20_480 == sum(p.predicted_bytes for p in need.parts)


def test_recompute_trades_memory_in_order(spec: ModelSpec) -> None:
    needs = [
        training_memory(spec.model_copy(update={"layers": 12}), settings_of(recompute=recompute, micro_batch=16))
        for recompute in ("none", "selective", "full")
    ]
    assert needs[0].peak_bytes > needs[1].peak_bytes > needs[2].peak_bytes


def test_compiled_needs_no_more_than_eager(spec: ModelSpec) -> None:
    eager, fused = (training_memory(spec, settings_of(dtype="bf16", compile=compiled)) for compiled in (False, True))
    assert fused.peak_bytes <= eager.peak_bytes


def test_zero_stages_divide_state_then_gradients_then_weights(make_spec: Callable[..., ModelSpec]) -> None:
    """Rajbhandari et al. 2020, figure 1, with fp32 weights: 4 + 4 + 8 bytes a parameter.

    FSDP divides the weights at stage 2 too, and keeps whole ones of all layers beside them until their backward; here
    two layers of 8 are also in its buffers.
    """
    spec = make_spec(d_model=256, d_ff=1024, layers=8, vocab_size=64, positions="none", head_dim=64)
    settings = settings_of(micro_batch=1, seq_len=1, gradient_accumulation=2)
    plain = training_memory(spec, settings)
    stages = [training_memory(spec, settings, data_parallel=8, zero_stage=stage) for stage in range(4)]
    for name, first_stage in (("optimizer state", 1), ("gradients", 2), ("weights", 2)):
        shares = [part(need, name) / part(plain, name) for need in stages]
        assert shares == pytest.approx([1 if stage < first_stage else 1 / 8 for stage in range(4)], rel=1e-3)
    whole = [part(need, "gathered weights") / part(plain, "weights") for need in stages]
    assert whole == pytest.approx([0, 0, 10 / 8, 2 / 8], abs=0.01)


def test_a_pipelines_first_stage_holds_a_micro_batch_for_each_stage(make_spec: Callable[..., ModelSpec]) -> None:
    """Half the layers each; in 1F1B the first of two stages holds two micro-batches (Narayanan et al. 2021)."""
    spec = make_spec(layers=8, vocab_size=16)
    settings = settings_of(micro_batch=8, gradient_accumulation=4)
    whole = training_memory(spec, settings)
    half = training_memory(spec, settings, pipeline_parallel=2)
    assert part(half, "activations: ffn") == pytest.approx(part(whole, "activations: ffn"), rel=0.05)
    assert part(half, "weights") == pytest.approx(part(whole, "weights") / 2, rel=0.05)


def test_the_schedule_of_a_run_decides_what_its_stages_hold(make_spec: Callable[..., ModelSpec]) -> None:
    """gpipe keeps all 8 micro-batches on the first stage, 1f1b as many as there are stages (Huang et al. 2019)."""
    spec = make_spec(layers=8, vocab_size=16)

    def kept_bytes(schedule: str) -> float:
        layout = ParallelLayout(pipeline_parallel=2, schedule=schedule)
        need = training_memory(spec, settings_of(micro_batch=8, gradient_accumulation=8, layout=layout))
        return part(need, "activations: ffn")

    assert kept_bytes("gpipe") / kept_bytes("1f1b") == pytest.approx(8 / 2, rel=0.02)


def test_tensor_parallel_ranks_keep_norm_inputs_whole_and_split_the_rest(make_spec: Callable[..., ModelSpec]) -> None:
    """Korthikanti et al. 2022, section 4.1, without sequence parallelism."""
    spec = make_spec("gpt2", layers=4)
    settings = settings_of(micro_batch=8)
    one, two = (training_memory(spec, settings, tensor_parallel=degree) for degree in (1, 2))
    assert one.moment == two.moment == "start of backward, at the loss"
    assert part(two, "activations: norm") == part(one, "activations: norm")
    inputs_bytes = 4 * (8 * 64 * 32 * 4)  # layers x one fp32 input, whole on each rank
    split_bytes = part(one, "activations: attention") - inputs_bytes
    assert part(two, "activations: attention") == pytest.approx(inputs_bytes + split_bytes / 2)


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    degree=st.sampled_from(["data_parallel", "tensor_parallel", "pipeline_parallel"]),
    zero_stage=st.integers(0, 3),
    size=st.sampled_from([1, 2, 4]),
    recompute=st.sampled_from(["none", "selective", "full"]),
    micro_batches=st.integers(1, 6),
)
def test_memory_grows_with_a_parallel_degree_only_by_what_communication_takes(
    make_spec: Callable[..., ModelSpec], degree: str, zero_stage: int, size: int, recompute: str, micro_batches: int
) -> None:
    spec = make_spec(layers=16)
    settings = settings_of(recompute=recompute, gradient_accumulation=micro_batches)
    smaller, larger = (
        training_memory(spec, settings, **{degree: size * factor}, zero_stage=zero_stage) for factor in (1, 2)
    )
    names = ("gathered weights", "communication buckets", "gradients being reduced", "pipeline transfers")
    added = sum(max(part(larger, name) - part(smaller, name), 0) for name in names)
    assert larger.peak_bytes <= smaller.peak_bytes + added


@hypothesis_settings(max_examples=20, deadline=None)
@given(capacity_bytes=st.integers(10**5, 10**9))
def test_the_largest_micro_batch_fits_and_one_more_does_not(
    make_spec: Callable[..., ModelSpec], capacity_bytes: int
) -> None:
    spec, settings = make_spec(), settings_of(device="cuda", dtype="bf16")
    largest = largest_micro_batch(spec, settings, capacity_bytes)

    def peak_bytes(micro_batch: int) -> float:
        return training_memory(spec, settings.model_copy(update={"micro_batch": micro_batch})).peak_bytes

    assert largest == 0 or peak_bytes(largest) <= capacity_bytes
    assert peak_bytes(largest + 1) > capacity_bytes


def test_no_micro_batch_fits_into_nothing(make_spec: Callable[..., ModelSpec]) -> None:
    assert largest_micro_batch(make_spec(), settings_of(), 0) == 0


@pytest.mark.parametrize("wrong", [{"zero_stage": 4}, {"tensor_parallel": 0}, {"data_parallel": -1}])
def test_a_layout_that_does_not_exist_is_refused(make_spec: Callable[..., ModelSpec], wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        training_memory(make_spec(), settings_of(), **wrong)
