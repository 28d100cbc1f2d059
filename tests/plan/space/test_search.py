"""The search against brute force: every layout counted and timed one by one through the nouns."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from hwprof.count.memory.job import job_memory
from hwprof.plan.answer.cost import rates_of
from hwprof.plan.answer.machines import option_of
from hwprof.plan.answer.plans import plans_of
from hwprof.plan.space.columns import divisors, widened
from hwprof.plan.space.constraints import limit_reason, memory_reason
from hwprof.plan.space.layouts import every_division
from hwprof.plan.space.question import Choices, Question
from hwprof.plan.space.search import search
from hwprof.predict.machine import machine_of
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.step import TrainingJob

TABLE = simulator_parameters()


def question_of(model, cluster, *, stack="megatron-core", batch=16, seq_len=1024, **changes):
    software = stack_named(stack)
    base = TrainingJob(model=load_model(model), seq_len=seq_len, global_batch=batch, **software.switches)
    return Question(base=base, machine=machine_of(load_cluster(cluster)), stack=software, table=TABLE, **changes)


def every_job(question):
    """All layouts that the nouns themselves accept, by nested loops; no code of the planner."""
    devices, base, domain = question.machine.devices, question.base, question.machine.domain
    heads, layers = base.model.heads, base.model.layers
    experts = base.model.moe.experts if base.model.moe else 1
    counts = [n for n in range(1, devices + 1) if devices % n == 0]
    for tp, pp, dp in itertools.product(counts, repeat=3):
        if tp * pp * dp != devices or heads % tp or tp > domain or pp > layers or base.global_batch % dp:
            continue
        for ep, zero, shards, mb, recompute, vp in itertools.product(
            [n for n in range(1, experts + 1) if experts % n == 0 and (dp * tp) % n == 0],
            range(4 if dp > 1 else 1),
            [n for n in range(1, dp + 1) if dp % n == 0],
            [n for n in range(1, base.global_batch // dp + 1) if (base.global_batch // dp) % n == 0],
            ("none", "full"),
            range(1, layers + 1),
        ):
            m, near = base.global_batch // dp // mb, max(min(domain // tp, dp), 1)
            if (zero == 0) != (shards == dp) and zero == 0:
                continue
            if zero and (shards == 1 or (shards < near)):
                continue
            if vp > 1 and (pp == 1 or (layers % (pp * vp) and (layers + 2) % (pp * vp)) or pp * vp > layers or m % pp):
                continue
            if pp > 1 and zero > 1:
                continue
            layout = ParallelLayout(
                data_parallel=dp,
                tensor_parallel=tp,
                pipeline_parallel=pp,
                virtual_stages=vp,
                expert_parallel=ep,
                zero_stage=zero,
                shard_ranks=shards if shards < dp else None,
                schedule="interleaved" if vp > 1 else "1f1b",
            )
            yield base.model_copy(update={"micro_batch": mb, "recompute": recompute, "layout": layout})


@pytest.mark.parametrize(
    ("model", "cluster", "batch"),
    [("125m", "4xrtx-4090", 8), ("1b", "8xh100-sxm", 16), ("1b", "8xv100-sxm2-16gb", 8)],
)
def test_the_search_finds_what_brute_force_finds(model, cluster, batch):
    question = question_of(model, cluster, batch=batch, choices=Choices(context=(1,)))
    found = search(question)
    fitting = []
    for job in every_job(question):
        need = job_memory(job).device_bytes
        if need <= 0.95 * question.machine.capacity_bytes:
            fitting.append(job)
    assert {found.space.job(int(i)) for i in found.order} == set(fitting)
    assert len(found.order) == len(fitting) > 50
    best_s = min(closed_form_s(job, question) for job in fitting)
    assert found.times.step_s[found.order[0]] == pytest.approx(best_s, rel=1e-9)


def closed_form_s(job, question):
    from hwprof.predict.kernels.op_time import micro_batch_times
    from hwprof.simulate.jobs import jobs_of, work_of
    from hwprof.simulate.whole_step import step_times

    placed = [(job, question.machine, question.stack)]
    parameters, _ = parameters_for(TABLE, question.machine, question.stack)
    work = micro_batch_times(work_of(placed, [()])[0], parameters)
    return float(step_times(jobs_of(placed), work, parameters).step_s[0])


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
@pytest.mark.parametrize("stack", ["megatron-core", "torch"])
def test_memory_of_many_layouts_is_that_of_each(model, stack):
    found = search(question_of(model, "16xh100-sxm", stack=stack, batch=32, seq_len=4096))
    assert len(found.order) > 100
    for place in found.order[:: len(found.order) // 25]:
        counted = job_memory(found.space.job(int(place))).device_bytes
        assert found.need_bytes[place] == pytest.approx(counted, rel=2e-3)


def test_every_layout_is_counted_once():
    found = search(question_of("1b", "8xv100-sxm2-16gb"))
    assert found.tally.evaluated == sum(found.tally.rejected.values()) + len(found.order)
    assert found.tally.rejected["memory_fits"] > 0
    jobs = [found.space.job(int(place)) for place in found.order]
    assert len(set(jobs)) == len(jobs)


def test_division_of_more_devices_than_products_of_degrees_can_hold():
    """2^31 devices: 32 powers of two for each of three degrees, whose product must be 2^e with e at most 31."""
    found = every_division(question_of("llama-3.1-8b", "2147483648xh100-sxm", batch=2**32))
    assert len(found["data"]) == 33 * 34 * 32 // 6
    assert set(found["tensor"] * found["context"] * found["pipeline"] * found["data"]) == {2**31}


def test_a_limit_on_the_step_is_a_reason():
    free = search(question_of("1b", "8xh100-sxm"))
    best_s = float(free.times.step_s[free.order[0]])
    limited = search(question_of("1b", "8xh100-sxm", longest_step_s=1.05 * best_s))
    assert 0 < len(limited.order) < len(free.order)
    assert limited.tally.rejected["inside_limits"] == len(free.order) - len(limited.order)
    none = search(question_of("1b", "8xh100-sxm", longest_step_s=0.5 * best_s))
    assert not len(none.order)
    assert none.tally.nearest_s == pytest.approx(best_s)


def test_reasons_that_differ_only_behind_the_shown_digits_say_by_how_much():
    question = question_of("1b", "8xh100-sxm", longest_step_s=10.0, limit="the deadline")
    assert limit_reason(12.0, question) == "a step takes 12 s, the deadline leaves 10 s"
    assert limit_reason(10.00002, question) == "a step takes 10 s (20 µs more), the deadline leaves 10 s"
    usable_bytes = question.machine.capacity_bytes * (1 - question.margin)
    assert "needs 80.77 GB (2 MB more), device has 80.77 GB" in memory_reason(usable_bytes + 2e6, question)
    assert "more" not in memory_reason(usable_bytes + 2e9, question)


def test_choices_are_kept_to():
    choices = Choices(tensor=(2,), pipeline=(2,), zero=(1,), micro_batch=(2,), recompute=("full",))
    space = search(question_of("1b", "8xh100-sxm", choices=choices)).space
    assert len(space)
    for name, value in {"tensor": 2, "pipeline": 2, "zero_stage": 1, "micro_batch": 2, "recompute": 2}.items():
        assert set(getattr(space, name).tolist()) == {value}


def test_an_expert_is_whole_where_experts_are_spread_and_shared_where_that_divides_no_further():
    """Of Mixtral's 8 experts, 4 ranks of 4 that share one would be 16: only there sharing is looked at beside 1."""
    space = search(question_of("mixtral-8x7b", "16xh100-sxm", batch=16, choices=Choices(tensor=(1, 4)))).space
    seen = {tuple(map(int, one)) for one in zip(space.tensor, space.expert, space.expert_tensor, strict=True)}
    assert {one for one in seen if one[0] == 4} == {(4, 1, 4), (4, 2, 1), (4, 4, 1), (4, 4, 4), (4, 8, 1)}
    assert all(of_expert == 1 for tensor, _, of_expert in seen if tensor == 1)


def test_ranks_that_share_an_expert_are_kept_to_and_counted_as_their_jobs_are():
    choices = Choices(tensor=(4,), expert=(2, 4), expert_tensor=(2, 4))
    found = search(question_of("mixtral-8x7b", "16xh100-sxm", batch=16, choices=choices))
    assert set(found.space.expert_tensor.tolist()) == {2, 4}
    for place in found.order[:: len(found.order) // 8]:
        job = found.space.job(int(place))
        assert job.layout.expert_tensor_parallel == found.space.expert_tensor[place]
        assert found.need_bytes[place] == pytest.approx(job_memory(job).device_bytes, rel=2e-3)
        assert found.times.step_s[place] == pytest.approx(closed_form_s(job, found.question), rel=1e-9)


def test_xla_splits_experts_over_tensor_ranks_as_all_else():
    question = question_of("mixtral-8x7b", "16xtpu-v5p", stack="maxtext", batch=16, choices=Choices(tensor=(4,)))
    space = search(question).space
    usual = [space.job(row).layout.expert_tensor is None for row in range(0, len(space), 7)]
    assert usual
    assert all(usual)


def test_finalists_need_no_more_recompute_than_memory_asks_for():
    question = question_of(
        "llama-2-7b", "8xa100-40gb-sxm", batch=32, seq_len=4096, choices=Choices(recompute=("full",))
    )
    plans = plans_of(search(question), rates_of(question.machine.device))
    partly = [plan for plan in plans if plan.job.recompute_layers is not None]
    assert partly
    for plan in partly:
        assert plan.prediction.memory.device_bytes <= 0.95 * question.machine.capacity_bytes
        if plan.job.recompute_layers > 1:
            less = plan.job.model_copy(update={"recompute_layers": plan.job.recompute_layers - 1})
            assert job_memory(less).device_bytes > 0.95 * question.machine.capacity_bytes


def test_plans_are_ranked_by_the_engine():
    question = question_of("llama-2-7b", "16xh100-sxm", batch=64, seq_len=4096)
    plans = plans_of(search(question), rates_of(question.machine.device))
    steps = [plan.prediction.step_s for plan in plans]
    assert steps == sorted(steps)
    assert all(0.5 <= plan.ahead <= 1 for plan in plans[:-1])
    assert plans[-1].ahead is None
    again = predict_job(plans[0].job, question.machine, question.stack, TABLE)
    assert again.step_s == steps[0]


def test_columns_are_widened_by_their_key():
    import numpy as np

    wide = widened({"a": np.array([5, 6, 7])}, np.array([1, 2, 1]), ("b",), lambda k: [(10 * k + i,) for i in range(k)])
    assert wide["a"].tolist() == [5, 6, 6, 7]
    assert wide["b"].tolist() == [10, 20, 21, 10]
    assert divisors(16384)[-2:] == [8192, 16384]


def test_formats_and_offload_are_searched_too():
    """The best over all of them is the best of each alone; nothing here is of the planner but each search."""
    rates = rates_of(load_cluster("8xh100-sxm").device)
    both = question_of("1b", "8xh100-sxm", choices=Choices(dtype=("bf16", "fp8"), offload=("none", "optimizer")))
    option = option_of(both, rates)
    alone = {
        (dtype, offload): option_of(
            replace(both, choices=Choices(), base=both.base.model_copy(update={"dtype": dtype, "offload": offload})),
            rates,
        )
        for dtype in ("bf16", "fp8")
        for offload in ("none", "optimizer")
    }
    assert option.evaluated == sum(each.evaluated for each in alone.values())
    assert option.plans[0].prediction.step_s == min(each.plans[0].prediction.step_s for each in alone.values())
    assert {(plan.job.dtype, plan.job.offload) for plan in option.plans} == set(alone)
    assert [plan.rank for plan in option.plans] == list(range(1, len(option.plans) + 1))
    assert sum(each.refusals[0].count for each in alone.values()) == option.refusals[0].count


@pytest.mark.parametrize("offload", ["none", "optimizer", "activations", "weights"])
def test_memory_and_time_of_many_layouts_know_offload(offload):
    question = question_of("7b", "8xrtx-4090", batch=16)
    question = replace(question, base=question.base.model_copy(update={"offload": offload}))
    found = search(question)
    assert len(found.order) > 10
    for place in found.order[:: len(found.order) // 10]:
        job = found.space.job(int(place))
        assert job.offload == offload
        assert found.need_bytes[place] == pytest.approx(job_memory(job).device_bytes, rel=2e-3)
        assert found.times.step_s[place] == pytest.approx(closed_form_s(job, question), rel=1e-9)


def test_overlap_and_sequence_parallelism_can_be_left_out():
    choices = Choices(tensor=(2,), overlap=(True, False), sequence_parallel=(True, False))
    found = search(question_of("1b", "8xh100-sxm", choices=choices))
    assert set(found.space.overlap.tolist()) == set(found.space.sequence_parallel.tolist()) == {True, False}
    best = found.space.job(int(found.order[0]))
    assert best.layout.overlap
    assert found.times.step_s[found.order[0]] == pytest.approx(closed_form_s(best, question_of("1b", "8xh100-sxm")))


def test_a_plan_stands_once():
    """Where the fastest of a family computes everything again it leads twice: of all and of those that do."""
    question = question_of("7b", "8xh100-sxm", batch=64, seq_len=4096, choices=Choices(recompute=("full",), zero=(1,)))
    plans = plans_of(search(question), rates_of(question.machine.device))
    assert len({plan.job for plan in plans}) == len(plans) > 1


def test_kinds_of_context_parallelism_are_searched_too():
    """The best over all kinds is the best of each alone; one context rank, where kinds are alike, is looked at once."""
    rates = rates_of(load_cluster("8xh100-sxm").device)
    kinds = ("ring", "all-gather", "ulysses")
    long = {"batch": 8, "seq_len": 32768, "stack": "megatron-core"}
    asked = question_of("llama-3.1-8b", "16xh100-sxm", choices=Choices(context_kind=kinds), **long)
    alone = {
        kind: option_of(
            question_of("llama-3.1-8b", "16xh100-sxm", choices=Choices(context_kind=(kind,)), **long), rates
        )
        for kind in kinds
    }
    option = option_of(asked, rates)
    best = min(each.plans[0].prediction.step_s for each in alone.values())
    assert option.plans[0].prediction.step_s == best
    assert {found.question.base.layout.context_kind for found in option.founds} == set(kinds)
    for found in option.founds:
        kind = found.question.base.layout.context_kind
        assert kind == "ring" or found.space.context.min() > 1
        for place in found.order[:: len(found.order) // 8]:
            job = found.space.job(int(place))
            assert job.layout.context_kind == kind
            assert found.need_bytes[place] == pytest.approx(job_memory(job).device_bytes, rel=2e-3)
            assert found.times.step_s[place] == pytest.approx(closed_form_s(job, asked), rel=1e-9)


@pytest.mark.parametrize(("tensor", "few"), [(8, "4 heads"), (2, "4 key and value heads")])
def test_ulysses_needs_heads_for_every_context_rank(tensor, few):
    """Of Llama 3.1 8B's 32 heads and 8 pairs of keys and values."""
    choices = Choices(tensor=(tensor,), context=(8,), context_kind=("ulysses",))
    question = question_of("llama-3.1-8b", "64xh100-sxm", batch=8, seq_len=16384, choices=choices)
    option = option_of(question, rates_of(question.machine.device))
    (told,) = (refusal for refusal in option.refusals if refusal.rule == "context_divides_heads")
    assert told.example.startswith(f"{few} of a tensor rank do not divide by context parallel 8")


@pytest.mark.parametrize(("cluster", "share"), [("64xh100-sxm", 1 / 8), ("4xh100-sxm", 1 / 4)])
def test_a_device_has_its_share_of_the_host_memory_of_the_devices_in_use(cluster, share):
    assert question_of("1b", cluster, host_memory_bytes=8e12).host_share_bytes == 8e12 * share
    assert question_of("1b", cluster).host_share_bytes is None


@pytest.mark.parametrize("offload", ["optimizer", "activations", "weights"])
def test_offload_stops_where_host_memory_ends(offload):
    question = question_of("7b", "8xrtx-4090", batch=16, choices=Choices(offload=(offload,)))
    rates = rates_of(question.machine.device)
    free = option_of(question, rates)
    needs = {plan.job: plan.prediction.memory.host_bytes for plan in free.plans}
    assert min(needs.values()) > 0
    room = sorted(needs.values())[len(needs) // 2] * 8
    bound = option_of(replace(question, host_memory_bytes=room), rates)
    assert bound.plans
    assert all(plan.prediction.memory.host_bytes * 8 <= room * 1.003 for plan in bound.plans)
    nothing = option_of(replace(question, host_memory_bytes=1e6), rates)
    assert nothing.plans == ()
    assert f"offload of {offload} needs" in nothing.reason
    assert "it has 1 MB for 8 device(s)" in nothing.reason
    (found,) = nothing.founds
    leanest = found.tally.nearest_host_bytes * 8
    refused = [
        search(replace(found.question, host_memory_bytes=leanest * scale)).tally.rejected["host_memory_fits"]
        for scale in (0.999, 1.001)
    ]
    assert refused[1] < refused[0]  # the number in the reason is that of the leanest
    unasked = question_of("7b", "8xrtx-4090", batch=16, host_memory_bytes=1e6)
    assert option_of(unasked, rates).refusals == option_of(replace(unasked, host_memory_bytes=None), rates).refusals
