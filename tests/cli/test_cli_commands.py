"""What the commands pass to the core, and how they print its results."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fvd
from cli.conftest import Run
from cli.fake_core import FakeCore

EXTENTS: list[dict[str, Any]] = [
    {
        "start": 0,
        "length": 65536,
        "depth": 1,
        "present": True,
        "zero": False,
        "data": True,
        "compressed": False,
        "offset": 0,
    },
    {
        "start": 65536,
        "length": 65536,
        "depth": 0,
        "present": False,
        "zero": True,
        "data": False,
        "compressed": False,
    },
]
CLEAN = {
    "filename": "x", "format": "fvd", "check-errors": 0, "corruptions": 0, "leaks": 0, "corruptions-fixed": 0,
    "leaks-fixed": 0, "suspect": False, "messages": [],
}  # fmt: skip
SAME = {"identical": True, "reason": None, "offset": None, "size_a": 4096, "size_b": 4096}


def test_create_says_what_it_made(run: Run, core: FakeCore) -> None:
    made = {"backing_file": "a,b", "compact_image": True, "block_size": 512}
    core.answers["create"] = {
        "filename": "x",
        "format": "fvd",
        "size": 1 << 20,
        "options": made,
        "needs_trust": ["/srv/bases"],
    }
    outcome = run("create", "-b", "a,b", "-F", "raw", "-o", "compact_image", "x", "1M")
    assert outcome.out == (
        "Formatting 'x', fmt=fvd size=1048576 backing_file=a,,b compact_image=on block_size=512\n"
    )
    assert outcome.err == (
        "fvd: note: 'x' names a URL, or a file outside its own directory, or a hidden one: "
        "opening it needs --trust /srv/bases\n"
    )
    assert core.arguments == ("x", 1 << 20)
    assert core.settings == {
        "format": "fvd", "backing_file": "a,b", "backing_format": "raw", "backing_unsafe": False,
        "options": {"compact_image": True}, "force": False, "trust": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x"], "x: Image creation needs a size parameter"),
        (["-u", "-b", "b", "x"], "x: Image creation needs a size parameter"),
        (["-o", "size=1M", "x", "1M"], "x: The image size must be specified only once"),
        (["-o", "foo=1", "x", "1M"], "x: Invalid parameter 'foo'"),
        (["-o", ",", "x", "1M"], "Invalid option list: ,"),
        (["x", "1KB"], "Invalid image size specified: '1KB'."),
        (["-f", "raw", "-b", "b", "x"], "x: Backing file not supported for file format 'raw'"),
    ],
)
def test_create_refuses_before_anything_is_made(
    run: Run, core: FakeCore, arguments: list[str], complaint: str
) -> None:
    outcome = run("create", *arguments)
    assert (outcome.status, outcome.err, core.calls) == (1, f"fvd: {complaint}\n", [])


def test_create_lists_its_options_without_a_file_name(run: Run) -> None:
    listed = run("create", "-o", "help").out
    assert listed.startswith("Supported fvd options:\n")
    now, _, later = listed.partition("\nSet with 'fvd amend -o', once the image exists:\n")
    assert "chunk_size=<size> " in now
    assert "num_prefetch_slots=<num> " in later
    assert "  copy_on_read=" not in later


def test_info_is_laid_out_as_by_qemu_img(run: Run, core: FakeCore, tmp_path: Path) -> None:
    (tmp_path / "b.raw").write_bytes(b"x" * 700_000)
    image = str(tmp_path / "x.qcow2")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.raw", "-F", "raw", image]
    subprocess.run(create, check=True)
    ask = ["qemu-img", "info", image]
    theirs = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    described = subprocess.run([*ask, "--output=json"], capture_output=True, text=True, check=True).stdout
    core.answers["info"] = json.loads(described)
    assert run("info", image).out == theirs.partition("Child node")[0]
    assert json.loads(run("info", "--output=json", image).out) == json.loads(described)


def test_info_opens_nothing_it_was_not_asked_to(
    run: Run, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVD_CONFIG", "/nonexistent")
    core.answers["info"] = {"filename": "x", "format": "raw", "virtual-size": 0, "dirty-flag": False}
    assert run("info", "x").status == 0
    assert not core.settings.keys() & {"backing_chain", "trust"}
    outcome = run("info", "--backing-chain", "x")
    assert outcome.err == "fvd: Could not open '/nonexistent': No such file or directory\n"


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        ({}, 0, "No errors were found on the image.\n"),
        ({"check-errors": 1}, 1, "\n1 internal errors have occurred during the check.\n"),
        ({"corruptions": 2, "leaks": 1}, 2, "\n2 errors were found on the image.\nData may be corrupted"),
        (
            {"leaks": 3},
            3,
            "\n3 leaked clusters were found on the image.\nThis means waste of disk space, but",
        ),
        ({"suspect": True}, 2, "suspect"),
        (
            {"leaks-fixed": 3},
            0,
            "and repaired:\n\n    3 leaked clusters\n    0 corruptions\n\nDouble checking",
        ),
        ({"allocated-clusters": 1, "total-clusters": 16}, 0, "1/16 = 6.25% allocated, 0.00% fragmented\n"),
    ],
)
def test_check_tells_what_it_found_in_words_and_status(
    run: Run, core: FakeCore, found: dict[str, Any], status: int, words: str
) -> None:
    core.answers["check"] = {**CLEAN, **found}
    outcome = run("check", "x")
    assert outcome.status == status
    assert words in outcome.out
    assert run("check", "-q", "x").out == ""
    assert json.loads(run("check", "--output=json", "x").out).items() >= found.items()


def test_check_of_a_format_without_checks_has_its_own_status(run: Run, core: FakeCore) -> None:
    core.answers["check"] = fvd.UnsupportedError(95, "This image format does not support checks", "x")
    outcome = run("check", "x")
    assert (outcome.status, outcome.err) == (63, "fvd: This image format does not support checks\n")


def test_map_is_laid_out_as_by_qemu_img(run: Run, core: FakeCore, tmp_path: Path) -> None:
    image = str(tmp_path / "x.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    subprocess.run(["qemu-io", "-c", "write 64k 64k", image], check=True, capture_output=True)
    for flags in ([], ["--output=json"]):
        ask = ["qemu-img", "map", *flags, image]
        theirs = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        if flags:
            assert run("map", *flags, image).out == theirs
            continue
        described = subprocess.run([*ask, "--output=json"], capture_output=True, text=True, check=True).stdout
        core.answers["map"] = [{**extent, "filename": image} for extent in json.loads(described)]
        assert run("map", image).out == theirs


def test_map_of_nothing_is_valid_json(run: Run, core: FakeCore) -> None:
    core.answers["map"] = []
    assert json.loads(run("map", "--output=json", "x").out) == []


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        ({}, 0, "Images are identical.\n"),
        ({"size_b": 8192}, 0, "Warning: Image size mismatch!\nImages are identical.\n"),
        ({"identical": False, "reason": "content", "offset": 512}, 1, "Content mismatch at offset 512!\n"),
        ({"identical": False, "reason": "size"}, 1, "Strict mode: Image size mismatch!\n"),
    ],
)
def test_compare_speaks_as_qemu_img_does(
    run: Run, core: FakeCore, found: dict[str, Any], status: int, words: str
) -> None:
    core.answers["compare"] = {**SAME, **found}
    outcome = run("compare", "a", "b")
    assert (outcome.status, outcome.out) == (status, words)


def test_compare_that_fails_is_not_mistaken_for_a_difference(run: Run, core: FakeCore) -> None:
    core.answers["compare"] = fvd.FvdError(2, "No such file or directory", "b")
    assert run("compare", "a", "b").status == 2
    assert run("compare", "--bogus").status == 2


@pytest.mark.parametrize(
    "words", [("create", "-b", "b.raw", "x", "1M"), ("convert", "-O", "fvd", "-B", "b.raw", "a", "x")]
)
def test_a_base_without_a_format_is_warned_of(run: Run, core: FakeCore, words: tuple[str, ...]) -> None:
    made = {"filename": "x", "format": "fvd", "size": 1 << 20, "options": {}, "needs_trust": []}
    core.answers |= {"create": made, "convert": {}}
    outcome = run(*words)
    assert outcome.status == 0
    assert outcome.err.startswith(
        "fvd: warning: x: backing file without a format (-F): it is guessed at every"
    )
    assert outcome.err.count("\n") == 1
    assert run(*words, "-F", "raw").err == ""


def test_advice_about_trust_uses_command_line_options(run: Run, core: FakeCore) -> None:
    refused = fvd.NotPermittedError(13, "and /b c is not trusted: trust=['/b c'] allows it", "x")
    refused.needs_trust = "/b c"
    core.answers["map"] = refused
    outcome = run("map", "x")
    assert outcome.err == "fvd: Could not open 'x': and /b c is not trusted: --trust '/b c' allows it\n"


def test_convert_passes_its_options_to_the_core(run: Run, core: FakeCore, tmp_path: Path) -> None:
    core.answers["convert"] = {}
    given = ["-O", "fvd", "-o", "compact_image=on", "-W", "-S", "64k", "-T", "none", "-U", "-m", "8"]
    given += ["--base-error=report", "--base-timeout", "7"]
    assert run("convert", *given, "--trust", str(tmp_path), "a", "b").status == 0
    assert core.arguments == ("a", "b")
    assert core.settings == {
        "source_format": None,
        "target_format": "fvd",
        "rate_limit": None,
        "options": {"compact_image": True},
        "backing_file": None,
        "backing_format": None,
        "sparse_size": 65536,
        "no_create": False,
        "out_of_order": True,
        "force": False,
        "target_is_zero": False,
        "cache": "unsafe",
        "source_cache": "none",
        "base_error": "report",
        "base_timeout": 7.0,
        "force_share": True,
        "trust": [str(tmp_path)],
        "cache_dir": None,
        "remote": None,
        "progress": None,
    }


@pytest.mark.parametrize("names", [("-", "-"), ("/dev/stdin", "/dev/stdout")])
def test_convert_reads_and_writes_streams_as_raw(run: Run, core: FakeCore, names: tuple[str, str]) -> None:
    core.answers["convert"] = {}
    assert run("convert", *names).status == 0
    assert core.arguments == (0, 1)
    assert run("convert", "-O", "fvd", "a", "-").status == 1
    assert run("convert", "-f", "qcow2", "-", "b").status == 1


def progressing(*_: Any, progress: Any, **__: Any) -> dict[str, Any]:
    for done in range(0, 101, 50):
        progress(done, 100)
    return {}


def test_progress_without_a_terminal_is_that_of_qemu_img(run: Run, core: FakeCore) -> None:
    core.answers["convert"] = progressing
    expected = "    (0.00/100%)\r    (50.00/100%)\r    (100.00/100%)\r    (100.00/100%)\r\n"
    for flag in ("-p", "--progress", "--progress=bar"):
        assert run("convert", flag, "a", "b").out == expected
    assert run("convert", "-p", "a", "-").out == ""


def test_progress_as_json_is_an_object_a_line_on_stderr(run: Run, core: FakeCore) -> None:
    core.answers["convert"] = progressing
    outcome = run("convert", "--progress=json", "a", "b")
    lines = [json.loads(line) for line in outcome.err.splitlines()]
    assert (lines[0]["state"], lines[0]["done"], lines[0]["percent"]) == ("running", 0, 0)
    assert (lines[-1]["state"], lines[-1]["done"], lines[-1]["percent"]) == ("done", 100, 100)
    assert outcome.out == ""


def test_dump_shows_the_requested_parts(run: Run, core: FakeCore) -> None:
    records = [
        {"type": "table", "first": 4, "entries": [7, None]},
        {"type": "bitmap", "first_sector": 8, "sectors": 2},
    ]
    core.answers["dump"] = {
        "filename": "x", "header": {"magic": 1, "base_img": "b\x1b"}, "table": [(0, 2, 5)], "bitmap": None,
        "journal": [{"sector": 0, "records": records}], "profile": [(4096, 3)], "truncated": ["journal"],
    }  # fmt: skip
    outcome = run("dump", "x")
    assert outcome.err == "fvd: note: the journal is too long to show, this is its beginning\n"
    assert outcome.out == (
        "image: x\nHeader:\n    magic     1\n    base_img  b\\x1b\n"
        "Table: 2 chunks allocated\n    chunks 0..1 at storage chunks 5..6\nBitmap: none\n"
        "Journal: 1 sectors with records\n    sector 0: chunks 4..5 at storage chunks 7 -\n"
        "    sector 0: disk sectors 8..9 are local\nProfile: 1 entries\n    3 units at byte 4096\n"
    )
    assert list(json.loads(run("dump", "--table", "--output=json", "x").out)) == ["filename", "table"]


def test_options_may_be_anywhere_and_names_may_look_like_them(run: Run, core: FakeCore) -> None:
    core.answers["map"] = EXTENTS
    assert run("map", "x", "-U", "--output", "json").status == 0
    assert run("map", "--", "-x").status == 0
    assert [call[1] for call in core.calls] == [("x",), ("-x",)]
