"""Sources in Python: what is read is what they return, or an error that says what is wrong."""

import asyncio
import gc
import io
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]
import pytest

import fvd.aio
from fvd.types import Extent, ImageOptions, Source
from support import FVD, KIB, MIB, run
from support.fault_server import serving

DATA = os.urandom(MIB) + bytes(MIB) + os.urandom(MIB + 100)


class Disk:
    """A source that remembers its calls."""

    def __init__(self, data: bytes = DATA, threads: int = 1) -> None:
        self.data = data
        self.size = len(data)
        self.threads = threads
        self.calls: list[tuple[int, int]] = []
        self.now = self.most = 0

    def pread(self, length: int, offset: int) -> bytes:
        self.calls.append((length, offset))
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.001)
        self.now -= 1
        return self.data[offset : offset + length]


class WithHoles(Disk):
    def extents(self, offset: int, length: int) -> list[dict[str, Any]]:
        return [
            {"start": 0, "length": MIB, "zero": False},
            {"start": MIB, "length": MIB, "zero": True},
        ]


class Returning:
    """A source whose `pread` does what it is told."""

    size = 3 * MIB

    def __init__(self, work: Callable[[int, int], object]) -> None:
        self.work = work

    def pread(self, length: int, offset: int) -> Any:
        return self.work(length, offset)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image whose base is not there."""
    path = tmp_path / "vm.fvd"
    size = len(DATA) + 412
    fvd.create(path, size, backing_file="gone.raw", backing_format="raw", backing_unsafe=True)
    return path


def raising(error: BaseException) -> Callable[[int, int], object]:
    def work(length: int, offset: int) -> object:
        raise error

    return work


def test_an_image_reads_its_base_from_a_source(image: Path) -> None:
    with fvd.open(image, "r+", base=Disk()) as disk:
        assert disk.pread(disk.size, 0) == DATA + bytes(412)
        assert disk.pwrite(b"new", 1000) == 3
        assert disk.prefetch()["state"] == "finished"
    with fvd.open(image, base=Returning(raising(KeyError()))) as disk:
        assert disk.pread(len(DATA), 0) == DATA[:1000] + b"new" + DATA[1003:]


@pytest.mark.parametrize("format", ["qcow2", "fvd"])
def test_a_source_can_hold_an_image(tmp_path: Path, format: str) -> None:
    (tmp_path / "base.raw").write_bytes(DATA[: 2 * MIB])
    base, path = tmp_path / f"base.{format}", tmp_path / "vm.fvd"
    if format == "qcow2":
        run("qemu-img", "convert", "-c", "-O", "qcow2", tmp_path / "base.raw", base)
    else:
        options: ImageOptions = {"compact_image": True}
        fvd.convert(tmp_path / "base.raw", base, source_format="raw", format="fvd", options=options)
    fvd.create(path, backing_file=base.name, backing_format=cast(Any, format))
    source = Disk(base.read_bytes(), threads=4)
    assert fvd.compare(source, path, a_format=cast(Any, format))["identical"]
    base.unlink()
    with fvd.open(path, base=source) as disk:
        assert disk.pread(2 * MIB, 0) == DATA[: 2 * MIB]

    async def read() -> bytes:
        async with fvd.aio.open(path, base=source) as disk:
            return await disk.pread(2 * MIB, 0)

    assert asyncio.run(read()) == DATA[: 2 * MIB]


def test_an_image_in_a_source_cannot_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.raw").write_bytes(DATA)
    for name in ("secret.raw", str(tmp_path / "secret.raw")):
        fvd.create("inner.fvd", backing_file=name, backing_format="raw")
        source = Disk(Path("inner.fvd").read_bytes())
        with pytest.raises(fvd.FvdError, match=r"beside it|lies on another one"):
            fvd.convert(source, "out.raw", source_format="fvd", trust=[tmp_path, "/"])
        fvd.create("vm.fvd", MIB, backing_file="x", backing_format="fvd", backing_unsafe=True)
        with pytest.raises(fvd.FvdError, match=r"beside it|lies on another one"):
            fvd.open("vm.fvd", base=source, trust=[tmp_path, "/"])


def test_files_are_sources(image: Path, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(DATA)
    memory = fsspec.filesystem("memory")
    memory.pipe("/disk", DATA)
    with (tmp_path / "disk.raw").open("rb") as local, memory.open("/disk", "rb") as remote:
        unbuffered = (tmp_path / "disk.raw").open("rb", buffering=0)
        for file in (local, remote, unbuffered, io.BytesIO(DATA), fvd.source(io.BytesIO(DATA), name="x")):
            with fvd.open(image, base=cast(Any, file)) as disk:
                assert disk.pread(len(DATA), 0) == DATA
        unbuffered.close()
        assert not local.closed


def test_a_file_may_return_less_than_it_is_asked_for(image: Path) -> None:
    class Short(io.BytesIO):
        def read(self, length: int | None = -1, /) -> bytes:
            return super().read(min(length or 0, 1000))

    file = Short(DATA)
    with fvd.open(image, base=file) as disk:
        assert disk.pread(5000, 3000) == DATA[3000:8000]
        file.truncate(6000)
        with pytest.raises(fvd.IoError, match="raised EOFError"):
            disk.pread(5000, 3000)


def test_an_open_image_is_a_source(image: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.raw").write_bytes(DATA)
    fvd.create(tmp_path / "top.fvd", 3 * MIB, backing_file="x", backing_format="raw", backing_unsafe=True)
    with fvd.open(image) as below, fvd.open(tmp_path / "top.fvd", base=below) as top:
        assert top.pread(3 * MIB, 0) == DATA[: 3 * MIB]


def test_a_disk_is_copied_from_a_source_without_its_holes(tmp_path: Path) -> None:
    source = WithHoles()
    assert fvd.convert(source, tmp_path / "copy.raw", source_format="raw")["size"] == len(DATA)
    assert (tmp_path / "copy.raw").read_bytes() == DATA
    assert all(offset + length <= MIB or offset >= 2 * MIB for length, offset in source.calls), source.calls
    assert fvd.compare(WithHoles(), tmp_path / "copy.raw", a_format="raw", b_format="raw")["identical"]
    other = bytearray(DATA)
    other[5000] ^= 1
    result = fvd.compare(Disk(bytes(other)), tmp_path / "copy.raw", a_format="raw", b_format="raw")
    assert result["offset"] == 4608


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "0 bytes where 10"),
        (b"12345", "5 bytes where 10"),
        (b"x" * 11, "11 bytes where 10"),
        (None, "NoneType, and not bytes"),
        ("0123456789", "str, and not bytes"),
        (memoryview(bytes(20))[::2], "and not bytes"),
        (10, "int, and not bytes"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_an_error(image: Path, answer: Any, text: str) -> None:
    with (
        fvd.open(image, base=Returning(lambda length, offset: answer)) as disk,
        pytest.raises(fvd.IoError, match=text) as failed,
    ):
        disk.pread(10, 4096)
    assert (failed.value.errno, failed.value.offset) == (5, 4096)
    assert str(failed.value.filename).endswith("/Returning")


def test_memory_that_is_used_again_is_copied_at_once(image: Path) -> None:
    memory = bytearray(64 * KIB)

    def read(length: int, offset: int) -> memoryview:
        memory[:] = bytes([offset >> 16]) * len(memory)
        return memoryview(memory)[:length]

    async def read_all() -> list[bytes]:
        async with fvd.aio.open(image, base=Returning(read)) as disk:
            return await asyncio.gather(*(disk.pread(64 * KIB, number << 16) for number in range(40)))

    assert asyncio.run(read_all()) == [bytes([number]) * 64 * KIB for number in range(40)]


def test_an_exception_of_a_source_is_the_cause_and_its_text_is_not_shown(image: Path, tmp_path: Path) -> None:
    error = PermissionError(13, "https://x/?X-Amz-Signature=hunter2")
    source = Returning(raising(error))

    async def read() -> None:
        async with fvd.aio.open(image, base=source) as disk:
            await disk.pread(10, 0)

    def prefetch() -> None:
        with fvd.open(image, "r+", base=source) as disk:
            disk.prefetch()

    def pread() -> None:
        with fvd.open(image, base=source) as disk:
            disk.pread(10, 0)

    for work in (
        pread,
        prefetch,
        lambda: asyncio.run(read()),
        lambda: fvd.convert(source, tmp_path / "x", source_format="raw"),
        lambda: fvd.compare(source, source, a_format="raw", b_format="raw"),
    ):
        with pytest.raises(fvd.IoError, match="pread of the source raised PermissionError") as failed:
            work()
        assert failed.value.errno == 5
        assert failed.value.__cause__ is error
        assert "hunter2" not in str(failed.value)


def test_other_errors_keep_their_context(tmp_path: Path) -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            fvd.open(tmp_path / "missing")

    with pytest.raises(fvd.IoError) as failed:
        fail()
    assert failed.value.__cause__ is None
    assert isinstance(failed.value.__context__, KeyError)
    assert not failed.value.__suppress_context__


def test_an_exception_of_extents_is_an_error(tmp_path: Path) -> None:
    class Failing(Disk):
        def extents(self, offset: int, length: int) -> list[Extent]:
            return cast(list[Extent], [{"start": 0}])

    with pytest.raises(fvd.IoError, match="extents of the source raised KeyError") as failed:
        fvd.convert(Failing(), tmp_path / "x", source_format="raw")
    assert isinstance(failed.value.__cause__, KeyError)


def test_calls_come_one_at_a_time_unless_the_source_permits_more(image: Path) -> None:
    async def read(source: Source) -> None:
        async with fvd.aio.open(image, base=source) as disk:
            await asyncio.gather(*(disk.pread(4096, number << 16) for number in range(32)))

    alone, several = Disk(), Disk(threads=4)
    asyncio.run(read(alone))
    asyncio.run(read(several))
    assert (alone.most, len(alone.calls)) == (1, 32)
    assert 2 <= several.most <= 4


def test_a_base_that_is_not_the_pinned_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vm.fvd"
    with serving() as server:
        fvd.create(path, backing_file=server.put("base.raw", DATA), backing_format="raw", trust=server.trust)
    pin = fvd.info(path)["format-specific"]["data"]["base-pin"]
    etag = pin["value"]
    for identity in (None, etag):
        with fvd.open(path, base=fvd.source(io.BytesIO(DATA), identity=identity)) as disk:
            assert disk.pread(10, 0) == DATA[:10]
    for wrong in (
        fvd.source(io.BytesIO(DATA[:-1]), identity=etag),
        fvd.source(io.BytesIO(DATA), identity='"another"'),
    ):
        with pytest.raises(fvd.IoError, match="another object: expected"):
            fvd.open(path, base=wrong)


def test_what_is_no_source_is_refused(image: Path) -> None:
    class NoSize:
        def pread(self, length: int, offset: int) -> bytes:
            return bytes(length)

    class Coroutines:
        size = MIB

        async def pread(self, length: int, offset: int) -> bytes:
            return bytes(length)

    class Mixed(Coroutines):
        def extents(self, offset: int, length: int) -> list[Extent]:
            return []

    opened: list[Callable[[Any], object]] = [
        lambda given: fvd.open(image, base=given),
        lambda given: fvd.convert(given, image, source_format="raw"),
        lambda given: fvd.serve(given),
    ]
    for given, text in (
        (NoSize(), "has a size"),
        (Coroutines(), "fvd.aio.open"),
        (io.StringIO("x"), "binary"),
        (object(), "needed"),
    ):
        for work in opened:
            with pytest.raises(TypeError, match=text):
                work(given)
    many = Disk(threads=33)
    with pytest.raises(ValueError, match="1 to 32"):
        fvd.open(image, base=many)

    async def open_mixed() -> None:
        await fvd.aio.open(image, base=Mixed())

    with pytest.raises(TypeError, match="or neither"):
        asyncio.run(open_mixed())
    fvd.create(image, MIB)
    with pytest.raises(ValueError, match="no backing file"):
        fvd.open(image, base=Disk())


def test_a_source_is_released_with_its_image(image: Path) -> None:
    source = Disk()
    known = weakref.ref(source)
    disk = fvd.open(image, base=source)
    disk.pread(10, 0)
    del source
    disk.close()
    end = time.monotonic() + 30
    while known() is not None:
        gc.collect()
        assert time.monotonic() < end, "the source is still held"
        time.sleep(0.01)
    assert not any(thread.name == "fvd-Disk" for thread in threading.enumerate())


def test_clients_of_a_source_that_fails_get_eio_and_stderr_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = threading.Event()

    def read(length: int, offset: int) -> bytes:
        if fails.is_set():
            raise RuntimeError("hunter2")
        return DATA[offset : offset + length]

    out = tmp_path / "out.raw"
    with fvd.serve(Returning(read), socket=tmp_path / "nbd.sock") as server:
        run("nbdcopy", server.uri, out)
        assert out.read_bytes() == DATA[: 3 * MIB]
        assert capfd.readouterr().err == ""
        fails.set()
        for _ in range(2):
            done = run("nbdcopy", server.uri, out, ok=[1])
            assert b"Input/output error" in done.stderr
        done = run("qemu-io", "-f", "raw", "-c", "write 0 512", server.uri, ok=[1])
        assert b"read-only" in done.stderr + done.stdout or b"Permission" in done.stderr + done.stdout
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].endswith("pread of the source raised RuntimeError: clients get an error")
        fails.clear()
        run(FVD, "compare", "-f", "raw", "-F", "raw", server.uri, out, ok=[0, 1])


def test_a_source_is_served_next_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(DATA[:MIB])
    disks: dict[str, Any] = {"file": tmp_path / "disk.raw", "source": Disk()}
    with fvd.serve(disks, socket=tmp_path / "nbd.sock", format="raw") as server:
        uris = {urlsplit(uri).path[1:]: uri for uri in server.uris}
        run("nbdcopy", uris["source"], tmp_path / "out.raw")
        assert (tmp_path / "out.raw").read_bytes()[: len(DATA)] == DATA
        run("qemu-io", "-f", "raw", "-c", "write -P 7 0 512", uris["file"])
    assert (tmp_path / "disk.raw").read_bytes()[:512] == b"\7" * 512
