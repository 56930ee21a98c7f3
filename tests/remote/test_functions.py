"""Credentials and URLs from functions of the program: `fvd.Remote`."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fvd.aio
from support import MIB
from support.fault_server import FaultServer, serving, until
from support.forks import run_forking
from support.stores import BUCKET, Store, moto

SECRET = "hunter2-hunter2"
DATA = os.urandom(8 * MIB)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A server that wants a token."""
    with serving() as server:
        server.put("base.raw", DATA)
        server.needs = f"Bearer {SECRET}-1"
        yield server


class Tokens:
    """Gives one token after the other."""

    def __init__(self, lasting: float | None = None) -> None:
        self.given = 0
        self.lasting = lasting

    def __call__(self) -> Any:
        self.given += 1
        token = f"{SECRET}-{self.given}"
        return {"token": token, "Expiration": self.lasting and time.time() + self.lasting}


def overlay(server: FaultServer, path: Path) -> Path:
    remote = fvd.Remote(headers={server.host: lambda: {"Authorization": str(server.needs)}})
    base = server.url("base.raw")
    fvd.create(path, backing_file=base, backing_format="raw", trust=server.trust, remote=remote)
    return path


def test_every_function_of_the_package_takes_them(server: FaultServer, tmp_path: Path) -> None:
    path, trust = overlay(server, tmp_path / "vm.fvd"), server.trust
    url = server.url("base.raw")

    def headers() -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}-1"}

    remotes = [
        fvd.Remote(headers={server.host: headers}),
        fvd.Remote(credentials={server.host: lambda: {"headers": headers()}}),
        fvd.Remote(credentials={server.host: lambda: {"token": f"{SECRET}-1", "Expiration": None}}),
    ]
    for remote in remotes:
        with fvd.open(path, trust=trust, remote=remote) as disk:
            assert disk.pread(10, 5 * MIB) == DATA[5 * MIB :][:10]

        async def read(remote: fvd.Remote = remote) -> bytes:
            async with fvd.aio.open(path, trust=trust, remote=remote) as disk:
                return await disk.pread(10, 0)

        assert asyncio.run(read()) == DATA[:10]
        fvd.convert(url, tmp_path / "out.raw", source_format="raw", remote=remote)
        assert (tmp_path / "out.raw").read_bytes() == DATA
        assert fvd.compare(path, tmp_path / "out.raw", b_format="raw", trust=trust, remote=remote)[
            "identical"
        ]
        assert len(fvd.info(path, backing_chain=True, trust=trust, remote=remote)) == 2
        assert next(fvd.map(path, trust=trust, remote=remote))["depth"] == 1
        fvd.amend(path, backing_pin="update", trust=trust, remote=remote)
        with fvd.serve(path, socket=tmp_path / "s", trust=trust, remote=remote, read_only=True) as nbd:
            assert fvd.compare(nbd.uri, tmp_path / "out.raw", a_format="raw", b_format="raw")["identical"]
    with pytest.raises(fvd.IoError):
        fvd.open(path, trust=trust)


def test_one_call_renews_a_refused_token_for_all_readers(server: FaultServer, tmp_path: Path) -> None:
    path, tokens = overlay(server, tmp_path / "vm.fvd"), Tokens()
    with fvd.open(path, trust=server.trust, remote=fvd.Remote(credentials={server.host: tokens})) as disk:
        assert disk.pread(10, 0) == DATA[:10]
        server.needs = f"Bearer {SECRET}-2"
        found: list[bytes] = []

        def read(number: int) -> None:
            found.append(disk.pread(10, (2 + number) * MIB))

        readers = [threading.Thread(target=read, args=[number]) for number in range(5)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert sorted(found) == sorted(DATA[(2 + number) * MIB :][:10] for number in range(5))
    assert tokens.given == 2


def test_a_token_is_renewed_before_it_expires(server: FaultServer, tmp_path: Path) -> None:
    path, tokens = overlay(server, tmp_path / "vm.fvd"), Tokens(lasting=0.2)
    remote = fvd.Remote(credentials={server.host: tokens})
    refused = fvd.remote_status()["refreshes"]
    with fvd.open(path, trust=server.trust, remote=remote) as disk:
        assert disk.pread(10, 0) == DATA[:10]
        server.needs = None
        end = time.time() + 0.2
        until(lambda: time.time() > end)
        assert disk.pread(10, 5 * MIB) == DATA[5 * MIB :][:10]
    assert tokens.given >= 2
    assert fvd.remote_status()["refreshes"] == refused


def test_a_presigned_url_is_read_and_never_shown(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.needs = None
    name = "https://images.invalid/private/disk.raw"
    asked: list[str] = []

    def sign(asked_for: str) -> str:
        asked.append(asked_for)
        return server.url(f"base.raw?X-Amz-Signature={SECRET}-{len(asked)}")

    caplog.set_level("DEBUG")
    fvd.enable_logging("DEBUG")
    try:
        remote = fvd.Remote(url={"https://images.invalid/private": sign})
        path, trust = tmp_path / "vm.fvd", ["https://images.invalid/private"]
        fvd.create(path, backing_file=name, backing_format="raw", trust=trust, remote=remote)
        assert fvd.info(path)["backing-filename"] == name
        assert SECRET.encode() not in path.read_bytes()
        with fvd.open(path, trust=trust, remote=remote) as disk:
            assert disk.pread(10, 5 * MIB) == DATA[5 * MIB :][:10]
        assert asked == [name]
        assert any(f"X-Amz-Signature={SECRET}-1" in head for head in server.heads)
        server.fail("401")
        remote = fvd.Remote(url={"https://images.invalid/private": sign})
        with (
            pytest.raises(fvd.IoError) as failed,
            fvd.open(path, trust=trust, remote=remote, base_timeout=0.3) as disk,
        ):
            disk.pread(10, 5 * MIB)
        assert len(asked) >= 3
        shown = f"{failed.value!r} {remote!r} {fvd.remote_status()} {caplog.text}"
        assert SECRET not in shown
    finally:
        fvd.enable_logging(None)
        logging.getLogger("fvd").setLevel(logging.NOTSET)


def nothing() -> Any:
    return None


def raising() -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    ("kind", "function", "text"),
    [
        ("headers", nothing, "returned NoneType, and not a mapping"),
        ("headers", raising, "raised RuntimeError"),
        ("headers", lambda: {"Authorization": 5}, "returned str and int"),
        ("headers", lambda: {"Authorization": SECRET + "\n"}, "cannot be sent"),
        ("credentials", lambda: {"token": 5}, "'token' that is int"),
        ("credentials", dict, "neither 'headers' nor a 'token'"),
        ("credentials", lambda: {"token": SECRET, "Expiration": "soon"}, "'Expiration' that is no time"),
        ("credentials", lambda: {"headers": SECRET}, "'headers' that are str"),
        ("url", lambda name: SECRET, "none of http or https"),
        ("url", lambda name: {"X": SECRET}, "returned no 'url'"),
        ("url", lambda name: [SECRET], "returned list"),
    ],
)
def test_a_function_that_fails_is_an_error_that_says_why(
    server: FaultServer, kind: str, function: Callable[..., object], text: str
) -> None:
    remote = fvd.Remote(**{kind: {server.host: function}})  # type: ignore[arg-type]
    with pytest.raises(fvd.FvdError, match=text) as failed:
        next(fvd.map(server.url("base.raw"), format="raw", remote=remote))
    assert SECRET not in str(failed.value)
    assert (remote.failure is not None) == (function is raising)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "no 'AccessKeyId'"),
        ({"AccessKeyId": "a"}, "no 'SecretAccessKey'"),
        ({"AccessKeyId": "a", "SecretAccessKey": 5}, "str and int"),
    ],
)
def test_keys_that_are_none_are_an_error(given: Any, text: str, tmp_path: Path) -> None:
    remote = fvd.Remote(credentials={"s3://images": lambda: given})
    with pytest.raises(fvd.FvdError, match=text):
        fvd.convert("s3://images/disk", tmp_path / "x", source_format="raw", remote=remote)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[Store], None]:
    """Makes the environment name a store, and no keys."""

    def use(store: Store) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)

    return use


def test_keys_sign_requests_to_a_store(tmp_path: Path, endpoint: Callable[[Store], None]) -> None:
    name, out = f"s3://{BUCKET}/disk.raw", tmp_path / "out.raw"
    with moto(tmp_path / "log") as store:
        store.put("disk.raw", DATA)
        endpoint(store)
        key, secret = (store.variables[f"AWS_{part}"] for part in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        right = fvd.Remote(credentials={name: lambda: {"AccessKeyId": key, "SecretAccessKey": secret}})
        fvd.convert(name, out, source_format="raw", remote=right)
        assert out.read_bytes() == DATA
        wrong = fvd.Remote(credentials={"s3://": lambda: {"AccessKeyId": key, "SecretAccessKey": SECRET}})
        with pytest.raises(fvd.FvdError, match="403") as failed:
            fvd.convert(name, out, source_format="raw", remote=wrong)
        assert SECRET not in str(failed.value)


def test_urls_that_boto3_has_signed_are_read(tmp_path: Path, endpoint: Callable[[Store], None]) -> None:
    with moto(tmp_path / "log", is_signed=False) as store:
        store.put("disk.raw", DATA)
        endpoint(store)

        def presign(name: str) -> str:
            wanted = {"Bucket": BUCKET, "Key": name.removeprefix(f"s3://{BUCKET}/")}
            return str(store.client.generate_presigned_url("get_object", Params=wanted))

        remote = fvd.Remote(url={f"s3://{BUCKET}": presign})
        fvd.convert(f"s3://{BUCKET}/disk.raw", tmp_path / "out", source_format="raw", remote=remote)
        assert (tmp_path / "out").read_bytes() == DATA


def test_what_is_no_function_is_refused() -> None:
    async def coroutine() -> dict[str, str]:
        return {}

    for function in (None, 5, coroutine):
        with pytest.raises(TypeError, match="a function is needed"):
            fvd.Remote(headers={"https://x.org": function})  # type: ignore[dict-item]
    for prefix in ("images", "https://u:p@x.org", "https://x.org?sig=1"):
        with pytest.raises(ValueError, match="a prefix is a URL"):
            fvd.Remote(headers={prefix: lambda: {}})
    with pytest.raises(TypeError, match=r"an fvd\.Remote or None, not str"):
        fvd.open("x", remote="https://x.org")  # type: ignore[arg-type]


def test_a_function_may_use_the_package(server: FaultServer, tmp_path: Path) -> None:
    fvd.create(tmp_path / "keys.fvd", MIB)

    def token() -> Any:
        with fvd.open(tmp_path / "keys.fvd") as image:
            image.pread(10, 0)
        return {"token": f"{SECRET}-1"}

    remote = fvd.Remote(credentials={server.host: token})
    assert next(fvd.map(server.url("base.raw"), format="raw", remote=remote))["length"] == len(DATA)


def test_a_function_is_released_with_its_remote(server: FaultServer) -> None:
    import gc
    import weakref

    tokens = Tokens()
    known = weakref.ref(tokens)
    remote = fvd.Remote(credentials={server.host: tokens})
    next(fvd.map(server.url("base.raw"), format="raw", remote=remote))
    del remote, tokens
    end = time.monotonic() + 60
    while known() is not None:
        gc.collect()
        assert time.monotonic() < end, "the function is still held"
        time.sleep(0.01)


def test_a_forked_child_calls_the_functions_itself(server: FaultServer, tmp_path: Path) -> None:
    path = overlay(server, tmp_path / "vm.fvd")
    script = f"""
        callers = []

        def token():
            callers.append(os.getpid())
            return {{"token": "{SECRET}-1"}}

        remote = fvd.Remote(credentials={{"{server.host}": token}})
        disk = fvd.open(path, trust=["{server.url("")}"], remote=remote)
        assert disk.pread(1, 0)
        child = fork()
        if child == 0:
            refused(disk.pread, 1, 4 << 20)
            with fvd.open(path, trust=["{server.url("")}"], remote=remote) as own:
                assert own.pread(1, 4 << 20)
            assert callers[-1] == os.getpid()
            sys.exit(5)
        assert status(child) == 5
        assert disk.pread(1, 4 << 20)
        assert callers == [os.getpid()]
    """
    run_forking(script, path)


def test_the_interpreter_exits_while_a_function_hangs(server: FaultServer, tmp_path: Path) -> None:
    path = overlay(server, tmp_path / "vm.fvd")
    script = f"""
        began = threading.Event()

        def token():
            began.set()
            time.sleep(600)

        def read():
            try:
                fvd.open(path, trust=["{server.url("")}"], remote=remote)
            except fvd.FvdError:
                pass

        remote = fvd.Remote(credentials={{"{server.host}": token}})
        threading.Thread(target=read, daemon=True).start()
        began.wait()
    """
    run_forking(script, path)
