"""Does the doctor's text say first what is to be done?"""

from __future__ import annotations

import io

from hwprof.report.doctor_text import print_doctor
from hwprof.specs.record.doctor import Check, DoctorReport

CORES = Check(name="cores", area="host", status="ok", found="2 of 2 usable", adds="speed")
DRIVER = Check(
    name="driver", area="gpu", status="missing", found="none", adds="runs on a GPU", remedy="apt install nvidia-driver"
)


def text(*checks):
    pipe = io.StringIO()
    print_doctor(DoctorReport(hwprof_version="0.1.0", checks=checks, duration_s=0.0123456), pipe)
    return pipe.getvalue()


def test_what_is_to_be_done_stands_first_then_everything():
    assert text(CORES, DRIVER) == (
        "hwprof 0.1.0 on this machine\n"
        "  - driver: none\n"
        "    for runs on a GPU\n"
        "    do: apt install nvidia-driver\n"
        "\n"
        "  All that was looked at\n"
        "    Status   What    Found          For\n"
        "    ok       cores   2 of 2 usable  speed\n"
        "    missing  driver  none           runs on a GPU\n"
        "\n"
        "  looked at 2 things in 12.35 ms\n"
    )


def test_where_nothing_is_to_be_done_that_is_said():
    assert text(CORES).splitlines()[1] == "  Nothing is to be done."
