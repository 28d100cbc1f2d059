"""How is any torch module counted from the command line? ``hwprof count --module package.module:factory``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from hwprof.cli.op_json import bytes_json, op_json
from hwprof.count.captured import captured_ops, operators_unpriced
from hwprof.count.op import Op
from hwprof.count.totals import cost_by_kind, total_cost
from hwprof.errors import InputError
from hwprof.specs.captured import Capture
from hwprof.specs.run import Direction, Dtype
from hwprof.units import format_bytes, format_count, format_flop

if TYPE_CHECKING:
    from hwprof.measure.capture_subject import Subject

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OF_SPECS_ALONE = {
    "model": "a module is no model of the catalogue",
    "target_len": "give each argument of the module with --input",
    "recompute": "a module checkpoints by itself; what it runs again is counted",
    "optimizer": "only forward and backward are captured",
    "compiled": "a captured module runs eagerly",
}
"""Options of ``count`` that say nothing about a module, and why."""

_AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def module_options(function: _Function) -> _Function:
    """The options that only a module has."""
    options = (
        click.option("--module", "target", metavar="PACKAGE.MODULE:FACTORY", help="Count any torch.nn.Module instead."),
        click.option(
            "--input",
            "inputs",
            multiple=True,
            metavar="[NAME=]SHAPE:DTYPE",
            help="With --module: an argument of its forward, such as 8x3x224x224:float32; repeat for more.",
        ),
        click.option(
            "--device",
            type=click.Choice(["fake", "cpu"]),
            default="fake",
            show_default=True,
            help="With --module: tensors without data, or real ones for a module that looks at values.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class _Counted:
    """A captured module: what it is, and its rows in both attention conventions."""

    subject: Subject
    capture: Capture
    full: tuple[Op, ...]
    causal: tuple[Op, ...]
    dtype: str

    def matmul_flop(self, *directions: Direction) -> dict[str, int]:
        return {
            "full": int(total_cost(self.full, *directions).matmul_flop),
            "causal": int(total_cost(self.causal, *directions).matmul_flop),
        }

    @property
    def saved_bytes(self) -> int:
        return sum((op.saved_bytes + op.weight_copy_bytes) * op.repeats for op in self.full)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRequest:
    """Which module, on which inputs and which tensors, as it stands on the command line."""

    target: str
    inputs: tuple[str, ...]
    device: str
    batch_size: int | None
    seq_len: int | None


def refuse_module_options(context: click.Context) -> None:
    """Say that ``--input`` and ``--device`` need ``--module``.

    Raises:
        InputError: one of them was given.
    """
    for name, option in (("inputs", "--input"), ("device", "--device")):
        if _is_given(context, name):
            raise InputError(f"{option} goes with --module alone", remedy="leave it out, or give --module")


def count_module(context: click.Context, request: ModuleRequest, *, dtype: Dtype, form: str) -> None:
    """Count one forward and backward pass of a module, and print it.

    Raises:
        InputError: an option does not go with ``--module``, or the module can't be captured.
    """
    for name, reason in _OF_SPECS_ALONE.items():
        if _is_given(context, name):
            option = "--compile" if name == "compiled" else "--" + name.replace("_", "-")
            raise InputError(f"{option} does not go with --module", expectation=reason, remedy="leave it out")
    from hwprof.measure.capture_subject import parse_input, subject_of

    subject = subject_of(
        request.target,
        inputs=[parse_input(text) for text in request.inputs],
        batch_size=request.batch_size,
        seq_len=request.seq_len,
        fake=request.device == "fake",
    )
    counted = _count(subject, dtype if _is_given(context, "dtype") else None)
    for operator in operators_unpriced(counted.capture):
        _say(f"the FLOP of {operator} are not known, only its bytes are counted")
    if not counted.matmul_flop("backward")["full"]:
        _say("there is no backward pass in these counts: no output depends on a trainable parameter by a product")
    click.echo(json.dumps(_as_json(counted), indent=2) if form == "json" else "\n".join(_as_text(counted)))


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in {None, ParameterSource.DEFAULT}


def _say(note: str) -> None:
    click.echo(f"hwprof: note: {note}", err=True)


def _count(subject: Subject, dtype: Dtype | None) -> _Counted:
    import torch

    from hwprof.measure.capture import capture

    autocast = _AUTOCAST.get(dtype) if dtype else None
    seen = capture(subject, autocast=getattr(torch, autocast) if autocast else None)
    return _Counted(
        subject=subject,
        capture=seen,
        full=captured_ops(seen),
        causal=captured_ops(seen, causal_half=True),
        dtype=f"{dtype} autocast" if autocast else "as the module is",
    )


def _as_json(counted: _Counted) -> dict[str, Any]:
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


def _inputs(subject: Subject) -> list[dict[str, Any]]:
    named = [*((None, value) for value in subject.arguments), *subject.keywords.items()]
    return [
        {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in named
        if hasattr(value, "shape")
    ]


def _as_text(counted: _Counted) -> list[str]:
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
