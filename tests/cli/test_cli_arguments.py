"""The parser of command lines: getopt's rules, as in qemu-img."""

from __future__ import annotations

import pytest

from fvd.cli._arguments import Parser, UsageError
from fvd.cli._progress import progress_options


@pytest.fixture
def parser() -> Parser:
    parser = Parser("try", "Try the parser", "[OPTIONS] FILE...")
    parser.option("-f", "--format", metavar="FMT", help="a value")
    parser.option("-o", "--options", metavar="TEXT", repeatable=True, help="several values")
    parser.switch("-q", "--quiet", help="a switch")
    parser.switch("-U", "--force-share", help="another one")
    parser.option("--cache", metavar="MODE", default="writeback", help="a value with a default")
    parser.switch("-n", "--nocache", dest="cache", constant="none", help="sets the same attribute")
    progress_options(parser)
    return parser


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("a b", {"files": ["a", "b"]}),
        ("a -q b", {"files": ["a", "b"], "quiet": True}),
        ("-qU a", {"quiet": True, "force_share": True}),
        ("-fraw a", {"format": "raw"}),
        ("-f raw a", {"format": "raw"}),
        ("-qfraw a", {"quiet": True, "format": "raw"}),
        ("-f=raw a", {"format": "=raw"}),
        ("--format=raw a", {"format": "raw"}),
        ("--format raw a", {"format": "raw"}),
        ("--format= a", {"format": ""}),
        ("--form raw a", {"format": "raw"}),
        ("-f -q a", {"format": "-q", "quiet": False}),
        ("-f -- a", {"format": "--"}),
        ("--format -- a", {"format": "--"}),
        ("-o a=b -oc=d --options=e --options f a", {"options": ["a=b", "c=d", "e", "f"]}),
        ("-q -- -U --format", {"files": ["-U", "--format"], "quiet": True, "force_share": False}),
        ("- a", {"files": ["-", "a"]}),
        ("a", {"cache": "writeback", "options": [], "quiet": False, "format": None, "progress": "none"}),
        ("-n a", {"cache": "none"}),
        ("--no a", {"cache": "none"}),
        ("-n --cache=unsafe a", {"cache": "unsafe"}),
        ("-p a", {"progress": "bar"}),
        ("--progress a", {"progress": "bar", "files": ["a"]}),
        ("--prog a", {"progress": "bar", "files": ["a"]}),
        ("--progress=json a", {"progress": "json"}),
    ],
)
def test_a_command_line_is_parsed_as_by_getopt(
    parser: Parser, words: str, changed: dict[str, object]
) -> None:
    given = vars(parser.parse(words.split(), 1, 9, "?"))
    assert {name: given[name] for name in changed} == changed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-z a", "invalid option -- 'z'"),
        ("-qz a", "invalid option -- 'z'"),
        ("-q=1 a", "invalid option -- '='"),
        ("-qf", "option requires an argument -- 'f'"),
        ("--format", "option '--format' requires an argument"),
        ("--form", "option '--format' requires an argument"),
        ("--quiet=1 a", "option '--quiet' doesn't allow an argument"),
        ("--q=1 a", "option '--quiet' doesn't allow an argument"),
        ("--bogus=1 a", "unrecognized option '--bogus'"),
        ("--f=1 a", "option '--f' is ambiguous; possibilities: '--format' '--force-share'"),
        ("-z --format", "invalid option -- 'z'"),
        ("--bogus --help", "unrecognized option '--bogus'"),
    ],
)
def test_the_first_mistake_is_reported_in_getopts_words(parser: Parser, words: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parser.parse(words.split(), 1, 9, "?")
    assert (str(error.value), error.value.command, error.value.prefix) == (message, "try", "fvd try")


def test_too_few_and_too_many_files_are_refused(parser: Parser) -> None:
    for words, least, most, message in (
        ("-q", 1, 1, "expected"),
        ("a b", 1, 1, "expected"),
        ("a b c", 1, 2, "Unexpected argument: c"),
    ):
        with pytest.raises(UsageError, match=f"^{message}$"):
            parser.parse(words.split(), least, most, "expected")


def test_lists_of_two_command_lines_are_separate(parser: Parser) -> None:
    parser.parse(["-o", "x", "a"], 1, 1, "?")
    assert parser.parse(["a"], 1, 1, "?").options == []


def test_the_help_lists_options_in_order_of_declaration(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse(["-q", "--he", "--format"], 1, 1, "?")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out == parser.format_help()
    assert out.startswith(
        "Try the parser.  Usage:\n\n  fvd try [OPTIONS] FILE...\n\n"
        "Arguments:\n  -h, --help\n     print this help and exit\n  -f, --format FMT\n     a value\n"
    )
