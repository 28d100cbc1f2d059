"""Claims about what the defaults make of a request."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from hwprof.errors import InputError
from hwprof.session.request import ProbeRequest, RunRequest
from hwprof.session.settle import settle
from hwprof.specs.files import PACKAGE, builtin_root
from hwprof.specs.job.settings import RunSettings

DIMENSIONS = {"d_model": 64, "heads": 8, "kv_heads": 8, "head_dim": 7}
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


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": "short.txt"}, "the data has 19 tokens; sequences of 32 need at least 66"),
        ({"data": "short.txt", "tokenizer": "missing.json"}, "missing.json does not exist"),
        ({"data": "zeros.txt"}, "is not text"),
        ({"data": "ids.npy"}, "holds token id 60000"),
        ({"model": "heads.toml"}, "heads x head_dim = 8 x 7 must be d_model = 64"),
    ],
)
def test_what_can_never_run_is_said_before_anything_is_measured(tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("nineteen characters")
    (tmp_path / "zeros.txt").write_bytes(bytes(1000))
    np.save(tmp_path / "ids.npy", np.full(1000, 60000, dtype=np.uint32))
    encoder = (builtin_root(PACKAGE) / "models" / "encoder-base.toml").read_text()
    dimension = re.compile(r"^(head_dim|d_model|heads|kv_heads) = .*$", re.MULTILINE)
    changed = dimension.sub(lambda key: f"{key[1]} = {DIMENSIONS[key[1]]}", encoder)
    (tmp_path / "heads.toml").write_text(changed.replace('"encoder-base"', '"heads"'))
    with pytest.raises(InputError, match=re.escape(says)):
        settle(RunRequest(**SMALL | options))


def test_little_shared_memory_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=64_000))
    with pytest.raises(InputError, match=r"/dev/shm has 64.*use --workers 0"):
        settle(RunRequest(device="cpu", micro_batch=4, seq_len=256, workers=4))
    assert settle(RunRequest(device="cpu", micro_batch=4, seq_len=256, workers=0)).settings.workers == 0


@pytest.mark.parametrize(
    ("lacks", "options", "ranks", "says"),
    [
        ("torch.utils.checkpoint.CheckpointPolicy", {"recompute": "selective"}, 1, "needs torch 2.5 or newer"),
        ("torch.distributed.fsdp.fully_shard", {"parallel": "ddp"}, 2, "several ranks need torch 2.6 or newer"),
    ],
)
def test_what_an_older_torch_has_not_is_said_first(monkeypatch, lacks, options, ranks, says):
    assert settle(RunRequest(**SMALL, **options), ranks=ranks).settings
    monkeypatch.delattr(lacks)
    with pytest.raises(InputError, match=says):
        settle(RunRequest(**SMALL, **options), ranks=ranks)
