"""Can readers who see two kinds of cones tell the colours apart that stand side by side?

Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency": the
matrices of severity 1.0, on linear RGB. Distances are CIE 1976 ΔE in L*a*b* (D65).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwprof.report import palette

SEEING = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE_XYZ = np.array([0.95047, 1.0, 1.08883])
LEAST = 10.0
"""Four times what is just noticeable (ΔE of 2.3, Mahy et al., 1994)."""


def linear(colour):
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour, seeing):
    ratio = TO_XYZ @ np.clip(SEEING[seeing] @ linear(colour), 0, 1) / WHITE_XYZ
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one, other, seeing):
    return float(np.linalg.norm(lab(one, seeing) - lab(other, seeing)))


def contrast(one, other):
    """WCAG 2.2, relative luminance and contrast ratio."""
    light, dark = sorted((TO_XYZ[1] @ linear(colour) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_finds_what_is_known_to_look_alike():
    assert distance("#000000", "#ffffff", "all cones") == pytest.approx(100, abs=0.1)
    assert distance("#e00000", "#7a6a00", "all cones") > 60
    assert distance("#98a000", "#e08a20", "protanopia") < distance("#98a000", "#e08a20", "all cones") / 2
    assert distance("#808080", "#808080", "tritanopia") == 0


GENERATING = {"prefill", "decode"}
"""Phases of a run that generates, which stand in no bar with the passes of one that trains."""
TRAINING = {"forward", "backward"}


def _without(phases):
    return {name: colour for name, colour in palette.PHASE_COLOURS.items() if name not in phases}


@pytest.mark.parametrize("seeing", SEEING)
@pytest.mark.parametrize(
    "colours",
    [_without(GENERATING), _without(TRAINING), palette.BOUND_COLOURS],
    ids=["phases of training", "phases of generating", "bounds"],
)
def test_colours_of_one_bar_differ_for_every_reader(colours, seeing):
    alike = [
        (one, other)
        for one, other in itertools.combinations(colours, 2)
        if distance(colours[one], colours[other], seeing) < LEAST
    ]
    assert alike == []


@pytest.mark.parametrize("seeing", SEEING)
def test_layer_kinds_differ_in_colour_or_else_in_their_letter(seeing):
    assert len(set(palette.KIND_LETTERS.values())) == len(palette.KIND_LETTERS) == len(palette.KIND_COLOURS)
    near = {
        frozenset(pair)
        for pair in itertools.combinations(palette.KIND_COLOURS, 2)
        if distance(*(palette.KIND_COLOURS[kind] for kind in pair), seeing) < LEAST
    }
    rare = {"communication", "data", "other"}
    assert {pair for pair in near if not pair <= rare} == set()


def test_directions_differ_in_shape():
    assert len({marker.plotly for marker in palette.MARKERS.values()}) == len(palette.MARKERS)
    assert len({marker.matplotlib for marker in palette.MARKERS.values()}) == len(palette.MARKERS)


def test_every_colour_that_stands_for_something_is_in_the_palette():
    used = (palette.PHASE_COLOURS, palette.BOUND_COLOURS, palette.KIND_COLOURS)
    assert {colour for colours in used for colour in colours.values()} <= set(palette.COLOURS)


@pytest.mark.parametrize("colour", palette.COLOURS)
def test_ink_can_be_read_on_every_colour(colour):
    assert contrast(palette.ink(colour), colour) >= 4.5
