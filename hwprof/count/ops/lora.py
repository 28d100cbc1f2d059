"""What does low-rank adaptation change? Frozen weights need no gradient; narrow pairs of matrices beside some do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.errors import InputError
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.job.step import LoraSpec
from hwprof.specs.job.switches import AdapterLibrary

_BLOCK = 64
"""Weights in NF4 that share a scale (Dettmers et al. 2023, section 3)."""

_DOUBLE_SCALE_BYTES = 1 + 4 / 256
"""A scale in 8 bits, one of 32 bits for 256 of these."""


_WIDE_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """How a library quantizes and adapts.

    Attributes:
        scale_bytes: of a block of weights in 4 bits.
        wide_rest: all but the 4-bit matrices is fp32, the residual stream, too.
        with_head: the head is quantized, too.
        copies: whole 16-bit copies of a weight that exist while it is used.
        lasting_inputs: inputs of each quantized product that are kept beside what backward needs: this step's, the last
            one's.
        dropout: a pair reads its input through dropout, which keeps a mask of one byte and its result.
        in_torch: a weight is widened by torch's own operations, which only a compiler makes one kernel of.
        adapts_experts: routed experts have pairs.
        narrow_experts: they are quantized.
    """

    scale_bytes: float
    wide_rest: bool = False
    with_head: bool = False
    copies: int = 1
    lasting_inputs: int = 0
    dropout: bool = False
    in_torch: bool = False
    adapts_experts: bool = True
    narrow_experts: bool = True

    def widening_bytes(self, width: int, *, fused: bool) -> float:
        """Traffic of a weight that is widened for one product: read in 4 bits with 32 bits of a scale a block, written.

        ``bitsandbytes.functional.dequantize_4bit``: a scale in 8 bits becomes one of 32 bits in memory first. It runs
        before the product of the forward pass, and again before that of the gradient (``MatMul4Bit.backward``). Each
        further copy is read and written. Unfused, torchao's ``NF4Tensor.get_original_weight`` goes through memory for
        each half of the weights: a shift or a mask (1 byte a weight of the whole), its result as 64 bits (4.5), the
        table's values at these (4 + width / 2), scales repeated (width / 2), their product (3 width / 2); then both
        halves are put together (2 width): 19 + 7 width.
        """
        if self.in_torch and not fused:
            return 19 + 7 * width
        scales_bytes = _WIDE_SCALE_BYTES + (1 + _WIDE_SCALE_BYTES if self.scale_bytes < _WIDE_SCALE_BYTES else 0)
        return 0.5 + scales_bytes / _BLOCK + width + (self.copies - 1) * 2 * width

    @property
    def weight_bytes(self) -> float:
        """Of an element in 4 bits."""
        return 0.5 + self.scale_bytes / _BLOCK


LIBRARIES: Mapping[AdapterLibrary, Library] = {
    "peft": Library(scale_bytes=_DOUBLE_SCALE_BYTES, wide_rest=True, adapts_experts=False, narrow_experts=False),
    "megatron": Library(scale_bytes=_DOUBLE_SCALE_BYTES),
    "torchtune": Library(scale_bytes=_DOUBLE_SCALE_BYTES, in_torch=True, narrow_experts=False),
    "litgpt": Library(scale_bytes=4, with_head=True, copies=2, lasting_inputs=2, dropout=True),
}
"""peft: ``prepare_model_for_kbit_training`` makes the rest wide; a layer's experts are one weight in transformers 5,
which ``all-linear`` passes over, and ``replace_with_bnb_linear`` quantizes linear layers alone. Megatron-Bridge: pairs
stand beside ``linear_fc1`` and ``linear_fc2`` of experts, too. torchtune: torchao's ``LinearNF4`` keeps no input;
``LoRAGroupedExperts`` quantizes nothing.
litgpt, as its ``config_hub`` trains: Lightning's ``BitsandbytesPrecision`` replaces every linear layer without double
quantization and quantizes in fp16, so that a widened weight is copied once more to bf16; ``MatMul4Bit`` of the
bitsandbytes that it pins (0.42) holds inputs in an attribute of the graph, which lives until the next loss exists."""

_PRODUCTS = frozenset({"linear", "expert_linear"})


def adapters(
    tensors: Sequence[ParameterTensor], lora: LoraSpec, library: AdapterLibrary
) -> tuple[ParameterTensor, ...]:
    """The trained pairs [r, in] and [out, r] of every matrix that has one; experts have one each.

    Raises:
        InputError: there is none.
    """
    pairs = []
    for tensor in tensors:
        if not is_target(tensor, lora, library):
            continue
        *experts, out, inside = tensor.shape
        pairs += [
            replace(tensor, shape=(*experts, lora.rank, inside)),
            replace(tensor, shape=(*experts, out, lora.rank)),
        ]
    if not pairs:
        raise InputError(
            f"no matrix gets adapters: --lora-targets {lora.targets} finds none that {library} adapts",
            expectation="experts that are one weight of a layer have no adapters of PEFT",
            remedy="take --lora-targets all",
        )
    return tuple(pairs)


_QUERY_VALUE = ("attention.query", "attention.value", "attention.kv")
"""Latent attention makes values in its ``kv``."""


def is_target(tensor: ParameterTensor, lora: LoraSpec, library: AdapterLibrary) -> bool:
    """Whether a weight is a matrix that gets a pair; of a captured model as PEFT's ``all-linear``."""
    if tensor.linear is None:
        return _is_matrix(tensor, experts=LIBRARIES[library].adapts_experts) and is_adapted(tensor.label, lora)
    if tensor.label == "head" or lora.targets in {"query-value", "attention", "ffn"}:
        return tensor.linear and is_adapted(tensor.label, lora)
    return tensor.linear


_JOINED = 3
"""Sizes of the experts of a layer in one weight; their biases have one less."""


def _is_matrix(tensor: ParameterTensor, *, experts: bool) -> bool:
    """Whether products take it, of experts where these count."""
    return experts and len(tensor.shape) == _JOINED if tensor.experts > 1 else len(tensor.shape) > 1


def adapted_labels(tensors: Sequence[ParameterTensor], lora: LoraSpec, library: AdapterLibrary) -> frozenset[str]:
    """Labels of the products that a pair stands beside."""
    tied = {"head"} if is_adapted("head", lora) else set()
    return frozenset({tensor.label for tensor in tensors if is_target(tensor, lora, library)} | tied)


def is_adapted(label: str, lora: LoraSpec) -> bool:
    """Whether the matrix of an operation gets a pair; routers and embeddings do not."""
    if label.endswith(("moe.router", "norm")):
        return False
    if "layers.*" not in label:
        return lora.targets == "linear" and label == "head"
    if lora.targets == "query-value":
        return label.endswith(_QUERY_VALUE)
    kind = layer_kind(label)
    return kind == lora.targets if lora.targets in {"attention", "ffn"} else kind in {"attention", "ffn"}


def widened_labels(tensors: Sequence[ParameterTensor], lora: LoraSpec, library: AdapterLibrary) -> frozenset[str]:
    """Labels of the products whose weights are kept in 4 bits."""
    if not lora.quantized:
        return frozenset()
    return frozenset(
        tensor.label for tensor in tensors if frozen_bytes(tensor, lora, _WIDE_SCALE_BYTES, library) < _WIDE_SCALE_BYTES
    )


def frozen_bytes(tensor: ParameterTensor, lora: LoraSpec, weight_bytes: float, library: AdapterLibrary) -> float:
    """An element of a frozen weight: quantized ones are the matrices of layers, perhaps the head's."""
    found = LIBRARIES[library]
    matrix = _is_matrix(tensor, experts=found.narrow_experts) and "layers.*" in tensor.label
    matrix = matrix and not tensor.label.endswith("moe.router")
    if tensor.linear is not None:
        matrix = tensor.linear and tensor.label != "head"
    narrow = lora.quantized and (matrix or (found.with_head and tensor.label == "head"))
    return found.weight_bytes if narrow else weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A model that is frozen, and the pairs beside its matrices.

    Attributes:
        lora: the pairs.
        library: whose way of keeping them.
        tensors: the model's weights.
        compute_bytes: an element of what products read.
    """

    lora: LoraSpec
    library: AdapterLibrary
    tensors: Sequence[ParameterTensor]
    compute_bytes: int

    def adapted(self, ops: Sequence[Op]) -> Iterator[Op]:
        """The operations of the frozen model, with the pairs beside those that have one.

        What only the gradient of a frozen weight would need is not kept, and that gradient is not made. A pair keeps
        the input of its product and its own narrow result; it adds products of 2·N·r·(I + O) FLOP forward, twice that
        backward. A quantized weight is widened while it is used. That nothing below the first pair needs a gradient is
        not counted.
        """
        previous: Op | None = None
        for op in ops:
            shared = not op.weight_saved_bytes and previous is not None and previous.kind in _PRODUCTS
            if op.kind in _PRODUCTS:
                yield self._product(op, input_shared=shared)
            else:
                kept_bytes = op.saved_bytes - op.weight_saved_bytes
                still = replace(op, parameters=0, saved_bytes=kept_bytes, weight_saved_bytes=0)
                yield replace(still, backward=_of_input(op)) if op.parameters else still
            previous = op

    def _product(self, op: Op, *, input_shared: bool) -> Op:
        own = [tensor for tensor in self.tensors if tensor.label == op.label and len(tensor.shape) > 1]
        narrow = [tensor for tensor in own if self._is_narrow(tensor)]
        targets = [tensor for tensor in own if is_target(tensor, self.lora, self.library)]
        widened = LIBRARIES[self.library].copies * sum(tensor.elements * self.compute_bytes for tensor in narrow)
        frozen = replace(
            op,
            parameters=0,
            backward=_of_input(op),
            input_bytes=op.input_bytes + widened,
            saved_bytes=self._kept_bytes(op, narrow=bool(narrow), target=bool(targets), input_shared=input_shared),
            weight_saved_bytes=0,
            weight_copy_bytes=0,
        )
        return self._with_pair(frozen, targets[0]) if targets else frozen

    def _is_narrow(self, tensor: ParameterTensor) -> bool:
        return frozen_bytes(tensor, self.lora, self.compute_bytes, self.library) < self.compute_bytes

    def _kept_bytes(self, op: Op, *, narrow: bool, target: bool, input_shared: bool) -> int:
        """What a product keeps beside a pair's result: its input where a pair or its library needs it, and a mask."""
        library, own = LIBRARIES[self.library], op.weight_saved_bytes
        lasting = library.lasting_inputs if narrow else 0
        kept_bytes = op.saved_bytes if target or lasting else op.saved_bytes - own
        if input_shared:
            return kept_bytes
        if lasting > 1:
            kept_bytes += op.input_bytes
        if target and library.dropout:
            kept_bytes += op.input_bytes // self.compute_bytes + (0 if own and not lasting else op.input_bytes)
        return kept_bytes

    def _with_pair(self, op: Op, target: ParameterTensor) -> Op:
        *_, out, inside = target.shape
        narrow = int(op.forward.matmul_flop) // (2 * out * inside) * self.lora.rank
        pair = Cost(matmul_flop=2 * narrow * (inside + out))
        return replace(
            op,
            forward=op.forward + pair,
            backward=op.backward + pair * 2,
            parameters=sum(pair.elements for pair in adapters([target], self.lora, self.library)),
            saved_bytes=op.saved_bytes + narrow * self.compute_bytes,
        )


def _of_input(op: Op) -> Cost:
    """A product's backward without the gradient of its weight: that of its input, if it has one, is as much as forward.

    (What torch's counter says of a grouped convolution's weight is more, hence the smaller of the two.)
    """
    forward, backward = op.forward.matmul_flop, op.backward.matmul_flop
    return replace(op.backward, matmul_flop=min(forward, max(backward - forward, 0)))
