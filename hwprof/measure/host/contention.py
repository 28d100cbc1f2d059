"""How long did other processes keep this one off the CPU? A steady time slice of a busy machine is no ceiling."""

from __future__ import annotations

from pathlib import Path

_OWN_TASKS = Path("/proc/self/task")


def waited_s(tasks: Path = _OWN_TASKS) -> float | None:
    """Thread-seconds so far in which this process's threads could have run and did not; None where that is unknown.

    Linux keeps it in ``/proc/<pid>/task/<tid>/schedstat``, second field, nanoseconds (kernel documentation,
    scheduler/sched-stats). What a hypervisor takes away (steal time) is not in it.
    """
    total_ns = 0
    found = False
    for path in tasks.glob("*/schedstat"):
        try:
            total_ns += int(path.read_text(encoding="ascii").split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended between the listing and the reading
        except (OSError, ValueError, IndexError):
            return None  # a sandbox that has the file, and not what Linux writes into it
        found = True
    return total_ns / 1e9 if found else None


def waited_fraction(before_s: float | None, after_s: float | None, wall_s: float) -> float | None:
    """What threads waited between two readings over the wall time between them; None where a reading is unknown."""
    if before_s is None or after_s is None or wall_s <= 0:
        return None
    return max(after_s - before_s, 0.0) / wall_s
