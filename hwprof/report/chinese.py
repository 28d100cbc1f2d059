"""How is a page or an answer said in Chinese? Its words, one by one; what has none stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from hwprof.report.cells import Table
from hwprof.report.pictures import Card, Picture

Language = Literal["en", "zh"]

WORDS: Mapping[str, str] = {
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
    "days": "天数",
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
)
"""Words inside sentences that are made of numbers."""


def chinese(text: str) -> str:
    """A word of a page; several with commas between them one by one."""
    return WORDS.get(text) or "，".join(WORDS.get(part, part) for part in text.split(", "))


def phrase(text: str) -> str:
    """A short sentence of numbers."""
    for english, other in _IN_SENTENCES:
        text = re.sub(english, other, text)
    return text


def table_in_chinese(table: Table) -> Table:
    """Its titles; cells stay, as they are numbers and names."""
    columns = tuple(replace(column, title=chinese(column.title)) for column in table.columns)
    return replace(table, title=chinese(table.title), columns=columns)


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
    """Its title, where there is a word for it."""
    return replace(picture, title=WORDS.get(picture.title, picture.title))
