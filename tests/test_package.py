"""Does what is said of the package agree? Python versions, changelog, issue forms, and what the sdist carries."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from hwprof.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SUPPORTED = ["3.11", "3.12", "3.13"]


def test_python_versions_agree_wherever_they_are_stated():
    found = [re.search(r"Python :: (3\.\d+)$", line) for line in PROJECT["project"]["classifiers"]]
    assert [version[1] for version in found if version] == SUPPORTED
    assert PROJECT["project"]["requires-python"] == f">={SUPPORTED[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == SUPPORTED[0]
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + SUPPORTED[0].replace(".", "")
    assert f"Python {SUPPORTED[0]} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_version_is_that_of_the_metadata():
    assert __version__ == PROJECT["project"]["version"]


def test_changelog_has_unreleased_first_and_known_kinds_of_change():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", version) for version in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_the_sdist_names_is_there():
    names = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_issue_form_is_what_github_reads(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(content)
    for part in content["body"]:
        assert part["type"] in {"textarea", "input"}
        assert part["attributes"]["label"]
