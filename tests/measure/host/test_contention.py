import sys

import pytest

from hwprof.measure.host.contention import waited_fraction, waited_s


def write_thread(tasks, thread, text):
    folder = tasks / thread
    folder.mkdir()
    (folder / "schedstat").write_text(text)


def test_waiting_is_summed_over_threads_in_seconds(tmp_path):
    write_thread(tmp_path, "100", "5000000000 1500000000 42\n")
    write_thread(tmp_path, "101", "0 250000000 1\n")
    assert waited_s(tmp_path) == 1.75


def test_where_the_kernel_keeps_no_such_count_it_is_unknown_not_zero(tmp_path):
    assert waited_s(tmp_path) is None


def test_a_thread_that_has_ended_meanwhile_is_left_out(tmp_path):
    write_thread(tmp_path, "100", "0 1000000000 1\n")
    (tmp_path / "101").mkdir()
    (tmp_path / "101" / "schedstat").symlink_to(tmp_path / "gone")
    assert waited_s(tmp_path) == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the time that threads wait for a CPU")
def test_this_process_s_waiting_never_goes_back():
    first, second = waited_s(), waited_s()
    if first is not None:
        assert second >= first >= 0


@pytest.mark.parametrize(
    ("before_s", "after_s", "wall_s", "fraction"),
    [(1.0, 3.0, 4.0, 0.5), (3.0, 1.0, 4.0, 0.0), (None, 3.0, 4.0, None), (1.0, None, 4.0, None), (1.0, 3.0, 0.0, None)],
)
def test_share_of_the_wall_time_that_threads_waited(before_s, after_s, wall_s, fraction):
    """A count that went back is that of a thread that ended."""
    assert waited_fraction(before_s, after_s, wall_s) == fraction
