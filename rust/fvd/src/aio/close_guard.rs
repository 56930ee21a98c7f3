//! Closes a file or source that other threads may still use.

use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::process::Owned;

/// How long to wait until the file is closed. Nothing is in flight at that point, so only a server that does
/// not answer uses up this time.
const PATIENCE: Duration = Duration::from_millis(50);

/// An open file or source. Its [`CloseGuard`] learns when the last reference to it is dropped.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    inner: T,
    /// Dropped after `inner`: the receiver is told once `inner` is closed.
    _is_open: Sender<()>,
}

impl<T> Deref for Opened<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// What is still in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    Nothing,
    Reads,
    Changes,
}

/// Closes the file when it is dropped. Drop it after everything else that uses the file.
pub(crate) struct CloseGuard<T: Send + Sync + 'static> {
    opened: Owned<Option<Arc<Opened<T>>>>,
    closed: Owned<Mutex<Receiver<()>>>,
    /// Releases the locks of the file, even if other threads still have it open.
    unlock: fn(&T),
    /// Whether unlocking and closing never wait for a server.
    is_local: bool,
    pub(crate) remains: Remains,
}

impl<T: Send + Sync + 'static> CloseGuard<T> {
    pub(crate) fn of(inner: T, is_local: bool, unlock: fn(&T)) -> (Arc<Opened<T>>, Self) {
        let (sender, receiver) = channel();
        let opened = Arc::new(Opened {
            inner,
            _is_open: sender,
        });
        let close_guard = Self {
            opened: Owned::new(Some(Arc::clone(&opened))),
            closed: Owned::new(Mutex::new(receiver)),
            unlock,
            is_local,
            remains: Remains::Nothing,
        };
        (opened, close_guard)
    }
}

impl<T: Send + Sync + 'static> Drop for CloseGuard<T> {
    /// The next process that opens the file finds it unlocked. There are two exceptions: a change of the file
    /// is still in flight, or the file is remote and its server has not answered yet.
    fn drop(&mut self) {
        // A forked child leaves the file alone: the lock belongs to the parent, and the child has no thread
        // that would drop the last reference.
        let (Ok(opened), Ok(closed)) = (self.opened.get_mut(), self.closed.get_mut()) else {
            return;
        };
        let opened = opened.take();
        let is_free = self.remains != Remains::Changes;
        let unlock = self.unlock;
        let close = move || {
            if let Some(opened) = opened.as_deref().filter(|_| is_free) {
                unlock(opened);
            }
            drop(opened);
        };
        if self.is_local {
            close();
        } else {
            // If no thread can be started, the dropped closure closes the file here.
            let builder = std::thread::Builder::new().name("fvd-close".to_owned());
            let _ = builder.spawn(close);
        }
        if self.remains == Remains::Nothing {
            let closed = closed.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = closed.recv_timeout(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::storage::FileStorage;

    fn time_to_close(is_local: bool, remains: Remains, others: impl FnOnce(Arc<Opened<FileStorage>>)) -> Duration {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let file = FileStorage::create(&path, false).expect("a new file");
        let (file, mut close_guard) = CloseGuard::of(file, is_local, FileStorage::unlock);
        close_guard.remains = remains;
        others(file);
        let start = Instant::now();
        drop(close_guard);
        if remains == Remains::Nothing {
            FileStorage::create(&path, false).expect("it is free");
        }
        start.elapsed()
    }

    #[test]
    fn a_file_is_closed_when_its_last_user_is_gone() {
        for is_local in [false, true] {
            time_to_close(is_local, Remains::Nothing, drop);
            // As the thread of a ring does.
            time_to_close(is_local, Remains::Nothing, |file| {
                std::thread::spawn(move || {
                    std::thread::sleep(PATIENCE / 10);
                    drop(file);
                });
            });
        }
    }

    #[test]
    fn a_hanging_operation_does_not_delay_the_close() {
        for is_local in [false, true] {
            for remains in [Remains::Reads, Remains::Changes] {
                let mut hanging = None;
                assert!(time_to_close(is_local, remains, |file| hanging = Some(file)) < PATIENCE);
            }
        }
    }

    /// Takes a long time to close.
    struct Slow;

    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(10 * PATIENCE);
        }
    }

    #[test]
    fn a_thread_waits_for_a_server_that_does_not_answer() {
        let (_, close_guard) = CloseGuard::of(Slow, false, |_| ());
        let start = Instant::now();
        drop(close_guard);
        assert!(start.elapsed() < 5 * PATIENCE);
    }
}
