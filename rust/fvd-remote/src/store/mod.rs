//! Objects of each kind of store: where they are, and how a request for a part of one is made.

mod aws;
mod azure;
mod connector;
mod credentials;
mod endpoint;
mod gcp;
mod helper;
mod write;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fvd::host::BoxFuture;
use http::header::{ACCEPT_ENCODING, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use url::Url;

pub(crate) use credentials::Credentials;
#[cfg(any(test, feature = "simulation"))]
pub(crate) use credentials::Provider;
pub(crate) use endpoint::{KEY, address, client, locate, presigned, provider};
pub(crate) use write::Writer;

use crate::identity::Identity;
use crate::name::{Name, Scheme};
use crate::open_options::Redirects;
use crate::redirects::{Hops, keep_harmless};
use crate::transport::{Failure, FailureKind, Request, Response, Transport};

/// One object, for reading: the seam between how bytes are fetched and what is done with them.
pub(crate) trait Remote: Send + Sync + 'static {
    /// One attempt at the bytes of `range`, which is not empty. `expected` is what the object was before: the
    /// request names it, and the caller checks the answer.
    fn get<'a>(
        &'a self,
        range: Range<u64>,
        expected: Option<&'a Identity>,
        is_fresh: bool,
    ) -> BoxFuture<'a, Result<Response, Failure>>;

    /// How often the credentials have been replaced.
    fn generation(&self) -> u64;

    /// Replaces the credentials of this generation, unless that has been done.
    fn refresh(&self, generation: u64) -> BoxFuture<'_, Result<(), Failure>>;

    /// Whether a redirect has ever led to another host. True before its answer is returned.
    fn has_left_host(&self) -> bool {
        false
    }
}

/// An object in a store or on a web server.
pub(crate) struct Object {
    pub(crate) name: Name,
    /// Where it is.
    pub(crate) url: Url,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) redirects: Redirects,
    /// Where a redirect has led. A server that redirects every request would double the latency of each.
    pub(crate) moved: Mutex<Option<Url>>,
    /// Whether a redirect has ever led to another host.
    pub(crate) has_left_host: AtomicBool,
}

impl Object {
    async fn request(
        &self,
        range: &Range<u64>,
        expected: Option<&Identity>,
        is_fresh: bool,
    ) -> Result<Request, Failure> {
        let mut request = Request::get(self.url.clone());
        request.is_fresh = is_fresh;
        let value = |text: String| {
            HeaderValue::try_from(text).map_err(|error| Failure::caused(FailureKind::Refused, "a header", &error))
        };
        let headers = &mut request.headers;
        headers.insert(RANGE, value(format!("bytes={}-{}", range.start, range.end - 1))?);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(expected) = expected {
            if let Some(tag) = &expected.etag {
                headers.insert(IF_MATCH, value(tag.clone())?);
            } else if let Some(time) = &expected.modified {
                headers.insert(IF_UNMODIFIED_SINCE, value(time.clone())?);
            }
        }
        let version = expected.and_then(|expected| expected.version.clone());
        add_version(&mut request.url, &self.name, version);
        self.credentials.authorize(&mut request).await?;
        Ok(request)
    }

    fn moved(&self) -> Option<Url> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_moved(&self, url: Option<Url>) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        // What came from there may be what failed: the name can lead to another place by now.
        if let Some(moved) = self.moved().filter(|_| !request.is_fresh) {
            let short = keep_harmless(request.clone(), moved);
            let answer = self.transport.send(short).await?;
            if answer.status.is_success() || answer.status.is_server_error() || answer.status.as_u16() == 429 {
                return Ok(answer);
            }
            // A presigned target expires, and what the name leads to may have changed.
            self.set_moved(None);
        }
        let mut hops = Hops::new(&request.url);
        let mut next = request.clone();
        let mut answer = self.transport.send(request).await?;
        // A signature holds for one host and one path, so stores are asked where they are.
        while self.name.scheme == Scheme::Web && matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            next = hops.follow(next, &answer, &self.redirects)?;
            self.has_left_host.fetch_or(hops.has_left_host, Ordering::Relaxed);
            answer = self.transport.send(next.clone()).await?;
            if answer.status.is_success() {
                self.set_moved(Some(next.url.clone()));
            }
        }
        Ok(answer)
    }
}

/// Names the version in the URL: such a request never gets another object.
fn add_version(url: &mut Url, name: &Name, version: Option<String>) {
    let parameter = match name.scheme {
        Scheme::Web => return,
        Scheme::S3 => "versionId",
        Scheme::Gcs => "generation",
        Scheme::Azure => "versionid",
    };
    if let Some(version) = version.or_else(|| name.parameter(parameter)) {
        url.query_pairs_mut().append_pair(parameter, &version);
    }
}

impl Remote for Object {
    fn get<'a>(
        &'a self,
        range: Range<u64>,
        expected: Option<&'a Identity>,
        is_fresh: bool,
    ) -> BoxFuture<'a, Result<Response, Failure>> {
        Box::pin(async move {
            let request = self.request(&range, expected, is_fresh).await?;
            self.send(request).await
        })
    }

    fn generation(&self) -> u64 {
        self.credentials.generation()
    }

    fn refresh(&self, generation: u64) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.credentials.refresh(generation))
    }

    fn has_left_host(&self) -> bool {
        self.has_left_host.load(Ordering::Relaxed)
    }
}
