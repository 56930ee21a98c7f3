//! Opens sources by their URLs.

use std::sync::Arc;

use fvd::remote::{Counters, Pin, RemoteFile, RemoteOpener};
use fvd::{Error, Result};

use super::Sources;

/// Opens the sources that one call of a function got, and everything else with another opener.
struct WithSources {
    sources: Sources,
    others: Arc<dyn RemoteOpener>,
}

/// `others`, and these sources.
pub(crate) fn with_sources(sources: Sources, others: Arc<dyn RemoteOpener>) -> Arc<dyn RemoteOpener> {
    Arc::new(WithSources { sources, others })
}

impl RemoteOpener for WithSources {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        match self.sources.get(url) {
            Some(source) => Ok(Arc::clone(source)),
            None => self.others.open(url, pin),
        }
    }

    /// No image can name a source.
    fn open_named(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        if url.starts_with("python://") {
            let message = "An image in a source of Python names a file beside it, which the source cannot open";
            return Err(Error::unsupported(message));
        }
        self.others.open_named(url, pin)
    }

    fn counters(&self) -> Counters {
        self.others.counters()
    }
}
