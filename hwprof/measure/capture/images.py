"""How do images go into a model of language and images? Pixels in its layout, and tokens that stand for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from hwprof.errors import InputError
from hwprof.measure.capture.fake import all_fake, make_fake
from hwprof.measure.capture.shapes import shapes_only

Images = tuple[int, int, int]
"""How many there are to a sequence, and how high and wide each is, in pixels."""


def images_of(module: nn.Module, takes: frozenset[str], images: Images, batch_size: int, name: str) -> dict[str, Any]:
    """Arguments of forward that hold the pixels.

    Args:
        module: a model that reads both.
        takes: the names of the arguments of its forward.
        images: of one sequence.
        batch_size: sequences.
        name: what messages call the model.

    Raises:
        InputError: it reads no images, or none of this size.
    """
    crossed = "cross_attention_mask" in takes
    if "pixel_values" not in takes or not (crossed or hasattr(module, "get_image_features")):
        raise InputError(f"{name} reads no images beside tokens", remedy="leave --images out")
    count, height, width = images
    total = count * batch_size
    config: Any = module.config
    vision = getattr(config, "vision_config", config)
    channels = int(getattr(vision, "num_channels", None) or getattr(vision, "in_channels", None) or 3)
    if crossed:
        return _canvases(vision, count, batch_size, channels)
    if "image_grid_thw" in takes:
        return _patches(vision, total, (height, width), channels, name)
    if getattr(config, "image_grid_pinpoints", None):
        return _tiles(config, vision, images, batch_size, channels)
    if "pixel_attention_mask" in takes:
        return {"pixel_values": torch.ones(batch_size, count, channels, height, width)}
    found: dict[str, Any] = {"pixel_values": torch.ones(total, channels, height, width)}
    if "image_sizes" in takes and getattr(vision, "model_type", "") == "pixtral":
        found["image_sizes"] = torch.tensor([[height, width]] * total)
    return found


def _patches(vision: Any, total: int, size: tuple[int, int], channels: int, name: str) -> dict[str, Any]:
    """Images of any size as rows of patches (Qwen2-VL)."""
    height, width = size
    patch, merge = int(vision.patch_size), int(getattr(vision, "spatial_merge_size", 1))
    if height % (patch * merge) or width % (patch * merge):
        raise InputError(
            f"images of {height} x {width} do not divide into patches of {name}",
            expectation=f"multiples of {patch * merge} pixels",
            remedy="change --images; the model's processor rounds to such sizes",
        )
    rows, columns = height // patch, width // patch
    inside = channels * int(getattr(vision, "temporal_patch_size", 1)) * patch * patch
    return {
        "pixel_values": torch.ones(total * rows * columns, inside),
        "image_grid_thw": torch.tensor([[1, rows, columns]] * total),
    }


def _tiles(config: Any, vision: Any, images: Images, batch_size: int, channels: int) -> dict[str, Any]:
    """Images cut into tiles of the tower's size, with the whole one made small before them (LLaVA-NeXT)."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    count, height, width = images
    side = int(vision.image_size)
    tiles = int(image_size_to_num_patches([height, width], config.image_grid_pinpoints, side))
    sizes = [[height, width]] * (count * batch_size)
    return {
        "pixel_values": torch.ones(count * batch_size, tiles, channels, side, side),
        "image_sizes": torch.tensor(sizes),
    }


def _canvases(vision: Any, count: int, batch_size: int, channels: int) -> dict[str, Any]:
    """Images as tiles of one size, always as many, which some layers look at (Llama 3.2 Vision)."""
    tiles, side = int(vision.max_num_tiles), int(vision.image_size)
    return {
        "pixel_values": torch.ones(batch_size, count, tiles, channels, side, side),
        "aspect_ratio_ids": torch.ones(batch_size, count, dtype=torch.int64),
        "aspect_ratio_mask": torch.ones(batch_size, count, tiles, dtype=torch.int64),
    }


def with_places(
    module: nn.Module, takes: frozenset[str], found: dict[str, Any], count: int, name: str
) -> dict[str, Any]:
    """Put the tokens that stand for images into ``input_ids``, as many as the tower gives vectors; others between.

    Raises:
        InputError: the sequence is too short for them.
    """
    if "aspect_ratio_mask" in found:  # its tokens stand for themselves, and each looks at all
        tiles = found["aspect_ratio_mask"].shape[1:]
        return found | {"cross_attention_mask": torch.ones(*found["input_ids"].shape, *tiles, dtype=torch.int64)}
    pixels = {key: value for key, value in found.items() if key in {"pixel_values", "image_grid_thw", "image_sizes"}}
    ids = found["input_ids"]
    each = _vectors(module, pixels, name) // ids.shape[0] // count
    needed = count * (each + 1) + 1
    if needed > ids.shape[1]:
        raise InputError(
            f"the images of a sequence are {count} x {each} tokens of {name}, and it has {ids.shape[1]}",
            expectation="--seq-len counts them, and a token between each two",
            remedy=f"give --seq-len of at least {needed}, or smaller images",
        )
    token = next((getattr(module.config, key, None) for key in _TOKENS if getattr(module.config, key, None)), None)
    if token is None:
        raise InputError(
            f"{name} does not say which token stands for an image", remedy="give the arguments with --input"
        )
    for number in range(count):
        start = 1 + number * (each + 1)
        ids[:, start : start + each] = int(token)
    if "mm_token_type_ids" in takes:
        found["mm_token_type_ids"] = (ids == int(token)).long()
    return found


_TOKENS = ("image_token_id", "image_token_index")


def _vectors(module: nn.Module, pixels: dict[str, Any], name: str) -> int:
    """How many vectors the tower makes of the pixels: it is run on shapes alone.

    Raises:
        InputError: it does not take them.
    """
    try:
        with torch.no_grad():
            if not any(parameter.is_meta for parameter in module.parameters()):
                return sum(_rows(_features(module, pixels)))
            mode = make_fake(module)
            with shapes_only(mode):
                return sum(_rows(_features(module, all_fake(pixels, mode))))
    except Exception as error:
        raise InputError(
            f"the tower of {name} does not take such images: {' '.join(str(error).split()):.200}",
            remedy="give them the size that its configuration says (vision_config.image_size)",
        ) from error


def _features(module: nn.Module, pixels: dict[str, Any]) -> Any:
    found: Any = module.get_image_features(**pixels)  # type: ignore[operator]  # transformers' own name
    return getattr(found, "pooler_output", found)


def _rows(features: Any) -> Iterator[int]:
    for leaf in tree_leaves(features):
        if isinstance(leaf, torch.Tensor):
            yield leaf.numel() // leaf.shape[-1]
