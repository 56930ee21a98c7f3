//! Writing objects: `object_store` knows the requests of each provider, this crate sends them and tries again.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fvd::{Error, ErrorKind, Result};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider};
use object_store::azure::{AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, StaticCredentialProvider};
use url::Url;

use super::connector::no_retries;
use super::credentials::Credentials;
use crate::fetch::{StoreState, capital};
use crate::name::{Name, shown};
use crate::retry::Backoff;
use crate::transport::{Failure, FailureKind, Request, Transport, read_up_to};

/// Attempts at a request before it is given up. With the pauses between them, about two minutes.
const ATTEMPTS: u32 = 12;
/// How long an answer may take, in addition to the time for the bytes that are sent.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// A slower connection is given up, in bytes a second.
const LEAST_RATE: u64 = 32 << 10;
/// No answer to a write is longer, in bytes.
const ANSWER: usize = 4 << 20;

/// A bucket that is written to.
pub(crate) trait Bucket: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Bucket for T {}

/// Where a bucket is.
pub(crate) struct Address {
    /// The URL of the endpoint; with S3 and the bucket in the name of the host, that of the bucket.
    pub(crate) endpoint: String,
    /// S3: whether the bucket is in the name of the host.
    pub(crate) is_virtual: bool,
    pub(crate) region: String,
    pub(crate) account: String,
}

/// Writes an object and its sidecars.
pub(crate) struct Writer {
    pub(crate) name: Name,
    pub(crate) address: Address,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) store: Arc<StoreState>,
    /// Made when it is first needed, and again after credentials were refused.
    pub(crate) bucket: tokio::sync::Mutex<Option<Arc<dyn Bucket>>>,
    pub(crate) told: Arc<Told>,
}

impl Writer {
    /// Begins an upload in parts, and returns its identifier.
    pub(crate) async fn begin(&self) -> Result<String> {
        let path = self.path("")?;
        self.run(|bucket| {
            let path = path.clone();
            async move { bucket.create_multipart(&path).await }
        })
        .await
    }

    /// Uploads a part. Returns what the store calls it.
    pub(crate) async fn put_part(&self, id: &String, index: usize, bytes: &Bytes) -> Result<String> {
        let path = self.path("")?;
        let part = self
            .run(|bucket| {
                let (path, bytes) = (path.clone(), bytes.clone());
                async move { bucket.put_part(&path, id, index, bytes.into()).await }
            })
            .await?;
        Ok(part.content_id)
    }

    pub(crate) async fn complete(&self, id: &String, parts: &[String]) -> Result<()> {
        let path = self.path("")?;
        let parts: Vec<_> = parts
            .iter()
            .map(|content_id| PartId {
                content_id: content_id.clone(),
            })
            .collect();
        let done = self.run(|bucket| {
            let (path, parts) = (path.clone(), parts.clone());
            async move { bucket.complete_multipart(&path, id, parts).await }
        });
        done.await.map(drop)
    }

    pub(crate) async fn abort(&self, id: &String) -> Result<()> {
        let path = self.path("")?;
        self.run(|bucket| {
            let path = path.clone();
            async move { bucket.abort_multipart(&path, id).await }
        })
        .await
    }

    /// Writes the whole object whose name ends with `suffix`.
    pub(crate) async fn put(&self, suffix: &str, bytes: &Bytes) -> Result<()> {
        let path = self.path(suffix)?;
        let done = self.run(|bucket| {
            let (path, bytes) = (path.clone(), bytes.clone());
            async move { bucket.put(&path, bytes.into()).await }
        });
        done.await.map(drop)
    }

    /// Writes the whole object, unless there is one. Returns whether it was written.
    pub(crate) async fn create(&self, bytes: &Bytes) -> Result<bool> {
        let path = self.path("")?;
        self.run(|bucket| {
            let (path, bytes) = (path.clone(), bytes.clone());
            async move {
                let put = bucket.put_opts(&path, bytes.into(), PutMode::Create.into()).await;
                match put {
                    Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                    put => put.map(|_| true),
                }
            }
        })
        .await
    }

    /// Removes the object whose name ends with `suffix`, if it is there.
    pub(crate) async fn delete(&self, suffix: &str) -> Result<()> {
        let path = self.path(suffix)?;
        self.run(|bucket| {
            let path = path.clone();
            async move {
                match bucket.delete(&path).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    ended => ended,
                }
            }
        })
        .await
    }

    fn path(&self, suffix: &str) -> Result<Path> {
        let key = format!("{}{suffix}", self.name.key());
        let invalid = |_| Error::invalid_argument("The key in the URL cannot be written to").with_path(&self.name.text);
        Path::from_url_path(key).map_err(invalid)
    }

    /// Runs `call`. If the store refuses access, once more with new credentials.
    async fn run<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        call: impl Fn(Arc<dyn Bucket>) -> F,
    ) -> Result<T> {
        let mut is_first = true;
        loop {
            let bucket = self.bucket().await?;
            let error = match call(bucket).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_refused = matches!(
                error,
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
            );
            if !is_refused || !is_first {
                return Err(self.failed(&error));
            }
            is_first = false;
            *self.bucket.lock().await = None;
        }
    }

    async fn bucket(&self) -> Result<Arc<dyn Bucket>> {
        let mut made = self.bucket.lock().await;
        if let Some(bucket) = &*made {
            return Ok(Arc::clone(bucket));
        }
        let sender = Sender {
            transport: Arc::clone(&self.transport),
            credentials: Arc::clone(&self.credentials),
            store: Arc::clone(&self.store),
            told: Arc::clone(&self.told),
        };
        let bucket = self.credentials.bucket(&self.name, &self.address, sender).await;
        let bucket = bucket.map_err(|failure| self.error(libc::EACCES, &capital(&failure.text)))?;
        Ok(Arc::clone(made.insert(bucket)))
    }

    /// Without what the store has answered, which may have credentials in it.
    fn failed(&self, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => self.error(
                libc::ENOENT,
                "There is no such bucket, or the upload is no longer there (status 404)",
            ),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => self.error(
                libc::EACCES,
                "The store refuses to be written to (status 401 or 403): the credentials must permit it",
            ),
            E::Precondition { .. } | E::AlreadyExists { .. } => {
                self.error(libc::EIO, "The object was changed meanwhile")
            }
            _ => {
                let told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let text = format!("The store did not take what was sent: {told}");
                self.error(libc::EIO, text.trim_end_matches(": "))
            }
        }
    }

    fn error(&self, errno: i32, text: &str) -> Error {
        let error = Error::io("write", io::Error::from_raw_os_error(errno));
        error.with_context(ErrorKind::Io, text).with_path(&self.name.text)
    }
}

/// Why the last request failed.
#[derive(Default)]
pub(crate) struct Told(Mutex<String>);

/// Sends what `object_store` asks for, and again after a failure that may pass.
#[derive(Clone)]
pub(super) struct Sender {
    transport: Arc<dyn Transport>,
    credentials: Arc<Credentials>,
    store: Arc<StoreState>,
    told: Arc<Told>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl HttpConnector for Sender {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Sender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = match self.request(request).await {
            Ok(request) => self.send(request).await,
            Err(failure) => Err(failure),
        };
        sent.map_err(|failure| {
            self.tell(&failure.text);
            HttpError::new(HttpErrorKind::Unknown, failure)
        })
    }
}

impl Sender {
    async fn request(&self, request: HttpRequest) -> Result<Request, Failure> {
        let unfit = || Failure::new(FailureKind::Refused, "the request cannot be sent");
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| unfit())?.to_bytes();
        let mut request = Request {
            method: parts.method,
            url: Url::parse(&parts.uri.to_string()).map_err(|_| unfit())?,
            headers: parts.headers,
            body,
            is_fresh: false,
        };
        // What an empty token becomes.
        if request
            .headers
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes().trim_ascii() == b"Bearer")
        {
            request.headers.remove(AUTHORIZATION);
        }
        self.credentials.add_headers(&mut request).await?;
        Ok(request)
    }

    async fn send(&self, request: Request) -> Result<HttpResponse, Failure> {
        let tuning = &self.store.tuning;
        let limit = ANSWER_TIME + Duration::from_secs(request.body.len() as u64 / LEAST_RATE);
        let mut failures = 0;
        loop {
            let mut request = request.clone();
            // A connection that was idle may be closed, and only some requests can be sent twice at no risk.
            request.is_fresh = failures > 0 || request.method == Method::POST;
            let place = shown(&request.url);
            let sent = self.store.limit(self.once(request), limit).await;
            let (reason, demanded) = match sent.and_then(|sent| sent) {
                Ok(response) if !is_temporary(response.status()) => {
                    if !response.status().is_success() {
                        self.tell(&format!("the store answered with status {}", response.status()));
                    }
                    return Ok(response);
                }
                Ok(response) if failures + 1 == ATTEMPTS => {
                    self.tell(&format!("the store answered with status {}", response.status()));
                    return Ok(response);
                }
                Ok(response) => (format!("status {}", response.status()), retry_after(&response)),
                Err(failure) if failure.is_permanent() || failures + 1 == ATTEMPTS => return Err(failure),
                Err(failure) => (failure.text, None),
            };
            failures += 1;
            let pause = Backoff::new(tuning).pause(failures, demanded, self.store.random());
            tracing::debug!(url = %place, reason, pause_ms = pause.as_millis() as u64, "a part is sent again");
            self.store.clock.sleep(pause).await;
        }
    }

    async fn once(&self, request: Request) -> Result<HttpResponse, Failure> {
        let mut answer = self.transport.send(request).await?;
        let body = read_up_to(&mut *answer.body, ANSWER).await?;
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn tell(&self, text: &str) {
        text.clone_into(&mut self.told.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let value = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

type Made = Result<Arc<dyn Bucket>, Failure>;

fn made<T: Bucket + 'static>(built: object_store::Result<T>) -> Made {
    let failed = |error| super::credentials::failed("the store cannot be written to", &error);
    Ok(Arc::new(built.map_err(failed)?))
}

/// Without a provider, no request is signed.
pub(super) fn s3(name: &Name, address: &Address, sender: Sender, provider: Option<AwsCredentialProvider>) -> Made {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name.bucket())
        .with_region(&address.region)
        .with_endpoint(&address.endpoint)
        .with_virtual_hosted_style_request(address.is_virtual)
        .with_allow_http(true)
        .with_retry(no_retries())
        .with_http_connector(sender);
    builder = match provider {
        Some(provider) => builder.with_credentials(provider),
        None => builder.with_skip_signature(true),
    };
    made(builder.build())
}

/// As [`s3`].
pub(super) fn gcs(name: &Name, address: &Address, sender: Sender, provider: Option<GcpCredentialProvider>) -> Made {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(name.bucket())
        .with_config(GoogleConfigKey::BaseUrl, &address.endpoint)
        .with_retry(no_retries())
        .with_http_connector(sender);
    builder = match provider {
        Some(provider) => builder.with_credentials(provider),
        // Some requests would look for credentials all the same, and ask the machine's service.
        None => builder.with_skip_signature(true).with_credentials(no_token()),
    };
    made(builder.build())
}

fn no_token() -> GcpCredentialProvider {
    Arc::new(StaticCredentialProvider::new(GcpCredential { bearer: String::new() }))
}

/// As [`s3`].
pub(super) fn azure(name: &Name, address: &Address, sender: Sender, provider: Option<AzureCredentialProvider>) -> Made {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&address.account)
        .with_container_name(name.bucket())
        .with_endpoint(address.endpoint.clone())
        .with_allow_http(true)
        .with_retry(no_retries())
        .with_http_connector(sender);
    builder = match provider {
        Some(provider) => builder.with_credentials(provider),
        None => builder.with_skip_signature(true),
    };
    made(builder.build())
}
