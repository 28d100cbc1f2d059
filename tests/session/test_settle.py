"""Claims about what the defaults make of a request."""

import pytest

from hwprof.errors import InputError
from hwprof.session.request import ProbeRequest, RunRequest
from hwprof.session.settle import settle
from hwprof.specs.job.settings import RunSettings

SMALL = {"device": "cpu", "micro_batch": 1, "seq_len": 32}


@pytest.mark.parametrize(
    ("parallel", "says"), [(None, "nothing says what they share"), ("tp3", "divides the model over 3 ranks")]
)
def test_ranks_need_a_layout_that_divides_them(parallel, says):
    with pytest.raises(InputError, match=says):
        settle(RunRequest(**SMALL, parallel=parallel), ranks=2)


def test_ranks_of_a_cpu_share_its_memory_and_a_pipeline_gets_two_micro_batches_a_stage():
    run = settle(RunRequest(**SMALL, parallel="pp4"), ranks=4, sharing_memory=4)
    assert run.settings.gradient_accumulation == 8
    assert run.settings.layout.pipeline_parallel == 4
    assert "a share of 1 / 4" in run.identity.memory_source


def test_what_is_not_asked_for_is_the_devices_and_goes_below_reports():
    run = settle(RunRequest(model="tiny", device="cpu", clip_norm=0))
    settings = run.settings
    assert (settings.dtype, settings.seq_len, settings.optimizer_implementation) == ("fp32", 256, "for-loop")
    assert (settings.clip_norm, settings.data) == (None, "Pride and Prejudice (shipped)")
    assert 1 <= settings.micro_batch <= 8
    assert run.directory.parent.name == "reports"
    assert run.directory.name.startswith("tiny-cpu-")


def test_what_stands_as_it_was_asked_for_has_one_default():
    run = settle(RunRequest(**SMALL))
    assert run.settings == RunSettings(
        model="tiny", device="cpu", micro_batch=1, seq_len=32, data="Pride and Prejudice (shipped)"
    )


@pytest.mark.parametrize("request_type", [RunRequest, ProbeRequest])
def test_every_option_says_what_it_means(request_type):
    assert [name for name, field in request_type.model_fields.items() if not field.description] == []
