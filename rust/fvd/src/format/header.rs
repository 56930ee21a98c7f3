//! The header: the first 4336 bytes of an image (docs/design/format.md, section 2).
//!
//! The table at the end of this file defines the format: offset, name, type on disk and type in memory of
//! each field. A macro generates the packed structure, [`Header`], decoding, encoding and the dump from this
//! table. Each offset is checked at compile time.

use std::ffi::OsString;
use std::ops::Range;

use zerocopy::little_endian::{I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{HEADER_SIZE, unfinished};
use crate::error::{Error, Result};

mod field;
#[cfg(test)]
mod tests;

pub use field::FieldValue;
use field::{Dump, Field};

/// `magic` of every image: the bytes `A9 F5 43 51` on disk.
pub const MAGIC: u32 = 0x5143_F5A9;

/// The only known `version`.
pub const VERSION: u32 = 1;

/// Bytes of fields at the start of the header region.
pub const RAW_SIZE: usize = 4336;

/// Byte offset of `clean_shutdown` in the image.
pub const CLEAN_SHUTDOWN_OFFSET: u64 = 4300;

/// Byte offset of `journal_offset` in the image. `journal_size` and `clean_shutdown` follow it without a gap.
pub const JOURNAL_FIELDS_OFFSET: u64 = 4284;

/// Byte offset of `all_data_in_fvd_img` in the image.
pub const ALL_DATA_OFFSET: u64 = 8;

/// Byte offset of `prefetch_profile_entries` in the image.
pub const PROFILE_ENTRIES_OFFSET: u64 = 2160;

const _: () = assert!(size_of::<Raw>() == RAW_SIZE && RAW_SIZE < HEADER_SIZE as usize);
const _: () = assert!(std::mem::offset_of!(Raw, clean_shutdown) == CLEAN_SHUTDOWN_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, journal_offset) == JOURNAL_FIELDS_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, all_data_in_fvd_img) == ALL_DATA_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, prefetch_profile_entries) == PROFILE_ENTRIES_OFFSET as usize);

impl Header {
    /// Whether `bytes`, the start of a file, start with the magic number of an image.
    #[must_use]
    pub fn is_fvd(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC.to_le_bytes())
    }

    /// Reads the fields from `bytes`, the start of an image. They must have at least [`RAW_SIZE`] bytes; any
    /// further bytes are ignored.
    ///
    /// Does not check whether the fields agree with each other: [`Geometry::new`](super::Geometry::new) does
    /// that.
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage), naming the field, if the magic or the version
    /// differ, an unsigned field is negative, a string has no NUL, a format name is not UTF-8, or `bytes` end
    /// within the fields. Also if `bytes` start with the mark of an unfinished disk.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if unfinished::is_marked(bytes) {
            return Err(unfinished::error());
        }
        if !Self::is_fvd(bytes) {
            return Err(not_an_image(bytes));
        }
        let Ok((raw, _)) = Raw::read_from_prefix(bytes) else {
            return Err(Error::invalid_image(format!(
                "Invalid header: it has {RAW_SIZE} bytes, the file only {}",
                bytes.len()
            )));
        };
        if raw.version.get() != VERSION {
            return Err(Error::invalid_image(format!(
                "Invalid header: version is {}, only {VERSION} is known",
                raw.version
            )));
        }
        Self::from_raw(&raw)
    }

    /// The whole header region: [`HEADER_SIZE`] bytes, zeros after the fields.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the field, if a value does not fit: a
    /// string that leaves no byte of its array for the NUL or contains a NUL, or a size above the signed
    /// integer of its field.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let raw = self.to_raw()?;
        let mut bytes = vec![0; HEADER_SIZE as usize];
        bytes[..RAW_SIZE].copy_from_slice(raw.as_bytes());
        Ok(bytes)
    }
}

fn not_an_image(bytes: &[u8]) -> Error {
    Error::invalid_image(match bytes.first_chunk() {
        Some(magic) => format!(
            "not an FVD image: magic is {:#010X}, not {MAGIC:#010X}",
            u32::from_le_bytes(*magic)
        ),
        None => format!("not an FVD image: magic is missing, the file has {} bytes", bytes.len()),
    })
}

/// The name that the format uses for a field of [`Header`]. Only one name differs.
fn format_name(field: &'static str) -> &'static str {
    match field {
        "unit_of_prefetch_profile_entry_len" => "unit_of_PrefetchProfileEntry_len",
        same => same,
    }
}

/// Generates the packed structure, [`Header`] and all conversions from one line per field.
macro_rules! header_fields {
    ($( $(#[doc = $doc:literal])+ $offset:literal $name:ident: $disk:ty => $memory:ty, )+) => {
        /// The fields as they lie on disk.
        #[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        struct Raw {
            magic: U32,
            version: U32,
            $( $name: $disk, )+
        }

        $( const _: () = assert!(std::mem::offset_of!(Raw, $name) == $offset); )+

        /// Every field of the header except `magic` and `version`, in the order of the format.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Header {
            $( $(#[doc = $doc])+ pub $name: $memory, )+
        }

        impl Header {
            fn from_raw(raw: &Raw) -> Result<Self> {
                Ok(Self {
                    $( $name: Field::decode(&raw.$name, format_name(stringify!($name)))?, )+
                })
            }

            fn to_raw(&self) -> Result<Raw> {
                Ok(Raw {
                    magic: U32::new(MAGIC),
                    version: U32::new(VERSION),
                    $( $name: Field::encode(&self.$name, format_name(stringify!($name)))?, )+
                })
            }

            /// Overwrites those fields in `raw`, the start of an image, in which this header differs from
            /// `old`. All other bytes of `raw` stay unchanged.
            ///
            /// # Errors
            ///
            /// See [`Header::encode`].
            ///
            /// # Panics
            ///
            /// If `raw` ends before a field that changes.
            pub fn write_changes(&self, old: &Self, raw: &mut [u8]) -> Result<()> {
                let encoded = self.to_raw()?;
                $( if self.$name != old.$name {
                    raw[$offset..$offset + size_of::<$disk>()].copy_from_slice(encoded.$name.as_bytes());
                } )+
                Ok(())
            }

            /// The name of each field, `magic` and `version` among them, and the bytes of an image that it
            /// takes.
            pub fn places() -> impl Iterator<Item = (&'static str, Range<usize>)> {
                let first = [("magic", 0..4), ("version", 4..8)];
                let others = [$( (format_name(stringify!($name)), $offset..$offset + size_of::<$disk>()), )+];
                first.into_iter().chain(others)
            }

            /// All fields, with `magic` and `version`, in the order and under the names of the format.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, FieldValue)> {
                vec![
                    ("magic", FieldValue::Int(i64::from(MAGIC))),
                    ("version", FieldValue::Int(i64::from(VERSION))),
                    $( (format_name(stringify!($name)), self.$name.dump()), )+
                ]
            }
        }
    };
}

header_fields! {
    /// The base image is never read again. Also true if there is no base image.
    8 all_data_in_fvd_img: I32 => bool,
    /// Size of the disk as the guest sees it, in bytes; a multiple of 512.
    12 virtual_disk_size: I64 => u64,
    /// Bytes of everything before the data. Rounded down to a multiple of 512, it is the byte offset of the
    /// data, unless there is a [`data_file`](Self::data_file).
    20 metadata_size: I64 => u64,
    /// Path or URL of the base image, at most 1023 bytes. Empty: no base image. Untrusted.
    28 base_img: [u8; 1024] => OsString,
    /// Format name of the base image, at most 15 bytes. Empty: the format is detected.
    1052 base_img_fmt: [u8; 16] => String,
    /// Bytes of the disk that the base image and the bitmap cover: a multiple of 512, at most
    /// [`virtual_disk_size`](Self::virtual_disk_size), set at creation.
    1068 base_img_size: I64 => u64,
    /// Byte offset of the bitmap in the image.
    1076 bitmap_offset: I64 => u64,
    /// Bytes of the bitmap, a multiple of 4096. 0: there is no bitmap.
    1084 bitmap_size: I64 => u64,
    /// Bytes of a block, which one bit of the bitmap describes: a multiple of 512, not always a power of two.
    1092 block_size: I32 => u64,
    /// Copy-on-read: store the data that a read fetched from the base image.
    1096 copy_on_read: I32 => bool,
    /// Copy-on-read pauses while more than this number of bytes wait to be stored. 2000000 by default.
    1100 max_outstanding_copy_on_read_data: I64 => i64,
    /// Path of the separate data file, at most 1023 bytes. Empty: the data follows the metadata. Untrusted.
    1108 data_file: [u8; 1024] => OsString,
    /// Format name of the data file, at most 15 bytes. Empty: the format is detected.
    2132 data_file_fmt: [u8; 16] => String,
    /// Seconds from opening until prefetch starts. 0 or negative: prefetch does not start.
    2148 prefetch_start_delay: I32 => i32,
    /// Byte offset of the region of the prefetch profile. 0: there is no region. The region ends where the
    /// next region starts, or at the end of the metadata.
    2152 prefetch_profile_offset: I64 => u64,
    /// Number of entries of the prefetch profile, 12 bytes each. 0: the profile is empty.
    2160 prefetch_profile_entries: I64 => u64,
    /// Queue depth of prefetch: the number of prefetch writes that may be in flight. 2 by default.
    2168 num_prefetch_slots: I32 => i32,
    /// Bytes of one prefetch. By default 1 MiB rounded up to a multiple of [`block_size`](Self::block_size).
    2172 bytes_per_prefetch: I32 => i32,
    /// Milliseconds over which read throughput is measured. 100 by default.
    2176 prefetch_read_throughput_measure_time: I32 => i32,
    /// Milliseconds over which write throughput is measured. 100 by default.
    2180 prefetch_write_throughput_measure_time: I32 => i32,
    /// Weight of the old throughput average in percent, 0 to 100. 80 by default.
    2184 prefetch_perf_calc_alpha: I32 => i32,
    /// Prefetch may pause while it reads less than this number of KiB/s. 5120 by default.
    2188 prefetch_min_read_throughput: I32 => i32,
    /// Prefetch may pause while it writes less than this number of KiB/s. 5120 by default.
    2192 prefetch_min_write_throughput: I32 => i32,
    /// The most KiB/s that prefetch may read. 1000000000 by default.
    2196 prefetch_max_read_throughput: I32 => i32,
    /// The most KiB/s that prefetch may write. 1000000000 by default.
    2200 prefetch_max_write_throughput: I32 => i32,
    /// The longest pause of prefetch, in milliseconds. 30000 by default.
    2204 prefetch_throttle_time: I32 => i32,
    /// Whether the image has a table.
    2208 compact_image: I32 => bool,
    /// Byte offset of the table in the image.
    2212 table_offset: I64 => u64,
    /// Bytes of a chunk, which one table entry describes: a multiple of 4096, not always a power of two.
    /// Without a table: the value that the user gave, unused.
    2220 chunk_size: I64 => u64,
    /// Bytes by which the storage of a compact image grows at a time.
    2228 storage_grow_unit: I64 => u64,
    /// Command that grows the storage of a block device, at most 2047 bytes. Untrusted; fvd never runs it.
    2236 add_storage_cmd: [u8; 2048] => OsString,
    /// Byte offset of the journal in the image.
    4284 journal_offset: I64 => u64,
    /// Bytes of the journal, a multiple of 4096. 0: there is no journal.
    4292 journal_size: I64 => u64,
    /// The image was closed cleanly: bitmap and table on disk are complete, and the journal must be ignored.
    4300 clean_shutdown: I32 => bool,
    /// Storage that was never written must be made to read as zeros.
    4304 need_zero_init: I32 => bool,
    /// Whether a session records a prefetch profile if the profile is still empty.
    4308 generate_prefetch_profile: I32 => bool,
    /// The unit, in bytes, of the length of a prefetch profile entry. 4096 by default.
    4312 unit_of_prefetch_profile_entry_len: I32 => i32,
    /// Seconds from opening until the prefetch of the profile starts. Negative: it does not start.
    4316 profile_directed_prefetch_start_delay: I32 => i32,
    /// The name of a [`BaseUpdate`](super::BaseUpdate): `no`, `writethrough`, `writeback` or `writenocache`.
    /// Empty means `no`. The original driver never implemented it.
    4320 write_updates_base_img: [u8; 16] => String,
}
