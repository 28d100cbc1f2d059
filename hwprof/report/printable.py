"""What of a text of unknown origin may reach a terminal? No escape sequence, no other control character."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI ... final (ECMA-48, 5.4)
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS and others, with their end
    r"|\x1b[ -/]*[0-~]"  # two characters
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""All but tab and line feed, and what turns the direction of writing round (Unicode, TR36 3.5)."""


def printable(text: str) -> str:
    """The text without escape sequences, other control characters as �."""
    return _CONTROL.sub("�", _SEQUENCE.sub("", text))
