"""How fast is text generated? Times of the first token and of the others, measured, predicted and at the roofs."""

from __future__ import annotations

from hwprof.specs.frozen import Record


class TokenTime(Record):
    """Time of a token in the median over steps, with the ends of the median's interval.

    ``predicted_s`` is from counts and ceilings alone, ``roof_s`` the least possible; None where no ceiling is known.
    """

    median_s: float
    interval_s: tuple[float, float]
    predicted_s: float | None = None
    roof_s: float | None = None


class GenerationResult(Record):
    """One answer to ``sequences`` prompts at once, all of one length.

    ``ttft``: from the prompts on the host to the first new token of each. ``tpot``: each further one; None where there
    is none.
    """

    sequences: int
    prompt_tokens: int
    new_tokens: int
    ttft: TokenTime
    tpot: TokenTime | None = None

    @property
    def prompt_token_per_s(self) -> float:
        """Tokens of prompts that are read in a second."""
        return self.sequences * self.prompt_tokens / self.ttft.median_s

    @property
    def new_token_per_s(self) -> float | None:
        """New tokens of all sequences in a second of decoding."""
        return self.sequences / self.tpot.median_s if self.tpot else None
