//! A lease on an image that the program itself has open.

use std::any::Any;

use fvd::copy::Control;

/// Connects an export to the program that has the image open. The program continues to use the image, runs
/// its background work, and closes it.
///
/// The server drops the lease when no client request runs any more and none will follow. After that the
/// program may close the image (docs/design/nbd.md, "Serving", S3).
///
pub trait Lease: Any + Send + Sync {
    /// Clients can now connect, at these URIs. The list is empty for sockets that were passed in.
    fn served_at(&self, uris: Vec<String>);

    /// No new client can connect. Requests in flight are completed; then the lease is dropped.
    fn ending(&self);

    /// The control of the image's prefetch, if one runs.
    fn prefetch(&self) -> Option<Control>;
}
