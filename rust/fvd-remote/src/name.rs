//! The URL of an object: what it may contain, and how messages show it.

use fvd::{Error, Result};
use url::Url;

/// How an object is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `http` and `https`.
    Web,
    S3,
    Gcs,
    Azure,
}

/// Parameters of a query that carry a signature or a credential.
const SIGNED: [&str; 11] = [
    "access_token",
    "awsaccesskeyid",
    "googleaccessid",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

/// The URL of an object, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) scheme: Scheme,
    pub(crate) url: Url,
    /// As it was given. Messages and the image show this.
    pub(crate) text: String,
}

impl Name {
    /// Reads the URL of a base. Its errors never contain the URL, because it may have a credential in it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|error| Error::invalid_argument(format!("The base is no URL: {error}")))?;
        let scheme = scheme(&url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid_argument(
                "The URL of a base has no user name and no password: images are copied, and credentials belong into \
                 the configuration (docs/remote.md)",
            ));
        }
        if let Some(name) = signed_parameter(&url) {
            return Err(Error::invalid_argument(format!(
                "The URL of a base has a signature or a token in it (parameter {name}): images are copied, so it must \
                 be given when the image is opened"
            )));
        }
        if url.fragment().is_some() {
            return Err(Error::invalid_argument("The URL of a base has no fragment (#)"));
        }
        let is_bare = url.path().trim_start_matches('/').is_empty();
        if scheme != Scheme::Web && (is_bare || url.host_str().is_none_or(str::is_empty)) {
            return Err(Error::invalid_argument(format!(
                "A base in a store is named {}://BUCKET/KEY",
                url.scheme()
            )));
        }
        let text = text.to_owned();
        Ok(Self { scheme, url, text })
    }

    /// The bucket or container.
    pub(crate) fn bucket(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The key, percent-encoded.
    pub(crate) fn key(&self) -> &str {
        self.url.path().trim_start_matches('/')
    }

    /// The sidecar of this object: its name and `suffix`. None for a name with a query: a version, or
    /// something that only its server knows.
    pub(crate) fn sidecar(&self, suffix: &str) -> Option<Self> {
        if self.url.query().is_some() {
            return None;
        }
        Self::parse(&format!("{}{suffix}", self.text)).ok()
    }

    /// A parameter of the query, such as `versionId`.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let found = self.url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }
}

fn scheme(url: &Url) -> Result<Scheme> {
    match url.scheme() {
        "http" | "https" => Ok(Scheme::Web),
        "s3" => Ok(Scheme::S3),
        "gs" => Ok(Scheme::Gcs),
        "az" => Ok(Scheme::Azure),
        other => Err(Error::unsupported(format!(
            "fvd reads no base from {other}:// (known: http, https, s3, gs, az, nbd, nbds, nbd+unix, nbds+unix)"
        ))),
    }
}

fn signed_parameter(url: &Url) -> Option<String> {
    let mut names = url.query_pairs().map(|(name, _)| name.to_ascii_lowercase());
    names.find(|name| SIGNED.contains(&name.as_str()))
}

/// A URL for messages: without user, password, query and fragment, where credentials may be.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that cannot have a user, which then have none.
    _ = url.set_username("");
    _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_credential_in_it_and_no_error_shows_one() {
        for text in [
            "https://user:hunter2@host/x",
            "https://hunter2@host/x",
            "https://host/x?X-Amz-Signature=hunter2",
            "https://host/x?a=b&sig=hunter2",
            "ftp://hunter2@host/x",
            "hunter2",
            "s3://hunter2",
        ] {
            let error = Name::parse(text).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_name_in_a_store_has_a_bucket_and_a_key() {
        let name = Name::parse("s3://images/a%20b/debian.raw?versionId=7").expect("valid");
        assert_eq!((name.bucket(), name.key()), ("images", "a%20b/debian.raw"));
        assert_eq!(name.parameter("versionId").as_deref(), Some("7"));
        assert_eq!(name.text, "s3://images/a%20b/debian.raw?versionId=7");
    }

    #[test]
    fn messages_show_no_query_of_a_url() {
        let url = Url::parse("https://u:p@cdn.example.org/x?sig=hunter2#f").expect("valid");
        assert_eq!(shown(&url), "https://cdn.example.org/x");
    }
}
