"""How does a captured module's count look? JSON with the names of a spec's count, and a summary for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hwprof.cli.count.work import flop_lines, kind_lines, work_json
from hwprof.count.aten.captured import captured_ops, operators_unpriced
from hwprof.count.job.totals import StepFlop, flop_of
from hwprof.count.ops.operation import Op
from hwprof.measure.capture.compiled import compiled_kept_bytes, is_compiled
from hwprof.measure.capture.module import capture
from hwprof.measure.capture.subject import Subject
from hwprof.specs.record.captured import Capture
from hwprof.specs.record.run import Dtype
from hwprof.units import format_bytes, format_count

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
        compiled_bytes: kept from forward to backward where compiled parts run compiled; None = that is not known.
        compiled: whether it has such parts.
        own_code: files of the working directory that were imported for it.
    """

    subject: Subject
    capture: Capture
    full: tuple[Op, ...]
    causal: tuple[Op, ...]
    dtype: str
    compiled_bytes: int | None = None
    compiled: bool = False
    own_code: tuple[str, ...] = ()

    @property
    def flop(self) -> StepFlop:
        """Matrix-multiply FLOP, in both conventions."""
        return flop_of(self.full, self.causal)

    @property
    def eager_bytes(self) -> int:
        """What eager code keeps from forward to backward, copies of weights included."""
        return sum(map(_kept_bytes, self.full))

    @property
    def saved_bytes(self) -> int:
        """What is kept from forward to backward."""
        return self.eager_bytes if self.compiled_bytes is None else self.compiled_bytes

    @property
    def kept_by(self) -> str:
        """Whose the kept bytes are."""
        return "eager" if self.compiled_bytes is None else "compiled"

    @property
    def notes(self) -> tuple[str, ...]:
        """Whose code ran, and what the counts leave out."""
        unpriced = (
            f"the FLOP of {operator} are not known, only its bytes are counted"
            for operator in operators_unpriced(self.capture)
        )
        has_backward = any(placed.direction == "backward" for placed in self.capture.calls)
        forward_only = "no output depends on a trainable parameter: there is no backward pass to count"
        eager = "FLOP and bytes moved of what is compiled are those of eager code"
        if self.compiled_bytes is None:
            eager = "what is compiled is counted as if it ran eagerly: a compiler keeps less for the backward pass"
        ran = f"code of the working directory was imported and run: {', '.join(self.own_code)}"
        return (
            *((ran,) if self.own_code else ()),
            *unpriced,
            *(() if has_backward else (forward_only,)),
            *((eager,) if self.compiled else ()),
        )


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
        compiled_bytes=compiled_kept_bytes(subject, autocast=autocast) if is_compiled(subject.module) else None,
        compiled=is_compiled(subject.module),
    )


def module_json(counted: CountedModule) -> dict[str, Any]:
    """The fields of ``hwprof count --model`` that a module has, under the same names, and what only a module has."""
    uses = counted.capture.parameters
    work = work_json(counted.full, counted.flop)
    del work["bytes"]["optimizer"]
    return {
        "module": counted.subject.name,
        "inputs": _inputs(counted.subject),
        "dtype": counted.dtype,
        "parameters": sum(use.elements for use in uses),
        "trainable_parameters": sum(use.elements for use in uses if use.trainable),
        **work,
        "memory": {
            "weights_bytes": sum(use.size_bytes for use in uses),
            "gradients_bytes": sum(use.size_bytes for use in uses if use.trainable),
            "saved_bytes": counted.saved_bytes,
            "saved_by": counted.kept_by,
            "eager_saved_bytes": counted.eager_bytes,
        },
        "unpriced_operators": list(operators_unpriced(counted.capture)),
        "notes": list(counted.notes),
    }


def module_text(counted: CountedModule) -> str:
    """A summary for people."""
    return "\n".join(_lines(counted))


def _beside_eager(counted: CountedModule) -> str:
    return f", compiled; eager code: {format_bytes(counted.eager_bytes)}" if counted.kept_by == "compiled" else ""


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
    arguments = ", ".join(
        f"{each['name'] + '=' if each['name'] else ''}{'x'.join(map(str, each['shape']))}:{each['dtype']}"
        for each in _inputs(counted.subject)
    )
    return [
        f"{counted.subject.name}: {format_count(total)} parameters ({total:,}), {format_count(trainable)} trainable",
        f"one forward and backward pass over {arguments}, dtype {counted.dtype}",
        "",
        *flop_lines(counted.flop),
        "",
        *kind_lines(counted.full),
        "",
        f"kept from forward to backward: {format_bytes(counted.saved_bytes)}{_beside_eager(counted)}",
        *_largest(counted.full),
    ]


def _largest(ops: tuple[Op, ...], most: int = 8) -> list[str]:
    """The rows that keep most."""
    return [
        f"  {format_bytes(_kept_bytes(op)):>10}  {op.label} {op.kind}" + (f" x {op.repeats}" if op.repeats > 1 else "")
        for op in sorted(ops, key=_kept_bytes, reverse=True)[:most]
        if _kept_bytes(op)
    ]


def _kept_bytes(op: Op) -> int:
    """What all instances keep from forward to backward, copies of weights included."""
    return (op.saved_bytes + op.weight_copy_bytes) * op.repeats
