"""`--base-url`: a presigned URL comes from a file, and is seen nowhere else."""

import subprocess
from pathlib import Path

import pytest

import fvd
from support import FVD, TOOLS_ENV
from support import run as command
from support.fault_server import DATA, FaultServer
from support.serving import Server

SECRET = "hunter2-hunter2"
NAME = "https://images.invalid/private/disk.raw"


@pytest.fixture
def url(server: FaultServer, tmp_path: Path) -> Path:
    """A file with a presigned URL."""
    path = tmp_path / "url"
    path.write_text(server.url(f"base.raw?X-Amz-Signature={SECRET}\n"))
    return path


@pytest.fixture
def image(server: FaultServer, tmp_path: Path) -> Path:
    """An image whose base has a name that leads nowhere."""
    path = tmp_path / "vm.fvd"
    remote = fvd.Remote(url={NAME: lambda name: server.url("base.raw")})
    fvd.create(path, backing_file=NAME, backing_format="raw", trust=[NAME], remote=remote)
    return path


def run(*words: str | Path, ok: int = 0, stdin: str = "") -> str:
    environ = {**TOOLS_ENV, "FVD_CONFIG": "", "FVD_TRUST": NAME}
    command = [FVD, "--log-level", "trace", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, input=stdin)
    assert done.returncode == ok, done
    assert SECRET not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_commands_read_the_base_from_the_url(image: Path, url: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.raw"
    option: list[str | Path] = ["--base-url", url]
    run("convert", *option, "-O", "raw", image, out)
    assert out.read_bytes() == DATA
    run("convert", *option, "-f", "raw", "-O", "raw", NAME, out)
    assert out.read_bytes() == DATA
    run("compare", *option, "-F", "raw", image, out)
    assert NAME in run("map", *option, image)
    assert NAME in run("info", *option, "--backing-chain", image)
    run("prefetch", *option, image)
    run("compare", "-F", "raw", image, out)
    assert SECRET.encode() not in image.read_bytes()


def test_the_url_can_come_from_standard_input_or_a_line_with_a_name(
    image: Path, url: Path, tmp_path: Path
) -> None:
    signed = url.read_text()
    assert NAME in run("map", "--base-url", "-", image, stdin=signed)
    url.write_text(f"# a comment\nhttps://images.invalid/other {signed}\n{NAME} {signed}")
    assert NAME in run("map", "--base-url", url, image)
    assert NAME in run("map", "--base-url", "/dev/stdin", image, stdin=url.read_text())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no URL"),
        (f"{SECRET}\n", "line 1 is neither"),
        (f"https://x/?{SECRET}\nhttps://y/?{SECRET}\n{NAME} https://z/?{SECRET}\n", "each needs a name"),
        (f"https://a https://b https://c?{SECRET}\n", "line 1 is neither"),
    ],
)
def test_a_file_without_a_url_is_refused(image: Path, url: Path, text: str, why: str) -> None:
    url.write_text(text)
    assert why in run("map", "--base-url", url, image, ok=1)


def test_a_url_on_the_command_line_is_refused(image: Path, tmp_path: Path) -> None:
    assert "a file with the URL is needed" in run("map", "--base-url", f"https://x/?{SECRET}", image, ok=1)
    assert "No such file" in run("map", "--base-url", tmp_path / "missing", image, ok=1)


def test_one_url_is_not_used_for_two_objects(
    server: FaultServer, image: Path, url: Path, tmp_path: Path
) -> None:
    server.put("vm.fvd", image.read_bytes())
    url.write_text(server.url(f"vm.fvd?sig={SECRET}"))
    name = "https://images.invalid/private/vm.fvd"
    said = run("map", "--base-url", url, "--trust", NAME, name, ok=1)
    assert f"has no URL for {NAME}" in said, said


def test_a_server_reads_the_file_again_when_the_url_is_refused(
    server: FaultServer, image: Path, url: Path
) -> None:
    with Server(image, "--base-url", url, "--trust", NAME) as nbd:
        server.refused = SECRET
        url.write_text(server.url("base.raw?X-Amz-Signature=another\n"))
        command("qemu-io", "-f", "raw", "-r", "-c", "read 3M 512", nbd.uri)
        assert any("X-Amz-Signature=another" in head for head in server.heads)
        assert SECRET not in nbd.stderr()
