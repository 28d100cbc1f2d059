import pytest

from hwprof.measure.host.container import MemoryLimit, cpu_limit_cores, memory_limit


@pytest.fixture
def tree(tmp_path):
    """Writes control files; ``own`` is the text of /proc/self/cgroup."""

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for path, text in files.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / "cgroup", tmp_path / "own"

    return write


def test_version_2_limit_counts_usage_without_reclaimable_file_cache(tree):
    files = {
        "memory.max": "8000\n",
        "memory.current": "5000\n",
        "memory.stat": "anon 3000\ninactive_file 1500\n",
    }
    assert memory_limit(*tree("0::/\n", files)) == MemoryLimit(limit_bytes=8000, used_bytes=3500)


def test_the_tightest_group_on_the_way_up_decides(tree):
    files = {
        "job/step/memory.max": "max\n",
        "job/memory.max": "4000\n",
        "job/memory.current": "1000\n",
        "memory.max": "9000\n",
        "memory.current": "2000\n",
    }
    assert memory_limit(*tree("0::/job/step\n", files)) == MemoryLimit(limit_bytes=4000, used_bytes=1000)


def test_version_1_limit_is_read_from_the_memory_controller(tree):
    files = {
        "memory/box/memory.limit_in_bytes": "6000\n",
        "memory/box/memory.usage_in_bytes": "2500\n",
        "memory/box/memory.stat": "cache 10\ntotal_inactive_file 500\n",
    }
    assert memory_limit(*tree("4:memory:/box\n1:cpu,cpuacct:/\n", files)) == MemoryLimit(6000, 2000)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", {"memory.max": "max\n"}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}),
        ("0::/\n", {}),
    ],
)
def test_no_limit_is_none(tree, own, files):
    assert memory_limit(*tree(own, files)) is None


def test_a_group_that_the_container_cannot_see_falls_to_the_one_it_can(tree):
    files = {"memory.max": "7000\n", "memory.current": "100\n"}
    assert memory_limit(*tree("0::/docker/abc\n", files)) == MemoryLimit(limit_bytes=7000, used_bytes=100)


def test_a_cpu_quota_is_a_number_of_cores(tree):
    assert cpu_limit_cores(*tree("0::/\n", {"cpu.max": "150000 100000\n"})) == 1.5


def test_a_version_1_quota_is_a_number_of_cores(tree):
    files = {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert cpu_limit_cores(*tree("2:cpu,cpuacct:/\n", files)) == 4.0


def test_without_a_quota_there_is_no_cpu_limit(tree):
    assert cpu_limit_cores(*tree("0::/\n", {"cpu.max": "max 100000\n"})) is None
    assert cpu_limit_cores(*tree("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n"})) is None


def test_a_system_without_control_groups_sets_no_limit(tmp_path):
    assert memory_limit(tmp_path / "cgroup", tmp_path / "own") is None
    assert cpu_limit_cores(tmp_path / "cgroup", tmp_path / "own") is None
