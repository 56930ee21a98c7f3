"""What type checkers accept and refuse in a program that uses `fvd`."""

import re
import sys
from pathlib import Path

from fvd import types
from fvd.amendable import ALIASES, AMENDABLE
from fvd.options import FVD_OPTIONS
from support import run

PROGRAM = """
import asyncio
from pathlib import Path

import fvd
import fvd.aio
from fvd.types import ImageInfo, ImageOptions, Mode

disk = Path("disk.fvd")


def serve(server: fvd.Server, image: fvd.Image, other: fvd.aio.Image) -> str:
    fvd.convert(image, disk, format="fvd")
    fvd.compare(other, disk)
    fvd.compare(disk, "x")
    return server.uri


def infos(chain: bool) -> list[ImageInfo]:
    found = fvd.info(disk, backing_chain=chain)
    return found if isinstance(found, list) else [found]


one: ImageInfo = fvd.info(disk)
several: list[ImageInfo] = fvd.info(disk, backing_chain=True)
options: ImageOptions = {"compact_image": True, "chunk_size": "64K", "data_file": disk}
fvd.create(disk, "1G", backing_file=disk, backing_format="raw", options=options, trust=[disk, "x"])
fvd.create(disk, 1 << 20, options={"journal_size": -1})
fvd.amend(disk, base_img=disk, copy_on_read=True)
mode: Mode = "r+"
with fvd.open(disk, mode) as image, fvd.serve(image, socket=disk, tls_authz=["CN=x"]) as server:
    serve(server, image, asyncio.run(fvd.aio.open(disk)._open()))
try:
    fvd.open(disk)
except fvd.NotPermittedError as error:
    needed: str | None = error.needs_trust

fvd.open(disk, "rw")  # wrong
fvd.aio.open(disk, "w")  # wrong
fvd.create(disk, 1, options={"compact_imag": True})  # wrong
fvd.create(disk, 1, options={"compact_image": 2.5})  # wrong
fvd.create(disk, 1, format="qcow2")  # wrong
fvd.amend(disk, copy_on_reed=True)  # wrong
fvd.open(disk, cache="writebak")  # wrong
fvd.convert(None, disk)  # wrong
"""


def test_a_type_checker_finds_exactly_the_mistakes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    expected = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line]
    command = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary")
    said = run(*command, "--cache-dir", tmp_path / "cache", program, ok=(1,)).stdout.decode()
    found = re.findall(rf"^{re.escape(str(program))}:(\d+): error:", said, re.MULTILINE)
    assert sorted({int(number) for number in found}) == expected, said
    assert len(said.splitlines()) == said.count(str(program)), said


TYPES = {
    "bool": types.Switch,
    "switch": types.Switch,
    "size": types.StrSize,
    "signed size": types.StrSize,
    "number": types.StrSize,
    "str": str,
    "file": types.StrPath,
}


def test_the_typed_options_are_the_existing_ones() -> None:
    arguments = {"backing_file", "backing_fmt", "size"}
    options = {option.name: TYPES[option.kind] for option in FVD_OPTIONS if option.name not in arguments}
    assert types.ImageOptions.__annotations__ == options
    attributes = {option.name: TYPES[option.kind] for option in AMENDABLE}
    attributes |= {other: attributes[name] for other, name in ALIASES.items()}
    assert types.Attributes.__annotations__ == attributes
