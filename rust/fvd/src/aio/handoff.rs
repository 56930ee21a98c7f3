//! The result of something that is done elsewhere.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use event_listener::{Event, EventListener};

use crate::error::{Error, ErrorKind, Result};

/// A pair: who waits for the result, and who gives it.
pub(crate) fn handoff<T>() -> (Handoff<T>, Completer<T>) {
    let cell = Arc::new(Cell {
        state: Mutex::new(State::Waiting(None)),
        ended: Event::new(),
    });
    (Handoff(Arc::clone(&cell)), Completer(Some(cell)))
}

struct Cell<T> {
    state: Mutex<State<T>>,
    /// For those who only want to know that it has ended.
    ended: Event,
}

enum State<T> {
    Waiting(Option<Waker>),
    Ended(Result<T>),
    Taken,
}

impl<T> Cell<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the result. Dropping it stops nothing.
pub(crate) struct Handoff<T>(Arc<Cell<T>>);

impl<T> fmt::Debug for Handoff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handoff")
    }
}

impl<T: Send + 'static> Handoff<T> {
    /// What goes on when nobody waits for the result any more.
    pub(crate) fn unfinished(&self) -> Arc<dyn Unfinished> {
        Arc::clone(&self.0) as _
    }
}

impl<T> Future for Handoff<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ended(result) => Poll::Ready(result),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Taken => panic!("polled after it was ready"),
        }
    }
}

/// Gives the result. Dropped without, it gives an error: nobody waits forever.
pub(crate) struct Completer<T>(Option<Arc<Cell<T>>>);

impl<T> Completer<T> {
    pub(crate) fn complete(mut self, result: Result<T>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<T>) {
        let Some(cell) = self.0.take() else { return };
        let before = std::mem::replace(&mut *cell.lock(), State::Ended(result));
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
        cell.ended.notify(usize::MAX);
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.give(Err(Error::new(
                ErrorKind::Io,
                "The operation was given up before its end",
            )));
        }
    }
}

/// Something that goes on.
pub(crate) trait Unfinished: Send + Sync {
    fn has_ended(&self) -> bool;

    /// Told of the end, unless that was before.
    fn listen(&self) -> EventListener;

    /// How it failed, if it has, and if nobody has been told.
    fn failure(&self) -> Option<Error>;
}

impl<T: Send + 'static> Unfinished for Cell<T> {
    fn has_ended(&self) -> bool {
        !matches!(*self.lock(), State::Waiting(_))
    }

    fn listen(&self) -> EventListener {
        self.ended.listen()
    }

    fn failure(&self) -> Option<Error> {
        match &*self.lock() {
            State::Ended(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn a_result_wakes_who_waits_for_it() {
        let (handoff, completer) = handoff();
        let thread = std::thread::spawn(move || block_on(handoff));
        completer.complete(Ok(7));
        assert_eq!(thread.join().expect("no panic").expect("completed"), 7);
    }

    #[test]
    fn what_is_given_up_is_an_error_and_no_wait_forever() {
        let (handoff, completer) = handoff::<()>();
        drop(completer);
        block_on(handoff).expect_err("given up");
    }

    #[test]
    fn who_only_watches_learns_of_end_and_failure() {
        let (handoff, completer) = handoff::<()>();
        let watched = handoff.unfinished();
        drop(handoff);
        let listener = watched.listen();
        assert!(!watched.has_ended() && watched.failure().is_none());
        completer.complete(Err(Error::new(ErrorKind::NoSpace, "full")));
        block_on(listener);
        assert!(watched.has_ended());
        assert_eq!(watched.failure().map(|error| error.kind()), Some(ErrorKind::NoSpace));
    }
}
