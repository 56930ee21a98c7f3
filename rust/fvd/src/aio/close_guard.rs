//! Closes a file or source that other threads may still use.

use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::process::Owned;

/// How long a drop waits until the file is closed. Nothing is in flight at that point, so only a server that
/// does not answer uses up this time.
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
    patience: Duration,
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
            patience: PATIENCE,
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
            let _ = closed.recv_timeout(self.patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;
    use crate::storage::FileStorage;

    /// No test waits this long, unless what it waits for never happens.
    const FOREVER: Duration = Duration::from_secs(60);

    /// Drops the guard of a file that `others` still use. Returns whether that ends.
    fn ends(is_local: bool, remains: Remains, others: impl FnOnce(Arc<Opened<FileStorage>>)) -> bool {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let file = FileStorage::create(&path, false).expect("a new file");
        let (file, mut close_guard) = CloseGuard::of(file, is_local, FileStorage::unlock);
        (close_guard.remains, close_guard.patience) = (remains, 2 * FOREVER);
        others(file);
        let (end, ended) = channel::<()>();
        std::thread::spawn(move || {
            drop(close_guard);
            drop(end);
        });
        let ends = ended.recv_timeout(FOREVER) == Err(RecvTimeoutError::Disconnected);
        if remains == Remains::Nothing {
            FileStorage::create(&path, false).expect("it is free");
        }
        ends
    }

    #[test]
    fn a_file_is_closed_when_its_last_user_is_gone() {
        for is_local in [false, true] {
            assert!(ends(is_local, Remains::Nothing, drop));
            // As the thread of a ring does.
            assert!(ends(is_local, Remains::Nothing, |file| {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(5));
                    drop(file);
                });
            }));
        }
    }

    #[test]
    fn a_hanging_operation_does_not_delay_the_close() {
        for is_local in [false, true] {
            for remains in [Remains::Reads, Remains::Changes] {
                let mut hanging = None;
                assert!(ends(is_local, remains, |file| hanging = Some(file)));
            }
        }
    }

    /// Closed when the server answers, which it does when the test has dropped the sender.
    struct Slow(Mutex<Receiver<()>>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let answer = self.0.get_mut().expect("not poisoned");
            assert_eq!(answer.recv_timeout(FOREVER), Err(RecvTimeoutError::Disconnected));
        }
    }

    #[test]
    fn a_thread_waits_for_a_server_that_does_not_answer() {
        let (server, answer) = channel();
        let (opened, mut close_guard) = CloseGuard::of(Slow(Mutex::new(answer)), false, |_| ());
        drop(opened);
        close_guard.patience = Duration::ZERO;
        drop(close_guard);
        drop(server);
    }
}
