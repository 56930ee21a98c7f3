//! X.509 certificates in a folder with the file names of QEMU and libnbd.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fvd::{Error, Result};
use s2n_tls::callbacks::VerifyHostNameCallback;
use s2n_tls::enums::ClientAuthType;

use super::{Credentials, MAX_FILE, builder};

/// The server's certificate, followed by its intermediate certificates.
const CERTIFICATE: &str = "server-cert.pem";
/// Its private key.
const KEY: &str = "server-key.pem";
/// The authorities that sign client certificates.
const AUTHORITY: &str = "ca-cert.pem";

impl Credentials {
    /// Reads certificate and key from `server-cert.pem` and `server-key.pem` in `folder`. With `verify_peer`
    /// a client must present a certificate that an authority in `ca-cert.pem` has signed. Its name is not
    /// checked.
    ///
    /// # Errors
    ///
    /// A file is missing, invalid or longer than 1 MiB, or certificate and key do not belong together.
    pub fn x509(folder: &Path, verify_peer: bool) -> Result<Self> {
        let read = |name: &str| read(&folder.join(name));
        let (certificate, key) = (read(CERTIFICATE)?, read(KEY)?);
        let authority = verify_peer.then(|| read(AUTHORITY)).transpose()?;
        make(&certificate, &key, authority.as_deref()).map_err(|error| {
            let all = if verify_peer {
                format!("{CERTIFICATE}, {KEY} and {AUTHORITY}")
            } else {
                format!("{CERTIFICATE} and {KEY}")
            };
            Error::invalid_argument(format!("TLS cannot use {all}: {}", error.message())).with_path(folder)
        })
    }

    /// Restricts the verified clients to those whose certificate has one of these subjects. Each name is a
    /// complete distinguished name in the form of RFC 4514: `CN=laptop,O=Example`.
    ///
    /// # Errors
    ///
    /// One of the `names` is not a distinguished name.
    pub fn for_subjects(mut self, names: Vec<String>) -> Result<Self> {
        if let Some(name) = names.iter().find(|name| !name.contains('=')) {
            let message = format!(
                "'{name}' is no distinguished name of a certificate (CN=laptop,O=Example; not the id of an object, as in QEMU)"
            );
            return Err(Error::invalid_argument(message));
        }
        self.allowed = Some(names.into());
        Ok(self)
    }
}

fn make(
    certificate: &[u8],
    key: &[u8],
    authority: Option<&[u8]>,
) -> std::result::Result<Credentials, s2n_tls::error::Error> {
    let mut builder = builder()?;
    builder.load_pem(certificate, key)?;
    if let Some(authority) = authority {
        builder.trust_pem(authority)?;
        builder.set_client_auth_type(ClientAuthType::Required)?;
        builder.set_verify_host_callback(AnyName)?;
    }
    Credentials::new(builder, Vec::new())
}

/// Accepts every host name: the signature of the authority is enough. [`Credentials::for_subjects`] checks
/// the subject.
struct AnyName;

impl VerifyHostNameCallback for AnyName {
    fn verify_host_name(&self, _: &str) -> bool {
        true
    }
}

/// Reads a file of at most [`MAX_FILE`] bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::io("read", error).with_path(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::invalid_argument(format!("longer than {MAX_FILE} bytes")).with_path(path));
    }
    Ok(bytes)
}
