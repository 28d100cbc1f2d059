"""What does a count leave out? Notes on stderr, so that the count itself stays alone on stdout."""

from __future__ import annotations

from hwprof.cli.format_option import say
from hwprof.specs.model.spec import ModelSpec


def note(text: str) -> None:
    """Say it."""
    say(f"hwprof: note: {text}", err=True)


def note_length(spec: ModelSpec, tokens: int, most: int, *, side: str = "") -> None:
    """Say so where the model can take that many tokens, but was not made for them."""
    if tokens > most and spec.positions != "learned":
        note(f"{tokens} {side}tokens are more than the {most} that {spec.name} was made for")
