"""Are the parameters of a sharded model counted whole? Uneven layers over two ranks, by every way of sharding."""

import warnings

import pytest

WEIGHTS = 7 * 5 + 5 + 5 * 11 + 11 + 2 * 11 + 11 * 3
"""Linear 7 to 5, linear 5 to 11, a layer norm of 11, linear 11 to 3 without bias; no part divides by two evenly."""
FROZEN = 7 * 5


def _counted(_world, way, frozen):
    """Parameters of the whole model and of this rank, before and after a step."""
    import torch
    from torch import nn
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    from hwprof.measure.their_loop.model import see

    model = nn.Sequential(
        nn.Linear(7, 5), nn.Sequential(nn.Linear(5, 11), nn.LayerNorm(11)), nn.Linear(11, 3, bias=False)
    )
    model[0].weight.requires_grad_(not frozen)
    if way == "fsdp2":
        fully_shard(model[1])
        root = fully_shard(model)
    else:
        policy = {"one flat": None, "parts": ModuleWrapPolicy({nn.Linear}), "flat parts": ModuleWrapPolicy({nn.Linear})}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a CPU for a GPU, and frozen beside trained
            root = FullyShardedDataParallel(
                model, use_orig_params=way == "parts", auto_wrap_policy=policy[way], device_id=torch.device("cpu")
            )
    found = [see(root).spec()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root(torch.randn(4, 7)).sum().backward()
    found.append(see(root).spec())
    held = sum(getattr(each, "to_local", lambda each=each: each)().numel() for each in root.parameters())
    return [(spec.parameters, spec.trainable_parameters) for spec in found], held


@pytest.mark.parametrize("way", ["one flat", "parts", "flat parts", "fsdp2"])
def test_parameters_are_those_of_all_ranks(ranks, way):
    for counts, held in ranks(2).run(_counted, way, False):
        assert counts == [(WEIGHTS, WEIGHTS)] * 2
        assert held < WEIGHTS


def test_frozen_parts_of_a_flat_tensor_are_told_apart(ranks):
    for counts, _held in ranks(2).run(_counted, "parts", True):
        assert counts == [(WEIGHTS, WEIGHTS - FROZEN)] * 2
