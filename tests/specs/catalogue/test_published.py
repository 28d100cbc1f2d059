"""Rows of published runs: what spreadsheets print, what is refused and why."""

from __future__ import annotations

from collections import Counter

import pytest

from hwprof.errors import InputError
from hwprof.specs.catalogue.published import PublishedRun, UnreadableRun, read_published

COLUMNS = "id,model_name,accelerator,n_devices,seq_len,global_batch_seqs"


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "runs.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_cells_become_the_kind_of_their_column(tmp_path):
    text = f"{COLUMNS},tp,sp,step_s,recompute,n_kv_heads\na,llama,H100,8.0,2048,64,2.0, yes ,1.5,full,\n"
    (run,) = read_published(table(tmp_path, text))
    assert isinstance(run, PublishedRun)
    assert (run.n_devices, run.tp, run.sp, run.step_s, run.recompute) == (8, 2, True, 1.5, "full")
    assert run.n_kv_heads is None
    assert run.peak_mem_gib_per_device is None


def test_unknown_columns_and_a_byte_order_mark_are_no_harm(tmp_path):
    text = f"{COLUMNS},weather\na,llama,H100,8,2048,64,sunny\n"
    (run,) = read_published(table(tmp_path, text, encoding="utf-8-sig"))
    assert run.id == "a"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,llama,H100,eight,2048,64", "n_devices is 'eight'"),
        ("a,llama,H100,0,2048,64", "n_devices is '0'"),
        ("a,llama,H100,8,2048.5,64", "seq_len is '2048.5'"),
        ("a,llama,H100,8,,64", "seq_len is blank"),
        ("a,llama,H100,8,2048,nan", "global_batch_seqs is 'nan'"),
        ("a,llama,H100,8,2048,inf", "global_batch_seqs is 'inf'"),
        ("a,,H100,8,2048,64", "model_name is blank"),
        ("a,llama,H100,8", "seq_len is blank"),
    ],
)
def test_a_bad_cell_is_named_and_the_other_rows_are_read(tmp_path, row, reason):
    bad, good = read_published(table(tmp_path, f"{COLUMNS}\n{row}\nb,llama,H100,8,2048,64\n"))
    assert isinstance(bad, UnreadableRun)
    assert (bad.id, good.id) == ("a", "b")
    assert reason in bad.reason


def test_a_row_without_an_id_is_called_by_its_line(tmp_path):
    (bad,) = read_published(table(tmp_path, f"{COLUMNS}\n,llama,H100,8,2048,64\n"))
    assert bad.id == "line 2"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "has no column id, model_name"),
        ("id,model_name\na,b\n", "has no column accelerator, n_devices, seq_len, global_batch_seqs"),
        (COLUMNS + "\n", "has no rows"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, fact):
    with pytest.raises(InputError, match=fact):
        read_published(table(tmp_path, text))


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xff\xfe\x00\x80")
    for each in (path, tmp_path / "absent.csv", tmp_path):
        with pytest.raises(InputError, match=r"cannot read|does not exist|is no file"):
            read_published(each)


def test_the_shipped_table_is_whole():
    runs = read_published()
    assert len(runs) == 1095
    assert all(isinstance(run, PublishedRun) for run in runs)
    assert max(Counter(run.id for run in runs).values()) == 1
    assert sum(run.step_s is not None for run in runs) == 1063
    assert all(run.source_title and run.source_ref for run in runs)
