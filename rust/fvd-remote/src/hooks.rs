//! What a program can decide for the crate.

use fvd::Result;

use crate::secret::Secret;

/// Headers for requests, such as `Authorization`. May block: it is called on a thread of its own.
pub trait HeaderSource: Send + Sync + 'static {
    /// Headers that are valid now. Called once before the first request, and again after the server has
    /// refused them.
    fn headers(&self) -> Result<Vec<(String, Secret)>>;
}

/// The URL to read from, if it is not the name of the object: a presigned one. May block.
pub trait UrlSource: Send + Sync + 'static {
    /// A URL (`http` or `https`) that is valid now. Called again after the server has refused it.
    fn url(&self) -> Result<String>;
}
