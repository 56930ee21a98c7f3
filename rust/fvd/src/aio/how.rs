//! How a request was done: on the thread that asked, by a ring, or by a worker thread.
//!
//! A request is polled by one thread, and what it hands over is handed over during that poll. So each handover
//! leaves a note for the thread that polls, and [`Observed`] collects the notes of its future. That costs no
//! clock and no atomic operation, and the layers in between pass nothing on.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How a request was done. Of several ways the slowest counts: a thread, then a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// At the first attempt, on the thread that asked.
    Inline,
    /// It waited for a ring.
    Ring,
    /// It waited for a worker thread.
    Thread,
    /// It handed nothing over, but waited: for another request, or for a limit.
    Wait,
}

impl How {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Inline, Self::Ring, Self::Thread, Self::Wait];

    /// A name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Ring => "ring",
            Self::Thread => "thread",
            Self::Wait => "wait",
        }
    }
}

/// What was noted: a set of these bits.
const RING: u8 = 1;
const THREAD: u8 = 2;
const WAIT: u8 = 4;

thread_local! {
    /// The notes of the poll that runs on this thread.
    static NOTES: Cell<u8> = const { Cell::new(0) };
}

/// Notes that an operation goes to a ring.
pub(super) fn to_ring() {
    NOTES.set(NOTES.get() | RING);
}

/// Notes that an operation goes to a worker thread.
pub(super) fn to_thread() {
    NOTES.set(NOTES.get() | THREAD);
}

/// A future that also says how it was done.
#[derive(Debug)]
pub struct Observed<F> {
    future: F,
    notes: u8,
}

impl<F: Future + Unpin> Observed<F> {
    /// Observes `future`.
    pub fn new(future: F) -> Self {
        Self { future, notes: 0 }
    }
}

impl<F: Future + Unpin> Future for Observed<F> {
    type Output = (F::Output, How);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outer = NOTES.replace(0);
        let polled = Pin::new(&mut self.future).poll(context);
        self.notes |= NOTES.replace(outer);
        match polled {
            Poll::Ready(output) => Poll::Ready((output, how(self.notes))),
            Poll::Pending => {
                self.notes |= WAIT;
                Poll::Pending
            }
        }
    }
}

fn how(notes: u8) -> How {
    match notes {
        0 => How::Inline,
        notes if notes & THREAD != 0 => How::Thread,
        notes if notes & RING != 0 => How::Ring,
        _ => How::Wait,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use pollster::block_on;

    use super::*;
    use crate::aio::Pool;
    use crate::join::yield_now;

    fn how_of(future: impl Future<Output = ()>) -> How {
        block_on(Observed::new(Box::pin(future))).1
    }

    #[test]
    fn the_slowest_way_of_all_polls_counts() {
        assert_eq!(how_of(async {}), How::Inline);
        assert_eq!(how_of(yield_now()), How::Wait);
        assert_eq!(how_of(async { to_ring() }), How::Ring);
        let ring_then_thread = async {
            to_thread();
            yield_now().await;
            to_ring();
        };
        assert_eq!(how_of(ring_then_thread), How::Thread);
    }

    #[test]
    fn what_a_pool_does_was_done_by_a_thread() {
        let pool = Pool::new(1);
        let work = async { pool.run(|| Ok(())).expect("not forked").await.expect("it is done") };
        assert_eq!(how_of(work), How::Thread);
    }

    #[test]
    fn notes_of_other_work_on_the_thread_do_not_count() {
        to_thread();
        let inner_thread = poll_fn(|context| {
            let inner = Observed::new(Box::pin(async { to_thread() }));
            Box::pin(inner).as_mut().poll(context).map(drop)
        });
        assert_eq!(how_of(inner_thread), How::Inline);
    }
}
