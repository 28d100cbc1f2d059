"""How is any torch module counted from the command line? ``hwprof count --module package.module:factory``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from hwprof.cli.count.notes import note
from hwprof.cli.format_option import tell
from hwprof.cli.options import given, refuse, with_options
from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype

_OF_SPECS_ALONE = {
    "model": "a module is no model of the catalogue",
    "target_len": "give each argument of the module with --input",
    "recompute": "a module checkpoints by itself; what it runs again is counted",
    "optimizer": "only forward and backward are captured",
    "compile": "a captured module runs eagerly",
    "images": "give each argument of the module with --input",
    "seconds": "give each argument of the module with --input",
    "freeze": "set requires_grad in the factory",
}
"""Options of ``count`` that say nothing about a module, and why."""


module_options = with_options(
    click.option("--module", "target", metavar="PACKAGE.MODULE:FACTORY", help="Count any torch.nn.Module instead."),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="[NAME=]SHAPE:DTYPE",
        help="With --module: an argument of its forward, such as 8x3x224x224:float32; repeat for more. With a model "
        "that is captured: one by its name, such as pixel_values=8x3x224x224:float32.",
    ),
    click.option(
        "--device",
        type=click.Choice(["fake", "cpu"]),
        default="fake",
        show_default=True,
        help="With --module: tensors without data, or real ones for a module that looks at values.",
    ),
)
"""The options that only a module has."""


def refuse_module_options(context: click.Context) -> None:
    """Say that ``--device`` needs ``--module``.

    Raises:
        InputError: one of them was given.
    """
    for option in given(context, "device"):
        raise InputError(f"{option} goes with --module alone", remedy="leave it out, or give --module")


def count_module(context: click.Context, *, dtype: Dtype) -> None:
    """Count one forward and backward pass of a module, and print it.

    Raises:
        InputError: an option does not go with ``--module``, or the module can't be captured.
    """
    refuse(context, _OF_SPECS_ALONE, where="with --module")
    from hwprof.cli.count.module_report import counted_module, module_json, module_text
    from hwprof.measure.capture.subject import imported_since, parse_input, subject_of

    typed, before = context.params, set(sys.modules)
    subject = subject_of(
        typed["target"],
        inputs=[parse_input(text) for text in typed["inputs"]],
        batch_size=typed["batch_size"],
        seq_len=typed["seq_len"],
        fake=typed["device"] == "fake",
    )
    counted = counted_module(subject, dtype if given(context, "dtype") else None)
    counted = replace(counted, own_code=imported_since(before, Path.cwd()))
    for text in counted.notes:
        note(text)
    tell(typed["output_format"], lambda: module_json(counted), lambda: module_text(counted))
