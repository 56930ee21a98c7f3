//! Operations that continue after the future that began them was dropped.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::aio::{Receiver, Remains, Unfinished};
use crate::error::{Error, Result};

/// The whole file.
pub(super) const EVERYTHING: Range<u64> = 0..u64::MAX;

/// What an operation does to the file. Later operations must know it if its future is dropped.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Changes nothing. Later operations need not know of it.
    Reads,
    /// Changes these bytes. Later operations on them wait.
    Changes(Range<u64>),
    /// Makes data durable. The next sync reports its failure.
    Syncs,
}

/// For records: a verb, and the range in bytes if there is one.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reads => f.write_str("read"),
            Self::Changes(range) if *range == EVERYTHING => f.write_str("change"),
            Self::Changes(range) => write!(f, "change {}+{}", range.start, range.end - range.start),
            Self::Syncs => f.write_str("sync"),
        }
    }
}

/// The operations of one file whose futures were dropped.
#[derive(Default)]
pub(super) struct DetachedOps {
    /// How many in the list are not reads. For a check without the lock.
    count: AtomicUsize,
    list: Mutex<Vec<DetachedOp>>,
}

struct DetachedOp {
    effect: Effect,
    operation: Arc<dyn Unfinished>,
}

impl DetachedOp {
    /// Whether no later operation needs to know of it.
    fn is_done(&self) -> bool {
        let has_failure_to_report = matches!(self.effect, Effect::Syncs) && self.operation.failure().is_some();
        self.operation.has_ended() && !has_failure_to_report
    }

    fn only_reads(&self) -> bool {
        matches!(self.effect, Effect::Reads)
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        matches!(&self.effect, Effect::Changes(own) if own.start < range.end && range.start < own.end)
    }
}

impl DetachedOps {
    fn lock(&self) -> MutexGuard<'_, Vec<DetachedOp>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune(&self, list: &mut Vec<DetachedOp>) {
        list.retain(|op| !op.is_done());
        let count = list.iter().filter(|op| !op.only_reads()).count();
        self.count.store(count, Ordering::Release);
    }

    fn add(&self, effect: Effect, operation: Arc<dyn Unfinished>) {
        let mut list = self.lock();
        list.push(DetachedOp { effect, operation });
        self.prune(&mut list);
    }

    /// True if there are none, or only reads.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What is in flight.
    pub(super) fn remains(&self) -> Remains {
        let list = self.lock();
        let mut remains = Remains::Nothing;
        for op in list.iter().filter(|op| !op.operation.has_ended()) {
            if !op.only_reads() {
                return Remains::Changes;
            }
            remains = Remains::Reads;
        }
        remains
    }

    /// Waits for those that change bytes of `range`.
    pub(super) async fn wait(&self, range: Range<u64>) {
        while let Some(operation) = self.find(|op| op.touches(&range)) {
            let ended = operation.listen();
            if !operation.has_ended() {
                ended.await;
            }
        }
    }

    /// Waits for all but reads. Fails with the error of the first detached sync that failed.
    pub(super) async fn wait_for_all(&self) -> Result<()> {
        while let Some(operation) = self.find(|op| !op.only_reads() && !op.operation.has_ended()) {
            let ended = operation.listen();
            if !operation.has_ended() {
                ended.await;
            }
        }
        self.take_failure().map_or(Ok(()), Err)
    }

    fn find(&self, wanted: impl Fn(&DetachedOp) -> bool) -> Option<Arc<dyn Unfinished>> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.lock();
        self.prune(&mut list);
        let found = list.iter().find(|op| wanted(op));
        found.map(|op| Arc::clone(&op.operation))
    }

    fn take_failure(&self) -> Option<Error> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.lock();
        let mut failures = Vec::new();
        list.retain(|op| match &op.effect {
            Effect::Syncs => match op.operation.failure() {
                Some(failure) => {
                    failures.push(failure);
                    false
                }
                None => true,
            },
            _ => true,
        });
        self.prune(&mut list);
        failures.into_iter().next()
    }
}

/// A receiver whose operation becomes detached when this is dropped before its end. A read that has not begun
/// is dropped instead.
pub(super) struct DetachOnDrop<'a, T: Send + 'static> {
    receiver: Receiver<T>,
    /// None: the result was delivered.
    effect: Option<Effect>,
    detached: &'a DetachedOps,
}

impl<'a, T: Send + 'static> DetachOnDrop<'a, T> {
    pub(super) fn new(receiver: Receiver<T>, effect: Effect, detached: &'a DetachedOps) -> Self {
        Self {
            receiver,
            effect: Some(effect),
            detached,
        }
    }
}

impl<T: Send + 'static> Future for DetachOnDrop<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let result = Pin::new(&mut self.receiver).poll(context);
        if result.is_ready() {
            self.effect = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for DetachOnDrop<'_, T> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else { return };
        if !self.receiver.is_own() {
            return;
        }
        if matches!(effect, Effect::Reads) {
            self.receiver.recall();
        }
        self.detached.add(effect, self.receiver.unfinished());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use pollster::block_on;

    use super::*;
    use crate::aio::{Sender, oneshot};
    use crate::error::ErrorKind;

    fn op(detached: &DetachedOps, effect: Effect) -> Sender<()> {
        let (receiver, sender) = oneshot();
        drop(DetachOnDrop::new(receiver, effect, detached));
        sender
    }

    fn is_ready(future: impl Future) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(future).poll(&mut context).is_ready()
    }

    #[test]
    fn later_operations_wait_for_a_dropped_write_on_their_range() {
        let detached = DetachedOps::default();
        let write = op(&detached, Effect::Changes(100..200));
        for range in [0..101, 199..300, 150..160, EVERYTHING] {
            assert!(!is_ready(detached.wait(range.clone())), "{range:?}");
        }
        for range in [0..100, 200..300] {
            assert!(is_ready(detached.wait(range.clone())), "{range:?}");
        }
        assert!(!is_ready(detached.wait_for_all()) && detached.remains() == Remains::Changes);
        write.complete(Ok(()));
        assert!(is_ready(detached.wait(100..200)) && detached.remains() == Remains::Nothing);
        assert!(detached.is_empty());
    }

    #[test]
    fn the_end_of_a_dropped_write_wakes_the_waiting_task() {
        let detached = Arc::new(DetachedOps::default());
        let write = op(&detached, Effect::Changes(0..10));
        let waiting = Arc::clone(&detached);
        let thread = std::thread::spawn(move || block_on(waiting.wait(5..6)));
        write.complete(Err(Error::new(ErrorKind::Io, "a write has no promise to keep")));
        thread.join().expect("no panic");
        block_on(detached.wait_for_all()).expect("the failure of a detached write is not reported");
    }

    #[test]
    fn the_next_sync_reports_the_first_detached_failure() {
        let detached = DetachedOps::default();
        let syncs = [(); 2].map(|()| op(&detached, Effect::Syncs));
        for (kind, sync) in [ErrorKind::NoSpace, ErrorKind::Io].into_iter().zip(syncs) {
            sync.complete(Err(Error::new(kind, "of the test")));
        }
        assert!(is_ready(detached.wait(EVERYTHING)), "writes do not wait for syncs");
        let error = block_on(detached.wait_for_all()).expect_err("two have failed");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        block_on(detached.wait_for_all()).expect("told once");
    }

    #[test]
    fn reads_and_reported_results_are_not_waited_for() {
        let detached = DetachedOps::default();
        let (receiver, sender) = oneshot();
        sender.complete(Err::<(), _>(Error::new(ErrorKind::Io, "seen")));
        block_on(DetachOnDrop::new(receiver, Effect::Syncs, &detached)).expect_err("it failed");
        let read = op(&detached, Effect::Reads);
        assert!(detached.is_empty() && detached.remains() == Remains::Reads);
        assert!(is_ready(detached.wait(EVERYTHING)) && is_ready(detached.wait_for_all()));
        drop(read);
        assert_eq!(detached.remains(), Remains::Nothing);
    }
}
