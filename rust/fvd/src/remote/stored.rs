//! Pins as images store them.

use super::{Pin, Validator};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{PinKind, StoredPin};

/// How a user accepts the object that is there now.
pub(crate) const UPDATE_HINT: &str = "`fvd amend -o backing_pin=update IMAGE` accepts what is there now";

impl From<&Pin> for StoredPin {
    fn from(pin: &Pin) -> Self {
        let (kind, validator): (_, &[u8]) = match &pin.validator {
            Validator::Length => (PinKind::Length, &[]),
            Validator::Modified(time) => (PinKind::Modified, time.as_bytes()),
            Validator::ETag(tag) => (PinKind::ETag, tag.as_bytes()),
            Validator::Version(version) => (PinKind::Version, version.as_bytes()),
            Validator::Manifest(hash) => (PinKind::Manifest, hash),
        };
        Self::new(pin.len, kind, validator)
    }
}

impl StoredPin {
    /// The pin for an opener. None if only a hash of its validator is known.
    #[must_use]
    pub fn whole(&self) -> Option<Pin> {
        let validator = self.validator()?;
        let text = || String::from_utf8_lossy(validator).into_owned();
        let validator = match self.kind {
            PinKind::Length => Validator::Length,
            PinKind::Modified => Validator::Modified(text()),
            PinKind::ETag => Validator::ETag(text()),
            PinKind::Version => Validator::Version(text()),
            PinKind::Manifest => Validator::Manifest(validator.try_into().ok()?),
        };
        Some(Pin {
            len: self.len,
            validator,
        })
    }

    /// Fails if `found` is another object. An opener that was given the whole pin has compared the validators
    /// itself, and may know the object by a stronger one now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], with what was expected and what is there.
    pub(crate) fn check(&self, found: &Pin) -> Result<()> {
        let other = Self::from(found);
        let is_compared = self.validator().is_some() && self.kind != other.kind;
        if self.len == found.len && (is_compared || *self == other) {
            return Ok(());
        }
        let message = format!("Another object is there: expected {self}, found {found}");
        Err(Error::new(ErrorKind::Io, message).with_hint(UPDATE_HINT))
    }

    /// Fails if `given`, which the user gives in place of this object, is another one: by its length, and by its
    /// mark if both have one. The mark is a text that may stand for any kind of validator.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`], with what was expected and what was given.
    pub(crate) fn check_given(&self, given: &Pin) -> Result<()> {
        let mark = match &given.validator {
            Validator::ETag(mark) | Validator::Version(mark) | Validator::Modified(mark) => Some(mark),
            Validator::Length | Validator::Manifest(_) => None,
        };
        let is_same = |mark: &String| match self.kind {
            PinKind::Length => true,
            PinKind::Manifest => self.shown_validator() == *mark,
            kind => Self::new(given.len, kind, mark.as_bytes()) == *self,
        };
        if self.len == given.len && mark.is_none_or(is_same) {
            return Ok(());
        }
        let mark = mark.map(|mark| format!(", identity {mark}")).unwrap_or_default();
        let message = format!(
            "The base that was given is another object: expected {self}, given {} bytes{mark}",
            given.len
        );
        Err(Error::new(ErrorKind::Io, message))
    }
}
