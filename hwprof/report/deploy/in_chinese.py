"""How is a decision on servers said in Chinese? Its line, and the titles of its page."""

from __future__ import annotations

from dataclasses import replace

from hwprof.deploy.decision import Decision
from hwprof.deploy.space import Demand
from hwprof.report.chinese import WORDS, card_in_chinese, picture_in_chinese, table_in_chinese
from hwprof.report.deploy.view import DeployView
from hwprof.units import format_quantity, format_seconds


def decision_in_chinese(decision: Decision, model: str) -> str:
    """What to serve on, in a line."""
    if not decision.services:
        return f"不可行：{model}：没有满足要求的服务器"
    best = decision.services[0]
    offer = best.offer
    rate = format_quantity(best.token_per_s, "count")
    times = f"首个 token {format_seconds(offer.ttft_s)}，其后每个 {format_seconds(offer.tpot_s)}"
    return f"{best.devices} 台 {offer.deployment.device.id}：{rate} token/s，{times}"


def deploy_in_chinese(view: DeployView, decision: Decision, demand: Demand, model: str) -> DeployView:
    """The page: its sentence and all titles; numbers, names and reasons stay."""
    return replace(
        view,
        title=f"{model} 的服务",
        subtitle=f"提示 {demand.prompt:,} token，回答 {demand.new:,} token · {decision.evaluated:,} 种配置",
        sentence=decision_in_chinese(decision, model),
        caution=WORDS.get(view.caution, view.caution),
        cards=tuple(card_in_chinese(card) for card in view.cards),
        pareto=picture_in_chinese(view.pareto),
        tables={name: table_in_chinese(table) for name, table in view.tables.items()},
    )
