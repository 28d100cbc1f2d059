"""Models that contradict themselves are refused with the numbers of the file."""

from __future__ import annotations

import pytest
from made_up_model import made_up_model
from pydantic import ValidationError

from hwprof.specs.catalogue.lookup import load_model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 6, "kv_heads": 4}, "heads = 6 must be a multiple of kv_heads = 4"),
        ({"positions": "rope", "head_dim": 7}, "head_dim = 7 must be even for rope"),
        ({"positions": "relative"}, "positions = 'relative', but relative_buckets = 0"),
        ({"vocab_size": 0}, "vocab_size = 0, but the model reads tokens"),
        ({"kind": "encoder_decoder"}, r"there is no \[encoder\] table"),
        ({"kind": "vit"}, r"there is no \[vision\] table"),
        ({"attention": {"nope_layers": 99}}, "attention.nope_layers = 99 is more than layers"),
        ({"block": "parallel", "norm_placement": "post"}, "goes with norm_placement 'pre', not 'post'"),
        ({"kind": "encoder", "mtp_layers": 1}, "mtp_layers = 1, but only a decoder has them"),
    ],
)
def test_a_contradiction_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        made_up_model(**changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("deepseek-v3", {"head_dim": 100}, "must be nope_dim"),
        ("deepseek-v3", {"kv_heads": 64}, "kv_heads = 64 must be heads = 128"),
        ("mixtral-8x7b", {"layers": 2, "moe": {"dense_layers": 2}}, "no layer has experts"),
        ("vit-b-16", {"max_seq_len": 10}, "max_seq_len = 10, but an image has"),
        ("vit-b-16", {"vocab_size": 10}, "a vit has no vocabulary"),
    ],
)
def test_a_released_model_with_one_wrong_number_is_refused(name, changes, message):
    spec = load_model(name)
    fields = spec.model_dump()
    for key, value in changes.items():
        fields[key] = fields[key] | value if isinstance(value, dict) else value
    with pytest.raises(ValidationError, match=message):
        type(spec).model_validate(fields)
