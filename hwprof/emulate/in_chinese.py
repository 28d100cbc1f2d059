"""How are an emulated step's answer and page said in Chinese?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from hwprof.emulate.answer import Emulation
from hwprof.emulate.rows import exposed_rows
from hwprof.report.cells import Table
from hwprof.report.chinese import card_in_chinese, chinese, picture_in_chinese, table_in_chinese
from hwprof.report.pictures import Card, Picture
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


_CELLS: Mapping[str, str] = {
    "yes": "是",
    "no": "否",
    "forward": "前向",
    "backward": "反向",
    "optimizer": "优化器",
    "activations": "激活",
    "weights": "权重",
    "gradients": "梯度",
    "gradients and temporaries": "梯度与临时张量",
    "optimizer states": "优化器状态",
    "cuBLAS workspaces": "cuBLAS 工作区",
    "outside of modules": "模块之外",
    "operators": "算子",
    "The step sends nothing.": "这一步不发送任何数据。",
    "Somebody measured what each price rests on.": "每个价格都有实测依据。",
    "Nothing is multiplied in a step.": "一步中没有乘法。",
    "Nothing runs in a step.": "一步中没有任何运行。",
    "time in which a kernel of this phase runs": "该阶段有内核运行的时间",
    "time in which one is under way": "有集合通信进行的时间",
    "the part in which no kernel runs": "没有内核运行的部分",
    "whose weights or results travel": "传输的是哪个模块的权重或结果",
    "of the whole vector, as nccl-tests has it": "整个向量，按 nccl-tests 的定义",
    "nobody measured such a kernel": "没有人测过这样的内核",
    "of the device's time; the interval is wider": "占设备时间；区间因此更宽",
    "FLOP for each byte": "每字节 FLOP",
    "Spans close to each other are drawn as one; trace.json.gz has each (open it in Perfetto).": "相近的时段画成一个；"
    "trace.json.gz 中有每一个（用 Perfetto 打开）。",
}
_MADE_OF_NUMBERS = (
    (r"^90 % interval (.+)$", r"90 % 区间 \1"),
    (r"^(.+) in ([\d,]+) calls$", r"\1，\2 次调用"),
    (r"^reserved of (.+); tensors (.+)$", r"已保留，共 \1；张量 \2"),
    (r"^rate \[(.+)\]$", r"速率 [\1]"),
    (r"^time \[(.+)\]$", r"时间 [\1]"),
    (r"^Roofs are those of the datasheet, the slope is (.+)\.$", r"屋顶取自数据手册，斜率为 \1。"),
    (r"^kernels, stream (\d+)", r"内核，流 \1"),
    (r"^(.+) over (\d+)", r"\1，\2 个 rank"),
    (r": (\S+ \S+) from (\S+ \S+)$", r"：\1，始于 \2"),
    (r": (\S+ \S+) a step$", r"：每步 \1"),
)
"""Short texts with numbers in them."""


def _said(text: str) -> str:
    found = _CELLS.get(text)
    if found is not None:
        return found
    for english, other in _MADE_OF_NUMBERS:
        text = re.sub(english, other, text)
    return text


def _table(table: Table) -> Table:
    """Its titles, what they mean, and those of its cells that are words."""
    titled = table_in_chinese(table)
    columns = tuple(replace(column, meaning=_said(column.meaning)) for column in titled.columns)
    words = [column.style in {"text", "code"} for column in columns]
    rows = tuple(
        tuple(
            replace(cell, text=_CELLS.get(cell.text, cell.text)) if word else cell
            for cell, word in zip(row, words, strict=True)
        )
        for row in titled.rows
    )
    return replace(titled, columns=columns, rows=rows, empty=_said(titled.empty))


def _picture(picture: Picture) -> Picture:
    """Its title, axes and note, and what is said of its bars and points."""
    return replace(
        picture_in_chinese(picture),
        x_title=_said(picture.x_title),
        y_title=_said(picture.y_title),
        note=_said(picture.note),
        empty=_said(picture.empty),
        bars=tuple(replace(bar, label=_said(bar.label), detail=_said(bar.detail)) for bar in picture.bars),
        lines=tuple(
            replace(line, name=_said(line.name), texts=tuple(map(_said, line.texts))) for line in picture.lines
        ),
    )


def _card(card: Card) -> Card:
    return replace(card_in_chinese(card), detail=_said(card.detail))


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
        cards=tuple(map(_card, page.cards)),
        parts=tuple(replace(part, label=chinese(part.label)) for part in page.parts),
        roofs=_picture(page.roofs),
        timeline=_picture(page.timeline),
        tables={name: _table(table) for name, table in page.tables.items()},
    )
