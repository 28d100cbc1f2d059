"""``hwprof count``: its JSON contract, its text, its errors, its speed of starting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwprof.cli.count.command import command

GPT2 = ("--model", "gpt2-124m", "--batch-size", "2", "--seq-len", "8")


def counted(*arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_json_keeps_its_contract() -> None:
    count = counted(*GPT2)
    assert count["parameters"] == count["active_parameters"] == 124_439_808
    assert (count["model"], count["batch_size"], count["seq_len"]) == ("gpt2-124m", 2, 8)
    weights = 12 * (768 * 3 * 768 + 768 * 768 + 2 * 768 * 3072) + 768 * 50257
    attention = 12 * 2 * 12 * 4 * 8 * 8 * 64
    assert count["flop"]["forward"] == {
        "full": 2 * 16 * weights + attention,
        "causal": 2 * 16 * weights + attention // 2,
    }
    assert count["flop"]["train"]["full"] == 3 * count["flop"]["forward"]["full"]
    assert count["flop"]["recompute"] == 0
    assert count["bytes"]["total"] == sum(value for key, value in count["bytes"].items() if key != "total")
    assert {"parts", "peak_bytes"} <= count["memory"].keys()
    assert {formula["name"] for formula in count["formulas"]} >= {"6N", "6N + 12LHQT"}


def test_a_model_alone_is_counted_with_one_sequence_of_its_own_length() -> None:
    count = counted("--model", "gpt2")
    assert (count["batch_size"], count["seq_len"]) == (1, 1024)
    assert counted("--model", "8b", "--seq-len", "8k")["seq_len"] == 8192


def test_each_op_is_one_instance_and_all_add_up() -> None:
    count = counted(*GPT2)
    fields = {"label", "kind", "layer_kind", "repeats", "parameters", "forward", "backward", "saved_bytes"}
    costs = {"matmul_flop", "vector_flop", "read_bytes", "write_bytes"}
    for op in count["ops"]:
        assert fields <= op.keys()
        assert all(isinstance(op["forward"][name], int) for name in costs)
    ops = count["ops"]
    assert sum(op["repeats"] * op["forward"]["matmul_flop"] for op in ops) == count["flop"]["forward"]["full"]
    assert sum(op["repeats"] * op["parameters"] for op in ops if op["kind"] != "optimizer") == count["parameters"]


def test_an_encoder_decoder_has_two_lengths() -> None:
    t5 = ("--model", "t5-small", "--batch-size", "2", "--seq-len", "24")
    both, shorter = counted(*t5), counted(*t5, "--target-len", "8")
    assert (both["seq_len"], both["target_len"], shorter["target_len"]) == (24, 24, 8)
    assert shorter["flop"]["forward"]["full"] < both["flop"]["forward"]["full"]
    assert both["parameters"] == 60_506_624


def test_an_image_sets_the_sequence() -> None:
    count = counted("--model", "vit-b-16", "--batch-size", "2")
    assert (count["seq_len"], count["target_len"]) == (197, None)
    assert count == counted("--model", "vit-b-16", "--batch-size", "2", "--seq-len", "5")  # with a note


def test_experts_have_active_parameters() -> None:
    count = counted("--model", "mixtral-8x7b", "--batch-size", "1", "--seq-len", "8")
    assert (count["parameters"], count["active_parameters"]) == (46_702_792_704, 12_879_925_248)
    assert sum(count["parameters_by_part"].values()) == count["parameters"]
    per_token = count["per_token"]["forward"]["full"]
    assert per_token * 8 == count["flop"]["forward"]["full"] == count["per_sample"]["forward"]["full"]


def test_recompute_full_runs_the_layers_again() -> None:
    count = counted(*GPT2, "--recompute", "full")
    assert 0 < count["flop"]["recompute"] < count["flop"]["forward"]["full"]
    assert count["flop"]["train"]["full"] == 3 * count["flop"]["forward"]["full"]


def test_a_layout_gives_the_memory_of_every_stage_and_what_comes_on_top() -> None:
    degrees = ("--tp", "2", "--pp", "4", "--dp", "2", "--zero", "1", "--micro-batches", "8")
    memory = counted("--model", "llama-3.1-8b", "--batch-size", "1", "--seq-len", "4096", *degrees)["memory"]
    assert memory["peak_bytes"] == max(memory["stage_bytes"]) == sum(part["bytes"] for part in memory["parts"])
    first, second, third, _ = memory["stage_bytes"]
    assert first > second > third  # 4, 3 and 2 micro-batches under way; the fourth stage has the head
    assert memory["peak_bytes"] < memory["reserved_bytes"] < 1.05 * memory["peak_bytes"]
    assert memory["device_bytes"] == pytest.approx(memory["reserved_bytes"] + memory["libraries_bytes"], abs=1)
    assert (memory["layout"]["tensor_parallel"], memory["micro_batches"]) == (2, 8)


def test_adapters_leave_out_the_gradients_of_frozen_weights() -> None:
    size = ("--model", "llama-2-7b", "--batch-size", "1", "--seq-len", "512")
    whole, lora = counted(*size, "--storage", "mixed"), counted(*size, "--lora-rank", "8", "--qlora")
    assert whole["flop"]["forward"]["full"] < lora["flop"]["forward"]["full"] < 1.01 * whole["flop"]["forward"]["full"]
    assert 2.0 < lora["flop"]["train"]["full"] / whole["flop"]["forward"]["full"] < 2.1
    assert lora["memory"]["peak_bytes"] < whole["memory"]["peak_bytes"] / 8


def test_text_of_a_job_names_its_devices_and_stages() -> None:
    result = CliRunner().invoke(command, [*GPT2, "--pp", "2", "--dtype", "fp8"], catch_exceptions=False)
    for needed in ("fp8", "on each of 2 device(s)", "stages: ", "CUDA and NCCL"):
        assert needed in result.stdout


GENERATION = ("--model", "llama-2-7b", "--batch-size", "2", "--inference", "--prompt-len", "100", "--new-tokens", "28")


def test_inference_has_the_cache_and_the_bounds_of_a_device() -> None:
    count = counted(*GENERATION, "--hardware", "h100-sxm")
    assert (count["prompt_tokens"], count["new_tokens"], count["source_tokens"]) == (100, 28, 0)
    found = count["inference"]
    # keys and values of 32 layers of 4096 in 2 bytes, for 2 sequences; the last token's are never read
    assert found["kv_cache_bytes"] == 2 * 127 * 32 * 2 * 4096 * 2
    assert found["kv_cache"]["first_token_bytes"] == 32 * 2 * 4096 * 2
    assert found["decode"]["passes"] == 27
    weights_bytes = 2 * (6_738_415_616 - 32000 * 4096)  # of the embedding a few rows are read
    assert found["decode"]["first_step"]["least_bytes"] == pytest.approx(weights_bytes + 2 * 101 * 2**19, rel=1e-3)
    bound = found["bound"]["last_step"]
    assert bound["roof"] == "memory"
    assert bound["lower_s"] == pytest.approx(found["decode"]["last_step"]["least_bytes"] / 3.35e12)
    text = CliRunner().invoke(command, [*GENERATION, "--hardware", "h100-sxm"], catch_exceptions=False).stdout
    for needed in ("inference of 2 x (100 prompt + 28 new) tokens", "key-value cache", "memory-bound"):
        assert needed in text


def test_module_has_the_fields_of_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one_linear.py").write_text("import torch\n\ndef layer():\n    return torch.nn.Linear(64, 32)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = ("--module", "one_linear:layer", "--input", "8x64:float32")
    count = counted(*module)
    assert count["parameters"] == count["trainable_parameters"] == 64 * 32 + 32
    # backward makes the weight's gradient alone: the input needs none
    forward, train = 2 * 8 * 64 * 32, 2 * 2 * 8 * 64 * 32
    assert count["flop"] == {
        "forward": {"full": forward, "causal": forward},
        "train": {"full": train, "causal": train},
        "recompute": 0,
    }
    assert count["bytes"].keys() == {"forward", "backward", "recompute", "total"}
    assert count["memory"]["weights_bytes"] == 4 * (64 * 32 + 32)
    assert count["ops"][0].keys() == counted(*GPT2)["ops"][0].keys()
    assert "kept from forward to backward" in CliRunner().invoke(command, module, catch_exceptions=False).stdout
    assert count["notes"] == []


def test_code_that_a_module_brings_from_the_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "__init__.py").write_text("import torch\nfrom layers import sizes\n")
    (tmp_path / "layers" / "sizes.py").write_text("WIDTH = 64\n")
    (tmp_path / "own_layer.py").write_text("import layers\nbuild = lambda: layers.torch.nn.Linear(64, 32)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    module = ("--module", "own_layer:build", "--input", "8x64:float32")
    named = "code of the working directory was imported and run: layers/__init__.py, layers/sizes.py, own_layer.py"
    result = CliRunner().invoke(command, [*module, "--format", "json"], catch_exceptions=False)
    assert json.loads(result.stdout)["notes"] == [named]
    assert named in result.stderr


def test_text_names_parameters_flop_and_memory_with_units() -> None:
    result = CliRunner().invoke(command, [*GPT2, "--verbose"], catch_exceptions=False)
    assert result.stdout.startswith("124.4 M parameters; ")
    assert "gpt2-124m: 124,439,808 parameters" in result.stdout.splitlines()[1]
    for needed in ("FLOP", "memory at its peak", "6N + 12LHQT", "optimizer state", "MB"):
        assert needed in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "gpt2-124m", "--batch-size", "0", "--seq-len", "8"), "'--batch-size': 0 is not in the range"),
        (("--model", "gpt2-124m", "--batch-size", "2", "--seq-len", "-5"), "'--seq-len': -5 is not in the range"),
        (("--model", "gpt2-124m", "--batch-size", "2", "--seq-len", "1025"), "learned positions end at 1024"),
        (("--model", "gpt2-125m", "--batch-size", "2", "--seq-len", "8"), "did you mean"),
        ((*GPT2, "--target-len", "4"), "only an encoder-decoder has a target sequence"),
        ((*GPT2, "--dtype", "int3"), "'int3' is not one of"),
        ((*GPT2, "--tp", "5"), "12 heads do not divide by tensor parallel 5"),
        ((*GPT2, "--vp", "2"), "there is one pipeline stage"),
        ((*GPT2, "--qlora"), "add --lora-rank"),
        ((*GPT2, "--mla", "naive"), "--mla does not go here; it goes with --inference alone"),
        ((*GENERATION, "--tp", "2"), "--tp does not go here; it goes with a training step of --model"),
        ((*GENERATION, "--optimizer", "lion"), "--optimizer lion does not go here"),
        ((*GENERATION, "--compile"), "--compile does not go here; bytes are those of eager kernels"),
        ((*GENERATION, "--mla", "naive"), "llama-2-7b has no latent attention"),
        ((*GENERATION[:5], "--new-tokens", "4"), "--prompt-len is missing"),
        (("--module", "a:b", "--recompute", "full"), "--recompute does not go with --module"),
        ((*GPT2, "--device", "cpu"), "--device goes with --module alone"),
        (("--module", "a:b", "--input", "8x3:float32", "--tp", "2"), "--tp does not go here"),
        (("--model", "whisper-large", "--batch-size", "1", "--seq-len", "1500"), "decoder of whisper-large-v2 can't"),
    ],
)
def test_wrong_input_is_exit_code_2_and_says_what_was_expected(
    failed: Callable[..., tuple[int, str]], arguments: tuple[str, ...], message: str
) -> None:
    code, error = failed("count", *arguments)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_a_sequence_beyond_the_models_own_is_noted_on_stderr_only() -> None:
    result = CliRunner().invoke(
        command,
        ["--model", "llama-2-7b", "--batch-size", "1", "--seq-len", "4097", "--format", "json"],
        catch_exceptions=False,
    )
    assert "4097 tokens are more than the 4096" in result.stderr
    assert json.loads(result.stdout)["seq_len"] == 4097


def test_counting_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['hwprof', 'count', '--model', 'tiny', '--batch-size', '1', '--seq-len', '8'];"
        "import atexit; atexit.register(lambda: print(sorted(heavy & sys.modules.keys()), file=sys.stderr));"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'rich', 'jinja2'};"
        "from hwprof.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
