//! HTTP/1.1 over connections of ours.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fvd::host::BoxFuture;
use http::header::{HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::{PathAndQuery, Scheme, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rustls::ClientConfig;
use url::{Position, Url};

use super::address::AddressRule;
use super::connect::{Route, connect};
use super::failure::{Failure, FailureKind};
use super::pool::{Connection, Origin, Pool};
use super::proxy::{Proxies, Proxy};
use super::tls::{TlsRoots, config as tls_config};
use super::{Body, Request, Response, Transport};

/// Sends requests of one store, over any number of connections.
pub(crate) struct Client {
    rule: AddressRule,
    proxies: Proxies,
    roots: TlsRoots,
    connect_timeout: Duration,
    /// Read when the first `https` needs it.
    tls: OnceLock<Arc<ClientConfig>>,
    pool: Arc<Pool>,
}

impl Client {
    pub(crate) fn new(rule: AddressRule, proxies: Proxies, roots: TlsRoots, connect_timeout: Duration) -> Self {
        Self {
            rule,
            proxies,
            roots,
            connect_timeout,
            tls: OnceLock::new(),
            pool: Arc::default(),
        }
    }

    /// As this one, without a limit on addresses: for credentials.
    pub(crate) fn for_credentials(&self) -> Self {
        Self {
            rule: AddressRule::Any,
            proxies: self.proxies.clone(),
            roots: self.roots.clone(),
            connect_timeout: self.connect_timeout,
            tls: self.tls.clone(),
            pool: Arc::default(),
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let made = tls_config(&self.roots, None).map_err(|error| Failure::new(FailureKind::Tls, error.to_string()))?;
        Ok(Arc::clone(self.tls.get_or_init(|| made)))
    }

    async fn send_once(&self, mut request: Request) -> Result<Response, Failure> {
        let origin = origin(&request.url)?;
        // Credentials of the machine come from the machine: never through a proxy.
        let proxy = self.proxies.find(origin.is_https, &origin.host);
        let proxy = proxy.filter(|_| self.rule != AddressRule::Any || origin.is_https);
        let idle = if request.is_fresh {
            None
        } else {
            self.pool.take(&origin).await
        };
        if let Some(connection) = idle {
            // The server may have closed it a moment ago. A GET can be sent again at no risk.
            match self.send_on(connection, &origin, request.clone(), proxy).await {
                Err(failure) if failure.kind == FailureKind::Broken => request.is_fresh = true,
                result => return result,
            }
        }
        let route = Route {
            rule: &self.rule,
            proxy,
            tls: if origin.is_https { Some(self.tls()?) } else { None },
            timeout: self.connect_timeout,
        };
        let connection = connect(&origin, route).await?;
        self.send_on(connection, &origin, request, proxy).await
    }

    async fn send_on(
        &self,
        mut connection: Connection,
        origin: &Origin,
        request: Request,
        proxy: Option<&Proxy>,
    ) -> Result<Response, Failure> {
        let message = message(request, origin, proxy)?;
        let answer = connection.send_request(message).await;
        let answer = answer.map_err(|error| Failure::broken("the connection broke before the answer", &error))?;
        let (parts, incoming) = answer.into_parts();
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            body: Box::new(Incomings {
                incoming,
                connection: Some(connection),
                origin: origin.clone(),
                pool: Arc::clone(&self.pool),
            }),
        })
    }
}

impl Transport for Client {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, Failure>> {
        Box::pin(self.send_once(request))
    }
}

fn origin(url: &Url) -> Result<Origin, Failure> {
    let is_https = match url.scheme() {
        "https" => true,
        "http" => false,
        other => return Err(Failure::new(FailureKind::Refused, format!("no requests to {other}://"))),
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(Failure::new(FailureKind::Refused, "a URL without a host"));
    };
    Ok(Origin {
        is_https,
        host: host.to_owned(),
        port,
    })
}

/// The request as it goes over the wire: the path alone, or the whole URL for a proxy that is no tunnel.
fn message(request: Request, origin: &Origin, proxy: Option<&Proxy>) -> Result<http::Request<Full<Bytes>>, Failure> {
    let invalid = |error: http::Error| Failure::caused(FailureKind::Refused, "a request that cannot be sent", &error);
    let authority = request.url[Position::BeforeHost..Position::AfterPort].to_owned();
    let path = &request.url[Position::BeforePath..Position::AfterQuery];
    let path = PathAndQuery::try_from(path).map_err(|error| invalid(error.into()))?;
    let mut headers = request.headers;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|error| invalid(error.into()))?;
    let uri = match proxy.filter(|_| !origin.is_https) {
        Some(proxy) => {
            add_authorization(&mut headers, proxy)?;
            Uri::builder()
                .scheme(Scheme::HTTP)
                .authority(authority)
                .path_and_query(path)
        }
        None => Uri::builder().path_and_query(path),
    };
    headers.insert(HOST, host);
    let agent = HeaderValue::from_static(concat!("fvd/", env!("CARGO_PKG_VERSION")));
    headers.entry(HeaderName::from_static("user-agent")).or_insert(agent);
    let mut message = http::Request::new(Full::new(request.body));
    *message.method_mut() = request.method;
    *message.uri_mut() = uri.build().map_err(invalid)?;
    *message.headers_mut() = headers;
    Ok(message)
}

fn add_authorization(headers: &mut http::HeaderMap, proxy: &Proxy) -> Result<(), Failure> {
    let Some(secret) = &proxy.authorization else {
        return Ok(());
    };
    let mut value = HeaderValue::try_from(secret.expose())
        .map_err(|_| Failure::new(FailureKind::Refused, "the password of the proxy cannot be sent"))?;
    value.set_sensitive(true);
    headers.insert(PROXY_AUTHORIZATION, value);
    Ok(())
}

/// The body of an answer, and the connection, which goes back into the pool at its end.
struct Incomings {
    incoming: Incoming,
    connection: Option<Connection>,
    origin: Origin,
    pool: Arc<Pool>,
}

impl Body for Incomings {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async {
            while let Some(frame) = self.incoming.frame().await {
                let frame = frame.map_err(|error| Failure::broken("the connection broke in the answer", &error))?;
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            if let Some(connection) = self.connection.take() {
                self.pool.put(&self.origin, connection);
            }
            Ok(None)
        })
    }
}
