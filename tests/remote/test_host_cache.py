"""The host cache, with real processes, a real web server and real disks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fvd
from support import unmount
from support.nginx import Nginx, serving
from support.processes import overlay_of_another_process

UNIT = 256 << 10
MIB = 1 << 20
DATA = os.urandom(3 * MIB + 4096)
UNITS = -(-len(DATA) // UNIT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with serving(tmp_path / "nginx") as nginx:
        nginx.put("base.raw", DATA)
        yield nginx


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def overlay(server: Nginx, path: Path) -> Path:
    fvd.create(path, backing_file=server.url("base.raw"), backing_format="raw", trust=server.trust)
    return path


def read_all(server: Nginx, image: Path, cache: Path) -> bytes:
    with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
        return opened.pread(len(DATA), 0)


READER = """
import hashlib, os, sys, time, fvd
path, trust, cache, go = sys.argv[1:]
while not os.path.exists(go):
    time.sleep(0.01)
read = hashlib.sha256()
with fvd.open(path, trust=[trust], cache_dir=cache) as image:
    for offset in range(0, image.size, 1 << 18):
        read.update(image.pread(min(1 << 18, image.size - offset), offset))
print(read.hexdigest())
"""


def reader(server: Nginx, image: Path, cache: Path, go: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", READER, image, server.url(""), cache, go]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def digest() -> str:
    import hashlib

    return hashlib.sha256(DATA).hexdigest()


def wait_until_stored(cache: Path, present: int = len(DATA)) -> None:
    """Units are stored in the background."""
    deadline = time.monotonic() + 60
    while sum(found["present"] for found in fvd.Cache(cache).objects()) < present:
        assert time.monotonic() < deadline, fvd.Cache(cache).objects()
        time.sleep(0.01)


def fetched_units(server: Nginx, since: int = 0) -> Counter[int]:
    """How often each unit was sent. There is no manifest: a request for it brings nothing."""
    count: Counter[int] = Counter()
    for line in server.requests()[since:]:
        status, first, last = line.replace(" bytes=", "-").split("-")
        if status == "404":
            continue
        count.update(range(int(first) // UNIT, min(int(last), len(DATA) - 1) // UNIT + 1))
    return count


def test_a_second_machine_asks_the_server_for_nothing(server: Nginx, tmp_path: Path, cache: Path) -> None:
    first, second = overlay(server, tmp_path / "1.fvd"), overlay(server, tmp_path / "2.fvd")
    with fvd.open(first, trust=server.trust, cache_dir=cache) as image:
        assert image.pread(len(DATA), 0) == DATA
        wait_until_stored(cache)
    before = len(server.requests())
    command = [sys.executable, "-W", "ignore", "-c", READER, second, server.url(""), cache, first]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()
    assert server.requests()[before:] == []


def test_an_image_works_without_the_server_if_the_cache_has_its_data(
    server: Nginx, tmp_path: Path, cache: Path
) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
        assert opened.pread(len(DATA), 0) == DATA
        wait_until_stored(cache)
    server.remove("base.raw")
    with fvd.open(image, "r+", copy_on_read=True, trust=server.trust, cache_dir=cache) as opened:
        assert opened.pread(len(DATA), 0) == DATA
    with pytest.raises(fvd.FvdError, match="no such object"):
        fvd.open(overlay_of_other_pin(server, tmp_path), trust=server.trust)


def overlay_of_other_pin(server: Nginx, tmp_path: Path) -> Path:
    server.put("base.raw", DATA + b"x" * 512)
    image = overlay_of_another_process(tmp_path / "other.fvd", server.url("base.raw"))
    server.remove("base.raw")
    return image


def test_twenty_processes_that_start_at_once_fetch_each_unit_about_once(
    server: Nginx, tmp_path: Path, cache: Path
) -> None:
    images = [overlay(server, tmp_path / f"{number}.fvd") for number in range(20)]
    before = len(server.requests())
    go = tmp_path / "go"
    readers = [reader(server, image, cache, go) for image in images]
    go.touch()
    for process in readers:
        assert process.communicate(timeout=300)[0].strip() == digest()
    fetched = fetched_units(server, before)
    assert set(fetched) == set(range(UNITS))
    # On a machine so busy that a process does not run for seconds, another one fetches its units as well.
    assert fetched.total() <= 2 * UNITS, fetched


HERD = """
import hashlib, os, sys, fvd
path, trust, cache, digest = sys.argv[1:]
waits, go = os.pipe()
children = []
for _ in range(50):
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(waits, 1)
        with fvd.open(path, trust=[trust], cache_dir=cache) as image:
            read = hashlib.sha256(image.pread(image.size, 0)).hexdigest()
        os._exit(read != digest)
    children.append(child)
os.close(go)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_fifty_processes_open_one_template_and_fetch_it_once(
    server: Nginx, tmp_path: Path, cache: Path
) -> None:
    image = overlay(server, tmp_path / "template.fvd")
    before = len(server.requests())
    command = [sys.executable, "-W", "ignore", "-c", HERD, image, server.url(""), cache, digest()]
    done = subprocess.run([str(part) for part in command], timeout=300, check=False)
    assert done.returncode == 0
    fetched = fetched_units(server, before)
    assert set(fetched) == set(range(UNITS))
    # As above: a process that does not run for seconds loses its turn.
    assert fetched.total() <= 2 * UNITS, fetched


def test_a_thousand_opens_in_one_process_ask_the_server_for_each_unit_once(
    server: Nginx, tmp_path: Path
) -> None:
    image = overlay(server, tmp_path / "template.fvd")
    with fvd.open(image, trust=server.trust, cache_dir="") as first:
        assert first.pread(len(DATA), 0) == DATA
        for number in range(1000):
            with fvd.open(image, trust=server.trust, cache_dir="") as opened:
                offset = number * 4096 % len(DATA)
                assert opened.pread(4096, offset) == DATA[offset : offset + 4096]
    # Who made the image, without this choice of a cache, has asked for the first unit as well.
    assert fetched_units(server) == Counter([0, *range(UNITS)])


def test_a_killed_process_holds_up_no_other(server: Nginx, tmp_path: Path, cache: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    for number in range(5):
        image = overlay(server, tmp_path / f"{number}.fvd")
        process = reader(server, image, cache, go)
        time.sleep(0.05 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = overlay(server, tmp_path / "last.fvd")
    assert read_all(server, last, cache) == DATA
    assert all(check["damaged"] == 0 for check in fvd.Cache(cache).verify())


class Holding(BaseHTTPRequestHandler):
    """Serves DATA, and holds each request while the event of the server is set."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, HoldingServer)
        server.seen += 1
        while server.holds.is_set():
            time.sleep(0.01)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        body = DATA[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        end = int(first) + len(body) - 1
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(DATA)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class HoldingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Holding)
        self.holds = threading.Event()
        self.seen = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def overlay(self, path: Path) -> Path:
        fvd.create(path, backing_file=f"{self.url}base.raw", backing_format="raw", trust=[self.url])
        return path

    def reader(self, image: Path, cache: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-c", READER, image, self.url, cache, image]
        return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)

    def wait_for_request(self, before: int) -> None:
        deadline = time.monotonic() + 60
        while self.seen == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def holding() -> Iterator[HoldingServer]:
    server = HoldingServer()
    yield server
    server.holds.clear()
    server.shutdown()
    server.server_close()


def test_another_process_takes_over_from_a_killed_one(
    holding: HoldingServer, tmp_path: Path, cache: Path
) -> None:
    images = [holding.overlay(tmp_path / f"{number}.fvd") for number in range(3)]
    holding.holds.set()
    leader = holding.reader(images[0], cache)
    holding.wait_for_request(3)
    leader.kill()
    leader.communicate()
    holding.holds.clear()
    second = holding.reader(images[1], cache)
    assert second.communicate(timeout=120)[0].strip() == digest()
    # It had the locks of the dead one, so it has stored everything.
    before = holding.seen
    third = holding.reader(images[2], cache)
    assert third.communicate(timeout=120)[0].strip() == digest()
    assert holding.seen == before


def test_no_process_waits_for_ever_for_a_stopped_one(
    holding: HoldingServer, tmp_path: Path, cache: Path
) -> None:
    images = [holding.overlay(tmp_path / f"{number}.fvd") for number in range(2)]
    holding.holds.set()
    leader = holding.reader(images[0], cache)
    holding.wait_for_request(2)
    leader.send_signal(signal.SIGSTOP)
    holding.holds.clear()
    second = holding.reader(images[1], cache)
    try:
        assert second.communicate(timeout=120)[0].strip() == digest()
    finally:
        leader.send_signal(signal.SIGCONT)
    assert leader.communicate(timeout=120)[0].strip() == digest()


def stored_data(cache: Path) -> Path:
    (found,) = (cache / "v1").glob("*/data")
    return found


def test_damaged_data_is_fetched_again(server: Nginx, tmp_path: Path, cache: Path) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
        assert opened.pread(len(DATA), 0) == DATA
        wait_until_stored(cache)
    with stored_data(cache).open("r+b") as data:
        data.seek(UNIT + 17)
        byte = data.read(1)
        data.seek(UNIT + 17)
        data.write(bytes([byte[0] ^ 1]))
    before = len(server.requests())
    go = tmp_path / "go"
    go.touch()
    process = reader(server, image, cache, go)
    assert process.communicate(timeout=60)[0].strip() == digest()
    assert fetched_units(server, before) == Counter([1])


def test_verify_finds_damage_and_removes_it(server: Nginx, tmp_path: Path, cache: Path) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
        opened.pread(len(DATA), 0)
        wait_until_stored(cache)
    os.truncate(stored_data(cache), len(DATA) - 1)
    (check,) = fvd.Cache(cache).verify()
    assert (check["checked"], check["damaged"]) == (UNITS, 1)
    (check,) = fvd.Cache(cache).verify()
    assert (check["checked"], check["damaged"]) == (UNITS - 1, 0)


def test_another_object_under_the_same_name_has_its_own_place(
    server: Nginx, tmp_path: Path, cache: Path
) -> None:
    first = overlay(server, tmp_path / "1.fvd")
    assert read_all(server, first, cache) == DATA
    other = os.urandom(len(DATA) + 512)
    server.put("base.raw", other)
    second = overlay(server, tmp_path / "2.fvd")
    with fvd.open(second, trust=server.trust, cache_dir=cache) as image:
        assert image.pread(len(other), 0) == other
    assert len(fvd.Cache(cache).objects()) == 2


def test_a_cache_that_others_can_write_to_is_refused(server: Nginx, tmp_path: Path, cache: Path) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(fvd.NotPermittedError, match="write to the cache"):
        fvd.open(image, trust=server.trust, cache_dir=cache)
    cache.chmod(0o755)
    os.chown(cache, 65534, 65534)
    with pytest.raises(fvd.NotPermittedError, match="belongs to user 65534"):
        fvd.open(image, trust=server.trust, cache_dir=cache)


def test_the_cache_is_for_its_owner_alone(server: Nginx, tmp_path: Path, cache: Path) -> None:
    read_all(server, overlay(server, tmp_path / "vm.fvd"), cache)
    made = [cache, *cache.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in made} == {0}


def test_a_full_disk_costs_nothing_but_the_cache(server: Nginx, tmp_path: Path) -> None:
    device, place = tmp_path / "device", tmp_path / "mounted"
    place.mkdir()
    with device.open("wb") as file:
        file.truncate(2 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", device], check=True)
    subprocess.run(["mount", "-o", "loop", device, place], check=True)
    try:
        place.chmod(0o700)
        image = overlay(server, tmp_path / "vm.fvd")
        for _ in range(2):
            # Processes of their own: this one would keep the file system in use.
            process = reader(server, image, place, image)
            assert process.communicate(timeout=120)[0].strip() == digest()
    finally:
        unmount(place)


def test_a_forked_child_uses_the_cache_for_itself(server: Nginx, tmp_path: Path, cache: Path) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    script = (
        "import os, sys, fvd\n"
        "path, trust, cache = sys.argv[1:]\n"
        "with fvd.open(path, trust=[trust], cache_dir=cache) as image:\n"
        "    data = image.pread(image.size, 0)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        with fvd.open(path, trust=[trust], cache_dir=cache) as own:\n"
        "            os._exit(own.pread(own.size, 0) != data)\n"
        "    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "    sys.exit(status or image.pread(image.size, 0) != data)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, image, server.url(""), cache]
    done = subprocess.run([str(part) for part in command], timeout=120, check=False)
    assert done.returncode == 0


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "fvd", "cache", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_lists_checks_and_prunes(server: Nginx, tmp_path: Path, cache: Path) -> None:
    image = overlay(server, tmp_path / "vm.fvd")
    with fvd.open(image, trust=server.trust, cache_dir=cache) as opened:
        opened.pread(len(DATA), 0)
        wait_until_stored(cache)
        listed = run("list", cache)
        assert server.url("base.raw") in listed.stdout, listed
        assert "yes" in listed.stdout
        assert all(len(line) <= 80 for line in listed.stdout.splitlines())
    assert run("verify", cache).returncode == 0
    assert run("prune", "--size", "1M", cache).returncode == 0
    (left,) = fvd.Cache(cache).objects()
    assert 0 < left["used"] <= MIB
    assert run("prune", "--all", cache).returncode == 0
    assert fvd.Cache(cache).objects() == []
    assert read_all(server, image, cache) == DATA


def test_the_size_in_the_configuration_limits_the_cache(server: Nginx, tmp_path: Path, cache: Path) -> None:
    configuration = tmp_path / "remote.toml"
    configuration.write_text(f'[cache]\ndir = "{cache}"\nsize = "1M"\n')
    image = overlay(server, tmp_path / "vm.fvd")
    script = (
        "import sys, fvd\n"
        "with fvd.open(sys.argv[1], trust=[sys.argv[2]]) as image:\n"
        "    data = image.pread(image.size, 0)\n"
        "sys.stdout.buffer.write(data)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(image), server.url("")]
    environ = {**os.environ, "FVD_REMOTE_CONFIG": str(configuration)}
    assert subprocess.run(command, capture_output=True, check=True, env=environ).stdout == DATA
    (found,) = fvd.Cache(cache).objects()
    assert 0 < found["used"] <= 1 * MIB + 2 * UNIT
