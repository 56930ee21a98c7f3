"""A process that forks while an image is open: the image belongs to the parent, and the child gets an
error.
"""

import time
from pathlib import Path
from typing import Literal

import pytest

import fvd
from fvd.types import ImageOptions
from support import KIB, MIB, fvd_command, run
from support.disks import random_disk
from support.forks import run_forking

KINDS = ("compact", "overlay", "data_file", "no_journal")


def create(folder: Path, kind: str = "compact") -> Path:
    """An image of 64 MiB, whose changed metadata stays in memory for a while."""
    path = folder / "disk.fvd"
    options: ImageOptions = {"compact_image": True, "chunk_size": "64K"}
    if kind == "overlay":
        random_disk(folder / "base.raw", 64 * MIB, seed=5)
        options |= {"copy_on_read": True, "prefetch_start_delay": 1, "block_size": "64K"}
        fvd.create(path, backing_file="base.raw", backing_format="raw", options=options)
        return path
    if kind == "data_file":
        options["data_file"] = "data.raw"
    if kind == "no_journal":
        options["journal_size"] = -1
    fvd.create(path, 64 * MIB, options=options)
    return path


def read(path: Path, count: int, offset: int) -> bytes:
    """The content of the disk, after a session that may have been killed."""
    end = time.monotonic() + 60
    while True:
        try:
            with fvd.open(path) as image:
                return image.pread(count, offset)
        except fvd.InUseError:
            # The kernel releases the ring of a killed process slightly later.
            assert time.monotonic() < end, "a lock has been left"
            time.sleep(0.01)


ENDS = {
    "exit": "sys.exit(3)",
    "exit in the block": """
    with image:
        sys.exit(3)
""",
    "exception in the block": """
    try:
        with image:
            raise KeyError("of the test")
    except KeyError:
        sys.exit(3)
""",
    "end of the block": """
    with image:
        pass
""",
    "close": "image.close(); image.close()",
    "last reference": "del image; gc.collect()",
    "at once": "os._exit(3)",
}


@pytest.mark.parametrize(
    ("kind", "end"),
    [*(("compact", end) for end in ENDS), *((kind, "exit in the block") for kind in KINDS[1:])],
)
def test_the_image_stays_usable_after_any_end_of_a_child(tmp_path: Path, kind: str, end: str) -> None:
    path = create(tmp_path, kind)
    script = f"""
import gc

image = fvd.open(path, "r+")
image.pwrite(b"A" * 65536, 0)
image.flush()
child = fork()
if child == 0:
    {ENDS[end]}
    os._exit(3)
assert status(child) == 3 and not image.closed
try:
    fvd.open(path, "r+")
except fvd.InUseError:
    pass
else:
    raise AssertionError("the child has unlocked the image")
image.pwrite(b"B" * 65536, 32 << 20)
image.flush()
die()
"""
    run_forking(script, path, status=-9)
    # Without a journal, the image is always marked clean.
    assert fvd.info(path)["dirty-flag"] == (kind != "no_journal")
    assert read(path, 65536, 0) == b"A" * 65536
    assert read(path, 65536, 32 * MIB) == b"B" * 65536
    fvd_command("check", "-r", "leaks", path)
    fvd_command("check", path)


def test_a_child_writes_nothing_after_the_parents_session(tmp_path: Path) -> None:
    path = create(tmp_path)
    script = """
        told, tell = os.pipe()
        with fvd.open(path, "r+") as image:
            image.pwrite(b"A" * 65536, 0)
            child = fork()
            if child == 0:
                os.close(tell)
                os.read(told, 1)
                sys.exit()
            image.pwrite(b"B" * 65536, 32 << 20)
        with fvd.open(path, "r+") as image:
            image.pwrite(b"C" * 65536, 48 << 20)
        os.close(tell)
        assert status(child) == 0
    """
    run_forking(script, path)
    for letter, offset in ((b"A", 0), (b"B", 32 * MIB), (b"C", 48 * MIB)):
        assert read(path, 65536, offset) == letter * 65536
    fvd_command("check", path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_of_a_child_is_refused(tmp_path: Path, kind: str) -> None:
    path = create(tmp_path, kind)
    script = """
        image = fvd.open(path, "r+")
        reader = image.file()
        image.pwrite(b"A" * 65536, 0)
        image.flush()
        child = fork()
        if child == 0:
            for number in range(1, 5):
                refused(image.pwrite, b"C" * 65536, number << 16)
                refused(image.zero, 1 << 20, 0)
                refused(image.discard, 1 << 20, 0)
                refused(image.flush)
            refused(image.pread, 512, 0)
            refused(image.pread, 0, 0)
            refused(image.readinto, bytearray(512), 48 << 20)
            for operation in (
                image.extents, image.info, image.stats, image.file, image.prefetch, image.prefetch_status,
                image.pause_prefetch, image.resume_prefetch,
            ):
                refused(operation)
            refused(fvd.serve, image)
            assert image.size == 64 << 20 and path in repr(image) and image.writable
            sys.exit(5)
        assert status(child) == 5
        for number in range(100, 103):
            image.pwrite(b"P" * 65536, number << 16)
        image.flush()
        die()
    """
    run_forking(script, path, status=-9)
    fvd_command("check", "-r", "leaks", path)
    fvd_command("check", path)
    assert read(path, 65536, 0) == b"A" * 65536
    assert read(path, 3 * 65536, 100 << 16) == b"P" * 3 * 65536


def test_a_read_only_image_is_refused_in_a_child_too(tmp_path: Path) -> None:
    path = create(tmp_path)
    script = """
        with fvd.open(path) as image, image.file() as file:
            extents = fvd.map(path)
            child = fork()
            if child == 0:
                refused(image.pread, 512, 0)
                refused(file.read, 512)
                refused(next, extents)
                with fvd.open(path) as own:
                    assert own.pread(512, 0) == bytes(512)
                sys.exit(5)
            assert status(child) == 5
            assert image.pread(512, 0) == bytes(512)
            next(extents)
    """
    run_forking(script, path)


@pytest.mark.parametrize("base", ["raw", "fvd", "qcow2"])
def test_data_of_a_base_is_refused_in_a_child(tmp_path: Path, base: Literal["raw", "fvd", "qcow2"]) -> None:
    random_disk(tmp_path / "base.raw", MIB, seed=3)
    fvd.create(tmp_path / "base.fvd", backing_file="base.raw", backing_format="raw")
    run("qemu-img", "convert", "-O", "qcow2", tmp_path / "base.raw", tmp_path / "base.qcow2")
    path = tmp_path / "disk.fvd"
    fvd.create(path, backing_file=f"base.{base}", backing_format=base)
    script = """
        with fvd.open(path, "r+") as image:
            child = fork()
            if child == 0:
                refused(image.pread, 65536, 0)
                refused(image.extents)
                sys.exit(5)
            assert status(child) == 5
            assert image.pread(65536, 0) == open(sys.argv[2], "rb").read(65536)
    """
    run_forking(script, path, tmp_path / "base.raw")


def test_buffered_data_of_a_file_object_stays_with_the_parent(tmp_path: Path) -> None:
    path = create(tmp_path)
    script = """
        image = fvd.open(path, "r+")
        file = image.file()
        file.write(b"parent")
        ends = [
            "sys.exit(5)",
            "file.close(); os._exit(5)",
            "del file; os._exit(5)",
            "with file: sys.exit(5)",
            "refused(file.flush); sys.exit(5)",
            "refused(file.write, b'child'); sys.exit(5)",
            "refused(file.seek, 0); sys.exit(5)",
            "refused(file.tell); sys.exit(5)",
            "refused(file.read); sys.exit(5)",
            "refused(file.readline); sys.exit(5)",
            "refused(list, file); sys.exit(5)",
        ]
        for end in ends:
            child = fork()
            if child == 0:
                exec(end)
            assert status(child) == 5, end
        assert image.pread(6, 0) == bytes(6)
        file.flush()
        assert image.pread(6, 0) == b"parent"
        file.write(b" goes on")
        file.close()
        image.close()
    """
    run_forking(script, path)
    assert read(path, 14, 0) == b"parent goes on"


def test_a_file_object_that_a_thread_uses_hangs_no_child(tmp_path: Path) -> None:
    path = create(tmp_path)
    script = """
        image = fvd.open(path, "r+")
        file = image.file()
        over = False

        def work():
            while not over:
                file.seek(0)
                file.read(1 << 20)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(30):
            child = fork()
            if child == 0:
                refused(file.read, 1)
                refused(file.flush)
                file.close()
                del file
                sys.exit(5)
            assert status(child) == 5
        over = True
        thread.join()
        image.close()
    """
    run_forking(script, path)


def test_a_fork_while_threads_read_and_write_hangs_no_child(tmp_path: Path) -> None:
    path = create(tmp_path, "overlay")
    script = """
        image = fvd.open(path, "r+")
        over = False

        def work(number):
            turn = 0
            while not over:
                offset = (turn * 7 + number) % 1000 << 16
                image.pread(100_000, offset // 2)
                image.pwrite(b"x" * 3000, offset)
                image.zero(70_000, offset)
                image.flush()
                turn += 1

        threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        image.resume_prefetch()
        for number in range(40):
            time.sleep(0.001)
            child = fork()
            if child == 0:
                for operation in (image.flush, image.prefetch, image.prefetch_status, image.stats):
                    refused(operation)
                refused(image.pread, 512, 0)
                refused(image.pwrite, b"y" * 512, 0)
                if number % 2:
                    image.close()
                    del image
                # A child may open its own images.
                fvd.open(path, force_share=True).close()
                sys.exit(5)
            assert status(child) == 5, number
        over = True
        for thread in threads:
            thread.join()
        image.close()
    """
    run_forking(script, path)
    fvd_command("check", path)


def test_a_fork_while_another_thread_closes_hangs_no_child(tmp_path: Path) -> None:
    path = create(tmp_path, "overlay")
    script = """
        for number in range(20):
            image = fvd.open(path, "r+")
            image.pwrite(b"x" * 1_000_000, number << 20)
            thread = threading.Thread(target=image.close)
            thread.start()
            child = fork()
            if child == 0:
                refused(image.pread, 512, 0)
                image.close()
                del image
                sys.exit(5)
            assert status(child) == 5, number
            thread.join()
    """
    run_forking(script, path)
    fvd_command("check", path)


def test_an_image_of_asyncio_stays_the_parents(tmp_path: Path) -> None:
    path = create(tmp_path, "overlay")
    script = """
        import asyncio, fvd.aio

        async def refuses(coroutine):
            try:
                await coroutine
            except ValueError as error:
                assert "open after forking" in str(error), error
            else:
                raise AssertionError(f"{coroutine} has worked in a child")

        async def main():
            async with fvd.aio.open(path, "r+") as image:
                await image.pwrite(b"A" * 65536, 0)
                await image.flush()
                under_way = [asyncio.ensure_future(image.pread(1 << 20, at << 20)) for at in range(16)]
                await asyncio.sleep(0)
                child = fork()
                if child == 0:
                    for coroutine in (
                        image.pread(512, 0), image.pwrite(b"C", 0), image.zero(512, 0), image.discard(512, 0),
                        image.flush(), image.extents(), image.info(), image.stats(), image.prefetch(),
                        image.prefetch_status(), image.pause_prefetch(), image.resume_prefetch(),
                        image.readinto(bytearray(512), 0),
                    ):
                        await refuses(coroutine)
                    async with image:
                        pass
                    # Ending an event loop in a child would stop that of the parent: they share descriptors.
                    os._exit(5)
                assert status(child) == 5
                await asyncio.gather(*under_way)
                await image.pwrite(b"B" * 65536, 32 << 20)
                await image.flush()
                die()

        asyncio.run(main())
    """
    run_forking(script, path, status=-9)
    assert read(path, 65536, 0) == b"A" * 65536
    assert read(path, 65536, 32 * MIB) == b"B" * 65536


def test_a_fork_during_a_busy_event_loop_hangs_no_child(tmp_path: Path) -> None:
    path, other = create(tmp_path, "overlay"), tmp_path / "other.fvd"
    fvd.create(other, MIB)
    script = """
        import asyncio, fvd.aio

        over = False
        image = None

        async def main():
            global image
            async with fvd.aio.open(path, "r+", cache="none") as image:
                while not over:
                    await asyncio.gather(*(image.pread(65536, at << 16) for at in range(100)))
                    await image.pwrite(b"x" * 100_000, 512)
                    await image.flush()

        async def own():
            async with fvd.aio.open(sys.argv[2], "r+") as image:
                await image.pwrite(b"y" * 512, 0)

        thread = threading.Thread(target=asyncio.run, args=[main()])
        thread.start()
        while image is None:
            time.sleep(0.01)
        for number in range(30):
            time.sleep(0.002)
            child = fork()
            if child == 0:
                refused(image._image.pread, 512, 0)
                if number % 2:
                    image = None
                asyncio.run(own())
                sys.exit(5)
            ended = status(child)
            if ended != 5:
                print("fork", number, "ended with", ended, flush=True)
                os._exit(1)
        over = True
        thread.join()
    """
    run_forking(script, path, other)
    fvd_command("check", path)


def test_workers_of_multiprocessing_get_an_error(tmp_path: Path) -> None:
    path = create(tmp_path)
    script = """
        import multiprocessing

        forking = multiprocessing.get_context("fork")

        def work(number):
            refused(image.pwrite, b"C" * 65536, number << 16)
            refused(image.flush)
            return os.getpid()

        with fvd.open(path, "r+") as image:
            image.pwrite(b"A" * 65536, 0)
            with forking.Pool(2) as pool:
                assert os.getpid() not in pool.map(work, range(8))
            process = forking.Process(target=work, args=[9])
            process.start()
            process.join()
            assert process.exitcode == 0
            image.pwrite(b"B" * 65536, 32 << 20)
    """
    run_forking(script, path)
    assert read(path, 2 * 65536, 0) == b"A" * 65536 + bytes(65536)
    assert read(path, 65536, 32 * MIB) == b"B" * 65536
    fvd_command("check", path)


def test_a_daemon_opens_after_forking(tmp_path: Path) -> None:
    path = create(tmp_path, "overlay")
    script = """
        import asyncio, fvd.aio

        def opened(path):
            for _ in range(2000):
                try:
                    return fvd.open(path, "r+")
                except fvd.InUseError:
                    time.sleep(0.02)
            sys.exit("it is still locked")

        told, tell = os.pipe()
        image = fvd.open(path, "r+")
        image.pwrite(b"A" * 65536, 0)
        image.flush()
        asynchronous = asyncio.run(fvd.aio.open(sys.argv[2], "r+", cache="none")._open())
        asyncio.run(asynchronous.pwrite(b"A" * 65536, 0))
        if os.fork() == 0:
            os.setsid()
            daemon = os.fork()
            if daemon != 0:
                os._exit(0)
            signal.alarm(60)
            os.close(tell)
            # Returns when the parent has ended, which closes the other end.
            os.read(told, 1)
            refused(image.flush)
            # This process has no copy of the locks, although it still has references to the old images. The
            # parent closes its files one after the other, and the kernel releases its ring slightly later.
            with opened(path) as own:
                assert own.pread(65536, 0) == b"A" * 65536
                own.pwrite(b"B" * 65536, 32 << 20)
            opened(sys.argv[2]).close()
            print("done", flush=True)
            sys.exit()
        os.wait()
        os._exit(0)
    """
    other = tmp_path / "other.fvd"
    fvd.create(other, MIB)
    # Ends only when the daemon has closed the pipe, too.
    assert run_forking(script, path, other) == "done\n"
    assert read(path, 65536, 32 * MIB) == b"B" * 65536
    assert not fvd.info(path)["dirty-flag"]


@pytest.mark.parametrize("module", ["fvd", "fvd.aio"])
def test_a_surviving_child_keeps_no_lock(tmp_path: Path, module: str) -> None:
    path = create(tmp_path, "overlay")
    script = """
        import asyncio, fvd.aio

        lives, dies = os.pipe()
        child = fork()
        if child == 0:
            if sys.argv[2] == "fvd":
                image = fvd.open(path, "r+")
                image.pwrite(b"A" * 512, 0)
                image.flush()
            else:
                image = asyncio.run(fvd.aio.open(path, "r+", cache="none")._open())
                asyncio.run(image.pwrite(b"A" * 512, 0))
                asyncio.run(image.flush())
            if fork() == 0:
                # Wait until the test is over.
                os.close(dies)
                os.read(lives, 1)
                os._exit(0)
            die()
        os.close(lives)
        assert status(child) == -9
        # The kernel releases the ring of a killed process slightly later.
        end = time.monotonic() + 60
        while True:
            try:
                fvd.open(path, "r+").close()
                break
            except fvd.InUseError:
                assert time.monotonic() < end, "the child has kept the lock"
                time.sleep(0.01)
    """
    run_forking(script, path, module)
    assert read(path, 512, 0) == b"A" * 512


@pytest.mark.parametrize("end", ["sys.exit(5)", "raise KeyError", "return"])
def test_a_fork_in_a_progress_callback_does_not_stop_the_parent(tmp_path: Path, end: str) -> None:
    random_disk(tmp_path / "source.raw", 64 * MIB, seed=4)
    path = create(tmp_path, "overlay")
    script = f"""
        children, forked = [], False

        def callback(*_):
            global forked
            if forked:
                return
            forked = True
            child = fork()
            if child == 0:
                {end}
            else:
                children.append(child)

        def job(work):
            global forked
            forked = False
            try:
                result = work()
            except (KeyError, ValueError) as error:
                assert not children, error
                assert isinstance(error, KeyError) or "open after forking" in str(error), error
                sys.exit(5)
            assert status(children.pop()) == 5
            return result

        # Writes half of the data, and the rest after a child was forked.
        def feed(pipe, data):
            with open(pipe, "wb") as file:
                file.write(data[: len(data) // 2])
                while not forked:
                    time.sleep(0.01)
                file.write(data[len(data) // 2 :])

        def convert(name):
            reader, writer = os.pipe()
            with open(source, "rb") as file:
                threading.Thread(target=feed, args=[writer, file.read()]).start()
            fvd.convert(reader, target + name, target_format=name[-3:], progress=callback)
            os.close(reader)

        source, target = sys.argv[2:4]
        for name in ("target.raw", "target.fvd"):
            job(lambda: convert(name))
        assert job(lambda: fvd.compare(source, target + "target.raw", progress=callback))["identical"]
        with fvd.open(path, "r+") as image:
            assert job(lambda: image.prefetch(progress=callback))["state"] == "finished"
    """
    run_forking(script, path, tmp_path / "source.raw", f"{tmp_path}/")
    for name in ("target.raw", "target.fvd"):
        fvd_command("compare", tmp_path / "source.raw", tmp_path / name)
    fvd_command("check", path)


def test_a_grandchild_is_refused_too(tmp_path: Path) -> None:
    """A grandchild cannot use what its parent and its grandparent have opened, and can open its own
    images.
    """
    path, other = create(tmp_path), tmp_path / "other.fvd"
    fvd.create(other, 4 * KIB)
    script = """
        first = fvd.open(path, "r+")
        child = fork()
        if child == 0:
            second = fvd.open(sys.argv[2], "r+")
            grandchild = fork()
            if grandchild == 0:
                refused(first.flush)
                refused(second.flush)
                sys.exit(5)
            assert status(grandchild) == 5
            second.pwrite(b"x", 0)
            second.close()
            sys.exit(5)
        assert status(child) == 5
        first.close()
    """
    run_forking(script, path, other)
    assert read(other, 1, 0) == b"x"
