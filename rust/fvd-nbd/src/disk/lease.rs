//! An image that somebody has open, and lends.

use std::any::Any;

use fvd::copy::Control;

/// What ties an image that is served to whoever has it open: who goes on using it, does what it does on
/// its own, and closes it.
///
/// Dropped when no request of a client runs any more, nor will: from then on the image may be closed.
pub trait Lease: Any + Send + Sync {
    /// Clients can come, to these URIs; there are none for sockets that were handed over.
    fn served_at(&self, uris: Vec<String>);

    /// No client can come any more. What is under way ends, and then the lease.
    fn ending(&self);

    /// Its prefetch, where there is one.
    fn prefetch(&self) -> Option<Control>;
}
