"""fio writes with checksums, with several jobs at once, and verifies what it reads back."""

import json
from pathlib import Path

import pytest

from support import MIB, run
from support.serving import Disk, Server

JOBS = 4


def fio(server: Server, size: int, *options: str) -> dict[str, int]:
    """Runs a job on each connection, on separate parts of the disk. Returns the bytes read and written."""
    done = run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={server.uri}",
        f"--numjobs={JOBS}",
        f"--size={size // JOBS}",
        f"--offset_increment={size // JOBS}",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=8",
        "--group_reporting",
        "--output-format=json",
        *options,
    )
    # The log of libnbd comes before the JSON.
    (job,) = json.loads(done.stdout[done.stdout.index(b"{") :])["jobs"]
    assert job["error"] == 0, job
    return {"read": job["read"]["io_bytes"], "written": job["write"]["io_bytes"]}


@pytest.mark.parametrize(
    "pattern",
    [
        ["--bs=4k", "--fsync=32"],
        ["--bsrange=512-128k", "--bs_unaligned", "--norandommap", "--serialize_overlap=1"],
        ["--bs=64k", "--fsync=8"],
    ],
    ids=["4k", "any", "64k"],
)
def test_random_writes_verify(disk: Disk, pattern: list[str]) -> None:
    size = len(disk.content)
    with disk.serve() as server:
        done = fio(server, size, "--rw=randwrite", "--do_verify=1", *pattern)
        assert done["written"] >= size * 9 // 10
        assert done["read"] >= size // 4


def test_writes_verify_in_the_next_session(disk: Disk, tmp_path: Path) -> None:
    size = len(disk.content)
    with disk.serve() as server:
        fio(server, size, "--rw=randwrite", "--bs=4k", "--do_verify=0", "--end_fsync=1")
        copy = run("nbdcopy", server.uri, "-").stdout
    assert disk.read() == copy
    with disk.serve() as server:
        done = fio(server, size, "--rw=randwrite", "--bs=4k", "--verify_only")
    assert done["read"] + done["written"] >= size


def test_a_changed_byte_is_detected(overlay: Disk) -> None:
    """Checks that the tests above would detect an error."""
    size = len(overlay.content)
    with overlay.serve() as server:
        fio(server, size, "--rw=randwrite", "--bs=4k", "--do_verify=0", "--end_fsync=1")
        run("qemu-io", "-f", "raw", "-c", f"write -P 1 {5 * MIB + 100} 1", server.uri)
        with pytest.raises(AssertionError, match="verify"):
            fio(server, size, "--rw=randwrite", "--bs=4k", "--verify_only")


def test_reads_and_writes_mix(disk: Disk) -> None:
    with disk.serve() as server:
        done = fio(server, len(disk.content), "--rw=randrw", "--bs=4k", "--do_verify=1", "--fsync=16")
    assert done["read"] > 0
    assert done["written"] > 0
