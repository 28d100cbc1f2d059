"""A run made by hand, of round numbers, in which nothing is worth changing; each test changes what it is about.

The step takes 1 s: 0.9 s of matrix products at their roof, 0.1 s of nothing that a rule speaks about.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_model import made_up_model
from made_up_record import made_up_attribution, made_up_ceiling, made_up_op, made_up_phase, made_up_record, made_up_step

from hwprof.specs.hardware.spec import ClusterSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import (
    DeviceIdentity,
    OpResult,
    RunRecord,
    RunSettings,
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
        "calls": 4.0,
        "time_s": 0.9,
        "share": 0.9,
        "matmul_flop": 0.9e12,
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
    }
    return made_up_op(**(values | changes))


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


@pytest.fixture
def build(small_model: ModelSpec) -> RecordBuilder:
    """A record with the given fields replaced; ``settings`` takes changes of the settings, not the settings."""

    def record(
        *, settings: dict[str, Any] | None = None, memory_bytes: float | None = 80e9, **changes: Any
    ) -> RunRecord:
        fields: dict[str, Any] = {
            "settings": make_settings(**(settings or {})),
            "model": small_model,
            "device": DeviceIdentity(name="device", catalogue_id="hand", note="", memory_bytes=memory_bytes),
            "ceilings": (made_up_ceiling("matmul.fp32", 1e12), made_up_ceiling("memory.dram", 100e9)),
            "step": made_up_step(1.0),
            "ops": (make_op(),),
            "attribution": made_up_attribution(),
        }
        return made_up_record(**(fields | changes))

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
        phase=made_up_phase,
        ceiling=made_up_ceiling,
        attribution=made_up_attribution,
        settings=make_settings,
        cluster=make_cluster,
    )
