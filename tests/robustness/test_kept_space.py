"""Zeroing that must keep space: writes to the zeroed range succeed on a full file system."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fvd
from fvd.types import Aio, CacheMode, Discard, ImageOptions
from support import MIB, run, unmount
from support.disks import Ballast, allocated

SIZE = 16 * MIB
SLACK = MIB  # metadata, including that of the file system
LAYOUTS: dict[str, ImageOptions] = {
    "plain": {},
    "compact": {"compact_image": True, "chunk_size": "64K"},
    "data-file": {"data_file": "data.raw"},
    "compact-data-file": {"compact_image": True, "chunk_size": "64K", "data_file": "data.raw"},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(params=["ext4", "xfs", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A separate file system, with space for the disk of a test and its ballast."""
    kind: str = request.param
    place = tmp_path / kind
    place.mkdir()
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place)
    else:
        device = tmp_path / "device"
        with device.open("wb") as file:
            # The minimum size for XFS.
            file.truncate(320 * MIB)
        run(f"mkfs.{kind}", "-q", device)
        run("mount", "-o", "loop", device, place)
    try:
        yield place
    finally:
        unmount(place)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A block device, and the sparse file behind it."""
    file = tmp_path / "backing"
    with file.open("wb") as backing:
        backing.truncate(64 * MIB)
    name = run("losetup", "--find", "--show", file).stdout.decode().strip()
    try:
        yield Path(name), file
    finally:
        run("losetup", "--detach", name)


def create(path: Path, layout: str) -> Path:
    fvd.create(path, SIZE, options=LAYOUTS[layout])
    return path


def space(image: Path) -> int:
    data = image.parent / "data.raw"
    return allocated(image) + (allocated(data) if data.exists() else 0)


def sync(path: Path) -> None:
    """Makes the file system allocate delayed blocks. Before that, it counts its reservations as used."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fill(image: Path, byte: bytes = b"a") -> None:
    with fvd.open(image, "r+") as disk:
        disk.pwrite(byte * SIZE, 0)


def zero_by_detection(image: Path) -> None:
    with fvd.open(image, "r+", detect_zeroes="on") as disk:
        disk.pwrite(bytes(SIZE), 0)


def zero_where_discards_are_ignored(image: Path) -> None:
    with fvd.open(image, "r+", discard="ignore") as disk:
        disk.zero(SIZE, 0)


def zero_by_detection_where_discards_are_ignored(image: Path) -> None:
    with fvd.open(image, "r+", detect_zeroes="unmap", discard="ignore") as disk:
        disk.pwrite(bytes(SIZE), 0)


def zero_without_holes(image: Path) -> None:
    with fvd.serve(image) as server:
        qemu_io(server.uri, f"write -z 0 {SIZE}")


def zero_by_a_client_where_discards_are_ignored(image: Path) -> None:
    with fvd.serve(image, discard="ignore") as server:
        qemu_io(server.uri, f"write -z -u 0 {SIZE}")


WAYS = [
    zero_by_detection,
    zero_where_discards_are_ignored,
    zero_by_detection_where_discards_are_ignored,
    zero_without_holes,
    zero_by_a_client_where_discards_are_ignored,
]


def qemu_io(uri: str, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", "-f", "raw", "-d", "unmap", *words, uri)
    assert b"failed" not in said.stdout, said.stdout


def assert_takes_a_write_when_full(image: Path, overwrite: Callable[[Path], None]) -> None:
    Ballast(image.parent, left=MIB).fill()
    overwrite(image)
    with fvd.open(image) as disk:
        assert disk.pread(SIZE, 0) == b"b" * SIZE


@layouts
@pytest.mark.parametrize("zero", WAYS)
def test_zeros_keep_the_space_of_an_image(place: Path, layout: str, zero: Callable[[Path], None]) -> None:
    image = create(place / "image.fvd", layout)
    fill(image)
    zero(image)
    sync(image)
    assert space(image) >= SIZE
    with fvd.open(image) as disk:
        assert disk.pread(SIZE, 0) == bytes(SIZE)
    assert_takes_a_write_when_full(image, lambda image: fill(image, b"b"))


@pytest.mark.parametrize("cache", ["writeback", "none"])
@pytest.mark.parametrize("aio", ["threads", "io_uring"])
def test_zeros_of_a_client_keep_space_in_every_aio_mode(tmp_path: Path, cache: CacheMode, aio: Aio) -> None:
    image = create(tmp_path / "image.fvd", "plain")
    fill(image)
    with fvd.serve(image, discard="ignore", cache=cache, aio=aio) as server:
        qemu_io(server.uri, f"write -z -u 0 {SIZE}", f"write -z -u 4608 {MIB}", "flush")
    assert space(image) >= SIZE


@pytest.mark.parametrize("layout", ["plain", "compact"])
@pytest.mark.parametrize("zero", [zero_by_detection, zero_by_a_client_where_discards_are_ignored])
def test_zeros_allocate_no_space(place: Path, layout: str, zero: Callable[[Path], None]) -> None:
    image = create(place / "image.fvd", layout)
    zero(image)
    sync(image)
    assert space(image) <= SLACK


@layouts
def test_zeros_without_holes_allocate_space(place: Path, layout: str) -> None:
    image = create(place / "image.fvd", layout)
    zero_without_holes(image)
    sync(image)
    assert space(image) >= SIZE
    assert_takes_a_write_when_full(image, lambda image: fill(image, b"b"))


def test_zeros_without_holes_allocate_space_for_base_blocks(place: Path) -> None:
    with (place / "base.raw").open("wb") as base:
        base.truncate(SIZE)
    for layout in ("plain", "compact"):
        image = place / f"{layout}.fvd"
        options: ImageOptions = {**LAYOUTS[layout], "block_size": "24K"}
        fvd.create(image, backing_file="base.raw", backing_format="raw", options=options)
        with fvd.serve(image) as server:
            qemu_io(server.uri, f"write -z 512 {SIZE - 512}")
        sync(image)
        assert allocated(image) >= SIZE - 512


@pytest.mark.parametrize("unmap", ["", "-u"])
def test_a_served_raw_disk_keeps_its_space(place: Path, unmap: str) -> None:
    disk = place / "disk.raw"
    disk.write_bytes(b"a" * SIZE)
    sync(disk)
    before = allocated(disk)
    discard: Discard = "ignore" if unmap else "unmap"
    with fvd.serve(disk, format="raw", discard=discard) as server:
        qemu_io(server.uri, f"write -z {unmap} 0 {SIZE}", "flush")
        sync(disk)
        assert allocated(disk) >= before
        Ballast(place, left=MIB).fill()
        qemu_io(server.uri, f"write -P 98 0 {SIZE}", "flush")
    assert disk.read_bytes() == b"b" * SIZE


def test_a_served_raw_disk_frees_space_only_with_holes(place: Path) -> None:
    disk = place / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    with fvd.serve(disk, format="raw") as server:
        qemu_io(server.uri, f"write -z 0 {SIZE}", "flush")
        sync(disk)
        assert allocated(disk) >= SIZE
        qemu_io(server.uri, f"write -z -u 0 {SIZE}", "flush")
        sync(disk)
        assert allocated(disk) <= SLACK


@pytest.mark.parametrize("layout", ["plain", "compact"])
@pytest.mark.parametrize("zero", WAYS)
def test_zeros_keep_the_space_of_an_image_on_a_device(
    device: tuple[Path, Path], layout: str, zero: Callable[[Path], None]
) -> None:
    image, backing = device
    create(image, layout)
    fill(image)
    sync(image)
    zero(image)
    sync(image)
    assert allocated(backing) >= SIZE
    with fvd.open(image) as disk:
        assert disk.pread(SIZE, 0) == bytes(SIZE)


@pytest.mark.parametrize("layout", ["plain", "compact"])
def test_zeros_free_the_space_of_a_device_by_default(device: tuple[Path, Path], layout: str) -> None:
    image, backing = device
    create(image, layout)
    fill(image)
    with fvd.open(image, "r+") as disk:
        disk.zero(SIZE, 0)
    sync(image)
    assert allocated(backing) <= SLACK


@pytest.mark.parametrize("mode", ["writethrough", "writeback"])
@pytest.mark.parametrize("discard", ["ignore", "unmap"])
def test_zeros_keep_the_space_of_a_base_that_is_written_to(
    tmp_path: Path, mode: str, discard: Discard
) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(b"a" * SIZE)
    image = tmp_path / "image.fvd"
    fvd.create(image, backing_file=base.name, backing_format="raw", options={"write_updates_base_img": mode})
    with fvd.open(image, "r+", write_base=True, discard=discard) as disk:
        disk.zero(SIZE, 0)
    sync(base)
    assert base.read_bytes() == bytes(SIZE)
    if discard == "ignore":
        assert allocated(base) >= SIZE


def test_prefetch_of_zeros_keeps_space_if_discard_is_ignored(tmp_path: Path) -> None:
    with (tmp_path / "base.raw").open("wb") as base:
        base.truncate(SIZE)
    image = tmp_path / "image.fvd"
    options: ImageOptions = {"data_file": "data.raw"}
    fvd.create(image, backing_file="base.raw", backing_format="raw", options=options)
    data = tmp_path / "data.raw"
    with data.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE)
    with fvd.open(image, "r+", discard="ignore") as disk:
        disk.prefetch()
    assert allocated(data) >= SIZE
