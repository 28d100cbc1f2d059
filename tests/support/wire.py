"""The wire format of protobuf, by hand: what a test writes that a library reads."""

from __future__ import annotations


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Fields by number: whole numbers, and texts or messages with their lengths."""
    found = b""
    for number, value in fields:
        if isinstance(value, int):
            found += _varint(number << 3) + _varint(value)
        else:
            body = value.encode() if isinstance(value, str) else value
            found += _varint(number << 3 | 2) + _varint(len(body)) + body
    return found
