//! The configuration file.

use std::path::PathBuf;
use std::time::Duration;

use fvd::{Error, Result};
use serde::Deserialize;
use url::Url;

use super::{Config, Outage, Rule};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// `wait` or `report`.
    on_outage: Option<String>,
    /// Seconds, with `report`.
    base_timeout: Option<u64>,
    cache: Option<CacheTable>,
    #[serde(default)]
    remote: Vec<Rule>,
}

/// `[cache]`: the host cache.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheTable {
    dir: Option<PathBuf>,
    /// Bytes, or a text with a suffix.
    size: Option<Size>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "size is a number of bytes, or a text such as \"10G\"")]
enum Size {
    Bytes(u64),
    Text(String),
}

/// Errors name the line, and no value, which may be a credential.
pub(super) fn parse(text: &str) -> Result<File> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
        let line = before.matches('\n').count() + 1;
        Error::invalid_argument(format!("Line {line}: {}", without_values(error.message())))
    })
}

/// `message` without what it quotes from the file.
fn without_values(message: &str) -> String {
    let parts = message.split('"').enumerate();
    let kept: Vec<&str> = parts.map(|(i, part)| if i % 2 == 0 { part } else { "..." }).collect();
    kept.join("\"")
}

impl File {
    pub(super) fn apply(self, config: &mut Config) -> Result<()> {
        config.tuning.on_outage = outage(self.on_outage.as_deref(), self.base_timeout)?;
        for rule in &self.remote {
            check(rule)?;
        }
        config.rules = self.remote;
        if let Some(CacheTable { dir, size }) = self.cache {
            config.cache_size = size.map(Size::bytes).transpose()?;
            if let Some(dir) = dir {
                config.set_cache_dir(dir);
            }
        }
        Ok(())
    }
}

impl Size {
    /// The number of bytes, with the suffixes of QEMU's tools.
    fn bytes(self) -> Result<u64> {
        let text = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Text(text) => text,
        };
        let digits = text.trim_end_matches(|end: char| end.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" | "B" | "b" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" | "t" => 40,
            _ => 64,
        };
        let bytes = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(1u64.checked_shl(shift)?));
        bytes.ok_or_else(|| {
            Error::invalid_argument("The size of the cache is a number with K, M, G or T, such as \"10G\"")
        })
    }
}

fn outage(what: Option<&str>, seconds: Option<u64>) -> Result<Outage> {
    match (what, seconds) {
        (None | Some("wait"), None) => Ok(Outage::Wait),
        (Some("report"), seconds) => Ok(Outage::Report(Duration::from_secs(seconds.unwrap_or(30)))),
        (None | Some("wait"), Some(_)) => Err(Error::invalid_argument(
            "base_timeout needs on_outage = \"report\": reads that wait have no limit",
        )),
        (Some(_), _) => Err(Error::invalid_argument("on_outage is \"wait\" or \"report\"")),
    }
}

fn check(rule: &Rule) -> Result<()> {
    let name = Url::parse(&rule.prefix).ok().filter(Url::has_host);
    let Some(url) = name else {
        return Err(Error::invalid_argument("A prefix is a URL with a host or a bucket"));
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(Error::invalid_argument(
            "A prefix has no user, no password and no query",
        ));
    }
    let of = |text: &str| Error::invalid_argument(format!("{}: {text}", rule.prefix));
    let is_web = matches!(url.scheme(), "http" | "https");
    if is_web && (rule.endpoint.is_some() || rule.region.is_some() || rule.account.is_some()) {
        return Err(of("endpoint, region and account are for s3://, gs:// and az://"));
    }
    for (header, value) in &rule.headers {
        let is_valid =
            http::HeaderName::try_from(header).is_ok() && http::HeaderValue::try_from(value.expose()).is_ok();
        if !is_valid {
            return Err(of(&format!("the header {header:?} cannot be sent")));
        }
    }
    if rule.credential_helper.first().is_some_and(String::is_empty) {
        return Err(of("credential_helper names a program and its arguments"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_about_the_file_shows_a_value() {
        for text in [
            "remote = \"hunter2\"",
            "[[remote]]\nprefix = \"s3://a\"\nregion = [\"hunter2\"]",
            "[[remote]]\nprefix = \"https://u:hunter2@h/\"",
            "[[remote]]\nprefix = \"https://h/\"\nheaders = \"hunter2\"",
            "[[remote]]\nprefix = \"https://h/\"\nheaders = { a = \"hunter2\\n\" }",
            "[[remote]]\nprefix = \"https://h/\"\nproxy = hunter2",
            "on_outage = \"hunter2\"",
        ] {
            let error = Config::parse(text).err().expect(text);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_names_the_line() {
        let error = Config::parse("[[remote]]\nprefix = \"s3://a\"\nplace = \"x\"")
            .err()
            .expect("a typo");
        assert!(
            error.to_string().starts_with("Line 3: unknown field `place`"),
            "{error}"
        );
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let text = "[[remote]]\nprefix = \"https://h/\"\nproxy = \"http://u:hunter2@p\"\nheaders = { A = \"hunter2\" }";
        let config = Config::parse(text).expect("valid");
        assert!(!format!("{:?}", config.rules).contains("hunter2"));
    }
}
