"""At which shapes is a model wanted, should it have to be captured?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.specs.job.settings import Dtype

LINE = (2, 3)
"""Batch sizes through which the costs of any other lie on a straight line; at one sequence some copies are not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """At which shapes a model is wanted, should it have to be captured.

    Attributes:
        batch_sizes: one, or two between and beyond which costs lie on a straight line.
        seq_len: tokens of a sequence; None = what the model was made for, at most ``longest``.
        more_lengths: further lengths to capture it at.
        target_len: of an encoder-decoder's target.
        dtype: of the products.
        narrow: whether weights are as narrow as products; else products are narrow by autocast.
        longest: bound of a length that is not said.
        images: images to a sequence, height and width.
        seconds: of sound.
        inputs: arguments of forward as they are typed (``pixel_values=2x3x64x64:float32``).
        freeze: names of modules whose weights are not trained.
        adapted: whether it is also asked what all of it keeps where it is frozen, as beside adapters.
    """

    batch_sizes: tuple[int, ...]
    seq_len: int | None
    more_lengths: tuple[int, ...] = ()
    target_len: int | None = None
    dtype: Dtype = "bf16"
    narrow: bool = False
    longest: int = 4096
    images: tuple[int, int, int] | None = None
    seconds: float | None = None
    inputs: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    adapted: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """All lengths, once that of a sequence is known."""
        return tuple(dict.fromkeys((self.seq_len or 1, *self.more_lengths)))

    @property
    def of_capture_alone(self) -> str:
        """An option that says something of captured models alone, if one was given."""
        given = {"--images": self.images, "--seconds": self.seconds, "--input": self.inputs, "--freeze": self.freeze}
        return next((option for option, value in given.items() if value), "")
