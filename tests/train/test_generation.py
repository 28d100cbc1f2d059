"""Claims about generating: a cache changes nothing but the time, and only a decoder has one."""

import pytest
import torch

from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.train.cache import empty_cache
from hwprof.train.generation import Generator

CPU = torch.device("cpu")


def generator(name, **changes):
    settings = RunSettings(
        **{"model": name, "device": "cpu", "micro_batch": 2, "seq_len": 12, "new_tokens": 5} | changes
    )
    return Generator(load_model(name).changed(layers=2, max_seq_len=64), settings, device=CPU)


@pytest.mark.parametrize("name", ["tiny", "gpt2-124m"])  # rotary positions and grouped heads; learned positions
def test_logits_with_a_cache_are_those_of_the_whole_text_read_again(name):
    model = generator(name).model
    tokens = torch.randint(model.head.out_features, (2, 16), generator=torch.Generator().manual_seed(1))
    cache = empty_cache(load_model(name).changed(layers=2), batch=2, capacity=16, dtype=torch.float32, device=CPU)
    with torch.inference_mode():
        whole = model(tokens)
        parts = [model.generate(tokens[:, :12], cache)] + [
            model.generate(tokens[:, [at]], cache) for at in range(12, 16)
        ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, 11:], rtol=1e-4, atol=1e-4)


def test_a_step_gives_each_prompt_its_new_tokens_and_begins_anew_each_time():
    made = generator("tiny")
    phases = []

    class Phase:
        def __init__(self, name):
            phases.append(name)

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

    first = made.step(Phase)
    assert first.shape == (2, 5)
    assert phases == ["host_to_device", "prefill", "decode"]
    assert torch.equal(first, made.step())


def test_weights_and_cache_are_in_the_run_s_format():
    wide, narrow = (generator("tiny", dtype=dtype) for dtype in ("fp32", "bf16"))
    assert {parameter.dtype for parameter in narrow.model.parameters()} == {torch.bfloat16}
    angles = (
        sum(buffer.nbytes for buffer in narrow.model.buffers()) / 2
    )  # cosines and sines are of all layers, once a pair
    assert wide.state_bytes() > 1.9 * (narrow.state_bytes() - angles)


def test_an_encoder_generates_nothing():
    settings = RunSettings(model="encoder-base", device="cpu", micro_batch=1, seq_len=8, new_tokens=2)
    with pytest.raises(InputError, match="generates nothing"):
        Generator(load_model("encoder-base").changed(layers=1), settings, device=CPU)
