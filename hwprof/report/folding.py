"""How does a text stay on a screen? A line that is too wide goes on below, indented, where a phrase ends."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

COLUMNS = 80
"""Of a terminal as it opens."""

_LABEL = re.compile(r"\s*\S+(?: \S+)* {2,}")
_FARTHEST_LABEL = 30
_GLUE = re.compile(r"(?<![\w.,])(?:[0-9.]+ %:|[0-9][0-9.,]*(?: x)?|to) (?=[A-Za-z0-9%µ])")
"""Between a number and what is counted there is no end of a line."""

_PIECE = re.compile(r"[^\x00-\u2e7f]|[\x01-\u2e7f\x00]*?(?: +|(?=[^\x00-\u2e7f])|$)")

_PHRASE_FROM = 0.6
"""Share of a line from which on the end of a phrase is better than a fuller line."""


def text_width(text: str) -> int:
    """Columns that a terminal needs: two for a Chinese character (Unicode, UAX 11)."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def folded(text: str, columns: int = COLUMNS) -> str:
    """The text with each line that is wider than ``columns`` in several."""
    return "\n".join(part for line in text.split("\n") for part in folded_line(line, columns))


def folded_line(line: str, columns: int = COLUMNS) -> list[str]:
    """A line in several that are no wider than ``columns``; what has no blank in it is never cut.

    What follows a label (two blanks or more) stays right of it.
    """
    if text_width(line) <= columns:
        return [line]
    label = _LABEL.match(line)
    indent = len(line) - len(line.lstrip())
    hang = text_width(label[0]) if label and text_width(label[0]) <= _FARTHEST_LABEL else indent + 2
    head = label[0] if label and hang > indent + 2 else line[:indent]
    words = [word.replace("\0", " ") for word in _pieces(line[len(head) :])]
    lines, start = [], head
    while words:
        taken = _fitting(words, columns - text_width(start), columns - hang)
        lines.append((start + "".join(words[:taken])).rstrip())
        words, start = words[taken:], " " * hang
    return lines


def _pieces(text: str) -> list[str]:
    """What stays together, with the blank that follows; a Chinese sentence may end a line after each character."""
    kept = _GLUE.sub(lambda found: found[0].replace(" ", "\0"), text)
    return [part for part in _PIECE.findall(kept) if part]


def _fitting(words: list[str], columns: int, below: int) -> int:
    """How many words go on one line: to the end of a phrase where that leaves little room.

    A path, and a word that is too long for a line of its own (``below``), stays where it is.
    """
    ends: list[int] = []
    width = 0
    for word in words:
        needed = text_width(word.rstrip())
        if width + needed > columns and ends and needed <= below and not word.startswith(("/", "~")):
            break
        width += text_width(word)
        ends.append(width)
    most = len(ends)
    if most == len(words):
        return most
    for count in range(most, 0, -1):
        if ends[count - 1] < _PHRASE_FROM * columns:
            break
        if words[count - 1].rstrip()[-1:] in {",", ";", ":", "，", "；", "。", "："}:
            return count
    return most
