"""Claims about what of a text may reach a terminal."""

import pytest

from hwprof.report.printable import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, µs and 中文\n\tnext", "plain text, µs and 中文\n\tnext"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bcreset", "reset"),
        ("over\rwritten\x08", "over�written�"),
        ("a\x1b", "a�"),
        ("safe\u202egnp.exe", "safe�gnp.exe"),
    ],
)
def test_sequences_go_and_other_controls_are_shown_as_such(text, expected):
    assert printable(text) == expected
