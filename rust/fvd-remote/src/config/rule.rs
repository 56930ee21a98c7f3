//! What is set for the URLs below a prefix.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::secret::Secret;

/// A `[[remote]]` of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The URLs that this is for: this one, and all below it.
    pub prefix: String,
    /// Where the store is, if not at its provider: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// The storage account of an Azure container.
    pub account: Option<String>,
    /// Whether the bucket is in the path (`ENDPOINT/BUCKET/KEY`). Default: only with an endpoint.
    pub path_style: Option<bool>,
    /// No credentials, for public buckets.
    #[serde(default)]
    pub anonymous: bool,
    /// A PEM file with the certificates that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// NBD: a PEM file with the certificates of the client.
    pub client_cert: Option<PathBuf>,
    /// NBD: a PEM file with the key of the client.
    pub client_key: Option<PathBuf>,
    /// `http://[USER:PASSWORD@]HOST:PORT`, instead of the environment's. Empty: none.
    pub proxy: Option<Secret>,
    /// Headers of every request to the host of the URL.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A program and its arguments that prints credentials.
    #[serde(default)]
    pub credential_helper: Vec<String>,
    /// Whether the manifest of an object is looked for (`docs/format-manifest.md`). Default: yes.
    pub manifest: Option<bool>,
    /// Allows a host with a link-local address.
    #[serde(default)]
    pub link_local: bool,
}
