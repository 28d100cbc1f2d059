"""Tries of faults: how many there are of each kind, and the processes to which they happen."""

import os
import shutil
from collections import Counter
from contextlib import contextmanager
from random import Random

import pytest
from faulty import ROOT, Children

FAULTS = int(os.environ.get("FAULTS", "25"))
"""Broken files of each kind; ``make faults`` tries 3,000. Runs that are disturbed are fewer: each takes a second."""


@pytest.fixture
def each_try(tmp_path, record_property):
    """``with each_try(name, share) as (tries, ends)``: what is drawn from and a folder, for each; ``ends`` are counted.

    Of each kind there are FAULTS / share; where that is none, ``make faults`` tries it.
    """

    @contextmanager
    def each(name, share):
        count = FAULTS // share or pytest.skip("make faults tries it")
        random, ends = Random(name), Counter()

        def tries():
            for number in range(count):
                (tmp_path / str(number)).mkdir()
                yield random, tmp_path / str(number)
                shutil.rmtree(tmp_path / str(number))

        yield tries(), ends
        assert ends.total() == count
        record_property(name, dict(ends))

    return each


@pytest.fixture(scope="session")
def children():
    found = Children()
    yield found
    found.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The smallest model that trains: a run of it takes a second."""
    changes = {"layers": 1, "d_model": 32, "d_ff": 64, "heads": 2, "kv_heads": 2, "head_dim": 16, "name": '"smallest"'}
    lines = (ROOT / "models" / "tiny.toml").read_text().splitlines()
    keys = [line.partition(" = ")[0] for line in lines]
    made = [f"{key} = {changes[key]}" if key in changes else line for key, line in zip(keys, lines, strict=True)]
    path = tmp_path_factory.mktemp("model") / "smallest.toml"
    path.write_text("\n".join(made))
    return path


@pytest.fixture(scope="session")
def run_words(model):
    """``hwprof run`` in its shortest form."""
    small = "--steps 3 --warmup-steps 0 --profiled-steps 1 --eval-batches 1 --micro-batch 1 --seq-len 32 --workers 0"
    return ("run", "--model", str(model), "--device", "cpu", *small.split())
