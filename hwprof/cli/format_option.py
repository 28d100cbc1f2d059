"""In which form does a command answer? The one option that all of them share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_args

import click

from hwprof.report.folding import folded
from hwprof.report.printable import printable

OutputFormat = Literal["text", "json"]

language_option = click.option(
    "--lang",
    "language",
    type=click.Choice(["en", "zh"], case_sensitive=False),
    default="en",
    show_default=True,
    help="Language of the answer, its tables and its page: English or Chinese.",
)

verbose_option = click.option("--verbose", is_flag=True, help="Show all of it, more than a screen holds.")

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(get_args(OutputFormat), case_sensitive=False),
    default="text",
    show_default=True,
    help="Text for people, or JSON alone, on standard output.",
)


def tell(output_format: str, content: Callable[[], Any], text: Callable[[], str]) -> None:
    """Print an answer as JSON, or as a text for people within a screen."""
    say(json.dumps(content(), indent=2, allow_nan=False) if output_format == "json" else folded(text()))


def say(text: str, *, err: bool = False) -> None:
    """Print a text, in which names of unknown origin may stand."""
    click.echo(printable(text), err=err)
