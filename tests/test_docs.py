"""Does every command in the docs do what they say? Those in code blocks and tables of commands are run, or parsed.

A command that is not run stands in ``NOT_RUN`` with its reason; if it is one of hwprof's, its options are parsed all
the same, so that a misspelt or removed one is found.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hwprof import cli

ROOT = Path(__file__).resolve().parents[1]
_ALL = {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "zh").glob("*.md")}
PAGES = sorted(_ALL - {ROOT / "docs" / "recipes.md"})
"""Without the recipes, which tests/test_recipes.py follows."""
EXAMPLE = ROOT / "reports" / "example"

NOT_RUN = {
    r"hwprof run\b": "trains for a minute; tests/cli/test_run_command.py runs it",
    r"hwprof bench-server\b": "asks a server that runs; tests/measure/test_server.py has one",
    r"hwprof emulate\b": "runs a script of the reader's; tests/emulate runs it",
    r"hwprof plan --emulation\b": "starts from a script of the reader's; tests/emulate/test_decoder.py does",
    r"hwprof probe\b": "measures for a minute; tests/cli/test_probe_command.py runs it",
    r"hwprof validate$": "predicts a thousand runs; `make lowest` runs it, tests/validation looks at the same numbers",
    r"hwprof view . --serve": "serves until it is stopped; tests/cli/test_view_serve.py asks it",
    r"hwprof view DIR --ncu": "needs Nsight Compute's output; tests/cli/test_view_command.py has some",
    r"hwprof \w+ --model ./qwen3-next": "captures a large model; tests/session/test_captured.py does with small ones",
    r"hwprof (count|fit) --model (FLUX|flux)": "captures a large model; tests/session/test_captured_diffusion.py does",
    r"ncu\b": "needs a GPU and Nsight Compute",
    r"torchrun\b": "starts ranks; tests/cli/test_run_ranks.py and test_probe_ranks.py do",
    r"srun\b": "needs a SLURM cluster",
    r"make\b": "the targets are what CI calls; those that it does not call take minutes",
    r"pip install\b": "changes the environment; .ci/package installs the wheel",
    r"(\.venv/bin/)?python benchmarks/": "benchmarks take minutes",
    r"\.venv/bin/(pytest|mypy|ruff)\b": "what CI does",
}
STAND_INS = {"DIR": "first-report", "A": "first-report", "B": "second-report", "FILE...": "trace.json.gz"}
"""What the docs call a file -> one that is there."""


def _blocks(text):
    """Code blocks that are no Python: fenced and indented."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    yield from (body for language, body in fenced if language != "python")
    bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"(?:(?<=\n\n)|\A)((?: {4}.*\n|\n(?= {4}))+)", bare)


def _commands(page):
    text = page.read_text(encoding="utf-8")
    lines = [line for block in _blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^\| `((?:hwprof|torchrun) [^`]*)` \|", text, re.MULTILINE)
    for line in lines:
        command = re.sub(r"\s+#.*|^[A-Z_]+=\S+ ", "", line.strip())
        if re.match(r"(hwprof|torchrun|srun|make|ncu|pip|python|sh|\S*\.venv/\S+) ", command):
            yield command


ALL = sorted({command for page in PAGES for command in _commands(page)})


def _reason(command):
    return next((reason for pattern, reason in NOT_RUN.items() if re.match(pattern, command)), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with all that commands of the docs name."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("first-report", "second-report"):
        shutil.copytree(EXAMPLE, folder / name)
    shutil.copy(EXAMPLE / "trace.json.gz", folder)
    (folder / "my-model").mkdir()
    shown = CliRunner().invoke(cli.cli, ["specs", "show", "llama-3.2-1b"])
    (folder / "my-model.toml").write_text(shown.stdout, encoding="utf-8")
    (folder / "my-model" / "config.json").write_text(
        '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 64, "n_head": 2,'
        ' "vocab_size": 1000, "n_positions": 2048}',
        encoding="utf-8",
    )
    return folder


def test_commands_are_found_on_the_pages():
    assert len(ALL) > 30
    assert "hwprof count --model vit-b-16 --batch-size 256" in ALL
    assert "hwprof specs list" in ALL


@pytest.mark.parametrize("command", [command for command in ALL if not _reason(command)])
def test_command_runs(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    line, _, file = command.partition(" > ")
    program, *words = shlex.split(line)
    assert program == "hwprof", f"{command!r} is neither run here nor in NOT_RUN"
    result = CliRunner().invoke(cli.cli, [STAND_INS.get(word, word) for word in words])
    assert result.exception is None, result.exception
    assert result.stdout.strip()
    if file:
        assert (folder / file).read_text(encoding="utf-8") == result.stdout


@pytest.mark.parametrize("command", [command for command in ALL if _reason(command) and "hwprof " in command])
def test_command_that_is_not_run_has_options_that_exist(command):
    named = r"(?<!-)\bhwprof (run|probe|validate|view|count|simulate|plan|fit|deploy|bench-server|emulate)\b"
    words = shlex.split(command[re.search(named, command).start() :].rstrip("'"))[1:]
    name, *options = words
    with click.Context(cli.cli) as parent:
        parsed = cli.cli.get_command(parent, name)
        assert parsed.make_context(name, options, parent=parent, resilient_parsing=False).params


def test_tests_that_the_docs_name_exist():
    named = {word for command in ALL if "pytest" in command for word in command.split() if word.startswith("tests/")}
    assert len(named) > 2
    assert [word for word in sorted(named) if not (ROOT / word).exists()] == []


def test_no_reason_is_left_over():
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, command) for command in ALL)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_the_docs_is_python(page):
    """Their names are those of the reader's program; tests/test_examples.py runs the same code around real ones."""
    for body in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        compile(body, page.name, "exec")


def test_chinese_readme_has_the_figures_commands_and_links_of_the_english_one():
    english, chinese = (_facts(ROOT / name) for name in ("README.md", "README.zh-CN.md"))
    assert english == chinese


def _facts(page):
    read = page.read_text(encoding="utf-8").replace("```", "").replace("docs/zh/", "docs/")
    text = re.sub(r"\s+", " ", read)
    patterns = (r"\d+(?:\.\d+)? %", r"`(?:hwprof|torchrun|python)\b[^`]*`", r"\]\((?!README)[^)]*\)")
    return [sorted(set(re.findall(pattern, text))) for pattern in patterns]


_FOLDERS = "hwprof|tests|benchmarks|examples|hardware_specs|models|docs|reports|\\.ci"
_PATH = re.compile(rf"`+((?:{_FOLDERS})/[\w./*<>-]*|[\w/]+\.py)(?::(\w+))?`+")
_NAME = re.compile(r"`+(hwprof(?:\.\w+)+)`+")
_MADE = re.compile(r"^`(\S+)`, new:$", re.MULTILINE)
_PROSE = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_CODE = sorted(
    path for folder in ("hwprof", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)


def _is_there(name):
    """Whether a dotted name is a module, or a name in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        stem = ROOT.joinpath(*parts[:length])
        source = next((each for each in (stem.with_suffix(".py"), stem / "__init__.py") if each.is_file()), None)
        if source is not None:
            return all(re.search(rf"\b{part}\b", source.read_text(encoding="utf-8")) for part in parts[length:])
    return False


@pytest.mark.parametrize("page", _PROSE, ids=lambda page: page.name)
def test_paths_and_names_in_prose_exist(page):
    if page.name == "CHANGELOG.md":
        pytest.skip("speaks of earlier states")
    text = page.read_text(encoding="utf-8")
    made = {*_MADE.findall(text)}
    lost = [f"{path}:{name}" for path, name in _PATH.findall(text) if path not in made and not _holds(path, name)]
    lost += [name for name in _NAME.findall(text) if not _is_there(name)]
    assert lost == []


def _holds(path, name):
    if "*" in path or "<" in path:
        return any(ROOT.glob(re.sub(r"<\w+>", "*", path)))
    target = next(
        (folder / path for folder in (ROOT, ROOT / "hwprof", ROOT / "benchmarks") if (folder / path).exists()), None
    )
    if target is None or not name:
        return target is not None
    return re.search(rf"\b{name}\b", target.read_text(encoding="utf-8")) is not None


def test_modules_and_paths_named_in_docstrings_exist():
    lost = {}
    for path in _CODE:
        text = path.read_text(encoding="utf-8")
        names = [name for name in _NAME.findall(text) if not _is_there(name)]
        names += [found for found, name in _PATH.findall(text) if found.startswith(_OWN) and not _holds(found, name)]
        lost |= dict.fromkeys(names, path.relative_to(ROOT).as_posix())
    assert lost == {}


_OWN = ("hwprof/", "tests/", "benchmarks/")


def test_number_by_hand_of_the_page_on_how_it_travels_is_that_of_the_example():
    """What the page works out is what the run of the example recorded."""
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "how-a-number-travels.md").read_text(encoding="utf-8"))
    run = json.loads((EXAMPLE / "run.json").read_text(encoding="utf-8"))
    step_s, peak_flop_per_s = run["step"]["median_s"], run["step"]["mfu_peak_flop_per_s"]
    work = 3 * (2 * 2048 * (4 * 786_432 + 131_072) + 4 * 4 * 8 * 256**2 * 256)
    assert work == run["work"]["train_flop_full"]
    assert f"{work:,} / ({step_s:.4f} × {peak_flop_per_s / 1e9:.1f}e9) = {100 * run['step']['mfu']:.1f} %" in page


def test_work_by_hand_of_that_page_is_what_a_prediction_divides():
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "how-a-number-travels.md").read_text(encoding="utf-8"))
    command = "simulate --model 8b --hardware h100-sxm --devices 8 --zero 3 --global-batch 64"
    assert f"hwprof {command}" in page
    found = json.loads(CliRunner().invoke(cli.cli, [*command.split(), "--format", "json"]).stdout)
    work = 6 * 262_144 * 7_504_658_432 + 12 * 32 * 4_096 * 4_096 * 262_144
    assert found["mfu"] == pytest.approx(work / found["step_s"] / (8 * 989.4e12), rel=1e-12)
    assert f"= {work / 1e15:.2f}e15 FLOP" in page
    assert f"the MFU is {work / (8 * 989.4e12):.3f} s over" in page
