//! Requests and answers. What is above this folder names no HTTP library but the types of the crate `http`.

mod address;
mod client;
mod connect;
mod failure;
pub(crate) mod io_thread;
mod pool;
mod proxy;
mod stream;
mod tls;

use bytes::Bytes;
use fvd::host::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

pub(crate) use address::AddressRule;
pub(crate) use client::Client;
pub(crate) use failure::{Failure, FailureKind};
pub(crate) use proxy::Proxies;
pub(crate) use stream::{Stream, dial, dial_unix, tls};
pub(crate) use tls::{TlsIdentity, TlsRoots, config as tls_config};

/// A request. The body is empty for `GET`.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// On a connection that nothing else has used: after a failure, the old ones are suspect.
    pub(crate) is_fresh: bool,
}

impl Request {
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            is_fresh: false,
        }
    }
}

/// An answer whose body has not been read. Dropping it closes the connection.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Box<dyn Body>,
}

/// The body of an answer, as it arrives.
pub(crate) trait Body: Send {
    /// The next piece. None at the end, which is the end that the head of the answer has announced.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>>;
}

/// Sends requests. One attempt each: no retry, no redirect, no time limit except for connecting.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Ends when the head of the answer is there.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, Failure>>;
}

/// At most `limit` bytes of a body.
pub(crate) async fn read_up_to(body: &mut dyn Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await? {
        let room = limit - all.len();
        all.extend_from_slice(&piece[..piece.len().min(room)]);
        if all.len() == limit {
            break;
        }
    }
    Ok(all)
}
