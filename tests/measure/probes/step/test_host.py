"""Claims about what a step costs the host: whose modules are called, what is timed, and what multiplies it."""

import itertools

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.operators import operators_of
from hwprof.measure.probes.step import host
from hwprof.measure.probes.step.host import OF_TRAINING, HostStep, NarrowStep, host_ceiling, narrowed
from hwprof.measure.timing import WallTimer
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.train.loop import build_model

CPU = torch.device("cpu")
TINY = load_model("tiny")


def settings(**changes):
    return RunSettings(**{"model": "tiny", "device": "cpu", "micro_batch": 8, "seq_len": 256} | changes)


def ceiling(part, spec=TINY, layer_bytes=0.0, script=None, **changes):
    step = HostStep(spec=spec, settings=settings(**changes), layer_bytes=layer_bytes)
    timer = ScriptedTimer(itertools.repeat(0.5) if script is None else script)
    return host_ceiling(made_up_bench(timer), step, part, timer)


def modules_of(spec):
    return [type(module) for module in build_model(spec, settings(seq_len=2), CPU).modules()]


@pytest.mark.parametrize("name", ["tiny", "gpt2-124m", "encoder-base"])
def test_the_narrow_model_calls_the_same_modules_as_the_model(name):
    spec = load_model(name)
    shallow = spec.model_copy(update={"layers": 2, "vocab_size": 100, "d_ff": 32})
    assert modules_of(narrowed(spec, 2)) == modules_of(shallow)
    assert narrowed(spec, 2).head_dim == spec.head_dim


@pytest.mark.parametrize("part", OF_TRAINING)
def test_each_part_is_named_and_given_in_seconds(part):
    found = ceiling(part)
    assert (found.name, found.kind, found.unit) == (f"latency.host.{part}", "latency", "s")
    assert found.conditions["layers"] == 4


def test_a_layer_s_time_is_multiplied_by_the_operators_of_all_layers():
    found = ceiling("forward")
    one, all_layers = (
        operators_of(NarrowStep(narrowed(TINY, layers), settings(), CPU).part("forward")) for layers in (1, 4)
    )
    assert (found.conditions["timed_operators"], found.conditions["operators"]) == (one, all_layers)
    assert 3 * one < all_layers < 4 * one  # embedding, last norm and head are there once
    assert found.value == pytest.approx(0.5 * all_layers / one)


def test_an_update_is_timed_with_all_weights():
    found = ceiling("optimizer")
    assert found.conditions["timed_layers"] == 4
    assert found.value == 0.5


def test_backward_has_the_operators_of_forward_and_more():
    forward, both = (ceiling(part).conditions["operators"] for part in ("forward", "forward_backward"))
    assert both > 2 * forward


def test_recompute_runs_the_forward_pass_again():
    plain, again = (ceiling("forward_backward", recompute=one).conditions["operators"] for one in ("none", "full"))
    assert again > plain


def test_what_a_layer_moves_goes_through_the_caches_before_each_sample(monkeypatch):
    monkeypatch.setattr(host, "cache_bytes", lambda: 1000)
    assert ceiling("forward", layer_bytes=1500.0).conditions["streamed_bytes"] == 1500
    assert ceiling("forward", layer_bytes=5000.0).conditions["streamed_bytes"] == 2000  # twice the last cache


def test_a_compiled_model_has_no_modules_to_call():
    with pytest.raises(CannotRunError, match="compiled"):
        ceiling("forward", compile=True)


def test_where_nothing_is_clipped_nothing_is_measured():
    with pytest.raises(CannotRunError, match="clips no gradients"):
        ceiling("clip", clip_norm=None)


def test_gradients_are_dropped_between_steps_and_kept_for_an_update():
    step = NarrowStep(narrowed(TINY, 1), settings(), CPU)
    step.part("forward_backward")()
    first = [weight.grad.clone() for weight in step._model.parameters()]
    step.part("forward_backward")()
    assert all(torch.equal(*pair) for pair in zip(first, (w.grad for w in step._model.parameters()), strict=True))
    before = [weight.detach().clone() for weight in step._model.parameters()]
    step.part("optimizer")()
    assert not all(torch.equal(*pair) for pair in zip(before, step._model.parameters(), strict=True))


def test_a_real_step_costs_the_host_between_a_microsecond_and_ten_seconds():
    step = HostStep(spec=TINY, settings=settings(), layer_bytes=1e6)
    found = host_ceiling(made_up_bench(WallTimer(), probe_s=0.2), step, "forward_backward", WallTimer())
    assert 1e-6 < found.value < 10
