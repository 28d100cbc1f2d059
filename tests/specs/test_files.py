"""Data folders are found in a wheel and in a checkout; a written file is complete or absent."""

import errno
import os
import tomllib
from pathlib import Path

import pytest

from hwprof.errors import InputError, WorkError
from hwprof.specs import files
from hwprof.specs.reading import json_of


def data_in(root):
    for name in ("models", "hardware_specs"):
        (root / name).mkdir(parents=True)
    return root


def test_an_installed_package_uses_the_data_that_it_carries(tmp_path):
    package = tmp_path / "site-packages" / "hwprof"
    data_in(package / "_data")
    data_in(tmp_path / "site-packages")
    assert files.builtin_root(package) == package / "_data"


def test_a_checkout_uses_its_top_level_folders(tmp_path):
    package = tmp_path / "checkout" / "hwprof"
    package.mkdir(parents=True)
    data_in(tmp_path / "checkout")
    assert files.builtin_root(package) == tmp_path / "checkout"


def test_missing_data_says_to_install_again(tmp_path):
    with pytest.raises(WorkError, match="install hwprof again"):
        files.builtin_root(tmp_path / "hwprof")


def test_the_wheel_puts_the_data_where_the_package_looks():
    checkout = Path(__file__).parents[2]
    wheel = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"models": "hwprof/_data/models", "hardware_specs": "hwprof/_data/hardware_specs"}


def test_folders_of_the_path_variable_follow_the_builtin_ones(tmp_path, monkeypatch):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("HWPROF_PATH", f"{first}{os.pathsep}{second}{os.pathsep}")
    assert files.data_roots()[1:] == (first, second)


def test_naming_the_builtin_folder_again_does_not_double_it(monkeypatch):
    monkeypatch.setenv("HWPROF_PATH", str(files.builtin_root(files.PACKAGE)))
    assert len(files.data_roots()) == 1


def test_a_path_variable_that_names_no_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"HWPROF_PATH names .*none.*not a folder"):
        files.data_roots()


@pytest.mark.parametrize(("content", "expected"), [("µs\n", b"\xc2\xb5s\n"), (b"\x00\xff", b"\x00\xff")])
def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path, content, expected):
    target = tmp_path / "run.json"
    files.write_atomically(target, content)
    assert target.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    target = tmp_path / "run.json"
    target.write_text("old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(WorkError, match=r"cannot write .*run.json: No space left on device; free space"):
        files.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_leaves_no_partial_file(tmp_path, monkeypatch):
    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "run.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(WorkError, match=r"cannot write .*none/run.json"):
        files.write_atomically(tmp_path / "none" / "run.json", "new")


def test_a_written_file_has_the_rights_that_the_umask_gives(tmp_path):
    target = tmp_path / "run.json"
    files.write_atomically(target, "new")
    plain = tmp_path / "plain"
    plain.write_text("new")
    assert target.stat().st_mode == plain.stat().st_mode


def test_of_a_file_that_is_not_there_nothing_is_to_be_corrected(tmp_path):
    with pytest.raises(InputError, match=r"config\.json does not exist; give the path of a file that is there"):
        json_of(tmp_path / "config.json", remedy="correct the file")
