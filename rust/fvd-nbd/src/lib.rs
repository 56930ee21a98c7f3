//! The server side of NBD, the network block device protocol.
//!
//! The modules, bottom layer first; none uses one below it in this list:
//!
//! * [`protocol`]: bytes to typed values and back, without I/O; what a client can cost.
//! * [`server`]: sockets, and the connections on them.
//! * [`disk`]: images and other disks as exports.
//! * [`daemon`]: a server with its disks: open, background work, signals, close.

pub mod daemon;
pub mod disk;
pub mod protocol;
pub mod server;
