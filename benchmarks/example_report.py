"""Write reports/example: one real run of the default on this machine's CPU, with a README that says what it is.

    python benchmarks/example_report.py        (or make example)

Some two minutes on two idle cores. The README states the machine and whether other work disturbed the run, as run.json
has it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hwprof.report.files.run import read_run
from hwprof.report.run.view import build_view
from hwprof.specs.measurement import MAX_WAITED_FRACTION
from hwprof.specs.record.run import RunRecord

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("reports") / "example"
LARGEST_BYTES = 6_000_000

README = """# An example report

`hwprof run` on the built-in default (`tiny`, 3.3 M parameters, real text) on a CPU, as it was measured; `make example`
makes it again. Open [report.html](report.html) in a browser (on GitHub: download it first).

> {sentence}

![Roofline](roofline.png)

![Step](step.png)

| | |
|---|---|
| ran on | {device}, {cores} CPU cores, torch {torch} |
| at | {created} |
| state of the machine | {state} |
| files | {files} |
"""


def main() -> None:
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    line = ["-m", "hwprof", "run", "--model", "tiny", "--device", "cpu", "--output", str(FOLDER)]
    subprocess.run([sys.executable, *line], check=True, cwd=ROOT)
    record = read_run(ROOT / FOLDER)
    (ROOT / FOLDER / "README.md").write_text(readme(record), encoding="utf-8")
    size_bytes = sum(path.stat().st_size for path in (ROOT / FOLDER).iterdir())
    print(f"{FOLDER}: {size_bytes / 1e6:.2f} MB")
    if size_bytes > LARGEST_BYTES:
        sys.exit(f"more than {LARGEST_BYTES / 1e6:.0f} MB is too much to keep in the repository")


def readme(record: RunRecord) -> str:
    facts = record.environment
    names = sorted(path.name for path in (ROOT / FOLDER).iterdir() if path.name != "README.md")
    return README.format(
        sentence=build_view(record).headline.sentence,
        device=record.device.name,
        cores=facts["cpu.cores_physical"],
        torch=facts["torch.version"],
        created=record.created,
        state=state_of_machine(record),
        files=", ".join(f"[{name}]({name})" for name in names),
    )


def state_of_machine(record: RunRecord) -> str:
    waited = record.step.waited_fraction if record.step else None
    if waited is None:
        return "not known: this system does not say how long threads waited for a CPU"
    share = f"threads waited {waited:.2f} s for a CPU in each second of the timed steps"
    if waited > MAX_WAITED_FRACTION:
        return f"**other work was running** ({share}): trust no absolute figure here, and rebuild it on a quiet machine"
    return f"quiet ({share})"


if __name__ == "__main__":
    main()
