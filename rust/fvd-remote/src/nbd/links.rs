//! The connections to one export.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use fvd::Error;
use fvd_nbd::protocol::client::handshake::Opened;
use fvd_nbd::protocol::constants::transmission::CAN_MULTI_CONN;
use tokio::sync::Mutex as AsyncMutex;

use super::connect::Connector;
use super::link::Link;
use crate::fetch::{StoreState, Trouble, changed};
use crate::transport::Failure;

/// Connections to one export, if the server allows several.
const CONNECTIONS: usize = 4;
/// With so many requests under way on each connection, another one is made.
const BUSY: usize = 4;

/// What must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// In bytes.
    pub(super) len: u64,
    /// The minimum block size in bytes.
    pub(super) block: u32,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) enum NoLink {
    Failure(Failure),
    /// It leads to another export.
    Changed(Error),
}

impl From<NoLink> for Trouble {
    fn from(no: NoLink) -> Self {
        match no {
            NoLink::Failure(failure) => failure.into(),
            NoLink::Changed(error) => Self::Permanent(error),
        }
    }
}

pub(super) struct Links {
    connector: Connector,
    store: Arc<StoreState>,
    live: Mutex<Vec<Arc<Link>>>,
    /// How many connections there may be.
    limit: AtomicUsize,
    /// Whether a further one is being made.
    is_growing: AtomicBool,
    /// Held while the first one is made. What the last attempt ended with.
    connecting: AsyncMutex<Option<NoLink>>,
    attempts: AtomicU64,
    shape: OnceLock<Shape>,
    changed: OnceLock<Error>,
}

impl Links {
    pub(super) fn new(connector: Connector, store: Arc<StoreState>) -> Self {
        Self {
            connector,
            store,
            live: Mutex::default(),
            limit: AtomicUsize::new(1),
            is_growing: AtomicBool::new(false),
            connecting: AsyncMutex::default(),
            attempts: AtomicU64::new(0),
            shape: OnceLock::new(),
            changed: OnceLock::new(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self) -> &str {
        &self.connector.name.text
    }

    /// A connection, made if there is none. Many who wait for it share one attempt.
    pub(super) async fn link(self: &Arc<Self>) -> Result<Arc<Link>, NoLink> {
        if let Some(error) = self.changed.get() {
            return Err(NoLink::Changed(error.clone()));
        }
        if let Some(link) = self.best() {
            if link.load() >= BUSY {
                self.grow();
            }
            return Ok(link);
        }
        let attempts = self.attempts.load(Ordering::Relaxed);
        let mut last = self.connecting.lock().await;
        if let Some(link) = self.best() {
            return Ok(link);
        }
        if self.attempts.load(Ordering::Relaxed) != attempts
            && let Some(no) = &*last
        {
            return Err(no.clone());
        }
        self.attempts.fetch_add(1, Ordering::Relaxed);
        *last = None;
        let made = self.connect().await;
        match &made {
            Ok(link) => {
                let allows_more = link.opened.flags & CAN_MULTI_CONN != 0;
                self.limit
                    .store(if allows_more { CONNECTIONS } else { 1 }, Ordering::Relaxed);
            }
            Err(no) => *last = Some(no.clone()),
        }
        made
    }

    /// The connection with the least to do.
    fn best(&self) -> Option<Arc<Link>> {
        let mut live = self.live();
        live.retain(|link| link.is_alive());
        live.iter().min_by_key(|link| link.load()).cloned()
    }

    /// Makes another connection, if there may be one. None of those who read waits for it.
    fn grow(self: &Arc<Self>) {
        let is_full = self.live().len() >= self.limit.load(Ordering::Relaxed);
        if is_full || self.is_growing.swap(true, Ordering::Relaxed) {
            return;
        }
        let links = Arc::downgrade(self);
        drop(tokio::spawn(grow(links)));
    }

    async fn connect(&self) -> Result<Arc<Link>, NoLink> {
        let connected = self.connector.connect().await;
        let (stream, opened) = connected.map_err(NoLink::Failure)?;
        self.check(&opened)?;
        let link = Arc::new(Link::start(stream, opened, Arc::clone(&self.store)));
        self.live().push(Arc::clone(&link));
        Ok(link)
    }

    /// Fails for good if this is another export than before.
    fn check(&self, opened: &Opened) -> Result<(), NoLink> {
        let found = Shape {
            len: opened.size,
            block: opened.block_sizes.minimum,
        };
        let expected = *self.shape.get_or_init(|| found);
        if expected == found {
            return Ok(());
        }
        let shown = |shape: Shape| format!("{} bytes in blocks of at least {}", shape.len, shape.block);
        let now = format!("There is now an export of {}", shown(found));
        let error = changed(self.url(), &shown(expected), &now);
        let error = self.changed.get_or_init(|| error).clone();
        Err(NoLink::Changed(error))
    }
}

async fn grow(links: Weak<Links>) {
    let Some(links) = links.upgrade() else { return };
    if links.connect().await.is_err() {
        // A server that allows several may still have no room for one more. The others go on.
        let count = links.live().len().max(1);
        links.limit.store(count, Ordering::Relaxed);
    }
    links.is_growing.store(false, Ordering::Relaxed);
}
