"""Templates: published with `fvd publish`, offered by a real web server, used as a base."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import MIB
from support.nginx import Nginx, serving

UNIT = 256 << 10
PROFILE = [[UNIT, 8192], [0, 4096]]


def disk() -> bytes:
    """3 MiB, of which the second is zeros."""
    data = random.Random(5).randbytes(3 * MIB)
    return data[:MIB] + bytes(MIB) + data[2 * MIB :]


DATA = disk()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with serving(tmp_path / "nginx") as nginx:
        yield nginx


@pytest.fixture
def www(server: Nginx) -> Path:
    return server.folder / "www"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(DATA)
    return path


def run(server: Nginx, *arguments: object, ok: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "FVD_CONFIG": "", "FVD_TRUST": server.url("")}
    command = [sys.executable, "-m", "fvd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=120)
    assert done.returncode == ok, done
    return done


def profile_file(folder: Path) -> Path:
    path = folder / "boot.profile"
    path.write_text(json.dumps({"fvd-profile": 1, "entries": PROFILE}))
    return path


def paths(server: Nginx) -> list[str]:
    """Status and range of each request."""
    return server.requests()


def test_an_image_on_a_template_is_pinned_by_the_manifest(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    done = fvd.publish(source, www / "base.raw")
    assert (done["size"], done["data"], done["written"]) == (3 * MIB, 2 * MIB, True)
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd")
    pin = fvd.info(tmp_path / "vm.fvd")["format-specific"]["data"]["base-pin"]
    assert (pin["validator"], pin["value"]) == ("manifest", done["manifest"])
    assert "validator: manifest" in run(server, "info", tmp_path / "vm.fvd").stdout
    with fvd.open(tmp_path / "vm.fvd", trust=server.trust) as image:
        assert image.pread(3 * MIB, 0) == DATA


def test_a_flipped_byte_is_never_read(server: Nginx, www: Path, source: Path, tmp_path: Path) -> None:
    fvd.publish(source, www / "base.raw")
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd")
    flipped = bytearray(DATA)
    flipped[2 * MIB + 77] ^= 1
    server.put("base.raw", bytes(flipped))
    with fvd.open(tmp_path / "vm.fvd", "r+", copy_on_read=True, trust=server.trust) as image:
        assert image.pread(MIB, 0) == DATA[:MIB], "other chunks are what they were"
        with pytest.raises(fvd.IoError, match=r"Chunk 8 .*damaged, twice") as raised:
            image.pread(512, 2 * MIB)
        assert raised.value.errno == 5
        server.put("base.raw", DATA)
        assert image.pread(MIB, 2 * MIB) == DATA[2 * MIB :]


def test_zeros_are_not_fetched_by_prefetch_and_convert(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    fvd.publish(source, www / "base.raw")
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd")
    with fvd.open(tmp_path / "vm.fvd", "r+", trust=server.trust) as image:
        assert image.prefetch()["zeros"] == MIB
    run(server, "convert", "-f", "raw", "-O", "raw", server.url("base.raw"), tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == DATA
    zeros = range(MIB, 2 * MIB)
    for request in paths(server):
        first, _, last = request.partition("bytes=")[2].partition("-")
        whole = range(int(first), int(last) + 1)
        # The manifest, too, is asked for from its first byte.
        assert whole.start == 0 or whole.stop <= zeros.start or whole.start >= zeros.stop, request


def test_a_new_image_gets_the_boot_profile_without_a_word(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    run(server, "publish", "-q", "--profile", profile_file(tmp_path), source, www / "base.raw")
    said = run(server, "create", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd").stdout
    assert "profile_directed_prefetch_start_delay=0" in said
    assert fvd.profile(tmp_path / "vm.fvd")["entries"] == [(UNIT, 8192), (0, 4096)]
    assert "profile" in run(server, "info", tmp_path / "vm.fvd").stdout
    for option, entries in (("prefetch_profile_size=0", 0), ("generate_prefetch_profile=on", 0)):
        image = tmp_path / "without.fvd"
        run(server, "create", "-q", "-o", option, "-b", server.url("base.raw"), "-F", "raw", image)
        assert len(fvd.profile(image)["entries"]) == entries, option


def test_a_better_profile_leaves_images_on_the_template_as_they_are(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    first = fvd.publish(source, www / "base.raw")
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd")
    said = run(server, "publish", "--profile-only", profile_file(tmp_path), www / "base.raw").stdout
    assert first["manifest"] in said
    assert "2 entries" in said
    with fvd.open(tmp_path / "vm.fvd", trust=server.trust) as image:
        assert image.pread(512, 0) == DATA[:512]
    made = tmp_path / "next.fvd"
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", made)
    # The profile of an image can be published as it is.
    again = fvd.publish(made, www / "base.raw", profile_only=True)
    assert (again["profile_entries"], again["written"]) == (2, False)


def test_a_profile_that_a_machine_has_recorded_goes_with_its_disk(
    www: Path, source: Path, tmp_path: Path
) -> None:
    options = {"generate_prefetch_profile": True}
    fvd.create(
        tmp_path / "first.fvd",
        backing_file=source.name,
        backing_format="raw",
        options=options,  # type: ignore[arg-type]
    )
    with fvd.open(tmp_path / "first.fvd", "r+") as image:
        image.pread(4096, 2 * MIB)
    done = fvd.publish(tmp_path / "first.fvd", www / "base.raw")
    assert done["profile_entries"] == 1
    assert (www / "base.raw").read_bytes() == DATA
    assert json.loads((www / "base.raw.fvd-profile").read_text())["entries"] == [[2 * MIB, 4096]]


def test_the_bytes_of_a_compressed_qcow2_file_can_be_a_template(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    qcow2 = tmp_path / "base.qcow2"
    subprocess.run(
        [
            "qemu-img",
            "convert",
            "-c",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-o",
            "compression_type=zstd",
            source,
            qcow2,
        ],
        check=True,
    )
    done = fvd.publish(qcow2, www / "base.qcow2", as_is=True)
    assert done["size"] == qcow2.stat().st_size
    run(server, "create", "-q", "-b", server.url("base.qcow2"), "-F", "qcow2", tmp_path / "vm.fvd")
    with fvd.open(tmp_path / "vm.fvd", trust=server.trust) as image:
        assert image.pread(3 * MIB, 0) == DATA


def test_a_template_in_the_host_cache_opens_without_the_server(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    fvd.publish(source, www / "base.raw")
    image, cache = tmp_path / "vm.fvd", tmp_path / "cache"
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", image)

    def read() -> None:
        with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
            assert opened.pread(3 * MIB, 0) == DATA

    read()
    asked = len(paths(server))
    for name in ("base.raw", "base.raw.fvd-manifest"):
        server.remove(name)
    script = (
        "import fvd, sys\n"
        "image, trust, cache = sys.argv[1:]\n"
        "with fvd.open(image, trust=[trust], cache_dir=cache) as opened:\n"
        f"    sys.stdout.buffer.write(opened.pread({3 * MIB}, 0))\n"
    )
    command = [sys.executable, "-c", script, str(image), server.url(""), str(cache)]
    assert subprocess.run(command, check=True, capture_output=True).stdout == DATA
    assert len(paths(server)) == asked


def test_a_template_is_replaced_only_by_force_and_images_on_it_say_so(
    server: Nginx, www: Path, source: Path, tmp_path: Path
) -> None:
    run(server, "publish", source, www / "base.raw")
    assert "published already" in run(server, "publish", source, www / "base.raw").stdout
    run(server, "create", "-q", "-b", server.url("base.raw"), "-F", "raw", tmp_path / "vm.fvd")
    source.write_bytes(DATA[::-1])
    assert "--force" in run(server, "publish", source, www / "base.raw", ok=1).stderr
    run(server, "publish", "--force", "-q", source, www / "base.raw")
    with pytest.raises(fvd.FvdError, match="backing_pin=update"):
        fvd.open(tmp_path / "vm.fvd", trust=server.trust)
    run(server, "amend", "-o", "backing_pin=update", tmp_path / "vm.fvd")
    with fvd.open(tmp_path / "vm.fvd", trust=server.trust) as image:
        assert image.pread(3 * MIB, 0) == DATA[::-1]


def test_what_cannot_be_done_is_refused_by_name(server: Nginx, source: Path) -> None:
    for arguments, why in (
        (("-c", source, "x"), "qemu-img convert -c"),
        ((source, server.url("base.raw")), "Publish to a folder"),
        (("--as-is", "-f", "qcow2", source, "x"), "--as-is"),
        (("--profile-only", "-f", "raw", source, "x"), "--profile-only"),
    ):
        assert why in run(server, "publish", *arguments, ok=1).stderr


def test_the_progress_of_a_publication_ends_at_its_total(www: Path, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    fvd.publish(source, www / "base.raw", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6 * MIB, 6 * MIB)


def test_an_exception_of_the_progress_ends_the_publication(www: Path, source: Path) -> None:
    os.truncate(source, 64 << 30)

    def stop(_done: int, _total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        fvd.publish(source, www / "base.raw", progress=stop)
    assert not (www / "base.raw.fvd-manifest").exists()
