"""Is a recording that was kept the one that was made, and is a broken or hostile file refused in a line?"""

import gzip
import json

import pytest
from click.testing import CliRunner

from hwprof.cli.emulate import command
from hwprof.emulate.answer import emulation, emulation_json
from hwprof.emulate.in_chinese import page_in_chinese
from hwprof.emulate.page import build_page
from hwprof.emulate.saved import read_recordings, recording_bytes
from hwprof.emulate.start import machine_named
from hwprof.errors import InputError
from hwprof.specs.catalogue.simulator import simulator_parameters


@pytest.fixture(scope="module")
def folder(emulated, tmp_path_factory):
    found = tmp_path_factory.mktemp("kept")
    (found / "recording.json.gz").write_bytes(recording_bytes([emulated]))
    return found


def _answer(recording, hardware="h100-sxm"):
    return emulation_json(emulation([recording], machine_named(hardware, 2), simulator_parameters()))


def test_what_was_kept_is_priced_as_what_was_made(emulated, folder):
    (kept,) = read_recordings(folder)
    assert _answer(kept) == _answer(emulated)
    assert kept.host_s == pytest.approx(emulated.host_s, abs=1e-9)


def test_a_folder_is_priced_on_another_device_without_its_script(folder):
    asked = ["--hardware", "b200", "--format", "json", str(folder)]
    answer = json.loads(CliRunner().invoke(command, asked).stdout)
    assert (answer["hardware"], answer["devices"], answer["provenance"]) == ("b200-sxm-180gb", 2, "emulated")
    assert answer["step_s"] == pytest.approx(_answer(read_recordings(folder)[0], "b200")["step_s"])


def test_a_folder_is_not_priced_for_another_number_of_devices(folder):
    result = CliRunner().invoke(command, ["--hardware", "b200", "--devices", "4", str(folder)])
    assert isinstance(result.exception, InputError)
    assert "one of 2 devices, not of 4" in str(result.exception)


def _changed(folder, change):
    content = json.loads(gzip.decompress((folder / "recording.json.gz").read_bytes()))
    change(content)
    return gzip.compress(json.dumps(content).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(schema_version=99),
        lambda content: content.update(ranks=[]),
        lambda content: next(each for each in content["ranks"][0]["events"] if not each[0]).__setitem__(1, 10**6),
        lambda content: next(each for each in content["ranks"][0]["events"] if each[0] == 6).__setitem__(1, 3),
        lambda content: content["ranks"][0]["events"].append([99]),
        lambda content: content["ranks"][0]["calls"][0].__setitem__(1, "many"),
        lambda content: content["ranks"][0].pop("memory"),
        lambda content: content["ranks"][0]["collectives"].append(["all_gather", [], 1, -1, 0, ""]),
        lambda content: content["ranks"][0].update(host_ns=[1]),
    ],
)
def test_a_changed_file_is_refused(folder, tmp_path, change):
    (tmp_path / "recording.json.gz").write_bytes(_changed(folder, change))
    with pytest.raises(InputError):
        read_recordings(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"[" * 10**6, mtime=0), gzip.compress(b"{}", mtime=0)[:-3]],
    ids=["empty", "no gzip", "many levels", "cut short"],
)
def test_what_is_no_recording_is_refused(tmp_path, content):
    (tmp_path / "recording.json.gz").write_bytes(content)
    with pytest.raises(InputError):
        read_recordings(tmp_path)


def test_what_is_made_of_words_is_said_in_chinese(emulated):
    """Names, numbers and what the numbers rest on stay."""
    found = emulation([emulated], machine_named("h100-sxm", 2), simulator_parameters())
    page = page_in_chinese(build_page(found, [found]), found)
    tables = page.tables.values()
    pictures = (page.roofs, page.timeline)
    texts = [
        *(text for card in page.cards for text in (card.title, card.detail)),
        *(part.label for part in page.parts),
        *(text for table in tables for text in (table.title, *(column.meaning for column in table.columns))),
        *(text for one in pictures for text in (one.title, one.x_title, one.note, one.empty)),
        *(text for bar in page.timeline.bars for text in (bar.label, bar.detail)),
        *(text for line in page.roofs.lines for text in line.texts),
        *(cell.text for name in ("phases", "kinds") for row in page.tables[name].rows for cell in row[:1]),
    ]
    assert [text for text in texts if text and text.isascii()] == []


def test_a_folder_gets_a_report_that_says_emulated(folder, tmp_path):
    asked = ["--hardware", "h100-sxm", "--compare", "a100-sxm", "--output", str(tmp_path / "out"), str(folder)]
    assert CliRunner().invoke(command, asked).exit_code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"recording.json.gz", "emulation.json", "report.html", "trace.json.gz"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "every number is emulated, none was measured" in page
    assert "a100-sxm4-80gb" in page
    for block in ("blocks.0", "blocks.2"):  # each gather says whose weights it brings
        assert f">{block}</td>" in page
    said = CliRunner().invoke(
        command, ["--hardware", "h100-sxm", "--lang", "zh", "--output", str(tmp_path), str(folder)]
    )
    assert said.stdout.startswith("2 台 h100-sxm5-80gb：每步 ")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "所有数字都是模拟得到的" in page
    assert "按产生它的模块" in page
    assert "text in any column" not in page
    answer = json.loads((tmp_path / "out" / "emulation.json").read_text(encoding="utf-8"))
    assert read_recordings(tmp_path / "out")[0].flop == answer["flop"]["total"]
