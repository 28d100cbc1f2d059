"""Claims about how counted ops become the work of a step."""

import pytest

from hwprof.count.blocks.transformer import training_step_ops
from hwprof.predict.work import by_measured_label, step_work
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.run import RunSettings


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


def _optimizer(implementation):
    return [item for item in _work(optimizer_implementation=implementation) if item.label == "optimizer"]


def test_fused_optimizer_touches_all_parameters_and_their_state_at_once():
    (whole,) = _optimizer("fused")
    assert whole.working_set_bytes == whole.compulsory_bytes == whole.swept_bytes == 7 * 4 * 3_279_104


def test_for_loop_optimizer_touches_one_tensor_at_a_time():
    # AdamW reads weight, gradient and two moments and writes all but the gradient: 7 x 4 bytes
    by_elements = dict.fromkeys((item.working_set_bytes / 28 for item in _optimizer("for-loop")), 0)
    for item in _optimizer("for-loop"):
        by_elements[item.working_set_bytes / 28] += item.instances
    assert by_elements == {
        512 * 256: 1,  # embedding
        256 * 256: 4 * 2,  # query and output of each layer
        128 * 256: 4 * 2,  # key and value
        768 * 256: 4 * 3,  # gate, up, down
        256: 4 * 2 + 1,  # norms
    }


def test_for_loop_optimizer_sweeps_over_all_parameters_whatever_one_tensor_touches():
    items = _optimizer("for-loop")
    assert {item.swept_bytes for item in items} == {28 * 3_279_104}
    assert sum(item.compulsory_bytes * item.instances for item in items) == pytest.approx(28 * 3_279_104)


def test_every_op_finds_an_owner_among_measured_labels_or_is_left_out():
    work = _work()
    owned = by_measured_label(work, {("layers.*", "forward"), ("head", "forward")})
    assert {item.label for item in owned["head", "forward"]} == {"head"}
    assert all(item.label.startswith("layers.") for item in owned["layers.*", "forward"])
    assert set(owned) == {("layers.*", "forward"), ("head", "forward")}


@pytest.mark.parametrize(
    ("layout", "model_share", "update_share"),
    [
        ({"data_parallel": 4}, 1, 1),
        ({"data_parallel": 4, "zero_stage": 3}, 1, 1 / 4),
        ({"tensor_parallel": 2}, 1 / 2, 1 / 2),
        ({"pipeline_parallel": 2, "data_parallel": 2, "zero_stage": 2}, 1 / 2, 1 / 4),
    ],
)
def test_mean_rank_has_its_share_of_the_work(layout, model_share, update_share):
    spec = load_model("tiny")
    fields = {"model": "tiny", "device": "cpu", "micro_batch": 2, "seq_len": 64}
    whole = step_work(spec, RunSettings(**fields), attention="full")
    share = step_work(spec, RunSettings(**fields, layout=ParallelLayout(**layout)), attention="full")
    for one, part in zip(whole, share, strict=True):
        expected = update_share if one.direction == "update" else model_share
        assert part.instances == pytest.approx(one.instances * expected)
