"""How is the page on servers said in Chinese? Its sentences and all titles."""

from __future__ import annotations

from dataclasses import replace

from hwprof.report.chinese import WORDS, card_in_chinese, phrase, picture_in_chinese, table_in_chinese
from hwprof.report.deploy.view import DeployView


def deploy_in_chinese(view: DeployView) -> DeployView:
    """The page; numbers and names stay."""
    return replace(
        view,
        title=phrase(view.title),
        subtitle=phrase(view.subtitle),
        sentence=phrase(view.sentence),
        caution=WORDS.get(view.caution, view.caution),
        cards=tuple(card_in_chinese(card) for card in view.cards),
        pareto=picture_in_chinese(view.pareto),
        tables={name: table_in_chinese(table) for name, table in view.tables.items()},
    )
