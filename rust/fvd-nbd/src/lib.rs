//! NBD, the network block device protocol: the server's side of it.
//!
//! The protocol is spoken without I/O: bytes in, typed values out, typed replies to bytes. Whatever
//! a client can send is tested by handing over bytes. From the ground up; nothing imports upwards:
//!
//! * [`constants`]: the numbers of the specification, and the limits that this server sets.
//! * [`error`]: errors that travel in replies, and those that end a connection.
//! * [`meta`]: metadata contexts: what a client may ask about a range.
//! * [`export`]: what is offered: a name, a size, what it can do.
//! * [`session`]: what both sides agreed upon.
//! * [`handshake`]: from the greeting to a [`session::Session`].
//! * [`request`]: 28 or 32 bytes to a checked request.
//! * [`reply`]: replies to bytes, in all three styles.
//! * [`server`]: sockets, and connections on them.
//! * [`disk`]: images and other disks as exports.
//! * [`daemon`]: a server with its disks: opening, background work, signals, closing.
//!
//! # Who reads what
//!
//! The handshake buffers: its messages are small, and none is kept beyond a limit. In the
//! transmission phase the caller reads the header ([`session::HeaderStyle::request_len`] bytes),
//! [`request::Request::decode`] tells how many bytes of payload follow, and the caller reads those
//! straight to where the storage wants them. Replies are headers that the caller sends in front of
//! data it holds already. No payload is copied.
//!
//! # What a client may cost
//!
//! A client is not trusted. What it can make a server keep is bounded before it has said anything
//! that matters:
//!
//! * An option is kept up to [`constants::MAX_OPTION_DATA`]; a longer one is read past without
//!   keeping it, and refused; one beyond [`constants::MAX_OPTION_SKIP`] ends the connection.
//! * [`handshake::Handshake::feed`] answers one option a call: replies do not pile up for a client
//!   that sends options and reads no reply.
//! * The payload of a request is at most [`constants::MAX_PAYLOAD`]. A longer one ends the
//!   connection: the limit was announced, and reading past 4 GiB serves nobody. A shorter payload
//!   of a request that is refused is read past, and the connection goes on.
//! * Where it is not certain where a message begins (a wrong magic number) the connection ends. A
//!   guess would let data be taken for requests.
//!
//! # TLS
//!
//! Whatever was negotiated in plain text is forgotten when TLS starts: somebody in between may
//! have said it. Bytes that arrive together with the request to start TLS, or between it and
//! [`handshake::Handshake::tls_started`], end the connection: a client waits for the reply, so
//! they come from somebody who wants them to be taken for what was said under TLS.

pub mod constants;
pub mod daemon;
pub mod disk;
pub mod error;
pub mod export;
pub mod handshake;
pub mod meta;
pub mod reply;
pub mod request;
pub mod server;
pub mod session;
