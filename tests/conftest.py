"""Settings of all tests: a slow machine is no failed claim, and drawn examples are the same on every machine."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if (
    "PYTEST_XDIST_WORKER" not in os.environ
):  # one cache for all processes of this session, and none that was there before
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="hwprof-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
os.environ["HWPROF_CEILINGS"] = "datasheet"  # no test spends time on measuring this machine that does not say so

settings.register_profile("hwprof", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hwprof")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.path.insert(0, str(Path(__file__).parent))  # so that the processes of rank_pool can import it, too

from needed import missing  # noqa: E402 (of tests/support, that pytest's own configuration names)

LONGEST = (
    "test_recipes.py",
    "test_examples.py",
    "cli/test_run_command.py",
    "cli/test_run_ranks.py",
    "played/test_ranks.py",
    "emulate/test_against_gloo.py",
    "test_gpu_evidence.py",
    "validation/test_published_runs.py",
    "session/test_ranks.py",
    "faults/test_runs.py",
    "loop/test_together.py",
    "measure/test_lifeline.py",
)
"""Files that take longest for their few tests."""


def pytest_configure(config):
    """Files go to workers in the order of the list, not those with most tests first: those are not the longest."""
    config.option.loadscopereorder = False


class _Absent(pytest.Module):
    """A file that this machine's releases can't even import."""

    def collect(self):
        pytest.skip(f"needs {missing(_below_tests(self.path))}")


def pytest_pycollect_makemodule(module_path, parent):
    """Older releases leave out whole files."""
    return _Absent.from_parent(parent, path=module_path) if missing(_below_tests(module_path)) else None


def _below_tests(path):
    return path.relative_to(Path(__file__).parent).as_posix()


def pytest_collection_modifyitems(items):
    """Skip what older releases have not, and begin with what takes longest, so that no worker is left alone with it.

    And where tests want ranks, begin at once to import what all of them need, in the process that they come from.
    """
    for item in items:
        if need := missing(_below_tests(item.path), item.name):
            item.add_marker(pytest.mark.skip(reason=f"needs {need}"))
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(_below_tests(item.path), len(places)))
    if any("ranks" in getattr(item, "fixturenames", ()) for item in items):
        from rank_pool import prepare_ranks

        prepare_ranks()


@pytest.fixture(scope="session")
def ranks():
    """``ranks(size)``: gloo ranks on this machine, made once a session."""
    from rank_pool import RankPool

    pools = {}

    def pool(size):
        if size not in pools:
            pools[size] = RankPool(size)
        return pools[size]

    yield pool
    for made in pools.values():
        made.close()


@pytest.fixture
def golden():
    """Compare a text with its golden file byte by byte; with HWPROF_UPDATE_GOLDEN=1 write the file instead."""

    def check(name, actual):
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("HWPROF_UPDATE_GOLDEN") == "1":
            path.write_bytes(actual.encode())
        assert path.read_bytes().decode() == actual

    return check
