"""`fvd publish` into object stores: parts, kills, refusals."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import MIB
from support.fault_server import until
from support.relay import Relay, Verdict, relaying
from support.stores import BUCKET, Store, moto, rclone

DISK = random.Random(1).randbytes(30 * MIB)
OTHER = random.Random(2).randbytes(30 * MIB)
PARTS = 4
"""Of 8 MiB each, the last one shorter."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with moto(tmp_path_factory.mktemp("moto") / "log") as store:
        yield store


@pytest.fixture
def relay(s3: Store) -> Iterator[Relay]:
    with relaying(urlsplit(s3.endpoint).port or 0) as relay:
        yield relay


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(DISK)
    return path


def environment(variables: Mapping[str, str], state: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))}
    own |= {"FVD_CONFIG": "", "FVD_TRUST": "s3://images:gs://images", "XDG_STATE_HOME": str(state)}
    return {**own, **variables}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fvd", *map(str, arguments)]


def fvd_with(
    environ: Mapping[str, str], *arguments: str | Path, ok: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, env=environ, timeout=300
    )
    assert done.returncode == ok, (done.stdout, done.stderr)
    return done


def disk_of(environ: Mapping[str, str], image: Path) -> bytes:
    target = image.with_suffix(".copy")
    target.unlink(missing_ok=True)
    fvd_with(environ, "convert", "-f", "fvd", "-O", "raw", image, target)
    return target.read_bytes()


def parts_of(seen: list[tuple[str, str]]) -> list[int]:
    numbers = (re.search(r"partNumber=(\d+)", path) for method, path in seen if method == "PUT")
    return [int(found[1]) for found in numbers if found]


def test_a_template_in_s3_is_uploaded_in_parts_and_used(s3: Store, source: Path, tmp_path: Path) -> None:
    environ = environment(s3.variables, tmp_path / "state")
    url = f"s3://{BUCKET}/templates/a%20b.raw"
    said = fvd_with(environ, "publish", source, url).stdout
    assert "Published" in said
    keys = {entry["Key"] for entry in s3.client.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert {"templates/a b.raw", "templates/a b.raw.fvd-manifest"} <= keys
    image = tmp_path / "vm.fvd"
    fvd_with(environ, "create", "-q", "-b", url, "-F", "raw", image)
    assert "validator: manifest" in fvd_with(environ, "info", image).stdout
    assert disk_of(environ, image) == DISK
    assert "published already" in fvd_with(environ, "publish", source, url).stdout
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_an_upload_that_was_killed_goes_on_with_the_parts_that_are_missing(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    url = f"s3://{BUCKET}/killed.raw"
    state = tmp_path / "state"
    # Two parts arrive, the others hang.
    relay.decide = lambda method, path: "hold" if "partNumber" in path and path_part(path) > 2 else "pass"
    with subprocess.Popen(command("publish", source, url), env=environ) as process:
        until(lambda: any(_parts(file) == 2 for file in state.rglob("*.json")))
        process.send_signal(signal.SIGKILL)
    texts = [file.read_text() for file in state.rglob("*.json")]
    assert len(texts) == 1
    assert not any(secret in texts[0] for secret in s3.variables.values()), "the state has credentials in it"
    assert (next(state.rglob("*.json")).stat().st_mode & 0o777) == 0o600
    seen = len(relay.seen)
    relay.decide = lambda method, path: "pass"
    relay.released.set()
    fvd_with(environ, "publish", "-q", source, url)
    assert sorted(parts_of(relay.seen[seen:])) == [3, 4]
    image = tmp_path / "vm.fvd"
    fvd_with(environ, "create", "-q", "-b", url, "-F", "raw", image)
    assert disk_of(environ, image) == DISK
    assert list(state.rglob("*.json")) == []


def path_part(path: str) -> int:
    found = re.search(r"partNumber=(\d+)", path)
    return int(found[1]) if found else 0


def _parts(file: Path) -> int:
    try:
        return len(json.loads(file.read_text())["parts"])
    except (OSError, ValueError):
        return 0


def test_an_upload_that_the_store_has_forgotten_begins_again(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    url = f"s3://{BUCKET}/forgotten.raw"
    relay.decide = lambda method, path: "hold" if path_part(path) > 2 else "pass"
    with subprocess.Popen(command("publish", source, url), env=environ) as process:
        until(lambda: any(_parts(file) == 2 for file in (tmp_path / "state").rglob("*.json")))
        process.send_signal(signal.SIGKILL)
    (file,) = (tmp_path / "state").rglob("*.json")
    forgotten = json.loads(file.read_text())["upload"]
    relay.decide = lambda method, path: "404" if forgotten in path else "pass"
    relay.released.set()
    fvd_with(environ, "publish", "-q", source, url)
    assert s3.client.get_object(Bucket=BUCKET, Key="forgotten.raw")["Body"].read() == DISK


def killed(environ: Mapping[str, str], source: Path, url: str, is_time: Callable[[], bool]) -> None:
    """Publishes, and kills that when it is time."""
    with subprocess.Popen(command("publish", source, url), env=environ) as process:
        until(is_time)
        process.send_signal(signal.SIGKILL)


def release(relay: Relay) -> None:
    relay.decide = lambda method, path: "pass"
    relay.released.set()


def is_manifest_sent(relay: Relay) -> bool:
    return any(method == "PUT" and "fvd-manifest" in path for method, path in relay.seen)


def hold_manifests(method: str, path: str) -> Verdict:
    return "hold" if method == "PUT" and "fvd-manifest" in path else "pass"


def content(s3: Store, key: str) -> bytes:
    body: bytes = s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def test_a_small_disk_goes_on_after_a_kill_between_object_and_manifest(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    source.write_bytes(DISK[: 3 * MIB + 5])
    url = f"s3://{BUCKET}/small-killed.raw"
    relay.decide = hold_manifests
    killed(environ, source, url, lambda: is_manifest_sent(relay))
    release(relay)
    fvd_with(environ, "publish", "-q", source, url)
    image = tmp_path / "vm.fvd"
    fvd_with(environ, "create", "-q", "-b", url, "-F", "raw", image)
    assert disk_of(environ, image)[: 3 * MIB + 5] == DISK[: 3 * MIB + 5]
    s3.put("small-other.raw", OTHER[: 3 * MIB + 5])
    said = fvd_with(environ, "publish", source, f"s3://{BUCKET}/small-other.raw", ok=1).stderr
    assert "no template" in said


def test_an_upload_that_goes_on_does_not_replace_another_template(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    url = f"s3://{BUCKET}/two-publishers.raw"
    relay.decide = lambda method, path: "hold" if path_part(path) > 2 else "pass"
    killed(environ, source, url, lambda: any(_parts(file) == 2 for file in tmp_path.rglob("state/**/*.json")))
    release(relay)
    other = tmp_path / "other.raw"
    other.write_bytes(OTHER)
    fvd_with(environment(s3.variables, tmp_path / "elsewhere"), "publish", "-q", other, url)
    assert "--force" in fvd_with(environ, "publish", source, url, ok=1).stderr
    assert content(s3, "two-publishers.raw") == OTHER


def test_an_object_that_was_replaced_before_its_manifest_came_is_written_again(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    url = f"s3://{BUCKET}/whole.raw"
    relay.decide = hold_manifests
    killed(environ, source, url, lambda: is_manifest_sent(relay))
    release(relay)
    other = tmp_path / "other.raw"
    other.write_bytes(OTHER)
    fvd_with(environment(s3.variables, tmp_path / "elsewhere"), "publish", "-q", "--force", other, url)
    fvd_with(environ, "publish", "-q", "--force", source, url)
    assert content(s3, "whole.raw") == DISK


@pytest.mark.parametrize("size", [3 * MIB, 30 * MIB])
def test_what_a_store_does_not_show_is_not_replaced(
    s3: Store, relay: Relay, source: Path, tmp_path: Path, size: int
) -> None:
    # Without the permission to list a bucket, S3 answers 403 for what is not there, too.
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    relay.decide = lambda method, path: "403" if method in ("GET", "HEAD") else "pass"
    source.write_bytes(DISK[:size])
    s3.put(f"hidden-{size}.raw", b"something else")
    said = fvd_with(environ, "publish", source, f"s3://{BUCKET}/hidden-{size}.raw", ok=1).stderr
    assert "--force" in said
    assert content(s3, f"hidden-{size}.raw") == b"something else"
    fvd_with(environ, "publish", "-q", source, f"s3://{BUCKET}/new-{size}.raw")
    assert content(s3, f"new-{size}.raw") == DISK[:size]
    fvd_with(environ, "publish", "-q", "--force", source, f"s3://{BUCKET}/hidden-{size}.raw")
    assert content(s3, f"hidden-{size}.raw") == DISK[:size]


def test_a_store_that_is_busy_gets_the_parts_again(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    failed: set[str] = set()

    def decide(method: str, path: str) -> str:
        if method == "PUT" and path not in failed:
            failed.add(path)
            return "503" if len(failed) % 2 else "cut"
        return "pass"

    relay.decide = decide  # type: ignore[assignment]
    fvd_with(environ, "publish", "-q", source, f"s3://{BUCKET}/busy.raw")
    assert len(failed) == PARTS + 1, "each part, and the manifest"
    assert s3.client.get_object(Bucket=BUCKET, Key="busy.raw")["Body"].read() == DISK


def test_nothing_is_a_template_before_all_of_it_is_there(
    s3: Store, relay: Relay, source: Path, tmp_path: Path
) -> None:
    environ = environment({**s3.variables, "AWS_ENDPOINT_URL": relay.endpoint}, tmp_path / "state")
    fvd_with(environ, "publish", "-q", source, f"s3://{BUCKET}/last.raw")
    writes = [path for method, path in relay.seen if method in ("PUT", "POST")]
    assert "last.raw.fvd-manifest" in writes[-1]
    assert sum("fvd-manifest" in path for path in writes) == 1


def test_another_template_is_replaced_by_force_alone(s3: Store, source: Path, tmp_path: Path) -> None:
    environ = environment(s3.variables, tmp_path / "state")
    url = f"s3://{BUCKET}/replaced.raw"
    fvd_with(environ, "publish", "-q", source, url)
    source.write_bytes(OTHER)
    assert "--force" in fvd_with(environ, "publish", source, url, ok=1).stderr
    fvd_with(environ, "publish", "-q", "--force", source, url)
    assert s3.client.get_object(Bucket=BUCKET, Key="replaced.raw")["Body"].read() == OTHER
    s3.put("plain.raw", b"something else")
    assert "no template" in fvd_with(environ, "publish", source, f"s3://{BUCKET}/plain.raw", ok=1).stderr


def test_wrong_credentials_are_refused_and_not_shown(s3: Store, source: Path, tmp_path: Path) -> None:
    wrong = {**s3.variables, "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}
    environ = environment(wrong, tmp_path / "state")
    said = fvd_with(
        environ, "--log-level", "trace", "publish", source, f"s3://{BUCKET}/refused.raw", ok=1
    ).stderr
    assert "refuses to be written to" in said
    assert "hunter2" not in said
    assert s3.variables["AWS_ACCESS_KEY_ID"] not in said
    assert "Signature" not in said


def test_a_bucket_that_is_not_there_is_said(s3: Store, source: Path, tmp_path: Path) -> None:
    environ = environment(s3.variables, tmp_path / "state")
    said = fvd_with(environ, "publish", source, "s3://no-such-bucket/x.raw", ok=1).stderr
    assert "no such bucket" in said
    assert "s3://no-such-bucket/x.raw" in said


def test_a_profile_and_a_small_disk_go_to_the_store(s3: Store, tmp_path: Path) -> None:
    environ = environment(s3.variables, tmp_path / "state")
    small = tmp_path / "small.raw"
    small.write_bytes(DISK[:100_000])
    profile = tmp_path / "boot.profile"
    profile.write_text('{"fvd-profile": 1, "entries": [[4096, 4096]]}')
    fvd_with(environ, "publish", "-q", "--profile", profile, small, f"s3://{BUCKET}/folder/")
    image = tmp_path / "vm.fvd"
    said = fvd_with(environ, "create", "-b", f"s3://{BUCKET}/folder/small.raw", "-F", "raw", image).stdout
    assert "profile_directed_prefetch_start_delay=0" in said
    assert disk_of(environ, image)[:100_000] == DISK[:100_000]


def test_a_disk_goes_to_google_s_store_in_parts(source: Path, tmp_path: Path) -> None:
    # fake-gcs-server takes no uploads in parts. Google's are those of S3, so moto has to do. Without a
    # signature it lets objects be written, and not be read or removed.
    with moto(tmp_path / "log", is_signed=False) as store:
        variables = {"STORAGE_EMULATOR_HOST": store.endpoint, "GOOGLE_SKIP_SIGNATURE": "true"}
        writer = environment(variables, tmp_path / "state")
        fvd_with(writer, "publish", "-q", source, f"gs://{BUCKET}/debian.raw")
        assert "partNumber=4" in (tmp_path / "log").read_text()
        reader = environment(store.variables, tmp_path / "state")
        image = tmp_path / "vm.fvd"
        fvd_with(reader, "create", "-q", "-b", f"s3://{BUCKET}/debian.raw", "-F", "raw", image)
        assert "validator: manifest" in fvd_with(reader, "info", image).stdout
        assert disk_of(reader, image) == DISK
        source.write_bytes(OTHER)
        assert "--force" in fvd_with(writer, "publish", source, f"gs://{BUCKET}/debian.raw", ok=1).stderr


def test_a_store_that_answers_whole_objects_takes_a_template(source: Path, tmp_path: Path) -> None:
    with rclone(tmp_path / "log", tmp_path / "served") as store:
        environ = environment(store.variables, tmp_path / "state")
        url = f"s3://{BUCKET}/disk.raw"
        fvd_with(environ, "publish", "-q", source, url)
        image = tmp_path / "vm.fvd"
        fvd_with(environ, "create", "-q", "-b", url, "-F", "raw", image)
        assert disk_of(environ, image) == DISK
