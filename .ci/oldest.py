"""Does hwprof work with the lowest releases that it allows, and with other Pythons?

Without arguments a few commands with the lowest releases of everything but torch, as CI does. With ``--whole`` all
tests there with the lowest torch too, and with each other Python that is to be had: the table of CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = (
    "--version",
    "count --model 7b --batch-size 1 --seq-len 128 --format json",
    "simulate --model 7b --hardware h100-sxm --devices 8 --zero 3",
    "specs list",
    "specs check",
    "view reports/example --no-write",
    "validate",
)
QUIET = ["--quiet", "--disable-pip-version-check"]


def lowest(*, torch: bool = False) -> list[str]:
    """Each dependency at the release of its lower bound, with what was mended in it; torch only where asked for."""
    pairs = [re.fullmatch(r"([\w-]+)>=([\w.]+)", one) for one in PROJECT["dependencies"]]
    return [f"{pair[1]}=={pair[2]}.*" for pair in pairs if pair is not None and (torch or pair[1] != "torch")]


def interpreters() -> dict[str, str]:
    """Python version -> an interpreter of it, of those that hwprof names; of this machine's PATH or pyenv."""
    named = [re.search(r":: (3\.\d+)$", line) for line in PROJECT["classifiers"]]
    found = {}
    for version in (each[1] for each in named if each):
        kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        own = sys.executable if sys.version.startswith(f"{version}.") else None
        if path := own or shutil.which(f"python{version}") or (kept and str(kept[-1])):
            found[version] = path
    return found


def smoke() -> int:
    """0 where every command works with the lowest releases of everything but torch."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        home = next(Path(folder).glob("lib/python*/site-packages"))
        (home / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch, and what versions here don't need
        subprocess.run([python, "-m", "pip", "install", *QUIET, "--ignore-installed", *lowest()], check=True)  # noqa: S603 (our own words)
        for words in COMMANDS:
            line = [python, "-m", "hwprof", *words.split()]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                sys.stderr.write(f"with {', '.join(lowest())}: hwprof {words}\n{done.stderr}")
                return 1
    sys.stdout.write(f"works with {', '.join(lowest())}\n")
    return 0


def row(version: str, interpreter: str, packages: list[str], tests: list[str]) -> str:
    """A row of the table: the tests in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([interpreter, "-m", "venv", folder], check=True)  # noqa: S603
        for wanted in (["--editable", ".[dev]"], packages):  # the second lowers what the first installs
            if wanted:
                done = subprocess.run(  # noqa: S603
                    [python, "-m", "pip", "install", *QUIET, *wanted],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    return (
                        f"| {version} | {', '.join(packages) or 'newest'} | can't be installed: {_last(done.stderr)} |"
                    )
        show = "import platform, torch; print(platform.python_version(), torch.__version__)"
        versions = subprocess.run([python, "-c", show], capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
        line = [python, "-m", "pytest", "-q", "-n", "logical", "--dist", "loadfile", *tests]
        # old releases warn of new ones, which is an error in our own tests alone
        lenient = os.environ | {"PYTEST_ADDOPTS": "-o filterwarnings="}
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env=lenient)  # noqa: S603
        return f"| {versions[0]} | torch {versions[1]}, {'lowest' if packages else 'newest'} | {_last(done.stdout)} |"


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "nothing is said"


def main() -> int:
    """Smoke, or the table."""
    if "--whole" not in sys.argv:
        return smoke()
    tests = [word for word in sys.argv[1:] if word != "--whole"]
    for version, interpreter in interpreters().items():
        first = version == PROJECT["requires-python"].removeprefix(">=")
        for packages in ([lowest(torch=True)] if first else []) + [[]]:
            sys.stdout.write(row(version, interpreter, packages, tests) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
