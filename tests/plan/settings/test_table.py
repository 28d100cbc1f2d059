"""Is the table of the documentation what the planner writes? A row a plan, a column a file."""

from __future__ import annotations

from pathlib import Path

from twenty_plans import PLANS, STARTED

from hwprof.plan.settings.frameworks import FILE_NAMES, FRAMEWORKS

DOCS = Path(__file__).parents[3] / "docs" / "planner.md"


def table(launch):
    yield "| plan | " + " | ".join(name if name.endswith(".py") else f"`{name}`" for name in FILE_NAMES) + " |"
    yield "|---" * (1 + len(FILE_NAMES)) + "|"
    for plan, changes in PLANS.items():
        asked = launch(**changes)
        told = [framework.settings_for(asked) for framework in FRAMEWORKS]
        marks = [mark(plan, one.file_name, written=bool(one.text)) for one in told]
        yield f"| {plan} | " + " | ".join(marks) + " |"


def mark(plan, file_name, *, written):
    if not written:
        return "–"
    return "●" if file_name in STARTED.get(plan, ()) else "○"


def test_the_documentation_has_the_table(launch):
    text = DOCS.read_text()
    missing = [row for row in table(launch) if row not in text]
    assert not missing, "\n".join(table(launch))


def test_there_are_twenty_plans_and_each_has_a_file(launch):
    assert len(PLANS) >= 20
    for plan, changes in PLANS.items():
        told = [framework.settings_for(launch(**changes)) for framework in FRAMEWORKS]
        assert [one.file_name for one in told if one.text and one.file_name != "torchrun.sh"], plan
