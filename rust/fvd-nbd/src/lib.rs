//! NBD, the network block device protocol: the messages of both sides, and a server.
//!
//! The modules, bottom layer first; none uses one below it in this list. All but the first belong to the
//! feature `server`:
//!
//! * [`protocol`]: bytes to typed values and back, without I/O; what a client or a server can cost.
//! * [`server`]: sockets, and the connections on them.
//! * [`disk`]: images and other disks as exports.
//! * [`daemon`]: a server with its disks: open, background work, signals, close.

#[cfg(feature = "server")]
pub mod daemon;
#[cfg(feature = "server")]
pub mod disk;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
