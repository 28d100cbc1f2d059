"""How is the report of a run said in Chinese? Headings, columns, cards and charts; names, notes and reasons stay."""

from __future__ import annotations

from dataclasses import replace

from hwprof.report.chinese import chinese, picture_in_chinese, table_in_chinese
from hwprof.report.pictures import Segment
from hwprof.report.run.view import View
from hwprof.specs.job.settings import BoundClass

_BOUNDS: dict[BoundClass, str] = {
    "compute": "计算",
    "memory": "内存带宽",
    "communication": "通信",
    "transfer": "主机拷贝",
    "host": "主机",
    "latency": "延迟",
    "unknown": "未知",
}


def view_in_chinese(view: View) -> View:
    """The same numbers under Chinese titles; the verdict's class comes first, its sentence follows as it is."""
    head = view.headline
    bound = f"瓶颈：{_BOUNDS[head.bound]}。" if head.confidence else ""
    return replace(
        view,
        headline=replace(
            head,
            sentence=f"{bound}{head.sentence}",
            cards=tuple(replace(card, title=chinese(card.title)) for card in head.cards),
            phases=tuple(_segment(one) for one in head.phases),
            bounds=tuple(_segment(one) for one in head.bounds),
        ),
        telemetry=tuple(picture_in_chinese(picture) for picture in view.telemetry),
        tables={name: table_in_chinese(table) for name, table in view.tables.items()},
        waterfall=picture_in_chinese(view.waterfall),
        targets=picture_in_chinese(view.targets),
        samples=picture_in_chinese(view.samples),
        loss=picture_in_chinese(view.loss),
        memory=picture_in_chinese(view.memory),
        timeline=picture_in_chinese(view.timeline),
    )


def _segment(one: Segment) -> Segment:
    return replace(one, label=chinese(one.label))
