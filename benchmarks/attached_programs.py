"""Is every program measured as it stands? ``hwprof run --`` on loops of nine libraries, against what each says itself.

    pip install trl sentence-transformers timm torchtitan triton datasets lightning accelerate
    python benchmarks/attached_programs.py                # some minutes; a program whose library is missing is left out
    python benchmarks/attached_programs.py trl_sft

The programs are in ``benchmarks/programs``; nothing in them knows of hwprof. Each prints its parameters and the tokens
of an optimizer step on one rank, counted by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")
RANKS = {"torchtitan_fsdp2": 2, "fsdp1_bert": 2}


def attached(program: Path, folder: Path) -> tuple[dict[str, object] | None, dict[str, object] | None, str]:
    """What a program says of itself, what its report says, and the end of its output."""
    launch = [sys.executable]
    if program.stem in RANKS:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS[program.stem]}"]
    hwprof = [sys.executable, "-m", "hwprof", "run", "--warmup-steps", "2", "--steps", "6", "--profiled-steps", "1"]
    command = [*hwprof, "--output", str(folder), "--", *launch, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=570, check=False)
    text = done.stdout + done.stderr
    truth = next((json.loads(line[5:]) for line in text.splitlines() if line.startswith("TRUTH")), None)
    path = folder / "run.json"
    return truth, json.loads(path.read_text()) if path.is_file() else None, text[-1500:]


def main() -> None:
    wanted = sys.argv[1:]
    print("| program | parameters | trained | tokens a step | step | phases | kernels booked |")
    print("|---|---|---|---|---|---|---|")
    right = seen = 0
    for program in sorted(PROGRAMS.glob("*.py")):
        if wanted and program.stem not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            truth, record, text = attached(program, Path(folder))
        if truth is None and "ModuleNotFoundError" in text:
            print(f"| {program.stem} | left out: {text.strip().splitlines()[-1]} |")
            continue
        seen += 1
        if truth is None or record is None:
            print(f"| {program.stem} | no {'report' if truth else 'end'}: {text} |")
            continue
        model, settings = record["model"], record["settings"]
        found = (model["parameters"], model["trainable_parameters"], settings["tokens_per_step"])
        expected = (truth["parameters"], truth["trainable"], truth["tokens"])
        same = found == expected and truth.get("samples", settings["samples_per_step"]) == settings["samples_per_step"]
        right += same
        cells = [
            f"{mine}{'' if mine == its else f' (it says {its})'}" for mine, its in zip(found, expected, strict=True)
        ]
        share = (record["attribution"] or {}).get("explained_fraction")
        booked = "-" if share is None else f"{share:.0%}"
        phases = ", ".join(phase["name"] for phase in record["phases"] if phase["in_step"])
        step = f"{1e3 * record['step']['median_s']:.1f} ms" if record["step"] else "-"
        print(f"| {program.stem} | {' | '.join(cells)} | {step} | {phases} | {booked} |", flush=True)
    print(f"right in {right} of {seen}")


if __name__ == "__main__":
    main()
