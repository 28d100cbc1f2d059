"""Claims about how counted ops become the work of a step."""

import pytest

from hwprof.count.transformer import training_step_ops
from hwprof.predict.work import by_measured_label, step_work
from hwprof.specs.catalogue import load_model
from hwprof.specs.run import RunSettings


def _settings(**changes):
    return RunSettings(**({"model": "tiny", "device": "cpu", "micro_batch": 2, "seq_len": 64} | changes))


def _work(name="tiny", **changes):
    return step_work(load_model(name), _settings(**changes), attention="full")


@pytest.mark.parametrize("name", ["tiny", "encoder-base", "gpt2-124m"])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_no_flop_or_byte_of_the_count_is_lost_or_doubled(name, recompute):
    settings = _settings(recompute=recompute, gradient_accumulation=3)
    counted = [op.total for op in training_step_ops(load_model(name), settings)]
    work = [item.total for item in step_work(load_model(name), settings, attention="full")]
    for quantity in ("matmul_flop", "vector_flop", "read_bytes", "write_bytes"):
        assert sum(getattr(cost, quantity) for cost in work) == pytest.approx(
            sum(getattr(cost, quantity) for cost in counted), rel=1e-12
        )


def test_gradients_of_the_residual_stream_are_summed_under_the_op_that_opens_each_branch():
    labels = {item.label for item in _work() if item.layer_kind == "residual" and item.direction == "backward"}
    assert labels == {"layers.*.attention_norm", "layers.*.ffn_norm"}


def test_for_loop_optimizer_touches_one_tensor_at_a_time_and_fused_all():
    sets = {
        implementation: next(
            item.working_set_bytes
            for item in _work(optimizer_implementation=implementation)
            if item.label == "optimizer"
        )
        for implementation in ("for-loop", "fused")
    }
    parameters = 3_279_104
    assert sets["fused"] == 7 * 4 * parameters
    tensors = 1 + 4 * 9 + 1  # embedding; 7 matrices and 2 norms a layer; final norm
    assert sets["for-loop"] == pytest.approx(7 * 4 * parameters / tensors)


def test_every_op_finds_an_owner_among_measured_labels_or_is_left_out():
    work = _work()
    owned = by_measured_label(work, {("layers.*", "forward"), ("head", "forward")})
    assert {item.label for item in owned["head", "forward"]} == {"head"}
    assert all(item.label.startswith("layers.") for item in owned["layers.*", "forward"])
    assert set(owned) == {("layers.*", "forward"), ("head", "forward")}
