"""Do CI's own checks find what they are for? Dead code, diagrams that are not what the code is."""

import importlib.util
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- imports of\nhwprof.top\nhwprof.middle hwprof.side\nhwprof.low\nhwprof.alone\n-->\n"
PAGE = f"Before.\n\n{MARK}\nAfter.\n"


def _script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def diagrams():
    return _script("diagrams")


@pytest.fixture(scope="module")
def dead_code():
    return _script("dead_code")


@pytest.fixture
def graph():
    made = grimp.ImportGraph()
    made.add_module("hwprof.alone")
    for importer, imported in (
        ("top", "middle"),
        ("top", "low"),
        ("middle", "low"),
        ("top", "side"),
        ("top", "hidden"),
    ):
        made.add_import(importer=f"hwprof.{importer}", imported=f"hwprof.{imported}")
    return made


def test_a_diagram_has_the_modules_named_and_no_way_that_another_one_shortens(diagrams, graph, tmp_path):
    assert (
        diagrams.drawn(PAGE, graph, tmp_path)
        == f"""Before.

{MARK}
```mermaid
flowchart TD
    alone
    top --> middle
    top --> side
    middle --> low
```

After.
"""
    )


def test_a_module_that_is_gone_is_named(diagrams, graph, tmp_path):
    with pytest.raises(SystemExit, match=r"^hwprof\.lower: shown in a diagram of the docs, but not in the code"):
        diagrams.drawn(PAGE.replace("hwprof.low\n", "hwprof.lower\n"), graph, tmp_path)


def test_a_page_is_stale_once_an_import_is_there_that_it_does_not_show(diagrams, graph, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(diagrams, "ROOT", tmp_path)
    monkeypatch.setattr(diagrams.grimp, "build_graph", lambda _name: graph)
    diagrams.main([])
    diagrams.main(["--check"])
    graph.add_import(importer="hwprof.side", imported="hwprof.low")
    with pytest.raises(SystemExit, match=r"docs: page\.md does not show what the code is; run `make diagrams`"):
        diagrams.main(["--check"])
    assert "side --> low" not in page.read_text()
    diagrams.main([])
    assert "side --> low" in page.read_text()


def test_a_table_of_folders_has_rooms_below_their_package_and_leaves_none_out(diagrams, graph, tmp_path):
    for folder, question in (("count", "What does it cost?"), ("specs", "What is it?"), ("specs/model", "A model?")):
        (tmp_path / "hwprof" / folder).mkdir(parents=True)
        (tmp_path / "hwprof" / folder / "__init__.py").write_text(f'"""{question}\n\nMore.\n"""\n')
    shown = diagrams.drawn("<!-- questions of specs count -->\n", graph, tmp_path / "hwprof")
    assert shown.splitlines()[4:] == [
        "| `hwprof/specs` | What is it? |",
        "| `hwprof/specs/model` | A model? |",
        "| `hwprof/count` | What does it cost? |",
    ]
    with pytest.raises(SystemExit, match="has the packages specs, the code count specs; name each once"):
        diagrams.drawn("<!-- questions of specs -->\n", graph, tmp_path / "hwprof")


@pytest.fixture
def tree(tmp_path):
    """A package in which something is used by nothing, and a test uses it."""
    for name, code in {
        "hwprof/__init__.py": '"""What?"""\n',
        "hwprof/low.py": "LIMIT = 1\nSTALE = 2\n\n\ndef used():\n    return LIMIT\n\n\ndef tested():\n    return 3\n",
        "hwprof/other.py": "STALE = 4\n\n\ndef twin():\n    return STALE\n",
        "hwprof/top.py": "from hwprof import other\nfrom hwprof.low import used\n\nprint(used(), other.twin())\n",
        "tests/test_low.py": "from hwprof.low import tested\n\nassert tested() == 3\n",
        "pyproject.toml": '[tool.vulture]\npaths = ["hwprof"]\nmin_confidence = 60\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    return tmp_path


def test_what_only_tests_use_is_found_and_a_name_that_another_module_uses_hides_nothing(dead_code, tree, monkeypatch):
    monkeypatch.setattr(dead_code, "EXCEPTIONS", {})
    assert dead_code.complaints(tree) == [
        "hwprof/low.py:2: nothing uses STALE, or only tests do; remove it",
        "hwprof/low.py:9: nothing uses tested, or only tests do; remove it",
    ]


def test_an_exception_that_nothing_needs_is_found(dead_code, tree, monkeypatch):
    exceptions = {"hwprof/low.py:[St][Te]*": "made up", "hwprof/low.py:tested": "made up", "hwprof/*:gone": "made up"}
    monkeypatch.setattr(dead_code, "EXCEPTIONS", exceptions)
    assert dead_code.complaints(tree) == [
        ".ci/dead_code.py: the exception 'hwprof/*:gone' is not needed; remove it",
    ]


def test_what_begins_first_is_there(pytestconfig):
    (own,) = (each for each in pytestconfig.pluginmanager.get_plugins() if getattr(each, "LONGEST", None))
    assert [name for name in own.LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert pytestconfig.option.loadscopereorder is False
