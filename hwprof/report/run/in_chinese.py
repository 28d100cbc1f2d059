"""How is the report of a run said in Chinese? All but names, and sentences that the program itself wrote into notes."""

from __future__ import annotations

from dataclasses import replace

from hwprof.report.chinese import card_in_chinese, chinese, phrase, picture_in_chinese, table_in_chinese
from hwprof.report.pictures import Segment
from hwprof.report.run.headline import Loss
from hwprof.report.run.view import View
from hwprof.specs.job.settings import BoundClass
from hwprof.specs.record.run import Recommendation

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
    """The same numbers in Chinese; the class comes first where the verdict's sentence has no Chinese."""
    head = view.headline
    sentence = phrase(head.sentence)
    bound = f"瓶颈：{_BOUNDS[head.bound]}。" if head.confidence and sentence == head.sentence else ""
    return replace(
        view,
        headline=replace(
            head,
            sentence=f"{bound}{sentence}",
            caution=phrase(head.caution),
            cards=tuple(map(card_in_chinese, head.cards)),
            phases=tuple(map(_segment, head.phases)),
            bounds=tuple(map(_segment, head.bounds)),
            losses=tuple(map(_loss, head.losses)),
            recommendations=tuple((_recommendation(item), phrase(gain)) for item, gain in head.recommendations),
        ),
        subtitle=phrase(view.subtitle),
        status_text=phrase(view.status_text),
        missing=tuple(map(phrase, view.missing)),
        notes=tuple(map(phrase, view.notes)),
        basis=phrase(view.basis),
        roofline=replace(view.roofline, note=phrase(view.roofline.note), empty=phrase(view.roofline.empty)),
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
    return replace(one, label=chinese(one.label), detail=phrase(one.detail))


def _loss(one: Loss) -> Loss:
    return replace(one, direction=chinese(one.direction), where=phrase(one.where), advice=phrase(one.advice))


def _recommendation(item: Recommendation) -> Recommendation:
    words = ("title", "change", "reason", "evidence")
    return item.changed(**{name: phrase(getattr(item, name)) for name in words})
