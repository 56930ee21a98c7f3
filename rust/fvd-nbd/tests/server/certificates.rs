//! Creates certificates and keys for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// The key of user `alice` in the format of `psktool`.
pub(crate) const PSK: &str = "alice:9d2ef51ad1a6a6b1ce1f7d4a0b8c4e5fd3a1b2c3d4e5f60718293a4b5c6d7e8f\n";

/// A folder with the file names that QEMU and libnbd use, for both sides.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn name(&self) -> &str {
        self.path().to_str().expect("a plain name")
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.path().join(file)).expect("it is there");
    }

    pub(crate) fn write(&self, file: &str, content: &str) -> PathBuf {
        let path = self.path().join(file);
        fs::write(&path, content).expect("a file");
        path
    }
}

/// A new authority, certificates that it signed for a server and a client, and a pre-shared key.
pub(crate) fn make() -> Folder {
    let folder = Folder(tempfile::tempdir().expect("a folder"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, new_key()).expect("an authority");
    folder.write("ca-cert.pem", &authority.pem());
    for (role, purpose) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, role);
        // QEMU requires both.
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![purpose];
        let key = new_key();
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        folder.write(&format!("{role}-cert.pem"), &certificate.pem());
        folder.write(&format!("{role}-key.pem"), &key.serialize_pem());
    }
    folder.write("keys.psk", PSK);
    folder
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
