"""What belongs to a release beside its files: their hashes, the bill of materials, and what is known against it?

Takes the folder of the sdist and the wheel, and writes ``SHA256SUMS`` and ``hwprof.cdx.json`` (CycloneDX 1.6) there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
MOST_WHEEL_BYTES = 3_000_000
_TEXT, _CODE = "(.+?)", "`(.+?)`"
_CELLS = (_CODE, _TEXT, _TEXT, _TEXT, _CODE, "<(.+?)>", "(yes|no)", "`([0-9a-f]{64})`")
_ROW = re.compile(r"^\| " + r" \| ".join(_CELLS) + r" \|$", re.MULTILINE)


class Part(NamedTuple):
    """A row of THIRD_PARTY.md."""

    file: str
    name: str
    version: str
    licence: str
    licence_file: str
    source: str
    shipped: str
    sha256: str


def third_parts(root: Path = ROOT) -> list[Part]:
    """What others made and stands in the repository."""
    return [Part(*row) for row in _ROW.findall((root / "THIRD_PARTY.md").read_text(encoding="utf-8"))]


def closure(name: str) -> dict[str, str]:
    """All packages that a package asks for here, extras left out, and their versions."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        for text in importlib.metadata.requires(waiting.pop()) or ():
            wanted = Requirement(text)
            if wanted.name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            found[wanted.name] = importlib.metadata.version(wanted.name)
            waiting.append(wanted.name)
    return dict(sorted(found.items()))


def bill(packages: dict[str, str], parts: list[Part]) -> str:
    """The bill of materials as JSON: packages with their licences, and parts with their hashes.

    Raises:
        ValueError: it is not what the standard wants.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licences = LicenseFactory()
    own = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=project["name"],
        licenses=[licences.make_from_string(project["license"])],
    )
    made = Bom()
    made.metadata.component = own
    for name, version in packages.items():
        metadata = importlib.metadata.metadata(name)
        said = metadata.get("License-Expression") or metadata.get("License") or ""
        url = PackageURL("pypi", name=name.lower(), version=version)
        licence = [licences.make_from_string(said.splitlines()[0])] if said.strip() else []
        made.components.add(Component(name=name, version=version, purl=url, bom_ref=str(url), licenses=licence))
    for part in parts:
        digest = HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)
        licence = [licences.make_from_string(part.licence)]
        kind = ComponentType.LIBRARY if ".js" in Path(part.file).name else ComponentType.DATA
        made.components.add(
            Component(
                name=part.name, version=part.version, type=kind, bom_ref=part.file, hashes=[digest], licenses=licence
            )
        )
    made.register_dependency(own, made.components)
    text = JsonV1Dot6(made).output_as_string(indent=1)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the bill of materials is not CycloneDX 1.6: {wrong}")
    return text


def sums(files: list[Path]) -> str:
    """As ``sha256sum --check`` reads it."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files))


def audit(packages: dict[str, str]) -> tuple[str, bool]:
    """What pip-audit says of packages, in words, and whether a release is there that mends one of them."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.writelines(f"{name}=={version.partition('+')[0]}\n" for name, version in packages.items())
        wanted.flush()
        line = [sys.executable, "-m", "pip_audit", "--requirement", wanted.name, "--no-deps", "--disable-pip"]
        try:
            done = subprocess.run(  # noqa: S603 (our own words)
                [*line, "--format", "json", "--timeout", "10"], capture_output=True, text=True, timeout=120, check=False
            )
            asked = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return "pip-audit: nothing could be audited, the registry or its list of advisories is not reached", False
    skipped = [each["name"] for each in asked if "skip_reason" in each]
    against = [(each["name"], fault) for each in asked for fault in each.get("vulns", ())]
    words = [
        f"{name}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}" for name, fault in against
    ]
    said = f"pip-audit: {len(asked) - len(skipped)} of {len(asked)} packages audited, {len(against)} advisories"
    known = f"; the registry knows nothing of {', '.join(skipped)}" if skipped else ""
    return "\n".join([said + known, *words]), any(fault["fix_versions"] for _, fault in against)


def main() -> int:
    """Write hashes and bill; 1 where the wheel is too large or an advisory is known that a newer package mends."""
    folder = Path(sys.argv[1])
    packages = closure("hwprof")
    shipped = [part for part in third_parts() if part.shipped == "yes"]
    (folder / "hwprof.cdx.json").write_text(bill(packages, shipped) + "\n", encoding="utf-8")
    files = [file for file in folder.iterdir() if file.suffix in {".gz", ".whl", ".json"}]
    (folder / "SHA256SUMS").write_text(sums(files), encoding="ascii")
    words, mendable = audit(packages)
    largest = max(file.stat().st_size for file in files if file.suffix == ".whl")
    sys.stdout.write(f"{len(packages)} packages and {len(shipped)} parts of others in hwprof.cdx.json\n{words}\n")
    if largest > MOST_WHEEL_BYTES:
        sys.stderr.write(f"the wheel has {largest} bytes; expected at most {MOST_WHEEL_BYTES}\n")
    return int(mendable or largest > MOST_WHEEL_BYTES)


if __name__ == "__main__":
    sys.exit(main())
