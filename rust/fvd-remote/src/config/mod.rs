//! What the user has set: by URL prefix in a file, and in the environment (`docs/remote.md`).

mod environment;
mod file;
mod rule;
mod tuning;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fvd::{Error, Result};

pub use rule::Rule;
pub use tuning::{Outage, Tuning};

pub(crate) use environment::Environment;

use crate::cache::CacheOptions;
use crate::hooks::{HeaderSource, KeySource, UrlSource, UrlSources};

/// The configuration of an [`Opener`](crate::Opener).
#[derive(Clone, Default)]
pub struct Config {
    /// Time limits, sizes and the behaviour in an outage.
    pub tuning: Tuning,
    /// The host cache. Default: none.
    pub cache: Option<CacheOptions>,
    /// Looks for no manifest of an object, whatever the rules say.
    pub ignore_manifests: bool,
    pub(crate) cache_size: Option<u64>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) environment: Environment,
    pub(crate) header_sources: Vec<(String, Arc<dyn HeaderSource>)>,
    pub(crate) key_sources: Vec<(String, Arc<dyn KeySource>)>,
    pub(crate) url_sources: Vec<(String, Arc<UrlSources>)>,
}

impl Config {
    /// No rules, and no environment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The environment of the process, and the configuration file: the one that `FVD_REMOTE_CONFIG` names, or
    /// `~/.config/fvd/remote.toml`, or `/etc/fvd/remote.toml`. Without a file: no rules.
    pub fn load() -> Result<Self> {
        let environment = Environment::of_process();
        let mut config = Self::new();
        if let Some(path) = environment.get("FVD_REMOTE_CONFIG").filter(|path| !path.is_empty()) {
            config = Self::read(Path::new(&path))?;
        } else if let Some(path) = default_paths(&environment).find(|path| path.exists()) {
            config = Self::read(&path)?;
        }
        if let Some(dir) = environment.get("FVD_CACHE_DIR") {
            config.set_cache_dir(&dir);
        }
        config.environment = environment;
        Ok(config)
    }

    /// The rules of this file, without the environment.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", error).with_path(path))?;
        Self::parse(&text).map_err(|error| error.with_path(path))
    }

    /// The rules of this text, without the environment.
    pub fn parse(toml: &str) -> Result<Self> {
        let mut config = Self::new();
        file::parse(toml)?.apply(&mut config)?;
        Ok(config)
    }

    /// Variables as if the environment had them. Replaces what was there.
    #[must_use]
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = Environment::of(variables);
        self
    }

    /// The host cache in another folder, of the size that the configuration gives. An empty one: none.
    pub fn set_cache_dir(&mut self, dir: impl AsRef<Path>) {
        let dir = dir.as_ref();
        let size = self.cache_size.unwrap_or(CacheOptions::SIZE);
        self.cache = (!dir.as_os_str().is_empty()).then(|| CacheOptions {
            dir: dir.to_owned(),
            size,
        });
    }

    /// Adds headers from the program to the requests for URLs below `prefix`. They go to the host of that URL
    /// only, and are asked for again when the server answers 401 or 403.
    #[must_use]
    pub fn with_headers(mut self, prefix: &str, source: Arc<dyn HeaderSource>) -> Self {
        self.header_sources.push((prefix.to_owned(), source));
        self
    }

    /// Signs the requests for the objects of S3 below `prefix` with keys from the program.
    #[must_use]
    pub fn with_keys(mut self, prefix: &str, source: Arc<dyn KeySource>) -> Self {
        self.key_sources.push((prefix.to_owned(), source));
        self
    }

    /// Reads the objects below `prefix` from other URLs, such as presigned ones. No header goes along.
    #[must_use]
    pub fn with_urls(mut self, prefix: &str, sources: Arc<UrlSources>) -> Self {
        self.url_sources.push((prefix.to_owned(), sources));
        self
    }

    /// The rule with the longest prefix that covers `url`.
    pub(crate) fn rule(&self, url: &str) -> Rule {
        let covering = self.rules.iter().filter(|rule| covers(&rule.prefix, url));
        covering
            .max_by_key(|rule| rule.prefix.len())
            .cloned()
            .unwrap_or_default()
    }

    /// The prefixes that decide about `url`: URLs with the same ones can share a store.
    pub(crate) fn key(&self, url: &str) -> String {
        let headers = longest(&self.header_sources, url).map_or("", |(prefix, _)| prefix);
        let keys = longest(&self.key_sources, url).map_or("", |(prefix, _)| prefix);
        format!("{} {headers} {keys}", self.rule(url).prefix)
    }

    pub(crate) fn header_source(&self, url: &str) -> Option<Arc<dyn HeaderSource>> {
        longest(&self.header_sources, url).map(|(_, source)| Arc::clone(source))
    }

    pub(crate) fn key_source(&self, url: &str) -> Option<Arc<dyn KeySource>> {
        longest(&self.key_sources, url).map(|(_, source)| Arc::clone(source))
    }

    pub(crate) fn url_source(&self, url: &str) -> Option<Arc<dyn UrlSource>> {
        longest(&self.url_sources, url).map(|(_, sources)| sources(url))
    }
}

/// What has the longest prefix that covers `url`.
fn longest<'a, T>(all: &'a [(String, T)], url: &str) -> Option<&'a (String, T)> {
    let covering = all.iter().filter(|(prefix, _)| covers(prefix, url));
    covering.max_by_key(|(prefix, _)| prefix.len())
}

fn default_paths(environment: &Environment) -> impl Iterator<Item = PathBuf> {
    let home = environment.get("HOME").filter(|home| !home.is_empty());
    let own = environment
        .get("XDG_CONFIG_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| home.map(|home| Path::new(&home).join(".config")));
    let own = own.map(|folder| folder.join("fvd/remote.toml"));
    own.into_iter().chain([PathBuf::from("/etc/fvd/remote.toml")])
}

/// Whether `url` is `prefix`, or continues it after the end of a path segment. `https://example.org` does not
/// cover `https://example.org.evil.net`.
fn covers(prefix: &str, url: &str) -> bool {
    let Some(rest) = url.strip_prefix(prefix) else {
        return false;
    };
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with(['/', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_decides() {
        let config = Config::parse(
            r#"
            [[remote]]
            prefix = "s3://images"
            region = "a"
            [[remote]]
            prefix = "s3://images/debian"
            region = "b"
            "#,
        )
        .expect("valid");
        let region = |url| config.rule(url).region;
        assert_eq!(region("s3://images/x").as_deref(), Some("a"));
        assert_eq!(region("s3://images/debian/12").as_deref(), Some("b"));
        assert_eq!(region("s3://images/debian").as_deref(), Some("b"));
        assert_eq!(region("s3://images/debian-12").as_deref(), Some("a"));
        assert_eq!(region("s3://images-2/x"), None);
    }

    #[test]
    fn the_page_about_the_configuration_is_valid() {
        let page = include_str!("../../../../docs/remote.md");
        let blocks = page
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        let configs: Vec<_> = blocks.map(|block| Config::parse(block).expect(block)).collect();
        assert!(configs.len() >= 2, "the page has examples");
    }
}
