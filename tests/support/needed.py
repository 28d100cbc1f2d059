"""What do tests need that the lowest allowed releases have not? A name that a module must have, or a release."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import version

from packaging.requirements import Requirement

NEEDS = {
    "torch.nn.attention.flex_attention": ("measure/capture/test_compiled.py", "measure/capture/test_module.py"),
    "torch.optim.Adafactor": (
        "count/memory/test_step.py::adafactor",
        "measure/probes/step/test_kernels.py::adafactor",
        "train/test_train_optimizers.py",
    ),
    "torch.optim.Muon": ("count/job/test_ops.py::muon",),
    "torch.utils.checkpoint.CheckpointPolicy": (  # came with what counts and keeps as tests of recomputing expect
        "count/blocks/test_flop_count.py::recomputed",
        "count/memory/test_narrowed_memory.py",
        "gpu/test_training.py::selective",
        "train/test_loop.py::selective",
        "train/test_recompute.py",
    ),
    "torch.distributed.fsdp.fully_shard": (
        "cli/test_run_ranks.py",
        "faults/test_runs.py::of_ranks",
        "measure/their_loop/test_sharded.py",
        "played/test_ranks.py",
        "session/test_ranks.py::rank_0_has_the_record",
        "session/test_settle.py::ranks_of_a_cpu",
        "test_examples.py::two_ranks",
        "train/parallel/test_parallel_loop.py",
    ),
    "torch.distributed.tensor._sharding_prop": ("emulate/",),
    "torch.distributed.pipelining.schedules.ScheduleZBVZeroBubble": ("simulate/pipeline/test_schedules.py::of_torch",),
    "torch.AcceleratorError": (
        "played/test_device.py::broken_context",
        "played/test_loop.py::breaks_or_is_full",
        "played/test_walk.py::broken_context",
    ),
    "torch.cuda.device_memory_used": ("played/test_drivers.py::of_amd",),
    "torch._inductor.debug._inductor_triton_kernel_to_post_grad_node_info": ("measure/watch/test_compiled.py",),
    "torch>=2.5": (
        "count/aten/test_recorded.py::cudnn_attention",
        "count/aten/test_recorded.py::_scaled_mm",
        "measure/probes/test_attention.py::wrong_attention",  # enable_gqa
        "predict/test_generation.py::torch_counts",  # its counter sees nothing in inference mode
        "train/test_decoder.py::repeated_by_hand[True]",  # enable_gqa
    ),
    "torch>=2.6": (
        "gpu/test_device.py::no_probe_fails",  # a product of fp8 on a CPU
        "loop/test_survival.py::own_profiler_with_a_schedule",  # acc_events
        "loop/test_survival.py::profilers_of_its_own_ends",
        "measure/attribute/test_attribution.py::checkpointed_profile",
        "measure/capture/test_step.py::compiled_model",  # dynamo makes more graphs
        "measure/probes/test_calls.py::only_writes_where_it_is_told",  # fully_shard's own operators
        "measure/probes/test_fp8.py",
        "played/test_walk.py::no_probe_of_a_gpu_fails",
        "played/test_walk.py::generates_as_it_trains",
        "plan/settings/test_accelerate.py::[context]",
        "session/test_settle.py::said_first",  # where torch has it not, nothing can be taken away
        "specs/catalogue/test_released.py::transformers_makes",  # transformers 5
        "test_examples.py::huggingface",
    ),
    "torch>=2.9": ("played/test_drivers.py::precision_set",),
    "rich>=14.2": ("test_recipes.py::[A command]",),  # import-linter's need
    "matplotlib>=3.10": ("report/test_pictures.py::looks_as_it_did",),  # those that are kept were drawn by 3.11
    "pydantic>=2.11": ("specs/catalogue/test_catalogue.py::0 GB/s",),  # shows what was read, not what was written
}
"""What is needed -> tests that need it: a file or folder below tests, or a file and a word of the test's name."""


@cache
def is_here(need: str) -> bool:
    """Whether a release is installed, or a module has a name."""
    if ">" in need:
        wanted = Requirement(need)
        return wanted.specifier.contains(version(wanted.name).partition("+")[0], prereleases=True)
    module, _, name = need.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(need))
    except ImportError:
        return False


def missing(path: str, name: str | None = None) -> str | None:
    """What a file below tests, or a test of it, needs and is not here; of a whole file without ``name``."""
    for need, places in NEEDS.items():
        for place in places:
            start, _, word = place.partition("::")
            if path.startswith(start) and (not word if name is None else word in name) and not is_here(need):
                return need
    return None
