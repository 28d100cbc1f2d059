"""Claims about what `hwprof deploy` says first."""

from click.testing import CliRunner

from hwprof.cli.deploy.command import command


def said(*words):
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_the_first_line_is_the_answer_and_the_second_says_which_lengths_were_taken():
    first, second, *_ = said("--model", "8b", "--hardware", "h100-sxm")
    assert first.startswith("1 x h100-sxm5-80gb: ")
    assert all(words in first for words in (" tokens/s, first token ", ", then ", " each"))
    assert len(first) <= 80
    assert second == "  8b, prompts of 1,024 tokens, answers of 1,024"


def test_hardware_may_say_how_many():
    eight = said("--model", "70b", "--hardware", "8xh100")
    assert eight == said("--model", "70b", "--hardware", "h100", "--devices", "8")
    assert said("--model", "8b", "--hardware", "2x dgx h100") == said(
        "--model", "8b", "--hardware", "h100", "--devices", "16"
    )


def test_lengths_are_those_asked_for():
    _, second, *_ = said("--model", "8b", "--hardware", "h100-sxm", "--prompt-len", "8192", "--new-tokens", "256")
    assert second == "  8b, prompts of 8,192 tokens, answers of 256"


def test_in_chinese_the_first_line_and_the_titles_of_the_page_are(tmp_path):
    first, *_ = said("--model", "8b", "--hardware", "h100-sxm", "--lang", "zh", "--output", str(tmp_path))
    assert first.startswith("1 x h100-sxm5-80gb：")
    assert " token/s，首个 token " in first
    page = (tmp_path / "deploy.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("每种硬件上最好的", "首个 token", "依据"))
    for left in ("Best on each", "degrees of 1", "Ringed:", "tokens/s of a user", "Filter", "Dark theme", "rows<"):
        assert left not in page
