"""``hwprof simulate``: its JSON contract, its text, its trace, its refusals."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwprof.cli.simulate import command
from hwprof.errors import HwprofError

JOB = ("--model", "llama-3.1-70b", "--hardware", "h100-sxm", "--devices", "64", "--tp", "8", "--pp", "4")
ULYSSES = ("--model", "8b", "--hardware", "h100-sxm", "--cp", "8", "--context-kind", "ulysses", "--seq-len", "16384")


def simulated(*arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_of_long_sequences_both_counts_of_attention_are_told() -> None:
    """At 131,072 tokens attention is 68 % of the work counted in full: half of it is 34 % of all."""
    asked = ["--model", "8b", "--hardware", "h100", "--devices", "64", "--tp", "2", "--cp", "8", "--global-batch", "32"]
    text = CliRunner().invoke(command, [*asked, "--seq-len", "128k"]).stdout
    full, causal = map(float, re.findall(r"([0-9.]+) %", text.splitlines()[0]))
    assert text.splitlines()[0].endswith(" % causal), compute-bound")
    attention = 12 * 32 * 4096 * 131072 / 1e9
    share = attention / (attention + 6 * 7.5)
    assert causal / full == pytest.approx(1 - share / 2, abs=0.02)
    assert "causal" not in CliRunner().invoke(command, [*asked[:-2], "--seq-len", "4k"]).stdout.splitlines()[0]


def test_json_keeps_its_contract() -> None:
    found = simulated(*JOB)
    low, high = found["interval_s"]
    assert low < found["step_s"] < high
    assert 0 < found["mfu"] <= found["hfu"] < 1
    assert found["tokens_per_s_per_device"] * found["step_s"] * 64 == pytest.approx(8 * 4096)
    memory = found["memory"]
    assert memory["peak_bytes"] == pytest.approx(sum(memory["breakdown"].values()))
    assert memory["peak_bytes"] == pytest.approx(max(memory["stage_bytes"]), abs=64)
    assert len(memory["stage_bytes"]) == len(found["bubble_s"]) == 4
    assert sum(found["breakdown_s"].values()) == pytest.approx(found["step_s"])
    assert found["bound"] in {"compute", "memory", "communication", "transfer", "host", "latency", "unknown"}
    assert isinstance(found["basis"], list)
    assert found["basis"]


def test_llama_3_is_cut_as_meta_cut_it() -> None:
    """16 stages of 8 chunks: 126 layers, and the embedding and the head in the place of one each (section 3.3.2)."""
    job = ("--model", "405b", "--hardware", "h100-sxm", "--devices", "16384", "--tp", "8", "--pp", "16", "--vp", "8")
    found = simulated(*job, "--global-batch", "2048", "--seq-len", "8192", "--zero", "1")
    assert 4 < found["step_s"] < 9


def test_options_reach_the_prediction() -> None:
    plain = simulated(*JOB)
    assert simulated(*JOB, "--recompute", "full")["memory"]["peak_bytes"] < plain["memory"]["peak_bytes"]
    assert simulated(*JOB, "--recompute", "full")["step_s"] > plain["step_s"]
    assert simulated(*JOB, "--seq-len", "8192")["step_s"] > plain["step_s"]
    assert simulated(*JOB, "--dtype", "fp8")["step_s"] < plain["step_s"]
    assert simulated(*JOB, "--zero", "0")["memory"]["peak_bytes"] > plain["memory"]["peak_bytes"]
    assert simulated(*JOB, "--lora-rank", "8")["memory"]["peak_bytes"] < plain["memory"]["peak_bytes"]


def test_the_first_line_is_the_answer() -> None:
    result = CliRunner().invoke(command, [*JOB], catch_exceptions=False)
    first, second, *_ = result.stdout.splitlines()
    assert " a step, " in first
    assert ", MFU " in first
    assert len(first) <= 100
    assert second.endswith(" tokens a step")


def test_text_says_what_does_not_fit() -> None:
    result = CliRunner().invoke(command, ["--model", "70b", "--hardware", "h100-sxm", "--devices", "8", "--tp", "8"])
    assert result.exit_code == 0
    assert "DOES NOT FIT" in result.stdout.splitlines()[1]
    assert "90 %" in result.stdout
    assert "basis: parameters" in result.stdout


@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1"])
def test_a_trace_has_a_track_for_every_stage(tmp_path: Path, schedule: str) -> None:
    path = tmp_path / "trace.json"
    simulated(*JOB, "--schedule", schedule, "--trace", str(path))
    events = json.loads(path.read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"stage 0", "stage 1", "stage 2", "stage 3"} <= tracks


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("--model", "70b", "--hardware", "h100-sxn", "--devices", "8"), "did you mean"),
        (("--model", "70c", "--hardware", "h100-sxm", "--devices", "8"), "did you mean"),
        ((*JOB, "--dp", "3"), "does not make up 64 devices"),
        ((*JOB, "--tp", "5"), "does not make up 64 devices"),
        (("--model", "8b", "--hardware", "h100-sxm", "--devices", "64", "--tp", "64"), "do not divide"),
        (("--model", "8b", "--hardware", "h100-sxm", "--devices", "64", "--pp", "64"), "fewer than"),
        (
            ("--model", "405b", "--hardware", "h100-sxm", "--devices", "128", "--pp", "16", "--vp", "9", "--tp", "8"),
            "126 layers are fewer than 144 pipeline chunks",
        ),
        ((*ULYSSES, "--devices", "64", "--tp", "8"), "4 heads of a tensor rank do not divide by context parallel 8"),
        ((*ULYSSES, "--devices", "16", "--tp", "2"), "4 key and value heads of a tensor rank do not divide by context"),
        ((*JOB, "--vp", "2", "--schedule", "1f1b"), "needs the interleaved schedule"),
        ((*JOB, "--global-batch", "3"), "does not divide"),
        (("--model", "gpt2-124m", "--hardware", "l4", "--devices", "1", "--seq-len", "4096"), "1024"),
        (("--model", "8b", "--devices", "8"), "--hardware"),
        (("--model", "8b", "--devices", "8", "--hardware", ""), "no device is named"),
        ((*JOB, "--expert-skew", "nan"), "'--expert-skew': nan is not a finite number"),
        ((*JOB, "--global-batch", "2000000"), "at most 1,000,000 are simulated"),
        (
            ("--model", "8b", "--hardware", "h100-sxm", "--devices", "8", "--seq-len", "4", "--cp", "8"),
            "does not divide",
        ),
        (
            ("--model", "mixtral-8x7b", "--hardware", "h100-sxm", "--devices", "8", "--ep", "8", "--expert-skew", "20"),
            "at most 8 times the mean",
        ),
        (("--model", "70b", "--hardware", "gaudi3", "--devices", "8"), "let `hwprof plan` find one"),
        ((*JOB, "--qlora"), "add --lora-rank"),
        ((*JOB, "--fp8-recipe", "mxfp8"), "does not go with dtype = bf16"),
        ((*JOB, "--selective", "mlp,products"), "stand alone"),
        ((*JOB, "--compile", "--no-fused"), "compiled kernels are fused"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    failed: Callable[..., tuple[int, str]], arguments: tuple[str, ...], fact: str
) -> None:
    code, message = failed("simulate", *arguments)
    assert code == 2
    assert fact in message
    assert "Traceback" not in message


def test_what_does_not_fit_is_said_first() -> None:
    found = simulated("--model", "70b", "--hardware", "h100-sxm", "--devices", "8", "--tp", "8")
    assert next(iter(found.items())) == ("fits", False)
    assert found["memory"]["peak_bytes"] < found["memory"]["reserved_bytes"] < found["memory"]["device_bytes"]


def test_no_step_uses_more_than_the_device_has() -> None:
    """Layers with a window of 1,024 tokens do not attend to 131,072."""
    layout = ("--hardware", "h100-sxm", "--devices", "64", "--tp", "8", "--cp", "8")
    assert simulated("--model", "gemma-3-27b", "--seq-len", "131072", *layout)["mfu"] < 1


def test_it_runs_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from hwprof.cli import main; "
        "sys.argv = ['hwprof', 'simulate', '--model', '8b', '--hardware', 'h100-sxm', '--devices', '8']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MFU" in done.stdout


def calibration(folder: Path, device: str) -> str:
    peak = 989.4e12
    ceilings = [
        {
            "name": name,
            "kind": "compute",
            "value": share * peak,
            "unit": "flop_per_s",
            "origin": "measured",
            "source": "probe",
        }
        for name, share in (("matmul.bf16", 0.5), ("matmul.bf16.8192x1024x8192", 0.4))
    ]
    path = folder / "calibration.json"
    texts = dict.fromkeys(("hwprof_version", "created", "torch_version", "driver"), "x")
    content = {"schema_version": 1, "status": "complete", "quick": True, "environment": {}, "ceilings": ceilings}
    path.write_text(json.dumps(content | texts | {"device": device}))
    return str(path)


def test_a_slower_device_as_probed_makes_a_slower_step_and_the_basis_says_so(tmp_path: Path) -> None:
    path = calibration(tmp_path, "NVIDIA H100 80GB HBM3")
    measured, fitted = simulated(*JOB, "--calibration", path), simulated(*JOB)
    assert measured["step_s"] > 1.1 * fitted["step_s"]
    assert any("1 products of bf16 at their measured rates" in line for line in measured["basis"])


def test_calibration_of_another_device_is_refused(tmp_path: Path, failed: Callable[..., tuple[int, str]]) -> None:
    code, text = failed("simulate", *JOB, "--calibration", calibration(tmp_path, "NVIDIA H200"))
    assert code == 2
    assert "is of 'NVIDIA H200'" in text


def test_host_memory_of_offload_is_told() -> None:
    assert simulated(*JOB)["memory"]["host_bytes"] == 0
    found = simulated(*JOB, "--offload", "optimizer")["memory"]["host_bytes"]
    parameters = 70.55e9 / (
        8 * 4
    )  # of a device; ZeRO stage 1 shards over 2 replicas; the first stage has the embedding
    assert found == pytest.approx((12 + 4) * parameters / 2, rel=0.05)
    text = CliRunner().invoke(command, [*JOB, "--offload", "optimizer"]).stdout
    assert "host    " in text
    assert " a device" in text


def test_hardware_may_say_how_many_and_a_bubble_says_what_shrinks_it() -> None:
    words = ["--model", "7b", "--pp", "8", "--hardware", "8xh100", "--global-batch", "8", "--seq-len", "2k"]
    text = CliRunner().invoke(command, words, catch_exceptions=False).stdout
    assert "8 x h100-sxm5-80gb" in text
    assert "the pipeline bubble takes " in text
    assert "--vp 4 or --global-batch 32 shrinks it" in text
    with pytest.raises(HwprofError, match="contradict each other"):
        CliRunner().invoke(command, [*words, "--devices", "16"], catch_exceptions=False)
