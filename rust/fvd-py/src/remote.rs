//! Files on other machines: the one place where the package gets what opens them.

use std::sync::Arc;

use fvd::Result;
use fvd::process::PerProcess;
use fvd::remote::{Pin, RemoteFile, RemoteOpener};
use fvd_remote::{Config, Opener};

/// The configuration and the environment are read when a process opens the first URL.
static OPENER: PerProcess<Result<Opener>> = PerProcess::new(|| Config::load().map(Opener::new));

/// Opens with the opener of the process.
struct OfProcess;

impl RemoteOpener for OfProcess {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        match OPENER.get() {
            Ok(opener) => opener.open(url, pin),
            Err(error) => Err(error.clone()),
        }
    }
}

/// Opens the files that URLs name, for every function of the package.
pub(crate) fn opener() -> Arc<dyn RemoteOpener> {
    Arc::new(OfProcess)
}
