"""Missing files that an image names: errors say which image names the file, the consequence, and the
remedy.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import fvd
import fvd.aio
from support import MIB, fvd_command, run

Open = Callable[[Path], object]


async def _open_aio(path: Path) -> None:
    await fvd.aio.open(path)


def serve(path: Path) -> None:
    fvd.serve(path, socket=path.with_name("nbd.sock"))


WAYS: dict[str, Open] = {
    "open": fvd.open,
    "open for writing": lambda path: fvd.open(path, "r+"),
    "asyncio": lambda path: asyncio.run(_open_aio(path)),
    "map": fvd.map,
    "check": lambda path: fvd.check(path, backing_chain=True),
    "compare": lambda path: fvd.compare(path, path),
    "serve": serve,
}
OF_BASES: dict[str, Open] = WAYS | {"info": lambda path: fvd.info(path, backing_chain=True)}


def failure(open: Open, path: Path) -> fvd.FvdError:
    with pytest.raises(fvd.FvdError) as caught:
        open(path)
    return caught.value


def level(path: Path) -> str:
    return f"its backing file '{path.name}' ({path}) cannot be opened: "


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """A base, and two images above it."""
    base, middle, top = (tmp_path / name for name in ("base.raw", "middle.fvd", "top.fvd"))
    base.write_bytes(bytes(MIB))
    fvd.create(middle, backing_file=base.name, backing_format="raw")
    fvd.create(top, backing_file=middle.name, backing_format="fvd")
    return [base, middle, top]


@pytest.mark.parametrize("open", OF_BASES.values(), ids=OF_BASES)
def test_the_error_about_a_missing_base_names_the_whole_chain(open: Open, chain: list[Path]) -> None:
    base, middle, top = chain
    base.unlink()
    missing = "No such file or directory; `fvd amend -o backing_file=NAME"
    error = failure(open, middle)
    assert (error.filename, error.errno) == (str(middle), 2)
    assert error.strerror == level(base) + missing + f" {middle}` tells the image where it is now"
    error = failure(open, top)
    assert (error.filename, error.errno) == (str(top), 2)
    assert error.strerror == (
        level(middle) + level(base) + missing + f" {middle}` tells the image where it is now"
    )


@pytest.mark.parametrize("open", WAYS.values(), ids=WAYS)
def test_a_missing_data_file_is_told_with_its_image(open: Open, tmp_path: Path) -> None:
    path = tmp_path / "disk.fvd"
    fvd.create(path, MIB, options={"data_file": "data.raw"})
    (tmp_path / "data.raw").unlink()
    error = failure(open, path)
    assert (error.filename, error.errno) == (str(path), 2)
    assert error.strerror == (
        f"its data file 'data.raw' ({tmp_path}/data.raw) cannot be opened: No such file or directory; "
        f"`fvd amend -o data_file=NAME {path}` tells the image where it is now"
    )


@pytest.mark.parametrize("open", OF_BASES.values(), ids=OF_BASES)
def test_a_base_of_another_format_is_told_with_its_image(open: Open, chain: list[Path]) -> None:
    _, middle, top = chain
    middle.write_bytes(b"something else".ljust(MIB))
    error = failure(open, top)
    assert (type(error), error.filename) == (fvd.InvalidImageError, str(top))
    assert level(middle) + "not an FVD image" in str(error)
    assert "amend" not in str(error)


def test_a_file_missing_under_a_qcow2_base_names_the_chain(chain: list[Path]) -> None:
    base, _, top = chain
    qcow2 = base.with_name("base.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.name, qcow2)
    top.unlink()
    fvd.create(top, backing_file=qcow2.name, backing_format="qcow2")
    base.unlink()
    error = failure(fvd.open, top)
    assert (error.filename, error.errno) == (str(top), 2)
    assert error.strerror == level(qcow2) + level(base) + "No such file or directory"


def test_an_absolute_name_is_said_once(chain: list[Path]) -> None:
    base, _, top = chain
    path = top.with_name("absolute.fvd")
    fvd.create(path, backing_file=str(base))
    base.unlink()
    assert f"its backing file '{base}' cannot be opened: No such file" in str(failure(fvd.open, path))


def test_the_command_says_the_same(chain: list[Path]) -> None:
    base, middle, top = chain
    base.unlink()
    for command in (["map"], ["serve", "--socket", top.with_name("nbd.sock")], ["info", "--backing-chain"]):
        said = fvd_command(*command, "top.fvd", cwd=top.parent, ok=[1]).stderr.decode()
        assert said == (
            f"fvd: Could not open 'top.fvd': {level(middle)}{level(base)}No such file or directory; "
            f"`fvd amend -o backing_file=NAME {middle}` tells the image where it is now\n"
        )
