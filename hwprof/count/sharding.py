"""What does one device hold of a model that is split over several? Rules for ZeRO, tensor and pipeline parallelism."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwprof.count.op import Op
from hwprof.errors import InputError

_SPLIT_KINDS = frozenset(
    {"attention_core", "attention_core_materialised", "rope", "activation", "gated_activation", "cross_entropy"}
)
"""Op kinds that a tensor-parallel rank runs on its share of heads, features or vocabulary."""

_ROW_PARALLEL = ("attention.output", "self_attn.out_proj", "ffn.down", "linear2", "layers.*.dropout")
"""Ends of labels whose input is split though their result is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """Degrees of the split.

    Attributes:
        data_parallel: replicas, over which ZeRO stages 1, 2, 3 also split optimizer state, gradients, weights
            (Rajbhandari et al. 2020, section 5).
        tensor_parallel: devices that share each layer's matrices by columns and rows (Shoeybi et al. 2019), without
            sequence parallelism: inputs of the column-parallel matrices, norms and residuals are whole on each
            (Korthikanti et al. 2022, section 4.1).
        pipeline_parallel: stages of layers, one-forward-one-backward schedule: stage i of p holds the activations of
            p - i micro-batches (Narayanan et al. 2021, section 2.2).
        zero_stage: 0, 1, 2 or 3.

    Raises:
        InputError: a degree below 1, or no such ZeRO stage.
    """

    data_parallel: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    zero_stage: int = 0

    def __post_init__(self) -> None:
        for name in ("data_parallel", "tensor_parallel", "pipeline_parallel"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)}", expectation="a degree is at least 1")
        if self.zero_stage not in range(4):
            raise InputError(f"ZeRO stage {self.zero_stage} does not exist", expectation="the stages are 0, 1, 2 and 3")

    def _over_replicas(self, since_stage: int) -> int:
        return self.data_parallel if self.zero_stage >= since_stage else 1

    @property
    def state_shards(self) -> int:
        """Into how many parts the optimizer state is split over replicas."""
        return self._over_replicas(1)

    @property
    def gradient_shards(self) -> int:
        """Into how many parts the gradients are split over replicas."""
        return self._over_replicas(2)

    @property
    def weight_shards(self) -> int:
        """Into how many parts the weights are split over replicas."""
        return self._over_replicas(3)

    def parameters_of(self, label: str, elements: float) -> float:
        """Elements of a weight on one tensor-parallel rank: norms are whole, all else is split."""
        return elements if label.endswith(("norm", "norm1", "norm2")) else elements / self.tensor_parallel

    def of_op(self, op: Op) -> Op:
        """What one tensor-parallel rank keeps and works on for an op."""
        degree = self.tensor_parallel
        if degree == 1:
            return op
        split_input = op.kind in _SPLIT_KINDS or op.label.endswith(_ROW_PARALLEL)
        split_output = op.kind in _SPLIT_KINDS or (op.kind == "linear" and not split_input)
        return replace(
            op,
            parameters=round(self.parameters_of(op.label, op.parameters)),
            weight_copy_bytes=op.weight_copy_bytes // degree,
            saved_bytes=op.saved_bytes // degree if split_input else op.saved_bytes,
            input_bytes=op.input_bytes // degree if split_input else op.input_bytes,
            output_bytes=op.output_bytes // degree if split_output else op.output_bytes,
        )
