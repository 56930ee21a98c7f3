"""`fvd serve` with TLS."""

import signal
from pathlib import Path

from support import MIB, run

from .processes import refused, serving


def test_with_tls_only_clients_with_the_key_are_served(image: Path, tmp_path: Path, socket: Path) -> None:
    keys = tmp_path / "keys.psk"
    keys.write_text(f"alice:{'5a' * 32}\n")
    with serving("-k", socket, "-t", "--tls-psk", keys, image) as server:
        assert server.uri == f"nbds+unix:///?socket={socket}"
        known = f"nbds+unix://alice@/?socket={socket}&tls-psk-file={keys}"
        assert run("nbdinfo", "--size", known).stdout.decode().strip() == str(16 * MIB)
        plain = run("nbdinfo", "--size", f"nbd+unix:///?socket={socket}", ok=(1,))
        assert b"TLS" in plain.stderr
        server.end()


def certificates(folder: Path) -> None:
    """A certificate authority, and certificates that it signed for a server and a client, as QEMU requires
    them.
    """
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    authority = ("-CA", folder / "ca-cert.pem", "-CAkey", folder / "ca-key.pem")
    usage = "keyUsage=critical,digitalSignature,keyEncipherment"
    for role, more in [
        ("ca", ("-addext", "keyUsage=critical,keyCertSign")),
        ("server", (*authority, "-addext", usage, "-addext", "subjectAltName=DNS:localhost")),
        ("client", (*authority, "-addext", usage)),
    ]:
        leaf = () if role == "ca" else ("-addext", "basicConstraints=critical,CA:FALSE")
        files = ("-keyout", folder / f"{role}-key.pem", "-out", folder / f"{role}-cert.pem")
        run("openssl", *new, *files, "-subj", f"/CN={role}", *leaf, *more)


def test_only_certificates_with_an_allowed_subject_are_accepted(image: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "tls", tmp_path / "other"
    for made in (folder, other):
        made.mkdir()
    certificates(folder)
    subject = "/C=GB/O=Example, Ltd/CN=laptop"
    usage = "keyUsage=critical,digitalSignature,keyEncipherment"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "1", "-CA", folder / "ca-cert.pem", "-CAkey", folder / "ca-key.pem", "-addext", usage,
        "-addext", "basicConstraints=critical,CA:FALSE", "-subj", subject,
        "-keyout", other / "client-key.pem", "-out", other / "client-cert.pem",
    )  # fmt: skip
    (other / "ca-cert.pem").write_bytes((folder / "ca-cert.pem").read_bytes())
    allowed = r"CN=laptop,O=Example\, Ltd,C=GB"
    tls = ("--tls-creds", folder, "--tls-authz", "CN=another", "--tls-authz", allowed)
    with serving("-b", "localhost", "-p", "0", "-t", *tls, image) as server:
        port = server.uri.rstrip("/").rpartition(":")[2]
        uri = f"nbds://localhost:{port}/?tls-certificates="
        assert run("nbdinfo", "--size", f"{uri}{other}").stdout.decode().strip() == str(16 * MIB)
        run("nbdinfo", "--size", f"{uri}{folder}", ok=(1,))
        server.process.send_signal(signal.SIGTERM)
        _, said = server.process.communicate(timeout=30)
        assert said == b"fvd: the client with the certificate of 'CN=client' is not let in\n"
    assert "not the id of an object" in refused("--tls-creds", folder, "--tls-authz", "authz0", image)
    assert "goes by certificates" in refused("--tls-authz", "CN=a", image)


def test_only_certificates_of_the_authority_are_accepted(image: Path, tmp_path: Path) -> None:
    folder, strangers = tmp_path / "tls", tmp_path / "strangers"
    for made in (folder, strangers):
        made.mkdir()
        certificates(made)
    # These clients know the server's authority, but their certificates are signed by another one.
    (strangers / "ca-cert.pem").write_bytes((folder / "ca-cert.pem").read_bytes())
    tls = ("--tls-creds", folder, "--tls-verify-peer")
    with serving("-b", "localhost", "-p", "0", "-t", *tls, image) as server:
        port = server.uri.rstrip("/").rpartition(":")[2]
        uri = f"nbds://localhost:{port}/?tls-certificates="
        assert run("nbdinfo", "--size", f"{uri}{folder}").stdout.decode().strip() == str(16 * MIB)
        run("nbdinfo", "--size", f"{uri}{strangers}", ok=(1,))
        credentials = f"tls-creds-x509,id=tls,endpoint=client,dir={folder}"
        disk = f"driver=nbd,host=localhost,port={port},tls-creds=tls"
        words = ("-c", "write -P 7 0 64k", "-c", "read -P 7 0 64k")
        run("qemu-io", "--object", credentials, "--image-opts", *words, disk)
        server.process.send_signal(signal.SIGTERM)
        _, said = server.process.communicate(timeout=30)
        assert server.process.returncode == 0
        assert b"fvd: TLS did not start: " in said
