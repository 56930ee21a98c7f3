"""Option strings and sizes, compared with QEMU's parser."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvd.options import (
    OptionError,
    SizeRangeError,
    SizeSyntaxError,
    escape,
    join_options,
    normalise,
    options_help,
    parse_options,
    parse_size,
    size_argument,
    split_options,
    wants_help,
)

# Separated by spaces. Very long sizes, and those with white space, are in the next list.
SIZES = """
0 1 511 00 010 010k 08 007.5k 1b 1B 1k 1K 1m 1M 1g 1G 1t 1T 1p 1P 1e 1E 7E 8E 15E 16E 20000000000G
0e 0.e 1.e 512K 1.5G 1.5k 1.5M 0.1k 0.3k 1.1k 1.0001k 0.0001k 0.0000001k 0.1g 0.7g 33.3t 1.23456p
0.1e 3.3e 1.5E 0.5e .5e .5k .5 .k . .0 .0b .0k 0.0 0.0b 1. 1.0 1.0b 1.k 1.5 1.5b 0.5b 1..k 1.1.1k
1.-5k 1.+5k 1.0x5k 0x 0X 0x0 0x00 0xg 0x. 0x1000 0x1000K 0x1000k 0x1G 0xE 0x1E 0X10 0x1.8 0x1.8k
0x1b 0xb 0xfk 0x1p3 0x+1 0x-1 0x0x1 00x10 0x1_0 0b1 0x7fffffffffffffff 0x8000000000000000
0xffffffffffffffffff 0xffffffffffffffffffk 1KB 1KiB 1kk 1k1 1.5K1 K k1 e 1Z 1Y 1e3 1e3k 1e0 1.e1
1.0e1 1.5e1 1.5e1k nan inf infinity 1_000 1,5 -1 -0 -0x1 -0k -5k -1e -1b -1. -1.5 -.5k -. -0.5k - +
++1 +-1 -+1 +1 +0x10 +.5k 9223372036854775807 9223372036854775807.0 9223372036854775808
18446744073709551615 18446744073709551615.0 18446744073709551615.5k 18446744073709551615k
18446744073709551616 18446744073709551616k 999999999999999999999999 99999999999999999999999k
99999999999999999999999. 99999999999999999999999.5k -9223372036854775809 7.9999999999E
7.9999999999999995E 7.9999999999999999E 7.99999999999999999999E 15.99999E 0.9999999999999999999999k
1.9999999999999999999999k 0.49999999999999999999999999k 2.3456789012345G 0.00048828125k
0.00146484375k 0.00244140625k 1.00048828125k 1.00000000000000000000001 1.000000000000000000001E
0.00390625000000000086736173798840354E 0000000000000000000000000000001 0x00000000000000000000000001
"""
ODD_SIZES = [
    "",
    " 1",
    "1 ",
    "\t1",
    "\n5",
    "\v5",
    "\f1",
    "\r1",
    " -1",
    "-1 ",
    "- 1",
    "+ 1",
    "1 k",
    "1.5 k",
    "1.5M ",
]
ODD_SIZES += [" .5k", "1. 5k", "0x 1", "\xa01", "\x1c1", "\u0661", f"0.{'0' * 400}1", f"0.{'0' * 400}1k"]


def qemu_size(text: str, directory: Path) -> tuple[int | None, str]:
    """Return the size that qemu-img parses from `text` (None if it refuses), and its message."""
    target = directory / "size.raw"
    ran = subprocess.run(
        ["qemu-img", "create", "-f", "raw", "--", str(target), text],
        capture_output=True,
        text=True,
        check=False,
    )
    _, found, size = ran.stdout.strip().rpartition(" size=")
    return (int(size), "") if found else (None, ran.stderr.strip())


def fvd_size(text: str) -> tuple[int | None, str]:
    try:
        return size_argument("image size", text), ""
    except ValueError as error:
        return None, f"qemu-img: {error}".strip()


@pytest.mark.parametrize("text", [*SIZES.split(), *ODD_SIZES], ids=lambda text: ascii(text)[:40])
def test_a_size_is_parsed_or_refused_as_by_qemu(text: str, tmp_path: Path) -> None:
    assert fvd_size(text) == qemu_size(text, tmp_path)


@settings(max_examples=100, deadline=None)
@given(st.from_regex(r"\A[ ]?[+-]?(0x[0-9a-f]{1,9}|[0-9]{0,20}(\.[0-9]{0,18})?)[bkMgTpEx]?\Z"))
def test_generated_sizes_are_parsed_as_by_qemu(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    # If there are two reasons to refuse a negative fraction, fvd and QEMU may give different ones.
    assert fvd_size(text)[0] == qemu_size(text, tmp_path_factory.getbasetemp())[0]


@given(st.text(max_size=12))
def test_any_text_is_a_size_in_range_or_refused(text: str) -> None:
    with contextlib.suppress(SizeSyntaxError, SizeRangeError):
        assert 0 <= parse_size(text) < 2**63


@given(st.integers(0, 2**63 - 1))
def test_every_size_survives_being_written_as_a_number(size: int) -> None:
    assert parse_size(str(size)) == parse_size(hex(size)) == parse_size(f"{size}b") == size


names = st.text(st.characters(exclude_characters=",=", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.tuples(names, st.text()), min_size=1))
def test_options_survive_being_joined_and_split(options: list[tuple[str, str]]) -> None:
    assert split_options(join_options(options)) == options


@given(st.text("ab=,?no", max_size=20))
def test_splitting_any_text_ends_and_loses_only_separators(text: str) -> None:
    parts = split_options(text)
    kept = "".join(name + (value or "") for name, value in parts)
    assert sorted(kept.replace("=", "").replace(",", "")) == sorted(text.replace("=", "").replace(",", ""))


# Options of qcow2 with options of fvd of the same type: both programs must answer alike.
SAME_TYPE = {
    "lazy_refcounts": "compact_image",
    "cluster_size": "block_size",
    "refcount_bits": "prefetch_start_delay",
}
# Separated by spaces.
LISTS = """
lazy_refcounts=on lazy_refcounts nolazy_refcounts nolazy_refcounts=on lazy_refcounts= nofoo no foo
foo=1,bar=2 =5 = , ,, ,,=1 lazy_refcounts=on, ,lazy_refcounts=on lazy_refcounts=on,,x
lazy_refcounts=on,, lazy_refcounts=on,,, lazy_refcounts,,cluster_size=64k a,,b=1 x=1,,help ?= help=
help=on helpx cluster_size=-1 cluster_size=9999E refcount_bits=abc refcount_bits= refcount_bits=16k
refcount_bits=0x10 refcount_bits=020 refcount_bits=+16 refcount_bits=99999999999999999999
lazy_refcounts=off,foo,cluster_size=x lazy_refcounts=on lazy_refcounts=off lazy_refcounts=yes
lazy_refcounts=no lazy_refcounts=true lazy_refcounts=false lazy_refcounts=y lazy_refcounts=n
lazy_refcounts=ON lazy_refcounts=On lazy_refcounts=Y lazy_refcounts=True lazy_refcounts=1
lazy_refcounts=0 lazy_refcounts=enable
"""
ODD_LISTS = ["", "lazy_refcounts =on", " lazy_refcounts=on", "refcount_bits= 16"]


@pytest.mark.parametrize("text", [*LISTS.split(), *ODD_LISTS])
def test_an_option_string_is_parsed_or_refused_as_by_qemu(text: str, tmp_path: Path) -> None:
    target = str(tmp_path / "x.qcow2")
    ran = subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", text, target, "1M"],
        capture_output=True,
        text=True,
        check=False,
    )
    theirs = ran.stderr.strip().removeprefix("qemu-img: ").removeprefix(f"{target}: ")
    ours = text
    for their_name, our_name in SAME_TYPE.items():
        ours, theirs = ours.replace(their_name, our_name), theirs.replace(their_name, our_name)
    try:
        parse_options([ours], "fvd")
        said = ""
    except OptionError as error:
        said = str(error)
    assert said.strip() == theirs


@pytest.mark.parametrize("text", ["help", "?", "cluster_size=1,help", "?,foo=1", "help,foo", "a,,help"])
def test_help_is_recognised_where_qemu_does(text: str) -> None:
    ran = subprocess.run(
        ["qemu-img", "create", "-f", "qcow2", "-o", text], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("Supported qcow2 options:")
    assert wants_help([text])


def test_help_lists_every_option_the_way_qemu_does() -> None:
    theirs = subprocess.run(
        ["qemu-img", "create", "-f", "qcow2", "-o", "help"], capture_output=True, text=True, check=True
    ).stdout
    ours = options_help("fvd")
    assert ours.startswith("Supported fvd options:\n")
    for line in (
        "  backing_file=<str>     - File name of a base image",
        "  size=<size>            - Virtual disk size",
    ):
        assert line in theirs.splitlines()
        assert line in ours.splitlines()
    assert "  compact_image=<bool (on/off)> - " in ours


def test_several_option_strings_add_up_and_the_last_value_wins() -> None:
    assert parse_options(["block_size=64k,compact_image", "block_size=128k,nocopy_on_read"], "fvd") == {
        "block_size": 131072,
        "compact_image": True,
        "copy_on_read": False,
    }


def test_a_doubled_comma_is_part_of_a_value() -> None:
    assert parse_options(["data_file=a,,b,,,,c,block_size=512"], "fvd") == {
        "data_file": "a,b,,c",
        "block_size": 512,
    }
    assert escape("a,b") == "a,,b"


@pytest.mark.parametrize(("text", "value"), [("-1", -1), ("-16M", -(16 << 20)), ("0", 0), (" -0x10", -16)])
def test_a_journal_size_may_be_negative(text: str, value: int) -> None:
    assert parse_options([f"journal_size={text}"], "fvd") == {"journal_size": value}


@pytest.mark.parametrize("text", ["--1", "-+1", "-", "- 1", "-1KB", "1e3"])
def test_a_journal_size_is_still_a_size(text: str) -> None:
    with pytest.raises(OptionError, match="Parameter 'journal_size' expects a number below"):
        parse_options([f"journal_size={text}"], "fvd")


def test_a_prefetch_delay_may_be_negative() -> None:
    assert parse_options(["prefetch_start_delay=-1"], "fvd") == {"prefetch_start_delay": -1}


def test_raw_images_have_only_a_size() -> None:
    assert parse_options(["size=1.5k"], "raw") == {"size": 1536}
    with pytest.raises(OptionError, match="Invalid parameter 'block_size'"):
        parse_options(["block_size=512"], "raw")


def test_python_options_are_typed_values_or_strings_to_parse() -> None:
    given: dict[str, str | int | bool] = {
        "block_size": "64K",
        "chunk_size": 4096,
        "compact_image": True,
        "copy_on_read": "off",
        "data_file": "d",
    }
    assert normalise(given, "fvd") == {
        "block_size": 65536,
        "chunk_size": 4096,
        "compact_image": True,
        "copy_on_read": False,
        "data_file": "d",
    }


@pytest.mark.parametrize(
    "given",
    [{"block_size": True}, {"compact_image": 1}, {"data_file": 5}, {"nonsense": 1}, {"block_size": "x"}],
)
def test_options_from_python_of_the_wrong_type_are_refused(given: dict[str, str | int | bool]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        normalise(given, "fvd")
