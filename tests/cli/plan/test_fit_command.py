"""``hwprof fit``: the JSON contract, the first line, exit codes, files."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

from hwprof.cli.plan.fit import command
from hwprof.errors import HwprofError
from hwprof.specs.catalogue.lookup import load_model

SMALL = ["--model", "1b", "--batch-size", "1,2", "--seq-len", "512,1k"]


def run(*arguments):
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_json_keeps_the_contract():
    found = json.loads(run(*SMALL, "--hardware", "rtx-4090", "--format", "json").stdout)
    cells = {(row["adaptation"], row["batch_size"], row["seq_len"]) for row in found["rows"]}
    ways = ("full", "full-8bit", "lora", "qlora")
    assert cells == {(way, batch, length) for way in ways for batch in (1, 2) for length in (512, 1024)}
    for row in found["rows"]:
        assert row["interval_bytes"][0] < row["peak_bytes"] < row["interval_bytes"][1]
        assert row["peak_bytes"] < row["device_bytes"]
        assert row["fits"] == (row["device_bytes"] <= found["capacity_bytes"])
        assert row["tokens_per_s"] == pytest.approx(row["batch_size"] * row["seq_len"] / row["step_s"])


def test_memory_alone_has_no_times_and_its_unit_counts():
    """24GB are 24e9 bytes, 24GiB are 25.8e9."""
    found = [
        json.loads(run(*SMALL, "--adaptation", "lora", "--memory", size, "--format", "json").stdout)
        for size in ("24GB", "24GiB")
    ]
    assert [each["capacity_bytes"] for each in found] == [24e9, 24 * 2**30]
    assert found[0]["rows"][0]["step_s"] is None


def test_what_does_not_fit_says_what_would_and_exits_with_1():
    result = run("--model", "8b", "--memory", "24GB", "--adaptation", "full", "--batch-size", "2", "--seq-len", "2048")
    first, *rest = result.stdout.splitlines()
    assert "full does not fit (needs " in first
    assert any("nearest change that works: --adaptation qlora" in line for line in rest)
    assert result.exit_code == 1


def test_the_first_line_is_the_answer(tmp_path):
    result = run(*SMALL, "--hardware", "rtx-4090", "--csv", str(tmp_path / "fit.csv"), "--output", str(tmp_path))
    assert result.exit_code == 0
    first, second, *rest = result.stdout.splitlines()
    assert first == "full-8bit, LoRA and QLoRA fit; full may fit"
    assert second == "  llama-3.2-1b on rtx-4090 (25.34 GB)"
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert any(line.startswith("  LoRA fits, up to ") for line in rest)
    with (tmp_path / "fit.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 16
    assert "load_in_4bit: true" in (tmp_path / "trl.yaml").read_text()
    assert 'adapter: "qlora"' in (tmp_path / "axolotl.yaml").read_text()


def test_without_a_device_the_smallest_are_named():
    found = json.loads(run("--model", "8b", "--adaptation", "qlora", "--format", "json").stdout)["smallest"]
    assert found[0]["devices"] == 1
    assert "rtx-4090" in found[0]["hardware"]
    assert "h100-sxm5-80gb" in found[0]["hardware"]


def test_two_devices_may_be_typed_as_a_cluster():
    one, two = (
        json.loads(run(*SMALL, "--adaptation", "full", "--hardware", name, "--format", "json").stdout)
        for name in ("rtx-4090", "2xrtx-4090")
    )
    assert two["devices"] == 2
    assert two["rows"][0]["peak_bytes"] < one["rows"][0]["peak_bytes"]


def test_a_device_and_its_memory_contradict():
    with pytest.raises(HwprofError, match="--hardware names one"):
        run(*SMALL, "--hardware", "rtx-4090", "--memory", "12GB")


def test_without_a_device_the_first_line_names_the_least_for_each_way():
    first = run("--model", "70b", "--adaptation", "lora,qlora").stdout.splitlines()[0]
    assert first.startswith("LoRA ")
    assert "; QLoRA " in first
    assert len(first) <= 80


def test_without_a_model_the_largest_that_a_device_trains_are_named():
    """10 GB hold a billion parameters in 4 bits ten times over, and not one with 16 bytes each."""
    text = run("--memory", "10GB", "--adaptation", "full,qlora").stdout
    found = json.loads(run("--memory", "10GB", "--adaptation", "full,qlora", "--format", "json").stdout)
    full, narrow = (one["models"] for one in found["largest_models"])
    assert text.startswith(f"full {full[0]['model']}; QLoRA {narrow[0]['model']}\n")
    for models in (full, narrow):
        assert all(one["row"]["device_interval_bytes"][1] <= 10e9 for one in models)
        assert len(models) == 4
    assert load_model(full[0]["model"]).name in {"pythia-410m", "gpt2-medium-355m", "gpt3-350m", "opt-350m"}


def test_memory_needs_a_unit():
    with pytest.raises(HwprofError, match="--memory 24 has no unit; write 24GB"):
        run(*SMALL, "--memory", "24")


def test_memory_may_say_how_many_devices():
    arguments = (*SMALL, "--adaptation", "full", "--format", "json")
    two = json.loads(run(*arguments, "--memory", "2x24GB").stdout)
    assert two == json.loads(run(*arguments, "--memory", "24GB", "--devices", "2").stdout)


def test_neither_a_model_nor_a_device_is_refused():
    with pytest.raises(HwprofError, match="neither a model nor a device"):
        run("--lora-rank", "8")


def test_tokens_of_the_whole_fine_tuning_take_their_time():
    result = run(*SMALL, "--hardware", "4090", "--adaptation", "lora", "--tokens", "10M", "--format", "json")
    for row in json.loads(result.stdout)["rows"]:
        assert row["training_s"] == pytest.approx(10e6 / row["tokens_per_s"])
    first = run(*SMALL, "--hardware", "4090", "--adaptation", "lora", "--tokens", "10M").stdout.splitlines()[0]
    assert first.startswith("LoRA fits, ")
    assert " minutes (" in first


def test_trl_from_1_16_needs_no_whole_logits_and_the_default_stays(tmp_path):
    asked = ["--model", "8b", "--hardware", "rtx-4090", "--adaptation", "qlora", "--seq-len", "2048"]
    plain, trl = run(*asked), run(*asked, "--stack", "trl", "--output", str(tmp_path))
    assert plain.stdout.startswith("QLoRA fits, up to 1 sequence of 2,048 tokens\n")
    assert "loss over whole logits that stay (14 bytes each)" in plain.stdout
    assert "--stack trl (its loss from 1.16 on)" in plain.stdout
    assert trl.stdout.startswith("QLoRA fits, up to 4 sequences of 2,048 tokens\n")
    assert "software: trl, eager, a loss that never holds whole logits" in trl.stdout
    assert "use_liger_kernel: false" in (tmp_path / "trl.yaml").read_text(encoding="utf-8")
