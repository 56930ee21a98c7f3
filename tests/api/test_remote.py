"""Names that are URLs: what is stored, what is trusted, what the errors say. No test needs a server."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fvd
from support.header import crc32c

MIB = 1 << 20
URL = "https://images.invalid:8443/debian/base.raw"
SECRET = "s3cr3t"


def overlay(path: Path, url: str = URL) -> Path:
    """Make an image on a base that was not opened."""
    with pytest.warns(UserWarning, match="names a URL"):
        fvd.create(path, MIB, backing_file=url, backing_format="raw", backing_unsafe=True)
    return path


def run(*arguments: str, trust: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command."""
    environ = {**os.environ, "FVD_CONFIG": "", "FVD_TRUST": trust}
    command = [sys.executable, "-m", "fvd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


def test_a_url_is_stored_and_shown_with_all_its_slashes(tmp_path: Path) -> None:
    info = fvd.info(overlay(tmp_path / "vm.fvd"))
    assert info["backing-filename"] == URL
    assert info["full-backing-filename"] == URL
    assert "base-pin" not in info["format-specific"]["data"]


def test_a_url_in_an_image_needs_trust_and_says_which(tmp_path: Path) -> None:
    path = overlay(tmp_path / "vm.fvd")
    trusts: list[list[str]] = [
        [],
        [str(tmp_path), "/"],
        ["https://images.invalid"],
        ["http://images.invalid:8443"],
    ]
    for trust in trusts:
        with pytest.raises(fvd.NotPermittedError, match="is not trusted") as refused:
            fvd.open(path, trust=trust)
        assert refused.value.needs_trust == "https://images.invalid:8443/debian/"
    with pytest.raises(fvd.NotPermittedError):
        fvd.info(path, backing_chain=True)
    with pytest.raises(fvd.NotPermittedError):
        fvd.map(path)


def test_a_new_image_on_a_url_says_what_it_will_need(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="names a URL"):
        made = fvd.create(
            tmp_path / "vm.fvd",
            MIB,
            backing_file="s3://images/a.raw",
            backing_format="raw",
            backing_unsafe=True,
        )
    assert made["needs_trust"] == ["s3://images/"]
    made = fvd.create(
        tmp_path / "vm.fvd",
        MIB,
        backing_file="s3://images/a.raw",
        backing_format="raw",
        backing_unsafe=True,
        trust=["s3://images"],
    )
    assert made["needs_trust"] == []


@pytest.mark.parametrize("trust", ["https://", "https://me:x@y", "https://x?a=b", "nbd+unix:///e"])
def test_a_url_that_is_no_prefix_is_refused(tmp_path: Path, trust: str) -> None:
    path = overlay(tmp_path / "vm.fvd")
    with pytest.raises(ValueError, match="URL"):
        fvd.open(path, trust=[trust])


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@images.invalid/base.raw",
        f"https://images.invalid/base.raw?X-Amz-Signature={SECRET}",
        f"https://images.invalid/base.raw?sv=1&sig={SECRET}",
    ],
)
def test_a_credential_is_neither_stored_nor_shown(tmp_path: Path, url: str) -> None:
    path = overlay(tmp_path / "old.fvd")
    before = path.read_bytes()
    calls: list[Callable[[], object]] = [
        lambda: fvd.create(
            tmp_path / "vm.fvd", MIB, backing_file=url, backing_format="raw", backing_unsafe=True
        ),
        lambda: fvd.amend(path, backing_file=url, backing_unsafe=True),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"credentials|signed") as refused:
            call()
        assert SECRET not in str(refused.value)
    assert not (tmp_path / "vm.fvd").exists()
    assert path.read_bytes() == before
    done = run("create", "-u", "-b", url, "-F", "raw", str(tmp_path / "vm.fvd"), "1M")
    assert done.returncode == 1
    assert SECRET not in done.stdout + done.stderr


def test_a_file_that_is_written_cannot_be_a_url(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(MIB))
    for call in (
        lambda: fvd.create(URL, MIB),
        lambda: fvd.convert(tmp_path / "source", URL, source_format="raw"),
        lambda: fvd.amend(URL, copy_on_read=True),
        lambda: fvd.check(URL),
    ):
        with pytest.raises(fvd.FvdError, match="on this machine") as refused:
            call()
        assert refused.value.filename == URL
    with pytest.raises(ValueError, match="data_file"):
        fvd.create(tmp_path / "vm.fvd", MIB, options={"data_file": URL})


def test_only_a_remote_base_has_a_pin_to_update(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(MIB))
    fvd.create(tmp_path / "vm.fvd", backing_file="base.raw", backing_format="raw")
    with pytest.raises(ValueError, match="on this machine"):
        fvd.amend(tmp_path / "vm.fvd", backing_pin="update")
    with pytest.raises(ValueError, match="'update'"):
        fvd.amend(tmp_path / "vm.fvd", backing_pin="keep")
    fvd.create(tmp_path / "plain.fvd", MIB)
    with pytest.raises(ValueError, match="no backing file"):
        fvd.amend(tmp_path / "plain.fvd", backing_pin="update")
    done = run("amend", "-o", "backing_pin=update", str(tmp_path / "vm.fvd"))
    assert done.returncode == 1
    assert "on this machine" in done.stderr


def test_the_command_names_the_prefix_and_takes_it_from_the_environment(tmp_path: Path) -> None:
    path = str(overlay(tmp_path / "vm.fvd"))
    for trust in ("", "https://images.invalid:8444:/b", f"{tmp_path}:s3://images"):
        done = run("map", path, trust=trust)
        assert done.returncode == 1
        assert "--trust https://images.invalid:8443/debian/ allows it" in done.stderr
    for arguments, trust in [
        (["map", path], "/none:https://images.invalid:8443/debian:/b"),
        (["map", "--trust", "https://images.invalid:8443", path], ""),
    ]:
        done = run(*arguments, trust=trust)
        assert done.returncode == 1
        assert "trust" not in done.stderr, done.stderr
        assert URL in done.stderr


def test_a_record_of_a_pin_is_shown(tmp_path: Path) -> None:
    path = overlay(tmp_path / "vm.fvd")
    pin = struct.pack("<QB", MIB, 2) + b'"abc"'
    write_area(path, struct.pack("<HH", 1, len(pin)) + pin)
    shown = {"length": MIB, "validator": "etag", "value": '"abc"'}
    assert fvd.info(path)["format-specific"]["data"]["base-pin"] == shown
    text = run("info", str(path)).stdout
    assert 'value: "abc"' in text
    assert "base pin:" in text
    write_area(path, b"", checksum=1)
    data = fvd.info(path)["format-specific"]["data"]
    assert "base-pin" not in data
    assert "checksum" in data["damaged-records"]
    with pytest.raises(fvd.InvalidImageError, match="backing_pin=update"):
        fvd.open(path, trust=["https://images.invalid:8443"])


def write_area(path: Path, records: bytes, checksum: int | None = None) -> None:
    """Write the record area (docs/design/format.md, section 13)."""
    head = struct.pack("<HH", 1, len(records))
    checksum = crc32c(head + records) if checksum is None else checksum
    area = (b"RECS" + head + struct.pack("<I", checksum) + records).ljust(272, b"\0")
    with open(path, "r+b") as file:
        file.seek(4336)
        file.write(area)
