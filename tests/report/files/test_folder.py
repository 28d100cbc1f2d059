"""Is a folder of results one command's alone, and replaced whole?"""

import pytest

from hwprof.errors import WorkError
from hwprof.report.files.folder import claimed, removed, write_folder
from hwprof.report.files.run import cleared


def _names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_earlier_files_go_and_those_of_others_stay(tmp_path):
    earlier = ("page.html", "settings/*.toml")
    write_folder(tmp_path, [("page.html", "1"), ("settings/a.toml", "1"), ("settings/b.toml", "1")], earlier=earlier)
    for name in ("mine.txt", "settings/mine.txt", ".page.html.99.tmp"):
        (tmp_path / name).write_text("mine")
    written = write_folder(tmp_path, [("settings/b.toml", "2")], earlier=earlier)
    assert written == [tmp_path / "settings" / "b.toml"]
    assert _names(tmp_path) == ["mine.txt", "settings/b.toml", "settings/mine.txt"]


def test_folder_in_which_another_writes_is_refused(tmp_path):
    with claimed(tmp_path), pytest.raises(WorkError, match="another run is under way"):
        write_folder(tmp_path, [("page.html", "2")])
    assert _names(tmp_path) == []


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_folder_that_can_not_be_made_is_one_line(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=rf"the folder .*{folder} can't be made \(.*\); give another with --output"):
        write_folder(tmp_path / folder, [("page.html", "1")])


def test_what_can_not_be_removed_is_one_line(tmp_path, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "page.html").write_text("1")
    monkeypatch.setattr("pathlib.Path.unlink", denied)
    with pytest.raises(WorkError, match=r"can't be removed \(Permission denied\)"):
        removed(tmp_path, ["*.html"])


def test_tables_and_pictures_of_the_user_stay_in_a_run_directory(tmp_path):
    for name in ("run.json", "ops.csv", "step.png", "trace-rank3.json.gz", "my notes.csv", "photo.png"):
        (tmp_path / name).write_text("x")
    cleared(tmp_path)
    assert _names(tmp_path) == ["my notes.csv", "photo.png"]


def test_folders_of_ranks_that_are_no_more_are_cleared(tmp_path):
    for name in ("run.json", "rank-1/run.json", "rank-2/run.json", "rank-2/mine.txt", "rank-x/run.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    cleared(tmp_path, ranks=2)
    assert _names(tmp_path) == ["rank-1/run.json", "rank-2/mine.txt", "rank-x/run.json"]
