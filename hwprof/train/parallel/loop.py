"""What happens in one training step on several ranks? The loop of ``hwprof.train.loop`` over a parallel layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from hwprof.errors import InputError, WorkError
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.model.trainable import check_trainable
from hwprof.specs.record.run import RunSettings
from hwprof.train.data import PINNED_FOR, Batch, TrainingBatches, evaluation_batches, prepare_workers
from hwprof.train.loop import PhaseContext, check_seq_len, no_phase, open_windows
from hwprof.train.optimizers import build_optimizer
from hwprof.train.parallel.gradient_norm import clip_gradients, settle_gradients
from hwprof.train.parallel.mesh import PIPELINE, RankMesh
from hwprof.train.parallel.model import build_parts, joined, replicated
from hwprof.train.parallel.pipeline import Pipelined
from hwprof.train.parallel.straight import Straight
from hwprof.train.parallel.tensor import check_divisible
from hwprof.train.precision import select_precision


class ParallelTrainer:
    """One rank of a training: its part of the model, its share of the data, its part of the optimizer.

    Every rank makes one and calls the same methods in the same order. The model starts from the same weights, and all
    ranks together see the same sequences, as a single process would.

    Args:
        spec: the model.
        settings: the run, with its layout; sizes are those of one data rank.
        mesh: the ranks.
        data_path: text or token file; None is the text that ships with the package.
        device: this rank's.

    Attributes:
        model: this rank's modules, called as in the whole model.
        optimizer: over this rank's weights.

    Raises:
        InputError: data, precision, optimizer, sequence length or sizes don't fit the layout.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(
        self, spec: ModelSpec, settings: RunSettings, mesh: RankMesh, *, data_path: Path | None, device: torch.device
    ) -> None:
        check_layout(spec, settings)
        if settings.workers:
            prepare_workers()
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._mesh = mesh
        self._device = device
        self._precision = select_precision(settings.dtype, device)
        windows, self._evaluation_windows = open_windows(spec, settings, data_path)
        parts = build_parts(spec, settings, mesh, device)
        self.model = joined(parts)
        wrapped = [replicated(part, settings, mesh, device) for part in parts]
        self._gradients: Straight | Pipelined
        if mesh.degree(PIPELINE) > 1:
            self._gradients = Pipelined(
                wrapped,
                self.model,
                spec=spec,
                settings=settings,
                mesh=mesh,
                precision=self._precision,
                device=device,
            )
        else:
            self._gradients = Straight(wrapped[0], settings, mesh, self._precision)
        self.optimizer = build_optimizer(
            self.model, settings.optimizer, settings.optimizer_implementation, learning_rate=settings.learning_rate
        )
        self._batches = TrainingBatches(
            windows,
            micro_batch=self._gradients.batch_rows,
            workers=settings.workers,
            pin_memory=device.type in PINNED_FOR,
            seed=settings.seed,
            share=mesh.data,
        )

    def state_bytes(self) -> float:
        """Bytes of this rank's weights, buffers and optimizer state; tensors that share memory count once."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        tensors = (*self.model.parameters(), *self.model.buffers(), *(s for s in states if torch.is_tensor(s)))
        storages = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in map(_own, tensors)}
        return float(sum(storages.values()))

    def step(self, phase: PhaseContext = no_phase) -> torch.Tensor:
        """One optimizer step.

        Args:
            phase: entered for "data", "host_to_device", "forward", "loss", "backward" of each micro-batch, in a
                pipeline "pipeline" between them, then for "clip" and "optimizer".

        Returns:
            The mean loss of this rank's sequences, a detached scalar; not a number where the head is on another rank.
        """
        loss = self._gradients.accumulate(self._next_batch, phase)
        with phase("clip"):
            settle_gradients(self.model.parameters())
            if self._settings.clip_norm is not None:
                self._precision.scaler.unscale_(self.optimizer)
                copies = self._gradients.copies if isinstance(self._gradients, Pipelined) else ()
                clip_gradients(self.model.parameters(), self._mesh, self._settings.clip_norm, copies=copies)
        with phase("optimizer"):
            self._precision.scaler.step(self.optimizer)
            self._precision.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _next_batch(self, phase: PhaseContext) -> Batch:
        with phase("data"):
            batch = next(self._batches)
        with phase("host_to_device"):
            return self._on_device(batch)

    def _on_device(self, batch: Batch) -> Batch:
        tokens, targets = batch
        return tokens.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)

    @torch.no_grad()
    def evaluate(self, phase: PhaseContext = no_phase) -> float:
        """Mean loss over held-out batches, the same on all data ranks; not a number where the head is elsewhere."""
        self.model.eval()
        batches = evaluation_batches(
            self._evaluation_windows, micro_batch=self._gradients.batch_rows, count=self._settings.eval_batches
        )
        with phase("evaluation"):
            total, rows = self._gradients.evaluate(self._on_device(batch) for batch in batches)
        self.model.train()
        return total / rows if rows else float("nan")

    def save_checkpoint(self, path: Path, phase: PhaseContext = no_phase) -> None:
        """Write every rank's part with torch's distributed checkpoint, to the path that rank 0 gives.

        Raises:
            WorkError: it can't be written.
        """
        from torch.distributed.checkpoint.api import CheckpointException  # no Exception, but a BaseException
        from torch.distributed.checkpoint.state_dict import get_state_dict
        from torch.distributed.checkpoint.state_dict_saver import save

        shared: list[Any] = [str(path)]
        dist.broadcast_object_list(shared, src=0)
        folder = Path(shared[0])
        with phase("checkpoint"):
            try:
                model, optimizer = get_state_dict(self.model, self.optimizer)
                save({"model": model, "optimizer": optimizer}, checkpoint_id=folder)
            except (OSError, RuntimeError, CheckpointException) as error:
                raise WorkError(
                    f"checkpoint {folder} can't be written: {error}", remedy="free disk space, or choose another place"
                ) from error
        dist.barrier()
        shutil.rmtree(folder, ignore_errors=True)  # on each machine its own part

    def close(self) -> None:
        """End the data workers. Closing twice is harmless."""
        self._batches.close()


def check_layout(spec: ModelSpec, settings: RunSettings) -> None:
    """Refuse a run whose model, precision or batches don't go with its layout.

    Raises:
        InputError: says what.
    """
    layout = settings.layout
    check_trainable(spec)
    check_seq_len(spec, settings.seq_len)
    check_divisible(spec, layout.tensor_parallel, seq_len=settings.seq_len, sequence_parallel=layout.sequence_parallel)
    if settings.dtype == "fp16" and (layout.zero_stage >= 2 or layout.tensor_parallel * layout.pipeline_parallel > 1):
        raise InputError(
            "fp16 needs its loss scale agreed on by all ranks, which only ddp does here", remedy="choose --dtype bf16"
        )
    if settings.gradient_accumulation < layout.pipeline_parallel:
        raise InputError(
            f"{settings.gradient_accumulation} micro-batches can't fill {layout.pipeline_parallel} pipeline stages",
            remedy=f"give --gradient-accumulation {2 * layout.pipeline_parallel}",
        )


def _own(tensor: Any) -> torch.Tensor:
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part
