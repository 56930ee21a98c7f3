//! Bytes of an index: a header, and an entry a unit (`docs/design/cache.md`). No I/O.

use std::fmt::Write as _;

use fvd::remote::{Pin, Validator};
use sha2::{Digest as _, Sha256};

use super::medium::Sizes;

/// Bytes before the first entry.
pub(crate) const HEADER: usize = 4096;
/// Bytes of an entry.
pub(crate) const ENTRY: usize = 16;
/// Where the time of the last use is in an entry.
pub(crate) const LAST_USE: u64 = 8;

const MAGIC: &[u8; 8] = b"FVDCACHE";
const VERSION: u32 = 1;
/// The largest unit, in bytes, and the most units of an object (64 TiB in units of 256 KiB): what a file says
/// must not decide how much memory a process needs.
const MOST_UNIT: u32 = 16 << 20;
const MOST_UNITS: u64 = 1 << 28;
/// Bytes of the header before its two texts.
const FIXED: usize = 40;
const CHECKSUM: usize = 36;

/// Which object a cached one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) url: String,
    pub(crate) pin: Pin,
    /// Bytes of a unit.
    pub(crate) unit: u32,
}

/// What the index says of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// CRC-32C of the data.
    pub(crate) crc: u32,
    /// Odd: the unit is there. Each change adds one.
    pub(crate) generation: u32,
    /// Seconds since 1970.
    pub(crate) last_use: u32,
}

impl Entry {
    pub(crate) fn is_present(&self) -> bool {
        self.generation % 2 == 1
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[0..4].copy_from_slice(&self.crc.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.last_use.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY]) -> Self {
        Self {
            crc: u32_at(bytes, 0),
            generation: u32_at(bytes, 4),
            last_use: u32_at(bytes, 8),
        }
    }
}

impl Label {
    /// None: the object cannot be in a cache. One without a validator may be replaced without notice, so what
    /// is stored of it would belong to no object for sure.
    pub(crate) fn new(url: &str, pin: &Pin, unit: u32) -> Option<Self> {
        let label = Self {
            url: url.to_owned(),
            pin: pin.clone(),
            unit,
        };
        let fits = FIXED + url.len() + label.validator().1.len() <= HEADER;
        let is_sized = pin.len > 0 && unit.is_power_of_two() && unit <= MOST_UNIT && label.units() <= MOST_UNITS;
        (fits && is_sized && pin.validator != Validator::Length).then_some(label)
    }

    fn validator(&self) -> (u32, &[u8]) {
        match &self.pin.validator {
            Validator::Length => (0, &[]),
            Validator::Modified(time) => (1, time.as_bytes()),
            Validator::ETag(tag) => (2, tag.as_bytes()),
            Validator::Version(version) => (3, version.as_bytes()),
            Validator::Manifest(hash) => (4, hash),
        }
    }

    /// The name of its folder: SHA-256 in hexadecimal digits.
    pub(crate) fn name(&self) -> String {
        let (kind, validator) = self.validator();
        let mut hash = Sha256::new();
        hash.update((self.url.len() as u64).to_le_bytes());
        hash.update(self.url.as_bytes());
        hash.update(self.pin.len.to_le_bytes());
        hash.update(self.unit.to_le_bytes());
        hash.update(kind.to_le_bytes());
        hash.update(validator);
        hash.finalize().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string never fails.
            _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(crate) fn units(&self) -> u64 {
        self.pin.len.div_ceil(self.unit.into())
    }

    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            index: HEADER as u64 + self.units() * ENTRY as u64,
            data: self.pin.len,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, validator) = self.validator();
        let mut header = vec![0; HEADER];
        header[0..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&self.unit.to_le_bytes());
        header[16..24].copy_from_slice(&self.pin.len.to_le_bytes());
        header[24..28].copy_from_slice(&kind.to_le_bytes());
        header[28..32].copy_from_slice(&(self.url.len() as u32).to_le_bytes());
        header[32..36].copy_from_slice(&(validator.len() as u32).to_le_bytes());
        let texts = FIXED + self.url.len();
        header[FIXED..texts].copy_from_slice(self.url.as_bytes());
        header[texts..texts + validator.len()].copy_from_slice(validator);
        let crc = crc32c::crc32c(&header);
        header[CHECKSUM..FIXED].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// None: these bytes are no header that this version wrote.
    pub(crate) fn decode(header: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = header.try_into().ok()?;
        let mut unsigned = *header;
        unsigned[CHECKSUM..FIXED].fill(0);
        let is_ours = header.starts_with(MAGIC)
            && u32_at(header, 8) == VERSION
            && u32_at(header, CHECKSUM) == crc32c::crc32c(&unsigned);
        if !is_ours {
            return None;
        }
        let (url_len, validator_len) = (u32_at(header, 28) as usize, u32_at(header, 32) as usize);
        let end = FIXED.checked_add(url_len)?;
        let url = str::from_utf8(header.get(FIXED..end)?).ok()?;
        let validator = header.get(end..end.checked_add(validator_len)?)?;
        let text = || String::from_utf8(validator.to_vec()).ok();
        let validator = match u32_at(header, 24) {
            1 => Validator::Modified(text()?),
            2 => Validator::ETag(text()?),
            3 => Validator::Version(text()?),
            4 => Validator::Manifest(validator.try_into().ok()?),
            _ => return None,
        };
        let len = u64::from_le_bytes(header[16..24].try_into().ok()?);
        Self::new(url, &Pin { len, validator }, u32_at(header, 12))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(validator: Validator) -> Label {
        let pin = Pin {
            len: 1 << 30,
            validator,
        };
        Label::new("https://example.org/a", &pin, 256 << 10).expect("it fits")
    }

    #[test]
    fn a_header_says_which_object_it_is() {
        for validator in [
            Validator::Modified("Mon, 30 Nov 2026 10:00:00 GMT".into()),
            Validator::ETag("\"e\"".into()),
            Validator::Version("v".into()),
            Validator::Manifest([7; 32]),
        ] {
            let label = label(validator);
            assert_eq!(Label::decode(&label.encode()), Some(label));
        }
    }

    #[test]
    fn a_header_with_any_other_byte_is_none() {
        let header = label(Validator::ETag("\"e\"".into())).encode();
        for at in 0..HEADER {
            let mut changed = header.clone();
            changed[at] ^= 0x10;
            assert_eq!(Label::decode(&changed), None, "byte {at}");
        }
        assert_eq!(Label::decode(&vec![0; HEADER]), None);
        assert_eq!(Label::decode(&header[..HEADER - 1]), None);
    }

    #[test]
    fn a_header_with_sizes_that_no_object_has_is_none() {
        let right = label(Validator::ETag("\"e\"".into()));
        for (len, unit) in [
            (u64::MAX, 256 << 10),
            (1 << 40, 1),
            (1 << 40, 1 << 31),
            (0, 256 << 10),
            (1 << 30, 3),
        ] {
            let pin = Pin {
                len,
                ..right.pin.clone()
            };
            let hostile = Label {
                pin,
                unit,
                ..right.clone()
            };
            assert_eq!(Label::decode(&hostile.encode()), None, "{len} bytes in units of {unit}");
        }
    }

    #[test]
    fn objects_that_differ_have_different_names() {
        let names = [
            label(Validator::ETag("1".into())),
            label(Validator::Version("1".into())),
            label(Validator::Version("11".into())),
        ]
        .map(|label| label.name());
        assert!(names.iter().all(|name| name.len() == 64));
        assert!(names[0] != names[1] && names[1] != names[2]);
    }

    #[test]
    fn an_object_without_a_validator_is_not_cached() {
        let pin = Pin {
            len: 1,
            validator: Validator::Length,
        };
        assert_eq!(Label::new("https://example.org/a", &pin, 256 << 10), None);
    }
}
