"""Does the script that gathers evidence on a GPU go through all its sections? On a played one, with a played ncu."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from played.device import Gpus
from played.nvml import played_nvml
from played.profile import played_profile
from played.small import small_probes
from played.tensors import tensors_on_cpu

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_evidence.py"
MODELS = Path(__file__).resolve().parents[1] / "support" / "played" / "catalogue"
COUNTED = '"ID","Kernel Name","gpu__time_duration.sum","dram__bytes_read.sum","dram__bytes_write.sum"'


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """What it leaves of a played H200; the model is tiny, and sections run in this process."""
    spec = importlib.util.spec_from_file_location("gpu_evidence", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder, gpus, cuda = tmp_path_factory.mktemp("evidence"), Gpus(), torch.device("cuda", 0)
    ncu = folder / "ncu"
    row = '"0","void at::native::mm_kernel<4>","1000","30","10"'
    ncu.write_text(f'#!{sys.executable} -S\nprint(\'\'\'{COUNTED}\n"","","ns","byte","byte"\n{row}\'\'\')\n')
    ncu.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        sizes = ("--micro-batch", "1", "--seq-len", "16", "--workers", "0", "--warmup-steps", "1")
        patch.setenv("HWPROF_PATH", str(MODELS))
        patch.setattr(script, "GPU_STEPS", {"played": sizes})
        patch.setattr(script, "CPU_STEPS", {})
        patch.setattr(script, "GPU_RUN", ("--steps", "2", "--profiled-steps", "1"))
        patch.setattr(script, "DRAM_LOAD_S", 0.5)
        patch.setattr(script.shutil, "which", lambda _name: str(ncu))
        small_probes(patch)
        played_profile(patch)
        played_nvml(patch)
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            script.gather(
                cuda,
                folder,
                script.Clock(script.BUDGET_S),
                run=lambda name, limit_s: script.section(lambda: script.rows_of(name, cuda, folder, limit_s)),
            )
    return json.loads((folder / "evidence.json").read_text())


def test_every_section_has_rows(evidence):
    assert {name: "rows" in found for name, found in evidence["sections"].items()} == dict.fromkeys(
        ("ceilings", "steps", "dram", "counters", "overhead"), True
    )
    assert evidence["device"] == "NVIDIA H200"
    assert evidence["catalogue_id"] == "h200-sxm5-141gb"


def test_ceilings_are_held_against_the_datasheet_and_others_figures(evidence):
    rows = {row["ceiling"]: row for row in evidence["sections"]["ceilings"]["rows"]}
    assert rows["matmul.bf16"]["known"] == 790e12
    assert rows["matmul.bf16"]["of_known"] == pytest.approx(rows["matmul.bf16"]["value"] / 790e12)
    assert rows["matmul.bf16"]["conditions"]["sm_clock_hz"] == 1755e6


def test_bytes_are_those_of_gpm_and_of_ncu(evidence):
    (dram,) = evidence["sections"]["dram"]["rows"]
    assert dram["dram_fraction"] == pytest.approx(0.42)
    assert dram["measured_bytes"] == pytest.approx(0.42 * 4.8e12 * dram["step_s"])
    total = evidence["sections"]["counters"]["rows"][0]
    assert total["kernel"].endswith(" of 1 kernels matched")
    assert total["ncu_ended_with"] == 0
