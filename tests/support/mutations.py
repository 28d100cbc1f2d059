"""What may stand in a file of unknown origin? A right one with something wrong put in at a random place."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    10**30,
    10**400,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    "",
    "x" * 300,
    "\x1b[31mred\x1b[0m",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "\ud800",
    [],
    [[[]]],
    {},
    {"unknown": 1},
)


def mutated(value: Any, random: Random) -> Any:
    """A copy of nested dictionaries and lists in which one to three places are changed, taken out, doubled or cut."""
    made = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(made))
        if not places:
            break
        owner, key = random.choice(places)
        _change(owner, key, random)
    return made


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def _change(owner: Any, key: Any, random: Random) -> None:
    item, way = owner[key], random.randrange(5)
    if way == 0:
        del owner[key]
    elif way == 1 and isinstance(item, list) and item:
        owner[key] = item[: random.randrange(len(item))]
    elif way == 2 and isinstance(item, list):
        owner[key] = item + item
    elif way == 3 and isinstance(item, int | float) and not isinstance(item, bool):
        owner[key] = random.choice((-item, item * 10**6, item / 10**6, item + 0.5, str(item)))
    else:
        owner[key] = copy.deepcopy(random.choice(VALUES))


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """The content cut off, or with bytes changed, taken out or doubled."""
    made = bytearray(content)
    for _ in range(random.randrange(1, 6)):
        if not made:
            break
        at, length = random.randrange(len(made)), random.randrange(1, 40)
        way = random.randrange(4)
        if way == 0:
            del made[at:]
        elif way == 1:
            made[at] = random.randrange(256)
        elif way == 2:
            del made[at : at + length]
        else:
            made[at:at] = made[at : at + length]
    return bytes(made)
