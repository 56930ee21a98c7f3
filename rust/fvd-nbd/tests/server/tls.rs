//! TLS with existing clients, all of which use `GnuTLS`.

use std::fs;
use std::sync::Arc;

use fastrand::Rng;
use fvd_nbd::protocol::handshake::TlsPolicy;
use fvd_nbd::server::{Credentials, Limits, MemoryExport};

use crate::certificates::{self, Folder};
use crate::host::Host;
use crate::programs::{attempt, run};

const MIB: usize = 1 << 20;

struct Side {
    host: Host<MemoryExport>,
    export: Arc<MemoryExport>,
    folder: Folder,
}

impl Side {
    fn new(policy: TlsPolicy, credentials: impl FnOnce(&Folder) -> Credentials) -> Self {
        let folder = certificates::make();
        let export = Arc::new(MemoryExport::new("disk", 64 * MIB));
        let credentials = credentials(&folder);
        let host = Host::with(Limits::default(), [Arc::clone(&export)], |server| {
            server.with_tls(credentials, policy)
        });
        Self { host, export, folder }
    }

    fn with_certificates(policy: TlsPolicy) -> Self {
        Self::new(policy, |folder| {
            Credentials::x509(folder.path(), false).expect("certificates")
        })
    }

    fn with_keys(policy: TlsPolicy) -> Self {
        Self::new(policy, |folder| {
            Credentials::psk(&folder.path().join("keys.psk")).expect("keys")
        })
    }

    /// The URIs for a client with certificates, over TCP and Unix sockets.
    fn x509_uris(&self) -> [String; 2] {
        let (port, socket, folder) = (self.host.port, self.host.socket(), self.folder.name());
        [
            format!("nbds://localhost:{port}/disk?tls-certificates={folder}"),
            format!(
                "nbds+unix:///disk?socket={}&tls-certificates={folder}",
                socket.display()
            ),
        ]
    }

    fn psk_uris(&self, file: &str) -> [String; 2] {
        let (port, socket) = (self.host.port, self.host.socket());
        let file = format!("tls-psk-file={}/{file}", self.folder.name());
        [
            format!("nbds://alice@localhost:{port}/disk?{file}"),
            format!("nbds+unix://alice@/disk?socket={}&{file}", socket.display()),
        ]
    }

    /// The arguments for QEMU's tools.
    fn qemu(&self, credentials: &str) -> [String; 3] {
        let (port, folder) = (self.host.port, self.folder.name());
        [
            format!("--object={credentials},id=tls,endpoint=client,dir={folder}"),
            "--image-opts".into(),
            format!("driver=nbd,host=localhost,port={port},export=disk,tls-creds=tls"),
        ]
    }
}

fn info(uri: &str) -> Result<String, String> {
    attempt("nbdinfo", &[uri])
}

fn assert_copies(side: &Side, uri: &str) {
    let mut data = vec![0; 64 * MIB];
    let mut rng = Rng::with_seed(11);
    for piece in data.chunks_mut(300_000).step_by(3) {
        piece.fill_with(|| rng.u8(..));
    }
    let (from, to) = (side.folder.path().join("from"), side.folder.path().join("to"));
    fs::write(&from, &data).expect("a file");
    run("nbdcopy", &["--flush", from.to_str().expect("a plain name"), uri]);
    assert!(side.export.content() == data, "what was copied in");
    run("nbdcopy", &[uri, to.to_str().expect("a plain name")]);
    assert!(fs::read(to).expect("a file") == data, "what was copied out");
}

fn assert_qemu_works(side: &Side, credentials: &str) {
    let [object, options, image] = side.qemu(credentials);
    let commands = ["write -P 7 1M 40M", "read -P 7 1M 40M", "read -P 0 41M 1M", "flush"];
    let mut arguments = vec![object.as_str()];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.extend([options.as_str(), &image]);
    let printed = run("qemu-io", &arguments);
    assert!(!printed.contains("failed") && !printed.contains("error"), "{printed}");
    let shown = run("qemu-img", &["info", &object, &options, &image]);
    assert!(shown.contains("64 MiB"), "{shown}");
}

#[test]
fn clients_with_certificates_work_over_tcp_and_unix() {
    let side = Side::with_certificates(TlsPolicy::Required);
    for uri in side.x509_uris() {
        let printed = info(&uri).unwrap();
        assert!(printed.contains("protocol: newstyle-fixed with TLS"), "{printed}");
    }
    assert_qemu_works(&side, "tls-creds-x509");
    assert_copies(&side, &side.x509_uris()[0]);
    assert_eq!(side.host.stop(), [""; 0]);
}

#[test]
fn clients_with_keys_work_over_tcp_and_unix() {
    let side = Side::with_keys(TlsPolicy::Required);
    for uri in side.psk_uris("keys.psk") {
        let printed = info(&uri).unwrap();
        assert!(printed.contains("protocol: newstyle-fixed with TLS"), "{printed}");
    }
    assert_qemu_works(&side, "tls-creds-psk,username=alice");
    assert_copies(&side, &side.psk_uris("keys.psk")[1]);
    assert_eq!(side.host.stop(), [""; 0]);
}

#[test]
fn plain_text_is_refused_only_where_tls_is_required() {
    let required = Side::with_certificates(TlsPolicy::Required);
    let refused = info(&required.host.uri("disk")).unwrap_err();
    assert!(refused.contains("TLS"), "{refused}");
    let allowed = Side::with_certificates(TlsPolicy::Optional);
    let plain = info(&allowed.host.tcp_uri("disk")).unwrap();
    assert!(plain.contains("without TLS"), "{plain}");
    assert!(info(&allowed.x509_uris()[0]).unwrap().contains("with TLS"));
}

#[test]
fn a_server_without_tls_refuses_clients_that_require_it() {
    let folder = certificates::make();
    let host = Host::new(Limits::default(), [Arc::new(MemoryExport::new("disk", MIB))]);
    let uri = format!("nbds://localhost:{}/disk?tls-certificates={}", host.port, folder.name());
    assert!(info(&uri).is_err());
    assert!(info(&host.tcp_uri("disk")).is_ok());
    assert_eq!(host.stop(), [""; 0]);
}

#[test]
fn with_verify_peer_only_signed_clients_are_served() {
    let side = Side::new(TlsPolicy::Required, |folder| {
        Credentials::x509(folder.path(), true).unwrap()
    });
    for uri in side.x509_uris() {
        assert!(info(&uri).unwrap().contains("with TLS"));
    }
    let stranger = certificates::make();
    stranger.write(
        "ca-cert.pem",
        &fs::read_to_string(side.folder.path().join("ca-cert.pem")).unwrap(),
    );
    let uri = |folder: &str| format!("nbds://localhost:{}/disk?tls-certificates={folder}", side.host.port);
    assert!(info(&uri(stranger.name())).is_err(), "another authority vouches for it");
    side.folder.remove("client-cert.pem");
    side.folder.remove("client-key.pem");
    assert!(info(&uri(side.folder.name())).is_err(), "it shows no certificate");
    let errors = side.host.stop();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| error.starts_with("TLS did not start: ")),
        "{errors:?}"
    );
}

#[test]
fn a_wrong_key_or_user_is_refused() {
    let side = Side::with_keys(TlsPolicy::Required);
    side.folder
        .write("wrong.psk", &certificates::PSK.replace("9d2e", "9d2f"));
    side.folder.write("bob.psk", &certificates::PSK.replace("alice", "bob"));
    assert!(info(&side.psk_uris("wrong.psk")[0]).is_err());
    assert!(info(&side.psk_uris("bob.psk")[0].replace("alice@", "bob@")).is_err());
    assert!(info(&side.psk_uris("keys.psk")[0]).is_ok());
    let errors = side.host.stop();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| error.starts_with("TLS did not start: ")),
        "{errors:?}"
    );
}

#[test]
fn errors_name_missing_and_invalid_files() {
    let folder = certificates::make();
    let fails = |verify_peer| Credentials::x509(folder.path(), verify_peer).unwrap_err().to_string();
    folder.remove("ca-cert.pem");
    assert!(fails(true).contains("ca-cert.pem"));
    assert!(
        Credentials::x509(folder.path(), false).is_ok(),
        "it is for clients only"
    );
    folder.write("server-cert.pem", "no certificate");
    assert!(fails(false).contains("server-cert.pem and server-key.pem"));
    folder.remove("server-cert.pem");
    assert!(fails(false).contains("server-cert.pem"));
    let keys = folder.write("keys.psk", "alice");
    let failed = Credentials::psk(&keys).unwrap_err();
    assert_eq!(failed.path(), Some(&*keys));
    assert_eq!(failed.reason(), "line 1 is not USER:KEY");
}
