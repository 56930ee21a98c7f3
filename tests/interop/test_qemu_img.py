"""Comparison with the real qemu-img: it finds fvd's conversions identical, and fvd reads its qcow2 images."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import FVD, KIB, MIB, TOOLS_ENV, fvd_command, run
from support.disks import allocated, content, random_disk, sha256_file

TARGETS = {
    "plain": "",
    "compact": "compact_image=on",
    "compact_small_chunks": "compact_image=on,chunk_size=64K,storage_grow_unit=1M",
    "compact_odd_chunks": "compact_image=on,chunk_size=12K,journal_size=4096",
    "data_file": "data_file=data.raw,data_file_fmt=raw",
}


def identical_to_qemu(a: Path, b: Path) -> None:
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", a, b)


@pytest.mark.parametrize("cache", ["writeback", "none"])
@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize(("size", "density"), [(8 * MIB, 1.0), (20 * MIB + 512, 0.3), (64 * MIB, 0.0)])
def test_raw_to_fvd_and_back_is_identical(
    tmp_path: Path, options: str, size: int, density: float, cache: str
) -> None:
    source = random_disk(tmp_path / "source.raw", size, seed=size, density=density)
    image, back = tmp_path / "image.fvd", tmp_path / "back.raw"
    with_options = ["-o", options] if options else []
    fvd_command(
        "convert",
        "-t",
        cache,
        "-T",
        cache,
        "-f",
        "raw",
        "-O",
        "fvd",
        *with_options,
        source,
        image,
        cwd=tmp_path,
    )
    fvd_command("check", image)
    fvd_command("compare", "-f", "raw", source, image)
    fvd_command("convert", "-t", cache, "-T", cache, "-O", "raw", image, back)
    identical_to_qemu(source, back)
    assert back.stat().st_size == size
    # Holes stay holes: no more space than the source, except for rounding to pages and chunks.
    assert allocated(back) <= allocated(source) + MIB


def test_out_of_order_and_into_an_existing_target(tmp_path: Path) -> None:
    source = random_disk(tmp_path / "source.raw", 16 * MIB, seed=1)
    image, back = tmp_path / "image.fvd", tmp_path / "back.raw"
    fvd_command("create", "-f", "fvd", "-o", "compact_image=on", image, "16M")
    fvd_command("convert", "-n", "-W", "-f", "raw", "-O", "fvd", source, image)
    random_disk(back, 16 * MIB, seed=2, density=1.0)  # old content, which must be overwritten
    fvd_command("convert", "-n", "-W", "-O", "raw", image, back)
    identical_to_qemu(source, back)


def test_stdin_and_stdout(tmp_path: Path) -> None:
    source = random_disk(tmp_path / "source.raw", 4 * MIB, seed=3)
    image = tmp_path / "image.fvd"
    fvd_command("convert", "-f", "raw", "-O", "fvd", "-", image, stdin=source.read_bytes())
    assert fvd_command("convert", "-O", "raw", image, "-").stdout == source.read_bytes()


@pytest.fixture(params=["default", "compressed", "small_clusters", "old_version", "backed"])
def qcow2(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A qcow2 image of 16 MiB, made by qemu-img."""
    raw = random_disk(tmp_path / "raw", 16 * MIB, seed=4)
    image = tmp_path / "base.qcow2"
    match request.param:
        case "default":
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
        case "compressed":
            run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, image)
        case "small_clusters":
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", raw, image)
        case "old_version":
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", raw, image)
        case "backed":
            run("qemu-img", "create", "-f", "qcow2", "-b", raw.name, "-F", "raw", image, cwd=tmp_path)
            run("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 3M", "-c", "write -z 5M 1M", image)
    return image


def test_qcow2_is_converted(qcow2: Path, tmp_path: Path) -> None:
    expected, image, back = tmp_path / "expected.raw", tmp_path / "image.fvd", tmp_path / "back.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, expected)
    fvd_command("convert", "-f", "qcow2", "-O", "fvd", "-o", "compact_image=on", qcow2, image)
    fvd_command("convert", "-O", "raw", image, back)
    identical_to_qemu(expected, back)


def test_overlay_on_qcow2_shows_it_and_is_written(qcow2: Path, tmp_path: Path) -> None:
    expected, overlay, flat = tmp_path / "expected.raw", tmp_path / "overlay.fvd", tmp_path / "flat.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, expected)
    before = sha256_file(qcow2)
    fvd_command("create", "-f", "fvd", "-b", qcow2.name, "-F", "qcow2", overlay, "20M", cwd=tmp_path)
    model = bytearray(expected.read_bytes().ljust(20 * MIB, b"\0"))
    rng = random.Random(5)
    with fvd.open(overlay, "r+") as image:
        assert content(image) == model
        for _ in range(50):
            data = rng.randbytes(rng.choice([1, 512, 5000, 200 * KIB]))
            offset = rng.randrange(len(model) - len(data))
            image.pwrite(data, offset)
            model[offset : offset + len(data)] = data
    fvd_command("check", overlay)
    fvd_command("convert", "-O", "raw", overlay, flat)
    expected.write_bytes(model)
    identical_to_qemu(expected, flat)
    assert sha256_file(qcow2) == before


@pytest.fixture
def qemu_io_has_it_open(tmp_path: Path) -> Iterator[Path]:
    """An FVD image that a running qemu-io has opened for writing, as raw."""
    path = tmp_path / "locked.fvd"
    fvd.create(path, MIB)
    with path.open("r+b") as file:
        file.truncate(2 * MIB)
    process = subprocess.Popen(
        ["qemu-io", "-f", "raw", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=TOOLS_ENV,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"read 0 512\n")
    line = process.stdout.readline()  # the prompt and the answer; the image is open now
    assert b"read 512/512" in line, line
    yield path
    process.stdin.close()
    process.stdout.read()
    process.wait(timeout=60)
    process.stdout.close()


def test_an_image_that_qemu_writes_is_in_use(qemu_io_has_it_open: Path) -> None:
    for mode in ("r", "r+"):
        with pytest.raises(fvd.InUseError, match=r"lock"):
            fvd.open(qemu_io_has_it_open, mode)
    refused = fvd_command("check", qemu_io_has_it_open, ok=(1,))
    assert refused.stderr.startswith(b"fvd: Could not open '")
    fvd_command("info", "-U", qemu_io_has_it_open)


def test_qemu_finds_an_image_that_fvd_writes_in_use(tmp_path: Path) -> None:
    path = tmp_path / "locked.fvd"
    fvd.create(path, MIB)
    with fvd.open(path, "r+"):
        refused = run("qemu-io", "-f", "raw", "-c", "read 0 512", path, ok=(1,))
        assert b"lock" in refused.stderr
        run("qemu-io", "-U", "-r", "-f", "raw", "-c", "read 0 512", path)
        with pytest.raises(fvd.InUseError):
            fvd.open(path, "r+")
    with fvd.open(path), fvd.open(path):
        run("qemu-io", "-r", "-f", "raw", "-c", "read 0 512", path)
    run("qemu-io", "-f", "raw", "-c", "read 0 512", path)


def test_a_half_written_target_is_removed(tmp_path: Path) -> None:
    """A file size limit of 4 MiB stands in for a full disk."""
    source = random_disk(tmp_path / "source.raw", 16 * MIB, seed=6, density=1.0)
    target = tmp_path / "target.raw"
    image = tmp_path / "image.fvd"
    fvd_command("convert", "-f", "raw", "-O", "fvd", source, image)
    script = 'ulimit -f 4096; trap "" XFSZ; exec "$0" convert -O raw "$1" "$2"'
    failed = run("bash", "-c", script, FVD, image, target, ok=(1,))
    assert failed.stderr.startswith(b"fvd: ")
    assert b"Traceback" not in failed.stderr
    assert not target.exists()
