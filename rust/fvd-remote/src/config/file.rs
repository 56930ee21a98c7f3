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
    base_error: Option<String>,
    /// Seconds, which mean `report`.
    base_timeout: Option<f64>,
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
        config.tuning.on_outage = outage(self.base_error.as_deref(), self.base_timeout)?;
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

fn outage(what: Option<&str>, seconds: Option<f64>) -> Result<Outage> {
    let limit = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    if limit == Some(Duration::ZERO) {
        return Err(Error::invalid_argument(
            "base_timeout is a number of seconds, more than 0",
        ));
    }
    Ok(Outage::of(what, limit)?.unwrap_or_default())
}

fn check(rule: &Rule) -> Result<()> {
    // A socket of this machine has no host: nbds+unix:/// stands for all of them.
    let is_socket = |url: &Url| matches!(url.scheme(), "nbd+unix" | "nbds+unix");
    let name = Url::parse(&rule.prefix).ok();
    let Some(url) = name.filter(|url| url.has_host() || is_socket(url)) else {
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
    check_nbd(rule, &url)?;
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

/// NBD has certificates, and no other credentials.
fn check_nbd(rule: &Rule, url: &Url) -> Result<()> {
    let of = |text: &str| Err(Error::invalid_argument(format!("{}: {text}", rule.prefix)));
    let has_certificate = rule.client_cert.is_some() || rule.client_key.is_some();
    if !matches!(url.scheme(), "nbd" | "nbds" | "nbd+unix" | "nbds+unix") {
        if has_certificate {
            return of("client_cert and client_key are for nbds:// and nbds+unix://");
        }
        return Ok(());
    }
    let is_other = *rule
        != Rule {
            prefix: rule.prefix.clone(),
            ca_file: rule.ca_file.clone(),
            client_cert: rule.client_cert.clone(),
            client_key: rule.client_key.clone(),
            link_local: rule.link_local,
            ..Rule::default()
        };
    if is_other {
        return of("an NBD server has ca_file, client_cert, client_key and link_local");
    }
    if rule.client_cert.is_some() != rule.client_key.is_some() {
        return of("client_cert and client_key go together");
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
            "base_error = \"hunter2\"",
        ] {
            let error = Config::parse(text).err().expect(text);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn an_nbd_server_has_certificates_and_nothing_else() {
        for (text, why) in [
            (
                "prefix = \"nbds://h\"\nclient_cert = \"/c\"\nclient_key = \"/k\"\nca_file = \"/a\"",
                None,
            ),
            ("prefix = \"nbds+unix:///\"\nca_file = \"/a\"", None),
            ("prefix = \"nbd://h\"\nlink_local = true", None),
            ("prefix = \"nbds://h\"\nclient_cert = \"/c\"", Some("go together")),
            ("prefix = \"nbds://h\"\nregion = \"x\"", Some("has ca_file")),
            ("prefix = \"nbd://h\"\nheaders = { A = \"x\" }", Some("has ca_file")),
            ("prefix = \"https://h\"\nclient_key = \"/k\"", Some("are for nbds://")),
        ] {
            let error = Config::parse(&format!("[[remote]]\n{text}")).err();
            let shown = error.as_ref().map(ToString::to_string).unwrap_or_default();
            assert_eq!(error.is_some(), why.is_some(), "{text}: {shown}");
            assert!(shown.contains(why.unwrap_or_default()), "{text}: {shown}");
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
