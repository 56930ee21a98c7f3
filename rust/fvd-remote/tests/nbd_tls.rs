//! TLS to an NBD server: the one of fvd.

#[allow(dead_code, reason = "of the server's own tests, which use more of it")]
#[path = "../../fvd-nbd/tests/server/certificates.rs"]
mod certificates;
#[allow(dead_code, reason = "of the server's own tests, which use more of it")]
#[path = "../../fvd-nbd/tests/server/host.rs"]
mod host;
mod support;

use std::sync::Arc;

use certificates::Folder;
use fvd_nbd::protocol::export::ExportInfo;
use fvd_nbd::protocol::handshake::TlsPolicy;
use fvd_nbd::server::{Credentials, Export as _, Limits, MemoryExport};
use fvd_remote::Opener;
use host::Host;
use pollster::block_on;
use support::{UNIT, content, open, opener, parsed, read};

struct Side {
    host: Host<MemoryExport>,
    folder: Folder,
}

fn serve(verifies: bool) -> Side {
    let folder = certificates::make();
    let export = Arc::new(MemoryExport::with_info(ExportInfo::new("disk", 4 * UNIT)));
    block_on(export.write(content(2 * UNIT).into(), 0)).expect("written");
    let credentials = Credentials::x509(folder.path(), verifies).expect("certificates");
    let host = Host::with(Limits::default(), [export], |server| {
        server.with_tls(credentials, TlsPolicy::Required)
    });
    Side { host, folder }
}

impl Side {
    fn urls(&self) -> [String; 2] {
        let socket = self.host.socket();
        [
            format!("nbds://localhost:{}/disk", self.host.port),
            format!("nbds+unix:///disk?socket={}", socket.display()),
        ]
    }

    fn opener(&self, has_certificate: bool) -> Opener {
        let folder = self.folder.name();
        let mut identity = String::new();
        if has_certificate {
            identity = format!("client_cert = '{folder}/client-cert.pem'\nclient_key = '{folder}/client-key.pem'\n");
        }
        let prefixes = [
            format!("nbds://localhost:{}", self.host.port),
            "nbds+unix:///".to_owned(),
        ];
        let rules = prefixes
            .map(|prefix| format!("[[remote]]\nprefix = '{prefix}'\nca_file = '{folder}/ca-cert.pem'\n{identity}"));
        Opener::new(parsed(&rules.concat()))
    }
}

fn assert_reads(opener: &Opener, url: &str) {
    let file = open(opener, url, None).expect("opened");
    assert!(read(&*file, UNIT, 2 * UNIT).expect("read")[..UNIT as usize] == content(2 * UNIT)[UNIT as usize..]);
}

#[test]
fn an_export_is_read_over_tls() {
    let side = serve(false);
    for url in side.urls() {
        assert_reads(&side.opener(false), &url);
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_configured_one() {
    let side = serve(true);
    for url in side.urls() {
        let error = open(&side.opener(false), &url, None).err().expect("refused");
        assert!(error.to_string().contains(&url), "{error}");
        assert_reads(&side.opener(true), &url);
    }
}

#[test]
fn a_server_that_no_one_vouches_for_is_refused() {
    let side = serve(false);
    let [url, _] = side.urls();
    let error = open(&opener(), &url, None).err().expect("refused").to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_server_that_wants_tls_is_not_read_without_it() {
    let side = serve(false);
    let url = side.host.tcp_uri("disk");
    let error = open(&opener(), &url, None).err().expect("refused").to_string();
    assert!(error.contains("wants TLS (nbds://)"), "{error}");
}

#[test]
fn a_server_without_tls_is_not_read_in_plain_text() {
    let export = Arc::new(MemoryExport::new("disk", 512));
    let host = Host::new(Limits::default(), [export]);
    let folder = certificates::make();
    let side = Side { host, folder };
    let [url, _] = side.urls();
    let error = open(&side.opener(false), &url, None)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("has no TLS"), "{error}");
}
