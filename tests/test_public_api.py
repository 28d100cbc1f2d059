"""What may people import from hwprof? This list; a new name is a decision, and a lost one breaks programs."""

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest

import hwprof
from hwprof import InputError
from hwprof.session.request import ProbeRequest, RunRequest

PUBLIC = [
    "Emulation",
    "HwprofError",
    "InputError",
    "Logger",
    "Profile",
    "RunRecord",
    "Schedule",
    "WorkError",
    "__version__",
    "emulate",
    "probe",
    "probe_ranks",
    "profile",
    "read_run",
    "run",
    "run_ranks",
]
ADAPTERS = ["accelerate", "huggingface", "lightning", "torchtitan"]
LOGGERS = ["mlflow", "page", "prometheus", "tensorboard", "wandb"]
FOLDER = Path(hwprof.__file__).parent


def test_public_names_are_these():
    assert sorted(hwprof.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(hwprof))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there_and_documented(name):
    found = getattr(hwprof, name)
    assert name == "__version__" or found.__doc__


def _taken(annotation, limits=()):
    """What an option takes, in words."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if get_origin(annotation) is Annotated:
        return _taken(inner[0], inner[1].metadata)
    if get_origin(annotation) is tuple:
        return f"several of {_taken(inner[0])}"
    if inner:
        return " or ".join(_taken(each) for each in inner)
    signs = {"gt": ">", "ge": ">=", "le": "<="}
    bounds = [
        f"{sign} {getattr(limit, name)}" for limit in limits for name, sign in signs.items() if hasattr(limit, name)
    ]
    return " ".join((annotation.__name__, ", ".join(bounds))).rstrip()


def _row(name, field):
    default = "" if field.default in (None, ()) else f"`{field.default}`"
    return f"| `{name}` | {_taken(field.annotation, field.metadata)} | {default} | {field.description} |"


@pytest.mark.parametrize("request_type", [RunRequest, ProbeRequest])
def test_options_stand_in_the_docs_as_they_are(request_type):
    page = (FOLDER.parent / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [_row(name, field) for name, field in request_type.model_fields.items()]
    assert "\n".join(["| option | takes | default | meaning |", "|---|---|---|---|", *rows]) in page.replace("\\<", "<")


def test_methods_of_a_profile_are_these():
    methods = {name for name in vars(hwprof.Profile) if not name.startswith("_")}
    assert methods == {
        "done",
        "leave_out_step",
        "metrics",
        "phase",
        "record",
        "report",
        "start",
        "step",
        "stop",
        "summary",
        "to_pandas",
    }


@pytest.mark.parametrize(("package", "modules"), [("adapters", ADAPTERS), ("loggers", LOGGERS)])
def test_adapters_and_loggers_are_these(package, modules):
    found = {path.stem for path in (FOLDER / package).glob("*.py")} - {"__init__", "options"}
    assert sorted(found) == modules


def test_other_names_are_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'hwprof' has no attribute 'profiel'"):
        _ = hwprof.profiel


def test_types_are_shipped():
    assert (FOLDER / "py.typed").is_file()


def test_importing_hwprof_loads_neither_torch_nor_numpy_nor_pydantic():
    program = "import sys, hwprof; print([name for name in ('torch', 'numpy', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_process_that_reads_the_program_again_is_told_so(monkeypatch):
    """What multiprocessing sets in a child that imports the main program, before its own work begins."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(InputError, match="reads the program again") as raised:
        hwprof.run(model="tiny")
    assert "__main__" in str(raised.value)
