"""How did the tries of `make faults` end? Counts by kind, from pytest's report."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def counts(report: Path) -> dict[str, dict[str, int]]:
    """Kind -> how its tries ended -> how often."""
    found = ET.parse(report).getroot().iter("property")  # noqa: S314 (written by our own pytest)
    return {each.get("name", ""): ast.literal_eval(each.get("value", "")) for each in found}


def main() -> int:
    """Print them."""
    found = {kind: ends for report in sys.argv[1:] for kind, ends in counts(Path(report)).items()}
    for kind, ends in found.items():
        words = ", ".join(f"{count:,} {end}" for end, count in ends.items())
        sys.stdout.write(f"{kind:28} {sum(ends.values()):7,}: {words}\n")
    sys.stdout.write(f"{'together':28} {sum(sum(ends.values()) for ends in found.values()):7,}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
