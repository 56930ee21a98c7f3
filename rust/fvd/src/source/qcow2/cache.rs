//! Caches tables and decompressed clusters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The layer of the chain, and the offset in its file, in bytes.
pub(super) type Key = (u32, u64);

/// An LRU cache with a limit in bytes.
pub(super) struct Cache<T: ?Sized> {
    kept: Mutex<Kept<T>>,
    most_bytes: usize,
}

struct Kept<T: ?Sized> {
    entries: HashMap<Key, Entry<T>>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

struct Entry<T: ?Sized> {
    value: Arc<T>,
    bytes: usize,
    used: u64,
}

impl<T: ?Sized> Cache<T> {
    pub(super) fn new(most_bytes: usize) -> Self {
        let kept = Kept {
            entries: HashMap::new(),
            bytes: 0,
            now: 0,
        };
        Self {
            kept: Mutex::new(kept),
            most_bytes,
        }
    }

    /// A panic leaves no half-changed state, so poisoning is ignored.
    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: Key) -> Option<Arc<T>> {
        let mut kept = self.kept();
        kept.now += 1;
        let now = kept.now;
        let entry = kept.entries.get_mut(&key)?;
        entry.used = now;
        Some(Arc::clone(&entry.value))
    }

    /// Adds `value`, which takes `bytes` bytes. Drops the least recently used entries to make room.
    pub(super) fn put(&self, key: Key, value: &Arc<T>, bytes: usize) {
        let mut kept = self.kept();
        while kept.bytes + bytes > self.most_bytes && !kept.entries.is_empty() {
            kept.drop_oldest();
        }
        kept.now += 1;
        let entry = Entry {
            value: Arc::clone(value),
            bytes,
            used: kept.now,
        };
        kept.bytes += bytes;
        if let Some(before) = kept.entries.insert(key, entry) {
            kept.bytes -= before.bytes;
        }
    }
}

impl<T: ?Sized> Kept<T> {
    fn drop_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        if let Some(key) = oldest.map(|(key, _)| *key)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recently_used_entries_stay() {
        let cache = Cache::<[u8]>::new(30);
        let value: Arc<[u8]> = Arc::new([1; 10]);
        for at in 0..3 {
            cache.put((0, at), &value, 10);
        }
        assert!(cache.get((0, 0)).is_some());
        cache.put((1, 0), &value, 10);
        let kept: Vec<_> = [(0, 0), (0, 1), (0, 2), (1, 0)]
            .map(|key| cache.get(key).is_some())
            .into();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn a_repeated_put_counts_once_and_a_large_value_is_alone() {
        let cache = Cache::<[u8]>::new(30);
        let value: Arc<[u8]> = Arc::new([1; 20]);
        cache.put((0, 0), &value, 20);
        cache.put((0, 0), &value, 20);
        assert_eq!(cache.kept().bytes, 20);
        cache.put((0, 1), &value, 50);
        assert!(cache.get((0, 0)).is_none() && cache.get((0, 1)).is_some());
    }
}
