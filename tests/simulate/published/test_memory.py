"""Memory of published runs: torchtitan's own figures, and what a run that ran says of a count that does not fit."""

from __future__ import annotations

import statistics

import pytest

from hwprof.simulate.published.case import case_of
from hwprof.simulate.published.memory import GIB, published_memory
from hwprof.specs.catalogue.published import PublishedRun
from hwprof.specs.catalogue.simulator import simulator_parameters

MODEL = simulator_parameters().memory

TITAN = {
    "accelerator": "H100 SXM",
    "accel_mem_gb": 96,
    "devices_per_node": 8,
    "inter_node_link_gbps_per_gpu": 400,
    "seq_len": 8192,
    "framework": "torchtitan (FSDP2)",
    "zero_stage_or_fsdp": "FSDP2",
    "attention_impl": "flash",
}

SMALL = {"model_name": "llama3-8b", "n_devices": 8, "global_batch_seqs": 16, "micro_batch_seqs": 2}
LARGE = {"model_name": "llama3-70b", "n_devices": 256, "tp": 8, "sp": True, "dp": 32, "precision": "float8"}
OPS = {"recompute": "selective (op)"}

FIGURES = {
    "8b eager": (SMALL | OPS | {"precision": "bf16", "compile": "no"}, 82.4),
    "8b compiled": (SMALL | OPS | {"precision": "bf16", "compile": "yes"}, 77.0),
    "8b float8": (SMALL | OPS | {"precision": "float8 tensorwise (fp8 all-gather)", "compile": "yes"}, 76.8),
    "8b on 128": (
        SMALL | OPS | {"precision": "bf16", "compile": "yes", "n_devices": 128, "global_batch_seqs": 256},
        62.0,
    ),
    "70b, 2D": (
        LARGE | {"recompute": "full", "compile": "yes", "global_batch_seqs": 512, "micro_batch_seqs": 16},
        71.9,
    ),
}
"""GiB that torch had reserved (pytorch/torchtitan, docs/performance.md; 96 GB H100s)."""


def run_of(changes):
    return PublishedRun.model_validate(TITAN | {"id": "a"} | changes)


@pytest.mark.parametrize(("changes", "measured_gib"), FIGURES.values(), ids=FIGURES)
def test_torchtitan_reserves_what_it_published(changes, measured_gib):
    found = published_memory(case_of(run_of(changes)), MODEL)
    assert found.gib == pytest.approx(measured_gib, rel=0.11)
    assert found.interval_gib[0] < measured_gib < found.interval_gib[1]


def test_most_of_them_are_near():
    errors = [published_memory(case_of(run_of(c)), MODEL).gib / measured - 1 for c, measured in FIGURES.values()]
    assert statistics.median(map(abs, errors)) < 0.03


def test_where_versions_differ_the_interval_spans_them():
    """Later versions compile the loss, which then keeps no fp32 logits; what a row says is meant."""
    open_, said = (
        published_memory(
            case_of(run_of(SMALL | OPS | {"precision": "bf16", "compile": "yes", "fused_loss": loss})), MODEL
        )
        for loss in ("", "compiled")
    )
    assert said.gib < 0.8 * open_.gib
    assert open_.interval_gib[0] < said.gib < open_.gib < open_.interval_gib[1]


def test_what_is_not_told_widens_the_interval():
    """Optimizers of fine-tuning in 16 bits may keep anything from two moments to none."""
    alone = {"model_name": "llama3.2-1b", "n_devices": 1, "global_batch_seqs": 1, "zero_stage_or_fsdp": "none"}
    told, untold = (
        published_memory(case_of(run_of(alone | {"framework": "huggingface", "precision": "bf16 pure"} | more)), MODEL)
        for more in ({"optimizer": "adamw", "recompute": "full"}, {"recompute": "full"})
    )
    assert told.gib == untold.gib
    assert untold.interval_gib[0] < told.interval_gib[0]
    assert untold.interval_gib[1] > told.interval_gib[1]


def test_a_run_that_ran_needs_no_more_than_its_device_has():
    case = case_of(
        run_of(SMALL | {"precision": "bf16", "recompute": "none", "micro_batch_seqs": 8, "global_batch_seqs": 64})
    )
    found = published_memory(case, MODEL)
    assert found.gib == case.machine.capacity_bytes / GIB
    assert "it ran, so something is not told" in found.note
