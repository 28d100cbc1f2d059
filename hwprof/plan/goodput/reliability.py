"""How often does a fleet fail, and what does it take to go on? Cited defaults, or what a person says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HOUR_S = 3600.0

MTBF_H = 16384 * 54 * 24 / 419
"""Of one device: 419 unexpected interruptions in 54 days on 16,384 H100 (Llama Team 2024, section 3.3.4, table 5)."""

MTBF_LOW_H, MTBF_HIGH_H = 8 / 6.50e-3 * 24, 8 / 2.34e-3 * 24
"""6.50 and 2.34 failures a thousand days of a node of eight: Meta's two research clusters over 11 months (Kokolis et
al. 2024, arXiv 2410.21680, section III). Taken as the 10th and the 90th percentile."""

LOST_BESIDE = 0.66
"""Of the share that failures leave, what fleets had left in the worst tenth of seven published accounts, from OPT-175B
(33 days of steps in 56) to ByteRobust (97 % of three months): people asleep, hangs, data, evaluation, loss that
diverged, batches that ramp up (``benchmarks/goodput.csv``, ``python benchmarks/gpu_hours.py``). The median is 0.985."""

RESTART_S = 900.0
"""From a failure to training again: ten minutes to detect and diagnose it, and caught up within fifteen (Jiang et al.
2024, MegaScale, section 6.3)."""

STORAGE_BYTE_PER_S = 2e12 / 16384
"""That one device's share of storage takes: Llama 3's 2 TB/s sustained for 16,384 devices (Llama Team 2024, section
3.3.1)."""

PREPARE_S = 6.3
"""That a checkpoint holds the job up to plan, gather and stage it, however many devices share it: a 7B model with
asynchronous saving (PyTorch 2024, "Reducing Model Checkpointing Times by Over 10x with PyTorch Distributed Asynchronous
Checkpointing")."""

CheckpointMode = Literal["async", "sync"]
"""``async``: the step waits until the state is in host memory; it is written while training goes on. ``sync``: the step
waits until it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """What a fleet is like.

    Attributes:
        mtbf_s: mean time between interruptions that one device causes.
        mtbf_range_s: 10th and 90th percentile of what that may be.
        restart_s: from an interruption to training again, the loading of the checkpoint apart.
        storage_byte_per_s: what one device's share of storage takes and gives.
        checkpoint: how state is saved.
        checkpoint_interval_s: between two checkpoints; None = the best.
        spare_nodes: nodes that stand by and are paid for.
        repair_s: until a failed node is back; None = another one takes its place at once, whatever happens.
        basis: where each of these is from, in words.
    """

    mtbf_s: float
    mtbf_range_s: tuple[float, float]
    restart_s: float
    storage_byte_per_s: float
    checkpoint: CheckpointMode
    checkpoint_interval_s: float | None
    spare_nodes: int
    repair_s: float | None
    basis: tuple[str, ...]


def reliability_of(
    *,
    mtbf_s: float | None = None,
    restart_s: float | None = None,
    storage_byte_per_s: float | None = None,
    checkpoint: CheckpointMode = "async",
    checkpoint_interval_s: float | None = None,
    spare_nodes: int = 0,
    repair_s: float | None = None,
) -> Reliability:
    """As a person says, else the cited defaults."""
    usual_s, low_s, high_s = (hours * HOUR_S for hours in (MTBF_H, MTBF_LOW_H, MTBF_HIGH_H))
    return Reliability(
        mtbf_s=mtbf_s or usual_s,
        mtbf_range_s=(mtbf_s, mtbf_s) if mtbf_s else (low_s, high_s),
        restart_s=RESTART_S if restart_s is None else restart_s,
        storage_byte_per_s=storage_byte_per_s or STORAGE_BYTE_PER_S,
        checkpoint=checkpoint,
        checkpoint_interval_s=checkpoint_interval_s,
        spare_nodes=spare_nodes,
        repair_s=repair_s,
        basis=(
            f"failures: one in {(mtbf_s or usual_s) / HOUR_S:,.0f} h of a device, "
            + ("as given" if mtbf_s else "as Llama 3's 16,384 H100 had in 2024"),
            f"restart: {(RESTART_S if restart_s is None else restart_s) / 60:g} min, "
            + ("MegaScale's (2024)" if restart_s is None else "as given"),
            f"storage: {(storage_byte_per_s or STORAGE_BYTE_PER_S) / 1e6:,.0f} MB/s a device, "
            + ("as given" if storage_byte_per_s else "Llama 3's (2024)"),
            f"checkpoints: {checkpoint}, {PREPARE_S:g} s to prepare (PyTorch, 2024); "
            + (
                "failed nodes are replaced at once"
                if repair_s is None
                else f"every failure takes a node for {repair_s / HOUR_S:g} h, {spare_nodes} stand by"
            ),
        ),
    )
