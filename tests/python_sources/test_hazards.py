"""Sources in Python that hang, call back, or outlive their process or event loop: nothing waits for ever."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import fvd.aio
from support import KIB, MIB
from support.forks import run_forking

SIZE = 4 * MIB


class Calling:
    size = SIZE

    def __init__(self, work: Callable[[int, int], bytes]) -> None:
        self.work = work

    def pread(self, length: int, offset: int) -> bytes:
        return self.work(length, offset)


def make(path: Path) -> Path:
    fvd.create(path, SIZE, backing_file="gone.raw", backing_format="raw", backing_unsafe=True)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make(tmp_path / "vm.fvd")


def test_a_source_that_reads_the_image_above_it_is_refused(image: Path) -> None:
    with fvd.open(image, base=Calling(lambda length, offset: disk.pread(length, offset))) as disk:
        with pytest.raises(fvd.IoError, match="pread of the source raised IoError") as failed:
            disk.pread(10, 0)
        assert isinstance(failed.value.__cause__, fvd.IoError)
        assert "deadlock" in str(failed.value.__cause__).lower()


def test_two_sources_that_read_each_other_are_refused(image: Path, tmp_path: Path) -> None:
    one = Calling(lambda length, offset: below.pread(length, offset))
    two = Calling(lambda length, offset: above.pread(length, offset))
    with fvd.open(image, base=one) as above, fvd.open(make(tmp_path / "below.fvd"), base=two) as below:
        with pytest.raises(fvd.IoError) as failed:
            above.pread(10, 0)
        assert "deadlock" in str(failed.value.__cause__.__cause__).lower()  # type: ignore[union-attr]


def test_a_source_may_use_other_images(image: Path, tmp_path: Path) -> None:
    fvd.create(tmp_path / "other.fvd", SIZE)
    with (
        fvd.open(tmp_path / "other.fvd", "r+") as other,
        fvd.open(image, base=Calling(lambda length, offset: other.pread(length, offset))) as disk,
    ):
        other.pwrite(b"hello", 5000)
        assert disk.pread(5, 5000) == b"hello"


def test_a_read_that_takes_too_long_fails_and_leaves_its_memory_alone(image: Path) -> None:
    goes_on, ended = threading.Event(), threading.Event()

    def read(length: int, offset: int) -> bytes:
        goes_on.wait(60)
        ended.set()
        return b"x" * length

    memory = bytearray(4096)

    async def read_once() -> None:
        async with fvd.aio.open(image, base=Calling(read), base_timeout=0.1) as disk:
            with pytest.raises(fvd.IoError) as failed:
                await disk.readinto(memory, 0)
            assert failed.value.errno == 110

    with fvd.open(image, base=Calling(read), base_timeout=0.1) as disk:
        with pytest.raises(fvd.IoError) as failed:
            disk.readinto(memory, 0)
        assert failed.value.errno == 110
        asyncio.run(read_once())
        goes_on.set()
        assert ended.wait(60)
        assert disk.pread(10, 0) == b"x" * 10
    assert memory == bytes(4096)


def test_close_waits_for_a_read_in_flight(image: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def read(length: int, offset: int) -> bytes:
        began.set()
        goes_on.wait(60)
        return b"x" * length

    results: list[bytes] = []
    disk = fvd.open(image, base=Calling(read))
    reader = threading.Thread(target=lambda: results.append(disk.pread(10, 0)))
    reader.start()
    assert began.wait(60)
    closer = threading.Thread(target=disk.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    goes_on.set()
    reader.join()
    closer.join()
    assert results == [b"x" * 10]


def test_close_does_not_wait_for_prefetch(image: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def read(length: int, offset: int) -> bytes:
        began.set()
        goes_on.wait(60)
        return bytes(length)

    with fvd.open(image, "r+", base=Calling(read)) as disk:
        disk.resume_prefetch()
        assert began.wait(60)
    assert not goes_on.is_set()
    goes_on.set()


def test_a_cancelled_read_cancels_the_coroutine_of_the_source(image: Path) -> None:
    seen: list[str] = []

    class Slow:
        size = SIZE

        async def pread(self, length: int, offset: int) -> bytes:
            if offset:
                return b"x" * length
            seen.append("began")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            raise AssertionError("not reached")

    async def main() -> None:
        async with fvd.aio.open(image, base=Slow()) as disk:
            task = asyncio.create_task(disk.pread(10, 0))
            while not seen:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while len(seen) < 2:
                await asyncio.sleep(0.001)
            assert await disk.pread(10, 64 * KIB) == b"x" * 10
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["began", "cancelled"]


def test_a_cancelled_read_of_a_thread_is_given_up(image: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def read(length: int, offset: int) -> bytes:
        began.set()
        goes_on.wait(60)
        return b"x" * length

    async def main() -> None:
        async with fvd.aio.open(image, base=Calling(read)) as disk:
            tasks = [asyncio.create_task(disk.pread(10, number * 64 * KIB)) for number in range(3)]
            while not began.is_set():
                await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            assert all(isinstance(r, asyncio.CancelledError) for r in await gathered(tasks))
            goes_on.set()
            assert await disk.pread(10, 0) == b"x" * 10

    async def gathered(tasks: list[asyncio.Task[bytes]]) -> list[object]:
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    asyncio.run(main())


def test_a_call_that_hangs_holds_up_no_other_one_that_the_source_permits(image: Path) -> None:
    began, goes_on = threading.Event(), threading.Event()

    def read(length: int, offset: int) -> bytes:
        if offset == 0:
            began.set()
            assert goes_on.wait(60)
        return b"x" * length

    source = Calling(read)
    source.threads = 2  # type: ignore[attr-defined]
    with fvd.open(image, base=source) as disk:
        first = threading.Thread(target=disk.pread, args=(512, 0))
        first.start()
        assert began.wait(60)
        second: list[bytes] = []
        other = threading.Thread(target=lambda: second.append(disk.pread(3, MIB)))
        other.start()
        other.join(20)
        goes_on.set()
        assert second == [b"xxx"]
        first.join()


def test_ctrl_c_in_a_coroutine_of_a_source_ends_the_event_loop(image: Path) -> None:
    class Interrupted:
        size = SIZE

        async def pread(self, length: int, offset: int) -> bytes:
            raise KeyboardInterrupt

    async def read() -> None:
        async with fvd.aio.open(image, base=Interrupted()) as disk:
            await disk.pread(10, 0)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(read())
        # The reader, who got it as the cause of an error.
        with pytest.raises(fvd.IoError) as failed:
            loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop)))
        assert isinstance(failed.value.__cause__, KeyboardInterrupt)
    finally:
        loop.close()


INTERRUPTED = """
    class Hanging:
        size = 4 << 20

        def pread(self, length, offset):
            began.set()
            time.sleep(600)

    def interrupt():
        began.wait()
        os.kill(os.getpid(), signal.SIGINT)

    began = threading.Event()
    threading.Thread(target=interrupt, daemon=True).start()
"""


def test_ctrl_c_ends_a_read_that_waits_for_a_source_and_frees_its_memory(image: Path) -> None:
    script = """
        disk = fvd.open(path, base=Hanging())
        memory = bytearray(512)
        try:
            disk.readinto(memory, 0)
        except KeyboardInterrupt:
            memory.append(0)
            print(disk.size)
    """
    assert run_forking(dedent(INTERRUPTED) + dedent(script), image) == f"{SIZE}\n"


def test_a_signal_handler_may_use_the_image_whose_read_it_interrupts(image: Path) -> None:
    script = """
        class Slow:
            size = 4 << 20

            def pread(self, length, offset):
                began.set()
                handled.wait(60)
                return b"x" * length

        def handler(*_):
            handled.set()
            disk.close()

        handled, began = threading.Event(), threading.Event()
        signal.signal(signal.SIGUSR1, handler)
        disk = fvd.open(path, base=Slow())

        def interrupt():
            began.wait()
            os.kill(os.getpid(), signal.SIGUSR1)

        threading.Thread(target=interrupt, daemon=True).start()
        print(disk.pread(3, 0), disk.closed)
    """
    assert run_forking(script, image) == "b'xxx' True\n"


def test_reads_fail_when_the_event_loop_of_the_source_is_closed(image: Path) -> None:
    class Coroutines:
        size = SIZE

        async def pread(self, length: int, offset: int) -> bytes:
            return b"x" * length

    async def open_it() -> fvd.aio.Image:
        disk = await fvd.aio.open(image, base=Coroutines())
        assert await disk.pread(4, 0) == b"xxxx"
        return disk

    async def use(disk: fvd.aio.Image) -> None:
        with pytest.raises(fvd.IoError, match="event loop has been closed"):
            await disk.pread(4, 0)
        await disk.close()

    asyncio.run(use(asyncio.run(open_it())))
    loop = asyncio.new_event_loop()
    disk = loop.run_until_complete(open_it())
    loop.close()
    asyncio.run(use(disk))


HANGING = """
import asyncio, fvd.aio
began = threading.Event()


class Hanging:
    size = 4 << 20

    def pread(self, length, offset):
        began.set()
        time.sleep(600)


class HangingAsync:
    size = 4 << 20

    async def pread(self, length, offset):
        began.set()
        await asyncio.sleep(600)


def failing(read):
    try:
        read()
    except (fvd.FvdError, ValueError):
        pass


"""


@pytest.mark.parametrize(
    "script",
    [
        """
        disk = fvd.open(path, base=Hanging())
        threading.Thread(target=failing, args=[lambda: disk.pread(4, 0)], daemon=True).start()
        began.wait()
        """,
        """
        disk = fvd.open(path, "r+", base=Hanging())
        disk.resume_prefetch()
        began.wait()
        """,
        """
        server = fvd.serve(Hanging(), socket=path + ".sock")
        import subprocess
        client = subprocess.Popen(["nbdcopy", server.uri, "null:"], stderr=subprocess.DEVNULL)
        began.wait()
        """,
        """
        async def main():
            disk = await fvd.aio.open(path, base=Hanging())
            task = asyncio.create_task(disk.pread(4, 0))
            while not began.is_set():
                await asyncio.sleep(0.001)
            task.cancel()

        asyncio.run(main())
        """,
        """
        async def main():
            disk = await fvd.aio.open(path, base=HangingAsync())
            task = asyncio.create_task(disk.pread(4, 0))
            while not began.is_set():
                await asyncio.sleep(0.001)

        asyncio.run(main())
        """,
        """
        class Holes(Hanging):
            def extents(self, offset, length):
                began.set()
                time.sleep(600)
                yield {}

        disk = fvd.open(path, base=Holes())
        threading.Thread(target=failing, args=[disk.extents], daemon=True).start()
        began.wait()
        """,
        """
        disk = fvd.open(path, base=Hanging())
        """,
    ],
    ids=["reader", "prefetch", "server", "cancelled", "coroutine", "generator", "idle"],
)
def test_the_interpreter_exits_with_a_call_in_flight(image: Path, script: str) -> None:
    began = time.monotonic()
    run_forking(HANGING + dedent(script), image)
    # Far less than the source takes.
    assert time.monotonic() - began < 120


def dedent(script: str) -> str:
    import textwrap

    return textwrap.dedent(script)


def test_a_source_stays_with_the_process_that_opened_it(image: Path) -> None:
    script = """
        import io
        with fvd.open(path, base=fvd.source(io.BytesIO(b"y" * (4 << 20)))) as disk:
            assert disk.pread(3, 0) == b"yyy"
            for end in ("sys.exit(5)", "os._exit(5)", "disk.close(); sys.exit(5)"):
                child = fork()
                if child == 0:
                    refused(disk.pread, 3, 0)
                    with fvd.open(path, base=fvd.source(io.BytesIO(b"z" * (4 << 20)))) as own:
                        assert own.pread(3, 0) == b"zzz"
                    exec(end)
                assert status(child) == 5
            assert disk.pread(3, 64 << 10) == b"yyy"
    """
    run_forking(script, image)


def test_a_fork_while_a_source_is_read_hangs_no_child(image: Path) -> None:
    script = """
        over = False

        class Source:
            size = 4 << 20
            threads = 4

            def pread(self, length, offset):
                return b"y" * length

        disk = fvd.open(path, base=Source())

        def work(number):
            turn = 0
            while not over:
                assert disk.pread(4096, (turn * 7 + number) % 900 * 4096) == b"y" * 4096
                turn += 1

        threads = [threading.Thread(target=work, args=[number]) for number in range(3)]
        for thread in threads:
            thread.start()
        for number in range(30):
            time.sleep(0.001)
            child = fork()
            if child == 0:
                refused(disk.pread, 3, 0)
                if number % 2:
                    disk.close()
                    del disk
                sys.exit(5)
            assert status(child) == 5, number
        over = True
        for thread in threads:
            thread.join()
        disk.close()
    """
    run_forking(script, image)


def test_a_source_that_forks_answers_in_the_parent_only(image: Path) -> None:
    script = """
        children = []

        class Forking:
            size = 4 << 20

            def pread(self, length, offset):
                children.append(fork())
                return b"y" * length

        with fvd.open(path, base=Forking()) as disk:
            for number in range(5):
                assert disk.pread(3, number << 16) == b"yyy"
        assert [status(child) for child in children] == [0] * 5
    """
    run_forking(script, image)
