"""What a program sees while the store of a base does not answer."""

import asyncio
import errno
import json
import signal
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fvd
import fvd.aio
from fvd.types import BaseError, Outage
from support import FVD, MIB, TOOLS_ENV
from support.fault_server import DATA, Fault, FaultServer, until
from support.forks import run_forking
from support.processes import overlay_of_another_process

FAR = 3 * MIB
"""An offset whose bytes did not come with the opening."""
FAULTS: tuple[Fault, ...] = ("503", "silence", "cut", "closed")


def outage_of(server: FaultServer) -> Outage | None:
    """Other tests of the process have servers of their own."""
    return next((one for one in fvd.remote_status()["outages"] if one["store"] == server.host), None)


@pytest.mark.parametrize("fault", FAULTS)
def test_with_report_a_read_fails_in_time_and_works_when_the_store_is_back(
    server: FaultServer, path: Path, fault: Fault
) -> None:
    with fvd.open(path, base_error="report", base_timeout=0.5, trust=server.trust) as image:
        assert image.pread(4096, 0) == DATA[:4096]
        server.fail(fault)
        with pytest.raises(fvd.IoError, match="No data for") as failed:
            image.pread(4096, FAR)
        assert failed.value.errno == errno.ETIMEDOUT
        assert failed.value.filename == server.url("base.raw")
        server.recover()
        until(lambda: works(image))


def test_with_report_a_refusal_of_access_is_reported_in_time(server: FaultServer, path: Path) -> None:
    with fvd.open(path, base_timeout=2, trust=server.trust) as image:
        server.fail("401")
        with pytest.raises(fvd.IoError, match="refuses access") as failed:
            image.pread(4096, FAR)
        assert failed.value.errno == errno.ETIMEDOUT


def works(image: fvd.Image) -> bool:
    try:
        return image.pread(4096, FAR) == DATA[FAR : FAR + 4096]
    except fvd.IoError:
        return False


def test_by_default_a_read_waits_until_the_store_is_back(server: FaultServer, path: Path) -> None:
    with fvd.open(path, "r+", trust=server.trust) as image:
        server.stop()
        found: list[bytes] = []
        reading = threading.Thread(target=lambda: found.append(image.pread(4096, FAR)))
        reading.start()
        until(lambda: outage_of(server) is not None)
        # A whole block: a part of one would need the rest of it from the base.
        image.pwrite(b"w" * 4096, MIB)
        image.flush()
        assert image.pread(4096, MIB) == b"w" * 4096
        outage = outage_of(server)
        assert outage is not None
        assert "onnect" in outage["reason"]
        assert fvd.remote_status()["retries"] > 0
        assert reading.is_alive()
        server.start()
        reading.join()
        assert found == [DATA[FAR : FAR + 4096]]
    assert server.host in fvd.remote_status()["stores"]
    assert outage_of(server) is None


def test_two_opens_of_a_process_wait_as_each_was_told(server: FaultServer, path: Path) -> None:
    with (
        fvd.open(path, trust=server.trust) as patient,
        fvd.open(path, base_timeout=0.3, trust=server.trust) as impatient,
    ):
        server.fault = "503"
        found: list[bytes] = []
        reading = threading.Thread(target=lambda: found.append(patient.pread(4096, FAR)))
        reading.start()
        until(lambda: outage_of(server) is not None)
        with pytest.raises(fvd.IoError, match="status 503"):
            impatient.pread(4096, FAR)
        assert reading.is_alive()
        server.fault = "none"
        reading.join()
        assert found == [DATA[FAR : FAR + 4096]]


def test_asyncio_reports_and_cancels_a_read_that_waits(server: FaultServer, path: Path) -> None:
    async def read() -> None:
        async with fvd.aio.open(path, base_error="report", base_timeout=0.3, trust=server.trust) as image:
            server.fault = "503"
            with pytest.raises(fvd.IoError) as failed:
                await image.pread(4096, FAR)
            assert failed.value.errno == errno.ETIMEDOUT
        server.fault = "none"
        async with fvd.aio.open(path, trust=server.trust) as image:
            server.fault = "503"
            waits = asyncio.create_task(image.pread(4096, FAR))
            while outage_of(server) is None:
                await asyncio.sleep(0.01)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits

    asyncio.run(read())


@pytest.mark.parametrize("error", ["wait", "report"])
def test_prefetch_waits_for_the_store_and_goes_on(server: FaultServer, path: Path, error: BaseError) -> None:
    limit = 0.3 if error == "report" else None
    with fvd.open(path, "r+", base_error=error, base_timeout=limit, trust=server.trust) as image:
        server.fault = "503"
        image.resume_prefetch()
        until(lambda: image.prefetch_status()["state"] == "base-away")
        until(lambda: "status 503" in (image.prefetch_status()["reason"] or ""))
        reason = image.prefetch_status()["reason"] or ""
        assert reason.startswith(f"waits for {server.host} since "), reason
        server.fault = "none"
        until(lambda: image.prefetch_status()["state"] == "finished")
        assert image.prefetch_status()["reason"] is None
        server.stop()
        assert image.pread(len(DATA), 0) == DATA


def finishes(image: fvd.Image) -> bool:
    try:
        return image.prefetch()["state"] == "finished"
    except fvd.IoError:
        return False


async def finished(image: fvd.aio.Image) -> bool:
    try:
        return (await image.prefetch())["state"] == "finished"
    except fvd.IoError:
        return False


def test_prefetch_that_a_caller_waits_for_reports_an_outage_if_told_to(
    server: FaultServer, path: Path
) -> None:
    with fvd.open(path, "r+", base_error="report", base_timeout=0.5, trust=server.trust) as image:
        server.fault = "503"
        with pytest.raises(fvd.IoError, match="status 503") as failed:
            image.prefetch()
        assert failed.value.errno == errno.ETIMEDOUT
        server.fault = "none"
        # The store may be asked again only after a pause that is longer than the limit of a read.
        until(lambda: finishes(image))


def test_prefetch_of_asyncio_reports_an_outage_if_told_to(server: FaultServer, path: Path) -> None:
    async def prefetch() -> None:
        async with fvd.aio.open(path, "r+", base_timeout=0.5, trust=server.trust) as image:
            server.fault = "503"
            with pytest.raises(fvd.IoError, match="status 503"):
                await image.prefetch()
            server.fault = "none"
            while not await finished(image):
                await asyncio.sleep(0.02)

    asyncio.run(prefetch())


def test_an_image_can_be_closed_while_its_prefetch_waits(server: FaultServer, path: Path) -> None:
    with fvd.open(path, "r+", trust=server.trust) as image:
        server.fault = "503"
        image.resume_prefetch()
        until(lambda: image.prefetch_status()["state"] == "base-away")

    async def prefetch() -> None:
        async with fvd.aio.open(path, "r+", trust=server.trust) as image:
            server.fault = "503"
            await image.resume_prefetch()
            while (await image.prefetch_status())["state"] != "base-away":
                await asyncio.sleep(0.01)

    server.fault = "none"
    asyncio.run(prefetch())


@contextmanager
def command(server: FaultServer, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command that trusts the server. It has ended after the block."""
    environ = {**TOOLS_ENV, "FVD_CONFIG": "", "FVD_TRUST": server.url("")}
    process = subprocess.Popen(
        [FVD, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_progress_of_the_command_says_that_it_waits(server: FaultServer, path: Path) -> None:
    server.heads.clear()
    # The opening takes one request.
    server.fails_after = 1
    with command(server, "prefetch", "--progress=json", path) as process:
        assert process.stderr is not None
        # A debug build says first that it is one.
        states = (json.loads(line) for line in process.stderr if line.startswith("{"))
        waits = next(status for status in states if status["state"] == "base-away")
        assert waits["reason"].startswith(f"waits for {server.host} since "), waits
        server.fails_after = None
        assert list(states)[-1]["state"] == "finished"
        assert process.wait() == 0


def test_commands_report_an_outage_if_told_to(server: FaultServer, path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.raw").write_bytes(DATA)
    options = ["--base-error=report", "--base-timeout=0.3"]
    commands: list[list[str | Path]] = [
        ["prefetch", *options, path],
        ["convert", "-O", "raw", *options, path, tmp_path / "out.raw"],
        ["compare", *options, "-F", "raw", path, tmp_path / "copy.raw"],
    ]
    for words in commands:
        server.heads.clear()
        server.fails_after = 1
        with command(server, *words) as process:
            _, said = process.communicate()
        server.fails_after = None
        assert process.returncode != 0, words
        assert "No data for" in said, (words, said)
        assert "Connection timed out" in said, (words, said)


def test_a_command_that_waits_is_ended_by_a_signal(server: FaultServer, path: Path, tmp_path: Path) -> None:
    commands: list[list[str | Path]] = [
        ["prefetch", path],
        ["convert", "-O", "raw", path, tmp_path / "out.raw"],
    ]
    for words in commands:
        server.fails_after = 1
        server.heads.clear()
        with command(server, *words) as process:
            until(lambda: server.count() > 3)
            process.send_signal(signal.SIGINT)
            process.communicate()
        server.fails_after = None
        assert process.returncode != 0, words


def test_ctrl_c_ends_a_read_that_waits_for_the_store(server: FaultServer, path: Path) -> None:
    def goes_away() -> None:
        until(lambda: (path.parent / "open").exists())
        server.stop()
        (path.parent / "open").unlink()

    script = f"""
        def interrupt():
            while not fvd.remote_status()["outages"]:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        with fvd.open(path, trust={server.trust}) as disk:
            open(sign := os.path.dirname(path) + "/open", "w").close()
            while os.path.exists(sign):
                time.sleep(0.01)
            threading.Thread(target=interrupt, daemon=True).start()
            try:
                disk.pread(4096, {FAR})
            except KeyboardInterrupt:
                print("ended")
    """
    threading.Thread(target=goes_away, daemon=True).start()
    assert run_forking(script, path) == "ended\n"


def test_an_image_whose_blocks_are_all_local_opens_without_the_store(server: FaultServer, path: Path) -> None:
    with fvd.open(path, "r+", trust=server.trust) as image:
        image.pwrite(DATA, 0)
    server.stop()
    with fvd.open(path, "r+", trust=server.trust) as image:
        assert image.pread(len(DATA), 0) == DATA
        image.pwrite(b"x", 0)


def test_opening_fails_soon_whatever_reads_would_do(server: FaultServer, tmp_path: Path) -> None:
    path = overlay_of_another_process(tmp_path / "vm.fvd", server.url("base.raw"))
    server.stop()
    for error in ("wait", "report"):
        with pytest.raises(fvd.IoError, match="onnect"):
            fvd.open(path, base_error=error, trust=server.trust)


def test_choices_that_contradict_each_other_are_refused(server: FaultServer, path: Path) -> None:
    with pytest.raises(ValueError, match="base_timeout needs base_error"):
        fvd.open(path, base_error="wait", base_timeout=1, trust=server.trust)
    with pytest.raises(ValueError, match="wait"):
        fvd.open(path, base_error="ignore", trust=server.trust)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fvd.open(path, base_error="report", trust=server.trust).close()
