"""`fvd bench`: which requests it sends, what it counts, and what it says."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fvd.cli._bench_load import Latencies, Plan, at_once, one_by_one
from support import MIB, fvd_command, run


def plan(**settings: Any) -> Plan:
    made = Plan()
    vars(made).update(settings)
    return made


def first(offsets: Iterator[int], count: int) -> list[int]:
    return list(itertools.islice(offsets, count))


class Disk:
    """Counts the requests of a load, and those in flight. Each takes a turn of the event loop."""

    size = 64 * 4096

    def __init__(self) -> None:
        self.done: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.in_flight_at_flushes: list[int] = []

    async def pwrite(self, buffer: bytearray, offset: int) -> int:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        self.done.append(f"{offset} {len(buffer)} {buffer[0]}")
        return len(buffer)

    async def flush(self) -> None:
        self.in_flight_at_flushes.append(self.in_flight)
        await asyncio.sleep(0)
        self.done.append("flush")


class DiskOfOneRequest:
    """The same for a load without an event loop."""

    size = 64 * 4096

    def __init__(self) -> None:
        self.done: list[str] = []

    def pwrite(self, buffer: bytearray, offset: int) -> int:
        self.done.append(f"{offset} {len(buffer)} {buffer[0]}")
        return len(buffer)

    def flush(self) -> None:
        self.done.append("flush")


def test_offsets_go_round_and_stay_on_the_disk() -> None:
    assert first(plan(offset=4096).offsets(4 * 4096), 5) == [4096, 8192, 12288, 0, 4096]
    assert first(plan(offset=4 * MIB, step=8 * MIB).offsets(16 * MIB), 4) == [
        4 * MIB, 12 * MIB, 4 * MIB, 12 * MIB,
    ]  # fmt: skip
    assert first(plan(size=3000, step=2000).offsets(8000), 6) == [0, 2000, 4000, 0, 2000, 4000]


def test_random_offsets_are_whole_steps_on_the_disk_and_the_same_for_a_seed() -> None:
    load = plan(seed=1, offset=512, step=1000, size=4096)
    offsets = first(load.offsets(50_000), 2000)
    assert {(offset - 512) % 1000 for offset in offsets} == {0}
    assert (min(offsets), max(offsets)) == (512, 45_512)
    assert offsets == first(load.offsets(50_000), 2000)
    assert offsets != first(plan(seed=2, offset=512, step=1000).offsets(50_000), 2000)


def test_a_disk_without_room_for_a_request_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 bytes from 8192 lie beyond the end of the disk"):
        plan(offset=8192).offsets(8192)


def test_percentiles_are_right_to_one_percent() -> None:
    times = Latencies()
    for nanoseconds in range(1, 100_001):
        times.add(nanoseconds)
    assert times.percentile(50) == pytest.approx(50_000, rel=0.01)
    assert times.percentile(99) == pytest.approx(99_000, rel=0.01)
    assert times.most == 100_000
    assert Latencies().percentile(99) == 0


def test_requests_are_in_flight_up_to_the_depth() -> None:
    disk = Disk()
    ticks = itertools.count(step=1000)
    outcome = asyncio.run(at_once(disk, plan(writes=True, count=100, depth=7), lambda: next(ticks)))  # type: ignore[arg-type]
    assert disk.most_in_flight == 7
    assert sorted(disk.done) == sorted(f"{number % 64 * 4096} 4096 0" for number in range(100))
    assert outcome.latencies.total == 100


@pytest.mark.parametrize(("drains", "in_flight"), [(True, {0}), (False, {3})])
def test_a_flush_comes_after_each_interval_and_waits_if_it_drains(drains: bool, in_flight: set[int]) -> None:
    disk = Disk()
    load = plan(writes=True, count=40, depth=4, flush_interval=10, drains=drains)
    asyncio.run(at_once(disk, load, lambda: 0))  # type: ignore[arg-type]
    assert disk.done.count("flush") == 4
    assert (len(disk.done), disk.most_in_flight) == (44, 4)
    if drains:
        assert set(disk.in_flight_at_flushes) == in_flight
        assert [disk.done[index] for index in (10, 21, 32, 43)] == ["flush"] * 4
    else:
        assert max(disk.in_flight_at_flushes) > 0


def test_one_request_at_a_time_needs_no_event_loop() -> None:
    disk = DiskOfOneRequest()
    ticks = itertools.count(step=10)
    load = plan(writes=True, count=3, depth=1, size=512, pattern=7, flush_interval=2)
    outcome = one_by_one(disk, load, lambda: next(ticks))  # type: ignore[arg-type]
    assert disk.done == ["0 512 7", "512 512 7", "flush", "1024 512 7"]
    assert (outcome.nanoseconds, outcome.latencies.most, outcome.latencies.total) == (70, 10, 3)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.fvd"
    fvd_command("create", "-q", path, "16M")
    return path


@pytest.mark.parametrize(
    "options",
    [
        ("-c", "100", "-d", "4"),
        ("-c", "100", "-d", "1", "-s", "8k", "-S", "16k", "-o", "1M", "-t", "none", "-i", "native", "-n"),
        ("-c", "100", "-d", "4", "-w", "--pattern=3", "--flush-interval=10"),
        ("-c", "20", "-d", "1", "-w", "--flush-interval=5", "--no-drain", "-t", "unsafe"),
        ("-c", "30", "-S", "0"),
    ],
)
def test_the_output_is_that_of_qemu_img_and_a_line(image: Path, options: tuple[str, ...]) -> None:
    raw = image.with_suffix(".raw")
    run("qemu-img", "create", "-q", "-f", "raw", raw, "16M")
    theirs = run(
        "qemu-img", "bench", "-f", "raw", *(o for o in options if o not in ("-i", "-n", "native")), raw
    )
    ours = fvd_command("bench", *options, image).stdout.decode()
    time = re.compile(r"completed in [0-9.]+ s")
    expected = time.sub("completed in T s", theirs.stdout.decode())
    lines = time.sub("completed in T s", ours).splitlines(keepends=True)
    assert "".join(lines[:-1]) == expected
    assert re.fullmatch(r"Latency: p50 [0-9.]+ us, p99 [0-9.]+ us, max [0-9.]+ us\n", lines[-1])
    assert fvd_command("bench", "-q", *options, image).stdout == b""


@pytest.mark.parametrize("depth", ["1", "8"])
def test_a_write_test_writes_the_pattern_where_it_says(image: Path, depth: str) -> None:
    fvd_command("bench", "-w", "-c", "8", "-d", depth, "-s", "512", "-o", "4096", "--pattern=0xab", image)
    raw = image.with_suffix(".raw")
    fvd_command("convert", image, raw)
    assert raw.read_bytes() == bytes(4096) + b"\xab" * 4096 + bytes(16 * MIB - 8192)


def test_a_read_test_changes_nothing(image: Path) -> None:
    before = image.read_bytes()
    fvd_command("bench", "-q", "-c", "100", image)
    assert image.read_bytes() == before


def test_json_has_what_was_sent_and_how_long_it_took(image: Path) -> None:
    said = json.loads(fvd_command("bench", "-c", "50", "--random=3", "--output=json", image).stdout)
    assert said["seconds"] > 0
    assert said["requests-per-second"] == pytest.approx(50 / said["seconds"], rel=0.01)
    latency = said.pop("latency-us")
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    del said["seconds"], said["requests-per-second"]
    assert said == {
        "operation": "read", "count": 50, "buffer-size": 4096, "depth": 64, "offset": 0, "step-size": 4096,
        "seed": 3, "flush-interval": 0,
    }  # fmt: skip


def test_random_tells_the_seed_that_it_took(image: Path) -> None:
    said = fvd_command("bench", "-c", "1", "--random", image).stdout.decode()
    assert re.search(r"\(at random offsets from 0, step size 4096, seed [0-9]+\)$", said, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        ("-c", "0"), ("-c", "x"), ("-c", "1k"), ("-d", "0"), ("-s", "0"), ("-s", "3G"), ("-S", "1x"),
        ("-d", "-3"),
        ("--pattern=300", "-w"), ("-i", "foo"), ("--flush-interval=100",), ("-w", "--flush-interval=10"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_refused_in_qemu_imgs_words(image: Path, words: tuple[str, ...]) -> None:
    raw = image.with_suffix(".raw")
    run("qemu-img", "create", "-q", "-f", "raw", raw, "16M")
    theirs = run("qemu-img", "bench", "-f", "raw", *words, raw, ok=(1,)).stderr.decode()
    assert fvd_command("bench", *words, image, ok=(1,)).stderr.decode().replace("fvd:", "qemu-img:") == theirs


def test_what_cannot_be_measured_is_named(image: Path) -> None:
    refused = fvd_command("bench", "-f", "raw", image, ok=(1,)).stderr.decode()
    assert refused.startswith(
        "fvd: Only fvd images are measured, not raw: 'qemu-img bench' measures this one"
    )
    beyond = fvd_command("bench", "-o", "16M", image, ok=(1,))
    assert (beyond.stdout, b"lie beyond the end of the disk" in beyond.stderr) == (b"", True)
