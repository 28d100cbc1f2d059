"""How does a captured module's count look? JSON with the names of a spec's count, and a summary for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hwprof.cli.count.op_json import bytes_json, op_json
from hwprof.count.aten.captured import captured_ops, operators_unpriced
from hwprof.count.job.totals import cost_by_kind, total_cost
from hwprof.count.ops.operation import Op
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject
from hwprof.specs.record.captured import Capture
from hwprof.specs.record.run import Direction, Dtype
from hwprof.units import format_bytes, format_count, format_flop

_AUTOCAST: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class CountedModule:
    """A captured module.

    Attributes:
        subject: what was captured.
        capture: what was seen.
        full: its rows, all products of attention counted.
        causal: the same with half of attention that was called with ``is_causal``.
        dtype: of its products, in words.
    """

    subject: Subject
    capture: Capture
    full: tuple[Op, ...]
    causal: tuple[Op, ...]
    dtype: str

    def matmul_flop(self, *directions: Direction) -> dict[str, int]:
        """Matrix-multiply FLOP of these directions, in both conventions."""
        return {
            "full": int(total_cost(self.full, *directions).matmul_flop),
            "causal": int(total_cost(self.causal, *directions).matmul_flop),
        }

    @property
    def saved_bytes(self) -> int:
        """What is kept from forward to backward, copies of weights included."""
        return sum((op.saved_bytes + op.weight_copy_bytes) * op.repeats for op in self.full)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the counts leave out."""
        unpriced = (
            f"the FLOP of {operator} are not known, only its bytes are counted"
            for operator in operators_unpriced(self.capture)
        )
        has_backward = any(placed.direction == "backward" for placed in self.capture.calls)
        forward_only = "no output depends on a trainable parameter: there is no backward pass to count"
        return (*unpriced, *(() if has_backward else (forward_only,)))


def counted_module(subject: Subject, dtype: Dtype | None) -> CountedModule:
    """Capture a module, under autocast if a narrow type is asked for, and price what it did."""
    autocast = _AUTOCAST.get(dtype) if dtype else None
    seen = capture(subject, autocast=autocast)
    return CountedModule(
        subject=subject,
        capture=seen,
        full=captured_ops(seen),
        causal=captured_ops(seen, causal_half=True),
        dtype=f"{dtype} autocast" if autocast else "as the module is",
    )


def module_json(counted: CountedModule) -> dict[str, Any]:
    """The fields of ``hwprof count --model`` that a module has, under the same names, and what only a module has."""
    uses = counted.capture.parameters
    moved = bytes_json(counted.full)
    return {
        "module": counted.subject.name,
        "inputs": _inputs(counted.subject),
        "dtype": counted.dtype,
        "parameters": sum(use.elements for use in uses),
        "trainable_parameters": sum(use.elements for use in uses if use.trainable),
        "flop": {
            "forward": counted.matmul_flop("forward"),
            "train": counted.matmul_flop("forward", "backward"),
            "recompute": counted.matmul_flop("recompute")["full"],
        },
        "vector_flop": int(total_cost(counted.full).vector_flop),
        "bytes": {name: size_bytes for name, size_bytes in moved.items() if name != "optimizer"},
        "ops": [op_json(op) for op in counted.full],
        "memory": {
            "weights_bytes": sum(use.size_bytes for use in uses),
            "gradients_bytes": sum(use.size_bytes for use in uses if use.trainable),
            "saved_bytes": counted.saved_bytes,
        },
        "unpriced_operators": list(operators_unpriced(counted.capture)),
    }


def module_text(counted: CountedModule) -> str:
    """A summary for people."""
    return "\n".join(_lines(counted))


def _inputs(subject: Subject) -> list[dict[str, Any]]:
    named = [*((None, value) for value in subject.arguments), *subject.keywords.items()]
    return [
        {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in named
        if hasattr(value, "shape")
    ]


def _lines(counted: CountedModule) -> list[str]:
    uses = counted.capture.parameters
    total, trainable = (sum(use.elements for use in uses if use.trainable or every) for every in (True, False))
    forward, train = counted.matmul_flop("forward"), counted.matmul_flop("forward", "backward")
    again = counted.matmul_flop("recompute")["full"]
    arguments = ", ".join(
        f"{each['name'] + '=' if each['name'] else ''}{'x'.join(map(str, each['shape']))}:{each['dtype']}"
        for each in _inputs(counted.subject)
    )
    return [
        f"{counted.subject.name}: {format_count(total)} parameters ({total:,}), {format_count(trainable)} trainable",
        f"one forward and backward pass over {arguments}, dtype {counted.dtype}",
        "",
        "matrix FLOP          full attention         causal",
        f"  forward    {format_flop(forward['full']):>14} {format_flop(forward['causal']):>14}",
        f"  train      {format_flop(train['full']):>14} {format_flop(train['causal']):>14}",
        *([f"  recompute  {format_flop(again):>14}"] if again else []),
        "",
        "  layer kind direction        matrix FLOP     other FLOP     bytes moved",
        *(
            f"  {kind:<10} {direction:<10} {format_flop(cost.matmul_flop):>16} {format_flop(cost.vector_flop):>14} "
            f"{format_bytes(cost.moved_bytes):>15}"
            for (kind, direction), cost in cost_by_kind(counted.full).items()
        ),
        "",
        f"kept from forward to backward: {format_bytes(counted.saved_bytes)}",
        *_largest(counted.full),
    ]


def _largest(ops: tuple[Op, ...], most: int = 8) -> list[str]:
    """The rows that keep most."""
    rows = sorted(ops, key=lambda op: (op.saved_bytes + op.weight_copy_bytes) * op.repeats, reverse=True)[:most]
    return [
        f"  {format_bytes((op.saved_bytes + op.weight_copy_bytes) * op.repeats):>10}  {op.label} {op.kind}"
        + (f" x {op.repeats}" if op.repeats > 1 else "")
        for op in rows
        if op.saved_bytes + op.weight_copy_bytes
    ]
