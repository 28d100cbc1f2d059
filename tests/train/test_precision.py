from __future__ import annotations

import warnings

import pytest
import torch

from hwprof.errors import InputError
from hwprof.train.precision import select_precision

_CPU = torch.device("cpu")
_CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("dtype", "computed"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_products_are_computed_in_the_asked_format(dtype, computed):
    weight = torch.randn(4, 4)
    with select_precision(dtype, _CPU).autocast():
        assert (weight @ weight).dtype == computed


def test_only_fp16_scales_the_loss():
    assert [select_precision(dtype, _CPU).scaler.is_enabled() for dtype in ("fp32", "bf16", "fp16")] == [
        False,
        False,
        True,
    ]


def test_fp32_means_fp32_products():
    torch.set_float32_matmul_precision("medium")
    select_precision("fp32", _CPU)
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_refused_on_cpu():
    with pytest.raises(InputError, match="cpu can't compute in tf32"):
        select_precision("tf32", _CPU)


@pytest.mark.parametrize("dtype", ["bf16", "tf32"])
def test_gpu_older_than_ampere_is_refused(dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    with pytest.raises(InputError, match=f"cuda can't compute in {dtype} here.*choose --dtype fp32 or fp16"):
        select_precision(dtype, _CUDA)


def test_format_that_torch_would_only_warn_about_is_refused(monkeypatch):
    def autocast(*_args, **_options):
        warnings.warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.", stacklevel=1)

    monkeypatch.setattr(torch, "autocast", autocast)
    with pytest.raises(InputError, match="cpu can't compute in fp16 here: In CPU autocast"):
        select_precision("fp16", _CPU)
