//! The header: the first 4336 bytes of an image (docs/design.md, format section 2).
//!
//! The table at the end of this file is the format itself: offset, name, type on disk, type in
//! memory. The packed structure, [`Header`], decoding, encoding and the dump are all made from
//! it, and each offset is checked at compile time.

use std::ffi::OsString;

use zerocopy::little_endian::{I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{HEADER_SIZE, unfinished};
use crate::error::{Error, Result};

mod field;
#[cfg(test)]
mod tests;

pub use field::FieldValue;
use field::{Dump, Field};

/// `magic` of every image; on disk the bytes `A9 F5 43 51`.
pub const MAGIC: u32 = 0x5143_F5A9;

/// The only `version` there is.
pub const VERSION: u32 = 1;

/// Bytes of fields at the start of the header region.
pub const RAW_SIZE: usize = 4336;

/// Byte offset of `clean_shutdown` in the image, for changing this one field in place.
pub const CLEAN_SHUTDOWN_OFFSET: u64 = 4300;

/// Byte offset of `journal_offset`, `journal_size` and `clean_shutdown`, which follow one another.
pub const JOURNAL_FIELDS_OFFSET: u64 = 4284;

/// Offset of `all_data_in_fvd_img` in the file, bytes.
pub const ALL_DATA_OFFSET: u64 = 8;

/// Offset of `prefetch_profile_entries` in the file, bytes.
pub const PROFILE_ENTRIES_OFFSET: u64 = 2160;

const _: () = assert!(size_of::<Raw>() == RAW_SIZE && RAW_SIZE < HEADER_SIZE as usize);
const _: () = assert!(std::mem::offset_of!(Raw, clean_shutdown) == CLEAN_SHUTDOWN_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, journal_offset) == JOURNAL_FIELDS_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, all_data_in_fvd_img) == ALL_DATA_OFFSET as usize);
const _: () = assert!(std::mem::offset_of!(Raw, prefetch_profile_entries) == PROFILE_ENTRIES_OFFSET as usize);

impl Header {
    /// Whether `bytes`, the start of a file, begin with the magic number of an image.
    #[must_use]
    pub fn is_fvd(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC.to_le_bytes())
    }

    /// Reads the fields from the start of an image: at least [`RAW_SIZE`] bytes, what follows
    /// is ignored.
    ///
    /// Says nothing about whether the fields agree with one another: that is
    /// [`Geometry::new`](super::Geometry::new).
    ///
    /// # Errors
    ///
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage), naming the field, where the magic or
    /// the version differ, an unsigned field is negative, a string has no NUL, a format name is
    /// no UTF-8, or `bytes` end within the fields; or where they have the mark of a disk that is not finished.
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

    /// The whole header region: [`HEADER_SIZE`] bytes, zero behind the fields.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the field, where a value
    /// does not fit: a string longer than its array less the NUL, a size beyond a signed integer.
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

/// The name that the format gives to a field of [`Header`]: the same but for one.
fn format_name(field: &'static str) -> &'static str {
    match field {
        "unit_of_prefetch_profile_entry_len" => "unit_of_PrefetchProfileEntry_len",
        same => same,
    }
}

/// Makes, from one line a field, the packed structure, [`Header`] and all conversions.
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

        /// Every field of the header but `magic` and `version`, in the order of the format.
        #[derive(Clone, Debug, PartialEq, Eq)]
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

            /// Overwrites, in the `raw` fields of an image (at least [`RAW_SIZE`] bytes), those in
            /// which this header differs from `old`. All others keep their bytes.
            ///
            /// # Errors
            ///
            /// As [`Header::encode`].
            pub fn write_changes(&self, old: &Self, raw: &mut [u8]) -> Result<()> {
                let encoded = self.to_raw()?;
                $( if self.$name != old.$name {
                    raw[$offset..$offset + size_of::<$disk>()].copy_from_slice(encoded.$name.as_bytes());
                } )+
                Ok(())
            }

            /// Every field in the order of the format and under its name there, with `magic`
            /// and `version`.
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
    /// The base image is never read again; also true when there is none.
    8 all_data_in_fvd_img: I32 => bool,
    /// Size of the disk as the guest sees it, in bytes; a multiple of 512.
    12 virtual_disk_size: I64 => u64,
    /// Bytes of everything before the data. Rounded down to 512 it is where the data starts,
    /// unless there is a [`data_file`](Self::data_file).
    20 metadata_size: I64 => u64,
    /// Path or URL of the base image, at most 1023 bytes; empty: none. Untrusted.
    28 base_img: [u8; 1024] => OsString,
    /// Format name of the base image, at most 15 bytes; empty: detect.
    1052 base_img_fmt: [u8; 16] => String,
    /// Bytes of the disk that the base image and the bitmap cover, at most
    /// [`virtual_disk_size`](Self::virtual_disk_size); a multiple of 512, frozen at creation.
    1068 base_img_size: I64 => u64,
    /// Byte offset of the bitmap in the image.
    1076 bitmap_offset: I64 => u64,
    /// Bytes of the bitmap, a multiple of 4096; 0: there is no bitmap.
    1084 bitmap_size: I64 => u64,
    /// Bytes that one bit of the bitmap speaks for; a multiple of 512, not always a power of two.
    1092 block_size: I32 => u64,
    /// Store what was read from the base image.
    1096 copy_on_read: I32 => bool,
    /// Bytes waiting to be stored above which copy-on-read pauses; 2000000 by default.
    1100 max_outstanding_copy_on_read_data: I64 => i64,
    /// Path of the separate data file, at most 1023 bytes; empty: the data follows the metadata.
    /// Untrusted.
    1108 data_file: [u8; 1024] => OsString,
    /// Format name of the data file, at most 15 bytes; empty: detect.
    2132 data_file_fmt: [u8; 16] => String,
    /// Seconds from opening until prefetch starts; 0 and negative numbers: never.
    2148 prefetch_start_delay: I32 => i32,
    /// Byte offset of the region of the prefetch profile; 0: none. It goes up to the next region, or
    /// to the end of the metadata.
    2152 prefetch_profile_offset: I64 => u64,
    /// Entries of the prefetch profile, 12 bytes each; 0: it is empty.
    2160 prefetch_profile_entries: I64 => u64,
    /// Prefetch writes that may be outstanding; 2 by default.
    2168 num_prefetch_slots: I32 => i32,
    /// Bytes of one prefetch; by default 1 MiB rounded up to a multiple of
    /// [`block_size`](Self::block_size).
    2172 bytes_per_prefetch: I32 => i32,
    /// Milliseconds over which read throughput is measured; 100 by default.
    2176 prefetch_read_throughput_measure_time: I32 => i32,
    /// Milliseconds over which write throughput is measured; 100 by default.
    2180 prefetch_write_throughput_measure_time: I32 => i32,
    /// Weight of the old throughput average in percent, 0 to 100; 80 by default.
    2184 prefetch_perf_calc_alpha: I32 => i32,
    /// KiB/s of reads below which prefetch may pause; 5120 by default.
    2188 prefetch_min_read_throughput: I32 => i32,
    /// KiB/s of writes below which prefetch may pause; 5120 by default.
    2192 prefetch_min_write_throughput: I32 => i32,
    /// KiB/s of reads that prefetch may not exceed; 1000000000 by default.
    2196 prefetch_max_read_throughput: I32 => i32,
    /// KiB/s of writes that prefetch may not exceed; 1000000000 by default.
    2200 prefetch_max_write_throughput: I32 => i32,
    /// Milliseconds of the longest pause; 30000 by default.
    2204 prefetch_throttle_time: I32 => i32,
    /// Whether there is a table.
    2208 compact_image: I32 => bool,
    /// Byte offset of the table in the image.
    2212 table_offset: I64 => u64,
    /// Bytes that one table entry speaks for; a multiple of 4096, not always a power of two.
    /// Without a table it is whatever the user gave.
    2220 chunk_size: I64 => u64,
    /// Bytes by which the storage of a compact image grows at a time.
    2228 storage_grow_unit: I64 => u64,
    /// Command that grows the storage under a block device, at most 2047 bytes. Untrusted, never
    /// run.
    2236 add_storage_cmd: [u8; 2048] => OsString,
    /// Byte offset of the journal in the image.
    4284 journal_offset: I64 => u64,
    /// Bytes of the journal, a multiple of 4096; 0: there is no journal.
    4292 journal_size: I64 => u64,
    /// Bitmap and table on disk are complete and the journal is to be ignored.
    4300 clean_shutdown: I32 => bool,
    /// Storage that was never written must be made to read as zeros.
    4304 need_zero_init: I32 => bool,
    /// Whether sessions record a prefetch profile while there is none.
    4308 generate_prefetch_profile: I32 => bool,
    /// Bytes that the length of a prefetch profile entry is counted in; 4096 by default.
    4312 unit_of_prefetch_profile_entry_len: I32 => i32,
    /// Seconds from opening until prefetch by the profile starts; negative: never.
    4316 profile_directed_prefetch_start_delay: I32 => i32,
    /// `no`, `writethrough`, `writeback` or `writenocache`; empty means `no`. Never implemented.
    4320 write_updates_base_img: [u8; 16] => String,
}
