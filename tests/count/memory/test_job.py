"""Memory of training jobs under every layout, against published formulas, published peaks and counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.count.blocks.parameters import parameters
from hwprof.count.job.pipeline_stages import in_flight, stage_layers
from hwprof.count.memory.device import Device
from hwprof.count.memory.job import _pieces, job_memory, job_pieces, spread_of
from hwprof.count.memory.moments import Spread, device_peak_bytes, peak_bytes
from hwprof.count.memory.step import MemoryNeed
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES, Schedule
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.model.spec import ModelSpec

GIB = 2**30

BASE = {"seq_len": 64, "global_batch": 8, "micro_batch": 1}


def job_of(spec: ModelSpec, /, *, layout: dict[str, Any] | None = None, **changes: Any) -> TrainingJob:
    return TrainingJob.model_validate(BASE | changes | {"model": spec, "layout": layout or {}})


def part(need: MemoryNeed, name: str) -> float:
    return sum(part.predicted_bytes for part in need.parts if part.name == name)


def activations(need: MemoryNeed) -> float:
    return sum(part.predicted_bytes for part in need.parts if part.name.startswith("activations"))


def test_mixed_storage_is_18_bytes_a_parameter_and_zero_divides_what_it_says(
    make_spec: Callable[..., ModelSpec],
) -> None:
    """Weights 2, gradients 4, master weights and moments 12 (Rajbhandari et al. 2020 with fp32 gradients)."""
    spec = make_spec(layers=4)
    count = parameters(spec).total
    for stage, expected in ((0, (2, 4, 12)), (1, (2, 4, 3)), (2, (2, 1, 3)), (3, (0.5, 1, 3))):
        need = job_memory(job_of(spec, layout={"data_parallel": 4, "zero_stage": stage}))
        sizes = [part(need, name) / count for name in ("weights", "gradients", "optimizer state")]
        assert sizes == pytest.approx(expected, rel=0.01), stage


@pytest.mark.parametrize(
    ("optimizer", "state"), [("adamw", 12), ("lion", 8), ("sgd", 8), ("adamw-8bit", 4 + 2 * (1 + 1 / 64)), ("muon", 8)]
)
def test_optimizer_state_by_hand(make_spec: Callable[..., ModelSpec], optimizer: str, state: float) -> None:
    spec = make_spec(layers=6, d_model=256, d_ff=1024, vocab_size=16, head_dim=64)
    need = job_memory(job_of(spec, optimizer=optimizer))
    assert part(need, "optimizer state") / parameters(spec).total == pytest.approx(state, rel=0.02)


@pytest.mark.parametrize(
    ("layout", "bytes_per_sbh"),
    [
        ({}, 34),
        ({"tensor_parallel": 4, "sequence_parallel": False}, 10 + 24 / 4),
        ({"tensor_parallel": 4}, 34 / 4),
    ],
)
def test_activations_of_a_layer_are_those_of_korthikanti(layout: dict[str, Any], bytes_per_sbh: float) -> None:
    """Korthikanti et al. 2022, table 2: sbh(34 + 5as/h) bytes, and its shares under tensor and sequence parallelism."""
    spec = load_model("gpt3-175b").model_copy(update={"dropout": 0.1, "layers": 8})
    t, batch = layout.get("tensor_parallel", 1), 2
    job = job_of(spec, layout=layout, seq_len=2048, micro_batch=batch, attention="materialised")
    sbh = 2048 * batch * spec.d_model
    kept = job_pieces(job).body.kept_bytes
    assert kept == pytest.approx(sbh * bytes_per_sbh + 5 * spec.heads * 2048**2 * batch / t, rel=2e-3)
    selective = job_pieces(job.model_copy(update={"recompute": "selective"})).body.kept_bytes
    assert selective == pytest.approx(sbh * bytes_per_sbh, rel=2e-3)
    full = job_pieces(job.model_copy(update={"recompute": "full"})).body.kept_bytes
    assert full == 2 * sbh / (t if layout.get("sequence_parallel", True) else 1)


def test_a_share_of_the_layers_recomputes(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=8)
    none, some, full = (
        job_memory(job_of(spec, seq_len=512, micro_batch=8, recompute=recompute, recompute_layers=layers))
        for recompute, layers in (("none", None), ("full", 2), ("full", None))
    )
    assert activations(some) == pytest.approx(activations(none) * 6 / 8, rel=0.05)
    assert full.peak_bytes < some.peak_bytes < none.peak_bytes


def test_stages_with_layers_left_over_are_heavier_in_the_middle() -> None:
    assert stage_layers(70, 12) == (5, *[6] * 10, 5)  # BLOOM
    assert stage_layers(126, 16) == (7, *[8] * 14, 7)  # Llama 3.1 405B
    assert stage_layers(7, 4) == (2, 2, 2, 1)
    assert stage_layers(3, 4) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("schedule", "virtual", "expected"),
    [
        ("gpipe", 1, [16, 16, 16, 16]),
        ("1f1b", 1, [4, 3, 2, 1]),
        ("interleaved", 2, [11 / 2, 9 / 2, 7 / 2, 5 / 2]),  # first: 1 + (p - 1)/(pv) of p = 4 stages
        ("zb-h1", 1, [4, 4, 4, 4]),
        ("zb-v", 1, [4, 4, 4, 4]),
        ("dualpipe", 1, [5 / 2] * 4),  # p + 1 of half of what a device holds
    ],
)
def test_micro_batches_under_way(schedule: Any, virtual: int, expected: list[float]) -> None:
    shape = {"stages": 4, "virtual_stages": virtual}
    assert [in_flight(schedule, i, **shape, micro_batches=16) for i in range(4)] == expected
    assert max(in_flight(schedule, i, **shape, micro_batches=1) for i in range(4)) <= 1


def test_experts_are_spread_and_meet_top_k_rows_a_token() -> None:
    spec = load_model("mixtral-8x7b")
    whole, spread = (job_pieces(job_of(spec, layout={"data_parallel": 8, "expert_parallel": ep})).body for ep in (1, 8))
    assert spread.experts.weights_bytes == whole.experts.weights_bytes / 8 == 2 * 3 * 4096 * 14336
    assert spread.dense == whole.dense
    assert spread.kept_bytes == whole.kept_bytes


def test_lora_trains_pairs_alone_and_qlora_stores_4_bits() -> None:
    spec = load_model("llama-2-7b")
    base = job_of(spec, seq_len=2048)
    lora, qlora = (
        job_memory(base.model_copy(update={"lora": LoraSpec(rank=16, targets="all", quantized=quantized)}))
        for quantized in (False, True)
    )
    pairs = 32 * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008))  # 40.0 million, as PEFT prints for these targets
    assert part(lora, "gradients") == 4 * pairs
    assert part(lora, "optimizer state") == pytest.approx(12 * pairs, rel=1e-3)
    assert part(lora, "weights") == 2 * (parameters(spec).total + pairs)
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    rest = parameters(spec).total - matrices  # which PEFT makes fp32
    narrower = matrices * (2 - 0.5 - 0.127 / 8) - 2 * rest
    assert part(lora, "weights") - part(qlora, "weights") == pytest.approx(narrower, rel=1e-4)


def test_experts_that_are_one_weight_have_no_adapters_of_peft_and_stay_whole_in_qlora() -> None:
    spec = load_model("mixtral-8x7b")
    base = job_of(spec, seq_len=256, adapter_library="peft")
    lora, qlora, others = (
        job_memory(base.model_copy(update={"lora": LoraSpec(rank=16, quantized=narrow), "adapter_library": library}))
        for narrow, library in ((False, "peft"), (True, "peft"), (True, "litgpt"))
    )
    pairs = 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))  # of query, key, value and output alone
    matrices = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    assert part(lora, "gradients") == 4 * pairs
    rest = parameters(spec).total - matrices
    narrowed = matrices * (0.5 + 0.127 / 8) + 4 * rest + 2 * pairs  # what is not in 4 bits PEFT makes fp32
    assert part(qlora, "weights") == pytest.approx(narrowed, rel=1e-3)
    assert part(others, "weights") < 0.25 * part(qlora, "weights")  # litgpt's experts are linear layers
    with pytest.raises(InputError, match="no matrix gets adapters: --lora-targets ffn"):
        job_memory(base.model_copy(update={"lora": LoraSpec(rank=16, targets="ffn")}))


def test_offload_empties_the_device(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=8)
    plain, optimizer, kept, weights = (
        job_memory(job_of(spec, micro_batch=8, offload=offload))
        for offload in ("none", "optimizer", "activations", "weights")
    )
    assert part(optimizer, "optimizer state") == 0 < part(plain, "optimizer state")
    assert activations(kept) < activations(plain) / 2
    assert part(weights, "weights") == 0 < part(weights, "gathered weights") < part(plain, "weights")


def test_what_leaves_the_device_is_on_the_host(make_spec: Callable[..., ModelSpec]) -> None:
    """ZeRO-Offload (Ren et al. 2021, section 4.1): 12 bytes of state and the gradient of each parameter that a rank
    updates; weights and activations are those that the device no longer has."""
    spec = make_spec(layers=8)
    plain, optimizer, kept, weights, on_drive = (
        job_memory(job_of(spec, micro_batch=8, **changes))
        for changes in (
            {},
            {"offload": "optimizer"},
            {"offload": "activations"},
            {"offload": "weights"},
            {"offload": "optimizer", "offload_to": "nvme"},
        )
    )
    assert plain.host_bytes == on_drive.host_bytes == 0
    assert optimizer.host_bytes == part(plain, "optimizer state") + part(plain, "gradients")
    assert weights.host_bytes == part(plain, "weights")
    assert kept.host_bytes == pytest.approx(activations(plain) * 6 / 8, rel=0.1)  # two of eight layers stay
    sharded = job_of(spec, micro_batch=1, layout={"data_parallel": 4, "zero_stage": 1}, offload="optimizer")
    assert job_memory(sharded).host_bytes == pytest.approx(optimizer.host_bytes / 4)
    gathered = job_of(spec, micro_batch=1, layout={"data_parallel": 4, "zero_stage": 3}, offload="weights")
    assert job_memory(gathered).host_bytes == pytest.approx(weights.host_bytes / 4)


def test_host_memory_is_that_of_the_stage_that_puts_most_there(make_spec: Callable[..., ModelSpec]) -> None:
    """The last of two stages has the head and the final norm; the first, with the most activations, an embedding."""
    whole, half = (make_spec(layers=layers, vocab_size=64, tied_embeddings=False) for layers in (8, 4))
    per_parameter = job_memory(job_of(half, offload="optimizer")).host_bytes / parameters(half).total
    last = parameters(half).total - half.vocab_size * half.d_model
    staged = job_memory(job_of(whole, layout={"pipeline_parallel": 2}, offload="optimizer"))
    assert staged.host_bytes == pytest.approx(last * per_parameter, rel=1e-5)  # a norm is 1e-3


PUBLISHED = [
    ("llama-3-70b", {"layers": 12}, {"tensor_parallel": 8}, 4096, 28.29),
    ("llama-3-70b", {"layers": 12}, {"tensor_parallel": 2, "data_parallel": 4}, 4096, 60.68),
    ("llama-3-70b", {"layers": 12}, {"pipeline_parallel": 2, "data_parallel": 4}, 4096, 66.55),
    ("llama-3-70b", {"layers": 12}, {"context_parallel": 8, "context_kind": "ulysses"}, 131072, 147.99),
    (
        "llama-3.1-405b",
        {"layers": 4, "kv_heads": 16},
        {"context_parallel": 8, "context_kind": "ulysses"},
        32768,
        139.22,
    ),
    ("llama-3.1-405b", {"layers": 4, "kv_heads": 16}, {"pipeline_parallel": 2, "data_parallel": 4}, 4096, 87.08),
]


@pytest.mark.parametrize(("name", "cut", "layout", "seq_len", "measured_gib"), PUBLISHED)
def test_peaks_of_megatron_core_within_3_percent(
    name: str, cut: dict[str, int], layout: dict[str, Any], seq_len: int, measured_gib: float
) -> None:
    """torch's ``max_memory_allocated`` on 8 B200 (SimuMax, docs/b200/b200_release_v1.2_summary.json, 4dcaae5)."""
    spec = load_model(name).model_copy(update=cut | {"max_seq_len": 131072})
    job = job_of(spec, layout=layout | {"zero_stage": 1}, seq_len=seq_len, global_batch=16)
    assert job_memory(job).peak_bytes / GIB == pytest.approx(measured_gib, rel=0.03)


@given(
    pp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 2, 8]),
    zero=st.integers(0, 3),
    micro_batches=st.sampled_from([1, 2, 8]),
    schedule=st.sampled_from(SCHEDULES),
)
def test_many_layouts_at_once_are_each_of_them_alone(
    make_spec: Callable[..., ModelSpec], pp: int, dp: int, zero: int, micro_batches: int, schedule: Any
) -> None:
    spec = make_spec(layers=7)
    virtual = 2 if schedule == "interleaved" and pp > 1 else 1
    layout = {
        "pipeline_parallel": pp,
        "data_parallel": dp,
        "zero_stage": zero,
        "schedule": schedule,
        "virtual_stages": virtual,
    }
    job = job_of(spec, layout=layout, global_batch=dp * micro_batches, storage="autocast")
    one = spread_of(job)
    many = Spread(
        stages=np.array([pp, 1]),
        virtual_stages=np.array([virtual, 1]),
        micro_batches=np.array([micro_batches, 1]),
        replicas=np.array([dp, 1]),
        shards=np.array([dp, 1]),
        zero_stage=np.array([zero, 0]),
        schedule=schedule,
    )
    alone, together = peak_bytes(job_pieces(job), one), peak_bytes(job_pieces(job), many)
    assert isinstance(together, np.ndarray)
    assert together[0] == pytest.approx(alone)
    assert job_memory(job).peak_bytes >= alone - 1


def test_hybrid_sharding_divides_over_fewer_ranks(make_spec: Callable[..., ModelSpec]) -> None:
    layout = ParallelLayout(data_parallel=8, zero_stage=3, shard_ranks=2)
    need = job_memory(job_of(make_spec(layers=4), layout=layout.model_dump()))
    assert part(need, "weights") == parameters(make_spec(layers=4)).total


def test_xla_keeps_its_part_of_a_sum_over_tensor_ranks() -> None:
    """The policy keeps attention's projection [64 tokens, 4096] in bf16: to XLA a quarter of it, to DTensor all."""
    layout = {"tensor_parallel": 4, "data_parallel": 2, "zero_stage": 3}
    kept = {
        framework: job_pieces(
            job_of(
                load_model("llama-3.1-8b"),
                layout=layout,
                framework=framework,
                storage="narrowed",
                compiled=True,
                recompute="selective",
                selective=("products",),
            )
        ).body.kept_bytes
        for framework in ("xla", "torch")
    }
    assert kept["torch"] - kept["xla"] == 0.75 * 64 * 4096 * 2


def test_xla_computes_the_input_of_the_last_product_where_it_is_read() -> None:
    """Not kept: the gated activation's result [64 tokens, 14336] in bf16, whose inputs are."""
    kept = {
        framework: job_pieces(
            job_of(load_model("llama-3.1-8b"), framework=framework, storage="narrowed", compiled=True)
        ).body.kept_bytes
        for framework in ("xla", "torch")
    }
    assert kept["torch"] - kept["xla"] == 64 * 14336 * 2


def test_xla_drops_the_whole_ends_while_layers_run() -> None:
    """FSDP's root keeps the embedding and the head that it has gathered, 2 x 128256 x 4096 numbers of 2 bytes."""
    layout = {"data_parallel": 8, "zero_stage": 3}
    job = job_of(load_model("llama-3.1-8b"), layout=layout, storage="narrowed", framework="xla", prefetch_layers=0)
    pieces, spread = job_pieces(job), spread_of(job)
    keeping = replace(pieces, keeps_ends=True)
    gathered = [Device(pieces=each, spread=spread, device=0).gathered(0, 32, layers=1) for each in (keeping, pieces)]
    assert gathered[0] - gathered[1] == pytest.approx(2 * (2 * 128256 * 4096 + 4096))


def test_an_allocator_under_pressure_keeps_nothing_in_vain() -> None:
    layout = {"data_parallel": 8, "zero_stage": 3}
    need = job_memory(job_of(load_model("llama-3.1-8b"), layout=layout, framework="torch"))
    assert need.peak_bytes < need.least_bytes < need.device_bytes
    assert need.least_bytes == need.peak_bytes + need.libraries_bytes


@pytest.mark.parametrize(
    "layout",
    [
        {"data_parallel": 16},
        {"data_parallel": 16, "expert_parallel": 8, "tensor_parallel": 4},
        {"data_parallel": 2, "expert_parallel": 8, "tensor_parallel": 4},
        {"data_parallel": 4, "context_parallel": 2, "expert_parallel": 8, "tensor_parallel": 2, "zero_stage": 3},
        {"data_parallel": 8, "expert_parallel": 8, "tensor_parallel": 4, "expert_tensor": 1},
        {"data_parallel": 4, "pipeline_parallel": 2, "virtual_stages": 2, "schedule": "interleaved"},
    ],
)
@pytest.mark.parametrize("name", ["mixtral-8x7b", "llama-3.1-8b"])
def test_pieces_shared_between_layouts_are_those_of_the_layout_itself(name: str, layout: dict[str, Any]) -> None:
    job = job_of(load_model(name), global_batch=32, layout=layout)
    assert job_pieces(job) == _pieces.__wrapped__(job)


@given(
    name=st.sampled_from(["deepseek-v3", "llama-3.1-8b"]),
    schedule=st.sampled_from(SCHEDULES),
    stages=st.sampled_from([2, 3, 4, 8, 16]),
    virtual=st.integers(2, 4),
    extra=st.integers(0, 40),
    leading=st.integers(1, 5),
    zero_stage=st.sampled_from([0, 1, 3]),
)
def test_peak_of_a_pipeline_is_that_of_its_fullest_device(
    name: str, schedule: Schedule, stages: int, virtual: int, extra: int, leading: int, zero_stage: int
) -> None:
    virtual = virtual if schedule == "interleaved" else 1
    chunks = stages * (2 if schedule == "zb-v" else virtual)
    layout = {"data_parallel": 8, "expert_parallel": 8 if name == "deepseek-v3" else 1, "zero_stage": zero_stage}
    pieces = job_pieces(job_of(load_model(name), layout=layout, global_batch=512))
    pieces = replace(pieces, layers=chunks + extra, leading_layers=leading if pieces.leading_layers else 0)
    spread = Spread(
        stages=stages,
        virtual_stages=virtual,
        micro_batches=64,
        replicas=8,
        shards=8,
        zero_stage=zero_stage,
        schedule=schedule,
    )
    of_each = [device_peak_bytes(pieces, spread, device) for device in range(stages)]
    assert peak_bytes(pieces, spread) == pytest.approx(max(of_each), rel=1e-9)


def test_layers_that_a_middle_stage_has_more_weigh_more_than_what_is_in_flight_before_it(
    make_spec: Callable[..., ModelSpec],
) -> None:
    # 34 layers over 32 stages: 15 of one, two of 2, 15 of one; stage 15 has 17 micro-batches x 2 layers in flight,
    # the first stage 32 x 1
    assert stage_layers(34, 32)[14:18] == (1, 2, 2, 1)
    job = job_of(make_spec(layers=34), global_batch=64, layout={"pipeline_parallel": 32})
    need = job_memory(job)
    assert max(need.stage_bytes) == need.stage_bytes[15]
    assert peak_bytes(job_pieces(job), spread_of(job)) == pytest.approx(need.stage_bytes[15])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("zero_stage", [0, 1, 3])
def test_peaks_of_all_stages_at_once_are_those_one_by_one(schedule: str, zero_stage: int) -> None:
    layout = {
        "data_parallel": 4,
        "pipeline_parallel": 4,
        "virtual_stages": 2 if schedule == "interleaved" else 1,
        "schedule": schedule,
        "zero_stage": zero_stage,
    }
    job = job_of(load_model("llama-3.1-8b"), global_batch=64, layout=layout)
    one_by_one = [device_peak_bytes(job_pieces(job), spread_of(job), stage) for stage in range(4)]
    assert job_memory(job).stage_bytes == pytest.approx(one_by_one, rel=1e-12)
