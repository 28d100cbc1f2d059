"""How is what filled a device's memory said to a person? In the words in which an emulated script says it."""

from __future__ import annotations

from hwprof.trace.snapshot import MemoryStory
from hwprof.units import format_bytes


def story_text(story: MemoryStory, most: int) -> str:
    """The story of one device, as many of its lines as asked for."""
    peak, reserved = format_bytes(story.peak_bytes), format_bytes(story.reserved_bytes)
    free, largest = format_bytes(story.free_bytes), format_bytes(story.largest_free_bytes)
    seen = f"{story.events:,} events" if story.events else "no history: record it with _record_memory_history"
    lines = [
        f"device {story.device}: {peak} in blocks at most, {reserved} reserved ({seen})",
        *_refusal(story),
        f"free    {free} of what is reserved, the largest piece {largest}",
        "",
        "at its peak, by the line that asked",
        *(
            f"  {one.line or 'unknown':40} {format_bytes(one.size_bytes):>10}  {one.count:6,} blocks"
            for one in story.at_peak[:most]
        ),
    ]
    return "\n".join(lines)


def _refusal(story: MemoryStory) -> list[str]:
    found = story.refusal
    if found is None:
        return []
    asked, held = format_bytes(found.asked_bytes), format_bytes(found.allocated_bytes)
    spare = format_bytes(max(found.reserved_bytes - found.allocated_bytes, 0))
    return [
        f"OUT OF MEMORY at {found.line or 'an unknown line'}: {asked} more beside {held}",
        f"        {spare} were reserved and in no block, the device had {format_bytes(found.free_bytes)} left",
    ]
