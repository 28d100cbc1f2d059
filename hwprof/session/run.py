"""How does one run go from probes to report? Keeps everything that was measured, whatever ends it."""

from __future__ import annotations

import time
from collections.abc import Callable

from hwprof.errors import HwprofError, OutOfMemoryError, WorkError
from hwprof.measure.host.accelerator import empty_cache, make_current
from hwprof.measure.probes.device import ProbeResult
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.report.files.run import write_record
from hwprof.session.analysis import analysed, planned
from hwprof.session.caller import Caller
from hwprof.session.ceilings import probe_ceilings
from hwprof.session.fitting import is_out_of_memory, shortage
from hwprof.session.interrupts import Interrupts
from hwprof.session.outcome import Ran, claimed, fixed_fields, report_error, written
from hwprof.session.request import RunRequest
from hwprof.session.settle import SettledRun, settle
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.run import Recording, RunRecord, Status
from hwprof.train.generation import Generator
from hwprof.train.loop import Trainer

SAVE_EVERY_S = 5.0
"""Seconds of training after which what is there is written again: so much is lost at most when the run is killed."""


def run_alone(request: RunRequest, caller: Caller) -> Ran:
    """Run in this process, on one device; the run directory is complete when this returns.

    Raises:
        InputError: something that was asked for can't be.
        OutOfMemoryError: the step does not fit the device; what was probed is kept.
        WorkError: the step failed, or the run directory can't be made; what was measured is kept.
        KeyboardInterrupt: the user stopped the run; what was measured is kept.
    """
    return _Session(settle(request), caller).execute()


class _Session:
    """One run of the main job."""

    def __init__(self, run: SettledRun, caller: Caller) -> None:
        self._run = run
        self._directory = run.directory
        self._progress = caller.progress
        self._fields = fixed_fields(run, caller.command)
        self._datasheet: tuple[Ceiling, ...] = datasheet_ceilings(run.device_spec) if run.device_spec else ()
        self._probed = ProbeResult()
        self._recording: Callable[[], Recording | None] = lambda: None
        self._saved_s = 0.0
        self._interrupts = Interrupts()
        self._telemetry = Telemetry.of(run.device)

    def execute(self) -> Ran:
        """Probe, train, record and conclude; raises as ``run_alone`` does."""
        with claimed(self._directory), self._interrupts:
            return self._executed()

    def _executed(self) -> Ran:
        self._save_partial()
        kept = f"what was measured is in {self._directory}"
        try:
            try:
                with self._telemetry:
                    probe_ceilings(self._run, report=self._progress, on_result=self._keep)
                    self._train()
            finally:
                self._interrupts.hold()
        except KeyboardInterrupt:
            self._finish("interrupted", "stopped by the user before its end")
            raise KeyboardInterrupt(f"interrupted; {kept}") from None
        except HwprofError as error:
            self._finish("failed", str(error))
            raise
        except (RuntimeError, OSError, MemoryError) as error:
            if is_out_of_memory(error):
                error.with_traceback(None)  # whose frames hold the trainer, and so the device's memory
                seen = self._recording()
                self._recording = lambda: seen
                short = shortage(self._run.model, self._run.settings, self._run.identity, error)
                self._finish("out_of_memory", short)
                raise OutOfMemoryError(short, remedy=kept) from error
            self._finish("failed", str(error))
            raise WorkError(f"the run failed: {error}", remedy=kept) from error
        except Exception as error:
            self._finish("failed", f"{type(error).__name__}: {error}")
            raise
        return self._finish("complete", "")

    def _keep(self, result: ProbeResult) -> None:
        self._probed = result
        self._save_if_possible()

    def _train(self) -> None:
        run = self._run
        if run.device.type != "cpu":
            make_current(run.device)  # the data loader pins memory for it
            empty_cache(run.device)  # of what the probes had
        self._progress("building the model and its data")
        loop = self._loop()
        recorder = StepRecorder(
            loop,
            run.settings,
            timer=timer_for(run.device),
            device=run.device,
            trace_path=self._directory / "trace.json.gz",
            time_budget_s=run.request.time_budget_s,
            progress=self._after_step,
            beside=self._telemetry.means,
        )
        self._recording = recorder.recording
        try:
            recorder.run()
        finally:
            loop.close()

    def _loop(self) -> Trainer | Generator:
        run = self._run
        if run.settings.new_tokens:
            return Generator(run.model, run.settings, device=run.device)
        return Trainer(run.model, run.settings, data_path=run.data_path, device=run.device)

    def _after_step(self, line: str) -> None:
        """Between steps, which are not timed here: show where the run is, and now and then keep what it has."""
        self._progress(line)
        if time.monotonic() - self._saved_s > SAVE_EVERY_S:
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
        recording = self._recording()
        if recording is None or not recording.step_samples_s:
            return record
        return analysed(record, recording)

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

    def _finish(self, status: Status, note: str) -> Ran:
        """The record first, which no signal keeps from the disk, as they wait; then what takes longer.

        Raises:
            KeyboardInterrupt: the user stopped the report; it says what is there.
        """
        self._progress("writing the report")
        record = self._analysed(status, note)
        unwritten = report_error(lambda: write_record(record, self._directory))
        try:
            self._interrupts.release()
            if unwritten is None and record.step is not None:
                record = planned(record, self._run.cluster)
            return written(record, self._directory)
        except KeyboardInterrupt:
            whole = f"{self._directory} has the record; for its reports run `hwprof view {self._directory}`"
            raise KeyboardInterrupt(f"interrupted while the report was written; {whole}") from None
