"""How does one run go from probes to report? Keeps everything that was measured, whatever ends it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hwprof.count.blocks.transformer import matmul_shapes
from hwprof.count.memory.step import training_memory
from hwprof.errors import HwprofError, OutOfMemoryError, WorkError
from hwprof.measure.host.environment import environment
from hwprof.measure.probes.attention import AttentionShape
from hwprof.measure.probes.device import ProbeResult, probe_device
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.report.files.run import write_record, write_run
from hwprof.session.analysis import analysed, planned
from hwprof.session.request import Progress, RunRequest, what_would_fit
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.run import Dtype, Recording, RunRecord, Status
from hwprof.train.loop import Trainer
from hwprof.units import format_bytes
from hwprof.version import __version__

_OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""torch.OutOfMemoryError from torch 2.5 on."""

_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch's CPU allocator, and CUDA and its libraries outside torch's allocator, say in a plain RuntimeError."""


SAVE_EVERY_S = 5.0
"""Seconds of training after which what is there is written again: so much is lost at most when the run is killed."""


class Session:
    """One run of the main job.

    Args:
        request: what to run.
        directory: the run directory; made if needed.
        progress: told where the run is.

    Attributes:
        report_error: set when the record or a report could not be written; the others were all the same.
    """

    def __init__(self, request: RunRequest, directory: Path, progress: Progress) -> None:
        self._request = request
        self._directory = directory
        self._progress = progress
        self.report_error: WorkError | None = None
        self._fields = fixed_fields(request)
        self._datasheet: tuple[Ceiling, ...] = datasheet_ceilings(request.device_spec) if request.device_spec else ()
        self._probed = ProbeResult()
        self._recording: Recording | None = None
        self._saved_s = 0.0
        self._telemetry = Telemetry(device_index=(request.device.index or 0) if self._on_cuda else None)

    def execute(self) -> RunRecord:
        """Probe, train, record and conclude; the run directory is complete when this returns.

        Raises:
            OutOfMemoryError: the step does not fit the device; what was probed is kept.
            WorkError: the step failed; what was measured is kept.
            KeyboardInterrupt: the user stopped the run; what was measured is kept.
        """
        self._make_directory()
        self._save_partial()
        kept = f"what was measured is in {self._directory}"
        try:
            with self._telemetry:
                probe_ceilings(self._request, report=self._progress, on_result=self._keep)
                self._train()
        except KeyboardInterrupt:
            self._finish("interrupted", "stopped by the user before its end")
            raise
        except HwprofError as error:
            self._finish("failed", str(error))
            raise
        except (RuntimeError, OSError) as error:
            if is_out_of_memory(error):
                shortage = self._memory_shortage(error)
                self._finish("out_of_memory", shortage)
                raise OutOfMemoryError(shortage, remedy=kept) from error
            self._finish("failed", str(error))
            raise WorkError(f"the run failed: {error}", remedy=kept) from error
        except Exception as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        return self._finish("complete", "")

    @property
    def _on_cuda(self) -> bool:
        return self._request.device.type == "cuda"

    def _make_directory(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkError(
                f"the run directory {self._directory} can't be made ({error.strerror})",
                remedy="give another with --output",
            ) from error

    def _keep(self, result: ProbeResult) -> None:
        self._probed = result
        self._save_if_possible()

    def _train(self) -> None:
        request = self._request
        if self._on_cuda:
            torch.cuda.set_device(request.device)  # whose streams the timer marks and the data loader pins memory for
            torch.cuda.empty_cache()  # of what the probes had
        self._progress("building the model and its data")
        trainer = Trainer(request.model, request.settings, data_path=request.data_path, device=request.device)
        recorder = StepRecorder(
            trainer,
            request.settings,
            timer=timer_for(request.device),
            device=request.device,
            trace_path=self._directory / "trace.json.gz",
            time_budget_s=request.time_budget_s,
            progress=lambda line: self._after_step(recorder, line),
        )
        try:
            recorder.run()
        finally:
            trainer.close()
            self._recording = recorder.recording()

    def _after_step(self, recorder: StepRecorder, line: str) -> None:
        """Between steps, which are not timed here: show where the run is, and now and then keep what it has."""
        self._progress(line)
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self._recording = recorder.recording()
            self._save_if_possible()

    def _record(self, status: Status, note: str) -> RunRecord:
        skipped: tuple[Skipped, ...] = (*self._probed.skipped, *self._telemetry.skipped)
        return RunRecord(
            status=status,
            status_note=note,
            ceilings=(*self._probed.ceilings, *self._datasheet),
            skipped=skipped,
            telemetry=self._telemetry.series,
            **self._fields,
        )

    def _analysed(self, status: Status, note: str) -> RunRecord:
        record = self._record(status, note)
        if self._recording is None or not self._recording.step_samples_s:
            return record
        return analysed(record, self._recording)

    def _save_partial(self) -> None:
        """What is there so far, for the case that this process is killed."""
        write_record(self._analysed("partial", "the run did not come to its end"), self._directory)
        self._saved_s = time.monotonic()

    def _save_if_possible(self) -> None:
        """A disk that fills up meanwhile ends no run; it is an error when the run's end can't be written either."""
        try:
            self._save_partial()
        except WorkError as error:
            self._progress(str(error))

    def _finish(self, status: Status, note: str) -> RunRecord:
        self._progress("writing the report")
        record = self._analysed(status, note)
        if record.step is not None:
            record = planned(record, self._request.cluster)
        try:
            write_run(record, self._directory)
        except WorkError as error:
            self.report_error = error
        return record

    def _memory_shortage(self, error: BaseException) -> str:
        request = self._request
        need_bytes = training_memory(request.model, request.settings).peak_bytes
        capacity_bytes = request.identity.memory_bytes or 0.0
        fits = what_would_fit(request.model, request.settings, capacity_bytes)
        first_line = str(error).splitlines()[0] if str(error) else "out of memory"
        return (
            f"out of memory: the step needs about {format_bytes(need_bytes)}, {request.identity.name} had "
            f"{format_bytes(capacity_bytes)} free; {fits} ({first_line})"
        )


def fixed_fields(request: RunRequest) -> dict[str, Any]:
    """What of a run's record is known before anything is measured."""
    return {
        "hwprof_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["hwprof", *sys.argv[1:]]),
        "settings": request.settings,
        "model": request.model,
        "environment": environment(request.device),
        "device": request.identity,
    }


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever library says so."""
    return isinstance(error, _OUT_OF_MEMORY) or any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


def probe_ceilings(
    request: RunRequest, *, report: Callable[[str], None], on_result: Callable[[ProbeResult], None]
) -> None:
    """Ceilings of the device that runs, at the shapes of its model too; whole products say nothing of tensor ranks'."""
    settings = request.settings
    shapes = matmul_shapes(request.model, settings) if settings.layout.tensor_parallel == 1 else ()
    probe_device(
        request.device,
        dtypes=_probed_dtypes(request),
        shapes=[MatmulShape(m=shape.m, n=shape.n, k=shape.k) for shape in shapes],
        shape_dtype=settings.dtype,
        attention=AttentionShape(spec=request.model, batch=settings.micro_batch, seq_len=settings.seq_len),
        quick=not request.full_probes,
        report=report,
        on_result=on_result,
    )


def _probed_dtypes(request: RunRequest) -> tuple[Dtype, ...]:
    """The run's own dtype first, so that it is there even when a later probe is interrupted."""
    others: tuple[Dtype, ...] = ("bf16", "tf32", "fp16", "fp32") if request.device.type == "cuda" else ("fp32", "bf16")
    return tuple(dict.fromkeys((request.settings.dtype, *others)))
