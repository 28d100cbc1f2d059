"""What did the ranks of a loop wait for each other? Each books its own time, and rank 0 puts all side by side."""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hwprof.loop.goodput import GoodputBook
from hwprof.measure.entries.arrivals import watch
from hwprof.measure.entries.ledger import Activity, Ledger, Spent, StepEntry, Sync
from hwprof.measure.entries.loop_hooks import LoopHooks
from hwprof.measure.their_loop.world import default_store, world
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.hooks import Hooks
from hwprof.predict.ranks.lateness import Stay
from hwprof.predict.ranks.watched import SeenStep, watched
from hwprof.specs.record.stragglers import LateCause, Stragglers

if TYPE_CHECKING:
    import torch

_KEPT = 2000
"""Steps that are kept, the last ones."""
_PATIENCE = timedelta(seconds=20)
"""How long rank 0 waits for what the others saw."""
_ITSELF: Mapping[Activity, LateCause] = {
    "loading": "input",
    "host_to_device": "copies",
    "garbage collection": "garbage collection",
    "recompilation": "recompilation",
    "checkpoint": "checkpoint",
}
"""Activities that are a cause by themselves."""

_made = 0


class Together:
    """The ranks of one loop, from ``start`` to ``stop``; of a loop without other ranks, its own time by activity.

    Args:
        root: the module that the loop calls.
        optimizers: its optimizers.
        device: where it runs.
        book: of the loop's time over restarts, kept along; None = none is.

    Attributes:
        notes: what went wrong.
    """

    def __init__(
        self,
        root: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        device: torch.device,
        book: GoodputBook | None = None,
    ) -> None:
        self._book = book or GoodputBook(None)
        self._root = root
        self._optimizers = optimizers
        self._device = device
        self._timer = timer_for(device)
        self._ledger: Ledger | None = None
        self._loop: LoopHooks | None = None
        self._steps: deque[StepEntry] = deque(maxlen=_KEPT)
        self.notes: list[str] = []
        self._hooks = Hooks(self.notes)
        self._number = 0
        self._alone = True

    def start(self) -> None:
        """Begin to book time."""
        self._book.start(self._root, self._optimizers, self._device, self.notes)
        global _made  # noqa: PLW0603 (all ranks make the same measurements in the same order)
        _made += 1
        self._number = _made
        ledger = Ledger(self._timer)
        self._alone = world()[1] < 2
        why_not = "" if self._alone else watch(self._hooks, arrive=ledger.arrive, wait=ledger.wait, go_on=ledger.go_on)
        if why_not:
            self.notes.append(f"who waits for whom is not known: {why_not}")
            self._hooks.close()
            return
        self._ledger, self._loop = ledger, LoopHooks(self._root, self._optimizers, ledger, self._hooks)

    def step(self, *, counts: bool) -> dict[Activity, float]:
        """A step is over; ``counts`` says whether it ran as steps usually do.

        Returns:
            Seconds of it by activity; empty where they are not known.
        """
        if self._ledger is None or self._loop is None:
            return {}
        entry = self._ledger.step(counts=counts)
        if not self._alone:
            self._steps.append(entry)
        self._loop.look_again()
        return entry.spent_s

    def phase(self, name: Activity) -> None:
        """The loop names its phase itself."""
        self._book.phase(name)
        if self._ledger is not None:
            self._ledger.begin(name)

    def phase_end(self) -> None:
        """That phase is over."""
        self._book.phase_end()
        if self._ledger is not None:
            self._ledger.end()

    def stop(self) -> Stragglers | None:
        """Leave nothing behind; on rank 0 say who waited for whom, None where that is not known."""
        self._book.stop()
        self._hooks.close()
        ledger, self._ledger = self._ledger, None
        if ledger is None:
            return None
        ledger.close()
        if self._alone:
            return None
        store = default_store()
        rank, size = world()
        if store is None:
            self.notes.append("who waits for whom is not known: the process group was gone before hwprof stopped")
            return None
        own = [self._plain(entry) for entry in self._steps]
        keys = [f"hwprof/{self._number}/{one}" for one in range(size)]
        if rank:
            store.set(keys[rank], zlib.compress(json.dumps(own).encode()))
            return None
        try:
            store.wait(keys[1:], _PATIENCE)
        except RuntimeError:
            self.notes.append("who waits for whom is not known: not every rank handed in what it saw")
            return None
        seen = {one: json.loads(zlib.decompress(store.get(keys[one]))) for one in range(1, size)}
        found = watched({one: [_seen(step) for step in steps] for one, steps in ({0: own} | seen).items()})
        if found is None:
            self.notes.append("who waits for whom is not known: in no step did all ranks meet in the same collectives")
        return found

    def _plain(self, entry: StepEntry) -> list[Any]:
        loads = any("loading" in sync.spent for one in self._steps for sync in one.syncs)
        stays = [
            [sync.key, self._timer.elapsed_s(sync.arrived, sync.went_on), *self._before(sync, loads=loads)]
            for sync in entry.syncs
            if sync.went_on is not None
        ]
        return [self._timer.elapsed_s(entry.began, entry.ended), entry.counts, stays]

    def _before(self, sync: Sync, *, loads: bool) -> tuple[dict[LateCause, float], float, dict[Activity, float]]:
        """Seconds since the sync before by cause, without a processor, and by activity."""
        causes: dict[LateCause, float] = {}
        for cause, time_s in _by_cause(sync.spent, loads=loads, on_host=self._device.type == "cpu"):
            causes[cause] = causes.get(cause, 0.0) + time_s
        if self._device.type != "cpu" and sync.left is not None:
            own_s = self._timer.elapsed_s(sync.left, sync.arrived)
            causes["compute"] = max(own_s - sum(causes.values()), 0.0)
        delayed_s = sum(spent.delayed_s for spent in sync.spent.values())
        return causes, delayed_s, {name: spent.wall_s - spent.delayed_s for name, spent in sync.spent.items()}


def _by_cause(spent: Mapping[Activity, Spent], *, loads: bool, on_host: bool) -> Iterator[tuple[LateCause, float]]:
    """Time by cause.

    Args:
        spent: by activity.
        loads: whether the program has a DataLoader, so that time between the steps beside it is no waiting for input.
        on_host: whether the loop's thread computes itself: what it runs is computation, what it does not is none.
    """
    for name, one in spent.items():
        itself = _ITSELF.get(name) or ("input" if name == "data" and not loads else None)
        if itself is not None:
            yield itself, one.wall_s - one.delayed_s
        elif on_host:
            yield "compute", one.ran_s
            yield "host", max(one.wall_s - one.ran_s - one.delayed_s, 0.0)
        else:
            yield "host", one.wall_s - one.delayed_s


def _seen(plain: list[Any]) -> SeenStep:
    step_s, counts, stays = plain
    return SeenStep(
        step_s,
        counts,
        tuple((key, Stay(time_s, before, delayed, where)) for key, time_s, before, delayed, where in stays),
    )
