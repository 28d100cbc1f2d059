"""Is the first line of each command in ``docs/questions.md`` still the answer that stands there?

Words are as printed; numbers may differ by a tenth, since parameters are fitted anew from time to time.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwprof import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "questions.md"
ROW = re.compile(r"^\| (?P<asked>[^|`]+) \| `hwprof (?P<words>[^`]+)` \|(?P<answer>.*)\|$", re.MULTILINE)
ROWS = [found.groupdict() for found in ROW.finditer(PAGE.read_text(encoding="utf-8"))]
NUMBER = re.compile(r"(?<![\w.-])[0-9][0-9,]*(?:\.[0-9]+)?(?![\w-])")
CONFIG = (
    '{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560, "intermediate_size": 9728,'
    ' "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128,'
    ' "vocab_size": 151936, "tie_word_embeddings": true, "rope_theta": 1000000, "max_position_embeddings": 40960,'
    ' "hidden_act": "silu", "rms_norm_eps": 1e-6}'
)
"""Qwen3-4B's."""


def first_line(words, folder, monkeypatch):
    (folder / "my-model").mkdir()
    (folder / "my-model" / "config.json").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(folder)
    found = CliRunner().invoke(cli.cli, shlex.split(words))
    assert found.exit_code in {0, 1}, found.output
    return found.stdout.splitlines()[0]


def numbers(text):
    return [float(each.replace(",", "")) for each in NUMBER.findall(text)]


SLOW = r"--tokens 100B --budget 20k$|gb200,h200"
"""Searches of several machines; asked by ``make questions``."""


def test_there_are_twenty_questions():
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["asked"])
def test_the_first_line_is_the_answer_that_the_page_has(row, tmp_path, monkeypatch):
    if re.search(SLOW, row["words"]) and not os.environ.get("HWPROF_SLOW"):
        pytest.skip("searches several machines; `make questions` asks it")
    line = first_line(row["words"], tmp_path, monkeypatch)
    if os.environ.get("HWPROF_UPDATE_GOLDEN"):
        text = PAGE.read_text(encoding="utf-8")
        before = f"`hwprof {row['words']}` |{row['answer']}|"
        assert before in text
        PAGE.write_text(text.replace(before, f"`hwprof {row['words']}` | {line} |"), encoding="utf-8")
        return
    assert len(line) <= 80
    assert NUMBER.sub("#", line) == NUMBER.sub("#", row["answer"].strip())
    assert numbers(line) == pytest.approx(numbers(row["answer"]), rel=0.1)
