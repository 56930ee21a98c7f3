//! Bytes of a manifest in the host cache: units 0 to 7 are the head, unit 8 + n is page n, each filled up with zeros.

use std::sync::Arc;

use bytes::Bytes;
use fvd::remote::{Pin, Validator};

use super::head::{Hash, Head, MAX_HEAD, PAGE, PAGE_HASHES, hash, head_len};
use super::load::Loaded;
use crate::cache::Cached;
use crate::fetch::UNIT;

/// The first unit with a page.
const PAGES: u64 = MAX_HEAD / UNIT;

const _: () = assert!(PAGE == UNIT, "a page is a unit");

/// Which object of the host cache has the manifest of a template: its name is the URL of the manifest. Its length
/// must follow from the pin alone, so it is that of the longest manifest.
pub(crate) fn label(len: u64, identity: Hash) -> Pin {
    let pages = len.div_ceil(UNIT).div_ceil(PAGE_HASHES);
    Pin {
        len: (PAGES + pages) * UNIT,
        validator: Validator::Manifest(identity),
    }
}

/// The manifest in the host cache, if there is one.
pub(crate) struct Kept(pub(crate) Option<Arc<Cached>>);

impl Kept {
    /// The head with this identity. The cache is on a disk, so it is checked again.
    pub(crate) async fn head(&self, len: u64, identity: &Hash) -> Option<Loaded> {
        let cached = self.0.as_ref()?;
        let mut bytes = cached.find(vec![0]).await.pop()?.1.to_vec();
        let end = head_len(&bytes).ok()?;
        for unit in 1..end.div_ceil(UNIT) {
            bytes.extend_from_slice(&cached.find(vec![unit]).await.pop()?.1);
        }
        bytes.truncate(end as usize);
        let head = Head::decode(&bytes).ok()?;
        (hash(&bytes) == *identity && head.len() == len).then(|| Loaded {
            head,
            identity: *identity,
            bytes,
            pages: Vec::new(),
        })
    }

    /// The bytes of a page of `len` bytes. Who reads them checks them.
    pub(crate) async fn page(&self, page: u64, len: usize) -> Option<Bytes> {
        let unit = self.0.as_ref()?.find(vec![PAGES + page]).await.pop()?.1;
        (len <= unit.len()).then(|| unit.slice(..len))
    }

    /// Stores a head and the pages that came with it.
    pub(crate) async fn store(&self, loaded: &Loaded) {
        for (unit, bytes) in (0..).zip(loaded.bytes.chunks(UNIT as usize)) {
            self.put(unit, bytes).await;
        }
        for (page, bytes) in (0..).zip(&loaded.pages) {
            self.store_page(page, bytes).await;
        }
    }

    pub(crate) async fn store_page(&self, page: u64, bytes: &[u8]) {
        self.put(PAGES + page, bytes).await;
    }

    async fn put(&self, unit: u64, bytes: &[u8]) {
        let Some(cached) = &self.0 else { return };
        for lead in cached.elect(vec![unit]).await.leads {
            let mut whole = bytes.to_vec();
            whole.resize(UNIT as usize, 0);
            cached.store(lead, whole.into(), cached.storing(), || {});
        }
    }
}
