"""Faults that files once had, one by one, where no other test of a framework names them."""

from __future__ import annotations

import pytest

from hwprof.plan.settings import megatron, torchtitan


def test_groups_of_a_router_are_written_and_of_others_not(launch):
    """DeepSeek-V3's experts stand in 8 groups, of which a token meets 4 (its config.json); Mixtral's in none."""
    layout = {"data_parallel": 16, "expert_parallel": 16}
    routed = megatron.settings_for(launch("deepseek-v3", storage="mixed", layout=layout)).text
    assert "--moe-router-num-groups 8" in routed
    assert "--moe-router-group-topk 4" in routed
    plain = launch("mixtral-8x7b", storage="mixed", layout={"data_parallel": 16, "expert_parallel": 8})
    assert "--moe-router-num-groups" not in megatron.settings_for(plain).text


def test_overlap_of_tensor_traffic_that_no_argument_asked_for_is_said(launch):
    plain = {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 1}, "storage": "mixed"}
    assert any("--tp-comm-overlap" in words for words in megatron.settings_for(launch(**plain)).besides)
    asked = megatron.settings_for(launch(**plain, async_tensor_parallel=True))
    assert "--tp-comm-overlap" in asked.text
    assert not any("--tp-comm-overlap" in words for words in asked.besides)


def test_experts_beside_tensor_ranks_need_sequence_parallelism(launch):
    layout = {"data_parallel": 8, "tensor_parallel": 2, "expert_parallel": 8, "sequence_parallel": False}
    found = megatron.settings_for(launch("mixtral-8x7b", storage="mixed", layout=layout))
    assert "experts beside tensor parallel without sequence parallel" in found.lacks
    assert not found.text


@pytest.mark.parametrize(("model", "flavor"), [("qwen3-30b-a3b", "30B-A3B"), ("qwen3-235b-a22b", "235B-A22B")])
def test_mixtures_of_qwen3_have_the_flavors_of_torchtitan(launch, model, flavor):
    found = torchtitan.settings_for(launch(model, stack="torchtitan"))
    assert f'flavor = "{flavor}"' in found.text


def test_a_balanced_router_without_a_loss_has_its_bias(launch):
    layout = {"data_parallel": 16, "expert_parallel": 16}
    text = megatron.settings_for(launch("deepseek-v3", storage="mixed", layout=layout)).text
    assert "--moe-router-enable-expert-bias" in text
    assert "--moe-aux-loss-coeff" in text


def test_versions_for_which_keys_hold_stand_with_the_framework(launch):
    for module in (megatron, torchtitan):
        assert any(character.isdigit() for character in module.settings_for(launch(storage="mixed")).framework)
