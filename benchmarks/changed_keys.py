"""Change one key of a small configuration of each type that is read: does the count still equal the module's?

    python benchmarks/changed_keys.py            # all such types, about a quarter of an hour; docs/architectures.md
    python benchmarks/changed_keys.py causal     # these tasks alone, nothing is written

A number is doubled, halved or one more, a truth value the other one. Where the type's class takes the changed
configuration, parameters, forward and training FLOP are compared with those of its module. Needs transformers.
"""

from __future__ import annotations

import argparse
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from architectures import PAGE, TASKS, asked_of, counted, given_to, modeling_auto, small_configurations, witness

from hwprof.errors import HwprofError
from hwprof.specs.huggingface import KNOWN_TYPES

MARKS = ("<!-- changes -->", "<!-- end of changes -->")

SECONDS = 20
"""Of computing, for each side of a comparison."""

_NO_SIZES = ("token_id", "token_index", "_idx")
"""Ends of keys that name a token: another one changes no count."""

_BY_CONVENTION = {("llama4_text", "num_local_experts")}
"""Transformers' Llama 4 runs every expert on every token; those that a token is not sent to are not counted."""


def changes(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Another value for each key that holds a number or a truth value; which one follows from the key's name."""
    for key, value in values.items():
        if isinstance(value, int) and not key.endswith(_NO_SIZES):
            others = (2 * value, max(value // 2, 1), value + 1)
            yield key, not value if isinstance(value, bool) else others[zlib.crc32(key.encode()) % len(others)]


def compared(task: str, kind: str, values: dict[str, Any]) -> tuple[str, str]:
    """``equal``, ``refused``, ``differs``, or ``none`` where the class does not take the values; and why."""
    asked = asked_of(task, kind)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        expected = witness(values, asked)
    except Exception as error:  # noqa: BLE001 (whatever a class raises)
        return "none", str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        _, found = counted(values, asked, given_to(task, kind))
    except (HwprofError, TimeoutError) as error:
        return "refused", str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ("equal", "") if found == expected else ("differs", f"counted {found}, the module {expected}")


def walked(task: str) -> Counter[str]:
    """How many changed configurations of a task's types are what."""
    found: Counter[str] = Counter()
    for kind, name in sorted(getattr(modeling_auto, TASKS[task][1]).items()):
        if kind not in KNOWN_TYPES:
            continue
        made = small_configurations(kind, name if isinstance(name, str) else name[0])
        values = next((each for each in made if compared(task, kind, each)[0] == "equal"), None)
        if values is None:
            continue
        found["types"] += 1
        for key, other in changes(values):
            if (kind, key) in _BY_CONVENTION:
                continue
            what, why = compared(task, kind, values | {key: other})
            found[what] += 1
            if what in {"refused", "differs"}:
                print(task, kind, f"{key} = {other}", what, why, flush=True)
        print(task, kind, dict(found), flush=True)
    return found


def write(found: dict[str, Counter[str]]) -> None:
    """Put the table into the page, between its marks."""
    rows = ["| task | types read | changed keys | equal | refused | differ |", "|---|---|---|---|---|---|"]
    for task, counts in found.items():
        numbers = [counts[each] for each in ("equal", "refused", "differs")]
        cells = (TASKS[task][0], counts["types"], sum(numbers), *numbers)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    before, rest = PAGE.read_text().split(MARKS[0])
    PAGE.write_text("\n".join([f"{before}{MARKS[0]}", *rows, f"{MARKS[1]}{rest.split(MARKS[1])[1]}"]))


def _stop(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def main() -> int:
    """Walk, and write the table where all tasks were walked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", default=[])
    given = parser.parse_args()
    signal.signal(signal.SIGPROF, _stop)
    found = {task: counts for task in given.tasks or TASKS if (counts := walked(task))}
    if not given.tasks:
        write(found)
    return int(any(counts["differs"] for counts in found.values()))


if __name__ == "__main__":
    sys.exit(main())
