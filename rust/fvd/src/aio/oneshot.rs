//! A oneshot channel for the result of an operation that another thread or the kernel runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use event_listener::{Event, EventListener};

use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;

/// Makes a pair: the receiver waits for the result, the sender delivers it.
pub(crate) fn oneshot<T>() -> (Receiver<T>, Sender<T>) {
    let cell = Arc::new(Cell {
        state: Mutex::new(State::Waiting(None)),
        ended: Event::new(),
    });
    let receiver = Receiver {
        cell: Arc::clone(&cell),
        place: None,
        is_over: false,
        process: Process::current(),
    };
    (receiver, Sender(Some(cell)))
}

struct Cell<T> {
    state: Mutex<State<T>>,
    /// Notified at the end, for [`Unfinished`], which does not take the result.
    ended: Event,
}

enum State<T> {
    Waiting(Option<Waker>),
    /// The operation continues. No task will take its result.
    Abandoned,
    Ended(Result<T>),
    /// The result was taken or dropped. If it was a dropped error, the error is kept.
    Over(Option<Error>),
}

impl<T> Cell<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abandon(&self) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut *state, State::Abandoned);
        *state = match &before {
            State::Waiting(_) | State::Abandoned => return,
            State::Ended(result) => State::Over(result.as_ref().err().cloned()),
            State::Over(error) => State::Over(error.clone()),
        };
        // Dropped without the lock of this cell: dropping the value may take another lock.
        drop(state);
        drop(before);
    }
}

/// A queue of operations that have not begun.
pub(super) trait Recall: Send + Sync {
    /// Drops the operation, unless it has begun.
    fn recall(&self, ticket: u64);
}

/// Waits for the result. Dropping it drops an operation that has not begun. An operation that has begun
/// continues.
pub(crate) struct Receiver<T> {
    cell: Arc<Cell<T>>,
    /// The queue and the ticket, for [`Receiver::recall`].
    place: Option<(Arc<dyn Recall>, u64)>,
    is_over: bool,
    process: Process,
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

impl<T> Receiver<T> {
    /// False in a forked child, where a lock may stay locked for ever.
    pub(crate) fn is_own(&self) -> bool {
        self.process.is_current()
    }

    /// Says that the operation waits in `queue` under this ticket.
    pub(super) fn waiting_in(mut self, queue: Arc<dyn Recall>, ticket: u64) -> Self {
        self.place = Some((queue, ticket));
        self
    }

    /// Drops the operation, unless it has begun.
    pub(crate) fn recall(&mut self) {
        if let Some((queue, ticket)) = self.place.take() {
            queue.recall(ticket);
        }
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Detaches the operation from this receiver: dropping the receiver no longer drops it, even if it has
    /// not begun.
    pub(crate) fn unfinished(&mut self) -> Arc<dyn Unfinished> {
        self.place = None;
        Arc::clone(&self.cell) as _
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if !self.is_over && self.is_own() {
            self.recall();
            self.cell.abandon();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        // A forked child has no thread that would deliver a result.
        self.process.check()?;
        let mut state = self.cell.lock();
        match std::mem::replace(&mut *state, State::Over(None)) {
            State::Ended(result) => {
                drop(state);
                self.is_over = true;
                Poll::Ready(result)
            }
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Abandoned | State::Over(_) => panic!("polled after it was ready"),
        }
    }
}

/// Delivers the result. If it is dropped without a result, the receiver gets an error and does not wait for
/// ever.
pub(crate) struct Sender<T>(Option<Arc<Cell<T>>>);

impl<T> Sender<T> {
    pub(crate) fn complete(mut self, result: Result<T>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<T>) {
        let Some(cell) = self.0.take() else { return };
        let mut state = cell.lock();
        let over = State::Over(result.as_ref().err().cloned());
        let (waker, unwanted) = match std::mem::replace(&mut *state, over) {
            State::Waiting(waker) => {
                *state = State::Ended(result);
                (waker, None)
            }
            _ => (None, Some(result)),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        cell.ended.notify(usize::MAX);
        // Last: dropping a buffer may need a lock that another thread holds while it waits for this end.
        drop(unwanted);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.give(Err(Error::new(
                ErrorKind::Io,
                "The operation was given up before its end",
            )));
        }
    }
}

/// An operation that may still run.
pub(crate) trait Unfinished: Send + Sync {
    fn has_ended(&self) -> bool;

    /// Notified at the end, unless the operation has ended already: check [`Unfinished::has_ended`] after
    /// this call.
    fn listen(&self) -> EventListener;

    /// The error of an operation that failed, unless a receiver has taken it.
    fn failure(&self) -> Option<Error>;
}

impl<T: Send + 'static> Unfinished for Cell<T> {
    fn has_ended(&self) -> bool {
        matches!(*self.lock(), State::Ended(_) | State::Over(_))
    }

    fn listen(&self) -> EventListener {
        self.ended.listen()
    }

    fn failure(&self) -> Option<Error> {
        match &*self.lock() {
            State::Ended(Err(error)) | State::Over(Some(error)) => Some(error.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn a_result_wakes_the_receiver() {
        let (receiver, sender) = oneshot();
        let thread = std::thread::spawn(move || block_on(receiver));
        sender.complete(Ok(7));
        assert_eq!(thread.join().expect("no panic").expect("completed"), 7);
    }

    #[test]
    fn a_dropped_sender_gives_an_error() {
        let (receiver, sender) = oneshot::<()>();
        drop(sender);
        block_on(receiver).expect_err("given up");
    }

    #[test]
    fn an_unfinished_operation_tells_its_end_and_its_failure() {
        let (mut receiver, sender) = oneshot::<()>();
        let watched = receiver.unfinished();
        drop(receiver);
        let listener = watched.listen();
        assert!(!watched.has_ended() && watched.failure().is_none());
        sender.complete(Err(Error::new(ErrorKind::NoSpace, "full")));
        block_on(listener);
        assert!(watched.has_ended());
        assert_eq!(watched.failure().map(|error| error.kind()), Some(ErrorKind::NoSpace));
    }

    /// Records, when it is dropped, whether the operation had ended before.
    struct Owned(Arc<Mutex<Option<bool>>>, Arc<dyn Unfinished>);

    impl Drop for Owned {
        fn drop(&mut self) {
            *self.0.lock().expect("no panic") = Some(self.1.has_ended());
        }
    }

    #[test]
    fn a_result_without_a_receiver_is_dropped_after_the_end() {
        let seen = Arc::new(Mutex::new(None));
        for completes_first in [false, true] {
            let (mut receiver, sender) = oneshot();
            let owned = Owned(Arc::clone(&seen), receiver.unfinished());
            if completes_first {
                sender.complete(Ok(owned));
                drop(receiver);
            } else {
                drop(receiver);
                sender.complete(Ok(owned));
            }
            assert_eq!(seen.lock().expect("no panic").take(), Some(true));
        }
    }
}
