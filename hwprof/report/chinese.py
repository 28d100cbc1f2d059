"""How is a page or an answer said in Chinese? Its words, one by one; what has none stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise, zip_longest
from typing import Literal

from hwprof.report.cells import Cell, Column, Table
from hwprof.report.chinese_basis import BASIS, DEPLOY, NOTES
from hwprof.report.chinese_sentences import COLUMNS, FIT, PLAN
from hwprof.report.more_chinese import COMPARISON, EVERYWHERE, SERVING, TRACE
from hwprof.report.pictures import Card, Picture

Language = Literal["en", "zh"]

WORDS: Mapping[str, str] = {
    **EVERYWHERE,
    **COLUMNS,
    **NOTES,
    **TRACE,
    **COMPARISON,
    **SERVING,
    "Verdict": "结论",
    "Plans": "方案",
    "Machines": "机器",
    "Scaling": "扩展性",
    "Sensitivity": "敏感性",
    "Settings": "设置",
    "Ruled out": "被排除的",
    "Assumptions": "假设",
    "How many of each hardware": "每种硬件要多少台",
    "Machines side by side": "机器对比",
    "Scaling of the first plan's job": "第一个方案的扩展性",
    "Settings of the first plan": "第一个方案的设置",
    "What was ruled out, and why": "哪些被排除，为什么",
    "What the numbers rest on": "这些数字的依据",
    "Each point": "每个点",
    "Families of degrees that do not fit, nearest first": "放不下的并行度组合，最接近的在前",
    "Dark theme": "深色主题",
    "Whole training": "整个训练",
    "Cost": "费用",
    "Power": "功率",
    "Goodput": "有效时间",
    "Step": "单步",
    "Memory of a device": "单台显存",
    "Tokens/s": "token/s",
    "Rank": "名次",
    "Hardware": "硬件",
    "Devices": "台数",
    "Days": "天数",
    "Energy": "能耗",
    "Memory": "显存",
    "Tight": "偏紧",
    "Layout": "布局",
    "Bound": "受限于",
    "90 % interval": "90 % 区间",
    "Ahead": "快于下一个的概率",
    "Format": "格式",
    "Schedule": "流水线调度",
    "Fits": "放得下",
    "Global batch": "全局批大小",
    "Efficiency": "效率",
    "Working": "工作",
    "Waiting": "等待",
    "Framework": "框架",
    "File": "文件",
    "Can't express": "无法表达",
    "To set elsewhere": "另需设置",
    "Rule": "规则",
    "For example": "例如",
    "About": "关于",
    "Assumption": "假设",
    "Machine": "机器",
    "fleet": "集群",
    "devices": "设备",
    "days": "天",
    "hours": "小时",
    "time": "时间",
    "throughput": "吞吐量",
    "energy": "能耗",
    "minutes": "分钟",
    "80 %": "80 % 区间",
    "cost": "费用",
    "power": "功率",
    "batch": "批大小",
    "way": "方式",
    "tokens": "长度",
    "largest": "最大批",
    "tokens/s": "token/s",
    "smallest": "最小",
    "cheapest": "最便宜",
    "fewest device hours": "台时最少",
    "fastest": "最快",
    "nearest": "最接近",
    "What the columns mean": "各列的含义",
    "Best on each": "每种硬件上最好的",
    "What no other server beats": "没有其他配置能超过的",
    "Settings of the first": "第一个的设置",
    "Services": "服务",
    "Front": "前沿",
    "First token": "首个 token",
    "A token": "每个 token",
    "A million tokens": "每百万 token",
    "Energy of them": "其能耗",
    "Sure": "把握",
    "Servers": "服务器数",
    "Servers for prompts": "预填充服务器",
    "Layout of a server": "每台服务器的布局",
    "Users of a server": "每台服务器的用户",
    "Users": "用户",
    "Tokens/s/user": "token/s/用户",
    "Tokens/s/device": "token/s/台",
    "Engine": "引擎",
    "Command": "命令",
    "Not in it": "其中没有的",
    "Reason": "原因",
    "Configurations": "配置数",
    "Rests on": "依据",
    "Bound by": "受限于",
    "Definitions": "定义",
    "Largest losses": "损失最大的",
    "Layouts": "布局",
    "Modules, operations and kernels": "模块、算子与内核",
    "No change is recommended.": "没有建议的改动。",
    "Notes of the run": "运行备注",
    "Operations": "算子",
    "Parallel layouts": "并行布局",
    "Phases of the step": "一步的各阶段",
    "Provenance": "来源",
    "Ranks": "各进程",
    "Recommendations": "建议",
    "Roofline": "屋顶线",
    "Time": "时间",
    "What binds it": "受限于什么",
    "What each number means": "每个数字的含义",
    "What to change": "该改什么",
    "Where the numbers come from": "数字从何而来",
    "confidence": "置信度",
    "high": "高",
    "medium": "中",
    "low": "低",
    "Machine and training while it ran": "运行时的机器与训练",
    "Machine while it ran": "运行时的机器",
    "Phases": "阶段",
    "Phase": "阶段",
    "Layer kinds": "层的种类",
    "Layer kind": "层的种类",
    "Operation": "算子",
    "Kernels": "内核",
    "Kernel": "内核",
    "Modules": "模块",
    "Module": "模块",
    "Ceilings": "上限",
    "Could not run": "未能运行",
    "Environment": "环境",
    "Telemetry": "遥测",
    "Share": "占比",
    "Direction": "方向",
    "Calls": "次数",
    "Time lost": "损失时间",
    "Lost": "损失",
    "Roof": "屋顶",
    "Confidence": "置信度",
    "Predicted": "预测",
    "Predicted saving": "预计节省",
    "Recommendation": "建议",
    "Time in": "用于",
    "Part": "部分",
    "Step time": "单步时间",
    "Throughput": "吞吐量",
    "Predicted step": "预测的单步",
    "between phases": "阶段之间",
    "host to device": "主机到设备",
    "transfer": "拷贝",
    "latency": "延迟",
    "unknown": "未知",
    "Tokens per second": "每秒 token",
    "Peak memory": "峰值内存",
    "forward": "前向",
    "backward": "反向",
    "optimizer": "优化器",
    "data": "数据",
    "loss": "损失函数",
    "clip": "裁剪",
    "compute": "计算",
    "communication": "通信",
    "memory": "内存带宽",
    "host": "主机",
    "idle": "空闲",
    "Collectives": "集合通信",
    "Collective": "集合通信",
    "Collectives, those first that nothing hides": "集合通信，未被掩盖的在前",
    "Calls and their roofs": "算子调用与屋顶",
    "Calls at assumed prices": "按假设价格计的调用",
    "Memory at its peak": "峰值显存",
    "By what it is for": "按用途",
    "By the module that made it": "按产生它的模块",
    "The same step elsewhere": "同一步在其他硬件上",
    "Where the step goes": "一步的时间去向",
    "Busy": "忙",
    "Exposed": "未被掩盖",
    "Size": "大小",
    "Times": "次数",
    "Takes": "耗时",
    "What": "内容",
    "Operator": "算子",
    "Line of the script": "脚本行",
    "Of the step": "占一步",
    "Rate": "速率",
    "Moves": "读写",
    "Assumed": "假设",
    "At assumed prices": "按假设价格",
    "Work": "工作量",
    "Communication that nothing hides": "未被掩盖的通信",
    "What hidden traffic costs compute": "被掩盖的通信对计算的代价",
    "Waiting for the slowest": "等待最慢的",
    "Idle, waiting for the host": "空闲，等待主机",
    "Data, logging, synchronisation": "数据、日志与同步",
    "Operators that multiply, under the roofs": "屋顶线下的乘法算子",
    "The step, as streams and groups play it": "各流与各组的时间线",
}
"""Words of pages and tables."""

_IN_SENTENCES = (
    (r"failures a day", "次故障/天"),
    (r"restarts", "重启"),
    (r"checkpoints", "检查点"),
    (r"lost work", "重做"),
    (r"(\S+) days", r"\1 天"),
    (r"(\S+) steps", r"\1 步"),
    (r"(\S+) to (\S+)", r"\1 至 \2"),
    (r" in 80 %", "（80 % 区间）"),
    (r" in 90 %", "（90 % 区间）"),
    (r"with the days' interval", "（含天数区间）"),
    (r"of each device", "每台"),
    (r"up 至 (\S+ \S+) of (\S+ \S+)", r"最多 \1，共 \2"),
    (r"attention counted in full", "注意力按全量计"),
    (r"95 % interval of the change:", "变化的 95 % 区间："),
    (
        r"a step of B has (\S+) times the tokens of one of A: (\S+ \S+) tokens/s",
        r"B 每步的 token 是 A 的 \1 倍：token/s 变化 \2",
    ),
    (r"noise is that within each run; .* is not in it", "噪声指各次运行之内的；两次之间机器上的其他工作不在其中"),
    (r"The (\d+) largest changes of (\d+); (.*) shows more\.", r"\2 个变化中最大的 \1 个；\3 显示更多。"),
    (r"The first (\d+) of (\d+); --top N shows more, --format json all\.", r"\2 行中的前 \1 行；--top N 显示更多。"),
    (r"Right of zero B is slower, left of it faster\.", "零右侧 B 更慢，左侧更快。"),
    (r"(\d+) smaller changes: see the table\.", r"另有 \1 个较小的变化见表。"),
    (r"B less A, time of a step", "B 减 A，单步时间"),
    (r"FAILED: the limit is (\S+ \S+), beyond noise", r"未通过：上限为 \1，超出噪声"),
    (r"UNDECIDED: the limit is (\S+ \S+), beyond noise", r"未定：上限为 \1，超出噪声"),
    (r"passed: the limit is (\S+ \S+), beyond noise", r"通过：上限为 \1，超出噪声"),
    (r"90 % interval", "90 % 区间"),
    (r"\((\S+ %) causal\)", r"（因果 \1）"),
    (r"all servers busy", "所有服务器满载"),
    (r"no price known", "价格未知"),
    (r"no power known", "功率未知"),
)
"""Words inside sentences that are made of numbers."""


def chinese(text: str) -> str:
    """A word of a page; several with commas between them one by one."""
    return WORDS.get(text) or "，".join(WORDS.get(part, part) for part in text.split(", "))


def phrase(text: str) -> str:
    """A line or a sentence: what the code says in it (:mod:`hwprof.report.chinese_sentences`), the longest first.

    Where words are left that have no Chinese, it stays as it is: half a sentence says less than one in English.
    """
    found = text
    for known, said in (each for each in _IN_SENTENCES if len(each[0]) >= _LONG):
        found = re.sub(known, said, found)
    for english, other, used in _PATTERNS:
        found = english.sub(partial(_filled, other, used), found)
    for known, said in _IN_SENTENCES:
        found = re.sub(known, said, found)
    if not _CHINESE.search(found) or _ENGLISH.search(found):
        return text
    return re.sub("([,;:]) ", lambda mark: _MARKS[mark[1]], found)


_LONG = 20
"""Letters of an expression from which on it stands for a sentence, and not for words in one."""
_MARKS = {",": "，", ";": "；", ":": "："}
_CHINESE = re.compile("[\u4e00-\u9fff]")
_ENGLISH = re.compile(r"(?:(?<![\w-])[a-z]{2,}[ ,;]+){3}")
_HOLE = re.compile(r"\{(\d*)\}")


def _pattern(english: str, other: str) -> tuple[re.Pattern[str], str, tuple[int, ...]]:
    """What to look for, what stands for it, and which group fills each hole; what both begin or end with stays."""
    places = [int(found[1] or place) for place, found in enumerate(_HOLE.finditer(other))]
    count = english.count("{}")
    first, last = 0, count
    while first < count and english.startswith("{}") and other.startswith("{}") and places[0] == first:
        english, other, places, first = english[2:], other[2:], places[1:], first + 1
    while last > first and english.endswith("{}") and other.endswith("{}") and places[-1] == last - 1:
        english, other, places, last = english[:-2], other[:-2], places[:-1], last - 1
    pieces = english.split("{}")
    groups = [_group(before, after) for before, after in pairwise(pieces)]
    wanted = "".join(part for pair in zip_longest(map(re.escape, pieces), groups, fillvalue="") for part in pair)
    edges = [r"(?<![\w-])" if english[:1].isalpha() else "", r"(?![\w-])" if english[-1:].isalpha() else ""]
    used = tuple(place - first + 1 for place in places)
    return re.compile(edges[0] + wanted + edges[1]), _HOLE.sub("{}", other), used


def _group(before: str, after: str) -> str:
    """What may stand in a hole: the letter of several, or up to what comes next."""
    if before[-1:].isalpha():
        return "(s?)"
    return "([^;:；：]*?)" if before and after else r"((?:[^\s,;:，；：。（）]|,(?=\d))+(?: [kMGTP]?[sBW]\b| ms\b)?)"


def _filled(other: str, used: tuple[int, ...], found: re.Match[str]) -> str:
    values = ("" if found[place] == "s" else found[place] for place in used)
    return other.format(*(WORDS.get(value, value) for value in values))


_PATTERNS = [
    _pattern(english, other)
    for english, other in sorted(
        {**PLAN, **FIT, **DEPLOY, **BASIS}.items(), key=lambda pair: (-len(pair[0].replace("{}", "")), pair[0])
    )
]


def table_in_chinese(table: Table) -> Table:
    """Its titles, and cells of text that are words of a page; numbers and names stay."""
    return replace(
        table,
        title=chinese(table.title),
        columns=tuple(
            replace(column, title=chinese(column.title), meaning=_said(column.meaning)) for column in table.columns
        ),
        rows=table.rows
        if table.name in _ENGLISH_ROWS
        else tuple(tuple(map(_cell, row, table.columns)) for row in table.rows),
        empty=_said(table.empty),
        note=phrase(table.note),
    )


def _cell(cell: Cell, column: Column) -> Cell:
    return replace(cell, text=WORDS.get(cell.text) or phrase(cell.text)) if column.style in _WORDED else cell


_WORDED = {"text", "long", "number"}
_ENGLISH_ROWS = {"settings"}
"""Tables of what frameworks call things."""


def card_in_chinese(card: Card) -> Card:
    """Its title, and the numbers in words."""
    return replace(
        card,
        title=chinese(card.title),
        value=phrase(card.value),
        brief=phrase(card.brief),
        detail=phrase(card.detail),
    )


def picture_in_chinese(picture: Picture) -> Picture:
    """Its titles, legend and note, where there are words for them."""
    return replace(
        picture,
        title=_said(picture.title),
        x_title=_said(picture.x_title),
        y_title=_said(picture.y_title),
        note=_said(picture.note),
        empty=_said(picture.empty),
        lines=tuple(replace(line, name=_said(line.name)) for line in picture.lines),
        bars=tuple(replace(bar, label=_said(bar.label)) for bar in picture.bars),
    )


def _said(text: str) -> str:
    return WORDS.get(text) or phrase(text)
