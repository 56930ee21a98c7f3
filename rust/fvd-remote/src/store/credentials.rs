//! What a store wants to see before it answers (R8).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fvd::Result;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use url::Url;

use super::aws::Aws;
use super::azure::Azure;
use super::gcp::Gcp;
use super::helper;
use crate::fault::fault;
use crate::hooks::{HeaderSource, UrlSource};
use crate::secret::Secret;
use crate::transport::{Failure, FailureKind, Request};

/// Where credentials come from.
pub(crate) enum Provider {
    /// Nowhere.
    None,
    /// A program that prints headers.
    Helper(Vec<String>),
    /// The program that uses this crate: headers.
    Headers(Arc<dyn HeaderSource>),
    /// The program that uses this crate: a presigned URL.
    Presigned(Arc<dyn UrlSource>),
    Aws(Aws),
    Gcp(Gcp),
    Azure(Azure),
    /// The simulator, in virtual time.
    #[cfg(test)]
    Simulated(Box<dyn Fn() -> fvd::host::BoxFuture<'static, Result<HeaderMap, Failure>> + Send + Sync>),
}

/// The credentials of the moment.
enum Authority {
    None,
    Headers(HeaderMap),
    Url(Url),
    Aws(super::aws::Session),
    Gcp(super::gcp::Session),
    Azure(super::azure::Session),
}

/// The credentials of a store, shared by its objects.
pub(crate) struct Credentials {
    provider: Provider,
    /// Headers that the configuration gives every request.
    fixed: HeaderMap,
    generation: AtomicU64,
    /// Locked over the request for new ones: that is how one reader refreshes for all (R8). No thread blocks.
    current: Mutex<Option<Arc<Authority>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl Credentials {
    pub(crate) fn new(provider: Provider, fixed: HeaderMap) -> Self {
        Self {
            provider,
            fixed,
            generation: AtomicU64::new(0),
            current: Mutex::default(),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) async fn authorize(&self, request: &mut Request) -> Result<(), Failure> {
        request.headers.extend(self.fixed.clone());
        let authority = {
            let mut current = self.current.lock().await;
            match &*current {
                Some(authority) => Arc::clone(authority),
                None => Arc::clone(current.insert(Arc::new(self.provider.ask().await?))),
            }
        };
        match &*authority {
            Authority::None => {}
            Authority::Headers(headers) => request.headers.extend(headers.clone()),
            Authority::Url(url) => request.url = url.clone(),
            Authority::Aws(session) => session.sign(request).await?,
            Authority::Gcp(session) => session.sign(request).await?,
            Authority::Azure(session) => session.sign(request).await?,
        }
        Ok(())
    }

    /// Asks for new credentials, unless those of `generation` are not the current ones.
    pub(crate) async fn refresh(&self, generation: u64) -> Result<(), Failure> {
        let mut current = self.current.lock().await;
        if self.generation() != generation && !fault!(RefreshByEach) {
            return Ok(());
        }
        *current = Some(Arc::new(self.provider.ask().await?));
        self.generation.store(generation + 1, Ordering::Release);
        Ok(())
    }
}

impl Provider {
    async fn ask(&self) -> Result<Authority, Failure> {
        match self {
            Self::None => Ok(Authority::None),
            Self::Helper(command) => Ok(Authority::Headers(headers(helper::headers(command).await?)?)),
            Self::Headers(source) => {
                let source = Arc::clone(source);
                let asked = blocking(move || source.headers()).await?;
                Ok(Authority::Headers(headers(asked)?))
            }
            Self::Presigned(source) => {
                let source = Arc::clone(source);
                let text = blocking(move || source.url()).await?;
                let url = Url::parse(&text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https"));
                let no_url = || Failure::new(FailureKind::Refused, "the URL to read from is none of http or https");
                Ok(Authority::Url(url.ok_or_else(no_url)?))
            }
            Self::Aws(aws) => Ok(Authority::Aws(aws.session().await?)),
            Self::Gcp(gcp) => Ok(Authority::Gcp(gcp.session()?)),
            Self::Azure(azure) => Ok(Authority::Azure(azure.session()?)),
            #[cfg(test)]
            Self::Simulated(ask) => Ok(Authority::Headers(ask().await?)),
        }
    }
}

/// Calls the program's own code, which may block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T, Failure> {
    let failed = |text: String| Failure::new(FailureKind::Credentials, text);
    match spawn_blocking(call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(format!("no credentials: {error}"))),
        Err(_) => Err(failed("the source of credentials panicked".to_owned())),
    }
}

/// Headers whose values no debug output shows.
pub(crate) fn headers(pairs: impl IntoIterator<Item = (String, Secret)>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let invalid = || Failure::new(FailureKind::Refused, format!("the header {name:?} cannot be sent"));
        let header = HeaderName::try_from(&name).map_err(|_| invalid())?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

/// What failed, without what a server of credentials has answered, which may be credentials.
pub(super) fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Failure::new(FailureKind::Credentials, format!("{what}: {failure}"));
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Failure::new(FailureKind::Credentials, format!("{what}: {error}"));
        }
        cause = error.source();
    }
    Failure::new(FailureKind::Credentials, what)
}
