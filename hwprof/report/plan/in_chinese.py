"""How is the planner's page said in Chinese? Its sentences and all titles."""

from __future__ import annotations

from dataclasses import replace

from hwprof.report.chinese import card_in_chinese, phrase, picture_in_chinese, table_in_chinese
from hwprof.report.plan.view import PlanView


def plan_in_chinese(view: PlanView) -> PlanView:
    """The page; numbers and names stay."""
    return replace(
        view,
        title=phrase(view.title),
        subtitle=phrase(view.subtitle),
        sentence=phrase(view.sentence),
        caution=phrase(view.caution),
        cards=tuple(card_in_chinese(card) for card in view.cards),
        pictures={name: picture_in_chinese(picture) for name, picture in view.pictures.items()},
        tables={name: table_in_chinese(table) for name, table in view.tables.items()},
    )
