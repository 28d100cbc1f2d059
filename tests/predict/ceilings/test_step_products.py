"""How often does a step run each product, and each pass of attention?"""

from hwprof.predict.ceilings.step_products import attention_calls, product_calls, products_by_label
from hwprof.predict.work import step_work
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings

TINY = load_model("tiny")


def step(**changes):
    settings = RunSettings(**{"model": "tiny", "device": "cpu", "micro_batch": 2, "seq_len": 128} | changes)
    return step_work(TINY, settings, attention="causal"), products_by_label(TINY, settings)


def test_equal_shapes_of_different_layers_are_one():
    calls = product_calls(*step())
    # 256 tokens: query and output of 4 layers forward, and their gradients by the input
    assert calls[256, 256, 256] == 4 * 2 * 3  # weights' gradients [256, 256] over 256 tokens are the same product
    assert calls[256, 512, 256] == 1  # the head
    assert calls[256, 768, 256] == 4 * 4  # gate and up, and both gradients of down
    flop = sum(2 * m * n * k * times for (m, n, k), times in calls.items())
    assert flop == 3 * 2 * 256 * (512 * 256 + 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 768))


def test_recompute_runs_the_forward_products_again_but_for_the_last():
    plain, again = (product_calls(*step(recompute=one))[256, 768, 256] for one in ("none", "full"))
    assert again == plain + 8


def test_attention_runs_once_a_layer_in_each_direction_and_again_where_it_is_recomputed():
    work, _ = step(gradient_accumulation=3)
    assert attention_calls(work) == {"forward": 12, "backward": 12}
    work, _ = step(recompute="full")
    assert attention_calls(work) == {"forward": 8, "backward": 4}
