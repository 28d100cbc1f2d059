"""What happens in one training step? The real loop, with each of its phases marked."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import nn

from hwprof.errors import InputError, WorkError
from hwprof.specs.job.settings import PhaseName, RunSettings
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.model.trainable import check_trainable
from hwprof.train.corpus import DEFAULT_TEXT, open_tokens
from hwprof.train.data import (
    PINNED_FOR,
    Batch,
    MaskedTokens,
    NextToken,
    TrainingBatches,
    Windows,
    evaluation_batches,
    prepare_workers,
    split_windows,
)
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder
from hwprof.train.optimizers import build_optimizer
from hwprof.train.precision import select_precision

PhaseContext = Callable[[PhaseName], AbstractContextManager[object]]
"""Gives the context in which a phase runs; the recorder marks times in it."""


def no_phase(_name: PhaseName) -> AbstractContextManager[None]:
    """Run a phase unmarked."""
    return nullcontext()


class Trainer:
    """A model, its data and its optimizer, ready to take steps.

    Workers are separate processes that import the main script, so a script that builds a Trainer needs the usual
    ``if __name__ == "__main__":``.

    Args:
        spec: the model.
        settings: the run; ``settings.data`` is only its description, the file is ``data_path``.
        data_path: text or token file; None is the text that ships with the package.
        device: where the model lives.

    Attributes:
        model: the module itself, also where ``settings.compile`` runs a compiled form of it.
        optimizer: its optimizer.

    Raises:
        InputError: data, precision, optimizer or sequence length don't fit.
        torch.OutOfMemoryError: the model does not fit on the device.
    """

    model: Decoder | Encoder
    optimizer: torch.optim.Optimizer

    def __init__(self, spec: ModelSpec, settings: RunSettings, *, data_path: Path | None, device: torch.device) -> None:
        check_seq_len(spec, settings.seq_len)
        if settings.workers:
            prepare_workers()
        torch.manual_seed(settings.seed)
        self._spec = spec
        self._settings = settings
        self._device = device
        self._precision = select_precision(settings.dtype, device)
        windows, self._evaluation_windows = open_windows(spec, settings, data_path)
        self.model = build_model(spec, settings, device)
        self.optimizer = build_optimizer(
            self.model, settings.optimizer, settings.optimizer_implementation, learning_rate=settings.learning_rate
        )
        self._forward = _compiled(self.model) if settings.compile else self.model
        self._batches = TrainingBatches(
            windows,
            micro_batch=settings.micro_batch,
            workers=settings.workers,
            pin_memory=device.type in PINNED_FOR,
            seed=settings.seed,
        )

    def state_bytes(self) -> float:
        """Bytes of weights, buffers and optimizer state; tensors that share memory count once."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        tensors = (*self.model.parameters(), *self.model.buffers(), *(s for s in states if torch.is_tensor(s)))
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return float(sum(storages.values()))

    def step(self, phase: PhaseContext = no_phase) -> torch.Tensor:
        """One optimizer step over ``gradient_accumulation`` micro-batches.

        Nothing here waits for the device, but for what fp16 needs: its scaler reads whether a gradient overflowed.

        Args:
            phase: entered, in order, for "data", "host_to_device", "forward", "loss" and "backward" of each
                micro-batch, then for "clip" (where ``clip_norm`` is set) and "optimizer".

        Returns:
            The mean loss of the micro-batches, a detached fp32 scalar on the device.
        """
        losses = [self._accumulate_gradient(phase) for _ in range(self._settings.gradient_accumulation)]
        if self._settings.clip_norm is not None:
            with phase("clip"):
                self._precision.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.clip_norm)
        with phase("optimizer"):
            self._precision.scaler.step(self.optimizer)
            self._precision.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _accumulate_gradient(self, phase: PhaseContext) -> torch.Tensor:
        with phase("data"):
            batch = next(self._batches)
        with phase("host_to_device"):
            tokens, targets = self._on_device(batch)
        with phase("forward"), self._precision.autocast():
            logits = self._forward(tokens)
        with phase("loss"):
            loss = mean_loss(logits, targets)
            if self._settings.gradient_accumulation > 1:
                loss = loss / self._settings.gradient_accumulation
        with phase("backward"):
            torch.autograd.backward(self._precision.scaler.scale(loss))
        return loss.detach()

    def _on_device(self, batch: Batch) -> Batch:
        tokens, targets = batch
        return tokens.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)

    @torch.no_grad()
    def evaluate(self, phase: PhaseContext = no_phase) -> float:
        """Mean loss over the first ``eval_batches`` held-out batches; the model runs uncompiled.

        To compile it for this as well would take far longer than the evaluation.

        Args:
            phase: entered once, for "evaluation".

        Returns:
            The mean over windows; not a number where ``eval_batches`` is 0.
        """
        self.model.eval()
        total, rows = 0.0, 0
        with phase("evaluation"):
            for batch in evaluation_batches(
                self._evaluation_windows, micro_batch=self._settings.micro_batch, count=self._settings.eval_batches
            ):
                tokens, targets = self._on_device(batch)
                with self._precision.autocast():
                    logits = self.model(tokens)
                total += float(mean_loss(logits, targets)) * len(tokens)
                rows += len(tokens)
        self.model.train()
        return total / rows if rows else float("nan")

    def save_checkpoint(self, path: Path, phase: PhaseContext = no_phase) -> None:
        """Write model, optimizer, spec and settings to ``path``, whole or not at all.

        Raises:
            WorkError: the file can't be written.
        """
        partial = path.with_name(f".{path.name}.partial")
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "spec": self._spec.model_dump(mode="json"),
            "settings": self._settings.model_dump(mode="json"),
        }
        with phase("checkpoint"):
            try:
                _write_durably(state, partial)
                partial.replace(path)
            except (OSError, RuntimeError) as error:  # torch's zip writer turns some short writes into the latter
                raise WorkError(
                    f"checkpoint {str(path)!r} can't be written: {error}",
                    remedy="free disk space, or choose another place",
                ) from error
            finally:
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """End the data workers. Closing twice is harmless."""
        self._batches.close()


def open_windows(spec: ModelSpec, settings: RunSettings, data_path: Path | None) -> tuple[Windows, Windows]:
    """Windows for training and for evaluation, of the task that the model is for.

    Raises:
        InputError: the data can't be read, or is too short.
    """
    tokens = open_tokens(data_path or DEFAULT_TEXT, tokenizer=settings.tokenizer, vocab_size=spec.vocab_size)
    masked = MaskedTokens(mask_id=spec.vocab_size - 1, seed=settings.seed)
    return split_windows(tokens, seq_len=settings.seq_len, task=NextToken() if spec.causal else masked)


def check_seq_len(spec: ModelSpec, seq_len: int) -> None:
    """Refuse sequences longer than the model has learned positions for.

    Raises:
        InputError: they are.
    """
    if spec.positions == "learned" and seq_len > spec.max_seq_len:
        raise InputError(
            f"sequences of {seq_len} tokens don't fit model {spec.name!r}",
            expectation=f"it has learned positions for {spec.max_seq_len}",
            remedy=f"choose --seq-len {spec.max_seq_len} or less",
        )


def build_model(spec: ModelSpec, settings: RunSettings, device: torch.device) -> Decoder | Encoder:
    """The model on the device, with fp32 weights from torch's present seed.

    Raises:
        InputError: hwprof can't train it.
    """
    check_trainable(spec)
    kind = Decoder if spec.kind == "decoder" else Encoder
    if spec.positions == "rope":  # rotary tables only as long as this run's sequences
        spec = spec.changed(max_seq_len=settings.seq_len)
    with torch.device(device):
        return kind(spec, recompute=settings.recompute)


def _compiled(model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    try:
        compiled: Any = torch.compile(model)
    except RuntimeError as error:  # this Python or this platform is not supported
        raise InputError(f"torch.compile does not work here: {error}", remedy="leave out --compile") from error
    run: Callable[[torch.Tensor], torch.Tensor] = compiled
    return run


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in fp32 over the targets that count."""
    return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), targets.view(-1))


def _write_durably(state: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
