"""Claims about the probe of attention against a cache, and of what passes that generate cost the host."""

import itertools

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.errors import WorkError
from hwprof.measure.probes.step.cached import cached_attention
from hwprof.measure.probes.step.host import OF_GENERATION, HostStep, host_ceiling
from hwprof.measure.probes.step.kernels import kernel_ceiling
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.train.attention import AttentionCore

CPU = torch.device("cpu")
KERNEL = StepKernel("cached_attention", "core", "fp32", (2, 9, 4, 2, 8), "forward")


def test_a_new_token_gives_one_vector_for_all_heads():
    mixed = cached_attention(CPU, KERNEL)()
    assert mixed.shape == (2, 1, 4 * 8)


def test_a_core_that_sees_the_first_key_alone_is_an_error(monkeypatch):
    def first_alone(_core, *heads):
        return heads[2][:, :1].repeat(1, 1, 2, 1).flatten(2)

    monkeypatch.setattr(AttentionCore, "forward", first_alone)
    with pytest.raises(WorkError, match=r"cached_attention\.core\.fp32\.2x9x4x2x8"):
        cached_attention(CPU, KERNEL)


def test_its_rate_is_of_the_bytes_that_are_counted():
    found = kernel_ceiling(
        made_up_bench(ScriptedTimer(itertools.repeat(0.5))), KERNEL, moved_bytes=100.0, deadline_s=9.0
    )
    assert (found.name, found.value) == (str(KERNEL), 200.0)


@pytest.mark.parametrize("part", OF_GENERATION)
def test_the_host_of_a_pass_is_timed_by_one_layer(part):
    settings = RunSettings(model="tiny", device="cpu", micro_batch=1, seq_len=64, new_tokens=4)
    step = HostStep(spec=load_model("tiny"), settings=settings, layer_bytes=0.0)
    assert step.parts == OF_GENERATION
    timer = ScriptedTimer(itertools.repeat(0.5))
    found = host_ceiling(made_up_bench(timer), step, part, timer)
    conditions = found.conditions
    assert (found.name, conditions["timed_layers"], conditions["layers"]) == (f"latency.host.{part}", 1, 4)
    assert found.value == pytest.approx(0.5 * conditions["operators"] / conditions["timed_operators"])
