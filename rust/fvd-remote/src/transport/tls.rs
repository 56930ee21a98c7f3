//! TLS: rustls on the aws-lc that the NBD server's s2n-tls links already.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fvd::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Who may sign certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TlsRoots {
    /// What the system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    /// Only the certificates in this PEM file.
    File(PathBuf),
}

/// Who the client is: PEM files with its certificates and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsIdentity {
    pub(crate) certificates: PathBuf,
    pub(crate) key: PathBuf,
}

/// Reads the certificates, which takes milliseconds: only for TLS.
pub(crate) fn config(roots: &TlsRoots, identity: Option<&TlsIdentity>) -> Result<Arc<ClientConfig>> {
    let roots = match roots {
        TlsRoots::System => system_roots()?,
        TlsRoots::File(path) => file_roots(path)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("set up TLS", &error))?
        .with_root_certificates(roots);
    let Some(TlsIdentity { certificates, key }) = identity else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed("read", &error).with_path(key))?;
    let config = config.with_client_auth_cert(read_certificates(certificates)?, secret);
    let config = config.map_err(|error| failed("use a certificate", &error).with_path(certificates))?;
    Ok(Arc::new(config))
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems have certificates that no library accepts. The others count.
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let reason = found.errors.first().map(|error| format!(": {error}"));
    Err(Error::new(
        ErrorKind::Io,
        format!(
            "This system has no certificates of authorities, which TLS needs{}. The Debian package is \
             ca-certificates; SSL_CERT_FILE names another file",
            reason.unwrap_or_default()
        ),
    ))
}

fn file_roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| failed("use a certificate", &error).with_path(path))?;
    }
    if roots.is_empty() {
        return Err(Error::invalid_argument("The CA file has no certificate in it").with_path(path));
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| failed("read", &error).with_path(path))
}

fn failed(what: &str, error: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("Could not {what}: {error}"))
}
