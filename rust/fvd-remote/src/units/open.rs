//! Opening an object: from the host cache, or with the first request.

use std::sync::Arc;
use std::time::Duration;

use fvd::remote::{Pin, Validator};
use fvd::storage::IoBufMut;
use fvd::{Error, Result};
use tokio::task;
use tokio::time::{sleep, timeout};

use super::cached::Patience;
use super::template::{Looked, Sidecars, look};
use super::{Memory, Units};
use crate::cache::{Cache, Cached, Lead};
use crate::fetch::{Fetcher, Source as _, StoreState};
use crate::store::Remote;
use crate::transport::io_thread;

/// How long an object stays open after it was opened without a pin.
const LINGER: Duration = Duration::from_secs(5);

/// How long the first unit may take to come after its head.
const BODY: Duration = Duration::from_secs(1);

/// What is opened, and where it is.
pub(crate) struct Opening {
    pub(crate) url: String,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) store: Arc<StoreState>,
    pub(crate) pin: Option<Pin>,
    pub(crate) cache: Option<Arc<Cache>>,
    /// The object of the pin, as another file has it open.
    pub(crate) already_open: Option<Arc<Units>>,
    /// Where its manifest would be. None: it has none, or none is looked for.
    pub(crate) sidecars: Option<Sidecars>,
}

impl Opening {
    /// The first request.
    pub(super) async fn fetcher(&self, pin: Option<&Pin>) -> Result<Fetcher> {
        let (remote, store) = (Arc::clone(&self.remote), Arc::clone(&self.store));
        Fetcher::open(self.url.clone(), remote, store, pin).await
    }
}

impl Units {
    /// Opens an object. Asks the store for nothing if a pin says which object it is, and the first unit is in
    /// memory, or the cache has it or its manifest.
    pub(crate) async fn open(memory: &Arc<Memory>, mut opening: Opening) -> Result<Self> {
        let sidecars = opening.sidecars.take();
        let pin = opening.pin.clone();
        if let Some(Pin {
            validator: Validator::Manifest(identity),
            ..
        }) = pin.as_ref()
        {
            let pin = pin.as_ref().expect("it has a validator");
            let Some(sidecars) = sidecars else {
                return Err(Error::unsupported(
                    "The image stands on a template, and its manifest is next to the object of that name: neither a \
                     presigned URL nor one with a query leads there",
                ));
            };
            return Self::open_pinned(memory, opening, sidecars, pin, identity).await;
        }
        let Some(sidecars) = sidecars else {
            return Self::open_plain(memory, opening, None).await;
        };
        match look(&opening, &sidecars).await? {
            Looked::Plain(fetcher) => Self::open_plain(memory, opening, Some(fetcher)).await,
            Looked::Template(fetcher, loaded) => Self::open_looked(memory, opening, sidecars, fetcher, loaded).await,
        }
    }

    /// Opens an object without a manifest. `fetcher`: its first request has been answered.
    async fn open_plain(memory: &Arc<Memory>, opening: Opening, fetcher: Option<Fetcher>) -> Result<Self> {
        if let Some(units) = Self::take_over(memory, &opening).await? {
            return Ok(units);
        }
        let Opening {
            url,
            remote,
            store,
            pin,
            cache,
            already_open: _,
            sidecars: _,
        } = opening;
        let Some(cache) = cache else {
            let fetcher = match fetcher {
                Some(fetcher) => fetcher,
                None => Fetcher::open(url, remote, store, pin.as_ref()).await?,
            };
            return Ok(Self::new(memory, Arc::new(fetcher)));
        };
        let mut cached = None;
        let mut leads = Vec::new();
        if let Some(pin) = &pin {
            cached = cache.object(&url, pin).await?;
            let fetcher = Fetcher::pinned(url.clone(), Arc::clone(&remote), Arc::clone(&store), pin);
            match first_unit(cached.as_ref(), &store).await {
                First::Cached => return Ok(Self::with_cache(memory, Arc::new(fetcher), cached, Vec::new())),
                First::Fetched(some) => leads = some,
            }
        }
        let fetcher = match fetcher {
            Some(fetcher) => fetcher,
            None => Fetcher::open(url.clone(), remote, store, pin.as_ref()).await?,
        };
        if pin.is_none() {
            cached = cache.object(&url, &fetcher.identity.pin()).await?;
            if let Some(cached) = &cached {
                leads = cached.elect(vec![0]).await.leads;
            }
        }
        if fetcher.has_left_host() {
            // It will not be stored, so others need not wait for it.
            leads.clear();
        }
        Ok(Self::with_cache(memory, Arc::new(fetcher), cached, leads))
    }
}

impl Units {
    /// The object of the pin with what another file of it has in memory. Asks the store for nothing. None: the first
    /// unit does not come soon, or a redirect has led the other file to another host (K9).
    async fn take_over(memory: &Arc<Memory>, opening: &Opening) -> Result<Option<Self>> {
        let (Some(pin), Some(other)) = (&opening.pin, &opening.already_open) else {
            return Ok(None);
        };
        let first = timeout(BODY, other.read(IoBufMut::zeroed(1), 0)).await;
        if !matches!(first, Ok(Ok(_))) {
            return Ok(None);
        }
        let cached = match &opening.cache {
            Some(cache) => cache.object(&opening.url, pin).await?,
            None => None,
        };
        // All answers come on this thread: none comes between this and the copy.
        if other.source.has_left_host() {
            return Ok(None);
        }
        let (remote, store) = (Arc::clone(&opening.remote), Arc::clone(&opening.store));
        let fetcher = Fetcher::pinned(opening.url.clone(), remote, store, pin);
        let units = Self::with_cache(memory, Arc::new(fetcher), cached, Vec::new());
        memory.copy(other.id, units.id);
        Ok(Some(units))
    }
}

/// Keeps an object open for some seconds. Who asks what an object is (`create`) often opens it next, and then
/// nothing need be asked again.
pub(crate) fn linger(units: Arc<Units>) {
    // If there is no I/O thread, the object is closed now.
    _ = io_thread::spawn(async move {
        sleep(LINGER).await;
        // The end of an object may wait for the host cache.
        _ = task::spawn_blocking(move || drop(units)).await;
    });
}

/// Where the first unit comes from.
enum First {
    Cached,
    /// The store, and if there are leads, no other process asks for it.
    Fetched(Vec<Lead>),
}

async fn first_unit(cached: Option<&Cached>, store: &StoreState) -> First {
    let Some(cached) = cached else {
        return First::Fetched(Vec::new());
    };
    let mut patience = Patience::new(store);
    loop {
        let elected = cached.elect(vec![0]).await;
        if !elected.found.is_empty() {
            return First::Cached;
        }
        if elected.is_unusable || !elected.leads.is_empty() || !patience.wait(store).await {
            return First::Fetched(elected.leads);
        }
    }
}
