//! The FVD format: bytes to typed values and back. No I/O.
//!
//! Nothing here allocates by a number that comes from the bytes before that number was checked:
//! a [`Header`] has a fixed size, and a [`Geometry`] exists only if every size in the header is
//! justified by the length of the file. `docs/design.md` describes the format itself.

pub mod base_update;
pub mod bitmap;
pub mod fence;
pub mod geometry;
pub mod header;
pub mod journal;
pub mod layout;
pub mod profile;
pub mod redo;
pub mod table;
pub mod totals;
pub mod unfinished;

pub use base_update::BaseUpdate;
pub use geometry::{Geometry, Region};
pub use header::{FieldValue, Header};
pub use journal::{BitmapRecord, Record, TableRecord};
pub use layout::{Layout, LayoutOptions};
pub use profile::{Profile, ProfileEntry};
pub use table::Entry;

/// Bytes in a sector, the unit of every size and of every atomic write.
pub const SECTOR: u64 = 512;

/// Bytes in a page; every metadata region starts on a multiple of it.
pub const PAGE: u64 = 4096;

/// Bytes of the header region, at the start of the image: [`header::RAW_SIZE`] bytes of fields
/// and unused ones behind them.
pub const HEADER_SIZE: u64 = 8192;
