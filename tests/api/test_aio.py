"""`fvd.aio`: the same image for asyncio."""

import array
import asyncio
import contextlib
import inspect
import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Literal

import pytest

import fvd
import fvd.aio
from fvd.types import PrefetchStatus

Cache = Literal["writeback", "none"]

SIZE = 8 << 20
BLOCK = 4096

# Direct writes always have to wait. Requests for data in the page cache almost never do.
CACHES = pytest.mark.parametrize("cache", ["writeback", "none"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd.create(path, SIZE, options={"compact_image": "on"})
    return path


@pytest.fixture
def overlay(tmp_path: Path) -> tuple[Path, bytes]:
    base = tmp_path / "base.raw"
    base.write_bytes(random.Random(1).randbytes(SIZE))
    path = tmp_path / "overlay.fvd"
    fvd.create(path, backing_file="base.raw", backing_format="raw", options={"copy_on_read": "on"})
    return path, base.read_bytes()


def test_every_public_method_has_an_identical_async_method() -> None:
    names = {name for name in dir(fvd.Image) if not name.startswith("_")}
    # A file object is blocking by definition.
    assert {name for name in dir(fvd.aio.Image) if not name.startswith("_")} == names - {"file"}
    for name in names - {"file", "size", "path", "writable", "closed"}:
        blocking, twin = getattr(fvd.Image, name), getattr(fvd.aio.Image, name)
        assert inspect.iscoroutinefunction(twin), name
        # The examples differ: here they use `await`.
        assert str(inspect.getdoc(twin)).split("```")[::2] == str(inspect.getdoc(blocking)).split("```")[::2]
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(blocking).parameters)
    parameters = inspect.signature(fvd.open).parameters
    assert list(inspect.signature(fvd.aio.open).parameters) == list(parameters)


@CACHES
def test_concurrent_writes_of_many_tasks_are_all_kept(path: Path, cache: Cache) -> None:
    blocks = {offset: os.urandom(BLOCK) for offset in range(0, SIZE, 4 * BLOCK)}

    async def main() -> None:
        async with fvd.aio.open(path, "r+", cache=cache) as image:
            async with asyncio.TaskGroup() as group:
                for offset, block in blocks.items():
                    group.create_task(image.pwrite(block, offset))
            await image.flush()
            read = await asyncio.gather(*(image.pread(BLOCK, offset) for offset in blocks))
            assert read == list(blocks.values())
            assert (await image.stats())["writes"] == len(blocks)

    asyncio.run(main())
    with fvd.open(path) as image:
        assert all(image.pread(BLOCK, offset) == block for offset, block in blocks.items())
    assert fvd.check(path)["check-errors"] == 0


@CACHES
def test_requests_see_earlier_writes_and_the_last_write_stays(path: Path, cache: Cache) -> None:
    choices = random.Random(2)
    # Each cell holds the number of the last write to it.
    cells = array.array("H", bytes(1 << 20))

    async def main() -> None:
        async with fvd.aio.open(path, "r+", cache=cache) as image:

            async def read(count: int, first: int, expected: "array.array[int]") -> None:
                seen = array.array("H", await image.pread(2 * count, 2 * first))
                # A write that started later may have completed first.
                assert all(new >= old for new, old in zip(seen, expected, strict=True))

            async with asyncio.TaskGroup() as group:
                for number in range(1, 401):
                    count = choices.randrange(1, 32 * 1024)
                    first = choices.randrange(0, len(cells) - count)
                    if number % 4 == 0:
                        group.create_task(read(count, first, cells[first : first + count]))
                    else:
                        data = array.array("H", [number]) * count
                        group.create_task(image.pwrite(data, 2 * first))
                        cells[first : first + count] = data
            assert await image.pread(2 * len(cells), 0) == cells.tobytes()

    asyncio.run(main())


@CACHES
def test_a_cancelled_write_happens_or_not_but_never_late(path: Path, cache: Cache) -> None:
    choices = random.Random(3)
    length = 256 * 1024

    async def main() -> None:
        async with fvd.aio.open(path, "r+", cache=cache) as image:
            for number in range(1, 60):
                old, new = bytes([number]) * length, bytes([number + 100]) * length
                await image.pwrite(old, 0)
                task = asyncio.create_task(image.pwrite(new, 0))
                for _ in range(choices.randrange(3)):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                seen = await image.pread(length, 0)
                assert seen in (old, new)
                last = bytes([number + 50]) * length
                await image.pwrite(last, 0)
                await asyncio.sleep(0.001)
                assert await image.pread(length, 0) == last

    asyncio.run(main())


@CACHES
def test_memory_of_a_cancelled_read_is_released_when_unused(path: Path, cache: Cache) -> None:
    async def main() -> None:
        async with fvd.aio.open(path, "r+", cache=cache) as image:
            await image.pwrite(b"x" * SIZE, 0)
            memory = bytearray(SIZE)
            task = asyncio.create_task(image.readinto(memory, 0))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for _ in range(6000):
                try:
                    memory.append(0)  # refused while the kernel may still write to it
                    return
                except BufferError:
                    await asyncio.sleep(0.01)
            pytest.fail("the buffer is never given back")

    asyncio.run(main())


def test_a_task_that_reads_only_cached_data_lets_others_run(path: Path) -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with fvd.aio.open(path) as image:
            other = asyncio.create_task(count())
            for _ in range(2000):
                await image.pread(512, 0)
            other.cancel()
        assert turns > 10

    asyncio.run(main())


def test_prefetch_reports_and_makes_the_base_unnecessary(overlay: tuple[Path, bytes]) -> None:
    path, content = overlay
    seen: list[PrefetchStatus] = []

    async def main() -> None:
        async with fvd.aio.open(path, "r+") as image:
            assert await image.pread(SIZE, 0) == content
            status = await image.prefetch(seen.append)
            assert status == await image.prefetch_status()
            assert status["state"] == seen[-1]["state"] == "finished"

    asyncio.run(main())
    (path.parent / "base.raw").unlink()
    with fvd.open(path) as image:
        assert image.pread(SIZE, 0) == content


def test_prefetch_that_is_cancelled_is_paused(overlay: tuple[Path, bytes]) -> None:
    path, _ = overlay
    fvd.amend(path, prefetch_max_read_throughput=64)

    async def main() -> None:
        async with fvd.aio.open(path, "r+") as image:
            prefetch = asyncio.create_task(image.prefetch())
            for state in ("running", "paused"):
                async with asyncio.timeout(60):
                    while (await image.prefetch_status())["state"] != state:
                        await asyncio.sleep(0.01)
                prefetch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await prefetch

    asyncio.run(main())


def test_an_open_image_can_be_awaited_and_closed_by_hand(path: Path) -> None:
    async def main() -> None:
        image = await fvd.aio.open(path, "r+")
        assert (image.size, image.path, image.writable, image.closed) == (SIZE, str(path), True, False)
        assert [extent["length"] for extent in await image.extents()] == [SIZE]
        assert (await image.info())["format"] == "fvd"
        await image.zero(BLOCK, 0)
        # The second caller waits for the first.
        await asyncio.gather(image.close(), image.close())
        assert image.closed
        assert repr(image) == f"<fvd.aio.Image '{path}', mode 'r+', {SIZE} bytes, closed>"
        for call in (image.pread(1, 0), image.pwrite(b"x", 0), image.flush(), image.info(), image.stats()):
            with pytest.raises(ValueError, match="closed"):
                await call

    asyncio.run(main())


def test_misuse_is_a_value_error_and_a_failure_an_fvd_error(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="invalid mode"):
            fvd.aio.open(path, "w")  # type: ignore[arg-type]
        with pytest.raises(fvd.FvdError) as failure:
            await fvd.aio.open(tmp_path / "none.fvd")
        assert failure.value.filename == str(tmp_path / "none.fvd")
        async with fvd.aio.open(path) as image:
            with pytest.raises(ValueError, match="beyond the end"):
                await image.pread(1, SIZE)
            with pytest.raises(fvd.NotPermittedError):
                await image.pwrite(b"x", 0)
            with pytest.raises(BufferError):
                await image.readinto(b"read-only", 0)

    asyncio.run(main())


def test_every_concurrent_close_waits_until_it_is_closed(overlay: tuple[Path, bytes]) -> None:
    path, expected = overlay

    async def main() -> None:
        for number in range(20):
            image = await fvd.aio.open(path, "r+", copy_on_read=True)
            # Background work and requests are in flight.
            reading = asyncio.create_task(image.pread(len(expected), 0))
            writing = asyncio.create_task(image.pwrite(bytes([number]) * 512, 512 * number))
            await asyncio.sleep(0)
            closing = [asyncio.create_task(image.close()) for _ in range(3)]
            await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
            # An image that is still being closed is in use.
            with fvd.open(path, "r+") as again:
                assert again.pread(512, 512 * number) == bytes([number]) * 512
            await asyncio.gather(reading, writing, *closing)

    asyncio.run(main())
    assert not fvd.info(path)["dirty-flag"]


def test_an_image_whose_open_was_cancelled_is_soon_closed(overlay: tuple[Path, bytes]) -> None:
    path, _ = overlay

    async def open_and_close() -> None:
        async with fvd.aio.open(path, "r+"):
            pass

    async def main() -> None:
        for number in range(30):
            task = asyncio.create_task(open_and_close())
            await asyncio.sleep(number / 5000)
            task.cancel()
            # An image that is still being closed is in use.
            with contextlib.suppress(asyncio.CancelledError, fvd.InUseError):
                await task

    asyncio.run(main())
    deadline = time.monotonic() + 60
    while True:
        try:
            return fvd.open(path, "r+").close()
        except fvd.InUseError:
            assert time.monotonic() < deadline, "the image is still in use"
            time.sleep(0.01)


def test_an_unclosed_image_warns_and_keeps_its_writes(path: Path) -> None:
    async def main() -> None:
        image = await fvd.aio.open(path, "r+")
        await image.pwrite(b"kept", 0)

    with pytest.warns(ResourceWarning, match="unclosed image"):
        asyncio.run(main())
    with fvd.open(path) as image:
        assert image.pread(4, 0) == b"kept"


def test_process_exit_closes_images_with_requests_in_flight(path: Path) -> None:
    script = """
        import asyncio, sys, fvd.aio

        async def main():
            global image
            image = await fvd.aio.open(sys.argv[1], "r+", cache="none")
            await image.pwrite(b"kept", 0)
            tasks = [asyncio.create_task(image.pread(1 << 20, 0)) for _ in range(64)]
            await asyncio.sleep(0)

        asyncio.run(main())
    """
    for _ in range(5):
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True, timeout=60)
    with fvd.open(path) as image:
        assert image.pread(4, 0) == b"kept"
    assert not fvd.info(path)["dirty-flag"]


def test_a_forked_child_can_open_images_of_its_own(path: Path) -> None:
    script = """
        import asyncio, os, sys, fvd, fvd.aio

        async def read():
            async with fvd.aio.open(sys.argv[1], cache="none") as image:
                await asyncio.gather(*(image.pread(4096, 0) for _ in range(100)))

        asyncio.run(read())
        child = os.fork()
        if child == 0:
            asyncio.run(read())
            sys.exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], timeout=60)
    assert result.returncode == 7


# `PyDLL` keeps the GIL during the call: what happens meanwhile, threads without the GIL have done.
WITHOUT_GIL = """
import asyncio, ctypes, os, sys
import fvd.aio

class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]

def is_readable_while_the_gil_is_held(fd):
    entry = PollFd(fd, 1, 0)
    return ctypes.PyDLL(None).poll(ctypes.byref(entry), 1, 10_000) == 1

async def main():
    async with fvd.aio.open(sys.argv[1], "r+", cache="none") as image:
        watched = asyncio.get_running_loop()._selector.get_map()
        (wakes,) = [fd for fd in watched if "eventfd" in os.readlink(f"/proc/self/fd/{fd}")]
        write = image.pwrite(b"x" * 4096, 0)
        future = write.send(None)  # the write has begun, and waits for the disk
        assert is_readable_while_the_gil_is_held(wakes), "the result waits for the GIL"
        while not future.done():
            await asyncio.sleep(0.001)
        try:
            write.send(None)
        except StopIteration as end:
            assert end.value == 4096

asyncio.run(main())
"""


def test_no_thread_of_the_core_needs_the_gil_to_deliver_a_result(path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_GIL, str(path)], check=True, timeout=60)
