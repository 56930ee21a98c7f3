//! Certificates, made for each test.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::NamedTempFile;

#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// A certificate for 127.0.0.1, and the file that says who signed it.
    pub fn new() -> (Self, NamedTempFile) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
        let made = made.expect("a certificate");
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(made.cert.pem().as_bytes()).expect("written");
        let certificate = CertificateDer::from(made.cert.der().to_vec());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key that fits");
        (Self(Arc::new(config)), file)
    }

    pub fn accept(&self, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
        let connection = ServerConnection::new(Arc::clone(&self.0)).expect("a connection");
        StreamOwned::new(connection, stream)
    }
}

/// A rule that trusts the certificate in `ca`.
pub fn rule(prefix: &str, ca: &Path) -> String {
    format!("[[remote]]\nprefix = {prefix:?}\nca_file = \"{}\"\n", ca.display())
}
