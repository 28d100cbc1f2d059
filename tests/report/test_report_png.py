"""Are the pictures real pictures, for any name?"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.image import imread

from hwprof.report.png import drawable, render_memory, render_roofline, render_step
from hwprof.report.run.view import View, build_view
from hwprof.specs.record.run import RunRecord

RENDERERS = [render_roofline, render_step, render_memory]


@pytest.mark.parametrize("render", RENDERERS, ids=lambda f: f.__name__)
def test_picture_is_a_png_with_content(render: Callable[[View], bytes], record: RunRecord) -> None:
    content = render(build_view(record))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(io.BytesIO(content))
    assert pixels.shape[0] > 900
    assert pixels.shape[1] > 1400
    colours = np.unique((pixels[::3, ::3, :3] * 15).astype(int).reshape(-1, 3), axis=0)
    assert len(colours) > 40
    ink = (pixels[..., :3].min(axis=2) < 0.9).mean()
    assert 0.01 < ink < 0.6


@pytest.mark.parametrize("render", RENDERERS, ids=lambda f: f.__name__)
def test_hostile_names_draw_without_a_warning(render: Callable[[View], bytes], hostile_record: RunRecord) -> None:
    assert render(build_view(hostile_record)).startswith(b"\x89PNG")


@pytest.mark.parametrize("render", RENDERERS, ids=lambda f: f.__name__)
def test_a_run_without_data_still_gives_a_picture(render: Callable[[View], bytes], bare_record: RunRecord) -> None:
    assert render(build_view(bare_record)).startswith(b"\x89PNG")


def test_dollar_signs_are_no_mathematics_and_unknown_characters_are_question_marks() -> None:
    assert drawable("a $x$ b") == r"a \$x\$ b"
    assert drawable("\U000e0001 µs") == "? µs"


def test_pictures_leave_matplotlibs_settings_alone(record: RunRecord) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    render_step(build_view(record))
    assert dict(mpl.rcParams) == before
