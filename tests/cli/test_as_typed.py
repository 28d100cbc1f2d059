"""Words, numbers and units are read as people type them, and an answer fits a screen."""

from __future__ import annotations

import shlex

import click
import pytest
from click.testing import CliRunner

from hwprof import cli
from hwprof.cli.deploy.command import command as deploy
from hwprof.cli.mistyped import understood
from hwprof.cli.options import Amount, Devices, Listed, Measured, Word
from hwprof.cli.plan.command import command as plan
from hwprof.cli.plan.fit import command as fit
from hwprof.cli.validate import command as validate
from hwprof.errors import InputError
from hwprof.report.folding import text_width
from hwprof.specs.catalogue.lookup import counted, load_device
from hwprof.units import format_long, parse, parse_typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("15T", 15e12),
        ("15 trillion", 15e12),
        ("15 trillion tokens", 15e12),
        ("300bn", 300e9),
        ("2 million", 2e6),
        ("2 Mio", 2e6),
        ("$2M", 2e6),
        ("US$2m", 2e6),
        ("2M$", 2e6),
        ("50kUSD", 50e3),
        ("50 000", 50e3),
        ("50'000 dollars", 50e3),
        ("$1,500,000", 1.5e6),
        ("1e12", 1e12),
        ("1.5万亿", 1.5e12),
        ("1000亿", 1e11),
        ("50万美元", 5e5),
    ],
)
def test_an_amount(typed, meant):
    assert Amount().convert(typed, None, None) == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("50k€", "money is counted in USD"),
        ("50万元", "money is counted in USD"),
        ("1TT", "15T, 300B or 2.5M"),
        ("5 20", "15T"),
        ("1,0000", "15T"),
        ("0", "no positive number"),
    ],
)
def test_what_is_no_amount_is_refused(typed, said):
    with pytest.raises(click.BadParameter) as refused:
        Amount().convert(typed, None, None)
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("typed", "dimension", "meant"),
    [
        ("60 days", "s", 5_184_000),
        ("2 months", "s", 5_184_000),
        ("1 Year", "s", 31_536_000),
        ("36 HRS", "s", 129_600),
        ("5mw", "watt", 5e6),
        ("700w", "watt", 700),
        ("24gb", "byte", 24e9),
        ("24G", "byte", 24e9),
        ("24 gib", "byte", 25_769_803_776),
        ("2 GB/s", "byte_per_s", 2e9),
        ("30天", "s", 2_592_000),
        ("3 个月", "s", 7_776_000),
        ("12小时", "s", 43_200),
    ],
)
def test_a_quantity(typed, dimension, meant):
    assert Measured(dimension, "quantity", "x").convert(typed, None, None) == meant


def test_bits_and_bytes_a_second_are_not_confused():
    assert (parse("8 Gb/s", "byte_per_s"), parse("8 GB/s", "byte_per_s")) == (1e9, 8e9)
    with pytest.raises(InputError):
        parse_typed("8 gb/s", "byte_per_s")


def test_capitals_do_not_matter_in_words_that_are_chosen():
    assert Listed(Word(["lora", "qlora"])).convert("LoRA,QLoRA", None, None) == ("lora", "qlora")


@pytest.mark.parametrize(("typed", "meant"), [("2x8", 16), ("4 x 8", 32), ("16", 16), ("1,024", 1024)])
def test_a_number_of_devices(typed, meant):
    assert Devices().convert(typed, None, None) == meant


@pytest.mark.parametrize(
    ("typed", "count", "device"),
    [
        ("2x8xh100", 16, "h100-sxm5-80gb"),
        ("h100x8", 8, "h100-sxm5-80gb"),
        ("3090x2", 2, "rtx-3090"),
        ("A100 80GB x 4", 4, "a100-sxm4-80gb"),
        ("2 nodes of 8 H100", 16, "h100-sxm5-80gb"),
        ("two machines with eight h100s", 16, "h100-sxm5-80gb"),
        ("8 H100 GPUs", 8, "h100-sxm5-80gb"),
        ("7900 XTX", None, "rx-7900-xtx"),
        ("rtx4090", None, "rtx-4090"),
        ("RTX 4090 24GB", None, "rtx-4090"),
        ("L40S", None, "l40s"),
        ("MacBook M3 Max", None, "apple-m3-max"),
    ],
)
def test_devices_and_how_many(typed, count, device):
    found, name = counted(typed)
    assert (found, load_device(name).id) == (count, device)


def test_a_card_of_another_size_is_not_taken_for_this_one():
    with pytest.raises(InputError, match="not in the catalogue"):
        load_device("RTX 4090 48GB")


def test_a_size_of_memory_in_place_of_a_device_says_where_it_goes():
    with pytest.raises(InputError, match="`hwprof fit --memory 24GB`"):
        load_device("24GB")


@pytest.mark.parametrize(
    ("command", "typed", "read"),
    [
        (plan, "--gpus 64 --context 128k", "--devices 64 --seq-len 128k"),
        (
            plan,
            "--model 8b --deadline 30 days --tokens=15 trillion",
            "--model 8b --deadline '30 days' '--tokens=15 trillion'",
        ),
        (plan, "70b --hardware RTX 4090", "--model 70b --hardware 'RTX 4090'"),
        (plan, "--model 70b --devices 2x8xh100", "--model 70b --hardware 2x8xh100"),
        (plan, "--hardware h100 --devices 2x8xh100", "--hardware h100 --devices 2x8xh100"),
        (plan, "--devices 2x8", "--devices 2x8"),
        (plan, "--json --tokens 1T", "--format json --tokens 1T"),
        (plan, "--modl 8b", "--modl 8b"),
        (plan, "--batch 64", "--global-batch 64"),
        (fit, "--batch 2 --seq 2k", "--batch-size 2 --seq-len 2k"),
        (plan, "--batch-size 64", "--batch-size 64"),
        (fit, "--vram 24gb --model 8b", "--memory 24gb --model 8b"),
        (deploy, "--context 8k", "--context 8k"),
        (deploy, "--rps 5 --max-new-tokens=64", "--qps 5 --new-tokens=64"),
        (validate, "--serving --format json", "--serving --format json"),
        (validate, "--kernels my points.csv --json", "--kernels 'my points.csv' --format json"),
    ],
)
def test_words_of_other_tools_and_of_a_hurry_are_understood(command, typed, read):
    assert understood(shlex.split(typed), command) == shlex.split(read)


def test_what_was_understood_is_said_beside_the_answer():
    found = CliRunner().invoke(cli.cli, ["count", "gpt2", "--inference", "--context", "1k", "--json"])
    assert found.exit_code == 2  # prompt and answer are in the context
    found = CliRunner().invoke(cli.cli, ["count", "gpt2", "--context", "1k"])
    assert found.stderr == "hwprof: read as `hwprof count --model gpt2 --seq-len 1k`\n"
    found = CliRunner().invoke(cli.cli, ["count", "gpt2", "--seqlen", "1k"])
    assert found.stderr == "hwprof: read as `hwprof count --model gpt2 --seq-len 1k`\n"
    assert found.stdout.startswith("124.4 M parameters; ")


@pytest.mark.parametrize(
    "words",
    [
        "count --model 8b --tp 2 --dp 4",
        "simulate --model 70b --hardware 64xh100 --tp 8 --pp 8 --global-batch 256",
        "fit --model 3b --hardware a100",
    ],
)
def test_an_answer_fits_a_screen(words):
    """Those of plans, fine-tunings and serving are looked at in Chinese: tests/report/test_chinese_sentences.py."""
    found = CliRunner().invoke(cli.cli, shlex.split(words))
    lines = found.stdout.splitlines()
    assert found.exit_code == 0
    assert len(lines) <= 24
    assert max(map(text_width, lines)) <= 80


def test_a_training_of_minutes_is_not_told_in_days():
    assert [format_long(each) for each in (843.0, 7_200.0, 86_400.0, 12.0)] == [
        "14.1 minutes",
        "2 hours",
        "1 days",
        "12 s",
    ]


@pytest.mark.parametrize(
    ("degrees", "reason", "change"),
    [
        (
            "--ep 8 --tp 3",
            "No: --tp 3 does not divide 8 devices (nearest: 2 and 4); --ep 8: llama-3.1-8b has no experts",
            "--tp 4 --ep 1",
        ),
        ("--vp 5 --pp 2", "No: --vp 5: 32 layers do not divide by 10 pipeline chunks", "--vp 4"),
        ("--tp 4 --dp 4", "No: degrees that make 16 together do not make up 8 devices", "--tp 2"),
    ],
)
def test_degrees_that_do_not_go_together_are_named_with_the_nearest_that_do(degrees, reason, change):
    asked = "plan --model 8b --hardware h100 --devices 8 --global-batch 64"
    found = CliRunner().invoke(cli.cli, [*asked.split(), *degrees.split()])
    assert found.exit_code == 1
    text = " ".join(found.stdout.split())
    assert text.startswith(reason)
    assert f"nearest change: {change} (a step then takes" in text
