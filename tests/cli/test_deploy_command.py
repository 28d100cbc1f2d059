"""Claims about what `hwprof deploy` says first."""

from click.testing import CliRunner

from hwprof.cli.deploy.command import command


def said(*words):
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_the_first_line_is_the_answer_and_the_second_says_which_lengths_were_taken():
    first, second, *_ = said("--model", "8b", "--hardware", "h100-sxm")
    assert first.startswith("8b on 1 x h100-sxm5-80gb: ")
    assert all(words in first for words in (" tokens/s", "a token each ", "the first after "))
    assert len(first) <= 100
    assert second == "prompts of 1,024 tokens, answers of 1,024"


def test_lengths_are_those_asked_for():
    _, second, *_ = said("--model", "8b", "--hardware", "h100-sxm", "--prompt-len", "8192", "--new-tokens", "256")
    assert second == "prompts of 8,192 tokens, answers of 256"
