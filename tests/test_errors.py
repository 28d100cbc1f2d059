"""Each error is one line of fact, expectation and remedy, with the exit code of its kind."""

import pytest

from hwprof import errors


def test_an_error_reads_fact_then_expectation_then_remedy():
    error = errors.InputError("batch is 0", expectation="expected at least 1", remedy="give --batch-size 1")
    assert str(error) == "batch is 0; expected at least 1; give --batch-size 1"


def test_parts_that_are_not_given_leave_no_mark():
    assert str(errors.WorkError("the disk is full")) == "the disk is full"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InputError, 2),
        (errors.SpecError, 2),
        (errors.UnknownDeviceError, 2),
        (errors.WorkError, 1),
        (errors.OutOfMemoryError, 1),
    ],
)
def test_wrong_input_exits_2_and_failed_work_exits_1(kind, code):
    assert kind("fact").exit_code == code
    assert isinstance(kind("fact"), errors.HwprofError)


def test_an_unknown_name_suggests_its_near_miss():
    error = errors.UnknownNameError(
        kind="model", name="Llama-3.1-80b", known=["llama-3.1-8b", "tiny"], remedy="pick one"
    )
    assert str(error) == "model 'Llama-3.1-80b' is not in the catalogue; did you mean llama-3.1-8b?; pick one"


def test_an_unknown_name_without_a_near_miss_lists_known_ones():
    error = errors.UnknownNameError(kind="device", name="zzz", known=["b", "a"], remedy="pick one")
    assert str(error) == "device 'zzz' is not in the catalogue; known: a, b; pick one"
    assert error.exit_code == 2
    many = errors.UnknownNameError(kind="device", name="zzz", known=map(str, range(13)), remedy="pick one")
    assert str(many) == "device 'zzz' is not in the catalogue; pick one"
