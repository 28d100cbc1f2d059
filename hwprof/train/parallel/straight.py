"""How do gradients come about where every rank has all layers? Forward and backward, micro-batch by micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from hwprof.specs.record.run import RunSettings
from hwprof.train.data import Batch
from hwprof.train.loop import PhaseContext, mean_loss
from hwprof.train.parallel.mesh import RankMesh
from hwprof.train.parallel.tensor import divided_loss, whole_loss
from hwprof.train.precision import Precision


class Straight:
    """The whole model, copied (DDP), sharded (FSDP2) or divided (tensor parallelism) over the ranks.

    Args:
        module: what is called: the model, or DistributedDataParallel around it.
        settings: the run.
        mesh: the ranks.
        precision: how to compute; FSDP2 narrows the weights itself.
    """

    def __init__(self, module: nn.Module, settings: RunSettings, mesh: RankMesh, precision: Precision) -> None:
        self._module = module
        self._settings = settings
        self._precision = precision
        self._narrows_itself = settings.layout.zero_stage >= 2
        self._mesh = mesh

    @property
    def batch_rows(self) -> int:
        """Sequences that are read at a time."""
        return self._settings.micro_batch

    def accumulate(self, next_batch: Callable[[PhaseContext], Batch], phase: PhaseContext) -> torch.Tensor:
        """Add up the gradients of a step; returns the mean loss of this rank's sequences, detached."""
        count = self._settings.gradient_accumulation
        losses = []
        for index in range(count):
            with self._without_reduction(last=index == count - 1), divided_loss(self._mesh):
                losses.append(self._one(next_batch(phase), phase, count))
        return torch.stack(losses).sum()

    def _one(self, batch: Batch, phase: PhaseContext, count: int) -> torch.Tensor:
        tokens, targets = batch
        with phase("forward"), self._autocast():
            logits = self._module(tokens)
        with phase("loss"):
            loss = mean_loss(logits, targets) / count
        with phase("backward"):
            torch.autograd.backward(self._precision.scaler.scale(loss))
        return whole_loss(loss.detach())

    def evaluate(self, batches: Iterator[Batch]) -> tuple[float, int]:
        """The sum of losses over all sequences, and how many there were; every rank sees the same."""
        total, rows = 0.0, 0
        for tokens, targets in batches:
            with divided_loss(self._mesh), self._autocast():
                loss = mean_loss(self._module(tokens), targets)
            total += float(whole_loss(loss)) * len(tokens)
            rows += len(tokens)
        return total, rows

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self._narrows_itself else self._precision.autocast()

    def _without_reduction(self, *, last: bool) -> AbstractContextManager[object]:
        """DDP adds its gradients up over the ranks once a step, with the last micro-batch."""
        no_sync = getattr(self._module, "no_sync", None)
        return nullcontext() if last or no_sync is None else no_sync()
