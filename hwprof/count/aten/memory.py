"""What do torch's operators cost whose bytes are not those of all arguments and results? Lookups, norms, losses, pools.

Letters as in ``hwprof.count.ops.vector``.
"""

from __future__ import annotations

from math import prod

from hwprof.count.aten.registry import FLOP_PER_ELEMENT, moved, plain_name, register, traffic
from hwprof.count.ops.cost import Cost
from hwprof.specs.record.captured import AtenCall, TensorView, tensors_in


@register(
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::empty_permuted",
    "aten::new_empty",
    "aten::new_empty_strided",
    "aten::resize",
    "aten::set",
    "aten::lift_fresh",
    "aten::lift_fresh_copy",
    "aten::_local_scalar_dense",
    "aten::_assert_async",
    "aten::_assert_scalar",
    "aten::_assert_tensor_metadata",
)
def nothing(_call: AtenCall) -> Cost:
    """Memory is taken, or a number is looked at."""
    return Cost.ZERO


@register(
    "aten::embedding",
    "aten::index",
    "aten::_unsafe_index",
    "aten::index_select",
    "aten::gather",
    "aten::take",
    "aten::masked_select",
)
def lookup(call: AtenCall) -> Cost:
    """Of the table only what is looked up is read, and the places where."""
    return moved((*call.results, *_places(call)), call.results)


@register("fsdp::all_gather_copy_in")
def copied_in(call: AtenCall) -> Cost:
    """This rank's parts are copied to their places in the vector that is gathered."""
    parts = tuple(tensors_in(call.arguments["all_gather_inputs"]))
    return moved(parts, parts)


@register("fsdp::split_with_sizes_copy", "fsdp::chunk_cat")
def copied_out(call: AtenCall) -> Cost:
    """What was gathered goes to the parameters, or gradients into the vector that is reduced, each number once."""
    return traffic(call)


@register("aten::embedding_dense_backward")
def embedding_backward(call: AtenCall) -> Cost:
    """Fills the gradient of the table with zeros, then reads each row's gradient and adds it to its row."""
    dy, table = call.tensor("grad_output"), call.results[0]
    return (
        moved((dy, call.tensor("indices")), (table,))
        + Cost(vector_flop=dy.elements)
        + _touched(dy.elements * table.element_bytes)
    )


def _touched(size_bytes: int) -> Cost:
    return Cost(read_bytes=size_bytes, write_bytes=size_bytes)


@register(
    "aten::index_put",
    "aten::_unsafe_index_put",
    "aten::_index_put_impl",
    "aten::index_add",
    "aten::index_copy",
    "aten::scatter_add",
    "aten::scatter_reduce",
    "aten::scatter",
    "aten::index_fill",
    "aten::masked_scatter",
)
def placement(call: AtenCall) -> Cost:
    """Values are read and written to their places; where they are added, what is there is read too.

    Not in place, all of the tensor is copied first.
    """
    values = _values(call)
    width = call.tensor("self").element_bytes
    adds = plain_name(call.name) in {"index_add", "scatter_add", "scatter_reduce"} or bool(
        call.arguments.get("accumulate")
    )
    cost = moved(_places(call), ()) + Cost(
        vector_flop=values * adds, read_bytes=(1 + adds) * values * width, write_bytes=values * width
    )
    return cost if call.written else cost + _touched(call.tensor("self").size_bytes)


def _places(call: AtenCall) -> list[TensorView]:
    names = ("index", "indices", "mask")
    return [tensor for name in names for tensor in tensors_in(call.arguments.get(name))]


def _values(call: AtenCall) -> int:
    """Elements that are written; of a number in place of values, as many as there are places."""
    names = ("values", "source", "src", "value")
    given = [tensor.elements for name in names for tensor in tensors_in(call.arguments.get(name))]
    places = max((tensor.elements for tensor in _places(call)), default=0)
    return max(given[0], 1) if given and given[0] > 1 else places


@register("aten::slice_backward", "aten::select_backward", "aten::diagonal_backward")
def part_backward(call: AtenCall) -> Cost:
    """Fills the gradient of the whole with zeros, then copies the part's into it."""
    part = next(iter(call.inputs))
    return moved((part,), (*call.results, part))


@register("aten::nll_loss_forward", "aten::nll_loss2d_forward")
def nll_loss(call: AtenCall) -> Cost:
    """Picks one number a target."""
    target = call.tensor("target")
    picked = target.elements * call.tensor("self").element_bytes
    return moved((target,), call.results) + Cost(vector_flop=target.elements, read_bytes=picked)


@register("aten::nll_loss_backward", "aten::nll_loss2d_backward")
def nll_loss_backward(call: AtenCall) -> Cost:
    """Fills the gradient with zeros but for one number a target; the forward's input is not read."""
    return traffic(call, unread=("self",)) + Cost(vector_flop=call.tensor("target").elements)


@register("aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::native_group_norm")
def norm_of_channels(call: AtenCall) -> Cost:
    """Reads the input twice: for its statistics, and to normalise."""
    x = call.tensor("input")
    return traffic(call) + moved((x,), ()) + Cost(vector_flop=FLOP_PER_ELEMENT["native_batch_norm"] * x.elements)


@register(
    "aten::native_layer_norm_backward",
    "aten::native_group_norm_backward",
    "aten::native_batch_norm_backward",
    "aten::_fused_rms_norm_backward",
)
def norm_backward(call: AtenCall) -> Cost:
    """One pass for the input's gradient, one for the weights': both read dY, the input and its statistics."""
    named = ("grad_out", "grad_output", "input", "mean", "rstd", "save_mean", "save_invstd")
    again = [tensor for name in named for tensor in tensors_in(call.arguments.get(name))]
    flop = FLOP_PER_ELEMENT[plain_name(call.name)] * call.tensor("input").elements
    passes = traffic(call, unread=("bias", "running_mean", "running_var"))
    if any(result.elements for result in call.results[1:]):
        passes += moved(again, ())
    return passes + Cost(vector_flop=flop)


@register(
    "aten::max_pool2d_with_indices",
    "aten::max_pool3d_with_indices",
    "aten::avg_pool2d",
    "aten::avg_pool3d",
)
def pool(call: AtenCall) -> Cost:
    """One operation for each element under the kernel, at each place of the result."""
    kernel = call.arguments["kernel_size"]
    assert isinstance(kernel, tuple)
    sizes = [size for size in kernel if isinstance(size, int)]
    return traffic(call) + Cost(vector_flop=prod(sizes) * call.results[0].elements)
