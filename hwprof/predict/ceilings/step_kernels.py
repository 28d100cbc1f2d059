"""Which kernels does a step run beside products and attention, at which sizes and how often?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hwprof.count.blocks.parameters import parameter_tensors, parameters
from hwprof.count.blocks.transformer import training_step_ops
from hwprof.count.ops.precision import Precision
from hwprof.predict.work import Work
from hwprof.specs.job.settings import Direction, Dtype, PhaseName, RunSettings
from hwprof.specs.job.step_kernels import GATED, PLACED, TIED, KernelKind, StepKernel
from hwprof.specs.model.spec import ModelSpec

SAMPLE_ELEMENTS = 64 * 2**20
"""So many weights at most are updated to time an update: a quarter of a gigabyte, which no cache holds."""

_PASS: dict[Direction, Direction] = {"recompute": "forward"}
"""What runs again is the forward kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelUse:
    """A kernel in one phase of the step.

    Attributes:
        kernel: what is called.
        phase: when.
        calls: how often in a step, on average over ranks.
        moved_bytes: of one call, by the op table.
        work: the counted work that it stands for.
    """

    kernel: StepKernel
    phase: PhaseName
    calls: float
    moved_bytes: float
    work: tuple[Work, ...]


def step_kernels(work: Iterable[Work], spec: ModelSpec, settings: RunSettings) -> tuple[KernelUse, ...]:
    """The kernels of a step that can be timed one by one, beside products and attention.

    Of a compiled model only what runs outside of it. None where tensor ranks split the model: its kernels are others.
    """
    if settings.layout.tensor_parallel > 1:
        return ()
    names = _Names.of(spec, settings)
    found: dict[tuple[StepKernel, PhaseName], list[tuple[Work, float]]] = defaultdict(list)
    for item in work:
        if item.kind in _NAMED and (item.kind in _OUTSIDE or not settings.compile):
            kernel, calls = _NAMED[item.kind](names, item)
            found[kernel, item.phase].append((item, calls * item.instances))
    return tuple(_use(kernel, phase, several) for (kernel, phase), several in found.items())


def _use(kernel: StepKernel, phase: PhaseName, several: Sequence[tuple[Work, float]]) -> KernelUse:
    calls = sum(times for _, times in several)
    total_bytes = sum(item.total.moved_bytes for item, _ in several)
    return KernelUse(
        kernel=kernel,
        phase=phase,
        calls=calls,
        moved_bytes=total_bytes / calls,
        work=tuple(item for item, _ in several),
    )


_OUTSIDE = frozenset({"cross_entropy", "clip", "optimizer"})
"""What a compiled model leaves to eager kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What names the kernels of a model and a run."""

    spec: ModelSpec
    settings: RunSettings
    tokens: int
    narrow: Dtype
    sample: tuple[tuple[int, ...], ...]
    update_bytes: Mapping[str, float]

    @classmethod
    def of(cls, spec: ModelSpec, settings: RunSettings) -> _Names:
        sample = sampled_weights(spec)
        share = sum(map(math.prod, sample)) / parameters(spec).total
        ops = [op for op in training_step_ops(spec, settings) if op.update.moved_bytes]
        return cls(
            spec=spec,
            settings=settings,
            tokens=settings.micro_batch * settings.seq_len,
            narrow=settings.dtype if Precision.of(settings.dtype).casts else "fp32",
            sample=sample,
            update_bytes={op.kind: op.update.moved_bytes * share for op in ops},
        )

    def rows(
        self, kind: KernelKind, variant: str, item: Work, *, features: int, dtype: Dtype | None = None
    ) -> StepKernel:
        """A kernel over every token's vector of so many features."""
        sizes = (self.tokens, features)
        return StepKernel(kind, variant, dtype or self.narrow, sizes, _PASS.get(item.direction, item.direction))


def sampled_weights(spec: ModelSpec) -> tuple[tuple[int, ...], ...]:
    """Shapes of weights of the model, of all kinds first and then layer by layer, within ``SAMPLE_ELEMENTS``.

    None of them takes more than half of that: a larger one is cut to its first rows.
    """
    left, chosen = SAMPLE_ELEMENTS, []
    for shape in _by_layer(spec):
        row = math.prod(shape[1:])
        rows = min(shape[0], max(min(left, SAMPLE_ELEMENTS // 2) // row, 0))
        if rows:
            chosen.append((rows, *shape[1:]))
            left -= rows * row
    return tuple(chosen)


def _by_layer(spec: ModelSpec) -> Iterator[tuple[int, ...]]:
    tensors = parameter_tensors(spec)
    for number in range(max(tensor.repeats for tensor in tensors)):
        yield from (tensor.shape for tensor in tensors if number < tensor.repeats)


Named = tuple[StepKernel, float]
"""A kernel, and how often one instance of the work calls it."""


def _embedding(names: _Names, item: Work) -> Named:
    """One kernel for both tables, called for the tokens."""
    spec, settings = names.spec, names.settings
    learned = spec.positions == "learned"
    variant = (PLACED if learned else "tokens") + (TIED if spec.tied_embeddings else "")
    places = (spec.max_seq_len,) if learned else ()
    sizes = (settings.micro_batch, settings.seq_len, spec.d_model, spec.vocab_size, *places)
    kernel = StepKernel("embedding", variant, "fp32", sizes, _PASS.get(item.direction, item.direction))
    return kernel, float(item.label == "embedding.tokens")


def _norm(names: _Names, item: Work) -> Named:
    return names.rows("norm", item.kind, item, features=names.spec.d_model, dtype="fp32"), 1


def _activation(names: _Names, item: Work) -> Named:
    function = names.spec.activation
    variant = "gelu_tanh" if function == "gelu" and not names.spec.stock_encoder else function
    gated = GATED if item.kind == "gated_activation" else ""
    return names.rows("activation", variant + gated, item, features=names.spec.d_ff), 1


def _residual(names: _Names, item: Work) -> Named:
    """One FLOP an element."""
    features = names.spec.d_model
    return names.rows("residual", "add", item, features=features), item.cost.vector_flop / (names.tokens * features)


def _dropout(names: _Names, item: Work) -> Named:
    """Three FLOP an element forward, two backward."""
    features = round(item.cost.vector_flop / (2 if item.direction == "backward" else 3) / names.tokens)
    dtype: Dtype | None = "fp32" if item.label.startswith("embedding") else None
    return names.rows("dropout", "mask", item, features=features, dtype=dtype), 1


def _loss(names: _Names, item: Work) -> Named:
    return names.rows("loss", "cross_entropy", item, features=names.spec.vocab_size), 1


def _rope(names: _Names, item: Work) -> Named:
    spec, settings = names.spec, names.settings
    sizes = (settings.micro_batch, settings.seq_len, spec.heads, spec.kv_heads, spec.head_dim)
    return StepKernel("rope", "halves", names.narrow, sizes, _PASS.get(item.direction, item.direction)), 1


def _update(names: _Names, item: Work, *, kind: KernelKind, variant: str) -> Named:
    """A sample of the weights; so many calls as it takes to move the work's bytes."""
    sizes = (len(names.sample), sum(map(math.prod, names.sample)))
    kernel = StepKernel(kind, variant, "fp32", sizes, "update", names.sample)
    return kernel, item.cost.moved_bytes / names.update_bytes[item.kind]


def _clip(names: _Names, item: Work) -> Named:
    return _update(names, item, kind="clip", variant="norm")


def _optimizer(names: _Names, item: Work) -> Named:
    settings = names.settings
    variant = f"{settings.optimizer}_{settings.optimizer_implementation}"
    return _update(names, item, kind="optimizer", variant=variant)


_NAMED: dict[str, Callable[[_Names, Work], Named]] = {
    "embedding": _embedding,
    "layernorm": _norm,
    "rmsnorm": _norm,
    "activation": _activation,
    "gated_activation": _activation,
    "residual": _residual,
    "dropout": _dropout,
    "cross_entropy": _loss,
    "rope": _rope,
    "clip": _clip,
    "optimizer": _optimizer,
}
"""Row of the op table -> the kernel that stands for it."""
