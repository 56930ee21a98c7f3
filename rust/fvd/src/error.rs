//! The error type of the crate.

mod trail;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trail::Trail;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can react to. Stable: variants are added only in a new major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes of an image violate the format, or the image needs a check.
    InvalidImage,
    /// The format allows it, but this implementation does not support it.
    Unsupported,
    /// The operating system failed an operation.
    Io,
    /// The operating system refused access, or the gate for files that images name did.
    NotPermitted,
    /// Another process holds a lock that conflicts.
    InUse,
    /// No space is left on the file system, in the quota, or on the device.
    NoSpace,
    /// After a failed sync or metadata write, the image cannot be written to.
    Poisoned,
    /// The caller asked for something impossible, such as an offset beyond the end or a size of 0.
    InvalidArgument,
    /// The progress callback of the caller asked to stop.
    Cancelled,
}

/// What failed, on which file, where, and why.
///
/// Cheap to clone: a poisoned image returns its first error to every later caller.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    /// The operation that failed, a verb phrase. None: the message says it.
    op: Option<String>,
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Arc<io::Error>>,
    /// The directory that the user would have to trust.
    needs_trust: Option<PathBuf>,
    /// Text after the message of the operating system.
    remark: String,
    trail: Trail,
}

impl Error {
    /// An error of `kind`. The message must say what failed, and for which value.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            op: None,
            message: message.into(),
            path: None,
            offset: None,
            source: None,
            needs_trust: None,
            remark: String::new(),
            trail: Trail::default(),
        }))
    }

    /// An error of kind [`ErrorKind::InvalidImage`].
    pub fn invalid_image(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidImage, message)
    }

    /// An error of kind [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// An error of kind [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A failed system call. `op` is a verb phrase such as `"read"` or `"take a lock"`.
    ///
    /// ENOSPC, EDQUOT and EFBIG become [`ErrorKind::NoSpace`]. EACCES, EPERM and EROFS become
    /// [`ErrorKind::NotPermitted`]. All others become [`ErrorKind::Io`].
    #[must_use]
    pub fn io(op: &str, source: io::Error) -> Self {
        let kind = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::NoSpace,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorKind::NotPermitted,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, "");
        let inner = error.inner();
        inner.op = Some(op.to_owned());
        inner.source = Some(Arc::new(source));
        error
    }

    /// Adds the path of the file. Does not replace a path: the innermost is the right one.
    #[must_use]
    pub fn with_path(mut self, path: impl AsRef<Path>) -> Self {
        if self.0.path.is_none() {
            self.inner().path = Some(path.as_ref().to_owned());
        }
        self
    }

    /// Adds the byte offset in the file at [`Error::path`].
    #[must_use]
    pub fn with_offset(mut self, offset: u64) -> Self {
        self.inner().offset = Some(offset);
        self
    }

    /// Changes the kind, and puts `context` before the message.
    #[must_use]
    pub fn with_context(mut self, kind: ErrorKind, context: &str) -> Self {
        let inner = self.inner();
        inner.kind = kind;
        if !inner.trail.is_empty() {
            inner.trail.push(context);
            return self;
        }
        inner.message = match inner.message.as_str() {
            "" => context.to_owned(),
            message => format!("{context}: {message}"),
        };
        self
    }

    /// Turns it into an error of the file at `path`, which led to the file of this error. `context` says how.
    #[must_use]
    pub(crate) fn seen_from(self, path: &Path, context: &str) -> Self {
        let operation = self
            .op()
            .filter(|op| *op != "open")
            .map(|op| format!(": could not {op}"));
        let mut error = self;
        let inner = error.inner();
        inner.trail.push(&format!("{context}{}", operation.unwrap_or_default()));
        inner.op = None;
        inner.path = Some(path.to_owned());
        // The offset does not belong to the file at `path`.
        if let Some(offset) = inner.offset.take() {
            inner.remark = offset_text(offset) + &inner.remark;
        }
        error
    }

    /// Names the operation that failed, a verb phrase.
    #[must_use]
    pub(crate) fn with_op(mut self, op: &str) -> Self {
        self.inner().op = Some(op.to_owned());
        self
    }

    /// Names the operation that failed, unless one is named already, or the caller is at fault or cancelled
    /// it.
    #[must_use]
    pub(crate) fn during(self, op: &str) -> Self {
        let is_misuse = matches!(self.kind(), ErrorKind::InvalidArgument | ErrorKind::Cancelled);
        if is_misuse || self.op().is_some() {
            return self;
        }
        self.with_op(op)
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        let remark = &mut self.inner().remark;
        remark.push_str("; ");
        remark.push_str(hint);
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// For a name in an image that the gate refuses: says that it would help to trust `directory`.
    #[must_use]
    pub(crate) fn with_needed_trust(mut self, directory: &Path) -> Self {
        self.inner().needs_trust = Some(directory.to_owned());
        self
    }

    /// The directory that the user could trust to avoid this error, if that would help. The caller explains
    /// how to trust it.
    #[must_use]
    pub fn needs_trust(&self) -> Option<&Path> {
        self.0.needs_trust.as_deref()
    }

    /// The stable kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file concerned, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Byte offset in [`Error::path`], if there is one.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The error number of the operating system, if that was the cause.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(|e| e.raw_os_error())
    }

    /// The operation that failed, as a verb phrase (`read`, `resolve the trusted directory`). None if the
    /// message says it.
    #[must_use]
    pub fn op(&self) -> Option<&str> {
        self.0.op.as_deref()
    }

    /// The reason without path and operation, for messages that name these themselves.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.0.trail.text();
        if !text.is_empty() && !self.0.message.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&self.0.message);
        if let Some(source) = &self.0.source {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&os_text(source));
        }
        if let Some(offset) = self.0.offset {
            text.push_str(&offset_text(offset));
        }
        text.push_str(&self.0.remark);
        text
    }
}

fn offset_text(offset: u64) -> String {
    format!(" (at offset {offset})")
}

/// The message of the operating system, without Rust's "(os error N)".
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path() {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(op) = self.op() {
            write!(f, "Could not {op}: ")?;
        }
        f.write_str(&self.reason())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}
