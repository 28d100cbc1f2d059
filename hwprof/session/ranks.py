"""How does one rank of a run go from probes to its part of the report? Whatever ends it, the others' parts are kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from hwprof.errors import INTERRUPTED_EXIT_CODE, OutOfMemoryError, WorkError
from hwprof.measure.host.accelerator import empty_cache
from hwprof.measure.host.environment import device_name
from hwprof.measure.lifeline import Lifeline
from hwprof.measure.links.collectives import RankGroup
from hwprof.measure.links.layout_links import collectives_of, probe_layout
from hwprof.measure.links.meetings import probe_meetings
from hwprof.measure.links.slowdown import probe_slowdown
from hwprof.measure.probes.device import ProbeResult
from hwprof.measure.signs import Blame
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.recorder import StepRecorder
from hwprof.measure.watch.steps import Ranks, nothing_beside
from hwprof.measure.world import World, close_world, open_world
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.predict.ranks.merge import merged_ceilings, merged_recording, merged_skipped, unequal_devices
from hwprof.predict.ranks.waits import ranks_result
from hwprof.report.files.folder import made
from hwprof.report.files.run import RECORD_FILE
from hwprof.session.agreement import agreed
from hwprof.session.analysis import analysed, planned
from hwprof.session.caller import Caller
from hwprof.session.ceilings import probe_ceilings
from hwprof.session.fitting import is_out_of_memory
from hwprof.session.outcome import Ran, fixed_fields, written
from hwprof.session.request import RunRequest
from hwprof.session.settle import SettledRun
from hwprof.specs.job.layout_text import layout_text
from hwprof.specs.record.rank import RankRecord
from hwprof.specs.record.ranks import Axis, RankPlace
from hwprof.specs.record.run import RunRecord, Status
from hwprof.train.parallel.loop import ParallelTrainer
from hwprof.train.parallel.mesh import RankMesh, rank_mesh

KEPT_TRACES = 16
"""So many ranks, the lowest, leave their traces in the run directory."""
SNAPSHOT_EVERY_S = 1.0
"""Seconds of training after which a rank notes what it has: so much is lost at most when another rank ends the run."""


def run_ranks(request: RunRequest, caller: Caller) -> Ran | None:
    """Run on all ranks, of which this process is one; on rank 0 the merged run, whose directory is complete.

    When any rank fails this does not return: the lowest living rank writes what is there and tells its caller, and all
    processes leave.

    Raises:
        InputError: something that was asked for can't be; all ranks raise it.
        WorkError: the ranks did not find each other.
    """
    world = open_world(request.device, timeout_s=request.timeout_s)
    try:
        with ExitStack() as claim:
            run = agreed(world, request, claim)
            return _RankSession(world, run, caller).execute()
    finally:
        close_world()


class _RankSession:
    """One rank's run of the main job.

    Args:
        world: all ranks.
        run: what to run, the same on all ranks but for the device.
        caller: told on this rank.
    """

    def __init__(self, world: World, run: SettledRun, caller: Caller) -> None:
        self._world = world
        self._run = run
        self._directory = run.directory
        self._caller = caller
        self._fields = fixed_fields(run, caller.command)
        self._own = RankRecord(place=_place(world, None))
        self._snapshot_s = 0.0
        self._telemetry = Telemetry.of(world.device) if self._watches else None
        self._lifeline = Lifeline(world, salvage=self._salvage, report=self._report_end, stuck_s=run.request.timeout_s)

    def execute(self) -> Ran | None:
        """Probe, train, record, hand in; on rank 0 the merged run. Ends as ``run_ranks`` does."""
        self._lifeline.start()
        try:
            made(self._directory)
            with self._telemetry or nullcontext():
                mesh = rank_mesh(self._run.settings.layout, self._world.device)
                self._learn(place=_place(self._world, mesh))
                self._probe(mesh)
                self._train(mesh)
            self._said("handing in")
            self._lifeline.hand_in(self._salvage())
            ran = self._reported()
        except BaseException as error:  # noqa: BLE001 (whatever ends this rank ends the others, who must be told)
            self._lifeline.fail(self._told(error))
        self._lifeline.finish()
        return ran

    def _reported(self) -> Ran | None:
        """On rank 0 the report of all; the others watch over it."""
        if self._world.rank:
            self._lifeline.await_report()
            return None
        handed_in = self._lifeline.collect()
        with self._lifeline.whole():
            ran = self._finish(handed_in, "complete", "")
        return ran  # noqa: RET504 (for all that a type checker knows, the context may end the error of its block)

    @property
    def _watches(self) -> bool:
        """Every device is watched; the host once on the first machine, as all share it."""
        return self._world.device.type != "cpu" or self._world.rank == 0

    def _said(self, line: str) -> None:
        self._lifeline.stage(line)
        self._caller.progress(line)

    def _learn(self, **known: Any) -> None:
        self._own = self._own.changed(**known)

    def _told(self, error: BaseException) -> BaseException:
        if not is_out_of_memory(error):
            return error
        settings = self._run.settings
        return OutOfMemoryError(
            f"out of memory: {next(iter(str(error).splitlines()), '')}",
            remedy=f"choose a --micro-batch below {settings.micro_batch}, --recompute full, or --parallel fsdp",
        )

    def _probe(self, mesh: RankMesh) -> None:
        """Ceilings of all ranks' devices at once, as they work in the step; then the links that the layout uses."""

        def said(line: str) -> None:
            self._said(line)
            self._world.barrier()

        def keep(result: ProbeResult) -> None:
            self._learn(ceilings=result.ceilings, skipped=result.skipped)

        probe_ceilings(self._run, report=said, on_result=keep)
        timer = timer_for(self._run.device)
        self._learn(links=probe_layout(self._world, mesh, timer, report=self._said))
        self._said("measuring computation beside communication")
        everyone = RankGroup(tuple(range(self._world.size)), self._world.rank, None)
        self._learn(slowdowns=(probe_slowdown(self._world, everyone, timer),))
        if self._world.device.type == "cpu":
            self._said("measuring work between meetings of all ranks")
            self._learn(meetings=probe_meetings(self._world, timer))

    def _train(self, mesh: RankMesh) -> None:
        run = self._run
        empty_cache(run.device)  # of what the probes had
        self._said("building the model and its data")
        trainer = ParallelTrainer(run.model, run.settings, mesh, data_path=run.data_path, device=run.device)
        recorder = StepRecorder(
            trainer,
            run.settings,
            timer=timer_for(run.device),
            device=run.device,
            trace_path=self._trace_path,
            time_budget_s=run.request.time_budget_s,
            progress=lambda line: self._after_step(recorder, line),
            ranks=self._ranks(),
            beside=self._telemetry.means if self._telemetry else nothing_beside,
        )
        try:
            recorder.run()
        finally:
            trainer.close()
            self._snapshot(recorder)
        if self._world.rank >= KEPT_TRACES:
            self._trace_path.unlink(missing_ok=True)

    def _ranks(self) -> Ranks:
        layout = self._run.settings.layout
        axes = tuple(collectives_of(layout))
        whole: Axis = axes[0] if len(axes) == 1 else "data"  # type: ignore[assignment]  # a name of the mesh
        return Ranks(
            any=lambda flag: self._world.any(flag=flag),
            largest=lambda value: self._world.largest([value])[0],
            whole_axis=whole,
        )

    @property
    def _trace_path(self) -> Path:
        rank = self._world.rank
        return self._directory / ("trace.json.gz" if rank == 0 else f"trace-rank{rank}.json.gz")

    def _after_step(self, recorder: StepRecorder, line: str) -> None:
        """Between steps, which are not timed here: show where the run is, and now and then note what it has."""
        self._said(line)
        if time.monotonic() - self._snapshot_s > SNAPSHOT_EVERY_S:
            self._snapshot(recorder)

    def _snapshot(self, recorder: StepRecorder) -> None:
        self._learn(recording=recorder.recording(), calls=recorder.calls)
        self._snapshot_s = time.monotonic()

    def _salvage(self) -> str:
        telemetry = self._telemetry.series if self._telemetry else ()
        return self._own.changed(telemetry=telemetry).model_dump_json()

    def _report_end(self, blame: Blame, handed_in: Mapping[int, str]) -> None:
        """The run ended early: keep what there is, and say in one line who ended it."""
        if blame.alone and (self._directory / RECORD_FILE).is_file():
            return  # this rank was stopped meanwhile, and the others have reported without it
        status: Status = "interrupted" if blame.exit_code == INTERRUPTED_EXIT_CODE else "failed"
        if "out of memory" in blame.text:
            status = "out_of_memory"
        try:
            made(self._directory)
            unwritten = self._finish(handed_in, status, blame.text).report_error
        except WorkError as error:
            unwritten = error
        kept = f"what the ranks had measured is in {self._directory}"
        self._caller.told(f"{blame.text}; {kept if unwritten is None else unwritten}")

    def _finish(self, handed_in: Mapping[int, str], status: Status, note: str) -> Ran:
        self._said("writing the report")
        records = [RankRecord.model_validate_json(text) for _, text in sorted(handed_in.items())]
        return written(self._merged(records, status, note), self._directory)

    def _merged(self, records: list[RankRecord], status: Status, note: str) -> RunRecord:
        run = self._run
        datasheet = datasheet_ceilings(run.device_spec) if run.device_spec else ()
        ranks = ranks_result(
            records,
            layout=run.settings.layout,
            backend=self._world.library,
            world_size=self._world.size,
            steps=run.settings.profiled_steps,
        )
        fields: dict[str, Any] = self._fields | {
            "status": status,
            "status_note": note,
            "world_size": self._world.size,
            "ceilings": (*merged_ceilings(records), *datasheet),
            "skipped": merged_skipped(records),
            "telemetry": records[0].telemetry if records else (),
            "ranks": ranks,
            "notes": (f"layout {layout_text(run.settings.layout)}", *unequal_devices(records)),
        }
        record = RunRecord(**fields)
        recording = merged_recording(records)
        if recording is None:
            return record
        record = analysed(record, recording)
        return planned(record, run.cluster)


def _place(world: World, mesh: RankMesh | None) -> RankPlace:
    return RankPlace(
        rank=world.rank,
        node=world.node,
        host=world.host,
        device=device_name(world.device),
        stage=mesh.stage if mesh else 0,
        data=mesh.data.index if mesh else 0,
        tensor=mesh.tensor if mesh else 0,
    )
