"""Is every rank alive and moving? If not: who is to blame, and what had the others measured?

Each rank writes a beat into the store of the rendezvous, from a thread, and reads those of the others. A rank that
raises an error posts a fault; one that is killed falls silent; one that hangs stops moving, and the others with it.
Then every rank that still lives hands in what it has, the lowest of them writes the report, and all leave. A process
whose main thread waits in a collective for a dead rank can't be woken, so the thread ends it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from hwprof.errors import INTERRUPTED_EXIT_CODE, first_line
from hwprof.measure.signs import Blame, Fault, Sign, death, hang, kind_of
from hwprof.measure.whereabouts import whereabouts
from hwprof.measure.world import World
from hwprof.units import format_seconds

PERIOD_S = 0.5
WATCHERS = 8
"""So many ranks, the lowest, read all beats; the others learn of trouble from them, or from their own errors."""
SILENT_S = 60.0
"""A rank without a beat for this long is taken for dead; long calls that hold Python's lock can delay one."""
SETTLE_S = 4.0
"""After the first sign of trouble, a rank without a beat for this long is taken for dead."""
REPORT_S, LEAVE_S = 20.0, 5.0
"""How long others wait for a report (torchrun kills them after 30 s), and its writer until they have heard of it."""

_TERMINATED_EXIT_CODE = 143
_WHOLE, _LEFT = b"whole", b"left"
"""What is reported: a run that all ranks came through, or what is left of one."""


def trouble(signs: Sequence[Sign], faults: Sequence[Fault], *, terminated: bool, stuck_s: float) -> bool:
    """Whether the run can't go on."""
    waited_for = [sign for sign in signs if not sign.done]
    silent = any(sign.silent_s > SILENT_S for sign in waited_for)
    stuck = bool(waited_for) and all(sign.still_s > stuck_s for sign in waited_for)
    return bool(faults) or terminated or silent or stuck


def blame(signs: Sequence[Sign], faults: Sequence[Fault], *, terminated: bool, stuck_s: float) -> Blame:
    """Who ended the run, once it is in trouble: an own error, else silence, else no movement, else a signal."""
    for fault in faults:
        if fault.kind == "interrupted":
            return Blame(ranks=(fault.rank,), text="interrupted", exit_code=INTERRUPTED_EXIT_CODE)
        if fault.kind == "error":
            return Blame(ranks=(fault.rank,), text=f"rank {fault.rank} failed: {fault.text}")
    silent = [sign for sign in signs if not sign.done and sign.silent_s > SETTLE_S]
    if silent:
        return Blame(ranks=tuple(sign.rank for sign in silent), text="; ".join(map(death, silent)))
    still = [sign for sign in signs if not sign.done and sign.still_s > stuck_s]
    if still:
        return hang(still)
    if faults:
        return Blame(ranks=(faults[0].rank,), text=f"rank {faults[0].rank} lost the others: {faults[0].text}")
    text = "the launcher or the scheduler ended the run (SIGTERM)"
    return Blame(ranks=(), text=text, exit_code=_TERMINATED_EXIT_CODE if terminated else 1)


@dataclass(slots=True)
class _Seen:
    """The last beat of a rank, and this process's own clock when it changed."""

    beat: dict[str, object]
    changed_s: float
    moved_s: float


class Lifeline:
    """A rank's beat and its watch over the others.

    Args:
        world: the ranks.
        salvage: what this rank has measured so far, as text; called from the lifeline's thread when the run ends early.
        report: writes what is left; called on one rank with the blame and what each rank handed in.
        stuck_s: the run is called hung when no rank moves on for this long.
    """

    def __init__(
        self,
        world: World,
        *,
        salvage: Callable[[], str],
        report: Callable[[Blame, Mapping[int, str]], None],
        stuck_s: float,
    ) -> None:
        self._world = world
        self._salvage = salvage
        self._report = report
        self._stuck_s = stuck_s
        self._main = threading.get_ident()
        self._beats = 0
        self._moves = 0
        self._stage = "start"
        self._done = False
        self._terminated = False
        self._pen = threading.Lock()
        self._whole = False
        self._seen: dict[int, _Seen] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hwprof-lifeline", daemon=True)
        self._wake, self._woken = socket.socketpair()
        self._handler_before: Any = signal.SIG_DFL

    def start(self) -> None:
        """Begin to beat and to watch; every rank calls it, from its main thread."""
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._handler_before = signal.signal(signal.SIGTERM, _leave_to_the_thread)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._beat()
        self._world.barrier()
        self._thread.start()

    def stage(self, text: str) -> None:
        """Say where this rank is; each call counts as progress."""
        self._stage = text
        self._moves += 1

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """In here the report of a run that all ranks came through is written, and no end of the run comes between.

        Where one came before, this does not return.
        """
        with self._pen:
            ended = self._world.store.check(["trouble"])
            if not ended:
                yield
                self._whole = True
        if ended:
            _wait_for_the_end()
        self._say_reported(_WHOLE, [rank for rank in range(self._world.size) if rank != self._world.rank])

    def _say_reported(self, what: bytes, others: Sequence[int]) -> None:
        self._world.store.set("reported", what)
        until_s = time.monotonic() + LEAVE_S
        while time.monotonic() < until_s and not self._world.store.check([f"left/{rank}" for rank in others]):
            time.sleep(0.01)

    def await_report(self) -> None:
        """Watch until the report is written; if who writes it dies, the watch ends the run, and another writes it."""
        self._done = True
        try:
            while not self._world.store.check(["reported"]):
                time.sleep(0.05)
            self._whole = self._world.store.get("reported") == _WHOLE
            self._world.store.set(f"left/{self._world.rank}", "")
        except (RuntimeError, OSError):  # the store's host is gone, as the watch will see
            self._thread.join()

    def finish(self) -> None:
        """This rank came to its end; the others need not wait for its beats."""
        self._done = True
        self._stop.set()
        self._thread.join()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, self._handler_before)
        with contextlib.suppress(RuntimeError, OSError):  # all is done, and the store's host may have left
            self._beat()

    def fail(self, error: BaseException) -> NoReturn:
        """Post this rank's error and leave together with the others; does not return."""
        fault = {"rank": self._world.rank, "kind": kind_of(error), "text": first_line(error)}
        with contextlib.suppress(RuntimeError, OSError):  # the store's host is gone, as the watch will see
            number = self._world.store.add("faults", 1)
            self._world.store.set(f"fault/{number}", json.dumps(fault))
        _wait_for_the_end()

    def hand_in(self, text: str) -> None:
        """Leave this rank's result for the rank that writes the report."""
        self._world.store.set(f"result/{self._world.rank}", zlib.compress(text.encode()))

    def collect(self) -> dict[int, str]:
        """The results of all ranks; waits for them, and if one never comes the watch ends the run."""
        found: dict[int, str] = {}
        while len(found) < self._world.size:
            for rank in range(self._world.size):
                if rank not in found and self._world.store.check([f"result/{rank}"]):
                    found[rank] = self._result(rank)
                    self.stage(f"collected the result of rank {rank}")
            time.sleep(0.01)
        return found

    def _result(self, rank: int) -> str:
        return zlib.decompress(self._world.store.get(f"result/{rank}")).decode()

    def _watch(self) -> None:
        while not (self._stop.is_set() or self._whole):
            self._rest()
            try:
                self._beat()
                if self._in_trouble():
                    self._end()
            except (RuntimeError, OSError) as error:  # the store's host is gone
                self._leave_alone(error)

    def _in_trouble(self) -> bool:
        store = self._world.store
        if store.check(["trouble"]):
            return True
        signs = self._signs() if self._world.rank < WATCHERS else []
        found = trouble(signs, self._faults(), terminated=self._terminated, stuck_s=self._stuck_s)
        if found:
            store.set("trouble", "")
        return found

    def _rest(self) -> None:
        """Wait for the next beat, or for a signal."""
        self._woken.settimeout(PERIOD_S)
        with contextlib.suppress(TimeoutError):
            self._terminated |= signal.SIGTERM in self._woken.recv(16)

    def _beat(self) -> None:
        self._beats += 1
        where, waiting = whereabouts(sys._current_frames().get(self._main))  # noqa: SLF001 (the only way to another thread's frame)
        beat = {
            "beats": self._beats,
            "moves": self._moves,
            "stage": self._stage,
            "where": where,
            "waiting": waiting,
            "done": self._done,
        }
        self._world.store.set(f"beat/{self._world.rank}", json.dumps(beat))

    def _signs(self) -> list[Sign]:
        texts = self._world.store.multi_get([f"beat/{rank}" for rank in range(self._world.size)])
        now_s = time.monotonic()
        for rank, text in enumerate(texts):
            beat = json.loads(text)
            seen = self._seen.get(rank)
            moved = seen is None or beat["moves"] != seen.beat["moves"]
            beaten = seen is None or beat["beats"] != seen.beat["beats"]
            self._seen[rank] = _Seen(
                beat=beat,
                changed_s=now_s if beaten or seen is None else seen.changed_s,
                moved_s=now_s if moved or seen is None else seen.moved_s,
            )
        return [_sign(rank, seen, now_s) for rank, seen in sorted(self._seen.items())]

    def _faults(self) -> list[Fault]:
        count = self._world.store.add("faults", 0)
        numbers = [number for number in range(1, count + 1) if self._world.store.check([f"fault/{number}"])]
        return [Fault(**json.loads(self._world.store.get(f"fault/{number}"))) for number in numbers]

    def _end(self) -> None:
        """Hand in, find out who is to blame, and leave; the lowest living rank reports.

        Where the whole was reported meanwhile nothing ended it, and this only ends the watch.
        """
        self.hand_in(self._salvage())
        until_s = time.monotonic() + SETTLE_S + 2 * PERIOD_S
        while time.monotonic() < until_s:
            self._rest()
            self._beat()
            signs, faults = self._signs(), self._faults()
        found = blame(signs, faults, terminated=self._terminated, stuck_s=self._stuck_s)
        until_s = time.monotonic() + REPORT_S
        while time.monotonic() < until_s and not self._world.store.check(["reported"]):
            living = [sign.rank for sign in self._signs() if sign.silent_s <= SETTLE_S]
            if self._world.rank == min(living, default=self._world.rank):
                self._report_what_is_left(found, [rank for rank in living if rank != self._world.rank])
                break
            self._beat()
            time.sleep(PERIOD_S)
        if self._whole or (self._world.store.check(["reported"]) and self._world.store.get("reported") == _WHOLE):
            self._whole = True
            return
        self._world.store.set(f"left/{self._world.rank}", "")
        _leave(found.exit_code)

    def _report_what_is_left(self, found: Blame, others: Sequence[int]) -> None:
        """Write the report, beating on beside it; whatever goes wrong the others need not wait."""
        threading.Thread(target=self._beat_on, name="hwprof-beat", daemon=True).start()
        ranks = range(self._world.size)
        handed_in = {rank: self._result(rank) for rank in ranks if self._world.store.check([f"result/{rank}"])}
        if self._wrote(found, handed_in):
            self._say_reported(_LEFT, others)

    def _wrote(self, found: Blame, handed_in: Mapping[int, str]) -> bool:
        """Whether this is the report; else the main thread has written the whole, as this waited for it to do."""
        if not self._pen.acquire(timeout=REPORT_S):
            sys.stderr.write(f"hwprof: {found.text}; the report was not finished in {format_seconds(REPORT_S)}\n")
        elif not self._whole:
            try:
                self._report(found, handed_in)
            except Exception as error:  # noqa: BLE001 (this process ends here, and nobody else would say why)
                sys.stderr.write(f"hwprof: {found.text}; no report: {type(error).__name__}: {error}\n")
        return not self._whole

    def _beat_on(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):  # the store's host is gone
            while True:
                self._beat()
                time.sleep(PERIOD_S)

    def _leave_alone(self, error: Exception) -> None:
        if self._whole:
            return  # who wrote the report has left, and the store with it
        text = (
            f"the ranks' meeting point is gone, and with it rank 0, its machine or its launcher ({first_line(error)})"
        )
        if self._world.local_rank == self._lowest_left_here():
            self._wrote(Blame(ranks=(), text=text, alone=True), {self._world.rank: self._salvage()})
        _leave(1)

    def _lowest_left_here(self) -> int:
        """The lowest local rank: on rank 0's machine the next one, where the launcher let rank 0 host the store."""
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        return 1 if hosted and self._world.node == self._world.nodes_of[0] else 0


def _sign(rank: int, seen: _Seen, now_s: float) -> Sign:
    beat = seen.beat
    return Sign(
        rank=rank,
        silent_s=now_s - seen.changed_s,
        still_s=now_s - seen.moved_s,
        moves=int(str(beat["moves"])),
        stage=str(beat["stage"]),
        where=str(beat["where"]),
        waiting=bool(beat["waiting"]),
        done=bool(beat["done"]),
    )


def _leave_to_the_thread(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM reaches the lifeline through its wake-up socket, even while the main thread waits in a collective."""


def _wait_for_the_end() -> NoReturn:
    """The lifeline ends this process."""
    while True:
        time.sleep(1.0)


def _leave(exit_code: int) -> NoReturn:
    """End the process at once: the main thread may wait in a collective that will never end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
