"""``hwprof validate --kernels``: rows come back in order, seconds are never read, faults are refused by row."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwprof.cli import main
from hwprof.cli.validate import command
from hwprof.predict.kernels import tables

GEMM = """device,dtype,batch,m,n,k,seconds,source,mark
h100,bf16,1,8192,8192,8192,1.4e-3,a page,first
Abacus 9000,bf16,1,64,64,64,1e-5,a page,second
a100-sxm4-80gb,fp8,1,64,64,64,1e-5,a page,third
h100,int3,1,64,64,64,1e-5,a page,fourth
h100,bf16,1,many,64,64,1e-5,a page,fifth
h100,bf16,1,0,64,64,1e-5,a page,sixth
h100,bf16,1,64,64
h100,bf16,1,128,4096,4096,1.5e-5,a page,"eighth, quoted"
"""
FAULTS = [
    "",
    "device 'Abacus 9000' is not in the catalogue",
    "a100-sxm4-80gb has no fp8 peak",
    "dtype 'int3' is unknown",
    "m is 'many'; expected a number above 0",
    "m is '0'; expected a number above 0",
    "the row has 5 cells, the table 9 columns",
    "",
]


@pytest.fixture
def gemm(tmp_path: Path) -> Path:
    path = tmp_path / "gemm.csv"
    path.write_text(GEMM)
    return path


def validated(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(command, [*map(str, arguments), "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_come_back_in_order_with_a_prediction_or_a_reason(gemm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    found = validated("--kernels", gemm, "--csv", out)
    lines = lines_of(out)
    assert list(lines[0]) == [*GEMM.splitlines()[0].split(","), "predicted_s", "lo_s", "hi_s", "refused"]
    assert [line["mark"] for line in lines] == [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "",
        "eighth, quoted",
    ]
    for line, fault in zip(lines, FAULTS, strict=True):
        assert line["refused"].startswith(fault)
        assert bool(line["refused"]) == bool(fault)
        if fault:
            assert line["predicted_s"] == line["lo_s"] == line["hi_s"] == ""
        else:
            assert float(line["lo_s"]) < float(line["predicted_s"]) < float(line["hi_s"])
    assert (found["rows"], found["predicted"], sum(found["refused"].values())) == (8, 2, 6)
    assert found["groups"]["products of training size"]["count"] == 1
    assert found["groups"]["small products"]["count"] == 1
    assert found["basis"]["h100-sxm5-80gb, bf16 products"]["word"] == "measured"


def test_an_h100_multiplies_8192_cubed_as_fast_as_published(gemm: Path, tmp_path: Path) -> None:
    """At 794.5 TFLOP/s, the best that ml-engineering's table found, it takes 1.384 ms."""
    out = tmp_path / "out.csv"
    validated("--kernels", gemm, "--csv", out)
    assert float(lines_of(out)[0]["predicted_s"]) == pytest.approx(1.384e-3, rel=0.08)


def test_seconds_may_be_blank_wrong_or_absent_and_are_never_read(tmp_path: Path) -> None:
    rows = [line.split(",", 8) for line in GEMM.splitlines() if line.startswith(("device", "h100,bf16,1,8192"))]
    texts = {
        "as it is": "\n".join(",".join(row) for row in rows),
        "blank": "\n".join(
            ",".join([*row[:6], "" if number else "seconds", *row[7:]]) for number, row in enumerate(rows)
        ),
        "wrong": "\n".join(
            ",".join([*row[:6], "7" if number else "seconds", *row[7:]]) for number, row in enumerate(rows)
        ),
        "absent": "\n".join(",".join([*row[:6], *row[7:]]) for row in rows),
    }
    said, counted = set(), {}
    for name, text in texts.items():
        path, out = tmp_path / "table.csv", tmp_path / "out.csv"
        path.write_text(text + "\n")
        found = validated("--kernels", path, "--csv", out)
        said.add(lines_of(out)[0]["predicted_s"])
        counted[name] = sum(group["count"] for group in found["groups"].values())
    assert len(said) == 1
    assert counted == {"as it is": 1, "blank": 0, "wrong": 1, "absent": 0}


@pytest.mark.parametrize(
    ("header", "row", "group"),
    [
        ("dtype,tokens,hidden,ffn_hidden,experts,experts_per_token,tp,ep,distribution",
         "bf16,1024,4096,1536,128,8,1,8,balanced", "experts"),
        ("dtype,direction,causal,batch_size,seq_len,heads,kv_heads,head_dim,window",
         "bf16,forward,yes,1,4096,32,8,128,0", "attention from 1,024 tokens"),
        ("batch_size,cache_len,heads,kv_heads,head_dim,window,cache_dtype",
         "8,4096,32,8,128,0,bf16", "decode attention"),
        ("op,dtype,rows,width", "rms_norm,fp16,8192,4096", "elementwise of a million elements"),
        ("link,op,ranks,devices_per_node,bytes", "scale-up,all_gather,8,8,67108864", "collectives over 1 MB"),
    ],
)  # fmt: skip
def test_the_columns_tell_the_kind(tmp_path: Path, header: str, row: str, group: str) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(f"device,{header},seconds\nh100-sxm5-80gb,{row},1e-3\n".encode()))
    found = validated("--kernels", path)
    assert (found["refused"], list(found["groups"])) == ({}, [group])


def test_a_device_of_which_too_little_is_known_is_refused_alone(tmp_path: Path) -> None:
    """An M1 has no link to another, so that nothing can be said of its collectives."""
    path = tmp_path / "table.csv"
    header, row = "device,link,op,ranks,devices_per_node,bytes", "scale-up,all_reduce,2,2,1000000"
    path.write_text(f"{header}\napple-m1,{row}\nh100,{row}\n")
    found = validated("--kernels", path)
    assert found["predicted"] == 1
    assert "the link between devices of apple-m1 is not known" in next(iter(found["refused"]))


@pytest.mark.parametrize("distribution", ["", "zipf", "power_law_-1", "power_law_9"])
def test_a_word_that_is_not_known_is_refused(tmp_path: Path, distribution: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "device,dtype,tokens,hidden,ffn_hidden,experts,experts_per_token,tp,ep,distribution\n"
        f"h100,bf16,1024,4096,1536,128,8,1,8,{distribution}\n"
    )
    found = validated("--kernels", path)
    assert found["predicted"] == 0
    assert "distribution" in next(iter(found["refused"]))


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of a call that ends with exit code 2, without a word on standard output."""
    monkeypatch.setattr(sys, "argv", ["hwprof", "validate", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr()
    assert (stop.value.code, output.out) == (2, "")
    assert "Traceback" not in output.err
    return output.err


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (None, "does not exist"),
        ("", "cannot read"),
        ("device,kernel,provider,direction,metric,unit,x,x_value,value,setting,source\n", "is no table of kernels"),
    ],
)
def test_a_table_of_another_kind_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, fact: str
) -> None:
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    assert fact in refused(monkeypatch, capsys, "--kernels", str(path))


def test_one_table_at_a_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gemm: Path, tmp_path: Path
) -> None:
    assert "one of them at a time" in refused(monkeypatch, capsys, "--kernels", str(gemm), "--data", str(gemm))
    assert "names none" in refused(monkeypatch, capsys, "--kernels", "--csv", str(tmp_path / "out.csv"))


def test_text_shows_errors_who_said_the_times_and_refusals(gemm: Path) -> None:
    result = CliRunner().invoke(command, ["--kernels", str(gemm)])
    assert result.exit_code == 0
    assert "8 rows, 2 predicted (25 %)" in result.stdout
    assert "inside the 90 % interval" in result.stdout
    assert "786 bf16 products measured on h100-sxm5-80gb" in " ".join(result.stdout.split())
    assert "Abacus 9000" in result.stdout


def test_without_a_file_the_shipped_points_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLE_KINDS", [kind for kind in tables.TABLE_KINDS if kind.kind == "grouped"])
    found = validated("--kernels")
    assert (found["rows"], found["predicted"], list(found["groups"])) == (5601, 5601, ["experts"])
    assert found["groups"]["experts"]["median_abs_pct"] < 12
    assert found["basis"]["a100-sxm4-80gb, bf16 experts"]["word"] == "measured"
