"""Is what others made listed with its licence, is it what the list says, and does a release say so?"""

import hashlib
import importlib.util
import json
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN_KINDS = {".py", ".toml", ".j2", ".css", ".md", ".js", ".tsv", ".typed"}
"""Kinds of files below hwprof/ that are written here."""


@pytest.fixture(scope="module")
def release():
    pytest.importorskip("cyclonedx", reason="make setup installs it")
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    sys.modules["release"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_part_of_others_is_what_the_list_says_and_has_its_licence(release):
    licences = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license-files"]
    parts = release.third_parts()
    assert len(parts) == 3
    for part in parts:
        assert hashlib.sha256((ROOT / part.file).read_bytes()).hexdigest() == part.sha256, part.file
        assert (ROOT / part.licence_file).stat().st_size > 500
        assert part.shipped == ("yes" if part.file.startswith("hwprof/") else "no")
        assert part.shipped == "no" or part.licence_file in licences


def test_nothing_of_others_is_in_the_package_unlisted(release):
    listed = {part.file for part in release.third_parts()} | {part.licence_file for part in release.third_parts()}
    files = [path for path in (ROOT / "hwprof").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    strange = {path.relative_to(ROOT).as_posix() for path in files if path.suffix not in OWN_KINDS}
    packed = {path.relative_to(ROOT).as_posix() for path in files if ".min." in path.name}
    assert strange | packed <= listed


def test_bill_of_materials_names_packages_parts_licences_and_hashes(release):
    parts = [part for part in release.third_parts() if part.shipped == "yes"]
    packages = release.closure("hwprof")
    assert {"torch", "numpy", "click", "sympy"} <= set(packages)  # sympy is torch's
    assert not {"pytest", "mypy", "wandb"} & set(packages)
    bill = json.loads(release.bill(packages, parts))
    found = {each["name"]: each for each in bill["components"]}
    assert set(found) == {*packages, "plotly.js", "Pride and Prejudice"}
    assert found["plotly.js"]["hashes"] == [{"alg": "SHA-256", "content": parts[0].sha256}]
    assert found["plotly.js"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert bill["metadata"]["component"]["name"] == "hwprof"


def test_hashes_are_as_sha256sum_reads_them(release, tmp_path):
    (tmp_path / "a.whl").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert release.sums([tmp_path / "a.whl"]) == f"{known}  a.whl\n"


def test_audit_without_a_network_says_so_and_fails_nothing(release, monkeypatch):
    monkeypatch.setattr(release.subprocess, "run", lambda *_, **__: type("Ended", (), {"stdout": ""}))
    words, mendable = release.audit({"click": "8.4.0"})
    assert "nothing could be audited" in words
    assert not mendable


def test_audit_names_what_is_known_and_mended(release, monkeypatch):
    fault = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    told = {"dependencies": [{"name": "a", "vulns": [fault]}, {"name": "b", "skip_reason": "not found"}]}
    monkeypatch.setattr(release.subprocess, "run", lambda *_, **__: type("Ended", (), {"stdout": json.dumps(told)}))
    words, mendable = release.audit({"a": "1.0", "b": "1.0"})
    assert words == (
        "pip-audit: 1 of 2 packages audited, 1 advisories; the registry knows nothing of b\na: PYSEC-1, mended in 2.0"
    )
    assert mendable
