"""Does the help of every command show how it is typed, with lines that are taken as they stand?"""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from hwprof.cli import cli


def _commands(command, path=()):
    """Words after ``hwprof`` -> each command, with its subcommands."""
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                yield from _commands(command.get_command(context, name), (*path, name))


ALL = dict(_commands(cli))


def _examples(path):
    shown = CliRunner().invoke(cli, [*path, "--help"]).stdout
    return re.findall(r"^    ((?:torchrun .*-m )?hwprof .*)$", shown.partition("Examples:")[2], re.MULTILINE)


def _parsed(words):
    """The command that words mean, which takes them."""
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group):
        name, *words = words
        command = command.get_command(context, name)
    return command.make_context(name, words, parent=context).command


def test_every_command_is_looked_at():
    assert {("run",), ("plan",), ("specs", "check")} < set(ALL)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_of_a_command_has_two_examples_that_parse(path):
    lines = _examples(path)
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line)
        words = words[words.index("hwprof") + 1 :]
        assert tuple(words[: len(path)]) == path
        assert _parsed(words) is not None


@pytest.mark.parametrize("line", [line for path in [("count",), ("simulate",)] for line in _examples(path)])
def test_examples_that_need_no_machine_run(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, shlex.split(line)[1:])
    assert result.exception is None, result.exception
    assert result.stdout


def test_an_example_that_is_not_taken_would_be_found():
    with pytest.raises(click.UsageError, match="No such option"):
        _parsed(["specs", "list", "--modle"])
