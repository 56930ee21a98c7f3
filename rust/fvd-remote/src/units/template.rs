//! Opening an object that has a manifest.

use std::sync::Arc;

use fvd::remote::{Pin, Validator};
use fvd::{Error, ErrorKind, Result};
use tokio::try_join;

use super::{Memory, Opening, Units};
use crate::cache::Cache;
use crate::fetch::{Fetcher, Source};
use crate::identity::Identity;
use crate::manifest::{Hash, Kept, Loaded, Pages, Place, Verified, label, load};

/// Where the sidecars of a template are.
pub(crate) struct Sidecars {
    pub(crate) manifest: Place,
    pub(crate) profile: Place,
}

/// What is known of an object after its manifest was looked for.
pub(super) enum Looked {
    /// It has none.
    Plain(Fetcher),
    Template(Fetcher, Loaded),
}

/// Opens an object of which nothing is known. Both first requests are sent at once.
pub(super) async fn look(opening: &Opening, sidecars: &Sidecars) -> Result<Looked> {
    let generation = opening.remote.generation();
    let place = &sidecars.manifest;
    let (fetcher, mut loaded) = try_join!(opening.fetcher(None), load(place, None))?;
    if loaded.is_none() && opening.remote.generation() != generation {
        // The credentials had expired: the manifest may have been refused for that alone.
        loaded = load(place, None).await?;
    }
    let Some(loaded) = loaded else {
        return Ok(Looked::Plain(fetcher));
    };
    let (len, found) = (loaded.head.len(), fetcher.identity.len);
    if len != found {
        let text = format!(
            "The manifest is of an object of {len} bytes, and the object has {found}: it was replaced without \
             `fvd publish`. Publish it again, remove the manifest, or set `manifest = false` for this URL in the \
             configuration"
        );
        return Err(Error::new(ErrorKind::Io, text).with_path(&place.url));
    }
    Ok(Looked::Template(fetcher, loaded))
}

impl Units {
    /// Opens the object of a pin that names a manifest. If the host cache has the manifest, nothing is asked of the
    /// store.
    pub(super) async fn open_pinned(
        memory: &Arc<Memory>,
        opening: Opening,
        sidecars: Sidecars,
        pin: &Pin,
        identity: &Hash,
    ) -> Result<Self> {
        let kept = kept(opening.cache.as_ref(), &sidecars.manifest, pin.len, *identity).await?;
        if let Some(loaded) = kept.head(pin.len, identity).await {
            let Opening { url, remote, store, .. } = &opening;
            let fetcher = Fetcher::pinned(url.clone(), Arc::clone(remote), Arc::clone(store), pin);
            return Self::verified(memory, opening, sidecars, fetcher, loaded, kept).await;
        }
        // Any object of this length will do: each unit of it is checked.
        let any = Pin {
            len: pin.len,
            validator: Validator::Length,
        };
        let (fetcher, loaded) = try_join!(
            opening.fetcher(Some(&any)),
            load(&sidecars.manifest, Some((pin.len, identity)))
        )?;
        let loaded = loaded.expect("one that is wanted is there, or an error says why not");
        Self::verified(memory, opening, sidecars, fetcher, loaded, kept).await
    }

    /// An object with its manifest, which may have come with the fetcher.
    pub(super) async fn open_looked(
        memory: &Arc<Memory>,
        opening: Opening,
        sidecars: Sidecars,
        fetcher: Fetcher,
        loaded: Loaded,
    ) -> Result<Self> {
        let (len, identity) = (loaded.head.len(), loaded.identity);
        let kept = kept(opening.cache.as_ref(), &sidecars.manifest, len, identity).await?;
        Self::verified(memory, opening, sidecars, fetcher, loaded, kept).await
    }

    async fn verified(
        memory: &Arc<Memory>,
        opening: Opening,
        sidecars: Sidecars,
        mut fetcher: Fetcher,
        loaded: Loaded,
        kept: Kept,
    ) -> Result<Self> {
        let pin = Pin {
            len: loaded.head.len(),
            validator: Validator::Manifest(loaded.identity),
        };
        // Other marks of the object may change: a copy of it on another server has others.
        fetcher.identity = Identity::pinned(&pin);
        if !sidecars.manifest.remote.has_left_host() {
            kept.store(&loaded).await;
        }
        let mut cached = None;
        let mut leads = Vec::new();
        if let Some(cache) = &opening.cache {
            cached = cache.object(&opening.url, &pin).await?;
            if let Some(cached) = cached
                .as_ref()
                .filter(|_| fetcher.begun() > 0 && !fetcher.has_left_host())
            {
                leads = cached.elect(vec![0]).await.leads;
            }
        }
        let source = Verified {
            object: Arc::new(fetcher),
            pages: Pages::new(loaded, sidecars.manifest, kept, Box::new(Arc::clone(memory))),
            profile: Arc::new(sidecars.profile),
        };
        Ok(Self::with_cache(memory, Arc::new(source), cached, leads))
    }
}

async fn kept(cache: Option<&Arc<Cache>>, place: &Place, len: u64, identity: Hash) -> Result<Kept> {
    let Some(cache) = cache else { return Ok(Kept(None)) };
    let cached = cache.object(&place.url, &label(len, identity)).await?;
    Ok(Kept(cached.map(Arc::new)))
}
