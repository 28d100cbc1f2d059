"""How are the planner's answer, its page and a fine-tuning's fit said in Chinese?"""

from __future__ import annotations

from dataclasses import replace

from hwprof.plan.answer.machines import Answer
from hwprof.plan.fit.question import Adaptation
from hwprof.plan.fit.rows import Fit
from hwprof.report.chinese import card_in_chinese, picture_in_chinese, table_in_chinese
from hwprof.report.plan.view import PlanView
from hwprof.units import format_bytes, format_count, format_fraction, format_quantity, format_seconds, number

_BOUNDS = {
    "compute": "计算",
    "memory": "显存带宽",
    "communication": "通信",
    "transfer": "主机拷贝",
    "host": "主机",
    "latency": "延迟与流水线气泡",
    "unknown": "未知",
}
_WAYS: dict[Adaptation, str] = {"full": "全量", "full-8bit": "全量（8 位优化器）", "lora": "LoRA", "qlora": "QLoRA"}


def answer_in_chinese(answer: Answer) -> list[str]:
    """What to take, in a line; below it what for, and what else it takes."""
    plan, base = answer.chosen, answer.options[0].question.base
    if plan is None:
        reasons = [f"{one.hardware}: {one.reason}" for one in answer.fleets]
        change = f"；最近的可行改动：{' '.join(answer.change.words)}" if answer.change else ""
        return [f"不可行：{base.model.name}：{'; '.join(reasons) or answer.options[0].reason}{change}"]
    found, bill = plan.prediction, plan.bill
    machine = f"{plan.devices:,} 台 {plan.question.machine.device.id}"
    if bill.steps <= 1:
        first = f"{machine}：每步 {format_seconds(found.step_s)}，MFU {format_fraction(found.mfu)}"
        return [first, f"{base.model.name}，每步 {plan.job.global_batch:,} 条序列"]
    low, high = (number(end) for end in bill.days_interval)
    cost = "" if bill.mean_usd is None else f"，费用 {format_quantity(bill.mean_usd, 'usd')}"
    first = f"{machine}：{number(bill.days)} 天（80 % 区间 {low} 至 {high}）{cost}"
    words = [f"{base.model.name} 训练 {format_count(bill.steps * plan.job.tokens)} token"]
    if bill.power_watt is not None and bill.energy_kwh is not None:
        energy = format_quantity(1e3 * bill.energy_kwh, "watt_hour")
        words.append(f"功率 {format_quantity(bill.power_watt, 'watt')}，能耗 {energy}")
    return [first, "，".join([*words, f"有效时间 {format_fraction(bill.goodput)}"])]


def plan_in_chinese(view: PlanView, answer: Answer) -> PlanView:
    """The page: its sentence and all titles; numbers, names and reasons stay."""
    best = answer.chosen
    bound = f"。瓶颈：{_BOUNDS[best.prediction.bound]}" if best else ""
    return replace(
        view,
        title=f"{answer.options[0].question.base.model.name} 的方案",
        sentence="。".join(answer_in_chinese(answer)) + bound,
        cards=tuple(card_in_chinese(card) for card in view.cards),
        pictures={name: picture_in_chinese(picture) for name, picture in view.pictures.items()},
        tables={name: table_in_chinese(table) for name, table in view.tables.items()},
    )


def fit_in_chinese(fit: Fit) -> list[str]:
    """Which ways fit; below it what, and on what."""
    question = fit.question
    memory = "" if fit.room.machine is None else f"（{format_bytes(fit.room.capacity_bytes)}）"
    times = f"{question.devices} x " if question.devices > 1 else ""
    verdicts = "；".join(_verdict(fit, way) for way in question.adaptations)
    return [verdicts, f"  {question.model.name} 在 {times}{fit.room.name}{memory} 上"]


def _verdict(fit: Fit, way: Adaptation) -> str:
    row = fit.best_row(way)
    if row is None:
        least = min((one for one in fit.rows if one.adaptation == way), key=lambda one: one.device_bytes)
        return f"{_WAYS[way]}放不下（需要 {format_bytes(least.device_bytes)}）"
    how = "放得下" if row.verdict == "fits" else "勉强"
    return f"{_WAYS[way]}{how}，最多 {row.batch_size} 条 {row.seq_len:,} token"
