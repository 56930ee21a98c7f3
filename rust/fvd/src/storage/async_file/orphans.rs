//! What goes on after the future that began it was dropped.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::aio::{Handoff, Remains, Unfinished};
use crate::error::{Error, Result};

/// All of a file.
pub(super) const EVERYTHING: Range<u64> = 0..u64::MAX;

/// What an operation does to the file, as far as others must know when nobody waits for it.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Nothing: they need not know.
    Reads,
    /// Changes these bytes: later operations on them wait.
    Changes(Range<u64>),
    /// Makes durable: its failure is that of the next sync.
    Syncs,
}

/// The operations of one file that nobody waits for.
#[derive(Default)]
pub(super) struct Orphans {
    /// Of those in the list that do something to the file; to be looked at without the lock.
    count: AtomicUsize,
    list: Mutex<Vec<Orphan>>,
}

struct Orphan {
    effect: Effect,
    operation: Arc<dyn Unfinished>,
}

impl Orphan {
    /// Nobody will ever ask about it again.
    fn is_settled(&self) -> bool {
        let is_owed = matches!(self.effect, Effect::Syncs) && self.operation.failure().is_some();
        self.operation.has_ended() && !is_owed
    }

    fn only_reads(&self) -> bool {
        matches!(self.effect, Effect::Reads)
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        matches!(&self.effect, Effect::Changes(own) if own.start < range.end && range.start < own.end)
    }
}

impl Orphans {
    fn lock(&self) -> MutexGuard<'_, Vec<Orphan>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, list: &mut Vec<Orphan>) {
        list.retain(|orphan| !orphan.is_settled());
        let count = list.iter().filter(|orphan| !orphan.only_reads()).count();
        self.count.store(count, Ordering::Release);
    }

    fn add(&self, effect: Effect, operation: Arc<dyn Unfinished>) {
        let mut list = self.lock();
        list.push(Orphan { effect, operation });
        self.settle(&mut list);
    }

    /// True if there are none but reads.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What is at work.
    pub(super) fn remains(&self) -> Remains {
        let list = self.lock();
        let mut remains = Remains::Nothing;
        for orphan in list.iter().filter(|orphan| !orphan.operation.has_ended()) {
            if !orphan.only_reads() {
                return Remains::Changes;
            }
            remains = Remains::Reads;
        }
        remains
    }

    /// Waits for those that change bytes of `range`.
    pub(super) async fn wait(&self, range: Range<u64>) {
        while let Some(operation) = self.find(|orphan| orphan.touches(&range)) {
            let ended = operation.listen();
            if !operation.has_ended() {
                ended.await;
            }
        }
    }

    /// Waits for all but reads. Fails as the first sync did of which nobody heard.
    pub(super) async fn wait_for_all(&self) -> Result<()> {
        while let Some(operation) = self.find(|orphan| !orphan.only_reads() && !orphan.operation.has_ended()) {
            let ended = operation.listen();
            if !operation.has_ended() {
                ended.await;
            }
        }
        self.take_failure().map_or(Ok(()), Err)
    }

    fn find(&self, wanted: impl Fn(&Orphan) -> bool) -> Option<Arc<dyn Unfinished>> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.lock();
        self.settle(&mut list);
        let found = list.iter().find(|orphan| wanted(orphan));
        found.map(|orphan| Arc::clone(&orphan.operation))
    }

    fn take_failure(&self) -> Option<Error> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.lock();
        let mut failures = Vec::new();
        list.retain(|orphan| match &orphan.effect {
            Effect::Syncs => match orphan.operation.failure() {
                Some(failure) => {
                    failures.push(failure);
                    false
                }
                None => true,
            },
            _ => true,
        });
        self.settle(&mut list);
        failures.into_iter().next()
    }
}

/// A handoff that becomes an orphan when it is dropped before its end; a read that has not been
/// begun then never is.
pub(super) struct Adopted<'a, T: Send + 'static> {
    handoff: Handoff<T>,
    /// None: the result has been seen.
    effect: Option<Effect>,
    orphans: &'a Orphans,
}

impl<'a, T: Send + 'static> Adopted<'a, T> {
    pub(super) fn new(handoff: Handoff<T>, effect: Effect, orphans: &'a Orphans) -> Self {
        Self {
            handoff,
            effect: Some(effect),
            orphans,
        }
    }
}

impl<T: Send + 'static> Future for Adopted<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let result = Pin::new(&mut self.handoff).poll(context);
        if result.is_ready() {
            self.effect = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for Adopted<'_, T> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else { return };
        if !self.handoff.is_own() {
            return;
        }
        if matches!(effect, Effect::Reads) {
            self.handoff.recall();
        }
        self.orphans.add(effect, self.handoff.unfinished());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use pollster::block_on;

    use super::*;
    use crate::aio::{Completer, handoff};
    use crate::error::ErrorKind;

    fn orphan(orphans: &Orphans, effect: Effect) -> Completer<()> {
        let (handoff, completer) = handoff();
        drop(Adopted::new(handoff, effect, orphans));
        completer
    }

    fn is_ready(future: impl Future) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(future).poll(&mut context).is_ready()
    }

    #[test]
    fn later_operations_wait_for_a_dropped_write_on_their_range_alone() {
        let orphans = Orphans::default();
        let write = orphan(&orphans, Effect::Changes(100..200));
        for range in [0..101, 199..300, 150..160, EVERYTHING] {
            assert!(!is_ready(orphans.wait(range.clone())), "{range:?}");
        }
        for range in [0..100, 200..300] {
            assert!(is_ready(orphans.wait(range.clone())), "{range:?}");
        }
        assert!(!is_ready(orphans.wait_for_all()) && orphans.remains() == Remains::Changes);
        write.complete(Ok(()));
        assert!(is_ready(orphans.wait(100..200)) && orphans.remains() == Remains::Nothing);
        assert!(orphans.is_empty());
    }

    #[test]
    fn who_waits_is_woken_by_the_end_of_a_dropped_write() {
        let orphans = Arc::new(Orphans::default());
        let write = orphan(&orphans, Effect::Changes(0..10));
        let waiting = Arc::clone(&orphans);
        let thread = std::thread::spawn(move || block_on(waiting.wait(5..6)));
        write.complete(Err(Error::new(ErrorKind::Io, "nobody was promised anything")));
        thread.join().expect("no panic");
        block_on(orphans.wait_for_all()).expect("the failure of a write that nobody waits for is nobody's");
    }

    #[test]
    fn the_next_sync_fails_with_the_first_failure_of_which_nobody_heard() {
        let orphans = Orphans::default();
        let syncs = [(); 2].map(|()| orphan(&orphans, Effect::Syncs));
        for (kind, sync) in [ErrorKind::NoSpace, ErrorKind::Io].into_iter().zip(syncs) {
            sync.complete(Err(Error::new(kind, "of the test")));
        }
        assert!(is_ready(orphans.wait(EVERYTHING)), "writes do not wait for syncs");
        let error = block_on(orphans.wait_for_all()).expect_err("two have failed");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        block_on(orphans.wait_for_all()).expect("told once");
    }

    #[test]
    fn nobody_waits_for_what_was_seen_or_only_reads() {
        let orphans = Orphans::default();
        let (handoff, completer) = handoff();
        completer.complete(Err::<(), _>(Error::new(ErrorKind::Io, "seen")));
        block_on(Adopted::new(handoff, Effect::Syncs, &orphans)).expect_err("it failed");
        let read = orphan(&orphans, Effect::Reads);
        assert!(orphans.is_empty() && orphans.remains() == Remains::Reads);
        assert!(is_ready(orphans.wait(EVERYTHING)) && is_ready(orphans.wait_for_all()));
        drop(read);
        assert_eq!(orphans.remains(), Remains::Nothing);
    }
}
