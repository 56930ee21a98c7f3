//! Hands the result of a call over to the one who waits.

use std::sync::{Mutex, PoisonError};

use fvd::{Error, Result};
use tokio::sync::oneshot::{self, Receiver, Sender};

/// The right to give one result. Only the first one counts.
pub(crate) struct Answer<T>(Mutex<Option<Sender<Result<T>>>>);

impl<T> Answer<T> {
    pub(crate) fn new() -> (Self, Receiver<Result<T>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Mutex::new(Some(sender))), receiver)
    }

    pub(crate) fn give(&self, result: Result<T>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // An error means that it is not waited for any more.
            let _ = sender.send(result);
        }
    }
}

/// The error of a call whose queue has been dropped.
pub(crate) fn lost() -> Error {
    Error::io("call it", std::io::Error::other("it has ended without an answer"))
}
