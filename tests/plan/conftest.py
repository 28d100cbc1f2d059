"""A run made by hand, of round numbers, in which nothing is worth changing; each test changes what it is about.

The step takes 1 s: 0.9 s of matrix products at their roof, 0.1 s of nothing that a rule speaks about.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_model import made_up_model

from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.measurement import Ceiling
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import (
    Attribution,
    DeviceIdentity,
    OpResult,
    PhaseTime,
    RunRecord,
    RunSettings,
    StepTime,
)

RecordBuilder = Callable[..., RunRecord]


@pytest.fixture
def small_model() -> ModelSpec:
    """About 0.8 M parameters a layer, 3.2 M in 4 layers, 64 K in the embedding and in the head."""
    return made_up_model(
        layers=4,
        d_model=256,
        d_ff=1024,
        heads=4,
        kv_heads=4,
        head_dim=64,
        max_seq_len=512,
        positions="rope",
        tied_embeddings=False,
    )


def make_settings(**changes: Any) -> RunSettings:
    asked: dict[str, Any] = {
        "model": "small",
        "device": "cuda",
        "micro_batch": 8,
        "seq_len": 128,
        "workers": 2,
        "optimizer_implementation": "fused",
    }
    return RunSettings(**(asked | changes))


def make_op(**changes: Any) -> OpResult:
    """Matrix products that take 0.9 s of the step, at the roof."""
    values: dict[str, Any] = {
        "label": "layers.*.ffn.up",
        "layer_kind": "ffn",
        "phase": "forward",
        "direction": "forward",
        "calls": 4.0,
        "time_s": 0.9,
        "share": 0.9,
        "matmul_flop": 0.9e12,
        "vector_flop": 0.0,
        "read_bytes": 2e9,
        "write_bytes": 1e9,
        "intensity_flop_per_byte": 300.0,
        "flop_per_s": 1e12,
        "byte_per_s": 3e9,
        "roof_name": "matmul.fp32",
        "roof_s": 0.9,
        "roof_fraction": 1.0,
        "bound": "compute",
        "margin": 0.9,
        "confidence": "high",
        "lost_s": 0.0,
    }
    return OpResult(**(values | changes))


def make_memory_op(**changes: Any) -> OpResult:
    """A norm that moves 40 GB in 0.4 s, at the roof of 100 GB/s."""
    values: dict[str, Any] = {
        "label": "layers.*.attention_norm",
        "layer_kind": "norm",
        "time_s": 0.4,
        "matmul_flop": 0.0,
        "read_bytes": 30e9,
        "write_bytes": 10e9,
        "roof_name": "memory.dram",
        "roof_s": 0.4,
        "bound": "memory",
    }
    return make_op(**(values | changes))


def make_phase(name: str, share: float, **changes: Any) -> PhaseTime:
    values: dict[str, Any] = {
        "name": name,
        "median_s": share,
        "interval_s": (share, share),
        "share": share,
        "in_step": True,
        "samples_s": (share,),
    }
    return PhaseTime(**(values | changes))


def make_ceiling(name: str, value: float, origin: str = "measured") -> Ceiling:
    kind = "compute" if name.startswith("matmul") else "memory"
    unit = "flop_per_s" if kind == "compute" else "byte_per_s"
    return Ceiling(name=name, kind=kind, value=value, unit=unit, origin=origin, source="by hand")


def make_attribution(**changes: float) -> Attribution:
    values: dict[str, Any] = {
        "step_s": 1.0,
        "compute_s": 1.0,
        "exposed_communication_s": 0.0,
        "exposed_copy_s": 0.0,
        "idle_host_s": 0.0,
        "idle_input_s": 0.0,
        "residue_s": 0.0,
        "explained_fraction": 1.0,
        "attributed_op_fraction": 1.0,
    }
    return Attribution(**(values | changes))


@pytest.fixture
def build(small_model: ModelSpec) -> RecordBuilder:
    """A record with the given fields replaced; ``settings`` takes changes of the settings, not the settings."""

    def record(
        *, settings: dict[str, Any] | None = None, memory_bytes: float | None = 80e9, **changes: Any
    ) -> RunRecord:
        step_s = 1.0
        fields: dict[str, Any] = {
            "hwprof_version": "0",
            "status": "complete",
            "created": "2026-01-01T00:00:00",
            "command": "hwprof run",
            "settings": make_settings(**(settings or {})),
            "model": small_model,
            "environment": {},
            "device": DeviceIdentity(name="device", catalogue_id="hand", note="", memory_bytes=memory_bytes),
            "ceilings": (make_ceiling("matmul.fp32", 1e12), make_ceiling("memory.dram", 100e9)),
            "step": StepTime(
                median_s=step_s,
                interval_s=(step_s, step_s),
                samples_s=(step_s,),
                spread=0.0,
                stable=True,
                warmups=1,
                tokens_per_s=1024.0,
            ),
            "ops": (make_op(),),
            "attribution": make_attribution(),
        }
        return RunRecord(**(fields | changes))

    return record


def make_cluster(
    devices: int, *, capacity: str = "80 GB", domain: int = 8, node: int = 8, **changes: Any
) -> ClusterSpec:
    """So many devices of round numbers: 100 TFLOP/s, 1 TB/s, links of 100 GB/s in a node and 10 GB/s beyond."""
    made_up = {"source": ["made up"]}
    device: dict[str, Any] = {
        "id": "hand",
        "kind": "gpu",
        "vendor": "none",
        "architecture": "none",
        "architecture_family": "other",
        "form_factor": "none",
        "confidence": "read",
        "compute": made_up,
        "peaks": made_up | {"dense": {"fp32": "100 TFLOP/s", "bf16": "100 TFLOP/s"}},
        "memory": made_up | {"capacity": capacity, "type": "HBM", "bandwidth": "1 TB/s"},
        "link": made_up | {"link": "nvlink4", "per_device": "100 GB/s", "topology": "switch"},
        "host_link": made_up | {"type": "bus", "bandwidth": "20 GB/s"},
        "node": made_up | {"devices": node, "scale_up_domain": max(domain, 1)},
    }
    fields: dict[str, Any] = {
        "id": f"{devices}xhand",
        "device": device | changes,
        "devices": devices,
        "devices_per_node": min(node, devices),
        "scale_up_domain": min(domain, devices),
        "inter_node": "10 GB/s",
        "network": "ib-ndr",
        "source": {"all": "made up"},
    }
    return ClusterSpec.model_validate(fields)


@pytest.fixture
def hand() -> SimpleNamespace:
    """The makers of parts of a record."""
    return SimpleNamespace(
        op=make_op,
        memory_op=make_memory_op,
        phase=make_phase,
        ceiling=make_ceiling,
        attribution=make_attribution,
        settings=make_settings,
        cluster=make_cluster,
    )
