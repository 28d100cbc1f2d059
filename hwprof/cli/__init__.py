"""What can a person type? One file a command; this one finds it and turns errors into a line and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import say
from hwprof.cli.mistyped import understood, usage_line
from hwprof.errors import INTERRUPTED_EXIT_CODE, HwprofError
from hwprof.session.interrupts import heard
from hwprof.version import __version__

_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("hwprof.cli.run", "Probe, train, record, classify, predict, recommend, report."),
    "view": ("hwprof.cli.view", "Render a run directory again."),
    "probe": ("hwprof.cli.probe", "Measure this machine's ceilings and save them."),
    "trace": ("hwprof.cli.trace", "Analyse Kineto traces of any training loop, one per rank."),
    "diff": ("hwprof.cli.diff", "What changed between two runs or traces, by how much beyond noise."),
    "count": ("hwprof.cli.count.command", "Count parameters, FLOP, bytes and memory; no hardware needed."),
    "simulate": ("hwprof.cli.simulate", "Predict one training step on other hardware and layouts."),
    "emulate": ("hwprof.cli.emulate", "Run your own script on hardware that is not here."),
    "plan": ("hwprof.cli.plan.command", "Choose layout, hardware and number of devices for a training."),
    "fit": ("hwprof.cli.plan.fit", "Does a fine-tuning fit a device, at which batch and length, how fast?"),
    "deploy": ("hwprof.cli.deploy.command", "Predict what serving a model takes: times, servers, cost."),
    "bench-server": ("hwprof.cli.deploy.bench_server", "Measure a running server over numbers of users."),
    "validate": ("hwprof.cli.validate", "Predict published measurements and print the error."),
    "doctor": ("hwprof.cli.doctor", "What works on this machine, and what to do about what does not."),
    "specs": ("hwprof.cli.specs", "List, show and check the catalogue of models and hardware."),
}
"""Command name -> module that holds a click command called ``command``, and its one-line help."""


_UNREAD_EXIT_CODE = 141
"""128 + SIGPIPE, as shells report it."""


class _LazyGroup(click.Group):
    """Imports a command's module only when it runs, so that light commands start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command = _imported(_COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As ever, with the words of the command as it knows them."""
        name, command, words = super().resolve_command(ctx, args)
        read = words if command is None else understood(words, command)
        if read != words:
            ctx.meta[_READ_AS] = f"hwprof: read as `hwprof {name} {shlex.join(read)}`"
        return name, command, read

    def invoke(self, ctx: click.Context) -> object:
        """As ever, and below the answer how words were read; output that nobody reads is no failure, as for click."""
        try:
            found = super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(_unread()) from None
        except click.exceptions.Exit:
            _say_read(ctx)
            raise
        _say_read(ctx)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in _COMMANDS.items()])


_READ_AS = "hwprof.read_as"


def _say_read(ctx: click.Context) -> None:
    if _READ_AS in ctx.meta:
        say(ctx.meta[_READ_AS], err=True)


def _imported(module: str) -> ModuleType:
    """A command's module; what an import makes stays, so that to look for garbage meanwhile is a tenth of a start."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if collects:
            gc.enable()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "hwprof run --model 1b --device cuda",
        "hwprof simulate --model 70b --hardware h100-sxm --devices 64 --tp 8 --pp 4",
    ),
)
@click.version_option(__version__, prog_name="hwprof")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Find what holds a Transformer training step back, and what should change."""


def main() -> None:
    """Run the command line; every error becomes one line on stderr and an exit code."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")  # to look for them reads every package's metadata
    if os.environ.get("WORLD_SIZE", "1") != "1":  # else torch's C++ stacks would hide the line that names a lost rank
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    signal.signal(signal.SIGTERM, _interrupted)  # what batch schedulers send: measured work is kept as after Ctrl-C
    _open_closed_streams()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    try:
        with heard():
            code = cli.main(prog_name="hwprof", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        code = _report_usage(error)
    except (KeyboardInterrupt, click.Abort) as stop:
        say(f"hwprof: {str(stop.__cause__ or stop) or 'interrupted'}", err=True)
        code = INTERRUPTED_EXIT_CODE
    except HwprofError as error:
        code = _report(error, error.exit_code, debug=debug)
    except BrokenPipeError:  # who read standard output has read enough, as `head` does
        code = _unread()
    except OSError as error:
        code = _report(error, 1, debug=debug)
    except Exception as error:  # noqa: BLE001 (a mistake of hwprof's own, of which no user needs the traceback)
        code = _report(_own_mistake(error), 1, debug=debug)
    sys.exit(code if isinstance(code, int) else 0)


def _unread() -> int:
    """What is still to be written goes nowhere; the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _UNREAD_EXIT_CODE


def _open_closed_streams() -> None:
    """Where a stream was closed (``>&-``), what is written to it goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (until the process ends)


def _interrupted(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _report_usage(error: click.ClickException) -> int:
    """One line for a mistyped command, and where its options are listed; the help where nothing was typed."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2 on
        error.show()
        return error.exit_code
    say(f"hwprof: {usage_line(error, sys.argv[1:])}", err=True)
    return error.exit_code


def _own_mistake(error: Exception) -> HwprofError:
    """What is said of an error that hwprof did not foresee: where it arose, how to have it mended; or of no memory."""
    if isinstance(error, MemoryError):
        return HwprofError(
            "memory ran out before the work began or while its results were written",
            remedy="raise the limit (`ulimit -v`, a container's) or end other programs; see `hwprof doctor`",
        )
    places = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
    return HwprofError(
        f"{type(error).__name__}{where}: {str(error) or 'no more is said'}",
        expectation="hwprof did not expect this",
        remedy="please report it with what `hwprof --debug COMMAND ...` prints",
    )


def _report(error: Exception, exit_code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"hwprof: {error}", err=True)
    return exit_code
