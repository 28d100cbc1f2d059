"""What may people import from hwprof? This list; a new name is a decision, and a lost one breaks programs."""

import subprocess
import sys
from pathlib import Path

import pytest

import hwprof

PUBLIC = [
    "HwprofError",
    "InputError",
    "Logger",
    "Profile",
    "RunRecord",
    "Schedule",
    "WorkError",
    "__version__",
    "probe",
    "probe_ranks",
    "profile",
    "read_run",
    "run",
    "run_ranks",
]
ADAPTERS = ["accelerate", "huggingface", "lightning", "torchtitan"]
LOGGERS = ["mlflow", "prometheus", "tensorboard", "wandb"]
FOLDER = Path(hwprof.__file__).parent


def test_public_names_are_these():
    assert sorted(hwprof.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(hwprof))


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_there_and_documented(name):
    found = getattr(hwprof, name)
    assert name == "__version__" or found.__doc__


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
