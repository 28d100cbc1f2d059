"""What does a model of transformers read? Tokens, images, sound: inputs of the shapes that its configuration says."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.measure.capture.images import Images, images_of, with_places
from hwprof.measure.capture.subject import InputShape

USUAL_IMAGE = 224
"""Pixels on a side where a configuration names none (ImageNet)."""

SAMPLES_PER_S = 16_000
"""What models of speech are trained on, where a configuration does not say otherwise."""

FRAMES_PER_S = 100
"""Of spectra: one each 10 ms (Whisper, Seamless, speech-to-text)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How much goes in at once.

    Attributes:
        batch_size: sequences, or images of a model that reads nothing else.
        seq_len: tokens of a sequence, of the source in an encoder-decoder.
        target_len: tokens of an encoder-decoder's target; None = ``seq_len``.
        images: to a sequence, or the size of those of a model that reads nothing else.
        seconds: of sound; None = ``seq_len`` samples or frames.
        inputs: further arguments of forward, or others in place of these.
    """

    batch_size: int
    seq_len: int | None
    target_len: int | None = None
    images: Images | None = None
    seconds: float | None = None
    inputs: tuple[InputShape, ...] = ()


def inputs_of(module: nn.Module, asked: Asked, name: str) -> dict[str, Any]:
    """Arguments of the module's forward, by name.

    Raises:
        InputError: a length is missing, or what it reads is not known.
    """
    takes = frozenset(inspect.signature(module.forward).parameters)
    given = {each.name: each.tensor(torch.device("cpu")) for each in asked.inputs if each.name}
    config: Any = module.config
    found: dict[str, Any] = {}
    main = str(getattr(module, "main_input_name", "input_ids"))
    if main in given or {"input_ids", "inputs_embeds"} & given.keys():
        return given | ({"use_cache": False} if "use_cache" in takes else {})
    if "input_ids" in takes and (main == "input_ids" or _is_pair(module) or _tells_of_images(module)):
        found["input_ids"] = _tokens(config, asked, _length(asked, name))
    if "pixel_values" in takes and (main == "pixel_values" or _is_pair(module)):
        found |= _patches(config, asked) if "spatial_shapes" in takes else {"pixel_values": _pixels(config, asked)}
    elif asked.images and "input_ids" in found:
        found |= images_of(module, takes, asked.images, asked.batch_size, name)
        found = with_places(module, takes, found, asked.images[0], name)
    frames = _of_parts(config, "frames_per_clip", "num_frames") if main == "pixel_values_videos" else None
    if frames:
        found[main] = torch.ones(asked.batch_size, int(frames), *_pixels(config, asked).shape[1:])
    if main in {"input_features", "input_values"}:
        found[main] = _sound(config, asked, main, name)
    if "decoder_input_ids" in takes and (getattr(config, "is_encoder_decoder", False) or "input_ids" not in found):
        found["decoder_input_ids"] = _tokens(config, asked, asked.target_len or _length(asked, name))
    found |= given
    if not found:
        raise _unknown(name, main)
    if "use_cache" in takes:
        found["use_cache"] = False
    return found


def _is_pair(module: nn.Module) -> bool:
    """Whether two towers, of texts and of images, are trained together (CLIP)."""
    return all(hasattr(module, each) for each in ("get_text_features", "get_image_features"))


def _tells_of_images(module: nn.Module) -> bool:
    """Whether its main input are images, and texts stand beside them (BLIP, Kosmos)."""
    config: Any = module.config
    return getattr(module, "main_input_name", "") == "pixel_values" and hasattr(config, "text_config")


def _length(asked: Asked, name: str) -> int:
    if asked.seq_len is None:
        raise InputError("--seq-len is missing", expectation=f"{name} reads tokens", remedy="say how many")
    return asked.seq_len


def _tokens(config: Any, asked: Asked, length: int) -> torch.Tensor:
    """The same ordinary token everywhere, none that stands for an image or ends a text."""
    special = {
        value
        for part in _parts(config)
        for key, value in vars(part).items()
        if isinstance(value, int) and ("token" in key or key.endswith("_index"))
    }
    plain = next(number for number in range(3, len(special) + 4) if number not in special)
    size = min((each for part in _parts(config) if (each := value_of(part, "vocab_size"))), default=plain + 1)
    return torch.full((asked.batch_size, length), plain if plain < size else 0, dtype=torch.int64)


def value_of(config: Any, name: str) -> Any:
    """An attribute of a configuration; None where it has none, or one of each layer's own."""
    try:
        return getattr(config, name, None)
    except Exception:  # noqa: BLE001 (transformers raises an error of its own where layers differ)
        return None


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for value in vars(config).values():
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            yield from _parts(value)


def _of_parts(config: Any, *names: str) -> Any:
    """The first value under one of these names, in the configuration or a part of it."""
    for name in names:
        for part in _parts(config):
            value = value_of(part, name)
            if value is not None:
                return value
    return None


def _pixels(config: Any, asked: Asked) -> torch.Tensor:
    size = asked.images[1:] if asked.images else _of_parts(config, "image_size", "input_size", "img_size", "crop_size")
    height, width = _square(size or USUAL_IMAGE)
    channels = _of_parts(config, "num_channels", "in_channels", "in_chans") or 3
    return torch.ones(asked.batch_size, int(channels), height, width)


def _patches(config: Any, asked: Asked) -> dict[str, Any]:
    """Images as rows of patches, with how many are in a column and a row (SigLIP 2)."""
    patch, channels = int(_of_parts(config, "patch_size") or 16), int(_of_parts(config, "num_channels") or 3)
    side = math.isqrt(int(_of_parts(config, "num_patches") or 256))
    rows, columns = (asked.images[1] // patch, asked.images[2] // patch) if asked.images else (side, side)
    return {
        "pixel_values": torch.ones(asked.batch_size, rows * columns, channels * patch * patch),
        "pixel_attention_mask": torch.ones(asked.batch_size, rows * columns, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]] * asked.batch_size),
    }


def _square(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        size = (size.get("height") or size["shortest_edge"], size.get("width") or size["shortest_edge"])
    return (int(size), int(size)) if isinstance(size, int) else (int(size[-2]), int(size[-1]))


def _sound(config: Any, asked: Asked, main: str, name: str) -> torch.Tensor:
    """Samples of sound, or frames of its spectrum: [batch, bins, frames] for Whisper, [batch, frames, bins] else."""
    if main == "input_values":
        rate = _of_parts(config, "sampling_rate") or SAMPLES_PER_S
        samples = _length(asked, name) if asked.seconds is None else round(asked.seconds * rate)
        least = _samples_of_a_frame(config)
        if samples < least:
            raise InputError(
                f"{samples} samples of sound are less than the {least} that one frame of {name} is made of",
                remedy="say how long it is: --seconds 10",
            )
        return torch.ones(asked.batch_size, samples)
    bins = int(
        _of_parts(
            config,
            "feature_projection_input_dim",
            "num_mel_bins",
            "feature_size",
            "input_dim",
            "input_feat_per_channel",
        )
        or 80
    )
    frames = None if asked.seconds is None else round(asked.seconds * FRAMES_PER_S)
    whisper = _of_parts(config, "max_source_positions")
    if whisper is not None and _of_parts(config, "feature_projection_input_dim") is None:
        return torch.ones(asked.batch_size, bins, frames or 2 * _length(asked, name))
    return torch.ones(asked.batch_size, frames or _length(asked, name), bins)


def _samples_of_a_frame(config: Any) -> int:
    """What the convolutions that make frames of samples look at together."""
    least = 1
    layers = zip(value_of(config, "conv_kernel") or (), value_of(config, "conv_stride") or (), strict=False)
    for width, step in reversed(list(layers)):
        least = (least - 1) * step + width
    return least


def _unknown(name: str, main: str) -> InputError:
    return InputError(
        f"what {name} reads is not known: its main input is {main!r}",
        remedy=f"`hwprof count` takes each argument of forward: --input {main}=SHAPE:DTYPE, as in 1x3x224x224:float32",
    )
