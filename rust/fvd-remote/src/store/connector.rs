//! Lets `object_store` ask for credentials over the transport of this crate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use tokio::time::timeout;
use url::Url;

use crate::transport::{Failure, FailureKind, Request, Transport, read_up_to};

/// The answer of a server of credentials is never larger, in bytes.
const ANSWER: usize = 1 << 20;
/// They are near. A machine without such a service must not wait long for it.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<dyn Transport>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string());
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let request = Request {
            method: parts.method,
            url,
            headers: parts.headers,
            body: body.as_bytes().cloned().unwrap_or_default(),
            is_fresh: false,
        };
        let answer = timeout(LIMIT, self.ask(request)).await;
        let silent = |_| Failure::new(FailureKind::Silent, "the server of credentials took too long");
        let answer = answer.map_err(silent).and_then(|answer| answer);
        answer.map_err(|failure| HttpError::new(HttpErrorKind::Unknown, failure))
    }
}

impl Connector {
    async fn ask(&self, request: Request) -> Result<HttpResponse, Failure> {
        let mut answer = self.0.send(request).await?;
        let body = read_up_to(&mut *answer.body, ANSWER).await?;
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

/// Signs `request` with one of `object_store`'s authorizers.
pub(super) fn sign_with(
    request: &mut Request,
    sign: impl FnOnce(&mut HttpRequest) -> object_store::Result<()>,
) -> Result<(), Failure> {
    let unfit = || Failure::new(FailureKind::Refused, "the request cannot be signed");
    let mut signed = HttpRequest::new(object_store::client::HttpRequestBody::empty());
    *signed.method_mut() = request.method.clone();
    *signed.uri_mut() = request.url.as_str().parse().map_err(|_| unfit())?;
    *signed.headers_mut() = std::mem::take(&mut request.headers);
    sign(&mut signed).map_err(|_| unfit())?;
    request.url = Url::parse(&signed.uri().to_string()).map_err(|_| unfit())?;
    request.headers = std::mem::take(signed.headers_mut());
    Ok(())
}

/// One attempt: this crate decides when to try again.
pub(super) fn no_retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 0,
        ..Default::default()
    }
}
