"""What was captured once is not captured again, and nobody can tell by the answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from captured_types import saved
from click.testing import CliRunner
from other_types import OTHER_TYPES

from hwprof.cli.count.command import command as count
from hwprof.cli.deploy.command import command as deploy
from hwprof.cli.simulate import command as simulate
from hwprof.session.capturing import kept as store
from hwprof.session.capturing.kept import kept
from hwprof.session.capturing.passes import Pass

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers warns of is its own affair

ASKED = {
    "count": (count, "--batch-size", "2", "--seq-len", "32"),
    "inference": (count, "--inference", "--batch-size", "2", "--prompt-len", "16", "--new-tokens", "4"),
    "simulate": (simulate, "--hardware", "8xh100-sxm", "--seq-len", "32", "--zero", "2"),
    "deploy": (deploy, "--hardware", "h100-sxm", "--prompt-len", "64", "--new-tokens", "16"),
}
AS_A_PROCESS = """
import atexit, sys
from hwprof.cli import main
atexit.register(lambda: print(sorted({"torch", "transformers"} & set(sys.modules)), file=sys.stderr))
main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own: where what is captured is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hwprof" / "captured"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    kind, name, keys = OTHER_TYPES["state space beside attention"]
    (tmp_path / "small").mkdir()
    return saved(tmp_path / "small", kind, name, keys)


@pytest.fixture
def asked(folder: Path, model: Path) -> Callable[..., str]:
    """``asked(*things)``: what was found of them, with how often something was looked for by then."""
    assert not folder.exists()
    times = 0

    def find() -> str:
        nonlocal times
        times += 1
        return f"found {times}"

    return lambda *things: kept(str, model, things, find)


def answer(model: Path, asked: tuple[Any, ...]) -> tuple[str, str]:
    command, *words = asked
    done = CliRunner().invoke(command, (*words, "--model", str(model), "--format", "json"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_what_is_kept_gives_the_same_answer_and_captures_nothing(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {name: answer(model, asked) for name, asked in ASKED.items()}
    assert len(list(folder.iterdir())) > len(ASKED)

    def again(*_args: object, **_keywords: object) -> None:
        raise AssertionError("captured again")

    for where in ("module.capture", "decoding.capture_decoding", "facts.facts_of"):
        monkeypatch.setattr(f"hwprof.measure.capture.{where}", again)
    assert {name: answer(model, asked) for name, asked in ASKED.items()} == first
    with pytest.raises(AssertionError, match="captured again"):
        answer(model, (*ASKED["count"][:-1], "33"))


@pytest.mark.usefixtures("folder")
def test_what_is_kept_needs_neither_torch_nor_transformers(model: Path) -> None:
    first, _ = answer(model, ASKED["count"])
    words = ("count", *ASKED["count"][1:], "--model", str(model), "--format", "json")
    done = subprocess.run([sys.executable, "-c", AS_A_PROCESS, *words], capture_output=True, text=True, check=True)
    assert done.stdout == first
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.usefixtures("folder")
def test_another_file_of_the_same_content_keeps_its_own_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model, ASKED["count"])
    monkeypatch.setattr(Pass, "of", None)
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(model, tmp_path / "other"))
    found = json.loads(answer(other, ASKED["count"])[0])
    assert found["model"] == "other"


def test_each_question_and_each_content_is_one_of_its_own(asked: Callable[..., str], model: Path) -> None:
    assert [asked(1), asked(2), asked(1), asked(2), asked(1, 2)] == [
        "found 1",
        "found 2",
        "found 1",
        "found 2",
        "found 3",
    ]
    model.write_text(model.read_text() + " ")
    assert asked(1) == "found 4"


def test_another_release_is_asked_anew(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of a package that hwprof does not know: classes of transformers run kernels where they are installed."""
    first = asked()
    installed = tmp_path / "installed"
    for version in ("1.0", "1.1"):
        (installed / f"fast_kernels-{version}.dist-info").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(installed))
        store._installed.cache_clear()
        assert asked() != first
        first = asked()
        assert asked() == first
        shutil.rmtree(installed)


def test_what_setuptools_carries_along_is_not_installed(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once something imports it its copies are on the path, but not in the next process."""
    first = asked()
    (tmp_path / "_vendor" / "copied-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "_vendor"))
    assert asked() == first


def test_a_machine_with_a_gpu_is_asked_anew(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidiactl").touch()
    found = []
    for devices in (("none",), (str(tmp_path / "nvidiactl"),)):
        monkeypatch.setattr(store, "_GPUS", devices)
        found.append(asked())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert [*found, asked()] == ["found 1", "found 2", "found 3"]


def test_a_checkout_of_what_is_captured_may_change_at_any_time(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkout" / "timm").mkdir(parents=True)
    (tmp_path / "checkout" / "timm" / "__init__.py").touch()
    (tmp_path / "checkout" / "timm.egg-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
    assert [asked(), asked()] == ["found 1", "found 2"]


def test_changed_code_of_hwprof_is_asked_anew(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "hwprof" / "measure" / "capture.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "hwprof")
    found = []
    for text in ("one = 1", "one = 1", "one = 1.0"):
        if not module.exists() or module.read_text() != text:
            module.write_text(text)
        store._own_code.cache_clear()
        found.append(asked())
    store._own_code.cache_clear()
    assert found == ["found 1", "found 1", "found 2"]


@pytest.mark.parametrize("harm", ["cut", "changed", "another's", "empty", "a folder"])
def test_a_broken_or_foreign_file_is_passed_over_and_written_anew(
    harm: str, asked: Callable[..., str], folder: Path
) -> None:
    asked(1)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    if harm == "another's":
        asked(2)
        (other,) = set(folder.iterdir()) - {file}
        file.write_bytes(other.read_bytes())
    elif harm == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"cut": whole[:-1], "changed": whole.replace(b"found 1", b"found 9"), "empty": b""}[harm])
    found = asked(1)
    assert found not in {"found 1", "found 9"}
    if harm != "a folder":
        assert asked(1) == found


def test_a_folder_that_cannot_be_written_harms_nothing(
    asked: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [asked(), asked()] == ["found 1", "found 2"]

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert asked() == "found 3"


def test_what_cannot_be_found_is_not_kept(folder: Path, model: Path) -> None:
    def refuse() -> str:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept(str, model, (), refuse)
    assert not folder.exists()


@pytest.mark.usefixtures("folder")
def test_another_process_that_is_faster_is_no_trouble(model: Path) -> None:
    def find() -> str:
        return kept(str, model, (), lambda: "the other's")  # which ends meanwhile

    assert kept(str, model, (), lambda: f"not {find()}") == "not the other's"
    assert kept(str, model, (), find) == "not the other's"


def test_two_processes_at_once_read_and_write_whole_files(folder: Path, model: Path) -> None:
    many = 100_000
    program = f"""
from pathlib import Path
from hwprof.session.capturing.kept import kept
for _ in range(50):
    assert kept(str, Path({str(model)!r}), (), lambda: "x" * {many}) == "x" * {many}
    for file in Path({str(folder)!r}).glob("[!.]*"):
        file.unlink(missing_ok=True)
"""
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]


def test_the_oldest_go_where_there_are_too_many(
    asked: Callable[..., str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        asked(number)
        for file in folder.iterdir():  # so that their order does not depend on the clock
            os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns - 10**9))
    sizes = [file.stat().st_size for file in folder.iterdir()]
    monkeypatch.setattr(store, "MOST_BYTES", sum(sizes))
    assert asked(3) == "found 4"
    assert len(list(folder.iterdir())) == 3
    found: list[Any] = [asked(number) for number in (3, 2, 1)]
    assert found == ["found 4", "found 3", "found 2"]
    assert asked(0) == "found 5"
