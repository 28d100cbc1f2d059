"""Do the recipes work when they are followed as they stand? Each is, in a copy: its code put in, its commands run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
BY_HAND = {"A published run": "a fit takes an hour, and needs the file of a source"}
"""Recipe -> why no test follows it."""

STEP = re.compile(
    r"^`(?P<path>\S+)`, (?:(?P<how>below|in place of) the line `(?P<line>[^`]+)`|new):\n\n"
    r"```\w+\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("hwprof", "hardware_specs", "models", "reports/example", "pyproject.toml", "tests")


@pytest.fixture
def copy(tmp_path):
    """A copy of what the recipes touch."""
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".hypothesis", "pictures"))
        else:
            shutil.copy2(source, target)
    return tmp_path


def _apply(step, folder):
    """Put the code of a step where it says."""
    path = folder / step["path"]
    if step["how"] is None:
        assert not path.exists(), f"{step['path']} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["code"], encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.rstrip("\n") == step["line"]]
    assert len(places) == 1, f"{step['path']} has {len(places)} lines {step['line']!r}"
    at = places[0] + (step["how"] == "below")
    lines[at : places[0] + 1] = [step["code"]]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("title", [title for title in RECIPES if title not in BY_HAND])
def test_recipe_works_when_followed(title, copy):
    recipe = RECIPES[title]
    steps = list(STEP.finditer(recipe))
    assert len(steps) + len(COMMANDS.findall(recipe)) == recipe.count("```") // 2, "a block that no line places"
    for step in steps:
        _apply(step, copy)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": programs, "PYTHONPATH": str(copy)}
    python = " ".join(sorted({step["path"] for step in steps if step["path"].endswith(".py")}))
    looks = f"ruff check -q {python}\nruff format -q --check {python}\n" if python else ""
    commands = "".join(COMMANDS.findall(recipe)) + looks
    done = subprocess.run(
        ["bash", "-exo", "pipefail", "-c", commands],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_recipes_are_there_for_what_people_add():
    assert {"A device", "A link", "A probe", "A schedule", "A stack", "A recommendation", "A command"} < set(RECIPES)
    assert set(BY_HAND) < set(RECIPES)


def test_a_recipe_whose_line_is_gone_fails(tmp_path):
    (tmp_path / "table.py").write_text("ROWS = {\n}\n")
    step = "`table.py`, below the line `{}`:\n\n```python\n    1: 2,\n```\n"
    _apply(STEP.match(step.format("ROWS = {")), tmp_path)
    assert (tmp_path / "table.py").read_text() == "ROWS = {\n    1: 2,\n}\n"
    with pytest.raises(AssertionError, match="0 lines 'COLUMNS"):
        _apply(STEP.match(step.format("COLUMNS = {")), tmp_path)
