//! The pin of a backing file on another machine: which object the image stands on (docs/design/format.md,
//! section 13).
//!
//! ```text
//! length of the object u64 | kind u8 | validator, as many bytes as the record has
//! ```

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The most bytes of a validator that is stored as it is. Of a longer one, the SHA-256 is stored.
pub const MAX_VALIDATOR: usize = 128;

/// Added to the kind where the SHA-256 of the validator is stored.
const IS_DIGEST: u8 = 0x80;

/// The kind of mark by which a server tells an object from others of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinKind {
    /// None: only the length is known.
    Length = 0,
    /// `Last-Modified`.
    Modified = 1,
    /// A strong `ETag`.
    ETag = 2,
    /// A version or generation.
    Version = 3,
    /// SHA-256 of a manifest, 32 bytes.
    Manifest = 4,
}

impl PinKind {
    const ALL: [Self; 5] = [Self::Length, Self::Modified, Self::ETag, Self::Version, Self::Manifest];

    /// A word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Modified => "modified",
            Self::ETag => "etag",
            Self::Version => "version",
            Self::Manifest => "manifest",
        }
    }
}

/// A pin as an image stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPin {
    /// Length of the object in bytes.
    pub len: u64,
    /// What the validator is.
    pub kind: PinKind,
    /// The validator, or with `is_digest` its SHA-256.
    value: Vec<u8>,
    is_digest: bool,
}

impl StoredPin {
    /// A pin with this validator. An empty one tells nothing: then only the length counts.
    #[must_use]
    pub fn new(len: u64, kind: PinKind, validator: &[u8]) -> Self {
        let kind = if validator.is_empty() { PinKind::Length } else { kind };
        let is_digest = validator.len() > MAX_VALIDATOR;
        let value = if is_digest {
            Sha256::digest(validator).to_vec()
        } else {
            validator.to_vec()
        };
        Self {
            len,
            kind,
            value,
            is_digest,
        }
    }

    /// The validator. None: only its SHA-256 is stored.
    #[must_use]
    pub fn validator(&self) -> Option<&[u8]> {
        (!self.is_digest).then_some(&self.value)
    }

    /// The validator for people: text, or a hash in hexadecimal digits.
    #[must_use]
    pub fn shown_validator(&self) -> String {
        if self.is_digest || self.kind == PinKind::Manifest {
            return hex(&self.value);
        }
        String::from_utf8_lossy(&self.value).into_owned()
    }

    /// Whether [`shown_validator`](Self::shown_validator) is the SHA-256 of the validator.
    #[must_use]
    pub fn is_digest(&self) -> bool {
        self.is_digest
    }

    /// The content of the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = self.kind as u8 | if self.is_digest { IS_DIGEST } else { 0 };
        [&self.len.to_le_bytes()[..], &[kind], &self.value].concat()
    }

    /// The pin in the content of a record.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for kinds of later versions;
    /// [`InvalidImage`](crate::ErrorKind::InvalidImage) if a part is missing or has the wrong length.
    pub fn decode(record: &[u8]) -> Result<Self> {
        let broken = || Error::invalid_image("The pin of the backing file is broken: it has the wrong length");
        let (len, rest) = record.split_first_chunk().ok_or_else(broken)?;
        let (&kind, value) = rest.split_first().ok_or_else(broken)?;
        let is_digest = kind & IS_DIGEST != 0;
        let of_number = PinKind::ALL.into_iter().find(|known| *known as u8 == kind & !IS_DIGEST);
        let kind = of_number.ok_or_else(|| {
            let message = format!("The pin of the backing file has the kind {kind}, which a later version knows");
            Error::unsupported(message)
        })?;
        let fits = match (is_digest, kind) {
            (true, _) | (false, PinKind::Manifest) => value.len() == 32,
            (false, PinKind::Length) => value.is_empty(),
            (false, _) => (1..=MAX_VALIDATOR).contains(&value.len()) && std::str::from_utf8(value).is_ok(),
        };
        if !fits {
            return Err(broken());
        }
        Ok(Self {
            len: u64::from_le_bytes(*len),
            kind,
            value: value.to_vec(),
            is_digest,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

impl fmt::Display for StoredPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)?;
        if self.kind == PinKind::Length {
            return Ok(());
        }
        let name = if self.kind == PinKind::ETag {
            "ETag"
        } else {
            self.kind.name()
        };
        let of = if self.is_digest { " with SHA-256" } else { "" };
        write!(f, ", {name}{of} {}", self.shown_validator())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_every_kind_read_back() {
        for kind in PinKind::ALL {
            let validator = match kind {
                PinKind::Length => Vec::new(),
                PinKind::Manifest => vec![7; 32],
                _ => b"\"abc\"".to_vec(),
            };
            let pin = StoredPin::new(1 << 40, kind, &validator);
            assert_eq!(StoredPin::decode(&pin.encode()).expect("valid"), pin);
            assert_eq!(pin.validator(), Some(validator.as_slice()));
        }
    }

    #[test]
    fn of_a_long_validator_the_hash_is_stored() {
        let long = vec![b'x'; MAX_VALIDATOR + 1];
        let pin = StoredPin::new(5, PinKind::ETag, &long);
        assert_eq!((pin.validator(), pin.encode().len()), (None, 41));
        assert_eq!(StoredPin::decode(&pin.encode()).expect("valid"), pin);
        assert_ne!(pin, StoredPin::new(5, PinKind::ETag, &[long.as_slice(), b"y"].concat()));
        assert!(pin.to_string().starts_with("5 bytes, ETag with SHA-256 "), "{pin}");
        // The first digits of the known hash of an empty text.
        let empty = hex(&Sha256::digest(b""));
        assert!(empty.starts_with("e3b0c44298fc1c14"), "{empty}");
    }

    #[test]
    fn a_broken_record_is_refused() {
        let valid = StoredPin::new(5, PinKind::ETag, b"\"a\"").encode();
        for broken in [&valid[..0], &valid[..8], &valid[..9]] {
            StoredPin::decode(broken).expect_err("a part is missing");
        }
        for (kind, value) in [
            (0, &b"a"[..]),
            (4, b"short"),
            (0x82, b"short"),
            (2, b"\xff"),
            (5, b"a"),
            (0x7f, b"a"),
        ] {
            StoredPin::decode(&[&[0; 8][..], &[kind], value].concat()).expect_err("no such pin");
        }
    }
}
