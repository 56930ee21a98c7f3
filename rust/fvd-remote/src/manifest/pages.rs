//! Hashes of chunks: pages of them are fetched when they are needed, and some are kept.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fvd::{Error, ErrorKind};

use super::head::{Chunk, HASH, Hash, Head, PAGE_HASHES, hash};
use super::kept::Kept;
use super::load::Loaded;
use super::place::Place;
use crate::fetch::Trouble;

/// Pages of a template that are kept in memory: for 64 GiB of data.
const PAGES: usize = 32;

/// Sets memory aside.
pub(crate) trait Budget: Send + Sync {
    /// `bytes` of it, until the result is dropped.
    fn charge(&self, bytes: u64) -> Box<dyn Send + Sync>;
}

/// The manifest of an open template.
pub(crate) struct Pages {
    head: Head,
    identity: Hash,
    place: Place,
    kept: Kept,
    budget: Box<dyn Budget>,
    /// The page that was used last comes first.
    recent: Mutex<VecDeque<Page>>,
    /// Held while a page is fetched: so each is fetched once. Only tasks of the I/O thread wait for it.
    loading: tokio::sync::Mutex<()>,
}

struct Page {
    number: u64,
    bytes: Bytes,
    _memory: Box<dyn Send + Sync>,
}

impl Pages {
    pub(crate) fn new(loaded: Loaded, place: Place, kept: Kept, budget: Box<dyn Budget>) -> Self {
        let pages = Self {
            head: loaded.head,
            identity: loaded.identity,
            place,
            kept,
            budget,
            recent: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
        };
        for (number, bytes) in (0..).zip(loaded.pages) {
            pages.keep(number, bytes.into());
        }
        pages
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn identity(&self) -> &Hash {
        &self.identity
    }

    /// Waits until what goes to the host cache is there. Blocks.
    pub(crate) fn settle(&self) {
        if let Some(cached) = &self.kept.0 {
            cached.settle();
        }
    }

    /// The hash of each of `chunks`. None: the chunk is zeros.
    pub(crate) async fn hashes(&self, chunks: Range<u64>, is_retry: bool) -> Result<Vec<Option<Hash>>, Trouble> {
        let mut hashes = Vec::new();
        for chunk in chunks {
            hashes.push(match self.head.chunk(chunk).0 {
                Chunk::Zeros => None,
                Chunk::Data(number) => Some(self.hash(number, is_retry).await?),
            });
        }
        Ok(hashes)
    }

    async fn hash(&self, number: u64, is_retry: bool) -> Result<Hash, Trouble> {
        let page = self.page(number / PAGE_HASHES, is_retry).await?;
        let at = (number % PAGE_HASHES) as usize * HASH;
        Ok(page[at..at + HASH].try_into().expect("the length of a hash"))
    }

    async fn page(&self, number: u64, is_retry: bool) -> Result<Bytes, Trouble> {
        if let Some(bytes) = self.find(number) {
            return Ok(bytes);
        }
        let _loading = self.loading.lock().await;
        if let Some(bytes) = self.find(number) {
            return Ok(bytes);
        }
        let range = self.head.page_range(number);
        let expected = &self.head.pages()[number as usize];
        let kept = self.kept.page(number, (range.end - range.start) as usize).await;
        if let Some(bytes) = kept.filter(|bytes| hash(bytes) == *expected) {
            self.keep(number, bytes.clone());
            return Ok(bytes);
        }
        let bytes = self.fetch(number, range, expected, is_retry).await?;
        if !self.place.remote.has_left_host() {
            self.kept.store_page(number, &bytes).await;
        }
        self.keep(number, bytes.clone());
        Ok(bytes)
    }

    /// Gets a page. One that is damaged is fetched once more, over another connection.
    async fn fetch(&self, number: u64, range: Range<u64>, expected: &Hash, is_retry: bool) -> Result<Bytes, Trouble> {
        for is_fresh in [is_retry, true] {
            let part = self.place.get(range.clone(), is_fresh, |_| false).await;
            let part = part.map_err(|trouble| match trouble {
                Trouble::Permanent(error) => Trouble::Permanent(error.with_path(&self.place.url)),
                other => other,
            })?;
            if hash(&part.bytes) == *expected {
                return Ok(part.bytes.into());
            }
            tracing::warn!(url = %self.place.url, page = number, "a page of a manifest is damaged");
        }
        let text = format!("Page {number} of the manifest is damaged, twice in a row");
        Err(Trouble::Permanent(
            Error::new(ErrorKind::Io, text).with_path(&self.place.url),
        ))
    }

    fn find(&self, number: u64) -> Option<Bytes> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|page| page.number == number)?;
        let page = recent.remove(at)?;
        let bytes = page.bytes.clone();
        recent.push_front(page);
        Some(bytes)
    }

    fn keep(&self, number: u64, bytes: Bytes) {
        let page = Page {
            number,
            _memory: self.budget.charge(bytes.len() as u64),
            bytes,
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(page);
        let kept = PAGES.min(recent.len());
        let dropped = recent.split_off(kept);
        drop(recent);
        drop(dropped);
    }
}
