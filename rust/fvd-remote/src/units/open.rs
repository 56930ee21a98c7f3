//! Opening an object: from the host cache, or with the first request.

use std::sync::Arc;

use fvd::remote::{Pin, Validator};
use fvd::{Error, Result};

use super::cached::Patience;
use super::template::{Beside, Looked, look};
use super::{Memory, Units};
use crate::cache::{Cache, Cached, Lead};
use crate::fetch::{Fetcher, Source as _, StoreState};
use crate::store::Remote;

/// What is opened, and where it is.
pub(crate) struct Opening {
    pub(crate) url: String,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) store: Arc<StoreState>,
    pub(crate) pin: Option<Pin>,
    pub(crate) cache: Option<Arc<Cache>>,
    /// Where its manifest would be. None: it has none, or none is looked for.
    pub(crate) beside: Option<Beside>,
}

impl Opening {
    /// The first request.
    pub(super) async fn fetcher(&self, pin: Option<&Pin>) -> Result<Fetcher> {
        let (remote, store) = (Arc::clone(&self.remote), Arc::clone(&self.store));
        Fetcher::open(self.url.clone(), remote, store, pin).await
    }
}

impl Units {
    /// Opens an object. Asks the store for nothing if a pin says which object it is, and the cache has its
    /// first unit or its manifest.
    pub(crate) async fn open(memory: &Arc<Memory>, mut opening: Opening) -> Result<Self> {
        let beside = opening.beside.take();
        let pin = opening.pin.clone();
        if let Some(Pin {
            validator: Validator::Manifest(identity),
            ..
        }) = pin.as_ref()
        {
            let pin = pin.as_ref().expect("it has a validator");
            let Some(beside) = beside else {
                return Err(Error::unsupported(
                    "The image stands on a template, and its manifest is beside the object of that name: neither a \
                     presigned URL nor one with a query leads there",
                ));
            };
            return Self::open_pinned(memory, opening, beside, pin, identity).await;
        }
        let Some(beside) = beside else {
            return Self::open_plain(memory, opening, None).await;
        };
        match look(&opening, &beside).await? {
            Looked::Plain(fetcher) => Self::open_plain(memory, opening, Some(fetcher)).await,
            Looked::Template(fetcher, loaded) => Self::open_looked(memory, opening, beside, fetcher, loaded).await,
        }
    }

    /// Opens an object without a manifest. `fetcher`: its first request has been answered.
    async fn open_plain(memory: &Arc<Memory>, opening: Opening, fetcher: Option<Fetcher>) -> Result<Self> {
        let Opening {
            url,
            remote,
            store,
            pin,
            cache,
            beside: _,
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
