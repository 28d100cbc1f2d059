"""Claims about temporary files: those of killed processes go, and nobody else's."""

import os
import subprocess
import sys

import pytest

from hwprof.specs.files import write_atomically
from hwprof.specs.leftovers import owner, scratch_prefix


@pytest.fixture
def _here(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def gone():
    """The owner that a process had which has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return owner().replace(str(os.getpid()), ended.stdout.decode().strip())


@pytest.mark.usefixtures("_here")
def test_folder_of_a_killed_process_goes_with_what_is_in_it(tmp_path, gone):
    kept = [f"hwprof-{owner()}-a", "hwprof-elsewhere-4026531836-999999999-b", "hwprof-mine", "other"]
    for name in (*kept, f"hwprof-{gone}-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trace.json").write_text("{}")
    assert scratch_prefix() == f"hwprof-{owner()}-"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_what_a_killed_process_left_while_it_wrote_a_file_goes_with_the_next_one(tmp_path, gone):
    others = (f".out.csv.{owner()}9.tmp", f".other.csv.{gone}.tmp", ".out.csv.tmp", ".out.csv.mine.tmp")
    for name in (f".out.csv.{gone}.tmp", *others):
        (tmp_path / name).write_text("half")
    (tmp_path / others[0]).unlink()  # the number of a process that may or may not be there
    write_atomically(tmp_path / "out.csv", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*others[1:], "out.csv"))
