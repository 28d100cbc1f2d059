"""Claims about Ctrl-C: wherever it falls it ends the work once, and it waits for what is being kept."""

import io
import signal
import sys
import time
import weakref

import pytest

from hwprof.session.interrupts import Interrupts, heard


def _interrupt():
    signal.raise_signal(signal.SIGINT)


class _Thing:
    """In whose end the signal comes."""

    def __del__(self):
        _interrupt()


def _in_a_method():
    _Thing()


def _in_a_generator_that_is_closed():
    def steps():
        try:
            yield
        finally:
            _interrupt()

    next(steps())


def _in_a_callback_of_a_reference():
    class Plain: ...

    thing = Plain()
    kept = weakref.ref(thing, lambda _: _interrupt())
    del thing
    assert kept() is None


FINALIZERS = [_in_a_method, _in_a_generator_that_is_closed, _in_a_callback_of_a_reference]


@pytest.mark.parametrize("finalizer", FINALIZERS)
@pytest.mark.parametrize("context", [heard, Interrupts])
def test_interrupt_that_falls_into_a_finalizer_ends_the_work_without_a_print(context, finalizer, capsys):
    before = sys.unraisablehook
    with context():
        finalizer()  # Python drops the exception
        with pytest.raises(KeyboardInterrupt):
            time.sleep(60)
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is before


def test_other_errors_of_finalizers_go_where_they_went_before(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_type))

    class Thing:
        def __del__(self):
            raise ValueError

    class Full(io.IOBase):
        def close(self):
            raise OSError(28, "No space left on device")

    with heard():
        Thing()
        Full()  # from Python 3.13 on its finalizer would tell
    assert seen == [ValueError]


def test_second_interrupt_waits_until_what_is_kept_is_kept():
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            _interrupt()
        _interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupts.release()


def test_interrupt_lost_in_a_finalizer_while_another_is_kept_comes_at_the_release():
    with Interrupts() as interrupts:
        _in_a_method()
        interrupts.hold()
        time.sleep(0.2)
        with pytest.raises(KeyboardInterrupt):
            interrupts.release()
