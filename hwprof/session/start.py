"""How does a Python program start a run or a probe? With the options of the command line, as typed keywords."""

from __future__ import annotations

import functools
import inspect
import multiprocessing
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from hwprof.errors import InputError, WorkError
from hwprof.measure.world import launched
from hwprof.session import probe as probing
from hwprof.session import ranks
from hwprof.session.caller import Caller
from hwprof.session.outcome import Ran
from hwprof.session.request import ProbeRequest, Request, RunRequest
from hwprof.session.run import run_alone
from hwprof.specs.parsing import checked
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.run import RunRecord

Options = ParamSpec("Options")
Asked = TypeVar("Asked", bound=Request)
Answer = TypeVar("Answer")


class UnwrittenRunError(WorkError):
    """A run came to its end, and some of its files could not be written.

    Attributes:
        record: what was measured and concluded.
    """

    def __init__(self, ran: Ran, reason: WorkError) -> None:
        super().__init__(reason.fact, expectation=reason.expectation, remedy=reason.remedy)
        self.record = ran.record


def _options_of(
    request: Callable[Options, Asked],
) -> Callable[[Callable[[Asked, Caller], Answer]], Callable[Options, Answer]]:
    """Make a function of a request one of the request's options, which are checked as those of the command line."""
    kind: Any = request

    def decorated(function: Callable[[Asked, Caller], Answer]) -> Callable[Options, Answer]:
        @functools.wraps(function)
        def called(*values: Options.args, **options: Options.kwargs) -> Answer:
            if values:
                raise TypeError(f"hwprof.{function.__name__}() takes its options by their names")
            if getattr(multiprocessing.current_process(), "_inheriting", False):  # how multiprocessing itself knows
                raise InputError(
                    f"hwprof.{function.__name__}() was called while a process that it started reads the program again",
                    remedy="put what the program does below `if __name__ == '__main__':`",
                )
            asked = checked(kind, **options)
            return function(asked, Caller(command=asked.as_call(f"hwprof.{function.__name__}")))

        kind.model_rebuild()  # until a record is built, its signature is not known
        answer = inspect.signature(function).return_annotation
        called.__signature__ = inspect.signature(kind).replace(return_annotation=answer)  # type: ignore[attr-defined]
        return called

    return decorated


@_options_of(RunRequest)
def run(request: RunRequest, caller: Caller) -> RunRecord:
    """Measure one training step on this machine: probe, train, record, classify, predict, recommend, report.

    Takes the options of `hwprof run` by name, and does the same: it also writes the run directory, ``output``. torch is
    left with its random numbers seeded, and with the mode of fp32 products that ``dtype`` needs.

    Returns:
        The record, as in its ``run.json``: times in s, sizes in byte, rates in FLOP/s and byte/s.

    Raises:
        InputError: something that was asked for can't be, or this process is one of several ranks.
        WorkError: the step failed or needs more memory than there is; what was measured until then is in the run
            directory. If only a file of the directory could not be written, the error holds the run as ``record``.
    """
    if launched():
        raise InputError(
            "this process is one of several ranks, and hwprof.run measures one process",
            remedy='call hwprof.run_ranks(parallel="fsdp", ...), or start one process without torchrun',
        )
    return _record_of(run_alone(request, caller))


@_options_of(RunRequest)
def run_ranks(request: RunRequest, caller: Caller) -> RunRecord | None:
    """Measure one training step of several ranks; each process that torchrun starts calls it with the same options.

    Takes the options of `hwprof run` by name, ``parallel`` among them. Where a rank fails or falls silent all processes
    end, after what the others had measured is written and one line on the logger ``hwprof`` says which it was.

    Returns:
        On rank 0 the record of all ranks, on the others None.

    Raises:
        InputError: something that was asked for can't be, on all ranks alike; or no launcher set the ranks up.
        WorkError: the ranks did not find each other, or a file could not be written (see ``hwprof.run``).
    """
    ran = ranks.run_ranks(request, caller)
    return None if ran is None else _record_of(ran)


@_options_of(ProbeRequest)
def probe(request: ProbeRequest, caller: Caller) -> Calibration:
    """Measure this machine's ceilings and save them: matrix multiplication, memory, transfers, latencies.

    Takes the options of `hwprof probe` by name.

    Returns:
        The calibration, as in its file: rates in FLOP/s and byte/s, latencies in s, with every sample.

    Raises:
        InputError: the device can't be had, or there is no folder for the file.
    """
    return probing.probe_alone(request, caller).calibration


@_options_of(ProbeRequest)
def probe_ranks(request: ProbeRequest, caller: Caller) -> Calibration | None:
    """Measure the links between ranks and save them; each process that torchrun starts calls it with the same options.

    Takes the options of `hwprof probe` by name. Ends as ``hwprof.run_ranks`` does where a rank fails.

    Returns:
        On rank 0 the calibration: curves of time in s over sizes in byte; on the others None.

    Raises:
        InputError: the device can't be had, or no launcher set the ranks up.
        WorkError: the ranks did not find each other.
    """
    probed = probing.probe_ranks(request, caller)
    return None if probed is None else probed.calibration


def _record_of(ran: Ran) -> RunRecord:
    if ran.report_error is not None:
        raise UnwrittenRunError(ran, ran.report_error) from ran.report_error
    return ran.record
