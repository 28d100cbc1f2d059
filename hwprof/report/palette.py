"""Which colour stands for what? Okabe and Ito's palette (2008), safe for colour-blind readers, the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.specs.record.run import BoundClass, Direction, LayerKind, PhaseName

BLACK = "#111111"
WHITE = "#ffffff"
BLUE = "#0072b2"
SKY = "#56b4e9"
GREEN = "#009e73"
YELLOW = "#f0e442"
ORANGE = "#e69f00"
VERMILLION = "#d55e00"
PURPLE = "#cc79a7"
GREY = "#747474"
"""Darker than theirs (#999999), which a reader without green cones takes for the purple."""
LIGHT_GREY = "#c4c4c4"
SLATE = "#5d6b80"

COLOURS = (BLACK, WHITE, BLUE, SKY, GREEN, YELLOW, ORANGE, VERMILLION, PURPLE, GREY, LIGHT_GREY, SLATE)
_WHITE_INK = {BLACK, BLUE, GREY, SLATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """One marker shape under the names that the two drawing libraries know it by."""

    plotly: str
    matplotlib: str


def ink(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` (WCAG contrast of at least 4.5 on every colour here)."""
    return WHITE if colour in _WHITE_INK else BLACK


PHASE_COLOURS: dict[PhaseName, str] = {
    "data": PURPLE,
    "host_to_device": YELLOW,
    "prefill": SKY,
    "decode": BLUE,
    "forward": SKY,
    "loss": ORANGE,
    "backward": BLUE,
    "pipeline": LIGHT_GREY,
    "clip": VERMILLION,
    "optimizer": GREEN,
    "evaluation": GREY,
    "checkpoint": SLATE,
}

BOUND_COLOURS: dict[BoundClass, str] = {
    "compute": BLUE,
    "memory": ORANGE,
    "communication": VERMILLION,
    "transfer": YELLOW,
    "host": PURPLE,
    "latency": SKY,
    "unknown": GREY,
}

KIND_COLOURS: dict[LayerKind, str] = {
    "attention": BLUE,
    "ffn": ORANGE,
    "norm": SKY,
    "embedding": PURPLE,
    "head": GREEN,
    "loss": VERMILLION,
    "optimizer": YELLOW,
    "clip": SLATE,
    "residual": GREY,
    "communication": LIGHT_GREY,
    "data": LIGHT_GREY,
    "other": LIGHT_GREY,
}

KIND_LETTERS: dict[LayerKind, str] = {
    "attention": "A",
    "ffn": "F",
    "norm": "N",
    "embedding": "E",
    "head": "H",
    "loss": "L",
    "optimizer": "O",
    "clip": "C",
    "residual": "R",
    "communication": "M",
    "data": "D",
    "other": "?",
}
"""What stands in or beside a dot, so that a layer kind is never told by its colour alone."""

MARKERS: dict[Direction, Marker] = {
    "forward": Marker(plotly="circle", matplotlib="o"),
    "backward": Marker(plotly="square", matplotlib="s"),
    "recompute": Marker(plotly="diamond", matplotlib="D"),
    "update": Marker(plotly="triangle-up", matplotlib="^"),
    "decode": Marker(plotly="triangle-down", matplotlib="v"),
}
