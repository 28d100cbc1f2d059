"""Diffusion transformers by their configurations, against diffusers' modules, torch's counter and the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.cli.count.command import command as count
from hwprof.cli.plan.fit import command as fit
from hwprof.cli.simulate import command as simulate

diffusers: Any = pytest.importorskip("diffusers", reason="diffusers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # what diffusers warns of is its own affair

HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16}
JOINT: dict[str, Any] = HEADS | {"joint_attention_dim": 24, "pooled_projection_dim": 20}
SMALL: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "DiT": (
        "DiTTransformer2DModel",
        HEADS | {"in_channels": 4, "out_channels": 8, "num_layers": 2, "sample_size": 8, "num_embeds_ada_norm": 10},
        {"timestep": torch.ones(2, dtype=torch.int64), "class_labels": torch.ones(2, dtype=torch.int64)},
    ),
    "PixArt": (
        "PixArtTransformer2DModel",
        HEADS
        | {"in_channels": 4, "out_channels": 8, "num_layers": 2, "sample_size": 8, "caption_channels": 24}
        | {"cross_attention_dim": 32},
        {
            "encoder_hidden_states": torch.ones(2, 6, 24),
            "timestep": torch.ones(2, dtype=torch.int64),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
    ),
    "SD3": (
        "SD3Transformer2DModel",
        JOINT | {"in_channels": 4, "num_layers": 2, "caption_projection_dim": 32, "sample_size": 8},
        {
            "encoder_hidden_states": torch.ones(2, 6, 24),
            "pooled_projections": torch.ones(2, 20),
            "timestep": torch.ones(2),
        },
    ),
    "Flux": (
        "FluxTransformer2DModel",
        JOINT | {"in_channels": 16, "num_layers": 2, "num_single_layers": 2, "axes_dims_rope": [4, 6, 6]},
        {
            "encoder_hidden_states": torch.ones(2, 6, 24),
            "pooled_projections": torch.ones(2, 20),
            "timestep": torch.ones(2),
            "img_ids": torch.zeros(16, 3),
            "txt_ids": torch.zeros(6, 3),
        },
    ),
}
LATENTS = {"DiT": (4, 8, 8), "PixArt": (4, 8, 8), "SD3": (4, 8, 8), "Flux": (16, 16)}


def saved(folder: Path, name: str) -> Path:
    kind, keys, _ = SMALL[name]
    path = folder / "config.json"
    path.write_text(json.dumps({"_class_name": kind, "_diffusers_version": "0.42.1"} | keys))
    return path


def typed(command: Any, *arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", list(SMALL))
def test_parameters_and_flop_are_those_of_the_module(name: str, tmp_path: Path) -> None:
    kind, keys, inputs = SMALL[name]
    module = getattr(diffusers, kind).from_config(keys).eval()
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # the counter does not know the CPU's flash kernel
        output = module(hidden_states=torch.ones(2, *LATENTS[name]), **inputs).sample
        forward = counter.get_total_flops()
        output.sum().backward()
    path = saved(tmp_path, name)
    found = typed(
        count, "--model", str(path), "--batch-size", "2", "--seq-len", "6", "--images", "1x64x64", "--dtype", "fp32"
    )
    assert found["parameters"] == sum(each.numel() for each in module.parameters())
    assert found["flop"]["forward"]["full"] == forward
    assert found["flop"]["train"]["full"] == counter.get_total_flops()
    assert f"a configuration of diffusers: counted by capture of {kind}" in found["notes"]
    assert ("--seq-len changes nothing" in found["notes"]) == (name == "DiT")  # the others read a text


def test_dit_xl_takes_the_gflops_of_the_paper() -> None:
    """118.64 G multiplications and additions for an image of 256 pixels (Peebles and Xie 2022, table 9)."""
    found = typed(count, "--model", "dit-xl-2-256", "--dtype", "fp32")
    assert found["flop"]["forward"]["full"] / 2 == pytest.approx(118.64e9, rel=1e-3)


def test_it_is_simulated_and_fitted(tmp_path: Path) -> None:
    path = str(saved(tmp_path, "SD3"))
    step = typed(simulate, "--model", path, "--hardware", "2xh100-sxm", "--global-batch", "4")
    assert step["step_s"] > 0
    rows = typed(fit, "--model", path, "--hardware", "rtx-4090", "--seq-len", "6", "--batch-size", "2")["rows"]
    assert {row["adaptation"] for row in rows} >= {"full", "lora"}


def test_several_images_to_a_sample_are_refused(tmp_path: Path) -> None:
    asked = ["--model", str(saved(tmp_path, "DiT")), "--images", "2x64x64"]
    assert "2 images to a sample" in str(CliRunner().invoke(count, asked).exception)


@pytest.mark.parametrize("name", ["DiT", "Flux"])
def test_an_image_that_no_patches_make_up_is_refused(name: str, tmp_path: Path) -> None:
    asked = ["--model", str(saved(tmp_path, name)), "--images", "1x64x100"]
    assert "64 x 100 pixels is no whole number of patches" in str(CliRunner().invoke(count, asked).exception)
