"""Which settings start a fine-tuning that fits? The largest batch that surely does, told to TRL and axolotl."""

from __future__ import annotations

import math

from hwprof.plan.fit.rows import USUAL_LENGTH, Fit, FitRow
from hwprof.plan.settings import axolotl, trl
from hwprof.plan.settings.launch import Launch, Settings, backend_of


def finetune_settings(fit: Fit) -> tuple[Settings, ...]:
    """Both files for the last way that fits: of those asked for it needs least."""
    rows = [row for each in fit.largest for row in [each.sure or each.likely] if row]
    if not rows:
        return ()
    last = [row for row in rows if row.adaptation == rows[-1].adaptation]
    launch = _launch(fit, min(last, key=lambda row: abs(math.log(row.seq_len / USUAL_LENGTH))))
    return tuple(framework.settings_for(launch) for framework in (trl, axolotl))


def _launch(fit: Fit, row: FitRow) -> Launch:
    question, machine = fit.question, fit.room.machine
    backend = "cuda" if machine is None else backend_of(machine.device)
    return Launch(
        job=question.job(row.adaptation, row.batch_size, row.seq_len),
        backend=backend,
        device=fit.room.name,
        stack=question.stack.name,
        nodes=1,
        devices_per_node=question.devices,
        steps=None,
        task=question.task,
    )
