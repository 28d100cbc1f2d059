"""One key of a small configuration changed: what is captured never differs from the module that it stands for."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from other_types import OTHER_TYPES
from small_transformers import multiplied, transformers
from torch.utils._pytree import tree_leaves

from hwprof.count.blocks.parameters import parameters
from hwprof.count.blocks.transformer import Precision, model_ops
from hwprof.count.job.totals import total_cost
from hwprof.measure.capture.inputs import Asked, inputs_of
from hwprof.session.captured import Shapes, counted_model

BATCH, LENGTH = 2, 16
KINDS = (
    *("state space 2", "state space beside attention", "gated delta", "lightning attention", "short convolution"),
    *("disentangled attention", "shared layers", "bias in every layer", "windows of images", "convolutions"),
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """A type, its class, and keys of which one is doubled, halved or one more, or the other truth value."""
    kind, name, keys = OTHER_TYPES[draw(st.sampled_from(KINDS))]
    whole = {key: value for key, value in keys.items() if isinstance(value, int) and not key.endswith("token_id")}
    key = draw(st.sampled_from(sorted(whole)))
    value = whole[key]
    other = not value if isinstance(value, bool) else draw(st.sampled_from([2 * value, max(value // 2, 1), value + 1]))
    return kind, name, keys | {key: other}


def witness(kind: str, name: str, keys: dict[str, Any]) -> tuple[int, int, int] | None:
    """Parameters, forward and training FLOP of the module; None where its class refuses the keys."""
    try:
        config = transformers.CONFIG_MAPPING[kind](**keys)
        config._experts_implementation = config._attn_implementation = "eager"
        module = getattr(transformers, name)._from_config(config).eval()
        inputs = inputs_of(module, Asked(batch_size=BATCH, seq_len=LENGTH), name)
        forward, output = multiplied(lambda: module(**inputs))
    except Exception:  # noqa: BLE001 (whatever a class raises)
        return None
    logits = output.get("logits")
    roots = [each for each in tree_leaves(output if logits is None else logits) if isinstance(each, torch.Tensor)]
    backward = multiplied(lambda: torch.autograd.backward(roots, [torch.ones_like(root) for root in roots]))[0]
    return sum(each.numel() for each in module.parameters()), forward, forward + backward


@settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_a_changed_key_counts_as_the_module_does(changed: tuple[str, str, dict[str, Any]]) -> None:
    kind, name, keys = changed
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        expected = witness(kind, name, keys)
        assume(expected is not None)
        path = Path(folder) / "config.json"
        path.write_text(json.dumps({"model_type": kind, "architectures": [name], **keys}))
        spec = counted_model(str(path), Shapes(batch_sizes=(BATCH,), seq_len=LENGTH, dtype="fp32"))
    sides = {"target_len": LENGTH} if spec.two_sided else {}
    ops = model_ops(spec, batch_size=BATCH, seq_len=LENGTH, precision=Precision.of("fp32"), **sides)
    totals = [total_cost(ops, *ways).matmul_flop for ways in (("forward",), ("forward", "backward"))]
    assert (parameters(spec).total, *totals) == expected
