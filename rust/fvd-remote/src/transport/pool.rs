//! Connections that wait for their next request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) is_https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

pub(super) type Connection = SendRequest<Full<Bytes>>;

/// Servers and the firewalls on the way forget idle connections, some after a minute and without a word.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 16;

struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Origin, Vec<Idle>>>);

impl Pool {
    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Idle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is ready, the last used one first.
    pub(super) async fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let idle = self.lock().get_mut(origin)?.pop()?;
            let mut connection = idle.connection;
            if idle.since.elapsed() < IDLE_LIMIT && connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read.
    pub(super) fn put(&self, origin: &Origin, connection: Connection) {
        let mut pool = self.lock();
        let idle = pool.entry(origin.clone()).or_default();
        idle.retain(|idle| idle.since.elapsed() < IDLE_LIMIT && !idle.connection.is_closed());
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }
}
