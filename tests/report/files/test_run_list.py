"""Which runs does the page of a folder list, with which numbers, and what does it say of two?"""

from __future__ import annotations

import re

import pytest
from made_up_record import made_up_record, made_up_step
from records import make_slower

from hwprof.errors import InputError
from hwprof.report.files.run import write_record, write_run
from hwprof.report.files.run_list import RunFolder, comparison_page, files_of, list_page


@pytest.fixture
def root(tmp_path, record):
    """Three runs, the newest first in time: two with a step, one without; one that can't be read; one hidden."""
    for name, created, step in (
        ("old", "2026-01-01T00:00:00+00:00", made_up_step(0.0123456, tokens_per_s=3527.4, mfu=0.4837)),
        ("deep/er", "2026-03-01T00:00:00+00:00", made_up_step(0.02)),
        ("none", "2026-02-01T00:00:00+00:00", None),
    ):
        write_record(made_up_record(created=created, step=step), tmp_path / name)
    write_record(record, tmp_path / ".hidden")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    return tmp_path


def rows(page):
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_runs_are_found_below_by_the_names_of_their_folders_and_hidden_ones_are_not(root):
    found = RunFolder(root).found()
    assert set(found.runs) == {"old", "deep/er", "none"}
    ((key, reason),) = found.unreadable
    assert key == "broken"
    assert "is no JSON" in reason


def test_the_newest_run_stands_first_with_its_step_rate_and_utilisation(root):
    listed = rows(list_page(RunFolder(root)))
    assert [re.sub("<[^>]*>", "", row[2]) for row in listed] == ["deep/er", "none", "old"]
    assert listed[2][4:7] == ["12.35", "3,527", "48.4"]
    assert listed[1][4:7] == ["–", "–", "–"]


def test_the_form_proposes_the_two_newest_runs_that_have_a_step(root):
    page = list_page(RunFolder(root))
    checked = re.findall(r'name="([ab])" value="([^"]*)"[^>]* checked', page)
    assert checked == [("b", "deep/er"), ("a", "old")]


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    assert "No run.json lies below this folder. `hwprof run --output` writes one." in list_page(RunFolder(tmp_path))


def test_a_record_is_read_again_only_when_its_file_has_changed(root, monkeypatch):
    folder, read = RunFolder(root), []
    from hwprof.report.files import run_list

    monkeypatch.setattr(run_list, "read_run", lambda path: read.append(path) or made_up_record())
    folder.found()
    assert len(read) == 4
    folder.found()
    assert len(read) == 4
    write_record(made_up_record(notes=("longer",)), root / "old")
    folder.found()
    assert read[4:] == [root / "old" / "run.json"]


def test_a_run_whose_file_vanishes_meanwhile_is_not_readable(root, monkeypatch):
    folder = RunFolder(root)

    def gone(_path):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr("hwprof.report.files.run_list.read_run", gone)
    assert dict(folder.found().unreadable)["old"] == "No such file or directory"


def test_files_of_a_run_are_those_of_known_kinds_beside_its_record(root, tmp_path_factory):
    folder = root / "old"
    (folder / "ops.csv").write_text("")
    (folder / "notes.txt").write_text("private")
    (folder / "deeper.json").mkdir()
    (folder / "link.json").symlink_to(tmp_path_factory.mktemp("secret"))
    assert list(files_of(RunFolder(root).found().runs["old"])) == ["ops.csv", "run.json"]


def test_two_runs_are_compared_with_pictures_and_tables(tmp_path, record):
    write_run(record, tmp_path / "one")
    write_record(make_slower(record), tmp_path / "two")
    runs = RunFolder(tmp_path).found().runs
    page = comparison_page(runs["one"], runs["two"])
    assert '<p class="sentence">B is slower than A, beyond noise: +20 % of the step time</p>' in page
    assert re.findall(r'data-chart="([^"]*)"', page) == ["diff-phase", "diff-operation"]
    assert "+52.37 ms, from 174.6 ms to 226.9 ms, beyond noise" in page


def test_a_comparison_in_chinese_has_the_same_numbers_and_no_english_titles(tmp_path, record):
    write_run(record, tmp_path / "one")
    write_record(make_slower(record), tmp_path / "two")
    runs = RunFolder(tmp_path).found().runs
    page = comparison_page(runs["one"], runs["two"], "zh")
    assert '<p class="sentence">B 比 A 慢，超出噪声：单步时间变化 +20 %</p>' in page
    assert [text for text in re.findall(r"<h[23]>([^<]+)</h[23]>", page) if not re.search(r"[一-鿿]", text)] == []
    for left in ("Right of zero", "largest changes", "B less A", "within each run", "Filter", "Dark theme"):
        assert left not in page
    assert "<h2>运行</h2>" in list_page(RunFolder(tmp_path), "zh")


def test_a_run_without_a_step_can_t_be_compared(root):
    runs = RunFolder(root).found().runs
    with pytest.raises(InputError, match="none has no step time: that run did not get so far"):
        comparison_page(runs["old"], runs["none"])
