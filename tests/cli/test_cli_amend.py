"""`fvd amend` and `fvd update`."""

import pytest

from cli.conftest import Run
from cli.fake_core import FakeCore


def test_amend_passes_its_options_under_their_header_names(run: Run, core: FakeCore) -> None:
    core.answers["amend"] = None
    outcome = run(
        "amend", "-o", "size=1G,backing_file=a,,b", "-o", "copy_on_read,nogenerate_prefetch_profile",
        "--shrink", "-u", "--trust", "/srv", "-f", "fvd", "x",
    )  # fmt: skip
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    expected = {"size": 1 << 30, "base_img": "a,b", "copy_on_read": True, "generate_prefetch_profile": False}
    assert core.arguments == ("x", expected)
    settings = {"format": "fvd", "shrink": True, "backing_unsafe": True, "trust": ["/srv"], "remote": None}
    assert core.settings == settings


def test_update_takes_attributes_as_the_original_spelt_them(run: Run, core: FakeCore) -> None:
    core.answers["amend"] = None
    outcome = run(
        "update", "x", "base_img=a,b", "max_num_outstanding_prefetch_writes=3", "clean_shutdown=1",
        "prefetch_over_threshold_throttle_time=20", "prefetch_start_delay=-1", "copy_on_read=off",
    )  # fmt: skip
    assert (outcome.status, outcome.err) == (0, "")
    assert core.arguments[1] == {
        "base_img": "a,b",
        "num_prefetch_slots": 3,
        "clean_shutdown": True,
        "prefetch_throttle_time": 20,
        "prefetch_start_delay": -1,
        "copy_on_read": False,
    }
    settings: dict[str, object] = {
        "format": None,
        "shrink": False,
        "backing_unsafe": False,
        "trust": [],
        "remote": None,
    }
    assert core.settings == settings


def test_the_last_of_two_names_for_one_attribute_counts(run: Run, core: FakeCore) -> None:
    core.answers["amend"] = None
    run("amend", "-o", "base_img=1,backing_file=2,base_img=3", "x")
    assert core.arguments[1] == {"base_img": "3"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["amend", "x"], "Must specify options (-o)"),
        (["amend", "-o", "foo=1", "x"], "x: Invalid parameter 'foo'"),
        (["amend", "-o", "a=1,", "x"], "Invalid option list: a=1,"),
        (["amend", "-o", "copy_on_read=2", "x"], "x: Parameter 'copy_on_read' expects 'on' or 'off'"),
        (
            ["amend", "-o", "journal_size=1M", "x"],
            "x: Parameter 'journal_size' cannot be changed in an image that exists "
            "('fvd convert' makes a new one)",
        ),
        (["update", "x", "size"], "x: Expecting ATTRIBUTE=VALUE, not 'size'"),
        (["update", "x", "prefetch_perf_calc_alpha=1,2"],
         "x: Parameter 'prefetch_perf_calc_alpha' expects a number"),
        (["update", "x", "bogus=1"], "x: Invalid parameter 'bogus'"),
    ],
)  # fmt: skip
def test_invalid_options_are_reported_before_any_open(
    run: Run, core: FakeCore, arguments: list[str], complaint: str
) -> None:
    outcome = run(*arguments)
    assert (outcome.status, outcome.err, core.calls) == (1, f"fvd: {complaint}\n", [])


def test_update_needs_something_to_change(run: Run, core: FakeCore) -> None:
    outcome = run("update", "x")
    assert outcome.status == 1
    assert outcome.err.startswith("fvd: Expecting an image file name and ATTRIBUTE=VALUE\n")


def test_amend_lists_the_attributes_without_a_file_name(run: Run) -> None:
    listed = run("amend", "-o", "help").out
    assert listed.startswith("Amend options for 'fvd':\n")
    assert "num_prefetch_slots=<num>" in listed
    assert "copy_on_read=<bool (on/off)>" in listed
