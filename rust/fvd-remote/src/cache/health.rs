//! A disk that fails is left alone for a while.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long the cache is left alone after a failure.
const PAUSE: Duration = Duration::from_secs(60);

/// What can be done with the cache now.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether anything has failed lately: each read looks.
    has_failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when nothing is read.
    unread: Option<Instant>,
    /// Until when nothing is stored.
    unstored: Option<Instant>,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No space: what is there can be read.
    Full,
    Broken,
}

impl Failure {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::Full,
            _ => Self::Broken,
        }
    }
}

impl Health {
    pub(super) fn can_read(&self) -> bool {
        if !self.has_failed.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.lock();
        state.unread = state.unread.filter(|until| Instant::now() < *until);
        state.unread.is_none()
    }

    pub(super) fn can_store(&self) -> bool {
        if !self.has_failed.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.lock();
        state.unstored = state.unstored.filter(|until| Instant::now() < *until);
        if state.unstored.is_none() {
            // It lasts longest.
            self.has_failed.store(false, Ordering::Relaxed);
        }
        state.unstored.is_none()
    }

    /// True: the cache was healthy before.
    pub(super) fn fail(&self, failure: Failure) -> bool {
        let until = Some(Instant::now() + PAUSE);
        let mut state = self.lock();
        self.has_failed.store(true, Ordering::Relaxed);
        let was_healthy = state.unstored.is_none();
        state.unstored = until;
        if failure == Failure::Broken {
            state.unread = until;
        }
        was_healthy
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
