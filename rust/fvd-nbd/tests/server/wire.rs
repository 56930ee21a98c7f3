//! A client that sends exactly the bytes that a test gives it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use fvd_nbd::protocol::constants::{EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, opt};

use crate::options::{info, message, queries};

/// The limit for one answer of the server. Generous, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    extended: bool,
}

impl Client {
    /// Connects without sending anything.
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the server listens");
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("it is not 0");
        Self {
            stream,
            extended: false,
        }
    }

    /// A client without a server, used only to encode headers.
    pub(crate) fn detached() -> Self {
        let (stream, _) = UnixStream::pair().expect("two sockets");
        Self {
            stream,
            extended: false,
        }
    }

    /// Opens the export "disk" with simple replies.
    pub(crate) fn simple(socket: &Path) -> Self {
        let mut client = Self::connect(socket);
        client.read(18);
        client.send(&[&3_u32.to_be_bytes()[..], &message(opt::EXPORT_NAME, b"disk")].concat());
        client.read(10);
        client
    }

    /// Opens the export "disk" with extended headers and `contexts`.
    pub(crate) fn extended(socket: &Path, contexts: &[&str]) -> Self {
        let mut client = Self::connect(socket);
        client.extended = true;
        client.read(18);
        client.send(&3_u32.to_be_bytes());
        for (option, data) in [
            (opt::EXTENDED_HEADERS, vec![]),
            (opt::SET_META_CONTEXT, queries("disk", contexts)),
            (opt::GO, info("disk", &[])),
        ] {
            client.send(&message(option, &data));
            while client.option_reply() != 1 {}
        }
        client
    }

    fn option_reply(&mut self) -> u32 {
        let head = self.read(20);
        self.read(number(&head[16..]) as usize);
        number(&head[12..16]) as u32
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("the server writes");
        bytes
    }

    /// Everything that arrives until the server closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // If the server closed with unread input, the stream ends with a reset.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// The header of a request.
    pub(crate) fn header(&self, flags: u16, command: u16, cookie: u64, offset: u64, length: u64) -> Vec<u8> {
        let magic = if self.extended {
            EXTENDED_REQUEST_MAGIC
        } else {
            REQUEST_MAGIC
        };
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        let length = length.to_be_bytes();
        bytes.extend(if self.extended { &length[..] } else { &length[4..] });
        bytes
    }

    pub(crate) fn request(&mut self, command: u16, cookie: u64, offset: u64, length: u64) {
        let header = self.header(0, command, cookie, offset, length);
        self.send(&header);
    }

    /// Reads a simple reply and returns its error and cookie.
    pub(crate) fn simple_reply(&mut self) -> (u32, u64) {
        simple_reply(&self.read(16))
    }

    /// Reads a chunk of an extended reply, which must be the last one if and only if `done`. Returns its type
    /// and payload.
    pub(crate) fn chunk(&mut self, done: bool) -> (u16, Vec<u8>) {
        let (is_last, kind, payload) = self.any_chunk();
        assert_eq!(is_last, done);
        (kind, payload)
    }

    /// Reads a chunk of an extended reply. Returns whether it is the last one, its type and its payload.
    pub(crate) fn any_chunk(&mut self) -> (bool, u16, Vec<u8>) {
        let head = self.read(32);
        assert_eq!(head[..5], [0x6e, 0x8a, 0x27, 0x8c, 0]);
        assert!(head[5] <= 1, "the only flag");
        let payload = self.read(number(&head[24..]) as usize);
        (head[5] == 1, number(&head[6..8]) as u16, payload)
    }
}

/// The error and the cookie of a simple reply.
pub(crate) fn simple_reply(head: &[u8]) -> (u32, u64) {
    assert_eq!(head[..4], SIMPLE_REPLY_MAGIC.to_be_bytes());
    (number(&head[4..8]) as u32, number(&head[8..]))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}
