//! Which object an answer came from (R1).

use std::fmt;

use fvd::remote::{Pin, Validator};
use http::HeaderMap;
use http::header::{ETAG, HeaderName, LAST_MODIFIED};

const S3_VERSION: HeaderName = HeaderName::from_static("x-amz-version-id");
const AZURE_VERSION: HeaderName = HeaderName::from_static("x-ms-version-id");
const GCS_GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");

/// Everything that an answer says about which object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) len: u64,
    /// Strong ones only: a weak `ETag` stays the same when bytes change.
    pub(crate) etag: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) modified: Option<String>,
}

impl Identity {
    /// What `headers` say about an object of `len` bytes.
    pub(crate) fn of(len: u64, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        let versions = [&S3_VERSION, &GCS_GENERATION, &AZURE_VERSION];
        Self {
            len,
            etag: text(&ETAG).filter(|tag| tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2),
            // S3 says "null" for what was stored before its bucket had versions.
            version: versions.into_iter().find_map(text).filter(|version| version != "null"),
            modified: text(&LAST_MODIFIED),
        }
    }

    /// Nothing.
    pub(crate) fn unknown() -> Self {
        Self::of(0, &HeaderMap::new())
    }

    /// What a pin says, so that the first request can ask for it.
    pub(crate) fn pinned(pin: &Pin) -> Self {
        let mut identity = Self {
            len: pin.len,
            ..Self::unknown()
        };
        match &pin.validator {
            Validator::Length | Validator::Manifest(_) => {}
            Validator::Modified(time) => identity.modified = Some(time.clone()),
            Validator::ETag(tag) => identity.etag = Some(tag.clone()),
            Validator::Version(version) => identity.version = Some(version.clone()),
        }
        identity
    }

    /// The strongest mark.
    pub(crate) fn pin(&self) -> Pin {
        let validator = if let Some(version) = &self.version {
            Validator::Version(version.clone())
        } else if let Some(tag) = &self.etag {
            Validator::ETag(tag.clone())
        } else if let Some(time) = &self.modified {
            Validator::Modified(time.clone())
        } else {
            Validator::Length
        };
        Pin {
            len: self.len,
            validator,
        }
    }

    /// Whether this is the object of `pin`. False if it has no mark of the kind that the pin has.
    pub(crate) fn is_pinned_by(&self, pin: &Pin) -> bool {
        self.len == pin.len
            && match &pin.validator {
                Validator::Length => true,
                Validator::Modified(time) => self.modified.as_ref() == Some(time),
                Validator::ETag(tag) => self.etag.as_ref() == Some(tag),
                Validator::Version(version) => self.version.as_ref() == Some(version),
                Validator::Manifest(_) => false,
            }
    }

    /// Whether `answer` came from the same object: every mark that was there is there again. `Last-Modified`
    /// counts only without a stronger mark: servers that share one name may disagree about it.
    pub(crate) fn is_same(&self, answer: &Self) -> bool {
        let is_strong = self.version.is_some() || self.etag.is_some();
        self.len == answer.len
            && (self.version.is_none() || self.version == answer.version)
            && (self.etag.is_none() || self.etag == answer.etag)
            && (is_strong || self.modified.is_none() || self.modified == answer.modified)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)?;
        if let Some(version) = &self.version {
            write!(f, ", version {version}")?;
        }
        if let Some(tag) = &self.etag {
            write!(f, ", ETag {tag}")?;
        }
        match &self.modified {
            Some(time) if self.etag.is_none() && self.version.is_none() => write!(f, ", modified {time}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn identity(pairs: &[(HeaderName, &'static str)]) -> Identity {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Identity::of(100, &pairs.collect())
    }

    #[test]
    fn the_strongest_mark_becomes_the_pin() {
        let all = [
            (S3_VERSION, "v1"),
            (ETAG, "\"e\""),
            (LAST_MODIFIED, "Mon, 30 Nov 2026 10:00:00 GMT"),
        ];
        assert_eq!(identity(&all).pin().validator, Validator::Version("v1".into()));
        assert_eq!(identity(&all[1..]).pin().validator, Validator::ETag("\"e\"".into()));
        assert!(matches!(identity(&all[2..]).pin().validator, Validator::Modified(_)));
        assert_eq!(identity(&[]).pin().validator, Validator::Length);
    }

    #[test]
    fn weak_etags_and_null_versions_are_no_marks() {
        let found = identity(&[(S3_VERSION, "null"), (ETAG, "W/\"e\"")]);
        assert_eq!((found.version, found.etag), (None, None));
    }

    #[test]
    fn an_answer_without_the_mark_is_another_object() {
        let known = identity(&[(ETAG, "\"e\"")]);
        assert!(known.is_same(&known));
        assert!(!known.is_same(&identity(&[])));
        assert!(!known.is_same(&identity(&[(ETAG, "\"f\"")])));
        assert!(!known.is_same(&Identity {
            len: 99,
            ..known.clone()
        }));
        assert!(!identity(&[]).is_pinned_by(&known.pin()));
        assert!(
            identity(&[]).is_same(&known),
            "a server that begins to send marks is no change"
        );
    }
}
