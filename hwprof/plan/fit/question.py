"""What is asked of a fine-tuning? The model, how it is adapted and trained, and the batches and lengths to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.ops.lora import LIBRARIES
from hwprof.errors import InputError
from hwprof.predict.stacks import Stack
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.settings import Recompute
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import JobOptimizer, LoraTargets
from hwprof.specs.model.parts import HeadSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import checked

EXPERTS_LEFT = "Experts are one weight of each layer: QLoRA leaves them whole, and adapters leave them alone."
"""What is said of adapters beside routed experts (transformers 5 with bitsandbytes)."""

Adaptation = Literal["full", "full-8bit", "lora", "qlora"]
"""Everything is trained; the same with moments in 8 bits; adapters beside a frozen model; the same in 4 bits."""

ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)

Task = Literal["sft", "dpo", "reward"]
"""``sft``: next tokens of examples. ``dpo``: a chosen and a rejected answer for each example, held against a frozen
copy of the model (Rafailov et al. 2023); adapters need none, since the model without them is the copy. ``reward``: the
same pairs, and one score for each in place of the vocabulary (Ouyang et al. 2022)."""

TASKS: tuple[Task, ...] = get_args(Task)

_SEQUENCES: dict[Task, int] = {"sft": 1, "dpo": 2, "reward": 2}
"""Sequences that an example becomes."""

NARROW_BYTES = 2
"""Of an element of a frozen copy, which is stored in 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitQuestion:
    """One fine-tuning, in several ways.

    Attributes:
        model: as published.
        stack: the software.
        switches: how it runs a step, what was typed before what it does by itself.
        adaptations: ways to look at.
        batches: sequences (of ``sft``) or pairs that a device works on at a time.
        lengths: tokens of a sequence.
        task: what is trained for.
        rank, targets: of adapters.
        optimizer: of all ways but ``full-8bit``.
        recompute: what backward computes again.
        accumulation: micro-batches before an update.
        devices: how many hold it together, sharded by ``zero_stage``.
        zero_stage: what they share; 0 = each holds all of it.
        offload: what lives in host memory.
        tokens: of the whole fine-tuning; None = nobody asks how long it takes.
    """

    model: ModelSpec
    stack: Stack
    switches: dict[str, Any] = field(default_factory=dict)
    adaptations: tuple[Adaptation, ...] = ADAPTATIONS
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    task: Task = "sft"
    rank: int
    targets: LoraTargets = "all"
    optimizer: JobOptimizer = "adamw"
    recompute: Recompute = "full"
    accumulation: int = 1
    devices: int = 1
    zero_stage: Literal[0, 1, 2, 3] = 3
    offload: str = "none"
    tokens: float | None = None

    @property
    def notes(self) -> str:
        """What is to be said of the model, and of its experts beside adapters."""
        library = LIBRARIES[self.switches.get("adapter_library", "peft")]
        whole = self.model.moe and not library.narrow_experts and not {"lora", "qlora"}.isdisjoint(self.adaptations)
        return f"{self.model.notes} {EXPERTS_LEFT}".strip() if whole else self.model.notes

    def job(self, adaptation: Adaptation, batch: int, length: int) -> TrainingJob:
        """One step of it.

        Raises:
            InputError: its parts contradict each other.
        """
        sequences = batch * _SEQUENCES[self.task]
        adapted = adaptation in {"lora", "qlora"}
        lora = LoraSpec(rank=self.rank, targets=self.targets, quantized=adaptation == "qlora") if adapted else None
        several = self.devices > 1
        layout = ParallelLayout(data_parallel=self.devices, zero_stage=self.zero_stage if several else 0)
        fields = {
            "seq_len": length,
            "micro_batch": sequences,
            "global_batch": sequences * self.accumulation * self.devices,
            "optimizer": "adamw-8bit" if adaptation == "full-8bit" else self.optimizer,
            "recompute": self.recompute,
            "offload": self.offload,
            "lora": lora,
            "layout": layout,
        }
        return checked(TrainingJob, model=self.stack.trained(self._headed()), **self.switches | fields)

    def copy_bytes(self, adaptation: Adaptation) -> float:
        """What a frozen copy of the model takes of each device."""
        if self.task != "dpo" or adaptation in {"lora", "qlora"}:
            return 0.0
        held = self.devices if self.zero_stage == 3 else 1
        return NARROW_BYTES * sum(tensor.total for tensor in parameter_tensors(self.model)) / held

    def _headed(self) -> ModelSpec:
        """The model with a score in place of the vocabulary, where that is what is trained."""
        if self.task != "reward" or self.model.head.kind == "classifier":
            return self.model
        if self.model.captured:
            raise InputError(
                f"--task reward: {self.model.captured.by} gives tokens, no score",
                remedy="name its class with a score under 'architectures' in the file (...ForSequenceClassification)",
            )
        score = HeadSpec(kind="classifier", classes=1)
        return self.model.changed(head=score, tied_embeddings=False)


def usual_lengths(model: ModelSpec, lengths: Sequence[int]) -> tuple[int, ...]:
    """Those of the lengths that the model was made for; its own longest where it is shorter than all."""
    return tuple(length for length in lengths if length <= model.max_seq_len) or (model.max_seq_len,)
