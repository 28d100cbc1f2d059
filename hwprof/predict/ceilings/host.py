"""What does the host add to a step? Calling modules, dispatching operators and walking through autograd, as probed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwprof.specs.job.settings import PhaseName
from hwprof.specs.measurement import Ceiling

HOST = "latency.host."
"""What the names of the host's ceilings begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTimes:
    """Seconds of the same model made so narrow that its kernels take hardly any time; 0 for what was not asked for.

    Attributes:
        forward_s, backward_s: of one micro-batch; the loss is in backward.
        clip_s, optimizer_s: of one step.
        prefill_s, decode_s: of the prompts' pass, and of one over new tokens.
    """

    forward_s: float = 0.0
    backward_s: float = 0.0
    clip_s: float = 0.0
    optimizer_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def of_step(self, *, micro_batches: int, stages: int, decode_steps: int = 0) -> dict[PhaseName, float]:
        """Of each phase of a step, on the mean rank of a pipeline; of one that generates, so many passes."""
        if self.prefill_s:
            return {"prefill": self.prefill_s, "decode": self.decode_s * decode_steps}
        return {
            "forward": self.forward_s * micro_batches / stages,
            "backward": self.backward_s * micro_batches / stages,
            "clip": self.clip_s / stages,
            "optimizer": self.optimizer_s / stages,
        }


def host_times(best: Mapping[str, Ceiling]) -> HostTimes | None:
    """From ceilings by name; None where the host was not probed."""
    if prefill := best.get(f"{HOST}prefill"):
        decode = best.get(f"{HOST}decode")
        return HostTimes(prefill_s=prefill.value, decode_s=decode.value if decode else 0.0)
    passes = [best.get(f"{HOST}{name}") for name in ("forward", "forward_backward")]
    if passes[0] is None or passes[1] is None:
        return None
    clip, optimizer = (best.get(f"{HOST}{name}") for name in ("clip", "optimizer"))
    return HostTimes(
        forward_s=passes[0].value,
        backward_s=max(passes[1].value - passes[0].value, 0.0),
        clip_s=clip.value if clip else 0.0,
        optimizer_s=optimizer.value if optimizer else 0.0,
    )
