"""How much memory does an optimizer keep, and how much more does it take while it steps?"""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.count.parameters import ParameterTensor
from hwprof.count.sharding import Sharding
from hwprof.specs.run import OptimizerName, RunSettings

_STATE_BYTES = 4
"""State is fp32, as the weights are; so is the step count that Adam and Adafactor keep for each tensor."""

_MOMENTS: dict[OptimizerName, int] = {"adamw": 2, "adam": 2, "sgd": 1}
"""State arrays of the weights' size: two moments (Kingma & Ba 2015), or one momentum buffer."""

_LOOP_TEMPORARIES: dict[OptimizerName, int] = {"adamw": 2, "adam": 2, "sgd": 1, "adafactor": 1}
"""Arrays of one tensor's size that a loop over tensors holds at once.

Adam: the root of the second moment and its quotient. SGD: the gradient with weight decay. Adafactor: the update.
"""


def state_bytes(tensors: Sequence[ParameterTensor], settings: RunSettings, sharding: Sharding) -> float:
    """Optimizer state on one device, from the second step on."""
    return (
        sum(_state_elements(tensor, settings.optimizer, sharding) * tensor.repeats for tensor in tensors) * _STATE_BYTES
    )


def temporary_bytes(tensors: Sequence[ParameterTensor], settings: RunSettings, sharding: Sharding) -> float:
    """What the step allocates and frees: nothing when fused, one array of all weights' size with ``foreach``."""
    if settings.optimizer_implementation == "fused":
        return 0.0
    own = [sharding.parameters_of(tensor.label, tensor.elements) for tensor in tensors]
    if settings.optimizer_implementation == "foreach":
        whole = sum(elements * tensor.repeats for elements, tensor in zip(own, tensors, strict=True))
        return whole / sharding.state_shards * _STATE_BYTES
    return _LOOP_TEMPORARIES[settings.optimizer] * max(own) / sharding.state_shards * _STATE_BYTES


def _state_elements(tensor: ParameterTensor, name: OptimizerName, sharding: Sharding) -> float:
    """Elements of state for one tensor: moments and a step count; for Adafactor one row and one column of a matrix."""
    own = sharding.parameters_of(tensor.label, tensor.elements) / sharding.state_shards
    if name != "adafactor":
        return _MOMENTS[name] * own + (name != "sgd")
    factored = len(tensor.shape) > 1
    return (sum(tensor.shape) * own / tensor.elements if factored else own) + 1
