"""How do tokens reach the step? Shuffled windows through a DataLoader, and held-out ones for evaluation."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from types import TracebackType
from typing import Protocol

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hwprof.train.corpus import Tokens, too_short

EVALUATION_FRACTION = 0.05
"""The last part of the tokens is held out."""

IGNORED_TARGET = -100
"""Where the loss does not look; the default ``ignore_index`` of ``torch.nn.functional.cross_entropy``."""

_MASKED_FRACTION = 0.15
"""Of BERT (Devlin et al. 2019, section 3.1)."""

PINNED_FOR = frozenset({"cuda", "xpu", "npu"})
"""Kinds of devices to which batches are copied faster from page-locked memory; Apple's GPU has the host's own."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs and targets, each int64 [batch, seq]."""


class Task(Protocol):
    """Makes one example of a window of seq + 1 tokens."""

    def __call__(self, window: torch.Tensor, index: int) -> Batch:
        """Inputs and targets of window number ``index``, each int64 [seq]."""
        ...


@dataclass(frozen=True, slots=True)
class NextToken:
    """Predict each next token."""

    def __call__(self, window: torch.Tensor, index: int) -> Batch:  # noqa: ARG002 (the signature of Task)
        """The window without its last token, and without its first."""
        return window[:-1], window[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedTokens:
    """Predict the 15 % of tokens that a mask hides; the same ones each time a window comes by (static masking).

    Attributes:
        mask_id: the id that stands for a hidden token.
        seed: of the choice of tokens.
    """

    mask_id: int
    seed: int

    def __call__(self, window: torch.Tensor, index: int) -> Batch:
        """The window but for its last token with masks, and the hidden tokens; the loss ignores the rest."""
        tokens = window[:-1]
        count = max(1, round(_MASKED_FRACTION * len(tokens)))
        places = np.random.default_rng((self.seed, index)).choice(len(tokens), size=count, replace=False)
        hidden = torch.from_numpy(places)
        inputs, targets = tokens.clone(), torch.full_like(tokens, IGNORED_TARGET)
        inputs[hidden] = self.mask_id
        targets[hidden] = tokens[hidden]
        return inputs, targets


class Windows(Dataset[Batch]):
    """Fixed windows of ``seq_len`` tokens, each with the token after it, from ``start`` up to ``stop``."""

    def __init__(self, tokens: Tokens, *, start: int, stop: int, seq_len: int, task: Task) -> None:
        self._tokens = tokens
        self._start = start
        self._count = (stop - start - 1) // seq_len
        self._seq_len = seq_len
        self._task = task

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Batch:
        first = self._start + index * self._seq_len
        window = self._tokens.ids[first : first + self._seq_len + 1].astype(np.int64)
        return self._task(torch.from_numpy(window), index)


def split_windows(tokens: Tokens, *, seq_len: int, task: Task) -> tuple[Windows, Windows]:
    """Windows for training, and those of the last 5 % of the tokens (at least one window) for evaluation.

    Raises:
        InputError: there are too few tokens for one window of each.
    """
    count = len(tokens.ids)
    window = seq_len + 1
    if count < 2 * window:
        raise too_short(count, 2 * window)
    border = min(int(count * (1 - EVALUATION_FRACTION)), count - window)
    return (
        Windows(tokens, start=0, stop=border, seq_len=seq_len, task=task),
        Windows(tokens, start=border, stop=count, seq_len=seq_len, task=task),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which of several equal readers one is: together they see what one with the whole batch would."""

    index: int
    of: int


WHOLE = Share(index=0, of=1)


class _ShuffledForever(Sampler[int]):
    """All indices in random order, then again in another order, without end; of each batch of all readers, one's part.

    Args:
        count: how many indices there are.
        seed: of the order, the same for all readers.
        micro_batch: indices of a batch of one reader.
        share: which reader this is.
    """

    def __init__(self, count: int, seed: int, *, micro_batch: int, share: Share) -> None:
        self._count = count
        self._seed = seed
        self._micro_batch = micro_batch
        self._share = share

    def __iter__(self) -> Iterator[int]:
        for place, index in enumerate(self._all()):
            if place // self._micro_batch % self._share.of == self._share.index:
                yield index

    def _all(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield from torch.randperm(self._count, generator=generator).tolist()


# Workers come from a fork server: a fresh process that has imported torch and never ran anything. To fork this process
# itself would copy locks that other threads hold (OpenMP, CUDA, the pin-memory thread), which can hang; it breaks CUDA;
# and it is a DeprecationWarning from Python 3.12 on. To spawn would import torch anew in each worker.
_START_METHOD = "forkserver"
_LOOK_EVERY_S = 2.0


def prepare_workers() -> None:
    """Start the process that workers come from; returns at once, while it imports torch beside us."""
    multiprocessing.get_context(_START_METHOD).set_forkserver_preload([__name__])
    forkserver.ensure_running()


class TrainingBatches:
    """Shuffled batches without end. One iterator lives for the whole run, and so do its workers; ``close`` ends them.

    Args:
        windows: what to draw from.
        micro_batch: windows in a batch.
        workers: processes that prepare batches ahead; 0 prepares each when it is asked for.
        pin_memory: put batches in page-locked memory, for asynchronous copies to a CUDA device.
        seed: of the order.
        share: which reader this is, where several read from the same windows.
    """

    def __init__(
        self, windows: Windows, *, micro_batch: int, workers: int, pin_memory: bool, seed: int, share: Share = WHOLE
    ) -> None:
        loader = DataLoader(
            windows,
            batch_size=micro_batch,
            sampler=_ShuffledForever(len(windows), seed, micro_batch=micro_batch, share=share),
            num_workers=workers,
            pin_memory=pin_memory,
            multiprocessing_context=_START_METHOD if workers else None,
            worker_init_fn=functools.partial(_begin_worker, os.getpid()),
            generator=torch.Generator().manual_seed(seed),  # keeps the global generator for the model
        )
        self._iterator = iter(loader)

    def __next__(self) -> Batch:
        inputs, targets = next(self._iterator)
        return inputs, targets

    def close(self) -> None:
        """End the workers and wait for them. Closing twice is harmless."""
        shut_down = getattr(self._iterator, "_shutdown_workers", None)  # absent where there are none
        if shut_down is not None:
            shut_down()


def evaluation_batches(windows: Windows, *, micro_batch: int, count: int) -> Iterator[Batch]:
    """The first ``count`` batches of ``windows`` in order, the same each time; fewer if there are fewer windows."""
    loader = DataLoader(windows, batch_size=micro_batch, generator=torch.Generator())  # the global one stays untouched
    return ((inputs, targets) for inputs, targets in itertools.islice(loader, count))


def _begin_worker(main_process: int, _worker: int) -> None:
    threading.Thread(target=_end_with, args=(main_process,), name="hwprof-worker-end", daemon=True).start()
    # Ctrl-C reaches the whole process group; the main process alone decides, and ends its workers. It may then drop a
    # batch that it was just receiving, for which the worker's sending thread would print a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _print_unless_connection_lost


def _end_with(process: int) -> None:
    """End this process, and so the fork server that waits for it, once another ends, however it does."""
    try:
        if hasattr(os, "pidfd_open"):
            select.select([os.pidfd_open(process)], [], [])
        else:
            while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
                time.sleep(_LOOK_EVERY_S)
    except (ProcessLookupError, psutil.NoSuchProcess):
        """It has ended already."""
    except (OSError, psutil.Error):
        return  # it can't be watched: torch's own watchdog is left
    os._exit(1)


def _print_unless_connection_lost(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, traceback)
