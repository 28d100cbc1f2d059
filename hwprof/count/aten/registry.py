"""What does one call of a torch operator cost? A flat registry of pure functions, and a rule for all that is not in it.

Matrix-multiply FLOP are those that torch's ``FlopCounterMode`` counts. Bytes are those of one eager kernel that reads
its arguments and writes its results once, unless a function here says otherwise. Other FLOP are an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from hwprof.count.ops.cost import Cost
from hwprof.specs.record.captured import AtenCall, TensorView, tensors_in

AtenCost = Callable[[AtenCall], Cost]

ATEN: dict[str, AtenCost] = {}
"""Operator name ("aten::mm", "mylib::attention") -> pure function of the call."""

FLOP_PER_ELEMENT: dict[str, int] = {
    "gelu": 9,
    "gelu_backward": 18,
    "silu": 4,
    "silu_backward": 7,
    "sigmoid": 4,
    "sigmoid_backward": 3,
    "tanh_backward": 3,
    "softplus": 4,
    "mish": 8,
    "hardswish": 4,
    "_softmax": 5,
    "_softmax_backward_data": 4,
    "_log_softmax": 4,
    "_log_softmax_backward_data": 3,
    "native_layer_norm": 8,
    "native_layer_norm_backward": 14,
    "native_group_norm": 8,
    "native_group_norm_backward": 14,
    "native_batch_norm": 8,
    "native_batch_norm_backward": 14,
    "_fused_rms_norm": 4,
    "_fused_rms_norm_backward": 10,
    "native_dropout": 3,
    "native_dropout_backward": 2,
    "addcmul": 3,
    "addcdiv": 3,
    "lerp": 3,
    "var": 4,
    "var_mean": 4,
    "std": 4,
    "std_mean": 4,
    "logsumexp": 4,
    "linalg_vector_norm": 2,
    "_fused_adam": 13,
    "_fused_adamw": 14,
    "_fused_sgd": 6,
}
"""FLOP for each element of the largest tensor; 1 where nothing is said. Norms, activations, losses and optimizers as
in ``hwprof.count.ops.vector`` and ``update_ops``; a transcendental function counts as one."""

MOVES = frozenset(
    {
        "_to_copy",
        "clone",
        "copy",
        "contiguous",
        "cat",
        "stack",
        "repeat",
        "repeat_interleave",
        "roll",
        "flip",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "index",
        "index_select",
        "gather",
        "take",
        "scatter",
        "slice_scatter",
        "select_scatter",
        "diagonal_scatter",
        "as_strided_scatter",
        "masked_fill",
        "masked_select",
        "where",
        "tril",
        "triu",
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "scalar_tensor",
        "arange",
        "linspace",
        "eye",
        "fill",
        "zero",
        "rand",
        "rand_like",
        "randn",
        "randn_like",
        "randint",
        "randint_like",
        "randperm",
        "bernoulli",
        "normal",
        "uniform",
        "exponential",
        "random",
        "one_hot",
        "unfold_backward",
        "im2col",
        "col2im",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "_reshape_copy",
        "view_copy",
        "permute_copy",
        "expand_copy",
        "_pin_memory",
        "_resize_output",
        "resize",
    }
)
"""Operators that move, fill or draw numbers without floating-point work."""

WRITES_ONLY = frozenset({"fill", "zero", "bernoulli", "normal", "uniform", "exponential", "random"})
"""Operators whose in-place form overwrites its argument without reading it."""

WITHOUT_FORMULA = (
    "linalg_",
    "_linalg_",
    "fft_",
    "_fft_",
    "mkldnn_",
    "_cudnn_",
    "cudnn_",
    "miopen_",
    "_trilinear",
    "_cdist",
    "cdist",
    "cholesky",
    "lu_",
    "_lu_",
    "triangular_solve",
    "_sparse_",
    "grid_sampler",
)
"""Beginnings of the names of aten operators whose work is no small number of FLOP an element."""


def register(*names: str) -> Callable[[AtenCost], AtenCost]:
    """Enter the cost function of one or more operators, yours among them.

    An in-place operator (``aten::add_``) that is not entered itself costs what its plain form does.

    Raises:
        ValueError: an operator is registered already; two formulas would make the count ambiguous.

    >>> @register("mylib::scale")
    ... def scale(call: AtenCall) -> Cost:
    ...     return traffic(call) + Cost(vector_flop=call.tensor("x").elements)
    """

    def enter(function: AtenCost) -> AtenCost:
        for name in names:
            if name in ATEN:
                raise ValueError(f"operator {name!r} is registered already, by {ATEN[name].__module__}")
            ATEN[name] = function
        return function

    return enter


def aten_cost(call: AtenCall, *, causal_half: bool = False) -> Cost:
    """Cost of one call.

    Args:
        call: the call.
        causal_half: count half of the work of attention that was called with ``is_causal``.
    """
    function = _registered(call.name)
    cost = _by_elements(call) if function is None else function(call)
    if causal_half and call.arguments.get("is_causal") is True:
        return Cost(
            matmul_flop=cost.matmul_flop // 2,
            vector_flop=cost.vector_flop // 2,
            read_bytes=cost.read_bytes,
            write_bytes=cost.write_bytes,
        )
    return cost


def unpriced(names: Iterable[str]) -> tuple[str, ...]:
    """Operators among ``names`` whose FLOP nobody has said how to count; their bytes are."""
    return tuple(sorted({name for name in names if _registered(name) is None and not _counts_by_elements(name)}))


def traffic(call: AtenCall, *, unread: Collection[str] = ()) -> Cost:
    """Each argument read once, but for those named ``unread``; each output written once."""
    read = (tensor for name, value in call.arguments.items() if name not in unread for tensor in tensors_in(value))
    return moved(read, call.outputs)


def moved(read: Iterable[TensorView], written: Iterable[TensorView]) -> Cost:
    """Reading and writing these tensors once."""
    return Cost(
        read_bytes=sum(tensor.size_bytes for tensor in read), write_bytes=sum(tensor.size_bytes for tensor in written)
    )


def plain_name(name: str) -> str:
    """An operator without namespace, list prefix and in-place mark: ``aten::_foreach_mul_`` -> ``mul``."""
    return name.partition("::")[2].removeprefix("_foreach_").rstrip("_")


def _registered(name: str) -> AtenCost | None:
    return ATEN.get(name) or ATEN.get(name.removesuffix("_"))


def _counts_by_elements(name: str) -> bool:
    plain = plain_name(name)
    return name.startswith("aten::") and (plain in FLOP_PER_ELEMENT or not plain.startswith(WITHOUT_FORMULA))


def _by_elements(call: AtenCall) -> Cost:
    """The rule for what is not registered: one pass over memory, so many FLOP for each element."""
    plain = plain_name(call.name)
    overwritten = call.written if plain in WRITES_ONLY or plain == "copy" else ()
    cost = traffic(call, unread=overwritten)
    if plain in MOVES or not _counts_by_elements(call.name):
        return cost
    return cost + Cost(vector_flop=FLOP_PER_ELEMENT.get(plain, 1) * _largest(call))


def _largest(call: AtenCall) -> int:
    """Elements of the largest floating-point argument or result; of a list, of all its tensors."""
    groups = [*call.arguments.values(), call.results]
    return max((sum(tensor.elements for tensor in tensors_in(group) if tensor.is_float) for group in groups), default=0)
