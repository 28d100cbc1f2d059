"""Claims about what `hwprof run` fills in for a GPU, from its memory alone."""

import pytest

from hwprof.session.fitting import batched, is_out_of_memory, roomy, shortage, what_would_fit
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.record.run import DeviceIdentity, RunSettings

H200_FREE_BYTES = 150e9
"""143,771 MiB, as NVML shows it, less what a CUDA context takes."""


def _gpu_settings(model, **changes):
    fields = {
        "model": model,
        "device": "cuda",
        "dtype": "bf16",
        "micro_batch": 1,
        "seq_len": 2048,
        "optimizer_implementation": "foreach",
    }
    return load_model(model), RunSettings(**(fields | changes))


def _settled(model, free_bytes, **changes):
    spec, settings = _gpu_settings(model, **changes)
    return batched(spec, roomy(spec, settings, free_bytes, chosen=False), free_bytes)


def test_one_billion_weights_run_on_an_h200_as_torch_would_at_eight_sequences():
    settled = _settled("1b", H200_FREE_BYTES)
    assert (settled.micro_batch, settled.optimizer_implementation) == (8, "foreach")


def test_seven_billion_weights_leave_no_room_for_the_temporaries_of_foreach_on_an_h200():
    # 6.74e9 weights: 107.8 GB of weights, gradients and state, and 27 GB more for one array of all weights' size
    settled = _settled("7b", H200_FREE_BYTES)
    assert settled.optimizer_implementation == "fused"
    assert settled.micro_batch >= 2


def test_optimizer_that_has_no_fused_form_stays_as_it_is():
    assert _settled("7b", H200_FREE_BYTES, optimizer="adafactor").optimizer_implementation == "foreach"


def test_small_model_on_a_small_gpu_stays_with_torchs_own():
    assert _settled("gpt2-124m", 16e9, seq_len=1024).optimizer_implementation == "foreach"


@pytest.mark.parametrize(
    ("model", "free_bytes", "words"),
    [
        ("1b", 80e9, "--recompute none"),
        ("8b", H200_FREE_BYTES, "--recompute none --optimizer-implementation fused"),
        ("13b", H200_FREE_BYTES, "no micro-batch fits here"),
    ],
)
def test_what_would_fit_names_the_least_change(model, free_bytes, words):
    spec, settings = _gpu_settings(model)
    assert words in what_would_fit(spec, settings, free_bytes)


def test_memory_that_others_took_is_not_answered_with_a_larger_micro_batch():
    """The step needs 8 x 256 tokens of tiny, 238.9 MB; 848 MB were free before it, under ``ulimit -v 1500000``."""
    spec, settings = load_model("tiny"), RunSettings(model="tiny", device="cpu", micro_batch=8, seq_len=256)
    identity = DeviceIdentity(name="CPU", catalogue_id=None, note="", memory_bytes=848e6, memory_source="a limit")
    said = shortage(spec, settings, identity, RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert "something else took it" in said
    assert "--micro-batch 29" not in said


def test_python_s_own_word_for_it_is_out_of_memory():
    assert is_out_of_memory(MemoryError())
