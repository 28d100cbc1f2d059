"""Claims about the naming contract between model, op table and recorder."""

import pytest

from hwprof.specs.job.labels import label_of, layer_kind, owner_of, plain_path


def test_every_layer_number_becomes_a_star_and_nothing_else_does():
    assert label_of("layers.12.self_attn") == "layers.*.self_attn"
    assert label_of("layers.0.linear1") == "layers.*.linear1"
    assert label_of("embedding.tokens") == "embedding.tokens"


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("layers.*.attention.core", "attention"),
        ("layers.*.self_attn.in_proj", "attention"),
        ("layers.*.attention_norm", "norm"),
        ("layers.*.norm2", "norm"),
        ("final_norm", "norm"),
        ("layers.*.ffn.gate", "ffn"),
        ("layers.*.linear2", "ffn"),
        ("layers.*", "residual"),
        ("layers.*.dropout1", "residual"),
        ("embedding.positions", "embedding"),
        ("head", "head"),
        ("optimizer", "optimizer"),
        ("model", "other"),
    ],
)
def test_label_names_its_layer_kind(label, kind):
    assert layer_kind(label) == kind


def test_op_is_owned_by_its_longest_measured_prefix_then_by_the_model():
    measured = {"layers.*", "layers.*.self_attn", "model"}
    assert owner_of("layers.*.self_attn.in_proj", measured) == "layers.*.self_attn"
    assert owner_of("layers.*.residual", measured) == "layers.*"
    assert owner_of("head", measured) == "model"
    assert owner_of("head", {"layers.*"}) is None


def test_paths_leave_out_what_wraps_and_nothing_else():
    assert plain_path("layers.3._orig_mod.ffn._checkpoint_wrapped_module.up") == "layers.3.ffn.up"
    assert plain_path("_fsdp_wrapped_module") == ""
    assert plain_path("block.module.up") == "block.module.up"
