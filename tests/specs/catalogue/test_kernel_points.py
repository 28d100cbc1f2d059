"""Measured kernels as facts: read as they are written, joined with the user's own, refused when they are no table."""

from __future__ import annotations

import gzip
import lzma

import numpy as np
import pytest

from hwprof.errors import SpecError
from hwprof.specs.catalogue.kernel_points import KINDS, kernel_table, read_points
from hwprof.specs.catalogue.lookup import load_device

TEXT = "dtype,m,seconds,source\nbf16,8,0.5,a page\nfp8,16,0.25,a page\n"


def test_a_file_is_columns_of_numbers_and_words(tmp_path):
    plain, zipped, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz", tmp_path / "a.csv.xz"
    plain.write_text(TEXT)
    zipped.write_bytes(gzip.compress(TEXT.encode()))
    packed.write_bytes(lzma.compress(TEXT.encode()))
    for path in (plain, zipped, packed):
        points = read_points(path)
        assert points.seconds.tolist() == [0.5, 0.25]
        assert points.words["dtype"].tolist() == ["bf16", "fp8"]
        assert points.where(points.words["dtype"] == "fp8").numbers["m"].tolist() == [16.0]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("dtype,m\nbf16,8\n", "seconds"),
        ("m,seconds\n8,fast\n", "fast"),
        ("m,seconds\n8,0.5\n16\n", "no table"),
        ("", "cannot read"),
    ],
)
def test_what_is_no_table_is_refused_with_its_name(tmp_path, text, fact):
    path = tmp_path / "odd.csv"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"odd\.csv") as error:
        read_points(path)
    assert fact in str(error.value)


def test_the_users_files_stand_beside_hwprofs_own(tmp_path, monkeypatch):
    before = kernel_table("gemm")
    folder = tmp_path / "hardware_specs" / "kernels" / "gemm"
    folder.mkdir(parents=True)
    (folder / "l4.csv").write_text("dtype,batch,m,n,k,seconds,source\nfp32,1,64,64,64,1e-5,mine\n")
    (folder / "tpu-v4.csv").write_text("dtype,batch,m,n,k,seconds,source\nbf16,1,64,64,64,1e-5,mine\n")
    monkeypatch.setenv("HWPROF_PATH", str(tmp_path))
    after = kernel_table("gemm")
    assert len(after.of("l4")) == len(before.of("l4")) + 1
    assert after.of("tpu-v4").words["source"].tolist() == ["mine"]
    assert before.of("tpu-v4") is None
    assert kernel_table("gemm") is after


def test_shipped_points_are_of_known_devices_and_each_has_a_source():
    rows = {}
    for kind in KINDS:
        for name in kernel_table(kind).devices():
            points = kernel_table(kind).of(name)
            load_device(name)
            assert all(points.words["source"].tolist())
            measured_s = points.seconds[np.isfinite(points.seconds)]  # a training kernel may have its memory alone
            assert (measured_s > 0).all()
            assert kind == "training_ops" or len(measured_s) == len(points)
            rows[kind, name] = len(points)
    assert rows["gemm", "h100-sxm5-80gb"] == 3627
    assert rows["grouped", "a100-sxm4-80gb"] == 575


def test_a_packed_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.csv.xz"
    path.write_bytes(lzma.compress(TEXT.encode())[:20])
    with pytest.raises(SpecError, match="cannot read"):
        read_points(path)
