"""Do the pictures for slides look as they did? A made-up run against kept pictures; what is missing is seen."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pictures import MOST_APART, apart, cells_of, golden_cells
from PIL import Image

from hwprof.report.png import render_memory, render_roofline, render_step
from hwprof.report.run.view import build_view

RENDERERS = {"roofline": render_roofline, "step": render_step, "memory": render_memory}


def drawn(name, view):
    return cells_of(np.asarray(Image.open(io.BytesIO(RENDERERS[name](view))).convert("RGB")))


@pytest.mark.parametrize("name", RENDERERS)
def test_a_picture_looks_as_it_did(name, record):
    cells = drawn(name, build_view(record))
    assert apart(cells, golden_cells(f"slide-{name}", cells)) <= MOST_APART


def test_any_dot_or_roof_that_is_missing_is_seen(record):
    view = build_view(record)
    whole, figure = drawn("roofline", view), view.roofline
    for part in ("points", "roofs", "ridges"):
        members = getattr(figure, part)
        for place in (0, len(members) - 1):
            fewer = replace(figure, **{part: members[:place] + members[place + 1 :]})
            assert apart(whole, drawn("roofline", replace(view, roofline=fewer))) > MOST_APART, (part, place)


PARTS = {"targets": "step", "waterfall": "step", "samples": "step", "memory": "memory", "timeline": "memory"}


@pytest.mark.parametrize("picture", PARTS)
def test_a_picture_without_its_first_part_is_seen(picture, record):
    view, name = build_view(record), PARTS[picture]
    full = getattr(view, picture)
    part = "bars" if full.bars else "lines"
    hollow = tuple(replace(one, colour="#ffffff") for one in getattr(full, part)[:1])
    changed = replace(full, **{part: hollow + getattr(full, part)[1:]})
    assert apart(drawn(name, view), drawn(name, replace(view, **{picture: changed}))) > MOST_APART


def test_a_shift_of_a_pixel_is_forgiven_and_another_size_is_not():
    generator = np.random.default_rng(0)
    text = np.repeat(np.repeat(generator.choice([0, 255], (40, 60)), 3, axis=0), 2, axis=1).astype(np.uint8)
    pixels = np.stack([text] * 3, axis=2)
    assert apart(cells_of(pixels), cells_of(pixels)) == 0
    assert apart(cells_of(pixels), cells_of(pixels[:-8])) == float("inf")
