//! What a program can decide for the crate.

use std::sync::Arc;
use std::time::SystemTime;

use fvd::Result;

use crate::secret::Secret;

/// Headers for requests, such as `Authorization`. May block: it is called on a thread of its own.
pub trait HeaderSource: Send + Sync + 'static {
    /// Headers that are valid now. Called once before the first request, and again shortly before they expire
    /// and after the server has refused them.
    fn headers(&self) -> Result<Vec<(String, Secret)>>;

    /// Until when those that were given last are valid. None: until they are refused.
    fn expires(&self) -> Option<SystemTime> {
        None
    }
}

/// The keys of an S3 account.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Secret,
    /// `AWS_SESSION_TOKEN`.
    pub token: Option<Secret>,
}

/// Keys that sign requests to S3. May block: it is called on a thread of its own.
pub trait KeySource: Send + Sync + 'static {
    /// Keys that are valid now. Called as [`HeaderSource::headers`].
    fn keys(&self) -> Result<Keys>;

    /// Until when those that were given last are valid. None: until they are refused.
    fn expires(&self) -> Option<SystemTime> {
        None
    }
}

/// The URL to read from, if it is not the name of the object: a presigned one. May block.
pub trait UrlSource: Send + Sync + 'static {
    /// A URL (`http` or `https`) that is valid now. Called again shortly before it expires and after the server
    /// has refused it.
    fn url(&self) -> Result<String>;

    /// Until when the one that was given last is valid. None: until it is refused.
    fn expires(&self) -> Option<SystemTime> {
        None
    }
}

/// Makes the source of URLs for the object of this name.
pub type UrlSources = dyn Fn(&str) -> Arc<dyn UrlSource> + Send + Sync;
