"""Bases in object stores: each scheme through servers of other projects."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support import MIB
from support.stores import BUCKET, GoogleStore, Store, fake_gcs, moto, rclone

DISK = random.Random(1).randbytes(3 * MIB)
OTHER = random.Random(2).randbytes(3 * MIB)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with moto(tmp_path_factory.mktemp("moto") / "log") as store:
        yield store


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStore]:
    with fake_gcs(tmp_path_factory.mktemp("gcs") / "log") as store:
        yield store


def fvd_with(
    variables: Mapping[str, str], *arguments: str | Path, ok: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs `fvd` in an environment that has these variables and none that its user may have."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))}
    environ = {**own, "FVD_CONFIG": "", "FVD_TRUST": "s3://images:gs://images", **variables}
    command = [sys.executable, "-m", "fvd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=120)
    assert done.returncode == ok, done.stderr
    return done


def disk_of(variables: Mapping[str, str], source: str | Path, folder: Path) -> bytes:
    """The content of an image or an object, by `fvd convert`."""
    target = folder / "copy.raw"
    target.unlink(missing_ok=True)
    format = "raw" if isinstance(source, str) else "fvd"
    fvd_with(variables, "convert", "-f", format, "-O", "raw", source, target)
    return target.read_bytes()


def test_a_base_in_s3_stays_the_version_that_it_was(s3: Store, tmp_path: Path) -> None:
    version = s3.put("disk.raw", DISK)
    image = tmp_path / "vm.fvd"
    fvd_with(s3.variables, "create", "-q", "-b", f"s3://{BUCKET}/disk.raw", "-F", "raw", image)
    assert version in fvd_with(s3.variables, "info", image).stdout
    s3.put("disk.raw", OTHER)
    assert disk_of(s3.variables, image, tmp_path) == DISK
    assert disk_of(s3.variables, f"s3://{BUCKET}/disk.raw", tmp_path) == OTHER
    assert disk_of(s3.variables, f"s3://{BUCKET}/disk.raw?versionId={version}", tmp_path) == DISK


def test_a_version_in_s3_that_is_gone_fails_the_read(s3: Store, tmp_path: Path) -> None:
    version = s3.put("gone.raw", DISK)
    image = tmp_path / "vm.fvd"
    fvd_with(s3.variables, "create", "-q", "-b", f"s3://{BUCKET}/gone.raw", "-F", "raw", image)
    s3.put("gone.raw", OTHER)
    s3.client.delete_object(Bucket=BUCKET, Key="gone.raw", VersionId=version)
    said = fvd_with(s3.variables, "convert", "-O", "raw", image, tmp_path / "copy.raw", ok=1).stderr
    assert (
        f"gone.raw' cannot be opened: Another object is there: expected {len(DISK)} bytes, version {version}"
        in said
    )
    assert not (tmp_path / "copy.raw").exists()


def test_a_wrong_secret_is_refused_and_not_shown(s3: Store, tmp_path: Path) -> None:
    s3.put("disk.raw", DISK)
    wrong = {**s3.variables, "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}
    said = fvd_with(wrong, "info", "-f", "raw", f"s3://{BUCKET}/disk.raw", ok=1).stderr
    assert "403" in said
    assert "hunter2" not in said


def test_a_machine_gets_its_credentials_from_its_cloud(tmp_path: Path) -> None:
    with moto(tmp_path / "log", is_signed=False) as store:
        store.put("disk.raw", DISK)
        variables = {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_METADATA_ENDPOINT": store.endpoint,
            "AWS_REGION": "us-east-1",
        }
        assert disk_of(variables, f"s3://{BUCKET}/disk.raw", tmp_path) == DISK
        assert "PUT /latest/api/token" in (tmp_path / "log").read_text()


def test_a_store_without_versions_is_read_and_a_replaced_object_refused(tmp_path: Path) -> None:
    with rclone(tmp_path / "log", tmp_path / "served") as store:
        store.put("disk.raw", DISK)
        image = tmp_path / "vm.fvd"
        fvd_with(store.variables, "create", "-q", "-b", f"s3://{BUCKET}/disk.raw", "-F", "raw", image)
        assert disk_of(store.variables, image, tmp_path) == DISK
        store.put("disk.raw", OTHER)
        said = fvd_with(store.variables, "convert", "-O", "raw", image, tmp_path / "other.raw", ok=1).stderr
        assert "disk.raw" in said
        assert not (tmp_path / "other.raw").exists()


def test_a_base_in_google_s_store_stays_the_generation_that_it_was(gcs: GoogleStore, tmp_path: Path) -> None:
    generation = gcs.put("folder/disk.raw", DISK)
    image = tmp_path / "vm.fvd"
    fvd_with(gcs.variables, "create", "-q", "-b", f"gs://{BUCKET}/folder/disk.raw", "-F", "raw", image)
    assert generation in fvd_with(gcs.variables, "info", image).stdout
    assert disk_of(gcs.variables, image, tmp_path) == DISK


def test_an_object_of_google_s_that_was_replaced_fails_the_read(gcs: GoogleStore, tmp_path: Path) -> None:
    gcs.put("replaced.raw", DISK)
    image = tmp_path / "vm.fvd"
    fvd_with(gcs.variables, "create", "-q", "-b", f"gs://{BUCKET}/replaced.raw", "-F", "raw", image)
    gcs.put("replaced.raw", OTHER)
    said = fvd_with(gcs.variables, "convert", "-O", "raw", image, tmp_path / "copy.raw", ok=1).stderr
    assert "replaced.raw" in said
    assert not (tmp_path / "copy.raw").exists()
