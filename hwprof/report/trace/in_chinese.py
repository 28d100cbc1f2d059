"""How is the analysis of traces said in Chinese? Its titles, and the sentences that are made of parts."""

from __future__ import annotations

from hwprof.report.chinese import chinese
from hwprof.report.trace.tables import PART_WORDS
from hwprof.specs.record.trace import TraceDevice
from hwprof.units import format_fraction, format_seconds


def title_in_chinese(device: TraceDevice) -> str:
    """Which device, how many steps, how long."""
    step = format_seconds(device.step_median_s)
    steps = f"{len(device.steps)} 步，每步 {step}（中位数）" if len(device.steps) > 1 else f"一步，{step}"
    return f"进程 {device.rank}（共 {device.world_size} 个），{device.device}：{steps}"


def headline_in_chinese(device: TraceDevice) -> str:
    """Where the time went, in a sentence; the largest parts first."""
    shares = sorted(device.shares.items(), key=lambda part: -part[1])[:3]
    return (
        "耗时最多："
        + "，".join(f"{chinese(PART_WORDS[part])} {format_fraction(share)}" for part, share in shares)
        + "。"
    )


def gap_in_chinese(device: TraceDevice) -> str:
    """The longest time in which the device did nothing, and why."""
    gap = device.largest_gap
    if gap is None:
        return ""
    cause = chinese(PART_WORDS[gap.cause]).removeprefix("空闲：")
    host = f"，主机在 {' > '.join(gap.host[-3:])}" if gap.host else ""
    return f"最长的空隙：{format_seconds(gap.duration_s)}，{cause}{host}。"


def broken_in_chinese(device: TraceDevice) -> str:
    """Where its file could not be read on; empty for a whole file."""
    broken = device.broken
    return "" if broken is None else f"文件在第 {broken.offset_bytes} 字节处损坏：{broken.reason}；以下是之前的内容。"
