"""How are an emulated step's answer and page said in Chinese?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hwprof.emulate.answer import Emulation
from hwprof.emulate.rows import exposed_rows
from hwprof.report.chinese import card_in_chinese, chinese, picture_in_chinese, table_in_chinese
from hwprof.specs.record.run import BoundClass
from hwprof.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from hwprof.emulate.page import EmulationPage

_BOUNDS: Mapping[BoundClass, str] = {
    "compute": "计算",
    "memory": "显存带宽",
    "communication": "通信",
    "transfer": "主机拷贝",
    "host": "主机",
    "latency": "延迟",
    "unknown": "未知",
}


def answer_in_chinese(found: Emulation) -> str:
    """The step, in a line."""
    recording = found.recording
    where = f"{recording.devices:,} 台 {found.hardware}"
    return f"{where}：每步 {format_seconds(found.step_s)}，受限于{_BOUNDS[found.bound]}；模拟为 rank {recording.rank}"


def caution_in_chinese(found: Emulation) -> str:
    """Whether memory is out, and where; empty where it is not."""
    refusal = found.refusal
    if refusal is not None:
        asked, held = format_bytes(refusal.asked_bytes), format_bytes(refusal.allocated_bytes)
        return f"显存不足：{refusal.line} 在已用 {held} 之外还要 {asked}；时间按显存足够的设备计"
    need, room = format_bytes(found.recording.memory.reserved_bytes), format_bytes(found.capacity_bytes)
    return "" if found.fits else f"显存不足：需要保留 {need}，设备有 {room}"


def page_in_chinese(page: EmulationPage, found: Emulation) -> EmulationPage:
    """The page with its words; names, numbers and what the numbers rest on stay."""
    recording, exposed = found.recording, exposed_rows(found)
    sentence = f"{answer_in_chinese(found)}。"
    if exposed and exposed[0].exposed_s:
        worst = exposed[0]
        what = f"{worst.op} {worst.place}（{chinese(worst.phase)}）"
        sentence += f"最长的未被掩盖的通信：{what}，{format_seconds(worst.exposed_s)}。"
    return replace(
        page,
        title=f"在 {recording.devices:,} 台 {found.hardware} 上模拟",
        subtitle=f"rank {recording.rank}，第 {recording.steps} 步；所有数字都是模拟得到的，没有一个是测量的",
        sentence=sentence,
        caution=caution_in_chinese(found),
        cards=tuple(map(card_in_chinese, page.cards)),
        parts=tuple(replace(part, label=chinese(part.label)) for part in page.parts),
        roofs=picture_in_chinese(page.roofs),
        timeline=picture_in_chinese(page.timeline),
        tables={name: table_in_chinese(table) for name, table in page.tables.items()},
    )
