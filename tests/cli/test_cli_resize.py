"""`fvd resize`, and the messages about qemu-img features that fvd does not have."""

import pytest

from cli.conftest import Run
from cli.fake_core import FakeCore

GIB = 1 << 30


@pytest.fixture
def amended(core: FakeCore) -> FakeCore:
    core.answers["amend"] = None
    core.answers["info"] = {"virtual-size": 4 * GIB}
    return core


@pytest.mark.parametrize(
    ("text", "size"), [("1G", GIB), ("+1G", 5 * GIB), ("-1G", 3 * GIB), ("+512", 4 * GIB + 512)]
)
def test_a_size_with_a_sign_is_relative(run: Run, amended: FakeCore, text: str, size: int) -> None:
    outcome = run("resize", "--shrink", "x", text)
    assert (outcome.status, outcome.out, outcome.err) == (0, "Image resized.\n", "")
    name, arguments, settings = amended.calls[-1]
    assert (name, arguments) == ("amend", ("x", {"size": size}))
    assert settings["shrink"] is True


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x", "-4G"], "x: New image size must be positive"),
        (["x", "+8E"], "Invalid image size specified. Must be between 0 and 9223372036854775807."),
        (["x", "+7.9E"], None),
        (["x", "lots"], "Invalid image size specified: 'lots'."),
    ],
)
def test_an_invalid_size_is_refused(
    run: Run, amended: FakeCore, arguments: list[str], complaint: str | None
) -> None:
    outcome = run("resize", *arguments)
    assert outcome.status == (1 if complaint else 0)
    assert outcome.err == (f"fvd: {complaint}\n" if complaint else "")


def test_resize_needs_a_file_and_a_size(run: Run) -> None:
    for arguments in ([], ["x"], ["-1G"], ["x", "y", "z"]):
        outcome = run("resize", *arguments)
        assert outcome.status == 1
        assert outcome.err.startswith("fvd: Expecting image file name and size\n")


def test_missing_qemu_img_commands_name_an_alternative(run: Run) -> None:
    assert "(an overlay ('fvd create -b') is a snapshot of its base)" in run("snapshot", "x").err
    assert run("bogus").err.startswith("fvd: Command not found: bogus\n")


def test_create_names_the_command_for_later_options(run: Run) -> None:
    said = run("create", "-o", "num_prefetch_slots=2", "x", "1G").err
    assert said == (
        "fvd: x: Invalid parameter 'num_prefetch_slots' ('fvd amend -o' sets it, once the image exists)\n"
    )
    assert run("create", "-o", "bogus=2", "x", "1G").err == "fvd: x: Invalid parameter 'bogus'\n"
