"""Are the pictures real pictures, for any name?"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from hwprof.report.pictures import Bar, Mark, Picture
from hwprof.report.png import _draw_picture, drawable, render_memory, render_roofline, render_step
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


def texts_of(picture: Picture) -> list[str]:
    figure = Figure()
    _draw_picture(figure.add_subplot(), picture)
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_text_without_room_in_its_bar_is_left_out() -> None:
    bars = tuple(
        Bar(label="step", start=start, length=length, text=text, colour="#56b4e9", inside=True)
        for start, length, text in ((0.0, 12.0, "forward 12.35 ms"), (12.0, 88.0, "backward 88 ms"))
    )
    assert "forward 12.35 ms" not in texts_of(Picture(name="p", title="Step", bars=bars))
    wide = (replace(bars[0], length=30.0), replace(bars[1], start=30.0))
    assert {"forward 12.35 ms", "backward 88 ms"} <= set(texts_of(Picture(name="p", title="Step", bars=wide)))


def test_a_capacity_is_named_at_its_mark() -> None:
    bar = Bar(label="peak", start=0.0, length=70.0, text="70 GB", colour="#56b4e9")
    mark = Mark(label="capacity 80 GB", value=80.0, colour="#d55e00")
    assert "capacity 80 GB" in texts_of(Picture(name="p", title="Memory", bars=(bar,), marks=(mark,)))


def test_a_mark_far_beyond_the_bars_lies_within_the_axes() -> None:
    bar = Bar(label="peak", start=0.0, length=238.9, text="238.9 MB", colour="#56b4e9")
    mark = Mark(label="capacity 848.1 MB", value=848.1, colour="#d55e00")
    axes = Figure().add_subplot()
    _draw_picture(axes, Picture(name="p", title="Memory", bars=(bar,), marks=(mark,)))
    assert axes.get_xlim()[1] > 848.1


def test_a_long_reason_for_an_empty_picture_leaves_room_for_the_others(record: RunRecord) -> None:
    view = build_view(record)
    told = replace(view, timeline=Picture(name="p", title="", empty="no timeline, since " + "memory ran out and " * 60))
    assert render_memory(told).startswith(b"\x89PNG")


def test_without_operations_the_roofline_has_no_legend(record: RunRecord) -> None:
    assert render_roofline(build_view(record.model_copy(update={"ops": ()}))).startswith(b"\x89PNG")
