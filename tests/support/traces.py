"""Fixtures of traces that several tests read: made once, by torch's own profiler and by the simulated loop."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.spans.columns import Trace
from hwprof.spans.read.file import read_trace


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes events as a trace file."""

    def write(events: kineto.KinetoFile, name: str = "trace.json") -> Path:
        return events.write(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def gpu_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kineto.simulate(kineto.Loop())[0].write(tmp_path_factory.mktemp("traces") / "gpu.json")


@pytest.fixture(scope="session")
def gpu_trace(gpu_file: Path) -> Trace:
    return read_trace(gpu_file)


PROGRAM = """
import sys, torch
from torch.profiler import ProfilerActivity, profile
torch.manual_seed(0)
layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
model = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
optimizer = torch.optim.AdamW(model.parameters())
data = torch.randn(4, 8, 32)
with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_stack=True, profile_memory=True) as prof:
    for _ in range(3):
        optimizer.zero_grad()
        model(data).pow(2).mean().backward()
        optimizer.step()
        prof.step()
prof.export_chrome_trace(sys.argv[1])

model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 16))
compiled, data = torch.compile(model, backend="aot_eager"), torch.randn(8, 16)
compiled(data).sum().backward()
with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
    for _ in range(2):
        compiled(data).square().mean().backward()
        prof.step()
prof.export_chrome_trace(sys.argv[2])
"""


@pytest.fixture(scope="session")
def torch_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Traces of torch's own, in a process of its own: torch's stack recorder stumbles over frames of this one."""
    folder = tmp_path_factory.mktemp("traces")
    eager, compiled = folder / "torch.json", folder / "compiled.json"
    subprocess.run([sys.executable, "-c", PROGRAM, str(eager), str(compiled)], check=True, capture_output=True)
    return eager, compiled


@pytest.fixture(scope="session")
def compiled_file(torch_files: tuple[Path, Path]) -> Path:
    """Two steps of a compiled model on the CPU, with shapes."""
    return torch_files[1]


@pytest.fixture(scope="session")
def torch_file(torch_files: tuple[Path, Path]) -> Path:
    """Three steps of a small Transformer on the CPU, with shapes, modules and memory."""
    return torch_files[0]


@pytest.fixture(scope="session")
def torch_trace(torch_file: Path) -> Trace:
    return read_trace(torch_file)
