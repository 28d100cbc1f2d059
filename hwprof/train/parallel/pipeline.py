"""How do gradients come about where each rank has some layers? torch's pipeline schedules over this rank's chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from hwprof.errors import InputError
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import PhaseName, RunSettings
from hwprof.train.data import Batch
from hwprof.train.loop import PhaseContext, mean_loss, no_phase
from hwprof.train.parallel.gradient_norm import settle_gradients
from hwprof.train.parallel.mesh import PIPELINE, RankMesh
from hwprof.train.parallel.tensor import divided_loss, whole_loss
from hwprof.train.precision import Precision

_SCHEDULES: dict[Schedule, str] = {
    "gpipe": "ScheduleGPipe",
    "1f1b": "Schedule1F1B",
    "interleaved": "ScheduleInterleaved1F1B",
}


class Pipelined:
    """A pipeline of chunks of the model.

    What a rank does is marked as "forward", "loss" and "backward"; the rest of the schedule, in which it waits for
    other stages or talks to them, as "pipeline".

    Args:
        parts: this rank's chunks, maybe under DistributedDataParallel.
        model: all their modules, called as in the whole model.
        spec: the model.
        settings: the run; each micro-batch of the step goes through the pipeline.
        mesh: the ranks.
        precision: how to compute; FSDP2 narrows the weights itself.
        device: this rank's.

    Raises:
        InputError: the schedule does not take so few micro-batches.
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        model: nn.Module,
        *,
        spec: ModelSpec,
        settings: RunSettings,
        mesh: RankMesh,
        precision: Precision,
        device: torch.device,
    ) -> None:
        from torch.distributed.pipelining import PipelineStage

        self._model: Any = model
        self._settings = settings
        self._precision = precision
        self._narrows_itself = settings.layout.zero_stage >= 2
        self._mesh = mesh
        self._phases = _Alternation()
        ranks = mesh.degree(PIPELINE)
        self._first, self._last = mesh.stage == 0, mesh.stage == ranks - 1
        count = ranks * len(parts)
        stages = [
            PipelineStage(
                part,
                mesh.stage + place * ranks,
                count,
                device,
                group=mesh.group(PIPELINE),
                **_shapes(spec, settings, first=mesh.stage + place == 0, last=mesh.stage + place * ranks == count - 1),
            )
            for place, part in enumerate(parts)
        ]
        for stage in stages:
            self._mark(stage)
        self._schedule = _schedule(settings, stages, self._loss)
        self._tie_group = _ends_group(mesh) if spec.tied_embeddings else None

    @property
    def batch_rows(self) -> int:
        """Sequences that are read at a time: those of all micro-batches."""
        return self._settings.micro_batch * self._settings.gradient_accumulation

    @property
    def copies(self) -> tuple[nn.Parameter, ...]:
        """Weights of this rank that the first stage counts: the head, where it is the embedding's."""
        return (self._model.head.weight,) if self._tie_group is not None and self._last else ()

    def accumulate(self, next_batch: Callable[[PhaseContext], Batch], phase: PhaseContext) -> torch.Tensor:
        """Add up the gradients of a step; returns the mean loss on the last stage, not a number on the others."""
        losses = self._run(self._schedule.step, next_batch(phase), phase)
        if self._tie_group is not None and (self._first or self._last):
            with phase("pipeline"):
                self._add_tied_gradients()
        return losses.mean()

    def evaluate(self, batches: Iterator[Batch]) -> tuple[float, int]:
        """The sum of losses over all sequences of whole batches on the last stage, and how many there were."""
        total, rows = 0.0, 0
        for batch in batches:
            if len(batch[0]) == self.batch_rows:
                total += float(self._run(self._schedule.eval, batch, no_phase).mean()) * len(batch[0])
                rows += len(batch[0])
        return total, rows

    def _run(self, run: Callable[..., object], batch: Batch, phase: PhaseContext) -> torch.Tensor:
        tokens, targets = batch
        losses: list[torch.Tensor] = []
        inputs = (tokens,) if self._first else ()
        wanted = {"target": targets, "losses": losses} if self._last else {}
        with self._phases.between(phase), divided_loss(self._mesh):
            run(*inputs, **wanted, return_outputs=False)
        nothing = torch.full((1,), float("nan"), device=tokens.device)
        return torch.stack([loss.detach().reshape(()) for loss in losses]) if losses else nothing

    def _mark(self, stage: Any) -> None:
        forward, backward = stage.forward_one_chunk, stage.backward_one_chunk

        def marked_forward(*args: Any, **options: Any) -> Any:
            with self._phases.inside("forward"), self._autocast():
                return forward(*args, **options)

        def marked_backward(*args: Any, **options: Any) -> Any:
            with self._phases.inside("backward"):
                return backward(*args, **options)

        stage.forward_one_chunk, stage.backward_one_chunk = marked_forward, marked_backward

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with self._phases.inside("loss"):
            return whole_loss(mean_loss(logits, targets))

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self._narrows_itself else self._precision.autocast()

    def _add_tied_gradients(self) -> None:
        """The gradient of a weight that the first and the last stage hold each: the sum of both."""
        weight = self._model.embedding.tokens.weight if self._first else self._model.head.weight
        settle_gradients([weight])
        gradient = weight.grad
        dist.all_reduce(gradient.to_local() if hasattr(gradient, "to_local") else gradient, group=self._tie_group)


class _Alternation:
    """Marks of phases that alternate with "pipeline", never one inside the other."""

    def __init__(self) -> None:
        self._phase: PhaseContext = no_phase
        self._open: AbstractContextManager[object] | None = None

    @contextmanager
    def between(self, phase: PhaseContext) -> Iterator[None]:
        """A pass through the schedule."""
        self._phase = phase
        self._enter()
        try:
            yield
        finally:
            self._leave()
            self._phase = no_phase

    @contextmanager
    def inside(self, name: PhaseName) -> Iterator[None]:
        """A piece of it in which this rank works itself."""
        if self._open is None:  # the schedule infers shapes before its first pass
            yield
            return
        self._leave()
        try:
            with self._phase(name):
                yield
        finally:
            self._enter()

    def _enter(self) -> None:
        self._open = self._phase("pipeline")
        self._open.__enter__()

    def _leave(self) -> None:
        assert self._open is not None
        self._open.__exit__(None, None, None)
        self._open = None


def _shapes(spec: ModelSpec, settings: RunSettings, *, first: bool, last: bool) -> dict[str, Any]:
    """What a chunk takes and gives, on the meta device; without, torch would run the chunk to find out.

    Logits that are divided over tensor ranks it must find out itself. DistributedDataParallel does not survive that.
    """
    if settings.layout.tensor_parallel > 1:
        return {}
    dtype = torch.bfloat16 if settings.dtype == "bf16" and settings.layout.zero_stage >= 2 else torch.float32
    rows = (settings.micro_batch, settings.seq_len)
    vectors = torch.empty(*rows, spec.d_model, device="meta", dtype=dtype, requires_grad=True)
    logits = torch.empty(*rows, spec.vocab_size, device="meta", dtype=dtype, requires_grad=True)
    tokens = torch.empty(rows, device="meta", dtype=torch.int64)
    return {"input_args": tokens if first else vectors, "output_args": logits if last else vectors}


def _schedule(settings: RunSettings, stages: Sequence[Any], loss: Callable[..., torch.Tensor]) -> Any:
    from torch.distributed import pipelining

    kind: Any = getattr(pipelining, _SCHEDULES[settings.layout.schedule])
    stage = list(stages) if settings.layout.schedule == "interleaved" else stages[0]
    try:
        return kind(stage, n_microbatches=settings.gradient_accumulation, loss_fn=loss)
    except ValueError as error:
        raise InputError(
            f"the {settings.layout.schedule} pipeline does not run with {settings.gradient_accumulation} micro-batches",
            expectation=str(error),
            remedy="give --gradient-accumulation, at least the number of stages and a multiple of it",
        ) from error


def _ends_group(mesh: RankMesh) -> Any:
    """The group of this rank's column of first and last stage; every rank makes all of them, as torch asks."""
    grid = mesh.mesh.mesh
    own = None
    for first, last in zip(grid[0].flatten().tolist(), grid[-1].flatten().tolist(), strict=True):
        group = dist.new_group([first, last])
        if dist.get_rank() in {first, last}:
            own = group
    return own
