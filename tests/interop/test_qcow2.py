"""qcow2 images made by qemu-img and qemu-io: fvd reads, maps and describes them as qemu-img does."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

import fvd
from support import FVD, KIB, MIB, fvd_command, run

MAKES = [
    "compat=0.10",
    "compat=0.10,cluster_size=512",
    "cluster_size=512",
    "cluster_size=4k,compression_type=zstd",
    "cluster_size=64k",
    "cluster_size=64k,compression_type=zstd,lazy_refcounts=on",
    "cluster_size=2M,compression_type=zstd",
    "cluster_size=16k,extended_l2=on",
    "cluster_size=128k,extended_l2=on,compression_type=zstd,refcount_bits=1",
    "cluster_size=2M,extended_l2=on",
]


def qemu_io(image: Path, *commands: str) -> None:
    run("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), image)


def overlaps(ranges: list[tuple[int, int]], start: int, length: int) -> bool:
    return any(at < start + length and start < at + count for at, count in ranges)


def write_at_random(
    image: Path, size: int, seed: int, *, compress: bool = True, discard: bool = True
) -> None:
    """Overlapping data, compressed clusters, zeros and discarded ranges."""
    rng = random.Random(seed)
    info = json.loads(run("qemu-img", "info", "--output=json", image).stdout)
    cluster = info["cluster-size"]
    # QEMU cannot write compressed data to an allocated cluster.
    of_qemu = json.loads(run("qemu-img", "map", "--output=json", image).stdout)
    taken = [(extent["start"], extent["length"]) for extent in of_qemu if extent["depth"] == 0]
    commands = []
    for pattern in range(1, 25):
        start = rng.randrange(size // 512) * 512
        length = min(rng.choice([512, 4 * KIB, 70 * KIB, 700 * KIB]), size - start)
        whole = start // cluster * cluster
        match rng.choice("wwwzzdcc"):
            case "z":
                unmap = rng.choice(["", "-u "])
                commands.append(f"write -z {unmap}{start} {length}")
            case "d" if discard:
                commands.append(f"discard {start} {length}")
            case "c" if compress and whole + cluster <= size and not overlaps(taken, whole, cluster):
                commands.append(f"write -c -P {pattern} {whole} {cluster}")
            case _:
                commands.append(f"write -P {pattern} {start} {length}")
        first = start // cluster * cluster
        taken.append((first, -(-(start + length) // cluster) * cluster - first))
    qemu_io(image, *commands)


def as_qemu_reads(image: Path) -> bytes:
    raw = image.with_suffix(".expected")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    return raw.read_bytes()


def check_content(image: Path) -> None:
    expected = as_qemu_reads(image)
    flat, overlay = image.with_suffix(".flat"), image.with_suffix(".fvd")
    fvd.convert(image, flat, source_format="qcow2", target_format="raw")
    assert flat.read_bytes() == expected
    fvd.create(overlay, backing_file=image.name, backing_format="qcow2")
    rng = random.Random(1)
    with fvd.open(overlay) as disk:
        for _ in range(50):
            length = rng.choice([1, 511, 5000, 100_000])
            offset = rng.randrange(len(expected) - length)
            assert disk.pread(length, offset) == expected[offset : offset + length]


def extents(json_map: bytes) -> list[dict[str, Any]]:
    """The entries of a map, without offsets in ranges that no layer holds.

    QEMU gives an offset if a cluster is allocated but one of its subclusters is not.
    """
    merged: list[dict[str, Any]] = []
    for extent in json.loads(json_map):
        if not extent["present"]:
            extent.pop("offset", None)
        before = merged[-1] if merged else {}
        if "offset" not in before and {**before, "start": 0, "length": 0} == {
            **extent,
            "start": 0,
            "length": 0,
        }:
            before["length"] += extent["length"]
        else:
            merged.append(extent)
    return merged


def check_map(image: Path) -> None:
    for output in ("json", "human"):
        words: list[str | Path] = ["map", "-f", "qcow2", f"--output={output}", image]
        of_qemu = run("qemu-img", *words, ok=(0, 1))
        ours = fvd_command(*words, ok=(0, 1))
        assert ours.returncode == of_qemu.returncode, ours.stderr
        if output == "json":
            assert json.loads(ours.stdout) == extents(of_qemu.stdout)
        else:
            assert ours.stdout.decode() == of_qemu.stdout.decode()
        assert ours.stderr.split(b": ", 1)[1:] == of_qemu.stderr.split(b": ", 1)[1:]


@pytest.mark.parametrize("options", MAKES)
def test_every_kind_is_read_and_mapped_as_qemu_does(options: str, tmp_path: Path) -> None:
    size = 5 * MIB + 512
    image = tmp_path / "image"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, image, str(size))
    write_at_random(image, size, seed=len(options))
    if "refcount_bits=1" not in options:
        run("qemu-img", "snapshot", "-c", "before", image)
    write_at_random(image, size, seed=len(options) + 1)
    check_content(image)
    check_map(image)


@pytest.mark.parametrize("options", ["", "cluster_size=512", "extended_l2=on", "compat=0.10"])
@pytest.mark.parametrize(
    "sizes", [(4 * MIB, 4 * MIB), (2 * MIB + 300 * 512, 4 * MIB), (6 * MIB, 3 * MIB + 512)]
)
def test_a_chain_is_read_and_mapped_as_qemu_does(
    options: str, sizes: tuple[int, int], tmp_path: Path
) -> None:
    below, above = sizes
    raw = tmp_path / "raw"
    raw.write_bytes(
        random.Random(1).randbytes(MIB) + bytes(MIB) + random.Random(2).randbytes(below - 2 * MIB - 100)
    )
    with_options = ["-o", options] if options else []
    run("qemu-img", "create", "-f", "qcow2", "-b", "raw", "-F", "raw", "middle", str(below), cwd=tmp_path)
    write_at_random(tmp_path / "middle", below, seed=below)
    command = ["qemu-img", "create", "-f", "qcow2", *with_options, "-b", "middle", "-F", "qcow2"]
    run(*command, tmp_path / "image", str(above), cwd=tmp_path)
    version_2 = "compat=0.10" in options
    write_at_random(tmp_path / "image", above, seed=above, discard=not version_2)
    check_content(tmp_path / "image")
    check_map(tmp_path / "image")


@pytest.mark.parametrize("raw", ["on", "off"])
@pytest.mark.parametrize("more", ["", ",extended_l2=on", ",preallocation=metadata"])
def test_a_data_file_is_read_and_mapped_as_qemu_does(raw: str, more: str, tmp_path: Path) -> None:
    # QEMU looks up a relative name in the current directory, fvd in that of the image.
    image, options = tmp_path / "image", f"data_file={tmp_path}/data.raw,data_file_raw={raw}{more}"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, image, "4M")
    write_at_random(image, 4 * MIB, seed=3, compress=False)
    check_content(image)
    if "preallocation" not in more:
        check_map(image)


@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_preallocated_images_are_read_as_qemu_does(preallocation: str, tmp_path: Path) -> None:
    image, options = tmp_path / "image", f"preallocation={preallocation}"
    run("qemu-img", "create", "-f", "qcow2", "-o", options, image, "4M")
    write_at_random(image, 4 * MIB, seed=5)
    check_content(image)


def test_an_image_that_was_not_closed_is_read_as_qemu_does(tmp_path: Path) -> None:
    image = tmp_path / "image"
    run("qemu-img", "create", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "4M")
    killed = ["-c", "write -P 7 0 1M", "-c", "flush", "-c", "abort"]
    run("qemu-io", "-f", "qcow2", *killed, image, ok=(-6, 134))
    assert fvd.info(image)["dirty-flag"]
    check_content(image)


def described(image: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The output of qemu-img and of fvd about an image, without information about the file below it."""
    of_qemu = json.loads(run("qemu-img", "info", "--output=json", image).stdout)
    of_qemu.pop("children")
    return of_qemu, json.loads(fvd_command("info", "--output=json", image).stdout)


def human(program: Path | str, image: Path) -> list[str]:
    lines = run(program, "info", image).stdout.decode().splitlines()
    of_file = ("Child node", "    filename", "    protocol", "    file length")
    return [line for line in lines if not line.startswith(of_file)]


@pytest.mark.parametrize("options", [*MAKES, "data_file=data", "data_file=data,data_file_raw=on"])
def test_info_equals_that_of_qemu_img(options: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    options = options.replace("data_file=", f"data_file={tmp_path}/")
    run("qemu-img", "create", "-f", "qcow2", "-o", options, image, "3M")
    if "compat=0.10" not in options:
        run("qemu-img", "bitmap", "--add", "-g", "128k", image, "first one")
        run("qemu-img", "bitmap", "--add", "--disable", image, "second")
    if "data_file" not in options and "refcount_bits=1" not in options:
        run("qemu-img", "snapshot", "-c", "one", image)
        run("qemu-img", "snapshot", "-c", "another one", image)
    of_qemu, ours = described(image)
    assert ours == of_qemu
    # QEMU appends a child node, with its own disk size.
    ours_for_people = human(FVD, image)
    assert ours_for_people == human("qemu-img", image)[: len(ours_for_people)]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_info_names_what_prevents_reading_an_image(bits: int, tmp_path: Path) -> None:
    image = tmp_path / "image"
    run("qemu-img", "create", "-f", "qcow2", image, "3M")
    content = bytearray(image.read_bytes())
    content[79] |= bits
    image.write_bytes(content)
    of_qemu, ours = described(image)
    assert ours == of_qemu
    assert ours["dirty-flag"] == bool(bits & 1)
    assert ours["format-specific"]["data"]["corrupt"] == bool(bits & 2)
    assert "cleanly shut down: no" in human(FVD, image) or not bits & 1


def test_info_describes_an_encrypted_image(tmp_path: Path) -> None:
    image = tmp_path / "image"
    secret = ["--object", "secret,id=s,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=s"]
    run("qemu-img", "create", "-f", "qcow2", *secret, "-o", "encrypt.iter-time=10", image, "3M")
    of_qemu, ours = described(image)
    of_qemu["format-specific"]["data"]["encrypt"] = {"format": "luks"}
    assert ours == of_qemu
    assert "encrypted: yes" in human(FVD, image)
    with pytest.raises(fvd.UnsupportedError, match=r"encrypted \(luks\).*qemu-img convert"):
        fvd.map(image)


def test_the_depth_of_data_below_a_qcow2_base_counts_its_layers(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"\x07" * MIB)
    run("qemu-img", "create", "-f", "qcow2", "-b", "raw", "-F", "raw", "base", "2M", cwd=tmp_path)
    qemu_io(tmp_path / "base", "write -P 5 64k 64k", "write -c -P 6 128k 64k")
    overlay = tmp_path / "overlay.fvd"
    fvd.create(overlay, backing_file="base", backing_format="qcow2")
    with fvd.open(overlay, "r+") as image:
        image.pwrite(b"\x08" * 64 * KIB, 192 * KIB)
    found = [
        (extent["start"] // KIB, extent["depth"], extent["present"], extent["compressed"])
        for extent in fvd.map(overlay)
    ]
    expected = [
        (0, 2, True, False),
        (64, 1, True, False),
        (128, 1, True, True),
        (192, 0, True, False),
        (256, 2, True, False),
        (1024, 1, False, False),
    ]
    assert found == expected
    people = fvd_command("map", overlay, ok=(1,))
    assert b"external, encrypted or compressed clusters" in people.stderr
    with fvd.serve(overlay, socket=tmp_path / "socket", read_only=True) as server:
        depths = json.loads(run("nbdinfo", "--map=qemu:allocation-depth", "--json", server.uri).stdout)
    served = [(extent["offset"] // KIB, extent["type"]) for extent in depths]
    assert served == [(0, 3), (64, 2), (192, 1), (256, 3), (1024, 0)]
