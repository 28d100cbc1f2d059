"""What do the operations without matrix multiplications cost? Norms, activations, residuals, embeddings, the loss.

Traffic is that of torch's eager kernels, counted pass by pass from their source, each pass reading and writing memory
once; ``fused`` is what one compiled kernel has to move. Arithmetic is an estimate: operations of the formula for each
element, with a transcendental function counted as one.
Letters: N tokens, d features; w, c, r bytes of a weight, of a matrix-multiply element, of a residual element.
"""

from __future__ import annotations

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, OpCost, register
from hwprof.specs.model.parts import Activation

ACTIVATION_FLOP: dict[Activation, tuple[int, int]] = {"gelu": (9, 18), "relu": (1, 1), "relu2": (2, 3), "silu": (4, 7)}
"""Operations an element, forward and backward. gelu: x/2·(1 + tanh(√(2/π)·(x + 0.0447·x³))); silu: x/(1 + exp(-x))."""

STATISTIC_BYTES = 4
"""Mean and reciprocal deviation of a norm's row are fp32."""

NORM_STEP_BYTES = 4
"""Norms that run in steps do so in fp32."""

INDEX_BYTES = 8
"""Token ids and targets are int64."""

LOSS_BYTES = 4
"""The loss works in fp32."""

ROPE_BYTES = 4
"""Rotations are done in fp32."""


@register("embedding")
def embedding(
    how: Execution, *, tokens: int, features: int, rows: int, tied: bool = False, added_to: int = 0
) -> OpCost:
    """Row lookup y[N, d] = W[ids, :].

    Backward fills a dense gradient [rows, d] with zeros and adds N rows into it; where W is ``tied`` to the head, that
    gradient is added to the head's. Keeps the ids.

    Args:
        how: the execution.
        tokens: N.
        features: d.
        rows: rows of the table.
        tied: whether the table is also the head's weight.
        added_to: elements of the stream that the rows are added to (learned positions, broadcast over the batch):
            one more elementwise pass, and in backward a sum over the batch.
    """
    w, r = how.precision.weight_bytes, how.precision.residual_bytes
    looked_up, table, ids = tokens * features, rows * features, tokens * INDEX_BYTES
    forward = Cost(read_bytes=ids + looked_up * w, write_bytes=looked_up * r)
    backward = Cost(vector_flop=looked_up, read_bytes=ids + looked_up * (r + w), write_bytes=table * w + looked_up * w)
    if tied:
        backward += Cost(vector_flop=table, read_bytes=2 * table * w, write_bytes=table * w)
    if added_to and not how.fused:
        forward += Cost(vector_flop=added_to, read_bytes=added_to * r + looked_up * r, write_bytes=added_to * r)
        backward += Cost(vector_flop=added_to, read_bytes=added_to * r, write_bytes=looked_up * r)
    elif added_to:
        forward += Cost(vector_flop=added_to)
        backward += Cost(vector_flop=added_to, read_bytes=added_to * r)
    return OpCost(forward=forward, backward=backward, saved_bytes=ids, output_bytes=(added_to or looked_up) * r)


@register("layernorm")
def layernorm(how: Execution, *, tokens: int, features: int) -> OpCost:
    """Layer norm y = (x - mean) / deviation · g + b, 8 FLOP an element (backward 14).

    Forward is one pass; backward is one for dX (reads dY and x) and one for dg and db (reads them again).
    Keeps x and two statistics a row. Compiled, forward takes x from the residual addition before it and writes the
    narrow type, and backward reads dY and x once.
    """
    x, width = tokens * features, how.precision.residual_bytes
    statistics = 2 * tokens * STATISTIC_BYTES
    narrow = how.precision.compute_bytes if how.fused else width
    passes = 1 if how.fused else 2
    return OpCost(
        forward=Cost(vector_flop=8 * x, read_bytes=0 if how.fused else x * width, write_bytes=x * narrow + statistics),
        backward=Cost(
            vector_flop=14 * x, read_bytes=passes * (x * (narrow + width) + statistics), write_bytes=x * width
        ),
        saved_bytes=x * width + statistics,
        input_bytes=x * width,
        output_bytes=x * narrow,
    )


@register("rmsnorm")
def rmsnorm(how: Execution, *, tokens: int, features: int) -> OpCost:
    """RMS norm y = x / √(mean(x²) + ε) · g, 4 FLOP an element (backward 10); one statistic a row.

    Source: Zhang & Sennrich 2019. On CUDA and compiled it moves what ``layernorm`` does. On a CPU torch runs it as
    separate kernels: forward x², mean, x·s, (x·s)·g; backward dY·g, dY·(x·s) and its sum, ·s, ·x and its sum, then the
    gradient of the mean of squares: a broadcast division, x¹, ·2, a product and an addition. There x·s is kept too.
    With ``wide_norms`` the steps are fp32 up to x·s, and x in fp32 and x·s are kept (transformers' ``LlamaRMSNorm``,
    torchtune's and litgpt's ``RMSNorm``, ``nn.RMSNorm`` of torch before 2.9).
    """
    x, width = tokens * features, how.precision.residual_bytes
    statistics = tokens * STATISTIC_BYTES
    wide = how.wide_norms and not how.fused
    separate = wide or (how.device == "cpu" and not how.fused)
    narrow = how.precision.compute_bytes if how.fused else width
    if separate:
        reads, writes, backward_reads, backward_writes = 4 * x * width, 3 * x * width, 14 * x * width, 9 * x * width
    else:
        reads, writes = 0 if how.fused else x * width, x * narrow
        backward_reads, backward_writes = (1 if how.fused else 2) * x * (narrow + width), x * width
    return OpCost(
        forward=Cost(vector_flop=4 * x, read_bytes=reads, write_bytes=writes + statistics),
        backward=Cost(vector_flop=10 * x, read_bytes=backward_reads + statistics, write_bytes=backward_writes),
        saved_bytes=x * (NORM_STEP_BYTES if wide else width) + separate * x * width + statistics,
        weight_saved_bytes=separate * x * width,
        input_bytes=x * (NORM_STEP_BYTES if wide else width),
        output_bytes=x * narrow,
    )


@register("activation")
def activation(how: Execution, *, tokens: int, features: int, function: Activation) -> OpCost:
    """Activation y = f(x), one pass each way; backward reads dY and what is kept: x, or for relu y.

    A squared relu is two kernels each way where nothing is compiled, and keeps the relu.
    """
    x, width = tokens * features, how.precision.compute_bytes
    forward_flop, backward_flop = ACTIVATION_FLOP[function]
    moved = x * width * (2 if function == "relu2" and not how.fused else 1)
    return OpCost(
        forward=Cost(vector_flop=forward_flop * x, read_bytes=moved, write_bytes=moved),
        backward=Cost(vector_flop=backward_flop * x, read_bytes=2 * moved, write_bytes=moved),
        saved_bytes=x * width,
        input_bytes=x * width,
        output_bytes=x * width,
    )


@register("gated_activation")
def gated_activation(how: Execution, *, tokens: int, features: int, function: Activation) -> OpCost:
    """Gated activation y = f(gate) · up (GLU variants, Shazeer 2020), two eager kernels forward and three backward.

    Forward: f reads gate; the product reads f(gate) and up. Backward: dUp = dY · f(gate), d f(gate) = dY · up, dGate.
    Keeps gate, f(gate) and up; relu keeps its result in place of gate. Compiled: one kernel each way, f(gate)
    computed again.
    """
    x, width = tokens * features, how.precision.compute_bytes
    forward_flop, backward_flop = ACTIVATION_FLOP[function]
    kept = 2 if how.fused or function in {"relu", "relu2"} else 3
    reads, writes, backward_reads, backward_writes = (2, 1, 3, 2) if how.fused else (3, 2, 6, 3)
    return OpCost(
        forward=Cost(vector_flop=(forward_flop + 1) * x, read_bytes=reads * x * width, write_bytes=writes * x * width),
        backward=Cost(
            vector_flop=(backward_flop + 2) * x,
            read_bytes=backward_reads * x * width,
            write_bytes=backward_writes * x * width,
        ),
        saved_bytes=kept * x * width,
        input_bytes=2 * x * width,
        output_bytes=x * width,
    )


@register("residual")
def residual(how: Execution, *, tokens: int, features: int) -> OpCost:
    """Residual sum y = x + branch, the stream x in r bytes and the branch in c; one FLOP an element.

    Backward adds the gradients of the stream's two uses, and under autocast copies the branch's to the narrow type.
    Nothing is kept. Compiled, forward still reads both and writes the sum; backward joins the norm's kernel, which has
    the gradient at hand and reads the other use's.
    """
    x, c, r = tokens * features, how.precision.compute_bytes, how.precision.residual_bytes
    narrow = Cost.ZERO if c == r else Cost(read_bytes=x * r, write_bytes=x * c)
    if how.fused:
        backward = Cost(vector_flop=x, read_bytes=x * r, write_bytes=0 if c == r else x * c)
    else:
        backward = Cost(vector_flop=x, read_bytes=2 * x * r, write_bytes=x * r) + narrow
    return OpCost(
        forward=Cost(vector_flop=x, read_bytes=x * (r + c), write_bytes=x * r), backward=backward, output_bytes=x * r
    )


@register("dropout")
def dropout(how: Execution, *, tokens: int, features: int, element_bytes: int) -> OpCost:
    """Dropout y = x · mask / (1 - p), 3 FLOP an element forward, 2 backward; keeps the mask.

    x has ``element_bytes`` each. CUDA: one kernel that writes y and a mask of one byte an element; compiled, x and y
    stay in registers. CPU: draws the mask in the element type, divides it by 1 - p in place, multiplies.
    """
    x, width = tokens * features, element_bytes
    if how.fused:
        forward, backward, mask = Cost(write_bytes=x), Cost(read_bytes=x), x
    elif how.device == "cuda":
        forward = Cost(read_bytes=x * width, write_bytes=x * width + x)
        backward, mask = Cost(read_bytes=x * width + x, write_bytes=x * width), x
    else:
        forward = Cost(read_bytes=3 * x * width, write_bytes=3 * x * width)
        backward, mask = Cost(read_bytes=2 * x * width, write_bytes=x * width), x * width
    return OpCost(
        forward=forward + Cost(vector_flop=3 * x),
        backward=backward + Cost(vector_flop=2 * x),
        saved_bytes=mask,
        input_bytes=x * width,
        output_bytes=x * width,
    )


@register("cross_entropy")
def cross_entropy(how: Execution, *, tokens: int, vocabulary: int) -> OpCost:
    """Mean over tokens of log Σ exp(logits) - logit of the target, 4 FLOP a logit forward, 3 backward.

    Eager: logits are copied to fp32 (unless they are), log-softmax reads and writes them; backward fills the gradient
    of the log-softmax with zeros, log-softmax backward reads that and the log-softmax and writes, and the gradient is
    copied to the logits' type. Keeps the fp32 log-softmax, the targets and one scalar, the total weight.
    Compiled: forward reads the logits and writes one logsumexp a row, backward reads them and writes their gradient.
    """
    logits, c = tokens * vocabulary, how.precision.compute_bytes
    targets = tokens * INDEX_BYTES
    if how.fused:
        row = tokens * LOSS_BYTES
        forward = Cost(read_bytes=logits * c + targets, write_bytes=row)
        backward = Cost(read_bytes=logits * c + targets + row, write_bytes=logits * c)
        saved = logits * c + row + targets
    else:
        wide = logits * LOSS_BYTES
        copied = 0 if c == LOSS_BYTES else logits * c
        forward = Cost(
            read_bytes=copied + wide + targets + tokens * LOSS_BYTES, write_bytes=(wide if copied else 0) + wide
        )
        backward = Cost(read_bytes=(wide if copied else 0) + 2 * wide + targets, write_bytes=copied + 2 * wide)
        saved = wide + targets + LOSS_BYTES
    return OpCost(
        forward=forward + Cost(vector_flop=4 * logits),
        backward=backward + Cost(vector_flop=3 * logits),
        saved_bytes=saved,
        input_bytes=logits * c,
    )


@register("rope")
def rope(how: Execution, *, tokens: int, features: int) -> OpCost:
    """Rotary positions y = x · cos + rotated x · sin for queries and keys, 3 FLOP an element, in fp32.

    Source: Su et al. 2021. x is [N, features], in two halves. Eager forward: four products of a half with a table (the
    tables are small and shared by all heads), a difference and a sum, joining the halves, and under autocast a copy
    back to the narrow type. Eager backward: that copy, a negation of one half, four products, copies to the narrow
    type, two sums of two halves, joining. Only the tables are kept, as the rotation is linear. Compiled: one read,
    one write.
    """
    x, c, wide = tokens * features, how.precision.compute_bytes, tokens * features * ROPE_BYTES
    narrow = x * c
    if how.fused:
        forward = backward = Cost(read_bytes=narrow, write_bytes=narrow)
    else:
        forward = Cost(read_bytes=2 * narrow + 3 * wide, write_bytes=4 * wide)
        backward = Cost(read_bytes=5 * wide // 2 + 3 * narrow, write_bytes=5 * wide // 2 + 2 * narrow)
        if c != ROPE_BYTES:
            forward += Cost(read_bytes=wide, write_bytes=narrow)
            backward += Cost(read_bytes=narrow + 2 * wide, write_bytes=wide + 2 * narrow)
    arithmetic = Cost(vector_flop=3 * x)
    return OpCost(forward=forward + arithmetic, backward=backward + arithmetic, input_bytes=narrow, output_bytes=narrow)
