"""Memory of LoRA and QLoRA, against peaks that litgpt printed on an A10G.

Source: Lightning-AI/litgpt, config_hub/finetune/README.md, "Peak memory" (torch's ``max_memory_allocated`` in GB of 1e9
bytes): bf16-true, 512 tokens, rank and targets of the files beside it.
"""

from __future__ import annotations

import statistics

import pytest

from hwprof.count.memory.job import job_memory
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import LoraTargets

LITGPT = stack_named("litgpt")

PUBLISHED: dict[tuple[str, bool, int], float] = {
    ("llama-2-7b", False, 2): 19.77,
    ("llama-3-8b", False, 1): 19.73,
    ("mistral-7b-v0.1", False, 2): 20.66,
    ("falcon-7b", False, 1): 16.69,
    ("llama-3.2-1b", False, 1): 4.49,
    ("llama-3.2-3b", False, 1): 9.67,
    ("gemma-2b", False, 2): 12.62,
    ("gemma-2-2b", False, 2): 14.31,
    ("llama-2-7b", True, 2): 13.68,
    ("llama-3-8b", True, 2): 17.41,
    ("mistral-7b-v0.1", True, 2): 14.29,
    ("falcon-7b", True, 1): 9.44,
    ("llama-3.2-1b", True, 2): 5.53,
    ("llama-3.2-3b", True, 2): 10.30,
    ("gemma-2b", True, 2): 11.58,
    ("gemma-7b", True, 1): 17.18,
    ("gemma-2-9b", True, 1): 20.92,
}
"""Model, whether quantized, sequences -> GB; adapters of rank 32 on queries and values."""

EVERYWHERE: dict[tuple[str, bool, int, int], float] = {
    ("phi-2", False, 4, 8): 13.98,
    ("phi-2", True, 4, 8): 14.27,
    ("phi-3-mini", False, 4, 8): 19.75,
    ("phi-3-mini", True, 4, 8): 19.13,
    ("tinyllama-1.1b", False, 8, 32): 13.50,
    ("tinyllama-1.1b", True, 8, 32): 16.24,
}
"""The same, with the rank; adapters on every linear layer. None of these took part when the rules were made."""


def error(name: str, *, quantized: bool, batch: int, rank: int, targets: LoraTargets, measured_gb: float) -> float:
    job = TrainingJob(
        model=LITGPT.trained(load_model(name)),
        seq_len=512,
        global_batch=batch,
        micro_batch=batch,
        lora=LoraSpec(rank=rank, targets=targets, quantized=quantized),
        **LITGPT.switches,
    )
    return job_memory(job).peak_bytes / 1e9 / measured_gb - 1


@pytest.mark.parametrize("quantized", [False, True])
def test_peaks_of_adapters_on_queries_and_values(quantized: bool) -> None:
    errors = [
        error(name, quantized=narrow, batch=batch, rank=32, targets="query-value", measured_gb=measured)
        for (name, narrow, batch), measured in PUBLISHED.items()
        if narrow is quantized
    ]
    assert statistics.median(map(abs, errors)) < 0.05
    assert max(map(abs, errors)) < 0.14  # Gemma, whose capped scores litgpt writes out


def test_peaks_of_adapters_everywhere() -> None:
    errors = [
        error(name, quantized=narrow, batch=batch, rank=rank, targets="linear", measured_gb=measured)
        for (name, narrow, batch, rank), measured in EVERYWHERE.items()
    ]
    assert max(map(abs, errors)) < 0.09


ABLATION: tuple[tuple[dict[str, object], float], ...] = (
    ({"loss": "plain"}, 60.0),
    ({"loss": "plain", "compiled": True, "fused": True}, 51.0),
    ({"loss": "chunked"}, 42.9),
    ({"recompute": "full"}, 24.9),
    ({"update_in_backward": True}, 23.1),
    ({"offload": "activations"}, 21.8),
    ({"optimizer": "adamw-8bit"}, 17.6),
    ({"optimizer": "adamw", "update_in_backward": False, "lora": LoraSpec(rank=8, targets="attention")}, 8.5),
    ({"lora": LoraSpec(rank=8, targets="attention", quantized=True)}, 4.6),
)
"""What torchtune adds one after another to a full fine-tuning of Llama 3.2 3B on an A100, and the peak in GiB
(pytorch/torchtune, README.md, "Optimization flags": 2 sequences of 4,096 tokens, packed)."""


def test_every_switch_saves_what_torchtune_published() -> None:
    stack, switched, errors = stack_named("torchtune"), dict[str, object](), []
    for switch, measured_gib in ABLATION:
        switched |= switch
        job = {
            "model": load_model("llama-3.2-3b"),
            "seq_len": 4096,
            "global_batch": 2,
            "micro_batch": 2,
            **stack.switches,
            **switched,
        }
        errors.append(job_memory(TrainingJob.model_validate(job)).peak_bytes / 2**30 / measured_gib - 1)
    assert statistics.median(map(abs, errors)) < 0.05
    assert max(map(abs, errors)) < 0.15
