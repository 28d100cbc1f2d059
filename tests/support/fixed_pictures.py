"""Pictures of a plan with numbers that never change, whatever the simulator finds: for how they are drawn."""

from __future__ import annotations

from hwprof.report import palette
from hwprof.report.pictures import Bar, Line, Picture


def _line(name: str, ys: tuple[float, ...], colour: str, **settings: object) -> Line:
    return Line(name=name, xs=(1.0, 2.0, 4.0, 8.0, 16.0)[: len(ys)], ys=ys, colour=colour, **settings)  # type: ignore[arg-type]


PARETO = Picture(
    name="pareto",
    title="Plans, and those that no other beats",
    x_title="cost of the training [USD]",
    y_title="whole training [days]",
    lines=(
        Line(name="one", xs=(12.0, 14.0, 19.0), ys=(0.09, 0.07, 0.06), colour=palette.BLUE, style="dots"),
        Line(name="two", xs=(13.0, 22.0, 30.0), ys=(0.11, 0.05, 0.08), colour=palette.ORANGE, style="dots"),
        Line(name="on the front", xs=(12.0, 14.0, 22.0), ys=(0.09, 0.07, 0.05), colour=palette.BLACK, style="rings"),
    ),
    log_x=True,
    log_y=True,
    legend=True,
)
MACHINES = Picture(
    name="machines",
    title="Machines",
    x_title="tokens/s of all devices",
    bars=(
        Bar(label="4 × one", start=0.0, length=170e3, text="33.5 % MFU, compute", colour=palette.BLUE),
        Bar(label="8 × one", start=0.0, length=220e3, text="22.0 % MFU, memory", colour=palette.ORANGE),
        Bar(label="1 × two", start=0.0, length=0.0, text="no", colour=palette.GREY),
    ),
)
EFFICIENCY = Picture(
    name="efficiency",
    title="Efficiency over devices",
    x_title="devices",
    y_title="efficiency [%]",
    lines=(
        _line("strong scaling", (100.0, 91.0, 75.0, 50.0, 27.0), palette.BLUE),
        _line("weak scaling", (100.0, 99.0, 97.0, 96.0), palette.ORANGE),
        _line("strong: waiting", (0.0, 2.0, 4.0, 9.0, 40.0), palette.BLUE, style="dashes"),
        Line(name="waiting takes over", xs=(16.0,), ys=(27.0,), colour=palette.BLACK, style="rings"),
    ),
    log_x=True,
    mark_xs=True,
    legend=True,
)
FIXED = {picture.name: picture for picture in (PARETO, MACHINES, EFFICIENCY)}
