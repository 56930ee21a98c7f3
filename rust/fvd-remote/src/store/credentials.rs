//! What a store wants to see before it answers (R8).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fvd::Result;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use url::Url;

use super::aws::Aws;
use super::azure::Azure;
use super::gcp::Gcp;
use super::helper;
use super::write::{self, Address, Bucket, Sender};
use crate::fault::fault;
use crate::hooks::{HeaderSource, UrlSource};
use crate::name::{Name, Scheme};
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
    current: Mutex<Option<Issued>>,
}

/// Credentials, and when new ones are asked for although these have not been refused.
struct Issued {
    authority: Arc<Authority>,
    renew: Option<SystemTime>,
    expires: Option<SystemTime>,
}

/// The time before they expire when credentials are renewed, at most. A tenth of their life is enough.
const EARLY: Duration = Duration::from_secs(60);
/// The time between attempts to renew credentials that are still valid.
const AGAIN: Duration = Duration::from_secs(10);

impl Issued {
    fn new(authority: Authority, expires: Option<SystemTime>) -> Self {
        let now = SystemTime::now();
        // What has expired by this clock is used until it is refused: the clock may be wrong.
        let expires = expires.filter(|expires| *expires > now);
        let early = |expires: SystemTime| {
            let life = expires.duration_since(now).unwrap_or_default();
            expires - EARLY.min(life / 10)
        };
        Self {
            authority: Arc::new(authority),
            renew: expires.map(early),
            expires,
        }
    }

    fn is_due(&self) -> bool {
        self.renew.is_some_and(|renew| renew <= SystemTime::now())
    }

    fn is_valid(&self) -> bool {
        self.expires.is_some_and(|expires| expires > SystemTime::now())
    }
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

    /// The credentials of the moment: new ones if there are none yet, or if they soon expire.
    async fn authority(&self) -> Result<Arc<Authority>, Failure> {
        let mut current = self.current.lock().await;
        let Some(issued) = &mut *current else {
            return Ok(Arc::clone(&current.insert(self.provider.ask().await?).authority));
        };
        if issued.is_due() {
            match self.provider.ask().await {
                Ok(new) => {
                    *issued = new;
                    self.generation.fetch_add(1, Ordering::AcqRel);
                }
                Err(_) if issued.is_valid() => issued.renew = Some(SystemTime::now() + AGAIN),
                Err(failure) => return Err(failure),
            }
        }
        Ok(Arc::clone(&issued.authority))
    }

    pub(crate) async fn authorize(&self, request: &mut Request) -> Result<(), Failure> {
        request.headers.extend(self.fixed.clone());
        let authority = self.authority().await?;
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

    /// Adds what goes along with every request, and is no signature.
    pub(super) async fn add_headers(&self, request: &mut Request) -> Result<(), Failure> {
        match self.provider {
            Provider::Helper(_) | Provider::Headers(_) => self.authorize(request).await,
            _ => {
                request.headers.extend(self.fixed.clone());
                Ok(())
            }
        }
    }

    /// What writes to the bucket of `name`, with credentials that are asked for now.
    pub(super) async fn bucket(
        &self,
        name: &Name,
        address: &Address,
        sender: Sender,
    ) -> Result<Arc<dyn Bucket>, Failure> {
        match (&self.provider, name.scheme) {
            (Provider::Aws(aws), _) => write::s3(name, address, sender, Some(aws.session().await?.provider)),
            (Provider::Gcp(gcp), _) => write::gcs(name, address, sender, Some(gcp.session()?.0)),
            (Provider::Azure(azure), _) => write::azure(name, address, sender, Some(azure.session()?.provider)),
            (Provider::Presigned(_), _) | (_, Scheme::Web) => Err(Failure::new(
                FailureKind::Refused,
                "this is no store that fvd can write to",
            )),
            (_, Scheme::S3) => write::s3(name, address, sender, None),
            (_, Scheme::Gcs) => write::gcs(name, address, sender, None),
            (_, Scheme::Azure) => write::azure(name, address, sender, None),
        }
    }

    /// Asks for new credentials, unless those of `generation` are not the current ones.
    pub(crate) async fn refresh(&self, generation: u64) -> Result<(), Failure> {
        let mut current = self.current.lock().await;
        if self.generation() != generation && !fault!(RefreshByEach) {
            return Ok(());
        }
        *current = Some(self.provider.ask().await?);
        self.generation.store(generation + 1, Ordering::Release);
        Ok(())
    }
}

impl Provider {
    async fn ask(&self) -> Result<Issued, Failure> {
        let authority = self.authority().await?;
        let expires = match self {
            Self::Headers(source) => source.expires(),
            Self::Presigned(source) => source.expires(),
            Self::Aws(aws) => aws.keys.as_ref().and_then(|source| source.expires()),
            _ => None,
        };
        Ok(Issued::new(authority, expires))
    }

    async fn authority(&self) -> Result<Authority, Failure> {
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
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
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
