//! The end of a file that others may still be busy with.

use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::aio::Process;
use crate::storage::file::FileStorage;

/// How long to wait for the file to be closed. Nothing is in flight then, so this is only ever
/// used up by a server that does not answer.
const PATIENCE: Duration = Duration::from_millis(50);

/// An open file. Who asks learns when it is closed.
#[derive(Debug)]
pub(super) struct Opened {
    file: FileStorage,
    /// Dropped behind the file.
    _is_open: Sender<()>,
}

impl Deref for Opened {
    type Target = FileStorage;

    fn deref(&self) -> &FileStorage {
        &self.file
    }
}

/// What is still in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    Nothing,
    Reads,
    Changes,
}

/// Closes the file when it is dropped, which is to be after everything else that has to do with it.
#[derive(Debug)]
pub(super) struct Farewell {
    file: Option<Arc<Opened>>,
    closed: Mutex<Receiver<()>>,
    /// Whether unlocking and closing wait for nobody.
    pub(super) is_near: bool,
    pub(super) remains: Remains,
    process: Process,
}

impl Farewell {
    pub(super) fn of(file: FileStorage, is_near: bool) -> (Arc<Opened>, Self) {
        let (sender, receiver) = channel();
        let file = Arc::new(Opened { file, _is_open: sender });
        let farewell = Self {
            file: Some(Arc::clone(&file)),
            closed: Mutex::new(receiver),
            is_near,
            remains: Remains::Nothing,
            process: Process::current(),
        };
        (file, farewell)
    }
}

impl Drop for Farewell {
    /// Whoever opens the file next finds it free, unless something is still being written to it or
    /// somebody else has to be waited for.
    fn drop(&mut self) {
        let Some(file) = self.file.take().filter(|_| self.process.is_current()) else {
            return;
        };
        let is_free = self.remains != Remains::Changes;
        let close = move || {
            if is_free {
                file.unlock();
            }
            drop(file);
        };
        if self.is_near {
            close();
        } else {
            // If there is no thread to be had, here.
            let builder = std::thread::Builder::new().name("fvd-close".to_owned());
            let _ = builder.spawn(close);
        }
        if self.remains == Remains::Nothing {
            let closed = self.closed.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = closed.recv_timeout(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn bid(is_near: bool, remains: Remains, others: impl FnOnce(Arc<Opened>)) -> Duration {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        let file = FileStorage::create(&path, false).expect("a new file");
        let (file, mut farewell) = Farewell::of(file, is_near);
        farewell.remains = remains;
        others(file);
        let start = Instant::now();
        drop(farewell);
        if remains == Remains::Nothing {
            FileStorage::create(&path, false).expect("it is free");
        }
        start.elapsed()
    }

    #[test]
    fn a_file_is_closed_when_its_last_user_is_gone() {
        for is_near in [false, true] {
            bid(is_near, Remains::Nothing, drop);
            // As the thread of a ring does.
            bid(is_near, Remains::Nothing, |file| {
                std::thread::spawn(move || {
                    std::thread::sleep(PATIENCE / 10);
                    drop(file);
                });
            });
        }
    }

    #[test]
    fn what_hangs_holds_up_nobody_for_long() {
        for is_near in [false, true] {
            for remains in [Remains::Reads, Remains::Changes] {
                let mut hanging = None;
                assert!(bid(is_near, remains, |file| hanging = Some(file)) < PATIENCE);
            }
        }
    }
}
