"""Names that images store: never one that could not be opened, or whose file would be overwritten."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import fvd
from support import MIB, fvd_command, run

CONTENT = b"precious" * 512


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a base, a base with a colon in its name, and an image above the base."""
    monkeypatch.chdir(tmp_path)
    for name in ("base.raw", "a:b.raw"):
        Path(name).write_bytes(CONTENT)
    fvd.create("image.fvd", backing_file="base.raw", backing_format="raw")
    fvd.create("data.fvd", MIB, options={"data_file": "data.raw"})
    return tmp_path


STORING: dict[str, Callable[[str], object]] = {
    "create -b": lambda name: fvd.create("new.fvd", backing_file=name, backing_format="raw"),
    "create -u -b": lambda name: fvd.create("new.fvd", MIB, backing_file=name, backing_unsafe=True),
    "create data_file=": lambda name: fvd.create("new.fvd", MIB, options={"data_file": name}, force=True),
    "convert -B": lambda name: fvd.convert(
        "base.raw",
        "new.fvd",
        source_format="raw",
        target_format="fvd",
        backing_file=name,
        backing_format="raw",
    ),
    "convert data_file=": lambda name: fvd.convert(
        "base.raw",
        "new.fvd",
        source_format="raw",
        target_format="fvd",
        options={"data_file": name},
        force=True,
    ),
    "amend backing_file=": lambda name: fvd.amend("image.fvd", backing_file=name),
    "amend -u backing_file=": lambda name: fvd.amend("image.fvd", backing_file=name, backing_unsafe=True),
    "amend data_file=": lambda name: fvd.amend("data.fvd", data_file=name, backing_unsafe=True),
}


@pytest.mark.parametrize("store", STORING.values(), ids=STORING)
def test_a_name_that_could_never_be_opened_is_refused(store: Callable[[str], object], here: Path) -> None:
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    for name in ("a:b.raw", "nbd:localhost:10809", "file:base.raw"):
        with pytest.raises(ValueError, match=f"'{name}' begins with a protocol.*write './{name}'"):
            store(name)
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


@pytest.mark.parametrize("store", STORING.values(), ids=STORING)
def test_the_suggested_spelling_of_such_a_name_works(store: Callable[[str], object], here: Path) -> None:
    store("./a:b.raw")
    for image in Path.cwd().glob("*.fvd"):
        fvd.open(image).close()


def test_update_refuses_such_a_name_too(here: Path) -> None:
    failed = fvd_command("update", "image.fvd", "base_img=a:b.raw", ok=[1])
    assert b"write './a:b.raw'" in failed.stderr
    with fvd.open("image.fvd") as image:
        assert image.pread(len(CONTENT), 0) == CONTENT


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("name", ["base.raw", "./base.raw", "link", "hard"])
def test_the_base_is_never_the_data_file(name: str, unsafe: bool, here: Path) -> None:
    os.symlink("base.raw", "link")
    os.link("base.raw", "hard")
    with pytest.raises(ValueError, match="data_file: it is part of the backing chain"):
        fvd.create(
            "new.fvd",
            len(CONTENT),
            backing_file="base.raw",
            backing_format="raw",
            backing_unsafe=unsafe,
            options={"data_file": name},
            force=True,
        )
    assert Path("base.raw").read_bytes() == CONTENT
    assert not Path("new.fvd").exists()


@pytest.mark.parametrize("unsafe", [False, True])
def test_no_image_of_the_chain_is_the_data_file_or_the_image(unsafe: bool, here: Path) -> None:
    fvd.create("top.fvd", backing_file="image.fvd", backing_format="fvd")
    before = Path("image.fvd").read_bytes()
    for path, data in (
        ("new.fvd", "base.raw"),
        ("new.fvd", "image.fvd"),
        ("base.raw", "d"),
        ("image.fvd", "d"),
    ):
        with pytest.raises(ValueError, match=r"backing (chain|file)"):
            fvd.create(
                path,
                MIB,
                backing_file="top.fvd",
                backing_format="fvd",
                backing_unsafe=unsafe,
                options={"data_file": data},
                force=True,
            )
    assert Path("base.raw").read_bytes() == CONTENT
    assert Path("image.fvd").read_bytes() == before


def test_files_that_do_not_exist_yet_are_compared_by_path(here: Path) -> None:
    os.mkdir("folder")
    os.symlink("new.fvd", "to-new")
    for name in ("new.fvd", "folder/../new.fvd", "to-new", str(here / "new.fvd")):
        with pytest.raises(ValueError, match="its own data file"):
            fvd.create("new.fvd", MIB, options={"data_file": name})
    with pytest.raises(ValueError, match="backing chain"):
        fvd.create(
            "new.fvd",
            MIB,
            backing_file="later.raw",
            backing_unsafe=True,
            options={"data_file": "./later.raw"},
        )
    assert sorted(os.listdir()) == sorted(
        ["a:b.raw", "base.raw", "data.fvd", "data.raw", "folder", "image.fvd", "to-new"]
    )


def test_a_conversion_does_not_write_over_its_base(here: Path) -> None:
    Path("source.raw").write_bytes(bytes(8192))
    for target, data in (("new.fvd", "base.raw"), ("base.raw", "new.raw")):
        with pytest.raises(ValueError, match=r"backing (chain|file)"):
            fvd.convert(
                "source.raw",
                target,
                source_format="raw",
                target_format="fvd",
                backing_file="base.raw",
                backing_format="raw",
                options={"data_file": data},
                force=True,
            )
    assert Path("base.raw").read_bytes() == CONTENT


def test_a_nonempty_data_file_is_overwritten_only_with_force(here: Path) -> None:
    Path("full.raw").write_bytes(CONTENT)
    options = ["-o", "data_file=full.raw"]
    for command in (
        ["create", "-q", *options, "new.fvd", "1M"],
        ["convert", "-q", "-f", "raw", "-O", "fvd", *options, "base.raw", "new.fvd"],
    ):
        failed = fvd_command(*command, ok=[1])
        assert b"data_file: the file is not empty" in failed.stderr
        assert b"--force" in failed.stderr
        assert Path("full.raw").read_bytes() == CONTENT
        assert not Path("new.fvd").exists()
        fvd_command(command[0], "--force", *command[1:])
        assert Path("full.raw").read_bytes() != CONTENT[: len(CONTENT) - 1]
        Path("full.raw").write_bytes(CONTENT)
        os.remove("new.fvd")


def test_an_empty_data_file_is_used_without_force(here: Path) -> None:
    Path("empty.raw").touch()
    with open("hole.raw", "wb") as file:
        file.truncate(MIB)
    for name in ("empty.raw", "hole.raw"):
        fvd.create("new.fvd", MIB, options={"data_file": name})


def test_amend_does_not_make_a_base_the_data_file(here: Path) -> None:
    fvd.create("both.fvd", backing_file="base.raw", backing_format="raw", options={"data_file": "both.raw"})
    os.link("base.raw", "hard")
    os.link("both.raw", "data")
    for unsafe in (False, True):
        for name in ("hard", "./base.raw"):
            with pytest.raises(ValueError, match=r"part of the backing chain"):
                fvd.amend("both.fvd", backing_unsafe=unsafe, data_file=name)
        with pytest.raises(ValueError, match=r"part of the backing chain"):
            fvd.amend("both.fvd", backing_unsafe=unsafe, backing_file="data")
    with pytest.raises(ValueError, match="the image itself"):
        fvd.amend("both.fvd", data_file="./both.fvd", backing_unsafe=True)
    fvd.open("both.fvd").close()


def test_a_base_may_have_a_name_like_an_option(here: Path) -> None:
    os.rename("base.raw", "-name")
    fvd_command("create", "-q", "-b", "-name", "-F", "raw", "new.fvd")
    assert fvd.info("new.fvd")["backing-filename"] == "-name"
    os.rename("-name", "base.raw")
    run("cp", "base.raw", "./--")
    fvd_command("create", "-qF", "raw", "--backing", "--", "other.fvd")
    assert fvd.info("other.fvd")["backing-filename"] == "--"
