//! What each open decides for itself. What all opens of the process share does not depend on it.

use std::sync::Arc;

use fvd::Result;
use fvd::gate::Gate;
use fvd::remote::{Counters, Pin, RemoteFile, RemoteOpener};
use url::Url;

use crate::config::Outage;
use crate::opener::Opener;

/// How a file is opened and read.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// What its reads do in an outage. None: as the configuration says.
    pub on_outage: Option<Outage>,
    /// Where redirects may lead.
    pub redirects: Redirects,
}

/// The other hosts that a redirect may lead to. What is refused for every redirect does not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// Any.
    #[default]
    Anywhere,
    /// What the URLs that the gate trusts cover.
    Within(Gate),
}

impl Redirects {
    pub(crate) fn allows(&self, to: &Url) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Within(gate) => {
                // A query can be a signature, which no prefix has.
                let mut to = to.clone();
                to.set_query(None);
                gate.trusts_url(to.as_str())
            }
        }
    }
}

/// An opener with the choices of one open: what the user names may be redirected anywhere, what an image names
/// only to what the user trusts.
pub struct OpenerOf<O> {
    /// Called for each open.
    pub opener: O,
    /// What its reads do in an outage. None: as the configuration says.
    pub on_outage: Option<Outage>,
    /// What the user trusts.
    pub gate: Gate,
}

impl<O> OpenerOf<O> {
    fn options(&self, redirects: Redirects) -> OpenOptions {
        OpenOptions {
            on_outage: self.on_outage,
            redirects,
        }
    }
}

impl<O: Fn() -> Result<Arc<Opener>> + Send + Sync + 'static> RemoteOpener for OpenerOf<O> {
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        (self.opener)()?.open_with(url, pin, &self.options(Redirects::Anywhere))
    }

    fn open_named(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        (self.opener)()?.open_with(url, pin, &self.options(Redirects::Within(self.gate.clone())))
    }

    fn counters(&self) -> Counters {
        (self.opener)().map_or_else(|_| Counters::default(), |opener| opener.counters())
    }
}
