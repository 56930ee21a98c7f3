//! The FVD format: converts bytes to typed values and back. No I/O.
//!
//! No code here sizes an allocation by a number from the image before that number is checked: a [`Header`]
//! has a fixed size, and a [`Geometry`] exists only if the length of the file justifies every size in the
//! header. `docs/design/format.md` describes the format.

pub mod base_update;
pub mod bitmap;
pub mod block;
pub mod chunk;
mod create_options;
pub mod fence;
pub mod geometry;
pub mod header;
pub mod journal;
pub mod layout;
pub mod options;
pub mod pin;
pub mod profile;
pub mod records;
pub mod redo;
pub mod table;
pub mod totals;
pub mod unfinished;

pub use base_update::BaseUpdate;
pub use block::Block;
pub use chunk::{StorageChunk, VirtualChunk};
pub use create_options::CreateOptions;
pub use geometry::{Geometry, Region};
pub use header::{FieldValue, Header};
pub use journal::{BitmapRecord, Record, TableRecord};
pub use layout::{Layout, LayoutOptions};
pub use options::{FormatOption, OPTIONS, Value};
pub use pin::{PinKind, StoredPin};
pub use profile::{Profile, ProfileEntry};
pub use records::{Area, Records};
pub use table::Entry;

/// Bytes in a sector, the unit of every size and of every atomic write.
pub const SECTOR: u64 = 512;

/// Bytes in a page; every metadata region starts on a multiple of it.
pub const PAGE: u64 = 4096;

/// Bytes of the header region at the start of the image: [`header::RAW_SIZE`] bytes of fields, then free
/// space that also holds the redo copy ([`redo`]) and the totals ([`totals`]).
pub const HEADER_SIZE: u64 = 8192;
