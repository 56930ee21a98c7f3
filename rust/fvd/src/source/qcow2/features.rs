//! Feature bits of a qcow2 image, and checks which of them prevent reading it.

use super::bytes::u32_at;
use super::header::Header;
use crate::error::{Error, Result};

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// Incompatible features that this crate knows.
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;

const LAZY_REFCOUNTS: u64 = 1 << 0;
const BITMAPS: u64 = 1 << 0;
const DATA_FILE_RAW: u64 = 1 << 1;

/// The feature bits of version 3. In version 2 they are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A program that does not know one of these must not open the image.
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    /// A program that does not know one of these clears it when it writes to the image.
    pub(super) autoclear: u64,
}

impl Features {
    /// The image was not closed, so its refcounts may be wrong. Reading does not need them.
    #[must_use]
    pub fn is_dirty(self) -> bool {
        self.incompatible & DIRTY != 0
    }

    /// QEMU has found contradictions in the metadata.
    #[must_use]
    pub fn is_corrupt(self) -> bool {
        self.incompatible & CORRUPT != 0
    }

    /// The data is in an external data file.
    #[must_use]
    pub fn has_data_file(self) -> bool {
        self.incompatible & DATA_FILE != 0
    }

    pub(super) fn has_compression_type(self) -> bool {
        self.incompatible & COMPRESSION_TYPE != 0
    }

    /// Clusters have subclusters.
    #[must_use]
    pub fn has_extended_l2(self) -> bool {
        self.incompatible & EXTENDED_L2 != 0
    }

    /// Refcounts are not updated with every change.
    #[must_use]
    pub fn has_lazy_refcounts(self) -> bool {
        self.compatible & LAZY_REFCOUNTS != 0
    }

    /// The bitmaps are up to date.
    #[must_use]
    pub fn has_bitmaps(self) -> bool {
        self.autoclear & BITMAPS != 0
    }

    /// The external data file is a raw disk.
    #[must_use]
    pub fn is_data_file_raw(self) -> bool {
        self.autoclear & DATA_FILE_RAW != 0
    }
}

impl Header {
    /// Fails if this crate cannot read the image, with advice.
    pub(super) fn check_readable(&self) -> Result<()> {
        let convert = "`qemu-img convert` makes a raw disk or another qcow2 image of it, which can be read";
        let unknown = self.features.incompatible & !KNOWN;
        if unknown != 0 {
            let message = format!(
                "The image needs qcow2 features that are not known here: {}",
                self.names(unknown)
            );
            return Err(Error::unsupported(message).with_hint(convert));
        }
        if let Some(encryption) = self.encryption() {
            let message = format!("The image is encrypted ({encryption})");
            return Err(Error::unsupported(message).with_hint(convert));
        }
        if self.features.is_corrupt() {
            let message = "The image is marked corrupt";
            let hint = "`qemu-img check -r all` repairs it, `qemu-img convert` copies what can be read";
            return Err(Error::invalid_image(message).with_hint(hint));
        }
        if (self.compression_type == 0) == self.features.has_compression_type() {
            let message = format!(
                "The feature bits do not go with the compression type {}",
                self.compression_type
            );
            return Err(Error::invalid_image(message));
        }
        if self.compression().is_none() {
            let message = format!("The compression type {} is not known", self.compression_type);
            return Err(Error::unsupported(message).with_hint(convert));
        }
        Ok(())
    }

    /// Lists the incompatible features in `bits` by number, with the names that the image gives them.
    fn names(&self, bits: u64) -> String {
        let of = |bit: u8| {
            let mut entries = self.feature_names.chunks_exact(48);
            let entry = entries.find(|entry| entry[..2] == [0, bit]);
            match entry {
                Some(entry) => format!(
                    "{bit} ({})",
                    String::from_utf8_lossy(&entry[2..]).trim_end_matches('\0')
                ),
                None => bit.to_string(),
            }
        };
        let names: Vec<_> = (0..64).filter(|bit| bits >> bit & 1 != 0).map(of).collect();
        names.join(", ")
    }
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// DEFLATE without a header.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

impl Compression {
    /// The spelling of qemu-img.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}

/// The name of an encryption method, by its number in the header.
pub(super) fn encryption_name(method: u32) -> Option<&'static str> {
    match method {
        0 => None,
        1 => Some("aes"),
        2 => Some("luks"),
        _ => Some("of an unknown kind"),
    }
}

/// The encryption method in a header. 0 if the header is shorter.
pub(super) fn crypt_method(bytes: &[u8]) -> u32 {
    u32_at(bytes, 32).unwrap_or(0)
}
