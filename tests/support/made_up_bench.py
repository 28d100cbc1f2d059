"""A bench on a CPU that measures nothing by itself: five samples, as the timer has them, and time enough."""

from __future__ import annotations

from typing import Any

import torch

from hwprof.measure.probes.bench import Bench
from hwprof.measure.timing import Timer


def made_up_bench(timer: Timer, **changes: Any) -> Bench:
    """With one warm-up call and no shortest sample, with changes."""
    plain: dict[str, Any] = {
        "device": torch.device("cpu"),
        "device_name": "Abacus 3000",
        "warmups": 1,
        "samples": 5,
        "probe_s": 1000.0,
        "minimum_sample_s": 0.0,
        "waited_s": lambda: None,
    }
    return Bench(timer=timer, **plain | changes)
