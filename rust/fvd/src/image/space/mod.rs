//! Space: which storage chunk a virtual chunk gets, when one can be used again, and the length of the data
//! file.

pub(super) mod allocate;
pub(super) mod chunk_set;
pub(super) mod epochs;
pub(super) mod extend;
pub(super) mod free;
pub(super) mod freed;
mod pin;
pub(super) mod store_error;
pub(super) mod surplus;
