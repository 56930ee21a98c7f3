//! Why a store has failed. The reason decides what helps: another attempt, another copy, or nothing.

use crate::error::{Error, ErrorKind};
use crate::format::VirtualChunk;

/// The result of a step that stores something.
pub(crate) type Stored<T> = Result<T, StoreError>;

#[derive(Debug)]
pub(crate) enum StoreError {
    /// No storage chunk is left for virtual chunk `chunk`, and the data cannot grow. Freed storage chunks
    /// help.
    OutOfChunks {
        chunk: VirtualChunk,
        error: Error,
    },
    /// The base could not be read or written. The image itself has not failed.
    Base(Error),
    Other(Error),
}

impl StoreError {
    /// For an `error` of the growth of the data: only a lack of space can be helped.
    pub(super) fn of_growth(chunk: VirtualChunk, error: Error) -> Self {
        if error.kind() == ErrorKind::NoSpace {
            Self::OutOfChunks { chunk, error }
        } else {
            Self::Other(error)
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OutOfChunks { error, .. } | StoreError::Base(error) | StoreError::Other(error) => error,
        }
    }
}
