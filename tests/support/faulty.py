"""What becomes of hwprof when it is ended, stopped or starved at a chosen place of its work?

Started as a program, this imports what a run needs once, reads a request a line, and forks for each. The place is a
number of calls of hwprof's own functions, not a time, so that a busy machine changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_kinds import FAULTS, TIMED, own_disk, stand_in

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).parent
PACKAGE = str(ROOT / "hwprof") + os.sep
STRUCK, CALLS = "struck", "calls"
"""What a child notes, too: a fault, and at its end how many calls there were."""
_LONGEST_S = 180.0
_FIRST_CALLS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child came to its end.

    Attributes:
        codes: exit code of each process, negative for the signal that ended it.
        out, err: what all of them wrote.
        notes: in order, of all of them.
    """

    codes: tuple[int, ...]
    out: str
    err: str
    notes: tuple[str, ...]

    @property
    def calls(self) -> int:
        """Of hwprof's functions, in the process that counted."""
        return int(next(note for note in self.notes if note.startswith(CALLS)).split()[1])

    def timed_before(self, mark: str, *, last: bool = False) -> int:
        """How many steps were timed before the first note ``mark``, or the last; 0 where there is none."""
        places = [place for place, note in enumerate(self.notes) if note == mark]
        return self.notes[: places[-1 if last else 0]].count(TIMED) if places else 0


class Children:
    """Forks of one process in which everything is imported."""

    def __init__(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, SUPPORT, SUPPORT.parent))),
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # as the command itself has it on several ranks
        }
        self._parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self,
        folder: Path,
        *words: str,
        ranks: int = 1,
        agent: bool = True,
        room_bytes: int = 0,
        save_every_s: float = 3600.0,
        **fault: Any,
    ) -> Ended:
        """Run ``hwprof WORDS`` in an own folder, and let ``fault`` happen to it.

        Args:
            folder: where it runs.
            words: of the command line.
            ranks: so many processes take part; the fault is of one of them.
            agent: their meeting point is a process of its own, as torchrun has it; else it lives and dies with rank 0.
            save_every_s: so often a run keeps what it has; seldom, so that its end must.
            room_bytes: the folder ``full`` below its own is a disk of so many bytes, which the child alone sees.
            fault: ``kind`` (one of ``FAULTS``) and what belongs to it; ``at`` is the call at which it happens.
        """
        request = {
            "folder": str(folder),
            "words": words,
            "ranks": ranks,
            "agent": agent,
            "room_bytes": room_bytes,
            "save_every_s": save_every_s,
            "fault": fault,
        }
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(request) + "\n")
        self._parent.stdin.flush()
        found = json.loads(self._parent.stdout.readline())
        return Ended(
            codes=tuple(found["codes"]), out=found["out"], err=found["err"], notes=tuple(found["notes"].splitlines())
        )

    def close(self) -> None:
        """End the process that they come from."""
        self._parent.communicate()


class _Count:
    """Calls of the functions below a folder, of each the first few: places of the program, not turns of its loops."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._left: dict[Any, int] = {}
        self.calls = 0

    def counts(self, code: Any) -> bool:
        """Whether a call is one of them; then ``calls`` has grown."""
        left = self._left.get(code)
        if left is None:
            left = _FIRST_CALLS if code.co_filename.startswith(self._folder) else 0
        self._left[code] = max(left - 1, 0)
        self.calls += left > 0
        return left > 0


class _Child:
    """One process that runs the command and to which the fault happens."""

    def __init__(self, request: dict[str, Any], rank: int, ends: Sequence[int]) -> None:
        self._fault = request["fault"]
        self._words = request["words"]
        self._room_bytes = request["room_bytes"]
        self._save_every_s = request["save_every_s"]
        self._struck = self._fault.get("rank", 0) == rank
        self._met = request["ranks"] == 1
        self._calls = 0
        os.chdir(request["folder"])
        self._notes = ends[2]
        os.dup2(ends[0], 1)
        os.dup2(ends[1], 2)
        sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115

    def run(self) -> int:
        """The exit code of the command."""
        from hwprof import cli

        if self._room_bytes:
            own_disk("full", self._room_bytes)
        stand_in(self._note, self._save_every_s)
        self._listen()
        sys.argv = ["hwprof", *self._words]
        if self._struck:
            self._arm()
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        finally:
            sys.setprofile(None)
            sys.settrace(None)
        if self._struck:
            self._note(f"{CALLS} {self._calls}")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        return code

    def _listen(self) -> None:
        """Of several ranks, places count from when all have met: one that never comes is waited for very long."""
        from hwprof.measure.lifeline import Lifeline

        start = Lifeline.start

        def started(lifeline: Any) -> None:
            start(lifeline)
            self._met = True

        Lifeline.start = started

    def _note(self, text: str) -> None:
        os.write(self._notes, f"{text}\n".encode())

    def _arm(self) -> None:
        """Count calls; at the chosen one the fault happens. A second signal has a count of its own, after the first."""
        places = [place if isinstance(place, int) else 0 for place in self._fault.get("at", [])] or [0]
        first, second = _Count(PACKAGE), _Count(PACKAGE)
        later = [False]

        def called(frame: Any, event: str, _argument: Any) -> None:
            if event == "call" and self._met and first.counts(frame.f_code):
                self._calls = first.calls
                if first.calls == places[0]:
                    later[0] = True
                    self._strike()

        def traced(frame: Any, _event: str, _argument: Any) -> None:
            if later[0] and second.counts(frame.f_code) and second.calls == places[1]:
                self._strike()

        if len(places) > 1:
            sys.settrace(traced)
        sys.setprofile(called)

    def _strike(self) -> None:
        self._note(STRUCK)
        FAULTS[self._fault["kind"]](self._fault)


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _forked(request: dict[str, Any], rank: int, port: int, ends: Sequence[int]) -> int:
    """The process id of a child that runs the command."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        if request["ranks"] > 1:
            from rank_pool import rank_environment

            os.environ |= rank_environment(rank, request["ranks"], port)
            if request["agent"]:
                os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        code = _Child(request, rank, ends).run()
    except BaseException:  # noqa: BLE001 (for the test to see)
        import traceback

        traceback.print_exc()
    finally:
        _exit(code)
    raise AssertionError


class _Pipes:
    """What children write: standard output, standard error, notes. No limit of theirs on files holds here."""

    def __init__(self) -> None:
        pairs = [os.pipe() for _ in range(3)]
        self._read, self.write = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self._texts = [bytearray() for _ in pairs]
        for end in self._read:
            os.set_blocking(end, False)

    def take(self) -> None:
        """What has come so far."""
        for end, text in zip(self._read, self._texts, strict=True):
            with contextlib.suppress(BlockingIOError):
                while came := os.read(end, 65536):
                    text.extend(came)

    def texts(self) -> dict[str, str]:
        """All, at the end."""
        for end in self.write:
            os.close(end)
        self.take()
        for end in self._read:
            os.close(end)
        return dict(zip(("out", "err", "notes"), (text.decode(errors="replace") for text in self._texts), strict=True))


def _agent(port: int) -> int:
    """The process id of one that hosts the meeting point until it is killed."""
    process = os.fork()
    if process:
        return process
    try:
        from datetime import timedelta

        from torch.distributed import TCPStore

        store = TCPStore("127.0.0.1", port, None, is_master=True, timeout=timedelta(seconds=60), wait_for_workers=False)
        while store:
            time.sleep(60)
    finally:
        os._exit(1)


def _waited(processes: list[int], fault: dict[str, Any], pipes: _Pipes) -> list[int]:
    """The exit codes, once all have ended; one that stops goes on at once, or after the others have ended."""
    codes: dict[int, int] = {}
    stopped: set[int] = set()
    until_s = time.monotonic() + _LONGEST_S
    while len(codes) < len(processes):
        for process in processes:
            found, status = (0, 0) if process in codes else os.waitpid(process, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                stopped.add(process)
            elif found:
                codes[process] = os.waitstatus_to_exitcode(status)
                stopped.discard(process)
        if stopped and (fault.get("goes_on", True) or len(codes) + len(stopped) == len(processes)):
            for process in stopped:
                os.kill(process, signal.SIGCONT)
            stopped.clear()
        if time.monotonic() > until_s:
            for process in set(processes) - set(codes):
                os.kill(process, signal.SIGABRT)
            until_s = float("inf")
        pipes.take()
        time.sleep(0.002)
    return [codes[process] for process in processes]


def _serve() -> None:
    """Import what a run needs, draw a report once, and fork for each request."""
    import torch

    torch.set_num_threads(1)
    import torch._dynamo
    import torch.distributed.checkpoint.state_dict
    import torch.distributed.fsdp
    import torch.distributed.tensor.parallel
    from made_up_record import made_up_record

    import hwprof.cli.emulate
    import hwprof.cli.plan.command
    import hwprof.cli.run
    import hwprof.report.run.text
    import hwprof.session.ranks
    import hwprof.session.run  # noqa: F401
    from hwprof.report.files.run import _renderers
    from hwprof.specs.catalogue.lookup import list_devices

    list_devices()
    for render in _renderers(made_up_record()).values():
        render()
    assert threading.active_count() == 1, threading.enumerate()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        pipes = _Pipes()
        agents = [_agent(port)] if request["ranks"] > 1 and request["agent"] else []
        processes = [_forked(request, rank, port, pipes.write) for rank in range(request["ranks"])]
        codes = _waited(processes, request["fault"], pipes)
        for agent in agents:
            os.kill(agent, signal.SIGKILL)
            os.waitpid(agent, 0)
        answers.write(json.dumps({"codes": codes} | pipes.texts()) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
