"""How far is predicted decoding from measured decoding, of three small models on this CPU?

    python benchmarks/inference.py [MODEL ...]

Each model is run as ``hwprof run --inference`` does, in a folder that is thrown away: probes first, then the
prediction, then steps. Times of an idle machine only say something: the share of time that threads waited for a CPU
stands beside them. ``least`` is the shortest of the steps, which other programs disturbed least.
"""

from __future__ import annotations

import sys
import tempfile

import hwprof

MODELS = ("tiny", "distilgpt2", "gpt2-124m")
PROMPT, NEW = 64, 16


def main() -> None:
    heads = ("measured", 10), ("least", 10), ("predicted", 10), ("off", 7), ("off least", 9), ("prefill off", 11)
    print(f"{'model':16}", *(f"{head:>{width}}" for head, width in heads), " waited")
    for model in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found = hwprof.run(
                model=model, device="cpu", inference=True, seq_len=PROMPT, new_tokens=NEW, steps=12, output=folder
            )
        phases = {phase.name: phase for phase in found.phases}
        tpot, decode, prefill = found.generation.tpot, phases["decode"], phases["prefill"]
        least_s = min(decode.samples_s) / (NEW - 1)
        off, off_least = (tpot.predicted_s / seconds - 1 for seconds in (tpot.median_s, least_s))
        prefill_off = prefill.predicted_s / min(prefill.samples_s) - 1
        print(
            f"{model:16} {1e3 * tpot.median_s:7.2f} ms {1e3 * least_s:7.2f} ms {1e3 * tpot.predicted_s:7.2f} ms "
            f"{off:+7.1%} {off_least:+9.1%} {prefill_off:+11.1%}  {found.step.waited_fraction or 0:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
