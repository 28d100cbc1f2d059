"""Tables of measured servers: what is read of them, what is refused, how far off the predictions are."""

from __future__ import annotations

import csv
import json
import lzma

import numpy as np
import pytest
from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.deploy.published import SHIPPED_TABLE, serving_rows
from hwprof.errors import InputError
from hwprof.specs.files import data_roots

ROW = {
    "id": "one",
    "backend": "vllm",
    "model_path": "meta-llama/Llama-3.1-70B",
    "device": "h200-sxm5-141gb",
    "precision": "fp8",
    "mode": "agg",
    "prompt_tokens": "1024",
    "new_tokens": "1024",
    "concurrency": "16",
    "gemm_quant_mode": "fp8",
    "moe_quant_mode": "fp8",
    "tp_size": "8",
    "pp_size": "1",
    "attention_dp_size": "1",
    "moe_tp_size": "8",
    "moe_ep_size": "1",
    "ttft_ms": "",
    "tpot_ms": "",
}


def written(path, *rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_measured_columns_are_not_read_for_a_prediction(tmp_path):
    blank, full = ROW, ROW | {"ttft_ms": "1", "tpot_ms": "99999"}
    found = serving_rows(written(tmp_path / "rows.csv", blank, full))
    assert found.times[0].tolist() == found.times[1].tolist()
    assert np.isfinite(found.times).all()


def test_times_stand_inside_their_intervals_and_fall_with_ranks(tmp_path):
    rows = [ROW | {"tp_size": n, "moe_tp_size": n} for n in ("2", "4", "8")]
    times = serving_rows(written(tmp_path / "rows.csv", *rows)).times
    assert (times[:, 1] < times[:, 0]).all()
    assert (times[:, 0] < times[:, 2]).all()
    assert (np.diff(times[:, 3]) < 0).all()


def test_a_model_may_be_its_config(tmp_path):
    config = {
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "intermediate_size": 28672,
        "vocab_size": 128256,
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    (tmp_path / "Owner--Other_config.json").write_text(json.dumps(config))
    assert serving_rows(written(tmp_path / "hub.csv", ROW | {"model_path": "Owner/Other"})).refused == ("",)
    named = [{"model_path": "mine"}, {"model_path": "mine/config.json"}, {"model_path": json.dumps(config)}, {}]
    found = serving_rows(written(tmp_path / "rows.csv", *(ROW | one for one in named)))
    assert found.refused == ("", "", "", "")
    assert found.times[:3] == pytest.approx(np.tile(found.times[3], (3, 1)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_path": "nobody/no-such-model"}, "no-such-model"),
        ({"device": "abacus"}, "abacus"),
        ({"backend": "ollama"}, "known: vllm, sglang, trtllm"),
        ({"prompt_tokens": "many"}, "prompt_tokens"),
        ({"mode": "sideways"}, "known: agg, disagg"),
        ({"precision": "fp3", "gemm_quant_mode": "", "moe_quant_mode": ""}, "fp3"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_reason(tmp_path, change, reason):
    found = serving_rows(written(tmp_path / "rows.csv", ROW | change, ROW))
    assert reason in found.refused[0]
    assert np.isnan(found.times[0]).all()
    assert np.isfinite(found.times[1]).all()


def test_whether_tokens_are_drafted_is_the_row_s_word_or_the_campaign_s(tmp_path):
    apart = {"mode": "disagg", "model_path": "deepseek-ai/DeepSeek-R1", "backend": "trtllm"}
    degrees = {f"{part}_{name}": "8" for part in ("prefill", "decode") for name in ("tp_size", "moe_tp_size")}
    degrees |= {f"{part}_moe_ep_size": "1" for part in ("prefill", "decode")}
    versions = [{"backend_version": "1.0"}, {"backend_version": "0.8.1.post2"}]
    said = [{"speculative": "mtp"}, {"speculative": "none", "backend_version": "0.8.1.post2"}]
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        names = [*ROW, *degrees, "backend_version", "speculative"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(ROW | apart | degrees | one for one in (*versions, *said))
    plain, mixed, drafts, none = serving_rows(table).times[:, 3]
    assert max(drafts, mixed) < plain
    assert none == plain


@pytest.mark.parametrize("word", ["bfloat16", "fp8_static", "fp8_block", "nvfp4", "w4a16_mxfp4", "w4afp8", "int8_wo"])
def test_words_of_tables_for_formats_are_known(tmp_path, word):
    found = serving_rows(written(tmp_path / "rows.csv", ROW | {"gemm_quant_mode": word, "moe_quant_mode": word}))
    assert found.refused == ("",)


def test_another_table_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("device,seconds\nh100,1\n")
    with pytest.raises(InputError, match="backend"):
        serving_rows(tmp_path / "other.csv")


def test_the_shipped_servers_are_predicted_as_well_as_the_documentation_says():
    result = CliRunner().invoke(cli, ["validate", "--serving", "--format", "json"])
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert (found["rows"], found["coverage"]) == (2415, 1.0)
    assert found["tpot"]["median_abs_pct"] < 12
    assert found["tpot"]["p90_abs_pct"] < 50
    assert found["by_mode"]["agg"]["tpot"]["p90_abs_pct"] < 35
    assert found["ttft"]["median_abs_pct"] < 36
    assert 0.85 < found["tpot"]["interval_coverage"] < 0.96
    assert 0.85 < found["ttft"]["interval_coverage"] < 0.96


def test_rows_come_back_in_order_with_what_is_predicted(tmp_path):
    with lzma.open(data_roots()[0] / SHIPPED_TABLE, "rt") as file:
        some = list(csv.DictReader(file))[::600]
    table = tmp_path / "some.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(some[0]))
        writer.writeheader()
        writer.writerows(some)
    result = CliRunner().invoke(cli, ["validate", "--serving", str(table), "--csv", str(tmp_path / "out.csv")])
    assert result.exit_code == 0
    out = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["id"] for row in out] == [row["id"] for row in some]
    for row in out:
        low, middle, high = (float(row[name]) for name in ("tpot_lo_ms", "predicted_tpot_ms", "tpot_hi_ms"))
        assert low < middle < high
        assert row["refused"] == ""


def test_one_table_at_a_time():
    result = CliRunner().invoke(cli, ["validate", "--serving", "--kernels"])
    assert result.exit_code != 0
    assert "one of them at a time" in str(result.exception)
