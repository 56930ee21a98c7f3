//! Files on other machines. The program provides them: this crate names no network library.

mod access;
mod any;
mod state;
mod storage;
mod stored;
mod urgency;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::host::BoxFuture;
use crate::storage::{Allocation, IoBufMut};

pub(crate) use access::Access;
pub use any::{AnyFile, Identity};
pub use state::{Counters, OutageState};
pub use storage::RemoteStorage;
pub(crate) use stored::UPDATE_HINT;
pub use urgency::{Urgency, with_urgency};

/// Which object a remote file is. It must stay this object as long as an image stands on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Length in bytes.
    pub len: u64,
    /// What tells this object from others of the same name.
    pub validator: Validator,
}

/// The strongest mark of identity that a server gives an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validator {
    /// None: only the length is known (NBD, and web servers without an `ETag`).
    Length,
    /// The value of `Last-Modified`, as it came.
    Modified(String),
    /// A strong `ETag`, with its quotes.
    ETag(String),
    /// The version (S3), or the generation (GCS).
    Version(String),
    /// SHA-256 of the manifest that was published with the object.
    Manifest([u8; 32]),
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)?;
        match &self.validator {
            Validator::Length => Ok(()),
            Validator::Modified(time) => write!(f, ", modified {time}"),
            Validator::ETag(tag) => write!(f, ", ETag {tag}"),
            Validator::Version(version) => write!(f, ", version {version}"),
            Validator::Manifest(hash) => {
                write!(f, ", manifest ")?;
                hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A file on another machine, for reading. Shared by any number of tasks.
pub trait RemoteFile: Send + Sync + 'static {
    /// The URL, without credentials, for messages.
    fn url(&self) -> &str;

    /// What it was when it was opened. Its length is the length of the file.
    fn pin(&self) -> &Pin;

    /// Fills `buf` from `offset` (bytes, any alignment) and returns it. What lies at or beyond the end reads
    /// as zeros.
    ///
    /// Polling never blocks, in any runtime, and needs none. A dropped future frees its buffer. What
    /// [`Urgency::current`] is at the first poll says who goes first.
    ///
    /// # Errors
    ///
    /// Those of the connection, and if the object is no longer the one in [`RemoteFile::pin`].
    fn read(&self, buf: IoBufMut, offset: u64) -> BoxFuture<'_, Result<IoBufMut>>;

    /// What is known about the bytes from `offset`, and for how many bytes (1..=`len`) that stays the same.
    /// `len` must not be 0. Data where nothing is known. At or beyond the end: a hole of `len` bytes.
    fn allocation(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<(Allocation, u64)>>;

    /// What a machine on this disk needs first, in this order, if it was published with the file: ranges of the
    /// disk in bytes, of any value. None if nothing is known, or if that fails.
    fn boot_profile(&self) -> BoxFuture<'_, Option<Vec<Range<u64>>>> {
        Box::pin(async { None })
    }

    /// The outage of its store, while there is one.
    fn outage(&self) -> Option<OutageState> {
        None
    }

    /// Whether its reads end by themselves after the time that the user allows, with the reason in the error.
    fn has_time_limit(&self) -> bool {
        false
    }
}

/// Opens remote files.
pub trait RemoteOpener: Send + Sync + 'static {
    /// Opens the file at `url`. Blocks for one round trip, if the server answers at once. With `pin`, it fails
    /// if another object is there.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for schemes that it does not know.
    /// * [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if `url` is none, or has credentials
    ///   in it.
    /// * [`ErrorKind::Io`](crate::ErrorKind::Io) for those of the connection, and for another object.
    fn open(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>>;

    /// As [`RemoteOpener::open`], for a URL that an image names and the gate has permitted. What the server
    /// redirects to can be less than for a URL that the user names.
    fn open_named(&self, url: &str, pin: Option<&Pin>) -> Result<Arc<dyn RemoteFile>> {
        self.open(url, pin)
    }

    /// What was asked of the stores, in all opens of the process, and which of them cannot be reached.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// What a user gives an image as its base.
#[derive(Clone)]
pub struct GivenBase(pub Arc<dyn RemoteFile>);

impl fmt::Debug for GivenBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GivenBase").field(&self.0.url()).finish()
    }
}

impl fmt::Debug for dyn RemoteOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteOpener")
    }
}
