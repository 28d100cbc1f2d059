"""Which module of diffusers does a ``config.json`` stand for, and what does it read? Noisy latents, texts, a time."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.measure.capture.configured import (
    FORMATS,
    NOTHING_FROZEN,
    Frozen,
    as_trained,
    freeze,
    in_format,
    narrow,
    quietly,
)
from hwprof.measure.capture.fake import all_fake, make_fake, weightless
from hwprof.measure.capture.inputs import Asked
from hwprof.measure.capture.subject import Subject
from hwprof.measure.capture.unsaid import IMAGES_ALONE
from hwprof.specs.job.settings import Dtype
from hwprof.specs.reading import json_of, model_name
from hwprof.specs.record.captured import Facts

Tensors = dict[str, Any]

PIXELS_OF_A_LATENT = 8
"""On a side: three halvings in the autoencoders of all these models (Rombach et al. 2022, section 4.1)."""

_USUAL_LATENTS = 128
"""On a side where the configuration does not say: images of 1,024 pixels (``default_sample_size`` of FluxPipeline)."""

_PACKED = 2
"""Latents on a side of what Flux takes as one patch (``_pack_latents`` of FluxPipeline)."""


@dataclass(frozen=True, slots=True)
class _Size:
    """What goes in at once: samples, latents of each, tokens of its text."""

    batch: int
    rows: int
    columns: int
    tokens: int


def _labelled(config: Any, size: _Size) -> Tensors:
    return _latents(config, size) | {
        name: torch.ones(size.batch, dtype=torch.int64) for name in ("timestep", "class_labels")
    }


def _captioned(config: Any, size: _Size) -> Tensors:
    sizes = getattr(config, "use_additional_conditions", None)
    told = config.sample_size == _USUAL_LATENTS if sizes is None else sizes
    shapes = {"resolution": 2, "aspect_ratio": 1}
    return _latents(config, size) | {
        "encoder_hidden_states": torch.ones(size.batch, size.tokens, config.caption_channels),
        "timestep": torch.ones(size.batch, dtype=torch.int64),
        "added_cond_kwargs": {name: torch.ones(size.batch, n) if told else None for name, n in shapes.items()},
    }


def _joined(config: Any, size: _Size) -> Tensors:
    return _latents(config, size) | _texts(config, size)


def _packed(config: Any, size: _Size) -> Tensors:
    patches = size.rows // _PACKED * (size.columns // _PACKED)
    return {
        "hidden_states": torch.ones(size.batch, patches, config.in_channels),
        **_texts(config, size),
        **({"guidance": torch.ones(size.batch)} if config.guidance_embeds else {}),
        "img_ids": torch.zeros(patches, 3),
        "txt_ids": torch.zeros(size.tokens, 3),
    }


def _latents(config: Any, size: _Size) -> Tensors:
    return {"hidden_states": torch.ones(size.batch, config.in_channels, size.rows, size.columns)}


def _texts(config: Any, size: _Size) -> Tensors:
    return {
        "encoder_hidden_states": torch.ones(size.batch, size.tokens, config.joint_attention_dim),
        "pooled_projections": torch.ones(size.batch, config.pooled_projection_dim),
        "timestep": torch.ones(size.batch),
    }


_READ: dict[str, tuple[Callable[[Any, _Size], Tensors], int]] = {
    "DiTTransformer2DModel": (_labelled, 0),
    "PixArtTransformer2DModel": (_captioned, 300),
    "SD3Transformer2DModel": (_joined, 333),
    "FluxTransformer2DModel": (_packed, 512),
}
"""Class -> its inputs, and tokens of a text where none are said: what its pipeline cuts texts to
(``max_sequence_length`` of diffusers 0.42; Stable Diffusion 3 joins 77 of CLIP and 256 of T5); 0 = it reads none."""

_OLD_NAMES = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
"""``norm_type`` of a Transformer2DModel, as older files call both -> the class that diffusers makes of it."""


def class_of_diffusers(path: Path) -> str:
    """The class that a file names, where diffusers is installed and it is one that can be captured; else empty."""
    try:
        values = json_of(path, remedy="")
    except InputError:
        return ""
    name = str(values.get("_class_name", "")) if isinstance(values, dict) else ""
    if name == "Transformer2DModel":
        name = _OLD_NAMES.get(str(values.get("norm_type")), "")
    return name if name in _READ and importlib.util.find_spec("diffusers") else ""


def diffusion_module(path: Path) -> nn.Module:
    """The module, with its parameters' shapes and without their data.

    Raises:
        InputError: diffusers refuses the file.
    """
    import diffusers

    diffusers.logging.set_verbosity_error()
    found = getattr(diffusers, class_of_diffusers(path))
    values = {key: value for key, value in json.loads(path.read_bytes()).items() if not key.startswith("_")}
    try:
        with quietly(), weightless():
            return as_trained(found.from_config(values))
    except Exception as error:
        raise InputError(
            f"{path}: {found.__name__} of diffusers {diffusers.__version__} refuses it: {' '.join(str(error).split())}",
            remedy="correct the file",
        ) from error


def diffusion_facts(path: Path) -> Facts:
    """What the file says beside its module; ``max_seq_len`` are tokens of a text, or patches where it reads none."""
    import diffusers

    name = class_of_diffusers(path)
    config: Any = diffusion_module(path).config
    width = config.num_attention_heads * config.attention_head_dim
    _, tokens = _READ[name]
    return Facts(
        by=f"{name} of diffusers {diffusers.__version__}",
        family=name,
        widths={
            "d_model": width,
            "d_ff": 4 * width,
            "heads": config.num_attention_heads,
            "kv_heads": config.num_attention_heads,
            "head_dim": config.attention_head_dim,
            "vocab_size": 0,
            "max_seq_len": tokens or (_side(config) // config.patch_size) ** 2,
        },
        experts=(1, 1),
        causal=False,
        classifies=False,
        encoder_decoder=False,
        remarks=("--seq-len are tokens of a text" if tokens else IMAGES_ALONE,),
    )


def diffusion_subject(path: Path, asked: Asked, weights: Dtype = "fp32", frozen: Frozen = NOTHING_FROZEN) -> Subject:
    """The module with its inputs, fake, ready to be captured; arguments as ``subject_of_config`` takes them.

    Raises:
        InputError: as ``diffusion_module``; or several images to a sample.
    """
    module = diffusion_module(path)
    freeze(module, frozen)
    narrow(module, FORMATS[weights])
    inputs = _inputs(module, class_of_diffusers(path), asked)
    mode = make_fake(module)
    found = all_fake(in_format(inputs, FORMATS[weights]), mode)
    if frozen.all:
        found["hidden_states"].requires_grad_()
    return Subject(name=model_name(path), module=module, keywords=found, fake=mode, around=quietly)


def _inputs(module: nn.Module, name: str, asked: Asked) -> Tensors:
    config: Any = module.config
    number, *pixels = asked.images or (1, *[_side(config) * PIXELS_OF_A_LATENT] * 2)
    if number != 1:
        raise InputError(
            f"{number} images to a sample",
            expectation="a diffusion model makes one",
            remedy="use --batch-size for more",
        )
    make, tokens = _READ[name]
    cell = PIXELS_OF_A_LATENT * (_PACKED if make is _packed else config.patch_size)
    if any(side < cell or side % cell for side in pixels):
        raise InputError(
            f"an image of {pixels[0]} x {pixels[1]} pixels is no whole number of patches",
            expectation=f"{name} takes patches of {cell} pixels on a side",
            remedy=f"give multiples of {cell}, such as --images 1x{cell * 64}x{cell * 64}",
        )
    rows, columns = (side // PIXELS_OF_A_LATENT for side in pixels)
    given = {each.name: each.tensor(torch.device("cpu")) for each in asked.inputs if each.name}
    return make(config, _Size(asked.batch_size, rows, columns, (asked.seq_len or tokens) if tokens else 0)) | given


def _side(config: Any) -> int:
    return int(getattr(config, "sample_size", 0) or _USUAL_LATENTS)
