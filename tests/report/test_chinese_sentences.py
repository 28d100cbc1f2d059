"""Is there Chinese for every sentence that plans, fine-tunings and servers put before a reader?"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from sentences import sentences

from hwprof import cli
from hwprof.plan.advice.loops import in_torch
from hwprof.plan.advice.operations import advice_for
from hwprof.report.chinese import WORDS, phrase
from hwprof.report.folding import text_width
from hwprof.specs.job.settings import BoundClass, LayerKind

ROOT = Path(__file__).resolve().parents[2] / "hwprof"
FOLDERS = ("report/plan", "report/deploy", "plan/answer", "plan/space", "plan/fit", "plan/goodput")
OF_RUNS = ("step_figures", "headline", "absence", "columns", "settings_words", "text", "in_chinese")
MODULES = [
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))),
    *(
        ROOT / name
        for name in (
            *("cli/plan/question.py", "deploy/space.py", "deploy/decision.py", "simulate/prediction.py"),
            *("trace/findings.py", "trace/stragglers.py", "compare/diff.py", "compare/sides.py", "report/diff_text.py"),
            *("report/trace/tables.py", "report/trace/text.py", "report/trace/in_chinese.py"),
            *("predict/classify.py", "predict/ranks/waits.py", "predict/ranks/watched.py"),
        )
    ),
    *sorted((ROOT / "plan" / "advice").glob("*.py")),
    *(ROOT / "report" / "run" / f"{name}.py" for name in OF_RUNS),
]
KEPT = {
    *("MFU", "HFU", "USD", "ZeRO", "CO", "LoRA", "QLoRA", "PUE", "TDP", "DGX", "QM", "IEA", "Electricity", "Uptime"),
    *(
        "Institute",
        "TRL",
        "axolotl",
        "DIR",
        "NAME",
        "GB",
        "MB",
        "kWh",
        "hwprof",
        "fit",
        "model",
        "hardware",
        "token",
        "tokens",
    ),
    *(
        "bit",
        "Ulysses",
        "BLOOM",
        "autocast",
        "logits",
        "fp",
        "bf",
        "PyTorch",
        "Llama",
        "MegaScale",
        "kW",
        "MW",
        "MWh",
        "Wh",
        "ms",
    ),
    *("worker", "workers", "DataLoader", "CUDA", "GPU", "CPU", "NUMA", "Python", "NVMe", "DDP", "FSDP", "JSON", "DRAM"),
    *("foreach", "fused", "softmax", "nonzero", "loss", "dtype", "sgd", "adafactor", "trace", "FLOP", "Nsight", "diff"),
    *("tp", "cp", "pp", "dp", "ep", "vp", "mb", "cudnn", "megatron"),
}
"""Names, units and options, which are the same in every language."""


CODE = re.compile(
    r"--[\w-]+( [A-Za-z-]+)?|[\w.]+(-[\w.]+)+|\.?\w+(\.\w+)+(\([^)]*\))?|\.?\w+\([^)]*\)"
    r"|\.\w+|\w+=[\w.:]+|\w*_\w*|\w*\d\w*"
)
"""Options, names with hyphens or dots, calls, settings and numbers."""


def english(text: str) -> set[str]:
    """Words of a text that are left in English."""
    plain = re.sub(CODE, "", text)
    return set(re.findall("[A-Za-z]{2,}", plain)) - KEPT


def said(text: str) -> str:
    """A sentence of the code in Chinese, with numbers in its holes."""
    filled = re.sub(r"(?<=[A-Za-z.])\{\}", "", text).replace("{}", "7")
    return WORDS.get(filled) or WORDS.get(filled.strip()) or phrase(filled)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sentence_of_the_code_has_chinese(module):
    left = {text: english(said(text)) for text in sentences(module)}
    assert {text: words for text, words in left.items() if words} == {}


@pytest.mark.parametrize(
    "words",
    [
        "plan --model 8b --hardware h100,4090 --devices 8 --tokens 100B",
        "plan --model 8b --hardware h100 --tokens 1T --deadline 30d",
        "plan --model 8b --hardware h100 --devices 8 --tp 3 --ep 8",
        "fit --model 8b --hardware 4090",
        "deploy --model 8b --hardware 4090,l40s,h100,a100",
        "deploy --model 70b --hardware h100 --tpot 1us",
    ],
)
def test_nothing_of_an_answer_stays_english_and_it_fits_a_screen(words):
    found = CliRunner().invoke(cli.cli, [*shlex.split(words), "--lang", "zh"])
    lines = found.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(text_width, lines)) <= 80
    names = {"llama", "rtx", "huggingface", "full", "all", "vllm"}
    left = {line: english(line) - names for line in lines}
    assert {line: rest for line, rest in left.items() if rest} == {}


@pytest.mark.parametrize("template", ["plan.html.j2", "deploy.html.j2"])
def test_every_text_of_a_page_is_looked_up_in_chinese(template):
    text = (ROOT / "report" / "templates" / template).read_text(encoding="utf-8")
    spoken = re.findall(r"{{ t\(\"([^\"]+)\"\) }}", text)
    assert {one: english(WORDS[one]) for one in spoken if one not in WORDS or english(WORDS[one])} == {}
    bare = re.sub(r"{[{%].*?[%}]}|<[^>]*>", "", text, flags=re.DOTALL)
    assert english(bare) == set()


def test_what_a_prediction_rests_on_is_chinese():
    asked = "plan --model 8b --hardware h100 --devices 8 --global-batch 64 --format json"
    found = CliRunner().invoke(cli.cli, shlex.split(asked))
    options = json.loads(found.stdout)
    lines = {line for option in options["options"] for line in option["rates_basis"]}
    lines |= {line for plan in options["plans"] for line in plan["basis"]}
    assert len(lines) > 8
    left = {line: english(phrase(line)) for line in lines if not line.startswith("price of ")}
    assert {line: words for line, words in left.items() if words} == {}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("What holds it back is arithmetic.", "瓶颈是计算。"),
        ("11.25 k of each device", "每台 11.25 k"),
        (
            "Strong: devices work longer than they wait on all counts looked at, up to 4,096.",
            "强扩展：在所看的台数（至 4,096）上，工作时间都长于等待.",
        ),
        ("cost of the training, middle of the prices [USD]", "训练的费用，价格取中 [USD]"),
    ],
)
def test_a_number_in_a_sentence_stays_whole_and_words_in_it_are_said(text, meant):
    assert phrase(text) == meant


@pytest.mark.parametrize("worded", [str, in_torch], ids=["options", "torch"])
def test_advice_on_operations_is_chinese_in_options_and_in_torch_s_words(worded):
    lines = {
        worded(advice_for(kind, bound, faster=faster, compiled=compiled))
        for kind in get_args(LayerKind)
        for bound in get_args(BoundClass)
        for faster in (None, "bf16")
        for compiled in (False, True)
    }
    left = {line: english(phrase(line)) for line in lines if re.search("[a-z]{3}", line)}
    assert len(left) > 30
    assert {line: words for line, words in left.items() if words} == {}


def test_no_sentence_is_given_twice():
    """Of two, the later one would win in silence."""
    text = (ROOT / "report" / "assets" / "chinese.tsv").read_text(encoding="utf-8")
    for part in re.split("^# .*\n", text, flags=re.MULTILINE):
        keys = [line.split("\t")[0] for line in part.splitlines()]
        assert sorted(keys) == sorted(set(keys))
