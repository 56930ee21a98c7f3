"""`fvd.enable_logging`: what the core reports, in `logging`."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvd
from support import MIB, run
from support.forks import run_forking


@pytest.fixture(autouse=True)
def off_afterwards() -> Iterator[None]:
    yield
    fvd.enable_logging(None)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd.create(path, 16 * MIB, options={"compact_image": True})
    return path


def found(caplog: pytest.LogCaptureFixture, message: str) -> logging.LogRecord:
    """The record that begins with `message`. A thread delivers it."""
    deadline = time.monotonic() + 60
    while True:
        for record in caplog.records:
            if record.getMessage().startswith(message):
                return record
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


def test_records_have_logger_level_fields_and_spans(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fvd")
    fvd.enable_logging(logging.DEBUG)
    before = time.time()
    with fvd.open(image, "r+") as disk:
        disk.pwrite(b"x" * 65536, 0)
        disk.flush()
    record = found(caplog, "commit to the journal")
    assert (record.name, record.levelno) == ("fvd.image.durability.commit", logging.DEBUG)
    assert record.getMessage() == "commit to the journal sectors=1"
    assert record.__dict__["fvd_fields"] == {"sectors": 1}
    assert record.__dict__["fvd_spans"] == [("flush", {"file": str(image)})]
    assert before - 1 < record.created < time.time() + 1
    assert found(caplog, "checkpoint ends").__dict__["fvd_fields"]["elapsed_us"] >= 0


def test_nothing_is_delivered_unless_it_is_wanted(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    offsets = iter(range(0, 16 * MIB, 4 * MIB))

    def flush() -> None:
        with fvd.open(image, "r+") as disk:
            disk.pwrite(b"x", next(offsets))
            disk.flush()

    caplog.set_level(logging.NOTSET)
    logging.getLogger("fvd.image.flush").setLevel(logging.WARNING)
    try:
        flush()
        fvd.enable_logging("INFO")
        flush()
        fvd.enable_logging(None)
        assert caplog.records == []
        fvd.enable_logging("DEBUG")
        flush()
        found(caplog, "checkpoint ends")
        assert not [record for record in caplog.records if record.name == "fvd.image.flush"]
        fvd.enable_logging(None)
        caplog.clear()
        flush()
        fvd.enable_logging(None)
        assert caplog.records == []
    finally:
        logging.getLogger("fvd.image.flush").setLevel(logging.NOTSET)


def test_a_server_reports_its_requests(image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(5, "fvd")
    fvd.enable_logging("TRACE")
    with fvd.serve(image, socket=tmp_path / "s") as server:
        run("qemu-io", "-f", "raw", "-c", "read 0 4k", server.uri)
    record = found(caplog, "request ends kind=read")
    assert (record.name, record.levelname) == ("fvd.nbd.server.connection.receive", "TRACE")
    assert record.threadName == "fvd-serve"


def test_what_a_thread_does_lies_in_the_span_of_its_request(
    image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(5, "fvd")
    fvd.enable_logging("TRACE")
    with fvd.open(image, "r+") as disk, fvd.serve(disk, socket=tmp_path / "s") as server:
        run("qemu-io", "-f", "raw", "-c", "flush", server.uri)
    record = found(caplog, "flush ends")
    assert [name for name, _ in record.__dict__["fvd_spans"]] == ["connection", "request", "thread"]


@pytest.mark.parametrize("level", ["LOUD", "", -1, 2**31, 10**30])
def test_an_unknown_level_is_refused(level: int | str) -> None:
    with pytest.raises(ValueError, match=r"unknown level|must be from 0"):
        fvd.enable_logging(level)


def test_more_records_than_the_queue_holds_are_counted(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fvd import _logging

    caplog.set_level(logging.DEBUG, "fvd")
    fvd.enable_logging("DEBUG")
    with _logging._state.lock, fvd.open(image, "r+") as disk:
        # The thread cannot take anything meanwhile.
        for number in range(3000):
            disk.pwrite(bytes([number % 255 + 1]), 0)
            disk.flush()
    record = found(caplog, "")
    deadline = time.monotonic() + 60
    while record.name != "fvd":
        assert time.monotonic() < deadline
        time.sleep(0.01)
        record = next((it for it in caplog.records if it.name == "fvd"), record)
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("records were dropped: they came too fast")


FORKS = """
import logging

logging.basicConfig(level=1, format="%(process)d %(name)s %(message)s", stream=sys.stdout)
fvd.enable_logging("DEBUG")
with fvd.open(path, "r+") as image:
    image.pwrite(b"x", 0)
    image.flush()
    child = fork()
    if child == 0:
        with fvd.open(sys.argv[2], "r+") as own:
            own.pwrite(b"y", 0)
            own.flush()
        sys.exit(0)
    assert status(child) == 0
    image.flush()
sys.stdout.write(f"child {child}\\n")
"""


def test_parent_and_child_deliver_their_own_records(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.fvd"
    fvd.create(other, 16 * MIB)
    lines = run_forking(FORKS, image, other).splitlines()
    [child] = [line.split()[1] for line in lines if line.startswith("child ")]
    ends = [line for line in lines if "fvd.image.flush flush ends" in line]
    of_child = [line for line in ends if line.startswith(f"{child} ")]
    assert [f"file={other}" in line for line in ends] == [line in of_child for line in ends], lines
    assert (len(of_child), len(ends)) == (1, 3), lines


def test_the_last_records_come_before_the_exit(image: Path) -> None:
    script = """
import logging

logging.basicConfig(level=1, format="%(message)s", stream=sys.stdout)
fvd.enable_logging("DEBUG")
image = fvd.open(path, "r+")
image.pwrite(b"x" * 65536, 0)
"""
    assert "checkpoint ends" in run_forking(script, image)
