"""The search over servers against counting by hand, brute force and laws that hold on any hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from click.testing import CliRunner
from serving_shapes import deployment

from hwprof.cli import cli
from hwprof.deploy.decision import Goals, decided
from hwprof.deploy.engine import engine_file
from hwprof.deploy.settings import settings_of
from hwprof.deploy.space import Demand, layouts, offers_of
from hwprof.plan.answer.cost import rates_of

ASKED = ("deploy", "--model", "70b", "--prompt-len", "1024", "--new-tokens", "512", "--weights", "fp8")


def offers(found, *, most=8, **demand):
    asked = Demand(prompt=1024, new=512, **demand)
    return offers_of(found, "vllm", asked, engine_file(), most_devices=most)


def rows(*more):
    result = CliRunner().invoke(cli, [*ASKED, *more, "--format", "json"])
    return result, json.loads(result.output) if result.output.startswith("{") else None


def test_layouts_of_a_dense_model_have_no_experts_and_no_data_groups():
    assert layouts(deployment(), 4, {}) == [
        (1, 1, 1, 1, 1),
        (1, 1, 1, 1, 2),
        (1, 1, 1, 1, 4),
        (2, 1, 1, 2, 1),
        (2, 1, 1, 2, 2),
        (4, 1, 1, 4, 1),
    ]


def test_layouts_of_experts_spread_them_over_all_ranks_or_share_each():
    found = deployment("gpt-oss-120b", "h200-sxm5-141gb", "bf16")
    assert layouts(found, 2, {"pp": 1}) == [(1, 1, 1, 1, 1), (1, 2, 2, 1, 1), (2, 1, 1, 2, 1), (2, 1, 2, 1, 1)]


def test_what_does_not_fit_is_a_reason():
    found = offers(deployment("llama-3.1-70b", "h100-sxm5-80gb", "bf16"), most=1)
    assert found.offers == ()
    assert found.refused == {"the weights do not fit h100-sxm5-80gb": 1}


def test_more_users_are_slower_and_give_more_tokens():
    found = offers(deployment(), most=8, users=(1, 4, 16, 64), apart=False).offers
    whole = [offer for offer in found if offer.tp == 8]
    assert [offer.users for offer in whole] == [1, 4, 16, 64]
    for few, many in pairwise(whole):
        assert few.tpot_s < many.tpot_s
        assert few.token_per_s < many.token_per_s


def test_little_s_law_holds():
    for offer in offers(deployment(), users=(8, 64)).offers:
        inside_s = offer.ttft_s + 511 * offer.tpot_s
        assert offer.request_per_s * inside_s == pytest.approx(offer.users)


def test_prompts_apart_do_not_slow_tokens():
    found = {(offer.tp, offer.apart): offer for offer in offers(deployment(), users=(64,)).offers if offer.pp == 1}
    assert found[8, True].tpot_s < found[8, False].tpot_s
    assert found[8, True].devices == 8 * (1 + found[8, True].prefillers)


def test_drafts_that_are_taken_make_tokens_cheaper_and_reuse_makes_prompts_cheaper():
    found = deployment("llama-3.1-8b", "h100-sxm5-80gb", "fp8")
    (plain,) = offers(found, most=1, users=(8,), apart=False).offers
    (drafted,) = offers(found, most=1, users=(8,), apart=False, accepted=3.5).offers
    (reused,) = offers(found, most=1, users=(8,), apart=False, reused=0.9).offers
    assert drafted.tpot_s < 0.6 * plain.tpot_s
    assert reused.ttft_s < plain.ttft_s


def test_the_decision_is_what_brute_force_finds():
    found = offers(deployment(), users=(4, 32, 128))
    rates = rates_of(deployment().device, usd_per_hour=2.0)
    goals = Goals(tpot_s=0.03, ttft_s=1.0, qps=20)
    decision = decided([("h100", found, rates)], goals)
    kept = [offer for offer in found.offers if offer.tpot_s <= 0.03 and offer.ttft_s <= 1.0]
    fewest = min(-(-20 // offer.request_per_s) * offer.devices for offer in kept)
    (best,) = decision.services
    assert best.devices == fewest
    assert best.usd_per_hour == (2.0 * best.devices, 2.0 * best.devices)
    assert best.replicas * best.offer.request_per_s >= 20
    ahead = {(offer.token_per_s_per_user, offer.token_per_s_per_device) for offer in decision.front}
    for offer in found.offers:
        mine = offer.token_per_s_per_user, offer.token_per_s_per_device
        assert any(a >= mine[0] and b >= mine[1] for a, b in ahead)


def test_the_command_answers_in_json():
    result, found = rows("--hardware", "h100-sxm,h200", "--ttft", "500ms", "--tpot", "25ms", "--qps", "20")
    assert result.exit_code == 0
    answer = found["answer"]
    assert answer["ttft_s"] <= 0.5
    assert answer["tpot_s"] <= 0.025
    assert answer["replicas"] * answer["requests_per_s"] >= 20
    assert answer["devices"] == answer["replicas"] * answer["devices_per_replica"]
    assert {row["hardware"] for row in found["by_hardware"]} == {"h100-sxm5-80gb", "h200-sxm5-141gb"}
    assert answer["devices"] <= min(one["devices"] for one in found["by_hardware"])
    assert found["cheapest"]["usd_per_hour"] is not None
    for row in found["rows"]:
        assert row["ttft_interval_s"][0] < row["ttft_s"] < row["ttft_interval_s"][1]


def test_what_cannot_be_kept_is_exit_code_1_with_reasons():
    result, found = rows("--hardware", "h100-sxm", "--tpot", "1us")
    assert found["answer"] is None
    assert found["rejected"]["h100-sxm5-80gb"]["slower than the goals"] > 0
    assert "no server" in str(result.exception)


@pytest.mark.parametrize(
    "wrong", [("--weights", "fp3"), ("--ttft", "soon"), ("--engine", "ollama"), ("--hardware", "abacus")]
)
def test_wrong_words_are_refused(wrong):
    asked = [*ASKED, "--hardware", "h100-sxm", *wrong]
    result = CliRunner().invoke(cli, asked)
    assert getattr(result.exception, "exit_code", result.exit_code) == 2


def test_files_are_written_and_open_offline(tmp_path):
    result, _ = rows("--hardware", "h100-sxm", "--output", str(tmp_path), "--csv", str(tmp_path / "own.csv"))
    assert result.exit_code == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "deploy.html",
        "pareto.png",
        "deploy.csv",
        "own.csv",
        "settings/vllm.sh",
        "settings/sglang.sh",
        "settings/trtllm.sh",
        "settings/trtllm.yaml",
    }
    page = (tmp_path / "deploy.html").read_text()
    assert "tokens/s of a device" in page
    assert "https://" not in page.split("<script")[0]


DOCUMENTED = {
    "vllm": """
        tensor-parallel-size pipeline-parallel-size data-parallel-size enable-expert-parallel max-num-seqs
        max-model-len max-num-batched-tokens gpu-memory-utilization kv-cache-dtype no-enable-prefix-caching
        speculative-config
    """,
    "sglang": """
        model-path tp-size pp-size dp-size enable-dp-attention ep-size max-running-requests context-length
        chunked-prefill-size mem-fraction-static kv-cache-dtype disable-radix-cache speculative-algorithm
        speculative-num-steps speculative-eagle-topk speculative-num-draft-tokens
    """,
    "trtllm": """
        backend tp_size pp_size ep_size max_batch_size max_num_tokens max_seq_len extra_llm_api_options
    """,
}
"""Arguments as vLLM (docs.vllm.ai, Engine Arguments), SGLang (docs.sglang.io, Server Arguments) and TensorRT-LLM
(nvidia.github.io/TensorRT-LLM, trtllm-serve) document them."""


def test_settings_have_documented_arguments_alone():
    found = deployment("deepseek-r1", "b200-sxm-180gb", "nvfp4")
    demand = Demand(prompt=1024, new=512, users=(64,), accepted=2.5)
    some = offers_of(found, "sglang", demand, engine_file(), most_devices=16).offers
    for offer in some:
        for settings in settings_of(offer, demand, "nvidia/DeepSeek-R1-0528-FP4"):
            used = {word[2:] for word in settings.command.split() if word.startswith("--")}
            assert used <= set(DOCUMENTED[settings.engine].split())


def test_settings_say_the_layout_as_each_engine_counts_it():
    found = deployment("deepseek-r1", "b200-sxm-180gb", "nvfp4")
    demand = Demand(prompt=1000, new=500, users=(256,), apart=False)
    asked = {"tp": 1, "dp": 8, "ep": 8, "pp": 1}
    (offer,) = offers_of(found, "vllm", demand, engine_file(), most_devices=8, fixed=asked).offers
    vllm, sglang, trtllm = settings_of(offer, demand, "m")
    assert "--tensor-parallel-size 1 --data-parallel-size 8 --enable-expert-parallel --max-num-seqs 32" in vllm.command
    assert "--max-model-len 1568" in vllm.command
    assert "--tp-size 8 --dp-size 8 --enable-dp-attention --ep-size 8 --max-running-requests 256" in sglang.command
    assert "--tp_size 8 --ep_size 8 --max_batch_size 32" in trtllm.command
    assert "enable_attention_dp: true" in trtllm.file_text


def test_two_halves_of_a_batch_are_asked_for_where_an_engine_can():
    found = replace(deployment("deepseek-r1", "b200-sxm-180gb", "nvfp4"), two_batches=True)
    demand = Demand(prompt=1000, new=500, users=(256,), apart=False)
    asked = {"tp": 1, "dp": 8, "ep": 8, "pp": 1}
    (offer,) = offers_of(found, "vllm", demand, engine_file(), most_devices=8, fixed=asked).offers
    vllm, sglang, trtllm = settings_of(offer, demand, "m")
    assert "--enable-dbo" in vllm.command
    assert "--enable-two-batch-overlap" in sglang.command
    assert trtllm.lacks == ("two halves of a batch in turn",)
    words = "deploy --model 8b --hardware h100-sxm --prompt-len 128 --new-tokens 64 --two-batches"
    assert "no experts" in str(CliRunner().invoke(cli, words.split()).exception)


def test_a_cpu_serves_with_the_memory_that_is_said():
    words = "deploy --model 8b --hardware cpu-grace-72c --prompt-len 128 --new-tokens 64 --users 1,4"
    refused = CliRunner().invoke(cli, words.split())
    assert "--device-memory" in str(refused.exception)
    found = json.loads(CliRunner().invoke(cli, [*words.split(), "--device-memory", "480GB", "--format", "json"]).output)
    assert {row["devices"] for row in found["rows"] if row["mode"] == "agg"} == {1}
    assert found["rows"][0]["tpot_s"] > 15e9 / 500e9  # weights at the memory's bandwidth


def test_where_no_server_will_do_the_first_line_says_why_and_what_would():
    asked = ["deploy", "--model", "deepseek-r1", "--hardware", "8xh200"]
    first = CliRunner().invoke(cli, asked).stdout.splitlines()[0]
    assert first == "No: the weights do not fit h200-sxm5-141gb; it works with --weights fp8"
    asked = ["deploy", "--model", "8b", "--hardware", "h100", "--tpot", "1us"]
    assert CliRunner().invoke(cli, asked).stdout.startswith("No: slower than the goals: at best the first token after ")
