//! Files on other machines: the one place where the package gets what opens them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use fvd::Result;
use fvd::process::PerProcess;
use fvd::remote::{Pin, RemoteFile, RemoteOpener};
use fvd_remote::{Config, Opener};

/// By the folder of the host cache, if a caller has given one.
type Openers = HashMap<Option<PathBuf>, Arc<Opener>>;

static OPENERS: PerProcess<Mutex<Openers>> = PerProcess::new(Mutex::default);

/// Opens with the opener of the process.
struct OfProcess {
    cache_dir: Option<PathBuf>,
}

impl OfProcess {
    /// The configuration and the environment are read when a process opens the first URL with this folder.
    fn opener(&self) -> Result<Arc<Opener>> {
        let mut openers = OPENERS.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opener) = openers.get(&self.cache_dir) {
            return Ok(Arc::clone(opener));
        }
        let mut config = Config::load()?;
        if let Some(dir) = &self.cache_dir {
            config.set_cache_dir(dir);
        }
        let opener = Arc::new(Opener::new(config));
        openers.insert(self.cache_dir.clone(), Arc::clone(&opener));
        Ok(opener)
    }
}

impl RemoteOpener for OfProcess {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.opener()?.open(url, pin)
    }
}

/// Opens the files that URLs name, for every function of the package.
pub(crate) fn opener() -> Arc<dyn RemoteOpener> {
    opener_with(None)
}

/// As [`opener`], with the host cache in a folder that the caller gives. An empty one: none.
pub(crate) fn opener_with(cache_dir: Option<PathBuf>) -> Arc<dyn RemoteOpener> {
    Arc::new(OfProcess { cache_dir })
}
