"""Files with something wrong in them are refused in one line, or read: never a traceback, never a hang."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from made_up_record import made_up_record
from mutations import mutated, mutated_bytes

from hwprof.cli.count.command import command as count
from hwprof.cli.trace import command as trace
from hwprof.cli.validate import command as validate
from hwprof.cli.view import command as view
from hwprof.errors import HwprofError
from hwprof.report.files.run import record_text

ROOT = Path(__file__).resolve().parents[2]
EVENTS = json.loads(gzip.decompress((ROOT / "reports" / "example" / "trace.json.gz").read_bytes()))["traceEvents"][:300]
MODEL = ROOT / "models" / "mixtral-8x7b.toml"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "tie_word_embeddings": False,
}
COUNT = ("--batch-size", "1", "--seq-len", "8", "--format", "json", "--model")
PACKED = ROOT / "hardware_specs" / "published" / "measurements.csv.xz"
ROWS = b"".join(lzma.decompress(PACKED.read_bytes()).splitlines(keepends=True)[:4])


def _run_file(path, random):
    record = mutated(json.loads(record_text(made_up_record())), random)
    (path / "run.json").write_text(json.dumps(record), encoding="utf-8", errors="surrogatepass")
    return view, (str(path), "--no-write")


def _torn_run_file(path, random):
    (path / "run.json").write_bytes(mutated_bytes(record_text(made_up_record()).encode(), random))
    return view, (str(path), "--no-write")


def _trace(path, random):
    (path / "trace.json").write_text(json.dumps(mutated({"traceEvents": EVENTS}, random)), errors="surrogatepass")
    return trace, (str(path / "trace.json"), "--format", "json")


def _config(path, random):
    (path / "config.json").write_text(json.dumps(mutated(CONFIG, random)), errors="surrogatepass")
    return count, (*COUNT, str(path / "config.json"))


def _model(path, random):
    (path / "model.toml").write_bytes(mutated_bytes(MODEL.read_bytes(), random))
    return count, (*COUNT, str(path / "model.toml"))


def _table(path, random):
    (path / "rows.csv").write_bytes(mutated_bytes(ROWS, random))
    return validate, ("--data", str(path / "rows.csv"), "--format", "json")


@pytest.mark.parametrize("made", [_run_file, _torn_run_file, _trace, _config, _model, _table])
def test_a_file_with_something_wrong_is_read_or_refused(each_try, made):
    with each_try(made.__name__.strip("_").replace("_", " "), 1) as (tries, ends):
        for random, folder in tries:
            command, arguments = made(folder, random)
            error = CliRunner().invoke(command, arguments).exception
            refused = isinstance(error, HwprofError | ClickException)
            assert error is None or refused or isinstance(error, SystemExit), f"{ends.total() + 1}: {error!r}"
            ends["refused" if refused else "read"] += 1
    assert ends["refused"] > 0
