"""What filled a device's memory, as a person reads it: who held it, and who asked for too much."""

from dataclasses import replace

from hwprof.report.trace.memory_text import story_text
from hwprof.trace.snapshot import HeldByLine, MemoryRefusal, MemoryStory

STORY = MemoryStory(
    device=0,
    events=1200,
    peak_bytes=70_000_000_000,
    reserved_bytes=78_000_000_000,
    free_bytes=8_000_000_000,
    largest_free_bytes=1_000_000_000,
    at_peak=(HeldByLine("train.py:12 forward", 60_000_000_000, 3000), HeldByLine("", 10_000_000_000, 7)),
    refusal=MemoryRefusal(
        line="train.py:40 step",
        asked_bytes=2_000_000_000,
        allocated_bytes=70_000_000_000,
        reserved_bytes=78_000_000_000,
        free_bytes=500_000_000,
    ),
)


def test_the_line_that_asked_for_too_much_stands_before_who_held_the_rest() -> None:
    first, refused, spare, *rest = story_text(STORY, most=5).splitlines()
    assert first == "device 0: 70 GB in blocks at most, 78 GB reserved (1,200 events)"
    assert refused == "OUT OF MEMORY at train.py:40 step: 2 GB more beside 70 GB"
    assert spare.strip() == "8 GB were reserved and in no block, the device had 500 MB left"
    assert [line.split()[0] for line in rest[-2:]] == ["train.py:12", "unknown"]


def test_a_snapshot_without_a_history_says_how_to_have_one() -> None:
    text = story_text(replace(STORY, events=0, refusal=None), most=1)
    assert "record it with _record_memory_history" in text
    assert "OUT OF MEMORY" not in text
    assert "unknown" not in text  # the second holder is beyond what was asked for
