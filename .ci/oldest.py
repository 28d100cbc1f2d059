"""Does hwprof work with the lowest releases that it allows, of everything but torch?"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "--version",
    "count --model 7b --batch-size 1 --seq-len 128 --format json",
    "simulate --model 7b --hardware h100-sxm --devices 8 --zero 3",
    "specs list",
    "specs check",
    "view reports/example --no-write",
    "validate",
)


def lowest() -> list[str]:
    """Each dependency at the release of its lower bound, with what was mended in it; torch is left as it is."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pairs = [re.fullmatch(r"([\w-]+)>=([\w.]+)", one) for one in wanted]
    return [f"{pair[1]}=={pair[2]}.*" for pair in pairs if pair is not None and pair[1] != "torch"]


def main() -> int:
    """0 where every command works."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        home = next(Path(folder).glob("lib/python*/site-packages"))
        (home / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch, and what versions here don't need
        quiet = ["--quiet", "--disable-pip-version-check", "--ignore-installed"]
        subprocess.run([python, "-m", "pip", "install", *quiet, *lowest()], check=True)  # noqa: S603 (our own words)
        for words in COMMANDS:
            line = [python, "-m", "hwprof", *words.split()]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                sys.stderr.write(f"with {', '.join(lowest())}: hwprof {words}\n{done.stderr}")
                return 1
    sys.stdout.write(f"works with {', '.join(lowest())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
