//! The numbers of the NBD specification, in its order and under its names without `NBD_`, and the limits of
//! this server.

/// The maximum number of bytes of an option's data that are kept. It has room for a name and a dozen queries
/// of maximum length, or for thousands of ordinary queries. (The specification sets no limit for options. Its
/// limit for payloads, 32 MiB, would let any unauthenticated client take that much memory before the first
/// reply.)
pub const MAX_OPTION_DATA: u32 = 64 * 1024;

/// The maximum number of bytes of an option's data that are skipped in order to answer `ERR_TOO_BIG` or
/// `ERR_UNSUP`. Longer data ends the connection.
pub const MAX_OPTION_SKIP: u32 = 32 << 20;

/// The maximum number of options on one connection. A client needs a handful. A tool that queries every
/// export of a large server needs two per export.
pub const MAX_OPTIONS: u32 = 4096;

/// The maximum length of a string (name, query, description, message) in bytes.
pub const MAX_STRING: usize = 4096;

/// The maximum number of data bytes in one request or reply. Other servers announce the same value, so a
/// client that assumes it without asking is right.
pub const MAX_PAYLOAD: u32 = 64 << 20;

/// The maximum number of extents in one reply to a status request: 128 KiB of extents, or 256 KiB with
/// extended headers. A client sends another request for the rest.
pub const MAX_EXTENTS: usize = 1 << 14;

/// The first 8 bytes of the greeting: `NBDMAGIC`.
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// At the end of the greeting, and at the start of each option: `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// At the start of each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// At the start of a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// At the start of a request with extended headers.
pub const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
/// At the start of a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// At the start of a chunk of a structured reply.
pub const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
/// At the start of a chunk of a reply with extended headers.
pub const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// Handshake flag of server and client: the server answers options (fixed newstyle).
pub const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag of server and client: the reply to `EXPORT_NAME` has no 124 zero bytes at its end.
pub const FLAG_NO_ZEROES: u16 = 1 << 1;

/// Options.
pub mod opt {
    /// Opens an export. There is no error reply: on failure the server closes the connection.
    pub const EXPORT_NAME: u32 = 1;
    /// Ends the connection.
    pub const ABORT: u32 = 2;
    /// Lists the exports.
    pub const LIST: u32 = 3;
    /// Starts TLS.
    pub const STARTTLS: u32 = 5;
    /// Asks about an export.
    pub const INFO: u32 = 6;
    /// Asks about an export and opens it.
    pub const GO: u32 = 7;
    /// Asks for structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Lists metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Selects metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Asks for requests and replies with 64-bit lengths.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Replies to options.
pub mod rep {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of a list.
    pub const SERVER: u32 = 2;
    /// A piece of information about an export.
    pub const INFO: u32 = 3;
    /// A metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// This bit is set in all errors.
    pub const ERROR: u32 = 1 << 31;
    /// The option is not supported.
    pub const ERR_UNSUP: u32 = ERROR + 1;
    /// The option, or what it asks for, violates the specification or contradicts an earlier option.
    pub const ERR_INVALID: u32 = ERROR + 3;
    /// The server requires TLS for this option.
    pub const ERR_TLS_REQD: u32 = ERROR + 5;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = ERROR + 6;
    /// The server is shutting down.
    pub const ERR_SHUTDOWN: u32 = ERROR + 7;
    /// The option is too long.
    pub const ERR_TOO_BIG: u32 = ERROR + 9;
    /// Extended headers are in use already.
    pub const ERR_EXT_HEADER_REQD: u32 = ERROR + 10;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// The name.
    pub const NAME: u16 = 1;
    /// The description.
    pub const DESCRIPTION: u16 = 2;
    /// Block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags: the capabilities of an export.
pub mod transmission {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Commands that change data are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is supported.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// The flag `FUA` is supported.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM` is supported.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is supported.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// The flag `DF` is supported.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection also covers writes that completed on other connections.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is supported.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// The flag `FAST_ZERO` is supported.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Commands.
pub mod cmd {
    /// Reads.
    pub const READ: u16 = 0;
    /// Writes the payload.
    pub const WRITE: u16 = 1;
    /// Ends the connection.
    pub const DISC: u16 = 2;
    /// Makes completed writes durable.
    pub const FLUSH: u16 = 3;
    /// Discards the content of a range.
    pub const TRIM: u16 = 4;
    /// Announces that a range will be read soon.
    pub const CACHE: u16 = 5;
    /// Writes zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Queries the selected metadata contexts of a range.
    pub const BLOCK_STATUS: u16 = 7;

    /// Flag: the reply must not be sent before the change is durable.
    pub const FLAG_FUA: u16 = 1 << 0;
    /// Flag of `WRITE_ZEROES`: keep the space allocated.
    pub const FLAG_NO_HOLE: u16 = 1 << 1;
    /// Flag of `READ`: do not fragment the reply.
    pub const FLAG_DF: u16 = 1 << 2;
    /// Flag of `BLOCK_STATUS`: one extent only.
    pub const FLAG_REQ_ONE: u16 = 1 << 3;
    /// Flag of `WRITE_ZEROES`: fail if it would not be faster than writing.
    pub const FLAG_FAST_ZERO: u16 = 1 << 4;
    /// Flag, with extended headers only: the length field is the length of a payload.
    pub const FLAG_PAYLOAD_LEN: u16 = 1 << 5;
}

/// Chunks of replies.
pub mod chunk {
    /// Flag: the last chunk of a reply.
    pub const FLAG_DONE: u16 = 1 << 0;

    /// No content. Means success if no error chunk came before.
    pub const NONE: u16 = 0;
    /// Data at an offset.
    pub const OFFSET_DATA: u16 = 1;
    /// Zeroes at an offset.
    pub const OFFSET_HOLE: u16 = 2;
    /// Extents of a metadata context.
    pub const BLOCK_STATUS: u16 = 5;
    /// Extents of a metadata context, with extended headers.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// An error.
    pub const ERROR: u16 = (1 << 15) + 1;
    /// An error at an offset.
    pub const ERROR_OFFSET: u16 = (1 << 15) + 2;
}
