"""What shape does an operator's result have? From its arguments, for operators that a profile recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hwprof.specs.record.captured import TensorView, Value, tensors_in

Shape = tuple[int, ...]
Arguments = Mapping[str, Value]

_REDUCTIONS = frozenset(
    [
        "sum",
        "mean",
        "prod",
        "amax",
        "amin",
        "max",
        "min",
        "any",
        "all",
        "argmax",
        "argmin",
        "norm",
        "linalg_vector_norm",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "logsumexp",
        "isfinite_all",
        "count_nonzero",
        "nansum",
        "item",
        "is_nonzero",
        "equal",
    ]
)
"""Operators whose result is small beside what they read, and is left out."""


def result_shapes(name: str, plain: str, arguments: Arguments) -> tuple[Shape, ...]:
    """Shapes of all results that are in memory of their own; by broadcasting where nothing else is known.

    Raises:
        LookupError, TypeError, ValueError: the arguments do not fit the operator.
    """
    rule = _RULES.get(plain)
    if rule is None and "attention" in plain:
        rule = _attention_backward if plain.endswith("backward") else _attention
    if rule is not None and name.startswith("aten::"):
        return tuple(rule(arguments))
    if plain in _REDUCTIONS:
        return ()
    return (_broadcast([tensor.shape for value in arguments.values() for tensor in tensors_in(value)]),)


def _broadcast(shapes: list[Shape]) -> Shape:
    """The shape that all fit into (torch, Broadcasting semantics).

    Raises:
        ValueError: they do not fit.
    """
    rank = max(map(len, shapes), default=0)
    columns = zip(*([1] * (rank - len(shape)) + list(shape) for shape in shapes), strict=True)
    sizes = [{size for size in column if size != 1} for column in columns]
    if any(len(each) > 1 for each in sizes):
        raise ValueError(f"shapes {shapes} do not broadcast")
    return tuple(next(iter(each), 1) for each in sizes)


def _shape(arguments: Arguments, name: str) -> Shape:
    value = arguments[name]
    if not isinstance(value, TensorView):
        raise TypeError(f"{name} is {value!r}, no tensor")
    return value.shape


def _whole(arguments: Arguments, name: str) -> int:
    value = arguments[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, no whole number")
    return value


def _list(arguments: Arguments, name: str) -> list[int]:
    value = arguments[name]
    if not isinstance(value, tuple):
        raise TypeError(f"{name} is {value!r}, no list")
    return [int(each) for each in value if isinstance(each, int)]


def _product(left: str, right: str) -> Callable[[Arguments], list[Shape]]:
    def shapes(arguments: Arguments) -> list[Shape]:
        first, second = _shape(arguments, left), _shape(arguments, right)
        return [(*first[:-1], second[-1])]

    return shapes


def _grouped(arguments: Arguments) -> list[Shape]:
    first, second = _shape(arguments, "self"), _shape(arguments, "mat2")
    product = (first[-2], second[-1])
    if len(first) == len(second) == 2:
        return [(_shape(arguments, "offs")[0], *product)]
    return [(first[0], *product) if len(first) == len(second) == 3 else product]


def _convolution(arguments: Arguments) -> list[Shape]:
    x, weight = _shape(arguments, "input"), _shape(arguments, "weight")
    steps = (_list(arguments, name) for name in ("stride", "padding", "dilation"))
    places = list(zip(x[2:], weight[2:], *steps, strict=True))
    if arguments["transposed"]:
        extra = _list(arguments, "output_padding")
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + e for (n, k, s, p, d), e in zip(places, extra, strict=True)]
        return [(x[0], weight[1] * _whole(arguments, "groups"), *sizes)]
    return [(x[0], weight[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in places))]


def _convolution_backward(arguments: Arguments) -> list[Shape]:
    dy, x, weight = (_shape(arguments, name) for name in ("grad_output", "input", "weight"))
    return [
        shape for shape, wanted in zip((x, weight, dy[1:2]), _list(arguments, "output_mask"), strict=True) if wanted
    ]


def _attention(arguments: Arguments) -> list[Shape]:
    query, value = _shape(arguments, "query"), _shape(arguments, "value")
    return [(*query[:-1], value[-1]), query[:-1]]


def _attention_backward(arguments: Arguments) -> list[Shape]:
    return [_shape(arguments, name) for name in ("query", "key", "value")]


def _embedding(arguments: Arguments) -> list[Shape]:
    return [_shape(arguments, "indices") + _shape(arguments, "weight")[1:]]


def _embedding_backward(arguments: Arguments) -> list[Shape]:
    return [(_whole(arguments, "num_weights"), _shape(arguments, "grad_output")[-1])]


def _index(arguments: Arguments) -> list[Shape]:
    places = [tensor.shape for tensor in tensors_in(arguments["indices"])]
    return [_broadcast(places) + _shape(arguments, "self")[len(places) :]]


def _index_select(arguments: Arguments) -> list[Shape]:
    sizes, dim = list(_shape(arguments, "self")), _whole(arguments, "dim")
    sizes[dim] = _shape(arguments, "index")[0]
    return [tuple(sizes)]


def _like(*names: str) -> Callable[[Arguments], list[Shape]]:
    """Results shaped like these arguments, those of them that are tensors."""

    def shapes(arguments: Arguments) -> list[Shape]:
        found = (arguments.get(name) for name in names)
        return [value.shape for value in found if isinstance(value, TensorView)]

    return shapes


def _whole_tensor(arguments: Arguments) -> list[Shape]:
    return [tuple(_list(arguments, "input_sizes"))]


def _pool(arguments: Arguments) -> list[Shape]:
    x, kernel = _shape(arguments, "self"), _list(arguments, "kernel_size")
    steps = _list(arguments, "stride") or kernel
    pads = _list(arguments, "padding")
    places = zip(x[-len(kernel) :], kernel, steps, pads, strict=True)
    return [(*x[: -len(kernel)], *((n + 2 * p - k) // s + 1 for n, k, s, p in places))]


def _joined(arguments: Arguments) -> list[Shape]:
    return [(sum(tensor.elements for value in arguments.values() for tensor in tensors_in(value)),)]


def _scalar(_arguments: Arguments) -> list[Shape]:
    return [()]


_RULES: dict[str, Callable[[Arguments], list[Shape]]] = {
    "mm": _product("self", "mat2"),
    "_int_mm": _product("self", "mat2"),
    "bmm": _product("self", "mat2"),
    "_scaled_mm": _product("self", "mat2"),
    "_grouped_mm": _grouped,
    "_scaled_grouped_mm": _grouped,
    "addmm": _product("mat1", "mat2"),
    "baddbmm": _product("batch1", "batch2"),
    "addbmm": _like("self"),
    "mv": lambda arguments: [_shape(arguments, "self")[:-1]],
    "addmv": lambda arguments: [_shape(arguments, "mat")[:-1]],
    "dot": _scalar,
    "vdot": _scalar,
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "convolution_backward": _convolution_backward,
    "convolution_backward_overrideable": _convolution_backward,
    "embedding": _embedding,
    "embedding_dense_backward": _embedding_backward,
    "index": _index,
    "_unsafe_index": _index,
    "index_select": _index_select,
    "gather": _like("index"),
    "take": _like("index"),
    "index_put": _like("self"),
    "_unsafe_index_put": _like("self"),
    "_index_put_impl": _like("self"),
    "slice_backward": _whole_tensor,
    "select_backward": _whole_tensor,
    "diagonal_backward": _whole_tensor,
    "nll_loss_forward": _scalar,
    "nll_loss2d_forward": _scalar,
    "nll_loss_backward": _like("self"),
    "nll_loss2d_backward": _like("self"),
    "native_layer_norm": _like("input"),
    "_fused_rms_norm": _like("input"),
    "native_batch_norm": _like("input", "weight", "weight"),
    "_native_batch_norm_legit": _like("input", "weight", "weight"),
    "native_group_norm": _like("input"),
    "native_layer_norm_backward": _like("input", "weight", "bias"),
    "native_group_norm_backward": _like("input", "weight", "weight"),
    "native_batch_norm_backward": _like("input", "weight", "weight"),
    "_fused_rms_norm_backward": _like("input", "weight"),
    "max_pool2d_with_indices": _pool,
    "max_pool3d_with_indices": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool,
    "cat": _joined,
    "stack": _joined,
}
