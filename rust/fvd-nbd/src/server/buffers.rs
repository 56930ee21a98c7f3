//! Reuse of memory for data. The kernel must map and zero new memory, which costs more than the rest of a
//! long request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fvd::storage::IoBufMut;

/// The maximum number of bytes that one connection keeps for reuse.
const KEPT: usize = 4 << 20;

/// The buffers of one connection. They are never shared between connections: if a disk reports that it filled
/// a buffer and did not, the client then sees only data that it has seen before.
#[derive(Clone, Debug)]
pub(super) struct Buffers(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// In the order in which they were returned.
    buffers: Vec<IoBufMut>,
    bytes: usize,
    /// The number of bytes that all connections keep. It never exceeds `most`.
    all: Arc<AtomicUsize>,
    most: usize,
}

impl Buffers {
    /// An empty pool. `all` counts the bytes that all connections keep, at most `most`.
    pub(super) fn new(all: Arc<AtomicUsize>, most: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            buffers: Vec::new(),
            bytes: 0,
            all,
            most,
        })))
    }

    /// A buffer of `length` bytes with undefined content.
    pub(super) fn take(&self, length: usize) -> IoBufMut {
        let known = self.lock().take(length);
        known.unwrap_or_else(|| IoBufMut::zeroed(length))
    }

    /// Wraps a buffer so that it returns to the pool when it is dropped.
    pub(super) fn lease(&self, buffer: IoBufMut) -> Leased {
        Leased {
            buffer: Some(buffer),
            buffers: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, length: usize) -> Option<IoBufMut> {
        // The most recently returned buffer is the one most likely still in the CPU cache.
        let place = self.buffers.iter().rposition(|buffer| buffer.len() == length)?;
        self.forget(length);
        Some(self.buffers.remove(place))
    }

    fn put(&mut self, buffer: IoBufMut) {
        let length = buffer.len();
        while self.bytes + length > KEPT && !self.buffers.is_empty() {
            let oldest = self.buffers.remove(0);
            self.forget(oldest.len());
        }
        if self.bytes + length > KEPT {
            return;
        }
        if self.all.fetch_add(length, Ordering::Relaxed) + length > self.most {
            self.all.fetch_sub(length, Ordering::Relaxed);
            return;
        }
        self.bytes += length;
        self.buffers.push(buffer);
    }

    fn forget(&mut self, length: usize) {
        self.bytes -= length;
        self.all.fetch_sub(length, Ordering::Relaxed);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A buffer that returns to its pool on drop. See [`Buffers::lease`].
#[derive(Debug)]
pub(super) struct Leased {
    /// None only during drop.
    buffer: Option<IoBufMut>,
    buffers: Buffers,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], IoBufMut::as_slice)
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.lock().put(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(most: usize) -> (Buffers, Arc<AtomicUsize>) {
        let all = Arc::new(AtomicUsize::new(0));
        (Buffers::new(Arc::clone(&all), most), all)
    }

    #[test]
    fn a_buffer_returns_to_the_pool_when_its_data_is_sent() {
        let (buffers, all) = buffers(KEPT);
        let mut first = buffers.take(4096);
        first.as_mut_slice().fill(7);
        drop(buffers.lease(first));
        assert_eq!(all.load(Ordering::Relaxed), 4096);
        assert_eq!(buffers.take(8192).as_slice()[0], 0, "of another length");
        assert_eq!(buffers.take(4096).as_slice()[0], 7);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn kept_memory_is_limited_per_connection_and_in_total() {
        let (first, all) = buffers(2 * KEPT - 1);
        for length in [512, KEPT / 2, KEPT / 2, KEPT + 1] {
            drop(first.lease(IoBufMut::zeroed(length)));
            assert!(all.load(Ordering::Relaxed) <= KEPT);
        }
        drop(first.lease(IoBufMut::zeroed(KEPT)));
        assert_eq!(all.load(Ordering::Relaxed), KEPT);
        let second = Buffers::new(Arc::clone(&all), 2 * KEPT - 1);
        drop(second.lease(IoBufMut::zeroed(KEPT)));
        assert_eq!(all.load(Ordering::Relaxed), KEPT, "it would be too much for all");
        drop(first);
        assert_eq!(all.load(Ordering::Relaxed), 0, "nothing is kept for one that has gone");
    }
}
